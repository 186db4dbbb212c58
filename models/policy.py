"""The policy network of the trainer: masked categorical actions at a fraction of the usual cost.

Same network, distribution and gradients as sb3-contrib's MaskableActorCriticPolicy, up to rounding.
A masked action's logit changes nothing, so it is not computed: rows with the same
masks are computed together, and a row with a single open action needs no actor at all.
"""

from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import Tensor, nn

from kernels.network import mask_hashes
from models.frozen import Lstm, Network
from models.policy_passes import Choices, Varying, draw, score, tanh_layers

Masks = Tensor | NDArray[np.bool_] | None

# Its exponential is exactly 0 in float32, and it stays finite when multiplied by that 0.
FORBIDDEN = -1e8
# More different masks than this in one rollout would make more spans than they save logits.
MOST_PATTERNS = 64


class Patterns(NamedTuple):
    """The different masks of some rows."""

    of_row: NDArray[np.int64]
    """int64[n]: which pattern each row has; patterns with fewer actions first."""
    actions: list[Tensor]
    """int64[k] each: the open actions of a pattern, ascending."""
    masked: bool
    """Whether the actions of a pattern may be closed to some of its rows."""


@cache
def _hash_keys(actions: int) -> NDArray[np.uint64]:
    """Random uint64[actions], the same in every process."""
    return np.random.default_rng(0).integers(0, 1 << 64, actions, np.uint64)


def patterns_of(masks: NDArray[np.bool_]) -> Patterns:
    """Sort masks bool[n, A] into patterns; one for all when there are too many different ones."""
    hashes = np.empty(len(masks), np.uint64)
    mask_hashes(masks, _hash_keys(masks.shape[1]), hashes)
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    if first.size > MOST_PATTERNS:
        everything = torch.arange(masks.shape[1])
        return Patterns(np.zeros(len(masks), np.int64), [everything], True)
    order = np.argsort(np.count_nonzero(masks[first], axis=1), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    actions = [torch.from_numpy(np.flatnonzero(masks[row])) for row in first[order]]
    return Patterns(rank[number.reshape(-1)], actions, False)


def choices_of(
    patterns: Patterns, rows: NDArray[np.int64], masks: NDArray[np.bool_] | None
) -> Choices:
    """Choices of `rows`, sorted by pattern; masks bool[n, A] where patterns do not say all."""
    numbers = patterns.of_row[rows]
    edges = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1))
    spans = tuple((int(a), int(b), patterns.actions[numbers[a]]) for a, b in pairwise(edges))
    counts = [open_.shape[0] for _, _, open_ in spans]
    first = next((low for (low, _, _), k in zip(spans, counts) if k > 1), rows.size)
    if not patterns.masked or masks is None:
        return Choices(spans, None, first)
    return Choices(
        spans, torch.from_numpy(np.where(masks, np.float32(0.0), np.float32(FORBIDDEN))), first
    )


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
        hidden = self._hidden(latent, choices, varying)
        return score(hidden, self.action_net, actions, choices)  # type: ignore[arg-type]

    def choose(
        self, latent: Tensor, choices: Choices, deterministic: bool
    ) -> tuple[Tensor, Tensor]:
        """Actions int64[n] and their log probabilities [n] for rows sorted by masks."""
        return draw(self._hidden(latent, choices), self.action_net, choices, deterministic)  # type: ignore[arg-type]

    def _hidden(self, latent: Tensor, choices: Choices, varying: Varying | None = None) -> Tensor:
        """What the last layer of the actor reads, of the rows that have a choice."""
        return tanh_layers(self.mlp_extractor.policy_net, latent[choices.first :], varying)

    def values(self, latent: Tensor, varying: Varying | None = None) -> Tensor:
        """Values [n] of rows latent [n, F] that the critic's layers read."""
        return self.value_net(tanh_layers(self.mlp_extractor.value_net, latent, varying)).flatten()

    def forward(
        self, obs: Tensor, deterministic: bool = False, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [n], values [n, 1] and log probabilities [n] of the actions."""
        features: Any = self.extract_features(obs)
        order, back, choices = self._sorted(action_masks, len(obs))
        actions, log_p = self.choose(features[order], choices, deterministic)
        return actions[back], self.values(features)[:, None], log_p[back]

    def evaluate_actions(
        self, obs: Tensor, actions: Tensor, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values [n, 1], log probabilities [n] of given actions, entropies [n]."""
        features: Any = self.extract_features(obs)
        order, back, choices = self._sorted(action_masks, len(obs))
        log_p, entropy = self.score(features[order], actions.long().reshape(-1)[order], choices)
        return self.values(features)[:, None], log_p[back], entropy[back]

    def _sorted(self, action_masks: Masks, n: int) -> tuple[Tensor, Tensor, Choices]:
        """Order that sorts rows by their masks, its inverse, and the choices in that order."""
        if action_masks is None:
            rows, everything = torch.arange(n), torch.arange(int(self.action_space.n))  # type: ignore[attr-defined]
            return rows, rows, Choices(((0, n, everything),), None, 0)
        masks = np.ascontiguousarray(action_masks).astype(bool, copy=False).reshape(n, -1)
        patterns = patterns_of(masks)
        order = np.argsort(patterns.of_row, kind="stable")
        choices = choices_of(patterns, order, masks[order] if patterns.masked else None)
        back = np.empty(n, np.int64)
        back[order] = np.arange(n)
        return torch.from_numpy(order), torch.from_numpy(back), choices
