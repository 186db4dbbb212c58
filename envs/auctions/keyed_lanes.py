"""What the compiled auction environments share: spaces, seeds, episodes, and exact restore."""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.market.randomness import lane_keys
from kernels.checked_arrays import as_floats, check_array, check_finite, check_indices


class StepArrays(NamedTuple):
    """What the kernel of a step fills, for N lanes in G games."""

    seen: NDArray[np.float32]  # [N, ...] observations after the step
    final: NDArray[np.float32]  # [N, ...] those before an episode's end
    ended: NDArray[np.bool_]  # [G]
    outcome: NDArray[np.float64]  # [outcomes, N]


class KeyedLanes(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]):
    """N lanes in games that are keyed by (split, seed, game), one or more lanes each.

    A subclass hands over the rows float64[games, columns] of its games with the column of their
    episode, adds to `_saved` what else `state` needs, and says in `_start` how an episode begins.
    Its step fills `_arrays`; `_answer` returns them.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        observation: spaces.Box,
        actions: int,
        games: NDArray[np.float64],
        episode_column: int,
        outcomes: tuple[str, ...],
        split: str,
        seed: int,
    ) -> None:
        self.num_envs, self.split = int(num_envs), split
        self.single_observation_space = observation
        self._actions = actions
        self.single_action_space = spaces.Discrete(actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._episode_column = episode_column
        self._games, self._episodes = games, games[:, episode_column]
        self._outcome_names = outcomes
        self._seen = np.zeros((self.num_envs, *observation.shape), np.float32)
        self._arrays = StepArrays(
            seen=self._seen,
            final=np.zeros_like(self._seen),
            ended=np.zeros(len(games), np.bool_),
            outcome=np.zeros((len(outcomes), self.num_envs)),
        )
        self._saved = {"games": self._games, "seen": self._seen}
        self._started = False
        self._seed_games(seed)

    def _seed_games(self, seed: int) -> None:
        self._seed = int(seed)
        self._keys = lane_keys(self.split, self._seed, len(self._games))

    def _start(self) -> None:
        """Begin the episode in each game's episode column, and show its first observations."""
        raise NotImplementedError

    def _check_games(self, games: NDArray[np.float64]) -> None:
        """Refuse rows of a state that the kernels could not go on from; a subclass adds its own."""
        episodes = games[:, self._episode_column]
        check_array("state games, episode", episodes, episodes.shape, np.float64, 0.0, 2.0**31)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode in every game; with a seed episode 0, without one the next."""
        if isinstance(seed, list):
            raise ValueError("seed is a list: lanes are keyed by one seed and their index")
        if seed is not None:
            self._seed_games(seed)
            self._episodes[:] = 0.0
        elif self._started:
            self._episodes += 1.0
        self._started = True
        self._start()
        return self._seen.copy(), {}

    def _check_started(self) -> None:
        if not self._started:
            raise RuntimeError("step before reset: call reset first")

    def _checked_actions(self, actions: Any) -> NDArray[np.integer]:
        """Actions int[N] of the action space. Raises ArrayError (a ValueError) for others."""
        return check_indices("actions", actions, self.num_envs, self._actions, "the table of bids")

    def _checked_fractions(self, fractions: Any, low: float) -> NDArray[np.float64]:
        """Bids float64[N] from `low` to 1. Raises ArrayError for others, NaN too."""
        return as_floats("fractions", fractions, (self.num_envs,), low, 1.0)

    def _outcomes(self) -> dict[str, Any]:
        """The infos of a step, before the ends of episodes are added."""
        return dict(zip(self._outcome_names, self._arrays.outcome.copy()))

    def _answer(
        self, rewards: NDArray[np.float64], infos: dict[str, Any]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """What `step` returns, from the arrays that the kernel has filled."""
        games = self._arrays.ended
        ended = np.repeat(games, self.num_envs // len(games))
        if ended.any():
            infos["final_obs"], infos["_final_obs"] = self._arrays.final.copy(), ended
        return self._seen.copy(), rewards, np.zeros(self.num_envs, np.bool_), ended, infos

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next steps depend on, besides the arguments."""
        saved = {name: mine.copy() for name, mine in self._saved.items()}
        return saved | {"seed": np.array(self._seed, np.int64)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue exactly where `state` was taken, in an environment of the same arguments."""
        for name, mine in self._saved.items():
            given = state[name]
            if mine.shape != given.shape or mine.dtype != given.dtype:
                raise ValueError(
                    f"state {name} is {given.dtype}{given.shape}, here {mine.dtype}{mine.shape}: "
                    "restore with the same num_envs and arguments"
                )
            check_finite(f"state {name}", given, mine.shape, mine.dtype)
        self._check_games(state["games"])
        for name, mine in self._saved.items():
            mine[:] = state[name]
        self._seed_games(int(state["seed"]))
        self._started = True
