"""Weighted pools against the deployed bytecode of 2021 and 2023, and powers against real ones."""

from decimal import Decimal, localcontext
from functools import cache
from math import exp, log
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compile import kernel
from kernels.numbers import log_exp
from kernels.numbers.u256 import Limbs, from_limbs, load256, store256, to_limbs
from kernels.pools import weighted
from tests.support.balancer.referee import (
    GIVEN_IN,
    GIVEN_OUT,
    ONE,
    Balancer,
    RevertError,
    WeightedPool,
)

property_test = settings(deadline=None)
# Balancer's error codes for what the kernel names.
CODES = {
    "BAL#000": weighted.REVERTED,  # addition
    "BAL#001": weighted.REVERTED,  # subtraction
    "BAL#003": weighted.REVERTED,  # multiplication
    "BAL#004": weighted.REVERTED,  # division by zero
    "BAL#005": weighted.REVERTED,  # inflation before a division
    "BAL#006": weighted.POWER_OUT_OF_BOUNDS,
    "BAL#007": weighted.POWER_OUT_OF_BOUNDS,
    "BAL#008": weighted.POWER_OUT_OF_BOUNDS,
    "BAL#304": weighted.MAX_IN,
    "BAL#305": weighted.MAX_OUT,
}
# (year, weights, decimals, fee): exponents 1, 4, 1/4, 2, 1/2 and odd ones.
POOLS = [
    (2021, (5 * 10**17, 5 * 10**17), (18, 18), 3 * 10**15),
    (2021, (8 * 10**17, 2 * 10**17), (18, 6), 10**12),
    (2023, (5 * 10**17, 5 * 10**17), (18, 8), 10**15),
    (2023, (8 * 10**17, 2 * 10**17), (6, 18), 25 * 10**14),
    (2023, (2 * 10**17, 4 * 10**17, 4 * 10**17), (18, 6, 0), 10**17),
    (2023, (10**16, 99 * 10**16), (18, 18), 123_456_789_012_345),
    (2021, (333_333_333_333_333_333, 666_666_666_666_666_667), (18, 18), 10**15),
    (2021, (10**16, 3 * 10**16, 96 * 10**16), (2, 18, 12), 10**16),
]


@kernel
def swap(
    given_in: bool, weights: tuple, fee: int, scales: tuple, exact_powers: bool, numbers: Limbs
) -> int:
    """Balances in and out and amount in numbers[0:3]; the answer goes to numbers[3]."""
    entering = weighted.Side(load256(numbers, 0), weights[0], scales[0])
    leaving = weighted.Side(load256(numbers, 1), weights[1], scales[1])
    amount = load256(numbers, 2)
    if given_in:
        status, answer = weighted.swap_given_in(entering, leaving, fee, amount, exact_powers)
    else:
        status, answer = weighted.swap_given_out(entering, leaving, fee, amount, exact_powers)
    store256(numbers, 3, answer)
    return status


@kernel
def raised(numbers: Limbs) -> int:
    """numbers[0] to the power numbers[1], to numbers[2]."""
    status, answer = log_exp.power(load256(numbers, 0), load256(numbers, 1))
    store256(numbers, 2, answer)
    return status


@cache
def deployed() -> list[WeightedPool]:
    """All pools of POOLS, once per run."""
    balancer = Balancer()
    return [balancer.pool(*pool) for pool in POOLS]


def kernel_swap(
    number: int, kind: int, i: int, j: int, amount: int, balance_in: int, balance_out: int
) -> tuple[int, int]:
    """(status, answer) of the kernel for a pool of POOLS."""
    year, weights, _, fee = POOLS[number]
    scales = [10 ** (18 - decimals) for decimals in deployed()[number].decimals]
    numbers = to_limbs([balance_in, balance_out, amount, 0], 4)
    pair, scale_pair = (weights[i], weights[j]), (scales[i], scales[j])
    status = swap(kind == GIVEN_IN, pair, fee, scale_pair, year == 2023, numbers)
    return status, from_limbs(numbers)[3]


def random_swap(rng: Random, wild: bool) -> tuple[int, int, int, int, int, int, int]:
    """(pool, kind, i, j, amount, balance in, balance out); `wild` reaches where pools revert."""
    number = rng.randrange(len(POOLS))
    i, j = rng.sample(range(len(POOLS[number][1])), 2)
    if wild:
        balance_in, balance_out = (
            rng.choice([0, 1, 10**18, rng.getrandbits(180), rng.getrandbits(250)]) for _ in "ab"
        )
    else:
        balance_in, balance_out = (rng.getrandbits(rng.randint(40, 100)) + 100 for _ in "ab")
    kind = rng.choice([GIVEN_IN, GIVEN_OUT])
    known = balance_in if kind == GIVEN_IN else balance_out
    share = rng.choice([10**-6, 0.01, 0.2, 0.299999, 0.31, 0.5]) * rng.random() ** 0.2
    amount = rng.choice([int(known * share), 1, int(known * 0.3), int(known * 0.3) + 1])
    return number, kind, i, j, min(amount, (1 << 256) - 1), balance_in, balance_out


def compare(rng: Random, wild: bool) -> int:
    """One swap on both sides; the kernel's status."""
    number, *arguments = random_swap(rng, wild)
    status, answer = kernel_swap(number, *arguments)
    try:
        expected = (weighted.OK, deployed()[number].on_swap(*arguments))
    except RevertError as error:
        expected = (CODES[error.code], 0)
    assert (status, answer) == expected, (number, arguments)
    return status


def compare_many(seed: int, cases: int) -> None:
    """Three calm swaps for each wild one; successes and reverts must both be common."""
    rng = Random(seed)
    statuses = [compare(rng, wild=index % 4 == 0) for index in range(cases)]
    assert statuses.count(weighted.OK) > 0.5 * cases
    assert statuses.count(weighted.REVERTED) > 0.02 * cases
    assert statuses.count(weighted.MAX_IN) > 0.01 * cases
    assert statuses.count(weighted.MAX_OUT) > 0.01 * cases


def test_equals_the_deployed_pools() -> None:
    compare_many(seed=1, cases=400)


@pytest.mark.exhaustive
def test_equals_the_deployed_pools_on_10000_swaps() -> None:
    compare_many(seed=2, cases=10_000)


@property_test
@given(st.integers(0, 2**32), st.integers(1, 29))
def test_there_and_back_earns_nothing(seed: int, percent: int) -> None:
    """The rounding favours the pool, whatever the weights."""
    rng = Random(seed)
    weight = rng.randint(10**16, 99 * 10**16)
    pair, fee, scales = (weight, ONE - weight), 10**12, (1, 1)
    balances = [rng.randint(10**15, 10**27) for _ in range(2)]
    amount = balances[0] * percent // 100
    numbers = to_limbs([*balances, amount, 0], 4)
    assert swap(True, pair, fee, scales, True, numbers) == weighted.OK
    out = from_limbs(numbers)[3]
    after = [balances[1] - out, balances[0] + amount]
    numbers = to_limbs([*after, out, 0], 4)
    status = swap(True, pair[::-1], fee, scales, True, numbers)
    assert status in (weighted.OK, weighted.MAX_IN)
    assert from_limbs(numbers)[3] <= amount


@property_test
@given(st.integers(0, 2**32), st.integers(1, 10**9))
def test_given_out_covers_given_in(seed: int, share: int) -> None:
    """What GIVEN_OUT asks for buys the amount, within the 1e-14 of a balance that each way adds."""
    rng = Random(seed)
    weight = rng.randint(10**17, 9 * 10**17)
    pair, fee = (weight, ONE - weight), 3 * 10**15
    balances = [rng.randint(10**20, 10**27) for _ in range(2)]
    wanted = balances[1] * share // (10 * 10**9)
    numbers = to_limbs([*balances, wanted, 0], 4)
    assert swap(False, pair, fee, (1, 1), True, numbers) == weighted.OK
    needed = from_limbs(numbers)[3]
    numbers = to_limbs([*balances, needed, 0], 4)
    status = swap(True, pair, fee, (1, 1), True, numbers)
    assert status in (weighted.OK, weighted.MAX_IN)
    if status == weighted.OK:
        # The margin of 1e-14 on the power is paid on both ways.
        assert abs(from_limbs(numbers)[3] - wanted) <= balances[1] // 10**13 + 2


@property_test
@given(st.integers(10**15, 10**24), st.integers(0, 10**19))
def test_power_is_near_the_real_one(x: int, y: int) -> None:
    numbers = to_limbs([x, y, 0], 4)
    status = raised(numbers)
    exponent = y / 1e18 * log(x / 1e18)
    if -40.9 < exponent < 129.9:
        assert status == log_exp.OK
        real = exp(exponent)
        assert from_limbs(numbers)[2] / 1e18 == pytest.approx(real, rel=1e-11, abs=3e-18)
    if exponent < -41.1 or exponent > 130.1:
        assert status == log_exp.OUT_OF_BOUNDS


def test_power_outside_its_domain() -> None:
    for x, y, expected in (
        (1 << 255, ONE, log_exp.OUT_OF_BOUNDS),
        (ONE, 2**254 // 10**20, log_exp.OUT_OF_BOUNDS),
        (0, 0, log_exp.OK),
        (0, ONE, log_exp.OK),
        (5, 0, log_exp.OK),
    ):
        assert raised(to_limbs([x, y, 0], 4)) == expected
    numbers = to_limbs([0, 0, 5], 4)
    raised(numbers)
    assert from_limbs(numbers)[2] == ONE  # 0^0 is 1, as in the contract


def test_powers_and_exponents_of_the_table_belong_together() -> None:
    """e^x_k = a_k, to the digits a float has."""
    for index, (x, a) in enumerate(zip(from_limbs(log_exp.X), from_limbs(log_exp.A), strict=True)):
        large = index < log_exp.LARGE
        unit = 1e18 if large else 1e20
        assert a / (1.0 if large else 1e20) == pytest.approx(exp(x / unit), rel=1e-13)


@kernel
def raised_up(numbers: Limbs, exact_powers: bool) -> int:
    """numbers[0] to the power numbers[1], rounded up, to numbers[2]."""
    status, answer = weighted.pow_up(load256(numbers, 0), load256(numbers, 1), exact_powers)
    store256(numbers, 2, answer)
    return status


@settings(deadline=None, max_examples=1500)
@given(
    st.one_of(
        st.integers(ONE * 10 // 13, ONE * 10 // 7 + 1),  # all that a swap of at most 30 % asks for
        st.integers(-1000, 1000).map(lambda off: ONE + off),
        st.integers(-1000, 1000).map(lambda off: 9 * ONE // 10 + off),
        st.integers(-1000, 1000).map(lambda off: 11 * ONE // 10 + off),
    ),
    st.one_of(st.integers(ONE // 99, 99 * ONE), st.sampled_from([ONE, 2 * ONE, 4 * ONE])),
    st.booleans(),
)
def test_powers_rounded_up_are_never_below_the_true_power(
    base: int, exponent: int, exact_powers: bool
) -> None:
    """The contract's claim, on which the bound of a mixed cycle rests; 60 digits are the truth."""
    numbers = to_limbs([base, exponent, 0], 4)
    assert raised_up(numbers, exact_powers) == weighted.OK
    with localcontext() as context:
        context.prec = 60
        true = (Decimal(base) / ONE) ** (Decimal(exponent) / ONE) * ONE
        rounded_up = from_limbs(numbers)[2]
        assert rounded_up >= true
        assert rounded_up <= true * Decimal("1.00000000000003") + 3


def test_bad_parameters_are_refused() -> None:
    numbers = to_limbs([ONE, ONE, 1, 7], 4)
    half = (ONE // 2, ONE // 2)
    for weights, fee, scales in (
        ((10**15, ONE), 10**15, (1, 1)),
        ((ONE // 2, ONE + 1), 10**15, (1, 1)),
        (half, 0, (1, 1)),
        (half, 10**17 + 1, (1, 1)),
        (half, 10**15, (0, 1)),
        (half, 10**15, (1, 10**18 + 1)),
        ((-1, ONE), 10**15, (1, 1)),
    ):
        for given_in in (True, False):
            assert swap(given_in, weights, fee, scales, True, numbers) == weighted.INVALID_PARAMETER
            assert np.all(numbers[3] == 0)
