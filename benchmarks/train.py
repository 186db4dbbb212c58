"""Training steps per second of our learners over the native market, beside those of the libraries.

Everybody plays the same market with networks of the same shape on one thread, a round each in
turn. A speed is that of the best round, a ratio the median over the rounds, both in processor time,
but for rollout processes: in step they make the learner wait, out of step their rollouts are one
update stale. The compiled kernels are held against plain torch, as a whole and each part alone,
over more and shorter rounds.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents.config import PPOConfig
from agents.learner.build import arguments_of, build
from agents.learner.rollouts import Crew, Markets, build_remote
from agents.learner.vecenv import MarketVecEnv
from agents.training.ray_session import ray_session
from benchmarks.harness import Measurement, check
from envs.market.config import MarketConfig, PricePaths
from envs.market.paths import stand_in_paths
from envs.searcher import Searcher
from envs.vector import MarketVectorEnv
from models.policy.masked import network_of

SEED = 5
MARKET = MarketConfig(era="rich", ticks_per_slot=3)  # what this benchmark has always measured
DEFAULT_LANES = 8
RECURRENT = PPOConfig(learning_rate=1e-3, num_envs=256, rollout_slots=32, minibatch=4096, lstm=64)
# Settings and slots per episode. RecurrentPPO steps through time in Python when an episode ends
# inside a rollout; episodes of 256 slots never do.
RECURRENTS = {
    "one LSTM": (RECURRENT, 256),
    "two LSTMs": (dataclasses.replace(RECURRENT, critic_lstm=True), 256),
    "one LSTM, 40 slots": (RECURRENT, 40),
}
# Rollout processes, whether one update stale, and the aim in speed over a learner without any.
REMOTES = {
    "one rollout process in step": (1, False, 0.9),
    "two rollout processes in step": (2, False, 0.9),
    "one rollout process out of step": (1, True, 1.25),
}
# What compiled kernels must earn to stay: all of them, and each part beside the others.
WHOLE_EARNS, PART_EARNS = 1.5, 1.15
PARTS = ("acting by torch", "gradients by torch")
# A part decides by some percent, of which three rounds tell nothing on a machine that others use.
PART_ROUNDS, PART_UPDATES = 12, 2
Model = Any


def market(
    paths: PricePaths, num_envs: int, episode_slots: int = MARKET.episode_slots
) -> MarketVecEnv:
    """Training markets of MARKET, but for the length of episodes."""
    config = dataclasses.replace(MARKET, episode_slots=episode_slots)
    return MarketVecEnv(MarketVectorEnv(num_envs, config, paths, seed=SEED))


def library(kind: Any, policy: str, venv: VecEnv, config: PPOConfig) -> Model:
    """A learner of the libraries with our settings and its own networks and buffers."""
    arguments = arguments_of(config, SEED)
    del arguments["policy_kwargs"]["optimizer_kwargs"]  # fused Adam is ours
    if kind is RecurrentPPO:
        memory = {"lstm_hidden_size": config.lstm, "enable_critic_lstm": config.critic_lstm}
        arguments["policy_kwargs"] |= memory
    return kind(policy, venv, **arguments)


def part_by_torch(venv: MarketVecEnv, part: str) -> Model:
    """Our learner with one part of the compiled kernels left out."""
    model: Any = build(venv, PPOConfig(), SEED, 1 << 30)
    engine, name = model.engine, "act" if part == PARTS[0] else "gradients"
    usual = getattr(model, name)

    def by_torch(*arguments: Any) -> Any:
        model.engine = None
        try:
            found = usual(*arguments)
            # A generator runs while it is read.
            yield from found
        finally:
            model.engine = engine

    setattr(model, name, by_torch if name == "gradients" else lambda *a: tuple(by_torch(*a)))
    return model


class Contender:
    """A learner that is timed."""

    def __init__(self, model: Model, updates: int) -> None:
        self.model = model
        self.updates = updates
        self.update_share = 0.0
        """Of the last round."""
        model.set_logger(Logger(None, []))
        self._rollout_steps = model.n_steps * model.n_envs
        self._train, self._update_s, self._clock = model.train, 0.0, time.process_time
        model.train = self._timed

    def _timed(self) -> None:
        begin = self._clock()
        self._train()
        self._update_s += self._clock() - begin

    def play(self, clock: Callable[[], float] = time.process_time, updates: int = 0) -> float:
        """Steps per second of a round of `updates` (0: its own number), after one more update that
        is not counted.
        """
        updates = updates or self.updates
        self.model.learn(self._rollout_steps, reset_num_timesteps=False)
        self._update_s, self._clock = 0.0, clock
        begin = clock()
        self.model.learn(self._rollout_steps * updates, reset_num_timesteps=False)
        seconds = clock() - begin
        self.update_share = self._update_s / seconds
        return self._rollout_steps * updates / seconds


def in_turns(
    contenders: dict[str, Contender],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
    updates: int = 0,
) -> dict[str, list[float]]:
    """Steps per second of every round, by name."""
    played = [
        {name: c.play(clock, updates) for name, c in contenders.items()} for _ in range(rounds)
    ]
    return {name: [speeds[name] for speeds in played] for name in contenders}


def check_learning(model: Model) -> None:
    """Every layer moves, to finite weights, and a rollout is scored as it was played."""
    before = network_of(model.policy).layers
    model.learn(model.n_steps * model.n_envs, reset_num_timesteps=False)
    after = network_of(model.policy).layers
    moved = all(not np.array_equal(a[0], b[0]) for a, b in zip(before, after))
    finite = all(np.isfinite(weight).all() for weight, _ in after)
    check(moved and finite, "training left a layer unchanged or made it infinite")
    _, callback = model._setup_learn(1 << 60, None, False)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    with torch.no_grad():
        for batch in model.rollout_buffer.get(model.batch_size):
            gap = float((model.evaluate(batch)[1] - batch.old_log_p).abs().max())
            check(gap < 1e-4, f"log probabilities of a rollout differ by {gap:.2g} when learned")


def check_against_library(model: Model, other: MaskablePPO) -> None:
    """Same probabilities and entropies as sb3-contrib for the weights and masks of a rollout."""
    other.policy.load_state_dict(model.policy.state_dict())
    buffer = model.rollout_buffer
    with torch.no_grad():
        observations = torch.from_numpy(buffer.observations[-1])
        actions, masks = torch.from_numpy(buffer.actions[-1]), buffer.masks[-1]
        ours = model.policy.evaluate_actions(observations, actions, action_masks=masks)
        theirs = other.policy.evaluate_actions(observations, actions, action_masks=masks)
    gap = max(float((a - b).abs().max()) for a, b in zip(ours, theirs) if b is not None)
    check(gap < 1e-4, f"the policy differs from sb3-contrib's by {gap:.2g}")


@contextmanager
def processes(paths: PricePaths, wanted: bool) -> Iterator[Callable[[PPOConfig], Model]]:
    """Builds learners with rollout processes, and ends these processes."""
    crews: list[Crew] = []

    def make(config: PPOConfig) -> Model:
        crew = Crew(Markets(MARKET, paths, config, 1.0), SEED, max_failures=0)
        crews.append(crew)
        return build_remote(market(paths, config.num_envs), config, SEED, 1 << 30, crew)

    if not wanted:
        yield make
        return
    with ray_session(sum(workers for workers, _, _ in REMOTES.values())):
        yield make
        for crew in crews:
            crew.close()


def contenders(
    paths: PricePaths, quick: bool, remote: Callable[[PPOConfig], Model]
) -> dict[str, Contender]:
    """All learners, by name."""
    config, updates = PPOConfig(learning_rate=1e-3), 2 if quick else 6
    lanes: list[Any] = [
        lambda i=i: Searcher(paths=paths, seed=SEED + i) for i in range(DEFAULT_LANES)
    ]
    n_steps = 256 if quick else 2048
    ours = build(market(paths, config.num_envs), config, SEED, 1 << 30)
    stock = library(MaskablePPO, "MlpPolicy", market(paths, config.num_envs), config)
    plain = dataclasses.replace(config, compiled=False)
    torch_alone = build(market(paths, config.num_envs), plain, SEED, 1 << 30)
    for model in (ours, torch_alone):
        check_learning(model)
        check_against_library(model, stock)
    check(ours.engine is not None and torch_alone.engine is None, "not the ways to compare")
    defaults = PPO("MlpPolicy", DummyVecEnv(lanes), n_steps=n_steps, seed=SEED, device="cpu")
    found = {
        "ours": Contender(ours, updates),
        "torch": Contender(torch_alone, updates),
        **{
            name: Contender(part_by_torch(market(paths, config.num_envs), name), updates)
            for name in PARTS
        },
        "MaskablePPO": Contender(stock, 1 if quick else 2),
        "defaults": Contender(defaults, 1),
    }
    for name, (shape, slots) in RECURRENTS.items():
        model = build(market(paths, shape.num_envs, slots), shape, SEED, 1 << 30)
        check_learning(model)
        found[name] = Contender(model, 2 if quick else 8)
        venv = market(paths, shape.num_envs, slots)
        other = library(RecurrentPPO, "MlpLstmPolicy", venv, shape)
        found[f"RecurrentPPO, {name}"] = Contender(other, 2 if quick else 8)
    if not quick:
        for name, (workers, stale, _) in REMOTES.items():
            own = dataclasses.replace(config, rollout_workers=workers, asynchronous=stale)
            found[name] = Contender(remote(own), updates)
    return found


def run(quick: bool) -> list[Measurement]:
    """One thread per process; the rollout processes are measured on the long run only."""
    torch.set_num_threads(1)
    paths = stand_in_paths()
    with processes(paths, not quick) as remote:
        found = contenders(paths, quick, remote)
        remotes = {name: found.pop(name) for name in REMOTES if name in found}
        speeds = in_turns(found, 1 if quick else 3)
        compiled = {name: found[name] for name in ("ours", "torch", *PARTS)}
        part_speeds = in_turns(compiled, 2 if quick else PART_ROUNDS, updates=PART_UPDATES)
        if remotes:
            remote_speeds = in_turns({"ours": found["ours"], **remotes}, 7, time.perf_counter)
    share = f"{found['ours'].update_share:.0%} of it gradient updates"
    rows = _table(speeds, part_speeds, share)
    for name in remotes:
        target = REMOTES[name][2]
        rows.append(_ratio(f"{name} / none", remote_speeds[name], remote_speeds["ours"], target))
    return rows


def _table(
    speeds: dict[str, list[float]], parts: dict[str, list[float]], share: str
) -> list[Measurement]:
    best = {name: max(of_rounds) for name, of_rounds in speeds.items()}
    config = PPOConfig(learning_rate=1e-3)
    note = f"{config.num_envs} markets, minibatch {config.minibatch}, {config.epochs} epochs"
    memory = f"{RECURRENT.num_envs} markets, {RECURRENT.lstm} units"
    rows = [
        Measurement("PPO with masks", best["ours"], "steps/s", f"{note}; {share}", at_least=90_000),
        Measurement("MaskablePPO, same settings", best["MaskablePPO"], "steps/s", note),
        Measurement("PPO, library defaults", best["defaults"], "steps/s", "8 single markets"),
        _ratio("torch alone / MaskablePPO", speeds["torch"], speeds["MaskablePPO"], 4.0),
        _ratio("PPO with masks / MaskablePPO", speeds["ours"], speeds["MaskablePPO"]),
        _ratio("compiled / torch alone", parts["ours"], parts["torch"], WHOLE_EARNS),
        *(_ratio(f"compiled / {part}", parts["ours"], parts[part], PART_EARNS) for part in PARTS),
        _ratio("PPO with masks / defaults", speeds["ours"], speeds["defaults"], 25.0),
    ]
    for name in RECURRENTS:
        other = f"RecurrentPPO, {name}"
        both = f"MaskableRecurrentPPO / {other}"
        rows += [
            Measurement(f"MaskableRecurrentPPO, {name}", best[name], "steps/s", memory),
            Measurement(f"{other}, same settings", best[other], "steps/s", memory),
            _ratio(both, speeds[name], speeds[other]),
        ]
    return rows


def _ratio(
    name: str, ours: list[float], theirs: list[float], at_least: float | None = None
) -> Measurement:
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return Measurement(name, ratio, "ratio", at_least=at_least)
