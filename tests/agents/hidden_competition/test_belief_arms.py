"""Beliefs as arms of the study: the command, what it keeps, and the drawn laws."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.config import BARE_AUCTIONS
from agents.hidden_competition import belief_training
from agents.hidden_competition import study as hidden_competition
from agents.hidden_competition.command import main
from agents.hidden_competition.drawn_laws import drawn_law, law_of
from agents.hidden_competition.kept_trials import Kept
from agents.hidden_competition.report import markdown
from agents.hidden_competition.study import Study, Trained, trials
from envs.hidden_competition.model import SCENARIOS

SMALL = replace(BARE_AUCTIONS, num_envs=64, rollout_slots=8, minibatch=256, epochs=1, hidden=(8,))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_competition, "TUNING_CHAINS", 4)
    monkeypatch.setattr(hidden_competition, "TUNING_LENGTH", 200)


def test_the_command_compares_beliefs_and_goes_on_where_it_was(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, picture = tmp_path / "report.json", tmp_path / "reliability.png"
    study = ["--seeds", "1", "--stateless-seeds", "0", "--steps", "262144", "--chains", "4"]
    study += ["--belief", "window", "--length", "50", "--held-out-seed", "7"]
    study += ["--keep", str(tmp_path / "kept"), "--json", str(file)]
    assert main([*study, "--reliability", str(picture)]) == 0
    report = json.loads(file.read_text())
    found = report["scenarios"]["D"]
    assert set(found["learners"]) == {"PPO, seed 0", "belief, window, seed 0"}
    assert set(found["kinds"]) == {"PPO", "belief, window"}
    forecast = found["forecasts"]["belief, window, seed 0"]
    assert forecast["log_score"]["belief"] > forecast["log_score"]["law"] + 0.02
    assert picture.stat().st_size > 5_000
    assert "belief, window: gap closed by value" in capsys.readouterr().out
    assert any(line.startswith("| belief, window: gap closed") for line in markdown({"D": found}))

    def refuse(*arguments: object) -> Trained:
        raise AssertionError("trained again")

    monkeypatch.setattr(hidden_competition, "_train_and_bid", refuse)
    assert main(study) == 0
    assert json.loads(file.read_text()) == report
    with pytest.raises(AssertionError, match="trained again"):
        main([*study, "--scenario", "D20"])
    with pytest.raises(AssertionError, match="trained again"):
        main([*study, "--held-out-seed", "8"])


def test_kept_trainings_are_the_ones_that_were_made(tmp_path: Path) -> None:
    study = Study(
        seeds=2, stateless_seeds=1, steps=1024, window=1, chains=3, length=20, burn_in=0, ppo=SMALL
    )
    made = dict(trials(study, "D", Kept(tmp_path)))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    found = dict(trials(replace(study, resamples=7), "D", Kept(tmp_path)))
    assert sorted(tmp_path.iterdir()) == files
    assert found.keys() == made.keys()
    for arm, trained in found.items():
        assert np.array_equal(trained.bids, made[arm].bids)
        assert trained[1:] == made[arm][1:]


def test_a_belief_that_learned_nothing_ends_the_run(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(belief_training, "LEAST_GAIN", 10.0)
    study = ["--seeds", "1", "--stateless-seeds", "0", "--steps", "32768", "--chains", "4"]
    assert main([*study, "--belief", "window", "--length", "50"]) == 1
    assert "the belief must gain 10.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--belief", "lstm"], "belief is 'lstm'"),
        (["--scenario", "drawn-01"], "scenario is 'drawn-01'"),
        (["--reliability", "r.png"], "there is none without --belief"),
        (["--keep", "/no/such/folder"], "folder does not exist"),
    ],
)
def test_the_command_refuses_beliefs_it_does_not_know(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert word in capsys.readouterr().err


def test_drawn_laws_are_varied_and_their_numbers_decide() -> None:
    laws = [drawn_law(number) for number in range(12)]
    assert [law.regimes for law in laws] == [2, 3, 4] * 4
    assert len({law.persistence for law in laws}) == 12
    assert all(15.0 <= law.persistence <= 300.0 for law in laws)
    for law in laws:
        a, b = np.array(law.bid_a), np.array(law.bid_b)
        medians = np.sort((1.0 - 0.5 ** (1.0 / b)) ** (1.0 / a))
        assert np.diff(medians).min() >= 0.12 - 1e-9
    assert law_of("drawn-4") == laws[4]
    assert law_of("S") == SCENARIOS["S"]
    with pytest.raises(ValueError, match="'E': choose one of D, S"):
        law_of("E")
