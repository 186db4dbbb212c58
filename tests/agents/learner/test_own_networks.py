"""Networks, losses and policies of one's own, as stable-baselines3 users write them."""

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from agents.config import PPOConfig
from agents.learner.build import backend_of, build
from agents.learner.ppo import Minibatch, ScheduledPPO, UntrainedError, clipped_loss
from agents.learner.recurrent import MaskableRecurrentPPO
from agents.learner.vecenv import MarketVecEnv
from models.extensions import ExtensionError
from models.policy.action_masks import MaskError
from models.policy.own_network import NetworkError
from tests.support.auctions import FirstPriceEnv

SMALL: dict[str, Any] = {"n_steps": 8, "batch_size": 64, "n_epochs": 2, "seed": 0, "device": "cpu"}


class Network(nn.Module):
    """Logits and values by layers of its own."""

    def __init__(
        self, observation_space: spaces.Box, action_space: spaces.Discrete, width: int = 8
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(observation_space.shape[0], width), nn.GELU())
        self.logits = nn.Linear(width, int(action_space.n))
        self.value = nn.Linear(width, 1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(observations)
        return self.logits(hidden), self.value(hidden)


class Memory(nn.Module):
    """A GRU before the heads."""

    state_shape: ClassVar[tuple[int, int]] = (1, 6)

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Discrete) -> None:
        super().__init__()
        self.cell = nn.GRUCell(observation_space.shape[0], 6)
        self.logits = nn.Linear(6, int(action_space.n))
        self.value = nn.Linear(6, 1)

    def forward(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.cell(observations, state[0])
        return self.logits(hidden), self.value(hidden).squeeze(1), hidden[None]


class Unused(Network):
    """Has a layer that forward forgets."""

    def __init__(self, *spaces_: Any) -> None:
        super().__init__(*spaces_)
        self.forgotten = nn.Linear(3, 3)


class Extractor(BaseFeaturesExtractor):
    """Features with parameters of their own."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 5)
        self.layer = nn.Linear(observation_space.shape[0], 5)

    def forward(self, observations: Tensor) -> Tensor:
        return torch.relu(self.layer(observations))


class PoleEnv(gymnasium.Env[Any, Any]):
    """No masks, observations of three numbers, episodes of 5 steps."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        seen = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return seen, float(action == 2), False, self.t >= 5, {}


class MaskedPoleEnv(PoleEnv):
    """By the convention of sb3-contrib; action 3 is never open, action 2 rarely."""

    def action_masks(self) -> np.ndarray:
        return np.array([True, True, self.t % 2 == 0, False])


def auctions() -> MarketVecEnv:
    return MarketVecEnv(FirstPriceEnv(16, slots=11))


def weighted(learner: ScheduledPPO, batch: Minibatch, weight: float = 1.0) -> Tensor:
    """A policy gradient without clipping."""
    values, log_p, entropy = learner.evaluate(batch)
    advantages = learner.normalised(batch.advantages)
    ratio = (log_p - batch.old_log_p).exp()
    return weight * (values - batch.returns).square().mean() - (ratio * advantages + entropy).mean()


def own(policy: Any = "MlpPolicy", kind: Any = ScheduledPPO, **named: Any) -> Any:
    return kind(policy, auctions(), **{**SMALL, **named})


def trained(model: Any) -> dict[str, Tensor]:
    """Weights after some updates; every one of them moved."""
    before = {name: p.clone() for name, p in model.policy.named_parameters()}
    model.learn(3 * model.n_steps * model.n_envs)
    after = dict(model.policy.named_parameters())
    for name, was in before.items():
        assert not torch.equal(after[name], was), f"{name} was not trained"
        assert torch.isfinite(after[name]).all(), name
    return after


POLICIES: list[Any] = [
    (ScheduledPPO, "MlpPolicy", {}),
    (ScheduledPPO, "MlpPolicy", {"activation_fn": nn.ReLU, "net_arch": [7]}),
    (ScheduledPPO, "MlpPolicy", {"features_extractor_class": Extractor}),
    (ScheduledPPO, MaskableActorCriticPolicy, {"features_extractor_class": Extractor}),
    (ScheduledPPO, ActorCriticPolicy, {"net_arch": [9]}),
    (ScheduledPPO, Network, {"width": 12}),
    (MaskableRecurrentPPO, "MlpLstmPolicy", {"lstm_hidden_size": 5}),
    (
        MaskableRecurrentPPO,
        "MlpLstmPolicy",
        {"features_extractor_class": Extractor, "enable_critic_lstm": True},
    ),
    (MaskableRecurrentPPO, Memory, {}),
]
NAMES = [f"{getattr(p, '__name__', p)}-{'-'.join(k)}" for _, p, k in POLICIES]


@pytest.mark.parametrize(("kind", "policy", "named"), POLICIES, ids=NAMES)
def test_every_parameter_of_every_policy_is_trained_saved_and_loaded(
    kind: Any, policy: Any, named: dict[str, Any], tmp_path: Path
) -> None:
    model = own(policy, kind, policy_kwargs=named)
    weights = trained(model)
    model.save(tmp_path / "model.zip")
    loaded = kind.load(tmp_path / "model.zip", env=auctions(), device="cpu")
    for name, parameter in loaded.policy.named_parameters():
        assert torch.equal(parameter, weights[name]), name
    seen = auctions().reset()
    ours, theirs = (m.predict(seen, deterministic=True)[0] for m in (model, loaded))
    assert np.array_equal(ours, theirs)
    trained(loaded)


@pytest.mark.parametrize("env", [PoleEnv, MaskedPoleEnv])
@pytest.mark.parametrize("kind", [ScheduledPPO, MaskableRecurrentPPO])
def test_the_one_liner_of_stable_baselines3_works(env: Any, kind: Any) -> None:
    """With masks by the convention of sb3-contrib and without any."""

    class Count(BaseCallback):
        def _on_step(self) -> bool:
            taken.extend(self.locals["actions"].tolist())
            return True

    taken: list[int] = []
    policy = "MlpPolicy" if kind is ScheduledPPO else "MlpLstmPolicy"
    model = kind(policy, env(), n_steps=16, batch_size=16, seed=0, device="cpu")
    model.learn(64, callback=Count())
    assert len(taken) == 64
    assert (3 in taken) is (env is PoleEnv)
    action, _ = model.predict(np.zeros(3, np.float32), deterministic=True)
    assert model.action_space.contains(int(action))


def test_a_loss_of_ones_own_is_learned_from_and_its_terms_are_logged() -> None:
    def loss(learner: ScheduledPPO, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        found = weighted(learner, batch)
        return found, {"mine": found}

    model = own(loss=loss)
    assert "loss" in model.backend
    trained(model)
    assert np.isfinite(model.logger.name_to_value["train/mine"])
    assert "train/policy_gradient_loss" not in model.logger.name_to_value

    class Own(ScheduledPPO):
        def loss(self, batch: Minibatch) -> Tensor:
            return weighted(self, batch)

    other = own(kind=Own)
    for name, weight in trained(other).items():
        assert torch.equal(weight, dict(model.policy.named_parameters())[name]), name


def test_network_and_loss_are_named_in_the_configuration() -> None:
    path = "tests.agents.learner.test_own_networks"
    config = PPOConfig(
        num_envs=16,
        rollout_slots=8,
        minibatch=64,
        network=f"{path}:Network",
        network_arguments={"width": 24},
        loss=f"{path}:weighted",
        loss_arguments={"weight": 0.3},
    )
    model = build(auctions(), config, 0, 1 << 20)
    assert model.policy.network.body[0].out_features == 24  # type: ignore[union-attr,index]
    trained(model)
    memory = PPOConfig(num_envs=16, rollout_slots=8, minibatch=64, network=f"{path}:Memory")
    model = build(auctions(), memory, 0, 1 << 20)
    assert isinstance(model, MaskableRecurrentPPO)
    trained(model)
    wrong = PPOConfig(num_envs=16, rollout_slots=8, minibatch=64, network=f"{path}:SMALL")
    with pytest.raises(ExtensionError, match=r"ppo\.network"):
        build(auctions(), wrong, 0, 1 << 20)


def test_what_nothing_would_train_is_refused_by_name() -> None:
    with pytest.raises(UntrainedError, match=r"network\.forgotten\.weight"):
        own(Unused).learn(128)

    class Late(MaskableActorCriticPolicy):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.late = nn.Parameter(torch.ones(1))

    with pytest.raises(UntrainedError, match="outside the optimizer: late"):
        own(Late).learn(128)

    def actor_only(learner: ScheduledPPO, batch: Minibatch) -> Tensor:
        return -learner.evaluate(batch)[1].mean()

    with pytest.raises(UntrainedError, match="value_net"):
        own(loss=actor_only).learn(128)


def test_frozen_parameters_may_be_left_alone() -> None:
    model = own(Network)
    model.policy.network.body.requires_grad_(requires_grad=False)
    before = [p.clone() for p in model.policy.network.body.parameters()]
    model.learn(256)
    for parameter, was in zip(model.policy.network.body.parameters(), before, strict=True):
        assert torch.equal(parameter, was)


class NarrowLogits(Network):
    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        logits, values = super().forward(observations)
        return logits[:, 1:], values


class WideValues(Network):
    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        logits, _ = super().forward(observations)
        return logits, logits


class LogitsAlone(Network):
    def forward(self, observations: Tensor) -> Any:
        return super().forward(observations)[0]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (NarrowLogits, r"logits \[16, 31\] for 16 observations and 32 actions"),
        (WideValues, r"values \[16, 32\] for 16 observations"),
        (LogitsAlone, "give logits and values"),
    ],
)
def test_outputs_of_another_shape_are_refused(policy: Any, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        own(policy).learn(128)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="device cuda: torch finds no GPU here"):
        own(device="cuda")
    with pytest.raises(ValueError, match="device cuda: torch finds no GPU here"):
        backend_of(PPOConfig(device="cuda"))


def test_memories_and_learners_must_fit() -> None:
    with pytest.raises(ValueError, match="train it with MaskableRecurrentPPO"):
        own(Memory)
    with pytest.raises(ValueError, match="state_shape"):
        own(Network, MaskableRecurrentPPO)
    with pytest.raises(ValueError, match="give its class"):
        own(nn.Linear(2, 2))


class WrongMasks(FirstPriceEnv):
    width = 5000

    def action_masks(self) -> np.ndarray:
        return np.ones((self.num_envs, self.width), np.bool_)


@pytest.mark.parametrize("compiled", [True, False])
def test_masks_of_another_width_are_refused_in_training(compiled: bool) -> None:
    model = ScheduledPPO("MlpPolicy", MarketVecEnv(WrongMasks(16)), compiled=compiled, **SMALL)
    with pytest.raises(MaskError, match=r"shape \[16, 5000\]: give \[16, 32\]"):
        model.learn(128)


def test_own_networks_score_rollouts_as_they_were_played() -> None:
    """Without memory and with: before the first update nothing has changed."""
    for model in (own(Network), own(Memory, MaskableRecurrentPPO)):
        _, callback = model._setup_learn(1 << 20, None)
        for _ in range(2):
            model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        with torch.no_grad():
            for batch in model.rollout_buffer.get(64):
                values, log_p, _ = model.evaluate(batch)
                torch.testing.assert_close(values, batch.old_values, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(log_p, batch.old_log_p, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("kind", "policy", "named"), POLICIES, ids=NAMES)
def test_the_gpu_learns_what_the_processor_learns(kind: Any, policy: Any, named: Any) -> None:
    models = [
        own(policy, kind, policy_kwargs=named, device=device, compiled=False)
        for device in ("cpu", "cuda")
    ]
    models[1].policy.load_state_dict(models[0].policy.state_dict())
    for model in models:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - the learner's own generator
        model.learn(128)
    for ours, theirs in zip(*(model.policy.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs.cpu(), rtol=1e-3, atol=1e-4)


def test_the_default_loss_is_the_default() -> None:
    assert own().loss_function is clipped_loss
