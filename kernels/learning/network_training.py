"""Passes of the learner over float32 arrays: masked distributions, the loss of PPO, LSTM gates.

Everything between two matrix products is one pass over memory here. Rows with the same open actions
are together in a span; logits are row after row without gaps, as wide as the span's group. Policy
loss: Schulman et al. (2017). Exponentials follow Cephes' expf and are within 2e-7 of the exact
ones, 0 below exp(-87).
"""

import math

import numpy as np

from kernels.compile import filter_kernel, inline, kernel, never_inline
from kernels.networks.forward import gates_in_place, tanh_in_place

_LOG2E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_BLOCK = 64  # rows that are added up in float32 before they join a sum in float64


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
def _opened(x: np.ndarray, closed: np.ndarray) -> np.float32:
    """Close what is masked in the logits x; the highest of them."""
    top = x[0] + closed[0]
    for j in range(x.size):
        y = x[j] + closed[j]
        x[j] = y
        top = y if y > top else top
    return top


@filter_kernel
def categorical_forward(
    logits: np.ndarray,
    spans: np.ndarray,
    closed: np.ndarray,
    places: np.ndarray,
    actions: np.ndarray,
    p: np.ndarray,
    log_p: np.ndarray,
    entropy: np.ndarray,
) -> None:
    """Probabilities p, log p of the taken actions and entropies of packed logits float32.

    spans int64[S, 5]: rows, width, group, pattern and first column of each; closed float32[P, W]
    and places int64[G, A] from `kernels.learning.action_masks.group_masks`; actions int64[n], each
    open to its row; p like logits, which are closed where they are masked; log_p and entropy
    float32[n].
    """
    never_inline()
    bits = np.empty(closed.shape[1], np.int32)
    scale = bits.view(np.float32)
    at, row = 0, 0
    for s in range(len(spans)):
        width = spans[s, 1]
        place, shut = places[spans[s, 2]], closed[spans[s, 3], :width]
        for _ in range(spans[s, 0]):
            x = logits[at : at + width]
            q = p[at : at + width]
            top = _opened(x, shut)
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
            log_p[row] = x[place[actions[row]]] - level
            entropy[row] = spread
            at += width
            row += 1


@filter_kernel
def categorical_backward(
    logits: np.ndarray,
    p: np.ndarray,
    spans: np.ndarray,
    places: np.ndarray,
    actions: np.ndarray,
    log_p: np.ndarray,
    entropy: np.ndarray,
    to_log_p: np.ndarray,
    to_entropy: np.ndarray,
    out: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Gradient by the logits, packed like them, from those by log_p and entropy float32[n].

    Its sums over rows are added to `sums`, float32[K] for the columns of all groups.

    The other arguments as `categorical_forward` took and left them.
    """
    never_inline()
    at, row = 0, 0
    for s in range(len(spans)):
        width, first = spans[s, 1], spans[s, 4]
        place, column = places[spans[s, 2]], sums[first : first + width]
        for _ in range(spans[s, 0]):
            x = logits[at : at + width]
            q = p[at : at + width]
            g = out[at : at + width]
            taken = place[actions[row]]
            by_entropy, by_log_p = to_entropy[row], to_log_p[row]
            lift = entropy[row] - (x[taken] - log_p[row])
            for j in range(width):
                g[j] = -q[j] * (by_log_p + by_entropy * (x[j] + lift))
            g[taken] += by_log_p
            for j in range(width):
                column[j] += g[j]
            at += width
            row += 1


@filter_kernel
def categorical_sample(
    logits: np.ndarray,
    spans: np.ndarray,
    closed: np.ndarray,
    columns: np.ndarray,
    uniforms: np.ndarray,
    actions: np.ndarray,
    log_p: np.ndarray,
) -> None:
    """Draw actions int64[n] with their log p float32[n], by uniforms float32[n] of [0, 1).

    columns int64[K]: the actions of all groups; spans and closed as for `categorical_forward`.
    Inverse distribution function; an action of probability 0 is never drawn. A negative uniform
    takes the likeliest action, the lowest on a tie.
    """
    never_inline()
    bits = np.empty(closed.shape[1], np.int32)
    scale = bits.view(np.float32)
    q = np.empty(closed.shape[1], np.float32)
    at, row = 0, 0
    for s in range(len(spans)):
        width, first = spans[s, 1], spans[s, 4]
        shut = closed[spans[s, 3], :width]
        for _ in range(spans[s, 0]):
            x = logits[at : at + width]
            top = _opened(x, shut)
            _exponentials(x, top, q[:width], bits, scale)
            total = np.float32(0.0)
            for j in range(width):
                total += q[j]
            taken = -1
            if uniforms[row] < 0.0:
                taken = 0
                while x[taken] < top:
                    taken += 1
            else:
                threshold = uniforms[row] * total
                below = np.float32(0.0)
                for j in range(width):
                    below += q[j]
                    if q[j] > 0.0:
                        taken = j
                        if below > threshold:
                            break
            actions[row] = columns[first + taken]
            log_p[row] = x[taken] - top - np.float32(math.log(total))
            at += width
            row += 1


@kernel
def ppo_loss(
    log_p: np.ndarray,
    old_log_p: np.ndarray,
    entropy: np.ndarray,
    values: np.ndarray,
    old_values: np.ndarray,
    returns: np.ndarray,
    advantages: np.ndarray,
    n: int,
    weights: np.ndarray,
    to_log_p: np.ndarray,
    to_values: np.ndarray,
    terms: np.ndarray,
) -> None:
    """Clipped loss of some of n samples with its gradients; arrays of samples are float32.

    weights float64[4]: clip range, clip range of values (negative: none), weights of entropy and
    value. to_log_p and to_values take the gradients (that by each entropy is -weights[2] / n);
    terms float64[5] is added to: means over all n of the policy, value and entropy losses, of the
    divergence from the old policy (ratio - 1 - ln ratio), and of the ratios outside the clip range.
    """
    never_inline()
    clip, clip_value, value_weight = weights[0], weights[1], weights[3]
    share = 1.0 / n
    for i in range(log_p.size):
        log_ratio = np.float64(log_p[i]) - np.float64(old_log_p[i])
        ratio = math.exp(log_ratio)
        gain = ratio * advantages[i]
        clipped = min(max(ratio, 1.0 - clip), 1.0 + clip) * advantages[i]
        outside = abs(ratio - 1.0) > clip
        # Beyond the range the smaller one counts, and the clipped one has no slope.
        slope = 0.0 if outside and gain >= clipped else gain
        to_log_p[i] = -slope * share
        moved = np.float64(values[i]) - np.float64(old_values[i])
        held = clip_value >= 0.0 and abs(moved) > clip_value
        if held:
            moved = clip_value if moved > 0.0 else -clip_value
        error = np.float64(old_values[i]) + moved - np.float64(returns[i])
        to_values[i] = 0.0 if held else 2.0 * value_weight * error * share
        terms[0] -= min(gain, clipped) * share
        terms[1] += error * error * share
        terms[2] -= entropy[i] * share
        terms[3] += (ratio - 1.0 - log_ratio) * share
        terms[4] += outside * share


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


@kernel
def lstm_gates(
    gates: np.ndarray, c_before: np.ndarray, c: np.ndarray, tanh_c: np.ndarray, h: np.ndarray
) -> None:
    """Gates float32[n, 4H] before their activations -> after; c, tanh(c) and h float32[n, H].

    Order input, forget, cell, output as in PyTorch.
    """
    rows, units = c.shape
    for i in range(rows):
        z, before = gates[i], c_before[i]
        c_row, bent = c[i], tanh_c[i]
        gates_in_place(z, units)
        for j in range(units):
            c_row[j] = z[units + j] * before[j] + z[j] * z[2 * units + j]
        bent[:] = c_row
        tanh_in_place(bent)
        for j in range(units):
            h[i, j] = z[3 * units + j] * bent[j]


@kernel
def lstm_gates_backward(
    gates: np.ndarray,
    c_before: np.ndarray,
    tanh_c: np.ndarray,
    to_h: np.ndarray,
    to_c: np.ndarray,
    out: np.ndarray,
) -> None:
    """Gradient float32[n, 4H] by the gates before their activations.

    gates (after them), c_before and tanh_c as `lstm_gates` took and left them; to_h float32[n, H]
    and to_c, which is replaced by the gradient of c_before.
    """
    rows, units = to_h.shape
    one = np.float32(1.0)
    for i in range(rows):
        z, g, dh, dc = gates[i], out[i], to_h[i], to_c[i]
        before, bent = c_before[i], tanh_c[i]
        for j in range(units):
            o = z[3 * units + j]
            dc[j] += dh[j] * o * (one - bent[j] * bent[j])
            g[3 * units + j] = dh[j] * bent[j] * o * (one - o)
        for j in range(units):
            into, kept, cell = z[j], z[units + j], z[2 * units + j]
            g[j] = dc[j] * cell * into * (one - into)
            g[units + j] = dc[j] * before[j] * kept * (one - kept)
            g[2 * units + j] = dc[j] * into * (one - cell * cell)
        for j in range(units):
            dc[j] *= z[units + j]
