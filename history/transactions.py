"""Included transactions and what they tip: cryo's transactions, or files with effective prices.

Priority fee = effective gas price - base fee of the block (EIP-1559); where only the caps are
recorded, min(max_priority_fee, max_fee - base_fee).
"""

from pathlib import Path

import polars as pl

from history.tables import INTEGER, NUMBER, TEXT, Column, TableError, read_table

WHAT_TRANSACTIONS = "transactions: block_number, transaction_index, gas_price"
WHAT_BLOCKS = "block headers: block_number, base fee"

TRANSACTIONS = (
    Column(("block_number",), INTEGER, low=0),
    Column(("transaction_index", "tx_index"), INTEGER, low=0),
    Column(("transaction_hash", "hash"), TEXT),
    Column(("transaction_type", "type"), INTEGER, low=0, nullable=True),
    Column(("from_address", "from_addr"), TEXT, nullable=True),
    Column(("to_address", "to_addr"), TEXT, nullable=True),
    Column(("nonce",), INTEGER, low=0, nullable=True),
    Column(("gas_limit",), INTEGER, low=0),
    Column(("gas_price",), NUMBER, low=0.0, nullable=True, optional=True),
    Column(("gas_price_gwei",), NUMBER, low=0.0, nullable=True, optional=True),
)
BASE_FEES = (
    Column(("block_number", "number"), INTEGER, low=0),
    Column(("timestamp",), INTEGER, low=0),
    Column(("base_fee_per_gas",), NUMBER, low=0.0, nullable=True, optional=True),
    Column(("base_fee_gwei",), NUMBER, low=0.0, nullable=True, optional=True),
)


def load_transactions(path: str | Path, blocks: str | Path) -> pl.DataFrame:
    """Transactions of EIP-1559 blocks with their tips, in order of inclusion.

    `path` is a cryo export of transactions, or a file with gas_price_gwei; `blocks` holds the base
    fees of the same blocks (per gas in wei, or base_fee_gwei). Columns of the result: block_number,
    timestamp, transaction_index, transaction_hash, transaction_type, from_address, to_address,
    nonce, gas_limit, priority_fee_gwei (float64). Blocks without a base fee are left out. Raises
    TableError; a transaction that pays less than the base fee is one.
    """
    rows = read_table(path, TRANSACTIONS, WHAT_TRANSACTIONS)
    headers = read_table(blocks, BASE_FEES, WHAT_BLOCKS)
    base_fee = pl.coalesce(pl.col("base_fee_gwei"), pl.col("base_fee_per_gas") * 1e-9)
    headers = headers.select("block_number", "timestamp", base_fee=base_fee).drop_nulls()
    price = pl.coalesce(pl.col("gas_price_gwei"), pl.col("gas_price") * 1e-9)
    priced = (
        rows.with_columns(price=price)
        .join(headers, on="block_number")
        .with_columns(priority_fee_gwei=pl.col("price") - pl.col("base_fee"))
        .sort("block_number", "transaction_index")
    )
    # Prices in gwei carry rounding of about 1e-13 relative.
    below = priced.filter(pl.col("priority_fee_gwei") < -1e-9 * pl.col("base_fee"))
    if len(below):
        raise TableError(
            f"{path}: transaction {below['transaction_hash'][0]} pays "
            f"{below['price'][0]} gwei in a block with base fee {below['base_fee'][0]}; the files "
            "do not belong together"
        )
    return priced.select(
        "block_number",
        "timestamp",
        "transaction_index",
        "transaction_hash",
        "transaction_type",
        "from_address",
        "to_address",
        "nonce",
        "gas_limit",
        priority_fee_gwei=pl.col("priority_fee_gwei").clip(lower_bound=0.0),
    )
