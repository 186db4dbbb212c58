"""The networks of the forecaster as Ray Tune trials: one process of one thread each.

They come out as `models.volatility.har_lstm.train_members` makes them, bit for bit. A killed one
begins again.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune

from agents.training.ray_session import ray_session
from agents.training.trials import ProgressCallback, last_line
from models.volatility.har_lstm import (
    Ensemble,
    Log,
    Member,
    Members,
    Progress,
    train_loss_tag,
)

FOLDER, WEIGHTS = "forecaster", "weights.npy"


class ForecasterTrial(tune.Trainable):
    """One network; `config["trial"]` is its name, its ensemble and its number in that."""

    def setup(
        self,
        config: dict[str, Any],
        ensembles: Sequence[Ensemble] | None = None,
    ) -> None:
        """Build the network."""
        if ensembles is None:
            raise ValueError("ensembles are missing: bind them with tune.with_parameters")
        torch.set_num_threads(1)
        _, of, number = config["trial"]
        self.member = Member(ensembles[of].windows, ensembles[of].config, number)

    def step(self) -> dict[str, Any]:
        """One epoch."""
        loss = self.member.epoch()
        done = self.member.epochs == self.member.config.epochs
        return {"loss": loss, "epochs": self.member.epochs, "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Called by Tune at the end."""
        np.save(Path(checkpoint_dir) / WEIGHTS, self.member.flat())


def trained_by_tune(folder: Path, workers: int, max_failures: int, address: str = "") -> Members:
    """A trainer of networks on `workers` cores, or on the Ray cluster at `address`.

    It keeps what Tune writes in `folder`, which the cluster's nodes must see, until it is done.
    Raises RuntimeError when a network fails more often than `max_failures`.
    """

    def train(
        ensembles: Sequence[Ensemble], progress: Progress | None, log: Log | None
    ) -> list[list[np.ndarray]]:
        networks = [
            (name, e, k) for e, of in enumerate(ensembles) for k, name in enumerate(of.networks)
        ]
        epochs = {name: 0 for name, *_ in networks}
        total = sum(e.config.epochs * e.config.ensemble for e in ensembles)

        def report(name: str, metrics: dict[str, Any]) -> None:
            epochs[name] = metrics["epochs"]
            if log:
                log(train_loss_tag(name), metrics["loss"], epochs[name] - 1)
            if progress:
                progress(sum(epochs.values()), total)

        trainable: Any = tune.with_parameters(ForecasterTrial, ensembles=list(ensembles))
        shutil.rmtree(folder / FOLDER, ignore_errors=True)  # of an interrupted run
        with ray_session(min(workers, len(networks)), address):
            grid = tune.Tuner(
                tune.with_resources(trainable, {"CPU": 1.0}),
                param_space={"trial": tune.grid_search([list(network) for network in networks])},
                tune_config=tune.TuneConfig(
                    trial_name_creator=lambda trial: trial.config["trial"][0],
                    trial_dirname_creator=lambda trial: trial.config["trial"][0],
                ),
                run_config=tune.RunConfig(
                    name=FOLDER,
                    storage_path=os.fspath(folder.resolve()),
                    verbose=0,
                    callbacks=[ProgressCallback(report)],
                    failure_config=tune.FailureConfig(max_failures=max_failures),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
                ),
            ).fit()
        if grid.num_errors:
            raise RuntimeError(
                f"{grid.num_errors} of {len(networks)} networks of the forecaster failed: "
                f"{last_line(grid.errors[0])}"
            ) from grid.errors[0]
        weights: dict[str, np.ndarray] = {}
        for result in grid:
            assert result.checkpoint is not None  # written at the end of every trial
            assert result.config is not None
            file = Path(result.checkpoint.path) / WEIGHTS
            weights[result.config["trial"][0]] = np.load(file)
        shutil.rmtree(folder / FOLDER)
        return [[weights[name] for name in of.networks] for of in ensembles]

    return train
