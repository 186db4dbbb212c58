"""Writes the frozen policy: a folder of ONNX graphs and a manifest that says how to feed them.

The folder appears whole or not at all. Nothing in it is a pickle: it can be read, compared and
loaded without torch and without trust. `models.frozen` is the reader.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kernels.network import TANH, masked_argmax, mlp_forward_batch, mlp_parameters
from models.frozen import DECODE, FORMAT, HORIZONS_MINUTES, kernel_contract

# Opset 17 (ONNX 1.12, 2022) holds every operator used and is read by all runtimes in range.
OPSET = 17
IR_VERSION = 8

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


def perceptron_graph(layers: Sequence[Layer]) -> onnx.ModelProto:
    """ONNX graph of a tanh perceptron: observation float32[n, D] -> logits float32[n, A].

    layers: (weight [out, in], bias [out]) as PyTorch keeps them; the last layer is linear.
    """
    nodes, initialisers = [], []
    source = "observation"
    for i, (weight, bias) in enumerate(layers):
        last = i == len(layers) - 1
        target = "logits" if last else f"affine_{i}"
        inputs = [source, f"weight_{i}", f"bias_{i}"]
        nodes.append(helper.make_node("Gemm", inputs, [target], transB=1))
        for name, values in ((inputs[1], weight), (inputs[2], bias)):
            array = np.ascontiguousarray(values, dtype=np.float32)
            initialisers.append(numpy_helper.from_array(array, name))
        if not last:
            source = f"hidden_{i}"
            nodes.append(helper.make_node("Tanh", [target], [source]))
    widths = ["n", int(layers[0][0].shape[1])], ["n", int(layers[-1][0].shape[0])]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, widths[0])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, widths[1])],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    model.producer_name = "mevrl"
    onnx.checker.check_model(model, full_check=True)
    return model


def run_kernel(layers: Sequence[Layer], observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits float32[n, A] of the compiled forward pass for observations float32[n, D]."""
    parameters = mlp_parameters([w for w, _ in layers], [b for _, b in layers])
    sizes = np.array([layers[0][0].shape[1], *(w.shape[0] for w, _ in layers)], np.int64)
    logits = np.empty((len(observations), int(sizes[-1])), np.float32)
    mlp_forward_batch(observations, parameters, sizes, TANH, logits)
    return logits


def record_test_vectors(
    layers: Sequence[Layer], observations: NDArray[np.float32], masks: NDArray[np.bool_]
) -> dict[str, Any]:
    """Inputs that really occurred with the outputs expected of any loader.

    Masks are stored as lists of the allowed actions.
    """
    observations = np.ascontiguousarray(observations, dtype=np.float32)
    logits = run_kernel(layers, observations)
    return {
        "observations": observations.tolist(),
        "allowed": [np.flatnonzero(mask).tolist() for mask in masks],
        "logits": logits.tolist(),
        "actions": [int(masked_argmax(row, mask)) for row, mask in zip(logits, masks)],
    }


def write_policy(
    directory: Path,
    layers: Sequence[Layer],
    observations: NDArray[np.float32],
    masks: NDArray[np.bool_],
    write_forecaster: Callable[[Path], dict[str, Any]],
    config: dict[str, Any],
    threads: dict[str, int],
) -> None:
    """Write `policy.onnx`, the forecaster's files and `manifest.json` into `directory`, atomically.

    observations [n, D] and masks [n, A] become the test vectors; `write_forecaster` writes
    `volatility.onnx` into the folder it is given and returns what its reader must know (with
    `fallback_log_variance`); `config` is the whole training configuration.
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        onnx.save(perceptron_graph(layers), os.fspath(staging / "policy.onnx"))
        volatility = write_forecaster(staging)
        manifest = {
            "format": FORMAT,
            **kernel_contract(),
            "decode": DECODE,
            "horizons_minutes": list(HORIZONS_MINUTES),
            "activation": "tanh",
            "shapes": {
                "observation": int(layers[0][0].shape[1]),
                "hidden": [int(w.shape[0]) for w, _ in layers[:-1]],
                "logits": int(layers[-1][0].shape[0]),
            },
            "opset": OPSET,
            "sha256": {path.name: sha256(path) for path in sorted(staging.iterdir())},
            "commit": git_commit(),
            "threads": threads,
            "versions": {name: version(name) for name in ("numpy", "numba", "onnx", "torch")},
            "python": platform.python_version(),
            "volatility": volatility,
            "config": config,
            "test_vectors": record_test_vectors(layers, observations, masks),
        }
        text = json.dumps(manifest, indent=1, allow_nan=False)
        (staging / "manifest.json").write_text(text + "\n")
        staging.chmod(0o755)
        replace_folder(staging, directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Move the folder `source` to `target`, replacing what was there; both on one file system."""
    if target.exists():
        retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        os.replace(target, retired / target.name)
        os.replace(source, target)
        shutil.rmtree(retired, ignore_errors=True)
    else:
        os.replace(source, target)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git_commit() -> str:
    """Commit of this checkout, `+changed` appended when files differ from it, or `unknown`."""
    root = Path(__file__).resolve().parent.parent

    def ask(*arguments: str) -> str:
        command = ["git", "-C", os.fspath(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + ("+changed" if ask("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
