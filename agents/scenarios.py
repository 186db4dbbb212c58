"""Markets to compare bidders in: named changes of one configuration, and recorded days."""

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from envs.hidden_competition import model as hidden_competition
from envs.market.config import MarketConfig, PricePaths
from envs.market.paths import SPLIT_EDGES
from envs.recorded.market import replay_market

SPELL_MINUTES = 240  # an episode of 256 slots takes 52


def _crowded(market: MarketConfig) -> MarketConfig:
    """Half as many rivals again in every regime."""
    rates = tuple(rate + 0.405 for rate in market.regimes.log_rate)
    return market.changed({"regimes.log_rate": rates})


def _high_base_fee(market: MarketConfig) -> MarketConfig:
    """Gas four times as expensive: many small opportunities no longer pay."""
    fee = 4.0 * market.gas.base_fee_median_gwei
    return market.changed({"gas.base_fee_median_gwei": fee})


def _count_only(market: MarketConfig) -> MarketConfig:
    """Control: regimes differ in the number of rivals alone, so history tells next to nothing."""
    regimes = market.regimes
    count = len(regimes.efficiency_a)
    middle = count // 2
    alike = dataclasses.replace(
        regimes,
        efficiency_a=(regimes.efficiency_a[middle],) * count,
        efficiency_b=(regimes.efficiency_b[middle],) * count,
        rule_weight=(regimes.rule_weight[middle],) * count,
    )
    return dataclasses.replace(market, regimes=alike)


def _as_hidden(scenario: str, market: MarketConfig) -> MarketConfig:
    """Regimes changed as from D, which the market follows, to another hidden-competition scenario.

    The mean stay and both parameters of every regime's Kumaraswamy law are multiplied by what they
    are multiplied by there; regimes of other numbers lie evenly between the three of D.
    """
    before, after = hidden_competition.SCENARIOS["D"], hidden_competition.SCENARIOS[scenario]
    regimes = market.regimes
    place = np.linspace(0.0, 1.0, len(regimes.efficiency_a))

    def changed(values: tuple[float, ...], name: str) -> tuple[float, ...]:
        factors = np.array(getattr(after, name)) / np.array(getattr(before, name))
        factor = np.interp(place, np.linspace(0.0, 1.0, factors.size), factors)
        return tuple(float(value) for value in values * factor)

    other = dataclasses.replace(
        regimes,
        stay_slots=regimes.stay_slots * after.persistence / before.persistence,
        efficiency_a=changed(regimes.efficiency_a, "bid_a"),
        efficiency_b=changed(regimes.efficiency_b, "bid_b"),
    )
    return dataclasses.replace(market, regimes=other)


def _same(market: MarketConfig) -> MarketConfig:
    """What it was trained in."""
    return market


SCENARIOS: dict[str, Callable[[MarketConfig], MarketConfig]] = {
    "default": _same,
    "calm": _same,
    "volatile": _same,
    "crowded": _crowded,
    "high-base-fee": _high_base_fee,
    "count-only": _count_only,
}
# Ends of the ranks by variance of the spells of prices that a scenario plays; the others play all.
RANKS = {"calm": (0.0, 1.0 / 3.0), "volatile": (2.0 / 3.0, 1.0)}
# Recorded blocks, and whether their swaps are played too; see envs.recorded.market.
REPLAYS = {"replay": False, "replay-swaps": True}
# Sharper regimes that stay longer; the same ones staying 20 and 200 auctions instead of 50.
REGIMES = {name: partial(_as_hidden, name) for name in ("S", "D20", "D200")}
NAMES = (*SCENARIOS, *REPLAYS, *REGIMES)  # append: the order gives each its test seeds
SEEDS_EACH = 1000  # test seeds of one scenario


def first_seed(scenario: str) -> int:
    """First of the SEEDS_EACH test seeds that no other scenario has."""
    return NAMES.index(scenario) * SEEDS_EACH


def spells_of_rank(paths: PricePaths, low: float, high: float) -> PricePaths:
    """The paths, with episodes only in spells whose variance of ETH ranks between two shares.

    Spells of four hours are ranked within the training, validation and test part each, which stay
    where they are: minutes that are not played become segments of their own.
    """
    variance = paths.slot_sigma[:, 0] ** 2
    segment = paths.segment.copy()
    for edges in pairwise(int(len(paths) * edge) for edge in SPLIT_EDGES):
        spell = np.arange(edges[1] - edges[0]) // SPELL_MINUTES
        if not spell.size:
            continue
        of_spell = np.bincount(spell, variance[slice(*edges)]) / np.bincount(spell)
        rank = (np.argsort(np.argsort(of_spell)) + 0.5) / of_spell.size
        left_out = np.flatnonzero(((rank < low) | (rank > high))[spell]) + edges[0]
        segment[left_out] = paths.segment.max() + 1 + left_out
    return dataclasses.replace(paths, segment=segment)


def check_scenario(scenario: str) -> None:
    """Refuse a scenario that cannot be played; ValueError names the remedy."""
    if scenario not in NAMES:
        known = ", ".join(NAMES)
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
    if scenario in RANKS:
        paths = spells_of_rank(paths, *RANKS[scenario])
    return (SCENARIOS | REGIMES)[scenario](market), paths
