"""The overlay applies visible swaps as a block would, and lanes do not depend on their number."""

import numpy as np
import pytest

from kernels.action import ACTIONS
from kernels.market import (
    LANES,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_ORDER,
    PENDING_POOL,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    overlay,
    overlay_row,
    tile_rows,
)
from kernels.observation import SIZE, observe, record_auction
from tests.kernels.markets import random_tile, two_venues

GRAPH = two_venues()
POOLS = GRAPH.token0.size


def _python_overlay(tile: np.ndarray, lane: int) -> tuple[np.ndarray, np.ndarray]:
    """Reserves after the visible swaps and what each swap got, in plain Python."""
    column = tile[:, lane]
    reserves = column[RESERVES : RESERVES + 2 * POOLS].copy()
    out = np.zeros(PENDING)
    shown = [swap for swap in range(PENDING) if column[PENDING_VISIBLE + swap] > 0.0]
    for swap in sorted(shown, key=lambda swap: -column[PENDING_TIP + swap]):
        pool = int(column[PENDING_POOL + swap])
        forward = column[PENDING_ZERO_FOR_ONE + swap] > 0.0
        sold, bought = (pool, pool + POOLS) if forward else (pool + POOLS, pool)
        paid = column[PENDING_AMOUNT_IN + swap] * 997 / 1000
        out[swap] = reserves[bought] * paid / (reserves[sold] + paid)
        reserves[sold] += column[PENDING_AMOUNT_IN + swap]
        reserves[bought] -= out[swap]
    return reserves, out


@pytest.mark.parametrize("seed", range(5))
def test_overlay_equals_python(seed: int) -> None:
    tile = random_tile(GRAPH, LANES, seed)
    before = tile.copy()
    overlay(GRAPH.cycles, GRAPH.weights, tile)
    first = overlay_row(POOLS)
    for lane in range(LANES):
        reserves, out = _python_overlay(before, lane)
        np.testing.assert_allclose(tile[first : first + 2 * POOLS, lane], reserves, rtol=1e-14)
        got = tile[PENDING_AMOUNT_OUT : PENDING_AMOUNT_OUT + PENDING, lane]
        np.testing.assert_allclose(got, out, rtol=1e-12)
    np.testing.assert_array_equal(tile[RESERVES : RESERVES + 2 * POOLS], before[RESERVES:first])


def test_equal_tips_keep_arrival_order_and_private_swaps_come_last() -> None:
    tile = random_tile(GRAPH, 1, 0)
    tile[PENDING_TIP : PENDING_TIP + PENDING, 0] = [2, 5, 2, 5, 9, 0, 2, 5]
    tile[PENDING_VISIBLE : PENDING_VISIBLE + PENDING, 0] = [1, 1, 1, 1, 0, 1, 1, 1]
    overlay(GRAPH.cycles, GRAPH.weights, tile)
    order = tile[PENDING_ORDER : PENDING_ORDER + PENDING, 0].astype(int).tolist()
    assert order == [1, 3, 7, 0, 2, 6, 5, 4]


@pytest.mark.parametrize("seed", range(20))
def test_one_lane_and_sixteen_give_the_same_bytes(seed: int) -> None:
    """The server has one lane, the simulator sixteen: observation and mask must not differ."""
    tile = random_tile(GRAPH, LANES, seed)
    rng = np.random.default_rng(seed)
    for lane in range(LANES):
        for _ in range(rng.integers(0, 12)):
            value, own, top = rng.lognormal(-3, 2), rng.random(), rng.random()
            record_auction(tile, lane, value, own, max(own, top), bool(own > top))
    alone = [tile[:, lane : lane + 1].copy() for lane in range(LANES)]
    shown, allowed = np.empty((LANES, SIZE), np.float32), np.empty((LANES, ACTIONS), np.bool_)
    observe(GRAPH.cycles, GRAPH.weights, tile, shown, allowed)
    assert allowed[:, 1:].any()
    for lane in range(LANES):
        one, mask = np.empty((1, SIZE), np.float32), np.empty((1, ACTIONS), np.bool_)
        observe(GRAPH.cycles, GRAPH.weights, alone[lane], one, mask)
        assert one.tobytes() == shown[lane].tobytes()
        assert np.array_equal(mask[0], allowed[lane])
        assert alone[lane].tobytes() == tile[:, lane : lane + 1].copy().tobytes()


def test_tile_has_the_rows_that_the_kernels_use() -> None:
    tile = random_tile(GRAPH, LANES, 1)
    assert tile.shape == (tile_rows(GRAPH), LANES)
    observation, mask = np.empty((LANES, SIZE), np.float32), np.empty((LANES, ACTIONS), np.bool_)
    guarded = np.concatenate([tile, np.full((8, LANES), np.nan)])
    observe(GRAPH.cycles, GRAPH.weights, guarded, observation, mask)
    assert np.isnan(guarded[-8:]).all()
    assert np.isfinite(guarded[:-8]).all()
