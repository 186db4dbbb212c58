"""Users' swaps between sending and inclusion: arrivals, fee caps, replacements, nonces, expiry, and
what of them the agent can see at each decision.

Arrivals are a Hawkes process with an exponential kernel, simulated exactly (Dassios, Zhao 2013).
"""

import numpy as np

from envs.market.flow import (
    ARRIVAL,
    REPLACEMENT,
    SWAP_CARE,
    SWAP_KIND,
    SWAP_SIZE,
    SWAP_TIP,
)
from envs.market.paths import SLOTS_PER_MINUTE, RecordedFlow
from envs.market.physics import (
    EXCITEMENT,
    MINUTE,
    PRICE,
    PRIVATE_SWAP,
    PUBLIC_SWAP,
    REFUND_SWAP,
    REGIME,
    SIZE,
    SLOT_S,
    STEP,
    TICK_INDEX,
    TIP,
    WAITING_AFTER,
    WAITING_CAP,
    WAITING_EXPIRY,
    WAITING_KIND,
    WAITING_SEEN,
    WAITING_TIP,
    Physics,
    rows_of,
)
from envs.market.randomness import draw, quantile, uniform, uniforms
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.amm import head_state, quote
from kernels.market.declaration import Declaration
from kernels.market.mempool import bumped, effective_tip, waiting_tip
from kernels.market.tile import (
    BASE_FEE,
    KEPT,
    LANES,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_MIN_OUT,
    PENDING_POOL,
    PENDING_REFUND,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    SCRATCH,
    SCRATCH_ROWS,
    SLOT,
    TICK,
)
from kernels.numbers.elementary import exp, ln
from kernels.numbers.lanes import (
    WIDTH,
    Floats,
    any_lane,
    choose,
    load,
    load_words,
    most,
    store,
    whole,
    wide,
)

MAX_ARRIVALS = 16  # per slot; more are not even drawn
SCRATCH_USE = Declaration(SCRATCH_ROWS, SCRATCH)
COUNT = SCRATCH_USE.row("COUNT", 1, "swaps", "sent in this slot")
CALM = SCRATCH_USE.row("CALM", 1, "swaps/s", "EXCITEMENT at the start of the slot")
TIMES = SCRATCH_USE.row("TIMES", MAX_ARRIVALS, "s", "of the slot at which they are sent")
# A wallet's fee cap: twice the base fee plus the tip; impatient ones lie near the base fee.
USUAL_CAP, LOW_CAP, LOW_CAP_SPREAD = 2.0, 0.9, 0.3
NONCE = ARRIVAL + 2 * MAX_ARRIVALS  # [M] channels
SMALLEST = 2.0**-33
_TO_UNIT16 = 1.0 / 65536.0
_TO_UNIT15 = 1.0 / 32768.0
_TO_UNIT10 = 1.0 / 1024.0


@inline
def _forget(tile: np.ndarray, lane: int, first: int) -> None:
    """Nothing is pending from index `first` on; what else their rows hold no longer counts."""
    for swap in range(first, PENDING):
        tile[PENDING_AMOUNT_IN + swap, lane] = 0.0


@inline
def _move(tile: np.ndarray, lane: int, world_row: int, source: int, target: int) -> None:
    for row in (PENDING_POOL, PENDING_ZERO_FOR_ONE, PENDING_AMOUNT_IN, PENDING_MIN_OUT):
        tile[row + target, lane] = tile[row + source, lane]
    for row in (WAITING_CAP, WAITING_TIP, WAITING_EXPIRY, WAITING_KIND):
        tile[world_row + row + target, lane] = tile[world_row + row + source, lane]


@inline
def _keep_waiting(tile: np.ndarray, lane: int, world_row: int) -> int:
    """Move what still waits to the front, in order of arrival; how many do."""
    kept = 0
    # Where a kept swap went, base 16 digit by digit: index of the earlier nonce after the move.
    moved = np.int64(0)
    for swap in range(PENDING):
        if tile[PENDING_AMOUNT_IN + swap, lane] <= 0.0:
            continue
        if tile[world_row + WAITING_EXPIRY + swap, lane] < tile[SLOT, lane]:
            continue
        after = int(tile[world_row + WAITING_AFTER + swap, lane])
        # The digit is 0 when the earlier nonce has left: nothing to wait for any more.
        place = int((moved >> (4 * after)) & 15) - 1 if after >= 0 else -1
        _move(tile, lane, world_row, swap, kept)
        tile[world_row + WAITING_AFTER + kept, lane] = place
        tile[world_row + WAITING_SEEN + kept, lane] = -1.0
        moved |= np.int64(kept + 1) << (4 * swap)
        kept += 1
    return kept


@inline
def _replace(physics: Physics, tile: np.ndarray, lane: int, kept: int, key: np.uint64) -> None:
    """The first sender who waits in public may raise both fees by at least 10 %."""
    u = uniform(key, REPLACEMENT)
    if kept == 0 or u >= physics.replace_share:
        return
    world_row = physics.world_row
    if tile[world_row + WAITING_KIND, lane] != PUBLIC_SWAP:
        return
    wanted = USUAL_CAP * tile[BASE_FEE, lane] + tile[world_row + WAITING_TIP, lane]
    cap, tip = tile[world_row + WAITING_CAP, lane], tile[world_row + WAITING_TIP, lane]
    tile[world_row + WAITING_CAP, lane] = bumped(cap, wanted)
    tile[world_row + WAITING_TIP, lane] = bumped(tip, tip)


@inline
def _arrival_times(
    physics: Physics, tile: np.ndarray, lane: int, keys: np.ndarray, like: Floats
) -> None:
    """Rows TIMES and COUNT: when users send in this slot; row EXCITEMENT at its end.

    The rate is the usual one plus a decaying excitement, so the next swap comes at the earlier of
    two independent times, the latter of which may never come.
    """
    words, decay = load_words(keys, lane, like), physics.excitement_decay
    row = physics.world_row + EXCITEMENT
    excitement, now, count = load(tile, row, lane, like), like, like
    goes_on = like == 0.0
    for index in range(MAX_ARRIVALS):
        channel = whole(like) + (ARRIVAL + 2 * index)
        usual = ln(most(uniforms(words, channel), SMALLEST)) * (-1.0 * physics.immigrant_wait)
        # What is left of the excitement after the time of either.
        left = exp(-decay * usual)
        drawn = ln(most(uniforms(words, channel + 1), SMALLEST))
        sooner = choose(excitement > 0.0, 1.0 + decay * drawn / excitement, 0.0)
        excited = sooner > left
        later = now + choose(excited, ln(most(sooner, SMALLEST)) / (-1.0 * decay), usual)
        goes_on = goes_on & (later < SLOT_S)
        if not any_lane(goes_on):
            break
        now = choose(goes_on, later, now)
        excited_now = excitement * choose(excited, sooner, left) + physics.excitement
        excitement = choose(goes_on, excited_now, excitement)
        count += choose(goes_on, 1.0, like)
        store(tile, TIMES + index, lane, now)
    store(tile, COUNT, lane, count)
    store(tile, row, lane, excitement * exp(-decay * (SLOT_S - now)))


@inline
def _chosen_pool(physics: Physics, bits: int) -> int:
    """The pool of a user's swap, out of 16 bits."""
    pools, weighted = physics.token0.shape[0], physics.pool_cdf.shape[0]
    if weighted == 0:
        return (bits * pools) >> 16
    u, low, high = bits * _TO_UNIT16, 0, weighted - 1
    while low < high:
        middle = (low + high) >> 1
        if u < physics.pool_cdf[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@inline
def _arrive(
    physics: Physics, tile: np.ndarray, lane: int, swap: int, time_s: float, key: np.uint64
) -> None:
    """Fill pending index `swap` with a new user: pool, side, size, limits, fees, channel."""
    world_row, pools = physics.world_row, physics.token0.shape[0]
    # One draw serves three choices: 16 bits the pool, 15 the channel, 1 the direction.
    bits = int(draw(key, SWAP_KIND + swap))
    pool = _chosen_pool(physics, bits >> 16)
    forward = bits & 1
    hidden = ((bits >> 1) & 0x7FFF) * _TO_UNIT15
    kind = PUBLIC_SWAP
    if hidden < physics.private_share:
        auctioned = hidden < physics.private_share * physics.refund_share
        kind = REFUND_SWAP if auctioned else PRIVATE_SWAP
    scale = physics.size_factor[int(tile[world_row + REGIME, lane])]
    share = scale * quantile(physics.quantiles, SIZE, uniform(key, SWAP_SIZE + swap))
    reserve = tile[RESERVES + pool + (0 if forward else pools), lane]
    if physics.sizes_in_eth > 0:
        sold = physics.token0[pool] if forward else physics.token1[pool]
        share *= physics.size_scale[pool] / (tile[world_row + PRICE + sold, lane] * reserve)
    amount = min(share, physics.size_max) * reserve
    # Another: 10 bits each for the fee cap, the tolerance and the delay.
    care = int(draw(key, SWAP_CARE + swap))
    patience = (care & 1023) * _TO_UNIT10
    tolerance = ((care >> 10) & 1023) * _TO_UNIT10
    delay = ((care >> 20) & 1023) * _TO_UNIT10
    width = physics.slippage_high - physics.slippage_low
    least = 1.0 - physics.slippage_low - width * tolerance
    gamma = float(physics.weights[pool])
    quoted = quote(head_state(tile, rows_of(physics)), lane, pool, forward == 1, amount, gamma)
    tip = quantile(physics.quantiles, TIP, uniform(key, SWAP_TIP + swap))
    fee = tile[BASE_FEE, lane]
    cap = USUAL_CAP * fee + tip
    if patience < physics.low_cap_share:
        cap = fee * (LOW_CAP + LOW_CAP_SPREAD * patience / physics.low_cap_share) + tip
    tile[PENDING_POOL + swap, lane] = pool
    tile[PENDING_ZERO_FOR_ONE + swap, lane] = forward
    tile[PENDING_AMOUNT_IN + swap, lane] = amount
    tile[PENDING_MIN_OUT + swap, lane] = quoted * least
    tile[world_row + WAITING_CAP + swap, lane] = cap
    tile[world_row + WAITING_TIP + swap, lane] = tip
    tile[world_row + WAITING_SEEN + swap, lane] = time_s + 2.0 * physics.visibility_delay_s * delay
    tile[world_row + WAITING_EXPIRY + swap, lane] = tile[SLOT, lane] + physics.deadline_slots - 1.0
    tile[world_row + WAITING_KIND + swap, lane] = kind
    tile[world_row + WAITING_AFTER + swap, lane] = -1.0
    # The sender of the swap before may send another: same side of the mempool, next nonce.
    if swap > 0 and uniform(key, NONCE + swap) < physics.nonce_share:
        tile[world_row + WAITING_KIND + swap, lane] = tile[
            world_row + WAITING_KIND + swap - 1, lane
        ]
        tile[world_row + WAITING_AFTER + swap, lane] = swap - 1


@inline
def _arrive_recorded(
    physics: Physics, recorded: RecordedFlow, tile: np.ndarray, lane: int, kept: int
) -> int:
    """Fill pending indices from `kept` on with the slot's recorded swaps; how many then wait."""
    world_row = physics.world_row
    minute, step = int(tile[world_row + MINUTE, lane]), int(tile[world_row + STEP, lane])
    slot = minute * SLOTS_PER_MINUTE + step
    for at in range(recorded.swap_start[slot], recorded.swap_start[slot + 1]):
        if kept == PENDING:
            break
        tile[PENDING_POOL + kept, lane] = recorded.swap_pool[at]
        tile[PENDING_ZERO_FOR_ONE + kept, lane] = recorded.swap_zero_for_one[at]
        tile[PENDING_AMOUNT_IN + kept, lane] = recorded.swap_amount_in[at]
        tile[PENDING_MIN_OUT + kept, lane] = recorded.swap_min_out[at]
        tile[world_row + WAITING_CAP + kept, lane] = recorded.swap_cap_gwei[at]
        tile[world_row + WAITING_TIP + kept, lane] = recorded.swap_tip_gwei[at]
        tile[world_row + WAITING_SEEN + kept, lane] = recorded.swap_seen_s[at]
        tile[world_row + WAITING_EXPIRY + kept, lane] = (
            tile[SLOT, lane] + physics.deadline_slots - 1.0
        )
        tile[world_row + WAITING_KIND + kept, lane] = recorded.swap_kind[at]
        tile[world_row + WAITING_AFTER + kept, lane] = -1.0
        kept += 1
    return kept


@inline
def _receive_drawn(physics: Physics, tile: np.ndarray, lane: int, kept: int, key: np.uint64) -> int:
    """Fill pending indices from `kept` on with the users of the slot; how many then wait."""
    for index in range(int(tile[COUNT, lane])):
        if kept == PENDING:
            break
        _arrive(physics, tile, lane, kept, tile[TIMES + index, lane], key)
        kept += 1
    return kept


@lean_kernel
def receive(
    physics: Physics,
    recorded: RecordedFlow,
    tile: np.ndarray,
    keys: np.ndarray,
    lanes: np.ndarray,
    everywhere: bool,
) -> None:
    """What waits at the start of a slot, and everything that arrives during it, in the lanes where
    bool `lanes` says so, or everywhere.

    A swap that finds no room among PENDING goes elsewhere, but excites others all the same.
    """
    never_inline()
    drawn = recorded.swap_start.shape[0] == 0
    for lane in range(LANES):
        tile[CALM, lane] = tile[physics.world_row + EXCITEMENT, lane]
    if drawn:
        for lane in range(0, LANES, WIDTH):
            _arrival_times(physics, tile, lane, keys, wide())
    for lane in range(LANES):
        if not (everywhere or lanes[lane]):
            tile[physics.world_row + EXCITEMENT, lane] = tile[CALM, lane]
            continue
        kept = _keep_waiting(tile, lane, physics.world_row)
        _replace(physics, tile, lane, kept, keys[lane])
        if drawn:
            kept = _receive_drawn(physics, tile, lane, kept, keys[lane])
        else:
            kept = _arrive_recorded(physics, recorded, tile, lane, kept)
        _forget(tile, lane, kept)


@inline
def _show(physics: Physics, tile: np.ndarray, lane: int, like: Floats) -> None:
    world_row = physics.world_row
    now = SLOT_S * (load(tile, world_row + TICK_INDEX, lane, like) + 1.0) / physics.ticks_per_slot
    now -= physics.decision_lead_s
    store(tile, TICK, lane, now / SLOT_S)
    base_fee = load(tile, BASE_FEE, lane, like)
    kept = load(tile, KEPT, lane, like) > 0.0
    for swap in range(PENDING):
        before = load(tile, PENDING_VISIBLE + swap, lane, like)
        cap = load(tile, world_row + WAITING_CAP + swap, lane, like)
        tip = effective_tip(cap, load(tile, world_row + WAITING_TIP + swap, lane, like), base_fee)
        kind = load(tile, world_row + WAITING_KIND + swap, lane, like)
        seen = (load(tile, world_row + WAITING_SEEN + swap, lane, like) <= now) & (
            kind != PRIVATE_SWAP
        )
        present = load(tile, PENDING_AMOUNT_IN + swap, lane, like) > 0.0
        visible = present & seen & (tip >= 0.0)
        store(tile, PENDING_TIP + swap, lane, choose(present, tip, 0.0))
        store(tile, PENDING_VISIBLE + swap, lane, choose(visible, 1.0, 0.0))
        store(tile, PENDING_REFUND + swap, lane, choose(present & (kind == REFUND_SWAP), 1.0, 0.0))
        after = load(tile, world_row + WAITING_AFTER + swap, lane, like)
        if any_lane(present & (after >= 0.0)):
            for one in range(lane, lane + WIDTH):
                _wait_for_earlier(tile, one, world_row, swap)
        kept = kept & (load(tile, PENDING_VISIBLE + swap, lane, like) == before)
    store(tile, KEPT, lane, choose(kept, 1.0, like))


@inline
def _wait_for_earlier(tile: np.ndarray, lane: int, world_row: int, swap: int) -> None:
    """A swap is hidden, and left out by blocks, as long as the earlier nonce of its sender is."""
    after = int(tile[world_row + WAITING_AFTER + swap, lane])
    if after < 0 or tile[PENDING_AMOUNT_IN + swap, lane] <= 0.0:
        return
    tip = waiting_tip(tile[PENDING_TIP + swap, lane], tile[PENDING_TIP + after, lane])
    tile[PENDING_TIP + swap, lane] = tip
    if tip < 0.0 or tile[PENDING_VISIBLE + after, lane] <= 0.0:
        tile[PENDING_VISIBLE + swap, lane] = 0.0


@lean_kernel
def show_pending(physics: Physics, tile: np.ndarray) -> None:
    """What can be included at the present base fee, and what of it the mempool shows by now.

    Writes PENDING_TIP (-1 when a block cannot take the swap), PENDING_VISIBLE, PENDING_REFUND,
    TICK, and KEPT: of the lanes where it is set, it stays so where the mempool shows no more.
    """
    never_inline()
    for lane in range(0, LANES, WIDTH):
        _show(physics, tile, lane, wide())


@inline
def root_nonce(tile: np.ndarray, lane: int, world_row: int, swap: int) -> int:
    """Index of the first nonce that a swap waits for, itself without one."""
    after = int(tile[world_row + WAITING_AFTER + swap, lane])
    while after >= 0:
        swap = after
        after = int(tile[world_row + WAITING_AFTER + swap, lane])
    return swap


@inline
def clear_included(tile: np.ndarray, lane: int) -> None:
    """A block has taken everything that it could."""
    for swap in range(PENDING):
        if tile[PENDING_TIP + swap, lane] >= 0.0:
            tile[PENDING_AMOUNT_IN + swap, lane] = 0.0


@inline
def clear_pending(physics: Physics, tile: np.ndarray, lane: int) -> None:
    """An empty mempool, calm."""
    _forget(tile, lane, 0)
    tile[physics.world_row + EXCITEMENT, lane] = 0.0
    for swap in range(PENDING):
        tile[physics.world_row + WAITING_AFTER + swap, lane] = -1.0
