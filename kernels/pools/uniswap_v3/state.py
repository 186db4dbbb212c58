"""The flat arrays that hold V3 pools, and their building from plain integers.

Every pool owns a slice of the tick arrays, sorted, with room for more. Initialised ticks whose net
liquidity is 0 are kept: the contract stops at them, and rounds there. Integers decide; the float64
mirrors are written together with them and only rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compile import inline, lean_kernel
from kernels.numbers.u256 import (
    Uint128,
    from_limbs,
    load128,
    load256,
    sign_extend,
    store256,
    to_float,
    to_limbs,
    u256,
)
from kernels.pools.uniswap_v3.forks import PANCAKE_V3, UNISWAP_V3, UNISWAP_V4
from kernels.pools.uniswap_v3.tick_math import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    sqrt_ratio,
    tick_of,
)

MAX_TICK_SPACING = 32767  # V4's; V3's factory stops at 16383
MAX_FEE_PIPS = 1_000_000  # V4's; V3's factory stops below it
MAX_PROTOCOL_FEE = 10_000  # PancakeSwap's denominator; Uniswap's values are far below
X96 = 2.0**-96
ALIGNMENT = 64
# Widens what is read from an int32 array: kernels would be compiled once more for each width.
as_int: Any = np.int64


class V3Pools(NamedTuple):
    """P pools and T tick places. Rows of uint64 are integers, least significant limb first."""

    sqrt_price_x96: NDArray[np.uint64]  # [P, 4] Q64.96
    liquidity: NDArray[np.uint64]  # [P, 2] active liquidity
    tick: NDArray[np.int32]  # [P] slot0's tick
    fee_pips: NDArray[np.int32]  # [P] V4: the LP fee
    tick_spacing: NDArray[np.int32]  # [P]
    protocol_fee: NDArray[np.int32]  # [P, 2] by input token; meaning in forks.py
    fork: NDArray[np.int8]  # [P] forks.UNISWAP_V3, ...
    known_ticks: NDArray[np.int32]  # [P, 2] first and last tick of the range that was loaded
    first_tick: NDArray[np.int64]  # [P + 1] slices of the tick arrays, room included
    tick_count: NDArray[np.int64]  # [P] initialised ticks in the slice
    cursor: NDArray[np.int64]  # [P] index of the first tick above the current one
    ticks: NDArray[np.int32]  # [T] ascending within a pool
    liquidity_gross: NDArray[np.uint64]  # [T, 2]
    liquidity_net: NDArray[np.uint64]  # [T, 2] two's complement
    tick_sqrt_price: NDArray[np.uint64]  # [T, 4] getSqrtRatioAtTick of each tick
    sqrt_price_f64: NDArray[np.float64]  # [P] sqrt_price_x96 / 2^96
    liquidity_f64: NDArray[np.float64]  # [P]
    tick_sqrt_price_f64: NDArray[np.float64]  # [T]
    liquidity_net_f64: NDArray[np.float64]  # [T]


@dataclass(frozen=True)
class PoolSnapshot:
    """One pool in Python integers. `ticks` maps each initialised tick to (gross, net) liquidity.

    `known_ticks` bounds the loaded tick range: a swap that would leave it is refused, not guessed.
    """

    sqrt_price_x96: int
    tick: int
    liquidity: int
    fee_pips: int
    tick_spacing: int
    ticks: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    protocol_fee: tuple[int, int] = (0, 0)
    fork: int = UNISWAP_V3
    known_ticks: tuple[int, int] = (MIN_TICK, MAX_TICK)


def build_pools(snapshots: Sequence[PoolSnapshot], spare_ticks: int = 32) -> V3Pools:
    """Arrays of all `snapshots`, each with room for `spare_ticks` more initialised ticks.

    Raises ValueError naming the pool and the field that no contract could be in.
    """
    if spare_ticks < 0:
        raise ValueError(f"spare_ticks = {spare_ticks}: give 0 or more")
    room = [len(snapshot.ticks) + spare_ticks for snapshot in snapshots]
    pools = _allocate(len(snapshots), room)
    for pool, snapshot in enumerate(snapshots):
        _check(pool, snapshot)
        _write(pools, pool, snapshot)
    _derive(pools)
    for pool, snapshot in enumerate(snapshots):
        _check_price(pools, pool, snapshot)
    return pools


def read_pool(pools: V3Pools, pool: int) -> PoolSnapshot:
    """The pool's present state in Python integers; `build_pools` of it gives the pool again."""
    first = int(pools.first_tick[pool])
    places = slice(first, first + int(pools.tick_count[pool]))
    gross = from_limbs(pools.liquidity_gross[places])
    net = [n - 2**128 if n >> 127 else n for n in from_limbs(pools.liquidity_net[places])]
    low, high = (int(tick) for tick in pools.known_ticks[pool])
    return PoolSnapshot(
        sqrt_price_x96=from_limbs(pools.sqrt_price_x96[pool : pool + 1])[0],
        tick=int(pools.tick[pool]),
        liquidity=from_limbs(pools.liquidity[pool : pool + 1])[0],
        fee_pips=int(pools.fee_pips[pool]),
        tick_spacing=int(pools.tick_spacing[pool]),
        ticks=dict(zip((int(t) for t in pools.ticks[places]), zip(gross, net, strict=True))),
        protocol_fee=(int(pools.protocol_fee[pool, 0]), int(pools.protocol_fee[pool, 1])),
        fork=int(pools.fork[pool]),
        known_ticks=(low, high),
    )


def _aligned(shape: tuple[int, ...], dtype: type) -> NDArray:
    """Zeros whose first element starts a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _allocate(pool_count: int, room: Sequence[int]) -> V3Pools:
    first_tick = _aligned((pool_count + 1,), np.int64)
    first_tick[1:] = np.cumsum(room)
    places = int(first_tick[-1])
    p, t = (pool_count,), (places,)
    return V3Pools(
        sqrt_price_x96=_aligned((*p, 4), np.uint64),
        liquidity=_aligned((*p, 2), np.uint64),
        tick=_aligned(p, np.int32),
        fee_pips=_aligned(p, np.int32),
        tick_spacing=_aligned(p, np.int32),
        protocol_fee=_aligned((*p, 2), np.int32),
        fork=_aligned(p, np.int8),
        known_ticks=_aligned((*p, 2), np.int32),
        first_tick=first_tick,
        tick_count=_aligned(p, np.int64),
        cursor=_aligned(p, np.int64),
        ticks=_aligned(t, np.int32),
        liquidity_gross=_aligned((*t, 2), np.uint64),
        liquidity_net=_aligned((*t, 2), np.uint64),
        tick_sqrt_price=_aligned((*t, 4), np.uint64),
        sqrt_price_f64=_aligned(p, np.float64),
        liquidity_f64=_aligned(p, np.float64),
        tick_sqrt_price_f64=_aligned(t, np.float64),
        liquidity_net_f64=_aligned(t, np.float64),
    )


def _write(pools: V3Pools, pool: int, snapshot: PoolSnapshot) -> None:
    pools.sqrt_price_x96[pool] = to_limbs([snapshot.sqrt_price_x96], 4)[0]
    pools.liquidity[pool] = to_limbs([snapshot.liquidity], 2)[0]
    pools.tick[pool] = snapshot.tick
    pools.fee_pips[pool] = snapshot.fee_pips
    pools.tick_spacing[pool] = snapshot.tick_spacing
    pools.protocol_fee[pool] = snapshot.protocol_fee
    pools.fork[pool] = snapshot.fork
    pools.known_ticks[pool] = snapshot.known_ticks
    pools.tick_count[pool] = len(snapshot.ticks)
    first = int(pools.first_tick[pool])
    places = slice(first, first + len(snapshot.ticks))
    if snapshot.ticks:
        ordered = sorted(snapshot.ticks)
        pools.ticks[places] = ordered
        gross, net = zip(*(snapshot.ticks[tick] for tick in ordered), strict=True)
        pools.liquidity_gross[places] = to_limbs(gross, 2)
        pools.liquidity_net[places] = to_limbs([n % 2**128 for n in net], 2)
    pools.cursor[pool] = first + sum(tick <= snapshot.tick for tick in snapshot.ticks)


@inline
def net_as_float(net: Uint128) -> float:
    """float64 of a two's complement U128."""
    wide = sign_extend(net)
    if (wide >> 255) != u256(0):
        return -to_float(-wide)
    return to_float(wide)


@lean_kernel
def _derive(pools: V3Pools) -> None:
    """Fill what follows from the integers: tick prices and the float mirrors."""
    for pool in range(pools.tick.shape[0]):
        pools.sqrt_price_f64[pool] = to_float(load256(pools.sqrt_price_x96, pool)) * X96
        pools.liquidity_f64[pool] = to_float(u256(load128(pools.liquidity, pool)))
        first = pools.first_tick[pool]
        for place in range(first, first + pools.tick_count[pool]):
            price = sqrt_ratio(as_int(pools.ticks[place]))
            store256(pools.tick_sqrt_price, place, price)
            pools.tick_sqrt_price_f64[place] = to_float(price) * X96
            pools.liquidity_net_f64[place] = net_as_float(load128(pools.liquidity_net, place))


@lean_kernel
def _tick_at(sqrt_price_x96: NDArray[np.uint64], pool: int) -> int:
    return tick_of(load256(sqrt_price_x96, pool))


def _check_price(pools: V3Pools, pool: int, snapshot: PoolSnapshot) -> None:
    """A swap that ends on a tick going down leaves slot0's tick one below the price's own."""
    tick = _tick_at(pools.sqrt_price_x96, pool)
    if snapshot.tick not in (tick, tick - 1):
        raise ValueError(
            f"pools[{pool}].tick = {snapshot.tick}: sqrt_price_x96 {snapshot.sqrt_price_x96} "
            f"belongs to tick {tick}; load both from the same block"
        )


def _check(pool: int, snapshot: PoolSnapshot) -> None:
    def require(condition: bool, name: str, value: object, expected: str) -> None:
        if not condition:
            raise ValueError(f"pools[{pool}].{name} = {value}: expected {expected}")

    price = snapshot.sqrt_price_x96
    spacing = snapshot.tick_spacing
    low, high = snapshot.known_ticks
    require(
        MIN_SQRT_RATIO <= price < MAX_SQRT_RATIO,
        "sqrt_price_x96",
        price,
        f"an initialised pool, {MIN_SQRT_RATIO} <= price < {MAX_SQRT_RATIO}",
    )
    codes = (UNISWAP_V3, PANCAKE_V3, UNISWAP_V4)
    require(snapshot.fork in codes, "fork", snapshot.fork, f"one of {codes}, the codes of forks")
    require(0 <= snapshot.liquidity < 2**128, "liquidity", snapshot.liquidity, "a uint128")
    require(0 <= snapshot.fee_pips <= MAX_FEE_PIPS, "fee_pips", snapshot.fee_pips, "0..1000000")
    require(1 <= spacing <= MAX_TICK_SPACING, "tick_spacing", spacing, f"1..{MAX_TICK_SPACING}")
    for side in snapshot.protocol_fee:
        require(0 <= side <= MAX_PROTOCOL_FEE, "protocol_fee", side, f"0..{MAX_PROTOCOL_FEE}")
    # A swap down to the lowest known tick ends one below it.
    require(
        MIN_TICK <= low <= snapshot.tick + 1 and snapshot.tick <= high <= MAX_TICK,
        "known_ticks",
        snapshot.known_ticks,
        f"a range within {MIN_TICK}..{MAX_TICK} that holds the tick {snapshot.tick}",
    )
    for tick, (gross, net) in snapshot.ticks.items():
        require(
            low <= tick <= high and tick % spacing == 0,
            f"ticks[{tick}]",
            tick,
            f"a multiple of tick_spacing {spacing} within known_ticks {low}..{high}",
        )
        require(0 < gross < 2**128, f"ticks[{tick}].gross", gross, "0 < gross < 2^128")
        require(abs(net) <= gross, f"ticks[{tick}].net", net, f"-gross..gross, gross = {gross}")
    if (low, high) == (MIN_TICK, MAX_TICK):
        below = sum(net for tick, (_, net) in snapshot.ticks.items() if tick <= snapshot.tick)
        require(
            below == snapshot.liquidity,
            "liquidity",
            snapshot.liquidity,
            f"{below}, the sum of net liquidity up to the tick; give known_ticks when only part "
            "of the ticks is loaded",
        )
