"""Two ways to the node: websocket (picows) and IPC (a Unix socket). Both hand over whole messages
inside the socket's callback, with the time at which the bytes were taken from it, and bound their
size. anvil delays every second frame by 40 ms unless quick acknowledgement is armed each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Protocol, cast

import numpy as np
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from kernels.compile import kernel
from live.settings.config import NodeConfig

OnFrame = Callable[[bytes, int], None]
OnLost = Callable[[], None]
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only

OPEN_BRACE, CLOSE_BRACE = 123, 125
OPEN_BRACKET, CLOSE_BRACKET = 91, 93
QUOTE, BACKSLASH = 34, 92


class Transport(Protocol):
    """An open connection."""

    def send(self, payload: bytes) -> None:
        """Write one message."""
        ...

    def close(self) -> None:
        """End the connection at once; safe to call twice."""
        ...


class _Listener(WSListener):
    """Reassembles fragments and re-arms quick acknowledgement after each frame."""

    def __init__(self, max_bytes: int, on_frame: OnFrame, on_lost: OnLost) -> None:
        self._max_bytes = max_bytes
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._fragments = bytearray()
        self._socket: socket.socket | None = None
        self.closed_by_us = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._socket = transport.underlying_transport.get_extra_info("socket")
        if self._socket is not None and self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        received_ns = time.perf_counter_ns()
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            # picows hands over the frame that breaks its limit before it disconnects
            if len(self._fragments) + frame.payload_size > self._max_bytes:
                transport.disconnect()
                return
            payload = frame.get_payload_as_bytes()
            if not frame.fin or self._fragments:
                self._fragments += payload
                payload = bytes(self._fragments)
            if frame.fin:
                self._fragments.clear()
                self._on_frame(payload, received_ns)
        if self._socket is not None and QUICKACK is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.closed_by_us:
            self._on_lost()


class _Websocket:
    def __init__(self, transport: WSTransport, listener: _Listener) -> None:
        self._transport = transport
        self._listener = listener
        self._end = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        """Take note of how the connection ends: an unread exception would be printed."""
        with contextlib.suppress(Exception):
            await self._transport.wait_disconnected()

    def send(self, payload: bytes) -> None:
        self._transport.send(WSMsgType.TEXT, payload)

    def close(self) -> None:
        if not self._listener.closed_by_us:
            self._listener.closed_by_us = True
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()


async def open_websocket(config: NodeConfig, on_frame: OnFrame, on_lost: OnLost) -> Transport:
    """Connect to `config.url`; OSError, TimeoutError or ValueError when that fails."""
    try:
        transport, listener = await ws_connect(
            lambda: _Listener(config.max_frame_bytes, on_frame, on_lost),
            config.url,
            max_frame_size=config.max_frame_bytes,
            websocket_handshake_timeout=config.connect_timeout_s,
            enable_auto_pong=True,
        )
    except WSError as error:
        raise ConnectionError(str(error) or "not a websocket server") from error
    assert isinstance(listener, _Listener)
    return _Websocket(transport, listener)


@kernel
def scan_message(buffer: np.ndarray, start: int, state: np.ndarray) -> int:
    """Position after the JSON value that ends in `buffer[start:]`, or -1 while it is incomplete.

    `state` is int64[3] and survives calls: nesting depth, inside a string, after a backslash. Only
    brackets outside strings count; whether the value is valid JSON is the reader's concern.
    """
    depth, inside, escaped = state[0], state[1], state[2]
    for position in range(start, buffer.shape[0]):
        byte = buffer[position]
        if inside == 1:
            if escaped == 1:
                escaped = 0
            elif byte == BACKSLASH:
                escaped = 1
            elif byte == QUOTE:
                inside = 0
        elif byte == QUOTE:
            inside = 1
        elif byte in (OPEN_BRACE, OPEN_BRACKET):
            depth += 1
        elif byte in (CLOSE_BRACE, CLOSE_BRACKET):
            depth -= 1
            if depth <= 0:
                state[0], state[1], state[2] = 0, 0, 0
                return position + 1
    state[0], state[1], state[2] = depth, inside, escaped
    return -1


class _IpcProtocol(asyncio.Protocol):
    """Cuts the byte stream into JSON values: IPC has no frames."""

    def __init__(self, max_bytes: int, on_frame: OnFrame, on_lost: OnLost) -> None:
        self._max_bytes = max_bytes
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._scanned = 0
        self._state = np.zeros(3, np.int64)
        self._transport: asyncio.Transport | None = None
        self._closed_by_us = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, same methods

    def data_received(self, data: bytes) -> None:
        received_ns = time.perf_counter_ns()
        self._buffer += data
        for payload in self._cut():
            self._on_frame(payload, received_ns)
        if len(self._buffer) > self._max_bytes and self._transport is not None:
            self._transport.abort()

    def _cut(self) -> list[bytes]:
        payloads = []
        content = bytes(self._buffer)
        view = np.frombuffer(content, np.uint8)
        begin = 0
        while (end := scan_message(view, self._scanned, self._state)) >= 0:
            payloads.append(content[begin:end])
            begin = self._scanned = end
        del self._buffer[:begin]
        self._scanned = len(self._buffer)
        return payloads

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed_by_us:
            self._on_lost()

    def send(self, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.write(payload)

    def close(self) -> None:
        self._closed_by_us = True
        if self._transport is not None:
            self._transport.abort()


async def open_ipc(config: NodeConfig, on_frame: OnFrame, on_lost: OnLost) -> Transport:
    """Connect to `config.ipc_path`; OSError when that fails."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_unix_connection(
        lambda: _IpcProtocol(config.max_frame_bytes, on_frame, on_lost), config.ipc_path
    )
    return protocol
