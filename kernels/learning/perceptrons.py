"""Tanh perceptrons over a few hundred rows at a time, so that what lies between two matrix products
stays in the cache.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import filter_kernel, kernel, never_inline
from kernels.learning.action_masks import Masks
from kernels.learning.matrix_products import affine
from kernels.networks.forward import tanh_in_place

ROWS = 512  # at a time: their inputs, activations and gradients fit the cache of a core


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
    """An actor and a critic with their heads, or the gradients by them."""

    actor: Perceptron
    choice: Head
    """Logits of the actions."""
    critic: Perceptron
    worth: Head
    """The value."""


class Columns(NamedTuple):
    """Which of D inputs vary, and what the others are."""

    varying: np.ndarray
    """int64[k], ascending"""
    held: np.ndarray
    """float32[D]: the value of each other input; 0 for those that vary."""


class Folded(NamedTuple):
    """A perceptron whose first layer reads the varying inputs alone."""

    weights: np.ndarray
    """As `turned` returns them."""
    bias: np.ndarray
    """float32[F] of the first layer"""
    to_weight: np.ndarray
    """float32[F, k]: the gradient by the first layer's weight."""
    to_bias: np.ndarray


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


@filter_kernel
def turn(weight: np.ndarray, out: np.ndarray) -> None:
    """weight float32[F, k], transposed, into the flat out float32[k * F]."""
    never_inline()
    width = len(weight)
    for j in range(width):
        row = weight[j]
        for k in range(row.size):
            out[k * width + j] = row[k]


@filter_kernel
def turned(net: Perceptron, first: np.ndarray) -> np.ndarray:
    """The transposed weights of all layers, one behind the other; first float32[F, k] replaces
    those of the first layer."""
    never_inline()
    size = first.size
    for layer in range(1, len(net.biases)):
        size += net.weights[layer].size
    out = np.empty(size, np.float32)
    turn(first, out)
    at = first.size
    for layer in range(1, len(net.biases)):
        turn(net.weights[layer], out[at:])
        at += net.weights[layer].size
    return out


@filter_kernel
def forward(
    x: np.ndarray, weights: np.ndarray, start: np.ndarray, net: Perceptron, hidden: np.ndarray
) -> None:
    """Activations of each layer into hidden float32[L, ROWS * widest]; x float32[m, k].

    weights as `turned` returned them; start float32[F] replaces the bias of the first layer.
    """
    never_inline()
    below, at = x, 0
    for layer in range(len(net.biases)):
        bias = start if layer == 0 else net.biases[layer]
        out = matrix(hidden[layer], len(x), bias.size)
        affine(below, matrix(weights[at:], below.shape[1], bias.size), bias, out)
        tanh_in_place(out.reshape(-1))
        at += below.shape[1] * bias.size
        below = out


@filter_kernel
def weigh(hidden: np.ndarray, worth: Head, out: np.ndarray) -> None:
    """Values float32[m] of rows hidden float32[m, F]."""
    never_inline()
    weight = worth.weight[0]
    for i in range(len(hidden)):
        row = hidden[i]
        total = worth.bias[0]
        for j in range(row.size):
            total += row[j] * weight[j]
        out[i] = total


@filter_kernel
def fold(net: Perceptron, columns: Columns) -> Folded:
    """A perceptron without the inputs that are held; gradients are 0."""
    never_inline()
    weight = net.weights[0]
    own = np.empty((len(weight), columns.varying.size), np.float32)
    bias = net.biases[0].copy()
    for j in range(bias.size):
        for d in range(columns.held.size):
            bias[j] += weight[j, d] * columns.held[d]
        for k in range(columns.varying.size):
            own[j, k] = weight[j, columns.varying[k]]
    return Folded(turned(net, own), bias, np.zeros_like(own), np.zeros_like(bias))


@filter_kernel
def unfold(folded: Folded, columns: Columns, to_net: Perceptron) -> None:
    """Write the gradient of the first layer from that of the folded one."""
    never_inline()
    weight, bias = to_net.weights[0], to_net.biases[0]
    for j in range(bias.size):
        bias[j] = folded.to_bias[j]
        for d in range(columns.held.size):
            weight[j, d] = folded.to_bias[j] * columns.held[d]
        for k in range(columns.varying.size):
            weight[j, columns.varying[k]] = folded.to_weight[j, k]


@filter_kernel
def open_rows(head: Head, actions: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """The rows of a head that belong to some actions, int64[w]."""
    never_inline()
    for j in range(actions.size):
        copy(head.weight[actions[j]], weight[j])
        bias[j] = head.bias[actions[j]]


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
