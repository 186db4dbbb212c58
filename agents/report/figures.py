"""Figures of a training run's report: learning, profit by arm and by training, bids, reasons."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from agents.bidders.arms import POLICY, STATIC
from agents.bidders.baselines import FRACTIONS
from agents.evaluate.comparison import Comparison
from agents.measures.bid_curve import VALUE_EDGES_ETH, BidCurve
from agents.measures.tally import Tally
from agents.training.trials import TrialResult
from history.files import write_atomically
from kernels.market.observation import VALUE_CENTRE, VALUE_SCALE

matplotlib.use("agg")

COLOURS = {POLICY: "#c1272d", STATIC: "#0072b2"}
OTHER_COLOUR = "#8c8c8c"
REASONS = {  # key in the tally -> (words, colour)
    "kept": ("kept as profit", "#c1272d"),
    "paid as bid": ("won, paid as bid", "#e8a33d"),
    "outbid": ("outbid", "#0072b2"),
    "stale_state": ("pools had moved", "#56b4e9"),
    "gas": ("moved, less than gas left", "#f0e442"),
    "late": ("too late for the block", "#009e73"),
    "reverted": ("public and reverted", "#cc79a7"),
    "filtered": ("proposer takes no bundles", "#595959"),
    "missed": ("no block in the slot", "#8c8c8c"),
    "no bid": ("not bid on", "#d9d9d9"),
}
MOST_NAMED = 6  # curves with a name each; of more the legend names the arms
LEAST_SHOWN = 0.002  # of a bar: a thinner part cannot be seen
MIN_BIDS_SHOWN = 30  # a mean of fewer bids is noise


def learning_figure(results: Sequence[TrialResult], chosen: TrialResult) -> Figure:
    """Validation profit against decisions learned from, one line per trial, the chosen one bold.

    The others have one colour per arm. The scale begins at 0, or below where money was lost.
    """
    figure, axes = _axes("decisions learned from", "profit per validation episode\n(IQM, ETH)")
    arms = sorted({result.trial.arm for result in results})
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(arms)))
    named: set[str] = set()
    for result in results:
        arm, label = result.trial.arm, f"training {result.trial.name}"
        if result is not chosen and len(results) > MOST_NAMED:
            label = "" if arm in named else f"trainings of {arm}"
            named.add(arm)
        colour = shades[arms.index(arm)] if len(arms) > 1 else OTHER_COLOUR
        steps = [point["steps"] for point in result.curve]
        profit = [point["validation_iqm_eth"] for point in result.curve]
        style: dict[str, Any] = {"color": colour, "lw": 1.2}
        if result is chosen:
            style, label = {"color": COLOURS[POLICY], "lw": 2.2, "zorder": 3}, f"{label} (chosen)"
        axes.plot(steps, profit, label=label, marker="o", ms=3, **style)
    _from_zero(axes.set_ylim, [p["validation_iqm_eth"] for r in results for p in r.curve])
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(frameon=False, loc="lower right")
    axes.set_title("What the trainings earned on validation episodes", loc="left")
    return figure


def arms_figure(arms: dict[str, dict[str, Any]], scenario: str) -> Figure:
    """IQM profit of every arm with its 95 % interval and its value in figures."""
    figure, axes = _axes("profit per episode (IQM, ETH); line: 95 % interval", "")
    order = sorted(arms, key=lambda arm: arms[arm][scenario]["iqm_eth"])
    most = max(arms[arm][scenario]["iqm_95_eth"][1] for arm in order)
    for row, arm in enumerate(order):
        values = arms[arm][scenario]
        low, high = values["iqm_95_eth"]
        colour = COLOURS.get(arm, OTHER_COLOUR)
        axes.barh(row, values["iqm_eth"], color=colour, height=0.6)
        axes.plot([low, high], [row, row], color="black", lw=1.5)
        axes.text(max(high, 0.0) + 0.015 * most, row, f"{values['iqm_eth']:.2f}", va="center")
    axes.margins(x=0.1)
    axes.set_yticks(range(len(order)), order)
    axes.set_title(f"What every arm earned, market: {scenario}", loc="left")
    return figure


def trainings_figure(trainings: Mapping[str, Mapping[str, float]], scenario: str) -> Figure:
    """Test IQM profit of every training by arm; the one that validation chose is filled.

    trainings: arm -> training -> ETH per episode, the chosen training of each arm first.
    """
    figure, axes = _axes("profit per test episode (IQM, ETH), a point per training", "")
    order = sorted(trainings, key=lambda arm: max(trainings[arm].values()))
    for row, arm in enumerate(order):
        chosen, *others = trainings[arm].values()
        axes.plot(others, [row] * len(others), "o", color=OTHER_COLOUR, fillstyle="none")
        axes.plot(chosen, row, "o", color=COLOURS[POLICY])
    _from_zero(axes.set_xlim, [p for arm in trainings.values() for p in arm.values()])
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_title(f"Trainings, market: {scenario} (filled: chosen by validation)", loc="left")
    return figure


def bid_figure(curve: BidCurve) -> Figure:
    """Mean bid of the policy, and how often it won, by value of the opportunity and regime."""
    figure, axes = _axes("net profit of the opportunity (ETH)", "share")
    centres = np.sqrt(VALUE_EDGES_ETH[1:] * VALUE_EDGES_ETH[:-1])
    shades = matplotlib.colormaps["viridis"](np.linspace(0.1, 0.85, curve.regimes))
    for regime in range(curve.regimes):
        enough = curve.bids[regime] >= MIN_BIDS_SHOWN
        bids = np.where(enough, curve.bids[regime], np.nan)
        won = curve.won[regime].sum() / max(1.0, curve.bids[regime].sum())
        name = f"regime {regime + 1}: wins {won:.0%}"
        axes.plot(centres, curve.fraction[regime] / bids, color=shades[regime], label=name)
        axes.plot(centres, curve.won[regime] / bids, color=shades[regime], ls=":")
    axes.plot([], [], color="black", label="bid / net profit")
    axes.plot([], [], color="black", ls=":", label="bids that won")
    typical = np.exp(VALUE_CENTRE + np.array([-VALUE_SCALE, VALUE_SCALE]))
    axes.axvspan(*typical, color="black", alpha=0.06, lw=0, label="typical values")
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.0)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title("How the policy bids in each competition regime (hidden from it)", loc="left")
    return figure


def reason_figure(comparison: Comparison) -> Figure:
    """What became of the net profit that each tuned or learned arm could have had, per episode.

    Kept and paid of what was won; what was bid on and lost, by reason; what was not bid on.
    """
    figure, axes = _axes("net profit on offer or bid on (ETH per episode)", "")
    shown = [arm for arm in comparison.played if arm in comparison.settings]
    parts = [_by_reason(comparison.played[arm]) for arm in shown]
    most = max(sum(part.values()) for part in parts)
    left = np.zeros(len(shown))
    for key, (name, colour) in REASONS.items():
        width = np.array([part[key] for part in parts])
        if np.any(np.abs(width) > LEAST_SHOWN * most):
            axes.barh(shown, width, left=left, color=colour, height=0.6, label=name)
            left = left + width
    axes.invert_yaxis()
    figure.legend(frameon=False, ncols=3, fontsize="small", loc="outside lower center")
    axes.set_title(f"Where the profit on offer went, market: {comparison.scenario}", loc="left")
    return figure


def _by_reason(tally: Tally) -> dict[str, float]:
    """Mean per episode, ETH. Gas of failed transactions is taken from what was kept.

    Unseen swaps that land ahead of a bundle move its pools: won bids may keep more than the quoted
    profit less the bid.
    """
    parts = {"kept": tally.profit_eth, "paid as bid": tally.paid_eth, **tally.lost_eth}
    return {
        name: float(part.mean()) for name, part in {**parts, "no bid": tally.passed_eth}.items()
    }


def static_figure(comparison: Comparison, arms: dict[str, dict[str, Any]]) -> Figure:
    """Profit of always bidding one fraction, over the whole grid, beside that of the policy.

    The grid was played on validation episodes, where the best fraction is chosen; the policy and
    the chosen fraction on test episodes.
    """
    figure, axes = _axes("bid / net profit", "profit per episode (IQM, ETH)")
    label = "one fraction, validation episodes"
    axes.plot(
        FRACTIONS, comparison.static_scores_eth, marker=".", color=COLOURS[STATIC], label=label
    )
    ours, theirs = (arms[arm][comparison.scenario] for arm in (POLICY, STATIC))
    axes.axhline(ours["iqm_eth"], color=COLOURS[POLICY], label="policy, test episodes")
    place = theirs["fraction"], theirs["iqm_eth"]
    axes.plot(*place, "D", color="black", label="best fraction, test episodes")
    _from_zero(axes.set_ylim, [*comparison.static_scores_eth, ours["iqm_eth"]])
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(f"Always bidding one fraction, market: {comparison.scenario}", loc="left")
    return figure


def _from_zero(limit: Callable[[float, float], Any], values: Sequence[float]) -> None:
    """An axis that holds 0: a cut scale would make noise look like a difference."""
    low, high = min(0.0, *values), max(0.0, *values)
    margin = 0.08 * (high - low or 1.0)
    limit(low - margin * (low < 0.0), high + margin)


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.6, 3.8), dpi=140, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> None:
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
