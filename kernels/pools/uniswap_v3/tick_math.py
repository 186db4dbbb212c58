"""v3-core's TickMath: sqrt(1.0001^tick) as a Q64.96 integer and back, equal in every bit.

The forward direction multiplies by one 128-bit factor per set bit of |tick|, as the contract does;
the ten low bits come from a table of the same products. The backward direction takes its tick from
a float logarithm and lets the integers decide wherever the float is not clear of a boundary.
"""

import math

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.u256 import (
    Uint256,
    divmod256,
    limb,
    load128,
    make256,
    to_float,
    to_limbs,
    u128,
    u256,
)
from kernels.pools.uniswap_v3.status import OK, PRICE_BOUND, TICK_BOUND

MIN_TICK = -887272
MAX_TICK = 887272
MIN_SQRT_RATIO = 4295128739
MAX_SQRT_RATIO = 1461446703485210103287273052203988822378723970342

# round(2^128 / 1.0001^(2^k / 2)) in the contract's digits, k = 0..19
FACTORS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001,
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x9AA508B5B7A84E1C677DE54F3E99BC9,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98,
    0x48A170391F7DC42444E8FA2,
)
TABLE_BITS = 10
FACTOR_BITS = 20


def _products_of_low_bits() -> list[int]:
    """Contract's running product after the low bits of each |tick| < 2^TABLE_BITS.

    Entry 0 would be 2^128, one bit too wide: it is never read.
    """
    products = [0]
    for magnitude in range(1, 1 << TABLE_BITS):
        ratio = 1 << 128
        for k in range(TABLE_BITS):
            if magnitude >> k & 1:
                ratio = ratio * FACTORS[k] >> 128
        products.append(ratio)
    return products


LOW_PRODUCTS = to_limbs(_products_of_low_bits(), 2)
HIGH_FACTORS = to_limbs(FACTORS[TABLE_BITS:], 2)
LOW_MASK = (1 << TABLE_BITS) - 1
LOW_32 = np.uint64(0xFFFFFFFF)
NO_BITS = np.uint64(0)
MAX_SQRT_WORDS = tuple(np.uint64(MAX_SQRT_RATIO >> shift & 2**64 - 1) for shift in (0, 64, 128))

TICKS_PER_LOG = 2 / math.log(1.0001)
LOG_2_96 = 96 * math.log(2)
# The float tick errs by less than 1e-9: 4 ulp of the price give 2e-11 ticks, one ulp of the
# logarithm (at most 111) gives 3e-10. Everything nearer to a boundary is decided by integers.
CLEAR = 1e-6


@lean_kernel
def sqrt_ratio(tick: int) -> Uint256:
    """getSqrtRatioAtTick for a tick known to be within MIN_TICK..MAX_TICK; rounded up."""
    never_inline()
    magnitude = -tick if tick < 0 else tick
    if magnitude == 0:
        return u256(1) << 96
    low = magnitude & LOW_MASK
    ratio = load128(LOW_PRODUCTS, low)
    started = low != 0
    high = magnitude >> TABLE_BITS
    for k in range(FACTOR_BITS - TABLE_BITS):
        if (high >> k) & 1:
            factor = load128(HIGH_FACTORS, k)
            if started:
                ratio = u128((u256(ratio) * u256(factor)) >> 128)
            else:
                ratio = factor
                started = True
    wide = u256(ratio)
    if tick > 0:
        wide, _ = divmod256(~u256(0), wide)
    # From 128 to 96 fractional bits, rounded up so that the tick of the result is `tick` again.
    rounded = wide >> 32
    if (limb(wide, 0) & LOW_32) != NO_BITS:
        rounded = rounded + 1
    return rounded


@inline
def get_sqrt_ratio_at_tick(tick: int) -> tuple[int, Uint256]:
    """sqrt(1.0001^tick) * 2^96 rounded up: (status, price)."""
    if tick < MIN_TICK or tick > MAX_TICK:
        return TICK_BOUND, u256(0)
    return OK, sqrt_ratio(tick)


@inline
def max_sqrt_ratio() -> Uint256:
    """The first price that is too high: the contract requires prices below it."""
    return make256(MAX_SQRT_WORDS[0], MAX_SQRT_WORDS[1], MAX_SQRT_WORDS[2], NO_BITS)


@lean_kernel
def tick_of(price: Uint256) -> int:
    """getTickAtSqrtRatio for a price known to be in bounds: the last tick not above it."""
    never_inline()
    estimate = (math.log(to_float(price)) - LOG_2_96) * TICKS_PER_LOG
    tick = math.floor(estimate)
    nearest = math.floor(estimate + 0.5)
    if abs(estimate - nearest) < CLEAR:
        tick = nearest if sqrt_ratio(nearest) <= price else nearest - 1
    return int(tick)


@inline
def get_tick_at_sqrt_ratio(price: Uint256) -> tuple[int, int]:
    """Greatest tick whose price is not above `price`: (status, tick)."""
    if price < u256(MIN_SQRT_RATIO) or price >= max_sqrt_ratio():
        return PRICE_BOUND, 0
    return OK, tick_of(price)
