"""The library kernels: published vectors, v3-core itself in the EVM, and v3-core's own invariants
(the Echidna properties of its audit) as Hypothesis tests."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.uniswap_v3 import reference
from tests.support.uniswap_v3.cases import library_arguments
from tests.support.uniswap_v3.kernels import FUNCTIONS, evaluate
from tests.support.uniswap_v3.referee import Libraries

E18 = 10**18
Q96 = 2**96
MIN_SQRT_RATIO, MAX_SQRT_RATIO = reference.MIN_SQRT_RATIO, reference.MAX_SQRT_RATIO

prices = st.integers(MIN_SQRT_RATIO, MAX_SQRT_RATIO - 1)
any_prices = st.integers(1, 2**160 - 1)
liquidities = st.integers(1, 2**128 - 1)
amounts = st.integers(0, 2**255 - 1)
fees = st.integers(1, 999_999)


def one(name: str, *arguments: int) -> tuple[int, ...] | None:
    return evaluate(name, [arguments])[0]


def answers(name: str, *arguments: int) -> tuple[int, ...]:
    """Answers where a revert would be a failure."""
    found = one(name, *arguments)
    assert found is not None, f"{name}{arguments} reverts"
    return found


# Differential ------------------------------------------------------------------------------------


def compare_with_libraries(name: str, cases: int, seed: int) -> None:
    rng = random.Random(f"{name} {seed}")
    libraries = Libraries()
    rows = [library_arguments(rng, name) for _ in range(cases)]
    for row, got in zip(rows, evaluate(name, rows), strict=True):
        assert got == libraries(name, *row), f"{name}{row}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_library_equals_v3_core(name: str) -> None:
    compare_with_libraries(name, cases=600, seed=1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FUNCTIONS)
def test_library_equals_v3_core_exhaustively(name: str) -> None:
    compare_with_libraries(name, cases=20_000, seed=2)


def test_ticks_near_every_boundary_of_a_range() -> None:
    check_ticks(range(-1500, 1500, 1))
    check_ticks(range(reference.MIN_TICK, reference.MAX_TICK, 1999))


@pytest.mark.exhaustive
def test_every_tick_and_both_neighbours() -> None:
    """Proves the float logarithm of tick_of: its error matters only next to a boundary, and these
    are all of them."""
    for first in range(reference.MIN_TICK, reference.MAX_TICK, 50_000):
        check_ticks(range(first, min(first + 50_000, reference.MAX_TICK)))


def check_ticks(ticks: range) -> None:
    """The price of each tick, and the tick of that price and of the integers beside it."""
    found = evaluate("getSqrtRatioAtTick", [(tick,) for tick in ticks])
    edges = [reference.get_sqrt_ratio_at_tick(tick) for tick in ticks]
    assert found == [(edge,) for edge in edges]
    near = [
        (edge + offset, tick - (offset < 0))
        for tick, edge in zip(ticks, edges, strict=True)
        for offset in (-1, 0, 1)
        if edge + offset >= MIN_SQRT_RATIO
    ]
    got = evaluate("getTickAtSqrtRatio", [(price,) for price, _ in near])
    assert got == [(tick,) for _, tick in near]


# Published vectors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tick", "price"),
    [
        (-887272, 4295128739),
        (887272, 1461446703485210103287273052203988822378723970342),
        (-887271, 4295343490),
        (50, 79426470787362580746886972461),
        (-50, 79030349367926598376800521322),
        (100, 79625275426524748796330556128),
        (1000, 83290069058676223003182343270),
        (50000, 965075977353221155028623082916),
        (500000, 5697689776495288729098254600827762987878),
        (-500000, 1101692437043807371),
        (0, Q96),
    ],
)
def test_sqrt_ratio_vectors(tick: int, price: int) -> None:
    assert one("getSqrtRatioAtTick", tick) == (price,)
    expected = (tick,) if tick < 887272 else None
    assert one("getTickAtSqrtRatio", price) == expected


def price_of(numerator: int, denominator: int) -> int:
    """sqrt(numerator / denominator) as Q64.96, as the specs of v3-core encode prices."""
    root = reference.Q96**2 * numerator // denominator
    low, high = 0, 2**160
    while low < high:
        middle = (low + high + 1) // 2
        if middle * middle <= root:
            low = middle
        else:
            high = middle - 1
    return low


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # remaining amount capped by the target, then all of it spent below the target
        (
            (Q96, price_of(101, 100), 2 * E18, E18, 600),
            (price_of(101, 100), 9975124224178055, 9925619580021728, 5988667735148),
        ),
        (
            (Q96, price_of(1000, 100), 2 * E18, E18, 600),
            (None, 999400000000000000, 666399946655997866, 600000000000000),
        ),
        (
            (Q96, price_of(10000, 100), 2 * E18, -E18, 600),
            (None, 2 * E18, E18, 1200720432259356),
        ),
        # an output of one unit where the exact input would buy more: capped
        (
            (
                417332158212080721273783715441582,
                1452870262520218020823638996,
                159344665391607089467575320103,
                -1,
                1,
            ),
            (417332158212080721273783715441581, 1, 1, 1),
        ),
        # a target price of 1 is only partly used
        (
            (2, 1, 1, 3915081100057732413702495386755767, 1),
            (1, 39614081257132168796771975168, 0, 39614120871253040049813),
        ),
        # the whole input is taken as fee
        (
            (2413, 79887613182836312, 1985041575832132834610021537970, 10, 1872),
            (2413, 0, 0, 10),
        ),
    ],
)
def test_swap_step_vectors(
    arguments: tuple[int, ...], expected: tuple[int | None, int, int, int]
) -> None:
    found = answers("computeSwapStep", *arguments)
    assert found[1:] == expected[1:]
    if expected[0] is not None:
        assert found[0] == expected[0]


def test_sqrt_price_vectors() -> None:
    tenth = E18 // 10
    assert one("nextPriceFromInput", Q96, E18, tenth, 0) == (87150978765690771352898345369,)
    assert one("nextPriceFromInput", Q96, E18, tenth, 1) == (72025602285694852357767227579,)
    assert one("amount0Delta", Q96, price_of(121, 100), E18, 1) == (90909090909090910,)
    assert one("amount0Delta", Q96, price_of(121, 100), E18, 0) == (90909090909090909,)
    assert one("amount1Delta", Q96, price_of(121, 100), E18, 1) == (100000000000000000,)
    assert one("amount1Delta", Q96, price_of(121, 100), E18, 0) == (99999999999999999,)


# Invariants of v3-core's audit -------------------------------------------------------------------


@given(
    any_prices,
    any_prices,
    st.integers(0, 2**128 - 1),
    st.integers(-(2**255) + 1, 2**255 - 1),
    fees,
)
def test_swap_step_invariants(
    current: int, target: int, liquidity: int, remaining: int, fee: int
) -> None:
    step = one("computeSwapStep", current, target, liquidity, remaining, fee)
    assume(step is not None)
    assert step is not None
    price, amount_in, amount_out, fee_amount = step
    if remaining < 0:
        assert amount_out <= -remaining
    else:
        assert amount_in + fee_amount <= remaining
    if current == target:
        assert (amount_in, amount_out, fee_amount, price) == (0, 0, 0, target)
    if price != target:
        # Not reached: everything that was asked for was used.
        assert amount_out == -remaining if remaining < 0 else amount_in + fee_amount == remaining
    low, high = sorted((current, target))
    assert low <= price <= high


@given(any_prices, liquidities, amounts, st.booleans())
def test_next_price_from_input_invariants(
    price: int, liquidity: int, amount: int, zero_for_one: bool
) -> None:
    found = one("nextPriceFromInput", price, liquidity, amount, zero_for_one)
    assume(found is not None)
    assert found is not None
    (moved,) = found
    if zero_for_one:
        assert moved <= price
        assert amount >= answers("amount0Delta", moved, price, liquidity, 1)[0] or moved == 0
    else:
        assert moved >= price
        assert amount >= answers("amount1Delta", price, moved, liquidity, 1)[0]


@given(any_prices, liquidities, amounts, st.booleans())
def test_next_price_from_output_invariants(
    price: int, liquidity: int, amount: int, zero_for_one: bool
) -> None:
    found = one("nextPriceFromOutput", price, liquidity, amount, zero_for_one)
    assume(found is not None)
    assert found is not None
    (moved,) = found
    if zero_for_one:
        assert moved <= price
        assert amount <= answers("amount1Delta", moved, price, liquidity, 0)[0]
    else:
        assert moved >= price
        assert amount <= answers("amount0Delta", price, moved, liquidity, 0)[0]


@given(any_prices, any_prices, st.integers(0, 2**128 - 1))
def test_amount0_delta_invariants(a: int, b: int, liquidity: int) -> None:
    down, up = (answers("amount0Delta", a, b, liquidity, way)[0] for way in (0, 1))
    assert one("amount0Delta", b, a, liquidity, 0) == (down,)
    assert up - down in (0, 1)
    assert one("amount0Delta", a, a, liquidity, 1) == (0,)
    # floor and ceiling of the rational number itself
    low, high = sorted((a, b))
    exact, rest = divmod(liquidity * Q96 * (high - low), low * high)
    assert (down, up) == (exact, exact + (rest > 0))


@given(any_prices, any_prices, st.integers(0, 2**128 - 1))
def test_amount1_delta_invariants(a: int, b: int, liquidity: int) -> None:
    down, up = (answers("amount1Delta", a, b, liquidity, way)[0] for way in (0, 1))
    assert one("amount1Delta", b, a, liquidity, 0) == (down,)
    exact, rest = divmod(liquidity * abs(a - b), Q96)
    assert (down, up) == (exact, exact + (rest > 0))


@given(st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1))
def test_mul_div_invariants(a: int, b: int, denominator: int) -> None:
    down, up = one("mulDiv", a, b, denominator), one("mulDivRoundingUp", a, b, denominator)
    fits = denominator > 0 and a * b // denominator < 2**256
    assert (down is None) == (not fits)
    if down is None:
        assert up is None
        return
    quotient, rest = divmod(a * b, denominator)
    assert down == (quotient,)
    rounded = quotient + (rest > 0)
    assert up == ((rounded,) if rounded < 2**256 else None)


@given(prices)
def test_tick_of_price_brackets_it(price: int) -> None:
    (tick,) = answers("getTickAtSqrtRatio", price)
    assert answers("getSqrtRatioAtTick", tick)[0] <= price
    assert price < answers("getSqrtRatioAtTick", tick + 1)[0]


@given(st.integers(-887271, 887272))
def test_sqrt_ratio_increases(tick: int) -> None:
    below, at = (answers("getSqrtRatioAtTick", t)[0] for t in (tick - 1, tick))
    assert MIN_SQRT_RATIO <= below < at <= MAX_SQRT_RATIO


@given(st.integers(1, 16383))
def test_all_ticks_full_never_overflow_liquidity(spacing: int) -> None:
    (most,) = answers("maxLiquidityPerTick", spacing)
    ticks = 2 * (887272 // spacing) + 1
    assert most * ticks <= 2**128 - 1 < (most + 1) * ticks
