"""The gradient of PPO's loss on one minibatch, for an actor and a critic that are tanh perceptrons.

Forward and backward in one pass over some rows at a time: nothing but parameters and their
gradients leaves the cache. Schulman et al. (2017).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from kernels.compile import filter_kernel, never_inline
from kernels.learning.matrix_products import add_transposed_product, affine
from kernels.learning.network_training import (
    categorical_backward,
    categorical_forward,
    ppo_loss,
    tanh_backward,
)
from kernels.learning.perceptrons import (
    ROWS,
    Columns,
    Folded,
    Head,
    Masks,
    Networks,
    Perceptron,
    add,
    copy,
    fold,
    forward,
    matrix,
    open_rows,
    sorted_by_pattern,
    turn,
    unfold,
    weigh,
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


class Workspace(NamedTuple):
    """Memory for up to ROWS rows; what is two-dimensional starts anew with every width."""

    inputs: np.ndarray
    hidden: np.ndarray
    """float32[L, ROWS * widest] of the actor."""
    hidden_critic: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    zeros: np.ndarray
    logits: np.ndarray
    p: np.ndarray
    to_logits: np.ndarray
    own: Head
    """The rows of the actor's head that belong to a group."""
    turned_own: np.ndarray
    """Their weights, transposed and flat."""
    to_own: Head
    spans: np.ndarray
    actions: np.ndarray
    scalars: np.ndarray
    """float32[10, ROWS], by the names below."""


_VALUE, _OLD_VALUE, _RETURN, _TO_VALUE = 0, 1, 2, 3
_LOG_P, _OLD_LOG_P, _ADVANTAGE, _TO_LOG_P, _ENTROPY, _TO_ENTROPY = 4, 5, 6, 7, 8, 9


@filter_kernel
def _backward(
    x: np.ndarray,
    net: Perceptron,
    hidden: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    zeros: np.ndarray,
    folded: Folded,
    to_net: Perceptron,
) -> None:
    """Add the gradients of the layers; hidden as `forward` left it.

    upper float32[ROWS * widest]: the gradient by the last activations; lower: scratch; zeros of at
    least the widest layer.
    """
    never_inline()
    m = len(x)
    for layer in range(len(net.biases) - 1, -1, -1):
        width = net.biases[layer].size
        gradient = matrix(lower, m, width)
        by_bias = folded.to_bias if layer == 0 else to_net.biases[layer]
        tanh_backward(matrix(upper, m, width), matrix(hidden[layer], m, width), gradient, by_bias)
        if layer == 0:
            add_transposed_product(gradient, x, folded.to_weight)
        else:
            weight = net.weights[layer]
            below = matrix(hidden[layer - 1], m, weight.shape[1])
            add_transposed_product(gradient, below, to_net.weights[layer])
            affine(gradient, weight, zeros, matrix(upper, m, weight.shape[1]))


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
def _widest(net: Perceptron) -> int:
    never_inline()
    widest = 0
    for layer in range(len(net.biases)):
        widest = max(widest, net.biases[layer].size)
    return widest


@filter_kernel
def _forget(net: Perceptron, head: Head) -> None:
    """Gradients become 0."""
    never_inline()
    for layer in range(len(net.biases)):
        net.weights[layer][:], net.biases[layer][:] = 0.0, 0.0
    head.weight[:], head.bias[:] = 0.0, 0.0


@filter_kernel
def _workspace(networks: Networks, inputs: int, most: int) -> Workspace:
    """most: columns of the widest group."""
    never_inline()
    actor, critic = networks.actor, networks.critic
    widest = max(inputs, _widest(actor), _widest(critic))
    last = actor.biases[len(actor.biases) - 1].size
    rows = np.empty((6, ROWS * max(widest, most)), np.float32)
    own, biases = np.empty((3, most, last), np.float32), np.empty((2, most), np.float32)
    return Workspace(
        rows[0],
        np.empty((len(actor.biases), ROWS * widest), np.float32),
        np.empty((len(critic.biases), ROWS * widest), np.float32),
        rows[1],
        rows[2],
        np.zeros(widest, np.float32),
        rows[3],
        rows[4],
        rows[5],
        Head(own[0], biases[0]),
        own[2].reshape(-1),
        Head(own[1], biases[1]),
        np.empty((ROWS, 5), np.int64),
        np.empty(ROWS, np.int64),
        np.empty((10, ROWS), np.float32),
    )


@filter_kernel
def _gather(
    samples: Samples,
    some: np.ndarray,
    width: int,
    group: int,
    mean: float,
    scale: float,
    work: Workspace,
) -> int:
    """Bring some rows of a group together; how many spans they are."""
    never_inline()
    x = matrix(work.inputs, some.size, samples.inputs.shape[1])
    scalars, spans, runs = work.scalars, work.spans, 0
    for i in range(some.size):
        row = some[i]
        copy(samples.inputs[row], x[i])
        work.actions[i] = samples.actions[row]
        scalars[_OLD_VALUE, i], scalars[_RETURN, i] = samples.old_values[row], samples.returns[row]
        scalars[_OLD_LOG_P, i] = samples.old_log_p[row]
        scalars[_ADVANTAGE, i] = (samples.advantages[row] - mean) / scale
        if runs == 0 or spans[runs - 1, 3] != samples.patterns[row]:
            spans[runs] = 0, width, group, samples.patterns[row], 0
            runs += 1
        spans[runs - 1, 0] += 1
    return runs


@filter_kernel
def _values(
    x: np.ndarray, critic: Perceptron, worth: Head, folded: Folded, work: Workspace
) -> None:
    """Values of the rows, into their scalars."""
    never_inline()
    forward(x, folded.weights, folded.bias, critic, work.hidden_critic)
    last, m = len(critic.biases) - 1, len(x)
    bent = matrix(work.hidden_critic[last], m, critic.biases[last].size)
    weigh(bent, worth, work.scalars[_VALUE])


@filter_kernel
def _values_backward(
    x: np.ndarray,
    critic: Perceptron,
    worth: Head,
    folded: Folded,
    to_critic: Perceptron,
    to_worth: Head,
    work: Workspace,
) -> None:
    """Add the gradients of the critic."""
    never_inline()
    last, m = len(critic.biases) - 1, len(x)
    width, weight, to_weight = critic.biases[last].size, worth.weight[0], to_worth.weight[0]
    bent, upper = matrix(work.hidden_critic[last], m, width), matrix(work.upper, m, width)
    for i in range(m):
        to_value, seen, to_seen = work.scalars[_TO_VALUE, i], bent[i], upper[i]
        to_worth.bias[0] += to_value
        for j in range(width):
            to_weight[j] += to_value * seen[j]
            to_seen[j] = to_value * weight[j]
    _backward(x, critic, work.hidden_critic, work.upper, work.lower, work.zeros, folded, to_critic)


@filter_kernel
def _choices(
    x: np.ndarray,
    runs: int,
    width: int,
    actor: Perceptron,
    masks: Masks,
    folded: Folded,
    work: Workspace,
) -> None:
    """Log p of the actions taken and entropies, into the scalars of the rows."""
    never_inline()
    forward(x, folded.weights, folded.bias, actor, work.hidden)
    last, m = len(actor.biases) - 1, len(x)
    bent = matrix(work.hidden[last], m, actor.biases[last].size)
    weight = matrix(work.turned_own, bent.shape[1], width)
    affine(bent, weight, work.own.bias[:width], matrix(work.logits, m, width))
    categorical_forward(
        work.logits,
        work.spans[:runs],
        masks.closed,
        masks.places,
        work.actions,
        work.p,
        work.scalars[_LOG_P],
        work.scalars[_ENTROPY],
    )


@filter_kernel
def _choices_backward(
    x: np.ndarray,
    runs: int,
    width: int,
    actor: Perceptron,
    masks: Masks,
    folded: Folded,
    to_actor: Perceptron,
    work: Workspace,
) -> None:
    """Add the gradients of the actor, those of its head into `to_own`."""
    never_inline()
    categorical_backward(
        work.logits,
        work.p,
        work.spans[:runs],
        masks.places,
        work.actions,
        work.scalars[_LOG_P],
        work.scalars[_ENTROPY],
        work.scalars[_TO_LOG_P],
        work.scalars[_TO_ENTROPY],
        work.to_logits,
        work.to_own.bias,
    )
    last, m = len(actor.biases) - 1, len(x)
    bent = matrix(work.hidden[last], m, actor.biases[last].size)
    gradient = matrix(work.to_logits, m, width)
    add_transposed_product(gradient, bent, work.to_own.weight[:width])
    upper = matrix(work.upper, m, actor.biases[last].size)
    affine(gradient, work.own.weight[:width], work.zeros, upper)
    _backward(x, actor, work.hidden, work.upper, work.lower, work.zeros, folded, to_actor)


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

    normalise: advantages to mean 0 and standard deviation 1, where there is more than one. weights
    float64[4] and terms float64[5] as in `ppo_loss`.
    """
    actor, choice, critic, worth = networks
    to_actor, to_choice, to_critic, to_worth = gradients
    order = sorted_by_pattern(samples.patterns, rows, masks.group.size)
    n, inputs = rows.size, columns.varying.size
    mean, scale = 0.0, 1.0
    if normalise and n > 1:
        mean, scale = _moments(samples.advantages, rows)
        scale += 1e-8
    _forget(to_actor, to_choice)
    _forget(to_critic, to_worth)
    terms[:] = 0.0
    first, first_critic = fold(actor, columns), fold(critic, columns)
    work = _workspace(networks, inputs, masks.closed.shape[1])
    scalars = work.scalars
    scalars[_TO_ENTROPY] = -weights[2] / n

    at = 0
    while at < n:
        group = int(masks.group[samples.patterns[order[at]]])
        width = int(masks.widths[group])
        open_ = masks.columns[group, :width]
        behind = at
        while behind < n and masks.group[samples.patterns[order[behind]]] == group:
            behind += 1
        open_rows(choice, open_, work.own.weight, work.own.bias)
        turn(work.own.weight[:width], work.turned_own)
        work.to_own.weight[:width], work.to_own.bias[:width] = 0.0, 0.0
        while at < behind:
            m = min(ROWS, behind - at)
            runs = _gather(samples, order[at : at + m], width, group, mean, scale, work)
            at += m
            x = matrix(work.inputs, m, inputs)
            _values(x, critic, worth, first_critic, work)
            if width > 0:
                _choices(x, runs, width, actor, masks, first, work)
            else:
                scalars[_LOG_P, :m], scalars[_ENTROPY, :m] = 0.0, 0.0
            ppo_loss(
                scalars[_LOG_P, :m],
                scalars[_OLD_LOG_P],
                scalars[_ENTROPY],
                scalars[_VALUE],
                scalars[_OLD_VALUE],
                scalars[_RETURN],
                scalars[_ADVANTAGE],
                n,
                weights,
                scalars[_TO_LOG_P],
                scalars[_TO_VALUE],
                terms,
            )
            if width > 0:
                _choices_backward(x, runs, width, actor, masks, first, to_actor, work)
            _values_backward(x, critic, worth, first_critic, to_critic, to_worth, work)
        for j in range(width):
            add(to_choice.weight[open_[j]], work.to_own.weight[j])
            to_choice.bias[open_[j]] += work.to_own.bias[j]
    unfold(first, columns, to_actor)
    unfold(first_critic, columns, to_critic)
