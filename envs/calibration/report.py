"""docs/calibration.md: the tables, where they come from, and the figures."""

from pathlib import Path
from typing import Any

from envs.calibration.per_block import MEASURES
from envs.calibration.quantities import CURVE, SHARE, Quantity
from envs.calibration.rows import LARGE_KS, LARGE_LN, SIDES, Row

READING = "\n## Reading\n"  # written by hand at the end of a report, and kept
_WORDS = {
    "gross_eth": "gross of arbitrage cycles, ETH",
    "opportunities": "arbitrage cycles",
    "payment_eth": "payments of bundles, ETH",
    "informed_payment_eth": "payments of CEX-DEX traders, ETH",
}

_HEAD = (
    "| quantity, unit | era | fitted 5 / 25 / 50 / 75 / 95 / 99 % | held out | simulated | "
    "fitted KS, d ln | held-out KS, d ln | agrees | windows apart |"
)
_EARNED = (
    "| era | fixed bid, share of net | fixed bid earns | hindsight | simulated gross of all | "
    "recorded gross of all cycles, held out | recorded payments of all bundles, held out |"
)


def markdown(rows: list[Row], found: dict[str, Any], command: str, figures: str) -> str:
    """The report up to its reading; `found` is what the command writes as JSON."""
    lines = [
        "# Calibration: the simulated market against recorded ones",
        "",
        f"Made by `{command}`; {found['setting']}",
        "Constants are fitted on the fitted windows alone (`envs/calibration/windows.py` has the",
        "split, `envs/calibration/fits.py` the fits). Held-out windows were not used by any fit.",
        "Recorded values are derived statistics of local data sets, which are no part of the",
        "project.",
        "",
        "## Per block",
        "",
        "Means per block. The interval is a 95 % block bootstrap of the held-out mean. *Agrees*:",
        "the simulated mean lies in it, or within 1.5 times of the held-out mean.",
        "",
        *_per_block(found["per_block"]),
        "",
        "## What a searcher can earn",
        "",
        "ETH per block. *Fixed bid* is the best of six fixed shares of net, bid as a bundle on the",
        "best opportunity, chosen on validation and played on the test markets; *hindsight* is",
        "the best bid of the grid after the fact, a bound. Recorded searchers together had the",
        "gross of their cycles to share with the producers of blocks; what they kept of it is not",
        "recorded.",
        "",
        *_earnings(found),
        "",
        "## Distributions",
        "",
        "KS is the Kolmogorov-Smirnov distance to the simulated sample, d ln the mean distance of",
        "ln quantiles from 5 to 95 % (0.69 is a factor of two). For shares and curves the largest",
        f"gap is given. *Far*: held-out KS or gap above {LARGE_KS}, or d ln above {LARGE_LN}. The",
        "last column is the distance between the two recorded windows: a market cannot be nearer",
        "to both than they are to one another.",
        "",
        *_distributions(rows),
        "",
        "## Where the recorded values come from, and what is missing",
        *map(_source, rows),
        "",
        "## Figures",
        "",
    ]
    lines += [
        f"![{row.quantity.title}, {row.quantity.split.era}]({figures}/{row.quantity.name}.png)"
        for row in rows
        if any(values is not None for values in row.sides.values())
    ]
    return "\n".join(lines) + "\n"


def _distributions(rows: list[Row]) -> list[str]:
    """The table of all quantities."""
    lines = [_HEAD, "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        entry = row.as_json()
        cells = [_cell(row.quantity, entry[side]) for side in SIDES]
        gaps = [_gap(entry[side]) for side in ("fitted", "held_out")]
        said = {True: "yes", False: "**far**", None: ""}[entry["agrees"]]
        apart = _gap(entry["between_windows"])
        lines.append(
            f"| {row.quantity.title}, {row.quantity.unit} | {entry['era']} | {' | '.join(cells)} | "
            f"{' | '.join(gaps)} | {said} | {apart} |"
        )
    return lines


def _source(row: Row) -> str:
    """Where a quantity was recorded, and which windows of it were fitted."""
    split, note, windows = row.quantity.split, f" {row.note}." if row.note else "", ""
    if split.fitted:
        windows = f" Fitted: {split.words('fitted')}; held out: {split.words('held_out')}."
    return f"- **{row.quantity.title}** ({split.era}): {row.quantity.source}.{windows}{note}"


def kept_reading(report: Path) -> str:
    """What people wrote under the last report's tables and figures."""
    old = report.read_text() if report.is_file() else ""
    return READING + old.split(READING, 1)[1] if READING in old else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _per_block(eras: dict[str, Any]) -> list[str]:
    lines = [
        "| era | per block | fitted | held out | 95 % | simulated | agrees |",
        "|---|---|---|---|---|---|---|",
    ]
    for era, measures in eras.items():
        for measure in MEASURES:
            entry = measures[measure]
            reason = entry.get("reason")
            span = f"{_number(entry['low'])} to {_number(entry['high'])}"
            told = [_number(entry["fitted"]), _number(entry["held_out"]), span]
            if reason:
                told = [f"not told: {reason}", "", ""]
            said = {True: "yes", False: "**no**", None: ""}[entry["agrees"]]
            lines.append(
                f"| {era} | {_WORDS[measure]} | {' | '.join(told)} | "
                f"{_number(entry['simulated'])} | {said} |"
            )
    return lines


def _earnings(found: dict[str, Any]) -> list[str]:
    lines = [
        _EARNED,
        "|---|---|---|---|---|---|---|",
    ]
    for era, agent in found["agent"].items():
        block = found["per_block"].get(era)
        gross, paid = (
            "not recorded"
            if not block or block[m]["held_out"] is None
            else _number(block[m]["held_out"])
            for m in ("gross_eth", "payment_eth")
        )
        all_gross = _number(agent["gross_eth"])
        lines.append(
            f"| {era} | {agent['fraction']:g} | {_number(agent['profit_eth'])} | "
            f"{_number(agent['best_response_eth'])} | {all_gross} | {gross} | {paid} |"
        )
    return lines


def _gap(told: dict[str, Any] | None) -> str:
    if told is None or not {"largest_gap", "kolmogorov_smirnov"} & set(told):
        return ""
    if "largest_gap" in told:
        return f"gap {told['largest_gap']:.2f}"
    ln = told["ln_quantiles"]
    return f"{told['kolmogorov_smirnov']:.2f}" + ("" if ln is None else f", {ln:.2f}")


def _cell(quantity: Quantity, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "not told"
    if quantity.kind == CURVE:
        values = entry["values"]
    elif quantity.kind == SHARE:
        values = [entry["mean"]]
    else:
        values = entry["quantiles"].values()
    return " / ".join(f"{value:.3g}" for value in values)
