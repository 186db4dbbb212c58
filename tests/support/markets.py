"""Random tiles over the default kind of graph, for the tests of the shared market kernels."""

import numpy as np

from kernels.graph.market_graph import Graph, build_graph
from kernels.market.amm import SEGMENT_WIDTH, PoolState, enter_segment
from kernels.market.tile import (
    BASE_FEE,
    CONCENTRATED_ROWS,
    FORECAST,
    FORECASTS,
    GAS_USED_RATIO,
    LIQUIDITY,
    LOWEST_ROOT,
    OVERLAY_SEGMENT,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    SEGMENT,
    SEGMENTS,
    layout_of,
    new_tile,
)

TOKEN0 = (0, 0, 0, 1, 0, 0, 0, 1)
TOKEN1 = (1, 2, 3, 2, 1, 2, 3, 2)
PRICES_ETH = np.array([1.0, 1 / 2000, 1 / 2000, 15.0])


def two_venues() -> Graph:
    """WETH, DAI, USDC, WBTC in two venues of four pairs each: 22 directed cycles."""
    return build_graph(TOKEN0, TOKEN1, [997] * 8, [1000] * 8, [18, 18, 6, 8])


def head_of(tile: np.ndarray, graph: Graph) -> PoolState:
    """`head_state`, not compiled."""
    rows = layout_of(graph)
    return PoolState(tile, rows.pools, RESERVES, rows.concentrated, SEGMENT)


def overlaid_of(tile: np.ndarray, graph: Graph) -> PoolState:
    """`overlaid_state`, not compiled."""
    rows = layout_of(graph)
    return PoolState(tile, rows.pools, rows.overlay, rows.concentrated, OVERLAY_SEGMENT)


def random_tile(graph: Graph, lanes: int, seed: int, concentrated: int = 0) -> np.ndarray:
    """Pools within a percent of one price system, up to 8 pending swaps, gas and forecasts.

    The last `concentrated` pools spread their liquidity over segments of random depth.
    """
    rng = np.random.default_rng(seed)
    tile = new_tile(graph, lanes, concentrated)
    pools = graph.token0.size
    for pool in range(pools):
        depth = 3000.0 * np.exp(rng.normal(0.0, 0.7, lanes))
        error = np.exp(rng.normal(0.0, 0.006, lanes))
        tile[RESERVES + pool] = depth / PRICES_ETH[graph.token0[pool]]
        tile[RESERVES + pools + pool] = depth / PRICES_ETH[graph.token1[pool]] * error
    for index in range(concentrated):
        pool, at = (
            pools - concentrated + index,
            layout_of(graph).concentrated + CONCENTRATED_ROWS * index,
        )
        product = tile[RESERVES + pool] * tile[RESERVES + pools + pool]
        root = np.sqrt(tile[RESERVES + pools + pool] / tile[RESERVES + pool])
        place = rng.uniform(2.0, SEGMENTS - 2.0, lanes)
        tile[at + LOWEST_ROOT] = root * np.exp(-0.5 * SEGMENT_WIDTH * place)
        depths = rng.uniform(0.5, 1.5, (SEGMENTS, lanes))
        tile[at + LIQUIDITY : at + LIQUIDITY + SEGMENTS] = np.sqrt(product) * depths
        for lane in range(lanes):
            where = int(place[lane])
            enter_segment(head_of(tile, graph), lane, pool, where, root[lane], graph.gamma[pool])
    tile[BASE_FEE] = rng.uniform(1.0, 60.0, lanes)
    tile[OWN_TIP] = rng.uniform(0.0, 3.0, lanes)
    tile[GAS_USED_RATIO] = rng.uniform(0.0, 2.0, lanes)
    tile[FORECAST : FORECAST + FORECASTS] = rng.normal(-12.0, 1.5, (FORECASTS, lanes))
    count = rng.integers(0, PENDING + 1, lanes)
    everyone = np.arange(lanes)
    for swap in range(PENDING):
        present = swap < count
        pool = np.where(present, rng.integers(0, pools, lanes), 0)
        forward = np.where(present, rng.integers(0, 2, lanes), 0)
        reserve = tile[RESERVES + pool + np.where(forward == 1, 0, pools), everyone]
        tile[PENDING_POOL + swap] = pool
        tile[PENDING_ZERO_FOR_ONE + swap] = forward
        share = 0.004 * np.exp(rng.normal(0.0, 1.0, lanes))
        tile[PENDING_AMOUNT_IN + swap] = np.where(present, share * reserve, 0.0)
        tile[PENDING_TIP + swap] = np.where(present, rng.integers(0, 5, lanes), 0)
        tile[PENDING_VISIBLE + swap] = np.where(present, rng.random(lanes) < 0.8, 0.0)
    return tile
