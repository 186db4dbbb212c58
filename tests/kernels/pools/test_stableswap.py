"""StableSwap kernels against an independent model on Python integers and the invariant itself."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels.compile import kernel
from kernels.numbers.u256 import Limbs, from_limbs, load256, store256, to_limbs
from kernels.pools import stableswap
from kernels.pools.stableswap import BAD_COIN, INVALID_PARAMETER, NO_CONVERGENCE, OK, REVERTED

property_test = settings(deadline=None)
E18 = 10**18


@kernel
def swap(
    balances: Limbs, rates: Limbs, i: int, j: int, amp: int, fees: Any, numbers: Limbs, xp: Limbs
) -> tuple[int, int]:
    """get_dy, then exchange, of numbers[0]; their outputs to numbers[1] and numbers[2]."""
    amount = load256(numbers, 0)
    quoted, output = stableswap.get_dy(balances, rates, i, j, amount, amp, fees[0], xp)
    store256(numbers, 1, output)
    done, output = stableswap.exchange(balances, rates, i, j, amount, amp, fees[0], fees[1], xp)
    store256(numbers, 2, output)
    return quoted, done


@kernel
def invariant(xp: Limbs, amp: int, numbers: Limbs) -> int:
    """get_d, written to numbers[0]."""
    status, d = stableswap.get_d(xp, amp)
    store256(numbers, 0, d)
    return status


@kernel
def other_balance(xp: Limbs, amp: int, i: int, j: int, numbers: Limbs) -> int:
    """get_y for numbers[0], written to numbers[1]."""
    status, y = stableswap.get_y(i, j, load256(numbers, 0), xp, amp)
    store256(numbers, 1, y)
    return status


class RevertError(Exception):
    """Vyper's answer to a number outside uint256 or a division by zero."""


def uint(value: int) -> int:
    """The value, if a uint256 can hold it."""
    if not 0 <= value < 1 << 256:
        raise RevertError
    return value


def over(numerator: int, denominator: int) -> int:
    """Division of the EVM language: down, and a revert at zero."""
    if uint(denominator) == 0:
        raise RevertError
    return uint(numerator) // denominator


@dataclass
class Pool:
    """A plain pool of curve-contract, in Python integers; fields named as there."""

    balances: list[int]
    rates: list[int]
    A: int
    fee: int
    admin_fee: int
    rounds: int = field(default=0)

    @property
    def n(self) -> int:
        return len(self.balances)

    def xp(self) -> list[int]:
        return [over(r * b, E18) for r, b in zip(self.rates, self.balances, strict=True)]

    def d_of(self, xp: list[int]) -> int:
        if uint(sum(xp)) == 0:
            return 0
        ann = self.A * self.n
        uint(ann - 100)
        d = sum(xp)
        for _ in range(255):
            power = d
            for x in xp:
                power = over(uint(power * d), uint(x * self.n))
            above = uint(uint(over(uint(ann * sum(xp)), 100) + uint(power * self.n)) * d)
            below = uint(over(uint((ann - 100) * d), 100) + uint((self.n + 1) * power))
            before, d = d, over(above, below)
            if abs(d - before) <= 1:
                return d
        raise RecursionError

    def y_of(self, i: int, j: int, x: int) -> int:
        xp = self.xp()
        d, ann = self.d_of(xp), self.A * self.n
        others = [x if k == i else xp[k] for k in range(self.n) if k != j]
        c = d
        for other in others:
            c = over(uint(c * d), uint(other * self.n))
        c = over(uint(uint(c * d) * 100), ann * self.n)
        b = uint(uint(sum(others)) + over(uint(d * 100), ann))
        y = d
        for _ in range(255):
            below = uint(uint(uint(2 * y) + b) - d)
            before, y = y, over(uint(uint(y * y) + c), below)
            if abs(y - before) <= 1:
                return y
        raise RecursionError

    def exchange(self, i: int, j: int, dx: int) -> int:
        xp = self.xp()
        x = uint(xp[i] + over(uint(dx * self.rates[i]), E18))
        dy = uint(xp[j] - self.y_of(i, j, x) - 1)
        dy_fee = over(uint(dy * self.fee), 10**10)
        out = over(uint((dy - dy_fee) * E18), self.rates[j])
        admin = over(uint(over(uint(dy_fee * self.admin_fee), 10**10) * E18), self.rates[j])
        after = uint(self.balances[j] - out - admin)
        self.balances[i] = uint(self.balances[i] + dx)
        self.balances[j] = after
        return out


def random_pool(rng: Random, wild: bool) -> Pool:
    """A pool near balance, or with `wild` anything, up to what overflows."""
    n = rng.randint(2, 8)
    rates = [rng.choice([10**18, 10**30, 10**28, 10**18 + rng.getrandbits(50)]) for _ in range(n)]
    size = rng.choice([10**20, 10**24, 10**27])
    balances = [
        rng.choice([0, 1, rng.getrandbits(90), rng.getrandbits(250)])
        if wild and rng.random() < 0.4
        else int(size * rng.lognormvariate(0, rng.choice([0.1, 1, 4]))) * E18 // rate
        for rate in rates
    ]
    amp = rng.choice([1, 10, 99, 100, 101, 20_000, 200_000, 100_000_000, rng.randint(1, 10**8)])
    return Pool(balances, rates, amp, rng.choice([0, 4 * 10**6, 5 * 10**9]), rng.randint(0, 10**10))


def compare(rng: Random, wild: bool) -> int:
    """One exchange on both sides, value by value; the kernel's status."""
    pool = random_pool(rng, wild)
    i, j = rng.sample(range(pool.n), 2)
    share = pool.balances[i] * rng.randint(1, 10**6) // 10 ** rng.randint(3, 9)
    share = min(share, 1 << 255)
    dx = rng.choice([share, 0, 1, rng.getrandbits(250)] if wild else [share, share, 1])
    balances, numbers = to_limbs(pool.balances, 4), to_limbs([dx, 0, 0], 4)
    before = balances.copy()
    xp = np.empty_like(balances)
    fees = (pool.fee, pool.admin_fee)
    quoted, done = swap(balances, to_limbs(pool.rates, 4), i, j, pool.A, fees, numbers, xp)
    try:
        expected = pool.exchange(i, j, dx)
    except RevertError:
        assert done == REVERTED
        assert np.array_equal(balances, before)
        return REVERTED
    except RecursionError:
        assert (quoted, done) == (NO_CONVERGENCE, NO_CONVERGENCE)
        assert np.array_equal(balances, before)
        return NO_CONVERGENCE
    assert (quoted, done) == (OK, OK)
    assert from_limbs(numbers)[1:] == [expected, expected]
    assert from_limbs(balances) == pool.balances
    return OK


def compare_many(seed: int, cases: int) -> None:
    """Calm and wild pools in equal parts; both outcomes must occur often."""
    rng = Random(seed)
    calm = [compare(rng, wild=False) for _ in range(cases // 2)]
    wild = [compare(rng, wild=True) for _ in range(cases - cases // 2)]
    assert calm.count(OK) > 0.4 * len(calm)
    assert wild.count(OK) > 0.05 * len(wild)
    assert wild.count(REVERTED) > 0.05 * len(wild)


def test_equals_the_integer_model() -> None:
    compare_many(seed=1, cases=1_000)


@pytest.mark.exhaustive
def test_equals_the_integer_model_on_20000_exchanges() -> None:
    compare_many(seed=2, cases=20_000)


def excess(xp: list[int], amp: int, d: int) -> Fraction:
    """Left minus right side of the invariant: falls through zero at the true D."""
    n = len(xp)
    ann = Fraction(amp * n, 100)
    return ann * sum(xp) + d - ann * d - Fraction(d ** (n + 1), n**n * prod(xp))


def settles(status: int, xp: list[int], amp: int) -> bool:
    """False where the contract's rounds circle for ever, which the model must agree on."""
    if status == NO_CONVERGENCE:
        with pytest.raises(RecursionError):
            Pool(xp, [E18] * len(xp), amp, 0, 0).d_of(xp)
        return False
    assert status == OK
    return True


# Within a factor of 100, as pools are: far from it the contract's rounds often never settle.
SCALED_BALANCES = st.lists(st.integers(10**22, 10**24), min_size=2, max_size=8)


@property_test
@given(SCALED_BALANCES, st.integers(5_000, 10**7))
def test_d_solves_the_invariant(xp: list[int], amp: int) -> None:
    """The real root lies within a few units in the last place of the integer answer."""
    numbers = np.zeros((1, 4), np.uint64)
    assume(settles(invariant(to_limbs(xp, 4), amp, numbers), xp, amp))
    d = from_limbs(numbers)[0]
    assert excess(xp, amp, d - 3 - len(xp)) > 0 > excess(xp, amp, d + 3 + len(xp))


@property_test
@given(SCALED_BALANCES, st.integers(5_000, 10**6), st.integers(0, 10**23))
def test_y_keeps_d(xp: list[int], amp: int, paid: int) -> None:
    numbers = to_limbs([xp[0] + paid, 0], 4)
    assume(settles(other_balance(to_limbs(xp, 4), amp, 0, 1, numbers), xp, amp))
    y, slack = from_limbs(numbers)[1], 4 + 4 * len(xp)
    assert y <= xp[1] + slack  # D is a few units off, and y follows it
    numbers = np.zeros((1, 4), np.uint64)
    assert invariant(to_limbs(xp, 4), amp, numbers) == OK
    d = from_limbs(numbers)[0]
    low, high = ([xp[0] + paid, y + shift, *xp[2:]] for shift in (-slack, slack))
    assert excess(low, amp, d) < 0 < excess(high, amp, d)


def test_rounds_that_never_settle_are_reported_like_the_contract_reverts() -> None:
    """A one-sided pool of low amplification: the rounds circle around D for ever."""
    xp = [6_560_435_003_189_553_528_724, E18]
    with pytest.raises(RecursionError):
        Pool(xp, [E18] * 2, 1000, 0, 0).d_of(xp)
    assert invariant(to_limbs(xp, 4), 1000, np.zeros((1, 4), np.uint64)) == NO_CONVERGENCE


@property_test
@given(st.integers(0, 2**32), st.integers(1, 10**24))
def test_there_and_back_earns_nothing(seed: int, amount: int) -> None:
    rng = Random(seed)
    balances = [rng.randint(10**22, 10**25) for _ in range(3)]
    limbs, rates = to_limbs(balances, 4), to_limbs([E18] * 3, 4)
    numbers, xp = to_limbs([amount, 0, 0], 4), np.empty((3, 4), np.uint64)
    assert swap(limbs, rates, 0, 1, 20_000, (0, 0), numbers, xp) == (OK, OK)
    numbers = to_limbs([from_limbs(numbers)[1], 0, 0], 4)
    status = swap(limbs, rates, 1, 0, 20_000, (0, 0), numbers, xp)
    assert status in ((OK, OK), (REVERTED, REVERTED))
    assert from_limbs(numbers)[1] <= amount


@given(
    st.integers(0, 10**8),
    st.integers(0, 10**8),
    st.integers(0, 2**33),
    st.integers(0, 2**33),
    st.integers(0, 2**33),
)
@property_test
def test_amplification_ramps(a0: int, a1: int, t0: int, t1: int, now: int) -> None:
    ramped = stableswap.amplification(a0, a1, t0, t1, now)
    if now >= t1:
        assert ramped == a1
    elif now < t0 or t0 >= t1:
        assert ramped == -1
    else:
        assert ramped == (
            a0 + (a1 - a0) * (now - t0) // (t1 - t0)
            if a1 > a0
            else a0 - (a0 - a1) * (now - t0) // (t1 - t0)
        )
        assert min(a0, a1) <= ramped <= max(a0, a1)


def test_published_ramp_points() -> None:
    """A from 100 to 200 over a week, a day in and at the end."""
    day = 86_400
    assert stableswap.amplification(10_000, 20_000, 0, 7 * day, day) == 11_428
    assert stableswap.amplification(20_000, 10_000, 0, 7 * day, day) == 18_572
    assert stableswap.amplification(10_000, 20_000, 0, 7 * day, 7 * day) == 20_000


@pytest.mark.parametrize("argument", range(5))
def test_amplification_refuses_negative_arguments(argument: int) -> None:
    arguments = [100, 100, 0, 10, 5]
    arguments[argument] = -1
    assert stableswap.amplification(*arguments) == -1


def test_refused_without_touching_the_pool() -> None:
    balances = to_limbs([E18] * 3, 4)
    rates, xp = to_limbs([E18] * 3, 4), np.empty((3, 4), np.uint64)
    numbers = to_limbs([1000, 0, 0], 4)
    before = balances.copy()
    for i, j in ((0, 0), (-1, 0), (0, 3), (3, 0)):
        assert swap(balances, rates, i, j, 100, (0, 0), numbers, xp) == (BAD_COIN, BAD_COIN)
    for amp, fee in ((0, 0), (10**8 + 1, 0), (100, -1), (100, 5 * 10**9 + 1)):
        status = swap(balances, rates, 0, 1, amp, (fee, 0), numbers, xp)
        assert status == (INVALID_PARAMETER, INVALID_PARAMETER)
    one = swap(balances[:1], rates[:1], 0, 1, 100, (0, 0), numbers, xp[:1])
    assert one == (BAD_COIN, BAD_COIN)
    assert np.array_equal(balances, before)


def test_empty_pool_has_no_invariant_and_no_swaps() -> None:
    empty, numbers = np.zeros((2, 4), np.uint64), to_limbs([5, 0, 0], 4)
    assert invariant(empty, 100, numbers) == OK
    assert from_limbs(numbers)[0] == 0
    rates, xp = to_limbs([E18] * 2, 4), np.empty((2, 4), np.uint64)
    status = swap(empty, rates, 0, 1, 100, (0, 0), to_limbs([5, 0, 0], 4), xp)
    assert status == (REVERTED, REVERTED)
