"""Arbitrages and liquidations in a block: executed when they pay, and who gets the money."""

import numpy as np

from envs.market.bidding import gas_cost, own_gas
from envs.market.flow import (
    GWEI,
    book,
    book_inside,
)
from envs.market.physics import (
    BORROWER_BOOK,
    BURNT,
    INSIDE,
    USERS,
    VALIDATOR,
    Physics,
)
from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph.market_graph import HOPS, POOL, ROW_IN
from kernels.market.lending import LIQUIDATION_BONUS, closable, health_factor
from kernels.market.tile import (
    BASE_FEE,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    OWN_TIP,
    RESERVES,
    swap,
)

DROPPED, DROPPED_FOR_GAS = -1.0, -2.0  # what run_plan answers instead of a profit


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
def run_plan(
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
def share_pools(physics: Physics, tile: np.ndarray, lane: int, one: int, other: int) -> bool:
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
