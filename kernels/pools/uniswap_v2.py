"""Uniswap V2 and its forks on exact integers: quotes of UniswapV2Library, swaps of UniswapV2Pair.

Amounts and reserves are U128 in smallest units, fees are (numerator, denominator) per direction:
997/1000 for Uniswap and Sushi, 9975/10000 for Pancake. Every function returns a status first:
OK, or which require of the contracts would have reverted.
"""

from typing import Any

import numpy as np

from kernels.checked_arrays import INTEGERS, entrance, wanted
from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.u256 import (
    Limbs,
    Uint128,
    Uint256,
    divmod256,
    limb,
    load128,
    make128,
    mul_div_128,
    store128,
    u128,
    u256,
    u512,
)

OK = 0
INSUFFICIENT_INPUT_AMOUNT = 1
INSUFFICIENT_OUTPUT_AMOUNT = 2
INSUFFICIENT_LIQUIDITY = 3
MUL_OVERFLOW = 4
SUB_UNDERFLOW = 5
DIVISION_BY_ZERO = 6
K = 7
OVERFLOW = 8
INVALID_FEE = 9
ABOVE_128_BITS = 10

# What the contract says when it reverts; the library has its own prefix where both check.
REVERT_REASONS = {
    INSUFFICIENT_INPUT_AMOUNT: "INSUFFICIENT_INPUT_AMOUNT",
    INSUFFICIENT_OUTPUT_AMOUNT: "INSUFFICIENT_OUTPUT_AMOUNT",
    INSUFFICIENT_LIQUIDITY: "INSUFFICIENT_LIQUIDITY",
    MUL_OVERFLOW: "ds-math-mul-overflow",
    SUB_UNDERFLOW: "ds-math-sub-underflow",
    DIVISION_BY_ZERO: "",
    K: "UniswapV2: K",
    OVERFLOW: "UniswapV2: OVERFLOW",
}

# A fee in parts of a million is the finest that a known fork has.
MAX_FEE_DENOMINATOR = 1 << 20
# Operands of the fast path: an amount below 2^106 times a fee below 2^20 stays below 2^126.
FAST_BITS = np.uint64(42)
MAX_UINT112_HIGH = np.uint64(1 << 48)
FEE_DENOMINATORS = np.uint64(MAX_FEE_DENOMINATOR)
ZERO = np.uint64(0)
ONE = np.uint64(1)


@inline
def is_valid_fee(fee_numerator: int, fee_denominator: int) -> bool:
    """True for 0 <= numerator <= denominator, 1 <= denominator <= 2^20."""
    # As unsigned numbers what is negative is too large, which leaves two comparisons.
    whole = np.uint64(fee_denominator)
    return bool(whole - ONE < FEE_DENOMINATORS and np.uint64(fee_numerator) <= whole)


@inline
def _fits_fast(x: Uint128, y: Uint128) -> bool:
    """True when both are below 2^106."""
    return ((limb(x, 1) | limb(y, 1)) >> FAST_BITS) == ZERO


@inline
def get_amount_out(
    amount_in: Uint128,
    reserve_in: Uint128,
    reserve_out: Uint128,
    fee_numerator: int,
    fee_denominator: int,
) -> tuple[int, Uint128]:
    """UniswapV2Library.getAmountOut: (status, output), output 0 unless the status is OK.

    floor(a * n * Ro / (Ri * d + a * n)): rounded down, so that the pool never loses.
    """
    nothing = u128(0)
    if not is_valid_fee(fee_numerator, fee_denominator):
        return INVALID_FEE, nothing
    if amount_in == nothing:
        return INSUFFICIENT_INPUT_AMOUNT, nothing
    if reserve_in == nothing or reserve_out == nothing:
        return INSUFFICIENT_LIQUIDITY, nothing
    numerator = np.uint64(fee_numerator)
    denominator = np.uint64(fee_denominator)
    if _fits_fast(amount_in, reserve_in):
        with_fee = amount_in * numerator
        return OK, u128(mul_div_128(with_fee, reserve_out, reserve_in * denominator + with_fee))
    return _get_amount_out_wide(amount_in, reserve_in, reserve_out, numerator, denominator)


@lean_kernel
def _get_amount_out_wide(
    amount_in: Uint128,
    reserve_in: Uint128,
    reserve_out: Uint128,
    fee_numerator: np.uint64,
    fee_denominator: np.uint64,
) -> tuple[int, Uint128]:
    """`get_amount_out` for operands up to 2^128, where SafeMath may overflow."""
    never_inline()
    with_fee = u256(amount_in) * fee_numerator
    product = u512(with_fee) * u512(reserve_out)
    if (product >> 256) != u512(0):
        return MUL_OVERFLOW, u128(0)
    quotient, _ = divmod256(u256(product), u256(reserve_in) * fee_denominator + with_fee)
    return OK, u128(quotient)


@inline
def get_amount_in(
    amount_out: Uint128,
    reserve_in: Uint128,
    reserve_out: Uint128,
    fee_numerator: int,
    fee_denominator: int,
) -> tuple[int, Uint256]:
    """UniswapV2Library.getAmountIn: (status, input as U256), input 0 unless the status is OK.

    floor(Ri * o * d / ((Ro - o) * n)) + 1: always enough for `amount_out`, and for an exact
    quotient one unit more than needed, as in the contract.
    """
    nothing = u256(0)
    if not is_valid_fee(fee_numerator, fee_denominator):
        return INVALID_FEE, nothing
    if amount_out == u128(0):
        return INSUFFICIENT_OUTPUT_AMOUNT, nothing
    if reserve_in == u128(0) or reserve_out == u128(0):
        return INSUFFICIENT_LIQUIDITY, nothing
    numerator = np.uint64(fee_numerator)
    denominator = np.uint64(fee_denominator)
    if amount_out < reserve_out and numerator > ZERO and _fits_fast(reserve_in, reserve_out):
        left = (reserve_out - amount_out) * numerator
        return OK, mul_div_128(reserve_in * denominator, amount_out, left) + 1
    return _get_amount_in_wide(amount_out, reserve_in, reserve_out, numerator, denominator)


@lean_kernel
def _get_amount_in_wide(
    amount_out: Uint128,
    reserve_in: Uint128,
    reserve_out: Uint128,
    fee_numerator: np.uint64,
    fee_denominator: np.uint64,
) -> tuple[int, Uint256]:
    """`get_amount_in` for operands up to 2^128 and for its reverts, in the contract's order."""
    never_inline()
    product = u512(u256(reserve_in) * u256(amount_out)) * fee_denominator
    if (product >> 256) != u512(0):
        return MUL_OVERFLOW, u256(0)
    if amount_out > reserve_out:
        return SUB_UNDERFLOW, u256(0)
    left = u256(reserve_out - amount_out) * fee_numerator
    if left == u256(0):
        return DIVISION_BY_ZERO, u256(0)
    quotient, _ = divmod256(u256(product), left)
    return OK, quotient + 1


@inline
def _is_uint112(x: Uint256) -> bool:
    return (u256(x) >> 112) == u256(0)


@lean_kernel
def swap(
    reserve0: Uint128,
    reserve1: Uint128,
    amount0_in: Uint128,
    amount1_in: Uint128,
    amount0_out: Uint128,
    amount1_out: Uint128,
    fee0_numerator: int,
    fee1_numerator: int,
    fee_denominator: int,
) -> tuple[int, Uint128, Uint128]:
    """UniswapV2Pair.swap: (status, new reserve0, new reserve1), reserves unchanged on a revert.

    The amounts in were sent to the pair before the call; fee0 applies to token0 sent in, fee1 to
    token1. Reserves must be uint112, as the pair holds them. The K check rounds nothing: it
    compares (B0 d - I0 (d - n0)) (B1 d - I1 (d - n1)) with R0 R1 d^2.
    """
    fee0_valid = is_valid_fee(fee0_numerator, fee_denominator)
    if not (fee0_valid and is_valid_fee(fee1_numerator, fee_denominator)):
        return INVALID_FEE, reserve0, reserve1
    if not (_is_uint112(reserve0) and _is_uint112(reserve1)):
        return OVERFLOW, reserve0, reserve1
    if amount0_out == u128(0) and amount1_out == u128(0):
        return INSUFFICIENT_OUTPUT_AMOUNT, reserve0, reserve1
    if amount0_out >= reserve0 or amount1_out >= reserve1:
        return INSUFFICIENT_LIQUIDITY, reserve0, reserve1
    if amount0_in == u128(0) and amount1_in == u128(0):
        return INSUFFICIENT_INPUT_AMOUNT, reserve0, reserve1
    denominator = np.uint64(fee_denominator)
    balance0 = u256(reserve0 - amount0_out) + amount0_in
    balance1 = u256(reserve1 - amount1_out) + amount1_in
    charged0 = u256(amount0_in) * np.uint64(fee_denominator - fee0_numerator)
    charged1 = u256(amount1_in) * np.uint64(fee_denominator - fee1_numerator)
    adjusted0 = balance0 * denominator - charged0
    adjusted1 = balance1 * denominator - charged1
    product = u512(adjusted0) * u512(adjusted1)
    if (product >> 256) != u512(0):
        return MUL_OVERFLOW, reserve0, reserve1
    least = u256(reserve0) * u256(reserve1) * (u256(denominator) * denominator)
    if u256(product) < least:
        return K, reserve0, reserve1
    if not (_is_uint112(balance0) and _is_uint112(balance1)):
        return OVERFLOW, reserve0, reserve1
    return OK, u128(balance0), u128(balance1)


@entrance(
    reserve_in=wanted(np.uint64, "N", 2),
    reserve_out=wanted(np.uint64, "N", 2),
    fee_numerator=wanted(np.int64, "N"),
    fee_denominator=wanted(np.int64, "N"),
    amount_in=wanted(np.uint64, "N", 2),
    amount_out=wanted(np.uint64, "N", 2),
    status=wanted(INTEGERS, "N"),
)
@lean_kernel
def quote_out_batch(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    amount_in: Limbs,
    amount_out: Limbs,
    status: Any,
) -> None:
    """`get_amount_out` of N pools: uint64[N, 2] amounts and reserves, int64[N] fees, int[N] status.

    Writes `amount_out` and `status`. Raises ArrayError for arrays of other shapes or types.
    """
    for i in range(amount_in.shape[0]):
        status[i], amount = get_amount_out(
            make128(amount_in[i, 0], amount_in[i, 1]),
            make128(reserve_in[i, 0], reserve_in[i, 1]),
            make128(reserve_out[i, 0], reserve_out[i, 1]),
            fee_numerator[i],
            fee_denominator[i],
        )
        store128(amount_out, i, amount)


@entrance(
    reserve_in=wanted(np.uint64, "N", 2),
    reserve_out=wanted(np.uint64, "N", 2),
    fee_numerator=wanted(np.int64, "N"),
    fee_denominator=wanted(np.int64, "N"),
    amount_in=wanted(np.uint64, "N", 2),
    amount_out=wanted(np.uint64, "N", 2),
    status=wanted(INTEGERS, "N"),
)
@lean_kernel
def quote_in_batch(
    reserve_in: Limbs,
    reserve_out: Limbs,
    fee_numerator: Any,
    fee_denominator: Any,
    amount_out: Limbs,
    amount_in: Limbs,
    status: Any,
) -> None:
    """`get_amount_in` of N pools, laid out as in `quote_out_batch`; writes `amount_in`.

    An input that needs more than 128 bits gets ABOVE_128_BITS and amount 0: no pair accepts it.
    """
    for i in range(amount_out.shape[0]):
        code, amount = get_amount_in(
            load128(amount_out, i),
            load128(reserve_in, i),
            load128(reserve_out, i),
            fee_numerator[i],
            fee_denominator[i],
        )
        if (amount >> 128) != u256(0):
            code = ABOVE_128_BITS
            amount = u256(0)
        status[i] = code
        store128(amount_in, i, amount)


@entrance(
    reserves=wanted(np.uint64, "N", 4),
    amounts_in=wanted(np.uint64, "N", 4),
    amounts_out=wanted(np.uint64, "N", 4),
    fees=wanted(np.int64, "N", 3),
    status=wanted(INTEGERS, "N"),
)
@lean_kernel
def swap_batch(
    reserves: Limbs,
    amounts_in: Limbs,
    amounts_out: Limbs,
    fees: Any,
    status: Any,
) -> None:
    """`swap` on N pairs in place: uint64[N, 4] holds (token0, token1) as two limbs each.

    `fees` is int64[N, 3]: numerator of token0 in, numerator of token1 in, denominator.
    """
    for i in range(reserves.shape[0]):
        status[i], reserve0, reserve1 = swap(
            make128(reserves[i, 0], reserves[i, 1]),
            make128(reserves[i, 2], reserves[i, 3]),
            make128(amounts_in[i, 0], amounts_in[i, 1]),
            make128(amounts_in[i, 2], amounts_in[i, 3]),
            make128(amounts_out[i, 0], amounts_out[i, 1]),
            make128(amounts_out[i, 2], amounts_out[i, 3]),
            fees[i, 0],
            fees[i, 1],
            fees[i, 2],
        )
        reserves[i, 0] = limb(reserve0, 0)
        reserves[i, 1] = limb(reserve0, 1)
        reserves[i, 2] = limb(reserve1, 0)
        reserves[i, 3] = limb(reserve1, 1)
