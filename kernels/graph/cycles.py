"""All arbitrage cycles through the hub of a large token graph, indexed by pool.

Cycles of two and three hops are complete; four hops multiply the degrees of two more tokens, so
that only deep pools take part in them. An updated pool names the cycles to look at again, and each
is sized by the closed form of `kernels.sizing.product_cycles` in float64: it ranks, integers
decide.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compile import inline, kernel, lean_kernel
from kernels.graph.token_graph import TokenGraph

MAX_CYCLES = 1 << 26
# Â of four hops has a relative error below 24 u (u = 2^-53): 5 u per rate (two reserves and keep
# converted, a quotient, a product), 1 u per product. Above 1 - 32 u no paying cycle is missed.
PAYS_ABOVE = 1.0 - 2.0**-48

# Columns of CycleIndex.records: up to MAX_HOPS edges, then the cycle's number.
MAX_HOPS = 4


class CycleIndex(NamedTuple):
    """C undirected cycles of the hub as edges [C, H] in one of their two directions.

    The other direction is the edges ^ 1 in reverse order. Missing hops are the neutral edge 2 P.
    The cycles of pool p are the rows start[p] .. start[p + 1] of `records`, int32[N, H + 1]: their
    edges and their number, copied so that evaluation reads memory in order.
    """

    edges: NDArray[np.int32]
    hops: NDArray[np.int64]  # [C]
    start: NDArray[np.int64]  # [P + 1]
    records: NDArray[np.int32]


@inline
def _put(cycles: NDArray[np.int32], at: int, e0: Any, e1: Any, e2: Any, e3: Any) -> int:
    """Write a cycle when there is room for it; the next place."""
    if at < cycles.shape[0]:
        cycles[at, 0] = e0
        cycles[at, 1] = e1
        if cycles.shape[1] > 2:
            cycles[at, 2] = e2
        if cycles.shape[1] > 3:
            cycles[at, 3] = e3
    return at + 1


@kernel
def _walk(
    start: NDArray[np.int64],
    edge: NDArray[np.int32],
    target: NDArray[np.int32],
    to_hub: NDArray[np.int64],
    hub: int,
    deep: NDArray[np.bool_],
    max_hops: int,
    cycles: NDArray[np.int32],
) -> int:
    """Count cycles, and write as many as `cycles` has rows; the first pool is the one that is less
    than the last, which picks one of the two directions."""
    neutral = 2 * deep.shape[0]
    at = 0
    for i in range(start[hub], start[hub + 1]):
        first, a = edge[i], target[i]
        pool = first >> 1
        for j in range(start[a], start[a] + to_hub[a]):
            if edge[j] >> 1 > pool:
                at = _put(cycles, at, first, edge[j], neutral, neutral)
        if max_hops < 3:
            continue
        for j in range(start[a] + to_hub[a], start[a + 1]):
            second, b = edge[j], target[j]
            for k in range(start[b], start[b] + to_hub[b]):
                if edge[k] >> 1 > pool:
                    at = _put(cycles, at, first, second, edge[k], neutral)
            if max_hops < 4 or not (deep[pool] and deep[second >> 1]):
                continue
            for k in range(start[b] + to_hub[b], start[b + 1]):
                third, c = edge[k], target[k]
                # Back to a would be two cycles in one.
                if c == a or not deep[third >> 1]:
                    continue
                for m in range(start[c], start[c] + to_hub[c]):
                    last = edge[m] >> 1
                    if last > pool and deep[last]:
                        at = _put(cycles, at, first, second, third, edge[m])
    return at


def build_cycle_index(
    graph: TokenGraph,
    max_hops: int = 3,
    depth: NDArray[np.float64] | None = None,
    min_depth: float = 0.0,
    max_cycles: int = MAX_CYCLES,
) -> CycleIndex:
    """Enumerate every cycle of 2 .. max_hops hops from hub to hub, no token and no pool twice.

    Cycles of 4 hops take only pools of at least `min_depth` (`token_graph.hub_depth`). Raises
    ValueError before it enumerates more than `max_cycles`.
    """
    pools = graph.token0.size
    if not 2 <= max_hops <= MAX_HOPS:
        raise ValueError(f"max_hops {max_hops}: expected 2 to {MAX_HOPS}")
    if depth is not None and np.shape(depth) != (pools,):
        raise ValueError(f"depth {np.shape(depth)}: expected one number per pool, {pools}")
    deep = np.ones(pools, bool) if depth is None else np.asarray(depth) >= min_depth
    columns = (graph.start, graph.edge, graph.target, graph.to_hub, graph.hub, deep, max_hops)
    width = max(max_hops, 3)
    count = _walk(*columns, np.zeros((0, width), np.int32))
    if count > max_cycles:
        raise ValueError(
            f"{count} cycles of up to {max_hops} hops, more than {max_cycles}: raise min_depth, or "
            "set max_hops to 3"
        )
    edges = np.empty((count, width), np.int32)
    _walk(*columns, edges)
    real = edges < 2 * pools
    hops = real.sum(axis=1)
    # Sorted by number of hops: a stable order that does not depend on how they were found.
    order = np.argsort(hops, kind="stable")
    edges, hops, real = edges[order], hops[order], real[order]
    cycle, _ = np.nonzero(real)
    pool = edges[real] >> 1
    by_pool = np.argsort(pool, kind="stable")
    start = np.searchsorted(pool[by_pool], np.arange(pools + 1)).astype(np.int64)
    records = np.concatenate([edges[cycle[by_pool]], cycle[by_pool, None].astype(np.int32)], axis=1)
    return CycleIndex(edges, hops.astype(np.int64), start, np.ascontiguousarray(records))


@inline
def _size(
    quotes: NDArray[np.float64], e0: Any, e1: Any, e2: Any, e3: Any
) -> tuple[float, float, float]:
    """(rate, best input, profit) of up to four edges; input and profit 0 where it does not pay."""
    rate = quotes[0, e0]
    slope = quotes[1, e0] + rate * quotes[1, e1]
    rate *= quotes[0, e1]
    slope += rate * quotes[1, e2]
    rate *= quotes[0, e2]
    slope += rate * quotes[1, e3]
    rate *= quotes[0, e3]
    edge = max(np.sqrt(rate) - 1.0, 0.0)
    amount = edge / slope
    return rate, amount, edge * amount


@inline
def _fits(
    start: NDArray[np.int64],
    records: NDArray[np.int32],
    quotes: NDArray[np.float64],
    found: NDArray[np.float64],
) -> bool:
    """Whether the arrays of `evaluate_pool` belong together."""
    width = records.shape[1] - 1
    return (
        3 <= width <= MAX_HOPS
        and quotes.shape[0] == 2
        and quotes.shape[1] == 2 * start.shape[0]
        and found.shape[1] == 4
    )


@lean_kernel
def evaluate_pool(
    start: NDArray[np.int64],
    records: NDArray[np.int32],
    quotes: NDArray[np.float64],
    pool: int,
    found: NDArray[np.float64],
) -> int:
    """Size all cycles through `pool` in both directions: how many pay.

    `quotes` is `edge_quotes`, up to date. Row k of `found`, float64[M, 4], describes paying cycle
    k < M: its number times 2, plus 1 when it runs against the direction stored; its marginal rate;
    its best input; its profit, both in smallest units of the hub. No paying cycle is missed: one
    whose rate is 1 within 2^-48 is listed with profit 0, for integers to decide. A count above M
    means that only the first M were written; -1 that the pool does not exist; -2 that `quotes` or
    `found` has another width, or that `quotes` belongs to another number of pools.
    """
    if not 0 <= pool < start.shape[0] - 1:
        return -1
    if not _fits(start, records, quotes, found):
        return -2
    width = records.shape[1] - 1
    neutral = quotes.shape[1] - 2
    count = 0
    for row in range(start[pool], start[pool + 1]):
        e0, e1, e2 = records[row, 0], records[row, 1], records[row, 2]
        e3 = records[row, 3] if width > 3 else np.int32(neutral)
        forward = quotes[0, e0] * quotes[0, e1] * quotes[0, e2] * quotes[0, e3]
        back = quotes[0, e3 ^ 1] * quotes[0, e2 ^ 1] * quotes[0, e1 ^ 1] * quotes[0, e0 ^ 1]
        if not (forward > PAYS_ABOVE or back > PAYS_ABOVE):
            continue
        for against in range(2):
            if against:
                rate, amount, profit = _size(quotes, e3 ^ 1, e2 ^ 1, e1 ^ 1, e0 ^ 1)
            else:
                rate, amount, profit = _size(quotes, e0, e1, e2, e3)
            if not rate > PAYS_ABOVE:
                continue
            if count < found.shape[0]:
                found[count, 0] = 2.0 * records[row, width] + against
                found[count, 1] = rate
                found[count, 2] = amount
                found[count, 3] = profit
            count += 1
    return count


@lean_kernel
def update_pool(
    start: NDArray[np.int64],
    records: NDArray[np.int32],
    quotes: NDArray[np.float64],
    pool: int,
    reserve0: float,
    reserve1: float,
    keep0: float,
    keep1: float,
    found: NDArray[np.float64],
) -> int:
    """Write a pool's new reserves into `quotes`, then `evaluate_pool`.

    Reserves that are not above 0 and finite close the pool: nothing through it pays.
    """
    if not 0 <= pool < start.shape[0] - 1:
        return -1
    if not _fits(start, records, quotes, found):
        return -2
    sound = 0.0 < reserve0 < np.inf and 0.0 < reserve1 < np.inf
    slope0 = keep0 / reserve0 if sound else 0.0
    slope1 = keep1 / reserve1 if sound else 0.0
    quotes[0, 2 * pool] = slope0 * reserve1 if sound else 0.0
    quotes[0, 2 * pool + 1] = slope1 * reserve0 if sound else 0.0
    quotes[1, 2 * pool] = slope0
    quotes[1, 2 * pool + 1] = slope1
    return evaluate_pool(start, records, quotes, pool, found)


def directed_cycle(index: CycleIndex, code: int) -> list[int]:
    """Edges from hub to hub of a cycle as `evaluate_pool` names it: number * 2 + against."""
    edges = index.edges[code >> 1, : index.hops[code >> 1]]
    return (edges[::-1] ^ 1 if code & 1 else edges).tolist()
