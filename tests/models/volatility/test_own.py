"""A forecaster of one's own: trained without the future, stored, served, judged, or refused."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from rich.console import Console

from history.prices import Bars
from history.stochastic_volatility import stochastic_volatility_bars
from kernels.networks.features import N_FEATURES
from models.extensions import ExtensionError
from models.frozen.folder import HORIZONS_MINUTES
from models.volatility.config import VolatilityConfig
from models.volatility.evaluation import HAR_LSTM
from models.volatility.onnx_file import ForecasterFileError, export_forecaster, load_forecaster
from models.volatility.origins import build_origins
from models.volatility.own import OwnForecaster, train_own
from models.volatility.table import markdown_report, print_report
from models.volatility.train import evaluate, train_forecaster

SOURCE = """
    import numpy as np
    import torch
    from torch import nn
    from models.onnx_export import module_graph

    seen = []

    class Linear(nn.Module):
        def __init__(self, slopes, level):
            super().__init__()
            self.register_buffer("slopes", torch.tensor(slopes))
            self.register_buffer("level", torch.tensor(level))
        def forward(self, inputs):
            return inputs @ self.slopes + self.level

    def least_squares(inputs, targets, config):
        seen.append((inputs, targets))
        design = np.c_[inputs, np.ones(len(inputs))].astype(np.float64)
        square = design.T @ design + 1e-2 * np.eye(design.shape[1])
        fit = np.linalg.solve(square, design.T @ targets)
        return Linear(fit[:-1].astype(np.float32), fit[-1].astype(np.float32))

    class Smoother(nn.Module):
        '''Remembers a mean of its first input, by which it forecasts.'''
        def forward(self, inputs, state):
            after = 0.9 * state + 0.1 * inputs[:, :1]
            return after[:, :, None].repeat(1, 3, 1)[:, :, 0] - 12.0, after

    def smoother(inputs, targets, config):
        rows = {"inputs": torch.zeros(2, inputs.shape[1]), "state": torch.zeros(2, 1)}
        return module_graph(Smoother(), rows, ["log_variance", "next_state"])

    number = 3
    none = lambda inputs, targets, config: None
    broken = lambda inputs, targets, config: inputs.nothing
    narrow = lambda inputs, targets, config: nn.Linear(inputs.shape[1], 2)
    small = lambda inputs, targets, config: nn.Linear(3, 3)
    text = lambda inputs, targets, config: b"graph"
"""


@pytest.fixture(scope="module")
def bars() -> Bars:
    return stochastic_volatility_bars(seed=3, days=22)


@pytest.fixture(scope="module")
def until(bars: Bars) -> int:
    return int(bars.series[0].minute[0]) + 13 * 1440


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "forecasters_here.py").write_text(dedent(SOURCE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("forecasters_here", None)


def settings(name: str) -> VolatilityConfig:
    return VolatilityConfig(
        model=f"forecasters_here:{name}", garch=False, confidence_set=False, refit_days=0
    )


def trained(name: str, bars: Bars, until: int) -> OwnForecaster:
    forecaster = train_forecaster(bars, settings(name), until)
    assert isinstance(forecaster, OwnForecaster)
    return forecaster


def test_it_learns_from_known_targets_before_the_test_alone(bars: Bars, until: int) -> None:
    trained("least_squares", bars, until)
    ((inputs, targets),) = sys.modules["forecasters_here"].seen
    assert inputs.dtype == targets.dtype == np.float32
    assert inputs.shape == (len(targets), N_FEATURES)
    assert np.isfinite(targets).all()
    origins = build_origins(bars, HORIZONS_MINUTES)
    early = [o.select(o.minute + HORIZONS_MINUTES[-1] <= until) for o in origins]
    known = sum(int(np.isfinite(o.targets).all(axis=1).sum()) for o in early)
    assert len(inputs) == known


@pytest.mark.parametrize("name", ["least_squares", "smoother"])
def test_the_file_gives_it_back_and_no_origin_sees_the_next(
    bars: Bars, until: int, tmp_path: Path, name: str
) -> None:
    forecaster = trained(name, bars, until)
    described = export_forecaster(forecaster, tmp_path / "there")
    assert described["runtime"] == "onnxruntime"
    again = load_forecaster(tmp_path / "there")
    assert (again.name, again.trained_until) == (name, until)
    before, after = forecaster.predict(bars), again.predict(bars)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.log_variance, other.log_variance)
        assert np.isfinite(one.log_variance).all()
    series = bars.series[0]
    cut = len(series) // 2
    short = dataclasses.replace(
        bars,
        series=tuple(
            dataclasses.replace(s, minute=s.minute[:cut], ohlcv=s.ohlcv[:cut]) for s in bars.series
        ),
    )
    early = forecaster.predict(short)[0].log_variance
    np.testing.assert_allclose(early, before[0].log_variance[: len(early)], atol=1e-5)


def test_a_memory_moves_along_a_window_and_starts_anew_after_a_gap(bars: Bars, until: int) -> None:
    forecaster = trained("smoother", bars, until)
    rows = np.zeros((6, N_FEATURES))
    rows[:, 0] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    restart = np.array([True, False, False, False, True, False])
    state, wanted = 0.0, []
    for row, begins in zip(rows, restart, strict=True):
        state = 0.9 * (0.0 if begins else state) + 0.1 * row[0]
        wanted.append(state - 12.0)
    out = forecaster.run(rows, restart)
    np.testing.assert_allclose(out, np.tile(np.array(wanted)[:, None], 3), rtol=1e-6)


def test_it_is_judged_under_its_own_name(bars: Bars, until: int) -> None:
    report = evaluate(bars, settings("least_squares"), until)
    assert report["ours"] == "least_squares"
    for row in report["rows"]:
        assert "least_squares" in row["qlike"]
        assert HAR_LSTM not in row["qlike"]
        assert row["qlike"]["least_squares"] < row["qlike"]["random walk"]
    console = Console(record=True, width=100, quiet=False, file=None)
    with console.capture() as shown:
        print_report(report, console)
    for text in (shown.get(), markdown_report(report)):
        assert "least_squares" in text
        assert HAR_LSTM not in text


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing", "has no 'missing'"),
        ("number", "it is of type int"),
        ("none", "an object of type NoneType"),
        ("broken", "training ends in AttributeError"),
        ("narrow", r"this version has \[n, 3\]|float32\[n, 3\]"),
        ("small", "has no ONNX graph"),
        ("text", "not an ONNX graph"),
    ],
)
def test_wrong_ones_are_refused_with_path_and_remedy(
    bars: Bars, until: int, name: str, problem: str
) -> None:
    origins = build_origins(bars, HORIZONS_MINUTES)
    path = f"forecasters_here:{name}"
    with pytest.raises(ExtensionError, match=f"forecaster.model: '{path}': .*({problem})"):
        train_own(origins, settings(name), until, 1)


def test_a_damaged_file_is_refused(bars: Bars, until: int, tmp_path: Path) -> None:
    forecaster = trained("least_squares", bars, until)
    export_forecaster(forecaster, tmp_path)
    wide = dataclasses.replace(forecaster, horizons_minutes=(5, 15, 60, 240))
    (tmp_path / "volatility.onnx").write_bytes(wide.file_bytes())
    with pytest.raises(ForecasterFileError, match=r"log_variance.*\[n, 4\]"):
        load_forecaster(tmp_path)
