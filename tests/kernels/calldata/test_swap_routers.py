"""The decoder against the deployed Router02, SwapRouter and SwapRouter02, every form of each."""

from functools import cache
from random import Random
from typing import Any

import pytest
from eth_abi.abi import encode

from kernels.calldata import rows
from tests.support.router_calls import PATH, UINT, V2_CALLS, packed, selector
from tests.support.routers.comparison import check_like_the_router, decoded
from tests.support.routers.referee import FOREVER, V3_POOLS, RouterWorld
from tests.support.uniswap_v2_referee import CALLER

MOST = 10**22  # paid for an exact output


@cache
def world_and_routers() -> tuple[RouterWorld, dict[int, str]]:
    """One world for all tests, and its routers by family."""
    world = RouterWorld("2.1")
    families = (rows.V2_ROUTER, rows.SWAP_ROUTER, rows.SWAP_ROUTER_02)
    return world, dict(zip(families, world.swap_routers(), strict=True))


def v2_path(rng: Random, tokens: list[str]) -> list[str]:
    """Two to four different tokens."""
    return rng.sample(tokens, rng.randint(2, 4))


def v3_single(rng: Random, tokens: list[str], family: int, exact_out: bool) -> bytes:
    """exactInputSingle or exactOutputSingle."""
    middle = [FOREVER] if family == rows.SWAP_ROUTER else []
    amounts = [rng.randint(10**6, 10**15), MOST if exact_out else 0]
    words = [UINT] * len(middle + amounts)
    types = f"(address,address,uint24,address,{','.join(words)},uint160)"
    fee = rng.choice(V3_POOLS)[0]
    values = (*rng.sample(tokens, 2), fee, CALLER, *middle, *amounts, 0)
    name = f"exact{'Output' if exact_out else 'Input'}Single"
    return selector(f"{name}({types})") + encode([types], [values])


def v3_along(rng: Random, tokens: list[str], family: int, exact_out: bool) -> bytes:
    """exactInput or exactOutput over one to three hops."""
    middle = [FOREVER] if family == rows.SWAP_ROUTER else []
    amounts = [rng.randint(10**6, 10**15), MOST if exact_out else 0]
    types = f"(bytes,address,{','.join([UINT] * len(middle + amounts))})"
    path = [int(token, 16) for token in v2_path(rng, tokens)]
    route = packed(path, [rng.choice(V3_POOLS)[0] for _ in path[1:]])
    name = f"exact{'Output' if exact_out else 'Input'}"
    return selector(f"{name}({types})") + encode([types], [(route, CALLER, *middle, *amounts)])


def v2_of_02(rng: Random, tokens: list[str], exact_out: bool) -> bytes:
    """The V2 forms of SwapRouter02."""
    name = "swapTokensForExactTokens" if exact_out else "swapExactTokensForTokens"
    types = [UINT, UINT, PATH, "address"]
    values = [rng.randint(10**6, 10**15), MOST if exact_out else 0, v2_path(rng, tokens), CALLER]
    return selector(f"{name}({','.join(types)})") + encode(types, values)


def any_call(rng: Random, tokens: list[str], family: int) -> bytes:
    """One swap of SwapRouter or SwapRouter02."""
    exact_out = rng.random() < 0.5
    if family == rows.SWAP_ROUTER_02 and rng.random() < 0.4:
        return v2_of_02(rng, tokens, exact_out)
    make = v3_single if rng.random() < 0.5 else v3_along
    return make(rng, tokens, family, exact_out)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", V2_CALLS)
def test_router02(name: str, seed: int) -> None:
    world, routers = world_and_routers()
    rng = Random(seed)
    exact_out, ether_in, ether_out, _ = V2_CALLS[name]
    path = v2_path(rng, world.tokens[1:] if ether_in or ether_out else world.tokens)[:3]
    if ether_in:
        path = [world.tokens[0], *path]
    if ether_out:
        path = [*path, world.tokens[0]]
    amounts: list[Any] = [rng.randint(10**6, 10**15), MOST if exact_out else 0]
    value = amounts.pop(1 if exact_out else 0) if ether_in else 0
    types = [UINT] * len(amounts) + [PATH, "address", UINT]
    data = selector(f"{name}({','.join(types)})")
    data += encode(types, [*amounts, path, CALLER, FOREVER])
    router = routers[rows.V2_ROUTER]
    swaps = decoded(world, router, rows.V2_ROUTER, data, value)
    check_like_the_router(world, swaps, world.swaps_of(router, data, value))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("family", [rows.SWAP_ROUTER, rows.SWAP_ROUTER_02])
def test_swap_router_and_swap_router_02(family: int, seed: int) -> None:
    world, routers = world_and_routers()
    rng, router = Random(seed), routers[family]
    data = any_call(rng, world.tokens, family)
    if seed % 2:
        inner = [any_call(rng, world.tokens, family) for _ in range(rng.randint(1, 3))]
        refund = [selector("refundETH()")]
        if family == rows.SWAP_ROUTER_02 and seed % 4 == 1:
            data = selector("multicall(uint256,bytes[])")
            data += encode([UINT, "bytes[]"], [FOREVER, inner + refund])
        else:
            data = selector("multicall(bytes[])") + encode(["bytes[]"], [inner + refund])
    swaps = decoded(world, router, family, data)
    check_like_the_router(world, swaps, world.swaps_of(router, data))
