"""What recorded data says of every quantity that the simulated market is compared with."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from envs.calibration.distance import autocorrelation, ranges, response
from history.blocks import Blocks, load_blocks
from history.mev import (
    load_backruns,
    load_block_payments,
    load_bundles,
    load_cexdex,
    load_liquidations,
)
from history.relay_bids import best_bid_path, load_relay_bids
from history.swaps import cycle_lengths, load_liquidity_events, load_v2_reserves
from history.transactions import load_transactions

MERGE_BLOCK = 15_537_394
RANGE_BLOCKS = 256
LAGS = (1, 2, 5, 10, 25)
HORIZONS = (5, 10, 25, 50)
BID_TIMES_MS = np.arange(-6000, 1001, 500)

PAYMENTS = "blocks/eip1559_block_rewards_12710000_13510000.parquet"
BUNDLES = "mev/flashbots_bundles_15400431_15401837.parquet"
TRANSACTIONS = "mempool/mainnet_block_txs_pevm.parquet"
HEADERS = "mempool/mainnet_blocks_pevm.parquet"
BASE_FEES = "blocks/basefee_windows.parquet"
BACKRUNS = "mev/backrun_arb_opportunities_rolling_shadows.parquet"
CEXDEX = "mev/cexdex_arb_swaps_2023_08_08.parquet"
RESERVES = "swaps/v2_usdc_weth_reserves_per_block_18908895_18947060.parquet"
INSPECTED = "swaps/mev_inspect_swaps_mainnet_2021_06.parquet"
LIQUIDITY = "swaps/v3_usdc_weth_3000_liquidity_events.parquet"
LIQUIDATIONS = "mev/liquidation_oracle_backrun_rolling_shadows.parquet"
BIDS = "mev/relay_bids_slot_6214255.parquet"


def bundle_payments(data: Path) -> np.ndarray:
    """ETH that bundles paid, per block that carried one (2021)."""
    paid = load_block_payments(data / PAYMENTS)["bundle_payment_eth"].to_numpy()
    return paid[paid > 0.0]


def bundle_block(data: Path) -> np.ndarray:
    """1 for a block that carried a bundle, else 0 (2021)."""
    paid = load_block_payments(data / PAYMENTS)["bundle_payment_eth"].to_numpy()
    return (paid > 0.0).astype(np.float64)


def bundles_per_block(data: Path) -> np.ndarray:
    """Bundles in each block that carried one (August 2022)."""
    bundles = load_bundles(data / BUNDLES)
    return bundles.group_by("block_number").len()["len"].to_numpy().astype(np.float64)


def priority_fees(data: Path) -> np.ndarray:
    """Tips of included transactions after the merge, gwei."""
    tips = load_transactions(data / TRANSACTIONS, data / HEADERS)
    tips = tips.filter(pl.col("block_number") >= MERGE_BLOCK)
    return tips["priority_fee_gwei"].to_numpy()


@cache
def _calm_blocks(data: Path) -> Blocks:
    """The longest window after the merge, May 2023."""
    blocks = load_blocks(data / BASE_FEES)
    longest = np.flatnonzero(blocks.number >= MERGE_BLOCK)
    keep = longest[blocks.segment[longest] == np.bincount(blocks.segment[longest]).argmax()]
    return blocks.select(keep)


def gas_used_ratio(data: Path) -> np.ndarray:
    """Gas used / target (May 2023)."""
    blocks = _calm_blocks(data)
    return 2.0 * blocks.gas_used / blocks.gas_limit


def base_fee_changes(data: Path) -> np.ndarray:
    """|ln| of the change of the base fee from block to block (May 2023)."""
    return np.abs(np.diff(np.log(_calm_blocks(data).base_fee_wei)))


def base_fee_ranges(data: Path) -> np.ndarray:
    """Highest / lowest base fee in stretches of 256 blocks, ln (May 2023)."""
    blocks = _calm_blocks(data)
    return ranges(np.log(blocks.base_fee_wei), blocks.segment, RANGE_BLOCKS)


def base_fee_autocorrelation(data: Path) -> np.ndarray:
    """Autocorrelation of ln changes of the base fee at `LAGS` blocks (May 2023)."""
    blocks = _calm_blocks(data)
    changes = np.diff(np.log(blocks.base_fee_wei))
    return autocorrelation(changes, blocks.segment[1:], LAGS)


def demand_response(data: Path) -> np.ndarray:
    """Change of gas used / target per ln of the base fee above its mean of `HORIZONS` blocks."""
    blocks = _calm_blocks(data)
    ratio = 2.0 * blocks.gas_used / blocks.gas_limit
    return response(np.log(blocks.base_fee_wei), ratio, blocks.segment, HORIZONS)


def backrun_distance(data: Path) -> np.ndarray:
    """Blocks from a swap to the arbitrage that followed it."""
    return load_backruns(data / BACKRUNS)["distance"].to_numpy().astype(np.float64)


def backrun_gap(data: Path) -> np.ndarray:
    """Places between a swap and its back-run in the same block: 1 is directly behind."""
    same = load_backruns(data / BACKRUNS).filter(pl.col("distance") == 0)
    return (same["arb_index"] - same["swap_index"]).to_numpy().astype(np.float64)


def backrun_adjacent(data: Path) -> np.ndarray:
    """1 for a back-run directly behind its target, 0 for another in the same block."""
    return (backrun_gap(data) == 1.0).astype(np.float64)


def cexdex_payment(data: Path) -> np.ndarray:
    """Payment to the builder in basis points of volume (8 August 2023, at 1,830 USD per ETH)."""
    arbitrages = load_cexdex(data / CEXDEX).filter(
        (pl.col("volume") > 0.0) & (pl.col("mev_value") > 0.0)
    )
    # ETHUSDT traded between 1,800 and 1,880 on that day.
    return (1e4 * 1830.0 * arbitrages["mev_value"] / arbitrages["volume"]).to_numpy()


def pool_moves(data: Path) -> np.ndarray:
    """|ln| of the price change per block of V2 USDC/WETH, 0 where nobody traded (January 2024)."""
    reserves = load_v2_reserves(data / RESERVES)
    change = np.abs(np.diff(np.log(reserves.reserve0 / reserves.reserve1)))
    return change[reserves.segment[1:] == reserves.segment[:-1]]


def cycle_hops(data: Path) -> np.ndarray:
    """Pools in arbitrage cycles of one transaction (June 2021)."""
    return cycle_lengths(data / INSPECTED).astype(np.float64)


def liquidity_events(data: Path) -> np.ndarray:
    """Mints and burns per block of V3 USDC/WETH 0.3 %, zeros included (2021)."""
    blocks = load_liquidity_events(data / LIQUIDITY)["block_number"].to_numpy()
    return np.bincount(blocks - blocks[0]).astype(np.float64)


def liquidation_delay(data: Path) -> np.ndarray:
    """Blocks from an oracle update to the liquidation that it allowed (three rollups)."""
    delays = load_liquidations(data / LIQUIDATIONS)["oracle_distance"].drop_nulls()
    return delays.to_numpy().astype(np.float64)


def best_bids(data: Path) -> np.ndarray:
    """Best bid at the relays at `BID_TIMES_MS` around a slot's start, as a share of the last."""
    bids = load_relay_bids(data / BIDS)
    best = best_bid_path(bids, int(bids["slot"][0]), BID_TIMES_MS)
    return best / best[-1]


SAMPLES: dict[str, Callable[[Path], np.ndarray]] = {
    "bundle_payments": bundle_payments,
    "bundle_block": bundle_block,
    "bundles_per_block": bundles_per_block,
    "priority_fees": priority_fees,
    "gas_used_ratio": gas_used_ratio,
    "base_fee_changes": base_fee_changes,
    "base_fee_ranges": base_fee_ranges,
    "base_fee_autocorrelation": base_fee_autocorrelation,
    "demand_response": demand_response,
    "backrun_distance": backrun_distance,
    "backrun_gap": backrun_gap,
    "backrun_adjacent": backrun_adjacent,
    "cexdex_payment": cexdex_payment,
    "pool_moves": pool_moves,
    "cycle_hops": cycle_hops,
    "liquidity_events": liquidity_events,
    "liquidation_delay": liquidation_delay,
    "best_bids": best_bids,
}
