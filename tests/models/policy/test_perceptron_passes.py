"""Compiled steps and gradients of perceptrons are those of torch's own operations."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from kernels.learning.perceptrons import ROWS
from kernels.learning.policy_gradient import Samples
from models.policy.action_masks import patterns_of
from models.policy.masked import MaskedPolicy
from models.policy.perceptron_passes import Gradient, step
from models.policy.policy_passes import LossWeights, Varying

WIDTH, ACTIONS = 20, 40
BOX, DISCRETE = spaces.Box(-9.0, 9.0, (WIDTH,), np.float32), spaces.Discrete(ACTIONS)


def policy_of(layers: Any) -> MaskedPolicy:
    torch.manual_seed(0)
    policy = MaskedPolicy(
        BOX, DISCRETE, lambda _: 1e-3, net_arch=layers, activation_fn=torch.nn.Tanh
    )
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return policy


def some_masks(rng: np.random.Generator, n: int, forced: bool = True) -> NDArray[np.bool_]:
    known = rng.random((12, ACTIONS)) < rng.choice([0.1, 0.5, 0.9], size=(12, 1))
    known[:, 3] = known[:, 7] = True
    if forced:
        known[0], known[0, 5] = False, True
    return known[rng.integers(len(known), size=n)]


def law_of(policy: MaskedPolicy, rows: Tensor, masks: NDArray[np.bool_]) -> tuple[Any, Tensor]:
    """Distribution and values by torch's operations on all logits."""
    actor, critic = policy.mlp_extractor(rows)
    closed = torch.where(torch.from_numpy(masks), 0.0, -torch.inf)
    logits = policy.action_net(actor) + closed
    return torch.distributions.Categorical(logits=logits), policy.value_net(critic).flatten()


@pytest.mark.parametrize("layers", [[16], {"pi": [24, 10], "vf": [8, 12, 40]}])
@pytest.mark.parametrize("n", [1, 7, 2 * ROWS + 300])
def test_a_step_is_that_of_torch(layers: Any, n: int) -> None:
    rng, policy = np.random.default_rng(n), policy_of(layers)
    rows, masks = rng.normal(size=(n, WIDTH)).astype(np.float32), some_masks(rng, n)
    with torch.no_grad():
        law, expected = law_of(policy, torch.from_numpy(rows), masks)
        likeliest, values, log_p = step(policy, rows, patterns_of(masks), deterministic=True)
        assert torch.equal(likeliest, law.logits.argmax(dim=1))
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(log_p, law.log_prob(likeliest), rtol=1e-4, atol=1e-5)
        drawn, _, log_p = step(policy, rows, patterns_of(masks), deterministic=False)
        torch.testing.assert_close(log_p, law.log_prob(drawn), rtol=1e-4, atol=1e-5)
        assert masks[np.arange(n), drawn].all()


def test_forced_rows_need_no_value() -> None:
    rng, policy, n = np.random.default_rng(2), policy_of([16]), ROWS + 90
    rows, masks = rng.normal(size=(n, WIDTH)).astype(np.float32), some_masks(rng, n)
    forced = torch.from_numpy(masks.sum(axis=1) == 1)
    patterns = patterns_of(masks)
    actions, values, log_p = step(policy, rows, patterns, True)
    found = step(policy, rows, patterns, True, value_forced=False)
    assert torch.equal(found[0], actions)
    assert torch.equal(found[1], torch.where(forced, 0.0, values))
    assert torch.equal(found[2], log_p)


def test_inputs_may_all_be_0() -> None:
    policy, rows = policy_of([16, 16]), np.zeros((5, WIDTH), np.float32)
    with torch.no_grad():
        _, expected = law_of(policy, torch.from_numpy(rows), np.ones((5, ACTIONS), np.bool_))
        _, values, log_p = step(policy, rows, patterns_of(np.ones((5, ACTIONS), np.bool_)), True)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(log_p).all()


def test_a_row_has_the_same_value_among_any_others() -> None:
    """Also where only the others have inputs that are not 0."""
    rng, policy, n = np.random.default_rng(3), policy_of([16, 16]), 50
    rows, masks = rng.normal(size=(n, WIDTH)).astype(np.float32), some_masks(rng, n)
    rows[:, 3:9] = 0.0
    _, values, _ = step(policy, rows, patterns_of(masks), True)
    more = np.vstack([np.ones((7, WIDTH), np.float32), rows])
    _, found, _ = step(policy, more, patterns_of(np.vstack([masks[:7], masks])), True)
    assert torch.equal(found[7:], values)


def test_actions_are_drawn_as_often_as_they_should_be() -> None:
    rng, policy, n = np.random.default_rng(0), policy_of([16]), 40_000
    row, mask = rng.normal(size=(1, WIDTH)).astype(np.float32), some_masks(rng, 1, forced=False)
    law, _ = law_of(policy, torch.from_numpy(row), mask)
    torch.manual_seed(1)
    drawn, *_ = step(policy, row.repeat(n, axis=0), patterns_of(mask.repeat(n, axis=0)), False)
    found = torch.bincount(drawn, minlength=ACTIONS) / n
    torch.testing.assert_close(found, law.probs[0].detach(), rtol=0.0, atol=0.012)


@pytest.mark.parametrize("layers", [[16], {"pi": [24, 10], "vf": [8, 12, 40]}])
@pytest.mark.parametrize("clip_value", [None, 0.3])
@pytest.mark.parametrize("held", [0, 4, WIDTH])
def test_a_gradient_is_that_of_torch(layers: Any, clip_value: float | None, held: int) -> None:
    """Of part of a rollout, with forced states, whatever inputs are the same in all rows."""
    rng, policy, n = np.random.default_rng(5), policy_of(layers), 2 * ROWS + 300
    observed = rng.normal(size=(n, WIDTH)).astype(np.float32)
    observed[:, :held] = observed[0, :held]
    masks, chosen = some_masks(rng, n), rng.permutation(n)[: n - 50]
    law, values = law_of(policy, torch.from_numpy(observed), masks)
    actions = law.sample()
    old = (0.3 * rng.normal(size=(4, n))).astype(np.float32)
    old[0] += values.detach().numpy()
    old[1] += law.log_prob(actions).detach().numpy()
    varying = None
    if held:
        others, columns = torch.arange(held), torch.arange(held, WIDTH)
        varying = Varying(columns, others, torch.from_numpy(observed[0, :held]))
    patterns = patterns_of(masks)
    inputs = np.ascontiguousarray(observed[:, held:])
    samples = Samples(inputs, actions.numpy(), old[0], old[1], old[2], old[3], patterns.of_row)
    for parameter in policy.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)  # to be written over
    weights = LossWeights(0.2, clip_value, 0.03, 0.4)
    terms = Gradient(policy, samples, patterns.masks, varying).take(chosen, True, weights)
    ours = [
        parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None
    ]

    policy.zero_grad()
    old_values, old_log_p, advantages, returns = (torch.from_numpy(x[chosen]) for x in old)
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_p, entropy = law.log_prob(actions)[chosen], law.entropy()[chosen]
    ratio = (log_p - old_log_p).exp()
    gain = torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2))
    predicted = values[chosen]
    if clip_value is not None:
        predicted = old_values + (predicted - old_values).clamp(-clip_value, clip_value)
    parts = -gain.mean(), ((returns - predicted) ** 2).mean(), -entropy.mean()
    (parts[0] + 0.4 * parts[1] + 0.03 * parts[2]).backward()
    torch.testing.assert_close(terms[:3].float(), torch.stack(parts), rtol=1e-4, atol=1e-6)
    for (name, parameter), our in zip(policy.named_parameters(), ours, strict=True):
        assert parameter.grad is not None
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(our, parameter.grad, rtol=1e-3, atol=2e-5 * scale, msg=name)


def test_a_single_sample_is_learned_from() -> None:
    """Its advantage has no deviation to be divided by."""
    policy, one = policy_of([16]), np.ones(1, np.float32)
    patterns = patterns_of(np.ones((1, ACTIONS), np.bool_))
    observed = np.ones((1, WIDTH), np.float32)
    samples = Samples(observed, np.zeros(1, np.int64), one, -one, one, one, patterns.of_row)
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    terms = Gradient(policy, samples, patterns.masks, None).take(
        np.zeros(1, np.int64), True, LossWeights(0.2, None, 0.01, 0.5)
    )
    assert torch.isfinite(terms).all()
    for parameter in policy.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_a_policy_without_hidden_layers_is_refused() -> None:
    policy = policy_of([])
    with pytest.raises(ValueError, match="hidden layer"):
        step(
            policy, np.zeros((1, WIDTH), np.float32), patterns_of(np.ones((1, ACTIONS), bool)), True
        )
