"""The trained volatility forecaster: its weights and prediction by the serving kernels.

Needs no torch: `models.volatility.har_lstm` trains it, the environment and the live engine only
run it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from history.prices import Bars, BarsError
from kernels.checked_arrays import check_array, check_finite
from kernels.networks.features import BLOCK_MINUTES, FEATURES, N_FEATURES, VARIANCE_FLOOR
from kernels.networks.forecast import (
    CLIP,
    Weights,
    check_weights,
    forecast_history,
    new_scratch,
)
from models.volatility.origins import Origins, build_origins

HAR_LSTM = "HAR-LSTM"
TEST_VECTOR_STEPS = 8


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of one symbol, made when each 5-minute block closed."""

    symbol: str
    minute: np.ndarray  # int64[n], end of the block, minutes since the epoch
    log_variance: np.ndarray  # float32[n, horizons], ln of the variance of the next minutes
    members: np.ndarray  # float32[n, members, horizons]
    realised: np.ndarray  # float64[n, horizons], nan where the bars end or break


@dataclass(frozen=True)
class VarianceForecaster(ABC):
    """What forecasts variance from the inputs of `kernels.networks.features`, once trained."""

    horizons_minutes: tuple[int, ...]
    symbols: tuple[str, ...]  # seen in training
    bar_minutes: int
    trained_from: int  # minutes since the epoch
    trained_until: int  # no target of the training ended later

    @property
    @abstractmethod
    def name(self) -> str:
        """How tables call it."""

    @abstractmethod
    def predict_origins(self, origins: Origins) -> Forecasts:
        """Forecasts at every origin, the state starting from zero in each contiguous window."""

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """What a reader of the weights must know; goes into the ONNX file and the manifest."""

    @abstractmethod
    def test_vectors(self, seed: int = 0) -> dict[str, Any]:
        """A short input sequence from zero state and its forecasts, to check a runtime against."""

    def predict(self, bars: Bars) -> list[Forecasts]:
        """Forecasts for every symbol of `bars`, from features to output as they are served.

        The first origin of a window comes one day after its start. Raises BarsError when the bar
        size differs from that of the training.
        """
        if bars.bar_minutes != self.bar_minutes:
            raise BarsError(
                f"{bars.source}: bars of {bars.bar_minutes} minutes, but the model was trained on "
                f"{self.bar_minutes}-minute bars; give such bars or train another model"
            )
        origins = build_origins(bars, self.horizons_minutes)
        return [self.predict_origins(o) for o in origins]

    def described(self) -> dict[str, Any]:
        """The part of `metadata` that every forecaster has."""
        return {
            "features": list(FEATURES),
            "horizons_minutes": list(self.horizons_minutes),
            "symbols": list(self.symbols),
            "bar_minutes": self.bar_minutes,
            "block_minutes": BLOCK_MINUTES,
            "trained_from": _moment(self.trained_from),
            "trained_until": _moment(self.trained_until),
            "target": "ln of the sum of squared log returns of the bars in the next minutes",
            "variance_floor_per_minute": VARIANCE_FLOOR,
        }


@dataclass(frozen=True)
class Forecaster(VarianceForecaster):
    """An ensemble of HAR-LSTM networks; array shapes as in
    `kernels.networks.forecast.forecast_step`."""

    scale: np.ndarray
    base: np.ndarray
    weights: np.ndarray
    recurrent: np.ndarray
    sizes: np.ndarray

    def __post_init__(self) -> None:
        """Refuse weights that the kernel would read beyond. Raises ArrayError."""
        check_weights(self.arrays())
        check_array("scale", self.scale, (2, N_FEATURES), np.float32)
        check_array("base", self.base, (N_FEATURES + 1, len(self.horizons_minutes)), np.float32)

    @property
    def name(self) -> str:
        """How tables call it."""
        return HAR_LSTM

    @property
    def members(self) -> int:
        """Number of networks in the ensemble."""
        return self.weights.shape[0]

    @property
    def hidden(self) -> int:
        """Width of the recurrent state."""
        return int(self.sizes[0]) - N_FEATURES

    def arrays(self) -> Weights:
        """The ensemble as the kernels take it."""
        return Weights(self.scale, self.base, self.weights, self.recurrent, self.sizes)

    def new_state(self) -> np.ndarray:
        """Recurrent state of one asset before its first origin: float32[members, 2, hidden]."""
        return np.zeros((self.members, 2, self.hidden), np.float32)

    def new_scratch(self) -> np.ndarray:
        """Scratch array for `forecast_step`."""
        return new_scratch(N_FEATURES, self.recurrent.size, self.hidden, self.sizes)

    def run(self, inputs: np.ndarray, restart: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Forecasts float32[t, members + 1, H] along inputs float64[t, n]; `state` is advanced."""
        check_finite("inputs", inputs, (None, N_FEATURES))
        check_array("restart", restart, (len(inputs),), np.bool_)
        check_finite("state", state, (self.members, 2, self.hidden), np.float32)
        out = np.empty((len(inputs), self.members + 1, len(self.horizons_minutes)), np.float32)
        forecast_history(self.arrays(), inputs, restart, state, self.new_scratch(), out)
        return out

    def predict_origins(self, origins: Origins) -> Forecasts:
        """Forecasts at every origin, the state starting from zero in each contiguous window."""
        restart = np.zeros(len(origins), np.bool_)
        restart[origins.starts()] = True
        out = self.run(origins.inputs, restart, self.new_state())
        return Forecasts(origins.symbol, origins.minute, out[:, -1], out[:, :-1], origins.targets)

    def metadata(self) -> dict[str, Any]:
        """What a reader of the weights must know; goes into the ONNX file and the manifest."""
        return self.described() | {
            "clip": CLIP,
            "members": self.members,
            "hidden": self.hidden,
            "recurrent_inputs": [FEATURES[int(i)] for i in self.recurrent],
            "mlp_sizes": [int(s) for s in self.sizes],
            "state_shape": [self.members, 2, self.hidden],
        }

    def test_vectors(self, seed: int = 0) -> dict[str, Any]:
        """A short input sequence from zero state and its forecasts, to check a runtime against."""
        z = np.random.default_rng(seed).normal(size=(TEST_VECTOR_STEPS, N_FEATURES))
        inputs = (self.scale[0] + z / self.scale[1]).astype(np.float32)
        restart = np.zeros(TEST_VECTOR_STEPS, np.bool_)
        out = self.run(inputs.astype(np.float64), restart, self.new_state())
        return {"inputs": inputs.tolist(), "log_variance": out[:, -1].tolist()}


def _moment(minute: int) -> str:
    return f"{np.datetime64(minute, 'm')}Z"
