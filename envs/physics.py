"""A market's constants as the compiled simulator reads them, and the rows it adds to a tile."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import poisson

from envs.market import SHOWN_PROBABILITIES, MarketConfig
from kernels.graph import Graph
from kernels.market import PENDING, tile_rows

CELLS = 512  # of a tabulated quantile function

# Rows of Physics.quantiles.
NORMAL = 0
SIZE = 1  # fraction of the reserve, in a market of size factor 1
TIP = 2  # gwei
GAS_RATIO = 3  # used / target
EFFICIENCY = 4  # [R], of rivals, by regime

# Rows that the simulator adds to a tile, counted from Physics.world.
REGIME = 0  # hidden from the agent
MINUTE = 1  # index into the price paths
STEP = 2  # slot within the minute, 0 .. 4
EPISODE = 3  # episodes this lane has finished
LOG_PRICE = 4  # [2] ln ETH/USD, ln BTC/USD
SEARCHER = 6  # wealth since the episode's start, ETH
RIVALS = 7
VALIDATOR = 8
BURNT = 9
PRICE = 10  # [T] ETH per token; then users[T], informed[T], initial[T] in tokens
FIXED_WORLD_ROWS = 10


class Physics(NamedTuple):
    """Everything constant that the compiled simulator reads (P pools, T tokens, R regimes)."""

    cycles: np.ndarray  # Graph.cycles
    weights: np.ndarray  # Graph.weights
    token0: np.ndarray  # int64[P]
    token1: np.ndarray  # int64[P]
    depth_eth: np.ndarray  # float64[P]
    exposure: np.ndarray  # float64[T, 2] to ln ETH/USD and ln BTC/USD
    same_price: np.ndarray  # int64[T], the first token with this token's exposure
    quantiles: np.ndarray  # float64[4 + R, CELLS + 1]
    count_cdf: np.ndarray  # float64[M + 1], P(users' swaps <= n), 1 at the end
    rival_log_rate: np.ndarray  # float64[R]
    rule_cdf: np.ndarray  # float64[R, RULES]
    size_factor: np.ndarray  # float64[R]
    world: int  # first of the simulator's own rows
    episode_slots: int
    depth_sigma: float
    private_share: float
    private_ahead_share: float
    size_max: float  # fraction of a reserve
    swap_gas: float
    informed_probability: float
    informed_payment: float  # fraction of volume
    own_tip: float  # gwei
    base_fee: float  # gwei
    base_fee_sigma: float
    gas_limit: float
    gas_elasticity: float
    regime_leave: float  # chance per slot
    value_slope: float
    clamp_low: float  # gwei
    clamp_high: float  # gwei
    start_noise: float  # largest |ln price error| of a pool at the start


def world_rows(tokens: int) -> int:
    """Rows that the simulator adds to a tile."""
    return FIXED_WORLD_ROWS + 4 * tokens


def _cell_edges() -> np.ndarray:
    """Probabilities of the tabulated quantiles; the ends stand for the outermost cells' means."""
    edges = np.linspace(0.0, 1.0, CELLS + 1)
    edges[0], edges[-1] = 0.25 / CELLS, 1.0 - 0.25 / CELLS
    return edges


def _shown_quantiles(shown: tuple[float, ...], low: float, high: float) -> np.ndarray:
    """Piecewise linear through the 5/25/50/75/95 % points, `low` and `high` at the ends."""
    return np.interp(
        np.linspace(0.0, 1.0, CELLS + 1), (0.0, *SHOWN_PROBABILITIES, 1.0), (low, *shown, high)
    )


def _quantile_table(config: MarketConfig) -> np.ndarray:
    edges = _cell_edges()
    normal = ndtri(edges)
    size = config.user_size_median * np.exp(config.user_size_sigma * normal)
    tip = _shown_quantiles(config.tip_gwei, 0.0, 2.0 * config.tip_gwei[-1])
    gas_low = max(0.0, 2.0 * config.gas_used_ratio[0] - config.gas_used_ratio[1])
    gas = _shown_quantiles(config.gas_used_ratio, gas_low, 2.0)
    # Kumaraswamy: F(x) = 1 - (1 - x^a)^b on [0, 1].
    efficiency = [
        (1.0 - (1.0 - np.linspace(0.0, 1.0, CELLS + 1)) ** (1.0 / b)) ** (1.0 / a)
        for a, b in zip(config.efficiency_a, config.efficiency_b)
    ]
    return np.ascontiguousarray([normal, size, tip, gas, *efficiency])


def physics_of(config: MarketConfig, graph: Graph) -> Physics:
    """Tabulate a configuration for the simulator."""
    count_cdf = poisson.cdf(np.arange(PENDING + 1), config.user_rate)
    count_cdf[-1] = 1.0
    rule_cdf = np.cumsum(np.asarray(config.rule_weight, np.float64), axis=1)
    rule_cdf[:, -1] = 1.0
    pairs = list(zip(config.eth_exposure, config.btc_exposure))
    return Physics(
        cycles=graph.cycles,
        weights=graph.weights,
        token0=graph.token0,
        token1=graph.token1,
        depth_eth=np.asarray(config.depth_eth, np.float64),
        exposure=np.array(pairs, np.float64),
        same_price=np.array([pairs.index(pair) for pair in pairs], np.int64),
        quantiles=_quantile_table(config),
        count_cdf=count_cdf,
        rival_log_rate=np.asarray(config.rival_log_rate, np.float64),
        rule_cdf=rule_cdf,
        size_factor=np.asarray(config.regime_size_factor, np.float64),
        world=tile_rows(graph),
        episode_slots=int(config.episode_slots),
        depth_sigma=float(config.depth_sigma),
        private_share=float(config.private_share),
        private_ahead_share=float(config.private_ahead_share),
        size_max=float(config.user_size_max),
        swap_gas=float(config.swap_gas),
        informed_probability=float(config.informed_probability),
        informed_payment=1e-4 * config.informed_payment_bps,
        own_tip=float(config.own_tip_gwei),
        base_fee=float(config.base_fee_median_gwei),
        base_fee_sigma=float(config.base_fee_sigma),
        gas_limit=float(config.gas_limit),
        gas_elasticity=float(config.gas_elasticity),
        regime_leave=1.0 / config.regime_stay_slots,
        value_slope=float(config.rival_value_slope),
        clamp_low=float(config.clamp_gwei[0]),
        clamp_high=float(config.clamp_gwei[1]),
        start_noise=-0.9 * float(np.log(config.fee_numerator / config.fee_denominator)),
    )
