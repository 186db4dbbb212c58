"""v3-core's FullMath: a * b / d with a 512-bit product, rounded down or up.

Quotients that do not fit 256 bits, and division by zero, are status MATH where Solidity reverts.
"""

from kernels.compile import inline
from kernels.numbers.u256 import Uint256, divmod512, u256, u512
from kernels.pools.uniswap_v3.status import MATH, OK


@inline
def mul_div(a: Uint256, b: Uint256, denominator: Uint256) -> tuple[int, Uint256, bool]:
    """floor(a * b / denominator): (status, quotient, whether it is exact)."""
    product = u512(a) * u512(b)
    # A denominator of zero is caught too: nothing is below it.
    if u256(product >> 256) >= u256(denominator):
        return MATH, u256(0), True
    quotient, remainder = divmod512(product, denominator)
    return OK, quotient, remainder == u256(0)


@inline
def mul_div_rounding_up(a: Uint256, b: Uint256, denominator: Uint256) -> tuple[int, Uint256]:
    """ceil(a * b / denominator): (status, quotient)."""
    status, quotient, exact = mul_div(a, b, denominator)
    if not exact:
        quotient = quotient + 1
        if quotient == u256(0):  # it was 2^256 - 1
            status = MATH
    return status, quotient
