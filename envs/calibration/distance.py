"""How far a simulated sample lies from a recorded one: Kolmogorov-Smirnov and quantile distance."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# The quantile distance is a mean over this grid: tails beyond it are a matter of sample size.
GRID = np.linspace(0.05, 0.95, 91)


@dataclass(frozen=True)
class Distance:
    """Distances of two samples; `ln_quantiles` is nan where values may be 0 or negative."""

    kolmogorov_smirnov: float  # largest gap of the distribution functions, 0 .. 1
    ln_quantiles: float  # mean |ln q_simulated - ln q_recorded| over the 5 .. 95 % quantiles


def distance(recorded: np.ndarray, simulated: np.ndarray, floor: float = 0.0) -> Distance:
    """Distances of two non-empty samples float64[n], float64[m] (finite).

    Values below `floor` count as `floor`: what is too small to matter is not compared in ln.
    """
    recorded = np.sort(np.maximum(recorded, floor))
    simulated = np.sort(np.maximum(simulated, floor))
    points = np.concatenate([recorded, simulated])
    shares = [
        np.searchsorted(sample, points, side="right") / sample.size
        for sample in (recorded, simulated)
    ]
    gap = float(np.max(np.abs(shares[0] - shares[1])))
    quantiles = np.quantile(recorded, GRID), np.quantile(simulated, GRID)
    if min(quantile.min() for quantile in quantiles) <= 0.0:
        return Distance(gap, float("nan"))
    return Distance(gap, float(np.mean(np.abs(np.log(quantiles[0] / quantiles[1])))))


def autocorrelation(values: np.ndarray, segment: np.ndarray, lags: tuple[int, ...]) -> np.ndarray:
    """Correlation of `values` float64[n] with themselves `lag` steps later, within segments."""
    centred = values - values.mean()
    variance = float(np.mean(centred**2))
    pairs = []
    for lag in lags:
        same = segment[lag:] == segment[:-lag]
        pairs.append(float(np.mean((centred[lag:] * centred[:-lag])[same])) / variance)
    return np.array(pairs)


def ranges(levels: np.ndarray, segment: np.ndarray, blocks: int) -> np.ndarray:
    """Highest minus lowest of `levels` float64[n] in each full stretch of `blocks` of a segment."""
    found = []
    for run in np.unique(segment):
        part = levels[segment == run]
        whole = part[: part.size // blocks * blocks].reshape(-1, blocks)
        found.append(whole.max(axis=1) - whole.min(axis=1))
    return np.concatenate(found)


def response(
    levels: np.ndarray, answers: np.ndarray, segment: np.ndarray, horizons: tuple[int, ...]
) -> np.ndarray:
    """Slope of `answers` float64[n] on `levels` float64[n] above their own recent mean.

    The mean decays by 1/e in each of `horizons` (steps), restarts in every segment and is used
    from two horizons after its start.
    """
    slopes = []
    for horizon in horizons:
        keep = float(np.exp(-1.0 / horizon))
        above, answered = [], []
        for run in np.unique(segment):
            level, answer = levels[segment == run], answers[segment == run]
            mean, _ = lfilter([0.0, 1.0 - keep], [1.0, -keep], level - level[0], zi=[0.0])
            above.append((level - level[0] - mean)[2 * horizon :])
            answered.append(answer[2 * horizon :])
        x, y = np.concatenate(above), np.concatenate(answered)
        slopes.append(float(np.mean((x - x.mean()) * (y - y.mean())) / np.var(x)))
    return np.array(slopes)
