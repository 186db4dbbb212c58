"""The same quantities out of the simulated market, seen while the searcher passes.

Everything comes through the environment's public interface: step() and state(), whose tile rows
are documented in kernels.market.tile and envs.market.physics.

Two things are defined here. A block's order: users' swaps by priority fee, and each back-run
directly behind the last of its targets, as the recorded ones are (72 % adjacent, whatever their
gas price). Swaps that do not trade in the pools of a plan commute with it, so that this is the
block that was simulated, but for unseen swaps in those pools that land ahead: they come between.
And a bundle: a back-run or liquidation that wins the auction sealed, an informed trade or a
sandwich, in a block whose proposer takes bundles.
"""

import numpy as np

from envs.auctions.block_auction import (
    SLOT_STEPS,
    STEPS_PER_SECOND,
    BlockAuction,
    Builder,
    best_bid_paths,
)
from envs.calibration.distance import autocorrelation, ranges, response
from envs.calibration.recorded import BID_TIMES_MS, HORIZONS, LAGS, RANGE_BLOCKS
from envs.market.config import MarketConfig, PricePaths
from envs.market.flow import SWAP_AHEAD
from envs.market.mempool import root_nonce
from envs.market.physics import (
    EPISODE,
    INFORMED_PAID,
    INFORMED_TRADES,
    INFORMED_VOLUME,
    MISSED,
    PRICE,
    SANDWICHERS,
    TOP,
    TOP_PUBLIC,
    USER_VOLUME,
)
from envs.market.randomness import lane_keys, slot_key, uniform
from envs.vector import MarketVectorEnv
from kernels.compile import kernel
from kernels.graph.market_graph import Graph
from kernels.market.action import PASS
from kernels.market.tile import (
    BASE_FEE,
    BUNDLES_TAKEN,
    CONCENTRATED_ROWS,
    FOUND_AGE,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_TARGETS,
    GAS_USED_RATIO,
    LIQUIDITY,
    OPPORTUNITIES,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    SEGMENTS,
    SLOT,
    layout_of,
    tile_rows,
)

SANDWICH_BID = 4.0  # a sandwicher bids four fifths of its profit and keeps one
AUCTIONS = 2000  # between builders
# The profile of "Strategic Bidding Wars" with last-minute bidders, all with the same order flow.
BUILDERS = tuple(
    Builder(strategy, 0.9, delay)
    for strategy in ("naive", "adaptive", "last_minute")
    for delay in (1, 2, 3, 4)
)

# Means over blocks, which are compared per era (envs.calibration.per_block).
PER_BLOCK = ("block_gross", "block_opportunities", "block_payment", "block_informed")
MOVED = 1e-12  # of a ln price: rounding is no trade

_BUNDLES = "auctioned back-runs and liquidations, informed trades and sandwiches, before the block"
# What a simulated sample is, where the title does not say it.
DEFINED = {
    "bundle_payments": _BUNDLES,
    "bundle_block": _BUNDLES,
    "bundles_per_block": _BUNDLES,
    "backrun_gap": "in the order of envs.calibration.simulated, among swaps of these pools alone",
    "backrun_adjacent": "in the order of envs.calibration.simulated",
    "cexdex_payment": "of blocks with one informed trade",
    "cexdex_payment_tail": "of blocks in which one informed trade alone moved a price",
    "cexdex_payment_major": "of blocks in which one informed trade alone moved a price",
    "cycle_gross": "cycles on which a rival bids",
    "user_sizes_tail": "what waits, and reaches the least size",
    "user_sizes_major": "what waits, and reaches the least size",
    "pool_depth_tail": "of the pairs with two venues, at the start of episodes",
    "pool_depth_major": "at the start of episodes",
    "best_bids": "mean of 2,000 auctions of 12 builders; the proposer looks at the last moment",
}


@kernel
def _land_ahead(
    rows: np.ndarray, world_row: int, keys: np.ndarray, share: float, out: np.ndarray
) -> None:
    """Bit m of out[lane] is set when unseen swap m lands ahead of the bundles of this block."""
    for lane in range(rows.shape[1]):
        key = slot_key(keys[lane], int(rows[world_row + EPISODE, lane]), int(rows[SLOT, lane]) + 1)
        out[lane] = 0
        for swap in range(PENDING):
            waits = rows[PENDING_AMOUNT_IN + swap, lane] > 0.0
            if not waits or rows[PENDING_VISIBLE + swap, lane] > 0.0:
                continue
            root = root_nonce(rows, lane, world_row, swap)
            if rows[PENDING_TIP + swap, lane] >= 0.0 and uniform(key, SWAP_AHEAD + root) < share:
                out[lane] |= 1 << swap


class _Slots:
    """Samples gathered slot by slot, as lists of arrays by name."""

    def __init__(self, config: MarketConfig, keys: np.ndarray) -> None:
        self.keys = keys
        self.ahead_share = config.users.private_ahead_share
        self.graph: Graph = config.graph
        self.world_row = tile_rows(self.graph, config.pools.concentrated)
        self.pools = self.graph.token0.size
        laws = np.array(config.informed.payment_law or [0] * self.pools)
        # Without classes of pairs all pools are of one kind, and no sample by class is told.
        self.classes = {"tail": laws == 0, "major": laws > 0} if laws.any() else {}
        self.with_hub = np.minimum(self.graph.token0, self.graph.token1) == 0
        plain = np.arange(self.pools) < self.pools - config.pools.concentrated
        majors = self.classes.get("major", np.ones(self.pools, np.bool_))
        # Recorded moves are those of a constant-product pool of dollars.
        self.watched = plain & majors if self.classes else majors
        self.sizes_in_eth = config.users.size_eth_median > 0.0
        self.seen: dict[str, list[np.ndarray]] = {}
        self.liquidity = [
            layout_of(self.graph).concentrated + CONCENTRATED_ROWS * pool + LIQUIDITY
            for pool in range(config.pools.concentrated)
        ]

    def add(self, name: str, values: np.ndarray) -> None:
        """Keep a sample."""
        self.seen.setdefault(name, []).append(values.ravel())

    def before_block(self, rows: np.ndarray) -> None:
        """What the last decision of a slot shows: the block that comes, if nothing is dropped."""
        block = rows[self.world_row + MISSED] == 0.0
        amounts = rows[PENDING_AMOUNT_IN : PENDING_AMOUNT_IN + PENDING, block]
        tips = rows[PENDING_TIP : PENDING_TIP + PENDING, block]
        self.add("priority_fees", tips[(amounts > 0.0) & (tips >= 0.0)])
        found = rows[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES, block].astype(np.int64)
        top = rows[self.world_row + TOP : self.world_row + TOP + OPPORTUNITIES, block]
        age = rows[FOUND_AGE : FOUND_AGE + OPPORTUNITIES, block]
        taken = (found >= 0) & (top >= 0.0)
        cycles = self.graph.cycle_hops.size
        arbitrage = taken & (found < cycles)
        self.add("cycle_hops", self.graph.cycle_hops[found[arbitrage]].astype(np.float64))
        self.add("backrun_distance", age[arbitrage])
        self.add("liquidation_delay", age[taken & (found >= cycles)])
        gross = np.where(arbitrage, rows[FOUND_GROSS : FOUND_GROSS + OPPORTUNITIES, block], 0.0)
        self.add("cycle_gross", gross[arbitrage])
        self.add("block_gross", gross.sum(axis=0))
        self.add("block_opportunities", arbitrage.sum(axis=0).astype(np.float64))
        self._by_class(rows)
        gap = 1.0 + self._between(rows)[:, block]
        same = arbitrage & (age == 0.0) & (rows[FOUND_TARGETS:][:OPPORTUNITIES, block] > 0.0)
        self.add("backrun_gap", gap[same])
        self.add("backrun_adjacent", (gap[same] == 1.0).astype(np.float64))

    def _by_class(self, rows: np.ndarray) -> None:
        """Inputs of users, and depths at an episode's start, by class of the pair; ETH."""
        price = rows[self.world_row + PRICE :][: self.graph.decimals.size]
        fresh = rows[SLOT] == 0.0
        for name, pools in self.classes.items():
            chosen = np.flatnonzero(pools & self.with_hub)
            side = chosen + np.where(self.graph.token0[chosen] == 0, 0, self.pools)
            self.add(f"pool_depth_{name}", rows[RESERVES + side][:, fresh])
            if not self.sizes_in_eth:
                continue
            for swap in range(PENDING):
                pool = rows[PENDING_POOL + swap].astype(np.int64)
                amount = rows[PENDING_AMOUNT_IN + swap]
                forward = rows[PENDING_ZERO_FOR_ONE + swap] > 0.0
                sold = np.where(forward, self.graph.token0[pool], self.graph.token1[pool])
                value = amount * np.take_along_axis(price, sold[None], axis=0)[0]
                self.add(f"user_sizes_{name}", value[(amount > 0.0) & pools[pool]])

    def _between(self, rows: np.ndarray) -> np.ndarray:
        """Swaps [K, lanes] that land between an opportunity's last target and its back-run."""
        ahead = np.empty(rows.shape[1], np.int64)
        _land_ahead(np.ascontiguousarray(rows), self.world_row, self.keys, self.ahead_share, ahead)
        found = rows[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES].astype(np.int64)
        cycles = self.graph.cycle_hops.size
        plan = self.graph.cycle_pool[np.clip(found, 0, cycles - 1)]
        hops = (
            np.arange(plan.shape[2])
            < self.graph.cycle_hops[np.clip(found, 0, cycles - 1)][..., None]
        )
        count = np.zeros(found.shape)
        for swap in range(PENDING):
            pool = rows[PENDING_POOL + swap].astype(np.int64)
            touches = ((plan == pool[:, None]) & hops).any(axis=2)
            count += touches & ((ahead >> swap) & 1 == 1)
        return count

    def _bundles(self, before: np.ndarray, rows: np.ndarray, stays: np.ndarray) -> None:
        """Bundles of a block and their payments: auctioned ones, informed trades, sandwiches."""
        keep = stays & (before[self.world_row + MISSED] == 0.0)
        taken = before[BUNDLES_TAKEN, keep] > 0.0
        top = before[self.world_row + TOP : self.world_row + TOP + OPPORTUNITIES, keep]
        public = before[
            self.world_row + TOP_PUBLIC : self.world_row + TOP_PUBLIC + OPPORTUNITIES, keep
        ]
        found = before[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES, keep] >= 0.0
        auctioned = found & (top >= 0.0) & (public == 0.0)
        change = rows[self.world_row :, keep] - before[self.world_row :, keep]
        kept = change[SANDWICHERS]
        informed = change[INFORMED_TRADES]
        count = np.where(taken, auctioned.sum(axis=0) + informed + (kept > 0.0), 0.0)
        paid = np.where(auctioned, top, 0.0).sum(axis=0)
        paid += change[INFORMED_PAID] + SANDWICH_BID * np.maximum(kept, 0.0)
        self.add("bundle_block", (count > 0).astype(np.float64))
        self.add("bundles_per_block", count[count > 0])
        self.add("bundle_payments", paid[count > 0])
        self.add("block_payment", np.where(count > 0, paid, 0.0))
        self.add("block_informed", change[INFORMED_PAID])
        one = informed == 1.0
        moved = self._moves(before, rows)[:, keep] > MOVED
        alone = one & (moved.sum(axis=0) == 1)
        for name, pools in self.classes.items():
            of_class = alone & pools[moved.argmax(axis=0)]
            share = change[INFORMED_PAID, of_class] / change[INFORMED_VOLUME, of_class]
            self.add(f"cexdex_payment_{name}", 1e4 * share)
        volume = change[INFORMED_VOLUME]
        self.add("cexdex_payment", 1e4 * change[INFORMED_PAID, one] / volume[one])
        self.add("informed_volume", volume)
        self.add("user_volume", change[USER_VOLUME])

    def after_block(self, before: np.ndarray, rows: np.ndarray, stays: np.ndarray) -> None:
        """What a block changed, in the lanes that `stay` in their episode."""
        self._bundles(before, rows, stays)
        moves = self._moves(before, rows)[:, stays][self.watched]
        # Prices are recomputed from reserves that did not change: rounding is no trade.
        self.add("pool_moves", np.where(moves > MOVED, moves, 0.0))
        for first in self.liquidity:
            changed = before[first : first + SEGMENTS] != rows[first : first + SEGMENTS]
            self.add("liquidity_events", changed[:, stays].any(axis=0).astype(np.float64))
        self.add("gas_used_ratio", rows[GAS_USED_RATIO, stays])
        self.add("fee", rows[BASE_FEE])
        self.add("ratio", rows[GAS_USED_RATIO])

    def _moves(self, before: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """|ln| of the change of every pool's price [P, lanes]."""
        prices = [
            np.log(r[RESERVES : RESERVES + self.pools] / self._far(r)) for r in (before, rows)
        ]
        return np.abs(prices[1] - prices[0])

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
    gathered = _Slots(config, lane_keys("validation", seed, lanes))
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
    informed, users = samples.pop("informed_volume"), samples.pop("user_volume")
    samples["informed_share"] = np.array([informed.sum() / (informed.sum() + users.sum())])
    samples["best_bids"] = _best_bids(seed)
    return _with_base_fees(samples, lanes)


def _best_bids(seed: int) -> np.ndarray:
    """Best builder bid at `BID_TIMES_MS`, of the last; the proposer looks at the last of them."""
    paths = best_bid_paths(BlockAuction(BUILDERS), AUCTIONS, "validation", seed)
    back_ms = BID_TIMES_MS[-1] - BID_TIMES_MS
    steps = SLOT_STEPS - back_ms * STEPS_PER_SECOND // 1000
    bid = paths[paths[:, -1] > 0.0]
    return (bid[:, steps] / bid[:, -1:]).mean(axis=0)


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
