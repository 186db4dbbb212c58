"""The forecaster's networks as Tune trials are those that one process trains, kills included."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.training import forecaster_trials
from agents.training.forecaster_trials import trained_by_tune
from agents.training.ray_session import ray_session
from agents.training.trials import ProgressCallback
from history.stochastic_volatility import stochastic_volatility_bars
from models.volatility.har_lstm import VolatilityConfig, train_har_lstm
from models.volatility.origins import build_origins

CONFIG = VolatilityConfig(ensemble=2, epochs=3, hidden=6, layer=12, horizons_minutes=(60,))
DAYS = 14


class KillOnce(ProgressCallback):
    """Kills the process of the first report."""

    killed = 0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if not KillOnce.killed:
            KillOnce.killed = result["pid"]
            os.kill(result["pid"], signal.SIGKILL)
        super().on_trial_result(iteration, trials, trial, result, **info)


def test_networks_of_trials_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, one trained anew after its process died; the losses are told, nothing stays."""
    bars = stochastic_volatility_bars(11, DAYS)
    origins = build_origins(bars, CONFIG.horizons_minutes)
    until = int(bars.series[0].minute[-1])
    here: list[tuple[str, float, int]] = []
    there: list[tuple[str, float, int]] = []
    done: list[tuple[int, int]] = []
    one = train_har_lstm(origins, CONFIG, until, 1, log=lambda *told: here.append(told))
    monkeypatch.setattr(forecaster_trials, "ProgressCallback", KillOnce)
    with ray_session(2):
        many = train_har_lstm(
            *(origins, CONFIG, until, 1, lambda *steps: done.append(steps)),
            *(lambda *told: there.append(told), trained_by_tune(tmp_path, 2, 1)),
        )
    assert KillOnce.killed
    assert many.weights.tobytes() == one.weights.tobytes()
    assert not np.array_equal(one.weights[0], one.weights[1])
    assert set(there) == set(here)
    assert done[-1] == (6, 6)
    assert list(tmp_path.iterdir()) == []
