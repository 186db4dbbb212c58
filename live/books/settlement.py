"""Closes our books at each head: which attempts were mined, what they earned, what was lost and
why; takes outcomes back when their block leaves the chain, and finds them again after a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from live.books.book import Attempt, Book, Settled
from live.books.journal import Journal, OpenRow, Outcome
from live.books.metrics import Metrics
from live.books.outcomes import LATE, judge, realised_wei
from live.books.plan import plan_from_json
from live.books.risk import LossWindow
from live.node import wire
from live.node.events import PoolLog, Receipt
from live.node.feed import HeadState
from live.node.rpc import Node
from live.settings.deployment import Deployment

LOG = logging.getLogger(__name__)
# Heads after which a used-up nonce without a receipt of ours was somebody else's.
MAX_HEADS_WITHOUT_RECEIPT = 3
KEPT_SETTLED = 256
CRASHED = "crashed"
FOREIGN_NONCE = "foreign_nonce"
DROPPED = "dropped"

Record = Callable[[float, float, bool], None]


class Settlement:
    """Moves attempts from the book to the journal with their outcomes."""

    def __init__(
        self,
        deployment: Deployment,
        book: Book,
        journal: Journal,
        metrics: Metrics,
        losses: LossWindow,
        record: Record,
    ) -> None:
        self._deployment = deployment
        self._book = book
        self._journal = journal
        self._metrics = metrics
        self._losses = losses
        self._record = record
        self.seen_swaps: dict[str, None] = {}

    def on_state(self, state: HeadState) -> None:
        """Settle every nonce that the chain has used up; note the plans whose block has passed."""
        book = self._book
        book.confirmed = state.account_nonce
        for nonce in sorted(book.attempts):
            if nonce < state.account_nonce:
                self._settle_nonce(nonce, state)
        for attempt in book.latest():
            plan = attempt.plan
            if plan is not None and plan.block_number <= state.head.number:
                self._lose(attempt, LATE)
        del book.settled[:-KEPT_SETTLED]

    def _settle_nonce(self, nonce: int, state: HeadState) -> None:
        tries = self._book.attempts[nonce]
        for attempt in tries:
            receipt = state.receipts.get(attempt.tx_hash)
            if receipt is not None and receipt.block_number <= state.head.number:
                break
        else:
            for attempt in tries:
                attempt.heads_without_receipt += 1
            if tries[0].heads_without_receipt > MAX_HEADS_WITHOUT_RECEIPT:
                LOG.error("nonce %d was used by a transaction that is not ours", nonce)
                for attempt in tries:
                    self._journal.settle(attempt.tx_hash, Outcome("lost", FOREIGN_NONCE))
                del self._book.attempts[nonce]
            return
        del self._book.attempts[nonce]
        for other in tries:
            if other is not attempt:
                self._journal.settle(other.tx_hash, Outcome("replaced"))
        self._settle(attempt, receipt, state)

    def _settle(self, attempt: Attempt, receipt: Receipt, state: HeadState) -> None:
        gas_cost = receipt.gas_used * receipt.gas_price_wei
        if attempt.plan is None:
            outcome = Outcome("cancelled", "", receipt.block_number, receipt.block_hash, gas_cost)
            self._close(attempt, outcome, succeeded=False)
            return
        here = receipt.block_hash == state.head.hash
        logs: list[PoolLog] = state.logs if here else []
        verdict = judge(
            attempt,
            receipt,
            state.head.parent_hash if here else "",
            logs,
            self._deployment.pool_address,
            self.seen_swaps,
            self._deployment.weth,
            self._deployment.executor,
        )
        expected = attempt.plan.executor_profit_wei
        if verdict.unchallenged and verdict.realised_wei != expected:
            self._metrics.unchallenged_violations += 1
            LOG.error(
                "plan %s realised %d wei, expected %d, and nobody else was in its pools; "
                "assumed before it: %s; found: %s",
                *(attempt.tx_hash, verdict.realised_wei, expected),
                *(attempt.targets, verdict.before),
            )
        if verdict.reason:
            self._lose(attempt, verdict.reason)
        else:
            self._record(attempt.value_eth, attempt.fraction, True)
        outcome = Outcome(
            "failed" if verdict.reason else "included",
            verdict.reason,
            receipt.block_number,
            receipt.block_hash,
            gas_cost,
            verdict.realised_wei,
            verdict.unchallenged,
        )
        self._close(attempt, outcome, succeeded=not verdict.reason)

    def _close(self, attempt: Attempt, outcome: Outcome, succeeded: bool) -> None:
        settled = Settled(
            attempt,
            outcome.block_hash or "",
            succeeded,
            outcome.realised_wei,
            outcome.gas_cost_wei,
            outcome.unchallenged,
        )
        self._count(settled, 1)
        self._book.settled.append(settled)
        self._losses.add(outcome.gas_cost_wei - outcome.realised_wei)
        self._journal.settle(attempt.tx_hash, outcome)

    def _count(self, settled: Settled, sign: int) -> None:
        metrics = self._metrics
        metrics.gas_spent_wei += sign * settled.gas_cost_wei
        metrics.realised_profit_wei += sign * settled.realised_wei
        plan = settled.attempt.plan
        if plan is None:
            return
        metrics.expected_profit_wei += sign * plan.executor_profit_wei
        metrics.unchallenged += sign * settled.unchallenged
        if settled.succeeded:
            metrics.included += sign
            metrics.bids_paid_wei += sign * plan.bid_wei
        else:
            metrics.failed += sign

    def _lose(self, attempt: Attempt, reason: str) -> None:
        if attempt.counted_lost:
            return
        attempt.counted_lost = True
        self._metrics.lost_by_reason[reason] += 1
        self._record(attempt.value_eth, attempt.fraction, False)

    def on_blocks_undone(self, hashes: list[str]) -> None:
        """Take back what was mined in blocks that left the chain."""
        gone = [settled for settled in self._book.settled if settled.block_hash in hashes]
        for settled in gone:
            self._book.settled.remove(settled)
            self._count(settled, -1)
            self._journal.reopen(settled.attempt.tx_hash)
            self._book.attempts.setdefault(settled.attempt.nonce, []).insert(0, settled.attempt)

    async def recover(self, node: Node) -> int:
        """Give the journal's open transactions their outcome; those still waiting go to the book.

        Called before anything is sent. Returns how many rows were open.
        """
        rows = self._journal.open_rows()
        for row in rows:
            raw = await node.request("eth_getTransactionReceipt", row.tx_hash)
            receipt = wire.read_receipt(raw, 0)
            if receipt is not None:
                self._settle_recovered(row, receipt)
            elif row.nonce < self._book.confirmed:
                self._journal.settle(row.tx_hash, Outcome("replaced"))
            elif bytes(await node.request("eth_getTransactionByHash", row.tx_hash)) == b"null":
                # it was journalled and the node never got it, or dropped it
                self._journal.settle(row.tx_hash, Outcome("lost", CRASHED))
            else:
                self._book.add(_attempt(row, self._deployment))
        self._metrics.recovered = len(rows)
        return len(rows)

    def _settle_recovered(self, row: OpenRow, receipt: Receipt) -> None:
        realised = realised_wei(receipt, self._deployment.weth, self._deployment.executor)
        status = "cancelled" if row.kind == "cancel" else "included"
        outcome = Outcome(
            status if receipt.succeeded else "failed",
            "" if receipt.succeeded else CRASHED,
            receipt.block_number,
            receipt.block_hash,
            receipt.gas_used * receipt.gas_price_wei,
            realised if receipt.succeeded else 0,
        )
        self._losses.add(outcome.gas_cost_wei - outcome.realised_wei)
        self._journal.settle(row.tx_hash, outcome)

    async def finish(self, node: Node) -> None:
        """At the end: what the node has forgotten is lost; what still waits stays open."""
        for hash_ in self._book.hashes():
            if bytes(await node.request("eth_getTransactionByHash", hash_)) == b"null":
                self._journal.settle(hash_, Outcome("lost", DROPPED))


def _attempt(row: OpenRow, deployment: Deployment) -> Attempt:
    """A transaction of an earlier run that still waits."""
    plan = plan_from_json(row.plan) if row.plan else None
    hops = plan.hops if plan is not None else ()
    return Attempt(
        tx_hash=row.tx_hash,
        nonce=row.nonce,
        plan=plan,
        pools=frozenset(deployment.pool_of.get(hop.pool, -1) for hop in hops),
        targets=(),
        state=b"",
        head_hash="",  # what it assumed is not known any more: never unchallenged
        max_fee_wei=row.max_fee_wei,
        max_priority_fee_wei=row.max_priority_fee_wei,
    )
