"""Cycle sizes against brute force, the router's own getAmountsOut, and their certificates."""

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.numbers.u256 import from_limbs, to_limbs
from kernels.pools.uniswap_v2 import (
    INSUFFICIENT_INPUT_AMOUNT,
    INSUFFICIENT_LIQUIDITY,
    INVALID_FEE,
    OK,
    OVERFLOW,
    K,
    swap_batch,
)
from kernels.sizing.moebius import best_real_input, moebius, profit_bound
from kernels.sizing.product_cycles import (
    BAD_SHAPE,
    UNPROFITABLE,
    cycle_amounts,
    refine_batch,
    refine_cycle,
)
from tests.support.uniswap_v2_referee import UniswapV2

UNISWAP = (997, 1000)
TOP = 2**112 - 1


def forward(amount: int, pools: Sequence[tuple]) -> list[int]:
    """Exact amounts along (reserve in, reserve out, fee), in Python integers."""
    amounts = [amount]
    for reserve_in, reserve_out, (numerator, denominator) in pools:
        charged = amounts[-1] * numerator
        amounts.append(charged * reserve_out // (reserve_in * denominator + charged))
    return amounts


def columns(pools: Sequence[tuple]) -> tuple[tuple[Any, Any, Any, Any], Any]:
    """(reserves in, reserves out, numerators, denominators) of one cycle, and its amounts."""
    reserves_in, reserves_out, fees = zip(*pools, strict=True)
    numerator, denominator = np.array(fees, dtype=np.int64).T.copy()
    amounts = np.full((len(pools) + 1, 2), 7, dtype=np.uint64)
    arrays = (to_limbs(reserves_in, 2), to_limbs(reserves_out, 2), numerator, denominator)
    return arrays, amounts


def refine(
    pools: Sequence[tuple], estimate: float = 0.0, width: int = 8
) -> tuple[int, int, float, list[int]]:
    """(status, profit, gap, amounts) of `refine_cycle`."""
    arrays, amounts = columns(pools)
    status, profit, gap = refine_cycle(*arrays, len(pools), estimate, width, amounts)
    return status, int(profit), gap, from_limbs(amounts)


def draw_cycle(random: Random, hops: int, digits: tuple[float, float], edge: float) -> list[tuple]:
    """Pools with prices that multiply to about 1 + edge before fees."""
    prices = [10 ** random.uniform(-1, 1) for _ in range(hops - 1)]
    prices.append(float(np.exp(random.gauss(0, edge)) / np.prod(prices)))
    pools = []
    for price in prices:
        reserve = 10 ** random.uniform(*digits)
        pools.append((int(reserve) + 2, int(reserve * price) + 2, UNISWAP))
    return pools


def real_profit(a: int, b: int, c: int) -> Fraction:
    """(sqrt A - sqrt B)^2 / C to 200 bits, rounded down, for A > B."""
    scale = 1 << 400
    return Fraction(a + b, c) - 2 * Fraction(isqrt(a * b * scale) + 1, c * (1 << 200))


def test_search_finds_the_brute_forced_optimum() -> None:
    """Small reserves, where a unit is worth most: every input is tried."""
    random = Random(4)
    inputs = np.arange(1, 30_000)
    optimal = {2: 0, 8: 0, 128: 0}
    profitable = 0
    while profitable < 120:
        hops = random.randint(2, 4)
        pools = draw_cycle(random, hops, (3, 4.7), 0.1)
        amounts = inputs
        for reserve_in, reserve_out, _ in pools:
            amounts = amounts * 997 * reserve_out // (reserve_in * 1000 + amounts * 997)
        best = int((amounts - inputs).max())
        if best <= 0:
            status, profit, gap, _ = refine(pools, width=128)
            assert (status, profit) == (UNPROFITABLE, 0), pools
            continue
        profitable += 1
        for width in optimal:
            status, profit, gap, path = refine(pools, width=width)
            assert profit <= best <= profit + Fraction(gap), pools
            assert gap >= 1 or profit == best, "the certificate proves the optimum"
            assert status == (OK if profit else UNPROFITABLE)
            assert path == (forward(path[0], pools) if profit else [0] * (hops + 1))
            optimal[width] += profit == best
    assert optimal[128] == profitable
    assert optimal[8] >= 0.97 * profitable
    assert optimal[2] >= 0.75 * profitable


def test_closed_form_on_eighteen_decimals() -> None:
    """Random profitable cycles: the real optimum and the integers around it agree to some wei."""
    random = Random(1)
    gaps = []
    while len(gaps) < 200:
        pools = draw_cycle(random, random.randint(2, 5), (18, 24), 0.05)
        coefficients = moebius(*zip(*pools, strict=True))
        start = best_real_input(*coefficients)
        if start == 0:
            assert refine(pools)[0] == UNPROFITABLE
            continue
        bound = profit_bound(*coefficients)
        near = [forward(start + step, pools)[-1] - start - step for step in range(-40, 41)]
        assert bound >= max(near)
        assert bound - near[40] <= max(110, bound * 1e-15), "the closed form is the optimum"
        status, profit, gap, amounts = refine(pools, width=32)
        assert status == OK
        assert profit >= max(near) - 1, "the pivot search is at least as good as one on the input"
        assert amounts == forward(amounts[0], pools)
        gaps.append(gap)
    assert np.median(gaps) < 1
    assert max(gaps) < 60


def reserves() -> st.SearchStrategy[int]:
    return st.integers(1, 112).flatmap(lambda bits: st.integers(1, (1 << bits) - 1))


POOLS = st.lists(
    st.tuples(
        reserves(),
        reserves(),
        st.sampled_from([UNISWAP, (9975, 10_000), (9900, 10_000), (99_700, 100_000), (1, 1)]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400)
@given(POOLS, st.lists(st.integers(0, 2**112), max_size=5), st.integers(-3, 3))
def test_certificate_holds_for_every_input(
    pools: list[tuple], probes: list[int], step: int
) -> None:
    """No input anywhere earns more than profit + gap, which is the real optimum and no more."""
    coefficients = moebius(*zip(*pools, strict=True))
    start = best_real_input(*coefficients)
    status, profit, gap, amounts = refine(pools)
    for probe in (*probes, start + step, start // 2, amounts[0] + step):
        path = forward(max(probe, 0), pools)
        executable = all(paid + pool[0] <= TOP for paid, pool in zip(path, pools, strict=False))
        if executable:
            assert path[-1] - path[0] <= profit + Fraction(gap)
    if status == OK:
        assert amounts == forward(amounts[0], pools)
        assert profit == amounts[-1] - amounts[0] > 0
        assert all(paid + pool[0] <= TOP for paid, pool in zip(amounts, pools, strict=False))
        exact = real_profit(*coefficients)
        slack = Fraction(exact) / 2**90 + Fraction(gap) / 2**50 + Fraction(1, 2**60)
        assert exact <= profit + Fraction(gap) + slack
        assert profit + Fraction(gap) <= exact + slack
    else:
        assert status == UNPROFITABLE
        assert amounts == [0] * (len(pools) + 1)
        assert profit == 0


@settings(max_examples=200)
@given(POOLS, st.integers(0, 2**120))
def test_moebius_composes_the_hops(pools: list[tuple], amount: int) -> None:
    a, b, c = moebius(*zip(*pools, strict=True))
    real = Fraction(amount)
    for reserve_in, reserve_out, (numerator, denominator) in pools:
        charged = real * Fraction(numerator, denominator)
        real = charged * reserve_out / (reserve_in + charged)
    assert Fraction(a * amount, b + c * amount) == real
    assert forward(amount, pools)[-1] <= real
    bound = profit_bound(a, b, c)
    assert real - amount <= bound + 1
    if a > b:
        # Exactly the floor: bound <= (sqrt A - sqrt B)^2 / C < bound + 1, compared as squares.
        assert a + b - c * bound >= 0
        assert (a + b - c * bound) ** 2 >= 4 * a * b
        rest = a + b - c * (bound + 1)
        assert rest < 0 or rest * rest < 4 * a * b


def test_amounts_equal_get_amounts_out() -> None:
    """The router's own walk through three pairs and back to the first token."""
    random = Random(8)
    exchange = UniswapV2(tokens=3)
    compared = 0
    for _ in range(1_500):
        pools = draw_cycle(random, 3, (random.choice((4, 18)), 25), 0.1)
        status, _, _, amounts = refine(pools)
        if status != OK:
            arrays, amounts_array = columns(pools)
            start = random.getrandbits(random.randint(1, 90))
            amounts_array[0] = to_limbs([start], 2)[0]
            if cycle_amounts(*arrays, 3, amounts_array) != OK:
                continue
            amounts = from_limbs(amounts_array)
        for hop, (reserve_in, reserve_out, _) in enumerate(pools):
            exchange.set_reserves(hop, (hop + 1) % 3, reserve_in, reserve_out)
        assert exchange.get_amounts_out(amounts[0], [0, 1, 2, 0]) == amounts
        compared += 1
    assert compared > 1_000


def test_every_hop_is_accepted_by_its_pair_and_one_more_is_not() -> None:
    random = Random(9)
    checked = 0
    while checked < 100:
        pools = draw_cycle(random, 3, (9, 25), 0.1)
        status, _, _, amounts = refine(pools)
        if status != OK:
            continue
        checked += 1
        for more, expected in ((0, OK), (1, K)):
            pairs = to_limbs([r for pool in pools for r in pool[:2]], 2).reshape(-1, 4)
            sent = to_limbs([x for amount in amounts[:-1] for x in (amount, 0)], 2).reshape(-1, 4)
            wanted = [x for amount in amounts[1:] for x in (0, amount + more)]
            fees = np.tile(np.array([997, 997, 1000]), (3, 1))
            status_of = np.zeros(3, dtype=np.int64)
            swap_batch(pairs, sent, to_limbs(wanted, 2).reshape(-1, 4), fees, status_of)
            assert status_of.tolist() == [expected] * 3


@pytest.mark.parametrize("estimate", [0.0, -1.0, float("nan")])
def test_an_estimate_that_is_none_means_the_closed_form(estimate: float) -> None:
    pools = [(10**21, 2 * 10**24, UNISWAP), (2 * 10**24, 11 * 10**20, UNISWAP)]
    start = best_real_input(*moebius(*zip(*pools, strict=True)))
    assert refine(pools, estimate) == refine(pools, float(start))


def test_a_wild_estimate_costs_profit_but_never_correctness() -> None:
    pools = [(10**21, 2 * 10**24, UNISWAP), (2 * 10**24, 11 * 10**20, UNISWAP)]
    best = refine(pools)[1]
    for estimate in (1e-300, 1.0, 1e10, 1e25, 1e60, float("inf")):
        status, profit, gap, amounts = refine(pools, estimate)
        assert status in (OK, UNPROFITABLE)
        assert profit <= best <= profit + Fraction(gap)
        assert amounts == (forward(amounts[0], pools) if status == OK else [0, 0, 0])


GOOD = [(10**21, 2 * 10**24, UNISWAP), (2 * 10**24, 11 * 10**20, UNISWAP)]


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ([(0, 10**18, UNISWAP), GOOD[1]], INSUFFICIENT_LIQUIDITY),
        ([GOOD[0], (10**18, 0, UNISWAP)], INSUFFICIENT_LIQUIDITY),
        ([(2**112, 10**18, UNISWAP), GOOD[1]], OVERFLOW),
        ([GOOD[0], (5, 2**127, UNISWAP)], OVERFLOW),
        ([GOOD[0], (*GOOD[1][:2], (1001, 1000))], INVALID_FEE),
        ([GOOD[0], (*GOOD[1][:2], (-1, 1000))], INVALID_FEE),
        ([GOOD[0], (*GOOD[1][:2], (0, 0))], INVALID_FEE),
        ([GOOD[0], (*GOOD[1][:2], (0, 1000))], UNPROFITABLE),
        ([GOOD[0], GOOD[0]], OK),
        ([GOOD[1], GOOD[1]], UNPROFITABLE),
    ],
)
def test_what_cannot_be_traded_has_its_status(pools: list[tuple], expected: int) -> None:
    status, profit, _, amounts = refine(pools)
    assert status == expected
    assert (profit > 0) == (status == OK)
    assert amounts == (forward(amounts[0], pools) if status == OK else [0] * 3)


def test_sizes_that_leave_the_arrays_are_refused() -> None:
    arrays, amounts = columns(GOOD)
    for hops, width in ((0, 8), (3, 8), (-1, 8), (2, -1), (2, 1 << 30), (2**62, 8)):
        assert refine_cycle(*arrays, hops, 0.0, width, amounts)[0] == BAD_SHAPE
    assert cycle_amounts(*arrays, 3, amounts) == BAD_SHAPE
    for index in range(4):
        reserve_in, reserve_out, numerator, denominator = arrays
        short = (
            reserve_in[: 1 if index == 0 else 2],
            reserve_out[: 1 if index == 1 else 2],
            numerator[: 1 if index == 2 else 2],
            denominator[: 1 if index == 3 else 2],
        )
        assert refine_cycle(*short, 2, 0.0, 8, amounts)[0] == BAD_SHAPE
        assert cycle_amounts(*short, 2, amounts) == BAD_SHAPE
    assert refine_cycle(*arrays, 2, 0.0, 8, amounts[:2].copy())[0] == BAD_SHAPE
    assert refine_cycle(*arrays, 2, 0.0, 8, amounts[:, :1].copy())[0] == BAD_SHAPE
    assert (amounts == 7).all(), "nothing may be written"


def test_amounts_behind_a_revert_are_zero() -> None:
    arrays, amounts = columns(GOOD)
    amounts[0] = 0
    assert cycle_amounts(*arrays, 2, amounts) == INSUFFICIENT_INPUT_AMOUNT
    assert from_limbs(amounts) == [0, 0, 0]
    for start in (TOP, 2**112, 2**128 - 1):
        amounts[0] = to_limbs([start], 2)[0]
        assert cycle_amounts(*arrays, 2, amounts) == OVERFLOW
        assert from_limbs(amounts) == [start, 0, 0]
    # A reserve that no pair can hold, with which the sum of 128 bits wraps.
    amounts[0] = to_limbs([10], 2)[0]
    arrays[0][0] = to_limbs([2**128 - 5], 2)[0]
    assert cycle_amounts(*arrays, 2, amounts) == OVERFLOW
    assert from_limbs(amounts) == [10, 0, 0]


def test_batch_equals_single_cycles() -> None:
    random = Random(2)
    cycles = [draw_cycle(random, 3, (6, 24), 0.1) for _ in range(200)]
    parts = [columns(pools) for pools in cycles]
    reserve_in, reserve_out, numerator, denominator = (
        np.stack([arrays[place] for arrays, _ in parts]) for place in range(4)
    )
    amounts = np.stack([array for _, array in parts])
    status, gap = np.zeros(200, dtype=np.int8), np.zeros(200)
    estimates = np.zeros(200)
    refine_batch(
        reserve_in, reserve_out, numerator, denominator, estimates, 8, amounts, status, gap
    )
    for i, pools in enumerate(cycles):
        single_status, profit, single_gap, path = refine(pools)
        assert (status[i], gap[i]) == (single_status, single_gap)
        assert from_limbs(amounts[i]) == path
        assert path[-1] - path[0] == profit
    assert (status == OK).sum() > 50


def test_fewer_hops_than_the_arrays_hold() -> None:
    arrays, amounts = columns([*GOOD, GOOD[0]])
    status, profit, gap = refine_cycle(*arrays, 2, 0.0, 8, amounts)
    expected = refine(GOOD)
    assert (status, int(profit), gap) == expected[:3]
    assert from_limbs(amounts) == [*expected[3], 0]
