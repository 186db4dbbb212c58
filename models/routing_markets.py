"""Recorded pool markets as the pool sets of optimal routing."""

import numpy as np

from history.pools import V3_KIND, PoolMarket
from kernels.sizing.routing_pools import PairPools, concentrated_pools, product_pools

Q96 = float(1 << 96)


def pool_sets(market: PoolMarket) -> list[PairPools]:
    """Uniswap V2 pairs, then V3 pools as far as their liquidity is known not to change.

    A snapshot lists no ticks: beyond its own tick interval a V3 pool trades nothing here, so that
    the optimum is one that the chain would have paid.
    """
    keep = market.keep()
    pairs = [(pool, kept) for pool, kept in zip(market.pools, keep) if pool.kind != V3_KIND]
    ranges = [(pool, kept) for pool, kept in zip(market.pools, keep) if pool.kind == V3_KIND]
    sets = []
    if pairs:
        tokens = [(pool.token0, pool.token1) for pool, _ in pairs]
        reserves = np.array([(pool.reserve0, pool.reserve1) for pool, _ in pairs], np.float64)
        sets.append(product_pools(tokens, reserves, [kept for _, kept in pairs]))
    if ranges:
        sets.append(
            concentrated_pools(
                [(pool.token0, pool.token1) for pool, _ in ranges],
                [float(pool.liquidity) for pool, _ in ranges],
                [pool.sqrt_price_x96 / Q96 for pool, _ in ranges],
                [[root / Q96 for root in pool.sqrt_range()] for pool, _ in ranges],
                [kept for _, kept in ranges],
            )
        )
    return sets
