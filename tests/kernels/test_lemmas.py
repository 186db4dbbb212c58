"""Z3 proves what the kernels rely on, for integers of any size.

A floored quotient q = n // d is given to the prover by what defines it, q d <= n < (q + 1) d: it
then knows nothing about division that the contracts' arithmetic does not promise. Bit-vectors do
not finish on such products; that the kernels compute these integers is the referee's business.
"""

from collections.abc import Callable
from typing import Any

import pytest
import z3 as prover

z3: Any = prover  # its operators are typed too widely to be checked
TIMEOUT_MS = 60_000


def integers(names: str, least: int = 0) -> tuple[list[Any], list[Any]]:
    """Unbounded integers and the constraints that they are at least `least`."""
    variables = list(z3.Ints(names))
    return variables, [variable >= least for variable in variables]


def is_floor(quotient: Any, numerator: Any, denominator: Any) -> Any:
    """quotient = floor(numerator / denominator), for a positive denominator."""
    return z3.And(quotient * denominator <= numerator, numerator < (quotient + 1) * denominator)


def amount_out(output: Any, amount: Any, reserve_in: Any, reserve_out: Any, fee: Any) -> Any:
    """`output` is getAmountOut for a fee of fee[0] / fee[1]."""
    charged = amount * fee[0]
    return is_floor(output, charged * reserve_out, reserve_in * fee[1] + charged)


def within_amount_out(output: Any, amount: Any, reserve_in: Any, reserve_out: Any) -> Any:
    """`output` is at most Uniswap's getAmountOut: half of a floor, which is proved much faster."""
    charged = amount * UNISWAP[0]
    return output * (reserve_in * UNISWAP[1] + charged) <= charged * reserve_out


# Where a symbolic fee (n, d) does not finish, the lemma is proved for Uniswap's own.
UNISWAP = (997, 1000)


def product_never_falls() -> tuple[list[Any], Any]:
    """K: the product of the reserves does not fall in a swap."""
    (x, y, a, o), positive = integers("x y a o", 1)
    return [*positive, within_amount_out(o, a, x, y)], (x + a) * (y - o) >= x * y


def adjusted_product_never_falls() -> tuple[list[Any], Any]:
    """UniswapV2Pair's own check accepts the library's quote."""
    (x, y, a, o), positive = integers("x y a o", 1)
    after = ((x + a) * 1000 - a * 3) * ((y - o) * 1000)
    return [*positive, within_amount_out(o, a, x, y)], after >= x * y * 1000**2


def one_more_breaks_the_product() -> tuple[list[Any], Any]:
    """UniswapV2Pair refuses one unit more than the quote: the quote is the largest."""
    (x, y, a, o), positive = integers("x y a o", 1)
    after = ((x + a) * 1000 - a * 3) * ((y - o - 1) * 1000)
    return [*positive, o + 1 < y, amount_out(o, a, x, y, UNISWAP)], after < x * y * 1000**2


def output_below_reserve() -> tuple[list[Any], Any]:
    """A quote never empties the pool."""
    (x, y, a, n, d), positive = integers("x y a n d", 1)
    (o,), _ = integers("o")
    return [*positive, n <= d, amount_out(o, a, x, y, (n, d))], o < y


def output_grows_with_input() -> tuple[list[Any], Any]:
    """A larger input never gives less."""
    (x, y, a, more), positive = integers("x y a more", 1)
    low, high = z3.Ints("low high")
    first = amount_out(low, a, x, y, UNISWAP)
    return [*positive, first, amount_out(high, a + more, x, y, UNISWAP)], low <= high


def round_trip_loses() -> tuple[list[Any], Any]:
    """Selling the output back returns less than went in."""
    (x, y, a, o, back), positive = integers("x y a o back", 1)
    there = amount_out(o, a, x, y, UNISWAP)
    again = amount_out(back, o, y - o, x + a, UNISWAP)
    return [*positive, o < y, there, again], back < a


def round_trip_loses_by_the_product_alone() -> tuple[list[Any], Any]:
    """The same for any pool whose product never falls, however it computes its quotes."""
    (x, y, a, o, back), positive = integers("x y a o back", 1)
    there = (x + a) * (y - o) >= x * y
    again = (x + a - back) * y >= (x + a) * (y - o)
    return [*positive, o < y, back < x + a, there, again], back <= a


def round_trip_without_fee_never_gains() -> tuple[list[Any], Any]:
    """Even a pool without a fee never pays more back: rounding is on its side."""
    (x, y, a, o, back), positive = integers("x y a o back", 1)
    there = amount_out(o, a, x, y, (1, 1))
    again = amount_out(back, o, y - o, x + a, (1, 1))
    return [*positive, o < y, there, again], back <= a


def amount_in_is_enough() -> tuple[list[Any], Any]:
    """getAmountOut(getAmountIn(o)) >= o."""
    (x, y, o, n, d), positive = integers("x y o n d", 1)
    q, got = z3.Ints("q got")
    needed = is_floor(q, x * o * d, (y - o) * n)
    a = q + 1
    return [*positive, n <= d, o < y, q >= 0, needed, amount_out(got, a, x, y, (n, d))], got >= o


def amount_in_is_at_most_one_too_many() -> tuple[list[Any], Any]:
    """Two units less than getAmountIn(o) buy less than o."""
    (x, y, o, n, d), positive = integers("x y o n d", 1)
    q, got = z3.Ints("q got")
    a = q - 1
    return [
        *positive,
        n <= d,
        o < y,
        a >= 0,
        is_floor(q, x * o * d, (y - o) * n),
        amount_out(got, a, x, y, (n, d)),
    ], got < o


def rounding_up_adds_at_most_one() -> tuple[list[Any], Any]:
    """FullMath.mulDivRoundingUp - mulDiv is 0 or 1."""
    (n, d), positive = integers("n d", 1)
    down, up = z3.Ints("down up")
    return [
        *positive,
        is_floor(down, n, d),
        (up - 1) * d < n,
        n <= up * d,
    ], z3.And(up >= down, up <= down + 1)


def splitting_a_trade_never_helps() -> tuple[list[Any], Any]:
    """Real-valued constant product with a fee that stays in the pool: one trade beats two."""
    x, y, a, b, g = z3.Reals("x y a b g")
    bounds = [v > 0 for v in (x, y, a, b, g)]
    whole = g * (a + b) * y / (x + g * (a + b))
    first = g * a * y / (x + g * a)
    second = g * b * (y - first) / (x + a + g * b)
    return [*bounds, g <= 1], first + second <= whole


def moebius_profit_is_bounded() -> tuple[list[Any], Any]:
    """A x / (B + C x) - x <= (s - r)^2 / C with s^2 = A and r^2 = B, whatever the input."""
    s, r, c, x = z3.Reals("s r c x")
    bounds = [s > 0, r > 0, c > 0, x >= 0]
    return bounds, (s * s * x / (r * r + c * x) - x) * c <= (s - r) * (s - r)


def moebius_bound_is_attained() -> tuple[list[Any], Any]:
    """The closed form x = (s r - r^2) / C earns exactly that bound."""
    s, r, c = z3.Reals("s r c")
    x = (s * r - r * r) / c
    earned = s * s * x / (r * r + c * x) - x
    return [s > r, r > 0, c > 0], earned * c == (s - r) * (s - r)


def cycle_below_one_never_pays() -> tuple[list[Any], Any]:
    """A <= B: no input returns more than it costs."""
    a, b, c, x = z3.Reals("a b c x")
    return [a > 0, b > 0, c > 0, x > 0, a <= b], a * x / (b + c * x) < x


def floors_only_lower_a_chain() -> tuple[list[Any], Any]:
    """Two floored hops give at most the real-valued chain: why its profit is an upper bound."""
    a1, b1, c1, a2, b2, c2, x = z3.Reals("a1 b1 c1 a2 b2 c2 x")
    floored = z3.Real("floored")
    real = a1 * x / (b1 + c1 * x)
    bounds = [v > 0 for v in (a1, b1, c1, a2, b2, c2, x)]
    hop = a2 * floored / (b2 + c2 * floored)
    return [*bounds, floored >= 0, floored <= real], hop <= a2 * real / (b2 + c2 * real)


def base_fee_rises_at_most_an_eighth() -> tuple[list[Any], Any]:
    """EIP-1559 with gas used up to twice the target: at most 12.5 %, or one wei."""
    (base, target), positive = integers("base target", 1)
    used, first, second = z3.Ints("used first second")
    delta = z3.If(second > 1, second, 1)
    return [
        *positive,
        used > target,
        used <= 2 * target,
        is_floor(first, base * (used - target), target),
        is_floor(second, first, 8),
    ], z3.Or(8 * delta <= base, delta == 1)


def base_fee_falls_at_most_an_eighth() -> tuple[list[Any], Any]:
    """EIP-1559 with an empty block: at most 12.5 %, never below zero."""
    (base, target), positive = integers("base target", 1)
    used, first, second = z3.Ints("used first second")
    return [
        *positive,
        used >= 0,
        used < target,
        is_floor(first, base * (target - used), target),
        is_floor(second, first, 8),
    ], z3.And(8 * second <= base, base - second >= 0)


def base_fee_change_splits() -> tuple[list[Any], Any]:
    """floor(fee d / t) = q d + floor(r d / t) for fee = q t + r: how the kernel stays in int64."""
    (t,), positive = integers("t", 1)
    (d, q, r), natural = integers("d q r")
    whole, rest = z3.Ints("whole rest")
    return [
        *positive,
        *natural,
        r < t,
        is_floor(whole, (q * t + r) * d, t),
        is_floor(rest, r * d, t),
    ], whole == q * d + rest


def quote_is_always_positive() -> tuple[list[Any], Any]:
    """False: a small input can buy nothing."""
    (x, y, a, o), positive = integers("x y a o")
    return [x > 0, y > 0, a > 0, *positive, amount_out(o, a, x, y, UNISWAP)], o > 0


def amount_in_is_the_least() -> tuple[list[Any], Any]:
    """False: where the division is exact, getAmountIn asks for one unit more than is needed."""
    (x, y, o), positive = integers("x y o", 1)
    q, got = z3.Ints("q got")
    needed = is_floor(q, x * o, y - o)
    return [*positive, o < y, q > 0, needed, amount_out(got, q, x, y, (1, 1))], got < o


def round_trip_without_fee_loses() -> tuple[list[Any], Any]:
    """False: without a fee, exact quotients return all of the input."""
    (x, y, a, o, back), positive = integers("x y a o back", 1)
    there = amount_out(o, a, x, y, (1, 1))
    again = amount_out(back, o, y - o, x + a, (1, 1))
    return [*positive, o < y, there, again], back < a


LEMMAS: tuple[Callable[[], tuple[list[Any], Any]], ...] = (
    product_never_falls,
    adjusted_product_never_falls,
    one_more_breaks_the_product,
    output_below_reserve,
    output_grows_with_input,
    round_trip_loses,
    round_trip_loses_by_the_product_alone,
    round_trip_without_fee_never_gains,
    amount_in_is_enough,
    amount_in_is_at_most_one_too_many,
    rounding_up_adds_at_most_one,
    splitting_a_trade_never_helps,
    moebius_profit_is_bounded,
    moebius_bound_is_attained,
    cycle_below_one_never_pays,
    floors_only_lower_a_chain,
    base_fee_rises_at_most_an_eighth,
    base_fee_falls_at_most_an_eighth,
    base_fee_change_splits,
)


def verdict(assumptions: list[Any], *conclusion: Any) -> Any:
    solver = z3.Solver()
    solver.set("timeout", TIMEOUT_MS)
    solver.add(*assumptions, *(z3.Not(part) for part in conclusion))
    return solver.check()


@pytest.mark.parametrize("lemma", LEMMAS, ids=lambda lemma: lemma.__name__)
def test_lemma(lemma: Callable[[], tuple[list[Any], Any]]) -> None:
    assumptions, conclusion = lemma()
    assert verdict(assumptions) == z3.sat, "assumptions that nothing satisfies prove everything"
    assert verdict(assumptions, conclusion) == z3.unsat


@pytest.mark.parametrize(
    "claim", [quote_is_always_positive, amount_in_is_the_least, round_trip_without_fee_loses]
)
def test_false_claims_are_refuted(claim: Callable[[], tuple[list[Any], Any]]) -> None:
    """The method can fail: each of these has a counterexample, and the prover finds it."""
    assumptions, conclusion = claim()
    assert verdict(assumptions, conclusion) == z3.sat
