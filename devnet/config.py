"""What the local chain world may be told: one dataclass per part, with the why of each default."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from configs.reading import read_file
from configs.settings import Natural, NonNegative, Range, Settings, Share

GWEI = 10**9
# The mnemonic every development node ships with: its keys are public and worth nothing.
MNEMONIC = "test test test test test test test test test test test junk"
# The node orders a block by maxFeePerGas, not by what is paid. When everybody signs this ceiling
# plus the tip, both orders are the same; the base fee never gets near the ceiling.
FEE_CEILING_WEI = 200 * GWEI
MAX_EXCHANGES = 4
ROLES = 3  # the first accounts: deployer, searcher, informed trader
BaseFee = Annotated[int, Range(7, FEE_CEILING_WEI // 10)]
SwapSize = Annotated[float, Range(1e-9, 1.0)]  # fraction of a reserve


@dataclass(frozen=True)
class AnvilConfig(Settings):
    """The node."""

    port: Annotated[int, Range(0, 65535)] = 0
    """TCP port on 127.0.0.1 for HTTP and websocket; 0: any free one"""
    slot_s: Annotated[float, Range(0.1)] = 2.0
    """seconds between blocks; short, so that a minute holds 30 auctions"""
    order: Literal["fees", "fifo"] = "fees"
    """order inside a block: by maxFeePerGas (equal ones by arrival), or by arrival alone"""
    chain_id: Annotated[int, Range(1)] = 31337
    """chain id that transactions are signed for"""
    block_gas_limit: Annotated[int, Range(1_000_000)] = 1_800_000
    """gas limit of a block: about twice what default traffic uses, so that the base fee can rest"""
    base_fee_wei: BaseFee = GWEI
    """base fee of the first block, and the one at which traffic has its stated intensity"""
    accounts: Annotated[int, Range(ROLES + 2, 1000)] = 24
    """funded accounts of the development mnemonic: three with roles, the rest are users"""
    balance_eth: Natural = 1_000_000
    """ETH that each account starts with"""


@dataclass(frozen=True)
class WorldConfig(Settings):
    """What is deployed: tokens, and V2 pools with liquidity at consistent prices."""

    weth_usd: Annotated[float, Range(1e-3)] = 3000.0
    """price of one WETH at the start"""
    wbtc_usd: Annotated[float, Range(1e-3)] = 90_000.0
    """price of one WBTC at the start"""
    depth_weth: tuple[Annotated[float, Range(0.1)], ...] = (600.0, 250.0)
    """value of one side of each pool, in WETH, per exchange (a deep one and its fork)"""
    executor_weth: NonNegative = 200.0
    """WETH that the executor starts with: the largest input of a plan"""
    user_weth: Annotated[float, Range(1.0)] = 20_000.0
    """value of each token that every user starts with, in WETH; large, so that none runs dry"""

    def check(self) -> None:
        """As many exchanges as can be deployed."""
        fits = 1 <= len(self.depth_weth) <= MAX_EXCHANGES
        self.require(fits, "depth_weth", f"1 to {MAX_EXCHANGES} exchanges")


@dataclass(frozen=True)
class TrafficConfig(Settings):
    """How users and the informed trader behave."""

    seed: Natural = 0
    """seed of everything random in the traffic"""
    swaps_per_slot: NonNegative = 6.0
    """mean of the users' Poisson arrivals per slot when the base fee is the configured one"""
    fee_elasticity: NonNegative = 0.5
    """arrivals go with base_fee^-elasticity: cheap blocks attract users, as on Ethereum"""
    size_median: SwapSize = 0.0008
    """median of a swap's size, as a fraction of the first pool's reserve"""
    size_sigma: NonNegative = 1.2
    """standard deviation of the log size: a heavy tail, so that most value is in few back-runs"""
    size_max: SwapSize = 0.05
    """largest fraction; nobody sane moves a pool by more than 10 %"""
    multi_hop_share: Share = 0.25
    """share of swaps whose path has two pools"""
    slippage_median: Share = 0.005
    """median slippage tolerance: the default of most front ends"""
    slippage_sigma: NonNegative = 0.7
    """standard deviation of the log tolerance"""
    deadline_s: NonNegative = 600.0
    """how long a swap stays valid on average (exponential, at least two slots)"""
    tip_median_gwei: Annotated[float, Range(0.0, 1000.0)] = 0.5
    """median priority fee"""
    tip_sigma: Annotated[float, Range(0.0, 5.0)] = 1.0
    """standard deviation of the log priority fee"""
    reference_sigma: Annotated[float, Range(0.0, 0.1)] = 0.0003
    """standard deviation of the reference price's log change per slot"""
    reference_half_life_slots: Annotated[float, Range(1.0)] = 300.0
    """half-life of the reference price's return to its start: prices stay bounded over hours"""
    informed_rate: NonNegative = 1.0
    """mean times per slot that the informed trader acts (Poisson)"""
    informed_swaps: Natural = 4
    """most pools the informed trader corrects when acting"""
    informed_band: NonNegative = 0.0005
    """deviation beyond the pool's fee that is worth correcting"""


@dataclass(frozen=True)
class DevnetConfig(Settings):
    """The local chain world."""

    anvil: AnvilConfig = field(default_factory=AnvilConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    traffic: TrafficConfig = field(default_factory=TrafficConfig)
    duration: NonNegative = 0.0
    """seconds to run; 0: until interrupted"""
    lifetime: Annotated[float, Range(1.0)] = 6 * 3600.0
    """seconds after which the node ends in any case"""
    manifest: Path = Path("runs/devnet.json")
    """where the deployment (addresses, tokens, pools) is written"""

    def check(self) -> None:
        """Balances that pay for what is deployed."""
        world = self.world
        # three pairs of each exchange hold WETH
        needed = world.user_weth + world.executor_weth + 1000 + 3 * sum(world.depth_weth)
        enough = self.anvil.balance_eth >= needed
        self.require(enough, "anvil.balance_eth", f"at least {needed:g}, what the world holds")


@dataclass(frozen=True)
class TrafficProcess(Settings):
    """What the traffic process is told."""

    manifest: Path
    """written by python -m devnet"""
    duration: NonNegative = 0.0
    """seconds to run; 0: until the parent ends"""
    base_fee_wei: BaseFee = GWEI
    """base fee at which traffic has its stated intensity"""
    traffic: TrafficConfig = field(default_factory=TrafficConfig)


def load_config(path: Path) -> DevnetConfig:
    """Settings from a YAML file; ConfigError, a ValueError, naming file, key and value."""
    return read_file(DevnetConfig, path)
