"""The hidden-competition study: pairing, its arithmetic, its command, and what it must reach."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.config import BARE_AUCTIONS
from agents.hidden_competition import study as hidden_competition
from agents.hidden_competition.command import main
from agents.hidden_competition.report import HISTORY, figure, findings, markdown
from agents.hidden_competition.shares import Scores, over_trainings, score, summarise
from agents.hidden_competition.study import (
    Study,
    arms,
    learned_at,
    learner,
    policy_bids,
    reward_scale_eth,
    trials,
)
from envs.hidden_competition.env import HiddenCompetitionEnv
from envs.hidden_competition.model import FRACTIONS, SCENARIOS, record
from envs.hidden_competition.references import Bids, capture

D = SCENARIOS["D"]
SMALL = replace(BARE_AUCTIONS, num_envs=64, rollout_slots=8, minibatch=256, epochs=1, hidden=(8,))


def test_a_policy_bids_in_the_chains_that_the_references_see() -> None:
    trainer = learner(D, 2, SMALL, 0, 1024)
    bids = policy_bids(trainer, D, 2, "validation", (40, 5))
    chains = record(D, "validation", 0, 5, 40)
    assert np.isin(bids, FRACTIONS).all()
    env = HiddenCompetitionEnv(5, D, 2, 100, split="validation")
    env.reset(seed=0)
    captured = capture(D, chains, bids)
    for t in range(40):
        infos = env.step_fractions(bids[t])[4]
        assert np.array_equal(infos["top_rival"], chains.top_rival[t])
        earned = infos["win_probability"] * (1.0 - bids[t])
        np.testing.assert_allclose(earned, captured[t])


def test_the_reward_scale_is_an_order_of_magnitude_of_profits() -> None:
    scale = reward_scale_eth(D)
    assert scale == reward_scale_eth(D)
    assert 0.01 < scale < 1.0


def _made_up(chains: int = 50) -> dict[str, Scores]:
    rng = np.random.default_rng(0)
    level = rng.uniform(1.0, 2.0, chains)
    shares = {
        "clairvoyant": 1.0, "best static": 0.4, "EMA of clearing": 0.5, "AIMD": 0.48,
        "Bayes, clearing public": 0.8, "ours": 0.6,
    }  # fmt: skip
    return {name: Scores(share * level, share * level**2) for name, share in shares.items()}


def test_summary_is_the_arithmetic_of_paired_shares() -> None:
    """Every chain has the same shares here, so that intervals of paired ratios have no width."""
    summary = summarise(_made_up(), ["ours"], 200)
    for weighting in ("value", "count"):
        np.testing.assert_allclose(summary["shares"]["ours"][weighting], [0.6] * 3)
        rows = summary["learners"]["ours"][weighting]
        np.testing.assert_allclose(rows["gap_closed"], [0.5] * 3)
        np.testing.assert_allclose(rows["over_static"], [1.5] * 3)
        np.testing.assert_allclose(rows["over_adaptive"], [1.2] * 3)
        np.testing.assert_allclose(rows["over_bayes"], [0.75] * 3)


def test_intervals_are_bootstraps_over_chains() -> None:
    scores = _made_up(400)
    rng = np.random.default_rng(1)
    noisy = scores["ours"].value * rng.uniform(0.5, 1.5, 400)
    summary = summarise(scores | {"ours": Scores(noisy, noisy)}, ["ours"], 4000)
    value, low, high = summary["shares"]["ours"]["value"]
    total = scores["clairvoyant"].value.sum()
    spread = np.sqrt(400) * np.std(noisy - value * scores["clairvoyant"].value) / total
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_kinds_are_means_over_trainings_and_paired_by_chain() -> None:
    """Chains of equal shares: what is left of an interval is the spread between trainings."""
    scores = _made_up()
    level, other = scores["ours"].value / 0.6, scores["ours"].count / 0.6
    for name, shares in {HISTORY: (0.6, 0.7), "belief, recurrent": (0.76, 0.76)}.items():
        for seed, share in enumerate(shares):
            scores[f"{name}, seed {seed}"] = Scores(share * level, share * other)
    learned = [arm for arm in scores if ", seed " in arm]
    found = over_trainings(scores, learned, 400)
    assert list(found) == [HISTORY, "belief, recurrent"]
    for weighting in ("value", "count"):
        np.testing.assert_allclose(found[HISTORY][weighting]["gap_closed"], [0.625, 0.5, 0.75])
        belief = found["belief, recurrent"][weighting]
        np.testing.assert_allclose(belief["gap_closed"], [0.9] * 3)
        np.testing.assert_allclose(belief["more_than_ppo"], [0.275, 0.15, 0.4])
        assert "more_than_ppo" not in found[HISTORY][weighting]


def test_scores_count_after_the_burn_in_and_weigh_by_value() -> None:
    chains = record(D, "train", 0, 3, 20)
    found = score(np.full((20, 3), 0.5), chains, 5)
    np.testing.assert_allclose(found.count, 7.5)
    np.testing.assert_allclose(found.value, 0.5 * np.exp(chains.log_value[5:]).sum(axis=0))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_competition, "TUNING_CHAINS", 4)
    monkeypatch.setattr(hidden_competition, "TUNING_LENGTH", 200)


def test_all_arms_are_scored_on_the_same_chains(quick: None) -> None:
    chains = record(D, "test", 0, 4, 60)
    scores = arms(D, chains, {"ours": np.full((60, 4), 0.75)}, 10)
    assert len(scores) == 6 + 5 + 1 + 1 + 1
    assert scores["fixed 80 %"].value.shape == (4,)
    expected = score(capture(D, chains, 0.8), chains, 10)
    np.testing.assert_array_equal(scores["fixed 80 %"].value, expected.value)


def test_the_command_writes_report_and_figure(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["--seeds", "1", "--stateless-seeds", "1", "--steps", "32768", "--window", "2"]
    study += ["--chains", "4", "--length", "50"]
    file, picture = tmp_path / "report.json", tmp_path / "shares.png"
    arguments = [
        *study,
        "--scenario",
        "D,count-only",
        "--json",
        str(file),
        "--figure",
        str(picture),
    ]
    assert main(arguments) == 0
    report: dict[str, Any] = json.loads(file.read_text())
    assert list(report["scenarios"]) == ["D", "count-only"]
    assert set(report["scenarios"]["D"]["learners"]) == {"PPO, seed 0", "stateless PPO, seed 0"}
    assert report["study"]["steps"] == 32768
    assert picture.stat().st_size > 10_000
    assert "gap closed" in capsys.readouterr().out
    figure(report["scenarios"])
    table = markdown(report["scenarios"])
    assert {line.count("|") for line in table} == {0, 4}
    for scenario, column in (("D", 2), ("count-only", 3)):
        rows = report["scenarios"][scenario]["learners"]["PPO, seed 0"]
        (cell,) = [line.split("|")[column] for line in table if "| PPO: gap closed, by v" in line]
        assert float(cell) == pytest.approx(rows["value"]["gap_closed"][0], abs=6e-4)


def test_ranges_are_over_trainings_and_the_worst_one_decides() -> None:
    scores = _made_up()
    for seed, share in enumerate((0.7, 0.78, 0.6)):
        level = scores["clairvoyant"].value
        scores[f"{HISTORY}, seed {seed}"] = Scores(share * level, share * level)
    summary = summarise(scores, [arm for arm in scores if arm.startswith(HISTORY)], 50)
    found = {finding.measure: finding for finding in findings(summary)}
    gap, most = (
        found["gap closed, lowest of 3"],
        found["profit / Bayes of the same information, highest of 3"],
    )
    assert gap.value == pytest.approx(0.5)
    assert gap.holds is False
    assert most.value == pytest.approx(0.975)
    assert most.holds is True
    assert any("| PPO | 0.600 to 0.780 (" in line for line in markdown({"D": summary}))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--scenario", "E"], "scenario is 'E'"),
        (["--steps", "0"], "steps is 0"),
        (["--seeds", "-1"], "seeds is -1"),
        (["--split", "train"], "split is 'train'"),
        (["--json", "/no/such/folder/report.json"], "folder does not exist"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert word in capsys.readouterr().err


def test_a_training_says_when_it_had_learned(quick: None) -> None:
    """The curve is the policy's own gap, and looking at it leaves the training as it was."""
    study = Study(
        seeds=1, stateless_seeds=1, steps=2048, window=2, chains=3, length=60, burn_in=5,
        ppo=SMALL, validations=3,
    )  # fmt: skip
    found = {arm: (trained.bids, trained.curve) for arm, trained in trials(study, "D")}
    bids, curve = found["PPO, seed 0"]
    assert [steps for steps, _, _ in curve] == [1024, 1536, 2048]
    times = [seconds for _, seconds, _ in curve]
    assert times == sorted(times)
    assert times[0] > 0.0
    trainer = learner(D, 2, SMALL, 0, 2048)
    assert np.array_equal(policy_bids(trainer, D, 2, "test", (65, 3)), bids)
    chains = record(D, "validation", 0, 64, 65)
    mine = policy_bids(trainer, D, 2, "validation", (65, 64))
    scores = arms(D, chains, {"ours": mine}, 5)
    expected = summarise(scores, ["ours"], 10)["learners"]["ours"]["value"]["gap_closed"][0]
    assert curve[-1][2] == pytest.approx(expected)
    assert found["stateless PPO, seed 0"][1] == []
    assert learned_at([(1, 1.0, 0.84), (2, 2.0, 0.86), (3, 3.0, 0.9)]) == (2, 2.0, 0.86)
    assert learned_at([(1, 1.0, 0.84)]) is None


@pytest.mark.slow
def test_trials_in_processes_give_the_bits_of_trials_in_turn() -> None:
    def played(workers: int) -> dict[str, Bids]:
        study = Study(
            seeds=2, stateless_seeds=0, steps=1024, window=1, chains=3, length=20, burn_in=0,
            workers=workers, ppo=SMALL,
        )  # fmt: skip
        return {arm: trained.bids for arm, trained in trials(study, "D")}

    alone, together = played(1), played(2)
    assert alone.keys() == together.keys()
    assert all(np.array_equal(alone[arm], together[arm]) for arm in alone)


@pytest.mark.theory
def test_history_pays_on_the_default_scenario() -> None:
    """One seed of docs/learning.md: a filter that knows the model bounds it, no rule comes near."""
    trainer = learner(D, 16, BARE_AUCTIONS, 0, 2_000_000)
    shape = (1100, 256)
    chains = record(D, "test", 0, shape[1], shape[0])
    mine = f"{HISTORY}, seed 0"
    scores = arms(D, chains, {mine: policy_bids(trainer, D, 16, "test", shape)}, 100)
    found = findings(summarise(scores, [mine], 200))
    assert len(found) == 5
    assert all(finding.holds for finding in found), found
