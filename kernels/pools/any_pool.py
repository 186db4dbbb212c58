"""Pools of every kind in one layout, and one switch on the kind: `quote` and `apply`.

Constant product (Uniswap V2 and forks), concentrated liquidity (Uniswap V3, PancakeSwap V3 and
hookless Uniswap V4), StableSwap plain pools and Balancer weighted pools. Integers as in the
contracts; what each kind computes stands in its own file. `pool_records.build` makes the arrays.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.checked_arrays import INTEGERS, entrance, wanted
from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.checked_math import add, mul
from kernels.numbers.u256 import Limbs, Uint256, load256, store256, u128, u256
from kernels.pools import stableswap, uniswap_v2, weighted
from kernels.pools.stableswap import (
    amplification,
    get_d,
    scale_balances,
    scaled_input,
    scaled_output,
    settle,
    valid_fees,
)
from kernels.pools.uniswap_v2 import get_amount_in, get_amount_out
from kernels.pools.uniswap_v3 import status as concentrated_status
from kernels.pools.uniswap_v3.pool import swap
from kernels.pools.uniswap_v3.state import V3Pools
from kernels.pools.weighted import Side, swap_given_in, swap_given_out

# Values of Pools.kind.
UNISWAP_V2 = 0
UNISWAP_V3 = 1
PANCAKE_V3 = 2
UNISWAP_V4 = 3
STABLESWAP = 4
WEIGHTED = 5
KINDS = ("uniswap_v2", "uniswap_v3", "pancake_v3", "uniswap_v4", "stableswap", "weighted")

# Columns of Pools.parameters, by kind.
FEE_DENOMINATOR = 0  # Uniswap V2
FEE = 0  # StableSwap in 1e-10, weighted in 1e-18
ADMIN_FEE = 1  # StableSwap, 1e-10 of the fee
INITIAL_A = 2  # as the pool stores it
FUTURE_A = 3
INITIAL_TIME_S = 4
FUTURE_TIME_S = 5
A_SCALE = 6  # StableSwap: what the pool's own A is multiplied by to be A n^(n-1) 100
EXACT_POWERS = 1  # weighted: 1 for pools after 2021
PARAMETERS = 7

OK = 0
UNKNOWN_POOL = 1
UNKNOWN_COIN = 2
PARTIAL_FILL = 3  # liquidity ends before the amount is traded
RAMP_NOT_STARTED = 4  # the clock is before the start of the pool's A ramp
# A kind's own status is added to these.
FROM_UNISWAP_V2 = 100
FROM_CONCENTRATED = 200
FROM_STABLESWAP = 300
FROM_WEIGHTED = 400

REASONS = {
    OK: "ok",
    UNKNOWN_POOL: "no pool with this index",
    UNKNOWN_COIN: "no such pair of coins in the pool",
    PARTIAL_FILL: "liquidity ends before the amount is traded",
    RAMP_NOT_STARTED: "time_s is before the start of the A ramp: set the time of the block",
}
FAMILIES: dict[int, dict[int, str]] = {
    FROM_UNISWAP_V2: uniswap_v2.REVERT_REASONS | {uniswap_v2.INVALID_FEE: "fee out of bounds"},
    FROM_CONCENTRATED: concentrated_status.REASONS,
    FROM_STABLESWAP: stableswap.REASONS,
    FROM_WEIGHTED: weighted.REASONS,
}

MAX_UINT112_BITS = 112
# A Python True or False is a type of its own to Numba, and a kernel is compiled once more for each.
YES: Any = np.bool_(True)
NO: Any = np.bool_(False)
# Widens what is read from a narrow array: kernels would be compiled once more for each width.
as_int: Any = np.int64


class Pools(NamedTuple):
    """P pools with C coins in all. Rows of uint64 are integers, least significant limb first.

    A coin is one token of one pool; a pool's coins are a slice, and are named by their place in it.
    """

    kind: NDArray[np.int8]  # [P]
    row: NDArray[np.int32]  # [P] row in `concentrated`, -1 for other kinds
    first_coin: NDArray[np.int64]  # [P + 1]
    token: NDArray[np.int32]  # [C] the market's token
    balance: NDArray[np.uint64]  # [C, 4] in token units; 0 for concentrated liquidity
    scaled: NDArray[np.uint64]  # [C, 4] StableSwap: balance at 18 decimals
    rate: NDArray[np.uint64]  # [C, 4] StableSwap: scaled = balance * rate // 1e18
    weight: NDArray[np.int64]  # [C] weighted, 1e-18
    decimals_scale: NDArray[np.int64]  # [C] weighted: 10^(18 - decimals)
    fee_numerator: NDArray[np.int64]  # [C] Uniswap V2: kept when this coin is sold
    parameters: NDArray[np.int64]  # [P, PARAMETERS]
    time_s: NDArray[np.int64]  # [1] timestamp of the block that is traded in, for A ramps
    concentrated: V3Pools


def reason(status: int) -> str:
    """What a status of `quote` or `apply` means."""
    family = status // 100 * 100
    if family:
        return FAMILIES.get(family, {}).get(status - family, f"unknown status {status}")
    return REASONS.get(status, f"unknown status {status}")


@inline
def _exceeds_uint112(value: Uint256) -> bool:
    return (value >> MAX_UINT112_BITS) != u256(0)


@lean_kernel
def _trade_v2(
    pools: Pools, pool: int, coin_in: int, coin_out: int, exact_in: bool, amount: Uint256
) -> tuple[int, Uint256]:
    """Router02's amount, refused where the pair would revert; coins are rows of the coin arrays."""
    never_inline()
    nothing = u256(0)
    if _exceeds_uint112(amount):
        return FROM_UNISWAP_V2 + uniswap_v2.OVERFLOW, nothing
    reserve_in, reserve_out = load256(pools.balance, coin_in), load256(pools.balance, coin_out)
    numerator = pools.fee_numerator[coin_in]
    denominator = pools.parameters[pool, FEE_DENOMINATOR]
    if exact_in:
        status, output = get_amount_out(
            u128(amount), u128(reserve_in), u128(reserve_out), numerator, denominator
        )
        answer, paid = u256(output), amount
        # The router asks the pair for nothing, and the pair refuses.
        if status == uniswap_v2.OK and answer == nothing:
            status = uniswap_v2.INSUFFICIENT_OUTPUT_AMOUNT
    else:
        status, answer = get_amount_in(
            u128(amount), u128(reserve_in), u128(reserve_out), numerator, denominator
        )
        paid = answer
    if status != uniswap_v2.OK:
        return FROM_UNISWAP_V2 + status, nothing
    if _exceeds_uint112(paid) or _exceeds_uint112(reserve_in + paid):
        return FROM_UNISWAP_V2 + uniswap_v2.OVERFLOW, nothing
    return OK, answer


@lean_kernel
def _trade_concentrated(
    pools: Pools, pool: int, zero_for_one: bool, exact_in: bool, amount: Uint256, commit: bool
) -> tuple[int, Uint256]:
    """Swap without a price limit, refused where liquidity ends before the amount is traded."""
    never_inline()
    status, paid, received, _, _ = swap(
        pools.concentrated,
        as_int(pools.row[pool]),
        zero_for_one,
        exact_in,
        amount,
        u256(0),
        commit,
    )
    if status != OK:
        return FROM_CONCENTRATED + status, u256(0)
    if (paid if exact_in else received) != amount:
        return PARTIAL_FILL, u256(0)
    return OK, received if exact_in else paid


@lean_kernel
def _trade_stable(
    pools: Pools,
    pool: int,
    i: int,
    j: int,
    exact_in: bool,
    amount: Uint256,
    commit: bool,
) -> tuple[int, Uint256]:
    """get_dy and exchange of coins i and j of the pool; an exact output by `scaled_input`."""
    never_inline()
    nothing = u256(0)
    first, last = pools.first_coin[pool], pools.first_coin[pool + 1]
    amp = amplification_now(pools, pool)
    if amp < 0:
        return RAMP_NOT_STARTED, nothing
    fee = pools.parameters[pool, FEE]
    if not valid_fees(amp, fee, pools.parameters[pool, ADMIN_FEE]):
        return FROM_STABLESWAP + stableswap.INVALID_PARAMETER, nothing
    xp, rates = pools.scaled[first:last], pools.rate[first:last]
    status, d = get_d(xp, amp)
    if status != stableswap.OK:
        return FROM_STABLESWAP + status, nothing
    dx = amount
    if not exact_in:
        if amount == nothing:
            return FROM_STABLESWAP + stableswap.NO_INPUT, nothing
        status, dx = scaled_input(xp, rates, i, j, amount, amp, fee, d)
        if status != stableswap.OK or not commit:
            return (OK if status == stableswap.OK else FROM_STABLESWAP + status), dx
    balances = pools.balance[first:last]
    balance, over = add(load256(balances, i), dx)
    _, over_scaled = mul(balance, load256(rates, i))
    if over or over_scaled:
        # The contract would take it, and nothing after it: `scaled` could not hold the balance.
        return FROM_STABLESWAP + stableswap.REVERTED, nothing
    status, output, fee_part = scaled_output(xp, rates, i, j, dx, amp, fee, d)
    if status == stableswap.OK and commit:
        admin_fee = pools.parameters[pool, ADMIN_FEE]
        status = settle(balances, rates, i, j, dx, output, fee_part, admin_fee)
        scale_balances(balances, rates, xp)
    if status != stableswap.OK:
        return FROM_STABLESWAP + status, nothing
    return OK, output if exact_in else dx


@inline
def amplification_now(pools: Pools, pool: int) -> int:
    """A n^(n-1) 100 of a StableSwap pool at the block's time, below 0 before its ramp starts.

    A ramp is rounded to the pool's own unit of A before it is scaled.
    """
    own = amplification(
        pools.parameters[pool, INITIAL_A],
        pools.parameters[pool, FUTURE_A],
        pools.parameters[pool, INITIAL_TIME_S],
        pools.parameters[pool, FUTURE_TIME_S],
        pools.time_s[0],
    )
    return own * pools.parameters[pool, A_SCALE]


@lean_kernel
def _trade_weighted(
    pools: Pools, pool: int, coin_in: int, coin_out: int, exact_in: bool, amount: Uint256
) -> tuple[int, Uint256]:
    """onSwap through the Vault, whose balances are uint112; coins are rows of the coin arrays."""
    never_inline()
    nothing = u256(0)
    balance_in, balance_out = load256(pools.balance, coin_in), load256(pools.balance, coin_out)
    entering = Side(balance_in, pools.weight[coin_in], pools.decimals_scale[coin_in])
    leaving = Side(balance_out, pools.weight[coin_out], pools.decimals_scale[coin_out])
    fee = pools.parameters[pool, FEE]
    exact_powers = pools.parameters[pool, EXACT_POWERS] != 0
    # Written twice, because a choice between two kernels needs one signature.
    if exact_in:
        status, answer = swap_given_in(entering, leaving, fee, amount, exact_powers)
        paid, received = amount, answer
    else:
        status, answer = swap_given_out(entering, leaving, fee, amount, exact_powers)
        paid, received = answer, amount
    if status != weighted.OK:
        return FROM_WEIGHTED + status, nothing
    # The Vault refuses amount 0 and balances beyond uint112 (BAL#510, BAL#526).
    if amount == nothing or received > balance_out:
        return FROM_WEIGHTED + weighted.REVERTED, nothing
    if _exceeds_uint112(paid) or _exceeds_uint112(balance_in + paid):
        return FROM_WEIGHTED + weighted.REVERTED, nothing
    return OK, answer


@lean_kernel
def trade(
    pools: Pools,
    pool: int,
    coin_in: int,
    coin_out: int,
    exact_in: bool,
    amount: Uint256,
    commit: bool,
) -> tuple[int, Uint256]:
    """One swap of `coin_in` into `coin_out`: (status, the amount that was not given).

    `amount` is the input for `exact_in`, else the output; U256 in token units. Outputs are rounded
    down and inputs up, exactly as the contracts do it. With `commit` the pool moves; nothing moves
    and the answer is 0 unless the status is OK (`reason` names the others). In a pool of two tokens
    zero for one is coin 0 into coin 1.

    All of the amount is traded or nothing: a V3 pool whose liquidity ends on the way would take
    less, which is another trade (use uniswap_v3.pool.swap to make it). StableSwap has no exact
    output: the answer is an input that buys it, the least up to some units of rounding.
    """
    never_inline()
    nothing = u256(0)
    if pool < 0 or pool >= pools.kind.shape[0]:
        return UNKNOWN_POOL, nothing
    first = pools.first_coin[pool]
    coins = pools.first_coin[pool + 1] - first
    if coin_in == coin_out or not (0 <= coin_in < coins and 0 <= coin_out < coins):
        return UNKNOWN_COIN, nothing
    kind = as_int(pools.kind[pool])
    if kind == STABLESWAP:
        return _trade_stable(pools, pool, coin_in, coin_out, exact_in, amount, commit)
    if kind != UNISWAP_V2 and kind != WEIGHTED:
        zero_for_one = coin_in == 0
        status, answer = _trade_concentrated(pools, pool, zero_for_one, exact_in, amount, NO)
        if status == OK and commit:
            _trade_concentrated(pools, pool, zero_for_one, exact_in, amount, commit)
        return status, answer
    row_in, row_out = first + coin_in, first + coin_out
    if kind == UNISWAP_V2:
        status, answer = _trade_v2(pools, pool, row_in, row_out, exact_in, amount)
    else:
        status, answer = _trade_weighted(pools, pool, row_in, row_out, exact_in, amount)
    if status == OK and commit:
        paid, received = (amount, answer) if exact_in else (answer, amount)
        store256(pools.balance, row_in, load256(pools.balance, row_in) + paid)
        store256(pools.balance, row_out, load256(pools.balance, row_out) - received)
    return status, answer


@inline
def quote(
    pools: Pools, pool: int, coin_in: int, coin_out: int, exact_in: bool, amount: Uint256
) -> tuple[int, Uint256]:
    """`trade` that moves nothing."""
    return trade(pools, pool, coin_in, coin_out, exact_in, amount, NO)


@inline
def apply(
    pools: Pools, pool: int, coin_in: int, coin_out: int, exact_in: bool, amount: Uint256
) -> tuple[int, Uint256]:
    """`trade` that moves the pool when its status is OK."""
    return trade(pools, pool, coin_in, coin_out, exact_in, amount, YES)


class PoolTrades(NamedTuple):
    """N swaps."""

    pool: NDArray[np.int64]
    coin_in: NDArray[np.int64]
    coin_out: NDArray[np.int64]
    exact_in: NDArray[np.bool_]
    amount: NDArray[np.uint64]  # [N, 4]


@entrance(
    trades={
        "pool": wanted(INTEGERS, "N"),
        "coin_in": wanted(INTEGERS, "N"),
        "coin_out": wanted(INTEGERS, "N"),
        "exact_in": wanted(np.bool_, "N"),
        "amount": wanted(np.uint64, "N", 4),
    },
    status=wanted(INTEGERS, "N"),
    answers=wanted(np.uint64, "N", 4),
)
@lean_kernel
def trade_batch(
    pools: Pools, trades: PoolTrades, status: Any, answers: Limbs, commit: bool
) -> None:
    """`trade` each row into int[N] `status` and uint64[N, 4] `answers`; with `commit` in order."""
    for at in range(trades.pool.shape[0]):
        status[at], answer = trade(
            pools,
            trades.pool[at],
            trades.coin_in[at],
            trades.coin_out[at],
            trades.exact_in[at],
            load256(trades.amount, at),
            commit,
        )
        store256(answers, at, answer)
