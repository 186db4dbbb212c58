"""A policy trained elsewhere becomes a folder that the server, the evaluation and a reader load."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from torch import nn

import envs  # noqa: F401  registers mevrl/Market-v0
from agents.config import EvaluationConfig, PricesConfig, TrainConfig
from agents.evaluate.comparison import evaluate_folder
from agents.evaluate.elsewhere import freeze_policy, main
from envs.market.config import MarketConfig
from envs.searcher import Searcher
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from live.server import load_policy
from models import frozen
from models.policy.convert import CannotServeError
from models.volatility.config import VolatilityConfig
from models.volatility.onnx_file import load_forecaster
from tests.models.policy.test_convert import Memory
from tests.support.worlds import paths

SETTINGS = TrainConfig(
    market=MarketConfig(episode_slots=16, ticks_per_slot=1),
    prices=PricesConfig(stand_in_days=18),
    forecaster=VolatilityConfig(ensemble=1, epochs=1),
)


@pytest.fixture(autouse=True)
def _no_recorded_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEVRL_DATA", raising=False)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(SIZE, 24), nn.ReLU(), nn.Linear(24, ACTIONS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, module: nn.Module) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MEVRL_DATA", raising=False)
        return freeze_policy(module, tmp_path_factory.mktemp("frozen") / "policy", SETTINGS)


def test_it_decides_as_the_module_does(folder: Path, module: nn.Module) -> None:
    policy = frozen.load(folder)
    env = Searcher(SETTINGS.market, paths(), seed=4)
    observation, _ = env.reset()
    bids = 0
    for _ in range(15):
        masks = env.action_masks()
        action = policy.decide(observation, masks)
        with torch.no_grad():
            logits = module(torch.from_numpy(observation)).numpy()
        assert action == int(np.where(masks, logits, -np.inf).argmax())
        bids += action > 0
        observation, *_ = env.step(action)
    assert bids > 2


def test_the_server_loads_it_with_all_its_kernels(folder: Path) -> None:
    served = load_policy(folder)
    assert served.policy.manifest["runtime"] == "onnxruntime"
    assert np.isfinite(served.forecaster.fallback).all()


def test_it_is_compared_in_the_market_that_it_was_trained_in(folder: Path) -> None:
    config = EvaluationConfig(seeds=1, episodes=8, resamples=20)
    found = evaluate_folder(folder, config=config)
    assert found["policy"]["policy"]["default"]["participation"] >= 0.0
    assert "18 days" in found["source"]


def test_the_forecaster_of_another_folder_is_taken(
    folder: Path, module: nn.Module, tmp_path: Path
) -> None:
    again = freeze_policy(module, tmp_path / "again", SETTINGS, forecaster=folder)
    one, other = load_forecaster(folder), load_forecaster(again)
    assert one.metadata() == other.metadata()
    assert (folder / "volatility.onnx").read_bytes() == (again / "volatility.onnx").read_bytes()


def test_nothing_is_written_for_a_policy_that_cannot_be_served(tmp_path: Path) -> None:
    several = replace(SETTINGS, market=MarketConfig(ticks_per_slot=2))
    for policy, settings, named in (
        (nn.Linear(SIZE, 3), SETTINGS, "give logits"),
        (Memory(), several, "market.ticks_per_slot is 2"),
    ):
        with pytest.raises(CannotServeError, match=named):
            freeze_policy(policy, tmp_path / "policy", settings)
    assert not list(tmp_path.iterdir())


def test_the_command_freezes_a_saved_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "prices: {stand_in_days: 18}\nmarket: {episode_slots: 16, ticks_per_slot: 1}\n"
    )
    PPO("MlpPolicy", Searcher(SETTINGS.market, paths(), seed=1), seed=2).save(tmp_path / "m.zip")
    arguments = ["--model", str(tmp_path / "m.zip"), "--config", str(settings)]
    arguments += ["--forecaster", str(folder), "--policy", str(tmp_path / "policy")]
    assert main(arguments) == 0
    assert "Policy:" in capsys.readouterr().out
    assert "runtime" not in frozen.load(tmp_path / "policy").manifest  # a tanh perceptron
    for change, named in (
        ({"--model": "none.zip"}, "none.zip: no such file"),
        ({"--model": str(settings)}, "give an .onnx file"),
        ({"--algorithm": "stable_baselines3:NONE"}, "--algorithm: 'stable_baselines3:NONE'"),
        ({"--algorithm": "numpy:ndarray"}, "no method load"),
    ):
        given = dict(zip(arguments[::2], arguments[1::2])) | change
        assert main([word for pair in given.items() for word in pair]) == 2
        assert named in capsys.readouterr().err
