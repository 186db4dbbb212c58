"""Tanh perceptrons over a few hundred rows at a time, so that what lies between two matrix products
stays in the cache.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import filter_kernel, kernel, never_inline
from kernels.networks.forward import tanh_in_place

ROWS = 512  # at a time: their inputs, activations and gradients fit the cache of a core
_BLOCK = 64  # rows that are added up in float32 before they join a sum in float64


class Perceptron(NamedTuple):
    """Hidden layers of at least one, each followed by tanh; or the gradients by them."""

    weights: tuple[np.ndarray, ...]
    """float32[out, in] each"""
    biases: tuple[np.ndarray, ...]
    """float32[out] each"""


class Head(NamedTuple):
    """A linear layer behind a perceptron, or the gradients by it."""

    weight: np.ndarray
    """float32[out, in]"""
    bias: np.ndarray
    """float32[out]"""


class Networks(NamedTuple):
    """Policy and value with their heads, or the gradients by them."""

    policy: Perceptron
    policy_head: Head
    """Logits of the actions."""
    value: Perceptron
    value_head: Head


class Columns(NamedTuple):
    """Which of D inputs vary, and what the others are."""

    varying: np.ndarray
    """int64[k], ascending"""
    held: np.ndarray
    """float32[D]: the value of each other input; 0 for those that vary."""


class Narrowed(NamedTuple):
    """A perceptron whose first layer reads the varying inputs alone."""

    transposed: np.ndarray
    """As `transposed_weights` returns them."""
    bias: np.ndarray
    """float32[F] of the first layer"""
    to_weight: np.ndarray
    """float32[F, k]: the gradient by the first layer's weight."""
    to_bias: np.ndarray


class Activations(NamedTuple):
    """Memory for the rows of one perceptron, forward and backward."""

    hidden: np.ndarray
    """float32[L, ROWS * widest]: after each layer."""
    upper: np.ndarray
    """float32[ROWS * widest]: the gradient by the last activations, then by those below."""
    lower: np.ndarray
    """float32[ROWS * widest]: scratch."""
    zeros: np.ndarray
    """float32[widest]"""


@filter_kernel
def copy(source: np.ndarray, target: np.ndarray) -> None:
    """target = source of two flat arrays; Numba's assignment takes three times as long."""
    never_inline()
    for j in range(target.size):
        target[j] = source[j]


@filter_kernel
def add(total: np.ndarray, part: np.ndarray) -> None:
    """total += part of two flat arrays."""
    never_inline()
    for j in range(total.size):
        total[j] += part[j]


@kernel
def matrix(memory: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The beginning of flat memory as an array [rows, columns]."""
    never_inline()  # LLVM spends seconds on a copy of it at every use
    return memory[: rows * columns].reshape(rows, columns)


@kernel
def affine(x: np.ndarray, w: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """out float32[m, n] = x float32[m, k] @ w float32[k, n] + bias float32[n]."""
    never_inline()
    if x.shape[1] > 0:  # a BLAS leaves products of no factors as they were
        np.dot(x, w, out)
    else:
        out[:] = np.float32(0.0)
    for i in range(len(out)):
        row = out[i]
        for j in range(row.size):
            row[j] += bias[j]


@kernel
def add_transposed_product(g: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out float32[f, k] += g.T @ x of g float32[m, f] and x float32[m, k]."""
    never_inline()
    if out.size > 0 and len(x) > 0:
        product = np.dot(g.T, x)
        for i in range(len(out)):
            row, part = out[i], product[i]
            for j in range(row.size):
                row[j] += part[j]


@filter_kernel
def widest_layer(net: Perceptron) -> int:
    """Units of the widest layer."""
    never_inline()
    widest = 0
    for layer in range(len(net.biases)):
        widest = max(widest, net.biases[layer].size)
    return widest


@filter_kernel
def new_activations(net: Perceptron, least: int) -> Activations:
    """Memory for a perceptron, for rows of at least `least` columns."""
    never_inline()
    widest = max(widest_layer(net), least)
    return Activations(
        np.empty((len(net.biases), ROWS * widest), np.float32),
        np.empty(ROWS * widest, np.float32),
        np.empty(ROWS * widest, np.float32),
        np.zeros(widest, np.float32),
    )


@filter_kernel
def last_hidden(net: Perceptron, memory: Activations, rows: int) -> np.ndarray:
    """Activations of the last layer float32[rows, F], as `forward` left them."""
    never_inline()
    last = len(net.biases) - 1
    return matrix(memory.hidden[last], rows, net.biases[last].size)


@filter_kernel
def transpose(weight: np.ndarray, out: np.ndarray) -> None:
    """weight float32[F, k], transposed, into the flat out float32[k * F]."""
    never_inline()
    width = len(weight)
    for j in range(width):
        row = weight[j]
        for k in range(row.size):
            out[k * width + j] = row[k]


@filter_kernel
def transposed_weights(net: Perceptron, first: np.ndarray) -> np.ndarray:
    """The transposed weights of all layers, one behind the other; first float32[F, k] replaces
    those of the first layer."""
    never_inline()
    size = first.size
    for layer in range(1, len(net.biases)):
        size += net.weights[layer].size
    out = np.empty(size, np.float32)
    transpose(first, out)
    at = first.size
    for layer in range(1, len(net.biases)):
        transpose(net.weights[layer], out[at:])
        at += net.weights[layer].size
    return out


@filter_kernel
def first_columns(net: Perceptron, columns: np.ndarray) -> np.ndarray:
    """The weights float32[F, k] of the first layer for the inputs int64[k]."""
    never_inline()
    weight = net.weights[0]
    out = np.empty((len(weight), columns.size), np.float32)
    for j in range(len(out)):
        for k in range(columns.size):
            out[j, k] = weight[j, columns[k]]
    return out


@filter_kernel
def forward(x: np.ndarray, net: Perceptron, narrowed: Narrowed, memory: Activations) -> None:
    """Activations of each layer into memory.hidden; x float32[m, k] holds the varying inputs."""
    never_inline()
    below, at = x, 0
    for layer in range(len(net.biases)):
        bias = narrowed.bias if layer == 0 else net.biases[layer]
        out = matrix(memory.hidden[layer], len(x), bias.size)
        affine(below, matrix(narrowed.transposed[at:], below.shape[1], bias.size), bias, out)
        tanh_in_place(out.reshape(-1))
        at += below.shape[1] * bias.size
        below = out


@kernel
def tanh_backward(
    gradient: np.ndarray, hidden: np.ndarray, out: np.ndarray, bias: np.ndarray
) -> None:
    """out = gradient * (1 - hidden^2), all float32[n, F]; bias float32[F] += its column sums."""
    never_inline()
    rows, width = hidden.shape
    part = np.empty(width, np.float32)
    total = np.zeros(width, np.float64)
    for begin in range(0, rows, _BLOCK):
        part[:] = 0.0
        for i in range(begin, min(begin + _BLOCK, rows)):
            g, h, o = gradient[i], hidden[i], out[i]
            for j in range(width):
                y = g[j] * (np.float32(1.0) - h[j] * h[j])
                o[j] = y
                part[j] += y
        for j in range(width):
            total[j] += part[j]
    for j in range(width):
        bias[j] += total[j]


@filter_kernel
def backward(
    x: np.ndarray, net: Perceptron, narrowed: Narrowed, memory: Activations, to_net: Perceptron
) -> None:
    """Add the gradients of the layers; memory.upper holds the gradient by the last activations, and
    memory.hidden is as `forward` left it."""
    never_inline()
    m, upper = len(x), memory.upper
    for layer in range(len(net.biases) - 1, -1, -1):
        width = net.biases[layer].size
        gradient, hidden = matrix(memory.lower, m, width), matrix(memory.hidden[layer], m, width)
        to_bias = narrowed.to_bias if layer == 0 else to_net.biases[layer]
        tanh_backward(matrix(upper, m, width), hidden, gradient, to_bias)
        if layer == 0:
            add_transposed_product(gradient, x, narrowed.to_weight)
        else:
            weight = net.weights[layer]
            below = matrix(memory.hidden[layer - 1], m, weight.shape[1])
            add_transposed_product(gradient, below, to_net.weights[layer])
            affine(gradient, weight, memory.zeros, matrix(upper, m, weight.shape[1]))


@filter_kernel
def values_of(hidden: np.ndarray, head: Head, out: np.ndarray) -> None:
    """Values float32[m] of rows hidden float32[m, F]."""
    never_inline()
    weight = head.weight[0]
    for i in range(len(hidden)):
        row = hidden[i]
        total = head.bias[0]
        for j in range(row.size):
            total += row[j] * weight[j]
        out[i] = total


@filter_kernel
def narrow(net: Perceptron, columns: Columns) -> Narrowed:
    """A perceptron without the inputs that are held; gradients are 0."""
    never_inline()
    weight, bias = net.weights[0], net.biases[0].copy()
    for j in range(bias.size):
        for d in range(columns.held.size):
            bias[j] += weight[j, d] * columns.held[d]
    first = first_columns(net, columns.varying)
    to_weight, to_bias = np.zeros_like(first), np.zeros_like(bias)
    return Narrowed(transposed_weights(net, first), bias, to_weight, to_bias)


@filter_kernel
def widen(narrowed: Narrowed, columns: Columns, to_net: Perceptron) -> None:
    """Write the gradient of the first layer from that of the narrowed one."""
    never_inline()
    weight, bias = to_net.weights[0], to_net.biases[0]
    for j in range(bias.size):
        bias[j] = narrowed.to_bias[j]
        for d in range(columns.held.size):
            weight[j, d] = narrowed.to_bias[j] * columns.held[d]
        for k in range(columns.varying.size):
            weight[j, columns.varying[k]] = narrowed.to_weight[j, k]


@filter_kernel
def gather_head(head: Head, actions: np.ndarray, out: Head) -> None:
    """The rows of a head that belong to some actions, int64[w], into the first w of `out`."""
    never_inline()
    for j in range(actions.size):
        copy(head.weight[actions[j]], out.weight[j])
        out.bias[j] = head.bias[actions[j]]


@filter_kernel
def sorted_by_pattern(patterns: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """`rows` with the same patterns together, in order of the patterns."""
    never_inline()
    begins = np.zeros(count + 1, np.int64)
    for i in range(rows.size):
        begins[patterns[rows[i]] + 1] += 1
    for p in range(count):
        begins[p + 1] += begins[p]
    found = np.empty_like(rows)
    for i in range(rows.size):
        p = patterns[rows[i]]
        found[begins[p]] = rows[i]
        begins[p] += 1
    return found
