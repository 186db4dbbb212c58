"""Compiles the market's kernels in processes of their own while something else keeps this one busy.

A first run spends a minute of processor time on it; later runs find the result in Numba's cache.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from gymnasium import spaces
from numba.core import event

from agents.bidders.baselines import network_bidder
from agents.learner.compiled import CompiledPerceptron
from agents.learner.ppo import joint_gradient
from agents.learner.rollout_buffer import SortedRolloutBuffer
from agents.progress import NotedReport
from envs.market.config import MarketConfig
from envs.market.paths import stand_in_paths
from envs.vector import MarketVectorEnv
from kernels.learning.loss import LossWeights
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from kernels.market.tile import LANES
from models.frozen import Network
from models.policy.masked import MaskedPolicy

# One process each: what is compiled by one, the others find.
PARTS = ("decisions", "slots", "learning")
POLL_S = 0.1


@contextmanager
def compiled_in_background() -> Iterator[Callable[[NotedReport], None]]:
    """Start compiling; the value waits for the end and tells how much has been compiled.

    Leaving early stops the processes; so does the end of this one, even a kill.
    """
    root = Path(__file__).resolve().parent.parent.parent
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "agents.training.compilation", part],
            cwd=root,
            stdin=subprocess.PIPE,  # nothing is ever sent: its end says that nobody waits
            stdout=subprocess.PIPE,  # a byte per kernel
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for part in PARTS
    ]

    def wait(progress: NotedReport) -> None:
        # A failure is not an error here: whoever needs the kernels compiles them and says why.
        kernels, done = 0, 0
        while done < len(processes):
            done = sum(process.poll() is not None for process in processes)
            kernels += sum(map(_arrived, processes))
            progress(done, len(processes), f"{kernels} kernels compiled")
            time.sleep(POLL_S if done < len(processes) else 0.0)

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
    """A step and a gradient, on rows with and without a choice."""
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


def compile_kernels(part: str) -> None:
    """Show one decision and evaluate a policy, play one slot, or learn once: every kernel that
    they need."""
    if part == "learning":
        _learn_once()
        return
    env = MarketVectorEnv(LANES, MarketConfig(), stand_in_paths(days=1))
    if part == "decisions":
        env.compile_decision()
        observations, masks = np.zeros((LANES, SIZE), np.float32), env.action_masks()
        layer = np.zeros((ACTIONS, SIZE), np.float32), np.zeros(ACTIONS, np.float32)
        network_bidder(Network((layer,)))(observations, masks)
    else:
        env.reset(seed=0)
        env.step(np.zeros(LANES, np.int64))


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    event.register("numba:compile", _Counted())
    compile_kernels(sys.argv[1])
