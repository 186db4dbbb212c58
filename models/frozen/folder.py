"""The folder of a frozen policy: manifest, hashes, and what they must say to be used here."""

import hashlib
import json
from pathlib import Path
from typing import Any, NoReturn

import onnxruntime

from kernels.market.action import ACTION_TABLE, ACTIONS, BID_PPM
from kernels.market.observation import FIELDS
from kernels.market.tile import HISTORY

FORMAT = 2
DECODE = "argmax of the logits over allowed actions, lowest index on a tie"
HORIZONS_MINUTES = (5, 15, 60)
# `runtime` in the manifest, of the policy and of `volatility`; without it, the kernel.
KERNEL, ONNXRUNTIME = "kernel", "onnxruntime"
FILES = ("policy.onnx", "volatility.onnx")
# Largest difference allowed between two forward passes, relative to logits above 1: float32 sums
# of about 100 terms differ by 1e-6 of their size when the order of addition differs.
TOLERANCE = 1e-5
RETRAIN = "freeze a policy with this version (python train.py) or check out the commit it names"


class PolicyError(ValueError):
    """A frozen policy that must not be used; the message names the file, the value, the remedy."""


def refuse(problem: str, remedy: str) -> NoReturn:
    """Raise the PolicyError that tells the user what to do."""
    raise PolicyError(f"frozen policy refused: {problem}; {remedy}")


def kernel_contract() -> dict[str, Any]:
    """What the kernels of this checkout read and mean: fields, actions, history, as JSON."""
    return {
        "fields": [list(field) for field in FIELDS],
        "actions": {
            "count": ACTIONS,
            "bid_ppm": [int(ppm) for ppm in BID_PPM],
            "table": [list(action) for action in ACTION_TABLE],
        },
        "history_auctions": HISTORY,
    }


def open_folder(directory: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Manifest and files of a policy folder: hashes right, made for the kernels of this version."""
    mark = directory.parent / "UNFINISHED"  # of agents.run_state
    if not directory.is_dir() and mark.is_file():
        raise PolicyError(
            f"policy folder {directory} does not exist: its training is unfinished. "
            f"{mark.read_text().strip()}"
        )
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
        refuse(f"{path} is missing", "copy the whole policy folder")
    except (OSError, ValueError) as error:
        refuse(f"{path} cannot be read: {error}", "copy the policy folder again")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        refuse(f"manifest: format is {found!r}, this version reads {FORMAT}", RETRAIN)
    return manifest


def _read_checked(directory: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """Bytes of a file whose hash the manifest vouches for."""
    hashes = manifest.get("sha256")
    expected = hashes.get(name) if isinstance(hashes, dict) else None
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        refuse(f"{name} cannot be read: {error}", "copy the whole policy folder")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        refuse(
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
            refuse(f"fields[{i}]: the policy reads {their}, this version gives {our}", RETRAIN)
    if len(theirs) != len(ours):
        refuse(f"fields: the policy reads {len(theirs)}, this version gives {len(ours)}", RETRAIN)
    actions = manifest.get("actions")
    if actions != contract["actions"]:
        keys = contract["actions"]
        found = actions if isinstance(actions, dict) else {}
        key = next((k for k in keys if found.get(k) != keys[k]), "actions")
        refuse(
            f"actions.{key}: the policy means {found.get(key)}, this version {keys.get(key)}",
            RETRAIN,
        )
    wanted = {
        "decode": DECODE,
        "horizons_minutes": list(HORIZONS_MINUTES),
        "history_auctions": HISTORY,
    }
    for key, value in wanted.items():
        if manifest.get(key) != value:
            refuse(f"{key}: the policy says {manifest.get(key)!r}, this version {value!r}", RETRAIN)


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _listed(manifest: dict[str, Any], key: str) -> list[Any]:
    value = manifest.get(key)
    if not isinstance(value, list):
        refuse(f"{key} is {type(value).__name__}, expected a list", RETRAIN)
    return value
