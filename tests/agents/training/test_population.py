"""Trials that copy the best of them, on other nodes, and with rollout processes of their own."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.cluster_utils import Cluster

from agents.config import PPOConfig, TrialsConfig
from agents.training.checkpoints import load_checkpoint
from agents.training.ray_session import ray_session
from agents.training.trial import Training, Trial, TrialInputs
from agents.training.trials import latest_checkpoint, run_trials
from envs.market.config import MarketConfig, PricePaths

PPO = PPOConfig(
    num_envs=32, rollout_slots=8, minibatch=128, epochs=2, hidden=(16,), learning_rate=1e-3
)
TRIALS = TrialsConfig(seeds=1, steps=1024, reports=4, validation_envs=16)


@pytest.fixture
def inputs(tmp_path: Path, market: MarketConfig, paths: PricePaths) -> TrialInputs:
    return TrialInputs(market, paths, PPO, TRIALS, 0.05, str(tmp_path / "tb"))


def test_another_trials_checkpoint_gives_its_weights_and_not_its_markets(
    tmp_path: Path, inputs: TrialInputs
) -> None:
    donor = Training(Trial("a", 0, 1e-3), inputs)
    donor.advance()
    donor.save(tmp_path)
    taker = Training(Trial("b", 1, 2e-3, entropy=0.05), inputs)
    before = taker.venv.state()["tiles"]
    taker.load(tmp_path)
    assert np.array_equal(taker.venv.state()["tiles"], before)
    assert [training.model.num_timesteps for training in (donor, taker)] == [256, 256]
    for ours, theirs in zip(taker.model.policy.parameters(), donor.model.policy.parameters()):
        assert torch.equal(ours, theirs)
    taker.advance()
    assert taker.model.ent_coef == pytest.approx(0.5 * 0.05)
    assert taker.model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 2e-3)
    assert [point["steps"] for point in taker.curve] == [256, 512]
    for training in (donor, taker):
        training.close()


@pytest.mark.slow
def test_a_population_exchanges_what_it_learned(tmp_path: Path, inputs: TrialInputs) -> None:
    """A trial that cannot learn copies one that can, rates varied, and finishes."""
    trials = dataclasses.replace(TRIALS, exchange_reports=2)
    inputs = dataclasses.replace(inputs, trials=trials)
    members = [Trial("good", 0, 1e-3), Trial("bad", 1, 1e-9)]
    reports: list[str] = []
    results = run_trials(
        tmp_path / "checkpoints", inputs, members, 2, lambda name, _: reports.append(name)
    )
    assert {result.trial.name for result in results} == {"good", "bad"}
    assert reports.count("bad") >= 4
    rates = {}
    for member in members:
        folder = latest_checkpoint(tmp_path / "checkpoints", member.name)
        assert folder is not None
        assert json.loads((folder / "counters.json").read_text())["num_timesteps"] == inputs.steps
        rates[member.name] = json.loads((folder / "trial.json").read_text())["learning_rate"]
    changed = [name for name in rates if rates[name] != {m[0]: m[2] for m in members}[name]]
    assert len(changed) == 1, rates
    # Run again with the same folder: everything is finished, with the rates settled on.
    again = run_trials(tmp_path / "checkpoints", inputs, members, 2, lambda *_: pytest.fail("ran"))
    assert [result.checkpoint for result in again] == [result.checkpoint for result in results]


@pytest.mark.slow
def test_trials_run_on_a_cluster_by_its_address(tmp_path: Path, inputs: TrialInputs) -> None:
    """Two nodes of one core each: the two trials run on both, to the bits of a local run."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes: set[str] = set()

    def report(name: str, metrics: dict[str, Any]) -> None:
        nodes.add(metrics["node"])

    try:
        cluster.add_node(num_cpus=1)
        members = [Trial("a", 0, 1e-3), Trial("b", 1, 1e-3)]
        results = run_trials(
            tmp_path / "checkpoints", inputs, members, 1, report, str(cluster.address)
        )
    finally:
        cluster.shutdown()
    assert len(nodes) == 2
    local = Training(Trial("a", 0, 1e-3), inputs)
    while not local.finished:
        local.advance()
    (remote,) = [result for result in results if result.trial.name == "a"]
    loaded = Training(Trial("a", 0, 1e-3), inputs)
    load_checkpoint(loaded.model, loaded.venv, remote.checkpoint)
    for ours, theirs in zip(loaded.model.policy.parameters(), local.model.policy.parameters()):
        assert torch.equal(ours, theirs)
    for training in (local, loaded):
        training.close()


@pytest.mark.slow
def test_rollout_processes_under_tune_survive_a_killed_trial(
    tmp_path: Path, inputs: TrialInputs
) -> None:
    """The trial's process is killed; its rollout processes go with it and come again."""
    trial = Trial("a", 0, 1e-3)
    ppo = dataclasses.replace(PPO, rollout_workers=1, asynchronous=True)
    inputs = dataclasses.replace(inputs, ppo=ppo)
    with ray_session(2):
        whole = Training(trial, inputs)
        for _ in range(4):
            whole.advance()
        whole.close()
    killed: list[int] = []

    def kill_once(name: str, metrics: dict[str, int]) -> None:
        if metrics["steps"] == 512 and not killed:
            killed.append(metrics["pid"])
            os.kill(metrics["pid"], signal.SIGKILL)

    (result,) = run_trials(tmp_path / "checkpoints", inputs, [trial], 2, kill_once)
    assert killed
    curves = [
        [point["validation_iqm_eth"] for point in curve] for curve in (whole.curve, result.curve)
    ]
    assert curves[0] == curves[1]
