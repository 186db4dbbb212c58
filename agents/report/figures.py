"""Figures of a training run's report: learning, profit by arm and by training, bids, reasons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from agents.bidders.arms import POLICY, STATIC
from agents.bidders.baselines import FRACTIONS
from agents.evaluate.comparison import Comparison
from agents.measures.bid_curve import VALUE_EDGES_ETH, BidCurve
from agents.measures.tally import Tally
from agents.training.trials import TrialResult
from kernels.market.observation import VALUE_CENTRE, VALUE_SCALE

matplotlib.use("agg")

COLOURS = {POLICY: "#c1272d", STATIC: "#0072b2"}
OTHER_COLOUR = "#8c8c8c"
REASON_COLOURS = {
    "kept": "#c1272d",
    "paid as bid": "#e8a33d",
    "outbid": "#0072b2",
    "stale_state": "#56b4e9",
    "gas": "#f0e442",
    "late": "#009e73",
    "reverted": "#cc79a7",
    "filtered": "#595959",
    "missed": "#8c8c8c",
    "no bid": "#d9d9d9",
}
MOST_NAMED = 6  # curves with a name each; of more the legend names the arms
MIN_BIDS_SHOWN = 30  # a mean of fewer bids is noise


def learning_figure(results: Sequence[TrialResult], chosen: TrialResult) -> Figure:
    """Validation profit against decisions learned from, one line per trial, the chosen one bold.

    The others have one colour per arm.
    """
    figure, axes = _axes("decisions learned from", "validation IQM profit per episode (ETH)")
    arms = sorted({result.trial.arm for result in results})
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(arms)))
    named: set[str] = set()
    for result in results:
        arm, label = result.trial.arm, result.trial.name
        if result is not chosen and len(results) > MOST_NAMED:
            label = "" if arm in named else arm
            named.add(arm)
        colour = shades[arms.index(arm)] if len(arms) > 1 else OTHER_COLOUR
        steps = [0.0, *(point["steps"] for point in result.curve)]
        profit = [np.nan, *(point["validation_iqm_eth"] for point in result.curve)]
        style = {"color": COLOURS[POLICY], "lw": 2.2} if result is chosen else {"color": colour}
        axes.plot(steps, profit, label=label, **style)
    axes.legend(frameon=False)
    axes.set_title("Learning curves on validation episodes", loc="left")
    return figure


def arms_figure(arms: dict[str, dict[str, Any]], scenario: str) -> Figure:
    """IQM profit of every arm with its 95 % interval."""
    figure, axes = _axes("IQM profit per episode (ETH), 95 % bootstrap interval", "")
    order = sorted(arms, key=lambda arm: arms[arm][scenario]["iqm_eth"])
    for row, arm in enumerate(order):
        values = arms[arm][scenario]
        low, high = values["iqm_95_eth"]
        colour = COLOURS.get(arm, OTHER_COLOUR)
        axes.barh(row, values["iqm_eth"], color=colour, height=0.6)
        axes.plot([low, high], [row, row], color="black", lw=1.5)
    axes.set_yticks(range(len(order)), order)
    axes.set_title(f"Profit by arm, scenario {scenario}", loc="left")
    return figure


def trainings_figure(trainings: Mapping[str, Mapping[str, float]], scenario: str) -> Figure:
    """Test IQM profit of every training by arm; the one that validation chose is filled.

    trainings: arm -> training -> ETH per episode, the chosen training of each arm first.
    """
    figure, axes = _axes("test IQM profit per episode (ETH), a point per training", "")
    order = sorted(trainings, key=lambda arm: max(trainings[arm].values()))
    for row, arm in enumerate(order):
        chosen, *others = trainings[arm].values()
        axes.plot(others, [row] * len(others), "o", color=OTHER_COLOUR, fillstyle="none")
        axes.plot(chosen, row, "o", color=COLOURS[POLICY])
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_title(f"Profit by training, scenario {scenario} (filled: chosen)", loc="left")
    return figure


def bid_figure(curve: BidCurve) -> Figure:
    """Mean bid of the policy against the value of the opportunity, by hidden regime."""
    figure, axes = _axes("net profit of the opportunity (ETH)", "bid / net profit")
    centres = np.sqrt(VALUE_EDGES_ETH[1:] * VALUE_EDGES_ETH[:-1])
    shades = matplotlib.colormaps["viridis"](np.linspace(0.1, 0.85, curve.regimes))
    for regime in range(curve.regimes):
        enough = curve.bids[regime] >= MIN_BIDS_SHOWN
        bids = np.where(enough, curve.bids[regime], np.nan)
        label = f"regime {regime + 1} of {curve.regimes} (hidden)"
        axes.plot(centres, curve.fraction[regime] / bids, color=shades[regime], label=label)
        axes.plot(centres, curve.won[regime] / bids, color=shades[regime], ls=":")
    typical = np.exp(VALUE_CENTRE + np.array([-VALUE_SCALE, VALUE_SCALE]))
    axes.axvspan(*typical, color="black", alpha=0.06, lw=0)
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.0)
    axes.legend(frameon=False)
    axes.set_title("Bids of the policy by value (dotted: win rate)", loc="left")
    return figure


def reason_figure(comparison: Comparison) -> Figure:
    """What became of the net profit that each tuned or learned arm could have had, per episode.

    Kept and paid of what was won; what was bid on and lost, by reason; what was not bid on.
    """
    figure, axes = _axes("net profit on offer or bid on (ETH per episode)", "")
    shown = [arm for arm in comparison.played if arm in comparison.settings]
    left = np.zeros(len(shown))
    for name, colour in REASON_COLOURS.items():
        width = np.array([_by_reason(comparison.played[arm])[name] for arm in shown])
        axes.barh(shown, width, left=left, color=colour, height=0.6, label=name)
        left = left + width
    axes.invert_yaxis()
    figure.legend(frameon=False, ncols=5, fontsize="x-small", loc="outside lower center")
    axes.set_title(f"Profit by reason, scenario {comparison.scenario}", loc="left")
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
    """Validation profit of always bidding one fraction, over the whole grid."""
    figure, axes = _axes("bid / net profit", "IQM profit per episode (ETH)")
    axes.plot(FRACTIONS, comparison.static_scores_eth, marker=".", color=COLOURS[STATIC])
    ours = arms[POLICY][comparison.scenario]["iqm_eth"]
    axes.axhline(ours, color=COLOURS[POLICY], label="policy on test episodes")
    axes.legend(frameon=False)
    axes.set_title("Always bidding one fraction, validation episodes", loc="left")
    return figure


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.0, 3.6), dpi=140, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> None:
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
