"""First price, ties, absence; and the known best bid against stationary rivals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.chain.auction import NOBODY, OWN, first_price
from kernels.compile import kernel

amounts = st.one_of(st.just(-1.0), st.floats(0.0, 10.0), st.sampled_from([0.0, 1.0, 2.0]))


@given(amounts, st.lists(amounts, max_size=6))
def test_against_sorting(own: float, rivals: list[float]) -> None:
    winner, payment, second = first_price(own, np.array(rivals))
    real = sorted((bid for bid in [own, *rivals] if bid >= 0.0), reverse=True)
    assert payment == (real[0] if real else 0.0)
    assert second == (real[1] if len(real) > 1 else 0.0)
    if not real:
        assert winner == NOBODY
    elif real[0] in rivals:
        assert winner == 1 + rivals.index(real[0])
    else:
        assert winner == OWN


def test_a_tie_goes_to_the_first_rival() -> None:
    assert first_price(1.0, np.array([0.5, 1.0, 1.0])) == (2, 1.0, 1.0)


def test_a_free_bid_wins_only_unopposed() -> None:
    assert first_price(0.0, np.empty(0)) == (OWN, 0.0, 0.0)
    assert first_price(0.0, np.array([0.0]))[0] == 1


@kernel
def _win_rate(bid: float, bids: np.ndarray) -> float:
    """Share of the auctions bids[n, rivals] that `bid` wins."""
    wins = 0
    for auction in range(bids.shape[0]):
        wins += first_price(bid, bids[auction])[0] == OWN
    return wins / bids.shape[0]


@pytest.mark.parametrize(
    ("rivals", "join", "a", "b", "best", "win", "capture"),
    [(2, 0.8, 8, 2, 0.8699, 0.5406, 0.0704), (3, 0.8, 18, 2, 0.9522, 0.5436, 0.0260)],
)
def test_best_static_bid_against_stationary_rivals(
    rivals: int, join: float, a: float, b: float, best: float, win: float, capture: float
) -> None:
    """max (1 - b)(1 - p + p G(b))^k with G Beta: reference values computed apart."""
    rng = np.random.default_rng(1)
    shape = (400_000, rivals)
    bids = np.where(rng.random(shape) < join, rng.beta(a, b, shape), -1.0)
    rate = _win_rate(best, bids)
    assert rate == pytest.approx(win, abs=0.003)
    assert rate * (1 - best) == pytest.approx(capture, abs=0.0004)
    for other in (best - 0.05, (1 + best) / 2):
        assert _win_rate(other, bids) * (1 - other) < rate * (1 - best)
