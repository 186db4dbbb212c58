"""Rollouts played by Ray processes for one learner, who overrides nothing but `collect_rollouts`.

Synchronous: the learner waits for a rollout played with its present weights. Asynchronous: it
learns from one rollout while the next is played, which is then one update stale. Either way a
rollout depends only on weights and on the state its market was left in, and that state comes back
with every rollout: a process that dies is replaced and plays the very same rollout again.
"""

import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from ray.exceptions import ObjectLostError, RayActorError
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.config import PPOConfig
from agents.learner.build import build, remembers
from agents.learner.ppo import ScheduledPPO
from agents.learner.recurrent import MaskableRecurrentPPO
from agents.learner.rollout_buffer import SortedRolloutBuffer
from agents.learner.rollout_sums import RolloutSums, SumsCallback
from agents.learner.shared_arrays import AVAILABLE, Arrays, Inbox, Outbox, Placed
from agents.learner.vecenv import MarketVecEnv
from agents.learner_arms import blind_columns
from envs.market.config import MarketConfig, PricePaths
from envs.vector import MarketVectorEnv

# Arrays of a rollout that come back as they are in the buffer, [slots, lanes, ...].
COPIED = (
    *("observations", "rewards", "returns", "episode_starts"),
    *("values", "log_probs", "advantages"),
)


# A process died, or its node, or the process before its first rollout was read.
LOST = (RayActorError, ObjectLostError, FileNotFoundError)


class Markets(NamedTuple):
    """What a process needs to set its markets up."""

    market: MarketConfig
    paths: PricePaths
    ppo: PPOConfig
    reward_scale_eth: float


class Rollout(NamedTuple):
    """A rollout of some lanes, and the state they were left in."""

    arrays: Arrays
    """Good until the next rollout but one of the same process."""
    sums: RolloutSums
    state: Arrays


class Parcel(NamedTuple):
    """A rollout as it travels: its arrays, and those of the state under names that begin with
    _STATE, or where a process of the same machine finds them."""

    content: Arrays | Placed
    sums: RolloutSums


_STATE = "state_"


def market_vecenv(markets: Markets, num_envs: int, seed: int) -> MarketVecEnv:
    """Training markets as the learner sees them."""
    env = MarketVectorEnv(num_envs, markets.market, markets.paths, split="train", seed=seed)
    ppo = markets.ppo
    columns = blind_columns(ppo.blind)
    return MarketVecEnv(env, markets.reward_scale_eth, ppo.reward_clip, columns, ppo.choice)


class RolloutWorker:
    """Plays the lanes of one process; runs inside a Ray actor."""

    def __init__(self, markets: Markets, lanes: int, seed: int, node: str) -> None:
        """node: the Ray node of the learner."""
        near = AVAILABLE and ray.get_runtime_context().get_node_id() == node
        self.outbox = Outbox() if near else None
        slots = markets.ppo.rollout_slots
        own = dataclasses.replace(
            markets.ppo,
            num_envs=lanes,
            minibatch=lanes * slots,
            rollout_workers=0,
            asynchronous=False,
            device="cpu",
        )
        self.venv = market_vecenv(markets, lanes, seed)
        self.model = build(self.venv, own, seed, steps=1)
        self.sums = SumsCallback()
        _, self.callback = self.model._setup_learn(1 << 60, self.sums)
        self.callback.on_training_start({}, {})

    def restore(self, state: Arrays) -> None:
        """Go on where a rollout ended."""
        self.venv.set_state(
            {k.removeprefix("env_"): v for k, v in state.items() if k.startswith("env_")}
        )
        self.model._last_obs = state["last_obs"].copy()
        self.model._last_episode_starts = state["last_episode_starts"].copy()
        if isinstance(self.model, MaskableRecurrentPPO):
            self.model.last_state = torch.from_numpy(state["recurrent_state"].copy())
        torch.set_rng_state(torch.from_numpy(state["torch_rng"].copy()))

    def play(self, weights: Arrays) -> Parcel:
        """One rollout with these weights of the policy."""
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in weights.items()}
        self.model.policy.load_state_dict(tensors)
        buffer = self.model.rollout_buffer
        self.model.collect_rollouts(self.venv, self.callback, buffer, buffer.buffer_size)
        arrays: Arrays = {name: getattr(buffer, name) for name in COPIED}
        arrays["actions"] = buffer.actions.astype(np.int16)
        arrays["masks"] = np.packbits(buffer.masks, axis=2)
        if isinstance(self.model, MaskableRecurrentPPO):
            arrays["initial_state"] = self.model.rollout_buffer.initial_state.numpy()
        content = arrays | {_STATE + name: array for name, array in self._state().items()}
        return Parcel(self._sent(content), self.sums.sums)

    def _sent(self, content: Arrays) -> Arrays | Placed:
        if self.outbox is not None:
            try:
                return self.outbox.place(content)
            except OSError:  # no memory is left for it: through Ray, which spills to disk
                self.outbox = None
        return content

    def _state(self) -> Arrays:
        state = {f"env_{name}": value for name, value in self.venv.state().items()}
        state["last_obs"] = np.asarray(self.model._last_obs)
        state["last_episode_starts"] = np.asarray(self.model._last_episode_starts)
        state["torch_rng"] = torch.get_rng_state().numpy()
        if isinstance(self.model, MaskableRecurrentPPO):
            state["recurrent_state"] = self.model.last_state.numpy()
        return state


class Crew:
    """The processes that play for one learner, and what is needed to replace any of them."""

    def __init__(self, markets: Markets, seed: int, max_failures: int) -> None:
        self.workers = markets.ppo.rollout_workers
        self.asynchronous = markets.ppo.asynchronous
        self.failures_left = max_failures
        self._lanes = markets.ppo.num_envs // self.workers
        self._seed = seed
        self._markets = ray.put(markets)
        self._node = ray.get_runtime_context().get_node_id()
        self._inboxes = [Inbox() for _ in range(self.workers)]
        self._states: list[Arrays | None] = [None] * self.workers
        self._weights: Arrays | None = None  # of the rollout that is being played
        self._played: list[Any] = []
        self._actors = [self._start(w) for w in range(self.workers)]

    def _start(self, worker: int) -> Any:
        # The seeds of one trial's processes must not be those of another trial.
        seed = self._seed * 1000 + worker
        actor = _ACTOR.remote(self._markets, self._lanes, seed, self._node)  # type: ignore[attr-defined]
        state = self._states[worker]
        if state is not None:
            actor.restore.remote(state)
        return actor

    def collect(self, weights: Arrays) -> list[Rollout]:
        """The next rollout of every process; blocks until it is there.

        Raises RuntimeError when processes die more than `max_failures` times in all.
        """
        if self._weights is None:
            self._request(weights)
        rollouts = [self._take(w) for w in range(self.workers)]
        self._states = [rollout.state for rollout in rollouts]
        self._weights = None
        if self.asynchronous:
            self._request(weights)
        return rollouts

    def _request(self, weights: Arrays) -> None:
        self._weights = weights
        self._sent = ray.put(weights)
        self._played = [actor.play.remote(self._sent) for actor in self._actors]

    def _take(self, worker: int) -> Rollout:
        while True:
            try:
                return self._opened(worker, ray.get(self._played[worker]))
            except LOST as error:
                if self.failures_left == 0:
                    raise RuntimeError(f"rollout process {worker} died again: {error}") from error
                self.failures_left -= 1
                ray.kill(self._actors[worker])
                self._actors[worker] = self._start(worker)
                self._played[worker] = self._actors[worker].play.remote(self._sent)

    def _opened(self, worker: int, parcel: Parcel) -> Rollout:
        content, sums = parcel
        if isinstance(content, Placed):
            content = self._inboxes[worker].read(content)
        arrays = {k: v for k, v in content.items() if not k.startswith(_STATE)}
        state = {k.removeprefix(_STATE): v for k, v in content.items() if k.startswith(_STATE)}
        return Rollout(arrays, sums, state)

    def pids(self) -> list[int]:
        """Process identifiers, for tests that kill."""
        return ray.get([actor.__ray_call__.remote(lambda _: os.getpid()) for actor in self._actors])

    def state(self) -> Arrays:
        """Everything that the coming rollouts depend on, besides the learner's weights."""
        arrays: Arrays = {}
        for worker, state in enumerate(self._states):
            arrays |= {f"worker{worker}_{k}": v for k, v in (state or {}).items()}
        arrays |= {f"stale_{k}": v for k, v in (self._weights or {}).items()}
        return arrays

    def set_state(self, arrays: Arrays) -> None:
        """Continue exactly where `state` was taken."""
        for worker in range(self.workers):
            prefix = f"worker{worker}_"
            state = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            self._states[worker] = state or None
            if state:
                self._actors[worker].restore.remote(state)
        stale = {k.removeprefix("stale_"): v for k, v in arrays.items() if k.startswith("stale_")}
        self._weights = None
        if stale:
            self._request(stale)

    def close(self) -> None:
        """End the processes."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


_ACTOR = ray.remote(num_cpus=1, max_restarts=0)(RolloutWorker)


class RemoteRollouts(ScheduledPPO):
    """A learner that reads the rollouts of its crew."""

    crew: Crew

    def collect_rollouts(  # type: ignore[override]
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: SortedRolloutBuffer,
        n_rollout_steps: int,
        use_masking: bool = True,
    ) -> bool:
        """Fill the buffer with the next rollout of the crew."""
        callback.on_rollout_start()
        rollouts = self.crew.collect(self._weights())
        rollout_buffer.reset()
        lanes = rollout_buffer.n_envs // len(rollouts)
        actions = rollout_buffer.masks.shape[2]
        for worker, rollout in enumerate(rollouts):
            part = slice(worker * lanes, (worker + 1) * lanes)
            arrays = rollout.arrays
            for name in COPIED:
                getattr(rollout_buffer, name)[:, part] = arrays[name]
            rollout_buffer.actions[:, part] = arrays["actions"]
            bits = np.unpackbits(arrays["masks"], axis=2, count=actions)
            rollout_buffer.masks[:, part] = bits.view(np.bool_)
        rollout_buffer.finish()
        self._take_states(rollouts)
        self.num_timesteps += rollout_buffer.buffer_size * rollout_buffer.n_envs
        rollout_sums = [rollout.sums for rollout in rollouts]
        callback.update_locals({"rollout_sums": rollout_sums})
        callback.on_rollout_end()
        return True

    def _weights(self) -> Arrays:
        # Copies: in the asynchronous mode they outlive the next update.
        return {k: v.cpu().numpy().copy() for k, v in self.policy.state_dict().items()}

    def _take_states(self, rollouts: list[Rollout]) -> None:
        """A policy without memory has none."""


class RemoteMaskablePPO(RemoteRollouts):
    """ScheduledPPO whose rollouts are played by other processes."""


class RemoteRecurrentPPO(RemoteRollouts, MaskableRecurrentPPO):
    """MaskableRecurrentPPO whose rollouts are played by other processes."""

    def _take_states(self, rollouts: list[Rollout]) -> None:
        states = [rollout.arrays["initial_state"] for rollout in rollouts]
        self.rollout_buffer.initial_state = self.tensor(np.concatenate(states, axis=1))


def build_remote(
    venv: MarketVecEnv, config: PPOConfig, seed: int, steps: int, crew: Crew
) -> RemoteRollouts:
    """A trainer as `agents.learner.build.build` makes it, fed by a crew; `venv` only tells the
    shape."""
    kind = RemoteRecurrentPPO if remembers(config) else RemoteMaskablePPO
    model = build(venv, config, seed, steps, kind)
    assert isinstance(model, RemoteRollouts)
    model.crew = crew
    return model
