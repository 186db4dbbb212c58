"""Configuration: YAML, then overrides; whatever is misspelt or of the wrong type is named."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from agents.config import (
    DEFAULT_CONFIG,
    ConfigError,
    TrainConfig,
    config_from_dict,
    config_to_dict,
    read_arguments,
)
from agents.run_state import UNFINISHED, is_finished, listed
from agents.runs import create_run, discard_unfinished, publish
from configs.settings import keys_of
from models import frozen


def test_yaml_is_read_first_and_arguments_override_it(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("ppo:\n  epochs: 7\n  hidden: [8, 8, 8]\nmarket:\n  users:\n    rate: 2.5\n")
    config, resumed = read_arguments(["--config", str(path), "--ppo.epochs", "9"])
    assert resumed is None
    assert config.ppo.epochs == 9
    assert config.ppo.hidden == (8, 8, 8)
    assert config.market.users.rate == 2.5
    assert config.trials == TrainConfig().trials


def test_the_default_configuration_is_the_file_in_configs() -> None:
    assert read_arguments([])[0] == TrainConfig()
    assert read_arguments(["--config", str(DEFAULT_CONFIG)])[0] == TrainConfig()


@pytest.mark.parametrize("name", ["train.yaml", "smoke.yaml", "paper.yaml"])
def test_the_files_in_configs_are_valid(name: str) -> None:
    read_arguments(["--config", str(DEFAULT_CONFIG.with_name(name))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ppo.gamm", "0.5"], "ppo.gamm"),
        (["--ppo.epochs", "four"], "ppo.epochs"),
        (["--ppo.hidden", "64"], "ppo.hidden"),
        (["--market.users.rate", "-1"], "market.users.rate is -1: give a number above 0"),
        (
            ["--market.users.tip_gwei", "[0, 1]"],
            "market.users.tip_gwei is (0.0, 1.0): give 5 entries",
        ),
        (["--forecaster.burn_in", "500"], "forecaster.burn_in is 500"),
        (["--ppo.minibatch", "1000"], "ppo.minibatch is 1000"),
        (["--ppo.gamma", "1.5"], "ppo.gamma is 1.5: give a number from 0 to 1"),
        (
            ["--trials.keep_checkpoints", "2"],
            "trials.keep_checkpoints is 2: give a whole number from 4",
        ),
        (["--trials.seeds", "0"], "trials.seeds is 0"),
        (["--evaluation.scenarios", "[default, dull]"], "dull"),
        (["--evaluation.scenarios", "[]"], "evaluation.scenarios"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--resume", "runs/nowhere"], "runs/nowhere: no run there"),
        (["--resume", "runs/nowhere", "--ppo.epochs", "2"], "keeps its configuration"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_arguments(arguments)


def test_bad_keys_in_a_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("trials:\n  sedes: 3\n")
    with pytest.raises(ConfigError, match="sedes"):
        read_arguments(["--config", str(path)])


def test_entries_of_a_mapping_are_set_one_by_one() -> None:
    config, _ = read_arguments(["--ppo.network_arguments.width", "32"])
    assert config.ppo.network_arguments == {"width": 32}
    with pytest.raises(ConfigError, match=r"ppo\.epochs\.x"):
        read_arguments(["--ppo.epochs.x", "3"])


OLD = """market:
  episode_slots: 64
  user_rate: 2.0
  ticks_per_slot: 1
  base_gas: 100000
"""
MOVES = (
    "market.user_rate is now market.users.rate",
    "market.base_gas is now market.gas.per_arbitrage",
)


def test_keys_that_moved_are_refused_with_the_new_key(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(OLD)
    for arguments in (["--config", str(file)], ["--resume", str(tmp_path)]):
        with pytest.raises(ConfigError) as raised:
            read_arguments(arguments)
        assert all(f"\n  {move}" in str(raised.value) for move in MOVES)
        assert str(file) in str(raised.value)
    with pytest.raises(ConfigError, match=r"^--market\.user_rate is now --market\.users\.rate$"):
        read_arguments(["--market.user_rate", "2"])
    with pytest.raises(ConfigError, match=r"^policy/manifest\.json: market\.user_rate is now"):
        config_from_dict({"market": {"user_rate": 2.0}}, "policy/manifest.json")


def test_every_field_has_a_meaning_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        read_arguments(["--help"])
    assert stop.value.code == 0
    # A field with a meaning shows it between its name and "(type: ..., default: ...)".
    shown = " ".join(capsys.readouterr().out.split("\n\n", 1)[1].split())
    for key in keys_of(TrainConfig):
        after = shown.split(f"--{key} ", 1)[1]
        meaning = after.split("(type:", 1)[0].split(" ", 1)[-1]
        assert len(meaning.split()) >= 3, key


def test_a_run_keeps_its_configuration(tmp_path: Path) -> None:
    config, _ = read_arguments(
        ["--run.folder", str(tmp_path), "--run.name", "a", "--run.seed", "4"]
    )
    run = create_run(config)
    again, resumed = read_arguments(["--resume", str(run)])
    assert resumed == run
    assert again == config
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config))), "here") == config
    with pytest.raises(ConfigError, match=r"a exists; choose another name or use --resume"):
        create_run(config)


@pytest.mark.parametrize("name", ["latest", "a/b", "../a", ".hidden", "a b"])
def test_run_names_stay_inside_their_folder(tmp_path: Path, name: str) -> None:
    config = TrainConfig()
    run = dataclasses.replace(config.run, folder=str(tmp_path / "runs"), name=name)
    with pytest.raises(ConfigError, match=r"run\.name"):
        create_run(dataclasses.replace(config, run=run))
    assert not (tmp_path / "runs").exists()


def test_a_run_is_unfinished_until_it_is_published(tmp_path: Path) -> None:
    config, _ = read_arguments(["--run.folder", str(tmp_path), "--run.name", "a"])
    run = create_run(config)
    assert (run / UNFINISHED).read_text() == f"Continue: python train.py --resume {run}\n"
    (run / "report.json").touch()
    assert not is_finished(run)
    assert not (tmp_path / "latest").exists()
    assert listed(tmp_path) == f"{run} (unfinished)"
    with pytest.raises(frozen.PolicyError, match=f"unfinished. Continue: .*--resume {run}"):
        frozen.load(run / "policy")
    publish(run)
    assert is_finished(run)
    assert listed(tmp_path) == f"{run} (finished)"
    assert listed(tmp_path / "none") == "none"


def test_a_folder_that_cannot_hold_runs_is_named(tmp_path: Path) -> None:
    # A file stands where a folder is wanted: root, too, cannot write there.
    (tmp_path / "runs").touch()
    config, _ = read_arguments(["--run.folder", str(tmp_path / "runs")])
    with pytest.raises(ConfigError, match=r"run\.folder .*: Not a directory; give a folder"):
        create_run(config)


def test_latest_moves_in_one_step_and_unfinished_runs_go(tmp_path: Path) -> None:
    for name in ("a", "b"):
        config, _ = read_arguments(["--run.folder", str(tmp_path), "--run.name", name])
        publish(create_run(config))
    assert (tmp_path / "latest").resolve() == tmp_path / "b"
    (tmp_path / "b" / "checkpoints" / "volatility.onnx").write_bytes(b"x")
    discard_unfinished(tmp_path / "a")
    discard_unfinished(tmp_path / "b")
    discard_unfinished(None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "latest"]
