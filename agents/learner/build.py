"""Builds the learner that a configuration describes."""

from typing import Any

import torch
from scipy.linalg import (  # the compiled products call it, and it is to be limited, too
    cython_blas,  # type: ignore[attr-defined]  # noqa: F401
)
from stable_baselines3.common.logger import Logger
from threadpoolctl import threadpool_limits
from torch import nn

from agents.config import PPOConfig
from agents.learner.ppo import ScheduledPPO
from agents.learner.recurrent import MaskableRecurrentPPO
from agents.learner.vecenv import MarketVecEnv
from models.policy.masked import MaskedPolicy
from models.policy.recurrent import MaskedRecurrentPolicy


def one_thread() -> None:
    """For this process from now on: trials take a core each, and sums round the same everywhere."""
    torch.set_num_threads(1)
    threadpool_limits(1, "blas")


def build(
    venv: MarketVecEnv,
    config: PPOConfig,
    seed: int,
    steps: int,
    kind: type[ScheduledPPO] | None = None,
) -> ScheduledPPO:
    """A trainer on one thread for `steps` decisions, logging nowhere yet; of class `kind`."""
    one_thread()
    policy = MaskedRecurrentPolicy if config.lstm else MaskedPolicy
    learner = kind or (MaskableRecurrentPPO if config.lstm else ScheduledPPO)
    model = learner(policy, venv, **arguments_of(config, seed))
    model.schedule_steps = steps
    model.entropy_start = config.entropy
    model.rollout_buffer.skip_forced = config.gamma == 0.0 and not config.learn_from_forced
    model.set_logger(Logger(None, []))
    return model


def arguments_of(config: PPOConfig, seed: int) -> dict[str, Any]:
    """What every learner is built with."""
    memory = {"lstm_hidden_size": config.lstm, "enable_critic_lstm": config.critic_lstm}
    return {
        "learning_rate": lambda remaining: config.learning_rate * remaining,
        "n_steps": config.rollout_slots,
        "batch_size": config.minibatch,
        "n_epochs": config.epochs,
        "gamma": config.gamma,
        "gae_lambda": config.gae_lambda,
        "clip_range": config.clip,
        "ent_coef": config.entropy,
        "vf_coef": config.value_weight,
        "max_grad_norm": config.max_gradient_norm,
        "policy_kwargs": {
            "net_arch": {"pi": list(config.hidden), "vf": list(config.hidden)},
            "activation_fn": nn.Tanh,
            "optimizer_kwargs": {"eps": 1e-5, "fused": True},
            **(memory if config.lstm else {}),
        },
        "seed": seed,
        "device": "cpu",
    }
