"""Finished trainings of the study in files, so that an interrupted study goes on where it was."""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from agents.hidden_competition.belief import BIDS
from envs.hidden_competition.model import HiddenCompetition
from history.files import write_atomically

# What names, counts and compares trainings does not change one.
_WITHOUT_EFFECT = ("scenario", "seeds", "stateless_seeds", "resamples", "workers", "belief")


class Kept:
    """A folder with a file for each finished training: its bids, seconds, curve and forecast.

    The name of a file is a hash of everything that the training depends on but the code itself:
    settings, law, kind, seed. A training with other settings never finds it. After a change of the
    learners' code give another folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def _file(self, study: Any, model: HiddenCompetition, kind: str, seed: int) -> Path:
        settings = {k: v for k, v in asdict(study).items() if k not in _WITHOUT_EFFECT}
        told = json.dumps([settings, asdict(model), kind, seed], sort_keys=True)
        digest = hashlib.sha256(told.encode()).hexdigest()[:20]
        return self._folder / f"{re.sub('[^A-Za-z0-9]+', '-', kind)}-{seed}-{digest}.npz"

    def find(
        self, study: Any, model: HiddenCompetition, kind: str, seed: int
    ) -> tuple[Any, ...] | None:
        """(bids, seconds, curve, forecast) of a finished training, None where there is none."""
        file = self._file(study, model, kind, seed)
        if not file.is_file():
            return None
        with np.load(file, allow_pickle=False) as found:
            told = json.loads(str(found["told"]))
            curve = [tuple(point) for point in told["curve"]]
            return BIDS[found["bid"]], told["seconds"], curve, told["forecast"]

    def keep(
        self, study: Any, model: HiddenCompetition, kind: str, seed: int, trained: Any
    ) -> None:
        """Write a finished training; trained has bids of BIDS, seconds, curve, forecast."""
        file = self._file(study, model, kind, seed)
        told = {k: getattr(trained, k) for k in ("seconds", "curve", "forecast")}
        bid = np.searchsorted(BIDS, trained.bids).astype(np.uint8)
        arrays = {"bid": bid, "told": np.array(json.dumps(told, allow_nan=False))}
        write_atomically(file, lambda out: np.savez_compressed(out, **arrays), durable=True)
