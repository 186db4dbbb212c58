"""Mint and burn on flat arrays: UniswapV3Pool._modifyPosition without the owner's books.

Amounts are rounded for the pool: a minter pays rounded up, a burner is owed rounded down.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.checked_arrays import INTEGERS, entrance, wanted
from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.u256 import (
    Uint256,
    divmod256,
    load128,
    load256,
    sign_extend,
    store128,
    store256,
    to_float,
    u256,
)
from kernels.pools.uniswap_v3.forks import UNISWAP_V4
from kernels.pools.uniswap_v3.sqrt_price_math import amount0_delta, amount1_delta
from kernels.pools.uniswap_v3.state import V3Pools, as_int, net_as_float
from kernels.pools.uniswap_v3.status import (
    LIQUIDITY,
    MATH,
    OK,
    TICK_BOUND,
    TICK_LIQUIDITY,
    TICK_ORDER,
    TICK_SPACING,
    TICKS_FULL,
    TICKS_UNKNOWN,
    UNKNOWN_POOL,
)
from kernels.pools.uniswap_v3.tick_math import MAX_TICK, MIN_TICK, sqrt_ratio
from kernels.pools.uniswap_v3.ticks import insert_tick, place_of, remove_tick


class LiquidityChanges(NamedTuple):
    """N mints and burns."""

    pool: NDArray[np.int32]
    lower: NDArray[np.int32]  # tickLower
    upper: NDArray[np.int32]  # tickUpper
    mint: NDArray[np.bool_]  # else a burn
    amount: NDArray[np.uint64]  # [N, 2] liquidity


class LiquidityResults(NamedTuple):
    """What N mints cost, or N burns freed, without collected fees. 0 unless the status is OK."""

    status: NDArray[np.int32]
    amount0: NDArray[np.uint64]  # [N, 4]
    amount1: NDArray[np.uint64]  # [N, 4]


def empty_liquidity_results(changes: int) -> LiquidityResults:
    """Room for the results of `changes` mints and burns."""
    return LiquidityResults(
        np.zeros(changes, np.int32),
        np.zeros((changes, 4), np.uint64),
        np.zeros((changes, 4), np.uint64),
    )


@inline
def max_liquidity_per_tick(spacing: int, fork: int) -> Uint256:
    """tickSpacingToMaxLiquidityPerTick: (2^128 - 1) / number of ticks."""
    above = MAX_TICK // spacing
    below = above
    if fork == UNISWAP_V4 and MAX_TICK % spacing != 0:
        below += 1  # V4 rounds the lowest tick down, V3 towards zero
    most, _ = divmod256((u256(1) << 128) - 1, u256(np.uint64(above + below + 1)))
    return most


@inline
def _checked_range(pools: V3Pools, pool: int, lower: int, upper: int, amount: Uint256) -> int:
    """The requires that do not depend on the ticks' liquidity, as a status."""
    if pool < 0 or pool >= pools.tick.shape[0]:
        return UNKNOWN_POOL
    if lower >= upper:
        return TICK_ORDER
    if lower < MIN_TICK or upper > MAX_TICK:
        return TICK_BOUND
    if (amount >> 127) != u256(0):
        return MATH  # not an int128
    if lower < pools.known_ticks[pool, 0] or upper > pools.known_ticks[pool, 1]:
        return TICKS_UNKNOWN
    return OK


@lean_kernel
def _tick_change(
    pools: V3Pools, pool: int, tick: int, mint: bool, amount: Uint256
) -> tuple[int, bool]:
    """Whether Tick.update would accept the change: (status, whether the tick flips)."""
    never_inline()
    first = pools.first_tick[pool]
    last = first + pools.tick_count[pool]
    place = place_of(pools.ticks, first, last, tick)
    gross = u256(0)
    if place < last and pools.ticks[place] == tick:
        gross = u256(load128(pools.liquidity_gross, place))
    spacing = as_int(pools.tick_spacing[pool])
    if not mint and gross < amount:
        return LIQUIDITY, False
    after = gross + amount if mint else gross - amount
    if mint and after > max_liquidity_per_tick(spacing, as_int(pools.fork[pool])):
        return TICK_LIQUIDITY, False
    flips = (gross == u256(0)) != (after == u256(0))
    if flips and tick % spacing != 0:
        return TICK_SPACING, False
    return OK, flips


@lean_kernel
def _apply_to_tick(
    pools: V3Pools, pool: int, tick: int, mint: bool, amount: Uint256, add: bool, flips: bool
) -> None:
    """Tick.update and flipTick after every check has passed."""
    never_inline()
    first = pools.first_tick[pool]
    place = place_of(pools.ticks, first, first + pools.tick_count[pool], tick)
    if flips and not mint:
        remove_tick(pools, pool, place)
        return
    if flips:
        insert_tick(pools, pool, place, tick)
    gross = u256(load128(pools.liquidity_gross, place))
    net = sign_extend(load128(pools.liquidity_net, place))
    store128(pools.liquidity_gross, place, gross + amount if mint else gross - amount)
    store128(pools.liquidity_net, place, net + amount if add else net - amount)
    pools.liquidity_net_f64[place] = net_as_float(load128(pools.liquidity_net, place))


@inline
def _amounts(
    pools: V3Pools, pool: int, lower: int, upper: int, mint: bool, amount: Uint256
) -> tuple[Uint256, Uint256, bool]:
    """Token amounts of the change and whether the current tick is inside the range."""
    zero = u256(0)
    tick = as_int(pools.tick[pool])
    low = sqrt_ratio(lower)
    high = sqrt_ratio(upper)
    if tick < lower:
        _, amount0 = amount0_delta(low, high, amount, mint)
        return amount0, zero, False
    if tick >= upper:
        return zero, amount1_delta(low, high, amount, mint), False
    price = load256(pools.sqrt_price_x96, pool)
    _, amount0 = amount0_delta(price, high, amount, mint)
    return amount0, amount1_delta(low, price, amount, mint), True


@lean_kernel
def modify_liquidity(
    pools: V3Pools, pool: int, lower: int, upper: int, mint: bool, amount: Uint256
) -> tuple[int, Uint256, Uint256]:
    """Mint or burn `amount` of liquidity between two ticks: (status, amount0, amount1).

    Amount 0 changes nothing (the contract's "poke"). A burn is checked against the ticks: that its
    owner had the position is for the caller to know.
    """
    never_inline()
    zero = u256(0)
    status = _checked_range(pools, pool, lower, upper, amount)
    if status != OK or amount == zero:
        return status, zero, zero
    lower_status, lower_flips = _tick_change(pools, pool, lower, mint, amount)
    upper_status, upper_flips = _tick_change(pools, pool, upper, mint, amount)
    if lower_status != OK or upper_status != OK:
        return max(lower_status, upper_status), zero, zero
    count = pools.tick_count[pool] + lower_flips + upper_flips
    if mint and count > pools.first_tick[pool + 1] - pools.first_tick[pool]:
        return TICKS_FULL, zero, zero
    amount0, amount1, in_range = _amounts(pools, pool, lower, upper, mint, amount)
    if pools.fork[pool] == UNISWAP_V4:
        # Amounts are int128 there, and a mint is the negative side.
        most = (u256(1) << 127) - np.uint64(not mint)
        if amount0 > most or amount1 > most:
            return MATH, zero, zero
    if in_range:
        liquidity = u256(load128(pools.liquidity, pool))
        after = liquidity + amount if mint else liquidity - amount
        if (after >> 128) != zero:
            return LIQUIDITY, zero, zero
        store128(pools.liquidity, pool, after)
        pools.liquidity_f64[pool] = to_float(after)
    # A mint adds its liquidity going up over the lower tick and takes it away over the upper one.
    _apply_to_tick(pools, pool, lower, mint, amount, mint, lower_flips)
    _apply_to_tick(pools, pool, upper, mint, amount, not mint, upper_flips)
    return OK, amount0, amount1


@entrance(
    changes={
        "pool": wanted(INTEGERS, "N"),
        "lower": wanted(INTEGERS, "N"),
        "upper": wanted(INTEGERS, "N"),
        "mint": wanted(np.bool_, "N"),
        "amount": wanted(np.uint64, "N", 2),
    },
    results={
        "status": wanted(INTEGERS, "N"),
        "amount0": wanted(np.uint64, "N", 4),
        "amount1": wanted(np.uint64, "N", 4),
    },
)
@lean_kernel
def modify_liquidity_batch(
    pools: V3Pools, changes: LiquidityChanges, results: LiquidityResults
) -> None:
    """`modify_liquidity` each change, in order."""
    for row in range(changes.pool.shape[0]):
        status, amount0, amount1 = modify_liquidity(
            pools,
            as_int(changes.pool[row]),
            as_int(changes.lower[row]),
            as_int(changes.upper[row]),
            changes.mint[row],
            u256(load128(changes.amount, row)),
        )
        results.status[row] = status
        store256(results.amount0, row, amount0)
        store256(results.amount1, row, amount1)
