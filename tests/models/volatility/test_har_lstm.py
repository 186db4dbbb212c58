"""The HAR-LSTM starts at its base, sees no future, repeats to the bit, serves what it trained."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from history.prices import Bars, BarsError, SymbolBars, minute_of
from history.stochastic_volatility import stochastic_volatility_bars
from kernels.networks.features import FEATURES, N_FEATURES
from kernels.networks.forecast import forecast_step
from models.volatility.config import VolatilityConfig
from models.volatility.har import fit_log_linear
from models.volatility.har_lstm import (
    HarLstm,
    standardise,
    train_har_lstm,
    training_part,
)
from models.volatility.onnx_file import (
    FILE_NAME,
    OPSET,
    ForecasterFileError,
    export_forecaster,
    load_forecaster,
)
from models.volatility.origins import Origins, build_origins
from models.volatility.predictor import Forecaster
from models.volatility.train import train_forecaster

CONFIG = VolatilityConfig(ensemble=2, epochs=1, hidden=6, layer=12)
DAYS = 14


@pytest.fixture(scope="module")
def bars() -> Bars:
    return stochastic_volatility_bars(11, DAYS)


@pytest.fixture(scope="module")
def origins(bars: Bars) -> list[Origins]:
    return build_origins(bars, CONFIG.horizons_minutes)


@pytest.fixture(scope="module")
def until(bars: Bars) -> int:
    return int(bars.series[0].minute[0]) + 10 * 1440


@pytest.fixture(scope="module")
def forecaster(origins: list[Origins], until: int) -> Forecaster:
    return train_har_lstm(origins, CONFIG, until, 1)


def perturbed(forecaster: Forecaster, seed: int = 0) -> Forecaster:
    """Weights far from the start, so that every part of the graph matters."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0.0, 0.3, forecaster.weights.shape).astype(np.float32)
    return replace(forecaster, weights=forecaster.weights + noise)


def test_step_zero_is_the_base(origins: list[Origins], until: int) -> None:
    config = replace(CONFIG, learning_rate=0.0, weight_decay=0.0)
    parts = training_part(origins, config, until)
    base = fit_log_linear(parts, "HAR+season", config.horizons_minutes, True, ridge=1e-2)
    harx = fit_log_linear(parts, "HARX", config.horizons_minutes, False)
    for share in (0.0, 0.25, 1.0):
        untrained = train_har_lstm(origins, replace(config, linear_share=share), until, 1)
        for o in origins:
            forecasts = untrained.predict_origins(o)
            expected = (1 - share) * base.predict(o.inputs) + share * harx.predict(o.inputs)
            np.testing.assert_allclose(forecasts.log_variance, expected, atol=1e-4)


def test_the_linear_share_scales_the_network(origins: list[Origins], until: int) -> None:
    forecasts = {
        share: train_har_lstm(origins, replace(CONFIG, linear_share=share), until, 1)
        .predict_origins(origins[0])
        .log_variance
        for share in (0.0, 0.5, 1.0)
    }
    np.testing.assert_allclose(forecasts[0.5], (forecasts[0.0] + forecasts[1.0]) / 2, atol=1e-4)


def test_training_sees_nothing_after_its_end(
    bars: Bars, origins: list[Origins], until: int, forecaster: Forecaster
) -> None:
    """Scaler, base and weights are the same to the byte without the future, or with another."""
    twisted = []
    for s in bars.series:
        ohlcv = s.ohlcv.copy()
        ohlcv[s.minute >= until, :4] *= 3.0
        ohlcv[s.minute >= until, 4] *= 50.0
        twisted.append(SymbolBars(s.symbol, s.minute, ohlcv))
    for other in (bars.between(0, until), Bars(tuple(twisted), 1, "twisted")):
        again = train_har_lstm(build_origins(other, CONFIG.horizons_minutes), CONFIG, until, 1)
        for name in ("scale", "base", "weights"):
            assert getattr(again, name).tobytes() == getattr(forecaster, name).tobytes()
    parts = training_part(origins, CONFIG, until)
    inputs = np.concatenate([p.inputs for p in parts])
    assert max(int(p.minute[-1]) for p in parts) < until
    np.testing.assert_allclose(forecaster.scale[0], inputs.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_targets_that_end_after_the_refit_are_unknown(origins: list[Origins], until: int) -> None:
    for part in training_part(origins, CONFIG, until):
        for j, horizon in enumerate(CONFIG.horizons_minutes):
            known = np.isfinite(part.targets[:, j])
            assert np.array_equal(known, part.minute + horizon <= until)


def test_same_seed_same_weights_and_another_seed_others(
    origins: list[Origins], until: int, forecaster: Forecaster
) -> None:
    threads = torch.get_num_threads()
    again = train_har_lstm(origins, CONFIG, until, 1)
    assert again.weights.tobytes() == forecaster.weights.tobytes()
    assert torch.get_num_threads() == threads
    shifted = train_har_lstm(origins, replace(CONFIG, seed=1, ensemble=1), until, 1)
    assert shifted.weights[0].tobytes() == forecaster.weights[1].tobytes()
    assert not np.array_equal(forecaster.weights[0], forecaster.weights[1])


def test_training_lowers_the_loss(origins: list[Origins], until: int) -> None:
    curve: list[float] = []
    steps: list[tuple[int, int]] = []
    config = replace(CONFIG, ensemble=1, epochs=4)

    def log(tag: str, value: float, step: int) -> None:
        assert tag == "forecast/network_0/train_loss"
        assert step == len(curve)
        curve.append(value)

    train_har_lstm(origins, config, until, 1, lambda done, total: steps.append((done, total)), log)
    assert curve[-1] < curve[0]
    assert steps == [(k, 4) for k in range(1, 5)]


def torch_forecasts(forecaster: Forecaster, network: HarLstm, inputs: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(standardise(inputs, forecaster.scale))
    z = (inputs.astype(np.float32) - forecaster.scale[0]) * forecaster.scale[1]
    base = z @ forecaster.base[:-1] + forecaster.base[-1]
    with torch.no_grad():
        return network(x[None])[0].numpy() + base


def test_kernel_equals_torch(origins: list[Origins], forecaster: Forecaster) -> None:
    torch.manual_seed(3)
    network = HarLstm(CONFIG)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.2 * torch.randn_like(p))
    one = replace(forecaster, weights=network.flat()[None])
    inputs = origins[0].inputs[:600]
    restart = np.zeros(600, np.bool_)
    out = one.run(inputs, restart, one.new_state())
    expected = torch_forecasts(forecaster, network, inputs)
    np.testing.assert_allclose(out[:, -1], expected, atol=1e-5 * np.abs(expected).max())


def test_onnxruntime_equals_the_kernel_on_ten_thousand_observations(
    origins: list[Origins], forecaster: Forecaster, tmp_path: Path
) -> None:
    model = perturbed(forecaster)
    described = export_forecaster(model, tmp_path)
    assert described["opset"] == OPSET == onnx.load(tmp_path / FILE_NAME).opset_import[0].version
    assert described["features"] == list(FEATURES)
    session = onnxruntime.InferenceSession(tmp_path / FILE_NAME, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    rows = np.concatenate([o.inputs for o in origins])
    batch = rng.permutation(np.tile(rows, (4, 1)))[:10_000].reshape(100, 100, N_FEATURES)
    state = np.zeros((100, *described["state_shape"]), np.float32)
    ours = np.zeros_like(state)
    out = np.empty((model.members + 1, 3), np.float32)
    ensemble, scratch = model.arrays(), model.new_scratch()
    for t in range(100):  # 100 assets in parallel over 100 steps
        inputs = batch[t].astype(np.float32)
        forecast, state = session.run(None, {"inputs": inputs, "state": state})
        got = np.empty((100, 3), np.float32)
        for b in range(100):
            forecast_step(ensemble, inputs[b].astype(np.float64), ours[b], scratch, out)
            got[b] = out[-1]
        # Log variances are near -12: 1e-5 of their size is all that float32 promises.
        np.testing.assert_allclose(got, np.asarray(forecast), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours, np.asarray(state), atol=1e-5)


def test_the_file_gives_the_forecaster_back(forecaster: Forecaster, tmp_path: Path) -> None:
    model = perturbed(forecaster)
    described = export_forecaster(model, tmp_path)
    for where in (tmp_path, tmp_path / FILE_NAME):
        back = load_forecaster(where)
        for name in ("scale", "base", "weights", "recurrent", "sizes"):
            assert getattr(back, name).tobytes() == getattr(model, name).tobytes()
        assert back.horizons_minutes == model.horizons_minutes
        assert (back.trained_from, back.trained_until) == (model.trained_from, model.trained_until)
        assert back.test_vectors() == described["test_vectors"]
    assert not list(tmp_path.glob("*.partial"))


def test_other_files_are_refused(forecaster: Forecaster, tmp_path: Path) -> None:
    with pytest.raises(ForecasterFileError, match="no such file"):
        load_forecaster(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"\x08not protobuf")
    with pytest.raises(ForecasterFileError, match="not a volatility model"):
        load_forecaster(tmp_path)
    export_forecaster(forecaster, tmp_path)
    proto = onnx.load(tmp_path / FILE_NAME)
    meta = json.loads(proto.metadata_props[0].value)
    meta["features"][3] = "moon_phase"
    proto.metadata_props[0].value = json.dumps(meta)
    (tmp_path / FILE_NAME).write_bytes(proto.SerializeToString())
    with pytest.raises(ForecasterFileError, match="moon_phase"):
        load_forecaster(tmp_path)


def test_prediction_follows_windows_and_bar_size(bars: Bars, forecaster: Forecaster) -> None:
    whole = {f.symbol: f for f in forecaster.predict(bars)}
    later = {
        f.symbol: f for f in forecaster.predict(bars.between(bars.series[0].minute[1440], 10**9))
    }
    for symbol, f in whole.items():
        assert f.log_variance.shape == (len(f.minute), 3)
        assert f.members.shape == (len(f.minute), 2, 3)
        np.testing.assert_allclose(f.members.mean(axis=1), f.log_variance, atol=1e-5)
        # The state starts a day later, and forgets that within another day.
        tail = f.minute >= later[symbol].minute[288]
        close = np.abs(f.log_variance[tail] - later[symbol].log_variance[288:])
        assert np.median(close) < 0.15  # the 3-day average and the profile know less
    five = Bars(bars.series, 5, "five.csv")
    with pytest.raises(BarsError, match="trained on 1-minute bars"):
        forecaster.predict(five)


def test_too_little_to_learn_from_is_refused(bars: Bars) -> None:
    with pytest.raises(ValueError, match="2880"):
        train_forecaster(bars, CONFIG, int(bars.series[0].minute[0]) + 3 * 1440)
    assert train_forecaster(bars, CONFIG, "2024-01-12").trained_until == minute_of("2024-01-12")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"horizons_minutes": (5, 7)}, "horizons_minutes"),
        ({"horizons_minutes": ()}, "horizons_minutes"),
        ({"ensemble": 0}, "ensemble"),
        ({"burn_in": 192}, "burn_in"),
        ({"train_days": -1}, "train_days"),
        ({"linear_share": 1.5}, "linear_share"),
    ],
)
def test_wrong_configurations_name_the_field(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        VolatilityConfig(**change)  # pyright: ignore[reportArgumentType]
