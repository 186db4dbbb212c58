"""A rollout as the learner reads it: torch views of flat arrays, minibatches sorted by masks.

The buffer of sb3-contrib keeps masks as float32, copies everything to lane-major order and again
into every minibatch; here a minibatch is one gather per array.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from models.policy import choices_of, patterns_of
from models.policy_passes import Choices
from models.recurrent_policy import Sequences


class Minibatch(NamedTuple):
    """n samples, the same masks together."""

    observations: Tensor
    """float32[n, D]; of whole sequences in the order of time instead."""
    actions: Tensor
    """int64[n]"""
    old_values: Tensor
    old_log_p: Tensor
    advantages: Tensor
    returns: Tensor
    choices: Choices
    sequences: Sequences | None = None
    """How the observations pass an LSTM."""
    order: Tensor | None = None
    """int64[n]: which row in the order of time each sample is."""


class SortedRolloutBuffer(RolloutBuffer):
    """T slots of N markets, time-major; filled by `add`, read by `get`."""

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        device: torch.device | str = "cpu",
        gae_lambda: float = 1.0,
        gamma: float = 0.99,
        n_envs: int = 1,
    ) -> None:
        slots = buffer_size, n_envs
        self.observations = np.zeros((*slots, *observation_space.shape), np.float32)
        self.actions = np.zeros(slots, np.int64)
        self.masks = np.zeros((*slots, int(action_space.n)), np.bool_)
        for name in ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros(slots, np.float32))
        super().__init__(
            buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs
        )

    def reset(self) -> None:
        """Forget the rollout; the arrays are written over."""
        self.pos, self.full = 0, False

    def add(  # type: ignore[override]
        self,
        observations: NDArray[np.float32],
        actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        episode_starts: NDArray[np.bool_],
        values: Tensor,
        log_probs: Tensor,
        action_masks: NDArray[np.bool_],
    ) -> None:
        """Append one slot: observations [N, D], action_masks [N, A], the others [N]."""
        t = self.pos
        self.observations[t] = observations.reshape(self.n_envs, -1)
        self.actions[t] = actions
        self.masks[t] = action_masks
        self.rewards[t] = rewards
        self.episode_starts[t] = episode_starts
        self.values[t] = values.numpy().reshape(-1)
        self.log_probs[t] = log_probs.numpy()
        self.pos += 1
        if self.pos == self.buffer_size:
            self.finish()

    def finish(self) -> None:
        """Every slot is written: the buffer can be read."""
        self.pos, self.full = self.buffer_size, True
        self.patterns = patterns_of(self.masks.reshape(-1, self.masks.shape[2]))

    def get(self, batch_size: int | None = None) -> Iterator[Minibatch]:  # type: ignore[override]
        """Each sample once, in the random order of sb3-contrib's buffer, `batch_size` at a time."""
        slots, total = self.buffer_size, self.buffer_size * self.n_envs
        shuffled = np.random.permutation(total)  # noqa: NPY002 - the learner's own generator
        for at in range(0, total, batch_size or total):
            lane, slot = np.divmod(shuffled[at : at + (batch_size or total)], slots)
            rows = slot * self.n_envs + lane
            yield self.minibatch(rows[self.order(rows)])

    def order(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Order of `rows` that puts the same masks together."""
        # A radix sort: there are at most MOST_PATTERNS patterns.
        return np.argsort(self.patterns.of_row[rows].astype(np.uint8), kind="stable")

    def minibatch(
        self, rows: NDArray[np.int64], sequence: NDArray[np.int64] | None = None
    ) -> Minibatch:
        """The samples `rows` (flat, time-major, in `order`); observations of `sequence`."""
        masks = self.masks.reshape(-1, self.masks.shape[2])[rows] if self.patterns.masked else None
        observed = torch.from_numpy(rows if sequence is None else sequence)

        def of(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.reshape(-1)[rows])

        flat = self.observations.reshape(-1, self.observations.shape[2])
        return Minibatch(
            torch.from_numpy(flat).index_select(0, observed),
            of(self.actions),
            of(self.values),
            of(self.log_probs),
            of(self.advantages),
            of(self.returns),
            choices_of(self.patterns, rows, masks),
        )
