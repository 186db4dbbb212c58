"""Rows are sorted by their masks, and every open action has its place in what is computed."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.learning.action_masks import CLOSED, WIDTH, distinct
from models.policy.action_masks import (
    MOST_PATTERNS,
    MaskError,
    checked_actions,
    checked_masks,
    choices_of,
    drawn,
    patterns_of,
)


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
def test_groups_say_of_every_row_which_actions_are_open(
    seed: int, rows: int, actions: int, different: int
) -> None:
    masks = some_masks(seed, rows, actions, different)
    patterns = patterns_of(masks)
    order = np.argsort(patterns.of_row, kind="stable")
    choices = choices_of(patterns, order)
    forced, sorted_ = len(choices.forced), masks[order]
    assert (np.count_nonzero(sorted_, axis=1) > 1).tolist() == [False] * forced + [True] * (
        rows - forced
    )
    assert sorted_[np.arange(forced), choices.forced].all()
    assert np.array_equal(choices.open_actions(), sorted_)
    row = 0
    for group in choices.groups:
        assert group.rows.start == row, "groups follow each other"
        row = group.rows.stop
        columns, closed, places = (tensor.numpy() for tensor in group[1:])
        assert len(columns) % WIDTH == 0
        assert set(closed.reshape(-1)) <= {0.0, CLOSED}
        for mask, shut in zip(sorted_[forced:][group.rows], closed, strict=True):
            assert columns[shut == 0.0].tolist() == np.flatnonzero(mask).tolist()
            assert (columns[places[mask]] == np.flatnonzero(mask)).all()
    assert row == rows - forced


@given(seed=st.integers(0, 1 << 30), rows=st.integers(1, 200), different=st.integers(1, 30))
def test_groups_are_not_much_wider_than_needed(seed: int, rows: int, different: int) -> None:
    masks = some_masks(seed, rows, 60, different)
    patterns = patterns_of(masks)
    order = np.argsort(patterns.of_row, kind="stable")
    choices = choices_of(patterns, order)
    open_masks = masks[order][len(choices.forced) :]
    for group in choices.groups:
        fewest = np.count_nonzero(open_masks[group.rows], axis=1).min()
        assert len(group.columns) < fewest * 5 // 4 + 8 + WIDTH


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.ones((3, 9), np.bool_), r"shape \[3, 9\]: give \[3, 5\]"),
        (np.ones((2, 5), np.bool_), r"shape \[2, 5\]"),
        (np.ones(15, np.bool_), r"shape \[15\]"),
        (np.full((3, 5), 0.5), "other values than 0 and 1"),
        (np.full((3, 5), np.nan), "other values than 0 and 1"),
        (np.full((3, 5), -1), "other values than 0 and 1"),
        (np.full((3, 5), "yes"), "other values than 0 and 1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: Any, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        checked_masks(masks, 3, 5)


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.float32, np.float64])
def test_masks_of_0_and_1_are_taken_in_any_type(kind: type) -> None:
    masks = some_masks(3, 7, 9, 4)
    for given_masks in (masks.astype(kind), torch.from_numpy(masks.astype(kind))):
        assert np.array_equal(checked_masks(given_masks, 7, 9), masks)
    assert checked_masks(np.asfortranarray(masks.astype(kind)), 7, 9).flags.c_contiguous


def test_a_row_without_any_open_action_is_refused() -> None:
    masks = np.ones((4, 6), np.bool_)
    masks[2] = False
    with pytest.raises(MaskError, match="row 2 has no open action"):
        patterns_of(masks)


@pytest.mark.parametrize("actions", [[0, 5], [-1, 0], [0.5, 1.0], [0], [1 << 40, 0]])
def test_actions_outside_the_table_are_refused(actions: list[float]) -> None:
    with pytest.raises(MaskError, match="actions"):
        checked_actions(np.array(actions), 2, 5)


def test_draws_follow_the_probabilities_and_never_take_what_is_closed() -> None:
    torch.manual_seed(0)
    p = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    places = drawn(p.log().repeat(40_000, 1)).squeeze(1)
    found = torch.bincount(places, minlength=6) / 40_000
    torch.testing.assert_close(found, p, rtol=0.0, atol=0.012)
    assert found[p == 0.0].sum() == 0.0


@given(st.lists(st.sampled_from([0, 1, 2, 7, (1 << 64) - 1, 1 << 63]), min_size=1, max_size=60))
def test_hashes_are_numbered_by_their_first_appearance(values: list[int]) -> None:
    first, number = distinct(np.array(values, np.uint64))
    known = list(dict.fromkeys(values))
    assert [values[i] for i in first] == known
    assert first.tolist() == [values.index(value) for value in known]
    assert [known[k] for k in number] == values
