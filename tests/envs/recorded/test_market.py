"""The market plays recorded slots: its fees, fullness, prices and swaps are those of the blocks."""

from dataclasses import replace

import numpy as np
import pytest

from envs.market.config import MarketConfig
from envs.market.paths import SLOTS_PER_MINUTE
from envs.recorded.blocks import PoolKey, RecordedSlots, Swaps
from envs.recorded.market import TOKENS, replay_market, replay_paths, snapshot_market
from envs.vector import MarketVectorEnv
from history.pools import V3_KIND, MarketPool, PoolMarket
from kernels.market.action import PASS
from kernels.market.tile import BASE_FEE, GAS_USED_RATIO, SLOT
from tests.support.recorded import data_file

WETH, USDC, USDT, DAI, WBTC = TOKENS
USDC_WETH = PoolKey("0xp", "USDC", "WETH", 6, 18)


def made_slots(n: int = 1000, cut: int = 503, pools: tuple[PoolKey, ...] = ()) -> RecordedSlots:
    """Slots with two segments, one swap of 1 % of its reserve in every third slot, none missed."""
    rng = np.random.default_rng(1)
    at = np.arange(0, n, 3)
    reserves = np.full((n, len(pools), 2), np.nan)
    reserves[:, :, 0], reserves[:, :, 1] = 40e6, 20e3
    forward = at % 2 == 0
    swaps = Swaps(
        start=np.searchsorted(at, np.arange(n + 1)),
        pool=np.zeros(at.size, np.int64),
        zero_for_one=forward,
        amount_in=0.01 * np.where(forward, 40e6, 20e3),
        tip_gwei=1.0 + at / n,
        seen_s=(at % 12).astype(np.float64),
        private=at % 9 == 0,
    )
    missed = np.zeros(n, np.bool_)
    missed[7::50] = True
    return RecordedSlots(
        block=np.where(missed, -1, np.arange(n)),
        timestamp=12 * np.arange(n),
        missed=missed,
        base_fee_wei=rng.integers(10 * 10**9, 30 * 10**9, n),
        gas_used=np.where(missed, -1, rng.integers(0, 30_000_001, n)),
        gas_limit=np.full(n, 30_000_000),
        log_price=np.log([2000.0, 30_000.0]) + rng.normal(0.0, 1e-4, (n, 2)).cumsum(axis=0),
        segment=(np.arange(n) >= cut).astype(np.int64),
        reserves=reserves,
        swaps=swaps,
        pools=pools,
        source="made here",
    )


def test_every_slot_of_the_paths_is_a_recorded_one() -> None:
    slots = made_slots(pools=(USDC_WETH,))
    config = MarketConfig(era="rich")
    paths = replay_paths(slots, config)
    flow = paths.recorded
    rows = np.concatenate([np.arange(500), np.arange(503, 998)])  # whole minutes of each segment
    assert len(paths) == rows.size // SLOTS_PER_MINUTE == 199
    np.testing.assert_allclose(paths.log_price, slots.log_price[rows[::SLOTS_PER_MINUTE]])
    np.testing.assert_allclose(flow.base_fee_gwei, slots.base_fee_wei[rows] * 1e-9)
    here = ~slots.missed[rows]
    np.testing.assert_array_equal(flow.missed, ~here)
    np.testing.assert_allclose(flow.gas_used_ratio[here], slots.gas_used[rows][here] / 15e6)
    assert np.all(np.isnan(flow.gas_used_ratio[~here]))
    for slot, row in enumerate(rows):
        swaps = range(flow.swap_start[slot], flow.swap_start[slot + 1])
        assert len(swaps) == (1 if row % 3 == 0 else 0)
        for k in swaps:
            sells_dollars = row % 2 == 0
            # The market's pool 1 is WETH/USDC: the recorded pool the other way round.
            assert flow.swap_pool[k] == config.pools.symbols.index("USDC") - 1 == 1
            assert flow.swap_zero_for_one[k] == (0.0 if sells_dollars else 1.0)
            depth = config.pools.depth_eth[1]
            wanted = depth * np.exp(slots.log_price[row, 0]) if sells_dollars else depth
            assert flow.swap_amount_in[k] == pytest.approx(0.01 * wanted)
            assert flow.swap_tip_gwei[k] == pytest.approx(1.0 + row / 1000)
            assert flow.swap_cap_gwei[k] > flow.base_fee_gwei[slot] + flow.swap_tip_gwei[k]
            assert flow.swap_seen_s[k] == row % 12
            assert flow.swap_kind[k] == (1.0 if row % 9 == 0 else 0.0)


def test_amounts_stay_where_no_reserves_are_known() -> None:
    slots = made_slots(pools=(USDC_WETH,))
    slots = replace(slots, reserves=np.full_like(slots.reserves, np.nan))
    flow = replay_paths(slots, MarketConfig(era="rich")).recorded
    assert set(flow.swap_amount_in) == {0.01 * 40e6, 0.01 * 20e3}


def test_a_pool_without_match_is_named() -> None:
    slots = made_slots(pools=(replace(USDC_WETH, symbol0="UNI"),))
    with pytest.raises(ValueError, match=r"pool 0xp: no pool of the market trades \('UNI', 'WETH'"):
        replay_paths(slots, MarketConfig(era="rich"))


def pool(
    kind: str, tokens: tuple[int, int], reserves: tuple[float, float], fee: int = 3000
) -> MarketPool:
    """A pool with these reserves, virtual ones if concentrated, in smallest units."""
    r0, r1 = reserves
    if kind != V3_KIND:
        return MarketPool(kind, "0x", *tokens, fee, 1, reserve0=int(r0), reserve1=int(r1))
    root = (r1 / r0) ** 0.5
    return MarketPool(
        kind, "0x", *tokens, fee, 1, sqrt_price_x96=int(root * 2**96), liquidity=int(r0 * root)
    )


def test_a_snapshot_becomes_a_configuration() -> None:
    tokens = (USDC, WETH, WBTC, "0xother")
    dollars, ether, bitcoin = 1e6, 1e18, 1e8
    pools = (
        pool(V3_KIND, (0, 1), (80e6 * dollars, 40e3 * ether)),
        pool("uniswap_v2", (2, 0), (100 * bitcoin, 3e6 * dollars)),
        pool("uniswap_v2", (0, 1), (20e6 * dollars, 10e3 * ether)),
        pool("uniswap_v2", (0, 1), (1e6 * dollars, 500 * ether), fee=500),
        pool("uniswap_v2", (1, 3), (5e3 * ether, 1e6 * ether)),
        pool("uniswap_v2", (2, 1), (1 * bitcoin, 15 * ether)),  # too small
        pool(V3_KIND, (2, 1), (200 * bitcoin, 3e3 * ether)),
    )
    market = PoolMarket("made here", tokens, (6, 18, 8, 18), pools, ())
    config = snapshot_market(market, MarketConfig(era="rich"), bitcoin=True)
    assert config.pools.symbols == ("WETH", "USDC", "WBTC")
    assert config.pools.decimals == (18, 6, 8)
    assert list(zip(config.pools.token0, config.pools.token1)) == [(1, 0), (2, 1), (1, 0), (2, 0)]
    assert config.pools.concentrated == 2
    np.testing.assert_allclose(config.pools.depth_eth, [10e3, 1500.0, 40e3, 3e3], rtol=1e-6)
    assert config.pools.btc_exposure == (0.0, 0.0, 1.0)
    assert config.loans.pools == (0, 0, 0, 0)
    without = snapshot_market(market, MarketConfig(era="rich"), bitcoin=False)
    assert without.pools.symbols == ("WETH", "USDC")
    with pytest.raises(ValueError, match=r"no pool of 0\.3 %"):
        snapshot_market(market.select(np.arange(7) == 3), MarketConfig(era="rich"), bitcoin=True)


def follow(config: MarketConfig, slots: RecordedSlots, steps: int) -> int:
    """Play and compare fee and fullness with the recorded slots; how many slots were compared."""
    paths = replay_paths(slots, config)
    env = MarketVectorEnv(16, config, paths)
    env.reset(seed=3)
    flow, compared = paths.recorded, 0

    def row(name: int) -> np.ndarray:
        return env.state()["tiles"][0, name]

    def place() -> np.ndarray:
        found = np.abs(flow.base_fee_gwei[None, :] - row(BASE_FEE)[:, None])
        assert np.all(found.min(axis=1) < 1e-9)
        return found.argmin(axis=1)

    at = place()
    for _ in range(steps):
        slot = row(SLOT).copy()
        truncated = env.step(np.full(16, PASS))[3]
        moved = (row(SLOT) == slot + 1.0) & ~truncated
        after = place()
        assert np.all(after[moved] == at[moved] + 1)
        ratio = flow.gas_used_ratio[at[moved]]
        known = ~np.isnan(ratio)
        np.testing.assert_allclose(row(GAS_USED_RATIO)[moved][known], ratio[known])
        compared += int(np.count_nonzero(moved))
        at = after
    return compared


@pytest.mark.parametrize("pools", [(), (USDC_WETH,)])
def test_the_market_follows_the_recorded_fees(pools: tuple[PoolKey, ...]) -> None:
    config = MarketConfig(era="rich", episode_slots=40, ticks_per_slot=3)
    assert follow(config, made_slots(pools=pools), 200) > 500


@pytest.mark.parametrize("swaps", [False, True])
def test_the_recorded_days_can_be_played(swaps: bool) -> None:
    data = data_file("blocks").parent
    config, paths = replay_market(data, MarketConfig(era="rich", ticks_per_slot=3), swaps)
    env = MarketVectorEnv(16, config, paths, split="test")
    env.reset(seed=1)
    for _ in range(200):
        observation, reward, *_ = env.step(np.where(env.action_masks()[:, 1], 1, PASS))
        assert np.all(np.isfinite(observation))
        assert np.all(np.isfinite(reward))
    wealth = env.wealth()
    turnover = sum(np.abs(gain) for gain in wealth.values())
    assert np.max(np.abs(sum(wealth.values())) / turnover) < 1e-9
