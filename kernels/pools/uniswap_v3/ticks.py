"""v3-core's TickBitmap and Tick over sorted arrays: where a swap stops next, and how ticks come and
go. The contract looks no further than one bitmap word (256 spacings) and rounds where it stops, so
an empty word's boundary is a stop here too.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.u256 import Uint256, store256, to_float
from kernels.pools.uniswap_v3.state import X96, V3Pools, as_int
from kernels.pools.uniswap_v3.tick_math import sqrt_ratio, tick_of


class TickSpan(NamedTuple):
    """The initialised ticks of one pool: the slice first..last of the tick arrays of all pools.

    What lies outside known_low..known_high was never read, and may hold further ticks.
    """

    tick: NDArray[np.int32]
    liquidity_net: NDArray[np.uint64]  # [T, 2]
    sqrt_price: NDArray[np.uint64]  # [T, 4]
    first: int
    last: int
    known_low: int
    known_high: int


@inline
def next_tick_within_word(
    ticks: TickSpan, cursor: int, tick: int, spacing: int, zero_for_one: bool
) -> tuple[int, int, bool]:
    """nextInitializedTickWithinOneWord: (tick, its place, whether it is initialised).

    Without an initialised tick in the word it is the word's last tick in the direction of the swap,
    which may lie beyond the tick bounds. `cursor` is the place of the first tick above `tick`.
    """
    compressed = tick // spacing
    if zero_for_one:
        boundary = ((compressed >> 8) << 8) * spacing
        if cursor > ticks.first and ticks.tick[cursor - 1] >= boundary:
            return as_int(ticks.tick[cursor - 1]), cursor - 1, True
        return boundary, cursor, False
    boundary = ((((compressed + 1) >> 8) << 8) + 255) * spacing
    if cursor < ticks.last and ticks.tick[cursor] <= boundary:
        return as_int(ticks.tick[cursor]), cursor, True
    return boundary, cursor, False


@lean_kernel
def beyond_empty_words(
    ticks: TickSpan, cursor: int, stop: int, spacing: int, limit: Uint256, zero_for_one: bool
) -> int:
    """The last word boundary before the next initialised tick and the limit, or `stop` if further.

    Without liquidity every step is free and nothing rounds, so the stops in between change nothing;
    visiting them all would let a dead pool of spacing 1 cost thousands of steps.
    """
    never_inline()
    goal = tick_of(limit)
    if zero_for_one:
        if cursor > ticks.first:
            goal = max(goal, as_int(ticks.tick[cursor - 1]))
        boundary = (((goal // spacing >> 8) + 1) << 8) * spacing
        return min(stop, boundary)
    if cursor < ticks.last:
        goal = min(goal, as_int(ticks.tick[cursor]))
    boundary = (((goal // spacing >> 8) << 8) - 1) * spacing
    return max(stop, boundary)


@inline
def place_of(ticks: NDArray[np.int32], first: int, last: int, tick: int) -> int:
    """Place of the first tick not below `tick` in the ascending slice first..last."""
    low = first
    high = last
    while low < high:
        middle = (low + high) >> 1
        if ticks[middle] < tick:
            low = middle + 1
        else:
            high = middle
    return low


@lean_kernel
def insert_tick(pools: V3Pools, pool: int, place: int, tick: int) -> None:
    """Open `place` for `tick` with no liquidity; the slice must have room."""
    never_inline()
    last = pools.first_tick[pool] + pools.tick_count[pool]
    for index in range(last, place, -1):
        _copy_tick(pools, index - 1, index)
    price = sqrt_ratio(tick)
    pools.ticks[place] = tick
    pools.liquidity_gross[place, :] = 0
    pools.liquidity_net[place, :] = 0
    store256(pools.tick_sqrt_price, place, price)
    pools.tick_sqrt_price_f64[place] = to_float(price) * X96
    pools.liquidity_net_f64[place] = 0.0
    pools.tick_count[pool] += 1
    if tick <= pools.tick[pool]:
        pools.cursor[pool] += 1


@lean_kernel
def remove_tick(pools: V3Pools, pool: int, place: int) -> None:
    """Close `place`."""
    never_inline()
    if pools.ticks[place] <= pools.tick[pool]:
        pools.cursor[pool] -= 1
    last = pools.first_tick[pool] + pools.tick_count[pool] - 1
    for index in range(place, last):
        _copy_tick(pools, index + 1, index)
    pools.tick_count[pool] -= 1


@inline
def _copy_tick(pools: V3Pools, source: int, target: int) -> None:
    pools.ticks[target] = pools.ticks[source]
    pools.tick_sqrt_price_f64[target] = pools.tick_sqrt_price_f64[source]
    pools.liquidity_net_f64[target] = pools.liquidity_net_f64[source]
    for limb in range(2):
        pools.liquidity_gross[target, limb] = pools.liquidity_gross[source, limb]
        pools.liquidity_net[target, limb] = pools.liquidity_net[source, limb]
    for limb in range(4):
        pools.tick_sqrt_price[target, limb] = pools.tick_sqrt_price[source, limb]
