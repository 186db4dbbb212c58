"""The policy network of the trainer: masked categorical actions at a fraction of the usual cost.

Same network, distribution and gradients as sb3-contrib's MaskableActorCriticPolicy, up to rounding.
Logits are computed only where `models/policy/action_masks.py` says that they are needed.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import Tensor, nn

from models.frozen import Lstm, Network
from models.policy.action_masks import Choices, Patterns, choices_of, patterns_of
from models.policy.perceptron_passes import step
from models.policy.policy_passes import Varying, draw, score, tanh_layers

Masks = Tensor | NDArray[np.bool_] | None


def network_of(policy: nn.Module) -> Network:
    """The actor of a policy of this project, as it is frozen and served."""
    modules: Any = policy
    linears = [m for m in modules.mlp_extractor.policy_net if isinstance(m, nn.Linear)]
    layers = tuple((_array(m.weight), _array(m.bias)) for m in [*linears, modules.action_net])
    cell = getattr(policy, "lstm_actor", None)
    if cell is None:
        return Network(layers)
    bias = _array(cell.bias_ih_l0) + _array(cell.bias_hh_l0)
    return Network(layers, Lstm(_array(cell.weight_ih_l0), _array(cell.weight_hh_l0), bias))


def _array(tensor: Any) -> NDArray[np.float32]:
    return tensor.detach().numpy().astype(np.float32, copy=True)


class MaskedPolicy(MaskableActorCriticPolicy):
    """Actor and critic of MaskablePPO for Box observations and Discrete actions, on a processor.

    The hidden layers must be nn.Tanh.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.activation_fn is not nn.Tanh:
            raise ValueError(f"activation_fn is {self.activation_fn}: this policy computes nn.Tanh")

    def score(
        self, latent: Tensor, actions: Tensor, choices: Choices, varying: Varying | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log probabilities [n] of actions int64[n] and entropies [n] of rows sorted by width.

        latent [n, F] is what the actor's layers read.
        """
        open_ = latent[choices.forced.shape[0] :]
        hidden = tanh_layers(self.mlp_extractor.policy_net, open_, varying)
        return score(hidden, self.action_net, actions, choices)  # type: ignore[arg-type]

    def choose(
        self, latent: Tensor, order: Tensor, choices: Choices, deterministic: bool
    ) -> tuple[Tensor, Tensor]:
        """Actions int64[n] and their log probabilities [n] of rows latent [n, F].

        order int64[n] sorts them by their masks.
        """
        open_ = latent.index_select(0, order[choices.forced.shape[0] :])
        hidden = tanh_layers(self.mlp_extractor.policy_net, open_)
        drawn = draw(hidden, self.action_net, choices, deterministic)  # type: ignore[arg-type]
        actions, log_p = (torch.empty_like(x).index_copy_(0, order, x) for x in drawn)
        return actions, log_p

    def values(self, latent: Tensor, varying: Varying | None = None) -> Tensor:
        """Values [n] of rows latent [n, F] that the critic's layers read."""
        return self.value_net(tanh_layers(self.mlp_extractor.value_net, latent, varying)).flatten()

    def forward(
        self,
        obs: Tensor,
        deterministic: bool = False,
        action_masks: Masks = None,
        value_forced: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [n], values [n, 1] and log probabilities [n] of the actions.

        Without value_forced the values of rows with a single open action are 0.
        """
        features: Any = self.extract_features(obs)
        patterns = self._patterns(action_masks, len(obs))
        actions, values, log_p = step(self, features.numpy(), patterns, deterministic, value_forced)
        return actions, values[:, None], log_p

    def evaluate_actions(
        self, obs: Tensor, actions: Tensor, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values [n, 1], log probabilities [n] of given actions, entropies [n]."""
        features: Any = self.extract_features(obs)
        order, choices = self._sorted(action_masks, len(obs))
        scores = self.score(features[order], actions.long().reshape(-1)[order], choices)
        log_p, entropy = (torch.empty_like(x).index_copy(0, order, x) for x in scores)
        return self.values(features)[:, None], log_p, entropy

    def _patterns(self, action_masks: Masks, n: int) -> Patterns:
        if action_masks is None:
            action_masks = np.ones((n, int(self.action_space.n)), np.bool_)  # type: ignore[attr-defined]
        return patterns_of(
            np.ascontiguousarray(action_masks).astype(bool, copy=False).reshape(n, -1)
        )

    def _sorted(self, action_masks: Masks, n: int) -> tuple[Tensor, Choices]:
        """Order int64[n] that sorts rows by their masks, and the choices in that order."""
        patterns = self._patterns(action_masks, n)
        order = np.argsort(patterns.of_row, kind="stable")
        return torch.from_numpy(order), choices_of(patterns, order)
