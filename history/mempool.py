"""What nodes saw before it was included: mempool-dumpster's daily files and pending snapshots.

Columns are those of github.com/flashbots/mempool-dumpster (README, "Schema of output files"): the
Parquet file writes `gasTipCap` where the CSV writes `gas_tip_cap`, and so on.
"""

from pathlib import Path

import polars as pl

from history.tables import BIG_INTEGER, INTEGER, MILLISECONDS, TEXT, Column, read_table

WHAT = "mempool-dumpster transactions: timestamp, hash, from, nonce, gas, gasTipCap, gasFeeCap"
SLOT_MS = 12_000
MERGE_SLOT_ZERO_MS = 1_606_824_023_000  # genesis of the beacon chain: slots start 12 s apart

DUMPSTER = (
    Column(("timestamp_ms", "timestamp"), MILLISECONDS, low=0),
    Column(("hash",), TEXT),
    Column(("from",), TEXT),
    Column(("to",), TEXT, nullable=True),  # empty: creates a contract
    Column(("value",), BIG_INTEGER, low=0),
    Column(("nonce",), INTEGER, low=0),
    Column(("gas",), INTEGER, low=0),
    Column(("gas_tip_cap", "gasTipCap"), BIG_INTEGER, low=0),
    Column(("gas_fee_cap", "gasFeeCap"), BIG_INTEGER, low=0),
    Column(("data_4bytes", "data4Bytes"), TEXT, nullable=True),
    Column(("included_at_block_height", "includedAtBlockHeight"), INTEGER, low=0, optional=True),
    Column(("inclusion_delay_ms", "inclusionDelayMs"), INTEGER, optional=True),
)
SNAPSHOT = (
    Column(("hash",), TEXT),
    Column(("from_addr", "from"), TEXT),
    Column(("nonce",), INTEGER, low=0),
    Column(("gas_limit", "gas"), INTEGER, low=21_000),
)


def load_mempool(path: str | Path) -> pl.DataFrame:
    """Transactions of a mempool-dumpster file in order of their first sight.

    Columns: timestamp_ms (int64, UTC), hash, from, to, value (int128, wei), nonce, gas,
    gas_tip_cap and gas_fee_cap (int128, wei), data_4bytes, included_at_block_height (null where
    never included), inclusion_delay_ms, and slot_ms: milliseconds into the slot, 0 .. 11,999.
    Raises TableError.
    """
    frame = read_table(path, DUMPSTER, WHAT)
    included = pl.col("included_at_block_height")
    return frame.with_columns(
        # The files write 0 for "not included".
        included_at_block_height=pl.when(included > 0).then(included),
        inclusion_delay_ms=pl.when(included > 0).then(pl.col("inclusion_delay_ms")),
        slot_ms=(pl.col("timestamp_ms") - MERGE_SLOT_ZERO_MS) % SLOT_MS,
    ).sort("timestamp_ms", maintain_order=True)


def load_pending_snapshot(path: str | Path) -> pl.DataFrame:
    """One node's pending transactions at one moment: hash, from_addr, nonce, gas_limit."""
    return read_table(path, SNAPSHOT, "pending transactions: hash, from_addr, nonce, gas_limit")
