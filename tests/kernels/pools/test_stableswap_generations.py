"""StableSwap pools name their generation: two are exact in the EVM, the others are refused."""

from random import Random

import numpy as np
import pytest

from kernels.numbers.u256 import from_limbs, to_limbs
from kernels.pools.any_pool import OK, Pools, PoolTrades, trade_batch
from kernels.pools.records import (
    REFUSED_GENERATIONS,
    SWAP_TEMPLATE,
    THREE_POOL,
    PoolRefusedError,
    StablePool,
    build,
    screen,
)
from tests.support.stableswap import referee

NOW, DAY = 1_700_000_000, 86_400
PRECISION = {SWAP_TEMPLATE: 100, THREE_POOL: 1}


def exchanged(pools: Pools, coin_in: int, coin_out: int, amount: int) -> tuple[int, int]:
    trades = PoolTrades(
        np.zeros(1, np.int64),
        np.array([coin_in]),
        np.array([coin_out]),
        np.array([True]),
        to_limbs([amount], 4),
    )
    status, answers = np.zeros(1, np.int64), np.zeros((1, 4), np.uint64)
    trade_batch(pools, trades, status, answers, True)
    return int(status[0]), from_limbs(answers)[0]


def ramping_pool(rng: Random, generation: str, count: int) -> StablePool:
    """Lopsided up to a factor of some hundreds; its A ramps, or has been still for long."""
    decimals = tuple(rng.choice([6, 8, 18]) for _ in range(count))
    size = 10 ** rng.uniform(4, 9)
    balances = tuple(int(size * rng.lognormvariate(0, 1.5) * 10**d) for d in decimals)
    unit = PRECISION[generation]
    start, end = rng.randint(10, 5_000) * unit, rng.randint(10, 5_000) * unit
    times = (NOW - rng.randint(1, 9 * DAY), NOW + rng.randint(1, 9 * DAY))
    return StablePool(
        *(generation, tuple(range(count)), balances, decimals),
        *(rng.choice([0, 10**6, 4 * 10**6]), rng.choice([0, 5 * 10**9]), start, end),
        *(times if rng.random() < 0.8 else (0, 0)),
        generation=generation,
    )


@pytest.mark.parametrize("generation", [SWAP_TEMPLATE, THREE_POOL])
def test_exchanges_in_a_ramp_equal_the_evm(generation: str) -> None:
    rng, done = Random(3), 0
    for _ in range(300):
        record = ramping_pool(rng, generation, rng.randint(2, 5))
        pools = build([record], time_s=NOW)
        rates = [10 ** (36 - d) for d in record.decimals]
        ramp = (record.initial_a, record.future_a, record.initial_time_s, record.future_time_s)
        balances = list(record.balances)
        for _ in range(4):
            i, j = rng.sample(range(len(balances)), 2)
            amount = int(balances[i] * 10 ** rng.uniform(-6, 0.3))
            expected = referee.exchange(
                balances,
                *(rates, ramp, NOW, PRECISION[generation]),
                *((record.fee, record.admin_fee), (i, j, amount)),
            )
            status, output = exchanged(pools, i, j, amount)
            assert (status == OK) == (expected is not None), (record, i, j, amount)
            if expected is None:
                break
            output_there, balances[i], balances[j] = expected
            assert output == output_there, (record, i, j, amount)
            assert from_limbs(pools.balance) == balances
            done += 1
    assert done > 1_000


def test_a_ramp_of_3pool_is_not_that_of_the_template() -> None:
    """What was quoted without a word before a pool named its generation."""
    common = ("3pool", (0, 1, 2), (3 * 10**24, 10**12, 2 * 10**12), (18, 6, 6), 10**6, 5 * 10**9)
    times = (NOW - DAY, NOW + 6 * DAY)
    old = StablePool(*common, 10, 25, *times, generation=THREE_POOL)
    new = StablePool(*common, 1_000, 2_500, *times, generation=SWAP_TEMPLATE)
    answers = [exchanged(build([r], time_s=NOW), 0, 1, 10**24)[1] for r in (old, new)]
    # A is 10 + 15 / 7 there: 12 of the one, 1,214 of the other.
    assert answers[0] < answers[1] < answers[0] * 1.01
    still = [exchanged(build([r], time_s=NOW + 9 * DAY), 0, 1, 10**24)[1] for r in (old, new)]
    assert still[0] == still[1]


@pytest.mark.parametrize("generation", [*REFUSED_GENERATIONS, "unheard of", ""])
def test_other_generations_are_refused_by_name(generation: str) -> None:
    record = StablePool(
        *("lopsided", (0, 1), (10**24, 10**22), (18, 18), 10**6, 5 * 10**9, 20_000, 20_000),
        generation=generation,
    )
    with pytest.raises(PoolRefusedError, match=f"pool lopsided: generation {generation!r}: "):
        build([record])
    taken, refused = screen([record])
    assert not taken
    assert "quote it in the EVM or leave it out" in str(refused[0])


def test_a_generation_has_to_be_named() -> None:
    with pytest.raises(TypeError, match="generation"):
        StablePool("p", (0, 1), (10**24, 10**24), (18, 18), 0, 0, 100, 100)  # type: ignore[call-arg]


def test_the_bounds_of_a_follow_the_generation() -> None:
    common = ("p", (0, 1), (10**24, 10**24), (18, 18), 0, 0, 10**7, 10**7)
    build([StablePool(*common, generation=SWAP_TEMPLATE)])
    with pytest.raises(PoolRefusedError, match=r"initial_a = 10000000; expected 0\.\.1000000"):
        build([StablePool(*common, generation=THREE_POOL)])
