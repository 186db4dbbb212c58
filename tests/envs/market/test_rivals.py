"""Rules, equilibrium, styles and numbers of rivals, and sandwiches, against their definitions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from envs.market.physics import CELLS, TOP, efficiency_quantiles, equilibrium_bids
from envs.market.rivals import (
    ADAPTIVE,
    BLUFF,
    CLAMPED,
    LAST_MINUTE,
    NAIVE,
    SHARE_80,
    SHARE_90,
    STEALTH,
    TRUE_VALUE,
    front_run,
    rival_count,
    rule_bid,
    shown_bid,
)
from kernels.compile import kernel
from kernels.market.action import ACTION_TABLE, BID, FIRST_PUBLIC
from kernels.market.tile import (
    BUNDLES_TAKEN,
    FOUND_CYCLE,
    FOUND_NET,
    FOUND_PUBLIC_BID,
    PUBLIC,
)
from tests.support.worlds import BARE, markets

GAS = 230_000.0


@kernel
def _front_run(amount: float, least: float, reserve: float, product: float) -> float:
    return front_run(amount, least, reserve, product, 0.997)


@given(st.floats(1e-5, 100.0), st.floats(0.0, 0.1), st.integers(0, 50), st.floats(0.0, 2.0))
def test_rules_are_what_they_say(net: float, gas_eth: float, age: int, width: float) -> None:
    gross, low, high = net + gas_eth, 1.02, 1.02 + width
    assert rule_bid(SHARE_80, net, gross, GAS, age, low, high) == pytest.approx(0.8 * net)
    assert rule_bid(SHARE_90, net, gross, GAS, age, low, high) == pytest.approx(0.9 * net)
    assert rule_bid(TRUE_VALUE, net, gross, GAS, age, low, high) == net
    gwei = gross / 1.25 / (1.0 + 0.25 * age) / GAS * 1e9
    expected = min(min(max(gwei, low), high) * GAS * 1e-9, net)
    assert rule_bid(CLAMPED, net, gross, GAS, age, low, high) == pytest.approx(expected)


def test_styles_show_what_they_say() -> None:
    shown = [shown_bid(s, 0.6, 1.0) for s in (NAIVE, LAST_MINUTE, STEALTH, BLUFF)]
    assert shown == [0.6, -1.0, pytest.approx(0.18), 1.0]
    assert shown_bid(ADAPTIVE, 0.6, 1.0) < 0.0  # it depends on what the others show


@pytest.mark.parametrize("rate", [1.2, 1.6, 2.3])
def test_counts_are_poisson(rate: float) -> None:
    u = (np.arange(20_000) + 0.5) / 20_000
    counts = np.array([rival_count(rate, x) for x in u])
    np.testing.assert_array_equal(counts, poisson.ppf(u, np.exp(rate)).astype(int))


def test_counts_are_bounded() -> None:
    assert rival_count(50.0, 0.9999) <= 32
    assert rival_count(-50.0, 0.5) == 0


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0, 5.0, 10.0])
def test_equilibrium_of_uniform_values_is_the_closed_form(rate: float) -> None:
    """Poisson(l) others with values uniform on [0, 1]: b(v) = v - (1 - exp(-l v)) / l (O6)."""
    value = efficiency_quantiles(1.0, 1.0)
    bids = equilibrium_bids(1.0, 1.0, rate)
    np.testing.assert_allclose(bids, value - -np.expm1(-rate * value) / rate, atol=1e-6)
    known = {0.5: 0.14064, 1.0: 0.24933, 2.0: 0.40095, 5.0: 0.60366, 10.0: 0.70003}
    assert np.interp(0.8, value, bids) == pytest.approx(known[rate], abs=2e-5)


@pytest.mark.parametrize("shape", [(5.0, 40.0), (8.0, 14.0), (20.0, 7.0)])
@pytest.mark.parametrize("rate", [2.5, 5.0, 12.0])
def test_no_deviation_from_the_equilibrium_pays(shape: tuple[float, float], rate: float) -> None:
    """Against Poisson(rate) others who bid it, no bid of a fine grid gains 0.5 % of the value."""
    value, bids = efficiency_quantiles(*shape), equilibrium_bids(*shape, rate)
    u = np.linspace(0.0, 1.0, CELLS + 1)
    grid = np.linspace(0.0, 1.0, 2001)
    # A rival's chance to bid at most x is the quantile at which the equilibrium bid reaches x.
    below = np.interp(grid, bids, u, left=0.0, right=1.0)
    wins = np.exp(-rate * (1.0 - below))
    for place in range(64, CELLS, 64):
        ours = (value[place] - bids[place]) * np.exp(-rate * (1.0 - u[place]))
        best = np.max((value[place] - grid) * wins)
        assert best - ours <= 0.005 * value[place]


def test_the_public_channel_shows_bids_and_adaptive_rivals_answer_ours() -> None:
    """A public bid of ours at the first decision raises what adaptive rivals will pay."""
    changes = BARE | {"ticks_per_slot": 2, "rivals.public_share": 1.0}
    changes |= {"rivals.style_weight": (0.0, 1.0, 0.0, 0.0, 0.0)}
    quiet, loud = markets(256, seed=31, **changes), markets(256, seed=31, **changes)
    world = quiet._physics.world_row
    bid = FIRST_PUBLIC + 3  # a middling public bid on the best opportunity
    assert ACTION_TABLE[bid].kind == BID
    assert ACTION_TABLE[bid].channel == PUBLIC
    raised = 0
    for _ in range(6):
        found = quiet.action_masks()[:, bid]
        quiet.step(np.zeros(256, np.int64))
        loud.step(np.where(found, bid, 0))
        for before, after in zip(quiet._tiles, loud._tiles):
            same = (before[FOUND_CYCLE] == after[FOUND_CYCLE]) & (before[FOUND_CYCLE] >= 0)
            assert np.all(after[world + TOP][same] >= before[world + TOP][same])
            limit = after[FOUND_NET] * 1.0000001
            assert np.all(after[world + TOP][same] <= limit[same])
            raised += int(np.sum((after[world + TOP] > before[world + TOP])[same]))
        quiet.step(np.zeros(256, np.int64))
        loud.set_state(quiet.state())
    assert raised > 20


def test_what_is_shown_is_only_what_public_styles_show() -> None:
    boosted: dict[str, Any] = {"blocks.mev_boost_share": 1.0}
    sealed = markets(64, boosted | {"rivals.public_share": 0.0}, seed=32)
    naive = BARE | {"rivals.public_share": 1.0, "rivals.style_weight": (1.0, 0.0, 0.0, 0.0, 0.0)}
    honest = markets(64, boosted | naive, seed=32)
    for _ in range(10):
        assert not np.any(sealed._tiles[:, FOUND_PUBLIC_BID : FOUND_PUBLIC_BID + 4])
        tiles, world = honest._tiles, honest._physics.world_row
        assert np.all(tiles[:, BUNDLES_TAKEN] == 1.0)
        found = tiles[:, FOUND_CYCLE] >= 0
        top = np.maximum(tiles[:, world + TOP], 0.0) / np.where(found, tiles[:, FOUND_NET], 1.0)
        np.testing.assert_allclose(tiles[:, FOUND_PUBLIC_BID][found], top[found])
        for env in (sealed, honest):
            env.step(np.zeros(64, np.int64))


@given(st.floats(1.0, 50.0), st.floats(0.001, 0.1), st.floats(100.0, 1e4), st.floats(1e5, 1e8))
def test_a_front_run_leaves_the_victim_its_minimum(
    amount: float, tolerance: float, reserve: float, other: float
) -> None:
    def pays(x: float, r: float, q: float) -> float:
        return 0.997 * x * q / (r + 0.997 * x)

    least = pays(amount, reserve, other) * (1.0 - tolerance)
    front = _front_run(amount, least, reserve, reserve * other)
    assert front >= 0.0
    bought = pays(front, reserve, other) if front > 0.0 else 0.0
    victim = pays(amount, reserve + front, other - bought)
    assert victim >= least * (1.0 - 1e-9)
    # Its fee stays in the pool, which helps the victim a little; beyond that nothing is left.
    assert victim <= least * (1.0 + 0.004 * tolerance + 0.01 * front / reserve + 1e-9)
