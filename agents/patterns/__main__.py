"""Patterns found without labels: regimes of volatility and of competition, kinds of bidders.

python -m agents.patterns [--data FOLDER] [--figures DIR] [--json FILE]

What is planted is named again from public traces and scored by the adjusted Rand index (Hubert and
Arabie 1985); with a data folder the same is found in recorded bars, payments and builders' bids.
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("agents.patterns")  # before the heavy imports: they take seconds

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agents.config import PricesConfig
from agents.hidden_competition.window_or_filter import shares_of_histories
from agents.patterns.kind_figures import competition_figure, kinds_figure
from agents.patterns.kinds import (
    Table,
    kinds_of_builders,
    kinds_of_rivals,
    planted_competition,
    planted_volatility,
    recorded_competition,
    recovered,
    volatility_regimes,
)
from agents.prices import bars_to_learn_from, data_folder
from agents.runs import write_text
from models.patterns.regimes import fit_hidden_markov


def run(data: str, figures: Path | None, console: Console) -> Table:
    """All patterns, printed as they are found; figures are drawn into a folder."""
    report: Table = {}

    def told(name: str, table: Table) -> None:
        report[name] = table
        console.print(name, table, sep="\n", highlight=False)

    bars = bars_to_learn_from(PricesConfig(), data, 0)
    planted = {
        f"{returns} returns": recovered(
            planted_volatility(0, 4000, returns), planted_volatility(1, 4000, returns), 3
        )
        for returns in (60, 5)
    }
    told("planted_volatility", planted)
    path = figures / "volatility_regimes.png" if figures else None
    told("volatility", volatility_regimes(bars, path))
    competition = {
        name: recovered(
            planted_competition(name, "train", 32, 500),
            planted_competition(name, "validation", 32, 500),
            3,
        )
        for name in ("S", "D200", "D", "D20")
    }
    told("planted_competition", competition)
    told("window_or_filter", {name: shares_of_histories(name) for name in ("D", "S")})
    rivals, table = kinds_of_rivals()
    told("rivals", table)
    panels = {"rules of simulated rivals": rivals}
    if data:
        told("recorded_competition", recorded_competition(Path(data)))
        builders, table = kinds_of_builders(Path(data))
        told("builders", table)
        panels["builders in one recorded slot"] = builders
    if figures:
        unseen = planted_competition("S", "validation", 1, 500)
        fitted = planted_competition("S", "train", 32, 500)
        model = fit_hidden_markov(fitted.x, 3, fitted.restart, starts=2, tolerance=1e-5)
        filtered = model.filter(unseen.x, unseen.restart)
        path = figures / "competition_regimes.png"
        competition_figure(unseen.x[:, 0], unseen.regime, filtered, path)
        kinds_figure(panels, figures / "bidder_kinds.png")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 with the reason on standard error for bad input."""
    parser = ArgumentParser(prog="python -m agents.patterns", description=__doc__)
    parser.add_argument("--data", default="", help="data folder; default: MEVRL_DATA or stand-in")
    parser.add_argument("--figures", default="", help="draw into this folder")
    parser.add_argument("--json", default="", help="write the report to this file")
    given = parser.parse_args(arguments)
    data = data_folder(PricesConfig(data=given.data))
    try:
        report = run(data, Path(given.figures) if given.figures else None, Console())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.json:
        write_text(Path(given.json), json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    ended("agents.patterns", main)
