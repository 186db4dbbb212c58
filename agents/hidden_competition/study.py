"""Does history pay when rivals hide? Trains MaskablePPO on the hidden-competition auctions, and
beside it, with --belief, networks that forecast the highest rival bid.

python -m agents.hidden_competition [--scenario D,S] [--seeds N] [--steps N] [--json FILE]
    [--belief recurrent,window] [--keep FOLDER]

Every arm bids in the same held-out auctions (test split); rules are tuned on training chains.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from agents.config import BARE_AUCTIONS, PPOConfig
from agents.hidden_competition.belief import FORMS
from agents.hidden_competition.belief_training import (
    BeliefConfig,
    train_belief,
    training_law,
)
from agents.hidden_competition.drawn_laws import is_law, law_of
from agents.hidden_competition.forecasts import Forecast, belief_bids
from agents.hidden_competition.kept_trials import Kept
from agents.hidden_competition.report import BELIEF, HISTORY, STATELESS
from agents.hidden_competition.shares import (
    CEILING,
    STATIC,
    Scores,
    over_trainings,
    score,
    summarise,
)
from agents.learner.build import build
from agents.learner.ppo import ScheduledPPO
from agents.learner.vecenv import MarketVecEnv
from agents.processes import as_finished
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

# Training chains: the rules' and the learners' never coincide.
TUNING_SEED, SCALE_SEED, LEARNER_SEED = 1, 2, 1000
TUNING_CHAINS, TUNING_LENGTH = 128, 1500
COARSE = "Bayes, clearing public, bids of PPO"  # what the environment's 64 bids cost
# A training is said to have learned when it first closes this much of the gap on as many chains.
LEARNED_GAP, VALIDATION_CHAINS = 0.85, 64

Point = tuple[int, float, float]  # auctions learned from, processor seconds of learning, gap closed


class Trained(NamedTuple):
    """What a training left: its bids in the held-out chains, and how it came to them."""

    bids: Bids
    seconds: float
    curve: list[Point]
    """Of a training with history that is looked at while it learns."""
    forecast: Forecast | None = None
    """Of a belief: `agents.hidden_competition.forecasts.belief_bids`."""


@dataclass(frozen=True)
class Study(Settings):
    """What to train and how large the test is."""

    scenario: str = "D"
    """Names separated by commas: D, S, D20, D200, count-only, or drawn-NUMBER."""
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
    held_out_seed: Natural = 0
    """Seed of the held-out chains."""
    belief: str = ""
    """Beliefs to train as well, `seeds` times each: names of recurrent, window; empty: none."""
    validations: Natural = 0
    """Times that a training with history is played on validation chains while it learns."""
    ppo: PPOConfig = field(default_factory=lambda: BARE_AUCTIONS)
    """The learner."""
    forecaster: BeliefConfig = field(default_factory=BeliefConfig)
    """The beliefs."""

    def check(self) -> None:
        """Scenarios and beliefs that there are."""
        known = all(is_law(name) for name in self.names)
        self.require(known, "scenario", f"names of {', '.join(SCENARIOS)}, or drawn-NUMBER")
        known = all(form in FORMS for form in self.forms)
        self.require(known, "belief", f"names of {', '.join(FORMS)}")

    @property
    def names(self) -> list[str]:
        """Scenarios in the order given."""
        return self.scenario.split(",")

    @property
    def forms(self) -> list[str]:
        """Beliefs in the order given."""
        return [form for form in self.belief.split(",") if form]

    @property
    def shape(self) -> tuple[int, int]:
        """Auctions and chains held out, the burn-in included."""
        return self.burn_in + self.length, self.chains


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
    trainer: ScheduledPPO,
    model: HiddenCompetition,
    window: int,
    split: str,
    shape: tuple[int, int],
    seed: int = 0,
) -> Bids:
    """Bids float64[length, chains] of the most probable action in the chains of `record`.

    shape is (length, chains).
    """
    length, chains = shape
    env = HiddenCompetitionEnv(chains, model, window, length + 1, split=split)
    seen, _ = env.reset(seed=seed)
    bids = np.empty(shape)
    for t in range(length):
        with torch.no_grad():
            actions, _, _ = trainer.policy(torch.from_numpy(seen), deterministic=True)
        bids[t] = FRACTIONS[actions.numpy()]
        seen = env.step(actions.numpy())[0]
    return bids


def arms(
    model: HiddenCompetition, chains: Chains, learned: dict[str, Bids], burn_in: int
) -> dict[str, Scores]:
    """Scores of rules, filters and learners, and of the clairvoyant, by name."""
    tuned = tune(model, record(model, "train", TUNING_SEED, TUNING_CHAINS, TUNING_LENGTH))
    bids = tuned.bids(chains) | {n: bayes_bids(model, chains, m) for n, m in FILTERS.items()}
    bids[COARSE] = bayes_bids(model, chains, FILTERS[CEILING], FRACTIONS)
    captured = {name: capture(model, chains, bid) for name, bid in (bids | learned).items()}
    captured["clairvoyant"] = clairvoyant(chains)
    return {name: score(share, chains, burn_in) for name, share in captured.items()}


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


def _train_and_bid(name: str, kind: str, seed: int, study: Study) -> Trained:
    """One trial of one kind of learner."""
    model = law_of(name)
    started = time.monotonic()
    if kind.startswith(BELIEF):
        form = kind.removeprefix(BELIEF)
        belief = train_belief(model, form, study.forecaster, seed, study.steps)
        seconds = time.monotonic() - started
        chains, law = _held_out(study, model), training_law(model, seed, study.steps)
        bids, forecast = belief_bids(belief, model, chains, law, study.burn_in)
        return Trained(bids, seconds, [], forecast)
    window = study.window if kind == HISTORY else 0
    stops = study.validations if window else 0
    curve = GapCurve(model, window, study) if stops else None
    trainer = learner(model, window, study.ppo, seed, study.steps, max(stops, 1), curve)
    seconds = time.monotonic() - started
    bids = policy_bids(trainer, model, window, study.split, study.shape, study.held_out_seed)
    return Trained(bids, seconds, curve.points if curve else [])


def _held_out(study: Study, model: HiddenCompetition) -> Chains:
    length, chains = study.shape
    return record(model, study.split, study.held_out_seed, chains, length)


def _jobs(study: Study, name: str) -> dict[str, tuple[str, str, int, Study]]:
    """Trials of a scenario by arm; seed by seed, so that an interrupted study has whole pairs."""
    trainings = {HISTORY: study.seeds}
    trainings |= {f"{BELIEF}{form}": study.seeds for form in study.forms}
    trainings[STATELESS] = study.stateless_seeds
    return {
        f"{kind}, seed {seed}": (name, kind, seed, study)
        for seed in range(max(trainings.values()))
        for kind, seeds in trainings.items()
        if seed < seeds
    }


def trials(study: Study, name: str, kept: Kept | None = None) -> Iterator[tuple[str, Trained]]:
    """Every learner of a scenario, trained: (arm, what it left) as they finish.

    Those in `kept` come first and are not trained again; the others are added to it.
    """
    jobs = _jobs(study, name)
    for arm, (_, kind, seed, _) in list(jobs.items()):
        found = kept.find(study, law_of(name), kind, seed) if kept else None
        if found is not None:
            del jobs[arm]
            yield arm, Trained(*found)
    kinds = dict(jobs)
    for arm, trained in as_finished(_train_and_bid, jobs, study.workers):
        if kept:
            _, kind, seed, _ = kinds[arm]
            kept.keep(study, law_of(name), kind, seed, trained)
        yield arm, trained


def compared(
    study: Study,
    name: str,
    say: Callable[[str], None],
    kept: Kept | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Train all learners of a scenario and summarise all arms; `say` hears of every training."""
    found: dict[str, Trained] = {}
    total = len(_jobs(study, name))
    progress(0, total)
    for arm, trained in trials(study, name, kept):
        found[arm] = trained
        progress(len(found), total)
        say(f"{name}: {arm} trained in {trained.seconds:.0f} s")
        if trained.curve:
            say(f"  {LEARNED_GAP} of the gap: {_when(trained.curve)}")
    found = {arm: found[arm] for arm in sorted(found)}
    model = law_of(name)
    learned = {arm: trained.bids for arm, trained in found.items()}
    scores = arms(model, _held_out(study, model), learned, study.burn_in)
    summary = summarise(scores, list(learned), study.resamples)
    summary["kinds"] = over_trainings(scores, list(learned), study.resamples)
    curves = {
        arm: {"points": trained.curve, "learned_at": learned_at(trained.curve)}
        for arm, trained in found.items()
        if trained.curve
    }
    forecasts = {arm: t.forecast for arm, t in found.items() if t.forecast is not None}
    seconds = {arm: trained.seconds for arm, trained in found.items()}
    return summary | {
        "seconds": seconds, "curves": curves, "forecasts": forecasts, "law": asdict(model)
    }  # fmt: skip


def _when(points: Sequence[Point]) -> str:
    """When a training had learned, for the terminal."""
    point = learned_at(points)
    if point is None:
        return f"not reached, {max(gap for _, _, gap in points):.3f} at best"
    steps, cpu_s, gap = point
    return f"{gap:.3f} after {steps:,} auctions and {cpu_s:.1f} s of processor time"
