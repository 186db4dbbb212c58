"""MaskableRecurrentPPO: proximal policy optimisation with an LSTM and masked actions.

sb3-contrib has RecurrentPPO without masks and MaskablePPO without memory. This is both: with all
actions open it is RecurrentPPO, without the LSTM it is MaskablePPO
(tests/agents/learner/test_parity.py). Minibatches are the whole rollouts of some markets, so that
no state inside a rollout is stored.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.learner.ppo import ScheduledPPO
from agents.learner.rollout_buffer import Minibatch, SortedRolloutBuffer
from models.policy.policy_passes import LossWeights, clipped_loss
from models.policy.recurrent import MaskedRecurrentPolicy, sequences_of


class SequenceRolloutBuffer(SortedRolloutBuffer):
    """A rollout that is read lane by lane; `initial_state` [K, N, H] held before its first slot."""

    initial_state: Tensor

    def get(self, batch_size: int | None = None) -> Iterator[Minibatch]:  # type: ignore[override]
        """Every lane once, in random order, `batch_size` / T lanes at a time.

        The LSTM reads all of their slots, also those that are not learned from.
        """
        lanes_each = max(1, (batch_size or self.buffer_size * self.n_envs) // self.buffer_size)
        shuffled = np.random.permutation(self.n_envs)  # noqa: NPY002 - the learner's own generator
        for at in range(0, self.n_envs, lanes_each):
            lanes = shuffled[at : at + lanes_each]
            starts = self.episode_starts[:, lanes] > 0.0
            sequence = (np.arange(self.buffer_size)[:, None] * self.n_envs + lanes).reshape(-1)
            order = self.order(sequence)
            order = order[self.reading.learned[sequence[order]]]
            if not order.size:
                continue
            state = self.initial_state[:, torch.from_numpy(lanes)]
            yield self.minibatch(sequence[order], sequence)._replace(
                sequences=sequences_of(starts, state), order=torch.from_numpy(order)
            )


class MaskableRecurrentPPO(ScheduledPPO):
    """MaskablePPO with an LSTM. Arguments as for MaskablePPO, policy "MlpLstmPolicy".

    policy_kwargs takes lstm_hidden_size and enable_critic_lstm; batch_size must be a multiple of
    n_steps. `predict(observation, state, episode_start, deterministic, action_masks)` returns the
    action and the next state.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpLstmPolicy": MaskedRecurrentPolicy}
    policy: MaskedRecurrentPolicy  # type: ignore[assignment]
    rollout_buffer: SequenceRolloutBuffer  # type: ignore[assignment]
    buffer_class = SequenceRolloutBuffer

    def _setup_model(self) -> None:
        if not isinstance(self.observation_space, spaces.Box):
            raise ValueError(
                f"observations {self.observation_space}: MaskableRecurrentPPO reads Box"
            )
        if self.batch_size is None or self.batch_size % self.n_steps:
            raise ValueError(
                f"batch_size {self.batch_size} holds no whole sequences of {self.n_steps} steps: "
                "give a multiple of n_steps"
            )
        super()._setup_model()
        self.last_state = self.policy.new_state(self.n_envs)

    def collect_rollouts(  # type: ignore[override]
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: SequenceRolloutBuffer,
        n_rollout_steps: int,
        use_masking: bool = True,
    ) -> bool:
        """As ScheduledPPO; the state goes on from rollout to rollout."""
        rollout_buffer.initial_state = self.last_state
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, use_masking)

    def act(
        self, observations: NDArray[np.float32], masks: NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled actions, values and log probabilities, [N] each; advances the state."""
        state = self.last_state * _continuing(self._last_episode_starts)
        obs = torch.as_tensor(observations)
        actions, values, log_p, self.last_state = self.policy.step(obs, state, masks)
        return actions, values, log_p

    def values_of(
        self, observations: NDArray[np.float32], lanes: NDArray[np.int64], starts: bool
    ) -> Tensor:
        """Values [n] of observations [n, D] that follow the last slot in `lanes`."""
        state = self.last_state[:, torch.from_numpy(lanes)]
        if starts:
            ended: Any = self._last_episode_starts
            state = state * _continuing(ended[lanes])
        return self.policy.values_after(torch.as_tensor(observations), state)

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Values, log probabilities and entropies [n], the same masks together."""
        assert batch.sequences is not None
        assert batch.order is not None
        if not self.policy.hidden_size:
            rows = batch.observations.index_select(0, batch.order)
            return super().evaluate(batch._replace(observations=rows))
        remembered = self.policy.remember(batch.observations, batch.sequences, batch.varying)
        actor, critic = (rows.index_select(0, batch.order) for rows in remembered)
        log_p, entropy = self.policy.score(actor, batch.actions, batch.choices)
        return self.policy.values(critic), log_p, entropy

    def loss(
        self, batch: Minibatch, clip: float, clip_value: float | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch, then its TERMS without gradient."""
        values, log_p, entropy = self.evaluate(batch)
        advantages = batch.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return clipped_loss(
            log_p,
            entropy,
            values,
            batch.old_log_p,
            batch.old_values,
            batch.returns,
            advantages,
            LossWeights(clip, clip_value, self.ent_coef, self.vf_coef),
        )

    def gradients(
        self, gradient: Tensor, clip: float, clip_value: float | None
    ) -> Iterator[Tensor]:
        """As ScheduledPPO, by torch's graph."""
        for batch in self.rollout_buffer.get(self.batch_size):
            loss, terms = self.loss(batch, clip, clip_value)
            gradient.zero_()
            loss.backward()
            yield terms


def _continuing(starts: Any) -> Tensor:
    """float32[N, 1]: 0 where an episode starts, 1 elsewhere."""
    return torch.from_numpy(1.0 - np.asarray(starts, np.float32))[:, None]
