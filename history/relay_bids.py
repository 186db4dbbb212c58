"""Bids of block builders at the relays: relayscan's bid archive and tables in its columns.

Columns: docs/2024-06_bidcollect.md of github.com/flashbots/relayscan. Values are in wei there.
"""

from pathlib import Path

import numpy as np
import polars as pl

from history.tables import BIG_INTEGER, INTEGER, NUMBER, TEXT, Column, TableError, read_table

WHAT = "relay bids: slot, slot_t_ms, value, builder_pubkey"

BIDS = (
    Column(("slot",), INTEGER, low=0),
    Column(("slot_t_ms",), INTEGER, nullable=True),  # getHeader polling does not know it
    Column(("value",), BIG_INTEGER, low=0, nullable=True, optional=True),
    Column(("value_eth",), NUMBER, low=0.0, nullable=True, optional=True),
    Column(("block_hash",), TEXT),
    Column(("builder_pubkey",), TEXT, nullable=True),
)


def load_relay_bids(path: str | Path) -> pl.DataFrame:
    """Bids with a known time, in order of it: slot, slot_t_ms, value_eth, block_hash,
    builder_pubkey.

    `slot_t_ms` counts from the slot's start and is negative before it. Raises TableError.
    """
    frame = read_table(path, BIDS, WHAT)
    value = pl.coalesce(pl.col("value_eth"), pl.col("value").cast(pl.Float64) * 1e-18)
    frame = frame.with_columns(value_eth=value)
    if frame["value_eth"].null_count():
        raise TableError(f"{path}: rows without value; give value (wei) or value_eth")
    return (
        frame.drop_nulls("slot_t_ms")
        .select("slot", "slot_t_ms", "value_eth", "block_hash", "builder_pubkey")
        .sort("slot", "slot_t_ms", maintain_order=True)
    )


def best_bid_path(bids: pl.DataFrame, slot: int, at_ms: np.ndarray) -> np.ndarray:
    """Highest bid of a slot received up to each of `at_ms` int64[n]: float64[n] ETH, nan before.

    Bids are never taken back here: cancellations are not in the archive.
    """
    rows = bids.filter(pl.col("slot") == slot)
    best = np.maximum.accumulate(rows["value_eth"].to_numpy())
    seen = np.searchsorted(rows["slot_t_ms"].to_numpy(), at_ms, side="right")
    return np.where(seen > 0, best[np.maximum(seen - 1, 0)] if best.size else np.nan, np.nan)
