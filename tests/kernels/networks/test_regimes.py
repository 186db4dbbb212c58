"""The regime filter and smoother against the sum over every path of regimes."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from kernels.networks.regimes import (
    FILTERED,
    PREDICTED,
    filter_history,
    regime_step,
    smooth_history,
)
from models.patterns.regimes import RegimeModel

STEPS = 6


def model(seed: int, regimes: int, quantities: int) -> RegimeModel:
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(regimes, quantities, quantities)) + 1.5 * np.eye(quantities)
    return RegimeModel(
        start=rng.dirichlet(np.ones(regimes)),
        transition=rng.dirichlet(np.ones(regimes), size=regimes),
        means=2.0 * rng.normal(size=(regimes, quantities)),
        covariances=roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(quantities),
        log_likelihood=0.0,
        observations=1,
        memory=True,
    )


def by_every_path(m: RegimeModel, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likelihood of every path of regimes: (filtered, smoothed, expected moves)."""
    density = np.array(
        [
            [multivariate_normal.pdf(row, mean, cov) if np.isfinite(row).all() else 1.0]
            for row in x
            for mean, cov in zip(m.means, m.covariances, strict=True)
        ]
    ).reshape(len(x), m.regimes)

    def weights(steps: int) -> dict[tuple[int, ...], float]:
        paths = {}
        for path in product(range(m.regimes), repeat=steps):
            p = m.start[path[0]] * density[0, path[0]]
            for t in range(1, steps):
                p *= m.transition[path[t - 1], path[t]] * density[t, path[t]]
            paths[path] = p
        return paths

    filtered = np.zeros((len(x), m.regimes))
    for t in range(len(x)):
        for path, p in weights(t + 1).items():
            filtered[t, path[-1]] += p
    whole = weights(len(x))
    smoothed, moves = np.zeros_like(filtered), np.zeros((m.regimes, m.regimes))
    for path, p in whole.items():
        for t in range(len(x)):
            smoothed[t, path[t]] += p
            if t:
                moves[path[t - 1], path[t]] += p
    total = sum(whole.values())
    filtered /= filtered.sum(axis=1, keepdims=True)
    return filtered, smoothed / total, np.append(moves / total, np.log(total))


@pytest.mark.parametrize(("regimes", "quantities"), [(1, 1), (2, 1), (3, 2), (2, 3)])
@pytest.mark.parametrize("unknown", [False, True])
def test_filter_and_smoother_equal_the_sum_over_paths(
    regimes: int, quantities: int, unknown: bool
) -> None:
    m = model(regimes + quantities, regimes, quantities)
    x = 2.0 * np.random.default_rng(quantities).normal(size=(STEPS, quantities))
    if unknown:
        x[2, -1] = np.nan
    expected, smoothed, rest = by_every_path(m, x)
    np.testing.assert_allclose(m.filter(x), expected, atol=1e-12)
    np.testing.assert_allclose(m.smooth(x), smoothed, atol=1e-12)
    assert m.score(x) == pytest.approx(rest[-1], abs=1e-10)
    out, moves = np.empty_like(smoothed), np.empty((regimes, regimes))
    begins = np.arange(STEPS) == 0
    smooth_history(begins, m.start, m.transition, expected, out, moves)
    np.testing.assert_allclose(moves.ravel(), rest[:-1], atol=1e-12)


def test_a_step_at_a_time_equals_history_to_the_byte_and_sees_no_future() -> None:
    m = model(7, 3, 2)
    x = np.random.default_rng(1).normal(size=(200, 2))
    x[50] = np.nan
    restart = np.zeros(200, np.bool_)
    restart[[0, 120]] = True
    history = m.filter(x, restart)
    state, scratch = np.zeros((2, 3)), np.empty(3)
    for t in range(200):
        if restart[t]:
            state[PREDICTED] = m.start
        regime_step(x[t], m.transition, m.means, m.factors, m.log_scale, state, scratch)
        assert state[FILTERED].tobytes() == history[t].tobytes()
    shaken = x.copy()
    shaken[100:] *= -3.0
    assert m.filter(shaken, restart)[:100].tobytes() == history[:100].tobytes()
    # A restart forgets: what came before it changes nothing after it, smoothed or not.
    shaken = x.copy()
    shaken[:120] += 5.0
    assert m.filter(shaken, restart)[120:].tobytes() == history[120:].tobytes()
    np.testing.assert_allclose(m.smooth(shaken, restart)[120:], m.smooth(x, restart)[120:])


def test_probabilities_survive_observations_that_no_regime_explains() -> None:
    m = model(3, 2, 1)
    far = np.array([[0.0], [1e8], [-1e8], [np.inf], [0.0]])
    p = m.filter(far)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    # An impossible regime stays impossible.
    never = RegimeModel(
        *(np.array([1.0, 0.0]), np.eye(2), m.means, m.covariances, 0.0, 1),
        memory=True,
    )
    np.testing.assert_array_equal(never.filter(far)[:, 1], 0.0)


def test_equal_rows_are_a_mixture() -> None:
    m = model(5, 3, 2)
    mixture = RegimeModel(
        *(m.start, np.tile(m.start, (3, 1)), m.means, m.covariances, 0.0, 1),
        memory=False,
    )
    x = np.random.default_rng(2).normal(size=(50, 2))
    density = [
        weight * multivariate_normal.pdf(x, mean, cov)
        for weight, mean, cov in zip(m.start, m.means, m.covariances, strict=True)
    ]
    expected = np.array(density).T / np.sum(density, axis=0)[:, None]
    np.testing.assert_allclose(mixture.filter(x), expected, atol=1e-12)
    np.testing.assert_allclose(mixture.smooth(x), expected, atol=1e-12)
    out = np.empty((50, 3))
    total = filter_history(
        *(x, np.zeros(50, np.bool_), m.start, mixture.transition),
        *(m.means, mixture.factors, mixture.log_scale, out),
    )
    assert total == pytest.approx(np.log(np.sum(density, axis=0)).sum())
