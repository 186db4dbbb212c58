"""Optimal routing against published optima, closed forms, greedy cycles, another solver and its own
certificate."""

import os
from itertools import permutations
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from history.pools import V3_KIND, read_pools
from kernels.sizing.routing_pools import (
    Floats,
    PairPools,
    PoolSet,
    Trade,
    concentrated_pools,
    product_pools,
    sum_pools,
    weighted_pools,
)
from models.routing import BasketLiquidation, LinearNonnegative, route, route_above_cost
from models.routing_markets import pool_sets

property_test = settings(deadline=None, max_examples=25)


def paper_pools(tokens: int) -> list[PoolSet]:
    """The pools of angeris/cfmm-routing-code: one weighted of all tokens, three product, a sum."""
    last = tokens - 1
    pairs = [[0, 1], [last - 2, last - 1], [last - 1, last]]
    return [
        weighted_pools([range(tokens)], [[4.0] * tokens], [range(tokens, 0, -1)], [0.998]),
        product_pools(pairs, [[10, 1], [1, 5], [40, 50]], [0.997] * 3),
        sum_pools([[last - 1, last]], [[10, 10]], [0.999]),
    ]


def test_published_arbitrage() -> None:
    found = route(paper_pools(4), 4, LinearNonnegative(np.array([1.5, 10.0, 2.0, 3.0])))
    assert found.value == pytest.approx(21.4998088, abs=1e-7)
    assert found.net_flow == pytest.approx([0, 1.17499, 0, 3.24997], abs=5e-5)
    assert abs(found.gap) < 1e-9


def test_published_liquidation() -> None:
    basket = np.array([2.0, 1.0, 3.0, 5.0, 10.0])
    found = route(paper_pools(5), 5, BasketLiquidation(4, basket))
    assert found.value == pytest.approx(15.8830109, abs=1e-7)
    assert found.net_flow[:4] == pytest.approx(-basket[:4], abs=1e-9)
    assert abs(found.gap) < 1e-9


def random_market(
    seed: int, pools: int, tokens: int, spread: float = 0.02
) -> tuple[PairPools, Floats, Floats, Floats]:
    """(constant-product pools, prices, reserves, gamma) of tokens with 6 or 18 decimals, where
    the pools disagree by `spread`."""
    rng = np.random.default_rng(seed)
    price = np.exp(rng.normal(0, 2, tokens)) / 10.0 ** rng.choice([6, 18], tokens)
    pairs = np.array([rng.choice(tokens, 2, replace=False) for _ in range(pools)])
    worth = np.exp(rng.normal(10, 1.5, pools))[:, None]
    reserves = worth / price[pairs] * np.exp(rng.normal(0, spread, (pools, 2)))
    gamma = rng.choice([0.997, 0.9975, 0.9995], pools)
    return product_pools(pairs, reserves, gamma), price, reserves, gamma


def check_feasible(reserves: Floats, gamma: Floats, trade: Trade) -> None:
    """No pool loses: gamma-charged input keeps the product."""
    tendered, received = trade.tendered, trade.received
    assert np.all(tendered >= 0)
    assert np.all(received >= 0)
    assert np.all(received < reserves)
    before = reserves.prod(axis=1)
    after = (reserves + gamma[:, None] * tendered - received).prod(axis=1)
    assert np.all(after >= before * (1 - 1e-12))


@pytest.mark.parametrize(("seed", "size"), [(1, 10), (2, 100), (3, 1000)])
def test_certificate_closes_on_random_markets(seed: int, size: int) -> None:
    tokens = max(int(2 * sqrt(size)), 4)
    pools, price, reserves, gamma = random_market(seed, size, tokens)
    found = route([pools], tokens, LinearNonnegative(price))
    assert found.value > 0
    assert abs(found.gap) <= 1e-9 * found.value
    assert float(found.prices @ found.shortfall) <= 1e-9 * found.value
    check_feasible(reserves, gamma, found.trades[0])
    # Between what a pool charges and pays no trade is left, at the prices found.
    local, trade = found.prices[pools.tokens], found.trades[0]
    after = reserves + gamma[:, None] * trade.tendered - trade.received
    ratio = (after[:, 1] / after[:, 0]) / (local[:, 0] / local[:, 1])
    assert np.all(ratio >= gamma * (1 - 1e-7))
    assert np.all(ratio <= 1 / gamma * (1 + 1e-7))


@pytest.mark.parametrize("seed", range(3))
def test_descent_on_the_dual_alone_finds_the_same_bound(seed: int) -> None:
    """scipy's L-BFGS-B over the prices, with each pool's closed form as value and gradient."""
    pools, price, _, _ = random_market(seed, 40, 8)
    found = route([pools], 8, LinearNonnegative(price))

    def dual(scaled: Floats) -> tuple[float, Floats]:
        local = (scaled * price)[pools.tokens]
        trade = pools.trade(local)
        flow = trade.flow(pools.tokens, 8)
        return float(trade.gain(local).sum()) / found.value, flow * price / found.value

    options = {"maxcor": 20, "ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000}
    least = minimize(
        dual, np.ones(8), jac=True, method="L-BFGS-B", bounds=[(1.0, None)] * 8, options=options
    )
    assert least.fun == pytest.approx(found.bound / found.value, rel=1e-6)
    assert least.fun >= found.bound / found.value * (1 - 1e-9)


@property_test
@given(
    st.lists(st.floats(1e3, 1e9), min_size=4, max_size=4),
    st.floats(0.9, 0.9999),
)
def test_two_pools_equal_the_closed_form(reserves: list[float], gamma: float) -> None:
    """Buy in one pool, sell in the other: the Moebius optimum (sqrt A - sqrt B)^2 / C."""
    pools = product_pools([[0, 1], [0, 1]], [reserves[:2], reserves[2:]], [gamma, gamma])
    found = route([pools], 2, LinearNonnegative(np.array([1.0, 0.0])))
    best = 0.0
    for (x, y), (u, v) in permutations([reserves[:2], reserves[2:]]):
        a, b, c = gamma * gamma * y * u, x * v, v * gamma + gamma * gamma * y
        if a > b:
            best = max(best, (sqrt(a) - sqrt(b)) ** 2 / c)
    scale = max(reserves)
    assert found.value == pytest.approx(best, rel=1e-7, abs=1e-9 * scale)
    assert found.bound >= best - 1e-12 * scale
    assert found.gap <= 1e-9 * scale


def greedy_cycles(pools: PairPools, reserves: Floats, gamma: Floats, start: int) -> float:
    """Profit in `start` of taking the best cycle of 2 or 3 hops, each at its best size, again."""
    reserves = reserves.copy()
    edges: dict[int, list[tuple[int, int, int]]] = {}
    for pool, (a, b) in enumerate(pools.tokens.tolist()):
        edges.setdefault(a, []).append((pool, 0, b))
        edges.setdefault(b, []).append((pool, 1, a))
    cycles = []
    for first in edges.get(start, []):
        for second in edges[first[2]]:
            if second[0] == first[0]:
                continue
            if second[2] == start:
                cycles.append([first, second])
                continue
            for third in edges[second[2]]:
                if third[2] == start and third[0] not in (first[0], second[0]):
                    cycles.append([first, second, third])
    total = 0.0
    for _ in range(400):
        profit, size, cycle = max((*best_size(reserves, gamma, cycle), cycle) for cycle in cycles)
        if profit <= 1e-12 * reserves.max():
            break
        total += profit
        amount = size
        for pool, side, _ in cycle:
            charged = gamma[pool] * amount
            out = charged * reserves[pool, 1 - side] / (reserves[pool, side] + charged)
            # The fee stays in the pool, but not in the product that routing keeps constant.
            reserves[pool, side] += charged
            reserves[pool, 1 - side] -= out
            amount = out
    return total


def best_size(reserves: Floats, gamma: Floats, cycle: list) -> tuple[float, float]:
    """Largest profit of a cycle and its input, by the Moebius closed form."""
    a, b, c = 1.0, 1.0, 0.0
    for pool, side, _ in cycle:
        into, out = reserves[pool, side], reserves[pool, 1 - side]
        a, b, c = gamma[pool] * out * a, into * b, into * c + gamma[pool] * a
        a, b, c = a / b, 1.0, c / b
    if a <= 1:
        return 0.0, 0.0
    return float((sqrt(a) - 1) ** 2 / c), float((sqrt(a) - 1) / c)


@pytest.mark.parametrize("seed", range(6))
def test_never_below_greedy_cycles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [rng.choice(5, 2, replace=False) for _ in range(14)]
    reserves = 1e6 * np.exp(rng.normal(0, 0.03, (14, 2)))
    gamma = np.full(14, 0.997)
    pools = product_pools(pairs, reserves, gamma)
    prices = np.zeros(5)
    prices[0] = 1.0
    found = route([pools], 5, LinearNonnegative(prices))
    greedy = greedy_cycles(pools, reserves, gamma, 0)
    assert greedy > 0
    assert found.value >= greedy * (1 - 1e-9)
    assert found.bound >= found.value - 1e-6


@property_test
@given(st.integers(0, 2**32), st.floats(0.5, 2.0))
def test_no_prices_prove_less_than_the_value(seed: int, factor: float) -> None:
    """Weak duality: the dual at any admissible prices stays above what any trades earn."""
    pools, price, _, _ = random_market(seed, 8, 4)
    found = route([pools], 4, LinearNonnegative(price))
    other = np.maximum(found.prices * factor ** np.arange(4), price)
    bound = float(pools.trade(other[pools.tokens]).gain(other[pools.tokens]).sum())
    assert bound >= found.value * (1 - 1e-9) - 1e-9


def test_pools_without_a_fee_keep_an_honest_certificate() -> None:
    """Round trips are free, so that the best trades are not unique: the bound still holds."""
    for reserves in ([1e3, 1e3, 1e3, 1e3], [1e3, 1e3, 1795518.0, 1011.0], [5.0, 7.0, 7.0, 5.0]):
        pools = product_pools([[0, 1], [0, 1]], [reserves[:2], reserves[2:]], [1.0, 1.0])
        found = route([pools], 2, LinearNonnegative(np.array([1.0, 0.0])))
        earned = found.value - float(found.prices @ found.shortfall)
        assert earned <= found.bound + 1e-9 * max(reserves)
        assert found.gap <= 1e-5 * max(reserves)


def test_nothing_to_earn_trades_nothing() -> None:
    pools = product_pools([[0, 1], [0, 1]], [[1e6, 1e6], [2e6, 2e6]], [0.997, 0.997])
    found = route([pools], 2, LinearNonnegative(np.array([1.0, 1.0])))
    assert found.value == 0
    assert found.gap == 0
    assert np.all(found.trades[0].tendered == 0)


def test_weighted_pool_with_equal_weights_is_a_product_pool() -> None:
    tokens, reserves, gamma = [[0, 1], [0, 1]], [[1e6, 3e6], [2e6, 5e6]], [0.997, 0.99]
    prices = np.array([1.0, 0.2])
    product = product_pools(tokens, reserves, gamma)
    weighted = weighted_pools(tokens, reserves, [[1, 1], [2, 2]], gamma)
    local = prices[product.tokens]
    for name in ("tendered", "received"):
        assert getattr(weighted.trade(local), name) == pytest.approx(
            getattr(product.trade(local), name), rel=1e-9
        )


@property_test
@given(st.integers(0, 2**32))
def test_weighted_trade_keeps_the_mean_and_leaves_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pools = weighted_pools(
        [[0, 1, 2, 3]], rng.uniform(1, 100, (1, 4)), rng.uniform(0.1, 1, (1, 4)), [0.99]
    )
    prices = rng.uniform(0.1, 10, (1, 4))
    trade = pools.trade(prices)
    after = pools.reserves + 0.99 * trade.tendered - trade.received
    assert (pools.weights * np.log(after / pools.reserves)).sum() == pytest.approx(0, abs=1e-12)
    # Marginal worth w / (x nu): equal among the given, among the taken, 1 / gamma apart.
    level = pools.weights / (after * prices)
    given, taken = trade.tendered > 0, trade.received > 0
    if given.any():
        assert np.ptp(level[given]) <= 1e-9 * level[given].max()
        assert np.ptp(level[taken]) <= 1e-9 * level[taken].max()
        assert level[given].max() * 0.99 == pytest.approx(level[taken].max(), rel=1e-9)


def test_tick_ranges_add_up_to_the_wide_pool() -> None:
    """A product pool cut into price ranges trades like the whole, and a range stops at its end."""
    whole = product_pools([[0, 1]], [[1e6, 4e6]], [0.997])
    liquidity, price = 2e6, 2.0
    bounds = [[1e-6, 1.0], [1.0, 1.5], [1.5, 2.5], [2.5, 4.0], [4.0, 1e6]]
    parts = concentrated_pools([[0, 1]] * 5, [liquidity] * 5, [price] * 5, bounds, [0.997] * 5)
    for ratio in (0.01, 1.0, 3.0, 3.99, 4.2, 30.0, 1e4):
        local = np.array([[ratio, 1.0]])
        one, many = whole.trade(local), parts.trade(np.repeat(local, 5, axis=0))
        assert many.received.sum(axis=0) == pytest.approx(one.received[0], rel=1e-5, abs=1e-3)
        assert many.tendered.sum(axis=0) == pytest.approx(one.tendered[0], rel=1e-5, abs=1e-3)
    drained = parts.trade(np.repeat([[1e20, 1.0]], 5, axis=0))
    held = [2e6 * (1 / max(low, price) - 1 / high) for low, high in bounds[2:]]
    assert drained.received[2:, 0] == pytest.approx(held, rel=1e-9)
    assert np.all(drained.received[:2, 0] == 0)


@property_test
@given(st.integers(0, 2**32))
def test_curvature_is_the_slope_of_the_flow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pools = weighted_pools(
        [[0, 1, 2]], rng.uniform(1, 9, (1, 3)), rng.uniform(1, 9, (1, 3)), [0.98]
    )
    prices = rng.uniform(0.5, 2, (1, 3))
    slope = pools.curvature(prices)[0]
    assert slope == pytest.approx(slope.T, rel=1e-9, abs=1e-9)
    for j in range(3):
        shift = 1e-6 * prices[0, j] * np.eye(3)[j]
        flows = [
            (trade.received - trade.tendered)[0]
            for trade in (pools.trade(prices + shift), pools.trade(prices - shift))
        ]
        if np.array_equal(np.sign(flows[0]), np.sign(flows[1])):
            change = (flows[0] - flows[1]) / (2e-6 * prices[0, j])
            assert slope[:, j] == pytest.approx(change, rel=1e-4, abs=1e-4)


def test_all_kinds_at_once_beat_the_pairs_alone() -> None:
    """More pools never earn less: the published weighted and constant-sum pools beside ranges."""
    prices = np.array([1.5, 10.0, 2.0, 3.0])
    ranges = concentrated_pools(
        [[0, 1], [1, 2]], [5, 5], [0.4, 2.3], [[0.3, 0.5], [2, 2.5]], [0.9995] * 2
    )
    everything = paper_pools(4)
    least = 0.0
    for count in range(1, 4):
        found = route([*everything[:count], ranges], 4, LinearNonnegative(prices))
        assert found.value >= least - 1e-9
        assert abs(found.gap) <= 1e-8 * max(found.value, 1.0)
        least = found.value
    assert least >= 21.4998


DATA = os.environ.get("MEVRL_DATA")
SNAPSHOTS = Path(DATA or ".") / "pools"


@pytest.mark.skipif(
    not DATA or not SNAPSHOTS.is_dir(), reason="MEVRL_DATA names no folder with pools/"
)
@pytest.mark.parametrize("name", ["18806136", "17674862"])
def test_real_graphs_close_their_certificate_above_greedy_cycles(name: str) -> None:
    market = read_pools(SNAPSHOTS / f"fastlane_pools_block_{name}.parquet")
    graph, _, depth = market.graph()
    market = market.select(depth >= 1e18)
    prices = np.zeros(len(market.tokens))
    prices[graph.hub] = 1.0
    sets = pool_sets(market)
    found = route(sets, len(market.tokens), LinearNonnegative(prices))
    assert found.value > 1e14, "wei of WETH"
    assert abs(found.gap) <= 1e-6 * found.value
    # Greedy cycles through the pairs alone, which the route may use too.
    pairs = [pool for pool in market.pools if pool.kind != V3_KIND]
    reserves = np.array([(pool.reserve0, pool.reserve1) for pool in pairs], np.float64)
    alone = route(sets[:1], len(market.tokens), LinearNonnegative(prices))
    greedy = greedy_cycles(sets[0], reserves, np.full(len(pairs), 0.997), graph.hub)
    assert alone.value >= greedy * (1 - 1e-9) - 1.0
    assert found.bound >= alone.value * (1 - 1e-9)
    assert abs(alone.gap) <= 1e-6 * max(alone.value, 1e14)


def test_pools_below_the_cost_are_left_out() -> None:
    pools, price, _, _ = random_market(7, 60, 10)
    free = route([pools], 10, LinearNonnegative(price))
    gains = free.trades[0].gain(free.prices[pools.tokens])
    cost = float(np.median(gains[gains > 0]))
    found, kept = route_above_cost([pools], 10, LinearNonnegative(price), cost)
    assert 0 < len(kept[0]) < 60
    assert found.value <= free.value
    assert np.all(found.trades[0].gain(found.prices[pools.tokens[kept[0]]]) >= cost)
    # More is kept than the pools left out would have cost.
    assert found.value - cost * len(kept[0]) > free.value - cost * np.count_nonzero(gains)
    none, kept = route_above_cost([pools], 10, LinearNonnegative(price), 1e30)
    assert len(kept[0]) == 0
    assert none.value == 0


def test_liquidating_one_token_through_one_pool_is_a_swap() -> None:
    pools = product_pools([[0, 1]], [[1e6, 2e6]], [0.997])
    found = route([pools], 2, BasketLiquidation(1, np.array([1000.0, 0.0])))
    assert found.value == pytest.approx(997 * 2e6 / (1e6 + 997), rel=1e-9)


def test_bad_input_is_named() -> None:
    pools = product_pools([[0, 1]], [[1, 1]], [0.997])
    with pytest.raises(ValueError, match="prices"):
        route([pools], 2, LinearNonnegative(np.array([0.0, 0.0])))
    with pytest.raises(ValueError, match="prices"):
        route([pools], 3, LinearNonnegative(np.array([1.0, 1.0])))
    with pytest.raises(ValueError, match="tokens"):
        route([pools], 1, LinearNonnegative(np.array([1.0])))
    with pytest.raises(ValueError, match="basket"):
        route([pools], 2, BasketLiquidation(1, np.array([-1.0, 0.0])))
    with pytest.raises(ValueError, match="target"):
        route([pools], 2, BasketLiquidation(5, np.array([1.0, 0.0])))
    with pytest.raises(ValueError, match="no pools lead"):
        route([pools], 3, BasketLiquidation(1, np.array([0.0, 0.0, 1.0])))
    with pytest.raises(ValueError, match="reserves"):
        product_pools([[0, 1]], [[0, 1]], [0.997])
    with pytest.raises(ValueError, match="gamma"):
        product_pools([[0, 1]], [[1, 1]], [1.1])
    with pytest.raises(ValueError, match="weights"):
        weighted_pools([[0, 1]], [[1, 1]], [[1, 0]], [0.9])
    with pytest.raises(ValueError, match="sqrt_range"):
        concentrated_pools([[0, 1]], [1], [1], [[2, 1]], [0.9])
    with pytest.raises(ValueError, match="expected \\[m, n\\]"):
        product_pools([[0, 1]], [[1, 1], [1, 1]], [0.9])
