"""The folder of a training run: made, continued and published without ever being half there."""

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from agents.config import ConfigError, TrainConfig, config_to_dict
from agents.run_state import UNFINISHED
from history.files import write_atomically

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_text(path: Path, text: str) -> None:
    """Write a file of a run; an interrupted run continues from it."""
    write_atomically(path, text, durable=True)


def create_run(config: TrainConfig) -> Path:
    """Make the run's folder with its configuration; ConfigError when the name cannot be used."""
    name = config.run.name or time.strftime("%Y%m%d-%H%M%S")
    if not _NAME.fullmatch(name) or name == "latest":
        raise ConfigError(f"run.name {name!r}: use letters, digits, dots, dashes, underscores")
    run = Path(config.run.folder) / name
    try:
        run.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(
            f"run.name {name!r}: {run} exists; choose another name or use --resume {run}"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"run.folder {config.run.folder!r}: {error.strerror}; give a folder that can be written"
        ) from None
    write_text(run / UNFINISHED, f"Continue: python train.py --resume {run}\n")
    for folder in ("tb", "checkpoints", "figures"):
        (run / folder).mkdir()
    write_config(run, config_to_dict(config))
    return run


def write_config(run: Path, values: dict[str, Any]) -> None:
    """Write config.yaml of a run."""
    write_text(run / "config.yaml", yaml.safe_dump(values, sort_keys=False))


def discard_unfinished(run: Path | None) -> None:
    """Remove a run that failed before anything in it was worth continuing."""
    if run is not None and not any((run / "checkpoints").glob("*")):
        shutil.rmtree(run, ignore_errors=True)


def publish(run: Path) -> None:
    """The run is finished: point the link `latest` beside it at it, in one step."""
    (run / UNFINISHED).unlink(missing_ok=True)
    temporary = run.parent / f".latest-{os.getpid()}"
    with suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(run.name)
    os.replace(temporary, run.parent / "latest")
