"""Layout of what calldata decoding reads and writes: rows of uint64 for swaps, calls and routers.

Kernels index the rows by the column constants; Python sees the same memory through the structured
types (`swaps.view(SWAP)`). Integers of more than 64 bits are limbs, least significant first.
"""

from collections.abc import Sequence

import numpy as np

from kernels.numbers.u256 import to_limbs

# A longer path is UNSUPPORTED: cycles are not searched further than this either.
MAX_HOPS = 4

# Families of routers: each understands only its own selectors.
V2_ROUTER = 1
SWAP_ROUTER = 2
SWAP_ROUTER_02 = 3
UNIVERSAL_ROUTER = 4
UNIVERSAL_ROUTER_2_0 = 5  # it also trades on V4 pools
UNIVERSAL_ROUTER_2_1 = 6  # and takes a limit per hop of a V4 path
FAMILIES = (
    V2_ROUTER,
    SWAP_ROUTER,
    SWAP_ROUTER_02,
    UNIVERSAL_ROUTER,
    UNIVERSAL_ROUTER_2_0,
    UNIVERSAL_ROUTER_2_1,
)

# What a swap trades on.
UNISWAP_V2 = 1
UNISWAP_V3 = 2
UNISWAP_V4 = 3  # a pool without hooks and with a static fee; the zero address is ether

# Outcome of decoding one swap; below zero the reason why there is none.
DECODED = 1
UNKNOWN_ROUTER = -1
UNKNOWN_SELECTOR = -2
MALFORMED = -3
UNSUPPORTED = -4
FULL = -5

# Bits of `flags`.
NATIVE_IN = 1  # pays with ether: the amount or the limit is the transaction's value
NATIVE_OUT = 2  # is paid in ether
FEE_ON_TRANSFER = 4  # a SupportingFeeOnTransferTokens form
CONTRACT_BALANCE = 8  # what the router holds, or V4 owes it, by then: calldata cannot tell it

# Columns of a swap: one, or the first of several.
AMOUNT = 0  # the exact side, in base units of its token
LIMIT = 4  # least out of an exact input, most into an exact output
PATH = 8  # token addresses of three limbs, the one paid in first, zero after the last
FEE_PIPS = PATH + 3 * (MAX_HOPS + 1)  # per V3 or V4 hop, 0 for V2
TICK_SPACING = FEE_PIPS + MAX_HOPS  # per V4 hop, else 0: in V3 the fee implies it
# As written: routers read 0, 1, 2 as the sender or themselves. 0 in V4, which pays later actions.
RECIPIENT = TICK_SPACING + MAX_HOPS
SQRT_PRICE_LIMIT_X96 = RECIPIENT + 3  # 0 for none
DEADLINE = SQRT_PRICE_LIMIT_X96 + 3  # Unix time in seconds, NO_DEADLINE for none
CALL_INDEX = DEADLINE + 1  # the call it came from
ROUTER_INDEX = DEADLINE + 2  # row of the router table
HOPS = DEADLINE + 3
PROTOCOL = DEADLINE + 4
EXACT_OUT = DEADLINE + 5
FLAGS = DEADLINE + 6
SWAP_WORDS = DEADLINE + 7

# The same row for Python: `swaps.view(SWAP)`.
SWAP = np.dtype(
    [
        ("amount", np.uint64, 4),
        ("limit", np.uint64, 4),
        ("path", np.uint64, (MAX_HOPS + 1, 3)),
        ("fee_pips", np.uint64, MAX_HOPS),
        ("tick_spacing", np.uint64, MAX_HOPS),
        ("recipient", np.uint64, 3),
        ("sqrt_price_limit_x96", np.uint64, 3),
        ("deadline", np.uint64),
        ("call", np.uint64),
        ("router", np.uint64),
        ("hops", np.uint64),
        ("protocol", np.uint64),
        ("exact_out", np.uint64),
        ("flags", np.uint64),
    ]
)

# Columns of a call.
CALL_TO = 0  # address called
CALL_VALUE = 3  # wei sent along
CALL_START = 7  # where its calldata starts in the byte buffer
CALL_LENGTH = 8  # bytes of calldata
CALL_WORDS = 9

CALL = np.dtype(
    [("to", np.uint64, 3), ("value", np.uint64, 4), ("start", np.uint64), ("length", np.uint64)]
)

# Columns of a router.
ROUTER_ADDRESS = 0
ROUTER_WETH = 3  # the wrapped native token it trades for ether
ROUTER_FAMILY = 6
ROUTER_WORDS = 7

ROUTER = np.dtype([("address", np.uint64, 3), ("weth", np.uint64, 3), ("family", np.uint64)])


def router_table(routers: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """uint64[r, ROUTER_WORDS] from (address, wrapped native token, family) of each router.

    Raises ValueError for a family that does not exist or an address of more than 160 bits.
    """
    table = np.zeros((len(routers), ROUTER_WORDS), np.uint64)
    for row, (address, weth, family) in zip(table, routers, strict=True):
        if family not in FAMILIES:
            raise ValueError(
                f"family {family} of router {address:#042x}: expected one of {FAMILIES}"
            )
        row[ROUTER_ADDRESS:ROUTER_FAMILY] = _addresses(address, weth)
        row[ROUTER_FAMILY] = family
    return table


def call_row(to: int, value_wei: int, start: int, length: int) -> np.ndarray:
    """uint64[CALL_WORDS] of one transaction whose calldata is buffer[start : start + length].

    Raises ValueError for an address of more than 160 bits or a value of more than 256.
    """
    row = np.zeros(CALL_WORDS, np.uint64)
    row[CALL_TO:CALL_VALUE] = _addresses(to)
    row[CALL_VALUE:CALL_START] = to_limbs([value_wei], 4)[0]
    row[CALL_START], row[CALL_LENGTH] = start, length
    return row


def _addresses(*addresses: int) -> np.ndarray:
    """Three limbs per address, in one flat row."""
    for address in addresses:
        if not 0 <= address < 1 << 160:
            raise ValueError(f"address {address:#x}: expected 20 bytes")
    return to_limbs(addresses, 3).ravel()
