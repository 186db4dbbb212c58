"""What is assumed about rivals, changed one at a time: the markets of the robustness study.

Each change is a dictionary of dotted keys for `MarketConfig.changed`. Those marked as held out lie
outside of what `agents.market_draws` ever draws.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from agents.market_draws import DRAWN_EFFICIENCY, DRAWN_STAY_SLOTS, more_rivals, towards
from envs.market.config import MarketConfig

AS_ASSUMED = "as assumed"
NINETY, TRUE_VALUE = 1, 3  # columns of regimes.rule_weight, see envs.market.rivals
LOG_RATE_SHIFT, RULE_SHARE, EFFICIENCY_FACTOR = 0.4, 0.5, 1.6
STAYS_SLOTS = (15.0, 70.0, 300.0)
LOCAL_SHARES, LOCAL_SHADES, VALUE_SLOPES = (0.1, 0.7), (0.3, 0.9), (0.0, 0.6)


class Change(NamedTuple):
    """Another market."""

    values: Mapping[str, Any]  # by dotted key
    held_out: bool = False  # no drawn market has such values


def changes_of(market: MarketConfig) -> dict[str, Change]:
    """Every change by its name, the market itself first."""
    regimes = market.regimes
    found = {
        AS_ASSUMED: Change({}),
        "fewer rivals": Change(more_rivals(market, -LOG_RATE_SHIFT)),
        "more rivals": Change(more_rivals(market, LOG_RATE_SHIFT)),
    }
    for name, rule in (("90 %", NINETY), ("the true value", TRUE_VALUE)):
        weights = towards(regimes.rule_weight, rule, RULE_SHARE)
        found[f"half change to {name}"] = Change({"regimes.rule_weight": weights})
    for letter in "ab":
        key = f"efficiency_{letter}"
        for factor in (1.0 / EFFICIENCY_FACTOR, EFFICIENCY_FACTOR):
            values = tuple(factor * value for value in getattr(regimes, key))
            held_out = max(factor, 1.0 / factor) > DRAWN_EFFICIENCY
            found[f"efficiency {letter} x {factor:.3g}"] = Change(
                {f"regimes.{key}": values}, held_out
            )
    for stay in STAYS_SLOTS:
        if stay != regimes.stay_slots:
            held_out = not DRAWN_STAY_SLOTS[0] <= stay <= DRAWN_STAY_SLOTS[1]
            found[f"regimes stay {stay:g} slots"] = Change({"regimes.stay_slots": stay}, held_out)
    for words, key, values in (
        ("share when alone", "rivals.local_share", LOCAL_SHARES),
        ("shade when alone", "rivals.local_shade", LOCAL_SHADES),
        ("value slope", "rivals.value_slope", VALUE_SLOPES),
    ):
        found |= {f"{words} {value:g}": Change({key: value}) for value in values}
    return found
