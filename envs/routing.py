"""Optimal routing through many pools at once, by dual decomposition.

Maximise U(Psi) over the net flow Psi = sum_i A_i (Lambda_i - Delta_i), where every pool keeps its
trading function; the dual asks each pool alone for its best trade at token prices nu (Angeris,
Chitra, Evans, Boyd, "Optimal Routing for Constant Function Market Makers"). Floats only: the answer
ranks and splits baskets of opportunities, and integers decide afterwards. The closed forms are in
kernels.routing_pools; the solver needs scipy, which the ground floor does not import.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.linalg import spsolve

from kernels.routing_pools import Floats, Indices, PoolSet, SumPools, Trade

# L-BFGS-B finds which pools trade; Newton steps then take the error from 1e-6 to rounding.
VALUE_TOLERANCE = 1e-13
GRADIENT_TOLERANCE = 1e-9
MEMORY = 20
MAX_ITERATIONS = 2_000
MAX_NEWTON_STEPS = 40
NEWTON_TOLERANCE = 1e-14
# Keeps the Newton system solvable where no pool trades a token.
RIDGE = 1e-13
# Proximal steps for pools with constant prices; the weight is a share of the problem's value.
MAX_PROXIMAL_STEPS = 40
PROXIMAL_WEIGHT = 1e-2
FILL_TOLERANCE = 1e-11
# A token without a price of its own may fall this far below the scale before the scale follows it.
SMALLEST_PRICE = 1.5e-8
MAX_SCALINGS = 6


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
    """Solve one routing problem over `tokens` tokens; raises ValueError on bad input.

    Pools with constant prices make the dual kink where its optimum often lies: their fills are
    found by proximal steps, each of which is a smooth problem, and converge to the exact split.
    """
    problem = _Problem(pools, tokens, objective)
    prices, iterations = problem.start, 0
    for _ in range(MAX_SCALINGS):
        prices, more = problem.solve(prices)
        iterations += more
        if not problem.rescale(prices):
            break
    return problem.result(prices, iterations)


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


class _Problem:
    """One routing problem in scaled prices y = nu / scale, so that all variables are near 1."""

    def __init__(self, pools: Sequence[PoolSet], tokens: int, objective: Objective) -> None:
        self.pools = list(pools)
        self.tokens = tokens
        self.objective = objective
        self.sum_pools = [pool_set for pool_set in pools if isinstance(pool_set, SumPools)]
        self.fills = [np.zeros((pool_set.count, 2)) for pool_set in self.sum_pools]
        for index, pool_set in enumerate(self.pools):
            if pool_set.count and not 0 <= pool_set.tokens.min() <= pool_set.tokens.max() < tokens:
                raise ValueError(f"pools[{index}].tokens: expected numbers from 0 to {tokens - 1}")
        self.scale, self.least, self.linear = self._constraints()
        self._set_scale(self.scale)
        self.start = np.maximum(self.scale, self.least)

    def _set_scale(self, scale: Floats) -> None:
        """Count prices in units of `scale`, and values in what the problem is worth there."""
        self.scale = scale
        self.lowest = np.maximum(self.least / scale, SMALLEST_PRICE)
        liquidity = sum(pool_set.liquidity(scale) for pool_set in self.pools)
        worth = self._dual(np.maximum(scale, self.least), smooth=False)[0]
        self.value_scale = max(worth, 1e-7 * liquidity, 1e-300)

    def rescale(self, prices: Floats) -> bool:
        """Scale to the prices found when that was far off; False when it was near enough.

        Pools that disagree by orders of magnitude give a first scale that hides the optimum: below
        the floor that the scale sets, or in the last digits of a value that is far too large.
        """
        bound, flow = self._dual(prices, smooth=False)
        at_floor = (prices <= self.scale * SMALLEST_PRICE * 1.001) & (self.least == 0)
        wasted = float((prices * flow)[at_floor].sum())
        if wasted <= 1e-13 * bound and bound >= 1e-3 * self.value_scale:
            return False
        before = self.value_scale
        self._set_scale(np.maximum(prices, self.least))
        return wasted > 1e-13 * bound or self.value_scale < 0.5 * before

    def solve(self, prices: Floats) -> tuple[Floats, int]:
        """Prices that minimise the dual at this scale, with the fills that belong to them."""
        prices, iterations = self.minimise(prices)
        for _ in range(MAX_PROXIMAL_STEPS if self.sum_pools else 0):
            moved = self.advance_fills(prices)
            prices, more = self.minimise(prices)
            iterations += more
            if moved <= FILL_TOLERANCE:
                break
        return prices, iterations

    def _constraints(self) -> tuple[Floats, Floats, Floats]:
        """Price scale, least prices, and the basket that the dual values linearly."""
        tokens, objective = self.tokens, self.objective
        known = np.zeros(tokens)
        if isinstance(objective, LinearNonnegative):
            prices = np.asarray(objective.prices, np.float64)
            if prices.shape != (tokens,) or not np.all(prices >= 0) or not np.any(prices > 0):
                raise ValueError(f"prices: expected {tokens} numbers >= 0, not all 0; got {prices}")
            scale = _reference_prices(self.pools, prices)
            scale[scale == 0] = prices.max()
            return scale, prices, np.zeros(tokens)
        basket = np.asarray(objective.basket, np.float64)
        if basket.shape != (tokens,) or not np.all(basket >= 0):
            raise ValueError(f"basket: expected {tokens} numbers >= 0; got {basket}")
        if not 0 <= objective.target < tokens:
            raise ValueError(f"target {objective.target}: expected 0 to {tokens - 1}")
        known[objective.target] = 1.0
        scale = _reference_prices(self.pools, known)
        stranded = np.flatnonzero((scale == 0) & (basket > 0))
        if len(stranded):
            raise ValueError(
                f"basket[{stranded[0]}]: no pools lead from this token to token {objective.target}"
            )
        scale[scale == 0] = 1.0
        linear = basket.copy()
        linear[objective.target] = 0.0
        return scale, known, linear

    def _dual(self, prices: Floats, smooth: bool) -> tuple[float, Floats]:
        """The dual at prices nu and its gradient, the flow beyond what the objective asks for."""
        value = float(self.linear @ prices)
        flow = self.linear
        fills = iter(self.fills)
        for pool_set in self.pools:
            local = prices[pool_set.tokens]
            if smooth and isinstance(pool_set, SumPools):
                weight = PROXIMAL_WEIGHT * self.value_scale
                more, trade = pool_set.proximal(local, next(fills), weight)
                value += more
            else:
                trade = pool_set.trade(local)
                value += float(trade.gain(local).sum())
            flow = flow + trade.flow(pool_set.tokens, self.tokens)
        return value, flow

    def _evaluate(self, scaled: Floats) -> tuple[float, Floats]:
        """The smoothed dual and its gradient in scaled prices."""
        value, flow = self._dual(scaled * self.scale, smooth=True)
        return value / self.value_scale, flow * self.scale / self.value_scale

    def _hessian(self, scaled: Floats) -> csc_array:
        """Second derivative of the smoothed dual in scaled prices, sparse."""
        prices = scaled * self.scale
        fills = iter(self.fills)
        rows, columns, values = [], [], []
        for pool_set in self.pools:
            local = prices[pool_set.tokens]
            if isinstance(pool_set, SumPools):
                weight = PROXIMAL_WEIGHT * self.value_scale
                block = pool_set.proximal_curvature(local, next(fills), weight)
            else:
                block = pool_set.curvature(local)
            scale = self.scale[pool_set.tokens]
            block = block * scale[:, :, None] * scale[:, None, :] / self.value_scale
            size = pool_set.tokens.shape[1]
            rows.append(np.repeat(pool_set.tokens, size, axis=1).ravel())
            columns.append(np.tile(pool_set.tokens, (1, size)).ravel())
            values.append(block.ravel())
        places = (np.concatenate(rows), np.concatenate(columns))
        shape = (self.tokens, self.tokens)
        return coo_array((np.concatenate(values), places), shape=shape).tocsc()

    def minimise(self, prices: Floats) -> tuple[Floats, int]:
        """Prices that minimise the smoothed dual: L-BFGS-B, then projected Newton steps."""
        found = minimize(
            self._evaluate,
            np.maximum(prices / self.scale, self.lowest),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(self.lowest, [None] * self.tokens, strict=True)),
            options={
                "maxcor": MEMORY,
                "ftol": VALUE_TOLERANCE,
                "gtol": GRADIENT_TOLERANCE,
                "maxiter": MAX_ITERATIONS,
                "maxfun": 2 * MAX_ITERATIONS,
            },
        )
        scaled, steps = self._newton(found.x)
        return scaled * self.scale, int(found.nit) + steps

    def _newton(self, scaled: Floats) -> tuple[Floats, int]:
        """Newton steps on the prices that are not at their bound, halved until they help."""
        value, gradient = self._evaluate(scaled)
        for step in range(MAX_NEWTON_STEPS):
            free = (scaled > self.lowest) | (gradient < 0)
            error = np.abs(gradient[free]).max(initial=0.0)
            if error <= NEWTON_TOLERANCE:
                return scaled, step
            index = np.flatnonzero(free)
            hessian = self._hessian(scaled)[index][:, index]
            ridge = diags_array(np.full(len(index), RIDGE) + RIDGE * hessian.diagonal())
            move = np.zeros_like(scaled)
            move[index] = -spsolve((hessian + ridge).tocsc(), gradient[index])
            for halving in range(30):
                trial = np.maximum(scaled + move * 0.5**halving, self.lowest)
                trial_value, trial_gradient = self._evaluate(trial)
                still_free = (trial > self.lowest) | (trial_gradient < 0)
                trial_error = np.abs(trial_gradient[still_free]).max(initial=0.0)
                # Near the optimum the value no longer resolves progress, the gradient does.
                flat = trial_value <= value + 1e-15 * max(abs(value), 1.0)
                if trial_value < value - 1e-12 * abs(value) or (flat and trial_error < error):
                    scaled, value, gradient = trial, trial_value, trial_gradient
                    break
            else:
                return scaled, step
        return scaled, MAX_NEWTON_STEPS

    def advance_fills(self, prices: Floats) -> float:
        """Move the proximal centres to the fills at these prices; the largest move, 0 to 1."""
        moved = 0.0
        for index, pool_set in enumerate(self.sum_pools):
            local = prices[pool_set.tokens]
            weight = PROXIMAL_WEIGHT * self.value_scale
            fills = pool_set.fills(local, self.fills[index], weight)
            moved = max(moved, float(np.abs(fills - self.fills[index]).max(initial=0.0)))
            self.fills[index] = fills
        return moved

    def result(self, prices: Floats, iterations: int) -> Route:
        """Trades at these prices, their worth, and the bound the prices prove."""
        bound, _ = self._dual(prices, smooth=False)
        fills = iter(self.fills)
        trades, flow = [], np.zeros(self.tokens)
        for pool_set in self.pools:
            if isinstance(pool_set, SumPools):
                trade = pool_set.trade_of_fills(next(fills))
            else:
                trade = pool_set.trade(prices[pool_set.tokens])
            trades.append(trade)
            flow += trade.flow(pool_set.tokens, self.tokens)
        shortfall = np.maximum(-flow - self.linear, 0.0)
        if isinstance(self.objective, LinearNonnegative):
            value = float(np.asarray(self.objective.prices) @ flow)
        else:
            value = float(flow[self.objective.target])
        return Route(value, bound, prices, flow, shortfall, trades, iterations)


def _reference_prices(pools: Sequence[PoolSet], known: Floats) -> Floats:
    """Spread known token prices (> 0) through the pools' marginal prices; 0 where none leads."""
    prices = np.array(known, np.float64)
    edges = [pool_set.marginal_edges() for pool_set in pools if pool_set.count]
    if not edges:
        return prices
    source, target, ratio = (np.concatenate(column) for column in zip(*edges, strict=True))
    while True:
        usable = (prices[source] > 0) & (prices[target] == 0)
        if not usable.any():
            return prices
        prices[target[usable]] = prices[source[usable]] * ratio[usable]
