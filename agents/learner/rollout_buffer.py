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

from models.policy.action_masks import Choices, Patterns, choices_of, patterns_of
from models.policy.masked import Varying

_WIDTH = 16  # columns
_PER_SAMPLE = ("actions", "values", "log_probs", "advantages", "returns")


class Reading(NamedTuple):
    """What a finished rollout is read by; rows are flat and time-major."""

    patterns: Patterns
    fed: Tensor
    """float32[T * N, k]: the columns of the observations that minibatches hold."""
    varying: Varying | None
    """Which columns those are; None: all."""
    learned: NDArray[np.bool_]
    """bool[T * N]: the samples that are learned from."""
    samples: tuple[Tensor, ...]
    """_PER_SAMPLE, [T * N] each."""


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
    """None: the observations are whole."""
    rows: NDArray[np.int64]
    """int64[n]: place of each sample in the rollout, slot * lanes + lane."""
    order: Tensor | None = None
    """int64[n] of sequences: which row in the order of time each sample is."""
    starts: NDArray[np.bool_] | None = None
    """bool[T, lanes] of sequences: where an episode starts."""
    state: Tensor | None = None
    """float32[K, lanes, H] of sequences: before their first slot."""

    @property
    def masks(self) -> Tensor:
        """bool[n, A]: the actions that were open."""
        return self.choices.open_actions()


class SortedRolloutBuffer(RolloutBuffer):
    """T slots of N markets, time-major; filled by `add`, read by `get`.

    skip_forced leaves out samples with a single open action; `folds` feeds no constant columns.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        device: torch.device | str = "cpu",
        gae_lambda: float = 1.0,
        gamma: float = 0.99,
        n_envs: int = 1,
        skip_forced: bool = False,
    ) -> None:
        slots = buffer_size, n_envs
        self.observations = np.zeros((*slots, *observation_space.shape), observation_space.dtype)
        self.actions = np.zeros(slots, np.int64)
        self.masks = np.zeros((*slots, int(action_space.n)), np.bool_)
        for name in ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros(slots, np.float32))
        self.skip_forced, self.folds = skip_forced, False
        self._reading: Reading | None = None
        super().__init__(
            buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs
        )

    def reset(self) -> None:
        """Forget the rollout; the arrays are written over."""
        self.pos, self.full = 0, False

    def add(  # type: ignore[override]
        self,
        observations: NDArray[Any],
        actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        episode_starts: NDArray[np.bool_],
        values: Tensor,
        log_probs: Tensor,
        action_masks: NDArray[np.bool_],
    ) -> None:
        """Append one slot: observations [N, ...], action_masks [N, A], the others [N]."""
        t = self.pos
        self.observations[t] = observations
        self.actions[t] = actions
        self.masks[t] = action_masks
        self.rewards[t] = rewards
        self.episode_starts[t] = episode_starts
        self.values[t] = values.cpu().numpy().reshape(-1)
        self.log_probs[t] = log_probs.cpu().numpy()
        self.pos += 1
        if self.pos == self.buffer_size:
            self.finish()

    def finish(self) -> None:
        """Every slot is written: the buffer can be read."""
        self.pos, self.full = self.buffer_size, True
        self._reading = None

    @property
    def reading(self) -> Reading:
        """Made at the first look, for a process that only plays does not read.

        Raises ValueError for actions that are not open.
        """
        if self._reading is None:
            masks, actions = self.masks.reshape(-1, self.masks.shape[2]), self.actions.reshape(-1)
            inside = actions.min() >= 0 and actions.max() < masks.shape[1]
            if not inside or not masks[np.arange(actions.size), actions].all():
                raise ValueError("a rollout holds actions that its masks close: play it anew")
            patterns = patterns_of(masks)
            forced = patterns.only.size if self.skip_forced else 0
            rows = self.observations.reshape(actions.size, *self.observations.shape[2:])
            fed = _fed(rows) if self.folds else (torch.from_numpy(rows), None)
            per_sample = (torch.from_numpy(getattr(self, name).reshape(-1)) for name in _PER_SAMPLE)
            self._reading = Reading(
                patterns,
                fed[0].to(self.device),
                fed[1] and Varying(*(part.to(self.device) for part in fed[1])),
                patterns.of_row >= forced,
                tuple(array.to(self.device) for array in per_sample),
            )
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
        reading = self.reading
        index = torch.from_numpy(rows).to(self.device)
        seen = index if sequence is None else torch.from_numpy(sequence).to(self.device)
        actions, values, log_p, advantages, returns = (
            array.index_select(0, index) for array in reading.samples
        )
        return Minibatch(
            reading.fed.index_select(0, seen),
            actions,
            values,
            log_p,
            advantages,
            returns,
            choices_of(reading.patterns, rows, self.device),
            reading.varying,
            rows,
        )


class SequenceRolloutBuffer(SortedRolloutBuffer):
    """A rollout that is read lane by lane; `initial_state` [K, N, H] held before its first slot."""

    initial_state: Tensor

    def get(self, batch_size: int | None = None) -> Iterator[Minibatch]:  # type: ignore[override]
        """Every lane once, in random order, `batch_size` / T lanes at a time.

        A memory reads all of their slots, also those that are not learned from.
        """
        lanes_each = max(1, (batch_size or self.buffer_size * self.n_envs) // self.buffer_size)
        shuffled = np.random.permutation(self.n_envs)  # noqa: NPY002 - the learner's own generator
        for at in range(0, self.n_envs, lanes_each):
            lanes = shuffled[at : at + lanes_each]
            sequence = (np.arange(self.buffer_size)[:, None] * self.n_envs + lanes).reshape(-1)
            order = self.order(sequence)
            order = order[self.reading.learned[sequence[order]]]
            if not order.size:
                continue
            index = torch.from_numpy(lanes).to(self.initial_state.device)
            yield self.minibatch(sequence[order], sequence)._replace(
                order=torch.from_numpy(order).to(self.device),
                starts=self.episode_starts[:, lanes] > 0.0,
                state=self.initial_state[:, index],
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
