"""Settings of the local chain: the file that is shipped loads, and bad values are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from devnet.config import AnvilConfig, DevnetConfig, TrafficConfig, WorldConfig, check, load_config

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "devnet.yaml"


def test_shipped_file_says_what_the_defaults_say() -> None:
    assert load_config(SHIPPED) == DevnetConfig()
    check(DevnetConfig())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anvil: {slots: 3}", "slots"),
        ("anvil: {slot_s: soon}", r"anvil\.slot_s"),
        ("anvil: [", "parsing"),
        (None, "does not exist"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "bad.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"bad.yaml.*(?s:.*){message}"):
        load_config(file)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DevnetConfig(anvil=AnvilConfig(slot_s=0.0)), r"anvil\.slot_s is 0\.0"),
        (DevnetConfig(anvil=AnvilConfig(accounts=3)), r"anvil\.accounts is 3"),
        (DevnetConfig(world=WorldConfig(depth_weth=())), r"world\.depth_weth"),
        (DevnetConfig(traffic=TrafficConfig(size_max=2.0)), r"traffic\.size_max is 2\.0"),
        (DevnetConfig(lifetime=float("nan")), "lifetime is nan"),
        (DevnetConfig(anvil=AnvilConfig(balance_eth=100)), r"anvil\.balance_eth is 100"),
        (DevnetConfig(world=WorldConfig(depth_weth=(1.0,) * 5)), "number of exchanges.* is 5"),
    ],
)
def test_senseless_settings_are_named(config: DevnetConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(config)
