"""Compares bidders on the same held-out episodes, as a sceptical reviewer would.

python -m agents.evaluate --policy DIR [--scenarios NAME,NAME] [--rules MODULE:NAME] [--seeds N]
    [--json FILE]

Every arm plays the same episodes (same randomness, same prices); intervals are stratified
bootstraps over episodes within seeds; differences between arms are paired.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from rich.console import Console

from agents.bidders.arms import NO_OP, POLICY, SCRIPTED, STATIC
from agents.bidders.baselines import FRACTIONS, Bidder
from agents.config import EvaluationConfig, config_from_dict
from agents.evaluate.fair import fair, fair_lines
from agents.evaluate.held_out import Found, HeldOut, Networks, Result, play_held_out, tasks_each
from agents.evaluate.verdicts import COLUMNS, arm_table, verdict
from agents.learner_arms import INGREDIENTS, LEARNER_ARMS, learned_name
from agents.measures.bid_curve import BidCurve
from agents.measures.intervals import (
    bootstrap,
    cvar,
    difference_over_trainings,
    iqm,
    mean,
    paired_difference,
    probability_of_improvement,
    share,
)
from agents.measures.tally import Tally
from agents.prices import bars_to_learn_from, data_folder, market_paths
from agents.processes import cores
from agents.progress import Stages
from agents.scenarios import check_scenario
from history.files import write_atomically
from models import frozen
from models.volatility.onnx_file import load_forecaster


class Learned(NamedTuple):
    """Trained networks that are compared beside the frozen policy, by arm as `learned_name` says.

    settings: the training that validation chose; tried: among how many; both also of the policy.
    trainings: all trainings of each arm by name, the chosen one first, also where there is one arm.
    """

    bidders: dict[str, Bidder]
    settings: dict[str, str]
    tried: dict[str, int]
    trainings: dict[str, dict[str, Bidder]]


NONE_BESIDE = Learned({}, {}, {}, {})


@dataclass(frozen=True)
class Comparison:
    """All arms in one scenario: scores float64[seeds, episodes] in ETH per episode, and tallies."""

    scenario: str
    scores: dict[str, NDArray[np.float64]]
    played: dict[str, Tally]  # over all seeds, their episodes one after the other
    curve: BidCurve  # how the policy bids
    static_scores_eth: list[float]  # validation IQM of every fraction of the grid
    settings: dict[str, str]  # what validation chose for each tuned arm
    tried: dict[str, int]  # from how many settings
    trainings: dict[str, dict[str, NDArray[np.float64]]]  # scores of all trainings of each arm

    def summary(self, config: EvaluationConfig) -> dict[str, dict[str, Any]]:
        """Per arm: IQM with its interval, mean, tail, shares, rates, gap of the policy, harm."""
        ours, passive = self.scores[POLICY], self._harm(NO_OP)
        table: dict[str, dict[str, Any]] = {}
        for arm, scores in self.scores.items():
            middle = bootstrap(scores, iqm, config.resamples)
            table[arm] = {
                "iqm_eth": middle.value,
                "iqm_95_eth": [middle.low, middle.high],
                "mean_eth": float(scores.mean()),
                "cvar_eth": cvar(scores, config.tail),
                **self.played[arm].ratios(),
                **self._shares(arm, config.resamples),
                "user_harm_eth": float(self._harm(arm).mean()),
            }
            if arm != NO_OP:
                more = paired_difference(self._harm(arm), passive, mean, config.resamples)
                table[arm]["user_harm_over_no_op_eth"] = more._asdict()
            if arm != POLICY:
                gap = paired_difference(ours, scores, iqm, config.resamples)
                table[arm]["policy_minus_arm_iqm_eth"] = gap._asdict()
                table[arm]["probability_policy_better"] = probability_of_improvement(ours, scores)
                better = (ours > scores) + 0.5 * (ours == scores)
                low, high = bootstrap(better, mean, config.resamples)[1:]
                table[arm]["probability_policy_better_95"] = [low, high]
        table[STATIC]["fraction"] = float(FRACTIONS[np.argmax(self.static_scores_eth)])
        for arm, setting in self.settings.items():
            table[arm] |= {"setting": setting, "settings_tried": self.tried[arm]}
        return table

    def fair(self, config: EvaluationConfig) -> dict[str, Any]:
        """The policy against the strongest rule; see agents.evaluate.fair."""
        return fair(self.scores, self.trainings, config.resamples)

    def settings_tried(self) -> dict[str, int]:
        """Settings from which each arm was chosen on validation, and of all arms together.

        The policy's are those of all learned arms.
        """
        parts = {learned_name(arm) for arm in LEARNER_ARMS}
        return self.tried | {"all": sum(n for a, n in self.tried.items() if a not in parts)}

    def ingredients(self, config: EvaluationConfig) -> dict[str, dict[str, Any]]:
        """What each ingredient of the learner adds, where both arms were trained, ETH per episode.

        IQM and mean: paired differences of the arm with it minus the arm without, between the
        trainings that validation chose; over_trainings: between all trainings of both.
        """
        found = {}
        for name, having, lacking in INGREDIENTS:
            arms = learned_name(having), learned_name(lacking)
            if not all(arm in self.scores for arm in arms):
                continue
            ours, theirs = (self.scores[arm] for arm in arms)
            all_ours, all_theirs = (np.stack([*self.trainings[arm].values()]) for arm in arms)
            over = difference_over_trainings(all_ours, all_theirs, iqm, config.resamples)
            found[name] = {
                "with": having,
                "without": lacking,
                "iqm_eth": paired_difference(ours, theirs, iqm, config.resamples)._asdict(),
                "mean_eth": paired_difference(ours, theirs, mean, config.resamples)._asdict(),
                "over_trainings": {
                    "iqm_eth": over._asdict(),
                    "trainings_with": len(all_ours),
                    "trainings_without": len(all_theirs),
                },
            }
        return found

    def profit_by_training(self) -> dict[str, dict[str, float]]:
        """IQM profit of every training by arm, ETH per episode; the chosen training first."""
        return {
            arm: {name: float(iqm(scores.ravel())) for name, scores in played.items()}
            for arm, played in self.trainings.items()
        }

    def _harm(self, arm: str) -> NDArray[np.float64]:
        return self.played[arm].harm_eth.reshape(self.scores[arm].shape)

    def _shares(self, arm: str, resamples: int) -> dict[str, list[float]]:
        """Ends of the intervals of the two shares in `Tally.ratios`."""
        scores, tally = self.scores[arm], self.played[arm]
        wholes = {
            "share_of_best_response_95": tally.best_response_eth,
            "share_of_available_95": tally.available_eth,
        }
        return {
            name: list(share(scores, whole.reshape(scores.shape), resamples)[1:])
            for name, whole in wholes.items()
        }


def compare_all(
    policy: Bidder,
    held_out: HeldOut,
    learned: Learned = NONE_BESIDE,
    workers: int = 1,
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Comparison]:
    """Let every arm play the test episodes of every scenario: the same numbers for all `workers`.

    One network may be policy, arm and training, and plays once. What is finished lies in `folder`.
    """
    config = held_out.config
    names = {id(policy): POLICY}  # of those that play
    arms: dict[str, Bidder] = {}
    trainings: dict[str, Bidder] = {}
    for arm, bidder in learned.bidders.items():
        if names.setdefault(id(bidder), arm) == arm:
            arms[arm] = bidder
    for arm, bidders in learned.trainings.items():
        for training, bidder in bidders.items():
            name = f"{arm}, {training}"
            if names.setdefault(id(bidder), name) == name:
                trainings[name] = bidder
    networks = Networks(policy, arms, trainings)
    found: dict[str, Result] = {scenario: {} for scenario in config.scenarios}
    playing = play_held_out(held_out, networks, workers, folder)
    for done, (scenario, result) in enumerate(playing, 1):
        found[scenario] |= result
        progress(done, len(config.scenarios) * tasks_each(networks, config.rules))
    return [_compared(s, found[s], names, learned, config) for s in config.scenarios]


def _compared(
    scenario: str,
    found: Result,
    names: dict[int, str],
    learned: Learned,
    config: EvaluationConfig,
) -> Comparison:
    """names: those in `found` of the learned bidders by their id."""
    shape = config.seeds, config.episodes
    arms = {POLICY: POLICY} | {arm: names[id(b)] for arm, b in learned.bidders.items()}
    scripted = (*SCRIPTED, *(path.partition(":")[2] for path in config.rules))
    played = {arm: found[name] for arm, name in (arms | {arm: arm for arm in scripted}).items()}
    tuned = {arm: one for arm, one in played.items() if one.tried}
    curve = found[POLICY].curve
    assert curve is not None

    def scores(one: Found) -> NDArray[np.float64]:
        return one.tally.profit_eth.reshape(shape)

    return Comparison(
        scenario,
        {arm: scores(one) for arm, one in played.items()},
        {arm: one.tally for arm, one in played.items()},
        curve,
        list(found[STATIC].scores_eth),
        learned.settings | {arm: one.setting for arm, one in tuned.items()},
        learned.tried | {arm: one.tried for arm, one in tuned.items()},
        {
            arm: {name: scores(found[names[id(b)]]) for name, b in bidders.items()}
            for arm, bidders in learned.trainings.items()
        },
    )


def report_numbers(comparisons: Sequence[Comparison], config: EvaluationConfig) -> dict[str, Any]:
    """What all scenarios say, for report.json.

    policy: numbers of `Comparison.summary` by arm and scenario; by scenario, trainings: profit of
    each, fair: the claim, ingredients: what each adds; settings_tried: of the first scenario.
    """
    summaries = {c.scenario: c.summary(config) for c in comparisons}
    return {
        "policy": {a: {s: summaries[s][a] for s in summaries} for a in comparisons[0].scores},
        "trainings": {c.scenario: c.profit_by_training() for c in comparisons},
        "fair": {c.scenario: c.fair(config) for c in comparisons},
        "ingredients": {c.scenario: c.ingredients(config) for c in comparisons},
        "settings_tried": comparisons[0].settings_tried(),
    }


def evaluate_folder(
    directory: Path,
    scenarios: Sequence[str] = ("default",),
    config: EvaluationConfig | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Compare a frozen policy in the market and on the prices of its own configuration.

    In each of `scenarios`, whatever `config` names (default: EvaluationConfig()). `policy` and
    `fair` of the result are those of `report_numbers`. Raises PolicyError for a
    folder that must not be used, ValueError for bad prices, scenarios or rules.
    """
    config = config or EvaluationConfig()
    policy = frozen.load(directory)
    trained = config_from_dict(policy.manifest["config"], f"{directory}/manifest.json")
    for scenario in scenarios:
        check_scenario(scenario)
    bars = bars_to_learn_from(trained.prices, data_folder(trained.prices), trained.run.seed)
    paths = market_paths(load_forecaster(directory), bars)
    config = replace(config, scenarios=tuple(scenarios))
    held_out = HeldOut(trained.market, paths, config)
    compared = compare_all(policy.player(), held_out, workers=workers, progress=progress)
    found = report_numbers(compared, config)
    return {
        "source": bars.source,
        "commit": policy.manifest.get("commit"),
        "evaluation": asdict(config),
        "policy": found["policy"],
        "fair": found["fair"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 with the reason on standard error for bad input."""
    parser = ArgumentParser(prog="python -m agents.evaluate", description=__doc__)
    parser.add_argument("--policy", type=str, required=True, help="folder of a frozen policy")
    parser.add_argument("--scenarios", type=str, default="default", help="names, comma-separated")
    parser.add_argument("--seeds", type=int, default=4, help="seeds of the test split")
    parser.add_argument("--episodes", type=int, default=256, help="episodes per seed")
    parser.add_argument(
        "--rules", type=str, default="", help="rules of your own, MODULE:NAME, comma-separated"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    parser.add_argument("--json", type=str, default="", help="write the result to this file")
    given = parser.parse_args(arguments)
    console = Console()
    try:
        rules = tuple(path.strip() for path in given.rules.split(",") if path.strip())
        config = EvaluationConfig(seeds=given.seeds, episodes=given.episodes, rules=rules)
        names = [name.strip() for name in given.scenarios.split(",")]
        folder, workers = Path(given.policy), given.workers or cores()
        with Stages(console) as stages, stages.stage("comparison") as progress:
            result = evaluate_folder(folder, names, config, workers, progress)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(f"Prices: {result['source']}")
    for name in names:
        console.print(arm_table(name, result["policy"]))
        said = *fair_lines(result["fair"][name], name), *verdict(result["policy"], name)
        console.print(*said, sep="\n")
    console.print(COLUMNS, style="dim")
    if given.json:
        write_atomically(given.json, json.dumps(result, indent=1) + "\n")
    return 0
