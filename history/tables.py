"""Columns of recorded files (Parquet, CSV, zipped CSV), checked where they enter.

A loader states the columns it needs as `Column`s; `read_table` finds them under any of their names,
turns them into exact types and refuses what cannot be right, naming file, column, row and remedy.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

# A day of the public archives is about 1 GB unpacked; a bomb of a few kB must not fill the memory.
MAX_UNPACKED_BYTES = 8 << 30

INTEGER = "integer"  # Int64
BIG_INTEGER = "big integer"  # Int128: wei, reserves, liquidity
NUMBER = "number"  # Float64, finite
TEXT = "text"  # String; bytes become 0x and lower-case hexadecimal digits
FLAG = "flag"  # Boolean
MILLISECONDS = "milliseconds"  # Int64 since the epoch; a clock time is converted

_DTYPES = {
    INTEGER: pl.Int64(),
    BIG_INTEGER: pl.Int128(),
    NUMBER: pl.Float64(),
    TEXT: pl.String(),
    FLAG: pl.Boolean(),
    MILLISECONDS: pl.Int64(),
}


class TableError(ValueError):
    """A recorded file that cannot be used; the message names file, column, row and remedy."""


@dataclass(frozen=True)
class Column:
    """One column to read: the first of `names` is what it is called afterwards.

    Values outside low .. high are refused. A nullable column may hold empty values; an optional
    one may be missing altogether and is then all null.
    """

    names: tuple[str, ...]
    kind: str
    low: float | None = None
    high: float | None = None
    nullable: bool = False
    optional: bool = False


def read_table(path: str | Path, columns: Sequence[Column], what: str) -> pl.DataFrame:
    """The `columns` of a file, or of several: a folder's .parquet files, or a name with `*`.

    cryo writes blocks, logs and transactions of a range side by side, e.g.
    `ethereum__blocks__*.parquet`. Files are read in order of their names, rows keep theirs. `what`
    says in messages what the file should hold. Raises TableError.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
    elif "*" in path.name:
        files = sorted(path.parent.glob(path.name))
    if not files:
        raise TableError(f"{path}: no .parquet file there; give one with {what}")
    parts = [_typed(_read(file, columns, what), file, columns, what) for file in files]
    return pl.concat(parts)


def _read(path: Path, columns: Sequence[Column], what: str) -> pl.DataFrame:
    if not path.is_file():
        raise TableError(f"{path}: no such file; give a .parquet, .csv or .csv.zip with {what}")
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            wanted = {n for column in columns for n in column.names}
            present = pl.read_parquet_schema(path)
            return pl.read_parquet(path, columns=[c for c in present if c in wanted])
        # Everything as text: a wei amount read as a float would have lost digits.
        if name.endswith((".csv", ".csv.gz")):
            return pl.read_csv(path, infer_schema=False)
        if name.endswith(".csv.zip"):
            return pl.read_csv(_unzipped(path), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"{path}: not readable: {reason}; download it again") from error
    raise TableError(f"{path}: unknown file type; give .parquet, .csv, .csv.gz or .csv.zip")


def _unzipped(path: Path) -> io.BytesIO:
    """The one CSV of an archive; its stated size bounds what is unpacked."""
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if m.filename.lower().endswith(".csv")]
        if len(members) != 1:
            raise TableError(f"{path}: holds {len(members)} CSV files; give an archive of one")
        if members[0].file_size > MAX_UNPACKED_BYTES:
            raise TableError(
                f"{path}: unpacks to {members[0].file_size} bytes, more than {MAX_UNPACKED_BYTES}; "
                "unpack and split it"
            )
        return io.BytesIO(archive.read(members[0]))


def _typed(frame: pl.DataFrame, path: Path, columns: Sequence[Column], what: str) -> pl.DataFrame:
    series, missing = [], []
    for column in columns:
        found = next((name for name in column.names if name in frame.columns), None)
        if found is not None:
            series.append(_checked(frame[found], path, column))
        elif column.optional:
            empty = pl.Series([None], dtype=_DTYPES[column.kind]).new_from_index(0, frame.height)
            series.append(empty.alias(column.names[0]))
        else:
            missing.append(" or ".join(column.names))
    if missing:
        raise TableError(
            f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)} of {what}; it "
            f"has {', '.join(frame.columns) or 'none of them'}; rename or add them"
        )
    return pl.DataFrame(series)


def _checked(raw: pl.Series, path: Path, column: Column) -> pl.Series:
    """The series as its kind's type; the first value that does not fit is named."""
    if raw.dtype == pl.String and column.kind != TEXT:
        raw = raw.str.strip_chars().replace("", None)
    try:
        series = _as_kind(raw, column.kind)
    except pl.exceptions.PolarsError:
        raise TableError(
            f"{path}: column {column.names[0]} holds {raw.dtype}, not {column.kind}; convert it"
        ) from None
    lost = raw.is_not_null() & series.is_null()
    _refuse(path, column, raw, lost, f"not a {column.kind}")
    if not column.nullable and not column.optional:
        _refuse(path, column, raw, series.is_null(), "empty")
    if column.kind == NUMBER:
        _refuse(path, column, raw, ~series.is_finite() & series.is_not_null(), "not finite")
    if column.low is not None:
        _refuse(path, column, raw, (series < column.low).fill_null(False), f"below {column.low}")
    if column.high is not None:
        _refuse(path, column, raw, (series > column.high).fill_null(False), f"above {column.high}")
    return series.alias(column.names[0])


def _as_kind(raw: pl.Series, kind: str) -> pl.Series:
    """Cast without losing digits: what does not fit becomes null."""
    if raw.dtype == pl.Null:
        return raw.cast(_DTYPES[kind])
    if kind == TEXT:
        if raw.dtype == pl.Binary:
            return "0x" + raw.bin.encode("hex")
        return raw.cast(pl.String)
    if kind == FLAG and raw.dtype == pl.String:
        return raw.str.to_lowercase().replace_strict(
            {"true": True, "1": True, "false": False, "0": False},
            default=None,
            return_dtype=pl.Boolean,
        )
    if kind == MILLISECONDS and raw.dtype.is_temporal():
        return raw.dt.epoch("ms")
    if kind in (INTEGER, BIG_INTEGER, MILLISECONDS) and raw.dtype.is_float():
        # Columns with empty values often arrive as floats: whole ones up to 2^53 are exact.
        whole = (raw == raw.round()) & (raw.abs() <= 2.0**53)
        raw = pl.select(pl.when(whole).then(raw)).to_series()
    return raw.cast(_DTYPES[kind], strict=False)


def _refuse(path: Path, column: Column, raw: pl.Series, wrong: pl.Series, why: str) -> None:
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise TableError(
            f"{path}: column {column.names[0]}, row {row}: {raw[row]!r} is {why}; remove or repair "
            f"{int(wrong.sum())} such rows"
        )
