"""Rollouts from Ray processes: the learner learns the same bits whoever dies on the way."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from agents.config import ConfigError, PPOConfig, TrialsConfig
from agents.learner.rollouts import RolloutWorker
from agents.training.ray_session import ray_session
from agents.training.trial import Training, Trial, TrialInputs
from agents.training.trials import latest_checkpoint, run_trials
from envs.market.config import MarketConfig, PricePaths
from tests.support.programs import processes_of, until

PPO = PPOConfig(
    num_envs=32,
    rollout_slots=8,
    minibatch=128,
    epochs=2,
    hidden=(16,),
    rollout_workers=2,
    learning_rate=1e-3,
)
TRIALS = TrialsConfig(seeds=1, steps=1024, reports=4, validation_envs=16)
TRIAL = Trial("seed-0-rate-0.001", 0, 1e-3)
RECURRENT = dataclasses.replace(PPO, lstm=8, critic_lstm=True, rollout_workers=1, asynchronous=True)
MODES = [pytest.param(PPO, id="synchronous"), pytest.param(RECURRENT, id="asynchronous-recurrent")]


@pytest.fixture(scope="module")
def ray_running() -> Iterator[None]:
    with ray_session(3):
        yield


def inputs_of(folder: Path, market: MarketConfig, paths: PricePaths, ppo: PPOConfig) -> TrialInputs:
    return TrialInputs(market, paths, ppo, TRIALS, 0.05, str(folder / "tb"))


def weights(training: Training) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in training.model.policy.parameters())


def learn(training: Training) -> None:
    """One update."""
    rollout = PPO.num_envs * PPO.rollout_slots
    training.model.learn(rollout, training.monitor, reset_num_timesteps=False)


@pytest.mark.slow
@pytest.mark.parametrize("ppo", MODES)
def test_resumed_and_disturbed_trainings_end_in_the_same_bits(
    ray_running: None, tmp_path: Path, market: MarketConfig, paths: PricePaths, ppo: PPOConfig
) -> None:
    """Undisturbed; stopped, resumed and one rollout process killed."""
    inputs = inputs_of(tmp_path, market, paths, ppo)
    whole = Training(TRIAL, inputs)
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for report in range(4):
        whole.advance()
        if report == 1:
            whole.save(checkpoint)
    whole.close()
    assert whole.finished
    assert np.isfinite(whole.curve[-1]["validation_iqm_eth"])

    disturbed = Training(TRIAL, inputs)
    disturbed.advance()  # forgotten with what its processes still play
    disturbed.load(checkpoint)
    disturbed.advance()
    assert disturbed.crew is not None
    os.kill(disturbed.crew.pids()[-1], signal.SIGKILL)
    disturbed.advance()
    disturbed.model.collect_rollouts(  # the death shows at the latest here
        disturbed.venv, disturbed.monitor, disturbed.model.rollout_buffer, 0
    )
    assert disturbed.crew.failures_left == TRIALS.max_failures - 1
    disturbed.close()
    assert weights(disturbed) == weights(whole)


def doom(worker: RolloutWorker, method: str, call: int) -> None:
    """Let a rollout process die when it calls `method` for the given time from now on."""
    owner: Any = worker.venv if method == "state" else worker.model
    usual, calls = getattr(owner, method), itertools.count()

    def last(*arguments: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(*arguments)

    setattr(owner, method, last)


def doom_last(training: Training, method: str, call: int) -> None:
    """`doom` in the last process of a crew."""
    assert training.crew is not None
    ray.get(training.crew._actors[-1].__ray_call__.remote(doom, method, call))


def failures_left(training: Training) -> int:
    assert training.crew is not None
    return training.crew.failures_left


def end_of(training: Training) -> dict[str, bytes]:
    """What a checkpoint would keep of the networks and the crew; ends the training."""
    assert training.crew is not None
    state = {name: array.tobytes() for name, array in training.crew.state().items()}
    training.close()
    return state | {"weights": weights(training)}


@pytest.mark.slow
@pytest.mark.parametrize("ppo", MODES)
def test_a_death_at_any_moment_changes_no_bit(
    ray_running: None, tmp_path: Path, market: MarketConfig, paths: PricePaths, ppo: PPOConfig
) -> None:
    """In the midst of the slots; after the last one, before anything came back."""
    moments = [("act", 5), ("state", 0)]
    trials = dataclasses.replace(TRIALS, steps=2048, max_failures=len(moments))
    inputs = dataclasses.replace(inputs_of(tmp_path, market, paths, ppo), trials=trials)
    whole = Training(TRIAL, inputs)
    for _ in range(1 + 2 * len(moments)):
        learn(whole)
    expected = end_of(whole)
    disturbed = Training(TRIAL, inputs)
    learn(disturbed)
    for number, (method, call) in enumerate(moments):
        doom_last(disturbed, method, call)
        learn(disturbed)
        learn(disturbed)  # the death shows at the latest here
        assert failures_left(disturbed) == len(moments) - number - 1, method
    assert end_of(disturbed) == expected


@pytest.mark.slow
def test_asynchronous_rollouts_are_one_update_stale(
    ray_running: None, tmp_path: Path, market: MarketConfig, paths: PricePaths
) -> None:
    """The stored probabilities are those of the weights before the last update."""
    ppo = dataclasses.replace(PPO, rollout_workers=1, asynchronous=True)
    training = Training(TRIAL, inputs_of(tmp_path, market, paths, ppo))
    model, before = training.model, []
    for number in range(3):
        before.append({k: v.clone() for k, v in model.policy.state_dict().items()})
        learn(training)
        after = {k: v.clone() for k, v in model.policy.state_dict().items()}
        for back, state in enumerate(reversed(before)):
            model.policy.load_state_dict(state)
            batch = next(iter(model.rollout_buffer.get(None)))
            gap = float((model.evaluate(batch)[1].detach() - batch.old_log_p).abs().max())
            assert (gap < 1e-5) == (back == min(number, 1)), (number, back, gap)
        model.policy.load_state_dict(after)
    training.close()


@pytest.mark.slow
def test_a_process_that_keeps_dying_ends_the_training(
    ray_running: None, tmp_path: Path, market: MarketConfig, paths: PricePaths
) -> None:
    trials = dataclasses.replace(TRIALS, max_failures=0)
    ppo = dataclasses.replace(PPO, rollout_workers=1)
    inputs = dataclasses.replace(inputs_of(tmp_path, market, paths, ppo), trials=trials)
    training = Training(TRIAL, inputs)
    assert training.crew is not None
    os.kill(training.crew.pids()[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="rollout process 0 died again"):
        training.advance()
    training.close()


DRIVER = """
import sys
from pathlib import Path
from tests.agents.learner.test_rollouts import MODES, TRIAL, inputs_of
from agents.training.trials import run_trials
from envs.market.config import MarketConfig
from envs.market.paths import stand_in_paths

folder, ppo = Path(sys.argv[1]), MODES[int(sys.argv[2])].values[0]
market = MarketConfig(episode_slots=32, ticks_per_slot=3)
inputs = inputs_of(folder, market, stand_in_paths(days=4), ppo)
run_trials(folder / "checkpoints", inputs, [TRIAL], 3, lambda *_: print("report", flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", range(len(MODES)), ids=[mode.id for mode in MODES])
def test_a_killed_driver_loses_a_checkpoint_interval_and_leaves_no_process(
    tmp_path: Path, market: MarketConfig, paths: PricePaths, mode: int
) -> None:
    """The driver dies without a word while rollout processes play; resuming ends in its bits."""
    if ray.is_initialized():
        ray.shutdown()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, os.fspath(tmp_path), str(mode)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[3])},
        start_new_session=True,
    )
    assert driver.stdout is not None
    reports = 2
    with driver.stdout:
        for _ in range(reports):
            assert driver.stdout.readline() == "report\n"
        driver.kill()
        driver.wait()
    until(lambda: not processes_of(driver.pid), "the end of what the driver started")
    inputs = inputs_of(tmp_path, market, paths, MODES[mode].values[0])  # type: ignore[arg-type]
    folder = tmp_path / "checkpoints"
    kept = latest_checkpoint(folder, TRIAL.name)
    assert kept is not None
    saved = json.loads((kept / "counters.json").read_text())["num_timesteps"]
    assert saved >= (reports - 1) * inputs.steps_per_report
    steps: list[int] = []
    (result,) = run_trials(folder, inputs, [TRIAL], 3, lambda _, m: steps.append(m["steps"]))
    assert steps[0] == saved + inputs.steps_per_report, "goes on from the last checkpoint"
    whole = run_trials(tmp_path / "whole", inputs, [TRIAL], 3, lambda *_: None)[0]
    for point, other in zip(result.curve, whole.curve, strict=True):
        for name in point.keys() - {"steps_per_s"}:
            assert point[name] == other[name], name


def test_more_processes_than_cores_are_refused(
    tmp_path: Path, market: MarketConfig, paths: PricePaths
) -> None:
    ppo = dataclasses.replace(PPO, rollout_workers=2, asynchronous=True)
    with pytest.raises(ValueError, match="keeps 3 cores busy, there are 2 to train on"):
        run_trials(tmp_path, inputs_of(tmp_path, market, paths, ppo), [TRIAL], 2, lambda *_: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout_workers": 5}, "rollout_workers is 5: give a divisor of num_envs, 32"),
        ({"rollout_workers": 0, "asynchronous": True}, "asynchronous is True: give"),
        ({"lstm": 8, "minibatch": 4}, "minibatch is 4: give a multiple of rollout_slots"),
        ({"lstm": -1}, "lstm is -1: give"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(PPO, **changes)  # type: ignore[arg-type]
