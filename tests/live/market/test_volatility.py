"""The served forecast: bars built from heads equal bars from a file, and gaps do no harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from live.market.volatility import FALLBACK, WARM, Volatility, WarmUpBars, dollar_pool, shifted_to
from models.frozen import FrozenForecaster, load_forecaster
from tests.support.frozen_policy import write_fixed_fraction_policy
from tests.support.small_market import deployment

DAY = 1440
WEEK = 7 * DAY
# a Monday, 00:00 UTC
START = 2790 * WEEK + 4 * DAY


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fixed_fraction_policy(tmp_path_factory.mktemp("run") / "policy")


@pytest.fixture
def forecaster(policy_folder: Path) -> FrozenForecaster:
    return load_forecaster(policy_folder)


def recorded(minutes: int, price: float = 2000.0) -> WarmUpBars:
    """Bars that open where the last one closed, their extremes at open and close."""
    rng = np.random.default_rng(3)
    close = price * np.exp(np.cumsum(rng.normal(0.0, 8e-4, minutes)))
    open_ = np.concatenate([[price], close[:-1]])
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    ohlcv = np.stack([open_, high, low, close, np.full(minutes, 5.0)], axis=1)
    return WarmUpBars(START + np.arange(minutes), ohlcv, 1)


def test_without_bars_the_training_median_stands_in(forecaster: FrozenForecaster) -> None:
    volatility = Volatility(forecaster)
    assert volatility.source == FALLBACK
    np.testing.assert_array_equal(volatility.log_variance, forecaster.fallback)


def test_heads_continue_the_file_exactly(policy_folder: Path) -> None:
    bars = recorded(2 * DAY + 35)
    whole = Volatility(load_forecaster(policy_folder))
    end = int(bars.minute[-1]) + 1
    assert whole.warm_up(bars, end, 1.0) == len(bars.minute)
    cut = 2 * DAY
    served = Volatility(load_forecaster(policy_folder))
    first = WarmUpBars(bars.minute[:cut], bars.ohlcv[:cut], 1)
    # the chain quotes another level: only its moves count
    scale = 3000.0 / bars.ohlcv[cut - 1, 3]
    served.warm_up(first, START + cut, 3000.0)
    for minute, row in zip(bars.minute[cut:].tolist(), bars.ohlcv[cut:].tolist(), strict=True):
        served.on_head(60 * minute + 30, row[3] * scale)
    served.on_head(60 * end, bars.ohlcv[-1, 3] * scale)
    assert served.source == WARM
    assert served.bars == whole.bars
    np.testing.assert_allclose(served.log_variance, whole.log_variance, rtol=1e-5)
    assert not np.array_equal(served.log_variance, served._forecaster.fallback)


def test_minutes_without_a_block_are_bars_without_a_move(policy_folder: Path) -> None:
    bars = recorded(DAY)
    volatility = Volatility(load_forecaster(policy_folder))
    volatility.warm_up(bars, START + DAY, 2000.0)
    volatility.on_head(60 * (START + DAY + 7), 2001.0)
    assert volatility.bars == DAY + 7
    assert np.isfinite(volatility.log_variance).all()


def test_borrowed_bars_keep_their_place_in_the_week() -> None:
    bars = recorded(10 * DAY)
    now = START + 52 * WEEK + 3 * DAY + 777
    moved = shifted_to(bars, now)
    assert int(moved.minute[-1]) + 1 == now
    assert (moved.minute[0] - bars.minute[0]) % WEEK == 0
    assert len(moved.minute) >= 3 * DAY
    np.testing.assert_array_equal(np.diff(moved.minute), 1)


def test_the_dollar_pool_is_found() -> None:
    assert dollar_pool(deployment()) == 0
