"""The native vector environment behind the interface that stable-baselines3 expects.

Arrays pass through untouched; only the reward is scaled. Dictionaries of lanes say something at
episode ends alone.
"""

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.learner_arms import ALL, Choice

Lanes = int | Iterable[int] | None


class MarketVecEnv(VecEnv):
    """Adapter of a gymnasium vector environment with SAME_STEP autoreset and `action_masks`.

    The learner sees clip(reward / reward_scale_eth, -reward_clip, reward_clip). What happened in
    ETH stays readable in `rewards_eth` and `step_infos` until the next step. Columns `blind` of
    its observations are 0. It is told that it may choose among the actions of `choice`, while
    `allowed` holds what can really be done.
    """

    def __init__(
        self,
        env: VectorEnv,
        reward_scale_eth: float = 1.0,
        reward_clip: float = np.inf,
        blind: NDArray[np.int64] | None = None,
        choice: Choice = ALL,
    ) -> None:
        if env.metadata.get("autoreset_mode") != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset mode is {env.metadata.get('autoreset_mode')}: stable-baselines3 needs "
                "the first observation of the next episode in the step that ends one (SAME_STEP)"
            )
        if not reward_scale_eth > 0.0 or not reward_clip > 0.0:
            raise ValueError(
                f"reward scale {reward_scale_eth} and clip {reward_clip}: both must be positive"
            )
        self.env = env
        self.render_mode = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.rewards_eth = np.zeros(self.num_envs)
        self.step_infos: dict[str, Any] = {}
        self.allowed = np.zeros((self.num_envs, 0), np.bool_)
        self._blind = np.zeros(0, np.int64) if blind is None else blind
        self._choice = choice
        self._scale = reward_scale_eth
        self._clip = reward_clip
        self._actions = np.zeros(self.num_envs, np.int64)

    def reset(self) -> NDArray[np.float32]:
        """First observations float32[N, D] of all lanes; a seed given by `seed` is used once."""
        observations, self.step_infos = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        return self._seen(observations)

    def _seen(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The environment's own copy, without what the learner must not see."""
        observations[..., self._blind] = 0.0
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Remember the actions int64[N] for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations float32[N, D], scaled rewards float32[N], episode ends, infos by lane."""
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        # A market says what a decision earned in ETH, whatever its reward is; others pay ETH.
        self.rewards_eth, self.step_infos = infos.get("profit", rewards), infos
        scaled = np.clip(rewards / self._scale, -self._clip, self._clip).astype(np.float32)
        observations = self._seen(observations)
        dones = np.logical_or(terminated, truncated)
        by_lane: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]  # callbacks may write
        for lane in np.flatnonzero(dones):
            by_lane[lane] = {
                "terminal_observation": self._seen(infos["final_obs"][lane]),
                "TimeLimit.truncated": bool(truncated[lane] and not terminated[lane]),
            }
        return observations, scaled, dones, by_lane

    def close(self) -> None:
        """Release the environment."""
        self.env.close()

    def action_masks(self) -> NDArray[np.bool_]:
        """Actions bool[N, A] that the learner may choose at the present observations."""
        self.allowed = self.env.action_masks()  # type: ignore[attr-defined]
        return self._choice.of(self.allowed)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next steps depend on."""
        return self.env.state()  # type: ignore[attr-defined]

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue exactly where `state` was taken."""
        self.env.set_state(state)  # type: ignore[attr-defined]

    def get_attr(self, attr_name: str, indices: Lanes = None) -> list[Any]:
        """An attribute once per lane: all lanes live in one environment."""
        owner = self if attr_name == "render_mode" else self.env
        return [getattr(owner, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Lanes = None) -> None:
        """Set an attribute of the one environment that holds all lanes."""
        self._require_all(indices)
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Lanes = None, **method_kwargs: Any
    ) -> Any:
        """Results by lane: the method's own array, whose first axis is the lanes."""
        self._require_all(indices)
        return getattr(self.env, method_name)(*method_args, **method_kwargs)

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper], indices: Lanes = None
    ) -> list[bool]:
        """The native environment is never wrapped lane by lane."""
        return [False] * len(list(self._get_indices(indices)))

    def _require_all(self, indices: Lanes) -> None:
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"lanes {indices}: the lanes share one environment, name all or none")
