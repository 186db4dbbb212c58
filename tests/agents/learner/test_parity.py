"""The learners are those of sb3-contrib: same rollouts, same losses, same gradients."""

from collections.abc import Iterator
from functools import partial, partialmethod
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.logger import Logger

from agents.learner.compiled import TERMS, CompiledPerceptron
from agents.learner.ppo import ScheduledPPO
from agents.learner.recurrent import MaskableRecurrentPPO
from agents.learner.rollout_buffer import SortedRolloutBuffer
from agents.learner.vecenv import MarketVecEnv
from models.policy.masked import MaskedPolicy
from models.policy.recurrent import MaskedRecurrentPolicy
from tests.support.auctions import FirstPriceEnv

LANES, SLOTS, EPISODE = 24, 16, 11  # episodes end inside rollouts, apart from each other
ARCH = {"pi": [16, 16], "vf": [16]}
COPIED = ("observations", "rewards", "returns", "episode_starts", "values", "log_probs")
Model = Any


class OpenEnv(FirstPriceEnv):
    """The auctions with every action allowed."""

    def action_masks(self) -> np.ndarray:
        return np.ones_like(super().action_masks())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our learners take the likeliest action, so that two of them play the same rollout."""

    choose, act = MaskedPolicy.choose, CompiledPerceptron.act

    def likeliest(policy: Any, latent: Any, masks: Any, deterministic: bool) -> Any:
        return choose(policy, latent, masks, True)

    monkeypatch.setattr(MaskedPolicy, "choose", likeliest)
    monkeypatch.setattr(CompiledPerceptron, "act", partialmethod(act, deterministic=True))


def trainer(
    kind: Any, policy: Any, env: type[FirstPriceEnv], batch: int, epochs: int, **extra: Any
) -> Model:
    model = kind(
        policy,
        MarketVecEnv(env(LANES, EPISODE)),
        n_steps=SLOTS,
        batch_size=batch,
        n_epochs=epochs,
        gamma=0.9,
        gae_lambda=0.8,
        ent_coef=0.03,
        clip_range=0.1,
        max_grad_norm=0.4,
        learning_rate=1e-2,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": ARCH, **extra},
    )
    model.set_logger(Logger(None, []))
    return model


def own(compiled: bool, epochs: int) -> Model:
    """Our learner by either of its ways."""
    model = trainer(ScheduledPPO, "MlpPolicy", FirstPriceEnv, 64, epochs)
    assert model.engine is not None
    model.engine = model.engine if compiled else None
    return model


def take_weights(ours: Model, theirs: Model) -> None:
    """Give both the same weights, far from the uniform policy of the start."""
    for parameter in theirs.policy.action_net.parameters():
        parameter.data *= 100.0
    ours.policy.load_state_dict(theirs.policy.state_dict())


def collect(model: Model) -> None:
    _, callback = model._setup_learn(10**6, None)
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, SLOTS)


def take_rollout(ours: Model, theirs: Model) -> None:
    """Copy a rollout of the library into our buffer, before the library flattens it."""
    buffer: SortedRolloutBuffer = ours.rollout_buffer
    for name in (*COPIED, "advantages"):
        getattr(buffer, name)[:] = getattr(theirs.rollout_buffer, name)
    buffer.actions[:] = theirs.rollout_buffer.actions[:, :, 0]
    buffer.masks[:] = getattr(theirs.rollout_buffer, "action_masks", 1)
    buffer.finish()


def same_update(ours: Model, theirs: Model, tolerance: float, stopped: bool = False) -> None:
    """Both train on what their buffers hold; logged losses, gradients and weights agree.

    stopped: at a divergence; ours has the gradient of the minibatch that showed it by then.
    """
    for model in (ours, theirs):
        np.random.seed(5)  # noqa: NPY002 - the learners' own generator
        model.train()
    for name in TERMS:
        our, their = (m.logger.name_to_value[f"train/{name}"] for m in (ours, theirs))
        assert our == pytest.approx(their, rel=1e-3, abs=tolerance), name
    pairs = dict(theirs.policy.named_parameters())
    for name, parameter in ours.policy.named_parameters():
        their = pairs[name]
        torch.testing.assert_close(parameter, their, rtol=1e-3, atol=tolerance)
        if not stopped:
            torch.testing.assert_close(
                parameter.grad, their.grad, rtol=1e-3, atol=tolerance, msg=lambda m, n=name: n + m
            )


@pytest.mark.parametrize("compiled", [True, False])
def test_rollouts_are_those_of_maskable_ppo(greedy: None, compiled: bool) -> None:
    ours = own(compiled, 1)
    theirs = trainer(MaskablePPO, "MlpPolicy", FirstPriceEnv, 64, 1)
    take_weights(ours, theirs)
    theirs.policy.forward = partial(theirs.policy.forward, deterministic=True)
    collect(ours)
    collect(theirs)
    assert ours.rollout_buffer.episode_starts[1:].any()
    assert ours.rollout_buffer.reading.patterns.masks.group.size > 1
    for name in (*COPIED, "advantages"):
        our, their = getattr(ours.rollout_buffer, name), getattr(theirs.rollout_buffer, name)
        np.testing.assert_allclose(our, their, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("compiled", [True, False])
def test_updates_are_those_of_maskable_ppo(compiled: bool) -> None:
    """Twelve gradient steps on shuffled minibatches, masks and all."""
    ours = own(compiled, 2)
    theirs = trainer(MaskablePPO, "MlpPolicy", FirstPriceEnv, 64, 2)
    take_weights(ours, theirs)
    collect(theirs)
    take_rollout(ours, theirs)
    same_update(ours, theirs, 2e-4)


@pytest.mark.parametrize("compiled", [True, False])
def test_clipped_values_and_the_divergence_limit_are_those_of_the_library(compiled: bool) -> None:
    extra = {"clip_range_vf": 0.01, "target_kl": 0.001}
    models = [own(compiled, 4), trainer(MaskablePPO, "MlpPolicy", FirstPriceEnv, 64, 4)]
    for model in models:
        model.clip_range_vf, model.target_kl = (lambda _: extra["clip_range_vf"]), 0.001
    ours, theirs = models
    take_weights(ours, theirs)
    collect(theirs)
    take_rollout(ours, theirs)
    same_update(ours, theirs, 2e-4, stopped=True)
    assert ours._n_updates == theirs._n_updates < 4


@pytest.mark.parametrize("critic", [True, False])
def test_rollouts_are_those_of_recurrent_ppo(greedy: None, critic: bool) -> None:
    ours, theirs = recurrent_pair(critic, SLOTS * LANES)
    theirs.policy.forward = partial(theirs.policy.forward, deterministic=True)
    for model in (ours, theirs):
        collect(model)
        _, callback = model._setup_learn(10**6, None, reset_num_timesteps=False)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, SLOTS)
    for name in (*COPIED, "advantages"):
        our, their = getattr(ours.rollout_buffer, name), getattr(theirs.rollout_buffer, name)
        np.testing.assert_allclose(our, their, atol=2e-5, err_msg=name)
    np.testing.assert_allclose(ours.last_state[0], theirs._last_lstm_states.pi[0][0], atol=2e-5)


def recurrent_pair(critic: bool, batch: int) -> tuple[Model, Model]:
    shape = {"lstm_hidden_size": 12, "enable_critic_lstm": critic}
    ours = trainer(MaskableRecurrentPPO, "MlpLstmPolicy", OpenEnv, batch, 1, **shape)
    theirs = trainer(RecurrentPPO, "MlpLstmPolicy", OpenEnv, batch, 1, **shape)
    take_weights(ours, theirs)
    return ours, theirs


@pytest.mark.parametrize("critic", [True, False])
def test_with_all_actions_open_it_is_recurrent_ppo(
    critic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = recurrent_pair(critic, SLOTS * LANES)
    collect(theirs)
    collect(ours)  # leaves a state behind, as a rollout in the middle of a training has
    states = theirs._last_lstm_states
    kept = [*states.pi, *states.vf][: 4 if critic else 2]
    _, callback = theirs._setup_learn(10**6, None, reset_num_timesteps=False)
    theirs.collect_rollouts(theirs.env, callback, theirs.rollout_buffer, SLOTS)
    take_rollout(ours, theirs)
    ours.rollout_buffer.initial_state = torch.cat(kept)
    # RecurrentPPO cuts one sequence in two at a random place: let it be the first.
    monkeypatch.setattr(np.random, "randint", lambda *_: 0)
    same_update(ours, theirs, 1e-5)


def test_without_the_lstm_it_is_maskable_ppo() -> None:
    whole = SLOTS * LANES
    shape = {"lstm_hidden_size": 0}
    ours = trainer(MaskableRecurrentPPO, "MlpLstmPolicy", FirstPriceEnv, whole, 1, **shape)
    theirs = trainer(MaskablePPO, "MlpPolicy", FirstPriceEnv, whole, 1)
    take_weights(ours, theirs)
    collect(theirs)
    take_rollout(ours, theirs)
    ours.rollout_buffer.initial_state = ours.last_state
    same_update(ours, theirs, 1e-5)


@pytest.mark.parametrize("critic", [True, False])
def test_whole_sequences_give_what_single_steps_gave(critic: bool) -> None:
    """Before the first update, a minibatch returns the values and probabilities of the rollout."""
    shape = {"lstm_hidden_size": 12, "enable_critic_lstm": critic}
    model = trainer(MaskableRecurrentPPO, "MlpLstmPolicy", FirstPriceEnv, 4 * SLOTS, 1, **shape)
    for parameter in model.policy.action_net.parameters():
        parameter.data *= 100.0
    for _ in range(2):
        collect(model)
        seen = 0
        for batch in model.rollout_buffer.get(model.batch_size):
            assert batch.starts[1:].any(), "episodes end inside the rollout"
            values, log_p, entropy = model.evaluate(batch)
            torch.testing.assert_close(values, batch.old_values, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(log_p, batch.old_log_p, rtol=1e-4, atol=1e-4)
            assert entropy.min() >= 0.0
            seen += len(batch.actions)
        assert seen == SLOTS * LANES


def test_predict_keeps_the_state_and_obeys_the_masks() -> None:
    model = trainer(
        MaskableRecurrentPPO, "MlpLstmPolicy", FirstPriceEnv, SLOTS, 1, lstm_hidden_size=12
    )
    rng = np.random.default_rng(0)
    state, policy = None, model.policy
    assert isinstance(policy, MaskedRecurrentPolicy)
    for k in range(5):
        obs = rng.random((7, 2)).astype(np.float32)
        masks = rng.random((7, 32)) < 0.2
        masks[:, 3] = True
        starts = np.array([k % 2 == 0] * 3 + [False] * 4)
        actions, after = model.predict(obs, state, starts, action_masks=masks)
        assert masks[np.arange(7), actions].all()
        fresh = model.predict(obs, None, None, action_masks=masks)[1]
        assert state is None or np.array_equal(after[0][0, :3], fresh[0][0, :3]) == (k % 2 == 0)
        assert state is None or not np.array_equal(after[0][0, 3:], fresh[0][0, 3:])
        state = after
    single, _ = model.predict(obs[0], None, deterministic=True)
    assert single == model.predict(obs, None, deterministic=True)[0][0]


def test_minibatches_must_hold_whole_sequences() -> None:
    with pytest.raises(ValueError, match="batch_size 40 holds no whole sequences of 16 steps"):
        trainer(MaskableRecurrentPPO, "MlpLstmPolicy", FirstPriceEnv, 40, 1)
