"""Decoded calldata beside the swaps that the pools reported for it."""

import numpy as np

from kernels.calldata import rows
from kernels.calldata.routers import decode_call
from tests.support.hostile_calldata import as_swap, empty_swaps
from tests.support.router_calls import Swap, text
from tests.support.routers.referee import PoolSwap, RouterWorld, pool_id


def decoded(
    world: RouterWorld, router: str, family: int, data: bytes, value: int = 0
) -> list[Swap]:
    """What the decoder reads in a call of `router`; fails when it refuses it."""
    address = int(router, 16)
    routers = rows.router_table([(address, int(world.tokens[0], 16), family)])
    call = rows.call_row(address, value, 0, len(data)).reshape(1, -1)
    swaps = empty_swaps()
    count = decode_call(np.frombuffer(data, np.uint8), call, 0, routers, swaps, 0)
    assert count > 0, (count, data.hex())
    return [as_swap(row) for row in swaps[:count]]


def hops_of(world: RouterWorld, swap: Swap) -> list[tuple[str, bool]]:
    """(pool, zero for one) in the order in which the router trades."""
    hops = []
    for i in range(len(swap.path) - 1):
        pay, get = text(swap.path[i]), text(swap.path[i + 1])
        ends = frozenset(token for token in world.tokens if int(token, 16) in swap.path[i : i + 2])
        if swap.protocol == rows.UNISWAP_V2:
            pool = world.pairs[ends]
        elif swap.protocol == rows.UNISWAP_V3:
            pool = world.v3_pools[ends, swap.fees[i]]
        else:
            pool = pool_id(pay, get, swap.fees[i], swap.tick_spacings[i])
        hops.append((pool.lower(), swap.path[i] < swap.path[i + 1]))
    # V4 trades an exact output from its end. In V3 the last pool starts, but reports last.
    backwards = swap.protocol == rows.UNISWAP_V4 and swap.exact_out
    return hops[::-1] if backwards else hops


def check_like_the_router(world: RouterWorld, swaps: list[Swap], made: list[PoolSwap]) -> None:
    """Pools, directions and exact amounts of every swap, and no swap besides."""
    for swap in swaps:
        hops = len(swap.path) - 1
        mine, made = made[:hops], made[hops:]
        assert [(each.pool, each.zero_for_one) for each in mine] == hops_of(world, swap)
        first, last = mine[0], mine[-1]
        if swap.protocol == rows.UNISWAP_V4 and swap.exact_out:
            first, last = last, first
        assert (last.received if swap.exact_out else first.paid) == swap.amount
    assert not made
