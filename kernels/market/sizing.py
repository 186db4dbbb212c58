"""Best input of every cycle in float64: the closed form for chains of constant-product pools.

A chain of V2 pools is a Moebius map x -> A x / (1 + C x); its best input is (sqrt(A) - 1) / C and
its profit (sqrt(A) - 1)^2 / C. A segment of a concentrated pool is such a map too, up to its end,
where the ranked plan stops (kernels.market.across goes on for the chosen ones). It only ranks:
amounts that are signed come from kernels.sizing.product_cycles.
"""

from typing import Any

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph.market_graph import HOPS, MAX_HOPS, POOL, ROW_IN, ROW_OUT
from kernels.market.tile import (
    CONCENTRATED_FROM,
    KEPT,
    LANES,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    SAME_HEAD,
    WORD,
    Layout,
    layout,
)
from kernels.numbers.lane_sets import append, entry, lane_numbers, new_list
from kernels.numbers.lanes import (
    WIDTH,
    Floats,
    Masks,
    any_lane,
    choose,
    least,
    load,
    real,
    square_root,
    store,
    whole,
    wide,
)

NEARLY = 1.0 - 1e-9
# So few cycles are sized all of them, eight lanes at once: choosing would cost as much.
FEW = WORD
# Eight lanes at once size all cycles faster than one after the other those of one in DENSE.
DENSE = 4


@inline
def _rate(
    weights: np.ndarray, rows: Layout, tile: np.ndarray, lane: int, pool: int, like: Floats
) -> None:
    """Rows rate and price of one pool."""
    gamma = float(weights[pool])
    reserve0 = load(tile, rows.overlay + pool, lane, like)
    reserve1 = load(tile, rows.overlay + rows.pools + pool, lane, like)
    rate0, rate1 = gamma / reserve0, gamma / reserve1
    store(tile, rows.rate + pool, lane, rate0)
    store(tile, rows.rate + rows.pools + pool, lane, rate1)
    store(tile, rows.price + pool, lane, rate0 * reserve1)
    store(tile, rows.price + rows.pools + pool, lane, rate1 * reserve0)


@inline
def _rates(weights: np.ndarray, rows: Layout, tile: np.ndarray, lane: int, like: Floats) -> None:
    """gamma / reserve per pool and side, shared by all cycles: divisions are what costs."""
    for pool in range(rows.pools):
        _rate(weights, rows, tile, lane, pool, like)


@inline
def _rates_again(
    weights: np.ndarray, rows: Layout, tile: np.ndarray, first: int, like: Floats
) -> None:
    """`_rates` of the pools that pending swaps trade in: of no other has the overlay changed."""
    work, count = new_list(), 0
    open_ = load(tile, KEPT, first, like) <= 0.0
    for swap in range(PENDING):
        there = open_ & (load(tile, PENDING_AMOUNT_IN + swap, first, like) > 0.0)
        count = append(work, count, lane_numbers(like) + (first + swap * LANES), there)
    for index in range(count):
        item = entry(work, index)
        lane = item % LANES
        _rate(weights, rows, tile, lane, int(tile[PENDING_POOL + item // LANES, lane]), 0.0)


@inline
def _is_capped(cycles: np.ndarray, cycle: int, plain: int) -> bool:
    """Whether the cycle passes a concentrated pool; a missing third pool is -1."""
    first, second, third = cycles[cycle, POOL], cycles[cycle, POOL + 1], cycles[cycle, POOL + 2]
    return max(first, second, third) >= plain


@inline
def _until_full(A: Floats, C: Floats, capacity: Floats) -> Floats:
    """x at which A x / (1 + C x) reaches `capacity`; infinite when it never does."""
    slope = A - C * capacity
    return choose(slope > 0.0, capacity / slope, np.inf)


@inline
def _overfills(amount: Floats, A: Floats, C: Floats, capacity: Floats) -> Masks:
    """Whether A x / (1 + C x) exceeds `capacity` at x = amount, without a division."""
    return amount * (A - C * capacity) > capacity


@inline
def _best_input(A: Floats, C: Floats) -> tuple[Floats, Floats]:
    """Input and profit of x -> A x / (1 + C x) - x; zeros unless finite and profitable."""
    edge = square_root(A) - 1.0
    amount = edge / C
    # Written so that NaN and infinity (an empty pool) mean "no opportunity".
    sound = (edge > 0.0) & (amount < np.inf)
    return choose(sound, amount, 0.0), choose(sound, edge * amount, 0.0)


@inline
def _may_pay(
    cycles: np.ndarray,
    rows: Layout,
    tile: np.ndarray,
    lane: int,
    word: int,
    like: Floats,
    work: Any,
) -> int:
    """Look row `word`: its cycles whose prices multiply to about 1 or more, and those looked at
    before. They are listed in `work`, as cycle * LANES + lane; how many there are.

    The product is rounded otherwise than the A of `_size_one`, by far less than NEARLY allows; it
    is written so that NaN is looked at.
    """
    count, first = 0, word * WORD
    open_ = load(tile, KEPT, lane, like) <= 0.0
    before = whole(load(tile, rows.look + word, lane, like))
    bits = whole(like)
    lanes = lane_numbers(like) + lane
    for place in range(min(WORD, rows.cycles - first)):
        cycle = first + place
        product = load(tile, rows.price + cycles[cycle, ROW_IN], lane, like)
        product *= load(tile, rows.price + cycles[cycle, ROW_IN + 1], lane, like)
        if cycles[cycle, HOPS] == MAX_HOPS:
            product *= load(tile, rows.price + cycles[cycle, ROW_IN + 2], lane, like)
        bit = whole(like) + (1 << place)
        may = (product >= NEARLY) | (product != product) | ((before & bit) != 0)
        may = open_ & (may | (load(tile, rows.since + cycle, lane, like) >= 0.0))
        bits = bits | choose(may, bit, whole(like))
        count = append(work, count, lanes + cycle * LANES, may)
    store(tile, rows.look + word, lane, choose(open_, real(bits), real(before)))
    return count


@inline
def _size_one(
    cycles: np.ndarray, rows: Layout, tile: np.ndarray, lane: int, cycle: int, like: Floats
) -> Masks:
    """Rows amount_in and gross of one cycle, and whether to look at it again."""
    reserve, rate = rows.overlay, rows.rate
    capacity = reserve + 2 * rows.pools
    plain = int(tile[CONCENTRATED_FROM, 0])
    in0, in1, in2 = cycles[cycle, ROW_IN], cycles[cycle, ROW_IN + 1], cycles[cycle, ROW_IN + 2]
    C1 = load(tile, rate + in0, lane, like)
    A1 = C1 * load(tile, reserve + cycles[cycle, ROW_OUT], lane, like)
    r = load(tile, rate + in1, lane, like)
    C2 = C1 + A1 * r
    A2 = A1 * r * load(tile, reserve + cycles[cycle, ROW_OUT + 1], lane, like)
    A, C = A2, C2
    three = cycles[cycle, HOPS] == MAX_HOPS
    if three:
        r = load(tile, rate + in2, lane, like)
        C = C2 + A2 * r
        A = A2 * r * load(tile, reserve + cycles[cycle, ROW_OUT + 2], lane, like)
    amount, profit = like, like
    if any_lane(A > 1.0):
        amount, profit = _best_input(A, C)
    if any_lane(A > 1.0) and _is_capped(cycles, cycle, plain):
        most0 = load(tile, capacity + in0, lane, like)
        most1 = load(tile, capacity + in1, lane, like)
        over = (amount > most0) | _overfills(amount, A1, C1, most1)
        if three:
            most2 = load(tile, capacity + in2, lane, like)
            over = over | _overfills(amount, A2, C2, most2)
        if any_lane(over):
            until = least(most0, _until_full(A1, C1, most1))
            if three:
                most2 = load(tile, capacity + in2, lane, like)
                until = least(until, _until_full(A2, C2, most2))
            capped = A * until / (1.0 + C * until) - until
            profit = choose(over, choose(capped > 0.0, capped, 0.0), profit)
            amount = choose(over, least(until, amount), amount)
    store(tile, rows.amount_in + cycle, lane, amount)
    store(tile, rows.gross + cycle, lane, profit)
    return (profit > 0.0) | (load(tile, rows.since + cycle, lane, like) >= 0.0)


@inline
def _size_all(
    cycles: np.ndarray, rows: Layout, tile: np.ndarray, lane: int, word: int, like: Floats
) -> None:
    """Every cycle of a look row in the lanes at hand."""
    bits, first = whole(like), word * WORD
    for place in range(min(WORD, rows.cycles - first)):
        again = _size_one(cycles, rows, tile, lane, first + place, like)
        bits = bits | choose(again, whole(like) + (1 << place), whole(like))
    store(tile, rows.look + word, lane, real(bits))


@inline
def _size_word(
    cycles: np.ndarray, rows: Layout, tile: np.ndarray, lane: int, word: int, like: Floats
) -> None:
    """The cycles of a look row that may pay; those that earn nothing any more leave it."""
    if rows.cycles <= FEW:
        _size_all(cycles, rows, tile, lane, word, like)
        return
    work = new_list()
    count = _may_pay(cycles, rows, tile, lane, word, like, work)
    if DENSE * count > WIDTH * min(WORD, rows.cycles - word * WORD):
        _size_all(cycles, rows, tile, lane, word, like)
        return
    for index in range(count):
        item = entry(work, index)
        cycle, one = item // LANES, item % LANES
        again = _size_one(cycles, rows, tile, one, cycle, 0.0)
        bit = np.float64(1 << (cycle - word * WORD))
        tile[rows.look + word, one] -= choose(again, 0.0, bit)


@lean_kernel
def size_cycles(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Size every cycle on the overlaid reserves: writes the rate, amount_in and gross rows.

    Hub tokens and ETH; both 0 where the cycle does not pay, or where a reserve is 0. Only cycles
    whose prices multiply to 1 are sized, and those that were looked at before. Lanes whose row KEPT
    is set may stay as they are. Compiled without fastmath, so that one lane and sixteen give the
    same bits.
    """
    never_inline()
    rows = layout(weights.shape[0] - cycles.shape[0], cycles.shape[0])
    if tile.shape[1] == LANES:
        for lane in range(0, LANES, WIDTH):
            if any_lane(load(tile, SAME_HEAD, lane, wide()) <= 0.0):
                _rates(weights, rows, tile, lane, wide())
            else:
                _rates_again(weights, rows, tile, lane, wide())
            for word in range(rows.since - rows.look):
                _size_word(cycles, rows, tile, lane, word, wide())
    else:
        for lane in range(tile.shape[1]):
            _rates(weights, rows, tile, lane, 0.0)
            for word in range(rows.since - rows.look):
                _size_word(cycles, rows, tile, lane, word, 0.0)
