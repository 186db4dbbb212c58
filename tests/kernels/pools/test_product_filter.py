"""The float mirrors against exact integers at the extremes, and the lemmas their bounds rest on."""

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compile import kernel
from kernels.numbers.u256 import Limbs, load256, store256, to_limbs, u256
from kernels.pools.product_filter import (
    PRODUCT_ERROR,
    STABLE_ERROR,
    WEIGHTED_ERROR,
    U,
    rank_product_outputs,
    rank_stable_outputs,
    rank_weighted_outputs,
    stable_columns,
)
from kernels.pools.stableswap import OK, get_d, get_dy
from kernels.pools.uniswap_v3.float_filter import rank_outputs
from kernels.pools.weighted import OK as WEIGHTED_OK
from kernels.pools.weighted import Side, swap_given_in

ONE = 10**18
FEES = [(997, 1000), (9975, 10_000), (99_700, 100_000), (1, 1), (1, 2**20), (2**20 - 1, 2**20)]


def rank(function: Callable[..., None], columns: list[Any]) -> list[float]:
    """One of the batch mirrors on columns of numbers."""
    arrays = [np.array([float(x) for x in column]) for column in columns]
    outputs = np.full(arrays[0].size, np.nan)
    function(*arrays, outputs)
    return outputs.tolist()


def sizes(bits: int) -> st.SearchStrategy[int]:
    """From 1 to 2^bits - 1, of every length, crowded at powers of two."""
    any_length = st.integers(1, bits).flatmap(lambda width: st.integers(1, (1 << width) - 1))
    edges = st.tuples(st.integers(0, bits), st.integers(-2, 2)).map(
        lambda pair: min(max((1 << pair[0]) + pair[1], 1), (1 << bits) - 1)
    )
    return any_length | edges


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(sizes(112), sizes(112), sizes(112), st.sampled_from(FEES)),
        min_size=1,
        max_size=60,
    )
)
def test_product_outputs_are_within_their_bound(cases: list[tuple]) -> None:
    amounts, ins, outs, fees = zip(*cases, strict=True)
    floats = rank(rank_product_outputs, [amounts, ins, outs, [n / d for n, d in fees]])
    for (amount, reserve_in, reserve_out, (n, d)), value in zip(cases, floats, strict=True):
        real = Fraction(amount * n * reserve_out, reserve_in * d + amount * n)
        exact = real.numerator // real.denominator
        error = Fraction(PRODUCT_ERROR)
        assert abs(Fraction(value) - real) <= error * real
        assert exact <= Fraction(value) / (1 - error)
        assert abs(Fraction(value) - exact) <= 1 + error * (exact + 1)


def test_the_product_bound_is_not_idle() -> None:
    """Random operands reach a quarter of the bound: it is not a hundred times too wide."""
    rng = np.random.default_rng(1)
    columns = [[int(10**x) for x in rng.uniform(20, 30, 4000)] for _ in range(3)]
    floats = rank(rank_product_outputs, [*columns, [0.997] * 4000])
    worst = Fraction(0)
    above = 0
    for amount, reserve_in, reserve_out, value in zip(*columns, floats, strict=True):
        real = Fraction(amount * 997 * reserve_out, reserve_in * 1000 + amount * 997)
        worst = max(worst, abs(Fraction(value) / real - 1))
        above += Fraction(value) > real
    assert PRODUCT_ERROR / 6 < worst < PRODUCT_ERROR
    assert 0.3 < above / 4000 < 0.7, "the mirror exceeds the real output about as often as not"


def swap_within_range(
    amount: int, price: int, liquidity: int, fee_pips: int, zero_for_one: bool
) -> int:
    """computeSwapStep of v3-core in Python integers, for an amount that does not end the range."""
    rest = amount * (1_000_000 - fee_pips) // 1_000_000
    if zero_for_one:
        scaled = liquidity << 96
        after = -(-scaled * price // (scaled + rest * price))
        return liquidity * (price - after) >> 96
    after = price + (rest << 96) // liquidity
    return (liquidity << 96) * (after - price) // after // price


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            sizes(100),
            st.integers(2**40, 2**152),
            st.integers(1, 2**128 - 1),
            st.sampled_from([100, 500, 3000, 10_000, 0, 999_999]),
            st.booleans(),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_range_outputs_are_within_their_bound(cases: list[tuple]) -> None:
    """The V3 mirror: 22 roundings are below 1e-14, and the contract's units are those it names."""
    roots = [price / 2**96 if down else 2**96 / price for _, price, _, _, down in cases]
    floats = rank(
        rank_outputs,
        [
            [case[0] for case in cases],
            roots,
            [case[2] for case in cases],
            [(1_000_000 - case[3]) / 1e6 for case in cases],
        ],
    )
    for case, root, value in zip(cases, roots, floats, strict=True):
        exact = swap_within_range(*case)
        worth = root * root
        units = 1 + worth + case[2] * max(1.0, worth) / 2**96
        assert abs(value - exact) <= 1e-14 * exact + units * (1 + 1e-9), case


@kernel
def _weighted(columns: Limbs, parameters: Any, status: Any, outputs: Limbs) -> None:
    for i in range(status.shape[0]):
        status[i], output = swap_given_in(
            Side(load256(columns[0], i), parameters[i, 0], parameters[i, 3]),
            Side(load256(columns[1], i), parameters[i, 1], parameters[i, 4]),
            parameters[i, 2],
            load256(columns[2], i),
            True,
        )
        store256(outputs, i, output if status[i] == WEIGHTED_OK else u256(0))


WEIGHTS = st.sampled_from([1, 10, 20, 33, 50, 67, 80, 99])
WEIGHTED_CASES = st.lists(
    st.tuples(
        st.integers(10**12, 10**30),  # balance in at 18 decimals
        st.integers(10**12, 10**30),
        st.floats(1e-9, 0.2999),  # amount / balance in
        WEIGHTS,
        WEIGHTS,
        st.sampled_from([10**12, 3 * 10**15, 10**17]),
        st.sampled_from([1, 10**12]),  # scale of 18 and 6 decimals
        st.sampled_from([1, 10**12]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(WEIGHTED_CASES)
def test_weighted_outputs_are_within_their_bound(cases: list[tuple]) -> None:
    rows = []
    for balance_in, balance_out, share, weight_in, weight_out, fee, scale_in, scale_out in cases:
        units_in, units_out = balance_in // scale_in + 1, balance_out // scale_out + 1
        amount = max(int(units_in * share), 1)
        if 10 * amount <= 3 * units_in:
            weights = (weight_in * 10**16, weight_out * 10**16)
            rows.append((units_in, units_out, amount, *weights, fee, scale_in, scale_out))
    if not rows:
        return
    columns = np.stack([to_limbs([row[k] for row in rows], 4) for k in range(3)])
    status = np.zeros(len(rows), np.int64)
    outputs = np.zeros((len(rows), 4), np.uint64)
    _weighted(columns, np.array([row[3:] for row in rows], np.int64), status, outputs)
    floats = rank(
        rank_weighted_outputs,
        [
            [row[2] for row in rows],
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[3] / row[4] for row in rows],
            [1 - row[5] / ONE for row in rows],
        ],
    )
    for row, value, code, limbs in zip(rows, floats, status, outputs.tolist(), strict=True):
        assert code == WEIGHTED_OK, row
        exact = sum(limb << 64 * k for k, limb in enumerate(limbs))
        units_in, units_out, _, weight_in, weight_out = row[:5]
        worth = weight_in / weight_out * units_out / units_in
        assert abs(value - exact) <= WEIGHTED_ERROR * units_out + 2 + worth, row


def test_weighted_outputs_are_the_real_function() -> None:
    """To 64 u of the balance, against 50 digits, over all weights and sizes."""
    rng = np.random.default_rng(2)
    count = 3_000
    share = np.concatenate([10 ** rng.uniform(-18, 0, count - 2) * 0.3, [0.3, 1e-30]])
    exponent = 10 ** rng.uniform(np.log10(1 / 99), np.log10(99), count)
    floats = rank(
        rank_weighted_outputs, [share, np.ones(count), np.ones(count), exponent, np.ones(count)]
    )
    with localcontext() as context:
        context.prec = 50
        for q, w, value in zip(share.tolist(), exponent.tolist(), floats, strict=True):
            real = 1 - (-Decimal(w) * (1 + Decimal(q)).ln()).exp()
            assert abs(Decimal(value) - real) <= 64 * Decimal(U), (q, w)


@kernel
def _stable(
    balances: Limbs, rates: Limbs, amounts: Limbs, amp: Any, fee: int, status: Any, outputs: Limbs
) -> None:
    xp = np.zeros_like(rates)
    for i in range(status.shape[0]):
        status[i], output = get_dy(balances[i], rates, 0, 1, load256(amounts, i), amp[i], fee, xp)
        store256(outputs, i, output)


@kernel
def _invariant(xp: Limbs, amp: int, out: Limbs) -> int:
    status, d = get_d(xp, amp)
    store256(out, 0, d)
    return status


@st.composite
def stable_pools(draw: st.DrawFn, coins: int) -> tuple[list[int], int, int]:
    """(balances at 18 decimals, none above D, amp, amount)."""
    base = 10 ** draw(st.integers(6, 15)) * ONE // 10**3
    balances = [int(base * 10 ** draw(st.floats(-1.5, 0.0))) for _ in range(coins)]
    amount = max(int(balances[0] * 10 ** draw(st.floats(-9, -0.3))), 1)
    return balances, draw(st.sampled_from([1, 10, 200, 2000, 10**5])) * 100, amount


@pytest.mark.parametrize("coins", [2, 3, 4])
def test_stable_outputs_are_within_their_bound(coins: int) -> None:
    compared = 0

    @settings(max_examples=60, deadline=None)
    @given(st.lists(stable_pools(coins), min_size=1, max_size=20))
    def compare(pools: list[tuple[list[int], int, int]]) -> None:
        nonlocal compared
        fee = 4_000_000
        rates = to_limbs([ONE] * coins, 4)
        balances = np.stack([to_limbs(pool[0], 4) for pool in pools])
        status, outputs = np.zeros(len(pools), np.int64), np.zeros((len(pools), 4), np.uint64)
        amounts = to_limbs([pool[2] for pool in pools], 4)
        amp = np.array([pool[1] for pool in pools])
        _stable(balances, rates, amounts, amp, fee, status, outputs)
        columns = []
        for scaled, a, _ in pools:
            found = np.zeros((1, 4), np.uint64)
            assert _invariant(to_limbs(scaled, 4), a, found) == OK
            d = sum(limb << 64 * k for k, limb in enumerate(found[0].tolist()))
            columns.append(stable_columns(scaled, d, a, 0, 1))
        invariants, offsets, products = zip(*columns, strict=True)
        keep = 1 - fee / 10**10
        inputs = [[pool[2] for pool in pools], *([pool[0][k] for pool in pools] for k in (0, 1))]
        floats = rank(
            rank_stable_outputs,
            [*inputs, invariants, offsets, products, [keep] * len(pools)],
        )
        for k, (scaled, _, amount) in enumerate(pools):
            after = scaled[0] + amount
            if status[k] != OK or max(after, *scaled) > invariants[k]:
                continue
            exact = sum(limb << 64 * place for place, limb in enumerate(outputs[k].tolist()))
            reach = invariants[k] + after + offsets[k] + scaled[1]
            worth = max(1.0, (exact + 1) / amount)
            units = 4 + 2 * coins ** (coins - 1) + worth + 1
            assert abs(floats[k] - exact) <= STABLE_ERROR * reach + units, pools[k]
            compared += 1

    compare()
    assert compared > 100


def test_stable_columns_refuse_what_has_no_quote() -> None:
    for scaled, amp, coins in (
        ([0, ONE], 100, (0, 1)),
        ([ONE, ONE], 0, (0, 1)),
        ([ONE] * 2, 1, (1, 1)),
    ):
        with pytest.raises(ValueError, match="coins"):
            stable_columns(scaled, 2 * ONE, amp, *coins)


def reals(names: str) -> list[Any]:
    """Real variables; typed Any because z3's stubs know no operators."""
    return list(z3.Reals(names))


def proved(claim: Any, *assumptions: Any) -> bool:
    """True when Z3 finds no counterexample."""
    solver = z3.Solver()
    solver.set("timeout", 20_000)
    solver.add(*assumptions, z3.Not(claim))
    return solver.check() == z3.unsat


def test_lemma_a_sum_of_positive_numbers_keeps_the_larger_error() -> None:
    a, b, s, t, e, d, u = reals("a b s t e d u")
    inside = [a > 0, b > 0, e >= 0, e < 1, s >= -e, s <= e, t >= -e, t <= e, u >= 0, u < 1]
    total = a * (1 + s) + b * (1 + t)
    assert proved(z3.And(total <= (a + b) * (1 + e), total >= (a + b) * (1 - e)), *inside)
    rounded = [d >= -u, d <= u]
    assert proved(total * (1 + d) <= (a + b) * (1 + e) * (1 + u), *inside, *rounded)


def test_lemma_products_and_quotients_add_their_errors() -> None:
    """|(1 + s)(1 + t) - 1| <= e + f + e f; (1 + s) / (1 + t) lies within (e + f) / (1 - f)."""
    s, t, e, f, q = reals("s t e f q")
    inside = [e >= 0, f >= 0, f < 1, s >= -e, s <= e, t >= -f, t <= f]
    product = (1 + s) * (1 + t) - 1
    assert proved(z3.And(product <= e + f + e * f, product >= -(e + f + e * f)), *inside)
    quotient = [q * (1 + t) == 1 + s]
    within = z3.And((q - 1) * (1 - f) <= e + f, (q - 1) * (1 - f) >= -(e + f))
    assert proved(within, *inside, *quotient)


def test_lemma_eleven_factors_are_within_the_product_bound() -> None:
    """In exact fractions: the largest and the smallest that eleven roundings can make."""
    u = Fraction(U)
    largest = 1 / (1 - u) ** 11
    assert largest - 1 <= Fraction(PRODUCT_ERROR)
    assert 1 - (1 - u) ** 11 <= Fraction(PRODUCT_ERROR)


def test_lemma_the_contracts_newton_steps_end_within_one_of_the_root() -> None:
    """Y^2 = h Y + c. A step from y gives N = (y^2 + c) / (2 y - h), rounded down."""
    y, root, h, c, step, rounded = reals("y root h c step rounded")
    at = [
        root > 0,
        c > 0,
        root * root == h * root + c,
        y > 0,
        2 * y - h > 0,
        step * (2 * y - h) == y * y + c,
    ]
    floor = [rounded <= step, rounded > step - 1]
    assert proved(step >= root, *at), "never below the root before rounding"
    assert proved(rounded > root - 1, *at, *floor)
    # The contract stops when a step moves by at most 1.
    assert proved(rounded <= root + 1, *at, *floor, rounded - y <= 1, y - rounded <= 1)


def test_lemma_slopes_of_the_stable_root() -> None:
    """With s = sqrt(h^2 + 4 c) = 2 Y - h: dY/dh = Y / s is within 0..1 and c / s is at most Y."""
    root, h, c = reals("root h c")
    at = [root > 0, c > 0, root * root == h * root + c]
    s = 2 * root - h
    assert proved(z3.And(s > 0, root <= s, c <= root * s), *at)
