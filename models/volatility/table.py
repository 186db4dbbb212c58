"""The forecast report as tables: for the terminal (rich) and for report.md (Markdown)."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from models.volatility.evaluation import HAR_LSTM, POOLED

MCS_SIZE = 0.10
SIGNIFICANT = 0.05
BY_REFIT = "by refit"
SYMBOLS = {
    "symbols, pooled": "QLIKE per symbol and over all: mean of r/f - ln(r/f) - 1 for realised "
    "variance r and forecast f (Patton 2011), lower is better",
    "ours/it": "QLIKE of our forecaster over that of the model, below 1 where ours is better",
    "MSE log": "mean squared error of the log variance",
    "DM p": "Diebold-Mariano test of equal QLIKE: small where the two differ",
    "MCS p": "model confidence set (Hansen, Lunde, Nason 2011), * for what stays in the 90 % set",
}


Rows = list[list[str]]


def print_report(report: dict[str, Any], console: Console) -> None:
    """Print the tables of a report of `models.volatility.train.evaluate`."""
    for line in (*verdict_lines(report), *_notes(report)):
        console.print(line, highlight=False)
    for title, header, rows in _tables(report):
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for k, name in enumerate(header):
            # One ratio for each refit may need several lines; no number of any column is cut.
            whole = name != BY_REFIT
            table.add_column(name, justify="left" if k == 0 else "right", no_wrap=whole)
        for row in rows:
            table.add_row(*row, style="bold" if row[0] == _ours(report) else None)
        console.print(table)
    for name, meaning in SYMBOLS.items():
        console.print(f"{name}: {meaning}.", highlight=False, style="dim")


def verdict_lines(report: dict[str, Any]) -> list[str]:
    """A sentence per horizon: who forecasts best on this test, our forecaster or another model.

    The Diebold-Mariano test decides between better, worse and not shown to differ.
    """
    lines, ours = [], _ours(report)
    for horizon in sorted({r["horizon_minutes"] for r in report["rows"]}):
        row = _pooled([r for r in report["rows"] if r["horizon_minutes"] == horizon])
        losses = row["qlike"]
        rival = min((m for m in losses if m != ours), key=losses.__getitem__)
        p = row["dm_p"][rival]
        if p >= SIGNIFICANT:
            found = "is not shown to differ from"
        else:
            found = "is better than" if losses[ours] < losses[rival] else "is worse than"
        lines.append(
            f"next {horizon} minutes: the {ours} {found} {rival}, the strongest other model. "
            f"QLIKE {losses[ours]:.4f} against {losses[rival]:.4f} "
            f"(Diebold-Mariano {_chance(p)})."
        )
    return lines


def _ours(report: dict[str, Any]) -> str:
    """The model that is tested; reports of earlier versions do not name it."""
    return report.get("ours", HAR_LSTM)


def _pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row over all symbols, or the only one."""
    return next((r for r in rows if r["symbol"] == POOLED), rows[0])


def _chance(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def markdown_report(report: dict[str, Any]) -> str:
    """Sentences, tables and their symbols as Markdown."""
    lines = [*(f"- {line}" for line in verdict_lines(report)), "", *_notes(report), ""]
    lines += ["| column | meaning |", "|---|---|"]
    lines += [*(f"| {name} | {meaning} |" for name, meaning in SYMBOLS.items()), ""]
    for title, header, rows in _tables(report):
        lines += [f"**{title}**", "", "| " + " | ".join(header) + " |"]
        lines += ["|" + "---|" * len(header)]
        for row in rows:
            cells = [f"**{c}**" if c else c for c in row] if row[0] == _ours(report) else row
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _notes(report: dict[str, Any]) -> list[str]:
    fitted = ", ".join(report["refits"])
    lines = [
        f"Bars: {report['source']}",
        f"Test {report['test_from']} to {report['test_until']}; models fitted at {fitted}",
    ]
    if skipped := report["skipped_horizons_minutes"]:
        horizons = ", ".join(map(str, skipped))
        lines.append(
            f"Skipped: {horizons} minutes, fewer than three {report['bar_minutes']}-minute returns"
        )
    if untested := report["untested_symbols"]:
        lines.append(f"Not tested, too few bars in the test part: {', '.join(untested)}")
    return lines


def _tables(report: dict[str, Any]) -> list[tuple[str, list[str], Rows]]:
    """(title, header, rows): one table per horizon, then the ratios to the best linear model.

    Each is at most 80 columns wide.
    """
    horizons = sorted({r["horizon_minutes"] for r in report["rows"]})
    tables = [_horizon_table(report, horizon) for horizon in horizons]
    header = ["minutes, symbol", "origins", "ratio", "95 %", "DM p", "of"]
    parts = ["minutes, symbol", "single networks"]
    parts += [BY_REFIT] if len(report["refits"]) > 1 else []
    body, apart = [], []
    for r in report["rows"]:
        ratio, low, high = r["ratio"]
        singles = [q / r["qlike"][r["strongest_linear"]] for q in r["single_networks"]]
        by_refit = " ".join(f"{stretch['ratio']:.3f}" for stretch in r["stretches"])
        name = f"{r['horizon_minutes']} {r['symbol']}"
        body.append(
            [
                name,
                str(r["origins"]),
                f"{ratio:.3f}",
                f"{low:.3f}-{high:.3f}",
                _p(r["dm_p"][r["strongest_linear"]]),
                r["strongest_linear"],
            ]
        )
        single = f"{min(singles):.3f}-{max(singles):.3f}" if singles else ""
        apart.append([name, single, *([by_refit] if len(report["refits"]) > 1 else [])])
    title = f"QLIKE of the {_ours(report)} over that of the best linear model on this test"
    return [*tables, (title, header, body), (f"{title}, in parts", parts, apart)]


def _horizon_table(report: dict[str, Any], horizon: int) -> tuple[str, list[str], Rows]:
    """Models by rising QLIKE of the pooled (or only) row."""
    rows = [r for r in report["rows"] if r["horizon_minutes"] == horizon]
    main = _pooled(rows)
    header = ["model", *(r["symbol"] for r in rows), "ours/it", "MSE log", "DM p"]
    header += ["MCS p"] if "mcs_p" in main else []
    body, ours = [], _ours(report)
    for model in sorted(main["qlike"], key=lambda m: main["qlike"][m]):
        row = [model]
        row += [f"{r['qlike'][model]:.4f}" if model in r["qlike"] else "" for r in rows]
        row.append(f"{main['qlike'][ours] / main['qlike'][model]:.3f}")
        row.append(f"{main['mse_log'][model]:.3f}")
        row.append("" if model == ours else _p(main["dm_p"][model]))
        if "mcs_p" in main:
            p = main["mcs_p"][model]
            row.append(f"{p:.2f}{'*' if p >= MCS_SIZE else ' '}")
        body.append(row)
    title = f"QLIKE, next {horizon} minutes"
    return title, header, body


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}"
