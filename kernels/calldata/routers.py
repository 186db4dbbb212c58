"""Router calldata to swaps: which router a transaction calls, and every swap it will make.

Input from the network is hostile: each offset and length is checked, and what is odd in any way is
a reason code, never a guess. One call, or a batch; a call means all its swaps or none of them.
"""

import numpy as np

from kernels.calldata.abi import (
    INVALID,
    MAX_SIZE,
    WORD,
    byte_string,
    load_selector,
    padded,
    read_deadline,
    read_size,
    tail,
)
from kernels.calldata.forms import (
    V2_SWAP_EXACT_IN,
    V2_SWAP_EXACT_OUT,
    V3_SWAP_EXACT_IN,
    V3_SWAP_EXACT_OUT,
    decode_command,
    decode_v2,
    decode_v3_path,
    decode_v3_single,
    same_address,
    v2_form,
    v3_path_form,
    v3_single_form,
)
from kernels.calldata.rows import (
    AMOUNT,
    CALL_INDEX,
    CALL_LENGTH,
    CALL_START,
    CALL_TO,
    CALL_VALUE,
    CALL_WORDS,
    DEADLINE,
    DECODED,
    EXACT_OUT,
    FLAGS,
    FULL,
    HOPS,
    LIMIT,
    MALFORMED,
    NATIVE_IN,
    NATIVE_OUT,
    PATH,
    ROUTER_ADDRESS,
    ROUTER_FAMILY,
    ROUTER_INDEX,
    ROUTER_WETH,
    ROUTER_WORDS,
    SWAP_ROUTER_02,
    SWAP_WORDS,
    UNIVERSAL_ROUTER,
    UNIVERSAL_ROUTER_2_0,
    UNIVERSAL_ROUTER_2_1,
    UNKNOWN_ROUTER,
    UNKNOWN_SELECTOR,
    UNSUPPORTED,
    V2_ROUTER,
)
from kernels.calldata.v4 import decode_v4_actions
from kernels.checked_arrays import entrance, wanted
from kernels.compile import inline, lean_kernel

# More inner calls than any wallet packs into one; a longer list is UNSUPPORTED.
MAX_INNER_CALLS = 32

MULTICALL = 0xAC9650D8
MULTICALL_DEADLINE = 0x5AE401DC
MULTICALL_BLOCKHASH = 0x1F0464D1
EXECUTE = 0x24856BC3
EXECUTE_DEADLINE = 0x3593564C

# Inner calls that move tokens or set allowances but touch no pool.
REFUND_ETH = 0x12210E8A
UNWRAP_WETH9 = 0x49404B7C
UNWRAP_WETH9_SENDER = 0x49616997
UNWRAP_WETH9_WITH_FEE = 0x9B2C0A37
UNWRAP_WETH9_WITH_FEE_SENDER = 0xD4EF38DE
SWEEP_TOKEN = 0xDF2AB5BB
SWEEP_TOKEN_SENDER = 0xE90A182F
SWEEP_TOKEN_WITH_FEE = 0xE0E189A0
SWEEP_TOKEN_WITH_FEE_SENDER = 0x3068C554
WRAP_ETH = 0x1C58DB4F
PULL = 0xF2D5D56B
SELF_PERMIT = 0xF3995C67
SELF_PERMIT_IF_NECESSARY = 0xC2E3140A
SELF_PERMIT_ALLOWED = 0x4659A494
SELF_PERMIT_ALLOWED_IF_NECESSARY = 0xA4A78F0C

# The Universal Router command that holds actions on V4 pools.
V4_SWAP = 0x10
# Without the bit that lets a command fail alone.
_COMMAND_MASK = 0x7F


@inline
def find_router(routers: np.ndarray, calls: np.ndarray, call: int) -> int:
    """Row of the router that calls[call] goes to; UNKNOWN_ROUTER (-1) when it is none of them."""
    low = calls[call, CALL_TO]
    for row in range(routers.shape[0]):
        if routers[row, ROUTER_ADDRESS] == low and same_address(
            routers, row, ROUTER_ADDRESS, calls, call, CALL_TO
        ):
            return row
    return UNKNOWN_ROUTER


@inline
def is_neutral(family: int, selector: int) -> bool:
    """True for the calls beside a swap in a multicall that touch no pool."""
    if selector in (
        REFUND_ETH,
        UNWRAP_WETH9,
        SWEEP_TOKEN,
        UNWRAP_WETH9_WITH_FEE,
        SWEEP_TOKEN_WITH_FEE,
        SELF_PERMIT,
        SELF_PERMIT_IF_NECESSARY,
        SELF_PERMIT_ALLOWED,
        SELF_PERMIT_ALLOWED_IF_NECESSARY,
    ):
        return True
    return family == SWAP_ROUTER_02 and selector in (
        UNWRAP_WETH9_SENDER,
        SWEEP_TOKEN_SENDER,
        UNWRAP_WETH9_WITH_FEE_SENDER,
        SWEEP_TOKEN_WITH_FEE_SENDER,
        WRAP_ETH,
        PULL,
    )


@inline
def apply_ether(
    calls: np.ndarray,
    call: int,
    routers: np.ndarray,
    router: int,
    swaps: np.ndarray,
    row: int,
) -> int:
    """What the value sent along means to a swap of Router02; MALFORMED when it would revert."""
    flags = int(np.int64(swaps[row, FLAGS]))
    last = PATH + 3 * int(np.int64(swaps[row, HOPS]))
    if flags & NATIVE_OUT and not same_address(swaps, row, last, routers, router, ROUTER_WETH):
        return MALFORMED
    if flags & NATIVE_IN:
        if not same_address(swaps, row, PATH, routers, router, ROUTER_WETH):
            return MALFORMED
        sent = LIMIT if swaps[row, EXACT_OUT] else AMOUNT
        for i in range(4):
            swaps[row, sent + i] = calls[call, CALL_VALUE + i]
        return DECODED
    value = calls[call, CALL_VALUE] | calls[call, CALL_VALUE + 1]
    value |= calls[call, CALL_VALUE + 2] | calls[call, CALL_VALUE + 3]
    # The other forms are not payable.
    return DECODED if value == np.uint64(0) else MALFORMED


@inline
def decode_one(
    data: np.ndarray, at: int, end: int, family: int, swaps: np.ndarray, row: int
) -> int:
    """The single call in data[at:end): 1 for a swap, 0 when it touches no pool, or a reason."""
    if at + 4 > end:
        return UNKNOWN_SELECTOR
    selector = load_selector(data, at)
    head = at + 4
    form = v2_form(family, selector)
    if form != INVALID:
        return decode_v2(data, head, end, form, swaps, row)
    form = v3_single_form(family, selector)
    if form != INVALID:
        return decode_v3_single(data, head, end, form, swaps, row)
    form = v3_path_form(family, selector)
    if form != INVALID:
        return decode_v3_path(data, head, end, form, swaps, row)
    if family != V2_ROUTER and is_neutral(family, selector):
        return 0
    return UNKNOWN_SELECTOR


@lean_kernel
def decode_multicall(
    data: np.ndarray,
    head: int,
    end: int,
    lowest: int,
    family: int,
    swaps: np.ndarray,
    first: int,
) -> int:
    """Every swap of the bytes[] whose offset is the last word of the head, before `lowest`."""
    if lowest > end:
        return MALFORMED
    array_at = tail(data, lowest - WORD, head, lowest, end)
    if array_at == INVALID:
        return MALFORMED
    count = read_size(data, array_at)
    base = array_at + WORD
    if count == INVALID or base + WORD * count > end:
        return MALFORMED
    if count > MAX_INNER_CALLS:
        return UNSUPPORTED
    lowest = base + WORD * count
    row = first
    for i in range(count):
        at = tail(data, base + WORD * i, base, lowest, end)
        if at == INVALID:
            return MALFORMED
        length = byte_string(data, at, end)
        if length == INVALID:
            return MALFORMED
        start = at + WORD
        lowest = start + padded(length)
        if row >= swaps.shape[0]:
            return FULL
        outcome = decode_one(data, start, start + length, family, swaps, row)
        if outcome == UNKNOWN_SELECTOR:
            # It may do anything, to the very pools that the other calls trade on.
            return UNSUPPORTED
        if outcome < 0:
            return outcome
        row += outcome
    return row - first


@inline
def is_neutral_command(command: int) -> bool:
    """True for the commands that touch no pool: permits, transfers, wraps, balance checks."""
    return 0x02 <= command <= 0x06 or 0x0A <= command <= 0x0E


@lean_kernel
def decode_execute(
    data: np.ndarray,
    head: int,
    end: int,
    lowest: int,
    family: int,
    swaps: np.ndarray,
    first: int,
) -> int:
    """Every swap of Universal Router's execute(commands, inputs), whose head ends at `lowest`."""
    if lowest > end:
        return MALFORMED
    commands_at = tail(data, head, head, lowest, end)
    if commands_at == INVALID:
        return MALFORMED
    count = byte_string(data, commands_at, end)
    if count == INVALID:
        return MALFORMED
    lowest = commands_at + WORD + padded(count)
    array_at = tail(data, head + WORD, head, lowest, end)
    if array_at == INVALID or read_size(data, array_at) != count:
        return MALFORMED
    base = array_at + WORD
    lowest = base + WORD * count
    if lowest > end:
        return MALFORMED
    if count > MAX_INNER_CALLS:
        return UNSUPPORTED
    row = first
    for i in range(count):
        at = tail(data, base + WORD * i, base, lowest, end)
        if at == INVALID:
            return MALFORMED
        length = byte_string(data, at, end)
        if length == INVALID:
            return MALFORMED
        start = at + WORD
        lowest = start + padded(length)
        command = int(np.int64(data[commands_at + WORD + i])) & _COMMAND_MASK
        if command in (V3_SWAP_EXACT_IN, V3_SWAP_EXACT_OUT, V2_SWAP_EXACT_IN, V2_SWAP_EXACT_OUT):
            if row >= swaps.shape[0]:
                return FULL
            outcome = decode_command(data, start, start + length, command, swaps, row)
            if outcome < 0:
                return outcome
            row += 1
        elif command == V4_SWAP and family >= UNIVERSAL_ROUTER_2_0:
            hop_limits = family >= UNIVERSAL_ROUTER_2_1
            outcome = decode_v4_actions(data, start, start + length, hop_limits, swaps, row)
            if outcome < 0:
                return outcome
            row += outcome
        elif not is_neutral_command(command):
            # Position managers, sub-plans and whatever comes next.
            return UNSUPPORTED
    return row - first


@lean_kernel
def decode_calldata(
    data: np.ndarray,
    calls: np.ndarray,
    call: int,
    routers: np.ndarray,
    router: int,
    swaps: np.ndarray,
    first: int,
) -> int:
    """Every swap of a call to a known router, from row `first` on: a count or a reason."""
    size = data.shape[0]
    start = int(np.int64(calls[call, CALL_START]))
    length = int(np.int64(calls[call, CALL_LENGTH]))
    if start < 0 or length < 0 or start > size or length > size - start or length >= MAX_SIZE:
        return MALFORMED
    if length < 4:
        return UNKNOWN_SELECTOR
    end = start + length
    head = start + 4
    selector = load_selector(data, start)
    family = int(np.int64(routers[router, ROUTER_FAMILY]))
    deadline_at = INVALID
    if family >= UNIVERSAL_ROUTER:
        if selector == EXECUTE:
            count = decode_execute(data, head, end, head + 2 * WORD, family, swaps, first)
        elif selector == EXECUTE_DEADLINE:
            count = decode_execute(data, head, end, head + 3 * WORD, family, swaps, first)
            deadline_at = head + 2 * WORD
        else:
            count = UNKNOWN_SELECTOR
    elif selector == MULTICALL and family != V2_ROUTER:
        count = decode_multicall(data, head, end, head + WORD, family, swaps, first)
    elif family == SWAP_ROUTER_02 and selector in (MULTICALL_DEADLINE, MULTICALL_BLOCKHASH):
        count = decode_multicall(data, head, end, head + 2 * WORD, family, swaps, first)
        if selector == MULTICALL_DEADLINE:
            deadline_at = head
    elif first >= swaps.shape[0]:
        count = FULL
    else:
        count = decode_one(data, start, end, family, swaps, first)
        if count > 0 and family == V2_ROUTER:
            count = apply_ether(calls, call, routers, router, swaps, first)
    for row in range(first, first + count):
        if deadline_at != INVALID:
            swaps[row, DEADLINE] = read_deadline(data, deadline_at)
        swaps[row, CALL_INDEX] = call
        swaps[row, ROUTER_INDEX] = router
    return count


@lean_kernel
def decode_call(
    data: np.ndarray,
    calls: np.ndarray,
    call: int,
    routers: np.ndarray,
    swaps: np.ndarray,
    first: int,
) -> int:
    """Classify and decode one call: the number of swaps written to `swaps`, or why there is none.

    data: uint8 buffer that holds the calldata; calls: uint64[n, CALL_WORDS], of which row `call` is
    decoded; routers: uint64[r, ROUTER_WORDS]; swaps: uint64[m, SWAP_WORDS], filled from row `first`
    on, rows beyond the count meaning nothing. 0 is a well-formed call that swaps nothing. Below
    zero: UNKNOWN_ROUTER, UNKNOWN_SELECTOR, MALFORMED (it would revert, or no encoder writes this),
    UNSUPPORTED (understood, but it does more than plain swaps), FULL (no row is left).
    """
    router = find_router(routers, calls, call)
    if router == UNKNOWN_ROUTER:
        return UNKNOWN_ROUTER
    return decode_calldata(data, calls, call, routers, router, swaps, first)


@entrance(
    data=wanted(np.uint8, None),
    calls=wanted(np.uint64, "N", CALL_WORDS),
    routers=wanted(np.uint64, None, ROUTER_WORDS),
    swaps=wanted(np.uint64, None, SWAP_WORDS),
    counts=wanted(np.int64, "N"),
)
@lean_kernel
def decode_batch(
    data: np.ndarray,
    calls: np.ndarray,
    routers: np.ndarray,
    swaps: np.ndarray,
    counts: np.ndarray,
) -> int:
    """`decode_call` for all calls, swaps packed in the order of calls; returns their number.

    counts: int64[n], what `decode_call` returned for each call. Column CALL_INDEX leads back.
    """
    # Not the literal 0: Numba would compile every callee once more for it.
    total = int(np.int64(0))
    for call in range(calls.shape[0]):
        router = find_router(routers, calls, call)
        count = router
        if router != UNKNOWN_ROUTER:
            count = decode_calldata(data, calls, call, routers, router, swaps, total)
        counts[call] = count
        if count > 0:
            total += count
    return total
