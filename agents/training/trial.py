"""One training of a policy, in one process: learn, validate, save, continue.

Nothing here knows how trainings are spread over processes; agents.training.trials does.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.bidders.arms import play
from agents.bidders.baselines import greedy
from agents.config import PPOConfig, TrialsConfig
from agents.learner.actor import actor_of
from agents.learner.build import build
from agents.learner.mixture import MixedMarkets
from agents.learner.rollouts import Crew, Markets, build_remote, market_vecenv
from agents.learner.vecenv import MarketVecEnv
from agents.learner_arms import HISTORY, bidder_of, blind_columns
from agents.market_draws import drawn_markets
from agents.measures.intervals import iqm
from agents.training.checkpoints import load_checkpoint, load_weights, save_checkpoint
from agents.training.monitor import MarketMonitor, Settings
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv

# Validation episodes are the same in every round of every trial: the curves can be compared.
VALIDATION_SEED = 1
SCALE_ENVS, SCALE_SLOTS, SCALE_SEED = 512, 64, 2

Point = dict[str, float]


class Trial(NamedTuple):
    """One training to run; `name` is its folder."""

    name: str
    seed: int
    learning_rate: float
    entropy: float = 0.01
    arm: str = HISTORY


@dataclass(frozen=True)
class TrialInputs:
    """What all trials of a run share."""

    market: MarketConfig
    paths: PricePaths
    ppo: PPOConfig
    trials: TrialsConfig
    reward_scale_eth: float
    tensorboard: str

    def ppo_of(self, trial: Trial) -> PPOConfig:
        """The learner's settings of a trial."""
        arm = self.ppo.of_arm(trial.arm)
        return dataclasses.replace(arm, learning_rate=trial.learning_rate, entropy=trial.entropy)

    @property
    def steps_per_report(self) -> int:
        """Decisions between two checkpoints, in whole rollouts."""
        rollout = self.ppo.num_envs * self.ppo.rollout_slots
        return max(1, round(self.trials.steps / self.trials.reports / rollout)) * rollout

    @property
    def steps(self) -> int:
        """Decisions of one trial, in whole reports."""
        return self.steps_per_report * self.trials.reports


def planned_trials(config: TrialsConfig, ppo: PPOConfig, seed: int) -> list[Trial]:
    """One trial per arm, seed and learning rate; the names are the folders."""
    rates = config.learning_rates or (ppo.learning_rate,)
    return [
        Trial(
            ("" if arm == HISTORY else f"{arm}-") + f"seed-{seed + s}-rate-{rate:g}",
            seed + s,
            rate,
            ppo.entropy,
            arm,
        )
        for arm in config.arms
        for s in range(config.seeds)
        for rate in rates
    ]


def reward_scale_eth(market: MarketConfig, paths: PricePaths) -> float:
    """Root mean square of a slot's reward for always bidding 80 %, on training episodes, ETH.

    The learner divides by this constant. Playing also compiles the kernels before the trials
    start, which then find them in the cache.
    """
    env = MarketVectorEnv(SCALE_ENVS, market, paths, split="train", seed=SCALE_SEED)
    observations, _ = env.reset(seed=SCALE_SEED)
    bidder, squares = greedy(0.8), 0.0
    for _ in range(SCALE_SLOTS):
        observations, rewards, *_ = env.step(bidder(observations, env.action_masks()))
        squares += float(np.mean(np.square(rewards)))
    return max(float(np.sqrt(squares / SCALE_SLOTS)), 1e-6)


class Training:
    """A learner with its markets, its validation episodes and its curve.

    With ppo.rollout_workers its rollouts come from Ray processes: Ray must be running. With
    trials.randomise its lanes are split over drawn markets; the validation episodes are those of
    the run's own market, so that curves can be compared.
    """

    def __init__(self, trial: Trial, inputs: TrialInputs) -> None:
        ppo = self.ppo = inputs.ppo_of(trial)
        markets = Markets(inputs.market, inputs.paths, ppo, inputs.reward_scale_eth)
        self.trial = trial
        self.inputs = inputs
        if inputs.trials.randomise.count:
            self.venv = _mixed_vecenv(markets, inputs, trial.seed)
        else:
            self.venv = market_vecenv(markets, ppo.num_envs, trial.seed)
        self.crew: Crew | None = None
        if ppo.rollout_workers:
            self.crew = Crew(markets, trial.seed, inputs.trials.max_failures)
            self.model = build_remote(self.venv, ppo, trial.seed, inputs.steps, self.crew)
        else:
            self.model = build(self.venv, ppo, trial.seed, inputs.steps)
        self.validation = MarketVectorEnv(
            inputs.trials.validation_envs, inputs.market, inputs.paths, split="validation"
        )
        self.monitor = MarketMonitor(Path(inputs.tensorboard) / trial.name)
        self.monitor.record_settings(_settings(trial, ppo))
        self.curve: list[Point] = []

    @property
    def finished(self) -> bool:
        """Whether all steps have been learned from."""
        return self.model.num_timesteps >= self.inputs.steps

    def advance(self) -> Point:
        """Learn until the next report, then play the validation episodes; the new curve point."""
        started = time.perf_counter()
        steps = self.inputs.steps_per_report
        self.model.learn(steps, callback=self.monitor, reset_num_timesteps=False)
        seconds = time.perf_counter() - started
        network = actor_of(self.model.policy, self.ppo.blind)
        bidder = bidder_of(network, self.ppo.choice)
        tally = play(bidder, self.validation, VALIDATION_SEED)
        point = {
            "steps": self.model.num_timesteps,
            "validation_iqm_eth": float(iqm(tally.profit_eth)),
            "validation_share": tally.ratios()["share_of_best_response"],
            "steps_per_s": steps / seconds,
        }
        self.curve.append(point)
        self.monitor.record_validation(point)
        return point

    def save(self, folder: Path) -> None:
        """Learner and curve; the list of files comes last and proves that all are there."""
        save_checkpoint(self.model, self.venv, folder)
        (folder / "curve.json").write_text(json.dumps(self.curve))
        (folder / "trial.json").write_text(json.dumps(self.trial._asdict()))
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        (folder / "files.json").write_text(json.dumps(sizes))

    def load(self, folder: Path) -> None:
        """Continue bit for bit where `save` was called.

        From the checkpoint of another trial only what was learned is taken: own markets, own rates.
        """
        if json.loads((folder / "trial.json").read_text())["name"] == self.trial.name:
            load_checkpoint(self.model, self.venv, folder)
        else:
            load_weights(self.model, folder)
        self.curve = json.loads((folder / "curve.json").read_text())
        self.monitor.rewind(self.model.num_timesteps)

    def close(self) -> None:
        """Flush TensorBoard and end the rollout processes."""
        self.monitor.close()
        if self.crew is not None:
            self.crew.close()


def _mixed_vecenv(markets: Markets, inputs: TrialInputs, seed: int) -> MarketVecEnv:
    """Markets drawn around the one of the run, as the learner sees them."""
    ppo = markets.ppo
    drawn = drawn_markets(markets.market, inputs.trials.randomise)
    env = MixedMarkets(ppo.num_envs, drawn, markets.paths, "train", seed)
    columns = blind_columns(ppo.blind)
    return MarketVecEnv(env, markets.reward_scale_eth, ppo.reward_clip, columns, ppo.choice)


def _settings(trial: Trial, ppo: PPOConfig) -> Settings:
    """Hyper-parameters as TensorBoard compares trials by."""
    values: Settings = {
        name: value if isinstance(value, int | float | str) else "-".join(map(str, value))
        for name, value in dataclasses.asdict(ppo).items()
        if not isinstance(value, dict)
    }
    for given in (ppo.network_arguments, ppo.loss_arguments):
        values |= {name: str(value) for name, value in given.items()}
    return values | {"seed": trial.seed, "arm": trial.arm}
