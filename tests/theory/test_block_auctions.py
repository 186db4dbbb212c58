"""O11: the auction between builders shows what was published of it, in order and in size."""

import numpy as np
import pytest

from agents.studies.auction_validation import play_profile

pytestmark = pytest.mark.theory
NAIVE, ADAPTIVE, THIRD = range(3)


@pytest.mark.parametrize("strategy", ["last_minute", "stealth", "bluff"])
def test_network_delay_costs_the_proposer(strategy: str) -> None:
    efficiency = [play_profile(strategy, delay).efficiency for delay in (1, 5, 10, 20)]
    assert np.all(np.diff(efficiency) < 0.0)


@pytest.mark.parametrize("strategy", ["last_minute", "stealth"])
@pytest.mark.parametrize("delay", [1, 5, 10])
def test_hiding_pays_only_if_adaptive_bidders_cannot_answer(strategy: str, delay: int) -> None:
    """Revealed later than an adaptive bidder needs, a hidden bid takes its wins; earlier, none."""
    late, early = play_profile(strategy, delay), play_profile(strategy, delay, safety=30)
    assert late.wins[ADAPTIVE] < 0.75 * early.wins[ADAPTIVE]
    assert late.wins[THIRD] > 1.08 * early.wins[THIRD]
    assert early.wins[THIRD] == pytest.approx(early.wins[NAIVE], abs=0.05)  # parity


def test_bluffing_turns_adaptive_bidders_into_naive_ones() -> None:
    bluff, hidden = play_profile("bluff", 5), play_profile("last_minute", 5)
    assert bluff.wins[ADAPTIVE] == pytest.approx(bluff.wins[NAIVE], abs=0.04)
    assert bluff.profit[ADAPTIVE] == pytest.approx(bluff.profit[NAIVE], rel=0.03)
    assert hidden.wins[ADAPTIVE] < 0.5 * hidden.wins[NAIVE]


def test_adaptive_bidders_win_less_often_and_earn_more_per_win() -> None:
    gaps = []
    for delay in (1, 5, 10):
        found = play_profile("last_minute", delay)
        assert found.wins[ADAPTIVE] < found.wins[NAIVE]
        assert found.profit[ADAPTIVE] > found.profit[NAIVE]
        gaps.append(found.profit[ADAPTIVE])
    assert np.all(np.diff(gaps) > 0.0)  # grows with the delay


def test_a_random_end_makes_bluffing_ruinous() -> None:
    """With no safety margin the bluff stands in about half of the auctions and wins at a loss."""
    risky = play_profile("bluff", 5, end_sd=2.0)
    assert 0.3 <= risky.loss_share <= 0.55
    assert risky.profit[THIRD] < -0.1
    assert play_profile("bluff", 5, safety=30, end_sd=2.0).loss_share == 0.0
