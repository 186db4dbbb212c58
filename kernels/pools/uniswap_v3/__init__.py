"""Uniswap V3 and its forks, bit for bit: `build_pools` makes the arrays, `swap` quotes and trades,
`modify_liquidity` mints and burns. One file per library of v3-core."""

from kernels.pools.uniswap_v3.liquidity import modify_liquidity, modify_liquidity_batch
from kernels.pools.uniswap_v3.pool import TradeResults, Trades, empty_results, swap, swap_batch
from kernels.pools.uniswap_v3.state import PoolSnapshot, V3Pools, build_pools, read_pool

__all__ = [
    "PoolSnapshot",
    "TradeResults",
    "Trades",
    "V3Pools",
    "build_pools",
    "empty_results",
    "modify_liquidity",
    "modify_liquidity_batch",
    "read_pool",
    "swap",
    "swap_batch",
]
