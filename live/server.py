"""A server from its configuration to its report: checks everything, recovers what an earlier run
left open, warms up, subscribes, serves, and closes the books.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import uvloop

from live.books.book import Book
from live.books.journal import Journal, journal_path
from live.books.metrics import Metrics
from live.books.risk import LossWindow
from live.deciding.dispatch import Parts
from live.deciding.engine import Engine
from live.deciding.planner import Planner, warm_up_planner
from live.market.chain import Chain
from live.market.decode import Decoded, Decoder, RouterSwap
from live.market.mempool import Mempool
from live.market.volatility import Volatility, WarmUpBars, dollar_pool, warm_up_volatility
from live.node import wire
from live.node.events import Head, PendingTransaction
from live.node.feed import Feed, HeadState
from live.node.relays import PublicPool
from live.node.rpc import Node, NodeError
from live.node.signer import Signer, load_key
from live.node.state_call import read_state, state_program
from live.node.transport import scan_message
from live.settings.config import EngineConfig, ServeConfig, StartError
from live.settings.deployment import Deployment, load_deployment, smallest_deployment
from models.frozen import (
    FrozenForecaster,
    FrozenPolicy,
    PolicyError,
    load,
    load_forecaster,
)
from terminal import Stopped

LOG = logging.getLogger(__name__)
FIRST_STATE_TIMEOUT_S = 30.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# After the end nothing is decided any more, but what waits may still be included.
DRAIN_SLOTS = 3.0
MAX_DRAIN_S = 45.0


class Policy(NamedTuple):
    """A frozen policy folder, loaded and verified."""

    policy: FrozenPolicy
    forecaster: FrozenForecaster
    warm_up_s: float
    """How long it took to compile or load the kernels of the hot path."""


def load_policy(folder: Path) -> Policy:
    """Load the folder that train.py wrote and every kernel that serves it.

    StartError when the policy must not be used. The first call on a machine compiles the kernels,
    which takes a minute or more; nothing else has been started by then.
    """
    try:
        policy, forecaster = load(folder), load_forecaster(folder)
    except PolicyError as error:
        raise StartError(str(error)) from error
    started = time.perf_counter()
    warm_up_kernels(policy, forecaster)
    return Policy(policy, forecaster, time.perf_counter() - started)


class Server:
    """Everything that serves, put together; `serve` runs it."""

    def __init__(
        self,
        config: ServeConfig,
        deployment: Deployment,
        policy: Policy,
        signer: Signer,
        node: Node,
        journal: Journal,
        on_quiet: Callable[[Server], None],
    ) -> None:
        self.config = config
        self.deployment = deployment
        self.signer = signer
        self.node = node
        self.journal = journal
        bar_minutes = int(policy.policy.manifest["volatility"]["bar_minutes"])
        self.volatility = Volatility(policy.forecaster, bar_minutes)
        self.metrics = Metrics()
        self.started = time.monotonic()
        self.warm_up_s = policy.warm_up_s
        self._dollar_pool = dollar_pool(deployment)
        self._show = on_quiet
        self._first_state = asyncio.Event()
        losses = LossWindow()
        for age_s, loss_wei in sorted(journal.recent_losses_wei(), reverse=True):
            losses.add(loss_wei, age_s)
        chain, mempool = Chain(deployment), Mempool()
        self.planner = Planner(deployment, chain, mempool, policy.policy, config.engine)
        self.planner.set_forecast(self.volatility.log_variance)
        parts = Parts(
            deployment=deployment,
            signer=signer,
            chain=chain,
            mempool=mempool,
            planner=self.planner,
            book=Book(),
            journal=journal,
            losses=losses,
            relay=PublicPool(node),
            metrics=self.metrics,
        )
        self.engine = Engine(config, parts, self._on_quiet)
        self.feed = Feed(node, deployment, signer.address, self.engine, config.node.pool_snapshot)

    def price_usd(self) -> float:
        """Dollars per WETH in the tracked pool, 0 without such a pool."""
        pool = self._dollar_pool
        if pool < 0:
            return 0.0
        mirror, pools = self.engine.chain.mirror, self.deployment.pools
        pair = (float(mirror[pool]), float(mirror[pool + pools]))
        weth, dollars = pair if self.deployment.pool_tokens[pool][0] == 0 else pair[::-1]
        return dollars / weth if weth > 0.0 else 0.0

    def _on_quiet(self, state: HeadState) -> None:
        """After a head is done with: what may take its time."""
        self._first_state.set()
        self.volatility.on_head(state.head.timestamp_s, self.price_usd())
        self.planner.set_forecast(self.volatility.log_variance)
        self._show(self)

    async def run(self, bars: WarmUpBars | None) -> None:
        """Recover, warm up, subscribe and serve for the configured time; then close the books."""
        try:
            if bars is not None:
                await self._warm_up_forecast(bars)
            await self._recover()
        except (NodeError, *wire.Malformed) as error:
            raise StartError(
                f"the node answers no longer ({error}): start serve.py again"
            ) from error
        gc.collect()
        gc.freeze()
        gc.disable()  # the engine collects after each head instead
        try:
            async with self._connection():
                await self._serve()
        finally:
            gc.enable()
            gc.unfreeze()

    async def _warm_up_forecast(self, bars: WarmUpBars) -> None:
        """Replay recorded bars up to the present minute, at the present price."""
        head, _ = wire.read_block(
            await self.node.request("eth_getBlockByNumber", "latest", False), 0
        )
        deployment = self.deployment
        program = state_program(deployment.pool_address, deployment.weth, deployment.executor)
        call = {"data": "0x" + program.hex()}
        raw = await self.node.request("eth_call", call, {"blockHash": head.hash})
        reserves, _ = read_state(wire.read_data(raw), deployment.pools)
        self.engine.chain.reset(head, reserves)
        used = self.volatility.warm_up(bars, head.timestamp_s // 60, self.price_usd())
        self.planner.set_forecast(self.volatility.log_variance)
        LOG.info("forecast warmed up with %d bars", used)

    async def _recover(self) -> None:
        account = "0x" + self.signer.address.hex()
        book, request = self.engine.book, self.node.request
        latest = await request("eth_getTransactionCount", account, "latest")
        book.confirmed = wire.read_quantity(latest)
        await self.engine.settlement.recover(self.node)
        pending = wire.read_quantity(await request("eth_getTransactionCount", account, "pending"))
        if pending > book.confirmed + len(book.attempts):
            book.first_free = pending  # somebody else uses this account's nonces

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[None]:
        await self.feed.start()
        keeper = asyncio.create_task(self.node.serve(self.feed.start, self.engine.on_disconnected))
        try:
            yield
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    async def _serve(self) -> None:
        try:
            async with asyncio.timeout(FIRST_STATE_TIMEOUT_S):
                await self._first_state.wait()
        except TimeoutError:
            raise StartError(
                f"the node sent no block within {FIRST_STATE_TIMEOUT_S:.0f} s: see that it is in "
                "step with its chain, then start serve.py again"
            ) from None
        self.started = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError):
            if self.config.duration:
                await asyncio.sleep(self.config.duration)
            else:
                await asyncio.Event().wait()
        # Interrupted once more, it leaves what is open to the next start.
        with contextlib.suppress(asyncio.CancelledError):
            await self._drain()

    async def _drain(self) -> None:
        """Decide nothing more; wait for what may still be included, then note what is lost."""
        self.engine.deciding = False
        block = self.planner.block
        deadline = time.monotonic() + min(DRAIN_SLOTS * self.deployment.slot_s, MAX_DRAIN_S)
        while self.engine.book.plans_for(block) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        with contextlib.suppress(NodeError, *wire.Malformed):
            await self.engine.settlement.finish(self.node)

    def report(self) -> dict[str, Any]:
        """The summary: keys fixed in the design, then what else is worth knowing."""
        m, latency = self.metrics, self.metrics.latency
        return {
            "chain_id": self.deployment.chain_id,
            "seconds": round(time.monotonic() - self.started, 3),
            "heads": m.heads,
            "pending_seen": m.pending_seen,
            "opportunities": m.opportunities,
            "decisions": m.decisions,
            "bundles_sent": m.bundles_sent,
            "included": m.included,
            "failed": m.failed,
            "realised_profit_wei": m.realised_profit_wei,
            "expected_profit_wei": m.expected_profit_wei,
            "gas_spent_wei": m.gas_spent_wei,
            "lost_by_reason": dict(m.lost_by_reason),
            "latency_us": {
                "frame_to_signed": latency["frame_to_signed"].summary_us(),
                **{stage: values.summary_us() for stage, values in latency.items()},
            },
            "state_mismatches": m.state_mismatches,
            "reorgs_handled": m.reorgs_handled,
            "reconnects": self.node.reconnects,
            "dry_run": self.config.dry_run,
            "pending_relevant": m.pending_relevant,
            "states_compared": m.states_compared,
            "replacements": m.replacements,
            "cancellations": m.cancellations,
            "refused_by_node": m.refused,
            "unchallenged": m.unchallenged,
            "unchallenged_violations": m.unchallenged_violations,
            "bids_paid_wei": m.bids_paid_wei,
            "executor": "0x" + self.deployment.executor.hex(),
            "account": "0x" + self.signer.address.hex(),
            "executor_balance_change_wei": m.executor_balance_change_wei,
            "balance_mismatches": m.balance_mismatches,
            "unknown_events": m.unknown_events,
            "recovered": m.recovered,
            "frames": self.node.frames,
            "malformed_frames": self.node.malformed,
            "timeouts": self.node.timeouts,
            "forecast": self.volatility.source,
            "forecast_log_variance": [float(x) for x in self.volatility.log_variance],
            "warm_up_seconds": round(self.warm_up_s, 3),
            "journal": str(self.journal.path),
        }


def warm_up_kernels(policy: FrozenPolicy, forecaster: FrozenForecaster) -> None:
    """Run every kernel that serves once, on a market of two pools."""
    deployment = smallest_deployment()
    chain, mempool = Chain(deployment), Mempool()
    head = Head(0, "0x", "0x", 0, 1, 0, 30_000_000, 0)
    chain.reset(head, [(10**21, 3 * 10**24), (10**21, 3 * 10**24 + 10**23)])
    planner = Planner(deployment, chain, mempool, policy, EngineConfig())
    planner.start_slot(head)
    transaction = PendingTransaction(
        "0x", b"", deployment.router_address[0], 0, 0, 0, 2, 2, bytes(4), 0
    )
    Decoder(deployment).decode(transaction)
    swap = RouterSwap(False, 10**18, 0, 1 << 63, ((0, True),))
    mempool.add(transaction, Decoded(swap, (), False), 1)
    warm_up_planner(planner)
    warm_up_volatility(forecaster)
    scan_message(np.frombuffer(b"{}", np.uint8), 0, np.zeros(3, np.int64))


async def _open_node(
    config: ServeConfig, deployment: Deployment, signer: Signer
) -> tuple[Node, str]:
    """Connect and check that this is the chain we were configured for; genesis hash of it."""
    node = Node(config.node)
    where = config.node.ipc_path or config.node.url
    try:
        await node.connect()
        async with asyncio.timeout(config.node.connect_timeout_s):
            chain_id = wire.read_quantity(await node.request("eth_chainId"))
            genesis, _ = wire.read_block(
                await node.request("eth_getBlockByNumber", "0x0", False), 0
            )
            executor = "0x" + deployment.executor.hex()
            code = wire.read_data(await node.request("eth_getCode", executor, "latest"))
    except (NodeError, TimeoutError, *wire.Malformed) as error:
        node.close()
        reason = str(error) or f"no answer within {config.node.connect_timeout_s} s"
        raise StartError(
            f"node {where} does not answer ({reason}): start it, or correct node.url"
        ) from error
    problem = ""
    if chain_id != config.node.chain_id:
        problem = (
            f"node.chain_id is {config.node.chain_id}, but the node at {where} serves chain "
            f"{chain_id}: correct one of them"
        )
    elif chain_id != deployment.chain_id:
        problem = f"the deployment is for chain {deployment.chain_id}, the node serves {chain_id}"
    elif not code:
        problem = f"there is no contract at executor.address {executor}: deploy it first"
    elif signer.address != deployment.owner and not config.dry_run:
        problem = (
            f"the key belongs to 0x{signer.address.hex()}, the executor to "
            f"0x{deployment.owner.hex()}: use the owner's key"
        )
    if problem:
        node.close()
        raise StartError(problem)
    return node, genesis.hash


async def _serve(
    config: ServeConfig,
    policy: Policy,
    bars: WarmUpBars | None,
    on_quiet: Callable[[Server], None],
    asked: list[int],
) -> dict[str, Any]:
    """`asked` receives the signals that asked for the end."""
    task = asyncio.current_task()
    assert task is not None
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, _stop, task, number, asked)
    deployment = load_deployment(config.deployment)
    signer = load_key(config.key, config.key_password)
    node, genesis_hash = await _open_node(config, deployment, signer)
    try:
        chain_id = deployment.chain_id
        journal = Journal(
            journal_path(
                config.state_dir, chain_id, genesis_hash, deployment.executor, signer.address
            )
        )
        try:
            server = Server(config, deployment, policy, signer, node, journal, on_quiet)
            await server.run(bars)
            return server.report()
        finally:
            journal.close()
    finally:
        node.close()


def _stop(task: asyncio.Task[Any], number: int, asked: list[int]) -> None:
    """The first signal ends the service in order; another one ends the wait for what is open."""
    asked.append(number)
    LOG.warning(
        "ending: what was sent may still be included; once more ends that wait"
        if len(asked) == 1
        else "ending at once: the next start settles what is open"
    )
    task.cancel()


def serve(
    config: ServeConfig,
    policy: Policy,
    bars: WarmUpBars | None,
    on_quiet: Callable[[Server], None],
) -> dict[str, Any]:
    """Serve as configured and return the report.

    `bars` warm up the forecast; `on_quiet` is called after each head, when nothing is urgent.
    SIGINT and SIGTERM end the service in order. Raises StartError when it cannot begin, Stopped
    when a signal comes before it has begun.
    """
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, policy, bars, on_quiet, asked))
    except asyncio.CancelledError:
        raise Stopped(asked[0] if asked else signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
