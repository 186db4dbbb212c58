"""Compiles the market's kernels in a process of its own while something else keeps this one busy.

A first run spends half a minute of one core on it; later runs find the result in Numba's cache.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from agents.baselines import network_bidder
from envs.market import MarketConfig
from envs.paths import stand_in_paths
from envs.vector import MarketVectorEnv
from kernels.action import ACTIONS
from kernels.observation import SIZE
from models.frozen import Network


@contextmanager
def compiled_in_background() -> Iterator[Callable[[], None]]:
    """Start compiling; the value waits for the end. Leaving early stops the process."""
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.compilation"],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        # A failure is not an error here: whoever needs the kernels compiles them and says why.
        yield lambda: _wait(process)
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    process.wait()


def compile_kernels() -> None:
    """Play one slot, so that every kernel of the market and of a policy is in the cache."""
    env = MarketVectorEnv(1, MarketConfig(), stand_in_paths(days=1))
    observations, _ = env.reset(seed=0)
    layer = np.zeros((ACTIONS, SIZE), np.float32), np.zeros(ACTIONS, np.float32)
    env.step(network_bidder(Network((layer,)))(observations, env.action_masks()))


if __name__ == "__main__":
    compile_kernels()
