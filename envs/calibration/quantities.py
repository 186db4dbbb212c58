"""The quantities that are compared: what they are called, their unit and their kind."""

from typing import NamedTuple

import numpy as np

from configs.eras import MAJOR_SCALE, PRESETS
from envs.calibration.recorded import BID_TIMES_MS, HORIZONS, LAGS
from envs.calibration.windows import SPLITS, Split

SAMPLE = "sample"  # a distribution
SHARE = "share"  # zeros and ones; the mean is compared
CURVE = "curve"  # one value per place on an axis


class Quantity(NamedTuple):
    """One row of the table and one figure; `places` are the x values of a curve.

    Values below `floor` are alike: a tip of a thousandth of a gwei is no tip. `least_kept` leaves
    recorded values below it out: they are not simulated.
    """

    name: str
    title: str
    unit: str
    kind: str
    source: str  # of the recorded values
    log: bool = False
    places: tuple[float, ...] = ()
    floor: float = 0.0
    least_kept: float = 0.0

    @property
    def split(self) -> Split:
        """Fitted and held-out windows, and the era."""
        return SPLITS[self.name]

    @property
    def sample(self) -> str:
        """The simulated sample, which has no era in its name."""
        return self.name.removesuffix("_2022")


_REWARDS = "SciEcon/EIP1559"
_BUNDLES = "Flashbots blocks (MEV-Tracker)"
_INSPECTED = "mev-inspect swaps"
_FEES = "taiko-fee-analysis"
_SHADOWS = "Rolling in the Shadows"
_POOLS = "pools of 10 ETH and more on WETH's side (fastlane-bot snapshots)"
_LEAST = PRESETS["2021"]["users.size_eth_least"]

QUANTITIES = (
    Quantity("cycle_gross", "Gross of an arbitrage cycle", "ETH", SAMPLE, _INSPECTED, log=True),
    Quantity("cycle_hops", "Pools in an arbitrage cycle", "pools", SAMPLE, _INSPECTED),
    Quantity(
        "bundle_payments",
        "Payment of bundles, per block with one",
        "ETH",
        SAMPLE,
        _REWARDS,
        log=True,
    ),
    Quantity("bundle_block", "Blocks that carry a bundle", "share", SHARE, _REWARDS),
    Quantity(
        "bundle_payments_2022",
        "Payment of bundles, per block with one",
        "ETH",
        SAMPLE,
        _BUNDLES,
        log=True,
    ),
    Quantity("bundle_block_2022", "Blocks that carry a bundle", "share", SHARE, _BUNDLES),
    Quantity(
        "bundles_per_block", "Bundles in a block that carries one", "bundles", SAMPLE, _BUNDLES
    ),
    Quantity(
        "user_sizes_tail",
        "Users' inputs, long-tail pairs",
        "ETH",
        SAMPLE,
        _INSPECTED,
        log=True,
        least_kept=_LEAST,
    ),
    Quantity(
        "user_sizes_major",
        "Users' inputs, WETH against dollars and BTC",
        "ETH",
        SAMPLE,
        _INSPECTED,
        log=True,
        least_kept=_LEAST * MAJOR_SCALE,
    ),
    Quantity("pool_depth_tail", "Depth of long-tail pools", "ETH", SAMPLE, _POOLS, log=True),
    Quantity(
        "pool_depth_major", "Depth of WETH against dollars and BTC", "ETH", SAMPLE, _POOLS, log=True
    ),
    Quantity(
        "priority_fees",
        "Priority fee of transactions",
        "gwei",
        SAMPLE,
        "transactions after the merge (risechain/pevm)",
        log=True,
        floor=0.01,
    ),
    Quantity("gas_used_ratio", "Gas used / target", "ratio", SAMPLE, _FEES),
    Quantity("gas_used_ratio_2022", "Gas used / target", "ratio", SAMPLE, _FEES),
    Quantity("base_fee_changes", "Base fee, change from block to block", "abs ln", SAMPLE, _FEES),
    Quantity(
        "base_fee_changes_2022", "Base fee, change from block to block", "abs ln", SAMPLE, _FEES
    ),
    Quantity("base_fee_ranges", "Base fee, highest / lowest of 256 blocks", "ln", SAMPLE, _FEES),
    Quantity(
        "base_fee_ranges_2022", "Base fee, highest / lowest of 256 blocks", "ln", SAMPLE, _FEES
    ),
    Quantity(
        "base_fee_autocorrelation",
        "Base fee, autocorrelation of ln changes by lag in blocks",
        "correlation",
        CURVE,
        _FEES,
        places=tuple(float(lag) for lag in LAGS),
    ),
    Quantity(
        "demand_response",
        "Gas used / target, by ln base fee above its mean of the last n blocks",
        "slope",
        CURVE,
        _FEES,
        places=tuple(float(blocks) for blocks in HORIZONS),
    ),
    Quantity(
        "cexdex_payment_tail",
        "CEX-DEX payment of volume, long-tail pairs",
        "basis points",
        SAMPLE,
        "8 August 2023 (cexdex_data_tldr_2024)",
        log=True,
    ),
    Quantity(
        "cexdex_payment_major",
        "CEX-DEX payment of volume, WETH against dollars and BTC",
        "basis points",
        SAMPLE,
        "8 August 2023 (cexdex_data_tldr_2024)",
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
        "Price of V2 USDC/WETH, change from block to block",
        "abs ln",
        SAMPLE,
        "January 2024 (AMM)",
        log=True,
        floor=1e-6,
    ),
    Quantity(
        "liquidity_events",
        "Mints and burns per block of a pool",
        "events",
        SAMPLE,
        "V3 USDC/WETH 0.3 % (uniswap-v3-simulator)",
    ),
    Quantity("backrun_distance", "Back-run, blocks after its target", "blocks", SAMPLE, _SHADOWS),
    Quantity(
        "backrun_gap",
        "Back-run in the same block, places after its target",
        "places",
        SAMPLE,
        _SHADOWS,
        log=True,
    ),
    Quantity(
        "backrun_adjacent",
        "Back-run in the same block, directly behind its target",
        "share",
        SHARE,
        _SHADOWS,
    ),
    Quantity(
        "liquidation_delay",
        "Liquidation, blocks after the oracle update",
        "blocks",
        SAMPLE,
        "liquidations on rollups (Rolling in the Shadows)",
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
