"""Which recorded blocks each quantity is fitted on, and which others it is reported on.

The split is in time, and stands here alone: constants come from `fitted` (envs.calibration.fits),
the table reports both. Where other years are recorded they are held out as well.
"""

from typing import NamedTuple

import numpy as np

Span = tuple[int, int]  # first and one past the last block, or second where that is said


class Split(NamedTuple):
    """Fitted and held-out spans of one source; `held_out` is empty where nothing can be."""

    era: str
    fitted: tuple[Span, ...]
    held_out: tuple[Span, ...]
    why: str

    def words(self, side: str) -> str:
        """For example "blocks 12,710,000 to 13,109,999"."""
        spans = self.fitted if side == "fitted" else self.held_out
        unit = "seconds" if self.fitted and self.fitted[0][0] > 10**9 else "blocks"
        parts = [f"{first:,} to {past - 1:,}" for first, past in spans]
        return f"{unit} {', '.join(parts)}" if parts else "none"


REWARDS = Split(
    "2021",
    ((12_710_000, 13_110_000),),
    ((13_110_000, 13_510_000),),
    "halves of the 800,000 blocks: June to August, and August to October 2021",
)
BUNDLES = Split(
    "2022",
    ((15_400_431, 15_400_965),),
    ((15_400_965, 15_401_838),),
    "the first two hours of one night of August 2022, and the rest of it",
)
INSPECTED = Split(
    "2021",
    ((12_634_810, 12_634_936),),
    ((12_634_936, 12_637_254),),
    "halves of the first window of June 2021, and all that follows it",
)
FEES_2022 = Split(
    "2022",
    ((15_055_000, 15_059_951),),
    ((14_758_520, 14_769_128), (15_059_951, 15_064_901)),
    "first half of the July 2022 window; its second half and the two of May 2022",
)
FEES_2023 = Split(
    "2023",
    ((17_180_000, 17_187_326),),
    ((16_226_000, 16_226_300), (17_187_326, 17_194_651), (23_000_000, 25_000_000)),
    "first half of the May 2023 window; its second half, December 2022 and November 2025",
)
ORDINARY = Split(
    "2021",
    ((12_710_000, 12_910_000),),
    ((12_910_000, 12_965_000),),
    "blocks before London, whose ordinary fees are all gas price",
)
HEADERS = Split(
    "2023",
    ((17_000_000, 18_000_000),),
    ((18_000_000, 18_900_000),),
    "the few headers of 2023: no window is typical of its base fee",
)
TRANSACTIONS = Split(
    "2023",
    ((15_537_394, 19_000_000),),
    ((19_000_000, 20_000_000),),
    "blocks up to 2023, and those of 2024",
)
BACKRUNS = Split(
    "2021",
    ((12_000_000, 13_000_000),),
    ((13_000_000, 14_000_000),),
    "before and after August 2021",
)
CEXDEX = Split(
    "2023",
    ((17_866_488, 17_868_243),),
    ((17_868_243, 17_873_623),),
    "the first six hours of 8 August 2023, and the rest of the day",
)
RESERVES = Split(
    "2023",
    ((18_908_895, 18_927_978),),
    ((18_927_978, 18_947_061),),
    "halves of the first week of January 2024",
)
LIQUIDITY = Split(
    "2021",
    ((12_370_624, 12_574_009),),
    ((12_574_009, 12_777_394),),
    "halves of May and June 2021",
)
LIQUIDATIONS = Split(
    "2022",
    ((1_600_000_000, 1_672_531_200),),
    ((1_672_531_200, 1_700_000_000),),
    "before and after the start of 2023, three rollups",
)
SNAPSHOTS = Split(
    "2023",
    ((17_672_418, 17_675_949),),
    ((18_806_136, 18_806_162),),
    "snapshots of 11 July and of 17 December 2023",
)
ONE_SLOT = Split("2023", ((6_214_255, 6_214_256),), (), "one slot: nothing is left to hold out")
PUBLISHED = Split("2023", (), (), "published, not fitted")

SPLITS: dict[str, Split] = {
    "bundle_payments": REWARDS,
    "bundle_block": REWARDS,
    "bundle_payments_2022": BUNDLES,
    "bundle_block_2022": BUNDLES,
    "bundles_per_block": BUNDLES,
    "cycle_gross": INSPECTED,
    "cycle_hops": INSPECTED,
    "user_sizes_tail": INSPECTED,
    "user_sizes_major": INSPECTED,
    "pool_depth_tail": SNAPSHOTS,
    "pool_depth_major": SNAPSHOTS,
    "priority_fees": TRANSACTIONS,
    "gas_used_ratio": FEES_2023,
    "base_fee_changes": FEES_2023,
    "base_fee_ranges": FEES_2023,
    "base_fee_autocorrelation": FEES_2023,
    "demand_response": FEES_2023,
    "gas_used_ratio_2022": FEES_2022,
    "base_fee_changes_2022": FEES_2022,
    "base_fee_ranges_2022": FEES_2022,
    "backrun_distance": BACKRUNS,
    "backrun_gap": BACKRUNS,
    "backrun_adjacent": BACKRUNS,
    "cexdex_payment_tail": CEXDEX,
    "cexdex_payment_major": CEXDEX,
    "informed_share": PUBLISHED,
    "pool_moves": RESERVES,
    "liquidity_events": LIQUIDITY,
    "liquidation_delay": LIQUIDATIONS,
    "best_bids": ONE_SLOT,
}


def inside(numbers: np.ndarray, spans: tuple[Span, ...]) -> np.ndarray:
    """bool[n]: which of int64[n] lie in one of `spans`."""
    kept = np.zeros(numbers.shape, np.bool_)
    for first, past in spans:
        kept = kept | ((numbers >= first) & (numbers < past))
    return kept
