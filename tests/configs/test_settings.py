"""Typed settings: what an annotation says holds for constructors, files and arguments alike."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from configs.moved import MOVED
from configs.reading import read_settings, settings_from_dict, settings_parser
from configs.settings import (
    ConfigError,
    Count,
    NonNegative,
    Positive,
    Range,
    RefusedValueError,
    Settings,
    Share,
    keys_of,
)


@dataclass(frozen=True)
class Users(Settings):
    """Who swaps."""

    rate: Positive = 3.0
    """swaps per slot"""
    branching: Annotated[float, Range(0.0, below=0.9)] = 0.3
    """swaps that each swap sets off"""
    tips: tuple[NonNegative, ...] = (0.0, 1.0)
    """quantiles of tips"""
    slippage: tuple[Share, Share] = (0.1, 0.2)
    """least and largest tolerance"""
    mode: Literal["flat", "steep"] = "flat"
    """shape of the law"""

    def check(self) -> None:
        """A range that rises."""
        self.require_rising("slippage")


@dataclass(frozen=True)
class World(Settings):
    """The world."""

    slots: Count = 8
    """slots per episode"""
    name: str = ""
    """of the world"""
    quick: bool = False
    """whether to hurry"""
    folder: Path = Path("runs")
    """where it is written"""
    users: Users = Users()
    """who swaps"""


def read(*arguments: str) -> World:
    return read_settings(settings_parser(World, "world", None), World, arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Users(rate=0.0), "rate is 0.0: give a number above 0"),
        (lambda: Users(rate=float("nan")), "rate is nan: give a number above 0"),
        (lambda: Users(rate=float("inf")), "rate is inf: give a number above 0"),
        (lambda: Users(rate=True), "rate is True: give a number above 0"),
        (lambda: Users(rate="3"), "rate is '3': give a number above 0"),  # type: ignore[arg-type]
        (lambda: Users(branching=0.9), "branching is 0.9: give a number from 0 to below 0.9"),
        (lambda: Users(tips=(1.0, -1.0)), "tips is (1.0, -1.0): give a list, each a number from 0"),
        (lambda: Users(slippage=(0.1,)), "slippage is (0.1,): give a list of"),  # type: ignore[arg-type]
        (lambda: Users(slippage=(0.3, 0.2)), "slippage is (0.3, 0.2): give entries that do not"),
        (lambda: Users(mode="x"), "mode is 'x': give one of flat, steep"),  # type: ignore[arg-type]
        (lambda: World(slots=1.5), "slots is 1.5: give a whole number from 1"),  # type: ignore[arg-type]
        (lambda: World(name=3), "name is 3: give a text"),  # type: ignore[arg-type]
        (lambda: World(quick=1), "quick is 1: give true or false"),  # type: ignore[arg-type]
        (lambda: World(users={}), "users is {}: give a Users"),  # type: ignore[arg-type]
        (lambda: World().changed({"users.rate": -1}), "users.rate is -1: give a number above 0"),
    ],
)
def test_a_constructor_names_field_value_and_range(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(RefusedValueError) as raised:
        make()
    assert str(raised.value).startswith(message)


def test_values_take_their_own_type() -> None:
    users = Users(rate=np.float64(2), tips=[1, np.int64(2)])  # type: ignore[arg-type]
    assert users == Users(rate=2.0, tips=(1.0, 2.0))
    assert [type(value) for value in (users.rate, *users.tips)] == [float] * 3
    assert type(World(slots=np.int64(3)).slots) is int  # type: ignore[arg-type]
    assert World(folder="a/b").folder == Path("a/b")  # type: ignore[arg-type]


def test_a_copy_changes_dotted_keys_only() -> None:
    world = World(slots=4)
    changed = world.changed({"users.rate": 5, "users.mode": "steep", "name": "b"})
    assert changed == World(slots=4, name="b", users=Users(rate=5.0, mode="steep"))
    assert world == World(slots=4)
    for key in ("rate", "users.raet", "slots.rate", "user.rate"):
        with pytest.raises(ConfigError, match=f"{key} is no key of the configuration"):
            world.changed({key: 1.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users.rate", "-1"], "users.rate is -1: give a number above 0"),
        (["--users.rate=fast"], "users.rate is 'fast': give a number above 0"),
        (["--users.rate", ".inf"], "users.rate is inf: give a number above 0"),
        (["--users.tips", "[1, -2]"], "users.tips is [1, -2]: give a list, each a number from 0"),
        (["--users.slippage", "[0.2, 0.1]"], "users.slippage is (0.2, 0.1): give entries that"),
        (["--users.mode", "x"], "users.mode is 'x': give one of flat, steep"),
        (["--slots", "1e6"], "slots is 1000000.0: give a whole number from 1"),
        (["--users.rat", "1"], "--users.rat is no key of the configuration; did you mean"),
        (["--rate", "1"], "--rate is no key of the configuration; did you mean users.rate?"),
        (["--config"], "--config: name a YAML file behind it"),
        (["--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
    ],
)
def test_arguments_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(*arguments)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users: {rate: -1}", "users.rate is -1: give a number above 0"),
        ("users: {rat: 1}", "users.rat is no key of the configuration; did you mean users.rate?"),
        ("slot: 1", "slot is no key of the configuration; did you mean slots?"),
        ("users: 3", "users is 3: give keys below it (rate, branching, tips, slippage, mode)"),
        ("users: {slippage: [0.2, 0.1]}", "users.slippage is (0.2, 0.1): give entries that do"),
        ("slots: [", "is no YAML"),
        ("- 1", "holds [1]: give keys with values"),
    ],
)
def test_a_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read("--config", str(file), "--slots", "2")
    assert str(raised.value).startswith(str(file))
    assert message in str(raised.value)


def test_an_argument_beats_a_file_and_a_later_file_an_earlier_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("slots: 2\nname: one\nusers: {rate: 1e-3, tips: [1, 2]}\n")
    two.write_text("name: two\nusers:\n")
    world = read("--config", str(one), f"--config={two}", "--users.mode", "steep")
    assert world == World(2, "two", users=Users(rate=1e-3, tips=(1.0, 2.0), mode="steep"))
    # The fault is named where it stands: here on the command line.
    with pytest.raises(ConfigError, match=r"^slots is 0"):
        read("--config", str(one), "--slots", "0")


def test_help_shows_meaning_and_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "swaps per slot (type: number above 0, default: 3.0)" in shown
    assert "swaps that each swap sets off (type: number from 0 to below 0.9, default: 0.3)" in shown
    assert "slots per episode (type: whole number from 1, default: 8)" in shown


def test_moved_keys_lead_to_keys_that_there_are() -> None:
    from agents.config import TrainConfig

    known = set(keys_of(TrainConfig))
    assert set(MOVED.values()) <= known
    assert not set(MOVED) & known


def test_settings_of_a_json_object_name_their_source() -> None:
    assert settings_from_dict(World, {"slots": 3, "users": {"rate": 2}}, "a.json").slots == 3
    with pytest.raises(ConfigError, match=r"^a\.json: users\.rate is 0: give a number above 0$"):
        settings_from_dict(World, {"users": {"rate": 0}}, "a.json")
