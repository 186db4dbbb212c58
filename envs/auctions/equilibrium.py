"""Equilibrium bids and best responses of the bare auctions, in closed form or by quadrature.

First price: Krishna (2010), Auction Theory, 2.3 and 3.2 (uncertain number of bidders). Common value
without revert protection: the mixed equilibrium in which every bid earns 0 (docs/validation.md).
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import betaincinv, log_ndtr, ndtr, ndtri

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """Values with F(v) = v^exponent on [0, 1]; exponent 1 is uniform."""

    exponent: float = 1.0

    def __post_init__(self) -> None:
        """Refuse laws without a density."""
        if not 0.0 < self.exponent < np.inf:
            raise ValueError(f"exponent is {self.exponent}: must be positive and finite")

    def cdf(self, v: ArrayLike) -> Array:
        """F(v)."""
        return np.clip(np.asarray(v, np.float64), 0.0, 1.0) ** self.exponent

    def quantile(self, u: ArrayLike) -> Array:
        """v with F(v) = u."""
        return np.asarray(u, np.float64) ** (1.0 / self.exponent)


@dataclass(frozen=True)
class LogNormalLaw:
    """Values with ln v normal(mean, sd)."""

    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        """Refuse laws without a density."""
        if not (np.isfinite(self.mean) and 0.0 < self.sd < np.inf):
            raise ValueError(f"mean {self.mean}, sd {self.sd}: a finite mean and a positive sd")

    def cdf(self, v: ArrayLike) -> Array:
        """F(v)."""
        return ndtr((np.log(np.asarray(v, np.float64)) - self.mean) / self.sd)

    def quantile(self, u: ArrayLike) -> Array:
        """v with F(v) = u."""
        return np.exp(self.mean + self.sd * ndtri(np.asarray(u, np.float64)))


ValueLaw = PowerLaw | LogNormalLaw


@dataclass(frozen=True)
class Rivals:
    """How many rivals a bidder expects: `fixed` many that each join, or Poisson(rate) of them."""

    fixed: int = 0
    join: float = 1.0
    rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible numbers, and both kinds at once."""
        if not (0 <= self.fixed <= 64 and 0.0 < self.join <= 1.0 and 0.0 <= self.rate <= 20.0):
            raise ValueError(
                f"fixed {self.fixed}, join {self.join}, rate {self.rate}: 0 to 64 rivals that join "
                "with a probability above 0, or a Poisson rate of 0 to 20"
            )
        if self.fixed and self.rate:
            raise ValueError(f"fixed {self.fixed} and rate {self.rate}: give one of them")

    def log_win(self, s: ArrayLike) -> Array:
        """ln of the chance that all rivals have values below the quantile s."""
        s = np.asarray(s, np.float64)
        with np.errstate(divide="ignore"):
            if self.rate:
                return -self.rate * (1.0 - s)
            return self.fixed * np.log(1.0 - self.join + self.join * s)


def _log_win(law: ValueLaw, rivals: Rivals, y: Array) -> Array:
    """ln P(win) at the latent y: v itself, or the standard normal ln v."""
    if isinstance(law, LogNormalLaw) and not rivals.rate and rivals.join == 1.0:
        return rivals.fixed * log_ndtr(y)  # exact far into the left tail
    return rivals.log_win(law.cdf(y) if isinstance(law, PowerLaw) else ndtr(y))


def _quadrature_bids(law: ValueLaw, rivals: Rivals, latent: Array) -> Array:
    """b(v) = v - int_0^v H(x) dx / H(v) along an increasing latent grid, H = P(win).

    The ratio R = int H / H is carried from cell to cell, which never underflows:
    R(z + h) = R(z) H(z) / H(z + h) + int_z^{z + h} H(y) / H(z + h) dv(y).
    """
    points, weights = leggauss(4)
    width = np.diff(latent)[:, None]
    inner = latent[:-1, None] + width * 0.5 * (points + 1.0)
    if isinstance(law, LogNormalLaw):
        speed = law.sd * np.exp(law.mean + law.sd * inner)
        value = np.exp(law.mean + law.sd * latent)
    else:
        speed, value = np.ones_like(inner), latent
    log_h = _log_win(law, rivals, latent)
    log_inner = _log_win(law, rivals, inner)
    steps = (np.exp(log_inner - log_h[1:, None]) * speed * weights * width * 0.5).sum(axis=1)
    ratio = np.empty_like(latent)
    ratio[0] = 0.0 if isinstance(law, PowerLaw) else value[0] / (1.0 + rivals.fixed)
    for cell, step in enumerate(steps):
        ratio[cell + 1] = ratio[cell] * np.exp(log_h[cell] - log_h[cell + 1]) + step
    return value - ratio


def first_price_bid(law: ValueLaw, rivals: Rivals, values: ArrayLike) -> Array:
    """The symmetric equilibrium bid at each value (O5, O6), to about 1e-9 relative.

    Closed forms where they exist: F = v^a with n - 1 rivals, U[0, 1] with Poisson rivals, lognormal
    with one rival. Otherwise b(v) = v - int_0^v H(x) / H(v) dx with H(v) = P(all rivals below v).
    """
    v = np.asarray(values, np.float64)
    certain = rivals.join == 1.0 and not rivals.rate
    if isinstance(law, PowerLaw) and certain:
        power = law.exponent * rivals.fixed
        return v * power / (power + 1.0)
    if isinstance(law, PowerLaw) and law.exponent == 1.0 and rivals.rate:
        return v + np.expm1(-rivals.rate * v) / rivals.rate
    if isinstance(law, LogNormalLaw) and certain and rivals.fixed == 1:
        z = (np.log(v) - law.mean) / law.sd
        return np.exp(law.mean + 0.5 * law.sd**2 + log_ndtr(z - law.sd) - log_ndtr(z))
    if isinstance(law, PowerLaw):
        start, y = 0.0, np.atleast_1d(v)
    else:
        start, y = -12.0, np.atleast_1d((np.log(v) - law.mean) / law.sd)
    # The requested points split the fine grid, so that nothing is interpolated.
    fine = np.linspace(start, max(float(y.max()), start + 1e-6), 4001)
    grid = np.unique(np.concatenate([fine, y]))
    bids = _quadrature_bids(law, rivals, grid)
    return bids[np.searchsorted(grid, y)].reshape(v.shape)


def win_probability(law: ValueLaw, rivals: Rivals, values: ArrayLike) -> Array:
    """Chance of the bidder with this value when all bid the equilibrium."""
    return np.exp(rivals.log_win(law.cdf(values)))


@dataclass(frozen=True)
class CommonValue:
    """One prize worth `value` to all, won by the highest of `players` bids; losers pay too.

    The winner pays bid + gas; a loser's transaction fails and costs loser_share * bid + failed_gas.
    With revert protection both would be 0 for losers, and all would bid value - gas (O7).
    """

    players: int = 2
    value: float = 1.0
    gas: float = 0.02
    failed_gas: float = 0.01
    loser_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse games without a mixed equilibrium."""
        if self.players < 2 or not 0.0 <= self.loser_share < 1.0:
            raise ValueError(
                f"players {self.players}, loser_share {self.loser_share}: at least 2, and 0 to 1"
            )
        if not (0.0 <= self.gas < self.value and 0.0 < self.failed_gas < self.value - self.gas):
            raise ValueError(
                f"gas {self.gas}, failed_gas {self.failed_gas}, value {self.value}: bidding must "
                "be worth its gas, and failing must cost something (without: all bid value - gas)"
            )

    @property
    def top(self) -> float:
        """The highest bid worth making."""
        return self.value - self.gas

    def win(self, bid: ArrayLike) -> Array:
        """H(b) = F(b)^(N-1): the chance that makes a bid worth exactly 0."""
        b = np.asarray(bid, np.float64)
        lost = self.loser_share * b + self.failed_gas
        return lost / (self.top - b + lost)

    def bid(self, win: ArrayLike) -> Array:
        """The bid with this chance of winning; inverse of `win`."""
        h = np.asarray(win, np.float64)
        return (h * (self.top + self.failed_gas) - self.failed_gas) / (
            self.loser_share * (1.0 - h) + h
        )

    @property
    def abstain(self) -> float:
        """q = H(0)^(1/(N-1)): how often a bidder stays out."""
        return float(self.win(0.0)) ** (1.0 / (self.players - 1))

    @property
    def sold(self) -> float:
        """Chance that anybody bids."""
        return 1.0 - self.abstain**self.players

    @property
    def failures(self) -> float:
        """Failed transactions per auction."""
        return self.players * (1.0 - self.abstain) - self.sold

    @property
    def revenue(self) -> float:
        """What the proposer receives when losers pay no share of their bid: all but the gas."""
        if self.loser_share:
            raise ValueError(f"loser_share is {self.loser_share}: the closed form needs 0")
        return self.sold * self.top - self.failed_gas * self.failures


@dataclass(frozen=True)
class StationaryRivals:
    """`count` rivals who each join with probability `join` and bid Beta(a, b) shares (O8)."""

    count: int = 2
    join: float = 0.8
    a: float = 8.0
    b: float = 2.0

    def __post_init__(self) -> None:
        """Refuse impossible rivals."""
        if not (1 <= self.count <= 64 and 0.0 < self.join <= 1.0 and min(self.a, self.b) > 0.0):
            raise ValueError(
                f"count {self.count}, join {self.join}, Beta({self.a}, {self.b}): 1 to 64 rivals, "
                "a probability above 0, positive shapes"
            )

    def win(self, fraction: ArrayLike) -> Array:
        """(1 - p + p G(f))^k."""
        below = stats.beta.cdf(fraction, self.a, self.b)
        return np.asarray((1.0 - self.join + self.join * below) ** self.count)

    def capture(self, fraction: ArrayLike) -> Array:
        """Expected share of the value kept: (1 - f) P(win)."""
        return (1.0 - np.asarray(fraction, np.float64)) * self.win(fraction)

    def quantile(self, u: ArrayLike) -> Array:
        """Bid share of a rival at the quantile u."""
        return betaincinv(self.a, self.b, np.asarray(u, np.float64))

    def best(self) -> tuple[float, float]:
        """(f*, capture) of the best constant bid, to 1e-6: 0 where free riding is best."""
        grid = np.linspace(0.0, 1.0, 1001)
        near = grid[np.argmax(self.capture(grid))]
        fine = np.clip(np.linspace(near - 1e-3, near + 1e-3, 2001), 0.0, 1.0)
        captured = self.capture(fine)
        return float(fine[captured.argmax()]), float(captured.max())
