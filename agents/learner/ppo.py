"""MaskablePPO of sb3-contrib, quicker, with schedules that survive interruption.

Schulman et al. (2017), with invalid actions masked as in Huang and Ontanon (2020). Losses and
gradients are those of sb3-contrib up to rounding; tests/agents/learner/test_parity.py compares
them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.learner.rollout_buffer import Minibatch, SortedRolloutBuffer
from models.policy.masked import MaskedPolicy
from models.policy.perceptron_passes import Gradient
from models.policy.policy_passes import LossWeights

# Terms of one gradient step that are averaged over an update, under the names of the library.
TERMS = (
    "train/policy_gradient_loss",
    "train/value_loss",
    "train/entropy_loss",
    "train/approx_kl",
    "train/clip_fraction",
)


def masks_of(env: VecEnv, use_masking: bool = True) -> NDArray[np.bool_]:
    """Allowed actions bool[N, A] of the present observations; all of them without masking."""
    if not use_masking:
        return np.ones((env.num_envs, int(env.action_space.n)), np.bool_)  # type: ignore[attr-defined]
    ask = getattr(env, "action_masks", None)
    return np.asarray(get_action_masks(env) if ask is None else ask(), np.bool_)


def joint_gradient(policy: torch.nn.Module) -> Tensor:
    """One float32 tensor whose parts are the gradients of all parameters from now on."""
    parameters = list(policy.parameters())
    whole = torch.zeros(sum(p.numel() for p in parameters))
    at = 0
    for p in parameters:
        p.grad = whole[at : at + p.numel()].view_as(p)
        at += p.numel()
    return whole


class ScheduledPPO(MaskablePPO):
    """MaskablePPO whose learning rate and entropy bonus fall to 0 over `schedule_steps`.

    stable-baselines3 restarts its schedules at every `learn`; a trainer that stops for checkpoints
    must not. With `schedule_steps` 0 the library's behaviour is kept.

    rollout_buffer.skip_forced leaves out states with a single allowed action. At gamma 0 they teach
    nothing: the actor has no choice there, and no other state's value is estimated from theirs.
    """

    policy: MaskedPolicy  # type: ignore[assignment]
    rollout_buffer: SortedRolloutBuffer  # type: ignore[assignment]
    buffer_class: type[SortedRolloutBuffer] = SortedRolloutBuffer
    schedule_steps: int = 0
    entropy_start: float = 0.0

    def __init__(self, policy: Any, env: Any, **arguments: Any) -> None:
        arguments.setdefault("rollout_buffer_class", self.buffer_class)
        super().__init__(policy, env, **arguments)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        if not self.schedule_steps:
            super()._update_current_progress_remaining(num_timesteps, total_timesteps)
            return
        remaining = max(0.0, 1.0 - num_timesteps / self.schedule_steps)
        self._current_progress_remaining = remaining
        self.ent_coef = self.entropy_start * remaining

    def act(
        self, observations: NDArray[np.float32], masks: NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled actions [N], values [N, 1] and log probabilities [N] of the next slot."""
        return self.policy(
            torch.as_tensor(observations),
            action_masks=masks,
            value_forced=not self.rollout_buffer.skip_forced,
        )

    def values_of(
        self, observations: NDArray[np.float32], lanes: NDArray[np.int64], starts: bool
    ) -> Tensor:
        """Values [n] of observations [n, D] that follow the last slot in `lanes`.

        starts: whether they may belong to the next episode.
        """
        return self.policy.predict_values(torch.as_tensor(observations)).flatten()

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
        lanes = np.arange(env.num_envs)
        for _ in range(n_rollout_steps):
            observations = np.asarray(self._last_obs)
            action_masks = masks_of(env, use_masking)
            taken, values, log_p = self.act(observations, action_masks)
            actions = taken.numpy()
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            if dones.any():
                self._update_info_buffer(infos, dones)
                rewards = self._bootstrapped(rewards, dones, infos)
            rollout_buffer.add(
                observations,
                actions,
                rewards,
                np.asarray(self._last_episode_starts),
                values,
                log_p,
                action_masks,
            )
            self._last_obs, self._last_episode_starts = np.asarray(new_obs), dones
        last = self.values_of(np.asarray(self._last_obs), lanes, starts=True)
        rollout_buffer.compute_returns_and_advantage(last_values=last, dones=dones)
        callback.on_rollout_end()
        return True

    def _bootstrapped(
        self, rewards: NDArray[np.float32], dones: NDArray[np.bool_], infos: list[dict[str, Any]]
    ) -> NDArray[np.float32]:
        """Rewards [N] plus the discounted value of what an episode's time limit cut off."""
        cut = [i for i in np.flatnonzero(dones) if infos[i].get("TimeLimit.truncated", False)]
        if not cut or self.gamma == 0.0:
            return rewards
        lanes = np.array(cut, np.int64)
        final = np.stack([infos[i]["terminal_observation"] for i in cut]).astype(np.float32)
        rewards = rewards.copy()
        rewards[lanes] += self.gamma * self.values_of(final, lanes, starts=False).numpy()
        return rewards

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Values [n], log probabilities [n] of the actions and entropies [n]."""
        observed, varying = batch.observations, batch.varying
        log_p, entropy = self.policy.score(observed, batch.actions, batch.choices, varying)
        return self.policy.values(observed, varying), log_p, entropy

    def gradients(
        self, gradient: Tensor, clip: float, clip_value: float | None
    ) -> Iterator[Tensor]:
        """One epoch: takes the gradient of a minibatch into `gradient`, yields TERMS, again."""
        buffer, reading = self.rollout_buffer, self.rollout_buffer.reading
        masks = reading.patterns.masks
        whole = Gradient(self.policy, buffer.samples(), masks, reading.varying)
        weights = LossWeights(clip, clip_value, self.ent_coef, self.vf_coef)
        for rows in buffer.parts(self.batch_size):
            yield whole.take(rows, self.normalize_advantage, weights)

    def train(self) -> None:
        """Update the networks from the rollout buffer."""
        self.policy.set_training_mode(True)
        optimizer = self.policy.optimizer
        self._update_learning_rate(optimizer)
        remaining = self._current_progress_remaining
        clip = self.clip_range(remaining)  # type: ignore[operator]
        clip_value = None if self.clip_range_vf is None else self.clip_range_vf(remaining)  # type: ignore[operator]
        gradient = joint_gradient(self.policy)
        terms: list[Tensor] = []
        for _ in range(self.n_epochs):
            stopped, before = False, len(terms)
            for measured in self.gradients(gradient, clip, clip_value):
                terms.append(measured)
                stopped = self.target_kl is not None and measured[3] > 1.5 * self.target_kl
                if stopped:
                    break
                # As torch.nn.utils.clip_grad_norm_, in one pass instead of one per parameter.
                gradient.mul_((self.max_grad_norm / (gradient.norm() + 1e-6)).clamp_(max=1.0))
                optimizer.step()
            self._n_updates += 1
            if stopped:
                break
        if terms:
            self._log_update(torch.stack(terms), before, clip)

    def _log_update(self, terms: Tensor, last_epoch: int, clip: float) -> None:
        """Log means; the divergence, as in the library, over the last epoch alone."""
        buffer = self.rollout_buffer
        for name, value in zip(TERMS, terms.mean(dim=0).tolist()):
            self.logger.record(name, value)
        self.logger.record("train/approx_kl", terms[last_epoch:, 3].mean().item())
        learned = buffer.reading.learned
        explained = explained_variance(
            buffer.values.flatten()[learned], buffer.returns.flatten()[learned]
        )
        self.logger.record("train/explained_variance", explained)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip)
