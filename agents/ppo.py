"""MaskablePPO of sb3-contrib with schedules that survive interruption, and exact checkpoints.

Schulman et al. (2017), with invalid actions masked as in Huang and Ontanon (2020). A restored
trainer continues bit for bit: weights, optimiser, environment, random states, last observations.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger
from torch import nn

from agents.config import PPOConfig
from agents.vecenv import MarketVecEnv
from models.policy import MaskedPolicy

Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


class ScheduledPPO(MaskablePPO):
    """MaskablePPO whose learning rate and entropy bonus fall to 0 over `schedule_steps`.

    stable-baselines3 restarts its schedules at every `learn`; a trainer that stops for checkpoints
    must not.
    """

    schedule_steps: int = 1
    entropy_start: float = 0.0

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        remaining = max(0.0, 1.0 - num_timesteps / self.schedule_steps)
        self._current_progress_remaining = remaining
        self.ent_coef = self.entropy_start * remaining


def build(venv: MarketVecEnv, config: PPOConfig, seed: int, steps: int) -> ScheduledPPO:
    """A trainer on one thread for `steps` decisions, logging nowhere yet."""
    torch.set_num_threads(1)
    model = ScheduledPPO(
        MaskedPolicy,
        venv,
        learning_rate=lambda remaining: config.learning_rate * remaining,
        n_steps=config.rollout_slots,
        batch_size=config.minibatch,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        ent_coef=config.entropy,
        vf_coef=config.value_weight,
        max_grad_norm=config.max_gradient_norm,
        policy_kwargs={
            "net_arch": {"pi": list(config.hidden), "vf": list(config.hidden)},
            "activation_fn": nn.Tanh,
        },
        seed=seed,
        device="cpu",
    )
    model.schedule_steps = steps
    model.entropy_start = config.entropy
    model.set_logger(Logger(None, []))
    return model


def policy_layers(model: MaskablePPO) -> Layers:
    """(weight [out, in], bias [out]) of the action network, input layer first."""
    hidden = [m for m in model.policy.mlp_extractor.policy_net if isinstance(m, nn.Linear)]
    modules = [*hidden, model.policy.action_net]
    return [(_array(m.weight), _array(m.bias)) for m in modules]


def _array(tensor: Any) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy().astype(np.float32, copy=True)


def save_checkpoint(model: ScheduledPPO, venv: MarketVecEnv, directory: Path) -> None:
    """Write everything the next rollout depends on into `directory`: no pickled code."""
    # stable-baselines3 shuffles minibatches with numpy's global generator.
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    learner = {
        "policy": model.policy.state_dict(),
        "optimiser": model.policy.optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
    }
    counters = {
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "threads": torch.get_num_threads(),
        "numpy_rng": [str(kind), int(position), int(has_gauss), float(cached)],
    }
    arrays = {f"env_{name}": value for name, value in venv.state().items()}
    if model._last_obs is not None:
        arrays["last_obs"] = np.asarray(model._last_obs)
        arrays["last_episode_starts"] = np.asarray(model._last_episode_starts)
    torch.save(learner, directory / "learner.pt")
    np.savez(directory / "arrays.npz", numpy_keys=np.asarray(keys), **arrays)  # type: ignore[arg-type]
    (directory / "counters.json").write_text(json.dumps(counters))


def load_policy(model: ScheduledPPO, directory: Path) -> None:
    """Take over the networks of a checkpoint, and nothing else of it."""
    learner = torch.load(directory / "learner.pt", weights_only=True)
    model.policy.load_state_dict(learner["policy"])


def load_checkpoint(model: ScheduledPPO, venv: MarketVecEnv, directory: Path) -> None:
    """Continue where `save_checkpoint` was called; the model must be built alike."""
    learner = torch.load(directory / "learner.pt", weights_only=True)
    counters = json.loads((directory / "counters.json").read_text())
    with np.load(directory / "arrays.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if counters["threads"] != torch.get_num_threads():
        raise ValueError(
            f"{directory}: trained with {counters['threads']} torch threads, this process has "
            f"{torch.get_num_threads()}: sums would round differently; use the same number"
        )
    model.policy.load_state_dict(learner["policy"])
    model.policy.optimizer.load_state_dict(learner["optimiser"])
    model.num_timesteps = counters["num_timesteps"]
    model._n_updates = counters["n_updates"]
    model._update_current_progress_remaining(model.num_timesteps, model.schedule_steps)
    venv.set_state({k.removeprefix("env_"): v for k, v in arrays.items() if k.startswith("env_")})
    model._last_obs = arrays.get("last_obs")
    model._last_episode_starts = arrays.get("last_episode_starts")
    torch.set_rng_state(learner["torch_rng"])
    kind, position, has_gauss, cached = counters["numpy_rng"]
    legacy = (kind, arrays["numpy_keys"], position, has_gauss, cached)
    np.random.set_state(legacy)  # noqa: NPY002
