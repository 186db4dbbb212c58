"""One tile of markets as float64[rows, lanes], and the overlay of pending swaps on it.

The simulator has 16 lanes, the server one; the kernels are the same. Reserves and amounts are in
whole tokens, values in ETH, gas prices in gwei. Kernels take `cycles` and `weights` of a Graph.
"""

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph.market_graph import Graph
from kernels.numbers.lanes import WIDTH, Floats, choose, load, store, wide

LANES = 16  # lanes of a simulated tile: two vectors of eight float64
PENDING = 8  # M, pending swaps looked at
FORECASTS = 3  # log realised variance of the next 5, 15 and 60 minutes
OPPORTUNITIES = 4  # K
HISTORY = 8  # H, past auctions of this searcher
BORROWERS = 4  # B, loans watched; their collateral is the hub token
SEGMENTS = 8  # S, of constant liquidity in a concentrated pool; the outermost have no end
SCRATCH = 24  # rows that kernels may overwrite

BUNDLE, PUBLIC = 0, 1  # channels; bit 1 << channel of row CHANNELS

# Rows that every market has. The comment gives the unit.
BASE_FEE = 0  # gwei, of the block being built
GAS_USED_RATIO = 1  # last block's gas used / target
OWN_TIP = 2  # gwei, priority fee of our transaction
FORECAST = 3  # [3] ln of realised variance, newest forecast
SLOT = 6  # number of the slot being built
HISTORY_COUNT = 7  # auctions of this searcher recorded so far
TICK = 8  # share of the slot that has passed
CHANNELS = 9  # bit mask of the channels that this deployment has
BUNDLES_TAKEN = 10  # 1 when the proposer of this slot takes bundles, 0 when it builds alone
CONCENTRATED_FROM = 11  # P - V, the same in all lanes: the last V pools are concentrated
# The bid of ours that stands in this slot.
STANDING_CYCLE = 12  # candidate index, -1 none
STANDING_AMOUNT = 13  # input, hub tokens; of a loan, the share of its debt that is repaid
STANDING_PAYMENT = 14  # ETH
STANDING_FRACTION = 15  # of net when it was placed
STANDING_CHANNEL = 16
PENDING_POOL = 17  # [M] pool index; 0 where absent
PENDING_ZERO_FOR_ONE = PENDING_POOL + PENDING  # [M] 1 sells token0
PENDING_AMOUNT_IN = PENDING_ZERO_FOR_ONE + PENDING  # [M] tokens; 0 where absent
PENDING_TIP = PENDING_AMOUNT_IN + PENDING  # [M] gwei; not above that of an earlier nonce
PENDING_MIN_OUT = PENDING_TIP + PENDING  # [M] tokens: the swap reverts below this
PENDING_VISIBLE = PENDING_MIN_OUT + PENDING  # [M] 1 seen and includable, 0 absent or unseen
PENDING_AMOUNT_OUT = PENDING_VISIBLE + PENDING  # [M] tokens, written by overlay; 0 reverted
PENDING_ORDER = PENDING_AMOUNT_OUT + PENDING  # [M] the swap at inclusion place j, by overlay
PENDING_REFUND = PENDING_ORDER + PENDING  # [M] 1 when an order-flow auction sells the back-run
# The last H auctions of this searcher, newest first, as observation.record_auction encodes them.
HISTORY_VALUE = PENDING_REFUND + PENDING  # [H] net of the opportunity
HISTORY_OWN = HISTORY_VALUE + HISTORY  # [H] own bid / net
HISTORY_CLEARING = HISTORY_OWN + HISTORY  # [H] highest bid / net, own included
HISTORY_WON = HISTORY_CLEARING + HISTORY  # [H] 1 won, -1 lost, 0 no such auction
HISTORY_SLOT = HISTORY_WON + HISTORY  # [H] slot of the auction
# Candidates 0 .. C - 1 are the cycles of the graph, C .. C + B - 1 the loans.
FOUND_CYCLE = HISTORY_SLOT + HISTORY  # [K] candidate, -1 none; written by opportunities.find
FOUND_AMOUNT_IN = FOUND_CYCLE + OPPORTUNITIES  # [K] hub tokens
FOUND_GROSS = FOUND_AMOUNT_IN + OPPORTUNITIES  # [K] ETH
FOUND_NET = FOUND_GROSS + OPPORTUNITIES  # [K] ETH, gross - gas
FOUND_HALF_NET = FOUND_NET + OPPORTUNITIES  # [K] ETH, the same at half of the size
FOUND_TARGETS = FOUND_HALF_NET + OPPORTUNITIES  # [K] bit m: visible swap m trades in its pools
FOUND_REFUND = FOUND_TARGETS + OPPORTUNITIES  # [K] 1 when a target is sold by order-flow auction
FOUND_AGE = FOUND_REFUND + OPPORTUNITIES  # [K] slots for which it has stood
FOUND_PUBLIC_BID = FOUND_AGE + OPPORTUNITIES  # [K] highest bid seen in public / net; 0 none
FOUND_POOLS = FOUND_PUBLIC_BID + OPPORTUNITIES  # [K] that it trades in: 1 for a liquidation
FOUND_CONCENTRATED = FOUND_POOLS + OPPORTUNITIES  # [K] of them concentrated
FOUND_COUNT = FOUND_CONCENTRATED + OPPORTUNITIES  # candidates that pay their gas, disjoint or not
# Loans: hub collateral, debt in the other token of a constant-product pool with the hub.
LOAN_COLLATERAL = FOUND_COUNT + 1  # [B] hub tokens; 0 where there is no loan
LOAN_DEBT = LOAN_COLLATERAL + BORROWERS  # [B] tokens
LOAN_POOL = LOAN_DEBT + BORROWERS  # [B] where the debt token is bought
LOAN_HUB_FIRST = LOAN_POOL + BORROWERS  # [B] 1 when the hub is token0 of that pool
LOAN_PRICE = LOAN_HUB_FIRST + BORROWERS  # [B] hub per debt token, by the oracle
LOAN_REPAID = LOAN_PRICE + BORROWERS  # [B] tokens to repay, written by lending
SCRATCH_ROWS = LOAN_REPAID + BORROWERS
FIXED_ROWS = SCRATCH_ROWS + SCRATCH

# Blocks of rows that depend on the graph, in this order: 2 P rows each of reserves (token0 of every
# pool, then token1; virtual ones in a concentrated pool), of inputs that its segment still takes,
# of both after the overlay, of rates gamma / overlaid reserve; then C + B rows each of since,
# amount_in, gross, net; then per concentrated pool 3 + S rows: segment, segment after the overlay,
# lowest square-root price, liquidity by segment.
RESERVES = FIXED_ROWS
SEGMENT, OVERLAY_SEGMENT, LOWEST_ROOT, LIQUIDITY = 0, 1, 2, 3
CONCENTRATED_ROWS = LIQUIDITY + SEGMENTS

SEGMENT_WIDTH = 0.02  # of ln price
# Square-root price at the lower end of segment j, in units of that of segment 0.
SEGMENT_ROOT: np.ndarray = np.exp(0.5 * SEGMENT_WIDTH * np.arange(SEGMENTS + 1))
SEGMENT_ROOT.setflags(write=False)


@inline
def capacity_row(pools: int) -> int:
    """First of 2 P rows: input until the end of the present segment; infinite without one."""
    return FIXED_ROWS + 2 * pools


@inline
def overlay_row(pools: int) -> int:
    """First of 2 P rows: the reserves in which our bundle would execute; capacities follow."""
    return FIXED_ROWS + 4 * pools


@inline
def rate_row(pools: int) -> int:
    """First of 2 P rows: gamma / overlaid reserve of the token that would be sold."""
    return FIXED_ROWS + 8 * pools


@inline
def since_row(pools: int) -> int:
    """First of C + B rows: slot since which a candidate has paid its gas, -1 where not."""
    return FIXED_ROWS + 10 * pools


@inline
def amount_in_row(pools: int, cycles: int) -> int:
    """First of C + B rows: best input of each candidate, hub tokens, 0 where unprofitable."""
    return FIXED_ROWS + 10 * pools + cycles + BORROWERS


@inline
def gross_row(pools: int, cycles: int) -> int:
    """First of C + B rows: output - input at the best input, ETH, never below 0."""
    return FIXED_ROWS + 10 * pools + 2 * (cycles + BORROWERS)


@inline
def net_row(pools: int, cycles: int) -> int:
    """First of C + B rows: gross - gas, ETH, negative where the gas is not paid."""
    return FIXED_ROWS + 10 * pools + 3 * (cycles + BORROWERS)


@inline
def concentrated_row(pools: int, cycles: int, index: int) -> int:
    """First of the 3 + S rows of the index-th concentrated pool."""
    return FIXED_ROWS + 10 * pools + 4 * (cycles + BORROWERS) + CONCENTRATED_ROWS * index


def tile_rows(graph: Graph, concentrated: int = 0) -> int:
    """Rows of a tile over `graph`, whose last pools may hold concentrated liquidity."""
    return concentrated_row(graph.token0.size, graph.cycle_hops.size, concentrated)


def new_tile(graph: Graph, lanes: int, concentrated: int = 0) -> np.ndarray:
    """An empty tile float64[tile_rows, lanes]: no reserves, swaps, loans or history; bundles only.

    The proposer takes bundles. A simulator changes rows CHANNELS and BUNDLES_TAKEN.
    """
    tile = np.zeros((tile_rows(graph, concentrated), lanes))
    pools, candidates = graph.token0.size, graph.cycle_hops.size + BORROWERS
    tile[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES] = -1.0
    tile[STANDING_CYCLE] = -1.0
    tile[CHANNELS] = 1 << BUNDLE
    tile[BUNDLES_TAKEN] = 1.0
    tile[CONCENTRATED_FROM] = pools - concentrated
    tile[capacity_row(pools) : overlay_row(pools)] = np.inf
    tile[since_row(pools) : since_row(pools) + candidates] = -1.0
    return tile


@inline
def amount_out(amount_in: float, reserve_in: float, reserve_out: float, gamma: float) -> float:
    """Uniswap V2 output of a real-valued swap (the exact one is kernels.pools.uniswap_v2).

    Within a segment of a concentrated pool it is Uniswap V3's, with virtual reserves.
    """
    paid = amount_in * gamma
    return paid * reserve_out / (reserve_in + paid)


@lean_kernel
def enter_segment(
    tile: np.ndarray,
    lane: int,
    pools: int,
    cycles: int,
    first: int,
    pool: int,
    segment: int,
    root: float,
    gamma: float,
) -> None:
    """Put a concentrated pool at square-root price `root` inside `segment`.

    `first` is RESERVES or overlay_row: which of the two states changes. Virtual reserves are
    L / root and L root; the capacities reach to the ends of the segment, if it has them.
    """
    never_inline()
    at = concentrated_row(pools, cycles, pool - int(tile[CONCENTRATED_FROM, lane]))
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
    tile[at + (SEGMENT if first == RESERVES else OVERLAY_SEGMENT), lane] = segment


@lean_kernel
def _cross(
    tile: np.ndarray,
    lane: int,
    pools: int,
    cycles: int,
    first: int,
    pool: int,
    forward: bool,
    gamma: float,
) -> None:
    """Pass the end of the present segment: the price is there, the next liquidity counts."""
    never_inline()
    at = concentrated_row(pools, cycles, pool - int(tile[CONCENTRATED_FROM, lane]))
    row = at + (SEGMENT if first == RESERVES else OVERLAY_SEGMENT)
    segment = int(tile[row, lane])
    end = tile[at + LOWEST_ROOT, lane] * SEGMENT_ROOT[segment + (0 if forward else 1)]
    segment += -1 if forward else 1
    enter_segment(tile, lane, pools, cycles, first, pool, segment, end, gamma)


@inline
def swap(
    tile: np.ndarray,
    lane: int,
    pools: int,
    cycles: int,
    first: int,
    pool: int,
    forward: bool,
    amount: float,
    gamma: float,
) -> float:
    """Sell `amount` into a pool of the state at row `first`; what it pays out, both in tokens.

    A constant-product pool keeps the fee in its reserves; a concentrated one keeps it apart, and
    a swap passes as many segments as it needs.
    """
    row_in = first + pool + (0 if forward else pools)
    row_out = first + pool + (pools if forward else 0)
    capacity = 2 * pools
    total = 0.0
    while amount >= tile[row_in + capacity, lane]:
        most = tile[row_in + capacity, lane]
        total += amount_out(most, tile[row_in, lane], tile[row_out, lane], gamma)
        amount -= most
        _cross(tile, lane, pools, cycles, first, pool, forward, gamma)
    out = amount_out(amount, tile[row_in, lane], tile[row_out, lane], gamma)
    kept = amount if pool < int(tile[CONCENTRATED_FROM, lane]) else amount * gamma
    tile[row_in, lane] += kept
    tile[row_out, lane] -= out
    tile[row_in + capacity, lane] -= amount
    tile[row_out + capacity, lane] += out / gamma
    return total + out


@lean_kernel
def _quote_across(
    tile: np.ndarray,
    lane: int,
    pools: int,
    cycles: int,
    first: int,
    pool: int,
    forward: bool,
    amount: float,
    gamma: float,
) -> float:
    """`quote` of what passes the end of the present segment."""
    never_inline()
    row_in = first + pool + (0 if forward else pools)
    row_out = first + pool + (pools if forward else 0)
    reserve_in, reserve_out = tile[row_in, lane], tile[row_out, lane]
    capacity = tile[row_in + 2 * pools, lane]
    at = concentrated_row(pools, cycles, pool - int(tile[CONCENTRATED_FROM, lane]))
    segment = int(tile[at + (SEGMENT if first == RESERVES else OVERLAY_SEGMENT), lane])
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
    tile: np.ndarray,
    lane: int,
    pools: int,
    cycles: int,
    first: int,
    pool: int,
    forward: bool,
    amount: float,
    gamma: float,
) -> float:
    """What `swap` would pay out, without changing anything."""
    row_in = first + pool + (0 if forward else pools)
    if amount < tile[row_in + 2 * pools, lane]:
        row_out = first + pool + (pools if forward else 0)
        return amount_out(amount, tile[row_in, lane], tile[row_out, lane], gamma)
    return _quote_across(tile, lane, pools, cycles, first, pool, forward, amount, gamma)


@inline
def _copy_state(pools: int, cycles: int, tile: np.ndarray, lane: int, like: Floats) -> None:
    for row in range(RESERVES, overlay_row(pools)):
        store(tile, row + 4 * pools, lane, load(tile, row, lane, like))
    for index in range(pools - int(tile[CONCENTRATED_FROM, lane])):
        at = concentrated_row(pools, cycles, index)
        store(tile, at + OVERLAY_SEGMENT, lane, load(tile, at + SEGMENT, lane, like))


@inline
def _order_by_tip(tile: np.ndarray, lane: int, like: Floats) -> None:
    """Places of the visible swaps by priority fee, ties by arrival; the others come last.

    A place is the number of swaps that come before: no branch depends on the data. Writes it to
    scratch, and that no swap has been applied.
    """
    tip, place = SCRATCH_ROWS, SCRATCH_ROWS + PENDING
    for swap_ in range(PENDING):
        shown = load(tile, PENDING_VISIBLE + swap_, lane, like) > 0.0
        paid = choose(shown, load(tile, PENDING_TIP + swap_, lane, like), like - 1.0)
        store(tile, tip + swap_, lane, paid)
        store(tile, PENDING_AMOUNT_OUT + swap_, lane, like)
    for one in range(PENDING):
        mine, before = load(tile, tip + one, lane, like), like
        for other in range(PENDING):
            if other != one:
                theirs = load(tile, tip + other, lane, like)
                first = theirs >= mine if other < one else theirs > mine
                before += choose(first, 1.0, like)
        store(tile, place + one, lane, before)


@inline
def _apply(weights: np.ndarray, pools: int, cycles: int, tile: np.ndarray, lane: int) -> None:
    """The visible swaps of one lane on its overlay."""
    first = overlay_row(pools)
    for place in range(PENDING):
        pending = int(tile[PENDING_ORDER + place, lane])
        if tile[PENDING_VISIBLE + pending, lane] <= 0.0:
            break
        amount, least = (
            tile[PENDING_AMOUNT_IN + pending, lane],
            tile[PENDING_MIN_OUT + pending, lane],
        )
        pool = int(tile[PENDING_POOL + pending, lane])
        forward = tile[PENDING_ZERO_FOR_ONE + pending, lane] > 0.0
        gamma = weights[pool]
        if amount <= 0.0:
            continue
        out = quote(tile, lane, pools, cycles, first, pool, forward, amount, gamma)
        if out >= least:
            out = swap(tile, lane, pools, cycles, first, pool, forward, amount, gamma)
            tile[PENDING_AMOUNT_OUT + pending, lane] = out


@lean_kernel
def overlay(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Apply the visible pending swaps to the reserves, in the order a block would include them.

    Reads the reserve and pending rows; writes the overlay rows, PENDING_AMOUNT_OUT (0 for swaps
    not applied, or below their minimum) and PENDING_ORDER. Priority fee descending, ties by arrival
    (index m). Pool indices are trusted to lie in 0 .. P - 1, and swapped pools to have reserves.
    """
    never_inline()
    count = cycles.shape[0]
    pools = weights.shape[0] - count
    if tile.shape[1] == LANES:
        for lane in range(0, LANES, WIDTH):
            _copy_state(pools, count, tile, lane, wide())
            _order_by_tip(tile, lane, wide())
    else:
        for lane in range(tile.shape[1]):
            _copy_state(pools, count, tile, lane, 0.0)
            _order_by_tip(tile, lane, 0.0)
    for lane in range(tile.shape[1]):
        for swap_ in range(PENDING):
            place = int(tile[SCRATCH_ROWS + PENDING + swap_, lane])
            tile[PENDING_ORDER + place, lane] = swap_
        _apply(weights, pools, count, tile, lane)
