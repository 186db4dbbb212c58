"""The overlay applies visible swaps as a block would, and lanes do not depend on their number."""

import numpy as np
import pytest

from kernels.compile import lean_kernel
from kernels.market.action import ACTIONS
from kernels.market.amm import SEGMENT_ROOT, PoolState, overlay, quote
from kernels.market.amm import swap as sell
from kernels.market.observation import SIZE, observe, record_auction
from kernels.market.tile import (
    CONCENTRATED_ROWS,
    LANES,
    LIQUIDITY,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    LOWEST_ROOT,
    OVERLAY_SEGMENT,
    PENDING,
    PENDING_AMOUNT_IN,
    PENDING_AMOUNT_OUT,
    PENDING_MIN_OUT,
    PENDING_ORDER,
    PENDING_POOL,
    PENDING_REFUND,
    PENDING_TIP,
    PENDING_VISIBLE,
    PENDING_ZERO_FOR_ONE,
    RESERVES,
    SCRATCH,
    SCRATCH_ROWS,
    SEGMENT,
    SEGMENTS,
    layout_of,
    tile_rows,
)
from tests.support.markets import head_of, random_tile, two_venues

GRAPH = two_venues()
POOLS = GRAPH.token0.size


@lean_kernel
def _swap(
    state: PoolState, lane: int, pool: int, forward: bool, amount: float, gamma: float
) -> float:
    return sell(state, lane, pool, forward, amount, gamma)


@lean_kernel
def _quote(
    state: PoolState, lane: int, pool: int, forward: bool, amount: float, gamma: float
) -> float:
    return quote(state, lane, pool, forward, amount, gamma)


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
    first = layout_of(GRAPH).overlay
    for lane in range(LANES):
        reserves, out = _python_overlay(before, lane)
        np.testing.assert_allclose(tile[first : first + 2 * POOLS, lane], reserves, rtol=1e-14)
        got = tile[PENDING_AMOUNT_OUT : PENDING_AMOUNT_OUT + PENDING, lane]
        np.testing.assert_allclose(got, out, rtol=1e-12)
    rows = slice(RESERVES, RESERVES + 2 * POOLS)
    np.testing.assert_array_equal(tile[rows], before[rows])


class _Pool:
    """One pool in plain Python; a concentrated one walks its segments on square-root prices."""

    def __init__(self, tile: np.ndarray, lane: int, pool: int, concentrated: int) -> None:
        self.reserves = [tile[RESERVES + pool, lane], tile[RESERVES + POOLS + pool, lane]]
        self.segments = pool >= POOLS - concentrated
        if self.segments:
            at = layout_of(GRAPH).concentrated + CONCENTRATED_ROWS * (pool - POOLS + concentrated)
            self.root = np.sqrt(self.reserves[1] / self.reserves[0])
            self.ends = tile[at + LOWEST_ROOT, lane] * SEGMENT_ROOT
            self.depth = tile[at + LIQUIDITY : at + LIQUIDITY + SEGMENTS, lane]
            self.at = int(tile[at + SEGMENT, lane])

    def sell(self, forward: bool, amount: float) -> float:
        """Output; the price moves."""
        paid, out = amount * 997 / 1000, 0.0
        if not self.segments:
            i = 0 if forward else 1
            out = self.reserves[1 - i] * paid / (self.reserves[i] + paid)
            self.reserves[i] += amount
            self.reserves[1 - i] -= out
            return out
        while True:
            depth = self.depth[self.at]
            last = self.at == (0 if forward else SEGMENTS - 1)
            end = self.ends[self.at + (0 if forward else 1)]
            if forward:
                root = 1.0 / (1.0 / self.root + paid / depth)
                beyond = not last and root <= end
            else:
                root = self.root + paid / depth
                beyond = not last and root >= end
            root = end if beyond else root
            moved0, moved1 = depth * (1.0 / root - 1.0 / self.root), depth * (root - self.root)
            out -= moved1 if forward else moved0
            paid -= moved0 if forward else moved1
            self.root = root
            if not beyond:
                return out
            self.at += -1 if forward else 1


@pytest.mark.parametrize("seed", range(6))
def test_concentrated_pools_walk_their_segments(seed: int) -> None:
    """Swaps large enough to cross segments, against square-root prices in Python."""
    tile, crossed = random_tile(GRAPH, LANES, seed, concentrated=4), 0
    tile[PENDING_AMOUNT_IN : PENDING_AMOUNT_IN + PENDING] *= 3.0
    before = tile.copy()
    overlay(GRAPH.cycles, GRAPH.weights, tile)
    first = layout_of(GRAPH).overlay
    for lane in range(LANES):
        pools = [_Pool(before, lane, pool, 4) for pool in range(POOLS)]
        starts = [pool.at for pool in pools[4:]]
        for place in range(PENDING):
            swap = int(tile[PENDING_ORDER + place, lane])
            if before[PENDING_VISIBLE + swap, lane] <= 0.0:
                continue
            pool = pools[int(before[PENDING_POOL + swap, lane])]
            forward = before[PENDING_ZERO_FOR_ONE + swap, lane] > 0.0
            out = pool.sell(forward, before[PENDING_AMOUNT_IN + swap, lane])
            assert tile[PENDING_AMOUNT_OUT + swap, lane] == pytest.approx(out, rel=1e-10)
        for index, pool in enumerate(pools[4:]):
            at = layout_of(GRAPH).concentrated + CONCENTRATED_ROWS * index
            assert tile[at + OVERLAY_SEGMENT, lane] == pool.at
            root = np.sqrt(tile[first + POOLS + 4 + index, lane] / tile[first + 4 + index, lane])
            assert root == pytest.approx(pool.root, rel=1e-11)
            crossed += pool.at != starts[index]
    assert crossed > 5


@pytest.mark.parametrize("seed", range(4))
def test_a_quote_is_the_swap_and_parts_make_the_whole(seed: int) -> None:
    tile = random_tile(GRAPH, LANES, seed, concentrated=4)
    rng = np.random.default_rng(seed)
    for lane in range(LANES):
        for pool in range(4, POOLS):
            forward, amount = bool(rng.integers(2)), rng.uniform(0.001, 0.06)
            row = RESERVES + pool + (0 if forward else POOLS)
            amount *= tile[row, lane]
            gamma = GRAPH.weights[pool]
            whole, parts = tile[:, lane : lane + 1].copy(), tile[:, lane : lane + 1].copy()
            state, halved = head_of(whole, GRAPH), head_of(parts, GRAPH)
            quoted = _quote(state, 0, pool, forward, amount, gamma)
            assert _swap(state, 0, pool, forward, amount, gamma) == quoted
            halves = sum(_swap(halved, 0, pool, forward, amount / 2, gamma) for _ in range(2))
            assert halves == pytest.approx(quoted, rel=1e-12)
            np.testing.assert_allclose(parts, whole, rtol=1e-9)
            back = _swap(state, 0, pool, not forward, quoted, gamma)
            assert back < amount * gamma


def test_a_swap_below_its_minimum_reverts() -> None:
    tile = random_tile(GRAPH, LANES, 3)
    overlay(GRAPH.cycles, GRAPH.weights, tile)
    got = tile[PENDING_AMOUNT_OUT : PENDING_AMOUNT_OUT + PENDING].copy()
    rows = slice(PENDING_MIN_OUT, PENDING_MIN_OUT + PENDING)
    tile[rows] = got  # what a swap gets is enough for it, to the last bit
    overlay(GRAPH.cycles, GRAPH.weights, tile)
    after = tile[PENDING_AMOUNT_OUT : PENDING_AMOUNT_OUT + PENDING]
    np.testing.assert_array_equal(after, got)
    tile[rows] = got * (1.0 + 1e-12)
    overlay(GRAPH.cycles, GRAPH.weights, tile)
    first = np.array([int(tile[PENDING_ORDER, lane]) for lane in range(LANES)])
    assert np.all(after[first, np.arange(LANES)] == 0.0)
    tile[rows] = 1e300
    overlay(GRAPH.cycles, GRAPH.weights, tile)
    row = layout_of(GRAPH).overlay
    np.testing.assert_array_equal(tile[row : row + 2 * POOLS], tile[RESERVES : RESERVES + 16])
    assert not after.any()


def test_equal_tips_keep_arrival_order_and_private_swaps_come_last() -> None:
    tile = random_tile(GRAPH, 1, 0)
    tile[PENDING_TIP : PENDING_TIP + PENDING, 0] = [2, 5, 2, 5, 9, 0, 2, 5]
    tile[PENDING_VISIBLE : PENDING_VISIBLE + PENDING, 0] = [1, 1, 1, 1, 0, 1, 1, 1]
    overlay(GRAPH.cycles, GRAPH.weights, tile)
    order = tile[PENDING_ORDER : PENDING_ORDER + PENDING, 0].astype(int).tolist()
    assert order == [1, 3, 7, 0, 2, 6, 5, 4]


def _add_loans(tile: np.ndarray, rng: np.random.Generator) -> None:
    """Loans around the edge on pools 0 and 1, where the hub is token0."""
    for loan in range(4):
        price = 1 / 2000
        collateral = rng.uniform(5.0, 200.0, tile.shape[1])
        tile[LOAN_COLLATERAL + loan] = collateral
        tile[LOAN_DEBT + loan] = collateral * 0.83 / rng.uniform(0.9, 1.1, tile.shape[1]) / price
        tile[LOAN_POOL + loan], tile[LOAN_HUB_FIRST + loan] = loan % 2, 1.0
        tile[LOAN_PRICE + loan] = price


@pytest.mark.parametrize("seed", range(20))
def test_one_lane_and_sixteen_give_the_same_bytes(seed: int) -> None:
    """The server has one lane, the simulator sixteen: observation and mask must not differ."""
    tile = random_tile(GRAPH, LANES, seed, concentrated=4 * (seed % 2))
    if seed % 4 < 2:
        _add_loans(tile, np.random.default_rng(seed))
    tile[PENDING_REFUND : PENDING_REFUND + PENDING] = (np.arange(8) % 3 == seed % 3)[:, None]
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
        scratch = slice(SCRATCH_ROWS, SCRATCH_ROWS + SCRATCH)
        both = [np.delete(t, scratch, axis=0) for t in (alone[lane], tile[:, lane : lane + 1])]
        assert both[0].tobytes() == both[1].tobytes()


def test_tile_has_the_rows_that_the_kernels_use() -> None:
    tile = random_tile(GRAPH, LANES, 1)
    assert tile.shape == (tile_rows(GRAPH), LANES)
    observation, mask = np.empty((LANES, SIZE), np.float32), np.empty((LANES, ACTIONS), np.bool_)
    guarded = np.concatenate([tile, np.full((8, LANES), np.nan)])
    observe(GRAPH.cycles, GRAPH.weights, guarded, observation, mask)
    assert np.isnan(guarded[-8:]).all()
    rows = np.delete(guarded[:-8], np.s_[SCRATCH_ROWS : SCRATCH_ROWS + SCRATCH], axis=0)
    assert not np.isnan(rows).any()
