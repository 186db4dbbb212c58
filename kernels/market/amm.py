"""Swaps against the pools of a tile: both kinds, and the overlay of pending swaps.

A tile holds its pools twice: as the head of the chain left them, and after the visible pending
swaps. `PoolState` names one of the two.
"""

from typing import Any, NamedTuple

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.declaration import Declaration
from kernels.market.tile import (
    CONCENTRATED_FROM,
    CONCENTRATED_ROWS,
    KEPT,
    LANES,
    LIQUIDITY,
    LOWEST_ROOT,
    OVERLAY_SEGMENT,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_MIN_OUT,
    PENDING_ORDER,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    SAME_HEAD,
    SCRATCH,
    SCRATCH_ROWS,
    SEGMENT,
    SEGMENTS,
    Layout,
    layout,
)
from kernels.numbers.lane_sets import append, entry, lane_numbers, new_list
from kernels.numbers.lanes import WIDTH, Floats, any_lane, choose, load, store, wide

SEGMENT_WIDTH = 0.02  # of ln price
# Square-root price at the lower end of segment j, in units of that of segment 0.
SEGMENT_ROOT: np.ndarray = np.exp(0.5 * SEGMENT_WIDTH * np.arange(SEGMENTS + 1))
SEGMENT_ROOT.setflags(write=False)

SCRATCH_USE = Declaration(SCRATCH_ROWS, SCRATCH)
_TIP = SCRATCH_USE.row("TIP", PENDING, "gwei", "of a visible swap; -1 of the others")
_PLACE = SCRATCH_USE.row("PLACE", PENDING, "place", "how many swaps are included before")


class PoolState(NamedTuple):
    """One of the two states of the pools of a tile."""

    tile: np.ndarray  # float64[rows, lanes]
    pools: int
    first: int  # 2 P rows of reserves; those of capacities follow
    concentrated: int  # as in Layout
    segment: int  # SEGMENT or OVERLAY_SEGMENT, by state


@inline
def head_state(tile: np.ndarray, rows: Layout) -> PoolState:
    """The pools as the head of the chain left them."""
    return PoolState(tile, rows.pools, RESERVES, rows.concentrated, SEGMENT)


@inline
def overlaid_state(tile: np.ndarray, rows: Layout) -> PoolState:
    """The pools after the visible pending swaps: where our bundle would execute."""
    return PoolState(tile, rows.pools, rows.overlay, rows.concentrated, OVERLAY_SEGMENT)


@inline
def _concentrated_at(state: PoolState, lane: int, pool: int) -> int:
    """First row of a concentrated pool."""
    index = pool - int(state.tile[CONCENTRATED_FROM, lane])
    return state.concentrated + CONCENTRATED_ROWS * index


@inline
def amount_out(amount_in: float, reserve_in: float, reserve_out: float, gamma: float) -> float:
    """Uniswap V2 output of a real-valued swap (the exact one is kernels.pools.uniswap_v2).

    Within a segment of a concentrated pool it is Uniswap V3's, with virtual reserves.
    """
    paid = amount_in * gamma
    return paid * reserve_out / (reserve_in + paid)


@lean_kernel
def enter_segment(
    state: PoolState, lane: int, pool: int, segment: int, root: float, gamma: float
) -> None:
    """Put a concentrated pool at square-root price `root` inside `segment`.

    Virtual reserves are L / root and L root; the capacities reach to the ends of the segment, if it
    has them.
    """
    never_inline()
    tile, pools, first = state.tile, state.pools, state.first
    at = _concentrated_at(state, lane, pool)
    liquidity = tile[at + LIQUIDITY + segment, lane]
    low = tile[at + LOWEST_ROOT, lane] * SEGMENT_ROOT[segment]
    high = tile[at + LOWEST_ROOT, lane] * SEGMENT_ROOT[segment + 1]
    tile[first + pool, lane] = liquidity / root
    tile[first + pools + pool, lane] = liquidity * root
    capacity = first + 2 * pools
    until_low = max(liquidity / low - liquidity / root, 0.0) / gamma
    until_high = max(liquidity * high - liquidity * root, 0.0) / gamma
    tile[capacity + pool, lane] = until_low if segment > 0 else np.inf
    tile[capacity + pools + pool, lane] = until_high if segment < SEGMENTS - 1 else np.inf
    tile[at + state.segment, lane] = segment


@lean_kernel
def _cross(state: PoolState, lane: int, pool: int, forward: bool, gamma: float) -> None:
    """Pass the end of the present segment: the price is there, the next liquidity counts."""
    never_inline()
    tile, at = state.tile, _concentrated_at(state, lane, pool)
    segment = int(tile[at + state.segment, lane])
    end = tile[at + LOWEST_ROOT, lane] * SEGMENT_ROOT[segment + (0 if forward else 1)]
    segment += -1 if forward else 1
    enter_segment(state, lane, pool, segment, end, gamma)


@inline
def swap(
    state: PoolState, lane: int, pool: int, forward: bool, amount: float, gamma: float
) -> float:
    """Sell `amount` into a pool; what it pays out, both in tokens.

    A constant-product pool keeps the fee in its reserves; a concentrated one keeps it apart, and
    a swap passes as many segments as it needs.
    """
    tile, pools, first = state.tile, state.pools, state.first
    row_in = first + pool + (0 if forward else pools)
    row_out = first + pool + (pools if forward else 0)
    capacity = 2 * pools
    total = 0.0
    while amount >= tile[row_in + capacity, lane]:
        most = tile[row_in + capacity, lane]
        total += amount_out(most, tile[row_in, lane], tile[row_out, lane], gamma)
        amount -= most
        _cross(state, lane, pool, forward, gamma)
    out = amount_out(amount, tile[row_in, lane], tile[row_out, lane], gamma)
    kept = amount if pool < int(tile[CONCENTRATED_FROM, lane]) else amount * gamma
    tile[row_in, lane] += kept
    tile[row_out, lane] -= out
    tile[row_in + capacity, lane] -= amount
    tile[row_out + capacity, lane] += out / gamma
    return total + out


@lean_kernel
def _quote_across(
    state: PoolState, lane: int, pool: int, forward: bool, amount: float, gamma: float
) -> float:
    """`quote` of what passes the end of the present segment."""
    never_inline()
    tile, pools, first = state.tile, state.pools, state.first
    row_in = first + pool + (0 if forward else pools)
    row_out = first + pool + (pools if forward else 0)
    reserve_in, reserve_out = tile[row_in, lane], tile[row_out, lane]
    capacity = tile[row_in + 2 * pools, lane]
    at = _concentrated_at(state, lane, pool)
    segment = int(tile[at + state.segment, lane])
    lowest, total = tile[at + LOWEST_ROOT, lane], 0.0
    while amount >= capacity:
        total += amount_out(capacity, reserve_in, reserve_out, gamma)
        amount -= capacity
        end = lowest * SEGMENT_ROOT[segment + (0 if forward else 1)]
        segment += -1 if forward else 1
        liquidity = tile[at + LIQUIDITY + segment, lane]
        next_end = lowest * SEGMENT_ROOT[segment + (0 if forward else 1)]
        if forward:
            reserve_in, reserve_out = liquidity / end, liquidity * end
            capacity = (liquidity / next_end - reserve_in) / gamma if segment > 0 else np.inf
        else:
            reserve_in, reserve_out = liquidity * end, liquidity / end
            last = segment == SEGMENTS - 1
            capacity = np.inf if last else (liquidity * next_end - reserve_in) / gamma
    return total + amount_out(amount, reserve_in, reserve_out, gamma)


@inline
def quote(
    state: PoolState, lane: int, pool: int, forward: bool, amount: float, gamma: float
) -> float:
    """What `swap` would pay out, without changing anything."""
    tile, pools, first = state.tile, state.pools, state.first
    row_in = first + pool + (0 if forward else pools)
    if amount < tile[row_in + 2 * pools, lane]:
        row_out = first + pool + (pools if forward else 0)
        return amount_out(amount, tile[row_in, lane], tile[row_out, lane], gamma)
    return _quote_across(state, lane, pool, forward, amount, gamma)


@inline
def _copy_state(rows: Layout, tile: np.ndarray, lane: int, like: Floats) -> None:
    kept = load(tile, KEPT, lane, like) > 0.0
    for row in range(RESERVES, rows.overlay):
        before = load(tile, row + 4 * rows.pools, lane, like)
        head = load(tile, row, lane, like)
        store(tile, row + 4 * rows.pools, lane, choose(kept, before, head))
    for index in range(rows.pools - int(tile[CONCENTRATED_FROM, lane])):
        at = rows.concentrated + CONCENTRATED_ROWS * index
        before, head = (
            load(tile, at + OVERLAY_SEGMENT, lane, like),
            load(tile, at + SEGMENT, lane, like),
        )
        store(tile, at + OVERLAY_SEGMENT, lane, choose(kept, before, head))


@inline
def _restore(rows: Layout, tile: np.ndarray, first: int, like: Floats) -> None:
    """`_copy_state` of the pools that the last overlay moved: the head is as it was."""
    work, count = new_list(), 0
    open_ = load(tile, KEPT, first, like) <= 0.0
    for swap_ in range(PENDING):
        moved = open_ & (load(tile, PENDING_AMOUNT_OUT + swap_, first, like) > 0.0)
        count = append(work, count, lane_numbers(like) + (first + swap_ * LANES), moved)
    for index in range(count):
        item = entry(work, index)
        lane = item % LANES
        pool = int(tile[PENDING_POOL + item // LANES, lane])
        for row in range(RESERVES + pool, rows.overlay, rows.pools):
            tile[row + 4 * rows.pools, lane] = tile[row, lane]
        concentrated = pool - int(tile[CONCENTRATED_FROM, lane])
        if concentrated >= 0:
            at = rows.concentrated + CONCENTRATED_ROWS * concentrated
            tile[at + OVERLAY_SEGMENT, lane] = tile[at + SEGMENT, lane]


@inline
def _order_by_tip(tile: np.ndarray, lane: int, like: Floats) -> None:
    """Places of the visible swaps by priority fee, ties by arrival; the others come last.

    A place is the number of swaps that come before: no branch depends on the data. Writes it to
    scratch, and that no swap has been applied.
    """
    kept = load(tile, KEPT, lane, like) > 0.0
    for swap_ in range(PENDING):
        shown = load(tile, PENDING_VISIBLE + swap_, lane, like) > 0.0
        paid = choose(shown, load(tile, PENDING_TIP + swap_, lane, like), like - 1.0)
        store(tile, _TIP + swap_, lane, paid)
        before = load(tile, PENDING_AMOUNT_OUT + swap_, lane, like)
        store(tile, PENDING_AMOUNT_OUT + swap_, lane, choose(kept, before, like))
    for one in range(PENDING):
        mine, before = load(tile, _TIP + one, lane, like), like
        for other in range(PENDING):
            if other != one:
                theirs = load(tile, _TIP + other, lane, like)
                first = theirs >= mine if other < one else theirs > mine
                before += choose(first, 1.0, like)
        store(tile, _PLACE + one, lane, before)


@inline
def _list_visible(tile: np.ndarray, lane: int, like: Floats, work: Any) -> int:
    """The visible swaps of the lanes at hand, as place * LANES + lane, in the order of places.

    How many there are.
    """
    open_ = load(tile, KEPT, lane, like) <= 0.0
    shown = like
    for swap_ in range(PENDING):
        shown += choose(load(tile, PENDING_VISIBLE + swap_, lane, like) > 0.0, 1.0, like)
    count = 0
    for place in range(PENDING):
        there = open_ & (shown > place)
        if not any_lane(there):
            break
        count = append(work, count, lane_numbers(like) + (lane + place * LANES), there)
    return count


@lean_kernel
def _apply_across(
    state: PoolState,
    lane: int,
    pool: int,
    forward: bool,
    amount: float,
    gamma: float,
    least: float,
) -> float:
    """`swap` of what passes the end of a segment, taken back when it pays out less than `least`."""
    never_inline()
    tile, pools, row = state.tile, state.pools, state.first + pool
    segment = _concentrated_at(state, lane, pool) + state.segment
    reserve0, reserve1 = tile[row, lane], tile[row + pools, lane]
    capacity0, capacity1 = tile[row + 2 * pools, lane], tile[row + 3 * pools, lane]
    before = tile[segment, lane]
    out = swap(state, lane, pool, forward, amount, gamma)
    if out >= least:
        return out
    tile[row, lane], tile[row + pools, lane] = reserve0, reserve1
    tile[row + 2 * pools, lane], tile[row + 3 * pools, lane] = capacity0, capacity1
    tile[segment, lane] = before
    return 0.0


@inline
def _apply(weights: np.ndarray, state: PoolState, lane: int, pending: int) -> None:
    """One visible swap on the overlay."""
    tile, capacity = state.tile, 2 * state.pools
    amount, least = tile[PENDING_AMOUNT_IN + pending, lane], tile[PENDING_MIN_OUT + pending, lane]
    if amount <= 0.0:
        return
    pool = int(tile[PENDING_POOL + pending, lane])
    forward = tile[PENDING_ZERO_FOR_ONE + pending, lane] > 0.0
    gamma = weights[pool]
    row0, row1 = state.first + pool, state.first + pool + state.pools
    row_in, row_out = choose(forward, row0, row1), choose(forward, row1, row0)
    reserve_in, reserve_out = tile[row_in, lane], tile[row_out, lane]
    if amount < tile[row_in + capacity, lane]:
        # `swap` within a segment, whose output is known before it is done.
        out = amount_out(amount, reserve_in, reserve_out, gamma)
        if out < least:
            return
        kept = choose(pool < int(tile[CONCENTRATED_FROM, lane]), amount, amount * gamma)
        tile[row_in, lane] = reserve_in + kept
        tile[row_out, lane] = reserve_out - out
        tile[row_in + capacity, lane] -= amount
        tile[row_out + capacity, lane] += out / gamma
        tile[PENDING_AMOUNT_OUT + pending, lane] = out
    else:
        tile[PENDING_AMOUNT_OUT + pending, lane] = _apply_across(
            state, lane, pool, forward, amount, gamma, least
        )


@inline
def _overlay(
    weights: np.ndarray, rows: Layout, tile: np.ndarray, first: int, like: Floats, lanes: int
) -> None:
    """`overlay` in the `lanes` lanes at hand."""
    if any_lane(load(tile, SAME_HEAD, first, like) <= 0.0):
        _copy_state(rows, tile, first, like)
    else:
        _restore(rows, tile, first, like)
    _order_by_tip(tile, first, like)
    for swap_ in range(PENDING):
        for lane in range(first, first + lanes):
            tile[PENDING_ORDER + int(tile[_PLACE + swap_, lane]), lane] = swap_
    work = new_list()
    state = overlaid_state(tile, rows)
    for index in range(_list_visible(tile, first, like, work)):
        item = entry(work, index)
        lane = item % LANES
        _apply(weights, state, lane, int(tile[PENDING_ORDER + item // LANES, lane]))


@lean_kernel
def overlay(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Apply the visible pending swaps to the reserves, in the order a block would include them.

    Reads the reserve and pending rows; writes the overlay rows, PENDING_AMOUNT_OUT (0 for swaps
    not applied, or below their minimum) and PENDING_ORDER. Priority fee descending, ties by arrival
    (index m). Lanes whose row KEPT is set stay as they are. Pool indices are trusted to lie in
    0 .. P - 1, and swapped pools to have reserves.
    """
    never_inline()
    rows = layout(weights.shape[0] - cycles.shape[0], cycles.shape[0])
    if tile.shape[1] == LANES:
        for lane in range(0, LANES, WIDTH):
            _overlay(weights, rows, tile, lane, wide(), WIDTH)
    else:
        for lane in range(tile.shape[1]):
            _overlay(weights, rows, tile, lane, 0.0, 1)
