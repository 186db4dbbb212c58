"""Builds the learner that a configuration describes."""

from functools import partial
from typing import Any

import torch
from scipy.linalg import (  # the compiled products call it, and it is to be limited, too
    cython_blas,  # type: ignore[attr-defined]  # noqa: F401
)
from stable_baselines3.common.logger import Logger
from threadpoolctl import threadpool_limits
from torch import nn

from agents.config import PPOConfig
from agents.learner.ppo import ScheduledPPO, check_device, clipped_loss, policy_of
from agents.learner.recurrent import MaskableRecurrentPPO
from agents.learner.vecenv import MarketVecEnv
from models.extensions import imported, refused


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
    """A trainer on one thread for `steps` decisions, logging nowhere yet; of class `kind`.

    Raises ExtensionError for a network or loss that cannot be imported, ValueError for one that
    cannot be trained, or a device that is not there.
    """
    one_thread()
    policy = network_class(config) or ("MlpLstmPolicy" if config.lstm else "MlpPolicy")
    learner = kind or (MaskableRecurrentPPO if remembers(config) else ScheduledPPO)
    forced = config.gamma == 0.0 and not config.learn_from_forced
    model = learner(
        policy,
        venv,
        **arguments_of(config, seed),
        loss=loss_function(config),
        compiled=config.compiled,
        schedule_steps=steps,
        rollout_buffer_kwargs={"skip_forced": forced},
    )
    model.set_logger(Logger(None, []))
    return model


def network_class(config: PPOConfig) -> Any:
    """The network that the configuration names, None for the default."""
    if not config.network:
        return None
    found = imported(config.network, "ppo.network")
    try:
        policy_of(found, None)
    except ValueError as error:
        remedy = "give a class of a torch module or of a policy"
        raise refused("ppo.network", config.network, str(error), remedy) from None
    return found


def remembers(config: PPOConfig) -> bool:
    """Whether the policy has a memory."""
    found = network_class(config)
    return config.lstm > 0 if found is None else bool(getattr(found, "state_shape", None))


def loss_function(config: PPOConfig) -> Any:
    """The loss that the configuration names."""
    if not config.loss:
        return clipped_loss
    found = imported(config.loss, "ppo.loss")
    if not callable(found):
        raise refused("ppo.loss", config.loss, "it cannot be called", "give a function")
    return partial(found, **config.loss_arguments) if config.loss_arguments else found


def backend_of(config: PPOConfig) -> str:
    """How this configuration learns, in a line.

    Raises ExtensionError for a network or loss that cannot be imported, ValueError for a device
    that is not there.
    """
    check_device(config.device)
    network_class(config)
    loss_function(config)
    if config.network or config.loss or config.lstm or config.device != "cpu":
        own = [part for part in (config.network, config.loss) if part]
        return f"torch on {config.device}" + (f", {' with '.join(own)}" if own else "")
    return "compiled kernels on cpu" if config.compiled else "torch on cpu, ppo.compiled is false"


def arguments_of(config: PPOConfig, seed: int) -> dict[str, Any]:
    """What every learner is built with."""
    policy_kwargs: dict[str, Any] = {"optimizer_kwargs": {"eps": 1e-5, "fused": True}}
    if config.network:
        policy_kwargs |= config.network_arguments
    else:
        policy_kwargs["net_arch"] = {"pi": list(config.hidden), "vf": list(config.hidden)}
        policy_kwargs["activation_fn"] = nn.Tanh
        if config.lstm:
            policy_kwargs["lstm_hidden_size"] = config.lstm
            policy_kwargs["enable_critic_lstm"] = config.critic_lstm
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
        "policy_kwargs": policy_kwargs,
        "seed": seed,
        "device": config.device,
    }
