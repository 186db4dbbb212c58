"""Does history pay when rivals hide? Trains MaskablePPO on the hidden-competition auctions.

python -m agents.hidden_competition [--scenario D,S] [--seeds N] [--steps N] [--json FILE]

Every arm bids in the same held-out auctions (test split); rules are tuned on training chains.
"""

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from agents.config import BARE_AUCTIONS, PPOConfig
from agents.hidden_competition.report import HISTORY, STATELESS, figure, shares_table
from agents.learner.build import build
from agents.learner.ppo import ScheduledPPO
from agents.learner.vecenv import MarketVecEnv
from agents.processes import as_finished
from agents.runs import write_text
from configs.settings import Count, Natural, Settings
from envs.hidden_competition.env import HiddenCompetitionEnv
from envs.hidden_competition.model import FRACTIONS, SCENARIOS, Chains, HiddenCompetition, record
from envs.hidden_competition.references import (
    FILTERS,
    Bids,
    bayes_bids,
    capture,
    clairvoyant,
    tune,
)

STATIC, ADAPTIVE = "best static", ("EMA of clearing", "AIMD")
CEILING, STATELESS_CEILING = "Bayes, clearing public", "Bayes, no history"
# Training chains: the rules' and the learners' never coincide.
TUNING_SEED, SCALE_SEED, LEARNER_SEED = 1, 2, 1000
TUNING_CHAINS, TUNING_LENGTH = 128, 1500
# A training is said to have learned when it first closes this much of the gap on as many chains.
LEARNED_GAP, VALIDATION_CHAINS = 0.85, 64

Point = tuple[int, float, float]  # auctions learned from, processor seconds of learning, gap closed


@dataclass(frozen=True)
class Study(Settings):
    """What to train and how large the test is."""

    scenario: str = "D"
    """Names separated by commas: D, S, D20, D200, count-only."""
    seeds: Natural = 10
    """Independent trainings with history per scenario."""
    stateless_seeds: Natural = 1
    """Trainings that see the present value only."""
    steps: Count = 2_000_000
    """Auctions each learner bids in."""
    window: Natural = 16
    """Past auctions that a learner sees."""
    chains: Count = 256
    """Held-out chains."""
    length: Count = 1000
    """Auctions per held-out chain that count, after `burn_in`."""
    burn_in: Natural = 100
    """First auctions of a held-out chain, in which every arm gathers history."""
    resamples: Count = 2000
    """Bootstrap samples over chains."""
    split: Literal["validation", "test"] = "test"
    """Held-out chains: test, or validation while choosing settings."""
    workers: Count = 1
    """Trainings at a time, one process each."""
    validations: Natural = 0
    """Times that a training with history is played on validation chains while it learns."""
    ppo: PPOConfig = field(default_factory=lambda: BARE_AUCTIONS)
    """The learner."""

    def check(self) -> None:
        """Scenarios that there are."""
        known = all(name in SCENARIOS for name in self.names)
        self.require(known, "scenario", f"names of {', '.join(SCENARIOS)}")

    @property
    def names(self) -> list[str]:
        """Scenarios in the order given."""
        return self.scenario.split(",")


def reward_scale_eth(model: HiddenCompetition) -> float:
    """Root mean square of what the best static bid earns per training auction, ETH."""
    chains = record(model, "train", SCALE_SEED, 64, 1000)
    bid = model.best_static()
    profit = (1.0 - bid) * np.exp(chains.log_value) * (chains.top_rival < bid)
    return float(np.sqrt(np.mean(profit**2)))


def learner(
    model: HiddenCompetition,
    window: int,
    config: PPOConfig,
    seed: int,
    steps: int,
    stops: int = 1,
    at_stop: Callable[[ScheduledPPO], None] | None = None,
) -> ScheduledPPO:
    """MaskablePPO trained for `steps` auctions: the last policy, none is selected.

    Its reward is the profit in ETH over `reward_scale_eth`, clipped at config.reward_clip.
    `at_stop` is called after each of `stops` equal parts, which leave what is learned as it is.
    """
    env = HiddenCompetitionEnv(config.num_envs, model, window, seed=LEARNER_SEED + seed)
    venv = MarketVecEnv(env, reward_scale_eth(model), config.reward_clip)
    trainer = build(venv, config, seed, steps)
    rollout = config.num_envs * config.rollout_slots
    for stop in range(1, stops + 1):
        wanted = -(-steps * stop // (stops * rollout)) * rollout
        if wanted > trainer.num_timesteps:
            trainer.learn(wanted - trainer.num_timesteps, reset_num_timesteps=False)
        if at_stop is not None:
            at_stop(trainer)
    return trainer


def policy_bids(
    trainer: ScheduledPPO, model: HiddenCompetition, window: int, split: str, shape: tuple[int, int]
) -> Bids:
    """Bids float64[length, chains] of the most probable action in the chains of `record`, seed 0.

    shape is (length, chains).
    """
    length, chains = shape
    env = HiddenCompetitionEnv(chains, model, window, length + 1, split=split)
    seen, _ = env.reset(seed=0)
    bids = np.empty(shape)
    for t in range(length):
        with torch.no_grad():
            actions, _, _ = trainer.policy(torch.from_numpy(seen), deterministic=True)
        bids[t] = FRACTIONS[actions.numpy()]
        seen = env.step(actions.numpy())[0]
    return bids


@dataclass(frozen=True)
class Scores:
    """Sums over the counted auctions of each chain, float64[chains]: what every share needs.

    `value` weighs auctions by their value in ETH, `count` equally.
    """

    value: NDArray[np.float64]
    count: NDArray[np.float64]


def score(captured: Bids, chains: Chains, burn_in: int) -> Scores:
    """Sums of captured shares [length, chains] after the burn-in."""
    counted = captured[burn_in:]
    return Scores((counted * np.exp(chains.log_value[burn_in:])).sum(axis=0), counted.sum(axis=0))


def arms(
    model: HiddenCompetition, chains: Chains, learned: dict[str, Bids], burn_in: int
) -> dict[str, Scores]:
    """Scores of rules, filters and learners, and of the clairvoyant, by name."""
    tuned = tune(model, record(model, "train", TUNING_SEED, TUNING_CHAINS, TUNING_LENGTH))
    bids = tuned.bids(chains) | {n: bayes_bids(model, chains, m) for n, m in FILTERS.items()}
    captured = {name: capture(model, chains, bid) for name, bid in (bids | learned).items()}
    captured["clairvoyant"] = clairvoyant(chains)
    return {name: score(share, chains, burn_in) for name, share in captured.items()}


def summarise(scores: dict[str, Scores], learned: Sequence[str], resamples: int) -> dict[str, Any]:
    """Shares of the clairvoyant profit per arm, and what each learner makes of the references.

    Everything is given value-weighted ("value") and per auction ("count"), with 95 % percentile
    bootstrap intervals over chains; one resampling serves all arms, so that ratios are paired.
    """
    chains = scores["clairvoyant"].value.size
    draws = np.random.default_rng(0).multinomial(
        chains, np.full(chains, 1.0 / chains), size=resamples
    )
    table: dict[str, Any] = {"shares": {}, "learners": {}}
    sums: dict[str, dict[str, NDArray[np.float64]]] = {"value": {}, "count": {}}
    for weighting, by_arm in sums.items():
        for name, arm in scores.items():
            chain_sums = getattr(arm, weighting)
            # entry 0 is the estimate itself, the others its bootstrap replicates
            by_arm[name] = np.concatenate([[chain_sums.sum()], draws @ chain_sums])
        for name in scores:
            share = by_arm[name] / by_arm["clairvoyant"]
            table["shares"].setdefault(name, {})[weighting] = _interval(share)
    for name in learned:
        rows = table["learners"][name] = {}
        for weighting, by_arm in sums.items():
            ours, static, bayes = by_arm[name], by_arm[STATIC], by_arm[CEILING]
            # the rule that earns more in this very test: an advantage the learner does not have
            rule = max(ADAPTIVE, key=lambda arm: by_arm[arm][0])
            rows[weighting] = {
                "gap_closed": _interval((ours - static) / (bayes - static)),
                "over_static": _interval(ours / static),
                "over_adaptive": _interval(ours / by_arm[rule]),
                "over_bayes": _interval(ours / bayes),
            }
    return table


def _interval(values: NDArray[np.float64]) -> list[float]:
    """[estimate, low, high] of an estimate followed by its bootstrap replicates."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return [float(values[0]), float(low), float(high)]


class GapCurve:
    """What a training closes of the gap on validation chains, by value, while it learns."""

    def __init__(self, model: HiddenCompetition, window: int, study: Study) -> None:
        self.points: list[Point] = []
        self._play = (model, window, "validation")
        self._shape = (study.burn_in + study.length, VALIDATION_CHAINS)
        self._burn_in = study.burn_in
        self._chains = record(model, "validation", 0, *self._shape[::-1])
        tuned = tune(model, record(model, "train", TUNING_SEED, TUNING_CHAINS, TUNING_LENGTH))
        self._static = self._earned(tuned.bids(self._chains)[STATIC])
        self._bayes = self._earned(bayes_bids(model, self._chains, FILTERS[CEILING]))
        self._learning_s, self._since = 0.0, time.process_time()

    def _earned(self, bids: Bids) -> float:
        captured = capture(self._play[0], self._chains, bids)
        return float(score(captured, self._chains, self._burn_in).value.sum())

    def __call__(self, trainer: ScheduledPPO) -> None:
        """Add a point; the time that playing takes does not count."""
        self._learning_s += time.process_time() - self._since
        earned = self._earned(policy_bids(trainer, *self._play, self._shape))
        gap = (earned - self._static) / (self._bayes - self._static)
        self.points.append((trainer.num_timesteps, self._learning_s, gap))
        self._since = time.process_time()


def learned_at(points: Sequence[Point]) -> Point | None:
    """The first point with at least LEARNED_GAP; None where there is none."""
    return next((point for point in points if point[2] >= LEARNED_GAP), None)


def _train_and_bid(
    name: str, window: int, seed: int, study: Study
) -> tuple[Bids, tuple[float, list[Point]]]:
    """One trial: bids in the held-out chains; the seconds that it took, and its curve."""
    model = SCENARIOS[name]
    started = time.monotonic()
    stops = study.validations if window else 0
    curve = GapCurve(model, window, study) if stops else None
    trainer = learner(model, window, study.ppo, seed, study.steps, max(stops, 1), curve)
    seconds = time.monotonic() - started
    shape = (study.burn_in + study.length, study.chains)
    bids = policy_bids(trainer, model, window, study.split, shape)
    return bids, (seconds, curve.points if curve else [])


def trials(study: Study, name: str) -> Iterator[tuple[str, Bids, tuple[float, list[Point]]]]:
    """Train every learner of a scenario: (arm, bids, (seconds, curve)) as they finish."""
    seeds = {HISTORY: (study.window, study.seeds), STATELESS: (0, study.stateless_seeds)}
    jobs = {
        f"{learner}, seed {seed}": (name, window, seed, study)
        for learner, (window, trainings) in seeds.items()
        for seed in range(trainings)
    }
    for arm, result in as_finished(_train_and_bid, jobs, study.workers):
        yield arm, *result


def compared(study: Study, name: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Train all learners of a scenario and summarise all arms; `say` hears of every training."""
    learned, seconds, curves = {}, {}, {}
    for arm, bids, (took, curve) in trials(study, name):
        learned[arm], seconds[arm] = bids, took
        say(f"{name}: {arm} trained in {took:.0f} s")
        if curve:
            curves[arm] = {"points": curve, "learned_at": learned_at(curve)}
            say(f"  {LEARNED_GAP} of the gap: {_when(curve)}")
    learned = {arm: learned[arm] for arm in sorted(learned)}
    model = SCENARIOS[name]
    chains = record(model, study.split, 0, study.chains, study.burn_in + study.length)
    scores = arms(model, chains, learned, study.burn_in)
    summary = summarise(scores, list(learned), study.resamples)
    return summary | {"seconds": seconds, "curves": curves}


def run(study: Study, console: Console, file: Path | None = None) -> dict[str, Any]:
    """All scenarios of a study; `file` is rewritten after each, so that little is ever lost."""
    report: dict[str, Any] = {"study": asdict(study), "scenarios": {}}
    for name in study.names:
        report["scenarios"][name] = compared(study, name, console.print)
        console.print(shares_table(name, report["scenarios"][name]))
        if file:
            write_text(file, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return report


def _when(points: Sequence[Point]) -> str:
    """When a training had learned, for the terminal."""
    point = learned_at(points)
    if point is None:
        return f"not reached, {max(gap for _, _, gap in points):.3f} at best"
    steps, cpu_s, gap = point
    return f"{gap:.3f} after {steps:,} auctions and {cpu_s:.1f} s of processor time"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 with the reason on standard error for bad input."""
    parser = ArgumentParser(prog="python -m agents.hidden_competition", description=__doc__)
    parser.add_argument("--scenario", default="D", help=f"names: {', '.join(SCENARIOS)}")
    parser.add_argument("--seeds", type=int, default=10, help="trainings per scenario")
    parser.add_argument("--stateless-seeds", type=int, default=1, help="trainings without history")
    parser.add_argument("--steps", type=int, default=2_000_000, help="auctions of each training")
    parser.add_argument("--window", type=int, default=16, help="past auctions a learner sees")
    parser.add_argument("--chains", type=int, default=256, help="held-out chains")
    parser.add_argument("--length", type=int, default=1000, help="auctions per held-out chain")
    parser.add_argument("--split", default="test", help="held-out chains: test or validation")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time")
    parser.add_argument(
        "--validations", type=int, default=0, help="times to play validation chains while learning"
    )
    parser.add_argument("--json", default="", help="write the report to this file")
    parser.add_argument("--figure", default="", help="draw the shares into this file")
    given = vars(parser.parse_args(arguments))
    file, picture = Path(given.pop("json")), Path(given.pop("figure"))
    try:
        for path in (file, picture):
            if not path.absolute().parent.is_dir():
                raise ValueError(f"{path}: its folder does not exist")
        study = Study(**given)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = run(study, Console(), file if file.name else None)
    if picture.name:
        figure(report["scenarios"]).savefig(picture, dpi=110)
    return 0
