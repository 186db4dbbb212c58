"""Nanoseconds per market of each kernel of the environment, looped over tiles in compiled code:
a call from Python costs more than most of them.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.harness import Measurement
from envs.market.bidding import decide_early
from envs.market.block import clear_block, settle_auctions
from envs.market.flow import informed_trades
from envs.market.inclusion import include_unseen, include_visible
from envs.market.mempool import receive, show_pending
from envs.market.paths import RecordedFlow
from envs.market.physics import TICK_INDEX, Physics
from envs.market.rivals import meet_rivals
from envs.vector import MarketVectorEnv
from kernels.compile import lean_kernel
from kernels.market.action import ACTIONS, mask
from kernels.market.amm import overlay
from kernels.market.lending import size_liquidations
from kernels.market.observation import SIZE, encode
from kernels.market.opportunities import find
from kernels.market.sizing import size_cycles
from kernels.market.tile import KEPT, LANES, SAME_HEAD

SEED = 11


class Work(NamedTuple):
    """What the stages read and write beside the tiles, for n tiles."""

    keys: np.ndarray  # uint64[n, LANES]
    actions: np.ndarray  # int64[n, LANES]
    reward: np.ndarray  # float64[n, LANES]
    outcome: np.ndarray  # float64[n, LANES, columns]
    observation: np.ndarray  # float32[n, LANES, SIZE]
    masks: np.ndarray  # bool[n, LANES, ACTIONS]
    recorded: RecordedFlow


@lean_kernel
def _mempool(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        show_pending(physics, tiles[i])


@lean_kernel
def _overlay(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        overlay(physics.cycles, physics.weights, tiles[i])


@lean_kernel
def _size(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        size_cycles(physics.cycles, physics.weights, tiles[i])
        size_liquidations(physics.cycles, physics.weights, tiles[i])


@lean_kernel
def _find(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        find(physics.cycles, physics.weights, tiles[i])


@lean_kernel
def _rivals(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        meet_rivals(physics, tiles[i], work.keys[i])


@lean_kernel
def _encode(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        encode(tiles[i], work.observation[i])


@lean_kernel
def _mask(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        mask(tiles[i], work.masks[i])


@lean_kernel
def _early(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        decide_early(physics, tiles[i], work.actions[i], work.reward[i])


@lean_kernel
def _block(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        include_visible(physics, tiles[i], work.keys[i])
        include_unseen(physics, tiles[i], work.keys[i], True)
        settle_auctions(
            physics, tiles[i], work.keys[i], work.actions[i], work.reward[i], work.outcome[i]
        )
        include_unseen(physics, tiles[i], work.keys[i], False)
        clear_block(physics, tiles[i])


@lean_kernel
def _informed(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        informed_trades(physics, tiles[i], work.keys[i])


@lean_kernel
def _arrivals(physics: Physics, tiles: np.ndarray, work: Work) -> None:
    for i in range(tiles.shape[0]):
        receive(physics, work.recorded, tiles[i], work.keys[i], work.masks[i, 0], True)


Stage = Callable[[Physics, np.ndarray, Work], None]
BY_DECISION: dict[str, Stage] = {
    "mempool": _mempool,
    "overlay": _overlay,
    "size": _size,
    "find": _find,
    "rivals": _rivals,
    "encode": _encode,
    "mask": _mask,
    "early bid": _early,
}
# The latter two on what the block before them left.
BY_BLOCK: dict[str, Stage] = {
    "block": _block,
    "informed traders": _informed,
    "arrivals": _arrivals,
}


def _fastest(
    stage: Stage, before: Stage | None, physics: Physics, states: list[np.ndarray], work: Work
) -> float:
    """Seconds of the fastest call, each on a state that the branches have not learned by heart."""
    seconds = []
    for state in states:
        tiles = state.copy()
        if before is not None:
            before(physics, tiles, work)
        begin = time.perf_counter()
        stage(physics, tiles, work)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def by_stage(env: MarketVectorEnv, actions: list[np.ndarray]) -> list[Measurement]:
    """One measurement per stage, on the states that `actions` lead through.

    As if something had changed in every lane: within a slot about half of them keep what was found.
    """
    physics, ticks, states = env._physics, [], []
    for each in actions:
        env.step(each)
        states.append(env._tiles.copy())
        states[-1][:, [KEPT, SAME_HEAD]] = 0.0
        ticks.append(states[-1][0, physics.world_row + TICK_INDEX, 0] + 1.0)
    last = [
        state for state, tick in zip(states, ticks, strict=True) if tick == physics.ticks_per_slot
    ]
    tiles = len(env._tiles)
    rng = np.random.default_rng(SEED)
    work = Work(
        keys=rng.integers(0, 2**63, (tiles, LANES)).astype(np.uint64),
        actions=rng.integers(0, ACTIONS, (tiles, LANES)),
        reward=np.zeros((tiles, LANES)),
        outcome=np.zeros((tiles, LANES, env._outcome.shape[1])),
        observation=np.zeros((tiles, LANES, SIZE), np.float32),
        masks=np.zeros((tiles, LANES, ACTIONS), np.bool_),
        recorded=env.paths.recorded,
    )
    found = []
    for stages, among, note in (
        (BY_DECISION, states, "per decision"),
        (BY_BLOCK, last, "per block"),
    ):
        for name, stage in stages.items():
            before = _block if stages is BY_BLOCK and stage is not _block else None
            seconds = _fastest(stage, before, physics, among, work)
            each = 1e9 * seconds / (tiles * LANES)
            found.append(Measurement(f"stage: {name}", each, "ns/market", note))
    return found
