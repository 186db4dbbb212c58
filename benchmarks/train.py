"""Training steps per second of MaskablePPO over the native environment, beside the defaults of
stable-baselines3 on eight single environments. Both play the same market with the same network."""

import time

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.config import PPOConfig
from agents.learners import build
from agents.vecenv import MarketVecEnv
from benchmarks.harness import Measurement, check
from envs.paths import stand_in_paths
from envs.searcher import Searcher
from envs.vector import MarketVectorEnv
from models.policy import MaskedPolicy, network_of

SEED = 5


def native_steps_per_s(config: PPOConfig, updates: int) -> float:
    """Decisions learned from per second, after one update that is not counted."""
    paths = stand_in_paths()
    venv = MarketVecEnv(MarketVectorEnv(config.num_envs, paths=paths, seed=SEED))
    per_update = config.num_envs * config.rollout_slots
    model = build(venv, config, SEED, per_update * (updates + 1))
    before = network_of(model.policy).layers
    model.learn(per_update)
    begin = time.perf_counter()
    model.learn(per_update * updates, reset_num_timesteps=False)
    seconds = time.perf_counter() - begin
    after = network_of(model.policy).layers
    moved = [not np.array_equal(a[0], b[0]) for a, b in zip(before, after)]
    finite = all(np.isfinite(weight).all() for weight, _ in after)
    check(all(moved) and finite, "training left a layer unchanged or made it infinite")
    return per_update * updates / seconds


def default_steps_per_s(steps: int) -> float:
    """PPO of stable-baselines3 as it comes: 8 environments, batches of 64, 10 epochs."""
    paths = stand_in_paths()
    venv = DummyVecEnv([lambda i=i: Searcher(paths=paths, seed=SEED + i) for i in range(8)])
    n_steps = max(64, steps // 8)
    model = PPO("MlpPolicy", venv, n_steps=n_steps, seed=SEED, device="cpu")
    begin = time.perf_counter()
    model.learn(8 * n_steps)
    return 8 * n_steps / (time.perf_counter() - begin)


def run(quick: bool) -> list[Measurement]:
    """One thread; a round of each in turn, so that the ratio holds on a busy machine."""
    torch.set_num_threads(1)
    config = PPOConfig()
    native = native_steps_per_s(config, updates=2 if quick else 8)
    default = default_steps_per_s(2_048 if quick else 16_384)
    note = f"{config.num_envs} markets, minibatch {config.minibatch}, {config.epochs} epochs"
    return [
        Measurement(f"MaskablePPO ({MaskedPolicy.__name__})", native, "steps/s", note),
        Measurement("PPO, library defaults", default, "steps/s", "8 single environments, no masks"),
        Measurement("native / defaults", native / default, "ratio"),
    ]
