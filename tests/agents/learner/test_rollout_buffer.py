"""What a learner reads of a rollout: states with a choice, columns that differ."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.config import PPOConfig
from agents.learner.build import build
from agents.learner.ppo import ScheduledPPO, joint_gradient
from agents.learner.rollout_buffer import Minibatch, SequenceRolloutBuffer, SortedRolloutBuffer
from agents.learner.vecenv import MarketVecEnv
from tests.support.auctions import FirstPriceEnv

SLOTS, LANES, WIDTH, ACTIONS = 8, 30, 40, 7
BOX, DISCRETE = spaces.Box(-9.0, 9.0, (WIDTH,), np.float32), spaces.Discrete(ACTIONS)
SMALL = PPOConfig(
    num_envs=64, rollout_slots=8, minibatch=256, epochs=2, hidden=(16, 16), learning_rate=1e-3
)


def fill(buffer: Any, seed: int = 0, varying: int = 13, forced: float = 0.4) -> None:
    """A rollout in which each row carries its own number as its action's log probability."""
    rng = np.random.default_rng(seed)
    slots, lanes, width = buffer.observations.shape
    buffer.observations[:] = rng.normal(size=width)
    differ = rng.permutation(width)[:varying]
    buffer.observations[:, :, differ] = rng.normal(size=(slots, lanes, varying))
    buffer.masks[:] = False
    buffer.masks[:, :, 0] = True
    free = rng.random((slots, lanes)) >= forced
    buffer.masks[free] |= rng.random(buffer.masks.shape[2]) < 0.7
    buffer.masks[free, 3] = True
    buffer.actions[:] = np.where(free, 3, 0)
    buffer.log_probs[:] = np.arange(slots * lanes).reshape(slots, lanes)
    buffer.advantages[:], buffer.returns[:] = rng.normal(size=(2, slots, lanes))
    buffer.episode_starts[:] = rng.random((slots, lanes)) < 0.1
    buffer.finish()


def filled(kind: type[SortedRolloutBuffer], skip: bool, **how: Any) -> Any:
    buffer = kind(SLOTS, BOX, DISCRETE, n_envs=LANES)
    buffer.skip_forced, buffer.folds = skip, True
    if isinstance(buffer, SequenceRolloutBuffer):
        buffer.initial_state = torch.zeros(2, LANES, 5)
    fill(buffer, **how)
    return buffer


def numbers(batches: list[Minibatch]) -> list[int]:
    return sorted(int(x) for batch in batches for x in batch.old_log_p)


@pytest.mark.parametrize("kind", [SortedRolloutBuffer, SequenceRolloutBuffer])
@pytest.mark.parametrize("skip", [True, False])
def test_every_state_with_a_choice_is_read_once(
    kind: type[SortedRolloutBuffer], skip: bool
) -> None:
    buffer = filled(kind, skip)
    wanted = np.flatnonzero(buffer.masks.sum(axis=2).reshape(-1) > (1 if skip else 0))
    assert 0 < np.count_nonzero(buffer.masks.sum(axis=2) == 1) < SLOTS * LANES
    batches = list(buffer.get(48))
    assert numbers(batches) == wanted.tolist()
    sizes = [batch.actions.shape[0] for batch in batches]
    if kind is SortedRolloutBuffer:
        assert max(sizes) - min(sizes) <= 1, "no small rest, whose advantages say little"
    assert not skip or all(not len(batch.choices.forced) for batch in batches)


@pytest.mark.parametrize("kind", [SortedRolloutBuffer, SequenceRolloutBuffer])
def test_a_rollout_without_any_choice_teaches_nothing(kind: type[SortedRolloutBuffer]) -> None:
    buffer = filled(kind, True, forced=2.0)
    assert list(buffer.get(48)) == []


@pytest.mark.parametrize("varying", [0, 13, 16, 17, 40])
def test_columns_that_differ_are_fed_and_the_others_are_held(varying: int) -> None:
    buffer = filled(SortedRolloutBuffer, False, varying=varying)
    rows = torch.from_numpy(buffer.observations.reshape(-1, WIDTH))
    if varying == 40:
        assert buffer.reading.varying is None
        assert torch.equal(buffer.reading.fed, rows)
        return
    columns, others, held = buffer.reading.varying
    assert columns.shape[0] == -(-varying // 16) * 16
    assert sorted([*columns.tolist(), *others.tolist()]) == list(range(WIDTH))
    assert torch.equal(buffer.reading.fed, rows[:, columns])
    assert (rows[:, others] == held).all()


class Closed(FirstPriceEnv):
    """Auctions in which one can only pass."""

    def action_masks(self) -> np.ndarray:
        masks = np.zeros_like(super().action_masks())
        masks[:, 0] = True
        return masks


def learner(config: PPOConfig, env: type[FirstPriceEnv] = FirstPriceEnv) -> ScheduledPPO:
    return build(MarketVecEnv(env(config.num_envs)), config, 0, 1 << 30)


def test_without_any_choice_nothing_is_learned() -> None:
    model = learner(SMALL, Closed)
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(2 * 64 * 8)
    for parameter, was in zip(model.policy.parameters(), before, strict=True):
        assert torch.equal(parameter, was)


def test_forced_states_are_left_out_at_gamma_0_only() -> None:
    for gamma, told, left_out in ((0.0, False, True), (0.0, True, False), (0.9, False, False)):
        model = learner(PPOConfig(learning_rate=1e-3, gamma=gamma, learn_from_forced=told))
        assert model.rollout_buffer.skip_forced is left_out


@pytest.mark.parametrize("compiled", [True, False])
def test_gradients_do_not_depend_on_what_is_fed(compiled: bool) -> None:
    """The loss of a minibatch: columns folded into the bias, and all columns fed."""
    settings = PPOConfig(num_envs=LANES, rollout_slots=SLOTS, minibatch=240, compiled=compiled)
    gradients = []
    for fold in (True, False):
        model = learner(settings)
        small: Any = model
        small.observation_space, small.action_space = BOX, DISCRETE
        small._setup_model()
        buffer: Any = model.rollout_buffer
        fill(buffer)
        buffer.log_probs[:] *= -1e-3
        if not fold:
            rows = torch.from_numpy(buffer.observations.reshape(-1, WIDTH))
            buffer._reading = buffer.reading._replace(fed=rows, varying=None)
        np.random.seed(0)  # noqa: NPY002 - the learner's own generator
        torch.manual_seed(0)
        for parameter in model.policy.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        next(model.gradients(joint_gradient(model.policy)))
        gradients.append({n: p.grad for n, p in model.policy.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)
