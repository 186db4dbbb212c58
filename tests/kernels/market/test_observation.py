"""The encoder: every field where it says, finite on hostile tiles, history shifted, ln accurate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.compile import kernel
from kernels.market.action import ACTIONS
from kernels.market.observation import (
    FIELDS,
    HISTORY_START,
    HISTORY_STRIDE,
    LIMIT,
    OPPORTUNITY_START,
    SIZE,
    encode,
    fraction_of,
    ln,
    observe,
    record_auction,
)
from kernels.market.tile import (
    BASE_FEE,
    FORECAST,
    FOUND_AMOUNT_IN,
    FOUND_CYCLE,
    FOUND_GROSS,
    FOUND_NET,
    GAS_USED_RATIO,
    HISTORY,
    LANES,
    OWN_TIP,
    SLOT,
)
from tests.support.markets import random_tile, two_venues

GRAPH = two_venues()
NAMES = [field.name for field in FIELDS]


@kernel
def _ln(x: float) -> float:
    return ln(x)


def _observe(tile: np.ndarray) -> np.ndarray:
    lanes = tile.shape[1]
    shown = np.full((lanes, SIZE), np.nan, np.float32)
    observe(GRAPH.cycles, GRAPH.weights, tile, shown, np.empty((lanes, ACTIONS), np.bool_))
    return shown


@given(st.floats(1e-300, 1e300))
def test_ln_is_accurate(x: float) -> None:
    assert _ln(x) == pytest.approx(math.log(x), rel=1e-9, abs=1e-9)


def test_names_are_unique_and_every_field_is_written() -> None:
    assert len(set(NAMES)) == SIZE == len(FIELDS)
    assert all(field.meaning and field.unit and field.scale for field in FIELDS)
    shown = _observe(random_tile(GRAPH, LANES, 2))
    assert np.isfinite(shown).all()


def test_fields_hold_what_they_say() -> None:
    tile = random_tile(GRAPH, LANES, 4)
    shown = _observe(tile)
    lane = int(np.argmax(tile[FOUND_CYCLE + 1] >= 0.0))
    value = dict(zip(NAMES, shown[lane].tolist()))
    fee, tip = tile[BASE_FEE, lane], tile[OWN_TIP, lane]
    net, gross = tile[FOUND_NET + 1, lane], tile[FOUND_GROSS + 1, lane]
    amount = tile[FOUND_AMOUNT_IN + 1, lane]
    cycle = int(tile[FOUND_CYCLE + 1, lane])
    expected = {
        "base_fee": math.log(fee) - 2.7,
        "gas_used_ratio": tile[GAS_USED_RATIO, lane] - 1.0,
        "own_tip": tip / (fee + tip),
        "forecast_15m": (tile[FORECAST + 1, lane] + 11.9) / 1.3,
        "opportunities": np.count_nonzero(tile[FOUND_CYCLE : FOUND_CYCLE + 4, lane] >= 0) / 4,
        "opportunity1_exists": 1.0,
        "opportunity1_net": (math.log(net) + 3.32) / 1.6,
        "opportunity1_amount_in": (math.log(amount) - 1.5) / 1.5,
        "opportunity1_edge": (math.log(gross / amount) + 5.5) / 1.5,
        "opportunity1_gas_share": 1.0 - net / gross,
        "opportunity1_three_hops": float(GRAPH.cycle_hops[cycle] == 3),
    }
    for name, wanted in expected.items():
        clipped = min(max(wanted, -LIMIT), LIMIT)
        assert value[name] == pytest.approx(clipped, abs=2e-6), name


def test_history_is_newest_first_and_forgets_the_ninth() -> None:
    tile = random_tile(GRAPH, LANES, 0)
    for auction in range(HISTORY + 2):
        tile[SLOT, 3] = 2.0 * auction
        record_auction(tile, 3, 0.01 * (auction + 1), 0.05 * auction, 0.9, auction % 2 == 0)
    tile[SLOT] = 20.0
    shown = _observe(tile)
    history = shown[:, HISTORY_START:].reshape(LANES, HISTORY, HISTORY_STRIDE)
    assert np.all(history[[lane for lane in range(LANES) if lane != 3]] == 0.0)
    newest = np.arange(HISTORY + 1, 1, -1)
    values = (np.log(0.01 * (newest + 1)) + 3.32) / 1.6
    np.testing.assert_allclose(history[3, :, 0], values, atol=1e-6)
    np.testing.assert_allclose(fraction_of(history[3, :, 1]), 0.05 * newest, atol=1e-6)
    np.testing.assert_allclose(fraction_of(history[3, :, 2]), 0.9, atol=1e-6)
    np.testing.assert_array_equal(history[3, :, 3], np.where(newest % 2 == 0, 1.0, -1.0))
    np.testing.assert_allclose(history[3, :, 4], (20.0 - 2.0 * newest) / 32.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, 1e300, -1e300, 1e-300, np.inf, np.nan])
def test_hostile_values_stay_inside_the_box(bad: float) -> None:
    """Whatever a row holds, the observation is finite and clipped."""
    tile = random_tile(GRAPH, LANES, 6)
    _observe(tile)
    for row in (BASE_FEE, OWN_TIP, GAS_USED_RATIO, FORECAST, FOUND_NET, FOUND_GROSS):
        tile[row] = bad
    record_auction(tile, 0, bad, bad, bad, True)
    shown = np.full((LANES, SIZE), np.nan, np.float32)
    encode(tile, shown)
    assert np.all(np.abs(shown) <= LIMIT)
    assert OPPORTUNITY_START == 14
