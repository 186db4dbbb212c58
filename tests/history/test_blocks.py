"""Blocks: O9, the base fee rule on every recorded block, and the exact inverse behind it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from history.blocks import (
    USUAL_GAS_LIMIT,
    gas_used_between,
    load_blocks,
    trace_gas_limit,
)
from history.tables import TableError
from kernels.chain.fees import next_base_fee
from tests.support.recorded import data_file

FEES = st.integers(10**7, 2 * 10**12)
LIMITS = st.integers(15_000_000, 60_000_000)


@given(FEES, LIMITS, st.data())
def test_the_inverse_finds_gas_that_gives_the_same_fee(
    fee: int, limit: int, data: st.DataObject
) -> None:
    used = data.draw(st.integers(0, limit))
    following = next_base_fee(fee, used, limit)
    found = gas_used_between(fee, following, limit)
    assert found >= 0
    assert next_base_fee(fee, found, limit) == following
    assert abs(found - limit // 2) <= abs(used - limit // 2)


@given(FEES, LIMITS, st.integers(-300_000_000_000, 300_000_000_000))
def test_no_gas_is_found_where_none_gives_the_fee(fee: int, limit: int, change: int) -> None:
    following = max(fee + change, 1)
    found = gas_used_between(fee, following, limit)
    if found >= 0:
        assert next_base_fee(fee, found, limit) == following
        return
    # The rule is monotonic in gas: one unit either side of the real-valued inverse decides.
    near = round(limit // 2 + 8 * (following - fee) / fee * (limit // 2))
    for used in range(near - 3, near + 4):
        assert next_base_fee(fee, used, limit) != following


def chain(limits: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Base fees int64[n + 1] and gas used of blocks with these limits."""
    rng = np.random.default_rng(seed)
    fees, gas = [int(rng.integers(2 * 10**10, 10**11))], []
    for limit in limits:
        gas.append(int(rng.integers(0, limit + 1)))
        fees.append(next_base_fee(fees[-1], gas[-1], limit))
    return np.array(fees), np.array(gas)


def test_the_trace_follows_votes_and_counts_the_others() -> None:
    up, odd = 30_029_295, 30_012_346
    limits = [30_000_000] * 20 + [up] * 20 + [30_000_000] * 20 + [odd] * 20
    fees, _ = chain(limits, 1)
    traced, free_votes = trace_gas_limit(fees)
    # Below one in hundred fees fits a wrong limit; the last blocks have no later ones to decide.
    assert np.count_nonzero(traced[:78] != limits[:78]) <= 2
    assert free_votes == 1
    for block, limit in enumerate(traced):
        used = gas_used_between(int(fees[block]), int(fees[block + 1]), int(limit))
        assert next_base_fee(fees[block], used, limit) == fees[block + 1]


def test_a_fee_that_cannot_follow_is_refused() -> None:
    fees, _ = chain([30_000_000] * 5, 2)
    fees[3] *= 2
    with pytest.raises(TableError, match="cannot follow"):
        trace_gas_limit(fees)


def cryo_blocks(tmp_path: Path, limits: list[int], seed: int = 3, **changes: pl.Series) -> Path:
    """A file with the columns that cryo writes for blocks, made here."""
    fees, gas = chain(limits, seed)
    n = len(limits)
    table = pl.DataFrame(
        {
            "block_hash": [bytes([k]) * 32 for k in range(n)],
            "author": [bytes(20)] * n,
            "block_number": pl.Series(range(17_000_000, 17_000_000 + n), dtype=pl.UInt32),
            "gas_used": pl.Series(gas, dtype=pl.UInt64),
            "extra_data": [b""] * n,
            "timestamp": pl.Series([1_680_000_000 + 12 * k for k in range(n)], dtype=pl.UInt32),
            "base_fee_per_gas": pl.Series(fees[:n], dtype=pl.UInt64),
            "chain_id": pl.Series([1] * n, dtype=pl.UInt64),
        }
    ).with_columns(**changes)
    path = tmp_path / "ethereum__blocks__17000000_to_17000999.parquet"
    table.write_parquet(path)
    return path


def test_cryo_blocks_keep_their_gas_and_get_a_limit(tmp_path: Path) -> None:
    blocks = load_blocks(cryo_blocks(tmp_path, [30_000_000] * 30))
    _, gas = chain([30_000_000] * 30, 3)
    assert len(blocks) == 29  # nothing follows the last, so its limit is not known
    np.testing.assert_array_equal(blocks.gas_used, gas[:29])
    assert np.all(blocks.gas_limit == USUAL_GAS_LIMIT)
    assert blocks.timestamp[1] == 1_680_000_012


def test_a_gap_ends_a_segment(tmp_path: Path) -> None:
    path = cryo_blocks(tmp_path, [30_000_000] * 30)
    table = pl.read_parquet(path)
    pl.concat([table[:10], table[14:]]).write_parquet(path)
    blocks = load_blocks(path)
    assert blocks.segment.tolist() == [0] * 9 + [1] * 15
    assert blocks.number[8:10].tolist() == [17_000_008, 17_000_014]


def test_gas_and_limit_that_contradict_the_fees_are_refused(tmp_path: Path) -> None:
    limit = pl.Series([30_000_000] * 9 + [20_000_000] + [30_000_000] * 20)
    path = cryo_blocks(tmp_path, [30_000_000] * 30, gas_limit=limit)
    with pytest.raises(TableError, match="block 17000010: base fee"):
        load_blocks(path)
    path = cryo_blocks(
        tmp_path, [30_000_000] * 30, timestamp=pl.Series([1_680_000_000] * 30, dtype=pl.UInt32)
    )
    with pytest.raises(TableError, match="block 17000001: timestamp does not rise"):
        load_blocks(path)


def test_o9_the_base_fee_rule_is_exact_on_every_recorded_block() -> None:
    """Every one of 28,065 real transitions follows from the integer rule."""
    path = data_file("blocks/basefee_windows.parquet")
    blocks = load_blocks(path)
    assert len(blocks) == 28_065
    within = np.flatnonzero(blocks.segment[1:] == blocks.segment[:-1])
    for block in within:
        following = next_base_fee(
            blocks.base_fee_wei[block], blocks.gas_used[block], blocks.gas_limit[block]
        )
        assert following == blocks.base_fee_wei[block + 1]
    # The gas use agrees with the one derived in real numbers where the file was made.
    ratio = pl.read_parquet(path).drop_nulls("implied_gas_ratio").sort("block_number")
    np.testing.assert_array_equal(ratio["block_number"], blocks.number)
    derived = ratio["implied_gas_ratio"].to_numpy()
    np.testing.assert_allclose(2.0 * blocks.gas_used / blocks.gas_limit, derived, atol=2e-7)


def test_o9_has_power() -> None:
    """After the merge the limit is 30M and nearly no other fee could have followed."""
    frame = pl.read_parquet(data_file("blocks/basefee_windows.parquet"))
    exact = shifted = count = 0
    for window in ("dec_2022", "pepe_2023_05"):
        fees = frame.filter(pl.col("window") == window).sort("block_number")["basefee_wei"]
        for fee, following in pairwise(fees):
            count += 1
            exact += gas_used_between(fee, following, USUAL_GAS_LIMIT) >= 0
            shifted += gas_used_between(fee, following + 1, USUAL_GAS_LIMIT) >= 0
    assert count == 14_949
    assert exact == 14_926
    assert shifted < 0.01 * count


def test_o9_all_limits_are_votes_and_no_fee_could_be_a_wei_higher() -> None:
    frame = pl.read_parquet(data_file("blocks/basefee_windows.parquet"))
    free = shifted = pairs = 0
    for _, window in frame.group_by("window", maintain_order=True):
        fees = window.sort("block_number")["basefee_wei"]
        limits, other_votes = trace_gas_limit(fees.to_numpy())
        free += other_votes
        pairs += limits.size
        for (fee, following), limit in zip(pairwise(fees), limits, strict=True):
            shifted += gas_used_between(fee, following + 1, int(limit)) >= 0
    assert (pairs, free, shifted) == (28_065, 0, 0)
