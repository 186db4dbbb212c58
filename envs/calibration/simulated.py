"""The same quantities out of the simulated market, seen while the searcher passes.

Everything comes through the environment's public interface: infos, wealth() and state(), whose
tile rows are documented in kernels.market. What it does not tell is `UNSEEN`, with the reason.
"""

import numpy as np

from envs.calibration.distance import autocorrelation, ranges, response
from envs.calibration.recorded import HORIZONS, LAGS, RANGE_BLOCKS
from envs.market import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.action import PASS
from kernels.market import (
    BASE_FEE,
    FOUND_AGE,
    FOUND_CYCLE,
    GAS_USED_RATIO,
    OPPORTUNITIES,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_TIP,
    RESERVES,
    SLOT,
)

UNSEEN = {
    "bundle_payments": "payments of single bundles are not told by the environment",
    "bundle_block": "which blocks carry a bundle is not told by the environment",
    "bundles_per_block": "which blocks carry a bundle is not told by the environment",
    "backrun_gap": "a simulated back-run always follows its target directly",
    "cexdex_payment": "payments of single informed trades are not told by the environment",
    "informed_share": "volumes of single informed trades are not told by the environment",
    "liquidity_events": "nobody mints or burns in the simulated market",
    "liquidation_delay": "there is no lending in the simulated market",
    "best_bids": "the block auction tells its outcome, not the best bid at each moment",
}


def simulated_samples(
    config: MarketConfig, paths: PricePaths | None, lanes: int, slots: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Samples by name, of `slots` slots of `lanes` markets in which the searcher passes.

    Markets start episodes as usual; changes across a start are left out.
    """
    env = MarketVectorEnv(lanes, config, paths, split="validation", seed=seed)
    env.reset()
    graph = config.graph
    pools = graph.token0.size
    seen: dict[str, list[np.ndarray]] = {}
    segment = np.zeros(lanes, np.int64)
    for _ in range(slots):
        rows = _rows(env)
        amounts = rows[PENDING_AMOUNT_IN : PENDING_AMOUNT_IN + PENDING]
        tips = rows[PENDING_TIP : PENDING_TIP + PENDING]
        _add(seen, "priority_fees", tips[amounts > 0.0])
        cycles = rows[FOUND_CYCLE : FOUND_CYCLE + OPPORTUNITIES].astype(np.int64)
        arbitrage = (cycles >= 0) & (cycles < graph.cycle_hops.size)
        _add(seen, "cycle_hops", graph.cycle_hops[cycles[arbitrage]].astype(np.float64))
        ages = rows[FOUND_AGE : FOUND_AGE + OPPORTUNITIES]
        _add(seen, "backrun_distance", ages[arbitrage])
        before = _log_price(rows, pools)
        truncated, rows = _next_slot(env)
        stays = ~truncated
        moves = np.abs(_log_price(rows, pools) - before)[:, stays]
        # Prices are recomputed from reserves that did not change: rounding is no trade.
        _add(seen, "pool_moves", np.where(moves > 1e-12, moves, 0.0).ravel())
        _add(seen, "gas_used_ratio", rows[GAS_USED_RATIO, stays])
        segment = segment + truncated
        _add(seen, "fee", rows[BASE_FEE])
        _add(seen, "ratio", rows[GAS_USED_RATIO])
        _add(seen, "episode", segment.astype(np.float64))
    return _with_base_fees({name: np.concatenate(parts) for name, parts in seen.items()}, lanes)


def _next_slot(env: MarketVectorEnv) -> tuple[np.ndarray, np.ndarray]:
    """Pass until every market is in another slot: bool[lanes] that began an episode, and state."""
    before = _rows(env)[SLOT].copy()
    truncated = np.zeros(env.num_envs, np.bool_)
    while True:
        truncated |= env.step(np.full(env.num_envs, PASS))[3]
        rows = _rows(env)
        if np.all(truncated | (rows[SLOT] != before)):
            return truncated, rows


def _rows(env: MarketVectorEnv) -> np.ndarray:
    """State as float64[rows, lanes]."""
    tiles = env.state()["tiles"]
    rows = np.moveaxis(tiles, 0, 1).reshape(tiles.shape[1], -1)
    return rows[:, : env.num_envs]


def _log_price(rows: np.ndarray, pools: int) -> np.ndarray:
    """ln of reserve0 / reserve1 of every pool: float64[pools, lanes]."""
    reserves = rows[RESERVES : RESERVES + 2 * pools]
    return np.log(reserves[:pools] / reserves[pools:])


def _add(seen: dict[str, list[np.ndarray]], name: str, values: np.ndarray) -> None:
    seen.setdefault(name, []).append(values.ravel())


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
