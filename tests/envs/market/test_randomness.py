"""Keys that cannot collide, draws that look uniform and independent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from scipy import stats

from envs.market.randomness import (
    SPLITS,
    draw,
    lane_keys,
    quantile,
    quantiles,
    slot_key,
    uniform,
    uniforms,
)
from kernels.compile import kernel, lean_kernel
from kernels.numbers.lanes import WIDTH, load_words, store, whole, wide


@kernel
def _slot_keys(keys: np.ndarray, episodes: int, slots: int) -> np.ndarray:
    out = np.empty((keys.shape[0], episodes, slots), np.uint64)
    for lane in range(keys.shape[0]):
        for episode in range(episodes):
            for slot in range(slots):
                out[lane, episode, slot] = slot_key(keys[lane], episode, slot)
    return out


@kernel
def _uniforms(keys: np.ndarray, channels: int) -> np.ndarray:
    out = np.empty((keys.shape[0], channels))
    for index in range(keys.shape[0]):
        for channel in range(channels):
            out[index, channel] = uniform(keys[index], channel)
    return out


@kernel
def _draws(key: np.uint64, channels: int) -> np.ndarray:
    out = np.empty(channels, np.uint32)
    for channel in range(channels):
        out[channel] = draw(key, channel)
    return out


@kernel
def _quantiles(table: np.ndarray, u: np.ndarray) -> np.ndarray:
    out = np.empty(u.shape[0])
    for index in range(u.shape[0]):
        out[index] = quantile(table, 1, u[index])
    return out


def test_keys_differ_for_every_split_seed_lane_episode_and_slot() -> None:
    lanes = np.concatenate(
        [lane_keys(split, seed, 8) for split in SPLITS for seed in (0, 1, 2, 77, 2**32 - 1)]
    )
    assert np.unique(lanes).size == lanes.size
    keys = _slot_keys(lanes, 20, 40)
    assert np.unique(keys).size == keys.size


def test_splits_are_disjoint_by_construction() -> None:
    """The split is kept in the two low bits of a lane key, whatever seed and lane."""
    for index, split in enumerate(SPLITS):
        assert np.all(lane_keys(split, 123, 50) & np.uint64(3) == index)


def test_first_lane_shifts_the_lanes() -> None:
    np.testing.assert_array_equal(lane_keys("test", 5, 10)[4:], lane_keys("test", 5, 6, first=4))


def test_draws_are_uniform_and_uncorrelated_along_every_axis() -> None:
    keys = _slot_keys(lane_keys("train", 0, 32), 4, 64)
    u = _uniforms(keys.reshape(-1), 32).reshape(*keys.shape, 32)
    assert stats.kstest(u.reshape(-1), "uniform").pvalue > 1e-3
    count = np.histogram(u, 1024, (0.0, 1.0))[0]
    assert stats.chisquare(count).pvalue > 1e-3
    for axis in range(4):
        front = np.moveaxis(u, axis, 0)
        r = np.corrcoef(front[:-1].reshape(-1), front[1:].reshape(-1))[0, 1]
        assert abs(r) < 5.0 / np.sqrt(u.size)
    same = _uniforms(_slot_keys(lane_keys("test", 0, 32), 4, 64).reshape(-1), 32).reshape(u.shape)
    assert abs(np.corrcoef(u.reshape(-1), same.reshape(-1))[0, 1]) < 5.0 / np.sqrt(u.size)


def test_channels_of_a_slot_never_repeat() -> None:
    """For a fixed key the draw is a bijection of the channel."""
    assert np.unique(_draws(np.uint64(0x1234_5678_9ABC_DEF0), 100_000)).size == 100_000


def test_quantile_interpolates_and_keeps_the_ends() -> None:
    table = np.array([[9.0, 9.0, 9.0], [1.0, 2.0, 6.0]])
    u = np.array([0.0, 0.25, 0.5, 0.75, 1.0 - 2.0**-32])
    np.testing.assert_allclose(_quantiles(table, u), [1.0, 1.5, 2.0, 4.0, 6.0], rtol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("dev", 0, 1), "split 'dev'"),
        (("train", -1, 1), "seed -1"),
        (("train", 2**32, 1), "seed"),
        (("train", 0, 2**31), "lanes"),
    ],
)
def test_bad_keys_are_refused(arguments: tuple[str, int, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        lane_keys(*arguments)


@njit
def _one_by_one(keys: np.ndarray, channels: np.ndarray) -> np.ndarray:
    out = np.empty(keys.size)
    for index in range(keys.size):
        out[index] = uniform(keys[index], channels[index])
    return out


@lean_kernel
def _lanes_at_once(keys: np.ndarray, table: np.ndarray, channel: int, out: np.ndarray) -> None:
    """Rows of out: a draw, another one by lane, and a quantile of the first."""
    drawn = load_words(keys, 0, wide())
    u = uniforms(drawn, whole(wide()) + channel)
    store(out, 0, 0, u)
    store(out, 1, 0, uniforms(drawn, whole(u * 1000.0)))
    store(out, 2, 0, quantiles(table, 1, u))


@given(st.integers(0, 2**20), st.integers(0, 2**32 - 1))
def test_lanes_draw_what_one_alone_would(channel: int, seed: int) -> None:
    keys = _slot_keys(lane_keys("train", seed, WIDTH), 1, 1).reshape(-1)
    table = np.random.default_rng(3).random((2, 9))
    out = np.zeros((3, WIDTH))
    _lanes_at_once(keys, table, channel, out)
    first = _one_by_one(keys, np.full(WIDTH, channel))
    assert np.array_equal(out[0], first)
    assert np.array_equal(out[1], _one_by_one(keys, (first * 1000.0).astype(np.int64)))
    assert np.array_equal(out[2], _quantiles(table, first))
