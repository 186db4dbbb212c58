"""The quantities that are compared: what they are called, their unit and their kind."""

from typing import NamedTuple

import numpy as np

from envs.calibration.recorded import BID_TIMES_MS, HORIZONS, LAGS

SAMPLE = "sample"  # a distribution
SHARE = "share"  # zeros and ones; the mean is compared
CURVE = "curve"  # one value per place on an axis


class Quantity(NamedTuple):
    """One row of the table and one figure; `places` are the x values of a curve.

    Values below `floor` are alike: a tip of a thousandth of a gwei is no tip.
    """

    name: str
    title: str
    unit: str
    kind: str
    source: str  # of the recorded values
    log: bool = False
    places: tuple[float, ...] = ()
    floor: float = 0.0


QUANTITIES = (
    Quantity(
        "bundle_payments",
        "Payment of bundles, per block that carries one",
        "ETH",
        SAMPLE,
        "800,000 blocks of 2021 (SciEcon/EIP1559)",
        log=True,
    ),
    Quantity(
        "bundle_block",
        "Blocks that carry a bundle",
        "share",
        SHARE,
        "800,000 blocks of 2021 (SciEcon/EIP1559)",
    ),
    Quantity(
        "bundles_per_block",
        "Bundles in a block that carries one",
        "bundles",
        SAMPLE,
        "Flashbots blocks, August 2022 (MEV-Tracker)",
    ),
    Quantity(
        "priority_fees",
        "Priority fee of transactions",
        "gwei",
        SAMPLE,
        "8,759 transactions after the merge (risechain/pevm)",
        log=True,
        floor=0.01,
    ),
    Quantity(
        "gas_used_ratio",
        "Gas used / target",
        "ratio",
        SAMPLE,
        "14,650 blocks of May 2023 (taiko-fee-analysis)",
    ),
    Quantity(
        "base_fee_changes",
        "Base fee, change from block to block",
        "abs ln",
        SAMPLE,
        "14,650 blocks of May 2023 (taiko-fee-analysis)",
    ),
    Quantity(
        "base_fee_ranges",
        "Base fee, highest / lowest of 256 blocks",
        "ln",
        SAMPLE,
        "14,650 blocks of May 2023 (taiko-fee-analysis)",
    ),
    Quantity(
        "base_fee_autocorrelation",
        "Base fee, autocorrelation of ln changes by lag in blocks",
        "correlation",
        CURVE,
        "14,650 blocks of May 2023 (taiko-fee-analysis)",
        places=tuple(float(lag) for lag in LAGS),
    ),
    Quantity(
        "demand_response",
        "Gas used / target, by ln base fee above its mean of the last n blocks",
        "slope",
        CURVE,
        "14,650 blocks of May 2023 (taiko-fee-analysis)",
        places=tuple(float(blocks) for blocks in HORIZONS),
    ),
    Quantity(
        "backrun_distance",
        "Back-run, blocks after its target",
        "blocks",
        SAMPLE,
        "5,149 arbitrages, Ethereum (Rolling in the Shadows)",
    ),
    Quantity(
        "backrun_gap",
        "Back-run in the same block, places after its target",
        "places",
        SAMPLE,
        "2,079 arbitrages, Ethereum (Rolling in the Shadows)",
        log=True,
    ),
    Quantity(
        "backrun_adjacent",
        "Back-run in the same block, directly behind its target",
        "share",
        SHARE,
        "2,079 arbitrages, Ethereum (Rolling in the Shadows)",
    ),
    Quantity(
        "cexdex_payment",
        "CEX-DEX arbitrage, payment to the builder of volume",
        "basis points",
        SAMPLE,
        "1,994 arbitrages, 8 August 2023 (cexdex_data_tldr_2024)",
        log=True,
    ),
    Quantity(
        "informed_share",
        "Volume traded by CEX-DEX arbitrageurs",
        "share",
        SHARE,
        "published: more than a quarter on the five largest exchanges (arXiv 2401.01622)",
    ),
    Quantity(
        "pool_moves",
        "Pool price, change from block to block",
        "abs ln",
        SAMPLE,
        "38,161 blocks of V2 USDC/WETH, January 2024 (AMM)",
        log=True,
        floor=1e-6,
    ),
    Quantity(
        "cycle_hops",
        "Pools in an arbitrage cycle",
        "pools",
        SAMPLE,
        "163 cycles of June 2021 (mev-inspect)",
    ),
    Quantity(
        "liquidity_events",
        "Mints and burns per block of a pool",
        "events",
        SAMPLE,
        "406,770 blocks of V3 USDC/WETH, 2021 (uniswap-v3-simulator)",
    ),
    Quantity(
        "liquidation_delay",
        "Liquidation, blocks after the oracle update",
        "blocks",
        SAMPLE,
        "3,854 liquidations on rollups (Rolling in the Shadows)",
    ),
    Quantity(
        "best_bids",
        "Best builder bid by time in the slot (ms), of the last",
        "share",
        CURVE,
        "one slot of April 2023, 37 builders (SlotZViZ)",
        places=tuple(np.asarray(BID_TIMES_MS, np.float64).tolist()),
    ),
)
