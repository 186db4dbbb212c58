"""Baselines that use past returns only: exponentially weighted variance and the random walk.

They give log variances at the same origins as the other models; scale and half-life are chosen on
the training part by QLIKE.
"""

from dataclasses import dataclass

import numpy as np

from history.prices import SymbolBars
from kernels.checked_arrays import check_array, check_finite
from kernels.compile import kernel
from models.volatility.losses import floored, qlike
from models.volatility.origins import Origins, column

EWMA_HALF_LIVES_MINUTES = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0)


@dataclass(frozen=True)
class Ewma:
    """ln h = ln(EWMA of squared returns, half-life chosen per horizon) + ln(scale)."""

    half_life: list[int]  # index into EWMA_HALF_LIVES_MINUTES per horizon
    log_scale: np.ndarray  # float64[horizons]

    def predict(self, log_ewma: np.ndarray) -> np.ndarray:
        """Log variance forecasts float64[n, horizons] from `log_ewma_at`."""
        return log_ewma[:, self.half_life] + self.log_scale


def log_ewma_at(bars: SymbolBars, bar_minutes: int, minute: np.ndarray) -> np.ndarray:
    """ln EWMA of squared bar returns per minute at the origins: float64[n, half-lives].

    `minute` are origins of the same symbol; averages restart after a gap, as the inputs do.
    """
    check_array("minute", bars.minute, (None,), np.int64)
    check_finite("ohlcv", bars.ohlcv, (bars.minute.size, 5))
    half_lives = np.array(EWMA_HALF_LIVES_MINUTES)
    ewma = np.empty((len(bars), half_lives.size))
    _ewma(bars.minute, bars.ohlcv, bar_minutes, 0.5 ** (bar_minutes / half_lives), ewma)
    at = np.searchsorted(bars.minute, minute - bar_minutes)
    return np.log(floored(ewma[at], 1))


@kernel
def _ewma(
    minute: np.ndarray, ohlcv: np.ndarray, bar_minutes: int, decay: np.ndarray, out: np.ndarray
) -> None:
    """Weighted means of r^2 per minute after each bar, with weights decay^age that sum to one."""
    weight = np.zeros(decay.size)
    total = np.zeros(decay.size)
    before = 0.0
    for t in range(minute.size):
        if t == 0 or minute[t] != minute[t - 1] + bar_minutes:
            before = np.log(ohlcv[t, 0])
            for k in range(decay.size):
                weight[k] = 0.0
                total[k] = 0.0
        now = np.log(ohlcv[t, 3])
        r = now - before
        before = now
        for k in range(decay.size):
            weight[k] = weight[k] * decay[k] + 1.0
            total[k] = total[k] * decay[k] + r * r / bar_minutes
            out[t, k] = total[k] / weight[k]


def fit_ewma(
    parts: list[Origins], log_ewma: list[np.ndarray], horizons_minutes: tuple[int, ...]
) -> Ewma:
    """Half-life and scale with the least QLIKE on pooled training origins."""
    values = np.concatenate(log_ewma)
    targets = np.concatenate([p.targets for p in parts])
    half_life, log_scale = [], np.empty(len(horizons_minutes))
    for j, horizon in enumerate(horizons_minutes):
        known = np.isfinite(targets[:, j])
        y = floored(targets[known, j], horizon)
        f = values[known]
        scale = np.log(np.mean(y[:, None] * np.exp(-f), axis=0))  # the QLIKE-optimal scale
        loss = [float(qlike(y, f[:, k] + scale[k]).mean()) for k in range(f.shape[1])]
        best = int(np.argmin(loss))
        half_life.append(best)
        log_scale[j] = scale[best]
    return Ewma(half_life, log_scale)


def random_walk(inputs: np.ndarray, horizons_minutes: tuple[int, ...]) -> np.ndarray:
    """The variance of the last h minutes as forecast of the next, where an input tells it.

    nan for horizons other than 5, 15, 60 and 240 minutes.
    """
    out = np.full((len(inputs), len(horizons_minutes)), np.nan)
    for j, horizon in enumerate(horizons_minutes):
        if horizon in (5, 15, 60, 240):
            per_minute = inputs[:, column(f"rv{horizon}")] + inputs[:, column("level")]
            out[:, j] = per_minute + np.log(horizon)
    return out
