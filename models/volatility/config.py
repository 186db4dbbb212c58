"""Settings of the forecaster; nothing here needs torch, so that who only reads settings starts
quickly.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from configs.settings import Count, Natural, NonNegative, Range, Settings, Share
from kernels.networks.features import BLOCK_MINUTES

Dropout = Annotated[float, Range(0.0, below=1.0)]


@dataclass(frozen=True)
class VolatilityConfig(Settings):
    """The forecaster and its training; the defaults were chosen on validation windows of 2025.

    They are those of a training run: two networks on two years are within 0.3 % of the validation
    QLIKE of the full model, which is models.volatility.train.FULL.
    """

    horizons_minutes: tuple[Count, ...] = (5, 15, 60)
    """Minutes ahead over which variance is forecast; multiples of 5."""
    model: str = ""
    """A forecaster of your own instead of the HAR-LSTM, as MODULE:NAME, see models.volatility.own.
    """
    ensemble: Count = 2
    """Networks averaged; each starts from its own seed."""
    epochs: Count = 32
    """Passes over the training origins; there is no early stopping."""
    hidden: Count = 16
    """Width of the LSTM state; wider ones memorise."""
    layer: Count = 64
    """Width of the two hidden layers of the perceptron."""
    chunk: Count = 192
    """Origins per training sequence (16 hours)."""
    burn_in: Natural = 48
    """Origins at the start of a sequence that only warm the state."""
    batch: Count = 32
    """Sequences per gradient step."""
    learning_rate: NonNegative = 3e-3
    """Peak rate of AdamW, reached after 30 steps and lowered along a cosine."""
    weight_decay: NonNegative = 0.01
    """AdamW decay of the weights, not of the biases."""
    dropout: Dropout = 0.2
    """Dropout in the perceptron."""
    state_dropout: Dropout = 0.5
    """Dropout on the recurrent state: the state memorises first."""
    input_noise: NonNegative = 0.2
    """Standard deviation of the noise added to standardised inputs."""
    linear_share: Share = 0.25
    """Weight of HARX by OLS in the log forecast: networks alone go too far in unusual hours."""
    train_days: Natural = 730
    """Learn from the last days only; 0 means all."""
    seed: Natural = 0
    """Seed of the first network."""
    folds: Natural = 4
    """Equal parts of the training minutes. Policies train on forecasts that were fitted on earlier
    parts alone, and not in the first one; 0: on those of the one forecaster, fitted on them too."""
    fold_networks: Count = 1
    """Networks of each of these earlier forecasters."""
    fold_epochs: Count = 16
    """Passes of each of them over its origins."""
    refit_days: Natural = 0
    """Days of the test between refits of every model in an evaluation; 0 means one fit."""
    garch: bool = False
    """Evaluate GARCH(1,1) and EGARCH(1,1) too (minutes)."""
    confidence_set: bool = False
    """Compute the Model Confidence Set in an evaluation."""

    def check(self) -> None:
        """Whole blocks ahead, and a chunk that is longer than its burn-in."""
        whole = all(horizon % BLOCK_MINUTES == 0 for horizon in self.horizons_minutes)
        asked = len(self.horizons_minutes) > 0
        self.require(asked and whole, "horizons_minutes", f"multiples of {BLOCK_MINUTES}")
        self.require(self.burn_in < self.chunk, "burn_in", f"less than chunk, {self.chunk}")
        self.require(self.folds != 1, "folds", "at least 2, or 0: the first is never played in")

    @property
    def of_folds(self) -> "VolatilityConfig":
        """The settings of the forecasters that the training episodes see."""
        return replace(self, ensemble=self.fold_networks, epochs=self.fold_epochs)
