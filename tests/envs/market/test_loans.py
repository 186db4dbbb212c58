"""Loans of the simulated market."""

from typing import Any

import numpy as np

from kernels.market.lending import FULL_CLOSE_HEALTH, LIQUIDATION_THRESHOLD
from kernels.market.tile import BORROWERS, LOAN_COLLATERAL, LOAN_DEBT, LOAN_PRICE
from tests.support.worlds import BARE, markets


def test_a_block_liquidates_half_of_a_loan_at_most() -> None:
    """A bundle and a rival's bid for the same loan: after the first it is healthy again."""
    changes: dict[str, Any] = BARE | {
        "loans.pools": (0, 1, 0, 1),
        "loans.health": (1.0, 1.004),
        "loans.leave": 0.0,
        "loans.oracle_deviation": 0.001,
    }
    env = markets(128, seed=22, **changes)
    halved = 0
    for _ in range(40):
        before = env._tiles.copy()
        env.step(env.action_masks()[:, 1].astype(np.int64) * 20)
        debt, price, collateral = (
            before[:, row : row + BORROWERS] for row in (LOAN_DEBT, LOAN_PRICE, LOAN_COLLATERAL)
        )
        health = collateral * LIQUIDATION_THRESHOLD / (debt * price)
        # Small loans are closed and others opened in their place.
        kept = (collateral > 5.0) & (health > FULL_CLOSE_HEALTH)
        after = env._tiles[:, LOAN_DEBT : LOAN_DEBT + BORROWERS]
        halved += int(np.count_nonzero(after[kept] < debt[kept]))
        assert np.all(after[kept] >= 0.5 * debt[kept] * (1.0 - 1e-12))
    assert halved > 20
