"""The robustness study end to end with real training, and its numbers against known ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from agents.bidders.arms import BAYES, SCRIPTED
from agents.measures.intervals import Interval, iqm
from agents.studies import robustness
from agents.studies.rival_changes import AS_ASSUMED
from agents.studies.sensitivity import DEFAULT, RANDOMISED, Row, gain, row_of, verdict

SETTINGS = """
prices: {stand_in_days: 26}
forecaster: {ensemble: 1, epochs: 1, fold_epochs: 1}
market: {episode_slots: 16}
ppo: {num_envs: 32, rollout_slots: 8, minibatch: 128, epochs: 1, hidden: [8]}
trials: {seeds: 2, steps: 2048, reports: 2, validation_envs: 16, randomise: {count: 4}}
evaluation: {seeds: 2, episodes: 16, resamples: 50}
"""
MARKETS = "more rivals,regimes stay 15 slots"


@pytest.fixture(scope="module", autouse=True)
def no_data() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MEVRL_DATA", raising=False)
        yield


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.yaml").write_text(SETTINGS)
    return ["--out", str(folder / "out"), "--config", str(folder / "small.yaml")]


@pytest.fixture(scope="module")
def out(arguments: list[str]) -> Path:
    assert robustness.main([*arguments, "--markets", MARKETS]) == 0
    return Path(arguments[1])


def test_every_rule_of_the_comparison_plays_in_every_market(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert list(report["markets"]) == [AS_ASSUMED, *MARKETS.split(",")]
    for name, row in report["markets"].items():
        assert set(row["rules"]) == set(SCRIPTED)
        rivals = row["rules"].keys() - {BAYES}
        assert row["best_rule"] == max(rivals, key=row["rules"].__getitem__)
        assert row["held_out"] == (name == "regimes stay 15 slots")
        for policy in (DEFAULT, RANDOMISED):
            assert len(row["policies"][policy]) == 2
            found = row["gains"][policy]
            assert found["low"] <= found["value"] <= found["high"]
    earned = [row["rules"] for row in report["markets"].values()]
    assert earned[0] != earned[1] != earned[2]
    # Policies were trained apart from each other, and changed markets are other ones to them.
    first = report["markets"][AS_ASSUMED]["policies"]
    assert first[DEFAULT] != first[RANDOMISED]
    assert first != report["markets"]["more rivals"]["policies"]
    assert report["verdict"].startswith(f"The policy {RANDOMISED} falls below the best rule in")
    assert (out / "gain.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_finished_is_not_done_again(out: Path, arguments: list[str]) -> None:
    """Neither trainings nor arms; another market adds its own."""

    def kept() -> dict[str, int]:
        files = [*out.glob("played/*"), *out.glob("trainings/**/files.json")]
        return {str(file): file.stat().st_mtime_ns for file in files}

    before, report = kept(), (out / "report.json").read_text()
    assert robustness.main([*arguments, "--markets", MARKETS]) == 0
    assert kept() == before
    assert (out / "report.json").read_text() == report
    assert robustness.main([*arguments, "--markets", f"{MARKETS},fewer rivals"]) == 0
    assert before.items() < kept().items()


def test_an_interrupted_training_ends_as_an_undisturbed_one(
    out: Path, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the first report of the second training; the first is not repeated."""
    saved: list[Path] = []
    save = robustness.Training.save

    def interrupted(self: robustness.Training, folder: Path) -> None:
        save(self, folder)
        saved.append(folder)
        if len(saved) == 3:
            raise KeyboardInterrupt

    again = ["--out", str(tmp_path / "again"), *arguments[2:], "--markets", "more rivals"]
    with monkeypatch.context() as patch:
        patch.setattr(robustness.Training, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            robustness.main(again)
    assert len({folder.parent for folder in saved}) == 2
    assert robustness.main(again) == 0
    earlier, later = (
        json.loads((f / "report.json").read_text()) for f in (out, tmp_path / "again")
    )
    assert later["markets"] == {name: earlier["markets"][name] for name in later["markets"]}


def test_other_settings_and_unknown_markets_are_refused(
    out: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert robustness.main([*arguments, "--trials.steps", "4096"]) == 2
    assert "other settings; name another folder" in capsys.readouterr().err
    assert robustness.main([*arguments, "--markets", "no rivals"]) == 2
    assert "'no rivals': choose from as assumed, fewer rivals" in capsys.readouterr().err
    assert robustness.main([*arguments, "--resume", "runs/x"]) == 2


def test_the_gain_is_a_ratio_of_paired_episodes() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.exponential(size=(2, 400)) + 1.0
    twice = gain(2.0 * theirs[None], theirs)
    assert twice == pytest.approx((2.0, 2.0, 2.0)), "what the market did cancels"
    ours = theirs[None] * np.array([1.1, 1.2, 1.3])[:, None, None]
    found = gain(ours, theirs)
    assert found.value == pytest.approx(iqm(ours.ravel()) / iqm(theirs.ravel()))
    # Of three trainings the expanded percentiles are the least and the most that there is.
    assert found[1:] == pytest.approx((1.1, 1.3), abs=1e-9)
    noisy = gain(theirs[None] + rng.normal(0.0, 1.0, (1, 2, 400)), theirs)
    assert noisy.low < noisy.value < noisy.high, "episodes alone, with a single training"
    assert noisy.high - noisy.low < 0.4
    assert np.isnan(gain(ours, 0.0 * theirs).value)
    with pytest.raises(ValueError, match="play the same episodes"):
        gain(ours[:, :, 1:], theirs)


def test_the_first_sentence_names_where_the_policy_loses() -> None:
    def row(value: float, held_out: bool = False) -> Row:
        gains = {RANDOMISED: Interval(value, value - 0.1, value + 0.1)}
        return Row(held_out, "rule", {"rule": 1.0}, {}, gains)

    rows = {"calm": row(1.2), "few": row(0.9, True), "none": row(float("nan"))}
    said = verdict(rows)
    where = "few* 0.900 (0.800-1.000); none nan"
    assert said.startswith(f"The policy {RANDOMISED} falls below the best rule in 2 of 3: {where}")
    won = verdict({"calm": row(1.2), "many": row(1.05)})
    assert "in none of 2 markets" in won
    assert "confidence in 1, and by the least in: many 1.050 (0.950-1.150)" in won


def test_the_best_rule_is_the_one_that_earns_most() -> None:
    scores = {name: np.full((1, 8), value) for name, value in (("a", 1.0), ("b", 2.0), ("c", 0.0))}
    policies = {DEFAULT: {"s": np.full((1, 8), 3.0)}, RANDOMISED: {"s": np.full((1, 8), 1.0)}}
    row = row_of(scores, policies, False, resamples=10)
    assert row.best_rule == "b"
    assert row.gains[DEFAULT].value == pytest.approx(1.5)
    assert row.gains[RANDOMISED].value == pytest.approx(0.5)
    ceiling = {BAYES: np.full((1, 8), 9.0)}
    assert row_of(scores | ceiling, policies, False, resamples=10).best_rule == "b"
