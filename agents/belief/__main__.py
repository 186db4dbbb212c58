"""Command line of the study of beliefs in the market."""

from terminal import begin, ended

if __name__ == "__main__":
    begin("agents.belief")  # before the heavy imports: they take seconds

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agents.belief import market_study
from agents.config import ConfigError, read_arguments
from agents.progress import Stages


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 with the reason on standard error for bad input."""
    parser = ArgumentParser(
        prog="python -m agents.belief", description=market_study.__doc__, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument(
        "--beliefs", default="recurrent", help=f"names of {', '.join(market_study.FORMS)}"
    )
    parser.add_argument("--belief-steps", type=int, default=0, help="decisions; 0: trials.steps")
    parser.add_argument("--json", type=Path, help="report; default: report.json in the folder")
    given, of_training = parser.parse_known_args(arguments)
    console = Console()
    try:
        config, resumed = read_arguments(of_training)
        if resumed:
            raise ConfigError("--resume: a study goes on by itself in its folder --out")
        forms = [name for name in given.beliefs.split(",") if name]
        chosen = market_study.study_of(given.out, config, forms, given.belief_steps)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with Stages(console) as stages:
        found = market_study.run(chosen, stages, given.json or given.out / "report.json")
    for line in market_study.lines_of(found):
        console.print(line, soft_wrap=True)
    return 0


if __name__ == "__main__":
    ended("agents.belief", main)
