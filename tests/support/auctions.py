"""First-price auctions with a known best bid, as a vector environment: the learner's referee.

Values and rivals are U[0, 1]; n - 1 rivals bid the equilibrium (n - 1) / n of their value, so the
best fraction is (n - 1) / n at every value and earns v^n / n (Krishna, Auction Theory, 2.3).
"""

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

RIVALS = 2
FRACTIONS = np.linspace(0.0, 1.0, 31)  # holds 2/3, the best fraction against two rivals


class FirstPriceEnv(VectorEnv):
    """Action 0 passes, action 1 + b bids FRACTIONS[b] of the value; bids are masked below v = .05.

    Observation (value, value^2), episodes of `slots` auctions, lanes offset so that they end apart.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int, slots: int = 64, seed: int = 0) -> None:
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)
        self.single_action_space = spaces.Discrete(1 + FRACTIONS.size)
        self.slots = slots
        self.rng = np.random.default_rng(seed)
        self.value = np.zeros(num_envs)
        self.slot = np.zeros(num_envs, np.int64)

    def observe(self) -> NDArray[np.float32]:
        return np.stack([self.value, self.value**2], axis=1).astype(np.float32)

    def action_masks(self) -> NDArray[np.bool_]:
        masks = np.ones((self.num_envs, 1 + FRACTIONS.size), bool)
        masks[self.value < 0.05, 1:] = False
        return masks

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if isinstance(seed, int):
            self.rng = np.random.default_rng(seed)
        self.value = self.rng.random(self.num_envs)
        self.slot = np.arange(self.num_envs) % self.slots
        return self.observe(), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], np.ndarray, np.ndarray, dict[str, Any]]:
        assert self.action_masks()[np.arange(self.num_envs), actions].all(), "a masked action"
        fraction = np.where(actions > 0, FRACTIONS[np.maximum(actions - 1, 0)], -1.0)
        rivals = self.rng.random((self.num_envs, RIVALS)).max(axis=1) * RIVALS / (RIVALS + 1)
        won = fraction * self.value > rivals
        rewards = np.where(won, (1.0 - fraction) * self.value, 0.0)
        self.value = self.rng.random(self.num_envs)
        self.slot += 1
        truncated = self.slot == self.slots
        infos: dict[str, Any] = {"won": won}
        if truncated.any():
            infos["final_obs"] = self.observe()
            self.value[truncated] = self.rng.random(int(truncated.sum()))
            self.slot[truncated] = 0
        return self.observe(), rewards, np.zeros(self.num_envs, bool), truncated, infos

    def state(self) -> dict[str, np.ndarray]:
        generator = self.rng.bit_generator.state["state"]
        words = [generator[k] >> shift & (2**64 - 1) for k in ("state", "inc") for shift in (0, 64)]
        return {
            "value": self.value.copy(),
            "slot": self.slot.copy(),
            "rng": np.array(words, np.uint64),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.value, self.slot = state["value"].copy(), state["slot"].copy()
        a, b, c, d = (int(word) for word in state["rng"])
        full: dict[str, Any] = dict(self.rng.bit_generator.state)
        full["state"] = {"state": a | b << 64, "inc": c | d << 64}
        self.rng.bit_generator.state = full
