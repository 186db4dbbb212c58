"""Prices for a training run: recorded bars or their stand-in, and forecasts at every minute."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard.writer import SummaryWriter

from agents.config import PricesConfig, TrainConfig
from agents.cross_fitting import CrossFitted, Fold, planned_folds, qlike_scalars
from agents.progress import NotedReport, Stages
from agents.runs import write_text
from envs.market.paths import HORIZONS_MINUTES, SPLIT_EDGES, PricePaths, paths_of_bars
from history.prices import Bars, BarsError, load_bars, minute_of
from history.stochastic_volatility import stochastic_volatility_bars
from kernels.networks.features import BLOCK_MINUTES
from models.volatility.config import VolatilityConfig
from models.volatility.evaluation import symbols_to_test
from models.volatility.har_lstm import Fit, Members, training_part
from models.volatility.onnx_file import export_forecaster, load_forecaster
from models.volatility.origins import Origins, build_origins, usable_horizons
from models.volatility.predictor import VarianceForecaster
from models.volatility.train import evaluate, train_forecasters

ETH, BTC = "ETHUSDT", "BTCUSDT"
DAY_MINUTES = 1440
TRAINING_TENTHS = 8  # of the time until a forecaster is trained and judged


class Forecasting(NamedTuple):
    """A trained forecaster, its held-out table, and what the training episodes see instead."""

    forecaster: VarianceForecaster
    report: dict[str, Any]
    cross_fitted: CrossFitted

    def paths(self, bars: Bars) -> PricePaths:
        """The market's reference prices: held-out forecasts of the served forecaster, before that
        those of the folds' forecasters, see agents.cross_fitting."""
        origins = _of_eth(build_origins(bars, self.forecaster.horizons_minutes))
        served = self.forecaster.predict_origins(origins)
        seen = self.cross_fitted.of_training(origins, served)
        paths = paths_of_bars(bars, _column(bars, origins.minute, seen))
        return self.cross_fitted.played(paths, _shared_minutes(bars) + bars.bar_minutes)


def source_line(bars: Bars, data_dir: str) -> str:
    """First line of every report: which prices were learned from."""
    if data_dir:
        n = len(bars.passed_over)
        what = f"{n} file{'s' * (n > 1)} passed over"
        why = f" ({what}: `python -m history.prices {data_dir}` says why)" if n else ""
        return f"Prices: recorded bars, {bars.source}{why}"
    return (
        f"Prices: no data folder is given (MEVRL_DATA), {bars.source} stands in for recorded bars"
    )


def data_folder(config: PricesConfig) -> str:
    """The folder (or file) with recorded prices, or an empty string for the stand-in."""
    return config.data or os.environ.get("MEVRL_DATA", "")


def bars_to_learn_from(config: PricesConfig, data_dir: str, seed: int) -> Bars:
    """Recorded 1-minute bars of ETH and BTC in `data_dir`, or the stand-in when it is empty.

    Raises BarsError naming the folder or file, what is wrong with each file, and the remedy.
    """
    if not data_dir:
        return stochastic_volatility_bars(seed, config.stand_in_days)
    if not Path(data_dir).exists():
        raise BarsError(f"data folder {data_dir}: no such folder; unset it to use the stand-in")
    bars = load_bars(data_dir)
    if bars.bar_minutes != 1:
        raise BarsError(
            f"{bars.source}: bars of {bars.bar_minutes} minutes ({bars.bar_minutes * 60} s); the "
            "market needs 1-minute bars"
        )
    for symbol in (ETH, BTC):
        bars.of(symbol)
    return bars


def first_test_minute(config: PricesConfig, bars: Bars) -> int:
    """Minute since the epoch from which prices are held out of the forecaster's training.

    By default the first UTC midnight of the market's validation part, so that the forecasts that
    policies are chosen and judged on were all made out of sample.
    """
    if config.test_from:
        return minute_of(config.test_from)
    shared = _shared_minutes(bars)
    minute = int(shared[int(len(shared) * SPLIT_EDGES[1])])
    return -(-minute // DAY_MINUTES) * DAY_MINUTES


def check_parts(prices: PricesConfig, config: VolatilityConfig, bars: Bars) -> None:
    """Refuse bars whose training or test part is too short, before anything is started.

    Raises BarsError naming the part and the remedy.
    """
    test_from = first_test_minute(prices, bars)
    origins = build_origins(bars, usable_horizons(config.horizons_minutes, bars.bar_minutes))
    symbols_to_test(origins, test_from, bars.source)
    training_part(origins, config, test_from)


def forecasting_of(
    run: Path,
    config: VolatilityConfig,
    bars: Bars,
    test_from: int,
    progress: NotedReport,
    members: Members | None = None,
) -> Forecasting:
    """Train and judge the forecaster, or take what an interrupted run had finished.

    The forecasters of the folds train along, see agents.cross_fitting. `members` trains all
    networks, by default one after the other in this process. Writes volatility.onnx, a folder with
    the folds' and forecast.json into the run's checkpoints. Raises BarsError when the bars are too
    short, or other bars than those that the run began with.
    """
    folder = run / "checkpoints"
    stored = folder / "forecast.json"
    origins = build_origins(bars, usable_horizons(config.horizons_minutes, bars.bar_minutes))
    folds = planned_folds(_shared_minutes(bars), origins, config, test_from)
    if stored.is_file():
        report = json.loads(stored.read_text())
        if report["source"] != bars.source:
            raise BarsError(
                f"{run}: began with {report['source']}, now there is {bars.source}; give the same "
                "data or start another run"
            )
        if "cross_fitted" not in report:  # begun before there were folds: it goes on as it began
            return Forecasting(load_forecaster(folder), report, CrossFitted.in_sample(test_from))
        earlier = [load_forecaster(_fold_folder(folder, fold)) for fold in folds]
        cross_fitted = CrossFitted(folds, earlier, test_from, config.folds > 0)
        return Forecasting(load_forecaster(folder), report, cross_fitted)
    writer = SummaryWriter(run / "tb" / "forecaster")
    fits = [Fit(config, test_from), *(Fit(config.of_folds, f.until, f.name) for f in folds)]

    def trained(done: int, total: int) -> None:
        progress(TRAINING_TENTHS * done, 10 * total)

    forecaster, *earlier = train_forecasters(bars, fits, trained, writer.add_scalar, members)
    progress(TRAINING_TENTHS, 10, "judged on days that it did not learn from")
    cross_fitted = CrossFitted(folds, earlier, test_from, config.folds > 0)
    report = evaluate(bars, config, test_from, forecaster)
    eth = _of_eth(origins)
    served = forecaster.predict_origins(eth)
    report["cross_fitted"] = cross_fitted.described(eth, served, config)
    for tag, value, step in qlike_scalars(report["cross_fitted"]):
        writer.add_scalar(tag, value, step)
    writer.close()
    for fold, fitted in zip(folds, earlier, strict=True):
        _fold_folder(folder, fold).mkdir(parents=True, exist_ok=True)
        export_forecaster(fitted, _fold_folder(folder, fold))
    export_forecaster(forecaster, folder)
    write_text(stored, json.dumps(report, indent=1))
    return Forecasting(forecaster, report, cross_fitted)


def paths_of(folder: Path, config: TrainConfig, stages: Stages) -> PricePaths:
    """Prices with the forecasts of a training run, for a study that keeps its forecaster in
    `folder`. Raises BarsError as `forecasting_of`."""
    bars = bars_to_learn_from(config.prices, data_folder(config.prices), config.run.seed)
    test_from = first_test_minute(config.prices, bars)
    with stages.stage("forecaster") as progress:
        forecasting = forecasting_of(folder, config.forecaster, bars, test_from, progress)
    return forecasting.paths(bars)


def _fold_folder(checkpoints: Path, fold: Fold) -> Path:
    return checkpoints / "forecaster-folds" / fold.name


def market_paths(forecaster: VarianceForecaster, bars: Bars) -> PricePaths:
    """The bars as the market's reference prices, with the forecasts known at each minute."""
    return paths_of_bars(bars, forecast_column(forecaster, bars))


def forecast_column(forecaster: VarianceForecaster, bars: Bars) -> NDArray[np.float64]:
    """float64[ETH bars, 3]: newest forecast of log variance known at each bar's close.

    nan before the first forecast of a window and where the bars have a gap.
    """
    forecasts = next(f for f in forecaster.predict(bars) if f.symbol == ETH)
    return _column(bars, forecasts.minute, forecasts.log_variance)


def _column(bars: Bars, minute: NDArray[np.int64], log_variance: NDArray[Any]) -> NDArray[Any]:
    """float64[ETH bars, 3] of forecasts [n, 3] that were made at `minute` int64[n]."""
    close = bars.of(ETH).minute + bars.bar_minutes
    column = np.full((close.size, len(HORIZONS_MINUTES)), np.nan)
    newest = np.searchsorted(minute, close, side="right") - 1
    known = newest >= 0
    known[known] = close[known] - minute[newest[known]] < BLOCK_MINUTES
    column[known] = log_variance[newest[known]]
    return column


def _of_eth(origins: list[Origins]) -> Origins:
    return next(o for o in origins if o.symbol == ETH)


def _shared_minutes(bars: Bars) -> NDArray[np.int64]:
    """Minutes that both assets have, which are those of the paths."""
    return np.intersect1d(bars.of(ETH).minute, bars.of(BTC).minute, assume_unique=True)
