"""The report of a training run: report.json for programs, report.md with figures for people."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.bidders.arms import AIMD, EMA, POLICY, STATIC
from agents.evaluate.comparison import MIN_TRAININGS, Comparison, ingredient_lines, verdict
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
from models.volatility.figures import calibration_figure
from models.volatility.table import markdown_report

CALIBRATION = "forecast_calibration.png"


def write_report(
    run: Path,
    source: str,
    report: dict[str, Any],
    results: Sequence[TrialResult],
    chosen: TrialResult,
    comparisons: Sequence[Comparison],
) -> None:
    """Write figures, report.json and report.md into `run`; `chosen` of `results` was frozen.

    report holds exactly the keys forecast, policy, trainings, ingredients, settings_tried, studies,
    throughput, seconds, seed, commit.
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
        "![profit by training](figures/profit_by_training.png)",
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
        *studies_lines(report["studies"]),
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
        "Over trainings: the IQM over all episodes of all trainings with the ingredient, minus "
        "that without it; the 95 % bootstrap draws trainings anew within each arm and the same "
        "episodes for both, with percentiles expanded for few trainings. Best of each: paired "
        "differences between the trainings that validation chose, intervals over episodes alone, "
        f"which decide the sentence only where an arm has fewer than {MIN_TRAININGS} trainings."
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
