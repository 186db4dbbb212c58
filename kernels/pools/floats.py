"""Float64 mirrors of every kind of pool, with their slopes: they rank and size, never decide.

Each is the real-valued map that the contract rounds down: increasing and concave. Amounts are in
smallest units of the tokens.
"""

from typing import Any

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.u256 import load256, to_float
from kernels.pools.any_pool import (
    FEE,
    FEE_DENOMINATOR,
    STABLESWAP,
    UNISWAP_V2,
    WEIGHTED,
    Pools,
    amplification_now,
    as_int,
)
from kernels.pools.stableswap import A_PRECISION, get_d
from kernels.pools.stableswap import OK as STABLE_OK
from kernels.pools.uniswap_v3.float_filter import float_quote

# Of Balancer's 30 % limit on an input, what rounding cannot push over it.
MAX_IN_SHARE = 0.3 * (1.0 - 1e-12)
NOTHING = (np.nan, np.nan)


@inline
def _float_v2(pools: Pools, pool: int, row_in: int, row_out: int, amount: float) -> tuple:
    kept = float(pools.fee_numerator[row_in]) / float(pools.parameters[pool, FEE_DENOMINATOR])
    reserve_in = to_float(load256(pools.balance, row_in))
    reserve_out = to_float(load256(pools.balance, row_out))
    share = kept * amount / reserve_in
    output = share * reserve_out / (1.0 + share)
    return output, kept * reserve_out / reserve_in / ((1.0 + share) * (1.0 + share))


@inline
def _float_weighted(pools: Pools, pool: int, row_in: int, row_out: int, amount: float) -> tuple:
    """B_o (1 - (1 + a / B_i)^-w); flat beyond the largest input that the pool takes."""
    kept = 1.0 - float(pools.parameters[pool, FEE]) * 1e-18
    balance_in = to_float(load256(pools.balance, row_in))
    balance_out = to_float(load256(pools.balance, row_out))
    exponent = float(pools.weight[row_in]) / float(pools.weight[row_out])
    share = min(kept * amount / balance_in, MAX_IN_SHARE)
    log_share = np.log1p(share)
    output = -balance_out * np.expm1(-exponent * log_share)
    slope = kept * exponent * balance_out / balance_in * np.exp(-(exponent + 1.0) * log_share)
    return output, slope if share < MAX_IN_SHARE else 0.0


@lean_kernel
def _float_stable(pools: Pools, pool: int, i: int, j: int, amount: float) -> tuple[float, float]:
    """The quadratic that the contract's Newton steps solve, written for the output dy itself.

    y^2 + b y = c at both ends, with b rising by the input u and c as 1 / x, leaves
    dy^2 - (2 y + b + u) dy + u (y + c / (x + u)) = 0, where nothing large cancels.
    """
    never_inline()
    first, last = pools.first_coin[pool], pools.first_coin[pool + 1]
    amp = amplification_now(pools, pool)
    if amp <= 0:
        return NOTHING
    status, d_integer = get_d(pools.scaled[first:last], amp)
    d = to_float(d_integer)
    if status != STABLE_OK or not d > 0.0:
        return NOTHING
    coins = last - first
    to_scaled = to_float(load256(pools.rate, first + i)) * 1e-18
    from_scaled = 1e18 / to_float(load256(pools.rate, first + j))
    kept = 1.0 - float(pools.parameters[pool, FEE]) * 1e-10
    ann = float(amp * coins) / A_PRECISION
    x, y = to_float(load256(pools.scaled, first + i)), to_float(load256(pools.scaled, first + j))
    entering = amount * to_scaled
    total, c = 0.0, d
    for k in range(coins):
        if k != j:
            reserve = to_float(load256(pools.scaled, first + k))
            total += reserve
            c *= d / (reserve * coins)
    c *= d / (ann * coins)
    b = 2.0 * y + total + d / ann - d + entering
    product = entering * (y + c / (x + entering))
    root: Any = np.sqrt(max(b * b - 4.0 * product, 0.0))
    dy = 2.0 * product / (b + root)
    slope = (y - dy + c * x / ((x + entering) * (x + entering))) / root
    return dy * kept * from_scaled, slope * kept * from_scaled * to_scaled


@inline
def float_trade(pools: Pools, pool: int, i: int, j: int, amount: float) -> tuple[float, float]:
    """(output, marginal output) of selling `amount` of coin i for coin j; NaN where there is none.

    Pool and coins must exist. Within 1e-10 of the exact output, and the units it is rounded by.
    """
    first = pools.first_coin[pool]
    kind = as_int(pools.kind[pool])
    if kind == UNISWAP_V2:
        return _float_v2(pools, pool, first + i, first + j, amount)
    if kind == WEIGHTED:
        return _float_weighted(pools, pool, first + i, first + j, amount)
    if kind == STABLESWAP:
        return _float_stable(pools, pool, i, j, amount)
    return float_quote(pools.concentrated, as_int(pools.row[pool]), i == 0, amount)


@inline
def depth(pools: Pools, pool: int, i: int) -> float:
    """Units of coin i whose sale moves the pool's price a lot: where a search for sizes starts."""
    if pools.row[pool] < 0:
        return to_float(load256(pools.balance, pools.first_coin[pool] + i))
    row = as_int(pools.row[pool])
    root = float(pools.concentrated.sqrt_price_f64[row])
    liquidity = float(pools.concentrated.liquidity_f64[row])
    return liquidity / root if i == 0 else liquidity * root
