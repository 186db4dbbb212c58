"""The bundle auctions of one slot: every opportunity is sold by sealed bids to us or to a rival,
and the winner's cycle executes in the pools.
"""

import numpy as np

from envs.physics import BURNT, REGIME, RIVALS, SEARCHER, VALIDATOR, Physics
from envs.rivals import MAX_RIVALS, rival_bids
from kernels.action import BID_FRACTION, BIDS, PPM, decode
from kernels.auction import NOBODY, OWN, first_price
from kernels.compile import inline, kernel
from kernels.graph import HOPS, MAX_HOPS, POOL, ROW_IN, ROW_OUT
from kernels.market import (
    BASE_FEE,
    FOUND_AMOUNT_IN,
    FOUND_CYCLE,
    FOUND_NET,
    LANES,
    OPPORTUNITIES,
    OWN_TIP,
    RESERVES,
    amount_out,
)
from kernels.observation import record_auction

# Columns of the outcome array, one row per lane. Units: ETH, or fractions of net.
NET = 0  # of the opportunity bid on
OWN_FRACTION = 1
CLEARING_FRACTION = 2  # highest bid / net, own included
BEST_RESPONSE = 3  # what the best bid of the grid would have earned
OUTCOME = 4  # one of the codes below
REGIME_NOW = 5  # hidden from the agent
OPPORTUNITY = 6  # k, -1 for a pass
OUTCOME_COLUMNS = 7

PASSED = 0  # no bid, or a bid on an opportunity that does not exist
WON = 1
OUTBID = 2
STALE = 3  # highest bid, but the pools had moved: the bundle was dropped at no cost

GWEI = 1e-9


@inline
def cycle_amounts(
    cycles: np.ndarray,
    weights: np.ndarray,
    tile: np.ndarray,
    lane: int,
    cycle: int,
    amount: float,
    amounts: np.ndarray,
) -> float:
    """Output of a cycle on the present reserves; what each hop takes and gives in `amounts`."""
    hops = cycles[cycle, HOPS]
    amounts[0] = amount
    for hop in range(hops):
        row_in = RESERVES + cycles[cycle, ROW_IN + hop]
        row_out = RESERVES + cycles[cycle, ROW_OUT + hop]
        gamma = float(weights[cycles[cycle, POOL + hop]])
        amount = amount_out(amount, tile[row_in, lane], tile[row_out, lane], gamma)
        amounts[hop + 1] = amount
    return amount


@inline
def move_reserves(
    cycles: np.ndarray, tile: np.ndarray, lane: int, cycle: int, amounts: np.ndarray
) -> None:
    """Execute a cycle whose amounts were computed on the same reserves."""
    for hop in range(cycles[cycle, HOPS]):
        tile[RESERVES + cycles[cycle, ROW_IN + hop], lane] += amounts[hop]
        tile[RESERVES + cycles[cycle, ROW_OUT + hop], lane] -= amounts[hop + 1]


@kernel
def best_response(net: float, realised_net: float, rival_bid: float) -> float:
    """Most that a bid of the grid above `rival_bid` would have earned, ETH; 0 if nothing.

    `rival_bid` below 0 means no rival. Bids are shares of the expected `net`; what is earned is
    the realised one.
    """
    for index in range(BIDS):
        bid = net * BID_FRACTION[index]
        if bid > rival_bid:
            return max(realised_net - bid, 0.0)
    return 0.0


@inline
def _pay(
    tile: np.ndarray, lane: int, world: int, winner: int, gross: float, payment: float, gas: float
) -> None:
    """The winner's books: gross profit in; the bid and the tip to the validator; base fee burnt."""
    party = world + (SEARCHER if winner == OWN else RIVALS)
    burnt = gas * tile[BASE_FEE, lane] * GWEI
    tip = gas * tile[OWN_TIP, lane] * GWEI
    tile[party, lane] += gross - payment - burnt - tip
    tile[world + VALIDATOR, lane] += payment + tip
    tile[world + BURNT, lane] += burnt


@kernel
def run_auctions(
    physics: Physics,
    tile: np.ndarray,
    keys: np.ndarray,
    actions: np.ndarray,
    reward: np.ndarray,
    outcome: np.ndarray,
) -> None:
    """Sell every opportunity of every lane and execute the winners' cycles.

    The pools already hold the targets and the private swaps ahead. A bundle whose realised profit
    no longer covers gas and bid is dropped (revert protection). The opportunities of a lane share
    no pool, so their order does not matter. Writes reward[lanes] (ETH) and outcome[lanes].
    """
    world, pools = physics.world, physics.token0.shape[0]
    bids, amounts = np.empty(MAX_RIVALS), np.empty(MAX_HOPS + 1)
    for lane in range(LANES):
        regime = int(tile[world + REGIME, lane])
        chosen, bid_ppm = decode(actions[lane])
        result = outcome[lane]
        for column in range(OUTCOME_COLUMNS):
            result[column] = 0.0
        result[REGIME_NOW] = regime
        result[OPPORTUNITY] = -1.0
        reward[lane] = 0.0
        for k in range(OPPORTUNITIES):
            cycle = int(tile[FOUND_CYCLE + k, lane])
            if cycle < 0:
                break
            net, amount = tile[FOUND_NET + k, lane], tile[FOUND_AMOUNT_IN + k, lane]
            gas = float(physics.weights[pools + cycle])
            gas_eth = gas * (tile[BASE_FEE, lane] + tile[OWN_TIP, lane]) * GWEI
            count = rival_bids(physics, tile, lane, regime, k, gas, keys[lane], bids)
            own_bid = net * (bid_ppm / PPM) if chosen == k else -1.0
            winner, payment, second = first_price(own_bid, bids[:count])
            cycles, weights = physics.cycles, physics.weights
            gross = cycle_amounts(cycles, weights, tile, lane, cycle, amount, amounts) - amount
            rival_bid = -1.0 if count == 0 else (second if winner == OWN else payment)
            response = best_response(net, gross - gas_eth, rival_bid)
            result[BEST_RESPONSE] = max(result[BEST_RESPONSE], response)
            executed = winner != NOBODY and gross - gas_eth >= payment
            if executed:
                move_reserves(cycles, tile, lane, cycle, amounts)
                _pay(tile, lane, world, winner, gross, payment, gas)
            if chosen == k:
                won = executed and winner == OWN
                result[NET] = net
                result[OWN_FRACTION] = bid_ppm / PPM
                result[CLEARING_FRACTION] = payment / net
                result[OUTCOME] = WON if won else (STALE if winner == OWN else OUTBID)
                result[OPPORTUNITY] = k
                reward[lane] = gross - gas_eth - payment if won else 0.0
                record_auction(tile, lane, net, bid_ppm / PPM, payment / net, won)
