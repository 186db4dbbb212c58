"""Files in the documented columns of public archives, made here, are read as documented."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from history.mempool import SLOT_MS, load_mempool
from history.mev import load_backruns, load_cexdex
from history.relay_bids import best_bid_path, load_relay_bids
from history.tables import TableError
from history.transactions import load_transactions

# A slot begins here: (1,694,649,587 - 1,606,824,023) % 12 = 0.
AT_MS = 1_694_649_587_000


def dumpster_csv() -> pl.DataFrame:
    """The columns of mempool-dumpster's CSV (README, Schema of output files)."""
    return pl.DataFrame(
        {
            "timestamp_ms": [AT_MS + 13_500, AT_MS + 700],
            "hash": ["0x02", "0x01"],
            "chain_id": ["1", "1"],
            "from": ["0xaa", "0xbb"],
            "to": [None, "0xdd"],
            "value": ["0", "123456789012345678901"],
            "nonce": [16, 4],
            "gas": [200_000, 21_000],
            "gas_price": ["12537846537", "30000000000"],
            "gas_tip_cap": ["100000000", "30000000000"],
            "gas_fee_cap": ["12537846537", "30000000000"],
            "data_size": [68, 0],
            "data_4bytes": ["0x095ea7b3", None],
            "sources": ["bloxroute local", "local"],
            "included_at_block_height": [18_129_000, 0],
            "included_block_timestamp_ms": [AT_MS + 12_000, 0],
            "inclusion_delay_ms": [-1_500, 0],
            "tx_type": [2, 0],
        }
    )


def dumpster_parquet() -> pl.DataFrame:
    """The same rows as the archive's Parquet file has them."""
    table = dumpster_csv()
    origin = datetime(1970, 1, 1, tzinfo=UTC)
    return table.select(
        timestamp=pl.Series([origin + timedelta(milliseconds=ms) for ms in table["timestamp_ms"]]),
        hash="hash",
        chainId="chain_id",
        txType="tx_type",
        **{"from": pl.col("from")},
        to="to",
        value="value",
        nonce=pl.col("nonce").cast(pl.String),
        gas=pl.col("gas").cast(pl.String),
        gasPrice="gas_price",
        gasTipCap="gas_tip_cap",
        gasFeeCap="gas_fee_cap",
        dataSize="data_size",
        data4Bytes="data_4bytes",
        sources=pl.col("sources").str.split(" "),
        includedAtBlockHeight="included_at_block_height",
        inclusionDelayMs="inclusion_delay_ms",
        rawTx=pl.lit("00"),
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_mempool_dumpster(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"2023-09-14.{kind}"
    if kind == "csv":
        dumpster_csv().write_csv(path)
    else:
        dumpster_parquet().write_parquet(path)
    seen = load_mempool(path)
    assert seen["hash"].to_list() == ["0x01", "0x02"]  # by first sight
    assert seen["value"].to_list() == [123456789012345678901, 0]
    assert seen["gas_tip_cap"].to_list() == [30_000_000_000, 100_000_000]
    assert seen["to"].to_list() == ["0xdd", None]
    assert seen["included_at_block_height"].to_list() == [None, 18_129_000]
    assert seen["inclusion_delay_ms"].to_list() == [None, -1_500]
    assert seen["slot_ms"].to_list() == [700, 1_500]
    assert seen["slot_ms"].is_between(0, SLOT_MS - 1).all()


def relayscan(tmp_path: Path) -> Path:
    """The columns of relayscan's bid archive; rows 0 and 1 are of one builder."""
    table = pl.DataFrame(
        {
            "source_type": [1, 2, 0],
            "received_at_ms": [1_740_787_212_100, 1_740_787_211_300, 1_740_787_213_000],
            "timestamp_ms": [1_740_787_212_050, 1_740_787_211_250, None],
            "slot": [11_163_600, 11_163_600, 11_163_600],
            "slot_t_ms": [50, -750, None],
            "value": ["25000000000000000001", "20000000000000000000", "30000000000000000000"],
            "block_hash": ["0x1", "0x2", "0x3"],
            "parent_hash": ["0x0", "0x0", "0x0"],
            "builder_pubkey": ["0xb1", "0xb1", None],
            "block_number": [21_950_000] * 3,
            "block_fee_recipient": [None, "0xf", None],
            "relay": ["agnostic", "ultrasound", "flashbots"],
            "proposer_pubkey": [None, None, None],
            "proposer_fee_recipient": [None, None, None],
            "optimistic_submission": ["true", "false", "false"],
        }
    )
    path = tmp_path / "2025-03-01_all.csv"
    table.write_csv(path)
    return path


def test_relayscan(tmp_path: Path) -> None:
    bids = load_relay_bids(relayscan(tmp_path))
    assert bids["slot_t_ms"].to_list() == [-750, 50]  # polled bids have no time
    assert bids["value_eth"].to_list() == pytest.approx([20.0, 25.0])
    best = best_bid_path(bids, 11_163_600, np.array([-1000, -750, 0, 50, 900]))
    np.testing.assert_allclose(best, [np.nan, 20.0, 20.0, 25.0, 25.0])
    assert np.isnan(best_bid_path(bids, 5, np.array([0]))).all()


def cryo_transactions(tmp_path: Path, price: int) -> tuple[Path, Path]:
    """The columns that cryo writes for transactions and blocks."""
    transactions = pl.DataFrame(
        {
            "block_number": pl.Series([7, 7, 6], dtype=pl.UInt64),
            "transaction_index": pl.Series([1, 0, 0], dtype=pl.UInt64),
            "transaction_hash": [b"\x01" * 32, b"\x02" * 32, b"\x03" * 32],
            "nonce": pl.Series([3, 1, 0], dtype=pl.UInt64),
            "from_address": [b"\xaa" * 20] * 3,
            "to_address": [None, b"\xbb" * 20, b"\xcc" * 20],
            "value_binary": [b"\x00" * 32] * 3,
            "input": [b""] * 3,
            "gas_limit": pl.Series([21_000] * 3, dtype=pl.UInt64),
            "gas_price": pl.Series([price, 15 * 10**9, 5 * 10**9], dtype=pl.UInt64),
            "transaction_type": pl.Series([2, 2, 0], dtype=pl.UInt32),
        }
    )
    blocks = pl.DataFrame(
        {
            "block_number": pl.Series([6, 7], dtype=pl.UInt32),
            "timestamp": pl.Series([88, 100], dtype=pl.UInt32),
            "base_fee_per_gas": pl.Series([None, 10**10], dtype=pl.UInt64),
        }
    )
    paths = tmp_path / "transactions.parquet", tmp_path / "blocks.parquet"
    transactions.write_parquet(paths[0])
    blocks.write_parquet(paths[1])
    return paths


def test_cryo_transactions_tip_what_is_above_the_base_fee(tmp_path: Path) -> None:
    tips = load_transactions(*cryo_transactions(tmp_path, 11 * 10**9))
    assert tips["transaction_index"].to_list() == [0, 1]  # block 6 is before London
    assert tips["priority_fee_gwei"].to_list() == pytest.approx([5.0, 1.0])
    assert tips["transaction_hash"][1] == "0x" + "01" * 32
    with pytest.raises(TableError, match=r"pays 9\.0 gwei in a block with base fee 10"):
        load_transactions(*cryo_transactions(tmp_path, 9 * 10**9))


def test_cexdex_payments_count_once_and_volumes_add(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "block_number": [5, 5, 6],
            "tx_hash": ["0x1", "0x1", "0x2"],
            "tx_index": [3, 3, 0],
            "cb_transfer": [0.5, 0.5, 0.0],
            "mev_value": [0.7, 0.7, 0.1],
            "volume": [1000.0, 500.0, None],
        }
    )
    path = tmp_path / "x.csv"
    table.write_csv(path)
    arbitrages = load_cexdex(path)
    assert arbitrages["mev_value"].to_list() == [0.7, 0.1]
    assert arbitrages["volume"].to_list() == [1500.0, None]


def test_backruns_without_a_target_are_left_out(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "chain": ["ethereum", "arbitrum", "ethereum"],
            "arb_block": [10, 10, 11],
            "arb_index": [4, 4, 5],
            "arb_gas_price_gwei": [20.0, 1.0, 30.0],
            "swap_block": [10.0, 10.0, None],
            "swap_index": [3.0, 3.0, None],
            "swap_gas_price_gwei": [20.0, 1.0, None],
            "distance": [0.0, 0.0, None],
        }
    )
    path = tmp_path / "x.parquet"
    table.write_parquet(path)
    assert load_backruns(path)["arb_block"].to_list() == [10]
