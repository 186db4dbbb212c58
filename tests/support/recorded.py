"""Where the recorded data is; tests that need it skip with the reason when it is not there."""

import os
from pathlib import Path

import pytest


def case_folder(name: str) -> Path:
    """The folder `name` of the cases beside the data folder (../cases/data), or skip."""
    folder = os.environ.get("MEVRL_DATA", "")
    path = Path(folder).resolve().parent / "cases" / "data" / name
    if not folder or not path.is_dir():
        pytest.skip(f"no ../cases/data/{name} beside MEVRL_DATA: bar files of that folder needed")
    return path


def data_file(name: str) -> Path:
    """The file `name` of the data folder, or skip."""
    folder = os.environ.get("MEVRL_DATA", "")
    if not folder:
        pytest.skip("MEVRL_DATA is not set: recorded data is needed")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{path} is not there: recorded data is needed")
    return path
