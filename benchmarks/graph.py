"""Large token graphs: what a pool update costs, Bellman-Ford, and the table of real graphs.

The synthetic graph is shaped like mainnet (half of the pools at the hub, a dozen tokens with
thousands of pools). Real graphs need MEVRL_DATA; their table is the one in docs/graph.md."""

import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Measurement, check, percentiles_us, seconds_per_call
from history.pools import PoolMarket, read_pools
from kernels.graph.bellman_ford import any_paying_cycle, completions, paying_cycles
from kernels.graph.cycles import (
    CycleIndex,
    build_cycle_index,
    directed_cycle,
    evaluate_pool,
    update_pool,
)
from kernels.graph.token_graph import edge_quotes
from models.routing import LinearNonnegative, route
from models.routing_markets import pool_sets
from tests.support.random_graphs import hub_heavy_market

SEED = 20240117
TOKENS, POOLS = 10_000, 40_000
ROOM = 8192
SNAPSHOTS = ("fastlane_pools_block_18806136", "fastlane_pools_block_17674862")
WEI = 1e18
# One side of a pool, in ETH.
DEPTHS_ETH = (0.0, 1.0, 10.0, 100.0)


def paying_of_index(index: CycleIndex, quotes: NDArray, pools: int) -> set[tuple[int, ...]]:
    """Every paying cycle that any pool's evaluation lists."""
    found, cycles = np.empty((ROOM, 4)), set()
    for pool in range(pools):
        count = evaluate_pool(index.start, index.records, quotes, pool, found)
        check(count <= ROOM, f"pool {pool} has {count} paying cycles, room for {ROOM}")
        cycles |= {tuple(directed_cycle(index, int(code))) for code in found[:count, 0]}
    return cycles


def update_latency(
    index: CycleIndex, quotes: NDArray, reserves: NDArray, keep: NDArray, drawn: NDArray
) -> dict[str, float]:
    """Percentiles of one call from Python: a pool's new reserves in, its paying cycles out."""
    found = np.empty((ROOM, 4))
    start, records = index.start, index.records
    samples = []
    for pool in drawn.tolist():
        (reserve0, reserve1), kept = reserves[pool].tolist(), float(keep[pool])
        begin = time.perf_counter()
        update_pool(start, records, quotes, pool, reserve0, reserve1, kept, kept, found)
        samples.append(time.perf_counter() - begin)
    return percentiles_us(samples)


def synthetic(quick: bool) -> list[Measurement]:
    """Pool updates on the large graph, checked against Bellman-Ford as sets of paying cycles."""
    tokens, pools = (TOKENS // 10, POOLS // 10) if quick else (TOKENS, POOLS)
    graph, reserves, keep = hub_heavy_market(tokens, pools, SEED)
    quotes = edge_quotes(reserves[:, 0], reserves[:, 1], keep, keep)
    log_rates = np.log(quotes[0, :-2])
    index = build_cycle_index(graph)
    listed = paying_cycles(graph, log_rates, 3)
    paying = paying_of_index(index, quotes, pools)
    check(paying == set(listed), "enumerator and Bellman-Ford differ on what pays")
    rng = np.random.default_rng(SEED)
    degree = np.diff(index.start).astype(np.float64)
    rows = []
    for name, weights in (("uniform", None), ("by its cycles", degree / degree.sum())):
        drawn = rng.choice(pools, 4_000 if quick else 40_000, p=weights)
        spread = update_latency(index, quotes, reserves, keep, drawn)
        cycles = degree[drawn]
        note = f"drawn {name}; cycles: median {np.median(cycles):.0f}, mean {cycles.mean():.0f}"
        # The targets are for uniformly drawn pools.
        median, tail = (3.0, 60.0) if weights is None else (None, None)
        rows.append(
            Measurement("pool update, median", spread["p50_us"], "us", note, spread, at_most=median)
        )
        rows.append(Measurement("pool update, p99", spread["p99_us"], "us", note, at_most=tail))
    size = f"{tokens} tokens, {pools} pools, {index.hops.size} cycles, {len(paying)} pay"
    budget = 0.3 if quick else 2.0
    seconds = seconds_per_call(lambda: completions(graph, log_rates, 4), budget)
    rows.append(Measurement("Bellman-Ford, 4 hops", seconds * 1e3, "ms", size))
    seconds = seconds_per_call(lambda: any_paying_cycle(graph, log_rates), budget)
    rows.append(Measurement("first parent cycle", seconds * 1e3, "ms", size))
    return rows


def real_row(market: PoolMarket, depth: NDArray, least_eth: float) -> str:
    """One line of docs/graph.md: pools at least so deep, their cycles, and what pays."""
    deep = market.select((depth >= least_eth * WEI) & (depth > 0.0))
    graph, quotes, _ = deep.graph()
    index = build_cycle_index(graph)
    paying = paying_of_index(index, quotes, len(deep.pools))
    listed = paying_cycles(graph, np.log(quotes[0, :-2]), 3)
    check(paying == set(listed), f"{market.source}: enumerator and Bellman-Ford differ")
    edges = [float(np.prod(quotes[0, list(cycle)])) - 1.0 for cycle in paying]
    worth = np.zeros(len(deep.tokens))
    worth[graph.hub] = 1.0
    best = route(pool_sets(deep), len(deep.tokens), LinearNonnegative(worth))
    check(abs(best.gap) <= 1e-5 * max(best.value, 1e13), "the routing certificate does not close")
    counts = [
        f"{sum(len(c) == hops for c in paying)} of {2 * int((index.hops == hops).sum())}"
        for hops in (2, 3)
    ]
    median = f"{100 * np.median(edges):.2f} %" if edges else "-"
    cells = [f"{least_eth:g}", str(len(deep.pools)), *counts, median, f"{best.value / WEI:.4f}"]
    return "| " + " | ".join(cells) + " |"


def real_graphs() -> list[str]:
    """The Markdown table of docs/graph.md."""
    head = ["least depth, ETH", "pools", "2 hops pay", "3 hops pay", "median edge", "route, ETH"]
    lines = []
    for name in SNAPSHOTS:
        market = read_pools(Path(os.environ["MEVRL_DATA"]) / "pools" / f"{name}.parquet")
        _, _, depth = market.graph()
        lines += [f"\n{name}: {len(market.pools)} pools, {len(market.tokens)} tokens\n"]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += [real_row(market, depth, least) for least in DEPTHS_ETH]
    return lines


def run(quick: bool) -> list[Measurement]:
    rows = synthetic(quick)
    if "MEVRL_DATA" in os.environ:
        print("\n".join(real_graphs()))
    return rows
