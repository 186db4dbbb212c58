"""Logarithm and exponential in plain arithmetic, for one float64 or for the lanes of a vector.

libm's do not promise the same bits on every machine, and are slower.
"""

from kernels.compile import inline
from kernels.numbers.lanes import Floats, bits_of, choose, from_bits, least, most, real, whole

_LN2 = 0.6931471805599453
_LOG2_E = 1.4426950408889634
# ln 2 in two parts: k times the first is exact for every exponent k.
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_SQRT2 = 1.4142135623730951
_EXPONENT_BIAS = 1023
_MANTISSA_BITS = 52
_ONE_BITS = 0x3FF0000000000000
_MANTISSA_MASK = 0x000FFFFFFFFFFFFF
MAX_EXPONENT = 700.0  # exp is at most 1e304, and never 0


@inline
def ln(x: Floats) -> Floats:
    """Natural logarithm of positive normal float64, within 1e-9."""
    bits = bits_of(x)
    exponent = (bits >> _MANTISSA_BITS) - _EXPONENT_BIAS
    m = from_bits((bits & _MANTISSA_MASK) | _ONE_BITS)
    upper = m > _SQRT2
    m = choose(upper, m * 0.5, m)
    power = real(exponent) + choose(upper, 1.0, 0.0)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    series = 1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0))))
    return power * _LN2 + 2.0 * s * series


@inline
def exp(x: Floats) -> Floats:
    """e^x within 1e-14 of itself; beyond +-MAX_EXPONENT what it is there."""
    x = least(most(x, -MAX_EXPONENT), MAX_EXPONENT)
    scaled = x * _LOG2_E
    power = whole(scaled + choose(scaled < 0.0, -0.5, 0.5))
    k = real(power)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    r2 = r * r
    r4 = r2 * r2
    # Taylor to r^11 in pairs (Estrin): a chain of twelve would wait for each of its steps.
    low = (1.0 + r) + r2 * (1.0 / 2.0 + r * (1.0 / 6.0))
    middle = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0))
    high = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * (1.0 / 3628800.0 + r * (1.0 / 39916800.0))
    series = low + r4 * (middle + r4 * high)
    return series * from_bits((power + _EXPONENT_BIAS) << _MANTISSA_BITS)
