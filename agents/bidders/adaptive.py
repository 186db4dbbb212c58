"""Bidders tuned by hand: what a careful searcher does without a network, fitted on validation.

All bid on the most profitable opportunity. The history that they look at is the observation's own:
the last auctions of this searcher, newest first, on the scale of the bid grid (-log2(1 - f) / 4).
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.bidders.baselines import FRACTIONS, Bidder, bid_on_best
from kernels.market.action import BIDS
from kernels.market.observation import FIELDS, HISTORY_STRIDE
from kernels.market.tile import HISTORY

_NAMES = [field.name for field in FIELDS]
_NET = _NAMES.index("opportunity0_net")
_OWN, _CLEARING, _WON = (_NAMES.index(f"auction0_{name}") for name in ("own", "clearing", "won"))
_PAST = HISTORY_STRIDE * np.arange(HISTORY)
_GRID_GAP: NDArray[np.float64] = -np.log2(1.0 - FRACTIONS) / 4.0

# Settings tried on validation; the report says how many.
EMA_DECAYS = (0.0, 0.5, 0.7, 0.85, 1.0)
EMA_OFFSETS = (-0.1, 0.0, 0.05, 0.1, 0.2, 0.3, 0.45)
AIMD_UPS = (0.05, 0.1, 0.2, 0.4)
AIMD_DOWNS = (0.02, 0.05, 0.1, 0.2)
BUCKETS = 10


class Tuned(NamedTuple):
    """A bidder, what was chosen for it, and from how many settings."""

    bidder: Bidder
    setting: str
    tried: int


def _nearest(gap: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into the bid grid of the bid nearest on the grid's own scale."""
    edges = 0.5 * (_GRID_GAP[1:] + _GRID_GAP[:-1])
    return np.searchsorted(edges, gap)


def ema_of_clearing(decay: float, offset: float, fallback: int) -> Bidder:
    """Bids `offset` above the weighted mean of past clearing bids, weight decay^age.

    On the grid's scale, over the last auctions shown; grid bid `fallback` before the first.
    """
    weight = decay ** np.arange(HISTORY)

    def decide(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        seen = np.abs(observations[:, _WON + _PAST]) * weight
        total = seen.sum(axis=1)
        mean = (observations[:, _CLEARING + _PAST] * seen).sum(axis=1) / np.maximum(total, 1e-9)
        bids = np.where(total > 0.0, _nearest(mean + offset), fallback)
        return bid_on_best(bids, masks)

    return decide


def up_and_down(up: float, down: float, fallback: int) -> Bidder:
    """Bids `up` more than last time after a loss and `down` less after a win, on the grid's scale.

    Steps are forced to the next grid bid where they are smaller than the grid.
    """

    def decide(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        won = observations[:, _WON]
        last = observations[:, _OWN].astype(np.float64)
        at = _nearest(last)
        raised = np.minimum(np.maximum(_nearest(last + up), at + 1), BIDS - 1)
        lowered = np.maximum(np.minimum(_nearest(last - down), at - 1), 0)
        bids = np.where(won > 0.0, lowered, np.where(won < 0.0, raised, fallback))
        return bid_on_best(bids, masks)

    return decide


def by_value(edges: NDArray[np.float64], bids: NDArray[np.int64]) -> Bidder:
    """Always bids grid entry bids[i] while the net field lies in bucket i of `edges`."""

    def decide(observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        return bid_on_best(bids[np.searchsorted(edges, observations[:, _NET])], masks)

    return decide


def tune(score: Callable[[Bidder], float], candidates: dict[str, Bidder]) -> Tuned:
    """The candidate with the highest score, the first of equals."""
    scores = {setting: score(bidder) for setting, bidder in candidates.items()}
    best = max(scores, key=lambda setting: scores[setting])
    return Tuned(candidates[best], best, len(candidates))


def ema_candidates(fallback: int) -> dict[str, Bidder]:
    """Every EMA rule of the grid of settings, by its name."""
    return {
        f"decay {decay:g}, offset {offset:+g}": ema_of_clearing(decay, offset, fallback)
        for decay, offset in itertools.product(EMA_DECAYS, EMA_OFFSETS)
    }


def aimd_candidates(fallback: int) -> dict[str, Bidder]:
    """Every up-and-down rule of the grid of settings, by its name."""
    return {
        f"up {up:g}, down {down:g}": up_and_down(up, down, fallback)
        for up, down in itertools.product(AIMD_UPS, AIMD_DOWNS)
    }
