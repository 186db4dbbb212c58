"""Pool sets for optimal routing: each answers with its best trades at given token prices.

Closed forms of Angeris, Chitra, Evans, Boyd, "Optimal Routing for Constant Function Market Makers":
constant product with or without bounds (Uniswap V2, one tick range of V3), constant sum, and
weighted geometric means of any number of tokens (Balancer). Fees are given as gamma, what a swap
keeps: 0.997 for 0.3 %.
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
        return np.bincount(tokens.ravel(), net, count).astype(np.float64)


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
    def marginal_edges(self) -> tuple[Indices, Indices, Floats, Floats]:
        """Known token, other token, price of the other in the known, depth in the known token."""


@dataclass(frozen=True)
class PairPools(PoolSet):
    """Pools of two tokens that pay r x / (1 + s x) for up to `cap` of the token sold: [m, 2] each.

    Column k sells local token k. Constant product: r = gamma R_out / R_in, s = gamma / R_in.
    """

    tokens: Indices
    rate: Floats
    slope: Floats
    cap: Floats

    def select(self, index: Indices) -> "PairPools":
        return PairPools(self.tokens[index], self.rate[index], self.slope[index], self.cap[index])

    def trade(self, prices: Floats) -> Trade:
        """Sold: (sqrt(r nu_out / nu_in) - 1) / s, cut to 0 .. cap; all or nothing for s = 0."""
        worth = self.rate * prices[:, ::-1]
        curved = self.slope > 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            best = (np.sqrt(worth / prices) - 1.0) / np.where(curved, self.slope, 1.0)
        best = np.where(curved, best, np.where(worth > prices, self.cap, 0.0))
        return self.trade_of(np.clip(best, 0.0, self.cap))

    def trade_of(self, sold: Floats) -> Trade:
        """The trade that sells these amounts [m, 2]."""
        return Trade(sold, (self.rate * sold / (1.0 + self.slope * sold))[:, ::-1])

    def marginal_edges(self) -> tuple[Indices, Indices, Floats, Floats]:
        # Between what the pool asks and bids: the fees of both directions cancel.
        price = np.sqrt(self.rate[:, ::-1] / self.rate)
        with np.errstate(divide="ignore"):
            depth = np.minimum(np.where(self.slope > 0.0, 1.0 / self.slope, np.inf), self.cap)
        return (
            self.tokens.T.ravel(),
            self.tokens[:, ::-1].T.ravel(),
            price.T.ravel(),
            depth.T.ravel(),
        )


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
        """Derivative of the flow by local prices, [m, n, n], symmetric and never negative:

        l w_i / (nu_i nu_j) (delta_ij - w_j / W) among the tokens that move, W their weight.
        """
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

    def marginal_edges(self) -> tuple[Indices, Indices, Floats, Floats]:
        virtual = self.reserves / self.weights
        size = self.tokens.shape[1]
        known, other = (index.ravel() for index in np.nonzero(~np.eye(size, dtype=bool)))
        return (
            self.tokens[:, known].ravel(),
            self.tokens[:, other].ravel(),
            (virtual[:, known] / virtual[:, other]).ravel(),
            self.reserves[:, known].ravel(),
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


def product_pools(tokens: object, reserves: object, gamma: object) -> PairPools:
    """Constant-product pools from tokens [m, 2], reserves [m, 2], gamma [m]."""
    token_array, reserve_array, gamma_array = _columns(tokens, reserves, gamma)
    slope = gamma_array[:, None] / reserve_array
    unbounded = np.full_like(slope, np.inf)
    return PairPools(token_array, slope * reserve_array[:, ::-1], slope, unbounded)


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


def sum_pools(tokens: object, reserves: object, gamma: object) -> PairPools:
    """Constant-sum pools from tokens [m, 2], reserves [m, 2], gamma [m]: one price until empty."""
    token_array, reserve_array, gamma_array = _columns(tokens, reserves, gamma)
    rate = np.repeat(gamma_array[:, None], 2, axis=1)
    return PairPools(token_array, rate, np.zeros_like(rate), reserve_array[:, ::-1] / rate)


def concentrated_pools(
    tokens: object,
    liquidity: object,
    sqrt_price: object,
    sqrt_range: object,
    gamma: object,
) -> PairPools:
    """Tick ranges of concentrated liquidity, one pool per range: bounded constant products.

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
    pools = product_pools(tokens, virtual, gamma)
    # Selling token 0 lowers the price to the lower end of the range.
    room = np.stack([1 / bounds[:, 0] - 1 / price, bounds[:, 1] - price], axis=1)
    # slope = gamma / virtual: what is sold is what the range takes, before the fee.
    cap = depth[:, None] * room / (pools.slope * virtual)
    return PairPools(pools.tokens, pools.rate, pools.slope, cap)
