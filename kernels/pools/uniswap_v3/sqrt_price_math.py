"""v3-core's SqrtPriceMath: what a move of the price costs, and where an amount moves the price.

Amounts are rounded in the pool's favour: inputs up, outputs down; a price is rounded towards where
the pool gives less. floor(floor(n / b) / a) = floor(n / (a b)), and the same with ceilings, so the
contract's two divisions are one here whenever the product of the prices fits 256 bits.
"""

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.u256 import (
    Uint256,
    divmod256,
    divmod512,
    limb,
    u256,
    u512,
)
from kernels.pools.uniswap_v3.full_math import mul_div
from kernels.pools.uniswap_v3.status import MATH, OK
from kernels.pools.uniswap_v3.wide_arithmetic import (
    below_2_128,
    divide_scaled,
    near_float,
    product_128,
)

LOW_32 = np.uint64(0xFFFFFFFF)
NO_BITS = np.uint64(0)
TWO_96 = 2.0**96
# The estimate errs by less than 4e-15: beyond this distance the float comparison is certain.
ABOVE = 1 + 1e-12


@inline
def _fits_160(value: Uint256) -> bool:
    return (value >> 160) == u256(0)


@inline
def _low_160(value: Uint256) -> Uint256:
    """Solidity's uint160(value): the higher bits are dropped."""
    return (value << 96) >> 96


@lean_kernel
def next_price_from_amount0(
    price: Uint256, liquidity: Uint256, amount: Uint256, add: bool
) -> tuple[int, Uint256]:
    """Price after token0 is added to (or taken from) the pool, rounded up: (status, price).

    Up, so that an input never buys more, and an output is never sold for less, than exact maths.
    """
    never_inline()
    if amount == u256(0):
        return OK, price
    numerator = liquidity << 96
    if below_2_128(price) and below_2_128(amount):
        product = product_128(amount, price)
        fits = True
        scaled = u512(product_128(liquidity, price)) << 96
    else:
        wide = u512(amount) * u512(price)
        product = u256(wide)
        fits = (wide >> 256) == u512(0)
        scaled = u512(numerator) * u512(price)
    if add:
        denominator = numerator + product
        if fits and denominator >= numerator:
            rounded, remainder = divmod512(scaled, denominator)
        else:
            # The product overflows: the contract divides first and loses precision; so do we.
            quotient, _ = divmod256(numerator, price)
            denominator = quotient + amount
            if denominator < quotient:
                return MATH, u256(0)
            rounded, remainder = divmod256(numerator, denominator)
        if remainder != u256(0):
            rounded = rounded + 1
        return OK, _low_160(rounded)
    if not fits or numerator <= product:
        return MATH, u256(0)
    denominator = numerator - product
    if u256(scaled >> 256) >= denominator:
        return MATH, u256(0)
    rounded, remainder = divmod512(scaled, denominator)
    if remainder != u256(0):
        rounded = rounded + 1
    return (OK if _fits_160(rounded) else MATH), rounded


@lean_kernel
def next_price_from_amount1(
    price: Uint256, liquidity: Uint256, amount: Uint256, add: bool
) -> tuple[int, Uint256]:
    """Price after token1 is added to (or taken from) the pool, rounded down: (status, price)."""
    never_inline()
    if _fits_160(amount):
        quotient, remainder = divmod256(amount << 96, liquidity)
        exact = remainder == u256(0)
    else:
        status, quotient, exact = mul_div(amount, u256(1) << 96, liquidity)
        if status != OK:
            return MATH, u256(0)
    if add:
        moved = price + quotient
        return (OK if moved >= price and _fits_160(moved) else MATH), moved
    # Taken from the price, so rounding the result down means rounding the quotient up.
    if not exact:
        quotient = quotient + 1
        if quotient == u256(0):
            return MATH, u256(0)
    return (OK if price > quotient else MATH), price - quotient


@inline
def next_price_from_input(
    price: Uint256, liquidity: Uint256, amount: Uint256, zero_for_one: bool
) -> tuple[int, Uint256]:
    """Price after `amount` is paid in, never beyond the exact one: (status, price)."""
    if price == u256(0) or liquidity == u256(0):
        return MATH, u256(0)
    if zero_for_one:
        return next_price_from_amount0(price, liquidity, amount, True)
    return next_price_from_amount1(price, liquidity, amount, True)


@inline
def next_price_from_output(
    price: Uint256, liquidity: Uint256, amount: Uint256, zero_for_one: bool
) -> tuple[int, Uint256]:
    """Price after `amount` is paid out, never short of the exact one: (status, price)."""
    if price == u256(0) or liquidity == u256(0):
        return MATH, u256(0)
    if zero_for_one:
        return next_price_from_amount1(price, liquidity, amount, False)
    return next_price_from_amount0(price, liquidity, amount, False)


@lean_kernel
def bounded_amount0(
    low: Uint256, high: Uint256, liquidity: Uint256, budget: Uint256
) -> tuple[bool, Uint256, bool]:
    """liquidity * (1/low - 1/high) rounded down: (computed, amount, whether it is exact).

    It is not computed, and (False, 0, True), when it certainly is above `budget` + 1: that is
    seen in floats, far outside their error. 0 < low <= high.
    """
    never_inline()
    if below_2_128(high):
        product = product_128(liquidity, high - low)
        divisor = product_128(low, high)
        divisor_f64 = near_float(divisor)
        estimate = near_float(product) * TWO_96 / divisor_f64
        if estimate > near_float(budget) * ABOVE + 2.0:
            return False, u256(0), True
        amount, exact = divide_scaled(product, divisor, estimate, divisor_f64)
        return True, amount, exact
    numerator = (u512(liquidity) * u512(high - low)) << 96
    amount, remainder = divmod512(numerator, high)
    amount, remainder2 = divmod256(amount, low)
    return True, amount, (remainder | remainder2) == u256(0)


@inline
def amount0_delta(
    price_a: Uint256, price_b: Uint256, liquidity: Uint256, round_up: bool
) -> tuple[int, Uint256]:
    """Token0 between two prices, liquidity * (1/low - 1/high): (status, amount below 2^224)."""
    low = price_a
    high = price_b
    if low > high:
        low = price_b
        high = price_a
    if low == u256(0):
        return MATH, u256(0)
    _, amount, exact = bounded_amount0(low, high, liquidity, ~u256(0))
    if round_up and not exact:
        amount = amount + 1
    return OK, amount


@lean_kernel
def _wide_amount1(distance: Uint256, liquidity: Uint256) -> tuple[Uint256, bool]:
    never_inline()
    product = u512(liquidity) * u512(distance)
    return u256(product >> 96), (product << 416) == u512(0)


@inline
def amount1_delta(
    price_a: Uint256, price_b: Uint256, liquidity: Uint256, round_up: bool
) -> Uint256:
    """Token1 between two prices, liquidity * (high - low), below 2^192."""
    distance = price_b - price_a if price_b > price_a else price_a - price_b
    if below_2_128(distance):
        product = product_128(liquidity, distance)
        amount = product >> 96
        exact = (limb(product, 0) | (limb(product, 1) & LOW_32)) == NO_BITS
    else:
        amount, exact = _wide_amount1(distance, liquidity)
    if round_up and not exact:
        amount = amount + 1
    return amount
