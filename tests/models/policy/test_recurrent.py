"""The recurrent policy answers with its memory or not at all."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from models.policy.action_masks import MaskError
from models.policy.own_network import NetworkError
from models.policy.recurrent import MaskedRecurrentPolicy

BOX = spaces.Box(-5.0, 5.0, (9,), np.float32)
METHODS: list[Any] = [
    lambda policy, obs: policy(obs),
    lambda policy, obs: policy.evaluate_actions(obs, torch.zeros(len(obs), dtype=torch.int64)),
    lambda policy, obs: policy.get_distribution(obs),
    lambda policy, obs: policy.predict_values(obs),
    lambda policy, obs: policy._predict(obs),
]


def policy_of(units: int, width: int = 9, **named: Any) -> MaskedRecurrentPolicy:
    torch.manual_seed(0)
    box = spaces.Box(-5.0, 5.0, (width,), np.float32)
    return MaskedRecurrentPolicy(
        box, spaces.Discrete(13), lambda _: 1e-3, lstm_hidden_size=units, **named
    )


# The widths at which layers without their LSTM would fit the observation, and others.
@pytest.mark.parametrize(("units", "width"), [(9, 9), (64, 9), (6, 9), (64, 200)])
@pytest.mark.parametrize("method", METHODS)
def test_methods_that_know_no_state_are_refused(method: Any, units: int, width: int) -> None:
    with pytest.raises(TypeError, match="knows no state, and this policy has an LSTM"):
        method(policy_of(units, width), torch.randn(5, width))


@pytest.mark.parametrize("method", METHODS)
def test_without_an_lstm_they_are_those_of_the_masked_policy(method: Any) -> None:
    method(policy_of(0), torch.randn(5, 9))


def test_predict_checks_what_it_is_given() -> None:
    policy, obs = policy_of(6), np.zeros((4, 9), np.float32)
    with pytest.raises(MaskError, match=r"\[4, 5000\]"):
        policy.predict(obs, action_masks=np.ones((4, 5000), np.bool_))
    with pytest.raises(NetworkError, match="state of shape"):
        policy.predict(obs, state=(np.zeros((1, 3, 6), np.float32),) * 2)
    with pytest.raises(ValueError, match="shape"):
        policy.predict(np.zeros((4, 8), np.float32))


@pytest.mark.parametrize("critic", [True, False])
def test_steps_and_sequences_agree(critic: bool) -> None:
    """Three slots of four markets, in which two episodes start."""
    policy, rng = policy_of(6, enable_critic_lstm=critic), np.random.default_rng(0)
    for parameter in policy.action_net.parameters():
        parameter.data *= 300.0
    obs = torch.from_numpy(rng.normal(size=(3, 4, 9)).astype(np.float32))
    starts = np.zeros((3, 4), np.bool_)
    starts[0, 1] = starts[2, 3] = True
    masks = rng.random((12, 13)) < 0.5
    masks[:, 2] = True
    masks = masks[np.argsort(masks.sum(axis=1), kind="stable")].reshape(3, 4, 13)
    first = torch.randn(policy.new_state(4).shape)
    state, wanted = first, []
    with torch.no_grad():
        for t in range(3):
            state = state * torch.from_numpy(~starts[t])[:, None]
            actions, values, log_p, state = policy.step(obs[t], state, masks[t])
            wanted.append((values, log_p, actions))
        values, log_p, actions = (torch.cat(parts) for parts in zip(*wanted, strict=True))
        order, choices = policy._sorted(masks.reshape(12, 13), 12)
        rows = torch.from_numpy(order)
        found = policy.evaluate_sequences(
            obs.flatten(0, 1), starts, first, rows, actions[rows], choices
        )
    torch.testing.assert_close(found[0], values[rows], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], log_p[rows], rtol=1e-4, atol=1e-4)
