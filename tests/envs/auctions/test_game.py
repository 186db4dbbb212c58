"""The bare auctions: interfaces, who wins, who pays, and draws that depend on nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test
from scipy import stats

from envs.auctions.equilibrium import (
    CommonValue,
    LogNormalLaw,
    PowerLaw,
    Rivals,
    StationaryRivals,
    first_price_bid,
)
from envs.auctions.game import (
    AuctionGame,
    AuctionParallelEnv,
    AuctionVectorEnv,
    linear_fractions,
    log_gap_fractions,
)

GAMES = {
    "uniform": AuctionGame(PowerLaw(), rivals=Rivals(2)),
    "power self-play": AuctionGame(PowerLaw(2.0), learners=3),
    "lognormal": AuctionGame(LogNormalLaw(), rivals=Rivals(2)),
    "lognormal, learners and scripted": AuctionGame(LogNormalLaw(), 2, Rivals(1)),
    "Poisson": AuctionGame(PowerLaw(), rivals=Rivals(rate=2.0)),
    "pool": AuctionGame(PowerLaw(), learners=4, join=0.5),
    "common value": AuctionGame(CommonValue(5)),
    "common value self-play": AuctionGame(CommonValue(3), learners=3),
    "stationary": AuctionGame(StationaryRivals(), fractions=log_gap_fractions()),
}


def random_actions(env: AuctionVectorEnv, rng: np.random.Generator) -> np.ndarray:
    scores = rng.random((env.num_envs, env.game.actions)) * env.action_masks()
    return scores.argmax(axis=1)


@pytest.mark.parametrize("name", GAMES)
def test_pettingzoo_accepts_the_game(name: str) -> None:
    parallel_api_test(AuctionParallelEnv(GAMES[name], rounds=20), num_cycles=50)
    parallel_seed_test(lambda: AuctionParallelEnv(GAMES[name], rounds=20), num_cycles=30)


@pytest.mark.parametrize("name", GAMES)
def test_observations_and_rewards_stay_in_bounds(name: str) -> None:
    game = GAMES[name]
    env = AuctionVectorEnv(32 * game.learners, game, rounds=16)
    rng = np.random.default_rng(0)
    seen, _ = env.reset(seed=1)
    for _ in range(40):
        assert env.observation_space.contains(seen)
        seen, rewards, terminated, truncated, infos = env.step(random_actions(env, rng))
        assert np.isfinite(rewards).all()
        assert not terminated.any()
        assert np.all(rewards[infos["bid"] < 0.0] == 0.0)
        assert np.all(infos["bid"][infos["won"] > 0] >= infos["top_other"][infos["won"] > 0])
        per_game = infos["won"].reshape(-1, game.learners).sum(axis=1)
        assert np.all(per_game <= 1.0)
        if truncated.any():
            assert truncated.all()
            assert infos["final_obs"].shape == seen.shape


@pytest.mark.parametrize("name", GAMES)
def test_results_do_not_depend_on_the_number_of_games(name: str) -> None:
    game = GAMES[name]
    few = AuctionVectorEnv(3 * game.learners, game, rounds=8)
    many = AuctionVectorEnv(11 * game.learners, game, rounds=8)
    rng = np.random.default_rng(5)
    a, b = few.reset(seed=9)[0], many.reset(seed=9)[0]
    for _ in range(20):
        n = few.num_envs
        assert np.array_equal(a, b[:n])
        actions = random_actions(many, rng)
        a, ra, _, ta, ia = few.step(actions[:n])
        b, rb, _, tb, ib = many.step(actions)
        assert np.array_equal(ra, rb[:n])
        assert np.array_equal(ta, tb[:n])
        assert all(np.array_equal(ia[key], ib[key][:n]) for key in ("won", "bid", "value"))


@pytest.mark.parametrize("name", ["pool", "common value", "lognormal"])
def test_a_saved_state_continues_to_the_same_auctions(name: str) -> None:
    game = GAMES[name]
    env = AuctionVectorEnv(4 * game.learners, game, rounds=8)
    rng = np.random.default_rng(2)
    env.reset(seed=4)
    for _ in range(5):
        env.step(random_actions(env, rng))
    saved = env.state()
    actions = [random_actions(env, rng)]
    first = [env.step(actions[0])]
    for _ in range(9):
        actions.append(random_actions(env, rng))
        first.append(env.step(actions[-1]))
    other = AuctionVectorEnv(4 * game.learners, game, rounds=8)
    other.set_state(saved)
    for action, expected in zip(actions, first):
        got = other.step(action)
        assert np.array_equal(got[0], expected[0])
        assert np.array_equal(got[1], expected[1])
    with pytest.raises(ValueError, match="num_envs"):
        AuctionVectorEnv(5 * game.learners, game).set_state(saved)


def test_pettingzoo_plays_the_auctions_of_the_vector_environment() -> None:
    game = GAMES["power self-play"]
    lanes, agents = AuctionVectorEnv(3, game, rounds=6), AuctionParallelEnv(game, rounds=6)
    seen, _ = lanes.reset(seed=3)
    rows, _ = agents.reset(seed=3)
    for turn in range(6):
        assert np.array_equal(np.stack(list(rows.values())), seen)
        actions = np.array([turn, 2 * turn, 40])
        seen, rewards, _, truncated, infos = lanes.step(actions)
        named = dict(zip(agents.agents, actions.tolist()))
        rows, paid, _, ended, told = agents.step(named)
        assert list(paid.values()) == rewards.tolist()
        assert list(ended.values()) == truncated.tolist()
        assert [told[agent]["won"] for agent in told] == infos["won"].tolist()
    assert agents.agents == []
    with pytest.raises(RuntimeError, match="reset"):
        agents.step({})


def test_first_price_rewards_are_value_less_bid_for_the_highest() -> None:
    env = AuctionVectorEnv(300, AuctionGame(PowerLaw(), learners=3))
    env.reset(seed=0)
    fractions = np.random.default_rng(0).random(300)
    _, rewards, _, _, infos = env.step_fractions(fractions)
    bids = (fractions * infos["value"]).reshape(-1, 3)
    winner = bids.argmax(axis=1)
    expected = np.zeros((100, 3))
    rows = np.arange(100)
    expected[rows, winner] = (infos["value"].reshape(-1, 3) - bids)[rows, winner]
    np.testing.assert_allclose(rewards, expected.ravel(), atol=1e-15)


def test_losers_pay_without_revert_protection_and_abstaining_is_free() -> None:
    prize = CommonValue(3, value=2.0, gas=0.1, failed_gas=0.03, loser_share=0.2)
    env = AuctionVectorEnv(3, AuctionGame(prize, learners=3))
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step(np.array([0, 32, 64]))
    bids = np.array(linear_fractions())[[31, 63]] * 1.9
    assert infos["won"].tolist() == [0.0, 0.0, 1.0]
    np.testing.assert_allclose(rewards, [0.0, -(0.2 * bids[0] + 0.03), 2.0 - bids[1] - 0.1])


def test_ties_are_broken_by_a_fair_lot() -> None:
    env = AuctionVectorEnv(3 * 4000, AuctionGame(CommonValue(3), learners=3))
    env.reset(seed=0)
    _, _, _, _, infos = env.step(np.full(env.num_envs, 10))
    wins = infos["won"].reshape(-1, 3).sum(axis=0)
    assert wins.sum() == 4000
    assert stats.chisquare(wins).pvalue > 1e-4


def test_learners_who_did_not_join_may_only_abstain() -> None:
    env = AuctionVectorEnv(400, GAMES["pool"])
    env.reset(seed=0)
    masks = env.action_masks()
    absent = ~masks[:, 1]
    assert 140 < absent.sum() < 260
    assert masks[:, 0].all()
    _, rewards, _, _, infos = env.step_fractions(np.full(400, 0.9))
    assert np.all(infos["bid"][absent] == -1.0)
    assert np.all(rewards[absent] == 0.0)


def _top_rivals(game: AuctionGame, auctions: int = 60_000) -> np.ndarray:
    env = AuctionVectorEnv(auctions // 20, game)
    env.reset(seed=8)
    return np.concatenate(
        [env.step_fractions(np.full(env.num_envs, 0.5))[4]["top_other"] for _ in range(20)]
    )


@pytest.mark.parametrize(
    ("game", "share_above"),
    [
        (
            AuctionGame(PowerLaw(3.0), rivals=Rivals(2)),
            lambda v: (first_price_bid(PowerLaw(3.0), Rivals(2), v), v**6),
        ),
        (
            AuctionGame(PowerLaw(), rivals=Rivals(rate=2.0)),
            lambda v: (first_price_bid(PowerLaw(), Rivals(rate=2.0), v), np.exp(-2.0 * (1.0 - v))),
        ),
        (
            AuctionGame(LogNormalLaw(), rivals=Rivals(4)),
            lambda v: (first_price_bid(LogNormalLaw(), Rivals(4), v), LogNormalLaw().cdf(v) ** 4),
        ),
        (
            AuctionGame(CommonValue(5)),
            lambda v: (CommonValue(5).top * v, CommonValue(5).win(CommonValue(5).top * v)),
        ),
        (
            AuctionGame(StationaryRivals(3, 0.8, 18, 2)),
            lambda v: (v, StationaryRivals(3, 0.8, 18, 2).win(v)),
        ),
    ],
)
def test_scripted_rivals_bid_their_law(game: AuctionGame, share_above: Callable[..., Any]) -> None:
    """The share of highest rival bids below b(v) is P(win) at v, at every v of a grid."""
    top = _top_rivals(game)
    levels, expected = share_above(np.linspace(0.05, 0.995, 25))
    below = np.array([(top < level).mean() for level in levels])
    error = np.sqrt(np.maximum(expected * (1.0 - expected), 1e-5) / top.size)
    assert np.all(np.abs(below - expected) < 4.5 * error + 2e-5)


def test_flat_sampling_changes_own_values_only() -> None:
    flat = AuctionGame(LogNormalLaw(), rivals=Rivals(2), flat_z=(-3.0, 4.0))
    env = AuctionVectorEnv(20_000, flat)
    env.reset(seed=8)
    infos = env.step_fractions(np.full(20_000, 0.5))[4]
    z = np.log(infos["value"])
    assert stats.kstest(z, stats.uniform(-3.0, 7.0).cdf).pvalue > 1e-4
    plain = AuctionVectorEnv(20_000, GAMES["lognormal"])
    plain.reset(seed=8)
    other = plain.step_fractions(np.full(20_000, 0.5))[4]
    assert np.array_equal(infos["top_other"], other["top_other"])


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: AuctionGame(PowerLaw()), "one learner without rivals"),
        (lambda: AuctionGame(PowerLaw(), fractions=(0.5, 0.2)), "fractions"),
        (lambda: AuctionGame(CommonValue(3), rivals=Rivals(2)), "brings its own"),
        (lambda: AuctionGame(CommonValue(3), learners=4), "3 players"),
        (lambda: AuctionGame(StationaryRivals(), learners=2), "one learner"),
        (lambda: AuctionGame(PowerLaw(), 2, Rivals(rate=1.0)), "Poisson"),
        (lambda: AuctionGame(PowerLaw(), learners=2, flat_z=(-1.0, 1.0)), "flat_z"),
        (lambda: AuctionGame(PowerLaw(), learners=2, rival_abstain=0.3), "rival_abstain"),
        (lambda: AuctionVectorEnv(4, GAMES["power self-play"]), "num_envs"),
        (lambda: AuctionVectorEnv(3, GAMES["uniform"]).step(np.zeros(3, int)), "reset"),
        (lambda: AuctionVectorEnv(3, GAMES["uniform"]).reset(seed=[1, 2, 3]), "list"),
        (lambda: AuctionVectorEnv(3, GAMES["uniform"], split="held-out"), "split"),
    ],
)
def test_impossible_requests_are_refused(make: Callable[[], Any], word: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=word):
        make()
