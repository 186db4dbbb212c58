"""Hidden competition: its law, its traps, its environment, and its exact references."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from envs.hidden_competition.env import HiddenCompetitionEnv
from envs.hidden_competition.model import (
    FRACTIONS,
    LOG_VALUE_CAP,
    LOG_VALUE_MEAN,
    LOG_VALUE_SD,
    SCENARIOS,
    Chains,
    HiddenCompetition,
    record,
)
from envs.hidden_competition.references import (
    CLEARING_PUBLIC,
    FILTERS,
    GRID,
    NO_HISTORY,
    OWN_OUTCOME,
    REGIME_KNOWN,
    RIVAL_SEEN,
    bayes_bids,
    bayes_win_probabilities,
    capture,
    clairvoyant,
    tune,
)

D = SCENARIOS["D"]


@pytest.fixture(scope="module")
def chains() -> Chains:
    return record(D, "train", 5, 64, 1000)


def test_the_default_scenario_is_the_published_one(chains: Chains) -> None:
    """Regime by regime: mean rivals, uncontested share and mean value as first measured."""
    uncontested, value = [], []
    for regime in range(3):
        here = chains.regime == regime
        assert here.mean() == pytest.approx(1 / 3, abs=0.06)
        uncontested.append((chains.top_rival[here] < 0.0).mean())
        value.append(np.exp(chains.log_value[here]).mean())
    np.testing.assert_allclose(uncontested, [0.076, 0.027, 0.006], atol=0.006)
    np.testing.assert_allclose(value, [0.052, 0.144, 0.391], rtol=0.25)  # Pareto tail
    assert chains.log_value.max() <= LOG_VALUE_CAP
    switches = (np.diff(chains.regime.astype(int), axis=0) != 0).mean()
    assert switches == pytest.approx(1 / 50, abs=0.003)


def test_closed_forms_agree_with_the_draws(chains: Chains) -> None:
    assert D.uncontested() == pytest.approx((chains.top_rival < 0.0).mean(), abs=0.003)
    value = np.exp(chains.log_value)
    for fraction in (0.0, 0.5, 0.75, 0.9):
        exact = float(D.static_curve(np.array([fraction]))[0])
        drawn = (1.0 - fraction) * value * (chains.top_rival < fraction)
        error = drawn.std() / np.sqrt(drawn.size)
        assert abs(drawn.mean() - exact) < 5.0 * error
    for regime in range(3):
        nodes, mass = D.value_nodes(regime)
        assert mass.sum() == pytest.approx(1.0)
        here = np.sort(chains.log_value[chains.regime == regime])
        cumulated = np.interp(here, nodes, np.cumsum(mass))
        # values within a chain are independent given the regime
        assert np.abs(cumulated - (np.arange(here.size) + 0.5) / here.size).max() < 0.015


def test_top_rivals_follow_the_maximum_of_a_poisson_number_of_bids(chains: Chains) -> None:
    """P(x <= f) = exp(-rate (1 - G(f))): uniform when inserted, given that somebody bids."""
    z = (chains.log_value - LOG_VALUE_MEAN) / LOG_VALUE_SD
    m = chains.regime
    rate = np.exp(np.minimum(np.array(D.log_rate)[m] + D.value_slope * z, 4.0))
    bid = chains.top_rival >= 0.0
    above = (1.0 - chains.top_rival[bid] ** np.array(D.bid_a)[m][bid]) ** np.array(D.bid_b)[m][bid]
    none = np.exp(-rate[bid])
    u = (np.exp(-rate[bid] * above) - none) / (1.0 - none)
    assert stats.kstest(u, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(
    ("change", "word"),
    [
        # few rivals, as in the first model that was tried
        ({"log_rate": (-0.5, 0.7, 2.0)}, "free ride: nobody else bids"),
        ({"log_rate": (0.5, 0.8, 1.0)}, "rivals bid on average"),
        # many rivals on average, who leave the valuable auctions alone
        ({"log_rate": (2.5, 2.5, 2.5), "value_slope": -1.5}, "free ride"),
        ({"bid_a": (5.0, 8.0)}, "bid_a"),
        ({"bid_b": (0.0, 1.0, 1.0)}, "bid_b"),
        ({"persistence": 1.0}, "persist"),
        ({"value_slope": np.nan}, "finite"),
    ],
)
def test_traps_are_refused_and_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        HiddenCompetition(**change)


def test_the_environment_plays_the_recorded_chains() -> None:
    env = HiddenCompetitionEnv(6, D, window=3, episode_auctions=30, split="test")
    seen, _ = env.reset(seed=4)
    recorded = [record(D, "test", 4, 6, 30, episode) for episode in range(2)]
    rng = np.random.default_rng(0)
    history: list[tuple[np.ndarray, ...]] = []
    for t in range(50):
        chains = recorded[t // 30]
        z = (chains.log_value[t % 30] - LOG_VALUE_MEAN) / LOG_VALUE_SD
        np.testing.assert_allclose(seen[:, 0], z / 2.0, rtol=1e-6)
        expected = np.zeros((6, 12), np.float32)
        for age, entry in enumerate(reversed(history[-3:])):
            expected[:, 4 * age : 4 * age + 4] = np.stack(entry, axis=1)
        np.testing.assert_allclose(seen[:, 1:], expected, rtol=1e-6)
        actions = rng.integers(0, 64, 6)
        seen, rewards, _, truncated, infos = env.step(actions)
        fraction, rival = FRACTIONS[actions], chains.top_rival[t % 30]
        won = fraction > rival
        np.testing.assert_array_equal(infos["won"], won)
        value = np.exp(chains.log_value[t % 30])
        np.testing.assert_allclose(rewards, won * (1.0 - fraction) * value)
        np.testing.assert_allclose(infos["best_response"], clairvoyant(chains)[t % 30] * value)
        expectation = capture(D, chains, np.broadcast_to(fraction, (30, 6)))[t % 30]
        np.testing.assert_allclose(infos["win_probability"] * (1.0 - fraction), expectation)
        history.append((2 * np.maximum(fraction, rival) - 1, 2 * won - 1, 2 * fraction - 1, z / 2))
        assert truncated.all() == (t == 29)
        if t == 29:
            np.testing.assert_allclose(infos["final_obs"][:, 4], z / 2.0, rtol=1e-6)
            history.clear()


def test_results_do_not_depend_on_the_number_of_chains_and_restore_exactly() -> None:
    few, many = (
        HiddenCompetitionEnv(2, episode_auctions=9),
        HiddenCompetitionEnv(7, episode_auctions=9),
    )
    few.reset(seed=1)
    many.reset(seed=1)
    rng = np.random.default_rng(3)
    for _ in range(12):
        actions = rng.integers(0, 64, 7)
        a, b = few.step(actions[:2]), many.step(actions)
        assert np.array_equal(a[0], b[0][:2])
        assert np.array_equal(a[1], b[1][:2])
    other = HiddenCompetitionEnv(7, episode_auctions=9)
    other.set_state(many.state())
    for _ in range(12):
        actions = rng.integers(0, 64, 7)
        assert np.array_equal(other.step(actions)[0], many.step(actions)[0])
    with pytest.raises(ValueError, match="num_envs"):
        few.set_state(many.state())


def test_reward_modes_weigh_the_same_decision() -> None:
    arms = {
        mode: HiddenCompetitionEnv(400, reward=mode, cap_eth=0.05)
        for mode in ("eth", "capped", "fraction")
    }
    rewards, infos = {}, {}
    for mode, env in arms.items():
        env.reset(seed=2)
        _, rewards[mode], _, _, infos = env.step(np.full(400, 30))
    value = np.exp(infos["log_value"])
    np.testing.assert_allclose(rewards["eth"], rewards["fraction"] * value)
    np.testing.assert_allclose(rewards["capped"], rewards["fraction"] * np.minimum(value, 0.05))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: HiddenCompetitionEnv(0), "num_envs"),
        (lambda: HiddenCompetitionEnv(2, reward="wei"), "reward"),
        (lambda: HiddenCompetitionEnv(2).step(np.zeros(2, int)), "reset"),
        (lambda: HiddenCompetitionEnv(2).reset(seed=[1, 2]), "list"),
        (lambda: bayes_bids(D, record(D, "train", 0, 1, 5), 9), "mode"),
    ],
)
def test_impossible_requests_are_refused(make: Callable[[], Any], word: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=word):
        make()


def _plain_filter(model: HiddenCompetition, chains: Chains, chain: int, mode: int) -> np.ndarray:
    """The same filter written from the model alone: transition matrix, scipy densities."""
    a, b, rates = np.array(model.bid_a), np.array(model.bid_b), np.array(model.log_rate)
    shift, m = np.array(model.value_shift), model.regimes
    leave = 1.0 / model.persistence
    transition = np.full((m, m), leave / (m - 1)) + np.eye(m) * (1 - leave - leave / (m - 1))
    belief, bids = np.full(m, 1.0 / m), []
    for t in range(len(chains.log_value)):
        x, rival = chains.log_value[t, chain], chains.top_rival[t, chain]
        if t:
            belief = belief @ transition
        if mode == NO_HISTORY:
            belief = np.full(m, 1.0 / m)
        z = (x - shift - LOG_VALUE_MEAN) / LOG_VALUE_SD
        tail = 0.01 * stats.expon.pdf((z - stats.norm.ppf(0.99)) * LOG_VALUE_SD, scale=1 / 1.5)
        seen = np.where(z > stats.norm.ppf(0.99), tail, stats.norm.pdf(z) / LOG_VALUE_SD)
        belief = belief * seen / (belief * seen).sum()
        if mode == REGIME_KNOWN:
            belief = np.eye(m)[chains.regime[t, chain]]
        rate = np.exp(
            np.minimum(rates + model.value_slope * (x - LOG_VALUE_MEAN) / LOG_VALUE_SD, 4)
        )
        win = np.exp(-rate[:, None] * (1 - GRID ** a[:, None]) ** b[:, None])
        j = int(np.argmax((belief @ win) * (1 - GRID)))
        bids.append(GRID[j])
        if mode in (NO_HISTORY, REGIME_KNOWN):
            continue
        if (mode == RIVAL_SEEN and rival >= 0) or (mode == CLEARING_PUBLIC and rival > GRID[j]):
            above = (1 - rival**a) ** b
            density = a * b * rival ** (a - 1) * (1 - rival**a) ** (b - 1)
            likelihood = np.exp(-rate * above) * rate * density
        elif mode == RIVAL_SEEN:
            likelihood = np.exp(-rate)
        else:
            likelihood = win[:, j] if rival <= GRID[j] else 1.0 - win[:, j]
        belief = belief * likelihood / (belief * likelihood).sum()
    return np.array(bids)


@pytest.mark.parametrize("mode", FILTERS.values())
@pytest.mark.parametrize("scenario", ["D", "S"])
def test_filters_equal_a_plain_forward_algorithm(scenario: str, mode: int) -> None:
    model = SCENARIOS[scenario]
    chains = record(model, "train", 3, 3, 150)
    bids = bayes_bids(model, chains, mode)
    for chain in range(3):
        # a tie of two neighbouring grid bids may fall either way
        plain = _plain_filter(model, chains, chain, mode)
        assert np.mean(bids[:, chain] != plain) < 0.01
        assert np.abs(bids[:, chain] - plain).max() < 0.02


def test_more_information_earns_more(chains: Chains) -> None:
    def earned(bids: np.ndarray) -> float:
        return float(capture(D, chains, bids).sum())

    order = (NO_HISTORY, OWN_OUTCOME, CLEARING_PUBLIC, RIVAL_SEEN, REGIME_KNOWN)
    shares = [earned(bayes_bids(D, chains, mode)) for mode in order]
    assert shares == sorted(shares)
    rules = {name: earned(bids) for name, bids in tune(D, chains.first(16), 8).bids(chains).items()}
    assert rules["best static"] < min(rules["EMA of clearing"], rules["AIMD"]) < shares[1]
    assert rules["static per value decile"] < shares[0] * 1.01
    assert clairvoyant(chains).sum() > shares[-1]


def test_no_history_filter_ignores_the_past(chains: Chains) -> None:
    reversed_chains = Chains(*(np.ascontiguousarray(x[::-1]) for x in chains))  # type: ignore[arg-type]
    forward, backward = (bayes_bids(D, c, NO_HISTORY) for c in (chains, reversed_chains))
    assert np.array_equal(forward, backward[::-1])


def test_in_the_count_only_control_history_is_worth_little() -> None:
    model = SCENARIOS["count-only"]
    chains = record(model, "train", 5, 32, 1000)
    earned = {
        mode: float(capture(model, chains, bayes_bids(model, chains, mode)).sum())
        for mode in (NO_HISTORY, CLEARING_PUBLIC)
    }
    assert 1.0 < earned[CLEARING_PUBLIC] / earned[NO_HISTORY] < 1.1


def test_win_probabilities_of_the_filter_are_what_its_bids_maximise() -> None:
    """On the history of its own bids; on another's, the belief follows that history."""
    chains = record(D, "validation", 3, 6, 300)
    bids = bayes_bids(D, chains, CLEARING_PUBLIC)
    grid = np.broadcast_to(GRID, (*bids.shape, GRID.size))
    win = bayes_win_probabilities(D, chains, bids, grid)
    assert np.array_equal(GRID[(win * (1.0 - GRID)).argmax(axis=-1)], bids)
    low = bayes_win_probabilities(D, chains, np.zeros_like(bids), grid)
    high = bayes_win_probabilities(D, chains, np.ones_like(bids), grid)
    np.testing.assert_array_equal(low[0], high[0])
    # who bids nothing sees every highest rival: the filter that sees them maximises the same
    seen = bayes_bids(D, chains, RIVAL_SEEN)
    same = GRID[(low * (1.0 - GRID)).argmax(axis=-1)] == seen
    assert same.mean() > 0.99
    assert np.abs(low - high)[1:].mean() > 0.02


def test_win_probabilities_refuse_other_shapes() -> None:
    chains = record(D, "validation", 3, 2, 5)
    bids = np.full((5, 2), 0.5)
    with pytest.raises(ValueError, match="fractions"):
        bayes_win_probabilities(D, chains, bids, np.full((5, 3, 1), 0.5))
    with pytest.raises(ValueError, match="bids"):
        bayes_win_probabilities(D, chains, bids[:4], np.full((5, 2, 1), 0.5))
