"""Plays the held-out episodes of all scenarios: independent tasks, spread over processes, kept.

A task plays one arm, or tunes and plays it. What is finished lies in a folder under a hash of all
that it depends on (prices, market, episodes, settings, weights) and is not played again.
"""

import hashlib
import json
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from agents.bidders.arms import (
    ADAPTIVE,
    FIXED,
    NO_OP,
    POLICY,
    STATIC,
    STATIC_BY_VALUE,
    VALIDATION_SEED,
    Watch,
    play,
    sweep_static,
    tuned_adaptive,
    with_public,
)
from agents.bidders.baselines import Bidder, Remembering, no_op
from agents.bidders.channels import NO_PUBLIC
from agents.bidders.own_rules import OwnRule, load_rules, tuned_rule
from agents.bidders.tuning import Tuned
from agents.config import EvaluationConfig
from agents.measures.bid_curve import BidCurve
from agents.measures.tally import Tally, joined
from agents.processes import as_finished
from agents.scenarios import first_seed, world_of
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv
from history.files import write_atomically

Sums = TypeVar("Sums", Tally, BidCurve)


class World(NamedTuple):
    """Episodes of one scenario: seeds of the test split, none of which another scenario has."""

    market: MarketConfig
    validation: MarketVectorEnv
    test: MarketVectorEnv
    training: MarketVectorEnv  # for the laws that rules learn there
    seeds: range

    def play(self, bidder: Bidder, watch: Watch | None = None) -> Tally:
        """All test episodes, seed by seed."""
        return joined([play(bidder, self.test, seed, watch) for seed in self.seeds])


class HeldOut:
    """Validation and test episodes of every scenario; keeps the world that it built last."""

    def __init__(self, market: MarketConfig, paths: PricePaths, config: EvaluationConfig) -> None:
        self.market, self.paths, self.config = market, paths, config
        self._last: tuple[str, World] | None = None

    def of(self, scenario: str) -> World:
        """The world of a scenario. Raises ValueError for one that cannot be played."""
        if self._last is None or self._last[0] != scenario:
            self._last = None  # two at once would double the memory
            market, paths = world_of(scenario, self.market, self.paths)
            validation, test, training = (
                MarketVectorEnv(self.config.episodes, market, paths, split=split)
                for split in ("validation", "test", "train")
            )
            first = first_seed(scenario)
            seeds = range(first, first + self.config.seeds)
            world = World(market, validation, test, training, seeds)
            self._last = scenario, world
        return self._last[1]


class Found(NamedTuple):
    """What a task found of one arm on the test episodes, and what validation chose for it."""

    tally: Tally
    setting: str = ""
    tried: int = 0
    scores_eth: Sequence[float] = ()
    """Validation IQM of every fraction of the grid, of STATIC."""
    public: int = NO_PUBLIC
    """Entry of the public grid that validation chose, of STATIC."""
    curve: BidCurve | None = None
    """Of the policy."""


Result = dict[str, Found]  # by arm


class Task(NamedTuple):
    """What one process plays at a time; `name` is that of the arm, or of the first one."""

    scenario: str
    name: str
    job: Callable[[World], Result]


def _policy(bidder: Bidder, world: World) -> Result:
    curve = BidCurve(regimes=len(world.market.regimes.log_rate))
    return {POLICY: Found(world.play(bidder, curve.watch), curve=curve)}


def _network(name: str, bidder: Bidder, world: World) -> Result:
    return {name: Found(world.play(bidder))}


def _training(name: str, bidder: Bidder, world: World) -> Result:
    """Its profit alone is kept: of an arm's many trainings nothing else is asked."""
    profit_eth = world.play(bidder).profit_eth
    kept = Tally(profit_eth.size)
    kept.profit_eth = profit_eth
    return {name: Found(kept)}


def _fixed(arm: str, public: int, world: World) -> Result:
    return {arm: Found(world.play(with_public(FIXED[arm](world.market), public)))}


def _no_op(world: World) -> Result:
    return {NO_OP: Found(world.play(no_op))}


def _static(world: World) -> Result:
    sweep = sweep_static(world.validation)
    found = _played(sweep.best_static, world)
    return {
        STATIC: found._replace(scores_eth=sweep.scores_eth, public=sweep.public),
        STATIC_BY_VALUE: _played(sweep.by_value, world),
    }


def _adaptive(arm: str, fallback: int, public: int, world: World) -> Result:
    tuned = tuned_adaptive(arm, fallback, public, world.validation, world.training)
    return {arm: _played(tuned, world)}


def _rule(rule: OwnRule, world: World) -> Result:
    return {rule.name: _played(tuned_rule(rule.path, world.market, world.validation), world)}


def _played(tuned: Tuned, world: World) -> Found:
    return Found(world.play(tuned.bidder), tuned.setting, tuned.tried)


class Networks(NamedTuple):
    """Learned bidders, each once: the policy, other arms and other trainings by name."""

    policy: Bidder
    arms: dict[str, Bidder]
    trainings: dict[str, Bidder]


def _first_tasks(scenario: str, networks: Networks, rules: Sequence[OwnRule]) -> list[Task]:
    """What waits for nothing, the longest first."""
    jobs = (
        {STATIC: _static, POLICY: partial(_policy, networks.policy)}
        | {name: partial(_network, name, b) for name, b in networks.arms.items()}
        | {name: partial(_training, name, b) for name, b in networks.trainings.items()}
        | {rule.name: partial(_rule, rule) for rule in rules}
        | {NO_OP: _no_op}
    )
    return [Task(scenario, name, job) for name, job in jobs.items()]


def _next_tasks(task: Task, result: Result) -> list[Task]:
    """What begins with the result of a task."""
    if task.name != STATIC:
        return []
    fallback, public = int(np.argmax(result[STATIC].scores_eth)), result[STATIC].public
    jobs = {arm: partial(_adaptive, arm, fallback, public) for arm in ADAPTIVE}
    jobs |= {arm: partial(_fixed, arm, public) for arm in FIXED}
    return [Task(task.scenario, arm, job) for arm, job in jobs.items()]


def tasks_each(networks: Networks, rules: Sequence[str] = ()) -> int:
    """Tasks of one scenario; rules: those of one's own."""
    learned = 1 + len(networks.arms) + len(networks.trainings)
    return 2 + learned + len(rules) + len(FIXED) + len(ADAPTIVE)


def play_held_out(
    held_out: HeldOut,
    networks: Networks,
    workers: int = 1,
    folder: Path | None = None,
) -> Iterator[tuple[str, Result]]:
    """(scenario, result) of every task, as they finish; what lies in `folder` comes first.

    All scripted arms and the rules of the configuration play beside the networks, which must be
    picklable with several workers or a folder.
    """
    for bidder in (networks.policy, *networks.arms.values(), *networks.trainings.values()):
        if isinstance(bidder, Remembering):
            bidder.restart()  # what it remembers does not belong to it
    store = None if folder is None else _Store(folder, held_out)
    rules = load_rules(held_out.config.rules)
    waiting = deque(
        task for name in held_out.config.scenarios for task in _first_tasks(name, networks, rules)
    )
    open_: list[Task] = []
    while waiting:
        task = waiting.popleft()
        kept = None if store is None else store.read(task)
        if kept is None:
            open_.append(task)
        else:
            waiting.extend(_next_tasks(task, kept))
            yield task.scenario, kept

    def arguments(tasks: Sequence[Task]) -> dict[Task, tuple[Task]]:
        return {task: (task,) for task in tasks}

    def then(task: Task, result: Result) -> dict[Task, tuple[Task]]:
        return arguments(_next_tasks(task, result))

    for task, result in as_finished(_run, arguments(open_), workers, (held_out,), then):
        if store is not None:
            store.write(task, result)
        yield task.scenario, result


def _run(held_out: HeldOut, task: Task) -> Result:
    return task.job(held_out.of(task.scenario))


class _Store:
    """Finished tasks in files, named by a hash of all that their results depend on."""

    def __init__(self, folder: Path, held_out: HeldOut) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.worlds = {name: _hash_of_world(held_out, name) for name in held_out.config.scenarios}
        self.files: dict[Task, Path] = {}

    def file(self, task: Task) -> Path:
        """Where the result of a task lies, if it does; asked before its bidder remembers."""
        if task not in self.files:
            key = hashlib.sha256(self.worlds[task.scenario] + pickle.dumps(task.job)).hexdigest()
            self.files[task] = self.folder / f"{task.scenario}-{key[:24]}.npz"
        return self.files[task]

    def read(self, task: Task) -> Result | None:
        """The result of a task, None if it is not there."""
        if not self.file(task).is_file():
            return None
        with np.load(self.file(task)) as stored:
            result = {}
            described = enumerate(json.loads(str(stored["arms"])))
            for k, (arm, slots, regimes, setting, tried, scores_eth, public) in described:
                tally = _filled(Tally(0), stored, f"{k}.tally.")
                tally.slots = slots
                curve = _filled(BidCurve(regimes), stored, f"{k}.curve.") if regimes else None
                result[arm] = Found(tally, setting, tried, scores_eth, public, curve)
        return result

    def write(self, task: Task, result: Result) -> None:
        """Keep a result; the file is there whole or not at all."""
        arms, arrays = [], {}
        for k, (arm, (tally, *chosen, curve)) in enumerate(result.items()):
            arms.append([arm, tally.slots, curve.regimes if curve else 0, *chosen])
            arrays |= _arrays_of(tally, f"{k}.tally.")
            arrays |= _arrays_of(curve, f"{k}.curve.") if curve else {}
        arrays["arms"] = np.array(json.dumps(arms))
        write_atomically(self.file(task), lambda file: np.savez_compressed(file, **arrays))


def _arrays_of(sums: Tally | BidCurve, prefix: str) -> dict[str, Any]:
    return {f"{prefix}{k}": v for k, v in vars(sums).items() if isinstance(v, np.ndarray)}


def _filled(sums: Sums, stored: Mapping[str, Any], prefix: str) -> Sums:
    for key in _arrays_of(sums, prefix):
        setattr(sums, key.removeprefix(prefix), stored[key])
    return sums


def _hash_of_world(held_out: HeldOut, scenario: str) -> bytes:
    """Of everything in a scenario that the profit of a bidder depends on, but for this code."""
    market, paths = world_of(scenario, held_out.market, held_out.paths)
    config = held_out.config
    episodes = scenario, config.seeds, config.episodes, VALIDATION_SEED
    world = hashlib.sha256(repr((market, episodes)).encode())
    for array in (paths.log_price, paths.slot_sigma, paths.forecast, paths.segment):
        world.update(array.tobytes())
    for array in paths.recorded:
        world.update(array.tobytes())
    return world.digest()
