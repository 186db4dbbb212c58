"""Diebold-Mariano and the Model Confidence Set against statsmodels and known cases."""

from typing import Any, cast

import numpy as np
import pytest
from statsmodels.tsa.stattools import diebold_mariano_test

from models.volatility.significance import (
    diebold_mariano,
    long_run_variance,
    model_confidence_set,
    ratio_interval,
)


def correlated_losses(seed: int, n: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=n + 20)
    shared = np.convolve(noise, np.ones(20) / 20, "valid")[:n]
    return 1.0 + shared, 1.0 + shared + 0.3 * rng.normal(size=n) + gap


@pytest.mark.parametrize(("lags", "horizon"), [(0, 1), (1, 1), (24, 1), (24, 3)])
def test_statistic_and_p_equal_statsmodels(lags: int, horizon: int) -> None:
    rng = np.random.default_rng(1)
    y = rng.gamma(2.0, size=700)
    a, b = y * np.exp(rng.normal(0, 0.4, 700)), y * np.exp(rng.normal(0, 0.5, 700))

    def loss(y: np.ndarray, f: np.ndarray) -> np.ndarray:
        return y / f - np.log(y / f) - 1.0

    theirs: Any = diebold_mariano_test(
        *(y, a, b), lags=lags, criterion=cast(Any, loss), harvey_adj=True, horizon=horizon
    )
    statistic, p = diebold_mariano(loss(y, a), loss(y, b), lags, horizon)
    assert statistic == pytest.approx(theirs.statistic, rel=1e-6)
    assert p == pytest.approx(theirs.pvalue, rel=1e-5)


def test_size_under_equal_losses_and_power_under_a_gap() -> None:
    rejected = sum(
        diebold_mariano(*correlated_losses(s, 400, 0.0), 5)[1] < 0.05 for s in range(400)
    )
    assert 0.02 < rejected / 400 < 0.10
    statistic, p = diebold_mariano(*correlated_losses(0, 400, 0.1), 5)
    assert statistic < -3.0
    assert p < 0.01


def test_equal_losses_and_too_many_lags() -> None:
    assert diebold_mariano(np.ones(50), np.ones(50), 5) == (0.0, 1.0)
    with pytest.raises(ValueError, match="more losses than lags"):
        diebold_mariano(np.ones(5), np.zeros(5), 5)


def test_long_run_variance_of_a_moving_average() -> None:
    """Theory for x_t = e_t + e_{t-1}: 4; Bartlett with L lags keeps 2 + 2 L / (L + 1)."""
    noise = np.random.default_rng(3).normal(size=200_001)
    x = noise[1:] + noise[:-1]
    assert long_run_variance(x, 0) == pytest.approx(2.0, rel=0.02)
    assert long_run_variance(x, 9) == pytest.approx(2.0 + 2.0 * 0.9, rel=0.03)


def test_ratio_interval_covers() -> None:
    truth = 1.0 / 1.1
    hits = 0
    for seed in range(200):
        ratio, low, high = ratio_interval(*correlated_losses(seed, 500, 0.1), 20)
        assert low < ratio < high
        hits += low <= truth <= high
    assert hits >= 176  # 95 % nominal


def test_confidence_set_keeps_the_best_and_drops_the_bad() -> None:
    a, b = correlated_losses(0, 1000, 0.0)
    bad = correlated_losses(0, 1000, 0.3)[1]
    p = model_confidence_set({"a": a, "b": b, "bad": bad}, block=20, reps=200)
    assert set(p) == {"a", "b", "bad"}
    assert max(p.values()) == 1.0
    assert p["bad"] < 0.05
    assert min(p["a"], p["b"]) > 0.10
    with pytest.raises(ValueError, match="not finite"):
        model_confidence_set({"a": a, "b": b * np.nan}, block=20)
