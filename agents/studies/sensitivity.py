"""Gain of policies over the best rule in many markets: numbers, sentence, table and figure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from agents.bidders.arms import BAYES
from agents.measures.intervals import Interval, iqm, ratio_over_trainings

matplotlib.use("agg")

DEFAULT, RANDOMISED = "trained on the default", "trained over drawn markets"
COLOURS = {DEFAULT: "#0072b2", RANDOMISED: "#c1272d"}
EXPLAINED = (
    "Gain: IQM profit per episode over that of the best rule of the market, which was tuned on its "
    "validation episodes and picked by its test profit, to the rules' advantage; in brackets the "
    "95 % bootstrap interval over trainings and paired episodes. *: no drawn market is like it."
)


class Row(NamedTuple):
    """One market."""

    held_out: bool
    best_rule: str
    rules: Mapping[str, float]
    """IQM profit per episode of every rule, ETH, the best one first."""
    policies: Mapping[str, Mapping[str, float]]
    """The same of every training, by policy."""
    gains: Mapping[str, Interval]
    """By policy."""


def gain(ours: NDArray[np.float64], theirs: NDArray[np.float64], resamples: int = 2000) -> Interval:
    """`ratio_over_trainings` of IQMs, nan where theirs earn nothing."""
    if not iqm(theirs.ravel()) > 0.0:
        return Interval(float("nan"), float("nan"), float("nan"))
    return ratio_over_trainings(ours, theirs, iqm, resamples)


def row_of(
    rules: Mapping[str, NDArray[np.float64]],
    policies: Mapping[str, Mapping[str, NDArray[np.float64]]],
    held_out: bool,
    resamples: int = 2000,
) -> Row:
    """A market's row from scores [strata, episodes] of rules and of every training by policy.

    The Bayes filter is shown, but it is no rival: nobody is told the laws of hidden regimes.
    """
    found = {rule: float(iqm(rules[rule].ravel())) for rule in sorted(rules)}
    earned = dict(sorted(found.items(), key=lambda item: -item[1]))
    best = next(rule for rule in earned if rule != BAYES)
    return Row(
        held_out,
        best,
        earned,
        {
            policy: {name: float(iqm(scores.ravel())) for name, scores in trainings.items()}
            for policy, trainings in policies.items()
        },
        {
            policy: gain(np.stack(list(trainings.values())), rules[best], resamples)
            for policy, trainings in policies.items()
        },
    )


def verdict(rows: Mapping[str, Row], policy: str = RANDOMISED) -> str:
    """Names the markets in which a policy earns less than the best rule, or that none is there."""
    below = [
        f"{name}{'*' * row.held_out} {_words(row.gains[policy])}"
        for name, row in rows.items()
        if not row.gains[policy].value >= 1.0
    ]
    who = f"The policy {policy}"
    if below:
        return (
            f"{who} falls below the best rule in {len(below)} of {len(rows)}: {'; '.join(below)}."
        )
    worst = min(rows, key=lambda name: rows[name].gains[policy].value)
    surely = sum(row.gains[policy].low > 1.0 for row in rows.values())
    return (
        f"{who} falls below the best rule in none of {len(rows)} markets; it is above it with 95 % "
        f"confidence in {surely}, and by the least in: {worst} {_words(rows[worst].gains[policy])}."
    )


def _words(gain: Interval) -> str:
    return f"{gain.value:.3f} ({gain.low:.3f}-{gain.high:.3f})"


def table(rows: Mapping[str, Row]) -> Table:
    """Terminal table of all markets; EXPLAINED says what it shows."""
    shown = Table(title="Gain over the best rule", title_justify="left", box=SIMPLE_HEAD)
    for name in ("market", "best rule", "IQM, ETH", *COLOURS):
        words = name in ("market", "best rule")
        shown.add_column(name, justify="left" if words else "right")
    for name, row in rows.items():
        cells = [name + "*" * row.held_out, row.best_rule, f"{row.rules[row.best_rule]:.3f}"]
        cells += [_words(row.gains[policy]) for policy in COLOURS]
        least = min(row.gains[policy].value for policy in COLOURS)
        shown.add_row(*cells, style=None if least >= 1.0 else "red")
    return shown


def figure(rows: Mapping[str, Row]) -> Figure:
    """Gain by market, both policies, bars of their intervals; below 1 the rule earns more."""
    drawn = Figure(figsize=(8.0, 1.2 + 0.34 * len(rows)), layout="constrained")
    axes = drawn.subplots()
    place = np.arange(len(rows))
    for shift, (policy, colour) in zip((-0.14, 0.14), COLOURS.items(), strict=True):
        gains = np.array([row.gains[policy] for row in rows.values()])
        reach = np.abs(gains[:, 1:].T - gains[:, 0])
        style: dict[str, Any] = {"color": colour, "fmt": "o", "ms": 4, "capsize": 2}
        axes.errorbar(gains[:, 0], place + shift, xerr=reach, label=policy, **style)
    axes.axvline(1.0, color="#595959", lw=1.0)
    axes.set_yticks(place, [name + "*" * row.held_out for name, row in rows.items()])
    axes.invert_yaxis()
    axes.set_xlabel("IQM profit over that of the market's best rule (95 % interval)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    axes.grid(axis="x", alpha=0.3)
    return drawn


def as_json(row: Row) -> dict[str, Any]:
    """A row for the report; a gain that is no number is null."""
    return row._asdict() | {
        "gains": {
            policy: {k: v if np.isfinite(v) else None for k, v in found._asdict().items()}
            for policy, found in row.gains.items()
        }
    }
