"""The V4_SWAP command: what no hookless static-fee pool serves is refused, each for its reason."""

from typing import Any

import pytest
from eth_abi.abi import encode

from kernels.calldata import rows
from kernels.calldata.v4 import MAX_ACTIONS
from tests.support.hostile_calldata import as_swap, decode, empty_swaps
from tests.support.router_calls import (
    V4_KEY,
    V4_ROUTE,
    V4_ROUTE_2_1,
    V4_SINGLE,
    Call,
    selector,
    text,
)

ETHER, USDC, DAI = 0, 0xA0B8 << 144, 0x6B17 << 144
SINGLE_IN, PATH_IN, SINGLE_OUT, PATH_OUT = 6, 7, 8, 9


def execute(
    actions: list[tuple[int, bytes]], family: int = rows.UNIVERSAL_ROUTER_2_0, cut: int = 0
) -> int:
    """Outcome of one V4_SWAP command, its input shortened by `cut` bytes."""
    listed = [bytes(code for code, _ in actions), [data for _, data in actions]]
    command = encode(["bytes", "bytes[]"], listed)
    data = selector("execute(bytes,bytes[])")
    data += encode(["bytes", "bytes[]"], [b"\x10", [command[: len(command) - cut]]])
    return decode(Call(family, 0, data), empty_swaps())


def single(**changes: Any) -> bytes:
    """SWAP_EXACT_IN_SINGLE of 5 ether into at least 6 USDC, with some values replaced."""
    value: dict[str, Any] = {
        "currency0": ETHER,
        "currency1": USDC,
        "fee": 500,
        "spacing": 10,
        "hooks": 0,
        "down": True,
        "amount": 5,
        "limit": 6,
    } | changes
    key = (text(value["currency0"]), text(value["currency1"]), value["fee"], value["spacing"])
    values = ((*key, text(value["hooks"])), value["down"], value["amount"], value["limit"], b"")
    return encode([V4_SINGLE], [values])


def along(path: list[int], **changes: Any) -> bytes:
    """SWAP_EXACT_IN along `path`, every pool alike."""
    pool = {"fee": 500, "spacing": 10, "hooks": 0} | changes
    keys = [(text(t), pool["fee"], pool["spacing"], text(pool["hooks"]), b"") for t in path[1:]]
    return encode([V4_ROUTE], [(text(path[0]), keys, 5, 6)])


def test_two_swaps_in_one_command() -> None:
    data = selector("execute(bytes,bytes[],uint256)")
    command = encode(
        ["bytes", "bytes[]"],
        [bytes([SINGLE_IN, PATH_OUT, 0x0C, 0x0F]), [single(), along([DAI, ETHER]), b"", b"\1"]],
    )
    data += encode(["bytes", "bytes[]", "uint256"], [b"\x10", [command], 77])
    swaps = empty_swaps()
    assert decode(Call(rows.UNIVERSAL_ROUTER_2_0, 5, data), swaps) == 2
    first, second = (as_swap(row) for row in swaps[:2])
    assert first[:6] == (rows.UNISWAP_V4, False, 5, 6, (ETHER, USDC), (500,))
    assert (first.tick_spacings, first.deadline, first.flags) == ((10,), 77, 0)
    # DAI stands outside the keys: it is what an exact output buys.
    assert second[:6] == (rows.UNISWAP_V4, True, 5, 6, (ETHER, DAI), (500,))


REFUSED: dict[str, tuple[int, bytes, int]] = {
    "hooks": (SINGLE_IN, single(hooks=0xC0), rows.UNSUPPORTED),
    "hooks on a path": (PATH_IN, along([USDC, DAI], hooks=1), rows.UNSUPPORTED),
    "dynamic fee": (SINGLE_IN, single(fee=0x800000), rows.MALFORMED),
    "fee above 100 %": (PATH_IN, along([USDC, DAI], fee=1_000_001), rows.MALFORMED),
    "spacing of 0": (SINGLE_IN, single(spacing=0), rows.MALFORMED),
    "negative spacing": (SINGLE_IN, single(spacing=-60), rows.MALFORMED),
    "spacing too wide": (PATH_IN, along([USDC, DAI], spacing=32_768), rows.MALFORMED),
    "currencies out of order": (
        SINGLE_IN,
        single(currency0=USDC, currency1=ETHER),
        rows.MALFORMED,
    ),
    "one currency twice": (SINGLE_OUT, single(currency1=ETHER), rows.MALFORMED),
    "no hop": (PATH_IN, along([USDC]), rows.MALFORMED),
    "the same currency on": (PATH_IN, along([USDC, USDC]), rows.MALFORMED),
    "too many hops": (PATH_IN, along([1, 2, 3, 4, 5, 6]), rows.UNSUPPORTED),
    "cut single": (SINGLE_IN, single()[:-1], rows.MALFORMED),
    "cut path": (PATH_OUT, along([USDC, DAI])[:-32], rows.MALFORMED),
    "nothing": (SINGLE_IN, b"", rows.MALFORMED),
    "liquidity": (0x02, b"", rows.UNSUPPORTED),
    "donation": (0x0A, b"", rows.UNSUPPORTED),
    "pair of settlements": (0x0D, b"", rows.UNSUPPORTED),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_no_plain_pool_serves(reason: str) -> None:
    action, data, outcome = REFUSED[reason]
    assert execute([(action, data)]) == outcome


def test_structs_of_other_versions_are_not_misread() -> None:
    """2.1 has limits per hop of a path, 2.1.1 of a single swap, and drafts a price limit."""
    key = ((text(ETHER), text(USDC), 500, 10, text(0)), True, 5, 6)
    with_one_more = f"({V4_KEY},bool,uint128,uint128,uint256,bytes)"
    single_2_1_1 = encode([with_one_more], [(*key, 7, b"")])
    keys = [(text(DAI), 500, 10, text(0), b"")]
    route_2_0 = encode([V4_ROUTE], [(text(USDC), keys, 5, 6)])
    route_2_1 = encode([V4_ROUTE_2_1], [(text(USDC), keys, [7], 5, 6)])
    at_the_end = encode([V4_ROUTE[:-1] + ",uint256[])"], [(text(USDC), keys, 5, 6, [7])])
    for family, good, bad in (
        (rows.UNIVERSAL_ROUTER_2_0, route_2_0, route_2_1),
        (rows.UNIVERSAL_ROUTER_2_1, route_2_1, route_2_0),
    ):
        assert execute([(PATH_IN, good)], family) == 1
        for data in (bad, at_the_end):
            assert execute([(PATH_IN, data)], family) == rows.MALFORMED
        assert execute([(SINGLE_IN, single())], family) == 1
        assert execute([(SINGLE_IN, single_2_1_1)], family) == rows.MALFORMED


@pytest.mark.parametrize("limits", [[1], [1, 2, 3]])
def test_limits_per_hop_are_as_many_as_hops(limits: list[int]) -> None:
    keys = [(text(token), 500, 10, text(0), b"") for token in (DAI, ETHER)]
    data = encode([V4_ROUTE_2_1], [(text(USDC), keys, limits, 5, 6)])
    assert execute([(PATH_IN, data)], rows.UNIVERSAL_ROUTER_2_1) == rows.MALFORMED
    cut = encode([V4_ROUTE_2_1], [(text(USDC), keys, [1, 2], 5, 6)])[:-1]
    assert execute([(PATH_IN, cut)], rows.UNIVERSAL_ROUTER_2_1) == rows.MALFORMED


def test_encodings_that_the_router_refuses() -> None:
    """CalldataDecoder wants every offset where the canonical encoding puts it."""
    actions = [(SINGLE_IN, single()), (0x0C, b"\1" * 64)]
    assert execute(actions) == 1
    assert execute(actions, cut=1) == rows.MALFORMED
    assert execute(actions * MAX_ACTIONS) == rows.UNSUPPORTED
    moved = bytearray(single())
    moved[31] = 0x40  # the struct elsewhere
    assert execute([(SINGLE_IN, bytes(moved) + bytes(32))]) == rows.MALFORMED


def test_older_routers_have_no_such_command() -> None:
    assert execute([(SINGLE_IN, single())], family=rows.UNIVERSAL_ROUTER) == rows.UNSUPPORTED
