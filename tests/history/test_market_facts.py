"""The loaders give the quantiles that market configurations quote, on the recorded data."""

import numpy as np
import polars as pl
import pytest

from history.arbitrages import cycle_lengths
from history.mempool import load_pending_snapshot
from history.mev import (
    load_backruns,
    load_block_payments,
    load_bundles,
    load_cexdex,
    load_gas_auctions,
    load_liquidations,
)
from history.relay_bids import best_bid_path, load_relay_bids
from history.swaps import load_liquidity_events
from history.transactions import load_transactions
from tests.support.recorded import data_file


def test_bundle_payments_of_2021() -> None:
    blocks = load_block_payments(
        data_file("blocks/eip1559_block_rewards_12710000_13510000.parquet")
    )
    paid = blocks.filter(pl.col("bundle_payment_eth") > 0)["bundle_payment_eth"].to_numpy()
    assert paid.size == 461_534
    assert paid.size / len(blocks) == pytest.approx(0.577, abs=5e-4)
    np.testing.assert_allclose(
        np.quantile(paid, [0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999]),
        [0.005, 0.013, 0.037, 0.101, 0.258, 1.41, 6.80],
        rtol=0.02,
    )
    assert np.log(paid).mean() == pytest.approx(-3.32, abs=0.01)
    assert np.log(paid).std() == pytest.approx(1.59, abs=0.01)


def test_bundles_of_august_2022() -> None:
    bundles = load_bundles(data_file("mev/flashbots_bundles_15400431_15401837.parquet"))
    per_block = bundles.group_by("block_number").len()["len"].to_numpy()
    assert np.median(per_block) == 3
    assert per_block.max() == 20
    assert per_block.mean() == pytest.approx(4.2, abs=0.1)


def test_priority_fees_after_the_merge() -> None:
    tips = load_transactions(
        data_file("mempool/mainnet_block_txs_pevm.parquet"),
        data_file("mempool/mainnet_blocks_pevm.parquet"),
    ).filter(pl.col("block_number") >= 15_537_394)
    assert len(tips) == 8_759
    np.testing.assert_allclose(
        np.quantile(tips["priority_fee_gwei"], [0.05, 0.25, 0.5, 0.75, 0.95, 0.99]),
        [0.0, 0.08, 0.81, 2.0, 33.0, 57.0],
        rtol=0.02,
        atol=1e-8,
    )


def test_cexdex_payments() -> None:
    arbitrages = load_cexdex(data_file("mev/cexdex_arb_swaps_2023_08_08.parquet"))
    assert arbitrages["tx_index"].median() == 6
    assert (arbitrages["cb_transfer"] > 0).mean() == pytest.approx(0.62, abs=0.02)
    assert arbitrages.group_by("block_number").len()["len"].mean() == pytest.approx(1.6, abs=0.1)


def test_backruns_follow_their_targets() -> None:
    backruns = load_backruns(data_file("mev/backrun_arb_opportunities_rolling_shadows.parquet"))
    same = backruns.filter(pl.col("distance") == 0)
    assert (same["arb_index"] > same["swap_index"]).all()
    assert (same["arb_index"] - same["swap_index"] == 1).mean() == pytest.approx(0.72, abs=0.01)
    equal = (same["arb_gas_price_gwei"] / same["swap_gas_price_gwei"] - 1).abs() < 1e-3
    assert equal.mean() == pytest.approx(0.38, abs=0.01)


def test_gas_auctions_of_2018() -> None:
    auctions = load_gas_auctions(data_file("mev/pga_profit_cost_flashboys2.parquet"))
    medians = [auctions[name].median() for name in ("revenue", "cost", "profit")]
    assert medians == pytest.approx([0.062, 0.028, 0.007], abs=5e-4)
    assert (auctions["profit"].quantile(0.25) or 0.0) < 0.0


def test_liquidations_follow_oracles() -> None:
    distance = load_liquidations(
        data_file("mev/liquidation_oracle_backrun_rolling_shadows.parquet")
    )["oracle_distance"].drop_nulls()
    assert np.quantile(distance, [0.25, 0.5, 0.75]).tolist() == [1, 4, 15]


def test_builders_bid_up_to_the_slot() -> None:
    bids = load_relay_bids(data_file("mev/relay_bids_slot_6214255.parquet"))
    assert bids["builder_pubkey"].n_unique() == 37
    best = best_bid_path(bids, 6_214_255, np.array([-60_000, -6000, -4000, -2000, 0, 1000]))
    assert np.isnan(best[0])
    np.testing.assert_allclose(best[1:], [0.021, 0.025, 0.029, 0.037, 0.042], atol=6e-4)


def test_arbitrage_cycles_are_short() -> None:
    lengths = np.bincount(
        cycle_lengths(data_file("swaps/mev_inspect_swaps_mainnet_2021_06.parquet"))
    )
    assert lengths.tolist() == [0, 0, 108, 48, 7]


def test_liquidity_moves_in_one_block_of_eleven() -> None:
    events = load_liquidity_events(data_file("swaps/v3_usdc_weth_3000_liquidity_events.parquet"))
    assert len(events) == 35_963
    blocks = events["block_number"]
    span = int(blocks[-1]) - int(blocks[0])
    assert len(events) / span == pytest.approx(0.088, abs=0.001)


def test_few_senders_have_more_than_one_transaction_pending() -> None:
    pending = load_pending_snapshot(data_file("mempool/pending_snapshot_mainnet_2025_03.parquet"))
    per_sender = pending.group_by("from_addr").len()["len"].to_numpy()
    assert per_sender.size == 1_915
    assert (per_sender == 1).mean() > 0.95
