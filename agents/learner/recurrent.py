"""MaskableRecurrentPPO: proximal policy optimisation with a memory and masked actions.

sb3-contrib has RecurrentPPO without masks and MaskablePPO without memory. This is both: with all
actions open it is RecurrentPPO, without the LSTM it is MaskablePPO
(tests/agents/learner/test_parity.py). Minibatches are the whole rollouts of some markets, so that
no state inside a rollout is stored.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.learner.ppo import ScheduledPPO
from agents.learner.rollout_buffer import Minibatch, SequenceRolloutBuffer, SortedRolloutBuffer
from models.policy.own_network import NetworkPolicy
from models.policy.recurrent import MaskedRecurrentPolicy


class MaskableRecurrentPPO(ScheduledPPO):
    """PPO with a memory. Arguments as for ScheduledPPO and MaskablePPO.

    policy: "MlpLstmPolicy", whose policy_kwargs take lstm_hidden_size and enable_critic_lstm, or a
    torch module class with `state_shape` (see `models.policy.own_network`). batch_size must be a
    multiple of n_steps. `predict(observation, state, episode_start, deterministic, action_masks)`
    returns the action and the next state.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLstmPolicy": MaskedRecurrentPolicy,
        "MlpPolicy": MaskedRecurrentPolicy,
    }
    buffer_class = SequenceRolloutBuffer
    rollout_buffer: SequenceRolloutBuffer  # type: ignore[assignment]

    def _setup_model(self) -> None:
        if self.batch_size is None or self.batch_size % self.n_steps:
            raise ValueError(
                f"batch_size {self.batch_size} holds no whole sequences of {self.n_steps} steps: "
                "give a multiple of n_steps"
            )
        super()._setup_model()
        self.last_state = self.memory.new_state(self.n_envs)

    @property
    def memory(self) -> MaskedRecurrentPolicy | NetworkPolicy:
        """The policy, which has a state."""
        policy: Any = self.policy
        return policy

    def _check_memory(self) -> None:
        if not isinstance(self.policy, MaskedRecurrentPolicy | NetworkPolicy):
            raise ValueError(
                f"{type(self.policy).__name__} has no memory that this learner knows: give "
                '"MlpLstmPolicy", or a torch module class with state_shape'
            )

    def collect_rollouts(  # type: ignore[override]
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: SortedRolloutBuffer,
        n_rollout_steps: int,
        use_masking: bool = True,
    ) -> bool:
        """As ScheduledPPO; the state goes on from rollout to rollout."""
        self.rollout_buffer.initial_state = self.last_state
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps, use_masking)

    def act(
        self, observations: NDArray[Any], masks: NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled actions, values and log probabilities, [N] each; advances the state."""
        state = continued(self.last_state, self._last_episode_starts)
        found = self.memory.step(self.tensor(observations), state, masks)  # type: ignore[arg-type]
        actions, values, log_p, self.last_state = found
        return actions, values, log_p

    def values_of(
        self, observations: NDArray[Any], lanes: NDArray[np.int64], starts: bool
    ) -> Tensor:
        """Values [n] of observations [n, ...] that follow the last slot in `lanes`."""
        state = self.last_state[:, torch.from_numpy(lanes).to(self.device)]
        if starts:
            ended: Any = self._last_episode_starts
            state = continued(state, ended[lanes])
        return self.memory.values_after(self.tensor(observations), state)

    def evaluate(self, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        """Values, log probabilities and entropies [n], the same masks together."""
        assert batch.starts is not None
        assert batch.state is not None
        assert batch.order is not None
        return self.memory.evaluate_sequences(
            batch.observations, batch.starts, batch.state, batch.order, batch.actions, batch.choices
        )


def continued(state: Tensor, starts: Any) -> Tensor:
    """The state [K, N, ...] with 0 in the lanes where an episode starts, bool[N]."""
    going = torch.from_numpy(1.0 - np.asarray(starts, np.float32)).to(state.device)
    return state * going.view(1, -1, *[1] * (state.dim() - 2))
