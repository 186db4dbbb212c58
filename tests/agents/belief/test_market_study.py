"""The study of beliefs in the market: its arithmetic, its sentences and its command."""

import json
from pathlib import Path

import numpy as np
import pytest

from agents.belief import market_study
from agents.belief.__main__ import main
from agents.belief.market_study import GRADIENT, compared, lines_of
from agents.bidders.arms import BAYES
from envs.market.config import PricePaths

BELIEF = "belief, recurrent"
SMALL = [
    *("--trials.seeds", "1", "--trials.steps", "8192", "--trials.reports", "1"),
    *("--trials.validation_envs", "16", "--market.episode_slots", "32"),
    *("--ppo.num_envs", "64", "--ppo.rollout_slots", "16", "--ppo.minibatch", "256"),
    *("--evaluation.seeds", "1", "--evaluation.episodes", "16", "--evaluation.resamples", "50"),
]


def _made_up(belief: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    level = rng.uniform(1.0, 2.0, (2, 64))
    rules = {"greedy 80 %": 0.5 * level, "EMA of clearing": 0.8 * level, BAYES: 2.0 * level}
    noise = rng.uniform(0.99, 1.01, (3, 1, 1))
    return rules, {GRADIENT: noise * level, BELIEF: belief * noise * level}


def test_a_belief_is_held_against_the_gradient_and_the_strongest_rule() -> None:
    rules, learned = _made_up(1.2)
    found = compared(rules, learned, 200)
    assert found["strongest_rule"] == "EMA of clearing", "the filter is no rule"
    assert found["kinds"][BELIEF]["over_rule"].value == pytest.approx(1.5, rel=0.01)
    assert found["kinds"][BELIEF]["over_filter"].value == pytest.approx(0.6, rel=0.01)
    more = found["kinds"][BELIEF]["more_than_gradient_eth"]
    assert more.low > 0.0
    assert more.value == pytest.approx(0.2 * found["kinds"][GRADIENT]["iqm_eth"])
    assert "more_than_gradient_eth" not in found["kinds"][GRADIENT]


@pytest.mark.parametrize(
    ("belief", "words"),
    [
        (1.3, "earns more than"),
        (0.7, "earns LESS than"),
        (1.0, "is not shown to earn more or less"),
    ],
)
def test_the_verdict_is_said_as_plainly_when_it_is_a_loss(belief: float, words: str) -> None:
    found = compared(*_made_up(belief), 200) | {"forecasts": {}}
    assert any(line.startswith(f"{BELIEF} {words}") for line in lines_of(found))


def test_the_command_compares_and_goes_on_where_it_was(
    tmp_path: Path,
    paths: PricePaths,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # no forecaster is trained
    monkeypatch.setattr(market_study, "paths_of", lambda *of: paths)
    out = ["--out", str(tmp_path / "study"), "--belief-steps", "16384"]
    assert main([*out, *SMALL]) == 0
    report = json.loads((tmp_path / "study" / "report.json").read_text())
    assert set(report["kinds"]) == {GRADIENT, BELIEF}
    assert report["belief_steps"] == 16384
    assert "best static" in report["rules"]
    forecast = report["forecasts"][f"{BELIEF}, seed 0"]
    assert set(forecast["log_score"]) == {"belief", "law", "filter"}
    assert f"{BELIEF}, seed 0: log score" in capsys.readouterr().out

    def refuse(*arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(market_study.Training, "advance", refuse)
    assert main([*out, *SMALL]) == 0
    assert json.loads((tmp_path / "study" / "report.json").read_text()) == report
    with pytest.raises(AssertionError, match="trained again"):
        main([*out, *SMALL, "--trials.seeds", "2"])
    assert main([*out, *SMALL, "--ppo.learning_rate", "1e-3"]) == 2
    assert "holds a study of other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--beliefs", "lstm"], "choose from window, recurrent"),
        (["--beliefs", ""], "choose from window, recurrent"),
        (["--belief-steps", "-1"], "--belief-steps is -1"),
        (["--market.ticks_per_slot", "3"], "market.ticks_per_slot is 3: give 1"),
        (["--ppo.network", "a.b:C"], "leave them out"),
    ],
)
def test_what_cannot_be_studied_is_refused(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "study"), *arguments]) == 2
    assert words in capsys.readouterr().err
