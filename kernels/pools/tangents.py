"""Bounds of what a pool can pay, from above: the tangent of its real-valued map at one input.

Every kind's map is increasing and concave, so a tangent lies above it, and contracts round below
it. Values are double-doubles (relative error 2^-90 and better); `slack` is what must be added so
that no integer output lies above the line.
- Uniswap V2, and V3 range by range: a Moebius map; every rounding favours the pool: slack 0.
- StableSwap: with the contract's own D, the balance y solves y^2 + (b - D) y = c, and y(x) is
  convex because x y (x + y + k) is log-concave. Newton steps floored end above the root less one,
  which the contract's "- 1" gives back; c was floored n times, the fee once: that is the slack.
- Weighted: powUp is never below the power (Balancer's claim, held by a test), float64 the rest.
"""

from typing import Any

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.double_double import (
    DoubleDouble,
    dd_add,
    dd_divide,
    dd_from_u128,
    dd_multiply,
    dd_sqrt,
)
from kernels.numbers.u256 import Uint256, load128, load256, sign_extend, to_float, u128, u256
from kernels.pools.any_pool import (
    FEE,
    FEE_DENOMINATOR,
    STABLESWAP,
    UNISWAP_V2,
    WEIGHTED,
    Pools,
    amplification_now,
    as_int,
)
from kernels.pools.stableswap import A_PRECISION, get_d
from kernels.pools.stableswap import OK as STABLE_OK
from kernels.pools.uniswap_v3.state import X96
from kernels.pools.uniswap_v3.swap_fee import swap_fee

TWO_128 = 2.0**128
PIPS = 1_000_000
# Absolute errors of double-doubles in the StableSwap quadratic, and float64's in weighted pools.
QUADRATIC_ERROR = 2.0**-94
FLOAT_ERROR = 2e-14
# Balancer takes up to 30 % of a balance; a little more, so that no accepted input lies beyond.
MAX_IN_SHARE = 0.3 * (1.0 + 1e-12)

Tangent = tuple[bool, DoubleDouble, DoubleDouble, float]


@inline
def dd_from_u256(value: Uint256) -> DoubleDouble:
    """A U256 with a relative error below 2^-100."""
    high = dd_from_u128(u128(value >> np.uint64(128)))
    return dd_add((high[0] * TWO_128, high[1] * TWO_128), dd_from_u128(u128(value)))


@inline
def _negative(x: DoubleDouble) -> DoubleDouble:
    return -x[0], -x[1]


@inline
def _times(x: DoubleDouble, factor: float) -> DoubleDouble:
    """x * factor."""
    return dd_multiply(x, (factor, 0.0))


@inline
def _scaled(x: DoubleDouble, power_of_two: float) -> DoubleDouble:
    """x times a power of two, exact."""
    return x[0] * power_of_two, x[1] * power_of_two


@inline
def _tangent_v2(pools: Pools, pool: int, row_in: int, row_out: int, x: DoubleDouble) -> Tangent:
    """n Ro x / (d Ri + n x)."""
    entering = _times(
        dd_from_u256(load256(pools.balance, row_in)), float(pools.parameters[pool, FEE_DENOMINATOR])
    )
    leaving = _times(
        dd_from_u256(load256(pools.balance, row_out)), float(pools.fee_numerator[row_in])
    )
    whole = dd_add(entering, _times(x, float(pools.fee_numerator[row_in])))
    ratio = dd_divide(leaving, whole)
    slope = dd_divide(dd_multiply(ratio, entering), whole)
    return whole[0] > 0.0, dd_multiply(ratio, x), slope, 0.0


@inline
def _root_price(price: Uint256, zero_for_one: bool) -> DoubleDouble:
    """Root of the price in the direction of the trade, from Q64.96."""
    root = _scaled(dd_from_u256(price), X96)
    return root if zero_for_one else dd_divide((1.0, 0.0), root)


@lean_kernel
def _tangent_concentrated(pools: Pools, pool: int, zero_for_one: bool, x: DoubleDouble) -> Tangent:
    """Range by range: x t^2 / (1 + x t / L) in each, t the root price at its start."""
    never_inline()
    ranges = pools.concentrated
    row: Any = as_int(pools.row[pool])
    kept = dd_divide((float(PIPS - swap_fee(ranges, row, zero_for_one)), 0.0), (float(PIPS), 0.0))
    rest = dd_multiply(x, kept)
    first = ranges.first_tick[row]
    last = first + ranges.tick_count[row]
    place = ranges.cursor[row]
    price = load256(ranges.sqrt_price_x96, row)
    liquidity = u256(load128(ranges.liquidity, row))
    output = (0.0, 0.0)
    while True:
        at: Any = place - 1 if zero_for_one else place
        inside = first <= at < last
        if not inside and liquidity == u256(0):
            return True, output, (0.0, 0.0), 0.0
        # Behind the ticks that were loaded the liquidity goes on as far as the kernels know.
        stop = load256(ranges.tick_sqrt_price, at) if inside else price
        if liquidity != u256(0):
            depth = dd_from_u256(liquidity)
            root = _root_price(price, zero_for_one)
            moved = _scaled(dd_from_u256(price - stop if zero_for_one else stop - price), X96)
            # L (t - t') out and L (1/t' - 1/t) in: one of them is L times the move of the price.
            straight = dd_multiply(depth, moved)
            end = _root_price(stop, zero_for_one)
            bent = dd_multiply(straight, dd_multiply(root, end))
            if zero_for_one:
                bent = dd_divide(straight, dd_multiply(root, end))
            capacity, received = (bent, straight) if zero_for_one else (straight, bent)
            left = dd_add(rest, _negative(capacity))
            if not inside or left[0] < 0.0:
                growth = dd_add((1.0, 0.0), dd_divide(dd_multiply(rest, root), depth))
                reached = dd_divide(root, growth)
                output = dd_add(output, dd_multiply(rest, dd_multiply(root, reached)))
                return True, output, dd_multiply(kept, dd_multiply(reached, reached)), 0.0
            rest = left
            output = dd_add(output, received)
        net = sign_extend(load128(ranges.liquidity_net, at))
        liquidity = liquidity - net if zero_for_one else liquidity + net
        price = stop
        place = at if zero_for_one else at + 1


@lean_kernel
def _tangent_stable(
    pools: Pools, pool: int, i: int, j: int, x: DoubleDouble, reach: float
) -> Tangent:
    """xp_j - y(x), less the fee; the slack is uniform for inputs up to reach x."""
    never_inline()
    nothing = (0.0, 0.0)
    first, last = pools.first_coin[pool], pools.first_coin[pool + 1]
    amp = amplification_now(pools, pool)
    if amp <= 0:
        return False, nothing, nothing, 0.0
    status, d_integer = get_d(pools.scaled[first:last], amp)
    if status != STABLE_OK or d_integer == u256(0) or (d_integer >> 128) != u256(0):
        return False, nothing, nothing, 0.0
    coins = last - first
    d = dd_from_u256(d_integer)
    unit_in = dd_divide(dd_from_u256(load256(pools.rate, first + i)), (1e18, 0.0))
    unit_out = dd_divide((1e18, 0.0), dd_from_u256(load256(pools.rate, first + j)))
    kept = dd_divide((float(10**10 - pools.parameters[pool, FEE]), 0.0), (1e10, 0.0))
    before = dd_from_u256(load256(pools.scaled, first + i))
    after = dd_add(before, dd_multiply(x, unit_in))
    total, c, floored = nothing, d, 0.0
    for k in range(coins):
        if k != j:
            reserve = after if k == i else dd_from_u256(load256(pools.scaled, first + k))
            total = dd_add(total, reserve)
            c = dd_multiply(c, dd_divide(d, _times(reserve, float(coins))))
            # One unit lost to each floor, and grown by the factors after it; most without input.
            least = before[0] if k == i else reserve[0]
            floored = floored * (d[0] / (least * coins)) + 1.0
    share = dd_divide(_times(d, float(A_PRECISION)), (float(amp * coins), 0.0))
    c = dd_divide(dd_multiply(c, share), (float(coins), 0.0))
    floored = floored * (share[0] / coins) + 1.0
    b = dd_add(dd_add(total, share), _negative(d))
    root = dd_sqrt(dd_add(dd_multiply(b, b), _times(c, 4.0)))
    y = _scaled(dd_add(root, _negative(b)), 0.5)
    if b[0] > 0.0:
        y = dd_divide(_times(c, 2.0), dd_add(b, root))
    dy = dd_add(dd_from_u256(load256(pools.scaled, first + j)), _negative(y))
    slope = dd_divide(dd_add(y, dd_divide(c, after)), root)
    slope = dd_multiply(dd_multiply(slope, kept), dd_multiply(unit_in, unit_out))
    output = dd_multiply(dd_multiply(dy, kept), unit_out)
    # Lower c by `floored` and the root falls by that over sqrt(b^2 + 4 c) >= 2 sqrt(c), whose
    # least value within reach is that at reach x; it never falls by more than sqrt(floored).
    lowered = np.sqrt(floored)
    reached = before[0] + reach * (after[0] - before[0])
    least_c = c[0] * after[0] / reached - floored
    if reach < np.inf and least_c > 0.0:
        lowered = min(lowered, floored / (2.0 * np.sqrt(least_c)))
    size = d[0] + abs(b[0]) + y[0] + after[0]
    slack = (lowered * (1.0 + 2.0**-40) + 1.0 + size * QUADRATIC_ERROR) * unit_out[0]
    return after[0] > 0.0 and root[0] > 0.0, output, slope, slack


@lean_kernel
def _tangent_weighted(
    pools: Pools, pool: int, row_in: int, row_out: int, x: DoubleDouble, reach: float
) -> Tangent:
    """B_o (1 - (1 + a / B_i)^-w) in float64; flat beyond the largest input that the pool takes."""
    never_inline()
    kept = 1.0 - float(pools.parameters[pool, FEE]) * 1e-18
    balance_in = to_float(load256(pools.balance, row_in))
    balance_out = to_float(load256(pools.balance, row_out))
    exponent = float(pools.weight[row_in]) / float(pools.weight[row_out])
    share = kept * x[0] / balance_in
    flat = share >= MAX_IN_SHARE
    log_share = np.log1p(min(share, MAX_IN_SHARE))
    output = -balance_out * np.expm1(-exponent * log_share)
    slope = kept * exponent * balance_out / balance_in * np.exp(-(exponent + 1.0) * log_share)
    if reach == np.inf:
        # Only inputs beyond x are asked for then.
        slope *= 1.0 + FLOAT_ERROR
        reach = 1.0
    slack = FLOAT_ERROR * (output + reach * slope * x[0])
    return balance_in > 0.0, (output, 0.0), (0.0 if flat else slope, 0.0), slack


@inline
def tangent(pools: Pools, pool: int, i: int, j: int, x: DoubleDouble, reach: float) -> Tangent:
    """(known, output, slope, slack) of selling x >= 0 of coin i for coin j, in token units.

    No input z up to reach x buys more than output + slope (z - x) + slack; with an infinite reach,
    no input from x up.
    Pool and coins must exist; `known` is False where the pool has no price.
    """
    first = pools.first_coin[pool]
    kind = as_int(pools.kind[pool])
    if kind == UNISWAP_V2:
        return _tangent_v2(pools, pool, first + i, first + j, x)
    if kind == WEIGHTED:
        return _tangent_weighted(pools, pool, first + i, first + j, x, reach)
    if kind == STABLESWAP:
        return _tangent_stable(pools, pool, i, j, x, reach)
    return _tangent_concentrated(pools, pool, i == 0, x)
