"""The recurrent policy network: an LSTM before the layers of the masked policy.

Parameters, names and results are those of sb3-contrib's RecurrentActorCriticPolicy with one layer,
so weights can be exchanged; masks are added, and a whole rollout passes the LSTM in one call.
Hochreiter and Schmidhuber (1997); sequences are cut at episode starts and padded, not looped over.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn
from torch.nn.functional import linear

from models.policy.masked import MaskedPolicy, Masks
from models.policy.policy_passes import Varying, folded, lstm_sequences, lstm_step


class Sequences(NamedTuple):
    """How T * n rows (time-major: row t * n + lane) are fed to an LSTM."""

    state: Tensor
    """float32[K, S, H]: state before the first step of each of S sequences; K as in `new_state`."""
    padded: Tensor | None
    """int64[steps * S]: row to feed at each step of each sequence; None where S = n lanes."""
    back: Tensor | None
    """int64[T * n]: where the output of each row is found among those steps."""


def sequences_of(starts: NDArray[np.bool_], state: Tensor) -> Sequences:
    """Cut T slots of n lanes at the episode starts bool[T, n]; state [K, n, H] before the first."""
    slots, lanes = starts.shape
    first = state * torch.from_numpy(~starts[0]).to(state.dtype)[:, None]
    if not starts[1:].any():
        return Sequences(first, None, None)
    cut = starts.copy()
    cut[0] = True
    begins = np.flatnonzero(cut.T)  # lane-major positions where sequences begin
    lane, slot = np.divmod(begins, slots)
    number = np.cumsum(cut.T) - 1
    position = np.arange(slots * lanes)
    step = position - begins[number]
    steps, count = int(step.max()) + 1, begins.size
    rows = position % slots * lanes + position // slots
    padded = np.zeros((steps, count), np.int64)
    padded[step, number] = rows
    back = np.empty(slots * lanes, np.int64)
    back[rows] = step * count + number
    memory = first[:, torch.from_numpy(lane)] * torch.from_numpy(slot == 0)[:, None]
    return Sequences(memory, torch.from_numpy(padded.reshape(-1)), torch.from_numpy(back))


class MaskedRecurrentPolicy(MaskedPolicy):
    """Actor and critic of MaskableRecurrentPPO.

    lstm_hidden_size: units of the actor's LSTM; 0: no LSTM, the layers read the observation.
    enable_critic_lstm: the critic has an LSTM of its own; otherwise a linear layer of that width.
    """

    def __init__(
        self,
        *arguments: Any,
        lstm_hidden_size: int = 64,
        enable_critic_lstm: bool = False,
        **named: Any,
    ) -> None:
        self.hidden_size = lstm_hidden_size
        super().__init__(*arguments, **named)
        self.lstm_actor = self.lstm_critic = self.critic = None
        if lstm_hidden_size:
            self.lstm_actor = nn.LSTM(self.features_dim, lstm_hidden_size)
            if enable_critic_lstm:
                self.lstm_critic = nn.LSTM(self.features_dim, lstm_hidden_size)
            else:
                self.critic = nn.Linear(self.features_dim, lstm_hidden_size)
        rate = arguments[2] if len(arguments) > 2 else named["lr_schedule"]
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=rate(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _build_mlp_extractor(self) -> None:
        """Layers behind the LSTM."""
        self.mlp_extractor = MlpExtractor(
            self.hidden_size or self.features_dim,
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            device=self.device,
        )

    def new_state(self, n: int) -> Tensor:
        """float32[K, n, H] zeros: h and c of the actor, then of the critic's LSTM if it has one."""
        kinds = 4 if self.lstm_critic is not None else 2
        return torch.zeros(kinds, n, self.hidden_size)

    def step(
        self, obs: Tensor, state: Tensor, masks: Masks, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Actions [n], values [n], log probabilities [n], next state, for obs [n, D].

        `state` has been zeroed where an episode starts.
        """
        latent, memory = _advance(self.lstm_actor, obs, state[:2])
        seen, critic_memory = self._critic_latent(obs, state)
        actions, log_p = self.choose(latent, *self._sorted(masks, len(obs)), deterministic)
        return actions, self.values(seen), log_p, torch.cat([memory, critic_memory])

    def values_after(self, obs: Tensor, state: Tensor) -> Tensor:
        """Values [n] of obs [n, D] that are met with `state`."""
        return self.values(self._critic_latent(obs, state)[0])

    def _critic_latent(self, obs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the critic's layers read, and the next state of the critic's LSTM, if any."""
        if self.lstm_critic is not None:
            return _advance(self.lstm_critic, obs, state[2:])
        return obs if self.critic is None else self.critic(obs), state[2:]

    def remember(
        self, obs: Tensor, sequences: Sequences, varying: Varying | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the layers of actor and critic read, [T * n, H]; obs [T * n, D] in time order.

        For policies with an LSTM.
        """
        assert self.lstm_actor is not None
        actor = _pass(self.lstm_actor, obs, sequences, sequences.state[:2], varying)
        if self.lstm_critic is not None:
            return actor, _pass(self.lstm_critic, obs, sequences, sequences.state[2:], varying)
        assert self.critic is not None
        return actor, linear(obs, *folded(self.critic.weight, self.critic.bias, varying))

    def predict(  # type: ignore[override]
        self,
        observation: NDArray[np.float32],
        state: tuple[NDArray[np.float32], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int64], tuple[NDArray[np.float32], ...]]:
        """Actions of observation [n, D] or [D], and the next (h, c), each float32[1, n, H].

        The protocol of stable-baselines3 for recurrent policies: state None is a new episode.
        """
        single = observation.ndim == 1
        obs = torch.as_tensor(observation, dtype=torch.float32).reshape(-1, self.features_dim)
        memory = self.new_state(len(obs))
        if state is not None:
            memory[:2] = torch.from_numpy(np.concatenate(state))
        if episode_start is not None:
            memory *= torch.from_numpy(~np.asarray(episode_start, bool))[:, None]
        with torch.no_grad():
            actions, _, _, memory = self.step(obs, memory, action_masks, deterministic)
        after = memory[0:1].numpy(), memory[1:2].numpy()
        return actions.numpy()[0] if single else actions.numpy(), after


def _advance(lstm: nn.LSTM | None, obs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Output [n, H] and next (h, c) [2, n, H] of one step; without an LSTM the input itself."""
    if lstm is None:
        return obs, state
    after = lstm_step(lstm, obs, state)
    return after[0], after


def _pass(
    lstm: nn.LSTM,
    obs: Tensor,
    sequences: Sequences,
    state: Tensor,
    varying: Varying | None,
) -> Tensor:
    """Outputs [T * n, H] of whole sequences."""
    fed = obs if sequences.padded is None else obs.index_select(0, sequences.padded)
    fed = fed.view(-1, state.shape[1], fed.shape[1])
    rows = lstm_sequences(lstm, fed, state, varying).flatten(0, 1)
    return rows if sequences.back is None else rows.index_select(0, sequences.back)
