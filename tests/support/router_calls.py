"""Random well-formed router calls, each with the swaps it was built from."""

from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from kernels.calldata import rows
from kernels.calldata.abi import NO_DEADLINE

WETH = 0xC02AAA39B223FE8D0A0E5C4F27EAD9083C756CC2
ADDRESSES = {family: 0x1111 * family << 100 | family for family in rows.FAMILIES}
ROUTERS = rows.router_table([(ADDRESSES[f], WETH, f) for f in rows.FAMILIES])
BALANCE = 1 << 255

UINT, PATH = "uint256", "address[]"
V2_CALLS = {  # name: (exact out, ether in, ether out, fee on transfer)
    "swapExactTokensForTokens": (False, False, False, False),
    "swapTokensForExactTokens": (True, False, False, False),
    "swapExactETHForTokens": (False, True, False, False),
    "swapTokensForExactETH": (True, False, True, False),
    "swapExactTokensForETH": (False, False, True, False),
    "swapETHForExactTokens": (True, True, False, False),
    "swapExactTokensForTokensSupportingFeeOnTransferTokens": (False, False, False, True),
    "swapExactETHForTokensSupportingFeeOnTransferTokens": (False, True, False, True),
    "swapExactTokensForETHSupportingFeeOnTransferTokens": (False, False, True, True),
}
NEUTRAL = {
    "refundETH()": rows.SWAP_ROUTER,
    "unwrapWETH9(uint256,address)": rows.SWAP_ROUTER,
    "unwrapWETH9(uint256)": rows.SWAP_ROUTER_02,
    "unwrapWETH9WithFee(uint256,address,uint256,address)": rows.SWAP_ROUTER,
    "unwrapWETH9WithFee(uint256,uint256,address)": rows.SWAP_ROUTER_02,
    "sweepToken(address,uint256,address)": rows.SWAP_ROUTER,
    "sweepToken(address,uint256)": rows.SWAP_ROUTER_02,
    "sweepTokenWithFee(address,uint256,address,uint256,address)": rows.SWAP_ROUTER,
    "sweepTokenWithFee(address,uint256,uint256,address)": rows.SWAP_ROUTER_02,
    "wrapETH(uint256)": rows.SWAP_ROUTER_02,
    "pull(address,uint256)": rows.SWAP_ROUTER_02,
    "selfPermit(address,uint256,uint256,uint8,bytes32,bytes32)": rows.SWAP_ROUTER,
    "selfPermitIfNecessary(address,uint256,uint256,uint8,bytes32,bytes32)": rows.SWAP_ROUTER,
    "selfPermitAllowed(address,uint256,uint256,uint8,bytes32,bytes32)": rows.SWAP_ROUTER,
    "selfPermitAllowedIfNecessary(address,uint256,uint256,uint8,bytes32,bytes32)": (
        rows.SWAP_ROUTER
    ),
}
V4_KEY = "(address,address,uint24,int24,address)"
V4_SINGLE = f"({V4_KEY},bool,uint128,uint128,bytes)"
V4_ROUTE = "(address,(address,uint24,int24,address,bytes)[],uint128,uint128)"
V4_ROUTE_2_1 = V4_ROUTE.replace("[],", "[],uint256[],")  # limits per hop
V4_NEUTRAL = {  # action: (Currency, ...) as CalldataDecoder reads it
    0x0B: ["address", UINT, "bool"],
    0x0C: ["address", UINT],
    0x0E: ["address", "address", UINT],
    0x0F: ["address", UINT],
    0x10: ["address", "address", UINT],
}
COMMAND_TYPES = ["address", UINT, UINT, "", "bool"]
NEUTRAL_COMMANDS = (0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E)


class Swap(NamedTuple):
    """One swap as Python values; addresses are integers."""

    protocol: int
    exact_out: bool
    amount: int
    limit: int
    path: tuple[int, ...]
    fees: tuple[int, ...]
    recipient: int
    sqrt_price_limit: int
    deadline: int
    flags: int
    tick_spacings: tuple[int, ...] = ()


@dataclass(frozen=True)
class Call:
    """One transaction to the router of `family`."""

    family: int
    value: int
    data: bytes


def selector(signature: str) -> bytes:
    """First four bytes of the keccak of a function signature."""
    return keccak(text=signature)[:4]


def text(address: int) -> str:
    """The form that eth_abi encodes."""
    return f"0x{address:040x}"


def saturated(deadline: int) -> int:
    """A deadline as the kernel keeps it."""
    return min(deadline, (1 << 64) - 1)


def random_amount(rng: Random) -> int:
    """An uint256, corners included."""
    return rng.choice([rng.getrandbits(256), rng.getrandbits(100), 0, 1, BALANCE, (1 << 256) - 1])


def random_path(rng: Random, hops: int) -> list[int]:
    """Token addresses, all different by their last digit."""
    return [rng.getrandbits(156) << 4 | i + 1 for i in range(hops + 1)]


def packed(path: list[int], fees: list[int]) -> bytes:
    """A V3 path: token (fee token)+."""
    tail = b"".join(
        fee.to_bytes(3, "big") + token.to_bytes(20, "big")
        for fee, token in zip(fees, path[1:], strict=True)
    )
    return path[0].to_bytes(20, "big") + tail


def random_swap(rng: Random, protocol: int, hops: int) -> Swap:
    """A swap without flags, price limit and deadline."""
    fees = [rng.getrandbits(24) for _ in range(hops)] if protocol == rows.UNISWAP_V3 else []
    return Swap(
        protocol,
        rng.random() < 0.5,
        random_amount(rng),
        random_amount(rng),
        tuple(random_path(rng, hops)),
        tuple(fees),
        rng.choice([rng.getrandbits(160), 0, 1, 2]),
        0,
        NO_DEADLINE,
        0,
    )


def command_takes_balance(protocol: int, exact_out: bool, amount: int) -> bool:
    """True when a Universal Router swap spends what is there: 2^255, or 0 already in a V2 pair."""
    if exact_out:
        return False
    return amount == BALANCE or (amount == 0 and protocol == rows.UNISWAP_V2)


def random_v2(rng: Random) -> tuple[Call, list[Swap]]:
    """A call of Router02."""
    name, (exact_out, ether_in, ether_out, fee) = rng.choice(list(V2_CALLS.items()))
    swap = random_swap(rng, rows.UNISWAP_V2, rng.randint(1, rows.MAX_HOPS))
    path = list(swap.path)
    if ether_in:
        path[0] = WETH
    if ether_out:
        path[-1] = WETH
    deadline = rng.choice([rng.getrandbits(31), rng.getrandbits(256)])
    flags = rows.NATIVE_IN * ether_in | rows.NATIVE_OUT * ether_out | rows.FEE_ON_TRANSFER * fee
    swap = swap._replace(
        exact_out=exact_out, path=tuple(path), deadline=saturated(deadline), flags=flags
    )
    amounts = [swap.amount, swap.limit]
    value = 0
    if ether_in:
        value = amounts.pop(1 if exact_out else 0)
    types = [UINT] * len(amounts) + [PATH, "address", UINT]
    arguments = [*amounts, [text(token) for token in path], text(swap.recipient), deadline]
    data = selector(f"{name}({','.join(types)})") + encode(types, arguments)
    return Call(rows.V2_ROUTER, value, data), [swap]


def random_v3(rng: Random, family: int) -> tuple[Call, list[Swap]]:
    """A V3 call of SwapRouter, which has deadlines, or SwapRouter02, which has not."""
    single = rng.random() < 0.5
    swap = random_swap(rng, rows.UNISWAP_V3, 1 if single else rng.randint(1, rows.MAX_HOPS))
    deadlines = []
    if family == rows.SWAP_ROUTER:
        deadlines = [rng.getrandbits(256) >> rng.choice([0, 220])]
        swap = swap._replace(deadline=saturated(deadlines[0]))
    elif not swap.exact_out and swap.amount == 0:
        swap = swap._replace(flags=rows.CONTRACT_BALANCE)
    name = "exactOutput" if swap.exact_out else "exactInput"
    amounts = [*deadlines, swap.amount, swap.limit]
    if single:
        name += "Single"
        swap = swap._replace(sqrt_price_limit=rng.choice([0, rng.getrandbits(160)]))
        types = ["address", "address", "uint24", "address", *[UINT] * len(amounts), "uint160"]
        tokens = [text(token) for token in swap.path]
        arguments = [*tokens, swap.fees[0], text(swap.recipient), *amounts, swap.sqrt_price_limit]
    else:
        step = -1 if swap.exact_out else 1
        route = packed(list(swap.path[::step]), list(swap.fees[::step]))
        types = ["bytes", "address", *[UINT] * len(amounts)]
        arguments = [route, text(swap.recipient), *amounts]
    signature = f"({','.join(types)})"
    data = selector(f"{name}({signature})") + encode([signature], [arguments])
    return Call(family, rng.choice([0, 5]), data), [swap]


def random_v2_of_02(rng: Random) -> tuple[Call, list[Swap]]:
    """A V2 call of SwapRouter02."""
    swap = random_swap(rng, rows.UNISWAP_V2, rng.randint(1, rows.MAX_HOPS))
    if not swap.exact_out and swap.amount == 0:
        swap = swap._replace(flags=rows.CONTRACT_BALANCE)
    name = "swapTokensForExactTokens" if swap.exact_out else "swapExactTokensForTokens"
    types = [UINT, UINT, PATH, "address"]
    tokens = [text(token) for token in swap.path]
    arguments = [swap.amount, swap.limit, tokens, text(swap.recipient)]
    data = selector(f"{name}({','.join(types)})") + encode(types, arguments)
    return Call(rows.SWAP_ROUTER_02, 0, data), [swap]


def random_multicall(rng: Random, family: int) -> tuple[Call, list[Swap]]:
    """Swaps and neutral calls of one family in a multicall."""
    inner, swaps = [], []
    for _ in range(rng.randint(0, 4)):
        if rng.random() < 0.3:
            names = [name for name, first in NEUTRAL.items() if first <= family]
            inner.append(selector(rng.choice(names)) + rng.randbytes(32))
            continue
        v2 = family == rows.SWAP_ROUTER_02 and rng.random() < 0.4
        call, decoded = random_v2_of_02(rng) if v2 else random_v3(rng, family)
        inner.append(call.data)
        swaps += decoded
    form = rng.randint(0, 2) if family == rows.SWAP_ROUTER_02 else 0
    if form == 0:
        data = selector("multicall(bytes[])") + encode(["bytes[]"], [inner])
    elif form == 1:
        deadline = rng.getrandbits(256) >> rng.choice([0, 220])
        data = selector("multicall(uint256,bytes[])")
        data += encode([UINT, "bytes[]"], [deadline, inner])
        swaps = [swap._replace(deadline=saturated(deadline)) for swap in swaps]
    else:
        data = selector("multicall(bytes32,bytes[])")
        data += encode(["bytes32", "bytes[]"], [rng.randbytes(32), inner])
    return Call(family, rng.choice([0, 7]), data), swaps


def random_v4_swap(rng: Random, family: int) -> tuple[int, bytes, Swap]:
    """An action that swaps on V4 pools, its parameters and what it means."""
    exact_out, single = rng.random() < 0.5, rng.random() < 0.5
    hops = 1 if single else rng.randint(1, rows.MAX_HOPS)
    path = random_path(rng, hops)
    if rng.random() < 0.3:
        path[rng.randrange(hops + 1)] = 0  # ether
    fees = [rng.choice([0, 100, 3000, 1_000_000]) for _ in range(hops)]
    spacings = [rng.choice([1, 10, 60, 32_767]) for _ in range(hops)]
    amount = rng.choice([0, 1, rng.getrandbits(128), (1 << 128) - 1])
    limit = rng.choice([0, rng.getrandbits(90), (1 << 128) - 1])
    flags = 0 if amount else rows.CONTRACT_BALANCE
    swap = Swap(
        rows.UNISWAP_V4,
        exact_out,
        amount,
        limit,
        tuple(path),
        tuple(fees),
        0,
        0,
        NO_DEADLINE,
        flags,
        tuple(spacings),
    )
    hook_data = rng.randbytes(rng.choice([0, 0, 5, 32]))
    if single:
        low, high = sorted(path)
        key = (text(low), text(high), fees[0], spacings[0], text(0))
        types, values = V4_SINGLE, (key, path[0] == low, amount, limit, hook_data)
    else:
        inner = path[:-1] if exact_out else path[1:]
        keys = [
            (text(token), fee, spacing, text(0), hook_data)
            for token, fee, spacing in zip(inner, fees, spacings, strict=True)
        ]
        outside = text(path[-1] if exact_out else path[0])
        types, values = V4_ROUTE, (outside, keys, amount, limit)
        if family == rows.UNIVERSAL_ROUTER_2_1:
            limits = rng.choice([[], [1] * hops])
            types, values = V4_ROUTE_2_1, (outside, keys, limits, amount, limit)
    action = (8 if exact_out else 6) + (not single)
    return action, encode([types], [values]), swap


def random_v4_input(rng: Random, family: int) -> tuple[bytes, list[Swap]]:
    """The input of a V4_SWAP command: swaps, settlements and payments."""
    actions, parameters, swaps = bytearray(), [], []
    for _ in range(rng.randint(0, 3)):
        action, data, swap = random_v4_swap(rng, family)
        actions.append(action)
        parameters.append(data)
        swaps.append(swap)
    for _ in range(rng.randint(0, 2)):
        action, types = rng.choice(list(V4_NEUTRAL.items()))
        values = [
            text(rng.getrandbits(160)) if kind == "address" else kind == "bool" or 7
            for kind in types
        ]
        actions.append(action)
        parameters.append(encode(types, values))
    return encode(["bytes", "bytes[]"], [bytes(actions), parameters]), swaps


def random_execute(rng: Random, family: int) -> tuple[Call, list[Swap]]:
    """A Universal Router call of swaps and neutral commands."""
    commands, inputs, swaps = bytearray(), [], []
    for _ in range(rng.randint(0, 4)):
        if family >= rows.UNIVERSAL_ROUTER_2_0 and rng.random() < 0.5:
            data, decoded = random_v4_input(rng, family)
            commands.append(0x10)
            inputs.append(data)
            swaps += decoded
            continue
        if rng.random() < 0.3:
            commands.append(rng.choice(NEUTRAL_COMMANDS) | rng.choice([0, 0x80]))
            inputs.append(rng.randbytes(rng.randint(0, 100)))
            continue
        protocol = rng.choice([rows.UNISWAP_V2, rows.UNISWAP_V3])
        swap = random_swap(rng, protocol, rng.randint(1, rows.MAX_HOPS))
        if command_takes_balance(protocol, swap.exact_out, swap.amount):
            swap = swap._replace(flags=rows.CONTRACT_BALANCE)
        route: Any = [text(token) for token in swap.path]
        if protocol == rows.UNISWAP_V3:
            step = -1 if swap.exact_out else 1
            route = packed(list(swap.path[::step]), list(swap.fees[::step]))
        types = list(COMMAND_TYPES)
        types[3] = PATH if protocol == rows.UNISWAP_V2 else "bytes"
        arguments = [text(swap.recipient), swap.amount, swap.limit, route, rng.random() < 0.5]
        if rng.random() < 0.2:  # newer routers: least prices per hop
            types.append("uint256[]")
            arguments.append([1] * len(swap.fees))
        inputs.append(encode(types, arguments))
        commands.append((8 if protocol == rows.UNISWAP_V2 else 0) + swap.exact_out)
        swaps.append(swap)
    if rng.random() < 0.5:
        data = selector("execute(bytes,bytes[])")
        data += encode(["bytes", "bytes[]"], [bytes(commands), inputs])
    else:
        deadline = rng.getrandbits(256) >> rng.choice([0, 220])
        data = selector("execute(bytes,bytes[],uint256)")
        data += encode(["bytes", "bytes[]", UINT], [bytes(commands), inputs, deadline])
        swaps = [swap._replace(deadline=saturated(deadline)) for swap in swaps]
    return Call(family, rng.choice([0, 9]), data), swaps


def random_call(rng: Random) -> tuple[Call, list[Swap]]:
    """A well-formed call of any kind and the swaps it means."""
    kind = rng.randint(0, 8)
    if kind == 0:
        return random_v2(rng)
    if kind in (1, 2):
        return random_v3(rng, rows.SWAP_ROUTER if kind == 1 else rows.SWAP_ROUTER_02)
    if kind == 3:
        return random_v2_of_02(rng)
    if kind in (4, 5):
        return random_multicall(rng, rows.SWAP_ROUTER if kind == 4 else rows.SWAP_ROUTER_02)
    return random_execute(rng, rows.UNIVERSAL_ROUTER + kind - 6)
