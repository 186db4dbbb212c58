"""The way out of the engine: what was decided is journalled first, then signed bytes are sent."""

from __future__ import annotations

import json
import logging
import time
from typing import NamedTuple

from live.books.book import Attempt, Book
from live.books.journal import Entry, Journal, Outcome
from live.books.metrics import Metrics
from live.books.plan import Plan, plan_to_json
from live.books.risk import LossWindow
from live.deciding.planner import Choice, Fees, Planner, Quote
from live.market.chain import Chain
from live.market.mempool import Mempool
from live.node.relays import PublicPool
from live.node.rpc import Answer
from live.node.signer import SignedTransaction, Signer
from live.settings.config import ETHER
from live.settings.deployment import Deployment

LOG = logging.getLogger(__name__)
REFUSED_BY_NODE = "refused_by_node"


class Parts(NamedTuple):
    """What an engine works with, as the server puts it together."""

    deployment: Deployment
    signer: Signer
    chain: Chain
    mempool: Mempool
    planner: Planner
    book: Book
    journal: Journal
    losses: LossWindow
    relay: PublicPool
    metrics: Metrics


class Dispatch:
    """Journals every decision, and sends those that are to be sent."""

    def __init__(self, parts: Parts, dry_run: bool) -> None:
        self._dry_run = dry_run
        self._chain, self._planner, self._book = parts.chain, parts.planner, parts.book
        self._journal, self._relay, self._metrics = parts.journal, parts.relay, parts.metrics
        self._lost: set[tuple[int, str]] = set()

    def start_block(self) -> None:
        """Losses are counted anew for the next block."""
        self._lost.clear()

    def record(self, entry: Entry) -> None:
        """Journal a decision that sends nothing."""
        self._journal.record(entry)

    def attempt(
        self,
        signed: SignedTransaction,
        nonce: int,
        fees: Fees,
        plan: Plan | None,
        quote: Quote | None,
        choice: Choice | None,
    ) -> Attempt:
        """What the book keeps of a signed transaction; a cancellation has no plan."""
        pools = frozenset(quote.pools) if quote is not None else frozenset[int]()
        net_wei = plan.net_wei if plan is not None else 0
        return Attempt(
            tx_hash=signed.hash,
            nonce=nonce,
            plan=plan,
            pools=pools,
            targets=self._planner.targets(pools),
            state=self._planner.state_of(pools),
            head_hash=self._chain.head.hash,
            max_fee_wei=fees.max_fee_wei,
            max_priority_fee_wei=fees.max_priority_fee_wei,
            value_eth=net_wei / ETHER,
            fraction=choice.bid_ppm / 1e6 if choice is not None else 0.0,
        )

    def send(
        self, attempt: Attempt, signed: SignedTransaction, replaced: Attempt | None, entry: Entry
    ) -> None:
        """Journal, then send: what was sent is always known. A dry run stops in between."""
        dry, plan = self._dry_run, attempt.plan
        started = time.perf_counter_ns()
        recorded = self._journal.record(
            entry._replace(
                plan=None if plan is None else plan_to_json(plan),
                verdict="dry_run" if dry else entry.verdict,
                nonce=attempt.nonce,
                tx_hash=None if dry else signed.hash,
                raw=None if dry else signed.raw,
                replaces=None if replaced is None else replaced.tx_hash,
                target_block=self._planner.block,
                max_fee_wei=attempt.max_fee_wei,
                max_priority_fee_wei=attempt.max_priority_fee_wei,
                expected_wei=0 if plan is None else plan.executor_profit_wei,
                sent=not dry,
            )
        )
        journalled = time.perf_counter_ns()
        self._metrics.time("journal", journalled - started)
        if dry or not recorded:
            return
        self._book.add(attempt)
        self._relay.submit(signed, lambda answer: self._on_submitted(attempt, answer))
        self._metrics.time("submit", time.perf_counter_ns() - journalled)
        self._metrics.bundles_sent += plan is not None
        self._metrics.replacements += replaced is not None and plan is not None

    def _on_submitted(self, attempt: Attempt, answer: Answer) -> None:
        """The node took it, refused it, or was gone: only a refusal proves that it is not out."""
        if not answer.refused:
            return
        LOG.warning("nonce %d refused: %s", attempt.nonce, answer.fault)
        self._book.drop(attempt)
        self._journal.settle(attempt.tx_hash, Outcome("lost", REFUSED_BY_NODE))
        self._metrics.refused += 1

    def refuse(
        self, trigger: str, choice: Choice, plan: Plan | None, verdict: str, reason: str
    ) -> None:
        """Journal a choice that is not sent; its loss is counted once per block and cycle."""
        text = None if plan is None else plan_to_json(plan)
        self._journal.record(self.entry(trigger, choice, verdict, "plan", {})._replace(plan=text))
        key = (choice.cycle, reason)
        if key not in self._lost:
            self._lost.add(key)
            self._metrics.lost_by_reason[reason] += 1

    def entry(
        self,
        trigger: str,
        choice: Choice | None,
        verdict: str,
        kind: str,
        timings_ns: dict[str, int],
    ) -> Entry:
        """The journal's row of a decision on the present picture."""
        return Entry(
            head_number=self._chain.head.number,
            head_hash=self._chain.head.hash,
            trigger=trigger,
            observation=None if kind == "cancel" else self._planner.observation.tobytes(),
            action=None if kind == "cancel" else (0 if choice is None else choice.action),
            plan=None,
            verdict=verdict,
            timings_ns=json.dumps(timings_ns),
            kind=kind,
        )
