"""Loads and runs a frozen policy and its forecaster without torch: the folder of `models.export`.

Everything is checked before the first decision: file hashes, observation fields, actions, shapes,
and that the compiled forward passes reproduce onnxruntime on recorded inputs.
"""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from kernels.action import ACTIONS, BID_PPM
from kernels.features import FEATURES
from kernels.forecast import forecast_step, new_scratch
from kernels.network import (
    TANH,
    lstm_parameters,
    masked_argmax,
    mlp_forward,
    mlp_forward_batch,
    mlp_parameters,
)
from kernels.observation import FIELDS

FORMAT = 1
DECODE = "argmax of the logits over allowed actions, lowest index on a tie"
HORIZONS_MINUTES = (5, 15, 60)
FILES = ("policy.onnx", "volatility.onnx")
# Largest difference allowed between two forward passes, relative to logits above 1: float32 sums
# of about 100 terms differ by 1e-6 of their size when the order of addition differs.
TOLERANCE = 1e-5
RETRAIN = "freeze a policy with this version (python train.py) or check out the commit it names"


class PolicyError(ValueError):
    """A frozen policy that must not be used; the message names the file, the value, the remedy."""


class Perceptron(NamedTuple):
    """A tanh perceptron as the kernel wants it: flat parameters and layer widths, input first."""

    parameters: NDArray[np.float32]
    sizes: NDArray[np.int64]


class ForecasterWeights(NamedTuple):
    """Arrays of the volatility ensemble, shaped as `kernels.forecast.forecast_step` wants them."""

    scale: NDArray[np.float32]
    base: NDArray[np.float32]
    weights: NDArray[np.float32]
    recurrent: NDArray[np.int64]
    sizes: NDArray[np.int64]


def kernel_contract() -> dict[str, Any]:
    """What the kernels of this checkout read and mean: observation fields and actions, as JSON."""
    return {
        "fields": [list(field) for field in FIELDS],
        "actions": {"count": ACTIONS, "bid_ppm": [int(ppm) for ppm in BID_PPM]},
    }


class FrozenPolicy:
    """A policy ready to decide. `load` builds it; `decide` allocates nothing."""

    def __init__(self, network: Perceptron, manifest: dict[str, Any]) -> None:
        self.network = network
        self.manifest = manifest
        self.logits = np.empty(int(network.sizes[-1]), np.float32)
        self._scratch = np.empty(2 * int(network.sizes.max()), np.float32)

    def decide(self, observation: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
        """Action for observation float32[D] under mask bool[A]; `logits` holds what it compared."""
        parameters, sizes = self.network
        mlp_forward(observation, parameters, sizes, TANH, self._scratch, self.logits)
        return masked_argmax(self.logits, mask)

    def decide_many(
        self, observations: NDArray[np.float32], masks: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """`decide` for observations float32[n, D] under masks bool[n, A]: int64[n]."""
        logits = self.logits_of(observations)
        return np.where(masks, logits, -np.inf).argmax(axis=1)

    def logits_of(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32[n, A] of observations float32[n, D]."""
        logits = np.empty((len(observations), int(self.network.sizes[-1])), np.float32)
        mlp_forward_batch(observations, *self.network, TANH, logits)
        return logits


class FrozenForecaster:
    """The volatility ensemble for one asset; `step` advances it by one closed 5-minute block."""

    def __init__(self, arrays: ForecasterWeights, fallback: list[float]) -> None:
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

        inputs float64[features] from `kernels.features.encode_inputs`. Before the first step use
        `fallback`, the median forecast of the training bars.
        """
        forecast_step(inputs, *self.arrays, self._state, self._scratch, self._out)
        return self._out[-1]


def load(directory: Path | str) -> FrozenPolicy:
    """Load and verify the frozen policy in `directory`; PolicyError when it must not be used."""
    manifest, contents = _open(Path(directory))
    network = _perceptron(contents["policy.onnx"])
    _check_shapes(network, manifest)
    policy = FrozenPolicy(network, manifest)
    _check_forward_pass(policy, contents["policy.onnx"])
    return policy


def load_forecaster(directory: Path | str) -> FrozenForecaster:
    """Load and verify the forecaster beside the policy in `directory`, for one asset."""
    manifest, contents = _open(Path(directory))
    described = manifest.get("volatility")
    described = described if isinstance(described, dict) else {}
    arrays = _ensemble(contents["volatility.onnx"], described)
    try:
        fallback = [float(x) for x in described["fallback_log_variance"]]
        if len(fallback) != len(HORIZONS_MINUTES) or not np.isfinite(fallback).all():
            raise ValueError(f"{fallback} is not one finite value per horizon")
    except (KeyError, TypeError, ValueError) as error:
        _refuse(f"volatility.fallback_log_variance cannot be used: {error!r}", RETRAIN)
    forecaster = FrozenForecaster(arrays, fallback)
    _check_forecasts(forecaster, contents["volatility.onnx"], described)
    return forecaster


def _open(directory: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Manifest and files of a policy folder: hashes right, made for the kernels of this version."""
    if not directory.is_dir():
        raise PolicyError(
            f"policy folder {directory} does not exist: train one (python train.py) or name "
            "another with --policy"
        )
    manifest = _read_manifest(directory)
    contents = {name: _read_checked(directory, name, manifest) for name in FILES}
    _check_contract(manifest)
    return manifest, contents


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        _refuse(f"{path} is missing", "copy the whole policy folder")
    except (OSError, ValueError) as error:
        _refuse(f"{path} cannot be read: {error}", "copy the policy folder again")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        _refuse(f"manifest: format is {found!r}, this version reads {FORMAT}", RETRAIN)
    return manifest


def _read_checked(directory: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """Bytes of a file whose hash the manifest vouches for."""
    hashes = manifest.get("sha256")
    expected = hashes.get(name) if isinstance(hashes, dict) else None
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        _refuse(f"{name} cannot be read: {error}", "copy the whole policy folder")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        _refuse(
            f"{name}: sha256 is {found}, the manifest says {expected}",
            "the files do not belong together: copy the policy folder again",
        )
    return content


def _check_contract(manifest: dict[str, Any]) -> None:
    """The policy was trained on the fields and actions that the kernels of this checkout give."""
    contract = kernel_contract()
    theirs, ours = _listed(manifest, "fields"), contract["fields"]
    for i, (their, our) in enumerate(zip(theirs, ours)):
        if their != our:
            _refuse(f"fields[{i}]: the policy reads {their}, this version gives {our}", RETRAIN)
    if len(theirs) != len(ours):
        _refuse(f"fields: the policy reads {len(theirs)}, this version gives {len(ours)}", RETRAIN)
    actions = manifest.get("actions")
    if actions != contract["actions"]:
        keys = contract["actions"]
        found = actions if isinstance(actions, dict) else {}
        key = next((k for k in keys if found.get(k) != keys[k]), "actions")
        _refuse(
            f"actions.{key}: the policy means {found.get(key)}, this version {keys.get(key)}",
            RETRAIN,
        )
    for key, value in (("decode", DECODE), ("horizons_minutes", list(HORIZONS_MINUTES))):
        if manifest.get(key) != value:
            _refuse(
                f"{key}: the policy says {manifest.get(key)!r}, this version {value!r}", RETRAIN
            )


def _perceptron(content: bytes) -> Perceptron:
    """Weights of an ONNX graph Gemm (Tanh Gemm)*; anything else is refused."""
    try:
        graph = onnx.load_from_string(content).graph
        tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        weights, biases = [], []
        for i, node in enumerate(graph.node):
            expected = "Tanh" if i % 2 else "Gemm"
            if node.op_type != expected:
                raise ValueError(f"node {i} is {node.op_type}, expected {expected}")
            if expected == "Gemm":
                attributes = {a.name: a.i if a.type == a.INT else a.f for a in node.attribute}
                if attributes != {"transB": 1}:
                    raise ValueError(f"node {i} has attributes {attributes}, expected transB=1")
                weights.append(tensors[node.input[1]])
                biases.append(tensors[node.input[2]])
        parameters = mlp_parameters(weights, biases)
        sizes = np.array([weights[0].shape[1], *(w.shape[0] for w in weights)], np.int64)
        if any(w.shape[1] != n for w, n in zip(weights, sizes)):
            raise ValueError(f"layers {[w.shape for w in weights]} do not follow one another")
    except Exception as error:  # protobuf raises its own types on hostile bytes
        _refuse(f"policy.onnx is not a tanh perceptron: {error}", RETRAIN)
    return Perceptron(parameters, sizes)


def _check_shapes(network: Perceptron, manifest: dict[str, Any]) -> None:
    widths = [int(size) for size in network.sizes]
    wanted = (len(FIELDS), ACTIONS)
    if (widths[0], widths[-1]) != wanted:
        _refuse(f"policy.onnx maps {widths[0]} to {widths[-1]}, expected {wanted}", RETRAIN)
    shapes = {"observation": widths[0], "hidden": widths[1:-1], "logits": widths[-1]}
    if manifest.get("shapes") != shapes:
        _refuse(f"shapes: manifest {manifest.get('shapes')}, policy.onnx {shapes}", RETRAIN)


def _check_forward_pass(policy: FrozenPolicy, content: bytes) -> None:
    """Kernel, onnxruntime and the recorded outputs agree on the recorded observations."""
    try:
        vectors = policy.manifest["test_vectors"]
        observations = np.array(vectors["observations"], np.float32).reshape(-1, len(FIELDS))
        recorded = np.array(vectors["logits"], np.float32).reshape(-1, ACTIONS)
        masks = np.zeros(recorded.shape, bool)
        for mask, allowed in zip(masks, vectors["allowed"], strict=True):
            mask[np.array(allowed, np.int64)] = True
        actions = np.array(vectors["actions"], np.int64)
        if not len(actions) == len(observations) == len(recorded) > 0:
            raise ValueError(f"{len(observations)} observations, {len(actions)} actions")
        if actions.min() < 0 or actions.max() >= ACTIONS:
            raise ValueError(f"an action lies outside 0..{ACTIONS - 1}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        _refuse(f"test_vectors cannot be used: {error!r}", RETRAIN)
    reference = run_onnx(content, observations)
    ours = policy.logits_of(observations)
    for name, other in (("onnxruntime", reference), ("the recorded logits", recorded)):
        gap = np.abs(ours - other).max(axis=1)
        worst = int(np.argmax(gap / np.maximum(1.0, np.abs(other).max(axis=1))))
        if not gap[worst] <= TOLERANCE * max(1.0, float(np.abs(other[worst]).max())):
            _refuse(
                f"test vector {worst}: the kernel differs from {name} by {gap[worst]:.3g}",
                "clear Numba's cache (NUMBA_CACHE_DIR) and load again, or train again",
            )
    # The recorded action may lose a tie by rounding on another processor, but nothing more.
    best = np.where(masks, ours, -np.inf).max(axis=1)
    taken = np.where(masks, ours, -np.inf)[np.arange(len(actions)), actions]
    if not np.all(best - taken <= 2 * TOLERANCE * np.maximum(1.0, np.abs(ours).max(axis=1))):
        _refuse("test vectors: the decoded actions differ from the recorded ones", RETRAIN)


def run_onnx(content: bytes, observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of onnxruntime on one thread for observations float32[n, D]."""
    (logits,) = _session(content).run(["logits"], {"observation": observations})
    return np.asarray(logits, np.float32)


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _ensemble(content: bytes, described: dict[str, Any]) -> ForecasterWeights:
    """Weights of volatility.onnx, laid out for the kernel; refused when its features differ."""
    theirs = described.get("features")
    if theirs != list(FEATURES):
        _refuse(f"volatility.features: {theirs}, this version computes {list(FEATURES)}", RETRAIN)
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
        ensemble = ForecasterWeights(
            scale=np.stack([arrays["mean"], arrays["inverse_sd"]]),
            base=np.vstack([arrays["base.slopes"], arrays["base.intercept"]]),
            weights=np.stack(rows),
            recurrent=arrays["recurrent"].astype(np.int64),
            sizes=np.array(described["mlp_sizes"], np.int64),
        )
        _check_ensemble(ensemble)
        return ensemble
    except Exception as error:  # protobuf raises its own types on hostile bytes
        _refuse(f"volatility.onnx is not a HAR-LSTM ensemble: {error!r}", RETRAIN)


def _member_names(layers: range) -> list[str]:
    names = [f"mlp{k}.{part}" for k in layers for part in ("weight", "bias")]
    return ["lstm.input", "lstm.hidden", "lstm.bias", "skip", *names]


def _check_ensemble(arrays: ForecasterWeights) -> None:
    """The kernel trusts these shapes: it reads the flat rows without bounds checks."""
    n, horizons, sizes = len(FEATURES), len(HORIZONS_MINUTES), [int(s) for s in arrays.sizes]
    hidden, seen = sizes[0] - n, arrays.recurrent
    perceptron = sum((a + 1) * b for a, b in pairwise(sizes))
    row = (seen.size + hidden + 1) * 4 * hidden + perceptron + n * horizons
    if not (
        hidden > 0
        and sizes[-1] == horizons
        and arrays.scale.shape == (2, n)
        and arrays.base.shape == (n + 1, horizons)
        and arrays.weights.shape[1] == row
        and seen.size > 0
        and 0 <= seen.min() <= seen.max() < n
        and all(a.dtype == np.float32 for a in (arrays.scale, arrays.base, arrays.weights))
    ):
        shapes = [a.shape for a in arrays]
        raise ValueError(f"arrays of shapes {shapes} do not fit widths {sizes} of {n} features")


def _check_forecasts(
    forecaster: FrozenForecaster, content: bytes, described: dict[str, Any]
) -> None:
    """Kernel, onnxruntime and the recorded forecasts agree along the recorded sequence."""
    try:
        inputs = np.array(described["test_vectors"]["inputs"], np.float32)
        recorded = np.array(described["test_vectors"]["log_variance"], np.float32)
        if inputs.shape[1:] != (len(FEATURES),) or len(inputs) != len(recorded) or not len(inputs):
            raise ValueError(f"inputs {inputs.shape}, forecasts {recorded.shape}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        _refuse(f"volatility.test_vectors cannot be used: {error!r}", RETRAIN)
    session = _session(content)
    state = np.zeros((1, *forecaster._state.shape), np.float32)
    for t, row in enumerate(inputs):
        ours = forecaster.step(row.astype(np.float64))
        feed = {"inputs": row[None], "state": state}
        reference, state = map(np.asarray, session.run(["log_variance", "next_state"], feed))
        for name, other in (("onnxruntime", reference[0]), ("the recorded forecast", recorded[t])):
            gap = float(np.abs(ours - other).max())
            if not gap <= TOLERANCE * max(1.0, float(np.abs(other).max())):
                _refuse(
                    f"volatility test step {t}: the kernel differs from {name} by {gap:.3g}",
                    RETRAIN,
                )
    forecaster.restart()


def _listed(manifest: dict[str, Any], key: str) -> list[Any]:
    value = manifest.get(key)
    if not isinstance(value, list):
        _refuse(f"{key} is {type(value).__name__}, expected a list", RETRAIN)
    return value


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise PolicyError(f"frozen policy refused: {problem}; {remedy}")
