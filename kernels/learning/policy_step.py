"""What an actor and a critic, both tanh perceptrons, do at one step of many markets."""

from typing import NamedTuple

import numpy as np

from kernels.compile import filter_kernel, never_inline
from kernels.learning.matrix_products import affine
from kernels.learning.network_training import categorical_sample
from kernels.learning.perceptrons import (
    ROWS,
    Masks,
    Networks,
    Perceptron,
    forward,
    matrix,
    open_rows,
    sorted_by_pattern,
    turn,
    turned,
    weigh,
)


class Workspace(NamedTuple):
    """Memory for up to ROWS rows."""

    inputs: np.ndarray
    hidden: np.ndarray
    logits: np.ndarray
    own: np.ndarray
    """The rows of the actor's head that belong to a group, and the same transposed and flat."""
    turned_own: np.ndarray
    own_bias: np.ndarray
    spans: np.ndarray
    uniforms: np.ndarray
    values: np.ndarray
    actions: np.ndarray
    log_p: np.ndarray


@filter_kernel
def _widest(net: Perceptron) -> int:
    never_inline()
    widest = 0
    for layer in range(len(net.biases)):
        widest = max(widest, net.biases[layer].size)
    return widest


@filter_kernel
def _workspace(actor: Perceptron, critic: Perceptron, inputs: int, most: int) -> Workspace:
    """most: columns of the widest group."""
    never_inline()
    layers = max(len(actor.biases), len(critic.biases))
    last = actor.biases[len(actor.biases) - 1].size
    return Workspace(
        np.empty(ROWS * inputs, np.float32),
        np.empty((layers, ROWS * max(_widest(actor), _widest(critic))), np.float32),
        np.empty(ROWS * most, np.float32),
        np.empty((most, last), np.float32),
        np.empty(most * last, np.float32),
        np.empty(most, np.float32),
        np.empty((ROWS, 5), np.int64),
        np.empty(ROWS, np.float32),
        np.empty(ROWS, np.float32),
        np.empty(ROWS, np.int64),
        np.empty(ROWS, np.float32),
    )


@filter_kernel
def _seen(inputs: np.ndarray) -> np.ndarray:
    """The columns int64[k] that are not 0 in every row: the others change no sum."""
    never_inline()
    differ = np.zeros(inputs.shape[1], np.uint8)
    for i in range(len(inputs)):
        row = inputs[i]
        for j in range(differ.size):
            differ[j] |= np.uint8(row[j] != np.float32(0.0))
    columns, count = np.empty(differ.size, np.int64), 0
    for j in range(differ.size):
        if differ[j]:
            columns[count] = j
            count += 1
    return columns[:count]


@filter_kernel
def _columns_of(net: Perceptron, columns: np.ndarray) -> np.ndarray:
    """The weights of the first layer for some columns."""
    never_inline()
    weight = net.weights[0]
    own = np.empty((len(weight), columns.size), np.float32)
    for j in range(len(own)):
        for k in range(columns.size):
            own[j, k] = weight[j, columns[k]]
    return own


@filter_kernel
def _gather(
    inputs: np.ndarray,
    columns: np.ndarray,
    patterns: np.ndarray,
    uniforms: np.ndarray,
    some: np.ndarray,
    width: int,
    group: int,
    work: Workspace,
) -> int:
    """Bring some rows of a group together; how many spans they are."""
    never_inline()
    x, spans, runs = matrix(work.inputs, some.size, columns.size), work.spans, 0
    for i in range(some.size):
        row = some[i]
        source, target = inputs[row], x[i]
        for k in range(columns.size):
            target[k] = source[columns[k]]
        work.uniforms[i] = uniforms[row]
        if runs == 0 or spans[runs - 1, 3] != patterns[row]:
            spans[runs] = 0, width, group, patterns[row], 0
            runs += 1
        spans[runs - 1, 0] += 1
    return runs


@filter_kernel
def _draw(
    x: np.ndarray,
    runs: int,
    open_: np.ndarray,
    actor: Perceptron,
    weights: np.ndarray,
    masks: Masks,
    work: Workspace,
) -> None:
    """Actions and their log p of rows x of one group."""
    never_inline()
    m, width, last = len(x), open_.size, len(actor.biases) - 1
    forward(x, weights, actor.biases[0], actor, work.hidden)
    bent = matrix(work.hidden[last], m, actor.biases[last].size)
    weight = matrix(work.turned_own, bent.shape[1], width)
    affine(bent, weight, work.own_bias[:width], matrix(work.logits, m, width))
    categorical_sample(
        work.logits[: m * width],
        work.spans[:runs],
        masks.closed,
        open_,
        work.uniforms[:m],
        work.actions[:m],
        work.log_p[:m],
    )


@filter_kernel
def policy_step(
    inputs: np.ndarray,
    patterns: np.ndarray,
    masks: Masks,
    uniforms: np.ndarray,
    networks: Networks,
    value_forced: bool,
    actions: np.ndarray,
    values: np.ndarray,
    log_p: np.ndarray,
) -> None:
    """Draw actions int64[n] with their log p and values float32[n]; inputs float32[n, D].

    patterns int64[n]: which pattern of open actions each row has; uniforms float32[n] of [0, 1), or
    negative for the likeliest action, as in `categorical_sample`. A single open action has log p 0,
    and without value_forced the value 0.
    """
    actor, choice, critic, worth = networks
    n, most = len(inputs), masks.closed.shape[1]
    columns = _seen(inputs)
    weights = turned(actor, _columns_of(actor, columns))
    weights_critic = turned(critic, _columns_of(critic, columns))
    work = _workspace(actor, critic, columns.size, most)
    last = len(critic.biases) - 1
    order = sorted_by_pattern(patterns, np.arange(n), masks.group.size)
    at = 0
    while at < n:
        group = int(masks.group[patterns[order[at]]])
        width = int(masks.widths[group])
        open_ = masks.columns[group, :width]
        behind = at
        while behind < n and masks.group[patterns[order[behind]]] == group:
            behind += 1
        open_rows(choice, open_, work.own, work.own_bias)
        turn(work.own[:width], work.turned_own)
        while at < behind:
            m = min(ROWS, behind - at)
            some = order[at : at + m]
            at += m
            x = matrix(work.inputs, m, columns.size)
            if width > 0 or value_forced:
                runs = _gather(inputs, columns, patterns, uniforms, some, width, group, work)
                forward(x, weights_critic, critic.biases[0], critic, work.hidden)
                weigh(matrix(work.hidden[last], m, critic.biases[last].size), worth, work.values)
                if width > 0:
                    _draw(x, runs, open_, actor, weights, masks, work)
            else:
                work.values[:m] = 0.0
            for i in range(m):
                row = some[i]
                values[row], log_p[row] = work.values[i], 0.0
                if width > 0:
                    actions[row], log_p[row] = work.actions[i], work.log_p[i]
                else:
                    actions[row] = _only(masks, group, int(patterns[row]))


@filter_kernel
def _only(masks: Masks, group: int, pattern: int) -> int:
    """The single open action of a pattern."""
    never_inline()
    place = 0
    while masks.closed[pattern, place] != 0.0:
        place += 1
    return masks.columns[group, place]
