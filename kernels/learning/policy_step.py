"""What a policy and a value network, both tanh perceptrons, do at one step of many markets."""

from typing import NamedTuple

import numpy as np

from kernels.compile import filter_kernel, never_inline
from kernels.learning.action_masks import Masks
from kernels.learning.categorical import Group, Rows, categorical_sample
from kernels.learning.perceptrons import (
    ROWS,
    Activations,
    Head,
    Narrowed,
    Networks,
    Perceptron,
    affine,
    first_columns,
    forward,
    gather_head,
    last_hidden,
    matrix,
    new_activations,
    sorted_by_pattern,
    transpose,
    transposed_weights,
    values_of,
)


class Observed(NamedTuple):
    """What n markets show."""

    inputs: np.ndarray
    """float32[n, D]"""
    patterns: np.ndarray
    """int64[n]: which pattern of open actions each has."""
    uniforms: np.ndarray
    """float32[n] of [0, 1), or negative for the likeliest action."""


class Step(NamedTuple):
    """What is decided in n markets: actions int64[n], values and log p float32[n]."""

    actions: np.ndarray
    values: np.ndarray
    log_p: np.ndarray


class Workspace(NamedTuple):
    """Memory for up to ROWS rows."""

    inputs: np.ndarray
    logits: np.ndarray
    rows: Rows
    uniforms: np.ndarray
    step: Step
    head: Head
    """The rows of the policy head that belong to a group."""
    transposed: np.ndarray
    """Their weights, transposed and flat."""


@filter_kernel
def _workspace(networks: Networks, inputs: int, most: int) -> Workspace:
    """most: columns of the widest group."""
    never_inline()
    net = networks.policy
    last = net.biases[len(net.biases) - 1].size
    rows = Rows(np.empty(ROWS, np.int64), np.empty(ROWS, np.int64))
    return Workspace(
        np.empty(ROWS * inputs, np.float32),
        np.empty(ROWS * most, np.float32),
        rows,
        np.empty(ROWS, np.float32),
        Step(rows.actions, np.empty(ROWS, np.float32), np.empty(ROWS, np.float32)),
        Head(np.empty((most, last), np.float32), np.empty(most, np.float32)),
        np.empty(most * last, np.float32),
    )


@filter_kernel
def _varying_columns(inputs: np.ndarray) -> np.ndarray:
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
def _without_gradient(net: Perceptron, columns: np.ndarray) -> Narrowed:
    never_inline()
    first, bias = first_columns(net, columns), net.biases[0]
    return Narrowed(transposed_weights(net, first), bias, first, bias)


@filter_kernel
def _gather(observed: Observed, columns: np.ndarray, some: np.ndarray, work: Workspace) -> None:
    """Bring some rows of a group together."""
    never_inline()
    x = matrix(work.inputs, some.size, columns.size)
    for i in range(some.size):
        source, target = observed.inputs[some[i]], x[i]
        for k in range(columns.size):
            target[k] = source[columns[k]]
        work.uniforms[i] = observed.uniforms[some[i]]
        work.rows.patterns[i] = observed.patterns[some[i]]


@filter_kernel
def _draw(
    x: np.ndarray,
    group: Group,
    net: Perceptron,
    narrowed: Narrowed,
    memory: Activations,
    work: Workspace,
) -> None:
    """Actions and their log p of rows x of one group."""
    never_inline()
    m, width = len(x), group.columns.size
    forward(x, net, narrowed, memory)
    hidden, logits = last_hidden(net, memory, m), matrix(work.logits, m, width)
    affine(hidden, matrix(work.transposed, hidden.shape[1], width), work.head.bias[:width], logits)
    categorical_sample(logits, work.rows, group, work.uniforms, work.step.log_p)


@filter_kernel
def policy_step(observed: Observed, masks: Masks, networks: Networks, step: Step) -> None:
    """Draw actions with their log p, and values; a single open action has log p 0.

    What is handed in is not checked: see agents/learner/compiled.py.
    """
    columns = _varying_columns(observed.inputs)
    policy = _without_gradient(networks.policy, columns)
    value = _without_gradient(networks.value, columns)
    memory, value_memory = new_activations(networks.policy, 1), new_activations(networks.value, 1)
    n, work = len(observed.inputs), _workspace(networks, columns.size, masks.closed.shape[1])
    order = sorted_by_pattern(observed.patterns, np.arange(n), masks.group.size)
    at = 0
    while at < n:
        number = int(masks.group[observed.patterns[order[at]]])
        width, behind = int(masks.widths[number]), at
        while behind < n and masks.group[observed.patterns[order[behind]]] == number:
            behind += 1
        group = Group(masks.columns[number, :width], masks.places[number], masks.closed)
        gather_head(networks.policy_head, group.columns, work.head)
        transpose(work.head.weight[:width], work.transposed)
        while at < behind:
            m = min(ROWS, behind - at)
            some = order[at : at + m]
            at += m
            x = matrix(work.inputs, m, columns.size)
            _gather(observed, columns, some, work)
            forward(x, networks.value, value, value_memory)
            hidden = last_hidden(networks.value, value_memory, m)
            values_of(hidden, networks.value_head, work.step.values)
            if width > 0:
                _draw(x, group, networks.policy, policy, memory, work)
            for i in range(m):
                row = some[i]
                step.values[row], step.log_p[row] = work.step.values[i], 0.0
                if width > 0:
                    step.actions[row], step.log_p[row] = work.step.actions[i], work.step.log_p[i]
                else:
                    step.actions[row] = _only(masks, number, int(observed.patterns[row]))


@filter_kernel
def _only(masks: Masks, group: int, pattern: int) -> int:
    """The single open action of a pattern."""
    never_inline()
    place = 0
    while masks.closed[pattern, place] != 0.0:
        place += 1
    return masks.columns[group, place]
