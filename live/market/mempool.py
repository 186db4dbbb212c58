"""Pending swaps on tracked pools, in the order in which a block would include them: priority fee
descending, ties by arrival, the nonces of one sender in order.

Swaps live in rows of flat arrays, so that an evaluation hands the kernels an index array.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.calldata.rows import MAX_HOPS
from live.market.decode import Decoded, RouterSwap
from live.node.events import PendingTransaction

CAPACITY = 4096
MASK64 = (1 << 64) - 1
# A transaction that no block took for so long is forgotten: nodes drop it too (3 hours at geth).
MAX_AGE_BLOCKS = 900
KEPT_MINED = 16_384


class SwapTable(NamedTuple):
    """Rows of pending swaps: amounts uint64[n, 2], hops [n, MAX_HOPS], counts and flags [n]."""

    amount: np.ndarray
    limit: np.ndarray
    exact_out: np.ndarray
    hops: np.ndarray
    pool: np.ndarray
    zero_for_one: np.ndarray


class Pending(NamedTuple):
    """One transaction that touches tracked pools."""

    transaction: PendingTransaction
    decoded: Decoded
    pools: frozenset[int]
    row: int
    """Row in the table; -1 when its effect is unclear."""
    arrival: int
    first_block: int
    """The block that was being built when it arrived."""


def new_table(rows: int) -> SwapTable:
    """An empty table of `rows` rows."""
    return SwapTable(
        amount=np.zeros((rows, 2), np.uint64),
        limit=np.zeros((rows, 2), np.uint64),
        exact_out=np.zeros(rows, np.int64),
        hops=np.zeros(rows, np.int64),
        pool=np.zeros((rows, MAX_HOPS), np.int64),
        zero_for_one=np.zeros((rows, MAX_HOPS), np.int64),
    )


def write_swap(table: SwapTable, row: int, swap: RouterSwap) -> None:
    """Put one swap into a row."""
    table.amount[row] = swap.amount & MASK64, swap.amount >> 64
    table.limit[row] = swap.limit & MASK64, swap.limit >> 64
    table.exact_out[row] = swap.exact_out
    table.hops[row] = len(swap.hops)
    for hop, (pool, zero_for_one) in enumerate(swap.hops):
        table.pool[row, hop] = pool
        table.zero_for_one[row, hop] = zero_for_one


def effective_tip_wei(transaction: PendingTransaction, base_fee_wei: int) -> int:
    """Tip per gas at this base fee; negative when the block cannot include it."""
    return min(transaction.max_priority_fee_wei, transaction.max_fee_wei - base_fee_wei)


class Mempool:
    """The pending transactions that matter, by hash; at most CAPACITY of them."""

    def __init__(self) -> None:
        self.table = new_table(CAPACITY)
        self.dropped = 0
        self._by_hash: dict[str, Pending] = {}
        self._by_nonce: dict[tuple[bytes, int], str] = {}
        self._free = list(range(CAPACITY - 1, -1, -1))
        self._arrivals = 0
        # an announcement may come after the block: what was mined must not come back
        self._mined: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._by_hash)

    def add(self, transaction: PendingTransaction, decoded: Decoded, block: int) -> bool:
        """Keep a transaction seen while `block` was being built; whether anything changed.

        False when it is known, already mined, or the pool is full. A transaction with the sender
        and nonce of a known one replaces it.
        """
        if transaction.hash in self._by_hash or transaction.hash in self._mined:
            return False
        taken = (transaction.sender, transaction.nonce) in self._by_nonce
        if taken and not self.replace_untracked(transaction):
            return False
        if not self._free:
            self.dropped += 1
            return False
        own = frozenset(decoded.unclear)
        row = -1
        if decoded.swap is not None:
            row = self._free.pop()
            write_swap(self.table, row, decoded.swap)
            own = frozenset(pool for pool, _ in decoded.swap.hops)
        self._arrivals += 1
        self._by_hash[transaction.hash] = Pending(
            transaction, decoded, own, row, self._arrivals, block
        )
        self._by_nonce[transaction.sender, transaction.nonce] = transaction.hash
        return True

    def replace_untracked(self, transaction: PendingTransaction) -> bool:
        """A transaction without tracked swaps may still replace one: whether it does."""
        known = self._by_nonce.get((transaction.sender, transaction.nonce))
        if known is None or known == transaction.hash:
            return False
        if transaction.max_fee_wei < self._by_hash[known].transaction.max_fee_wei:
            return False  # a node would refuse it
        self._remove(known)
        return True

    def on_block(self, number: int, hashes: tuple[str, ...]) -> None:
        """Forget what block `number` included, and what nobody included for too long."""
        for hash_ in hashes:
            self._mined[hash_] = None
            if hash_ in self._by_hash:
                self._remove(hash_)
        while len(self._mined) > KEPT_MINED:
            del self._mined[next(iter(self._mined))]
        stale = [
            hash_
            for hash_, pending in self._by_hash.items()
            if number - pending.first_block > MAX_AGE_BLOCKS
        ]
        for hash_ in stale:
            self._remove(hash_)

    def forget_mined(self) -> None:
        """Blocks have left the chain: what they included may be announced again."""
        self._mined.clear()

    def clear(self) -> None:
        """Forget everything, after a loss of the connection or of a part of the chain."""
        self._mined.clear()
        for hash_ in list(self._by_hash):
            self._remove(hash_)

    def _remove(self, hash_: str) -> None:
        pending = self._by_hash.pop(hash_)
        key = (pending.transaction.sender, pending.transaction.nonce)
        if self._by_nonce.get(key) == hash_:
            del self._by_nonce[key]
        if pending.row >= 0:
            self._free.append(pending.row)

    def inclusion_order(
        self, base_fee_wei: int, above_tip_wei: int, block_time_s: int
    ) -> list[Pending]:
        """Those that the next block can include before a transaction that tips `above_tip_wei`.

        A swap whose deadline passes before `block_time_s` reverts, so it is left out.
        """
        ranked = [
            (-tip, pending.arrival, pending)
            for pending in self._by_hash.values()
            if (tip := effective_tip_wei(pending.transaction, base_fee_wei)) > above_tip_wei
            and (pending.decoded.swap is None or pending.decoded.swap.deadline_s >= block_time_s)
        ]
        ranked.sort()
        order = [pending for _, _, pending in ranked]
        senders = [pending.transaction.sender for pending in order]
        if len(set(senders)) == len(senders):
            return order
        return _by_nonces(order)


def _by_nonces(order: list[Pending]) -> list[Pending]:
    """Let no transaction stand before one of the same sender with a lower nonce.

    As builders do: of each sender only the lowest nonce competes, the next one then takes its turn
    with its own tip.
    """
    waiting: dict[bytes, list[Pending]] = {}
    for pending in order:
        waiting.setdefault(pending.transaction.sender, []).append(pending)
    for queue in waiting.values():
        queue.sort(key=lambda pending: -pending.transaction.nonce)
    rank = {pending.transaction.hash: place for place, pending in enumerate(order)}
    result = []
    while waiting:
        sender = min(waiting, key=lambda name: rank[waiting[name][-1].transaction.hash])
        queue = waiting[sender]
        result.append(queue.pop())
        if not queue:
            del waiting[sender]
    return result
