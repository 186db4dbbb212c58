"""The comparison: sums against the environment's own books, pairing, and the arithmetic around."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from agents.bidders.arms import (
    ADAPTIVE,
    AIMD,
    NO_OP,
    POLICY,
    SCRIPTED,
    STATIC,
    STATIC_BY_VALUE,
    play,
    sweep_static,
)
from agents.bidders.baselines import FRACTIONS, greedy, no_op, static
from agents.config import EvaluationConfig
from agents.evaluate.comparison import Learned, compare_all
from agents.evaluate.held_out import HeldOut
from agents.evaluate.verdicts import ingredient_lines, strongest_other, verdict
from agents.measures.intervals import iqm
from agents.measures.tally import Tally, best_net_eth, joined
from agents.scenarios import (
    NAMES,
    RANKS,
    SCENARIOS,
    SEEDS_EACH,
    check_scenario,
    first_seed,
    world_of,
)
from envs.market.config import MarketConfig, PricePaths
from envs.market.paths import stand_in_paths
from envs.market.physics import efficiency_quantiles
from envs.market.randomness import SPLITS
from envs.vector import MarketVectorEnv
from kernels.market.action import BIDS, FIRST_PUBLIC
from kernels.market.tile import FOUND_CYCLE, FOUND_NET
from tests.support.recorded import data_file

QUICK = EvaluationConfig(seeds=2, episodes=24, resamples=200, scenarios=("default",))


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
    assert all(tally.lost[name].sum() > 0 for name in ("outbid", "stale_state", "filtered"))
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


def test_joined_rates_weigh_episodes_not_tallies() -> None:
    small, large = Tally(1), Tally(3)
    for tally, won in ((small, 1.0), (large, 0.0)):
        tally.slots = 4
        tally.bids[:], tally.won[:], tally.offered[:] = 4.0, 4.0 * won, 4.0
    assert joined([small, large]).ratios()["win_rate"] == 0.25


def test_arms_are_compared_on_the_same_episodes(market: MarketConfig, paths: PricePaths) -> None:
    calls: list[tuple[int, int]] = []
    market = market.changed({"blocks.mev_boost_share": 1.0})  # nobody bids in public
    policy = greedy(0.8)
    worse, stateless = static(30), static(5)
    learned = Learned(
        {"PPO history": policy, "PPO stateless": stateless},
        {POLICY: "a", "PPO history": "a", "PPO stateless": "b"},
        {POLICY: 3, "PPO history": 2, "PPO stateless": 1},
        {"PPO history": {"a": policy, "c": worse}, "PPO stateless": {"b": stateless}},
    )
    (result,) = compare_all(
        policy,
        HeldOut(market, paths, QUICK),
        learned,
        progress=lambda done, total: calls.append((done, total)),
    )
    tasks = len(SCRIPTED) - 1 + 3  # the best static bids are tuned together; three networks
    assert calls == [(done, tasks) for done in range(1, tasks + 1)]
    assert list(result.scores) == [POLICY, "PPO history", "PPO stateless", *SCRIPTED]
    assert 0.5 * result.played[POLICY].bids.sum() < result.curve.bids.sum()
    assert result.curve.bids.sum() <= result.played[POLICY].bids.sum()
    assert result.curve.won.sum() <= result.played[POLICY].won.sum()
    assert len(result.static_scores_eth) == BIDS
    # The policy under test is the 80 % rule itself: paired, it can differ from it nowhere.
    assert np.array_equal(result.scores[POLICY], result.scores["greedy 80 %"])
    summary = result.summary(QUICK)
    twin = summary["greedy 80 %"]["policy_minus_arm_iqm_eth"]
    assert twin == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert summary["greedy 80 %"]["probability_policy_better"] == 0.5
    low, high = summary["greedy 80 %"]["probability_policy_better_95"]
    assert low == high == 0.5
    assert summary[NO_OP]["iqm_eth"] == 0.0
    assert summary["no-op"]["win_rate"] == 0.0
    for arm in summary.values():
        assert arm["iqm_95_eth"][0] <= arm["iqm_eth"] <= arm["iqm_95_eth"][1]
        assert arm["cvar_eth"] <= arm["mean_eth"]
        for name in ("share_of_best_response", "share_of_available"):
            low, high = arm[f"{name}_95"]
            assert low <= arm[name] <= high
        assert arm["user_harm_eth"] > 0.0
    assert np.array_equal(result.scores["PPO history"], result.scores[POLICY])
    assert summary[POLICY]["settings_tried"] == 3
    tried = result.settings_tried()
    assert tried["all"] == 3 + sum(tried[arm] for arm in (STATIC, STATIC_BY_VALUE, *ADAPTIVE))
    added = result.ingredients(QUICK)
    assert set(added) == {"the history of auctions"}
    gap = iqm(result.scores["PPO history"].ravel()) - iqm(result.scores["PPO stateless"].ravel())
    assert added["the history of auctions"]["iqm_eth"]["value"] == pytest.approx(float(gap))
    over = added["the history of auctions"]["over_trainings"]
    assert (over["trainings_with"], over["trainings_without"]) == (2, 1)
    env = MarketVectorEnv(QUICK.episodes, market, paths, split="test")
    seeds = [first_seed("default") + k for k in range(QUICK.seeds)]
    ours = np.concatenate(
        [play(b, env, seed).profit_eth for b in (policy, worse) for seed in seeds]
    )
    gap = iqm(ours) - iqm(result.scores["PPO stateless"].ravel())
    assert over["iqm_eth"]["value"] == pytest.approx(float(gap))
    by_training = result.profit_by_training()
    assert {arm: list(names) for arm, names in by_training.items()} == {
        "PPO history": ["a", "c"],
        "PPO stateless": ["b"],
    }
    assert by_training["PPO history"]["a"] == summary[POLICY]["iqm_eth"]


def test_best_static_is_the_best_of_the_grid(market: MarketConfig, paths: PricePaths) -> None:
    env = MarketVectorEnv(48, market, paths, split="validation")
    sweep = sweep_static(env)
    assert sweep.scores_eth[sweep.best] == max(sweep.scores_eth)
    assert sweep.best not in (0, BIDS - 1)  # neither a free ride nor the whole profit


Ends = tuple[float, float, float]


def arms_of(ours: Ends, **others: Ends) -> dict[str, Any]:
    """The policy and other arms, each as IQM and the ends of its interval."""
    rates = {"win_rate": 0.5, "bid_share": 0.8, "participation": 1.0}
    names = {"static": STATIC, "aimd": AIMD, "learner": "PPO history"}
    arms = {POLICY: {"s": {"iqm_eth": ours[0], "iqm_95_eth": list(ours[1:]), **rates}}}
    for key, (value, low, high) in others.items():
        same = (value, low, high) == ours
        gap = (0.0, 0.0, 0.0) if same else (ours[0] - value, ours[1] - high, ours[2] - low)
        arms[names[key]] = {
            "s": {
                "iqm_eth": value,
                "iqm_95_eth": [low, high],
                "setting": "77.0%" if key == "static" else "up 0.2, down 0.02",
                "policy_minus_arm_iqm_eth": dict(zip(("value", "low", "high"), gap)),
                **rates,
            }
        }
    return arms


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ((2.0, 1.8, 2.2), (1.0, 0.9, 1.1), "the policy earns most, 2.0000 ETH"),
        ((1.2, 1.12, 1.3), (1.1, 1.0, 1.15), "the policy leads with 1.2000"),
        ((1.0, 0.9, 1.2), (1.1, 1.0, 1.15), '"best static" (77.0%) leads with 1.1000'),
        ((0.5, 0.4, 0.55), (1.0, 0.9, 1.1), '"best static" (77.0%) earns most, 1.0000 ETH'),
    ],
)
def test_the_verdict_says_what_the_intervals_show(ours: Ends, theirs: Ends, words: str) -> None:
    (sentence,) = verdict(arms_of(ours, static=theirs), "s")
    assert sentence.startswith(f"s: {words}")
    assert ("not shown to differ" in sentence) == ("leads" in words)
    assert f"{ours[0]:.4f}" in sentence
    assert f"{theirs[0]:.4f}" in sentence


def test_a_rule_that_beats_the_policy_is_named_first() -> None:
    ours, static, rule = (2.0, 1.9, 2.1), (1.0, 0.9, 1.1), (2.5, 2.4, 2.6)
    first, second = verdict(arms_of(ours, static=static, aimd=rule), "s")
    assert first.startswith(f's: "{AIMD}" (up 0.2, down 0.02) earns most, 2.5000 ETH')
    assert "the policy earns less, 2.0000" in first
    assert '"best static" (77.0%) with 1.0000 the policy earns more' in second


def test_the_learner_that_is_the_policy_is_not_its_rival() -> None:
    ours = (2.0, 1.9, 2.1)
    arms = arms_of(ours, static=(1.0, 0.9, 1.1), learner=ours)
    assert strongest_other(arms, "s") == STATIC


def test_scenarios_are_worlds_and_unknown_ones_are_named(
    market: MarketConfig, paths: PricePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(SCENARIOS) - set(RANKS):
        assert world_of(name, market, paths)[1] is paths
    assert world_of("default", market, paths)[0] == market
    assert world_of("crowded", market, paths)[0].regimes.log_rate > market.regimes.log_rate
    with pytest.raises(ValueError, match="scenario 'dull': choose from default, calm"):
        check_scenario("dull")
    monkeypatch.delenv("MEVRL_DATA", raising=False)
    with pytest.raises(ValueError, match="plays recorded blocks: set MEVRL_DATA"):
        world_of("replay", market, paths)


def test_regimes_change_as_in_hidden_competition_and_nothing_else(
    market: MarketConfig, paths: PricePaths
) -> None:
    sharp, quick, slow = (world_of(name, market, paths)[0] for name in ("S", "D20", "D200"))
    stays = [world.regimes.stay_slots for world in (quick, market, sharp, slow)]
    np.testing.assert_allclose(stays, [28.0, 70.0, 140.0, 280.0])
    for world in (quick, slow):
        assert world.changed({"regimes.stay_slots": 70.0}) == market
    assert dataclasses.replace(sharp, regimes=market.regimes) == market
    changed = {"stay_slots", "efficiency_a", "efficiency_b"}
    were = vars(market.regimes)
    assert {k for k, v in vars(sharp.regimes).items() if v != were[k]} == changed
    widths, apart = {}, {}
    for name, world in (("default", market), ("S", sharp)):
        shapes = zip(world.regimes.efficiency_a, world.regimes.efficiency_b, strict=True)
        laws = np.array([efficiency_quantiles(a, b) for a, b in shapes])
        cells = laws.shape[1] - 1
        low, middle, high = laws[:, [cells // 10, cells // 2, 9 * cells // 10]].T
        widths[name], apart[name] = high - low, np.diff(middle) / (high - low)[:-1]
    assert np.all(widths["S"] < widths["default"])
    assert np.all(apart["S"] > apart["default"])
    per_regime = ("efficiency_a", "efficiency_b", "rule_weight", "log_rate", "size_factor")
    ends = {name: were[name][::2] for name in per_regime}
    two = dataclasses.replace(market, regimes=dataclasses.replace(market.regimes, **ends))
    assert world_of("S", two, paths)[0].regimes.efficiency_b == sharp.regimes.efficiency_b[::2]


def test_every_scenario_has_seeds_of_its_own() -> None:
    seeds = [set(range(first_seed(name), first_seed(name) + SEEDS_EACH)) for name in NAMES]
    assert len(set.union(*seeds)) == SEEDS_EACH * len(NAMES)
    assert first_seed("default") == 0
    assert first_seed("replay-swaps") == 7000, "what was published is played again"


def test_calm_and_volatile_spells_are_apart_and_stay_in_their_part() -> None:
    paths = stand_in_paths(days=20)
    starts = {}
    for name in ("default", "calm", "volatile"):
        world = world_of(name, MarketConfig(), paths)[1]
        assert len(world) == len(paths)
        starts[name] = {split: world.starts(split, 53) for split in SPLITS}
    whole = starts["default"]
    for split in SPLITS:
        calm, volatile = starts["calm"][split], starts["volatile"][split]
        assert np.isin(calm, whole[split]).all()
        assert np.isin(volatile, whole[split]).all()
        assert 0.1 < calm.size / whole[split].size < 0.4
        played = [(s[:, None] + np.arange(53)).ravel() for s in (calm, volatile)]
        assert not np.intersect1d(*played).size
        variance = paths.slot_sigma[:, 0] ** 2
        assert variance[played[0]].mean() < 0.7 * variance[played[1]].mean()


def test_money_of_a_slot_is_sorted_by_what_became_of_it(env: MarketVectorEnv) -> None:
    won = np.zeros(32)

    def watch(available: np.ndarray, rewards: np.ndarray, infos: dict[str, Any]) -> None:
        won[infos["won"]] += infos["net"][infos["won"]]

    tally = play(static(20), env, 2, watch)
    np.testing.assert_allclose(won + sum(tally.lost_eth.values()), tally.bid_on_eth, rtol=1e-9)
    np.testing.assert_allclose(tally.paid_eth, won * FRACTIONS[20], rtol=1e-6)
    assert tally.paid_eth.sum() > 0.0
    assert all(tally.lost_eth[name].sum() > 0 for name in ("outbid", "stale_state", "filtered"))
    assert tally.negative.sum() == 0.0
    idle = play(no_op, env, 2)
    np.testing.assert_allclose(idle.passed_eth, idle.available_eth)
    assert idle.harm_eth.sum() > 0.0


def test_what_is_won_keeps_the_quoted_profit_less_the_bid(
    market: MarketConfig, paths: PricePaths
) -> None:
    """But for unseen swaps that land ahead: they move the pools, seldom and mostly for more."""

    def kept(ahead: float) -> float:
        config = market.changed({"users.private_ahead_share": ahead})
        env = MarketVectorEnv(128, config, paths, split="test")
        tally = play(static(20), env, 2)
        quoted = tally.bid_on_eth - sum(tally.lost_eth.values())
        return tally.profit_eth.sum() / (quoted - tally.paid_eth).sum()

    assert kept(0.0) == pytest.approx(1.0, abs=0.02)
    assert kept(0.5) > 1.1


def test_public_bids_that_fail_are_slots_that_cost_money(env: MarketVectorEnv) -> None:
    def bidder(observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return np.where(masks[:, FIRST_PUBLIC], FIRST_PUBLIC, 0).astype(np.int64)

    tally = play(bidder, env, 4)
    assert tally.lost["reverted"].sum() > 0
    assert np.array_equal(tally.negative, tally.lost["reverted"])
    assert 0.0 < tally.ratios()["negative_rate"] <= 1.0


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.3, "adds to"), (-0.1, 0.3, "is not shown to add anything"), (-0.3, -0.1, "costs")],
)
def test_an_ingredient_that_adds_nothing_is_said_to(low: float, high: float, words: str) -> None:
    """Three trainings of each decide; with fewer the episodes do, and the sentence says so."""
    gap = {"value": (low + high) / 2.0, "low": low, "high": high}
    wide = {"value": 0.0, "low": -9.0, "high": 9.0}
    for trained, over, best in (((3, 4), gap, wide), ((2, 4), wide, gap)):
        counts = {"trainings_with": trained[0], "trainings_without": trained[1]}
        found = {"with": "a", "without": "b", "iqm_eth": best, "mean_eth": wide}
        found["over_trainings"] = {"iqm_eth": over, **counts}
        (line,) = ingredient_lines({"masking": found}, "calm")
        assert line.startswith(f"calm: masking {words}")
        assert f"{trained[0]} and {trained[1]} trainings" in line
        assert ("over episodes alone" in line) == (trained[0] < 3)


def test_bidders_can_be_compared_on_recorded_blocks(
    market: MarketConfig, paths: PricePaths
) -> None:
    data_file("blocks/basefee_windows.parquet")
    recorded, played = world_of("replay", market, paths)
    assert played.recorded.base_fee_gwei.size == 5 * len(played)
    env = MarketVectorEnv(16, recorded, played, split="test")
    assert np.all(play(greedy(0.9), env, 1).profit_eth >= 0.0)
