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


@kernel
def tanh_in_place(x: np.ndarray) -> None:
    """Replace each x float32[n] by its `tanh_value`.

    One array: a second one that overlaps would send every call through the loop that is not
    vectorised.
    """
    for i in range(x.size):
        x[i] = tanh_value(x[i])


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


@kernel
def mask_hashes(masks: np.ndarray, keys: np.ndarray, hashes: np.ndarray) -> None:
    """A 64-bit hash of each row of masks bool[n, A] into hashes uint64[n]: the same for equal rows.

    keys uint64[A] random: the sum over allowed actions, which vectorises (after Zobrist 1970).
    """
    for i in range(masks.shape[0]):
        row = masks[i]
        h = np.uint64(0)
        for j in range(row.size):
            h += keys[j] * np.uint64(row[j])
        hashes[i] = h


@kernel
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
    after[:] = state
    lstm_step(x, parameters[:lstm], after[0], after[1], scratch)
    mlp_forward(after[0], parameters[lstm:], sizes, TANH, scratch, out)


@kernel
def policy_forward_batch(
    x: np.ndarray, parameters: np.ndarray, sizes: np.ndarray, state: np.ndarray, out: np.ndarray
) -> None:
    """`policy_forward` for each row of x float32[n, D]; state float32[n, 2, units] is replaced."""
    units = state.shape[2]
    scratch = np.empty(max(4 * units, 2 * sizes.max()), np.float32)
    after = np.empty((2, units), np.float32)
    for i in range(x.shape[0]):
        policy_forward(x[i], parameters, sizes, state[i], after, scratch, out[i])
        state[i] = after
