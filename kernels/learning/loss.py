"""The clipped loss of PPO on some samples, with its gradients. Schulman et al. (2017)."""

import math
from typing import NamedTuple

import numpy as np

from kernels.compile import kernel, never_inline


class LossWeights(NamedTuple):
    """What the terms of the loss are clipped and weighted by."""

    clip: float
    clip_value: float
    """Clip range of the values; negative: none."""
    entropy: float
    value: float


class Targets(NamedTuple):
    """What was played, float32[m] each."""

    values: np.ndarray
    log_p: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray


class Predicted(NamedTuple):
    """What the networks now say of it, or the gradients of the loss by that, float32[m] each."""

    values: np.ndarray
    log_p: np.ndarray
    entropy: np.ndarray


@kernel
def clipped_loss(
    predicted: Predicted,
    targets: Targets,
    m: int,
    n: int,
    weights: LossWeights,
    gradients: Predicted,
    terms: np.ndarray,
) -> None:
    """The loss on the first m of the rows, which are some of n samples.

    terms float64[5] is added to: means over all n of the policy, value and entropy losses, of the
    divergence from the old policy (ratio - 1 - ln ratio), and of the ratios outside the clip range.
    """
    never_inline()
    clip, clip_value = weights.clip, weights.clip_value
    share = 1.0 / n
    for i in range(m):
        log_ratio = np.float64(predicted.log_p[i]) - np.float64(targets.log_p[i])
        ratio, advantage = math.exp(log_ratio), targets.advantages[i]
        gain = ratio * advantage
        clipped = min(max(ratio, 1.0 - clip), 1.0 + clip) * advantage
        outside = abs(ratio - 1.0) > clip
        # Beyond the range the smaller one counts, and the clipped one has no slope.
        slope = 0.0 if outside and gain >= clipped else gain
        gradients.log_p[i] = -slope * share
        gradients.entropy[i] = -weights.entropy * share
        moved = np.float64(predicted.values[i]) - np.float64(targets.values[i])
        held = clip_value >= 0.0 and abs(moved) > clip_value
        if held:
            moved = clip_value if moved > 0.0 else -clip_value
        error = np.float64(targets.values[i]) + moved - np.float64(targets.returns[i])
        gradients.values[i] = 0.0 if held else 2.0 * weights.value * error * share
        terms[0] -= min(gain, clipped) * share
        terms[1] += error * error * share
        terms[2] -= predicted.entropy[i] * share
        terms[3] += (ratio - 1.0 - log_ratio) * share
        terms[4] += outside * share
