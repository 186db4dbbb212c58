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

from models.policy.action_masks import Choices, score
from models.policy.masked import MaskedPolicy, Masks
from models.policy.own_network import started


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
    device = state.device
    first = state * torch.from_numpy(~starts[0]).to(device, state.dtype)[:, None]
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
    kept = torch.from_numpy(slot == 0).to(device)
    memory = first[:, torch.from_numpy(lane).to(device)] * kept[:, None]
    flat, found = (torch.from_numpy(x).to(device) for x in (padded.reshape(-1), back))
    return Sequences(memory, flat, found)


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

    @property
    def folds(self) -> bool:
        """An LSTM reads all inputs."""
        return False

    def new_state(self, n: int) -> Tensor:
        """float32[K, n, H] zeros: h and c of the actor, then of the critic's LSTM if it has one."""
        kinds = 4 if self.lstm_critic is not None else 2
        return torch.zeros(kinds, n, self.hidden_size, device=self.device)

    def step(
        self, obs: Tensor, state: Tensor, masks: Masks, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Actions [n], values [n], log probabilities [n], next state, for obs [n, D].

        `state` has been zeroed where an episode starts.
        """
        actor, critic = self._features(obs)
        latent, memory = _advance(self.lstm_actor, actor, state[:2])
        seen, critic_memory = self._critic_latent(critic, state)
        actions, log_p = self.choose(latent, masks, deterministic)
        return actions, self._values(seen), log_p, torch.cat([memory, critic_memory])

    def values_after(self, obs: Tensor, state: Tensor) -> Tensor:
        """Values [n] of obs [n, D] that are met with `state`."""
        return self._values(self._critic_latent(self._features(obs)[1], state)[0])

    def _values(self, latent: Tensor) -> Tensor:
        return self.value_net(self.mlp_extractor.value_net(latent)).flatten()

    def _critic_latent(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the critic's layers read, and the next state of the critic's LSTM, if any."""
        if self.lstm_critic is not None:
            return _advance(self.lstm_critic, features, state[2:])
        return features if self.critic is None else self.critic(features), state[2:]

    def evaluate_sequences(
        self,
        obs: Tensor,
        starts: NDArray[np.bool_],
        state: Tensor,
        order: Tensor,
        actions: Tensor,
        choices: Choices,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, log p and entropies [m] of rows `order` of T slots of n markets.

        obs [T * n, D] in the order of time; starts bool[T, n]; state [K, n, H] before the first
        slot; actions int64[m] and choices of the rows, sorted by their masks.
        """
        actor, critic = self._features(obs)
        if self.lstm_actor is not None:
            sequences = sequences_of(starts, state)
            actor = _pass(self.lstm_actor, actor, sequences, sequences.state[:2])
            if self.lstm_critic is not None:
                critic = _pass(self.lstm_critic, critic, sequences, sequences.state[2:])
        if self.critic is not None:
            critic = self.critic(critic)
        actor, critic = actor.index_select(0, order), critic.index_select(0, order)
        hidden = self.mlp_extractor.policy_net(actor[choices.forced.shape[0] :])
        log_p, entropy = score(hidden, self.action_net, actions, choices)  # type: ignore[arg-type]
        return self._values(critic), log_p, entropy

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Without an LSTM as the masked policy; with one refused, for it knows no state."""
        self._require_no_memory("calling the policy")
        return super().forward(*arguments, **named)

    def evaluate_actions(self, *arguments: Any, **named: Any) -> Any:
        """As `forward`."""
        self._require_no_memory("evaluate_actions")
        return super().evaluate_actions(*arguments, **named)

    def get_distribution(self, *arguments: Any, **named: Any) -> Any:
        """As `forward`."""
        self._require_no_memory("get_distribution")
        return super().get_distribution(*arguments, **named)

    def predict_values(self, *arguments: Any, **named: Any) -> Any:
        """As `forward`."""
        self._require_no_memory("predict_values")
        return super().predict_values(*arguments, **named)

    def _predict(self, *arguments: Any, **named: Any) -> Any:
        self._require_no_memory("_predict")
        return super()._predict(*arguments, **named)

    def _require_no_memory(self, what: str) -> None:
        if self.hidden_size:
            raise TypeError(
                f"{what} knows no state, and this policy has an LSTM: use `predict` or `step`, and "
                "`evaluate_sequences` for whole rollouts"
            )

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
        self.set_training_mode(False)
        obs, vectorised = self.obs_to_tensor(observation)
        memory = started(self.new_state(len(obs)), state, episode_start)  # type: ignore[arg-type]
        with torch.no_grad():
            actions, _, _, memory = self.step(obs, memory, action_masks, deterministic)  # type: ignore[arg-type]
        after = memory[0:1].cpu().numpy(), memory[1:2].cpu().numpy()
        chosen = actions.cpu().numpy()
        return chosen if vectorised else chosen[0], after


def _advance(lstm: nn.LSTM | None, rows: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Output [n, H] and next (h, c) [2, n, H] of one step; without an LSTM the input itself."""
    if lstm is None:
        return rows, state
    out, (h, c) = lstm(rows[None], (state[:1].contiguous(), state[1:].contiguous()))
    return out[0], torch.cat([h, c])


def _pass(lstm: nn.LSTM, rows: Tensor, sequences: Sequences, state: Tensor) -> Tensor:
    """Outputs [T * n, H] of whole sequences."""
    fed = rows if sequences.padded is None else rows.index_select(0, sequences.padded)
    fed = fed.view(-1, state.shape[1], fed.shape[1])
    out = lstm(fed, (state[:1].contiguous(), state[1:].contiguous()))[0].flatten(0, 1)
    return out if sequences.back is None else out.index_select(0, sequences.back)
