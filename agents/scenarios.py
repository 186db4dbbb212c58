"""Markets to compare bidders in: named changes of one configuration, and recorded days."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from envs.market import MarketConfig, PricePaths
from envs.recorded_market import replay_market


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


# Recorded blocks, and whether their swaps are played too; see envs.recorded_market.
REPLAYS = {"replay": False, "replay-swaps": True}


def check_scenario(scenario: str) -> None:
    """Refuse a scenario that cannot be played; ValueError names the remedy."""
    if scenario not in SCENARIOS and scenario not in REPLAYS:
        known = ", ".join([*SCENARIOS, *REPLAYS])
        raise ValueError(f"scenario {scenario!r}: choose from {known}")
    if scenario in REPLAYS and not os.environ.get("MEVRL_DATA"):
        raise ValueError(f"scenario {scenario!r} plays recorded blocks: set MEVRL_DATA to a folder")


def world_of(
    scenario: str, market: MarketConfig, paths: PricePaths
) -> tuple[MarketConfig, PricePaths]:
    """Configuration and prices of a scenario. Raises ValueError."""
    check_scenario(scenario)
    if scenario in REPLAYS:
        return replay_market(Path(os.environ["MEVRL_DATA"]), market, REPLAYS[scenario])
    return SCENARIOS[scenario](market), paths
