"""Times of bars in UTC from what files write: clocks of any zone, Unix times, ISO 8601 text.

The unit of a Unix time is decided for each row: seconds, milliseconds, microseconds and nanoseconds
of the years 2009 to 2099 are ranges that do not overlap. Binance archives changed from milliseconds
to microseconds on 1 January 2025, so joined files hold both.
"""

import polars as pl

from history.bars.series import BarsError

MICROS = 10**6
FIRST_S, UNTIL_S = 1_230_768_000, 4_102_444_800  # 2009, the year of the first block, to 2100
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_WHOLE = r"^[+-]?\d+$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DAY_OR_MONTH = r"^\d{1,2}[/.\-]\d{1,2}[/.\-]\d{2,4}\b"
_ISO = (
    r"^(?P<date>\d{4}[-/]\d{2}[-/]\d{2})"
    r"(?:[T ]+(?P<clock>\d{2}:\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d+))?)?)?"
    r"\s*(?:Z|UTC|GMT|(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2}))?$"
)


def microseconds(time: pl.Series, where: str, column: str) -> pl.Series:
    """Int64 microseconds since the epoch of a time column; clocks without a zone are UTC.

    Rows count from 1. Raises BarsError naming file, row, column and remedy.
    """
    if time.dtype in (pl.Categorical, pl.Enum, pl.Binary):
        time = time.cast(pl.String, strict=False)
    if time.dtype == pl.String:
        time = time.str.strip_chars().replace("", None)
    _refuse(time, time.is_null(), where, column, "is empty; fill it in")
    if time.dtype == pl.Date:
        time = time.cast(pl.Datetime("us"))
    if isinstance(time.dtype, pl.Datetime):
        # The stored number is UTC whatever the zone.
        ticks = time.to_physical()
        found = {"ms": ticks * 1000, "us": ticks, "ns": ticks // 1000}[time.dtype.time_unit]
    elif time.dtype.is_numeric():
        found = _of_unix(time, time, where, column)
    elif time.dtype == pl.String:
        found = _of_text(time, where, column)
    else:
        raise BarsError(f"{where}: column {column} holds {time.dtype}; give times or ISO text")
    outside = ~found.is_between(FIRST_S * MICROS, UNTIL_S * MICROS, closed="left")
    _refuse(time, outside, where, column, "lies outside the years 2009 to 2099; repair it")
    return found.alias("time")


def _of_text(time: pl.Series, where: str, column: str) -> pl.Series:
    numeric = time.str.contains(_NUMBER)
    if numeric.all():
        # Whole numbers of nanoseconds have more digits than a float keeps.
        whole = time.str.contains(_WHOLE)
        if whole.all():
            return _of_unix(time.cast(pl.Int64, strict=False), time, where, column)
        return _of_unix(time.cast(pl.Float64, strict=False), time, where, column)
    other = numeric != numeric[0]
    _refuse(time, other, where, column, f"is written otherwise than {time[0]!r} of row 1")
    unclear = time.str.contains(_DAY_OR_MONTH)
    _refuse(
        time,
        unclear,
        where,
        column,
        "is ambiguous: does the day or the month come first? write ISO dates, e.g. "
        "2025-01-02T00:00Z, or Unix times",
    )
    parts = time.str.extract_groups(_ISO).struct.unnest()
    seconds = parts["second"].fill_null("00").replace("", "00")
    clock = parts["clock"].fill_null("00:00").replace("", "00:00")
    text = parts["date"].str.replace_all("/", "-") + " " + clock + ":" + seconds
    local = text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    _refuse(time, local.is_null(), where, column, "is not ISO 8601; write 2025-05-20T00:00:00Z")
    fraction = parts["fraction"].fill_null("").str.slice(0, 6).str.pad_end(6, "0").cast(pl.Int64)
    ahead_s = _number(parts["hours"]) * 3600 + _number(parts["minutes"]) * 60
    behind = parts["sign"].eq("-").fill_null(False)
    ahead_s = ahead_s.zip_with(~behind, -ahead_s)
    return local.dt.epoch("us") + fraction - ahead_s * MICROS


def _number(text: pl.Series) -> pl.Series:
    return text.replace("", None).fill_null("0").cast(pl.Int64)


def _of_unix(number: pl.Series, time: pl.Series, where: str, column: str) -> pl.Series:
    """Microseconds of Unix times, the unit of each row by its magnitude."""
    if not number.dtype.is_integer():
        number = number.cast(pl.Float64, strict=False)
        odd = ~(number.is_finite() & (number == number.round()))
        _refuse(time, odd.fill_null(True), where, column, "is not a whole number of any unit")
    number = number.cast(pl.Int64, strict=False)
    found = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(number))
    for per_second in _UNITS.values():
        here = number.is_between(FIRST_S * per_second, UNTIL_S * per_second, closed="left")
        if per_second <= MICROS:
            micros = pl.select(pl.when(here).then(number)).to_series() * (MICROS // per_second)
        else:
            micros = number // (per_second // MICROS)
        found = found.zip_with(~here.fill_null(False), micros)
    _refuse(
        time,
        found.is_null(),
        where,
        column,
        "is no Unix time of the years 2009 to 2099 in s, ms, us or ns; repair it",
    )
    return found


def _refuse(time: pl.Series, wrong: pl.Series, where: str, column: str, why: str) -> None:
    if wrong.any():
        row = int(wrong.arg_true()[0])
        value = "the time" if time[row] is None else f"{str(time[row])!r}"
        more = int(wrong.sum())
        raise BarsError(
            f"{where}: row {row + 1}, column {column}: {value} {why} ({more} such "
            f"row{'s' * (more > 1)})"
        )
