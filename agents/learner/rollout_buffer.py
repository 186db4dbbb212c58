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

from kernels.learning.policy_gradient import Samples
from models.policy.action_masks import Choices, Patterns, choices_of, patterns_of
from models.policy.policy_passes import Varying
from models.policy.recurrent import Sequences

_WIDTH = 16  # columns


class Reading(NamedTuple):
    """What a finished rollout is read by; rows are flat and time-major."""

    patterns: Patterns
    fed: Tensor
    """float32[T * N, k]: the columns of the observations that minibatches hold."""
    varying: Varying | None
    """Which columns those are; None: all."""
    learned: NDArray[np.bool_]
    """bool[T * N]: the samples that are learned from."""


class Minibatch(NamedTuple):
    """n samples, the same masks together."""

    observations: Tensor
    """float32[n, k], the columns that `varying` names; of whole sequences in the order of time."""
    actions: Tensor
    """int64[n]"""
    old_values: Tensor
    old_log_p: Tensor
    advantages: Tensor
    returns: Tensor
    choices: Choices
    varying: Varying | None
    """None: the observations have all D columns."""
    sequences: Sequences | None = None
    """How the observations pass an LSTM."""
    order: Tensor | None = None
    """int64[n]: which row in the order of time each sample is."""


class SortedRolloutBuffer(RolloutBuffer):
    """T slots of N markets, time-major; filled by `add`, read by `get`."""

    _reading: Reading | None = None
    skip_forced: bool = False
    """Leave out samples with a single open action."""

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
        self._reading = None

    @property
    def reading(self) -> Reading:
        """Made at the first look, for a process that only plays does not read."""
        if self._reading is None:
            patterns = patterns_of(self.masks.reshape(-1, self.masks.shape[2]))
            forced = patterns.only.size if self.skip_forced else 0
            fed = _fed(self.observations.reshape(patterns.of_row.size, -1))
            self._reading = Reading(patterns, *fed, patterns.of_row >= forced)
        return self._reading

    def parts(self, batch_size: int | None = None) -> Iterator[NDArray[np.int64]]:
        """Rows (flat, time-major) of each sample that is learned from once.

        In equal parts of about `batch_size`, in the random order of sb3-contrib's buffer.
        """
        slots, total = self.buffer_size, self.buffer_size * self.n_envs
        lane, slot = np.divmod(np.random.permutation(total), slots)  # noqa: NPY002 - the learner's own generator
        shuffled = slot * self.n_envs + lane
        shuffled = shuffled[self.reading.learned[shuffled]]
        parts = max(1, round(shuffled.size / (batch_size or total)))
        yield from (rows for rows in np.array_split(shuffled, parts) if rows.size)

    def get(self, batch_size: int | None = None) -> Iterator[Minibatch]:  # type: ignore[override]
        """The samples of `parts`."""
        for rows in self.parts(batch_size):
            yield self.minibatch(rows[self.order(rows)])

    def samples(self) -> Samples:
        """All of the rollout, flat and time-major."""
        reading = self.reading
        return Samples(
            reading.fed.numpy(),
            self.actions.reshape(-1),
            self.values.reshape(-1),
            self.log_probs.reshape(-1),
            self.advantages.reshape(-1),
            self.returns.reshape(-1),
            reading.patterns.of_row,
        )

    def order(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Order of `rows` that puts the same masks together."""
        patterns = self.reading.patterns
        # numpy sorts numbers of at most 16 bits by radix.
        numbers = patterns.of_row[rows].astype(np.min_scalar_type(patterns.masks.group.size))
        return np.argsort(numbers, kind="stable")

    def minibatch(
        self, rows: NDArray[np.int64], sequence: NDArray[np.int64] | None = None
    ) -> Minibatch:
        """The samples `rows` (flat, time-major, in `order`); observations of `sequence`."""
        patterns, fed, varying, _ = self.reading
        observed = torch.from_numpy(rows if sequence is None else sequence)

        def of(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.reshape(-1)[rows])

        return Minibatch(
            fed.index_select(0, observed),
            of(self.actions),
            of(self.values),
            of(self.log_probs),
            of(self.advantages),
            of(self.returns),
            choices_of(patterns, rows),
            varying,
        )


def _fed(rows: NDArray[np.float32]) -> tuple[Tensor, Varying | None]:
    """Rows [n, D] without most of the columns that hold the same in all, [n, k]; what was left out.

    k is a multiple of _WIDTH: matrix products slow down at others.
    """
    width = rows.shape[1]
    same = (rows == rows[0]).all(axis=0)
    wanted = -(-np.count_nonzero(~same) // _WIDTH) * _WIDTH
    if wanted >= width:
        return torch.from_numpy(rows), None
    kept = np.sort(np.argsort(same, kind="stable")[:wanted])
    others = np.setdiff1d(np.arange(width), kept)
    varying = Varying(*(torch.from_numpy(x) for x in (kept, others, rows[0, others])))
    return torch.from_numpy(rows).index_select(1, varying.columns), varying
