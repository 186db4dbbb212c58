"""The trainer learns a known optimum, and an interrupted training continues to the same bits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.config import PPOConfig
from agents.learner.build import build
from agents.learner.ppo import ScheduledPPO
from agents.learner.vecenv import MarketVecEnv
from agents.training.checkpoints import load_checkpoint, save_checkpoint
from models.policy.masked import network_of
from tests.support.auctions import FRACTIONS, RIVALS, FirstPriceEnv

SMALL = PPOConfig(
    num_envs=64, rollout_slots=8, minibatch=256, epochs=2, hidden=(16, 16), learning_rate=1e-3
)
ROLLOUT = 64 * 8


def trainer(config: PPOConfig, seed: int, steps: int) -> tuple[ScheduledPPO, MarketVecEnv]:
    venv = MarketVecEnv(FirstPriceEnv(config.num_envs), reward_scale_eth=0.2, reward_clip=10.0)
    return build(venv, config, seed, steps), venv


def weights(model: ScheduledPPO) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in model.policy.parameters())


def train(model: ScheduledPPO, rollouts: int) -> None:
    model.learn(rollouts * ROLLOUT, reset_num_timesteps=False)


def test_resumed_training_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, _ = trainer(SMALL, 3, 6 * ROLLOUT)
    train(whole, 6)
    first, venv = trainer(SMALL, 3, 6 * ROLLOUT)
    train(first, 3)
    save_checkpoint(first, venv, tmp_path)
    train(first, 3)
    assert weights(first) == weights(whole), "checkpointing must not disturb the training"
    torch.rand(5)
    np.random.rand(5)  # noqa: NPY002 - the learner's own generator
    second, venv = trainer(SMALL, 99, 6 * ROLLOUT)
    load_checkpoint(second, venv, tmp_path)
    assert second.num_timesteps == 3 * ROLLOUT
    train(second, 3)
    assert weights(second) == weights(whole)
    assert second._current_progress_remaining == 0.0


def test_a_checkpoint_of_other_thread_count_is_refused(tmp_path: Path) -> None:
    model, venv = trainer(SMALL, 0, ROLLOUT)
    save_checkpoint(model, venv, tmp_path)
    counters = tmp_path / "counters.json"
    counters.write_text(counters.read_text().replace('"threads": 1', '"threads": 2'))
    with pytest.raises(ValueError, match="2 torch threads"):
        load_checkpoint(model, venv, tmp_path)


def test_schedules_span_the_whole_training_and_not_one_call() -> None:
    model, _ = trainer(SMALL, 0, 4 * ROLLOUT)
    for rollout in range(1, 5):
        train(model, 1)
        assert model._current_progress_remaining == pytest.approx(1 - rollout / 4)
        assert model.ent_coef == pytest.approx(SMALL.entropy * (1 - rollout / 4))
        rate = model.policy.optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(SMALL.learning_rate * (1 - rollout / 4))


def test_exported_layers_are_the_action_network() -> None:
    model, _ = trainer(SMALL, 0, ROLLOUT)
    observations = np.random.default_rng(0).random((7, 2)).astype(np.float32)
    layers = network_of(model.policy).layers
    hidden = observations
    for weight, bias in layers[:-1]:
        hidden = np.tanh(hidden @ weight.T + bias)
    logits = hidden @ layers[-1][0].T + layers[-1][1]
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    inputs = torch.from_numpy(observations)
    for action in range(logits.shape[1]):
        with torch.no_grad():
            _, log_p, _ = model.policy.evaluate_actions(inputs, torch.full((7,), action))
        np.testing.assert_allclose(log_p.numpy(), expected[:, action], atol=1e-5)


def test_learns_the_best_bid_against_equilibrium_rivals() -> None:
    config = PPOConfig(
        num_envs=512, rollout_slots=16, minibatch=2048, learning_rate=1e-3, entropy=0.002
    )
    model, venv = trainer(config, 1, 160_000)
    model.learn(160_000, reset_num_timesteps=False)
    value = np.linspace(0.3, 1.0, 200)
    observations = np.stack([value, value**2], axis=1).astype(np.float32)
    actions, _ = model.predict(observations, deterministic=True)
    fraction = np.where(actions > 0, FRACTIONS[np.maximum(actions - 1, 0)], 0.0)
    best = RIVALS / (RIVALS + 1)
    win = np.minimum(1.0, fraction * value / best) ** RIVALS
    profit = (1.0 - fraction) * value * win
    share = profit.sum() / ((1.0 - best) * value * value**RIVALS).sum()
    assert share >= 0.98
    assert venv.num_envs == 512
