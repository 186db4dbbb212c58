"""Recorded extraction: bundles, block payments, CEX-DEX arbitrage, back-runs, gas auctions,
liquidations. One loader per table; all raise TableError.
"""

from pathlib import Path

import polars as pl

from history.tables import INTEGER, NUMBER, TEXT, Column, read_table

BLOCK_REWARDS = (
    Column(("block_number",), INTEGER, low=0),
    Column(("non_fbb_gas_fee_eth",), NUMBER, low=0.0),
    Column(("fbb_gas_fee_eth",), NUMBER, low=0.0),
    Column(("fbb_coinbase_transfer_eth",), NUMBER, low=0.0),
)
BUNDLES = (
    Column(("block_number",), INTEGER, low=0),
    Column(("bundle_index",), INTEGER, low=0),
    Column(("tx_index",), INTEGER, low=0),
    Column(("gas_used",), INTEGER, low=21_000),
    Column(("total_miner_reward_eth",), NUMBER),
)
CEXDEX = (
    Column(("block_number",), INTEGER, low=0),
    Column(("tx_hash",), TEXT),
    Column(("tx_index",), INTEGER, low=0),
    Column(("cb_transfer",), NUMBER, low=0.0),
    Column(("mev_value",), NUMBER, low=0.0),
    Column(("volume",), NUMBER, low=0.0, nullable=True),
    Column(("token_bought_symbol",), TEXT, nullable=True, optional=True),
    Column(("token_sold_symbol",), TEXT, nullable=True, optional=True),
)
ETHER = frozenset({"ETH", "WETH"})
# What WETH trades against in the deepest pairs: dollars and bitcoin.
MAJORS = frozenset({"USDC", "USDT", "DAI", "WBTC"})
BACKRUNS = (
    Column(("chain",), TEXT),
    Column(("arb_block",), INTEGER, low=0),
    Column(("arb_index",), INTEGER, low=0),
    Column(("arb_gas_price_gwei",), NUMBER, low=0.0),
    Column(("swap_block",), INTEGER, low=0, nullable=True),
    Column(("swap_index",), INTEGER, low=0, nullable=True),
    Column(("swap_gas_price_gwei",), NUMBER, low=0.0, nullable=True),
    Column(("distance",), INTEGER, low=0, nullable=True),
)
GAS_AUCTIONS = (
    Column(("profit",), NUMBER),
    Column(("cost",), NUMBER, low=0.0),
    Column(("revenue",), NUMBER),
    Column(("gas_used",), NUMBER, low=0.0),
)
LIQUIDATIONS = (
    Column(("chain",), TEXT),
    Column(("liq_block",), INTEGER, low=0),
    Column(("liq_ts",), INTEGER, low=0, nullable=True, optional=True),
    Column(("oracle_distance",), INTEGER, low=0, nullable=True),
)


def load_block_payments(path: str | Path) -> pl.DataFrame:
    """Per block: block_number, ordinary_fees_eth, bundle_payment_eth (0 without a bundle)."""
    frame = read_table(path, BLOCK_REWARDS, "block rewards with Flashbots payments")
    return frame.select(
        "block_number",
        ordinary_fees_eth="non_fbb_gas_fee_eth",
        bundle_payment_eth=pl.col("fbb_gas_fee_eth") + pl.col("fbb_coinbase_transfer_eth"),
    ).sort("block_number")


def load_bundles(path: str | Path) -> pl.DataFrame:
    """One row per included bundle: block_number, bundle_index, transactions, gas_used, payment_eth.

    The payment is what the producer got from it, gas and coinbase transfers together.
    """
    frame = read_table(path, BUNDLES, "Flashbots bundles, one row per transaction")
    return (
        frame.group_by("block_number", "bundle_index")
        .agg(
            transactions=pl.len(),
            gas_used=pl.col("gas_used").sum(),
            payment_eth=pl.col("total_miner_reward_eth").sum(),
        )
        .sort("block_number", "bundle_index")
    )


def load_cexdex(path: str | Path) -> pl.DataFrame:
    """One row per CEX-DEX arbitrage: block_number, tx_index, cb_transfer, mev_value (both ETH),
    volume (USD, null where a token has no price) and pair_class: `major` where every swap trades
    WETH against a dollar or WBTC, else `tail`.
    """
    frame = read_table(path, CEXDEX, "CEX-DEX arbitrage, one row per swap")
    bought, sold = pl.col("token_bought_symbol"), pl.col("token_sold_symbol")
    deep = (bought.is_in(ETHER) & sold.is_in(MAJORS)) | (sold.is_in(ETHER) & bought.is_in(MAJORS))
    # Payments repeat on every swap of a transaction, volumes do not.
    return (
        frame.group_by("block_number", "tx_hash", "tx_index")
        .agg(
            pl.col("cb_transfer").max(),
            pl.col("mev_value").max(),
            volume=pl.when(pl.col("volume").null_count() == 0).then(pl.col("volume").sum()),
            pair_class=pl.when(deep.fill_null(False).all())
            .then(pl.lit("major"))
            .otherwise(pl.lit("tail")),
        )
        .sort("block_number", "tx_index")
    )


def load_backruns(path: str | Path, chain: str = "ethereum") -> pl.DataFrame:
    """Arbitrages of one chain with the swap that each followed: blocks, indices, gas prices and
    `distance` in blocks. Arbitrages without a known target are left out.
    """
    frame = read_table(path, BACKRUNS, "back-runs: arb_block, swap_block, distance")
    return frame.filter(pl.col("chain") == chain).drop_nulls().sort("arb_block", "arb_index")


def load_gas_auctions(path: str | Path) -> pl.DataFrame:
    """Arbitrages won in public priority-gas auctions: profit, cost, revenue (ETH), gas_used."""
    return read_table(path, GAS_AUCTIONS, "priority gas auctions: profit, cost, revenue")


def load_liquidations(path: str | Path) -> pl.DataFrame:
    """Liquidations: chain, liq_block, liq_ts (seconds since the epoch, or null), oracle_distance
    (blocks since the price update, or null).
    """
    return read_table(path, LIQUIDATIONS, "liquidations: liq_block, oracle_distance")
