"""The best arbitrages and liquidations that can all execute in one block: disjoint in pools, best
first.
"""

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph import HOPS, MAX_HOPS, POOL, ROW_IN, ROW_OUT
from kernels.lending import LIQUIDATION_BONUS, LIQUIDATION_GAS, cost_to_repay
from kernels.market import (
    BASE_FEE,
    BORROWERS,
    CONCENTRATED_FROM,
    FOUND_AGE,
    FOUND_AMOUNT_IN,
    FOUND_COUNT,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_HALF_NET,
    FOUND_NET,
    FOUND_PUBLIC_BID,
    FOUND_REFUND,
    FOUND_TARGETS,
    LANES,
    LIQUIDITY,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    LOAN_REPAID,
    LOWEST_ROOT,
    OPPORTUNITIES,
    OVERLAY_SEGMENT,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_REFUND,
    PENDING_VISIBLE,
    SCRATCH_ROWS,
    SEGMENT_ROOT,
    SEGMENTS,
    SLOT,
    amount_in_row,
    amount_out,
    concentrated_row,
    gross_row,
    net_row,
    overlay_row,
    quote,
    since_row,
)

GWEI = 1e-9  # ETH
# The fast search keeps the pools of a candidate in one 64-bit word.
MAX_WORD_POOLS = 62

USED = SCRATCH_ROWS  # bits of the pools that are taken, as the bytes of a float64
BEST = SCRATCH_ROWS + 1  # candidate, and its net in the next row
OPEN = SCRATCH_ROWS + 3  # infinite when a lane cannot find more
# State of the hops of one cycle, [3] each: reserves, input until the segment's end, segment.
HOP_IN = SCRATCH_ROWS + 4
HOP_OUT = HOP_IN + MAX_HOPS
HOP_CAPACITY = HOP_OUT + MAX_HOPS
HOP_SEGMENT = HOP_CAPACITY + MAX_HOPS


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
def _nets(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray, lanes: int) -> None:
    """Net of every candidate, since when it has paid its gas, how many do, and which is best."""
    count = cycles.shape[0]
    pools = weights.shape[0] - count
    for lane in range(lanes):
        tile[FOUND_COUNT, lane] = 0.0
        tile[FOUND_CYCLE, lane] = -1.0
        tile[FOUND_NET, lane] = 0.0
    for candidate in range(count + BORROWERS):
        gross, net = gross_row(pools, count) + candidate, net_row(pools, count) + candidate
        since = since_row(pools) + candidate
        gas = candidate_gas(weights, pools, count, candidate) * GWEI
        for lane in range(lanes):
            profit = tile[gross, lane] - gas * (tile[BASE_FEE, lane] + tile[OWN_TIP, lane])
            tile[net, lane] = profit
            before = tile[since, lane]
            start = tile[SLOT, lane] if before < 0.0 else before
            tile[since, lane] = start if profit > 0.0 else -1.0
            tile[FOUND_COUNT, lane] += 1.0 if profit > 0.0 else 0.0
            best = tile[FOUND_NET, lane]
            tile[FOUND_CYCLE, lane] = candidate if profit > best else tile[FOUND_CYCLE, lane]
            tile[FOUND_NET, lane] = profit if profit > best else best


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
def _choose_next(cycles: np.ndarray, first_net: int, tile: np.ndarray, lane: int, k: int) -> bool:
    """Write the best candidate without a pool of the k chosen ones, -1 when none pays its gas."""
    best, best_net = -1, 0.0
    for candidate in range(cycles.shape[0] + BORROWERS):
        net = tile[first_net + candidate, lane]
        if net <= best_net:
            continue
        free = True
        for earlier in range(k):
            other = int(tile[FOUND_CYCLE + earlier, lane])
            if _share_a_pool(cycles, tile, lane, candidate, other):
                free = False
                break
        if free:
            best, best_net = candidate, net
    tile[FOUND_CYCLE + k, lane] = best
    tile[FOUND_NET + k, lane] = best_net
    return best >= 0


@inline
def _word(cycles: np.ndarray, tile: np.ndarray, lane: int, candidate: int) -> int:
    """The pools of a candidate as bits."""
    bits = 0
    for place in range(MAX_HOPS):
        pool = candidate_pool(cycles, tile, lane, candidate, place)
        bits |= (1 << pool) if pool >= 0 else 0
    return bits


@inline
def _choose_in_all_lanes(cycles: np.ndarray, first_net: int, tile: np.ndarray) -> None:
    """`_choose_next` for k = 1 .. K - 1 in 16 lanes at once, without a branch on their data."""
    count = cycles.shape[0]
    for lane in range(LANES):
        first = int(tile[FOUND_CYCLE, lane])
        bits = _word(cycles, tile, lane, first) if first >= 0 else 0
        tile[USED, lane] = np.int64(bits).view(np.float64)
    for k in range(1, OPPORTUNITIES):
        more = 0.0
        for lane in range(LANES):
            tile[BEST, lane] = -1.0
            tile[BEST + 1, lane] = 0.0
            # A second choice needs a second candidate that pays.
            open_ = tile[FOUND_CYCLE + k - 1, lane] >= 0.0 and tile[FOUND_COUNT, lane] > k
            tile[OPEN, lane] = 0.0 if open_ else np.inf
            more += 1.0 if open_ else 0.0
        if more > 0.0:
            for candidate in range(count):
                bits = np.int64(_word(cycles, tile, 0, candidate))
                net = first_net + candidate
                for lane in range(LANES):
                    taken = np.float64(tile[USED, lane]).view(np.int64) & bits
                    profit = tile[net, lane] - tile[OPEN, lane]
                    better = (taken == 0) & (profit > tile[BEST + 1, lane])
                    tile[BEST, lane] = candidate if better else tile[BEST, lane]
                    tile[BEST + 1, lane] = profit if better else tile[BEST + 1, lane]
            for loan in range(BORROWERS):
                for lane in range(LANES):
                    profit = tile[first_net + count + loan, lane]
                    if profit > 0.0 and profit - tile[OPEN, lane] > tile[BEST + 1, lane]:
                        bits = np.int64(_word(cycles, tile, lane, count + loan))
                        if (np.float64(tile[USED, lane]).view(np.int64) & bits) == 0:
                            tile[BEST, lane] = count + loan
                            tile[BEST + 1, lane] = profit
        for lane in range(LANES):
            best = int(tile[BEST, lane])
            tile[FOUND_CYCLE + k, lane] = best
            tile[FOUND_NET + k, lane] = tile[BEST + 1, lane]
            if best >= 0:
                bits = np.int64(_word(cycles, tile, lane, best))
                tile[USED, lane] = np.int64(
                    np.float64(tile[USED, lane]).view(np.int64) | bits
                ).view(np.float64)


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
    tile: np.ndarray,
    lane: int,
    candidate: int,
    first: int,
    amount: float,
) -> float:
    """Output - input of a plan in the state at row `first`, hub tokens.

    `amount` is the input of a cycle, or the debt that a liquidation repays.
    """
    never_inline()
    count = cycles.shape[0]
    pools = weights.shape[0] - count
    if candidate >= count:
        loan = candidate - count
        pool = int(tile[LOAN_POOL + loan, lane])
        hub_first = tile[LOAN_HUB_FIRST + loan, lane] > 0.0
        reserve_in = tile[first + pool + (0 if hub_first else pools), lane]
        reserve_out = tile[first + pool + (pools if hub_first else 0), lane]
        value = amount * tile[LOAN_PRICE + loan, lane] * (1.0 + LIQUIDATION_BONUS)
        return value - cost_to_repay(amount, reserve_in, reserve_out, weights[pool])
    out = amount
    for hop in range(cycles[candidate, HOPS]):
        pool = int(cycles[candidate, POOL + hop])
        forward = cycles[candidate, ROW_IN + hop] < pools
        out = quote(tile, lane, pools, count, first, pool, forward, out, weights[pool])
    return out - amount


@inline
def _load_hops(cycles: np.ndarray, tile: np.ndarray, lane: int, pools: int, candidate: int) -> bool:
    """Overlaid state of a cycle's hops into scratch rows; whether a pool is concentrated."""
    first, concentrated = overlay_row(pools), False
    for hop in range(cycles[candidate, HOPS]):
        row_in, row_out = cycles[candidate, ROW_IN + hop], cycles[candidate, ROW_OUT + hop]
        tile[HOP_IN + hop, lane] = tile[first + row_in, lane]
        tile[HOP_OUT + hop, lane] = tile[first + row_out, lane]
        tile[HOP_CAPACITY + hop, lane] = tile[first + 2 * pools + row_in, lane]
        pool = int(cycles[candidate, POOL + hop])
        index = pool - int(tile[CONCENTRATED_FROM, lane])
        if index >= 0:
            concentrated = True
            at = concentrated_row(pools, cycles.shape[0], index)
            tile[HOP_SEGMENT + hop, lane] = tile[at + OVERLAY_SEGMENT, lane]
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
    cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray, lane: int, candidate: int
) -> float:
    """Best input of a cycle whose concentrated pools may pass the ends of their segments.

    Profit is concave: while the best input of the present segments does not fit, fill them, let the
    first full pool go on to its next segment, and look again. 0 without concentrated pools.
    """
    never_inline()
    pools = weights.shape[0] - cycles.shape[0]
    if not _load_hops(cycles, tile, lane, pools, candidate):
        return 0.0
    hops, total = cycles[candidate, HOPS], 0.0
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
            return total + best
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
        pool = int(cycles[candidate, POOL + full])
        at = concentrated_row(pools, cycles.shape[0], pool - int(tile[CONCENTRATED_FROM, lane]))
        forward = cycles[candidate, ROW_IN + full] < pools
        _next_segment(tile, lane, at, full, forward, float(weights[pool]))
    return total


@inline
def size_of(cycles: int, tile: np.ndarray, lane: int, k: int) -> float:
    """What `gross_of` takes for the whole size of opportunity k."""
    candidate = int(tile[FOUND_CYCLE + k, lane])
    if candidate >= cycles:
        return tile[LOAN_REPAID + candidate - cycles, lane]
    return tile[FOUND_AMOUNT_IN + k, lane]


@inline
def _describe(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray, lane: int, k: int) -> None:
    """The rows of opportunity k beside its candidate and net."""
    count = cycles.shape[0]
    pools = weights.shape[0] - count
    candidate = int(tile[FOUND_CYCLE + k, lane])
    tile[FOUND_AMOUNT_IN + k, lane] = tile[amount_in_row(pools, count) + candidate, lane]
    gross = tile[gross_row(pools, count) + candidate, lane]
    if candidate < count and tile[CONCENTRATED_FROM, lane] < pools:
        across = best_input_across(cycles, weights, tile, lane, candidate)
        if across > tile[FOUND_AMOUNT_IN + k, lane]:
            first = overlay_row(pools)
            more = gross_of(cycles, weights, tile, lane, candidate, first, across)
            if more > gross:
                tile[FOUND_NET + k, lane] += more - gross
                tile[FOUND_AMOUNT_IN + k, lane] = across
                gross = more
    tile[FOUND_GROSS + k, lane] = gross
    half = gross_of(
        cycles,
        weights,
        tile,
        lane,
        candidate,
        overlay_row(pools),
        0.5 * size_of(count, tile, lane, k),
    )
    tile[FOUND_HALF_NET + k, lane] = half - (gross - tile[FOUND_NET + k, lane])
    targets = _targets(cycles, tile, lane, candidate)
    tile[FOUND_TARGETS + k, lane] = targets
    refund = 0.0
    for swap in range(PENDING):
        sold = tile[PENDING_REFUND + swap, lane] > 0.0 and (targets >> swap) & 1 == 1
        refund = 1.0 if sold else refund
    tile[FOUND_REFUND + k, lane] = refund
    tile[FOUND_AGE + k, lane] = tile[SLOT, lane] - tile[since_row(pools) + candidate, lane]


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
    count = cycles.shape[0]
    pools = weights.shape[0] - count
    first_net = net_row(pools, count)
    together = tile.shape[1] == LANES and pools <= MAX_WORD_POOLS
    if together:
        _nets(cycles, weights, tile, LANES)
        _choose_in_all_lanes(cycles, first_net, tile)
    else:
        _nets(cycles, weights, tile, tile.shape[1])
    for lane in range(tile.shape[1]):
        if not together:
            more = tile[FOUND_CYCLE, lane] >= 0.0
            for k in range(1, OPPORTUNITIES):
                tile[FOUND_CYCLE + k, lane] = -1.0
                tile[FOUND_NET + k, lane] = 0.0
                if more:
                    more = _choose_next(cycles, first_net, tile, lane, k)
        for k in range(OPPORTUNITIES):
            tile[FOUND_PUBLIC_BID + k, lane] = 0.0
            if tile[FOUND_CYCLE + k, lane] >= 0.0:
                _describe(cycles, weights, tile, lane, k)
                continue
            tile[FOUND_AMOUNT_IN + k, lane] = 0.0
            tile[FOUND_GROSS + k, lane] = 0.0
            tile[FOUND_HALF_NET + k, lane] = 0.0
            tile[FOUND_TARGETS + k, lane] = 0.0
            tile[FOUND_REFUND + k, lane] = 0.0
            tile[FOUND_AGE + k, lane] = 0.0
