"""What an action number means: pass, or bid a fraction of one opportunity's net profit."""

import numpy as np

from kernels.compile import kernel
from kernels.market import FOUND_CYCLE, FOUND_NET, OPPORTUNITIES

BIDS = 32  # B
ACTIONS = 1 + OPPORTUNITIES * BIDS
PASS = 0
PPM = 1_000_000
MAX_FRACTION = 0.99

# Log-spaced in 1 - fraction: rivals crowd near 1, where a linear grid costs 5 % of the profit.
BID_PPM: np.ndarray = np.floor(
    PPM * (1.0 - np.geomspace(1.0, 1.0 - MAX_FRACTION, BIDS)) + 0.5
).astype(np.int64)
BID_PPM.setflags(write=False)
BID_FRACTION: np.ndarray = BID_PPM / PPM  # what floats rank with; integers decide from BID_PPM
BID_FRACTION.setflags(write=False)


@kernel
def decode(action: int) -> tuple[int, int]:
    """(opportunity k, bid in ppm of its net profit); (-1, 0) for a pass or an action outside.

    bid_wei = net_wei * bid_ppm // 1_000_000 rounds down, in the searcher's favour.
    """
    if action <= PASS or action >= ACTIONS:
        return -1, 0
    return (action - 1) // BIDS, BID_PPM[(action - 1) % BIDS]


def action_of(opportunity: int, bid: int) -> int:
    """The action that bids grid entry `bid` on `opportunity`: the inverse of decode."""
    if not 0 <= opportunity < OPPORTUNITIES:
        raise ValueError(f"opportunity {opportunity} is outside 0 .. {OPPORTUNITIES - 1}")
    if not 0 <= bid < BIDS:
        raise ValueError(f"bid {bid} is outside 0 .. {BIDS - 1}: it is an index into BID_PPM")
    return 1 + opportunity * BIDS + bid


@kernel
def mask(tile: np.ndarray, out: np.ndarray) -> None:
    """Write bool[lanes, ACTIONS]: pass always, bids only on opportunities with net above 0."""
    for lane in range(tile.shape[1]):
        row = out[lane]
        row[PASS] = True
        for k in range(OPPORTUNITIES):
            allowed = tile[FOUND_CYCLE + k, lane] >= 0.0 and tile[FOUND_NET + k, lane] > 0.0
            for action in range(1 + k * BIDS, 1 + (k + 1) * BIDS):
                row[action] = allowed
