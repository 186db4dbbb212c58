"""Command line of the hidden-competition study."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.hidden_competition import study as trained_and_compared
from agents.hidden_competition.belief import FORMS
from agents.hidden_competition.belief_training import NotLearnedError
from agents.hidden_competition.forecasts import reliability_figure
from agents.hidden_competition.kept_trials import Kept
from agents.hidden_competition.report import figure, kinds_of, shares_table
from agents.hidden_competition.study import Study, compared
from agents.progress import Stages
from agents.runs import write_text
from envs.hidden_competition.model import SCENARIOS


def run(
    study: Study, console: Console, file: Path | None = None, keep: Path | None = None
) -> dict[str, Any]:
    """All scenarios of a study; `file` is rewritten after each, so that little is ever lost.

    Trainings that the folder `keep` holds are not repeated.
    """
    report: dict[str, Any] = {"study": asdict(study), "scenarios": {}}
    kept = Kept(keep) if keep else None
    with Stages(console) as stages:
        for name in study.names:
            with stages.stage(f"{name}: trainings") as progress:
                found = compared(study, name, console.print, kept, progress)
            report["scenarios"][name] = found
            console.print(shares_table(name, found))
            for line in kinds_of(found):
                console.print(line)
            if file:
                write_text(file, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0, 2 with the reason on standard error for bad input, 1 for a belief that
    learned nothing."""
    parser = ArgumentParser(
        prog="python -m agents.hidden_competition", description=trained_and_compared.__doc__
    )
    names = f"{', '.join(SCENARIOS)}, drawn-NUMBER"
    parser.add_argument("--scenario", default="D", help=f"names: {names}")
    parser.add_argument("--seeds", type=int, default=10, help="trainings per scenario")
    parser.add_argument("--stateless-seeds", type=int, default=1, help="trainings without history")
    parser.add_argument("--belief", default="", help=f"beliefs beside PPO: {', '.join(FORMS)}")
    parser.add_argument("--steps", type=int, default=2_000_000, help="auctions of each training")
    parser.add_argument("--window", type=int, default=16, help="past auctions a learner sees")
    parser.add_argument("--chains", type=int, default=256, help="held-out chains")
    parser.add_argument("--length", type=int, default=1000, help="auctions per held-out chain")
    parser.add_argument("--split", default="test", help="held-out chains: test or validation")
    parser.add_argument("--held-out-seed", type=int, default=0, help="seed of those chains")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time")
    parser.add_argument(
        "--validations", type=int, default=0, help="times to play validation chains while learning"
    )
    for name, words in {
        "json": "write the report to this file",
        "figure": "draw the shares into this file",
        "reliability": "draw the reliability of the beliefs into this file",
        "keep": "folder of finished trainings, which are not repeated",
    }.items():
        parser.add_argument(f"--{name}", default="", help=words)
    given = vars(parser.parse_args(arguments))
    paths = {n: Path(given.pop(n)) for n in ("json", "figure", "reliability", "keep")}
    file, picture, reliability, keep = (p if p.name else None for p in paths.values())
    try:
        for path in (file, picture, reliability, keep):
            if path and not path.absolute().parent.is_dir():
                raise ValueError(f"{path}: its folder does not exist")
        study = Study(**given)
        if reliability and not study.forms:
            raise ValueError(f"reliability {reliability}: there is none without --belief")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        report = run(study, Console(), file, keep)
    except NotLearnedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if picture:
        figure(report["scenarios"]).savefig(picture, dpi=110)
    if reliability:
        forecasts = {name: found["forecasts"] for name, found in report["scenarios"].items()}
        reliability_figure(forecasts).savefig(reliability, dpi=110)
    return 0
