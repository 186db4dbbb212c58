"""Markets drawn at random around a given one: what a policy trains over when rivals are unknown.

What is drawn is what is assumed about rivals (docs/environment.md marks it so). Each draw changes
every group at once; ranges are those below times `spread`. Two things are never drawn, so that a
study can ask about them: mean stays of a regime outside DRAWN_STAY_SLOTS and efficiency laws whose
parameters differ from the given ones by more than DRAWN_EFFICIENCY.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from configs.settings import Natural, Range, Settings
from envs.market.config import MarketConfig

DRAWN_STAY_SLOTS = (30.0, 150.0)  # log-uniform, at spread 1; held out: 15 and 300
DRAWN_EFFICIENCY = 1.3  # largest factor on Kumaraswamy a or b, and its inverse; held out: 1.6
DRAWN_LOG_RATE = 0.4  # largest shift of ln of the mean number of rivals
DRAWN_RULE_SHARE = 0.5  # largest share of rivals who change to one other rule
DRAWN_LOCAL_SHARE = (0.1, 0.7)  # rivals who come when the proposer builds alone
DRAWN_LOCAL_SHADE = (0.3, 0.9)  # factor of their bids then
DRAWN_VALUE_SLOPE = (0.0, 0.6)  # growth of ln number per deviation of ln value
# Below this mean number of rivals a bid near 0 often wins unopposed: no draw goes there.
FEWEST_RIVALS = 2.0


@dataclass(frozen=True)
class RandomiseConfig(Settings):
    """Domain randomisation: the training markets are a mixture of drawn ones."""

    count: Natural = 0
    """Markets drawn, between which the lanes of a trial are split evenly; 0: the given one alone.
    """
    spread: Annotated[float, Range(above=0.0, most=1.0)] = 1.0
    """Width of what is drawn, as a share of the ranges of agents.market_draws."""
    seed: Natural = 0
    """Seed of the draw; it does not depend on that of a trial."""


def drawn_markets(market: MarketConfig, config: RandomiseConfig) -> list[MarketConfig]:
    """`config.count` markets; the k-th is the same for every count."""
    return [
        market.changed(_drawn(market, config.spread, np.random.default_rng([config.seed, k])))
        for k in range(config.count)
    ]


def _drawn(market: MarketConfig, spread: float, rng: np.random.Generator) -> dict[str, Any]:
    """Values of one draw, by dotted key."""
    regimes, rivals = market.regimes, market.rivals
    count = len(regimes.log_rate)

    def between(low: float, high: float, given: float) -> float:
        """Uniform on the range, drawn together around the given value where that lies inside."""
        centre = min(max(given, low), high)
        return centre + spread * (float(rng.uniform(low, high)) - centre)

    def scaled(values: tuple[float, ...]) -> tuple[float, ...]:
        reach = spread * np.log(DRAWN_EFFICIENCY)
        return tuple(float(v) for v in values * np.exp(rng.uniform(-reach, reach, count)))

    low, high = np.log(DRAWN_STAY_SLOTS)
    return {
        "regimes.stay_slots": float(np.exp(between(low, high, np.log(regimes.stay_slots)))),
        "regimes.efficiency_a": scaled(regimes.efficiency_a),
        "regimes.efficiency_b": scaled(regimes.efficiency_b),
        "regimes.rule_weight": towards(
            regimes.rule_weight,
            int(rng.integers(len(regimes.rule_weight[0]))),
            spread * float(rng.uniform(0.0, DRAWN_RULE_SHARE)),
        ),
        "rivals.local_share": between(*DRAWN_LOCAL_SHARE, rivals.local_share),
        "rivals.local_shade": between(*DRAWN_LOCAL_SHADE, rivals.local_shade),
        "rivals.value_slope": between(*DRAWN_VALUE_SLOPE, rivals.value_slope),
    } | more_rivals(market, spread * float(rng.uniform(-DRAWN_LOG_RATE, DRAWN_LOG_RATE)))


def more_rivals(market: MarketConfig, by: float) -> dict[str, Any]:
    """Changes that shift ln of the mean number of rivals in all regimes, down to FEWEST_RIVALS.

    The market's own guard against few rivals is lowered as far as that asks for.
    """
    least = min(np.log(FEWEST_RIVALS), min(market.regimes.log_rate))
    rates = tuple(float(max(rate + by, least)) for rate in market.regimes.log_rate)
    guard = min(market.rivals.min_mean, float(np.exp(min(rates))) * (1.0 - 1e-9))
    return {"regimes.log_rate": rates, "rivals.min_mean": guard}


def towards(
    weights: tuple[tuple[float, ...], ...], rule: int, share: float
) -> tuple[tuple[float, ...], ...]:
    """Rule weights by regime after `share` of all rivals changed to `rule`."""
    return tuple(
        tuple((1.0 - share) * w + share * (k == rule) for k, w in enumerate(row)) for row in weights
    )
