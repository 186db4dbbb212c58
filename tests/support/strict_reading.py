"""What eth_abi's strict decoder reads in router calldata: the referee for input of any kind.

It takes more than the kernel does (offsets out of order, long paths), but nothing it refuses, and
no value other than its own, may come out of the kernel.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from kernels.calldata import rows
from kernels.calldata.abi import NO_DEADLINE
from tests.support.router_calls import (
    COMMAND_TYPES,
    NEUTRAL,
    PATH,
    UINT,
    V2_CALLS,
    V4_NEUTRAL,
    V4_ROUTE,
    V4_ROUTE_2_1,
    V4_SINGLE,
    WETH,
    Call,
    Swap,
    command_takes_balance,
    saturated,
    selector,
)


class UnreadableError(Exception):
    """The calldata is not a call that swaps on plain pools only."""


def read(call: Call) -> list[Swap]:
    """Every swap of the call; UnreadableError when eth_abi refuses it or it may do more."""
    try:
        return _read(call)
    except (DecodingError, OverflowError, MemoryError) as error:
        raise UnreadableError(str(error)) from error


def _read(call: Call) -> list[Swap]:
    name, payload = call.data[:4], call.data[4:]
    if call.family >= rows.UNIVERSAL_ROUTER:
        return _read_execute(call.family, name, payload)
    if call.family != rows.V2_ROUTER and name == selector("multicall(bytes[])"):
        (inner,) = decode(["bytes[]"], payload)
        return _read_inner(call, inner)
    if call.family == rows.SWAP_ROUTER_02:
        if name == selector("multicall(uint256,bytes[])"):
            deadline, inner = decode([UINT, "bytes[]"], payload)
            swaps = _read_inner(call, inner)
            return [swap._replace(deadline=saturated(deadline)) for swap in swaps]
        if name == selector("multicall(bytes32,bytes[])"):
            _, inner = decode(["bytes32", "bytes[]"], payload)
            return _read_inner(call, inner)
    swap = _read_one(call)
    return [] if swap is None else [swap]


def _read_inner(call: Call, inner: tuple[bytes, ...]) -> list[Swap]:
    swaps = (_read_one(Call(call.family, call.value, data)) for data in inner)
    return [swap for swap in swaps if swap is not None]


def _read_one(call: Call) -> Swap | None:
    """The swap of a single call, None for a call that touches no pool."""
    name = call.data[:4]
    if call.family == rows.V2_ROUTER:
        return _read_v2(call)
    neutral = {selector(text) for text, first in NEUTRAL.items() if first <= call.family}
    if name in neutral:
        return None
    if call.family == rows.SWAP_ROUTER_02:
        for text in ("swapExactTokensForTokens", "swapTokensForExactTokens"):
            types = [UINT, UINT, PATH, "address"]
            if name == selector(f"{text}({','.join(types)})"):
                amount, limit, path, recipient = decode(types, call.data[4:])
                exact_out = text == "swapTokensForExactTokens"
                swap = _swap(rows.UNISWAP_V2, exact_out, amount, limit, path, [], recipient)
                return _zero_is_balance(swap)
    return _read_v3(call)


def _read_v2(call: Call) -> Swap:
    for name, (exact_out, ether_in, ether_out, fee) in V2_CALLS.items():
        types = [UINT] * (1 if ether_in else 2) + [PATH, "address", UINT]
        if call.data[:4] != selector(f"{name}({','.join(types)})"):
            continue
        *amounts, path, recipient, deadline = decode(types, call.data[4:])
        if ether_in:
            amounts.insert(1 if exact_out else 0, call.value)
        elif call.value:
            raise UnreadableError("not payable")
        flags = rows.NATIVE_IN * ether_in | rows.NATIVE_OUT * ether_out
        swap = _swap(rows.UNISWAP_V2, exact_out, amounts[0], amounts[1], path, [], recipient)
        swap = swap._replace(deadline=saturated(deadline), flags=flags | rows.FEE_ON_TRANSFER * fee)
        if (ether_in and swap.path[0] != WETH) or (ether_out and swap.path[-1] != WETH):
            raise UnreadableError("the path does not start or end at the wrapped token")
        return swap
    raise UnreadableError("unknown selector")


def _read_v3(call: Call) -> Swap:
    has_deadline = call.family == rows.SWAP_ROUTER
    middle = [UINT] * (3 if has_deadline else 2)
    for name in ("exactInput", "exactOutput"):
        exact_out = name == "exactOutput"
        single = f"(address,address,uint24,address,{','.join(middle)},uint160)"
        multi = f"(bytes,address,{','.join(middle)})"
        if call.data[:4] == selector(f"{name}Single({single})"):
            ((token_in, token_out, fee, recipient, *rest, price),) = decode([single], call.data[4:])
            path, fees = [token_in, token_out], [fee]
        elif call.data[:4] == selector(f"{name}({multi})"):
            ((route, recipient, *rest),) = decode([multi], call.data[4:])
            path, fees = _unpack(route, exact_out)
            price = 0
        else:
            continue
        amount, limit = rest[-2:]
        swap = _swap(rows.UNISWAP_V3, exact_out, amount, limit, path, fees, recipient)
        swap = swap._replace(sqrt_price_limit=price)
        if has_deadline:
            return swap._replace(deadline=saturated(rest[0]))
        return _zero_is_balance(swap)
    raise UnreadableError("unknown selector")


def _read_execute(family: int, name: bytes, payload: bytes) -> list[Swap]:
    deadline = NO_DEADLINE
    if name == selector("execute(bytes,bytes[])"):
        commands, inputs = decode(["bytes", "bytes[]"], payload)
    elif name == selector("execute(bytes,bytes[],uint256)"):
        commands, inputs, deadline = decode(["bytes", "bytes[]", UINT], payload)
    else:
        raise UnreadableError("unknown selector")
    if len(commands) != len(inputs):
        raise UnreadableError("as many commands as inputs")
    swaps = []
    for byte, data in zip(commands, inputs, strict=True):
        command = byte & 0x7F
        if command == 0x10 and family >= rows.UNIVERSAL_ROUTER_2_0:
            read = _read_actions(family, data)
            swaps += [swap._replace(deadline=saturated(deadline)) for swap in read]
            continue
        if command not in (0, 1, 8, 9):
            if not (2 <= command <= 6 or 10 <= command <= 14):
                raise UnreadableError(f"command {command:#x}")
            continue
        types = list(COMMAND_TYPES)
        types[3] = PATH if command >= 8 else "bytes"
        recipient, amount, limit, route, _ = decode(types, data)
        exact_out = command in (1, 9)
        protocol = rows.UNISWAP_V2 if command >= 8 else rows.UNISWAP_V3
        path, fees = (route, []) if command >= 8 else _unpack(route, exact_out)
        swap = _swap(protocol, exact_out, amount, limit, path, fees, recipient)
        if command_takes_balance(protocol, exact_out, amount):
            swap = swap._replace(flags=rows.CONTRACT_BALANCE)
        swaps.append(swap._replace(deadline=saturated(deadline)))
    return swaps


def _read_actions(family: int, data: bytes) -> list[Swap]:
    """The swaps of a V4_SWAP command."""
    actions, parameters = decode(["bytes", "bytes[]"], data)
    if len(actions) != len(parameters):
        raise UnreadableError("as many actions as parameters")
    swaps = []
    for action, values in zip(actions, parameters, strict=True):
        exact_out = action >= 8
        if action in (6, 8):
            (((low, high, *pool), down, amount, limit, _),) = decode([V4_SINGLE], values)
            if int(low, 16) >= int(high, 16):
                raise UnreadableError("currencies of a pool are sorted")
            path, pools = ([low, high] if down else [high, low]), [pool]
        elif action in (7, 9):
            route = V4_ROUTE_2_1 if family == rows.UNIVERSAL_ROUTER_2_1 else V4_ROUTE
            ((currency, keys, *limits, amount, limit),) = decode([route], values)
            if limits and len(limits[0]) not in (0, len(keys)):
                raise UnreadableError("a limit per hop")
            path = [key[0] for key in keys]
            path = [*path, currency] if exact_out else [currency, *path]
            pools = [key[1:4] for key in keys]
        elif action in V4_NEUTRAL:
            continue
        else:
            raise UnreadableError(f"action {action:#x}")
        swaps.append(_v4_swap(exact_out, amount, limit, path, pools))
    return swaps


def _v4_swap(
    exact_out: bool, amount: int, limit: int, path: list[str], pools: Sequence[Sequence[Any]]
) -> Swap:
    """Hops of (fee, tick spacing, hooks) along `path`."""
    fees, spacings = tuple(pool[0] for pool in pools), tuple(pool[1] for pool in pools)
    if any(int(pool[2], 16) for pool in pools):
        raise UnreadableError("a pool with hooks may do anything")
    if any(fee > 1_000_000 for fee in fees) or any(not 0 < s < 1 << 15 for s in spacings):
        raise UnreadableError("no such pool can be initialized")
    tokens = tuple(int(token, 16) for token in path)
    if len(tokens) < 2 or any(a == b for a, b in pairwise(tokens)):
        raise UnreadableError("no pool serves this path")
    flags = 0 if amount else rows.CONTRACT_BALANCE
    return Swap(
        rows.UNISWAP_V4,
        exact_out,
        amount,
        limit,
        tokens,
        fees,
        0,
        0,
        NO_DEADLINE,
        flags,
        spacings,
    )


def _unpack(route: bytes, exact_out: bool) -> tuple[list[str], list[int]]:
    """Tokens and fees of a V3 path, in the direction of the trade."""
    hops, rest = divmod(len(route) - 20, 23)
    if hops < 1 or rest:
        raise UnreadableError("a path is token (fee token)+")
    path = ["0x" + route[23 * i : 23 * i + 20].hex() for i in range(hops + 1)]
    fees = [int.from_bytes(route[23 * i + 20 : 23 * i + 23], "big") for i in range(hops)]
    return (path[::-1], fees[::-1]) if exact_out else (path, fees)


def _swap(
    protocol: int,
    exact_out: bool,
    amount: int,
    limit: int,
    path: list[str] | tuple[str, ...],
    fees: list[int],
    recipient: str,
) -> Swap:
    tokens = tuple(int(token, 16) for token in path)
    if len(tokens) < 2 or 0 in tokens or any(a == b for a, b in pairwise(tokens)):
        raise UnreadableError("no pool serves this path")
    return Swap(
        protocol,
        exact_out,
        amount,
        limit,
        tokens,
        tuple(fees),
        int(recipient, 16),
        0,
        NO_DEADLINE,
        0,
    )


def _zero_is_balance(swap: Swap) -> Swap:
    """SwapRouter02 spends its whole balance when an exact input is 0."""
    if swap.exact_out or swap.amount:
        return swap
    return swap._replace(flags=rows.CONTRACT_BALANCE)
