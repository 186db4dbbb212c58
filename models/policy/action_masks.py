"""Rows sorted by the actions that are open to them, as a policy scores and draws them.

A masked action's logit changes nothing, so it is not computed: rows with nearly the same actions
are computed together, and a row with a single open action needs no actor at all.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.learning.action_masks import distinct, group_masks, mask_hashes
from kernels.learning.perceptrons import Masks

# With more different masks than this in one rollout, a group would hold too few rows.
MOST_PATTERNS = 64


class Patterns(NamedTuple):
    """The P different masks of n rows, in the groups of
    `kernels.learning.action_masks.group_masks`."""

    of_row: NDArray[np.int64]
    """int64[n]: which pattern each row has; patterns of a group follow each other."""
    only: NDArray[np.int64]
    """int64[F]: the single action of each of the first F patterns; all others have more."""
    masks: Masks


class Group(NamedTuple):
    """Rows whose logits are one matrix product."""

    rows: slice
    """Among the rows that have a choice."""
    cells: slice
    """Their logits, row after row, among those of all groups."""
    places: slice
    """Their columns in `Choices.columns`."""


class Choices(NamedTuple):
    """The actions open to n rows, which are sorted by their patterns."""

    forced: Tensor
    """int64[f]: the single actions of the first f rows; the others have a choice."""
    groups: tuple[Group, ...]
    columns: Tensor
    """int64[K]: the actions that are computed, group by group."""
    spans: NDArray[np.int64]
    """int64[S, 5] of each run of rows with the same pattern: their number, width, group, pattern,
    and the first of their columns in `columns`."""
    closed: NDArray[np.float32]
    """As `group_masks` returns them."""
    places: NDArray[np.int64]


@cache
def _hash_keys(actions: int) -> NDArray[np.uint64]:
    """Random uint64[actions], the same in every process."""
    return np.random.default_rng(0).integers(0, 1 << 64, actions, np.uint64)


def patterns_of(masks: NDArray[np.bool_]) -> Patterns:
    """Sort masks bool[n, A], at least one action open in each, into patterns."""
    hashes = np.empty(len(masks), np.uint64)
    mask_hashes(masks, _hash_keys(masks.shape[1]), hashes)
    first, number = distinct(hashes)
    opened = masks[first]
    counts = np.count_nonzero(opened, axis=1)
    order = np.argsort(counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    opened = opened[order]
    only = opened[: np.count_nonzero(counts == 1)].argmax(axis=1)
    return Patterns(rank[number], only, Masks(*group_masks(opened, MOST_PATTERNS)))


def choices_of(patterns: Patterns, rows: NDArray[np.int64]) -> Choices:
    """Choices of `rows`, which are sorted by pattern."""
    numbers = patterns.of_row[rows]
    forced = int(np.searchsorted(numbers, patterns.only.size))
    edges = np.flatnonzero(np.diff(numbers[forced:], prepend=-1, append=-1))
    pattern, count = numbers[forced:][edges[:-1]], np.diff(edges)
    masks = patterns.masks
    group = masks.group[pattern]
    widths = masks.widths[group]
    begins = np.flatnonzero(np.diff(group, prepend=-1)).tolist()
    groups: list[Group] = []
    columns: list[NDArray[np.int64]] = []
    starts = np.empty_like(pattern)
    row = cell = place = 0
    for low, high in zip(begins, [*begins[1:], group.size]):
        width, many = int(widths[low]), int(count[low:high].sum())
        to = row + many, cell + many * width, place + width
        groups.append(Group(slice(row, to[0]), slice(cell, to[1]), slice(place, to[2])))
        columns.append(masks.columns[group[low], :width])
        starts[low:high] = place
        row, cell, place = to
    spans = np.stack([count, widths, group, pattern, starts], axis=1)
    return Choices(
        torch.from_numpy(patterns.only[numbers[:forced]]),
        tuple(groups),
        torch.from_numpy(np.concatenate(columns) if columns else np.empty(0, np.int64)),
        spans,
        masks.closed,
        masks.places,
    )
