"""The training command from end to end: what it writes, and that bad input leaves nothing."""

import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import train
from agents.evaluate import comparison as evaluate
from agents.run_state import UNFINISHED
from models import frozen
from tests.support.programs import ROOT, end_of, line_of, processes_of, program, until

TINY = """
prices: {stand_in_days: 16, test_from: "2024-01-08"}
forecaster: {ensemble: 1, epochs: 1, refit_days: 0, garch: false, confidence_set: false}
market: {episode_slots: 32, ticks_per_slot: 3}
ppo: {num_envs: 64, rollout_slots: 8, minibatch: 256, epochs: 1, hidden: [16, 16]}
trials: {seeds: 1, arms: [history, stateless], steps: 2048, reports: 2, validation_envs: 16}
evaluation: {seeds: 2, episodes: 16, resamples: 100, scenarios: [default, high-base-fee]}
studies: {hidden_competition: [D], hidden_competition_seeds: 1, steps: 32768, chains: 4}
"""
ARMS = {
    "policy",
    "PPO history",
    "PPO stateless",
    "best static",
    "best response to the last auctions",
    "Bayes filter, laws of training",
    "best static by value",
    "EMA of clearing",
    "up on loss, down on win",
    "greedy 80 %",
    "greedy 90 %",
    "gross / 1.25",
    "true value (99 %)",
    "no-op",
}


LEARNED = {"PPO history", "PPO stateless"}
FIGURES = (
    *("learning_curve", "profit_by_arm", "profit_by_training", "profit_by_reason", "bid_curve"),
    *("static_fractions", "forecast_calibration", "hidden_competition"),
)


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEVRL_DATA", raising=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(TINY)
    data = os.environ.pop("MEVRL_DATA", None)
    try:
        code = train.main(
            [
                *("--config", str(folder / "tiny.yaml")),
                *("--run.folder", str(folder / "runs"), "--run.name", "one", "--run.seed", "3"),
            ]
        )
    finally:
        if data is not None:
            os.environ["MEVRL_DATA"] = data
    assert code == 0
    return folder / "runs" / "one"


def test_a_run_holds_what_it_promises(finished: Path) -> None:
    assert (finished.parent / "latest").resolve() == finished
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("config.yaml", "tb", "checkpoints", "figures", "policy", "comparison", "studies"),
        *("report.json", "report.md"),
    }
    for figure in FIGURES:
        content = (finished / "figures" / f"{figure}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
    events = {path.parent.name for path in finished.glob("tb/*/events*")}
    assert events == {"forecaster", "seed-3-rate-0.005", "stateless-seed-3-rate-0.005"}


def test_the_report_says_where_its_numbers_come_from(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert set(report) == {
        *("forecast", "policy", "fair", "trainings", "ingredients", "settings_tried"),
        *("studies", "throughput", "seconds", "seed", "commit"),
    }
    for scenario in ("default", "high-base-fee"):
        assert set(report["ingredients"][scenario]) == {"the history of auctions"}
        best = {arm: report["policy"][arm][scenario]["iqm_eth"] for arm in LEARNED}
        found = report["trainings"][scenario]
        assert {arm: next(iter(profits.values())) for arm, profits in found.items()} == best
        fair = report["fair"][scenario]
        assert fair["strongest_fair_arm"] in ARMS - LEARNED
        assert fair["strongest_iqm_eth"] > 0.0
        low, high = fair["ratio_95"]
        assert low <= fair["ratio"] <= high
        assert fair["ratio"] == pytest.approx(fair["policy_iqm_eth"] / fair["strongest_iqm_eth"])
    assert report["settings_tried"]["policy"] == 2
    assert report["seed"] == 3
    learners = report["studies"]["hidden_competition"]["D"]["learners"]
    assert set(learners) == {"PPO, seed 0", *(f"stateless PPO, seed {k}" for k in range(3))}
    assert set(report["policy"]) == ARMS
    for arm in report["policy"].values():
        assert set(arm) == {"default", "high-base-fee"}
        for values in arm.values():
            low, high = values["iqm_95_eth"]
            assert low <= values["iqm_eth"] <= high
    assert {row["horizon_minutes"] for row in report["forecast"]["rows"]} == {5, 15, 60}
    text = (finished / "report.md").read_text()
    assert any(line.startswith("Prices: ") and "stands in" in line for line in text.splitlines())
    assert text.startswith("# Training report\n\n- default: "), "the first sentence is a verdict"
    for name in ("default", "high-base-fee"):
        assert f"\n- {name}: " in text
    assert "over episodes alone, for 1 and 1 trainings are too few" in text
    for figure in finished.glob("figures/*.png"):
        assert f"figures/{figure.name}" in text


def test_the_frozen_policy_is_the_one_that_was_judged(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = frozen.load(finished / "policy")
    assert policy.manifest["shapes"]["hidden"] == [16, 16]
    assert policy.manifest["config"]["market"]["episode_slots"] == 32
    frozen.load_forecaster(finished / "policy")
    out = tmp_path / "out.json"
    arguments = ["--policy", str(finished / "policy"), "--seeds", "2", "--episodes", "16"]
    arguments += ["--scenarios", "high-base-fee,default", "--json", str(out)]
    assert evaluate.main(arguments) == 0
    assert "stand-in" in capsys.readouterr().out
    ours = json.loads(out.read_text())["policy"]
    theirs = json.loads((finished / "report.json").read_text())["policy"]
    for arm in ARMS - LEARNED:  # only the policy is in the folder
        for scenario in ("default", "high-base-fee"):
            assert ours[arm][scenario]["iqm_eth"] == theirs[arm][scenario]["iqm_eth"]


def test_a_finished_run_resumes_to_the_same_policy(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "policy" / "policy.onnx").read_bytes()
    (finished / "report.md").unlink()
    study = finished / "studies" / "hidden-competition-D.json"
    written = study.stat().st_mtime_ns
    played = {path.name: path.stat().st_mtime_ns for path in (finished / "comparison").iterdir()}
    text = json.loads((finished / "report.json").read_text())["policy"]
    assert train.main(["--resume", str(finished)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "is finished: nothing is learned again" in said
    assert (finished / "policy" / "policy.onnx").read_bytes() == before
    assert (finished / "report.md").is_file()
    attempts = [path.name for path in (finished / "checkpoints").glob("attempt-*")]
    assert attempts == ["attempt-001"], "nothing was learned again"
    assert study.stat().st_mtime_ns == written, "nothing was studied again"
    now = {path.name: path.stat().st_mtime_ns for path in (finished / "comparison").iterdir()}
    assert now == played, "nothing was played again"
    assert json.loads((finished / "report.json").read_text())["policy"] == text


def test_other_prices_than_before_are_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = finished / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("stand_in_days: 16", "stand_in_days: 17"))
    try:
        assert train.main(["--resume", str(finished)]) == 2
    finally:
        config.write_text(text)
    assert "give the same data" in capsys.readouterr().err
    assert (finished / "policy" / "manifest.json").is_file()


def test_an_error_says_where_its_traceback_is_and_how_to_continue(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, moved = finished / "figures", finished / "moved"
    figures.rename(moved)
    figures.write_text("a file where figures are to be written")
    try:
        assert train.main(["--resume", str(finished)]) == 1
    finally:
        figures.unlink()
        moved.rename(figures)
    error = capsys.readouterr().err
    (kept,) = finished.glob("traceback-*.txt")
    assert error.splitlines()[-2:] == [
        f"The traceback is in {kept}.",
        f"Continue: python train.py --resume {finished}",
    ]
    assert "Traceback" in kept.read_text()
    assert "Traceback (most" not in error
    kept.unlink()


def test_what_cannot_be_resumed_is_answered_with_what_can(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = finished.parent / "begun"
    begun.mkdir()
    (begun / "config.yaml").touch()
    (begun / UNFINISHED).touch()
    try:
        assert train.main(["--resume", str(finished.parent / "none")]) == 2
    finally:
        for file in begun.iterdir():
            file.unlink()
        begun.rmdir()
    error = capsys.readouterr().err
    assert "no run there" in error
    assert f"{begun} (unfinished), {finished} (finished)" in error


@pytest.mark.parametrize(
    ("stage", "number", "send"),
    [
        ("forecaster ...", signal.SIGTERM, os.kill),
        ("learning ...", signal.SIGINT, os.killpg),  # as a terminal does
    ],
)
def test_an_interrupted_run_says_how_to_continue_and_leaves_nothing(
    stage: str, number: signal.Signals, send: Callable[[int, int], None], tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    config = ("--config", "tiny.yaml", "--run.folder", "runs", "--run.name", "one")
    with (
        tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as temporary,  # Ray: short paths
        program(ROOT / "train.py", *config, cwd=tmp_path, TMPDIR=temporary) as process,
    ):
        line_of(process.stdout, stage)
        send(process.pid, number)
        send(process.pid, number)
        code, errors = end_of(process)
        until(lambda: not processes_of(process.pid), "the end of all processes")
        # torch and onnxruntime keep one small file each
        left = {name for name in os.listdir(temporary) if name != ".ses"}
        left = {name for name in left if not name.startswith("torchinductor")}
    assert code == 128 + number
    assert errors.splitlines()[-1] == "Stopped. Continue: python train.py --resume runs/one"
    assert "Traceback" not in errors
    assert left == set()
    run = tmp_path / "runs" / "one"
    assert "--resume runs/one" in (run / UNFINISHED).read_text()
    assert [file.name for file in run.parent.iterdir()] == ["one"], "latest is a finished run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ppo.epoch", "3"], "--ppo.epoch is no key of the configuration; did you mean"),
        (["--trials.steps", "many"], "trials.steps"),
        (["--studies.hidden_competition", "[E]"], "studies.hidden_competition is ('E',)"),
        (["--prices.data", "nowhere"], "data folder nowhere: no such folder"),
        (["--prices.stand_in_days", "0"], "prices.stand_in_days is 0"),
        (["--prices.test_from", "May"], "date 'May'"),
        (["--prices.stand_in_days", "11"], "test part"),
        (["--prices.stand_in_days", "1"], "test part"),
        (["--prices.test_from", "2000-01-01"], "training part"),
    ],
)
def test_bad_input_leaves_nothing(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    config = ["--config", str(tmp_path / "tiny.yaml"), "--run.folder", str(tmp_path / "runs")]
    assert train.main([*config, *arguments]) == 2
    assert message in capsys.readouterr().err
    runs = tmp_path / "runs"
    assert not runs.exists() or not list(runs.iterdir())


def test_a_bar_file_without_its_columns_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"date": [0, 60], "close": [1.0, 2.0]}).write_csv(tmp_path / "bars.csv")
    arguments = ["--prices.data", str(tmp_path), "--run.folder", str(tmp_path / "runs")]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert "bars.csv" in error or "no file with bars" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "nowhere"], "nowhere does not exist"),
        (["--policy", "{}", "--scenarios", "dull"], "scenario 'dull'"),
        (["--policy", "{}", "--seeds", "0"], "seeds is 0"),
    ],
)
def test_evaluate_names_what_it_cannot_use(
    finished: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [a.format(finished / "policy") for a in arguments]
    assert evaluate.main(given) == 2
    assert message in capsys.readouterr().err
