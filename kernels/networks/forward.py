"""Frozen networks in float32: multilayer perceptron and LSTM step over flat weight arrays.

Weights are stored input-major, so that vectors run over outputs. Perceptrons that learn in
`kernels.learning` have the same tanh. Equations: Hochreiter and Schmidhuber (1997) with the forget
gate of Gers et al. (2000), gate order input, forget, cell, output as in PyTorch.
"""

from itertools import pairwise

import numpy as np

from kernels.compile import inline, kernel, lean_kernel, never_inline
from kernels.networks.vectors import (
    BLOCK,
    PART,
    add,
    add_product,
    load_block,
    load_part,
    no_part,
    store_block,
    store_part,
)

UNKNOWN_INPUT = -2
LINEAR, TANH, RELU, SILU = 0, 1, 2, 3
_TANH_EDGE = 7.90531110763549805  # beyond it tanh is 1 in float32
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


@lean_kernel
def affine(x: np.ndarray, weight: np.ndarray, start: np.ndarray, out: np.ndarray) -> None:
    """out = start + x W with W flat [x.size, out.size]; `start` may be `out`, x may not.

    All float32 and contiguous. Blocks of outputs add their inputs up in order. The outputs left
    over take every fourth input into one of four sums: a single one would wait for each addition.
    """
    never_inline()
    n_in, n_out = x.size, out.size
    whole = n_out // BLOCK * BLOCK
    for j in range(0, whole, BLOCK):
        sums = load_block(start, j)
        for i in range(n_in):
            sums = add_product(sums, load_block(weight, i * n_out + j), x[i])
        store_block(out, j, sums)
    fours = n_in // 4 * 4
    for j in range(whole, n_out, PART):
        left = n_out - j
        a, b, c, d = load_part(start, j, left), no_part(), no_part(), no_part()
        for i in range(0, fours, 4):
            at = i * n_out + j
            a = add_product(a, load_part(weight, at, left), x[i])
            b = add_product(b, load_part(weight, at + n_out, left), x[i + 1])
            c = add_product(c, load_part(weight, at + 2 * n_out, left), x[i + 2])
            d = add_product(d, load_part(weight, at + 3 * n_out, left), x[i + 3])
        for i in range(fours, n_in):
            a = add_product(a, load_part(weight, i * n_out + j, left), x[i])
        store_part(out, j, left, add(add(a, b), add(c, d)))


@inline
def tanh_value(x: np.float32) -> np.float32:
    """tanh within 3e-7, in a form that vectorises, unlike libm's.

    Minimax quotient of polynomials of degree 13 and 6 on [-7.9, 7.9], as used by Eigen.
    """
    v = min(max(x, np.float32(-_TANH_EDGE)), np.float32(_TANH_EDGE))
    s = v * v
    p = np.float32(-2.76076847742355e-16)
    p = s * p + np.float32(2.00018790482477e-13)
    p = s * p + np.float32(-8.60467152213735e-11)
    p = s * p + np.float32(5.12229709037114e-08)
    p = s * p + np.float32(1.48572235717979e-05)
    p = s * p + np.float32(6.37261928875436e-04)
    p = s * p + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = s * q + np.float32(1.18534705686654e-04)
    q = s * q + np.float32(2.26843463243900e-03)
    q = s * q + np.float32(4.89352518554385e-03)
    return v * p / q


@inline
def sigmoid_value(x: np.float32) -> np.float32:
    """1 / (1 + exp(-x)) within 2e-7, by `tanh_value`."""
    half = np.float32(0.5)
    return half + half * tanh_value(half * x)


@lean_kernel
def tanh_in_place(x: np.ndarray) -> None:
    """Replace each x float32[n] by its `tanh_value`.

    One array: a second one that overlaps would send every call through the loop that is not
    vectorised.
    """
    for i in range(x.size):
        x[i] = tanh_value(x[i])


@inline
def _sigmoid_in_place(x: np.ndarray) -> None:
    for i in range(x.size):
        x[i] = sigmoid_value(x[i])


@inline
def gates_in_place(z: np.ndarray, units: int) -> None:
    """Activate the gates z float32[4 * units] of an LSTM: input, forget, cell, output."""
    _sigmoid_in_place(z[: 2 * units])
    tanh_in_place(z[2 * units : 3 * units])
    _sigmoid_in_place(z[3 * units :])


@inline
def _activate(values: np.ndarray, activation: int) -> None:
    if activation == TANH:
        tanh_in_place(values)
    elif activation == RELU:
        for j in range(values.size):
            values[j] = max(values[j], np.float32(0.0))
    elif activation == SILU:
        for j in range(values.size):
            values[j] *= sigmoid_value(values[j])


@lean_kernel
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
            affine(source, weight, bias, out)
            return
        half = (layer % 2) * widest
        target = scratch[half : half + n_out]
        affine(source, weight, bias, target)
        _activate(target, activation)
        source = target


@kernel
def mlp_forward_batch(
    x: np.ndarray, parameters: np.ndarray, sizes: np.ndarray, activation: int, out: np.ndarray
) -> None:
    """`mlp_forward` for each row of x float32[n, sizes[0]] into out float32[n, sizes[-1]]."""
    scratch = np.empty(2 * sizes.max(), np.float32)
    for i in range(x.shape[0]):
        mlp_forward(x[i], parameters, sizes, activation, scratch, out[i])


@lean_kernel
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
    affine(x, parameters[: n_in * gates], bias, z)
    affine(h, weight_hidden, z, z)
    gates_in_place(z, n)
    for j in range(n):
        c[j] = z[n + j] * c[j] + z[j] * z[2 * n + j]
    bent = z[:n]
    for j in range(n):
        bent[j] = c[j]
    tanh_in_place(bent)
    for j in range(n):
        h[j] = z[3 * n + j] * bent[j]


@lean_kernel
def masked_argmax(logits: np.ndarray, mask: np.ndarray) -> int:
    """Index of the greatest logit among those allowed, the lowest index on a tie, -1 if none is."""
    best = -1
    for i in range(logits.size):
        if mask[i] and (best < 0 or logits[i] > logits[best]):
            best = i
    return best


@lean_kernel
def policy_forward(
    x: np.ndarray,
    parameters: np.ndarray,
    sizes: np.ndarray,
    state: np.ndarray,
    after: np.ndarray,
    scratch: np.ndarray,
    out: np.ndarray,
) -> None:
    """A tanh perceptron behind an LSTM; with 0 units the perceptron reads the observation itself.

    x float32[D]; parameters float32: `lstm_parameters`, then `mlp_parameters`; sizes as for
    `mlp_forward`; state float32[2, units] (h, c) is read and `after` of the same shape written;
    scratch float32[at least max(4 * units, 2 * max(sizes))]; out float32[sizes[-1]].
    """
    units = state.shape[1]
    if units == 0:
        mlp_forward(x, parameters, sizes, TANH, scratch, out)
        return
    lstm = (x.size + units + 1) * 4 * units
    for i in range(2):
        for j in range(units):
            after[i, j] = state[i, j]
    lstm_step(x, parameters[:lstm], after[0], after[1], scratch)
    mlp_forward(after[0], parameters[lstm:], sizes, TANH, scratch, out)


@inline
def is_finite(x: np.ndarray) -> bool:
    """Whether every number of x float32[n] is known; a form that vectorises."""
    unknown = 0
    for i in range(x.size):
        unknown |= not abs(x[i]) < np.inf
    return unknown == 0


@lean_kernel
def policy_choice(
    x: np.ndarray,
    parameters: np.ndarray,
    sizes: np.ndarray,
    state: np.ndarray,
    after: np.ndarray,
    scratch: np.ndarray,
    out: np.ndarray,
    mask: np.ndarray,
) -> int:
    """`policy_forward`, then `masked_argmax` under mask bool[sizes[-1]].

    UNKNOWN_INPUT (-2), nothing written, when a number of x is NaN or infinite, or when x or mask
    have another width than the network.
    """
    units, perceptron = state.shape[1], 0
    for layer in range(sizes.size - 1):
        perceptron += (sizes[layer] + 1) * sizes[layer + 1]
    lstm = parameters.size - perceptron
    width = sizes[0] if units == 0 else lstm // (4 * units) - units - 1
    if x.size != width or mask.size != out.size or not is_finite(x):
        return UNKNOWN_INPUT
    policy_forward(x, parameters, sizes, state, after, scratch, out)
    return masked_argmax(out, mask)


@kernel
def policy_forward_batch(
    x: np.ndarray, parameters: np.ndarray, sizes: np.ndarray, state: np.ndarray, out: np.ndarray
) -> int:
    """`policy_forward` for each row of x float32[n, D]; state float32[n, 2, units] is replaced.

    The number of rows done: less than n, with nothing written, when a number of that row is NaN or
    infinite.
    """
    for i in range(x.shape[0]):
        if not is_finite(x[i]):
            return i
    units = state.shape[2]
    scratch = np.empty(max(4 * units, 2 * sizes.max()), np.float32)
    after = np.empty((2, units), np.float32)
    for i in range(x.shape[0]):
        policy_forward(x[i], parameters, sizes, state[i], after, scratch, out[i])
        for part in range(2):  # `state[i] = after` takes nine seconds to compile
            for unit in range(units):
                state[i, part, unit] = after[part, unit]
    return x.shape[0]
