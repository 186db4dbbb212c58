"""One tile of markets as float64[rows, lanes], and the overlay of pending swaps on it.

The simulator has 16 lanes, the server one; the kernels are the same. Reserves and amounts are in
whole tokens, values in ETH, gas prices in gwei. Kernels take `cycles` and `weights` of a Graph.
"""

import numpy as np

from kernels.compile import inline, kernel
from kernels.graph import Graph

LANES = 16  # lanes of a simulated tile: two vectors of eight float64
PENDING = 8  # M, pending swaps looked at
FORECASTS = 3  # log realised variance of the next 5, 15 and 60 minutes
OPPORTUNITIES = 4  # K
HISTORY = 8  # H, past auctions of this searcher

# Rows that every market has. The comment gives the unit.
BASE_FEE = 0  # gwei, of the block being built
GAS_USED_RATIO = 1  # last block's gas used / target
OWN_TIP = 2  # gwei, priority fee of our transaction
FORECAST = 3  # [3] ln of realised variance, newest forecast
SLOT = 6  # number of the slot being built
HISTORY_COUNT = 7  # auctions of this searcher recorded so far
PENDING_POOL = 8  # [M] pool index; 0 where absent
PENDING_ZERO_FOR_ONE = PENDING_POOL + PENDING  # [M] 1 sells token0
PENDING_AMOUNT_IN = PENDING_ZERO_FOR_ONE + PENDING  # [M] tokens; 0 where absent
PENDING_TIP = PENDING_AMOUNT_IN + PENDING  # [M] gwei
PENDING_VISIBLE = PENDING_TIP + PENDING  # [M] 1 in the public mempool, 0 absent or private
PENDING_AMOUNT_OUT = PENDING_VISIBLE + PENDING  # [M] tokens, written by overlay
PENDING_ORDER = PENDING_AMOUNT_OUT + PENDING  # [M] the swap at inclusion place j, by overlay
# The last H auctions of this searcher, newest first, as observation.record_auction encodes them.
HISTORY_VALUE = PENDING_ORDER + PENDING  # [H] net of the opportunity
HISTORY_OWN = HISTORY_VALUE + HISTORY  # [H] own bid / net
HISTORY_CLEARING = HISTORY_OWN + HISTORY  # [H] highest bid / net, own included
HISTORY_WON = HISTORY_CLEARING + HISTORY  # [H] 1 won, -1 lost, 0 no such auction
HISTORY_SLOT = HISTORY_WON + HISTORY  # [H] slot of the auction
FOUND_CYCLE = HISTORY_SLOT + HISTORY  # [K] cycle index, -1 none; written by opportunities.find
FOUND_AMOUNT_IN = FOUND_CYCLE + OPPORTUNITIES  # [K] hub tokens
FOUND_GROSS = FOUND_AMOUNT_IN + OPPORTUNITIES  # [K] ETH
FOUND_NET = FOUND_GROSS + OPPORTUNITIES  # [K] ETH, gross - gas
FOUND_TARGETS = FOUND_NET + OPPORTUNITIES  # [K] bit m: visible pending swap m trades in its pools
FOUND_AGE = FOUND_TARGETS + OPPORTUNITIES  # [K] slots for which it has stood
FOUND_COUNT = FOUND_AGE + OPPORTUNITIES  # cycles that pay their gas, disjoint or not
FIXED_ROWS = FOUND_COUNT + 1

# Blocks of rows that depend on the graph, in this order: 2 P rows each of reserves (token0 of every
# pool, then token1), of reserves after the overlay, of rates gamma / overlaid reserve; then C rows
# each of since, amount_in, gross, net.
RESERVES = FIXED_ROWS


@inline
def overlay_row(pools: int) -> int:
    """First of 2 P rows: the reserves in which our bundle would execute."""
    return FIXED_ROWS + 2 * pools


@inline
def rate_row(pools: int) -> int:
    """First of 2 P rows: gamma / overlaid reserve of the token that would be sold."""
    return FIXED_ROWS + 4 * pools


@inline
def since_row(pools: int) -> int:
    """First of C rows: slot since which a cycle has paid its gas, -1 where it does not."""
    return FIXED_ROWS + 6 * pools


@inline
def amount_in_row(pools: int, cycles: int) -> int:
    """First of C rows: best input of each cycle, hub tokens, 0 where unprofitable."""
    return FIXED_ROWS + 6 * pools + cycles


@inline
def gross_row(pools: int, cycles: int) -> int:
    """First of C rows: output - input of each cycle at its best input, ETH, never below 0."""
    return FIXED_ROWS + 6 * pools + 2 * cycles


@inline
def net_row(pools: int, cycles: int) -> int:
    """First of C rows: gross - gas, ETH, negative where the cycle does not pay its gas."""
    return FIXED_ROWS + 6 * pools + 3 * cycles


def tile_rows(graph: Graph) -> int:
    """Rows of a tile over `graph`."""
    return FIXED_ROWS + 6 * graph.token0.size + 4 * graph.cycle_hops.size


def new_tile(graph: Graph, lanes: int) -> np.ndarray:
    """An empty tile float64[tile_rows, lanes]: no reserves, no pending swap, no history."""
    tile = np.zeros((tile_rows(graph), lanes))
    tile[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES] = -1.0
    since = FIXED_ROWS + 6 * graph.token0.size
    tile[since : since + graph.cycle_hops.size] = -1.0
    return tile


@inline
def amount_out(amount_in: float, reserve_in: float, reserve_out: float, gamma: float) -> float:
    """Uniswap V2 output of a real-valued swap (the exact one is kernels.uniswap_v2)."""
    paid = amount_in * gamma
    return paid * reserve_out / (reserve_in + paid)


@inline
def _shown_tip(tile: np.ndarray, lane: int, swap: int) -> float:
    return tile[PENDING_TIP + swap, lane] if tile[PENDING_VISIBLE + swap, lane] > 0.0 else -1.0


@inline
def _copy_reserves(pools: int, tile: np.ndarray, lanes: int) -> None:
    target = overlay_row(pools)
    for row in range(2 * pools):
        for lane in range(lanes):
            tile[target + row, lane] = tile[RESERVES + row, lane]


@inline
def _order_by_tip(tile: np.ndarray, lane: int) -> None:
    """Places of the visible swaps by priority fee, ties by arrival; the others come last."""
    for place in range(PENDING):
        tip = _shown_tip(tile, lane, place)
        # Insertion keeps the arrival order among equals: only a lower tip is moved back.
        at = place
        while at > 0:
            other = tile[PENDING_ORDER + at - 1, lane]
            if _shown_tip(tile, lane, int(other)) >= tip:
                break
            tile[PENDING_ORDER + at, lane] = other
            at -= 1
        tile[PENDING_ORDER + at, lane] = place


@kernel
def overlay(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Apply the visible pending swaps to the reserves, in the order a block would include them.

    Reads the reserve and pending rows; writes the overlay rows, PENDING_AMOUNT_OUT (0 for swaps
    not applied) and PENDING_ORDER. Priority fee descending, ties by arrival (index m). Pool
    indices are trusted to lie in 0 .. P - 1, and swapped pools to have reserves.
    """
    pools = weights.shape[0] - cycles.shape[0]
    # The branch makes the number of lanes a constant, without which loops are not unrolled.
    if tile.shape[1] == LANES:
        _copy_reserves(pools, tile, LANES)
    else:
        _copy_reserves(pools, tile, tile.shape[1])
    target = overlay_row(pools)
    for lane in range(tile.shape[1]):
        _order_by_tip(tile, lane)
        for place in range(PENDING):
            swap = int(tile[PENDING_ORDER + place, lane])
            amount = tile[PENDING_AMOUNT_IN + swap, lane]
            if tile[PENDING_VISIBLE + swap, lane] <= 0.0 or amount <= 0.0:
                tile[PENDING_AMOUNT_OUT + swap, lane] = 0.0
                continue
            pool = int(tile[PENDING_POOL + swap, lane])
            forward = tile[PENDING_ZERO_FOR_ONE + swap, lane] > 0.0
            row_in = target + pool + (0 if forward else pools)
            row_out = target + pool + (pools if forward else 0)
            out = amount_out(amount, tile[row_in, lane], tile[row_out, lane], weights[pool])
            tile[row_in, lane] += amount
            tile[row_out, lane] -= out
            tile[PENDING_AMOUNT_OUT + swap, lane] = out
