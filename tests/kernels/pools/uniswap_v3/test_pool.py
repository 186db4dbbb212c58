"""Whole pools: kernels against the deployed bytecode, on random lives and on chosen moments."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from kernels.pools.uniswap_v3.forks import FORKS
from kernels.pools.uniswap_v3.state import PoolSnapshot, V3Pools, build_pools, read_pool
from kernels.pools.uniswap_v3.status import (
    OK,
    PRICE_LIMIT,
    TICK_SPACING,
    TICKS_FULL,
    TICKS_UNKNOWN,
    UNKNOWN_POOL,
    ZERO_AMOUNT,
)
from tests.support.uniswap_v3 import reference
from tests.support.uniswap_v3.cases import PoolLife
from tests.support.uniswap_v3.kernels import modify_one, swap_one

LOWEST, HIGHEST = reference.MIN_SQRT_RATIO + 1, reference.MAX_SQRT_RATIO - 1


def live(fork: str, seed: int, swaps: int) -> Counter[str]:
    """Random pools of `fork` until `swaps` swaps that went through have been compared."""
    seen: Counter[str] = Counter()
    rng = random.Random(f"{fork} {seed}")
    while seen["swap"] < swaps:
        life = PoolLife(rng, fork)
        life.live(rng.randint(20, 60))
        seen += life.seen
    return seen


def check_coverage(seen: Counter[str], fork: str, swaps: int) -> None:
    """A fuzz that no longer reaches what it is for must not pass."""
    assert seen["stopped at the limit"] > swaps // 20
    for fee in FORKS[fork if fork in FORKS else "uniswap_v3"].fee_tiers:
        assert seen[f"fee {fee}"] > swaps // 40, fee
    assert seen["several steps"] > swaps // 10
    assert seen["swap reverted"] > swaps // 100
    for kind in ("zero for one", "one for zero", "exact in", "exact out"):
        assert seen[kind] > swaps // 5, kind
    assert seen["spacing 1"] > swaps // 20
    assert min(seen["mint in range"], seen["burn in range"]) > swaps // 200
    assert min(seen["mint reverted"], seen["burn reverted"]) > 0


@pytest.mark.parametrize("fork", ["uniswap_v3", "pancake_v3"])
def test_pools_equal_the_deployed_contract(fork: str) -> None:
    check_coverage(live(fork, seed=1, swaps=600), fork, 600)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("fork", "swaps"), [("uniswap_v3", 20_000), ("pancake_v3", 5_000)])
def test_pools_equal_the_deployed_contract_exhaustively(fork: str, swaps: int) -> None:
    seen = live(fork, seed=2, swaps=swaps)
    print(f"{fork}: 0 mismatches in {dict(seen)}")
    check_coverage(seen, fork, swaps)


def pool_with(positions: list[tuple[int, int, int]], spacing: int = 60, tick: int = 0) -> V3Pools:
    """One pool at `tick` with (lower, upper, liquidity) minted into it."""
    price = reference.get_sqrt_ratio_at_tick(tick)
    pools = build_pools([PoolSnapshot(price, tick, 0, 3000, spacing)])
    for lower, upper, amount in positions:
        assert modify_one(pools, lower, upper, amount)[0] == OK
    return pools


def test_initialised_tick_with_net_zero_is_kept_and_rounds() -> None:
    pools = pool_with([(-120, -60, 10**18), (-60, 60, 10**18)])
    assert dict(read_pool(pools, 0).ticks)[-60] == (2 * 10**18, 0)
    # The same liquidity without the tick in between is another computation: one stop less to round.
    plain = pool_with([(-120, 60, 10**18)])
    amounts = [10**15 + 7919 * k for k in range(400)]
    differ = [
        swap_one(pools, True, amount * 5, LOWEST, False)
        != swap_one(plain, True, amount * 5, LOWEST, False)
        for amount in amounts
    ]
    assert any(differ)


def test_pool_without_liquidity_crosses_words_at_no_cost() -> None:
    """Spacing 1 over 700,000 ticks: the empty words are skipped, the liquidity behind is found."""
    far = -700_000
    for lower, zero_for_one, limit in ((far - 100, True, LOWEST), (-far, False, HIGHEST)):
        pools = pool_with([(lower, lower + 100, 10**15)], spacing=1)
        model = reference.Pool.initialized(3000, 1, reference.get_sqrt_ratio_at_tick(0))
        model.modify_liquidity(lower, lower + 100, 10**15)
        done = model.swap(zero_for_one, 10**6, limit)
        got = swap_one(pools, zero_for_one, 10**6, limit, commit=True)
        assert got == (OK, done.amount0, done.amount1)
        state = read_pool(pools, 0)
        assert (state.sqrt_price_x96, state.tick) == (model.sqrt_price, model.tick)


@pytest.mark.parametrize("zero_for_one", [True, False])
@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("spacing", [1, 10])
def test_empty_pool_stops_where_the_contract_stops(
    zero_for_one: bool, offset: int, spacing: int
) -> None:
    """A limit exactly on a word boundary leaves slot0's tick below the price's own."""
    for word in (1, 2, 5):
        boundary = (-256 * word if zero_for_one else 256 * word - 1) * spacing
        limit = reference.get_sqrt_ratio_at_tick(boundary) + offset
        pools = pool_with([], spacing)
        model = reference.Pool.initialized(3000, spacing, reference.get_sqrt_ratio_at_tick(0))
        model.swap(zero_for_one, 10**18, limit)
        assert swap_one(pools, zero_for_one, 10**18, limit, commit=True) == (OK, 0, 0)
        state = read_pool(pools, 0)
        assert (state.sqrt_price_x96, state.tick) == (model.sqrt_price, model.tick)


def test_refusals_have_names_and_change_nothing() -> None:
    pools = pool_with([(-120, 120, 10**18)])
    before = read_pool(pools, 0)
    price = before.sqrt_price_x96
    assert swap_one(pools, True, 0, LOWEST, True)[0] == ZERO_AMOUNT
    assert swap_one(pools, True, 1, price, True)[0] == PRICE_LIMIT
    assert swap_one(pools, False, 1, price, True)[0] == PRICE_LIMIT
    assert swap_one(pools, True, 1, reference.MIN_SQRT_RATIO, True)[0] == PRICE_LIMIT
    assert swap_one(pools, False, 1, reference.MAX_SQRT_RATIO, True)[0] == PRICE_LIMIT
    assert modify_one(pools, -61, 60, 1)[0] == TICK_SPACING
    assert read_pool(pools, 0) == before
    trade = (np.array([1], np.int32), np.ones(1, np.bool_), np.ones(1, np.bool_))
    assert _status(pools, *trade) == UNKNOWN_POOL
    assert _status(pools, np.array([-1], np.int32), *trade[1:]) == UNKNOWN_POOL


def _status(pools: V3Pools, pool: np.ndarray, side: np.ndarray, exact_in: np.ndarray) -> int:
    from kernels.pools.uniswap_v3.pool import Trades, empty_results, swap_batch

    results = empty_results(1)
    amount = np.ones((1, 4), np.uint64)
    swap_batch(pools, Trades(pool, side, exact_in, amount, 0 * amount), results, True)
    return int(results.status[0])


def test_limit_zero_is_the_routers_no_limit() -> None:
    pools = pool_with([(-120, 120, 10**18)])
    for zero_for_one, furthest in ((True, LOWEST), (False, HIGHEST)):
        for amount in (10**12, -(10**12), 10**30):
            assert swap_one(pools, zero_for_one, amount, 0, False) == swap_one(
                pools, zero_for_one, amount, furthest, False
            )


def test_slice_without_room_refuses_the_mint() -> None:
    price = reference.get_sqrt_ratio_at_tick(0)
    pools = build_pools([PoolSnapshot(price, 0, 0, 3000, 60)] * 2, spare_ticks=3)
    assert modify_one(pools, -60, 60, 5)[0] == OK
    assert modify_one(pools, -120, 60, 5)[0] == OK
    before = read_pool(pools, 0)
    assert modify_one(pools, -180, 180, 5)[0] == TICKS_FULL
    assert modify_one(pools, -120, 180, 5)[0] == TICKS_FULL
    assert read_pool(pools, 0) == before
    assert modify_one(pools, -120, -60, 5)[0] == OK
    assert read_pool(pools, 1).ticks == {}


def test_unknown_ticks_are_refused_not_guessed() -> None:
    price = reference.get_sqrt_ratio_at_tick(0)
    snapshot = PoolSnapshot(
        price,
        0,
        3 * 10**18,
        3000,
        60,
        ticks={-600: (10**18, 10**18), 600: (10**18, -(10**18))},
        known_ticks=(-660, 660),
    )
    pools = build_pools([snapshot])
    for zero_for_one, known, unknown in ((True, -660, -661), (False, 660, 661)):
        to_known = reference.get_sqrt_ratio_at_tick(known)
        beyond = reference.get_sqrt_ratio_at_tick(unknown)
        assert swap_one(pools, zero_for_one, 2**200, to_known, False)[0] == OK
        assert swap_one(pools, zero_for_one, 2**200, beyond, False)[0] == TICKS_UNKNOWN
        assert swap_one(pools, zero_for_one, 10**15, 0, False)[0] == OK
    assert modify_one(pools, -720, 60, 5)[0] == TICKS_UNKNOWN
    assert read_pool(pools, 0) == snapshot
