"""Starts anvil, the local Ethereum node, from its npm package, and ends it whatever happens to the
program that started it."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from devnet.artifacts import anvil_binary
from devnet.config import MNEMONIC, AnvilConfig
from devnet.guard import guarded, stop
from devnet.rpc import Rpc, RpcError

READY_TIMEOUT_S = 20.0
PORT_ATTEMPTS = 5
# Deployment needs room; the configured limit applies once the world stands.
DEPLOYMENT_GAS_LIMIT = 100_000_000
# Nobody's account: what it earns is exactly what blocks paid.
COINBASE = to_checksum_address("0x" + b"coinbase".rjust(20, b"\0").hex())


class NodeStartError(RuntimeError):
    """The node did not start; the message says why."""


@dataclass(frozen=True)
class Node:
    """Addresses of a running node: HTTP, websocket, and the path of its Unix socket."""

    http_url: str
    ws_url: str
    ipc_path: str


@contextmanager
def anvil(config: AnvilConfig, lifetime_s: float) -> Iterator[Node]:
    """Run a node until the block ends, this process dies, or `lifetime_s` has passed.

    Raises NodeStartError when it ends at once or is not ready within READY_TIMEOUT_S.
    """
    process, node = _start(config, lifetime_s)
    try:
        yield node
    finally:
        stop(process)


def _start(config: AnvilConfig, lifetime_s: float) -> tuple[subprocess.Popen[bytes], Node]:
    reason = ""
    for _ in range(1 if config.port else PORT_ATTEMPTS):
        port = config.port or _free_port()
        # a short path, because Unix sockets take about 100 characters; the guard deletes it
        folder = tempfile.mkdtemp(prefix="mevrl-")
        ipc_path = os.path.join(folder, "ipc")
        node = Node(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}", ipc_path)
        command = guarded(_command(config, port, ipc_path), lifetime_s, folder)
        with tempfile.TemporaryFile() as log:
            # its own session: Ctrl-C ends the program, which ends the node after its last reads
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            try:
                if _wait_until_ready(process, node):
                    return process, node
            except BaseException:
                stop(process)
                raise
            log.seek(0)
            reason = log.read()[-500:].decode(errors="replace").strip()
    raise NodeStartError(
        f"anvil did not start on port {config.port or 'any'}: {reason or 'no message'}; "
        "choose another anvil.port, or 0 for any free one"
    )


def _command(config: AnvilConfig, port: int, ipc_path: str) -> list[str]:
    options: dict[str, object] = {
        "--host": "127.0.0.1",
        "--port": port,
        "--ipc": ipc_path,
        "--chain-id": config.chain_id,
        "--mnemonic": MNEMONIC,
        "--accounts": config.accounts,
        "--balance": config.balance_eth,
        "--order": config.order,
        "--block-time": config.slot_s,
        "--block-base-fee-per-gas": config.base_fee_wei,
        "--gas-limit": DEPLOYMENT_GAS_LIMIT,
    }
    pairs = [text for item in options.items() for text in map(str, item)]
    return [str(anvil_binary()), *pairs, "--quiet"]


def _free_port() -> int:
    # another program may take it before anvil does: the caller tries again
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(process: subprocess.Popen[bytes], node: Node) -> bool:
    """Whether our node answers; False when it ended, for example because the port was taken.

    The Unix socket lies in our own folder and appears only after the port was bound: without it,
    what answers on the port could be somebody else's node.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not os.path.exists(node.ipc_path):
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            raise NodeStartError(f"anvil is not ready within {READY_TIMEOUT_S:.0f} s")
        time.sleep(0.01)
    rpc = Rpc(node.http_url, timeout_s=READY_TIMEOUT_S)
    try:
        rpc.call("eth_blockNumber")
        rpc.call("anvil_setCoinbase", COINBASE)
    except RpcError as error:
        raise NodeStartError(f"anvil started but does not answer: {error}") from error
    finally:
        rpc.close()
    return True
