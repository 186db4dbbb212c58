"""Bidders tuned by hand: what a careful searcher does without a network, fitted on validation.

All bid on the most profitable opportunity. Those that adapt look at the last auctions of their own
bundles, on the scale of the bid grid, -log2(1 - f) / 4.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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
from agents.bidders.tuning import Axis, Grid
from kernels.market.action import BIDS
from kernels.market.tile import HISTORY

Law = Callable[[BundleAuctions, Observations], NDArray[np.int64]]
"""Grid bids int64[N] from the past auctions and what is seen."""

GRID_GAP: NDArray[np.float64] = -np.log2(1.0 - FRACTIONS) / 4.0


def _nearest(gap: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into the bid grid of the bid nearest on the grid's own scale."""
    edges = 0.5 * (GRID_GAP[1:] + GRID_GAP[:-1])
    return np.searchsorted(edges, gap)


class Adapting:
    """A bidder that follows a law on its own past bundle auctions; it remembers them."""

    def __init__(self, law: Law) -> None:
        self.law = law
        self.auctions = BundleAuctions(0)

    def restart(self) -> None:
        """All markets begin anew."""
        self.auctions = BundleAuctions(0)

    def __call__(self, observations: Observations, masks: Masks) -> Actions:
        if len(self.auctions.came) != len(observations):
            self.auctions = BundleAuctions(len(observations))
        self.auctions.see(observations)
        actions = bid_on_best(self.law(self.auctions, observations), masks)
        self.auctions.sent(observations, actions)
        return actions


def ema_of_clearing(decay: float, offset: float, fallback: int) -> Bidder:
    """Bids `offset` above the weighted mean of past clearing bids, weight decay^age.

    On the grid's scale, over the last auctions; grid bid `fallback` before the first.
    """
    weight = decay ** np.arange(HISTORY)

    def law(auctions: BundleAuctions, observations: Observations) -> NDArray[np.int64]:
        seen = np.abs(auctions.won) * weight
        total = seen.sum(axis=1)
        mean = (auctions.clearing * seen).sum(axis=1) / np.maximum(total, 1e-9)
        return np.where(total > 0.0, _nearest(mean + offset), fallback)

    return Adapting(law)


def up_and_down(up: float, down: float, fallback: int) -> Bidder:
    """Bids `up` more than last time after being outbid, `down` less after a win, else the same.

    On the grid's scale. Steps are forced to the next grid bid where they are smaller than the grid.
    A bundle that was dropped because the pools had moved says nothing about the rivals.
    """

    def law(auctions: BundleAuctions, observations: Observations) -> NDArray[np.int64]:
        won, outbid, last = auctions.won[:, 0], auctions.outbid[:, 0], auctions.own[:, 0]
        at = _nearest(last)
        raised = np.minimum(np.maximum(_nearest(last + up), at + 1), BIDS - 1)
        lowered = np.maximum(np.minimum(_nearest(last - down), at - 1), 0)
        moved = np.where(won > 0.0, lowered, np.where(outbid, raised, at))
        return np.where(won != 0.0, moved, fallback)

    return Adapting(law)


def by_value(edges: NDArray[np.float64], bids: NDArray[np.int64]) -> Bidder:
    """Always bids grid entry bids[i] while the net field lies in bucket i of `edges`."""

    def decide(observations: Observations, masks: Masks) -> Actions:
        return bid_on_best(bids[np.searchsorted(edges, observations[:, NET])], masks)

    return decide


# Tried on validation; the report says how many.
EMA_GRID = Grid(
    "decay {:g}, offset {:+g}",
    (
        Axis((0.0, 0.5, 0.7, 0.85, 1.0)),
        Axis((-0.1, 0.0, 0.05, 0.1, 0.2, 0.3, 0.45), (-0.3, -0.2, 0.6, 0.8)),
    ),
    ema_of_clearing,
)
AIMD_GRID = Grid(
    "up {:g}, down {:g}",
    (
        Axis((0.05, 0.1, 0.2, 0.4), (0.0125, 0.025, 0.6, 0.8, 1.2)),
        Axis((0.02, 0.05, 0.1, 0.2), (0.005, 0.01, 0.3, 0.4)),
    ),
    up_and_down,
)
BUCKETS = 10
