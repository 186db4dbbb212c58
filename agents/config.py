"""What a training run may be told: one dataclass per part, read from YAML and the command line.

Figures without another source were measured on hidden-competition auctions (docs/learning.md).
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse

from agents.learner_arms import HISTORY, LEARNER_ARMS, blind_columns
from agents.scenarios import NAMES, SEEDS_EACH
from envs.hidden_competition import model as hidden_competition
from envs.market.config import MarketConfig
from models.volatility.har_lstm import VolatilityConfig

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "train.yaml"


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and the value."""


def _require(true: bool, key: str, value: object, wanted: str) -> None:
    if not true:
        raise ConfigError(f"{key}: {value!r}; give {wanted}")


@dataclass(frozen=True)
class PPOConfig:
    """The maskable PPO learner."""

    num_envs: int = 1024
    """Markets simulated at once by one trainer."""
    rollout_slots: int = 32
    """Slots played between two updates."""
    minibatch: int = 4096
    """Samples per gradient step; large, because gradient steps take most of the time."""
    epochs: int = 4
    """Passes over each rollout."""
    learning_rate: float = 1e-3
    """Step size of Adam at the start; falls linearly to 0."""
    entropy: float = 0.01
    """Weight of the entropy bonus at the start; falls linearly to 0."""
    clip: float = 0.2
    """Largest change of an action's probability ratio that is rewarded."""
    gamma: float = 0.0
    """Discount; 0 where the own bid does not move the market (0.99 cost 20 % of the gap)."""
    gae_lambda: float = 1.0
    """Trace of the advantage estimate; irrelevant at gamma 0."""
    value_weight: float = 0.5
    """Weight of the value loss."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the tanh layers, separate for policy and value."""
    reward_clip: float = 10.0
    """Rewards are divided by their root mean square and clipped here: values have a Pareto tail."""
    lstm: int = 0
    """Units of an LSTM before the actor's layers, which then remembers; 0: none."""
    critic_lstm: bool = False
    """Whether the critic has an LSTM of its own beside the actor's."""
    rollout_workers: int = 0
    """Processes that play rollouts for the one learner of a trial; 0: it plays them itself."""
    asynchronous: bool = False
    """Play the next rollout while learning from the last: one update stale, one core more."""
    blind: tuple[str, ...] = ()
    """Observation fields hidden from the learner, by the beginnings of their names."""
    learn_from_forced: bool = False
    """Learn from states with a single allowed action too. At gamma 0 they teach nothing and cost a
    third of the time; at any other gamma they are always learned from."""
    masking: bool = True
    """Whether the learner chooses among allowed actions only; else others count as a pass."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with, naming the field."""
        for name in ("num_envs", "rollout_slots", "epochs"):
            _require(getattr(self, name) >= 1, f"ppo.{name}", getattr(self, name), "at least 1")
        for name in ("learning_rate", "clip", "max_gradient_norm", "reward_clip"):
            _require(getattr(self, name) > 0.0, f"ppo.{name}", getattr(self, name), "more than 0")
        for name in ("gamma", "gae_lambda"):
            _require(
                0.0 <= getattr(self, name) <= 1.0, f"ppo.{name}", getattr(self, name), "0 to 1"
            )
        _require(min(self.hidden, default=0) >= 1, "ppo.hidden", self.hidden, "widths from 1")
        rollout = self.num_envs * self.rollout_slots
        whole = self.minibatch >= 2 and rollout % self.minibatch == 0
        _require(whole, "ppo.minibatch", self.minibatch, f"a divisor of the rollout, {rollout}")
        _require(self.lstm >= 0, "ppo.lstm", self.lstm, "0 or more units")
        if self.lstm:
            whole = self.minibatch % self.rollout_slots == 0
            wanted = f"a multiple of ppo.rollout_slots, {self.rollout_slots}, for whole sequences"
            _require(whole, "ppo.minibatch", self.minibatch, wanted)
        workers = self.rollout_workers
        shared = workers >= 0 and (workers == 0 or self.num_envs % workers == 0)
        _require(shared, "ppo.rollout_workers", workers, f"a divisor of num_envs, {self.num_envs}")
        possible = workers > 0 or not self.asynchronous
        _require(possible, "ppo.asynchronous", self.asynchronous, "ppo.rollout_workers with it")
        try:
            blind_columns(self.blind)
        except ValueError as error:
            raise ConfigError(f"ppo.blind: {error}") from None

    def of_arm(self, name: str) -> "PPOConfig":
        """These settings as the arm `name` of agents.learner_arms changes them."""
        arm = LEARNER_ARMS[name]
        return dataclasses.replace(
            self,
            blind=self.blind + arm.blind,
            lstm=arm.lstm or self.lstm,
            masking=self.masking and arm.masking,
        )

    @property
    def cores(self) -> int:
        """Processor cores that one trial keeps busy."""
        return max(1, self.rollout_workers + self.asynchronous)


@dataclass(frozen=True)
class TrialsConfig:
    """Trials that Ray Tune runs: one single-threaded process per core."""

    seeds: int = 2
    """Independent trainings, of which validation chooses one."""
    arms: tuple[str, ...] = (HISTORY,)
    """Learners to train with every seed and to compare: history (all that the observation holds),
    stateless (no past auctions), recurrent (an LSTM), each also without the volatility forecast
    (no-forecast, stateless-no-forecast, recurrent-no-forecast), unmasked (a control)."""
    steps: int = 6_000_000
    """Decisions each trial learns from."""
    reports: int = 12
    """Checkpoints and validation rounds per trial."""
    learning_rates: tuple[float, ...] = ()
    """Learning rates to try with every seed; empty: the one of ppo."""
    validation_envs: int = 256
    """Episodes per validation round."""
    keep_checkpoints: int = 4
    """Checkpoints kept per trial; fewer than 4 can lose a trial that is killed while saving."""
    max_failures: int = 3
    """Restarts of a trial whose process dies."""
    exchange_reports: int = 0
    """Reports after which the worst trials copy the best and vary its rates (population-based
    training, Jaderberg et al. 2017); 0: the trials are independent."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be run, naming the field."""
        for name in ("seeds", "steps", "reports", "validation_envs"):
            _require(getattr(self, name) >= 1, f"trials.{name}", getattr(self, name), "at least 1")
        kept = self.keep_checkpoints
        _require(kept >= 4, "trials.keep_checkpoints", kept, "at least 4")
        for name in ("max_failures", "exchange_reports"):
            _require(getattr(self, name) >= 0, f"trials.{name}", getattr(self, name), "0 or more")
        known = ", ".join(LEARNER_ARMS)
        for name in self.arms or ("",):
            _require(name in LEARNER_ARMS, "trials.arms", name, f"names of {known}")
        _require(len(set(self.arms)) == len(self.arms), "trials.arms", self.arms, "each once")
        alone = len(self.arms) == 1 or not self.exchange_reports
        _require(alone, "trials.exchange_reports", self.exchange_reports, "0 with several arms")


@dataclass(frozen=True)
class EvaluationConfig:
    """The comparison on held-out episodes."""

    seeds: int = 4
    """Seeds of the test split, each a stratum of the bootstrap."""
    episodes: int = 256
    """Episodes per seed, played by every arm."""
    resamples: int = 2000
    """Bootstrap samples behind each 95 % interval."""
    tail: float = 0.05
    """Share of worst episodes whose mean is the CVaR."""
    scenarios: tuple[str, ...] = ("default", "crowded", "high-base-fee")
    """Markets to compare in, see agents.scenarios; the first is the one reported first."""
    rules: tuple[str, ...] = ()
    """Rules of your own to compare beside the others, as MODULE:NAME, see agents.bidders.own_rules.
    """

    def __post_init__(self) -> None:
        """Refuse values that cannot be compared with, naming the field."""
        for name in ("seeds", "episodes", "resamples"):
            given = getattr(self, name)
            _require(given >= 1, f"evaluation.{name}", given, "at least 1")
        _require(0.0 < self.tail <= 1.0, "evaluation.tail", self.tail, "a share of 0 to 1")
        _require(self.seeds <= SEEDS_EACH, "evaluation.seeds", self.seeds, f"up to {SEEDS_EACH}")
        known = ", ".join(NAMES)
        for name in self.scenarios or ("",):
            _require(name in NAMES, "evaluation.scenarios", name, f"names of {known}")


@dataclass(frozen=True)
class StudiesConfig:
    """Tables beside the comparison: the learner, with its defaults, where best bids are known."""

    hidden_competition: tuple[str, ...] = ()
    """Scenarios of agents.hidden_competition.study to train and compare in; empty: none."""
    hidden_competition_seeds: int = 10
    """Trainings with history in each of them, seeds from 0."""
    stateless_seeds: int = 3
    """Trainings without history in each of them, seeds from 0."""
    steps: int = 2_000_000
    """Auctions that each of these trainings bids in."""
    chains: int = 256
    """Held-out chains of auctions on which all of them are compared."""
    known_bids: bool = False
    """Whether to hold bare auctions and the learner in them against auction theory."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be studied, naming the field."""
        known = ", ".join(hidden_competition.SCENARIOS)
        names = self.hidden_competition
        for name in names:
            known_one = name in hidden_competition.SCENARIOS
            _require(known_one, "studies.hidden_competition", name, f"names of {known}")
        _require(len(set(names)) == len(names), "studies.hidden_competition", names, "each once")
        for name in ("hidden_competition_seeds", "steps", "chains"):
            _require(getattr(self, name) >= 1, f"studies.{name}", getattr(self, name), "at least 1")
        stateless = self.stateless_seeds
        _require(stateless >= 0, "studies.stateless_seeds", stateless, "0 or more")


@dataclass(frozen=True)
class PricesConfig:
    """Reference prices: recorded bars, or the calibrated stand-in."""

    data: str = ""
    """Folder with bar files; empty: $MEVRL_DATA, and without it the stand-in."""
    stand_in_days: int = 60
    """Days of stochastic-volatility bars when there is no folder."""
    test_from: str = ""
    """First day (UTC) that the forecaster does not learn from; empty: start of validation."""


@dataclass(frozen=True)
class RunConfig:
    """Where a run lives and what it may use."""

    folder: str = "runs"
    """Folder that holds all runs and the link `latest`."""
    name: str = ""
    """Name of this run's folder; empty: the start time."""
    seed: int = 0
    """Seed of everything random in the run."""
    workers: int = 0
    """Cores to train on; 0: all."""
    address: str = ""
    """Address of a Ray cluster that shares this folder; empty: this machine alone."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that `train.py` may be told."""

    run: RunConfig = field(default_factory=RunConfig)
    """Where the run lives and what it may use."""
    prices: PricesConfig = field(default_factory=PricesConfig)
    """Reference prices."""
    forecaster: VolatilityConfig = field(default_factory=VolatilityConfig)
    """The volatility forecaster."""
    market: MarketConfig = field(default_factory=MarketConfig)
    """The simulated market."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """The learner."""
    trials: TrialsConfig = field(default_factory=TrialsConfig)
    """The trials that Ray Tune runs."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """The comparison on held-out episodes."""
    studies: StudiesConfig = field(default_factory=StudiesConfig)
    """Tables beside the comparison; none unless asked for."""

    def __post_init__(self) -> None:
        """Refuse arms that the learner's settings do not allow, naming the field."""
        arms = self.trials.arms
        doubled = [arm for arm in arms if LEARNER_ARMS[arm].lstm and self.ppo.lstm]
        _require(not doubled, "trials.arms", doubled, "ppo.lstm 0 with it: every arm has one")
        settings = [self.ppo.of_arm(arm) for arm in arms]
        served = any(ppo.masking for ppo in settings)
        _require(served, "trials.arms", arms, "one with masking: policies are served with masks")


class _Parser(jsonargparse.ArgumentParser):
    """Raises ConfigError where argparse would exit, so that callers decide."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message)


def _parser() -> _Parser:
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _Parser(
        prog="python train.py",
        description="Train a forecaster and a bidding policy, compare them, freeze the best.",
        allow_abbrev=False,  # a misspelt key must not become another one
    )
    parser.add_argument(
        "--config", action="config", help="YAML file read before the other arguments"
    )
    parser.add_argument("--resume", type=str, default="", help="continue this run, e.g. runs/NAME")
    parser.add_class_arguments(TrainConfig)
    return parser


def read_arguments(arguments: Sequence[str]) -> tuple[TrainConfig, Path | None]:
    """Configuration and the run to resume: YAML file first, then `--any.field value`.

    Without `--config` the defaults of configs/train.yaml hold; a resumed run keeps its own
    configuration and takes no other argument. Raises ConfigError naming the key.
    """
    arguments = list(arguments)
    resumed = [a for a in arguments if a == "--resume" or a.startswith("--resume=")]
    if not resumed and not any(a == "--config" or a.startswith("--config=") for a in arguments):
        arguments = ["--config", os.fspath(DEFAULT_CONFIG), *arguments]
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if not resumed:
        return _build(parser, parsed), None
    if len(arguments) > 3 - len(resumed[0].split("=")):
        raise ConfigError(f"--resume {parsed.resume}: a resumed run keeps its configuration")
    run = Path(parsed.resume)
    stored = run / "config.yaml"
    if not stored.is_file():
        raise ConfigError(f"--resume {run}: no run there ({stored} is missing)")
    return _build(parser, parser.parse_args(["--config", os.fspath(stored)])), run


def config_from_dict(values: dict[str, Any]) -> TrainConfig:
    """The configuration that `config_to_dict` wrote. Raises ConfigError naming the key."""
    parser = _parser()
    return _build(parser, parser.parse_object(values))


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain lists, numbers and strings, as they go into YAML and JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _build(parser: _Parser, parsed: jsonargparse.Namespace) -> TrainConfig:
    try:
        built = parser.instantiate(parsed)
    except ValueError as error:  # a part that refuses its values
        raise ConfigError(str(error)) from None
    parts = {part.name: built[part.name] for part in dataclasses.fields(TrainConfig)}
    return TrainConfig(**parts)
