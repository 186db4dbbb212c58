"""The closed form against exact integer chains of Uniswap V2, and its edge cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.graph.market_graph import Graph, build_graph
from kernels.market.amm import overlay
from kernels.market.opportunities import gross_of
from kernels.market.sizing import size_cycles
from kernels.market.tile import (
    RESERVES,
    layout_of,
    new_tile,
)
from tests.support.markets import overlaid_of, random_tile, two_venues


def _chain(x: int, reserves: list[tuple[int, int]]) -> int:
    """Output of exact V2 swaps in wei."""
    for reserve_in, reserve_out in reserves:
        x = 997 * x * reserve_out // (1000 * reserve_in + 997 * x)
    return x


def _ring(hops: int) -> Graph:
    """`hops` pools in a ring: one cycle each way."""
    token0, token1 = list(range(hops)), [*range(1, hops), 0]
    return build_graph(token0, token1, [997] * hops, [1000] * hops, [18] * hops)


RINGS = {hops: _ring(hops) for hops in (2, 3)}


def _size(graph: Graph, reserves: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    tile = new_tile(graph, 1)
    pools, count = graph.token0.size, graph.cycle_hops.size
    tile[RESERVES : RESERVES + pools, 0] = [a / 1e18 for a, _ in reserves]
    tile[RESERVES + pools : RESERVES + 2 * pools, 0] = [b / 1e18 for _, b in reserves]
    overlay(graph.cycles, graph.weights, tile)
    size_cycles(graph.cycles, graph.weights, tile)
    amount, gross = layout_of(graph).amount_in, layout_of(graph).gross
    return tile[amount : amount + count, 0], tile[gross : gross + count, 0]


@given(
    st.sampled_from([2, 3]),
    st.lists(st.integers(10**18, 10**24), min_size=6, max_size=6),
    st.floats(1.0005, 1.2),
)
@settings(max_examples=200, deadline=None)
def test_closed_form_is_the_integer_optimum(hops: int, wei: list[int], edge: float) -> None:
    reserves = [(wei[2 * i], wei[2 * i + 1]) for i in range(hops)]
    # Set the last pool so that the round trip gains `edge` after fees.
    product = np.prod([b / a for a, b in reserves[:-1]]) * 0.997**hops
    reserves[-1] = (reserves[-1][0], int(reserves[-1][0] * edge / product))
    graph = RINGS[hops]
    amounts, grosses = _size(graph, reserves)
    forward = graph.cycle_zero_for_one[:, 0] == 1
    x, profit = float(amounts[forward][0]), float(grosses[forward][0])
    assert np.all(amounts[~forward] == 0.0)
    assert np.all(grosses[~forward] == 0.0)
    best = int(x * 1e18)
    exact = _chain(best, reserves) - best
    assert exact == pytest.approx(profit * 1e18, rel=1e-6, abs=200)
    # Concave: no step in either direction improves, beyond the roundings of three floors.
    for step in (best // 1000 + 1, best // 20 + 1):
        for other in (best - step, best + step):
            assert _chain(max(other, 1), reserves) - max(other, 1) <= exact + 100 + exact * 1e-9


@pytest.mark.parametrize("empty", range(4))
def test_empty_pools_are_no_opportunity(empty: int) -> None:
    reserves = [10**21, 10**21, 10**21, 2 * 10**21]
    reserves[empty] = 0
    amounts, grosses = _size(RINGS[2], [(reserves[0], reserves[1]), (reserves[2], reserves[3])])
    assert np.all(amounts == 0.0)
    assert np.all(grosses == 0.0)


def test_profit_is_what_the_swaps_give() -> None:
    """Over a random tile: executing each best input by hand earns the stated profit."""
    graph = two_venues()
    tile = random_tile(graph, 16, 3)
    overlay(graph.cycles, graph.weights, tile)
    size_cycles(graph.cycles, graph.weights, tile)
    pools, count = graph.token0.size, graph.cycle_hops.size
    first = layout_of(graph).overlay
    seen = 0
    for cycle in range(count):
        for lane in range(16):
            x = start = tile[layout_of(graph).amount_in + cycle, lane]
            for hop in range(graph.cycle_hops[cycle]):
                pool, forward = graph.cycle_pool[cycle, hop], graph.cycle_zero_for_one[cycle, hop]
                a = tile[first + pool + (0 if forward else pools), lane]
                b = tile[first + pool + (pools if forward else 0), lane]
                x = 0.997 * x * b / (a + 0.997 * x)
            gross = tile[layout_of(graph).gross + cycle, lane]
            assert x - start == pytest.approx(gross, rel=1e-7, abs=1e-9)
            seen += gross > 0.0
    assert seen > 20


@pytest.mark.parametrize("seed", range(4))
def test_plans_through_concentrated_pools_stop_at_the_end_of_a_segment(seed: int) -> None:
    """The stated profit is what the pools pay; more input earns more only past a segment's end."""
    graph = two_venues()
    tile = random_tile(graph, 16, seed, concentrated=4)
    overlay(graph.cycles, graph.weights, tile)
    size_cycles(graph.cycles, graph.weights, tile)
    pools, count = graph.token0.size, graph.cycle_hops.size
    state = overlaid_of(tile, graph)
    first, capped, free = state.first, 0, 0
    capacity = first + 2 * pools
    for cycle in range(count):
        for lane in range(16):
            amount = tile[layout_of(graph).amount_in + cycle, lane]
            gross = tile[layout_of(graph).gross + cycle, lane]
            if amount <= 0.0:
                assert gross == 0.0
                continue

            def earns(x: float, cycle: int = cycle, lane: int = lane) -> float:
                return gross_of(graph.cycles, graph.weights, state, lane, cycle, x)

            assert earns(amount) == pytest.approx(gross, rel=1e-7, abs=1e-12)
            assert earns(0.98 * amount) < gross
            x, full = amount, False
            for hop in range(graph.cycle_hops[cycle]):
                row_in = graph.cycles[cycle, 4 + hop]
                row_out = graph.cycles[cycle, 7 + hop]
                full |= bool(x >= tile[capacity + row_in, lane] * (1.0 - 1e-9))
                assert x <= tile[capacity + row_in, lane] * (1.0 + 1e-9)
                paid = 0.997 * x
                x = paid * tile[first + row_out, lane] / (tile[first + row_in, lane] + paid)
            capped += full
            free += not full
            if not full:
                assert earns(1.02 * amount) < gross
    assert capped > 0
    assert free > 20
