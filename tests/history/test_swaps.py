"""Swaps: found again from reserves alone, decoded from logs, and cycles among them."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from history.swaps import (
    V2_SWAP_TOPIC,
    V3_SWAP_TOPIC,
    PoolReserves,
    load_liquidity_events,
    load_swap_logs,
    load_v2_reserves,
    swaps_between,
)
from history.tables import TableError
from tests.support.recorded import data_file

GAMMA = 0.997


def pool(reserves: list[tuple[float, float]]) -> PoolReserves:
    r0, r1 = np.array(reserves, np.float64).T
    n = len(reserves)
    return PoolReserves(np.arange(n), r0, r1, np.zeros(n, np.int64), "made here")


def after(r0: Any, r1: Any, sold0: Any, sold1: Any) -> tuple[Any, Any]:
    """Reserves after selling token0 and then token1: numbers or arrays."""
    r0, r1 = r0 + sold0, r1 * r0 / (r0 + GAMMA * sold0)
    return r0 * r1 / (r1 + GAMMA * sold1), r1 + sold1


SHARES = st.one_of(st.just(0.0), st.floats(1e-6, 0.2))


@given(st.floats(1e6, 1e15), st.floats(1e6, 1e25), SHARES, SHARES)
def test_any_pair_of_swaps_is_found_again(
    r0: float, r1: float, share0: float, share1: float
) -> None:
    end = after(r0, r1, share0 * r0, share1 * r1)
    found = swaps_between(pool([(r0, r1), end]))
    if share0 == share1 == 0.0:
        assert found.traded[0]
        assert found.sold0[0] == found.sold1[0] == 0.0
        return
    if (end[0] - r0) * (end[1] - r1) > 0.0:
        assert not found.traded[0]  # both reserves grew: not told from added liquidity
        return
    assert found.traded[0]
    np.testing.assert_allclose(after(r0, r1, found.sold0[0], found.sold1[0]), end, rtol=1e-8)
    # Fees are what is left of k: small round trips drown in the rounding of float64.
    assert found.sold0[0] / r0 == pytest.approx(share0, abs=1e-7, rel=1e-5)
    assert found.sold1[0] / r1 == pytest.approx(share1, abs=1e-7, rel=1e-5)


def test_an_integer_swap_is_found_to_the_dust() -> None:
    r0, r1, sold = 52_034_452_364_125, 22_864_731_471_058_335_602_880, 2_400_000_000
    bought = 997 * sold * r1 // (1000 * r0 + 997 * sold)  # Uniswap V2 router
    found = swaps_between(pool([(r0, r1), (r0 + sold, r1 - bought)]))
    assert found.sold0[0] == pytest.approx(sold, rel=1e-6)
    assert found.sold1[0] == 0.0


def test_liquidity_and_gaps_are_no_swaps() -> None:
    reserves = pool([(1e9, 2e9), (1.1e9, 2.2e9), (1.0e9, 2.0e9), (1.01e9, 1.9e9)])
    assert swaps_between(reserves).traded.tolist() == [False, False, False]
    end = after(1e9, 2e9, 1e6, 0.0)
    gap = pool([(1e9, 2e9), end])
    gap.segment[1] = 1
    assert not swaps_between(gap).traded[0]


def test_the_recorded_pool_is_explained_by_swaps() -> None:
    reserves = load_v2_reserves(
        data_file("swaps/v2_usdc_weth_reserves_per_block_18908895_18947060.parquet")
    )
    assert len(reserves) == 38_164
    found = swaps_between(reserves)
    assert np.count_nonzero(~found.traded) == 23
    ends = after(reserves.reserve0[:-1], reserves.reserve1[:-1], found.sold0, found.sold1)
    for reached, recorded in zip(ends, (reserves.reserve0, reserves.reserve1)):
        error = np.abs(reached / recorded[1:] - 1.0)[found.traded]
        assert error.max() < 2e-9


def word(value: int) -> bytes:
    return (value % (1 << 256)).to_bytes(32, "big")


def logs(tmp_path: Path, rows: list[tuple[str, list[int]]]) -> Path:
    """A file with the columns that cryo writes for logs, made here."""
    n = len(rows)
    table = pl.DataFrame(
        {
            "block_number": pl.Series([100 + k for k in range(n)], dtype=pl.UInt32),
            "transaction_index": pl.Series([1] * n, dtype=pl.UInt32),
            "log_index": pl.Series(range(n), dtype=pl.UInt32),
            "transaction_hash": [bytes(32)] * n,
            "address": [bytes.fromhex("B4e16d0168e52d35CaCD2c6185b44281Ec28C9Dc")] * n,
            "topic0": [bytes.fromhex(topic[2:]) for topic, _ in rows],
            "topic1": [bytes(32)] * n,
            "topic2": [bytes(32)] * n,
            "topic3": pl.Series([None] * n, dtype=pl.Binary),
            "data": [b"".join(word(value) for value in words) for _, words in rows],
            "chain_id": pl.Series([1] * n, dtype=pl.UInt64),
        }
    )
    path = tmp_path / "ethereum__logs__00000100_to_00000199.parquet"
    table.write_parquet(path)
    return path


def test_swaps_are_decoded_from_cryo_logs(tmp_path: Path) -> None:
    path = logs(
        tmp_path,
        [
            (V2_SWAP_TOPIC, [0, 7 * 10**18, 13_000 * 10**6, 0]),
            ("0x" + "11" * 32, [1]),
            (V3_SWAP_TOPIC, [-(5 * 10**18), 9_000 * 10**6, 2**96, 10**20, -200_000]),
        ],
    )
    swaps = load_swap_logs(path)
    assert swaps["version"].to_list() == [2, 3]
    assert swaps["pool"][0] == "0xb4e16d0168e52d35cacd2c6185b44281ec28c9dc"
    assert swaps["amount0"].to_list() == [-13_000 * 10**6, -5 * 10**18]
    assert swaps["amount1"].to_list() == [7 * 10**18, 9_000 * 10**6]


@pytest.mark.parametrize(
    ("words", "message"),
    [([1, 2, 3], "data has 96 bytes, not 128"), ([2**200, 0, 0, 1], "pass 127 bits")],
)
def test_broken_swap_logs_are_refused(tmp_path: Path, words: list[int], message: str) -> None:
    with pytest.raises(TableError, match=message):
        load_swap_logs(logs(tmp_path, [(V2_SWAP_TOPIC, words)]))


def test_liquidity_events_are_checked(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "type": ["MINT", "COLLECT"],
            "liquidity": ["5", "0"],
            "tick_lower": [-60, 0],
            "tick_upper": [60, 60],
            "block_number": [1, 2],
            "log_index": [0, 0],
        }
    )
    path = tmp_path / "events.csv"
    table.write_csv(path)
    with pytest.raises(TableError, match="type 'COLLECT': expected MINT or BURN"):
        load_liquidity_events(path)
    table[:1].write_csv(path)
    assert load_liquidity_events(path)["liquidity"].to_list() == [5]
