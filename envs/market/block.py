"""The block: users' swaps, the builder's choice among bundles, public transactions, and who pays.

The builder takes bundles by what they pay, each on the state that the ones before it left, and
drops those that no longer pay; ties go to rivals, whose bids were there before ours. Rivals bid a
share of what they realise, we a fixed amount.
"""

import numpy as np

from envs.market.bidding import gas_cost, own_gas, place, revert_cost
from envs.market.flow import (
    BID_LATE,
    GWEI,
    book_gas,
)
from envs.market.mempool import clear_included
from envs.market.physics import (
    BURNT,
    CANCEL_BURNT,
    CANCEL_COST,
    FRACTION,
    LOSERS,
    LOSERS_BID,
    MARK,
    MISSED,
    REGIME,
    RIVALS,
    SEARCHER,
    SQRT,
    STANDING_NET,
    TOP,
    TOP_PUBLIC,
    VALIDATOR,
    Physics,
    rows_of,
)
from envs.market.plans import DROPPED_FOR_GAS, Plan, run_plan, share_pools
from envs.market.randomness import uniform
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.action import BID, BID_FRACTION, BIDS, COARSE_STEP, decode
from kernels.market.amm import head_state
from kernels.market.declaration import Declaration
from kernels.market.observation import record_auction
from kernels.market.opportunities import gross_of, size_of
from kernels.market.tile import (
    BASE_FEE,
    BUNDLES_TAKEN,
    FOUND_CYCLE,
    FOUND_NET,
    FOUND_REFUND,
    LANES,
    OPPORTUNITIES,
    OWN_TIP,
    PUBLIC,
    SCRATCH,
    SCRATCH_ROWS,
    STANDING_AMOUNT,
    STANDING_CHANNEL,
    STANDING_CYCLE,
    STANDING_FRACTION,
    STANDING_PAYMENT,
)

SCRATCH_USE = Declaration(SCRATCH_ROWS, SCRATCH)
GROSS = SCRATCH_USE.row("GROSS", OPPORTUNITIES, "ETH", "on the head, see _best_response")
# Columns of the outcome array, one row per lane. Units: ETH, or fractions of net.
NET = 0  # of the opportunity bid on
OWN_FRACTION = 1
CLEARING_FRACTION = 2  # highest bid / net, own included
BEST_RESPONSE = 3  # what the best bid of the grid would have earned
OUTCOME = 4  # one of the codes below
REGIME_NOW = 5  # hidden from the agent
OPPORTUNITY = 6  # k among what was found at the end, -1 for a pass or when it is gone
SETTLED = 7  # 1 when this decision was the last of its slot: the columns above hold
CAUSE = 8  # why a public transaction failed: OUTBID, STALE_STATE or GAS
PROFIT = 9  # ETH that the block brought or cost us
OUTCOME_COLUMNS = 10

PASSED = 0  # no bid stood
WON = 1
OUTBID = 2  # somebody who paid more took it, or a pool of it
STALE_STATE = 3  # the pools had moved: a bundle was dropped at no cost
LATE = 4  # the bid reached the builder after the block was built
REVERTED = 5  # a public transaction failed and paid gas
FILTERED = 6  # a bundle for a proposer that takes none
MISSED_SLOT = 7  # no block came
GAS = 8  # the pools had moved: the plan still earned something, but less than its gas
# Why a bid lost is said in the words of live.books.outcomes; a live bid cannot know of a missed
# slot.
OUTCOMES = (
    "passed",
    "won",
    "outbid",
    "stale_state",
    "late",
    "reverted",
    "filtered",
    "missed",
    "gas",
)


@inline
def _best_response(physics: Physics, tile: np.ndarray, lane: int) -> float:
    """Most that one bid of the grid would have earned, on the state that bundles find.

    Leaves in rows GROSS what each opportunity earns on it.
    """
    state = head_state(tile, rows_of(physics))
    step = 1 if tile[BUNDLES_TAKEN, lane] > 0.0 else COARSE_STEP
    best = 0.0
    for k in range(OPPORTUNITIES):
        candidate = int(tile[FOUND_CYCLE + k, lane])
        if candidate < 0:
            break
        net, top = tile[FOUND_NET + k, lane], tile[physics.world_row + TOP + k, lane]
        size = size_of(physics.cycles.shape[0], tile, lane, k)
        gross = gross_of(physics.cycles, physics.weights, state, lane, candidate, size)
        realised = gross - gas_cost(tile, lane, own_gas(physics, candidate))
        tile[GROSS + k, lane] = gross
        # How many bids of the grid are not above the top one, but for the last: by halving, in the
        # same number of steps for every bid.
        below, half = 0, BIDS // step // 2
        while half > 0:
            taken = net * BID_FRACTION[(below + half) * step - 1] <= top
            below += half if taken else 0
            half //= 2
        bid = net * BID_FRACTION[(below + 1) * step - 1]
        best = max(best, realised - bid if bid > top else 0.0)
    return best


@inline
def _fees_of_losers(physics: Physics, tile: np.ndarray, lane: int, k: int, top_lost: bool) -> None:
    """Rivals' public transactions that failed pay for the gas they used."""
    world_row = physics.world_row
    count, bids = tile[world_row + LOSERS + k, lane], tile[world_row + LOSERS_BID + k, lane]
    if top_lost and tile[world_row + TOP_PUBLIC + k, lane] > 0.0:
        count += 1.0
        bids += tile[world_row + TOP + k, lane]
    if count <= 0.0:
        return
    share = physics.revert_share
    gas = count * share * own_gas(physics, int(tile[FOUND_CYCLE + k, lane]))
    book_gas(tile, lane, world_row, world_row + RIVALS, gas, tile[OWN_TIP, lane])
    tile[world_row + RIVALS, lane] -= share * bids
    tile[world_row + VALIDATOR, lane] += share * bids


@inline
def _build(
    physics: Physics, tile: np.ndarray, lane: int, bundle: bool, result: np.ndarray
) -> float:
    """Take bundles and public transactions by payment; our profit, and `result` for ours.

    `bundle`: whether our standing bid takes part at all.
    """
    world_row, cycles = physics.world_row, physics.cycles.shape[0]
    state = head_state(tile, rows_of(physics))
    own = int(tile[STANDING_CYCLE, lane]) if bundle else -1
    own_payment = tile[STANDING_PAYMENT, lane]
    # Opportunities share no pools: only our plan and one of the others can be in each other's way.
    done, profit, blocked, moved = 0, 0.0, False, False
    own_refund, own_k = 0.0, -1
    for k in range(OPPORTUNITIES):
        if own >= 0 and int(tile[FOUND_CYCLE + k, lane]) == own:
            own_refund, own_k = tile[FOUND_REFUND + k, lane] * physics.refund_to_user, k
    result[OPPORTUNITY] = own_k
    waiting = own >= 0
    for _ in range(OPPORTUNITIES + 1):
        best, payment = -1, -1.0
        for k in range(OPPORTUNITIES):
            bid = tile[world_row + TOP + k, lane]
            if tile[FOUND_CYCLE + k, lane] >= 0.0 and (done >> k) & 1 == 0 and bid > payment:
                best, payment = k, bid
        if waiting and own_payment > payment:
            waiting = False
            size = tile[STANDING_AMOUNT, lane]
            refund = own_refund if tile[STANDING_CHANNEL, lane] != PUBLIC else 0.0
            if own_k >= 0 and not blocked and size == size_of(cycles, tile, lane, own_k):
                gross = tile[GROSS + own_k, lane]
            else:
                gross = gross_of(physics.cycles, physics.weights, state, lane, own, size)
            plan = Plan(world_row + SEARCHER, own, size, gross, own_payment, 0.0, refund)
            left = run_plan(physics, tile, lane, plan)
            if left >= 0.0:
                profit, moved = left, True
                result[OUTCOME] = WON
            elif blocked:
                result[OUTCOME] = OUTBID
            else:
                result[OUTCOME] = GAS if left == DROPPED_FOR_GAS else STALE_STATE
            continue
        if best < 0:
            break
        done |= 1 << best
        candidate = int(tile[FOUND_CYCLE + best, lane])
        refund = tile[FOUND_REFUND + best, lane] * physics.refund_to_user
        if tile[world_row + TOP_PUBLIC + best, lane] > 0.0:
            refund = 0.0
        size = size_of(cycles, tile, lane, best)
        net = tile[FOUND_NET + best, lane]
        shares = own >= 0 and share_pools(physics, tile, lane, own, candidate)
        gross = tile[GROSS + best, lane]
        if moved and shares:
            gross = gross_of(physics.cycles, physics.weights, state, lane, candidate, size)
        plan = Plan(world_row + RIVALS, candidate, size, gross, payment, net, refund)
        left = run_plan(physics, tile, lane, plan)
        blocked = blocked or (shares and left >= 0.0)
        _fees_of_losers(physics, tile, lane, best, left < 0.0)
    return profit


@inline
def _settle(physics: Physics, tile: np.ndarray, lane: int, late: bool, result: np.ndarray) -> float:
    """The auction of one lane's block: our profit in ETH."""
    world_row = physics.world_row
    stands = tile[STANDING_CYCLE, lane] >= 0.0
    public = stands and tile[STANDING_CHANNEL, lane] == PUBLIC
    net = tile[world_row + STANDING_NET, lane]
    own_fraction = tile[STANDING_FRACTION, lane]
    if stands:
        result[NET], result[OWN_FRACTION] = net, own_fraction
    result[OUTCOME] = LATE if late and not stands else PASSED
    if tile[world_row + MISSED, lane] > 0.0:
        result[OUTCOME] = MISSED_SLOT if stands else result[OUTCOME]
        return 0.0
    result[BEST_RESPONSE] = _best_response(physics, tile, lane)
    takes = tile[BUNDLES_TAKEN, lane] > 0.0
    profit = _build(physics, tile, lane, stands and (public or takes), result)
    cost, burnt = tile[world_row + CANCEL_COST, lane], tile[world_row + CANCEL_BURNT, lane]
    if stands and not public and not takes:
        result[OUTCOME] = FILTERED
    if public and result[OUTCOME] != WON:
        result[CAUSE] = result[OUTCOME]
        result[OUTCOME] = REVERTED
        cost += revert_cost(physics, tile, lane)
        gas = physics.revert_share * own_gas(physics, int(tile[STANDING_CYCLE, lane]))
        burnt += gas * tile[BASE_FEE, lane] * GWEI
    if cost > 0.0:
        tile[world_row + SEARCHER, lane] -= cost
        tile[world_row + VALIDATOR, lane] += cost - burnt
        tile[world_row + BURNT, lane] += burnt
    if stands and result[OUTCOME] != FILTERED:
        top, k = own_fraction, int(result[OPPORTUNITY])
        if k >= 0:
            top = max(tile[world_row + TOP + k, lane] / net, own_fraction)
        elif result[OUTCOME] != WON:
            result[OPPORTUNITY] = -1.0
        result[CLEARING_FRACTION] = top
        record_auction(tile, lane, net, own_fraction, top, result[OUTCOME] == WON)
    return profit - cost


@inline
def _at_stake(physics: Physics, tile: np.ndarray, lane: int) -> float:
    """Net profit of the best opportunity, or of the standing bid's when it was placed if more."""
    stands = tile[STANDING_CYCLE, lane] >= 0.0
    bid_on = tile[physics.world_row + STANDING_NET, lane] if stands else 0.0
    return max(tile[FOUND_NET, lane], bid_on)


@inline
def _reward(physics: Physics, profit: float, at_stake: float) -> float:
    """What the configured mode pays for the profit of a block, ETH; see MarketConfig.reward."""
    if physics.reward == FRACTION:
        share = profit / at_stake if at_stake > 0.0 else 0.0
        return min(max(share, -1.0), 1.0)
    if physics.reward == SQRT:
        root = np.sqrt(abs(profit) / physics.reward_scale_eth)
        return root if profit > 0.0 else -root
    return profit


@lean_kernel
def settle_auctions(
    physics: Physics,
    tile: np.ndarray,
    keys: np.ndarray,
    actions: np.ndarray,
    reward: np.ndarray,
    outcome: np.ndarray,
) -> None:
    """The last decision of a slot and its auction: writes reward[lanes] and outcome[lanes].

    Bundles and public arbitrages by payment, between the unseen swaps ahead and the others.
    """
    never_inline()
    world_row = physics.world_row
    for lane in range(LANES):
        result = outcome[lane]
        for column in range(OUTCOME_COLUMNS):
            result[column] = 0.0
        result[REGIME_NOW] = tile[world_row + REGIME, lane]
        result[OPPORTUNITY] = -1.0
        result[SETTLED] = 1.0
        bids = decode(actions[lane])[0] == BID
        late = bids and uniform(keys[lane], BID_LATE) < physics.late_share
        if not late:
            place(physics, tile, lane, actions[lane])
        at_stake = _at_stake(physics, tile, lane)
        result[PROFIT] = _settle(physics, tile, lane, late, result)
        reward[lane] = _reward(physics, result[PROFIT], at_stake) - tile[world_row + MARK, lane]
        tile[world_row + MARK, lane] = 0.0
        tile[world_row + CANCEL_COST, lane] = 0.0
        tile[world_row + CANCEL_BURNT, lane] = 0.0
        tile[STANDING_CYCLE, lane] = -1.0


@lean_kernel
def clear_block(physics: Physics, tile: np.ndarray) -> None:
    """The mempool after the blocks."""
    never_inline()
    for lane in range(LANES):
        if tile[physics.world_row + MISSED, lane] <= 0.0:
            clear_included(tile, lane)
