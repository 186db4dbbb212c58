"""How good a belief about clearing bids is as a forecast: log score, Brier score and reliability on
held-out episodes, beside the law over all regimes and the Bayes filter told the laws of regimes.

All three are scored on the bundle auctions that the belief's own bids took part in, by what a
searcher sees of them: the clearing bid of a lost auction, and of any other that the rivals stayed
below the own bid. Log score: ln of its probability, nats per auction. Brier: mean squared distance
of the stated chance not to be outbid from the outcome.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.belief.clearing_network import (
    Law,
    RecurrentClearingBelief,
    WindowClearingBelief,
    opportunities_of,
)
from agents.belief.clearing_score import OPPORTUNITY, seen_of
from agents.bidders.arms import play
from agents.bidders.baselines import NET, Actions, Masks, Observations
from agents.bidders.beliefs import BayesFilter
from agents.bidders.channels import builds_alone
from agents.bidders.clearing_laws import ClearingLaws
from agents.hidden_competition.forecasts import reliability
from envs.vector import MarketVectorEnv
from kernels.market.action import PASS

Forecast = dict[str, Any]
Floats = NDArray[np.float64]
BELIEF, LAW, FILTER = "belief", "law", "filter"


class Foretelling:
    """Plays a belief as the server does, by its largest logit, and keeps how its forecasts did."""

    def __init__(self, network: nn.Module, laws: ClearingLaws) -> None:
        self.network, self.laws = network, laws
        self.restart()

    def restart(self) -> None:
        """All markets begin anew; what was scored stays out."""
        self.filter = BayesFilter(self.laws)
        self.state: Tensor | None = None
        self.before: tuple[Tensor, NDArray[np.bool_], Floats, dict[str, Floats]] | None = None
        self.log_scores: dict[str, list[Floats]] = {BELIEF: [], LAW: [], FILTER: []}
        self.stated: dict[str, list[Floats]] = {BELIEF: [], LAW: [], FILTER: []}
        self.outbid: list[NDArray[np.bool_]] = []

    @torch.no_grad()
    def __call__(self, observations: Observations, masks: Masks) -> Actions:
        self._score(observations)
        seen = torch.from_numpy(observations)
        past, logits = self._read(seen)
        actions = torch.where(torch.from_numpy(masks), logits, -torch.inf).argmax(dim=1)
        offers = opportunities_of(seen)
        offer = offers[torch.arange(len(seen)), OPPORTUNITY[actions].clamp(min=0)]
        law: Law = self.network.law(past, offer)  # type: ignore[operator]
        self.filter(observations, masks)
        bucket = np.searchsorted(self.laws.edges, observations[:, NET].astype(np.float64))
        stated = {
            BELIEF: law.logits.double().softmax(-1).numpy(),
            LAW: np.broadcast_to(_over_all(self.laws), law.logits.shape),
            FILTER: np.einsum("nr,rnc->nc", self.filter.belief, self.laws.at[:, bucket]),
        }
        bundles = (actions != PASS).numpy() & ~builds_alone(observations)
        self.before = actions, bundles, stated
        return actions.numpy()

    def _read(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """What the network makes of the past [n, units], and its logits [n, ACTIONS]."""
        network = self.network
        if isinstance(network, WindowClearingBelief):
            past = network.remembered(seen)
        else:
            assert isinstance(network, RecurrentClearingBelief)
            if self.state is None:
                self.state = torch.zeros(1, len(seen), network.state_shape[1])
            *_, self.state = network(seen, self.state)
            past = network.remembered(seen, self.state[0])
        return past, network.chosen(seen, past)[0]

    def _score(self, after: Observations) -> None:
        """Hold what was stated in the slot before against the auction that came of it."""
        if self.before is None:
            return
        actions, bundles, stated = self.before
        auctions = seen_of(actions, torch.from_numpy(after))
        kept = bundles[auctions.at.numpy()]
        at, entry, place, outbid = (
            x.numpy()[kept] for x in (auctions.at, auctions.entry, auctions.place, auctions.outbid)
        )
        self.outbid.append(outbid)
        for who, classes in stated.items():
            p = classes[at]
            below = np.take_along_axis(p.cumsum(axis=1), entry[:, None], 1)[:, 0]
            exact = np.take_along_axis(p, place[:, None], 1)[:, 0]
            self.stated[who].append(below)
            likely = np.where(outbid, exact, below)
            self.log_scores[who].append(np.log(np.maximum(likely, 1e-300)))

    def found(self) -> Forecast:
        """Scores of all auctions since the last restart, for a report."""
        stayed = ~np.concatenate(self.outbid)
        stated = {who: np.concatenate(parts) for who, parts in self.stated.items()}
        return {
            "auctions": int(stayed.size),
            "log_score": {
                who: float(np.concatenate(parts).mean()) for who, parts in self.log_scores.items()
            },
            "brier": {who: float(((p - stayed) ** 2).mean()) for who, p in stated.items()},
            "reliability": reliability(stated[BELIEF], stayed),
        }


def _over_all(laws: ClearingLaws) -> Floats:
    """[BIDS + 1]: shares of highest bids over all regimes and values."""
    weights = laws.start[:, None] * laws.value[:, :-1]
    return (weights[:, :, None] * laws.at).sum(axis=(0, 1)) / weights.sum()


def forecast_of(
    network: nn.Module, laws: ClearingLaws, env: MarketVectorEnv, seed: int
) -> Forecast:
    """Scores over one episode per market of `env`."""
    bidder = Foretelling(network, laws)
    play(bidder, env, seed)
    return bidder.found()
