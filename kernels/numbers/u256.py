"""The wide unsigned integers of every exact kernel: U128, U256, U512 scalars and their limbs.

`u256(a) * u256(b) + 1` reads like the contract it reproduces and wraps like the EVM. In memory an
integer is a row of uint64 limbs, least significant first: never an i256, whose alignment LLVM and
Numba see differently. Kernels annotate such values with Uint128, Uint256 or Uint512.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kernels.compile import inline
from kernels.numbers.division import DIVIDER, divmod256, divmod512, mul_div_128
from kernels.numbers.wide_integers import (
    U128,
    U192,
    U256,
    U320,
    U512,
    float_as_word,
    leading_zeros,
    limb,
    low64,
    make128,
    make256,
    shift_right_arithmetic,
    sign_extend,
    u128,
    u192,
    u256,
    u320,
    u512,
    word_as_float,
)

__all__ = [
    "DIVIDER",
    "U128",
    "U192",
    "U256",
    "U320",
    "U512",
    "Uint128",
    "Uint256",
    "Uint512",
    "divmod256",
    "divmod512",
    "from_float",
    "from_limbs",
    "leading_zeros",
    "limb",
    "load128",
    "load256",
    "low64",
    "make128",
    "make256",
    "mul_div_128",
    "shift_right_arithmetic",
    "sign_extend",
    "store128",
    "store256",
    "to_float",
    "to_limbs",
    "u128",
    "u192",
    "u256",
    "u320",
    "u512",
]

# For annotations only: a type checker cannot know Numba's types.
Uint128: TypeAlias = Any
Uint256: TypeAlias = Any
Uint512: TypeAlias = Any
Limbs: TypeAlias = NDArray[np.uint64]

ONE = np.uint64(1)
MANTISSA_BITS = np.uint64(52)
MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
HIDDEN_ONE = np.uint64(0x0010000000000000)
EXPONENT_BIAS = np.uint64(1023)
EXPONENT_256 = np.uint64(1023 + 256)


@inline
def load128(array: Limbs, row: int) -> Uint128:
    """Read row `row` of uint64[N, 2] as a U128."""
    return make128(array[row, 0], array[row, 1])


@inline
def store128(array: Limbs, row: int, value: Uint128) -> None:
    """Write the low 128 bits of `value` into row `row` of uint64[N, 2]."""
    array[row, 0] = limb(value, 0)
    array[row, 1] = limb(value, 1)


@inline
def load256(array: Limbs, row: int) -> Uint256:
    """Read row `row` of uint64[N, 4] as a U256."""
    return make256(array[row, 0], array[row, 1], array[row, 2], array[row, 3])


@inline
def store256(array: Limbs, row: int, value: Uint256) -> None:
    """Write the low 256 bits of `value` into row `row` of uint64[N, 4]."""
    array[row, 0] = limb(value, 0)
    array[row, 1] = limb(value, 1)
    array[row, 2] = limb(value, 2)
    array[row, 3] = limb(value, 3)


@inline
def to_float(value: Uint256) -> float:
    """The float64 nearest to an integer of up to 256 bits, ties to even: Python's float(int)."""
    wide = u256(value)
    zeros = leading_zeros(wide)
    normalised = wide << zeros
    top = limb(normalised, 3)
    # 11 bits of `top` are rounded away; a sticky last bit keeps what lies below from hiding a tie.
    if u192(normalised) != u192(0):
        top |= ONE
    if top == np.uint64(0):
        return 0.0
    exponent = EXPONENT_BIAS + np.uint64(192) - zeros
    return float(top) * word_as_float(exponent << MANTISSA_BITS)


@inline
def from_float(value: float) -> Uint256:
    """A float64 as a U256, rounded towards zero; below 1 and NaN give 0, 2^256 and up 2^256 - 1."""
    if not value >= 1.0:
        return u256(0)
    word = float_as_word(value)
    exponent = word >> MANTISSA_BITS
    if exponent >= EXPONENT_256:
        return ~u256(0)
    exponent = exponent - EXPONENT_BIAS
    mantissa = u256((word & MANTISSA) | HIDDEN_ONE)
    if exponent >= MANTISSA_BITS:
        return mantissa << (exponent - MANTISSA_BITS)
    return mantissa >> (MANTISSA_BITS - exponent)


def to_limbs(integers: Iterable[int], limbs: int) -> Limbs:
    """Python integers -> uint64[N, limbs], least significant limb first.

    Raises ValueError for an integer that is negative or needs more limbs.
    """
    rows = []
    for index, integer in enumerate(integers):
        value = int(integer)
        if value < 0 or value.bit_length() > 64 * limbs:
            raise ValueError(
                f"integers[{index}] = {value}: expected 0 <= integer < 2^{64 * limbs}; "
                "use more limbs or correct the value"
            )
        rows.append(value.to_bytes(8 * limbs, "little"))
    return np.frombuffer(b"".join(rows), dtype="<u8").astype(np.uint64).reshape(-1, limbs)


def from_limbs(array: Limbs) -> list[int]:
    """uint64[N, limbs], least significant limb first -> Python integers."""
    size = 8 * array.shape[1]
    raw = np.ascontiguousarray(array, dtype="<u8").tobytes()
    return [int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size)]
