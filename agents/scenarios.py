"""Markets to compare bidders in: named changes of one configuration."""

import dataclasses
from collections.abc import Callable

from envs.market import MarketConfig


def _crowded(market: MarketConfig) -> MarketConfig:
    """Half as many rivals again in every regime."""
    rates = tuple(rate + 0.405 for rate in market.rival_log_rate)
    return dataclasses.replace(market, rival_log_rate=rates)


def _high_base_fee(market: MarketConfig) -> MarketConfig:
    """Gas four times as expensive: many small opportunities no longer pay."""
    return dataclasses.replace(market, base_fee_median_gwei=4.0 * market.base_fee_median_gwei)


def _count_only(market: MarketConfig) -> MarketConfig:
    """Control: regimes differ in the number of rivals alone, so history tells next to nothing."""
    middle = len(market.efficiency_a) // 2
    regimes = len(market.efficiency_a)
    return dataclasses.replace(
        market,
        efficiency_a=(market.efficiency_a[middle],) * regimes,
        efficiency_b=(market.efficiency_b[middle],) * regimes,
        rule_weight=(market.rule_weight[middle],) * regimes,
    )


SCENARIOS: dict[str, Callable[[MarketConfig], MarketConfig]] = {
    "default": lambda market: market,
    "crowded": _crowded,
    "high-base-fee": _high_base_fee,
    "count-only": _count_only,
}


def market_of(scenario: str, market: MarketConfig) -> MarketConfig:
    """The configuration of a scenario; ValueError names the known ones."""
    if scenario not in SCENARIOS:
        raise ValueError(f"scenario {scenario!r}: choose from {', '.join(SCENARIOS)}")
    return SCENARIOS[scenario](market)
