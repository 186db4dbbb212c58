"""The configuration of a simulated market; each default names the fact it comes from, or says
assumed. The reference prices under it are `PricePaths`.
"""

from dataclasses import dataclass

import numpy as np

from envs.paths import PricePaths
from kernels.fees import DEFAULT_BASE_GAS, DEFAULT_HOP_GAS
from kernels.graph import Graph, build_graph

__all__ = ["MarketConfig", "PricePaths"]

RULES = 4  # of fixed bidding rules, see envs.rivals
SHOWN_PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class MarketConfig:
    """The market: tokens, pools, users, informed traders, gas and rivals."""

    episode_slots: int = 256
    """slots of 12 s per episode (about 51 minutes)"""
    symbols: tuple[str, ...] = ("WETH", "DAI", "USDC", "WBTC")
    """token names; the first is the hub, in which profit is counted"""
    decimals: tuple[int, ...] = (18, 18, 6, 8)
    """ERC-20 decimals of the tokens"""
    eth_exposure: tuple[float, ...] = (0.0, -1.0, -1.0, -1.0)
    """power of the ETH/USD price in a token's ETH price: -1 for a dollar token"""
    btc_exposure: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)
    """power of the BTC/USD price in a token's ETH price"""
    token0: tuple[int, ...] = (0, 0, 0, 1, 0, 0, 0, 1)
    """first token of each pool: two venues with the same four pairs"""
    token1: tuple[int, ...] = (1, 2, 3, 2, 1, 2, 3, 2)
    """second token of each pool"""
    fee_numerator: int = 997
    """what a pool keeps working of an input: Uniswap V2's 0.3 % fee"""
    fee_denominator: int = 1000
    """denominator of fee_numerator"""
    depth_eth: tuple[float, ...] = (2000.0, 4000.0, 2500.0, 2000.0, 1000.0, 2000.0, 1250.0, 1000.0)
    """median value of one side of each pool, ETH (assumed: V2 pools of 2021-2023)"""
    depth_sigma: float = 0.25
    """deviation of ln depth between episodes and pools (assumed)"""
    user_rate: float = 3.0
    """users' swaps per slot that trade in these pools, Poisson, at most 8 (assumed)"""
    user_size_median: float = 0.0035
    """median input as a fraction of the pool's reserve (fits the value law, see rival_...)"""
    user_size_sigma: float = 0.9
    """deviation of the ln of that fraction (heavy tail of values: ln v has deviation 1.59)"""
    user_size_max: float = 0.08
    """largest fraction of a reserve that one swap sells (slippage limits)"""
    private_share: float = 0.2
    """share of users' swaps that the agent does not see (20-21 % of user transactions)"""
    private_ahead_share: float = 0.5
    """share of those that land ahead of the bundles and can make them stale (assumed)"""
    tip_gwei: tuple[float, ...] = (0.0, 0.08, 0.81, 2.0, 33.0)
    """5/25/50/75/95 % of post-merge priority fees (8,759 transactions)"""
    swap_gas: int = 120_000
    """gas of a user's or an informed trader's swap"""
    informed_probability: float = 0.5
    """chance that a CEX-DEX trader watches a pool in a slot; below 1, arbitrage can stand"""
    informed_payment_bps: float = 3.1
    """what they pay the builder, of their volume: median of CEX-DEX arbitrage on 8 Aug 2023"""
    base_gas: int = DEFAULT_BASE_GAS
    """gas of an arbitrage outside its pools"""
    gas_per_hop: int = DEFAULT_HOP_GAS
    """gas of one pool of an arbitrage"""
    own_tip_gwei: float = 1.0
    """priority fee of our transactions; the bid comes on top"""
    base_fee_median_gwei: float = 15.0
    """base fee around which demand balances (range seen: 0.045 to 1,352)"""
    base_fee_sigma: float = 0.5
    """deviation of ln base fee between episodes (assumed)"""
    gas_limit: int = 30_000_000
    """block gas limit of 2023"""
    gas_used_ratio: tuple[float, ...] = (0.64, 0.81, 0.95, 1.13, 1.63)
    """5/25/50/75/95 % of gas used / target, May 2023"""
    gas_elasticity: float = 0.2
    """how far gas used falls when the base fee is twice its median (assumed)"""
    regime_stay_slots: float = 70.0
    """mean stay in a competition regime: about 50 auctions of a searcher (assumed, scenario D)"""
    regime_size_factor: tuple[float, ...] = (0.75, 1.0, 1.3)
    """users' sizes by regime: rivals gather where values are high (assumed, scenario D)"""
    rival_log_rate: tuple[float, ...] = (1.2, 1.4, 1.6)
    """ln of the mean number of rivals at a typical value, by regime; see min_mean_rivals"""
    rival_value_slope: float = 0.3
    """growth of that ln per deviation of ln value"""
    efficiency_a: tuple[float, ...] = (5.0, 8.0, 20.0)
    """Kumaraswamy a of rivals' valuation efficiency (captured / possible profit), by regime"""
    efficiency_b: tuple[float, ...] = (40.0, 14.0, 7.0)
    """Kumaraswamy b of it; with the rules, clearing medians near 0.43 / 0.68 / 0.92"""
    rule_weight: tuple[tuple[float, ...], ...] = (
        (0.45, 0.30, 0.20, 0.05),
        (0.35, 0.40, 0.10, 0.15),
        (0.15, 0.35, 0.05, 0.45),
    )
    """by regime: share of rivals bidding 80 %, 90 %, gross/1.25 clamped, true value"""
    clamp_gwei: tuple[float, ...] = (1.02, 1.81)
    """[p10 + 1, p50 + 1] of priority fees, the clamp of the third rule"""
    min_mean_rivals: float = 3.0
    """refuse configurations with fewer expected rivals: bidding near 0 would pay (free ride)"""

    def __post_init__(self) -> None:
        """Refuse values that the simulator cannot use; ValueError names field and remedy."""
        _check(self)

    @property
    def graph(self) -> Graph:
        """The token graph of the pools."""
        pools = len(self.token0)
        return build_graph(
            self.token0,
            self.token1,
            [self.fee_numerator] * pools,
            [self.fee_denominator] * pools,
            self.decimals,
            base_gas=self.base_gas,
            gas_per_hop=self.gas_per_hop,
        )


def _check_lengths(config: MarketConfig) -> None:
    tokens, pools = len(config.symbols), len(config.token0)
    regimes = len(config.rival_log_rate)
    for name, wanted in (
        ("decimals", tokens),
        ("eth_exposure", tokens),
        ("btc_exposure", tokens),
        ("token1", pools),
        ("depth_eth", pools),
        ("tip_gwei", len(SHOWN_PROBABILITIES)),
        ("gas_used_ratio", len(SHOWN_PROBABILITIES)),
        ("regime_size_factor", regimes),
        ("efficiency_a", regimes),
        ("efficiency_b", regimes),
        ("rule_weight", regimes),
        ("clamp_gwei", 2),
    ):
        if len(getattr(config, name)) != wanted:
            raise ValueError(f"{name} has {len(getattr(config, name))} entries: give {wanted}")
    for name in ("tip_gwei", "gas_used_ratio", "clamp_gwei"):
        if np.any(np.diff(getattr(config, name)) < 0.0):
            raise ValueError(f"{name} is {getattr(config, name)}: quantiles must not fall")


def _check(config: MarketConfig) -> None:
    _check_lengths(config)
    positive = (
        "episode_slots user_rate user_size_median user_size_sigma base_fee_median_gwei "
        "gas_limit swap_gas base_gas gas_per_hop"
    )
    for name in positive.split():
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} is {getattr(config, name)}: it must be above 0")
    for name in ("private_share", "private_ahead_share", "informed_probability"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"{name} is {getattr(config, name)}: give a share from 0 to 1")
    if not config.user_size_median < config.user_size_max < 1.0:
        raise ValueError(f"user_size_max is {config.user_size_max}: above the median, below 1")
    if config.regime_stay_slots < 1.0:
        raise ValueError(f"regime_stay_slots is {config.regime_stay_slots}: at least one slot")
    if min(config.depth_eth) <= 0.0:
        raise ValueError(f"depth_eth holds {min(config.depth_eth)}: pools need reserves")
    if config.eth_exposure[0] != 0.0 or config.btc_exposure[0] != 0.0:
        raise ValueError("eth_exposure and btc_exposure of the first token, the hub, must be 0")
    for weights in config.rule_weight:
        if len(weights) != RULES or min(weights) < 0.0 or abs(sum(weights) - 1.0) > 1e-9:
            raise ValueError(f"rule_weight {weights}: give {RULES} shares that sum to 1")
    rivals = float(np.exp(min(config.rival_log_rate)))
    if rivals < config.min_mean_rivals:
        raise ValueError(
            f"rival_log_rate gives {rivals:.2f} rivals on average in the calmest regime: with "
            f"fewer than min_mean_rivals = {config.min_mean_rivals} a bid near 0 often wins "
            "unopposed (free ride) and nothing is learned; raise rival_log_rate"
        )
