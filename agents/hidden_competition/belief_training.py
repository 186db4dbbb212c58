"""Fits a belief by the log score of the rivals' highest bid along whole chains of auctions.

No bid moves a rival (`envs.hidden_competition.model.record` takes none), so the chains are recorded
once per seed and the simulator knows every label. What a searcher is *shown* does depend on its
bids: a won auction hides the highest rival. Each pass therefore plays the chains anew with the
bids of the belief as it now is, and fits it to the histories that these bids bring about.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.hidden_competition.belief import (
    BIDS,
    CLASSES,
    FORMS,
    SHARES,
    Belief,
    Played,
    Rivals,
    no_outcome,
    play,
    rivals_of,
)
from agents.learner.build import one_thread
from configs.settings import Count, NonNegative, Positive, Settings, Share
from envs.hidden_competition.model import HiddenCompetition, record

# Training chains of seed s; agents.hidden_competition.study trains and tunes on others.
BELIEF_SEED, CHAIN_LENGTH = 1_000_000, 1000
# Validation chains that say whether a training has learned; the held-out ones are never looked at.
CHECK_SEED, CHECK_CHAINS = 1, 64
LEAST_GAIN = 0.02  # nats per auction over the law without inputs


class NotLearnedError(RuntimeError):
    """A belief that says no more of the rivals than their overall law."""


@dataclass(frozen=True)
class BeliefConfig(Settings):
    """How a belief is fitted."""

    units: Count = 64
    """Width of every layer."""
    chains: Count = 64
    """Chains in a minibatch."""
    segment: Count = 64
    """Auctions through which gradients run back; the state goes on from segment to segment."""
    passes: Count = 1
    """Times that every chain is played and learned from."""
    rate: Positive = 1e-2
    """Adam's learning rate after warm-up; it falls to 0 as half a cosine."""
    value_power: NonNegative = 0.0
    """The log score of an auction weighs value ** this: 0 equally, 1 by value."""
    explore: Share = 0.05
    """Share of training bids that are drawn evenly from the grid."""
    labels: Literal["rival", "clearing"] = "rival"
    """rival: the highest rival bid, which the simulator knows. clearing: what a searcher sees, so
    that after a win only "below my bid" is scored."""
    max_gradient_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""


def log_scores(logits: Tensor, label: Tensor) -> Tensor:
    """ln P(class of the highest rival), float32 of label's shape."""
    return -nn.functional.cross_entropy(
        logits.reshape(-1, CLASSES), label.reshape(-1), reduction="none"
    ).view(label.shape)


def censored_log_scores(logits: Tensor, label: Tensor, bid: Tensor) -> Tensor:
    """ln P(what the clearing bid tells): the class after a loss, "at most class `bid`" after a win.

    label <= bid is a win: class k lies below BIDS[k].
    """
    log_p = logits.log_softmax(-1)
    exact = log_p.gather(-1, label[..., None])[..., 0]
    below = log_p.logcumsumexp(-1).gather(-1, bid[..., None])[..., 0]
    return torch.where(label <= bid, below, exact)


def train_belief(
    model: HiddenCompetition, form: str, config: BeliefConfig, seed: int, auctions: int
) -> Belief:
    """A belief of this form fitted on `auctions` auctions of training chains; the last weights.

    The same arguments give the same weights. Raises NotLearnedError where the log score on
    validation chains does not beat the law without inputs by LEAST_GAIN.
    """
    if form not in FORMS:
        raise ValueError(f"form {form!r}: choose one of {', '.join(FORMS)}")
    one_thread()
    rivals = _training_rivals(model, seed, auctions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        belief = FORMS[form](config.units)
        _fit(belief, rivals, config)
    check_learned(belief, model, marginal_law(rivals.label))
    return belief


def _training_rivals(model: HiddenCompetition, seed: int, auctions: int) -> Rivals:
    length = min(CHAIN_LENGTH, auctions)
    return rivals_of(record(model, "train", BELIEF_SEED + seed, auctions // length, length))


def training_law(model: HiddenCompetition, seed: int, auctions: int) -> NDArray[np.float64]:
    """The law without inputs, float64[CLASSES], as `train_belief` finds it."""
    return marginal_law(_training_rivals(model, seed, auctions).label)


def _fit(belief: Belief, rivals: Rivals, config: BeliefConfig) -> None:
    chains = rivals.label.shape[1]
    batch, segments = min(config.chains, chains), -(-rivals.label.shape[0] // config.segment)
    updates = config.passes * (chains // batch) * segments
    optimiser = torch.optim.Adam(belief.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.rate, total_steps=updates + 1, pct_start=0.1
    )
    weight = rivals.value_eth**config.value_power
    weight /= weight.mean()
    for _ in range(config.passes):
        order = torch.randperm(chains)
        for k in range(chains // batch):
            lanes = order[k * batch : (k + 1) * batch]
            mine, mine_weight = rivals.part(lanes), weight[:, lanes]
            state, outcome = belief.start(batch), no_outcome(batch)
            for first in range(0, len(mine.label), config.segment):
                span = slice(first, first + config.segment)
                now = Rivals(*(x[span] for x in mine))
                played = play(belief, now, state, outcome, _explored(now.label.shape, config))
                _update(belief, optimiser, now, played, state, (mine_weight[span], config))
                schedule.step()
                state, outcome = played.state, played.outcome


def _explored(shape: torch.Size, config: BeliefConfig) -> Tensor:
    drawn = torch.randint(BIDS.size, shape)
    return torch.where(torch.rand(shape) < config.explore, drawn, -1)


def _update(
    belief: Belief,
    optimiser: torch.optim.Optimizer,
    rivals: Rivals,
    played: Played,
    state: Tensor,
    by: tuple[Tensor, BeliefConfig],
) -> None:
    """One step of Adam on a segment that began in `state`."""
    weight, config = by
    logits, _ = belief(played.seen, state)
    if config.labels == "clearing":
        scores = censored_log_scores(logits, rivals.label, played.bid)
    else:
        scores = log_scores(logits, rivals.label)
    loss = -(scores * weight).mean()
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(belief.parameters(), config.max_gradient_norm)
    optimiser.step()


def marginal_law(label: Tensor) -> NDArray[np.float64]:
    """Frequencies of the classes, float64[CLASSES], each seen half a time more than it was."""
    counts = np.bincount(label.numpy().ravel(), minlength=CLASSES) + 0.5
    return counts / counts.sum()


def played_by(belief: Belief, rivals: Rivals) -> Played:
    """The belief's own bids along whole chains."""
    lanes = rivals.label.shape[1]
    return play(belief, rivals, belief.start(lanes), no_outcome(lanes))


def bids_of(played: Played) -> NDArray[np.float64]:
    """Shares float64[length, chains]."""
    return SHARES[played.bid].numpy()


def check_learned(belief: Belief, model: HiddenCompetition, law: NDArray[np.float64]) -> float:
    """Nats per auction over the law without inputs, on validation chains; NotLearnedError."""
    chains = record(model, "validation", CHECK_SEED, CHECK_CHAINS, CHAIN_LENGTH)
    rivals = rivals_of(chains)
    mine = float(log_scores(played_by(belief, rivals).logits, rivals.label).mean())
    plain = float(np.log(law)[rivals.label.numpy()].mean())
    if not mine - plain >= LEAST_GAIN:
        raise NotLearnedError(
            f"log score {mine:.4f} nats per auction on validation chains, the law without inputs "
            f"has {plain:.4f}: the belief must gain {LEAST_GAIN}; train on more auctions or passes"
        )
    return mine - plain
