"""Replay the recorded events of a Uniswap V3 pool: does the kernel give every amount exactly?

python examples/replay_recorded_events.py [POOL_FILE EVENTS_FILE]

Without files a pool and two swaps are made up, by the formulas of the white paper in integers.
"""

import math
import sys
from pathlib import Path

from envs.replay import replay, summary
from history.pool_events import SWAP, PoolEvent, read_events, read_pool
from kernels.pools.uniswap_v3.state import PoolSnapshot

Q96, FEE = 2**96, 3000
LIQUIDITY = 10**21


def swap(block: int, root: int, amount_in: int, zero_for_one: bool) -> PoolEvent:
    """The Swap event of an exact input that stays within one range of liquidity."""
    working = amount_in * (10**6 - FEE) // 10**6
    if zero_for_one:  # token0 in, the price falls: rounded up, for the pool
        after = -(-LIQUIDITY * Q96 * root // (LIQUIDITY * Q96 + working * root))
        amounts = amount_in, -(LIQUIDITY * (root - after) // Q96)
    else:
        after = root + working * Q96 // LIQUIDITY
        out = LIQUIDITY * Q96 * (after - root) // after // root
        amounts = -out, amount_in
    tick = math.floor(2.0 * math.log(after / Q96) / math.log(1.0001))
    return PoolEvent(SWAP, block, *amounts, sqrt_price_x96=after, liquidity=LIQUIDITY, tick=tick)


if len(sys.argv) == 3:
    pool = read_pool(Path(sys.argv[1])).snapshot
    _, events = read_events(Path(sys.argv[2]))
else:
    ends = {-6000: (LIQUIDITY, LIQUIDITY), 6000: (LIQUIDITY, -LIQUIDITY)}  # tick: gross, net
    pool = PoolSnapshot(Q96, 0, LIQUIDITY, FEE, 60, ends)
    first = swap(1, Q96, 3 * 10**18, zero_for_one=True)
    assert first.sqrt_price_x96 is not None
    events = [first, swap(2, first.sqrt_price_x96, 5 * 10**18, zero_for_one=False)]

report = replay(pool, events)
print(summary(report))
sys.exit(1 if report.mismatches else 0)
