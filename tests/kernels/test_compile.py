"""The compile cache: fast when nothing changed, never stale, and harmless when it cannot exist."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernels import compile_cache
from tests.support.programs import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
MACHINERY = ("compile_cache.py", "kernel_files.py", "kernel_forms.py")  # that compile.py imports

CALLEE = """
from kernels.compile import kernel

@kernel
def fee(amount):
    return amount * {fee_pips} // 1000000
"""
CALLER = """
from kernels.compile import kernel
from kernels.callee import fee

@kernel
def after_fee(amount):
    return amount - fee(amount)
"""
PROGRAM = """
from kernels.caller import after_fee
print(after_fee(1000000), sum(after_fee.stats.cache_hits.values()))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package that uses the real cache mechanism: `kernels` with a caller and a callee."""
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    for name in (
        "__init__.py",
        "compile.py",
        "compile_cache.py",
        "kernel_files.py",
        "kernel_forms.py",
    ):
        shutil.copy(ROOT / "kernels" / name, kernels / name)
    (kernels / "callee.py").write_text(CALLEE.format(fee_pips=3000))
    (kernels / "caller.py").write_text(CALLER)
    return tmp_path


def run(package: Path, program: str = PROGRAM, **environment: str) -> list[str]:
    """Run `program` in a new process inside the package and return the words it prints."""
    environment = {"NUMBA_CACHE_DIR": str(package / "cache"), **environment}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=package,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.split()


def test_edited_callee_in_another_file_changes_the_caller(package: Path) -> None:
    assert run(package) == ["997000", "0"]
    assert run(package) == ["997000", "1"], "unchanged sources must load from the cache"
    (package / "kernels" / "callee.py").write_text(CALLEE.format(fee_pips=500))
    assert run(package) == ["999500", "0"]


def test_a_second_clone_starts_warm(package: Path, tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run(package, **cache) == ["997000", "0"]
    clone = tmp_path / "elsewhere" / "clone"
    shutil.copytree(package / "kernels", clone / "kernels")
    for file in (clone / "kernels").glob("*.py"):
        os.utime(file, (0.0, 0.0))
    assert run(clone, **cache) == ["997000", "1"]


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "foreign", "folder"])
def test_a_damaged_cache_is_rebuilt(package: Path, suffix: str, damage: str) -> None:
    assert run(package) == ["997000", "0"]
    files = list((package / "cache").glob(f"mevrl-*/*.{suffix}"))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        if damage == "flipped":
            content[-len(content) // 3] ^= 0xFF
        file.unlink()
        if damage == "folder":
            file.mkdir()
            continue
        kept = {"truncated": content[: len(content) // 2], "emptied": b"", "foreign": b"not ours"}
        file.write_bytes(kept.get(damage, content))
    assert run(package) == ["997000", "0"]
    assert run(package) == ["997000", "0" if damage == "folder" else "1"]


def test_an_entry_of_another_signature_is_not_executed(package: Path) -> None:
    """Two processes that save at once can give two signatures one file."""
    floats = PROGRAM.replace("1000000)", "1000000.0)")
    assert run(package) == ["997000", "0"]
    assert run(package, floats) == ["997000.0", "0"]
    first, second = sorted((package / "cache").glob("mevrl-*/*after_fee*.nbc"))
    shutil.copy(first, second)
    assert run(package, floats) == ["997000.0", "0"]
    assert run(package) == ["997000", "1"]


def test_one_file_under_two_module_names(package: Path) -> None:
    """Cached code imports its module by name: as a script or in pytest that is another name."""
    other_name = PROGRAM.replace("from kernels.caller", "from caller")
    assert run(package, "import sys; sys.path.append('kernels')" + other_name) == ["997000", "0"]
    assert run(package) == ["997000", "0"]


def test_compile_settings_have_their_own_cache(package: Path) -> None:
    assert run(package) == ["997000", "0"]
    assert run(package, MEVRL_BOUNDSCHECK="1") == ["997000", "0"]


@pytest.mark.parametrize(
    "statement",
    [
        "import kernels.callee",
        "import numpy as np, kernels.callee as fees",
        "from kernels.callee import fee",
        "from kernels import callee",
        "from kernels import constants, callee",
        "from kernels import (\n    callee,\n)",
        "from . import callee",
        "from .callee import fee",
        "def later():\n    from kernels.callee import fee",
        "from kernels.between import fee",
    ],
)
def test_every_form_of_import_is_followed(
    package: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = package / "kernels"
    monkeypatch.setattr(compile_cache, "ROOT", package)
    (kernels / "constants.py").touch()
    (kernels / "between.py").write_text("from kernels.callee import fee")
    (kernels / "caller.py").write_text(f'"""A caller."""\n\nimport os\n{statement}\n')
    assert kernels / "callee.py" in compile_cache.source_files(kernels / "caller.py")


def test_files_that_are_not_imported_do_not_count(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = package / "kernels"
    monkeypatch.setattr(compile_cache, "ROOT", package)
    (kernels / "other.py").write_text(CALLER)
    expected = {kernels / name for name in ("caller.py", "callee.py", "compile.py")}
    found = compile_cache.source_files(kernels / "caller.py")
    assert found == expected | {kernels / name for name in MACHINERY}


def test_unused_caches_are_removed_after_a_week(package: Path) -> None:
    cache = package / "cache"
    old, recent, foreign = (
        cache / f"mevrl-{'0' * 20}",
        cache / f"mevrl-{'1' * 20}",
        cache / "other",
    )
    for folder in (old, recent, foreign):
        folder.mkdir(parents=True)
        (folder / "index").touch()
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    run(package, "import kernels.caller")
    assert not old.exists()
    assert recent.exists()
    assert foreign.exists()


def test_import_works_where_nothing_can_be_written(package: Path) -> None:
    # Files stand where folders are wanted: also root, who may write everywhere, cannot use them.
    for name in ("home", "cache", "tmp"):
        (package / name).touch()
    blocked = {"HOME": str(package / "home"), "XDG_CACHE_HOME": str(package / "home")}
    (package / "writable").mkdir()
    program = "from kernels.compile_cache import cache_parent as c; print(c())" + PROGRAM
    temporary = str(package / "writable")
    folder, *answer = run(package, program, TMPDIR=temporary, **blocked)
    assert folder.startswith(temporary)
    assert answer == ["997000", "0"]
    blocked_too = "import tempfile; tempfile.tempdir = 'tmp'; " + program
    assert run(package, blocked_too, **blocked) == ["None", "997000", "0"]
    without = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['tmp']; " + program
    assert run(package, without, **blocked) == ["None", "997000", "0"]


def test_a_cache_that_cannot_be_used_is_said_once(package: Path) -> None:
    for name in ("home", "cache"):
        (package / name).touch()
    blocked = {"HOME": str(package / "home"), "XDG_CACHE_HOME": str(package / "home")}
    finished = subprocess.run(
        [sys.executable, "-c", "import tempfile; tempfile.tempdir = 'home'; " + PROGRAM],
        cwd=package,
        env=os.environ | blocked | {"NUMBA_CACHE_DIR": str(package / "cache")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert finished.stderr.count("no folder can be written for compiled kernels") == 1
    assert "set NUMBA_CACHE_DIR" in finished.stderr


def test_a_cache_folder_that_everybody_can_write_is_said_not_to_be_used(package: Path) -> None:
    (package / "shared").mkdir()
    (package / "shared").chmod(0o777)
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=package,
        env=os.environ
        | {"NUMBA_CACHE_DIR": str(package / "shared"), "XDG_CACHE_HOME": str(package / "own")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert finished.stdout.split() == ["997000", "0"]
    assert finished.stderr.count(f"NUMBA_CACHE_DIR={package / 'shared'} is not used") == 1
    assert list((package / "shared").iterdir()) == []
    assert list((package / "own").rglob("*.nbi"))


def test_two_processes_that_compile_at_once_leave_one_good_cache(package: Path) -> None:
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=package,
            env=os.environ | {"NUMBA_CACHE_DIR": str(package / "cache")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for one in programs:
        answer, _ = one.communicate(timeout=PATIENCE_S)
        assert one.returncode == 0
        assert answer.split()[0] == "997000"
    assert run(package) == ["997000", "1"]
    assert not list((package / "cache").rglob("*.tmp.*"))


def test_a_kernel_of_the_program_itself_is_kept_apart(package: Path) -> None:
    """`__main__` of one program is not that of another."""
    for name, fee_pips in (("one.py", 3000), ("two.py", 500)):
        (package / name).write_text(CALLEE.format(fee_pips=fee_pips) + "print(fee(1000000), 0)\n")
    for name, fee in (("one.py", "3000"), ("two.py", "500"), ("one.py", "3000")):
        assert (
            run(package, f"import runpy; runpy.run_path({name!r}, run_name='__main__')")[0] == fee
        )


def test_unknown_boundscheck_setting_is_named(package: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", "import kernels.compile"],
        cwd=package,
        env=os.environ | {"MEVRL_BOUNDSCHECK": "yes", "NUMBA_CACHE_DIR": str(package / "cache")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert finished.returncode != 0
    assert "MEVRL_BOUNDSCHECK='yes': expected 0 or 1" in finished.stderr


def test_nothing_compiles_past_the_cache() -> None:
    """A bare njit(cache=True) would keep a stale callee."""
    for path in ROOT.glob("*/**/*.py"):
        folder = path.relative_to(ROOT).parts[0]
        if folder in ("tests", "build") or folder.startswith(".") or path.name == "compile.py":
            continue  # an environment of the user may lie in .venv
        found = re.search(r"\bnjit\b|@(numba\.)?jit\b|\bvectorize\(", path.read_text())
        assert found is None, f"{path}: use the decorators of kernels.compile"
