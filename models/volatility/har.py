"""Log-linear forecasts of realised variance: log-HAR (Corsi 2009) and its richer relatives.

Fitted by OLS on logs with smearing (Duan 1983), or as a gamma GLM with log link, whose likelihood
is QLIKE: the best linear model under the loss that judges it.
"""

from dataclasses import dataclass

import numpy as np

from kernels.networks.features import FEATURES, OWN_FEATURES, SEASON_FEATURES
from models.volatility.losses import floored
from models.volatility.origins import Origins

_HAR = ["rv5", "rv15", "rv60", "rv240", "level"]
_SEASON = [*SEASON_FEATURES, "profile7"]
# The level enters as an input, so these spans equal those of the absolute log variances.
DESIGNS: dict[str, list[str]] = {
    "log-HAR": _HAR,
    "HAR+season": [*_HAR, *_SEASON],
    "HAR+EW+season": [*_HAR, *(f for f in OWN_FEATURES if f.startswith("ew")), *_SEASON],
    "HARX": list(FEATURES),
}


@dataclass(frozen=True)
class LogLinear:
    """ln h = intercept + inputs[:, columns] @ slopes, one column of slopes per horizon."""

    columns: np.ndarray  # int64[k]
    intercept: np.ndarray  # float64[horizons]
    slopes: np.ndarray  # float64[k, horizons]

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Log variance forecasts float64[n, horizons] for inputs float64[n, N_FEATURES]."""
        return inputs[:, self.columns] @ self.slopes + self.intercept


def fit_log_linear(
    parts: list[Origins],
    design: str,
    horizons_minutes: tuple[int, ...],
    gamma: bool,
    ridge: float = 1e-5,
) -> LogLinear:
    """Fit a design of `DESIGNS` on pooled origins, each horizon on its known targets.

    `gamma` chooses the GLM, with `ridge` pulling it to the OLS solution; else OLS with smearing.
    """
    columns = np.array([FEATURES.index(name) for name in DESIGNS[design]])
    inputs = np.concatenate([p.inputs[:, columns] for p in parts])
    targets = np.concatenate([p.targets for p in parts])
    coefficients = np.empty((columns.size + 1, len(horizons_minutes)))
    for j, horizon in enumerate(horizons_minutes):
        known = np.isfinite(targets[:, j])
        x = np.column_stack([np.ones(int(known.sum())), inputs[known]])
        y = floored(targets[known, j], horizon)
        b = fit_ols(x, y)
        coefficients[:, j] = fit_gamma(x, y, b, ridge) if gamma else b
    return LogLinear(columns, coefficients[0], coefficients[1:])


def fit_ols(x: np.ndarray, variance: np.ndarray, ridge: float = 1e-6) -> np.ndarray:
    """Least squares of ln RV on x (first column 1), intercept moved so that mean RV/h is 1."""
    penalty = ridge * variance.size * _scales(x)
    b = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ np.log(variance))
    b[0] += np.log(np.mean(variance * np.exp(-(x @ b))))
    return b


def fit_gamma(
    x: np.ndarray, variance: np.ndarray, start: np.ndarray, ridge: float, steps: int = 40
) -> np.ndarray:
    """Minimise mean(RV e^-f + f), f = x b, by Newton steps that are halved until they descend.

    A ridge in units of each column's variance pulls b to `start`, so that dummies seen a few
    times stay near the least-squares solution.
    """
    penalty = ridge * _scales(x)
    b = start.copy()

    def objective(b: np.ndarray) -> float:
        f = x @ b
        return float(np.mean(variance * np.exp(-f) + f) + 0.5 * penalty @ (b - start) ** 2)

    value = objective(b)
    for _ in range(steps):
        w = variance * np.exp(-(x @ b))
        gradient = x.T @ (1.0 - w) / w.size + penalty * (b - start)
        half = x * np.sqrt(w)[:, None]
        hessian = half.T @ half / w.size + np.diag(penalty + 1e-10)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (trial := objective(b - scale * step)) > value and scale > 1e-4:
            scale /= 2.0
        if trial > value:
            break
        b -= scale * step
        if value - trial < 1e-9:
            break
        value = trial
    return b


def _scales(x: np.ndarray) -> np.ndarray:
    """Variance of each column for the ridge; the intercept is not penalised."""
    scales = x.var(axis=0) + 1e-3
    scales[0] = 0.0
    return scales
