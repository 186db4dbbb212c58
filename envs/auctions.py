"""The block: users' swaps, the builder's choice among bundles, public transactions, and who pays.

The builder takes bundles by what they pay, each on the state that the ones before it left, and
drops those that no longer pay; ties go to rivals, whose bids were there before ours. Rivals bid a
share of what they realise, we a fixed amount.
"""

import numpy as np

from envs.bidding import gas_cost, own_gas, place, revert_cost
from envs.flow import (
    BID_LATE,
    GWEI,
    SWAP_AHEAD,
    book,
    book_gas,
    book_inside,
    book_swap,
    user_volume,
)
from envs.mempool import clear_included, root_nonce
from envs.physics import (
    BORROWER_BOOK,
    BURNT,
    CANCEL_BURNT,
    CANCEL_COST,
    FRACTION,
    INSIDE,
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
    USER_VOLUME,
    USERS,
    VALIDATOR,
    Physics,
)
from envs.randomness import uniform
from envs.rivals import sandwich, sandwiched
from kernels.action import BID, BID_FRACTION, BIDS, COARSE_STEP, decode
from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph import HOPS, POOL, ROW_IN
from kernels.lanes import WIDTH, Floats, choose, load, store, wide
from kernels.lending import LIQUIDATION_BONUS, closable, health_factor
from kernels.market import (
    BASE_FEE,
    BUNDLES_TAKEN,
    CONCENTRATED_FROM,
    FOUND_CYCLE,
    FOUND_NET,
    FOUND_REFUND,
    LANES,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    OPPORTUNITIES,
    OVERLAY_SEGMENT,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_MIN_OUT,
    PENDING_ORDER,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    PUBLIC,
    RESERVES,
    SCRATCH_ROWS,
    SEGMENT,
    STANDING_AMOUNT,
    STANDING_CHANNEL,
    STANDING_CYCLE,
    STANDING_FRACTION,
    STANDING_PAYMENT,
    concentrated_row,
    overlay_row,
    quote,
    swap,
)
from kernels.observation import record_auction
from kernels.opportunities import gross_of, size_of

# Scratch rows: see _take_overlay, _find_unseen and, [K], _best_response.
WHOLE, UNSEEN, GROSS = SCRATCH_ROWS, SCRATCH_ROWS + 1, SCRATCH_ROWS + 2
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
# Why a bid lost is said in the words of live.outcomes; a live bid cannot know of a missed slot.
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
DROPPED, DROPPED_FOR_GAS = -1.0, -2.0  # what _try answers instead of a profit


@inline
def _include_one(physics: Physics, tile: np.ndarray, lane: int, pending: int, victim: bool) -> None:
    """Execute one pending swap on the reserves, or let it revert; book tokens and gas."""
    world, pools, cycles = physics.world, physics.token0.shape[0], physics.cycles.shape[0]
    tokens = physics.exposure.shape[0]
    users, inside = book(world, tokens, USERS), book(world, tokens, INSIDE)
    amount = tile[PENDING_AMOUNT_IN + pending, lane]
    pool = int(tile[PENDING_POOL + pending, lane])
    forward = tile[PENDING_ZERO_FOR_ONE + pending, lane] > 0.0
    gamma, least = physics.weights[pool], tile[PENDING_MIN_OUT + pending, lane]
    out = -1.0
    if victim:
        out = sandwich(physics, tile, lane, pending)
    if out < 0.0:
        out = quote(tile, lane, pools, cycles, RESERVES, pool, forward, amount, gamma)
        if out < least:
            out = 0.0
        else:
            out = swap(tile, lane, pools, cycles, RESERVES, pool, forward, amount, gamma)
    if out > 0.0:
        token0, token1 = physics.token0, physics.token1
        book_swap(tile, lane, users, inside, token0, token1, pool, forward, amount, out)
        volume = user_volume(physics, tile, lane, pool, forward, amount)
        tile[world + USER_VOLUME, lane] += volume
    tip = tile[PENDING_TIP + pending, lane]
    book_gas(tile, lane, world, users, physics.swap_gas, tip)


@inline
def _take_overlay(physics: Physics, tile: np.ndarray, lane: int, like: Floats) -> None:
    """Where row WHOLE says so the block leaves the pools as the overlay has them."""
    pools, cycles = physics.token0.shape[0], physics.cycles.shape[0]
    whole_ = load(tile, WHOLE, lane, like) > 0.0
    for row in range(RESERVES, overlay_row(pools)):
        after = load(tile, row + 4 * pools, lane, like)
        store(tile, row, lane, choose(whole_, after, load(tile, row, lane, like)))
    for index in range(pools - int(tile[CONCENTRATED_FROM, lane])):
        row = concentrated_row(pools, cycles, index) + SEGMENT
        after = load(tile, row + OVERLAY_SEGMENT - SEGMENT, lane, like)
        store(tile, row, lane, choose(whole_, after, load(tile, row, lane, like)))


@inline
def _book_visible(physics: Physics, tile: np.ndarray, lane: int) -> None:
    """Tokens, volume and gas of the visible swaps, as the overlay computed them."""
    world, tokens = physics.world, physics.exposure.shape[0]
    users, inside = book(world, tokens, USERS), book(world, tokens, INSIDE)
    token0, token1 = physics.token0, physics.token1
    volume, gas, tips = 0.0, 0.0, 0.0
    for turn in range(PENDING):
        pending = int(tile[PENDING_ORDER + turn, lane])
        if tile[PENDING_VISIBLE + pending, lane] <= 0.0:
            break
        gas += physics.swap_gas
        tips += physics.swap_gas * tile[PENDING_TIP + pending, lane]
        out = tile[PENDING_AMOUNT_OUT + pending, lane]
        if out > 0.0:
            amount = tile[PENDING_AMOUNT_IN + pending, lane]
            pool = int(tile[PENDING_POOL + pending, lane])
            forward = tile[PENDING_ZERO_FOR_ONE + pending, lane] > 0.0
            book_swap(tile, lane, users, inside, token0, token1, pool, forward, amount, out)
            volume += user_volume(physics, tile, lane, pool, forward, amount)
    tile[world + USER_VOLUME, lane] += volume
    burnt = gas * tile[BASE_FEE, lane] * GWEI
    tile[users, lane] -= burnt + tips * GWEI
    tile[world + BURNT, lane] += burnt
    tile[world + VALIDATOR, lane] += tips * GWEI


@lean_kernel
def include_visible(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """The visible swaps by priority fee: as the overlay computed them, unless one is sandwiched."""
    never_inline()
    world = physics.world
    for lane in range(LANES):
        tile[WHOLE, lane] = 0.0
        if tile[world + MISSED, lane] > 0.0:
            continue
        victim = sandwiched(physics, tile, lane, keys[lane])
        if victim < 0:
            tile[WHOLE, lane] = 1.0
            _book_visible(physics, tile, lane)
            continue
        for turn in range(PENDING):
            pending = int(tile[PENDING_ORDER + turn, lane])
            if tile[PENDING_VISIBLE + pending, lane] <= 0.0:
                break
            _include_one(physics, tile, lane, pending, pending == victim)
    for lane in range(0, LANES, WIDTH):
        _take_overlay(physics, tile, lane, wide())


@inline
def _find_unseen(tile: np.ndarray, lane: int, like: Floats) -> None:
    """Row UNSEEN: 1 in lanes where a block can take a swap that is not visible."""
    unseen = like > 0.0
    for pending in range(PENDING):
        present = load(tile, PENDING_AMOUNT_IN + pending, lane, like) > 0.0
        hidden = load(tile, PENDING_VISIBLE + pending, lane, like) <= 0.0
        can = load(tile, PENDING_TIP + pending, lane, like) >= 0.0
        unseen = unseen | (present & hidden & can)
    store(tile, UNSEEN, lane, choose(unseen, 1.0, like))


@lean_kernel
def include_unseen(physics: Physics, tile: np.ndarray, keys: np.ndarray, ahead: bool) -> None:
    """Private swaps and those that arrived too late to be seen: ahead of the bundles, or behind."""
    never_inline()
    world = physics.world
    for lane in range(0, LANES, WIDTH):
        _find_unseen(tile, lane, wide())
    for lane in range(LANES):
        if tile[UNSEEN, lane] <= 0.0 or tile[world + MISSED, lane] > 0.0:
            continue
        for pending in range(PENDING):
            present = tile[PENDING_AMOUNT_IN + pending, lane] > 0.0
            if not present or tile[PENDING_VISIBLE + pending, lane] > 0.0:
                continue
            if tile[PENDING_TIP + pending, lane] < 0.0:
                continue
            # Nonces of one sender land on the same side, in order.
            root = root_nonce(tile, lane, world, pending)
            u = uniform(keys[lane], SWAP_AHEAD + root)
            if (u < physics.private_ahead_share) == ahead:
                _include_one(physics, tile, lane, pending, False)


@lean_kernel
def _execute(
    cycle_table: np.ndarray,
    weights: np.ndarray,
    token0: np.ndarray,
    token1: np.ndarray,
    world: int,
    tokens: int,
    tile: np.ndarray,
    lane: int,
    candidate: int,
    size: float,
) -> None:
    """Move reserves, loans and the tokens inside pools as a plan does; `size` as in gross_of."""
    never_inline()
    pools, cycles = token0.shape[0], cycle_table.shape[0]
    inside = book(world, tokens, INSIDE)
    if candidate >= cycles:
        loan = candidate - cycles
        pool = int(tile[LOAN_POOL + loan, lane])
        hub_first = tile[LOAN_HUB_FIRST + loan, lane] > 0.0
        row_in = RESERVES + pool + (0 if hub_first else pools)
        row_out = RESERVES + pool + (pools if hub_first else 0)
        gamma = weights[pool]
        cost = size * tile[row_in, lane] / (gamma * (tile[row_out, lane] - size))
        seized = size * tile[LOAN_PRICE + loan, lane] * (1.0 + LIQUIDATION_BONUS)
        tile[row_in, lane] += cost
        tile[row_out, lane] -= size
        tile[LOAN_DEBT + loan, lane] -= size
        tile[LOAN_COLLATERAL + loan, lane] -= seized
        borrowers = book(world, tokens, BORROWER_BOOK)
        tile[borrowers, lane] -= seized
        tile[borrowers + (token1[pool] if hub_first else token0[pool]), lane] += size
        return
    amount = size
    for hop in range(cycle_table[candidate, HOPS]):
        pool = int(cycle_table[candidate, POOL + hop])
        forward = cycle_table[candidate, ROW_IN + hop] < pools
        gamma = weights[pool]
        out = swap(tile, lane, pools, cycles, RESERVES, pool, forward, amount, gamma)
        book_inside(tile, lane, inside, token0, token1, pool, forward, amount, out)
        amount = out


@inline
def _pay(
    physics: Physics,
    tile: np.ndarray,
    lane: int,
    party: int,
    gross: float,
    payment: float,
    gas: float,
    refund: float,
) -> None:
    """The winner's books: gross profit in; the bid to validator and users; base fee burnt."""
    world = physics.world
    burnt = gas * tile[BASE_FEE, lane] * GWEI
    tip = gas * tile[OWN_TIP, lane] * GWEI
    tile[party, lane] += gross - payment - burnt - tip
    tile[world + VALIDATOR, lane] += payment * (1.0 - refund) + tip
    tile[book(world, physics.exposure.shape[0], USERS), lane] += payment * refund
    tile[world + BURNT, lane] += burnt


@inline
def _may_repay(cycles: int, tile: np.ndarray, lane: int, candidate: int, size: float) -> bool:
    """False for a loan that a liquidation earlier in the block has made healthy again."""
    if candidate < cycles:
        return True
    loan = candidate - cycles
    debt = tile[LOAN_DEBT + loan, lane]
    if not debt > 0.0:
        return False
    health = health_factor(tile[LOAN_COLLATERAL + loan, lane], debt, tile[LOAN_PRICE + loan, lane])
    return size <= closable(health) * debt


@inline
def _try(
    physics: Physics,
    tile: np.ndarray,
    lane: int,
    party: int,
    candidate: int,
    size: float,
    gross: float,
    payment: float,
    share_of: float,
    refund: float,
) -> float:
    """Execute a plan if its profit covers gas and payment; what is left, or why it is dropped.

    Rivals pay a share of what they realise: with `share_of` above 0, `payment` is for that net.
    """
    gas = own_gas(physics, candidate)
    if not _may_repay(physics.cycles.shape[0], tile, lane, candidate, size):
        return DROPPED
    realised = gross - gas_cost(tile, lane, gas)
    if share_of > 0.0:
        payment *= min(max(realised, 0.0) / share_of, 1.0)
    left = realised - payment
    # Written so that NaN drops the plan.
    if not left >= 0.0:
        return DROPPED_FOR_GAS if gross > 0.0 and realised < 0.0 else DROPPED
    token0, token1, tokens = physics.token0, physics.token1, physics.exposure.shape[0]
    _execute(
        physics.cycles,
        physics.weights,
        token0,
        token1,
        physics.world,
        tokens,
        tile,
        lane,
        candidate,
        size,
    )
    _pay(physics, tile, lane, party, gross, payment, gas, refund)
    return left


@inline
def _share_pools(physics: Physics, tile: np.ndarray, lane: int, one: int, other: int) -> bool:
    cycles = physics.cycles.shape[0]
    for i in range(3):
        a = int(physics.cycles[one, POOL + i]) if one < cycles else -2
        if one >= cycles and i == 0:
            a = int(tile[LOAN_POOL + one - cycles, lane])
        for j in range(3):
            b = int(physics.cycles[other, POOL + j]) if other < cycles else -2
            if other >= cycles and j == 0:
                b = int(tile[LOAN_POOL + other - cycles, lane])
            if a >= 0 and a == b:
                return True
    return False


@inline
def _best_response(physics: Physics, tile: np.ndarray, lane: int) -> float:
    """Most that one bid of the grid would have earned, on the state that bundles find.

    Leaves in rows GROSS what each opportunity earns on it.
    """
    step = 1 if tile[BUNDLES_TAKEN, lane] > 0.0 else COARSE_STEP
    best = 0.0
    for k in range(OPPORTUNITIES):
        candidate = int(tile[FOUND_CYCLE + k, lane])
        if candidate < 0:
            break
        net, top = tile[FOUND_NET + k, lane], tile[physics.world + TOP + k, lane]
        size = size_of(physics.cycles.shape[0], tile, lane, k)
        gross = gross_of(physics.cycles, physics.weights, tile, lane, candidate, RESERVES, size)
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
    world = physics.world
    count, bids = tile[world + LOSERS + k, lane], tile[world + LOSERS_BID + k, lane]
    if top_lost and tile[world + TOP_PUBLIC + k, lane] > 0.0:
        count += 1.0
        bids += tile[world + TOP + k, lane]
    if count <= 0.0:
        return
    share = physics.revert_gas_share
    gas = count * share * own_gas(physics, int(tile[FOUND_CYCLE + k, lane]))
    book_gas(tile, lane, world, world + RIVALS, gas, tile[OWN_TIP, lane])
    tile[world + RIVALS, lane] -= share * bids
    tile[world + VALIDATOR, lane] += share * bids


@inline
def _build(
    physics: Physics, tile: np.ndarray, lane: int, bundle: bool, result: np.ndarray
) -> float:
    """Take bundles and public transactions by payment; our profit, and `result` for ours.

    `bundle`: whether our standing bid takes part at all.
    """
    world, cycles = physics.world, physics.cycles.shape[0]
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
            bid = tile[world + TOP + k, lane]
            if tile[FOUND_CYCLE + k, lane] >= 0.0 and (done >> k) & 1 == 0 and bid > payment:
                best, payment = k, bid
        if waiting and own_payment > payment:
            waiting = False
            size = tile[STANDING_AMOUNT, lane]
            refund = own_refund if tile[STANDING_CHANNEL, lane] != PUBLIC else 0.0
            party = world + SEARCHER
            if own_k >= 0 and not blocked and size == size_of(cycles, tile, lane, own_k):
                gross = tile[GROSS + own_k, lane]
            else:
                gross = gross_of(physics.cycles, physics.weights, tile, lane, own, RESERVES, size)
            left = _try(physics, tile, lane, party, own, size, gross, own_payment, 0.0, refund)
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
        if tile[world + TOP_PUBLIC + best, lane] > 0.0:
            refund = 0.0
        size = size_of(cycles, tile, lane, best)
        party = world + RIVALS
        net = tile[FOUND_NET + best, lane]
        shares = own >= 0 and _share_pools(physics, tile, lane, own, candidate)
        gross = tile[GROSS + best, lane]
        if moved and shares:
            gross = gross_of(physics.cycles, physics.weights, tile, lane, candidate, RESERVES, size)
        left = _try(physics, tile, lane, party, candidate, size, gross, payment, net, refund)
        blocked = blocked or (shares and left >= 0.0)
        _fees_of_losers(physics, tile, lane, best, left < 0.0)
    return profit


@inline
def _settle(physics: Physics, tile: np.ndarray, lane: int, late: bool, result: np.ndarray) -> float:
    """The auction of one lane's block: our profit in ETH."""
    world = physics.world
    stands = tile[STANDING_CYCLE, lane] >= 0.0
    public = stands and tile[STANDING_CHANNEL, lane] == PUBLIC
    net = tile[world + STANDING_NET, lane]
    own_fraction = tile[STANDING_FRACTION, lane]
    if stands:
        result[NET], result[OWN_FRACTION] = net, own_fraction
    result[OUTCOME] = LATE if late and not stands else PASSED
    if tile[world + MISSED, lane] > 0.0:
        result[OUTCOME] = MISSED_SLOT if stands else result[OUTCOME]
        return 0.0
    result[BEST_RESPONSE] = _best_response(physics, tile, lane)
    takes = tile[BUNDLES_TAKEN, lane] > 0.0
    profit = _build(physics, tile, lane, stands and (public or takes), result)
    cost, burnt = tile[world + CANCEL_COST, lane], tile[world + CANCEL_BURNT, lane]
    if stands and not public and not takes:
        result[OUTCOME] = FILTERED
    if public and result[OUTCOME] != WON:
        result[CAUSE] = result[OUTCOME]
        result[OUTCOME] = REVERTED
        cost += revert_cost(physics, tile, lane)
        gas = physics.revert_gas_share * own_gas(physics, int(tile[STANDING_CYCLE, lane]))
        burnt += gas * tile[BASE_FEE, lane] * GWEI
    if cost > 0.0:
        tile[world + SEARCHER, lane] -= cost
        tile[world + VALIDATOR, lane] += cost - burnt
        tile[world + BURNT, lane] += burnt
    if stands and result[OUTCOME] != FILTERED:
        top, k = own_fraction, int(result[OPPORTUNITY])
        if k >= 0:
            top = max(tile[world + TOP + k, lane] / net, own_fraction)
        elif result[OUTCOME] != WON:
            result[OPPORTUNITY] = -1.0
        result[CLEARING_FRACTION] = top
        record_auction(tile, lane, net, own_fraction, top, result[OUTCOME] == WON)
    return profit - cost


@inline
def _at_stake(physics: Physics, tile: np.ndarray, lane: int) -> float:
    """Net profit of the best opportunity, or of the standing bid's when it was placed if more."""
    stands = tile[STANDING_CYCLE, lane] >= 0.0
    bid_on = tile[physics.world + STANDING_NET, lane] if stands else 0.0
    return max(tile[FOUND_NET, lane], bid_on)


@inline
def _reward(physics: Physics, profit: float, at_stake: float) -> float:
    """What the configured mode pays for the profit of a block, ETH; see MarketConfig.reward."""
    if physics.reward == FRACTION:
        share = profit / at_stake if at_stake > 0.0 else 0.0
        return min(max(share, -1.0), 1.0)
    if physics.reward == SQRT:
        root = np.sqrt(abs(profit) / physics.reward_scale)
        return root if profit > 0.0 else -root
    return profit


@lean_kernel
def build_blocks(
    physics: Physics,
    tile: np.ndarray,
    keys: np.ndarray,
    actions: np.ndarray,
    reward: np.ndarray,
    outcome: np.ndarray,
) -> None:
    """The last decision of a slot and its block: writes reward[lanes] and outcome[lanes].

    Order: visible swaps by priority fee, unseen swaps ahead, bundles and public arbitrages by
    payment, other unseen swaps.
    """
    never_inline()
    world = physics.world
    include_visible(physics, tile, keys)
    include_unseen(physics, tile, keys, True)
    for lane in range(LANES):
        result = outcome[lane]
        for column in range(OUTCOME_COLUMNS):
            result[column] = 0.0
        result[REGIME_NOW] = tile[world + REGIME, lane]
        result[OPPORTUNITY] = -1.0
        result[SETTLED] = 1.0
        bids = decode(actions[lane])[0] == BID
        late = bids and uniform(keys[lane], BID_LATE) < physics.late_share
        if not late:
            place(physics, tile, lane, actions[lane])
        at_stake = _at_stake(physics, tile, lane)
        result[PROFIT] = _settle(physics, tile, lane, late, result)
        reward[lane] = _reward(physics, result[PROFIT], at_stake) - tile[world + MARK, lane]
        tile[world + MARK, lane] = 0.0
        tile[world + CANCEL_COST, lane] = 0.0
        tile[world + CANCEL_BURNT, lane] = 0.0
        tile[STANDING_CYCLE, lane] = -1.0
    include_unseen(physics, tile, keys, False)
    for lane in range(LANES):
        if tile[world + MISSED, lane] <= 0.0:
            clear_included(tile, lane)
