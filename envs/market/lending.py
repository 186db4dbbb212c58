"""Borrowers of a tile: loans near the edge, closed and opened again, and the oracle behind them."""

import numpy as np

from envs.market.flow import LOAN_OPEN
from envs.market.physics import LOAN_ORACLE, LOG_PRICE, NORMAL, Physics
from envs.market.randomness import quantile, uniform
from kernels.compile import inline, lean_kernel, never_inline
from kernels.market.lending import LIQUIDATION_THRESHOLD
from kernels.market.tile import (
    BORROWERS,
    LANES,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    LOAN_REPAID,
)

SMALLEST_LOAN = 0.5  # hub tokens of collateral; below it the loan is closed


@inline
def _oracle_price(physics: Physics, tile: np.ndarray, lane: int, token: int) -> float:
    """Hub per token at the oracle's prices."""
    at = physics.world_row + LOAN_ORACLE
    return np.exp(
        physics.exposure[token, 0] * tile[at, lane]
        + physics.exposure[token, 1] * tile[at + 1, lane]
    )


@inline
def _open(physics: Physics, tile: np.ndarray, lane: int, loan: int, key: np.uint64) -> None:
    """A new loan: lognormal collateral, a health factor a little above 1."""
    z = quantile(physics.quantiles, NORMAL, uniform(key, LOAN_OPEN + 3 * loan))
    u = uniform(key, LOAN_OPEN + 3 * loan + 1)
    health = physics.loans_health_low + u * (physics.loans_health_high - physics.loans_health_low)
    collateral = physics.loans_median_eth * np.exp(physics.loans_sigma * z)
    tile[LOAN_COLLATERAL + loan, lane] = collateral
    debt_value = collateral * LIQUIDATION_THRESHOLD / health
    tile[LOAN_DEBT + loan, lane] = debt_value / tile[LOAN_PRICE + loan, lane]


@inline
def _debt_token(physics: Physics, loan: int) -> int:
    """The token of a loan's pool that is not the hub."""
    pool = physics.loan_pools[loan]
    return int(physics.token1[pool] if physics.token0[pool] == 0 else physics.token0[pool])


@lean_kernel
def start_loans(physics: Physics, tile: np.ndarray, lane: int, key: np.uint64) -> None:
    """The loans and the oracle of a new episode, at its reference prices."""
    never_inline()
    world_row = physics.world_row
    for asset in range(2):
        tile[world_row + LOAN_ORACLE + asset, lane] = tile[world_row + LOG_PRICE + asset, lane]
    for loan in range(BORROWERS):
        for row in (LOAN_COLLATERAL, LOAN_DEBT, LOAN_POOL, LOAN_HUB_FIRST, LOAN_PRICE, LOAN_REPAID):
            tile[row + loan, lane] = 0.0
        if loan < physics.loan_pools.shape[0]:
            pool = physics.loan_pools[loan]
            tile[LOAN_POOL + loan, lane] = pool
            tile[LOAN_HUB_FIRST + loan, lane] = 1.0 if physics.token0[pool] == 0 else 0.0
            price = _oracle_price(physics, tile, lane, _debt_token(physics, loan))
            tile[LOAN_PRICE + loan, lane] = price
            _open(physics, tile, lane, loan, key)


@lean_kernel
def advance_loans(physics: Physics, tile: np.ndarray, keys: np.ndarray) -> None:
    """The oracle follows the reference when it is off by its deviation; some borrowers leave."""
    never_inline()
    at, loans = physics.world_row + LOAN_ORACLE, physics.loan_pools.shape[0]
    reference = physics.world_row + LOG_PRICE
    for lane in range(LANES):
        moved = False
        for asset in range(2):
            price = tile[reference + asset, lane]
            if abs(price - tile[at + asset, lane]) >= physics.oracle_deviation:
                tile[at + asset, lane] = price
                moved = True
        for loan in range(loans):
            if moved:
                price = _oracle_price(physics, tile, lane, _debt_token(physics, loan))
                tile[LOAN_PRICE + loan, lane] = price
            leaves = uniform(keys[lane], LOAN_OPEN + 3 * loan + 2) < physics.loans_leave
            if leaves or tile[LOAN_COLLATERAL + loan, lane] < SMALLEST_LOAN:
                _open(physics, tile, lane, loan, keys[lane])
