"""The compiled way gives what the torch path gives: steps, gradients, whole updates."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.learner.compiled import TERMS, CompiledPerceptron
from agents.learner.ppo import ScheduledPPO, clipped_loss, joint_gradient
from agents.learner.rollout_buffer import SortedRolloutBuffer
from agents.learner.vecenv import MarketVecEnv
from kernels.learning.loss import LossWeights
from kernels.learning.perceptrons import ROWS
from models.policy.action_masks import MaskError
from models.policy.masked import MaskedPolicy
from tests.support.auctions import FirstPriceEnv

WIDTH, ACTIONS = 20, 40
BOX, DISCRETE = spaces.Box(-9.0, 9.0, (WIDTH,), np.float32), spaces.Discrete(ACTIONS)
LAYERS: list[Any] = [[16], {"pi": [24, 10], "vf": [8, 12, 40]}]


def policy_of(layers: Any) -> MaskedPolicy:
    torch.manual_seed(0)
    policy = MaskedPolicy(BOX, DISCRETE, lambda _: 1e-3, net_arch=layers)
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return policy


def some_masks(rng: np.random.Generator, n: int, forced: bool = True) -> NDArray[np.bool_]:
    known = rng.random((12, ACTIONS)) < rng.choice([0.1, 0.5, 0.9], size=(12, 1))
    known[:, 3] = known[:, 7] = True
    if forced:
        known[0], known[0, 5] = False, True
    return known[rng.integers(len(known), size=n)]


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("n", [1, 7, 2 * ROWS + 300])
def test_a_step_is_that_of_torch(layers: Any, n: int) -> None:
    rng, policy = np.random.default_rng(n), policy_of(layers)
    engine = CompiledPerceptron(policy)
    rows, masks = rng.normal(size=(n, WIDTH)).astype(np.float32), some_masks(rng, n)
    with torch.no_grad():
        wanted = policy(torch.from_numpy(rows), deterministic=True, action_masks=masks)
        likeliest, values, log_p = engine.act(rows, masks, deterministic=True)
        assert torch.equal(likeliest, wanted[0])
        torch.testing.assert_close(values, wanted[1].flatten(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(log_p, wanted[2], rtol=1e-4, atol=1e-5)
        drawn, _, log_p = engine.act(rows, masks)
        _, scored, _ = policy.evaluate_actions(torch.from_numpy(rows), drawn, action_masks=masks)
        torch.testing.assert_close(log_p, scored, rtol=1e-4, atol=1e-5)
        assert masks[np.arange(n), drawn].all()


def test_inputs_may_all_be_0() -> None:
    policy, rows = policy_of([16, 16]), np.zeros((5, WIDTH), np.float32)
    masks = np.ones((5, ACTIONS), np.bool_)
    with torch.no_grad():
        _, wanted, _ = policy(torch.from_numpy(rows), action_masks=masks)
        _, values, log_p = CompiledPerceptron(policy).act(rows, masks, deterministic=True)
    torch.testing.assert_close(values, wanted.flatten(), rtol=1e-5, atol=1e-5)
    assert torch.isfinite(log_p).all()


def test_actions_are_drawn_as_often_as_they_should_be() -> None:
    rng, policy, n = np.random.default_rng(0), policy_of([16]), 40_000
    row, mask = rng.normal(size=(1, WIDTH)).astype(np.float32), some_masks(rng, 1, forced=False)
    with torch.no_grad():
        seen = torch.from_numpy(row).repeat(ACTIONS, 1)
        masks = torch.from_numpy(mask).repeat(ACTIONS, 1)
        _, log_p, _ = policy.evaluate_actions(seen, torch.arange(ACTIONS), action_masks=masks)
    torch.manual_seed(1)
    repeated = row.repeat(n, axis=0), mask.repeat(n, axis=0)
    drawn, *_ = CompiledPerceptron(policy).act(*repeated)
    found = torch.bincount(drawn, minlength=ACTIONS) / n
    torch.testing.assert_close(found, log_p.exp(), rtol=0.0, atol=0.012)


def rollout_of(policy: MaskedPolicy, held: int, skip: bool, slots: int) -> SortedRolloutBuffer:
    """A rollout whose first `held` inputs never change, played by other weights."""
    rng, lanes = np.random.default_rng(5), 31
    n = slots * lanes
    buffer = SortedRolloutBuffer(slots, BOX, DISCRETE, n_envs=lanes, skip_forced=skip)
    buffer.folds = True
    rows = rng.normal(size=(n, WIDTH)).astype(np.float32)
    rows[:, :held] = rows[0, :held]
    masks = some_masks(rng, n)
    with torch.no_grad():
        actions, values, log_p = policy(torch.from_numpy(rows), action_masks=masks)
    noise = (0.3 * rng.normal(size=(4, n))).astype(np.float32)
    found = {
        "observations": rows,
        "masks": masks,
        "actions": actions.numpy(),
        "values": values.flatten().numpy() + noise[0],
        "log_probs": log_p.numpy() + noise[1],
        "advantages": noise[2],
        "returns": noise[3],
    }
    for name, array in found.items():
        getattr(buffer, name)[:] = array.reshape(slots, lanes, *array.shape[1:])
    buffer.finish()
    return buffer


class Reader:
    """What the loss asks of a learner."""

    clip, ent_coef, vf_coef, normalize_advantage = 0.2, 0.03, 0.4, True
    normalised = ScheduledPPO.normalised
    evaluate = ScheduledPPO.evaluate

    def __init__(self, policy: MaskedPolicy, clip_value: float | None) -> None:
        self.policy, self.clip_value = policy, clip_value


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("clip_value", [None, 0.3])
@pytest.mark.parametrize(("held", "skip"), [(0, False), (4, True), (WIDTH, False)])
def test_gradients_are_those_of_torch(
    layers: Any, clip_value: float | None, held: int, skip: bool
) -> None:
    """Of shuffled minibatches, with forced states, whatever inputs are the same in all rows."""
    policy = policy_of(layers)
    buffer = rollout_of(policy, held, skip, slots=40)
    reader: Any = Reader(policy, clip_value)
    joint_gradient(policy).fill_(7.0)  # to be written over
    np.random.seed(3)  # noqa: NPY002 - the learner's own generator
    ours = []
    limit = -1.0 if clip_value is None else clip_value
    weights = LossWeights(reader.clip, limit, reader.ent_coef, reader.vf_coef)
    for terms in CompiledPerceptron(policy).gradients(buffer, 600, True, weights):
        ours.append((terms, [p.grad.clone() for p in policy.parameters()]))  # type: ignore[union-attr]
    np.random.seed(3)  # noqa: NPY002 - the learner's own generator
    batches = list(buffer.get(600))
    assert len(batches) == len(ours) == 2
    for batch, (terms, gradients) in zip(batches, ours, strict=True):
        policy.zero_grad()
        loss, wanted = clipped_loss(reader, batch)
        loss.backward()
        for name in TERMS:
            torch.testing.assert_close(
                terms[name].float(), wanted[name].detach(), rtol=1e-4, atol=1e-6, msg=name
            )
        for (name, parameter), our in zip(policy.named_parameters(), gradients, strict=True):
            assert parameter.grad is not None
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(our, parameter.grad, rtol=1e-3, atol=2e-5 * scale, msg=name)


def learner(kind: Any = ScheduledPPO, policy: Any = "MlpPolicy", **named: Any) -> Any:
    """A learner whose draws do not depend on the way: both ways take the likeliest action."""
    venv = MarketVecEnv(FirstPriceEnv(16, slots=11))
    settings = {"n_steps": 8, "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu"}
    return kind(policy, venv, **{**settings, **named})


def test_an_update_is_that_of_torch() -> None:
    """Sixteen gradient steps on one rollout, from the same weights."""
    compiled, plain = learner(), learner(compiled=False)
    assert compiled.backend == "compiled kernels on cpu"
    assert plain.backend == "torch on cpu: compiled is false"
    for model in (compiled, plain):
        model._setup_learn(1 << 20, None)
    _, callback = compiled._setup_learn(1 << 20, None)
    compiled.collect_rollouts(compiled.env, callback, compiled.rollout_buffer, 8)
    for name in (
        "observations",
        "actions",
        "masks",
        "values",
        "log_probs",
        "advantages",
        "returns",
    ):
        getattr(plain.rollout_buffer, name)[:] = getattr(compiled.rollout_buffer, name)
    plain.rollout_buffer.finish()
    for model in (compiled, plain):
        np.random.seed(5)  # noqa: NPY002 - the learner's own generator
        model.train()
    for name in TERMS:
        our, their = (m.logger.name_to_value[f"train/{name}"] for m in (compiled, plain))
        assert our == pytest.approx(their, rel=1e-3, abs=1e-5), name
    for ours, theirs in zip(compiled.policy.parameters(), plain.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


class OwnLoss(ScheduledPPO):
    def loss(self, batch: Any) -> Any:
        return super().loss(batch)


def other_loss(learner: Any, batch: Any) -> Tensor:
    return clipped_loss(learner, batch)[0]


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"compiled": False}, "compiled is false"),
        ({"loss": other_loss}, "loss other_loss"),
        ({"kind": OwnLoss}, "OwnLoss.loss is its own"),
        ({"policy_kwargs": {"activation_fn": nn.ReLU}}, "no tanh perceptron"),
        ({"policy_kwargs": {"net_arch": []}}, "no tanh perceptron"),
    ],
)
def test_the_way_and_its_reason_are_said(
    named: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = learner(verbose=1, **named)
    assert model.engine is None
    assert reason in model.backend
    assert f"Learning by {model.backend}" in capsys.readouterr().out
    model.learn(128)
    assert model.logger.name_to_value["train/backend"] == model.backend


def test_arrays_that_do_not_fit_stop_at_the_border() -> None:
    """Nothing of another width, type or range reaches the kernels."""
    policy = policy_of([16])
    engine = CompiledPerceptron(policy)
    rows, masks = np.zeros((4, WIDTH), np.float32), np.ones((4, ACTIONS), np.bool_)
    for wrong in (rows[:, 1:], np.zeros((4, WIDTH, 2), np.float32)):
        with pytest.raises(ValueError, match=r"this policy reads \[n, 20\]"):
            engine.act(wrong, masks)
    for wrong_masks in (np.ones((4, 5000), np.bool_), masks[:3], np.full(masks.shape, 0.5)):
        with pytest.raises(MaskError):
            engine.act(rows, wrong_masks)
    with pytest.raises(MaskError, match="row 0 has no open action"):
        engine.act(rows, np.zeros_like(masks))
    wanted = engine.act(np.ones((4, WIDTH), np.float32), masks, deterministic=True)
    for other in (np.ones((4, WIDTH)), np.asfortranarray(np.ones((4, WIDTH), np.float32))):
        found = engine.act(other, masks, deterministic=True)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    buffer = rollout_of(policy, 0, skip=False, slots=4)
    for action in (-1, ACTIONS, 5000):
        buffer.actions[2, 3] = action
        buffer.finish()
        with pytest.raises(ValueError, match="actions that its masks close"):
            _ = buffer.reading
    buffer.actions[2, 3] = int(buffer.masks[2, 3].argmin())
    buffer.finish()
    with pytest.raises(ValueError, match="actions that its masks close"):
        _ = buffer.reading
