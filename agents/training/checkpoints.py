"""Exact checkpoints: a restored trainer continues bit for bit.

Weights, optimiser, environment, recurrent state, random states, last observations, thread count.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.learner.ppo import ScheduledPPO
from agents.learner.recurrent import MaskableRecurrentPPO
from agents.learner.rollouts import RemoteRollouts
from agents.learner.vecenv import MarketVecEnv


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
    if isinstance(model, RemoteRollouts):
        arrays = {f"crew_{name}": value for name, value in model.crew.state().items()}
    else:
        arrays = {f"env_{name}": value for name, value in venv.state().items()}
    if isinstance(model, MaskableRecurrentPPO):
        arrays["recurrent_state"] = model.last_state.cpu().numpy()
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
    if isinstance(model, RemoteRollouts):
        model.crew.set_state(_named(arrays, "crew_"))
    else:
        venv.set_state(_named(arrays, "env_"))
    model._last_obs = arrays.get("last_obs")
    model._last_episode_starts = arrays.get("last_episode_starts")
    if isinstance(model, MaskableRecurrentPPO):
        model.last_state = model.tensor(arrays["recurrent_state"])
    torch.set_rng_state(learner["torch_rng"])
    kind, position, has_gauss, cached = counters["numpy_rng"]
    legacy = (kind, arrays["numpy_keys"], position, has_gauss, cached)
    np.random.set_state(legacy)  # noqa: NPY002


def load_weights(model: ScheduledPPO, directory: Path) -> None:
    """Take over networks, optimiser and progress of another trial; its markets stay its own."""
    learner = torch.load(directory / "learner.pt", weights_only=True)
    counters = json.loads((directory / "counters.json").read_text())
    model.policy.load_state_dict(learner["policy"])
    model.policy.optimizer.load_state_dict(learner["optimiser"])
    model.num_timesteps = counters["num_timesteps"]
    model._n_updates = counters["n_updates"]
    model._update_current_progress_remaining(model.num_timesteps, model.schedule_steps)


def _named(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
