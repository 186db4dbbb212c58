"""Exact reserves of the tracked pools at the head, kept from Sync logs, with the float mirror that
kernels rank on. Values come in, nothing is asked for here: blocks, logs and contract states are
handed over in order, and a block that leaves the chain is undone.

Events: UniswapV2Pair (Sync, Swap, Mint, Burn) and its ERC-20 part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from live.node.events import Head, PoolLog
from live.node.wire import keccak256
from live.settings.deployment import Deployment

SYNC = keccak256(b"Sync(uint112,uint112)")
KNOWN_EVENTS = frozenset(
    keccak256(signature)
    for signature in (
        b"Sync(uint112,uint112)",
        b"Swap(address,uint256,uint256,uint256,uint256,address)",
        b"Mint(address,uint256,uint256)",
        b"Burn(address,uint256,uint256,address)",
        b"Transfer(address,address,uint256)",
        b"Approval(address,address,uint256)",
    )
)
MAX_RESERVE = (1 << 112) - 1
KEPT_BLOCKS = 64  # deeper reorgs than this are read from the contracts again
MASK64 = (1 << 64) - 1


class Arrival(Enum):
    """How a new head relates to the chain we have."""

    KNOWN = 0
    EXTENDS = 1
    REORG = 2
    GAP = 3


class Block(NamedTuple):
    """A block on our chain and the reserves that it overwrote, by pool."""

    head: Head
    before: dict[int, tuple[int, int]]


class Chain:
    """The tracked pools at the head of the chain.

    `reserves` uint64[2P, 2]: rows 0..P-1 reserve0, then reserve1, limbs least significant first;
    `mirror` float64[2P] in whole tokens; `quarantined` bool[P]: pools that must not be traded.
    """

    def __init__(self, deployment: Deployment) -> None:
        pools = deployment.pools
        self._pool_of = deployment.pool_of
        graph = deployment.graph
        scales = [10 ** int(d) for d in graph.decimals]
        self._scale0 = [scales[t] for t in graph.token0]
        self._scale1 = [scales[t] for t in graph.token1]
        self.integers: list[tuple[int, int]] = [(0, 0)] * pools
        self.reserves = np.zeros((2 * pools, 2), np.uint64)
        self.mirror = np.zeros(2 * pools)
        self.quarantined = np.zeros(pools, np.bool_)
        self._foreign = np.zeros(pools, np.bool_)  # emitted an event that we do not know
        self._blocks: deque[Block] = deque(maxlen=KEPT_BLOCKS)

    @property
    def head(self) -> Head:
        """The newest block whose logs have been applied."""
        return self._blocks[-1].head

    def block_hashes(self) -> list[str]:
        """Hashes of the blocks we remember, oldest first."""
        return [block.head.hash for block in self._blocks]

    def reset(self, head: Head, reserves: Sequence[tuple[int, int]]) -> None:
        """Start over at `head` with the reserves read from the contracts."""
        self._blocks.clear()
        self._blocks.append(Block(head, {}))
        for pool, pair in enumerate(reserves):
            self._set(pool, pair)
            # a pool without liquidity, or a contract that answers nothing, is not tradable
            self.quarantined[pool] = min(pair) == 0 or bool(self._foreign[pool])

    def arrival(self, head: Head) -> Arrival:
        """Classify a head; nothing changes."""
        if not self._blocks:
            return Arrival.GAP
        if head.hash == self.head.hash:
            return Arrival.KNOWN
        if head.parent_hash == self.head.hash:
            return Arrival.EXTENDS if head.number == self.head.number + 1 else Arrival.GAP
        if any(block.head.hash == head.parent_hash for block in self._blocks):
            return Arrival.REORG
        return Arrival.GAP

    def rewind_to(self, block_hash: str) -> list[str]:
        """Undo every block after `block_hash` (one that we remember); hashes of those undone."""
        undone = []
        while self._blocks and self.head.hash != block_hash:
            block = self._blocks.pop()
            for pool, pair in block.before.items():
                self._set(pool, pair)
            undone.append(block.head.hash)
        return undone

    def rewind_before(self, block_hash: str) -> list[str]:
        """Undo the block `block_hash` and all after it; hashes of those undone, newest first."""
        hashes = self.block_hashes()
        if block_hash not in hashes:
            return []
        at = hashes.index(block_hash)
        return self.rewind_to(hashes[at - 1] if at > 0 else "")

    def extend(self, head: Head, logs: Iterable[PoolLog]) -> list[int]:
        """Append `head`, a child of the present one, with its logs; pools with unknown events.

        A pool with an unknown event may have changed in a way we cannot know: it is quarantined for
        good. A Sync of another shape is a ValueError that changes nothing.
        """
        foreign, syncs = [], []
        for log in sorted(logs, key=lambda log: log.log_index):
            pool = self._pool_of.get(log.address)
            if pool is None or log.block_hash != head.hash:
                continue
            if not log.topics or log.topics[0] not in KNOWN_EVENTS:
                foreign.append(pool)
            elif log.topics[0] == SYNC:
                syncs.append((pool, sync_reserves(log)))
        # everything has been read: from here on nothing can fail halfway
        before: dict[int, tuple[int, int]] = {}
        for pool, pair in syncs:
            before.setdefault(pool, self.integers[pool])
            self._set(pool, pair)
        for pool in foreign:
            self._foreign[pool] = self.quarantined[pool] = True
        self._blocks.append(Block(head, before))
        return foreign

    def compare(self, reserves: Sequence[tuple[int, int]]) -> list[int]:
        """Pools whose state differs from the contracts' at the head; they are set right.

        A pool that differed is quarantined until a later head finds it equal.
        """
        wrong = []
        for pool, pair in enumerate(reserves):
            if pair != self.integers[pool]:
                wrong.append(pool)
                self._blocks[-1].before.setdefault(pool, self.integers[pool])
                self._set(pool, pair)
                self.quarantined[pool] = True
            else:
                self.quarantined[pool] = bool(self._foreign[pool]) or min(pair) == 0
        return wrong

    def _set(self, pool: int, pair: tuple[int, int]) -> None:
        """Integers, limbs and mirror change together."""
        pools = len(self.integers)
        self.integers[pool] = pair
        for row, value, scale in (
            (pool, pair[0], self._scale0[pool]),
            (pool + pools, pair[1], self._scale1[pool]),
        ):
            self.reserves[row, 0] = value & MASK64
            self.reserves[row, 1] = value >> 64 & MASK64
            self.mirror[row] = value / scale


def sync_reserves(log: PoolLog) -> tuple[int, int]:
    """Reserves from a Sync log; ValueError when it has another shape."""
    if len(log.data) != 64:
        raise ValueError(f"Sync with {len(log.data)} bytes of data")
    pair = int.from_bytes(log.data[:32], "big"), int.from_bytes(log.data[32:], "big")
    if max(pair) > MAX_RESERVE:
        raise ValueError("Sync with a reserve above 2^112")
    return pair
