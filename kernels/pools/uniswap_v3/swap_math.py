"""v3-core's SwapMath.computeSwapStep: one swap step between two prices, at constant liquidity."""

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.numbers.u256 import Uint256, divmod512, u128, u256, u512
from kernels.pools.uniswap_v3.sqrt_price_math import (
    amount0_delta,
    amount1_delta,
    bounded_amount0,
    next_price_from_amount0,
    next_price_from_amount1,
)
from kernels.pools.uniswap_v3.status import MATH, OK
from kernels.pools.uniswap_v3.wide_arithmetic import below_2_128, per_divisor, per_million

PIPS = np.uint64(1_000_000)


@lean_kernel
def _wide_less_fee(amount: Uint256, fee_pips: np.uint64) -> Uint256:
    never_inline()
    rest, _ = divmod512(u512(amount) * u512(PIPS - fee_pips), u256(PIPS))
    return rest


@inline
def less_fee(amount: Uint256, fee_pips: np.uint64) -> Uint256:
    """What is left of an input after its fee: amount * (10^6 - fee) / 10^6, rounded down."""
    if below_2_128(amount):
        return per_million(u256(u128(amount)) * u256(PIPS - fee_pips))
    return _wide_less_fee(amount, fee_pips)


@inline
def plus_fee(amount_in: Uint256, fee_pips: np.uint64) -> Uint256:
    """amount_in + ceil(amount_in * fee / (10^6 - fee)) = ceil(amount_in * 10^6 / (10^6 - fee)).

    amount_in < 2^224, so that nothing overflows. With a fee of 100 % only amount_in 0 gets here.
    """
    if amount_in == u256(0):
        return amount_in
    paid, exact = per_divisor(amount_in * u256(PIPS), PIPS - fee_pips)
    if not exact:
        paid = paid + 1
    return paid


@lean_kernel
def exact_in_step(
    current: Uint256, target: Uint256, liquidity: Uint256, remaining: Uint256, fee_pips: np.uint64
) -> tuple[int, Uint256, Uint256, Uint256]:
    """Spend up to `remaining`: (status, price, paid with fee, received). Prices are not zero.

    When the target is not reached all of `remaining` is paid, because what rounding leaves over is
    taken as fee.
    """
    never_inline()
    spendable = less_fee(remaining, fee_pips)
    price = target
    paid = remaining
    if current >= target:
        computed, amount_in, exact = bounded_amount0(target, current, liquidity, spendable)
        if not exact:
            amount_in = amount_in + 1
        if computed and spendable >= amount_in:
            paid = plus_fee(amount_in, fee_pips)
        else:
            status, price = next_price_from_amount0(current, liquidity, spendable, True)
            if status != OK:
                return status, price, paid, paid
        return OK, price, paid, amount1_delta(price, current, liquidity, False)
    amount_in = amount1_delta(current, target, liquidity, True)
    if spendable >= amount_in:
        paid = plus_fee(amount_in, fee_pips)
    else:
        status, price = next_price_from_amount1(current, liquidity, spendable, True)
        if status != OK:
            return status, price, paid, paid
    _, received = amount0_delta(current, price, liquidity, False)
    return OK, price, paid, received


@lean_kernel
def exact_out_step(
    current: Uint256, target: Uint256, liquidity: Uint256, remaining: Uint256, fee_pips: np.uint64
) -> tuple[int, Uint256, Uint256, Uint256]:
    """Buy up to `remaining`: (status, price, paid with fee, received). Prices are not zero.

    When the target is not reached exactly `remaining` is received: the price is rounded beyond the
    exact one, and the contract caps the output at what was asked for.
    """
    never_inline()
    price = target
    received = remaining
    if current >= target:
        available = amount1_delta(target, current, liquidity, False)
        if remaining >= available:
            received = available
        else:
            status, price = next_price_from_amount1(current, liquidity, remaining, False)
            if status != OK:
                return status, price, received, received
        status, amount_in = amount0_delta(price, current, liquidity, True)
        return status, price, plus_fee(amount_in, fee_pips), received
    computed, available, _ = bounded_amount0(current, target, liquidity, remaining)
    if computed and remaining >= available:
        received = available
    else:
        status, price = next_price_from_amount0(current, liquidity, remaining, False)
        if status != OK:
            return status, price, received, received
    amount_in = amount1_delta(current, price, liquidity, True)
    return OK, price, plus_fee(amount_in, fee_pips), received


@inline
def swap_step(
    current: Uint256,
    target: Uint256,
    liquidity: Uint256,
    remaining: Uint256,
    exact_in: bool,
    fee_pips: np.uint64,
) -> tuple[int, Uint256, Uint256, Uint256]:
    """One step of a swap: (status, price, paid with fee, received)."""
    if exact_in:
        return exact_in_step(current, target, liquidity, remaining, fee_pips)
    return exact_out_step(current, target, liquidity, remaining, fee_pips)


@lean_kernel
def step_amount_in(price: Uint256, current: Uint256, liquidity: Uint256) -> Uint256:
    """Input without its fee of a step that moved the price from `current`; price <= current is
    zero for one. What the step was paid beyond it is the fee."""
    if price <= current:
        _, amount_in = amount0_delta(price, current, liquidity, True)
        return amount_in
    return amount1_delta(current, price, liquidity, True)


@inline
def compute_swap_step(
    current: Uint256,
    target: Uint256,
    liquidity: Uint256,
    remaining: Uint256,
    exact_in: bool,
    fee_pips: np.uint64,
) -> tuple[int, Uint256, Uint256, Uint256, Uint256]:
    """SwapMath.computeSwapStep: (status, price, amount_in, amount_out, fee_amount).

    `remaining` is the magnitude of the contract's amountRemaining, whose sign is `exact_in`.
    """
    zero = u256(0)
    if current == zero or (exact_in and target == zero):
        return MATH, zero, zero, zero, zero
    status, price, paid, received = swap_step(
        current, target, liquidity, remaining, exact_in, fee_pips
    )
    if status != OK:
        return status, zero, zero, zero, zero
    if current >= target:
        _, amount_in = amount0_delta(price, current, liquidity, True)
    else:
        amount_in = amount1_delta(current, price, liquidity, True)
    return OK, price, amount_in, received, paid - amount_in
