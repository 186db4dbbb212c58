"""Forecasts as they are live: each training minute sees one of a forecaster fitted before it.

The training minutes are cut into equal folds in time order. For every fold but the first a
forecaster is fitted on what ended before it (an expanding window, as a forecaster is refitted
live), and the training episodes see its forecasts there. The first fold has no past to fit on: no
episode is played in it. Blocked folds, fitted on both sides, would keep it, but their forecasters
know the level of variance that comes after the fold, which no live one does, and each of them
learns from all minutes but a fold, which costs K - 1 whole trainings instead of (K - 1) / 2.
Where the training part is too short for any fold, nothing fitted is seen in it: the EWMA of the
paths stands in. Validation of series by what came before: Bergmeir and Benitez (2012); the embargo
at borders: Lopez de Prado (2018), chapter 7.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.market.paths import PricePaths
from history.prices import BarsError
from kernels.networks.features import BLOCK_MINUTES, DAY_BLOCKS
from models.volatility.config import VolatilityConfig
from models.volatility.har_lstm import training_part
from models.volatility.losses import floored, qlike
from models.volatility.origins import Origins
from models.volatility.predictor import Forecasts, VarianceForecaster

# Between what a forecaster learned from and the first forecast that it gives to an episode: the day
# that warms the inputs up. Targets end before it, which adds the longest horizon. With the past
# alone in the training an overlap of inputs gives nothing away; the border is blind all the same.
EMBARGO_MINUTES = DAY_BLOCKS * BLOCK_MINUTES


class Fold(NamedTuple):
    """Consecutive training minutes, in minutes since the epoch."""

    start: int  # multiple of BLOCK_MINUTES
    stop: int

    @property
    def until(self) -> int:
        """No target of the fold's forecaster ends later."""
        return self.start - EMBARGO_MINUTES

    @property
    def name(self) -> str:
        """Of the networks of its forecaster; the first day that they forecast."""
        return f"fold_{np.datetime64(self.start, 'm').astype('datetime64[D]')}"


def planned_folds(
    minutes: NDArray[np.int64], origins: list[Origins], config: VolatilityConfig, until: int
) -> list[Fold]:
    """All folds but the first: those that a forecaster is fitted for, none if there is no room.

    minutes int64[n]: those of the prices, ascending; the ones that close by `until` are cut into
    `config.folds` parts of equally many, fewer where the first part would be too short to fit on.
    """
    closes = minutes[minutes < until] + 1
    for count in range(config.folds, 1, -1):
        first = [closes.size * k // count for k in range(1, count)] if closes.size else []
        edges = [int(closes[at]) // BLOCK_MINUTES * BLOCK_MINUTES for at in first] + [until]
        folds = [Fold(start, stop) for start, stop in pairwise(edges) if start < stop]
        if folds and _can_be_fitted(origins, config, folds):
            return folds
    return []


def _can_be_fitted(origins: list[Origins], config: VolatilityConfig, folds: list[Fold]) -> bool:
    try:
        for fold in folds:
            training_part(origins, config, fold.until)
    except BarsError:
        return False
    return True


class CrossFitted(NamedTuple):
    """Forecasters of the folds of a training part, in time order."""

    folds: list[Fold]
    forecasters: list[VarianceForecaster]
    until: int  # end of the training part
    asked: bool = True  # False: the episodes see in-sample forecasts, as the configuration says

    @classmethod
    def in_sample(cls, until: int) -> "CrossFitted":
        """None: the training episodes see the served forecaster, which was trained on them."""
        return cls([], [], until, asked=False)

    def of_training(self, origins: Origins, served: Forecasts) -> NDArray[np.float32]:
        """float32[origins, H]: of `served` from `until` on, before that of the folds, else nan."""
        seen = served.log_variance.copy()
        if not self.asked:
            return seen
        seen[origins.minute < self.until] = np.nan
        for fold, forecaster in zip(self.folds, self.forecasters, strict=True):
            # The recurrent state is that of a forecaster that has run since the bars began.
            known = origins.select(origins.minute < fold.stop)
            made = forecaster.predict_origins(known)
            mine = np.flatnonzero(known.minute >= fold.start)
            seen[mine] = made.log_variance[mine]
        return seen

    def played(self, paths: PricePaths, closes: NDArray[np.int64]) -> PricePaths:
        """The paths without episodes in the first fold, whose minutes become segments of their own.

        closes int64[n]: when each minute of the paths closed. Without folds they stay as they are.
        """
        if not self.folds:
            return paths
        left_out = np.flatnonzero(closes < self.folds[0].start)
        segment = paths.segment.copy()
        segment[left_out] = segment.max() + 1 + left_out
        return replace(paths, segment=segment)

    def described(
        self, origins: Origins, served: Forecasts, config: VolatilityConfig
    ) -> dict[str, Any]:
        """For forecast.json: minutes of every training, and QLIKE by horizon.

        `cross_fitted` is of the forecasts that the episodes see, `in_sample` of the served
        forecaster on the same origins, `held_out` of the served one from `until` on.
        """
        horizons = config.horizons_minutes
        seen = self.of_training(origins, served)
        of_folds = config.of_folds

        def scores(log_variance: np.ndarray, rows: NDArray[np.bool_]) -> dict[str, float]:
            return {
                f"{h}": _mean_qlike(origins.targets[rows, j], log_variance[rows, j], h)
                for j, h in enumerate(horizons)
            }

        def both(start: int, stop: int) -> dict[str, Any]:
            # A target that ends after `stop` is not of this part.
            rows = (origins.minute >= start) & (origins.minute + max(horizons) <= stop)
            return {
                "origins": int(rows.sum()),
                "cross_fitted": scores(seen, rows),
                "in_sample": scores(served.log_variance, rows),
            }

        folds = [
            {
                "from": moment(fold.start),
                "until": moment(fold.stop),
                "trained_from": moment(forecaster.trained_from),
                "trained_until": moment(forecaster.trained_until),
                **both(fold.start, fold.stop),
            }
            for fold, forecaster in zip(self.folds, self.forecasters, strict=True)
        ]
        after = origins.minute >= self.until
        return {
            "symbol": origins.symbol,
            "embargo_minutes": EMBARGO_MINUTES,
            "networks": of_folds.ensemble,
            "epochs": of_folds.epochs,
            "folds": folds,
            "training": both(self.folds[0].start, self.until) if folds else None,
            "held_out": scores(served.log_variance, after),
        }


def moment(minute: int) -> str:
    """Minutes since the epoch as ISO 8601 in UTC."""
    return f"{np.datetime64(minute, 'm')}Z"


def qlike_scalars(described: dict[str, Any]) -> Sequence[tuple[str, float, int]]:
    """(tag, QLIKE, number of the fold) of what `described` says, for TensorBoard."""
    return [
        (f"forecast/fold_qlike/{kind}/{horizon}_min", value, number)
        for number, fold in enumerate(described["folds"], 1)
        for kind in ("cross_fitted", "in_sample")
        for horizon, value in fold[kind].items()
    ]


def _mean_qlike(realised: np.ndarray, log_variance: np.ndarray, horizon: int) -> float:
    loss = qlike(floored(realised, horizon), log_variance)
    return float(loss[np.isfinite(loss)].mean()) if np.isfinite(loss).any() else float("nan")
