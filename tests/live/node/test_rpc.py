"""The connection to a node, against a real websocket server and a real Unix socket in this process:
answers find their questions, losses are noticed and repaired, hostile frames do no harm."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from live.node.rpc import Answer, Node, NodeError
from live.node.transport import scan_message
from live.settings.config import NodeConfig

# Bounds of what is waited for; a busy machine answers late.
PATIENCE_S, SILENCE_S = 120.0, 0.4

Reply = Callable[[WSTransport, dict[str, Any]], None]


class Peer(WSListener):
    """One accepted connection; `reply` is what this node does with a request."""

    def __init__(self, reply: Reply, open_connections: list[WSTransport]) -> None:
        self._reply = reply
        self._open = open_connections

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._open.append(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self._reply(transport, json.loads(frame.get_payload_as_bytes()))


def answer(transport: WSTransport, request: dict[str, Any], result: object) -> None:
    body = {"jsonrpc": "2.0", "id": request["id"], "result": result}
    transport.send(WSMsgType.TEXT, json.dumps(body).encode())


@asynccontextmanager
async def peer(
    reply: Reply, request_timeout_s: float = PATIENCE_S
) -> AsyncIterator[tuple[NodeConfig, list[WSTransport]]]:
    """A websocket server on a free port of this machine."""
    connections: list[WSTransport] = []

    def accept(request: WSUpgradeRequest) -> WSListener:
        return Peer(reply, connections)

    server = await ws_create_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = NodeConfig(
        url=f"ws://127.0.0.1:{port}",
        connect_timeout_s=PATIENCE_S,
        request_timeout_s=request_timeout_s,
        max_backoff_s=0.1,
        max_frame_bytes=1 << 16,
    )
    try:
        yield config, connections
    finally:
        for connection in connections:
            connection.disconnect()
        server.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()
        await asyncio.sleep(0.05)  # closed connections are taken down by the loop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@asynccontextmanager
async def serving(
    node: Node, on_connected: Callable[[], Awaitable[None]], lost: list[int]
) -> AsyncIterator[None]:
    task = asyncio.create_task(node.serve(on_connected, lambda: lost.append(1)))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        node.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for an event; `run` bounds it."""
    while not true():
        await asyncio.sleep(0.01)


async def nothing() -> None:
    return


def test_answers_find_their_questions_in_any_order() -> None:
    held: list[tuple[WSTransport, dict[str, Any]]] = []

    def reply(transport: WSTransport, request: dict[str, Any]) -> None:
        held.append((transport, request))
        if len(held) == 3:
            for waiting, question in reversed(held):
                answer(waiting, question, question["params"][0])

    async def scenario() -> None:
        async with peer(reply) as (config, _):
            node = Node(config)
            await node.connect()
            results = await asyncio.gather(*(node.request("echo", i) for i in range(3)))
            assert [msgspec.json.decode(raw) for raw in results] == [0, 1, 2]
            node.close()

    run(scenario)


def test_an_error_names_method_and_reason_and_counts_as_refusal() -> None:
    def reply(transport: WSTransport, request: dict[str, Any]) -> None:
        body = {"id": request["id"], "error": {"code": -32602, "message": "unknown variant"}}
        transport.send(WSMsgType.TEXT, json.dumps(body).encode())

    async def scenario() -> None:
        async with peer(reply) as (config, _):
            node = Node(config)
            await node.connect()
            with pytest.raises(NodeError, match=r"eth_callMany: unknown variant \(code -32602\)"):
                await node.request("eth_callMany")
            answers: list[Answer] = []
            node.send("eth_sendRawTransaction", ("0x",), answers.append)
            await until(lambda: len(answers) == 1)
            assert answers[0].refused
            node.close()
            node.send("eth_sendRawTransaction", ("0x",), answers.append)
            assert answers[1].fault == "not connected"
            assert not answers[1].refused

    run(scenario)


def test_a_notification_may_overtake_the_answer_that_names_it() -> None:
    def reply(transport: WSTransport, request: dict[str, Any]) -> None:
        params = {"subscription": "0x5", "result": {"n": 1}}
        body = {"method": "eth_subscription", "params": params}
        transport.send(WSMsgType.TEXT, json.dumps(body).encode())
        answer(transport, request, "0x5")

    async def scenario() -> None:
        async with peer(reply) as (config, _):
            node, seen = Node(config), []
            await node.connect()
            await node.subscribe(lambda raw, at: seen.append(msgspec.json.decode(raw)), "newHeads")
            assert seen == [{"n": 1}]
            node.close()

    run(scenario)


def test_a_lost_connection_is_renewed_and_open_questions_are_answered() -> None:
    asked: list[str] = []

    def reply(transport: WSTransport, request: dict[str, Any]) -> None:
        asked.append(request["method"])
        if request["method"] == "echo":
            answer(transport, request, "here")

    async def scenario() -> None:
        async with peer(reply) as (config, connections):
            node, lost = Node(config), []
            await node.connect()
            async with serving(node, nothing, lost):
                waiting = node.request("never")
                await until(lambda: asked == ["never"])
                connections[-1].disconnect()
                with pytest.raises(NodeError, match="connection lost"):
                    await waiting
                await until(lambda: node.reconnects == 1)
                assert msgspec.json.decode(await node.request("echo")) == "here"
                assert (node.reconnects, len(lost)) == (1, 1)

    run(scenario)


def test_silence_renews_the_connection() -> None:
    async def scenario() -> None:
        silent = peer(lambda transport, request: None, SILENCE_S)
        async with silent as (config, connections):
            node, lost = Node(config), []
            await node.connect()
            async with serving(node, nothing, lost):
                with pytest.raises(NodeError, match="connection lost"):
                    await node.request("never")
                await until(lambda: len(connections) >= 2)
            assert node.timeouts >= 1

    run(scenario)


@pytest.mark.parametrize("fragments", [1, 3])
def test_a_frame_over_the_limit_ends_the_connection(fragments: int) -> None:
    def reply(transport: WSTransport, request: dict[str, Any]) -> None:
        size = (1 << 17) // fragments
        for part in range(fragments):
            kind = WSMsgType.TEXT if part == 0 else WSMsgType.CONTINUATION
            transport.send(kind, b"x" * size, fin=part == fragments - 1)

    async def scenario() -> None:
        async with peer(reply) as (config, _):
            node = Node(config)
            await node.connect()
            with pytest.raises(NodeError, match="connection lost"):
                await node.request("flood")
            assert node.frames == 0

    run(scenario)


def test_fragments_are_put_together() -> None:
    def reply(transport: WSTransport, request: dict[str, Any]) -> None:
        body = json.dumps({"id": request["id"], "result": "abc"}).encode()
        transport.send(WSMsgType.TEXT, body[:7], fin=False)
        transport.send(WSMsgType.CONTINUATION, body[7:12], fin=False)
        transport.send(WSMsgType.CONTINUATION, body[12:], fin=True)

    async def scenario() -> None:
        async with peer(reply) as (config, _):
            node = Node(config)
            await node.connect()
            assert msgspec.json.decode(await node.request("parts")) == "abc"
            node.close()

    run(scenario)


def test_a_node_that_is_not_there() -> None:
    async def scenario() -> None:
        node = Node(NodeConfig(url="ws://127.0.0.1:9", connect_timeout_s=1.0))
        with pytest.raises(NodeError):
            await node.connect()

    run(scenario)


def test_ipc_carries_the_same_messages(tmp_path: Path) -> None:
    path = str(tmp_path / "ipc")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = ""
        while data := await reader.read(4096):
            buffer += data.decode()
            try:
                request = json.loads(buffer)
            except ValueError:
                continue  # more is coming
            buffer = ""
            body = json.dumps({"id": request["id"], "result": request["params"]}).encode()
            for part in (body[:9], body[9:]):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.005)
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_unix_server(handle, path)
        node = Node(NodeConfig(ipc_path=path))
        await node.connect()
        texts = ['{"a": "}"}', '\\" ]', "x" * 9000]
        for text in texts:
            assert msgspec.json.decode(await node.request("echo", text)) == [text]
        node.close()
        await asyncio.sleep(0.05)
        server.close()
        await server.wait_closed()

    run(scenario)


messages = st.lists(
    st.dictionaries(st.text(max_size=6), st.text(max_size=12) | st.integers(), max_size=3)
    | st.lists(st.text(max_size=6), max_size=3),
    min_size=1,
    max_size=5,
)


@given(messages, st.lists(st.integers(1, 40), min_size=1, max_size=20), st.sampled_from(["", "\n"]))
def test_scanning_cuts_where_json_values_end(
    values: list[Any], sizes: list[int], separator: str
) -> None:
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    stream = separator.join(texts).encode()
    state, buffer, scanned, found = np.zeros(3, np.int64), b"", 0, []
    at = 0
    while at < len(stream):
        size = sizes[len(found) % len(sizes)]
        buffer += stream[at : at + size]
        at += size
        while (end := scan_message(np.frombuffer(buffer, np.uint8), scanned, state)) >= 0:
            found.append(json.loads(buffer[:end]))
            buffer, scanned = buffer[end:], 0
        scanned = len(buffer)
    assert found == values
