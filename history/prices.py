"""Price bars of centralised exchanges from the files that people have, checked.

Bars are 1- or 5-minute open/high/low/close/volume of one or more symbols; the time of a bar is
its open in UTC. Run as a command it says what a file or a folder holds:

python -m history.prices PATH [--json FILE] [--symbol NAME]
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("history.prices")  # before the heavy imports: they take seconds

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from history.bars.columns import frame_of, symbol_of_file
from history.bars.containers import WANTED, readable, tables_of
from history.bars.series import (
    BAR_MINUTES,
    VALUE_COLUMNS,
    Bars,
    BarsError,
    Conflict,
    SymbolBars,
    merge,
    minute_of,
    moment_of,
)
from history.files import write_atomically

__all__ = [
    "BAR_MINUTES",
    "VALUE_COLUMNS",
    "Bars",
    "BarsError",
    "Conflict",
    "SymbolBars",
    "load_bars",
    "merge",
    "minute_of",
    "search_folder",
]

MINUTE_US = 60_000_000
SHOWN_FILES = 3


class Search(NamedTuple):
    """What a folder holds: bars or None, and the reason for each file that was passed over."""

    bars: Bars | None
    passed_over: dict[str, str]  # by path relative to the folder


def load_bars(path: str | Path, symbol: str | None = None) -> Bars:
    """Bars of a file (Parquet; CSV or JSON, plain or gzip, zst, zip), or of a folder of them.

    Columns: a time, open, high, low, close, volume, and symbol; without the last it is `symbol`,
    or the pair in the file's name. Others are ignored. Raises BarsError.
    """
    path = Path(path)
    if not path.is_dir():
        return _bars_of_file(path, symbol)
    found = search_folder(path, symbol)
    if found.bars is None:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.passed_over.items())
        if not reasons:
            raise BarsError(f"{path}: no file in it or in its price subfolder; {WANTED}")
        raise BarsError(f"{path}: no bars to use: {reasons}")
    return found.bars


def search_folder(folder: str | Path, symbol: str | None = None) -> Search:
    """The bars of a folder and of its `price` subfolder: all files of the finest bars together.

    A file is used if `load_bars` reads it, its bars are as fine as those of any other, and it
    agrees with the files used that hold more. `symbol` names bars whose file does not.
    """
    folder = Path(folder)
    parts: dict[str, Bars] = {}
    passed_over: dict[str, str] = {}
    for place in (folder, folder / "price"):
        for path in sorted(p for p in _listed(place) if p.is_file()):
            name = path.relative_to(folder).as_posix()
            try:
                parts[name] = _bars_of_file(path, symbol_of_file(path.name) or symbol)
            except BarsError as error:
                passed_over[name] = _without_path(str(error), path)
    if not parts:
        return Search(None, passed_over)
    finest = min(part.bar_minutes for part in parts.values())
    used = {name: part for name, part in parts.items() if part.bar_minutes == finest}
    for name in parts.keys() - used.keys():
        passed_over[name] = (
            f"bars every {parts[name].bar_minutes * 60} s, {next(iter(used))} has them every "
            f"{finest * 60} s"
        )
    # Where two files disagree the one with more bars is kept.
    names = sorted(used, key=lambda name: (-sum(map(len, used[name].series)), name))
    while isinstance(merged := merge([used[n] for n in names], _source(folder, names)), Conflict):
        kept, dropped = names[merged.earlier], names.pop(merged.later)
        passed_over[dropped] = (
            f"its bar of {merged.symbol} at {moment_of(merged.minute)} is another than that of "
            f"{kept}; keep one of the files"
        )
    passed_over = dict(sorted(passed_over.items()))
    bars = Bars(merged.series, finest, merged.source, tuple(passed_over.items()))
    return Search(bars, passed_over)


def _listed(place: Path) -> list[Path]:
    try:
        return list(place.iterdir()) if place.is_dir() else []
    except OSError as error:
        raise BarsError(f"{place}: not readable: {error.strerror}") from error


def _without_path(reason: str, path: Path) -> str:
    return reason.removeprefix(str(path)).removeprefix(":").strip()


def _source(folder: Path, names: Sequence[str]) -> str:
    names = sorted(names)
    if len(names) == 1:
        return str(folder / names[0])
    shown = names if len(names) <= SHOWN_FILES else [names[0], "...", names[-1]]
    return f"{folder}: {len(names)} files ({', '.join(shown)})"


def _bars_of_file(path: Path, symbol: str | None) -> Bars:
    with readable(path):
        frames = [frame_of(table, symbol) for table in tables_of(path)]
    frame = pl.concat(frames).sort("symbol", "time", maintain_order=True)
    frame = frame.unique(maintain_order=True)
    _refuse_conflicts(frame, path)
    bar_minutes = _bar_minutes(frame, path)
    series = []
    for (name,), part in frame.group_by(["symbol"], maintain_order=True):
        minute = part["time"].to_numpy().astype(np.int64) // MINUTE_US
        ohlcv = np.ascontiguousarray(part.select(VALUE_COLUMNS).to_numpy().astype(np.float64))
        _check_values(path, str(name), minute, ohlcv)
        off = np.flatnonzero(minute % bar_minutes)
        if off.size:
            raise BarsError(
                f"{path}: {name} has a {bar_minutes}-minute bar at "
                f"{moment_of(minute[int(off[0])])}, off the UTC clock; resample the bars to "
                f"multiples of {bar_minutes} minutes"
            )
        series.append(SymbolBars(str(name), minute, ohlcv))
    return Bars(tuple(series), bar_minutes, str(path))


def _refuse_conflicts(frame: pl.DataFrame, path: Path) -> None:
    """Equal rows were dropped; two different bars of one time cannot both be right."""
    twice = frame.filter(pl.struct("symbol", "time").is_duplicated())
    if len(twice):
        raise BarsError(
            f"{path}: {twice['symbol'][0]} has two different bars at "
            f"{moment_of(twice['time'][0] // MINUTE_US)}; keep one"
        )


def _bar_minutes(frame: pl.DataFrame, path: Path) -> int:
    """The most frequent distance between bars, the same for every symbol, of whole minutes."""
    step = frame.select("symbol", pl.col("time").diff().over("symbol").alias("step")).drop_nulls()
    if step.is_empty():
        raise BarsError(f"{path}: one bar per symbol; give at least two consecutive bars")
    sizes = {
        str(name): int(part["step"].mode().min())  # pyright: ignore[reportArgumentType]
        for (name,), part in step.group_by(["symbol"], maintain_order=True)
    }
    for name, size in sizes.items():
        if size not in [m * MINUTE_US for m in BAR_MINUTES]:
            raise BarsError(
                f"{path}: {name} has bars every {size / 1e6:g} s; give 1-minute or 5-minute bars "
                "(60 s or 300 s)"
            )
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} every {size // 10**6} s" for name, size in sizes.items())
        raise BarsError(f"{path}: bars of several sizes: {found}; write one file for each size")
    odd = frame.filter(pl.col("time") % MINUTE_US != 0)
    if len(odd):
        moment = np.datetime64(odd["time"][0], "us")
        raise BarsError(f"{path}: time {moment}Z is not a whole minute; give the open time of bars")
    return next(iter(sizes.values())) // MINUTE_US


def _check_values(path: Path, symbol: str, minute: np.ndarray, ohlcv: np.ndarray) -> None:
    """Finite, positive, low <= open, close <= high, volume not negative."""
    for k, column in enumerate(VALUE_COLUMNS):
        values = ohlcv[:, k]
        wrong = ~np.isfinite(values) | (values < 0.0 if column == "volume" else values <= 0.0)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise BarsError(
                f"{path}: {symbol} at {moment_of(minute[at])}: column {column} is {values[at]}; "
                f"remove or repair {int(wrong.sum())} such rows"
            )
    low, high = ohlcv[:, 2], ohlcv[:, 1]
    body = ohlcv[:, [0, 3]]
    for column, wrong in (("low", low > body.min(1)), ("high", high < body.max(1))):
        if wrong.any():
            at = int(np.argmax(wrong))
            raise BarsError(
                f"{path}: {symbol} at {moment_of(minute[at])}: {column} "
                f"{(low if column == 'low' else high)[at]} does not bound open {body[at, 0]} and "
                f"close {body[at, 1]}; repair {int(wrong.sum())} such rows"
            )


def describe(bars: Bars) -> dict[str, dict[str, Any]]:
    """Of each symbol: bars, spacing_s, windows (runs without a gap), first and last minute."""
    return {
        s.symbol: {
            "bars": len(s),
            "spacing_s": bars.bar_minutes * 60,
            "windows": len(bars.windows(s.symbol)),
            "first": moment_of(s.minute[0]),
            "last": moment_of(s.minute[-1]),
        }
        for s in bars.series
    }


def _printed(symbols: dict[str, dict[str, Any]]) -> str:
    """Columns as wide as what stands in them: nothing is cut, whatever the terminal."""
    rows = [["symbol", "bars", "spacing", "windows", "first", "last"]]
    for name, found in symbols.items():
        counts = [f"{found['bars']:,}", f"{found['spacing_s']} s", f"{found['windows']:,}"]
        rows.append([name, *counts, found["first"], found["last"]])
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if 0 < k < 4 else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(row, wide, strict=True))
        ).rstrip()
        for row in rows
    )


def _look(path: Path, symbol: str | None) -> tuple[Bars | None, dict[str, str], str]:
    """Bars, files passed over, and why there are no bars."""
    try:
        bars = load_bars(path, symbol)
        return bars, dict(bars.passed_over), ""
    except BarsError as error:
        if path.is_dir():
            return None, search_folder(path, symbol).passed_over, str(error)
        return None, {path.name: _without_path(str(error), path)}, str(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what PATH holds; 0, or 2 with the reason when nothing in it can be used."""
    parser = argparse.ArgumentParser(
        prog="python -m history.prices", description="What a file or a folder of bars holds."
    )
    parser.add_argument("path", metavar="PATH", help="a bar file, or a folder as MEVRL_DATA names")
    parser.add_argument("--json", default="", metavar="FILE", help="write the same here")
    parser.add_argument("--symbol", default=None, help="of bars whose file does not name it")
    given = parser.parse_args(arguments)
    try:
        bars, passed_over, why_not = _look(Path(given.path), given.symbol)
        symbols = {} if bars is None else describe(bars)
        if given.json:
            report = {"symbols": symbols, "passed_over": passed_over}
            write_atomically(given.json, json.dumps(report, indent=1) + "\n")
        if bars is None:
            print(f"error: {why_not}", file=sys.stderr)
            return 2
        print(bars.source)
        print(_printed(symbols))
        for name, why in passed_over.items():
            print(f"passed over {name}: {why}")
    except BarsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or given.json}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    ended("history.prices", main)
