"""Double-double arithmetic: 106 bits as the unevaluated sum of two float64 (Dekker; Knuth 4.2.2).

For real-valued bounds that must resolve one wei in 10^27. Each operation has a relative error below
2^-102. The order of operations is the algorithm: never compile these with fastmath.
"""

from typing import Any, TypeAlias

import numpy as np
from numba import types
from numba.extending import intrinsic

from kernels.compile import inline
from kernels.numbers.u256 import Uint128, limb

DoubleDouble: TypeAlias = tuple[float, float]

LOW_HALF = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
TWO_32 = 2.0**32
TWO_64 = 2.0**64


@inline
def _exact_sum(a: float, b: float) -> DoubleDouble:
    """a + b rounded, and what the rounding lost."""
    total = a + b
    from_b = total - a
    return total, (a - (total - from_b)) + (b - from_b)


@intrinsic
def _fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c rounded once: an instruction, or libm's function where the processor has none."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fma(*args)

    number = types.float64
    return number(number, number, number), lower


fused_multiply_add: Any = _fma


@inline
def _exact_product(a: float, b: float) -> DoubleDouble:
    """a * b rounded, and what the rounding lost."""
    product = a * b
    return product, fused_multiply_add(a, b, -product)


@inline
def dd_add(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """x + y, accurate for opposite signs too (Joldes et al. 2017, AccurateDWPlusDW)."""
    high, low = _exact_sum(x[0], y[0])
    low2, lost = _exact_sum(x[1], y[1])
    high, low = _exact_sum(high, low + low2)
    return _exact_sum(high, low + lost)


@inline
def dd_multiply(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """x * y."""
    high, low = _exact_product(x[0], y[0])
    return _exact_sum(high, low + (x[0] * y[1] + x[1] * y[0]))


@inline
def dd_divide(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """x / y, by two float64 quotients."""
    first = x[0] / y[0]
    rest = dd_add(x, dd_multiply((-first, 0.0), y))
    return _exact_sum(first, rest[0] / y[0])


@inline
def dd_sqrt(x: DoubleDouble) -> DoubleDouble:
    """Square root of x > 0, by two Newton steps from the float64 root."""
    root = np.sqrt(x[0])
    square = _exact_product(root, root)
    rest = dd_add(x, (-square[0], -square[1]))
    better = _exact_sum(root, rest[0] / (2.0 * root))
    square = dd_multiply(better, better)
    rest = dd_add(x, (-square[0], -square[1]))
    return dd_add(better, (rest[0] / (2.0 * root), 0.0))


@inline
def dd_from_u128(value: Uint128) -> DoubleDouble:
    """A U128 with a relative error below 2^-105, exact up to 2^106."""
    high = limb(value, 1)
    low = limb(value, 0)
    top = _exact_sum(float(high >> HALF) * TWO_32 * TWO_64, float(high & LOW_HALF) * TWO_64)
    rest = _exact_sum(float(low >> HALF) * TWO_32, float(low & LOW_HALF))
    return dd_add(top, rest)
