"""The comparison: sums against the environment's own books, pairing, and the arithmetic around."""

from typing import Any

import numpy as np
import pytest

from agents.arms import POLICY, STATIC, play, sweep_static
from agents.baselines import greedy, no_op, static
from agents.config import EvaluationConfig
from agents.evaluate import STAGES, compare, merged_rates, verdict
from agents.scenarios import SCENARIOS, check_scenario, world_of
from agents.tally import Tally, best_net_eth
from envs.market import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.action import BIDS
from kernels.market import FOUND_CYCLE, FOUND_NET
from tests.history.recorded import data_file

QUICK = EvaluationConfig(seeds=2, episodes=24, resamples=200)


@pytest.fixture(scope="module")
def env(market: MarketConfig, paths: PricePaths) -> MarketVectorEnv:
    return MarketVectorEnv(32, market, paths, split="test")


def test_profit_is_the_searchers_wealth(env: MarketVectorEnv) -> None:
    """Rewards added up equal the simulator's double-entry books at the end of the episode."""
    observations, _ = env.reset(seed=1)
    bidder, total = greedy(0.9), np.zeros(32)
    for _ in range((env.config.episode_slots - 1) * env.config.ticks_per_slot):
        observations, rewards, *_ = env.step(bidder(observations, env.action_masks()))
        total += rewards
    np.testing.assert_allclose(total, env.wealth()["searcher"], atol=1e-12)
    tally = play(bidder, env, 1)
    assert tally.slots == env.config.episode_slots
    assert np.all(tally.profit_eth >= total - 1e-12)  # one more slot, never a loss with bundles


def test_counts_of_a_tally_agree_with_each_other(env: MarketVectorEnv) -> None:
    tally = play(static(20), env, 2)
    # An earlier bid still stands when its opportunity has gone.
    assert np.all(tally.bids >= tally.offered)
    assert np.array_equal(tally.taken, tally.offered)
    assert np.array_equal(tally.bids, tally.won + sum(tally.lost.values()))
    assert tally.won.sum() > 0
    assert all(tally.lost[name].sum() > 0 for name in ("outbid", "stale", "filtered"))
    rates = tally.ratios()
    assert rates["participation"] == 1.0
    assert 0.0 < rates["share_of_best_response"] <= 1.0
    assert rates["share_of_available"] < rates["share_of_best_response"]
    lost = sum(rates[f"lost_{name}"] for name in tally.lost)
    assert rates["win_rate"] + lost == pytest.approx(1.0)


def test_available_profit_is_read_back_from_the_observation(env: MarketVectorEnv) -> None:
    observations, _ = env.reset(seed=5)
    for _ in range(8):
        masks = env.action_masks()
        tiles = env.state()["tiles"]
        cycle, net = (tiles[:, row].reshape(-1)[:32] for row in (FOUND_CYCLE, FOUND_NET))
        expected = np.where(cycle >= 0, net, 0.0)
        found = best_net_eth(observations, masks)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
        observations, *_ = env.step(no_op(observations, masks))


def test_the_same_seed_gives_the_same_episodes(env: MarketVectorEnv) -> None:
    first = play(greedy(0.8), env, 7)
    play(no_op, env, 8)
    again = play(greedy(0.8), env, 7)
    assert np.array_equal(first.profit_eth, again.profit_eth)
    assert not np.array_equal(first.profit_eth, play(greedy(0.8), env, 8).profit_eth)


def test_merged_rates_weigh_episodes_not_tallies() -> None:
    small, large = Tally(1), Tally(3)
    for tally, won in ((small, 1.0), (large, 0.0)):
        tally.slots = 4
        tally.bids[:], tally.won[:], tally.offered[:] = 4.0, 4.0 * won, 4.0
    assert merged_rates([small, large])["win_rate"] == 0.25


def test_arms_are_compared_on_the_same_episodes(market: MarketConfig, paths: PricePaths) -> None:
    seen: list[float] = []
    calls: list[None] = []
    policy = greedy(0.8)
    result = compare(
        policy,
        "default",
        market,
        paths,
        QUICK,
        lambda available, rewards, infos: seen.append(float(rewards.sum())),
        lambda: calls.append(None),
    )
    assert len(calls) == STAGES
    assert len(seen) == QUICK.seeds * market.episode_slots * market.ticks_per_slot
    assert len(result.static_scores_eth) == BIDS
    assert sum(seen) == pytest.approx(result.scores[POLICY].sum())
    # The policy under test is the 80 % rule itself: paired, it can differ from it nowhere.
    assert np.array_equal(result.scores[POLICY], result.scores["greedy 80 %"])
    summary = result.summary(QUICK)
    twin = summary["greedy 80 %"]["policy_minus_arm_iqm_eth"]
    assert twin == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert summary["greedy 80 %"]["probability_policy_better"] == 0.5
    assert summary["no-op"]["iqm_eth"] == 0.0
    assert summary["no-op"]["win_rate"] == 0.0
    for arm in summary.values():
        assert arm["iqm_95_eth"][0] <= arm["iqm_eth"] <= arm["iqm_95_eth"][1]
        assert arm["cvar_eth"] <= arm["mean_eth"]


def test_best_static_is_the_best_of_the_grid(market: MarketConfig, paths: PricePaths) -> None:
    env = MarketVectorEnv(48, market, paths, split="validation")
    sweep = sweep_static(env)
    assert sweep.scores_eth[sweep.best] == max(sweep.scores_eth)
    assert sweep.best not in (0, BIDS - 1)  # neither a free ride nor the whole profit


def arms_of(ours: tuple[float, float, float], theirs: tuple[float, float, float]) -> dict[str, Any]:
    rates = {"win_rate": 0.5, "bid_share": 0.8, "participation": 1.0}
    gap = {"value": ours[0] - theirs[0], "low": ours[1] - theirs[2], "high": ours[2] - theirs[1]}
    return {
        POLICY: {"s": {"iqm_eth": ours[0], "iqm_95_eth": list(ours[1:]), **rates}},
        STATIC: {
            "s": {
                "iqm_eth": theirs[0],
                "iqm_95_eth": list(theirs[1:]),
                "fraction": 0.77,
                "policy_minus_arm_iqm_eth": gap,
                **rates,
            }
        },
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ((2.0, 1.8, 2.2), (1.0, 0.9, 1.1), "beats the best static fraction with disjoint"),
        ((1.2, 1.12, 1.3), (1.1, 1.0, 1.15), "is not shown to beat"),
        ((0.5, 0.4, 0.55), (1.0, 0.9, 1.1), "does worse than"),
    ],
)
def test_the_verdict_says_what_the_intervals_show(
    ours: tuple[float, float, float], theirs: tuple[float, float, float], words: str
) -> None:
    sentence = verdict(arms_of(ours, theirs), "s")
    assert words in sentence
    assert "77" in sentence


def test_scenarios_are_worlds_and_unknown_ones_are_named(
    market: MarketConfig, paths: PricePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SCENARIOS:
        assert world_of(name, market, paths)[1] is paths
    assert world_of("default", market, paths)[0] == market
    assert world_of("crowded", market, paths)[0].rival_log_rate > market.rival_log_rate
    with pytest.raises(ValueError, match="scenario 'calm': choose from default"):
        check_scenario("calm")
    monkeypatch.delenv("MEVRL_DATA", raising=False)
    with pytest.raises(ValueError, match="plays recorded blocks: set MEVRL_DATA"):
        world_of("replay", market, paths)


def test_bidders_can_be_compared_on_recorded_blocks(
    market: MarketConfig, paths: PricePaths
) -> None:
    data_file("blocks/basefee_windows.parquet")
    recorded, played = world_of("replay", market, paths)
    assert played.recorded.base_fee_gwei.size == 5 * len(played)
    env = MarketVectorEnv(16, recorded, played, split="test")
    assert np.all(play(greedy(0.9), env, 1).profit_eth >= 0.0)
