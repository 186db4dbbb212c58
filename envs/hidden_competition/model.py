"""Hidden competition: auctions whose unseen regime changes how many rivals bid, and how hard.

Everything is closed form, so that exact references exist (envs/hidden_competition/references.py).
Only the law of values is fitted to recorded data; the regimes are assumptions.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from envs.auctions.laws import (
    kumaraswamy_cdf,
    kumaraswamy_quantile,
    normal_quantile,
    open_uniform,
)
from envs.market.randomness import lane_keys, slot_key
from kernels.checked_arrays import (
    INTEGERS,
    check_array,
    check_finite,
    check_together,
    wanted,
)
from kernels.compile import inline, kernel

# Values in ETH: ln v is normal up to the 99 % quantile and Pareto beyond, as recorded payments are.
LOG_VALUE_MEAN = -3.32
LOG_VALUE_SD = 1.6
TAIL_SHARE = 0.01
TAIL_INDEX = 1.5
TAIL_Z = float(ndtri(1.0 - TAIL_SHARE))
LOG_VALUE_CAP = 6.587  # ln of 726 ETH, the largest recorded
MAX_LOG_RATE = 4.0

# A searcher whom nobody outbids needs no model of rivals: the best bid is 0 and there is nothing to
# learn. These bounds keep that case out.
MAX_UNCONTESTED = 0.08
MIN_RIVALS = 3.0
MIN_STATIC_BID = 0.05

BINS = 64
SMALLEST_GAP = 0.005
# Bids as shares f of the value, log-spaced in 1 - f: what a bid leaves over is what it earns.
FRACTIONS: NDArray[np.float64] = 1.0 - np.geomspace(1.0, SMALLEST_GAP, BINS)

SWITCH_CHANNEL, TARGET_CHANNEL, VALUE_CHANNEL, RIVAL_CHANNEL, START_CHANNEL = range(5)


class CompetitionLaw(NamedTuple):
    """`HiddenCompetition` as arrays over the regimes, for the kernels."""

    stay: float
    value_slope: float
    log_rate: np.ndarray
    value_shift: np.ndarray
    bid_a: np.ndarray
    bid_b: np.ndarray


@dataclass(frozen=True)
class HiddenCompetition:
    """A hidden regime m switches uniformly after `persistence` auctions on average.

    ln v = -3.32 + 1.6 z + value_shift[m]; Poisson(exp(log_rate[m] + value_slope (ln v + 3.32)/1.6))
    rivals bid shares of v that are Kumaraswamy(bid_a[m], bid_b[m]). Raises ValueError for
    parameters without competition, saying which trap they fall into.
    """

    log_rate: tuple[float, ...] = (1.2, 1.4, 1.6)
    value_slope: float = 0.3
    value_shift: tuple[float, ...] = (-1.0, 0.0, 1.0)
    bid_a: tuple[float, ...] = (5.0, 8.0, 20.0)
    bid_b: tuple[float, ...] = (100.0, 40.0, 10.0)
    persistence: float = 50.0

    def __post_init__(self) -> None:
        """Refuse impossible parameters, then those in which learning about rivals is pointless."""
        regimes = len(self.log_rate)
        for name in ("value_shift", "bid_a", "bid_b"):
            if len(getattr(self, name)) != regimes:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: log_rate has {regimes} regimes, give as many"
                )
        for name in ("bid_a", "bid_b"):
            if not all(0.0 < shape < 1e4 for shape in getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}: shapes between 0 and 10,000")
        finite = [self.value_slope, *self.log_rate, *self.value_shift]
        if not np.isfinite(finite).all():
            raise ValueError(f"log_rate, value_slope, value_shift are {finite}: must be finite")
        if regimes < 2 or not 1.0 < self.persistence < np.inf:
            raise ValueError(
                f"{regimes} regimes that persist {self.persistence} auctions: at least two regimes "
                "and a persistence above 1"
            )
        self._refuse_free_ride()

    def _refuse_free_ride(self) -> None:
        uncontested, rivals = self.uncontested(), self.mean_rivals()
        if uncontested > MAX_UNCONTESTED or rivals < MIN_RIVALS:
            raise ValueError(
                f"free ride: nobody else bids in {uncontested:.1%} of the auctions (at most "
                f"{MAX_UNCONTESTED:.0%}) and {rivals:.2f} rivals bid on average (at least "
                f"{MIN_RIVALS:.0f}); where opportunities stay uncontested bidding nothing is best "
                "and no history helps: raise log_rate"
            )
        best = self.best_static()
        if best < MIN_STATIC_BID:
            raise ValueError(
                f"free ride: the best constant bid is {best:.1%} of the value, so waiting for "
                "uncontested auctions beats competing: raise log_rate or lower bid_a / bid_b"
            )

    @property
    def regimes(self) -> int:
        """Number of hidden regimes."""
        return len(self.log_rate)

    def law(self) -> CompetitionLaw:
        """The parameters as arrays."""
        return CompetitionLaw(
            1.0 - 1.0 / self.persistence,
            self.value_slope,
            *(
                np.array(x, np.float64)
                for x in (self.log_rate, self.value_shift, self.bid_a, self.bid_b)
            ),
        )

    def value_nodes(self, regime: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Nodes of ln v and probabilities that sum to 1: the law of values, for integrals."""
        edges = np.linspace(LOG_VALUE_MEAN - 8.0 * LOG_VALUE_SD, LOG_VALUE_CAP, 4001)
        nodes = 0.5 * (edges[1:] + edges[:-1])
        shift = self.value_shift[regime]
        mass = log_value_density(nodes, shift) * np.diff(edges)
        nodes, mass = np.append(nodes, LOG_VALUE_CAP), np.append(mass, 0.0)
        mass[-1] = max(0.0, 1.0 - mass.sum())
        return nodes, mass

    def _rates(self, regime: int, log_value: NDArray[np.float64]) -> NDArray[np.float64]:
        z = (log_value - LOG_VALUE_MEAN) / LOG_VALUE_SD
        return np.exp(np.minimum(self.log_rate[regime] + self.value_slope * z, MAX_LOG_RATE))

    def uncontested(self) -> float:
        """Share of the auctions in which no rival bids."""
        laws = [(self.value_nodes(m), m) for m in range(self.regimes)]
        return float(np.mean([mass @ np.exp(-self._rates(m, x)) for (x, mass), m in laws]))

    def mean_rivals(self) -> float:
        """Rivals per auction."""
        laws = [(self.value_nodes(m), m) for m in range(self.regimes)]
        return float(np.mean([mass @ self._rates(m, x) for (x, mass), m in laws]))

    def static_curve(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean profit in ETH per auction of each constant bid, float64 of the shape given."""
        total = np.zeros(len(fractions))
        for m in range(self.regimes):
            nodes, mass = self.value_nodes(m)
            above = (1.0 - fractions ** self.bid_a[m]) ** self.bid_b[m]
            win = np.exp(-above[:, None] * self._rates(m, nodes))
            total += win @ (mass * np.exp(nodes)) * (1.0 - fractions)
        return total / self.regimes

    def best_static(self) -> float:
        """The constant bid that earns most, as a share of the value."""
        grid = np.linspace(0.0, 0.995, 200)
        return float(grid[np.argmax(self.static_curve(grid))])


def log_value_density(log_value: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    """Density of ln v below the cap."""
    z = (log_value - shift - LOG_VALUE_MEAN) / LOG_VALUE_SD
    body = np.exp(-0.5 * z * z) / (np.sqrt(2.0 * np.pi) * LOG_VALUE_SD)
    tail = TAIL_SHARE * TAIL_INDEX * np.exp(-TAIL_INDEX * LOG_VALUE_SD * np.maximum(z - TAIL_Z, 0))
    return np.where(z > TAIL_Z, tail, body)


_D = HiddenCompetition()
SCENARIOS: dict[str, HiddenCompetition] = {
    "D": _D,
    "S": dataclasses.replace(
        _D, bid_a=(8.0, 14.0, 40.0), bid_b=(800.0, 120.0, 20.0), persistence=100.0
    ),
    "D20": dataclasses.replace(_D, persistence=20.0),
    "D200": dataclasses.replace(_D, persistence=200.0),
    # Control: regimes differ in the number of rivals only, and history hardly helps.
    "count-only": dataclasses.replace(
        _D, log_rate=(1.2, 1.7, 2.2), value_shift=(0.0,) * 3, bid_a=(8.0,) * 3, bid_b=(40.0,) * 3
    ),
}


@inline
def rival_rate(law: CompetitionLaw, regime: int, log_value: float) -> float:
    """Mean number of rivals."""
    z = (log_value - LOG_VALUE_MEAN) / LOG_VALUE_SD
    return np.exp(min(law.log_rate[regime] + law.value_slope * z, MAX_LOG_RATE))


@inline
def win_probability(law: CompetitionLaw, regime: int, log_value: float, fraction: float) -> float:
    """Chance that no rival bids above `fraction` of the value."""
    above = 1.0 - kumaraswamy_cdf(fraction, law.bid_a[regime], law.bid_b[regime])
    return np.exp(-rival_rate(law, regime, log_value) * above)


@inline
def next_regime(law: CompetitionLaw, regime: int, key: np.uint64) -> int:
    """The regime of the auction with this key, after the auction before it."""
    if open_uniform(key, SWITCH_CHANNEL) < law.stay:
        return regime
    other = int(open_uniform(key, TARGET_CHANNEL) * (law.log_rate.shape[0] - 1))
    if other >= regime:
        return other + 1
    return other


@inline
def first_regime(law: CompetitionLaw, key: np.uint64) -> int:
    """Uniform: the stationary law."""
    return int(open_uniform(key, START_CHANNEL) * law.log_rate.shape[0])


@inline
def draw_log_value(law: CompetitionLaw, regime: int, key: np.uint64) -> float:
    """ln v of the auction with this key."""
    u = open_uniform(key, VALUE_CHANNEL)
    if u > 1.0 - TAIL_SHARE:
        x = LOG_VALUE_MEAN + LOG_VALUE_SD * TAIL_Z - np.log((1.0 - u) / TAIL_SHARE) / TAIL_INDEX
    else:
        x = LOG_VALUE_MEAN + LOG_VALUE_SD * normal_quantile(u)
    return min(x + law.value_shift[regime], LOG_VALUE_CAP)


@inline
def draw_top_rival(law: CompetitionLaw, regime: int, log_value: float, key: np.uint64) -> float:
    """Highest rival bid as a share of the value, -1 when nobody bids: the maximum's own law."""
    u = open_uniform(key, RIVAL_CHANNEL)
    q = 1.0 + np.log(u) / rival_rate(law, regime, log_value)
    if q <= 0.0:
        return -1.0
    return kumaraswamy_quantile(q, law.bid_a[regime], law.bid_b[regime])


class Chains(NamedTuple):
    """Recorded auctions [length, chains]: they do not depend on what the searcher bids."""

    regime: NDArray[np.int8]
    log_value: NDArray[np.float64]
    top_rival: NDArray[np.float64]

    def checked(self, regimes: int) -> "Chains":
        """The same chains, whose arrays a kernel may read. Raises ArrayError naming the array."""
        shape = ("length", "chains")
        check_together(
            {
                "regime": (self.regime, wanted(INTEGERS, *shape)),
                "log_value": (self.log_value, wanted(np.float64, *shape)),
                "top_rival": (self.top_rival, wanted(np.float64, *shape)),
            }
        )
        check_array("regime", self.regime, (None, None), INTEGERS, 0, regimes - 1)
        check_finite("log_value", self.log_value, (None, None))
        check_array("top_rival", self.top_rival, (None, None), np.float64, -1.0, 1.0)
        return self

    def first(self, chains: int) -> "Chains":
        """The first so many chains."""
        return Chains(
            np.ascontiguousarray(self.regime[:, :chains]),
            np.ascontiguousarray(self.log_value[:, :chains]),
            np.ascontiguousarray(self.top_rival[:, :chains]),
        )


@kernel
def _record(
    law: CompetitionLaw,
    keys: np.ndarray,
    episode: int,
    regimes: np.ndarray,
    log_values: np.ndarray,
    top_rivals: np.ndarray,
) -> None:
    for lane in range(keys.shape[0]):
        regime = 0
        for slot in range(regimes.shape[0]):
            key = slot_key(keys[lane], episode, slot)
            if slot == 0:
                regime = first_regime(law, key)
            else:
                regime = next_regime(law, regime, key)
            log_value = draw_log_value(law, regime, key)
            regimes[slot, lane] = regime
            log_values[slot, lane] = log_value
            top_rivals[slot, lane] = draw_top_rival(law, regime, log_value, key)


def record(
    model: HiddenCompetition, split: str, seed: int, chains: int, length: int, episode: int = 0
) -> Chains:
    """The auctions that lanes 0 .. chains - 1 of `HiddenCompetitionEnv` meet in an episode."""
    shape = (length, chains)
    out = Chains(np.empty(shape, np.int8), np.empty(shape), np.empty(shape))
    _record(model.law(), lane_keys(split, seed, chains), episode, *out)
    return out
