"""Ray for the length of a `with` block: started with patience, and nothing of it left behind."""

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import parameter
from ray._private.node import Node

LOG = logging.getLogger("mevrl.training")
PATIENCE = "RAY_gcs_server_port_wait_time_s"  # Ray's own setting, 30 s by default
AGENT_PATIENCE = "RAY_agent_register_timeout_ms"
# Pause before each attempt, and how long Ray then waits for the first of its processes.
RAY_ATTEMPTS_S = ((0, 30), (5, 60), (15, 120), (30, 240))
# Ray adds 64 characters for a socket, whose path may have 107 on Linux and 103 on a Mac.
LONGEST_RAY_FOLDER = 39


class RayStartError(RuntimeError):
    """Ray cannot be started or reached; the message says what to do."""


@contextmanager
def ray_session(cpus: int, address: str = "") -> Iterator[None]:
    """A quiet local Ray for `cpus` processes, or the cluster at `address`, left at the end.

    Inside another session this is that one. Raises RayStartError when Ray does not start, or no
    cluster answers, in several attempts.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.update(
        # Our checkpoints and TensorBoard hold the results; Ctrl-C must reach the driver at once.
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AIR_NEW_OUTPUT="0",
        RAY_TRAIN_V2_ENABLED="0",
    )
    root = Path(__file__).resolve().parent.parent.parent
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    common = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": {**threads, "PYTHONPATH": os.fspath(root)}},
    }
    terminate = signal.getsignal(signal.SIGTERM)
    with _ray_folder() as folder:
        where: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": folder}
        if address:
            where = {"address": address}
        try:
            _start_ray(common | where, address)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)  # Ray's would end us with code 15
            yield
        finally:
            ray.shutdown()


def _start_ray(settings: dict[str, Any], address: str) -> None:
    """ray.init, tried again with more patience: on a loaded machine Ray's processes come late."""
    reason = ""
    for pause_s, patience_s in RAY_ATTEMPTS_S:
        if pause_s:
            LOG.warning("Ray did not start (%s): once more in %.0f s", reason, pause_s)
            time.sleep(pause_s)
            os.environ[PATIENCE] = str(patience_s)
            os.environ[AGENT_PATIENCE] = str(1000 * patience_s)
        try:
            if address:
                _knock(address, patience_s)
            with _ports_given() if pause_s and not address else nullcontext({}) as ports:
                ray.init(**settings, **ports)
            return
        except Exception as error:  # Ray raises a bare Exception when its processes are late
            _end_half_started(error)
            ray.shutdown()
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            late = isinstance(error, ConnectionError | TimeoutError)
            if isinstance(error, ValueError | OSError) and not late:
                break  # it would be the same another time
    if address:
        raise RayStartError(
            f"run.address {address}: no Ray cluster answers there ({reason}): start one, or leave "
            "run.address empty to train on this machine"
        )
    raise RayStartError(
        f"Ray did not start ({reason}): close other programs, end an old Ray with `ray stop`, or "
        f"set TMPDIR to a folder with a short path and free space, now {tempfile.gettempdir()}"
    )


@contextmanager
def _ports_given() -> Iterator[dict[str, Any]]:
    """Ray's node gives its agents 15 s to say their ports, which no setting changes.

    They need more on a machine that is busy. For ports that are named beforehand it does not wait:
    one is a setting of ray.init, which is the value, the others are set here.
    """
    original = parameter.RayParams
    names = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("", 0))) for _ in range(4)]
        export, *ports = [one.getsockname()[1] for one in free]
    parameter.RayParams = partial(original, **dict(zip(names, ports, strict=True)))
    try:
        yield {"_metrics_export_port": export}
    finally:
        parameter.RayParams = original


def _knock(address: str, patience_s: float) -> None:
    """Raises OSError when nobody listens at `address`, which Ray would not say for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), patience_s).close()


def _end_half_started(error: Exception) -> None:
    """Ray forgets the processes of a node that it gave up; the node is known to its traceback."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False, allow_graceful=False)
            return


@contextmanager
def _ray_folder() -> Iterator[str | None]:
    """A folder for the logs and sockets of a local Ray, deleted at the end; None: Ray's own.

    Also deletes those of programs that were killed.
    """
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):
        for old in parent.glob("mevrl-ray-*"):
            owner = old.name.rpartition("-")[2]
            if owner.isdigit() and not _runs(int(owner)):
                shutil.rmtree(old, ignore_errors=True)
        folder = parent / f"mevrl-ray-{os.getpid()}"
        if len(os.fspath(folder)) <= LONGEST_RAY_FOLDER:
            with suppress(OSError):
                folder.mkdir(mode=0o700)
                break
    else:
        yield None
        return
    try:
        yield os.fspath(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True
