"""Trains a searcher: prices -> forecaster -> markets -> policies -> comparison -> frozen policy.

python train.py [--config configs/train.yaml] [--any.field value] [--resume runs/NAME]
"""

import sys

from terminal import BAD_INPUT, begin, ended, told

if __name__ == "__main__":
    begin("train.py")  # before the heavy imports: they take seconds
    from agents.training.compilation import start_compiling

    start_compiling()

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agents.bidders.own_rules import load_rules
from agents.config import ConfigError, TrainConfig, config_to_dict, read_arguments
from agents.evaluate.comparison import compare_all, report_numbers
from agents.evaluate.freeze import compared, freeze, served
from agents.evaluate.held_out import HeldOut
from agents.learner.build import backend_of
from agents.prices import (
    bars_to_learn_from,
    check_parts,
    data_folder,
    first_test_minute,
    forecasting_of,
    source_line,
)
from agents.processes import cores
from agents.progress import Stages
from agents.report.run import print_report, write_report
from agents.report.studies import run_studies
from agents.run_state import is_finished
from agents.runs import create_run, discard_unfinished, publish
from agents.scenarios import check_scenario
from agents.training.compilation import Compiled, compiled_in_background
from agents.training.forecaster_trials import trained_by_tune
from agents.training.ray_session import ray_session
from agents.training.trial import TrialInputs, planned_trials, reward_scale_eth
from agents.training.trials import learning_speeds, run_trials
from history.prices import Bars, BarsError
from models import frozen
from models.policy.export import git_commit


def train(
    config: TrainConfig, run: Path, bars: Bars, source: str, stages: Stages, compiled: Compiled
) -> None:
    """Everything from prices to the published run; continues what `run` already holds."""
    started = time.monotonic()
    workers = config.run.workers or cores()
    members = None
    several = config.forecaster.ensemble > 1 or config.forecaster.folds > 0
    if several and (workers > 1 or config.run.address):
        failures = config.trials.max_failures
        members = trained_by_tune(run / "checkpoints", workers, failures, config.run.address)
    with stages.entered("Ray", ray_session(workers, config.run.address)):
        with stages.stage("forecaster") as progress:
            test_from = first_test_minute(config.prices, bars)
            forecasting = forecasting_of(run, config.forecaster, bars, test_from, progress, members)
            paths = forecasting.paths(bars)
        with stages.stage("compilation") as progress:
            compiled(progress)

        with stages.stage("market"):
            inputs = TrialInputs(
                market=config.market,
                paths=paths,
                ppo=config.ppo,
                trials=config.trials,
                reward_scale_eth=reward_scale_eth(config.market, paths),
                tensorboard=str((run / "tb").resolve()),
            )

        trials = planned_trials(config.trials, config.ppo, config.run.seed)
        with stages.trials([trial.name for trial in trials], inputs.steps) as report_trial:
            results = run_trials(
                run / "checkpoints", inputs, trials, workers, report_trial, config.run.address
            )

    with stages.stage("frozen policy"):
        chosen = served(results, inputs)
        freeze(run / "policy", chosen, inputs, forecasting, config_to_dict(config))
        policy = frozen.load(run / "policy").player()
        learned = compared(results, inputs, chosen, policy)

    with stages.stage("comparison") as progress:
        held_out = HeldOut(config.market, paths, config.evaluation)
        kept = run / "comparison"
        comparisons = compare_all(policy, held_out, learned, workers, kept, progress)
        found = report_numbers(comparisons, config.evaluation)

    studies = run_studies(run, config.studies, workers, stages)
    speeds = {"learning_steps_per_s": learning_speeds(results)}
    report = {
        "forecast": forecasting.report,
        **found,
        "studies": studies,
        "throughput": speeds | {"stage_seconds": dict(stages.seconds)},
        "seconds": time.monotonic() - started,
        "seed": config.run.seed,
        "commit": git_commit(),
    }
    with stages.stage("report"):
        write_report(run, source, report, results, chosen, comparisons)
    publish(run)
    print_report(report, stages.console)
    stages.console.print(f"Report: {run / 'report.md'}   Policy: {run / 'policy'}")


def main(arguments: Sequence[str]) -> int:
    """Command line; the exit code. Where it is not 0 a message says what to do."""
    with compiled_in_background() as compiled:  # begun before the imports: nothing takes longer
        try:
            config, resumed = read_arguments(arguments)
            list(map(check_scenario, config.evaluation.scenarios))  # now, not after the training
            load_rules(config.evaluation.rules)
            backend = backend_of(config.ppo)
            data_dir = data_folder(config.prices)
            bars = bars_to_learn_from(config.prices, data_dir, config.run.seed)
            check_parts(config.prices, config.forecaster, bars)
            run = resumed or create_run(config)
        except ValueError as error:
            return refused(error)
        console = Console()
        if resumed and is_finished(run):
            console.print(f"{run} is finished: nothing is learned again, its report is new.")
        try:
            source = source_line(bars, data_dir)
            console.print(source)
            console.print(f"Learner: {backend}")
            with Stages(console) as stages:
                train(config, run, bars, source, stages, compiled)
        except (ConfigError, BarsError) as error:  # what only the work itself finds wrong
            discard_unfinished(run if not resumed else None)
            return refused(error)
        except (Exception, KeyboardInterrupt) as error:
            return told(error, "train.py", run, f"Continue: python train.py --resume {run}")
    return 0


def refused(error: ValueError) -> int:
    """Say what is wrong with what was given."""
    print(f"error: {error}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    ended("train.py", lambda: main(sys.argv[1:]))
