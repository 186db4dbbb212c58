"""Where a rule bids: a bundle where the proposer takes bundles, else a public transaction.

A policy may bid in public in the slots whose proposer builds alone; so may every rule here.
"""

import numpy as np
from numpy.typing import NDArray

from agents.bidders.baselines import NET, Actions, Bidder, Masks, Observations, Remembering
from kernels.market.action import BID_FRACTION, COARSE_BIDS, COARSE_STEP, FIRST_PUBLIC, PASS
from kernels.market.observation import FIELDS, STALENESS_SCALE
from kernels.market.tile import HISTORY

NO_PUBLIC = COARSE_BIDS  # entry of the public grid that stands for no bid
PUBLIC_FRACTIONS: NDArray[np.float64] = BID_FRACTION[COARSE_STEP - 1 :: COARSE_STEP]

_NAMES = [field.name for field in FIELDS]
_TAKEN, _TICK = _NAMES.index("bundles_taken"), _NAMES.index("tick")
_OWN, _CLEARING, _WON, _STALENESS = (
    _NAMES.index(f"auction0_{name}") for name in ("own", "clearing", "won", "staleness")
)


def builds_alone(observations: Observations) -> NDArray[np.bool_]:
    """bool[N]: where the proposer takes no bundles."""
    return observations[:, _TAKEN] <= 0.0


def public_on_best(entries: NDArray[np.int64] | int, masks: Masks) -> Actions:
    """Public bids of the coarse grid, PUBLIC_FRACTIONS, on the most profitable opportunity.

    NO_PUBLIC, and whatever is not allowed, passes.
    """
    bids = (np.asarray(entries) < NO_PUBLIC) & masks[:, FIRST_PUBLIC]
    return np.where(bids, FIRST_PUBLIC + entries, PASS).astype(np.int64)


def public_static(entry: int) -> Bidder:
    """Always entry `entry` of the public grid."""
    return lambda observations, masks: public_on_best(entry, masks)


def public_by_value(edges: NDArray[np.float64], entries: NDArray[np.int64]) -> Bidder:
    """Entry entries[i] of the public grid while the net field lies in bucket i of `edges`."""

    def decide(observations: Observations, masks: Masks) -> Actions:
        return public_on_best(entries[np.searchsorted(edges, observations[:, NET])], masks)

    return decide


class OnBothChannels:
    """One rule where the proposer takes bundles, another where it builds alone."""

    def __init__(self, bundles: Bidder, public: Bidder) -> None:
        self.bundles, self.public = bundles, public

    def restart(self) -> None:
        """All markets begin anew."""
        memory: object = self.bundles
        if isinstance(memory, Remembering):
            memory.restart()

    def __call__(self, observations: Observations, masks: Masks) -> Actions:
        bundles, public = self.bundles(observations, masks), self.public(observations, masks)
        return np.where(builds_alone(observations), public, bundles)


class BundleAuctions:
    """The last auctions that a rule's bundles took part in, newest first, for each of N markets.

    The observation's own history mixes in public auctions, to which fewer rivals come with lower
    bids; a rule that adapts its bundles must not follow them. All fields float64[N, HISTORY].
    """

    def __init__(self, markets: int) -> None:
        self.own = np.zeros((markets, HISTORY))  # own bid, on the scale -log2(1 - f) / 4
        self.clearing = np.zeros((markets, HISTORY))  # highest bid, ours included, same scale
        self.won = np.zeros((markets, HISTORY))  # 1 won, -1 lost, 0 no such auction
        self.came = np.zeros(markets, np.bool_)  # whether the newest one ended just now
        self.began = np.ones(markets, np.bool_)  # whether a slot did
        self._bid = np.zeros(markets, np.bool_)  # a bundle was sent in this slot
        self._tick = np.full(markets, np.inf)

    @property
    def outbid(self) -> NDArray[np.bool_]:
        """bool[N, HISTORY]: lost to a higher bid, and not because the pools had moved."""
        return (self.won < 0.0) & (self.clearing > self.own)

    def see(self, observations: Observations) -> None:
        """Take in the auction of the slot before, if it was one of bundles."""
        self.began = observations[:, _TICK] <= self._tick  # a slot has one decision or more
        fresh = observations[:, _STALENESS] < 1.5 / STALENESS_SCALE
        self.came = self.began & self._bid & fresh & (observations[:, _WON] != 0.0)
        pairs = ((self.own, _OWN), (self.clearing, _CLEARING), (self.won, _WON))
        for kept, column in pairs:
            kept[self.came, 1:] = kept[self.came, :-1]
            kept[self.came, 0] = observations[self.came, column]
        self._bid &= ~self.began
        self._tick = observations[:, _TICK].astype(np.float64)

    def sent(self, observations: Observations, actions: Actions) -> None:
        """Note what the rule answers."""
        self._bid |= (actions != PASS) & ~builds_alone(observations)
