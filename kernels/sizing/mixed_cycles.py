"""Size and profit of a cycle through any mix of pools, with a bound that no input can beat.

The real-valued profit is concave. Its maximum is bracketed in floats on the log of the cycle's
slope, by Illinois steps on log(1 + C x), in which constant products are straight lines; then the
integers are searched on the token with the fewest units, each amount exactly as the contracts pay.
The bound is that of `mixed_bound`.
"""

from typing import Any

import numpy as np

from kernels.checked_arrays import INTEGERS, entrance, wanted
from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.double_double import dd_add, dd_from_u128
from kernels.numbers.u256 import (
    Limbs,
    Uint256,
    divmod256,
    from_float,
    load256,
    store256,
    u128,
    u256,
)
from kernels.pools.any_pool import NO, OK, YES, Pools, quote
from kernels.pools.floats import depth, float_trade
from kernels.sizing.mixed_bound import FIRST_TOUCH, ROUND_UP, profit_bound

# Beside the codes of kernels.pools.any_pool.
UNPROFITABLE = 20
BAD_SHAPE = 21
BROKEN_CYCLE = 22  # tokens do not meet, or a pool comes twice
UNKNOWN_PRICE = 23  # a pool of the cycle has none
REASONS = {
    UNPROFITABLE: "no input pays",
    BAD_SHAPE: "array sizes, hops or search width out of bounds",
    BROKEN_CYCLE: "tokens do not meet, or a pool comes twice",
    UNKNOWN_PRICE: "a pool of the cycle has no price: empty, or before its A ramp",
}

MAX_HOPS = 16
MAX_SEARCH_WIDTH = 1 << 20
MAX_STEPS = 80
# How near the brackets come to each other.
NARROW = 1e-13
# Parts of the estimate left out when the amounts around it are refused: liquidity ends there.
RETREATS = 6
# Times that the inputs around the best one are tried, each from the best one so far.
MAX_CLIMBS = 64


@lean_kernel
def _slope_and_output(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int, amount: float
) -> tuple[float, float]:
    """(log of the marginal output, output) of the cycle for an input, in floats; NaN if unknown."""
    never_inline()
    slope = 1.0
    for hop in range(hops):
        amount, margin = float_trade(pools, pool[hop], coin_in[hop], coin_out[hop], amount)
        slope *= margin
    return np.log(slope) if slope > 0.0 else (-np.inf if slope == 0.0 else np.nan), amount


@lean_kernel
def estimate_cycle(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int
) -> tuple[int, float, float]:
    """(status, best real input, its profit) in floats: ranks cycles and starts `refine_mixed`.

    int64[H] arrays of pools and of coins by their place in the pool; they must exist.
    """
    never_inline()
    log_rate, _ = _slope_and_output(pools, pool, coin_in, coin_out, hops, 0.0)
    if np.isnan(log_rate):
        return UNKNOWN_PRICE, 0.0, 0.0
    if not log_rate > 0.0:
        return UNPROFITABLE, 0.0, 0.0
    # C of out(x) = A x / (1 + C x) from one more point, far enough for its slope to differ.
    curvature = 0.0
    probe = max(1.0, 1e-6 * depth(pools, pool[0], coin_in[0]))
    low, high, log_high = 0.0, np.inf, -1.0
    log_low = log_rate
    for _ in range(MAX_STEPS):
        log_probe, _ = _slope_and_output(pools, pool, coin_in, coin_out, hops, probe)
        if not log_probe > 0.0:
            high, log_high = probe, log_probe
        else:
            low, log_low = probe, log_probe
        if log_rate - log_probe > 1e-9 or not log_probe > 0.0:
            lost = min(log_rate - log_probe, 100.0)
            curvature = max(np.expm1(0.5 * lost) / probe, 1e-300)
            break
        probe *= 1024.0
    if curvature == 0.0:
        return UNKNOWN_PRICE, 0.0, 0.0
    # Illinois on z = log(1 + C x): the end that stays has its value halved.
    probe = np.expm1(0.5 * log_rate) / curvature
    side = 0
    for _ in range(MAX_STEPS):
        if not low < probe < high:
            probe = 0.5 * (low + high) if high < np.inf else 2.0 * max(low, probe)
        log_probe, _ = _slope_and_output(pools, pool, coin_in, coin_out, hops, probe)
        if log_probe > 0.0:
            low, log_low = probe, log_probe
            if side == 1:
                log_high *= 0.5
            side = 1
        else:
            high, log_high = probe, log_probe
            if side == -1:
                log_low *= 0.5
            side = -1
        if high == np.inf:
            probe = 2.0 * low
            continue
        if high - low <= NARROW * high or abs(log_probe) < 1e-15:
            break
        z_low, z_high = np.log1p(curvature * low), np.log1p(curvature * high)
        # A margin of 0, where liquidity ends, is bisected.
        share = log_low / (log_low - log_high) if log_high > -np.inf else 0.5
        probe = np.expm1(z_low + share * (z_high - z_low)) / curvature
    _, received = _slope_and_output(pools, pool, coin_in, coin_out, hops, probe)
    return OK, probe, received - probe


@inline
def _checked(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int, width: int, amounts: Limbs
) -> int:
    """BAD_SHAPE or BROKEN_CYCLE, or OK when every index is inside and the tokens meet."""
    rows = min(pool.shape[0], min(coin_in.shape[0], coin_out.shape[0]))
    if not (2 <= hops <= min(rows, MAX_HOPS) and 0 <= width <= MAX_SEARCH_WIDTH):
        return BAD_SHAPE
    if amounts.shape[0] <= hops or amounts.shape[1] < 4:
        return BAD_SHAPE
    for hop in range(hops):
        if not 0 <= pool[hop] < pools.kind.shape[0]:
            return BROKEN_CYCLE
        coins = pools.first_coin[pool[hop] + 1] - pools.first_coin[pool[hop]]
        if not (0 <= coin_in[hop] < coins and 0 <= coin_out[hop] < coins):
            return BROKEN_CYCLE
        if coin_in[hop] == coin_out[hop]:
            return BROKEN_CYCLE
        for other in range(hop):
            if pool[other] == pool[hop]:
                return BROKEN_CYCLE
    for hop in range(hops):
        after = hop + 1 if hop + 1 < hops else 0
        left = pools.token[pools.first_coin[pool[hop]] + coin_out[hop]]
        if left != pools.token[pools.first_coin[pool[after]] + coin_in[after]]:
            return BROKEN_CYCLE
    return OK


@inline
def _forward(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, first: int, hops: int, amount: Uint256
) -> Uint256:
    """Exact output of hops first..hops-1, 0 when one of them would revert."""
    for hop in range(first, hops):
        if amount != u256(0):
            _, amount = quote(pools, pool[hop], coin_in[hop], coin_out[hop], YES, amount)
    return amount


@inline
def _backward(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int, amount: Uint256
) -> Uint256:
    """Input of hop 0 that buys `amount` after `hops` hops, 0 when one of them would revert."""
    for back in range(hops):
        hop = hops - 1 - back
        if amount != u256(0):
            _, amount = quote(pools, pool[hop], coin_in[hop], coin_out[hop], NO, amount)
    return amount


@lean_kernel
def _search(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int, amount_in: float, width: int
) -> Uint256:
    """Input of the best amount of the coarsest token within `width`, 0 when none pays."""
    never_inline()
    pivot, fewest, amount = 0, amount_in, amount_in
    for hop in range(hops - 1):
        amount, _ = float_trade(pools, pool[hop], coin_in[hop], coin_out[hop], amount)
        if amount < fewest:
            pivot, fewest = hop + 1, amount
    best_input, best_profit = u256(0), u256(0)
    retreat = FIRST_TOUCH
    for _ in range(RETREATS):
        centre = from_float(fewest)
        candidate = centre - np.uint64(width) if centre > u256(np.uint64(width)) else u256(1)
        for _ in range(2 * width + 2):
            entering = _backward(pools, pool, coin_in, coin_out, pivot, candidate)
            leaving = u256(0)
            if entering != u256(0):
                leaving = _forward(pools, pool, coin_in, coin_out, pivot, hops, candidate)
            candidate = candidate + 1
            if leaving > entering and leaving - entering > best_profit:
                best_input, best_profit = entering, leaving - entering
        if best_input != u256(0):
            break
        fewest *= 1.0 - retreat
        retreat *= 64.0
    return best_input


@lean_kernel
def _least_input(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int, amount_in: Uint256
) -> tuple[Uint256, Uint256]:
    """(least input with the output of `amount_in`, that output), by doubling and halving steps."""
    never_inline()
    leaving = _forward(pools, pool, coin_in, coin_out, 0, hops, amount_in)
    short, step = u256(0), u256(1)
    while amount_in > step:
        candidate = amount_in - step
        if _forward(pools, pool, coin_in, coin_out, 0, hops, candidate) < leaving:
            short = candidate
            break
        amount_in = candidate
        step = step << 1
    while amount_in - short > u256(1):
        middle = short + ((amount_in - short) >> 1)
        if _forward(pools, pool, coin_in, coin_out, 0, hops, middle) < leaving:
            short = middle
        else:
            amount_in = middle
    return amount_in, leaving


@lean_kernel
def _climb(
    pools: Pools, pool: Any, coin_in: Any, coin_out: Any, hops: int, amount_in: Uint256, width: int
) -> tuple[Uint256, Uint256]:
    """(input, profit) that no input within `width` beats, or the best after MAX_CLIMBS steps.

    The best amount of another token can be bought by more than the one input asked for it, and at a
    tick where the optimum sits floats are many units off: strides grow while the best is far out.
    """
    never_inline()
    stride = u256(1)
    profit = u256(0)
    for _ in range(MAX_CLIMBS):
        if stride == u256(1):
            amount_in, _ = _least_input(pools, pool, coin_in, coin_out, hops, amount_in)
        received = _forward(pools, pool, coin_in, coin_out, 0, hops, amount_in)
        profit = received - amount_in if received > amount_in else u256(0)
        start, best, at = amount_in, profit, 0
        for step in range(1, width + 1):
            far = stride * np.uint64(step)
            for side in range(2):
                if side == 0 and far >= start:
                    continue
                candidate = start - far if side == 0 else start + far
                received = _forward(pools, pool, coin_in, coin_out, 0, hops, candidate)
                if received > candidate and received - candidate > best:
                    amount_in, best, at = candidate, received - candidate, step
        profit = best
        if at == 0 and stride == u256(1):
            break
        if at > 0 and 2 * at >= width:
            stride = stride << 2
        elif at == 0 or width < 2:
            stride = u256(1)
        else:
            stride, _ = divmod256(stride, u256(np.uint64(width)))
            stride = stride if stride > u256(0) else u256(1)
    return amount_in, profit


@lean_kernel
def refine_mixed(
    pools: Pools,
    pool: Any,
    coin_in: Any,
    coin_out: Any,
    hops: int,
    search_width: int,
    amounts: Limbs,
) -> tuple[int, Uint256, float]:
    """Best integer input of a cycle of 2 to 16 hops: (status, profit, gap), amounts written.

    int64[H] pools and coins, by their place in the pool; each pool once. amounts is
    uint64[H + 1, 4]: amounts[0] is the input, amounts[hops] the output, each exactly what the
    contracts take and pay. `search_width` K tries 2 K + 2 amounts of the token with the fewest
    units, and then climbs until no input within K of the best one earns more.

    No input of this cycle earns more than profit + gap: a gap below 1 proves the optimum, an
    infinite one that nothing was proved. It is some units for V2 and V3, some units at 18 decimals
    per StableSwap hop, and 1e-14 of the balance per weighted hop, which its contract rounds away.
    Amounts are 0 unless the status is OK; BAD_SHAPE writes nothing.
    """
    nothing = u256(0)
    status = _checked(pools, pool, coin_in, coin_out, hops, search_width, amounts)
    if status == BAD_SHAPE:
        return status, nothing, np.inf
    for row in range(hops + 1):
        store256(amounts, row, nothing)
    if status != OK:
        return status, nothing, np.inf
    status, best_real, _ = estimate_cycle(pools, pool, coin_in, coin_out, hops)
    if status == UNKNOWN_PRICE:
        return status, nothing, np.inf
    proved, bound = profit_bound(pools, pool, coin_in, coin_out, hops, best_real)
    if status != OK:
        return status, nothing, max(bound[0], 0.0) * ROUND_UP if proved else np.inf
    amount_in = _search(pools, pool, coin_in, coin_out, hops, best_real, search_width)
    profit = nothing
    if amount_in != nothing:
        amount_in, profit = _climb(pools, pool, coin_in, coin_out, hops, amount_in, search_width)
    earned = dd_from_u128(u128(profit))
    gap = max(dd_add(bound, (-earned[0], -earned[1]))[0], 0.0) * ROUND_UP if proved else np.inf
    if profit == nothing:
        return UNPROFITABLE, nothing, gap
    store256(amounts, 0, amount_in)
    for hop in range(hops):
        amount = load256(amounts, hop)
        _, output = quote(pools, pool[hop], coin_in[hop], coin_out[hop], YES, amount)
        store256(amounts, hop + 1, output)
    return OK, profit, gap


@entrance(
    pool=wanted(np.int64, "N", "H"),
    coin_in=wanted(np.int64, "N", "H"),
    coin_out=wanted(np.int64, "N", "H"),
    amounts=wanted(np.uint64, "N", None, 4),
    status=wanted(INTEGERS, "N"),
    gap=wanted(np.float64, "N"),
)
@lean_kernel
def refine_mixed_batch(
    pools: Pools,
    pool: Any,
    coin_in: Any,
    coin_out: Any,
    search_width: int,
    amounts: Any,
    status: Any,
    gap: Any,
) -> None:
    """`refine_mixed` of N cycles of H hops: int64[N, H] cycles, uint64[N, H + 1, 4] amounts."""
    for at in range(pool.shape[0]):
        status[at], _, gap[at] = refine_mixed(
            pools, pool[at], coin_in[at], coin_out[at], pool.shape[1], search_width, amounts[at]
        )
