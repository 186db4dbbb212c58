"""One decision in N markets: the bid, and at the end of a slot its block and the next slot.

Compiled, tile by tile.
"""

import numpy as np

from envs.market.bidding import decide_early
from envs.market.block import OUTCOME_COLUMNS, REGIME_NOW, build_blocks
from envs.market.flow import (
    BLOCK_MISSED,
    GAS_USED,
    GWEI,
    PROPOSER,
    START,
    advance_prices,
    advance_regimes,
    clear_books,
    informed_trades,
    set_prices,
)
from envs.market.lending import advance_loans, start_loans
from envs.market.liquidity import provide_liquidity, start_pools
from envs.market.mempool import clear_pending, receive, show_pending
from envs.market.paths import SLOTS_PER_MINUTE, RecordedFlow
from envs.market.physics import (
    CANCEL_BURNT,
    CANCEL_COST,
    EPISODE,
    GAS_RATIO,
    LOG_FEE_MEAN,
    LOG_PRICE,
    MARK,
    MINUTE,
    MISSED,
    NORMAL,
    REGIME,
    SEARCHER,
    STEP,
    TICK_INDEX,
    Physics,
)
from envs.market.randomness import quantile, slot_key, uniform
from envs.market.rivals import meet_rivals
from kernels.chain.fees import next_base_fee_f64
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.action import mask
from kernels.market.observation import encode, ln, search
from kernels.market.tile import (
    BASE_FEE,
    BORROWERS,
    BUNDLES_TAKEN,
    FORECAST,
    FORECASTS,
    FOUND_CYCLE,
    GAS_USED_RATIO,
    HISTORY_COUNT,
    HISTORY_VALUE,
    LANES,
    OWN_TIP,
    SLOT,
    STANDING_CYCLE,
    since_row,
)

MIN_BASE_FEE = 0.01  # gwei; the least fee seen is 0.045


@inline
def _recorded_at(values: np.ndarray, slot: int) -> float:
    """A recorded value, NaN where nothing was recorded."""
    return values[slot] if values.shape[0] > 0 else np.nan


@inline
def _path_slot(tile: np.ndarray, lane: int, world: int) -> int:
    """Index of the present slot along the price paths."""
    return int(tile[world + MINUTE, lane]) * SLOTS_PER_MINUTE + int(tile[world + STEP, lane])


@lean_kernel
def _slot_keys(physics: Physics, tile: np.ndarray, lane_keys: np.ndarray, keys: np.ndarray) -> None:
    """Keys of the slot being built; slot 0 of the counter belongs to the episode's start."""
    never_inline()
    for lane in range(LANES):
        episode, slot = int(tile[physics.world + EPISODE, lane]), int(tile[SLOT, lane])
        keys[lane] = slot_key(lane_keys[lane], episode, slot + 1)


@lean_kernel
def _advance_base_fees(
    physics: Physics, recorded: RecordedFlow, tile: np.ndarray, keys: np.ndarray
) -> None:
    """EIP-1559 on a block whose fullness is drawn, and falls as the base fee rises above its means.

    gas used / target = draw - a (ln fee - fast mean) - b (ln fee - slow mean), both means over
    the blocks before with exponential weights. A recorded fullness counts instead; without a block
    the fee stays.
    """
    never_inline()
    fast, slow = physics.world + LOG_FEE_MEAN, physics.world + LOG_FEE_MEAN + 1
    for lane in range(LANES):
        if tile[physics.world + MISSED, lane] > 0.0:
            continue
        ratio = quantile(physics.quantiles, GAS_RATIO, uniform(keys[lane], GAS_USED))
        level = ln(tile[BASE_FEE, lane])
        above, far_above = level - tile[fast, lane], level - tile[slow, lane]
        ratio -= physics.fast_response * above + physics.slow_response * far_above
        ratio = min(max(ratio, 0.0), 2.0)
        tile[fast, lane] += physics.fast_weight * above
        tile[slow, lane] += physics.slow_weight * far_above
        seen = _recorded_at(recorded.gas_used_ratio, _path_slot(tile, lane, physics.world))
        ratio = seen if seen == seen else ratio
        gas_used = np.floor(0.5 * ratio * physics.gas_limit)
        # The row holds gwei: dividing can end just below the whole number of wei.
        fee = np.floor(tile[BASE_FEE, lane] / GWEI + 0.5)
        fee = next_base_fee_f64(fee, gas_used, physics.gas_limit)
        tile[BASE_FEE, lane] = max(fee * GWEI, MIN_BASE_FEE)
        tile[GAS_USED_RATIO, lane] = ratio


@inline
def _forget_fees(tile: np.ndarray, lane: int, world: int) -> None:
    """Both means of the base fee start at the fee of an episode's start."""
    for mean in range(2):
        tile[world + LOG_FEE_MEAN + mean, lane] = ln(tile[BASE_FEE, lane])


@inline
def _begin_slot(
    physics: Physics, recorded: RecordedFlow, tile: np.ndarray, lane: int, key: np.uint64
) -> None:
    """Who proposes, whether a block will come, and the recorded base fee."""
    world, slot = physics.world, _path_slot(tile, lane, physics.world)
    takes = uniform(key, PROPOSER) < physics.mev_boost_share
    tile[BUNDLES_TAKEN, lane] = 1.0 if takes else 0.0
    missed = 1.0 if uniform(key, BLOCK_MISSED) < physics.missed_share else 0.0
    seen = _recorded_at(recorded.missed, slot)
    tile[world + MISSED, lane] = seen if seen == seen else missed
    fee = _recorded_at(recorded.base_fee_gwei, slot)
    if fee == fee:
        tile[BASE_FEE, lane] = fee
        if tile[SLOT, lane] == 0.0:
            _forget_fees(tile, lane, world)
    tile[world + TICK_INDEX, lane] = 0.0


@lean_kernel
def _begin_slots(
    physics: Physics,
    recorded: RecordedFlow,
    tile: np.ndarray,
    keys: np.ndarray,
    lanes: np.ndarray,
    everywhere: bool,
) -> None:
    """`_begin_slot` in the lanes where bool `lanes` says so, or everywhere."""
    never_inline()
    for lane in range(LANES):
        if everywhere or lanes[lane]:
            _begin_slot(physics, recorded, tile, lane, keys[lane])
    receive(physics, recorded, tile, keys, lanes, everywhere)


@lean_kernel
def start_episode(
    physics: Physics,
    log_price: np.ndarray,
    forecast: np.ndarray,
    starts: np.ndarray,
    tile: np.ndarray,
    lane: int,
    lane_key: np.uint64,
) -> None:
    """A fresh market for the episode in row EPISODE: price, pools near it, gas, loans, books."""
    never_inline()
    world, pools = physics.world, physics.token0.shape[0]
    key = slot_key(lane_key, int(tile[world + EPISODE, lane]), 0)
    minute = starts[int(uniform(key, START) * starts.shape[0])]
    tile[world + MINUTE, lane] = minute
    tile[world + STEP, lane] = 0.0
    tile[world + REGIME, lane] = int(uniform(key, START + 1) * physics.rival_log_rate.shape[0])
    for asset in range(2):
        tile[world + LOG_PRICE + asset, lane] = log_price[minute, asset]
    for horizon in range(FORECASTS):
        tile[FORECAST + horizon, lane] = forecast[minute, horizon]
    set_prices(physics, tile, lane, 0.0)
    z = quantile(physics.quantiles, NORMAL, uniform(key, START + 2))
    tile[BASE_FEE, lane] = physics.base_fee_median_gwei * np.exp(physics.base_fee_sigma * z)
    _forget_fees(tile, lane, world)
    tile[GAS_USED_RATIO, lane] = 1.0
    tile[OWN_TIP, lane] = physics.own_tip_gwei
    tile[SLOT, lane] = 0.0
    tile[HISTORY_COUNT, lane] = 0.0
    tile[STANDING_CYCLE, lane] = -1.0
    for row in range(HISTORY_VALUE, FOUND_CYCLE):
        tile[row, lane] = 0.0
    since = since_row(pools)
    for row in range(since, since + physics.cycles.shape[0] + BORROWERS):
        tile[row, lane] = -1.0
    for row in range(world + SEARCHER, world + MARK):
        tile[row, lane] = 0.0
    for row in (MARK, CANCEL_COST, CANCEL_BURNT):
        tile[world + row, lane] = 0.0
    clear_books(physics, tile, lane)
    clear_pending(physics, tile, lane)
    start_pools(physics, tile, lane, key)
    start_loans(physics, tile, lane, key)


@lean_kernel
def present(
    physics: Physics,
    tile: np.ndarray,
    keys: np.ndarray,
    observation: np.ndarray,
    masks: np.ndarray,
) -> None:
    """Show the agent what it can know at this decision."""
    never_inline()
    show_pending(physics, tile)
    search(physics.cycles, physics.weights, tile)
    meet_rivals(physics, tile, keys)
    encode(tile, observation)
    mask(tile, masks)


@lean_kernel
def _finish_slot(
    physics: Physics,
    log_price: np.ndarray,
    slot_sigma: np.ndarray,
    forecast: np.ndarray,
    recorded: RecordedFlow,
    tile: np.ndarray,
    keys: np.ndarray,
    actions: np.ndarray,
    reward: np.ndarray,
    outcome: np.ndarray,
) -> None:
    """The block, and everything that changes between two slots."""
    never_inline()
    build_blocks(physics, tile, keys, actions, reward, outcome)
    provide_liquidity(physics, tile, keys)
    informed_trades(physics, tile, keys)
    _advance_base_fees(physics, recorded, tile, keys)
    advance_regimes(physics, tile, keys)
    advance_prices(physics, log_price, slot_sigma, forecast, tile, keys)
    advance_loans(physics, tile, keys)
    for lane in range(LANES):
        tile[SLOT, lane] += 1.0


@lean_kernel
def play(
    physics: Physics,
    log_price: np.ndarray,
    slot_sigma: np.ndarray,
    forecast: np.ndarray,
    starts: np.ndarray,
    recorded: RecordedFlow,
    tiles: np.ndarray,
    lane_keys: np.ndarray,
    keys: np.ndarray,
    restart: bool,
    actions: np.ndarray,
    observation: np.ndarray,
    masks: np.ndarray,
    reward: np.ndarray,
    truncated: np.ndarray,
    outcome: np.ndarray,
    final_observation: np.ndarray,
) -> None:
    """One decision of every lane of `tiles` float64[n, rows, LANES]; the other arrays have
    n * LANES rows, `keys` is scratch. Lanes whose episode ends get their last observation in
    `final_observation` and start the next one, so that `observation` and `masks` belong to the next
    decision (SAME_STEP). With `restart` nothing is played and every lane starts the episode in its
    row EPISODE. All lanes are at the same decision of their slots.
    """
    world = physics.world
    for index in range(tiles.shape[0]):
        tile = tiles[index]
        first, last = index * LANES, (index + 1) * LANES
        own, slot = lane_keys[first:last], keys[first:last]
        ended = restart
        if not restart:
            _slot_keys(physics, tile, own, slot)
            if tile[world + TICK_INDEX, 0] + 1.0 < physics.ticks_per_slot:
                decide_early(physics, tile, actions[first:last], reward[first:last])
                for lane in range(LANES):
                    tile[world + TICK_INDEX, lane] += 1.0
                    truncated[first + lane] = False
                    for column in range(OUTCOME_COLUMNS):
                        outcome[first + lane, column] = 0.0
                    outcome[first + lane, REGIME_NOW] = tile[world + REGIME, lane]
            else:
                _finish_slot(
                    physics,
                    log_price,
                    slot_sigma,
                    forecast,
                    recorded,
                    tile,
                    slot,
                    actions[first:last],
                    reward[first:last],
                    outcome[first:last],
                )
                _slot_keys(physics, tile, own, slot)
                _begin_slots(physics, recorded, tile, slot, truncated[first:last], True)
                for lane in range(LANES):
                    truncated[first + lane] = tile[SLOT, lane] >= physics.episode_slots
                    ended = ended or truncated[first + lane]
            present(physics, tile, slot, observation[first:last], masks[first:last])
            if not ended:
                continue
        for lane in range(LANES):
            at = first + lane
            if not restart:
                if not truncated[at]:
                    continue
                for column in range(observation.shape[1]):
                    final_observation[at, column] = observation[at, column]
                tile[world + EPISODE, lane] += 1.0
            start_episode(physics, log_price, forecast, starts, tile, lane, own[lane])
        _slot_keys(physics, tile, own, slot)
        _begin_slots(physics, recorded, tile, slot, truncated[first:last], restart)
        # Lanes in mid-episode are presented a second time, which changes nothing in them.
        present(physics, tile, slot, observation[first:last], masks[first:last])
