"""The configuration of a simulated market; each default names the fact it comes from, or says
assumed. The reference prices under it are `PricePaths`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np

from configs.eras import DEFAULT_ERA, PRESETS
from configs.settings import (
    Count,
    Natural,
    NonNegative,
    Positive,
    Range,
    Settings,
    Share,
    groups_of,
)
from envs.market.paths import PricePaths
from kernels.chain.fees import DEFAULT_BASE_GAS, DEFAULT_HOP_GAS
from kernels.graph.market_graph import Graph, build_graph
from kernels.market.tile import BORROWERS

__all__ = ["MarketConfig", "PricePaths"]

RULES = 5  # of bidding: four fixed ones and the equilibrium, see envs.market.rivals
STYLES = 5  # of public bidding, see envs.market.rivals
SHOWN_PROBABILITIES = (0.05, 0.25, 0.5, 0.75, 0.95)
GAS_PROBABILITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
Reward = Literal["marked", "settled", "fraction", "sqrt"]
REWARDS: tuple[str, ...] = get_args(Reward)
Tolerance = Annotated[float, Range(0.0, below=1.0)]
PIPS = 1_000_000
Health = Annotated[float, Range(1.0)]  # a new loan is healthy


@dataclass(frozen=True)
class Pools(Settings):
    """Tokens, pools and liquidity providers."""

    symbols: tuple[str, ...] = ("WETH", "DAI", "USDC", "WBTC")
    """token names; the first is the hub, in which profit is counted"""
    decimals: tuple[Natural, ...] = (18, 18, 6, 8)
    """ERC-20 decimals of the tokens"""
    eth_exposure: tuple[float, ...] = (0.0, -1.0, -1.0, -1.0)
    """power of the ETH/USD price in a token's ETH price: -1 for a dollar token"""
    btc_exposure: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)
    """power of the BTC/USD price in a token's ETH price"""
    token0: tuple[Natural, ...] = (0, 0, 0, 1, 0, 0, 0, 1)
    """first token of each pool: two venues with the same four pairs"""
    token1: tuple[Natural, ...] = (1, 2, 3, 2, 1, 2, 3, 2)
    """second token of each pool"""
    concentrated: Natural = 4
    """the last pools hold concentrated liquidity (Uniswap V3), the others are constant products"""
    fee_numerator: Count = 997
    """what a pool keeps working of an input: Uniswap's 0.3 % fee"""
    fee_denominator: Count = 1000
    """denominator of fee_numerator"""
    fee_pips: tuple[Natural, ...] = ()
    """fee of each pool in millionths (500 is 0.05 %); empty: fee_numerator in all of them"""
    depth_eth: tuple[Positive, ...] = (
        2000.0,
        4000.0,
        2500.0,
        2000.0,
        1000.0,
        2000.0,
        1250.0,
        1000.0,
    )
    """median value of one side of each pool (virtual if concentrated), ETH (assumed)"""
    depth_sigma: NonNegative = 0.25
    """deviation of ln depth between episodes and pools (assumed)"""
    provider_rate: Share = 0.02
    """chance per pool and slot that a liquidity provider mints or burns (assumed)"""
    provider_size: Annotated[float, Range(0.0, below=0.5)] = 0.05
    """share of the liquidity that is minted or burnt (assumed)"""

    def check(self) -> None:
        """One entry per token or pool, a hub without exposure, pools that there are."""
        tokens, pools = len(self.symbols), len(self.token0)
        for name in ("decimals", "eth_exposure", "btc_exposure"):
            self.require_entries(name, tokens, "one per token")
        for name in ("token1", "depth_eth"):
            self.require_entries(name, pools, "one per pool")
        for name in ("eth_exposure", "btc_exposure"):
            hub = getattr(self, name)[0] == 0.0
            self.require(hub, name, "0 first: the hub's price in itself never moves")
        self.require(self.concentrated <= pools, "concentrated", f"at most the {pools} pools")
        if self.fee_pips:
            self.require_entries("fee_pips", pools, "one per pool, or none")
            self.require(max(self.fee_pips) < PIPS, "fee_pips", f"fees below {PIPS}")
        working = self.fee_numerator < self.fee_denominator
        self.require(working, "fee_numerator", f"less than fee_denominator, {self.fee_denominator}")


@dataclass(frozen=True)
class Users(Settings):
    """Users' swaps: how many, how large, how patient, and who sees them."""

    rate: Positive = 3.0
    """users' swaps per slot that trade in these pools; at most 8 wait at once (assumed)"""
    hawkes_branching: Annotated[float, Range(0.0, below=0.9)] = 0.3
    """swaps that each swap sets off on average; 0 makes arrivals Poisson (assumed)"""
    hawkes_decay_s: Positive = 4.0
    """seconds after which that excitement has fallen to 1/e (assumed)"""
    size_median: Positive = 0.0035
    """median input as a fraction of the pool's reserve (fits the value law, see rival_...)"""
    size_sigma: Positive = 0.9
    """deviation of the ln of that fraction (heavy tail of values: ln v has deviation 1.59)"""
    size_max: Annotated[float, Range(above=0.0, below=1.0)] = 0.08
    """largest fraction of a reserve that one swap sells"""
    size_eth_median: NonNegative = 0.0
    """median input in ETH where sizes are drawn in ETH; 0: they are fractions, size_median"""
    size_eth_sigma: Positive = 2.2
    """deviation of the ln of that input (June 2021: 2.2)"""
    size_eth_least: NonNegative = 0.0
    """swaps below this input are left out, and `rate` does not count them, ETH"""
    size_scale: tuple[Positive, ...] = ()
    """factor of median and least input by pool; empty: 1. Larger pairs see larger swaps"""
    pool_weight: tuple[NonNegative, ...] = ()
    """of each pool among users' swaps; empty: all alike"""
    slippage: tuple[Tolerance, Tolerance] = (0.005, 0.03)
    """least and largest tolerance between the quote and the minimum output (wallet defaults)"""
    deadline_slots: Count = 8
    """slots until a swap expires (assumed; it bounds how long the mempool remembers)"""
    low_cap_share: Share = 0.1
    """users whose fee cap lies near the base fee, so that they may have to wait (assumed)"""
    replace_share: Share = 0.3
    """chance per slot that a waiting sender replaces its swap at 10 % more (assumed)"""
    nonce_share: Share = 0.05
    """swaps that follow the swap before them with the sender's next nonce (assumed)"""
    visibility_delay_s: NonNegative = 0.5
    """mean seconds from sending to our mempool, uniform from 0 to twice that (assumed)"""
    private_share: Share = 0.2
    """share of users' swaps that are not in the mempool (20-21 % of user transactions)"""
    private_ahead_share: Share = 0.5
    """share of unseen swaps that land ahead of the bundles and can make them stale (assumed)"""
    refund_share: Share = 0.3
    """share of those that an order-flow auction shows, whose back-run is for sale (assumed)"""
    refund_to_user: Share = 0.9
    """part of the winning bid that such a user gets (MEV-Share, MEV Blocker: 90 %)"""
    tip_gwei: tuple[NonNegative, ...] = (0.0, 0.08, 0.81, 2.0, 33.0)
    """5/25/50/75/95 % of post-merge priority fees (8,759 transactions)"""
    swap_gas: Count = 120_000
    """gas of a user's or an informed trader's swap"""

    def check(self) -> None:
        """Ranges that rise, a median below the largest size, every shown quantile."""
        self.require_rising("slippage")
        below = self.size_median < self.size_max
        self.require(below, "size_max", f"more than size_median, {self.size_median}")
        self.require_entries("tip_gwei", len(SHOWN_PROBABILITIES), "its quantiles")
        self.require_rising("tip_gwei")
        some = not self.pool_weight or sum(self.pool_weight) > 0.0
        self.require(some, "pool_weight", "a weight above 0, or no entries")


@dataclass(frozen=True)
class Informed(Settings):
    """Informed (CEX-DEX) traders."""

    probability: Share = 0.5
    """chance that a CEX-DEX trader watches a pool in a slot; below 1, arbitrage can stand"""
    payment_bps: tuple[NonNegative, ...] = (0.2, 1.63, 5.3, 12.8, 35.0)
    """5/25/50/75/95 % of what they pay the builder, of volume, 8 Aug 2023; at most their profit"""
    more_payment_bps: tuple[tuple[NonNegative, ...], ...] = ()
    """the same of further classes of pairs: law 1, 2, ...; payment_bps is law 0"""
    payment_law: tuple[Natural, ...] = ()
    """law of each pool; empty: payment_bps in all of them"""

    def check(self) -> None:
        """Every shown quantile of every law, and laws that there are."""
        self.require_entries("payment_bps", len(SHOWN_PROBABILITIES), "its quantiles")
        self.require_rising("payment_bps")
        for law in self.more_payment_bps:
            whole = len(law) == len(SHOWN_PROBABILITIES) and list(law) == sorted(law)
            self.require(whole, "more_payment_bps", "five quantiles that do not fall per law")
        known = max(self.payment_law, default=0) <= len(self.more_payment_bps)
        self.require(known, "payment_law", f"laws 0 .. {len(self.more_payment_bps)}")


@dataclass(frozen=True)
class Loans(Settings):
    """Lending: loans that a move of the oracle opens for liquidation."""

    pools: tuple[Natural, ...] = (0, 1, 0, 1)
    """constant-product pools with the hub, where the debt of each loan is bought back"""
    median_eth: Positive = 60.0
    """median collateral of a loan (assumed)"""
    sigma: NonNegative = 1.0
    """deviation of ln collateral (assumed)"""
    health: tuple[Health, Health] = (1.002, 1.1)
    """least and largest health factor of a new loan: only those near the edge matter (assumed)"""
    leave: Share = 0.004
    """chance per slot that a borrower closes the loan and another opens one (assumed)"""
    oracle_deviation: NonNegative = 0.005
    """change of the price at which the oracle updates (Chainlink ETH/USD: 0.5 %)"""

    def check(self) -> None:
        """A range that rises, and no more loans than a tile holds."""
        self.require_rising("health")
        self.require(len(self.pools) <= BORROWERS, "pools", f"at most {BORROWERS} entries")


@dataclass(frozen=True)
class Gas(Settings):
    """Gas of our transactions, and the base fee."""

    per_arbitrage: Count = DEFAULT_BASE_GAS
    """gas of an arbitrage outside its pools"""
    per_hop: Count = DEFAULT_HOP_GAS
    """gas of one pool of an arbitrage"""
    per_cancel: Natural = 21_000
    """gas of the empty transaction that replaces a public one"""
    revert_share: Share = 0.35
    """gas of a failed public arbitrage / gas of one that succeeds (assumed: it stops early)"""
    own_tip_gwei: NonNegative = 1.0
    """priority fee of our transactions; the bid comes on top"""
    base_fee_median_gwei: Positive = 15.0
    """base fee around which demand balances (range seen: 0.045 to 1,352)"""
    base_fee_sigma: NonNegative = 0.5
    """deviation of ln base fee between episodes (assumed)"""
    base_fee_memory_blocks: tuple[Positive, Positive] = (2.0, 100.0)
    """blocks in which a mean of ln base fee decays to 1/e: what users compare the fee with"""
    demand_response: tuple[NonNegative, NonNegative] = (1.436, 0.251)
    """fall of gas used / target per ln of base fee above each of those means, fitted, May 2023"""
    used_ratio: tuple[NonNegative, ...] = (0.632, 0.7, 0.808, 0.945, 1.117, 1.382, 1.619)
    """5/10/25/50/75/90/95 % of gas used / target at a base fee equal to its means, May 2023"""
    limit: Count = 30_000_000
    """block gas limit of 2023"""

    def check(self) -> None:
        """Every shown quantile."""
        self.require_entries("used_ratio", len(GAS_PROBABILITIES), "its quantiles")
        self.require_rising("used_ratio")


@dataclass(frozen=True)
class Blocks(Settings):
    """Whether a slot gets a block, and who builds it."""

    missed_share: Share = 0.011
    """slots without a block: 1.1 % of blocks follow one"""
    late_share: Share = 0.02
    """bids of the last tick that reach the builder too late (assumed)"""
    mev_boost_share: Share = 0.9
    """proposers that take bundles (MEV-Boost: about 90 % of blocks); the others build alone"""


@dataclass(frozen=True)
class Regimes(Settings):
    """Regimes of competition; one entry per regime in every list."""

    stay_slots: Annotated[float, Range(1.0)] = 70.0
    """mean stay in a competition regime: about 50 auctions of a searcher (assumed, scenario D)"""
    size_factor: tuple[Positive, ...] = (0.75, 1.0, 1.3)
    """users' sizes by regime: rivals gather where values are high (assumed, scenario D)"""
    log_rate: tuple[float, ...] = (1.2, 1.4, 1.6)
    """ln of the mean number of rivals at a typical value, by regime; see min_mean_rivals"""
    efficiency_a: tuple[Positive, ...] = (5.0, 8.0, 20.0)
    """Kumaraswamy a of rivals' valuation efficiency (captured / possible profit), by regime"""
    efficiency_b: tuple[Positive, ...] = (40.0, 14.0, 7.0)
    """Kumaraswamy b of it; with the rules, clearing medians near 0.43 / 0.68 / 0.92"""
    rule_weight: tuple[tuple[Share, ...], ...] = (
        (0.42, 0.28, 0.20, 0.05, 0.05),
        (0.33, 0.37, 0.10, 0.15, 0.05),
        (0.14, 0.33, 0.05, 0.43, 0.05),
    )
    """by regime: share bidding 80 %, 90 %, gross/1.25 clamped, true value, equilibrium"""

    def check(self) -> None:
        """One entry per regime, and shares that sum to 1."""
        for name in ("size_factor", "efficiency_a", "efficiency_b", "rule_weight"):
            self.require_entries(name, len(self.log_rate), "one per regime of log_rate")
        for weights in self.rule_weight:
            whole = len(weights) == RULES and abs(sum(weights) - 1.0) <= 1e-9
            self.require(whole, "rule_weight", f"{RULES} shares that sum to 1 per regime")


@dataclass(frozen=True)
class Rivals(Settings):
    """Rival searchers, whatever the regime."""

    value_slope: float = 0.3
    """growth of that ln per deviation of ln value"""
    public_share: Share = 0.08
    """share of rivals who bid in the public mempool although the proposer takes bundles"""
    local_share: Share = 0.35
    """share of the others who come when the proposer builds alone, where losing costs (assumed)"""
    local_shade: Share = 0.6
    """factor of all bids then, for the same reason (assumed; see the model of O7)"""
    style_weight: tuple[Share, ...] = (0.3, 0.25, 0.15, 0.15, 0.15)
    """of those: naive, adaptive, last-minute, stealth, bluff (equal profiles in MMA; assumed)"""
    clamp_gwei: tuple[NonNegative, NonNegative] = (1.02, 1.81)
    """[p10 + 1, p50 + 1] of priority fees, the clamp of the third rule"""
    sandwich_share: Share = 0.05
    """chance that a sandwicher watches a visible swap on a constant-product pool (assumed)"""
    min_mean: NonNegative = 3.0
    """refuse configurations with fewer expected rivals: bidding near 0 would pay (free ride)"""

    def check(self) -> None:
        """Shares that sum to 1, and a range that rises."""
        self.require_entries("style_weight", STYLES, "one per style")
        whole = abs(sum(self.style_weight) - 1.0) <= 1e-9
        self.require(whole, "style_weight", "shares that sum to 1")
        self.require_rising("clamp_gwei")


@dataclass(frozen=True)
class MarketConfig(Settings):
    """The market: an episode, and one group of settings per part of it.

    Groups that are not given are those of the era; single settings override them, see `changed`.
    """

    era: str | int = DEFAULT_ERA
    """preset of every group below (configs.eras): rich, 2021, 2022 or 2023; a setting that is
    given beside it counts instead of the preset's"""
    episode_slots: Count = 256
    """slots of 12 s per episode (about 51 minutes)"""
    ticks_per_slot: Count = 1
    """decisions per slot: a bid can be placed, replaced or cancelled at each; rules and memories
    are tuned for one, and the server takes one"""
    decision_lead_s: NonNegative = 0.6
    """seconds between the last decision and the block (builders end 0.1 to 0.5 s before it)"""
    reward: Reward = "marked"
    """marked: each decision earns the change of what our bid is worth; settled: the block pays;
    fraction: that over the net profit at stake; sqrt: its signed root over reward_scale_eth"""
    reward_scale_eth: Positive = 0.037
    """profit that sqrt rewards with 1 (median payment of a block's bundles)"""
    pools: Pools = Pools()
    """Tokens, pools and liquidity providers."""
    users: Users = Users()
    """Users' swaps: how many, how large, how patient, and who sees them."""
    informed: Informed = Informed()
    """Informed (CEX-DEX) traders."""
    loans: Loans = Loans()
    """Lending: loans that a move of the oracle opens for liquidation."""
    gas: Gas = Gas()
    """Gas of our transactions, and the base fee."""
    blocks: Blocks = Blocks()
    """Whether a slot gets a block, and who builds it."""
    regimes: Regimes = Regimes()
    """Regimes of competition; one entry per regime in every list."""
    rivals: Rivals = Rivals()
    """Rival searchers, whatever the regime."""

    def __post_init__(self) -> None:
        """Fill in the era's groups, and check. Raises RefusedValueError."""
        era = str(self.era)
        object.__setattr__(self, "era", era)
        self.require(era in PRESETS, "era", f"one of {', '.join(PRESETS)}")
        for name, group in groups_of_era(era).items():
            # The default object itself stands where a caller gave nothing.
            if getattr(self, name) is getattr(MarketConfig, name):
                object.__setattr__(self, name, group)
        super().__post_init__()

    @classmethod
    def preset(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Every dotted setting of the era that `given` names, or of the default one."""
        era = str(given.get("era", DEFAULT_ERA))
        # All of them: what one era leaves at a group's default, the default era may have set.
        groups = groups_of_era(era) if era in PRESETS else {}
        return {
            f"{group}.{name}": value
            for group, settings in groups.items()
            for name, value in vars(settings).items()
        }

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """A copy with other values. An era replaces all groups first, then the others count."""
        if "era" not in changes:
            return super().changed(changes)
        era = str(changes["era"])
        self.require(era in PRESETS, "era", f"one of {', '.join(PRESETS)}, not {era!r}")
        other = dataclasses.replace(self, era=era, **groups_of_era(era))
        return other.changed({key: value for key, value in changes.items() if key != "era"})

    def check(self) -> None:
        """What one group says about another."""
        tick_s = 12.0 / self.ticks_per_slot
        inside = self.decision_lead_s < tick_s
        self.require(inside, "decision_lead_s", f"less than one tick, {tick_s:g} s")
        pools = self.pools
        count = len(pools.token0)
        for key in ("users.size_scale", "users.pool_weight", "informed.payment_law"):
            group, name = key.split(".")
            fits = len(getattr(getattr(self, group), name)) in (0, count)
            self.require(fits, key, f"{count} entries, one per pool, or none")
        plain = count - pools.concentrated
        for pool in self.loans.pools:
            with_hub = pool < plain and 0 in (pools.token0[pool], pools.token1[pool])
            self.require(with_hub, "loans.pools", "constant-product pools with the hub")
        mean, least = float(np.exp(min(self.regimes.log_rate))), self.rivals.min_mean
        self.require(
            mean >= least,
            "regimes.log_rate",
            f"more: the calmest regime has {mean:.2f} rivals on average, and with fewer than "
            f"rivals.min_mean = {least} a bid near 0 often wins unopposed (free ride) and nothing "
            "is learned",
        )

    @property
    def graph(self) -> Graph:
        """The token graph of the pools."""
        pools = self.pools
        count = len(pools.token0)
        numerators, denominator = [pools.fee_numerator] * count, pools.fee_denominator
        if pools.fee_pips:
            numerators, denominator = [PIPS - fee for fee in pools.fee_pips], PIPS
        return build_graph(
            pools.token0,
            pools.token1,
            numerators,
            [denominator] * count,
            pools.decimals,
            base_gas=self.gas.per_arbitrage,
            gas_per_hop=self.gas.per_hop,
        )


@cache
def groups_of_era(era: str) -> dict[str, Any]:
    """The groups of settings of an era, by name; those of `rich` are the defaults themselves."""
    changes: dict[str, dict[str, Any]] = {}
    for key, value in PRESETS[era].items():
        group, _, name = key.partition(".")
        changes.setdefault(group, {})[name] = value
    groups = {name: getattr(MarketConfig, name) for name in groups_of(MarketConfig)}
    return {
        name: group.changed(changes[name]) if name in changes else group
        for name, group in groups.items()
    }
