"""JSON-RPC to one node over websocket or IPC: ids, time limits, subscriptions, and a connection
that comes back. Frames are handed to the reader inside the socket's own callback, without a queue:
a pending transaction is answered before the event loop does anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from live.node import wire
from live.node.transport import Transport, open_ipc, open_websocket
from live.settings.config import NodeConfig

LOG = logging.getLogger(__name__)
FIRST_BACKOFF_S = 0.1
# Notifications that overtake the answer which names their subscription.
MAX_EARLY_NOTIFICATIONS = 256
# So many unreadable frames in one connection mean that the peer is no node.
MAX_MALFORMED_FRAMES = 1000

OnNotification = Callable[[msgspec.Raw, int], None]
OnAnswer = Callable[["Answer"], None]


class NodeError(Exception):
    """The node did not answer, or answered with an error."""


class Answer(NamedTuple):
    """What came back for a request: a result, or the reason why there is none."""

    result: msgspec.Raw
    fault: str
    received_ns: int
    refused: bool = False
    """The node itself said no; without this, a request with a fault may still have arrived."""


class OpenTransport(Protocol):
    """Connects and returns the transport; calls back with frames and once with the loss."""

    def __call__(
        self,
        config: NodeConfig,
        on_frame: Callable[[bytes, int], None],
        on_lost: Callable[[], None],
    ) -> Awaitable[Transport]: ...


class Node:
    """One node. `connect` once, then `serve` keeps the connection alive until cancelled.

    Counters: frames, malformed (unreadable frames), timeouts, reconnects.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.frames = self.malformed = self.timeouts = self.reconnects = 0
        self._transport: Transport | None = None
        self._lost = asyncio.Event()
        self._next_id = 1
        self._waiting: dict[int, tuple[OnAnswer, float]] = {}
        self._handlers: dict[str, OnNotification] = {}
        self._early: list[tuple[str, msgspec.Raw, int]] = []
        self._malformed_here = 0

    @property
    def connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._transport is not None

    async def connect(self) -> None:
        """Open the connection; NodeError when the node does not answer."""
        opener: OpenTransport = open_ipc if self.config.ipc_path else open_websocket
        self._lost.clear()
        self._malformed_here = 0
        try:
            async with asyncio.timeout(self.config.connect_timeout_s):
                self._transport = await opener(self.config, self._on_frame, self._on_lost)
        except (OSError, TimeoutError, ValueError, EOFError) as error:
            raise NodeError(
                f"{type(error).__name__}: {error}" if str(error) else "no answer"
            ) from error

    async def serve(
        self, on_connected: Callable[[], Awaitable[None]], on_lost: Callable[[], None]
    ) -> None:
        """Run until cancelled; after each loss call `on_lost`, connect again, `on_connected`.

        `on_connected` subscribes and synchronises; when it fails, that connection is given up.
        """
        watch = asyncio.create_task(self._watch_timeouts())
        try:
            backoff_s = FIRST_BACKOFF_S
            while True:
                await self._lost.wait()
                on_lost()
                try:
                    await self.connect()
                    await on_connected()
                except NodeError as error:
                    LOG.warning("node: %s; trying again in %.1f s", error, backoff_s)
                    self.close()
                    self._lost.set()
                    await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                    backoff_s = min(2 * backoff_s, self.config.max_backoff_s)
                else:
                    self.reconnects += 1
                    backoff_s = FIRST_BACKOFF_S
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    def close(self) -> None:
        """Drop the connection; every open request is answered with a fault."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        self._handlers.clear()
        self._early.clear()
        waiting, self._waiting = self._waiting, {}
        for on_answer, _ in waiting.values():
            on_answer(Answer(msgspec.Raw(b""), "connection lost", time.perf_counter_ns()))

    def send(self, method: str, params: Any, on_answer: OnAnswer) -> None:
        """Send a request now; `on_answer` is called exactly once, with a fault when it is lost."""
        if self._transport is None:
            on_answer(Answer(msgspec.Raw(b""), "not connected", time.perf_counter_ns()))
            return
        identity = self._next_id
        self._next_id += 1
        self._waiting[identity] = (on_answer, time.monotonic() + self.config.request_timeout_s)
        self._transport.send(wire.request_bytes(identity, method, params))

    def request(self, method: str, *params: Any) -> asyncio.Future[msgspec.Raw]:
        """Send a request; the future holds the raw result or a NodeError."""
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()

        def settle(answer: Answer) -> None:
            if future.cancelled():
                return
            if answer.fault:
                future.set_exception(NodeError(f"{method}: {answer.fault}"))
            else:
                future.set_result(answer.result)

        self.send(method, params, settle)
        return future

    async def subscribe(self, handler: OnNotification, *params: Any) -> None:
        """Subscribe; `handler` gets (raw result, time received) inside the socket's callback."""
        raw = await self.request("eth_subscribe", *params)
        try:
            name = msgspec.json.decode(raw, type=str)
        except wire.Malformed as error:
            raise NodeError(f"eth_subscribe: {error}") from error
        self._handlers[name] = handler
        early, self._early = self._early, []
        for subscription, result, received_ns in early:
            if subscription == name:
                handler(result, received_ns)
            else:
                self._early.append((subscription, result, received_ns))

    def _on_lost(self) -> None:
        self.close()
        self._lost.set()

    def _on_frame(self, payload: bytes, received_ns: int) -> None:
        """Route one message; one that cannot be read is counted and dropped."""
        self.frames += 1
        try:
            frame = wire.decode_frame(payload)
        except wire.Malformed as error:
            self.count_malformed(error)
            return
        if frame.params is not None and frame.method == "eth_subscription":
            name = frame.params.subscription
            handler = self._handlers.get(name)
            if handler is not None:
                handler(frame.params.result, received_ns)
            elif len(self._early) < MAX_EARLY_NOTIFICATIONS:
                self._early.append((name, frame.params.result, received_ns))
        elif frame.id is not None and (waiting := self._waiting.pop(frame.id, None)):
            fault = ""
            if frame.error is not None:
                fault = f"{frame.error.message[:300]} (code {frame.error.code})"
            waiting[0](Answer(frame.result, fault, received_ns, frame.error is not None))

    def count_malformed(self, error: Exception) -> None:
        """Note a message that could not be read; too many of them end the connection."""
        self.malformed += 1
        self._malformed_here += 1
        if self._malformed_here <= 3:
            LOG.warning("unreadable frame from the node: %s", error)
        if self._malformed_here > MAX_MALFORMED_FRAMES:
            LOG.error("%d unreadable frames: connecting again", self._malformed_here)
            self._on_lost()

    async def _watch_timeouts(self) -> None:
        """A request without an answer means a dead connection: renew it."""
        while True:
            await asyncio.sleep(min(1.0, self.config.request_timeout_s / 4))
            now = time.monotonic()
            if any(deadline < now for _, deadline in self._waiting.values()):
                self.timeouts += 1
                LOG.warning("no answer within %.1f s", self.config.request_timeout_s)
                self._on_lost()
