"""The forecast that the policy sees, kept up to date from the chain: one-minute bars of a tracked
WETH/dollar pool's mid price, through the same kernels as in training. Bars from a file warm it up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.networks.features import (
    N_FEATURES,
    ORIGIN,
    STALE,
    encode_inputs,
    new_states,
    update_bar,
)
from live.settings.deployment import Deployment
from models.frozen import FrozenForecaster

WEEK_MINUTES = 7 * 1440
DAY_MINUTES = 1440
DOLLARS = ("USDC", "USDT", "DAI")

# Where the forecast comes from, as the report says it.
FALLBACK = "median of the training bars (not warmed up)"
WARM = "forecaster"


class WarmUpBars(NamedTuple):
    """Contiguous bars, oldest first: minute of the open since the epoch int64[n], OHLCV [n, 5]."""

    minute: np.ndarray
    ohlcv: np.ndarray
    bar_minutes: int
    borrowed: bool = False
    """From another market and time: moved to the present before use."""


def dollar_pool(deployment: Deployment) -> int:
    """First pool of WETH and a dollar token, in the order of the file; -1 without one."""
    for pool, pair in enumerate(deployment.pool_tokens):
        if 0 in pair and deployment.symbols[max(pair)] in DOLLARS:
            return pool
    return -1


def shifted_to(bars: WarmUpBars, minute: int) -> WarmUpBars:
    """The bars moved by whole weeks so that they end just before `minute`.

    For a local chain, which has no past of its own: time of day and day of the week stay true.
    """
    end = int(bars.minute[-1]) + bars.bar_minutes
    shift = -(-(minute - end) // WEEK_MINUTES) * WEEK_MINUTES
    keep = bars.minute + shift + bars.bar_minutes <= minute
    return bars._replace(minute=bars.minute[keep] + shift, ohlcv=bars.ohlcv[keep])


class Volatility:
    """Forecasts from bars; `log_variance` float32[3] is always usable, `source` says what it is."""

    def __init__(self, forecaster: FrozenForecaster, bar_minutes: int = 1) -> None:
        self._forecaster = forecaster
        self._bar_minutes = bar_minutes
        self._states = new_states(2)  # the second stays empty: no other asset is watched
        self._inputs = np.empty(N_FEATURES)
        self._minute = -1
        self._open = self._high = self._low = self._close = 0.0
        self._volume = 1.0
        self._scale = 1.0
        self.log_variance = forecaster.fallback.copy()
        self.source = FALLBACK
        self.bars = 0

    def warm_up(self, bars: WarmUpBars, now_minute: int, price: float) -> int:
        """Replay recorded bars that end at `now_minute`; how many of them were used.

        The chain's price is `price` now; from here on it is scaled to follow on the last close,
        for a jump between two sources would look like volatility.
        """
        used = 0
        if bars.borrowed:
            bars = shifted_to(bars, now_minute)
        for minute, row in zip(bars.minute.tolist(), bars.ohlcv.tolist(), strict=True):
            if minute + bars.bar_minutes <= now_minute:
                open_, high, low, close, volume = row
                used += self._add(minute, open_, high, low, close, volume)
        if used:
            self._scale = float(bars.ohlcv[-1, 3]) / price
            # what a pool trades is no exchange's volume: the day's mean reads as a usual minute
            self._volume = float(bars.ohlcv[-DAY_MINUTES:, 4].mean())
            self._minute = now_minute
            self._open = self._high = self._low = self._close = price * self._scale
        return used

    def on_head(self, timestamp_s: int, price: float) -> None:
        """Follow the price after a block; closes the bar when its time is over."""
        if not price > 0.0:
            return
        price *= self._scale
        minute = timestamp_s // 60 // self._bar_minutes * self._bar_minutes
        if minute != self._minute:
            if self._minute >= 0:
                self._close_bar(minute)
            self._minute = minute
            # a bar opens where the last one closed, so that moves between blocks are not lost
            self._open = self._high = self._low = self._close or price
        self._high, self._low = max(self._high, price), min(self._low, price)
        self._close = price

    def _close_bar(self, next_minute: int) -> None:
        self._add(self._minute, self._open, self._high, self._low, self._close, self._volume)
        # minutes without a block are bars without a move
        for minute in range(self._minute + self._bar_minutes, next_minute, self._bar_minutes)[:60]:
            still = self._close
            self._add(minute, still, still, still, still, 0.0)

    def _add(
        self, minute: int, open_: float, high: float, low: float, close: float, volume: float
    ) -> bool:
        status = update_bar(
            self._states[0], self._bar_minutes, minute, open_, high, low, close, volume
        )
        self.bars += status < STALE
        if status == ORIGIN:
            encode_inputs(self._states[0], self._states[1], 1.0, self._inputs)
            self.log_variance[:] = self._forecaster.step(self._inputs)
            self.source = WARM
        return status < STALE


def warm_up_volatility(forecaster: FrozenForecaster) -> None:
    """Run the kernels of a closing bar and block once, on states that are thrown away."""
    states, inputs = new_states(2), np.empty(N_FEATURES)
    update_bar(states[0], 1, 0, 1.0, 1.0, 1.0, 1.0, 1.0)
    encode_inputs(states[0], states[1], 1.0, inputs)
    forecaster.restart()
