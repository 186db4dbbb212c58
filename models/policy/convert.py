"""Policies that were trained elsewhere, as networks that can be frozen and served.

A tanh perceptron over the observation, with or without one LSTM layer before it, becomes a
`Network`, which the project's kernel runs. Everything else that is a function of the observation
becomes the ONNX graph that PyTorch exports, which onnxruntime runs.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from models.frozen import (
    LOGITS,
    NEXT_STATE,
    OBSERVATION,
    STATE,
    TOLERANCE,
    Network,
    NetworkFileError,
    OnnxNetwork,
    named_graph,
)
from models.onnx_export import ExportError, evaluating, module_graph
from models.policy.masked import network_of
from models.policy.own_network import ActorCriticNetwork, NetworkPolicy

ActorCritic = ActorCriticPolicy | MaskableActorCriticPolicy
_TRACED_ROWS, _COMPARED_ROWS = 2, 16


class CannotServeError(ValueError):
    """A policy that a server could not play; the message names what and the remedy."""


def servable(policy: Any) -> Network | OnnxNetwork:
    """The network of a policy.

    policy: one of
    - an algorithm of stable-baselines3 or sb3-contrib, or its policy;
    - a torch module that maps observations float32[n, D] to logits [n, A], alone or first in a
      tuple; one with a `state_shape` (K, H) maps observations and state float32[K, n, H] to logits,
      values and the next state;
    - an ONNX file or its bytes, see `models.frozen.onnx_network`;
    - a `Network`.

    Raises CannotServeError.
    """
    if isinstance(policy, Network | OnnxNetwork):
        return policy
    if isinstance(policy, bytes | str | Path):
        return _of_graph(policy if isinstance(policy, bytes) else Path(policy))
    if isinstance(policy, BaseAlgorithm):
        _refuse_normalised(policy)
        policy = policy.policy
    if isinstance(policy, BasePolicy):
        _check_spaces(policy)
        if _is_perceptron(policy):
            return network_of(policy)
        policy = _actor_of(policy)
    if isinstance(policy, nn.Module):
        return _of_module(policy)
    raise CannotServeError(
        f"{type(policy).__name__} cannot be served: give an algorithm of stable-baselines3, a "
        "torch module or an ONNX file"
    )


def _of_graph(source: bytes | Path) -> OnnxNetwork:
    try:
        return OnnxNetwork(named_graph(source, OBSERVATION, LOGITS))
    except NetworkFileError as error:
        where = "ONNX graph" if isinstance(source, bytes) else str(source)
        raise CannotServeError(f"{where}: {error}") from error


def _refuse_normalised(algorithm: BaseAlgorithm) -> None:
    wrapper = algorithm.get_vec_normalize_env()
    if wrapper is not None and wrapper.norm_obs:
        raise CannotServeError(
            "VecNormalize changes the observations and a server would not: train without it, or "
            "with norm_obs=False (the observations have a fixed scale)"
        )


def _check_spaces(policy: BasePolicy) -> None:
    seen, chosen = policy.observation_space, policy.action_space
    if not isinstance(seen, spaces.Box) or seen.shape != (SIZE,):
        raise CannotServeError(f"it observes {seen}: the market shows Box float32[{SIZE}]")
    if not isinstance(chosen, spaces.Discrete) or chosen.n != ACTIONS or chosen.start != 0:
        raise CannotServeError(f"it chooses from {chosen}: the market takes Discrete({ACTIONS})")


def _is_perceptron(policy: BasePolicy) -> bool:
    """Whether the actor is a tanh perceptron, behind at most one LSTM layer, as `Network` is."""
    if not isinstance(policy, ActorCritic):
        return False
    cell = getattr(policy, "lstm_actor", None)
    if cell is not None and (cell.num_layers != 1 or cell.bidirectional or not cell.bias):
        return False
    layers = list(policy.mlp_extractor.policy_net)
    return (
        type(policy.pi_features_extractor) is FlattenExtractor
        and isinstance(policy.action_net, nn.Linear)
        and all(type(layer) is (nn.Linear, nn.Tanh)[k % 2] for k, layer in enumerate(layers))
        and len(layers) % 2 == 0
        and all(isinstance(m, nn.Linear) and m.bias is not None for m in layers[::2])
        and all(a.out_features == b.in_features for a, b in pairwise(layers[::2]))  # type: ignore[union-attr]
    )


class _Actor(nn.Module):
    """Logits of an actor-critic policy of stable-baselines3."""

    def __init__(self, policy: ActorCritic) -> None:
        super().__init__()
        self.features = policy.pi_features_extractor
        self.layers = policy.mlp_extractor
        self.head = policy.action_net

    def forward(self, observation: Tensor) -> Tensor:
        return self.head(self.layers.forward_actor(self.features(observation)))


def _actor_of(policy: BasePolicy) -> nn.Module:
    """What maps observations to logits in a policy of stable-baselines3."""
    if getattr(policy, "lstm_actor", None) is not None:
        raise CannotServeError(
            "its LSTM stands before layers that are no tanh perceptron, or has several layers: "
            "use one layer and activation_fn=nn.Tanh, or export an ONNX graph with a state"
        )
    if isinstance(policy, ActorCritic):
        return _Actor(policy)
    if isinstance(policy, NetworkPolicy):
        network = policy.network
        return _Actor(network.policy) if isinstance(network, ActorCriticNetwork) else network
    values = getattr(policy, "q_net", None)  # of DQN: the largest value is the largest logit
    if isinstance(values, nn.Module):
        return values
    raise CannotServeError(
        f"{type(policy).__name__} has neither an actor for discrete actions nor a q_net: give the "
        "torch module that maps observations to logits"
    )


def _of_module(module: nn.Module) -> OnnxNetwork:
    """The graph of a torch module, held against the module itself."""
    generator = torch.Generator().manual_seed(0)
    inputs = {OBSERVATION: torch.rand(_COMPARED_ROWS, SIZE, generator=generator) * 4.0 - 2.0}
    decider: nn.Module = _Logits(module)
    shape: Any = getattr(module, "state_shape", ())
    if shape:
        decider = _LogitsWithState(module)
        inputs[STATE] = torch.rand(_COMPARED_ROWS, *shape, generator=generator) - 0.5
    try:
        with evaluating(module) as device:
            found = decider(*(value.to(device) for value in inputs.values()))
    except Exception as error:  # whatever the module does
        raise CannotServeError(
            f"{type(module).__name__} does not take observations float32[n, {SIZE}]: {error}"
        ) from error
    wanted = found[0] if shape else found
    if not isinstance(wanted, Tensor) or wanted.shape != (_COMPARED_ROWS, ACTIONS):
        given = list(wanted.shape) if isinstance(wanted, Tensor) else type(wanted).__name__
        raise CannotServeError(
            f"{type(module).__name__} gives {given} for {_COMPARED_ROWS} observations: give logits "
            f"[n, {ACTIONS}], alone or first in a tuple"
        )
    traced = {name: value[:_TRACED_ROWS] for name, value in inputs.items()}
    try:
        graph = module_graph(decider, traced, [LOGITS, NEXT_STATE] if shape else [LOGITS])
    except ExportError as error:
        raise CannotServeError(str(error)) from error
    network = _of_graph(graph)
    for sign in (1.0, -1.0):  # a branch on values that the trace took may not be taken again
        given = {name: sign * value for name, value in inputs.items()}
        with evaluating(module) as device:
            found = decider(*(value.to(device) for value in given.values()))
        wanted = (found[0] if shape else found).cpu().numpy()
        state = given[STATE].numpy().copy() if shape else network.new_state(_COMPARED_ROWS)
        gap = float(np.abs(network.run(given[OBSERVATION].numpy(), state) - wanted).max())
        if not gap <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise CannotServeError(
                f"the ONNX graph of {type(module).__name__} differs from it by {gap:.3g}: its "
                "forward must be tensor operations alone, without branches on values"
            )
    return network


class _Logits(nn.Module):
    """The first output of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, observation: Tensor) -> Any:
        out = self.module(observation)
        return out[0] if isinstance(out, tuple | list) else out


class _LogitsWithState(nn.Module):
    """Logits and next state of a module with a memory, as `agents.learner` trains them.

    Its state is float32[K, n, H]; a frozen policy keeps that of a market together, [n, K, H].
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits, _, after = self.module(observation, state.transpose(0, 1))
        return logits, after.transpose(0, 1)
