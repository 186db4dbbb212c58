"""What happened in the markets during one rollout, added up where the rollout is played."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from agents.measures.tally import Tally, best_net_eth
from kernels.market.action import BIDS, bid_indices

# Edges of the values that bids are shown by, ln ETH: a thousandth of an ETH to 20 ETH.
VALUE_EDGES = np.linspace(-7.0, 3.0, 21)


class RolloutSums(NamedTuple):
    """A tally of one rollout, and how often each bid of the grid was made at each value.

    `bids` is int64[values, BIDS]: rows follow VALUE_EDGES by ln of the net profit bid on, the first
    and the last row taking what lies outside.
    """

    tally: Tally
    bids: NDArray[np.int64]


def no_bids() -> NDArray[np.int64]:
    """Counts before the first bid."""
    return np.zeros((VALUE_EDGES.size + 1, BIDS), np.int64)


class SumsCallback(BaseCallback):
    """Adds up the rollout that a learner plays; `sums` holds the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = RolloutSums(Tally(0), no_bids())

    def _on_rollout_start(self) -> None:
        self.sums = RolloutSums(Tally(self.training_env.num_envs), no_bids())

    def _on_step(self) -> bool:
        venv: Any = self.training_env
        actions: NDArray[np.int64] = self.locals["actions"]
        available = best_net_eth(self.locals["observations"], venv.allowed)
        self.sums.tally.add(available, venv.rewards_eth, venv.step_infos)
        bid = bid_indices(actions)
        made = bid >= 0
        net = np.maximum(venv.step_infos["net"][made], 1e-12)
        row = np.searchsorted(VALUE_EDGES, np.log(net))
        cell = row * BIDS + bid[made]
        bids = self.sums.bids
        bids += np.bincount(cell, minlength=bids.size).reshape(bids.shape)
        return True
