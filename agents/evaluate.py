"""Compares bidders on the same held-out episodes, as a sceptical reviewer would.

python -m agents.evaluate --policy DIR [--scenarios NAME,NAME] [--seeds N] [--json FILE]

Every arm plays the same episodes (same randomness, same prices); intervals are stratified
bootstraps over episodes within seeds; differences between arms are paired.
"""

import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from agents.arms import ARMS, POLICY, STATIC, Watch, play, scripted_arms
from agents.baselines import Bidder
from agents.config import EvaluationConfig, TrainConfig, config_from_dict
from agents.intervals import (
    Interval,
    bootstrap,
    cvar,
    iqm,
    paired_difference,
    probability_of_improvement,
)
from agents.prices import bars_to_learn_from, data_folder, market_paths
from agents.scenarios import check_scenario, world_of
from agents.tally import Tally, joined
from envs.market import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from models import frozen
from models.forecaster_onnx import load_forecaster

STAGES = 1 + ARMS  # of a comparison: tuning the scripted arms, then each arm


@dataclass(frozen=True)
class Comparison:
    """All arms in one scenario: scores float64[seeds, episodes] in ETH per episode, and rates."""

    scenario: str
    scores: dict[str, NDArray[np.float64]]
    rates: dict[str, dict[str, float]]
    static_fraction: float
    static_scores_eth: list[float]  # validation IQM of every fraction of the grid
    settings: dict[str, str]  # what validation chose for each tuned arm
    tried: dict[str, int]  # from how many settings

    def summary(self, config: EvaluationConfig) -> dict[str, dict[str, Any]]:
        """Per arm: IQM with its interval, mean, tail, rates, and the paired gap of the policy."""
        ours = self.scores[POLICY]
        table: dict[str, dict[str, Any]] = {}
        for arm, scores in self.scores.items():
            middle = bootstrap(scores, iqm, config.resamples)
            table[arm] = {
                "iqm_eth": middle.value,
                "iqm_95_eth": [middle.low, middle.high],
                "mean_eth": float(scores.mean()),
                "cvar_eth": cvar(scores, config.tail),
                **self.rates[arm],
            }
            if arm != POLICY:
                gap = paired_difference(ours, scores, iqm, config.resamples)
                table[arm]["policy_minus_arm_iqm_eth"] = gap._asdict()
                table[arm]["probability_policy_better"] = probability_of_improvement(ours, scores)
        table[STATIC]["fraction"] = self.static_fraction
        for arm, setting in self.settings.items():
            table[arm] |= {"setting": setting, "settings_tried": self.tried[arm]}
        return table


def compare(
    policy: Bidder,
    scenario: str,
    market: MarketConfig,
    paths: PricePaths,
    config: EvaluationConfig,
    watch: Watch | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Comparison:
    """Let every arm play the test episodes of a scenario.

    `progress` is called when the scripted arms are tuned and after each arm.
    """
    market, paths = world_of(scenario, market, paths)
    validation = MarketVectorEnv(config.episodes, market, paths, split="validation")
    scripted = scripted_arms(market, validation)
    progress()
    arms: dict[str, Bidder] = {POLICY: policy} | scripted.bidders
    test = MarketVectorEnv(config.episodes, market, paths, split="test")
    scores, rates = {}, {}
    for arm, bidder in arms.items():
        watched = watch if arm == POLICY else None
        tallies = [play(bidder, test, seed, watched) for seed in range(config.seeds)]
        scores[arm] = np.stack([tally.profit_eth for tally in tallies])
        rates[arm] = merged_rates(tallies)
        progress()
    return Comparison(
        scenario,
        scores,
        rates,
        scripted.static_fraction,
        scripted.static_scores_eth,
        scripted.settings,
        scripted.tried,
    )


def compare_all(
    policy: Bidder,
    config: TrainConfig,
    paths: PricePaths,
    watch: Watch,
    progress: Callable[[int, int], None],
) -> list[Comparison]:
    """`compare` in every scenario of the configuration; `watch` sees the policy in the first."""
    scenarios = config.evaluation.scenarios
    done = itertools.count(1)
    return [
        compare(
            policy,
            scenario,
            config.market,
            paths,
            config.evaluation,
            watch if scenario == scenarios[0] else None,
            lambda: progress(next(done), len(scenarios) * STAGES),
        )
        for scenario in scenarios
    ]


def merged_rates(tallies: Sequence[Tally]) -> dict[str, float]:
    """Rates over all episodes of several tallies together."""
    return joined(tallies).ratios()


def evaluate_folder(
    directory: Path, scenarios: Sequence[str], config: EvaluationConfig
) -> dict[str, Any]:
    """Compare a frozen policy in the market and on the prices of its own configuration.

    Raises PolicyError for a folder that must not be used, ValueError for bad prices or scenarios.
    """
    policy = frozen.load(directory)
    trained = config_from_dict(policy.manifest["config"])
    for scenario in scenarios:
        check_scenario(scenario)
    bars = bars_to_learn_from(trained.prices, data_folder(trained.prices), trained.run.seed)
    paths = market_paths(load_forecaster(directory), bars)
    arms: dict[str, dict[str, Any]] = {}
    for scenario in scenarios:
        compared = compare(policy.player(), scenario, trained.market, paths, config)
        for arm, values in compared.summary(config).items():
            arms.setdefault(arm, {})[scenario] = values
    return {
        "source": bars.source,
        "commit": policy.manifest.get("commit"),
        "evaluation": asdict(config),
        "policy": arms,
    }


def arm_table(scenario: str, arms: dict[str, dict[str, Any]]) -> Table:
    """Terminal table of one scenario, best arm first.

    low and high: the 95 % interval of the IQM; share: of the best response; bid: over net profit.
    """
    table = Table(title=f"{scenario}: profit per episode (ETH)", title_justify="left")
    for name in ("arm", "IQM", "low", "high", "mean", "share", "wins", "bid"):
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
    for arm in sorted(arms, key=lambda a: -arms[a][scenario]["iqm_eth"]):
        v = arms[arm][scenario]
        low, high = v["iqm_95_eth"]
        cells = [f"{x:.4f}" for x in (v["iqm_eth"], low, high, v["mean_eth"])]
        cells += [f"{v[k]:.3f}" for k in ("share_of_best_response", "win_rate", "bid_share")]
        table.add_row(arm, *cells, style="bold" if arm == POLICY else None)
    return table


def verdict(arms: dict[str, dict[str, Any]], scenario: str) -> str:
    """One sentence: does the policy beat the best static fraction, and what the arms' rates say."""
    ours, theirs = arms[POLICY][scenario], arms[STATIC][scenario]
    gap = Interval(**theirs["policy_minus_arm_iqm_eth"])
    ratio = ours["iqm_eth"] / theirs["iqm_eth"] if theirs["iqm_eth"] > 0.0 else float("inf")
    facts = (
        f"{scenario}: IQM {ours['iqm_eth']:.4f} ETH against {theirs['iqm_eth']:.4f} for always "
        f"bidding {theirs['fraction']:.1%} (ratio {ratio:.2f}, paired difference {gap.value:+.4f}, "
        f"95 % {gap.low:+.4f} to {gap.high:+.4f})"
    )
    if ours["iqm_95_eth"][0] > theirs["iqm_95_eth"][1]:
        return f"The policy beats the best static fraction with disjoint intervals. {facts}."
    if gap.low > 0.0:
        return f"The policy beats the best static fraction in paired episodes. {facts}."
    why = (
        f"it wins {ours['win_rate']:.0%} of its bids at a mean bid of {ours['bid_share']:.0%} "
        f"(static: {theirs['win_rate']:.0%} at {theirs['bid_share']:.0%}), bids in "
        f"{ours['participation']:.0%} of the slots on offer (static: {theirs['participation']:.0%})"
    )
    kind = "does worse than" if gap.high < 0.0 else "is not shown to beat"
    return f"The policy {kind} the best static fraction. {facts}; {why}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 with the reason on standard error for bad input."""
    parser = ArgumentParser(prog="python -m agents.evaluate", description=__doc__)
    parser.add_argument("--policy", type=str, required=True, help="folder of a frozen policy")
    parser.add_argument("--scenarios", type=str, default="default", help="names, comma-separated")
    parser.add_argument("--seeds", type=int, default=4, help="seeds of the test split")
    parser.add_argument("--episodes", type=int, default=256, help="episodes per seed")
    parser.add_argument("--json", type=str, default="", help="write the result to this file")
    given = parser.parse_args(arguments)
    console = Console()
    try:
        config = EvaluationConfig(seeds=given.seeds, episodes=given.episodes)
        names = [name.strip() for name in given.scenarios.split(",")]
        result = evaluate_folder(Path(given.policy), names, config)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(f"Prices: {result['source']}")
    for name in names:
        console.print(arm_table(name, result["policy"]))
        console.print(verdict(result["policy"], name))
    if given.json:
        path = Path(given.json)
        temporary = path.with_name(path.name + ".partial")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        os.replace(temporary, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
