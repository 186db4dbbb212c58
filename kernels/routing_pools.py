"""Pool sets for optimal routing: each answers with its best trades at given token prices.

Closed forms of CFMMRouter.jl's paper (Angeris, Chitra, Evans, Boyd): constant product with or
without bounds (Uniswap V2, one tick range of V3), weighted geometric mean of any number of tokens
(Balancer), and constant sum. gamma is what a swap keeps after fees, 0.997 for 0.3 %.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Trade:
    """What each of m pools is given and gives back, per local token: [m, n] >= 0 each."""

    tendered: Floats
    received: Floats

    def gain(self, prices: Floats) -> Floats:
        """Worth of each pool's trade at local prices [m, n]."""
        return ((self.received - self.tendered) * prices).sum(axis=1)

    def flow(self, tokens: Indices, count: int) -> Floats:
        """Net flow per global token: [count]."""
        net = (self.received - self.tendered).ravel()
        total = np.zeros(count)
        np.add.at(total, tokens.ravel(), net)
        return total


class PoolSet(ABC):
    """m pools of one kind over n tokens each; `tokens` [m, n] are their global numbers."""

    tokens: Indices

    @property
    def count(self) -> int:
        """Number of pools."""
        return len(self.tokens)

    @abstractmethod
    def select(self, index: Indices) -> "PoolSet":
        """The pools with these numbers."""

    @abstractmethod
    def trade(self, prices: Floats) -> Trade:
        """The trades that gain most at local prices [m, n]."""

    @abstractmethod
    def curvature(self, prices: Floats) -> Floats:
        """Derivative of each pool's flow by local prices: [m, n, n], symmetric, none negative."""

    @abstractmethod
    def liquidity(self, prices: Floats) -> float:
        """Worth of all reserves at global prices."""

    @abstractmethod
    def marginal_edges(self) -> tuple[Indices, Indices, Floats]:
        """Known token, other token, price of the other in units of the known: each way."""


@dataclass(frozen=True)
class ProductPools(PoolSet):
    """x y = k on `reserves` [m, 2], which may be virtual: at most `available` [m, 2] comes out."""

    tokens: Indices
    reserves: Floats
    available: Floats
    gamma: Floats

    def select(self, index: Indices) -> "ProductPools":
        return ProductPools(
            self.tokens[index], self.reserves[index], self.available[index], self.gamma[index]
        )

    def trade(self, prices: Floats) -> Trade:
        """Received: R - sqrt(k nu_in / (gamma nu_out)), cut to what there is; tendered from k."""
        product = self.reserves[:, 0] * self.reserves[:, 1]
        tendered, received = np.zeros_like(self.reserves), np.zeros_like(self.reserves)
        for give, take in ((0, 1), (1, 0)):
            left = np.sqrt(product * prices[:, give] / (self.gamma * prices[:, take]))
            taken = np.clip(self.reserves[:, take] - left, 0.0, self.available[:, take])
            # R_in Lambda / (R_out - Lambda) is k / (R_out - Lambda) - R_in without cancellation.
            rest = np.maximum(self.reserves[:, take] - taken, np.finfo(np.float64).tiny)
            received[:, take] += taken
            tendered[:, give] += self.reserves[:, give] * taken / rest / self.gamma
        return Trade(tendered, received)

    def curvature(self, prices: Floats) -> Floats:
        """With q = (1 / nu_in, -1 / nu_out): q q' nu_out left / 2 where a trade is not cut."""
        product = self.reserves[:, 0] * self.reserves[:, 1]
        result = np.zeros((self.count, 2, 2))
        slopes = np.stack([1 / prices[:, 0], -1 / prices[:, 1]], axis=1)
        for give, take in ((0, 1), (1, 0)):
            left = np.sqrt(product * prices[:, give] / (self.gamma * prices[:, take]))
            taken = self.reserves[:, take] - left
            inside = (taken > 0) & (taken < self.available[:, take])
            size = np.where(inside, 0.5 * left * prices[:, take], 0.0)
            result += size[:, None, None] * slopes[:, :, None] * slopes[:, None, :]
        return result

    def liquidity(self, prices: Floats) -> float:
        return float((self.available * prices[self.tokens]).sum())

    def marginal_edges(self) -> tuple[Indices, Indices, Floats]:
        price = self.reserves[:, 0] / self.reserves[:, 1]
        return _both_ways(self.tokens, price)


@dataclass(frozen=True)
class WeightedPools(PoolSet):
    """prod x_i ^ w_i constant on `reserves` [m, n]; each row of `weights` [m, n] sums to 1."""

    tokens: Indices
    reserves: Floats
    weights: Floats
    gamma: Floats

    def select(self, index: Indices) -> "WeightedPools":
        return WeightedPools(
            self.tokens[index], self.reserves[index], self.weights[index], self.gamma[index]
        )

    def trade(self, prices: Floats) -> Trade:
        """Exact best trade: reserves move to where w_i / x_i is proportional to the prices.

        With a multiplier l the new reserve is s = l w / nu when s < R (taken), gamma s when that
        passes R (given), R between. sum w log x then rises piecewise linearly in log l, and its
        corners, sorted, bracket the l that leaves it unchanged.
        """
        shift, lower, upper = self._multiplier(prices)
        taken = -np.expm1(np.minimum(shift - lower, 0.0)) * self.reserves
        given = np.expm1(np.maximum(shift - upper, 0.0)) * self.reserves
        return Trade(given / self.gamma[:, None], taken)

    def curvature(self, prices: Floats) -> Floats:
        """l w_i / (nu_i nu_j) (delta_ij - w_j / W) among the tokens that move, W their weight."""
        shift, lower, upper = self._multiplier(prices)
        weights = np.where((shift < lower) | (shift > upper), self.weights, 0.0)
        share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
        size = np.exp(shift) * weights / prices
        local = np.eye(prices.shape[1]) - share[:, None, :]
        return size[:, :, None] * local / prices[:, None, :]

    def _multiplier(self, prices: Floats) -> tuple[Floats, Floats, Floats]:
        """log l [m, 1], and per token log l where taking stops and where giving starts."""
        lower = np.log(self.reserves * prices / self.weights)
        upper = lower - np.log(self.gamma)[:, None]
        corners = np.sort(np.concatenate([lower, upper], axis=1), axis=1)[:, :, None]
        moved = np.minimum(corners - lower[:, None], 0) + np.maximum(corners - upper[:, None], 0)
        change = (self.weights[:, None] * moved).sum(axis=2)
        # The last corner where the invariant is at most unchanged, and the next one.
        at = np.clip((change <= 0).sum(axis=1) - 1, 0, corners.shape[1] - 2)
        rows = np.arange(self.count)
        start, stop = corners[rows, at, 0], corners[rows, at + 1, 0]
        below, above = change[rows, at], change[rows, at + 1]
        rise = np.where(above > below, above - below, 1.0)
        return (start - below * (stop - start) / rise)[:, None], lower, upper

    def liquidity(self, prices: Floats) -> float:
        return float((self.reserves * prices[self.tokens]).sum())

    def marginal_edges(self) -> tuple[Indices, Indices, Floats]:
        depth = self.reserves / self.weights
        edges = []
        for i in range(1, self.tokens.shape[1]):
            edges.append(_both_ways(self.tokens[:, [0, i]], depth[:, 0] / depth[:, i]))
        source, target, ratio = (np.concatenate(column) for column in zip(*edges, strict=True))
        return source, target, ratio


@dataclass(frozen=True)
class SumPools(PoolSet):
    """x + y constant on `reserves` [m, 2]: one price until a side is empty.

    Not strictly concave: at one price any fill is best. A fill [m, 2] says how much of each side
    was taken, 0 to 1.
    """

    tokens: Indices
    reserves: Floats
    gamma: Floats

    def select(self, index: Indices) -> "SumPools":
        return SumPools(self.tokens[index], self.reserves[index], self.gamma[index])

    def _worth(self, prices: Floats) -> Floats:
        """Gain of taking all of each side: [m, 2]."""
        return self.reserves * (prices - prices[:, ::-1] / self.gamma[:, None])

    def trade(self, prices: Floats) -> Trade:
        return self.trade_of_fills((self._worth(prices) > 0).astype(np.float64))

    def trade_of_fills(self, fills: Floats) -> Trade:
        """The trade that takes these shares of the reserves."""
        received = self.reserves * fills
        return Trade(received[:, ::-1] / self.gamma[:, None], received)

    def fills(self, prices: Floats, centre: Floats, weight: float) -> Floats:
        """Best fills when moving away from `centre` costs weight / 2 times the squared distance."""
        return np.clip(centre + self._worth(prices) / weight, 0.0, 1.0)

    def curvature(self, prices: Floats) -> Floats:
        return np.zeros((self.count, 2, 2))

    def proximal_curvature(self, prices: Floats, centre: Floats, weight: float) -> Floats:
        """Curvature of `proximal`: v v' / weight for each side whose fill is not cut."""
        fills = centre + self._worth(prices) / weight
        size = np.where((fills > 0) & (fills < 1), self.reserves**2 / weight, 0.0)
        result = np.zeros((self.count, 2, 2))
        for take, give in ((0, 1), (1, 0)):
            side = np.zeros((self.count, 2))
            side[:, take] = 1.0
            side[:, give] = -1.0 / self.gamma
            result += size[:, take, None, None] * side[:, :, None] * side[:, None, :]
        return result

    def proximal(self, prices: Floats, centre: Floats, weight: float) -> tuple[float, Trade]:
        """Gain of those fills less the cost of moving, and their trade."""
        fills = self.fills(prices, centre, weight)
        worth = (fills * self._worth(prices)).sum()
        return float(worth - 0.5 * weight * ((fills - centre) ** 2).sum()), self.trade_of_fills(
            fills
        )

    def liquidity(self, prices: Floats) -> float:
        return float((self.reserves * prices[self.tokens]).sum())

    def marginal_edges(self) -> tuple[Indices, Indices, Floats]:
        return _both_ways(self.tokens, np.ones(self.count))


def _both_ways(pairs: Indices, ratio: Floats) -> tuple[Indices, Indices, Floats]:
    """Edges from both ends, where token 1 costs `ratio` of token 0."""
    source, target = pairs[:, 0], pairs[:, 1]
    return (
        np.concatenate([source, target]),
        np.concatenate([target, source]),
        np.concatenate([ratio, 1.0 / ratio]),
    )


def _columns(tokens: object, reserves: object, gamma: object) -> tuple[Indices, Floats, Floats]:
    """Checked arrays: token numbers, reserves > 0, 0 < gamma <= 1; ValueError names what is off."""
    token_array = np.atleast_2d(np.asarray(tokens, np.int64))
    reserve_array = np.atleast_2d(np.asarray(reserves, np.float64))
    gamma_array = np.atleast_1d(np.asarray(gamma, np.float64))
    if token_array.shape != reserve_array.shape or len(gamma_array) != len(token_array):
        raise ValueError(
            f"tokens {token_array.shape}, reserves {reserve_array.shape}, gamma "
            f"{gamma_array.shape}: expected [m, n], [m, n], [m]"
        )
    if not np.all((reserve_array > 0) & np.isfinite(reserve_array)):
        raise ValueError("reserves: expected finite numbers above 0; drop empty pools")
    if not np.all((gamma_array > 0) & (gamma_array <= 1)):
        raise ValueError(f"gamma: expected numbers in (0, 1], got {gamma_array}")
    return token_array, reserve_array, gamma_array


def product_pools(tokens: object, reserves: object, gamma: object) -> ProductPools:
    """Constant-product pools from tokens [m, 2], reserves [m, 2], gamma [m]."""
    columns = _columns(tokens, reserves, gamma)
    return ProductPools(columns[0], columns[1], columns[1], columns[2])


def weighted_pools(
    tokens: object, reserves: object, weights: object, gamma: object
) -> WeightedPools:
    """Weighted pools from tokens [m, n], reserves [m, n], weights [m, n] > 0, gamma [m]."""
    token_array, reserve_array, gamma_array = _columns(tokens, reserves, gamma)
    weight_array = np.atleast_2d(np.asarray(weights, np.float64))
    if weight_array.shape != token_array.shape or not np.all(weight_array > 0):
        raise ValueError(f"weights: expected {token_array.shape} numbers above 0")
    shares = weight_array / weight_array.sum(axis=1, keepdims=True)
    return WeightedPools(token_array, reserve_array, shares, gamma_array)


def sum_pools(tokens: object, reserves: object, gamma: object) -> SumPools:
    """Constant-sum pools from tokens [m, 2], reserves [m, 2], gamma [m]."""
    return SumPools(*_columns(tokens, reserves, gamma))


def concentrated_pools(
    tokens: object,
    liquidity: object,
    sqrt_price: object,
    sqrt_range: object,
    gamma: object,
) -> ProductPools:
    """Tick ranges of concentrated liquidity, one pool per range.

    liquidity [m], current sqrt price [m] of token 0 in token 1, sqrt_range [m, 2] = (low, high).
    Ranges of one pool trade apart at given prices, so a whole V3 pool is the list of its ranges;
    a range the price is outside of holds one token only.
    """
    depth = np.atleast_1d(np.asarray(liquidity, np.float64))
    bounds = np.atleast_2d(np.asarray(sqrt_range, np.float64))
    if not np.all((bounds[:, 0] > 0) & (bounds[:, 1] > bounds[:, 0])):
        raise ValueError("sqrt_range: expected 0 < low < high in each row")
    price = np.clip(np.atleast_1d(np.asarray(sqrt_price, np.float64)), bounds[:, 0], bounds[:, 1])
    virtual = np.stack([depth / price, depth * price], axis=1)
    token_array, reserve_array, gamma_array = _columns(tokens, virtual, gamma)
    available = np.stack(
        [depth * (1 / price - 1 / bounds[:, 1]), depth * (price - bounds[:, 0])], axis=1
    )
    return ProductPools(token_array, reserve_array, available, gamma_array)
