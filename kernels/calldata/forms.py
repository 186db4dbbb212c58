"""One swap call of one router: the forms of Router02, SwapRouter, SwapRouter02, Universal Router.

Layouts: v2-periphery UniswapV2Router02, v3-periphery ISwapRouter, swap-router-contracts 1.3.1,
universal-router 2.1.0 (Dispatcher). `kernels.calldata.routers` finds the router and unwraps nested
calls, `kernels.calldata.v4` reads the swaps of a V4 command.
"""

import numpy as np

from kernels.calldata.abi import (
    ADDRESS,
    INVALID,
    NO_DEADLINE,
    WORD,
    byte_string,
    load32,
    read_deadline,
    read_packed_address,
    read_size,
    read_uint160,
    read_uint256,
    tail,
)
from kernels.calldata.rows import (
    AMOUNT,
    CONTRACT_BALANCE,
    DEADLINE,
    DECODED,
    EXACT_OUT,
    FEE_ON_TRANSFER,
    FEE_PIPS,
    FLAGS,
    HOPS,
    LIMIT,
    MALFORMED,
    MAX_HOPS,
    NATIVE_IN,
    NATIVE_OUT,
    PATH,
    PROTOCOL,
    RECIPIENT,
    SQRT_PRICE_LIMIT_X96,
    SWAP_ROUTER,
    SWAP_ROUTER_02,
    UNISWAP_V2,
    UNISWAP_V3,
    UNISWAP_V4,
    UNSUPPORTED,
    V2_ROUTER,
)
from kernels.compile import inline, lean_kernel

# A form tells how to read the call of one selector: the flags above and these bits.
FORM_EXACT_OUT = 16
_DEADLINE = 32
FORM_ZERO_IS_BALANCE = 64

SWAP_EXACT_TOKENS_FOR_TOKENS = 0x38ED1739
SWAP_TOKENS_FOR_EXACT_TOKENS = 0x8803DBEE
SWAP_EXACT_ETH_FOR_TOKENS = 0x7FF36AB5
SWAP_TOKENS_FOR_EXACT_ETH = 0x4A25D94A
SWAP_EXACT_TOKENS_FOR_ETH = 0x18CBAFE5
SWAP_ETH_FOR_EXACT_TOKENS = 0xFB3BDB41
SWAP_EXACT_TOKENS_FOR_TOKENS_FEE = 0x5C11D795
SWAP_EXACT_ETH_FOR_TOKENS_FEE = 0xB6F9DE95
SWAP_EXACT_TOKENS_FOR_ETH_FEE = 0x791AC947
SWAP_EXACT_TOKENS_FOR_TOKENS_02 = 0x472B43F3
SWAP_TOKENS_FOR_EXACT_TOKENS_02 = 0x42712A67
EXACT_INPUT_SINGLE = 0x414BF389
EXACT_OUTPUT_SINGLE = 0xDB3E2198
EXACT_INPUT = 0xC04B8D59
EXACT_OUTPUT = 0xF28C0498
EXACT_INPUT_SINGLE_02 = 0x04E45AAF
EXACT_OUTPUT_SINGLE_02 = 0x5023B4DF
EXACT_INPUT_02 = 0xB858183F
EXACT_OUTPUT_02 = 0x09B81346

# Universal Router command bytes, without the allow-revert bit.
V3_SWAP_EXACT_IN = 0x00
V3_SWAP_EXACT_OUT = 0x01
V2_SWAP_EXACT_IN = 0x08
V2_SWAP_EXACT_OUT = 0x09
# An exact input of 2^255 means the router's balance there, of 0 a V2 pair already paid.
_BALANCE_LIMB = 1 << 63


@inline
def v2_form(family: int, selector: int) -> int:
    """The form of a V2 swap selector in a router family, INVALID (-1) when it is none."""
    form = INVALID
    if family == V2_ROUTER:
        if selector == SWAP_EXACT_TOKENS_FOR_TOKENS:
            form = _DEADLINE
        elif selector == SWAP_TOKENS_FOR_EXACT_TOKENS:
            form = _DEADLINE | FORM_EXACT_OUT
        elif selector == SWAP_EXACT_ETH_FOR_TOKENS:
            form = _DEADLINE | NATIVE_IN
        elif selector == SWAP_TOKENS_FOR_EXACT_ETH:
            form = _DEADLINE | FORM_EXACT_OUT | NATIVE_OUT
        elif selector == SWAP_EXACT_TOKENS_FOR_ETH:
            form = _DEADLINE | NATIVE_OUT
        elif selector == SWAP_ETH_FOR_EXACT_TOKENS:
            form = _DEADLINE | FORM_EXACT_OUT | NATIVE_IN
        elif selector == SWAP_EXACT_TOKENS_FOR_TOKENS_FEE:
            form = _DEADLINE | FEE_ON_TRANSFER
        elif selector == SWAP_EXACT_ETH_FOR_TOKENS_FEE:
            form = _DEADLINE | NATIVE_IN | FEE_ON_TRANSFER
        elif selector == SWAP_EXACT_TOKENS_FOR_ETH_FEE:
            form = _DEADLINE | NATIVE_OUT | FEE_ON_TRANSFER
    elif family == SWAP_ROUTER_02:
        if selector == SWAP_EXACT_TOKENS_FOR_TOKENS_02:
            form = FORM_ZERO_IS_BALANCE
        elif selector == SWAP_TOKENS_FOR_EXACT_TOKENS_02:
            form = FORM_EXACT_OUT
    return form


@inline
def v3_single_form(family: int, selector: int) -> int:
    """The form of an exactInputSingle or exactOutputSingle selector, INVALID when it is none."""
    form = INVALID
    if family == SWAP_ROUTER:
        if selector == EXACT_INPUT_SINGLE:
            form = _DEADLINE
        elif selector == EXACT_OUTPUT_SINGLE:
            form = _DEADLINE | FORM_EXACT_OUT
    elif family == SWAP_ROUTER_02:
        if selector == EXACT_INPUT_SINGLE_02:
            form = FORM_ZERO_IS_BALANCE
        elif selector == EXACT_OUTPUT_SINGLE_02:
            form = FORM_EXACT_OUT
    return form


@inline
def v3_path_form(family: int, selector: int) -> int:
    """The form of an exactInput or exactOutput selector, INVALID when it is none."""
    form = INVALID
    if family == SWAP_ROUTER:
        if selector == EXACT_INPUT:
            form = _DEADLINE
        elif selector == EXACT_OUTPUT:
            form = _DEADLINE | FORM_EXACT_OUT
    elif family == SWAP_ROUTER_02:
        if selector == EXACT_INPUT_02:
            form = FORM_ZERO_IS_BALANCE
        elif selector == EXACT_OUTPUT_02:
            form = FORM_EXACT_OUT
    return form


@inline
def is_zero_address(rows: np.ndarray, row: int, column: int) -> bool:
    """True when the three limbs at rows[row, column] are 0."""
    rest = rows[row, column] | rows[row, column + 1] | rows[row, column + 2]
    return bool(rest == np.uint64(0))


@inline
def same_address(
    a: np.ndarray, a_row: int, a_column: int, b: np.ndarray, b_row: int, b_column: int
) -> bool:
    """True when the three limbs at the two places are equal."""
    rest = a[a_row, a_column] ^ b[b_row, b_column]
    rest |= a[a_row, a_column + 1] ^ b[b_row, b_column + 1]
    rest |= a[a_row, a_column + 2] ^ b[b_row, b_column + 2]
    return bool(rest == np.uint64(0))


@inline
def finish(swaps: np.ndarray, row: int, protocol: int, hops: int, form: int) -> int:
    """Fill the small fields; MALFORMED for a path that no pool can serve."""
    for i in range(hops + 1):
        at = PATH + 3 * i
        if protocol != UNISWAP_V4 and is_zero_address(swaps, row, at):
            return MALFORMED
        if i > 0 and same_address(swaps, row, at - 3, swaps, row, at):
            return MALFORMED
    flags = form & (NATIVE_IN | NATIVE_OUT | FEE_ON_TRANSFER | CONTRACT_BALANCE)
    if form & FORM_ZERO_IS_BALANCE:
        rest = swaps[row, AMOUNT] | swaps[row, AMOUNT + 1]
        rest |= swaps[row, AMOUNT + 2] | swaps[row, AMOUNT + 3]
        if rest == np.uint64(0):
            flags |= CONTRACT_BALANCE
    swaps[row, HOPS] = hops
    swaps[row, PROTOCOL] = protocol
    swaps[row, EXACT_OUT] = 1 if form & FORM_EXACT_OUT else 0
    swaps[row, FLAGS] = flags
    return DECODED


@inline
def clear(swaps: np.ndarray, row: int) -> None:
    """Zeros from the path to the price limit, and no deadline: what a form lacks stays so.

    Always the same columns, whatever the hops: a few vector stores instead of calls to memset.
    """
    for column in range(PATH, DEADLINE):
        swaps[row, column] = 0
    swaps[row, DEADLINE] = NO_DEADLINE


@inline
def read_address_path(data: np.ndarray, at: int, end: int, swaps: np.ndarray, row: int) -> int:
    """The address[] at `at` into the path; its number of hops, or a reason below zero."""
    count = read_size(data, at)
    if count < 2 or at + WORD + WORD * count > end:
        return MALFORMED
    if count > MAX_HOPS + 1:
        return UNSUPPORTED
    for i in range(count):
        if not read_uint160(data, at + WORD + WORD * i, swaps, row, PATH + 3 * i):
            return MALFORMED
    return count - 1


@inline
def read_packed_path(
    data: np.ndarray, at: int, end: int, reverse: bool, swaps: np.ndarray, row: int
) -> int:
    """The byte string at `at`, token (fee token)+, into path and fees; hops or a reason.

    An exact output's path is written from the token bought backwards, hence `reverse`.
    """
    length = byte_string(data, at, end)
    hops = (length - ADDRESS) // (ADDRESS + 3)
    if hops < 1 or hops * (ADDRESS + 3) + ADDRESS != length:
        return MALFORMED
    if hops > MAX_HOPS:
        return UNSUPPORTED
    first = at + WORD
    for i in range(hops + 1):
        token = hops - i if reverse else i
        read_packed_address(data, first, swaps, row, PATH + 3 * token)
        if i < hops:
            hop = hops - 1 - i if reverse else i
            swaps[row, FEE_PIPS + hop] = load32(data, first + ADDRESS) >> np.uint64(8)
        first += ADDRESS + 3
    return hops


@lean_kernel
def decode_v2(data: np.ndarray, head: int, end: int, form: int, swaps: np.ndarray, row: int) -> int:
    """A V2 swap whose arguments fill data[head:end): (amount, limit, path, to, [deadline]).

    Forms that pay with ether lack one of the two: the caller fills it from the value sent along.
    """
    words = 4 if form & NATIVE_IN else 5
    if not form & _DEADLINE:
        words -= 1
    lowest = head + WORD * words
    if lowest > end:
        return MALFORMED
    clear(swaps, row)
    at = head + WORD
    if not form & NATIVE_IN:
        read_uint256(data, head, swaps, row, AMOUNT)
        read_uint256(data, at, swaps, row, LIMIT)
        at += WORD
    elif form & FORM_EXACT_OUT:
        read_uint256(data, head, swaps, row, AMOUNT)
    else:
        read_uint256(data, head, swaps, row, LIMIT)
    start = tail(data, at, head, lowest, end)
    if start == INVALID or not read_uint160(data, at + WORD, swaps, row, RECIPIENT):
        return MALFORMED
    if form & _DEADLINE:
        swaps[row, DEADLINE] = read_deadline(data, at + 2 * WORD)
    hops = read_address_path(data, start, end, swaps, row)
    if hops < 0:
        return hops
    return finish(swaps, row, UNISWAP_V2, hops, form)


@lean_kernel
def decode_v3_single(
    data: np.ndarray, head: int, end: int, form: int, swaps: np.ndarray, row: int
) -> int:
    """exact...Single: (token in, token out, fee, recipient, [deadline], amount, limit, price)."""
    words = 8 if form & _DEADLINE else 7
    if head + WORD * words > end:
        return MALFORMED
    clear(swaps, row)
    clean = read_uint160(data, head, swaps, row, PATH)
    clean &= read_uint160(data, head + WORD, swaps, row, PATH + 3)
    fee_pips = read_size(data, head + 2 * WORD)  # a uint24, like every size
    clean &= read_uint160(data, head + 3 * WORD, swaps, row, RECIPIENT)
    at = head + 4 * WORD
    if form & _DEADLINE:
        swaps[row, DEADLINE] = read_deadline(data, at)
        at += WORD
    read_uint256(data, at, swaps, row, AMOUNT)
    read_uint256(data, at + WORD, swaps, row, LIMIT)
    clean &= read_uint160(data, at + 2 * WORD, swaps, row, SQRT_PRICE_LIMIT_X96)
    if not clean or fee_pips == INVALID:
        return MALFORMED
    swaps[row, FEE_PIPS] = fee_pips
    return finish(swaps, row, UNISWAP_V3, 1, form)


@lean_kernel
def decode_v3_path(
    data: np.ndarray, head: int, end: int, form: int, swaps: np.ndarray, row: int
) -> int:
    """exactInput or exactOutput: one tuple (path, recipient, [deadline], amount, limit)."""
    words = 5 if form & _DEADLINE else 4
    if head + WORD > end:
        return MALFORMED
    clear(swaps, row)
    start = tail(data, head, head, head + WORD, end)
    if start == INVALID or start + WORD * words > end:
        return MALFORMED
    path_at = tail(data, start, start, start + WORD * words, end)
    if path_at == INVALID or not read_uint160(data, start + WORD, swaps, row, RECIPIENT):
        return MALFORMED
    at = start + 2 * WORD
    if form & _DEADLINE:
        swaps[row, DEADLINE] = read_deadline(data, at)
        at += WORD
    read_uint256(data, at, swaps, row, AMOUNT)
    read_uint256(data, at + WORD, swaps, row, LIMIT)
    hops = read_packed_path(data, path_at, end, bool(form & FORM_EXACT_OUT), swaps, row)
    if hops < 0:
        return hops
    return finish(swaps, row, UNISWAP_V3, hops, form)


@lean_kernel
def decode_command(
    data: np.ndarray, head: int, end: int, command: int, swaps: np.ndarray, row: int
) -> int:
    """A Universal Router swap command: (recipient, amount, limit, path, payer is the user).

    Newer routers append a sixth argument, least prices per hop; it only tightens the limit.
    """
    lowest = head + 5 * WORD
    if lowest > end:
        return MALFORMED
    clear(swaps, row)
    if not read_uint160(data, head, swaps, row, RECIPIENT):
        return MALFORMED
    payer = read_size(data, head + 4 * WORD)
    path_at = tail(data, head + 3 * WORD, head, lowest, end)
    if payer < 0 or payer > 1 or path_at == INVALID:
        return MALFORMED
    read_uint256(data, head + WORD, swaps, row, AMOUNT)
    read_uint256(data, head + 2 * WORD, swaps, row, LIMIT)
    v2 = command >= V2_SWAP_EXACT_IN
    form = 0
    if command in (V3_SWAP_EXACT_OUT, V2_SWAP_EXACT_OUT):
        form = FORM_EXACT_OUT
    else:
        rest = swaps[row, AMOUNT] | swaps[row, AMOUNT + 1] | swaps[row, AMOUNT + 2]
        if rest == np.uint64(0) and swaps[row, AMOUNT + 3] == np.uint64(_BALANCE_LIMB):
            form = CONTRACT_BALANCE
        if v2:
            form |= FORM_ZERO_IS_BALANCE
    if v2:
        hops = read_address_path(data, path_at, end, swaps, row)
    else:
        hops = read_packed_path(data, path_at, end, bool(form & FORM_EXACT_OUT), swaps, row)
    if hops < 0:
        return hops
    return finish(swaps, row, UNISWAP_V2 if v2 else UNISWAP_V3, hops, form)
