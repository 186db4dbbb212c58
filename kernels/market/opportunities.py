"""The best arbitrages and liquidations that can all execute in one block: disjoint in pools, best
first.
"""

from typing import Any

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph.market_graph import HOPS, MAX_HOPS, POOL, ROW_IN, ROW_OUT
from kernels.market.across import best_input_across
from kernels.market.amm import PoolState, overlaid_state, quote
from kernels.market.lending import LIQUIDATION_BONUS, LIQUIDATION_GAS, cost_to_repay
from kernels.market.tile import (
    BASE_FEE,
    BORROWERS,
    CONCENTRATED_FROM,
    FOUND_AGE,
    FOUND_AMOUNT_IN,
    FOUND_CONCENTRATED,
    FOUND_COUNT,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_HALF_NET,
    FOUND_NET,
    FOUND_POOLS,
    FOUND_PUBLIC_BID,
    FOUND_REFUND,
    FOUND_TARGETS,
    KEPT,
    LANES,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    LOAN_REPAID,
    OPPORTUNITIES,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_REFUND,
    PENDING_VISIBLE,
    SLOT,
    WORD,
    Layout,
    layout,
)
from kernels.numbers.lane_sets import LIST_ROOM, append, entry, lane_numbers, new_list
from kernels.numbers.lanes import WIDTH, Floats, choose, load, store, whole, wide

GWEI = 1e-9  # ETH
NEARLY = 1.0 - 1e-9


@inline
def candidate_gas(weights: np.ndarray, pools: int, cycles: int, candidate: int) -> float:
    """Gas units of an arbitrage of this cycle, or of a liquidation."""
    return float(weights[pools + candidate]) if candidate < cycles else LIQUIDATION_GAS


@inline
def candidate_pool(
    cycles: np.ndarray, tile: np.ndarray, lane: int, candidate: int, place: int
) -> int:
    """The pool at `place` 0 .. 2 of a candidate, -1 where it has none."""
    count = cycles.shape[0]
    if candidate < count:
        return int(cycles[candidate, POOL + place])
    return int(tile[LOAN_POOL + candidate - count, lane]) if place == 0 else -1


@inline
def _weigh(rows: Layout, weights: np.ndarray, tile: np.ndarray, lane: int, candidate: int) -> bool:
    """Net of a candidate, since when it has paid its gas, and the best one so far.

    Whether it pays now. Written without a branch that depends on the data.
    """
    price = (tile[BASE_FEE, lane] + tile[OWN_TIP, lane]) * GWEI
    gas = candidate_gas(weights, rows.pools, rows.cycles, candidate)
    profit = tile[rows.gross + candidate, lane] - gas * price
    tile[rows.net + candidate, lane] = profit
    pays = profit > 0.0
    before = tile[rows.since + candidate, lane]
    start = choose(before < 0.0, tile[SLOT, lane], before)
    tile[rows.since + candidate, lane] = choose(pays, start, -1.0)
    tile[FOUND_COUNT, lane] += choose(pays, 1.0, 0.0)
    _prefer(tile, lane, 0, candidate, profit, pays)
    return pays


@inline
def _prefer(tile: np.ndarray, lane: int, k: int, candidate: int, net: float, allowed: bool) -> None:
    """Candidates come in ascending order, so that ties go to the lower one."""
    better = allowed & (net > tile[FOUND_NET + k, lane])
    tile[FOUND_NET + k, lane] = choose(better, net, tile[FOUND_NET + k, lane])
    best = tile[FOUND_CYCLE + k, lane]
    tile[FOUND_CYCLE + k, lane] = choose(better, np.float64(candidate), best)


@inline
def _pool_of(cycles: np.ndarray, tile: np.ndarray, lane: int, candidate: int, place: int) -> int:
    """`candidate_pool`, -2 where there is none."""
    pool = candidate_pool(cycles, tile, lane, candidate, place)
    return choose(pool < 0, -2, pool)


@inline
def _share_a_pool(cycles: np.ndarray, tile: np.ndarray, lane: int, one: int, other: int) -> bool:
    a = candidate_pool(cycles, tile, lane, one, 0)
    b = candidate_pool(cycles, tile, lane, one, 1)
    c = candidate_pool(cycles, tile, lane, one, 2)
    shared = False
    for place in range(MAX_HOPS):
        pool = _pool_of(cycles, tile, lane, other, place)
        shared = shared | (a == pool) | (b == pool) | (c == pool)
    return shared


@inline
def _weigh_word(
    rows: Layout,
    weights: np.ndarray,
    tile: np.ndarray,
    lane: int,
    word: int,
    like: Floats,
    paying: Any,
    count: int,
) -> int:
    """`_weigh` of the candidates in a look row, or of the loans behind the last of them.

    Those that pay come behind the first `count` of the list `paying`, as candidate * LANES + lane.
    """
    work, listed = new_list(), 0
    lanes = lane_numbers(like) + lane
    open_ = load(tile, KEPT, lane, like) <= 0.0
    if word < rows.since - rows.look:
        bits, first = whole(load(tile, rows.look + word, lane, like)), word * WORD
        for place in range(min(WORD, rows.cycles - first)):
            seen = open_ & (((bits >> place) & 1) != 0)
            listed = append(work, listed, lanes + (first + place) * LANES, seen)
    else:
        for candidate in range(rows.cycles, rows.cycles + BORROWERS):
            gross = load(tile, rows.gross + candidate, lane, like)
            seen = (gross > 0.0) | (load(tile, rows.since + candidate, lane, like) >= 0.0)
            listed = append(work, listed, lanes + candidate * LANES, open_ & seen)
    for index in range(listed):
        item = entry(work, index)
        pays = _weigh(rows, weights, tile, item % LANES, item // LANES)
        count = append(paying, min(count, LIST_ROOM - 1), item, pays)
    return count


@inline
def _choose_next(
    rows: Layout, cycles: np.ndarray, tile: np.ndarray, k: int, paying: Any, count: int
) -> int:
    """Opportunity k out of a list of candidates that pay; who shares a pool with the one chosen
    before leaves the list. How many stay."""
    stay = 0
    for index in range(count):
        item = entry(paying, index)
        candidate: int = item // LANES
        lane: int = item % LANES
        chosen = int(tile[FOUND_CYCLE + k - 1, lane])
        free = not _share_a_pool(cycles, tile, lane, chosen, candidate)
        _prefer(tile, lane, k, candidate, tile[rows.net + candidate, lane], free)
        stay = append(paying, stay, item, free)
    return stay


@inline
def _choose_one_by_one(rows: Layout, cycles: np.ndarray, tile: np.ndarray, lane: int) -> None:
    """What `_choose_next` does, where more candidates pay than a list has room for."""
    for k in range(1, OPPORTUNITIES):
        for candidate in range(rows.cycles + BORROWERS):
            net = tile[rows.net + candidate, lane]
            if not tile[rows.gross + candidate, lane] > 0.0 or net <= tile[FOUND_NET + k, lane]:
                continue
            free = True
            for earlier in range(k):
                chosen = int(tile[FOUND_CYCLE + earlier, lane])
                if chosen < 0 or _share_a_pool(cycles, tile, lane, chosen, candidate):
                    free = False
            _prefer(tile, lane, k, candidate, net, free)


@inline
def _choose_disjoint(
    rows: Layout,
    cycles: np.ndarray,
    weights: np.ndarray,
    tile: np.ndarray,
    lane: int,
    like: Floats,
) -> None:
    """The K best candidates without a common pool: FOUND_CYCLE (-1 none) and FOUND_NET."""
    open_ = load(tile, KEPT, lane, like) <= 0.0
    for k in range(OPPORTUNITIES):
        for row, nothing in ((FOUND_CYCLE, -1.0), (FOUND_NET, 0.0)):
            before = load(tile, row + k, lane, like)
            store(tile, row + k, lane, choose(open_, like + nothing, before))
    before = load(tile, FOUND_COUNT, lane, like)
    store(tile, FOUND_COUNT, lane, choose(open_, like, before))
    paying, count = new_list(), 0
    for word in range(rows.since - rows.look + 1):
        count = _weigh_word(rows, weights, tile, lane, word, like, paying, count)
    if count >= LIST_ROOM - 1:
        for one in range(lane, lane + (tile.shape[1] if tile.shape[1] < WIDTH else WIDTH)):
            if tile[KEPT, one] <= 0.0:
                _choose_one_by_one(rows, cycles, tile, one)
        return
    for k in range(1, OPPORTUNITIES):
        count = _choose_next(rows, cycles, tile, k, paying, count)


@inline
def _targets(cycles: np.ndarray, tile: np.ndarray, lane: int, candidate: int) -> int:
    """Bit m is set when visible pending swap m trades in a pool of the candidate."""
    bits, found = 0, 0
    a = candidate_pool(cycles, tile, lane, candidate, 0)
    b = candidate_pool(cycles, tile, lane, candidate, 1)
    c = candidate_pool(cycles, tile, lane, candidate, 2)
    for swap in range(PENDING):
        shown = (tile[PENDING_VISIBLE + swap, lane] > 0.0) & (
            tile[PENDING_AMOUNT_IN + swap, lane] > 0.0
        )
        touched = int(tile[PENDING_POOL + swap, lane])
        bits = 1 << swap
        found |= bits if shown & ((touched == a) | (touched == b) | (touched == c)) else 0
    return found


@lean_kernel
def gross_of(
    cycles: np.ndarray,
    weights: np.ndarray,
    state: PoolState,
    lane: int,
    candidate: int,
    amount: float,
) -> float:
    """Output - input of a plan on one state of a tile's pools, hub tokens.

    `amount` is the input of a cycle, or the debt that a liquidation repays.
    """
    never_inline()
    tile, pools, count = state.tile, state.pools, cycles.shape[0]
    if candidate >= count:
        loan = candidate - count
        pool = int(tile[LOAN_POOL + loan, lane])
        hub_first = tile[LOAN_HUB_FIRST + loan, lane] > 0.0
        reserve_in = tile[state.first + pool + (0 if hub_first else pools), lane]
        reserve_out = tile[state.first + pool + (pools if hub_first else 0), lane]
        value = amount * tile[LOAN_PRICE + loan, lane] * (1.0 + LIQUIDATION_BONUS)
        return value - cost_to_repay(amount, reserve_in, reserve_out, weights[pool])
    out = amount
    for hop in range(cycles[candidate, HOPS]):
        pool = int(cycles[candidate, POOL + hop])
        forward = cycles[candidate, ROW_IN + hop] < pools
        out = quote(state, lane, pool, forward, out, weights[pool])
    return out - amount


@inline
def size_of(cycles: int, tile: np.ndarray, lane: int, k: int) -> float:
    """What `gross_of` takes for the whole size of opportunity k."""
    candidate = int(tile[FOUND_CYCLE + k, lane])
    if candidate >= cycles:
        return tile[LOAN_REPAID + candidate - cycles, lane]
    return tile[FOUND_AMOUNT_IN + k, lane]


@inline
def _within_segments(
    rows: Layout, cycles: np.ndarray, tile: np.ndarray, lane: int, candidate: int
) -> tuple[float, float, float]:
    """(A, C, most): a cycle's Moebius map x -> A x / (1 + C x) on the overlaid reserves, and the
    input up to which no concentrated pool on the way leaves its segment."""
    reserve, rate = rows.overlay, rows.rate
    A, C, until = 1.0, 0.0, np.inf
    for hop in range(cycles[candidate, HOPS]):
        row_in, row_out = cycles[candidate, ROW_IN + hop], cycles[candidate, ROW_OUT + hop]
        capacity = tile[reserve + 2 * rows.pools + row_in, lane]
        # x A / (1 + x C) < capacity, for all x when the slope is not above 0.
        slope = A - C * capacity
        if slope > 0.0 and capacity < until * slope:
            until = capacity / slope
        C += A * tile[rate + row_in, lane]
        A *= tile[rate + row_in, lane] * tile[reserve + row_out, lane]
    return A, C, until


@inline
def _describe(
    rows: Layout, cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray, lane: int, k: int
) -> None:
    """The rows of opportunity k beside its candidate and net."""
    count, state = rows.cycles, overlaid_state(tile, rows)
    candidate = int(tile[FOUND_CYCLE + k, lane])
    amount = tile[rows.amount_in + candidate, lane]
    gross = tile[rows.gross + candidate, lane]
    gas = gross - tile[FOUND_NET + k, lane]
    tile[FOUND_POOLS + k, lane] = 1.0
    concentrated = 0.0
    if candidate < count:
        for hop in range(cycles[candidate, HOPS]):
            beyond = cycles[candidate, POOL + hop] >= int(tile[CONCENTRATED_FROM, lane])
            concentrated += 1.0 if beyond else 0.0
        tile[FOUND_POOLS + k, lane] = cycles[candidate, HOPS]
        A, C, until = _within_segments(rows, cycles, tile, lane, candidate)
        # A size that stops at the end of a segment may miss it by a rounding.
        if amount < until * NEARLY:
            part = 0.5 * amount
            half = A * part / (1.0 + C * part) - part
        else:
            across, more = best_input_across(cycles, weights, state, lane, candidate)
            if across > amount and more > gross:
                amount, gross = across, more
                tile[FOUND_NET + k, lane] = gross - gas
            half = gross_of(cycles, weights, state, lane, candidate, 0.5 * amount)
    else:
        part = 0.5 * tile[LOAN_REPAID + candidate - count, lane]
        half = gross_of(cycles, weights, state, lane, candidate, part)
    tile[FOUND_CONCENTRATED + k, lane] = concentrated
    tile[FOUND_PUBLIC_BID + k, lane] = 0.0
    tile[FOUND_AMOUNT_IN + k, lane] = amount
    tile[FOUND_GROSS + k, lane] = gross
    tile[FOUND_HALF_NET + k, lane] = half - gas
    targets = _targets(cycles, tile, lane, candidate)
    tile[FOUND_TARGETS + k, lane] = targets
    refund = 0.0
    for swap in range(PENDING):
        sold = (tile[PENDING_REFUND + swap, lane] > 0.0) & ((targets >> swap) & 1 == 1)
        refund = 1.0 if sold else refund
    tile[FOUND_REFUND + k, lane] = refund
    tile[FOUND_AGE + k, lane] = tile[SLOT, lane] - tile[rows.since + candidate, lane]


@inline
def _forget(tile: np.ndarray, lane: int, like: Floats) -> None:
    """What is known of opportunities before they are described: nothing."""
    open_ = load(tile, KEPT, lane, like) <= 0.0
    for row in range(FOUND_AMOUNT_IN, FOUND_GROSS + OPPORTUNITIES):
        store(tile, row, lane, choose(open_, like, load(tile, row, lane, like)))
    for row in range(FOUND_HALF_NET, FOUND_COUNT):
        store(tile, row, lane, choose(open_, like, load(tile, row, lane, like)))


@inline
def _find(
    rows: Layout,
    cycles: np.ndarray,
    weights: np.ndarray,
    tile: np.ndarray,
    lane: int,
    like: Floats,
) -> None:
    """`find` in the lanes at hand."""
    _choose_disjoint(rows, cycles, weights, tile, lane, like)
    _forget(tile, lane, like)
    work, count = new_list(), 0
    open_ = load(tile, KEPT, lane, like) <= 0.0
    for k in range(OPPORTUNITIES):
        there = open_ & (load(tile, FOUND_CYCLE + k, lane, like) >= 0.0)
        count = append(work, count, lane_numbers(like) + (lane + k * LANES), there)
    for index in range(count):
        item = entry(work, index)
        _describe(rows, cycles, weights, tile, item % LANES, item // LANES)


@lean_kernel
def find(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Choose K pool-disjoint candidates greedily by net = gross - gas * (base fee + own tip).

    They are ranked by what they earn up to the end of a concentrated pool's segment, and then sized
    across segments. Reads the sized candidates, the gas rows and the pending rows; writes the
    FOUND_* rows, best first: candidate (-1 none), amount_in (hub tokens), gross, net and half_net
    (ETH), targets (bit mask over pending swaps), refund, age (slots), public_bid (0: a simulator or
    a mempool knows); the net rows and since rows too. Ties go to the lower candidate.
    Lanes whose row KEPT is set stay as they are.
    """
    never_inline()
    rows = layout(weights.shape[0] - cycles.shape[0], cycles.shape[0])
    if tile.shape[1] == LANES:
        for lane in range(0, LANES, WIDTH):
            _find(rows, cycles, weights, tile, lane, wide())
    else:
        for lane in range(tile.shape[1]):
            _find(rows, cycles, weights, tile, lane, 0.0)
