"""Subscriptions and the questions asked at each head, turned into events for the engine.

A head becomes usable only with the complete answers for its own hash: logs of the tracked pools,
contract reserves, transaction hashes, our nonce and receipts. Nothing is decided on a state that
is missing a log, and heads are handed on in the order in which they arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import msgspec

from live.node import wire
from live.node.events import Head, PendingTransaction, PoolLog, Receipt
from live.node.rpc import Answer, Node, NodeError
from live.node.state_call import read_state, state_program
from live.settings.deployment import Deployment

LOG = logging.getLogger(__name__)
MAX_QUEUED_HEADS = 16  # so many without an answer: the node is too slow, start over
RETRY_S = 0.05


class HeadState(NamedTuple):
    """Everything the node says about one block."""

    head: Head
    logs: list[PoolLog]
    reserves: list[tuple[int, int]]
    executor_weth_wei: int
    account_nonce: int
    transaction_hashes: tuple[str, ...]
    receipts: dict[str, Receipt | None]
    complete_ns: int
    """When the last answer was received."""


class Listener(Protocol):
    """What the engine does with events; each call is made inside a socket callback."""

    def on_new_head(self, head: Head) -> None:
        """A header arrived; its state follows."""
        ...

    def on_state(self, state: HeadState) -> None:
        """The state of the oldest head that had none."""
        ...

    def on_pending(self, transaction: PendingTransaction) -> None:
        """A transaction waits for inclusion."""
        ...

    def on_removed(self, log: PoolLog) -> None:
        """A log's block left the chain."""
        ...

    def open_hashes(self) -> list[str]:
        """Our transactions whose receipts are wanted."""
        ...


class _Question:
    """The open requests about one head."""

    def __init__(self, head: Head, missing: int) -> None:
        self.head = head
        self.missing = missing
        self.logs: list[PoolLog] = []
        self.reserves: list[tuple[int, int]] = []
        self.executor_weth_wei = 0
        self.account_nonce = 0
        self.transaction_hashes: tuple[str, ...] = ()
        self.receipts: dict[str, Receipt | None] = {}


class Feed:
    """Subscribes, asks and hands on. `resync` starts over from the latest block."""

    def __init__(
        self,
        node: Node,
        deployment: Deployment,
        account: bytes,
        listener: Listener,
        pool_snapshot: bool,
    ) -> None:
        self._node = node
        self._listener = listener
        self._pools = deployment.pools
        self._pool_texts = ["0x" + pool.hex() for pool in deployment.pool_address]
        self._account = "0x" + account.hex()
        self._program = (
            "0x"
            + state_program(deployment.pool_address, deployment.weth, deployment.executor).hex()
        )
        self._pool_snapshot = pool_snapshot
        self._questions: deque[_Question] = deque()
        self._resyncing = False
        self.logs_seen = 0
        self.resyncs = 0

    async def start(self) -> None:
        """Subscribe and ask for the present state: after every connection."""
        self._questions.clear()
        self._resyncing = False
        await self._node.subscribe(self._on_head, "newHeads")
        await self._node.subscribe(self._on_pending, "newPendingTransactions", True)
        await self._node.subscribe(self._on_log, "logs", {"address": self._pool_texts})
        self.resync()

    def resync(self) -> None:
        """Drop all questions and ask for the latest block; NodeErrors lead to another attempt."""
        if self._resyncing:
            return
        self._resyncing = True
        self.resyncs += 1
        self._questions.clear()
        self._node.send("eth_getBlockByNumber", ("latest", False), self._on_latest)
        if self._pool_snapshot:
            self._node.send("txpool_content", (), self._on_snapshot)

    def _on_latest(self, answer: Answer) -> None:
        self._resyncing = False
        try:
            self._check(answer)
            head, _ = wire.read_block(answer.result, answer.received_ns)
        except (NodeError, *wire.Malformed) as error:
            LOG.warning("latest block: %s", error)
            return  # the next head starts it again
        if self._questions and self._questions[-1].head.number >= head.number:
            return  # a subscription was faster
        self._ask(head)

    def _on_head(self, raw: msgspec.Raw, received_ns: int) -> None:
        try:
            head = wire.read_head(raw, received_ns)
        except wire.Malformed as error:
            self._node.count_malformed(error)
            return
        self._ask(head)

    def _on_pending(self, raw: msgspec.Raw, received_ns: int) -> None:
        try:
            transaction = wire.read_transaction(raw, received_ns)
        except wire.Malformed as error:
            self._node.count_malformed(error)
            return
        self._listener.on_pending(transaction)

    def _on_log(self, raw: msgspec.Raw, received_ns: int) -> None:
        try:
            log = wire.read_log(raw, received_ns)
        except wire.Malformed as error:
            self._node.count_malformed(error)
            return
        self.logs_seen += 1
        if log.removed:
            self._listener.on_removed(log)

    def _on_snapshot(self, answer: Answer) -> None:
        if answer.fault:
            LOG.info("no pool snapshot: %s", answer.fault)
            return
        try:
            transactions = wire.read_pool_snapshot(answer.result, answer.received_ns)
        except wire.Malformed as error:
            self._node.count_malformed(error)
            return
        for transaction in transactions:
            self._listener.on_pending(transaction)

    def _ask(self, head: Head) -> None:
        """Send every question about one head; the answers may come in any order."""
        if len(self._questions) >= MAX_QUEUED_HEADS:
            self.resync()
            return
        self._listener.on_new_head(head)
        hashes = self._listener.open_hashes()
        question = _Question(head, 4 + len(hashes))
        self._questions.append(question)
        at = {"blockHash": head.hash}
        send = self._node.send
        by_address = {"blockHash": head.hash, "address": self._pool_texts}
        send("eth_getLogs", (by_address,), self._reader(question, _read_logs))
        call = ({"data": self._program, "gas": "0x1c9c380"}, at)
        send("eth_call", call, self._reader(question, partial(_read_state, self._pools)))
        send("eth_getBlockByHash", (head.hash, False), self._reader(question, _read_block))
        send("eth_getTransactionCount", (self._account, at), self._reader(question, _read_nonce))
        for hash_ in hashes:
            reader = self._reader(question, partial(_read_receipt, hash_))
            send("eth_getTransactionReceipt", (hash_,), reader)

    def _reader(
        self, question: _Question, read: Callable[[_Question, Answer], None]
    ) -> Callable[[Answer], None]:
        def on_answer(answer: Answer) -> None:
            if question not in self._questions:
                return
            try:
                self._check(answer)
                read(question, answer)
            except (NodeError, *wire.Malformed) as error:
                # most often the block has been replaced meanwhile
                LOG.warning("block %d: %s; reading the state again", question.head.number, error)
                self._questions.clear()
                asyncio.get_running_loop().call_later(RETRY_S, self.resync)
                return
            question.missing -= 1
            self._hand_on(answer.received_ns)

        return on_answer

    def _hand_on(self, received_ns: int) -> None:
        while self._questions and self._questions[0].missing == 0:
            done = self._questions.popleft()
            self._listener.on_state(
                HeadState(
                    done.head,
                    done.logs,
                    done.reserves,
                    done.executor_weth_wei,
                    done.account_nonce,
                    done.transaction_hashes,
                    done.receipts,
                    received_ns,
                )
            )

    @staticmethod
    def _check(answer: Answer) -> None:
        if answer.fault:
            raise NodeError(answer.fault)


def _read_logs(question: _Question, answer: Answer) -> None:
    logs = wire.read_logs(answer.result, answer.received_ns)
    if any(log.block_hash != question.head.hash for log in logs):
        raise ValueError("logs of another block")
    question.logs = logs


def _read_state(pools: int, question: _Question, answer: Answer) -> None:
    data = wire.read_data(answer.result)
    question.reserves, question.executor_weth_wei = read_state(data, pools)


def _read_block(question: _Question, answer: Answer) -> None:
    head, question.transaction_hashes = wire.read_block(answer.result, answer.received_ns)
    if head.hash != question.head.hash:
        raise ValueError("another block than asked for")


def _read_nonce(question: _Question, answer: Answer) -> None:
    question.account_nonce = wire.read_quantity(answer.result)


def _read_receipt(hash_: str, question: _Question, answer: Answer) -> None:
    question.receipts[hash_] = wire.read_receipt(answer.result, answer.received_ns)
