"""A market's constants as the compiled simulator reads them, and the rows it adds to a tile."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from configs.settings import groups_of
from envs.market.config import (
    GAS_PROBABILITIES,
    REWARDS,
    SHOWN_PROBABILITIES,
    MarketConfig,
    Users,
)
from kernels.compile import inline
from kernels.graph.market_graph import Graph
from kernels.market.declaration import Declaration
from kernels.market.tile import OPPORTUNITIES, PENDING, Layout, layout, tile_rows

CELLS = 512  # of a tabulated quantile function
SLOT_S = 12.0
MARKED, SETTLED, FRACTION, SQRT = range(len(REWARDS))

# Rows of Physics.quantiles.
NORMAL = 0
SIZE = 1  # fraction of the reserve, or ETH, in a market of size factor 1
TIP = 2  # gwei
GAS_RATIO = 3  # used / target, at a base fee equal to its means
INFORMED_PAYMENT = 4  # share of volume
EFFICIENCY = 5  # [R], of rivals, by regime; then equilibrium bids [R, NODES], further payments
NODES = 24  # of ln rate, for equilibrium bids
NODE_FIRST, NODE_STEP = -1.75, 0.25  # ln rate of a node: -1.75 .. 4

# Rows that the simulator adds to a tile, counted from Physics.world_row.
_world = Declaration()
_row = _world.row
REGIME = _row("REGIME", 1, "regime", "regime of competition, hidden from the agent")
MINUTE = _row("MINUTE", 1, "minute", "index into the price paths")
STEP = _row("STEP", 1, "slots", "slot within the minute, 0 .. 4")
EPISODE = _row("EPISODE", 1, "episodes", "finished by this lane")
LOG_PRICE = _row("LOG_PRICE", 2, "1", "ln ETH/USD, ln BTC/USD")
SEARCHER = _row("SEARCHER", 1, "ETH", "our wealth; all wealth counts from the episode's start")
RIVALS = _row("RIVALS", 1, "ETH", "wealth of rival searchers")
SANDWICHERS = _row("SANDWICHERS", 1, "ETH", "wealth of sandwichers")
VALIDATOR = _row("VALIDATOR", 1, "ETH", "wealth of all proposers together")
BURNT = _row("BURNT", 1, "ETH", "base fees burnt")
HARM = _row("HARM", 1, "ETH", "what users lost to sandwiches; no party")
MARK = _row("MARK", 1, "ETH", "what our standing bid was worth at the last decision")
EXCITEMENT = _row("EXCITEMENT", 1, "swaps/s", "arrival rate above the usual one")
TICK_INDEX = _row("TICK_INDEX", 1, "decisions", "made in this slot")
CANCEL_COST = _row(
    "CANCEL_COST", 1, "ETH", "for empty transactions that replaced public ones of ours in this slot"
)
MISSED = _row("MISSED", 1, "0/1", "1 when this slot has no block")
STANDING_NET = _row(
    "STANDING_NET", 1, "ETH", "net of the standing bid's opportunity when it was placed"
)
CANCEL_BURNT = _row("CANCEL_BURNT", 1, "ETH", "the part of CANCEL_COST that is burnt")
# What waits in the mempool, beside the shared rows.
WAITING_CAP = _row("WAITING_CAP", PENDING, "gwei", "fee cap")
WAITING_TIP = _row("WAITING_TIP", PENDING, "gwei", "priority fee")
WAITING_SEEN = _row(
    "WAITING_SEEN", PENDING, "s", "second of the slot at which the mempool shows it"
)
WAITING_EXPIRY = _row("WAITING_EXPIRY", PENDING, "slot", "last one in which it can be included")
WAITING_AFTER = _row(
    "WAITING_AFTER", PENDING, "swap", "pending index of the earlier nonce, -1 none"
)
WAITING_KIND = _row("WAITING_KIND", PENDING, "kind", "PUBLIC_SWAP, PRIVATE_SWAP or REFUND_SWAP")
PUBLIC_SWAP, PRIVATE_SWAP, REFUND_SWAP = 0, 1, 2
# Rivals of the opportunities found, if the block were built now.
TOP = _row("TOP", OPPORTUNITIES, "ETH", "highest bid; -1 nobody")
LOSERS = _row("LOSERS", OPPORTUNITIES, "transactions", "public ones of rivals that do not win")
LOSERS_BID = _row("LOSERS_BID", OPPORTUNITIES, "ETH", "sum of the bids of LOSERS")
TOP_PUBLIC = _row(
    "TOP_PUBLIC", OPPORTUNITIES, "0/1", "1 when the highest bid is a public transaction"
)
MET = _row("MET", 1, "0/1", "1 where the rows of rivals hold unless what is found changes")
LOAN_ORACLE = _row("LOAN_ORACLE", 2, "1", "ln ETH/USD, ln BTC/USD of the oracle")
LOG_FEE_MEAN = _row(
    "LOG_FEE_MEAN", 2, "1", "exponential means of ln base fee (gwei), fast and slow"
)
# Of swaps since the episode's start; no parties.
USER_VOLUME = _row("USER_VOLUME", 1, "ETH", "input of users' swaps")
INFORMED_VOLUME = _row("INFORMED_VOLUME", 1, "ETH", "input of informed traders' swaps")
INFORMED_PAID = _row(
    "INFORMED_PAID", 1, "ETH", "what informed traders paid to builders, priority fees included"
)
INFORMED_TRADES = _row("INFORMED_TRADES", 1, "swaps", "of informed traders")
WORLD_ROWS = _world.rows

# Books of T rows each, from row PRICE on.
PRICE = _world.end
USERS, INFORMED_BOOK, PROVIDERS, BORROWER_BOOK, INSIDE, INITIAL = 1, 2, 3, 4, 5, 6
BOOK_ROWS = (
    ("PRICE", "ETH", "per token, at the reference prices"),
    ("USERS", "tokens", "balances of users"),
    ("INFORMED_BOOK", "tokens", "balances of informed traders"),
    ("PROVIDERS", "tokens", "wallets of liquidity providers"),
    ("BORROWER_BOOK", "tokens", "balances of borrowers"),
    ("INSIDE", "tokens", "held by concentrated pools"),
    ("INITIAL", "tokens", "of all pools at the start"),
)
BOOKS = len(BOOK_ROWS)


class Physics(NamedTuple):
    """Everything constant that the compiled simulator reads (P pools, T tokens, R regimes)."""

    cycles: np.ndarray  # Graph.cycles
    weights: np.ndarray  # Graph.weights
    token0: np.ndarray  # int64[P]
    token1: np.ndarray  # int64[P]
    depth_eth: np.ndarray  # float64[P]
    exposure: np.ndarray  # float64[T, 2] to ln ETH/USD and ln BTC/USD
    start_noise: np.ndarray  # float64[P], largest |ln price error| of a pool at the start
    pool_cdf: np.ndarray  # float64[P] of users' choice of a pool; float64[0]: all alike
    size_scale: np.ndarray  # float64[P], of users' inputs in ETH
    payment_row: np.ndarray  # int64[P], row of `quantiles` for informed payments in a pool
    same_price: np.ndarray  # int64[T], the first token with this token's exposure
    quantiles: np.ndarray  # float64[5 + R + R * NODES + further laws, CELLS + 1]
    rival_log_rate: np.ndarray  # float64[R]
    rule_cdf: np.ndarray  # float64[R, RULES]
    style_cdf: np.ndarray  # float64[STYLES]
    size_factor: np.ndarray  # float64[R]
    loan_pools: np.ndarray  # int64[B]
    world_row: int  # first of the simulator's own rows
    episode_slots: int
    ticks_per_slot: int
    reward: int  # MARKED, SETTLED, FRACTION or SQRT
    reward_scale_eth: float  # ETH
    depth_sigma: float
    provider_rate: float
    provider_size: float
    immigrant_wait: float  # seconds between swaps that no other has set off, on average
    excitement: float  # added to the rate by each swap, per second
    excitement_decay: float  # per second
    slippage_low: float
    slippage_high: float
    deadline_slots: float
    low_cap_share: float
    replace_share: float
    nonce_share: float
    visibility_delay_s: float  # seconds, mean
    decision_lead_s: float  # seconds
    private_share: float
    refund_share: float
    refund_to_user: float
    private_ahead_share: float
    size_max: float  # fraction of a reserve
    sizes_in_eth: int  # 1: row SIZE holds ETH
    swap_gas: float
    informed_probability: float
    loans_median_eth: float  # ETH
    loans_sigma: float
    loans_health_low: float
    loans_health_high: float
    loans_leave: float
    oracle_deviation: float
    own_tip_gwei: float  # gwei
    revert_share: float
    per_cancel: float
    base_fee_median_gwei: float  # gwei
    base_fee_sigma: float
    gas_limit: float
    fast_response: float  # of gas used / target to ln base fee above its fast mean
    slow_response: float
    fast_weight: float  # of the newest block in that mean
    slow_weight: float
    missed_share: float
    late_share: float
    mev_boost_share: float
    sandwich_share: float
    regime_leave: float  # chance per slot
    value_slope: float
    public_share: float
    local_share: float
    local_shade: float
    clamp_gwei_low: float  # gwei
    clamp_gwei_high: float  # gwei


@inline
def rows_of(physics: Physics) -> Layout:
    """Where the rows that depend on the graph begin.

    It is no field of Physics: another tuple costs 3 us in every call from Python.
    """
    return layout(physics.token0.shape[0], physics.cycles.shape[0])


def book_row(world_row: int, tokens: int, book: int) -> int:
    """First of the T rows of a book: USERS, INFORMED_BOOK, ..."""
    return world_row + PRICE + book * tokens


def world_rows(tokens: int) -> int:
    """Rows that the simulator adds to a tile."""
    return PRICE + BOOKS * tokens


def _cell_edges() -> np.ndarray:
    """Probabilities of the tabulated quantiles; the ends stand for the outermost cells' means."""
    edges = np.linspace(0.0, 1.0, CELLS + 1)
    edges[0], edges[-1] = 0.25 / CELLS, 1.0 - 0.25 / CELLS
    return edges


def _shown_quantiles(
    shown: tuple[float, ...],
    low: float,
    high: float,
    at: tuple[float, ...] = SHOWN_PROBABILITIES,
) -> np.ndarray:
    """Piecewise linear through the quantiles `shown`, `low` and `high` at the ends."""
    return np.interp(np.linspace(0.0, 1.0, CELLS + 1), (0.0, *at, 1.0), (low, *shown, high))


def efficiency_quantiles(a: float, b: float) -> np.ndarray:
    """Quantiles of Kumaraswamy(a, b): F(x) = 1 - (1 - x^a)^b on [0, 1]."""
    return (1.0 - (1.0 - np.linspace(0.0, 1.0, CELLS + 1)) ** (1.0 / b)) ** (1.0 / a)


def equilibrium_bids(a: float, b: float, rate: float) -> np.ndarray:
    """Equilibrium bids float64[CELLS + 1] at the quantiles of the value, a share of net.

    First price, values Kumaraswamy(a, b), the number of other bidders Poisson(rate): the chance to
    win with value x is W(x) = exp(-rate (1 - F(x))), and b(v) = v - integral_0^v W / W(v).
    """
    value = efficiency_quantiles(a, b)
    x = np.linspace(0.0, 1.0, 4097)
    log_win = -rate * (1.0 - x**a) ** b
    density = np.exp(log_win)  # integrated by trapezoids
    total = np.concatenate([[0.0], np.cumsum(np.diff(x) * (density[1:] + density[:-1]) / 2.0)])
    bid = value - np.interp(value, x, total) / np.exp(np.interp(value, x, log_win))
    return np.maximum.accumulate(np.clip(bid, 0.0, None))


def _quantile_table(config: MarketConfig) -> np.ndarray:
    edges = _cell_edges()
    normal = ndtri(edges)
    size = _sizes(config.users, edges, normal)
    tip = _shown_quantiles(config.users.tip_gwei, 0.0, 2.0 * config.users.tip_gwei[-1])
    # Beyond 95 % as far again as from 75 %, what the recorded residuals reach.
    gas_low = max(0.0, 2.0 * config.gas.used_ratio[0] - config.gas.used_ratio[2])
    gas_high = 2.0 * config.gas.used_ratio[-1] - config.gas.used_ratio[-3]
    gas = _shown_quantiles(config.gas.used_ratio, gas_low, gas_high, GAS_PROBABILITIES)
    shapes = list(zip(config.regimes.efficiency_a, config.regimes.efficiency_b))
    efficiency = [efficiency_quantiles(a, b) for a, b in shapes]
    rates = np.exp(NODE_FIRST + NODE_STEP * np.arange(NODES))
    equilibrium = [equilibrium_bids(a, b, float(rate)) for a, b in shapes for rate in rates]
    informed = config.informed
    # The recorded 99 % quantile is 3.5 times the 95 % one.
    payment, *further = (
        1e-4 * _shown_quantiles(law, 0.0, 4.0 * law[-1])
        for law in (informed.payment_bps, *informed.more_payment_bps)
    )
    rows = [normal, size, tip, gas, payment, *efficiency, *equilibrium, *further]
    return np.ascontiguousarray(rows)


def _sizes(users: Users, edges: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Quantiles of users' inputs: fractions of the reserve, or ETH above the least."""
    if users.size_eth_median <= 0.0:
        return users.size_median * np.exp(users.size_sigma * normal)
    left_out = 0.0
    if users.size_eth_least > 0.0:
        least = np.log(users.size_eth_least / users.size_eth_median)
        left_out = float(ndtr(least / users.size_eth_sigma))
    above = ndtri(left_out + (1.0 - left_out) * edges)
    return users.size_eth_median * np.exp(users.size_eth_sigma * above)


def _payment_rows(config: MarketConfig) -> np.ndarray:
    """Row of the quantile table for the informed payments in each pool."""
    further = EFFICIENCY + len(config.regimes.log_rate) * (1 + NODES)
    laws = np.asarray(config.informed.payment_law or [0] * len(config.pools.token0), np.int64)
    return np.where(laws == 0, INFORMED_PAYMENT, further + laws - 1)


def _scalars(config: MarketConfig) -> dict[str, float]:
    """Every number of the configuration by its name in Physics: its own, or group_name.

    A pair is two numbers, name_low and name_high.
    """
    found: dict[str, float] = {}
    for group, fields in (
        ("", config),
        *((name, getattr(config, name)) for name in groups_of(MarketConfig)),
    ):
        for name, value in vars(fields).items():
            pair = isinstance(value, tuple) and len(value) == 2
            ends = zip((f"{name}_low", f"{name}_high"), value) if pair else [(name, value)]
            for end, number in ends:
                if isinstance(number, int | float):
                    found[end] = found[f"{group}_{end}"] = number
    return found


def physics_of(config: MarketConfig, graph: Graph) -> Physics:
    """Tabulate a configuration for the simulator."""
    pools, users, gas, regimes = config.pools, config.users, config.gas, config.regimes
    rule_cdf = np.cumsum(np.asarray(regimes.rule_weight, np.float64), axis=1)
    rule_cdf[:, -1] = 1.0
    style_cdf = np.cumsum(np.asarray(config.rivals.style_weight, np.float64))
    style_cdf[-1] = 1.0
    pairs = list(zip(pools.eth_exposure, pools.btc_exposure))
    decay = 1.0 / users.hawkes_decay_s
    weight = np.asarray(users.pool_weight, np.float64)
    computed = {
        "cycles": graph.cycles,
        "weights": graph.weights,
        "token0": graph.token0,
        "token1": graph.token1,
        "depth_eth": np.asarray(pools.depth_eth, np.float64),
        "exposure": np.array(pairs, np.float64),
        "same_price": np.array([pairs.index(pair) for pair in pairs], np.int64),
        "quantiles": _quantile_table(config),
        "rival_log_rate": np.asarray(regimes.log_rate, np.float64),
        "rule_cdf": rule_cdf,
        "style_cdf": style_cdf,
        "size_factor": np.asarray(regimes.size_factor, np.float64),
        "loan_pools": np.asarray(config.loans.pools, np.int64).reshape(-1),
        "world_row": tile_rows(graph, pools.concentrated),
        "reward": REWARDS.index(config.reward),
        "immigrant_wait": SLOT_S / (users.rate * (1.0 - users.hawkes_branching)),
        "excitement": users.hawkes_branching * decay,
        "excitement_decay": decay,
        "fast_response": gas.demand_response[0],
        "slow_response": gas.demand_response[1],
        "fast_weight": -float(np.expm1(-1.0 / gas.base_fee_memory_blocks[0])),
        "slow_weight": -float(np.expm1(-1.0 / gas.base_fee_memory_blocks[1])),
        "regime_leave": 1.0 / regimes.stay_slots,
        "start_noise": -0.9 * np.log(graph.gamma),
        "pool_cdf": np.cumsum(weight) / weight.sum() if weight.size else weight,
        "size_scale": np.asarray(users.size_scale or [1.0] * graph.token0.size, np.float64),
        "sizes_in_eth": int(users.size_eth_median > 0.0),
        "payment_row": _payment_rows(config),
    }
    scalars = _scalars(config)
    kinds = Physics.__annotations__
    named = {name: kinds[name](scalars[name]) for name in Physics._fields if name not in computed}
    return Physics(**computed, **named)
