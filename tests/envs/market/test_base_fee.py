"""The base fee: demand answers to its recent means, and the path looks like May 2023."""

import numpy as np
import pytest

from envs.calibration.distance import autocorrelation, ranges, response
from envs.market.physics import LOG_FEE_MEAN, MISSED
from kernels.chain.fees import next_base_fee
from kernels.market.tile import BASE_FEE, GAS_USED_RATIO, LANES
from tests.support.worlds import markets

FULLNESS = 1.3  # of every block whose base fee equals its means


def test_demand_falls_with_the_fee_above_its_means() -> None:
    """Blocks that would always be too full: the fee rises until users answer, wei by wei."""
    config = {"gas.used_ratio": (FULLNESS,) * 7, "episode_slots": 300}
    env = markets(LANES, seed=3, ticks_per_slot=1, **config)
    tile, world = env._tiles[0], env._physics.world_row
    fee = np.rint(1e9 * tile[BASE_FEE])
    fast, slow = np.log(tile[BASE_FEE]), np.log(tile[BASE_FEE])
    built = np.zeros(LANES, np.int64)
    for _ in range(120):
        missed = tile[world + MISSED] > 0.0
        level = np.log(tile[BASE_FEE])
        wanted = FULLNESS - 1.436 * (level - fast) - 0.251 * (level - slow)
        fast += -np.expm1(-1.0 / 2.0) * (level - fast) * ~missed
        slow += -np.expm1(-1.0 / 100.0) * (level - slow) * ~missed
        built += ~missed
        env.step(np.zeros(LANES, np.int64))
        np.testing.assert_allclose(tile[GAS_USED_RATIO][~missed], wanted[~missed], atol=1e-6)
        np.testing.assert_allclose(tile[world + LOG_FEE_MEAN], fast, atol=1e-6)
        np.testing.assert_allclose(tile[world + LOG_FEE_MEAN + 1], slow, atol=1e-6)
        for lane in range(LANES):
            if not missed[lane]:
                used = int(0.5 * tile[GAS_USED_RATIO, lane] * 30_000_000)
                fee[lane] = next_base_fee(int(fee[lane]), used, 30_000_000)
        np.testing.assert_allclose(tile[BASE_FEE], 1e-9 * fee, rtol=1e-12)
    assert np.all(built > 100)
    assert np.all(tile[GAS_USED_RATIO] < 1.15), "demand has answered"


def test_paths_are_like_recorded_ones() -> None:
    """Range, reversal and response near those of 14,650 blocks (docs/calibration.md)."""
    env = markets(256, seed=4, ticks_per_slot=1)
    levels, ratios = [], []
    for _ in range(256):
        levels.append(np.log(env._tiles[:, BASE_FEE].reshape(-1)))
        env.step(np.zeros(256, np.int64))
        ratios.append(env._tiles[:, GAS_USED_RATIO].reshape(-1).copy())
    level, ratio = np.array(levels).T, np.array(ratios).T
    # The last block ended the episode: its row is of the next one, and is not used.
    segment = np.repeat(np.arange(256), 256)
    spread = ranges(level.ravel(), segment, 256)
    assert np.median(spread) == pytest.approx(0.416, abs=0.08)
    assert np.quantile(spread, 0.95) == pytest.approx(0.707, abs=0.12)
    changes = np.diff(level, axis=1)
    within = np.repeat(np.arange(256), 255)
    lags = autocorrelation(changes.ravel(), within, (1, 2, 5))
    np.testing.assert_allclose(lags, [-0.162, -0.061, 0.012], atol=0.04)
    slopes = response(level[:, :-1].ravel(), ratio[:, :-1].ravel(), within, (5, 10, 25, 50))
    np.testing.assert_allclose(slopes, [-1.29, -1.02, -0.72, -0.54], atol=0.25)
