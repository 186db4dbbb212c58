"""The frozen forward passes equal PyTorch and onnxruntime."""

from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from kernels.compile import lean_kernel
from kernels.networks.forward import (
    ACTIVATIONS,
    affine,
    lstm_parameters,
    lstm_step,
    masked_argmax,
    mlp_forward,
    mlp_forward_batch,
    mlp_parameters,
    mlp_size,
    sigmoid_value,
)
from kernels.networks.vectors import BLOCK

TORCH_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "linear": nn.Identity}


def perceptron(sizes: list[int], activation: str, seed: int) -> tuple[nn.Sequential, np.ndarray]:
    torch.manual_seed(seed)
    linears = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    modules: list[nn.Module] = []
    for layer in linears:
        modules += [layer, TORCH_ACTIVATIONS[activation]()]
    weights = [layer.weight.detach().numpy() * 3.0 for layer in linears]
    with torch.no_grad():
        for layer in linears:
            layer.weight *= 3.0  # far enough to bend the activations
    biases = [layer.bias.detach().numpy() for layer in linears]
    return nn.Sequential(*modules[:-1]), mlp_parameters(weights, biases)


@lean_kernel
def sigmoids(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(x.size):
        out[i] = sigmoid_value(x[i])


def guarded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An array that holds `values` between NaN, and the view of them."""
    room = np.full(values.size + 32, np.nan, np.float32)
    view = room[16:-16]
    view[:] = values.ravel()
    return room, view


def affine_in_order(x: np.ndarray, weight: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The sums of `affine`, one rounded operation after another."""
    whole = len(start) // BLOCK * BLOCK
    blocks, parts = start[:whole].copy(), np.zeros((4, len(start) - whole), np.float32)
    parts[0] = start[whole:]
    for i, xi in enumerate(x):
        blocks += xi * weight[i, :whole]
        parts[i % 4 if i < len(x) // 4 * 4 else 0] += xi * weight[i, whole:]
    return np.concatenate([blocks, (parts[0] + parts[1]) + (parts[2] + parts[3])])


@given(st.integers(0, 90), st.integers(1, 2 * BLOCK + 20), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_affine_to_the_bit_without_a_look_at_its_neighbours(
    inputs: int, outputs: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(0.0, 2.0, shape).astype(np.float32)  # noqa: E731
    x, weight, start = draw(inputs), draw(inputs, outputs), draw(outputs)
    room, out = guarded(np.zeros(outputs, np.float32))
    x_line, weight_line, line = (guarded(a)[1] for a in (x, weight, start))
    affine(x_line, weight_line, line, out)
    expected = affine_in_order(x, weight, start)
    assert out.tobytes() == expected.tobytes()
    assert np.isnan(room[:16]).all()
    assert np.isnan(room[-16:]).all()
    affine(x_line, weight_line, line, line)
    assert line.tobytes() == expected.tobytes()


def test_sigmoid_is_within_2e_7_and_keeps_what_is_not_a_number() -> None:
    x = np.linspace(-30.0, 30.0, 300_001).astype(np.float32)
    x[-3:] = np.inf, -np.inf, np.nan
    out = np.empty_like(x)
    sigmoids(x, out)
    with np.errstate(over="ignore"):
        expected = 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(out, expected, rtol=0.0, atol=2e-7)


@given(
    st.lists(st.integers(1, 70), min_size=2, max_size=5),
    st.sampled_from(sorted(TORCH_ACTIVATIONS)),
    st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_perceptron_of_any_depth_equals_torch(
    widths: list[int], activation: str, seed: int
) -> None:
    network, parameters = perceptron(widths, activation, seed)
    sizes = np.array(widths, np.int64)
    assert parameters.size == mlp_size(sizes)
    x = np.random.default_rng(seed).normal(0.0, 2.0, (8, widths[0])).astype(np.float32)
    out = np.empty((8, widths[-1]), np.float32)
    mlp_forward_batch(x, parameters, sizes, ACTIVATIONS[activation], out)
    expected = network(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    one = np.empty(widths[-1], np.float32)
    scratch = np.full(2 * max(widths), np.nan, np.float32)
    mlp_forward(x[3], parameters, sizes, ACTIVATIONS[activation], scratch, one)
    assert one.tobytes() == out[3].tobytes()


@pytest.mark.parametrize(("inputs", "hidden"), [(8, 16), (1, 1), (64, 64)])
def test_lstm_equals_torch_over_a_long_sequence(inputs: int, hidden: int) -> None:
    torch.manual_seed(1)
    lstm = nn.LSTM(inputs, hidden)
    a = {k: v.detach().numpy() for k, v in lstm.named_parameters()}
    bias = a["bias_ih_l0"] + a["bias_hh_l0"]
    parameters = lstm_parameters(a["weight_ih_l0"], a["weight_hh_l0"], bias)
    x = np.random.default_rng(0).normal(0.0, 2.0, (300, inputs)).astype(np.float32)
    h, c = np.zeros(hidden, np.float32), np.zeros(hidden, np.float32)
    out = np.empty((300, hidden), np.float32)
    scratch = np.empty(4 * hidden, np.float32)
    for t in range(300):
        lstm_step(x[t], parameters, h, c, scratch)
        out[t] = h
    expected, (_, cell) = lstm(torch.from_numpy(x))
    np.testing.assert_allclose(out, expected.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(c, cell[0].detach().numpy(), atol=1e-5)


def onnx_perceptron(weights: list[np.ndarray], biases: list[np.ndarray]) -> bytes:
    nodes, constants, value = [], [], "x"
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        constants += [numpy_helper.from_array(weight, f"w{k}")]
        constants += [numpy_helper.from_array(bias, f"b{k}")]
        last = k == len(weights) - 1
        nodes.append(
            helper.make_node(
                "Gemm", [value, f"w{k}", f"b{k}"], ["y" if last else f"z{k}"], transB=1
            )
        )
        if not last:
            nodes.append(helper.make_node("Tanh", [f"z{k}"], [f"a{k}"]))
            value = f"a{k}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", weights[0].shape[1]), ("y", weights[-1].shape[0]))
    ]
    graph = helper.make_graph(nodes, "perceptron", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()


def test_policy_sized_perceptron_equals_onnxruntime_on_ten_thousand_observations() -> None:
    rng = np.random.default_rng(2)
    widths = [60, 64, 64, 37]
    pairs = list(pairwise(widths))
    weights = [rng.normal(0.0, 1.2 / np.sqrt(a), (b, a)).astype(np.float32) for a, b in pairs]
    biases = [rng.normal(0.0, 0.2, b).astype(np.float32) for _, b in pairs]
    x = np.clip(rng.normal(0.0, 2.0, (10_000, 60)), -10, 10).astype(np.float32)
    session = onnxruntime.InferenceSession(
        onnx_perceptron(weights, biases), providers=["CPUExecutionProvider"]
    )
    expected = np.asarray(session.run(["y"], {"x": x})[0])
    out = np.empty_like(expected)
    parameters = mlp_parameters(weights, biases)
    mlp_forward_batch(x, parameters, np.array(widths, np.int64), ACTIVATIONS["tanh"], out)
    np.testing.assert_allclose(out, expected, atol=1e-5)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_masked_argmax_takes_the_lowest_of_the_greatest(entries: list[tuple[int, bool]]) -> None:
    logits = np.array([e[0] for e in entries], np.float32)
    mask = np.array([e[1] for e in entries])
    allowed = [i for i in range(len(entries)) if mask[i]]
    expected = max(allowed, key=lambda i: (logits[i], -i)) if allowed else -1
    assert masked_argmax(logits, mask) == expected


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not \[o, i\]"):
        mlp_parameters([np.zeros((3, 2))], [np.zeros(2)])
    with pytest.raises(ValueError, match="LSTM weights"):
        lstm_parameters(np.zeros((8, 3)), np.zeros((9, 2)), np.zeros(8))
