"""Answers every relevant pending transaction, and every head, with plans: the hot path.

A frame is decoded, laid over the head's exact state with all other pending swaps, searched, shown
to the policy, sized to the wei, checked against the limits, signed, journalled and sent, all inside
the socket's callback. Our transactions tip less than the swaps they follow.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable

import numpy as np

from live.books.book import Attempt
from live.books.outcomes import FILTERED, GAS
from live.books.plan import cancel_transaction, plan_transaction, raised
from live.books.risk import refusal
from live.books.settlement import Settlement
from live.deciding.dispatch import Dispatch, Parts
from live.deciding.planner import Choice, Fees
from live.market.chain import Arrival
from live.market.decode import Decoder
from live.node.events import Head, PendingTransaction, PoolLog
from live.node.feed import HeadState
from live.settings.config import ServeConfig

LOG = logging.getLogger(__name__)
KEPT_SEEN = 8192  # pending swaps remembered after they left the pool
HEAD = "head"


class Engine:
    """Receives events from the feed; owns what happens between them."""

    def __init__(
        self, config: ServeConfig, parts: Parts, on_quiet: Callable[[HeadState], None]
    ) -> None:
        self._config = config
        self._deployment, self._signer = parts.deployment, parts.signer
        self._decoder = Decoder(parts.deployment)
        self.chain, self.mempool = parts.chain, parts.mempool
        self.planner, self.book = parts.planner, parts.book
        self._journal, self._losses, self.metrics = parts.journal, parts.losses, parts.metrics
        self._dispatch = Dispatch(parts, config.dry_run)
        self._on_quiet = on_quiet
        self.settlement = Settlement(
            *(parts.deployment, parts.book, parts.journal, parts.metrics, parts.losses),
            parts.planner.record,
        )
        self.deciding = True
        """False while the server winds down: states are followed, nothing is decided."""
        self._ready = False
        self._newest_head = ""
        self._executor_weth_wei = 0
        self._start_weth_wei: int | None = None
        self._offered: set[int] = set()

    # ---------------------------------------------------------------- events
    def open_hashes(self) -> list[str]:
        """Our transactions whose receipts are wanted."""
        return self.book.hashes()

    def on_new_head(self, head: Head) -> None:
        """A header arrived: nothing is decided until its state is complete."""
        self._ready = False
        self._newest_head = head.hash

    def on_disconnected(self) -> None:
        """The connection is gone, and with it our picture of the transaction pool."""
        self._ready = False
        self.mempool.clear()

    def on_removed(self, log: PoolLog) -> None:
        """A log's block left the chain: take back all of it; the next head comes on top."""
        undone = self.chain.rewind_before(log.block_hash)
        if undone:
            self._ready = False
            self.mempool.forget_mined()
            self.metrics.reorgs_handled += 1
            self.settlement.on_blocks_undone(undone)

    def on_pending(self, transaction: PendingTransaction) -> None:
        """A transaction waits for inclusion: if it moves tracked pools, look again at once."""
        self.metrics.pending_seen += 1
        if transaction.sender == self._signer.address:
            return
        decoded = self._decoder.decode(transaction)
        if decoded.swap is None and not decoded.unclear:
            changed = self.mempool.replace_untracked(transaction)
        else:
            self.metrics.pending_relevant += 1
            self._remember(transaction.hash)
            changed = self.mempool.add(transaction, decoded, self.planner.block)
        if changed and self._ready:
            now = time.perf_counter_ns()
            self.metrics.time("decode", now - transaction.received_ns)
            self._evaluate(transaction.hash, transaction.received_ns)

    def on_state(self, state: HeadState) -> None:
        """The complete state of a block: follow the chain, settle, and decide for the next one."""
        if not self._follow(state):
            return
        head = state.head
        self.settlement.on_state(state)
        self._check_balance(state)
        self.mempool.on_block(head.number, state.transaction_hashes)
        self.planner.start_slot(head)
        self._dispatch.start_block()
        self._offered.clear()
        self._ready = head.hash == self._newest_head
        if self._ready:
            self.metrics.time("head_to_state", state.complete_ns - head.received_ns)
            self._evaluate(HEAD, head.received_ns)
        self._journal.checkpoint_if_due()
        gc.collect(1)
        self._on_quiet(state)

    def _follow(self, state: HeadState) -> bool:
        """Move the chain to this block; False when it is not new."""
        chain, metrics, head = self.chain, self.metrics, state.head
        arrival = chain.arrival(head)
        if arrival is Arrival.KNOWN:
            self._ready = head.hash == self._newest_head
            return False
        metrics.heads += 1
        if arrival is Arrival.GAP:
            known = chain.block_hashes()
            if known:
                LOG.warning("block %d does not follow ours: reading all reserves", head.number)
                if head.number <= chain.head.number:
                    metrics.reorgs_handled += 1
                    self.settlement.on_blocks_undone(known)
                self.mempool.clear()
            chain.reset(head, state.reserves)
            return True
        if arrival is Arrival.REORG:
            metrics.reorgs_handled += 1
            self.mempool.forget_mined()
            self.settlement.on_blocks_undone(chain.rewind_to(head.parent_hash))
        for pool in chain.extend(head, state.logs):
            metrics.unknown_events += 1
            address = self._deployment.pool_address[pool].hex()
            LOG.error("pool 0x%s emitted an unknown event: not traded any more", address)
        metrics.states_compared += 1
        for pool in chain.compare(state.reserves):
            metrics.state_mismatches += 1
            address = self._deployment.pool_address[pool].hex()
            LOG.error("pool 0x%s differs from the contract at block %d", address, head.number)
        return True

    def _check_balance(self, state: HeadState) -> None:
        """What the executor holds must have changed by exactly what our plans realised."""
        self._executor_weth_wei = state.executor_weth_wei
        if self._start_weth_wei is None:
            self._start_weth_wei = state.executor_weth_wei
        change = state.executor_weth_wei - self._start_weth_wei
        self.metrics.executor_balance_change_wei = change
        if change != self.metrics.realised_profit_wei:
            self.metrics.balance_mismatches += 1
            LOG.error(
                "the executor's WETH changed by %d wei, our plans account for %d",
                *(change, self.metrics.realised_profit_wei),
            )

    def _remember(self, hash_: str) -> None:
        seen = self.settlement.seen_swaps
        seen[hash_] = None
        if len(seen) > KEPT_SEEN:
            del seen[next(iter(seen))]

    # ---------------------------------------------------------------- deciding
    def _evaluate(self, trigger: str, received_ns: int) -> None:
        """Decide on the present picture, and see to those of our plans that it voids."""
        if not self.deciding:
            return
        planner, started = self.planner, time.perf_counter_ns()
        blocked = self.chain.quarantined.copy()
        planner.overlay(blocked)
        void = []
        for attempt in self.book.plans_for(planner.block):
            if self._holds(attempt, blocked):
                attempt.targets = planner.targets(attempt.pools)
                blocked[list(attempt.pools)] = True
            else:
                void.append(attempt)
        self.metrics.time("overlay", time.perf_counter_ns() - started)
        look = True
        while True:
            if look and not self._look(blocked):
                break
            decided = time.perf_counter_ns()
            choice = planner.decide()
            self.metrics.time("policy", time.perf_counter_ns() - decided)
            self.metrics.decisions += 1
            if choice is None:
                self._dispatch.record(self._dispatch.entry(trigger, None, "pass", "pass", {}))
                break
            attempt = self._pursue(choice, void, trigger, received_ns)
            look = attempt is not None
            if attempt is None:
                planner.forbid(choice.k)
            else:
                void = [other for other in void if other.nonce != attempt.nonce]
                blocked[list(attempt.pools)] = True
        for attempt in void:
            self._keep_or_cancel(attempt, blocked, trigger)

    def _holds(self, attempt: Attempt, blocked: np.ndarray) -> bool:
        """Whether a waiting plan still finds exactly the state that it was computed on.

        A swap elsewhere can change that state too, through what another pending swap pays out.
        """
        fees = Fees(attempt.max_fee_wei, attempt.max_priority_fee_wei)
        return (
            attempt.head_hash == self.chain.head.hash
            and attempt.state == self.planner.state_of(attempt.pools)
            and not blocked[list(attempt.pools)].any()
            and self.planner.lands_after_targets(attempt.pools, fees)
        )

    def _look(self, blocked: np.ndarray) -> bool:
        started = time.perf_counter_ns()
        found = self.planner.look(blocked)
        self.metrics.time("find", time.perf_counter_ns() - started)
        for cycle in self.planner.found():
            if cycle not in self._offered:
                self._offered.add(cycle)
                self.metrics.opportunities += 1
        return found

    def _pursue(
        self, choice: Choice, void: list[Attempt], trigger: str, received_ns: int
    ) -> Attempt | None:
        """Price, check, sign, journal and send one choice; None when it must not be sent."""
        planner, metrics = self.planner, self.metrics
        started = time.perf_counter_ns()
        most = min(self._config.risk.max_input_wei, self._executor_weth_wei)
        quote = planner.quote(choice.cycle, most, choice.size_ppm)
        if quote is None:
            self._dispatch.refuse(trigger, choice, None, GAS, GAS)
            return None
        pools = frozenset(quote.pools)
        place = self._place(pools, void)
        if place is None:
            self._dispatch.refuse(trigger, choice, None, "behind_targets", FILTERED)
            return None
        nonce, fees, replaced = place
        plan = planner.price(quote, choice.bid_ppm, fees)
        waiting = self.book.plans_for(planner.block)
        others = sum(attempt.nonce != nonce for attempt in waiting)
        verdict = (
            GAS if plan.net_wei <= 0 else refusal(plan, self._config.risk, others, self._losses)
        )
        if verdict:
            self._dispatch.refuse(
                trigger, choice, plan, verdict, GAS if verdict == GAS else FILTERED
            )
            return None
        priced = time.perf_counter_ns()
        metrics.time("refine", priced - started)
        transaction = plan_transaction(
            plan, self._deployment.chain_id, nonce, self._deployment.executor
        )
        signed = self._signer.sign(transaction)
        now = time.perf_counter_ns()
        metrics.time("sign", now - priced)
        metrics.time("head_to_signed" if trigger == HEAD else "frame_to_signed", now - received_ns)
        attempt = self._dispatch.attempt(signed, nonce, fees, plan, quote, choice)
        timings = {"price": priced - started, "sign": now - priced, "signed": now - received_ns}
        self._dispatch.send(
            attempt,
            signed,
            replaced,
            self._dispatch.entry(trigger, choice, "send", "plan", timings),
        )
        if trigger != HEAD:
            metrics.time("frame_to_sent", time.perf_counter_ns() - received_ns)
        metrics.plans += 1
        return attempt

    def _place(
        self, pools: frozenset[int], void: list[Attempt]
    ) -> tuple[int, Fees, Attempt | None] | None:
        """Nonce and fees that keep a plan behind its targets; None when no fees do.

        A void plan on the same pools must be replaced, for it would run too; an attempt whose block
        has passed should be, for it would only cost gas.
        """
        planner = self.planner
        same = [attempt for attempt in void if not attempt.pools.isdisjoint(pools)]
        for attempt in same[:1] or self.book.stale(planner.block):
            fees = self._raised(attempt)
            if planner.lands_after_targets(pools, fees):
                return attempt.nonce, fees, attempt
        fees = planner.own_fees()
        if same or not planner.lands_after_targets(pools, fees):
            return None
        return self.book.fresh_nonce(), fees, None

    def _raised(self, attempt: Attempt) -> Fees:
        """Fees at which nodes accept a replacement of `attempt`, enough for the next block too."""
        percent = self._config.engine.fee_bump_percent
        tip = raised(attempt.max_priority_fee_wei, percent)
        cap = raised(attempt.max_fee_wei, percent)
        return Fees(max(cap, self.planner.base_fee_wei + tip), tip)

    def _keep_or_cancel(self, attempt: Attempt, blocked: np.ndarray, trigger: str) -> None:
        """A void plan that nothing replaced: keep it if it still runs as signed, else cancel."""
        plan = attempt.plan
        assert plan is not None
        fees = Fees(attempt.max_fee_wei, attempt.max_priority_fee_wei)
        if (
            not blocked[list(attempt.pools)].any()
            and self.planner.still_runs(plan)
            and self.planner.lands_after_targets(attempt.pools, fees)
        ):
            attempt.targets = self.planner.targets(attempt.pools)
            attempt.state = self.planner.state_of(attempt.pools)
            attempt.head_hash = self.chain.head.hash
            return
        fees = self._raised(attempt)
        account, chain_id = self._signer.address, self._deployment.chain_id
        signed = self._signer.sign(cancel_transaction(chain_id, attempt.nonce, account, *fees))
        cancel = self._dispatch.attempt(signed, attempt.nonce, fees, None, None, None)
        self._dispatch.send(
            cancel, signed, attempt, self._dispatch.entry(trigger, None, "cancel", "cancel", {})
        )
        self.metrics.cancellations += 1
