"""The kernels of each V3 library, called by name on rows of Python integers: one compiled switch,
because every kernel that is compiled alone compiles its callees once more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.compile import lean_kernel
from kernels.numbers.u256 import from_limbs, load256, low64, store256, to_limbs, u256
from kernels.pools.uniswap_v3.full_math import mul_div, mul_div_rounding_up
from kernels.pools.uniswap_v3.liquidity import (
    LiquidityChanges,
    empty_liquidity_results,
    max_liquidity_per_tick,
    modify_liquidity_batch,
)
from kernels.pools.uniswap_v3.pool import Trades, empty_results, swap_batch
from kernels.pools.uniswap_v3.sqrt_price_math import (
    amount0_delta,
    amount1_delta,
    next_price_from_input,
    next_price_from_output,
)
from kernels.pools.uniswap_v3.state import V3Pools, as_int
from kernels.pools.uniswap_v3.status import OK
from kernels.pools.uniswap_v3.swap_math import compute_swap_step
from kernels.pools.uniswap_v3.tick_math import get_sqrt_ratio_at_tick, get_tick_at_sqrt_ratio

FUNCTIONS = (
    "mulDiv",
    "mulDivRoundingUp",
    "getSqrtRatioAtTick",
    "getTickAtSqrtRatio",
    "nextPriceFromInput",
    "nextPriceFromOutput",
    "amount0Delta",
    "amount1Delta",
    "computeSwapStep",
    "maxLiquidityPerTick",
)
SIGNED = {"getTickAtSqrtRatio"}


@lean_kernel
def _evaluate(
    function: int,
    arguments: NDArray[np.uint64],
    status: NDArray[np.int64],
    answers: NDArray[np.uint64],
) -> None:
    """Arguments and answers are [N, 5, 4] and [N, 4, 4]; flags and ticks sit in the low limb."""
    for row in range(arguments.shape[0]):
        a = load256(arguments[row], 0)
        b = load256(arguments[row], 1)
        c = load256(arguments[row], 2)
        flag = low64(load256(arguments[row], 3)) != np.uint64(0)
        signed = as_int(low64(a))
        answer = u256(0)
        code = OK
        if function == 0:
            code, answer, _ = mul_div(a, b, c)
        elif function == 1:
            code, answer = mul_div_rounding_up(a, b, c)
        elif function == 2:
            code, answer = get_sqrt_ratio_at_tick(signed)
        elif function == 3:
            code, tick = get_tick_at_sqrt_ratio(a)
            answer = u256(np.uint64(tick))
        elif function == 4:
            code, answer = next_price_from_input(a, b, c, flag)
        elif function == 5:
            code, answer = next_price_from_output(a, b, c, flag)
        elif function == 6:
            code, answer = amount0_delta(a, b, c, flag)
        elif function == 7:
            answer = amount1_delta(a, b, c, flag)
        elif function == 8:
            code = _step(arguments, row, answers)
            answer = load256(answers[row], 0)
        else:
            answer = max_liquidity_per_tick(signed, 0)
        status[row] = code
        store256(answers[row], 0, answer)


@lean_kernel
def _step(arguments: NDArray[np.uint64], row: int, answers: NDArray[np.uint64]) -> int:
    remaining = load256(arguments[row], 3)
    exact_in = (remaining >> 255) == u256(0)
    code, price, amount_in, amount_out, fee = compute_swap_step(
        load256(arguments[row], 0),
        load256(arguments[row], 1),
        load256(arguments[row], 2),
        remaining if exact_in else -remaining,
        exact_in,
        low64(load256(arguments[row], 4)),
    )
    store256(answers[row], 0, price)
    store256(answers[row], 1, amount_in)
    store256(answers[row], 2, amount_out)
    store256(answers[row], 3, fee)
    return code


def evaluate(name: str, rows: Sequence[Sequence[int]]) -> list[tuple[int, ...] | None]:
    """Answers of library function `name` to rows of arguments; None stands for a revert."""
    padded = [[int(value) % 2**256 for value in row] + [0] * (5 - len(row)) for row in rows]
    arguments = to_limbs([value for row in padded for value in row], 4).reshape(-1, 5, 4)
    status = np.zeros(len(rows), np.int64)
    answers = np.zeros((len(rows), 4, 4), np.uint64)
    _evaluate(FUNCTIONS.index(name), arguments, status, answers)
    width = 4 if name == "computeSwapStep" else 1
    values = from_limbs(answers.reshape(-1, 4))
    if name in SIGNED:
        values = [value - 2**64 if value >> 63 else value for value in values]
    return [
        tuple(values[4 * row : 4 * row + width]) if status[row] == OK else None
        for row in range(len(rows))
    ]


def swap_one(
    pools: V3Pools, zero_for_one: bool, amount_specified: int, limit: int, commit: bool
) -> tuple[int, int, int]:
    """One swap of pool 0 as the contract states it: (status, amount0, amount1), signed alike."""
    trades = Trades(
        pool=np.zeros(1, np.int32),
        zero_for_one=np.array([zero_for_one]),
        exact_in=np.array([amount_specified > 0]),
        amount=to_limbs([abs(amount_specified)], 4),
        limit=to_limbs([limit], 4),
    )
    results = empty_results(1)
    swap_batch(pools, trades, results, commit)
    paid = from_limbs(results.amount_in)[0]
    received = from_limbs(results.amount_out)[0]
    status = int(results.status[0])
    return (status, paid, -received) if zero_for_one else (status, -received, paid)


def modify_one(pools: V3Pools, lower: int, upper: int, delta: int) -> tuple[int, int, int]:
    """One mint (delta >= 0) or burn of pool 0: (status, amount0, amount1) paid to the pool."""
    changes = LiquidityChanges(
        pool=np.zeros(1, np.int32),
        lower=np.array([lower], np.int32),
        upper=np.array([upper], np.int32),
        mint=np.array([delta >= 0]),
        amount=to_limbs([abs(delta)], 2),
    )
    results = empty_liquidity_results(1)
    modify_liquidity_batch(pools, changes, results)
    sign = 1 if delta >= 0 else -1
    amount0, amount1 = from_limbs(results.amount0)[0], from_limbs(results.amount1)[0]
    return int(results.status[0]), sign * amount0, sign * amount1
