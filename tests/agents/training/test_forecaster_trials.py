"""The forecaster's networks as Tune trials are those that one process trains, kills included."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.training import forecaster_trials
from agents.training.forecaster_trials import trained_by_tune
from agents.training.ray_session import ray_session
from agents.training.trials import ProgressCallback
from history.stochastic_volatility import stochastic_volatility_bars
from models.volatility.config import VolatilityConfig
from models.volatility.har_lstm import Fit, train_har_lstm, train_har_lstms
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
    """Bit for bit, one trained anew after its process died; the losses are told, nothing stays.

    The networks of two forecasters train together, as those of a training run and its folds do.
    """
    bars = stochastic_volatility_bars(11, DAYS)
    origins = build_origins(bars, CONFIG.horizons_minutes)
    until = int(bars.series[0].minute[-1])
    here: list[tuple[str, float, int]] = []
    there: list[tuple[str, float, int]] = []
    done: list[tuple[int, int]] = []
    fewer = replace(CONFIG, ensemble=1, epochs=2)
    fits = [Fit(CONFIG, until), Fit(fewer, until - 3 * 1440, "fold_2024-01-12")]
    one, earlier = train_har_lstms(origins, fits, 1, log=lambda *told: here.append(told))
    monkeypatch.setattr(forecaster_trials, "ProgressCallback", KillOnce)
    with ray_session(2):
        many, before = train_har_lstms(
            *(origins, fits, 1, lambda *steps: done.append(steps)),
            *(lambda *told: there.append(told), trained_by_tune(tmp_path, 2, 1)),
        )
    assert KillOnce.killed
    assert many.weights.tobytes() == one.weights.tobytes()
    assert not np.array_equal(one.weights[0], one.weights[1])
    assert before.weights.tobytes() == earlier.weights.tobytes()
    apart = train_har_lstm(origins, fewer, until - 3 * 1440, 1)
    assert apart.weights.tobytes() == earlier.weights.tobytes()
    assert apart.base.tobytes() == earlier.base.tobytes()
    assert (one.trained_until, earlier.trained_until) == (until, until - 3 * 1440)
    assert set(there) == set(here)
    assert {tag for tag, *_ in here} == {
        f"forecast/{network}/train_loss"
        for network in ("network_0", "network_1", "fold_2024-01-12_network_0")
    }
    assert done[-1] == (8, 8)
    assert list(tmp_path.iterdir()) == []
