"""The market environment: contract, invariance, exact restore, conservation, rewards."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env

import envs  # noqa: F401  registers mevrl/Market-v0
from envs.market.block import (
    FILTERED,
    GAS,
    LATE,
    MISSED_SLOT,
    OUTBID,
    PASSED,
    REVERTED,
    STALE_STATE,
    WON,
)
from envs.market.config import MarketConfig
from envs.market.physics import (
    EPISODE,
    INSIDE,
    LOG_PRICE,
    MINUTE,
    REGIME,
    STEP,
    TOP,
    book_row,
)
from envs.market.simulator import play
from envs.searcher import Searcher
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS, BID_FRACTION, BIDS, FIRST_HALF
from kernels.market.amm import SEGMENT_ROOT
from kernels.market.observation import FIELDS, SIZE
from kernels.market.tile import (
    BASE_FEE,
    BORROWERS,
    BUNDLES_TAKEN,
    CONCENTRATED_ROWS,
    FOUND_AMOUNT_IN,
    FOUND_CYCLE,
    FOUND_NET,
    LIQUIDITY,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOWEST_ROOT,
    RESERVES,
    SEGMENT,
    SEGMENTS,
    layout_of,
)
from tests.support.worlds import BARE, markets, paths, some_actions


def test_checkers_accept_the_environment() -> None:
    # Among others: a step that ends in an error for actions out of range, and all render modes.
    env = gymnasium.make("mevrl/Market-v0", paths=paths())
    check_env(env.unwrapped)
    sb3_check_env(Searcher(paths=paths()))
    many = gymnasium.make_vec("mevrl/Market-v0", num_envs=3, paths=paths())
    assert many.reset(seed=1)[0].shape == (3, SIZE)


def test_stable_baselines_trains_on_the_name_alone() -> None:
    model = PPO("MlpPolicy", "mevrl/Market-v0", n_steps=8, batch_size=8, n_epochs=1)
    assert model.learn(8).num_timesteps == 8
    masked = MaskablePPO(
        "MlpPolicy", make_vec_env("mevrl/Market-v0", n_envs=4), n_steps=4, batch_size=8, n_epochs=1
    )
    assert masked.learn(16).num_timesteps == 16


def test_environments_without_a_seed_differ_and_with_one_agree() -> None:
    def first(count: int, **settings: Any) -> np.ndarray:
        return np.asarray(make_vec_env("mevrl/Market-v0", n_envs=count, **settings).reset())

    assert np.unique(first(4), axis=0).shape[0] == 4
    np.testing.assert_array_equal(first(2, seed=5), first(2, seed=5))
    assert np.unique(first(2, seed=5), axis=0).shape[0] == 2
    one, other = (MarketVectorEnv(3, paths=paths()).reset()[0] for _ in range(2))
    assert np.unique(np.concatenate([one, other]), axis=0).shape[0] == 6


@pytest.mark.parametrize(
    ("actions", "named"),
    [
        ([0, -1, 0], "action -1 of market 1: give 0 to"),
        ([0, 0, ACTIONS], f"action {ACTIONS} of market 2"),
        ([0, 0], r"shape \(2,\)"),
        ([[0, 0, 0]], r"shape \(1, 3\)"),
        ([0.0, 1.0, 0.5], "float64"),
        ([True, False, True], "bool"),
        ([None, 0, 0], "object"),
    ],
)
def test_actions_that_the_table_does_not_have_are_refused(actions: Any, named: str) -> None:
    env = markets(3, seed=1)
    before = env.state()
    with pytest.raises(ValueError, match=named):
        env.step(np.array(actions))
    after = env.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)  # nothing was played


@pytest.mark.parametrize("action", [-1, ACTIONS, 1.0, None, np.array([3])])
def test_one_action_that_the_table_does_not_have_is_refused(action: Any) -> None:
    env = Searcher(paths=paths(), seed=1)
    env.reset()
    with pytest.raises(ValueError, match="action"):
        env.step(action)
    env.step(np.array(3))  # as a policy of stable-baselines3 gives it


def test_the_slot_is_drawn_as_text_and_as_an_image() -> None:
    """Numbers of the text are those of the observation; the image changes with the slot."""
    one = Searcher(MarketConfig(ticks_per_slot=2), paths(), seed=3, render_mode="ansi")
    other = Searcher(MarketConfig(ticks_per_slot=2), paths(), seed=3, render_mode="rgb_array")
    observation, _ = one.reset()
    other.reset()
    named = [field.name for field in FIELDS]
    bids, images = 0, []
    for step in range(60):
        text, image = one.render(), other.render()
        assert isinstance(text, str)
        assert isinstance(image, np.ndarray)
        assert image.shape == (540, 900, 3)
        assert image.dtype == np.uint8
        if step % 20 == 0:
            images.append(image)
        seen = dict(zip(named, observation))
        assert f"slot {step // 2 + 1} of 256, decision {step % 2 + 1} of 2" in text
        assert f"base fee {np.exp(seen['base_fee'] + 2.7):.2f} gwei" in text
        assert f"pending swaps seen: {round(seen['pending'] * 8)}\n" in text
        for k in range(4):
            if seen[f"opportunity{k}_exists"]:
                net = np.exp(seen[f"opportunity{k}_net"] * 1.6 - 3.32)
                assert f"  {k} {net:>8.4f} ETH net" in text
        assert ("our bundle: 45%" in text) == bool(seen["standing_found"])
        bids += bool(seen["standing_found"])
        action = int(one.action_masks()[1]) * 5
        observation = one.step(action)[0]
        other.step(action)
    assert bids > 3
    assert len({image.tobytes() for image in images}) == 3
    many = MarketVectorEnv(2, paths=paths(), render_mode="ansi")
    with pytest.raises(RuntimeError, match="reset"):
        many.render()
    many.reset()
    assert len(many.render() or ()) == 2
    assert MarketVectorEnv(2, paths=paths()).render() is None


def _record(env: MarketVectorEnv, lanes: int, steps: int) -> list[np.ndarray]:
    """Everything the first lanes see and earn, over the end of an episode."""
    seen = []
    for step in range(steps):
        masks = env.action_masks()[:lanes]
        observation, reward, _, truncated, infos = env.step(some_actions(env, step))
        seen += [masks, observation[:lanes], reward[:lanes], truncated[:lanes]]
        seen += [infos[name][:lanes] for name in sorted(infos) if not name.startswith("_")]
    return seen


@pytest.mark.parametrize("lanes", [1, 7, 16])
def test_a_lane_does_not_depend_on_how_many_there_are(lanes: int) -> None:
    few = _record(markets(lanes, seed=5, episode_slots=18), lanes, 100)
    many = _record(markets(40, seed=5, episode_slots=18), lanes, 100)
    assert len(few) == len(many)
    for one, other in zip(few, many):
        assert one.tobytes() == other.tobytes()


def test_lanes_do_not_depend_on_the_thread_that_plays_them() -> None:
    """The kernels release the interpreter's lock: environments in threads play as they do alone."""
    alone = [_record(markets(16, seed=seed, episode_slots=12), 16, 60) for seed in range(4)]
    envs_ = [markets(16, seed=seed, episode_slots=12) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda env: _record(env, 16, 60), envs_))
    for one, other in zip(alone, together):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one, other))


def test_the_single_environment_is_lane_zero() -> None:
    vector, single = (
        markets(3, seed=9, episode_slots=7),
        Searcher(MarketConfig(era="rich", episode_slots=7, ticks_per_slot=3), paths(), seed=9),
    )
    shown, _ = single.reset()
    ends = 0
    for step in range(50):
        np.testing.assert_array_equal(single.action_masks(), vector.action_masks()[0])
        actions = some_actions(vector, step)
        observation, reward, _, truncated, infos = vector.step(actions)
        shown, gain, _, ended, info = single.step(int(actions[0]))
        assert (gain, ended) == (reward[0], truncated[0])
        assert info["outcome"] == infos["outcome"][0]
        if ended:
            ends += 1
            np.testing.assert_array_equal(shown, infos["final_obs"][0])
            with pytest.raises(RuntimeError, match="reset"):
                single.step(0)
            shown, _ = single.reset()
        np.testing.assert_array_equal(shown, observation[0])
    assert ends == 2


def test_seeds_splits_and_episodes_differ_and_repeat() -> None:
    first = markets(4, seed=1)
    start = first.reset(seed=1)[0]
    np.testing.assert_array_equal(start, markets(4, seed=1).reset(seed=1)[0])
    for other in (
        first.reset()[0],
        first.reset(seed=2)[0],
        markets(4, split="validation", seed=1).reset(seed=1)[0],
        markets(4, split="test", seed=1).reset(seed=1)[0],
    ):
        assert not np.any(np.all(start == other, axis=1))
    assert np.unique(start, axis=0).shape[0] == 4


def test_state_restores_exactly() -> None:
    """In the middle of a slot, with bids standing and swaps waiting."""
    env = markets(20, seed=3, episode_slots=15)
    _record(env, 20, 13)
    saved = env.state()
    ahead = _record(env, 20, 60)
    other = markets(20, seed=8, episode_slots=15)
    other.set_state(saved)
    again = _record(other, 20, 60)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(ahead, again))
    with pytest.raises(ValueError, match="num_envs"):
        markets(40).set_state(saved)


def test_wealth_is_conserved() -> None:
    """All parties' gains sum to zero at reference prices, against what changed hands."""
    env = markets(64, seed=2)
    for step in range(3 * 255):
        env.step(some_actions(env, step))
    wealth = env.wealth()
    turnover = sum(np.abs(gain) for gain in wealth.values())
    assert np.max(np.abs(sum(wealth.values())) / turnover) < 1e-9
    assert all(np.any(np.abs(gain) > 1e-3) for gain in wealth.values())
    assert np.all(wealth["validator"] > 0.0)
    assert np.all(wealth["burnt"] > 0.0)
    assert wealth["users"].mean() < 0.0 < wealth["liquidity_providers"].mean()
    assert wealth["sandwichers"].mean() > 0.0
    # What sandwiches take from users is more than what sandwichers keep.
    assert env.sandwich_harm().mean() > wealth["sandwichers"].mean()


@pytest.mark.parametrize("reward", ["marked", "settled"])
def test_the_searchers_wealth_is_the_sum_of_rewards(reward: str) -> None:
    """Marks and settlements add up to the same; only at the end of a slot nothing is marked."""
    env = markets(32, seed=4, reward=reward)
    total = np.zeros(32)
    for step in range(201):
        _, rewards, _, _, infos = env.step(some_actions(env, step))
        total += rewards
        if reward == "settled":
            assert np.all(rewards[~infos["settled"]] == 0.0)
    np.testing.assert_allclose(env.wealth()["searcher"], total, rtol=1e-9, atol=1e-12)


def test_rewards_and_outcomes_agree() -> None:
    env = markets(128, seed=6, reward="settled")
    seen: set[int] = set()
    for step in range(300):
        _, reward, _, _, infos = env.step(some_actions(env, step))
        outcome, won, settled = infos["outcome"], infos["won"], infos["settled"]
        assert settled.all() == settled.any() == (step % 3 == 2)
        np.testing.assert_array_equal(won, outcome == WON)
        if not settled.any():
            assert not outcome.any()
            continue
        seen |= set(outcome.tolist())
        free = np.isin(outcome, (OUTBID, STALE_STATE, GAS, LATE, FILTERED, MISSED_SLOT, PASSED))
        # A public bid that was given up costs its empty transaction, whatever came of the rest.
        assert np.all(reward[free] <= 0.0)
        assert np.mean(reward[free] == 0.0) > 0.8
        assert np.all(reward[outcome == REVERTED] < 0.0)
        causes = infos["cause"][outcome == REVERTED]
        assert np.isin(causes, (OUTBID, STALE_STATE, GAS)).all()
        assert np.all(infos["best_response"] >= 0.0)
        assert np.all(infos["best_response"][outcome == MISSED_SLOT] == 0.0)
        lost = (outcome == OUTBID) & (infos["opportunity"] >= 0)
        clearing, own = infos["clearing_fraction"], infos["own_fraction"]
        assert np.mean(clearing[lost] >= own[lost]) > 0.9  # else on another one with its pools
    assert seen == {PASSED, WON, OUTBID, STALE_STATE, GAS, LATE, REVERTED, FILTERED, MISSED_SLOT}


def test_private_swaps_can_make_a_plan_stale_at_no_cost() -> None:
    changes: dict[str, Any] = BARE | {
        "users.rate": 6.0,
        "users.refund_share": 0.0,
        "users.private_share": 0.6,
        "users.private_ahead_share": 1.0,
        "blocks.mev_boost_share": 1.0,
    }
    env = markets(64, seed=7, **changes)
    stale = 0
    for _ in range(100):
        masks = env.action_masks()
        _, reward, _, _, infos = env.step(np.where(masks[:, BIDS], BIDS, 0))
        dropped = infos["outcome"] == STALE_STATE
        stale += np.count_nonzero(dropped)
        assert np.all(reward[dropped] == 0.0)
        assert np.all(reward >= 0.0)
    assert stale > 20


def test_a_slot_moves_the_pools_as_the_block_says() -> None:
    """Without private and informed flow: visible swaps, then the cycles that somebody won."""
    env = markets(48, BARE | {"pools.concentrated": 0}, seed=11)
    graph, pools = env.config.graph, env.config.graph.token0.size
    arbitraged = 0
    for step in range(40):
        before = env._tiles.copy()
        masks = env.action_masks()
        wanted = (7 * step + 13 * np.arange(48)) % FIRST_HALF  # whole-size bundles
        env.step(np.where(masks[np.arange(48), wanted], wanted, 0))
        for lane in range(48):
            tile, column = before[lane // 16], lane % 16
            first = layout_of(graph).overlay
            reserves = tile[first : first + 2 * pools, column].copy()
            after = env._tiles[lane // 16, RESERVES : RESERVES + 2 * pools, column]
            for k in range(4):
                cycle = int(tile[FOUND_CYCLE + k, column])
                if cycle < 0:
                    break
                x, changed = tile[FOUND_AMOUNT_IN + k, column], reserves.copy()
                for hop in range(graph.cycle_hops[cycle]):
                    pool = graph.cycle_pool[cycle, hop]
                    forward = graph.cycle_zero_for_one[cycle, hop] == 1
                    sold, bought = (pool, pool + pools) if forward else (pool + pools, pool)
                    out = 0.997 * x * changed[bought] / (changed[sold] + 0.997 * x)
                    changed[sold] += x
                    changed[bought] -= out
                    x = out
                # Nobody may have bid; then the pools of this cycle stay as they were.
                taken = after[graph.cycle_pool[cycle, 0]] != reserves[graph.cycle_pool[cycle, 0]]
                arbitraged += taken
                reserves = changed if taken else reserves
            np.testing.assert_allclose(after, reserves, rtol=1e-12)
    assert arbitraged > 500


def test_constant_products_keep_their_invariant_and_stay_positive() -> None:
    env = markets(32, {"pools.provider_rate": 0.0}, seed=12)
    pools, plain = env.config.graph.token0.size, 4
    rows = slice(RESERVES, RESERVES + 2 * pools)
    for step in range(150):
        before = env._tiles[:, rows].copy()
        env.step(some_actions(env, step))
        after = env._tiles[:, rows]
        assert np.all(after > 0.0)
        k0 = before[:, :plain] * before[:, pools : pools + plain]
        k1 = after[:, :plain] * after[:, pools : pools + plain]
        assert np.all(k1 >= k0 * (1.0 - 1e-12))


def test_concentrated_pools_hold_what_their_liquidity_says() -> None:
    """Price inside its segment, virtual reserves L / root and L root, all tokens accounted for."""
    env = markets(32, {"pools.provider_rate": 0.1}, seed=18)
    graph, world, tokens = env.config.graph, env._physics.world_row, 4
    pools = graph.token0.size
    visited = set()
    for step in range(300):
        env.step(some_actions(env, step))
        if step % 20:
            continue
        for tile in env._tiles:
            needed = np.zeros((tokens, 16))
            for index in range(4):
                pool, at = 4 + index, layout_of(graph).concentrated + CONCENTRATED_ROWS * index
                x, y = tile[RESERVES + pool], tile[RESERVES + pools + pool]
                segment = tile[at + SEGMENT].astype(int)
                visited |= set(segment.tolist())
                depth = tile[at + LIQUIDITY + segment, np.arange(16)]
                np.testing.assert_allclose(np.sqrt(x * y), depth, rtol=1e-9)
                root, lowest = np.sqrt(y / x), tile[at + LOWEST_ROOT]
                inner = (segment > 0) & (segment < SEGMENTS - 1)
                low, high = lowest * SEGMENT_ROOT[segment], lowest * SEGMENT_ROOT[segment + 1]
                assert np.all((root >= low * (1 - 1e-9))[inner])
                assert np.all((root <= high * (1 + 1e-9))[inner])
                for lane in range(16):
                    for j in range(SEGMENTS):
                        depth = tile[at + LIQUIDITY + j, lane]
                        end0 = lowest[lane] * SEGMENT_ROOT[j] if j else 0.0
                        end1 = lowest[lane] * SEGMENT_ROOT[j + 1] if j < SEGMENTS - 1 else np.inf
                        inside = min(max(root[lane], end0), end1)
                        needed[graph.token0[pool], lane] += depth * (1 / inside - 1 / end1)
                        needed[graph.token1[pool], lane] += depth * (inside - end0)
            first = book_row(world, tokens, INSIDE)
            # What is there beyond the positions is the fees.
            fees = tile[first : first + tokens] / np.where(needed > 0.0, needed, 1.0) - 1.0
            assert np.all(fees > -1e-9)
            assert np.all(fees < 0.05)
    assert len(visited) >= 3


def test_informed_traders_leave_pools_inside_the_fee_band() -> None:
    """With a certain watcher no pool offers more than gas and payment against the reference."""
    changes: dict[str, Any] = BARE | {"informed.probability": 1.0, "users.swap_gas": 1}
    env = markets(32, seed=13, **changes)
    physics = env._physics
    tokens, pools = len(env.config.pools.symbols), env.config.graph.token0.size
    for step in range(10):
        env.step(some_actions(env, step))
        tiles = env._tiles
        price = np.exp(
            np.einsum(
                "ta,nal->ntl", physics.exposure, tiles[:, physics.world_row + LOG_PRICE :][:, :2]
            )
        )
        reserves = tiles[:, RESERVES : RESERVES + 2 * pools]
        assert price.shape[1] == tokens
        error = np.log(
            reserves[:, pools:]
            * price[:, physics.token1]
            / (reserves[:, :pools] * price[:, physics.token0])
        )
        # The price moves after the trades: allow a few slots' deviation on top of the band.
        assert np.quantile(np.abs(error), 0.99) < 0.003 + 0.0012 + 2e-3


def test_prices_pass_through_the_recorded_closes() -> None:
    env = markets(16, seed=14, ticks_per_slot=1)
    world = env._physics.world_row
    for step in range(60):
        env.step(some_actions(env, step))
        tile = env._tiles[0]
        at_close = tile[world + STEP] == 0.0
        minute = tile[world + MINUTE].astype(int)
        for asset in range(2):
            expected = env.paths.log_price[minute, asset]
            shown = tile[world + LOG_PRICE + asset]
            np.testing.assert_allclose(shown[at_close], expected[at_close], rtol=1e-13)
            assert np.max(np.abs(shown - expected)) < 0.05


def test_base_fee_stays_near_its_median() -> None:
    env = markets(256, seed=15, ticks_per_slot=1)
    for step in range(255):
        env.step(some_actions(env, step))
    fee = env._tiles[:, BASE_FEE].reshape(-1)
    assert np.all(fee > 0.0)
    assert np.exp(np.mean(np.log(fee))) == pytest.approx(15.0, rel=0.25)


def test_rivals_clear_where_they_should_and_history_is_worth_something() -> None:
    """Median clearing by regime .43/.68/.92, and a bidder who knows the regime earns much more."""
    env = markets(512, seed=16, ticks_per_slot=1)
    world = env._physics.world_row
    regime, net, top = [], [], []
    for _ in range(200):
        taken = env._tiles[:, BUNDLES_TAKEN].reshape(-1) > 0.0
        bid = env.action_masks()[:, 1] & taken
        regime.append(env._tiles[:, world + REGIME].reshape(-1)[bid].astype(int))
        net.append(env._tiles[:, FOUND_NET].reshape(-1)[bid])
        top.append(env._tiles[:, world + TOP].reshape(-1)[bid] / net[-1])
        env.step(bid.astype(np.int64))
    regimes, nets, tops = np.concatenate(regime), np.concatenate(net), np.concatenate(top)
    assert 0.6 < nets.size / (512 * 200 * 0.9) < 0.9
    assert np.mean(np.log(nets)) == pytest.approx(-3.3, abs=0.35)
    assert np.std(np.log(nets)) == pytest.approx(1.8, abs=0.25)
    medians = [np.median(tops[(regimes == r) & (tops >= 0.0)]) for r in range(3)]
    np.testing.assert_allclose(medians, [0.43, 0.68, 0.92], atol=0.025)
    assert np.mean(tops < 0.0) < 0.05
    earned = (tops[:, None] < BID_FRACTION) * (1.0 - BID_FRACTION) * nets[:, None]
    static = earned.sum(axis=0).max()
    knowing = sum(earned[regimes == r].sum(axis=0).max() for r in range(3))
    assert knowing / static > 1.35
    assert earned.sum(axis=0)[0] < 0.25 * static


def _play_at_random(lanes: int, steps: int, seed: int, **changes: Any) -> MarketVectorEnv:
    """Any action, allowed or not: no NaN anywhere, reserves and loans in bounds, boxes kept."""
    env = markets(lanes, split="validation", seed=seed, **changes)
    rng, pools = np.random.default_rng(seed), env.config.graph.token0.size
    for _ in range(steps):
        actions = rng.integers(0, ACTIONS, lanes)
        observation, reward, terminated, truncated, infos = env.step(actions)
        assert env.observation_space.contains(observation)
        assert np.all(np.isfinite(reward))
        assert np.all(env._tiles[:, RESERVES : RESERVES + 2 * pools] > 0.0)
        assert not np.isnan(env._tiles).any()
        assert np.all(env._tiles[:, LOAN_COLLATERAL : LOAN_DEBT + BORROWERS] >= 0.0)
        assert not terminated.any()
        if truncated.any():
            assert env.observation_space.contains(infos["final_obs"])
    wealth = env.wealth()
    turnover = sum(np.abs(gain) for gain in wealth.values()) + 1e-12
    assert np.max(np.abs(sum(wealth.values())) / turnover) < 1e-9
    return env


def test_random_play_stays_inside_the_spaces() -> None:
    env = _play_at_random(64, 200, 17, episode_slots=15)
    assert env._tiles[0, env._physics.world_row + EPISODE, 0] == 4.0


def test_random_play_of_loans_near_the_edge_stays_inside() -> None:
    """Liquidations of half and of all of a debt, and a price that jumps past both."""
    loans: dict[str, Any] = {
        "loans.health": (1.0, 1.002),
        "loans.oracle_deviation": 0.03,
        "loans.leave": 0.0,
    }
    _play_at_random(64, 299, 18, episode_slots=50, **loans)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_episodes_of_random_play(seed: int) -> None:
    """4 x 2,560 whole episodes of the default market, wilder prices and flow in two of them."""
    wild = {"users.rate": 6.0, "users.size_median": 0.02, "users.slippage": (0.2, 0.5)}
    _play_at_random(1280, 2 * 3 * 256 - 1, 100 + seed, **(wild if seed % 2 else {}))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_envs": 1, "split": "dev"}, "split"),
        ({"num_envs": 1, "seed": -1}, "seed"),
        ({"num_envs": 1, "render_mode": "human"}, "render_mode"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MarketVectorEnv(paths=paths(), **arguments)  # type: ignore[arg-type]


def test_step_before_reset_is_refused() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        MarketVectorEnv(2, paths=paths()).step(np.zeros(2, np.int64))


def test_read_only_paths_do_not_compile_the_simulator_again() -> None:
    """Arrays that come from another process are read-only, which is another type to Numba."""
    compiled: Any = play
    markets(3).reset(seed=0)
    before = len(compiled.signatures)
    frozen = paths()
    frozen = replace(frozen, log_price=frozen.log_price.copy(), forecast=frozen.forecast.copy())
    frozen.log_price.setflags(write=False)
    frozen.forecast.setflags(write=False)
    MarketVectorEnv(3, paths=frozen).reset(seed=0)
    assert len(compiled.signatures) == before
