"""A decision costs what has changed: what is kept is what a whole search would find, and a market
of many pools is searched like one of few."""

import numpy as np
import pytest

from benchmarks.env_growth import true_size
from envs.market.config import MarketConfig
from envs.market.flow import (
    ARRIVAL,
    INFORMED,
    INFORMED_PAYS,
    LOAN_OPEN,
    MAX_POOLS,
    START_DEPTH,
    START_ERROR,
    START_PLACE,
    channel_of,
)
from envs.vector import MarketVectorEnv
from kernels.graph.market_graph import Graph, build_graph
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE, observe
from kernels.market.tile import (
    FOUND_CYCLE,
    FOUND_NET,
    KEPT,
    LANES,
    OPPORTUNITIES,
    PENDING_AMOUNT_IN,
    RESERVES,
    SAME_HEAD,
    layout_of,
)
from tests.support.markets import random_tile
from tests.support.worlds import markets, paths, some_actions


@pytest.mark.parametrize("era", ["rich", "2021"])
def test_lanes_that_keep_what_was_found_show_what_a_whole_search_shows(era: str) -> None:
    """With its two rows cleared before every step, an environment searches everything anew."""
    config = MarketConfig(era=era, ticks_per_slot=4, episode_slots=14)
    lazy, eager = (MarketVectorEnv(32, config, paths(), seed=6) for _ in range(2))
    lazy.reset()
    eager.reset()
    for step in range(120):
        actions = some_actions(lazy, step)
        eager._tiles[:, [KEPT, SAME_HEAD]] = 0.0
        mine, other = lazy.step(actions), eager.step(actions)
        for one, two in zip(mine[:4], other[:4]):
            assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
        assert np.array_equal(lazy.action_masks(), eager.action_masks())
        for name, value in mine[4].items():
            assert np.asarray(value).tobytes() == np.asarray(other[4][name]).tobytes(), name


def test_some_lanes_do_keep_what_was_found() -> None:
    """Else the test above would compare a whole search with itself."""
    env, unchanged = markets(64, seed=8), 0
    for _ in range(60):
        # A search that runs overwrites the net of what it finds.
        env._tiles[:, FOUND_NET + OPPORTUNITIES - 1] += 1e-3
        before = env._tiles[:, FOUND_NET + OPPORTUNITIES - 1].copy()
        env.step(np.zeros(64, np.int64))
        unchanged += int((env._tiles[:, FOUND_NET + OPPORTUNITIES - 1] == before).sum())
    assert unchanged > 64


def _dense(tokens: int, venues: int) -> Graph:
    """Every pair of tokens in so many venues: many cycles."""
    pairs = [(a, b) for a in range(tokens) for b in range(a + 1, tokens)] * venues
    count = len(pairs)
    return build_graph(
        [a for a, _ in pairs],
        [b for _, b in pairs],
        [997] * count,
        [1000] * count,
        [18] * tokens,
    )


def _greedy(graph: Graph, tile: np.ndarray, lane: int) -> list[int]:
    """The best disjoint cycles by gross - gas, in plain Python, on the reserves themselves."""
    reserves = tile[RESERVES : RESERVES + 2 * graph.token0.size, lane]
    price, nets = (tile[0, lane] + tile[2, lane]) * 1e-9, {}
    for cycle, row in enumerate(graph.cycles):
        A, C = 1.0, 0.0
        for hop in range(row[0]):
            rate = 0.997 / reserves[row[4 + hop]]
            C += A * rate
            A *= rate * reserves[row[7 + hop]]
        if A > 1.0:
            nets[cycle] = (np.sqrt(A) - 1.0) ** 2 / C - graph.cycle_gas[cycle] * price
    chosen: list[int] = []
    for cycle in sorted(nets, key=lambda c: -nets[c]):
        free = not any(graph.conflict[cycle, other] for other in chosen)
        if nets[cycle] > 0.0 and free and len(chosen) < OPPORTUNITIES:
            chosen.append(cycle)
    return chosen


@pytest.mark.parametrize(("tokens", "venues"), [(4, 2), (6, 2), (9, 2)])
@pytest.mark.parametrize("spread", [0.001, 0.05])
def test_graphs_of_any_size_are_searched_alike(tokens: int, venues: int, spread: float) -> None:
    """Few and many cycles, few and many that pay (more than a list holds): the plain greedy search
    agrees, and one lane gives the bytes of sixteen."""
    graph = _dense(tokens, venues)
    rng = np.random.default_rng(tokens)
    tile = random_tile(_dense(4, 2), LANES, 1)[:RESERVES]
    rows = layout_of(graph)
    whole = np.zeros((rows.concentrated, LANES))
    whole[:RESERVES] = tile
    pools = graph.token0.size
    whole[PENDING_AMOUNT_IN : PENDING_AMOUNT_IN + 8] = 0.0
    whole[RESERVES : RESERVES + 2 * pools] = 1000.0 * np.exp(
        spread * rng.normal(size=(2 * pools, LANES))
    )
    whole[rows.capacity : rows.overlay] = np.inf
    whole[rows.since : rows.amount_in] = -1.0
    whole[11] = pools
    shown, masks = np.zeros((LANES, SIZE), np.float32), np.zeros((LANES, ACTIONS), np.bool_)
    for _ in range(2):  # twice: on rows that are empty, and on those of a search before
        observe(graph.cycles, graph.weights, whole, shown, masks)
        for lane in range(LANES):
            expected = _greedy(graph, whole, lane)
            expected += [-1] * (OPPORTUNITIES - len(expected))
            assert whole[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES, lane].tolist() == expected
    alone, one = whole[:, 3:4].copy(), np.zeros((1, SIZE), np.float32)
    observe(graph.cycles, graph.weights, alone, one, np.zeros((1, ACTIONS), np.bool_))
    assert one.tobytes() == shown[3].tobytes()


def test_a_market_of_128_pools_conserves_value_and_does_not_depend_on_n() -> None:
    config = true_size(128).changed({"episode_slots": 9})
    few, many = (MarketVectorEnv(n, config, paths(), seed=2) for n in (3, 20))
    seen_few, seen_many = few.reset()[0], many.reset()[0]
    traded = np.zeros(20)
    for step in range(50):
        assert seen_few.tobytes() == seen_many[:3].tobytes()
        actions = some_actions(many, step)
        seen_few, seen_many = few.step(actions[:3])[0], many.step(actions)[0]
        traded = np.maximum(traded, many.volume()["informed"])
    assert np.all(traded > 0.0)
    gains = np.stack(list(many.wealth().values()))
    scale = 1e-9 * np.abs(gains).sum(axis=0) + 1e-14 * 2.0 * sum(config.pools.depth_eth)
    assert np.all(np.abs(gains.sum(axis=0)) <= scale)


def test_no_two_pools_draw_from_one_channel() -> None:
    """Nor do two kinds of draw of one slot. An episode's start has a slot of its own."""
    pools = range(MAX_POOLS)
    for kinds in ((START_DEPTH, START_ERROR, START_PLACE), (INFORMED, INFORMED_PAYS)):
        channels = [channel_of(kind, pool) for kind in kinds for pool in pools]
        assert len(set(channels)) == len(channels)
    others = {*range(START_DEPTH), *range(ARRIVAL, LOAN_OPEN + 12)}
    assert not others & {channel_of(INFORMED, pool) for pool in pools}
    assert not others & {channel_of(INFORMED_PAYS, pool) for pool in pools}
