"""The four fixed rules and the number of rivals, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from envs.rivals import CLAMPED, SHARE_80, SHARE_90, TRUE_VALUE, rival_count, rule_bid

GAS = 230_000.0


@given(st.floats(1e-5, 100.0), st.floats(0.0, 0.1), st.integers(0, 50), st.floats(0.0, 2.0))
def test_rules_are_what_they_say(net: float, gas_eth: float, age: int, width: float) -> None:
    gross, low, high = net + gas_eth, 1.02, 1.02 + width
    assert rule_bid(SHARE_80, net, gross, GAS, age, low, high) == pytest.approx(0.8 * net)
    assert rule_bid(SHARE_90, net, gross, GAS, age, low, high) == pytest.approx(0.9 * net)
    assert rule_bid(TRUE_VALUE, net, gross, GAS, age, low, high) == net
    gwei = gross / 1.25 / (1.0 + 0.25 * age) / GAS * 1e9
    expected = min(min(max(gwei, low), high) * GAS * 1e-9, net)
    assert rule_bid(CLAMPED, net, gross, GAS, age, low, high) == pytest.approx(expected)


@pytest.mark.parametrize("rate", [1.2, 1.6, 2.3])
def test_counts_are_poisson(rate: float) -> None:
    u = (np.arange(20_000) + 0.5) / 20_000
    counts = np.array([rival_count(rate, x) for x in u])
    np.testing.assert_array_equal(counts, poisson.ppf(u, np.exp(rate)).astype(int))


def test_counts_are_bounded() -> None:
    assert rival_count(50.0, 0.9999) <= 32
    assert rival_count(-50.0, 0.5) == 0
