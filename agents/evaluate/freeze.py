"""From the chosen training to the frozen policy that the server loads."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.bidders.arms import POLICY
from agents.bidders.baselines import Bidder, network_bidder
from agents.evaluate.comparison import Learned
from agents.learner.actor import actor_of
from agents.learner.build import build
from agents.learner.vecenv import MarketVecEnv
from agents.learner_arms import ALL, bidder_of, learned_name
from agents.prices import Forecasting
from agents.training.checkpoints import load_policy
from agents.training.trial import TrialInputs
from agents.training.trials import TrialResult
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from models.frozen import Network, OnnxNetwork
from models.policy.export import write_policy
from models.volatility.onnx_file import export_forecaster
from models.volatility.predictor import VarianceForecaster

TEST_VECTORS = 64
VECTOR_SEED = 9001


def served(results: Sequence[TrialResult], inputs: TrialInputs) -> TrialResult:
    """The training to freeze: the best on validation of those that a server can play.

    A server masks what cannot be done and nothing else; other choices are controls.
    """
    return next(result for result in results if inputs.ppo_of(result.trial).choice == ALL)


def compared(
    results: Sequence[TrialResult], inputs: TrialInputs, chosen: TrialResult, policy: Bidder
) -> Learned:
    """All trainings, and the best of every arm if there are several; `policy` plays the frozen one.

    results: best first.
    """
    trainings: dict[str, dict[str, Bidder]] = {}
    for result in results:
        choice = inputs.ppo_of(result.trial).choice
        own = result is chosen
        bidder = policy if own else bidder_of(trained_network(result, inputs), choice)
        trainings.setdefault(learned_name(result.trial.arm), {})[result.trial.name] = bidder
    arms = sorted(trainings) if len(trainings) > 1 else []
    best = {arm: next(iter(trainings[arm])) for arm in arms}
    return Learned(
        {arm: trainings[arm][name] for arm, name in best.items()},
        {POLICY: chosen.trial.name} | best,
        {POLICY: len(results)} | {arm: len(trainings[arm]) for arm in arms},
        trainings,
    )


def freeze(
    directory: Path,
    result: TrialResult,
    inputs: TrialInputs,
    forecasting: Forecasting,
    config: dict[str, Any],
) -> None:
    """Write the frozen policy of a finished training into `directory`, atomically."""
    network = trained_network(result, inputs)
    write_folder(directory, network, inputs.market, inputs.paths, forecasting.forecaster, config)


def write_folder(
    directory: Path,
    network: Network | OnnxNetwork,
    market: MarketConfig,
    paths: PricePaths,
    forecaster: VarianceForecaster,
    config: dict[str, Any],
) -> None:
    """Write a network as a frozen policy; the test vectors are met in `market` on `paths`.

    config: the whole training configuration, as `agents.config.config_to_dict` gives it.
    """
    observations, masks, state = recorded_inputs(network, market, paths)

    def write_forecaster(folder: Path) -> dict[str, Any]:
        described = export_forecaster(forecaster, folder)
        return described | {"fallback_log_variance": median_forecast(paths)}

    threads = {"torch": torch.get_num_threads()}
    write_policy(directory, network, observations, masks, write_forecaster, config, threads, state)


def median_forecast(paths: PricePaths) -> list[float]:
    """The typical forecast at each horizon, served until the first real one is known."""
    return [float(x) for x in np.median(paths.forecast, axis=0)]


def trained_network(result: TrialResult, inputs: TrialInputs) -> Network | OnnxNetwork:
    """The actor in the checkpoint of a training."""
    ppo = inputs.ppo_of(result.trial)
    slots = ppo.rollout_slots
    config = dataclasses.replace(
        ppo, num_envs=1, minibatch=slots, rollout_workers=0, asynchronous=False
    )
    env = MarketVectorEnv(1, inputs.market, inputs.paths)
    model = build(MarketVecEnv(env), config, seed=0, steps=1)
    load_policy(model, result.checkpoint)
    return actor_of(model.policy, ppo.blind)


def recorded_inputs(
    network: Network | OnnxNetwork, market: MarketConfig, paths: PricePaths
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Observations [n, D], masks [n, A], states [n, ...] met in the middle of test episodes."""
    env = MarketVectorEnv(TEST_VECTORS, market, paths, split="test")
    observations, _ = env.reset(seed=VECTOR_SEED)
    player = network_bidder(network)
    for _ in range(market.episode_slots // 2):
        observations, *_ = env.step(player(observations, env.action_masks()))
    return observations, env.action_masks(), player.state
