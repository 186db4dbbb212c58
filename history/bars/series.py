"""Bars of one bar size: checked series of symbols, cut into windows, merged from several files."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

VALUE_COLUMNS = ("open", "high", "low", "close", "volume")
BAR_MINUTES = (1, 5)


class BarsError(ValueError):
    """A bar file that cannot be used; the message names file, column, value and remedy."""


@dataclass(frozen=True)
class SymbolBars:
    """Bars of one symbol in time order; `minute` is the bar's open in minutes since the epoch."""

    symbol: str
    minute: np.ndarray  # int64[n], strictly increasing
    ohlcv: np.ndarray  # float64[n, 5]

    def __len__(self) -> int:
        return self.minute.size


@dataclass(frozen=True)
class Bars:
    """Bars of several symbols of one bar size, symbols in alphabetical order.

    `passed_over` holds (file, reason) of each file of the data folder that was not used.
    """

    series: tuple[SymbolBars, ...]
    bar_minutes: int
    source: str
    passed_over: tuple[tuple[str, str], ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbols, in the order of `series`."""
        return tuple(s.symbol for s in self.series)

    def of(self, symbol: str) -> SymbolBars:
        """Bars of one symbol; BarsError when it is not there."""
        for s in self.series:
            if s.symbol == symbol:
                return s
        known = ", ".join(self.symbols)
        reasons = "".join(f"; passed over {file}: {why}" for file, why in self.passed_over)
        raise BarsError(f"{self.source}: no symbol {symbol!r}; choose one of {known}{reasons}")

    def windows(self, symbol: str) -> list[tuple[int, int]]:
        """Contiguous runs (start, stop) of bar indices of a symbol: no missing bar inside one."""
        minute = self.of(symbol).minute
        breaks = np.flatnonzero(np.diff(minute) != self.bar_minutes) + 1
        edges = [0, *breaks.tolist(), minute.size]
        return list(pairwise(edges))

    def between(self, first_minute: int, until_minute: int) -> "Bars":
        """Bars that open at or after `first_minute` and close at or before `until_minute`."""
        kept = []
        for s in self.series:
            a = int(np.searchsorted(s.minute, first_minute))
            b = int(np.searchsorted(s.minute, until_minute - self.bar_minutes, side="right"))
            if b > a:
                kept.append(SymbolBars(s.symbol, s.minute[a:b], s.ohlcv[a:b]))
        return Bars(tuple(kept), self.bar_minutes, self.source, self.passed_over)


def minute_of(date: str) -> int:
    """Minutes since the epoch of an ISO date or time in UTC, e.g. "2025-05-20"."""
    try:
        moment = np.datetime64(date.strip().removesuffix("Z"), "m")
    except ValueError:
        raise BarsError(f"date {date!r}: not ISO 8601; write YYYY-MM-DD") from None
    if np.isnat(moment):
        raise BarsError(f"date {date!r}: not ISO 8601; write YYYY-MM-DD")
    return int(moment.astype(np.int64))


def moment_of(minute: int | np.integer) -> str:
    """ISO 8601 of a minute since the epoch, e.g. 2025-01-01T00:00Z."""
    return f"{np.datetime64(int(minute), 'm')}Z"


@dataclass(frozen=True)
class Conflict:
    """Two of the merged parts, by index, that hold different bars of one minute."""

    earlier: int
    later: int
    symbol: str
    minute: int


def merge(parts: Sequence[Bars], source: str) -> Bars | Conflict:
    """All bars of several files of one bar size; equal bars count once.

    The first minute at which two parts differ is returned as a Conflict.
    """
    series = []
    for symbol in sorted({s for part in parts for s in part.symbols}):
        held = [k for k, part in enumerate(parts) if symbol in part.symbols]
        pieces = [parts[k].of(symbol) for k in held]
        minute = np.concatenate([piece.minute for piece in pieces])
        ohlcv = np.concatenate([piece.ohlcv for piece in pieces])
        owner = np.repeat(held, [len(piece) for piece in pieces])
        order = np.argsort(minute, kind="stable")
        minute, ohlcv, owner = minute[order], ohlcv[order], owner[order]
        again = minute[1:] == minute[:-1]
        differs = np.flatnonzero(again & (ohlcv[1:] != ohlcv[:-1]).any(1))
        if differs.size:
            at = int(differs[0])
            return Conflict(int(owner[at]), int(owner[at + 1]), symbol, int(minute[at]))
        first = np.concatenate([[True], ~again])
        series.append(SymbolBars(symbol, minute[first], np.ascontiguousarray(ohlcv[first])))
    return Bars(tuple(series), parts[0].bar_minutes, source)
