"""Settings of the local chain: the file that is shipped loads, and bad values are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devnet.config import AnvilConfig, DevnetConfig, TrafficConfig, WorldConfig, load_config

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "devnet.yaml"


def test_shipped_file_says_what_the_defaults_say() -> None:
    assert load_config(SHIPPED) == DevnetConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "anvil: {slots: 3}",
            r"anvil\.slots is no key of the configuration; did you mean anvil\.slot_s",
        ),
        ("anvil: {slot_s: soon}", r"anvil\.slot_s is 'soon': give a number from 0\.1"),
        ("anvil: [", "no YAML"),
        (None, "cannot be read"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "bad.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"bad.yaml.*(?s:.*){message}"):
        load_config(file)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AnvilConfig(slot_s=0.0), r"slot_s is 0\.0: give a number from 0\.1"),
        (lambda: AnvilConfig(accounts=3), r"accounts is 3: give a whole number from 5 to 1000"),
        (lambda: WorldConfig(depth_weth=()), r"depth_weth is \(\): give 1 to 4 exchanges"),
        (lambda: WorldConfig(depth_weth=(1.0,) * 5), "depth_weth"),
        (lambda: WorldConfig(depth_weth=(1.0, 0.0)), "depth_weth .* each a number from 0"),
        (lambda: TrafficConfig(size_max=2.0), r"size_max is 2\.0: give a number from 1e-09 to 1"),
        (lambda: DevnetConfig(lifetime=float("nan")), "lifetime is nan"),
        (lambda: DevnetConfig(lifetime=float("inf")), "lifetime is inf"),
        (
            lambda: DevnetConfig(anvil=AnvilConfig(balance_eth=100)),
            r"anvil\.balance_eth is 100: give at least 23750",
        ),
    ],
)
def test_senseless_settings_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
