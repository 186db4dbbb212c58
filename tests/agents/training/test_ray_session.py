"""Ray is started with patience, ends in one line when it cannot start, and leaves nothing."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from agents.training import ray_session as sessions
from agents.training.ray_session import RayStartError, ray_session
from tests.support.programs import end_of, line_of, processes_of, program, until


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of its own, with a path that is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)
    monkeypatch.setattr(tempfile, "tempdir", None)


def children() -> list[str]:
    """Processes of which this one is the parent."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended
            found += (task / "children").read_text().split()
    return found


def test_a_session_leaves_no_file_and_no_handler(temporary: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = temporary / f"mevrl-ray-{killed.pid}"
    left.mkdir()
    before = signal.getsignal(signal.SIGTERM)
    with ray_session(1):
        assert signal.getsignal(signal.SIGTERM) is before
        assert [file.name for file in temporary.iterdir()] == [f"mevrl-ray-{os.getpid()}"]
    assert not ray.is_initialized()
    assert list(temporary.iterdir()) == []


def test_ray_that_is_late_is_started_again_with_more_patience(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(sessions.PATIENCE, "0")  # its first process is never there in no time
    monkeypatch.setattr(sessions, "RAY_ATTEMPTS_S", ((0, 30), (0.1, 240)))
    with caplog.at_level(logging.WARNING), ray_session(1):
        assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid()
    assert "Ray did not start" in caplog.text
    assert "once more" in caplog.text


def test_ray_that_does_not_start_ends_in_one_line(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sessions.PATIENCE, "0")
    monkeypatch.setattr(sessions, "RAY_ATTEMPTS_S", ((0, 0), (0.1, 0)))
    before = children()
    wanted = r"Ray did not start .*close other programs"
    with pytest.raises(RayStartError, match=wanted) as raised, ray_session(1):
        pytest.fail("it cannot have started")
    assert "\n" not in str(raised.value)
    assert not ray.is_initialized()
    assert children() == before, "nothing of what it tried remains"


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "RAY_ATTEMPTS_S", ((0, 0),))
    wanted = r"run\.address 127\.0\.0\.1:9: no Ray cluster"
    with pytest.raises(RayStartError, match=wanted), ray_session(1, "127.0.0.1:9"):
        pytest.fail("there is none")


def test_a_long_temporary_path_is_passed_by(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = temporary / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with sessions._ray_folder() as folder:
        assert folder is not None
        assert folder == f"/tmp/mevrl-ray-{os.getpid()}"
        assert Path(folder).is_dir()
    assert not Path(folder).exists()


DRIVER = """
import sys, time
from agents.training.ray_session import ray_session
with ray_session(1):
    print("started", flush=True)
    time.sleep(600)
"""


def test_a_killed_driver_leaves_no_process(temporary: Path) -> None:
    with program("-c", DRIVER, cwd=temporary) as process:
        line_of(process.stdout, "started")
        process.kill()
        end_of(process)
    until(lambda: not processes_of(process.pid), "the end of Ray's processes")
