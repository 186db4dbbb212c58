"""The decoder against the deployed Universal Router: it reads the swaps that the pools report."""

from functools import cache
from random import Random
from typing import Any

import pytest
from eth_abi.abi import encode

from kernels.calldata import rows
from tests.support.router_calls import (
    COMMAND_TYPES,
    PATH,
    V4_ROUTE,
    V4_ROUTE_2_1,
    V4_SINGLE,
    packed,
    selector,
)
from tests.support.routers.comparison import check_like_the_router, decoded
from tests.support.routers.referee import (
    NOBODY,
    V3_POOLS,
    V4_POOLS,
    RouterWorld,
)

THE_ROUTER = "0x" + "00" * 19 + "02"  # ActionConstants.ADDRESS_THIS
SETTLE, TAKE = 0x0B, 0x0E


@cache
def world_of(version: str) -> RouterWorld:
    """One for all tests: what they trade is small beside the pools."""
    return RouterWorld(version)


def random_route(rng: Random, tokens: list[str], hops: int) -> list[str]:
    """Tokens along a path, neighbours different."""
    path = [rng.choice(tokens)]
    while len(path) <= hops:
        path.append(rng.choice([token for token in tokens if token != path[-1]]))
    return path


def v2_or_v3(rng: Random, tokens: list[str], amount: int) -> tuple[int, bytes]:
    """A command that swaps on V2 or V3 pools."""
    path, exact_out = random_route(rng, tokens, rng.randint(1, 3)), rng.random() < 0.5
    limit = 1 << 200 if exact_out else 0
    types: list[str] = list(COMMAND_TYPES)
    route: Any = path
    if rng.random() < 0.5:
        # A V2 pair cannot be traded twice in one path: it is locked while it pays the next.
        types[3] = PATH
        route = path = path[:3] if len(set(path[:3])) == len(path[:3]) else path[:2]
        command = 8 + exact_out
    else:
        types[3] = "bytes"
        route = path[:2] if exact_out else path
        fees = [rng.choice(V3_POOLS)[0] for _ in route[1:]]
        addresses = [int(token, 16) for token in route]
        step = -1 if exact_out else 1
        route = packed(addresses[::step], fees[::step])
        command = int(exact_out)
    return command, encode(types, [THE_ROUTER, amount, limit, route, False])


def v4(rng: Random, tokens: list[str], amount: int, version: str) -> tuple[int, bytes]:
    """A V4 command: one swap, then the router pays what it owes and takes what it is due."""
    exact_out, single = rng.random() < 0.5, rng.random() < 0.5
    path = random_route(rng, tokens, 1 if single else rng.randint(1, 3))
    pools = [rng.choice(V4_POOLS) for _ in path[1:]]
    limit = (1 << 128) - 1 if exact_out else 0
    if single:
        low, high = sorted(path, key=lambda token: int(token, 16))
        values = ((low, high, *pools[0], NOBODY), path[0] == low, amount, limit, b"")
        swap = encode([V4_SINGLE], [values])
    else:
        inner = path[:-1] if exact_out else path[1:]
        keys = [(token, *pool, NOBODY, b"") for token, pool in zip(inner, pools, strict=True)]
        outside = path[-1] if exact_out else path[0]
        if version == "2.0":
            swap = encode([V4_ROUTE], [(outside, keys, amount, limit)])
        else:
            swap = encode([V4_ROUTE_2_1], [(outside, keys, [], amount, limit)])
    actions = bytes([(8 if exact_out else 6) + (not single)])
    parameters = [swap]
    if path[0] != path[-1]:
        # In a round trip debt and credit are one balance: which of the two it is, is not known.
        actions += bytes([SETTLE, TAKE])
        parameters.append(encode(["address", "uint256", "bool"], [path[0], 0, False]))
        parameters.append(encode(["address", "address", "uint256"], [path[-1], THE_ROUTER, 0]))
    else:
        actions += bytes([SETTLE])
        parameters.append(encode(["address", "uint256", "bool"], [path[0], 0, False]))
    return 0x10, encode(["bytes", "bytes[]"], [actions, parameters])


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(
    ("version", "family"),
    [("2.0", rows.UNIVERSAL_ROUTER_2_0), ("2.1", rows.UNIVERSAL_ROUTER_2_1)],
)
def test_the_router_makes_the_decoded_swaps(version: str, family: int, seed: int) -> None:
    rng, world = Random(seed), world_of(version)
    commands, inputs = bytearray(), []
    for _ in range(rng.randint(1, 3)):
        amount = rng.randint(10**6, 10**15)
        if rng.random() < 0.6:
            command, data = v4(rng, world.tokens, amount, version)
        else:
            command, data = v2_or_v3(rng, world.tokens, amount)
        commands.append(command)
        inputs.append(data)
    data = selector("execute(bytes,bytes[])")
    data += encode(["bytes", "bytes[]"], [bytes(commands), inputs])
    swaps = decoded(world, world.router, family, data)
    assert len(swaps) == len(commands)
    check_like_the_router(world, swaps, world.swaps_of(world.router, data))
