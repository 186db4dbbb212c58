"""Jobs in processes: what all share, what follows on a result, and that no process is left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.processes import as_finished
from tests.support.programs import PATIENCE_S, ROOT, until

# The program itself cannot be imported twice: its processes do not try.
PROGRAM = """
import signal
import sys
if __name__ == "__main__":
    # A shell that starts pytest in the background has it ignore Ctrl-C, and so its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from agents.processes import as_finished
    from job import note_and_sleep
    list(as_finished(note_and_sleep, {k: (sys.argv[1],) for k in ("one", "two")}, 2))
else:
    raise RuntimeError("imported")
"""
JOB = """
import os, time
def note_and_sleep(file):
    with open(file, "a") as noted:
        noted.write(f"{os.getpid()} ")
    time.sleep(3600.0)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_share_arguments_and_follow_on_results(workers: int) -> None:
    power: Callable[..., int] = pow
    jobs = {"one": (2,), "two": (3,)}

    def then(name: str, result: int) -> dict[str, tuple[int, ...]]:
        return {"four": (4,), "five": (5,)} if name == "two" else {}

    found = list(as_finished(power, jobs, workers, (2,), then))
    assert dict(found) == {"one": 4, "two": 8, "four": 16, "five": 32}
    assert len(found) == 4
    names = [name for name, _ in found]
    assert names.index("two") < min(names.index("four"), names.index("five"))


def test_who_stops_listening_does_not_wait() -> None:
    for name, _ in as_finished(time.sleep, {"short": (0.0,), "long": (3600.0,)}, 2):
        assert name == "short"
        break
    until(lambda: not multiprocessing.active_children(), "the end of the processes")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_program(how: signal.Signals, tmp_path: Path) -> None:
    """Not even one whose program was killed and could not tell it."""
    noted = tmp_path / "processes"
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "job.py").write_text(JOB)
    program = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", noted],
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    until(lambda: noted.exists() and len(noted.read_text().split()) == 2, "two processes")
    processes = [int(line) for line in noted.read_text().split()]
    assert all(map(_runs, processes))
    program.send_signal(how)
    assert program.wait(timeout=PATIENCE_S) != 0
    until(lambda: not any(map(_runs, processes)), "the end of the processes")


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("module", ["agents.evaluate.held_out", "agents.training.compilation"])
def test_processes_that_learn_nothing_import_no_library_for_it(module: str) -> None:
    """torch alone takes seconds, in every process of a comparison."""
    slow = ("torch", "stable_baselines3", "ray", "matplotlib", "scipy.stats", "scipy.signal")
    told = f"import sys, {module}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
