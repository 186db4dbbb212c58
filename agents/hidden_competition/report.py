"""Tables and figure of the hidden-competition study: shares of every arm, what learners close."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from agents.findings import Finding

# Asked of every training with history in ASKED, by value: the least and the most.
ASKED = ("D",)
REQUIRED: dict[str, tuple[float, float | None]] = {
    "gap_closed": (0.85, None),
    "over_static": (1.4, None),
    "over_adaptive": (1.12, None),
    "over_bayes": (0.94, 1.0),
}
NAMES = {
    "gap_closed": "gap closed",
    "over_static": "profit / best static",
    "over_adaptive": "profit / better tuned rule",
    "over_bayes": "profit / Bayes of the same information",
}
WEIGHTINGS = {"value": "by value", "count": "auctions weighted equally"}
HISTORY, STATELESS, BELIEF = "PPO", "stateless PPO", "belief, "
COLOURS = {HISTORY: "#0072b2", f"{BELIEF}recurrent": "#c1272d", f"{BELIEF}window": "#e69f00"}

Summary = dict[str, Any]  # of agents.hidden_competition.study.summarise


def shares_table(name: str, summary: Summary) -> Table:
    """Every arm's shares; learners also with the gap they close, both weightings."""
    table = Table("arm", "share, by value", "95 %", "by auction", "gap closed", title=name)
    for arm, shares in summary["shares"].items():
        value, low, high = shares["value"]
        gap = ""
        if arm in summary["learners"]:
            rows = summary["learners"][arm]
            gap = f"{rows['value']['gap_closed'][0]:.3f} ({rows['count']['gap_closed'][0]:.3f})"
        table.add_row(
            arm, f"{value:.3f}", f"{low:.3f} to {high:.3f}", f"{shares['count'][0]:.3f}", gap
        )
    return table


def figure(summaries: Mapping[str, Summary]) -> Figure:
    """Shares by arm in the first scenario, and the gap that every training closes in each.

    A kind of learner is one bar: the mean over its trainings, from the lowest to the highest end of
    their intervals.
    """
    drawing = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = drawing.subplots(1, 2, width_ratios=(3, 2))
    name, summary = next(iter(summaries.items()))
    trainings: dict[str, list[list[float]]] = {}
    for arm, found in summary["shares"].items():
        if arm != "clairvoyant":
            trainings.setdefault(arm.split(", seed ")[0], []).append(found["value"])
    shares = {
        arm: (np.mean([x[0] for x in all_]), min(x[1] for x in all_), max(x[2] for x in all_))
        for arm, all_ in trainings.items()
    }
    order = sorted(shares, key=lambda arm: shares[arm][0])
    middle, low, high = np.array([shares[arm] for arm in order]).T
    colours = [COLOURS.get(arm, "#8c8c8c") for arm in order]
    left.barh(order, middle, xerr=[middle - low, high - middle], color=colours)
    left.tick_params(axis="y", labelsize=8)
    left.set_xlabel(f"share of the clairvoyant profit by value, scenario {name}, 95 % interval")
    for place, found in enumerate(summaries.values()):
        for weighting, marker in (("value", "o"), ("count", "x")):
            for kind, colour in COLOURS.items():
                gaps = _of_learners(found, kind, weighting, "gap_closed")
                right.plot([place] * len(gaps), gaps, marker, color=colour, fillstyle="none")
    for kind, colour in COLOURS.items():
        if any(_of_learners(found, kind, "value", "gap_closed") for found in summaries.values()):
            right.plot([], [], "o", color=colour, fillstyle="none", label=kind)
    if len(right.get_legend_handles_labels()[0]) > 1:
        right.legend(frameon=False, fontsize=8)
    right.set_xticks(range(len(summaries)), list(summaries))
    right.set_ylabel("gap from best static to Bayes that is closed\n(o by value, x by auction)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return drawing


def findings(summary: Summary) -> list[Finding]:
    """REQUIRED against the lowest and the highest of the trainings with history."""
    found = []
    for key, (least, most) in REQUIRED.items():
        values = _of_learners(summary, HISTORY, "value", key)
        found.append(Finding(f"{NAMES[key]}, lowest of {len(values)}", min(values), least))
        if most is not None:
            found.append(
                Finding(f"{NAMES[key]}, highest of {len(values)}", max(values), None, most)
            )
    return found


def markdown(summaries: Mapping[str, Summary]) -> list[str]:
    """Tables over scenarios: shares of every arm, and what the trainings make of the references."""
    shares: dict[str, list[str]] = {}
    for summary in summaries.values():
        for arm, cell in _share_cells(summary).items():
            shares.setdefault(arm, []).append(cell)
    rule = "|---" * (1 + len(summaries)) + "|"
    lines = [_row("share by value (by auction)", *summaries), rule]
    lines += [_row(arm, *cells) for arm, cells in shares.items()]
    lines += ["", _row("range over trainings", *summaries), rule]
    for learner in (*COLOURS, STATELESS):
        for key, name in NAMES.items():
            for weighting, words in WEIGHTINGS.items():
                ranges = [
                    _range(_of_learners(summary, learner, weighting, key))
                    for summary in summaries.values()
                ]
                if any(ranges):
                    lines.append(_row(f"{learner}: {name}, {words}", *ranges))
    return lines


def kinds_of(summary: Summary) -> list[str]:
    """What each kind of learner closes of the gap over its trainings, a line each, and how good
    the beliefs are as forecasts."""
    lines = []
    for kind, rows in summary["kinds"].items():
        parts = []
        for weighting, words in WEIGHTINGS.items():
            parts.append(f"{words} {_with_ends(rows[weighting]['gap_closed'])}")
            if "more_than_ppo" in rows[weighting]:
                parts[-1] += f", PPO and {_with_ends(rows[weighting]['more_than_ppo'], '+')}"
        lines.append(f"{kind}: gap closed {'; '.join(parts)}")
    for arm, found in summary["forecasts"].items():
        log_score, brier = found["log_score"], found["brier"]
        lines.append(
            f"{arm}: log score {log_score['belief']:.4f} (law {log_score['law']:.4f}, filter "
            f"{log_score['filter']:.4f}), Brier {brier['belief']:.4f} (law {brier['law']:.4f}, "
            f"filter {brier['filter']:.4f}), calibration error {found['reliability']['error']:.4f}"
        )
    return lines


def _with_ends(interval: list[float], sign: str = "") -> str:
    value, low, high = interval
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _share_cells(summary: Summary) -> dict[str, str]:
    """Shares of the references, and the ranges of both kinds of learners; the best arm last."""
    by_arm: dict[str, dict[str, list[float]]] = {}
    for arm, shares in summary["shares"].items():
        kind = arm.split(", seed ")[0]
        for weighting in WEIGHTINGS:
            values = by_arm.setdefault(kind, {}).setdefault(weighting, [])
            values.append(shares[weighting][0])
    order = sorted(by_arm, key=lambda arm: max(by_arm[arm]["value"]))
    return {
        arm: f"{_range(by_arm[arm]['value'])} ({_range(by_arm[arm]['count'])})" for arm in order
    }


def _of_learners(summary: Summary, learner: str, weighting: str, key: str) -> list[float]:
    """A measure of every training of one kind of learner."""
    return [
        rows[weighting][key][0]
        for arm, rows in summary["learners"].items()
        if arm.startswith(f"{learner}, ")
    ]


def _range(values: list[float]) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} to {high}"
