"""Trials under Ray Tune: a killed trial and a killed driver lose nothing but time."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.config import PPOConfig, TrialsConfig
from agents.training.trial import Training, Trial, TrialInputs, planned_trials, reward_scale_eth
from agents.training.trials import TrialResult, latest_checkpoint, run_trials
from envs.market.config import MarketConfig, PricePaths
from tests.support.programs import processes_of, until

PPO = PPOConfig(
    num_envs=32, rollout_slots=8, minibatch=128, epochs=2, hidden=(16,), learning_rate=1e-3
)
TRIALS = TrialsConfig(seeds=1, steps=1024, reports=4, validation_envs=16)
TRIAL = Trial("seed-0-rate-0.001", 0, 1e-3)


def inputs_in(folder: Path, market: MarketConfig, paths: PricePaths) -> TrialInputs:
    return TrialInputs(market, paths, PPO, TRIALS, 0.05, str(folder / "tb"))


@pytest.fixture
def inputs(tmp_path: Path, market: MarketConfig, paths: PricePaths) -> TrialInputs:
    return inputs_in(tmp_path, market, paths)


def undisturbed(inputs: TrialInputs) -> list[dict[str, float]]:
    """The curve of the same training in this process, without Ray."""
    training = Training(TRIAL, inputs)
    for _ in range(inputs.trials.reports):
        assert not training.finished
        training.advance()
    assert training.finished
    training.close()
    return training.curve


def without_speed(curve: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in point.items() if k != "steps_per_s"} for point in curve]


def test_steps_come_in_whole_rollouts(inputs: TrialInputs) -> None:
    assert inputs.steps_per_report == 256
    assert inputs.steps == 1024
    odd = dataclasses.replace(inputs, trials=dataclasses.replace(TRIALS, steps=1000, reports=3))
    assert odd.steps_per_report == 256
    assert odd.steps == 768


def test_trials_are_seeds_times_rates() -> None:
    config = TrialsConfig(seeds=2, learning_rates=(1e-3, 3e-3))
    trials = planned_trials(config, PPO, seed=5)
    assert [(t.seed, t.learning_rate) for t in trials] == [
        (5, 1e-3),
        (5, 3e-3),
        (6, 1e-3),
        (6, 3e-3),
    ]
    assert len({t.name for t in trials}) == 4


def test_reward_scale_is_a_typical_reward(market: MarketConfig, paths: PricePaths) -> None:
    scale = reward_scale_eth(market, paths)
    assert scale == reward_scale_eth(market, paths)
    assert 1e-4 < scale < 10.0


def test_half_written_checkpoints_are_passed_over(tmp_path: Path) -> None:
    def write(attempt: int, number: int, steps: int, size: int) -> Path:
        folder = tmp_path / f"attempt-{attempt:03d}" / "t" / f"checkpoint_{number:06d}"
        folder.mkdir(parents=True)
        (folder / "counters.json").write_text(json.dumps({"num_timesteps": steps}))
        (folder / "learner.pt").write_bytes(b"x" * size)
        (folder / "files.json").write_text(json.dumps({"learner.pt": 10}))
        return folder

    assert latest_checkpoint(tmp_path, "t") is None
    write(1, 0, 100, size=10)
    best = write(2, 0, 200, size=10)
    write(2, 1, 300, size=9)  # the copy was cut short
    (write(2, 2, 400, size=10) / "files.json").unlink()
    assert latest_checkpoint(tmp_path, "t") == best


def test_a_training_restored_from_a_checkpoint_continues_bit_for_bit(
    tmp_path: Path, inputs: TrialInputs
) -> None:
    whole = undisturbed(inputs)
    assert [point["steps"] for point in whole] == [256, 512, 768, 1024]
    first = Training(TRIAL, inputs)
    first.advance()
    first.advance()
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    first.save(checkpoint)
    first.close()
    second = Training(TRIAL, inputs)
    second.load(checkpoint)
    second.advance()
    second.advance()
    second.close()
    assert without_speed(second.curve) == without_speed(whole)


@pytest.mark.slow
def test_a_killed_trial_restarts_from_its_checkpoint(tmp_path: Path, inputs: TrialInputs) -> None:
    killed: list[int] = []
    reports: list[int] = []

    def kill_once(name: str, metrics: dict[str, Any]) -> None:
        assert name == TRIAL.name
        reports.append(metrics["steps"])
        if metrics["steps"] == 512 and not killed:
            killed.append(metrics["pid"])
            os.kill(metrics["pid"], signal.SIGKILL)

    (result,) = run_trials(tmp_path / "checkpoints", inputs, [TRIAL], 1, kill_once)
    assert killed
    assert reports[-1] == 1024
    assert len(reports) in (4, 5, 6), "at most one checkpoint interval is repeated"
    assert without_speed(result.curve) == without_speed(undisturbed(inputs))


DRIVER = """
import sys
from pathlib import Path
from test_trials import TRIAL, inputs_in
from agents.training.trials import run_trials
from envs.market.config import MarketConfig
from envs.market.paths import stand_in_paths

folder = Path(sys.argv[1])
inputs = inputs_in(folder, MarketConfig(episode_slots=32, ticks_per_slot=3), stand_in_paths(days=4))
run_trials(folder / "checkpoints", inputs, [TRIAL], 1, lambda *_: print("report", flush=True))
"""


@pytest.mark.slow
def test_a_killed_driver_continues_and_leaves_no_process(
    tmp_path: Path, inputs: TrialInputs
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parent)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, os.fspath(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert driver.stdout is not None
    with driver.stdout:
        for _ in range(2):
            assert driver.stdout.readline() == "report\n"
        driver.kill()
        driver.wait()
    before = latest_checkpoint(tmp_path / "checkpoints", TRIAL.name)
    assert before is not None
    reports: list[int] = []
    (result,) = run_trials(
        tmp_path / "checkpoints", inputs, [TRIAL], 1, lambda _, m: reports.append(m["steps"])
    )
    assert isinstance(result, TrialResult)
    assert reports[0] > 256, "the first checkpoint was not learned again"
    assert without_speed(result.curve) == without_speed(undisturbed(inputs))
    again = run_trials(tmp_path / "checkpoints", inputs, [TRIAL], 1, lambda *_: pytest.fail("ran"))
    assert again == [result]
    # trainers and rollout processes end within seconds, Ray's own agents only after a minute
    until(lambda: not processes_of(driver.pid), "the end of what the driver started")
