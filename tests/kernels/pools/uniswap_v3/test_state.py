"""Pool arrays: built from integers and read back, mirrors in step with them, bad input named; and
the float mirrors within their stated distance of the exact quotes."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from kernels.numbers.u256 import from_limbs, to_limbs
from kernels.pools.uniswap_v3.float_filter import float_output, rank_outputs
from kernels.pools.uniswap_v3.pool import TradeResults, Trades, empty_results, swap_batch
from kernels.pools.uniswap_v3.state import PoolSnapshot, V3Pools, build_pools, read_pool
from kernels.pools.uniswap_v3.status import OK
from tests.support.uniswap_v3 import reference
from tests.support.uniswap_v3.kernels import modify_one, swap_one

GOOD = PoolSnapshot(
    sqrt_price_x96=reference.get_sqrt_ratio_at_tick(7) + 1,
    tick=7,
    liquidity=5 * 10**18,
    fee_pips=3000,
    tick_spacing=60,
    ticks={
        -120: (5 * 10**18, 5 * 10**18),
        60: (7 * 10**18, 2 * 10**18),
        120: (7 * 10**18, -7 * 10**18),
    },
    protocol_fee=(4, 5),
)


def test_snapshots_come_back() -> None:
    other = replace(GOOD, ticks={}, liquidity=0, fee_pips=500, tick_spacing=10)
    pools = build_pools([GOOD, other, GOOD], spare_ticks=1)
    assert [read_pool(pools, pool) for pool in range(3)] == [GOOD, other, GOOD]
    for array in pools:
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sqrt_price_x96", 0, r"pools\[0\].sqrt_price_x96 = 0: expected an initialised pool"),
        ("sqrt_price_x96", 2**96 + 2**92, r"pools\[0\].tick = 7: .* belongs to tick 1212"),
        ("tick", 5, r"pools\[0\].tick = 5: sqrt_price_x96"),
        ("liquidity", -1, r"liquidity = -1: expected a uint128"),
        ("liquidity", 5, r"liquidity = 5: expected 5000000000000000000, the sum of net"),
        ("fee_pips", 1_000_001, r"fee_pips = 1000001"),
        ("fork", 7, r"fork = 7: expected one of"),
        ("tick_spacing", 0, r"tick_spacing = 0"),
        ("known_ticks", (9, 120), r"known_ticks = \(9, 120\).*holds the tick 7"),
        ("ticks", {61: (1, 1)}, r"ticks\[61\] = 61: expected a multiple of tick_spacing 60"),
        ("ticks", {60: (0, 0)}, r"ticks\[60\].gross = 0"),
        ("ticks", {60: (1, -2)}, r"ticks\[60\].net = -2: expected -gross..gross"),
        ("ticks", {60: (2**128, 1)}, r"ticks\[60\].gross"),
    ],
)
def test_impossible_pools_are_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_pools([replace(GOOD, **{field: value})])


def random_pool(
    rng: random.Random, spacing: int = 60, held: list[tuple[int, int, int]] | None = None
) -> V3Pools:
    """A pool with 12 positions, which are added to `held`."""
    tick = rng.randint(-200_000, 200_000)
    price = reference.get_sqrt_ratio_at_tick(tick)
    pools = build_pools([PoolSnapshot(price, tick, 0, rng.choice([500, 3000]), spacing)], 200)
    scale = 10 ** rng.uniform(15, 24)
    centre = tick // spacing
    for _ in range(12):
        lower = centre - rng.randint(0, 40)
        upper = centre + rng.randint(1, 40)
        amount = int(scale * rng.uniform(0.1, 3))
        assert modify_one(pools, lower * spacing, upper * spacing, amount)[0] == OK
        if held is not None:
            held.append((lower * spacing, upper * spacing, amount))
    return pools


def test_mirrors_follow_every_write() -> None:
    rng = random.Random(11)
    for _ in range(6):
        held: list[tuple[int, int, int]] = []
        pools = random_pool(rng, held=held)
        for _ in range(20):
            swap_one(pools, rng.random() < 0.5, int(10 ** rng.uniform(15, 22)), 0, commit=True)
            if rng.random() < 0.5:
                lower, upper, amount = held.pop(rng.randrange(len(held)))
                assert modify_one(pools, lower, upper, -amount)[0] == OK
            else:
                lower, upper = sorted(rng.sample(sorted(read_pool(pools, 0).ticks), 2))
                held.append((lower, upper, int(10 ** rng.uniform(10, 20))))
                assert modify_one(pools, *held[-1])[0] == OK
        rebuilt = build_pools([read_pool(pools, 0)], spare_ticks=200)
        count = int(pools.tick_count[0])
        for name, fresh, used in zip(V3Pools._fields, rebuilt, pools, strict=True):
            if name != "first_tick":
                rows = count if name.startswith(("tick_sqrt", "ticks", "liquidity_")) else None
                rows = None if name == "liquidity_f64" else rows
                assert np.array_equal(fresh[:rows], used[:rows]), name


def quote_many(pools: V3Pools, zero_for_one: bool, amounts: list[int]) -> TradeResults:
    count = len(amounts)
    trades = Trades(
        pool=np.zeros(count, np.int32),
        zero_for_one=np.full(count, zero_for_one),
        exact_in=np.ones(count, np.bool_),
        amount=to_limbs(amounts, 4),
        limit=np.zeros((count, 4), np.uint64),
    )
    results = empty_results(count)
    swap_batch(pools, trades, results, False)
    return results


def unit_values(pools: V3Pools, zero_for_one: bool) -> tuple[float, float]:
    """(sqrt_price in the direction of the trade, what the contract may round away per range)."""
    root = float(pools.sqrt_price_f64[0])
    root = root if zero_for_one else 1 / root
    price = root * root
    return root, 1 + price + float(pools.liquidity_f64[0]) * max(1.0, price) / 2**96


@pytest.mark.parametrize("zero_for_one", [True, False])
def test_vectorised_ranking_keeps_its_bound(zero_for_one: bool) -> None:
    rng = random.Random(12)
    for _ in range(20):
        pools = random_pool(rng)
        root, rounding = unit_values(pools, zero_for_one)
        liquidity = float(pools.liquidity_f64[0])
        # a thousandth of what moves the price by one part in ten thousand, down to dust
        amounts = [int(liquidity / root * 10 ** rng.uniform(-12, -4.5)) + 1 for _ in range(100)]
        results = quote_many(pools, zero_for_one, amounts)
        exact = np.array(from_limbs(results.amount_out), dtype=np.float64)
        inside = (results.ticks_crossed == 0) & (results.status == OK)
        assert inside.sum() > 30
        ranked = np.empty(100)
        rank_outputs(
            np.array(amounts, dtype=np.float64),
            np.full(100, root),
            np.full(100, liquidity),
            np.full(100, 1 - pools.fee_pips[0] * 1e-6),
            ranked,
        )
        assert np.all(np.abs(ranked - exact)[inside] <= (1e-14 * exact + rounding)[inside])


@pytest.mark.parametrize("zero_for_one", [True, False])
def test_float_walk_follows_the_exact_one_over_many_ranges(zero_for_one: bool) -> None:
    rng = random.Random(13)
    crossed = 0
    for _ in range(20):
        pools = random_pool(rng)
        root, rounding = unit_values(pools, zero_for_one)
        size = float(pools.liquidity_f64[0]) / root
        amounts = [int(size * 10 ** rng.uniform(-6, 0.5)) + 1 for _ in range(50)]
        results = quote_many(pools, zero_for_one, amounts)
        exact = from_limbs(results.amount_out)
        spent = from_limbs(results.amount_in)
        for row, amount in enumerate(amounts):
            if spent[row] < amount:
                continue  # beyond the last tick dust decides, which floats do not see
            ranges = 2 + int(results.ticks_crossed[row])
            found = float_output(pools, 0, zero_for_one, float(amount))
            assert abs(found - exact[row]) <= 1e-10 * exact[row] + 4 * ranges * rounding
            crossed += ranges > 4
    assert crossed > 50
