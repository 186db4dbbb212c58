"""Programs of this checkout as real processes: started, watched, and nothing of them left."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
# A bound for what a test waits for, on a machine with much else to do; nothing takes that long.
PATIENCE_S = 300.0


@contextmanager
def program(
    *arguments: str | Path, cwd: Path, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """`python ARGUMENTS` in a session of its own, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(stream: IO[str] | None, wanted: str) -> str:
    """The next line of a program's output that contains `wanted`; it fails when there is none."""
    assert stream is not None
    seen = []
    while line := stream.readline():
        seen.append(line)
        if wanted in line:
            return line
    raise AssertionError(f"{wanted!r} is not in: {''.join(seen)}")


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what stands on standard error, once the program has ended."""
    _, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, errors


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for an event."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.05)


def processes_of(session: int) -> list[int]:
    """Processes that still run in a session."""
    alive = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.getsid(int(folder.name)) == session:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                alive += [int(folder.name)] if state != "Z" else []
        except (ProcessLookupError, FileNotFoundError):
            continue
    return alive
