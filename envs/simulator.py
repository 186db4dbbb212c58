"""One slot of N markets: auctions, the block, the books, the next slot. Compiled, tile by tile."""

import numpy as np

from envs.auctions import run_auctions
from envs.flow import (
    GAS_USED,
    GWEI,
    START,
    START_DEPTH,
    START_ERROR,
    advance_prices,
    advance_regimes,
    include_private,
    include_visible,
    informed_trades,
    new_swaps,
    set_prices,
)
from envs.physics import (
    EPISODE,
    GAS_RATIO,
    LOG_PRICE,
    MINUTE,
    NORMAL,
    PRICE,
    REGIME,
    SEARCHER,
    STEP,
    Physics,
)
from envs.randomness import quantile, slot_key, uniform
from kernels.compile import kernel
from kernels.fees import next_base_fee_f64
from kernels.market import (
    BASE_FEE,
    FORECAST,
    FORECASTS,
    FOUND_CYCLE,
    GAS_USED_RATIO,
    HISTORY_COUNT,
    HISTORY_VALUE,
    LANES,
    OWN_TIP,
    RESERVES,
    SLOT,
    since_row,
)
from kernels.observation import observe

MIN_BASE_FEE = 0.01  # gwei; the least fee seen is 0.045


@kernel
def _slot_keys(physics: Physics, tile: np.ndarray, lane_keys: np.ndarray, keys: np.ndarray) -> None:
    """Keys of the slot being built; slot 0 of the counter belongs to the episode's start."""
    for lane in range(LANES):
        episode, slot = int(tile[physics.world + EPISODE, lane]), int(tile[SLOT, lane])
        keys[lane] = slot_key(lane_keys[lane], episode, slot + 1)


@kernel
def _advance_base_fees(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """EIP-1559 on a block whose fullness is drawn, and falls when the base fee is high."""
    for lane in range(LANES):
        ratio = quantile(physics.quantiles, GAS_RATIO, uniform(keys[lane], GAS_USED))
        excess = tile[BASE_FEE, lane] / physics.base_fee - 1.0
        ratio = min(max(ratio - physics.gas_elasticity * excess, 0.0), 2.0)
        gas_used = np.floor(0.5 * ratio * physics.gas_limit)
        fee = next_base_fee_f64(np.floor(tile[BASE_FEE, lane] / GWEI), gas_used, physics.gas_limit)
        tile[BASE_FEE, lane] = max(fee * GWEI, MIN_BASE_FEE)
        tile[GAS_USED_RATIO, lane] = ratio


@kernel
def start_episode(
    physics: Physics,
    log_price: np.ndarray,
    forecast: np.ndarray,
    starts: np.ndarray,
    tile: np.ndarray,
    lane: int,
    lane_key: np.uint64,
) -> None:
    """A fresh market for the episode in row EPISODE: price, pools near it, gas, regime, books."""
    world, pools, tokens = physics.world, physics.token0.shape[0], physics.exposure.shape[0]
    cycles = physics.cycles.shape[0]
    key = slot_key(lane_key, int(tile[world + EPISODE, lane]), 0)
    minute = starts[int(uniform(key, START) * starts.shape[0])]
    tile[world + MINUTE, lane] = minute
    tile[world + STEP, lane] = 0.0
    tile[world + REGIME, lane] = int(uniform(key, START + 1) * physics.rival_log_rate.shape[0])
    for asset in range(2):
        tile[world + LOG_PRICE + asset, lane] = log_price[minute, asset]
    for horizon in range(FORECASTS):
        tile[FORECAST + horizon, lane] = forecast[minute, horizon]
    set_prices(physics, tile, lane)
    z = quantile(physics.quantiles, NORMAL, uniform(key, START + 2))
    tile[BASE_FEE, lane] = physics.base_fee * np.exp(physics.base_fee_sigma * z)
    tile[GAS_USED_RATIO, lane] = 1.0
    tile[OWN_TIP, lane] = physics.own_tip
    tile[SLOT, lane] = 0.0
    tile[HISTORY_COUNT, lane] = 0.0
    for row in range(HISTORY_VALUE, FOUND_CYCLE):
        tile[row, lane] = 0.0
    for row in range(since_row(pools), since_row(pools) + cycles):
        tile[row, lane] = -1.0
    for row in range(world + SEARCHER, world + PRICE):
        tile[row, lane] = 0.0
    for row in range(world + PRICE + tokens, world + PRICE + 4 * tokens):
        tile[row, lane] = 0.0
    initial = world + PRICE + 3 * tokens
    for pool in range(pools):
        z = quantile(physics.quantiles, NORMAL, uniform(key, START_DEPTH + pool))
        depth = physics.depth_eth[pool] * np.exp(physics.depth_sigma * z)
        error = physics.start_noise * (2.0 * uniform(key, START_ERROR + pool) - 1.0)
        token0, token1 = physics.token0[pool], physics.token1[pool]
        reserve0 = depth / tile[world + PRICE + token0, lane]
        reserve1 = depth / tile[world + PRICE + token1, lane] * np.exp(error)
        tile[RESERVES + pool, lane] = reserve0
        tile[RESERVES + pools + pool, lane] = reserve1
        tile[initial + token0, lane] += reserve0
        tile[initial + token1, lane] += reserve1


@kernel
def _present(
    physics: Physics,
    tile: np.ndarray,
    lane_keys: np.ndarray,
    keys: np.ndarray,
    observation: np.ndarray,
    masks: np.ndarray,
) -> None:
    """Bring the slot's users and show what the agent sees of them."""
    _slot_keys(physics, tile, lane_keys, keys)
    new_swaps(physics, tile, keys)
    observe(physics.cycles, physics.weights, tile, observation, masks)


@kernel
def play_slot(
    physics: Physics,
    log_price: np.ndarray,
    slot_sigma: np.ndarray,
    forecast: np.ndarray,
    starts: np.ndarray,
    tiles: np.ndarray,
    lane_keys: np.ndarray,
    restart: bool,
    actions: np.ndarray,
    observation: np.ndarray,
    masks: np.ndarray,
    reward: np.ndarray,
    truncated: np.ndarray,
    outcome: np.ndarray,
    final_observation: np.ndarray,
) -> None:
    """One slot of every lane of `tiles` float64[n, rows, LANES]; the other arrays have n * LANES
    rows. Lanes whose episode ends get their last observation in `final_observation` and start the
    next one, so that `observation` and `masks` belong to the next decision (SAME_STEP). With
    `restart` nothing is played and every lane starts the episode in its row EPISODE.
    """
    keys = np.empty(LANES, np.uint64)
    for index in range(tiles.shape[0]):
        tile = tiles[index]
        first, last = index * LANES, (index + 1) * LANES
        own_keys = lane_keys[first:last]
        ended = restart
        if not restart:
            _slot_keys(physics, tile, own_keys, keys)
            include_visible(physics, tile)
            include_private(physics, tile, keys, True)
            run_auctions(
                physics,
                tile,
                keys,
                actions[first:last],
                reward[first:last],
                outcome[first:last],
            )
            include_private(physics, tile, keys, False)
            informed_trades(physics, tile, keys)
            _advance_base_fees(physics, tile, keys)
            advance_regimes(physics, tile, keys)
            advance_prices(physics, log_price, slot_sigma, forecast, tile, keys)
            for lane in range(LANES):
                tile[SLOT, lane] += 1.0
                truncated[first + lane] = tile[SLOT, lane] >= physics.episode_slots
                ended = ended or truncated[first + lane]
            _present(physics, tile, own_keys, keys, observation[first:last], masks[first:last])
            if not ended:
                continue
        for lane in range(LANES):
            at = first + lane
            if not restart:
                if not truncated[at]:
                    continue
                for column in range(observation.shape[1]):
                    final_observation[at, column] = observation[at, column]
                tile[physics.world + EPISODE, lane] += 1.0
            start_episode(physics, log_price, forecast, starts, tile, lane, own_keys[lane])
        # Lanes in mid-episode are presented a second time, which changes nothing in them.
        _present(physics, tile, own_keys, keys, observation[first:last], masks[first:last])
