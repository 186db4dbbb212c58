"""The one public name: what `import mevrl` gives and costs, its commands, and how it installs."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mevrl
from mevrl.__main__ import main
from mevrl.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "ray", "numba", "scipy", "matplotlib", "stable_baselines3", "polars")


def python(code: str) -> str:
    """What a fresh interpreter outside the checkout prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_is_light_and_registers_the_environment() -> None:
    code = (
        "import sys, mevrl, gymnasium; gymnasium.spec('mevrl/Market-v0'); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert python(code) == "[]"


def test_every_name_is_handed_on_and_no_other() -> None:
    assert len(mevrl.__all__) <= 15
    assert dir(mevrl) == sorted(mevrl.__all__)
    for name in mevrl.__all__:
        assert getattr(mevrl, name) is not None
    with pytest.raises(AttributeError, match="Market-v1"):
        mevrl.__getattr__("Market-v1")


def test_the_version_is_that_of_the_checkout() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert mevrl.__version__ == project["version"]
    assert project["scripts"] == {"mevrl": "mevrl.__main__:main"}


def test_gymnasium_makes_it_without_an_import_line() -> None:
    code = (
        "import gymnasium; "
        "print(gymnasium.make('mevrl:mevrl/Market-v0').unwrapped.__class__.__name__, "
        "gymnasium.make_vec('mevrl:mevrl/Market-v0', num_envs=2).__class__.__name__)"
    )
    assert python(code) == "Searcher MarketVectorEnv"


def test_every_command_leads_to_something_that_runs() -> None:
    for name, command in COMMANDS.items():
        if command.target.endswith(".py"):
            assert (ROOT / command.target).is_file(), name
            continue
        found = importlib.util.find_spec(command.target)
        assert found is not None, name
        if found.submodule_search_locations:
            found = importlib.util.find_spec(f"{command.target}.__main__")
        assert found is not None, name
        assert found.origin is not None
        assert '__name__ == "__main__"' in Path(found.origin).read_text(), name


def test_the_command_line_names_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mevrl {mevrl.__version__}\n"
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", listed, re.MULTILINE) for name in COMMANDS)
    assert main(["trian"]) == 2
    assert "no command 'trian'" in capsys.readouterr().err


def test_a_command_gets_its_arguments_and_gives_its_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = list(sys.argv)
    missing = str(tmp_path / "pool.json")
    assert main(["replay", "--pool", missing, "--events", missing]) == 2
    assert missing in capsys.readouterr().err
    assert main(["train", "--ppo.nothing", "1"]) == 2
    assert "nothing" in capsys.readouterr().err
    assert sys.argv == before


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed")
def test_an_installation_that_is_not_editable_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "site-packages"
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--target", os.fspath(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, os.fspath(ROOT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "pip install -e ." in done.stderr
    assert "Traceback" not in done.stderr
    assert not target.exists()


def test_the_build_hooks_refuse_what_is_not_editable() -> None:
    code = """
from mevrl import editable_only
for name in editable_only.__all__:
    if not name.endswith("editable"):
        try:
            getattr(editable_only, name)("folder")
        except SystemExit as refusal:
            print(name, "pip install -e ." in str(refusal))
    else:
        print(name, getattr(editable_only, name).__module__)
"""
    # Not with warnings as errors: setuptools itself imports distutils.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    said = dict(line.split() for line in done.stdout.splitlines())
    editable = {name for name in said if name.endswith("editable")}
    assert len(editable) == 3
    assert {said[name] for name in editable} == {"setuptools.build_meta"}
    assert len(said) == 8
    assert {said[name] for name in said if name not in editable} == {"True"}
