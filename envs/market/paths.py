"""Reference prices under the markets: minute closes of ETH and BTC in dollars, with the variance
forecast known at each minute. The simulator bridges them to slots of 12 seconds.
"""

from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from envs.market.randomness import SPLITS
from history.prices import Bars
from history.stochastic_volatility import stochastic_volatility_bars
from kernels.checked_arrays import INTEGERS, check_array, check_finite

SLOTS_PER_MINUTE = 5
HORIZONS_MINUTES = (5, 15, 60)
EWMA_HALF_LIFE_MINUTES = 30.0
VARIANCE_FLOOR = 1e-12
# Time order: the first 70 % of the minutes are for training, then 15 % each.
SPLIT_EDGES = (0.0, 0.7, 0.85, 1.0)


class RecordedFlow(NamedTuple):
    """Recorded blocks under the price paths; whatever it has overrides what would be drawn.

    Slot s = SLOTS_PER_MINUTE * minute + step, with `minute` a row of the PricePaths that carry it,
    so every array by slot has SLOTS_PER_MINUTE * n entries, or none where nothing was recorded.
    Swaps of slot s stand at swap_start[s] .. swap_start[s + 1] - 1, in order of arrival; the first
    ones that find room among the 8 pending are used. They are whole swaps against the pools of the
    MarketConfig (`swap_pool` is an index into token0): a loader maps real pools to them and scales
    amounts to their depth. With `swap_start` no user's swap is drawn in any slot.
    """

    base_fee_gwei: np.ndarray = np.zeros(0)  # of the block built in slot s; NaN where not recorded
    gas_used_ratio: np.ndarray = np.zeros(0)  # used / target of that block; NaN where not recorded
    missed: np.ndarray = np.zeros(0)  # 1 where slot s has no block, else 0
    swap_start: np.ndarray = np.zeros(0, np.int64)  # int64[slots + 1], or empty: swaps are drawn
    swap_pool: np.ndarray = np.zeros(0, np.int64)
    swap_zero_for_one: np.ndarray = np.zeros(0)  # 1 sells token0
    swap_amount_in: np.ndarray = np.zeros(0)  # whole tokens
    swap_min_out: np.ndarray = np.zeros(0)  # whole tokens, 0 without a limit
    swap_cap_gwei: np.ndarray = np.zeros(0)  # fee cap
    swap_tip_gwei: np.ndarray = np.zeros(0)  # priority fee
    swap_seen_s: np.ndarray = np.zeros(0)  # seconds into the slot when the mempool shows it
    swap_kind: np.ndarray = np.zeros(0)  # 0 public, 1 private, 2 shown by an order-flow auction

    def check(self, minutes: int, pools: int) -> None:
        """Refuse arrays that the compiled simulator could not read; ValueError names the array."""
        slots = SLOTS_PER_MINUTE * minutes
        for name in ("base_fee_gwei", "gas_used_ratio", "missed"):
            size = getattr(self, name).size
            if size not in (0, slots):
                raise ValueError(f"recorded {name} has {size} entries: give {slots}, or none")
            check_array(f"recorded {name}", getattr(self, name), (size,), np.float64)
        swaps = self.swap_pool.size
        for name in self._fields[5:]:
            if getattr(self, name).shape != (swaps,):
                raise ValueError(f"recorded {name} has another length than swap_pool ({swaps})")
            check_finite(f"recorded {name}", getattr(self, name), (swaps,))
        check_array("recorded swap_start", self.swap_start, (None,), np.int64)
        check_array("recorded swap_pool", self.swap_pool, (None,), np.int64)
        check_array("recorded swap_kind", self.swap_kind, (None,), np.float64, 0.0, 2.0)
        if self.swap_start.size == 0:
            return
        if self.swap_start.size != slots + 1 or np.any(np.diff(self.swap_start) < 0):
            raise ValueError(f"recorded swap_start: give {slots + 1} numbers that do not fall")
        if self.swap_start[0] != 0 or self.swap_start[-1] != swaps:
            raise ValueError(f"recorded swap_start must run from 0 to {swaps}, the swaps given")
        if swaps and (self.swap_pool.min() < 0 or self.swap_pool.max() >= pools):
            raise ValueError(f"recorded swap_pool holds a pool outside 0 .. {pools - 1}")
        if swaps and not (np.isfinite(self.swap_amount_in).all() and self.swap_amount_in.min() > 0):
            raise ValueError("recorded swap_amount_in: give finite amounts above 0")


@dataclass(frozen=True)
class PricePaths:
    """n minutes in one or more contiguous segments; all arrays have n rows."""

    log_price: np.ndarray  # float64[n, 2], ln of ETH/USD and BTC/USD at the minute's close
    slot_sigma: np.ndarray  # float64[n, 2], deviation of a 12 s log return after that close
    forecast: np.ndarray  # float64[n, 3], ln realised variance of the next 5, 15, 60 minutes
    segment: np.ndarray  # int64[n], equal within a contiguous run of minutes
    source: str  # one line for reports
    recorded: RecordedFlow = field(default_factory=RecordedFlow)  # nothing: everything is drawn

    def __post_init__(self) -> None:
        """Refuse arrays that the compiled simulator could not read. Raises ArrayError."""
        minutes = np.size(self.segment)
        check_array("segment", self.segment, (minutes,), INTEGERS)
        check_finite("log_price", self.log_price, (minutes, 2))
        check_array("slot_sigma", self.slot_sigma, (minutes, 2), np.float64, 0.0, 10.0)
        check_finite("forecast", self.forecast, (minutes, 3))

    def __len__(self) -> int:
        return self.segment.size

    def writable(self) -> "PricePaths":
        """The same paths without read-only arrays, as other processes pass them on.

        Numba takes those for another type, and would compile the whole simulator once more.
        """

        def own(array: np.ndarray) -> np.ndarray:
            return array if array.flags.writeable else array.copy()

        return replace(
            self,
            log_price=own(self.log_price),
            slot_sigma=own(self.slot_sigma),
            forecast=own(self.forecast),
            recorded=RecordedFlow(*map(own, self.recorded)),
        )

    def starts(self, split: str, minutes: int) -> np.ndarray:
        """Minutes int64[k] at which an episode of `minutes` can start within one segment.

        Splits are consecutive parts of the time line, so that no test minute is trained on.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: choose one of {', '.join(SPLITS)}")
        part = SPLITS.index(split)
        low, high = (int(len(self) * edge) for edge in SPLIT_EDGES[part : part + 2])
        first = np.arange(low, max(high - minutes, low))
        starts = first[self.segment[first] == self.segment[first + minutes]]
        if starts.size == 0:
            raise ValueError(
                f"price paths ({self.source}): the {split} part has no contiguous run of "
                f"{minutes + 1} minutes; give longer paths, or shorter episodes (episode_slots)"
            )
        return starts.astype(np.int64)


def _ewma_variance(returns: np.ndarray) -> np.ndarray:
    """Exponentially weighted mean square of minute returns, known at each minute."""
    keep = 0.5 ** (1.0 / EWMA_HALF_LIFE_MINUTES)
    start = float(np.mean(returns[: int(EWMA_HALF_LIFE_MINUTES)] ** 2))
    fresh = (1.0 - keep) * returns**2
    # scipy.signal.lfilter gives the same bits, and takes longer to import than this to run.
    smoothed = accumulate(fresh.tolist(), lambda mean, one: one + keep * mean, initial=start)
    return np.maximum(np.fromiter(smoothed, np.float64)[1:], VARIANCE_FLOOR)


def price_paths(
    eth_close: np.ndarray,
    btc_close: np.ndarray,
    segment: np.ndarray | None = None,
    forecast: np.ndarray | None = None,
    source: str = "minute closes",
) -> PricePaths:
    """PricePaths from minute closes float64[n] in dollars of ETH and BTC at the same minutes.

    `segment` int64[n] changes where minutes are missing (default: none are). `forecast`
    float64[n, 3] is the ln of realised variance expected at each minute's close over the next 5,
    15 and 60 minutes; where it is missing or not finite, an EWMA of squared minute returns stands
    in. Raises ValueError naming the argument.
    """
    closes = np.stack([np.asarray(eth_close, np.float64), np.asarray(btc_close, np.float64)], 1)
    minutes = closes.shape[0]
    if minutes < 2 or not np.all(np.isfinite(closes)) or closes.min() <= 0.0:
        raise ValueError("eth_close and btc_close: give at least 2 finite, positive prices")
    segment = np.zeros(minutes, np.int64) if segment is None else np.asarray(segment, np.int64)
    if segment.shape != (minutes,):
        raise ValueError(f"segment has shape {segment.shape}: one number per minute ({minutes})")
    log_price = np.ascontiguousarray(np.log(closes))
    variance = np.empty((minutes, 2))
    edges = [0, *(np.flatnonzero(np.diff(segment)) + 1).tolist(), minutes]
    for start, stop in pairwise(edges):
        for asset in range(2):
            path = log_price[start:stop, asset]
            variance[start:stop, asset] = _ewma_variance(np.diff(path, prepend=path[0]))
    ewma = np.log(variance[:, :1] * np.array(HORIZONS_MINUTES, np.float64))
    known = ewma if forecast is None else np.asarray(forecast, np.float64)
    if known.shape != ewma.shape:
        raise ValueError(f"forecast has shape {known.shape}: give float64[{minutes}, 3]")
    return PricePaths(
        log_price=log_price,
        slot_sigma=np.sqrt(variance / SLOTS_PER_MINUTE),
        forecast=np.where(np.isfinite(known), known, ewma),
        segment=segment,
        source=source,
    )


def paths_of_bars(bars: Bars, forecast: np.ndarray | None = None) -> PricePaths:
    """PricePaths from 1-minute bars of ETHUSDT and BTCUSDT, on the minutes that both have.

    `forecast` float64[len(bars.of("ETHUSDT")), 3] belongs to the ETH bars; rows that are not finite
    (a forecaster's warm-up) fall back to the EWMA.
    """
    if bars.bar_minutes != 1:
        raise ValueError(f"{bars.source}: bars of {bars.bar_minutes} minutes; give 1-minute bars")
    eth, btc = bars.of("ETHUSDT"), bars.of("BTCUSDT")
    minute, of_eth, of_btc = np.intersect1d(
        eth.minute, btc.minute, assume_unique=True, return_indices=True
    )
    if forecast is not None and forecast.shape != (len(eth), len(HORIZONS_MINUTES)):
        raise ValueError(f"forecast has shape {forecast.shape}: give float64[{len(eth)}, 3]")
    return price_paths(
        eth.ohlcv[of_eth, 3],
        btc.ohlcv[of_btc, 3],
        segment=np.cumsum(np.diff(minute, prepend=minute[0] - 1) != 1),
        forecast=None if forecast is None else forecast[of_eth],
        source=bars.source,
    )


def stand_in_paths(days: int = 60, seed: int = 0) -> PricePaths:
    """The stochastic-volatility stand-in with EWMA forecasts: what runs without recorded prices."""
    return paths_of_bars(stochastic_volatility_bars(seed, days))
