"""Rows sorted by the actions that are open to them, as a policy scores and draws them.

A masked action's logit changes nothing, so it is not computed: rows with nearly the same actions
are computed together, and a row with a single open action needs no actor at all.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.learning.action_masks import CLOSED, Masks, distinct, group_masks, mask_hashes

# With more different masks than this in one rollout, a group would hold too few rows.
MOST_PATTERNS = 64


class MaskError(ValueError):
    """Masks or actions that do not fit the table of actions; the message names what and where."""


class Patterns(NamedTuple):
    """The P different masks of n rows, in the groups of
    `kernels.learning.action_masks.group_masks`."""

    of_row: NDArray[np.int64]
    """int64[n]: which pattern each row has; patterns of a group follow each other."""
    only: NDArray[np.int64]
    """int64[F]: the single action of each of the first F patterns; all others have more."""
    opened: NDArray[np.bool_]
    """bool[P, A]: the actions of each pattern."""
    masks: Masks


class Group(NamedTuple):
    """Rows whose logits are one matrix product."""

    rows: slice
    """Among the rows that have a choice."""
    columns: Tensor
    """int64[w]: the actions that are computed."""
    closed: Tensor
    """float32[m, w]: 0 where an action is open to a row, else CLOSED."""
    places: Tensor
    """int64[A]: the place of an action among the columns, or -1."""


class Choices(NamedTuple):
    """The actions open to n rows, which are sorted by their patterns."""

    forced: Tensor
    """int64[f]: the single actions of the first f rows; the others have a choice."""
    groups: tuple[Group, ...]
    patterns: Tensor
    """int64[n]: the pattern of each row."""
    opened: Tensor
    """bool[P, A]: the actions of each pattern."""

    def open_actions(self) -> Tensor:
        """bool[n, A]: the masks of the rows."""
        return self.opened[self.patterns]


def checked_masks(masks: Any, rows: int, actions: int) -> NDArray[np.bool_]:
    """Masks as bool[rows, actions], C-contiguous; None: every action is open.

    Raises MaskError for another width or number of rows, and for values other than 0 and 1.
    """
    if masks is None:
        return np.ones((rows, actions), np.bool_)
    if isinstance(masks, Tensor):
        masks = masks.detach().cpu().numpy()
    found = np.asarray(masks)
    if found.ndim == 1 and rows == 1:
        found = found[None]
    if found.shape != (rows, actions):
        raise MaskError(
            f"action masks of shape {list(found.shape)}: give [{rows}, {actions}], a row for each "
            f"observation and a column for each of the {actions} actions"
        )
    if found.dtype != np.bool_:
        if found.dtype.kind not in "iuf" or not ((found == 0) | (found == 1)).all():
            raise MaskError(
                f"action masks of {found.dtype} hold other values than 0 and 1: give booleans, "
                "True for an open action"
            )
        found = found == 1
    return np.ascontiguousarray(found)


def checked_actions(actions: Any, rows: int, count: int) -> NDArray[np.int64]:
    """Actions as int64[rows], each from 0 to count - 1. Raises MaskError."""
    if isinstance(actions, Tensor):
        actions = actions.detach().cpu().numpy()
    found = np.asarray(actions).reshape(-1)
    if found.size != rows:
        raise MaskError(f"{found.size} actions for {rows} observations: give one for each")
    whole = found.dtype.kind in "iu" or (found.dtype.kind == "f" and (found % 1 == 0).all())
    if not whole or (rows and not (found.min() >= 0 and found.max() < count)):
        raise MaskError(
            f"actions {found.min()} to {found.max()} of {found.dtype}: the table of actions has "
            f"whole numbers from 0 to {count - 1}"
        )
    return np.ascontiguousarray(found, np.int64)


@cache
def _hash_keys(actions: int) -> NDArray[np.uint64]:
    """Random uint64[actions], the same in every process."""
    return np.random.default_rng(0).integers(0, 1 << 64, actions, np.uint64)


def patterns_of(masks: NDArray[np.bool_]) -> Patterns:
    """Sort masks bool[n, A] into patterns. Raises MaskError where a row has no open action."""
    hashes = np.empty(len(masks), np.uint64)
    mask_hashes(masks, _hash_keys(masks.shape[1]), hashes)
    first, number = distinct(hashes)
    opened = masks[first]
    counts = np.count_nonzero(opened, axis=1)
    if not counts.all():
        row = int(first[np.flatnonzero(counts == 0)[0]])
        raise MaskError(f"action masks: row {row} has no open action; open at least one")
    order = np.argsort(counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    opened = opened[order]
    only = opened[: np.count_nonzero(counts == 1)].argmax(axis=1)
    return Patterns(rank[number], only, opened, Masks(*group_masks(opened, MOST_PATTERNS)))


def choices_of(
    patterns: Patterns, rows: NDArray[np.int64], device: torch.device | str = "cpu"
) -> Choices:
    """Choices of `rows`, which are sorted by pattern."""
    numbers = patterns.of_row[rows]
    forced = int(np.searchsorted(numbers, patterns.only.size))
    masks, free = patterns.masks, numbers[forced:]
    edges = np.flatnonzero(np.diff(masks.group[free], prepend=-1, append=-1))
    groups: list[Group] = []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist()):
        group = masks.group[free[low]]
        width = int(masks.widths[group])
        arrays = (
            masks.columns[group, :width],
            masks.closed[free[low:high], :width],
            masks.places[group],
        )
        tensors = (torch.from_numpy(array).to(device) for array in arrays)
        groups.append(Group(slice(low, high), *tensors))
    only, each, opened = (
        torch.from_numpy(array).to(device)
        for array in (patterns.only[numbers[:forced]], numbers, patterns.opened)
    )
    return Choices(only, tuple(groups), each, opened)


def group_log_probs(group: Group, hidden: Tensor, head: torch.nn.Linear) -> Tensor:
    """Log probabilities float32[m, w] of a group's actions; hidden float32[m, F] of its rows."""
    weight, bias = (p.index_select(0, group.columns) for p in (head.weight, head.bias))
    return torch.log_softmax(torch.addmm(bias, hidden, weight.t()) + group.closed, dim=1)


def score(
    hidden: Tensor, head: torch.nn.Linear, actions: Tensor, choices: Choices
) -> tuple[Tensor, Tensor]:
    """Log p [n] of actions int64[n] and entropies [n]; a closed action has log p CLOSED.

    hidden [n - f, F]: what `head` reads of the rows that have a choice.
    """
    forced, closed = choices.forced.shape[0], float(CLOSED)
    log_p = [torch.where(actions[:forced] == choices.forced, 0.0, closed)]
    entropy = [torch.zeros_like(log_p[0])]
    for group in choices.groups:
        log_probs = group_log_probs(group, hidden[group.rows], head)
        place = group.places[actions[forced:][group.rows]]
        taken = log_probs.gather(1, place.clamp(min=0)[:, None]).squeeze(1)
        log_p.append(torch.where(place < 0, closed, taken))
        entropy.append(-(log_probs.exp() * log_probs).sum(dim=1))
    return torch.cat(log_p), torch.cat(entropy)


def drawn(log_probs: Tensor) -> Tensor:
    """A column int64[n, 1] of each row of log probabilities [n, w], never one of probability 0.

    By the inverse distribution function, in a third of the time of torch.multinomial.
    """
    below = log_probs.exp().cumsum(dim=1)
    total = below[:, -1:]
    # Drawn on the processor, so that a seed means the same on every device.
    threshold = torch.rand(total.shape).to(total.device) * total
    # Rounding must not lift it to the total, which no column exceeds.
    threshold = torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
    return (below <= threshold).sum(dim=1, keepdim=True)


@torch.no_grad()
def draw(
    hidden: Tensor, head: torch.nn.Linear, choices: Choices, deterministic: bool
) -> tuple[Tensor, Tensor]:
    """Actions int64[n] and their log p [n], drawn or the likeliest; `hidden` as for `score`."""
    actions, log_p = [choices.forced], [hidden.new_zeros(choices.forced.shape)]
    for group in choices.groups:
        log_probs = group_log_probs(group, hidden[group.rows], head)
        place = log_probs.argmax(dim=1, keepdim=True) if deterministic else drawn(log_probs)
        actions.append(group.columns[place.squeeze(1)])
        log_p.append(log_probs.gather(1, place).squeeze(1))
    return torch.cat(actions), torch.cat(log_p)
