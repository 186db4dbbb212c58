"""Belief apart from bid in the market: networks that foretell the clearing bid and bid by expected
profit, beside the policy gradient and every fair rule, on the same held-out episodes.

python -m agents.belief --out FOLDER [--beliefs window,recurrent] [--belief-steps N] [--json FILE]
    [--config configs/train.yaml] [--any.field value]

Trains `trials.seeds` of each kind, the policy gradient for `trials.steps` decisions, beliefs for as
many or N. What is finished lies in FOLDER and
is not done again. Rules are tuned on validation episodes; nothing of a learner is chosen.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from agents.belief.market_forecasts import Forecast, forecast_of
from agents.bidders.arms import BAYES, NO_OP, POLICY
from agents.bidders.baselines import Bidder
from agents.bidders.clearing_laws import estimate_laws
from agents.config import ConfigError, PPOConfig, TrainConfig, config_to_dict
from agents.evaluate.held_out import HeldOut, Networks, play_held_out
from agents.learner.actor import actor_of
from agents.learner_arms import bidder_of
from agents.measures.intervals import (
    difference_over_trainings,
    iqm,
    ratio_over_trainings,
)
from agents.prices import paths_of
from agents.progress import Stages
from agents.runs import write_text
from agents.training.trial import Training, Trial, TrialInputs, reward_scale_eth
from envs.market.config import PricePaths

GRADIENT = "policy gradient"
FORMS = {"window": "WindowClearingBelief", "recurrent": "RecurrentClearingBelief"}
SCENARIO = "default"

Scores = NDArray[np.float64]  # [seeds, episodes], ETH per episode


class Study(NamedTuple):
    """What is trained and played, and where it is kept."""

    folder: Path
    config: TrainConfig
    forms: tuple[str, ...]
    belief_steps: int

    @property
    def kinds(self) -> dict[str, PPOConfig]:
        """Settings of each kind of learner."""
        ppo, revert_share = self.config.ppo, self.config.market.gas.revert_share
        beliefs = {f"belief, {form}": belief_of(ppo, form, revert_share) for form in self.forms}
        return {GRADIENT: ppo} | beliefs


class Trained(NamedTuple):
    """A finished training."""

    bidder: Bidder
    network: Any
    """Its torch module, of a belief."""


def belief_of(ppo: PPOConfig, form: str, revert_share: float) -> PPOConfig:
    """The settings of a learner, with a belief in the place of its network and loss.

    revert_share: what a lost public transaction pays of its gas and bid.
    """
    return replace(
        ppo,
        network=f"agents.belief.clearing_network:{FORMS[form]}",
        network_arguments={"revert_share": revert_share},
        loss="agents.belief.clearing_score:clearing_score",
    )


def study_of(
    folder: Path, config: TrainConfig, forms: Sequence[str], belief_steps: int = 0
) -> Study:
    """A study; belief_steps 0: as many as the policy gradient.

    Raises ConfigError for beliefs that are not there, a slot with several decisions, a learner that
    is a belief already, or a folder that holds another study.
    """
    unknown = [form for form in forms if form not in FORMS]
    if unknown or not forms:
        raise ConfigError(f"--beliefs {unknown or forms}: choose from {', '.join(FORMS)}")
    if config.market.ticks_per_slot != 1:
        raise ConfigError(
            f"market.ticks_per_slot is {config.market.ticks_per_slot}: give 1, for a belief bids "
            "as if every decision were the last of its slot"
        )
    if config.ppo.network or config.ppo.loss:
        raise ConfigError("ppo.network, ppo.loss: leave them out, the study sets them")
    if belief_steps < 0:
        raise ConfigError(f"--belief-steps is {belief_steps}: give decisions, or 0")
    belief_steps = belief_steps or config.trials.steps
    told: dict[str, Any] = config_to_dict(config) | {"belief_steps": belief_steps}
    told["trials"].pop("seeds")  # more of them may be added
    stored = folder / "config.json"
    if stored.is_file() and json.loads(stored.read_text()) != told:
        raise ConfigError(f"--out {folder}: holds a study of other settings; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    write_text(stored, json.dumps(told, indent=1))
    return Study(folder, config, tuple(forms), belief_steps)


def trained(study: Study, paths: PricePaths, stages: Stages) -> dict[str, dict[int, Trained]]:
    """All trainings by kind and seed; a finished one is read from its checkpoint."""
    config = study.config
    scale = reward_scale_eth(config.market, paths)
    found: dict[str, dict[int, Trained]] = {kind: {} for kind in study.kinds}
    for seed in range(config.run.seed, config.run.seed + config.trials.seeds):
        for kind, ppo in study.kinds.items():
            name = f"{kind.replace(', ', '-').replace(' ', '-')}-seed-{seed}"
            tensorboard = str(study.folder / "tb")
            steps = study.belief_steps if ppo.network else config.trials.steps
            trials = replace(config.trials, steps=steps)
            inputs = TrialInputs(config.market, paths, ppo, trials, scale, tensorboard)
            trial = Trial(name, seed, ppo.learning_rate, ppo.entropy)
            with stages.stage(name) as progress:
                training = Training(trial, inputs)
                _finish(training, study.folder / "trainings" / name, progress)
            training.close()
            policy: Any = training.model.policy
            bidder = bidder_of(actor_of(policy, ppo.blind), ppo.choice)
            found[kind][seed] = Trained(bidder, policy.network if ppo.network else None)
    return found


def _finish(training: Training, folder: Path, progress: Any) -> None:
    """Learn to the end and keep what was learned, or read what was kept."""
    if (folder / "files.json").is_file():
        training.load(folder)
        return
    while not training.finished:
        point = training.advance()
        note = f"{point['validation_iqm_eth']:.4f} ETH/episode"
        progress(training.model.num_timesteps, training.inputs.steps, note)
    folder.mkdir(parents=True, exist_ok=True)
    training.save(folder)


def played(
    study: Study, held_out: HeldOut, trainings: Mapping[str, Mapping[int, Trained]]
) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """Profit of the rules by name, and of all trainings [trainings, seeds, episodes] by kind."""
    flat = {f"{k}, {s}": t.bidder for k, found in trainings.items() for s, t in found.items()}
    first, *others = flat
    networks = Networks(flat[first], {}, {name: flat[name] for name in others})
    shape = held_out.config.seeds, held_out.config.episodes
    scores: dict[str, Scores] = {}
    for _, result in play_held_out(held_out, networks, folder=study.folder / "played"):
        scores |= {arm: found.tally.profit_eth.reshape(shape) for arm, found in result.items()}
    scores[first] = scores.pop(POLICY)
    learned = {
        kind: np.stack([scores.pop(f"{kind}, {seed}") for seed in found])
        for kind, found in trainings.items()
    }
    return scores, learned


def foretold(
    study: Study, held_out: HeldOut, trainings: Mapping[str, Mapping[int, Trained]]
) -> dict[str, Forecast]:
    """How good every belief is as a forecast, on the first seed of the test episodes."""
    world = held_out.of(SCENARIO)
    laws = estimate_laws(world.training, len(study.config.market.regimes.log_rate))
    return {
        f"{kind}, seed {seed}": forecast_of(one.network, laws, world.test, world.seeds[0])
        for kind, found in trainings.items()
        for seed, one in found.items()
        if one.network is not None
    }


def compared(
    rules: Mapping[str, Scores], learned: Mapping[str, Scores], resamples: int
) -> dict[str, Any]:
    """Each kind over the strongest rule and over the policy gradient, 95 % over trainings and
    episodes, paired by episode. The Bayes filter is a reference and no rule."""
    earned = {arm: float(iqm(found.ravel())) for arm, found in rules.items()}
    strongest = max((a for a in rules if a not in (BAYES, NO_OP)), key=lambda arm: earned[arm])
    kinds: dict[str, Any] = {}
    for kind, ours in learned.items():
        row: dict[str, Any] = {
            "iqm_eth": float(iqm(ours.ravel())),
            "by_training": [float(iqm(one.ravel())) for one in ours],
            "over_rule": ratio_over_trainings(ours, rules[strongest], iqm, resamples),
            "over_filter": ratio_over_trainings(ours, rules[BAYES], iqm, resamples),
        }
        if kind != GRADIENT:
            theirs = learned[GRADIENT]
            row["more_than_gradient_eth"] = difference_over_trainings(ours, theirs, iqm, resamples)
        kinds[kind] = row
    return {"strongest_rule": strongest, "rules": earned, "kinds": kinds}


def run(study: Study, stages: Stages, file: Path) -> dict[str, Any]:
    """The whole study, written to `file`."""
    torch.set_num_threads(1)
    paths = paths_of(study.folder, study.config, stages)
    trainings = trained(study, paths, stages)
    evaluation = replace(study.config.evaluation, scenarios=(SCENARIO,))
    held_out = HeldOut(study.config.market, paths, evaluation)
    with stages.stage("held-out episodes"):
        rules, learned = played(study, held_out, trainings)
    with stages.stage("forecasts"):
        forecasts = foretold(study, held_out, trainings)
    found = compared(rules, learned, evaluation.resamples)
    found |= {
        "forecasts": forecasts,
        "trainings": study.config.trials.seeds,
        "steps": study.config.trials.steps,
        "belief_steps": study.belief_steps,
        "episodes": evaluation.seeds * evaluation.episodes,
        "seed": study.config.run.seed,
    }
    write_text(file, json.dumps(found, indent=1, allow_nan=False) + "\n")
    return found


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The result in sentences; a belief that earns less says so."""
    rows = found["kinds"]
    lines = [
        f"{kind}: {row['iqm_eth']:.4f} ETH per episode (IQM), {_words(row['over_rule'])} times "
        f'"{found["strongest_rule"]}", {_words(row["over_filter"])} of the Bayes filter told the '
        f"laws of the regimes."
        for kind, row in rows.items()
    ]
    for kind, row in rows.items():
        if kind == GRADIENT:
            continue
        value, low, high = row["more_than_gradient_eth"]
        verdict = "is not shown to earn more or less than"
        if low > 0.0:
            verdict = "earns more than"
        elif high < 0.0:
            verdict = "earns LESS than"
        lines.append(
            f"{kind} {verdict} the policy gradient: {value:+.4f} ETH per episode "
            f"(95 % {low:+.4f} to {high:+.4f})."
        )
    for name, row in found["forecasts"].items():
        log_score, brier = row["log_score"], row["brier"]
        lines.append(
            f"{name}: log score {log_score['belief']:.4f} (law {log_score['law']:.4f}, filter "
            f"{log_score['filter']:.4f}), Brier {brier['belief']:.4f} (law {brier['law']:.4f}, "
            f"filter {brier['filter']:.4f}), calibration error {row['reliability']['error']:.4f}, "
            f"{row['auctions']} auctions"
        )
    return lines


def _words(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} ({interval[1]:.3f} to {interval[2]:.3f})"
