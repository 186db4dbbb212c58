"""Losses of variance forecasts that keep their ranking under a noisy proxy (Patton 2011)."""

import numpy as np

from kernels.networks.features import VARIANCE_FLOOR


def floored(variance: np.ndarray, horizon_minutes: int) -> np.ndarray:
    """Realised variance, at least (0.1 basis point)^2 per minute: its log is taken (nan stays)."""
    return np.maximum(variance, VARIANCE_FLOOR * horizon_minutes)


def qlike(variance: np.ndarray, log_forecast: np.ndarray) -> np.ndarray:
    """RV/h - ln(RV/h) - 1 for RV > 0 and the log forecast ln h; 0 for a perfect forecast."""
    log_ratio = np.log(variance) - log_forecast
    return np.exp(log_ratio) - log_ratio - 1.0


def squared_log_error(variance: np.ndarray, log_forecast: np.ndarray) -> np.ndarray:
    """(ln RV - ln h)^2."""
    return (np.log(variance) - log_forecast) ** 2
