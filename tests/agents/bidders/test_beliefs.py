"""Beliefs about the highest rival bid: laws that training tells, and rules that answer them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.bidders.adaptive import Adapting
from agents.bidders.arms import BAYES, GRIDS, play, tuned_adaptive, with_public
from agents.bidders.baselines import FRACTIONS, static
from agents.bidders.beliefs import BayesFilter, best_response
from agents.bidders.channels import NO_PUBLIC
from agents.bidders.clearing_laws import ClearingLaws, estimate_laws
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from kernels.market.action import ACTIONS, BIDS, PASS
from tests.agents.bidders.test_adaptive import after, bid, observation


def two_regimes(stay: float = 0.9) -> ClearingLaws:
    """Rivals bid just above entry 10 in one regime, just above entry 20 in the other."""
    at = np.full((2, 1, BIDS + 1), 1e-9)
    at[0, 0, 11] = at[1, 0, 21] = 1.0
    at /= at.sum(axis=-1, keepdims=True)
    moves = np.array([[stay, 1.0 - stay], [1.0 - stay, stay]])
    even = np.full((2, 2), 0.5)
    return ClearingLaws(np.zeros(0), np.cumsum(at, -1)[..., :BIDS], at, even, moves, even[0])


def test_the_filter_follows_the_regime() -> None:
    low, high = (FRACTIONS[10] + 1e-4), (FRACTIONS[20] + 1e-4)
    assert after(BayesFilter(two_regimes()), (0.0, low, False)) == 11
    assert after(BayesFilter(two_regimes()), (0.0, high, False)) == 21
    # What was seen fades where regimes change often, and a win above both says nothing.
    fading = BayesFilter(two_regimes(0.5))
    assert after(fading, (0.0, high, False)) == after(BayesFilter(two_regimes(0.5)))
    unsaid = (FRACTIONS[30], FRACTIONS[30], True)
    assert after(BayesFilter(two_regimes()), unsaid) == after(BayesFilter(two_regimes()))


def test_the_belief_is_that_of_bayes_rule() -> None:
    """Against the forward recursion written out by hand."""
    laws = two_regimes(0.8)._replace(
        at=np.random.default_rng(0).dirichlet(np.ones(BIDS + 1), (2, 1)).astype(np.float64)
    )
    laws = laws._replace(below=np.cumsum(laws.at, -1)[..., :BIDS])
    rule, belief = BayesFilter(laws), np.array([0.5, 0.5])
    bid(rule, observation())
    auctions = [(4, 9, False), (12, 12, True), (7, 7, False), (3, 28, False)]
    for own, clearing, won in auctions:
        bid(rule, observation((FRACTIONS[own], FRACTIONS[clearing], won)))
        above = clearing > own
        likely = laws.at[:, 0, clearing + 1] if above else laws.below[:, 0, own]
        belief = (belief * likely) @ laws.stay
        belief /= belief.sum()
        np.testing.assert_allclose(rule.belief[0], belief, rtol=1e-9)


def test_best_response_goes_just_above_what_it_saw() -> None:
    laws = two_regimes()
    seen = FRACTIONS[10] + 1e-4
    rule = best_response(laws, 0.01, 1.0)
    assert after(rule, *[(0.0, seen, False)] * 5) == 11


def test_laws_of_the_market_tell_the_regimes_apart(market: MarketConfig, paths: PricePaths) -> None:
    training = MarketVectorEnv(64, market, paths, split="train")
    regimes = len(market.regimes.log_rate)
    laws = estimate_laws(training, regimes)
    np.testing.assert_allclose(laws.at.sum(-1), 1.0)
    np.testing.assert_allclose(laws.stay.sum(-1), 1.0)
    assert (np.diff(laws.below, axis=-1) >= 0.0).all()
    leave = 1.0 / market.regimes.stay_slots
    assert laws.stay.diagonal() == pytest.approx(1.0 - leave, abs=0.01)
    # Rivals of the last regime bid more: the same bid wins less often.
    wins = (laws.below[..., 12] * laws.value[:, :-1]).sum(1) / laws.value[:, :-1].sum(1)
    assert wins[0] > wins[-1] + 0.2
    # The chance to win of a fixed bid is what that bid wins.
    won = play(static(20), training, 9002)
    counted = won.won.sum() / (won.won.sum() + won.lost["outbid"].sum())
    assert laws.marginal_below[20] == pytest.approx(counted, abs=0.05)
    with pytest.raises(ValueError, match="train"):
        estimate_laws(MarketVectorEnv(16, market, paths, split="validation"), regimes)


@given(st.integers(0, 2**32 - 1), st.sampled_from([*GRIDS, BAYES]))
def test_no_rule_gives_a_masked_action(seed: int, arm: str) -> None:
    rng = np.random.default_rng(seed)
    rule = BayesFilter(two_regimes()) if arm == BAYES else _first(arm)
    both = with_public(rule, int(rng.integers(0, NO_PUBLIC + 1)))
    for _ in range(3):
        seen = rng.normal(size=(6, observation().shape[1])).astype(np.float32)
        masks = rng.random((6, ACTIONS)) < 0.5
        # As the market masks: all bids of an opportunity on one channel, or none.
        masks[:, 1:33] = masks[:, 1:2]
        masks[:, -33:-1] = masks[:, -33:-32]
        masks[:, PASS] = True
        assert masks[np.arange(6), both(seen, masks)].all()


def _first(arm: str) -> Adapting:
    rule = next(iter(GRIDS[arm].candidates(3).values()))
    assert isinstance(rule, Adapting)
    return rule


def test_where_bundles_are_always_taken_the_public_bid_does_not_matter(
    market: MarketConfig, paths: PricePaths
) -> None:
    always = market.changed({"blocks.mev_boost_share": 1.0})
    env = MarketVectorEnv(16, always, paths, split="validation")
    earned = [play(with_public(static(20), public), env, 1).profit_eth for public in (0, NO_PUBLIC)]
    np.testing.assert_array_equal(earned[0], earned[1])


def test_a_tuned_arm_says_its_public_bid(market: MarketConfig, paths: PricePaths) -> None:
    validation, training = (
        MarketVectorEnv(16, market, paths, split=split) for split in ("validation", "train")
    )
    assert tuned_adaptive(BAYES, 3, NO_PUBLIC, validation, training).setting == "no public bid"
