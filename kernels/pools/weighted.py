"""Balancer V2 weighted pools on exact integers: WeightedMath.sol over FixedPoint.sol.

Value function prod B_i^w_i; amounts and balances are brought to 18 decimals as the pools do, every
rounding favours the pool. Weighted pools of 2021 compute all powers by logarithms; later ones take
exponents 1, 2 and 4 exactly (`exact_powers`) and scale amounts by factors of 18 decimals.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import inline, kernel, never_inline
from kernels.numbers.checked_math import add, div, mul, sub
from kernels.numbers.log_exp import OUT_OF_BOUNDS, power
from kernels.numbers.u256 import Uint256, u256

ONE = 10**18
# A product of literals is a signed integer to Numba, a global is a literal.
TWO, FOUR = 2 * ONE, 4 * ONE
MAX_POW_RELATIVE_ERROR = 10_000  # 1e-14
# Of a balance, at most 30 % may come in or go out at once.
MAX_IN_RATIO = 3 * 10**17
MAX_OUT_RATIO = 3 * 10**17
MIN_WEIGHT = 10**16
MIN_FEE = 10**12
MAX_FEE = 10**17
MAX_DECIMALS = 18

OK = 0
REVERTED = 1  # overflow, underflow, division by zero
# 2 is OUT_OF_BOUNDS of log_exp, shifted clear of REVERTED.
POWER_OUT_OF_BOUNDS = 2
MAX_IN = 3
MAX_OUT = 4
INVALID_PARAMETER = 5

REASONS = {
    REVERTED: "overflow, underflow or division by zero",
    POWER_OUT_OF_BOUNDS: "power out of bounds (BAL#006 to BAL#008)",
    MAX_IN: "more than 30 % of the balance coming in (BAL#304)",
    MAX_OUT: "more than 30 % of the balance going out (BAL#305)",
    INVALID_PARAMETER: "weight, fee or decimals out of bounds",
}


class Side(NamedTuple):
    """One token of a pool: what the pool holds of it, its weight in 1e-18, 10^(18 - decimals)."""

    balance: Uint256
    weight: int
    scale: int


@inline
def mul_down(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """a * b / 1e18, rounded down."""
    product, failed = mul(a, b)
    quotient, _ = div(product, u256(ONE))
    return quotient, failed


@inline
def _ceil(product: Uint256, divisor: Uint256) -> Uint256:
    """product / divisor, rounded up; the divisor is not 0."""
    if product == u256(0):
        return u256(0)
    quotient, _ = div(product - u256(1), divisor)
    return quotient + u256(1)


@inline
def mul_up(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """a * b / 1e18, rounded up."""
    product, failed = mul(a, b)
    return _ceil(product, u256(ONE)), failed


@inline
def div_down(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """a * 1e18 / b, rounded down; failed for b = 0."""
    inflated, failed = mul(a, u256(ONE))
    quotient, by_zero = div(inflated, b)
    return quotient, failed or by_zero


@inline
def div_up(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """a * 1e18 / b, rounded up; failed for b = 0."""
    inflated, failed = mul(a, u256(ONE))
    return _ceil(inflated, b), failed or b == u256(0)


@inline
def _upscale(amount: Uint256, scale: int, exact_powers: bool) -> tuple[Uint256, bool]:
    """amount * scale; later pools write mulDown(amount, scale * 1e18), which overflows sooner."""
    scaled, failed = mul(amount, u256(np.uint64(scale)))
    if exact_powers:
        _, over = mul(scaled, u256(ONE))
        return scaled, failed or over
    return scaled, failed


@kernel
def pow_up(x: Uint256, y: Uint256, exact_powers: bool) -> tuple[int, Uint256]:
    """`powUp`: (status, x^y), never below the true value."""
    never_inline()
    if exact_powers:
        if y == u256(ONE):
            return OK, x
        if y == u256(TWO):
            square, failed = mul_up(x, x)
            return (REVERTED if failed else OK), square
        if y == u256(FOUR):
            square, failed = mul_up(x, x)
            fourth, over = mul_up(square, square)
            return (REVERTED if failed or over else OK), fourth
    status, raw = power(x, y)
    if status == OUT_OF_BOUNDS:
        return POWER_OUT_OF_BOUNDS, u256(0)
    margin, failed = mul_up(raw, u256(MAX_POW_RELATIVE_ERROR))
    margin, over = add(margin, u256(1))
    failed |= over
    result, over = add(raw, margin)
    return (REVERTED if failed or over else OK), result


@kernel
def calc_out_given_in(
    entering: Side, leaving: Side, amount_in: Uint256, exact_powers: bool
) -> tuple[int, Uint256]:
    """`_calcOutGivenIn`: (status, output), rounded down, fee already taken.

    Amounts and balances have 18 decimals; the scales of the sides play no part.

    B_o (1 - (B_i / (B_i + a))^(w_i / w_o)) with the power rounded up.
    """
    balance_in, balance_out = entering.balance, leaving.balance
    most, failed = mul_down(balance_in, u256(MAX_IN_RATIO))
    if failed:
        return REVERTED, u256(0)
    if amount_in > most:
        return MAX_IN, u256(0)
    denominator, failed = add(balance_in, amount_in)
    base, over = div_up(balance_in, denominator)
    failed |= over
    exponent, over = div_down(u256(np.uint64(entering.weight)), u256(np.uint64(leaving.weight)))
    if failed or over:
        return REVERTED, u256(0)
    status, ratio = pow_up(base, exponent, exact_powers)
    if status != OK:
        return status, u256(0)
    complement = u256(ONE) - ratio if ratio < u256(ONE) else u256(0)
    output, failed = mul_down(balance_out, complement)
    return (REVERTED if failed else OK), output


@kernel
def calc_in_given_out(
    entering: Side, leaving: Side, amount_out: Uint256, exact_powers: bool
) -> tuple[int, Uint256]:
    """`_calcInGivenOut`: (status, input), rounded up, fee not yet added.

    Amounts and balances have 18 decimals; the scales of the sides play no part.

    B_i ((B_o / (B_o - a))^(w_o / w_i) - 1) with base, exponent and power rounded up.
    """
    balance_in, balance_out = entering.balance, leaving.balance
    most, failed = mul_down(balance_out, u256(MAX_OUT_RATIO))
    if failed:
        return REVERTED, u256(0)
    if amount_out > most:
        return MAX_OUT, u256(0)
    rest, failed = sub(balance_out, amount_out)
    base, over = div_up(balance_out, rest)
    failed |= over
    exponent, over = div_up(u256(np.uint64(leaving.weight)), u256(np.uint64(entering.weight)))
    if failed or over:
        return REVERTED, u256(0)
    status, ratio = pow_up(base, exponent, exact_powers)
    if status != OK:
        return status, u256(0)
    ratio, failed = sub(ratio, u256(ONE))
    amount, over = mul_up(balance_in, ratio)
    return (REVERTED if failed or over else OK), amount


@inline
def is_valid_pool(entering: Side, leaving: Side, fee: int) -> bool:
    """True for what a pool can be made of: weights from 1 %, fee 1e-6 to 10 %, 0 to 18 decimals."""
    weights = MIN_WEIGHT <= entering.weight <= ONE and MIN_WEIGHT <= leaving.weight <= ONE
    scales = 1 <= entering.scale <= ONE and 1 <= leaving.scale <= ONE
    return weights and scales and MIN_FEE <= fee <= MAX_FEE


@kernel
def swap_given_in(
    entering: Side, leaving: Side, fee: int, amount_in: Uint256, exact_powers: bool
) -> tuple[int, Uint256]:
    """`onSwap` GIVEN_IN: (status, output in token units, rounded down).

    Balances and amount are in token units, the fee in 1e-18; it is taken from the amount, rounded
    up, before everything else.
    """
    nothing = u256(0)
    if not is_valid_pool(entering, leaving, fee):
        return INVALID_PARAMETER, nothing
    charged, failed = mul_up(amount_in, u256(np.uint64(fee)))
    amount, over = sub(amount_in, charged)
    failed |= over
    amount, over = _upscale(amount, entering.scale, exact_powers)
    failed |= over
    scaled_in, over = _upscale(entering.balance, entering.scale, exact_powers)
    failed |= over
    scaled_out, over = _upscale(leaving.balance, leaving.scale, exact_powers)
    if failed or over:
        return REVERTED, nothing
    status, output = calc_out_given_in(
        Side(scaled_in, entering.weight, entering.scale),
        Side(scaled_out, leaving.weight, leaving.scale),
        amount,
        exact_powers,
    )
    if status != OK:
        return status, nothing
    output, _ = div(output, u256(np.uint64(leaving.scale)))
    return OK, output


@kernel
def swap_given_out(
    entering: Side, leaving: Side, fee: int, amount_out: Uint256, exact_powers: bool
) -> tuple[int, Uint256]:
    """`onSwap` GIVEN_OUT: (status, input in token units with the fee, rounded up twice)."""
    nothing = u256(0)
    if not is_valid_pool(entering, leaving, fee):
        return INVALID_PARAMETER, nothing
    amount, failed = _upscale(amount_out, leaving.scale, exact_powers)
    scaled_in, over = _upscale(entering.balance, entering.scale, exact_powers)
    failed |= over
    scaled_out, over = _upscale(leaving.balance, leaving.scale, exact_powers)
    if failed or over:
        return REVERTED, nothing
    status, needed = calc_in_given_out(
        Side(scaled_in, entering.weight, entering.scale),
        Side(scaled_out, leaving.weight, leaving.scale),
        amount,
        exact_powers,
    )
    if status != OK:
        return status, nothing
    needed = _ceil(needed, u256(np.uint64(entering.scale)))
    needed, failed = div_up(needed, u256(np.uint64(ONE - fee)))
    return (REVERTED if failed else OK), needed
