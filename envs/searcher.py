"""The single environment: the vector environment with one market, behind gymnasium.Env."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from envs.market.config import MarketConfig, PricePaths
from envs.market.randomness import SEED_BITS
from envs.vector import RENDER_MODES, MarketVectorEnv


class Searcher(gymnasium.Env[NDArray[np.float32], np.int64]):
    """One market of `envs.vector.MarketVectorEnv`, whose docstring is the specification.

    The physics is that environment's with num_envs = 1; only the shapes lose their first axis and
    the episode does not restart by itself. Lane 0 of a vector environment with the same split and
    seed plays the same episode.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        config: MarketConfig | None = None,
        paths: PricePaths | None = None,
        split: str = "train",
        seed: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._markets = MarketVectorEnv(1, config, paths, split, seed, render_mode)
        self.render_mode = render_mode
        self.observation_space = self._markets.single_observation_space
        self.action_space = self._markets.single_action_space
        self._after_end: tuple[NDArray[np.float32], dict[str, np.ndarray]] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode: the first with a new seed, else the next of the present seed."""
        super().reset(seed=seed)
        if seed is None and self._after_end is not None:
            # The vector environment has already started the episode that follows.
            observation = self._after_end[0]
        else:
            key = None if seed is None else seed % (1 << SEED_BITS)
            observation = self._markets.reset(seed=key)[0][0]
        self._after_end = None
        return observation, {}

    def step(
        self, action: int | np.integer | NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Play one decision: action is an integer from 0 to ACTIONS - 1, else ValueError."""
        if self._after_end is not None:
            raise RuntimeError("step after the end of an episode: call reset first")
        if np.ndim(action):
            raise ValueError(f"action has shape {np.shape(action)}: give one integer")
        observations, rewards, _, truncated, infos = self._markets.step(np.array([action]))
        info = {
            name: value[0].item() for name, value in infos.items() if not name.endswith("final_obs")
        }
        if truncated[0]:
            self._after_end = observations[0], {}
            return infos["final_obs"][0], float(rewards[0]), False, True, info
        return observations[0], float(rewards[0]), False, False, info

    def render(self) -> str | NDArray[np.uint8] | None:  # type: ignore[override]
        """The slot as text (`ansi`) or as an image uint8[H, W, 3] (`rgb_array`); None without.

        After the last decision of an episode it is the first slot of the next.
        """
        drawn = self._markets.render()
        return None if drawn is None else drawn[0]

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions bool[ACTIONS] of the present observation."""
        return self._markets.action_masks()[0]

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next steps depend on."""
        return self._markets.state() | {"ended": np.array(self._after_end is not None)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue exactly where `state` was taken."""
        self._markets.set_state(state)
        self._after_end = (state["observation"][0].copy(), {}) if state["ended"] else None
