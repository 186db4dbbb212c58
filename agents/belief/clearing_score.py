"""The loss of a belief about clearing bids: the log score of what the next slot shows.

It needs nothing that a live searcher does not see: its own bid and whether it won, and of a lost
auction the winner's payment. All three stand in the next observation as the newest auction.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from agents.belief.clearing_network import (
    CLASSES,
    Law,
    RecurrentClearingBelief,
    WindowClearingBelief,
    grid_entry,
    net_eth,
    opportunities_of,
)
from agents.learner.ppo import ScheduledPPO
from agents.learner.rollout_buffer import Minibatch
from kernels.market.action import ACTION_TABLE, BID, BID_PPM, PPM
from kernels.market.observation import FIELDS, STALENESS_SCALE

_NAMES = [field.name for field in FIELDS]
_OWN, _CLEARING, _WON, _STALENESS = (
    _NAMES.index(f"auction0_{name}") for name in ("own", "clearing", "won", "staleness")
)
# By action: the opportunity, and the entry of the bid grid; -1 where it is no whole-size bid.
OPPORTUNITY = torch.tensor([row.opportunity for row in ACTION_TABLE])
_ENTRY = torch.tensor(
    [
        int(np.searchsorted(BID_PPM, row.bid_ppm)) if (row.kind, row.size_ppm) == (BID, PPM) else -1
        for row in ACTION_TABLE
    ]
)


class Seen(NamedTuple):
    """Auctions [m] that a minibatch's bids took part in."""

    at: Tensor
    """int64[m]: which sample of the minibatch."""
    entry: Tensor
    """int64[m]: own bid, entry of the grid."""
    place: Tensor
    """int64[m]: class of the clearing bid."""
    outbid: Tensor
    """bool[m]: lost to a higher bid."""
    won: Tensor
    """bool[m]"""


def seen_of(actions: Tensor, after: Tensor) -> Seen:
    """The auctions of actions int64[n], from the observations [n, SIZE] that followed them.

    A bid that came late, met no block or a proposer without bundles leaves no auction there.
    """
    entry = _ENTRY[actions]
    fresh = (after[:, _STALENESS] - 1.0 / STALENESS_SCALE).abs() < 0.5 / STALENESS_SCALE
    own = grid_entry(after[:, _OWN]) - 1
    at = ((entry >= 0) & fresh & (own == entry)).nonzero()[:, 0]
    won = after[at, _WON] > 0.0
    outbid = ~won & (after[at, _CLEARING] > after[at, _OWN] + 1e-6)
    return Seen(at, entry[at], grid_entry(after[at, _CLEARING]), outbid, won)


def log_scores(law: Law, seen: Seen) -> tuple[Tensor, Tensor]:
    """ln P of the clearing bid's class and of landing, [m] each; 0 where nothing is known.

    After an auction that was not lost to a higher bid the rivals are known to lie below ours, no
    more: ln P of all those classes together. Such a bid has landed or not.
    """
    log_p = law.logits.log_softmax(-1)
    exact = log_p.gather(-1, seen.place.clamp(max=CLASSES - 1)[:, None])[:, 0]
    below = log_p.logcumsumexp(-1).gather(-1, seen.entry[:, None])[:, 0]
    sign = torch.where(seen.won, 1.0, -1.0)
    landed = torch.where(seen.outbid, 0.0, nn.functional.logsigmoid(sign * law.landing))
    return torch.where(seen.outbid, exact, below), landed


def clearing_score(
    learner: ScheduledPPO, batch: Minibatch, value_power: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Minus the mean log score of the auctions that a minibatch's bids took part in.

    A loss for `ppo.loss`; the network is one of `agents.belief.clearing_network`. An auction
    weighs net profit ** value_power. What followed the last slot of a rollout is not looked at.
    """
    rows, lanes = batch.rows, learner.rollout_buffer.n_envs
    buffer, slots = learner.rollout_buffer, learner.rollout_buffer.buffer_size
    within = np.minimum(rows + lanes, slots * lanes - 1)
    after = buffer.observations.reshape(slots * lanes, -1)[within]
    ended = (rows >= (slots - 1) * lanes) | (buffer.episode_starts.reshape(-1)[within] > 0.0)
    actions = torch.where(torch.from_numpy(ended), 0, batch.actions)
    seen = seen_of(actions, torch.from_numpy(after))
    observations, past = _remembered(learner.policy.network, batch)
    offers = opportunities_of(observations[seen.at])
    offer = offers[torch.arange(len(offers)), OPPORTUNITY[actions[seen.at]]]
    law = learner.policy.network.law(past[seen.at], offer)
    clearing, landed = log_scores(law, seen)
    weight = net_eth(offer) ** value_power
    score = ((clearing + landed) * weight).sum() / weight.sum().clamp(min=1e-9)
    terms = {"clearing_log_score": clearing.mean(), "landing_log_score": landed.mean()}
    return -score, terms


def _remembered(network: Any, batch: Minibatch) -> tuple[Tensor, Tensor]:
    """Observations [n, SIZE] of the samples and what the network makes of their past [n, units]."""
    if isinstance(network, WindowClearingBelief):
        return batch.observations, network.remembered(batch.observations)
    if not isinstance(network, RecurrentClearingBelief):
        raise ValueError(
            f"{type(network).__name__} states no law of clearing bids: give one of "
            "agents.belief.clearing_network as ppo.network, or another loss"
        )
    assert batch.starts is not None
    assert batch.state is not None
    assert batch.order is not None
    slots, lanes = batch.starts.shape
    going = torch.from_numpy(~batch.starts).float()[..., None]
    read = network.embedded(batch.observations).view(slots, lanes, -1)
    memory, found = batch.state[0], []
    for t in range(slots):
        memory = network.memory(read[t], memory * going[t])
        found.append(memory)
    past = network.remembered(batch.observations, torch.cat(found))
    return batch.observations[batch.order], past[batch.order]
