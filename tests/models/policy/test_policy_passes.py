"""Single nodes of the graph give the values and gradients of torch's own operations."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from kernels.learning.network_training import categorical_sample
from models.policy.action_masks import Choices, choices_of, patterns_of
from models.policy.policy_passes import (
    LossWeights,
    clipped_loss,
    draw,
    lstm_sequences,
    lstm_step,
    score,
    tanh_layers,
)

ACTIONS = 13


def same(ours: Tensor | None, theirs: Tensor | None, tolerance: float = 2e-6) -> None:
    assert ours is not None
    assert theirs is not None
    scale = float(theirs.detach().abs().max())
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=tolerance * max(scale, 1e-3))


OPENED = ([4], [0, 2, 12], [1, 3, 6, 7, 9], list(range(ACTIONS)))
SPANS = ((0, 20), (20, 120), (120, 190), (190, 300))


def masks() -> NDArray[np.bool_]:
    """Of 300 rows with 1, 3, 5 and all actions open."""
    closed = np.zeros((300, ACTIONS), np.bool_)
    for (low, high), open_ in zip(SPANS, OPENED):
        closed[low:high, open_] = True
    return closed


def choices() -> Choices:
    patterns = patterns_of(masks())
    assert (np.diff(patterns.of_row) >= 0).all()
    return choices_of(patterns, np.arange(300))


def test_scores_and_their_gradients() -> None:
    torch.manual_seed(0)
    hidden, last = torch.randn(280, 8, requires_grad=True), nn.Linear(8, ACTIONS)
    last.weight.data *= 10.0
    taken = torch.from_numpy(
        np.array(
            [
                np.random.default_rng(i).choice(OPENED[k])
                for k, (low, high) in enumerate(SPANS)
                for i in range(low, high)
            ]
        )
    )
    up = torch.randn(2, 300)
    log_p, entropy = score(hidden, last, taken, choices())
    assert not log_p[:20].any()
    assert not entropy[:20].any()
    (up[0] * log_p + up[1] * entropy).sum().backward()
    ours = [log_p, entropy, hidden.grad, last.weight.grad, last.bias.grad]
    hidden.grad = last.weight.grad = last.bias.grad = None
    closed = torch.where(torch.from_numpy(masks()[20:]), 0.0, -torch.inf)
    law = torch.distributions.Categorical(logits=last(hidden) + closed)
    expected = law.log_prob(taken[20:])
    p = law.probs
    spread = -(p * torch.where(p > 0.0, law.logits, 0.0)).sum(dim=1)
    (up[0, 20:] * expected + up[1, 20:] * spread).sum().backward()
    theirs = [expected, spread, hidden.grad, last.weight.grad, last.bias.grad]
    ours[:2] = [log_p[20:], entropy[20:]]
    for our, their in zip(ours, theirs):
        same(our, their)


def test_the_likeliest_action_is_drawn_when_asked() -> None:
    torch.manual_seed(1)
    spans, last = choices(), nn.Linear(8, ACTIONS)
    hidden = torch.randn(280, 8)
    actions, log_p = draw(hidden, last, spans, True)
    assert (actions[:20] == 4).all()
    closed = torch.where(torch.from_numpy(masks()[20:]), 0.0, -torch.inf)
    assert torch.equal(actions[20:], (last(hidden) + closed).argmax(dim=1))
    with torch.no_grad():
        same(log_p, score(hidden, last, actions, spans)[0])


def test_an_action_of_probability_0_is_never_drawn() -> None:
    """Whatever the uniform: 0, the largest float below 1, and all between."""
    n = 20_001
    uniforms = np.linspace(0.0, 1.0, n).astype(np.float32)
    uniforms[-1] = np.nextafter(np.float32(1.0), np.float32(0.0))
    low = np.float32(-1e8)
    for row, shut, possible in (
        ([low, 0.0, low, low], [0.0] * 4, {1}),
        ([0.0, 7.0, 0.0, 7.0], [0.0, low, 0.0, low], {0, 2}),
    ):
        actions, log_p = np.empty(n, np.int64), np.empty(n, np.float32)
        packed, closed = np.tile(np.array(row, np.float32), n), np.array([shut], np.float32)
        spans = np.array([[n, 4, 0, 0, 0]])
        categorical_sample(packed, spans, closed, np.arange(4), uniforms, actions, log_p)
        assert set(actions.tolist()) == possible
        assert np.abs((actions == max(possible)).mean() - 1.0 / len(possible)) < 1e-3
        np.testing.assert_allclose(log_p, -np.log(len(possible)), atol=1e-6)


@pytest.mark.parametrize("clip_value", [None, 0.3])
def test_the_loss_and_its_gradients(clip_value: float | None) -> None:
    torch.manual_seed(2)
    log_p, entropy, values, old_log_p, old_values, returns, advantages = torch.randn(7, 400) * 0.3
    learned = [x.clone().requires_grad_() for x in (log_p, entropy, values)]
    fixed = old_log_p, old_values, returns, advantages
    loss, terms = clipped_loss(*learned, *fixed, LossWeights(0.2, clip_value, 0.03, 0.4))  # type: ignore[arg-type]
    loss.backward()
    ours = [loss.detach(), *(x.grad for x in learned)]
    again = [x.clone().requires_grad_() for x in (log_p, entropy, values)]
    ratio = (again[0] - old_log_p).exp()
    clipped = advantages * ratio.clamp(0.8, 1.2)
    policy = -torch.min(advantages * ratio, clipped).mean()
    predicted = again[2]
    if clip_value is not None:
        predicted = old_values + (predicted - old_values).clamp(-clip_value, clip_value)
    value, spread = mse_loss(predicted, returns), -again[1].mean()
    expected = policy + 0.03 * spread + 0.4 * value
    expected.backward()
    for our, their in zip(ours, [expected.detach(), *(x.grad for x in again)]):
        same(our, their)
    outside = ((ratio - 1.0).abs() > 0.2).float().mean()
    assert 0.2 < float(outside) < 0.8
    kl = (ratio - 1.0 - (log_p - old_log_p)).mean()
    measured = torch.stack([policy, value, spread, kl, outside]).detach()
    same(terms.float(), measured)


def test_sequences_through_an_lstm_and_their_gradients() -> None:
    torch.manual_seed(3)
    lstm, x, state = nn.LSTM(5, 7), torch.randn(11, 6, 5), torch.randn(2, 6, 7)
    for parameter in lstm.parameters():
        parameter.data *= 2.0
    up = torch.randn(11, 6, 7)
    outputs = []
    for mine in (True, False):
        given = x.clone().requires_grad_()
        lstm.zero_grad()
        if mine:
            out = lstm_sequences(lstm, given, state)
        else:
            out = lstm(given, (state[0:1], state[1:2]))[0]
        (out * up).sum().backward()
        outputs.append(
            [out, given.grad, *(p.grad.clone() for p in lstm.parameters() if p.grad is not None)]
        )
    assert len(outputs[0]) == 6
    for our, their in zip(*outputs):
        same(our, their)
    for t in range(11):
        state = lstm_step(lstm, x[t], state)
        same(state[0], outputs[0][0][t].detach())


def test_tanh_layers_and_their_gradients() -> None:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 4), nn.Tanh())
    up, outputs = torch.randn(150, 4), []
    for mine in (True, False):
        x = torch.linspace(-3.0, 3.0, 750).view(150, 5).requires_grad_()
        net.zero_grad()
        out = tanh_layers(net, x) if mine else net(x)
        (out * up).sum().backward()
        outputs.append(
            [out, x.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
        )
    for our, their in zip(*outputs):
        same(our, their)
