"""Simulated episodes executed again on integers: by the exact kernels, and by the real contracts.

Counts are printed: pytest -m exhaustive -rP tests/envs/market/test_exactness.py.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from envs.market.block import WON
from envs.vector import MarketVectorEnv
from kernels.market.action import BID_PPM, BIDS, FIRST_HALF, PPM
from kernels.market.lending import LIQUIDATION_GAS
from kernels.market.tile import (
    BASE_FEE,
    FOUND_AMOUNT_IN,
    FOUND_CYCLE,
    FOUND_GROSS,
    LANES,
    LOAN_POOL,
    LOAN_REPAID,
    OPPORTUNITIES,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_ORDER,
    PENDING_POOL,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    layout_of,
)
from tests.support.exact_market import (
    FEE_PIPS,
    SPACING,
    Ledger,
    PairSwap,
    Plan,
    PoolSwap,
    build_rows,
    positions_on_ticks,
)
from tests.support.uniswap_v2_referee import RevertError, UniswapV2
from tests.support.uniswap_v3.referee import DeployedPool
from tests.support.uniswap_v3.reference import MAX_SQRT_RATIO, MAX_TICK, MIN_SQRT_RATIO
from tests.support.worlds import BARE, markets

GWEI = 10**9
WEI = 1e-18
# A float64 of a hundred ETH is off by up to 7,000 wei, and a profit is a difference of such.
LEAST_PROFIT_WEI = 1e14
EIGHTEEN = {"pools.decimals": (18,) * 4}
KINDS = ("constant products", "with concentrated pools", "across segments", "liquidation")
# Many loans near the edge, and an oracle that moves often enough to liquidate them.
LOANS = {"loans.pools": (0, 1, 0, 1), "loans.health": (1.0, 1.004), "loans.oracle_deviation": 0.001}


@dataclass
class Replayed:
    """What was executed again, and how far it was from what the simulator said."""

    episodes: int = 0
    swaps: int = 0
    plans: list[Plan] = field(default_factory=list)
    ran: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)
    gross: float = 0.0
    """Worst |simulated - exact| / exact gross profit of anybody's plan, above 1e-4 ETH."""
    profit: float = 0.0
    """The same of our profit after gas and bid, where it is above 1e-4 ETH."""
    profit_wei: float = 0.0
    """Worst absolute difference of our profit, wei."""
    outputs: float = 0.0
    """Worst relative difference of what a user got."""
    reserves: float = 0.0
    """Worst relative difference of a reserve or square-root price after any block."""

    def __str__(self) -> str:
        """One line for the log and docs/validation.md."""
        return (
            f"{self.episodes} episodes, {self.swaps} users' swaps, plans {dict(self.ran)}, ours "
            f"{dict(self.own)}; worst relative difference: gross {self.gross:.1e}, our profit "
            f"{self.profit:.1e} ({self.profit_wei:.0f} wei), outputs {self.outputs:.1e}, "
            f"reserves {self.reserves:.1e}"
        )


def _bids(env: MarketVectorEnv, step: int) -> np.ndarray:
    """Whole-size bundles, high enough to win often, on any opportunity that is there."""
    lanes = np.arange(env.num_envs)
    high = BIDS - 12 + (7 * step + 13 * lanes) % 12
    wanted = 1 + BIDS * ((step + lanes) % OPPORTUNITIES) + high
    masks = env.action_masks()
    return np.where(
        masks[lanes, wanted], wanted, np.where(masks[lanes, 1 + high], 1 + high, 0)
    ).astype(np.int64)


def _sell_visible(ledger: Ledger, column: np.ndarray, seen: Replayed) -> None:
    """Users' swaps in the order of the overlay."""
    for place in range(PENDING):
        swap = int(column[PENDING_ORDER + place])
        amount = float(column[PENDING_AMOUNT_IN + swap])
        if column[PENDING_VISIBLE + swap] <= 0.0 or amount <= 0.0:
            continue
        pool = int(column[PENDING_POOL + swap])
        forward = bool(column[PENDING_ZERO_FOR_ONE + swap] > 0.0)
        row_in, row_out = ledger.rows(pool, forward)
        done = ledger.sell(pool, forward, round(amount * ledger.unit[row_in]))
        simulated = float(column[PENDING_AMOUNT_OUT + swap]) * ledger.unit[row_out]
        seen.swaps += 1
        seen.outputs = max(seen.outputs, abs(simulated / done.amount_out - 1.0))


def _run(ledger: Ledger, column: np.ndarray, k: int) -> Plan:
    """Execute opportunity k of the tile."""
    candidate, gross = int(column[FOUND_CYCLE + k]), float(column[FOUND_GROSS + k])
    loan = candidate - ledger.cycles.shape[0]
    if loan >= 0:
        return ledger.run_liquidation(loan, column, float(column[LOAN_REPAID + loan]), gross)
    return ledger.run_cycle(candidate, float(column[FOUND_AMOUNT_IN + k]), gross)


def _first_pool(env: MarketVectorEnv, column: np.ndarray, k: int) -> int:
    graph, candidate = env.config.graph, int(column[FOUND_CYCLE + k])
    loan = candidate - graph.cycle_hops.size
    return int(column[LOAN_POOL + loan] if loan >= 0 else graph.cycle_pool[candidate, 0])


def _compare_profit(
    env: MarketVectorEnv, column: np.ndarray, k: int, plan: Plan, action: int, reward: float
) -> tuple[float, float]:
    """(our profit in wei by integers, |simulated - that|)."""
    graph, candidate = env.config.graph, int(column[FOUND_CYCLE + k])
    loan = candidate >= graph.cycle_hops.size
    gas = int(LIQUIDATION_GAS if loan else graph.cycle_gas[candidate])
    price_wei = round((column[BASE_FEE] + column[OWN_TIP]) * GWEI)
    net_wei = plan.gross_wei - gas * price_wei
    kept_wei = net_wei - net_wei * int(BID_PPM[(action - 1) % BIDS]) // PPM
    return float(kept_wei), abs(reward / WEI - kept_wei)


def replay(lanes: int, slots: int, seed: int, **changes: Any) -> Replayed:
    """Play one whole episode per lane and carry its pools along on integers.

    Every plan that ran is executed, ours and rivals': their pools are disjoint, and the tile's
    reserves tell which ran. Raises AssertionError where a kernel refuses what the simulator did.
    """
    env = markets(lanes, seed=seed, episode_slots=slots, **(BARE | LOANS | changes))
    rows = build_rows(env)
    ledgers = [Ledger(env, lane, rows[lane]) for lane in range(lanes)]
    seen, overlay = Replayed(episodes=lanes), layout_of(env.config.graph).overlay
    whole_wei = all(d == 18 for d in env.config.pools.decimals)
    for step in range(slots):
        before, actions = env._tiles.copy(), _bids(env, step)
        assert actions.max() < FIRST_HALF
        _, reward, _, truncated, infos = env.step(actions)
        for lane, ledger in enumerate(ledgers):
            column, after = before[lane // LANES, :, lane % LANES], ledger.column()
            _sell_visible(ledger, column, seen)
            own = int(infos["opportunity"][lane]) if infos["outcome"][lane] == WON else -1
            for k in range(OPPORTUNITIES):
                if column[FOUND_CYCLE + k] < 0.0:
                    break
                pool = _first_pool(env, column, k)
                moved = after[RESERVES + pool] != column[overlay + pool]
                # The tile of the last block already holds the next episode.
                if k != own and (truncated[lane] or not moved):
                    continue
                plan = _run(ledger, column, k)
                seen.ran[plan.kind] += 1
                off = abs(plan.simulated_gross / WEI - plan.gross_wei)
                if whole_wei and plan.gross_wei > LEAST_PROFIT_WEI:
                    seen.gross = max(seen.gross, off / plan.gross_wei)
                if k != own:
                    continue
                seen.own[plan.kind] += 1
                seen.plans.append(plan)
                kept, off = _compare_profit(env, column, k, plan, int(actions[lane]), reward[lane])
                if whole_wei:
                    seen.profit_wei = max(seen.profit_wei, off)
                    if kept > LEAST_PROFIT_WEI:
                        seen.profit = max(seen.profit, off / kept)
            if not truncated[lane]:
                seen.reserves = max(seen.reserves, ledger.distance())
    return seen


def _on_contracts(plan: Plan, exchange: UniswapV2) -> None:
    """Router quotes, pair swaps and pool swaps agree with every amount of a plan, wei by wei."""
    for swap in plan.swaps:
        if isinstance(swap, PoolSwap):
            _on_pool(swap)
        else:
            _on_pair(swap, exchange, exact_in=plan.kind != "liquidation")


def _on_pair(swap: PairSwap, exchange: UniswapV2, exact_in: bool) -> None:
    """A real pair pays what was quoted, and reverts for one unit more or one paid less."""
    sold, bought, paid, out = swap.sold, swap.bought, swap.amount_in, swap.amount_out
    if exact_in:
        assert exchange.get_amount_out(paid, sold, bought) == out
        worse = (paid, out + 1)
    else:
        assert exchange.get_amount_in(out, sold, bought) == paid
        worse = (paid - 1, out)
    after = exchange.swap((sold, bought), (paid, 0), (0, out))
    assert after == (sold + paid, bought - out)
    with pytest.raises(RevertError, match="UniswapV2: K"):
        exchange.swap((sold, bought), (worse[0], 0), (0, worse[1]))


def _on_pool(swap: PoolSwap) -> None:
    """The deployed pool, whose liquidity is minted or burnt where a segment ends."""
    edge = MAX_TICK // SPACING * SPACING
    pool = DeployedPool.create(FEE_PIPS, SPACING, swap.steps[0].sqrt_price)
    held = 0
    left = swap.amount_in
    for step in swap.steps:
        if step.liquidity > held:
            pool.mint(-edge, edge, step.liquidity - held)
        elif step.liquidity < held:
            pool.burn(-edge, edge, held - step.liquidity)
        held = step.liquidity
        furthest = MIN_SQRT_RATIO + 1 if swap.forward else MAX_SQRT_RATIO - 1
        done = pool.swap(swap.forward, left, step.limit or furthest)
        paid, got = _in_order(swap.forward, done.amount0, done.amount1)
        assert (paid, got) == (step.amount_in, step.amount_out)
        assert (done.sqrt_price, done.liquidity) == (step.after, held)
        left -= paid
    assert left == 0


def _in_order(forward: bool, amount0: int, amount1: int) -> tuple[int, int]:
    """(paid, received) of what a pool reports, both positive."""
    return (amount0, -amount1) if forward else (amount1, -amount0)


def _on_tick_pool(swap: PoolSwap) -> int:
    """What the deployed pool pays when every segment is a position between the nearest ticks."""
    pool = DeployedPool.create(FEE_PIPS, 1, swap.steps[0].sqrt_price)
    for lower, upper, amount in positions_on_ticks(swap):
        pool.mint(lower, upper, amount)
    furthest = MIN_SQRT_RATIO + 1 if swap.forward else MAX_SQRT_RATIO - 1
    done = pool.swap(swap.forward, swap.amount_in, furthest)
    paid, got = _in_order(swap.forward, done.amount0, done.amount1)
    assert paid == swap.amount_in
    return got


def _gross_on_ticks(plan: Plan) -> int:
    """Gross profit of a cycle whose concentrated pools have their ends on the nearest ticks."""
    left = start = plan.swaps[0].amount_in
    for swap in plan.swaps:
        left = swap.quote_on_ticks(left)
    return left - start


def _check(seen: Replayed) -> None:
    """The promises: a billionth in float, no plan of any kind missing."""
    assert seen.profit < 1e-9
    assert seen.gross < 1e-9
    assert seen.profit_wei < 1e5
    assert seen.outputs < 1e-12
    assert seen.reserves < 1e-12
    assert all(seen.ran[kind] > 0 and seen.own[kind] > 0 for kind in KINDS), seen.own


def _sample(plans: list[Plan], each: int) -> list[Plan]:
    """The first `each` plans of every kind."""
    return [plan for kind in KINDS for plan in [p for p in plans if p.kind == kind][:each]]


def test_profits_differ_from_exact_execution_by_less_than_a_billionth() -> None:
    """64 episodes carried on integers; relative to profits above 1e-4 ETH."""
    seen = replay(64, 24, 21, **EIGHTEEN)
    print(seen)
    _check(seen)


def test_plans_run_on_the_real_contracts_to_the_wei() -> None:
    """Default decimals: pairs, pools and router agree with every amount of each kind of plan."""
    seen = replay(48, 24, 22)
    exchange = UniswapV2()
    assert exchange.is_token0(0, 1) in (True, False)
    sample = _sample(seen.plans, 6)
    assert Counter(plan.kind for plan in sample) == dict.fromkeys(KINDS, 6)
    for plan in sample:
        _on_contracts(plan, exchange)


def test_ends_on_ticks_cost_little() -> None:
    """Ends on the nearest ticks move by half a tick; plans that stay inside notice nothing."""
    plans = replay(48, 24, 23, **EIGHTEEN).plans
    inside = [p for p in plans if p.kind == "with concentrated pools"]
    across = [p for p in plans if p.kind == "across segments"]
    assert len(inside) > 50
    assert len(across) > 50
    off = np.array([abs(_gross_on_ticks(p) / p.gross_wei - 1.0) for p in inside])
    assert np.median(off) == 0.0
    off = np.array([abs(_gross_on_ticks(p) / p.gross_wei - 1.0) for p in across])
    print(f"ticks: median {np.median(off):.1e}, 99 % {np.quantile(off, 0.99):.1e}")
    assert np.median(off) < 1e-2
    for plan in across[:6]:
        for swap in plan.swaps:
            if isinstance(swap, PoolSwap):
                assert swap.quote_on_ticks(swap.amount_in) == _on_tick_pool(swap)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_episodes_executed_again(seed: int) -> None:
    """4 x 256 whole episodes of the default length, and 4 x 200 plans on the real contracts."""
    seen = replay(256, 256, 30 + seed, **EIGHTEEN)
    _check(seen)
    exchange, sample = UniswapV2(), _sample(seen.plans, 50)
    for plan in sample:
        _on_contracts(plan, exchange)
    cycles = [p for p in seen.plans if p.kind == "across segments"][:1000]
    off = np.array([abs(_gross_on_ticks(p) / p.gross_wei - 1.0) for p in cycles])
    ticks = f"{np.median(off):.1e} (median), {off.max():.1e} (worst)"
    print(f"{seen}; {len(sample)} plans on the contracts, 0 wei off; ends on ticks move {ticks}")
