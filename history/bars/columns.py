"""The columns of a bar table found by their usual names, as exact types.

Layouts: Binance klines, ccxt, Kraken, cryptodatadownload.com (columns Unix, Date, Symbol, Open ...,
`Volume ETH`, newest first), and plain tables. Rows in messages count from 1, after the header.
"""

import re
from typing import NamedTuple

import polars as pl

from history.bars.containers import Table
from history.bars.series import VALUE_COLUMNS, BarsError
from history.bars.times import microseconds

# A Unix time is read before a text that may not say its zone or order.
TIME_COLUMNS = (
    "unix",
    "open_time",
    "opentime",
    "date",
    "timestamp",
    "datetime",
    "time",
    "unix_timestamp",
    "gmt_time",
    "__index_level_0__",  # the index of a pandas frame in Parquet
    "",  # and in CSV
)
SYMBOL_COLUMNS = ("symbol", "ticker", "pair")
QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "GBP", "DAI", "BTC", "ETH")
NO_ASSETS = ("BARS", "DATA", "KLINE", "OHLC", "OHLCV", "PERP", "PRICE", "SPOT", "TEST")
_PAIR = re.compile(rf"([A-Z0-9]{{2,10}}?)({'|'.join(QUOTES)})")
_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$"
_VOLUME_OF = re.compile(r"volume[_(]+([a-z0-9]+)\)?")


class Named(NamedTuple):
    """Names in a table of what a bar needs; `symbol` is None when no column holds it."""

    time: str
    symbol: str | None
    values: tuple[str, ...]


def frame_of(table: Table, symbol: str | None) -> pl.DataFrame:
    """Columns symbol, time (Int64 microseconds) and the five values (Float64) of a table.

    The symbol is that of its column, else `symbol`, else that of the file's name. Raises BarsError.
    """
    named = _columns_of(table, symbol)
    wanted = [named.time, *named.values]
    frame = table.read([*wanted, named.symbol] if named.symbol is not None else wanted)
    if frame.is_empty():
        raise BarsError(f"{table.where}: empty: holds no rows; give a file with bars")
    if named.symbol is not None:
        name = _symbols(frame[named.symbol], table.where, named.symbol)
    else:
        given = symbol or symbol_of_file(table.name)
        name = pl.Series([given], dtype=pl.String).new_from_index(0, len(frame))
    values = [
        _numbers(frame[column], table, column).alias(plain)
        for column, plain in zip(named.values, VALUE_COLUMNS, strict=True)
    ]
    time = microseconds(frame[named.time], table.where, named.time)
    return pl.DataFrame([name.alias("symbol"), time, *values])


def symbol_of_file(name: str) -> str | None:
    """The pair of assets that a file's name begins with or holds, e.g. ETHUSDT-1m-2025-01-01.csv,
    Binance_ETHUSDT_minute.csv, ETH_USDT.json, btc-usd.csv; None when there is none."""
    words = re.split(r"[^A-Z0-9]+", name.upper())
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if _PAIR.fullmatch(word) and word not in QUOTES:
            return word
        if following in QUOTES and re.fullmatch(r"[A-Z0-9]{2,5}", word) and word not in NO_ASSETS:
            return word + following
    return None


def _columns_of(table: Table, symbol: str | None) -> Named:
    found: dict[str, str] = {}
    for column in table.columns:
        plain = re.sub(r"[\s_]+", "_", column.strip().lower())
        if plain in found and plain in (*TIME_COLUMNS, *SYMBOL_COLUMNS, *VALUE_COLUMNS):
            raise BarsError(f"{table.where}: columns {found[plain]!r} and {column!r}: rename one")
        found.setdefault(plain, column)
    if "volume" not in found and (volume := _base_volume(found)) is not None:
        found["volume"] = volume
    time = next((found[c] for c in TIME_COLUMNS if c in found), None)
    own = next((found[c] for c in SYMBOL_COLUMNS if c in found), None)
    missing = [c for c in VALUE_COLUMNS if c not in found]
    if time is None:
        missing.insert(0, "date (or timestamp)")
    if not missing and own is None and not (symbol or symbol_of_file(table.name)):
        missing.insert(0, "symbol (or name the file by it, ETHUSDT.csv, or give --symbol ETHUSDT)")
    if missing or time is None:
        raise BarsError(
            f"{table.where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; it "
            f"has {', '.join(table.columns)}; rename or add them"
        )
    return Named(time, own, tuple(found[c] for c in VALUE_COLUMNS))


def _base_volume(found: dict[str, str]) -> str | None:
    """Of `Volume ETH` and `Volume USDT` the first that is not the currency of the price."""
    assets = {c: match[1].upper() for c in found if (match := _VOLUME_OF.fullmatch(c))}
    assets.pop("volume_quote", None)
    base = [c for c, asset in assets.items() if asset not in QUOTES]
    # Of a pair of two such assets the base stands first; a lone quote volume is none.
    either = base or [c for c, asset in assets.items() if asset in ("ETH", "BTC")]
    return found[either[0]] if either else None


def _symbols(raw: pl.Series, where: str, column: str) -> pl.Series:
    """Names in capitals; ETH/USDT and ETH-USDT become ETHUSDT."""
    name = raw.cast(pl.String, strict=False).str.strip_chars().str.to_uppercase().replace("", None)
    if name.null_count():
        row = int(name.is_null().arg_true()[0])
        raise BarsError(f"{where}: row {row + 1}, column {column}: empty; fill it in")
    return name.str.replace(rf"^([A-Z0-9]+)[/_-]({'|'.join(QUOTES)})$", "$1$2")


def _numbers(raw: pl.Series, table: Table, column: str) -> pl.Series:
    """Float64 of numbers or of text, thousands in groups of three allowed; nan stays."""
    if raw.dtype == pl.String:
        text = raw.str.strip_chars().replace("", None)
        number = text.cast(pl.Float64, strict=False)
        if not table.comma_decimals:
            grouped = text.str.contains(_THOUSANDS).fill_null(False)
            plain = text.str.replace_all(",", "").cast(pl.Float64, strict=False)
            number = number.zip_with(~grouped, plain)
    elif raw.dtype.is_numeric() or raw.dtype == pl.Null:
        number = raw.cast(pl.Float64, strict=False)
    else:
        raise BarsError(f"{table.where}: column {column} holds {raw.dtype}, not numbers")
    if number.null_count():
        row = int(number.is_null().arg_true()[0])
        what = "empty" if raw[row] is None else f"{raw[row]!r} is not a number"
        raise BarsError(
            f"{table.where}: row {row + 1}, column {column}: {what}; repair {number.null_count()} "
            "such rows"
        )
    return number
