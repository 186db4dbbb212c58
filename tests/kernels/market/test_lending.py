"""Liquidations: Aave's thresholds, and the best repayment against a search on a grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.compile import kernel
from kernels.market.amm import overlay
from kernels.market.lending import (
    LIQUIDATION_BONUS,
    LIQUIDATION_THRESHOLD,
    best_repayment,
    closable,
    cost_to_repay,
    health_factor,
    size_liquidations,
)
from kernels.market.tile import (
    BORROWERS,
    LANES,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    LOAN_REPAID,
    layout_of,
)
from tests.support.markets import random_tile, two_venues

GAMMA = 0.997


@kernel
def _health(collateral: float, debt: float, price: float) -> float:
    return health_factor(collateral, debt, price)


@kernel
def _closable(health: float) -> float:
    return closable(health)


@kernel
def _best(most: float, value: float, reserve_in: float, reserve_out: float) -> float:
    return best_repayment(most, value, reserve_in, reserve_out, GAMMA)


@kernel
def _cost(repaid: float, reserve_in: float, reserve_out: float) -> float:
    return cost_to_repay(repaid, reserve_in, reserve_out, GAMMA)


def test_health_and_close_factor_are_aaves() -> None:
    assert _health(10.0, 16_600.0, 1 / 2000) == pytest.approx(1.0)
    assert [_closable(h) for h in (1.5, 1.0, 0.999, 0.951, 0.95, 0.9)] == [0, 0, 0.5, 0.5, 1, 1]
    assert _closable(np.nan) == 0.0


@given(
    st.floats(10.0, 1e5),
    st.floats(1e4, 1e9),
    st.floats(0.95, 1.2),
    st.floats(1e-4, 1.0),
)
def test_no_other_repayment_earns_more(
    reserve_in: float, reserve_out: float, margin: float, share: float
) -> None:
    """Marginal value `margin` times the pool's price, at most `share` of the pool's reserve."""
    value, most = margin * reserve_in / reserve_out, share * reserve_out
    best = _best(most, value, reserve_in, reserve_out)
    assert 0.0 <= best <= most

    def gain(repaid: float) -> float:
        return repaid * value - _cost(repaid, reserve_in, reserve_out)

    for other in np.linspace(0.0, min(most, 0.999 * reserve_out), 200):
        assert gain(float(other)) <= gain(best) + 1e-9 * reserve_in


def test_what_a_repayment_costs_is_what_the_pool_asks() -> None:
    cost = _cost(1000.0, 50.0, 100_000.0)
    assert GAMMA * cost * 100_000.0 / (50.0 + GAMMA * cost) == pytest.approx(1000.0)
    assert _cost(100_000.0, 50.0, 100_000.0) == np.inf


def test_loans_of_a_tile() -> None:
    """Healthy loans give nothing; the others what a search over repayments finds."""
    graph = two_venues()
    pools, count = graph.token0.size, graph.cycle_hops.size
    tile, rng = random_tile(graph, LANES, 7), np.random.default_rng(7)
    for loan in range(BORROWERS):
        # Health 0.8 to 1.2: half of them within reach, some for all of their debt.
        tile[LOAN_PRICE + loan] = 1 / 2000
        tile[LOAN_COLLATERAL + loan] = rng.uniform(1.0, 300.0, LANES)
        value = tile[LOAN_COLLATERAL + loan] * LIQUIDATION_THRESHOLD / rng.uniform(0.8, 1.2, LANES)
        tile[LOAN_DEBT + loan] = value * 2000.0
        tile[LOAN_POOL + loan], tile[LOAN_HUB_FIRST + loan] = loan % 2, 1.0
    overlay(graph.cycles, graph.weights, tile)
    size_liquidations(graph.cycles, graph.weights, tile)
    found = 0
    for loan in range(BORROWERS):
        for lane in range(LANES):
            collateral, debt = tile[LOAN_COLLATERAL + loan, lane], tile[LOAN_DEBT + loan, lane]
            share = _closable(_health(collateral, debt, 1 / 2000))
            row = layout_of(graph).overlay + loan % 2
            reserve_in, reserve_out = tile[row, lane], tile[row + pools, lane]
            unit = (1.0 + LIQUIDATION_BONUS) / 2000
            most = min(share * debt, collateral / unit)
            repaid = np.linspace(0.0, most, 2001)
            cost = np.array([_cost(float(x), reserve_in, reserve_out) for x in repaid])
            best = float(np.max(repaid * unit - cost))
            gain = tile[layout_of(graph).gross + count + loan, lane]
            assert gain == pytest.approx(best, rel=1e-3, abs=1e-9)
            assert gain >= best * (1.0 - 1e-12)
            spent = tile[layout_of(graph).amount_in + count + loan, lane]
            back = tile[LOAN_REPAID + loan, lane] * unit
            assert back - spent == pytest.approx(gain, abs=1e-9)
            assert back <= collateral * (1.0 + 1e-12)
            found += gain > 0.0
    assert found > 10
