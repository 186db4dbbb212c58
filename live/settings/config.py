"""What a server is told: typed settings with their reasons, and the one error that ends a start.

A key is never among them, only the name of the place that holds it (design: secrets are named).
"""

import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from configs.settings import Count, Natural, NonNegative, Range, Settings

GWEI = 10**9
ETHER = 10**18
# A node may answer with any size; a full pending transaction is at most 128 KiB on Ethereum
# (geth's txMaxSize), which is 256 KiB of hex, and a head's logs of tracked pairs are far smaller.
DEFAULT_MAX_FRAME_BYTES = 4 << 20
Timeout = Annotated[float, Range(0.1)]


class StartError(Exception):
    """The server cannot start: the message names the field, its value and the remedy."""


@dataclass(frozen=True)
class NodeConfig(Settings):
    """Where blocks and pending transactions come from."""

    url: str = ""
    """Websocket address of the node (ws:// or wss://); empty: the server has no node of its own."""
    ipc_path: str = ""
    """Unix socket of the same node; used instead of the websocket when it is given."""
    chain_id: Count = 31337
    """Chain that the node must serve; any other one is refused."""
    connect_timeout_s: Timeout = 5.0
    """How long a connection and each start-up answer may take."""
    request_timeout_s: Timeout = 5.0
    """After this an unanswered request counts as lost and the connection is renewed."""
    max_backoff_s: NonNegative = 5.0
    """Longest pause between two attempts to connect again."""
    max_frame_bytes: Annotated[int, Range(1 << 16)] = DEFAULT_MAX_FRAME_BYTES
    """A longer frame ends the connection: nothing from the network may fill the memory."""
    pool_snapshot: bool = False
    """Ask for the whole transaction pool (txpool_content) after connecting: small pools only."""

    def check(self) -> None:
        """An address of the right kind."""
        websocket = not self.url or urllib.parse.urlsplit(self.url).scheme in ("ws", "wss")
        self.require(websocket, "url", "a websocket address (ws:// or wss://)")


@dataclass(frozen=True)
class RiskLimits(Settings):
    """Bounds on what may be signed; a plan outside any of them is journalled and not sent."""

    max_input_wei: Natural = 20 * ETHER
    """Most WETH that one plan may swap."""
    max_bid_wei: Natural = ETHER
    """Most that one plan may pay to the block's proposer."""
    max_gas_cost_wei: Natural = ETHER // 50
    """Most that one plan's gas may cost if it uses its whole gas limit."""
    min_net_wei: Count = ETHER // 100_000
    """Least profit after gas, before the bid: smaller plans are noise."""
    max_open: Count = 4
    """Most plans that wait for inclusion at the same time (the policy sees four opportunities)."""
    max_loss_per_hour_wei: Natural = ETHER // 5
    """Gas of failures plus negative profits within an hour that stops all sending."""
    kill_switch: Path = Path("runs/STOP")
    """While this file exists nothing is sent."""


@dataclass(frozen=True)
class EngineConfig(Settings):
    """How plans are priced."""

    own_tip_wei: Natural = 1_000_000
    """First tip of a plan, in wei per gas: far below users' tips, so that it lands after them."""
    fee_bump_percent: Annotated[float, Range(12.5)] = 12.5
    """Rise of both fees when a plan replaces one of the same nonce (nodes ask for 10 or 12.5)."""
    gas_limit_margin: Annotated[float, Range(1.0)] = 1.1
    """Gas limit over expected gas (itself an upper bound): blocks are filled by limits."""


@dataclass(frozen=True)
class ServeConfig(Settings):
    """Everything `serve.py` can be told."""

    node: NodeConfig = field(default_factory=NodeConfig)
    risk: RiskLimits = field(default_factory=RiskLimits)
    engine: EngineConfig = field(default_factory=EngineConfig)
    policy: Path = Path("runs/latest/policy")
    """Folder of the frozen policy."""
    deployment: Path = Path("")
    """JSON with the chain's tokens, pools, routers and our executor; the local chain writes it."""
    key: str = ""
    """Where the key is: `env:NAME`, or the path of a keystore file. Never the key itself."""
    key_password: str = "env:SEARCHER_PASSWORD"
    """Where the password of a keystore file is: `env:NAME`."""
    dry_run: bool = True
    """Decide, sign and journal, but send nothing."""
    state_dir: Path = Path("runs/state")
    """Folder of the journals (one file per chain, executor and account)."""
    bars: Path = Path("")
    """Bar file (Parquet or CSV) that warms up the volatility forecast; empty: none."""
    duration: NonNegative = 0.0
    """Seconds to serve; 0: until interrupted."""
    report: Path = Path("")
    """Where the summary goes; empty: next to the journal."""
    local_chain: Path = Path("")
    """Configuration of the local chain that is started when `node.url` is empty."""

    def check(self) -> None:
        """Nothing is sent without a key."""
        named = bool(self.key) or self.dry_run
        self.require(named, "key", "the variable that holds it, for example env:SEARCHER_KEY")
