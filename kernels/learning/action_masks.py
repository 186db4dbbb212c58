"""Masks of actions: which rows have the same one, and which masks are scored together.

A masked action's logit changes nothing, so it need not be computed. Rows with the same mask are a
pattern; patterns with nearly the same actions are a group, whose logits are one matrix product over
the actions that are open in any of them.
"""

from typing import NamedTuple

import numpy as np

from kernels.compile import inline, kernel

CLOSED = np.float32(-1e8)
"""Added to a masked logit: its exponential is exactly 0 in float32, and 0 times it is 0."""
WIDTH = 16
"""Logits of a group are a multiple of it: products and vector loops slow down at other widths."""


class Masks(NamedTuple):
    """P patterns of open actions in G groups, as `group_masks` says."""

    group: np.ndarray
    widths: np.ndarray
    columns: np.ndarray
    places: np.ndarray
    closed: np.ndarray


@kernel
def mask_hashes(masks: np.ndarray, keys: np.ndarray, hashes: np.ndarray) -> None:
    """A 64-bit hash of each row of masks bool[n, A] into hashes uint64[n]: the same for equal rows.

    keys uint64[A] random: the sum over allowed actions, which vectorises (after Zobrist 1970).
    """
    for i in range(masks.shape[0]):
        row = masks[i]
        h = np.uint64(0)
        for j in range(row.size):
            h += keys[j] * np.uint64(row[j])
        hashes[i] = h


@kernel
def distinct(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number hashes uint64[n] by their first appearance: where each appears first, int64[P], and
    the number of each, int64[n].
    """
    n = hashes.size
    size = 2
    while size < 2 * n:
        size *= 2
    table, first = np.full(size, -1), np.empty(n, np.int64)
    number = np.empty(n, np.int64)
    known = 0
    for i in range(n):
        place = np.int64(hashes[i] >> np.uint64(1)) & (size - 1)
        while table[place] >= 0 and hashes[first[table[place]]] != hashes[i]:
            place = (place + 1) & (size - 1)
        if table[place] < 0:
            table[place], first[known] = known, i
            known += 1
        number[i] = table[place]
    return first[:known].copy(), number


@inline
def _union(union: np.ndarray, opened: np.ndarray) -> int:
    total = 0
    for a in range(union.size):
        total += union[a] | opened[a]
    return total


@kernel
def group_masks(
    opened: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Put patterns opened bool[P, A], fewest actions first, into G groups.

    Those with a single action, which need no logits, are a group of width 0. Another pattern joins
    the group before it while the actions of all stay within 5/4 of the fewest plus 8; where there
    are over `most` patterns, every one does.
    Returns group int64[P]; widths int64[G]; columns int64[G, W], the actions that each group
    computes, ascending, then action 0 until the width is a multiple of WIDTH; places int64[G, A],
    the place of an action among them or -1; closed float32[P, W]: 0 where a column is open in the
    pattern, else CLOSED.
    """
    patterns, actions = opened.shape
    group = np.empty(patterns, np.int64)
    union = np.zeros(actions, np.bool_)
    known, fewest = 0, 0
    for p in range(patterns):
        count = 0
        for a in range(actions):
            count += opened[p, a]
        joins = known > 0 and fewest == 1 and count <= 1
        if known > 0 and fewest > 1:
            joins = patterns > most or _union(union, opened[p]) <= fewest * 5 // 4 + 8
        if not joins:
            known += 1
            fewest = count
            union[:] = False
        union |= opened[p]
        group[p] = known - 1
    widths = np.zeros(known, np.int64)
    places = np.full((known, actions), -1)
    most_columns = (actions + WIDTH - 1) // WIDTH * WIDTH
    columns = np.zeros((known, most_columns), np.int64)
    closed = np.full((patterns, most_columns), CLOSED)
    first = 0
    for g in range(known):
        last = first
        union[:] = False
        while last < patterns and group[last] == g:
            union |= opened[last]
            last += 1
        used = 0
        for a in range(actions):
            if union[a]:
                columns[g, used] = a
                places[g, a] = used
                used += 1
        if opened[first].sum() > 1:
            widths[g] = (used + WIDTH - 1) // WIDTH * WIDTH
        for p in range(first, last):
            for j in range(used):
                if opened[p, columns[g, j]]:
                    closed[p, j] = np.float32(0.0)
        first = last
    return group, widths, columns, places, closed
