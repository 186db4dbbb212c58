"""Frozen networks in float32: multilayer perceptron and LSTM step over flat weight arrays.

Weights are stored input-major, so that the inner loop runs over outputs and vectorises without
reordering sums. Equations: Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al.
(2000), gate order input, forget, cell, output as in PyTorch.
"""

import math
from itertools import pairwise

import numpy as np

from kernels.compile import inline, kernel

LINEAR, TANH, RELU, SILU = 0, 1, 2, 3
ACTIVATIONS = {"linear": LINEAR, "tanh": TANH, "relu": RELU, "silu": SILU}


def mlp_parameters(weights: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
    """Flatten layers given as PyTorch keeps them (weight [out, in], bias [out]) for `mlp_forward`.

    Layout: for each layer the transposed weight [in, out], then the bias; float32.
    """
    parts: list[np.ndarray] = []
    for weight, bias in zip(weights, biases, strict=True):
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"layer with weight {weight.shape} and bias {bias.shape}: not [o, i], [o]"
            )
        parts += [np.ascontiguousarray(weight.T).ravel(), bias.ravel()]
    return np.concatenate(parts).astype(np.float32)


def lstm_parameters(
    weight_input: np.ndarray, weight_hidden: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Flatten an LSTM cell for `lstm_step`: [4h, in], [4h, h] and the sum of both biases [4h]."""
    hidden = weight_hidden.shape[1]
    if weight_input.shape[0] != 4 * hidden or weight_hidden.shape[0] != 4 * hidden:
        raise ValueError(f"LSTM weights {weight_input.shape}, {weight_hidden.shape}: not [4h, .]")
    parts = [np.ascontiguousarray(weight_input.T).ravel()]
    parts += [np.ascontiguousarray(weight_hidden.T).ravel(), bias.ravel()]
    return np.concatenate(parts).astype(np.float32)


def mlp_size(sizes: np.ndarray) -> int:
    """Number of parameters of a perceptron with layer widths `sizes` (input first)."""
    return int(sum((int(a) + 1) * int(b) for a, b in pairwise(sizes)))


@inline
def _affine(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, n_in: int, n_out: int, out: np.ndarray
) -> None:
    """out = bias + x W with W flat [n_in, n_out]."""
    for j in range(n_out):
        out[j] = bias[j]
    for i in range(n_in):
        xi = x[i]
        row = weight[i * n_out : (i + 1) * n_out]
        for j in range(n_out):
            out[j] += xi * row[j]


@inline
def _sigmoid(x: np.float32) -> np.float32:
    return np.float32(1.0) / (np.float32(1.0) + np.float32(math.exp(-x)))


@inline
def _activate(values: np.ndarray, n: int, activation: int) -> None:
    if activation == TANH:
        for j in range(n):
            values[j] = math.tanh(values[j])
    elif activation == RELU:
        for j in range(n):
            values[j] = max(values[j], np.float32(0.0))
    elif activation == SILU:
        for j in range(n):
            values[j] *= _sigmoid(values[j])


@kernel
def mlp_forward(
    x: np.ndarray,
    parameters: np.ndarray,
    sizes: np.ndarray,
    activation: int,
    scratch: np.ndarray,
    out: np.ndarray,
) -> None:
    """Perceptron with any number of layers; `activation` between layers, the last one is linear.

    x float32[sizes[0]], parameters float32[mlp_size(sizes)], sizes int64, scratch float32[at least
    2 * max(sizes)], out float32[sizes[-1]].
    """
    layers = sizes.size - 1
    widest = scratch.size // 2
    source = x
    at = 0
    for layer in range(layers):
        n_in = sizes[layer]
        n_out = sizes[layer + 1]
        weight = parameters[at : at + n_in * n_out]
        bias = parameters[at + n_in * n_out : at + (n_in + 1) * n_out]
        at += (n_in + 1) * n_out
        if layer == layers - 1:
            _affine(source, weight, bias, n_in, n_out, out)
            return
        half = (layer % 2) * widest
        target = scratch[half : half + n_out]
        _affine(source, weight, bias, n_in, n_out, target)
        _activate(target, n_out, activation)
        source = target


@kernel
def mlp_forward_batch(
    x: np.ndarray, parameters: np.ndarray, sizes: np.ndarray, activation: int, out: np.ndarray
) -> None:
    """`mlp_forward` for each row of x float32[n, sizes[0]] into out float32[n, sizes[-1]]."""
    scratch = np.empty(2 * sizes.max(), np.float32)
    for i in range(x.shape[0]):
        mlp_forward(x[i], parameters, sizes, activation, scratch, out[i])


@kernel
def lstm_step(
    x: np.ndarray, parameters: np.ndarray, h: np.ndarray, c: np.ndarray, scratch: np.ndarray
) -> None:
    """One step of an LSTM cell: h and c (float32[hidden]) are replaced.

    x float32[inputs], parameters from `lstm_parameters`, scratch float32[at least 4 * hidden].
    """
    n_in = x.size
    n = h.size
    gates = 4 * n
    weight_hidden = parameters[n_in * gates : (n_in + n) * gates]
    bias = parameters[(n_in + n) * gates : (n_in + n + 1) * gates]
    z = scratch[:gates]
    _affine(x, parameters[: n_in * gates], bias, n_in, gates, z)
    for i in range(n):
        hi = h[i]
        row = weight_hidden[i * gates : (i + 1) * gates]
        for j in range(gates):
            z[j] += hi * row[j]
    for j in range(n):
        c[j] = _sigmoid(z[n + j]) * c[j] + _sigmoid(z[j]) * np.float32(math.tanh(z[2 * n + j]))
        h[j] = _sigmoid(z[3 * n + j]) * np.float32(math.tanh(c[j]))


@kernel
def masked_argmax(logits: np.ndarray, mask: np.ndarray) -> int:
    """Index of the greatest logit among those allowed, the lowest index on a tie, -1 if none is."""
    best = -1
    for i in range(logits.size):
        if mask[i] and (best < 0 or logits[i] > logits[best]):
            best = i
    return best
