"""Presets of MarketConfig: what they fill in, and what overrides them."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.eras import DEFAULT_ERA, PRESETS
from configs.reading import read_settings, settings_from_dict, settings_parser
from configs.settings import ConfigError, RefusedValueError, Settings, keys_of
from envs.market.config import MarketConfig, Users
from envs.market.physics import SIZE, physics_of
from envs.vector import MarketVectorEnv
from kernels.market.action import PASS
from kernels.market.tile import RESERVES
from tests.support.worlds import paths

# The market of the first reports, field by field.
RICH: dict[str, Any] = {
    "episode_slots": 256,
    "ticks_per_slot": 1,
    "decision_lead_s": 0.6,
    "reward": "marked",
    "reward_scale_eth": 0.037,
    "pools.symbols": ("WETH", "DAI", "USDC", "WBTC"),
    "pools.decimals": (18, 18, 6, 8),
    "pools.eth_exposure": (0.0, -1.0, -1.0, -1.0),
    "pools.btc_exposure": (0.0, 0.0, 0.0, 1.0),
    "pools.token0": (0, 0, 0, 1, 0, 0, 0, 1),
    "pools.token1": (1, 2, 3, 2, 1, 2, 3, 2),
    "pools.concentrated": 4,
    "pools.fee_numerator": 997,
    "pools.fee_denominator": 1000,
    "pools.depth_eth": (2000.0, 4000.0, 2500.0, 2000.0, 1000.0, 2000.0, 1250.0, 1000.0),
    "pools.depth_sigma": 0.25,
    "pools.provider_rate": 0.02,
    "pools.provider_size": 0.05,
    "users.rate": 3.0,
    "users.hawkes_branching": 0.3,
    "users.hawkes_decay_s": 4.0,
    "users.size_median": 0.0035,
    "users.size_sigma": 0.9,
    "users.size_max": 0.08,
    "users.slippage": (0.005, 0.03),
    "users.deadline_slots": 8,
    "users.low_cap_share": 0.1,
    "users.replace_share": 0.3,
    "users.nonce_share": 0.05,
    "users.visibility_delay_s": 0.5,
    "users.private_share": 0.2,
    "users.private_ahead_share": 0.5,
    "users.refund_share": 0.3,
    "users.refund_to_user": 0.9,
    "users.tip_gwei": (0.0, 0.08, 0.81, 2.0, 33.0),
    "users.swap_gas": 120000,
    "informed.probability": 0.5,
    "informed.payment_bps": (0.2, 1.63, 5.3, 12.8, 35.0),
    "loans.pools": (0, 1, 0, 1),
    "loans.median_eth": 60.0,
    "loans.sigma": 1.0,
    "loans.health": (1.002, 1.1),
    "loans.leave": 0.004,
    "loans.oracle_deviation": 0.005,
    "gas.per_arbitrage": 51200,
    "gas.per_hop": 50300,
    "gas.per_cancel": 21000,
    "gas.revert_share": 0.35,
    "gas.own_tip_gwei": 1.0,
    "gas.base_fee_median_gwei": 15.0,
    "gas.base_fee_sigma": 0.5,
    "gas.base_fee_memory_blocks": (2.0, 100.0),
    "gas.demand_response": (1.436, 0.251),
    "gas.used_ratio": (0.632, 0.7, 0.808, 0.945, 1.117, 1.382, 1.619),
    "gas.limit": 30000000,
    "blocks.missed_share": 0.011,
    "blocks.late_share": 0.02,
    "blocks.mev_boost_share": 0.9,
    "regimes.stay_slots": 70.0,
    "regimes.size_factor": (0.75, 1.0, 1.3),
    "regimes.log_rate": (1.2, 1.4, 1.6),
    "regimes.efficiency_a": (5.0, 8.0, 20.0),
    "regimes.efficiency_b": (40.0, 14.0, 7.0),
    "regimes.rule_weight": (
        (0.42, 0.28, 0.2, 0.05, 0.05),
        (0.33, 0.37, 0.1, 0.15, 0.05),
        (0.14, 0.33, 0.05, 0.43, 0.05),
    ),
    "rivals.value_slope": 0.3,
    "rivals.public_share": 0.08,
    "rivals.local_share": 0.35,
    "rivals.local_shade": 0.6,
    "rivals.style_weight": (0.3, 0.25, 0.15, 0.15, 0.15),
    "rivals.clamp_gwei": (1.02, 1.81),
    "rivals.sandwich_share": 0.05,
    "rivals.min_mean": 3.0,
}
# What came later, and changes nothing there.
NEUTRAL: dict[str, Any] = {
    "era": "rich",
    "pools.fee_pips": (),
    "users.size_eth_median": 0.0,
    "users.size_eth_sigma": 2.2,
    "users.size_eth_least": 0.0,
    "users.size_scale": (),
    "users.pool_weight": (),
    "informed.more_payment_bps": (),
    "informed.payment_law": (),
}


@dataclasses.dataclass(frozen=True)
class World(Settings):
    """Something that holds a market, as train.py does."""

    market: MarketConfig = dataclasses.field(default_factory=MarketConfig)
    """the market"""


def leaf(settings: Any, key: str) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


def read(*arguments: str) -> MarketConfig:
    """A market from a command line."""
    return read_settings(settings_parser(World, "", None), World, arguments).market


def test_rich_is_the_market_of_the_first_reports() -> None:
    rich = MarketConfig(era="rich")
    assert set(RICH) | set(NEUTRAL) == set(keys_of(MarketConfig))
    for key, value in (RICH | NEUTRAL).items():
        assert leaf(rich, key) == value, key


@pytest.mark.parametrize("era", sorted(PRESETS))
def test_an_era_is_the_same_by_every_way(era: str, tmp_path: Path) -> None:
    wanted = MarketConfig(era=era)
    assert wanted.era == era
    for key, value in PRESETS[era].items():
        assert leaf(wanted, key) == value, key
    assert MarketConfig().changed({"era": era}) == wanted
    assert MarketConfig(era="2021").changed({"era": era}) == wanted
    assert read("--market.era", era) == wanted
    assert read(f"--market.era={era}") == wanted
    (tmp_path / "x.yaml").write_text(f"market:\n  era: {era}\n")
    assert read("--config", str(tmp_path / "x.yaml")) == wanted
    assert settings_from_dict(MarketConfig, {"era": era}, "x") == wanted
    assert pickle.loads(pickle.dumps(wanted)) == wanted


@pytest.mark.parametrize("era", sorted(PRESETS))
def test_nothing_of_another_default_is_left(era: str) -> None:
    @dataclasses.dataclass(frozen=True)
    class Other(Settings):
        """Something whose own default is another era."""

        market: MarketConfig = dataclasses.field(
            default_factory=lambda: MarketConfig(era="2021").changed({"gas.limit": 1_000_000})
        )
        """the market"""

    parser = settings_parser(Other, "", None)
    assert read_settings(parser, Other, ["--market.era", era]).market == MarketConfig(era=era)


def test_the_default_is_one_era() -> None:
    assert MarketConfig() == MarketConfig(era=DEFAULT_ERA) == read()


def test_single_settings_override_the_era(tmp_path: Path) -> None:
    era = MarketConfig(era="2021")
    # To what the rich market has, too.
    wanted = era.changed({"users.rate": 3.25, "informed.payment_bps": (0.2, 1.63, 5.3, 12.8, 35.0)})
    assert wanted.users.size_eth_median == era.users.size_eth_median
    bps = "--market.informed.payment_bps=[0.2,1.63,5.3,12.8,35.0]"
    assert read("--market.users.rate=3.25", bps, "--market.era=2021") == wanted
    file = tmp_path / "x.yaml"
    file.write_text("market:\n  era: 2021\n  users:\n    rate: 3.25\n")
    assert read("--config", str(file), bps) == wanted
    # An era on the command line lies under what a file says, too.
    file.write_text("market:\n  users:\n    rate: 3.25\n")
    assert read("--config", str(file), "--market.era=2021", bps) == wanted
    assert MarketConfig(era="2021", users=Users(rate=3.25)).users == Users(rate=3.25)
    assert MarketConfig().changed({"era": "2021", "users.rate": 3.25}).users == wanted.users


def test_a_written_configuration_comes_back(tmp_path: Path) -> None:
    wanted = MarketConfig(era="2022").changed({"users.rate": 3.0, "gas.limit": 36_000_000})
    tree: dict[str, Any] = {}
    for key in keys_of(MarketConfig):
        *groups, name = key.split(".")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = leaf(wanted, key)
    assert settings_from_dict(MarketConfig, tree, tmp_path / "x.yaml") == wanted


def test_an_unknown_era_is_refused_with_those_that_there_are() -> None:
    for make in (
        lambda: MarketConfig(era="1999"),
        lambda: MarketConfig().changed({"era": 1999}),
    ):
        with pytest.raises(RefusedValueError, match=r"era .*rich, 2021, 2022, 2023"):
            make()
    with pytest.raises(ConfigError, match=r"market.era is '?1999"):
        read("--market.era", "1999")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"users.pool_weight": (1.0,)}, "users.pool_weight"),
        ({"users.pool_weight": (0.0,) * 24}, "users.pool_weight"),
        ({"users.size_scale": (1.0,) * 3}, "users.size_scale"),
        ({"pools.fee_pips": (3000,)}, "pools.fee_pips"),
        ({"pools.fee_pips": (1_000_000,) * 24}, "pools.fee_pips"),
        ({"informed.payment_law": (2,) * 24}, "informed.payment_law"),
        ({"informed.payment_law": (0,) * 3}, "informed.payment_law"),
        ({"informed.more_payment_bps": ((1.0, 2.0),)}, "informed.more_payment_bps"),
    ],
)
def test_settings_that_do_not_fit_the_pools_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusedValueError, match=named):
        MarketConfig(era="2021").changed(change)


def test_sizes_in_eth_are_a_lognormal_above_the_least() -> None:
    config = MarketConfig(era="2021")
    table = physics_of(config, config.graph).quantiles[SIZE]
    users = config.users
    assert table[0] == pytest.approx(users.size_eth_least, rel=0.01)
    rng = np.random.default_rng(1)
    drawn = users.size_eth_median * np.exp(users.size_eth_sigma * rng.normal(size=400_000))
    above = drawn[drawn >= users.size_eth_least]
    shown = np.quantile(above, (0.25, 0.5, 0.75, 0.95))
    found = np.interp((0.25, 0.5, 0.75, 0.95), np.linspace(0.0, 1.0, table.size), table)
    np.testing.assert_allclose(found, shown, rtol=0.03)


def test_users_choose_pools_by_their_weight() -> None:
    weight = tuple(1.0 if pool in (3, 5) else 0.0 for pool in range(24))
    changes: dict[str, Any] = {"era": "2021", "users.pool_weight": weight, "users.size_max": 0.01}
    changes |= {"pools.provider_rate": 0.0, "informed.probability": 0.0, "pools.depth_sigma": 0.0}
    config = MarketConfig().changed(
        changes | {"regimes.log_rate": (-9.0,) * 3, "rivals.min_mean": 0.0}
    )
    env = MarketVectorEnv(16, config, paths(), seed=3)
    env.reset()
    before = env.state()["tiles"].copy()
    for _ in range(20):
        env.step(np.full(16, PASS))
    after = env.state()["tiles"]
    rows = slice(RESERVES, RESERVES + 24)
    changed = np.any(before[:, rows] != after[:, rows], axis=(0, 2))
    assert np.flatnonzero(changed).tolist() == [3, 5]
