"""The linear models find planted coefficients and the loss they claim to minimise."""

import numpy as np
import pytest

from history.stochastic_volatility import stochastic_volatility_bars
from kernels.networks.features import FEATURES, N_FEATURES
from models.volatility.ewma import fit_ewma, log_ewma_at, random_walk
from models.volatility.har import DESIGNS, fit_gamma, fit_log_linear, fit_ols
from models.volatility.losses import floored, qlike, squared_log_error
from models.volatility.origins import Origins, build_origins

N = 20_000


def planted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gamma variances (k = 5 squared returns) around exp(x b)."""
    x = np.column_stack([np.ones(N), rng.normal(size=(N, 3))])
    b = np.array([-9.0, 0.5, -0.3, 0.0])
    return x, np.exp(x @ b) * rng.gamma(2.5, 1 / 2.5, N), b


def test_both_fits_find_planted_coefficients() -> None:
    x, y, b = planted(np.random.default_rng(0))
    ols = fit_ols(x, y)
    np.testing.assert_allclose(ols, b, atol=0.03)
    gamma = fit_gamma(x, y, ols, ridge=0.0)
    np.testing.assert_allclose(gamma, b, atol=0.03)
    # First-order condition of QLIKE: the weighted residuals are orthogonal to every column.
    np.testing.assert_allclose(x.T @ (y * np.exp(-x @ gamma) - 1.0) / N, 0.0, atol=1e-4)
    assert qlike(y, x @ gamma).mean() <= qlike(y, x @ ols).mean()
    # Smearing: the mean of RV / h is one.
    assert np.mean(y * np.exp(-x @ ols)) == pytest.approx(1.0)


def test_no_forecast_beats_the_true_variance() -> None:
    """Gap between truth and constant is ln E h - E ln h; noise floor ln a - digamma(a)."""
    x, y, b = planted(np.random.default_rng(1))
    h = np.exp(x @ b)
    truth = qlike(y, np.log(h)).mean()
    constant = qlike(y, np.full(N, np.log(h.mean()))).mean()
    assert constant - truth == pytest.approx(np.log(h.mean()) - np.log(h).mean(), rel=0.05)
    assert truth == pytest.approx(0.213, abs=0.01)  # ln(k/2) - digamma(k/2) for k = 5
    fitted = qlike(y, x @ fit_gamma(x, y, fit_ols(x, y), 1e-5)).mean()
    assert abs(fitted - truth) < 0.01 * (constant - truth)


def test_losses() -> None:
    y = np.array([1e-6, 2e-6])
    assert np.all(qlike(y, np.log(y)) == 0.0)
    assert qlike(y, np.log(y) + 0.1) == pytest.approx(np.exp(-0.1) + 0.1 - 1.0)
    assert squared_log_error(y, np.log(y) - 0.5) == pytest.approx(0.25)
    assert floored(np.array([0.0, 1.0]), 5)[0] == pytest.approx(5e-10)


def test_designs_hold_what_they_are_called_and_unknown_targets_are_left_out() -> None:
    assert DESIGNS["HARX"] == list(FEATURES)
    assert set(DESIGNS["log-HAR"]) < set(DESIGNS["HAR+season"]) < set(DESIGNS["HARX"])
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(4000, N_FEATURES))
    y = np.exp(inputs[:, [0]] * 0.7 - 8.0) * rng.gamma(5, 0.2, (4000, 1))
    y[2000:] = np.nan
    whole = Origins("ETHUSDT", np.arange(4000) * 5, inputs, y)
    for gamma in (False, True):
        model = fit_log_linear([whole], "log-HAR", (5,), gamma)
        half = fit_log_linear([whole.select(slice(0, 2000))], "log-HAR", (5,), gamma)
        assert np.array_equal(model.slopes, half.slopes)
        assert model.slopes[0, 0] == pytest.approx(0.7, abs=0.05)
        np.testing.assert_allclose(model.slopes[1:, 0], 0.0, atol=0.05)


def test_ewma_and_random_walk_on_bars() -> None:
    bars = stochastic_volatility_bars(1, 4)
    origins = build_origins(bars, (5, 60))
    eth = bars.of("ETHUSDT")
    o = next(o for o in origins if o.symbol == "ETHUSDT")
    log_ewma = log_ewma_at(eth, 1, o.minute)
    r2 = np.diff(np.log(eth.ohlcv[:, 3]), prepend=np.log(eth.ohlcv[0, 0])) ** 2
    k = int(o.minute[200] - eth.minute[0])  # bars closed by the origin
    weights = 0.5 ** (np.arange(k)[::-1] / 20.0)
    assert np.exp(log_ewma[200, 2]) == pytest.approx(weights @ r2[:k] / weights.sum())
    walk = random_walk(o.inputs, (5, 60))
    assert np.exp(walk[200, 1]) == pytest.approx(r2[k - 60 : k].sum())
    model = fit_ewma([o], [log_ewma], (5, 60))
    f = model.predict(log_ewma)[:, 0]
    known = np.isfinite(o.targets[:, 0])
    y = floored(o.targets[known, 0], 5)
    assert np.mean(y * np.exp(-f[known])) == pytest.approx(1.0)
    for j in range(log_ewma.shape[1]):
        scale = np.log(np.mean(y * np.exp(-log_ewma[known, j])))
        assert qlike(y, f[known]).mean() <= qlike(y, log_ewma[known, j] + scale).mean() + 1e-12
