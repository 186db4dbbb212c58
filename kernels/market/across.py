"""Best input of an arbitrage cycle whose concentrated pools may pass the ends of segments."""

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph.market_graph import HOPS, MAX_HOPS, POOL, ROW_IN, ROW_OUT
from kernels.market.amm import SEGMENT_ROOT, PoolState, amount_out
from kernels.market.declaration import Declaration
from kernels.market.tile import (
    CONCENTRATED_FROM,
    CONCENTRATED_ROWS,
    LIQUIDITY,
    LOWEST_ROOT,
    SCRATCH,
    SCRATCH_ROWS,
    SEGMENTS,
)

# State of the hops of one cycle.
SCRATCH_USE = Declaration(SCRATCH_ROWS, SCRATCH)
HOP_IN = SCRATCH_USE.row("HOP_IN", MAX_HOPS, "tokens", "reserve of what is sold")
HOP_OUT = SCRATCH_USE.row("HOP_OUT", MAX_HOPS, "tokens", "reserve of what is bought")
HOP_CAPACITY = SCRATCH_USE.row("HOP_CAPACITY", MAX_HOPS, "tokens", "input until the segment's end")
HOP_SEGMENT = SCRATCH_USE.row("HOP_SEGMENT", MAX_HOPS, "segment", "in which the price is")


@inline
def _load_hops(cycles: np.ndarray, state: PoolState, lane: int, candidate: int) -> bool:
    """State of a cycle's hops into scratch rows; whether a pool is concentrated."""
    tile, first, concentrated = state.tile, state.first, False
    for hop in range(cycles[candidate, HOPS]):
        row_in, row_out = cycles[candidate, ROW_IN + hop], cycles[candidate, ROW_OUT + hop]
        tile[HOP_IN + hop, lane] = tile[first + row_in, lane]
        tile[HOP_OUT + hop, lane] = tile[first + row_out, lane]
        tile[HOP_CAPACITY + hop, lane] = tile[first + 2 * state.pools + row_in, lane]
        pool = int(cycles[candidate, POOL + hop])
        index = pool - int(tile[CONCENTRATED_FROM, lane])
        if index >= 0:
            concentrated = True
            at = state.concentrated + CONCENTRATED_ROWS * index
            tile[HOP_SEGMENT + hop, lane] = tile[at + state.segment, lane]
    return concentrated


@inline
def _next_segment(
    tile: np.ndarray, lane: int, at: int, hop: int, forward: bool, gamma: float
) -> None:
    """Put a hop in scratch rows at the start of the segment after its present one."""
    segment = int(tile[HOP_SEGMENT + hop, lane])
    lowest = tile[at + LOWEST_ROOT, lane]
    end = lowest * SEGMENT_ROOT[segment + (0 if forward else 1)]
    segment += -1 if forward else 1
    liquidity = tile[at + LIQUIDITY + segment, lane]
    far = lowest * SEGMENT_ROOT[segment + (0 if forward else 1)]
    last = segment == (0 if forward else SEGMENTS - 1)
    until = liquidity / far - liquidity / end if forward else liquidity * (far - end)
    tile[HOP_IN + hop, lane] = liquidity / end if forward else liquidity * end
    tile[HOP_OUT + hop, lane] = liquidity * end if forward else liquidity / end
    tile[HOP_CAPACITY + hop, lane] = np.inf if last else until / gamma
    tile[HOP_SEGMENT + hop, lane] = segment


@lean_kernel
def best_input_across(
    cycles: np.ndarray, weights: np.ndarray, state: PoolState, lane: int, candidate: int
) -> tuple[float, float]:
    """(input, profit): best of a cycle whose concentrated pools may pass the ends of segments.

    Profit is concave: while the best input of the present segments does not fit, fill them, let the
    first full pool go on to its next segment, and look again. (0, 0) without concentrated pools.
    """
    never_inline()
    tile = state.tile
    if not _load_hops(cycles, state, lane, candidate):
        return 0.0, 0.0
    hops, total, received = cycles[candidate, HOPS], 0.0, 0.0
    for _ in range(MAX_HOPS * SEGMENTS):
        # Moebius map of the hops so far, and the input at which the first of them is full.
        A, C, most, full = 1.0, 0.0, np.inf, -1
        for hop in range(hops):
            capacity = tile[HOP_CAPACITY + hop, lane]
            slope = A - C * capacity
            fills = capacity / slope if slope > 0.0 else np.inf
            if fills < most:
                most, full = fills, hop
            rate = weights[cycles[candidate, POOL + hop]] / tile[HOP_IN + hop, lane]
            C += A * rate
            A *= rate * tile[HOP_OUT + hop, lane]
        best = (np.sqrt(A) - 1.0) / C
        if not best > 0.0:
            break
        if best <= most:
            total += best
            received += A * best / (1.0 + C * best)
            break
        total += most
        amount = most
        for hop in range(hops):
            gamma = float(weights[cycles[candidate, POOL + hop]])
            reserve_in, reserve_out = tile[HOP_IN + hop, lane], tile[HOP_OUT + hop, lane]
            out = amount_out(amount, reserve_in, reserve_out, gamma)
            tile[HOP_IN + hop, lane] = reserve_in + amount * gamma
            tile[HOP_OUT + hop, lane] = reserve_out - out
            tile[HOP_CAPACITY + hop, lane] = max(tile[HOP_CAPACITY + hop, lane] - amount, 0.0)
            amount = out
        received += amount
        pool = int(cycles[candidate, POOL + full])
        index = pool - int(tile[CONCENTRATED_FROM, lane])
        at = state.concentrated + CONCENTRATED_ROWS * index
        forward = cycles[candidate, ROW_IN + full] < state.pools
        _next_segment(tile, lane, at, full, forward, float(weights[pool]))
    return total, received - total
