"""One decision in N markets: the bid, and at the end of a slot its block and the next slot.

Compiled, tile by tile.
"""

from typing import NamedTuple

import numpy as np

from envs.market.bidding import decide_early
from envs.market.block import OUTCOME_COLUMNS, REGIME_NOW, clear_block, settle_auctions
from envs.market.flow import (
    BLOCK_MISSED,
    GAS_USED,
    GWEI,
    PROPOSER,
    START,
    Prices,
    advance_prices,
    advance_regimes,
    clear_books,
    informed_trades,
    set_prices,
)
from envs.market.inclusion import include_unseen, include_visible
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
    rows_of,
)
from envs.market.randomness import quantile, slot_key, uniform
from envs.market.rivals import meet_rivals
from kernels.chain.fees import next_base_fee_f64
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.action import mask
from kernels.market.amm import overlay
from kernels.market.lending import size_liquidations
from kernels.market.observation import encode, encode_slot, ln
from kernels.market.opportunities import find
from kernels.market.sizing import size_cycles
from kernels.market.tile import (
    BASE_FEE,
    BUNDLES_TAKEN,
    FORECAST,
    FORECASTS,
    FOUND_CYCLE,
    GAS_USED_RATIO,
    HISTORY_COUNT,
    HISTORY_VALUE,
    KEPT,
    LANES,
    OWN_TIP,
    SAME_HEAD,
    SLOT,
    STANDING_CYCLE,
)

TOGETHER = 8  # tiles; those of 128 markets stay in a second-level cache
MIN_BASE_FEE = 0.01  # gwei; the least fee seen is 0.045


class Lanes(NamedTuple):
    """The markets of an environment: n tiles of LANES lanes."""

    tiles: np.ndarray  # float64[n, rows, LANES]
    own_keys: np.ndarray  # uint64[n * LANES], see randomness.lane_keys
    slot_keys: np.ndarray  # uint64[n * LANES], scratch


class Step(NamedTuple):
    """What goes into one decision of n * LANES markets, and what comes of it."""

    actions: np.ndarray  # int64[n * LANES]
    observation: np.ndarray  # float32[n * LANES, SIZE], of the next decision
    masks: np.ndarray  # bool[n * LANES, ACTIONS], of the next decision
    reward: np.ndarray  # float64[n * LANES]
    truncated: np.ndarray  # bool[n * LANES]
    outcome: np.ndarray  # float64[n * LANES, OUTCOME_COLUMNS]
    final_observation: np.ndarray  # float32[n * LANES, SIZE], last ones of episodes that ended


@inline
def _recorded_at(values: np.ndarray, slot: int) -> float:
    """A recorded value, NaN where nothing was recorded."""
    return values[slot] if values.shape[0] > 0 else np.nan


@inline
def _path_slot(tile: np.ndarray, lane: int, world_row: int) -> int:
    """Index of the present slot along the price paths."""
    return int(tile[world_row + MINUTE, lane]) * SLOTS_PER_MINUTE + int(
        tile[world_row + STEP, lane]
    )


@lean_kernel
def _slot_keys(physics: Physics, tile: np.ndarray, lane_keys: np.ndarray, keys: np.ndarray) -> None:
    """Keys of the slot being built; slot 0 of the counter belongs to the episode's start."""
    never_inline()
    for lane in range(LANES):
        episode, slot = int(tile[physics.world_row + EPISODE, lane]), int(tile[SLOT, lane])
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
    fast, slow = physics.world_row + LOG_FEE_MEAN, physics.world_row + LOG_FEE_MEAN + 1
    for lane in range(LANES):
        if tile[physics.world_row + MISSED, lane] > 0.0:
            continue
        ratio = quantile(physics.quantiles, GAS_RATIO, uniform(keys[lane], GAS_USED))
        level = ln(tile[BASE_FEE, lane])
        above, far_above = level - tile[fast, lane], level - tile[slow, lane]
        ratio -= physics.fast_response * above + physics.slow_response * far_above
        ratio = min(max(ratio, 0.0), 2.0)
        tile[fast, lane] += physics.fast_weight * above
        tile[slow, lane] += physics.slow_weight * far_above
        seen = _recorded_at(recorded.gas_used_ratio, _path_slot(tile, lane, physics.world_row))
        ratio = seen if seen == seen else ratio
        gas_used = np.floor(0.5 * ratio * physics.gas_limit)
        # The row holds gwei: dividing can end just below the whole number of wei.
        fee = np.floor(tile[BASE_FEE, lane] / GWEI + 0.5)
        fee = next_base_fee_f64(fee, gas_used, physics.gas_limit)
        tile[BASE_FEE, lane] = max(fee * GWEI, MIN_BASE_FEE)
        tile[GAS_USED_RATIO, lane] = ratio


@inline
def _forget_fees(tile: np.ndarray, lane: int, world_row: int) -> None:
    """Both means of the base fee start at the fee of an episode's start."""
    for mean in range(2):
        tile[world_row + LOG_FEE_MEAN + mean, lane] = ln(tile[BASE_FEE, lane])


@inline
def _begin_slot(
    physics: Physics, recorded: RecordedFlow, tile: np.ndarray, lane: int, key: np.uint64
) -> None:
    """Who proposes, whether a block will come, and the recorded base fee."""
    world_row, slot = physics.world_row, _path_slot(tile, lane, physics.world_row)
    takes = uniform(key, PROPOSER) < physics.mev_boost_share
    tile[BUNDLES_TAKEN, lane] = 1.0 if takes else 0.0
    missed = 1.0 if uniform(key, BLOCK_MISSED) < physics.missed_share else 0.0
    seen = _recorded_at(recorded.missed, slot)
    tile[world_row + MISSED, lane] = seen if seen == seen else missed
    fee = _recorded_at(recorded.base_fee_gwei, slot)
    if fee == fee:
        tile[BASE_FEE, lane] = fee
        if tile[SLOT, lane] == 0.0:
            _forget_fees(tile, lane, world_row)
    tile[world_row + TICK_INDEX, lane] = 0.0


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
    physics: Physics, prices: Prices, tile: np.ndarray, lane: int, lane_key: np.uint64
) -> None:
    """A fresh market for the episode in row EPISODE: price, pools near it, gas, loans, books."""
    never_inline()
    world_row, starts = physics.world_row, prices.starts
    key = slot_key(lane_key, int(tile[world_row + EPISODE, lane]), 0)
    minute = starts[int(uniform(key, START) * starts.shape[0])]
    tile[world_row + MINUTE, lane] = minute
    tile[world_row + STEP, lane] = 0.0
    tile[world_row + REGIME, lane] = int(uniform(key, START + 1) * physics.rival_log_rate.shape[0])
    for asset in range(2):
        tile[world_row + LOG_PRICE + asset, lane] = prices.log_price[minute, asset]
    for horizon in range(FORECASTS):
        tile[FORECAST + horizon, lane] = prices.forecast[minute, horizon]
    set_prices(physics, tile, lane, 0.0)
    z = quantile(physics.quantiles, NORMAL, uniform(key, START + 2))
    tile[BASE_FEE, lane] = physics.base_fee_median_gwei * np.exp(physics.base_fee_sigma * z)
    _forget_fees(tile, lane, world_row)
    tile[GAS_USED_RATIO, lane] = 1.0
    tile[OWN_TIP, lane] = physics.own_tip_gwei
    tile[KEPT, lane] = 0.0
    tile[SAME_HEAD, lane] = 0.0
    tile[SLOT, lane] = 0.0
    tile[HISTORY_COUNT, lane] = 0.0
    tile[STANDING_CYCLE, lane] = -1.0
    for row in range(HISTORY_VALUE, FOUND_CYCLE):
        tile[row, lane] = 0.0
    rows = rows_of(physics)
    for row in range(rows.since, rows.amount_in):
        tile[row, lane] = -1.0
    for row in range(world_row + SEARCHER, world_row + MARK):
        tile[row, lane] = 0.0
    for row in (MARK, CANCEL_COST, CANCEL_BURNT):
        tile[world_row + row, lane] = 0.0
    clear_books(physics, tile, lane)
    clear_pending(physics, tile, lane)
    start_pools(physics, tile, lane, key)
    start_loans(physics, tile, lane, key)


@lean_kernel
def present(physics: Physics, lanes: Lanes, step: Step, begin: int, end: int) -> None:
    """Show the agent what it can know at this decision, in the tiles from `begin` to before `end`.

    Lanes in which nothing new can be found keep what was found. Past auctions are encoded anew at
    the first decision of a slot alone.
    """
    never_inline()
    tiles, cycles, weights = lanes.tiles, physics.cycles, physics.weights
    new_slot = tiles[begin, physics.world_row + TICK_INDEX, 0] == 0.0
    for index in range(begin, end):
        show_pending(physics, tiles[index])
    for index in range(begin, end):
        overlay(cycles, weights, tiles[index])
    for index in range(begin, end):
        size_cycles(cycles, weights, tiles[index])
        size_liquidations(cycles, weights, tiles[index])
    for index in range(begin, end):
        find(cycles, weights, tiles[index])
    for index in range(begin, end):
        meet_rivals(physics, tiles[index], lanes.slot_keys[index * LANES : (index + 1) * LANES])
    for index in range(begin, end):
        shown = step.observation[index * LANES : (index + 1) * LANES]
        if new_slot:
            encode(tiles[index], shown)
        else:
            encode_slot(tiles[index], shown)
    for index in range(begin, end):
        mask(tiles[index], step.masks[index * LANES : (index + 1) * LANES])
        for lane in range(LANES):
            tiles[index, KEPT, lane] = 1.0
            tiles[index, SAME_HEAD, lane] = 1.0


@lean_kernel
def finish_slots(
    physics: Physics, prices: Prices, lanes: Lanes, step: Step, begin: int, end: int
) -> None:
    """The blocks, and everything that changes between two slots."""
    never_inline()
    tiles = lanes.tiles
    for index in range(begin, end):
        keys = lanes.slot_keys[index * LANES : (index + 1) * LANES]
        include_visible(physics, tiles[index], keys)
    for index in range(begin, end):
        keys = lanes.slot_keys[index * LANES : (index + 1) * LANES]
        include_unseen(physics, tiles[index], keys, True)
    for index in range(begin, end):
        first, last = index * LANES, (index + 1) * LANES
        acted, paid, came = (
            step.actions[first:last],
            step.reward[first:last],
            step.outcome[first:last],
        )
        settle_auctions(physics, tiles[index], lanes.slot_keys[first:last], acted, paid, came)
    for index in range(begin, end):
        keys = lanes.slot_keys[index * LANES : (index + 1) * LANES]
        include_unseen(physics, tiles[index], keys, False)
        clear_block(physics, tiles[index])
    for index in range(begin, end):
        keys = lanes.slot_keys[index * LANES : (index + 1) * LANES]
        provide_liquidity(physics, tiles[index], keys)
        informed_trades(physics, tiles[index], keys)
    for index in range(begin, end):
        tile, keys = tiles[index], lanes.slot_keys[index * LANES : (index + 1) * LANES]
        _advance_base_fees(physics, prices.recorded, tile, keys)
        advance_regimes(physics, tile, keys)
        advance_prices(physics, prices, tile, keys)
        advance_loans(physics, tile, keys)
        for lane in range(LANES):
            tile[SLOT, lane] += 1.0
            tile[KEPT, lane] = 0.0
            tile[SAME_HEAD, lane] = 0.0


@lean_kernel
def _decide_early(physics: Physics, lanes: Lanes, step: Step, begin: int, end: int) -> None:
    """A decision before the last of a slot."""
    never_inline()
    world_row = physics.world_row
    for index in range(begin, end):
        tile, first, last = lanes.tiles[index], index * LANES, (index + 1) * LANES
        decide_early(physics, tile, step.actions[first:last], step.reward[first:last])
        for lane in range(LANES):
            tile[world_row + TICK_INDEX, lane] += 1.0
            step.truncated[first + lane] = False
            for column in range(OUTCOME_COLUMNS):
                step.outcome[first + lane, column] = 0.0
            step.outcome[first + lane, REGIME_NOW] = tile[world_row + REGIME, lane]


@lean_kernel
def start_anew(
    physics: Physics, prices: Prices, lanes: Lanes, step: Step, index: int, restart: bool
) -> None:
    """The next episode in the lanes of a tile whose episode has ended, or with `restart` in all."""
    never_inline()
    tile, first, last = lanes.tiles[index], index * LANES, (index + 1) * LANES
    for lane in range(LANES):
        at = first + lane
        if not restart:
            if not step.truncated[at]:
                continue
            for column in range(step.observation.shape[1]):
                step.final_observation[at, column] = step.observation[at, column]
            tile[physics.world_row + EPISODE, lane] += 1.0
        start_episode(physics, prices, tile, lane, lanes.own_keys[at])
    slot = lanes.slot_keys[first:last]
    _slot_keys(physics, tile, lanes.own_keys[first:last], slot)
    _begin_slots(physics, prices.recorded, tile, slot, step.truncated[first:last], restart)


@lean_kernel
def play(physics: Physics, prices: Prices, lanes: Lanes, restart: bool, step: Step) -> None:
    """One decision of every lane. All lanes are at the same decision of their slots.

    Lanes whose episode ends get their last observation in `final_observation` and start the next
    one, so that `observation` and `masks` belong to the next decision (SAME_STEP). With `restart`
    nothing is played and every lane starts the episode in its row EPISODE.

    Every stage goes through TOGETHER tiles before the next one begins: its code is longer than the
    cache of instructions, and is fetched once for all of them.
    """
    world_row, count = physics.world_row, lanes.tiles.shape[0]
    for begin in range(0, count, TOGETHER):
        end = min(begin + TOGETHER, count)
        if restart:
            for index in range(begin, end):
                start_anew(physics, prices, lanes, step, index, True)
            present(physics, lanes, step, begin, end)
            continue
        for index in range(begin, end):
            own = lanes.own_keys[index * LANES : (index + 1) * LANES]
            slot = lanes.slot_keys[index * LANES : (index + 1) * LANES]
            _slot_keys(physics, lanes.tiles[index], own, slot)
        if lanes.tiles[begin, world_row + TICK_INDEX, 0] + 1.0 < physics.ticks_per_slot:
            _decide_early(physics, lanes, step, begin, end)
            present(physics, lanes, step, begin, end)
            continue
        finish_slots(physics, prices, lanes, step, begin, end)
        for index in range(begin, end):
            tile, first, last = lanes.tiles[index], index * LANES, (index + 1) * LANES
            slot, truncated = lanes.slot_keys[first:last], step.truncated[first:last]
            _slot_keys(physics, tile, lanes.own_keys[first:last], slot)
            _begin_slots(physics, prices.recorded, tile, slot, truncated, True)
        present(physics, lanes, step, begin, end)
        for index in range(begin, end):
            ended = False
            for lane in range(LANES):
                at = index * LANES + lane
                step.truncated[at] = lanes.tiles[index, SLOT, lane] >= physics.episode_slots
                ended = ended or step.truncated[at]
            if ended:
                start_anew(physics, prices, lanes, step, index, False)
                # Lanes in mid-episode are presented again, which changes nothing in them.
                present(physics, lanes, step, index, index + 1)
