"""Lists of lanes that have work, against numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.compile import lean_kernel
from kernels.numbers.lane_sets import (
    LIST_ROOM,
    append,
    bits_in,
    entry,
    first_bit,
    gather_entries,
    highest,
    lane_numbers,
    lanes_where,
    new_list,
)
from kernels.numbers.lanes import WIDTH, load, store, whole, wide

numbers = st.floats(-1e6, 1e6, allow_nan=False, width=64)


@lean_kernel
def positives(rows: np.ndarray, listed: np.ndarray) -> int:
    """Row * WIDTH + lane of every entry above 0, by rows, into `listed`; how many there are."""
    work, count = new_list(), 0
    for row in range(rows.shape[0]):
        value = load(rows, row, 0, wide())
        count = append(work, count, lane_numbers(wide()) + row * WIDTH, value > 0.0)
    for index in range(count):
        listed[index] = entry(work, index)
    return count


@lean_kernel
def one_by_one(values: np.ndarray, listed: np.ndarray) -> int:
    """The same of a single lane."""
    work, count = new_list(), 0
    for row in range(values.shape[0]):
        count = append(work, count, lane_numbers(0.0) + row, values[row, 0] > 0.0)
    for index in range(count):
        listed[index] = entry(work, index)
    return count


@lean_kernel
def summaries(rows: np.ndarray, out: np.ndarray) -> None:
    """What is told of row 0: lanes above 0 as bits, how many and the first; the highest."""
    value = load(rows, 0, 0, wide())
    lanes = lanes_where(value > 0.0)
    out[0], out[1] = lanes, bits_in(lanes)
    out[2] = first_bit(lanes) if lanes != 0 else -1
    out[3] = highest(value)
    out[4] = bits_in(whole(value * value))


@lean_kernel
def gathered(table: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """Entries of the table at rows places[0], columns places[1]."""
    rows, columns = whole(load(places, 0, 0, wide())), whole(load(places, 1, 0, wide()))
    store(out, 0, 0, gather_entries(table, rows, columns))


@given(arrays(np.float64, (LIST_ROOM // WIDTH - 1, WIDTH), elements=st.sampled_from([-1.0, 2.0])))
def test_a_list_holds_what_is_set_in_order(rows: np.ndarray) -> None:
    listed = np.zeros(rows.size, np.int64)
    count = positives(rows, listed)
    np.testing.assert_array_equal(listed[:count], np.flatnonzero(rows.ravel() > 0.0))
    alone = np.zeros(rows.shape[0], np.int64)
    count = one_by_one(rows, alone)
    np.testing.assert_array_equal(alone[:count], np.flatnonzero(rows[:, 0] > 0.0))


@given(arrays(np.float64, (1, WIDTH), elements=numbers))
def test_summaries_are_those_of_numpy(rows: np.ndarray) -> None:
    out = np.zeros(5)
    summaries(rows, out)
    above = np.flatnonzero(rows[0] > 0.0)
    assert out[0] == sum(1 << int(lane) for lane in above)
    assert out[1] == above.size
    assert out[2] == (above[0] if above.size else -1)
    assert out[3] == rows.max()
    assert out[4] == sum(int(x * x).bit_count() for x in rows[0])


def test_entries_are_gathered_from_their_own_row_and_column() -> None:
    rng = np.random.default_rng(0)
    table = rng.random((5, 7))
    places = np.stack([rng.integers(0, 5, WIDTH), rng.integers(0, 7, WIDTH)]).astype(np.float64)
    out = np.zeros((1, WIDTH))
    gathered(table, places, out)
    np.testing.assert_array_equal(out[0], table[places[0].astype(int), places[1].astype(int)])
