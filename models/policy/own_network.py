"""A policy around any torch module that gives logits and values, with or without a memory.

The module is built as `network(observation_space, action_space, **arguments)`. Its `forward` takes
observations float32[n, ...] and gives logits float32[n, A], one per action, and values float32[n]
or [n, 1]. Masks are applied here. A module with a memory says by `state_shape`, (K, H), what it
keeps of one market. Its `forward(observations, state)` then takes state float32[K, n, H], zeros
where an episode starts, and gives logits, values and the next state.
"""

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from kernels.learning.action_masks import CLOSED
from models.policy.action_masks import Choices, checked_actions, checked_masks, drawn, patterns_of
from models.policy.masked import Masks, fused_adam


class NetworkError(ValueError):
    """A network whose outputs cannot be learned from; the message names output and remedy."""


class ActorCriticNetwork(nn.Module):
    """Logits and values of an actor-critic policy of stable-baselines3 that knows no masks."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        policy_class: type[ActorCriticPolicy],
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.policy = policy_class(observation_space, action_space, lambda _: 0.0, **arguments)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, A] and values [n, 1]."""
        chances: Any = self.policy.get_distribution(observations).distribution
        return chances.logits, self.policy.predict_values(observations)


class NetworkPolicy(BasePolicy):
    """Actor and critic of one's own, behind the methods that a learner calls."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Callable[[float], float],
        network: Callable[..., nn.Module],
        **arguments: Any,
    ) -> None:
        """arguments: those of `network`, and optimizer_class and optimizer_kwargs."""
        named = fused_adam(arguments)
        optimizer = (
            named.pop("optimizer_class", torch.optim.Adam),
            named.pop("optimizer_kwargs", None),
        )
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer[0],
            optimizer_kwargs=optimizer[1],
        )
        self.network = network(observation_space, action_space, **named)
        self._constructor = {"network": network, **named}
        if not isinstance(self.network, nn.Module):
            raise NetworkError(
                f"{network} gave {type(self.network).__name__}: give a torch.nn.Module"
            )
        self.state_shape: tuple[int, ...] | None = (
            getattr(self.network, "state_shape", None) or None
        )
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        kept = {"observation_space", "action_space"}
        own = {k: v for k, v in super()._get_constructor_parameters().items() if k in kept}
        optimizer = {
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }
        return own | self._constructor | optimizer | {"lr_schedule": self._dummy_schedule}

    @property
    def actions(self) -> int:
        """A, the actions of the table."""
        return int(self.action_space.n)  # type: ignore[attr-defined]

    def outputs(self, obs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Any]:
        """Logits [n, A], values [n] and the next state of the network. Raises NetworkError."""
        seen: Any = obs
        if not isinstance(self.network, ActorCriticNetwork):
            seen = preprocess_obs(obs, self.observation_space)
        found = self.network(seen) if state is None else self.network(seen, state)
        wanted, name = (2 if state is None else 3), type(self.network).__name__
        if not isinstance(found, tuple | list) or len(found) != wanted:
            given = "logits and values" + (", next state" if state is not None else "")
            raise NetworkError(f"{name}.forward gave {type(found).__name__}: give {given}")
        parts: Any = (*found, None)
        logits, values, after = parts[:3]
        rows = len(obs)
        if tuple(logits.shape) != (rows, self.actions):
            raise NetworkError(
                f"{name}.forward gave logits {list(logits.shape)} for {rows} observations and "
                f"{self.actions} actions: give [{rows}, {self.actions}]"
            )
        if tuple(values.shape) not in ((rows,), (rows, 1)):
            raise NetworkError(
                f"{name}.forward gave values {list(values.shape)} for {rows} observations: give "
                f"[{rows}] or [{rows}, 1]"
            )
        if state is not None and after.shape != state.shape:
            raise NetworkError(
                f"{name}.forward gave a next state {list(after.shape)}: give {list(state.shape)}"
            )
        return logits, values.reshape(-1), after

    def forward(
        self, obs: Tensor, deterministic: bool = False, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [n], values [n, 1] and log probabilities [n]; of a network without memory."""
        self._require_no_memory()
        logits, values, _ = self.outputs(obs)
        actions, log_p = self._drawn(logits, action_masks, deterministic)
        return actions, values[:, None], log_p

    def _predict(  # type: ignore[override]
        self, observation: Tensor, deterministic: bool = False, action_masks: Masks = None
    ) -> Tensor:
        return self(observation, deterministic, action_masks)[0]

    def predict_values(self, obs: Tensor) -> Tensor:
        """Values [n, 1]; of a network without memory."""
        self._require_no_memory()
        return self.outputs(obs)[1][:, None]

    def evaluate_actions(
        self, obs: Tensor, actions: Tensor, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values [n, 1], log p [n] of given actions and entropies [n]; without memory.

        A closed action has log p of about -1e8. Raises MaskError for an action outside the table.
        """
        self._require_no_memory()
        taken = torch.from_numpy(checked_actions(actions, len(obs), self.actions))
        logits, values, _ = self.outputs(obs)
        log_p, entropy = _scored(self._masked(logits, action_masks), taken.to(obs.device))
        return values[:, None], log_p, entropy

    def new_state(self, n: int) -> Tensor:
        """float32[K, n, H] zeros: of markets before their first slot."""
        if self.state_shape is None:
            raise NetworkError(
                f"{type(self.network).__name__} has no state_shape: give it one, and "
                "forward(observations, state), or train it with ScheduledPPO"
            )
        kinds, *widths = self.state_shape
        return torch.zeros(kinds, n, *widths, device=self.device)

    def step(
        self, obs: Tensor, state: Tensor, masks: Masks, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Actions [n], values [n], log probabilities [n] and the next state."""
        logits, values, after = self.outputs(obs, state)
        actions, log_p = self._drawn(logits, masks, deterministic)
        return actions, values, log_p, after

    def values_after(self, obs: Tensor, state: Tensor) -> Tensor:
        """Values [n] of obs [n, D] that are met with `state`."""
        return self.outputs(obs, state)[1]

    def evaluate_sequences(
        self,
        obs: Tensor,
        starts: NDArray[Any],
        state: Tensor,
        order: Tensor,
        actions: Tensor,
        choices: Choices,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, log p and entropies [m] of rows `order` of T slots of n markets.

        obs [T * n, ...] in the order of time; starts bool[T, n]; state before the first slot;
        actions int64[m] and choices of the rows, sorted by their masks.
        """
        slots, lanes = starts.shape
        going = torch.from_numpy(~starts).to(obs.device).float()
        memory, found = state, []
        for t in range(slots):
            memory = memory * going[t].view(1, lanes, *[1] * (memory.dim() - 2))
            logits, values, memory = self.outputs(obs[t * lanes : (t + 1) * lanes], memory)
            found.append((logits, values))
        logits, values = (torch.cat(parts)[order] for parts in zip(*found))
        log_p, entropy = _scored(
            torch.where(choices.open_actions(), logits, float(CLOSED)), actions
        )
        return values, log_p, entropy

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Any, tuple[Any, ...] | None]:
        """Actions of observation [n, D] or [D], and the next state of a network with memory."""
        self.set_training_mode(False)
        obs, vectorised = self.obs_to_tensor(observation)
        with torch.no_grad():
            if self.state_shape is None:
                actions, after = self._predict(obs, deterministic, action_masks), state  # type: ignore[arg-type]
            else:
                memory = started(self.new_state(len(obs)), state, episode_start)
                actions, _, _, memory = self.step(obs, memory, action_masks, deterministic)  # type: ignore[arg-type]
                after = (memory.cpu().numpy(),)
        chosen = actions.cpu().numpy()
        return chosen if vectorised else chosen[0], after

    def _masked(self, logits: Tensor, masks: Masks) -> Tensor:
        if masks is None:
            return logits
        if not (isinstance(masks, Tensor) and masks.dtype == torch.bool):
            masks = torch.from_numpy(checked_masks(masks, len(logits), self.actions))
        if masks.shape != logits.shape:
            checked_masks(masks, len(logits), self.actions)
        return torch.where(masks.to(logits.device), logits, float(CLOSED))

    def _drawn(self, logits: Tensor, masks: Masks, deterministic: bool) -> tuple[Tensor, Tensor]:
        if masks is not None:
            patterns_of(checked_masks(masks, len(logits), self.actions))  # a row without any
        log_probs = torch.log_softmax(self._masked(logits, masks), dim=1)
        place = log_probs.argmax(dim=1, keepdim=True) if deterministic else drawn(log_probs)
        return place.squeeze(1), log_probs.gather(1, place).squeeze(1)

    def _require_no_memory(self) -> None:
        if self.state_shape is not None:
            raise NetworkError(
                f"{type(self.network).__name__} has a memory, and this method knows no state: use "
                "`predict` or `step`, and MaskableRecurrentPPO to train it"
            )


def started(memory: Tensor, state: tuple[Any, ...] | None, episode_start: Any) -> Tensor:
    """The state [K, n, ...] that a caller of `predict` handed in, zeroed where episodes start.

    memory: zeros of that shape. Raises NetworkError for a state of another shape.
    """
    if state is not None:
        given = torch.cat([torch.as_tensor(part) for part in state])
        if given.shape[1:] != memory.shape[1:] or len(given) > len(memory):
            raise NetworkError(
                f"state of shape {list(given.shape)}: this policy keeps {list(memory.shape)}"
            )
        memory[: len(given)] = given.to(memory.device)
    if episode_start is not None:
        ended = torch.as_tensor(episode_start, dtype=torch.bool, device=memory.device).reshape(-1)
        memory[:, ended.expand(memory.shape[1])] = 0.0
    return memory


def _scored(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Log p [n] of actions int64[n] and entropies [n] of masked logits [n, A]."""
    log_probs = torch.log_softmax(logits, dim=1)
    entropy = -(log_probs.exp() * log_probs).sum(dim=1)
    return log_probs.gather(1, actions[:, None]).squeeze(1), entropy
