"""Bellman-Ford against the enumerator, brute force and planted cycles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.graph.bellman_ford import any_paying_cycle, completions, paying_cycles
from kernels.graph.cycles import build_cycle_index, directed_cycle
from tests.support.random_graphs import brute_force, graph_of, hub_heavy_market, random_market


@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(3, 7))
@settings(max_examples=80, deadline=None)
def test_it_agrees_with_brute_force_on_what_pays(seed: int, hops: int, pools: int) -> None:
    graph, quotes = random_market(seed, pools, 5, noise=0.1)
    log_rates = np.log(quotes[0, :-2])
    cycles = brute_force(graph.token0.tolist(), graph.token1.tolist(), graph.hub, hops)
    expected = {cycle for cycle in cycles if log_rates[list(cycle)].sum() > 0.0}
    found = paying_cycles(graph, log_rates, hops)
    assert len(set(found)) == len(found)
    assert set(found) == expected
    best = completions(graph, log_rates, hops)
    closed = max((log_rates[list(c)].sum() for c in cycles if c in expected), default=-np.inf)
    assert best[2:, graph.hub].max() >= closed - 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_the_enumerator_on_a_large_graph(seed: int) -> None:
    graph, reserves, keep = hub_heavy_market(2_000, 8_000, seed)
    log_rates = np.empty(16_000)
    log_rates[0::2] = np.log(keep * reserves[:, 1] / reserves[:, 0])
    log_rates[1::2] = np.log(keep * reserves[:, 0] / reserves[:, 1])
    index = build_cycle_index(graph)
    padded = np.append(log_rates, [0.0, 0.0])
    totals = np.stack([padded[index.edges].sum(axis=1), padded[index.edges ^ 1].sum(axis=1)])
    assert np.abs(totals).min() > 1e-12
    enumerated = {
        tuple(directed_cycle(index, int(2 * cycle + against)))
        for against, cycle in zip(*np.nonzero(totals > 0.0), strict=True)
    }
    found = paying_cycles(graph, log_rates, 3)
    assert set(found) == enumerated
    assert len(found) == len(enumerated) > 1_000
    best = completions(graph, log_rates, 3)
    for hops in (2, 3):
        rows = totals[:, index.hops == hops]
        assert best[hops, 0] == pytest.approx(rows.max(), abs=1e-12)


def planted(seed: int, hops: int, edge: float, keep: float) -> tuple:
    """Prices from potentials, plus a cycle of `hops` pools through the hub that multiplies to
    1 + edge before fees."""
    rng = np.random.default_rng(seed)
    tokens = 40
    potential = rng.normal(0, 3, tokens)
    pairs = [
        (int(a), int(b)) for a, b in (rng.choice(tokens, 2, replace=False) for _ in range(120))
    ]
    log_price = [potential[b] - potential[a] for a, b in pairs]
    ring = [0, *(int(t) for t in rng.choice(np.arange(1, tokens), hops - 1, replace=False))]
    for a, b in zip(ring, [*ring[1:], 0]):
        pairs.append((a, b))
        log_price.append(potential[b] - potential[a] + np.log1p(edge) / hops)
    graph = graph_of(pairs, tokens)
    log_rates = np.stack([np.array(log_price), -np.array(log_price)], 1).ravel() + np.log(keep)
    return graph, log_rates, tuple(2 * (120 + k) for k in range(hops))


@given(
    st.integers(0, 2**32),
    st.integers(2, 5),
    st.floats(1e-6, 0.05),
    st.sampled_from([0.997, 1 - 1e-4]),
)
@settings(max_examples=80, deadline=None)
def test_a_planted_cycle_is_found_when_it_beats_its_fees(
    seed: int, hops: int, edge: float, keep: float
) -> None:
    graph, log_rates, ring = planted(seed, hops, edge, keep)
    gain = np.log1p(edge) + hops * np.log(keep)
    if abs(gain) < 1e-9:
        return
    found = paying_cycles(graph, log_rates, hops)
    assert (ring in found) == (gain > 0.0)
    some = any_paying_cycle(graph, log_rates)
    # Shorter detours share the ring's gain, and the fees of fewer pools.
    if gain > 0.0:
        assert some
    if some:
        assert log_rates[list(some)].sum() > 0.0
        sold = [(graph.token1 if e & 1 else graph.token0)[e >> 1] for e in some]
        bought = [(graph.token0 if e & 1 else graph.token1)[e >> 1] for e in some]
        assert bought == [*sold[1:], sold[0]]


def test_a_consistent_market_has_no_paying_cycle() -> None:
    graph, quotes = random_market(4, 60, 9, noise=0.0)
    log_rates = np.log(quotes[0, :-2])
    assert any_paying_cycle(graph, log_rates) == ()
    assert paying_cycles(graph, log_rates, 5) == []


def test_bad_input_is_named() -> None:
    graph, quotes = random_market(4, 6, 3)
    log_rates = np.log(quotes[0, :-2])
    with pytest.raises(ValueError, match="hops 9"):
        completions(graph, log_rates, 9)
    with pytest.raises(ValueError, match="log_rates"):
        completions(graph, log_rates[:-1], 3)
    with pytest.raises(ValueError, match="log_rates"):
        any_paying_cycle(graph, log_rates * np.nan)
