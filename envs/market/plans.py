"""Arbitrages and liquidations in a block: executed when they pay, and who gets the money."""

from typing import NamedTuple

import numpy as np

from envs.market.bidding import gas_cost, own_gas
from envs.market.flow import (
    GWEI,
    Ledger,
    book,
    book_inside,
    ledger_of,
)
from envs.market.physics import (
    BORROWER_BOOK,
    BURNT,
    USERS,
    VALIDATOR,
    Physics,
    rows_of,
)
from kernels.compile import inline, lean_kernel, never_inline
from kernels.graph.market_graph import HOPS, POOL, ROW_IN
from kernels.market.amm import PoolState, head_state, swap
from kernels.market.lending import LIQUIDATION_BONUS, closable, health_factor
from kernels.market.tile import (
    BASE_FEE,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    OWN_TIP,
)

DROPPED, DROPPED_FOR_GAS = -1.0, -2.0  # what run_plan answers instead of a profit


class Plan(NamedTuple):
    """An arbitrage or a liquidation in a block, and what its owner pays for it."""

    party: int  # row of the owner's wealth
    candidate: int
    size: float  # as `amount` in gross_of
    gross: float  # ETH, of that size on the reserves as they are
    payment: float  # ETH
    share_of: float  # ETH; above 0, `payment` is for this net, and less when less is realised
    refund: float  # share of the payment that goes to users


@lean_kernel
def _execute(
    cycle_table: np.ndarray,
    weights: np.ndarray,
    ledger: Ledger,
    borrowers: int,
    state: PoolState,
    lane: int,
    candidate: int,
    size: float,
) -> None:
    """Move reserves, loans and the tokens inside pools as a plan does; `size` as in gross_of.

    `borrowers` is the first row of the borrowers' balances.
    """
    never_inline()
    tile, pools, cycles = state.tile, state.pools, cycle_table.shape[0]
    if candidate >= cycles:
        loan = candidate - cycles
        pool = int(tile[LOAN_POOL + loan, lane])
        hub_first = tile[LOAN_HUB_FIRST + loan, lane] > 0.0
        row_in = state.first + pool + (0 if hub_first else pools)
        row_out = state.first + pool + (pools if hub_first else 0)
        gamma = weights[pool]
        cost = size * tile[row_in, lane] / (gamma * (tile[row_out, lane] - size))
        seized = size * tile[LOAN_PRICE + loan, lane] * (1.0 + LIQUIDATION_BONUS)
        tile[row_in, lane] += cost
        tile[row_out, lane] -= size
        tile[LOAN_DEBT + loan, lane] -= size
        tile[LOAN_COLLATERAL + loan, lane] -= seized
        tile[borrowers, lane] -= seized
        debt_token = ledger.token1[pool] if hub_first else ledger.token0[pool]
        tile[borrowers + debt_token, lane] += size
        return
    amount = size
    for hop in range(cycle_table[candidate, HOPS]):
        pool = int(cycle_table[candidate, POOL + hop])
        forward = cycle_table[candidate, ROW_IN + hop] < pools
        out = swap(state, lane, pool, forward, amount, weights[pool])
        book_inside(ledger, lane, pool, forward, amount, out)
        amount = out


@inline
def _pay(
    physics: Physics, tile: np.ndarray, lane: int, plan: Plan, payment: float, gas: float
) -> None:
    """The winner's books: gross profit in; the bid to validator and users; base fee burnt."""
    world_row = physics.world_row
    burnt = gas * tile[BASE_FEE, lane] * GWEI
    tip = gas * tile[OWN_TIP, lane] * GWEI
    tile[plan.party, lane] += plan.gross - payment - burnt - tip
    tile[world_row + VALIDATOR, lane] += payment * (1.0 - plan.refund) + tip
    tile[book(world_row, physics.exposure.shape[0], USERS), lane] += payment * plan.refund
    tile[world_row + BURNT, lane] += burnt


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
def run_plan(physics: Physics, tile: np.ndarray, lane: int, plan: Plan) -> float:
    """Execute a plan if its profit covers gas and payment; what is left, or why it is dropped."""
    candidate, size, payment = plan.candidate, plan.size, plan.payment
    gas = own_gas(physics, candidate)
    if not _may_repay(physics.cycles.shape[0], tile, lane, candidate, size):
        return DROPPED
    realised = plan.gross - gas_cost(tile, lane, gas)
    if plan.share_of > 0.0:
        payment *= min(max(realised, 0.0) / plan.share_of, 1.0)
    left = realised - payment
    # Written so that NaN drops the plan.
    if not left >= 0.0:
        return DROPPED_FOR_GAS if plan.gross > 0.0 and realised < 0.0 else DROPPED
    borrowers = book(physics.world_row, physics.exposure.shape[0], BORROWER_BOOK)
    ledger, state = ledger_of(physics, tile), head_state(tile, rows_of(physics))
    _execute(physics.cycles, physics.weights, ledger, borrowers, state, lane, candidate, size)
    _pay(physics, tile, lane, plan, payment, gas)
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
