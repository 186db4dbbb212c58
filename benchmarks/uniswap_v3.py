"""Exact Uniswap V3 quotes beside the same arithmetic in lean Python integers, on one thread: quotes
that stay in one range and quotes over 17 of them, both directions, exact input and output."""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence

import numpy as np

from benchmarks.harness import Measurement, check, paired_seconds
from kernels.numbers.u256 import from_limbs, to_limbs
from kernels.pools.uniswap_v3.liquidity import (
    LiquidityChanges,
    empty_liquidity_results,
    modify_liquidity_batch,
)
from kernels.pools.uniswap_v3.pool import TradeResults, Trades, empty_results, swap_batch
from kernels.pools.uniswap_v3.state import PoolSnapshot, V3Pools, build_pools, read_pool
from kernels.pools.uniswap_v3.status import OK
from kernels.pools.uniswap_v3.tick_math import (
    FACTORS,
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
)

SEED = 20240117
FEE_PIPS, SPACING = 3000, 60
START_TICK = 200_000  # about USDC/WETH
LIQUIDITY = 5 * 10**18
RANGES = 30  # positions on either side of the price
Q96 = 1 << 96
MAX_U256 = (1 << 256) - 1

Kind = tuple[bool, bool]  # zero_for_one, exact_in
Quote = tuple[int, int, int]  # paid, received, steps


def price_at(tick: int) -> int:
    """getSqrtRatioAtTick."""
    magnitude = abs(tick)
    ratio = 1 << 128
    for k, factor in enumerate(FACTORS):
        if magnitude >> k & 1:
            ratio = ratio * factor >> 128
    if tick > 0:
        ratio = MAX_U256 // ratio
    return -(-ratio >> 32)


def amount0(low: int, high: int, liquidity: int, up: bool) -> int:
    scaled = (liquidity << 96) * (high - low)
    return -(-scaled // high // low) if up else scaled // high // low


def amount1(low: int, high: int, liquidity: int, up: bool) -> int:
    scaled = liquidity * (high - low)
    return -(-scaled >> 96) if up else scaled >> 96


def python_step(
    price: int, target: int, liquidity: int, remaining: int, exact_in: bool
) -> tuple[int, int, int]:
    """computeSwapStep: (price, paid with fee, received)."""
    down = price >= target
    low, high = (target, price) if down else (price, target)
    if exact_in:
        rest = remaining * (1_000_000 - FEE_PIPS) // 1_000_000
        needed = (amount0 if down else amount1)(low, high, liquidity, True)
        if rest >= needed:
            price_next, paid = target, needed - (-needed * FEE_PIPS // (1_000_000 - FEE_PIPS))
        else:
            paid = remaining
            if down:
                scaled = liquidity << 96
                price_next = -(-scaled * price // (scaled + rest * price))
            else:
                price_next = price + (rest << 96) // liquidity
        if down:
            return price_next, paid, amount1(price_next, price, liquidity, False)
        return price_next, paid, amount0(price, price_next, liquidity, False)
    offered = (amount1 if down else amount0)(low, high, liquidity, False)
    price_next, received = target, offered
    if remaining < offered:
        received = remaining
        if down:
            price_next = price + -(remaining << 96) // liquidity
        else:
            scaled = liquidity << 96
            price_next = -(-scaled * price // (scaled - remaining * price))
    low, high = (price_next, price) if down else (price, price_next)
    needed = (amount0 if down else amount1)(low, high, liquidity, True)
    return price_next, needed - (-needed * FEE_PIPS // (1_000_000 - FEE_PIPS)), received


def python_quote(
    snapshot: PoolSnapshot, ticks: list[int], nets: list[int], kind: Kind, amount: int
) -> Quote:
    """The loop of UniswapV3Pool.swap over sorted ticks, without the final tick."""
    zero_for_one, exact_in = kind
    price, tick, liquidity = snapshot.sqrt_price_x96, snapshot.tick, snapshot.liquidity
    limit = MIN_SQRT_RATIO + 1 if zero_for_one else MAX_SQRT_RATIO - 1
    remaining, paid, received, steps = amount, 0, 0, 0
    while remaining and price != limit:
        steps += 1
        compressed = tick // SPACING
        place = bisect.bisect_right(ticks, tick) - zero_for_one
        if zero_for_one:
            stop = (compressed >> 8 << 8) * SPACING
            found = place >= 0 and ticks[place] >= stop
        else:
            stop = (((compressed + 1) >> 8 << 8) + 255) * SPACING
            found = place < len(ticks) and ticks[place] <= stop
        stop = ticks[place] if found else min(max(stop, MIN_TICK), MAX_TICK)
        price_stop = price_at(stop)
        target = max(price_stop, limit) if zero_for_one else min(price_stop, limit)
        price, step_paid, step_received = python_step(price, target, liquidity, remaining, exact_in)
        remaining -= step_paid if exact_in else step_received
        paid += step_paid
        received += step_received
        if price == price_stop:
            if found:
                liquidity += -nets[place] if zero_for_one else nets[place]
            tick = stop - 1 if zero_for_one else stop
    return paid, received, steps


def pool_of_adjacent_positions() -> V3Pools:
    """One pool with different liquidity in each of 60 neighbouring ranges."""
    price = price_at(START_TICK) + 12345
    pools = build_pools([PoolSnapshot(price, START_TICK, 0, FEE_PIPS, SPACING)], 2 * RANGES + 1)
    rng = random.Random(SEED)
    centre = START_TICK // SPACING
    lower = np.arange(centre - RANGES, centre + RANGES) * SPACING
    changes = LiquidityChanges(
        pool=np.zeros(lower.size, np.int32),
        lower=lower.astype(np.int32),
        upper=(lower + SPACING).astype(np.int32),
        mint=np.ones(lower.size, np.bool_),
        amount=to_limbs([LIQUIDITY + rng.randrange(LIQUIDITY) for _ in lower], 2),
    )
    results = empty_liquidity_results(lower.size)
    modify_liquidity_batch(pools, changes, results)
    check(not results.status.any(), "a position of the benchmark's pool was refused")
    return pools


def trades_of(kind: Kind, amounts: Sequence[int], limit: int = 0) -> Trades:
    count = len(amounts)
    return Trades(
        pool=np.zeros(count, np.int32),
        zero_for_one=np.full(count, kind[0]),
        exact_in=np.full(count, kind[1]),
        amount=to_limbs(amounts, 4),
        limit=to_limbs([limit] * count, 4),
    )


def amount_over(pools: V3Pools, kind: Kind, ticks: int) -> int:
    """Amount whose quote ends `ticks` ticks away: what a price limit there lets through."""
    limit = price_at(START_TICK + (-ticks if kind[0] else ticks))
    results = empty_results(1)
    swap_batch(pools, trades_of(kind, [1 << 200], limit), results, False)
    return from_limbs(results.amount_in if kind[1] else results.amount_out)[0]


def check_quotes(results: TradeResults, expected: Sequence[Quote], name: str) -> None:
    check(bool((results.status == OK).all()), f"{name}: a quote was refused")
    found = zip(from_limbs(results.amount_in), from_limbs(results.amount_out))
    same = all(pair == quote[:2] for pair, quote in zip(found, expected))
    check(same, f"{name}: a quote differs from Python integers")


def quotes(
    pools: V3Pools, name: str, ticks: int, quick: bool, target_ratio: float
) -> list[Measurement]:
    """Quotes of all four kinds that end `ticks` ticks away, each kind timed beside Python."""
    snapshot = read_pool(pools, 0)
    places = sorted(snapshot.ticks)
    nets = [snapshot.ticks[tick][1] for tick in places]
    count = 200 if quick else 1000
    kernel_s = python_s = 0.0
    steps = []
    for kind in [(down, exact_in) for down in (True, False) for exact_in in (True, False)]:
        most = amount_over(pools, kind, ticks)
        amounts = [most - most * k // (20 * count) for k in range(count)]
        trades, results = trades_of(kind, amounts), empty_results(count)

        def kernel(trades: Trades = trades, results: TradeResults = results) -> None:
            swap_batch(pools, trades, results, False)

        def python(kind: Kind = kind, amounts: list[int] = amounts) -> list[Quote]:
            return [python_quote(snapshot, places, nets, kind, amount) for amount in amounts]

        kernel()
        expected = python()
        check_quotes(results, expected, name)
        steps += [quote[2] for quote in expected]
        one_kernel, one_python = paired_seconds(kernel, python, 0.5 if quick else 4.0, rounds=9)
        kernel_s += one_kernel
        python_s += one_python
    note = f"{min(steps)} to {max(steps)} steps, both directions, exact in and out"
    return [
        Measurement(f"V3 {name} quotes", 4 * count / kernel_s, "quotes/s", note),
        Measurement(f"V3 {name} quotes, Python integers", 4 * count / python_s, "quotes/s"),
        Measurement(
            f"V3 {name}: exact / Python integers",
            python_s / kernel_s,
            "ratio",
            at_least=target_ratio,
        ),
    ]


def run(quick: bool) -> list[Measurement]:
    pools = pool_of_adjacent_positions()
    one_range = quotes(pools, "one-range", SPACING // 3, quick, 58.0)
    return one_range + quotes(pools, "17-step", 16 * SPACING + SPACING // 2, quick, 56.0)
