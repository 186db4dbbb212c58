"""Drawn markets: the same for a seed, inside their ranges, never what a study holds out."""

import dataclasses

import numpy as np
import pytest

from agents.market_draws import (
    DRAWN_EFFICIENCY,
    DRAWN_STAY_SLOTS,
    FEWEST_RIVALS,
    RandomiseConfig,
    drawn_markets,
    more_rivals,
    towards,
)
from agents.studies.rival_changes import AS_ASSUMED, changes_of
from envs.market.config import MarketConfig

MARKET = MarketConfig()
MANY = drawn_markets(MARKET, RandomiseConfig(count=200, seed=3))


def reach(market: MarketConfig) -> float:
    """Largest factor between efficiency parameters and those of MARKET."""
    ratios = [
        np.divide(getattr(market.regimes, name), getattr(MARKET.regimes, name))
        for name in ("efficiency_a", "efficiency_b")
    ]
    return float(np.exp(np.abs(np.log(ratios)).max()))


def test_a_draw_depends_on_its_seed_and_number_alone() -> None:
    few = drawn_markets(MARKET, RandomiseConfig(count=5, seed=3))
    assert few == MANY[:5]
    assert len({repr(market) for market in MANY}) == 200
    assert drawn_markets(MARKET, RandomiseConfig(count=5, seed=4)) != few
    assert drawn_markets(MARKET, RandomiseConfig()) == []


def test_draws_change_rivals_and_nothing_else() -> None:
    for drawn in MANY[:20]:
        assert dataclasses.replace(drawn, regimes=MARKET.regimes, rivals=MARKET.rivals) == MARKET
        assert drawn.regimes.size_factor == MARKET.regimes.size_factor
        rivals = dataclasses.replace(
            MARKET.rivals,
            **{
                name: getattr(drawn.rivals, name)
                for name in ("local_share", "local_shade", "value_slope", "min_mean")
            },
        )
        assert drawn.rivals == rivals


def test_what_a_study_holds_out_is_never_drawn() -> None:
    stays = np.array([market.regimes.stay_slots for market in MANY])
    assert DRAWN_STAY_SLOTS[0] <= stays.min() < 40.0
    assert 120.0 < stays.max() <= DRAWN_STAY_SLOTS[1]
    shapes = np.array([reach(market) for market in MANY])
    assert 1.25 < shapes.max() <= DRAWN_EFFICIENCY * (1.0 + 1e-12)
    held_out = {name: c for name, c in changes_of(MARKET).items() if c.held_out}
    assert len(held_out) == 6
    for name, change in held_out.items():
        changed = MARKET.changed(change.values)
        outside = not DRAWN_STAY_SLOTS[0] <= changed.regimes.stay_slots <= DRAWN_STAY_SLOTS[1]
        assert outside or reach(changed) > DRAWN_EFFICIENCY, name


def test_a_smaller_spread_draws_nearer_markets() -> None:
    near = drawn_markets(MARKET, RandomiseConfig(count=50, spread=0.2, seed=3))
    for wide, narrow in zip(MANY, near, strict=False):
        gaps = [
            abs(np.log(market.regimes.stay_slots / MARKET.regimes.stay_slots))
            for market in (narrow, wide)
        ]
        assert gaps[0] == pytest.approx(0.2 * gaps[1], rel=1e-9)
        assert reach(narrow) <= DRAWN_EFFICIENCY**0.2 * (1.0 + 1e-12)


def test_every_change_is_a_market_of_its_own() -> None:
    changes = changes_of(MARKET)
    assert next(iter(changes)) == AS_ASSUMED
    markets = {name: MARKET.changed(change.values) for name, change in changes.items()}
    assert markets[AS_ASSUMED] == MARKET
    assert len({repr(market) for market in markets.values()}) == len(markets) == 17
    rates = [np.mean(markets[n].regimes.log_rate) for n in ("fewer rivals", "more rivals")]
    assert rates == pytest.approx(np.mean(MARKET.regimes.log_rate) + np.array([-0.4, 0.4]))


def test_rules_are_moved_as_shares_and_rivals_never_below_the_fewest() -> None:
    weights = towards(MARKET.regimes.rule_weight, 3, 0.5)
    for after, before in zip(weights, MARKET.regimes.rule_weight, strict=True):
        assert sum(after) == pytest.approx(1.0, abs=1e-12)
        assert after[3] == pytest.approx(0.5 + 0.5 * before[3])
    fewest = MARKET.changed(more_rivals(MARKET, -5.0))
    assert np.exp(fewest.regimes.log_rate) == pytest.approx(FEWEST_RIVALS)
