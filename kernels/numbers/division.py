"""Exact division of wide integers: Knuth's algorithm D (TAOCP 4.3.1) on 64-bit digits, and a
shorter way through float64 estimates for the sizes that reserves and amounts really have.

No input can stop the process: the x86-64 instruction divq raises SIGFPE when the divisor is zero or
the quotient overflows, so both are tested before it, and what is returned then is defined.
"""

import os
import platform
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.wide_integers import (
    WORD,
    leading_zeros,
    limb,
    low64,
    make128,
    make256,
    u128,
    u192,
    u256,
    u512,
)

ZERO = np.uint64(0)
ONE = np.uint64(1)
ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
LOW_HALF = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
WIDTH = np.uint64(64)
LAST_BIT = np.uint64(63)
LAST_127 = np.uint64(0x7FFFFFFFFFFFFFFF)


def _choose_divider() -> str:
    """MEVRL_DIVIDER, or asm where the machine has divq and LLVM can assemble it."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    choice = os.environ.get("MEVRL_DIVIDER", "")
    if choice not in ("", "asm", "portable"):
        raise ValueError(f"MEVRL_DIVIDER={choice!r}: expected asm or portable, or unset for best")
    if choice == "portable" or (not choice and not x86):
        return "portable"
    if not x86:
        raise ValueError(
            f"MEVRL_DIVIDER=asm needs x86-64, not {platform.machine()}: unset it or use portable"
        )
    try:
        # Without the parser LLVM aborts the whole process at the first inline assembly.
        llvm.initialize_native_asmparser()
    except Exception as error:
        if choice:
            raise ValueError("MEVRL_DIVIDER=asm: LLVM has no assembler here, unset it") from error
        return "portable"
    return "asm"


# Bounds of the estimated division, see `mul_div_128`.
ESTIMATE_LIMIT = 2.0**94
LOWERED = 1.0 - 2.0**-49
DIGIT_BITS = np.uint64(46)
DIGIT_SCALE = 2.0**-46
TWO_64 = 2.0**64
TWO_128 = 2.0**128

DIVIDER = _choose_divider()


@intrinsic
def _divq(typingctx: Any, high: Any, low: Any, divisor: Any) -> Any:
    """x86-64 divq: (high * 2^64 + low) // divisor and the remainder; requires high < divisor."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pair = ir.LiteralStructType([WORD, WORD])
        answer = builder.asm(
            ir.FunctionType(pair, [WORD] * 3),
            "divq $4",
            "={rax},={rdx},0,1,r,~{cc},~{dirflag},~{fpsr},~{flags}",
            [args[1], args[0], args[2]],
            side_effect=False,
        )
        words = [builder.extract_value(answer, index) for index in (0, 1)]
        return context.make_tuple(builder, sig.return_type, words)

    word = types.uint64
    return types.UniTuple(word, 2)(word, word, word), lower


divq: Any = _divq


@inline
def divide_digit_asm(high: np.uint64, low: np.uint64, divisor: np.uint64) -> tuple:
    """(high * 2^64 + low) // divisor and remainder; (2^64 - 1, 0) unless high < divisor."""
    if high >= divisor:
        return ALL_ONES, ZERO
    return divq(high, low, divisor)


@inline
def divide_digit_portable(high: np.uint64, low: np.uint64, divisor: np.uint64) -> tuple:
    """`divide_digit_asm` by two divisions of 64 by 32 bits (Hacker's Delight, divlu)."""
    if high >= divisor:
        return ALL_ONES, ZERO
    shift = leading_zeros(divisor)
    if shift > ZERO:
        divisor = divisor << shift
        high = (high << shift) | (low >> (WIDTH - shift))
        low = low << shift
    divisor1 = divisor >> HALF
    divisor0 = divisor & LOW_HALF
    low1 = low >> HALF
    low0 = low & LOW_HALF
    quotient1 = high // divisor1
    rest = high - quotient1 * divisor1
    while quotient1 > LOW_HALF or quotient1 * divisor0 > ((rest << HALF) | low1):
        quotient1 -= ONE
        rest += divisor1
        if rest > LOW_HALF:
            break
    middle = (high << HALF) + low1 - quotient1 * divisor
    quotient0 = middle // divisor1
    rest = middle - quotient0 * divisor1
    while quotient0 > LOW_HALF or quotient0 * divisor0 > ((rest << HALF) | low0):
        quotient0 -= ONE
        rest += divisor1
        if rest > LOW_HALF:
            break
    remainder = ((middle << HALF) + low0 - quotient0 * divisor) >> shift
    return (quotient1 << HALF) + quotient0, remainder


divide_digit = divide_digit_asm if DIVIDER == "asm" else divide_digit_portable


@inline
def _estimate(top: Any, next_limb: np.uint64, lead: np.uint64, second: np.uint64) -> np.uint64:
    """Digit of (top * 2^64 + next_limb) / (lead, second, ...), exact or one too large.

    `top` is the U128 of the two leading limbs, below (lead, second); lead has its top bit set.
    """
    high = limb(top, 1)
    low = limb(top, 0)
    if high >= lead:
        digit = ALL_ONES
        rest = low + lead
        overflow = rest < lead
    else:
        digit, rest = divide_digit(high, low, lead)
        overflow = False
    # Knuth's test with the second limb; once the rest has 65 bits it can no longer fail.
    product = u128(digit) * u128(second)
    if not overflow and product > make128(next_limb, rest):
        digit -= ONE
        rest += lead
        if rest >= lead and product - u128(second) > make128(next_limb, rest):
            digit -= ONE
    return digit


@inline
def _carry_up(limb_above: np.uint64, limb_below: np.uint64, shift: np.uint64) -> np.uint64:
    """Upper limb of (limb_above, limb_below) << shift, 0 <= shift < 64.

    Variable shifts of whole i256 values go through memory on x86; these are two shld-like steps.
    """
    return (limb_above << shift) | ((limb_below >> ONE) >> (LAST_BIT - shift))


@inline
def _shift_left(value: Any, shift: np.uint64) -> Any:
    """U256 << shift for 0 <= shift < 64."""
    w0 = limb(value, 0)
    w1 = limb(value, 1)
    w2 = limb(value, 2)
    w3 = limb(value, 3)
    return make256(
        w0 << shift, _carry_up(w1, w0, shift), _carry_up(w2, w1, shift), _carry_up(w3, w2, shift)
    )


@inline
def _shift_right(value: Any, shift: np.uint64) -> Any:
    """U256 >> shift for 0 <= shift < 64."""
    w1 = limb(value, 1)
    w2 = limb(value, 2)
    w3 = limb(value, 3)
    back = LAST_BIT - shift
    return make256(
        (limb(value, 0) >> shift) | ((w1 << ONE) << back),
        (w1 >> shift) | ((w2 << ONE) << back),
        (w2 >> shift) | ((w3 << ONE) << back),
        w3 >> shift,
    )


@inline
def _step_two_limbs(remainder: Any, next_limb: np.uint64, divisor: Any) -> tuple:
    """One digit by a normalised U128 divisor; three limbs against two make the estimate exact."""
    digit = _estimate(remainder, next_limb, limb(divisor, 1), limb(divisor, 0))
    shifted = make128(next_limb, limb(remainder, 0))
    return digit, shifted - u128(digit) * divisor


@inline
def _step_four_limbs(remainder: Any, next_limb: np.uint64, divisor: Any) -> tuple:
    """One digit by a normalised U256 divisor; the estimate is at most one too large."""
    if limb(remainder, 3) == ZERO:
        # The prefix has not reached the divisor's length: the digit is 0 or 1.
        prefix = (remainder << 64) | u256(next_limb)
        if prefix >= divisor:
            return ONE, prefix - divisor
        return ZERO, prefix
    top = make128(limb(remainder, 2), limb(remainder, 3))
    digit = _estimate(top, limb(remainder, 1), limb(divisor, 3), limb(divisor, 2))
    factor = u128(digit)
    p0 = factor * u128(limb(divisor, 0))
    p1 = factor * u128(limb(divisor, 1)) + u128(limb(p0, 1))
    p2 = factor * u128(limb(divisor, 2)) + u128(limb(p1, 1))
    p3 = factor * u128(limb(divisor, 3)) + u128(limb(p2, 1))
    product = make256(limb(p0, 0), limb(p1, 0), limb(p2, 0), limb(p3, 0))
    product_top = limb(p3, 1)
    prefix = make256(next_limb, limb(remainder, 0), limb(remainder, 1), limb(remainder, 2))
    prefix_top = limb(remainder, 3)
    if product_top > prefix_top or (product_top == prefix_top and product > prefix):
        digit -= ONE
        product = product - divisor
    return digit, prefix - product


@lean_kernel
def _divide_by_one_limb(low: Any, above: np.uint64, divisor: np.uint64) -> tuple:
    """(above * 2^256 + low) divided by a uint64; requires above < divisor."""
    w3 = limb(low, 3)
    w2 = limb(low, 2)
    w1 = limb(low, 1)
    q3 = ZERO
    q2 = ZERO
    q1 = ZERO
    # A digit of zero is known without dividing, and amounts rarely fill 256 bits.
    if above != ZERO or w3 >= divisor:
        q3, w3 = divide_digit(above, w3, divisor)
    if w3 != ZERO or w2 >= divisor:
        q2, w2 = divide_digit(w3, w2, divisor)
    if w2 != ZERO or w1 >= divisor:
        q1, w1 = divide_digit(w2, w1, divisor)
    q0, rest = divide_digit(w1, limb(low, 0), divisor)
    return make256(q0, q1, q2, q3), u256(rest)


@lean_kernel
def _divide_by_two_limbs(low: Any, above: Any, divisor: Any) -> tuple:
    """(above * 2^256 + low) divided by a U128 from 2^64 up; requires above (U128) < divisor."""
    shift = leading_zeros(limb(divisor, 1))
    d0 = limb(divisor, 0)
    divisor = make128(d0 << shift, _carry_up(limb(divisor, 1), d0, shift))
    a0 = limb(above, 0)
    a1 = _carry_up(limb(above, 1), a0, shift)
    a0 = _carry_up(a0, limb(low, 3), shift)
    low = _shift_left(low, shift)
    rest = make128(a0, a1)
    q3 = ZERO
    q2 = ZERO
    if rest != u128(0):
        q3, rest = _step_two_limbs(rest, limb(low, 3), divisor)
        q2, rest = _step_two_limbs(rest, limb(low, 2), divisor)
    else:
        rest = make128(limb(low, 2), limb(low, 3))
        if rest >= divisor:
            q2 = ONE
            rest = rest - divisor
    q1, rest = _step_two_limbs(rest, limb(low, 1), divisor)
    q0, rest = _step_two_limbs(rest, limb(low, 0), divisor)
    r1 = limb(rest, 1)
    r0 = (limb(rest, 0) >> shift) | ((r1 << ONE) << (LAST_BIT - shift))
    return make256(q0, q1, q2, q3), make256(r0, r1 >> shift, ZERO, ZERO)


@lean_kernel
def _divide_by_four_limbs(low: Any, above: Any, divisor: Any) -> tuple:
    """(above * 2^256 + low) divided by a U256 from 2^128 up; requires above (U256) < divisor."""
    three = limb(divisor, 3) == ZERO
    if three:
        # A divisor of three limbs: multiply both sides by 2^64, which keeps the quotient.
        divisor = divisor << 64
        above = (above << 64) | u256(limb(low, 3))
        low = low << 64
    shift = leading_zeros(limb(divisor, 3))
    divisor = _shift_left(divisor, shift)
    carried = _carry_up(limb(above, 0), limb(low, 3), shift)
    rest = _shift_left(above, shift) | u256(carried)
    low = _shift_left(low, shift)
    q3, rest = _step_four_limbs(rest, limb(low, 3), divisor)
    q2, rest = _step_four_limbs(rest, limb(low, 2), divisor)
    q1, rest = _step_four_limbs(rest, limb(low, 1), divisor)
    q0, rest = _step_four_limbs(rest, limb(low, 0), divisor)
    rest = _shift_right(rest, shift)
    if three:
        rest = rest >> 64
    return make256(q0, q1, q2, q3), rest


@lean_kernel
def divmod256(dividend: Any, divisor: Any) -> tuple:
    """(dividend // divisor, dividend % divisor) of two U256, rounded down.

    Division by zero gives (0, dividend): the identity dividend = q * divisor + r holds always.
    """
    never_inline()
    dividend = u256(dividend)
    divisor = u256(divisor)
    if divisor > dividend or divisor == u256(0):
        return u256(0), dividend
    if (divisor >> WIDTH) == u256(0):
        return _divide_by_one_limb(dividend, ZERO, low64(divisor))
    if (divisor >> np.uint64(128)) == u256(0):
        return _divide_by_two_limbs(dividend, u128(0), u128(divisor))
    return _divide_by_four_limbs(dividend, u256(0), divisor)


@lean_kernel
def divmod512(dividend: Any, divisor: Any) -> tuple:
    """(dividend // divisor, dividend % divisor) of a U512 by a U256, as two U256, rounded down.

    The quotient must fit 256 bits, that is (dividend >> 256) < divisor; otherwise, division by zero
    included, the answer is (2^256 - 1, 0). FullMath.mulDiv reverts in exactly that case.
    """
    never_inline()
    dividend = u512(dividend)
    divisor = u256(divisor)
    low = u256(dividend)
    above = u256(dividend >> np.uint64(256))
    if above >= divisor:
        return ~u256(0), u256(0)
    if above == u256(0):
        return divmod256(low, divisor)
    if (divisor >> WIDTH) == u256(0):
        return _divide_by_one_limb(low, low64(above), low64(divisor))
    if (divisor >> np.uint64(128)) == u256(0):
        return _divide_by_two_limbs(low, u128(above), u128(divisor))
    return _divide_by_four_limbs(low, above, divisor)


@inline
def mul_div_128(x: Any, y: Any, divisor: Any) -> Any:
    """floor(x * y / divisor) of three U128, as a U256; 0 when the divisor is 0.

    Where the divisor is below 2^127 and the quotient below 2^94, two float64 estimates replace the
    digits. With u = 2^-53, an estimate of the quotient has a relative error of at most 10 u: 2 u
    per converted operand, u per operation. Times 1 - 16 u it lies below the quotient Q, by less
    than 26 u Q. A first digit t, in units of 2^46, leaves a rest of x * y below 2^47 divisors; a
    second estimate of that rest misses by less than 2^47 * 26 u < 1/2, so its floor is right or
    one too low, and one comparison of integers decides.
    """
    float_divisor = float(limb(divisor, 1)) * TWO_64 + float(limb(divisor, 0))
    reciprocal = LOWERED / float_divisor
    float_x = float(limb(x, 1)) * TWO_64 + float(limb(x, 0))
    float_y = float(limb(y, 1)) * TWO_64 + float(limb(y, 0))
    estimate = float_x * float_y * reciprocal
    # Written so that NaN and infinity, from a divisor of zero, take the other way.
    if not (estimate < ESTIMATE_LIMIT and limb(divisor, 1) <= LAST_127):
        return divmod256(u256(x) * u256(y), u256(divisor))[0]
    digit = np.uint64(np.int64(estimate * DIGIT_SCALE))
    rest = u192(x) * u192(y) - ((u192(digit) * u192(divisor)) << DIGIT_BITS)
    float_rest = float(limb(rest, 2)) * TWO_128 + (
        float(limb(rest, 1)) * TWO_64 + float(limb(rest, 0))
    )
    second = np.uint64(np.int64(float_rest * reciprocal))
    last = u128(rest) - u128(second) * divisor
    if last >= divisor:
        second += ONE
    return u256((u128(digit) << DIGIT_BITS) + u128(second))
