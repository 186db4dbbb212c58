"""Small environments for the tests, built on one short set of price paths."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from envs.market.config import MarketConfig, PricePaths
from envs.market.paths import stand_in_paths
from envs.vector import MarketVectorEnv


@cache
def paths() -> PricePaths:
    """Ten days of stand-in prices."""
    return stand_in_paths(10)


def markets(
    num_envs: int,
    changes: Mapping[str, Any] | None = None,
    split: str = "train",
    seed: int = 0,
    **more: Any,
) -> MarketVectorEnv:
    """An environment that has been reset, with some fields of the configuration changed.

    Three decisions per slot unless told otherwise: more can happen. Keys in `changes` are dotted.
    """
    config = MarketConfig(era="rich", ticks_per_slot=3).changed({**(changes or {}), **more})
    env = MarketVectorEnv(num_envs, config, paths(), split, seed)
    env.reset()
    return env


# Nothing hidden, nothing that moves pools but users and cycles.
BARE: dict[str, Any] = {
    "ticks_per_slot": 1,
    "decision_lead_s": 0.0,
    "users.private_share": 0.0,
    "users.visibility_delay_s": 0.0,
    "users.low_cap_share": 0.0,
    "users.nonce_share": 0.0,
    "informed.probability": 0.0,
    "pools.provider_rate": 0.0,
    "rivals.sandwich_share": 0.0,
    "blocks.missed_share": 0.0,
    "blocks.late_share": 0.0,
    "users.slippage": (0.5, 0.6),
    "loans.pools": (),
}


def some_actions(env: MarketVectorEnv, step: int) -> np.ndarray:
    """Allowed actions that depend on lane and step alone: int64[N]."""
    masks = env.action_masks()
    wanted = (7 * step + 13 * np.arange(env.num_envs)) % masks.shape[1]
    return np.where(masks[np.arange(env.num_envs), wanted], wanted, masks[:, 1].astype(np.int64))
