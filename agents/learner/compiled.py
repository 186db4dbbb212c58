"""The compiled way of a learner: acting and the gradient of a minibatch, for tanh perceptrons and
the default loss on a processor.

The same results as the torch path of `agents.learner.ppo` up to rounding
(tests/agents/learner/test_compiled.py). The kernels of `kernels/learning` read and write the memory
of torch's parameters and gradients.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from kernels.learning.perceptrons import Columns, Head, Networks, Perceptron
from kernels.learning.policy_gradient import Samples, policy_gradient
from kernels.learning.policy_step import policy_step
from models.policy.action_masks import patterns_of
from models.policy.masked import MaskedPolicy

TERMS = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")


def not_compiled_because(learner: Any, default_loss: Any, default: type) -> str:
    """Why the kernels do not apply to a learner; empty where they do.

    default_loss, default: the loss and the learner that they compute.
    """
    policy, kind = learner.policy, type(learner)
    if not learner.compiled:
        return "compiled is false"
    if learner.device.type != "cpu":
        return f"device {learner.device}"
    if type(policy) is not MaskedPolicy:
        return f"network {type(getattr(policy, 'network', policy)).__name__}"
    if type(policy.features_extractor) is not FlattenExtractor:
        return f"features extractor {type(policy.features_extractor).__name__}"
    if len(learner.observation_space.shape) != 1 or learner.observation_space.dtype != np.float32:
        return f"observations {learner.observation_space}"
    if not all(_is_tanh_perceptron(net) for net in _nets(policy)):
        return "layers that are no tanh perceptron"
    if not all(p.requires_grad and p.dtype == torch.float32 for p in policy.parameters()):
        return "parameters that are not trained or not float32"
    if learner.loss_function is not default_loss:
        return f"loss {getattr(learner.loss_function, '__name__', learner.loss_function)}"
    for name in ("loss", "evaluate", "normalised", "gradients", "act"):
        if getattr(kind, name) is not getattr(default, name):
            return f"{kind.__name__}.{name} is its own"
    return ""


def _nets(policy: MaskedPolicy) -> tuple[nn.Sequential, nn.Sequential]:
    return policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net


def _is_tanh_perceptron(net: nn.Sequential) -> bool:
    modules = list(net)
    pairs = len(modules) > 0 and len(modules) % 2 == 0
    return pairs and all(
        type(a) is nn.Linear and a.bias is not None and type(b) is nn.Tanh
        for a, b in zip(modules[::2], modules[1::2], strict=True)
    )


def networks_of(policy: MaskedPolicy, of: Callable[[Tensor], Tensor | None]) -> Networks:
    """What `of` makes of every parameter, in the tensors' own memory."""

    def array(parameter: Tensor) -> NDArray[np.float32]:
        tensor = of(parameter)
        assert tensor is not None
        return tensor.numpy()

    def head(layer: Any) -> Head:
        return Head(array(layer.weight), array(layer.bias))

    def perceptron(net: nn.Sequential) -> Perceptron:
        linears = [module for module in net if isinstance(module, nn.Linear)]
        return Perceptron(
            tuple(array(linear.weight) for linear in linears),
            tuple(array(linear.bias) for linear in linears),
        )

    actor, critic = _nets(policy)
    return Networks(
        perceptron(actor), head(policy.action_net), perceptron(critic), head(policy.value_net)
    )


class CompiledPerceptron:
    def __init__(self, policy: MaskedPolicy) -> None:
        self.policy = policy
        self.inputs = policy.features_dim
        self.actions = int(policy.action_space.n)  # type: ignore[attr-defined]

    def act(
        self, observations: NDArray[np.float32], masks: NDArray[np.bool_], deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        n = len(observations)
        patterns = patterns_of(masks)
        uniforms = torch.full((n,), -1.0) if deterministic else torch.rand(n)
        actions, values, log_p = torch.empty(n, dtype=torch.int64), torch.empty(n), torch.empty(n)
        policy_step(
            np.ascontiguousarray(observations, np.float32),
            patterns.of_row,
            patterns.masks,
            uniforms.numpy(),
            networks_of(self.policy, Tensor.detach),
            True,
            actions.numpy(),
            values.numpy(),
            log_p.numpy(),
        )
        return actions, values, log_p

    def gradients(self, learner: Any) -> Iterator[dict[str, Tensor]]:
        buffer = learner.rollout_buffer
        reading = buffer.reading
        columns, held = np.arange(self.inputs), np.zeros(self.inputs, np.float32)
        if reading.varying is not None:
            columns = reading.varying.columns.numpy()
            held[reading.varying.others.numpy()] = reading.varying.held.numpy()
        actions, values, log_p, advantages, returns = (s.numpy() for s in reading.samples)
        samples = Samples(
            reading.fed.numpy(), actions, values, log_p, advantages, returns, reading.patterns.of_row
        )
        networks = networks_of(self.policy, Tensor.detach)
        gradients = networks_of(self.policy, lambda p: p.grad)
        clip_value = -1.0 if learner.clip_value is None else learner.clip_value
        weights = np.array([learner.clip, clip_value, learner.ent_coef, learner.vf_coef])
        for rows in buffer.parts(learner.batch_size):
            terms = np.empty(5)
            policy_gradient(
                samples,
                reading.patterns.masks,
                Columns(columns, held),
                rows,
                learner.normalize_advantage,
                weights,
                networks,
                gradients,
                terms,
            )
            yield dict(zip(TERMS, torch.from_numpy(terms), strict=True))
