"""Eight lanes at once give, lane by lane, the bits of one float64 after another."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.compile import inline, lean_kernel
from kernels.market.observation import ln
from kernels.numbers.lanes import (
    WIDTH,
    any_lane,
    bits_of,
    choose,
    from_bits,
    least,
    load,
    most,
    real,
    square_root,
    store,
    store_fields,
    whole,
    wide,
)

RESULTS = 12
numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)


@inline
def _arithmetic(tile: np.ndarray, lane: int, like: Any) -> None:
    x, y = load(tile, 0, lane, like), load(tile, 1, lane, like)
    store(tile, 2, lane, x + y * 2.0 - 1)
    store(tile, 3, lane, x / y)
    store(tile, 4, lane, square_root(x))
    store(tile, 5, lane, choose((x < y) | (y == 0.0), x, y))
    store(tile, 6, lane, choose((x >= y) & (x != y), 1.0, like - 1.0))
    store(tile, 7, lane, least(x, y))
    store(tile, 8, lane, most(x, y))
    bits = bits_of(x)
    store(tile, 9, lane, from_bits(((bits >> 3) & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000))
    small = choose((x > -1e6) & (x < 1e6), x, 0.0)
    store(tile, 10, lane, real((whole(small) << 2) + whole(like + 7.9)))
    total = like
    total += x
    total *= y
    store(tile, 11, lane, choose(x <= y, total, x))


@lean_kernel
def arithmetic(tile: np.ndarray) -> None:
    """Every operation, on one lane or on WIDTH of them."""
    if tile.shape[1] == WIDTH:
        _arithmetic(tile, 0, wide())
    else:
        _arithmetic(tile, 0, 0.0)


@given(arrays(np.float64, (2, WIDTH), elements=numbers))
def test_each_lane_has_the_bits_of_a_float64(given_: np.ndarray) -> None:
    together = np.zeros((RESULTS, WIDTH))
    together[:2] = given_
    arithmetic(together)
    for lane in range(WIDTH):
        alone = np.zeros((RESULTS, 1))
        alone[:2, 0] = given_[:, lane]
        arithmetic(alone)
        both = np.stack([together[:, lane], alone[:, 0]])
        # Which of its bit patterns "not a number" has is not defined.
        both[np.isnan(both)] = np.nan
        assert both[0].tobytes() == both[1].tobytes()


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (2, lambda x, y: x + y * 2.0 - 1),
        (3, lambda x, y: x / y),
        (4, lambda x, y: np.sqrt(x)),
        (7, np.minimum),
        (8, np.maximum),
        (10, lambda x, y: np.trunc(x) * 4 + 7),
    ],
)
def test_operations_are_those_of_numpy(row: int, wanted: Callable) -> None:
    rng = np.random.default_rng(5)
    tile = np.zeros((RESULTS, WIDTH))
    tile[:2] = rng.uniform(0.0, 9.0, (2, WIDTH))
    arithmetic(tile)
    assert np.array_equal(tile[row], wanted(tile[0], tile[1]))


def test_what_is_not_a_number_is_refused_as_in_python() -> None:
    """least and most keep the first, as min(x, y) and max(x, y) do."""
    tile = np.zeros((RESULTS, WIDTH))
    tile[0], tile[1] = np.nan, 3.0
    arithmetic(tile)
    assert np.isnan(tile[7:9]).all()
    tile[0], tile[1] = 3.0, np.nan
    arithmetic(tile)
    assert (tile[7:9] == 3.0).all()


@inline
def _mark(tile: np.ndarray, lane: int, like: Any) -> bool:
    return any_lane(load(tile, 0, lane, like) > 1.0)


@lean_kernel
def some_above_one(tile: np.ndarray) -> bool:
    """Whether any lane holds more than 1."""
    return _mark(tile, 0, wide()) if tile.shape[1] == WIDTH else _mark(tile, 0, 0.0)


@pytest.mark.parametrize("lane", range(WIDTH))
def test_any_lane_sees_each(lane: int) -> None:
    tile = np.zeros((1, WIDTH))
    assert not some_above_one(tile)
    tile[0, lane] = 2.0
    assert some_above_one(tile)


@inline
def _fields(tile: np.ndarray, lane: int, like: Any, out: np.ndarray) -> None:
    x = load(tile, 0, lane, like)
    shown = load(tile, 1, lane, like) > 0.0
    group = (x, x + 1.0, x + 2.0, x + 3.0, x + 4.0, x + 5.0)
    store_fields(out, lane, 1, shown, (*group, x, x + 1.0, x + 2.0, x + 3.0, x + 4.0))


@lean_kernel
def fields(tile: np.ndarray, out: np.ndarray) -> None:
    """Eleven fields from column 1 on."""
    if tile.shape[1] == 2 * WIDTH:
        for lane in range(0, 2 * WIDTH, WIDTH):
            _fields(tile, lane, wide(), out)
    else:
        for lane in range(tile.shape[1]):
            _fields(tile, lane, 0.0, out)


def test_fields_are_written_row_by_row_and_nowhere_else() -> None:
    rng = np.random.default_rng(7)
    tile = rng.random((2, 2 * WIDTH))
    tile[1, ::3] = 0.0
    out = np.full((2 * WIDTH, 13), -7.0, np.float32)
    fields(tile, out)
    steps = np.r_[np.arange(6.0), np.arange(5.0)]
    wanted = ((tile[0][:, None] + steps) * (tile[1][:, None] > 0.0)).astype(np.float32)
    assert np.array_equal(out[:, 1:12], wanted)
    assert (out[:, [0, 12]] == -7.0).all()
    odd = np.full((2 * WIDTH + 1, 13), -7.0, np.float32)
    fields(np.hstack([tile, tile[:, :1]]), odd)
    assert np.array_equal(odd[:-1], out)


@inline
def _logarithm(tile: np.ndarray, lane: int, like: Any) -> None:
    store(tile, 1, lane, ln(load(tile, 0, lane, like)))


@lean_kernel
def logarithm(tile: np.ndarray) -> None:
    """Row 1 becomes ln of row 0."""
    _logarithm(tile, 0, wide())


def test_the_logarithm_of_all_lanes() -> None:
    tile = np.zeros((2, WIDTH))
    tile[0] = np.geomspace(1e-300, 1e300, WIDTH)
    logarithm(tile)
    assert np.abs(tile[1] - np.log(tile[0])).max() < 1e-9 * 700
