"""uint256 arithmetic that tells when Solidity 0.8, SafeMath or Vyper would revert.

Every function returns (result, failed); the result means nothing when it failed. Callers collect
the flags and stop at the first: a revert leaves no other trace.
"""

import numpy as np

from kernels.compile import inline, kernel, never_inline
from kernels.numbers.u256 import Uint256, divmod256, limb, u128, u256, u512

_ZERO = np.uint64(0)


@inline
def mul(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """a * b; failed above 2^256."""
    if (limb(a, 2) | limb(a, 3) | limb(b, 2) | limb(b, 3)) == _ZERO:
        return u256(u128(a)) * u256(u128(b)), False
    return _mul_wide(a, b)


@kernel
def _mul_wide(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """`mul` where a factor has more than 128 bits."""
    never_inline()
    product = u512(a) * u512(b)
    return u256(product), (product >> 256) != u512(0)


@inline
def add(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """a + b; failed above 2^256."""
    total = a + b
    return total, total < a


@inline
def sub(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """a - b; failed below 0."""
    return a - b, a < b


@inline
def div(a: Uint256, b: Uint256) -> tuple[Uint256, bool]:
    """floor(a / b); failed for b = 0."""
    quotient, _ = divmod256(a, b)
    return quotient, b == u256(0)


@inline
def mul_div(a: Uint256, b: Uint256, divisor: Uint256) -> tuple[Uint256, bool]:
    """floor(a * b / divisor) with a product of 256 bits, as contracts write it: a * b / divisor."""
    product, failed = mul(a, b)
    quotient, by_zero = div(product, divisor)
    return quotient, failed or by_zero
