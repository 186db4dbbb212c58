"""GARCH(1,1) (Bollerslev 1986) and EGARCH(1,1) (Nelson 1991) with Student t errors, by `arch`.

Fitted per symbol to the h-minute returns of the training part; parameters then stay fixed while
the variance is filtered through the test. "+season" adds a Mincer-Zarnowitz slope and time-of-day
factors by gamma GLM, without which an intraday GARCH is no serious rival.
"""

import warnings

import numpy as np
from arch.univariate import EGARCH, GARCH, StudentsT, ZeroMean
from arch.utility.exceptions import ConvergenceWarning, DataScaleWarning

from history.prices import Bars, SymbolBars
from kernels.networks.features import SEASON_FEATURES
from models.volatility.har import fit_gamma, fit_ols
from models.volatility.losses import floored
from models.volatility.origins import Origins, column

VOLATILITY = {"GARCH": lambda: GARCH(1, 0, 1), "EGARCH": lambda: EGARCH(1, 1, 1)}


def returns_on_grid(
    bars: SymbolBars, bar_minutes: int, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log returns over [origin, origin + horizon] at origins on the horizon's grid.

    Returns (origin int64[n], return float64[n]); a return across a gap is left out.
    """
    end = bars.minute + bar_minutes
    gap = np.cumsum(np.diff(bars.minute, prepend=bars.minute[0]) != bar_minutes)
    on_grid = np.flatnonzero(end % horizon == 0)
    log_close = np.log(bars.ohlcv[on_grid, 3])
    whole = (np.diff(end[on_grid]) == horizon) & (np.diff(gap[on_grid]) == 0)
    return end[on_grid][:-1][whole], np.diff(log_close)[whole]


def conditional_variance(
    kind: str, returns: np.ndarray, n_train: int
) -> tuple[np.ndarray, dict[str, float]]:
    """One-step variance forecasts float64[n] of a model fitted to the first n_train returns.

    The forecast at k uses returns before k only. Also returns the parameters, for returns scaled
    to unit variance.
    """
    scale = float(returns[:n_train].std())
    scaled = returns / scale
    with warnings.catch_warnings():
        # A fit that stops early is judged by its forecasts like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", DataScaleWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        train = ZeroMean(scaled[:n_train], rescale=False)
        train.volatility = VOLATILITY[kind]()
        train.distribution = StudentsT()
        fitted = train.fit(disp="off", show_warning=False)
        whole = ZeroMean(scaled, rescale=False)
        whole.volatility = VOLATILITY[kind]()
        whole.distribution = StudentsT()
        filtered = whole.fix(fitted.params)
    variance = np.asarray(filtered.conditional_volatility) ** 2 * scale**2
    return variance, {str(k): float(v) for k, v in fitted.params.items()}


def forecast_garch(
    bars: Bars, parts: list[Origins], stretch: list[Origins], horizons_minutes: tuple[int, ...]
) -> dict[str, list[np.ndarray]]:
    """Log variance forecasts of the four models at the origins of `stretch`, nan off the grid.

    `parts` are the training origins; symbols of `stretch` must be among them or get nan.
    """
    names = [f"{kind}{suffix}" for kind in VOLATILITY for suffix in ("", "+season")]
    shapes = [(len(o), len(horizons_minutes)) for o in stretch]
    out = {name: [np.full(shape, np.nan) for shape in shapes] for name in names}
    training = {p.symbol: p for p in parts}
    for a, origins in enumerate(stretch):
        part = training.get(origins.symbol)
        if part is None or not len(origins):
            continue
        until = int(origins.minute[-1]) + 1
        for j, horizon in enumerate(horizons_minutes):
            minute, returns = returns_on_grid(bars.of(part.symbol), bars.bar_minutes, horizon)
            kept = minute < until
            minute, returns = minute[kept], returns[kept]
            trained = part.minute[np.isfinite(part.targets[:, j])]
            n_train = int(np.searchsorted(minute, trained[-1], side="right"))
            for kind in VOLATILITY:
                variance, _ = conditional_variance(kind, returns, n_train)
                for suffix in ("", "+season"):
                    out[f"{kind}{suffix}"][a][:, j] = _calibrated(
                        part, origins, j, horizon, minute, np.log(variance), suffix != ""
                    )
    return out


def _calibrated(
    part: Origins,
    origins: Origins,
    j: int,
    horizon: int,
    minute: np.ndarray,
    log_variance: np.ndarray,
    season: bool,
) -> np.ndarray:
    """Forecasts at `origins`, scaled (and seasonally adjusted) on the training part."""
    columns = [column(name) for name in (*SEASON_FEATURES, "profile7")] if season else []

    def design(o: Origins) -> tuple[np.ndarray, np.ndarray]:
        at = np.minimum(np.searchsorted(minute, o.minute), minute.size - 1)
        known = minute[at] == o.minute
        f = log_variance[at[known]]
        return known, np.column_stack([np.ones(f.size), f, o.inputs[known][:, columns]])

    known, x = design(part)
    y = part.targets[known, j]
    x, y = x[np.isfinite(y)], floored(y[np.isfinite(y)], horizon)
    if season:
        b = fit_gamma(x, y, fit_ols(x, y), ridge=1e-5)
    else:
        b = np.array([np.log(np.mean(y * np.exp(-x[:, 1]))), 1.0])
    out = np.full(len(origins), np.nan)
    known, x = design(origins)
    out[known] = x @ b
    return out
