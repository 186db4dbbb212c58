"""Other searchers: how many look at an opportunity, what they bid and what they show; and the
sandwichers, who exist here alone, so that their harm to users can be measured.

Number, rules and efficiency depend on a hidden competition regime, so that past clearing bids tell
about future ones. Rules: four in use by public searchers, and the equilibrium of a first-price
auction. Styles of public bidding: "Strategic Bidding Wars" (Wu et al. 2023, arXiv 2312.14510).
"""

from typing import Any, NamedTuple

import numpy as np

from envs.market.config import RULES, STYLES
from envs.market.flow import GWEI, SANDWICH, book, book_gas
from envs.market.physics import (
    CELLS,
    EFFICIENCY,
    HARM,
    LOSERS,
    LOSERS_BID,
    MET,
    NODE_FIRST,
    NODE_STEP,
    NODES,
    REGIME,
    SANDWICHERS,
    TOP,
    TOP_PUBLIC,
    VALIDATOR,
    Physics,
)
from envs.market.randomness import draws, uniform
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.amm import amount_out
from kernels.market.declaration import Declaration
from kernels.market.mempool import bumped
from kernels.market.observation import VALUE_CENTRE, VALUE_SCALE
from kernels.market.opportunities import candidate_gas
from kernels.market.tile import (
    BASE_FEE,
    BUNDLES_TAKEN,
    CONCENTRATED_FROM,
    FOUND_AGE,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_NET,
    FOUND_PUBLIC_BID,
    KEPT,
    LANES,
    OPPORTUNITIES,
    OWN_TIP,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_MIN_OUT,
    PENDING_POOL,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    PUBLIC,
    RESERVES,
    SCRATCH,
    SCRATCH_ROWS,
    STANDING_CHANNEL,
    STANDING_CYCLE,
    STANDING_PAYMENT,
)
from kernels.numbers.elementary import exp, ln
from kernels.numbers.lane_sets import (
    append,
    entry,
    first_bit,
    gather_entries,
    highest,
    lane_numbers,
    lanes_where,
    new_list,
)
from kernels.numbers.lanes import (
    WIDTH,
    Floats,
    Ints,
    any_lane,
    choose,
    least,
    load,
    most,
    real,
    store,
    whole,
    wide,
)

RIVALS_CHANNEL = 256  # of candidate 0; the next candidate is RIVALS_STRIDE further
RIVALS_STRIDE = 64
MAX_RIVALS = 32
MAX_LOG_RATE = 3.0  # at most 20 rivals on average, however large the value

SHARE_80, SHARE_90, CLAMPED, TRUE_VALUE, EQUILIBRIUM = 0, 1, 2, 3, 4
NAIVE, ADAPTIVE, LAST_MINUTE, STEALTH, BLUFF = 0, 1, 2, 3, 4
SEALED, ABSENT = STYLES, STYLES + 1

# Of the believed net; the clamped rule has its own formula.
_SHARE_OF_RULE: np.ndarray = np.array([0.8, 0.9, 1.0, 1.0, 1.0])
CLAMPED_SHARE = 1.25  # gross / 1.25
AGE_DECAY = 0.25  # divided by 1 + 0.25 * age
STEALTH_SHARE = 0.3  # of what a stealth bidder will bid, shown until the end
# Dividing by a small count is what costs in the Poisson loop.
_RECIPROCAL = 1.0 / np.maximum(np.arange(MAX_RIVALS + 1), 1)
SCRATCH_USE = Declaration(SCRATCH_ROWS, SCRATCH)
# Of eight opportunities at a time, side by side in the first lanes.
EACH_NET = SCRATCH_USE.row("EACH_NET", 1, "ETH", "net of an opportunity")
EACH_RATE = SCRATCH_USE.row("EACH_RATE", 1, "1", "ln of its rivals' rate at a typical value")
EACH_DRAW = SCRATCH_USE.row("EACH_DRAW", 1, "1", "what its rivals' number is drawn with")
EACH_COUNT = SCRATCH_USE.row("EACH_COUNT", 1, "rivals", "that it has")
EACH_NODE = SCRATCH_USE.row("EACH_NODE", 1, "node", "nearest to the ln of their rate")
BITS = SCRATCH_USE.row("BITS", 1, "bits", "drawn by eight rivals of one opportunity")
BIDS_OF = SCRATCH_USE.row("BIDS_OF", 1, "ETH", "their bids, before any shade")
_EIGHT_BITS = 1.0 / 256.0
_SIXTEEN_BITS = 1.0 / 65536.0


@lean_kernel
def rule_bid(
    rule: int, net: float, gross: float, gas: float, age: float, low_gwei: float, high_gwei: float
) -> float:
    """The bid in ETH of one fixed rule on what the rival believes: net and gross profit in ETH.

    80 % of net; 90 % of net; gross / 1.25, decayed by 1 / (1 + 0.25 age) and clamped as a priority
    fee over `gas` units to [low, high]; net itself, and so in equilibrium, where the belief is the
    bid. Nobody bids above the believed net.
    """
    unit = gas * GWEI
    clamped = gross / (CLAMPED_SHARE * (1.0 + AGE_DECAY * age))
    clamped = min(min(max(clamped, low_gwei * unit), high_gwei * unit), net)
    share = _SHARE_OF_RULE[rule] * net
    return choose(rule == CLAMPED, clamped, share)


@lean_kernel
def shown_bid(style: int, final: float, net: float) -> float:
    """What a public bidder shows before the end, in ETH; below 0 for nothing.

    Naive: what it will bid. Adaptive: counted apart, for it looks at the others. Last-minute:
    nothing. Stealth: a part. Bluff: the whole net, withdrawn at the end.
    """
    if style == NAIVE:
        return final
    if style == STEALTH:
        return STEALTH_SHARE * final
    return net if style == BLUFF else -1.0


@inline
def _poisson(log_rate: Floats, u: Floats) -> Floats:
    """Poisson quantile at u for the mean exp(log_rate), at most MAX_RIVALS."""
    mean = exp(least(log_rate, MAX_LOG_RATE))
    term = exp(-1.0 * mean)
    total, count = term, u * 0.0
    for next_ in range(1, MAX_RIVALS + 1):
        more = u >= total
        if not any_lane(more):
            break
        count = choose(more, float(next_), count)
        term = term * mean * _RECIPROCAL[next_]
        total = total + term
    return count


@lean_kernel
def rival_count(log_rate: float, u: float) -> int:
    """Poisson quantile at u for the mean exp(log_rate), at most MAX_RIVALS."""
    return int(_poisson(log_rate, u))


@inline
def _count_rivals(
    physics: Physics, tile: np.ndarray, keys: np.ndarray, work: Any, first: int, count: int
) -> None:
    """How many rivals WIDTH opportunities have, those listed from `first` on, and the nearest node
    of ln rate; past the end of the list the last one counts again.

    The Poisson rate grows with the value: ln rate = A + slope (ln net + 3.32) / 1.6.
    """
    like = wide()
    for place in range(WIDTH):
        item = entry(work, min(first + place, count - 1))
        lane: int = item % LANES
        k: int = item // LANES
        candidate = int(tile[FOUND_CYCLE + k, lane])
        regime = int(tile[physics.world_row + REGIME, lane])
        tile[EACH_NET, place] = tile[FOUND_NET + k, lane]
        tile[EACH_RATE, place] = physics.rival_log_rate[regime]
        tile[EACH_DRAW, place] = uniform(keys[lane], RIVALS_CHANNEL + candidate * RIVALS_STRIDE)
    log_rate = load(tile, EACH_RATE, 0, like)
    net = load(tile, EACH_NET, 0, like)
    log_rate += physics.value_slope * ((ln(net) - VALUE_CENTRE) / VALUE_SCALE)
    store(tile, EACH_COUNT, 0, _poisson(log_rate, load(tile, EACH_DRAW, 0, like)))
    node = (least(log_rate, MAX_LOG_RATE) - NODE_FIRST) / NODE_STEP + 0.5
    store(tile, EACH_NODE, 0, least(most(node, 0.0), NODES - 1.0))


@inline
def _style(physics: Physics, bits: int, local: bool) -> int:
    """How a rival bids: sealed, or in public by one of the styles.

    When the proposer builds alone there is no sealed channel: some of the sealed come at the end.
    """
    u = (bits & 0xFF) * _EIGHT_BITS
    if u >= physics.public_share:
        if not local:
            return SEALED
        came = u - physics.public_share < physics.local_share * (1.0 - physics.public_share)
        return LAST_MINUTE if came else ABSENT
    u /= physics.public_share
    style = 0
    while style < STYLES - 1 and u >= physics.style_cdf[style]:
        style += 1
    return style


class Belief(NamedTuple):
    """What eight rivals bid on: an opportunity in a regime."""

    regime: int
    equilibrium: int  # row of the quantile table for the equilibrium bids at its rate
    net: float  # ETH
    gross: float  # ETH
    gas: float
    age: float  # slots


@inline
def _bids(physics: Physics, belief: Belief, bits: Ints, like: Floats) -> Floats:
    """`rule_bid` of a rival per lane, before any shade. Bits: 8 rule, 8 style, 16 efficiency."""
    # Counted, not searched: nobody can guess where a search will end.
    u, rule = real(bits & 0xFF) * _EIGHT_BITS, like
    for other in range(RULES - 1):
        rule += choose(u >= physics.rule_cdf[belief.regime, other], 1.0, like)
    usual = whole(like) + (EFFICIENCY + belief.regime)
    row = choose(rule == EQUILIBRIUM, whole(like) + belief.equilibrium, usual)
    x = real(bits >> 16) * _SIXTEEN_BITS * CELLS
    cell = whole(x)
    low = gather_entries(physics.quantiles, row, cell)
    efficiency = low + (x - real(cell)) * (gather_entries(physics.quantiles, row, cell + 1) - low)
    net, gross = efficiency * belief.net, efficiency * belief.gross
    unit = belief.gas * GWEI
    clamped = gross / (CLAMPED_SHARE * (1.0 + AGE_DECAY * belief.age))
    clamped = most(clamped, physics.clamp_gwei_low * unit)
    clamped = least(least(clamped, physics.clamp_gwei_high * unit), net)
    share = choose(rule == SHARE_80, 0.8, choose(rule == SHARE_90, 0.9, like + 1.0)) * net
    return choose(rule == CLAMPED, clamped, share)


@inline
def _meet(
    physics: Physics, tile: np.ndarray, lane: int, k: int, key: np.uint64, count: int, node: int
) -> None:
    """Draw the `count` rivals of opportunity k, whose ln rate is nearest to `node`: notes the
    highest bid, the losers, what is shown. The same candidate meets the same rivals all slot long.

    A rival of efficiency e believes that net is e times what it is.
    """
    world_row = physics.world_row
    net, gross = tile[FOUND_NET + k, lane], tile[FOUND_GROSS + k, lane]
    age, candidate = tile[FOUND_AGE + k, lane], int(tile[FOUND_CYCLE + k, lane])
    channel = RIVALS_CHANNEL + candidate * RIVALS_STRIDE
    cycles, pools = physics.cycles.shape[0], physics.token0.shape[0]
    gas = candidate_gas(physics.weights, pools, cycles, candidate)
    local = tile[BUNDLES_TAKEN, lane] <= 0.0
    regime = int(tile[world_row + REGIME, lane])
    equilibrium = EFFICIENCY + physics.rival_log_rate.shape[0] + regime * NODES + node
    best, best_public, shown, losers, losers_bid = -1.0, False, 0.0, 0.0, 0.0
    adaptive, rival = -1.0, 0
    like = wide()
    numbers, belief = lane_numbers(like), Belief(regime, equilibrium, net, gross, gas, age)
    words = whole(like) + np.int64(key)
    while rival < count:
        # Eight rivals at once.
        bits = draws(words, numbers + (channel + 1 + rival))
        bids = _bids(physics, belief, bits, like)
        present = numbers < count - rival
        open_share = 2.0 if local else physics.public_share
        sealed = present & (real((bits >> 8) & 0xFF) * _EIGHT_BITS >= open_share)
        highest_sealed = highest(choose(sealed, bids, like - 1.0))
        # One by one those who do not bid sealed.
        others = lanes_where(present) & ~lanes_where(sealed)
        if others != 0:
            store(tile, BITS, 0, real(bits))
            store(tile, BIDS_OF, 0, bids)
        first_sealed = first_bit(256 | lanes_where(sealed & (bids == highest_sealed)))
        while others != 0:
            place = first_bit(others)
            others &= others - 1
            if first_sealed < place and highest_sealed > best:
                best, best_public = highest_sealed, False
            bid = tile[BIDS_OF, place]
            style = _style(physics, int(tile[BITS, place]) >> 8, local)
            if style == ABSENT:
                continue
            bid *= physics.local_shade if local else 1.0
            if style == ADAPTIVE:
                # Only the strongest of them matters: the others stop below its bid.
                losers += 1.0 if adaptive >= 0.0 else 0.0
                losers_bid += min(adaptive, bid) if adaptive >= 0.0 else 0.0
                adaptive = max(adaptive, bid)
                continue
            losers += 1.0
            losers_bid += bid
            shown = max(shown, shown_bid(style, bid, net))
            best_public = True if bid > best else best_public
            best = max(best, bid)
        best_public = best_public and highest_sealed <= best
        best = max(best, highest_sealed)
        rival += WIDTH
    if adaptive >= 0.0:
        own = 0.0
        if int(tile[STANDING_CYCLE, lane]) == candidate and tile[STANDING_CHANNEL, lane] == PUBLIC:
            own = tile[STANDING_PAYMENT, lane]
        # A tenth above what it sees, from half of its limit on, never above the limit.
        final = min(adaptive, max(bumped(max(shown, own), 0.0), 0.5 * adaptive))
        losers += 1.0
        losers_bid += final
        best_public = True if final > best else best_public
        best = max(best, final)
        shown = max(shown, final)
    # The winner is no loser.
    tile[world_row + LOSERS + k, lane] = losers - (1.0 if best_public else 0.0)
    tile[world_row + LOSERS_BID + k, lane] = losers_bid - (best if best_public else 0.0)
    tile[world_row + TOP + k, lane] = best
    tile[world_row + TOP_PUBLIC + k, lane] = 1.0 if best_public else 0.0
    tile[FOUND_PUBLIC_BID + k, lane] = shown / net


@inline
def _meet_all(physics: Physics, tile: np.ndarray, lane: int, keys: np.ndarray) -> None:
    """`meet_rivals` in WIDTH lanes."""
    work, count, like = new_list(), 0, wide()
    met = physics.world_row + MET
    open_ = (load(tile, KEPT, lane, like) <= 0.0) | (load(tile, met, lane, like) <= 0.0)
    store(tile, met, lane, like + 1.0)
    for k in range(OPPORTUNITIES):
        there = load(tile, FOUND_CYCLE + k, lane, like) >= 0.0
        top = physics.world_row + TOP + k
        store(tile, top, lane, choose(there, load(tile, top, lane, like), -1.0))
        count = append(work, count, lane_numbers(like) + (lane + k * LANES), open_ & there)
    for first in range(0, count, WIDTH):
        _count_rivals(physics, tile, keys, work, first, count)
        for index in range(first, min(first + WIDTH, count)):
            item = entry(work, index)
            one: int = item % LANES
            rivals, node = int(tile[EACH_COUNT, index - first]), int(tile[EACH_NODE, index - first])
            _meet(physics, tile, one, item // LANES, keys[one], rivals, node)


@lean_kernel
def meet_rivals(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """Who else bids on the opportunities found, as if the block were built now.

    Writes TOP, TOP_PUBLIC, LOSERS and LOSERS_BID (hidden), and FOUND_PUBLIC_BID.
    """
    never_inline()
    for lane in range(0, LANES, WIDTH):
        _meet_all(physics, tile, lane, keys)


@inline
def front_run(amount: float, least: float, reserve: float, product: float, gamma: float) -> float:
    """Input that leaves a victim selling `amount` just its minimum output; 0 without room.

    After the reserve has grown to y, the victim gets gamma a k / (y (y + gamma a)) at least.
    """
    paid = gamma * amount
    y = 0.5 * (np.sqrt(paid * paid + 4.0 * paid * product / least) - paid)
    return max(y - reserve, 0.0)


@inline
def sandwiched(physics: Physics, tile: np.ndarray, lane: int, key: np.uint64) -> int:
    """The visible swap that a sandwicher watches in this slot, -1 for none.

    Each swap has the same chance, `sandwich_share`; only sales of the hub into constant-product
    pools are worth it here, so that the profit is in ETH.
    """
    u = uniform(key, SANDWICH)
    if u >= physics.sandwich_share * PENDING:
        return -1
    swap = int(u / physics.sandwich_share) if physics.sandwich_share > 0.0 else 0
    swap = min(swap, PENDING - 1)
    pool = int(tile[PENDING_POOL + swap, lane])
    sells0 = tile[PENDING_ZERO_FOR_ONE + swap, lane] > 0.0
    sold = physics.token0[pool] if sells0 else physics.token1[pool]
    worth = (
        tile[PENDING_VISIBLE + swap, lane] > 0.0
        and tile[PENDING_AMOUNT_OUT + swap, lane] > 0.0
        and tile[PENDING_MIN_OUT + swap, lane] > 0.0
        and pool < int(tile[CONCENTRATED_FROM, lane])
        and sold == 0
    )
    return swap if worth else -1


@inline
def sandwich(physics: Physics, tile: np.ndarray, lane: int, swap: int) -> float:
    """Execute [front-run, victim, back-run]; what the victim gets, or -1 when it does not pay.

    The sandwicher keeps a fifth of the profit, as the 80 % rule has it; the rest is its bid.
    """
    world_row, pools = physics.world_row, physics.token0.shape[0]
    pool = int(tile[PENDING_POOL + swap, lane])
    forward = tile[PENDING_ZERO_FOR_ONE + swap, lane] > 0.0
    gamma = physics.weights[pool]
    row_in = RESERVES + pool + (0 if forward else pools)
    row_out = RESERVES + pool + (pools if forward else 0)
    amount, least = tile[PENDING_AMOUNT_IN + swap, lane], tile[PENDING_MIN_OUT + swap, lane]
    reserve_in, reserve_out = tile[row_in, lane], tile[row_out, lane]
    front = front_run(amount, least, reserve_in, reserve_in * reserve_out, gamma)
    if front <= 0.0:
        return -1.0
    bought = amount_out(front, reserve_in, reserve_out, gamma)
    in_, out = reserve_in + front, reserve_out - bought
    victim = amount_out(amount, in_, out, gamma)
    in_, out = in_ + amount, out - victim
    back = amount_out(bought, out, in_, gamma)
    gas = 2.0 * physics.swap_gas * (tile[BASE_FEE, lane] + tile[OWN_TIP, lane]) * GWEI
    profit = back - front - gas
    if profit <= 0.0 or victim < least:
        return -1.0
    tile[row_in, lane] = in_ - back
    tile[row_out, lane] = out + bought
    bid = 0.8 * profit
    tile[world_row + SANDWICHERS, lane] += back - front - bid
    tile[world_row + VALIDATOR, lane] += bid
    book_gas(
        tile, lane, world_row, world_row + SANDWICHERS, 2.0 * physics.swap_gas, tile[OWN_TIP, lane]
    )
    token_out = physics.token1[pool] if forward else physics.token0[pool]
    price = tile[book(world_row, physics.exposure.shape[0], 0) + token_out, lane]
    harm = (tile[PENDING_AMOUNT_OUT + swap, lane] - victim) * price
    tile[world_row + HARM, lane] += harm
    return victim
