"""Compiles the market's kernels in processes of their own while something else keeps this one busy.

A first run spends 100 s of processor time on it; later runs find the result in the cache.
Nothing heavy is imported here, so that the processes can start before anything else does.
"""

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import typeof
from numba.core import event

from agents.progress import NotedReport

LOG = logging.getLogger("mevrl.compilation")
# One process each. They share next to nothing: what two compile at once is compiled twice.
PARTS = ("market", "learning")
SHOWING = "showing"  # what the process of the market compiles in one of its own
POLL_S = 0.1

Compiled = Callable[[NotedReport], None]  # waits for the end of the compilation, with progress

_started: list[subprocess.Popen[bytes]] = []


def start_compiling() -> None:
    """Start the processes, before the imports of a program: both take long.

    They belong to the next `compiled_in_background`, and end with this process, however it ends.
    """
    _started.extend(map(_process_of, PARTS))


def _process_of(part: str, stdout: int | None = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "agents.training.compilation", part],
        cwd=Path(__file__).resolve().parent.parent.parent,
        stdin=subprocess.PIPE,  # nothing is ever sent: its end says that nobody waits
        stdout=stdout,  # a byte per kernel
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@contextmanager
def compiled_in_background() -> Iterator[Compiled]:
    """Start compiling; the value waits for the end and tells how much has been compiled.

    Leaving early stops the processes; so does the end of this one, even a kill.
    """
    if not _started:
        start_compiling()
    processes = list(_started)
    _started.clear()

    def wait(progress: NotedReport) -> None:
        kernels, done = 0, 0
        while done < len(processes):
            done = sum(process.poll() is not None for process in processes)
            kernels += sum(map(_arrived, processes))
            progress(done, len(processes), f"{kernels} kernels compiled")
            time.sleep(POLL_S if done < len(processes) else 0.0)
        for part, process in zip(PARTS, processes, strict=True):
            if process.returncode:  # no end of the training: whoever needs the kernels says why
                LOG.warning(
                    "the kernels of the part %r were not all compiled (exit code %d), the training "
                    "compiles the rest: `python -m agents.training.compilation %s` says why",
                    part,
                    process.returncode,
                    part,
                )

    try:
        for process in processes:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
        yield wait
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _arrived(process: subprocess.Popen[bytes]) -> int:
    """Kernels that a process has compiled since it was asked last."""
    assert process.stdout is not None
    return len(process.stdout.read() or b"")


class _Counted(event.Listener):
    """Sends a byte for every kernel that is compiled rather than found in the cache."""

    def on_start(self, event: event.Event) -> None:
        """Nothing: it counts when it is done."""

    def on_end(self, event: event.Event) -> None:
        """One more."""
        os.write(1, b".")


def _end_with_parent() -> None:
    """Waits for the end of the pipe, which the parent closes or leaves behind when it dies."""
    os.read(0, 1)
    os._exit(1)


def _learn_once() -> None:
    """A step and a gradient, on rows with and without a choice, and a decision as it is served."""
    import numpy as np
    from gymnasium import spaces

    from agents.bidders.baselines import network_bidder
    from agents.learner.compiled import CompiledPerceptron
    from agents.learner.ppo import joint_gradient
    from agents.learner.rollout_buffer import SortedRolloutBuffer
    from kernels.learning.loss import LossWeights
    from kernels.market.action import ACTIONS
    from kernels.market.observation import SIZE
    from kernels.market.tile import LANES
    from models.frozen import Network
    from models.policy.masked import MaskedPolicy

    box, discrete = spaces.Box(-1.0, 1.0, (SIZE,), np.float32), spaces.Discrete(ACTIONS)
    policy = MaskedPolicy(box, discrete, lambda _: 1e-3)
    engine, buffer = CompiledPerceptron(policy), SortedRolloutBuffer(1, box, discrete, n_envs=LANES)
    masks = np.zeros((LANES, ACTIONS), np.bool_)
    masks[:, 0] = masks[::2] = True
    observations, zeros = np.zeros((LANES, SIZE), np.float32), np.zeros(LANES, np.float32)
    actions, values, log_p = engine.act(observations, masks)
    starts = np.zeros(LANES, np.bool_)
    buffer.add(observations, actions.numpy(), zeros, starts, values, log_p, masks)
    joint_gradient(policy)
    for _ in engine.gradients(buffer, None, True, LossWeights(0.2, -1.0, 0.01, 0.5)):
        pass
    layer = np.zeros((ACTIONS, SIZE), np.float32), np.zeros(ACTIONS, np.float32)
    network_bidder(Network((layer,)))(observations, masks)


def _play_once(part: str) -> None:
    """A slot of the market, or for SHOWING the half of it that another process compiles."""
    import numpy as np

    from envs.market import simulator
    from envs.market.config import MarketConfig
    from envs.market.paths import stand_in_paths
    from envs.vector import MarketVectorEnv
    from kernels.market.tile import LANES

    shown = None if part == SHOWING else _process_of(SHOWING, stdout=None)  # they count as one
    env = MarketVectorEnv(LANES, MarketConfig(), stand_in_paths(days=1))
    physics, prices, lanes, step = env.compiled_arguments()
    if part == SHOWING:
        _compile(simulator.present, physics, lanes, step, 0, 1)
        return
    _compile(simulator.finish_slots, physics, prices, lanes, step, 0, 1)
    _compile(simulator.start_anew, physics, prices, lanes, step, 0, True)
    if shown is not None:
        shown.wait()  # whatever it has left undone is compiled here
    env.reset(seed=0)
    env.step(np.zeros(LANES, np.int64))


def _compile(kernel: Any, *arguments: Any) -> None:
    """Compile for such arguments, as other kernels find it, without a call."""
    kernel.inner_form.compile(tuple(map(typeof, arguments)))


def compile_kernels(part: str) -> None:
    """Every kernel that a training needs to play ("market"), or to learn and decide."""
    if part == "learning":
        _learn_once()
    else:
        _play_once(part)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    event.register("numba:compile", _Counted())
    gc.set_threshold(100_000, 20, 100)  # seldom: what is compiled is not garbage
    compile_kernels(sys.argv[1])
