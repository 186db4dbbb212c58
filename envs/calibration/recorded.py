"""What recorded data says of every quantity that the simulated market is compared with.

A sample takes the data folder and the spans of blocks that count (envs.calibration.windows).
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from envs.calibration.distance import autocorrelation, ranges, response
from envs.calibration.windows import Span, inside
from history.arbitrages import MAJOR, TAIL, Inspected, load_inspected
from history.arbitrages import pair_class as class_of
from history.blocks import Blocks, load_blocks
from history.mev import (
    load_backruns,
    load_block_payments,
    load_bundles,
    load_cexdex,
    load_liquidations,
)
from history.pools import WETH, PoolFileError, read_pools
from history.relay_bids import best_bid_path, load_relay_bids
from history.swaps import load_liquidity_events, load_v2_reserves
from history.tables import TableError
from history.transactions import load_transactions

Spans = tuple[Span, ...]
ETH_USD = 1830.0  # 8 August 2023, between 1,800 and 1,880
LEAST_DEPTH_ETH = 10.0  # of a pool; below it, dust
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
SNAPSHOTS = (
    "pools/fastlane_pools_block_17674862.parquet",
    "pools/fastlane_pools_block_18806136.parquet",
)
BIDS = "mev/relay_bids_slot_6214255.parquet"


@cache
def _payments(data: Path) -> pl.DataFrame:
    return load_block_payments(data / PAYMENTS)


@cache
def _bundles(data: Path) -> pl.DataFrame:
    return load_bundles(data / BUNDLES)


@cache
def inspected(data: Path) -> Inspected:
    """Cycles and swaps of June 2021."""
    return load_inspected(data / INSPECTED)


@cache
def _blocks(data: Path) -> Blocks:
    return load_blocks(data / BASE_FEES)


@cache
def _cexdex(data: Path) -> pl.DataFrame:
    return load_cexdex(data / CEXDEX)


def within(frame: pl.DataFrame, spans: Spans, column: str = "block_number") -> pl.DataFrame:
    """The rows whose block lies in one of `spans`."""
    return frame.filter(pl.Series(inside(frame[column].to_numpy(), spans), dtype=pl.Boolean))


def per_block(frame: pl.DataFrame, column: str, spans: Spans) -> list[np.ndarray]:
    """Sum of `column` in every block of each span, 0 where no row names it.

    A span counts between the first and the last block of the whole frame: what lies outside was not
    recorded.
    """
    numbers, values = frame["block_number"].to_numpy(), frame[column].to_numpy()
    parts = []
    for first, past in spans:
        first, past = max(first, int(numbers.min())), min(past, int(numbers.max()) + 1)
        if past > first:
            kept = (numbers >= first) & (numbers < past)
            sums = np.bincount(numbers[kept] - first, values[kept], minlength=past - first)
            parts.append(sums.astype(np.float64))
    return parts


def payments_2021(data: Path, spans: Spans) -> list[np.ndarray]:
    """ETH that bundles paid in every block, by span."""
    return per_block(_payments(data), "bundle_payment_eth", spans)


def payments_2022(data: Path, spans: Spans) -> list[np.ndarray]:
    """ETH that bundles paid in every block, by span (August 2022)."""
    return per_block(_bundles(data), "payment_eth", spans)


def cycles_per_block(data: Path, spans: Spans) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(gross ETH, number) of the arbitrage cycles that gained, in every block, by span."""
    cycles, swaps = inspected(data)
    gained = cycles.filter(pl.col("gross_eth") > 0.0).select(
        "block_number", "gross_eth", count=pl.lit(1.0)
    )
    # Blocks with swaps and no cycle count too.
    quiet = swaps.select("block_number", gross_eth=pl.lit(0.0), count=pl.lit(0.0))
    frame = pl.concat([gained, quiet])
    return per_block(frame, "gross_eth", spans), per_block(frame, "count", spans)


def informed_per_block(data: Path, spans: Spans) -> list[np.ndarray]:
    """ETH that labelled CEX-DEX arbitrageurs paid in every block, by span (8 August 2023)."""
    return per_block(_cexdex(data), "mev_value", spans)


def _one(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _paid(parts: list[np.ndarray]) -> np.ndarray:
    values = _one(parts)
    return values[values > 0.0]


def bundles_per_block(data: Path, spans: Spans) -> np.ndarray:
    """Bundles in each block that carried one (August 2022)."""
    bundles = within(_bundles(data), spans)
    return bundles.group_by("block_number").len()["len"].sort().to_numpy().astype(np.float64)


def cycle_gross(data: Path, spans: Spans) -> np.ndarray:
    """Gross of single arbitrage cycles that gained, ETH (June 2021)."""
    gross = within(inspected(data).cycles, spans)["gross_eth"].drop_nulls().to_numpy()
    return gross[gross > 0.0]


def cycle_hops(data: Path, spans: Spans) -> np.ndarray:
    """Pools in arbitrage cycles of one transaction (June 2021)."""
    return within(inspected(data).cycles, spans)["hops"].to_numpy().astype(np.float64)


def user_sizes(data: Path, spans: Spans, pair_class: str) -> np.ndarray:
    """Inputs of ordinary swaps of WETH against a class of tokens, ETH (June 2021)."""
    swaps = within(inspected(data).swaps, spans).filter(pl.col("pair_class") == pair_class)
    return swaps["size_eth"].drop_nulls().to_numpy()


def pool_depths(data: Path, spans: Spans, pair_class: str) -> np.ndarray:
    """One side of the pools of WETH against a class of tokens that hold 10 ETH or more, in ETH."""
    depths = [pair[0] for pair in depth_table(data, spans) if pair[1] == pair_class]
    return np.array(depths)


@cache
def depth_table(data: Path, spans: Spans) -> tuple[tuple[float, str, bool, str], ...]:
    """(ETH on WETH's side, class, concentrated, other token) of every pool of 10 ETH or more."""
    found = []
    for name in SNAPSHOTS:
        try:
            market = read_pools(data / name)
        except PoolFileError as error:
            raise TableError(str(error)) from error
        for pool, reserves in zip(market.pools, market.reserves(), strict=True):
            tokens = market.tokens[pool.token0], market.tokens[pool.token1]
            here = inside(np.array([pool.block or 0]), spans)[0]
            if not here or WETH not in tokens:
                continue
            side = tokens.index(WETH)
            depth = 1e-18 * float(reserves[side])
            if depth >= LEAST_DEPTH_ETH:
                concentrated = pool.kind == "uniswap_v3"
                found.append((depth, class_of(*tokens), concentrated, tokens[1 - side]))
    return tuple(found)


def priority_fees(data: Path, spans: Spans) -> np.ndarray:
    """Tips of included transactions after the merge, gwei."""
    tips = load_transactions(data / TRANSACTIONS, data / HEADERS)
    return within(tips, spans)["priority_fee_gwei"].to_numpy()


def blocks_of(data: Path, spans: Spans) -> Blocks:
    """Recorded base fees of some blocks."""
    blocks = _blocks(data)
    return blocks.select(inside(blocks.number, spans))


def gas_used_ratio(data: Path, spans: Spans) -> np.ndarray:
    """Gas used / target."""
    blocks = blocks_of(data, spans)
    return 2.0 * blocks.gas_used / blocks.gas_limit


def _consecutive(blocks: Blocks) -> np.ndarray:
    """int64[n], equal within a run without a gap."""
    return np.cumsum(np.diff(blocks.number, prepend=blocks.number[:1]) > 1)


def base_fee_changes(data: Path, spans: Spans) -> np.ndarray:
    """|ln| of the change of the base fee from block to block."""
    blocks = blocks_of(data, spans)
    run = _consecutive(blocks)
    return np.abs(np.diff(np.log(blocks.base_fee_wei)))[run[1:] == run[:-1]]


def base_fee_ranges(data: Path, spans: Spans) -> np.ndarray:
    """Highest / lowest base fee in stretches of 256 blocks, ln."""
    blocks = blocks_of(data, spans)
    return ranges(np.log(blocks.base_fee_wei), _consecutive(blocks), RANGE_BLOCKS)


def base_fee_autocorrelation(data: Path, spans: Spans) -> np.ndarray:
    """Autocorrelation of ln changes of the base fee at `LAGS` blocks."""
    blocks = blocks_of(data, spans)
    run = _consecutive(blocks)
    within_run = run[1:] == run[:-1]
    changes = np.where(within_run, np.diff(np.log(blocks.base_fee_wei)), 0.0)
    return autocorrelation(changes, run[1:], LAGS)


def demand_response(data: Path, spans: Spans) -> np.ndarray:
    """Change of gas used / target per ln of the base fee above its mean of `HORIZONS` blocks."""
    blocks = blocks_of(data, spans)
    ratio = 2.0 * blocks.gas_used / blocks.gas_limit
    return response(np.log(blocks.base_fee_wei), ratio, _consecutive(blocks), HORIZONS)


def _backruns(data: Path, spans: Spans) -> pl.DataFrame:
    return within(load_backruns(data / BACKRUNS), spans, "arb_block")


def backrun_distance(data: Path, spans: Spans) -> np.ndarray:
    """Blocks from a swap to the arbitrage that followed it."""
    return _backruns(data, spans)["distance"].to_numpy().astype(np.float64)


def backrun_gap(data: Path, spans: Spans) -> np.ndarray:
    """Places between a swap and its back-run in the same block: 1 is directly behind."""
    same = _backruns(data, spans).filter(pl.col("distance") == 0)
    return (same["arb_index"] - same["swap_index"]).to_numpy().astype(np.float64)


def cexdex_payment(data: Path, spans: Spans, pair_class: str) -> np.ndarray:
    """Payment to the builder in basis points of volume, of one class of pairs (8 August 2023)."""
    arbitrages = within(_cexdex(data), spans).filter(
        (pl.col("volume") > 0.0)
        & (pl.col("mev_value") > 0.0)
        & (pl.col("pair_class") == pair_class)
    )
    return (1e4 * ETH_USD * arbitrages["mev_value"] / arbitrages["volume"]).to_numpy()


def pool_moves(data: Path, spans: Spans) -> np.ndarray:
    """|ln| of the price change per block of V2 USDC/WETH, 0 where nobody traded (January 2024)."""
    reserves = load_v2_reserves(data / RESERVES)
    change = np.abs(np.diff(np.log(reserves.reserve0 / reserves.reserve1)))
    kept = inside(reserves.number[1:], spans) & (reserves.segment[1:] == reserves.segment[:-1])
    return change[kept]


def liquidity_events(data: Path, spans: Spans) -> np.ndarray:
    """Mints and burns per block of V3 USDC/WETH 0.3 %, zeros included (2021)."""
    events = load_liquidity_events(data / LIQUIDITY).select("block_number", one=pl.lit(1.0))
    return _one(per_block(events, "one", spans))


def liquidation_delay(data: Path, spans: Spans) -> np.ndarray:
    """Blocks from an oracle update to the liquidation that it allowed (three rollups)."""
    found = load_liquidations(data / LIQUIDATIONS).drop_nulls(["oracle_distance", "liq_ts"])
    return within(found, spans, "liq_ts")["oracle_distance"].to_numpy().astype(np.float64)


def best_bids(data: Path, spans: Spans) -> np.ndarray:
    """Best bid at the relays at `BID_TIMES_MS` around a slot's start, as a share of the last."""
    bids = within(load_relay_bids(data / BIDS), spans, "slot")
    best = best_bid_path(bids, int(bids["slot"][0]), BID_TIMES_MS)
    return best / best[-1]


SAMPLES: dict[str, Callable[[Path, Spans], np.ndarray]] = {
    "bundle_payments": lambda data, spans: _paid(payments_2021(data, spans)),
    "bundle_block": lambda data, spans: (_one(payments_2021(data, spans)) > 0.0).astype(float),
    "bundle_payments_2022": lambda data, spans: _paid(payments_2022(data, spans)),
    "bundle_block_2022": lambda data, spans: (_one(payments_2022(data, spans)) > 0.0).astype(float),
    "bundles_per_block": bundles_per_block,
    "cycle_gross": cycle_gross,
    "cycle_hops": cycle_hops,
    "user_sizes_tail": lambda data, spans: user_sizes(data, spans, TAIL),
    "user_sizes_major": lambda data, spans: user_sizes(data, spans, MAJOR),
    "pool_depth_tail": lambda data, spans: pool_depths(data, spans, TAIL),
    "pool_depth_major": lambda data, spans: pool_depths(data, spans, MAJOR),
    "priority_fees": priority_fees,
    "gas_used_ratio": gas_used_ratio,
    "base_fee_changes": base_fee_changes,
    "base_fee_ranges": base_fee_ranges,
    "base_fee_autocorrelation": base_fee_autocorrelation,
    "demand_response": demand_response,
    "gas_used_ratio_2022": gas_used_ratio,
    "base_fee_changes_2022": base_fee_changes,
    "base_fee_ranges_2022": base_fee_ranges,
    "backrun_distance": backrun_distance,
    "backrun_gap": backrun_gap,
    "backrun_adjacent": lambda data, spans: (backrun_gap(data, spans) == 1.0).astype(float),
    "cexdex_payment_tail": lambda data, spans: cexdex_payment(data, spans, TAIL),
    "cexdex_payment_major": lambda data, spans: cexdex_payment(data, spans, MAJOR),
    "pool_moves": pool_moves,
    "liquidity_events": liquidity_events,
    "liquidation_delay": liquidation_delay,
    "best_bids": best_bids,
}
