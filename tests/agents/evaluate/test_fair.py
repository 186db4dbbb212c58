"""The claim names the strongest rule, counts all trainings, and says a loss in its first words."""

import numpy as np
import pytest

from agents.bidders.arms import BAYES, NO_OP, POLICY, STATIC
from agents.evaluate.fair import fair, fair_lines
from agents.learner_arms import HISTORY, learned_name

RULE = "up on loss, down on win"
SHAPE = 2, 200


def scores(level: float) -> np.ndarray:
    """Episodes of the same games: what the market did is common to all arms."""
    luck = np.random.default_rng(1).lognormal(0.0, 0.3, SHAPE)
    return level * luck


def claim(policy: float, *others: float) -> dict:
    """Against a rule that earns 1; `others` are further trainings of the policy's arm."""
    trainings = {"chosen": scores(policy)} | {f"{k}": scores(v) for k, v in enumerate(others)}
    arms = {POLICY: scores(policy), STATIC: scores(0.7), RULE: scores(1.0), NO_OP: scores(0.0)}
    arms |= {BAYES: scores(1.3), learned_name("stateless"): scores(2.0)}
    return fair(arms, {learned_name(HISTORY): trainings}, 500)


def test_the_rival_is_the_strongest_rule_and_neither_a_learner_nor_the_filter() -> None:
    found = claim(1.2)
    assert found["strongest_fair_arm"] == RULE
    assert found["ratio"] == pytest.approx(1.2)
    assert found["ratio_95"] == pytest.approx([1.2, 1.2])  # the same luck: pairing leaves nothing
    assert found["reference"]["ratio"] == pytest.approx(1.2 / 1.3)
    assert found["trainings"] == 1
    assert found["episodes"] == 400


def test_all_trainings_count_not_the_chosen_one() -> None:
    found = claim(1.4, 1.2, 1.0)
    assert found["trainings"] == 3
    assert found["frozen_ratio"] == pytest.approx(1.4)
    assert found["ratio"] < 1.3
    low, high = found["ratio_95"]
    assert low < 1.0 < high  # three trainings so far apart show nothing
    assert "is not shown to earn more" in fair_lines(found, "default")[0]


@pytest.mark.parametrize(
    ("policy", "words"),
    [(0.9, "the policy LOSES to the rule"), (1.1, "the policy earns more than the strongest rule")],
)
def test_the_first_sentence_says_who_wins(policy: float, words: str) -> None:
    first = fair_lines(claim(policy), "default")[0]
    assert words in first
    assert f'"{RULE}"' in first


def test_without_luck_in_common_a_small_gap_is_not_shown() -> None:
    other = np.random.default_rng(2).lognormal(0.02, 0.3, SHAPE)
    arms = {POLICY: other, RULE: scores(1.0), NO_OP: scores(0.0), BAYES: scores(1.1)}
    found = fair(arms, {}, 500)
    assert "is not shown" in fair_lines(found, "default")[0]


def test_where_no_rule_earns_anything_that_is_said() -> None:
    arms = {POLICY: scores(1.0), RULE: scores(0.0), NO_OP: scores(0.0), BAYES: scores(1.0)}
    assert "no rule earns anything" in fair_lines(fair(arms, {}, 100), "default")[0]


def test_a_rule_that_wins_the_largest_episodes_alone_is_named_by_the_mean() -> None:
    tail = scores(0.8)
    tail[:, :20] *= 20.0
    arms = {POLICY: scores(1.1), RULE: scores(1.0), STATIC: tail}
    found = fair(arms | {NO_OP: scores(0.0), BAYES: scores(1.2)}, {}, 500)
    assert found["strongest_fair_arm"] == RULE
    assert found["ratio"] == pytest.approx(1.1)
    assert found["by_mean"]["strongest_fair_arm"] == STATIC
    assert found["by_mean"]["ratio"] == pytest.approx(scores(1.1).mean() / tail.mean())
    said = fair_lines(found, "default")
    assert "the policy earns more than the strongest rule" in said[0]
    assert f'it earns LESS than "{STATIC}"' in said[1]
