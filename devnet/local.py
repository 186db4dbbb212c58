"""Brings the local chain world up and takes it down: node, deployment, manifest, traffic."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from devnet.accounts import searcher_key
from devnet.anvil import anvil
from devnet.config import DevnetConfig
from devnet.guard import stop
from devnet.rpc import Rpc
from devnet.world import deploy, save

SPARE_S = 60.0  # beyond the duration, for start and end


@dataclass(frozen=True)
class Running:
    """A running world: addresses of the node, the manifest as plain JSON values, and the key of
    the executor's owner (public: it comes from the development mnemonic)."""

    http_url: str
    ws_url: str
    ipc_path: str
    manifest: dict[str, Any]
    searcher_key: str


@contextmanager
def running(config: DevnetConfig) -> Iterator[Running]:
    """Run node and traffic until the block ends or this process dies, whatever comes first.

    The manifest (World.manifest plus http_url, ws_url, ipc_path) is written to `config.manifest`
    before traffic starts. Raises ValueError, ArtifactError, NodeStartError or DeploymentError.
    """
    lifetime_s = max(config.lifetime, config.duration + SPARE_S)
    with anvil(config.anvil, lifetime_s) as node:
        rpc = Rpc(node.http_url)
        try:
            world = deploy(rpc, config.world, config.anvil)
        finally:
            rpc.close()
        manifest = {**world.manifest(), **asdict(node)}
        save(manifest, config.manifest)
        traffic = _start_traffic(config)
        try:
            yield Running(**asdict(node), manifest=manifest, searcher_key=searcher_key())
        finally:
            stop(traffic)


def _start_traffic(config: DevnetConfig) -> subprocess.Popen[bytes]:
    options = {
        "--manifest": config.manifest.resolve(),
        "--base_fee_wei": config.anvil.base_fee_wei,
        **{f"--traffic.{name}": getattr(config.traffic, name) for name in asdict(config.traffic)},
    }
    command = [sys.executable, "-m", "devnet.traffic"]
    # its own session: Ctrl-C reaches the program, which then ends the traffic
    return subprocess.Popen(
        [*command, *(f"{name}={value}" for name, value in options.items())],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
