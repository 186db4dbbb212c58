"""Every cycle is found, and only cycles; bad graphs are refused by name."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.chain.fees import plan_gas
from kernels.graph.market_graph import HOPS, POOL, ROW_IN, ROW_OUT, build_graph
from tests.support.markets import two_venues


def _brute_force(
    token0: list[int], token1: list[int], hub: int
) -> set[tuple[tuple[int, int], ...]]:
    """All ordered choices of 2 or 3 pools, in all directions, that chain from hub to hub."""
    found = set()
    for hops in (2, 3):
        for pools in permutations(range(len(token0)), hops):
            for sides in product((0, 1), repeat=hops):
                at, path = hub, []
                for hop, (pool, forward) in enumerate(zip(pools, sides)):
                    sold, bought = (token0, token1) if forward else (token1, token0)
                    inner_hub = hop > 0 and at == hub
                    if sold[pool] != at or inner_hub:
                        break
                    at = bought[pool]
                    path.append((pool, forward))
                if len(path) == hops and at == hub:
                    found.add(tuple(path))
    return found


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_cycles_are_those_of_brute_force(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    pairs = [(a, b) for a, b in pairs if a != b]
    hub = data.draw(st.integers(0, 4))
    token0, token1 = [a for a, _ in pairs], [b for _, b in pairs]
    expected = _brute_force(token0, token1, hub)
    if not expected:
        with pytest.raises(ValueError, match=r"token0|no cycle"):
            build_graph(token0, token1, [997] * len(pairs), [1000] * len(pairs), [18] * 5, hub)
        return
    graph = build_graph(token0, token1, [997] * len(pairs), [1000] * len(pairs), [18] * 5, hub)
    found = {
        tuple((int(p), int(z)) for p, z in zip(pools[:hops], sides[:hops]))
        for pools, sides, hops in zip(
            graph.cycle_pool.tolist(), graph.cycle_zero_for_one.tolist(), graph.cycle_hops.tolist()
        )
    }
    assert found == expected
    assert len(found) == graph.cycle_hops.size
    for cycle in range(graph.cycle_hops.size):
        mine = {p for p in graph.cycle_pool[cycle].tolist() if p >= 0}
        for other in range(graph.cycle_hops.size):
            shared = mine & {p for p in graph.cycle_pool[other].tolist() if p >= 0}
            assert graph.conflict[cycle, other] == bool(shared)
        for pool in range(len(pairs)):
            start, stop = graph.pool_cycle_start[pool : pool + 2]
            assert (cycle in graph.pool_cycle[start:stop]) == (pool in mine)


def test_the_kernel_table_says_the_same_as_the_graph() -> None:
    graph = two_venues()
    assert graph.cycle_hops.tolist().count(2) == 6
    assert graph.cycle_hops.tolist().count(3) == 16
    pools = graph.token0.size
    for cycle in range(graph.cycle_hops.size):
        row = graph.cycles[cycle]
        assert row[HOPS] == graph.cycle_hops[cycle]
        for hop in range(int(row[HOPS])):
            pool, forward = graph.cycle_pool[cycle, hop], graph.cycle_zero_for_one[cycle, hop]
            assert row[POOL + hop] == pool
            assert row[ROW_IN + hop] == (pool if forward else pool + pools)
            assert row[ROW_OUT + hop] == (pool + pools if forward else pool)
        assert graph.weights[pools + cycle] == plan_gas(int(row[HOPS]))
    assert np.array_equal(graph.weights[:pools], graph.gamma)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"token1": [1, 9]}, "token1"),
        ({"token1": [0, 1]}, "against itself"),
        ({"token1": [1]}, "token1"),
        ({"fee_numerator": [997, 1001]}, "fee_numerator"),
        ({"fee_numerator": [0, 997]}, "fee_numerator"),
        ({"decimals": [18, -1]}, "decimals"),
        ({"hub": 2}, "hub"),
        ({"max_hops": 4}, "max_hops"),
        ({"token0": [0.5, 0.5]}, "token0"),
        ({"token0": []}, "token0"),
    ],
)
def test_bad_graphs_are_refused_by_name(change: dict[str, object], named: str) -> None:
    good: dict[str, object] = {
        "token0": [0, 0],
        "token1": [1, 1],
        "fee_numerator": [997, 997],
        "fee_denominator": [1000, 1000],
        "decimals": [18, 18],
    }
    build_graph(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=named):
        build_graph(**(good | change))  # type: ignore[arg-type]


def test_too_many_cycles_are_refused_before_they_are_enumerated() -> None:
    pools = 200
    with pytest.raises(ValueError, match="cycles"):
        build_graph([0] * pools, [1] * pools, [997] * pools, [1000] * pools, [18, 18])
