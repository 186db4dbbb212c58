"""The gradient of PPO's loss on one minibatch, for policy and value networks that are tanh
perceptrons.

Forward and backward in one pass over some rows at a time: nothing but parameters and their
gradients leaves the cache. Schulman et al. (2017).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from kernels.compile import filter_kernel, never_inline
from kernels.learning.action_masks import Masks
from kernels.learning.categorical import Group, Rows, categorical_backward, categorical_forward
from kernels.learning.loss import LossWeights, Predicted, Targets, clipped_loss
from kernels.learning.perceptrons import (
    ROWS,
    Activations,
    Columns,
    Head,
    Narrowed,
    Networks,
    Perceptron,
    add,
    add_transposed_product,
    affine,
    backward,
    copy,
    forward,
    gather_head,
    last_hidden,
    matrix,
    narrow,
    new_activations,
    sorted_by_pattern,
    transpose,
    values_of,
    widen,
)


class Samples(NamedTuple):
    """A rollout of R states."""

    inputs: np.ndarray
    """float32[R, k]: the columns of the observations that vary."""
    rows: Rows
    """[R]: patterns of open actions, and the actions taken."""
    targets: Targets
    """[R]"""


class Workspace(NamedTuple):
    """Memory for up to ROWS rows of one group."""

    inputs: np.ndarray
    rows: Rows
    targets: Targets
    predicted: Predicted
    gradients: Predicted
    logits: np.ndarray
    p: np.ndarray
    to_logits: np.ndarray
    head: Head
    """The rows of the policy head that belong to the group."""
    transposed: np.ndarray
    """Their weights, transposed and flat."""
    to_head: Head


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
    net = networks.policy
    last = net.biases[len(net.biases) - 1].size
    s, cells = np.zeros((10, ROWS), np.float32), np.empty((3, ROWS * most), np.float32)
    heads, biases = np.empty((3, most, last), np.float32), np.empty((2, most), np.float32)
    return Workspace(
        np.empty(ROWS * inputs, np.float32),
        Rows(np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)),
        Targets(s[0], s[1], s[2], s[3]),
        Predicted(s[4], s[5], s[6]),
        Predicted(s[7], s[8], s[9]),
        cells[0],
        cells[1],
        cells[2],
        Head(heads[0], biases[0]),
        heads[2].reshape(-1),
        Head(heads[1], biases[1]),
    )


@filter_kernel
def _gather(samples: Samples, some: np.ndarray, mean: float, scale: float, work: Workspace) -> None:
    """Bring some rows of a group together; advantages are (A - mean) / scale."""
    never_inline()
    x, rows, targets = (
        matrix(work.inputs, some.size, samples.inputs.shape[1]),
        work.rows,
        work.targets,
    )
    for i in range(some.size):
        row = some[i]
        copy(samples.inputs[row], x[i])
        rows.patterns[i], rows.actions[i] = samples.rows.patterns[row], samples.rows.actions[row]
        targets.values[i], targets.log_p[i] = (
            samples.targets.values[row],
            samples.targets.log_p[row],
        )
        targets.advantages[i] = (samples.targets.advantages[row] - mean) / scale
        targets.returns[i] = samples.targets.returns[row]


@filter_kernel
def _policy_forward(
    x: np.ndarray,
    group: Group,
    net: Perceptron,
    narrowed: Narrowed,
    memory: Activations,
    work: Workspace,
) -> None:
    """Log p of the actions taken and entropies."""
    never_inline()
    m, width = len(x), group.columns.size
    forward(x, net, narrowed, memory)
    hidden, logits = last_hidden(net, memory, m), matrix(work.logits, m, width)
    affine(hidden, matrix(work.transposed, hidden.shape[1], width), work.head.bias[:width], logits)
    categorical_forward(logits, work.rows, group, matrix(work.p, m, width), work.predicted)


@filter_kernel
def _policy_backward(
    x: np.ndarray,
    group: Group,
    net: Perceptron,
    narrowed: Narrowed,
    memory: Activations,
    to_net: Perceptron,
    work: Workspace,
) -> None:
    """Add the gradients of the policy, those of its head into work.to_head."""
    never_inline()
    m, width = len(x), group.columns.size
    logits, p = matrix(work.logits, m, width), matrix(work.p, m, width)
    gradient, sums = matrix(work.to_logits, m, width), work.to_head.bias[:width]
    categorical_backward(
        logits, p, work.rows, group, work.predicted, work.gradients, gradient, sums
    )
    hidden = last_hidden(net, memory, m)
    add_transposed_product(gradient, hidden, work.to_head.weight[:width])
    upper = matrix(memory.upper, m, hidden.shape[1])
    affine(gradient, work.head.weight[:width], memory.zeros, upper)
    backward(x, net, narrowed, memory, to_net)


@filter_kernel
def _value_backward(
    x: np.ndarray,
    networks: Networks,
    narrowed: Narrowed,
    memory: Activations,
    gradients: Networks,
    to_values: np.ndarray,
) -> None:
    """Add the gradients of the value network."""
    never_inline()
    hidden = last_hidden(networks.value, memory, len(x))
    upper, weight = matrix(memory.upper, len(x), hidden.shape[1]), networks.value_head.weight[0]
    to_weight, to_bias = gradients.value_head.weight[0], gradients.value_head.bias
    for i in range(len(x)):
        to_value, row, to_row = to_values[i], hidden[i], upper[i]
        to_bias[0] += to_value
        for j in range(row.size):
            to_weight[j] += to_value * row[j]
            to_row[j] = to_value * weight[j]
    backward(x, networks.value, narrowed, memory, gradients.value)


@filter_kernel
def policy_gradient(
    samples: Samples,
    masks: Masks,
    columns: Columns,
    rows: np.ndarray,
    normalise: bool,
    weights: LossWeights,
    networks: Networks,
    gradients: Networks,
    terms: np.ndarray,
) -> None:
    """Write the gradient of the loss on rows int64[n] of a rollout.

    normalise: advantages to mean 0 and standard deviation 1, where there is more than one. terms
    float64[5] as in `clipped_loss`. What is handed in is not checked: see agents/learner/compiled.
    """
    patterns, n = samples.rows.patterns, rows.size
    order = sorted_by_pattern(patterns, rows, masks.group.size)
    mean, scale = 0.0, 1.0
    if normalise and n > 1:
        mean, scale = _moments(samples.targets.advantages, rows)
        scale += 1e-8
    _forget(gradients.policy, gradients.policy_head)
    _forget(gradients.value, gradients.value_head)
    terms[:] = 0.0
    policy, value = narrow(networks.policy, columns), narrow(networks.value, columns)
    inputs, most = columns.varying.size, masks.closed.shape[1]
    memory, value_memory = new_activations(networks.policy, 1), new_activations(networks.value, 1)
    work = _workspace(networks, inputs, most)
    at = 0
    while at < n:
        number = int(masks.group[patterns[order[at]]])
        width, behind = int(masks.widths[number]), at
        while behind < n and masks.group[patterns[order[behind]]] == number:
            behind += 1
        group = Group(masks.columns[number, :width], masks.places[number], masks.closed)
        gather_head(networks.policy_head, group.columns, work.head)
        transpose(work.head.weight[:width], work.transposed)
        work.to_head.weight[:width], work.to_head.bias[:width] = 0.0, 0.0
        while at < behind:
            m = min(ROWS, behind - at)
            _gather(samples, order[at : at + m], mean, scale, work)
            at += m
            x = matrix(work.inputs, m, inputs)
            forward(x, networks.value, value, value_memory)
            hidden = last_hidden(networks.value, value_memory, m)
            values_of(hidden, networks.value_head, work.predicted.values)
            if width > 0:
                _policy_forward(x, group, networks.policy, policy, memory, work)
            else:
                work.predicted.log_p[:m], work.predicted.entropy[:m] = 0.0, 0.0
            clipped_loss(work.predicted, work.targets, m, n, weights, work.gradients, terms)
            if width > 0:
                _policy_backward(x, group, networks.policy, policy, memory, gradients.policy, work)
            _value_backward(x, networks, value, value_memory, gradients, work.gradients.values)
        for j in range(width):
            add(gradients.policy_head.weight[group.columns[j]], work.to_head.weight[j])
            gradients.policy_head.bias[group.columns[j]] += work.to_head.bias[j]
    widen(policy, columns, gradients.policy)
    widen(value, columns, gradients.value)
