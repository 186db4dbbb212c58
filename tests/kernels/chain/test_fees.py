"""Fee kernels against the EIP-1559 rule on Python integers, published vectors and real blocks."""

import importlib
import importlib.util
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.chain import fees

# The first example compiles the kernel, so no deadline can hold.
property_test = settings(deadline=None)

BASE_FEES = st.integers(0, fees.MAX_BASE_FEE_WEI)
GAS_LIMITS = st.one_of(
    st.integers(fees.MIN_GAS_LIMIT, fees.MAX_GAS_LIMIT), st.integers(15_000_000, 60_000_000)
)


def spec_next_base_fee(base_fee: int, gas_used: int, gas_limit: int) -> int:
    """The rule as the specification states it, on unbounded integers."""
    target = gas_limit // 2
    if gas_used == target:
        return base_fee
    if gas_used > target:
        return base_fee + max(base_fee * (gas_used - target) // target // 8, 1)
    return base_fee - base_fee * (target - gas_used) // target // 8


@st.composite
def blocks(draw: st.DrawFn, max_fee: int = fees.MAX_BASE_FEE_WEI) -> tuple[int, int, int]:
    """A parent block (base fee, gas used, gas limit), with its corners made likely."""
    limit = draw(GAS_LIMITS)
    target = limit // 2
    corners = st.sampled_from([0, 1, target - 1, target, target + 1, limit - 1, limit])
    used = draw(st.one_of(st.integers(0, limit), corners))
    fee = draw(
        st.one_of(st.integers(0, max_fee), st.integers(0, 10), st.integers(10**6, 2 * 10**12))
    )
    return fee, used, limit


@pytest.mark.parametrize(
    ("gas_used", "expected"),
    [(10_000_000, 10**9), (9_000_000, 987500000), (11_000_000, 1012500000)],
)
def test_geth_vectors(gas_used: int, expected: int) -> None:
    assert fees.next_base_fee(10**9, gas_used, 20_000_000) == expected


def test_eight_full_blocks_raise_the_fee_by_nine_eighths_each() -> None:
    fee = fees.highest_base_fee(10**12, 30_000_000, 8)
    assert fee / 10**12 == pytest.approx(2.565785, abs=1e-6)
    expected = 10**12
    for _ in range(8):
        expected = spec_next_base_fee(expected, 30_000_000, 30_000_000)
    assert fee == expected


@property_test
@given(blocks())
def test_integer_rule_equals_the_specification(block: tuple[int, int, int]) -> None:
    assert fees.next_base_fee(*block) == spec_next_base_fee(*block)


@property_test
@given(blocks())
def test_change_is_at_most_an_eighth(block: tuple[int, int, int]) -> None:
    fee, used, limit = block
    child = fees.next_base_fee(fee, used, limit)
    # An odd limit has 2 * target + 1 gas, so the rise may pass an eighth by one part in target.
    assert child <= fee + max(fee * (limit - limit // 2) // (limit // 2) // 8, 1)
    assert child >= fee - fee // 8
    if limit % 2 == 0:
        assert child <= fee + max(fee // 8, 1)


@property_test
@given(blocks())
def test_more_gas_never_lowers_the_next_fee(block: tuple[int, int, int]) -> None:
    fee, used, limit = block
    if used < limit:
        assert fees.next_base_fee(fee, used + 1, limit) >= fees.next_base_fee(fee, used, limit)


@pytest.mark.parametrize(
    ("fee", "used", "limit"),
    [
        (-1, 0, 30_000_000),
        (fees.MAX_BASE_FEE_WEI + 1, 0, 30_000_000),
        (1, -1, 30_000_000),
        (1, 30_000_001, 30_000_000),
        (1, 0, fees.MIN_GAS_LIMIT - 1),
        (1, 0, 0),
        (1, 0, fees.MAX_GAS_LIMIT + 1),
    ],
)
def test_outside_the_domain_is_invalid(fee: int, used: int, limit: int) -> None:
    assert fees.next_base_fee(fee, used, limit) == fees.INVALID


@property_test
@given(st.lists(blocks(max_fee=fees.MAX_EXACT_FLOAT_BASE_FEE_WEI), min_size=1, max_size=40))
def test_float_lanes_equal_the_integer_rule(lanes: list[tuple[int, int, int]]) -> None:
    lanes = [
        (fee, used, limit)
        for fee, used, limit in lanes
        if limit <= fees.MAX_EXACT_FLOAT_GAS_LIMIT and fee < fees.MAX_EXACT_FLOAT_BASE_FEE_WEI // 2
    ]
    columns = np.array(lanes, np.float64).reshape(-1, 3).T.copy()
    out = np.empty(len(lanes))
    fees.next_base_fees(columns[0], columns[1], columns[2], out)
    assert [int(value) for value in out] == [fees.next_base_fee(*lane) for lane in lanes]


def test_float_lanes_may_be_written_in_place() -> None:
    fee = np.array([10.0**9, 10.0**9])
    fees.next_base_fees(fee, np.array([9e6, 11e6]), np.array([20e6, 20e6]), fee)
    assert fee.tolist() == [987500000.0, 1012500000.0]


@property_test
@given(BASE_FEES, st.integers(0, 2**62), st.integers(0, 2**62))
def test_effective_priority_fee(base_fee: int, max_fee: int, max_priority: int) -> None:
    tip = fees.effective_priority_fee(max_fee, max_priority, base_fee)
    if max_fee < base_fee or max_fee < max_priority:
        assert tip == fees.INVALID
    else:
        assert tip == min(max_priority, max_fee - base_fee)


def geth_rewards(transactions: list[tuple[int, int]], percentiles: list[float]) -> list[int]:
    """eth_feeHistory's rewards of one block, transactions as (tip, gas used) (eth/gasprice)."""
    ordered = sorted(transactions)
    total = float(sum(gas for _, gas in ordered))
    place, gas_so_far, rewards = 0, ordered[0][1], []
    for percentile in percentiles:
        threshold = int(total * percentile / 100)
        while gas_so_far < threshold and place < len(ordered) - 1:
            place += 1
            gas_so_far += ordered[place][1]
        rewards.append(ordered[place][0])
    return rewards


def quantiles(
    tips: Sequence[float] | np.ndarray,
    gas: Sequence[int] | np.ndarray,
    percentiles: Sequence[float],
    kind: type = np.int64,
) -> list[float] | None:
    """The kernel's answer, None when it refuses."""
    out = np.full(len(percentiles), -7, kind)
    order = np.empty(len(tips), np.int64)
    status = fees.priority_fee_quantiles(
        np.array(tips, kind), np.array(gas, np.int64), np.array(percentiles, float), order, out
    )
    if status == fees.INVALID:
        assert (out == -7).all()
        return None
    return out.tolist()


TRANSACTIONS = st.lists(
    st.tuples(st.integers(0, 10**12) | st.integers(0, 3), st.integers(21_000, 2**24) | st.just(0)),
    min_size=1,
    max_size=60,
)


@property_test
@given(TRANSACTIONS, st.lists(st.floats(0, 100) | st.integers(0, 100), max_size=5))
def test_quantiles_follow_geth(
    transactions: list[tuple[int, int]], percentiles: list[float]
) -> None:
    tips, gas = zip(*transactions, strict=True)
    ascending = sorted(percentiles)
    expected = geth_rewards(transactions, ascending)
    assert quantiles(tips, gas, ascending) == expected
    # The simulator's tips are in gwei.
    gwei = [tip / 1e9 for tip in tips]
    assert quantiles(gwei, gas, ascending, np.float64) == [tip / 1e9 for tip in expected]


def test_quantiles_of_nothing_are_zero() -> None:
    assert quantiles([], [], [10, 90]) == [0, 0]


@pytest.mark.parametrize(
    ("gas", "percentiles"),
    [
        ([1, 1], [-0.1]),
        ([1, 1], [100.1]),
        ([1, 1], [float("nan")]),
        ([1, 1], [50, 10]),
        ([1, -1], [50]),
        ([1], [50]),
        ([2**62, 2**62], [50]),
    ],
)
def test_quantiles_refuse_what_they_cannot_answer(gas: list[int], percentiles: list[float]) -> None:
    assert quantiles([1, 1], gas, percentiles) is None


def test_quantiles_of_recorded_blocks() -> None:
    """Blocks as they were: the pooled tips of twenty, their gas limits standing for gas used."""
    import polars as pl

    names = ["block_number", "gas_price_gwei", "gas_limit"]
    blocks = pl.read_parquet(data_file("mempool/mainnet_blocks_pevm.parquet"))
    base = blocks.select("block_number", "base_fee_gwei").drop_nulls()
    frame = pl.read_parquet(data_file("mempool/mainnet_block_txs_pevm.parquet"), columns=names)
    joined = frame.join(base, on="block_number").with_columns(
        tip=(pl.col("gas_price_gwei") - pl.col("base_fee_gwei")).clip(0.0)
    )
    recent = joined["block_number"].unique().sort().tail(20)
    pooled = joined.filter(pl.col("block_number").is_in(recent.implode()))
    tips = [round(tip * 1e9) for tip in pooled["tip"].to_list()]
    gas = pooled["gas_limit"].to_list()
    percentiles = [0.0, 10.0, 50.0, 90.0, 99.0, 100.0]
    assert quantiles(tips, gas, percentiles) == geth_rewards(list(zip(tips, gas)), percentiles)
    assert len(tips) > 1_000


def test_plan_gas_takes_measured_numbers() -> None:
    assert fees.plan_gas(3, 50_000, 60_000) == 230_000
    assert fees.plan_gas(2) == fees.DEFAULT_BASE_GAS + 2 * fees.DEFAULT_HOP_GAS


def test_gas_of_a_plan_depends_on_its_pools() -> None:
    of_kinds = lambda kinds, ticks: fees.plan_gas_of_kinds(np.array(kinds), np.array(ticks))  # noqa: E731
    assert of_kinds([0, 0], [0, 0]) == fees.plan_gas(2)
    base = fees.DEFAULT_BASE_GAS
    assert of_kinds([0, 1], [0, 3]) == base + sum(fees.HOP_GAS[:2]) + 3 * fees.TICK_GAS
    assert of_kinds([5, 4, 3], [0] * 3) == base + sum(fees.HOP_GAS[3:])
    assert fees.plan_gas_of_kinds(np.array([0]), np.array([0]), 7) == 7 + fees.HOP_GAS[0]
    for kinds, ticks in (([6], [0]), ([-1], [0]), ([0], [-1]), ([0], [2**40]), ([0], [0, 0])):
        assert of_kinds(kinds, ticks) == fees.INVALID


def test_kinds_of_gas_are_the_kinds_of_pools() -> None:
    """HOP_GAS has a row for every kind that kernels.pools.any_pool knows, in its order."""
    if importlib.util.find_spec("kernels.pools.any_pool") is None:
        pytest.skip("kernels.pools.any_pool is not there yet")
    pools = importlib.import_module("kernels.pools.any_pool")
    names = ("UNISWAP_V2", "UNISWAP_V3", "PANCAKE_V3", "UNISWAP_V4", "STABLESWAP", "WEIGHTED")
    assert [getattr(pools, name) for name in names] == list(range(len(fees.HOP_GAS)))


@property_test
@given(st.integers(0, 2**40), st.integers(0, 2**62), st.integers(0, 2**62))
def test_gas_cost_is_exact_or_refused(gas: int, base_fee: int, tip: int) -> None:
    cost = gas * (base_fee + tip)
    result = fees.gas_cost_wei(gas, base_fee, tip)
    if cost < 2**62:
        assert result == cost
    assert result in (cost, fees.INVALID)


def data_file(name: str) -> Path:
    """A file of the recorded data, or a skip that says what is missing."""
    root = os.environ.get("MEVRL_DATA")
    if not root:
        pytest.skip("MEVRL_DATA is not set: recorded blocks are not available")
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"{path} is missing: recorded blocks are not available")
    return path


def gas_used_between(fee: int, child_fee: int, gas_limit: int) -> int | None:
    """A gas use that leads exactly from one base fee to the next, when there is one."""
    target = gas_limit // 2
    size = -(-abs(child_fee - fee) * 8 * target // fee)
    guess = target + size if child_fee >= fee else target - size
    for gas_used in (guess - 1, guess, guess + 1):
        if fees.next_base_fee(fee, gas_used, gas_limit) == child_fee:
            return gas_used
    return None


def test_recorded_base_fees_are_reached_by_whole_gas() -> None:
    """Every recorded step that some gas use explains is reached to the wei, and most are explained.

    The windows hold base fees only. One unit of gas moves a fee of 100 gwei by 833 wei, so a step
    is hit by accident once in hundreds: a rate near 1 needs the right rule and the right limit.
    After the merge the limit was 30,000,000 sharp; miners before it let the limit wander by 0.1 %.
    """
    import polars as pl

    limit = 30_000_000
    frame = pl.read_parquet(data_file("blocks/basefee_windows.parquet"))
    for key, window in frame.group_by("window", maintain_order=True):
        base_fees, numbers = window["basefee_wei"].to_list(), window["block_number"].to_list()
        steps = explained = 0
        for i in range(len(base_fees) - 1):
            if numbers[i + 1] != numbers[i] + 1:
                continue
            fee, child_fee = base_fees[i], base_fees[i + 1]
            # A full block of odd limit rises by a little more than an eighth: it happened.
            highest = fees.next_base_fee(fee, 29_900_001, 29_900_001)
            assert fees.next_base_fee(fee, 0, limit) <= child_fee <= highest
            gas_used = gas_used_between(fee, child_fee, limit)
            steps += 1
            if gas_used is not None:
                explained += 1
                assert spec_next_base_fee(fee, gas_used, limit) == child_fee
        share = 0.99 if key[0] in ("dec_2022", "pepe_2023_05") else 0.4
        assert explained >= share * steps, key


def test_recorded_consecutive_headers() -> None:
    """Where two consecutive full headers are recorded, the second's base fee follows to the wei."""
    import polars as pl

    frame = pl.read_parquet(data_file("mempool/mainnet_blocks_pevm.parquet")).sort("block_number")
    rows = frame.filter(pl.col("base_fee_gwei").is_not_null()).to_dicts()
    checked = 0
    for parent, child in itertools.pairwise(rows):
        if child["block_number"] != parent["block_number"] + 1:
            continue
        parent_fee, child_fee = (round(row["base_fee_gwei"] * 1e9) for row in (parent, child))
        assert fees.next_base_fee(parent_fee, parent["gas_used"], parent["gas_limit"]) == child_fee
        checked += 1
    assert checked >= 3
