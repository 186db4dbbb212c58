"""Training minutes see forecasts of forecasters that were not trained on them, as live."""

import dataclasses
import json
import sys
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.config import PricesConfig
from agents.cross_fitting import EMBARGO_MINUTES, planned_folds
from agents.prices import BTC, ETH, Forecasting, first_test_minute, forecasting_of, market_paths
from envs.market.paths import PricePaths, paths_of_bars
from history.prices import Bars, SymbolBars
from history.stochastic_volatility import stochastic_volatility_bars
from models.volatility.config import VolatilityConfig
from models.volatility.losses import floored, qlike
from models.volatility.origins import Origins, build_origins

HORIZONS = (5, 15, 60)
SMALL = VolatilityConfig(ensemble=1, epochs=2, fold_epochs=1, hidden=4, layer=8, folds=3)
RECORDER = """
    import numpy as np
    import torch
    from torch import nn

    seen = []

    class Linear(nn.Module):
        def __init__(self, slopes):
            super().__init__()
            self.register_buffer("slopes", torch.tensor(slopes))
        def forward(self, inputs):
            return inputs @ self.slopes - 14.0

    def least_squares(inputs, targets, config):
        seen.append(inputs)
        square = inputs.T @ inputs + 1e-1 * len(inputs) * np.eye(inputs.shape[1])
        return Linear(np.linalg.solve(square, inputs.T @ (targets + 14.0)).astype(np.float32))
"""


def some_bars(seed: int, days: int, gap_at: float = 0.0, gap_minutes: int = 0) -> Bars:
    """Stand-in bars, with a gap of both assets from a share of the time on."""
    bars = stochastic_volatility_bars(seed, days)
    n = len(bars.of(ETH))
    kept = np.ones(n, np.bool_)
    kept[int(gap_at * n) : int(gap_at * n) + gap_minutes] = False
    series = tuple(SymbolBars(s.symbol, s.minute[kept], s.ohlcv[kept]) for s in bars.series)
    return dataclasses.replace(bars, series=series)


def closes_of(bars: Bars) -> np.ndarray:
    """When the minutes of the paths closed."""
    return np.intersect1d(bars.of(ETH).minute, bars.of(BTC).minute) + 1


def fitted(run: Path, bars: Bars, config: VolatilityConfig, until: int) -> Forecasting:
    for folder in ("checkpoints", "tb"):
        (run / folder).mkdir(parents=True, exist_ok=True)
    return forecasting_of(run, config, bars, until, lambda *told: None)


def played(paths: PricePaths, minutes: int = 52) -> np.ndarray:
    """Rows of the paths that a training episode may pass through."""
    starts = paths.starts("train", minutes)
    rows = np.zeros(len(paths), np.bool_)
    for k in range(minutes + 1):
        rows[starts + k] = True
    return rows


@pytest.mark.parametrize("case", range(4))
def test_no_training_minute_sees_a_forecaster_that_was_trained_on_it(
    case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random bars with a gap, random numbers of folds; every forecaster's origins are recorded."""
    rng = np.random.default_rng(case)
    bars = some_bars(
        case, int(rng.integers(36, 48)), rng.uniform(0.1, 0.6), int(rng.integers(2000))
    )
    name = f"recorder{case}"
    (tmp_path / f"{name}.py").write_text(dedent(RECORDER))
    monkeypatch.syspath_prepend(tmp_path)
    config = VolatilityConfig(model=f"{name}:least_squares", folds=int(rng.integers(2, 6)))
    until = first_test_minute(PricesConfig(), bars)
    forecasting = fitted(tmp_path / "run", bars, config, until)
    folds, forecasters = forecasting.cross_fitted.folds, forecasting.cross_fitted.forecasters
    assert len(folds) >= 1
    assert folds[-1].stop == until
    assert all(a.stop == b.start for a, b in pairwise(folds))

    origins = build_origins(bars, HORIZONS)
    minute_of = {
        row.astype(np.float32).tobytes(): int(minute)
        for o in origins
        for row, minute in zip(o.inputs, o.minute, strict=True)
    }
    served, *of_folds = sys.modules[name].seen
    assert {minute_of[row.tobytes()] for row in served} & set(range(folds[0].start, until))
    eth = next(o for o in origins if o.symbol == ETH)
    paths, closes = forecasting.paths(bars), closes_of(bars)
    rows = played(paths)
    for fold, forecaster, inputs in zip(folds, forecasters, of_folds, strict=True):
        learned = {minute_of[row.tobytes()] for row in inputs}
        assert max(learned) + max(HORIZONS) <= fold.start - EMBARGO_MINUTES
        made = forecaster.predict_origins(eth)
        mine = np.flatnonzero(rows & (closes >= fold.start) & (closes < fold.stop))
        newest = np.searchsorted(made.minute, closes[mine], side="right") - 1
        fresh = closes[mine] - made.minute[newest] < 5
        assert fresh.mean() > 0.6
        seen = paths.forecast[mine[fresh]]
        assert np.array_equal(seen, made.log_variance[newest[fresh]].astype(np.float64))
    assert not np.any(rows & (closes < folds[0].start)), "an episode in the first fold"
    covered = rows & (closes < until)
    assert covered.sum() > 0.5 * (closes < until).sum() * len(folds) / (len(folds) + 1)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return some_bars(5, 40)


@pytest.fixture(scope="module")
def until(bars: Bars) -> int:
    return first_test_minute(PricesConfig(), bars)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def forecasting(run: Path, bars: Bars, until: int) -> Forecasting:
    return fitted(run, bars, SMALL, until)


@pytest.fixture(scope="module")
def in_sample(tmp_path_factory: pytest.TempPathFactory, bars: Bars, until: int) -> Forecasting:
    config = dataclasses.replace(SMALL, folds=0)
    return fitted(tmp_path_factory.mktemp("in-sample"), bars, config, until)


def test_later_prices_change_no_forecast_that_an_episode_sees(
    forecasting: Forecasting, in_sample: Forecasting, bars: Bars, until: int, tmp_path: Path
) -> None:
    """Bit for bit, networks included; in-sample forecasts, as there were before, do change."""
    changed_at = forecasting.cross_fitted.folds[-1].start + 2000
    series = []
    for s in bars.series:
        ohlcv = s.ohlcv.copy()
        ohlcv[s.minute >= changed_at, :4] *= np.exp(
            np.random.default_rng(1).normal(0.0, 0.01, (s.minute >= changed_at).sum())
        )[:, None]
        ohlcv[:, 1], ohlcv[:, 2] = ohlcv[:, :4].max(axis=1), ohlcv[:, :4].min(axis=1)
        series.append(SymbolBars(s.symbol, s.minute, ohlcv))
    other = dataclasses.replace(bars, series=tuple(series))
    again = fitted(tmp_path / "a", other, SMALL, until).paths(other)
    before = forecasting.paths(bars)
    closes = closes_of(bars)
    rows = played(before) & (closes <= changed_at)
    assert rows.sum() > 10_000
    assert again.forecast[rows].tobytes() == before.forecast[rows].tobytes()
    told = fitted(tmp_path / "b", other, dataclasses.replace(SMALL, folds=0), until).paths(other)
    assert not np.array_equal(told.forecast[rows], in_sample.paths(bars).forecast[rows])


def test_nothing_else_changes(
    forecasting: Forecasting, in_sample: Forecasting, bars: Bars, until: int
) -> None:
    """The served forecaster, prices, and all forecasts and episodes of validation and test."""
    ours, theirs = forecasting.forecaster, in_sample.forecaster
    assert ours.test_vectors() == theirs.test_vectors()
    assert forecasting.report["rows"] == in_sample.report["rows"]
    paths, before = forecasting.paths(bars), market_paths(theirs, bars)
    held_out = closes_of(bars) >= until
    assert paths.forecast[held_out].tobytes() == before.forecast[held_out].tobytes()
    inside = played(paths) & ~held_out
    assert not np.any(np.all(paths.forecast[inside] == before.forecast[inside], axis=1)[7::500])
    assert in_sample.paths(bars).forecast.tobytes() == before.forecast.tobytes()
    assert np.array_equal(paths.log_price, before.log_price)
    for split in ("validation", "test"):
        assert np.array_equal(paths.starts(split, 52), before.starts(split, 52))
    assert set(paths.starts("train", 52)) < set(before.starts("train", 52))


def test_a_continued_run_sees_the_same(
    forecasting: Forecasting, run: Path, bars: Bars, until: int, tmp_path: Path
) -> None:
    """Read from the checkpoints, and trained anew from the same seed, bit for bit."""
    paths = forecasting.paths(bars)
    for folder in (run, tmp_path):
        again = fitted(folder, bars, SMALL, until)
        assert again.paths(bars).forecast.tobytes() == paths.forecast.tobytes()
        assert np.array_equal(again.paths(bars).segment, paths.segment)
        assert again.report["cross_fitted"] == forecasting.report["cross_fitted"]


def test_a_run_from_before_there_were_folds_goes_on_as_it_began(
    in_sample: Forecasting, bars: Bars, until: int, tmp_path: Path
) -> None:
    fitted(tmp_path, bars, dataclasses.replace(SMALL, folds=0), until)
    stored = tmp_path / "checkpoints" / "forecast.json"
    report = json.loads(stored.read_text())
    del report["cross_fitted"]
    stored.write_text(json.dumps(report))
    again = fitted(tmp_path, bars, SMALL, until)
    assert again.paths(bars).forecast.tobytes() == in_sample.paths(bars).forecast.tobytes()


def test_the_report_says_how_well_each_fold_is_forecast(
    forecasting: Forecasting, run: Path, bars: Bars
) -> None:
    told = json.loads((run / "checkpoints" / "forecast.json").read_text())["cross_fitted"]
    folds = forecasting.cross_fitted.folds
    assert len(told["folds"]) == len(folds) == 2
    eth = next(o for o in build_origins(bars, HORIZONS) if o.symbol == ETH)
    for fold, row, forecaster in zip(
        folds, told["folds"], forecasting.cross_fitted.forecasters, strict=True
    ):
        assert row["trained_until"] < row["from"] < row["until"]
        for kind, by in (("cross_fitted", forecaster), ("in_sample", forecasting.forecaster)):
            made = by.predict_origins(eth).log_variance[:, 2]
            mine = (eth.minute >= fold.start) & (eth.minute + 60 <= fold.stop)
            loss = qlike(floored(eth.targets[mine, 2], 60), made[mine])
            assert row[kind]["60"] == pytest.approx(np.nanmean(loss), rel=1e-9)
    events = EventAccumulator(str(run / "tb" / "forecaster"))
    events.Reload()
    shown = events.Scalars("forecast/fold_qlike/cross_fitted/60_min")
    assert [event.step for event in shown] == [1, 2]
    assert shown[1].value == pytest.approx(told["folds"][1]["cross_fitted"]["60"], rel=1e-6)
    assert "forecast/fold_" + str(np.datetime64(folds[0].start, "m"))[:10] in " ".join(
        events.Tags()["scalars"]
    )


def origins_of(bars: Bars) -> list[Origins]:
    return build_origins(bars, HORIZONS)


def test_a_short_training_part_gets_fewer_folds_or_unfitted_forecasts(tmp_path: Path) -> None:
    bars = some_bars(2, 18)
    until = int(bars.of(ETH).minute[0]) + 9 * 1440
    minutes = closes_of(bars) - 1
    assert planned_folds(minutes, origins_of(bars), SMALL, until) == []
    longer = some_bars(2, 30)
    end = first_test_minute(PricesConfig(), longer)
    asked = dataclasses.replace(SMALL, folds=6)
    found = planned_folds(closes_of(longer) - 1, origins_of(longer), asked, end)
    assert len(found) in (1, 2)
    forecasting = fitted(tmp_path, bars, SMALL, until)
    paths, plain = forecasting.paths(bars), paths_of_bars(bars)
    before = closes_of(bars) < until
    assert np.array_equal(paths.forecast[before], plain.forecast[before])
    assert np.array_equal(paths.segment, plain.segment)
    assert not np.array_equal(paths.forecast[~before], plain.forecast[~before])
    assert forecasting.report["cross_fitted"]["folds"] == []


def test_a_single_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="folds is 1"):
        VolatilityConfig(folds=1)
