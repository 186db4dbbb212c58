"""Compares the simulated market with recorded ones, era by era, in and out of the fitted windows.

python -m envs.calibration [--data DIR] [--json FILE] [--figures DIR] [--report FILE.md]
    [--markets N] [--slots N] [--seed S]

Each quantity gets quantiles of three sides (fitted, held out, simulated), the Kolmogorov-Smirnov
distance and, where values are positive, the mean distance of ln quantiles; under `per_block` stand
the means per block of every era. What one side does not tell is said in its row.
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("envs.calibration")  # before the heavy imports: they take seconds

import json
import os
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from configs.eras import PRESETS
from envs.calibration.agent import agent_per_block
from envs.calibration.figures import draw
from envs.calibration.per_block import ERAS, means_per_block
from envs.calibration.report import kept_reading, markdown
from envs.calibration.rows import compare
from envs.calibration.simulated import simulated_samples
from envs.market.config import MarketConfig
from envs.market.paths import paths_of_bars
from history.files import write_atomically
from history.prices import search_folder


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m envs.calibration", description=__doc__)
    parser.add_argument("--data", default="", help="data folder; default: MEVRL_DATA")
    parser.add_argument("--json", default="", help="write all statistics here")
    parser.add_argument("--figures", default="", help="draw one PNG per quantity into this folder")
    parser.add_argument("--report", default="", help="write the tables as Markdown here")
    parser.add_argument("--markets", type=int, default=128, help="simulated markets per era")
    parser.add_argument("--slots", type=int, default=1024, help="slots of each")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated markets")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Compare and write what the command line asks for; 0 when the comparison ran."""
    options = _parser().parse_args(arguments)
    named = options.data or os.environ.get("MEVRL_DATA", "")
    data = Path(named)
    if not named or not data.is_dir():
        what = f"data folder {named!r}: no such folder" if named else "no data folder is named"
        print(f"error: {what}; give --data or set MEVRL_DATA", file=sys.stderr)
        return 2
    bars = search_folder(data).bars
    paths = None if bars is None else paths_of_bars(bars)
    size = options.markets, options.slots, options.seed
    samples, agent = {}, {}
    for era in PRESETS:
        market = MarketConfig(era=era)
        samples[era] = simulated_samples(market, paths, *size)
        agent[era] = agent_per_block(market, paths, *size)
        agent[era]["gross_eth"] = float(samples[era]["block_gross"].mean())
    rows = compare(data, samples)
    prices = "stand-in prices" if bars is None else "recorded 1-minute prices"
    found: dict[str, Any] = {
        "setting": f"{options.markets} markets of {options.slots} slots per era, {prices}, "
        "the searcher passes.",
        "quantities": {row.quantity.name: row.as_json() for row in rows},
        "per_block": means_per_block(data, {era: samples[era] for era in ERAS}),
        "agent": agent,
    }
    if options.figures:
        for row in rows:
            if any(values is not None for values in row.sides.values()):
                target = Path(options.figures) / f"{row.quantity.name}.png"
                draw(row.quantity, row.sides, target)
    if options.json:
        write_atomically(options.json, json.dumps(found, indent=1))
    if options.report:
        beside = os.path.relpath(options.figures or ".", Path(options.report).parent)
        text = markdown(rows, found, "python -m envs.calibration", beside)
        write_atomically(options.report, text + kept_reading(Path(options.report)))
    _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    """One line per quantity and per mean, for the terminal."""
    for name, entry in found["quantities"].items():
        held = entry["held_out"] or {}
        gap = held.get("largest_gap", held.get("kolmogorov_smirnov"))
        said = {True: "", False: "far", None: ""}[entry["agrees"]]
        print(f"{name:26} {'' if gap is None else f'{gap:.3f}':>6} {said:4} {entry['note']}")
    for era, measures in found["per_block"].items():
        for measure, entry in measures.items():
            told = {key: entry[key] for key in ("simulated", "fitted", "held_out", "low", "high")}
            shown = " ".join(
                f"{key} {'-' if value is None else f'{value:.4g}'}" for key, value in told.items()
            )
            print(f"{era} {measure:21} {shown} {'no' if entry['agrees'] is False else ''}")


if __name__ == "__main__":
    ended("envs.calibration", main)
