"""Real graphs: enumerator, Bellman-Ford and exact brute force name the same paying cycles."""

import os
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
import pytest

from history.pools import PoolMarket, read_pools
from kernels.graph.bellman_ford import paying_cycles
from kernels.graph.cycles import PAYS_ABOVE, build_cycle_index, directed_cycle, evaluate_pool

DATA = os.environ.get("MEVRL_DATA")
FOLDER = Path(DATA or ".") / "pools"
pytestmark = pytest.mark.skipif(
    not DATA or not FOLDER.is_dir(), reason="MEVRL_DATA names no folder with pools/"
)

Cycle = tuple[int, ...]

# (file, paying and all cycles of 2 hops, of 3 hops), each direction counted by itself
GRAPHS = [
    ("fastlane_pools_block_18806136", (5, 40), (6, 46)),
    ("fastlane_pools_block_17674862", (80, 472), (230, 1570)),
    ("uniswap_v2_all_pairs_2020", (0, 0), (1454, 3064)),
]


def exact_cycles(market: PoolMarket, hub: int) -> dict[Cycle, Fraction]:
    """Every cycle of 2 or 3 hops and its exact marginal rate, by nested loops over dictionaries."""
    leaving: dict[int, list[tuple[int, int]]] = {}
    for number, pool in enumerate(market.pools):
        leaving.setdefault(pool.token0, []).append((2 * number, pool.token1))
        leaving.setdefault(pool.token1, []).append((2 * number + 1, pool.token0))
    rates = [
        pool.marginal_rate(sells_token0) for pool in market.pools for sells_token0 in (True, False)
    ]
    cycles = []
    for first, a in leaving[hub]:
        for second, b in leaving[a]:
            if b == hub:
                if second >> 1 != first >> 1:
                    cycles.append((first, second))
                continue
            cycles += [(first, second, third) for third, c in leaving[b] if c == hub]
    return {cycle: prod((rates[edge] for edge in cycle), start=Fraction(1)) for cycle in cycles}


@pytest.mark.parametrize(("name", "two_hops", "three_hops"), GRAPHS)
def test_three_ways_to_find_what_pays_agree(
    name: str, two_hops: tuple[int, int], three_hops: tuple[int, int]
) -> None:
    market = read_pools(FOLDER / f"{name}.parquet")
    graph, quotes, _ = market.graph()
    exact = exact_cycles(market, graph.hub)
    paying = {cycle for cycle, rate in exact.items() if rate > 1}
    for hops, (pays, every) in ((2, two_hops), (3, three_hops)):
        assert sum(len(cycle) == hops for cycle in paying) == pays
        assert sum(len(cycle) == hops for cycle in exact) == every

    index = build_cycle_index(graph)
    directed = {tuple(directed_cycle(index, code)) for code in range(2 * index.hops.size)}
    assert directed == set(exact)
    found: dict[Cycle, float] = {}
    rows = np.zeros((4096, 4))
    for pool in range(len(market.pools)):
        count = evaluate_pool(index.start, index.records, quotes, pool, rows)
        assert count <= len(rows)
        for code, rate, _, _ in rows[:count]:
            found[tuple(directed_cycle(index, int(code)))] = rate
    # The filter also lists what is within its margin of paying; integers decide those.
    assert {cycle for cycle in found if exact[cycle] > 1} == paying
    assert all(exact[cycle] > 1 or rate < 2 - PAYS_ABOVE for cycle, rate in found.items())
    for cycle, rate in found.items():
        assert abs(Fraction(rate) / exact[cycle] - 1) < Fraction(24, 2**53)

    log_rates = np.log(quotes[0, :-2])
    listed = set(paying_cycles(graph, log_rates, 3, above=-1e-12))
    assert {cycle for cycle in listed if exact[cycle] > 1} == paying
    assert set(paying_cycles(graph, log_rates, 3, above=1e-12)) <= paying


@pytest.mark.parametrize("name", [name for name, _, _ in GRAPHS])
def test_every_pool_of_the_snapshots_is_known_or_refused_by_name(name: str) -> None:
    market = read_pools(FOLDER / f"{name}.parquet")
    assert all(reason.startswith("reserve0 = 0") for _, reason in market.refused)
    assert len(market.refused) == (69 if "2020" in name else 0)
    _, _, depth = market.graph()
    assert (depth > 0.0).sum() > 0.9 * len(market.pools)
