"""`python -m devnet`: the local chain world alone, for any client, until Ctrl-C or --duration."""

from __future__ import annotations

from terminal import begin, ended

if __name__ == "__main__":
    begin("devnet")  # before the heavy imports: they take seconds

import signal
import sys
import time
from types import FrameType

import devnet
from configs.reading import read_or_exit
from devnet.anvil import NodeStartError
from devnet.artifacts import ArtifactError
from devnet.config import DevnetConfig
from devnet.local import Running
from devnet.rpc import Rpc, RpcError
from devnet.world import DeploymentError


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _watch(url: str, seconds: float) -> None:
    """Wait, and raise RpcError when the node no longer answers."""
    rpc, ends_at = Rpc(url), time.monotonic() + seconds
    try:
        while (left := ends_at - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            rpc.call("eth_blockNumber")
    finally:
        rpc.close()


def _describe(world: Running, config: DevnetConfig) -> str:
    manifest = world.manifest
    lines = [
        f"chain {manifest['chain_id']}, a block every {manifest['slot_s']} s",
        f"websocket {world.ws_url}   http {world.http_url}   ipc {world.ipc_path}",
        f"executor  {manifest['executor']['address']} owned by {manifest['executor']['owner']}",
        *(f"{token['symbol']:<9} {token['address']}" for token in manifest["tokens"]),
        *(
            f"{e['name']:<9} router {e['router']} factory {e['factory']}"
            for e in manifest["exchanges"]
        ),
        f"{len(manifest['pools'])} pools; all addresses in {config.manifest}",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the world; 2 when it cannot start."""
    config = read_or_exit(DevnetConfig, "python -m devnet", sys.argv[1:], __doc__)
    signal.signal(signal.SIGTERM, _end)
    try:
        with devnet.running(config) as world:
            print(_describe(world, config), flush=True)
            _watch(world.http_url, config.duration or config.lifetime)
    except KeyboardInterrupt:
        return 0
    except RpcError as error:
        print(f"python -m devnet: the node is gone: {error}", file=sys.stderr)
        return 1
    except (ValueError, ArtifactError, NodeStartError, DeploymentError) as error:
        print(f"python -m devnet: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    ended("devnet", main)
