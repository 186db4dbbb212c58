"""UniswapV3Pool, its forks and V4's pools on flat arrays: quote and swap, exact input and output,
with a price limit; equal to the deployed contract in every bit, reverts included as status codes.

A swap that fails leaves the arrays as they were. Fees are not credited to positions: who owns which
liquidity is not part of the state, only what a trade can see.
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
    u512,
)
from kernels.pools.uniswap_v3.forks import PANCAKE_V3, UNISWAP_V3, UNISWAP_V4
from kernels.pools.uniswap_v3.state import X96, V3Pools, as_int
from kernels.pools.uniswap_v3.status import (
    FULL_FEE,
    LIQUIDITY,
    MATH,
    OK,
    PRICE_LIMIT,
    TICKS_UNKNOWN,
    UNKNOWN_POOL,
    ZERO_AMOUNT,
)
from kernels.pools.uniswap_v3.swap_fee import fits_balance_delta, swap_fee
from kernels.pools.uniswap_v3.swap_math import PIPS, exact_in_step, exact_out_step, step_amount_in
from kernels.pools.uniswap_v3.tick_math import (
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    max_sqrt_ratio,
    sqrt_ratio,
    tick_of,
)
from kernels.pools.uniswap_v3.ticks import (
    TickSpan,
    beyond_empty_words,
    next_tick_within_word,
)

PIPS_10_000 = np.uint64(10_000)


class Trades(NamedTuple):
    """N swaps. `limit` 0 means as far as the price goes, as the routers pass it."""

    pool: NDArray[np.int32]
    zero_for_one: NDArray[np.bool_]
    exact_in: NDArray[np.bool_]  # amount is an input, else an output
    amount: NDArray[np.uint64]  # [N, 4] magnitude of amountSpecified
    limit: NDArray[np.uint64]  # [N, 4] sqrtPriceLimitX96


class TradeResults(NamedTuple):
    """What N swaps did. Amounts are 0 unless the status is OK."""

    status: NDArray[np.int32]
    amount_in: NDArray[np.uint64]  # [N, 4] fee included
    amount_out: NDArray[np.uint64]  # [N, 4]
    ticks_crossed: NDArray[np.int32]  # initialised ticks, which is what costs gas


def empty_results(trades: int) -> TradeResults:
    """Room for the results of `trades` swaps."""
    return TradeResults(
        np.zeros(trades, np.int32),
        np.zeros((trades, 4), np.uint64),
        np.zeros((trades, 4), np.uint64),
        np.zeros(trades, np.int32),
    )


class Rules(NamedTuple):
    """What the swaps of a pool go by in one direction."""

    spacing: int
    fee_pips: np.uint64
    fork: int
    protocol_fee: int


class Place(NamedTuple):
    """Where a pool stands: what a swap moves."""

    price: Uint256  # sqrtPriceX96
    tick: int
    liquidity: Uint256
    cursor: int  # place of the first initialised tick above `tick`


class Trade(NamedTuple):
    """What is asked of the pool; `amount` is an input for `exact_in`, else an output."""

    zero_for_one: bool
    exact_in: bool
    amount: Uint256
    limit: Uint256  # sqrtPriceLimitX96


class Swapped(NamedTuple):
    """What a walk did before it ended; all of it counts only if the status is OK."""

    status: int
    paid: Uint256  # fee included
    received: Uint256
    place: Place
    crossed: int  # initialised ticks


@lean_kernel
def _fee_growth_fits(
    fork: int,
    protocol_fee: int,
    paid: Uint256,
    price: Uint256,
    current: Uint256,
    liquidity: Uint256,
) -> bool:
    """Whether V3's fee growth per unit of liquidity fits 256 bits: mulDiv(fee, 2^128, liquidity).

    Only payments from 2^128 up can fail it, so the fee is not computed for others.
    """
    never_inline()
    if liquidity == u256(0) or fork > PANCAKE_V3:
        return True
    fee = paid - step_amount_in(price, current, liquidity)
    if protocol_fee > 0 and fork == UNISWAP_V3:
        share, _ = divmod256(fee, u256(np.uint64(protocol_fee)))
        fee = fee - share
    elif protocol_fee > 0:
        product = u512(fee) * u512(np.uint64(protocol_fee))
        if (product >> 256) != u512(0):
            return False
        share, _ = divmod256(u256(product), u256(PIPS_10_000))
        fee = fee - share
    return (fee >> 128) < liquidity


@inline
def walk(ticks: TickSpan, rules: Rules, place: Place, trade: Trade, want_tick: bool) -> Swapped:
    """The loop of UniswapV3Pool.swap on values, writing nothing; in one piece, as the contract's.

    The tick of a price inside a range is computed only for `want_tick`: quotes do not need it.
    """
    price, tick, liquidity, cursor = place
    zero_for_one, limit = trade.zero_for_one, trade.limit
    remaining, paid, received = trade.amount, u256(0), u256(0)
    status = OK
    crossed = 0
    while remaining != u256(0) and price != limit:
        start = price
        stop, at, initialized = next_tick_within_word(
            ticks, cursor, tick, rules.spacing, zero_for_one
        )
        if initialized:
            next_price = load256(ticks.sqrt_price, at)
        else:
            if liquidity == u256(0):
                stop = beyond_empty_words(ticks, cursor, stop, rules.spacing, limit, zero_for_one)
            stop = min(max(stop, MIN_TICK), MAX_TICK)
            next_price = sqrt_ratio(stop)
        target = next_price
        if (zero_for_one and target < limit) or (not zero_for_one and target > limit):
            target = limit
        if trade.exact_in:
            status, price, step_paid, step_received = exact_in_step(
                price, target, liquidity, remaining, rules.fee_pips
            )
            remaining = remaining - step_paid
        else:
            status, price, step_paid, step_received = exact_out_step(
                price, target, liquidity, remaining, rules.fee_pips
            )
            remaining = remaining - step_received
        if status != OK:
            break
        paid = paid + step_paid
        received = received + step_received
        if (step_paid >> 128) != u256(0) and not _fee_growth_fits(
            rules.fork, rules.protocol_fee, step_paid, price, start, liquidity
        ):
            status = MATH
            break
        if not initialized and (stop < ticks.known_low or stop > ticks.known_high):
            reached = tick_of(price)
            if reached < ticks.known_low or reached > ticks.known_high:
                status = TICKS_UNKNOWN
                break
        if price == next_price:
            if initialized:
                net = sign_extend(load128(ticks.liquidity_net, at))
                liquidity = liquidity - net if zero_for_one else liquidity + net
                if (liquidity >> 128) != u256(0):
                    status = LIQUIDITY
                    break
                cursor = at if zero_for_one else at + 1
                crossed += 1
            tick = stop - 1 if zero_for_one else stop
        elif price != start and want_tick:
            tick = tick_of(price)
    return Swapped(status, paid, received, Place(price, tick, liquidity, cursor), crossed)


@inline
def _checked_limit(price: Uint256, limit: Uint256, zero_for_one: bool) -> tuple[int, Uint256]:
    """The pool's require on the price limit: (status, limit), 0 standing for the furthest one."""
    if zero_for_one:
        if limit == u256(0):
            limit = u256(MIN_SQRT_RATIO) + 1
        valid = limit < price and limit > u256(MIN_SQRT_RATIO)
    else:
        if limit == u256(0):
            limit = max_sqrt_ratio() - 1
        valid = limit > price and limit < max_sqrt_ratio()
    return (OK if valid else PRICE_LIMIT), limit


@inline
def swap(
    pools: V3Pools,
    pool: int,
    zero_for_one: bool,
    exact_in: bool,
    amount: Uint256,
    limit: Uint256,
    commit: bool,
) -> tuple[int, Uint256, Uint256, Uint256, int]:
    """The pool contract's swap: (status, amount_in with fee, amount_out, price after, crossed).

    `crossed` counts initialised ticks, which is what costs gas.

    Without `commit` it is a quote, and writes nothing. Amounts are 0 unless the status is OK. Where
    liquidity ends less than `amount` is traded, as in the contract: compare. A `limit` of 0 means
    as far as the price goes, which is how the routers use it. It is in one piece because every
    callee that is handed the arrays of the pools makes the compilation longer.
    """
    zero = u256(0)
    if pool < 0 or pool >= pools.tick.shape[0]:
        return UNKNOWN_POOL, zero, zero, zero, 0
    price = load256(pools.sqrt_price_x96, pool)
    valid, limit = _checked_limit(price, limit, zero_for_one)
    fork = as_int(pools.fork[pool])
    fee_pips = swap_fee(pools, pool, zero_for_one)
    # An int256 reaches 2^255 on its negative side only: V4's exact inputs, V3's exact outputs.
    most = (u256(1) << 255) - np.uint64(exact_in != (fork == UNISWAP_V4))
    if amount == zero:
        valid = ZERO_AMOUNT
    elif amount > most:
        valid = MATH
    elif fee_pips >= PIPS and not exact_in:
        valid = FULL_FEE
    if valid != OK:
        return valid, zero, zero, price, 0
    protocol_fee = as_int(pools.protocol_fee[pool, 0 if zero_for_one else 1])
    first = pools.first_tick[pool]
    swapped = walk(
        TickSpan(
            pools.ticks,
            pools.liquidity_net,
            pools.tick_sqrt_price,
            first,
            first + pools.tick_count[pool],
            as_int(pools.known_ticks[pool, 0]),
            as_int(pools.known_ticks[pool, 1]),
        ),
        Rules(as_int(pools.tick_spacing[pool]), fee_pips, fork, protocol_fee),
        Place(
            price,
            as_int(pools.tick[pool]),
            u256(load128(pools.liquidity, pool)),
            pools.cursor[pool],
        ),
        Trade(zero_for_one, exact_in, amount, limit),
        commit,
    )
    status, paid, received, place, crossed = swapped
    if status == OK and fork == UNISWAP_V4 and not fits_balance_delta(paid, received):
        status = MATH
    if status != OK:
        return status, zero, zero, price, 0
    if commit:
        store256(pools.sqrt_price_x96, pool, place.price)
        pools.sqrt_price_f64[pool] = to_float(place.price) * X96
        pools.tick[pool] = place.tick
        pools.cursor[pool] = place.cursor
        store128(pools.liquidity, pool, place.liquidity)
        pools.liquidity_f64[pool] = to_float(place.liquidity)
    return status, paid, received, place.price, crossed


@entrance(
    trades={
        "pool": wanted(INTEGERS, "N"),
        "zero_for_one": wanted(np.bool_, "N"),
        "exact_in": wanted(np.bool_, "N"),
        "amount": wanted(np.uint64, "N", 4),
        "limit": wanted(np.uint64, "N", 4),
    },
    results={
        "status": wanted(INTEGERS, "N"),
        "amount_in": wanted(np.uint64, "N", 4),
        "amount_out": wanted(np.uint64, "N", 4),
        "ticks_crossed": wanted(INTEGERS, "N"),
    },
)
@lean_kernel
def swap_batch(pools: V3Pools, trades: Trades, results: TradeResults, commit: bool) -> None:
    """`swap` each trade: with `commit` in order, each against what the ones before it left; else
    all against the present state."""
    for row in range(trades.pool.shape[0]):
        status, paid, received, _, crossed = swap(
            pools,
            as_int(trades.pool[row]),
            trades.zero_for_one[row],
            trades.exact_in[row],
            load256(trades.amount, row),
            load256(trades.limit, row),
            commit,
        )
        results.status[row] = status
        store256(results.amount_in, row, paid)
        store256(results.amount_out, row, received)
        results.ticks_crossed[row] = crossed
