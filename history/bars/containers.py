"""Tables inside bar files: Parquet, CSV and JSON, plain or in zip, gzip or Zstandard.

Unpacking is bounded by bytes that arrive, not by the size that an archive states.
"""

import csv
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import polars as pl

from history.bars.series import BarsError

# A year of 1-minute bars of one symbol is 60 MB of CSV and half a million rows.
MAX_BYTES = 2 << 30
MAX_JSON_DEPTH = 8
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
MAX_JSON_BYTES = 256 << 20  # a parsed list takes ten times its text
MAX_ROWS = 20_000_000
MAX_MEMBERS = 10_000
MAX_PREAMBLE_LINES = 5

# Binance klines have 12 columns, Kraken's OHLCVT 7, ccxt's fetch_ohlcv 6; the first six agree.
KLINE = ("time", "open", "high", "low", "close", "volume")
BARE_WIDTHS = (6, 7, 12)
ENDINGS = (".parquet", ".csv", ".json", ".zip")
PACKED = (".gz", ".zst")
WANTED = "give .parquet, .csv, .csv.gz, .csv.zst, .json or a .zip of them"
_NUMERIC = re.compile(r"[+-]?(\d[\d,]*\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Table(NamedTuple):
    """One table of a file; `read` brings the named columns, those of text formats as text."""

    where: str  # the file, and the member of an archive, for messages
    name: str  # of the file or member
    columns: list[str]
    comma_decimals: bool  # separated by semicolons: a comma may be a decimal point
    read: Callable[[Sequence[str]], pl.DataFrame]


def tables_of(path: Path) -> Iterator[Table]:
    """The tables of a bar file in the order of their names, to be read inside `readable`."""
    if not path.is_file():
        raise BarsError(f"{path}: no such file; {WANTED}")
    name = path.name.lower()
    if name.endswith(".zip"):
        yield from _zipped(path)
    elif name.endswith(ENDINGS):
        if name.endswith(".parquet"):
            yield _parquet(path, str(path), path.name)
        else:
            with path.open("rb") as file:
                yield _text(_bounded(file, str(path)), str(path), path.name)
    elif name.endswith(tuple(e + p for e in (".csv", ".json") for p in PACKED)):
        with _unpacked(path) as file:
            data = _bounded(file, str(path))
        yield _text(data, str(path), path.name.rsplit(".", 1)[0])
    else:
        raise BarsError(f"{path}: unknown file type; {WANTED}")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What goes wrong inside while `path` is read becomes a BarsError that names it."""
    try:
        yield
    except BarsError:
        raise
    except (
        ValueError,  # of pyarrow
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        OSError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
        NotImplementedError,  # a compression that zipfile does not know
        RuntimeError,  # an encrypted member
        MemoryError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BarsError(f"{path}: not readable as {path.suffix[1:]}: {reason}") from error


def _unpacked(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path))
    import pyarrow  # half a second that plain CSV does not need

    return pyarrow.input_stream(str(path), compression="zstd")  # type: ignore[return-value]


def _bounded(file: BinaryIO, where: str) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BarsError(f"{where}: unpacks to more than {MAX_BYTES:,} bytes; split it")
    return data


def _zipped(path: Path) -> Iterator[Table]:
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist()
        if len(listed) > MAX_MEMBERS:
            raise BarsError(f"{path}: holds {len(listed)} files, more than {MAX_MEMBERS}; split it")
        members = sorted(
            (m for m in listed if m.filename.lower().endswith(ENDINGS[:3])),
            key=lambda m: m.filename,
        )
        members = [m for m in members if not m.filename.startswith("__MACOSX/")]
        if not members:
            raise BarsError(f"{path}: empty: no .csv, .parquet or .json in it; download it again")
        for member in members:
            where = f"{path} ({member.filename})"
            with archive.open(member) as file:
                data = _bounded(file, where)  # type: ignore[arg-type]
            name = Path(member.filename).name
            if name.lower().endswith(".parquet"):
                yield _parquet(io.BytesIO(data), where, name)
            else:
                yield _text(data, where, name)


def _parquet(source: Path | io.BytesIO, where: str, name: str) -> Table:
    # polars panics at a zone that is an offset, e.g. +05:30, which pandas writes.
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    file = parquet.ParquetFile(source)
    _check_rows(file.metadata.num_rows, where)

    def read(wanted: Sequence[str]) -> pl.DataFrame:
        table = file.read(columns=list(wanted))
        for k, field in enumerate(table.schema):
            if arrow.types.is_timestamp(field.type) and field.type.tz is not None:
                utc = table[k].cast(arrow.timestamp(field.type.unit, "UTC"))
                table = table.set_column(k, field.name, utc)
        return cast(pl.DataFrame, pl.from_arrow(table))

    return Table(where, name, list(file.schema_arrow.names), False, read)


def _check_rows(rows: int, where: str) -> None:
    if rows > MAX_ROWS:
        raise BarsError(f"{where}: holds {rows:,} rows, more than {MAX_ROWS:,}; split it")


def _text(data: bytes, where: str, name: str) -> Table:
    if not data.strip():
        raise BarsError(f"{where}: empty; download it again or remove it")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BarsError(f"{where}: is UTF-16 text; save it as UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    return (_json if name.lower().endswith(".json") else _csv)(data, where, name)


def _csv(data: bytes, where: str, name: str) -> Table:
    """A CSV with a header, or without one in the layout of Binance, Kraken or ccxt.

    Lines before the header that hold no columns are skipped: cryptodatadownload.com begins its
    files with its address.
    """
    _check_rows(data.count(b"\n"), where)
    start, fields, separator = 0, [""], ","
    for _ in range(MAX_PREAMBLE_LINES + 1):
        end = data.find(b"\n", start)
        line = data[start : end if end >= 0 else len(data)].decode("utf-8", "replace").strip()
        separator = max(",;\t|", key=line.count)
        fields = next(csv.reader([line], delimiter=separator), [""])
        if (len(fields) > 1 and not line.startswith(("#", "http"))) or end < 0:
            break
        start = end + 1
    fields = [field.strip() for field in fields]
    bare = len(fields) >= len(KLINE) and all(map(_NUMERIC.fullmatch, fields[1:6]))
    if bare:
        names = _bare_names(len(fields), where)
    else:
        names = fields
        end = data.find(b"\n", start)
        start = len(data) if end < 0 else end + 1
    _check_names(names, where)
    body = data[start:]

    def read(wanted: Sequence[str]) -> pl.DataFrame:
        if not body.strip():
            return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
        at = sorted(names.index(column) for column in wanted)
        frame = pl.read_csv(
            body, has_header=False, separator=separator, columns=at, infer_schema=False
        )
        frame.columns = [names[k] for k in at]
        return frame

    return Table(where, name, names, separator == ";", read)


def _depth(data: bytes) -> int:
    """How deep brackets are nested, those within strings counted too.

    The reader of JSON recurses on the stack of C, which a raised recursion limit lets overflow.
    """
    brackets = np.frombuffer(data.translate(None, delete=_NO_BRACKETS), np.uint8)
    opens = np.isin(brackets, np.frombuffer(b"[{", np.uint8))
    return int(np.cumsum(np.where(opens, 1, -1)).max(initial=0))


def _json(data: bytes, where: str, name: str) -> Table:
    """A list of bars: arrays as ccxt and Binance answer them, or objects with names."""
    if len(data) > MAX_JSON_BYTES:
        raise BarsError(f"{where}: more than {MAX_JSON_BYTES:,} bytes of JSON; convert it to CSV")
    if (depth := _depth(data)) > MAX_JSON_DEPTH:
        raise BarsError(f"{where}: not readable as JSON: brackets {depth} deep, bars have 2")
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BarsError(f"{where}: not readable as JSON: {error}") from error
    if not isinstance(rows, list):
        raise BarsError(f"{where}: holds no list of bars; give [[time, open, ...], ...]")
    if not rows:
        raise BarsError(f"{where}: empty: a list without bars; download it again")
    first = rows[0]
    if isinstance(first, dict):
        names = [str(key) for key in first]
        _check_names(names, where)
        values = partial(_of_object, names)
    elif isinstance(first, list):
        names = _bare_names(len(first), where)
        values = partial(_of_array, len(first))
    else:
        raise BarsError(f"{where}: row 1 is {first!r:.40}, no bar; give [[time, open, ...], ...]")

    def read(wanted: Sequence[str]) -> pl.DataFrame:
        at = [names.index(column) for column in wanted]
        columns: list[list[str | None]] = [[] for _ in at]
        for k, row in enumerate(rows):
            found = values(row)
            if found is None:
                raise BarsError(f"{where}: row {k + 1} has other columns than row 1; repair it")
            for column, i in zip(columns, at, strict=True):
                column.append(None if found[i] is None else str(found[i]))
        return pl.DataFrame(columns, dict.fromkeys(wanted, pl.String), orient="col")

    return Table(where, name, names, False, read)


def _of_object(names: Sequence[str], row: object) -> list[object] | None:
    return [row[n] for n in names] if isinstance(row, dict) and row.keys() >= {*names} else None


def _of_array(width: int, row: object) -> list[object] | None:
    return row if isinstance(row, list) and len(row) == width else None


def _bare_names(width: int, where: str) -> list[str]:
    """Names of columns without a header: the first six are a bar, the rest is not read."""
    if width not in BARE_WIDTHS:
        raise BarsError(
            f"{where}: {width} columns without a header; a header such as {','.join(KLINE)} is "
            f"needed, only {', '.join(map(str, BARE_WIDTHS))} columns are known without one"
        )
    return [*KLINE, *(f"column {k + 1}" for k in range(len(KLINE), width))]


def _check_names(names: Sequence[str], where: str) -> None:
    twice = next((n for k, n in enumerate(names) if n in names[:k]), None)
    if twice is not None:
        raise BarsError(f"{where}: two columns are called {twice!r}; rename one")
