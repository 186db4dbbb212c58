"""Order flow of a tile: reference prices, users' swaps, informed CEX-DEX traders, and the books.

Every function plays its part for all lanes of a tile; `keys` uint64[lanes] are their slot keys.
Everybody pays gas, and every token that moves is booked to a party.
"""

import numpy as np

from envs.paths import SLOTS_PER_MINUTE
from envs.physics import (
    BURNT,
    LOG_PRICE,
    MINUTE,
    NORMAL,
    PRICE,
    REGIME,
    SIZE,
    STEP,
    TIP,
    VALIDATOR,
    Physics,
)
from envs.randomness import draw, quantile, uniform
from kernels.compile import inline, kernel
from kernels.market import (
    BASE_FEE,
    FORECAST,
    FORECASTS,
    LANES,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    amount_out,
    overlay_row,
)

# Channels of a slot's randomness. Those of the rivals start at 256.
COUNT = 0
PRICE_NOISE = 1  # [2]
GAS_USED = 3
REGIME_SWITCH = 4
REGIME_NEXT = 5
SWAP_KIND = 8  # [M]
SWAP_SIZE = 16  # [M]
SWAP_TIP = 24  # [M]
SWAP_AHEAD = 32  # [M]
START = 40  # an episode's first draws: minute, base fee, regime
START_DEPTH = 64  # [P]
START_ERROR = 128  # [P]
INFORMED = 192  # [P]
MAX_POOLS = 64

GWEI = 1e-9
# sqrt((n - 1) / n) with n slots left to the close, by slots played in the minute.
BRIDGE_NOISE = np.sqrt(1.0 - 1.0 / np.arange(SLOTS_PER_MINUTE, 0, -1))


@inline
def _book_gas(
    tile: np.ndarray, lane: int, world: int, payer: int, gas: float, tip_gwei: float
) -> None:
    """Gas at base fee (burnt) plus tip (validator) out of the ETH in row `payer`."""
    burnt = gas * tile[BASE_FEE, lane] * GWEI
    tipped = gas * tip_gwei * GWEI
    tile[payer, lane] -= burnt + tipped
    tile[world + BURNT, lane] += burnt
    tile[world + VALIDATOR, lane] += tipped


@inline
def _book_swap(
    physics: Physics,
    tile: np.ndarray,
    lane: int,
    holder: int,
    pool: int,
    forward: bool,
    amount: float,
    out: float,
) -> None:
    """A swap's tokens in the balances at rows holder .. holder + T - 1."""
    token_in = physics.token0[pool] if forward else physics.token1[pool]
    token_out = physics.token1[pool] if forward else physics.token0[pool]
    tile[holder + token_in, lane] -= amount
    tile[holder + token_out, lane] += out


@kernel
def set_prices(physics: Physics, tile: np.ndarray, lane: int) -> None:
    """Token prices in ETH from the two log prices."""
    world = physics.world
    for token in range(physics.exposure.shape[0]):
        same = physics.same_price[token]
        if same < token:
            tile[world + PRICE + token, lane] = tile[world + PRICE + same, lane]
            continue
        power = (
            physics.exposure[token, 0] * tile[world + LOG_PRICE, lane]
            + physics.exposure[token, 1] * tile[world + LOG_PRICE + 1, lane]
        )
        tile[world + PRICE + token, lane] = np.exp(power)


@kernel
def advance_prices(
    physics: Physics,
    log_price: np.ndarray,
    slot_sigma: np.ndarray,
    forecast: np.ndarray,
    tile: np.ndarray,
    keys: np.ndarray,
) -> None:
    """Move the reference prices by one slot along a Brownian bridge to the next minute's close.

    With n slots left, x += (close - x) / n + sigma sqrt((n - 1) / n) z: at n = 1 it lands on the
    close, so the path agrees with the recorded closes. Forecasts change at closes.
    """
    world = physics.world
    for lane in range(LANES):
        minute, step = int(tile[world + MINUTE, lane]), int(tile[world + STEP, lane])
        left = SLOTS_PER_MINUTE - step
        noise = BRIDGE_NOISE[step]
        for asset in range(2):
            x = tile[world + LOG_PRICE + asset, lane]
            z = quantile(physics.quantiles, NORMAL, uniform(keys[lane], PRICE_NOISE + asset))
            x += (log_price[minute + 1, asset] - x) / left + slot_sigma[minute, asset] * noise * z
            tile[world + LOG_PRICE + asset, lane] = x
        if left == 1:
            for horizon in range(FORECASTS):
                tile[FORECAST + horizon, lane] = forecast[minute + 1, horizon]
            tile[world + MINUTE, lane] = minute + 1
        tile[world + STEP, lane] = 0 if left == 1 else step + 1
        set_prices(physics, tile, lane)


@kernel
def advance_regimes(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """Leave the competition regime with a fixed chance, for one of the others uniformly."""
    regimes = physics.rival_log_rate.shape[0]
    for lane in range(LANES):
        if uniform(keys[lane], REGIME_SWITCH) < physics.regime_leave:
            regime = int(tile[physics.world + REGIME, lane])
            jump = 1 + int(uniform(keys[lane], REGIME_NEXT) * (regimes - 1))
            tile[physics.world + REGIME, lane] = (regime + jump) % regimes


@kernel
def new_swaps(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """Fill the pending rows with this slot's users: Poisson count, random pool and direction,
    lognormal share of the reserve they sell, tips as on mainnet, a share of them private.
    """
    pools = physics.token0.shape[0]
    for lane in range(LANES):
        key = keys[lane]
        scale = physics.size_factor[int(tile[physics.world + REGIME, lane])]
        u = uniform(key, COUNT)
        count = 0
        while count < PENDING and u >= physics.count_cdf[count]:
            count += 1
        for swap in range(count):
            # One draw serves three choices: 16 bits the pool, 15 privacy, 1 the direction.
            bits = int(draw(key, SWAP_KIND + swap))
            pool = ((bits >> 16) * pools) >> 16
            forward = bits & 1
            private = ((bits >> 1) & 0x7FFF) * (1.0 / 32768.0) < physics.private_share
            share = scale * quantile(physics.quantiles, SIZE, uniform(key, SWAP_SIZE + swap))
            row_in = RESERVES + pool + (0 if forward else pools)
            tile[PENDING_POOL + swap, lane] = pool
            tile[PENDING_ZERO_FOR_ONE + swap, lane] = forward
            tile[PENDING_AMOUNT_IN + swap, lane] = min(share, physics.size_max) * tile[row_in, lane]
            tip = quantile(physics.quantiles, TIP, uniform(key, SWAP_TIP + swap))
            tile[PENDING_TIP + swap, lane] = tip
            tile[PENDING_VISIBLE + swap, lane] = 0.0 if private else 1.0
        for swap in range(count, PENDING):
            tile[PENDING_POOL + swap, lane] = 0.0
            tile[PENDING_ZERO_FOR_ONE + swap, lane] = 0.0
            tile[PENDING_AMOUNT_IN + swap, lane] = 0.0
            tile[PENDING_TIP + swap, lane] = 0.0
            tile[PENDING_VISIBLE + swap, lane] = 0.0


@kernel
def include_visible(physics: Physics, tile: np.ndarray) -> None:
    """The visible swaps as the overlay computed them: reserves, users' books, gas."""
    pools, world = physics.token0.shape[0], physics.world
    users = world + PRICE + physics.exposure.shape[0]
    first = overlay_row(pools)
    for row in range(2 * pools):
        for lane in range(LANES):
            tile[RESERVES + row, lane] = tile[first + row, lane]
    for lane in range(LANES):
        for swap in range(PENDING):
            amount = tile[PENDING_AMOUNT_IN + swap, lane]
            if amount > 0.0 and tile[PENDING_VISIBLE + swap, lane] > 0.0:
                pool = int(tile[PENDING_POOL + swap, lane])
                forward = tile[PENDING_ZERO_FOR_ONE + swap, lane] > 0.0
                out = tile[PENDING_AMOUNT_OUT + swap, lane]
                _book_swap(physics, tile, lane, users, pool, forward, amount, out)
                tip = tile[PENDING_TIP + swap, lane]
                _book_gas(tile, lane, world, users, physics.swap_gas, tip)


@kernel
def include_private(physics: Physics, tile: np.ndarray, keys: np.ndarray, ahead: bool) -> None:
    """Execute the private swaps that land ahead of the bundles, or those that land behind."""
    pools, world = physics.token0.shape[0], physics.world
    users = world + PRICE + physics.exposure.shape[0]
    for lane in range(LANES):
        for swap in range(PENDING):
            amount = tile[PENDING_AMOUNT_IN + swap, lane]
            if amount <= 0.0 or tile[PENDING_VISIBLE + swap, lane] > 0.0:
                continue
            if (uniform(keys[lane], SWAP_AHEAD + swap) < physics.private_ahead_share) != ahead:
                continue
            pool = int(tile[PENDING_POOL + swap, lane])
            forward = tile[PENDING_ZERO_FOR_ONE + swap, lane] > 0.0
            row_in = RESERVES + pool + (0 if forward else pools)
            row_out = RESERVES + pool + (pools if forward else 0)
            out = amount_out(amount, tile[row_in, lane], tile[row_out, lane], physics.weights[pool])
            tile[row_in, lane] += amount
            tile[row_out, lane] -= out
            _book_swap(physics, tile, lane, users, pool, forward, amount, out)
            tip = tile[PENDING_TIP + swap, lane]
            _book_gas(tile, lane, world, users, physics.swap_gas, tip)


@kernel
def informed_trades(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """CEX-DEX traders pull pools to the edge of the band without arbitrage around the reference.

    Selling x of token0 is worth it while gamma r1 / r0 > m, the value of token0 in token1; the
    best x leaves gamma k / (r0 + gamma x)^2 = m (Angeris and Chitra 2020). They trade when the
    profit at reference prices exceeds gas and their payment to the builder.
    """
    pools, world = physics.token0.shape[0], physics.world
    holder = world + PRICE + 2 * physics.exposure.shape[0]
    for lane in range(LANES):
        gas_eth = physics.swap_gas * (tile[BASE_FEE, lane] + physics.own_tip) * GWEI
        for pool in range(pools):
            gamma = physics.weights[pool]
            price0 = tile[world + PRICE + physics.token0[pool], lane]
            price1 = tile[world + PRICE + physics.token1[pool], lane]
            row0, row1 = RESERVES + pool, RESERVES + pool + pools
            value0, value1 = tile[row0, lane] * price0, tile[row1, lane] * price1
            forward = gamma * value1 > value0
            if not (forward or gamma * value0 > value1):
                continue
            if uniform(keys[lane], INFORMED + pool) >= physics.informed_probability:
                continue
            row_in, row_out = (row0, row1) if forward else (row1, row0)
            price_in, price_out = (price0, price1) if forward else (price1, price0)
            reserve = tile[row_in, lane]
            target = np.sqrt(gamma * reserve * tile[row_out, lane] * price_out / price_in)
            amount = (target - reserve) / gamma
            out = amount_out(amount, reserve, tile[row_out, lane], gamma)
            volume = amount * price_in
            payment = physics.informed_payment * volume
            if out * price_out - volume <= payment + gas_eth:
                continue
            tile[row_in, lane] += amount
            tile[row_out, lane] -= out
            _book_swap(physics, tile, lane, holder, pool, forward, amount, out)
            _book_gas(tile, lane, world, holder, physics.swap_gas, physics.own_tip)
            tile[holder, lane] -= payment
            tile[world + VALIDATOR, lane] += payment
