"""The configuration of a simulated market; each default names the fact it comes from, or says
assumed. The reference prices under it are `PricePaths`.
"""

from dataclasses import dataclass

import numpy as np

from envs.market.paths import PricePaths
from kernels.chain.fees import DEFAULT_BASE_GAS, DEFAULT_HOP_GAS
from kernels.graph.market_graph import Graph, build_graph
from kernels.market.tile import BORROWERS

__all__ = ["MarketConfig", "PricePaths"]

RULES = 5  # of bidding: four fixed ones and the equilibrium, see envs.market.rivals
STYLES = 5  # of public bidding, see envs.market.rivals
SHOWN_PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95)
GAS_PROBABILITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
REWARDS = ("marked", "settled", "fraction", "sqrt")


@dataclass(frozen=True)
class MarketConfig:
    """The market: tokens, pools, users, informed traders, lending, gas, auction and rivals."""

    episode_slots: int = 256
    """slots of 12 s per episode (about 51 minutes)"""
    ticks_per_slot: int = 3
    """decisions per slot: a bid can be placed, replaced or cancelled at each"""
    decision_lead_s: float = 0.6
    """seconds between the last decision and the block (builders end 0.1 to 0.5 s before it)"""
    reward: str = "marked"
    """marked: each decision earns the change of what our bid is worth; settled: the block pays;
    fraction: that over the net profit at stake; sqrt: its signed root over reward_scale_eth"""
    reward_scale_eth: float = 0.037
    """profit that sqrt rewards with 1 (median payment of a block's bundles)"""
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
    concentrated_pools: int = 4
    """the last pools hold concentrated liquidity (Uniswap V3), the others are constant products"""
    fee_numerator: int = 997
    """what a pool keeps working of an input: Uniswap's 0.3 % fee"""
    fee_denominator: int = 1000
    """denominator of fee_numerator"""
    depth_eth: tuple[float, ...] = (2000.0, 4000.0, 2500.0, 2000.0, 1000.0, 2000.0, 1250.0, 1000.0)
    """median value of one side of each pool (virtual if concentrated), ETH (assumed)"""
    depth_sigma: float = 0.25
    """deviation of ln depth between episodes and pools (assumed)"""
    provider_rate: float = 0.02
    """chance per pool and slot that a liquidity provider mints or burns (assumed)"""
    provider_size: float = 0.05
    """share of the liquidity that is minted or burnt (assumed)"""
    user_rate: float = 3.0
    """users' swaps per slot that trade in these pools; at most 8 wait at once (assumed)"""
    hawkes_branching: float = 0.3
    """swaps that each swap sets off on average; 0 makes arrivals Poisson (assumed)"""
    hawkes_decay_s: float = 4.0
    """seconds after which that excitement has fallen to 1/e (assumed)"""
    user_size_median: float = 0.0035
    """median input as a fraction of the pool's reserve (fits the value law, see rival_...)"""
    user_size_sigma: float = 0.9
    """deviation of the ln of that fraction (heavy tail of values: ln v has deviation 1.59)"""
    user_size_max: float = 0.08
    """largest fraction of a reserve that one swap sells"""
    slippage: tuple[float, float] = (0.005, 0.03)
    """least and largest tolerance between the quote and the minimum output (wallet defaults)"""
    deadline_slots: int = 8
    """slots until a swap expires (assumed; it bounds how long the mempool remembers)"""
    low_cap_share: float = 0.1
    """users whose fee cap lies near the base fee, so that they may have to wait (assumed)"""
    replace_share: float = 0.3
    """chance per slot that a waiting sender replaces its swap at 10 % more (assumed)"""
    nonce_share: float = 0.05
    """swaps that follow the swap before them with the sender's next nonce (assumed)"""
    visibility_delay_s: float = 0.5
    """mean seconds from sending to our mempool, uniform from 0 to twice that (assumed)"""
    private_share: float = 0.2
    """share of users' swaps that are not in the mempool (20-21 % of user transactions)"""
    refund_share: float = 0.3
    """share of those that an order-flow auction shows, whose back-run is for sale (assumed)"""
    refund_to_user: float = 0.9
    """part of the winning bid that such a user gets (MEV-Share, MEV Blocker: 90 %)"""
    private_ahead_share: float = 0.5
    """share of unseen swaps that land ahead of the bundles and can make them stale (assumed)"""
    tip_gwei: tuple[float, ...] = (0.0, 0.08, 0.81, 2.0, 33.0)
    """5/25/50/75/95 % of post-merge priority fees (8,759 transactions)"""
    swap_gas: int = 120_000
    """gas of a user's or an informed trader's swap"""
    informed_probability: float = 0.5
    """chance that a CEX-DEX trader watches a pool in a slot; below 1, arbitrage can stand"""
    informed_payment_bps: tuple[float, ...] = (0.2, 1.63, 5.3, 12.8, 35.0)
    """5/25/50/75/95 % of what they pay the builder, of volume, 8 Aug 2023; at most their profit"""
    loan_pools: tuple[int, ...] = (0, 1, 0, 1)
    """constant-product pools with the hub, where the debt of each loan is bought back"""
    loan_median_eth: float = 60.0
    """median collateral of a loan (assumed)"""
    loan_sigma: float = 1.0
    """deviation of ln collateral (assumed)"""
    loan_health: tuple[float, float] = (1.002, 1.1)
    """least and largest health factor of a new loan: only those near the edge matter (assumed)"""
    loan_leave: float = 0.004
    """chance per slot that a borrower closes the loan and another opens one (assumed)"""
    oracle_deviation: float = 0.005
    """change of the price at which the oracle updates (Chainlink ETH/USD: 0.5 %)"""
    base_gas: int = DEFAULT_BASE_GAS
    """gas of an arbitrage outside its pools"""
    gas_per_hop: int = DEFAULT_HOP_GAS
    """gas of one pool of an arbitrage"""
    own_tip_gwei: float = 1.0
    """priority fee of our transactions; the bid comes on top"""
    revert_gas_share: float = 0.35
    """gas of a failed public arbitrage / gas of one that succeeds (assumed: it stops early)"""
    cancel_gas: int = 21_000
    """gas of the empty transaction that replaces a public one"""
    base_fee_median_gwei: float = 15.0
    """base fee around which demand balances (range seen: 0.045 to 1,352)"""
    base_fee_sigma: float = 0.5
    """deviation of ln base fee between episodes (assumed)"""
    gas_limit: int = 30_000_000
    """block gas limit of 2023"""
    gas_used_ratio: tuple[float, ...] = (0.632, 0.7, 0.808, 0.945, 1.117, 1.382, 1.619)
    """5/10/25/50/75/90/95 % of gas used / target at a base fee equal to its means, May 2023"""
    base_fee_memory_blocks: tuple[float, ...] = (2.0, 100.0)
    """blocks in which a mean of ln base fee decays to 1/e: what users compare the fee with"""
    demand_response: tuple[float, ...] = (1.436, 0.251)
    """fall of gas used / target per ln of base fee above each of those means, fitted, May 2023"""
    missed_share: float = 0.011
    """slots without a block: 1.1 % of blocks follow one"""
    late_share: float = 0.02
    """bids of the last tick that reach the builder too late (assumed)"""
    mev_boost_share: float = 0.9
    """proposers that take bundles (MEV-Boost: about 90 % of blocks); the others build alone"""
    sandwich_share: float = 0.05
    """chance that a sandwicher watches a visible swap on a constant-product pool (assumed)"""
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
        (0.42, 0.28, 0.20, 0.05, 0.05),
        (0.33, 0.37, 0.10, 0.15, 0.05),
        (0.14, 0.33, 0.05, 0.43, 0.05),
    )
    """by regime: share bidding 80 %, 90 %, gross/1.25 clamped, true value, equilibrium"""
    public_rivals: float = 0.08
    """share of rivals who bid in the public mempool although the proposer takes bundles"""
    local_rivals: float = 0.35
    """share of the others who come when the proposer builds alone, where losing costs (assumed)"""
    local_shade: float = 0.6
    """factor of all bids then, for the same reason (assumed; see the model of O7)"""
    style_weight: tuple[float, ...] = (0.3, 0.25, 0.15, 0.15, 0.15)
    """of those: naive, adaptive, last-minute, stealth, bluff (equal profiles in MMA; assumed)"""
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
        ("slippage", 2),
        ("loan_health", 2),
        ("tip_gwei", len(SHOWN_PROBABILITIES)),
        ("informed_payment_bps", len(SHOWN_PROBABILITIES)),
        ("gas_used_ratio", len(GAS_PROBABILITIES)),
        ("base_fee_memory_blocks", 2),
        ("demand_response", 2),
        ("regime_size_factor", regimes),
        ("efficiency_a", regimes),
        ("efficiency_b", regimes),
        ("rule_weight", regimes),
        ("style_weight", STYLES),
        ("clamp_gwei", 2),
    ):
        if len(getattr(config, name)) != wanted:
            raise ValueError(f"{name} has {len(getattr(config, name))} entries: give {wanted}")
    for name in (
        "slippage",
        "loan_health",
        "tip_gwei",
        "gas_used_ratio",
        "clamp_gwei",
        "informed_payment_bps",
    ):
        if np.any(np.diff(getattr(config, name)) < 0.0):
            raise ValueError(f"{name} is {getattr(config, name)}: it must not fall")
    if len(config.loan_pools) > BORROWERS:
        raise ValueError(f"loan_pools has {len(config.loan_pools)} entries: at most {BORROWERS}")


_POSITIVE = (
    "episode_slots ticks_per_slot user_rate user_size_median user_size_sigma hawkes_decay_s "
    "deadline_slots reward_scale_eth base_fee_median_gwei gas_limit swap_gas base_gas gas_per_hop "
    "loan_median_eth"
)
_SHARES = (
    "private_share private_ahead_share refund_share refund_to_user informed_probability "
    "low_cap_share replace_share nonce_share provider_rate loan_leave missed_share late_share "
    "mev_boost_share sandwich_share public_rivals local_rivals local_shade revert_gas_share"
)


def _check(config: MarketConfig) -> None:
    _check_lengths(config)
    for name in _POSITIVE.split():
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} is {getattr(config, name)}: it must be above 0")
    for name in _SHARES.split():
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"{name} is {getattr(config, name)}: give a share from 0 to 1")
    if config.reward not in REWARDS:
        raise ValueError(f"reward is {config.reward!r}: choose one of {', '.join(REWARDS)}")
    if not 0.0 <= config.decision_lead_s < 12.0 / config.ticks_per_slot:
        raise ValueError(f"decision_lead_s is {config.decision_lead_s}: less than one tick, from 0")
    if not 0.0 <= config.hawkes_branching < 0.9:
        raise ValueError(f"hawkes_branching is {config.hawkes_branching}: from 0 to below 0.9")
    if not 0.0 <= config.provider_size < 0.5:
        raise ValueError(f"provider_size is {config.provider_size}: from 0 to below 0.5")
    if not 0.0 <= config.slippage[0] <= config.slippage[1] < 1.0:
        raise ValueError(f"slippage is {config.slippage}: tolerances from 0 to below 1")
    if config.loan_health[0] < 1.0:
        raise ValueError(f"loan_health is {config.loan_health}: a new loan is healthy, from 1")
    if not config.user_size_median < config.user_size_max < 1.0:
        raise ValueError(f"user_size_max is {config.user_size_max}: above the median, below 1")
    if config.informed_payment_bps[0] < 0.0:
        raise ValueError(f"informed_payment_bps is {config.informed_payment_bps}: from 0")
    if not min(config.base_fee_memory_blocks) > 0.0:
        raise ValueError(f"base_fee_memory_blocks is {config.base_fee_memory_blocks}: above 0")
    if min(config.demand_response) < 0.0:
        raise ValueError(f"demand_response is {config.demand_response}: demand falls, from 0")
    if config.regime_stay_slots < 1.0:
        raise ValueError(f"regime_stay_slots is {config.regime_stay_slots}: at least one slot")
    if min(config.depth_eth) <= 0.0:
        raise ValueError(f"depth_eth holds {min(config.depth_eth)}: pools need reserves")
    if config.eth_exposure[0] != 0.0 or config.btc_exposure[0] != 0.0:
        raise ValueError("eth_exposure and btc_exposure of the first token, the hub, must be 0")
    _check_pools(config)
    _check_rivals(config)


def _check_pools(config: MarketConfig) -> None:
    pools = len(config.token0)
    if not 0 <= config.concentrated_pools <= pools:
        raise ValueError(f"concentrated_pools is {config.concentrated_pools}: from 0 to {pools}")
    plain = pools - config.concentrated_pools
    for pool in config.loan_pools:
        if not 0 <= pool < plain or 0 not in (config.token0[pool], config.token1[pool]):
            raise ValueError(f"loan_pools holds {pool}: name constant-product pools with the hub")


def _check_rivals(config: MarketConfig) -> None:
    for weights in config.rule_weight:
        if len(weights) != RULES or min(weights) < 0.0 or abs(sum(weights) - 1.0) > 1e-9:
            raise ValueError(f"rule_weight {weights}: give {RULES} shares that sum to 1")
    if min(config.style_weight) < 0.0 or abs(sum(config.style_weight) - 1.0) > 1e-9:
        raise ValueError(f"style_weight {config.style_weight}: give shares that sum to 1")
    rivals = float(np.exp(min(config.rival_log_rate)))
    if rivals < config.min_mean_rivals:
        raise ValueError(
            f"rival_log_rate gives {rivals:.2f} rivals on average in the calmest regime: with "
            f"fewer than min_mean_rivals = {config.min_mean_rivals} a bid near 0 often wins "
            "unopposed (free ride) and nothing is learned; raise rival_log_rate"
        )
