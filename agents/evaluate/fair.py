"""The policy against the strongest rule that may do all that it may: the claim of a report.

Of a policy that was trained several times all trainings count, not the one that validation chose.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.bidders.arms import BAYES, NO_OP, POLICY
from agents.learner_arms import LEARNER_ARMS, learned_name
from agents.measures.intervals import Interval, Statistic, iqm, mean, ratio_over_trainings

Scores = NDArray[np.float64]  # [seeds, episodes], ETH per episode


def fair(
    scores: Mapping[str, Scores], trainings: Mapping[str, Mapping[str, Scores]], resamples: int
) -> dict[str, Any]:
    """The claim in one scenario, for report.json.

    scores: of every arm, the frozen policy's as POLICY; trainings: of every learned arm. The rival
    is the rule with the highest IQM on these very episodes, which favours it.
    `policy_iqm_eth` and `ratio` are over all episodes of all trainings of the policy's arm;
    `ratio_95` draws trainings and episodes anew, the same episodes for both. Both ratios are None
    where the rule earns nothing. `frozen_...`: the frozen policy alone, the interval over episodes.
    `reference`: what the Bayes filter earns that knows the laws of the regimes, and the policy's
    share of it. It is no rival, for nobody is told those laws, and no bound, for it looks at past
    auctions and values alone. `by_mean`: the same against the rule with the highest mean, which the
    few largest episodes decide.
    """
    others = {POLICY, NO_OP, BAYES, *map(learned_name, LEARNER_ARMS)}
    rules = [arm for arm in scores if arm not in others]
    strongest, earned = _strongest(scores, rules, iqm)
    by_mean, most = _strongest(scores, rules, mean)
    frozen = scores[POLICY][None]
    all_ = _trainings_of(scores[POLICY], trainings)
    rival = scores[strongest]

    def ratio(ours: Scores, theirs: Scores, statistic: Statistic = iqm) -> dict[str, Any]:
        if not statistic(theirs.ravel()) > 0.0:
            return {"ratio": None, "ratio_95": None}  # over nothing
        found = ratio_over_trainings(ours, theirs, statistic, resamples)
        return {"ratio": found.value, "ratio_95": [found.low, found.high]}

    alone = ratio(frozen, rival)
    return {
        "strongest_fair_arm": strongest,
        "strongest_iqm_eth": earned,
        "policy_iqm_eth": float(iqm(all_.ravel())),
        **ratio(all_, rival),
        "trainings": len(all_),
        "episodes": int(rival.size),
        "reference": {
            "arm": BAYES,
            "iqm_eth": float(iqm(scores[BAYES].ravel())),
            **ratio(all_, scores[BAYES]),
        },
        "by_mean": {
            "strongest_fair_arm": by_mean,
            "strongest_mean_eth": most,
            "policy_mean_eth": float(all_.mean()),
            **ratio(all_, scores[by_mean], mean),
        },
        "frozen_iqm_eth": float(iqm(frozen.ravel())),
        "frozen_ratio": alone["ratio"],
        "frozen_ratio_95": alone["ratio_95"],
    }


def _strongest(
    scores: Mapping[str, Scores], rules: Sequence[str], statistic: Statistic
) -> tuple[str, float]:
    """The rule that earns most by a statistic over all episodes, and what it earns."""
    earned = {arm: float(statistic(scores[arm].ravel())) for arm in rules}
    strongest = max(earned, key=lambda arm: earned[arm])
    return strongest, earned[strongest]


def _trainings_of(policy: Scores, trainings: Mapping[str, Mapping[str, Scores]]) -> Scores:
    """[trainings, seeds, episodes] of the arm that the frozen policy is a training of."""
    for of_arm in trainings.values():
        if any(np.array_equal(policy, found) for found in of_arm.values()):
            return np.stack([*of_arm.values()])
    return policy[None]


def fair_lines(found: Mapping[str, Any], scenario: str) -> list[str]:
    """Against the strongest rule, by IQM and by the mean, and against the Bayes filter."""
    reference = found["reference"]
    lines = [_against_rule(found, scenario), *_by_mean(found["by_mean"], scenario)]
    if reference["ratio"] is None:
        return lines
    low, high = reference["ratio_95"]
    of_reference = (
        f"{scenario}: the policy earns {reference['ratio']:.3f} (95 % {low:.3f} to {high:.3f}) of "
        f'"{reference["arm"]}", {reference["iqm_eth"]:.4f} ETH, told the laws of the regimes.'
    )
    return [*lines, of_reference]


def _by_mean(found: Mapping[str, Any], scenario: str) -> list[str]:
    if found["ratio"] is None:
        return []
    low, high = found["ratio_95"]
    verdict = "more than" if low > 1.0 else "LESS than" if high < 1.0 else "about as much as"
    said = (
        f"{scenario}: by the mean of all episodes, which the largest ones decide, it earns "
        f'{verdict} "{found["strongest_fair_arm"]}": {found["policy_mean_eth"]:.4f} against '
        f"{found['strongest_mean_eth']:.4f} ETH, {found['ratio']:.2f} times (95 % {low:.2f} to "
        f"{high:.2f})."
    )
    return [said]


def _against_rule(found: Mapping[str, Any], scenario: str) -> str:
    rule, trainings = f'"{found["strongest_fair_arm"]}"', found["trainings"]
    if found["ratio"] is None:
        return f"{scenario}: no rule earns anything here; the strongest is {rule}."
    ratio = Interval(found["ratio"], *found["ratio_95"])
    over = f"over {trainings} trainings and" if trainings > 1 else "one training, over"
    facts = (
        f"{found['policy_iqm_eth']:.4f} against {found['strongest_iqm_eth']:.4f} ETH per episode "
        f"(IQM), {ratio.value:.2f} times, 95 % {ratio.low:.2f} to {ratio.high:.2f} {over} "
        f"{found['episodes']} paired episodes"
    )
    if ratio.low > 1.0:
        return f"{scenario}: the policy earns more than the strongest rule, {rule}: {facts}."
    if ratio.high < 1.0:
        return f"{scenario}: the policy LOSES to the rule {rule}: {facts}."
    return (
        f"{scenario}: the policy is not shown to earn more than the strongest rule, {rule}: "
        f"{facts}."
    )
