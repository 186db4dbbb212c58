"""Prices of a run: where they come from, what is held out, and forecasts without a look ahead."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agents.config import PricesConfig
from agents.prices import (
    ETH,
    bars_to_learn_from,
    data_folder,
    first_test_minute,
    forecast_column,
    market_paths,
    source_line,
)
from history.prices import Bars, BarsError, SymbolBars
from history.stochastic_volatility import stochastic_volatility_bars
from kernels.networks.features import N_FEATURES
from kernels.networks.forward import mlp_size
from models.volatility.predictor import Forecaster

HIDDEN, RECURRENT = 4, np.array([0, 3, 7], np.int64)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return stochastic_volatility_bars(seed=3, days=4)


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    rng = np.random.default_rng(0)
    sizes = np.array([N_FEATURES + HIDDEN, 8, 3], np.int64)
    row = (RECURRENT.size + HIDDEN + 1) * 4 * HIDDEN + mlp_size(sizes) + N_FEATURES * 3
    return Forecaster(
        horizons_minutes=(5, 15, 60),
        symbols=("BTCUSDT", "ETHUSDT"),
        bar_minutes=1,
        trained_from=0,
        trained_until=1,
        scale=np.stack([np.zeros(N_FEATURES), np.ones(N_FEATURES)]).astype(np.float32),
        base=rng.normal(0.0, 0.1, (N_FEATURES + 1, 3)).astype(np.float32),
        weights=rng.normal(0.0, 0.1, (1, row)).astype(np.float32),
        recurrent=RECURRENT,
        sizes=sizes,
    )


def with_later_prices_changed(bars: Bars, minute: int) -> Bars:
    """The same bars up to those that close at `minute`, half the price after it."""
    series = []
    for s in bars.series:
        ohlcv = s.ohlcv.copy()
        ohlcv[s.minute >= minute, :4] *= 0.5
        series.append(SymbolBars(s.symbol, s.minute, ohlcv))
    return dataclasses.replace(bars, series=tuple(series))


def test_forecasts_do_not_look_ahead(bars: Bars, forecaster: Forecaster) -> None:
    minute = bars.of(ETH).minute
    middle = int(minute[len(minute) * 3 // 4]) + 2
    original = forecast_column(forecaster, bars)
    changed = forecast_column(forecaster, with_later_prices_changed(bars, middle))
    known = minute + 1 <= middle
    assert np.array_equal(original[known], changed[known], equal_nan=True)
    assert not np.array_equal(original[~known], changed[~known])


def test_each_minute_has_the_newest_forecast(bars: Bars, forecaster: Forecaster) -> None:
    column, close = forecast_column(forecaster, bars), bars.of(ETH).minute + 1
    forecasts = next(f for f in forecaster.predict(bars) if f.symbol == ETH)
    made = dict(zip(forecasts.minute.tolist(), forecasts.log_variance))
    for at in range(0, len(close), 7):
        block_end = int(close[at]) // 5 * 5
        if block_end in made:
            assert np.array_equal(column[at], made[block_end].astype(np.float64))
        else:
            assert np.isnan(column[at]).all()
    assert np.isnan(column[: 1440 - 1]).all()
    assert np.isfinite(column[1440:]).all()


def test_a_gap_ends_the_forecasts(bars: Bars, forecaster: Forecaster) -> None:
    kept = np.ones(len(bars.of(ETH)), bool)
    kept[3000:3010] = False
    series = tuple(SymbolBars(s.symbol, s.minute[kept], s.ohlcv[kept]) for s in bars.series)
    column = forecast_column(forecaster, dataclasses.replace(bars, series=series))
    assert np.isfinite(column[2990]).all()
    assert np.isnan(column[3005 : 3000 + 1430]).all(), "a day warms the inputs again"


def test_missing_forecasts_fall_back_to_finite_ones(bars: Bars, forecaster: Forecaster) -> None:
    paths = market_paths(forecaster, bars)
    assert len(paths) == len(bars.of(ETH))
    assert np.isfinite(paths.forecast).all()


def test_the_held_out_part_begins_with_validation(bars: Bars) -> None:
    first = first_test_minute(PricesConfig(), bars)
    minute = bars.of(ETH).minute
    assert first % 1440 == 0
    assert minute[int(0.7 * len(minute))] <= first < minute[int(0.7 * len(minute))] + 1440
    chosen = first_test_minute(PricesConfig(test_from="2024-01-03"), bars)
    assert chosen == np.datetime64("2024-01-03", "m").astype(int)


def test_where_prices_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEVRL_DATA", raising=False)
    assert data_folder(PricesConfig()) == ""
    monkeypatch.setenv("MEVRL_DATA", "/data")
    assert data_folder(PricesConfig()) == "/data"
    assert data_folder(PricesConfig(data="/own")) == "/own"
    stand_in = bars_to_learn_from(PricesConfig(stand_in_days=2), "", seed=1)
    assert "stands in" in source_line(stand_in, "")
    assert source_line(stand_in, "/data").startswith("Prices: recorded bars")
    with pytest.raises(BarsError, match="no such folder"):
        bars_to_learn_from(PricesConfig(), str(tmp_path / "none"), 0)
    with pytest.raises(BarsError, match="no file in it"):
        bars_to_learn_from(PricesConfig(), str(tmp_path), 0)


def write_bars(path: Path, symbols: tuple[str, ...], every_minutes: int) -> None:
    rows = [
        {
            "symbol": s,
            "date": 1735689600 + 60 * every_minutes * k,
            "open": 2.0,
            "high": 3.0,
            "low": 1.0,
        }
        | {"close": 2.0, "volume": 1.0}
        for s in symbols
        for k in range(20)
    ]
    pl.DataFrame(rows).write_parquet(path)


def test_recorded_bars_must_fit_the_market(tmp_path: Path) -> None:
    write_bars(tmp_path / "a.parquet", ("ETHUSDT", "BTCUSDT"), 5)
    with pytest.raises(BarsError, match="needs 1-minute bars"):
        bars_to_learn_from(PricesConfig(), str(tmp_path), 0)
    write_bars(tmp_path / "b.parquet", ("ETHUSDT",), 1)
    with pytest.raises(BarsError, match="no symbol 'BTCUSDT'"):
        bars_to_learn_from(PricesConfig(), str(tmp_path), 0)
    write_bars(tmp_path / "b.parquet", ("ETHUSDT", "BTCUSDT"), 1)
    bars = bars_to_learn_from(PricesConfig(), str(tmp_path), 0)
    assert bars.symbols == ("BTCUSDT", "ETHUSDT")
    assert "b.parquet (1 file passed over: `python -m history.prices" in source_line(bars, "d")
    alone = bars_to_learn_from(PricesConfig(), str(tmp_path / "b.parquet"), 0)
    assert alone.source == bars.source
    assert "passed over" not in source_line(alone, "d")


def test_a_symbol_that_is_missing_names_the_files_that_were_passed_over(tmp_path: Path) -> None:
    write_bars(tmp_path / "eth.parquet", ("ETHUSDT",), 1)
    (tmp_path / "BTCUSDT.csv").write_text("timestamp,open,high,low,volume\n1735689600,2,3,1,1\n")
    with pytest.raises(BarsError, match=r"no symbol 'BTCUSDT'.*BTCUSDT\.csv: missing column close"):
        bars_to_learn_from(PricesConfig(), str(tmp_path), 0)
