"""Runs a command that must not outlive its parent: `guard.py --parent PID ... -- COMMAND`.
A node left behind by a killed program would hold a port and memory for ever, and a killed program
cannot clean up after itself. Standard library only, and run as a file: it starts in 50 ms."""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

POLL_S = 0.2
GRACE_S = 2.0  # between asking to end and killing
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def guarded(command: list[str], lifetime_s: float, folder: str) -> list[str]:
    """The command line that runs `command` for at most `lifetime_s` seconds or until this process
    dies, and then deletes `folder`, the command's own."""
    own = [sys.executable, "-P", __file__, "--parent", str(os.getpid())]
    return [*own, "--lifetime", str(lifetime_s), "--folder", folder, "--", *command]


def exit_with_parent(parent: int) -> None:
    """End this process (from a thread) within POLL_S of the death of process `parent`."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(0)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a child to end, kill it after GRACE_S, and collect it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _die_with_guard() -> None:
    # Only Linux has it; elsewhere a guard killed by SIGKILL leaves the command to its lifetime.
    # The signal follows the thread that forked: here the guard's only one.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> int:
    """Run the command; return its exit code, or 0 when the guard ended it."""
    parser = argparse.ArgumentParser(prog="guard.py", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="process not to outlive")
    parser.add_argument("--lifetime", type=float, required=True, help="seconds, at most")
    parser.add_argument("--folder", required=True, help="deleted when the command has ended")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("no command after --")
    signal.signal(signal.SIGTERM, _end)
    ends_at = time.monotonic() + arguments.lifetime
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_guard)
    try:
        while os.getppid() == arguments.parent and time.monotonic() < ends_at:
            try:
                return process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
        return 0
    finally:
        stop(process)
        shutil.rmtree(arguments.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
