"""Bellman-Ford over log rates: the second opinion on which cycles of a token graph pay.

A cycle pays when the sum of its edges' log rates is above 0. Limited to a number of hops it proves
that an enumeration missed nothing; without a limit it finds one paying cycle of any length.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.checked_arrays import as_floats
from kernels.compile import kernel
from kernels.graph.token_graph import TokenGraph

MAX_HOPS = 8
NONE = -np.inf
# A relaxation must gain more than the rounding of a sum of logarithms.
LEAST_GAIN = 1e-12


@kernel
def _completions(
    start: NDArray[np.int64],
    edge: NDArray[np.int32],
    target: NDArray[np.int32],
    log_rates: NDArray[np.float64],
    hub: int,
    best: NDArray[np.float64],
) -> None:
    """best[k, t]: largest sum of log rates of k hops from token t to the hub, -inf for none."""
    tokens = best.shape[1]
    best[:] = NONE
    best[0, hub] = 0.0
    for k in range(1, best.shape[0]):
        for token in range(tokens):
            for i in range(start[token], start[token + 1]):
                total = log_rates[edge[i]] + best[k - 1, target[i]]
                if total > best[k, token]:
                    best[k, token] = total


def completions(
    graph: TokenGraph, log_rates: NDArray[np.float64], hops: int
) -> NDArray[np.float64]:
    """Hop-limited Bellman-Ford towards the hub: float64[hops + 1, T], layer k for exactly k hops.

    Row k at the hub is the best closed walk of k hops. A walk may pass a pool back and forth, which
    never gains: both directions of a pool multiply to its fee squared.
    """
    best = np.empty((_checked_hops(hops) + 1, graph.start.size - 1))
    _completions(
        graph.start, graph.edge, graph.target, _checked_rates(graph, log_rates), graph.hub, best
    )
    return best


@kernel
def _paying(
    start: NDArray[np.int64],
    edge: NDArray[np.int32],
    target: NDArray[np.int32],
    log_rates: NDArray[np.float64],
    hub: int,
    best: NDArray[np.float64],
    above: float,
    cycles: NDArray[np.int32],
) -> int:
    """Depth-first search that only follows what the best completion can still make pay."""
    count = 0
    place = np.zeros(best.shape[0], np.int64)
    path = np.zeros(best.shape[0], np.int64)
    tokens = np.zeros(best.shape[0] + 1, np.int64)
    total = np.zeros(best.shape[0] + 1)
    for hops in range(2, best.shape[0]):
        level = 0
        tokens[0] = hub
        place[0] = start[hub]
        while level >= 0:
            if place[level] == start[tokens[level] + 1]:
                level -= 1
                continue
            i = place[level]
            place[level] += 1
            reached, left = target[i], hops - level - 1
            value = total[level] + log_rates[edge[i]]
            if not value + best[left, reached] > above:
                continue
            visited = left > 0 and reached == hub
            for earlier in range(level):
                visited |= tokens[earlier + 1] == reached or path[earlier] >> 1 == edge[i] >> 1
            if visited:
                continue
            path[level] = edge[i]
            if left > 0:
                level += 1
                tokens[level] = reached
                total[level] = value
                place[level] = start[reached]
                continue
            if count < cycles.shape[0]:
                cycles[count] = -1
                for k in range(hops):
                    cycles[count, k] = path[k]
            count += 1
    return count


def paying_cycles(
    graph: TokenGraph, log_rates: NDArray[np.float64], hops: int, above: float = 0.0
) -> list[tuple[int, ...]]:
    """Every cycle of 2 .. hops edges from hub to hub whose log rates sum to more than `above`.

    No token and no pool twice. Complete, because `completions` bounds each continuation from above;
    sums are rounded, so that an `above` of -1e-12 lists what integers should decide.
    """
    log_rates = _checked_rates(graph, log_rates)
    best = completions(graph, log_rates, hops)
    columns = (graph.start, graph.edge, graph.target, log_rates, graph.hub, best, above)
    count = _paying(*columns, np.empty((0, hops), np.int32))
    cycles = np.empty((count, hops), np.int32)
    _paying(*columns, cycles)
    return [tuple(e for e in row if e >= 0) for row in cycles.tolist()]


@kernel
def _first_parent_cycle(
    start: NDArray[np.int64],
    edge: NDArray[np.int32],
    target: NDArray[np.int32],
    log_rates: NDArray[np.float64],
    parent_token: NDArray[np.int64],
    parent_edge: NDArray[np.int64],
    cycle: NDArray[np.int64],
) -> tuple[int, int]:
    """Classic relaxation from all tokens at once: (passes, hops of the cycle found or 0)."""
    tokens = parent_token.shape[0]
    value = np.zeros(tokens)
    mark = np.empty(tokens, np.int64)
    parent_token[:] = -1
    for passes in range(1, tokens + 1):
        changed = False
        for token in range(tokens):
            for i in range(start[token], start[token + 1]):
                total = value[token] + log_rates[edge[i]]
                if total > value[target[i]] + LEAST_GAIN:
                    value[target[i]] = total
                    parent_token[target[i]] = token
                    parent_edge[target[i]] = edge[i]
                    changed = True
        if not changed:
            return passes, 0
        # After V passes without this test a graph of 20,000 tokens takes seconds.
        mark[:] = -1
        for origin in range(tokens):
            token = origin
            while token >= 0 and mark[token] < 0:
                mark[token] = origin
                token = parent_token[token]
            if token >= 0 and mark[token] == origin:
                hops = 0
                first = token
                while hops == 0 or token != first:
                    cycle[hops] = parent_edge[token]
                    token = parent_token[token]
                    hops += 1
                return passes, hops
    return tokens, 0


def any_paying_cycle(graph: TokenGraph, log_rates: NDArray[np.float64]) -> tuple[int, ...]:
    """Edges of some paying cycle of any length, through the hub or not; empty when there is none.

    It stops at the first cycle among the parents, looked for after every pass.
    """
    tokens = graph.start.size - 1
    cycle = np.zeros(tokens, np.int64)
    _, hops = _first_parent_cycle(
        graph.start,
        graph.edge,
        graph.target,
        _checked_rates(graph, log_rates),
        np.empty(tokens, np.int64),
        np.zeros(tokens, np.int64),
        cycle,
    )
    return tuple(int(e) for e in cycle[:hops][::-1])


def _checked_hops(hops: int) -> int:
    if not 2 <= hops <= MAX_HOPS:
        raise ValueError(f"hops {hops}: expected 2 to {MAX_HOPS}")
    return hops


def _checked_rates(graph: TokenGraph, log_rates: NDArray[np.float64]) -> NDArray[np.float64]:
    edges = 2 * graph.token0.size
    if np.shape(log_rates) != (edges,) or np.asarray(log_rates).dtype.kind not in "fiu":
        raise ValueError(f"log_rates {np.shape(log_rates)}: expected {edges} numbers, one per edge")
    # A closed pool has the rate 0, and that the logarithm -inf.
    return as_floats("log_rates", log_rates, (edges,), -np.inf, np.finfo(np.float64).max)
