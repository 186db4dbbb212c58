"""Gas prices: the EIP-1559 base fee, what a transaction tips, and what a plan's gas costs.

The base-fee rule is `calculate_base_fee_per_gas` of ethereum/execution-specs (Cancun, fork.py), in
int64 without wider products; the quantile rule is geth's `eth_feeHistory` (eth/gasprice).
"""

import numpy as np

from kernels.checked_arrays import entrance, wanted
from kernels.compile import inline, kernel, lean_kernel

ELASTICITY_MULTIPLIER = 2
BASE_FEE_MAX_CHANGE_DENOMINATOR = 8

# Ethereum's own least gas limit, and the bounds within which no product of the integer rule passes
# 2^63: the remainder's below 2^31 * (2^31 + 1), the quotient's below 2^62 * (1 + 1 / 2,500).
MIN_GAS_LIMIT = 5_000
MAX_GAS_LIMIT = 1 << 32
MAX_BASE_FEE_WEI = 1 << 62
# The float64 rule equals the integer one below these: every product stays under 2^53.
MAX_EXACT_FLOAT_GAS_LIMIT = 1 << 27
MAX_EXACT_FLOAT_BASE_FEE_WEI = 1 << 53

INVALID = -1
MAX_INT64 = (1 << 63) - 1

# What contracts/Executor.vy uses at most, measured on a chain with the real pairs (its docstring):
# a plan that pays a bid, and what each constant-product hop adds.
DEFAULT_BASE_GAS = 51_200
DEFAULT_HOP_GAS = 50_300
# What one more hop adds, in the order of pool kinds: Uniswap V2, Uniswap V3, Pancake V3, Uniswap
# V4, StableSwap, weighted. V2 is the executor's. V3 and V4 are the third hop of their routers in
# the gas snapshots of universal-router and v4-periphery 1.0.3. The last two are assumed.
HOP_GAS = (DEFAULT_HOP_GAS, 83_900, 83_900, 57_400, 130_000, 110_000)
# An initialised tick: three counters rewritten at 5,000 each, two cold slots read at 2,100, and the
# arithmetic of one more step of the swap.
TICK_GAS = 23_400
MAX_TICKS_CROSSED = 1 << 21  # more than there are

MAX_TOTAL_GAS = 1 << 62


@kernel
def next_base_fee(base_fee_wei: int, gas_used: int, gas_limit: int) -> int:
    """Base fee of the child block, in wei; INVALID (-1) outside the domain.

    Takes the parent's base fee (0 to 2^62), gas used (0 to the limit), gas limit (5,000 to 2^32).
    Both divisions of the rule round towards zero on the size of the change, and a rise is never
    less than 1 wei. A product fee * (used - target) passes 2^64 on real blocks (1.4e12 wei times
    18e6 gas), so the fee is first divided by the target: with fee = q * target + r, floor(fee * d
    / target) = q * d + floor(r * d / target) exactly, and nothing passes 2^63.
    """
    fee = int(np.int64(base_fee_wei))
    used = int(np.int64(gas_used))
    limit = int(np.int64(gas_limit))
    if fee < 0 or fee > MAX_BASE_FEE_WEI or limit < MIN_GAS_LIMIT or limit > MAX_GAS_LIMIT:
        return INVALID
    if used < 0 or used > limit:
        return INVALID
    target = limit // ELASTICITY_MULTIPLIER
    distance = abs(used - target)
    quotient = fee // target
    remainder = fee - quotient * target
    change = quotient * distance + remainder * distance // target
    change //= BASE_FEE_MAX_CHANGE_DENOMINATOR
    if used > target:
        return fee + max(change, 1)
    return fee - change


@kernel
def next_base_fee_f64(base_fee_wei: float, gas_used: float, gas_limit: float) -> float:
    """`next_base_fee` on whole float64 numbers, free of branches so that lanes vectorise.

    Equal to the integer rule, not close to it, while the gas limit is at most 2^27 and the fee at
    most 2^53: products then stay below 2^53, and a quotient that is not whole lies further from
    the next whole number than half a unit in the last place. The caller keeps 0 <= gas_used <=
    gas_limit; nothing is checked here.
    """
    target = np.floor(gas_limit * 0.5)
    distance = abs(gas_used - target)
    quotient = np.floor(base_fee_wei / target)
    remainder = base_fee_wei - quotient * target
    change = quotient * distance + np.floor(remainder * distance / target)
    change = np.floor(change * 0.125)
    rise = base_fee_wei + max(change, 1.0)
    fall = base_fee_wei - change
    return rise if gas_used > target else fall


@entrance(
    base_fee_wei=wanted(np.float64, "N"),
    gas_used=wanted(np.float64, "N"),
    gas_limit=wanted(np.float64, "N"),
    out=wanted(np.float64, "N"),
)
@kernel
def next_base_fees(
    base_fee_wei: np.ndarray,
    gas_used: np.ndarray,
    gas_limit: np.ndarray,
    out: np.ndarray,
) -> None:
    """`next_base_fee_f64` for N lanes: float64[N] each, written to `out`, which may be an input."""
    for lane in range(out.shape[0]):
        out[lane] = next_base_fee_f64(base_fee_wei[lane], gas_used[lane], gas_limit[lane])


@kernel
def highest_base_fee(base_fee_wei: int, gas_limit: int, blocks: int) -> int:
    """Base fee after `blocks` full blocks: the most it can be, in wei; INVALID past the domain.

    A transaction whose fee cap is this much plus its tip stays includable for that many blocks.
    """
    fee = int(np.int64(base_fee_wei))
    if blocks < 0 or fee < 0:
        return INVALID
    for _ in range(blocks):
        fee = next_base_fee(fee, gas_limit, gas_limit)
        if fee == INVALID:
            break
    return fee


@kernel
def effective_priority_fee(max_fee_wei: int, max_priority_fee_wei: int, base_fee_wei: int) -> int:
    """Tip per gas the proposer gets, in wei; INVALID when the fee cap is below the base fee.

    For a legacy or access-list transaction pass its gas price as both caps.
    """
    if max_fee_wei < base_fee_wei or max_fee_wei < max_priority_fee_wei:
        return INVALID
    headroom = int(np.int64(max_fee_wei)) - int(np.int64(base_fee_wei))
    return min(int(np.int64(max_priority_fee_wei)), headroom)


@inline
def _sift_down(priority_fee: np.ndarray, order: np.ndarray, at: int, end: int) -> None:
    """Restore the heap order[:end], largest tip first, of which only `at` may be out of place."""
    while True:
        child = 2 * at + 1
        if child >= end:
            return
        if child + 1 < end and priority_fee[order[child]] < priority_fee[order[child + 1]]:
            child += 1
        if not priority_fee[order[at]] < priority_fee[order[child]]:
            return
        order[at], order[child] = order[child], order[at]
        at = child


@lean_kernel
def _sort_by_tip(priority_fee: np.ndarray, order: np.ndarray) -> None:
    """Indices of the tips into `order`, least tip first: a heap sort, which allocates nothing."""
    count = priority_fee.shape[0]
    for i in range(count):
        order[i] = i
    for i in range(count // 2):
        _sift_down(priority_fee, order, count // 2 - 1 - i, count)
    for i in range(count - 1):
        end = count - 1 - i
        order[0], order[end] = order[end], order[0]
        _sift_down(priority_fee, order, 0, end)


@lean_kernel
def priority_fee_quantiles(
    priority_fee: np.ndarray,
    gas_used: np.ndarray,
    percentiles: np.ndarray,
    order: np.ndarray,
    out: np.ndarray,
) -> int:
    """Gas-weighted quantiles of the tips paid in one or more blocks, pooled: 0, or INVALID (-1).

    `priority_fee` [n] in any unit and `gas_used` int64[n], one entry per transaction in any order;
    `percentiles` float64[q] from 0 to 100 that do not fall; `order` int64[n] is scratch; `out` [q]
    gets the quantiles in the unit of the tips. The rule is geth's for `eth_feeHistory`: by tip, the
    first at which the gas so far reaches floor(total gas * percentile / 100), so that one block
    gives what its node reports. Without transactions every quantile is 0, as for an empty block.
    INVALID, and `out` untouched, when arrays differ in length, gas is below 0 or beyond 2^62 in
    total, or a percentile is out of range or order.
    """
    count = priority_fee.shape[0]
    if gas_used.shape[0] != count or order.shape[0] < count:
        return INVALID
    if out.shape[0] != percentiles.shape[0]:
        return INVALID
    last = 0.0
    for q in range(percentiles.shape[0]):
        # Written so that NaN is refused, too.
        if not last <= percentiles[q] <= 100.0:
            return INVALID
        last = percentiles[q]
    total = 0
    for i in range(count):
        if gas_used[i] < 0 or gas_used[i] > MAX_TOTAL_GAS - total:
            return INVALID
        total += gas_used[i]
    if count == 0:
        out[:] = 0
        return 0
    _sort_by_tip(priority_fee, order)
    place = 0
    gas_so_far = gas_used[order[0]]
    for q in range(percentiles.shape[0]):
        threshold = np.int64(float(total) * percentiles[q] / 100.0)
        while gas_so_far < threshold and place < count - 1:
            place += 1
            gas_so_far += gas_used[order[place]]
        out[q] = priority_fee[order[place]]
    return 0


@kernel
def plan_gas(
    hops: int, base_gas: int = DEFAULT_BASE_GAS, gas_per_hop: int = DEFAULT_HOP_GAS
) -> int:
    """Gas a plan of `hops` constant-product swaps is expected to use: it ranks, it is no limit.

    The defaults are our executor's; a server takes those of the executor it is given.
    """
    return int(np.int64(base_gas)) + int(np.int64(hops)) * int(np.int64(gas_per_hop))


@kernel
def plan_gas_of_kinds(
    kinds: np.ndarray, ticks_crossed: np.ndarray, base_gas: int = DEFAULT_BASE_GAS
) -> int:
    """Gas a plan through pools of any kinds is expected to use: it ranks, it is no limit.

    `kinds` int[h] are rows of HOP_GAS, `ticks_crossed` int[h] the initialised ticks that each hop
    crosses, 0 where a pool has none. base + sum of HOP_GAS[kind] + TICK_GAS * crossed; INVALID for
    an unknown kind, a negative count, or arrays that differ in length.
    """
    if kinds.shape[0] != ticks_crossed.shape[0] or base_gas < 0:
        return INVALID
    gas = int(np.int64(base_gas))
    for hop in range(kinds.shape[0]):
        kind, crossed = int(np.int64(kinds[hop])), int(np.int64(ticks_crossed[hop]))
        if kind < 0 or kind >= len(HOP_GAS) or crossed < 0 or crossed > MAX_TICKS_CROSSED:
            return INVALID
        gas += HOP_GAS[kind] + TICK_GAS * crossed
    return gas


@kernel
def gas_cost_wei(gas: int, base_fee_wei: int, priority_fee_wei: int) -> int:
    """What `gas` costs the sender, in wei; INVALID when it would pass 2^63 or an input is below 0.

    The int64 ceiling is 9.2 ether: more than any plan may spend, and the caller must see it.
    """
    if gas < 0 or base_fee_wei < 0 or priority_fee_wei < 0:
        return INVALID
    if gas == 0:
        return 0
    limit = MAX_INT64 // int(np.int64(gas))
    if base_fee_wei > limit or priority_fee_wei > limit - base_fee_wei:
        return INVALID
    fee = int(np.int64(base_fee_wei)) + int(np.int64(priority_fee_wei))
    return int(np.int64(gas)) * fee
