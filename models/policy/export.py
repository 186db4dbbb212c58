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
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from kernels.networks.forward import masked_argmax
from models.frozen import (
    DECODE,
    FORMAT,
    HORIZONS_MINUTES,
    ONNXRUNTIME,
    OPSET,
    Network,
    OnnxNetwork,
    compile_network,
    kernel_contract,
    policy_graph,
    recurrent_contract,
)


def record_test_vectors(
    network: Network | OnnxNetwork,
    observations: NDArray[np.float32],
    masks: NDArray[np.bool_],
    state: NDArray[np.float32],
) -> dict[str, Any]:
    """Inputs that really occurred with the outputs expected of any loader.

    Masks are stored as lists of the allowed actions.
    """
    observations = np.ascontiguousarray(observations, dtype=np.float32)
    logits = compile_network(network).run(observations, state.copy())
    return {
        "observations": observations.tolist(),
        "state": state.tolist() if state.size else [],
        "allowed": [np.flatnonzero(mask).tolist() for mask in masks],
        "logits": logits.tolist(),
        "actions": [int(masked_argmax(row, mask)) for row, mask in zip(logits, masks)],
    }


def write_policy(
    directory: Path,
    network: Network | OnnxNetwork,
    observations: NDArray[np.float32],
    masks: NDArray[np.bool_],
    write_forecaster: Callable[[Path], dict[str, Any]],
    config: dict[str, Any],
    threads: dict[str, int],
    state: NDArray[np.float32] | None = None,
) -> None:
    """Write `policy.onnx`, the forecaster's files and `manifest.json` into `directory`, atomically.

    observations [n, D] and masks [n, A], with the state [n, 2, H] they were met in, become the test
    vectors; `write_forecaster` writes `volatility.onnx` into the folder it is given and returns
    what its reader must know (with `fallback_log_variance`); `config` is the whole training
    configuration.
    """
    if state is None:
        state = compile_network(network).new_state(len(observations))
    other = isinstance(network, OnnxNetwork)
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        (staging / "policy.onnx").write_bytes(graph_bytes(network))
        volatility = write_forecaster(staging)
        manifest = {
            "format": FORMAT,
            **kernel_contract(),
            "decode": DECODE,
            "horizons_minutes": list(HORIZONS_MINUTES),
            **({"runtime": ONNXRUNTIME} if other else {"activation": "tanh"}),
            "shapes": network.shapes(),
            "recurrent": recurrent_contract(network),
            "opset": opset_of(network),
            "sha256": {path.name: sha256(path) for path in sorted(staging.iterdir())},
            "commit": git_commit(),
            "threads": threads,
            "versions": {name: version(name) for name in ("numpy", "numba", "onnx", "torch")},
            "python": platform.python_version(),
            "volatility": volatility,
            "config": config,
            "test_vectors": record_test_vectors(network, observations, masks, state),
        }
        text = json.dumps(manifest, indent=1, allow_nan=False)
        (staging / "manifest.json").write_text(text + "\n")
        staging.chmod(0o755)
        replace_folder(staging, directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def graph_bytes(network: Network | OnnxNetwork) -> bytes:
    """The file policy.onnx of a network."""
    if isinstance(network, OnnxNetwork):
        return network.content
    return policy_graph(network).SerializeToString()


def opset_of(network: Network | OnnxNetwork) -> int:
    """Version of the operators of its graph."""
    if not isinstance(network, OnnxNetwork):
        return OPSET
    return max(int(opset.version) for opset in onnx.load_from_string(network.content).opset_import)


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
    root = Path(__file__).resolve().parent.parent.parent

    def ask(*arguments: str) -> str:
        command = ["git", "-C", os.fspath(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + ("+changed" if ask("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
