"""What an action number means: keep what stands, cancel it, or bid on one opportunity.

One flat table: dense bids for whole-size bundles, coarser grids for half the size and for the
public channel. The simulator and the server read the same table.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import lean_kernel, never_inline
from kernels.market.tile import (
    BUNDLE,
    CHANNELS,
    FOUND_CYCLE,
    FOUND_HALF_NET,
    FOUND_NET,
    OPPORTUNITIES,
    PUBLIC,
    STANDING_CYCLE,
)

BIDS = 32  # B, of the dense grid
COARSE_STEP = 4  # every fourth bid of it, from the fourth on
COARSE_BIDS = BIDS // COARSE_STEP
PASS = 0
PPM = 1_000_000
HALF_PPM = PPM // 2
MAX_FRACTION = 0.99

KEEP, CANCEL_BID, BID = 0, 1, 2  # kinds of action

# Log-spaced in 1 - fraction: rivals crowd near 1, where a linear grid costs 5 % of the profit.
BID_PPM: np.ndarray = np.floor(
    PPM * (1.0 - np.geomspace(1.0, 1.0 - MAX_FRACTION, BIDS)) + 0.5
).astype(np.int64)
BID_PPM.setflags(write=False)
BID_FRACTION: np.ndarray = BID_PPM / PPM  # what floats rank with; integers decide from BID_PPM
BID_FRACTION.setflags(write=False)


class Action(NamedTuple):
    """One row of the action table."""

    kind: int
    """KEEP, CANCEL_BID or BID."""
    opportunity: int
    """k, -1 without one."""
    bid_ppm: int
    """Millionths of the net profit at the chosen size."""
    channel: int
    """BUNDLE or PUBLIC."""
    size_ppm: int
    """Millionths of the best input."""


def _rows() -> list[Action]:
    coarse = range(COARSE_STEP - 1, BIDS, COARSE_STEP)
    rows = [Action(KEEP, -1, 0, BUNDLE, PPM)]
    for bids, channel, size in (
        (range(BIDS), BUNDLE, PPM),
        (coarse, BUNDLE, HALF_PPM),
        (coarse, PUBLIC, PPM),
    ):
        rows += [
            Action(BID, k, int(BID_PPM[bid]), channel, size)
            for k in range(OPPORTUNITIES)
            for bid in bids
        ]
    return [*rows, Action(CANCEL_BID, -1, 0, BUNDLE, PPM)]


ACTION_TABLE: tuple[Action, ...] = tuple(_rows())
ACTIONS = len(ACTION_TABLE)
CANCEL = ACTIONS - 1
FIRST_HALF = 1 + OPPORTUNITIES * BIDS
FIRST_PUBLIC = FIRST_HALF + OPPORTUNITIES * COARSE_BIDS

_TABLE: np.ndarray = np.array(ACTION_TABLE, np.int64)
_TABLE.setflags(write=False)


@lean_kernel
def decode(action: int) -> tuple[int, int, int, int, int]:
    """The row of ACTION_TABLE: kind, opportunity, bid_ppm, channel, size_ppm.

    A number outside the table means KEEP. bid_wei = net_wei * bid_ppm // 1_000_000 rounds down, in
    the searcher's favour.
    """
    at = action if PASS <= action < ACTIONS else PASS
    return _TABLE[at, 0], _TABLE[at, 1], _TABLE[at, 2], _TABLE[at, 3], _TABLE[at, 4]


def action_of(opportunity: int, bid: int) -> int:
    """The whole-size bundle that bids grid entry `bid` on `opportunity`."""
    if not 0 <= opportunity < OPPORTUNITIES:
        raise ValueError(f"opportunity {opportunity} is outside 0 .. {OPPORTUNITIES - 1}")
    if not 0 <= bid < BIDS:
        raise ValueError(f"bid {bid} is outside 0 .. {BIDS - 1}: it is an index into BID_PPM")
    return 1 + opportunity * BIDS + bid


def bid_indices(actions: np.ndarray) -> np.ndarray:
    """Index into the bid grid of each action, -1 where it bids nothing: int64 of the same shape."""
    bids = np.searchsorted(BID_PPM, _TABLE[actions, 2])
    return np.where(_TABLE[actions, 0] == BID, bids, -1)


@lean_kernel
def mask(tile: np.ndarray, out: np.ndarray) -> None:
    """Write bool[lanes, ACTIONS]: keep always, cancel where a bid stands, bids where they pay.

    A bid needs a profit above 0 at its size and a channel that the deployment has (row CHANNELS).
    """
    never_inline()
    for lane in range(tile.shape[1]):
        row = out[lane]
        channels = int(tile[CHANNELS, lane])
        bundles, public = (channels >> BUNDLE) & 1 == 1, (channels >> PUBLIC) & 1 == 1
        row[PASS] = True
        row[CANCEL] = tile[STANDING_CYCLE, lane] >= 0.0
        for k in range(OPPORTUNITIES):
            exists = tile[FOUND_CYCLE + k, lane] >= 0.0
            pays = exists and tile[FOUND_NET + k, lane] > 0.0
            whole, open_ = pays and bundles, pays and public
            half = exists and bundles and tile[FOUND_HALF_NET + k, lane] > 0.0
            for action in range(1 + k * BIDS, 1 + (k + 1) * BIDS):
                row[action] = whole
            at = FIRST_HALF + k * COARSE_BIDS
            for action in range(at, at + COARSE_BIDS):
                row[action] = half
            at = FIRST_PUBLIC + k * COARSE_BIDS
            for action in range(at, at + COARSE_BIDS):
                row[action] = open_
