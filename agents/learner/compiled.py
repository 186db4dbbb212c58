"""The compiled way of a learner: acting and the gradient of a minibatch, for tanh perceptrons and
the default loss on a processor.

The same results as the torch path of `agents.learner.ppo` up to rounding
(tests/agents/learner/test_compiled.py). The kernels of `kernels/learning` read and write the memory
of torch's parameters and gradients.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from agents.learner.rollout_buffer import Reading, SortedRolloutBuffer
from kernels.learning.categorical import Rows
from kernels.learning.loss import LossWeights, Targets
from kernels.learning.perceptrons import Columns, Head, Networks, Perceptron
from kernels.learning.policy_gradient import Samples, policy_gradient
from kernels.learning.policy_step import Observed, Step, policy_step
from models.policy.action_masks import checked_masks, patterns_of
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
    """Acting and gradients of one policy. Raises ValueError for arrays that do not fit it."""

    def __init__(self, policy: MaskedPolicy) -> None:
        self.policy = policy
        self.inputs = policy.features_dim
        self.actions = int(policy.action_space.n)  # type: ignore[attr-defined]

    def act(
        self, observations: NDArray[Any], masks: NDArray[np.bool_], deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions int64[n], values [n] and log p [n] of observations [n, D] and masks [n, A]."""
        n = len(observations)
        if observations.shape != (n, self.inputs):
            raise ValueError(
                f"observations of shape {list(observations.shape)}: this policy reads "
                f"[n, {self.inputs}]"
            )
        patterns = patterns_of(checked_masks(masks, n, self.actions))
        uniforms = torch.full((n,), -1.0) if deterministic else torch.rand(n)
        actions, values, log_p = torch.empty(n, dtype=torch.int64), torch.empty(n), torch.empty(n)
        inputs = np.ascontiguousarray(observations, np.float32)
        policy_step(
            Observed(inputs, patterns.of_row, uniforms.numpy()),
            patterns.masks,
            networks_of(self.policy, Tensor.detach),
            Step(actions.numpy(), values.numpy(), log_p.numpy()),
        )
        return actions, values, log_p

    def gradients(
        self,
        buffer: SortedRolloutBuffer,
        batch_size: int | None,
        normalise: bool,
        weights: LossWeights,
    ) -> Iterator[dict[str, Tensor]]:
        """One epoch: the gradient of a minibatch, whose terms are yielded, again.

        All parameters must have gradients, whose memory is written.
        """
        samples, columns = self.samples_of(buffer.reading)
        networks = networks_of(self.policy, Tensor.detach)
        gradients = networks_of(self.policy, lambda parameter: parameter.grad)
        for rows in buffer.parts(batch_size):
            terms = np.empty(len(TERMS))
            policy_gradient(
                samples,
                buffer.reading.patterns.masks,
                columns,
                rows,
                normalise,
                weights,
                networks,
                gradients,
                terms,
            )
            yield dict(zip(TERMS, torch.from_numpy(terms), strict=True))

    def samples_of(self, reading: Reading) -> tuple[Samples, Columns]:
        """A rollout as the kernels read it, which `SortedRolloutBuffer.reading` has checked."""
        columns, held = np.arange(self.inputs), np.zeros(self.inputs, np.float32)
        if reading.varying is not None:
            columns = reading.varying.columns.numpy()
            held[reading.varying.others.numpy()] = reading.varying.held.numpy()
        fed, opened = reading.fed.numpy(), reading.patterns.opened
        if fed.shape[1] != columns.size or opened.shape[1] != self.actions:
            raise ValueError(
                f"a rollout of {fed.shape[1]} inputs and {opened.shape[1]} actions: this policy "
                f"has {columns.size} and {self.actions}"
            )
        actions, values, log_p, advantages, returns = (x.numpy() for x in reading.samples)
        targets = Targets(values, log_p, advantages, returns)
        rows = Rows(reading.patterns.of_row, actions)
        return Samples(fed, rows, targets), Columns(columns, held)
