"""What the arms of the hidden-competition study earned: shares, gaps, intervals over chains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.hidden_competition.report import HISTORY
from envs.hidden_competition.model import Chains
from envs.hidden_competition.references import Bids

STATIC, ADAPTIVE = "best static", ("EMA of clearing", "AIMD")
CEILING, STATELESS_CEILING = "Bayes, clearing public", "Bayes, no history"


@dataclass(frozen=True)
class Scores:
    """Sums over the counted auctions of each chain, float64[chains]: what every share needs.

    `value` weighs auctions by their value in ETH, `count` equally.
    """

    value: NDArray[np.float64]
    count: NDArray[np.float64]


def score(captured: Bids, chains: Chains, burn_in: int) -> Scores:
    """Sums of captured shares [length, chains] after the burn-in."""
    counted = captured[burn_in:]
    return Scores((counted * np.exp(chains.log_value[burn_in:])).sum(axis=0), counted.sum(axis=0))


def summarise(scores: dict[str, Scores], learned: Sequence[str], resamples: int) -> dict[str, Any]:
    """Shares of the clairvoyant profit per arm, and what each learner makes of the references.

    Everything is given value-weighted ("value") and per auction ("count"), with 95 % percentile
    bootstrap intervals over chains; one resampling serves all arms, so that ratios are paired.
    """
    chains = scores["clairvoyant"].value.size
    draws = np.random.default_rng(0).multinomial(
        chains, np.full(chains, 1.0 / chains), size=resamples
    )
    table: dict[str, Any] = {"shares": {}, "learners": {}}
    sums: dict[str, dict[str, NDArray[np.float64]]] = {"value": {}, "count": {}}
    for weighting, by_arm in sums.items():
        for name, arm in scores.items():
            chain_sums = getattr(arm, weighting)
            # entry 0 is the estimate itself, the others its bootstrap replicates
            by_arm[name] = np.concatenate([[chain_sums.sum()], draws @ chain_sums])
        for name in scores:
            share = by_arm[name] / by_arm["clairvoyant"]
            table["shares"].setdefault(name, {})[weighting] = _interval(share)
    for name in learned:
        rows = table["learners"][name] = {}
        for weighting, by_arm in sums.items():
            ours, static, bayes = by_arm[name], by_arm[STATIC], by_arm[CEILING]
            # the rule that earns more in this very test: an advantage the learner does not have
            rule = max(ADAPTIVE, key=lambda arm: by_arm[arm][0])
            rows[weighting] = {
                "gap_closed": _interval((ours - static) / (bayes - static)),
                "over_static": _interval(ours / static),
                "over_adaptive": _interval(ours / by_arm[rule]),
                "over_bayes": _interval(ours / bayes),
            }
    return table


def over_trainings(
    scores: dict[str, Scores], learned: Sequence[str], resamples: int
) -> dict[str, Any]:
    """Gap closed by each kind of learner, and by how much it exceeds today's, over trainings.

    The mean over a kind's trainings, 95 % percentile bootstrap: trainings are drawn anew within
    each kind and the same chains for all (Owen, 2007), so that the difference is paired by chain.
    """
    chains = scores["clairvoyant"].value.size
    rng = np.random.default_rng(1)
    draws = rng.multinomial(chains, np.full(chains, 1.0 / chains), size=resamples)
    arms_of: dict[str, list[str]] = {}
    for arm in learned:
        arms_of.setdefault(arm.split(", seed ")[0], []).append(arm)
    drawn = {
        kind: np.vstack([np.arange(len(a)), rng.integers(0, len(a), (resamples, len(a)))])
        for kind, a in arms_of.items()
    }
    table: dict[str, Any] = {kind: {} for kind in arms_of}
    for weighting in ("value", "count"):
        sums = {arm: getattr(scores[arm], weighting) for arm in (STATIC, CEILING, *learned)}
        # entry 0 is the estimate itself, the others its bootstrap replicates
        totals = {arm: np.concatenate([[x.sum()], draws @ x]) for arm, x in sums.items()}
        static, whole = totals[STATIC], totals[CEILING] - totals[STATIC]
        gaps = {}
        for kind, trainings in arms_of.items():
            closed = np.stack([(totals[arm] - static) / whole for arm in trainings], axis=1)
            gaps[kind] = np.take_along_axis(closed, drawn[kind], axis=1).mean(axis=1)
        for kind, gap in gaps.items():
            table[kind][weighting] = {"gap_closed": _interval(gap)}
            if HISTORY in gaps and kind != HISTORY:
                table[kind][weighting]["more_than_ppo"] = _interval(gap - gaps[HISTORY])
    return table


def _interval(values: NDArray[np.float64]) -> list[float]:
    """[estimate, low, high] of an estimate followed by its bootstrap replicates."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return [float(values[0]), float(low), float(high)]
