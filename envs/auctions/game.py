"""The bare auctions as a compiled vector environment and as a PettingZoo parallel environment.

What the market's auction is without a market: self-play, and learners whose optimum is known in
closed form (envs/auctions/equilibrium.py).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from envs.auctions.equilibrium import CommonValue, LogNormalLaw, PowerLaw, Rivals, StationaryRivals
from envs.auctions.keyed_lanes import KeyedLanes
from envs.auctions.rules import (
    EPISODE,
    FEATURES,
    GAME_COLUMNS,
    FirstPriceTable,
    Games,
    Rules,
    observe,
    play,
    rules_of_common_value,
    rules_of_first_price,
    rules_of_stationary,
    start,
)
from kernels.checked_arrays import as_floats

REWARDS = ("profit", "share")
OUTCOMES = ("won", "bid", "value", "top_other")
OBSERVATION_LIMIT = 8.0
OBSERVED_MOST = 1e30  # beyond any value of an auction, and finite


def linear_fractions(bins: int = 64) -> tuple[float, ...]:
    """Bids as shares of the value, equally spaced on [0, 1]."""
    return tuple(np.linspace(0.0, 1.0, bins).tolist())


def log_gap_fractions(bins: int = 64, smallest: float = 0.005) -> tuple[float, ...]:
    """Bids as shares of the value, 0 first and then log-spaced in 1 - f down to `smallest`."""
    return tuple((1.0 - np.geomspace(1.0, smallest, bins)).tolist())


@dataclass(frozen=True)
class AuctionGame:
    """Which auction is played, by how many learners, against which scripted rivals.

    | prize | scripted rivals | a learner's bid |
    |---|---|---|
    | PowerLaw, LogNormalLaw: iid values | `rivals`, bidding the equilibrium | fraction * value |
    | CommonValue: losers pay | its players beyond the learners, mixing | fraction * (value - gas) |
    | StationaryRivals: value 1 | its own: Beta shares, each joins or not | fraction |

    Learners that do not join an auction may only abstain. Raises ValueError for combinations whose
    scripted rivals would have no equilibrium to bid.
    """

    prize: PowerLaw | LogNormalLaw | CommonValue | StationaryRivals
    learners: int = 1
    rivals: Rivals = Rivals()  # noqa: RUF009 - frozen
    join: float = 1.0
    """Chance that a learner is in an auction at all: the others then face a random number."""
    rival_abstain: float | None = None
    """CommonValue: how often scripted rivals stay out, if not the equilibrium's q."""
    flat_z: tuple[float, float] | None = None
    """LogNormalLaw: learners' (ln v - mean) / sd is uniform here; rivals keep the true law.

    Each value's best bid stays the same, and rare large values are met often enough to be learnt.
    """
    fractions: tuple[float, ...] = linear_fractions()

    def __post_init__(self) -> None:
        """Name the field that makes the game impossible."""
        grid = np.asarray(self.fractions, np.float64)
        rising = grid.ndim == 1 and grid.size >= 2 and bool(np.all(np.diff(grid) > 0.0))
        if not (rising and grid[0] >= 0.0 and grid[-1] <= 1.0):
            raise ValueError("fractions: at least two, increasing, within [0, 1]")
        if not 1 <= self.learners <= 64 or not 0.0 < self.join <= 1.0:
            raise ValueError(
                f"learners {self.learners}, join {self.join}: 1 to 64, and a probability above 0"
            )
        private = isinstance(self.prize, (PowerLaw, LogNormalLaw))
        scripted = self.rivals != Rivals()
        if scripted and not private:
            raise ValueError(f"rivals {self.rivals}: {self.prize} brings its own")
        if private and scripted and (self.join < 1.0 or (self.learners > 1 and self.rivals.rate)):
            raise ValueError(
                f"rivals {self.rivals} beside {self.learners} learners that join with {self.join}: "
                "scripted rivals bid the equilibrium of a fixed number of bidders, or of a Poisson "
                "number beside one learner; let learners join always, or leave rivals out"
            )
        if private and not scripted and self.learners < 2:
            raise ValueError("one learner without rivals: give rivals, or more learners")
        if isinstance(self.prize, StationaryRivals) and self.learners > 1:
            raise ValueError(f"learners {self.learners}: stationary rivals face one learner")
        if isinstance(self.prize, CommonValue) and self.learners > self.prize.players:
            raise ValueError(f"learners {self.learners}: the game has {self.prize.players} players")
        if self.flat_z and not (
            isinstance(self.prize, LogNormalLaw) and -8.0 < self.flat_z[0] < self.flat_z[1] < 8.0
        ):
            raise ValueError(f"flat_z {self.flat_z}: an interval within (-8, 8), lognormal only")
        if self.rival_abstain is not None and not (
            isinstance(self.prize, CommonValue) and 0.0 <= self.rival_abstain < 1.0
        ):
            raise ValueError(f"rival_abstain {self.rival_abstain}: 0 to 1, common value only")

    @property
    def may_abstain(self) -> bool:
        """Action 0 stays out: where bidding costs, and where learners may be absent."""
        return isinstance(self.prize, CommonValue) or self.join < 1.0

    @property
    def actions(self) -> int:
        """Number of actions: abstaining first where it exists, then `fractions`."""
        return len(self.fractions) + self.may_abstain

    def rules(self) -> Rules:
        """The game as numbers for the kernels."""
        if isinstance(self.prize, CommonValue):
            return rules_of_common_value(self.prize, self.learners, self.join, self.rival_abstain)
        if isinstance(self.prize, StationaryRivals):
            return rules_of_stationary(self.prize)
        others = Rivals(self.rivals.fixed + self.learners - 1, self.rivals.join)
        table = FirstPriceTable(self.prize, self.rivals if self.rivals.rate else others)
        return rules_of_first_price(table, self.learners, self.join, self.rivals, self.flat_z)


class AuctionVectorEnv(KeyedLanes):
    """Games of `game.learners` lanes each: lane g * learners + p is learner p of game g.

    | action (Discrete) | `game.actions`: abstain first if `game.may_abstain`, then the fractions |
    |---|---|
    | observation (Box float32[4]) | y, tanh(y - 1), tanh(y), tanh(y + 1); y = 2 v - 1 or the |
    |  | standardised ln v; a constant where the value is one |
    | reward (float64) | winner: value - bid (- gas); loser: 0, or what its failed transaction |
    |  | costs; abstaining: 0. With reward="share" all of it over the value, which moves no best |
    |  | bid and keeps rare large values from swamping the gradients |
    | end | truncated after `rounds` auctions; autoreset in the same step |
    | infos | arrays [N]: won, bid (-1 abstained), value, top_other (highest other bid, -1 none) |

    The highest bid wins, ties by lot. One lane per learner makes self-play with a shared policy an
    ordinary vector environment. Auctions depend on (split, seed, game, episode, round) only.
    """

    def __init__(
        self,
        num_envs: int,
        game: AuctionGame,
        rounds: int = 128,
        split: str = "train",
        seed: int = 0,
        reward: str = "profit",
    ) -> None:
        if reward not in REWARDS:
            raise ValueError(f"reward {reward!r}: choose one of {', '.join(REWARDS)}")
        if num_envs < 1 or num_envs % game.learners or rounds < 1:
            raise ValueError(
                f"num_envs {num_envs}, rounds {rounds}: whole games of {game.learners} learners, "
                "and at least one round"
            )
        self.game, self.rounds, self.reward = game, rounds, reward
        self._rules = game.rules()
        self._fractions = np.array(game.fractions, np.float64)
        shape = (num_envs // game.learners, game.learners)
        self._values = np.zeros(shape)
        box = spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, (FEATURES,), np.float32)
        games = np.zeros((shape[0], GAME_COLUMNS))
        super().__init__(num_envs, box, game.actions, games, EPISODE, OUTCOMES, split, seed)
        self._state = Games(games, self._values, np.zeros(shape))
        self._saved["values"] = self._values

    def _start(self) -> None:
        start(self._rules, self._keys, self._games, self._values, self._seen)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Play one auction in every game; actions int[N] of the action space, else ArrayError."""
        self._check_started()
        chosen = self._checked_actions(actions)
        abstained = np.zeros(self.num_envs, np.bool_)
        if self.game.may_abstain:
            abstained = chosen == 0
            chosen = np.where(abstained, 0, chosen - 1)  # 0 - 1 of an unsigned type is no index
        return self._settle(np.where(abstained, -1.0, self._fractions[chosen]))

    def step_fractions(
        self, fractions: NDArray[np.float64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """`step` with any shares float64[N] in [0, 1], or in [-1, 0) to abstain: for referees."""
        self._check_started()
        return self._settle(self._checked_fractions(fractions, -1.0))

    def _settle(
        self, fractions: NDArray[np.float64]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """`step` with shares float64[N] that were checked."""
        rewards = np.empty(self.num_envs)
        play(
            *(self._rules, self._keys, fractions, self.rounds),
            *(self._state, self._arrays, rewards),
        )
        infos = self._outcomes()
        if self.reward == "share":
            rewards /= np.abs(infos["value"])  # absent learners earn 0 whatever they divide by
        return self._answer(rewards, infos)

    def observe(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """The observations float32[n, 4] of learners with these values: for looking at policies."""
        values = as_floats("values", values, (None,), -OBSERVED_MOST, OBSERVED_MOST)
        seen = np.empty((len(values), FEATURES), np.float32)
        observe(self._rules, values, seen)
        return seen

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions bool[N, actions]: all, or only abstaining for who did not join."""
        masks = np.ones((self.num_envs, self.game.actions), np.bool_)
        masks[self._values.ravel() < 0.0, 1:] = False
        return masks


class AuctionParallelEnv(ParallelEnv[str, NDArray[np.float32], int]):
    """One `AuctionGame` under PettingZoo's parallel interface: agents bidder_0, bidder_1, ...

    Spaces, rewards and rounds are those of `AuctionVectorEnv`; infos hold its entries and
    `action_mask`, int8[actions].
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": [],
        "name": "mevrl_auction_v0",
        "is_parallelizable": True,
    }

    def __init__(self, game: AuctionGame, rounds: int = 128, split: str = "train") -> None:
        self._lanes = AuctionVectorEnv(game.learners, game, rounds, split)
        self.possible_agents = [f"bidder_{index}" for index in range(game.learners)]
        self.agents: list[str] = []
        self._observation_space = self._lanes.single_observation_space
        self._action_spaces = {
            agent: spaces.Discrete(game.actions) for agent in self.possible_agents
        }

    def observation_space(self, agent: str) -> Any:
        """The same Box for every agent."""
        return self._observation_space

    def action_space(self, agent: str) -> Any:
        """Abstain first where the game allows it, then the bid fractions."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
        """First observations; with a seed episode 0, without one the next."""
        seen, _ = self._lanes.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return dict(zip(self.agents, seen)), self._infos({})

    def _infos(self, outcome: dict[str, Any]) -> dict[str, dict[str, Any]]:
        masks = self._lanes.action_masks().astype(np.int8)
        return {
            agent: {name: float(outcome[name][lane]) for name in OUTCOMES if outcome}
            | {"action_mask": masks[lane]}
            for lane, agent in enumerate(self.possible_agents)
        }

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, NDArray[np.float32]],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Play one auction; afterwards all agents live on, or the last round ends them all."""
        if not self.agents:
            raise RuntimeError("step without agents: call reset first")
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(f"no action for {', '.join(missing)}: every agent bids or abstains")
        chosen = np.array([actions[agent] for agent in self.agents])
        seen, rewards, _, truncated, outcome = self._lanes.step(chosen)
        if truncated.any():
            seen = outcome["final_obs"]
        agents, infos = self.agents, self._infos(outcome)
        if truncated.any():
            self.agents = []
        return (
            dict(zip(agents, seen)),
            dict(zip(agents, rewards.tolist())),
            dict.fromkeys(agents, False),
            dict(zip(agents, truncated.tolist())),
            infos,
        )
