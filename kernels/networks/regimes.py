"""Hidden regimes with Gaussian observations: causal filter, smoother and the counts of one EM step.

Hamilton (1989) filter and the forward-backward pass of Baum et al. (1970), normalised at every
step with densities in logs. A Gaussian mixture is the case where all rows of the transition are
equal. Training and serving filter with the same `regime_step`.
"""

import math

import numpy as np

from kernels.compile import inline, kernel

FILTERED, PREDICTED = 0, 1  # rows of the state: regime now, regime at the next observation


@inline
def _log_densities(
    x: np.ndarray, means: np.ndarray, factors: np.ndarray, log_scale: np.ndarray, out: np.ndarray
) -> bool:
    """ln N(x; mean_k, cov_k) of every regime; False, writing nothing, when x is not known."""
    for i in range(x.size):
        if not math.isfinite(x[i]):
            return False
    for k in range(means.shape[0]):
        distance = 0.0
        for i in range(x.size):
            z = 0.0
            for j in range(i + 1):
                z += factors[k, i, j] * (x[j] - means[k, j])
            distance += z * z
        out[k] = log_scale[k] - 0.5 * distance
    return True


@kernel
def regime_step(
    x: np.ndarray,
    transition: np.ndarray,
    means: np.ndarray,
    factors: np.ndarray,
    log_scale: np.ndarray,
    state: np.ndarray,
    scratch: np.ndarray,
) -> float:
    """Learn one observation; returns ln p(x | the past).

    x float64[d], not finite anywhere when unknown (the regime then only moves on); transition
    float64[K, K], rows sum to one; means float64[K, d]; factors float64[K, d, d], inverses of the
    lower Cholesky factors; log_scale float64[K], ln density at the mean; state float64[2, K]:
    FILTERED is replaced, PREDICTED is read and replaced (the start probabilities before the first
    observation); scratch float64[K].
    """
    regimes = means.shape[0]
    filtered, predicted = state[FILTERED], state[PREDICTED]
    log_likelihood = 0.0
    if _log_densities(x, means, factors, log_scale, scratch):
        highest = -np.inf
        for k in range(regimes):
            if predicted[k] > 0.0:
                highest = max(highest, scratch[k])
        total = 0.0
        for k in range(regimes):
            filtered[k] = predicted[k] * math.exp(min(scratch[k] - highest, 0.0))
            total += filtered[k]
        for k in range(regimes):
            filtered[k] /= total
        log_likelihood = highest + math.log(total)
    else:
        for k in range(regimes):
            filtered[k] = predicted[k]
    for k in range(regimes):
        total = 0.0
        for j in range(regimes):
            total += filtered[j] * transition[j, k]
        predicted[k] = total
    return log_likelihood


@kernel
def filter_history(
    x: np.ndarray,
    restart: np.ndarray,
    start: np.ndarray,
    transition: np.ndarray,
    means: np.ndarray,
    factors: np.ndarray,
    log_scale: np.ndarray,
    out: np.ndarray,
) -> float:
    """`regime_step` along x float64[t, d] into out float64[t, K]; returns the log likelihood.

    Where restart (bool[t]) is true the regime is drawn anew from `start` float64[K].
    """
    regimes = means.shape[0]
    state = np.zeros((2, regimes))
    scratch = np.empty(regimes)
    state[PREDICTED] = start
    log_likelihood = 0.0
    for t in range(x.shape[0]):
        if restart[t]:
            state[PREDICTED] = start
        log_likelihood += regime_step(x[t], transition, means, factors, log_scale, state, scratch)
        out[t] = state[FILTERED]
    return log_likelihood


@kernel
def smooth_history(
    restart: np.ndarray,
    start: np.ndarray,
    transition: np.ndarray,
    filtered: np.ndarray,
    smoothed: np.ndarray,
    moves: np.ndarray,
) -> None:
    """Regime probabilities given the whole sequence, from `filter_history`'s.

    Writes smoothed float64[t, K] and moves float64[K, K], the expected number of transitions
    (Kim 1994): smoothed_t = filtered_t * (transition (smoothed_t+1 / predicted_t+1)).
    """
    steps, regimes = filtered.shape
    ratio = np.empty(regimes)
    moves[:] = 0.0
    for t in range(steps - 1, -1, -1):
        if t == steps - 1 or restart[t + 1]:
            smoothed[t] = filtered[t]
            continue
        for k in range(regimes):
            predicted = 0.0
            for j in range(regimes):
                predicted += filtered[t, j] * transition[j, k]
            ratio[k] = smoothed[t + 1, k] / predicted if predicted > 0.0 else 0.0
        for j in range(regimes):
            total = 0.0
            for k in range(regimes):
                move = filtered[t, j] * transition[j, k] * ratio[k]
                moves[j, k] += move
                total += move
            smoothed[t, j] = total
