"""The frozen volatility ensemble, served without torch and checked against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from kernels.checked_arrays import ArrayError, check_array, check_finite
from kernels.networks.features import FEATURES
from kernels.networks.forecast import Weights, check_weights, forecast_step, new_scratch
from kernels.networks.forward import lstm_parameters, mlp_parameters
from models.frozen.folder import (
    HORIZONS_MINUTES,
    KERNEL,
    ONNXRUNTIME,
    RETRAIN,
    TOLERANCE,
    open_folder,
    refuse,
    session_of,
)
from models.frozen.row_graph import NetworkFileError, Port, RowGraph


class FrozenForecaster:
    """The volatility ensemble for one asset; `step` advances it by one closed 5-minute block."""

    def __init__(self, arrays: Weights, fallback: list[float]) -> None:
        """Raises ArrayError for arrays that do not belong together."""
        check_weights(arrays)
        check_array("scale", arrays.scale, (2, len(FEATURES)), np.float32)
        check_array("base", arrays.base, (len(FEATURES) + 1, len(HORIZONS_MINUTES)), np.float32)
        self.arrays = arrays
        self.fallback = np.array(fallback, np.float32)
        members, hidden = len(arrays.weights), int(arrays.sizes[0]) - len(FEATURES)
        self._state = np.zeros((members, 2, hidden), np.float32)
        self._out = np.empty((members + 1, len(HORIZONS_MINUTES)), np.float32)
        inputs = arrays.recurrent.size
        self._scratch = new_scratch(len(FEATURES), inputs, hidden, arrays.sizes)

    def restart(self) -> None:
        """Forget the past: to be called after a gap in the bars."""
        self._state[:] = 0.0

    def step(self, inputs: NDArray[np.float64]) -> NDArray[np.float32]:
        """ln of the variance of the next 5, 15, 60 minutes, float32[3], overwritten by each step.

        inputs float64[features] from `kernels.networks.features.encode_inputs`; ArrayError for
        others. Before the first step use `fallback`, the median forecast of the training bars.
        """
        check_finite("inputs", inputs, (len(FEATURES),))
        forecast_step(self.arrays, inputs, self._state, self._scratch, self._out)
        return self._out[-1]


class OnnxForecaster(FrozenForecaster):
    """A forecaster of one's own: its ONNX graph, run by onnxruntime for one asset."""

    def __init__(self, graph: RowGraph, fallback: list[float]) -> None:
        self.fallback = np.array(fallback, np.float32)
        self._graph = graph
        self._state = graph.new_state(1)

    def step(self, inputs: NDArray[np.float64]) -> NDArray[np.float32]:
        """As `FrozenForecaster.step`; where the graph gives no number it is the fallback."""
        check_finite("inputs", inputs, (len(FEATURES),))
        out = self._graph.run(inputs.astype(np.float32)[None], self._state)[0]
        return np.where(np.isfinite(out), out, self.fallback)


def load_forecaster(directory: Path | str) -> FrozenForecaster:
    """Load and verify the forecaster beside the policy in `directory`, for one asset."""
    manifest, contents = open_folder(Path(directory))
    described = manifest.get("volatility")
    described = described if isinstance(described, dict) else {}
    content = contents["volatility.onnx"]
    own = described.get("runtime", KERNEL) == ONNXRUNTIME
    made = _own_graph(content, described) if own else _ensemble(content, described)
    try:
        fallback = [float(x) for x in described["fallback_log_variance"]]
        if len(fallback) != len(HORIZONS_MINUTES) or not np.isfinite(fallback).all():
            raise ValueError(f"{fallback} is not one finite value per horizon")
    except (KeyError, TypeError, ValueError) as error:
        refuse(f"volatility.fallback_log_variance cannot be used: {error!r}", RETRAIN)
    if isinstance(made, RowGraph):
        forecaster: FrozenForecaster = OnnxForecaster(made, fallback)
    else:
        try:
            forecaster = FrozenForecaster(made, fallback)
        except ArrayError as error:
            refuse(f"volatility.onnx is not a HAR-LSTM ensemble: {error}", RETRAIN)
    _check_forecasts(forecaster, content, described)
    return forecaster


def _check_features(described: dict[str, Any]) -> None:
    theirs = described.get("features")
    if theirs != list(FEATURES):
        refuse(f"volatility.features: {theirs}, this version computes {list(FEATURES)}", RETRAIN)


def _own_graph(content: bytes, described: dict[str, Any]) -> RowGraph:
    """The graph of a forecaster of one's own; refused when its features differ."""
    _check_features(described)
    try:
        ports = Port("inputs", len(FEATURES)), Port("log_variance", len(HORIZONS_MINUTES))
        return RowGraph(content, *ports)
    except NetworkFileError as error:
        refuse(f"volatility.onnx: {error}", RETRAIN)


def _ensemble(content: bytes, described: dict[str, Any]) -> Weights:
    """Weights of volatility.onnx, laid out for the kernel; refused when its features differ."""
    _check_features(described)
    try:
        arrays = {
            t.name: numpy_helper.to_array(t)
            for t in onnx.load_from_string(content).graph.initializer
        }
        layers = range(len(described["mlp_sizes"]) - 1)
        rows = []
        for member in range(described["members"]):
            named = {k: arrays[f"member{member}.{k}"] for k in _member_names(layers)}
            lstm = [named["lstm.input"].T, named["lstm.hidden"].T, named["lstm.bias"]]
            weights = [named[f"mlp{k}.weight"].T for k in layers]
            biases = [named[f"mlp{k}.bias"] for k in layers]
            flat = [lstm_parameters(*lstm), mlp_parameters(weights, biases)]
            rows.append(np.concatenate([*flat, named["skip"].ravel()]))
        return Weights(
            scale=np.stack([arrays["mean"], arrays["inverse_sd"]]),
            base=np.vstack([arrays["base.slopes"], arrays["base.intercept"]]),
            weights=np.stack(rows),
            recurrent=arrays["recurrent"].astype(np.int64),
            sizes=np.array(described["mlp_sizes"], np.int64),
        )
    except Exception as error:  # protobuf raises its own types on hostile bytes
        refuse(f"volatility.onnx is not a HAR-LSTM ensemble: {error!r}", RETRAIN)


def _member_names(layers: range) -> list[str]:
    names = [f"mlp{k}.{part}" for k in layers for part in ("weight", "bias")]
    return ["lstm.input", "lstm.hidden", "lstm.bias", "skip", *names]


def _check_forecasts(
    forecaster: FrozenForecaster, content: bytes, described: dict[str, Any]
) -> None:
    """Kernel, onnxruntime and the recorded forecasts agree along the recorded sequence."""
    try:
        inputs = np.array(described["test_vectors"]["inputs"], np.float32)
        recorded = np.array(described["test_vectors"]["log_variance"], np.float32)
        if inputs.shape[1:] != (len(FEATURES),) or len(inputs) != len(recorded) or not len(inputs):
            raise ValueError(f"inputs {inputs.shape}, forecasts {recorded.shape}")
        if not np.isfinite(inputs).all():
            raise ValueError("an input is not finite")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        refuse(f"volatility.test_vectors cannot be used: {error!r}", RETRAIN)
    own = isinstance(forecaster, OnnxForecaster)
    session = session_of(content)
    state = np.zeros((1, *forecaster._state.shape), np.float32)
    for t, row in enumerate(inputs):
        ours = forecaster.step(row.astype(np.float64))
        others = {"the recorded forecast": recorded[t]}
        if not own:  # there is one way to run a forecaster of one's own
            feed = {"inputs": row[None], "state": state}
            reference, state = map(np.asarray, session.run(["log_variance", "next_state"], feed))
            others["onnxruntime"] = reference[0]
        for name, other in others.items():
            gap = float(np.abs(ours - other).max())
            if not gap <= TOLERANCE * max(1.0, float(np.abs(other).max())):
                refuse(
                    f"volatility test step {t}: the kernel differs from {name} by {gap:.3g}",
                    RETRAIN,
                )
    forecaster.restart()
