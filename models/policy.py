"""The policy network of the trainer: masked categorical actions at a fraction of the usual cost.

Same network, distribution and gradients as sb3-contrib's MaskableActorCriticPolicy, up to rounding.
A masked action's logit changes nothing, so it is not computed: rows with the same
masks are computed together, and a row with a single open action needs no actor at all.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import Tensor, nn

from kernels.network import mask_hashes, tanh_in_place
from models.frozen import Lstm, Network

Masks = Tensor | NDArray[np.bool_] | None

# Its exponential is exactly 0 in float32, and it stays finite when multiplied by that 0.
FORBIDDEN = -1e8
# More different masks than this in one rollout would make more spans than they save logits.
MOST_PATTERNS = 64


class Choices(NamedTuple):
    """The actions open to n rows, sorted so that rows with the same masks are together."""

    spans: tuple[tuple[int, int, Tensor], ...]
    """(first row, row behind the last, open actions int64[k]); fewest actions first."""
    bias: Tensor | None
    """float32[n, A], FORBIDDEN at masked actions; None when spans name open actions alone."""


class Patterns(NamedTuple):
    """The different masks of some rows."""

    of_row: NDArray[np.int64]
    """int64[n]: which pattern each row has; patterns with fewer actions first."""
    actions: list[Tensor]
    """int64[k] each: the open actions of a pattern, ascending."""
    masked: bool
    """Whether the actions of a pattern may be closed to some of its rows."""


def patterns_of(masks: NDArray[np.bool_]) -> Patterns:
    """Sort masks bool[n, A] into patterns; one for all when there are too many different ones."""
    hashes = np.empty(len(masks), np.uint64)
    mask_hashes(masks, hashes)
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
    if not patterns.masked or masks is None:
        return Choices(spans, None)
    return Choices(spans, torch.from_numpy(np.where(masks, np.float32(0.0), np.float32(FORBIDDEN))))


class _TanhLayers(torch.autograd.Function):
    """Affine layers, each followed by tanh: one node of the graph, and a quicker tanh.

    torch's tanh on a processor takes longer than the matrix product before it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        hidden = [x]
        for weight, bias in zip(parameters[::2], parameters[1::2]):
            y = torch.addmm(bias, hidden[-1], weight.t())
            tanh_in_place(y.numpy().reshape(-1))
            hidden.append(y)
        ctx.save_for_backward(*parameters[::2], *hidden)
        return hidden[-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        layers = len(ctx.saved_tensors) // 2
        weights, hidden = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        found: list[Tensor | None] = []
        for k in range(layers - 1, -1, -1):
            before = torch.ops.aten.tanh_backward(gradient, hidden[k + 1])
            found += [before.sum(dim=0), before.t() @ hidden[k]]
            wanted = k > 0 or ctx.needs_input_grad[0]
            gradient = before @ weights[k] if wanted else None  # type: ignore[assignment]
        return gradient, *found[::-1]


def tanh_layers(net: nn.Sequential, x: Tensor) -> Tensor:
    """What `net`, linear layers each followed by nn.Tanh, makes of x float32[n, F]; within 3e-7."""
    linears = [module for module in net if isinstance(module, nn.Linear)]
    parameters = [p for linear in linears for p in (linear.weight, linear.bias)]
    return _TanhLayers.apply(x, *parameters) if parameters else x  # type: ignore[return-value]


class _Categorical(torch.autograd.Function):
    """(log p of the taken actions [n], entropy [n]) of logits [n, A], in one pass each way."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_p = torch.log_softmax(logits, dim=1)
        # softmax, not exp(log_p): torch's exp is eight times slower where it underflows.
        p = torch.softmax(logits, dim=1)
        entropy = -(p * log_p).sum(dim=1)
        ctx.save_for_backward(p, log_p, entropy, actions)
        return log_p.gather(1, actions).squeeze(1), entropy

    @staticmethod
    def backward(ctx: Any, to_log_p: Tensor, to_entropy: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        p, log_p, entropy, actions = ctx.saved_tensors
        weight = log_p + entropy[:, None]
        weight.mul_(to_entropy[:, None]).add_(to_log_p[:, None])
        gradient = weight.mul_(p).neg_()
        return gradient.scatter_add_(1, actions, to_log_p[:, None]), None


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


def sample(probabilities: Tensor) -> Tensor:
    """One action int64[n] per row of probabilities [n, A], never one of probability 0.

    Inverse distribution function on one uniform per row: torch.multinomial draws A exponentials.
    """
    cumulated = probabilities.cumsum(dim=1)
    total = cumulated[:, -1:]
    threshold = torch.rand(total.shape) * total
    # Rounding may lift the product to the total, beyond the last action.
    threshold = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulated, threshold, right=True).squeeze(1)


class MaskedPolicy(MaskableActorCriticPolicy):
    """Actor and critic of MaskablePPO for Box observations and Discrete actions, on a processor.

    The hidden layers must be nn.Tanh.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.activation_fn is not nn.Tanh:
            raise ValueError(f"activation_fn is {self.activation_fn}: this policy computes nn.Tanh")

    def score(self, latent: Tensor, actions: Tensor, choices: Choices) -> tuple[Tensor, Tensor]:
        """Log probabilities [n] of actions int64[n] and entropies [n] of rows sorted by width.

        latent [n, F] is what the actor's layers read.
        """
        first = _first_choosing(choices)
        log_p, entropy = [latent.new_zeros(first)], [latent.new_zeros(first)]
        for low, high, open_, logits in self._logits(latent, choices, first):
            places = torch.searchsorted(open_, actions[low:high])
            terms = _Categorical.apply(logits, places[:, None])
            log_p.append(terms[0])  # type: ignore[index]
            entropy.append(terms[1])  # type: ignore[index]
        return torch.cat(log_p), torch.cat(entropy)

    def choose(
        self, latent: Tensor, choices: Choices, deterministic: bool
    ) -> tuple[Tensor, Tensor]:
        """Actions int64[n] and their log probabilities [n] for rows sorted by masks."""
        first = _first_choosing(choices)
        actions = [open_.expand(high - low) for low, high, open_ in choices.spans if low < first]
        log_p = [latent.new_zeros(first)]
        for _, _, open_, logits in self._logits(latent, choices, first):
            if deterministic:
                taken = logits.argmax(dim=1)
            else:
                taken = sample(torch.softmax(logits, dim=1))
            actions.append(open_[taken])
            log_p.append(torch.log_softmax(logits, dim=1).gather(1, taken[:, None]).squeeze(1))
        return torch.cat(actions), torch.cat(log_p)

    def values(self, latent: Tensor) -> Tensor:
        """Values [n] of rows latent [n, F] that the critic's layers read."""
        return self.value_net(tanh_layers(self.mlp_extractor.value_net, latent)).flatten()

    def _logits(
        self, latent: Tensor, choices: Choices, first: int
    ) -> list[tuple[int, int, Tensor, Tensor]]:
        """(first row, end, actions, their logits) of each span from row `first` on."""
        if first == len(latent):
            return []
        hidden = tanh_layers(self.mlp_extractor.policy_net, latent[first:])
        last: Any = self.action_net
        weight, bias = last.weight, last.bias
        found = []
        for low, high, open_ in choices.spans:
            if low < first:
                continue
            rows = hidden[low - first : high - first]
            whole = len(open_) == len(bias)
            own = (
                (weight, bias)
                if whole
                else (weight.index_select(0, open_), bias.index_select(0, open_))
            )
            logits = nn.functional.linear(rows, *own)
            if choices.bias is not None:
                logits = logits + choices.bias[low:high]
            found.append((low, high, open_, logits))
        return found

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
            return rows, rows, Choices(((0, n, everything),), None)
        masks = np.ascontiguousarray(action_masks).astype(bool, copy=False).reshape(n, -1)
        patterns = patterns_of(masks)
        order = np.argsort(patterns.of_row, kind="stable")
        choices = choices_of(patterns, order, masks[order] if patterns.masked else None)
        back = np.empty(n, np.int64)
        back[order] = np.arange(n)
        return torch.from_numpy(order), torch.from_numpy(back), choices


def _first_choosing(choices: Choices) -> int:
    """First row that has a choice: rows before it have a single action."""
    return next((low for low, _, open_ in choices.spans if len(open_) > 1), choices.spans[-1][1])
