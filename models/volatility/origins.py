"""Forecast origins: the inputs known at each closed 5-minute block and what was realised after it.

Targets are realised variances, sums of squared log returns over the next minutes (Andersen and
Bollerslev 1998), built inside one contiguous window; the inputs come from
`kernels.networks.features`.
"""

from dataclasses import dataclass
from weakref import ref

import numpy as np

from history.prices import Bars, BarsError
from kernels.checked_arrays import check_array
from kernels.networks.features import (
    BLOCK_MINUTES,
    FEATURES,
    N_FEATURES,
    Assets,
    BarColumns,
    InputRows,
    encode_history,
    new_states,
)


@dataclass(frozen=True)
class Origins:
    """Origins of one symbol in time order."""

    symbol: str
    minute: np.ndarray  # int64[n], when the block closed and the forecast is made
    inputs: np.ndarray  # float64[n, N_FEATURES]
    targets: np.ndarray  # float64[n, horizons], realised variance after it, nan where unknown

    def __len__(self) -> int:
        return self.minute.size

    def starts(self) -> np.ndarray:
        """Indices at which a new contiguous window starts: recurrent states are reset there."""
        return np.flatnonzero(np.diff(self.minute, prepend=-(10**9)) != BLOCK_MINUTES)

    def select(self, chosen: np.ndarray | slice) -> "Origins":
        """The chosen rows (a mask or a slice)."""
        return Origins(self.symbol, self.minute[chosen], self.inputs[chosen], self.targets[chosen])


def column(name: str) -> int:
    """Index of an input by its name in `kernels.networks.features.FEATURES`."""
    return FEATURES.index(name)


def usable_horizons(horizons_minutes: tuple[int, ...], bar_minutes: int) -> tuple[int, ...]:
    """Horizons that hold at least three returns: a single squared return is noise, not variance."""
    return tuple(h for h in horizons_minutes if h >= 3 * bar_minutes)


# The last answer, while its bars live: a training asks five times, each a replay of seconds.
_kept: list[tuple["ref[Bars]", tuple[int, ...], list[Origins]]] = []


def build_origins(bars: Bars, horizons_minutes: tuple[int, ...]) -> list[Origins]:
    """Replay bars through the feature kernel; one `Origins` per symbol that has any.

    Each symbol watches the first other symbol of the file. Raises BarsError for a refused bar. The
    arrays are shared with whoever asks next for the same bars: they are not to be written to.
    """
    for of, horizons, origins in _kept:
        if of() is bars and horizons == horizons_minutes:
            return list(origins)
    origins = _replayed(bars, horizons_minutes)
    _kept[:] = [(ref(bars), horizons_minutes, origins)]
    return list(origins)


def _replayed(bars: Bars, horizons_minutes: tuple[int, ...]) -> list[Origins]:
    n_assets = len(bars.series)
    for s in bars.series:
        check_array(f"minute of {s.symbol}", s.minute, (None,), np.int64)
        check_array(f"ohlcv of {s.symbol}", s.ohlcv, (s.minute.size, 5), np.float64)
    columns = BarColumns(
        minute=np.concatenate([s.minute for s in bars.series]),
        ohlcv=np.concatenate([s.ohlcv for s in bars.series]),
        start=np.cumsum([0, *(len(s) for s in bars.series)]).astype(np.int64),
        bar_minutes=bars.bar_minutes,
    )
    if n_assets > 1:
        watched = np.array([1 if a == 0 else 0 for a in range(n_assets)])
    else:
        watched = np.array([-1])
    flags = np.array([is_eth(s) for s in bars.symbols])
    assets = Assets(watched, flags, new_states(n_assets + 1))
    capacity = columns.minute.size * bars.bar_minutes // BLOCK_MINUTES + n_assets
    rows = InputRows(
        minute=np.empty(capacity, np.int64),
        asset=np.empty(capacity, np.int64),
        variance=np.empty(capacity),
        inputs=np.empty((capacity, N_FEATURES)),
    )
    count = encode_history(columns, assets, rows)
    if count < 0:
        raise BarsError(f"{bars.source}: row {-1 - count} refused by the feature kernel")
    origins = []
    for a, symbol in enumerate(bars.symbols):
        mine = np.flatnonzero(rows.asset[:count] == a)
        if mine.size:
            minute = rows.minute[mine]
            targets = _targets(minute, rows.variance[mine], horizons_minutes)
            origins.append(Origins(symbol, minute, rows.inputs[mine], targets))
    return origins


def is_eth(symbol: str) -> float:
    """The asset flag of the pooled model: 1 for ETH, 0 for every other asset."""
    return float(symbol.upper().startswith("ETH"))


def _targets(
    minute: np.ndarray, block_variance: np.ndarray, horizons_minutes: tuple[int, ...]
) -> np.ndarray:
    """Sums of the next blocks' variances; nan when a block of the horizon is missing."""
    n = minute.size
    targets = np.full((n, len(horizons_minutes)), np.nan)
    for j, horizon in enumerate(horizons_minutes):
        blocks = horizon // BLOCK_MINUTES
        if n <= blocks:
            continue
        # Summed directly, not by differences of a running sum: quiet blocks follow loud ones.
        total = np.sum([block_variance[k : n - blocks + k] for k in range(1, blocks + 1)], axis=0)
        whole = minute[blocks:] - minute[: n - blocks] == horizon
        targets[: n - blocks, j] = np.where(whole, total, np.nan)
    return targets
