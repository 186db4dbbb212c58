"""The policy network of the trainer: masked categorical actions at a fraction of the usual cost.

Same network, distribution and gradients as sb3-contrib's MaskableActorCriticPolicy, up to rounding.
Logits are computed only where `models/policy/action_masks.py` says that they are needed.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn
from torch.nn.functional import linear

from models.frozen import Lstm, Network
from models.policy.action_masks import (
    Choices,
    checked_actions,
    checked_masks,
    choices_of,
    draw,
    patterns_of,
    score,
)

Masks = Tensor | NDArray[np.bool_] | None


class Varying(NamedTuple):
    """Inputs that are fed to a network, and the others, which are the same in every row.

    What the others contribute is part of the first layer's bias; gradients are those of all.
    """

    columns: Tensor
    """int64[k], ascending: the inputs fed, the k columns of the rows."""
    others: Tensor
    """int64[D - k]"""
    held: Tensor
    """float32[D - k]: values of the others."""


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
    return tensor.detach().cpu().numpy().astype(np.float32, copy=True)


def fused_adam(named: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a policy, with Adam in one fused call unless they say otherwise."""
    if named.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
        given = named.get("optimizer_kwargs") or {}
        named["optimizer_kwargs"] = {"eps": 1e-5, "fused": True} | given
    return named


class MaskedPolicy(MaskableActorCriticPolicy):
    """Actor and critic of MaskablePPO for Discrete actions."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **fused_adam(named))

    @property
    def folds(self) -> bool:
        """Whether constant inputs can be folded: both nets begin with a linear layer on them."""
        nets = self.mlp_extractor.policy_net, self.mlp_extractor.value_net
        first = all(len(net) > 0 and isinstance(net[0], nn.Linear) for net in nets)  # type: ignore[arg-type]
        return first and type(self.features_extractor) is FlattenExtractor

    def evaluate(
        self, obs: Tensor, actions: Tensor, choices: Choices, varying: Varying | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values [n], log p [n] of actions int64[n] and entropies [n] of rows sorted by their
        masks; obs [n, k] holds the columns that `varying` names, or observations."""
        actor, critic = (obs, obs) if varying is not None else self._features(obs)
        hidden = layers(self.mlp_extractor.policy_net, actor[choices.forced.shape[0] :], varying)
        log_p, entropy = score(hidden, self.action_net, actions, choices)  # type: ignore[arg-type]
        seen = layers(self.mlp_extractor.value_net, critic, varying)
        return self.value_net(seen).flatten(), log_p, entropy

    def _features(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """What the layers of actor and critic read."""
        features = self.extract_features(obs)
        return features if isinstance(features, tuple) else (features, features)

    def choose(
        self, latent: Tensor, action_masks: Masks, deterministic: bool
    ) -> tuple[Tensor, Tensor]:
        """Actions int64[n] and their log p [n] of rows latent [n, F] that the actor's layers
        read."""
        rows, choices = self._sorted(action_masks, len(latent))
        order = torch.from_numpy(rows).to(latent.device)
        open_rows = latent.index_select(0, order[choices.forced.shape[0] :])
        hidden = self.mlp_extractor.policy_net(open_rows)
        drawn = draw(hidden, self.action_net, choices, deterministic)  # type: ignore[arg-type]
        actions, log_p = (torch.empty_like(x).index_copy_(0, order, x) for x in drawn)
        return actions, log_p

    def forward(
        self, obs: Tensor, deterministic: bool = False, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [n], values [n, 1] and log probabilities [n] of the actions."""
        actor, critic = self._features(obs)
        actions, log_p = self.choose(actor, action_masks, deterministic)
        return actions, self.value_net(self.mlp_extractor.value_net(critic)), log_p

    def _predict(  # type: ignore[override]
        self, observation: Tensor, deterministic: bool = False, action_masks: Masks = None
    ) -> Tensor:
        return self.choose(self._features(observation)[0], action_masks, deterministic)[0]

    def evaluate_actions(
        self, obs: Tensor, actions: Tensor, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values [n, 1], log probabilities [n] of given actions, entropies [n].

        A closed action has log probability -1e8. Raises MaskError for an action outside the table.
        """
        rows, choices = self._sorted(action_masks, len(obs))
        order = torch.from_numpy(rows).to(obs.device)
        count = int(self.action_space.n)  # type: ignore[attr-defined]
        taken = torch.from_numpy(checked_actions(actions, len(obs), count)[rows]).to(obs.device)
        found = self.evaluate(obs[order], taken, choices)
        values, log_p, entropy = (torch.empty_like(x).index_copy(0, order, x) for x in found)
        return values[:, None], log_p, entropy

    def get_distribution(self, obs: Tensor, action_masks: Masks = None) -> Any:  # type: ignore[override]
        """The distribution of sb3-contrib. Raises MaskError for masks that do not fit."""
        if action_masks is not None:
            count = int(self.action_space.n)  # type: ignore[attr-defined]
            action_masks = checked_masks(action_masks, len(obs), count)
        return super().get_distribution(obs, action_masks)  # type: ignore[arg-type]

    def _sorted(self, action_masks: Masks, n: int) -> tuple[NDArray[np.int64], Choices]:
        """Order int64[n] that sorts rows by their masks, and the choices in that order."""
        count = int(self.action_space.n)  # type: ignore[attr-defined]
        patterns = patterns_of(checked_masks(action_masks, n, count))
        order = np.argsort(patterns.of_row, kind="stable")
        return order, choices_of(patterns, order, self.device)


def layers(net: Any, rows: Tensor, varying: Varying | None) -> Tensor:
    """What `net` makes of rows [n, D], or of rows [n, k] of the varying inputs alone."""
    if varying is None:
        return net(rows)
    first, *rest = net
    bias = torch.addmv(first.bias, first.weight[:, varying.others], varying.held)
    rows = linear(rows, first.weight[:, varying.columns], bias)
    for module in rest:
        rows = module(rows)
    return rows
