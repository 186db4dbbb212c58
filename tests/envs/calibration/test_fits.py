"""The constants of the eras are what the fits give on the fitted windows."""

from pathlib import Path

import numpy as np
import pytest

from configs import eras
from envs.calibration import fits
from envs.calibration.windows import FEES_2022, FEES_2023
from envs.market.config import MarketConfig
from history.arbitrages import MAJOR, TAIL
from tests.support.recorded import data_file


@pytest.fixture
def data() -> Path:
    """The data folder, or skip."""
    return data_file("swaps").parent


def close(written: object, found: object) -> None:
    """Equal to the three digits that are written down."""
    np.testing.assert_allclose(np.asarray(written), np.asarray(found), rtol=6e-3)


def test_users_are_those_of_the_fitted_window(data: Path) -> None:
    law = fits.user_law(data)
    close(eras.SIZE_ETH, (law["median"], law["sigma"]))
    close(eras.MAJOR_SCALE, law["major_scale"])
    config = MarketConfig(era="2021")
    close((config.users.size_eth_median, config.users.size_eth_sigma), eras.SIZE_ETH)
    assert config.users.rate < fits.swaps_per_block(
        data, config.users.size_eth_least, eras.MAJOR_SCALE
    )


def test_depths_are_quantiles_of_the_fitted_snapshot(data: Path) -> None:
    found = fits.depths(data)
    close(eras.MAJOR_V2_DEPTH, found["major_v2"][0])
    close(eras.MAJOR_V3_DEPTH, found["major_v3"])
    close(eras.TAIL_DEEPER, found["tail_deeper"])
    close(eras.TAIL_SECOND, found["tail_second"])


def test_payments_and_tips_are_those_of_the_fitted_windows(data: Path) -> None:
    close(eras.TAIL_PAYMENT_BPS, fits.informed_law(data, TAIL))
    close(eras.MAJOR_PAYMENT_BPS, fits.informed_law(data, MAJOR))
    close(eras.TIP_GWEI, fits.tip_law(data))


@pytest.mark.parametrize(("era", "split"), [("2022", FEES_2022), ("2023", FEES_2023)])
def test_blocks_are_those_of_the_fitted_windows(data: Path, era: str, split: object) -> None:
    gas = MarketConfig(era=era).gas
    found = fits.fee_law(data, split, gas.base_fee_memory_blocks)  # type: ignore[arg-type]
    close(gas.demand_response, found["demand_response"])
    close(gas.used_ratio, found["used_ratio"])
    assert gas.limit == fits.gas_limit(data, split)  # type: ignore[arg-type]


@pytest.mark.parametrize("era", ["2021", "2022", "2023"])
def test_base_fees_begin_at_the_level_of_the_fitted_windows(data: Path, era: str) -> None:
    close(MarketConfig(era=era).gas.base_fee_median_gwei, fits.base_fee_level(data, era))
