"""Configurations that cannot work are refused, by the name of the field."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.market.config import GAS_PROBABILITIES, SHOWN_PROBABILITIES, MarketConfig
from envs.market.physics import (
    CELLS,
    EFFICIENCY,
    GAS_RATIO,
    INFORMED_PAYMENT,
    NODES,
    NORMAL,
    SIZE,
    TIP,
    physics_of,
)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"decimals": (18, 18)}, "decimals has 2"),
        ({"depth_eth": (1.0,)}, "depth_eth has 1"),
        ({"depth_eth": (0.0,) * 8}, "depth_eth"),
        ({"episode_slots": 0}, "episode_slots"),
        ({"user_rate": -1.0}, "user_rate"),
        ({"user_size_max": 1.5}, "user_size_max"),
        ({"private_share": 1.1}, "private_share"),
        ({"informed_probability": -0.1}, "informed_probability"),
        ({"regime_stay_slots": 0.5}, "regime_stay_slots"),
        ({"eth_exposure": (1.0, -1.0, -1.0, -1.0)}, "eth_exposure"),
        ({"gas_used_ratio": (0.9, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4)}, "gas_used_ratio"),
        ({"base_fee_memory_blocks": (3.0, 0.0)}, "base_fee_memory_blocks"),
        ({"demand_response": (1.0, -0.1)}, "demand_response"),
        ({"informed_payment_bps": (-1.0, 1.0, 2.0, 3.0, 4.0)}, "informed_payment_bps"),
        ({"reward_scale_eth": 0.0}, "reward_scale_eth"),
        ({"rule_weight": ((1.0, 0.0, 0.0, 0.0, 0.0),) * 2}, "rule_weight"),
        ({"rule_weight": ((0.5, 0.0, 0.0, 0.0, 0.0),) * 3}, "rule_weight"),
        ({"rule_weight": ((1.0, 0.0, 0.0, 0.0),) * 3}, "rule_weight"),
        ({"style_weight": (0.5,) * 5}, "style_weight"),
        ({"ticks_per_slot": 0}, "ticks_per_slot"),
        ({"decision_lead_s": 4.0}, "decision_lead_s"),
        ({"reward": "log"}, "reward"),
        ({"hawkes_branching": 1.0}, "hawkes_branching"),
        ({"slippage": (0.1, 0.05)}, "slippage"),
        ({"slippage": (0.1, 1.5)}, "slippage"),
        ({"missed_share": 1.5}, "missed_share"),
        ({"concentrated_pools": 9}, "concentrated_pools"),
        ({"loan_pools": (4,)}, "loan_pools"),
        ({"loan_pools": (3,)}, "loan_pools"),
        ({"loan_pools": (0,) * 5}, "loan_pools"),
        ({"loan_health": (0.9, 1.1)}, "loan_health"),
        ({"provider_size": 0.5}, "provider_size"),
        ({"rival_log_rate": (0.0, 1.4, 1.6)}, "free ride"),
        ({"token1": (1, 2, 3, 2, 1, 2, 3, 9)}, "token1"),
    ],
)
def test_bad_values_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        _ = replace(MarketConfig(), **change).graph


def test_tables_hold_the_configured_quantiles() -> None:
    config = MarketConfig()
    table = physics_of(config, config.graph).quantiles
    assert table.shape == (EFFICIENCY + 3 + 3 * NODES, CELLS + 1)
    assert np.all(np.diff(table, axis=1) >= 0.0)
    middle = CELLS // 2
    assert table[NORMAL, middle] == pytest.approx(0.0, abs=1e-12)
    assert table[SIZE, middle] == pytest.approx(config.user_size_median)
    bps = 1e-4 * np.array(config.informed_payment_bps)
    for row, shown, at in (
        (TIP, config.tip_gwei, SHOWN_PROBABILITIES),
        (GAS_RATIO, config.gas_used_ratio, GAS_PROBABILITIES),
        (INFORMED_PAYMENT, bps, SHOWN_PROBABILITIES),
    ):
        found = np.interp(at, np.linspace(0, 1, CELLS + 1), table[row])
        np.testing.assert_allclose(found, shown, rtol=0.01, atol=1e-3)
    # Mean square of the tabulated normal: interpolation and the cut tails cost under 1 %.
    u = np.random.default_rng(0).random(200_000)
    z = np.interp(u, np.linspace(0, 1, CELLS + 1), table[NORMAL])
    assert np.std(z) == pytest.approx(1.0, abs=0.01)
