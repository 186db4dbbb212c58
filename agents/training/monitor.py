"""What TensorBoard shows while a policy learns: money, auctions, losses, bids, in plain names.

The environment reports what happened in every slot; this callback adds it up over a rollout and
writes one point per rollout, at the number of decisions learned from.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from stable_baselines3.common.callbacks import BaseCallback
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from agents.bidders.baselines import FRACTIONS
from agents.learner.rollout_sums import VALUE_EDGES, RolloutSums, SumsCallback, no_bids
from agents.measures.tally import joined

HISTOGRAM_EVERY = 8  # rollouts: a histogram costs more than all scalars together
FEWEST_BIDS = 50  # values with fewer are left blank in the figure
SCORE = "Validation/IQM profit per episode (ETH)"

Settings = dict[str, int | float | str | bool]


class MarketMonitor(BaseCallback):
    """Writes profit, win rate, bid share, losses by reason and bids of every rollout.

    A learner that does not play itself gives the sums of its rollout as the local `rollout_sums`.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.writer = SummaryWriter(directory)
        self.rollouts = 0
        self._own = SumsCallback()
        self._bids = no_bids()  # since the last validation
        self._bids_in_histogram = no_bids()

    def record_settings(self, settings: Settings) -> None:
        """What the HPARAMS page compares trials by, with the validation profit as the metric."""
        for summary in hparams(settings, {SCORE: 0.0}):
            self.writer.file_writer.add_summary(summary)  # type: ignore[union-attr]

    def rewind(self, steps: int) -> None:
        """Forget points after `steps`: a restored training writes them again."""
        self.writer.close()
        _wait_for_a_later_name(self.directory)
        self.writer = SummaryWriter(self.directory, purge_step=steps + 1)

    def close(self) -> None:
        """Flush and close the event file."""
        self.writer.close()

    def record_validation(self, point: dict[str, float]) -> None:
        """Write a point of the validation curve, and how the training bid since the last one."""
        step = int(point["steps"])
        self.writer.add_scalar(SCORE, point["validation_iqm_eth"], step)
        self.writer.add_scalar("Validation/share of best response", point["validation_share"], step)
        self.writer.add_scalar(
            "Speed/decisions learned from per second", point["steps_per_s"], step
        )
        if self._bids.any():
            self.writer.add_figure("Bids/fraction by value", bid_figure(self._bids), step)
            self._bids[:] = 0
        self.writer.flush()

    def _init_callback(self) -> None:
        self._own.init_callback(self.model)

    def _on_training_start(self) -> None:
        self._own.on_training_start(self.locals, self.globals)

    def _on_rollout_start(self) -> None:
        self._own.on_rollout_start()

    def _on_step(self) -> bool:
        self._own.update_locals(self.locals)
        return self._own.on_step()

    def _on_rollout_end(self) -> None:
        sums: list[RolloutSums] = self.locals.get("rollout_sums", [self._own.sums])
        step, write = self.num_timesteps, self.writer.add_scalar
        for name, value in joined([part.tally for part in sums]).ratios().items():
            write(_MARKET_NAMES[name], value, step)
        model: Any = self.model
        write("Learning/rate", model.lr_schedule(model._current_progress_remaining), step)
        write("Learning/entropy weight", model.ent_coef, step)
        for name, value in _LEARNER_NAMES.items():
            if name in self.logger.name_to_value:
                write(value, self.logger.name_to_value[name], step)
        for part in sums:
            self._bids += part.bids
            self._bids_in_histogram += part.bids
        if self.rollouts % HISTOGRAM_EVERY == 0 and self._bids_in_histogram.any():
            drawn = np.repeat(FRACTIONS, self._bids_in_histogram.sum(axis=0))
            self.writer.add_histogram("Bids/fraction of net profit", drawn, step)
            self._bids_in_histogram[:] = 0
        self.rollouts += 1


def _wait_for_a_later_name(directory: Path) -> None:
    """TensorBoard reads event files in the order of their names, which begin with the second.

    Two files of one second may be read in the wrong order, and the purge is then lost. A file from
    the future, of a clock that went back, is not waited for.
    """
    newest = max((int(file.name.split(".")[3]) for file in directory.glob("events.*")), default=0)
    now = int(time.time())
    while now == newest:
        time.sleep(0.05)
        now = int(time.time())


def bid_figure(bids: np.ndarray) -> Figure:
    """Share of the bids on each fraction, by net profit; bids as in RolloutSums."""
    inner = bids[1:-1]  # rows with two edges
    made = inner.sum(axis=1, keepdims=True)
    share = np.where(made >= FEWEST_BIDS, inner / np.maximum(made, 1), np.nan)
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    image = axes.pcolormesh(
        np.exp(VALUE_EDGES), np.arange(FRACTIONS.size + 1) - 0.5, share.T, cmap="viridis"
    )
    axes.set_xscale("log")
    ticks = np.linspace(0, FRACTIONS.size - 1, 7).astype(int)
    axes.set_yticks(ticks, [f"{FRACTIONS[k]:.3f}" for k in ticks])
    axes.set_xlabel("net profit bid on (ETH)")
    axes.set_ylabel("bid, fraction of net profit (grid of the policy)")
    figure.colorbar(image, label="share of bids at this value")
    return figure


_MARKET_NAMES = {
    "profit_per_slot_eth": "Profit/per slot (ETH)",
    "share_of_best_response": "Profit/share of best response",
    "share_of_available": "Profit/share of available net profit",
    "participation": "Auctions/bids per slot with an opportunity",
    "win_rate": "Auctions/win rate",
    "bid_share": "Auctions/bid share (bid over net profit, weighted by value)",
    "negative_rate": "Losses/slots that cost money, per bid",
    "lost_outbid": "Losses/outbid, share of bids",
    "lost_stale_state": "Losses/stale pools, share of bids",
    "lost_gas": "Losses/profit below gas, share of bids",
    "lost_late": "Losses/late, share of bids",
    "lost_reverted": "Losses/reverted in public, share of bids",
    "lost_filtered": "Losses/proposer took no bundles, share of bids",
    "lost_missed": "Losses/missed slots, share of bids",
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
