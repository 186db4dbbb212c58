"""The recurrent learner remembers what a stateless one cannot, and is resumed to the same bits."""

import dataclasses
from pathlib import Path

import pytest
import torch

from agents.config import PPOConfig
from agents.learner.build import build
from agents.learner.ppo import ScheduledPPO
from agents.learner.recurrent import MaskableRecurrentPPO
from agents.learner.vecenv import MarketVecEnv
from agents.training.checkpoints import load_checkpoint, save_checkpoint
from models.frozen import Player, compile_network
from models.policy.masked import network_of
from tests.support.auctions import FirstPriceEnv
from tests.support.hidden_auctions import HiddenRegimeEnv

SMALL = PPOConfig(
    num_envs=32,
    rollout_slots=8,
    minibatch=64,
    epochs=2,
    hidden=(16,),
    lstm=8,
    critic_lstm=True,
    learning_rate=1e-3,
)
ROLLOUT = 32 * 8


def learner(env: FirstPriceEnv, config: PPOConfig, seed: int, steps: int) -> ScheduledPPO:
    return build(MarketVecEnv(env, reward_scale_eth=0.2), config, seed, steps)


def weights(model: ScheduledPPO) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in model.policy.parameters())


def test_resumed_training_ends_in_the_same_bits(tmp_path: Path) -> None:
    """Episodes of 11 slots end inside rollouts of 8, so the state matters and is cut."""

    def trained(model: ScheduledPPO, rollouts: int) -> ScheduledPPO:
        model.learn(rollouts * ROLLOUT, reset_num_timesteps=False)
        return model

    whole = trained(learner(HiddenRegimeEnv(32, 11), SMALL, 3, 6 * ROLLOUT), 6)
    first = trained(learner(HiddenRegimeEnv(32, 11), SMALL, 3, 6 * ROLLOUT), 3)
    assert isinstance(first, MaskableRecurrentPPO)
    assert isinstance(first.env, MarketVecEnv)
    assert first.last_state.abs().max() > 0.0
    save_checkpoint(first, first.env, tmp_path)
    assert weights(trained(first, 3)) == weights(whole)
    torch.rand(5)
    second = learner(HiddenRegimeEnv(32, 11), SMALL, 99, 6 * ROLLOUT)
    assert isinstance(second.env, MarketVecEnv)
    load_checkpoint(second, second.env, tmp_path)
    assert weights(trained(second, 3)) == weights(whole)


def profit(model: ScheduledPPO) -> float:
    """Mean profit per auction of the frozen network, argmax, on 64,000 held-out auctions."""
    env, player = HiddenRegimeEnv(1000, seed=77), Player(compile_network(network_of(model.policy)))
    observations, _ = env.reset()
    env.slot[:] = 0  # all episodes begin and end together
    total = 0.0
    for _ in range(env.slots):
        observations, rewards, *_ = env.step(player(observations, env.action_masks()))
        total += float(rewards.mean())
    return total / env.slots


@pytest.mark.slow
def test_memory_pays_where_the_regime_is_hidden() -> None:
    """A stateless policy knows the regime in one auction of five; memory knows it in most."""
    config = PPOConfig(
        num_envs=128, rollout_slots=32, minibatch=512, learning_rate=5e-3, hidden=(32,)
    )
    steps = 40 * config.num_envs * config.rollout_slots
    scores = []
    for lstm in (0, 16):
        chosen = dataclasses.replace(config, lstm=lstm)
        model = learner(HiddenRegimeEnv(128, seed=1), chosen, 1, steps)
        model.learn(steps, reset_num_timesteps=False)
        scores.append(profit(model))
    stateless, recurrent = scores
    assert recurrent >= 1.1 * stateless, scores
