"""The report of a training run: report.json for programs, report.md with figures for people."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from agents.arms import AIMD, EMA, POLICY, STATIC
from agents.baselines import FRACTIONS
from agents.evaluate import Comparison, ingredient_lines, verdict
from agents.runs import write_text
from agents.tally import REASONS, Tally
from agents.workers import TrialResult
from envs.auctions import PASSED
from kernels.observation import VALUE_CENTRE, VALUE_SCALE
from models.forecast_figures import calibration_figure
from models.forecast_table import markdown_report

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
CALIBRATION = "forecast_calibration.png"
VALUE_EDGES_ETH = np.geomspace(1e-4, 100.0, 25)
MIN_BIDS_SHOWN = 30  # a mean of fewer bids is noise


@dataclass
class BidCurve:
    """Mean bid and win rate by value of the opportunity and hidden regime, filled slot by slot."""

    regimes: int
    bids: NDArray[np.float64] = field(init=False)  # [regime, value]
    fraction: NDArray[np.float64] = field(init=False)
    won: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Start from zero."""
        shape = (self.regimes, VALUE_EDGES_ETH.size - 1)
        self.bids, self.fraction, self.won = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def watch(
        self, available: NDArray[np.float64], rewards: NDArray[np.float64], infos: dict[str, Any]
    ) -> None:
        """Add the auctions that one decision settled."""
        value = np.searchsorted(VALUE_EDGES_ETH, infos["net"]) - 1
        known = (infos["outcome"] != PASSED) & (value >= 0) & (value < self.bids.shape[1])
        cell = infos["regime"][known], value[known]
        np.add.at(self.bids, cell, 1.0)
        np.add.at(self.fraction, cell, infos["own_fraction"][known])
        np.add.at(self.won, cell, infos["won"][known])


def write_report(
    run: Path,
    source: str,
    report: dict[str, Any],
    results: Sequence[TrialResult],
    chosen: TrialResult,
    comparisons: Sequence[Comparison],
    curve: BidCurve,
) -> None:
    """Write figures, report.json and report.md into `run`; `chosen` of `results` was frozen.

    report holds exactly the keys forecast, policy, ingredients, settings_tried, throughput,
    seconds, seed, commit.
    """
    figures = run / "figures"
    main = comparisons[0]
    _save(learning_figure(results, chosen), figures / "learning_curve.png")
    _save(arms_figure(report["policy"], main.scenario), figures / "profit_by_arm.png")
    _save(bid_figure(curve), figures / "bid_curve.png")
    _save(static_figure(main, report["policy"]), figures / "static_fractions.png")
    _save(reason_figure(main), figures / "profit_by_reason.png")
    if _calibrated(report):
        calibration_figure(report["forecast"], figures / CALIBRATION)
    write_text(run / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_text(run / "report.md", _markdown(source, report, results, chosen, comparisons))


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


def _save(figure: Figure, path: Path) -> None:
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


def _markdown(
    source: str,
    report: dict[str, Any],
    results: Sequence[TrialResult],
    chosen: TrialResult,
    comparisons: Sequence[Comparison],
) -> str:
    arms, tried = report["policy"], _plain(report["settings_tried"])
    lines = [
        source,
        "",
        "# Training report",
        "",
        f"Commit {report['commit']}, seed {report['seed']}, {report['seconds']:.0f} s.",
        "",
        "## Policy",
        "",
        *(f"- {verdict(arms, comparison.scenario)}" for comparison in comparisons),
        "",
        "![profit by arm](figures/profit_by_arm.png)",
        "",
        *_ingredients(report["ingredients"]),
        *(line for comparison in comparisons for line in _arm_lines(arms, comparison)),
        _method(comparisons[0].scores[POLICY].size),
        "",
        "![learning curves](figures/learning_curve.png)",
        "",
        f"{len(results)} trainings; validation chose {chosen.trial.name}: "
        + ", ".join(f"{r.trial.name} {r.score_eth:.4f} ETH" for r in results)
        + ".",
        "",
        f"Settings tried on validation, for the rules in every scenario: {tried}.",
        "",
        "![profit by reason](figures/profit_by_reason.png)",
        "",
        "![bids by value](figures/bid_curve.png)",
        "",
        "![static fractions](figures/static_fractions.png)",
        "",
        "## Volatility forecast",
        "",
        *([f"![calibration](figures/{CALIBRATION})", ""] if _calibrated(report) else []),
        markdown_report(report["forecast"]),
        "## Throughput",
        "",
        *(f"- {name.replace('_', ' ')}: {_plain(v)}" for name, v in report["throughput"].items()),
    ]
    return "\n".join(lines) + "\n"


def _method(episodes: int) -> str:
    return (
        f"All arms play the same {episodes} held-out episodes of the test split. IQM: "
        "interquartile mean per episode, ETH; interval: 95 % stratified bootstrap over episodes "
        "within seeds. Share: profit over what the best bid of the grid would have earned after "
        "the fact, weighted by value, with its bootstrap interval; of offer: the same over all "
        "net profit on offer. CVaR: mean of the worst 5 % of episodes. Failed: bids lost for "
        "another reason than being outbid; negative: slots that cost money, per bid. Beaten by "
        "the policy: probability that it earns more in an episode, ties half. User harm: losses of "
        "users to sandwiches per episode, and what they are above those without us. Best static "
        "(one "
        "fraction, or one per tenth of the values), EMA and up-and-down rules: the setting with "
        "the highest IQM on validation episodes of the same scenario. The policy "
        "decides by argmax. Rivals, their regimes and their efficiency are assumed, not measured: "
        "the gap to the fixed rules is a property of those assumptions."
    )


def _arm_lines(arms: dict[str, dict[str, Any]], comparison: Comparison) -> list[str]:
    """A Markdown table of one scenario, best arm first."""
    lines = [
        f"**Scenario {comparison.scenario}**",
        "",
        _row(
            "arm", "IQM", "95 % interval", "mean", "share", "95 %", "win rate", "bid share", "CVaR"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    name = comparison.scenario
    for arm in sorted(arms, key=lambda a: -arms[a][name]["iqm_eth"]):
        v = arms[arm][name]
        low, high = v["iqm_95_eth"]
        label = f"{arm} ({v['setting']})" if arm in (STATIC, EMA, AIMD) else arm
        cells = [f"**{label}**" if arm == POLICY else label, f"{v['iqm_eth']:.4f}"]
        cells += [f"{low:.4f} to {high:.4f}", f"{v['mean_eth']:.4f}"]
        cells += [f"{v['share_of_best_response']:.3f}", _ends(v["share_of_best_response_95"])]
        cells += [f"{v['win_rate']:.3f}", f"{v['bid_share']:.3f}", f"{v['cvar_eth']:.4f}"]
        lines.append(_row(*cells))
    return [*lines, "", *_second_table(arms, name), ""]


def _second_table(arms: dict[str, dict[str, Any]], scenario: str) -> list[str]:
    """What else a sceptic asks of every arm, in the order of the first table."""
    costs = "failed", "negative", "user harm", "above no-op"
    lines = [
        _row("arm", "of offer", "95 %", "beaten by the policy", "95 %", *costs),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in sorted(arms, key=lambda a: -arms[a][scenario]["iqm_eth"]):
        v = arms[arm][scenario]
        cells = [arm, f"{v['share_of_available']:.3f}", _ends(v["share_of_available_95"])]
        if "probability_policy_better" in v:
            ends = _ends(v["probability_policy_better_95"])
            cells += [f"{v['probability_policy_better']:.3f}", ends]
        else:
            cells += ["", ""]
        failed = sum(v[f"lost_{reason}"] for reason in REASONS if reason != "outbid")
        cells += [f"{failed:.3f}", f"{v['negative_rate']:.4f}", f"{v['user_harm_eth']:.4f}"]
        more = v.get("user_harm_over_no_op_eth")
        if more:
            cells.append(f"{more['value']:+.4f} ({more['low']:+.4f} to {more['high']:+.4f})")
        else:
            cells.append("")
        lines.append(_row(*cells))
    return lines


def _ingredients(found: dict[str, dict[str, Any]]) -> list[str]:
    """What history, forecast, recurrence and masking add, in every scenario."""
    lines = [
        line for scenario, parts in found.items() for line in ingredient_lines(parts, scenario)
    ]
    if not lines:
        return []
    how = (
        "Paired differences of the IQM and of the mean per episode between the best training of "
        "each arm; the intervals are over episodes, not over trainings."
    )
    return ["**What the ingredients add**", "", *(f"- {line}" for line in lines), "", how, ""]


def _calibrated(report: dict[str, Any]) -> bool:
    return any("calibration" in row for row in report["forecast"]["rows"])


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _ends(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(v)}" for key, v in value.items())
    return f"{value:,.0f}" if isinstance(value, float) else str(value)
