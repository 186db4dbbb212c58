"""The gradient of PPO's loss on one minibatch, for an actor and a critic that are tanh perceptrons.

Forward and backward in one pass over some rows at a time: nothing but parameters and their
gradients leaves the cache. Schulman et al. (2017).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from kernels.compile import filter_kernel, never_inline
from kernels.network_training import (
    categorical_backward,
    categorical_forward,
    ppo_loss,
    tanh_backward,
)
from kernels.perceptrons import (
    ROWS,
    Masks,
    Networks,
    Perceptron,
    add,
    copy,
    forward,
    matrix,
    open_rows,
    sorted_by_pattern,
)


class Samples(NamedTuple):
    """A rollout of R states; all but `inputs` are [R]."""

    inputs: np.ndarray
    """float32[R, k]: the columns of the observations that vary."""
    actions: np.ndarray
    old_values: np.ndarray
    old_log_p: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray
    patterns: np.ndarray
    """int64[R]: which pattern of open actions each state has."""


class Columns(NamedTuple):
    """Which of D inputs vary, and what the others are."""

    varying: np.ndarray
    """int64[k], ascending"""
    held: np.ndarray
    """float32[D]: the value of each other input; 0 for those that vary."""


@filter_kernel
def _backward(
    x: np.ndarray,
    net: Perceptron,
    hidden: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    to_first: np.ndarray,
    to_start: np.ndarray,
    to_net: Perceptron,
    scratch: np.ndarray,
) -> None:
    """Add the gradients of the layers; hidden as `forward` left it.

    upper float32[ROWS * widest]: the gradient by the last activations; lower: scratch of that size.
    """
    never_inline()
    m = x.shape[0]
    for layer in range(len(net.biases) - 1, -1, -1):
        width = net.biases[layer].size
        out = matrix(hidden[layer], m, width)
        gradient = matrix(lower, m, width)
        bias = scratch[:width]
        tanh_backward(matrix(upper, m, width), out, gradient, bias)
        add(to_start if layer == 0 else to_net.biases[layer], bias)
        if layer == 0:
            part = matrix(scratch, width, x.shape[1])
            np.dot(gradient.T, x, part)
            add(to_first.reshape(-1), part.reshape(-1))
        else:
            weight = net.weights[layer]
            before = weight.shape[1]
            below = matrix(hidden[layer - 1], m, before)
            part = matrix(scratch, width, before)
            np.dot(gradient.T, below, part)
            add(to_net.weights[layer].reshape(-1), part.reshape(-1))
            np.dot(gradient, weight, matrix(upper, m, before))


@filter_kernel
def _fold(net: Perceptron, columns: Columns, first: np.ndarray, start: np.ndarray) -> None:
    """The first layer for the varying inputs alone: weight float32[F, k], bias float32[F]."""
    never_inline()
    weight = net.weights[0]
    for j in range(start.size):
        total = net.biases[0][j]
        for d in range(columns.held.size):
            total += weight[j, d] * columns.held[d]
        start[j] = total
        for k in range(columns.varying.size):
            first[j, k] = weight[j, columns.varying[k]]


@filter_kernel
def _unfold(
    to_first: np.ndarray, to_start: np.ndarray, columns: Columns, to_net: Perceptron
) -> None:
    """The gradient of the first layer from that of the folded one."""
    never_inline()
    weight, bias = to_net.weights[0], to_net.biases[0]
    for j in range(bias.size):
        bias[j] = to_start[j]
        for d in range(columns.held.size):
            weight[j, d] = to_start[j] * columns.held[d]
        for k in range(columns.varying.size):
            weight[j, columns.varying[k]] = to_first[j, k]


@filter_kernel
def _moments(advantages: Any, rows: np.ndarray) -> tuple[float, float]:
    """Mean and sample standard deviation of the advantages of some rows."""
    never_inline()
    total = 0.0
    for i in range(rows.size):
        total += advantages[rows[i]]
    mean = total / rows.size
    square = 0.0
    for i in range(rows.size):
        square += (advantages[rows[i]] - mean) ** 2
    return mean, math.sqrt(square / (rows.size - 1))


@filter_kernel
def policy_gradient(
    samples: Samples,
    masks: Masks,
    columns: Columns,
    rows: np.ndarray,
    normalise: bool,
    weights: np.ndarray,
    networks: Networks,
    gradients: Networks,
    terms: np.ndarray,
) -> None:
    """Write the gradient of the loss on rows int64[n] of a rollout.

    normalise: advantages to mean 0 and standard deviation 1. weights float64[4] and terms
    float64[5] as in `ppo_loss`.
    """
    actor, choice, critic, worth = networks
    to_actor, to_choice, to_critic, to_worth = gradients
    order = sorted_by_pattern(samples.patterns, rows, masks.group.size)
    n, inputs = rows.size, columns.varying.size
    mean, scale = 0.0, 1.0
    if normalise:
        mean, scale = _moments(samples.advantages, rows)
        scale += 1e-8
    widest = inputs
    for layer in range(len(actor.biases)):
        widest = max(widest, actor.biases[layer].size)
        to_actor.weights[layer][:], to_actor.biases[layer][:] = 0.0, 0.0
    for layer in range(len(critic.biases)):
        widest = max(widest, critic.biases[layer].size)
        to_critic.weights[layer][:], to_critic.biases[layer][:] = 0.0, 0.0
    for head in (to_choice, to_worth):
        head.weight[:], head.bias[:] = 0.0, 0.0
    terms[:] = 0.0

    last, last_critic = len(actor.biases) - 1, len(critic.biases) - 1
    width_actor, width_critic = actor.biases[last].size, critic.biases[last_critic].size
    first = np.empty((actor.biases[0].size, inputs), np.float32)
    start = np.empty(actor.biases[0].size, np.float32)
    first_critic = np.empty((critic.biases[0].size, inputs), np.float32)
    start_critic = np.empty(critic.biases[0].size, np.float32)
    _fold(actor, columns, first, start)
    _fold(critic, columns, first_critic, start_critic)
    to_first, to_start = np.zeros_like(first), np.zeros_like(start)
    to_first_critic, to_start_critic = np.zeros_like(first_critic), np.zeros_like(start_critic)

    most = masks.closed.shape[1]
    x_all = np.empty(ROWS * inputs, np.float32)
    hidden = np.empty((last + 1, ROWS * widest), np.float32)
    hidden_critic = np.empty((last_critic + 1, ROWS * widest), np.float32)
    both = np.empty((2, ROWS * widest), np.float32)
    upper, lower = both[0], both[1]
    cells_all = np.empty((3, ROWS * most), np.float32)
    logits, p, to_logits = cells_all[0], cells_all[1], cells_all[2]
    scratch = np.empty(max(widest, most) * widest, np.float32)
    own = np.empty(most * width_actor, np.float32)
    biases = np.empty((2, most), np.float32)
    own_bias, to_own_bias = biases[0], biases[1]
    to_own = np.empty(most * width_actor, np.float32)
    spans = np.empty((ROWS, 5), np.int64)
    actions = np.empty(ROWS, np.int64)
    each = np.empty((9, ROWS), np.float32)
    values, old_values, returns, to_values = each[0], each[1], each[2], each[3]
    log_p, old_log_p, entropy, advantages, to_log_p = each[4], each[5], each[6], each[7], each[8]
    to_entropy = np.full(ROWS, -weights[2] / n, np.float32)

    at = 0
    while at < n:
        group = masks.group[samples.patterns[order[at]]]
        width = int(masks.widths[group])
        open_ = masks.columns[group, :width]
        behind = at
        while behind < n and masks.group[samples.patterns[order[behind]]] == group:
            behind += 1
        own_weight = matrix(own, width, width_actor)
        open_rows(choice, open_, own_weight, own_bias)
        to_own[: width * width_actor] = 0.0
        to_own_bias[:width] = 0.0
        while at < behind:
            m = min(ROWS, behind - at)
            some = order[at : at + m]
            at += m
            x = matrix(x_all, m, inputs)
            runs = 0
            for i in range(m):
                row = some[i]
                copy(samples.inputs[row], x[i])
                actions[i] = samples.actions[row]
                old_values[i], returns[i] = samples.old_values[row], samples.returns[row]
                old_log_p[i] = samples.old_log_p[row]
                advantages[i] = (samples.advantages[row] - mean) / scale
                if runs == 0 or spans[runs - 1, 3] != samples.patterns[row]:
                    spans[runs] = 0, width, group, samples.patterns[row], 0
                    runs += 1
                spans[runs - 1, 0] += 1

            forward(x, first_critic, start_critic, critic, hidden_critic)
            seen = matrix(hidden_critic[last_critic], m, width_critic)
            np.dot(seen, worth.weight[0], values[:m])
            for i in range(m):
                values[i] += worth.bias[0]
            cells = m * width
            if width > 0:
                forward(x, first, start, actor, hidden)
                bent = matrix(hidden[last], m, width_actor)
                np.dot(bent, own_weight.T, matrix(logits, m, width))
                for i in range(m):
                    add(logits[i * width : (i + 1) * width], own_bias)
                categorical_forward(
                    logits[:cells],
                    spans[:runs],
                    masks.closed,
                    masks.places,
                    actions[:m],
                    p[:cells],
                    log_p[:m],
                    entropy[:m],
                )
            else:
                log_p[:m], entropy[:m] = 0.0, 0.0
            ppo_loss(
                log_p[:m],
                old_log_p[:m],
                entropy[:m],
                values[:m],
                old_values[:m],
                returns[:m],
                advantages[:m],
                n,
                weights,
                to_log_p[:m],
                to_values[:m],
                terms,
            )
            if width > 0:
                categorical_backward(
                    logits[:cells],
                    p[:cells],
                    spans[:runs],
                    masks.places,
                    actions[:m],
                    log_p[:m],
                    entropy[:m],
                    to_log_p[:m],
                    to_entropy[:m],
                    to_logits[:cells],
                    to_own_bias,
                )
                gradient = matrix(to_logits, m, width)
                part = matrix(scratch, width, width_actor)
                np.dot(gradient.T, bent, part)
                add(to_own[: width * width_actor], part.reshape(-1))
                np.dot(gradient, own_weight, matrix(upper, m, width_actor))
                _backward(x, actor, hidden, upper, lower, to_first, to_start, to_actor, scratch)
            np.dot(to_values[:m], seen, scratch[:width_critic])
            add(to_worth.weight[0], scratch[:width_critic])
            by_seen = matrix(upper, m, width_critic)
            for i in range(m):
                to_worth.bias[0] += to_values[i]
                for j in range(width_critic):
                    by_seen[i, j] = to_values[i] * worth.weight[0, j]
            _backward(
                x,
                critic,
                hidden_critic,
                upper,
                lower,
                to_first_critic,
                to_start_critic,
                to_critic,
                scratch,
            )
        for j in range(width):
            add(to_choice.weight[open_[j]], to_own[j * width_actor : (j + 1) * width_actor])
            to_choice.bias[open_[j]] += to_own_bias[j]
    _unfold(to_first, to_start, columns, to_actor)
    _unfold(to_first_critic, to_start_critic, columns, to_critic)
