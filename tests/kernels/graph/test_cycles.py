"""The cycle index against brute force, its closed form against exact integers, and its refusals."""

from fractions import Fraction
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.graph.cycles import (
    PAYS_ABOVE,
    CycleIndex,
    build_cycle_index,
    directed_cycle,
    evaluate_pool,
    update_pool,
)
from kernels.graph.token_graph import TokenGraph, build_token_graph, edge_quotes, hub_depth
from kernels.sizing.moebius import best_real_input, moebius, profit_bound
from tests.support.random_graphs import (
    brute_force,
    graph_of,
    hub_heavy_market,
    quotes_of,
    random_market,
)

PAIRS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda pair: pair[0] != pair[1]),
    min_size=1,
    max_size=7,
)


def directed(index: CycleIndex) -> list[tuple[int, ...]]:
    """Both directions of all cycles."""
    return [tuple(directed_cycle(index, code)) for code in range(2 * index.hops.size)]


def through(
    index: CycleIndex, quotes: NDArray[np.float64], pool: int, room: int = 512
) -> dict[tuple[int, ...], tuple[float, float, float]]:
    """Paying cycles of a pool: edges -> (rate, input, profit)."""
    found = np.zeros((room, 4))
    count = evaluate_pool(index.start, index.records, quotes, pool, found)
    rows = found[: min(count, room)].tolist()
    return {tuple(directed_cycle(index, int(code))): (r, x, p) for code, r, x, p in rows}


def update(
    index: CycleIndex, quotes: NDArray[np.float64], pool: int, reserves: Any, keep: Any, found: Any
) -> int:
    """`update_pool` from pairs."""
    kept, state = [float(k) for k in keep], [float(r) for r in reserves]
    return update_pool(
        index.start, index.records, quotes, pool, state[0], state[1], kept[0], kept[1], found
    )


@given(PAIRS, st.integers(0, 4), st.integers(2, 4))
@settings(max_examples=150, deadline=None)
def test_the_index_holds_the_cycles_of_brute_force(
    pairs: list[tuple[int, int]], hub: int, hops: int
) -> None:
    token0, token1 = [a for a, _ in pairs], [b for _, b in pairs]
    index = build_cycle_index(graph_of(pairs, 5, hub), hops)
    found = directed(index)
    assert len(set(found)) == len(found)
    assert set(found) == brute_force(token0, token1, hub, hops)
    for pool in range(len(pairs)):
        rows = index.records[index.start[pool] : index.start[pool + 1]]
        mine = {c for c in range(index.hops.size) if pool in index.edges[c] >> 1}
        assert sorted(rows[:, -1].tolist()) == sorted(mine)
        assert np.array_equal(rows[:, :-1], index.edges[rows[:, -1]])


@given(st.integers(0, 2**32), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_a_pool_names_the_paying_cycles_through_it(seed: int, hops: int) -> None:
    graph, quotes = random_market(seed, 14, 5)
    index = build_cycle_index(graph, hops)
    cycles = directed(index)
    rates = {c: float(np.prod(quotes[0, list(c)])) for c in cycles}
    assert all(abs(rate - 1.0) > 1e-12 for rate in rates.values())
    for pool in range(14):
        found = through(index, quotes, pool)
        expected = {c for c in cycles if rates[c] > 1.0 and pool in [e >> 1 for e in c]}
        assert set(found) == expected
        for cycle, (rate, _, _) in found.items():
            assert rate == pytest.approx(rates[cycle], rel=1e-14)


def test_sizes_are_the_integer_closed_form() -> None:
    """Against moebius in Python integers, on reserves up to uint112."""
    rng = np.random.default_rng(3)
    compared = 0
    for _ in range(60):
        pairs = [(0, 1), (0, 1), (1, 2), (0, 2)]
        scale = [10 ** int(rng.integers(9, 33)) for _ in range(3)]
        reserves = [[int(scale[t] * np.exp(rng.normal(0, 0.05))) for t in pair] for pair in pairs]
        graph = graph_of(pairs, 3)
        quotes = quotes_of(reserves, 0.997)
        index = build_cycle_index(graph)
        for pool in range(4):
            for cycle, (rate, amount, profit) in through(index, quotes, pool).items():
                sides = [(e >> 1, e & 1) for e in cycle]
                into = [reserves[p][side] for p, side in sides]
                out = [reserves[p][1 - side] for p, side in sides]
                a, b, c = moebius(into, out, [(997, 1000)] * len(cycle))
                assert rate == pytest.approx(float(Fraction(a, b)), rel=1e-14)
                # What the square root less 1 loses near the edge of paying.
                loss = 1e-14 / (rate - 1.0)
                assert amount == pytest.approx(best_real_input(a, b, c), rel=loss, abs=2)
                assert profit == pytest.approx(profit_bound(a, b, c), rel=2 * loss, abs=2)
                compared += 1
    assert compared > 200


def test_no_paying_cycle_is_missed_at_the_edge() -> None:
    """Cycles whose exact rate exceeds 1 by one part in 10^30 and less are still listed."""
    keep = 0.5
    for hops, digits in ((2, 33), (3, 31)):
        base = 10**digits
        pairs = [(0, 1), (0, 1)] if hops == 2 else [(0, 1), (1, 2), (0, 2)]
        for nudge in (1, 7):
            # 2 base / base gives back what a fee of one half takes, and `nudge` wei more.
            edges = [[base, 2 * base + nudge], [2 * base, base], [2 * base, base]]
            reserves = [edges[0], edges[1]] if hops == 2 else [edges[0], [base, 2 * base], edges[2]]
            graph = graph_of(pairs, 3)
            quotes = quotes_of(reserves, keep)
            found = through(build_cycle_index(graph), quotes, 0)
            assert len(found) == 1
            assert next(iter(found.values()))[0] > PAYS_ABOVE


def test_updates_leave_what_a_fresh_index_says() -> None:
    graph, quotes = random_market(5, 30, 6)
    index = build_cycle_index(graph)
    rng = np.random.default_rng(6)
    reserves = np.exp(rng.normal(10, 1, (30, 2)))
    keep = rng.uniform(0.99, 1.0, (30, 2))
    found = np.zeros((512, 4))
    for pool in range(30):
        count = update(index, quotes, pool, reserves[pool], keep[pool], found)
        again = np.zeros((512, 4))
        assert evaluate_pool(index.start, index.records, quotes, pool, again) == count
        assert np.array_equal(found[:count], again[:count])
    assert np.array_equal(
        quotes, edge_quotes(reserves[:, 0], reserves[:, 1], keep[:, 0], keep[:, 1])
    )


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_broken_reserve_closes_the_pool(bad: float) -> None:
    graph, quotes = random_market(5, 30, 6, noise=0.2)
    index = build_cycle_index(graph)
    found = np.zeros((512, 4))
    for pool in range(30):
        for reserves in ((bad, 1e9), (1e9, bad)):
            changed = quotes.copy()
            assert update(index, changed, pool, reserves, (1.0, 1.0), found) == 0
            assert np.isfinite(changed).all()


def test_pools_that_do_not_exist_and_lists_that_are_short() -> None:
    graph, quotes = random_market(5, 30, 6, noise=0.2)
    index = build_cycle_index(graph)
    found = np.full((2, 4), 7.0)
    for pool in (-1, 30, 2**62, -(2**62)):
        assert evaluate_pool(index.start, index.records, quotes, pool, found) == -1
        assert update_pool(index.start, index.records, quotes, pool, 1, 1, 1, 1, found) == -1
    assert (found == 7.0).all()
    counts = [evaluate_pool(index.start, index.records, quotes, p, found[:1]) for p in range(30)]
    assert max(counts) > 2
    assert (found[1] == 7.0).all(), "nothing is written behind the list"
    full = np.zeros((512, 4))
    assert counts == [evaluate_pool(index.start, index.records, quotes, p, full) for p in range(30)]


def test_four_hops_take_only_deep_pools() -> None:
    graph, reserves, _ = hub_heavy_market(300, 900)
    depth = hub_depth(graph, reserves[:, 0], reserves[:, 1])
    least = float(np.quantile(depth, 0.7))
    everything = build_cycle_index(graph, 4)
    pruned = build_cycle_index(graph, 4, depth, least)
    short = {tuple(row) for row in everything.edges[everything.hops < 4].tolist()}
    assert {tuple(row) for row in pruned.edges[pruned.hops < 4].tolist()} == short
    long = everything.edges[everything.hops == 4]
    kept = long[(depth[long >> 1] >= least).all(axis=1)]
    found = pruned.edges[pruned.hops == 4]
    assert 0 < len(found) < len(long)
    assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in kept.tolist()}
    with pytest.raises(ValueError, match="min_depth"):
        build_cycle_index(graph, 4, max_cycles=len(short))


def test_depth_is_the_worth_of_a_side_in_hub_units() -> None:
    pairs = [(0, 1), (0, 1), (1, 2), (2, 3), (4, 5)]
    reserves = np.array([[100.0, 50.0], [1.0, 80.0], [10.0, 4.0], [2.0, 1e9], [1.0, 1.0]])
    graph = graph_of(pairs, 6)
    # Token 1 costs 2 by its deepest pool, token 2 costs 5; no price leads to tokens 4 and 5.
    assert hub_depth(graph, reserves[:, 0], reserves[:, 1]).tolist() == [
        100.0,
        1.0,
        20.0,
        10.0,
        0.0,
    ]


def test_the_graph_lists_the_edges_that_leave_each_token() -> None:
    graph, _ = random_market(2, 40, 7)
    seen: set[int] = set()
    for token in range(7):
        places = range(graph.start[token], graph.start[token + 1])
        for at, place in enumerate(places):
            edge = int(graph.edge[place])
            ends = (graph.token0[edge >> 1], graph.token1[edge >> 1])
            assert (ends[edge & 1], ends[1 - (edge & 1)]) == (token, graph.target[place])
            assert (graph.target[place] == graph.hub) == (at < graph.to_hub[token])
            seen.add(edge)
    assert seen == set(range(80))


def test_log_rates_of_a_consistent_market_close() -> None:
    """Prices from potentials: without fees every cycle's rate is 1, with fees below 1."""
    graph, quotes = random_market(9, 30, 6, noise=0.0)
    index = build_cycle_index(graph, 4)
    for cycle in directed(index):
        total = sum(log(quotes[0, e]) for e in cycle)
        fees = sum(log(quotes[0, e] * quotes[0, e ^ 1]) / 2 for e in cycle)
        assert total == pytest.approx(fees, abs=1e-12)
    assert all(through(index, quotes, pool) == {} for pool in range(30))


@pytest.mark.parametrize("side", [0, 1])
def test_weighted_pools_enter_by_slope_and_curvature(side: int) -> None:
    weights, balances, keep = (0.8, 0.2), (5e5, 3e4), 0.997
    w = weights[0] / weights[1]
    virtual = [[2 * balances[0] / (1 + w), 2 * w * balances[1] / (1 + w)]]
    rate, slope = quotes_of(virtual, keep)[:, side]
    into, out = balances[side], balances[1 - side]
    for share in (1e-4, 1e-3):
        x = share * into
        exact = out * (1 - (into / (into + keep * x)) ** (weights[side] / weights[1 - side]))
        # What is left is of third order.
        assert rate * x / (1 + slope * x) == pytest.approx(exact, rel=10 * share**2)


def _graph() -> TokenGraph:
    return build_token_graph([0, 0], [1, 1], 2)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"token1\[1\] = 9"):
        build_token_graph([0, 0], [1, 9], 2)
    with pytest.raises(ValueError, match=r"token0\[0\] = -1"):
        build_token_graph([-1, 0], [1, 1], 2)
    with pytest.raises(ValueError, match="token0"):
        build_token_graph([0.5], [1], 2)
    with pytest.raises(ValueError, match="token1 has 1"):
        build_token_graph([0, 0], [1], 2)
    with pytest.raises(ValueError, match="against itself"):
        build_token_graph([0, 1], [1, 1], 2)
    with pytest.raises(ValueError, match="hub 2"):
        build_token_graph([0], [1], 2, 2)
    with pytest.raises(ValueError, match="max_hops 5"):
        build_cycle_index(_graph(), 5)
    with pytest.raises(ValueError, match="depth"):
        build_cycle_index(_graph(), 4, np.ones(3))
    with pytest.raises(ValueError, match=r"reserve1\[1\] = 0"):
        edge_quotes([1, 1], [1, 0], 0.997, 0.997)
    with pytest.raises(ValueError, match="keep1"):
        edge_quotes([1, 1], [1, 1], 0.997, [0.997, 1.1])
    with pytest.raises(ValueError, match="reserves"):
        hub_depth(_graph(), [1, 1], [1, -1])
