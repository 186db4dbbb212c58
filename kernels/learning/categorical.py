"""Masked categorical distributions of some rows of one group of masks: probabilities, gradients,
draws.

Logits float32[m, w] are those of the group's columns. Everything between two matrix products is one
pass over memory. Exponentials follow Cephes' expf and are within 2e-7 of the exact ones, 0 below
exp(-87).
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.compile import filter_kernel, inline, never_inline
from kernels.learning.loss import Predicted

_LOG2E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4


class Rows(NamedTuple):
    """Which mask and which action rows have."""

    patterns: np.ndarray
    """int64[m]"""
    actions: np.ndarray
    """int64[m], each open to its row; written by `categorical_sample`."""


class Group(NamedTuple):
    """What `kernels.learning.action_masks.group_masks` says of a group of masks."""

    columns: np.ndarray
    """int64[w]: the actions that are computed."""
    places: np.ndarray
    """int64[A]: the place of an action among them."""
    closed: np.ndarray
    """float32[P, W] of all patterns: 0 where a column is open, else CLOSED."""


@inline
def _exponentials(
    x: np.ndarray, highest: np.float32, out: np.ndarray, bits: np.ndarray, scale: np.ndarray
) -> None:
    """out = exp(x - highest) for x up to `highest`.

    Scratch: bits int32 of at least that size, and `scale`, the same memory read as float32.
    """
    for j in range(x.size):
        z = max(x[j] - highest, np.float32(-87.0))
        power = np.int32(z * np.float32(_LOG2E) - np.float32(0.5))
        whole = np.float32(power)
        r = z - whole * np.float32(_LN2_HIGH) - whole * np.float32(_LN2_LOW)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        p = p * r * r + r + np.float32(1.0)
        out[j] = p if z > np.float32(-87.0) else np.float32(0.0)
        bits[j] = (power + np.int32(127)) << np.int32(23)
    for j in range(x.size):
        out[j] *= scale[j]


@inline
def _close(x: np.ndarray, closed: np.ndarray) -> np.float32:
    """Close what is masked in the logits x; the highest of them."""
    top = x[0] + closed[0]
    for j in range(x.size):
        y = x[j] + closed[j]
        x[j] = y
        top = y if y > top else top
    return top


@filter_kernel
def categorical_forward(
    logits: np.ndarray, rows: Rows, group: Group, p: np.ndarray, predicted: Predicted
) -> None:
    """Probabilities p float32[m, w], and log p and entropies of the rows; the logits are closed
    where they are masked."""
    never_inline()
    width = logits.shape[1]
    bits = np.empty(width, np.int32)
    scale = bits.view(np.float32)
    for i in range(len(logits)):
        x, q = logits[i], p[i]
        top = _close(x, group.closed[rows.patterns[i], :width])
        _exponentials(x, top, q, bits, scale)
        total = np.float32(0.0)
        for j in range(width):
            total += q[j]
        share = np.float32(1.0) / total
        level = top + np.float32(math.log(total))
        spread = np.float32(0.0)
        for j in range(width):
            q[j] *= share
            spread -= q[j] * (x[j] - level)
        predicted.log_p[i] = x[group.places[rows.actions[i]]] - level
        predicted.entropy[i] = spread


@filter_kernel
def categorical_backward(
    logits: np.ndarray,
    p: np.ndarray,
    rows: Rows,
    group: Group,
    predicted: Predicted,
    gradients: Predicted,
    out: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Gradient float32[m, w] by the logits from those by log p and entropy; its sums over rows are
    added to `sums` float32[w]. The other arguments as `categorical_forward` took and left them."""
    never_inline()
    width = logits.shape[1]
    for i in range(len(logits)):
        x, q, g = logits[i], p[i], out[i]
        taken = group.places[rows.actions[i]]
        by_entropy, by_log_p = gradients.entropy[i], gradients.log_p[i]
        lift = predicted.entropy[i] - (x[taken] - predicted.log_p[i])
        for j in range(width):
            g[j] = -q[j] * (by_log_p + by_entropy * (x[j] + lift))
        g[taken] += by_log_p
        for j in range(width):
            sums[j] += g[j]


@filter_kernel
def categorical_sample(
    logits: np.ndarray, rows: Rows, group: Group, uniforms: np.ndarray, log_p: np.ndarray
) -> None:
    """Draw the actions of the rows with their log p float32[m], by uniforms float32[m] of [0, 1).

    Inverse distribution function; an action of probability 0 is never drawn. A negative uniform
    takes the likeliest action, the lowest on a tie.
    """
    never_inline()
    width = logits.shape[1]
    bits = np.empty(width, np.int32)
    scale = bits.view(np.float32)
    q = np.empty(width, np.float32)
    for i in range(len(logits)):
        x = logits[i]
        top = _close(x, group.closed[rows.patterns[i], :width])
        _exponentials(x, top, q, bits, scale)
        total = np.float32(0.0)
        for j in range(width):
            total += q[j]
        taken = -1
        if uniforms[i] < 0.0:
            taken = 0
            while x[taken] < top:
                taken += 1
        else:
            threshold = uniforms[i] * total
            below = np.float32(0.0)
            for j in range(width):
                below += q[j]
                if q[j] > 0.0:
                    taken = j
                    if below > threshold:
                        break
        rows.actions[i] = group.columns[taken]
        log_p[i] = x[taken] - top - np.float32(math.log(total))
