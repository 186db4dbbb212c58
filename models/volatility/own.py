"""Forecasters of one's own, named by import path in `forecaster.model`.

The path leads to a function that is called with inputs float32[n, F], the rows of
`kernels.networks.features.FEATURES`, targets float32[n, H], the ln of the variance realised in the
next minutes, and the VolatilityConfig. It gives a torch module, or an ONNX graph as bytes, that
maps such inputs to such forecasts: inputs float32[n, F] -> log_variance float32[n, H]. A graph may
remember: state float32[n, ...] -> next_state.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import nn

from kernels.networks.features import N_FEATURES
from models.extensions import imported, refused
from models.frozen import ONNXRUNTIME, NetworkFileError, Port, RowGraph, named_graph
from models.onnx_export import ExportError, module_graph
from models.volatility.config import VolatilityConfig
from models.volatility.har_lstm import training_part
from models.volatility.losses import floored
from models.volatility.origins import Origins
from models.volatility.predictor import TEST_VECTOR_STEPS, Forecasts, VarianceForecaster

KEY = "forecaster.model"
INPUTS, LOG_VARIANCE = "inputs", "log_variance"
Fit = Callable[[np.ndarray, np.ndarray, VolatilityConfig], nn.Module | bytes]
_TRACED_ROWS = 2


@dataclass(frozen=True)
class OwnForecaster(VarianceForecaster):
    """A forecaster that its ONNX graph describes, run by onnxruntime here and in the server."""

    model: str  # import path that it was trained by
    content: bytes

    @property
    def name(self) -> str:
        """How tables call it."""
        return self.model.partition(":")[2]

    @cached_property
    def graph(self) -> RowGraph:
        """The checked graph. Raises NetworkFileError."""
        ports = Port(INPUTS, N_FEATURES), Port(LOG_VARIANCE, len(self.horizons_minutes))
        return RowGraph(self.content, *ports)

    def run(self, inputs: np.ndarray, restart: np.ndarray) -> np.ndarray:
        """Forecasts float32[t, H] along inputs [t, F]; the state starts from zero where asked."""
        rows = inputs.astype(np.float32)
        if not self.graph.recurrent:
            return self.graph.run(rows, self.graph.new_state(len(rows)))
        out, state = [], self.graph.new_state(1)
        for row, begins in zip(rows, restart, strict=True):
            if begins:
                state[:] = 0.0
            out.append(self.graph.run(row[None], state)[0])
        return np.array(out, np.float32).reshape(len(rows), len(self.horizons_minutes))

    def predict_origins(self, origins: Origins) -> Forecasts:
        """Forecasts at every origin, the state starting from zero in each contiguous window."""
        restart = np.zeros(len(origins), np.bool_)
        restart[origins.starts()] = True
        out = self.run(origins.inputs, restart)
        return Forecasts(origins.symbol, origins.minute, out, out[:, None][:, :0], origins.targets)

    def metadata(self) -> dict[str, Any]:
        """What a reader of the graph must know; goes into the ONNX file and the manifest."""
        return self.described() | {"runtime": ONNXRUNTIME, "model": self.model}

    def test_vectors(self, seed: int = 0) -> dict[str, Any]:
        """A short input sequence from zero state and its forecasts, to check a runtime against."""
        inputs = np.random.default_rng(seed).normal(size=(TEST_VECTOR_STEPS, N_FEATURES))
        restart = np.zeros(TEST_VECTOR_STEPS, np.bool_)
        rows = inputs.astype(np.float32)
        return {"inputs": rows.tolist(), "log_variance": self.run(rows, restart).tolist()}

    def file_bytes(self) -> bytes:
        """The graph with `metadata` inside, as volatility.onnx holds it."""
        model = onnx.load_from_string(self.content)
        helper.set_model_props(model, {"forecaster": json.dumps(self.metadata())})
        return model.SerializeToString()


def train_own(
    origins: list[Origins], config: VolatilityConfig, until: int, bar_minutes: int
) -> OwnForecaster:
    """Call the function of `config.model` with all origins whose targets end before `until`.

    Raises ExtensionError naming path and remedy when it cannot be imported, fails, or gives what
    cannot be served.
    """
    parts = training_part(origins, config, until)
    inputs = np.concatenate([part.inputs for part in parts]).astype(np.float32)
    variance = np.concatenate([part.targets for part in parts])
    horizons = config.horizons_minutes
    targets = np.log(np.stack([floored(variance[:, j], h) for j, h in enumerate(horizons)], 1))
    known = np.isfinite(targets).all(axis=1)
    fit: Fit = imported(config.model, KEY)
    remedy = (
        "give a function of (inputs, targets, config) that returns a torch module or ONNX bytes"
    )
    if not callable(fit):
        raise refused(KEY, config.model, f"it is of type {type(fit).__name__}", remedy)
    try:
        fitted = fit(inputs[known], targets[known].astype(np.float32), config)
    except Exception as error:  # whatever the function does
        problem = f"training ends in {type(error).__name__}: {error}"
        raise refused(KEY, config.model, problem, "mend the function") from error
    forecaster = OwnForecaster(
        horizons_minutes=horizons,
        symbols=tuple(part.symbol for part in parts),
        bar_minutes=bar_minutes,
        trained_from=min(int(part.minute[0]) for part in parts),
        trained_until=until,
        model=config.model,
        content=_graph_of(fitted, config.model, remedy),
    )
    try:
        _ = forecaster.graph
    except NetworkFileError as error:
        raise refused(KEY, config.model, str(error), remedy) from error
    return forecaster


def _graph_of(fitted: object, path: str, remedy: str) -> bytes:
    try:
        if isinstance(fitted, nn.Module):
            rows = torch.zeros(_TRACED_ROWS, N_FEATURES)
            return module_graph(fitted, {INPUTS: rows}, [LOG_VARIANCE])
        if isinstance(fitted, bytes):
            return named_graph(fitted, INPUTS, LOG_VARIANCE)
    except (ExportError, NetworkFileError) as error:
        raise refused(KEY, path, str(error), remedy) from error
    raise refused(KEY, path, f"it gives an object of type {type(fitted).__name__}", remedy)
