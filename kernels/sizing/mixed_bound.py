"""What no input of a cycle through any mix of pools can earn more than.

The real-valued profit is concave: it lies below the point where two of its tangents meet, one on
either side of its maximum.
"""

from typing import Any

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.double_double import DoubleDouble, dd_add, dd_multiply
from kernels.pools.any_pool import Pools
from kernels.pools.tangents import tangent

# How far from the maximum the tangents may touch.
FIRST_TOUCH = 2.0**-40
LAST_TOUCH = 0.25
# How many times the best input the two lines may have to hold for; the third is loose near it.
MAX_REACH = 2.0**32
# Of all double-double operations of a cycle with thousands of ticks.
RELATIVE_MARGIN = 2.0**-85
ROUND_UP = 1.0 + 2.0**-50


@lean_kernel
def _line(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int, amount: float, reach: float
) -> tuple[bool, DoubleDouble, DoubleDouble]:
    """(known, profit above any at `amount`, slope of the profit): a line over every profit.

    Valid up to reach / 2 times `amount`, or from `amount` on where the reach is infinite: a concave
    map turns no multiple of an input into a larger multiple of its output.
    """
    never_inline()
    margin_share = RELATIVE_MARGIN * (reach if reach < np.inf else 1.0)
    value, slope, slack = (amount, 0.0), (1.0, 0.0), 0.0
    for hop in range(hops):
        known, value, margin, own = tangent(
            pools, pool[hop], coin_in[hop], coin_out[hop], value, reach
        )
        # A line over a line: what the hops before may have paid more is sold at this hop's slope.
        slack = (slack * margin[0] + own) * ROUND_UP + abs(value[0]) * margin_share
        slope = dd_multiply(slope, margin)
        if not known or np.isnan(value[0]):
            return False, value, slope
        if value[0] < 0.0:
            value = (0.0, 0.0)
    profit = dd_add(dd_add(value, (-amount, 0.0)), (slack, 0.0))
    return True, profit, dd_add(slope, (-1.0, 0.0))


@inline
def _meet(
    low: float, p: DoubleDouble, p_slope: float, high: float, q: DoubleDouble, q_slope: float
) -> DoubleDouble:
    """Height at which a rising line through (low, p) meets a falling one through (high, q)."""
    rise, fall = max(p_slope, 0.0), max(-q_slope, 0.0)
    if rise + fall == 0.0:
        return p if p[0] < q[0] else q
    # (fall p + rise q + rise fall (high - low)) / (rise + fall), the last term rounded up.
    weight = fall / (rise + fall)
    apart = dd_add(p, (-q[0], -q[1]))[0]
    peak = rise * weight * (high - low) * ROUND_UP
    margin = (abs(apart) + peak) * 2.0**-45
    return dd_add(q, (weight * apart + peak + margin, 0.0))


@lean_kernel
def profit_bound(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int, best_real: float
) -> tuple[bool, DoubleDouble]:
    """(proved, what no input of the cycle earns more than), from an estimate of the best input.

    Two tangents hold up to a multiple of the estimate, a third one beyond. Not proved where a pool
    has no price, or where the estimate is not near the maximum.
    """
    never_inline()
    best = (np.inf, 0.0)
    if not best_real > 0.0:
        known, best, slope = _line(pools, pool, coin_in, coin_out, hops, 0.0, np.inf)
        return known and slope[0] <= 0.0, best
    proved = False
    touch, reach = FIRST_TOUCH, 2.0
    while touch <= LAST_TOUCH and reach <= MAX_REACH:
        low, high = best_real * (1.0 - touch), best_real * (1.0 + touch)
        known, p, rise = _line(pools, pool, coin_in, coin_out, hops, low, 2.0 * reach)
        known_high, q, fall = _line(pools, pool, coin_in, coin_out, hops, high, 2.0 * reach)
        if not known or not known_high:
            break
        if rise[0] < 0.0 or fall[0] > 0.0:
            touch *= 16.0
            continue
        bound = _meet(low, p, rise[0], high, q, fall[0])
        _, far, slope = _line(
            pools, pool, coin_in, coin_out, hops, 0.75 * reach * best_real, np.inf
        )
        worse = bound if bound[0] > far[0] else far
        if slope[0] <= 0.0 and worse[0] < best[0]:
            proved, best = True, worse
        if proved and far[0] <= bound[0]:
            break
        reach *= 64.0
    return proved, best
