"""The swaps of a Universal Router's V4_SWAP command, on pools without hooks and with a static fee.

Layout: v4-periphery 1.0.3 (IV4Router, Actions, CalldataDecoder, PathKey); routers from 2.1 on put
limits per hop between a path and its amounts. Like the contracts' decoder, this one takes the
canonical encoding only: every offset has one value it may have. Versions that put a field into
these structs move an offset by it, so that they are refused by each other's rule, not misread.
"""

import numpy as np

from kernels.calldata.abi import (
    INVALID,
    WORD,
    byte_string,
    load64,
    padded,
    read_size,
    read_uint160,
)
from kernels.calldata.forms import (
    FORM_EXACT_OUT,
    FORM_ZERO_IS_BALANCE,
    clear,
    finish,
    is_zero_address,
)
from kernels.calldata.rows import (
    AMOUNT,
    DECODED,
    FEE_PIPS,
    FULL,
    LIMIT,
    MALFORMED,
    MAX_HOPS,
    PATH,
    RECIPIENT,
    TICK_SPACING,
    UNISWAP_V4,
    UNSUPPORTED,
)
from kernels.compile import inline, lean_kernel

# More actions than any wallet packs into one command.
MAX_ACTIONS = 32
SWAP_EXACT_IN_SINGLE = 0x06
SWAP_EXACT_IN = 0x07
SWAP_EXACT_OUT_SINGLE = 0x08
SWAP_EXACT_OUT = 0x09
# These pay or collect what the swaps owe, and touch no pool.
SETTLE = 0x0B
SETTLE_ALL = 0x0C
TAKE = 0x0E
TAKE_ALL = 0x0F
TAKE_PORTION = 0x10

# PoolManager: LPFeeLibrary.MAX_LP_FEE and TickMath.MAX_TICK_SPACING.
MAX_LP_FEE_PIPS = 1_000_000
MAX_TICK_SPACING = 32_767

_SINGLE_WORDS = 9  # currency 0 and 1, fee, spacing, hooks, direction, amount, limit, hook data
_KEY_WORDS = 5  # currency, fee, spacing, hooks, hook data
# Scratch column for the hooks address: the recipient, which `_finish_v4` sets afterwards.
_HOOKS = RECIPIENT


@inline
def _read_uint128(data: np.ndarray, at: int, swaps: np.ndarray, row: int, column: int) -> bool:
    """A uint128 into four limbs, the upper two 0; False when it is wider."""
    swaps[row, column] = load64(data, at + 24)
    swaps[row, column + 1] = load64(data, at + 16)
    swaps[row, column + 2] = 0
    swaps[row, column + 3] = 0
    return bool((load64(data, at) | load64(data, at + 8)) == np.uint64(0))


@inline
def _read_pool(data: np.ndarray, at: int, swaps: np.ndarray, row: int, hop: int) -> int:
    """(fee, spacing, hooks) at `at` into the columns of `hop`; DECODED, or why not."""
    fee_pips = read_size(data, at)
    spacing = read_size(data, at + WORD)  # int24: a negative one is no size
    if fee_pips == INVALID or not read_uint160(data, at + 2 * WORD, swaps, row, _HOOKS):
        return MALFORMED
    if not is_zero_address(swaps, row, _HOOKS):
        return UNSUPPORTED
    # PoolManager lets nobody initialize such a pool without hooks; a dynamic fee is above, too.
    if fee_pips > MAX_LP_FEE_PIPS or spacing < 1 or spacing > MAX_TICK_SPACING:
        return MALFORMED
    swaps[row, FEE_PIPS + hop] = fee_pips
    swaps[row, TICK_SPACING + hop] = spacing
    return DECODED


@inline
def _is_hook_data(data: np.ndarray, offset_at: int, at: int, offset: int, end: int) -> bool:
    """True when the word at `offset_at` is `offset` and a byte string stands at `at`."""
    if read_size(data, offset_at) != offset or at + WORD > end:
        return False
    return byte_string(data, at, end) != INVALID


@inline
def _precedes(swaps: np.ndarray, row: int, a: int, b: int) -> bool:
    """True when the address in columns a.. is below the one in b.., as currencies are sorted."""
    if swaps[row, a + 2] != swaps[row, b + 2]:
        return bool(swaps[row, a + 2] < swaps[row, b + 2])
    if swaps[row, a + 1] != swaps[row, b + 1]:
        return bool(swaps[row, a + 1] < swaps[row, b + 1])
    return bool(swaps[row, a] < swaps[row, b])


@inline
def _finish_v4(swaps: np.ndarray, row: int, hops: int, exact_out: bool) -> int:
    """Fill what all four actions share. An amount of 0 is what is owed or due by then."""
    for i in range(3):
        swaps[row, RECIPIENT + i] = 0
    form = FORM_ZERO_IS_BALANCE | FORM_EXACT_OUT if exact_out else FORM_ZERO_IS_BALANCE
    return finish(swaps, row, UNISWAP_V4, hops, form)


@lean_kernel
def decode_v4_single(
    data: np.ndarray, head: int, end: int, exact_out: bool, swaps: np.ndarray, row: int
) -> int:
    """SWAP_EXACT_IN_SINGLE or SWAP_EXACT_OUT_SINGLE, whose one struct fills data[head:end)."""
    start = head + WORD
    tail_at = start + WORD * _SINGLE_WORDS
    if tail_at > end or read_size(data, head) != WORD:
        return MALFORMED
    if not _is_hook_data(data, tail_at - WORD, tail_at, WORD * _SINGLE_WORDS, end):
        return MALFORMED
    clear(swaps, row)
    direction = read_size(data, start + 5 * WORD)
    if direction < 0 or direction > 1:
        return MALFORMED
    first, second = PATH, PATH + 3
    if direction == 0:
        first, second = second, first
    clean = read_uint160(data, start, swaps, row, first)
    clean &= read_uint160(data, start + WORD, swaps, row, second)
    clean &= _read_uint128(data, start + 6 * WORD, swaps, row, AMOUNT)
    clean &= _read_uint128(data, start + 7 * WORD, swaps, row, LIMIT)
    if not clean or not _precedes(swaps, row, first, second):
        return MALFORMED
    pool = _read_pool(data, start + 2 * WORD, swaps, row, 0)
    if pool != DECODED:
        return pool
    return _finish_v4(swaps, row, 1, exact_out)


@lean_kernel
def decode_v4_path(
    data: np.ndarray,
    head: int,
    end: int,
    exact_out: bool,
    hop_limits: bool,
    swaps: np.ndarray,
    row: int,
) -> int:
    """SWAP_EXACT_IN or SWAP_EXACT_OUT: (currency, PathKey[], [limits], amount, limit).

    The keys stand in the direction of the trade either way; the currency outside them is the one
    paid in or, for an exact output, the one bought. `hop_limits` tells of routers that take limits
    per hop: none or one each. They are not kept, as they only tighten the limit of the whole.
    """
    start = head + WORD
    amount_at = start + WORD * (3 if hop_limits else 2)
    array_at = amount_at + 2 * WORD
    if array_at + WORD > end or read_size(data, head) != WORD:
        return MALFORMED
    if read_size(data, start + WORD) != array_at - start:
        return MALFORMED
    hops = read_size(data, array_at)
    base = array_at + WORD
    if hops < 1 or base + WORD * hops > end:
        return MALFORMED
    if hops > MAX_HOPS:
        return UNSUPPORTED
    clear(swaps, row)
    outside = PATH + 3 * hops if exact_out else PATH
    first_key = PATH if exact_out else PATH + 3
    clean = read_uint160(data, start, swaps, row, outside)
    clean &= _read_uint128(data, amount_at, swaps, row, AMOUNT)
    clean &= _read_uint128(data, amount_at + WORD, swaps, row, LIMIT)
    if not clean:
        return MALFORMED
    at = base + WORD * hops
    for hop in range(hops):
        tail_at = at + WORD * _KEY_WORDS
        if read_size(data, base + WORD * hop) != at - base or tail_at > end:
            return MALFORMED
        if not _is_hook_data(data, tail_at - WORD, tail_at, WORD * _KEY_WORDS, end):
            return MALFORMED
        if not read_uint160(data, at, swaps, row, first_key + 3 * hop):
            return MALFORMED
        pool = _read_pool(data, at + WORD, swaps, row, hop)
        if pool != DECODED:
            return pool
        at = tail_at + WORD + padded(read_size(data, tail_at))
    if hop_limits:
        if read_size(data, start + 2 * WORD) != at - start or at + WORD > end:
            return MALFORMED
        limits = read_size(data, at)
        if (limits != 0 and limits != hops) or at + WORD + WORD * limits > end:
            return MALFORMED
    return _finish_v4(swaps, row, hops, exact_out)


@lean_kernel
def decode_v4_actions(
    data: np.ndarray, head: int, end: int, hop_limits: bool, swaps: np.ndarray, first: int
) -> int:
    """Every swap of the (bytes actions, bytes[] params) in data[head:end): a count or a reason."""
    actions_at = head + 2 * WORD
    if actions_at + WORD > end or read_size(data, head) != 2 * WORD:
        return MALFORMED
    count = byte_string(data, actions_at, end)
    if count == INVALID:
        return MALFORMED
    array_at = actions_at + WORD + padded(count)
    base = array_at + WORD
    if read_size(data, head + WORD) != array_at - head or base > end:
        return MALFORMED
    if read_size(data, array_at) != count or base + WORD * count > end:
        return MALFORMED
    if count > MAX_ACTIONS:
        return UNSUPPORTED
    row = first
    at = base + WORD * count
    for i in range(count):
        if read_size(data, base + WORD * i) != at - base or at + WORD > end:
            return MALFORMED
        length = byte_string(data, at, end)
        if length == INVALID:
            return MALFORMED
        start = at + WORD
        at = start + padded(length)
        action = int(np.int64(data[actions_at + WORD + i]))
        if SWAP_EXACT_IN_SINGLE <= action <= SWAP_EXACT_OUT:
            if row >= swaps.shape[0]:
                return FULL
            exact_out = action >= SWAP_EXACT_OUT_SINGLE
            if action in (SWAP_EXACT_IN_SINGLE, SWAP_EXACT_OUT_SINGLE):
                outcome = decode_v4_single(data, start, start + length, exact_out, swaps, row)
            else:
                outcome = decode_v4_path(
                    data, start, start + length, exact_out, hop_limits, swaps, row
                )
            if outcome < 0:
                return outcome
            row += 1
        elif action not in (SETTLE, SETTLE_ALL, TAKE, TAKE_ALL, TAKE_PORTION):
            return UNSUPPORTED
    return row - first
