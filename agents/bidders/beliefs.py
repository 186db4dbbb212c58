"""Rules that bid their best response to a belief about the highest rival bid.

`best_response` believes the last clearing bids that it saw. `bayes_filter` knows the laws of the
hidden regimes, estimated on training episodes, and follows the regime by past auctions and values:
the reference of what these can tell. It is no bound, for an observation holds more than they do.
"""

import numpy as np
from numpy.typing import NDArray

from agents.bidders.adaptive import GRID_GAP, Adapting
from agents.bidders.baselines import (
    FRACTIONS,
    NET,
    Actions,
    Bidder,
    Masks,
    Observations,
    bid_on_best,
)
from agents.bidders.channels import BundleAuctions
from agents.bidders.clearing_laws import ClearingLaws
from agents.bidders.tuning import Axis, Grid
from kernels.market.action import BIDS
from kernels.market.tile import HISTORY

Floats = NDArray[np.float64]


def _entry(gaps: Floats) -> NDArray[np.int64]:
    """Grid entries at or below each bid, from the observation's float32: a bid equal counts."""
    return np.searchsorted(GRID_GAP, gaps + 1e-6, side="right")


def _best_bid(below: Floats) -> NDArray[np.int64]:
    """The bid that earns most where below[N, BIDS] is its chance to win."""
    return ((1.0 - FRACTIONS) * below).argmax(axis=1)


def best_response(laws: ClearingLaws, weight: float, decay: float) -> Bidder:
    """Best response to the clearing bids of the last bundle auctions, weighted decay^age.

    The law over all regimes counts `weight` auctions beside them. An auction that was not lost to a
    higher bid only says that the rivals stayed below ours.
    """
    prior = laws.marginal_below
    ages = decay ** np.arange(HISTORY)

    def law(auctions: BundleAuctions, observations: Observations) -> NDArray[np.int64]:
        seen = np.abs(auctions.won) * ages
        above = np.arange(BIDS) >= _entry(auctions.clearing)[:, :, None]  # wins over that bid
        own = np.maximum(_entry(auctions.own) - 1, 0)
        bounded = np.minimum(prior / prior[own][:, :, None], 1.0)  # given that they stayed below
        wins = np.where(auctions.outbid[:, :, None], above, bounded)
        counted = weight * prior + (seen[:, :, None] * wins).sum(axis=1)
        return _best_bid(counted / (weight + seen.sum(axis=1))[:, None])

    return Adapting(law)


def best_response_grid(laws: ClearingLaws) -> Grid:
    """Its settings."""
    return Grid(
        "prior {:g} auctions, decay {:g}",
        (
            Axis((0.25, 0.5, 1.0, 2.0, 4.0), (0.125, 0.06, 0.03, 8.0, 16.0)),
            Axis((0.5, 0.7, 0.85, 1.0), (0.0, 0.25)),
        ),
        lambda weight, decay, fallback: best_response(laws, weight, decay),
    )


class BayesFilter:
    """Bids by the belief over the hidden regimes, which every slot and every auction updates."""

    def __init__(self, laws: ClearingLaws) -> None:
        self.laws = laws
        self.restart()

    def restart(self) -> None:
        """All markets begin anew."""
        self.auctions = BundleAuctions(0)
        self.belief = np.zeros((0, self.laws.start.size))
        self._bucket = np.zeros(0, np.int64)  # of the opportunity of the slot before

    def __call__(self, observations: Observations, masks: Masks) -> Actions:
        laws, lanes = self.laws, len(observations)
        if len(self.belief) != lanes:
            self.restart()
            self.auctions = BundleAuctions(lanes)
            self.belief = np.tile(laws.start, (lanes, 1))
        else:
            self.auctions.see(observations)
            self._learn_from_auction()
            began = self.auctions.began
            self.belief[began] = self.belief[began] @ laws.stay
        net = observations[:, NET].astype(np.float64)
        bucket = np.where(masks[:, 1], np.searchsorted(laws.edges, net), laws.value.shape[1] - 1)
        began = self.auctions.began
        self.belief[began] = _normal(self.belief[began] * laws.value[:, bucket[began]].T)
        self._bucket = np.minimum(bucket, laws.edges.size)
        below = np.einsum("nr,rnb->nb", self.belief, laws.below[:, self._bucket])
        actions = bid_on_best(_best_bid(below), masks)
        self.auctions.sent(observations, actions)
        return actions

    def _learn_from_auction(self) -> None:
        """Likelihood of the highest bid, or of no higher one, in each regime."""
        came, laws = self.auctions.came, self.laws
        bucket = self._bucket[came]
        clearing = _entry(self.auctions.clearing[came, 0])
        own = np.maximum(_entry(self.auctions.own[came, 0]) - 1, 0)
        likely = np.where(
            self.auctions.outbid[came, 0],
            laws.at[:, bucket, clearing],
            laws.below[:, bucket, own],
        )
        self.belief[came] = _normal(self.belief[came] * likely.T)


def _normal(belief: Floats) -> Floats:
    return belief / np.maximum(belief.sum(axis=1, keepdims=True), np.finfo(float).tiny)
