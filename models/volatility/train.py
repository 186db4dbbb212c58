"""Volatility forecasts: train, evaluate against the econometric standard, and the command line.

python -m models.volatility evaluate --data FILE --test-from YYYY-MM-DD
    [--symbol ETHUSDT] [--model DIR] [--json FILE] [--figure FILE.png] [--config.ensemble 2 ...]
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress as ProgressBar

from configs.reading import Parser
from history.files import write_atomically
from history.prices import Bars, BarsError, load_bars, minute_of
from models.volatility.config import VolatilityConfig
from models.volatility.evaluation import forecast_test_part, report_rows, symbols_to_test
from models.volatility.har_lstm import (
    Fit,
    Log,
    Members,
    Progress,
    train_har_lstm,
    train_har_lstms,
)
from models.volatility.onnx_file import ForecasterFileError, load_forecaster
from models.volatility.origins import build_origins, usable_horizons
from models.volatility.own import train_own
from models.volatility.predictor import VarianceForecaster
from models.volatility.table import print_report

QUICK = VolatilityConfig()
# Everything that an evaluation can compare, on all history, refitted every month of the test.
FULL = replace(QUICK, ensemble=4, train_days=0, refit_days=30, garch=True, confidence_set=True)
SMOKE = replace(QUICK, ensemble=1, epochs=3, train_days=0)


def train_forecaster(
    bars: Bars,
    config: VolatilityConfig,
    test_from: str | int,
    progress: Progress | None = None,
    log: Log | None = None,
    members: Members | None = None,
) -> VarianceForecaster:
    """Train on what ends before `test_from` (ISO date or minutes since the epoch, UTC).

    `members` trains the networks, by default one after the other in this process. Horizons too
    short for the bar size are left out. Raises ValueError (BarsError) when there is too little to
    learn from.
    """
    until = minute_of(test_from) if isinstance(test_from, str) else test_from
    return train_forecasters(bars, [Fit(config, until)], progress, log, members)[0]


def train_forecasters(
    bars: Bars,
    fits: Sequence[Fit],
    progress: Progress | None = None,
    log: Log | None = None,
    members: Members | None = None,
) -> list[VarianceForecaster]:
    """A forecaster per fit, each as `train_forecaster` makes it; networks of all train together."""
    fits = [fit._replace(config=_usable(fit.config, bars)) for fit in fits]
    origins = build_origins(bars, fits[0].config.horizons_minutes)
    if fits[0].config.model:
        return [train_own(origins, fit.config, fit.until, bars.bar_minutes) for fit in fits]
    networks = train_har_lstms(origins, fits, bars.bar_minutes, progress, log, members)
    return list[VarianceForecaster](networks)


def evaluate(
    bars: Bars,
    config: VolatilityConfig,
    test_from: str | int,
    forecaster: VarianceForecaster | None = None,
    symbol: str | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> dict[str, Any]:
    """The forecast table of report.json: every model at every horizon, per symbol and pooled.

    Without a forecaster one is trained at `test_from` and again every `config.refit_days`; a given
    one serves the whole test, while the baselines are still refitted. `symbol` tests one symbol
    alone (all of them train). Raises BarsError when the test part is too short or begins before
    the training of the forecaster ended.
    """
    started = time.monotonic()
    first = minute_of(test_from) if isinstance(test_from, str) else test_from
    asked = config.horizons_minutes
    config = _usable(config, bars)
    if symbol is not None:
        bars.of(symbol)
    if forecaster is not None:
        config = replace(config, horizons_minutes=forecaster.horizons_minutes)
        _refuse_leak(forecaster, bars, first)
    origins = build_origins(bars, config.horizons_minutes)
    symbols = symbols_to_test(origins, first, bars.source, symbol)

    def forecaster_at(minute: int) -> VarianceForecaster:
        if forecaster is not None:
            return forecaster
        if config.model:
            return train_own(origins, config, minute, bars.bar_minutes)
        return train_har_lstm(origins, config, minute, bars.bar_minutes, progress, log)

    test = forecast_test_part(bars, origins, symbols, config, first, forecaster_at)
    return {
        "source": bars.source,
        "ours": test.ours,
        "bar_minutes": bars.bar_minutes,
        "test_from": f"{np.datetime64(first, 'm')}Z",
        "test_until": f"{np.datetime64(max(int(o.minute[-1]) for o in test.origins), 'm')}Z",
        "refits": [f"{np.datetime64(m, 'm')}Z" for m in test.refits],
        "skipped_horizons_minutes": [h for h in asked if h not in config.horizons_minutes],
        "untested_symbols": [s for s in bars.symbols if s not in symbols],
        "rows": report_rows(test, config),
        "seconds": time.monotonic() - started,
    }


def _usable(config: VolatilityConfig, bars: Bars) -> VolatilityConfig:
    """The configuration without the horizons that hold too few bars."""
    horizons = usable_horizons(config.horizons_minutes, bars.bar_minutes)
    if not horizons:
        raise BarsError(
            f"{bars.source}: horizons {config.horizons_minutes} hold fewer than three "
            f"{bars.bar_minutes}-minute bars; choose longer horizons"
        )
    return replace(config, horizons_minutes=horizons)


def _refuse_leak(forecaster: VarianceForecaster, bars: Bars, test_from: int) -> None:
    if forecaster.bar_minutes != bars.bar_minutes:
        raise BarsError(
            f"{bars.source}: bars of {bars.bar_minutes} minutes, but the model was trained on "
            f"{forecaster.bar_minutes}-minute bars; give such bars or leave --model out"
        )
    if test_from < forecaster.trained_until:
        raise BarsError(
            f"test from {np.datetime64(test_from, 'm')}Z, but the model was trained until "
            f"{np.datetime64(forecaster.trained_until, 'm')}Z; test later or leave --model out"
        )


def _parser() -> Parser:
    parser = Parser(prog="python -m models.volatility", description=__doc__, allow_abbrev=False)
    commands = parser.add_subcommands()
    evaluation = Parser(
        description="Out-of-sample table of every model on a bar file.", allow_abbrev=False
    )
    evaluation.add_argument("--data", type=str, required=True, help="bars, .parquet or .csv")
    evaluation.add_argument("--test-from", type=str, required=True, help="first test day (UTC)")
    evaluation.add_argument(
        "--symbol", type=str | None, default=None, help="test this symbol, or name that of the file"
    )
    evaluation.add_argument(
        "--model", type=str | None, default=None, help="folder with a trained volatility.onnx"
    )
    evaluation.add_argument("--json", type=str | None, default=None, help="write the report here")
    evaluation.add_argument(
        "--figure", type=str | None, default=None, help="draw the calibration here (.png or .svg)"
    )
    evaluation.add_class_arguments(VolatilityConfig, "config")
    evaluation.set_defaults({f"config.{name}": value for name, value in vars(FULL).items()})
    commands.add_subcommand("evaluate", evaluation)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0, or 2 with the reason on standard error for bad input."""
    console = Console()
    try:
        given = _parser().parse_args(arguments)["evaluate"]
        config = VolatilityConfig(**given.config.as_dict())
        forecaster = load_forecaster(given.model) if given.model else None
        bars = load_bars(given.data, given.symbol)
        with ProgressBar(console=console, transient=True) as progress_bar:
            task = progress_bar.add_task("HAR-LSTM", total=None)
            report = evaluate(
                bars,
                config,
                given.test_from,
                forecaster,
                given.symbol,
                lambda done, total: progress_bar.update(task, completed=done, total=total),
            )
    except (BarsError, ForecasterFileError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_report(report, console)
    if given.json:
        write_atomically(given.json, json.dumps(report, indent=2) + "\n")
    if given.figure:
        # matplotlib takes a second that only a figure needs.
        from models.forecast_figures import calibration_figure

        calibration_figure(report, Path(given.figure))
    return 0
