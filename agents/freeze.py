"""From the chosen training to the frozen policy that the server loads."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.baselines import network_bidder
from agents.config import PPOConfig
from agents.ppo import Layers, build, load_policy, policy_layers
from agents.prices import Forecasting
from agents.training import TrialInputs
from agents.vecenv import MarketVecEnv
from agents.workers import TrialResult
from envs.market import PricePaths
from envs.vector import MarketVectorEnv
from models.export import write_policy
from models.forecaster_onnx import export_forecaster

TEST_VECTORS = 64
VECTOR_SEED = 9001


def freeze(
    directory: Path,
    result: TrialResult,
    inputs: TrialInputs,
    forecasting: Forecasting,
    config: dict[str, Any],
) -> None:
    """Write the frozen policy of a finished training into `directory`, atomically."""
    layers = trained_layers(result, inputs)
    observations, masks = recorded_inputs(layers, inputs)

    def write_forecaster(folder: Path) -> dict[str, Any]:
        described = export_forecaster(forecasting.forecaster, folder)
        return described | {"fallback_log_variance": median_forecast(inputs.paths)}

    threads = {"torch": torch.get_num_threads()}
    write_policy(directory, layers, observations, masks, write_forecaster, config, threads)


def median_forecast(paths: PricePaths) -> list[float]:
    """The typical forecast at each horizon, served until the first real one is known."""
    return [float(x) for x in np.median(paths.forecast, axis=0)]


def trained_layers(result: TrialResult, inputs: TrialInputs) -> Layers:
    """Weights of the action network in the checkpoint of a training."""
    env = MarketVectorEnv(1, inputs.market, inputs.paths)
    config = PPOConfig(num_envs=1, rollout_slots=2, minibatch=2, hidden=inputs.ppo.hidden)
    model = build(MarketVecEnv(env), config, seed=0, steps=1)
    load_policy(model, result.checkpoint)
    return policy_layers(model)


def recorded_inputs(
    layers: Layers, inputs: TrialInputs
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Observations [n, D] and masks [n, A] met by the policy in the middle of test episodes."""
    env = MarketVectorEnv(TEST_VECTORS, inputs.market, inputs.paths, split="test")
    observations, _ = env.reset(seed=VECTOR_SEED)
    decide = network_bidder(layers)
    for _ in range(inputs.market.episode_slots // 2):
        observations, *_ = env.step(decide(observations, env.action_masks()))
    return observations, env.action_masks()
