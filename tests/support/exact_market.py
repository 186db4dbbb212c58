"""A simulated market played a second time on integers: pairs and concentrated pools moved by the
exact kernels, loans by Aave's integer formula, through whole episodes.

The ends of a tile's segments are real numbers, ticks are integers. Here a swap runs up to an end as
its price limit, which may be any Q64.96 number, and the liquidity changes there, as by a mint or a
burn over all prices. `quote_on_ticks` is the same pool with its ends on the nearest ticks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from envs.vector import MarketVectorEnv
from kernels.graph.market_graph import HOPS, POOL, ROW_IN
from kernels.market.amm import SEGMENT_ROOT
from kernels.market.lending import CLOSE_FACTOR, FULL_CLOSE_HEALTH, LIQUIDATION_THRESHOLD
from kernels.market.tile import (
    CONCENTRATED_FROM,
    CONCENTRATED_ROWS,
    LANES,
    LIQUIDITY,
    LOAN_COLLATERAL,
    LOAN_DEBT,
    LOAN_HUB_FIRST,
    LOAN_POOL,
    LOAN_PRICE,
    LOWEST_ROOT,
    RESERVES,
    SEGMENT,
    SEGMENTS,
    layout_of,
)
from kernels.numbers.u256 import from_limbs, to_limbs
from kernels.pools.uniswap_v2 import OK, quote_in_batch, quote_out_batch
from kernels.pools.uniswap_v3.pool import Trades, empty_results, swap_batch
from kernels.pools.uniswap_v3.state import PoolSnapshot, V3Pools, build_pools
from kernels.pools.uniswap_v3.tick_math import MAX_TICK, MIN_TICK
from tests.support.uniswap_v3.reference import get_tick_at_sqrt_ratio

Q96 = 2**96
FEE_PIPS = 3000
SPACING = 60  # of the 0.3 % tier
# All ticks but the last count as loaded, so that liquidity may stand in a pool without ticks.
NO_TICKS = (MIN_TICK, MAX_TICK - 1)
NUMERATOR, DENOMINATOR = np.array([997]), np.array([1000])
RAY = 10**27  # prices of the oracle; its 8 decimals would cost 1e-8 of a liquidation's value
PERCENT = 10_000


@dataclass(frozen=True)
class PairSwap:
    """A swap on a constant product: reserves before it, in smallest units."""

    sold: int
    bought: int
    amount_in: int
    amount_out: int

    def quote_on_ticks(self, amount: int) -> int:
        """What `amount` buys: a pair has no ticks."""
        return _pair_quote(self.sold, self.bought, amount, exact_in=True)


@dataclass(frozen=True)
class Step:
    """A swap on one segment of a concentrated pool, with the liquidity that it has."""

    sqrt_price: int
    liquidity: int
    limit: int  # 0: as far as it goes
    amount_in: int
    amount_out: int
    after: int  # square-root price


@dataclass(frozen=True)
class PoolSwap:
    """A swap on a concentrated pool, segment by segment."""

    forward: bool
    amount_in: int
    amount_out: int
    steps: tuple[Step, ...]
    ends: tuple[int, ...]  # [S + 1] square-root prices; the outermost are not used
    liquidity: tuple[int, ...]  # [S]

    def quote_on_ticks(self, amount: int) -> int:
        """What `amount` buys when the segments end on the nearest ticks of spacing 1."""
        ticks: dict[int, tuple[int, int]] = {}
        for lower, upper, liquidity in positions_on_ticks(self):
            for tick, net in ((lower, liquidity), (upper, -liquidity)):
                gross, before = ticks.get(tick, (0, 0))
                ticks[tick] = (gross + liquidity, before + net)
        price = self.steps[0].sqrt_price
        tick = get_tick_at_sqrt_ratio(price)
        active = sum(net for at, (_, net) in ticks.items() if at <= tick)
        pools = build_pools([PoolSnapshot(price, tick, active, FEE_PIPS, 1, ticks)], 0)
        return swap_row(pools, 0, self.forward, amount)[1]


Swap = PairSwap | PoolSwap


@dataclass(frozen=True)
class Plan:
    """A plan that ran: what it paid out beyond its input, and what the simulator said of it."""

    kind: str
    swaps: tuple[Swap, ...]
    gross_wei: int
    simulated_gross: float  # ETH


def _pair_quote(sold: int, bought: int, amount: int, exact_in: bool) -> int:
    """Router02's amount for a pair with 0.3 %, by the exact kernel."""
    status, answer = np.zeros(1, np.int64), np.zeros((1, 2), np.uint64)
    reserves = (to_limbs([sold], 2), to_limbs([bought], 2))
    quote = quote_out_batch if exact_in else quote_in_batch
    quote(*reserves, NUMERATOR, DENOMINATOR, to_limbs([amount], 2), answer, status)
    assert status[0] == OK
    return from_limbs(answer)[0]


@dataclass
class ConcentratedRow:
    """One concentrated pool: a row of the kernel's arrays, and what lies beyond its segment."""

    pools: V3Pools
    row: int
    segment: int
    ends: tuple[int, ...]
    liquidity: tuple[int, ...]

    @property
    def sqrt_price(self) -> int:
        """Q64.96, from the kernel's array."""
        return from_limbs(self.pools.sqrt_price_x96[self.row : self.row + 1])[0]

    def sell(self, forward: bool, amount: int) -> PoolSwap:
        """Swap `amount`, crossing as many segments as it needs."""
        steps, left = [], amount
        while left > 0:
            last = self.segment == (0 if forward else SEGMENTS - 1)
            limit = 0 if last else self.ends[self.segment + (0 if forward else 1)]
            start = self.sqrt_price
            if start != limit:
                paid, out = self._swap(forward, left, limit)
                now = self.liquidity[self.segment]
                steps.append(Step(start, now, limit, paid, out, self.sqrt_price))
                left -= paid
            if left > 0:
                assert self.sqrt_price == limit
                self.segment += -1 if forward else 1
                self.pools.liquidity[self.row] = to_limbs([self.liquidity[self.segment]], 2)[0]
        total = sum(step.amount_out for step in steps)
        return PoolSwap(forward, amount, total, tuple(steps), self.ends, self.liquidity)

    def _swap(self, forward: bool, amount: int, limit: int) -> tuple[int, int]:
        return swap_row(self.pools, self.row, forward, amount, limit)


def swap_row(
    pools: V3Pools, row: int, forward: bool, amount: int, limit: int = 0
) -> tuple[int, int]:
    """(paid, received) of an exact input on one pool of the kernel's arrays, which moves."""
    trades = Trades(
        pool=np.array([row], np.int32),
        zero_for_one=np.array([forward]),
        exact_in=np.ones(1, np.bool_),
        amount=to_limbs([amount], 4),
        limit=to_limbs([limit], 4),
    )
    results = empty_results(1)
    swap_batch(pools, trades, results, True)
    assert results.status[0] == OK
    return from_limbs(results.amount_in)[0], from_limbs(results.amount_out)[0]


def positions_on_ticks(swap: PoolSwap) -> list[tuple[int, int, int]]:
    """(lower, upper, liquidity) of each segment, its ends moved to the nearest ticks."""
    inner = [
        round(2.0 * float(np.log(end / Q96)) / float(np.log(1.0001))) for end in swap.ends[1:-1]
    ]
    bounds = [MIN_TICK, *inner, MAX_TICK]
    return list(zip(bounds[:-1], bounds[1:], swap.liquidity))


def build_rows(env: MarketVectorEnv) -> list[list[ConcentratedRow]]:
    """Concentrated pools [lanes][V] of the present tiles, in the arrays of the exact kernel."""
    graph, tiles = env.config.graph, env._tiles
    pools = graph.token0.size
    count = env.config.pools.concentrated
    found: list[tuple[PoolSnapshot, int, tuple[int, ...], tuple[int, ...]]] = []
    for lane in range(env.num_envs):
        column = tiles[lane // LANES, :, lane % LANES]
        for index in range(count):
            pool = int(column[CONCENTRATED_FROM]) + index
            unit0 = 10.0 ** float(graph.decimals[graph.token0[pool]])
            unit1 = 10.0 ** float(graph.decimals[graph.token1[pool]])
            scale = np.sqrt(unit1 / unit0) * 2.0**96
            at = layout_of(graph).concentrated + CONCENTRATED_ROWS * index
            root = np.sqrt(column[RESERVES + pools + pool] / column[RESERVES + pool])
            ends = tuple(int(column[at + LOWEST_ROOT] * r * scale) for r in SEGMENT_ROOT)
            depth = column[at + LIQUIDITY : at + LIQUIDITY + SEGMENTS] * np.sqrt(unit0 * unit1)
            liquidity = tuple(int(value) for value in depth)
            price, segment = int(root * scale), int(column[at + SEGMENT])
            snapshot = PoolSnapshot(
                price,
                get_tick_at_sqrt_ratio(price),
                liquidity[segment],
                FEE_PIPS,
                SPACING,
                known_ticks=NO_TICKS,
            )
            found.append((snapshot, segment, ends, liquidity))
    arrays = build_pools([snapshot for snapshot, *_ in found], 0)
    rows = [
        ConcentratedRow(arrays, row, segment, ends, liquidity)
        for row, (_, segment, ends, liquidity) in enumerate(found)
    ]
    return [rows[lane * count : (lane + 1) * count] for lane in range(env.num_envs)]


@dataclass
class Ledger:
    """The pools of one lane in smallest units, moved by the exact kernels."""

    env: MarketVectorEnv
    lane: int
    concentrated: Sequence[ConcentratedRow]
    reserves: list[int] = field(init=False)
    unit: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Take over the reserves of the tile."""
        graph = self.env.config.graph
        self.pools, self.cycles = graph.token0.size, graph.cycles
        decimals = [*graph.decimals[graph.token0], *graph.decimals[graph.token1]]
        self.unit = [10 ** int(d) for d in decimals]
        column = self.column()
        self.first = int(column[CONCENTRATED_FROM])
        self.reserves = [
            round(float(column[RESERVES + row]) * unit) for row, unit in enumerate(self.unit)
        ]

    def column(self) -> np.ndarray:
        """The lane's present column of its tile."""
        return self.env._tiles[self.lane // LANES, :, self.lane % LANES]

    def sell(self, pool: int, forward: bool, amount: int) -> Swap:
        """One swap of `amount` smallest units, executed."""
        if pool >= self.first:
            return self.concentrated[pool - self.first].sell(forward, amount)
        row_in, row_out = self.rows(pool, forward)
        sold, bought = self.reserves[row_in], self.reserves[row_out]
        out = _pair_quote(sold, bought, amount, exact_in=True)
        self._move(row_in, row_out, amount, out)
        return PairSwap(sold, bought, amount, out)

    def run_cycle(self, cycle: int, amount: float, simulated_gross: float) -> Plan:
        """Execute a cycle with `amount` hub tokens."""
        swaps: list[Swap] = []
        left = units = round(amount * self.unit[int(self.cycles[cycle, ROW_IN])])
        for hop in range(int(self.cycles[cycle, HOPS])):
            forward = int(self.cycles[cycle, ROW_IN + hop]) < self.pools
            swaps.append(self.sell(int(self.cycles[cycle, POOL + hop]), forward, left))
            left = swaps[-1].amount_out
        concentrated = [one for one in swaps if isinstance(one, PoolSwap)]
        kind = "constant products" if not concentrated else "with concentrated pools"
        if any(len(one.steps) > 1 for one in concentrated):
            kind = "across segments"
        return Plan(kind, tuple(swaps), left - units, simulated_gross)

    def run_liquidation(self, loan: int, column: np.ndarray, repaid: float, gross: float) -> Plan:
        """Buy `repaid` of a loan's debt and receive collateral, by Aave's integers."""
        pool = int(column[LOAN_POOL + loan])
        row_in, row_out = self.rows(pool, bool(column[LOAN_HUB_FIRST + loan] > 0.0))
        unit_in, unit_out = self.unit[row_in], self.unit[row_out]
        # Hub per debt token in ray: the hub's own price is 1 ray.
        price = int(Fraction(float(column[LOAN_PRICE + loan])) * RAY)
        debt = round(column[LOAN_DEBT + loan] * unit_out)
        collateral = round(column[LOAN_COLLATERAL + loan] * unit_in)
        threshold = round(LIQUIDATION_THRESHOLD * PERCENT)
        debt_value = debt * price * unit_in // unit_out
        health_ray = collateral * RAY * threshold // PERCENT * RAY // debt_value
        assert health_ray < RAY
        close = CLOSE_FACTOR if health_ray > round(FULL_CLOSE_HEALTH * 10**9) * 10**18 else 1.0
        amount = min(round(repaid * unit_out), debt * round(close * PERCENT) // PERCENT)
        sold, bought = self.reserves[row_in], self.reserves[row_out]
        cost = _pair_quote(sold, bought, amount, exact_in=False)
        self._move(row_in, row_out, cost, amount)
        # LiquidationLogic: price ratio first, then percentMul with half up, bonus 10,500.
        base = price * amount * unit_in // (RAY * unit_out)
        seized = (base * 10_500 + PERCENT // 2) // PERCENT
        assert seized <= collateral + 1
        return Plan("liquidation", (PairSwap(sold, bought, cost, amount),), seized - cost, gross)

    def rows(self, pool: int, forward: bool) -> tuple[int, int]:
        """Rows of what is sold and of what is bought."""
        return (pool, pool + self.pools) if forward else (pool + self.pools, pool)

    def _move(self, row_in: int, row_out: int, amount: int, out: int) -> None:
        self.reserves[row_in] += amount
        self.reserves[row_out] -= out

    def distance(self) -> float:
        """Largest relative difference of a reserve, or square-root price, from the tile's."""
        column, worst = self.column(), 0.0
        for pool in range(self.pools):
            ours = [column[RESERVES + row] for row in (pool, pool + self.pools)]
            if pool >= self.first:
                one = self.concentrated[pool - self.first]
                scale = np.sqrt(self.unit[pool + self.pools] / self.unit[pool]) * 2.0**96
                exact = [one.sqrt_price / scale]
                ours = [np.sqrt(ours[1] / ours[0])]
            else:
                rows = (pool, pool + self.pools)
                exact = [self.reserves[row] / self.unit[row] for row in rows]
            worst = max(worst, *(abs(a / b - 1.0) for a, b in zip(ours, exact)))
        return worst
