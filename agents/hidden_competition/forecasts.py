"""How good a belief is as a forecast: log score, Brier score and reliability on held-out chains,
beside the law without inputs and the exact filter on the same histories.

Log score: ln of the probability of the class that the highest rival bid fell into, nats per
auction. Brier (1950): mean squared distance of P(win) from the outcome, 0 is best. Reliability
(Murphy and Winkler, 1977): how often a bid wins when its stated probability is p.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agents.hidden_competition.belief import (
    BIDS,
    CLASSES,
    Belief,
    Rivals,
    classes_of,
    rivals_of,
    win_probabilities,
)
from agents.hidden_competition.belief_training import played_by
from envs.hidden_competition.model import Chains, HiddenCompetition
from envs.hidden_competition.references import Bids, bayes_win_probabilities

LEVELS = 20  # of stated probability, equally wide
EVERY = 24  # reliability pools every so many bids of the grid, so that all probabilities occur
TOGETHER = 64  # chains
_POOLED = np.arange(EVERY - 1, BIDS.size, EVERY)

Forecast = dict[str, Any]


class _Stated(NamedTuple):
    """What a belief stated and did along whole chains, [length, chains] each."""

    bid: NDArray[np.int64]
    """index into BIDS"""
    win: NDArray[np.float64]
    """P(win) of that bid"""
    log_p: NDArray[np.float64]
    """ln P of the class that occurred"""
    pooled: NDArray[np.float64]
    """[length, chains, K]: P(win) of the bids _POOLED"""


def _stated(belief: Belief, rivals: Rivals) -> _Stated:
    """A few chains at a time: the logits of all would fill gigabytes."""
    parts = []
    for lanes in torch.arange(rivals.label.shape[1]).split(TOGETHER):
        mine = rivals.part(lanes)
        played = played_by(belief, mine)
        # float64 before the sums: so many terms of float32 would move ln P of rare classes
        logits = played.logits.double()
        win, log_p = win_probabilities(logits), logits.log_softmax(-1)
        found = (
            played.bid,
            win.gather(-1, played.bid[..., None])[..., 0],
            log_p.gather(-1, mine.label[..., None])[..., 0],
            win[..., _POOLED],
        )
        parts.append([x.numpy() for x in found])
    return _Stated(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))


def belief_bids(
    belief: Belief,
    model: HiddenCompetition,
    chains: Chains,
    law: NDArray[np.float64],
    burn_in: int,
) -> tuple[Bids, Forecast]:
    """Bids [length, chains] of a belief, and its scores over the auctions after the burn-in.

    law float64[CLASSES]: frequencies of the classes in training chains.
    """
    stated = _stated(belief, rivals_of(chains))
    bids, place = BIDS[stated.bid], classes_of(chains.top_rival)
    exact_p, exact_win = _of_the_filter(model, chains, bids, place)
    label, bid = place[burn_in:], stated.bid[burn_in:]
    won, win, exact_win = label <= bid, stated.win[burn_in:], exact_win[burn_in:]
    return bids, {
        "log_score": {
            "belief": float(stated.log_p[burn_in:].mean()),
            "law": float(np.log(law)[label].mean()),
            "filter": float(np.log(exact_p[burn_in:]).mean()),
        },
        "brier": {
            "belief": float(((win - won) ** 2).mean()),
            "law": float(((law.cumsum()[:-1][bid] - won) ** 2).mean()),
            "filter": float(((exact_win - won) ** 2).mean()),
        },
        "distance_from_filter": float(np.abs(win - exact_win).mean()),
        "reliability": reliability(stated.pooled[burn_in:], label[..., None] <= _POOLED),
        "reliability_own_bid": reliability(win, won),
    }


def _of_the_filter(
    model: HiddenCompetition, chains: Chains, bids: Bids, place: NDArray[np.int64]
) -> tuple[Bids, Bids]:
    """P(the class that occurred) and P(win) of the exact filter, [length, chains] each."""
    upper = BIDS[np.minimum(place, BIDS.size - 1)]
    lower = BIDS[np.maximum(place - 1, 0)]
    found = bayes_win_probabilities(model, chains, bids, np.stack([lower, upper, bids], -1))
    below = np.where(place == 0, 0.0, found[..., 0])
    up_to = np.where(place == CLASSES - 1, 1.0, found[..., 1])
    return np.maximum(up_to - below, 1e-300), found[..., 2]


def reliability(stated: NDArray[np.float64], won: NDArray[np.bool_]) -> dict[str, Any]:
    """Per level of stated probability: auctions, mean stated, share won. Levels without any go.

    error: mean distance of both, weighted by auctions (expected calibration error).
    """
    level = np.minimum((stated * LEVELS).astype(np.int64), LEVELS - 1).ravel()
    counts = np.bincount(level, minlength=LEVELS)
    used = counts > 0
    mean = np.bincount(level, stated.ravel(), LEVELS)[used] / counts[used]
    share = np.bincount(level, won.ravel(), LEVELS)[used] / counts[used]
    return {
        "auctions": counts[used].tolist(),
        "stated": mean.tolist(),
        "won": share.tolist(),
        "error": float(np.abs(mean - share) @ counts[used] / counts.sum()),
    }


def reliability_figure(forecasts: Mapping[str, Mapping[str, Forecast]]) -> Figure:
    """Stated against realised probabilities of winning, one panel per scenario.

    forecasts: scenario -> arm -> what `belief_bids` found.
    """
    drawing = Figure(figsize=(3.1 * len(forecasts), 3.3), layout="constrained")
    panels = drawing.subplots(1, len(forecasts), squeeze=False, sharey=True)[0]
    for axes, (name, arms) in zip(panels, forecasts.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="#8c8c8c", linewidth=0.8)
        for arm, found in arms.items():
            colour = "#c1272d" if "recurrent" in arm else "#e69f00"
            for key, marker in (("reliability", "."), ("reliability_own_bid", "x")):
                axes.plot(found[key]["stated"], found[key]["won"], marker, color=colour, ms=4)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("stated P(win)")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share won (. fixed bids, x own bid)")
    return drawing
