"""Rows are sorted by their masks, and every open action has its place in what is computed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.learning.action_masks import CLOSED, WIDTH, distinct
from models.policy.action_masks import MOST_PATTERNS, choices_of, patterns_of


def some_masks(seed: int, rows: int, actions: int, different: int) -> NDArray[np.bool_]:
    """Rows that share a few masks, some of them nearly the same, some with a single action."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.02, 0.3, 0.9], size=(different, 1))
    known = rng.random((different, actions)) < share
    known[np.arange(different), rng.integers(actions, size=different)] = True
    near = known[rng.integers(different)].copy()
    near[rng.integers(actions)] = True
    return np.vstack([known, near])[rng.integers(different + 1, size=rows)]


@given(
    seed=st.integers(0, 1 << 30),
    rows=st.integers(1, 200),
    actions=st.integers(1, 70),
    different=st.sampled_from([1, 2, 5, 20, MOST_PATTERNS + 40]),
)
def test_spans_say_of_every_row_which_actions_are_open(
    seed: int, rows: int, actions: int, different: int
) -> None:
    masks = some_masks(seed, rows, actions, different)
    patterns = patterns_of(masks)
    order = np.argsort(patterns.of_row, kind="stable")
    choices = choices_of(patterns, order)
    first = len(choices.forced)
    sorted_ = masks[order]
    assert (np.count_nonzero(sorted_, axis=1) > 1).tolist() == [False] * first + [True] * (
        rows - first
    )
    assert sorted_[np.arange(first), choices.forced].all()
    columns = choices.columns.numpy()
    row = first
    for count, width, group, pattern, start in choices.spans:
        assert width % WIDTH == 0
        own, closed = columns[start : start + width], choices.closed[pattern, :width]
        assert set(closed) <= {0.0, CLOSED}
        opened = own[closed == 0.0]
        assert (np.diff(opened) > 0).all()
        assert (own[choices.places[group, opened]] == opened).all()
        for mask in sorted_[row : row + count]:
            assert np.flatnonzero(mask).tolist() == opened.tolist()
        row += count
    assert row == rows


@given(seed=st.integers(0, 1 << 30), rows=st.integers(1, 200), different=st.integers(1, 30))
def test_groups_follow_each_other_and_are_not_much_wider_than_needed(
    seed: int, rows: int, different: int
) -> None:
    masks = some_masks(seed, rows, 60, different)
    patterns = patterns_of(masks)
    order = np.argsort(patterns.of_row, kind="stable")
    choices = choices_of(patterns, order)
    row = cell = place = 0
    for group in choices.groups:
        assert (group.rows.start, group.cells.start, group.places.start) == (row, cell, place)
        row, cell, place = group.rows.stop, group.cells.stop, group.places.stop
        width = group.places.stop - group.places.start
        assert group.cells.stop - group.cells.start == width * (row - group.rows.start)
        inside = masks[order][len(choices.forced) :][group.rows]
        fewest = np.count_nonzero(inside, axis=1).min()
        assert width < fewest * 5 // 4 + 8 + WIDTH
    assert row == rows - len(choices.forced)
    assert place == len(choices.columns)
    assert sum(int(count) for count, *_ in choices.spans) == row


@given(st.lists(st.sampled_from([0, 1, 2, 7, (1 << 64) - 1, 1 << 63]), min_size=1, max_size=60))
def test_hashes_are_numbered_by_their_first_appearance(values: list[int]) -> None:
    first, number = distinct(np.array(values, np.uint64))
    known = list(dict.fromkeys(values))
    assert [values[i] for i in first] == known
    assert first.tolist() == [values.index(value) for value in known]
    assert [known[k] for k in number] == values
