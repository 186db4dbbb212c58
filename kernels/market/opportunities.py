"""The best arbitrages and liquidations that can all execute in one block: disjoint in pools, best
first.
"""

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
    FOUND_REFUND,
    FOUND_TARGETS,
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
    Layout,
    layout,
)
from kernels.numbers.lanes import WIDTH, Floats, any_lane, choose, load, store, whole, wide

GWEI = 1e-9  # ETH
# The fast search keeps the pools of a candidate in one 64-bit word.
MAX_WORD_POOLS = 62
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
def _word(cycles: np.ndarray, candidate: int) -> int:
    """The pools of a cycle as bits."""
    bits = 0
    for hop in range(cycles[candidate, HOPS]):
        bits |= 1 << int(cycles[candidate, POOL + hop])
    return bits


@inline
def _nets(rows: Layout, weights: np.ndarray, tile: np.ndarray, lane: int, like: Floats) -> None:
    """Net of every candidate, since when it has paid its gas, and how many do."""
    count = rows.cycles
    price = (load(tile, BASE_FEE, lane, like) + load(tile, OWN_TIP, lane, like)) * GWEI
    slot, paying = load(tile, SLOT, lane, like), like
    for candidate in range(count + BORROWERS):
        gas = candidate_gas(weights, rows.pools, count, candidate)
        profit = load(tile, rows.gross + candidate, lane, like) - gas * price
        store(tile, rows.net + candidate, lane, profit)
        row = rows.since + candidate
        before = load(tile, row, lane, like)
        start = choose(before < 0.0, slot, before)
        store(tile, row, lane, choose(profit > 0.0, start, like - 1.0))
        paying += choose(profit > 0.0, like + 1.0, like)
    store(tile, FOUND_COUNT, lane, paying)


@inline
def _choose_disjoint(
    cycles: np.ndarray, first_net: int, tile: np.ndarray, lane: int, like: Floats
) -> None:
    """The K best candidates without a common pool: FOUND_CYCLE (-1 none) and FOUND_NET.

    Of pools whose number does not fit a word the answer is wrong: see `_choose_one_by_one`.
    """
    count = cycles.shape[0]
    paying = load(tile, FOUND_COUNT, lane, like)
    used = whole(like)
    more = paying > 0.0
    for k in range(OPPORTUNITIES):
        best, best_net, best_bits = like - 1.0, like, whole(like)
        # A second choice needs a second candidate that pays.
        more = more & (paying > k)
        if any_lane(more):
            for candidate in range(count):
                bits = _word(cycles, candidate)
                net = load(tile, first_net + candidate, lane, like)
                better = ((used & bits) == 0) & (net > best_net)
                best = choose(better, like + candidate, best)
                best_net = choose(better, net, best_net)
                best_bits = choose(better, whole(like) + bits, best_bits)
            for loan in range(BORROWERS):
                net = load(tile, first_net + count + loan, lane, like)
                better = net > best_net
                if any_lane(better):
                    bits = whole(like + 1.0) << whole(load(tile, LOAN_POOL + loan, lane, like))
                    better = better & ((used & bits) == 0)
                    best = choose(better, like + (count + loan), best)
                    best_net = choose(better, net, best_net)
                    best_bits = choose(better, bits, best_bits)
        store(tile, FOUND_CYCLE + k, lane, best)
        store(tile, FOUND_NET + k, lane, best_net)
        used = used | best_bits
        more = more & (best >= 0.0)


@inline
def _share_a_pool(cycles: np.ndarray, tile: np.ndarray, lane: int, one: int, other: int) -> bool:
    for i in range(MAX_HOPS):
        pool = candidate_pool(cycles, tile, lane, one, i)
        if pool >= 0:
            for j in range(MAX_HOPS):
                if pool == candidate_pool(cycles, tile, lane, other, j):
                    return True
    return False


@inline
def _choose_one_by_one(cycles: np.ndarray, first_net: int, tile: np.ndarray, lane: int) -> None:
    """What `_choose_disjoint` does, for graphs whose pools do not fit a word."""
    for k in range(OPPORTUNITIES):
        best, best_net = -1, 0.0
        for candidate in range(cycles.shape[0] + BORROWERS):
            net = tile[first_net + candidate, lane]
            if net <= best_net:
                continue
            free = True
            for earlier in range(k):
                other = int(tile[FOUND_CYCLE + earlier, lane])
                if other >= 0 and _share_a_pool(cycles, tile, lane, candidate, other):
                    free = False
                    break
            if free:
                best, best_net = candidate, net
        tile[FOUND_CYCLE + k, lane] = best
        tile[FOUND_NET + k, lane] = best_net


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
    if candidate < count:
        concentrated = 0.0
        for hop in range(cycles[candidate, HOPS]):
            beyond = cycles[candidate, POOL + hop] >= int(tile[CONCENTRATED_FROM, lane])
            concentrated += 1.0 if beyond else 0.0
        tile[FOUND_POOLS + k, lane] = cycles[candidate, HOPS]
        tile[FOUND_CONCENTRATED + k, lane] = concentrated
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
    for row in range(FOUND_AMOUNT_IN, FOUND_GROSS + OPPORTUNITIES):
        store(tile, row, lane, like)
    for row in range(FOUND_HALF_NET, FOUND_COUNT):
        store(tile, row, lane, like)


@lean_kernel
def find(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Choose K pool-disjoint candidates greedily by net = gross - gas * (base fee + own tip).

    They are ranked by what they earn up to the end of a concentrated pool's segment, and then sized
    across segments. Reads the sized candidates, the gas rows and the pending rows; writes the
    FOUND_* rows, best first: candidate (-1 none), amount_in (hub tokens), gross, net and half_net
    (ETH), targets (bit mask over pending swaps), refund, age (slots), public_bid (0: a simulator or
    a mempool knows); the net rows and since rows too. Ties go to the lower candidate.
    """
    never_inline()
    rows = layout(weights.shape[0] - cycles.shape[0], cycles.shape[0])
    if tile.shape[1] == LANES:
        for lane in range(0, LANES, WIDTH):
            _nets(rows, weights, tile, lane, wide())
            _choose_disjoint(cycles, rows.net, tile, lane, wide())
            _forget(tile, lane, wide())
    else:
        for lane in range(tile.shape[1]):
            _nets(rows, weights, tile, lane, 0.0)
            _choose_disjoint(cycles, rows.net, tile, lane, 0.0)
            _forget(tile, lane, 0.0)
    for lane in range(tile.shape[1]):
        if rows.pools > MAX_WORD_POOLS:
            _choose_one_by_one(cycles, rows.net, tile, lane)
        for k in range(OPPORTUNITIES):
            if tile[FOUND_CYCLE + k, lane] < 0.0:
                break
            _describe(rows, cycles, weights, tile, lane, k)
