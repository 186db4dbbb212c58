"""Curve StableSwap plain pools on exact integers: curve-contract's SwapTemplateBase.vy, and
StableSwap3Pool.vy with its A times 100. Other generations differ: `records` refuses them by name.

Invariant A n^n S + D = A D n^n + D^(n+1) / (n^n prod x), solved by the contract's own Newton steps
in its own order of rounding. Balances are in token units, `rates` bring them to 18 decimals (1e18
for an 18-decimal token, 1e30 for a 6-decimal one); `amp` is A n^(n-1) * 100, as `_A()` returns it.
"""

import numpy as np

from kernels.compile import inline, kernel, never_inline
from kernels.numbers.checked_math import add, div, mul, mul_div, sub
from kernels.numbers.u256 import Limbs, Uint256, divmod256, load256, store256, u256

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
# Doublings of the step by which an exact output's input is raised: far beyond any rounding.
MAX_RAISES = 40

OK = 0
REVERTED = 1  # overflow, underflow or division by zero, which Vyper turns into a revert
NO_CONVERGENCE = 2  # the contract raises after 255 rounds
BAD_COIN = 3  # i == j or an index outside the pool
INVALID_PARAMETER = 4  # amp, fee or time outside what a pool can be set to
NO_INPUT = 5  # not the contract's: no input was found that buys the output asked for

REASONS = {
    REVERTED: "overflow, underflow or division by zero",
    NO_CONVERGENCE: "the Newton rounds did not settle",
    BAD_COIN: "no such pair of coins",
    INVALID_PARAMETER: "amplification, fee or time out of bounds",
    NO_INPUT: "no input buys that much",
}


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
    return _y_of_d(i, j, x, xp, amp, d)


@kernel
def _y_of_d(i: int, j: int, x: Uint256, xp: Limbs, amp: int, d: Uint256) -> tuple[int, Uint256]:
    """`get_y` for a known D and checked coins."""
    coins = xp.shape[0]
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
def valid_fees(amp: int, fee: int, admin_fee: int) -> bool:
    """True for what the template's setters allow."""
    return 0 < amp <= MAX_AMP and 0 <= fee <= MAX_FEE and 0 <= admin_fee <= MAX_ADMIN_FEE


@inline
def _balance_after(xp: Limbs, rates: Limbs, i: int, dx: Uint256) -> tuple[Uint256, bool]:
    """(scaled balance of i with `dx` more in it, whether it overflows)."""
    paid, failed = mul_div(u256(dx), load256(rates, i), u256(RATE_DENOMINATOR))
    x, over = add(load256(xp, i), paid)
    return x, failed or over


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
    # First the input, as the contract computes them: it matters for which of two reverts it is.
    _, failed = _balance_after(xp, rates, i, dx)
    if failed:
        return REVERTED, nothing, nothing
    status, d = get_d(xp, amp)
    if status != OK:
        return status, nothing, nothing
    return scaled_output(xp, rates, i, j, dx, amp, fee, d)


@kernel
def scaled_output(
    xp: Limbs, rates: Limbs, i: int, j: int, dx: Uint256, amp: int, fee: int, d: Uint256
) -> tuple[int, Uint256, Uint256]:
    """`_output` for scaled balances, their D, and coins and parameters that were checked."""
    nothing = u256(0)
    x, failed = _balance_after(xp, rates, i, dx)
    if failed:
        return REVERTED, nothing, nothing
    status, y = _y_of_d(i, j, x, xp, amp, d)
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


@inline
def _ceil_div(product: Uint256, divisor: Uint256) -> Uint256:
    """product / divisor rounded up; the divisor is not 0."""
    quotient, rest = divmod256(product, divisor)
    return quotient if rest == u256(0) else quotient + u256(1)


@kernel
def scaled_input(
    xp: Limbs, rates: Limbs, i: int, j: int, wanted: Uint256, amp: int, fee: int, d: Uint256
) -> tuple[int, Uint256]:
    """(status, input of coin i whose `scaled_output` is at least `wanted` > 0 units of j).

    Plain pools have no function for it. The least scaled output with that net of fee is inverted by
    the same Newton steps, whose roundings can leave the input some units short: it is then raised
    until the exact output suffices. It is the least input up to those few units.
    """
    never_inline()
    nothing = u256(0)
    net, failed = mul(u256(wanted), load256(rates, j))
    net = _ceil_div(net, u256(RATE_DENOMINATOR))
    # dy - floor(dy fee) >= net for dy > (net - 1) / (1 - fee) and no less.
    kept = u256(np.uint64(FEE_DENOMINATOR - fee))
    dy, over = mul_div(net - u256(1), u256(FEE_DENOMINATOR), kept)
    y, under = sub(load256(xp, j), dy + u256(2))
    if failed or over or under or y == nothing:
        return NO_INPUT, nothing
    status, x = _y_of_d(j, i, y, xp, amp, d)
    if status != OK:
        return status, nothing
    paid = x - load256(xp, i) if x > load256(xp, i) else nothing
    inflated, failed = mul(paid, u256(RATE_DENOMINATOR))
    if failed:
        return REVERTED, nothing
    dx = _ceil_div(inflated, load256(rates, i))
    step = u256(1)
    for _ in range(MAX_RAISES):
        if dx > nothing:
            status, output, _ = scaled_output(xp, rates, i, j, dx, amp, fee, d)
            if status == OK and output >= u256(wanted):
                return OK, dx
        dx = dx + step
        step = step << 1
    return NO_INPUT, nothing


@kernel
def get_dy(
    balances: Limbs, rates: Limbs, i: int, j: int, dx: Uint256, amp: int, fee: int, xp: Limbs
) -> tuple[int, Uint256]:
    """`get_dy`: (status, output of coin j in its units) for `dx` of coin i, rounded down.

    balances, rates and the scratch `xp` are uint64[n, 4] for n of 2 to 8 coins; fee in 1e-10.
    """
    if not valid_fees(amp, fee, 0):
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
    if not valid_fees(amp, fee, admin_fee):
        return INVALID_PARAMETER, u256(0)
    status, output, fee_part = _output(balances, rates, i, j, dx, amp, fee, xp)
    if status != OK:
        return status, u256(0)
    status = settle(balances, rates, i, j, dx, output, fee_part, admin_fee)
    return (OK, output) if status == OK else (status, u256(0))


@kernel
def settle(
    balances: Limbs,
    rates: Limbs,
    i: int,
    j: int,
    dx: Uint256,
    output: Uint256,
    fee_part: Uint256,
    admin_fee: int,
) -> int:
    """Move the balances by an exchange whose output is known; untouched unless the status is OK."""
    admin, failed = mul_div(fee_part, u256(np.uint64(admin_fee)), u256(FEE_DENOMINATOR))
    admin, over = mul_div(admin, u256(RATE_DENOMINATOR), load256(rates, j))
    failed |= over
    bought, over = sub(load256(balances, j), output)
    failed |= over
    bought, over = sub(bought, admin)
    failed |= over
    sold, over = add(load256(balances, i), u256(dx))
    if failed or over:
        return REVERTED
    store256(balances, i, sold)
    store256(balances, j, bought)
    return OK
