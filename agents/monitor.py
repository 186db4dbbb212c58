"""What TensorBoard shows while a policy learns: money, auctions, losses, bids, in plain names.

The environment reports what happened in every slot; this callback adds it up over a rollout and
writes one point per rollout, at the number of decisions learned from.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from torch.utils.tensorboard.writer import SummaryWriter

from agents.baselines import FRACTIONS
from agents.tally import Tally, best_net_eth
from kernels.action import BIDS

HISTOGRAM_EVERY = 8  # rollouts: a histogram costs more than all scalars together


class MarketMonitor(BaseCallback):
    """Writes profit, win rate, bid share, losses by reason and bids of every rollout."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.writer = SummaryWriter(directory)
        self.rollouts = 0
        self._tally = Tally(0)
        self._bids = np.zeros(BIDS, np.int64)

    def rewind(self, steps: int) -> None:
        """Forget points after `steps`: a restored training writes them again."""
        self.writer.close()
        self.writer = SummaryWriter(self.directory, purge_step=steps + 1)

    def close(self) -> None:
        """Flush and close the event file."""
        self.writer.close()

    def record_validation(self, point: dict[str, float]) -> None:
        """Write a point of the validation curve."""
        step = int(point["steps"])
        self.writer.add_scalar(
            "Validation/IQM profit per episode (ETH)", point["validation_iqm_eth"], step
        )
        self.writer.add_scalar("Validation/share of best response", point["validation_share"], step)
        self.writer.flush()

    def _on_rollout_start(self) -> None:
        self._tally = Tally(self.training_env.num_envs)

    def _on_step(self) -> bool:
        venv: Any = self.training_env
        actions: NDArray[np.int64] = self.locals["actions"]
        available = best_net_eth(np.asarray(self.model._last_obs), self.locals["action_masks"])
        self._tally.add(available, venv.rewards_eth, venv.step_infos)
        bids = actions[actions > 0] - 1
        self._bids += np.bincount(bids % BIDS, minlength=BIDS)
        return True

    def _on_rollout_end(self) -> None:
        step, write = self.num_timesteps, self.writer.add_scalar
        for name, value in self._tally.ratios().items():
            write(_MARKET_NAMES[name], value, step)
        model: Any = self.model
        write("Learning/rate", model.lr_schedule(model._current_progress_remaining), step)
        write("Learning/entropy weight", model.ent_coef, step)
        for name, value in _LEARNER_NAMES.items():
            if name in self.logger.name_to_value:
                write(value, self.logger.name_to_value[name], step)
        if self.rollouts % HISTOGRAM_EVERY == 0 and self._bids.any():
            self.writer.add_histogram(
                "Bids/fraction of net profit", np.repeat(FRACTIONS, self._bids), step
            )
        self.rollouts += 1
        self._bids[:] = 0


_MARKET_NAMES = {
    "profit_per_slot_eth": "Profit/per slot (ETH)",
    "share_of_best_response": "Profit/share of best response",
    "share_of_available": "Profit/share of available net profit",
    "participation": "Auctions/bids per slot with an opportunity",
    "win_rate": "Auctions/win rate",
    "bid_share": "Auctions/bid share (bid over net profit, weighted by value)",
    "lost_outbid": "Losses/outbid, share of bids",
    "lost_stale": "Losses/stale pools, share of bids",
}
# Names of stable-baselines3 and what they are called here; they describe the update before.
_LEARNER_NAMES = {
    "train/entropy_loss": "Learning/negative entropy",
    "train/policy_gradient_loss": "Learning/policy loss",
    "train/value_loss": "Learning/value loss",
    "train/approx_kl": "Learning/KL divergence of the update",
    "train/clip_fraction": "Learning/clipped share",
    "train/explained_variance": "Learning/explained variance of the value",
}
