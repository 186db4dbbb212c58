"""Ray Tune runs the trainings: one single-threaded process per core, one trial per seed.

A killed trial restarts from its last checkpoint inside the run; a killed driver continues with the
same checkpoints when the run is resumed. Results are read from the checkpoints alone.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from ray import tune

from agents.baselines import greedy, network_bidder
from agents.config import PPOConfig, TrialsConfig
from agents.evaluate import play
from agents.intervals import iqm
from agents.monitor import MarketMonitor
from agents.ppo import build, load_checkpoint, policy_layers, save_checkpoint
from agents.vecenv import MarketVecEnv
from envs.market import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv

# Validation episodes are the same in every round of every trial: the curves can be compared.
VALIDATION_SEED = 1
SCALE_ENVS, SCALE_SLOTS, SCALE_SEED = 512, 64, 2
ATTEMPT = re.compile(r"attempt-(\d+)")


class Trial(NamedTuple):
    """One training to run; `name` is its folder."""

    name: str
    seed: int
    learning_rate: float


@dataclass(frozen=True)
class TrialInputs:
    """What all trials of a run share."""

    market: MarketConfig
    paths: PricePaths
    ppo: PPOConfig
    trials: TrialsConfig
    reward_scale_eth: float
    tensorboard: str

    @property
    def steps_per_report(self) -> int:
        """Decisions between two checkpoints, in whole rollouts."""
        rollout = self.ppo.num_envs * self.ppo.rollout_slots
        return max(1, round(self.trials.steps / self.trials.reports / rollout)) * rollout

    @property
    def steps(self) -> int:
        """Decisions of one trial, in whole reports."""
        return self.steps_per_report * self.trials.reports


@dataclass(frozen=True)
class TrialResult:
    """A finished training: its best and last checkpoint folders and its validation curve."""

    trial: Trial
    checkpoint: Path
    curve: list[dict[str, float]]

    @property
    def score_eth(self) -> float:
        """Validation IQM profit per episode of the last checkpoint."""
        return self.curve[-1]["validation_iqm_eth"]


class PolicyTrial(tune.Trainable):
    """One MaskablePPO training under Ray Tune."""

    def setup(self, config: dict[str, Any], inputs: TrialInputs | None = None) -> None:
        """Build the trainer; continue from `config["restore"]` when the run is resumed."""
        assert inputs is not None
        torch.set_num_threads(1)
        self.inputs = inputs
        self.trial_config = Trial(*config["trial"])
        ppo = inputs.ppo
        env = MarketVectorEnv(
            ppo.num_envs, inputs.market, inputs.paths, split="train", seed=self.trial_config.seed
        )
        self.venv = MarketVecEnv(env, inputs.reward_scale_eth, ppo.reward_clip)
        ppo_here = PPOConfig(**{**vars(ppo), "learning_rate": self.trial_config.learning_rate})
        self.model = build(self.venv, ppo_here, self.trial_config.seed, inputs.steps)
        self.validation = MarketVectorEnv(
            inputs.trials.validation_envs,
            inputs.market,
            inputs.paths,
            split="validation",
            seed=VALIDATION_SEED,
        )
        self.monitor = MarketMonitor(Path(inputs.tensorboard) / self.trial_config.name)
        self.curve: list[dict[str, float]] = []
        if config.get("restore"):
            self.load_checkpoint(config["restore"])

    def step(self) -> dict[str, Any]:
        """Learn until the next report, then play the validation episodes."""
        start = time.perf_counter()
        self.model.learn(
            self.inputs.steps_per_report, callback=self.monitor, reset_num_timesteps=False
        )
        seconds = time.perf_counter() - start
        episodes = play(network_bidder(policy_layers(self.model)), self.validation, VALIDATION_SEED)
        point = {
            "steps": self.model.num_timesteps,
            "validation_iqm_eth": float(iqm(episodes.profit_eth)),
            "validation_share": episodes.ratios()["share_of_best_response"],
            "steps_per_s": self.inputs.steps_per_report / seconds,
        }
        self.curve.append(point)
        self.monitor.record_validation(point)
        return {**point, "done": self.model.num_timesteps >= self.inputs.steps}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Trainer and curve; the list of files comes last and proves that all are there."""
        folder = Path(checkpoint_dir)
        save_checkpoint(self.model, self.venv, folder)
        (folder / "curve.json").write_text(json.dumps(self.curve))
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        (folder / "files.json").write_text(json.dumps(sizes))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue bit for bit where `save_checkpoint` was called."""
        folder = Path(checkpoint)
        load_checkpoint(self.model, self.venv, folder)
        self.curve = json.loads((folder / "curve.json").read_text())
        self.monitor.rewind(self.model.num_timesteps)

    def cleanup(self) -> None:
        """Flush TensorBoard."""
        self.monitor.close()


class ProgressCallback(tune.Callback):
    """Tells the terminal about every report of every trial."""

    def __init__(self, report: Callable[[str, dict[str, Any]], None]) -> None:
        self.report = report

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass on the name of the trial and its metrics."""
        self.report(Trial(*trial.config["trial"]).name, result)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore that is never used; a terminal cannot be."""
        return {}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reward_scale_eth(market: MarketConfig, paths: PricePaths) -> float:
    """Root mean square of a slot's reward for always bidding 80 %, on training episodes, ETH.

    The learner divides by this constant. Playing also compiles the kernels before the trials
    start, which then find them in the cache.
    """
    env = MarketVectorEnv(SCALE_ENVS, market, paths, split="train", seed=SCALE_SEED)
    observations, _ = env.reset(seed=SCALE_SEED)
    bidder, squares = greedy(0.8), 0.0
    for _ in range(SCALE_SLOTS):
        observations, rewards, *_ = env.step(bidder(observations, env.action_masks()))
        squares += float(np.mean(np.square(rewards)))
    return max(float(np.sqrt(squares / SCALE_SLOTS)), 1e-6)


def planned_trials(config: TrialsConfig, ppo: PPOConfig, seed: int) -> list[Trial]:
    """One trial per seed and learning rate; the names are the folders."""
    rates = config.learning_rates or (ppo.learning_rate,)
    return [
        Trial(f"seed-{seed + s}-rate-{rate:g}", seed + s, rate)
        for s in range(config.seeds)
        for rate in rates
    ]


def run_trials(
    checkpoints: Path,
    inputs: TrialInputs,
    trials: list[Trial],
    workers: int,
    report: Callable[[str, dict[str, Any]], None],
) -> list[TrialResult]:
    """Run the trials that are not finished yet and return all, best validation score first.

    Raises RuntimeError when a trial fails more often than `max_failures`.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    latest = {trial.name: latest_checkpoint(checkpoints, trial.name) for trial in trials}
    open_ = [t for t in trials if not _finished(latest[t.name], inputs.steps)]
    if open_:
        attempts = [int(m[1]) for p in checkpoints.iterdir() if (m := ATTEMPT.fullmatch(p.name))]
        name = f"attempt-{max(attempts, default=0) + 1:03d}"
        space = [{"trial": list(t), "restore": str(latest[t.name] or "")} for t in open_]
        with ray_session(min(workers, len(open_))):
            _fit(checkpoints, name, inputs, space, report)
        latest = {trial.name: latest_checkpoint(checkpoints, trial.name) for trial in trials}
    results = []
    for trial in trials:
        folder = latest[trial.name]
        if folder is None or not _finished(folder, inputs.steps):
            raise RuntimeError(f"trial {trial.name} did not finish: see {checkpoints}")
        results.append(TrialResult(trial, folder, json.loads((folder / "curve.json").read_text())))
    return sorted(results, key=lambda result: -result.score_eth)


def _fit(
    checkpoints: Path,
    name: str,
    inputs: TrialInputs,
    space: list[dict[str, Any]],
    report: Callable[[str, dict[str, Any]], None],
) -> None:
    """One Tune experiment over the configurations in `space`."""
    trainable = tune.with_resources(tune.with_parameters(PolicyTrial, inputs=inputs), {"cpu": 1})
    tuner = tune.Tuner(
        trainable,
        param_space=tune.grid_search(space),  # type: ignore[arg-type]
        tune_config=tune.TuneConfig(
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
        raise RuntimeError(f"{grid.num_errors} of {len(space)} trials failed: {grid.errors[0]}")


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


@contextmanager
def ray_session(cpus: int) -> Iterator[None]:
    """A quiet local Ray for `cpus` processes, shut down at the end whatever happens."""
    os.environ.update(
        # Our checkpoints and TensorBoard hold the results; Ctrl-C must reach the driver at once.
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AIR_NEW_OUTPUT="0",
        RAY_TRAIN_V2_ENABLED="0",
    )
    root = Path(__file__).resolve().parent.parent
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    ray.init(
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {**threads, "PYTHONPATH": os.fspath(root)}},
    )
    try:
        yield
    finally:
        ray.shutdown()
