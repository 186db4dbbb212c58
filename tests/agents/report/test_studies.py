"""Studies of a run: what is finished is kept and shown, what cannot be studied is refused."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from agents.config import ConfigError, StudiesConfig, read_arguments
from agents.findings import Finding, as_json, near, table
from agents.hidden_competition import study as hidden_competition
from agents.processes import as_finished
from agents.progress import Stages
from agents.report import studies
from agents.report.studies import draw_studies, run_studies, studies_lines
from agents.studies import known_bids

TINY = StudiesConfig(("D", "count-only"), 1, 1, steps=32768, chains=4, known_bids=True)
PLAYED = "played: 1 stationary rivals"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_competition, "TUNING_CHAINS", 4)
    monkeypatch.setattr(hidden_competition, "TUNING_LENGTH", 200)
    monkeypatch.setattr(studies, "CHECKS", {PLAYED: known_bids.CHECKS[PLAYED]})


@pytest.fixture
def stages() -> Stages:
    return Stages(Console(file=io.StringIO()))


def refuse(*_: object) -> None:
    raise AssertionError("a finished study is done again")


def test_studies_are_done_once_and_shown(
    quick: None, stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "figures").mkdir()
    found = run_studies(tmp_path, TINY, 1, stages)
    assert list(found["hidden_competition"]) == ["D", "count-only"]
    for summary in found["hidden_competition"].values():
        assert set(summary["learners"]) == {"PPO, seed 0", "stateless PPO, seed 0"}
    assert set(stages.seconds) == {"hidden competition", "known bids"}
    assert json.loads(json.dumps(found)) == found, "a report can hold it"
    monkeypatch.setattr(studies, "compared", refuse)
    monkeypatch.setattr(studies, "check", refuse)
    assert run_studies(tmp_path, TINY, 1, stages) == found
    (tmp_path / "studies" / "hidden-competition-D.json").unlink()
    with pytest.raises(AssertionError, match="done again"):
        run_studies(tmp_path, TINY, 1, stages)
    text = "\n".join(studies_lines(found))
    assert "| share by value (by auction) | D | count-only |" in text
    assert "| D | gap closed, lowest of 1 |" in text
    assert "| count-only | gap closed" not in text, "nothing is asked of the control"
    assert f"| {PLAYED} | best bid |" in text
    draw_studies(found, tmp_path / "figures")
    for figure in (tmp_path / "figures").iterdir():
        assert f"figures/{figure.name}" in text


def test_nothing_is_studied_unless_asked_for(stages: Stages, tmp_path: Path) -> None:
    assert run_studies(tmp_path, StudiesConfig(), 2, stages) == {}
    assert studies_lines({}) == []
    draw_studies({}, tmp_path)
    assert not list(tmp_path.iterdir())
    assert not stages.seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--studies.hidden_competition", "[D, E]"], r"studies.hidden_competition is \('D', 'E'\)"),
        (["--studies.hidden_competition", "[D, D]"], "studies.hidden_competition"),
        (["--studies.hidden_competition_seeds", "0"], "studies.hidden_competition_seeds is 0"),
        (["--studies.stateless_seeds", "-1"], "studies.stateless_seeds is -1"),
        (["--studies.steps", "0"], "studies.steps is 0"),
    ],
)
def test_studies_that_do_not_exist_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_arguments(arguments)


def test_a_bound_is_held_missed_or_not_asked() -> None:
    found = [
        Finding("a", 0.5, 0.4),
        Finding("b", 0.5, None, 0.4),
        Finding("c", 0.5),
        near("d", 0.5, 0.4, 0.2),
        near("e", 0.5, 0.7, 0.1),
        Finding("f", np.float64(0.5), 0.6),
    ]
    expected = [True, False, None, True, False, False]
    assert all(f.holds is holds for f, holds in zip(found, expected, strict=True))
    assert [row["holds"] for row in json.loads(json.dumps(as_json(found)))] == expected
    lines = table({"game": as_json(found)})
    assert lines[2] == "| game | a | 0.5 | at least 0.4 | yes |"
    assert lines[3] == "| game | b | 0.5 | at most 0.4 | **no** |"
    assert lines[4] == "| game | c | 0.5 |  |  |"
    assert lines[-1] == "2 of 5 bounds hold."


def test_every_check_asks_for_something_and_has_a_name_of_its_own() -> None:
    assert len(known_bids.CHECKS) == len(known_bids.PLAYED) + len(known_bids.LEARNED)
    assert len(known_bids.PLAYED) == 12 + 4 + 2 + 4 + 1
    assert len(known_bids.LEARNED) == 2 + 4 + 2 + 2 + 1 + 2


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_give_what_they_return_under_their_names(workers: int) -> None:
    jobs = {"one": (1, 2), "two": (2, 5)}
    power: Callable[[int, int], int] = pow
    assert dict(as_finished(power, jobs, workers)) == {"one": 1, "two": 32}
    with pytest.raises(ZeroDivisionError):
        list(as_finished(power, {"bad": (0, -1), "good": (1, 1)}, workers))
