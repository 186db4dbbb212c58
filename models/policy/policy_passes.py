"""Whole stretches of a policy network as single nodes of torch's graph, for a processor.

Matrix products are torch's; what lies between them is one compiled pass each way
(`kernels/learning/network_training.py`). Gradients are exact;
tests/models/policy/test_policy_passes.py compares them with torch's own.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.learning.network_training import (
    categorical_backward,
    categorical_forward,
    categorical_sample,
    lstm_gates,
    lstm_gates_backward,
    ppo_loss,
    tanh_backward,
)
from kernels.networks.forward import tanh_in_place
from models.policy.action_masks import Choices


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


def folded(weight: Tensor, bias: Tensor, varying: Varying | None) -> tuple[Tensor, Tensor]:
    """Weight [out, k] and bias [out] of the first layer for rows of the varying inputs alone."""
    if varying is None:
        return weight, bias
    own = weight.index_select(1, varying.others)
    return weight.index_select(1, varying.columns), torch.addmv(bias, own, varying.held)


class _TanhLayers(torch.autograd.Function):
    """Affine layers, each followed by tanh.

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
            before, bias = torch.empty_like(hidden[k + 1]), gradient.new_zeros(gradient.shape[1])
            after = _array(hidden[k + 1])
            tanh_backward(_array(gradient), after, before.numpy(), bias.numpy())
            found += [bias, before.t() @ hidden[k]]
            wanted = k > 0 or ctx.needs_input_grad[0]
            gradient = before @ weights[k] if wanted else None  # type: ignore[assignment]
        return gradient, *found[::-1]


def tanh_layers(net: nn.Sequential, x: Tensor, varying: Varying | None = None) -> Tensor:
    """What `net`, linear layers each followed by nn.Tanh, makes of x float32[n, F]; within 3e-7."""
    linears = [module for module in net if isinstance(module, nn.Linear)]
    parameters = [p for linear in linears for p in (linear.weight, linear.bias)]
    if parameters:
        parameters[:2] = folded(parameters[0], parameters[1], varying)  # type: ignore[list-item]
    return _TanhLayers.apply(x, *parameters) if parameters else x  # type: ignore[return-value]


class _Packed(NamedTuple):
    """Logits of the rows that have a choice, group after group without gaps."""

    logits: Tensor
    """float32[sum of rows * columns]"""
    weight: Tensor
    """float32[K, F]: the last layer's rows of the columns of all groups."""


def _packed(hidden: Tensor, weight: Tensor, bias: Tensor, choices: Choices) -> _Packed:
    """Logits of hidden float32[n, F], the rows of `choices` that have a choice; none is closed."""
    own = weight.index_select(0, choices.columns)
    own_bias, across = bias.index_select(0, choices.columns), own.t()
    logits = hidden.new_empty(choices.groups[-1].cells.stop)
    for rows, cells, places in choices.groups:
        out = logits[cells].view(-1, places.stop - places.start)
        torch.addmm(own_bias[places], hidden[rows], across[:, places], out=out)
    return _Packed(logits, own)


class _Score(torch.autograd.Function):
    """(log p of the taken actions [n], entropies [n]); both 0 for rows without a choice."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, actions: Tensor, choices: Choices
    ) -> tuple[Tensor, Tensor]:
        packed, first = _packed(hidden, weight, bias, choices), choices.forced.shape[0]
        taken = _array(actions)[first:]
        p = torch.empty_like(packed.logits)
        log_p, entropy = hidden.new_zeros(actions.shape), hidden.new_zeros(actions.shape)
        categorical_forward(
            packed.logits.numpy(),
            choices.spans,
            choices.closed,
            choices.places,
            taken,
            p.numpy(),
            log_p.numpy()[first:],
            entropy.numpy()[first:],
        )
        ctx.packed, ctx.taken, ctx.choices, ctx.actions = packed, taken, choices, bias.shape[0]
        ctx.save_for_backward(hidden, p, log_p, entropy)
        return log_p, entropy

    @staticmethod
    def backward(ctx: Any, to_log_p: Tensor, to_entropy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, p, log_p, entropy = ctx.saved_tensors
        packed, choices = ctx.packed, ctx.choices
        first = choices.forced.shape[0]
        out, own_bias = torch.empty_like(p), p.new_zeros(choices.columns.shape)
        categorical_backward(
            packed.logits.numpy(),
            p.numpy(),
            choices.spans,
            choices.places,
            ctx.taken,
            _array(log_p)[first:],
            _array(entropy)[first:],
            _array(to_log_p)[first:],
            _array(to_entropy)[first:],
            out.numpy(),
            own_bias.numpy(),
        )
        to_hidden, to_own = torch.empty_like(hidden), torch.empty_like(packed.weight)
        for rows, cells, places in choices.groups:
            gradient = out[cells].view(-1, places.stop - places.start)
            torch.mm(gradient, packed.weight[places], out=to_hidden[rows])
            torch.mm(gradient.t(), hidden[rows], out=to_own[places])
        index = choices.columns
        to_weight = hidden.new_zeros(ctx.actions, hidden.shape[1]).index_add_(0, index, to_own)
        to_bias = hidden.new_zeros(ctx.actions).index_add_(0, index, own_bias)
        return to_hidden, to_weight, to_bias, None, None


def score(
    hidden: Tensor, last: nn.Linear, actions: Tensor, choices: Choices
) -> tuple[Tensor, Tensor]:
    """Log p [n] of actions int64[n], each open to its row, and entropies [n].

    hidden [n - f, F]: what `last` reads of the rows that have a choice; the others have 0 for both.
    """
    if not hidden.shape[0]:
        return hidden.new_zeros(actions.shape), hidden.new_zeros(actions.shape)
    return _Score.apply(hidden, last.weight, last.bias, actions, choices)  # type: ignore[return-value]


@torch.no_grad()
def draw(
    hidden: Tensor, last: nn.Linear, choices: Choices, deterministic: bool
) -> tuple[Tensor, Tensor]:
    """Actions int64[n] and their log p [n], drawn or the likeliest; `hidden` as for `score`."""
    first, rows = choices.forced.shape[0], hidden.shape[0]
    actions, log_p = (
        hidden.new_empty(first + rows, dtype=torch.int64),
        hidden.new_zeros(first + rows),
    )
    actions[:first] = choices.forced
    if rows:
        packed = _packed(hidden, last.weight, last.bias, choices)
        uniforms = torch.full((rows,), -1.0) if deterministic else torch.rand(rows)
        categorical_sample(
            packed.logits.numpy(),
            choices.spans,
            choices.closed,
            choices.columns.numpy(),
            uniforms.numpy(),
            actions.numpy()[first:],
            log_p.numpy()[first:],
        )
    return actions, log_p


class LossWeights(NamedTuple):
    """What the terms of the loss are weighted and clipped by."""

    clip: float
    clip_value: float | None
    entropy: float
    value: float

    def array(self) -> NDArray[np.float64]:
        """As `kernels.learning.network_training.ppo_loss` takes them."""
        clip_value = -1.0 if self.clip_value is None else self.clip_value
        return np.array([self.clip, clip_value, self.entropy, self.value])


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        log_p: Tensor,
        entropy: Tensor,
        values: Tensor,
        old_log_p: Tensor,
        old_values: Tensor,
        returns: Tensor,
        advantages: Tensor,
        weights: LossWeights,
    ) -> tuple[Tensor, Tensor]:
        to_log_p, to_values = torch.empty_like(log_p), torch.empty_like(log_p)
        terms = torch.zeros(5, dtype=torch.float64)
        ppo_loss(
            _array(log_p),
            _array(old_log_p),
            _array(entropy),
            _array(values),
            _array(old_values),
            _array(returns),
            _array(advantages),
            log_p.shape[0],
            weights.array(),
            to_log_p.numpy(),
            to_values.numpy(),
            terms.numpy(),
        )
        ctx.save_for_backward(to_log_p, to_values)
        ctx.to_entropy = -weights.entropy / log_p.shape[0]
        ctx.mark_non_differentiable(terms)
        ctx.set_materialize_grads(False)
        loss = terms[0] + weights.entropy * terms[2] + weights.value * terms[1]
        return loss.to(log_p.dtype), terms

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        to_log_p, to_values = ctx.saved_tensors
        to_entropy = (gradient * ctx.to_entropy).expand_as(to_log_p)
        rest: tuple[None, ...] = (None,) * 5
        return to_log_p * gradient, to_entropy, to_values * gradient, *rest


def clipped_loss(
    log_p: Tensor,
    entropy: Tensor,
    values: Tensor,
    old_log_p: Tensor,
    old_values: Tensor,
    returns: Tensor,
    advantages: Tensor,
    weights: LossWeights,
) -> tuple[Tensor, Tensor]:
    """The loss of n samples, float32[n] each, and its terms float64[5] as in `ppo_loss`."""
    return _Loss.apply(  # type: ignore[return-value]
        log_p, entropy, values, old_log_p, old_values, returns, advantages, weights
    )


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        state: Tensor,
        w_input: Tensor,
        w_hidden: Tensor,
        b_input: Tensor,
        b_hidden: Tensor,
    ) -> Tensor:
        steps, n, _ = x.shape
        units = w_hidden.shape[1]
        gates = torch.addmm(b_input + b_hidden, x.reshape(steps * n, -1), w_input.t())
        gates = gates.view(steps, n, 4 * units)
        h, c = x.new_empty(steps + 1, n, units), x.new_empty(steps + 1, n, units)
        h[0], c[0] = state[0], state[1]
        bent = x.new_empty(steps, n, units)
        across = w_hidden.t()
        gates_, h_, c_, bent_ = gates.numpy(), h.numpy(), c.numpy(), bent.numpy()
        for t in range(steps):
            gates[t].addmm_(h[t], across)
            lstm_gates(gates_[t], c_[t], c_[t + 1], bent_[t], h_[t + 1])
        ctx.save_for_backward(x, w_input, w_hidden, gates, h, c, bent)
        return h[1:].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, w_input, w_hidden, gates, h, c, bent = ctx.saved_tensors
        steps, n, units = bent.shape
        to_gates, to_c = torch.empty_like(gates), torch.zeros_like(bent[0])
        gates_, c_, bent_, out = gates.numpy(), c.numpy(), bent.numpy(), to_gates.numpy()
        to_h = gradient[steps - 1].contiguous()
        for t in range(steps - 1, -1, -1):
            lstm_gates_backward(gates_[t], c_[t], bent_[t], to_h.numpy(), to_c.numpy(), out[t])
            if t:
                to_h = torch.addmm(gradient[t - 1], to_gates[t], w_hidden)
        flat = to_gates.view(steps * n, 4 * units)
        bias = flat.sum(dim=0)
        to_x = (flat @ w_input).view_as(x) if ctx.needs_input_grad[0] else None
        return (
            to_x,
            None,
            flat.t() @ x.reshape(steps * n, -1),
            flat.t() @ h[:-1].reshape(steps * n, units),
            bias,
            bias.clone(),
        )


def lstm_sequences(
    lstm: nn.LSTM, x: Tensor, state: Tensor, varying: Varying | None = None
) -> Tensor:
    """Outputs [T, n, H] of a single-layer LSTM for x float32[T, n, D]; state [2, n, H] is (h, c).

    The state before the first step gets no gradient.
    """
    w_input, b_input = folded(lstm.weight_ih_l0, lstm.bias_ih_l0, varying)  # type: ignore[arg-type]
    return _Lstm.apply(x, state, w_input, lstm.weight_hh_l0, b_input, lstm.bias_hh_l0)  # type: ignore[return-value]


@torch.no_grad()
def lstm_step(lstm: nn.LSTM, x: Tensor, state: Tensor) -> Tensor:
    """The next (h, c) [2, n, H] for x float32[n, D]; h is the output. Without gradient."""
    cell: Any = lstm
    gates = torch.addmm(cell.bias_ih_l0 + cell.bias_hh_l0, x, cell.weight_ih_l0.t())
    gates.addmm_(state[0], cell.weight_hh_l0.t())
    after, before = torch.empty_like(state, memory_format=torch.contiguous_format), _array(state[1])
    bent = torch.empty_like(after[0])
    lstm_gates(gates.numpy(), before, after[1].numpy(), bent.numpy(), after[0].numpy())
    return after


def _array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's own memory, or a copy where it has gaps."""
    return tensor.detach().contiguous().numpy()
