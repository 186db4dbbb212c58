"""What became of our transactions, read back from the chain: inclusion, realised profit to the wei,
whether anybody else touched the plan's pools, and the reason when an opportunity was lost.

WETH9's own logs tell what entered and left the executor (Transfer, Deposit, Withdrawal).
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from live.books.book import Attempt
from live.market.chain import SYNC
from live.node.events import PoolLog, Receipt
from live.node.wire import keccak256

TRANSFER = keccak256(b"Transfer(address,address,uint256)")
DEPOSIT = keccak256(b"Deposit(address,uint256)")
WITHDRAWAL = keccak256(b"Withdrawal(address,uint256)")

# Why an opportunity was lost.
LATE = "late"
OUTBID = "outbid"
STALE_STATE = "stale_state"
REVERTED = "reverted"
GAS = "gas"
FILTERED = "filtered"
REASONS = (LATE, OUTBID, STALE_STATE, REVERTED, GAS, FILTERED)


class Verdict(NamedTuple):
    """A mined plan, judged."""

    realised_wei: int
    gas_cost_wei: int
    unchallenged: bool
    reason: str
    """Empty when it succeeded."""
    before: tuple[str, ...]
    """Transactions that touched its pools earlier in the block, in order."""


def realised_wei(receipt: Receipt, weth: bytes, executor: bytes) -> int:
    """Change of the executor's WETH by one transaction."""
    padded = bytes(12) + executor
    total = 0
    for log in receipt.logs:
        if log.address != weth or not log.topics or len(log.data) != 32:
            continue
        amount = int.from_bytes(log.data, "big")
        event, parties = log.topics[0], log.topics[1:]
        if event == TRANSFER and len(parties) == 2:
            total += amount * ((parties[1] == padded) - (parties[0] == padded))
        elif event == DEPOSIT and parties[:1] == (padded,):
            total += amount
        elif event == WITHDRAWAL and parties[:1] == (padded,):
            total -= amount
    return total


def touched_before(
    logs: Iterable[PoolLog], pools: frozenset[bytes], transaction_index: int
) -> tuple[str, ...]:
    """Transactions that changed one of `pools` earlier in the block, in order, each once."""
    seen: dict[str, None] = {}
    for log in sorted(logs, key=lambda log: log.log_index):
        if (
            log.transaction_index < transaction_index
            and log.address in pools
            and log.topics[:1] == (SYNC,)
        ):
            seen.setdefault(log.transaction_hash)
    return tuple(seen)


def judge(
    attempt: Attempt,
    receipt: Receipt,
    parent_hash: str,
    logs: Iterable[PoolLog],
    pool_address: tuple[bytes, ...],
    known_swaps: Container[str],
    weth: bytes,
    executor: bytes,
) -> Verdict:
    """Judge a mined plan.

    `parent_hash` is of the block that included it, `logs` are that block's logs of tracked pools.
    Unchallenged: the block follows the one the plan was computed on, and before the plan exactly
    the assumed transactions touched its pools. Their order is ours to predict: a plan that fails
    because it was another one counts as a failure without excuse. `known_swaps` are hashes of
    pending swaps seen in the pool: a revert behind one of them means that our picture was stale,
    behind anything else that somebody was before us.
    """
    plan = attempt.plan
    assert plan is not None
    gas_cost = receipt.gas_used * receipt.gas_price_wei
    pools = frozenset(pool_address[pool] for pool in attempt.pools)
    before = touched_before(logs, pools, receipt.transaction_index)
    unchallenged = set(before) == set(attempt.targets) and parent_hash == attempt.head_hash
    if receipt.succeeded:
        return Verdict(realised_wei(receipt, weth, executor), gas_cost, unchallenged, "", before)
    if receipt.block_number > plan.block_number:
        reason = LATE
    elif unchallenged:
        reason = REVERTED
    elif all(hash_ in known_swaps for hash_ in before):
        reason = STALE_STATE
    else:
        reason = OUTBID
    return Verdict(0, gas_cost, unchallenged, reason, before)
