"""Actors and critics that are tanh perceptrons, in compiled passes without torch's graph.

`kernels/learning/policy_step.py` and `kernels/learning/policy_gradient.py` work on the memory of
torch's parameters; tests/models/policy/test_perceptron_passes.py compares them with torch's own
operations and gradients.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.learning.perceptrons import Columns, Head, Masks, Networks, Perceptron
from kernels.learning.policy_gradient import Samples, policy_gradient
from kernels.learning.policy_step import policy_step
from models.policy.action_masks import Patterns
from models.policy.policy_passes import LossWeights, Varying


def networks_of(policy: Any, of: Callable[[Tensor], Tensor | None]) -> Networks:
    """What `of` makes of every parameter of a MaskedPolicy, in the tensors' own memory.

    Raises ValueError for a policy without hidden layers.
    """

    def array(parameter: Tensor) -> NDArray[np.float32]:
        tensor = of(parameter)
        assert tensor is not None
        return tensor.numpy()

    def head(layer: nn.Linear) -> Head:
        return Head(array(layer.weight), array(layer.bias))

    def perceptron(net: nn.Sequential) -> Perceptron:
        linears = [module for module in net if isinstance(module, nn.Linear)]
        if not linears:
            raise ValueError("net_arch has no hidden layer: give actor and critic at least one")
        return Perceptron(
            tuple(array(linear.weight) for linear in linears),
            tuple(array(linear.bias) for linear in linears),
        )

    extractor = policy.mlp_extractor
    return Networks(
        perceptron(extractor.policy_net),
        head(policy.action_net),
        perceptron(extractor.value_net),
        head(policy.value_net),
    )


def step(
    policy: Any,
    inputs: NDArray[np.float32],
    patterns: Patterns,
    deterministic: bool,
    value_forced: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Actions int64[n], drawn or the likeliest, values [n] and log p [n]; inputs float32[n, D].

    Without value_forced the values of rows with a single open action are 0.
    """
    n = len(inputs)
    uniforms = torch.full((n,), -1.0) if deterministic else torch.rand(n)
    actions, values, log_p = torch.empty(n, dtype=torch.int64), torch.empty(n), torch.empty(n)
    policy_step(
        inputs,
        patterns.of_row,
        patterns.masks,
        uniforms.numpy(),
        networks_of(policy, Tensor.detach),
        value_forced,
        actions.numpy(),
        values.numpy(),
        log_p.numpy(),
    )
    return actions, values, log_p


class Gradient:
    """The gradient of PPO's loss on minibatches of one rollout.

    All parameters must have gradients, whose memory is written.
    """

    def __init__(
        self,
        policy: Any,
        samples: Samples,
        masks: Masks,
        varying: Varying | None,
    ) -> None:
        """varying: which inputs `samples` hold; None: all."""
        width = policy.features_dim
        columns, held = np.arange(width), np.zeros(width, np.float32)
        if varying is not None:
            columns = varying.columns.numpy()
            held[varying.others.numpy()] = varying.held.numpy()
        self._rollout = samples, masks, Columns(columns, held)
        self._networks = networks_of(policy, Tensor.detach)
        self._gradients = networks_of(policy, lambda parameter: parameter.grad)

    def take(self, rows: NDArray[np.int64], normalise: bool, weights: LossWeights) -> Tensor:
        """The gradient on rows int64[n]; returns the terms of the loss float64[5], see `ppo_loss`.

        normalise: advantages to mean 0 and standard deviation 1.
        """
        terms = np.empty(5)
        policy_gradient(
            *self._rollout,
            rows,
            normalise,
            weights.array(),
            self._networks,
            self._gradients,
            terms,
        )
        return torch.from_numpy(terms)
