"""Laws of the highest rival bid by hidden regime, estimated on training episodes.

Training may read the regime; a rule that bids by these laws never does. A searcher could know the
like of them from the auctions of past months.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.bidders.baselines import FRACTIONS, NET, static
from agents.bidders.channels import builds_alone
from envs.vector import MarketVectorEnv
from kernels.market.action import BIDS

TRAINING_SEED = 9001
VALUE_BUCKETS = 5
SMOOTHING = 1.0  # auctions that are counted beside the seen ones, spread over the whole grid

Floats = NDArray[np.float64]


class ClearingLaws(NamedTuple):
    """R regimes, V buckets of the net profit; all shares sum to 1 over their last axis."""

    edges: Floats
    """[V - 1] between the buckets, of the observation's net field."""
    below: Floats
    """[R, V, BIDS] chance that no rival bids as much as each bid of the grid."""
    at: Floats
    """[R, V, BIDS + 1] share of highest bids below the first bid, between two, above the last."""
    value: Floats
    """[R, V + 1] share of slots by bucket of the best opportunity, the last: none."""
    stay: Floats
    """[R, R] from one slot to the next."""
    start: Floats
    """[R] of slots."""

    @property
    def marginal_below(self) -> Floats:
        """[BIDS] the chance `below` over all regimes and values."""
        weights = self.start[:, None] * self.value[:, :-1]
        return (weights[:, :, None] * self.below).sum(axis=(0, 1)) / weights.sum()


def estimate_laws(env: MarketVectorEnv, regimes: int, seed: int = TRAINING_SEED) -> ClearingLaws:
    """Laws from one episode in every market of `env`, of the training split.

    A bundle that pays nothing stands in every slot: the highest bid that is recorded beside it is
    that of the rivals.
    """
    if env.split != "train":
        raise ValueError(f"laws are estimated on split {env.split!r}: give one of split 'train'")
    values, tops, taken, regime = _play(env, seed)
    offered = np.isfinite(values)
    edges = np.quantile(values[offered], np.arange(1, VALUE_BUCKETS) / VALUE_BUCKETS)
    bucket = np.where(offered, np.searchsorted(edges, np.nan_to_num(values)), VALUE_BUCKETS)
    place = np.searchsorted(FRACTIONS, tops, side="right")  # of a bid between two of the grid
    place[tops < 0.0] = 0  # nobody bid
    at = np.full((regimes, VALUE_BUCKETS, BIDS + 1), SMOOTHING / (BIDS + 1))
    np.add.at(at, (regime[taken], bucket[taken], place[taken]), 1.0)
    at /= at.sum(axis=-1, keepdims=True)
    value = np.ones((regimes, VALUE_BUCKETS + 1))
    np.add.at(value, (regime.ravel(), bucket.ravel()), 1.0)
    stay = np.ones((regimes, regimes))
    np.add.at(stay, (regime[:-1].ravel(), regime[1:].ravel()), 1.0)
    start = np.bincount(regime.ravel(), minlength=regimes) / regime.size
    return ClearingLaws(
        edges,
        np.cumsum(at, axis=-1)[:, :, :BIDS],
        at,
        value / value.sum(axis=1, keepdims=True),
        stay / stay.sum(axis=1, keepdims=True),
        start,
    )


def _play(env: MarketVectorEnv, seed: int) -> tuple[Any, Any, Any, Any]:
    """By slot and market: net field or nan, highest rival bid / net, whether it is known, regime.

    The highest bid is -1 where nobody bid.
    """
    bidder = static(0)
    observations, _ = env.reset(seed=seed)
    values, tops, taken, regime = [], [], [], []
    while True:
        masks, alone = env.action_masks(), builds_alone(observations)
        net = np.where(masks[:, 1], observations[:, NET].astype(np.float64), np.nan)
        observations, _, _, ended, infos = env.step(bidder(observations, masks))
        if not infos["settled"].all():
            continue  # a slot has more decisions
        values.append(net)
        # Without a block, or with the opportunity gone, nothing is recorded.
        taken.append((infos["net"] > 0.0) & (infos["opportunity"] >= 0) & ~alone)
        clearing = infos["clearing_fraction"]
        tops.append(np.where(clearing > 0.0, clearing, -1.0))
        regime.append(infos["regime"])
        if ended.all():
            return np.stack(values), np.stack(tops), np.stack(taken), np.stack(regime)
