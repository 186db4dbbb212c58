"""One tile of markets as float64[rows, lanes]: its rows, and where those of a graph begin.

The simulator has 16 lanes, the server one; the kernels are the same. Reserves and amounts are in
whole tokens, values in ETH, gas prices in gwei. docs/tile.md is the table of these declarations.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import inline
from kernels.graph.market_graph import Graph
from kernels.market.declaration import Declaration, Row

LANES = 16  # lanes of a simulated tile: two vectors of eight float64
PENDING = 8  # M, pending swaps looked at
FORECASTS = 3  # log realised variance of the next 5, 15 and 60 minutes
OPPORTUNITIES = 4  # K
HISTORY = 8  # H, past auctions of this searcher
BORROWERS = 4  # B, loans watched; their collateral is the hub token
SEGMENTS = 8  # S, of constant liquidity in a concentrated pool; the outermost have no end
WORD = 48  # cycles whose bits one row holds: whole numbers of float64 are exact to 2^53
SCRATCH = 24  # rows that kernels may overwrite

BUNDLE, PUBLIC = 0, 1  # channels; bit 1 << channel of row CHANNELS

# Rows that every market has.
_fixed = Declaration()
_row = _fixed.row
BASE_FEE = _row("BASE_FEE", 1, "gwei", "of the block being built")
GAS_USED_RATIO = _row("GAS_USED_RATIO", 1, "1", "last block's gas used / target")
OWN_TIP = _row("OWN_TIP", 1, "gwei", "priority fee of our transaction")
FORECAST = _row("FORECAST", FORECASTS, "1", "ln of realised variance, newest forecast")
SLOT = _row("SLOT", 1, "slots", "number of the slot being built")
HISTORY_COUNT = _row("HISTORY_COUNT", 1, "auctions", "ours recorded so far")
TICK = _row("TICK", 1, "1", "share of the slot that has passed")
CHANNELS = _row("CHANNELS", 1, "bits", "channels that this deployment has")
BUNDLES_TAKEN = _row(
    "BUNDLES_TAKEN",
    1,
    "0/1",
    "1 when the proposer of this slot takes bundles, 0 when it builds alone",
)
CONCENTRATED_FROM = _row(
    "CONCENTRATED_FROM",
    1,
    "pool",
    "P - V, the same in all lanes: the last V pools are concentrated",
)
# The bid of ours that stands in this slot.
STANDING_CYCLE = _row("STANDING_CYCLE", 1, "candidate", "of our standing bid, -1 none")
STANDING_AMOUNT = _row(
    "STANDING_AMOUNT", 1, "tokens", "input of that plan (hub); for a loan, the debt repaid"
)
STANDING_PAYMENT = _row("STANDING_PAYMENT", 1, "ETH", "what that bid pays")
STANDING_FRACTION = _row("STANDING_FRACTION", 1, "1", "that payment / net when the bid was placed")
STANDING_CHANNEL = _row("STANDING_CHANNEL", 1, "channel", "where that bid stands: BUNDLE or PUBLIC")
PENDING_POOL = _row("PENDING_POOL", PENDING, "pool", "of a pending swap; 0 where absent")
PENDING_ZERO_FOR_ONE = _row("PENDING_ZERO_FOR_ONE", PENDING, "0/1", "1 when the swap sells token0")
PENDING_AMOUNT_IN = _row("PENDING_AMOUNT_IN", PENDING, "tokens", "0 where absent")
PENDING_TIP = _row(
    "PENDING_TIP", PENDING, "gwei", "priority fee; not above that of an earlier nonce"
)
PENDING_MIN_OUT = _row(
    "PENDING_MIN_OUT", PENDING, "tokens", "least output: the swap reverts below it"
)
PENDING_VISIBLE = _row(
    "PENDING_VISIBLE", PENDING, "0/1", "1 when it is seen and a block can take it"
)
PENDING_AMOUNT_OUT = _row(
    "PENDING_AMOUNT_OUT", PENDING, "tokens", "output, written by overlay; 0 when it reverts"
)
PENDING_ORDER = _row(
    "PENDING_ORDER", PENDING, "swap", "the one included at place j, written by overlay"
)
PENDING_REFUND = _row(
    "PENDING_REFUND", PENDING, "0/1", "1 when an order-flow auction sells the back-run"
)
# The last H auctions of this searcher, newest first, as observation.record_auction encodes them.
HISTORY_VALUE = _row(
    "HISTORY_VALUE", HISTORY, "field", "net of the opportunity, newest auction first"
)
HISTORY_OWN = _row("HISTORY_OWN", HISTORY, "field", "own bid / net")
HISTORY_CLEARING = _row("HISTORY_CLEARING", HISTORY, "field", "highest bid / net, own included")
HISTORY_WON = _row("HISTORY_WON", HISTORY, "1", "1 won, -1 lost, 0 no such auction")
HISTORY_SLOT = _row("HISTORY_SLOT", HISTORY, "slots", "slot of the auction")
# Candidates 0 .. C - 1 are the cycles of the graph, C .. C + B - 1 the loans.
FOUND_CYCLE = _row(
    "FOUND_CYCLE", OPPORTUNITIES, "candidate", "of opportunity k, best first; -1 none"
)
FOUND_AMOUNT_IN = _row("FOUND_AMOUNT_IN", OPPORTUNITIES, "hub tokens", "input of the whole size")
FOUND_GROSS = _row("FOUND_GROSS", OPPORTUNITIES, "ETH", "output - input")
FOUND_NET = _row("FOUND_NET", OPPORTUNITIES, "ETH", "gross - gas")
FOUND_HALF_NET = _row("FOUND_HALF_NET", OPPORTUNITIES, "ETH", "gross - gas at half of the size")
FOUND_TARGETS = _row(
    "FOUND_TARGETS", OPPORTUNITIES, "bits", "bit m is set when visible swap m trades in its pools"
)
FOUND_REFUND = _row(
    "FOUND_REFUND", OPPORTUNITIES, "0/1", "1 when a target is sold by order-flow auction"
)
FOUND_AGE = _row("FOUND_AGE", OPPORTUNITIES, "slots", "for which the candidate has paid its gas")
FOUND_PUBLIC_BID = _row(
    "FOUND_PUBLIC_BID", OPPORTUNITIES, "1", "highest bid seen in public / net; 0 none"
)
FOUND_POOLS = _row("FOUND_POOLS", OPPORTUNITIES, "pools", "that it trades in: 1 for a liquidation")
FOUND_CONCENTRATED = _row(
    "FOUND_CONCENTRATED", OPPORTUNITIES, "pools", "concentrated ones among them"
)
FOUND_COUNT = _row("FOUND_COUNT", 1, "candidates", "that pay their gas, whether chosen or not")
# Loans: hub collateral, debt in the other token of a constant-product pool with the hub.
LOAN_COLLATERAL = _row(
    "LOAN_COLLATERAL", BORROWERS, "hub tokens", "collateral; 0 where there is no loan"
)
LOAN_DEBT = _row("LOAN_DEBT", BORROWERS, "tokens", "debt")
LOAN_POOL = _row("LOAN_POOL", BORROWERS, "pool", "where the debt token is bought")
LOAN_HUB_FIRST = _row("LOAN_HUB_FIRST", BORROWERS, "0/1", "1 when the hub is token0 of that pool")
LOAN_PRICE = _row("LOAN_PRICE", BORROWERS, "hub tokens", "price of a debt token, by the oracle")
LOAN_REPAID = _row(
    "LOAN_REPAID", BORROWERS, "tokens", "debt that a liquidation repays, written by lending"
)
KEPT = _row(
    "KEPT",
    1,
    "0/1",
    "1 where the last search holds: pools, gas and what the mempool shows are as they were",
)
SAME_HEAD = _row("SAME_HEAD", 1, "0/1", "1 where the pools are those of the last search")
SCRATCH_ROWS = _row("SCRATCH_ROWS", SCRATCH, "any", "what a kernel keeps between two of its loops")
FIXED_ROWS = _fixed.end
RESERVES = FIXED_ROWS  # the first rows that depend on the graph
ROWS = _fixed.rows

# Rows of one concentrated pool.
_concentrated = Declaration()
_row = _concentrated.row
SEGMENT = _row("SEGMENT", 1, "segment", "in which the price is")
OVERLAY_SEGMENT = _row("OVERLAY_SEGMENT", 1, "segment", "in which it is after the overlay")
LOWEST_ROOT = _row("LOWEST_ROOT", 1, "1", "square-root price at the lower end of segment 0")
LIQUIDITY = _row("LIQUIDITY", SEGMENTS, "tokens", "liquidity by segment")
CONCENTRATED_ROWS = _concentrated.end
POOL_ROWS = _concentrated.rows


class Span(NamedTuple):
    """Rows whose number depends on the graph; a candidate is a cycle or a loan."""

    name: str
    per_pool: int
    per_candidate: int
    unit: str
    meaning: str
    per_word: int = 0  # a word holds a bit for each of WORD cycles


# In the order of their rows, behind the fixed ones. Of a pair, the first P rows are those of token0
# of every pool, the others those of token1.
SPANS = (
    Span("RESERVES", 2, 0, "tokens", "of the head; virtual ones in a concentrated pool"),
    Span("capacity", 2, 0, "tokens", "input until the end of the present segment, or infinite"),
    Span("overlay", 2, 0, "tokens", "reserves in which our bundle would execute"),
    Span("overlay_capacity", 2, 0, "tokens", "the same as capacity, after the overlay"),
    Span("rate", 2, 0, "1/tokens", "gamma / overlaid reserve of the token that would be sold"),
    Span("price", 2, 0, "1", "that rate times the other reserve: most that a unit sold can buy"),
    Span("look", 0, 0, "bits", "cycles that earn something, or paid their gas until now", 1),
    Span("since", 0, 1, "slots", "slot since which it has paid its gas, -1 where it does not"),
    Span("amount_in", 0, 1, "hub tokens", "best input, 0 where unprofitable"),
    Span("gross", 0, 1, "ETH", "output - input at the best input, never below 0"),
    Span("net", 0, 1, "ETH", "gross - gas where gross is above 0; elsewhere out of date"),
)


class Layout(NamedTuple):
    """First rows of the spans of one graph, and its size; `layout_of` makes it."""

    pools: int  # P
    cycles: int  # C
    capacity: int
    overlay: int
    rate: int
    price: int
    look: int
    since: int
    amount_in: int
    gross: int
    net: int
    concentrated: int  # CONCENTRATED_ROWS rows for each of the last V pools


def _layout(pools: int, cycles: int) -> Layout:
    look = FIXED_ROWS + 12 * pools
    since = look + (cycles + WORD - 1) // WORD
    candidates = cycles + BORROWERS
    return Layout(
        pools,
        cycles,
        FIXED_ROWS + 2 * pools,
        FIXED_ROWS + 4 * pools,
        FIXED_ROWS + 8 * pools,
        FIXED_ROWS + 10 * pools,
        look,
        since,
        since + candidates,
        since + 2 * candidates,
        since + 3 * candidates,
        since + 4 * candidates,
    )


# For kernels, which take `cycles` and `weights` of a Graph: layout(pools, cycles) -> Layout.
layout = inline(_layout)


def layout_of(graph: Graph) -> Layout:
    """Where the rows that depend on `graph` begin."""
    return _layout(graph.token0.size, graph.cycle_hops.size)


def layout_rows(rows: Layout, concentrated: int = 0) -> tuple[Row, ...]:
    """Every row behind the fixed ones, numbered, of a graph with so many concentrated pools."""
    declared, first = [], FIXED_ROWS
    for span in SPANS:
        count = span.per_pool * rows.pools + span.per_candidate * (rows.cycles + BORROWERS)
        count += span.per_word * (rows.since - rows.look)
        declared.append(Row(span.name, first, count, span.unit, span.meaning))
        first += count
    for index in range(concentrated):
        at = rows.concentrated + CONCENTRATED_ROWS * index
        declared += [row._replace(first=at + row.first) for row in POOL_ROWS]
    return tuple(declared)


def tile_rows(graph: Graph, concentrated: int = 0) -> int:
    """Rows of a tile over `graph`, whose last pools may hold concentrated liquidity."""
    return layout_of(graph).concentrated + CONCENTRATED_ROWS * concentrated


def new_tile(graph: Graph, lanes: int, concentrated: int = 0) -> np.ndarray:
    """An empty tile float64[tile_rows, lanes]: no reserves, swaps, loans or history; bundles only.

    The proposer takes bundles. A simulator changes rows CHANNELS and BUNDLES_TAKEN.
    """
    tile = np.zeros((tile_rows(graph, concentrated), lanes))
    rows = layout_of(graph)
    tile[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES] = -1.0
    tile[STANDING_CYCLE] = -1.0
    tile[CHANNELS] = 1 << BUNDLE
    tile[BUNDLES_TAKEN] = 1.0
    tile[CONCENTRATED_FROM] = rows.pools - concentrated
    tile[rows.capacity : rows.overlay] = np.inf
    tile[rows.since : rows.amount_in] = -1.0
    return tile
