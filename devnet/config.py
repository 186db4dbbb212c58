"""What the local chain world may be told: one dataclass per part, with the why of each default."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonargparse

GWEI = 10**9
# The mnemonic every development node ships with: its keys are public and worth nothing.
MNEMONIC = "test test test test test test test test test test test junk"
# The node orders a block by maxFeePerGas, not by what is paid. When everybody signs this ceiling
# plus the tip, both orders are the same; the base fee never gets near the ceiling.
FEE_CEILING_WEI = 200 * GWEI
MAX_EXCHANGES = 4
ROLES = 3  # the first accounts: deployer, searcher, informed trader


@dataclass
class AnvilConfig:
    """The node."""

    port: int = 0
    """TCP port on 127.0.0.1 for HTTP and websocket; 0: any free one"""
    slot_s: float = 2.0
    """seconds between blocks; short, so that a minute holds 30 auctions"""
    order: Literal["fees", "fifo"] = "fees"
    """order inside a block: by maxFeePerGas (equal ones by arrival), or by arrival alone"""
    chain_id: int = 31337
    """chain id that transactions are signed for"""
    block_gas_limit: int = 1_800_000
    """gas limit of a block: about twice what default traffic uses, so that the base fee can rest"""
    base_fee_wei: int = GWEI
    """base fee of the first block, and the one at which traffic has its stated intensity"""
    accounts: int = 24
    """funded accounts of the development mnemonic: three with roles, the rest are users"""
    balance_eth: int = 1_000_000
    """ETH that each account starts with"""


@dataclass
class WorldConfig:
    """What is deployed: tokens, and V2 pools with liquidity at consistent prices."""

    weth_usd: float = 3000.0
    """price of one WETH at the start"""
    wbtc_usd: float = 90_000.0
    """price of one WBTC at the start"""
    depth_weth: tuple[float, ...] = (600.0, 250.0)
    """value of one side of each pool, in WETH, per exchange (a deep one and its fork)"""
    executor_weth: float = 200.0
    """WETH that the executor starts with: the largest input of a plan"""
    user_weth: float = 20_000.0
    """value of each token that every user starts with, in WETH; large, so that none runs dry"""


@dataclass
class TrafficConfig:
    """How users and the informed trader behave."""

    seed: int = 0
    """seed of everything random in the traffic"""
    swaps_per_slot: float = 6.0
    """mean of the users' Poisson arrivals per slot when the base fee is the configured one"""
    fee_elasticity: float = 0.5
    """arrivals go with base_fee^-elasticity: cheap blocks attract users, as on Ethereum"""
    size_median: float = 0.0008
    """median of a swap's size, as a fraction of the first pool's reserve"""
    size_sigma: float = 1.2
    """standard deviation of the log size: a heavy tail, so that most value is in few back-runs"""
    size_max: float = 0.05
    """largest fraction; nobody sane moves a pool by more than 10 %"""
    multi_hop_share: float = 0.25
    """share of swaps whose path has two pools"""
    slippage_median: float = 0.005
    """median slippage tolerance: the default of most front ends"""
    slippage_sigma: float = 0.7
    """standard deviation of the log tolerance"""
    deadline_s: float = 600.0
    """how long a swap stays valid on average (exponential, at least two slots)"""
    tip_median_gwei: float = 0.5
    """median priority fee"""
    tip_sigma: float = 1.0
    """standard deviation of the log priority fee"""
    reference_sigma: float = 0.0003
    """standard deviation of the reference price's log change per slot"""
    reference_half_life_slots: float = 300.0
    """half-life of the reference price's return to its start: prices stay bounded over hours"""
    informed_rate: float = 1.0
    """mean times per slot that the informed trader acts (Poisson)"""
    informed_swaps: int = 4
    """most pools the informed trader corrects when acting"""
    informed_band: float = 0.0005
    """deviation beyond the pool's fee that is worth correcting"""


@dataclass
class DevnetConfig:
    """The local chain world."""

    anvil: AnvilConfig = field(default_factory=AnvilConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    traffic: TrafficConfig = field(default_factory=TrafficConfig)
    duration: float = 0.0
    """seconds to run; 0: until interrupted"""
    lifetime: float = 6 * 3600.0
    """seconds after which the node ends in any case"""
    manifest: Path = Path("runs/devnet.json")
    """where the deployment (addresses, tokens, pools) is written"""


@dataclass
class TrafficProcess:
    """What the traffic process is told."""

    manifest: Path
    """written by python -m devnet"""
    duration: float = 0.0
    """seconds to run; 0: until the parent ends"""
    base_fee_wei: int = GWEI
    """base fee at which traffic has its stated intensity"""
    traffic: TrafficConfig = field(default_factory=TrafficConfig)


def load_config(path: Path) -> DevnetConfig:
    """Settings from a YAML file; ValueError naming the key that is unknown or has a wrong type."""
    try:
        config: Any = jsonargparse.auto_cli(
            DevnetConfig, as_positional=False, args=["--config", str(path)], exit_on_error=False
        )
    except argparse.ArgumentError as error:
        raise ValueError(f"{path}: {error}") from error
    return config


def check(config: DevnetConfig) -> None:
    """Raise ValueError naming the first field whose value makes no sense, and the remedy."""
    anvil, world, traffic = config.anvil, config.world, config.traffic
    needed_eth = world.user_weth + world.executor_weth + 1000
    needed_eth += 3 * sum(world.depth_weth)  # three pairs of each exchange hold WETH
    most = float("inf")
    for name, value, least, largest in (
        ("anvil.port", anvil.port, 0, 65535),
        ("anvil.slot_s", anvil.slot_s, 0.1, most),
        ("anvil.chain_id", anvil.chain_id, 1, most),
        ("anvil.block_gas_limit", anvil.block_gas_limit, 1_000_000, most),
        ("anvil.base_fee_wei", anvil.base_fee_wei, 7, FEE_CEILING_WEI // 10),
        ("anvil.accounts", anvil.accounts, ROLES + 2, 1000),
        ("anvil.balance_eth", anvil.balance_eth, needed_eth, most),
        ("world.weth_usd", world.weth_usd, 1e-3, most),
        ("world.wbtc_usd", world.wbtc_usd, 1e-3, most),
        ("world.executor_weth", world.executor_weth, 0.0, most),
        ("world.user_weth", world.user_weth, 1.0, most),
        ("world.depth_weth (number of exchanges)", len(world.depth_weth), 1, MAX_EXCHANGES),
        ("world.depth_weth (smallest)", min(world.depth_weth, default=0.0), 0.1, most),
        ("traffic.seed", traffic.seed, 0, most),
        ("traffic.swaps_per_slot", traffic.swaps_per_slot, 0.0, most),
        ("traffic.fee_elasticity", traffic.fee_elasticity, 0.0, most),
        ("traffic.size_median", traffic.size_median, 1e-9, 1.0),
        ("traffic.size_sigma", traffic.size_sigma, 0.0, most),
        ("traffic.size_max", traffic.size_max, 1e-9, 1.0),
        ("traffic.multi_hop_share", traffic.multi_hop_share, 0.0, 1.0),
        ("traffic.slippage_median", traffic.slippage_median, 0.0, 1.0),
        ("traffic.slippage_sigma", traffic.slippage_sigma, 0.0, most),
        ("traffic.deadline_s", traffic.deadline_s, 0.0, most),
        ("traffic.tip_median_gwei", traffic.tip_median_gwei, 0.0, 1000.0),
        ("traffic.tip_sigma", traffic.tip_sigma, 0.0, 5.0),
        ("traffic.reference_sigma", traffic.reference_sigma, 0.0, 0.1),
        ("traffic.reference_half_life_slots", traffic.reference_half_life_slots, 1.0, most),
        ("traffic.informed_rate", traffic.informed_rate, 0.0, most),
        ("traffic.informed_swaps", traffic.informed_swaps, 0, most),
        ("traffic.informed_band", traffic.informed_band, 0.0, most),
        ("duration", config.duration, 0.0, most),
        ("lifetime", config.lifetime, 1.0, most),
    ):
        if not (math.isfinite(value) and least <= value <= largest):
            bound = f"at least {least}" + (f" and at most {largest}" if largest < most else "")
            raise ValueError(f"{name} is {value}: it must be a number of {bound}")
