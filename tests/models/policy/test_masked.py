"""The fast masked policy equals sb3-contrib's in probabilities, values, entropies and gradients."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy

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
