"""O5 to O8: the compiled auctions reproduce what auction theory says of them.

Tolerances are stated beside each figure in docs/validation.md.
"""

import numpy as np
import pytest

from agents.auction_validation import (
    FIRST_PRICE,
    STATIONARY,
    best_deviation,
    equilibrium_revenue,
    play_unprotected,
    static_curve,
)
from envs.auction_game import AuctionGame, AuctionVectorEnv
from envs.bid_equilibrium import CommonValue, StationaryRivals

pytestmark = pytest.mark.theory


@pytest.mark.parametrize("name", FIRST_PRICE)
def test_no_deviation_from_the_equilibrium_gains_half_a_percent(name: str) -> None:
    """O5, O6."""
    found = best_deviation(*FIRST_PRICE[name])
    assert 0.0 <= found.gain <= 0.005
    assert found.worst <= 0.005


@pytest.mark.parametrize("bidders", [2, 3, 5, 10])
def test_equilibrium_revenue_is_that_of_the_second_highest_value(bidders: int) -> None:
    """O5: (n - 1) / (n + 1)."""
    mean, error = equilibrium_revenue(bidders)
    assert abs(mean - (bidders - 1) / (bidders + 1)) <= 4.0 * error


@pytest.mark.parametrize("players", [2, 5])
def test_without_revert_protection_bidders_mix_and_earn_nothing(players: int) -> None:
    """O7."""
    game, found = CommonValue(players), play_unprotected(CommonValue(players))
    assert found.abstain == pytest.approx(game.abstain, abs=2e-3)
    assert found.sold == pytest.approx(game.sold, abs=5e-4)
    assert found.revenue == pytest.approx(game.revenue, abs=1e-3)
    assert found.failures == pytest.approx(game.failures, abs=5e-3)
    assert abs(found.profit) <= 2e-4
    assert found.payoff_error <= 1e-3  # two standard errors of the sample at the worst bid


def test_revert_protection_brings_the_proposer_more() -> None:
    """O7: with it all bid value - gas, 0.98, and nothing fails."""
    game = CommonValue(5)
    env = AuctionVectorEnv(5 * 100, AuctionGame(game, learners=5))
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step_fractions(np.ones(500))
    paid = infos["bid"][infos["won"] > 0.0]
    np.testing.assert_allclose(paid, 0.98)
    np.testing.assert_allclose(rewards[infos["won"] > 0.0], 0.0, atol=1e-15)
    assert game.revenue < 0.955 < 0.98


@pytest.mark.parametrize("rivals", STATIONARY)
def test_best_static_bids_against_stationary_rivals(rivals: StationaryRivals) -> None:
    """O8: within 1 % of the closed form everywhere, the best bid within 0.005."""
    grid = np.linspace(0.0, 0.99, 991)
    played, exact = static_curve(rivals, grid), rivals.capture(grid)
    best, kept = rivals.best()
    assert np.abs(played - exact).max() <= 0.01 * kept
    assert abs(grid[played.argmax()] - best) <= 0.005
    assert played.max() == pytest.approx(kept, rel=0.01)
