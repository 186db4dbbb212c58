"""One switch over every kind of pool against the contracts and integer models of each, and the
refusal of what it cannot represent."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.numbers.u256 import from_limbs, to_limbs
from kernels.pools import stableswap, uniswap_v2, weighted
from kernels.pools import uniswap_v3 as concentrated
from kernels.pools.any_pool import (
    FROM_CONCENTRATED,
    FROM_STABLESWAP,
    FROM_UNISWAP_V2,
    FROM_WEIGHTED,
    KINDS,
    OK,
    PARTIAL_FILL,
    RAMP_NOT_STARTED,
    UNKNOWN_COIN,
    UNKNOWN_POOL,
    Pools,
    PoolTrades,
    reason,
    trade_batch,
)
from kernels.pools.records import (
    REFUSED,
    ConcentratedPool,
    ConstantProductPool,
    PoolRecord,
    PoolRefusedError,
    StablePool,
    V4Pool,
    WeightedPool,
    build,
    screen,
    set_balances,
    set_time,
)
from kernels.pools.uniswap_v3 import forks
from kernels.pools.uniswap_v3.state import PoolSnapshot
from kernels.pools.uniswap_v4 import PoolKey
from tests.kernels.pools import test_stableswap as stable_model
from tests.kernels.pools import test_weighted
from tests.support.balancer.referee import GIVEN_IN, GIVEN_OUT, RevertError
from tests.support.uniswap_v3 import reference

E18 = 10**18
NOW = 1_700_000_000
DAY = 86_400


def one_trade(
    pools: Pools, pool: int, i: int, j: int, exact_in: bool, amount: int, commit: bool = False
) -> tuple[int, int]:
    """(status, the other amount) of one swap."""
    trades = PoolTrades(
        np.array([pool]),
        np.array([i]),
        np.array([j]),
        np.array([exact_in]),
        to_limbs([amount], 4),
    )
    status, answers = np.zeros(1, np.int64), np.zeros((1, 4), np.uint64)
    trade_batch(pools, trades, status, answers, commit)
    return int(status[0]), from_limbs(answers)[0]


class Refuses(Exception):  # noqa: N818  a revert of any contract
    """The contract would revert."""


@dataclass
class V2Model:
    """Router02 and pair in Python integers."""

    reserves: list[int]
    kept: tuple[int, int]
    denominator: int

    def swap(self, i: int, j: int, exact_in: bool, amount: int) -> int:
        reserve_in, reserve_out = self.reserves[i], self.reserves[j]
        kept, whole = self.kept[i], self.denominator
        if amount == 0 or 0 in (reserve_in, reserve_out):
            raise Refuses
        if exact_in:
            charged = amount * kept
            answer = charged * reserve_out // (reserve_in * whole + charged)
            paid, received = amount, answer
        else:
            if amount >= reserve_out or kept == 0:
                raise Refuses
            answer = reserve_in * amount * whole // ((reserve_out - amount) * kept) + 1
            paid, received = answer, amount
        if received == 0 or reserve_in + paid >= 2**112:
            raise Refuses
        self.reserves[i] += paid
        self.reserves[j] -= received
        return answer

    def state(self) -> Any:
        return self.reserves


@dataclass
class ConcentratedModel:
    """The Python-integer pool of the V3 tests, itself held against the deployed bytecode."""

    pool: reference.Pool

    def swap(self, i: int, j: int, exact_in: bool, amount: int) -> int:
        before = copy.deepcopy(self.pool)
        limit = reference.MAX_SQRT_RATIO - 1 if i else reference.MIN_SQRT_RATIO + 1
        try:
            done = self.pool.swap(i == 0, amount if exact_in else -amount, limit)
        except reference.Revert:
            self.pool = before
            raise Refuses from None
        paid, received = (done.amount0, -done.amount1) if i == 0 else (done.amount1, -done.amount0)
        if (paid if exact_in else received) != amount:
            self.pool = before
            raise Refuses
        return received if exact_in else paid

    def state(self) -> Any:
        return self.pool.sqrt_price, self.pool.tick, self.pool.liquidity


@dataclass
class StableModel:
    """The independent model of the StableSwap tests; exact outputs are judged by what they buy."""

    pool: stable_model.Pool

    def swap(self, i: int, j: int, exact_in: bool, amount: int) -> int:
        before = copy.deepcopy(self.pool)
        try:
            return self.pool.exchange(i, j, amount)
        except (stable_model.RevertError, RecursionError):
            self.pool = before
            raise Refuses from None

    def state(self) -> Any:
        return self.pool.balances


@dataclass
class WeightedModel:
    """A deployed weighted pool; the Vault's balances are kept here."""

    number: int
    balances: list[int]

    def swap(self, i: int, j: int, exact_in: bool, amount: int) -> int:
        if amount == 0:
            raise Refuses
        kind = GIVEN_IN if exact_in else GIVEN_OUT
        deployed = test_weighted.deployed()[self.number]
        try:
            answer = deployed.on_swap(kind, i, j, amount, self.balances[i], self.balances[j])
        except RevertError:
            raise Refuses from None
        paid, received = (amount, answer) if exact_in else (answer, amount)
        if self.balances[i] + paid >= 2**112:
            raise Refuses
        self.balances[i] += paid
        self.balances[j] -= received
        return answer

    def state(self) -> Any:
        return self.balances


Model = V2Model | ConcentratedModel | StableModel | WeightedModel


def random_v2(rng: Random, name: str) -> tuple[PoolRecord, Model]:
    whole, kept = rng.choice(
        [(1000, (997, 997)), (10_000, (9975, 9975)), (100_000, (99_700, 99_500)), (1, (1, 1))]
    )
    bits = rng.choice([20, 60, 90, 111])
    reserves = (rng.getrandbits(bits) + 1, rng.getrandbits(rng.choice([20, 60, 90, 111])) + 1)
    return (
        ConstantProductPool(name, (0, 1), reserves, kept, whole),
        V2Model(list(reserves), kept, whole),
    )


def random_concentrated(rng: Random, name: str, kind: str) -> tuple[PoolRecord, Model]:
    v4 = kind == "uniswap_v4"
    fee, spacing = rng.choice(list(forks.FORKS["uniswap_v3" if v4 else kind].fee_tiers.items()))
    tick = rng.randint(-100_000, 100_000)
    pool = reference.Pool.initialized(
        fee, spacing, reference.get_sqrt_ratio_at_tick(tick) + rng.getrandbits(30)
    )
    pool.v4 = v4
    if v4:
        pool.protocol_share = (rng.choice([0, 1, 1000]), rng.choice([0, 500]))
    centre = pool.tick // spacing
    for _ in range(rng.randint(1, 8)):
        width = int(10 ** rng.uniform(0, 2.5))
        lower = (centre - rng.randint(0, width)) * spacing
        upper = (centre + rng.randint(1, width)) * spacing
        pool.modify_liquidity(lower, upper, int(10 ** rng.uniform(15, 22)))
    ticks = {t: (entry.liquidity_gross, entry.liquidity_net) for t, entry in pool.ticks.items()}
    common = (pool.sqrt_price, pool.tick, pool.liquidity)
    if v4:
        key = PoolKey(5, 6, fee, spacing, 0)
        packed = pool.protocol_share[1] << 12 | pool.protocol_share[0]
        return V4Pool(name, (0, 1), key, *common, ticks, packed), ConcentratedModel(pool)
    fork = forks.FORKS[kind].code
    snapshot = PoolSnapshot(*common, fee, spacing, ticks, fork=fork)
    return ConcentratedPool(name, (0, 1), snapshot), ConcentratedModel(pool)


def random_stable(rng: Random, name: str) -> tuple[PoolRecord, Model]:
    """Balanced to a factor of some tens, half of them in a ramp of A."""
    decimals = tuple(rng.choice([6, 8, 18, 18]) for _ in range(rng.randint(2, 4)))
    size = 10 ** rng.uniform(3, 9)
    balances = tuple(int(size * rng.lognormvariate(0, 1) * 10**d) for d in decimals)
    start, end = rng.randint(100, 10**6), rng.randint(100, 10**6)
    times = (0, 0) if rng.random() < 0.5 else (NOW - 2 * DAY, NOW + 5 * DAY)
    fee, admin_fee = rng.choice([0, 10**6, 4 * 10**6]), rng.choice([0, 5 * 10**9])
    record = StablePool(
        *(name, tuple(range(len(decimals))), balances, decimals, fee, admin_fee, start, end),
        *times,
        generation="swap_template",
    )
    # The ramp by its definition: linear, rounded towards the start.
    step = (abs(end - start) * 2 * DAY) // (7 * DAY)
    amp = end if times == (0, 0) else start + (step if end > start else -step)
    rates = [10 ** (36 - d) for d in decimals]
    return record, StableModel(stable_model.Pool(list(balances), rates, amp, fee, admin_fee))


def random_weighted(rng: Random, name: str) -> tuple[PoolRecord, Model]:
    number = rng.randrange(len(test_weighted.POOLS))
    year, weights, _, fee = test_weighted.POOLS[number]
    decimals = tuple(test_weighted.deployed()[number].decimals)
    balances = tuple(int(10 ** (rng.uniform(1, 8) + d)) for d in decimals)
    record = WeightedPool(
        name, tuple(range(len(weights))), balances, weights, decimals, fee, year == 2023
    )
    return record, WeightedModel(number, list(balances))


def random_record(rng: Random, kind: str, name: str = "") -> tuple[PoolRecord, Model]:
    """A pool of `kind` and an independent model of it."""
    if kind == "uniswap_v2":
        return random_v2(rng, name)
    if kind == "stableswap":
        return random_stable(rng, name)
    if kind == "weighted":
        return random_weighted(rng, name)
    return random_concentrated(rng, name, kind)


def kernel_state(pools: Pools, pool: int) -> Any:
    """What the models call state."""
    row = int(pools.row[pool])
    if row >= 0:
        found = concentrated.read_pool(pools.concentrated, row)
        return found.sqrt_price_x96, found.tick, found.liquidity
    return from_limbs(pools.balance[pools.first_coin[pool] : pools.first_coin[pool + 1]])


def random_amount(rng: Random, model: Model, coin: int) -> int:
    """Dust to more than the pool can trade."""
    if isinstance(model, ConcentratedModel):
        root = model.pool.sqrt_price / 2**96
        depth = max(1, model.pool.liquidity) * (root if coin else 1 / root)
    else:
        depth = float(model.state()[coin])
    share = rng.choice([10 ** rng.uniform(-9, 0.6), 10 ** rng.uniform(-4, -1)])
    share = 5.0 if rng.random() < 0.04 else share
    return int(depth * share) + rng.choice([0, 0, 1])


@dataclass
class Market:
    """A pool of every kind in one set of arrays, each beside its model."""

    rng: Random
    pools: Pools = field(init=False)
    models: list[Model] = field(init=False)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        pairs = [random_record(self.rng, kind, f"{kind} pool") for kind in KINDS]
        self.pools = build([record for record, _ in pairs], time_s=NOW)
        self.models = [model for _, model in pairs]

    def live(self, pool: int) -> None:
        """One swap on both sides: amounts, refusals and the state afterwards."""
        rng, model, kind = self.rng, self.models[pool], KINDS[pool]
        coins = int(self.pools.first_coin[pool + 1] - self.pools.first_coin[pool])
        i, j = rng.sample(range(coins), 2)
        exact_in = rng.random() < 0.5
        amount = random_amount(rng, model, i if exact_in else j)
        what = (kind, i, j, exact_in, amount, model)
        quoted = one_trade(self.pools, pool, i, j, exact_in, amount)
        done = one_trade(self.pools, pool, i, j, exact_in, amount, commit=True)
        assert quoted == done, what
        status, answer = done
        try:
            if isinstance(model, StableModel) and not exact_in:
                self._judge_stable_output(model, i, j, amount, status, answer)
            else:
                assert (status, answer) == (OK, model.swap(i, j, exact_in, amount)), what
        except Refuses:
            assert status != OK, what
            assert answer == 0
        assert kernel_state(self.pools, pool) == model.state(), what
        self.seen[kind if status == OK else f"{kind} refused"] += 1

    def _judge_stable_output(
        self, model: StableModel, i: int, j: int, wanted: int, status: int, paid: int
    ) -> None:
        """The input must buy the output, and no more than some units over it."""
        if status == FROM_STABLESWAP + stableswap.NO_CONVERGENCE:
            # The contract reverts on everything then.
            with pytest.raises(RecursionError):
                model.pool.d_of(model.pool.xp())
            raise Refuses
        if status != OK:
            # Refused only when more than nearly all of the coin is asked for, or nothing.
            assert wanted == 0 or wanted > 0.9 * model.pool.balances[j]
            raise Refuses
        probe = copy.deepcopy(model.pool)
        bought = model.pool.exchange(i, j, paid)
        assert bought >= wanted
        unit = probe.exchange(i, j, paid + 1) - bought
        over = 8 * E18 // model.pool.rates[j] + 1
        assert bought - wanted <= over + 16 * unit, (bought, wanted, model)


def live_many(seed: int, swaps: int) -> Counter[str]:
    """Markets of all kinds until each kind has done `swaps` swaps."""
    rng, seen = Random(f"pools {seed}"), Counter()
    while min(seen[kind] for kind in KINDS) < swaps:
        market = Market(rng)
        for _ in range(12):
            for pool in range(len(KINDS)):
                market.live(pool)
        seen += market.seen
    return seen


def test_every_kind_equals_its_model() -> None:
    seen = live_many(seed=1, swaps=120)
    assert all(seen[f"{kind} refused"] > 0 for kind in KINDS), seen


@pytest.mark.exhaustive
def test_every_kind_equals_its_model_on_5000_swaps() -> None:
    seen = live_many(seed=2, swaps=5_000)
    print(f"pools: 0 mismatches in {dict(seen)}")


def good_records() -> list[PoolRecord]:
    rng = Random(5)
    return [random_record(rng, kind, kind)[0] for kind in KINDS]


def test_tokens_kinds_and_rows_are_laid_out_as_given() -> None:
    pools = build(good_records(), time_s=NOW)
    assert [KINDS[kind] for kind in pools.kind] == list(KINDS)
    assert list(pools.row) == [-1, 0, 1, 2, -1, -1]
    assert list(pools.token[pools.first_coin[4] : pools.first_coin[5]]) == list(
        good_records()[4].tokens
    )


def test_statuses_have_reasons_and_change_nothing() -> None:
    pools = build(good_records(), time_s=NOW)
    cases: Iterable[tuple[tuple[int, int, int, bool, int], int]] = [
        ((6, 0, 1, True, 1), UNKNOWN_POOL),
        ((-1, 0, 1, True, 1), UNKNOWN_POOL),
        ((0, 0, 0, True, 1), UNKNOWN_COIN),
        ((0, 0, 2, True, 1), UNKNOWN_COIN),
        ((4, -1, 0, True, 1), UNKNOWN_COIN),
        ((0, 0, 1, True, 0), FROM_UNISWAP_V2 + uniswap_v2.INSUFFICIENT_INPUT_AMOUNT),
        ((0, 0, 1, True, 2**200), FROM_UNISWAP_V2 + uniswap_v2.OVERFLOW),
        ((1, 0, 1, True, 2**200), PARTIAL_FILL),
        ((1, 0, 1, True, 0), FROM_CONCENTRATED + 4),
        ((4, 0, 1, False, 2**120), FROM_STABLESWAP + stableswap.NO_INPUT),
        ((4, 0, 1, False, 0), FROM_STABLESWAP + stableswap.NO_INPUT),
        ((4, 0, 1, True, 2**255), FROM_STABLESWAP + stableswap.REVERTED),
        ((5, 0, 1, True, 2**110), FROM_WEIGHTED + weighted.MAX_IN),
        ((5, 0, 1, False, 2**110), FROM_WEIGHTED + weighted.MAX_OUT),
        ((5, 0, 1, True, 0), FROM_WEIGHTED + weighted.REVERTED),
    ]
    before = [kernel_state(pools, pool) for pool in range(6)]
    for arguments, expected in cases:
        assert one_trade(pools, *arguments, commit=True) == (expected, 0), arguments
        assert "unknown status" not in reason(expected)
    assert [kernel_state(pools, pool) for pool in range(6)] == before
    assert reason(OK) == "ok"
    assert reason(999) == "unknown status 999"


def test_ramp_moves_with_the_clock() -> None:
    record = StablePool(
        *("ramp", (0, 1), (10**24, 2 * 10**24), (18, 18), 0, 0, 1_000, 500_000, NOW, NOW + DAY),
        generation="swap_template",
    )
    pools = build([record], time_s=NOW)
    answers = []
    for time_s in (NOW, NOW + DAY // 2, NOW + DAY, NOW + 9 * DAY):
        set_time(pools, time_s)
        answers.append(one_trade(pools, 0, 0, 1, True, 10**22)[1])
    assert answers[0] > answers[1] > answers[2] == answers[3], "a higher A brings the peg nearer"
    set_time(pools, NOW - 1)
    assert one_trade(pools, 0, 0, 1, True, 10**22) == (RAMP_NOT_STARTED, 0)
    with pytest.raises(ValueError, match="time_s = -1: expected a timestamp"):
        set_time(pools, -1)


def test_reported_balances_are_taken_over() -> None:
    records = good_records()
    pools = build(records, time_s=NOW)
    for pool in (0, 4, 5):
        doubled = [2 * balance for balance in kernel_state(pools, pool)]
        set_balances(pools, pool, doubled)
        again = replace(records[pool], **{"reserves" if pool == 0 else "balances": tuple(doubled)})
        fresh = build([again], time_s=NOW)
        amount = doubled[0] // 100
        assert one_trade(pools, pool, 0, 1, True, amount) == one_trade(fresh, 0, 0, 1, True, amount)
    with pytest.raises(ValueError, match="pool 1 has no balances"):
        set_balances(pools, 1, [1, 1])
    with pytest.raises(ValueError, match="1 given, 2 expected"):
        set_balances(pools, 0, [1])
    with pytest.raises(ValueError, match=r"balances\[1\] of pool 0 = .*out of bounds"):
        set_balances(pools, 0, [1, 2**112])


@pytest.mark.parametrize("trait", sorted(REFUSED))
@pytest.mark.parametrize("record", good_records(), ids=KINDS)
def test_what_no_kernel_represents_is_refused_by_name(record: PoolRecord, trait: str) -> None:
    with pytest.raises(PoolRefusedError) as caught:
        build([replace(record, traits=(trait,))])
    explanation, remedy = REFUSED[trait]
    assert str(caught.value) == f"pool {record.name}: trait {trait}: {explanation}; {remedy}"
    with pytest.raises(PoolRefusedError, match=f"pool {record.name}: token 1 {trait}: "):
        build([record], token_traits={1: (trait,)})
    taken, refused = screen([record, replace(record, traits=(trait,))])
    assert taken == [record]
    assert [error.pool for error in refused] == [record.name]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("uniswap_v2", {"reserves": (1, 2**112)}, "reserves = 5192.*expected 0..5192"),
        ("uniswap_v2", {"fee_denominator": 0}, "fee_denominator = 0; expected 1.."),
        ("uniswap_v2", {"fee_numerators": (1, 2**20)}, "fee_numerators = 1048576; expected"),
        ("uniswap_v2", {"tokens": (3, 3)}, r"tokens = \(3, 3\); give each token once"),
        ("uniswap_v2", {"tokens": (0, -1)}, "tokens = -1; expected 0.."),
        ("uniswap_v2", {"tokens": (0, 1, 2)}, "tokens has 3 entries; expected 2"),
        ("uniswap_v2", {"traits": ("haunted",)}, "trait 'haunted' is unknown; use one of"),
        ("uniswap_v3", {"tokens": (0, 1, 2)}, "tokens has 3 entries; expected 2"),
        ("stableswap", {"decimals": (18,)}, "decimals has 1 entries; expected"),
        ("stableswap", {"fee": -1}, "fee = -1; expected 0.."),
        ("stableswap", {"future_a": 0}, "future_a = 0; expected 1.."),
        ("stableswap", {"future_time_s": 1 << 34}, "future_time_s = "),
        ("stableswap", {"tokens": tuple(range(9))}, "number of tokens = 9; expected 2..8"),
        ("weighted", {"fee": 0}, "fee = 0; expected 1000000000000.."),
        ("weighted", {"decimals": (18, 19, 2)}, "decimals"),
    ],
)
def test_impossible_records_are_refused_by_name(kind: str, change: dict, message: str) -> None:
    record = good_records()[KINDS.index(kind)]
    with pytest.raises(PoolRefusedError, match=f"pool {kind}: {message}"):
        build([replace(record, **change)])


def test_v4_hooks_and_dynamic_fees_are_refused_with_the_pools_name() -> None:
    record = good_records()[KINDS.index("uniswap_v4")]
    assert isinstance(record, V4Pool)
    for change, message in (
        ({"hooks": 1 << 7}, r"pool uniswap_v4: hooks = 0x0+80 \(beforeSwap\).*leave it out"),
        ({"fee": 0x800000}, "pool uniswap_v4: fee = 0x800000: pools with a dynamic fee"),
        ({"fee": 0x100000}, "pool uniswap_v4: fee = 0x100000: pools with a dynamic fee"),
    ):
        with pytest.raises(PoolRefusedError, match=message):
            build([replace(record, key=replace(record.key, **change))])


def test_weights_must_sum_to_one_and_snapshots_be_possible() -> None:
    records = good_records()
    heavy = replace(records[5], weights=tuple(2 * 10**17 for _ in records[5].tokens))
    with pytest.raises(PoolRefusedError, match="pool weighted: weights sum to"):
        build([heavy])
    v3 = records[1]
    assert isinstance(v3, ConcentratedPool)
    with pytest.raises(PoolRefusedError, match=r"pool uniswap_v3: liquidity = -1: .*again"):
        build([replace(v3, snapshot=replace(v3.snapshot, liquidity=-1))])
    with pytest.raises(PoolRefusedError, match=r"snapshot\.fork = 2; give V4 pools"):
        build([replace(v3, snapshot=replace(v3.snapshot, fork=forks.UNISWAP_V4))])


@given(st.integers(0, 2**32), st.sampled_from([k for k in KINDS if k != "weighted"]))
def test_there_and_back_earns_nothing(seed: int, kind: str) -> None:
    """Whatever the kind, a round trip of the whole output ends below where it began."""
    rng = Random(seed)
    record, model = random_record(rng, kind, kind)
    pools = build([record], time_s=NOW)
    amount = random_amount(rng, model, 0)
    status, out = one_trade(pools, 0, 0, 1, True, amount, commit=True)
    if status != OK or out == 0:
        return
    status, back = one_trade(pools, 0, 1, 0, True, out, commit=True)
    assert status != OK or back <= amount
