"""Configurations that cannot work are refused, by the name of the field."""

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
        ({"pools.decimals": (18, 18)}, "pools.decimals"),
        ({"pools.depth_eth": (1.0,)}, "pools.depth_eth"),
        ({"pools.depth_eth": (0.0,) * 8}, "pools.depth_eth"),
        ({"episode_slots": 0}, "episode_slots"),
        ({"users.rate": -1.0}, "users.rate"),
        ({"users.size_max": 1.5}, "users.size_max"),
        ({"users.private_share": 1.1}, "users.private_share"),
        ({"informed.probability": -0.1}, "informed.probability"),
        ({"regimes.stay_slots": 0.5}, "regimes.stay_slots"),
        ({"pools.eth_exposure": (1.0, -1.0, -1.0, -1.0)}, "pools.eth_exposure"),
        ({"gas.used_ratio": (0.9, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4)}, "gas.used_ratio"),
        ({"gas.base_fee_memory_blocks": (3.0, 0.0)}, "gas.base_fee_memory_blocks"),
        ({"gas.demand_response": (1.0, -0.1)}, "gas.demand_response"),
        ({"informed.payment_bps": (-1.0, 1.0, 2.0, 3.0, 4.0)}, "informed.payment_bps"),
        ({"reward_scale_eth": 0.0}, "reward_scale_eth"),
        ({"regimes.rule_weight": ((1.0, 0.0, 0.0, 0.0, 0.0),) * 2}, "regimes.rule_weight"),
        ({"regimes.rule_weight": ((0.5, 0.0, 0.0, 0.0, 0.0),) * 3}, "regimes.rule_weight"),
        ({"regimes.rule_weight": ((1.0, 0.0, 0.0, 0.0),) * 3}, "regimes.rule_weight"),
        ({"rivals.style_weight": (0.5,) * 5}, "rivals.style_weight"),
        ({"ticks_per_slot": 0}, "ticks_per_slot"),
        ({"decision_lead_s": 12.0}, "decision_lead_s"),
        ({"reward": "log"}, "reward"),
        ({"users.hawkes_branching": 1.0}, "users.hawkes_branching"),
        ({"users.slippage": (0.1, 0.05)}, "users.slippage"),
        ({"users.slippage": (0.1, 1.5)}, "users.slippage"),
        ({"blocks.missed_share": 1.5}, "blocks.missed_share"),
        ({"pools.concentrated": 9}, "pools.concentrated"),
        ({"loans.pools": (4,)}, "loans.pools"),
        ({"loans.pools": (3,)}, "loans.pools"),
        ({"loans.pools": (0,) * 5}, "loans.pools"),
        ({"loans.health": (0.9, 1.1)}, "loans.health"),
        ({"pools.provider_size": 0.5}, "pools.provider_size"),
        ({"regimes.log_rate": (0.0, 1.4, 1.6)}, "free ride"),
        ({"pools.token1": (1, 2, 3, 2, 1, 2, 3, 9)}, "token1"),
    ],
)
def test_bad_values_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        _ = MarketConfig(era="rich").changed(change).graph


def test_tables_hold_the_configured_quantiles() -> None:
    config = MarketConfig(era="rich")
    table = physics_of(config, config.graph).quantiles
    assert table.shape == (EFFICIENCY + 3 + 3 * NODES, CELLS + 1)
    assert np.all(np.diff(table, axis=1) >= 0.0)
    middle = CELLS // 2
    assert table[NORMAL, middle] == pytest.approx(0.0, abs=1e-12)
    assert table[SIZE, middle] == pytest.approx(config.users.size_median)
    bps = 1e-4 * np.array(config.informed.payment_bps)
    for row, shown, at in (
        (TIP, config.users.tip_gwei, SHOWN_PROBABILITIES),
        (GAS_RATIO, config.gas.used_ratio, GAS_PROBABILITIES),
        (INFORMED_PAYMENT, bps, SHOWN_PROBABILITIES),
    ):
        found = np.interp(at, np.linspace(0, 1, CELLS + 1), table[row])
        np.testing.assert_allclose(found, shown, rtol=0.01, atol=1e-3)
    # Mean square of the tabulated normal: interpolation and the cut tails cost under 1 %.
    u = np.random.default_rng(0).random(200_000)
    z = np.interp(u, np.linspace(0, 1, CELLS + 1), table[NORMAL])
    assert np.std(z) == pytest.approx(1.0, abs=0.01)
