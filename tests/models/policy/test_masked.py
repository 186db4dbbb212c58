"""The fast masked policy equals sb3-contrib's in probabilities, values, entropies and gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from models.policy.action_masks import MaskError
from models.policy.masked import MaskedPolicy

OBSERVATION = spaces.Box(-5.0, 5.0, (9,), np.float32)
ACTION = spaces.Discrete(13)


def pair_of_policies() -> tuple[MaskedPolicy, MaskableActorCriticPolicy]:
    arch = {"pi": [16], "vf": [16]}
    ours = MaskedPolicy(OBSERVATION, ACTION, lambda _: 1e-3, net_arch=arch)
    theirs = MaskableActorCriticPolicy(OBSERVATION, ACTION, lambda _: 1e-3, net_arch=arch)
    # An initial policy is uniform and would hide errors.
    for parameter in ours.action_net.parameters():
        parameter.data *= 300.0
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("masked", [True, False])
def test_same_probabilities_entropies_and_gradients(masked: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = pair_of_policies()
    obs = torch.randn(64, 9)
    allowed = torch.rand(64, 13) < 0.3
    allowed[:, 0] = True
    allowed[0, 1:] = False  # one observation that leaves a single action
    masks = allowed if masked else None
    actions = torch.multinomial(allowed.float(), 1).squeeze(1)
    outputs = []
    for policy in (ours, theirs):
        values, log_p, entropy = policy.evaluate_actions(obs, actions, action_masks=masks)
        assert entropy is not None
        (log_p.mean() + 0.3 * entropy.mean() + values.pow(2).mean()).backward()
        gradients = [p.grad for p in policy.parameters() if p.grad is not None]
        outputs.append((values.flatten(), log_p, entropy, *gradients))
    assert len(outputs[0]) == len(outputs[1]) == 3 + 8
    for our, their in zip(*outputs):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-6)


def test_deterministic_actions_agree_and_samples_obey_the_mask() -> None:
    torch.manual_seed(1)
    ours, theirs = pair_of_policies()
    obs = torch.randn(4000, 9)
    masks = torch.rand(4000, 13) < 0.2
    masks[:, 4] = True
    best, _, log_p = ours(obs, deterministic=True, action_masks=masks)
    assert torch.equal(best, theirs(obs, deterministic=True, action_masks=masks)[0])
    sampled, _, sampled_log_p = ours(obs, action_masks=masks)
    assert masks[torch.arange(4000), sampled].all()
    assert torch.all(sampled_log_p <= log_p + 1e-6)


def test_samples_follow_the_probabilities() -> None:
    torch.manual_seed(2)
    ours, _ = pair_of_policies()
    obs = torch.randn(1, 9).repeat(40_000, 1)
    with torch.no_grad():
        actions, _, _ = ours(obs)
        _, log_p, _ = ours.evaluate_actions(obs[:13], torch.arange(13))
    p = log_p.exp().numpy()
    counted = np.bincount(actions.numpy(), minlength=13) / 40_000
    assert np.abs(counted - p).max() <= 5 * np.sqrt(p.max() / 40_000)


class Doubled(BaseFeaturesExtractor):
    """A features extractor with parameters of its own."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 24)
        self.layer = nn.Linear(9, 24)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(observations))


@pytest.mark.parametrize("shared", [True, False])
def test_a_features_extractor_of_ones_own_gets_the_gradients_of_the_library(shared: bool) -> None:
    named: Any = {
        "features_extractor_class": Doubled,
        "share_features_extractor": shared,
        "activation_fn": nn.ReLU,
    }
    torch.manual_seed(0)
    ours = MaskedPolicy(OBSERVATION, ACTION, lambda _: 1e-3, **named)
    theirs = MaskableActorCriticPolicy(OBSERVATION, ACTION, lambda _: 1e-3, **named)
    theirs.load_state_dict(ours.state_dict())
    obs, masks = torch.randn(30, 9), torch.rand(30, 13) < 0.5
    masks[:, 2] = True
    actions = torch.full((30,), 2)
    for policy in (ours, theirs):
        values, log_p, entropy = policy.evaluate_actions(obs, actions, action_masks=masks)
        assert entropy is not None
        (values.square().mean() + log_p.mean() + entropy.mean()).backward()
    pairs = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, pairs[name].grad, rtol=1e-4, atol=1e-6)


def test_a_closed_action_has_the_log_probability_of_a_masked_logit() -> None:
    """As sb3-contrib: about -1e8, and not that of another action."""
    ours, theirs = pair_of_policies()
    obs, masks = torch.randn(13, 9), np.zeros((13, 13), np.bool_)
    masks[:, 3:11] = True
    masks[6:] = False
    masks[6:, 4] = True  # forced
    actions = torch.arange(13)
    for policy in (ours, theirs):
        _, log_p, _ = policy.evaluate_actions(obs, actions, action_masks=torch.from_numpy(masks))
        closed = torch.from_numpy(~masks[np.arange(13), actions.numpy()])
        assert closed.sum() == 10
        torch.testing.assert_close(log_p[closed], torch.full((10,), -1e8), rtol=1e-6, atol=0.0)
        assert (log_p[~closed] > -50.0).all()


@pytest.mark.parametrize(
    "masks", [np.ones((5, 5000), np.bool_), np.full((5, 13), 0.5), np.full((5, 13), np.nan)]
)
def test_masks_that_do_not_fit_are_refused_by_every_method(masks: Any) -> None:
    ours, _ = pair_of_policies()
    obs, actions = torch.randn(5, 9), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(MaskError):
        ours(obs, action_masks=masks)
    with pytest.raises(MaskError):
        ours.evaluate_actions(obs, actions, action_masks=masks)
    with pytest.raises(MaskError):
        ours.get_distribution(obs, masks)
    with pytest.raises(MaskError):
        ours.predict(obs.numpy(), action_masks=masks)


@pytest.mark.parametrize("action", [-1, 13, 1 << 40])
def test_an_action_outside_the_table_is_refused(action: int) -> None:
    ours, _ = pair_of_policies()
    with pytest.raises(MaskError, match="whole numbers from 0 to 12"):
        ours.evaluate_actions(torch.randn(2, 9), torch.tensor([0, action]))
