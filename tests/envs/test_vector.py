"""The market environment: contract, invariance, exact restore, conservation, rewards."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs  # noqa: F401  registers mevrl/Market-v0
from envs.auctions import OUTBID, PASSED, STALE, WON
from envs.market import MarketConfig
from envs.physics import EPISODE, LOG_PRICE, MINUTE, STEP
from envs.searcher import Searcher
from envs.vector import MarketVectorEnv
from kernels.action import ACTIONS, BID_FRACTION, BIDS
from kernels.market import BASE_FEE, FOUND_AMOUNT_IN, FOUND_CYCLE, RESERVES, overlay_row
from tests.envs.worlds import markets, paths, some_actions


def test_checkers_accept_the_environment() -> None:
    env = gymnasium.make("mevrl/Market-v0", paths=paths())
    check_env(env.unwrapped)
    sb3_check_env(Searcher(paths=paths()))
    many = gymnasium.make_vec("mevrl/Market-v0", num_envs=3, paths=paths())
    assert many.reset(seed=1)[0].shape == (3, 80)


def _record(env: MarketVectorEnv, lanes: int, slots: int) -> list[np.ndarray]:
    """Everything the first lanes see and earn, over the end of an episode."""
    seen = []
    for step in range(slots):
        masks = env.action_masks()[:lanes]
        observation, reward, _, truncated, infos = env.step(some_actions(env, step))
        seen += [masks, observation[:lanes], reward[:lanes], truncated[:lanes]]
        seen += [infos[name][:lanes] for name in sorted(infos) if not name.startswith("_")]
    return seen


@pytest.mark.parametrize("lanes", [1, 7, 16])
def test_a_lane_does_not_depend_on_how_many_there_are(lanes: int) -> None:
    few = _record(markets(lanes, seed=5, episode_slots=30), lanes, 70)
    many = _record(markets(40, seed=5, episode_slots=30), lanes, 70)
    assert len(few) == len(many)
    for one, other in zip(few, many):
        assert one.tobytes() == other.tobytes()


def test_the_single_environment_is_lane_zero() -> None:
    vector, single = (
        markets(3, seed=9, episode_slots=20),
        Searcher(MarketConfig(episode_slots=20), paths(), seed=9),
    )
    shown, _ = single.reset()
    for step in range(50):
        np.testing.assert_array_equal(single.action_masks(), vector.action_masks()[0])
        actions = some_actions(vector, step)
        observation, reward, _, truncated, infos = vector.step(actions)
        shown, gain, _, ended, info = single.step(int(actions[0]))
        assert (gain, ended) == (reward[0], truncated[0])
        assert info["outcome"] == infos["outcome"][0]
        if ended:
            np.testing.assert_array_equal(shown, infos["final_obs"][0])
            with pytest.raises(RuntimeError, match="reset"):
                single.step(0)
            shown, _ = single.reset()
        np.testing.assert_array_equal(shown, observation[0])


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
    env = markets(20, seed=3, episode_slots=25)
    _record(env, 20, 13)
    saved = env.state()
    ahead = _record(env, 20, 40)
    other = markets(20, seed=8, episode_slots=25)
    other.set_state(saved)
    again = _record(other, 20, 40)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(ahead, again))
    with pytest.raises(ValueError, match="num_envs"):
        markets(40).set_state(saved)


def test_wealth_is_conserved() -> None:
    """All parties' gains sum to zero at reference prices, against what changed hands."""
    env = markets(64, seed=2)
    for step in range(255):
        env.step(some_actions(env, step))
    wealth = env.wealth()
    turnover = sum(np.abs(gain) for gain in wealth.values())
    assert np.max(np.abs(sum(wealth.values())) / turnover) < 1e-9
    assert all(np.any(np.abs(gain) > 1e-3) for gain in wealth.values())
    assert np.all(wealth["validator"] > 0.0)
    assert np.all(wealth["burnt"] > 0.0)
    assert wealth["users"].mean() < 0.0 < wealth["liquidity_providers"].mean()


def test_the_searchers_wealth_is_the_sum_of_rewards() -> None:
    env = markets(32, seed=4)
    total = np.zeros(32)
    for step in range(200):
        total += env.step(some_actions(env, step))[1]
    np.testing.assert_allclose(env.wealth()["searcher"], total, rtol=1e-9, atol=1e-12)


def test_rewards_and_outcomes_agree() -> None:
    env = markets(64, seed=6, private_share=0.0)
    seen = set()
    for step in range(200):
        actions = some_actions(env, step)
        _, reward, _, _, infos = env.step(actions)
        outcome, won = infos["outcome"], infos["won"]
        seen |= set(outcome.tolist())
        np.testing.assert_array_equal(won, outcome == WON)
        np.testing.assert_array_equal(outcome == PASSED, actions == 0)
        # Without private swaps a plan realises what it expected.
        expected = infos["net"] * (1.0 - infos["own_fraction"])
        np.testing.assert_allclose(reward[won], expected[won], rtol=1e-6, atol=1e-12)
        assert np.all(reward[~won] == 0.0)
        assert np.all(infos["best_response"] >= reward - 1e-9)
        lost = outcome == OUTBID
        assert np.all(infos["clearing_fraction"][lost] >= infos["own_fraction"][lost])
        np.testing.assert_allclose(infos["clearing_fraction"][won], infos["own_fraction"][won])
        bids = actions > 0
        fraction = BID_FRACTION[(actions[bids] - 1) % BIDS]
        np.testing.assert_array_equal(infos["own_fraction"][bids], fraction)
    assert seen == {PASSED, WON, OUTBID}


def test_private_swaps_can_make_a_plan_stale_at_no_cost() -> None:
    env = markets(64, seed=7, private_share=0.6, private_ahead_share=1.0, user_rate=6.0)
    stale = 0
    for _ in range(100):
        masks = env.action_masks()
        _, reward, _, _, infos = env.step(np.where(masks[:, BIDS], BIDS, 0))
        dropped = infos["outcome"] == STALE
        stale += np.count_nonzero(dropped)
        assert np.all(reward[dropped] == 0.0)
        assert np.all(reward >= 0.0)
    assert stale > 20


def test_a_slot_moves_the_pools_as_the_block_says() -> None:
    """Without private and informed flow: visible swaps, then the cycles that somebody won."""
    env = markets(48, seed=11, private_share=0.0, informed_probability=0.0)
    graph, pools = env.config.graph, env.config.graph.token0.size
    arbitraged = 0
    for step in range(40):
        before = env._tiles.copy()
        env.step(some_actions(env, step))
        for lane in range(48):
            tile, column = before[lane // 16], lane % 16
            first = overlay_row(pools)
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


def test_pools_keep_their_invariant_and_stay_positive() -> None:
    env = markets(32, seed=12)
    pools = env.config.graph.token0.size
    rows = slice(RESERVES, RESERVES + 2 * pools)
    for step in range(100):
        before = env._tiles[:, rows].copy()
        env.step(some_actions(env, step))
        after = env._tiles[:, rows]
        assert np.all(after > 0.0)
        k0, k1 = before[:, :pools] * before[:, pools:], after[:, :pools] * after[:, pools:]
        assert np.all(k1 >= k0 * (1.0 - 1e-12))


def test_informed_traders_leave_pools_inside_the_fee_band() -> None:
    """With a certain watcher no pool offers more than gas and payment against the reference."""
    env = markets(32, seed=13, informed_probability=1.0, private_share=0.0, swap_gas=1)
    physics = env._physics
    tokens, pools = len(env.config.symbols), env.config.graph.token0.size
    for step in range(10):
        env.step(some_actions(env, step))
        tiles = env._tiles
        price = np.exp(
            np.einsum("ta,nal->ntl", physics.exposure, tiles[:, physics.world + LOG_PRICE :][:, :2])
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
    env = markets(16, seed=14)
    world = env._physics.world
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
    env = markets(256, seed=15)
    for step in range(255):
        env.step(some_actions(env, step))
    fee = env._tiles[:, BASE_FEE].reshape(-1)
    assert np.all(fee > 0.0)
    assert np.exp(np.mean(np.log(fee))) == pytest.approx(15.0, rel=0.25)


def test_rivals_clear_where_they_should_and_history_is_worth_something() -> None:
    """Median clearing by regime .43/.68/.92, and a bidder who knows the regime earns much more."""
    env = markets(512, seed=16)
    regime, net, top = [], [], []
    for _ in range(200):
        bid = env.action_masks()[:, 1]
        infos = env.step(bid.astype(np.int64))[4]
        regime.append(infos["regime"][bid])
        net.append(infos["net"][bid])
        top.append(np.where(infos["outcome"] == OUTBID, infos["clearing_fraction"], -1.0)[bid])
    regimes, nets, tops = np.concatenate(regime), np.concatenate(net), np.concatenate(top)
    assert 0.65 < nets.size / (512 * 200) < 0.85
    assert np.mean(np.log(nets)) == pytest.approx(-3.3, abs=0.3)
    assert np.std(np.log(nets)) == pytest.approx(1.8, abs=0.25)
    medians = [np.median(tops[(regimes == r) & (tops >= 0.0)]) for r in range(3)]
    np.testing.assert_allclose(medians, [0.43, 0.68, 0.92], atol=0.02)
    assert np.mean(tops < 0.0) < 0.05
    earned = (tops[:, None] < BID_FRACTION) * (1.0 - BID_FRACTION) * nets[:, None]
    static = earned.sum(axis=0).max()
    knowing = sum(earned[regimes == r].sum(axis=0).max() for r in range(3))
    assert knowing / static > 1.35
    assert earned.sum(axis=0)[0] < 0.25 * static


def test_random_play_stays_inside_the_spaces() -> None:
    env = markets(64, split="validation", seed=17, episode_slots=40)
    rng = np.random.default_rng(0)
    for _ in range(200):
        observation, reward, terminated, truncated, infos = env.step(rng.integers(0, ACTIONS, 64))
        assert env.observation_space.contains(observation)
        assert np.all(np.isfinite(reward))
        assert not terminated.any()
        if truncated.any():
            assert env.observation_space.contains(infos["final_obs"])
    assert env._tiles[0, env._physics.world + EPISODE, 0] == 5.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_envs": 1, "split": "dev"}, "split"),
        ({"num_envs": 1, "seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MarketVectorEnv(paths=paths(), **arguments)  # type: ignore[arg-type]


def test_step_before_reset_is_refused() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        MarketVectorEnv(2, paths=paths()).step(np.zeros(2, np.int64))
