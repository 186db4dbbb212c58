"""Kernels are compiled in processes beside the training: counted, and ended with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mevrl
from agents.training import compilation
from agents.training.compilation import compiled_in_background
from tests.support.programs import end_of, line_of, processes_of, program, until

# Stands in for the real parts, which take a minute of processor time: compiles three functions.
PART = """
import os, sys, threading
from numba import njit
from numba.core import event
from agents.training.compilation import _Counted, _end_with_parent
threading.Thread(target=_end_with_parent, daemon=True).start()
event.register("numba:compile", _Counted())
for factor in range(3):
    njit(lambda x: x * factor)(1)
"""


def test_parts_and_kernels_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def small(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", PART], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(compilation.subprocess, "Popen", small)
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, note: str = "", /) -> None:
        told.append((done, total, note))

    with compiled_in_background() as compiled:
        compiled(progress)
    parts = len(compilation.PARTS)
    assert told[-1] == (parts, parts, f"{3 * parts} kernels compiled")
    assert told == sorted(told, key=lambda one: one[0]), "it never goes back"
    assert told[0][0] < parts


DRIVER = """
import time
from agents.training.compilation import compiled_in_background
with compiled_in_background():
    print("started", flush=True)
    time.sleep(3600)
"""


def test_a_killed_training_leaves_no_compiler(tmp_path: Path) -> None:
    with program("-c", DRIVER, cwd=tmp_path, NUMBA_CACHE_DIR=os.fspath(tmp_path)) as process:
        line_of(process.stdout, "started")
        assert len(processes_of(process.pid)) > len(compilation.PARTS)  # the market's has one more
        process.kill()
        end_of(process)
    until(lambda: not processes_of(process.pid), "the end of the compilers")


@pytest.mark.parametrize("part", compilation.PARTS)
def test_a_part_compiles_to_its_end(part: str) -> None:
    """A part that ended early once left a network's kernels to every process of a comparison."""
    command = [sys.executable, "-m", "agents.training.compilation", part]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with started as process:
        assert process.wait() == 0


def test_bad_arguments_leave_nothing_compiling() -> None:
    """Inside another program, processes that nobody took were those of its next training."""
    assert mevrl.train(["--trials.seeds", "none"]) == 2
    assert not compilation._started


def test_a_part_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = subprocess.Popen

    def failing(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", "raise SystemExit(3)"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(compilation.subprocess, "Popen", failing)
    with compiled_in_background() as compiled:
        compiled(lambda done, total, note="", /: None)
    for part in compilation.PARTS:
        assert f"agents.training.compilation {part}" in caplog.text
    assert "exit code 3" in caplog.text
