"""Held-out episodes: the same numbers however many processes play, and nothing is played twice."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.bidders.arms import POLICY
from agents.bidders.baselines import network_bidder
from agents.config import EvaluationConfig
from agents.evaluate import held_out
from agents.evaluate.comparison import Comparison, Learned, compare_all
from agents.learner_arms import Choice, bidder_of
from envs.market.config import MarketConfig, PricePaths
from kernels.market.action import ACTIONS
from kernels.market.observation import SIZE
from models.frozen import Lstm, Network

CONFIG = EvaluationConfig(seeds=2, episodes=8, resamples=50, scenarios=("default", "calm"))
MARKET = MarketConfig(episode_slots=16, ticks_per_slot=1)
UNITS = 4


def network(seed: int, units: int = 0) -> Network:
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.3, shape).astype(np.float32)

    layer = weights(ACTIONS, units or SIZE), weights(ACTIONS)
    if not units:
        return Network((layer,))
    four = 4 * units
    return Network((layer,), Lstm(weights(four, SIZE), weights(four, units), weights(four)))


def compared(
    paths: PricePaths,
    workers: int = 1,
    folder: Path | None = None,
    other: int = 3,
    config: EvaluationConfig = CONFIG,
    market: MarketConfig = MARKET,
) -> list[Comparison]:
    policy, recurrent = network_bidder(network(0)), network_bidder(network(1, UNITS))
    arms = {
        "PPO a": policy,
        "PPO b": recurrent,
        "PPO c": bidder_of(network(2), Choice(masking=False)),
    }
    trainings = {arm: {"one": bidder} for arm, bidder in arms.items()}
    trainings["PPO a"]["two"] = network_bidder(network(other))
    chosen = dict.fromkeys((POLICY, *arms), "one")
    learned = Learned({**arms}, chosen, dict.fromkeys(chosen, 1), trainings)
    return compare_all(policy, held_out.HeldOut(market, paths, config), learned, workers, folder)


def facts(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """Everything that a report is made of, to the last bit."""
    return [
        {
            "summary": one.summary(CONFIG),
            "order": list(one.scores),
            "trainings": one.profit_by_training(),
            "tried": one.settings_tried(),
            "static": one.static_scores_eth,
            "curve": [a.tolist() for a in (one.curve.bids, one.curve.fraction, one.curve.won)],
            "sums": {
                arm: {k: np.asarray(v).tolist() for k, v in vars(tally).items()}
                for arm, tally in one.played.items()
            },
        }
        for one in comparisons
    ]


@pytest.fixture(scope="module")
def alone(paths: PricePaths) -> list[dict[str, Any]]:
    return facts(compared(paths))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[held_out.Task]:
    """Tasks that are played in this process."""
    tasks: list[held_out.Task] = []
    run = held_out._run

    def noting(world: held_out.HeldOut, task: held_out.Task) -> held_out.Result:
        tasks.append(task)
        return run(world, task)

    monkeypatch.setattr(held_out, "_run", noting)
    return tasks


def test_two_processes_find_what_one_finds(
    paths: PricePaths, alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert facts(compared(paths, workers=2, folder=tmp_path / "kept")) == alone


def test_what_is_finished_is_not_played_again(
    paths: PricePaths,
    alone: list[dict[str, Any]],
    tmp_path: Path,
    played: list[held_out.Task],
) -> None:
    assert facts(compared(paths, folder=tmp_path)) == alone
    assert len(played) == len(set(played)) == len(list(tmp_path.iterdir()))
    played.clear()
    assert facts(compared(paths, folder=tmp_path)) == alone
    assert not played
    for file in sorted(tmp_path.iterdir())[::3]:
        file.unlink()
    assert facts(compared(paths, folder=tmp_path)) == alone
    assert played


def test_results_of_other_inputs_are_not_taken(
    paths: PricePaths, tmp_path: Path, played: list[held_out.Task]
) -> None:
    """A training that went on plays alone; another market, other prices, other episodes all."""
    before = facts(compared(paths, folder=tmp_path))
    every = len(played)
    played.clear()
    after = facts(compared(paths, folder=tmp_path, other=4))
    assert {(task.scenario, task.name) for task in played} == {
        ("default", "PPO a, two"),
        ("calm", "PPO a, two"),
    }
    assert after[0]["trainings"] != before[0]["trainings"]
    assert after[0]["summary"] == before[0]["summary"]
    forecast = paths.forecast.copy()
    forecast[-1] += 1e-9
    changes: tuple[dict[str, Any], ...] = (
        {"market": MARKET.changed({"gas.demand_response": (0.0, 0.0)})},
        {"paths": dataclasses.replace(paths, forecast=forecast)},
        {"config": dataclasses.replace(CONFIG, episodes=9)},
        {"config": dataclasses.replace(CONFIG, seeds=1)},
    )
    for change in changes:
        played.clear()
        compared(**({"paths": paths, "folder": tmp_path} | change))
        assert len(played) == every, change
