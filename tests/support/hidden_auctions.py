"""Auctions whose rivals follow a hidden regime that is seldom shown: only memory pays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.auctions import FRACTIONS, FirstPriceEnv

CENTRES = np.array([0.2, 0.6])  # of the highest rival bid, as a fraction of the value
DEVIATION = 0.06
STAY = 0.97
SHOWN = 0.2  # share of auctions whose clearing fraction becomes public


class HiddenRegimeEnv(FirstPriceEnv):
    """As FirstPriceEnv; observation (value, clearing fraction of the last auction or 0)."""

    def __init__(self, num_envs: int, slots: int = 64, seed: int = 0) -> None:
        super().__init__(num_envs, slots, seed)
        self.regime = np.zeros(num_envs, np.int64)
        self.shown = np.zeros(num_envs)

    def observe(self) -> NDArray[np.float32]:
        return np.stack([self.value, self.shown], axis=1).astype(np.float32)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        _, infos = super().reset(seed=seed, options=options)
        self.regime = (self.rng.random(self.num_envs) < 0.5).astype(np.int64)
        self.shown = np.zeros(self.num_envs)
        return self.observe(), infos

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], np.ndarray, np.ndarray, dict[str, Any]]:
        n = self.num_envs
        fraction = np.where(actions > 0, FRACTIONS[np.maximum(actions - 1, 0)], -1.0)
        rival = np.clip(self.rng.normal(CENTRES[self.regime], DEVIATION), 0.0, 1.0)
        rewards = np.where(fraction > rival, (1.0 - fraction) * self.value, 0.0)
        self.shown = np.where(self.rng.random(n) < SHOWN, rival, 0.0)
        self.regime = np.where(self.rng.random(n) < STAY, self.regime, 1 - self.regime)
        self.value = self.rng.random(n)
        self.slot += 1
        truncated = self.slot == self.slots
        infos: dict[str, Any] = {}
        if truncated.any():
            infos["final_obs"] = self.observe()
            ended = int(truncated.sum())
            self.slot[truncated] = 0
            self.shown[truncated] = 0.0
            self.regime[truncated] = self.rng.random(ended) < 0.5
        return self.observe(), rewards, np.zeros(n, bool), truncated, infos

    def state(self) -> dict[str, np.ndarray]:
        return super().state() | {"regime": self.regime.copy(), "shown": self.shown.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        super().set_state(state)
        self.regime, self.shown = state["regime"].copy(), state["shown"].copy()
