"""Products and divisions of the V3 kernels, in the sizes that pools really meet.

LLVM widens a 320-bit product to 512 x 512 bits; two factors below 2^128 take four multiplications.
"""

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.division import divide_digit
from kernels.numbers.u256 import (
    Uint256,
    divmod256,
    divmod512,
    limb,
    make128,
    make256,
    u128,
    u256,
    u512,
)

ZERO = np.uint64(0)
HALF = np.uint64(32)
LOW_HALF = np.uint64(0xFFFFFFFF)
MILLION = np.uint64(1_000_000)
TWO_64 = 2.0**64
PER_TWO_64 = 2.0**-64
SIGN = np.uint64(63)
# product < 2^206, so that 2^96 * product / 2^49 < 2^253; with divisor < 2^254 the sum is < 2^255.
PRODUCT_BOUND = np.uint64(1 << 14)
DIVISOR_BOUND = np.uint64(1 << 62)
ESTIMATE_BOUND = 2.0**100


@inline
def below_2_128(value: Uint256) -> bool:
    """Whether two limbs hold the value."""
    return (limb(value, 2) | limb(value, 3)) == ZERO


@inline
def product_128(a: Uint256, b: Uint256) -> Uint256:
    """a * b of two values below 2^128."""
    return u256(u128(a)) * u256(u128(b))


@inline
def per_million(value: Uint256) -> Uint256:
    """value // 10^6 for a value below 10^6 * 2^128: a division by a constant multiplies."""
    # The value over 10^6 fits two limbs, so what is above 2^128 is below 10^6.
    rest = limb(value, 2)
    w1 = limb(value, 1)
    w0 = limb(value, 0)
    part = (rest << HALF) | (w1 >> HALF)
    q3 = part // MILLION
    part = ((part - q3 * MILLION) << HALF) | (w1 & LOW_HALF)
    q2 = part // MILLION
    part = ((part - q2 * MILLION) << HALF) | (w0 >> HALF)
    q1 = part // MILLION
    part = ((part - q1 * MILLION) << HALF) | (w0 & LOW_HALF)
    q0 = part // MILLION
    return make256((q1 << HALF) | q0, (q3 << HALF) | q2, ZERO, ZERO)


@inline
def per_divisor(value: Uint256, divisor: np.uint64) -> tuple[Uint256, bool]:
    """value // divisor and whether it is exact, for a divisor that is not 0."""
    high = limb(value, 1)
    if below_2_128(value):
        upper = high // divisor if high >= divisor else ZERO
        lower, remainder = divide_digit(high - upper * divisor, limb(value, 0), divisor)
        return make256(lower, upper, ZERO, ZERO), remainder == ZERO
    quotient, rest = divmod256(value, u256(divisor))
    return quotient, rest == u256(0)


@inline
def near_float(value: Uint256) -> float:
    """float64 of a U256 within 2^-51 of it, relatively: `u256.to_float` without exact rounding."""
    high = float(limb(value, 3)) * TWO_64 + float(limb(value, 2))
    return ((high * TWO_64) + float(limb(value, 1))) * TWO_64 + float(limb(value, 0))


@lean_kernel
def _divide_scaled(product: Uint256, divisor: Uint256) -> tuple[Uint256, bool]:
    never_inline()
    quotient, remainder = divmod512(u512(product) << 96, divisor)
    return quotient, remainder == u256(0)


@inline
def divide_scaled(
    product: Uint256, divisor: Uint256, estimate: float, divisor_f64: float
) -> tuple[Uint256, bool]:
    """product * 2^96 // divisor, and whether it is exact; the quotient must fit 256 bits.

    Two floats of 50 bits replace the digits of a long division: `estimate` (the quotient within
    2^-49) and then the same of the remainder. What decides is the integer remainder, which is kept
    modulo 2^256; the bounds below keep its magnitude under 2^255.
    """
    if limb(product, 3) >= PRODUCT_BOUND or limb(divisor, 3) >= DIVISOR_BOUND:
        return _divide_scaled(product, divisor)
    if not estimate < ESTIMATE_BOUND:
        return _divide_scaled(product, divisor)
    upper = np.uint64(estimate * PER_TWO_64)
    lower = np.uint64(estimate - float(upper) * TWO_64)
    quotient = u256(make128(lower, upper))
    remainder = (product << 96) - quotient * divisor
    if (limb(remainder, 3) >> SIGN) != ZERO:
        step = np.uint64(near_float(-remainder) / divisor_f64)
        quotient = quotient - step
        remainder = remainder + u256(step) * divisor
    else:
        step = np.uint64(near_float(remainder) / divisor_f64)
        quotient = quotient + step
        remainder = remainder - u256(step) * divisor
    while (limb(remainder, 3) >> SIGN) != ZERO:
        quotient = quotient - 1
        remainder = remainder + divisor
    while remainder >= divisor:
        quotient = quotient + 1
        remainder = remainder - divisor
    return quotient, remainder == u256(0)
