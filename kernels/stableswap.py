"""Curve StableSwap plain pools on exact integers: curve-contract's SwapTemplateBase.vy.

Invariant A n^n S + D = A D n^n + D^(n+1) / (n^n prod x), solved by the contract's own Newton steps
in its own order of rounding. Balances are in token units, `rates` bring them to 18 decimals (1e18
for an 18-decimal token, 1e30 for a 6-decimal one); `amp` is A n^(n-1) * 100, as `_A()` returns it.
"""

import numpy as np

from kernels.checked_math import add, div, mul, mul_div, sub
from kernels.compile import inline, kernel
from kernels.u256 import Limbs, Uint256, load256, store256, u256

MAX_COINS = 8
A_PRECISION = 100
FEE_DENOMINATOR = 10**10
RATE_DENOMINATOR = 10**18
MAX_ROUNDS = 255
# Bounds of the template's own setters, and of the int64 arithmetic of the ramp.
MAX_AMP = 10**6 * A_PRECISION
MAX_FEE = 5 * 10**9
MAX_ADMIN_FEE = 10**10
MAX_TIME = 1 << 34

OK = 0
REVERTED = 1  # overflow, underflow or division by zero, which Vyper turns into a revert
NO_CONVERGENCE = 2  # the contract raises after 255 rounds
BAD_COIN = 3  # i == j or an index outside the pool
INVALID_PARAMETER = 4  # amp, fee or time outside what a pool can be set to


@kernel
def amplification(
    initial_a: int, future_a: int, initial_time: int, future_time: int, now: int
) -> int:
    """`_A()`: the amplification at block time `now`, ramped linearly and rounded towards the start.

    -1 when an argument is negative or out of bounds, or the ramp starts after `now` or its end.
    """
    if not (0 <= initial_a <= MAX_AMP and 0 <= future_a <= MAX_AMP):
        return -1
    if not (0 <= initial_time < MAX_TIME and 0 <= future_time < MAX_TIME and 0 <= now < MAX_TIME):
        return -1
    if now >= future_time:
        return future_a
    if initial_time > now or initial_time >= future_time:
        return -1
    elapsed, length = now - initial_time, future_time - initial_time
    if future_a > initial_a:
        return initial_a + (future_a - initial_a) * elapsed // length
    return initial_a - (initial_a - future_a) * elapsed // length


@inline
def _close(a: Uint256, b: Uint256) -> bool:
    """True when the two differ by at most 1: the contract's test of convergence."""
    difference = a - b if a > b else b - a
    return difference <= u256(1)


@kernel
def scale_balances(balances: Limbs, rates: Limbs, xp: Limbs) -> int:
    """`_xp_mem`: xp = rates * balances // 1e18, uint256[n, 4] each; OK or REVERTED."""
    for k in range(balances.shape[0]):
        scaled, failed = mul_div(load256(rates, k), load256(balances, k), u256(RATE_DENOMINATOR))
        if failed:
            return REVERTED
        store256(xp, k, scaled)
    return OK


@kernel
def get_d(xp: Limbs, amp: int) -> tuple[int, Uint256]:
    """`_get_D`: (status, D) of scaled balances uint64[n, 4]; D is 0 for an empty pool."""
    count = np.uint64(xp.shape[0])
    total = u256(0)
    failed = False
    for k in range(xp.shape[0]):
        total, over = add(total, load256(xp, k))
        failed |= over
    if failed:
        return REVERTED, u256(0)
    if total == u256(0):
        return OK, u256(0)
    ann = u256(np.uint64(amp)) * u256(count)
    if ann < u256(A_PRECISION):
        return REVERTED, u256(0)
    ann_total, failed = mul(ann, total)
    ann_total, _ = div(ann_total, u256(A_PRECISION))
    d = total
    for _ in range(MAX_ROUNDS):
        d_product = d
        for k in range(xp.shape[0]):
            divisor, over = mul(load256(xp, k), u256(count))
            d_product, over_product = mul_div(d_product, d, divisor)
            failed |= over or over_product
        previous = d
        # D = (Ann S / 100 + n D_P) D / ((Ann - 100) D / 100 + (n + 1) D_P)
        share, over = mul(d_product, u256(count))
        failed |= over
        share, over = add(ann_total, share)
        failed |= over
        rest, over = mul_div(ann - u256(A_PRECISION), d, u256(A_PRECISION))
        failed |= over
        product, over = mul(u256(count) + u256(1), d_product)
        failed |= over
        rest, over = add(rest, product)
        failed |= over
        d, over = mul_div(share, d, rest)
        if failed or over:
            return REVERTED, u256(0)
        if _close(d, previous):
            return OK, d
    return NO_CONVERGENCE, u256(0)


@kernel
def get_y(i: int, j: int, x: Uint256, xp: Limbs, amp: int) -> tuple[int, Uint256]:
    """`_get_y`: (status, scaled balance of j) that keeps D when that of i becomes `x`."""
    coins = xp.shape[0]
    if i == j or not (0 <= i < coins and 0 <= j < coins):
        return BAD_COIN, u256(0)
    status, d = get_d(xp, amp)
    if status != OK:
        return status, u256(0)
    count = u256(np.uint64(coins))
    ann = u256(np.uint64(amp)) * count
    c, total = d, u256(0)
    failed = False
    for k in range(coins):
        if k == j:
            continue
        reserve = load256(xp, k)
        if k == i:
            reserve = u256(x)
        total, over = add(total, reserve)
        failed |= over
        divisor, over = mul(reserve, count)
        failed |= over
        c, over = mul_div(c, d, divisor)
        failed |= over
    c, over = mul(c, d)
    failed |= over
    c, over = mul_div(c, u256(A_PRECISION), ann * count)
    failed |= over
    b, over = mul_div(d, u256(A_PRECISION), ann)
    failed |= over
    b, over = add(total, b)
    if failed or over:
        return REVERTED, u256(0)
    return _solve_y(b, c, d)


@kernel
def _solve_y(b: Uint256, c: Uint256, d: Uint256) -> tuple[int, Uint256]:
    """Newton steps y = (y^2 + c) / (2 y + b - D) from y = D on: (status, y)."""
    y = u256(d)
    for _ in range(MAX_ROUNDS):
        previous = y
        square, failed = mul(y, y)
        square, over = add(square, c)
        failed |= over
        divisor, over = mul(y, u256(2))
        failed |= over
        divisor, over = add(divisor, b)
        failed |= over
        divisor, over = sub(divisor, d)
        failed |= over
        y, over = div(square, divisor)
        if failed or over:
            return REVERTED, u256(0)
        if _close(y, previous):
            return OK, y
    return NO_CONVERGENCE, u256(0)


@inline
def _valid_fees(amp: int, fee: int, admin_fee: int) -> bool:
    """True for what the template's setters allow."""
    return 0 < amp <= MAX_AMP and 0 <= fee <= MAX_FEE and 0 <= admin_fee <= MAX_ADMIN_FEE


@kernel
def _output(
    balances: Limbs, rates: Limbs, i: int, j: int, dx: Uint256, amp: int, fee: int, xp: Limbs
) -> tuple[int, Uint256, Uint256]:
    """(status, output in units of j after the fee, fee scaled to 18 decimals)."""
    nothing = u256(0)
    coins = balances.shape[0]
    if i == j or not (0 <= i < coins and 0 <= j < coins and 2 <= coins <= MAX_COINS):
        return BAD_COIN, nothing, nothing
    status = scale_balances(balances, rates, xp)
    if status != OK:
        return status, nothing, nothing
    paid, failed = mul_div(u256(dx), load256(rates, i), u256(RATE_DENOMINATOR))
    x, over = add(load256(xp, i), paid)
    if failed or over:
        return REVERTED, nothing, nothing
    status, y = get_y(i, j, x, xp, amp)
    if status != OK:
        return status, nothing, nothing
    # One unit less, "just in case there were some rounding errors".
    dy, failed = sub(load256(xp, j), y)
    dy, over = sub(dy, u256(1))
    failed |= over
    fee_part, over = mul_div(dy, u256(np.uint64(fee)), u256(FEE_DENOMINATOR))
    failed |= over
    output, over = mul_div(dy - fee_part, u256(RATE_DENOMINATOR), load256(rates, j))
    if failed or over:
        return REVERTED, nothing, nothing
    return OK, output, fee_part


@kernel
def get_dy(
    balances: Limbs, rates: Limbs, i: int, j: int, dx: Uint256, amp: int, fee: int, xp: Limbs
) -> tuple[int, Uint256]:
    """`get_dy`: (status, output of coin j in its units) for `dx` of coin i, rounded down.

    balances, rates and the scratch `xp` are uint64[n, 4] for n of 2 to 8 coins; fee in 1e-10.
    """
    if not _valid_fees(amp, fee, 0):
        return INVALID_PARAMETER, u256(0)
    status, output, _ = _output(balances, rates, i, j, dx, amp, fee, xp)
    return status, output


@kernel
def exchange(
    balances: Limbs,
    rates: Limbs,
    i: int,
    j: int,
    dx: Uint256,
    amp: int,
    fee: int,
    admin_fee: int,
    xp: Limbs,
) -> tuple[int, Uint256]:
    """`exchange`: like `get_dy`, and the balances move; untouched unless the status is OK.

    The admin's share of the fee leaves the balances too, rounded down in favour of the pool.
    """
    if not _valid_fees(amp, fee, admin_fee):
        return INVALID_PARAMETER, u256(0)
    status, output, fee_part = _output(balances, rates, i, j, dx, amp, fee, xp)
    if status != OK:
        return status, u256(0)
    admin, failed = mul_div(fee_part, u256(np.uint64(admin_fee)), u256(FEE_DENOMINATOR))
    admin, over = mul_div(admin, u256(RATE_DENOMINATOR), load256(rates, j))
    failed |= over
    bought, over = sub(load256(balances, j), output)
    failed |= over
    bought, over = sub(bought, admin)
    failed |= over
    sold, over = add(load256(balances, i), u256(dx))
    if failed or over:
        return REVERTED, u256(0)
    store256(balances, i, sold)
    store256(balances, j, bought)
    return OK, output
