"""How much of a policy's gain rests on what is assumed about rivals.

python -m agents.studies.robustness --out DIR [--markets NAME,NAME] [--json FILE] [--figure FILE]
    [--config configs/train.yaml] [--any.field value]

Trains policies on the given market and over markets drawn around it (trials.randomise, 16 unless
told otherwise), `trials.seeds` of each, and plays both against every rule of the comparison in
changed markets (agents.studies.rival_changes). Rules are tuned on validation episodes of the
changed market itself; the policies know nothing of the change. What is finished lies in DIR, by
training and by (market, arm), and is not done again.
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("agents.studies.robustness")  # before the heavy imports: they take seconds

import json
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from agents.bidders.arms import POLICY
from agents.bidders.baselines import Bidder
from agents.config import ConfigError, TrainConfig, config_to_dict, read_arguments
from agents.evaluate.held_out import HeldOut, Networks, play_held_out
from agents.learner.actor import actor_of
from agents.learner_arms import bidder_of
from agents.prices import paths_of
from agents.progress import Stages
from agents.runs import write_text
from agents.studies.rival_changes import AS_ASSUMED, Change, changes_of
from agents.studies.sensitivity import (
    DEFAULT,
    EXPLAINED,
    RANDOMISED,
    Row,
    as_json,
    figure,
    row_of,
    table,
    verdict,
)
from agents.training.trial import Training, TrialInputs, planned_trials, reward_scale_eth
from envs.market.config import PricePaths

MARKETS_DRAWN = 16
SCENARIO = "default"  # the changed market as it is, no scenario on top
Trainings = dict[str, dict[str, Bidder]]  # policy -> name of the training -> bidder


class Study(NamedTuple):
    """What is trained and played, and where it is kept."""

    folder: Path
    config: TrainConfig
    markets: Mapping[str, Change]


def study_of(folder: Path, config: TrainConfig, markets: Sequence[str] = ()) -> Study:
    """The study of all changes, or of those named beside the market itself.

    Raises ConfigError for a change that is not there, or a folder that holds another study.
    """
    known = changes_of(config.market)
    missing = [name for name in markets if name not in known]
    if missing:
        raise ConfigError(f"--markets {missing[0]!r}: choose from {', '.join(known)}")
    if not config.trials.randomise.count:
        drawn = replace(config.trials.randomise, count=min(MARKETS_DRAWN, config.ppo.num_envs))
        config = replace(config, trials=replace(config.trials, randomise=drawn))
    told = config_to_dict(config)
    stored = folder / "config.json"
    if stored.is_file() and json.loads(stored.read_text()) != told:
        raise ConfigError(f"--out {folder}: holds a study of other settings; name another folder")
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_text(stored, json.dumps(told, indent=1))
    names = [name for name in known if not markets or name in (AS_ASSUMED, *markets)]
    return Study(folder, config, {name: known[name] for name in names})


def trained(study: Study, paths: PricePaths, stages: Stages) -> Trainings:
    """Bidders of all trainings; one that was interrupted goes on after its last report."""
    config = study.config
    alone = replace(config.trials, randomise=replace(config.trials.randomise, count=0))
    scale = reward_scale_eth(config.market, paths)
    bidders: Trainings = {}
    for policy, settings in ((DEFAULT, alone), (RANDOMISED, config.trials)):
        part = policy.replace(" ", "-")
        tensorboard = str(study.folder / "tb" / part)
        inputs = TrialInputs(config.market, paths, config.ppo, settings, scale, tensorboard)
        bidders[policy] = {}
        for trial in planned_trials(settings, config.ppo, config.run.seed):
            with stages.stage(f"{policy}, {trial.name}") as progress:
                training = Training(trial, inputs)
                _finish(training, study.folder / "trainings" / part / trial.name, progress)
            network = actor_of(training.model.policy, training.ppo.blind)
            bidders[policy][trial.name] = bidder_of(network, training.ppo.choice)
            training.close()
    return bidders


def _finish(training: Training, folder: Path, progress: Any) -> None:
    """Learn to the end from the newest whole checkpoint in `folder`; keeps the last one alone."""
    kept = sorted(folder.glob("steps-*/files.json"))
    if kept:
        training.load(kept[-1].parent)
    while not training.finished:
        point = training.advance()
        place = folder / f"steps-{training.model.num_timesteps:012d}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        training.save(place)
        for earlier in folder.glob("steps-*"):
            if earlier != place:
                shutil.rmtree(earlier)
        note = f"{point['validation_iqm_eth']:.4f} ETH/episode"
        progress(training.model.num_timesteps, training.inputs.steps, note)


def rows(study: Study, paths: PricePaths, bidders: Trainings) -> Iterator[tuple[str, Row]]:
    """The row of every market as it is there."""
    evaluation = replace(study.config.evaluation, scenarios=(SCENARIO,))
    flat = {_name(p, t): b for p, found in bidders.items() for t, b in found.items()}
    first, *others = flat
    networks = Networks(flat[first], {}, {name: flat[name] for name in others})
    kept = study.folder / "played"
    for name, change in study.markets.items():
        held_out = HeldOut(study.config.market.changed(change.values), paths, evaluation)
        scores: dict[str, NDArray[np.float64]] = {}
        for _, result in play_held_out(held_out, networks, folder=kept):
            for arm, found in result.items():
                scores[arm] = found.tally.profit_eth.reshape(evaluation.seeds, evaluation.episodes)
        learned = {first: scores.pop(POLICY)} | {arm: scores.pop(arm) for arm in others}
        policies = {
            policy: {training: learned[_name(policy, training)] for training in found}
            for policy, found in bidders.items()
        }
        yield name, row_of(scores, policies, change.held_out, evaluation.resamples)


def _name(policy: str, training: str) -> str:
    return f"{policy}, {training}"


def run(study: Study, console: Console, file: Path | None = None) -> dict[str, Row]:
    """The whole study; `file` is rewritten after each market, so that little is ever lost."""
    found: dict[str, Row] = {}
    with Stages(console) as stages:
        paths = paths_of(study.folder, study.config, stages)
        bidders = trained(study, paths, stages)
        with stages.stage("changed markets") as progress:
            for name, row in rows(study, paths, bidders):
                found[name] = row
                progress(len(found), len(study.markets), name)
                if file:
                    write_text(file, json.dumps(_report(study, found), indent=1, allow_nan=False))
    return found


def _report(study: Study, found: Mapping[str, Row]) -> dict[str, Any]:
    config = study.config
    return {
        "verdict": verdict(found),
        "explained": EXPLAINED,
        "markets": {
            name: {"changes": dict(study.markets[name].values)} | as_json(row)
            for name, row in found.items()
        },
        "seed": config.run.seed,
        "trainings": config.trials.seeds,
        "steps": config.trials.steps,
        "randomise": asdict(config.trials.randomise),
        "episodes": config.evaluation.seeds * config.evaluation.episodes,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 with the reason on standard error for bad input."""
    parser = ArgumentParser(
        prog="python -m agents.studies.robustness", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--markets", default="", help="names of changes; default: all")
    parser.add_argument("--json", type=Path, help="report, default: report.json in the folder")
    parser.add_argument("--figure", type=Path, help="figure, default: gain.png in the folder")
    given, of_training = parser.parse_known_args(arguments)
    console = Console()
    try:
        config, resumed = read_arguments(of_training)
        if resumed:
            raise ConfigError("--resume: a study goes on by itself in its folder --out")
        names = [name for name in given.markets.split(",") if name]
        study = study_of(given.out, config, names)
        found = run(study, console, given.json or given.out / "report.json")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(verdict(found), soft_wrap=True)
    console.print(table(found))
    console.print(EXPLAINED)
    figure(found).savefig(given.figure or given.out / "gain.png", dpi=110)
    return 0


if __name__ == "__main__":
    ended("agents.studies.robustness", main)
