"""Small markets on short stand-in prices, shared by the tests of the learner."""

import pytest

from envs.market.config import MarketConfig
from envs.market.paths import PricePaths, stand_in_paths


@pytest.fixture(scope="session")
def paths() -> PricePaths:
    return stand_in_paths(days=4)


@pytest.fixture(scope="session")
def market() -> MarketConfig:
    return MarketConfig(episode_slots=32, ticks_per_slot=3)
