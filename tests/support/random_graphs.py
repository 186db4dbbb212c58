"""Token graphs to search: small ones for brute force, consistent ones with a planted cycle."""

from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.graph.token_graph import TokenGraph, build_token_graph, edge_quotes

Cycle = tuple[int, ...]


def graph_of(pairs: Sequence[tuple[int, int]], tokens: int, hub: int = 0) -> TokenGraph:
    """The graph of pools given as (token0, token1)."""
    return build_token_graph([a for a, _ in pairs], [b for _, b in pairs], tokens, hub)


def quotes_of(reserves: Any, keep: Any) -> NDArray[np.float64]:
    """`edge_quotes` of reserves [P, 2], one fee for both directions."""
    rows = np.asarray(reserves, np.float64)
    return edge_quotes(rows[:, 0], rows[:, 1], keep, keep)


def brute_force(token0: Sequence[int], token1: Sequence[int], hub: int, hops: int) -> set[Cycle]:
    """Edges of all cycles of 2 .. hops pools that chain from hub to hub, no token twice."""
    found = set()
    for length in range(2, hops + 1):
        for pools in permutations(range(len(token0)), length):
            for sides in product((0, 1), repeat=length):
                sold = [(token1 if side else token0)[pool] for pool, side in zip(pools, sides)]
                bought = [(token0 if side else token1)[pool] for pool, side in zip(pools, sides)]
                chained = bought == [*sold[1:], hub] and sold[0] == hub
                if chained and len(set(sold)) == length:
                    found.add(tuple(2 * pool + side for pool, side in zip(pools, sides)))
    return found


def random_market(
    seed: int, pools: int, tokens: int, noise: float = 0.02
) -> tuple[TokenGraph, NDArray[np.float64]]:
    """Pools between random tokens at prices that disagree by `noise`, and their edge quotes."""
    rng = np.random.default_rng(seed)
    pairs = np.array([rng.choice(tokens, 2, replace=False) for _ in range(pools)])
    price = np.exp(rng.normal(0, 2, tokens))
    reserves = np.exp(rng.normal(10, 1, pools))[:, None] / price[pairs]
    reserves *= np.exp(rng.normal(0, noise, reserves.shape))
    keep = rng.choice([0.997, 0.9995, 0.99], pools)
    graph = build_token_graph(pairs[:, 0], pairs[:, 1], tokens)
    return graph, quotes_of(reserves, keep)


def hub_heavy_market(
    tokens: int, pools: int, seed: int = 0
) -> tuple[TokenGraph, NDArray[np.float64], NDArray[np.float64]]:
    """(graph, reserves [P, 2], keep [P]) shaped like mainnet: half of all pools at the hub, a
    dozen tokens with many pools, most with one or two; at most four pools per pair."""
    rng = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, tokens + 1) ** 0.9
    weight /= weight.sum()
    pairs: dict[tuple[int, int], int] = {}
    listed: list[tuple[int, int]] = []
    while len(listed) < pools:
        draw = rng.random(pools)
        first = np.where(draw < 0.55, 0, rng.choice(tokens, pools, p=weight))
        first = np.where((draw >= 0.55) & (draw < 0.73), rng.integers(1, 10, pools), first)
        second = rng.choice(tokens, pools, p=0.5 * weight + 0.5 / tokens)
        for a, b in zip(first.tolist(), second.tolist()):
            pair = (min(a, b), max(a, b))
            if a != b and pairs.get(pair, 0) < 4 and len(listed) < pools:
                pairs[pair] = pairs.get(pair, 0) + 1
                listed.append(pair)
    token0, token1 = np.array(listed).T
    price = 10.0 ** rng.uniform(-3, 3, tokens)
    worth = 10.0 ** rng.normal(4.5, 1.2, pools)
    reserves = worth[:, None] / price[np.array(listed)]
    reserves[:, 1] *= np.exp(rng.normal(0, 0.004, pools))
    keep = rng.choice([0.997, 0.9995, 0.99], pools, p=[0.7, 0.2, 0.1])
    return build_token_graph(token0, token1, tokens), reserves, keep
