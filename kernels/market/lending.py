"""Loans as Aave v3 judges and liquidates them, and the most profitable liquidation of each loan in
a tile: repay debt bought from a pool, receive collateral with a bonus.

Rules: Aave v3 ValidationLogic and LiquidationLogic (health factor, close factor, bonus).
"""

import numpy as np

from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.tile import (
    BORROWERS,
    LANES,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    LOAN_REPAID,
    Layout,
    layout,
)

LIQUIDATION_THRESHOLD = 0.83  # of collateral value, WETH on Ethereum
LIQUIDATION_BONUS = 0.05
CLOSE_FACTOR = 0.5
# Below this health factor the whole debt may be repaid.
FULL_CLOSE_HEALTH = 0.95
# A flash loan, liquidationCall and one swap; Aave's call alone takes 350,000 to 450,000.
LIQUIDATION_GAS = 500_000.0


@inline
def health_factor(collateral: float, debt: float, price: float) -> float:
    """Collateral value times threshold over debt; liquidated below 1. `price`: per unit of debt."""
    return collateral * LIQUIDATION_THRESHOLD / (debt * price)


@inline
def closable(health: float) -> float:
    """Share of the debt that one liquidation may repay: 0, a half, or all."""
    if not health < 1.0:
        return 0.0
    return CLOSE_FACTOR if health > FULL_CLOSE_HEALTH else 1.0


@inline
def cost_to_repay(repaid: float, reserve_in: float, reserve_out: float, gamma: float) -> float:
    """Input that buys `repaid` out of a constant-product pool; infinite when it has not that."""
    if repaid >= reserve_out:
        return np.inf
    return repaid * reserve_in / (gamma * (reserve_out - repaid))


@inline
def best_repayment(
    most: float, value: float, reserve_in: float, reserve_out: float, gamma: float
) -> float:
    """Debt to repay, at most `most`, when each unit returns `value` of the hub.

    The marginal cost Ri Ro / (gamma (Ro - d)^2) rises with d and equals `value` at the optimum.
    """
    root = np.sqrt(reserve_in * reserve_out / (gamma * value))
    return min(max(reserve_out - root, 0.0), most)


@inline
def _size(rows: Layout, weights: np.ndarray, tile: np.ndarray, lanes: int) -> None:
    pools, first = rows.pools, rows.overlay
    amounts, gains = rows.amount_in + rows.cycles, rows.gross + rows.cycles
    for loan in range(BORROWERS):
        for lane in range(lanes):
            collateral, debt = tile[LOAN_COLLATERAL + loan, lane], tile[LOAN_DEBT + loan, lane]
            price = tile[LOAN_PRICE + loan, lane]
            tile[LOAN_REPAID + loan, lane] = 0.0
            tile[amounts + loan, lane] = 0.0
            tile[gains + loan, lane] = 0.0
            share = 0.0
            if debt > 0.0 and price > 0.0:
                share = closable(health_factor(collateral, debt, price))
            if share <= 0.0:
                continue
            pool = int(tile[LOAN_POOL + loan, lane])
            hub_first = tile[LOAN_HUB_FIRST + loan, lane] > 0.0
            reserve_in = tile[first + pool + (0 if hub_first else pools), lane]
            reserve_out = tile[first + pool + (pools if hub_first else 0), lane]
            value = price * (1.0 + LIQUIDATION_BONUS)
            most = min(share * debt, collateral / value)
            repaid = best_repayment(most, value, reserve_in, reserve_out, weights[pool])
            cost = cost_to_repay(repaid, reserve_in, reserve_out, weights[pool])
            gain = repaid * value - cost
            if gain > 0.0 and gain < np.inf:
                tile[LOAN_REPAID + loan, lane] = repaid
                tile[amounts + loan, lane] = cost
                tile[gains + loan, lane] = gain


@lean_kernel
def size_liquidations(cycles: np.ndarray, weights: np.ndarray, tile: np.ndarray) -> None:
    """Size the liquidation of every loan on the overlaid reserves.

    Writes LOAN_REPAID and the amount_in and gross rows C .. C + B - 1: hub tokens paid into the
    pool, and collateral received minus that, both 0 for a healthy loan.
    """
    never_inline()
    rows = layout(weights.shape[0] - cycles.shape[0], cycles.shape[0])
    if tile.shape[1] == LANES:
        _size(rows, weights, tile, LANES)
    else:
        _size(rows, weights, tile, tile.shape[1])
