"""Reading Ethereum ABI words straight from bytes: integers, addresses, arrays, and node hex text.

Formats: the Contract ABI specification of Solidity. Nothing here raises or trusts a length: a
caller proves that `at + 32 <= end` before it reads a word, and every offset or length that comes
from the data passes `read_size` and `tail` first.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from kernels.compile import BOUNDSCHECK, inline, kernel

WORD = 32
ADDRESS = 20
# More than any transaction a node relays (128 KiB), so that sums of sizes never overflow.
MAX_SIZE = 1 << 24
INVALID = -1
# A deadline nobody set, or one too large for 64 bits: later than any block either way.
NO_DEADLINE = (1 << 64) - 1

_HALF = np.uint64(32)


def _big_endian_load(bits: int) -> Callable[..., Any]:
    """An intrinsic that loads `bits` bits at a byte offset: one load and one byte swap.

    Numba's own indexing takes `bits / 8` loads, which LLVM merges, but only after a long compile.
    It does not know MEVRL_BOUNDSCHECK, so its two callers check for it.
    """

    def load(typing_context: Any, data: types.Array, at: types.Integer) -> Any:
        if data.dtype != types.uint8 or data.layout != "C":
            raise TypingError(f"calldata must be a contiguous uint8 array, not {data}")

        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            array = context.make_array(sig.args[0])(context, builder, arguments[0])
            address = cgutils.pointer_add(builder, array.data, arguments[1])
            word = ir.IntType(bits)
            value = builder.load(builder.bitcast(address, word.as_pointer()), align=1)
            return builder.zext(builder.bswap(value), ir.IntType(64))

        return types.uint64(data, types.intp), generate

    return intrinsic(load)


_load64 = _big_endian_load(64)
_load32 = _big_endian_load(32)


@inline
def load64(data: np.ndarray, at: int) -> np.uint64:
    """The 8 bytes at `at` >= 0 of a contiguous buffer as a big-endian integer."""
    if BOUNDSCHECK and (at < 0 or at + 8 > data.shape[0]):
        raise IndexError("load64 outside the buffer")
    return _load64(data, at)


@inline
def load32(data: np.ndarray, at: int) -> np.uint64:
    """The 4 bytes at `at` >= 0 of a contiguous buffer as a big-endian integer."""
    if BOUNDSCHECK and (at < 0 or at + 4 > data.shape[0]):
        raise IndexError("load32 outside the buffer")
    return _load32(data, at)


@inline
def load_selector(data: np.ndarray, at: int) -> int:
    """The 4-byte function selector at `at`, signed so that it compares with Python literals."""
    return int(np.int64(load32(data, at)))


@inline
def read_uint256(data: np.ndarray, at: int, rows: np.ndarray, row: int, column: int) -> None:
    """The word at `at` into four uint64 limbs of rows[row] from `column`, least significant first.

    Row and column instead of a view of the limbs: a view costs reference counting.
    """
    rows[row, column] = load64(data, at + 24)
    rows[row, column + 1] = load64(data, at + 16)
    rows[row, column + 2] = load64(data, at + 8)
    rows[row, column + 3] = load64(data, at)


@inline
def read_uint160(data: np.ndarray, at: int, rows: np.ndarray, row: int, column: int) -> bool:
    """An address or uint160 into three limbs, least significant first; False when above 2^160."""
    high = load64(data, at + 8)
    rows[row, column] = load64(data, at + 24)
    rows[row, column + 1] = load64(data, at + 16)
    rows[row, column + 2] = high
    return bool((load64(data, at) | (high >> _HALF)) == np.uint64(0))


@inline
def read_packed_address(data: np.ndarray, at: int, rows: np.ndarray, row: int, column: int) -> None:
    """The 20 bytes at `at` into three limbs, least significant first."""
    rows[row, column] = load64(data, at + 12)
    rows[row, column + 1] = load64(data, at + 4)
    rows[row, column + 2] = load32(data, at)


@inline
def read_size(data: np.ndarray, at: int) -> int:
    """An offset, length or other small number; INVALID (-1) from 2^24 on."""
    high = load64(data, at) | load64(data, at + 8) | load64(data, at + 16)
    low = load64(data, at + 24)
    if high != np.uint64(0) or low >= np.uint64(MAX_SIZE):
        return INVALID
    return int(np.int64(low))


@inline
def read_deadline(data: np.ndarray, at: int) -> np.uint64:
    """A Unix time in seconds, saturated to 64 bits."""
    high = load64(data, at) | load64(data, at + 8) | load64(data, at + 16)
    if high != np.uint64(0):
        return np.uint64(NO_DEADLINE)
    return load64(data, at + 24)


@inline
def tail(data: np.ndarray, at: int, base: int, lowest: int, end: int) -> int:
    """Where the dynamic value starts whose offset from `base` stands at `at`; INVALID if nowhere.

    It may not start before `lowest`, the end of the head and of the tails before it (an overlap is
    legal in the EVM, but no encoder writes one), and its length word must end by `end`.
    """
    offset = read_size(data, at)
    if offset == INVALID:
        return INVALID
    start = base + offset
    if start < lowest or start + WORD > end:
        return INVALID
    return start


@inline
def clean_padding(data: np.ndarray, at: int, used: int) -> bool:
    """True when the word at `at` is zero after its first `used` bytes (0 < used < 32)."""
    rest = np.uint64(0)
    for limb in range(4):
        kept = used - 8 * limb
        if kept < 8:
            shift = np.uint64(8 * max(kept, 0))
            rest |= np.uint64(load64(data, at + 8 * limb) << shift)
    return bool(rest == np.uint64(0))


@inline
def padded(length: int) -> int:
    """`length` >= 0 bytes rounded up to whole words, without the sign fixes of a division."""
    return (length + (WORD - 1)) & -WORD


@inline
def byte_string(data: np.ndarray, at: int, end: int) -> int:
    """Length of the byte string at `at` (its length word is in bounds); INVALID when it lies.

    The bytes, filled up with zeros to whole words, must end by `end`. They start at `at + 32`.
    """
    length = read_size(data, at)
    if length == INVALID:
        return INVALID
    used = length & (WORD - 1)
    last = at + WORD + length - used
    if used == 0:
        return length if last <= end else INVALID
    if last + WORD > end or not clean_padding(data, last, used):
        return INVALID
    return length


@inline
def _is_hex_digit(character: np.uint8) -> np.uint8:
    """1 for 0-9, a-f, A-F and 0 for the rest; in uint8 throughout, so that loops vectorise."""
    digit = np.uint8(character - np.uint8(48)) < np.uint8(10)
    letter = np.uint8((character | np.uint8(32)) - np.uint8(97)) < np.uint8(6)
    return np.uint8(digit | letter)


@inline
def _nibble(character: np.uint8) -> np.uint8:
    """Value of a hexadecimal digit: letters have bit 6 set and a low half that starts at 1."""
    nine = np.uint8(np.uint8(9) * np.uint8(character >> np.uint8(6)))
    return np.uint8(np.uint8(character & np.uint8(15)) + nine)


@kernel
def hex_to_bytes(text: np.ndarray, start: int, length: int, out: np.ndarray) -> int:
    """Decode the `length` characters "0x..." at text[start:] of a node's frame into `out`.

    Both arrays are uint8. Returns the number of bytes, or INVALID (-1) when the range leaves the
    text, the prefix is missing, the digits are odd in number or not hexadecimal, or `out` is too
    short. Digits are checked first and converted after: two plain loops, both vectorised.
    """
    size = text.shape[0]
    if start < 0 or length < 2 or start > size or length > size - start or length % 2 != 0:
        return INVALID
    count = length // 2 - 1
    if text[start] != 48 or text[start + 1] != 120 or count > out.shape[0]:
        return INVALID
    digits = text[start + 2 : start + length]
    bad = np.uint8(0)
    for i in range(2 * count):
        bad = np.uint8(bad | np.uint8(_is_hex_digit(digits[i]) ^ np.uint8(1)))
    if bad != 0:
        return INVALID
    for i in range(count):
        high = np.uint8(_nibble(digits[2 * i]) << np.uint8(4))
        out[i] = np.uint8(high | _nibble(digits[2 * i + 1]))
    return count
