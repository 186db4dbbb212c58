"""The report of a training run: report.json for programs, report.md with figures for people."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.bidders.arms import POLICY, STATIC_BY_VALUE
from agents.evaluate.comparison import Comparison
from agents.evaluate.fair import fair_lines
from agents.evaluate.verdicts import COLUMNS as TERMINAL_COLUMNS
from agents.evaluate.verdicts import (
    MIN_TRAININGS,
    arm_table,
    by_profit,
    ingredient_lines,
    verdict,
)
from agents.measures.tally import REASONS
from agents.report.figures import (
    arms_figure,
    bid_figure,
    learning_figure,
    reason_figure,
    save_figure,
    static_figure,
    trainings_figure,
)
from agents.report.studies import draw_studies, studies_lines
from agents.runs import write_text
from agents.training.trials import TrialResult
from models.forecast_figures import calibration_figure
from models.volatility.table import markdown_report, verdict_lines

CALIBRATION = "forecast_calibration.png"
# Columns of the two tables of a scenario, in their order.
COLUMNS = {
    "IQM": "profit per episode in ETH: mean of the middle half of the episodes",
    "95 %": "interval of the IQM",
    "mean": "profit per episode in ETH over all episodes",
    "share": "profit over what the best bid of the grid would have earned after the fact",
    "share 95 %": "interval of the share",
    "wins": "bids that won, of all bids",
    "bid": "bids over the net profit that they were made for, both summed",
    "worst 5 %": "mean profit in ETH of the worst twentieth of the episodes (CVaR)",
    "of offer": "profit over all net profit on offer",
    "of offer 95 %": "its interval",
    "policy better": "probability that the policy earns more in an episode; ties count half",
    "better 95 %": "its interval",
    "failed": "bids lost for another reason than being outbid, of all bids",
    "negative": "slots that cost money, per bid",
    "user harm": "ETH per episode that users lose to sandwiches, which others make",
    "above no-op": "user harm minus that in the same episodes without us, with its interval",
}


def write_report(
    run: Path,
    source: str,
    report: dict[str, Any],
    results: Sequence[TrialResult],
    chosen: TrialResult,
    comparisons: Sequence[Comparison],
) -> None:
    """Write figures, report.json and report.md into `run`; `chosen` of `results` was frozen.

    report holds exactly the keys forecast, policy, fair, trainings, ingredients, settings_tried,
    studies, throughput, seconds, seed, commit.
    """
    figures = run / "figures"
    main = comparisons[0]
    drawn = {
        "learning_curve": learning_figure(results, chosen),
        "profit_by_arm": arms_figure(report["policy"], main.scenario),
        "profit_by_training": trainings_figure(report["trainings"][main.scenario], main.scenario),
        "bid_curve": bid_figure(main.curve),
        "static_fractions": static_figure(main, report["policy"]),
        "profit_by_reason": reason_figure(main),
    }
    for name, figure in drawn.items():
        save_figure(figure, figures / f"{name}.png")
    draw_studies(report["studies"], figures)
    if _calibrated(report):
        calibration_figure(report["forecast"], figures / CALIBRATION)
    write_text(run / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_text(run / "report.md", _markdown(source, report, results, chosen, comparisons))


def print_report(report: dict[str, Any], console: Console) -> None:
    """The tables and sentences of `write_report` for the terminal."""
    for scenario, parts in report["ingredients"].items():
        console.print(arm_table(scenario, report["policy"]))
        said = fair_lines(report["fair"][scenario], scenario)
        said += [*verdict(report["policy"], scenario), *ingredient_lines(parts, scenario)]
        console.print(*said, sep="\n", highlight=False)
    console.print(TERMINAL_COLUMNS, style="dim", highlight=False)
    for line in verdict_lines(report["forecast"]):
        console.print(f"Forecast, {line}", highlight=False)


def _markdown(
    source: str,
    report: dict[str, Any],
    results: Sequence[TrialResult],
    chosen: TrialResult,
    comparisons: Sequence[Comparison],
) -> str:
    arms, tried = report["policy"], _plain(report["settings_tried"])
    fair = report["fair"].items()
    sentences = [line for scenario, found in fair for line in fair_lines(found, scenario)]
    sentences += [line for c in comparisons for line in verdict(arms, c.scenario)]
    lines = [
        "# Training report",
        "",
        *(f"- {line}" for line in sentences),
        *(f"- Forecast, {line}" for line in verdict_lines(report["forecast"])),
        "",
        f"{source}.",
        f"Commit {report['commit']}, seed {report['seed']}, {report['seconds']:.0f} s.",
        "",
        "## What every arm earned",
        "",
        "![profit by arm](figures/profit_by_arm.png)",
        "",
        _method(comparisons[0].scores[POLICY].size),
        "",
        *_legend(COLUMNS),
        *(line for comparison in comparisons for line in _arm_lines(arms, comparison)),
        "![profit by reason](figures/profit_by_reason.png)",
        "",
        "## How it was learned",
        "",
        f"{len(results)} trainings. Validation chose {chosen.trial.name} for its profit there: "
        + ", ".join(f"{r.trial.name} {r.score_eth:.4f} ETH" for r in results)
        + ".",
        f"Settings tried on validation, for the rules in every scenario: {tried}.",
        "",
        "![learning curves](figures/learning_curve.png)",
        "",
        "![profit by training](figures/profit_by_training.png)",
        "",
        *_ingredients(report["ingredients"]),
        "## How the policy bids",
        "",
        "![bids by value](figures/bid_curve.png)",
        "",
        "![static fractions](figures/static_fractions.png)",
        "",
        "## Volatility forecast",
        "",
        *([f"![calibration](figures/{CALIBRATION})", ""] if _calibrated(report) else []),
        markdown_report(report["forecast"]),
        *studies_lines(report["studies"]),
        "## Throughput",
        "",
        *(f"- {name.replace('_', ' ')}: {_plain(v)}" for name, v in report["throughput"].items()),
    ]
    return "\n".join(lines) + "\n"


def _method(episodes: int) -> str:
    return (
        f"All arms play the same {episodes} held-out episodes of the test split. The policy "
        "decides by argmax. Rules bid bundles and, where the proposer builds alone, in public, "
        "as the policy may. The rules that have a setting use the one with the highest IQM on "
        "validation episodes of the same scenario; the Bayes filter knows the laws of the hidden "
        "regimes from training episodes. Intervals are 95 % stratified bootstraps over episodes "
        "within seeds. Rivals, their regimes and their efficiency are assumed, not measured: the "
        "gap to the rules is a property of those assumptions."
    )


def _legend(columns: dict[str, str]) -> list[str]:
    """The meaning of every column, as a Markdown table."""
    return [
        _row("column", "meaning"),
        "|---|---|",
        *(_row(name, meaning) for name, meaning in columns.items()),
        "",
    ]


def _arm_lines(arms: dict[str, dict[str, Any]], comparison: Comparison) -> list[str]:
    """A Markdown table of one scenario, best arm first."""
    name, first = comparison.scenario, list(COLUMNS)[:8]
    lines = [f"### Market: {name}", "", _row("arm", *first), "|---|" + "---|" * len(first)]
    for arm in by_profit(arms, name):
        v = arms[arm][name]
        low, high = v["iqm_95_eth"]
        label = f"{arm} ({v['setting']})" if v.get("setting") and arm != STATIC_BY_VALUE else arm
        cells = [f"**{label}**" if arm == POLICY else label, f"{v['iqm_eth']:.4f}"]
        cells += [f"{low:.4f} to {high:.4f}", f"{v['mean_eth']:.4f}"]
        cells += [f"{v['share_of_best_response']:.3f}", _ends(v["share_of_best_response_95"])]
        cells += [f"{v['win_rate']:.3f}", f"{v['bid_share']:.3f}", f"{v['cvar_eth']:.4f}"]
        lines.append(_row(*cells))
    return [*lines, "", *_second_table(arms, name), ""]


def _second_table(arms: dict[str, dict[str, Any]], scenario: str) -> list[str]:
    """What else a sceptic asks of every arm, in the order of the first table."""
    rest = list(COLUMNS)[8:]
    lines = [_row("arm", *rest), "|---|" + "---|" * len(rest)]
    for arm in by_profit(arms, scenario):
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
        "Over trainings: the IQM over all episodes of all trainings with the ingredient, minus "
        "that without it; the 95 % bootstrap draws trainings anew within each arm and the same "
        "episodes for both, with percentiles expanded for few trainings. Best of each: paired "
        "differences between the trainings that validation chose, intervals over episodes alone, "
        f"which decide the sentence only where an arm has fewer than {MIN_TRAININGS} trainings."
    )
    return ["### What the ingredients add", "", *(f"- {line}" for line in lines), "", how, ""]


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
