"""x^y on 18-decimal fixed-point integers: Balancer's LogExpMath.sol, digit for digit.

Solidity's signed divisions round towards zero, so each signed value is kept here as a magnitude in
a U256 and a sign apart; within its checked domain the contract never leaves 255 bits.
"""

import numpy as np

from kernels.compile import inline, kernel, never_inline
from kernels.numbers.u256 import Uint256, divmod256, load256, to_limbs, u256

ONE_18 = 10**18
# Numbers above 64 bits stand in a table: Numba has no literals for them.
_EXPONENTS = [128 * 10**18, 64 * 10**18, *(3200 * 10**18 >> halving for halving in range(10))]
_POWERS = [
    38877084059945950922200000000000000000000000000000000000,  # e^128, no decimals
    6235149080811616882910000000,  # e^64, no decimals
    7896296018268069516100000000000000,  # e^32 and on, 20 decimals
    888611052050787263676000000,
    298095798704172827474000,
    5459815003314423907810,
    738905609893065022723,
    271828182845904523536,
    164872127070012814685,
    128402541668774148407,
    113314845306682631683,
    106449445891785942956,  # e^(1/16)
]
X = to_limbs(_EXPONENTS, 4)
A = to_limbs(_POWERS, 4)
LARGE = 2  # the first entries, without decimals
EXP_TERMS = 10  # exp stops at e^(1/4); ln goes on to e^(1/16)

_CONSTANTS = to_limbs([10**20, 10**36, 130 * 10**18, 41 * 10**18, 2**254 // 10**20], 4)
ONE_20, ONE_36, MAX_EXPONENT, MIN_EXPONENT, MILD_EXPONENT = range(5)
LN_36_LOWER = ONE_18 - 10**17
LN_36_UPPER = ONE_18 + 10**17
LN_SERIES = 11
LN_36_SERIES = 15
EXP_SERIES = 12

OK = 0
OUT_OF_BOUNDS = 1


@inline
def constant(index: int) -> Uint256:
    """One of the constants above 64 bits."""
    return load256(_CONSTANTS, index)


@inline
def quotient(dividend: Uint256, divisor: Uint256) -> Uint256:
    """dividend // divisor of magnitudes; no divisor here is ever 0."""
    result, _ = divmod256(dividend, divisor)
    return result


@inline
def _atanh_series(z: Uint256, one: Uint256, last: int) -> Uint256:
    """2 (z + z^3 / 3 + ... + z^last / last) in fixed point with unit `one`."""
    square = quotient(z * z, one)
    power, total = z, z
    for divisor in range(3, last + 1, 2):
        power = quotient(power * square, one)
        total = total + quotient(power, u256(np.uint64(divisor)))
    return total + total


@kernel
def ln_36(x: Uint256) -> tuple[Uint256, bool]:
    """ln(x) with 36 decimals, as (magnitude, negative), for 18-decimal x from 0.9 to 1.1."""
    never_inline()
    one = constant(ONE_36)
    scaled = u256(x) * u256(ONE_18)
    negative = scaled < one
    distance = one - scaled if negative else scaled - one
    z = quotient(distance * one, scaled + one)
    return _atanh_series(z, one, LN_36_SERIES), negative


@kernel
def ln_18(x: Uint256) -> tuple[Uint256, bool]:
    """ln(x) with 18 decimals, as (magnitude, negative), for 18-decimal 0 < x < 2^255."""
    never_inline()
    rest = u256(x)
    negative = rest < u256(ONE_18)
    if negative:
        rest = quotient(constant(ONE_36), rest)
    one = constant(ONE_20)
    total = u256(0)
    for k in range(LARGE):
        power = load256(A, k)
        if rest >= power * u256(ONE_18):
            rest = quotient(rest, power)
            total = total + load256(X, k)
    total = total * u256(100)
    rest = rest * u256(100)
    for k in range(LARGE, X.shape[0]):
        power = load256(A, k)
        if rest >= power:
            rest = quotient(rest * one, power)
            total = total + load256(X, k)
    z = quotient((rest - one) * one, rest + one)
    return quotient(total + _atanh_series(z, one, LN_SERIES), u256(100)), negative


@kernel
def exp_18(x: Uint256, negative: bool) -> Uint256:
    """e^x with 18 decimals for a magnitude x of at most 130, or 41 when negative."""
    never_inline()
    rest = u256(x)
    first = u256(1)
    for k in range(LARGE):
        if first == u256(1) and rest >= load256(X, k):
            rest = rest - load256(X, k)
            first = load256(A, k)
    rest = rest * u256(100)
    one = constant(ONE_20)
    product = one
    for k in range(LARGE, EXP_TERMS):
        if rest >= load256(X, k):
            rest = rest - load256(X, k)
            product = quotient(product * load256(A, k), one)
    term, total = rest, one + rest
    for divisor in range(2, EXP_SERIES + 1):
        term = quotient(quotient(term * rest, one), u256(np.uint64(divisor)))
        total = total + term
    result = quotient(quotient(product * total, one) * first, u256(100))
    if negative:
        return quotient(constant(ONE_36), result)
    return result


@kernel
def power(x: Uint256, y: Uint256) -> tuple[int, Uint256]:
    """`LogExpMath.pow`: (status, x^y) on 18 decimals; OUT_OF_BOUNDS where the contract reverts.

    The relative error is below 1e-14, either way; FixedPoint's powUp and powDown add it as margin.
    """
    never_inline()
    x = u256(x)
    y = u256(y)
    if y == u256(0):
        return OK, u256(ONE_18)
    if x == u256(0):
        return OK, u256(0)
    if (x >> np.uint64(255)) != u256(0) or y >= constant(MILD_EXPONENT):
        return OUT_OF_BOUNDS, u256(0)
    if x > u256(LN_36_LOWER) and x < u256(LN_36_UPPER):
        log, negative = ln_36(x)
        high, low = divmod256(log, u256(ONE_18))
        log = high * y + quotient(low * y, u256(ONE_18))
    else:
        log, negative = ln_18(x)
        log = log * y
    log = quotient(log, u256(ONE_18))
    if log > (constant(MIN_EXPONENT) if negative else constant(MAX_EXPONENT)):
        return OUT_OF_BOUNDS, u256(0)
    return OK, exp_18(log, negative)
