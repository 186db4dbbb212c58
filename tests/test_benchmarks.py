"""The benchmark command: every part of a name runs, and a failed check decides the exit status."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.env_growth import AXES
from benchmarks.harness import CheckFailedError, Measurement


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts that ran, in order; the part named `broken` fails its check."""
    ran: list[str] = []

    def run(part: str, quick: bool) -> list[Measurement]:
        ran.append(part)
        if part == "broken":
            raise CheckFailedError("a quote differs")
        return [Measurement(part, 2.0, "ns", at_most=3.0)]

    monkeypatch.setattr(command, "run", run)
    return ran


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    return command.main()


def test_kernels_are_v2_v3_and_calldata(
    parts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "figures.json"
    assert call(monkeypatch, "kernels", "--json", str(file)) == 0
    assert parts == list(command.PARTS["kernels"])
    assert {"kernels", "uniswap_v3", "calldata"} <= set(parts)
    figures = json.loads(file.read_text())["kernels"]
    assert [figure["name"] for figure in figures] == parts
    assert figures[0]["at_most"] == 3.0
    assert "<= 3 met" in capsys.readouterr().out


def test_a_failed_check_fails_the_command_and_not_the_other_parts(
    parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(command.PARTS, "kernels", ("broken", "calldata"))
    assert call(monkeypatch, "kernels") == 1
    assert parts == ["broken", "calldata"]


def test_targets_say_whether_they_were_met() -> None:
    assert Measurement("a", 18.0, "ratio", at_least=18.0).target == ">= 18 met"
    assert Measurement("a", 17.9, "ratio", at_least=18.0).target == ">= 18 missed"
    assert Measurement("a", 61.0, "ns", at_most=60.0).target == "<= 60 missed"
    assert Measurement("a", 61.0, "ns").target == ""


def test_figures_are_drawn_from_the_rows_of_a_part_that_has_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def rows(part: str, quick: bool) -> list[Measurement]:
        extra = {"place": 1.0, "cycles": 4.0, "paying": 0.5}
        return [Measurement(f"growth: 1 {axis}", 900.0, "ns/step", "", extra) for axis in AXES]

    monkeypatch.setattr(command, "run", rows)
    assert call(monkeypatch, "env", "--figures", str(tmp_path)) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["growth.png"]
    assert call(monkeypatch, "serve", "--figures", str(tmp_path / "none")) == 0
    assert not (tmp_path / "none").exists()
