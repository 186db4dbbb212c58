"""Our side of the auction: the bid that stands in a slot, and what it is worth at the moment."""

import numpy as np

from envs.market.physics import (
    CANCEL_BURNT,
    CANCEL_COST,
    MARK,
    MARKED,
    MET,
    STANDING_NET,
    TOP,
    Physics,
)
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.action import BID, CANCEL_BID, PASS, PPM, decode
from kernels.market.mempool import bumped
from kernels.market.opportunities import candidate_gas, size_of
from kernels.market.tile import (
    BASE_FEE,
    BUNDLE,
    BUNDLES_TAKEN,
    CHANNELS,
    FOUND_CYCLE,
    FOUND_HALF_NET,
    FOUND_NET,
    LANES,
    OPPORTUNITIES,
    OWN_TIP,
    PUBLIC,
    STANDING_AMOUNT,
    STANDING_CHANNEL,
    STANDING_CYCLE,
    STANDING_FRACTION,
    STANDING_PAYMENT,
)

GWEI = 1e-9


@inline
def own_gas(physics: Physics, candidate: int) -> float:
    """Gas units of our plan for a candidate."""
    cycles, pools = physics.cycles.shape[0], physics.token0.shape[0]
    return candidate_gas(physics.weights, pools, cycles, candidate)


@inline
def gas_cost(tile: np.ndarray, lane: int, gas: float) -> float:
    """ETH for gas at base fee and our usual tip."""
    return gas * (tile[BASE_FEE, lane] + tile[OWN_TIP, lane]) * GWEI


@inline
def revert_cost(physics: Physics, tile: np.ndarray, lane: int) -> float:
    """What our public transaction costs when it fails: part of the gas, at the price it bid."""
    gas = own_gas(physics, int(tile[STANDING_CYCLE, lane]))
    share = physics.revert_share
    return share * (gas_cost(tile, lane, gas) + tile[STANDING_PAYMENT, lane])


@inline
def _withdraw(physics: Physics, tile: np.ndarray, lane: int) -> None:
    """Nothing stands any more; a public transaction needs an empty one that pays a tenth more."""
    candidate = int(tile[STANDING_CYCLE, lane])
    if candidate >= 0 and tile[STANDING_CHANNEL, lane] == PUBLIC:
        per_gas = bumped(tile[STANDING_PAYMENT, lane] / own_gas(physics, candidate), 0.0)
        cost = gas_cost(tile, lane, physics.per_cancel) + physics.per_cancel * per_gas
        tile[physics.world_row + CANCEL_COST, lane] += cost
        burnt = physics.per_cancel * tile[BASE_FEE, lane] * GWEI
        tile[physics.world_row + CANCEL_BURNT, lane] += burnt
    tile[STANDING_CYCLE, lane] = -1.0


@lean_kernel
def place(physics: Physics, tile: np.ndarray, lane: int, action: int) -> None:
    """Apply an action to the bid that stands.

    A bid without a profit at its size, or in a channel that is not there, changes nothing. Neither
    does a public bid that replaces another without paying a tenth more.
    """
    kind, k, bid_ppm, channel, size_ppm = decode(action)
    if kind == CANCEL_BID:
        _withdraw(physics, tile, lane)
    if kind != BID or tile[FOUND_CYCLE + k, lane] < 0.0:
        return
    row = FOUND_NET if size_ppm == PPM else FOUND_HALF_NET
    net = tile[row + k, lane]
    if net <= 0.0 or (int(tile[CHANNELS, lane]) >> channel) & 1 == 0:
        return
    payment = net * (bid_ppm / PPM)
    if tile[STANDING_CYCLE, lane] >= 0.0 and tile[STANDING_CHANNEL, lane] == PUBLIC:
        if channel == BUNDLE:
            _withdraw(physics, tile, lane)
        elif payment < bumped(tile[STANDING_PAYMENT, lane], 0.0):
            return
    tile[STANDING_CYCLE, lane] = tile[FOUND_CYCLE + k, lane]
    tile[STANDING_AMOUNT, lane] = size_of(physics.cycles.shape[0], tile, lane, k) * (size_ppm / PPM)
    tile[STANDING_PAYMENT, lane] = payment
    tile[STANDING_FRACTION, lane] = bid_ppm / PPM
    tile[STANDING_CHANNEL, lane] = channel
    tile[physics.world_row + STANDING_NET, lane] = net


@inline
def _worth(physics: Physics, tile: np.ndarray, lane: int) -> float:
    """What the standing bid would earn if the block were built now, on what is found now."""
    candidate = tile[STANDING_CYCLE, lane]
    if candidate < 0.0:
        return 0.0
    public = tile[STANDING_CHANNEL, lane] == PUBLIC
    if not public and tile[BUNDLES_TAKEN, lane] <= 0.0:
        return 0.0
    payment = tile[STANDING_PAYMENT, lane]
    for k in range(OPPORTUNITIES):
        if tile[FOUND_CYCLE + k, lane] == candidate:
            whole = size_of(physics.cycles.shape[0], tile, lane, k)
            half = tile[STANDING_AMOUNT, lane] < 0.75 * whole
            net = tile[(FOUND_HALF_NET if half else FOUND_NET) + k, lane]
            if payment > tile[physics.world_row + TOP + k, lane] and net >= payment:
                return net - payment
    return -revert_cost(physics, tile, lane) if public else 0.0


@inline
def _in_public(tile: np.ndarray, lane: int) -> bool:
    """Whether a bid of ours waits in the public mempool."""
    return tile[STANDING_CYCLE, lane] >= 0.0 and tile[STANDING_CHANNEL, lane] == PUBLIC


@lean_kernel
def decide_early(
    physics: Physics, tile: np.ndarray, actions: np.ndarray, reward: np.ndarray
) -> None:
    """A decision before the last of a slot: place the bid, earn the change of its worth."""
    never_inline()
    row = physics.world_row + MARK
    for lane in range(LANES):
        seen = _in_public(tile, lane)
        place(physics, tile, lane, actions[lane])
        # Rivals look at what we show.
        if actions[lane] != PASS and (seen or _in_public(tile, lane)):
            tile[physics.world_row + MET, lane] = 0.0
        reward[lane] = 0.0
        if physics.reward == MARKED:
            cost = tile[physics.world_row + CANCEL_COST, lane]
            worth = _worth(physics, tile, lane) - cost
            reward[lane] = worth - tile[row, lane]
            tile[row, lane] = worth
