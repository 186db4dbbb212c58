"""Users' swaps in a block: the visible ones by priority fee, and those that nobody saw coming."""

import numpy as np

from envs.market.flow import (
    GWEI,
    SWAP_AHEAD,
    book,
    book_gas,
    book_swap,
    ledger_of,
    user_volume,
)
from envs.market.mempool import root_nonce
from envs.market.physics import (
    BURNT,
    MISSED,
    USER_VOLUME,
    USERS,
    VALIDATOR,
    Physics,
    rows_of,
)
from envs.market.randomness import uniform
from envs.market.rivals import sandwich, sandwiched
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.amm import head_state, quote, swap
from kernels.market.declaration import Declaration
from kernels.market.tile import (
    BASE_FEE,
    CONCENTRATED_FROM,
    CONCENTRATED_ROWS,
    LANES,
    OVERLAY_SEGMENT,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_MIN_OUT,
    PENDING_ORDER,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    SCRATCH,
    SCRATCH_ROWS,
    SEGMENT,
)
from kernels.numbers.lanes import WIDTH, Floats, choose, load, store, wide

SCRATCH_USE = Declaration(SCRATCH_ROWS, SCRATCH)
WHOLE = SCRATCH_USE.row("WHOLE", 1, "0/1", "1 when the block takes the overlay, see _take_overlay")
UNSEEN = SCRATCH_USE.row("UNSEEN", 1, "0/1", "1 when it can take a swap that is not visible")


@inline
def _include_one(physics: Physics, tile: np.ndarray, lane: int, pending: int, victim: bool) -> None:
    """Execute one pending swap on the reserves, or let it revert; book tokens and gas."""
    world_row, state = physics.world_row, head_state(tile, rows_of(physics))
    users = book(world_row, physics.exposure.shape[0], USERS)
    amount = tile[PENDING_AMOUNT_IN + pending, lane]
    pool = int(tile[PENDING_POOL + pending, lane])
    forward = tile[PENDING_ZERO_FOR_ONE + pending, lane] > 0.0
    gamma, least = physics.weights[pool], tile[PENDING_MIN_OUT + pending, lane]
    out = -1.0
    if victim:
        out = sandwich(physics, tile, lane, pending)
    if out < 0.0:
        out = quote(state, lane, pool, forward, amount, gamma)
        if out < least:
            out = 0.0
        else:
            out = swap(state, lane, pool, forward, amount, gamma)
    if out > 0.0:
        book_swap(ledger_of(physics, tile), lane, users, pool, forward, amount, out)
        volume = user_volume(physics, tile, lane, pool, forward, amount)
        tile[world_row + USER_VOLUME, lane] += volume
    tip = tile[PENDING_TIP + pending, lane]
    book_gas(tile, lane, world_row, users, physics.swap_gas, tip)


@inline
def _take_overlay(physics: Physics, tile: np.ndarray, lane: int, like: Floats) -> None:
    """Where row WHOLE says so the block leaves the pools as the overlay has them."""
    rows = rows_of(physics)
    whole_ = load(tile, WHOLE, lane, like) > 0.0
    for row in range(RESERVES, rows.overlay):
        after = load(tile, row + 4 * rows.pools, lane, like)
        store(tile, row, lane, choose(whole_, after, load(tile, row, lane, like)))
    for index in range(rows.pools - int(tile[CONCENTRATED_FROM, lane])):
        row = rows.concentrated + CONCENTRATED_ROWS * index + SEGMENT
        after = load(tile, row + OVERLAY_SEGMENT - SEGMENT, lane, like)
        store(tile, row, lane, choose(whole_, after, load(tile, row, lane, like)))


@inline
def _book_visible(physics: Physics, tile: np.ndarray, lane: int) -> None:
    """Tokens, volume and gas of the visible swaps, as the overlay computed them."""
    world_row, ledger = physics.world_row, ledger_of(physics, tile)
    users = book(world_row, physics.exposure.shape[0], USERS)
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
            book_swap(ledger, lane, users, pool, forward, amount, out)
            volume += user_volume(physics, tile, lane, pool, forward, amount)
    tile[world_row + USER_VOLUME, lane] += volume
    burnt = gas * tile[BASE_FEE, lane] * GWEI
    tile[users, lane] -= burnt + tips * GWEI
    tile[world_row + BURNT, lane] += burnt
    tile[world_row + VALIDATOR, lane] += tips * GWEI


@lean_kernel
def include_visible(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """The visible swaps by priority fee: as the overlay computed them, unless one is sandwiched."""
    never_inline()
    world_row = physics.world_row
    for lane in range(LANES):
        tile[WHOLE, lane] = 0.0
        if tile[world_row + MISSED, lane] > 0.0:
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
    world_row = physics.world_row
    for lane in range(0, LANES, WIDTH):
        _find_unseen(tile, lane, wide())
    for lane in range(LANES):
        if tile[UNSEEN, lane] <= 0.0 or tile[world_row + MISSED, lane] > 0.0:
            continue
        for pending in range(PENDING):
            present = tile[PENDING_AMOUNT_IN + pending, lane] > 0.0
            if not present or tile[PENDING_VISIBLE + pending, lane] > 0.0:
                continue
            if tile[PENDING_TIP + pending, lane] < 0.0:
                continue
            # Nonces of one sender land on the same side, in order.
            root = root_nonce(tile, lane, world_row, pending)
            u = uniform(keys[lane], SWAP_AHEAD + root)
            if (u < physics.private_ahead_share) == ahead:
                _include_one(physics, tile, lane, pending, False)
