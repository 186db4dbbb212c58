"""Price bars of centralised exchanges from Parquet or CSV: loaded, checked, cut into windows.

Bars are 1- or 5-minute open/high/low/close/volume of one or more symbols; the time of a bar is
its open in UTC. The columns are those of Binance klines and of the usual public dumps.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

TIME_COLUMNS = ("date", "timestamp", "datetime", "time", "open_time")
VALUE_COLUMNS = ("open", "high", "low", "close", "volume")
BAR_MINUTES = (1, 5)
_UNITS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"), (np.inf, "ns"))  # by magnitude, to year 5138


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
    """Bars of several symbols of one bar size, symbols in alphabetical order."""

    series: tuple[SymbolBars, ...]
    bar_minutes: int
    source: str

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
        raise BarsError(f"{self.source}: no symbol {symbol!r}; choose one of {known}")

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
        return Bars(tuple(kept), self.bar_minutes, self.source)


def minute_of(date: str) -> int:
    """Minutes since the epoch of an ISO date or time in UTC, e.g. "2025-05-20"."""
    try:
        moment = np.datetime64(date.strip().removesuffix("Z"), "m")
    except ValueError:
        raise BarsError(f"date {date!r}: not ISO 8601; write YYYY-MM-DD") from None
    if np.isnat(moment):
        raise BarsError(f"date {date!r}: not ISO 8601; write YYYY-MM-DD")
    return int(moment.astype(np.int64))


def load_bars(path: str | Path, symbol: str | None = None) -> Bars:
    """Read and check a bar file (.parquet, .csv, .csv.gz).

    Columns: symbol (or the argument), a time column (`TIME_COLUMNS`), open, high, low, close,
    volume; others are ignored. Raises BarsError.
    """
    path = Path(path)
    frame = _rename(_read(path), path, symbol)
    frame = (
        frame.with_columns(_minutes(frame, path))
        .sort("symbol", "minute")
        .unique(maintain_order=True)
    )
    _refuse_conflicts(frame, path)
    bar_minutes = _bar_minutes(frame, path)
    series = []
    for (name,), part in frame.group_by(["symbol"], maintain_order=True):
        minute = part["minute"].to_numpy().astype(np.int64)
        ohlcv = np.ascontiguousarray(part.select(VALUE_COLUMNS).to_numpy().astype(np.float64))
        _check_values(path, str(name), minute, ohlcv)
        off = np.flatnonzero(minute % bar_minutes)
        if off.size:
            raise BarsError(
                f"{path}: {name} has a {bar_minutes}-minute bar at {_moment(minute[int(off[0])])}, "
                f"off the UTC clock; resample the bars to multiples of {bar_minutes} minutes"
            )
        series.append(SymbolBars(str(name), minute, ohlcv))
    return Bars(tuple(series), bar_minutes, str(path))


def find_bars(data_dir: str | Path) -> Path | None:
    """The bar file of a data folder to learn from: the finest bars, then the most rows.

    Looks in the folder and its `price` subfolder; files without bar columns are passed over.
    Returns None when there is none.
    """
    best: tuple[tuple[int, int], Path] | None = None
    for folder in (Path(data_dir), Path(data_dir) / "price"):
        for path in sorted([*folder.glob("*.parquet"), *folder.glob("*.csv")]):
            try:
                bars = _rename(_read(path, rows=2000), path, None)
                step = _bar_minutes(bars.with_columns(_minutes(bars, path)), path)
            except BarsError:
                continue
            rank = (step, -path.stat().st_size)
            if best is None or rank < best[0]:
                best = (rank, path)
    return best[1] if best else None


def _read(path: Path, rows: int | None = None) -> pl.DataFrame:
    if not path.is_file():
        raise BarsError(f"{path}: no such file; give a .parquet or .csv file of bars")
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            return pl.read_parquet(path, n_rows=rows)
        if name.endswith((".csv", ".csv.gz")):
            return pl.read_csv(path, n_rows=rows, infer_schema_length=10_000)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BarsError(f"{path}: not readable as {path.suffix[1:]}: {reason}") from error
    raise BarsError(f"{path}: unknown file type; give a .parquet, .csv or .csv.gz file")


def _rename(frame: pl.DataFrame, path: Path, symbol: str | None) -> pl.DataFrame:
    """Columns symbol, time and the five values, under those names."""
    found = {column.strip().lower(): column for column in frame.columns}
    time = next((found[c] for c in TIME_COLUMNS if c in found), None)
    missing = [c for c in VALUE_COLUMNS if c not in found]
    if time is None:
        missing.insert(0, "date (or timestamp)")
    if "symbol" not in found and symbol is None:
        missing.insert(0, "symbol (or name it, e.g. --symbol ETHUSDT)")
    if missing or time is None:
        raise BarsError(
            f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{', '.join(frame.columns)}; rename or add them"
        )
    values = []
    for column in VALUE_COLUMNS:
        if not frame[found[column]].dtype.is_numeric():
            raise BarsError(
                f"{path}: column {column} holds {frame[found[column]].dtype}, not numbers"
            )
        values.append(pl.col(found[column]).cast(pl.Float64).alias(column))
    name = pl.col(found["symbol"]).cast(pl.String) if "symbol" in found else pl.lit(symbol)
    frame = frame.select(name.alias("symbol"), pl.col(time).alias("time"), *values)
    if frame.is_empty():
        raise BarsError(f"{path}: holds no rows; give a file with bars")
    if frame["symbol"].null_count():
        raise BarsError(f"{path}: column symbol has empty values; fill them in")
    return frame


def _minutes(frame: pl.DataFrame, path: Path) -> pl.Series:
    """The time column as int64 minutes; whole minutes only."""
    time = frame["time"]
    if time.dtype == pl.String:
        try:
            time = time.str.to_datetime(time_unit="us", time_zone="UTC")
        except pl.exceptions.PolarsError as error:
            raise BarsError(
                f"{path}: column date is text that is not ISO 8601, e.g. {time[0]!r}; write "
                "2025-05-20T00:00:00Z"
            ) from error
    if time.null_count():
        raise BarsError(f"{path}: column date has {time.null_count()} empty values; fill them in")
    if time.dtype == pl.Date:
        time = time.cast(pl.Datetime("us"))
    if time.dtype.is_temporal():
        seconds = time.dt.epoch("s")
    elif time.dtype.is_numeric():
        unit = next(u for limit, u in _UNITS if abs(float(time[0])) < limit)
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
        seconds = time.cast(pl.Int64) // per_second
    else:
        raise BarsError(f"{path}: column date holds {time.dtype}; give timestamps or ISO text")
    odd = (seconds % 60 != 0).arg_true()
    if len(odd):
        raise BarsError(
            f"{path}: time {time[int(odd[0])]} is not a whole minute; give the open time of bars"
        )
    return (seconds // 60).cast(pl.Int64).alias("minute")


def _refuse_conflicts(frame: pl.DataFrame, path: Path) -> None:
    """Equal rows were dropped; two different bars of one minute cannot both be right."""
    twice = frame.filter(pl.struct("symbol", "minute").is_duplicated())
    if len(twice):
        raise BarsError(
            f"{path}: {twice['symbol'][0]} has two different bars at "
            f"{_moment(twice['minute'][0])}; keep one"
        )


def _bar_minutes(frame: pl.DataFrame, path: Path) -> int:
    """The most frequent distance between bars of one symbol."""
    step = frame.select(pl.col("minute").diff().over("symbol")).drop_nulls()["minute"]
    step = step.filter(step > 0)
    if step.is_empty():
        raise BarsError(f"{path}: one bar per symbol; give at least two consecutive bars")
    size = int(step.mode().min())  # pyright: ignore[reportArgumentType]
    if size not in BAR_MINUTES:
        raise BarsError(f"{path}: bars of {size} minutes; give 1-minute or 5-minute bars")
    return size


def _check_values(path: Path, symbol: str, minute: np.ndarray, ohlcv: np.ndarray) -> None:
    """Finite, positive, low <= open, close <= high, volume not negative."""
    for k, column in enumerate(VALUE_COLUMNS):
        values = ohlcv[:, k]
        wrong = ~np.isfinite(values) | (values < 0.0 if column == "volume" else values <= 0.0)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise BarsError(
                f"{path}: {symbol} at {_moment(minute[at])}: column {column} is {values[at]}; "
                f"remove or repair {int(wrong.sum())} such rows"
            )
    low, high = ohlcv[:, 2], ohlcv[:, 1]
    body = ohlcv[:, [0, 3]]
    for column, wrong in (("low", low > body.min(1)), ("high", high < body.max(1))):
        if wrong.any():
            at = int(np.argmax(wrong))
            raise BarsError(
                f"{path}: {symbol} at {_moment(minute[at])}: {column} "
                f"{(low if column == 'low' else high)[at]} does not bound open {body[at, 0]} and "
                f"close {body[at, 1]}; repair {int(wrong.sum())} such rows"
            )


def _moment(minute: int | np.integer) -> str:
    return f"{np.datetime64(int(minute), 'm')}Z"
