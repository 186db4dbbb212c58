"""Ray Tune trains the policies: one single-threaded process per core, one trial per seed.

A killed trial restarts from its last checkpoint inside the run; a killed driver continues with the
same checkpoints when the run is resumed. Results are read from the checkpoints alone.
"""

import json
import os
import random
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from agents.config import ConfigError
from agents.training.ray_session import ray_session
from agents.training.trial import Point, Training, Trial, TrialInputs

Report = Callable[[str, dict[str, Any]], None]  # name of the trial, its metrics

ATTEMPT = re.compile(r"attempt-(\d+)")


@dataclass(frozen=True)
class TrialResult:
    """A finished training: its last checkpoint and its validation curve."""

    trial: Trial
    checkpoint: Path
    curve: list[Point]

    @property
    def score_eth(self) -> float:
        """Validation IQM profit per episode of the last checkpoint."""
        return self.curve[-1]["validation_iqm_eth"]


class PolicyTrial(tune.Trainable):
    """A training under Ray Tune; `config["restore"]` names the checkpoint of a resumed run."""

    def setup(self, config: dict[str, Any], inputs: TrialInputs | None = None) -> None:
        """Build the trainer."""
        if inputs is None:
            raise ValueError("inputs are missing: bind them with tune.with_parameters")
        name, seed, arm = config["trial"]
        trial = Trial(name, seed, config["learning_rate"], config["entropy"], arm)
        self.training = Training(trial, inputs)
        if config["restore"]:
            self.training.load(Path(config["restore"]))

    def step(self) -> dict[str, Any]:
        """One report."""
        node = ray.get_runtime_context().get_node_id()
        return {**self.training.advance(), "done": self.training.finished, "node": node}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Called by Tune after every report."""
        self.training.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Called by Tune when a trial's process died."""
        self.training.load(Path(checkpoint))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune when a member of a population takes other rates."""
        self.training.close()
        self.setup(new_config)  # the inputs are bound to it
        return True

    def cleanup(self) -> None:
        """Called by Tune at the end."""
        self.training.close()


class ProgressCallback(tune.Callback):
    """Tells the terminal about every report of every trial."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass on the name of the trial and its metrics."""
        self.report(trial.config["trial"][0], result)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore that is never used; a terminal cannot be."""
        return {}


def run_trials(
    checkpoints: Path,
    inputs: TrialInputs,
    trials: list[Trial],
    workers: int,
    report: Report,
    address: str = "",
) -> list[TrialResult]:
    """Run the trials that are not finished yet and return all, best validation score first.

    On `workers` cores of this machine, or on the Ray cluster at `address`, whose nodes must see
    `checkpoints` and this checkout under the same paths. Raises ConfigError when a trial needs more
    cores than that, RuntimeError when a trial fails more often than `max_failures`.
    """
    if not address and inputs.ppo.cores > workers:
        raise ConfigError(
            f"ppo.rollout_workers: a trial with {inputs.ppo.rollout_workers} keeps "
            f"{inputs.ppo.cores} cores busy, there are {workers} to train on; give fewer"
        )
    checkpoints.mkdir(parents=True, exist_ok=True)
    latest = {trial.name: latest_checkpoint(checkpoints, trial.name) for trial in trials}
    open_ = [t for t in trials if not _finished(latest[t.name], inputs.steps)]
    if open_:
        attempts = [int(m[1]) for p in checkpoints.iterdir() if (m := ATTEMPT.fullmatch(p.name))]
        name = f"attempt-{max(attempts, default=0) + 1:03d}"
        space = [_configuration(t, latest[t.name]) for t in open_]
        with ray_session(min(workers, len(open_) * inputs.ppo.cores), address):
            _fit(checkpoints, name, inputs, space, report)
        latest = {trial.name: latest_checkpoint(checkpoints, trial.name) for trial in trials}
    results = []
    for trial in trials:
        folder = latest[trial.name]
        if folder is None or not _finished(folder, inputs.steps):
            raise RuntimeError(f"trial {trial.name} did not finish: see {checkpoints}")
        results.append(TrialResult(trial, folder, json.loads((folder / "curve.json").read_text())))
    return sorted(results, key=lambda result: -result.score_eth)


def learning_speeds(results: list[TrialResult]) -> dict[str, float]:
    """Median decisions learned from per second, by trial."""
    return {
        result.trial.name: statistics.median(point["steps_per_s"] for point in result.curve)
        for result in results
    }


def _configuration(trial: Trial, latest: Path | None) -> dict[str, Any]:
    """What Tune knows of a trial; a checkpoint holds the rates that a population settled on."""
    if latest is not None:
        trial = Trial(**json.loads((latest / "trial.json").read_text()))
    return {
        "trial": [trial.name, trial.seed, trial.arm],
        "restore": "" if latest is None else os.fspath(latest.resolve()),
        "learning_rate": trial.learning_rate,
        "entropy": trial.entropy,
    }


def _population(inputs: TrialInputs, seed: int) -> PopulationBasedTraining | None:
    """The worst quarter copies the best and varies its rates; None for independent trials.

    Synchronous, so that the outcome does not depend on which process was quicker.
    """
    if not inputs.trials.exchange_reports:
        return None
    random.seed(seed)  # Tune chooses with the global generator
    rates = {"learning_rate": inputs.ppo.learning_rate, "entropy": inputs.ppo.entropy}
    return PopulationBasedTraining(
        time_attr="training_iteration",
        metric="validation_iqm_eth",
        mode="max",
        perturbation_interval=inputs.trials.exchange_reports,
        hyperparam_mutations={
            name: tune.loguniform(rate / 4.0, rate * 4.0) for name, rate in rates.items() if rate
        },
        synch=True,
        require_attrs=True,
    )


def _resources(inputs: TrialInputs) -> tune.PlacementGroupFactory:
    """A core for the learner, unless it waits for its rollout processes, and one for each."""
    workers = inputs.ppo.rollout_workers
    own = {"CPU": 1.0} if inputs.ppo.asynchronous or not workers else {}
    return tune.PlacementGroupFactory([own, *([{"CPU": 1.0}] * workers)])


def _fit(
    checkpoints: Path,
    name: str,
    inputs: TrialInputs,
    space: list[dict[str, Any]],
    report: Report,
) -> None:
    """One Tune experiment over the configurations in `space`."""
    trainable: Any = tune.with_parameters(PolicyTrial, inputs=inputs)
    trainable = tune.with_resources(trainable, _resources(inputs))
    tuner = tune.Tuner(
        trainable,
        param_space=tune.grid_search(space),  # type: ignore[arg-type]
        tune_config=tune.TuneConfig(
            scheduler=_population(inputs, space[0]["trial"][1]),
            reuse_actors=inputs.trials.exchange_reports > 0,
            trial_name_creator=lambda trial: trial.config["trial"][0],
            trial_dirname_creator=lambda trial: trial.config["trial"][0],
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=os.fspath(checkpoints.resolve()),
            verbose=0,
            callbacks=[ProgressCallback(report)],
            failure_config=tune.FailureConfig(max_failures=inputs.trials.max_failures),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=1,
                checkpoint_at_end=True,
                num_to_keep=inputs.trials.keep_checkpoints,
            ),
        ),
    )
    grid = tuner.fit()
    if grid.num_errors:
        raise RuntimeError(
            f"{grid.num_errors} of {len(space)} trials failed: {last_line(grid.errors[0])}"
        ) from grid.errors[0]


def last_line(error: Exception) -> str:
    """What a remote error says; all before it is the traceback of another process."""
    return ([line for line in str(error).splitlines() if line.strip()] or [repr(error)])[-1].strip()


def latest_checkpoint(checkpoints: Path, trial_name: str) -> Path | None:
    """The complete checkpoint with most steps of a trial, over all attempts; None without one."""
    found = [
        (json.loads((folder / "counters.json").read_text())["num_timesteps"], folder)
        for folder in checkpoints.glob(f"attempt-*/{trial_name}/checkpoint_*")
        if _complete(folder)
    ]
    return max(found)[1] if found else None


def _complete(folder: Path) -> bool:
    """Whether every file that the checkpoint lists has the size it lists."""
    try:
        sizes = json.loads((folder / "files.json").read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _finished(folder: Path | None, steps: int) -> bool:
    if folder is None:
        return False
    return json.loads((folder / "counters.json").read_text())["num_timesteps"] >= steps
