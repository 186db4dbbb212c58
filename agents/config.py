"""What a training run may be told: one dataclass per part, read from YAML and the command line.

Figures without another source were measured on hidden-competition auctions (docs/learning.md).
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from agents.learner_arms import ALL, HISTORY, LEARNER_ARMS, Choice, blind_columns
from agents.market_draws import RandomiseConfig
from agents.run_state import listed
from agents.scenarios import NAMES, SEEDS_EACH
from configs.reading import read_file, read_settings, settings_from_dict, settings_parser
from configs.settings import (
    ConfigError,
    Count,
    Natural,
    NonNegative,
    Positive,
    Range,
    Settings,
    Share,
)
from envs.hidden_competition import model as hidden_competition
from envs.market.config import MarketConfig
from models.volatility.config import VolatilityConfig

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "train.yaml"


@dataclass(frozen=True)
class PPOConfig(Settings):
    """The maskable PPO learner."""

    num_envs: Count = 1024
    """Markets simulated at once by one trainer."""
    rollout_slots: Count = 32
    """Slots played between two updates."""
    minibatch: Annotated[int, Range(2)] = 4096
    """Samples per gradient step; large, because gradient steps take most of the time."""
    epochs: Count = 4
    """Passes over each rollout."""
    learning_rate: Positive = 5e-3
    """Step size of Adam at the start; falls linearly to 0. Best of 5 on validation in the market;
    bare auctions suit a fifth of it, see BARE_AUCTIONS."""
    entropy: NonNegative = 0.01
    """Weight of the entropy bonus at the start; falls linearly to 0."""
    clip: Positive = 0.2
    """Largest change of an action's probability ratio that is rewarded."""
    gamma: Share = 0.0
    """Discount; 0 where the own bid does not move the market (0.99 cost 20 % of the gap)."""
    gae_lambda: Share = 1.0
    """Trace of the advantage estimate; irrelevant at gamma 0."""
    value_weight: NonNegative = 0.5
    """Weight of the value loss."""
    max_gradient_norm: Positive = 0.5
    """Gradients are scaled down to this norm."""
    hidden: tuple[Count, ...] = (64, 64)
    """Widths of the tanh layers, separate for policy and value."""
    reward_clip: Positive = 10.0
    """Rewards are divided by their root mean square and clipped here: values have a Pareto tail. Of
    10 and 100, ten trainings each in the market of 2021, 10 earns more on validation."""
    lstm: Natural = 0
    """Units of an LSTM before the actor's layers, which then remembers; 0: none."""
    critic_lstm: bool = False
    """Whether the critic has an LSTM of its own beside the actor's."""
    rollout_workers: Natural = 0
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
    best_bundles: bool = False
    """Whether the learner is restricted to whole-size bundles on the best opportunity."""
    network: str = ""
    """A policy network of your own, as MODULE:CLASS of a torch module (see
    models.policy.own_network) or of a policy of stable-baselines3; empty: a perceptron with
    `hidden` and `lstm`."""
    network_arguments: dict[str, Any] = field(default_factory=dict)
    """What it is built with, beside observation and action space."""
    loss: str = ""
    """A loss of your own, as MODULE:FUNCTION, called as agents.learner.ppo.clipped_loss is; empty:
    that of PPO."""
    loss_arguments: dict[str, Any] = field(default_factory=dict)
    """What it is called with, beside learner and minibatch."""
    compiled: bool = True
    """Whether the default network with the default loss learns by compiled kernels on a processor;
    false: by torch, as every other network and loss does."""
    device: str = "cpu"
    """Where networks live and learn: cpu, or cuda."""

    def check(self) -> None:
        """Whole minibatches, sequences and shares of the markets."""
        self.require(len(self.hidden) > 0, "hidden", "at least one width")
        rollout = self.num_envs * self.rollout_slots
        whole = rollout % self.minibatch == 0
        self.require(whole, "minibatch", f"a divisor of the rollout, {rollout}")
        if self.lstm:
            whole = self.minibatch % self.rollout_slots == 0
            wanted = f"a multiple of rollout_slots, {self.rollout_slots}, for whole sequences"
            self.require(whole, "minibatch", wanted)
        shared = self.rollout_workers == 0 or self.num_envs % self.rollout_workers == 0
        self.require(shared, "rollout_workers", f"a divisor of num_envs, {self.num_envs}")
        alone = not (self.network and self.lstm)
        self.require(alone, "lstm", "0 with a network of your own, which brings its memory along")
        possible = self.rollout_workers > 0 or not self.asynchronous
        self.require(possible, "asynchronous", "rollout_workers with it")
        try:
            blind_columns(self.blind)
        except ValueError as error:
            self.require(False, "blind", f"other names: {error}")

    def of_arm(self, name: str) -> "PPOConfig":
        """These settings as the arm `name` of agents.learner_arms changes them."""
        arm = LEARNER_ARMS[name]
        return dataclasses.replace(
            self,
            blind=self.blind + arm.blind,
            lstm=arm.lstm or self.lstm,
            masking=self.masking and arm.choice.masking,
            best_bundles=self.best_bundles or arm.choice.best_bundles,
        )

    @property
    def choice(self) -> Choice:
        """Among which actions the learner chooses."""
        return Choice(self.masking, self.best_bundles)

    @property
    def cores(self) -> int:
        """Processor cores that one trial keeps busy."""
        return max(1, self.rollout_workers + self.asynchronous)


# The learner where bids are all there is: the market's rate is too large a step there.
BARE_AUCTIONS = PPOConfig(learning_rate=1e-3)


@dataclass(frozen=True)
class TrialsConfig(Settings):
    """Trials that Ray Tune runs: one single-threaded process per core."""

    seeds: Count = 2
    """Independent trainings, of which validation chooses one."""
    arms: tuple[str, ...] = (HISTORY,)
    """Learners to train with every seed and to compare: history (all that the observation holds),
    stateless (no past auctions), recurrent (an LSTM), each also without the volatility forecast
    (no-forecast, stateless-no-forecast, recurrent-no-forecast), unmasked (a control)."""
    steps: Count = 3_000_000
    """Decisions each trial learns from."""
    reports: Count = 12
    """Checkpoints and validation rounds per trial."""
    learning_rates: tuple[Positive, ...] = ()
    """Learning rates to try with every seed; empty: the one of ppo."""
    validation_envs: Count = 256
    """Episodes per validation round."""
    keep_checkpoints: Annotated[int, Range(4)] = 4
    """Checkpoints kept per trial; fewer than 4 can lose a trial that is killed while saving."""
    max_failures: Natural = 3
    """Restarts of a trial whose process dies."""
    randomise: RandomiseConfig = field(default_factory=RandomiseConfig)
    """Train over markets drawn around the given one, whose rivals are assumed."""
    exchange_reports: Natural = 0
    """Reports after which the worst trials copy the best and vary its rates (population-based
    training, Jaderberg et al. 2017); 0: the trials are independent."""

    def check(self) -> None:
        """Arms that there are, each once, and alone when trials copy each other."""
        known = ", ".join(LEARNER_ARMS)
        self.require(_known(self.arms, LEARNER_ARMS), "arms", f"names of {known}")
        self.require(len(set(self.arms)) == len(self.arms), "arms", "each once")
        alone = len(self.arms) == 1 or not self.exchange_reports
        self.require(alone, "exchange_reports", "0 with several arms")


@dataclass(frozen=True)
class EvaluationConfig(Settings):
    """The comparison on held-out episodes."""

    seeds: Annotated[int, Range(1, SEEDS_EACH)] = 4
    """Seeds of the test split, each a stratum of the bootstrap."""
    episodes: Count = 256
    """Episodes per seed, played by every arm."""
    resamples: Count = 2000
    """Bootstrap samples behind each 95 % interval."""
    tail: Annotated[float, Range(above=0.0, most=1.0)] = 0.05
    """Share of worst episodes whose mean is the CVaR."""
    scenarios: tuple[str, ...] = ("default", "crowded", "high-base-fee")
    """Markets to compare in, see agents.scenarios; the first is the one reported first."""
    rules: tuple[str, ...] = ()
    """Rules of your own to compare beside the others, as MODULE:NAME, see agents.bidders.own_rules.
    """

    def check(self) -> None:
        """Scenarios that there are."""
        wanted = f"names of {', '.join(NAMES)}"
        self.require(_known(self.scenarios, NAMES), "scenarios", wanted)


@dataclass(frozen=True)
class StudiesConfig(Settings):
    """Tables beside the comparison: the learner, as BARE_AUCTIONS, where best bids are known."""

    hidden_competition: tuple[str, ...] = ()
    """Scenarios of agents.hidden_competition.study to train and compare in; empty: none."""
    hidden_competition_seeds: Count = 10
    """Trainings with history in each of them, seeds from 0."""
    stateless_seeds: Natural = 3
    """Trainings without history in each of them, seeds from 0."""
    steps: Count = 2_000_000
    """Auctions that each of these trainings bids in."""
    chains: Count = 256
    """Held-out chains of auctions on which all of them are compared."""
    known_bids: bool = False
    """Whether to hold bare auctions and the learner in them against auction theory."""

    def check(self) -> None:
        """Scenarios that there are, each once."""
        names, known = self.hidden_competition, hidden_competition.SCENARIOS
        there = not names or _known(names, known)
        self.require(there, "hidden_competition", f"names of {', '.join(known)}")
        self.require(len(set(names)) == len(names), "hidden_competition", "each once")


@dataclass(frozen=True)
class PricesConfig(Settings):
    """Reference prices: recorded bars, or the calibrated stand-in."""

    data: str = ""
    """Folder with bar files; empty: $MEVRL_DATA, and without it the stand-in."""
    stand_in_days: Count = 60
    """Days of stochastic-volatility bars when there is no folder."""
    test_from: str = ""
    """First day (UTC) that the forecaster does not learn from; empty: start of validation."""


@dataclass(frozen=True)
class RunConfig(Settings):
    """Where a run lives and what it may use."""

    folder: str = "runs"
    """Folder that holds all runs and the link `latest`."""
    name: str = ""
    """Name of this run's folder; empty: the start time."""
    seed: Natural = 0
    """Seed of everything random in the run."""
    workers: Natural = 0
    """Cores to train on; 0: all."""
    address: str = ""
    """Address of a Ray cluster that shares this folder; empty: this machine alone."""


@dataclass(frozen=True)
class TrainConfig(Settings):
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

    def check(self) -> None:
        """Refuse arms that the learner's settings do not allow."""
        arms, drawn = self.trials.arms, self.trials.randomise.count
        each = drawn <= self.ppo.num_envs
        self.require(each, "trials.randomise.count", f"at most {self.ppo.num_envs}, ppo.num_envs")
        here = not (drawn and self.ppo.rollout_workers)
        self.require(here, "ppo.rollout_workers", "0 with trials.randomise")
        remembers = any(LEARNER_ARMS[arm].lstm for arm in arms)
        lstm = self.ppo.lstm
        self.require(not (remembers and lstm), "trials.arms", "arms without an LSTM, or ppo.lstm 0")
        served = any(self.ppo.of_arm(arm).choice == ALL for arm in arms)
        wanted = "one with masking and all actions: policies are served with masks alone"
        self.require(served, "trials.arms", wanted)


def read_arguments(arguments: Sequence[str]) -> tuple[TrainConfig, Path | None]:
    """Configuration and the run to resume: YAML file first, then `--any.field value`.

    Without `--config` that of configs/train.yaml is read; a resumed run keeps its own configuration
    and takes no other argument. Raises ConfigError naming the key.
    """
    arguments = list(arguments)
    parser = settings_parser(
        TrainConfig,
        "python train.py",
        "Train a forecaster and a bidding policy, compare them, freeze the best.",
    )
    parser.add_argument("--resume", type=str, default="", help="continue this run, e.g. runs/NAME")
    resumed = [a for a in arguments if a == "--resume" or a.startswith("--resume=")]
    if not resumed:
        if not any(a == "--config" or a.startswith("--config=") for a in arguments):
            arguments = ["--config", str(DEFAULT_CONFIG), *arguments]
        return read_settings(parser, TrainConfig, arguments), None
    parsed = parser.parse_args(arguments)
    if len(arguments) > 3 - len(resumed[0].split("=")):
        raise ConfigError(f"--resume {parsed.resume}: a resumed run keeps its configuration")
    run = Path(parsed.resume)
    stored = run / "config.yaml"
    if not stored.is_file():
        raise ConfigError(
            f"--resume {run}: no run there ({stored} is missing); runs in {run.parent}: "
            f"{listed(run.parent)}"
        )
    return read_file(TrainConfig, stored), run


def config_from_dict(values: Mapping[str, Any], source: str) -> TrainConfig:
    """The configuration that `config_to_dict` wrote. Raises ConfigError naming source and key."""
    return settings_from_dict(TrainConfig, values, source)


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain lists, numbers and strings, as they go into YAML and JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _known(names: Sequence[str], known: Collection[str]) -> bool:
    """Whether there are names, and only known ones."""
    return len(names) > 0 and all(name in known for name in names)
