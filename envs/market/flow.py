"""Reference prices, competition regimes, informed CEX-DEX traders, and the books of a tile.

Every function plays its part for all lanes of a tile; `keys` uint64[lanes] are their slot keys.
Everybody pays gas, and every token that moves is booked to a party.
"""

from typing import Any, NamedTuple

import numpy as np

from envs.market.paths import SLOTS_PER_MINUTE, RecordedFlow
from envs.market.physics import (
    BOOKS,
    BURNT,
    INFORMED_BOOK,
    INFORMED_PAID,
    INFORMED_TRADES,
    INFORMED_VOLUME,
    INSIDE,
    LOG_PRICE,
    MINUTE,
    MISSED,
    NORMAL,
    PRICE,
    REGIME,
    STEP,
    USER_VOLUME,
    VALIDATOR,
    Physics,
    rows_of,
)
from envs.market.randomness import quantile, quantiles, uniform, uniforms
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.amm import PoolState, head_state, swap
from kernels.market.declaration import Declaration
from kernels.market.tile import (
    BASE_FEE,
    CONCENTRATED_FROM,
    FORECAST,
    FORECASTS,
    LANES,
    RESERVES,
    SCRATCH,
    SCRATCH_ROWS,
)
from kernels.numbers.elementary import exp
from kernels.numbers.lane_sets import LIST_ROOM, append, entry, lane_numbers, new_list
from kernels.numbers.lanes import (
    WIDTH,
    Floats,
    any_lane,
    choose,
    load,
    load_words,
    square_root,
    store,
    whole,
    wide,
)

# Channels of a slot's randomness. Those of the rivals start at 256, rarer ones at RARE.
PRICE_NOISE = 1  # [2]
GAS_USED = 3
REGIME_SWITCH = 4
REGIME_NEXT = 5
BLOCK_MISSED = 6
BID_LATE = 7
SWAP_KIND = 8  # [M]
SWAP_SIZE = 16  # [M]
SWAP_TIP = 24  # [M]
SWAP_AHEAD = 32  # [M]
START = 40  # an episode's first draws: minute, base fee, regime
REPLACEMENT = 48
PROPOSER = 49
SANDWICH = 50
PROVIDER = 51  # [3]
SWAP_CARE = 54  # [M] fee cap, tolerance and delay
# By pool, see channel_of.
START_DEPTH = 64
START_ERROR = 128
START_PLACE = 160
INFORMED = 192
RARE = 1 << 20
ARRIVAL = RARE  # [2 * arrivals]
LOAN_OPEN = RARE + 64  # [3 B]
INFORMED_PAYS = RARE + 128  # by pool
NEAR_POOLS = 32  # pools whose channels follow one another
FAR = 1 << 22  # channels of the others: MAX_POOLS for each kind, which its first channel counts
MAX_POOLS = 4096

GWEI = 1e-9
POOLS_AT_ONCE = LIST_ROOM // WIDTH - 1
SCRATCH_USE = Declaration(SCRATCH_ROWS, SCRATCH)
DRIFT = SCRATCH_USE.row("DRIFT", 2, "1", "of the log prices in this slot")
DEVIATION = SCRATCH_USE.row("DEVIATION", 2, "1", "of the log prices in this slot")
# sqrt((n - 1) / n) with n slots left to the close, by slots played in the minute.
BRIDGE_NOISE = np.sqrt(1.0 - 1.0 / np.arange(SLOTS_PER_MINUTE, 0, -1))


@inline
def channel_of(first: int, pool: int) -> int:
    """Channel of a pool, for a kind of draw that every pool makes."""
    if pool < NEAR_POOLS:
        return first + pool
    kind = first if first < RARE else 256 + first - RARE
    return FAR + kind * MAX_POOLS + pool


class Prices(NamedTuple):
    """Price paths as the compiled simulator reads them, n minutes; see envs.market.paths."""

    log_price: np.ndarray  # float64[n, 2]
    slot_sigma: np.ndarray  # float64[n, 2]
    forecast: np.ndarray  # float64[n, 3]
    starts: np.ndarray  # int64[k], minutes at which an episode can start
    recorded: RecordedFlow


class Ledger(NamedTuple):
    """Where the tokens that swaps move are booked."""

    tile: np.ndarray  # float64[rows, LANES]
    token0: np.ndarray  # int64[P]
    token1: np.ndarray  # int64[P]
    inside: int  # first of the T rows of tokens inside concentrated pools


@inline
def book(world_row: int, tokens: int, which: int) -> int:
    """First of the T rows of a book."""
    return world_row + PRICE + which * tokens


@inline
def book_gas(
    tile: np.ndarray, lane: int, world_row: int, payer: int, gas: float, tip_gwei: float
) -> None:
    """Gas at base fee (burnt) plus tip (validator) out of the ETH in row `payer`."""
    burnt = gas * tile[BASE_FEE, lane] * GWEI
    tipped = gas * tip_gwei * GWEI
    tile[payer, lane] -= burnt + tipped
    tile[world_row + BURNT, lane] += burnt
    tile[world_row + VALIDATOR, lane] += tipped


@inline
def ledger_of(physics: Physics, tile: np.ndarray) -> Ledger:
    inside = book(physics.world_row, physics.exposure.shape[0], INSIDE)
    return Ledger(tile, physics.token0, physics.token1, inside)


@inline
def book_inside(
    ledger: Ledger, lane: int, pool: int, forward: bool, amount: float, out: float
) -> None:
    """Tokens that a swap moves into and out of a concentrated pool."""
    tile = ledger.tile
    if pool >= int(tile[CONCENTRATED_FROM, lane]):
        token0, token1 = ledger.token0[pool], ledger.token1[pool]
        tile[ledger.inside + (token0 if forward else token1), lane] += amount
        tile[ledger.inside + (token1 if forward else token0), lane] -= out


@inline
def book_swap(
    ledger: Ledger,
    lane: int,
    holder: int,
    pool: int,
    forward: bool,
    amount: float,
    out: float,
) -> None:
    """A swap's tokens in the balances at rows holder .. holder + T - 1, and inside its pool."""
    token0, token1 = ledger.token0[pool], ledger.token1[pool]
    ledger.tile[holder + (token0 if forward else token1), lane] -= amount
    ledger.tile[holder + (token1 if forward else token0), lane] += out
    book_inside(ledger, lane, pool, forward, amount, out)


@inline
def set_prices(physics: Physics, tile: np.ndarray, lane: int, like: Floats) -> None:
    """Token prices in ETH from the two log prices, of the lanes at hand."""
    world_row = physics.world_row
    eth, btc = (
        load(tile, world_row + LOG_PRICE, lane, like),
        load(tile, world_row + LOG_PRICE + 1, lane, like),
    )
    for token in range(physics.exposure.shape[0]):
        same = physics.same_price[token]
        if same < token:
            price = load(tile, world_row + PRICE + same, lane, like)
        else:
            price = exp(physics.exposure[token, 0] * eth + physics.exposure[token, 1] * btc)
        store(tile, world_row + PRICE + token, lane, price)


@lean_kernel
def advance_prices(physics: Physics, prices: Prices, tile: np.ndarray, keys: np.ndarray) -> None:
    """Move the reference prices by one slot along a Brownian bridge to the next minute's close.

    With n slots left, x += (close - x) / n + sigma sqrt((n - 1) / n) z: at n = 1 it lands on the
    close, so the path agrees with the recorded closes. Forecasts change at closes.
    """
    never_inline()
    world_row = physics.world_row
    for lane in range(LANES):
        minute, step = int(tile[world_row + MINUTE, lane]), int(tile[world_row + STEP, lane])
        left = SLOTS_PER_MINUTE - step
        for asset in range(2):
            gap = prices.log_price[minute + 1, asset] - tile[world_row + LOG_PRICE + asset, lane]
            tile[DRIFT + asset, lane] = gap / left
            tile[DEVIATION + asset, lane] = prices.slot_sigma[minute, asset] * BRIDGE_NOISE[step]
        if left == 1:
            for horizon in range(FORECASTS):
                tile[FORECAST + horizon, lane] = prices.forecast[minute + 1, horizon]
            tile[world_row + MINUTE, lane] = minute + 1
        tile[world_row + STEP, lane] = 0 if left == 1 else step + 1
    for lane in range(0, LANES, WIDTH):
        like = wide()
        words = load_words(keys, lane, like)
        for asset in range(2):
            z = quantiles(
                physics.quantiles, NORMAL, uniforms(words, whole(like) + (PRICE_NOISE + asset))
            )
            row = world_row + LOG_PRICE + asset
            moved = load(tile, row, lane, like) + load(tile, DRIFT + asset, lane, like)
            store(tile, row, lane, moved + load(tile, DEVIATION + asset, lane, like) * z)
        set_prices(physics, tile, lane, like)


@lean_kernel
def advance_regimes(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """Leave the competition regime with a fixed chance, for one of the others uniformly."""
    regimes = physics.rival_log_rate.shape[0]
    for lane in range(LANES):
        if uniform(keys[lane], REGIME_SWITCH) < physics.regime_leave:
            regime = int(tile[physics.world_row + REGIME, lane])
            jump = 1 + int(uniform(keys[lane], REGIME_NEXT) * (regimes - 1))
            tile[physics.world_row + REGIME, lane] = (regime + jump) % regimes


@inline
def _pull(
    state: PoolState, lane: int, pool: int, forward: bool, gamma: float, price_ratio: float
) -> tuple[float, float]:
    """(input, output) of the trade that leaves a pool at the edge of the band; 0, 0 for none.

    Selling x of the token with reserve r against reserve q is worth it while gamma q / r is above
    price_ratio; the best x leaves gamma r q / (r + gamma x)^2 = price_ratio (Angeris and Chitra
    2020), counted segment by segment.
    """
    tile, pools = state.tile, state.pools
    row_in = state.first + pool + (0 if forward else pools)
    row_out = state.first + pool + (pools if forward else 0)
    capacity = row_in + 2 * pools
    total_in, total_out = 0.0, 0.0
    while True:
        reserve = tile[row_in, lane]
        target = np.sqrt(gamma * reserve * tile[row_out, lane] / price_ratio)
        amount = (target - reserve) / gamma
        if not amount > 0.0:
            break
        most = tile[capacity, lane]
        last = amount < most
        amount = amount if last else most
        total_in += amount
        total_out += swap(state, lane, pool, forward, amount, gamma)
        if last:
            break
    return total_in, total_out


@inline
def _watch(
    physics: Physics, tile: np.ndarray, lane: int, keys: np.ndarray, first: int, work: Any
) -> int:
    """Of the pools from `first` on, as many as a list holds: those that somebody watches and whose
    gap pays the gas, as pool * LANES + lane. How many there are.

    The profit is counted as if the present liquidity of a pool went on without end.
    """
    pools, world_row, like = physics.token0.shape[0], physics.world_row, wide()
    words = load_words(keys, lane, like)
    gas = (load(tile, BASE_FEE, lane, like) + physics.own_tip_gwei) * (physics.swap_gas * GWEI)
    built = load(tile, world_row + MISSED, lane, like) <= 0.0
    count = 0
    for pool in range(first, min(first + POOLS_AT_ONCE, pools)):
        gamma = physics.weights[pool]
        price0 = load(tile, world_row + PRICE + physics.token0[pool], lane, like)
        price1 = load(tile, world_row + PRICE + physics.token1[pool], lane, like)
        reserve0 = load(tile, RESERVES + pool, lane, like)
        reserve1 = load(tile, RESERVES + pools + pool, lane, like)
        value0, value1 = reserve0 * price0, reserve1 * price1
        forward = gamma * value1 > value0
        outside = built & (forward | (gamma * value0 > value1))
        outside = outside & (
            uniforms(words, whole(like) + channel_of(INFORMED, pool)) < physics.informed_probability
        )
        if not any_lane(outside):
            continue
        # In ETH: what is sold, and the two sides of the pool.
        side_in, side_out = choose(forward, value0, value1), choose(forward, value1, value0)
        paid = square_root(gamma * side_in * side_out) - side_in
        margin = paid * side_out / (side_in + paid) - paid / gamma
        pays = outside & (margin > gas)
        count = append(work, count, lane_numbers(like) + (lane + pool * LANES), pays)
    return count


@inline
def _trade(
    physics: Physics, tile: np.ndarray, lane: int, pool: int, key: np.uint64, gas_eth: float
) -> None:
    """One informed trader's swap, gas and payment."""
    pools, world_row = physics.token0.shape[0], physics.world_row
    holder = book(world_row, physics.exposure.shape[0], INFORMED_BOOK)
    token0, token1 = physics.token0, physics.token1
    gamma = physics.weights[pool]
    price0, price1 = (
        tile[world_row + PRICE + token0[pool], lane],
        tile[world_row + PRICE + token1[pool], lane],
    )
    value0 = tile[RESERVES + pool, lane] * price0
    forward = gamma * tile[RESERVES + pools + pool, lane] * price1 > value0
    price_in, price_out = (price0, price1) if forward else (price1, price0)
    ratio = price_in / price_out
    amount, out = _pull(head_state(tile, rows_of(physics)), lane, pool, forward, gamma, ratio)
    book_swap(ledger_of(physics, tile), lane, holder, pool, forward, amount, out)
    book_gas(tile, lane, world_row, holder, physics.swap_gas, physics.own_tip_gwei)
    volume = amount * price_in
    tip = physics.swap_gas * physics.own_tip_gwei * GWEI
    u = uniform(key, channel_of(INFORMED_PAYS, pool))
    payment = quantile(physics.quantiles, physics.payment_row[pool], u) * volume - tip
    payment = max(min(payment, out * price_out - volume - gas_eth), 0.0)
    tile[holder, lane] -= payment
    tile[world_row + VALIDATOR, lane] += payment
    tile[world_row + INFORMED_VOLUME, lane] += volume
    tile[world_row + INFORMED_PAID, lane] += payment + tip
    tile[world_row + INFORMED_TRADES, lane] += 1.0


@lean_kernel
def informed_trades(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """CEX-DEX traders pull pools to the edge of the band without arbitrage around the reference.

    They trade when the profit at reference prices exceeds gas. Out of it they pay the builder a
    drawn share of their volume, priority fee included, or all that is left when that is less.
    """
    never_inline()
    work, pools = new_list(), physics.token0.shape[0]
    for first_lane in range(0, LANES, WIDTH):
        # A trade moves its own pool alone, so that pools may be watched some at a time.
        for first in range(0, pools, POOLS_AT_ONCE):
            for index in range(_watch(physics, tile, first_lane, keys, first, work)):
                item = entry(work, index)
                lane: int = item % LANES
                pool: int = item // LANES
                gas_eth = physics.swap_gas * (tile[BASE_FEE, lane] + physics.own_tip_gwei) * GWEI
                _trade(physics, tile, lane, pool, keys[lane], gas_eth)


@inline
def clear_books(physics: Physics, tile: np.ndarray, lane: int) -> None:
    """All balances and volumes to 0, prices apart."""
    tokens = physics.exposure.shape[0]
    first = book(physics.world_row, tokens, 1)
    for row in range(first, first + (BOOKS - 1) * tokens):
        tile[row, lane] = 0.0
    for row in (USER_VOLUME, INFORMED_VOLUME, INFORMED_PAID, INFORMED_TRADES):
        tile[physics.world_row + row, lane] = 0.0


@inline
def user_volume(
    physics: Physics, tile: np.ndarray, lane: int, pool: int, forward: bool, amount: float
) -> float:
    """ETH that a user sells, at reference prices."""
    token = physics.token0[pool] if forward else physics.token1[pool]
    return amount * tile[physics.world_row + PRICE + token, lane]
