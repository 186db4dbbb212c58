"""Proximal policy optimisation with masked actions, in plain torch: collect, advantages, loss,
update.

Schulman et al. (2017), invalid actions masked as in Huang and Ontanon (2020). Losses and gradients
are those of sb3-contrib's MaskablePPO up to rounding (tests/agents/learner/test_parity.py). What
makes it quicker: states without a choice are left out at gamma 0, only open actions are scored,
columns that never change are not fed, gradients lie in one tensor, a rollout is never copied.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.utils import FloatSchedule, explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from agents.learner.compiled import CompiledPerceptron, not_compiled_because
from agents.learner.rollout_buffer import Minibatch, SortedRolloutBuffer
from kernels.learning.loss import LossWeights
from models.policy.action_masks import checked_masks
from models.policy.masked import MaskedPolicy
from models.policy.own_network import ActorCriticNetwork, NetworkPolicy

Terms = dict[str, Tensor]
Loss = Callable[["ScheduledPPO", Minibatch], Tensor | tuple[Tensor, Terms]]


class UntrainedError(ValueError):
    """Parameters that no update would change; the message names them."""


def clipped_loss(learner: "ScheduledPPO", batch: Minibatch) -> tuple[Tensor, Terms]:
    """The loss of PPO on a minibatch, and the terms that are logged."""
    values, log_p, entropy = learner.evaluate(batch)
    advantages, clip = learner.normalised(batch.advantages), learner.clip
    log_ratio = log_p - batch.old_log_p
    ratio = log_ratio.exp()
    gain = torch.min(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)
    if learner.clip_value is not None:
        moved = (values - batch.old_values).clamp(-learner.clip_value, learner.clip_value)
        values = batch.old_values + moved
    terms = {
        "policy_gradient_loss": -gain.mean(),
        "value_loss": (values - batch.returns).square().mean(),
        "entropy_loss": -entropy.mean(),
        "approx_kl": (ratio - 1.0 - log_ratio).mean(),
        "clip_fraction": ((ratio - 1.0).abs() > clip).float().mean(),
    }
    loss = terms["policy_gradient_loss"] + learner.vf_coef * terms["value_loss"]
    return loss + learner.ent_coef * terms["entropy_loss"], terms


class ScheduledPPO(MaskablePPO):
    """MaskablePPO for any network and loss, whose schedules may span several calls of `learn`.

    policy: "MlpPolicy", a policy class of stable-baselines3 or sb3-contrib, or any torch module
    class (see `models.policy.own_network`), which is built with policy_kwargs. Environments without
    `action_masks` have every action open. Further arguments are MaskablePPO's, and
    loss: called with the learner and a minibatch, gives the loss or (loss, terms to log).
    compiled: use the compiled kernels where they apply (`agents.learner.compiled`).
    schedule_steps: learning rate and entropy bonus fall to 0 over so many steps; 0: as in
    stable-baselines3, which restarts its schedules at every `learn`.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **MaskablePPO.policy_aliases,
        "MlpPolicy": MaskedPolicy,
    }
    rollout_buffer: SortedRolloutBuffer  # type: ignore[assignment]
    buffer_class: type[SortedRolloutBuffer] = SortedRolloutBuffer

    def __init__(
        self,
        policy: Any,
        env: Any,
        *arguments: Any,
        loss: Loss = clipped_loss,
        compiled: bool = True,
        schedule_steps: int = 0,
        **named: Any,
    ) -> None:
        self.loss_function, self.compiled, self.schedule_steps = loss, compiled, schedule_steps
        self.entropy_start = 0.0
        self.clip, self.clip_value = 0.2, None  # of the update under way
        self.engine: CompiledPerceptron | None = None
        check_device(named.get("device", "auto"))
        if not isinstance(policy, str):
            policy, named["policy_kwargs"] = policy_of(policy, named.get("policy_kwargs"))
        if named.setdefault("rollout_buffer_class", self.buffer_class) is None:
            named["rollout_buffer_class"] = self.buffer_class
        super().__init__(policy, env, *arguments, **named)
        self.entropy_start = self.ent_coef

    def _setup_model(self) -> None:
        """Build policy and buffer; MaskablePPO takes its own policies only."""
        if not isinstance(self.observation_space, spaces.Box):
            raise ValueError(f"observations {self.observation_space}: this learner reads Box")
        if not isinstance(self.action_space, spaces.Discrete):
            raise ValueError(f"actions {self.action_space}: this learner chooses from Discrete")
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        policy: Any = self.policy_class
        named = {} if self.policy_kwargs is None else self.policy_kwargs
        self.policy = policy(self.observation_space, self.action_space, self.lr_schedule, **named)
        self.policy = self.policy.to(self.device)
        buffer: Any = self.rollout_buffer_class
        self.rollout_buffer = buffer(
            self.n_steps,
            self.observation_space,
            self.action_space,
            self.device,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            n_envs=self.n_envs,
            **self.rollout_buffer_kwargs,
        )
        self.clip_range = FloatSchedule(self.clip_range)
        if self.clip_range_vf is not None:
            self.clip_range_vf = FloatSchedule(self.clip_range_vf)
        self._check_memory()
        self._checked = False
        self.rollout_buffer.folds = isinstance(self.policy, MaskedPolicy) and self.policy.folds
        self._choose_engine()

    def _check_memory(self) -> None:
        if getattr(self.policy, "state_shape", None) is not None or hasattr(
            self.policy, "lstm_actor"
        ):
            raise ValueError("this policy has a memory: train it with MaskableRecurrentPPO")

    def _choose_engine(self) -> None:
        reason = not_compiled_because(self, clipped_loss, ScheduledPPO)
        self.engine = None if reason else CompiledPerceptron(self.policy)  # type: ignore[arg-type]
        self.backend = f"torch on {self.device}: {reason}" if reason else "compiled kernels on cpu"
        if self.verbose >= 1:
            print(f"Learning by {self.backend}")

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "engine"]

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        if not self.schedule_steps:
            super()._update_current_progress_remaining(num_timesteps, total_timesteps)
            return
        remaining = max(0.0, 1.0 - num_timesteps / self.schedule_steps)
        self._current_progress_remaining = remaining
        self.ent_coef = self.entropy_start * remaining

    # Collect ----------------------------------------------------------------------------------

    def tensor(self, observations: Any) -> Tensor:
        """Observations on the device of the policy."""
        return torch.as_tensor(observations, device=self.device)

    def act(
        self, observations: NDArray[Any], masks: NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled actions [N], values [N] and log probabilities [N] of the next slot."""
        if self.engine is not None:
            return self.engine.act(observations, masks)
        actions, values, log_p = self.policy(self.tensor(observations), action_masks=masks)
        return actions, values.flatten(), log_p

    def values_of(
        self, observations: NDArray[Any], lanes: NDArray[np.int64], starts: bool
    ) -> Tensor:
        """Values [n] of observations [n, ...] that follow the last slot in `lanes`.

        starts: whether they may belong to the next episode.
        """
        return self.policy.predict_values(self.tensor(observations)).flatten()

    @torch.no_grad()
    def collect_rollouts(  # type: ignore[override]
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: SortedRolloutBuffer,
        n_rollout_steps: int,
        use_masking: bool = True,
    ) -> bool:
        """Play `n_rollout_steps` slots in every market; False when the callback stops it."""
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        masked = use_masking and (hasattr(env, "action_masks") or is_masking_supported(env))
        for _ in range(n_rollout_steps):
            observations = np.asarray(self._last_obs)
            action_masks = self._masks_of(env, masked)
            taken, values, log_p = self.act(observations, action_masks)
            actions = taken.cpu().numpy()
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            if dones.any():
                self._update_info_buffer(infos, dones)
                rewards = self._bootstrapped(rewards, dones, infos)
            starts = np.asarray(self._last_episode_starts)
            rollout_buffer.add(observations, actions, rewards, starts, values, log_p, action_masks)
            self._last_obs, self._last_episode_starts = np.asarray(new_obs), dones
        lanes = np.arange(env.num_envs)
        last = self.values_of(np.asarray(self._last_obs), lanes, starts=True)
        rollout_buffer.compute_returns_and_advantage(last_values=last.cpu(), dones=dones)
        callback.on_rollout_end()
        return True

    def _masks_of(self, env: VecEnv, masked: bool) -> NDArray[np.bool_]:
        """Allowed actions bool[N, A] of the present observations. Raises MaskError."""
        ask = getattr(env, "action_masks", None)
        found = (get_action_masks(env) if ask is None else ask()) if masked else None
        return checked_masks(found, env.num_envs, int(self.action_space.n))  # type: ignore[attr-defined]

    def _bootstrapped(
        self, rewards: NDArray[np.float32], dones: NDArray[np.bool_], infos: list[dict[str, Any]]
    ) -> NDArray[np.float32]:
        """Rewards [N] plus the discounted value of what an episode's time limit cut off."""
        cut = [i for i in np.flatnonzero(dones) if infos[i].get("TimeLimit.truncated", False)]
        if not cut or self.gamma == 0.0:
            return rewards
        lanes = np.array(cut, np.int64)
        final = np.stack([infos[i]["terminal_observation"] for i in cut])
        final = final.astype(self.observation_space.dtype)
        rewards = rewards.copy()
        rewards[lanes] += self.gamma * self.values_of(final, lanes, starts=False).cpu().numpy()
        return rewards

    # Learn ------------------------------------------------------------------------------------

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Values [n], log probabilities [n] of the actions and entropies [n], with gradient."""
        if isinstance(self.policy, MaskedPolicy):
            return self.policy.evaluate(
                batch.observations, batch.actions, batch.choices, batch.varying
            )
        policy: Any = self.policy
        found = policy.evaluate_actions(batch.observations, batch.actions, action_masks=batch.masks)
        values, log_p, entropy = found
        return values.flatten(), log_p, -log_p if entropy is None else entropy

    def normalised(self, advantages: Tensor) -> Tensor:
        """Advantages with mean 0 and standard deviation 1, where that is asked for."""
        if not self.normalize_advantage or len(advantages) < 2:
            return advantages
        return (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    def loss(self, batch: Minibatch) -> Tensor | tuple[Tensor, Terms]:
        """The loss of a minibatch, with terms to log or without."""
        return self.loss_function(self, batch)

    def gradients(self, gradient: Tensor) -> Iterator[Terms]:
        """One epoch: takes the gradient of a minibatch into `gradient`, yields its terms, again."""
        if self.engine is not None:
            clip_value = -1.0 if self.clip_value is None else self.clip_value
            scalars = map(float, (self.clip, clip_value, self.ent_coef, self.vf_coef))
            yield from self.engine.gradients(
                self.rollout_buffer,
                self.batch_size,
                self.normalize_advantage,
                LossWeights(*scalars),
            )
            return
        for batch in self.rollout_buffer.get(self.batch_size):
            found = self.loss(batch)
            loss, terms = found if isinstance(found, tuple) else (found, {"loss": found})
            if not self._checked:
                self._check_trained(loss, bool(batch.choices.groups))
            gradient.zero_()
            loss.backward()
            yield {name: term.detach() for name, term in terms.items()}

    def _check_trained(self, loss: Tensor, choices: bool) -> None:
        """Refuse parameters that no update would change. Raises UntrainedError."""
        groups = self.policy.optimizer.param_groups
        stepped = {id(p) for group in groups for p in group["params"]}
        named = [(n, p) for n, p in self.policy.named_parameters() if p.requires_grad]
        outside = [name for name, p in named if id(p) not in stepped]
        if outside:
            raise UntrainedError(
                f"outside the optimizer: {', '.join(outside)}; build modules before the optimizer, "
                "or set requires_grad to False"
            )
        if not choices:  # nothing says how to choose: look at the next minibatch
            return
        parts = [p for _, p in named]
        found = torch.autograd.grad(loss, parts, allow_unused=True, retain_graph=True)
        missed = [name for (name, _), part in zip(named, found, strict=True) if part is None]
        if missed:
            raise UntrainedError(
                f"the loss does not depend on {', '.join(missed)}: nothing would train them; use "
                "them in forward, or set requires_grad to False"
            )
        self._checked = True

    def train(self) -> None:
        """Update the networks from the rollout buffer."""
        self.policy.set_training_mode(True)
        optimizer, remaining = self.policy.optimizer, self._current_progress_remaining
        self._update_learning_rate(optimizer)
        self.clip = self.clip_range(remaining)  # type: ignore[operator]
        self.clip_value = self.clip_range_vf and self.clip_range_vf(remaining)  # type: ignore[operator]
        gradient = joint_gradient(self.policy)
        terms: list[Terms] = []
        before, stopped = 0, False
        for _ in range(self.n_epochs):
            before = len(terms)
            for measured in self.gradients(gradient):
                terms.append(measured)
                kl = measured.get("approx_kl")
                stopped = (
                    self.target_kl is not None
                    and kl is not None
                    and bool(kl > 1.5 * self.target_kl)
                )
                if stopped:
                    break
                # As torch.nn.utils.clip_grad_norm_, in one pass instead of one per parameter.
                gradient.mul_((self.max_grad_norm / (gradient.norm() + 1e-6)).clamp_(max=1.0))
                optimizer.step()
            self._n_updates += 1
            if stopped:
                break
        self._log_update(terms, before)

    def _log_update(self, terms: list[Terms], last_epoch: int) -> None:
        """Log means; the divergence, as in the library, over the last epoch alone."""
        if not terms:  # no state had a choice
            return
        for name in terms[0]:
            since = last_epoch if name == "approx_kl" else 0
            mean = torch.stack([measured[name] for measured in terms[since:]]).double().mean()
            self.logger.record(f"train/{name}", mean.item())
        buffer = self.rollout_buffer
        learned = buffer.reading.learned
        explained = explained_variance(
            buffer.values.flatten()[learned], buffer.returns.flatten()[learned]
        )
        self.logger.record("train/explained_variance", explained)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", self.clip)
        self.logger.record("train/backend", self.backend, exclude="tensorboard")


def check_device(device: Any) -> None:
    """Refuse a GPU that is not there: stable-baselines3 would silently take the processor."""
    wanted = torch.device("cpu" if device == "auto" else device)
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device}: torch finds no GPU here; give cpu")


def joint_gradient(policy: nn.Module) -> Tensor:
    """One float32 tensor whose parts are the gradients of all parameters from now on."""
    parameters = [p for p in policy.parameters() if p.requires_grad]
    whole = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    at = 0
    for p in parameters:
        p.grad = whole[at : at + p.numel()].view_as(p)
        at += p.numel()
    return whole


def policy_of(policy: Any, arguments: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    """The policy class and its arguments for what a user gave. Raises ValueError."""
    named = dict(arguments or {})
    if isinstance(policy, nn.Module):
        raise ValueError(f"{type(policy).__name__}() is a module: give its class, not an instance")
    if not isinstance(policy, type):
        if callable(policy):
            return NetworkPolicy, {"network": policy, **named}
        raise ValueError(f"policy {policy!r}: give a name, a policy class or a torch module class")
    if issubclass(policy, MaskableActorCriticPolicy | NetworkPolicy):
        return policy, named
    if issubclass(policy, ActorCriticPolicy):
        return NetworkPolicy, {"network": ActorCriticNetwork, "policy_class": policy, **named}
    if issubclass(policy, nn.Module) and not issubclass(policy, BasePolicy):
        return NetworkPolicy, {"network": policy, **named}
    raise ValueError(f"policy {policy.__name__}: it has no logits; give an actor-critic policy")
