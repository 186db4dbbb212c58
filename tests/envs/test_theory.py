"""Arbitrage against the reference price earns what theory says: LVR without a fee (Milionis et al.
2022), Poisson blocks with a fee (Milionis, Moallemi, Roughgarden 2023), blocks at a fixed time
(Nezlobin and Tassy 2025). All on the environment's own pools, paths and informed traders.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from envs.market import MarketConfig
from envs.paths import SLOTS_PER_MINUTE, PricePaths
from envs.physics import INFORMED_BOOK, PRICE, book_row
from envs.vector import MarketVectorEnv
from kernels.market import RESERVES
from tests.envs.worlds import BARE

pytestmark = pytest.mark.theory

FEE = -float(np.log(0.997))  # the log half-width of the band without arbitrage
POOLS = 2  # the fewest that make a cycle, without which there is no graph
NEZLOBIN_TASSY = 1.7164519  # sqrt(2 pi) / |zeta(1/2)|


@dataclass(frozen=True)
class Arbitrage:
    """What informed traders earned, in units of the pools' value, and how often they traded."""

    profit: float  # per slot and pool value
    error: float  # standard error of it
    trades: float  # per slot and pool


def _paths(slot_deviation: float, seed: int = 3) -> PricePaths:
    """A dollar that is a martingale in ETH, with the same deviation in every slot."""
    minutes = int(min(1_000_000, 100.0 / slot_deviation**2))  # the price must stay a float
    rng = np.random.default_rng(seed)
    per_minute = SLOTS_PER_MINUTE * slot_deviation**2
    # The dollar costs 1 / (ETH/USD): its drift is 0 when ln ETH/USD drifts by half the variance.
    steps = rng.normal(0.5 * per_minute, np.sqrt(per_minute), minutes)
    log_price = np.zeros((minutes, 2))
    log_price[:, 0] = np.cumsum(steps) + np.log(2000.0)
    return PricePaths(
        log_price=log_price,
        slot_sigma=np.full((minutes, 2), slot_deviation),
        forecast=np.full((minutes, 3), -12.0),
        segment=np.zeros(minutes, np.int64),
        source="driftless Brownian dollar",
    )


def _watch(
    slot_deviation: float, fee_numerator: int, watched: float = 1.0, lanes: int = 2048
) -> Arbitrage:
    """Let nobody but informed traders play, on pools of WETH and one dollar; gas costs nothing."""
    slots = 1500 if watched < 1.0 else 360
    # The mispricing of the start is forgotten after it has crossed the band a few times.
    ratio = -np.log(fee_numerator / 1000) / (slot_deviation / np.sqrt(watched))
    settling = int((40 + 8 * ratio**2) / watched)
    bare: dict[str, Any] = BARE | {"informed_probability": watched, "concentrated_pools": 0}
    config = MarketConfig(
        **bare,
        episode_slots=slots + settling + 1,
        symbols=("WETH", "DAI"),
        decimals=(18, 18),
        eth_exposure=(0.0, -1.0),
        btc_exposure=(0.0, 0.0),
        token0=(0,) * POOLS,
        token1=(1,) * POOLS,
        depth_eth=(2000.0,) * POOLS,
        fee_numerator=fee_numerator,
        user_rate=1e-12,
        swap_gas=1,
        informed_payment_bps=(0.0,) * 5,
        own_tip_gwei=0.0,
        base_fee_median_gwei=1e-3,
        base_gas=10**15,  # no cycle ever pays: only the reference price is arbitraged
    )
    env = MarketVectorEnv(lanes, config, _paths(slot_deviation), seed=1)
    env.reset(seed=1)
    price = slice(env._physics.world + PRICE, env._physics.world + PRICE + 2)
    first = book_row(env._physics.world, 2, INFORMED_BOOK)
    informed = slice(first, first + 2)
    profits, trades = [], []
    for slot in range(slots + settling):
        before = env._tiles.copy()
        env.step(np.zeros(lanes, np.int64))
        after = env._tiles
        if slot < settling:
            continue
        # They trade at the price of the slot, which moves afterwards.
        gain = ((after[:, informed] - before[:, informed]) * before[:, price]).sum(axis=1)
        held = before[:, RESERVES : RESERVES + 2 * POOLS].reshape(-1, 2, POOLS, 16).sum(axis=2)
        profits.append((gain / (held * before[:, price]).sum(axis=1)).reshape(-1))
        moved = after[:, RESERVES : RESERVES + POOLS] != before[:, RESERVES : RESERVES + POOLS]
        trades.append(moved.mean())
    by_lane = np.mean(profits, axis=0)
    return Arbitrage(
        profit=float(by_lane.mean()),
        error=float(by_lane.std() / np.sqrt(by_lane.size)),
        trades=float(np.mean(trades)),
    )


@pytest.mark.parametrize("deviation", [0.002, 0.01, 0.05])
def test_o2_loss_versus_rebalancing_without_a_fee(deviation: float) -> None:
    """E[profit] / V = 1 - exp(-s^2 / 8) per block, within 2 %.

    The tabulated normal of the bridge has 0.7 % too little variance.
    """
    seen = _watch(deviation, fee_numerator=1000)
    expected = -np.expm1(-(deviation**2) / 8.0)
    assert seen.profit == pytest.approx(expected, rel=0.02)
    assert seen.error < 0.01 * expected
    assert seen.trades > 0.999


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0, 5.0])
def test_o3_fee_and_poisson_arrivals(ratio: float) -> None:
    """P(trade) = 1 / (1 + sqrt 2 g / s), profit = s^2/8 P cosh(g/2) / (1 - s^2/8), within 3 %.

    s is the deviation between arrivals, g the fee in logs. An arbitrageur comes with chance 0.04
    per slot, so that waiting times are geometric and almost exponential. At g / s = 5 trades are
    few and the lanes share one price path: 7 %.
    """
    tolerance = 0.07 if ratio > 2.0 else 0.03
    chance = 0.04
    between = FEE / ratio
    seen = _watch(between * np.sqrt(chance), fee_numerator=997, watched=chance)
    trade = 1.0 / (1.0 + np.sqrt(2.0) * ratio)
    profit = between**2 / 8.0 * trade * np.cosh(FEE / 2.0) / (1.0 - between**2 / 8.0)
    assert seen.trades / chance == pytest.approx(trade, rel=tolerance)
    assert seen.profit / chance == pytest.approx(profit, rel=tolerance)


@pytest.mark.parametrize(
    ("ratio", "trade"), [(0.5, 0.64896), (1.0, 0.44719), (2.0, 0.27391), (5.0, 0.12665)]
)
def test_o4_fee_and_blocks_at_a_fixed_time(ratio: float, trade: float) -> None:
    """Profit / V = (s^2 / 4) / (2 + 1.7164519 w / s) with w = 2 g, the whole band; within 3 %."""
    deviation = FEE / ratio
    seen = _watch(deviation, fee_numerator=997)
    profit = deviation**2 / 4.0 / (2.0 + NEZLOBIN_TASSY * 2.0 * FEE / deviation)
    assert seen.trades == pytest.approx(trade, rel=0.02)
    assert seen.profit == pytest.approx(profit, rel=0.03)
