"""Planted regimes come back: labels, number, persistence; of volatility and of competition."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from models.patterns.regimes import (
    RegimeError,
    RegimeModel,
    choose_by_bic,
    fit_hidden_markov,
    fit_mixture,
)

STAY = 0.97


def planted_labels(seed: int, rows: int, regimes: int, stay: float = STAY) -> np.ndarray:
    """A chain that moves to each other regime with equal chance."""
    rng = np.random.default_rng(seed)
    moves = rng.random(rows) >= stay
    shift = rng.integers(1, max(regimes, 2), rows)
    return np.cumsum(np.where(moves, shift, 0)) % regimes


def observations(seed: int, labels: np.ndarray, sigmas: float) -> np.ndarray:
    """Two quantities; the first one's means are `sigmas` standard deviations apart."""
    noise = np.random.default_rng(seed + 1000).normal(size=(labels.size, 2))
    noise[:, 1] += 0.6 * noise[:, 0]  # correlated inside a regime
    noise[:, 0] += sigmas * labels
    return noise


@pytest.mark.parametrize("regimes", [2, 3])
def test_labels_planted_three_sigma_apart_come_back(regimes: int) -> None:
    labels = planted_labels(0, 3000, regimes)
    x = observations(0, labels, 3.0)
    model = fit_hidden_markov(x, regimes)
    assert adjusted_rand_score(labels, model.labels(x)) >= 0.95
    causal = model.filter(x).argmax(axis=1)
    assert adjusted_rand_score(labels, causal) >= 0.9
    np.testing.assert_allclose(np.diag(model.transition), STAY, atol=0.015)
    np.testing.assert_allclose(model.means[:, 0], 3.0 * np.arange(regimes), atol=0.15)
    # A filter of the planted model itself is hardly better than the one that was learned.
    covariance = np.array([[1.0, 0.6], [0.6, 1.36]])
    off = (1.0 - STAY) / (regimes - 1)
    truth = RegimeModel(
        np.full(regimes, 1.0 / regimes),
        np.where(np.eye(regimes) > 0, STAY, off),
        np.column_stack([3.0 * np.arange(regimes), np.zeros(regimes)]),
        np.tile(covariance, (regimes, 1, 1)),
        0.0,
        len(x),
        memory=True,
    )
    assert model.log_likelihood >= truth.score(x)
    fresh_labels = planted_labels(5, 3000, regimes)
    fresh = observations(5, fresh_labels, 3.0)
    assert model.score(fresh) >= truth.score(fresh) - 30.0  # out of sample


@pytest.mark.parametrize("regimes", [1, 2, 3])
def test_bic_recovers_the_number_of_regimes(regimes: int) -> None:
    x = observations(1, planted_labels(1, 1500, regimes), 3.0)
    models = [fit_hidden_markov(x, k, starts=2, tolerance=1e-5) for k in range(1, 5)]
    assert choose_by_bic(models).regimes == regimes


def test_a_mixture_needs_more_distance_because_it_has_no_memory() -> None:
    """At 3 sigma even the best boundary errs on 6.7 % of two equal halves; at 4.5 on 1.2 %."""
    labels = planted_labels(2, 3000, 2)
    near, far = observations(2, labels, 3.0), observations(2, labels, 4.5)
    mixture = fit_mixture(far, 2)
    assert adjusted_rand_score(labels, mixture.labels(far)) >= 0.9
    # The correlated second quantity widens 3 sigma to 3 * sqrt(1 / (1 - 0.36 / 1.36)) = 3.5.
    at_three = adjusted_rand_score(labels, fit_mixture(near, 2).labels(near))
    assert 0.75 < at_three < adjusted_rand_score(labels, fit_hidden_markov(near, 2).labels(near))
    models = [fit_mixture(far, k) for k in range(1, 5)]
    assert choose_by_bic(models).regimes == 2


def test_expectation_maximisation_never_lowers_the_likelihood() -> None:
    x = observations(3, planted_labels(3, 800, 2), 1.5)
    values = [
        fit_hidden_markov(x, 2, starts=1, iterations=k, tolerance=0.0).log_likelihood
        for k in range(1, 12)
    ]
    assert np.all(np.diff(values) > -1e-3)  # the covariance floor and pseudo counts cost a little
    assert values[-1] > values[0] + 1.0


def test_unknown_rows_and_restarts() -> None:
    labels = planted_labels(4, 2000, 2)
    x = observations(4, labels, 3.0)
    restart = np.zeros(2000, np.bool_)
    restart[[0, 700, 1400]] = True
    holes = x.copy()
    holes[::5, 1] = np.nan
    model = fit_hidden_markov(holes, 2, restart)
    assert model.observations == 1600
    assert adjusted_rand_score(labels, model.labels(holes, restart)) >= 0.9
    assert np.isfinite(model.filter(holes, restart)).all()


def test_same_seed_same_model() -> None:
    x = observations(6, planted_labels(6, 500, 2), 3.0)
    a, b = fit_hidden_markov(x, 2, seed=3), fit_hidden_markov(x, 2, seed=3)
    assert a.means.tobytes() == b.means.tobytes()
    assert a.transition.tobytes() == b.transition.tobytes()


def clearing_prices(seed: int, auctions: int, stay: float) -> tuple[np.ndarray, np.ndarray]:
    """Public trace of auctions under hidden competition: (regime, ln(1 - clearing fraction)).

    Rivals' bid fractions are Kumaraswamy(a, b), their number Poisson; the highest bid is drawn from
    the distribution of the maximum, nan where nobody bid.
    """
    rng = np.random.default_rng(seed)
    regime = planted_labels(seed, auctions, 2, stay)
    rivals = np.array([4.0, 6.0])[regime]
    a, b = np.array([8.0, 40.0])[regime], np.array([800.0, 20.0])[regime]
    q = 1.0 + np.log(rng.random(auctions)) / rivals
    top = (1.0 - (1.0 - np.maximum(q, 1e-12)) ** (1.0 / b)) ** (1.0 / a)
    return regime, np.where(q > 0.0, np.log1p(-top), np.nan)


def test_competition_regimes_come_back_from_clearing_prices() -> None:
    """Sharp regimes (rivals near 0.45 or near 0.95 of the value), seen through clearing prices."""
    regime, gap = clearing_prices(0, 4000, stay=0.99)
    x = gap[:, None]
    models = [fit_hidden_markov(x, k, starts=2) for k in (1, 2)]
    model = choose_by_bic(models)
    assert model.regimes == 2
    # Rising order of ln(1 - clearing): the first one is the regime of high bids.
    assert adjusted_rand_score(1 - regime, model.labels(x)) >= 0.95
    unseen, gap = clearing_prices(1, 4000, stay=0.99)
    causal = model.filter(gap[:, None])[:, 0]
    assert np.mean((causal > 0.5) == (unseen == 1)) >= 0.97


@pytest.mark.parametrize(
    ("x", "regimes", "words"),
    [
        (np.zeros(100), 1, r"\(100,\)"),
        (np.random.default_rng(0).normal(size=(30, 1)), 2, "30 known observations for 2"),
        (np.random.default_rng(0).normal(size=(30, 1)), 0, "at least one regime"),
        (np.full((50, 1), np.nan), 1, "0 known observations"),
        (np.ones((50, 1)), 1, "quantity 0 is 1.0 everywhere"),
    ],
)
def test_what_holds_no_regimes_is_refused(x: np.ndarray, regimes: int, words: str) -> None:
    with pytest.raises(RegimeError, match=words):
        fit_mixture(x, regimes)
    with pytest.raises(RegimeError, match=words):
        fit_hidden_markov(x, regimes)


def test_marks_must_fit_the_rows() -> None:
    x = observations(0, planted_labels(0, 100, 2), 3.0)
    with pytest.raises(RegimeError, match="99 marks for 100 rows"):
        fit_hidden_markov(x, 2, np.zeros(99, np.bool_))
