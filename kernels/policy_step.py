"""What an actor and a critic, both tanh perceptrons, do at one step of many markets."""

import numpy as np

from kernels.compile import filter_kernel
from kernels.network_training import categorical_sample
from kernels.perceptrons import (
    ROWS,
    Masks,
    Networks,
    add,
    copy,
    forward,
    matrix,
    open_rows,
    sorted_by_pattern,
)


@filter_kernel
def policy_step(
    inputs: np.ndarray,
    patterns: np.ndarray,
    masks: Masks,
    uniforms: np.ndarray,
    networks: Networks,
    actions: np.ndarray,
    values: np.ndarray,
    log_p: np.ndarray,
) -> None:
    """Draw actions int64[n] with their log p and values float32[n]; inputs float32[n, D].

    patterns int64[n]: which pattern of open actions each row has; uniforms float32[n] of [0, 1), or
    negative for the likeliest action, as in `categorical_sample`. A single open action has log p 0.
    """
    actor, choice, critic, worth = networks
    n, width_in = inputs.shape
    widest = width_in
    for layer in range(len(actor.biases)):
        widest = max(widest, actor.biases[layer].size)
    for layer in range(len(critic.biases)):
        widest = max(widest, critic.biases[layer].size)
    most = masks.closed.shape[1]
    layers = max(len(actor.biases), len(critic.biases))
    hidden = np.empty((layers, ROWS * widest), np.float32)

    last = len(critic.biases) - 1
    width = critic.biases[last].size
    for at in range(0, n, ROWS):
        m = min(ROWS, n - at)
        forward(inputs[at : at + m], critic.weights[0], critic.biases[0], critic, hidden)
        seen = matrix(hidden[last], m, width)
        np.dot(seen, worth.weight[0], values[at : at + m])
        for i in range(at, at + m):
            values[i] += worth.bias[0]

    last = len(actor.biases) - 1
    width = actor.biases[last].size
    order = sorted_by_pattern(patterns, np.arange(n), masks.group.size)
    x_all = np.empty(ROWS * width_in, np.float32)
    logits = np.empty(ROWS * most, np.float32)
    own, own_bias = np.empty(most * width, np.float32), np.empty(most, np.float32)
    spans = np.empty((ROWS, 5), np.int64)
    drawn, drawn_log_p = np.empty(ROWS, np.int64), np.empty(ROWS, np.float32)
    some_uniforms = np.empty(ROWS, np.float32)
    at = 0
    while at < n:
        group = masks.group[patterns[order[at]]]
        columns = int(masks.widths[group])
        behind = at
        while behind < n and masks.group[patterns[order[behind]]] == group:
            behind += 1
        if columns == 0:
            for i in range(at, behind):
                row = order[i]
                place = 0
                while masks.closed[patterns[row], place] != 0.0:
                    place += 1
                actions[row], log_p[row] = masks.columns[group, place], 0.0
            at = behind
            continue
        open_ = masks.columns[group, :columns]
        own_weight = matrix(own, columns, width)
        open_rows(choice, open_, own_weight, own_bias)
        while at < behind:
            m = min(ROWS, behind - at)
            some = order[at : at + m]
            at += m
            x = matrix(x_all, m, width_in)
            runs = 0
            for i in range(m):
                row = some[i]
                copy(inputs[row], x[i])
                some_uniforms[i] = uniforms[row]
                if runs == 0 or spans[runs - 1, 3] != patterns[row]:
                    spans[runs] = 0, columns, group, patterns[row], 0
                    runs += 1
                spans[runs - 1, 0] += 1
            forward(x, actor.weights[0], actor.biases[0], actor, hidden)
            bent = matrix(hidden[last], m, width)
            cells = m * columns
            np.dot(bent, own_weight.T, matrix(logits, m, columns))
            for i in range(m):
                add(logits[i * columns : (i + 1) * columns], own_bias)
            categorical_sample(
                logits[:cells],
                spans[:runs],
                masks.closed,
                open_,
                some_uniforms[:m],
                drawn[:m],
                drawn_log_p[:m],
            )
            for i in range(m):
                actions[some[i]], log_p[some[i]] = drawn[i], drawn_log_p[i]
