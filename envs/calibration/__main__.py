"""Compares the simulated market with recorded ones.

python -m envs.calibration [--data DIR] [--json FILE] [--figures DIR] [--report FILE.md]
    [--markets N] [--slots N] [--seed S]

Each quantity gets quantiles of both sides, the Kolmogorov-Smirnov distance and, where values are
positive, the mean distance of ln quantiles; what one side does not tell is said in its row.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser

from envs.calibration.distance import PROBABILITIES, distance
from envs.calibration.figures import draw
from envs.calibration.quantities import CURVE, QUANTITIES, SHARE, Quantity
from envs.calibration.recorded import SAMPLES
from envs.calibration.simulated import DEFINED, simulated_samples
from envs.market.config import MarketConfig
from envs.market.paths import paths_of_bars
from history.files import write_atomically
from history.prices import search_folder
from history.tables import TableError

READING = "\n## Reading\n"  # written by hand at the end of a report, and kept
PUBLISHED = {"informed_share": 0.25}  # known from papers alone


@dataclass(frozen=True)
class Row:
    """A quantity with what both sides say: summaries, distances, and why one is missing."""

    quantity: Quantity
    recorded: np.ndarray | None
    simulated: np.ndarray | None
    note: str

    def as_json(self) -> dict[str, Any]:
        """Derived statistics only: no recorded value leaves."""
        q = self.quantity
        entry: dict[str, Any] = {"title": q.title, "unit": q.unit, "source": q.source}
        entry["note"] = self.note
        for side, values in (("recorded", self.recorded), ("simulated", self.simulated)):
            entry[side] = None if values is None else _summary(q, values)
        entry["kolmogorov_smirnov"] = entry["ln_quantiles"] = None
        if self.recorded is not None and self.simulated is not None:
            if q.kind in (CURVE, SHARE):
                same = self.recorded, self.simulated
                if q.kind == SHARE:
                    same = same[0].mean(), same[1].mean()
                entry["largest_gap"] = float(np.max(np.abs(same[0] - same[1])))
            else:
                found = distance(self.recorded, self.simulated, q.floor)
                entry["kolmogorov_smirnov"] = found.kolmogorov_smirnov
                if np.isfinite(found.ln_quantiles):
                    entry["ln_quantiles"] = found.ln_quantiles
        return entry


def _summary(quantity: Quantity, values: np.ndarray) -> dict[str, Any]:
    if quantity.kind == CURVE:
        return {"n": 1, "at": list(quantity.places), "values": values.tolist()}
    entry: dict[str, Any] = {"n": int(values.size), "mean": float(values.mean())}
    if quantity.kind != SHARE:
        quantiles = np.quantile(values, PROBABILITIES)
        entry["quantiles"] = {
            f"{100 * p:g}": float(value) for p, value in zip(PROBABILITIES, quantiles)
        }
    return entry


def compare(data: Path, simulated: dict[str, np.ndarray]) -> list[Row]:
    """All quantities; a recorded file that is missing or broken is said in its row."""
    rows = []
    for quantity in QUANTITIES:
        recorded, note = None, ""
        if quantity.name in PUBLISHED:
            recorded = np.array([PUBLISHED[quantity.name]])
        else:
            try:
                recorded = SAMPLES[quantity.name](data)
            except TableError as error:
                note = f"recorded: {error}"
        ours = simulated.get(quantity.name)
        said = DEFINED.get(quantity.name, "")
        if ours is None or not ours.size:
            ours, said = None, "none was seen"
        if said:
            note = "; ".join(part for part in (note, f"simulated: {said}") if part)
        rows.append(Row(quantity, recorded, ours, note))
    return rows


def markdown(rows: list[Row], command: str, setting: str, figures: str) -> str:
    """The table and the figures, for docs/calibration.md."""
    lines = [
        "# Calibration: the simulated market against recorded ones",
        "",
        f"Made by `{command}`; {setting}",
        "KS is the Kolmogorov-Smirnov distance of the two samples, d ln the mean distance of their",
        "ln quantiles between 5 and 95 % (0.69 is a factor of two). For shares and curves the",
        "largest gap is given. Recorded values are derived statistics of local data sets, which",
        "are not part of the project.",
        "",
        "| quantity, unit | recorded 5 / 25 / 50 / 75 / 95 / 99 % | simulated | KS | d ln |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        entry = row.as_json()
        cells = [_cell(row.quantity, entry[side]) for side in ("recorded", "simulated")]
        gap = entry["kolmogorov_smirnov"]
        gap_cell = f"{gap:.2f}" if gap is not None else ""
        if "largest_gap" in entry:
            gap_cell = f"gap {entry['largest_gap']:.2f}"
        ln = entry["ln_quantiles"]
        lines.append(
            f"| {row.quantity.title}, {row.quantity.unit} | {cells[0]} | {cells[1]} | {gap_cell} | "
            f"{'' if ln is None else f'{ln:.2f}'} |"
        )
    lines += ["", "## Where the recorded values come from, and what is missing"]
    for row in rows:
        note = f" {row.note}." if row.note else ""
        lines.append(f"- **{row.quantity.title}**: {row.quantity.source}.{note}")
    lines += ["", "## Figures", ""]
    for row in rows:
        if row.recorded is not None or row.simulated is not None:
            lines.append(f"![{row.quantity.title}]({figures}/{row.quantity.name}.png)")
    return "\n".join(lines) + "\n"


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


def _kept(report: Path) -> str:
    """What people wrote under the last report's table and figures."""
    old = report.read_text() if report.is_file() else ""
    return READING + old.split(READING, 1)[1] if READING in old else ""


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m envs.calibration", description=__doc__)
    parser.add_argument("--data", default="", help="data folder; default: MEVRL_DATA")
    parser.add_argument("--json", default="", help="write all statistics here")
    parser.add_argument("--figures", default="", help="draw one PNG per quantity into this folder")
    parser.add_argument("--report", default="", help="write the table as Markdown here")
    parser.add_argument("--markets", type=int, default=128, help="simulated markets")
    parser.add_argument("--slots", type=int, default=1024, help="slots of each")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated markets")
    parser.add_argument("--market", type=MarketConfig, default=MarketConfig(), help="the market")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Compare and write what the command line asks for; 0 when the comparison ran."""
    parser = _parser()
    options = parser.parse_args(arguments)
    market = parser.instantiate(options)["market"]
    data = Path(options.data or os.environ.get("MEVRL_DATA", ""))
    if not (options.data or os.environ.get("MEVRL_DATA")) or not data.is_dir():
        print(f"error: data folder {str(data)!r}: give --data or set MEVRL_DATA", file=sys.stderr)
        return 2
    bars = search_folder(data).bars
    paths = None if bars is None else paths_of_bars(bars)
    samples = simulated_samples(market, paths, options.markets, options.slots, options.seed)
    rows = compare(data, samples)
    prices = "stand-in prices" if bars is None else "recorded 1-minute prices"
    setting = (
        f"{options.markets} markets of {options.slots} slots, default configuration, {prices}, "
        "the searcher passes."
    )
    if options.figures:
        for row in rows:
            if row.recorded is not None or row.simulated is not None:
                target = Path(options.figures) / f"{row.quantity.name}.png"
                draw(row.quantity, row.recorded, row.simulated, target)
    if options.json:
        report = {"setting": setting, "quantities": {r.quantity.name: r.as_json() for r in rows}}
        write_atomically(options.json, json.dumps(report, indent=1))
    if options.report:
        beside = os.path.relpath(options.figures or ".", Path(options.report).parent)
        text = markdown(rows, "python -m envs.calibration", setting, beside)
        write_atomically(options.report, text + _kept(Path(options.report)))
    for row in rows:
        entry = row.as_json()
        gap = entry.get("largest_gap", entry["kolmogorov_smirnov"])
        shown = "" if gap is None else f"{gap:.3f}"
        print(f"{row.quantity.name:26} {shown:>6}  {row.note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
