"""Liquidity of a tile's pools: the pools of a new episode, and providers who mint and burn.

Amounts of a concentrated position: Uniswap v3 white paper, section 6.2.
"""

import numpy as np

from envs.market.flow import (
    PROVIDER,
    START_DEPTH,
    START_ERROR,
    START_PLACE,
    book,
    channel_of,
)
from envs.market.physics import INITIAL, INSIDE, MISSED, NORMAL, PRICE, PROVIDERS, Physics, rows_of
from envs.market.randomness import draw, quantile, uniform
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.amm import SEGMENT_ROOT, SEGMENT_WIDTH, enter_segment, head_state
from kernels.market.tile import (
    CONCENTRATED_FROM,
    CONCENTRATED_ROWS,
    LANES,
    LIQUIDITY,
    LOWEST_ROOT,
    RESERVES,
    SEGMENT,
    SEGMENTS,
)

# Liquidity by segment, against the deepest: most of it lies around the price of the start.
PROFILE = np.array([0.3, 0.5, 0.8, 1.0, 1.0, 0.8, 0.5, 0.3])
FIRST_SEGMENT = SEGMENTS // 2 - 1  # where the price starts, somewhere inside


@inline
def segment_amounts(
    liquidity: float, lowest: float, segment: int, root: float
) -> tuple[float, float]:
    """Token amounts of `liquidity` in one segment when the square-root price is `root`."""
    low = lowest * SEGMENT_ROOT[segment] if segment > 0 else 0.0
    high = lowest * SEGMENT_ROOT[segment + 1] if segment < SEGMENTS - 1 else np.inf
    inside = min(max(root, low), high)
    amount0 = liquidity * (1.0 / inside - 1.0 / high)
    return amount0, liquidity * (inside - low)


@inline
def _start_concentrated(
    physics: Physics, tile: np.ndarray, lane: int, pool: int, key: np.uint64
) -> tuple[float, float]:
    """Spread the virtual reserves in the rows of `pool` over segments; all its tokens."""
    pools = physics.token0.shape[0]
    reserve0, reserve1 = tile[RESERVES + pool, lane], tile[RESERVES + pools + pool, lane]
    root, deepest = np.sqrt(reserve1 / reserve0), np.sqrt(reserve0 * reserve1)
    index = pool - int(tile[CONCENTRATED_FROM, lane])
    at = rows_of(physics).concentrated + CONCENTRATED_ROWS * index
    place = FIRST_SEGMENT + 2.0 * uniform(key, channel_of(START_PLACE, pool))
    lowest = root * np.exp(-0.5 * SEGMENT_WIDTH * place)
    tile[at + LOWEST_ROOT, lane] = lowest
    total0, total1 = 0.0, 0.0
    for segment in range(SEGMENTS):
        liquidity = deepest * PROFILE[segment]
        tile[at + LIQUIDITY + segment, lane] = liquidity
        amount0, amount1 = segment_amounts(liquidity, lowest, segment, root)
        total0 += amount0
        total1 += amount1
    gamma = physics.weights[pool]
    enter_segment(head_state(tile, rows_of(physics)), lane, pool, int(place), root, gamma)
    return total0, total1


@lean_kernel
def start_pools(physics: Physics, tile: np.ndarray, lane: int, key: np.uint64) -> None:
    """Pools of random depth near the reference prices, and their tokens in the books."""
    never_inline()
    world_row, pools, tokens = physics.world_row, physics.token0.shape[0], physics.exposure.shape[0]
    capacity = rows_of(physics).capacity
    initial, inside = book(world_row, tokens, INITIAL), book(world_row, tokens, INSIDE)
    for pool in range(pools):
        z = quantile(physics.quantiles, NORMAL, uniform(key, channel_of(START_DEPTH, pool)))
        depth = physics.depth_eth[pool] * np.exp(physics.depth_sigma * z)
        error = physics.start_noise[pool] * (
            2.0 * uniform(key, channel_of(START_ERROR, pool)) - 1.0
        )
        token0, token1 = physics.token0[pool], physics.token1[pool]
        held0 = depth / tile[world_row + PRICE + token0, lane]
        held1 = depth / tile[world_row + PRICE + token1, lane] * np.exp(error)
        tile[RESERVES + pool, lane] = held0
        tile[RESERVES + pools + pool, lane] = held1
        tile[capacity + pool, lane] = np.inf
        tile[capacity + pools + pool, lane] = np.inf
        if pool >= int(tile[CONCENTRATED_FROM, lane]):
            held0, held1 = _start_concentrated(physics, tile, lane, pool, key)
            tile[inside + token0, lane] += held0
            tile[inside + token1, lane] += held1
        tile[initial + token0, lane] += held0
        tile[initial + token1, lane] += held1


@lean_kernel
def provide_liquidity(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """At most one provider per slot mints or burns a share of a pool's or segment's liquidity.

    Reserves keep their ratio, so the price does not move. Only segments with two ends are used.
    """
    never_inline()
    world_row, pools, tokens = physics.world_row, physics.token0.shape[0], physics.exposure.shape[0]
    wallet, inside = book(world_row, tokens, PROVIDERS), book(world_row, tokens, INSIDE)
    for lane in range(LANES):
        if uniform(keys[lane], PROVIDER) >= physics.provider_rate * pools:
            continue
        if tile[world_row + MISSED, lane] > 0.0:
            continue
        bits = int(draw(keys[lane], PROVIDER + 1))
        pool = ((bits >> 16) * pools) >> 16
        factor = 1.0 + physics.provider_size * (1.0 if bits & 1 else -1.0)
        row0, row1 = RESERVES + pool, RESERVES + pools + pool
        token0, token1 = physics.token0[pool], physics.token1[pool]
        change0, change1 = (factor - 1.0) * tile[row0, lane], (factor - 1.0) * tile[row1, lane]
        first = int(tile[CONCENTRATED_FROM, lane])
        if pool < first:
            tile[row0, lane] += change0
            tile[row1, lane] += change1
        else:
            at = rows_of(physics).concentrated + CONCENTRATED_ROWS * (pool - first)
            segment = 1 + ((bits >> 1) & 0x7FFF) % (SEGMENTS - 2)
            root = np.sqrt(tile[row1, lane] / tile[row0, lane])
            liquidity = tile[at + LIQUIDITY + segment, lane] * (factor - 1.0)
            lowest = tile[at + LOWEST_ROOT, lane]
            change0, change1 = segment_amounts(liquidity, lowest, segment, root)
            tile[at + LIQUIDITY + segment, lane] += liquidity
            if segment == int(tile[at + SEGMENT, lane]):
                for row in (row0, row1, row0 + 2 * pools, row1 + 2 * pools):
                    tile[row, lane] *= factor
            tile[inside + token0, lane] += change0
            tile[inside + token1, lane] += change1
        tile[wallet + token0, lane] -= change0
        tile[wallet + token1, lane] -= change1
