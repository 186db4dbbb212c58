"""Exact size and profit of a cycle of constant-product pools, with a certificate of optimality.

A chain of V2 pools is a Moebius map out(x) = A x / (B + C x), whose best input is
(sqrt(A B) - B) / C with profit (sqrt(A) - sqrt(B))^2 / C. Contracts round every hop down, so that
this profit bounds the integer one from above; the integer optimum near it is searched on the token
with the fewest units, where one unit matters most. The map in exact integers is in `moebius`.
"""

from typing import Any

import numpy as np

from kernels.checked_arrays import INTEGERS, entrance, wanted
from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.double_double import (
    DoubleDouble,
    dd_add,
    dd_divide,
    dd_from_u128,
    dd_multiply,
    dd_sqrt,
)
from kernels.numbers.u256 import (
    Limbs,
    Uint128,
    from_float,
    load128,
    store128,
    to_float,
    u128,
    u256,
)
from kernels.pools.uniswap_v2 import (
    INSUFFICIENT_LIQUIDITY,
    INVALID_FEE,
    OK,
    OVERFLOW,
    get_amount_in,
    get_amount_out,
    is_valid_fee,
)

# Beside the codes of kernels.pools.uniswap_v2.
UNPROFITABLE = 20
BAD_SHAPE = 21

# Margin of the bound: each hop is at most 8 double-double operations of relative error 2^-102, so
# that A and C are exact to 2^-95 for up to 16 hops.
MAX_HOPS = 16
RELATIVE_MARGIN = 2.0**-94
ROUND_UP = 1.0 + 2.0**-52
MAX_SEARCH_WIDTH = 1 << 20
# A second pass is rarely shorter, a third was never seen to be.
TIGHTENINGS = 2


@lean_kernel
def _closed_form(
    reserve_in: Limbs, reserve_out: Limbs, fee_numerator: Any, fee_denominator: Any, hops: int
) -> tuple[float, DoubleDouble]:
    """(best real input, upper bound of the profit) in smallest units, zeros when none pays.

    Overflow-free form: A = prod g Ro / Ri, C accumulates A g / Ri, B = 1.
    """
    never_inline()
    # Most cycles do not pay, and plain float64 sees it: its error is below 2^-45 for 16 hops.
    rate = 1.0
    for hop in range(hops):
        fee = float(fee_numerator[hop]) / float(fee_denominator[hop])
        leaving = to_float(load128(reserve_out, hop))
        rate *= fee * leaving / to_float(load128(reserve_in, hop))
    if not rate > 1.0 - 2.0**-40:
        return 0.0, (0.0, 0.0)
    a = (1.0, 0.0)
    c = (0.0, 0.0)
    for hop in range(hops):
        kept = (float(fee_numerator[hop]), 0.0)
        whole = (float(fee_denominator[hop]), 0.0)
        per_unit = dd_divide(kept, dd_multiply(whole, dd_from_u128(load128(reserve_in, hop))))
        slope = dd_multiply(a, per_unit)
        c = dd_add(c, slope)
        a = dd_multiply(slope, dd_from_u128(load128(reserve_out, hop)))
    root = dd_sqrt(a)
    edge = dd_add(root, (-1.0, 0.0))
    above = dd_add(edge, (root[0] * RELATIVE_MARGIN, 0.0))
    # Not positive, or NaN from an empty pool.
    if not above[0] > 0.0:
        return 0.0, (0.0, 0.0)
    return max(edge[0], 0.0) / c[0], dd_divide(dd_multiply(above, above), c)


@inline
def _gap(bound: DoubleDouble, profit: Uint128) -> float:
    """bound - profit, rounded up."""
    earned = dd_from_u128(profit)
    difference = dd_add(bound, (-earned[0], -earned[1]))
    return max(difference[0], 0.0) * ROUND_UP + bound[0] * RELATIVE_MARGIN


@inline
def _forward(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    first: int,
    hops: int,
    amount: Uint128,
) -> Uint128:
    """Exact output of hops first..hops-1, 0 when a pair would revert."""
    for hop in range(first, hops):
        reserve = load128(reserve_in, hop)
        # A pair cannot hold 2^112 of a token.
        if ((reserve | amount | (reserve + amount)) >> 112) != u128(0):
            return u128(0)
        status, amount = get_amount_out(
            amount, reserve, load128(reserve_out, hop), fee_numerator[hop], fee_denominator[hop]
        )
        if status != OK:
            return u128(0)
    return amount


@inline
def _backward(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    hops: int,
    amount: Uint128,
) -> Uint128:
    """Input of hop 0 that getAmountsIn asks for `amount` after `hops` hops, 0 when it reverts."""
    for back in range(hops):
        hop = hops - 1 - back
        status, needed = get_amount_in(
            amount,
            load128(reserve_in, hop),
            load128(reserve_out, hop),
            fee_numerator[hop],
            fee_denominator[hop],
        )
        if status != OK or (needed >> 112) != u256(0):
            return u128(0)
        amount = u128(needed)
    return amount


@inline
def _coarsest(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    hops: int,
    amount_in: float,
) -> tuple[int, float]:
    """(hop whose input has the fewest units, that many units) along the real-valued path."""
    amount = amount_in
    pivot = 0
    fewest = amount_in
    for hop in range(hops - 1):
        charged = amount * (float(fee_numerator[hop]) / float(fee_denominator[hop]))
        reserve = to_float(load128(reserve_in, hop))
        amount = charged * to_float(load128(reserve_out, hop)) / (reserve + charged)
        if amount < fewest:
            fewest = amount
            pivot = hop + 1
    return pivot, fewest


@lean_kernel
def cycle_amounts(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    hops: int,
    amounts: Limbs,
) -> int:
    """Fill amounts[1..hops] from the input amounts[0] exactly as the pairs would pay; status.

    uint64[H, 2] reserves, int64[H] fees, uint64[H + 1, 2] amounts in smallest units. On a revert
    the amounts behind it are 0 and the status is that of `get_amount_out`, or OVERFLOW.
    """
    never_inline()
    if not _is_shaped(reserve_in, reserve_out, fee_numerator, fee_denominator, hops, amounts):
        return BAD_SHAPE
    status = OK
    for hop in range(hops):
        amount = load128(amounts, hop)
        reserve = load128(reserve_in, hop)
        output = u128(0)
        if status == OK:
            if ((reserve | amount | (reserve + amount)) >> 112) != u128(0):
                status = OVERFLOW
            else:
                status, output = get_amount_out(
                    amount,
                    reserve,
                    load128(reserve_out, hop),
                    fee_numerator[hop],
                    fee_denominator[hop],
                )
        store128(amounts, hop + 1, output)
    return status


@inline
def _is_shaped(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    hops: int,
    amounts: Limbs,
) -> bool:
    """False when an index of a cycle of `hops` would leave one of the arrays."""
    rows = min(reserve_in.shape[0], reserve_out.shape[0])
    rows = min(rows, min(fee_numerator.shape[0], fee_denominator.shape[0]))
    limbs = min(reserve_in.shape[1], min(reserve_out.shape[1], amounts.shape[1]))
    return 1 <= hops <= min(rows, MAX_HOPS) and amounts.shape[0] > hops and limbs >= 2


@inline
def _check_pools(
    reserve_in: Limbs, reserve_out: Limbs, fee_numerator: Any, fee_denominator: Any, hops: int
) -> int:
    """Status of the pools alone: INVALID_FEE, INSUFFICIENT_LIQUIDITY, OVERFLOW or OK."""
    for hop in range(hops):
        if not is_valid_fee(fee_numerator[hop], fee_denominator[hop]):
            return INVALID_FEE
        entering = load128(reserve_in, hop)
        leaving = load128(reserve_out, hop)
        if entering == u128(0) or leaving == u128(0):
            return INSUFFICIENT_LIQUIDITY
        if ((entering | leaving) >> 112) != u128(0):
            return OVERFLOW
    return OK


@lean_kernel
def _search(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    hops: int,
    amount_in: float,
    search_width: int,
) -> Uint128:
    """Input of the best pivot amount within the width, 0 when none pays."""
    never_inline()
    pivot, fewest = _coarsest(
        reserve_in, reserve_out, fee_numerator, fee_denominator, hops, amount_in
    )
    centre = u128(from_float(fewest))
    width = u128(np.uint64(search_width))
    candidate = centre - width if centre > width else u128(1)
    best_input = u128(0)
    best_profit = u128(0)
    for _ in range(2 * search_width + 2):
        entering = _backward(
            reserve_in, reserve_out, fee_numerator, fee_denominator, pivot, candidate
        )
        leaving = _forward(
            reserve_in, reserve_out, fee_numerator, fee_denominator, pivot, hops, candidate
        )
        candidate += 1
        if entering != u128(0) and leaving > entering and leaving - entering > best_profit:
            best_input = entering
            best_profit = leaving - entering
    return best_input


@lean_kernel
def _tighten(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    hops: int,
    amount_in: Uint128,
    amounts: Limbs,
) -> Uint128:
    """Write amounts with no more input than the output of `amount_in` needs; profit or 0."""
    never_inline()
    for again in range(TIGHTENINGS + 1):
        store128(amounts, 0, amount_in)
        cycle_amounts(reserve_in, reserve_out, fee_numerator, fee_denominator, hops, amounts)
        leaving = load128(amounts, hops)
        needed = u128(0)
        if again < TIGHTENINGS:
            needed = _backward(
                reserve_in, reserve_out, fee_numerator, fee_denominator, hops, leaving
            )
        if needed == u128(0) or needed >= amount_in:
            return leaving - amount_in if leaving > amount_in else u128(0)
        amount_in = needed
    return u128(0)


@lean_kernel
def refine_cycle(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    hops: int,
    amount_in_estimate: float,
    search_width: int,
    amounts: Limbs,
) -> tuple[int, Uint128, float]:
    """Best integer input near an estimate: (status, profit, gap), amounts of every hop written.

    uint64[H, 2] reserves with hop h's in and out, int64[H] fees, uint64[H + 1, 2] amounts, all in
    smallest units; each pool at most once. amounts[0] is the input, amounts[hops] the output, each
    exactly what the pairs take and pay. An estimate that is not above 0 (or is NaN) means the
    closed form. `search_width` K tries 2 K + 2 amounts of the token with the fewest units.

    No input of this cycle earns more than profit + gap; a gap below 1 proves the optimum. Amounts
    are 0 unless the status is OK: UNPROFITABLE, INVALID_FEE, INSUFFICIENT_LIQUIDITY, OVERFLOW (a
    reserve beyond uint112); BAD_SHAPE (array sizes, or K outside 0..2^20) writes nothing.
    """
    nothing = u128(0)
    if not _is_shaped(reserve_in, reserve_out, fee_numerator, fee_denominator, hops, amounts):
        return BAD_SHAPE, nothing, 0.0
    if not 0 <= search_width <= MAX_SEARCH_WIDTH:
        return BAD_SHAPE, nothing, 0.0
    for row in range(amounts.shape[0]):
        store128(amounts, row, nothing)
    status = _check_pools(reserve_in, reserve_out, fee_numerator, fee_denominator, hops)
    if status != OK:
        return status, nothing, 0.0
    best_real, bound = _closed_form(reserve_in, reserve_out, fee_numerator, fee_denominator, hops)
    if not bound[0] > 0.0:
        return UNPROFITABLE, nothing, 0.0
    start = amount_in_estimate if amount_in_estimate > 0.0 else best_real
    amount_in = _search(
        reserve_in, reserve_out, fee_numerator, fee_denominator, hops, start, search_width
    )
    profit = _tighten(
        reserve_in, reserve_out, fee_numerator, fee_denominator, hops, amount_in, amounts
    )
    if profit == nothing:
        for row in range(hops + 1):
            store128(amounts, row, nothing)
        return UNPROFITABLE, nothing, _gap(bound, nothing)
    return OK, profit, _gap(bound, profit)


@entrance(
    reserve_in=wanted(np.uint64, "N", "H", 2),
    reserve_out=wanted(np.uint64, "N", "H", 2),
    fee_numerator=wanted(np.int64, "N", "H"),
    fee_denominator=wanted(np.int64, "N", "H"),
    amount_in_estimate=wanted(np.float64, "N"),
    amounts=wanted(np.uint64, "N", None, 2),
    status=wanted(INTEGERS, "N"),
    gap=wanted(np.float64, "N"),
)
@lean_kernel
def refine_batch(
    reserve_in: Any,
    reserve_out: Any,
    fee_numerator: Any,
    fee_denominator: Any,
    amount_in_estimate: Any,
    search_width: int,
    amounts: Any,
    status: Any,
    gap: Any,
) -> None:
    """`refine_cycle` of N cycles of H hops: uint64[N, H, 2], int64[N, H], amounts [N, H + 1, 2]."""
    hops = reserve_in.shape[1]
    for i in range(reserve_in.shape[0]):
        status[i], _, gap[i] = refine_cycle(
            reserve_in[i],
            reserve_out[i],
            fee_numerator[i],
            fee_denominator[i],
            hops,
            amount_in_estimate[i],
            search_width,
            amounts[i],
        )
