"""What the node told us, as immutable values. Amounts are wei, addresses are 20 raw bytes, hashes
the node's own lower-case text (they are only compared and sent back)."""

from __future__ import annotations

from typing import NamedTuple


class Head(NamedTuple):
    """A block header from `newHeads`, or the start-up block."""

    number: int
    hash: str
    parent_hash: str
    timestamp_s: int
    base_fee_wei: int
    gas_used: int
    gas_limit: int
    received_ns: int


class PendingTransaction(NamedTuple):
    """One full transaction that waits for inclusion; `to` is None when it creates a contract."""

    hash: str
    sender: bytes
    to: bytes | None
    nonce: int
    value_wei: int
    gas: int
    max_fee_wei: int
    max_priority_fee_wei: int
    calldata: bytes
    received_ns: int


class PoolLog(NamedTuple):
    """One log of a watched contract; `removed` when its block left the chain."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: str
    transaction_hash: str
    transaction_index: int
    log_index: int
    removed: bool
    received_ns: int


class Receipt(NamedTuple):
    """What became of one of our transactions."""

    transaction_hash: str
    block_number: int
    block_hash: str
    transaction_index: int
    succeeded: bool
    gas_used: int
    gas_price_wei: int
    logs: tuple[PoolLog, ...]
