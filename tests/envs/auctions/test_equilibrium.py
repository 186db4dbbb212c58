"""Equilibrium bids against published numbers, against each other, and against best replies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.auctions.equilibrium import (
    CommonValue,
    LogNormalLaw,
    PowerLaw,
    Rivals,
    StationaryRivals,
    _quadrature_bids,
    first_price_bid,
    win_probability,
)
from envs.auctions.exploitability import (
    common_value_exploitability,
    common_value_payoffs,
    first_price_exploitability,
    regret_matching,
    tie_split_win,
)


@pytest.mark.parametrize(
    ("bidders", "bid"), [(2, 0.523157), (3, 0.667239), (5, 0.787749), (10, 0.886508)]
)
def test_lognormal_bids_at_one(bidders: int, bid: float) -> None:
    found = first_price_bid(LogNormalLaw(), Rivals(bidders - 1), 1.0)
    assert found == pytest.approx(bid, abs=5e-7)


@pytest.mark.parametrize(
    ("rate", "bid"),
    [(0.5, 0.14064), (1.0, 0.24933), (2.0, 0.40095), (5.0, 0.60366), (10.0, 0.70003)],
)
def test_poisson_rivals_bid_at_four_fifths(rate: float, bid: float) -> None:
    found = first_price_bid(PowerLaw(), Rivals(rate=rate), 0.8)
    assert found == pytest.approx(bid, abs=5e-6)


def test_quadrature_agrees_with_every_closed_form() -> None:
    v = np.linspace(0.0, 1.0, 2001)
    for law, rivals in (
        (PowerLaw(), Rivals(3)),
        (PowerLaw(2.5), Rivals(4)),
        (PowerLaw(), Rivals(rate=3.0)),
    ):
        exact = first_price_bid(law, rivals, v)
        np.testing.assert_allclose(_quadrature_bids(law, rivals, v)[1:], exact[1:], 1e-6, 2e-7)
    z = np.linspace(-12.0, 4.0, 8001)
    exact = first_price_bid(LogNormalLaw(0.3, 1.4), Rivals(1), np.exp(0.3 + 1.4 * z))
    found = _quadrature_bids(LogNormalLaw(0.3, 1.4), Rivals(1), z)
    np.testing.assert_allclose(found[z > -8.0], exact[z > -8.0], rtol=1e-10)


@given(
    st.sampled_from(
        [PowerLaw(), PowerLaw(0.5), PowerLaw(3.0), LogNormalLaw(), LogNormalLaw(-1, 2)]
    ),
    st.one_of(
        st.builds(Rivals, fixed=st.integers(1, 9), join=st.floats(0.2, 1.0)),
        st.builds(Rivals, rate=st.floats(0.1, 8.0)),
    ),
)
def test_no_deviation_from_the_equilibrium_gains(
    law: PowerLaw | LogNormalLaw, rivals: Rivals
) -> None:
    """Bidding as another type is all a deviation can be: bids are increasing."""
    values = law.quantile(np.linspace(0.02, 0.98, 60))
    bids = first_price_bid(law, rivals, values)
    assert np.all(bids[1:] >= bids[:-1] - 1e-12)
    assert np.all((bids >= 0.0) & (bids < values))
    payoffs = (values[:, None] - bids) * win_probability(law, rivals, values)
    own = np.diag(payoffs)
    assert np.all(payoffs <= own[:, None] * (1.0 + 1e-6) + 1e-12)


@pytest.mark.parametrize(
    ("players", "abstain", "revenue", "failures"),
    [(2, 0.0101, 0.9701, 0.9799), (5, 0.3170, 0.9526, 2.42)],
)
def test_common_value_numbers(
    players: int, abstain: float, revenue: float, failures: float
) -> None:
    game = CommonValue(players)
    assert game.abstain == pytest.approx(abstain, abs=5e-5)
    assert game.revenue == pytest.approx(revenue, abs=1.5e-4)
    assert game.failures == pytest.approx(failures, abs=5e-3)


@given(
    st.integers(2, 20), st.floats(0.0, 0.3), st.floats(0.001, 0.3), st.floats(0.0, 0.9),
    st.floats(0.0, 1.0),
)  # fmt: skip
def test_every_equilibrium_bid_of_the_common_value_game_earns_nothing(
    players: int, gas: float, failed: float, share: float, at: float
) -> None:
    game = CommonValue(players, 1.0, gas, failed, share)
    bid = at * game.top
    win = float(game.win(bid))
    assert win * (game.top - bid) - (1.0 - win) * (share * bid + failed) == pytest.approx(
        0, abs=1e-12
    )
    assert float(game.bid(win)) == pytest.approx(bid, abs=1e-9)


@pytest.mark.parametrize(
    ("rivals", "best", "captured"),
    [
        (StationaryRivals(2, 0.8, 8, 2), 0.8699, 0.0704),
        (StationaryRivals(3, 0.8, 18, 2), 0.9522, 0.0260),
        (StationaryRivals(5, 0.6, 18, 2), 0.9575, 0.0230),
        (StationaryRivals(1, 0.5, 8, 2), 0.0, 0.5),
    ],
)
def test_best_static_bids(rivals: StationaryRivals, best: float, captured: float) -> None:
    fraction, value = rivals.best()
    assert fraction == pytest.approx(best, abs=1e-4)
    assert value == pytest.approx(captured, abs=5e-5)


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6), st.integers(1, 4))
def test_tie_splitting_shares_out_exactly_one_prize(weights: list[float], rivals: int) -> None:
    """In a symmetric game all bidders together win once: n E[win] = 1."""
    mass = np.array(weights) + 0.01
    mass /= mass.sum()
    assert (rivals + 1) * float(mass @ tie_split_win(mass, rivals)) == pytest.approx(1.0)


def test_the_equilibrium_is_hardly_exploitable_and_timid_bids_are() -> None:
    values = (np.arange(1000) + 0.5) / 1000
    weights = np.full(1000, 1e-3)
    fractions = np.linspace(0.0, 1.0, 64)
    equilibrium = np.zeros((1000, 64))
    equilibrium[:, 42] = 1.0  # 42 / 63 = 2 / 3
    assert first_price_exploitability(equilibrium, values, weights, fractions, 2).relative < 2e-3
    timid = np.zeros((1000, 64))
    timid[:, 21] = 1.0
    # Copies bid up to 1/3: reply with 2 v / 3 there, with 1/3 above v = 1/2, which earns 11/48.
    found = first_price_exploitability(timid, values, weights, fractions, 2)
    assert found.earned == pytest.approx(1 / 6, rel=1e-5)
    assert found.best == pytest.approx(11 / 48, rel=1e-3)


def test_regret_matching_solves_the_common_value_game() -> None:
    game = CommonValue(5)
    bids = game.top * (1.0 - np.geomspace(1.0, 0.001, 64))
    profile = regret_matching(game, bids)
    found = common_value_exploitability(game, profile, bids)
    assert found.exploitability <= 0.005
    assert profile[0] == pytest.approx(game.abstain, abs=0.06)  # biased by the grid
    always = np.zeros(65)
    always[-1] = 1.0
    assert common_value_payoffs(game, always, bids)[-1] < 0.0


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: PowerLaw(0.0), "exponent"),
        (lambda: LogNormalLaw(sd=-1.0), "sd"),
        (lambda: Rivals(fixed=2, rate=1.0), "one of them"),
        (lambda: Rivals(join=0.0), "join"),
        (lambda: CommonValue(players=1), "players"),
        (lambda: CommonValue(failed_gas=0.0), "failed_gas"),
        (lambda: StationaryRivals(count=0), "count"),
    ],
)
def test_impossible_games_are_refused(make: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make()  # type: ignore[operator]
