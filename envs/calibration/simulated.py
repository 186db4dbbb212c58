"""The same quantities out of the simulated market, seen while the searcher passes.

Everything comes through the environment's public interface: step() and state(), whose tile rows
are documented in kernels.market and envs.physics. What it does not tell is `UNSEEN`, with the
reason.
"""

import numpy as np

from envs.calibration.distance import autocorrelation, ranges, response
from envs.calibration.recorded import HORIZONS, LAGS, RANGE_BLOCKS
from envs.market import MarketConfig, PricePaths
from envs.physics import MISSED, TOP, TOP_PUBLIC
from envs.vector import MarketVectorEnv
from kernels.action import PASS
from kernels.graph import Graph
from kernels.market import (
    BASE_FEE,
    BUNDLES_TAKEN,
    FOUND_AGE,
    FOUND_CYCLE,
    GAS_USED_RATIO,
    LIQUIDITY,
    OPPORTUNITIES,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_TIP,
    RESERVES,
    SEGMENTS,
    concentrated_row,
    tile_rows,
)

UNSEEN = {
    "backrun_gap": "transactions have no places in a simulated block, bundles follow all swaps",
    "cexdex_payment": "a constant share by configuration, informed_payment_bps",
    "informed_share": "volumes of informed trades are not told by the environment",
    "best_bids": "the block auction tells its outcome, not the best bid at each moment",
}


class _Slots:
    """Samples gathered slot by slot, as lists of arrays by name."""

    def __init__(self, config: MarketConfig) -> None:
        self.graph: Graph = config.graph
        self.world = tile_rows(self.graph, config.concentrated_pools)
        self.pools = self.graph.token0.size
        self.seen: dict[str, list[np.ndarray]] = {}
        self.liquidity = [
            concentrated_row(self.pools, self.graph.cycle_hops.size, pool) + LIQUIDITY
            for pool in range(config.concentrated_pools)
        ]

    def add(self, name: str, values: np.ndarray) -> None:
        """Keep a sample."""
        self.seen.setdefault(name, []).append(values.ravel())

    def before_block(self, rows: np.ndarray) -> None:
        """What the last decision of a slot shows: the block that comes, if nothing is dropped."""
        block = rows[self.world + MISSED] == 0.0
        amounts = rows[PENDING_AMOUNT_IN : PENDING_AMOUNT_IN + PENDING, block]
        tips = rows[PENDING_TIP : PENDING_TIP + PENDING, block]
        self.add("priority_fees", tips[(amounts > 0.0) & (tips >= 0.0)])
        found = rows[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES, block].astype(np.int64)
        top = rows[self.world + TOP : self.world + TOP + OPPORTUNITIES, block]
        public = rows[self.world + TOP_PUBLIC : self.world + TOP_PUBLIC + OPPORTUNITIES, block]
        age = rows[FOUND_AGE : FOUND_AGE + OPPORTUNITIES, block]
        taken = (found >= 0) & (top >= 0.0)
        cycles = self.graph.cycle_hops.size
        arbitrage = taken & (found < cycles)
        self.add("cycle_hops", self.graph.cycle_hops[found[arbitrage]].astype(np.float64))
        self.add("backrun_distance", age[arbitrage])
        self.add("liquidation_delay", age[taken & (found >= cycles)])
        bundles = taken & (public == 0.0) & (rows[BUNDLES_TAKEN, block] > 0.0)
        count = bundles.sum(axis=0)
        self.add("bundle_block", (count > 0).astype(np.float64))
        self.add("bundles_per_block", count[count > 0].astype(np.float64))
        paid = np.where(bundles, top, 0.0).sum(axis=0)
        self.add("bundle_payments", paid[count > 0])

    def after_block(self, before: np.ndarray, rows: np.ndarray, stays: np.ndarray) -> None:
        """What a block changed, in the lanes that `stay` in their episode."""
        prices = [
            np.log(r[RESERVES : RESERVES + self.pools] / self._far(r)) for r in (before, rows)
        ]
        moves = np.abs(prices[1] - prices[0])[:, stays]
        # Prices are recomputed from reserves that did not change: rounding is no trade.
        self.add("pool_moves", np.where(moves > 1e-12, moves, 0.0))
        for first in self.liquidity:
            changed = before[first : first + SEGMENTS] != rows[first : first + SEGMENTS]
            self.add("liquidity_events", changed[:, stays].any(axis=0).astype(np.float64))
        self.add("gas_used_ratio", rows[GAS_USED_RATIO, stays])
        self.add("fee", rows[BASE_FEE])
        self.add("ratio", rows[GAS_USED_RATIO])

    def _far(self, rows: np.ndarray) -> np.ndarray:
        return rows[RESERVES + self.pools : RESERVES + 2 * self.pools]


def simulated_samples(
    config: MarketConfig, paths: PricePaths | None, lanes: int, slots: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Samples by name, of `slots` slots of `lanes` markets in which the searcher passes.

    Markets start episodes as usual; changes across a start are left out.
    """
    env = MarketVectorEnv(lanes, config, paths, split="validation", seed=seed)
    env.reset()
    gathered = _Slots(config)
    segment = np.zeros(lanes, np.int64)
    pass_ = np.full(lanes, PASS)
    for _ in range(slots):
        for _ in range(config.ticks_per_slot - 1):
            env.step(pass_)
        before = _rows(env)
        gathered.before_block(before)
        truncated = env.step(pass_)[3]
        segment = segment + truncated
        gathered.after_block(before, _rows(env), ~truncated)
        gathered.add("episode", segment.astype(np.float64))
    samples = {name: np.concatenate(parts) for name, parts in gathered.seen.items()}
    return _with_base_fees(samples, lanes)


def _rows(env: MarketVectorEnv) -> np.ndarray:
    """State as float64[rows, lanes]."""
    tiles = env.state()["tiles"]
    rows = np.moveaxis(tiles, 0, 1).reshape(tiles.shape[1], -1)
    return rows[:, : env.num_envs]


def _with_base_fees(samples: dict[str, np.ndarray], lanes: int) -> dict[str, np.ndarray]:
    """Replace the raw base fees by what is compared of them, lane by lane."""
    fee, ratio, episode = (samples.pop(n).reshape(-1, lanes).T for n in ("fee", "ratio", "episode"))
    levels = np.log(fee.ravel())
    episodes = int(episode.max()) + 1
    segment = (episode + episodes * np.arange(lanes)[:, None]).ravel().astype(np.int64)
    within = segment[1:] == segment[:-1]
    changes = np.diff(levels)
    samples["base_fee_changes"] = np.abs(changes[within])
    samples["base_fee_ranges"] = ranges(levels, segment, RANGE_BLOCKS)
    samples["base_fee_autocorrelation"] = autocorrelation(
        np.where(within, changes, 0.0), segment[1:], LAGS
    )
    # The state shows the fee of the next block beside the fullness of the last one.
    samples["demand_response"] = response(
        levels[:-1][within], ratio.ravel()[1:][within], segment[1:][within], HORIZONS
    )
    return samples
