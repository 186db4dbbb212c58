"""Optimal routing through many pools at once, with the certificate of dual decomposition.

Maximise U(Psi) over the net flow Psi = sum_i A_i (Lambda_i - Delta_i), where every pool keeps its
trading function; the dual asks each pool alone for its best trade at token prices nu (Angeris,
Chitra, Evans, Boyd, "Optimal Routing for Constant Function Market Makers"), so that any prices
bound what any trades can earn. Floats only: the answer ranks and splits baskets of opportunities,
and integers decide afterwards. The closed forms are in kernels.sizing.routing_pools; the solver
needs scipy, which the ground floor does not import.

Prices and trades are found together by a primal-dual interior point method (Boyd, Vandenberghe,
Convex Optimization, section 11.7). L-BFGS-B on the dual alone, which the paper uses, finds the same
optimum on small smooth instances (the tests compare them), but its trades miss feasibility by more
than they earn on real graphs, where narrow tick ranges and constant sums make the dual kink.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.linalg import spsolve

from kernels.sizing.routing_pools import Floats, Indices, PairPools, PoolSet, Trade, WeightedPools

MAX_ITERATIONS = 300
# Relative to the value, or to the depth of the pools where nothing is to be earned.
TOLERANCE = 1e-12
VALUE_FLOOR = 1e-6
ROUNDING = 1e-15
STALLED_AFTER = 40
# How far a step may go towards the nearest bound, and where inner values start.
TO_BOUNDARY = 0.99
START_SHARE = 1e-3
START_CENTRE = 1e-2
RIDGE = 1e-14


@dataclass(frozen=True)
class LinearNonnegative:
    """Maximise prices @ Psi with Psi >= 0: arbitrage, valued at outside prices [n] >= 0."""

    prices: Floats


@dataclass(frozen=True)
class BasketLiquidation:
    """Sell all of `basket` [n] and maximise what comes out in token `target`."""

    target: int
    basket: Floats


Objective = LinearNonnegative | BasketLiquidation


@dataclass(frozen=True)
class Route:
    """The best trades found, with their certificate.

    `value` is what the trades earn and `bound` what no trades can pass (weak duality), both in the
    unit of the objective; `shortfall` [n] is how far each token misses its constraint, in token
    units, and is rounding only; `trades` holds one Trade per pool set.
    """

    value: float
    bound: float
    prices: Floats
    net_flow: Floats
    shortfall: Floats
    trades: list[Trade]
    iterations: int

    @property
    def gap(self) -> float:
        """What better trades could at most add to the value, shortfall priced in."""
        return self.bound - self.value + float(self.prices @ self.shortfall)


def route(pools: Sequence[PoolSet], tokens: int, objective: Objective) -> Route:
    """Solve one routing problem over `tokens` tokens; raises ValueError on bad input."""
    for index, pool_set in enumerate(pools):
        if pool_set.count and not 0 <= pool_set.tokens.min() <= pool_set.tokens.max() < tokens:
            raise ValueError(f"pools[{index}].tokens: expected numbers from 0 to {tokens - 1}")
    worth, basket, scale = _constraints(pools, tokens, objective)
    prices, sold, iterations = _Interior(pools, worth, basket, scale).solve()
    bound, flow = float(basket @ prices), np.zeros(tokens)
    trades = []
    for pool_set in pools:
        local = prices[pool_set.tokens]
        best = pool_set.trade(local)
        bound += float(best.gain(local).sum())
        trade = best
        # At a kink any trade up to the cap is best for a pool alone: the solver says which.
        if isinstance(pool_set, PairPools):
            trade = pool_set.trade_of(next(sold))
        trades.append(trade)
        flow += trade.flow(pool_set.tokens, tokens)
    return Route(
        value=float(worth @ flow),
        bound=bound,
        prices=prices,
        net_flow=flow,
        shortfall=np.maximum(-flow - basket, 0.0),
        trades=trades,
        iterations=iterations,
    )


def route_above_cost(
    pools: Sequence[PoolSet], tokens: int, objective: Objective, cost: float
) -> tuple[Route, list[Indices]]:
    """Route, then leave out pools whose own gain at the dual prices is below `cost`; repeat.

    A fixed cost per pool (gas) makes the problem combinatorial: this is the usual heuristic. It
    returns the route and, per pool set, which of its pools were kept.
    """
    kept: list[Indices] = [np.arange(pool_set.count) for pool_set in pools]
    while True:
        chosen = [pool_set.select(index) for pool_set, index in zip(pools, kept, strict=True)]
        found = route(chosen, tokens, objective)
        smaller = []
        for pool_set, trade, index in zip(chosen, found.trades, kept, strict=True):
            gain = trade.gain(found.prices[pool_set.tokens])
            smaller.append(index[gain >= cost])
        if all(len(a) == len(b) for a, b in zip(kept, smaller, strict=True)):
            return found, kept
        kept = smaller


def _constraints(
    pools: Sequence[PoolSet], tokens: int, objective: Objective
) -> tuple[Floats, Floats, Floats]:
    """(worth of each token, basket that must be sold, scale of the prices), each [tokens]."""
    if isinstance(objective, LinearNonnegative):
        prices = np.asarray(objective.prices, np.float64)
        sound = prices.shape == (tokens,) and np.all(np.isfinite(prices) & (prices >= 0))
        if not sound or not np.any(prices > 0):
            raise ValueError(f"prices: expected {tokens} numbers >= 0, not all 0; got {prices}")
        scale = reference_prices(pools, prices)
        scale[scale == 0] = prices.max()
        return prices, np.zeros(tokens), scale
    basket = np.array(objective.basket, np.float64)
    if basket.shape != (tokens,) or not np.all(np.isfinite(basket) & (basket >= 0)):
        raise ValueError(f"basket: expected {tokens} numbers >= 0; got {basket}")
    if not 0 <= objective.target < tokens:
        raise ValueError(f"target {objective.target}: expected 0 to {tokens - 1}")
    worth = np.zeros(tokens)
    worth[objective.target] = 1.0
    scale = reference_prices(pools, worth)
    stranded = np.flatnonzero((scale == 0) & (basket > 0))
    if len(stranded):
        raise ValueError(
            f"basket[{stranded[0]}]: no pools lead from this token to token {objective.target}"
        )
    scale[scale == 0] = 1.0
    basket[objective.target] = 0.0
    return worth, basket, scale


def reference_prices(pools: Sequence[PoolSet], known: Floats) -> Floats:
    """Spread known token prices (> 0) through marginal prices, deepest pools first; 0 beyond."""
    prices = np.array(known, np.float64)
    edges = [pool_set.marginal_edges() for pool_set in pools if pool_set.count]
    if not edges:
        return prices
    source, target, ratio, depth = (np.concatenate(c) for c in zip(*edges, strict=True))
    while True:
        usable = np.flatnonzero((prices[source] > 0) & (prices[target] == 0))
        if not usable.size:
            return prices
        # Of several assignments to one token the last one stays.
        usable = usable[np.argsort(depth[usable] * prices[source[usable]], kind="stable")]
        prices[target[usable]] = prices[source[usable]] * ratio[usable]


def _to_boundary(value: Floats, move: Floats) -> float:
    """Largest multiple of `move` that keeps `value` positive."""
    falling = move < 0.0
    return float(np.min(-value[falling] / move[falling], initial=np.inf))


class _Interior:
    """One problem in units where every token has a price near 1.

    Directed edges e sell x_e in (0, cap_e) of token `source` for f(x) = r x / (1 + s x) of token
    `target`; what is left of token t is psi_t = flow_t + basket_t > 0, at a price nu = worth + y.
    The central path has z x = w (cap - x) = y psi = mu and nu_target f'(x) - nu_source + z = w.
    """

    def __init__(
        self, pools: Sequence[PoolSet], worth: Floats, basket: Floats, scale: Floats
    ) -> None:
        self.pairs = [pool_set for pool_set in pools if isinstance(pool_set, PairPools)]
        self.weighted = [pool_set for pool_set in pools if isinstance(pool_set, WeightedPools)]
        self.tokens, self.scale = scale.size, scale
        tokens = [pool_set.tokens for pool_set in self.pairs]
        empty = np.zeros((0, 2))
        ends = np.concatenate([*tokens, empty.astype(np.int64)])
        rate, slope, cap = (
            np.concatenate([*(getattr(pool_set, name) for pool_set in self.pairs), empty])
            for name in ("rate", "slope", "cap")
        )
        self.used = cap.ravel() > 0.0
        self.source = ends.ravel()[self.used]
        self.target = ends[:, ::-1].ravel()[self.used]
        into, out = scale[self.source], scale[self.target]
        self.rate = rate.ravel()[self.used] * out / into
        self.slope = slope.ravel()[self.used] / into
        self.cap = cap.ravel()[self.used] * into
        self.bounded = np.isfinite(self.cap)
        with np.errstate(divide="ignore"):
            depth = np.where(self.slope > 0.0, 1.0 / self.slope, np.inf)
        self.reach = np.minimum(depth, self.cap)  # the size that matters to an edge
        self.worth, self.basket = worth / scale, basket * scale

    def _start(self) -> None:
        reach = self.reach
        self.x = START_SHARE * reach
        self.y = np.maximum(1.0, self.worth * (1.0 + START_SHARE)) - self.worth
        self.y = np.maximum(self.y, START_SHARE)
        typical = float(np.median(reach)) if reach.size else 1.0
        mu = START_CENTRE * START_SHARE * typical
        self.z = mu / self.x
        self.w = np.where(self.bounded, mu / self._room(), 0.0)
        self.psi = np.maximum(self._flow() + self._weighted()[0] + self.basket, mu / self.y)
        self.depth = float(reach.sum()) + float(
            sum((p.reserves * self.scale[p.tokens]).sum() for p in self.weighted)
        )

    def _room(self) -> Floats:
        return np.where(self.bounded, self.cap - self.x, 1.0)

    def _net(self, bought: Floats, sold: Floats) -> Floats:
        """Per token, what edges bring less what they take."""
        into: Any = np.bincount(self.target, bought, self.tokens)
        return into - np.bincount(self.source, sold, self.tokens)

    def _flow(self) -> Floats:
        return self._net(self.rate * self.x / (1.0 + self.slope * self.x), self.x)

    def _weighted(self) -> tuple[Floats, csc_array]:
        """Flow of the weighted pools at the present prices, and its derivative."""
        flow, size = np.zeros(self.tokens), self.tokens
        rows, columns, values = [], [], []
        prices = (self.worth + self.y) * self.scale
        for pools in self.weighted:
            local, scale = prices[pools.tokens], self.scale[pools.tokens]
            flow += pools.trade(local).flow(pools.tokens, size) * self.scale
            block = pools.curvature(local) * scale[:, :, None] * scale[:, None, :]
            width = pools.tokens.shape[1]
            rows.append(np.repeat(pools.tokens, width, axis=1).ravel())
            columns.append(np.tile(pools.tokens, (1, width)).ravel())
            values.append(block.ravel())
        if not rows:
            return flow, csc_array((size, size))
        places = (np.concatenate(rows), np.concatenate(columns))
        return flow, coo_array((np.concatenate(values), places), shape=(size, size)).tocsc()

    def _infeasible(self) -> float:
        """What the flows miss of psi, at the present prices."""
        missed = self._flow() + self._weighted()[0] + self.basket - self.psi
        return float(np.abs(missed) @ (self.worth + self.y))

    def _slack(self, value: float) -> float:
        return max(TOLERANCE * value, ROUNDING * self.depth)

    def _complementarity(self) -> float:
        return float(self.z @ self.x + self.w @ self._room() + self.y @ self.psi)

    def _step(self, centring: float) -> float:
        """A Newton step towards `centring` times the present mu; how far it went, 0 if nowhere."""
        terms = self.x.size + int(self.bounded.sum()) + self.tokens
        mu = centring * self._complementarity() / terms
        room, steep = self._room(), 1.0 + self.slope * self.x
        price = self.worth + self.y
        gain = self.rate / steep**2
        bend = 2.0 * self.slope * gain / steep * price[self.target]
        give = 1.0 / (bend + self.z / self.x + self.w / room)
        pull = price[self.target] * gain - price[self.source] + mu / self.x
        pull -= np.where(self.bounded, mu / room, 0.0)
        moved = self._net(gain * give * pull, give * pull)
        extra, slopes = self._weighted()
        residual = self._flow() + extra + self.basket - self.psi
        stiff = self.psi / self.y
        target, source = self.target, self.source
        places = (
            np.concatenate([target, source, target, source]),
            np.concatenate([target, source, source, target]),
        )
        values = np.concatenate([gain * gain * give, give, -gain * give, -gain * give])
        shape = (self.tokens, self.tokens)
        matrix = coo_array((values, places), shape=shape).tocsc() + slopes + diags_array(stiff)
        # A pool without a fee leaves round trips free, and then a direction without curvature.
        matrix = matrix + diags_array(RIDGE * matrix.diagonal())
        right = stiff * (mu / self.psi - self.y) - moved - residual
        d_y = np.asarray(spsolve(matrix.tocsc(), right)).reshape(-1)
        if not np.all(np.isfinite(d_y)):
            return 0.0
        d_x = give * (pull + gain * d_y[target] - d_y[source])
        d_psi = (mu / self.psi - self.y - d_y) * stiff
        d_z = mu / self.x - self.z - self.z / self.x * d_x
        d_w = np.where(self.bounded, mu / room - self.w + self.w / room * d_x, 0.0)
        edge = self.bounded
        primal = min(
            _to_boundary(self.x, d_x),
            _to_boundary(room[edge], -d_x[edge]),
            _to_boundary(self.psi, d_psi),
        )
        dual = min(
            _to_boundary(self.z, d_z),
            _to_boundary(self.w[edge], d_w[edge]),
            _to_boundary(self.y, d_y),
        )
        primal, dual = min(1.0, TO_BOUNDARY * primal), min(1.0, TO_BOUNDARY * dual)
        self.x, self.psi = self.x + primal * d_x, self.psi + primal * d_psi
        self.z, self.w, self.y = self.z + dual * d_z, self.w + dual * d_w, self.y + dual * d_y
        return min(primal, dual)

    def solve(self) -> tuple[Floats, Iterator[Floats], int]:
        """(prices, amounts sold of each pair set in turn [m, 2], iterations)."""
        self._start()
        step, best, since, iterations = 1.0, np.inf, 0, 0
        while iterations < MAX_ITERATIONS and since <= STALLED_AFTER:
            iterations += 1
            # Long steps shrink mu fast; after a short one the path is taken up again first.
            step = self._step(0.05 if step > 0.9 else 0.3 if step > 0.3 else 0.8)
            left = self._complementarity()
            value = float(self.worth @ self.psi)
            since = 0 if left < 0.9 * best else since + 1
            best = min(best, left)
            closed = left <= TOLERANCE * max(value, VALUE_FLOOR * self.depth)
            if step == 0.0 or (closed and self._infeasible() <= self._slack(value)):
                break
        # Of x and its multiplier one is of order 1 and the other of order mu: what the optimum
        # leaves alone is 0, not the little that an interior point keeps.
        price = self.worth + self.y
        idle = self.x / self.reach < self.z / price[self.source]
        self.x = np.where(idle, 0.0, self.x)
        amounts = np.zeros(self.used.size)
        amounts[self.used] = self.x / self.scale[self.source]
        counts = np.cumsum([pool_set.count for pool_set in self.pairs])[:-1]
        sold = iter(np.split(amounts.reshape(-1, 2), counts)) if self.pairs else iter(())
        return (self.worth + self.y) * self.scale, sold, iterations
