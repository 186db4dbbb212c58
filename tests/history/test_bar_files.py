"""Bar files as exchanges and tools write them: the right bars, or a refusal that says why."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow
import pyarrow.parquet
import pytest

from history.bars import containers
from history.bars.columns import symbol_of_file
from history.prices import Bars, BarsError, load_bars, main, minute_of, search_folder
from tests.support.recorded import case_folder

FIRST_S = 1_735_689_600  # 2025-01-01T00:00Z
N = 40
HEADER = "open_time,open,high,low,close,volume"
KLINE_HEADER = (
    HEADER + ",close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
Lines = list[str]


def bar(k: int) -> str:
    return f"{3000 + k}.0,{3002 + k}.0,{2998 + k}.0,{3000.5 + k},{1.5 + k}"


def rows(unit: int = 1, n: int = N, first: int = 0, step_s: int = 60) -> Lines:
    return [f"{(FIRST_S + step_s * k) * unit},{bar(k)}" for k in range(first, first + n)]


def klines(unit: int, n: int = N, first: int = 0) -> Lines:
    return [
        f"{row},{(FIRST_S + 60 * k + 60) * unit - 1},1.0,5,1.0,1.0,0"
        for k, row in enumerate(rows(unit, n, first), first)
    ]


def text(lines: Lines) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def assert_the_bars(bars: Bars, n: int = N, symbol: str = "ETHUSDT") -> None:
    assert bars.symbols == (symbol,)
    assert bars.bar_minutes == 1
    own = bars.of(symbol)
    assert own.minute.tolist() == [FIRST_S // 60 + k for k in range(n)]
    k = np.arange(n)
    wanted = np.stack([3000.0 + k, 3002.0 + k, 2998.0 + k, 3000.5 + k, 1.5 + k], axis=1)
    assert np.array_equal(own.ohlcv, wanted)


def iso(k: int, form: str) -> str:
    return (datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=k)).strftime(form)


def dated(form: str) -> bytes:
    return text(
        ["date,open,high,low,close,volume", *(f"{iso(k, form)},{bar(k)}" for k in range(N))]
    )


def downloaded(unit: int, volume: str = "Volume ETH,Volume USDT") -> bytes:
    """cryptodatadownload.com: an address, names, newest first."""
    lines = [
        f"{(FIRST_S + 60 * k) * unit},{iso(k, '%Y-%m-%d %H:%M:%S')},ETH/USDT,{bar(k)},9e3,7"
        for k in reversed(range(N))
    ]
    header = f"Unix,Date,Symbol,Open,High,Low,Close,{volume},tradecount"
    return text(["https://www.CryptoDataDownload.com", header, *lines])


def arrays(unit: int, as_text: bool = False) -> bytes:
    found = []
    for line in rows(unit):
        time, *values = line.split(",")
        found.append([int(time), *(values if as_text else map(float, values))])
    return json.dumps(found).encode()


def objects() -> bytes:
    names = HEADER.split(",")
    return json.dumps(
        [dict(zip(names, line.split(","), strict=True)) for line in rows(1000)]
    ).encode()


def grouped() -> bytes:
    lines = []
    for line in rows():
        time, *values = line.split(",")
        lines.append(",".join([time, *(f'"{float(v):,.2f}"' for v in values)]))
    return text([HEADER, *lines])


FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "klines, ms": ("ETHUSDT-1m-2025-01-01.csv", lambda: text(klines(10**3))),
    "klines, us": ("ETHUSDT-1m-2025-01-01.csv", lambda: text([KLINE_HEADER, *klines(10**6)])),
    "both units": ("ETHUSDT.csv", lambda: text([HEADER, *rows(10**3, 20), *rows(10**6, 20, 20)])),
    "us first": ("ETHUSDT.csv", lambda: text([*rows(10**6, 20), *rows(10**3, 20, 20)])),
    "all units": (
        "ETHUSDT.csv",
        lambda: text([HEADER, *(rows(10 ** (3 * (k % 4)), 1, k)[0] for k in range(N))]),
    ),
    "zip": ("ETHUSDT-1m-2025-01.zip", lambda: zipped(ETHUSDT__csv=text(klines(10**3)))),
    "zip of two": (
        "ETHUSDT.zip",
        lambda: zipped(
            ETHUSDT_1__csv=text(klines(10**3, 20)),
            ETHUSDT_2__csv=text([KLINE_HEADER, *klines(10**6, 20, 20)]),
            README__txt=b"no bars",
        ),
    ),
    "gz": ("ETHUSDT.csv.gz", lambda: gzip.compress(text([HEADER, *reversed(rows())]))),
    "zst": ("ETHUSDT.csv.zst", lambda: zstd(text([HEADER, *rows()]))),
    "ccxt csv": ("ETH_USDT.csv", lambda: text(rows(10**3))),
    "ccxt json": ("ETH_USDT-1m.json", lambda: arrays(10**3)),
    "binance json": ("ETHUSDT.json", lambda: arrays(10**3, as_text=True)),
    "json objects": ("ETHUSDT.json", objects),
    "json gz": ("ETHUSDT.json.gz", lambda: gzip.compress(arrays(10**3))),
    "cryptodatadownload, ms": ("Binance_ETHUSDT_minute.csv", lambda: downloaded(10**3)),
    "cryptodatadownload, s": ("any.csv", lambda: downloaded(1)),
    "spaces, capitals": (
        "ETH-USDT.csv",
        lambda: text(["Open Time, Open, High, Low, Close, Volume", *rows(10**3)]),
    ),
    "semicolons": ("ETHUSDT.csv", lambda: text([HEADER, *rows()]).replace(b",", b";")),
    "byte order mark": ("ETHUSDT.csv", lambda: b"\xef\xbb\xbf" + text([HEADER, *rows()])),
    "windows lines": ("ETHUSDT.csv", lambda: text([HEADER, *rows()]).replace(b"\n", b"\r\n")),
    "thousands": ("ETHUSDT.csv", grouped),
    "ISO, Z": ("ETHUSDT.csv", lambda: dated("%Y-%m-%dT%H:%M:%SZ")),
    "ISO, minutes": ("ETHUSDT.csv", lambda: dated("%Y-%m-%d %H:%M")),
    "ISO, fraction": ("ETHUSDT.csv", lambda: dated("%Y-%m-%d %H:%M:%S.000000 UTC")),
    "ISO, zone": ("ETHUSDT.csv", lambda: dated("%Y-%m-%dT%H:%M:%S+00:00")),
    "slashes": ("ETHUSDT.csv", lambda: dated("%Y/%m/%d %H:%M:%S")),
}


@pytest.mark.parametrize("layout", FILES)
def test_layouts_hold_the_same_bars(tmp_path: Path, layout: str) -> None:
    name, content = FILES[layout]
    path = tmp_path / name
    path.write_bytes(content())
    assert_the_bars(load_bars(path))
    bars, passed_over = search_folder(tmp_path)
    assert bars is not None
    assert_the_bars(bars)
    assert passed_over == {}


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York", "Asia/Kolkata", "+05:30"])
def test_parquet_of_any_clock(tmp_path: Path, unit: str, zone: str | None) -> None:
    table = pl.read_csv(text([HEADER, *rows()])).with_columns(
        pl.from_epoch("open_time", "s").cast(pl.Datetime(unit)).alias("open_time")  # type: ignore[arg-type]
    )
    if zone is not None:
        arrow = table.to_arrow()
        clock = pyarrow.timestamp(unit, zone)
        arrow = arrow.set_column(0, "open_time", arrow["open_time"].cast(clock))
        pyarrow.parquet.write_table(arrow, tmp_path / "ETHUSDT.parquet")
    else:
        table.write_parquet(tmp_path / "ETHUSDT.parquet")
    assert_the_bars(load_bars(tmp_path))


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64, pl.Float64, pl.String])
def test_parquet_of_unix_times(tmp_path: Path, dtype: type[pl.DataType]) -> None:
    table = pl.read_csv(text([HEADER, *rows(10**9)]))
    table = table.with_columns(pl.col("open_time").cast(dtype))
    table.write_parquet(tmp_path / "ETHUSDT.parquet")
    assert_the_bars(load_bars(tmp_path))


def test_offsets_are_taken_off(tmp_path: Path) -> None:
    for offset, first in (("-05:00", "2025-01-01T05:00"), ("+0530", "2024-12-31T18:30")):
        (tmp_path / "ETHUSDT.csv").write_bytes(dated(f"%Y-%m-%dT%H:%M:%S{offset}"))
        assert load_bars(tmp_path).of("ETHUSDT").minute[0] == minute_of(first)


def test_the_volume_is_that_of_the_base(tmp_path: Path) -> None:
    for volume in ("Volume USDT,Volume ETH", "Volume ETH,Volume BTC", "Volume,Volume USDT"):
        body = downloaded(1, volume)
        (tmp_path / "x.csv").write_bytes(body)
        got = load_bars(tmp_path).of("ETHUSDT").ohlcv[0, 4]
        assert got == (9e3 if volume.startswith("Volume USDT") else 1.5)
    (tmp_path / "x.csv").write_bytes(downloaded(1, "Volume USDT,trades"))
    with pytest.raises(BarsError, match="missing column volume"):
        load_bars(tmp_path)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("ETHUSDT-1m-2025-01-01.csv", "ETHUSDT"),
        ("btcusdt.csv", "BTCUSDT"),
        ("Binance_SOLUSDT_1h.csv", "SOLUSDT"),
        ("ETH_USDT-1m.json", "ETHUSDT"),
        ("coinbase-btc-usd.csv", "BTCUSD"),
        ("ETHBTC.csv", "ETHBTC"),
        ("prices.csv", None),
        ("binance_1m.parquet", None),
        ("price_eth.csv", None),
        ("usdc.csv", None),
    ],
)
def test_the_symbol_of_a_file_name(name: str, symbol: str | None) -> None:
    assert symbol_of_file(name) == symbol


def changed(lines: Lines, row: int, was: str, now: str) -> bytes:
    assert was in lines[row]
    return text([HEADER, *lines[:row], lines[row].replace(was, now), *lines[row + 1 :]])


REFUSED: dict[str, tuple[str, Callable[[], bytes], list[str]]] = {
    "day or month": (
        "ETHUSDT.csv",
        lambda: dated("%m/%d/%Y %H:%M"),
        ["row 1, column date", "'01/01/2025 00:00'", "does the day or the month", "ISO"],
    ),
    "dots": ("ETHUSDT.csv", lambda: dated("%d.%m.%Y %H:%M"), ["does the day or the month"]),
    "two-digit year": ("ETHUSDT.csv", lambda: dated("%d-%m-%y %H:%M"), ["the day or the month"]),
    "no such month": (
        "ETHUSDT.csv",
        lambda: dated("%Y-13-%d %H:%M"),
        ["row 1", "'2025-13-01 00:00'", "not ISO 8601"],
    ),
    "hourly": ("ETHUSDT.csv", lambda: text([HEADER, *rows(step_s=3600)]), ["3600 s", "ETHUSDT"]),
    "every second": ("ETHUSDT.csv", lambda: text([HEADER, *rows(step_s=1)]), ["every 1 s"]),
    "half-minutes": ("ETHUSDT.csv", lambda: text([HEADER, *rows(step_s=30)]), ["every 30 s"]),
    "daily": ("ETHUSDT.csv", lambda: text([HEADER, *rows(step_s=86400)]), ["every 86400 s"]),
    "close times": (
        "ETHUSDT.csv",
        lambda: text([HEADER, *(r.replace("00000,", "59999,", 1) for r in rows(10**3))]),
        ["00:00:59.999", "not a whole minute", "open time"],
    ),
    "no close": (
        "ETHUSDT.csv",
        lambda: text(["timestamp,open,high,low,volume", *(r.rsplit(",", 1)[0] for r in rows())]),
        ["missing column close", "it has timestamp, open, high, low, volume"],
    ),
    "two columns": ("ETHUSDT.csv", lambda: b"time,price\n1,2\n3,4\n", ["missing columns open"]),
    "twice close": (
        "ETHUSDT.csv",
        lambda: text([HEADER + ",Close", *(r + ",1" for r in rows())]),
        ["'close' and 'Close'"],
    ),
    "no symbol": ("a.csv", lambda: text([HEADER, *rows()]), ["symbol", "ETHUSDT.csv", "--symbol"]),
    "headless of 8": (
        "ETHUSDT.csv",
        lambda: text([r + ",1,2" for r in rows()]),
        ["8 columns without a header"],
    ),
    "decimal comma": (
        "ETHUSDT.csv",
        lambda: text([HEADER, *rows()]).replace(b",", b";").replace(b".", b","),
        ["row 1, column open", "'3000,0' is not a number"],
    ),
    "a word": (
        "ETHUSDT.csv",
        lambda: changed(rows(), 6, "3006.5", "n/a"),
        ["row 7, column close", "'n/a' is not a number"],
    ),
    "empty cell": (
        "ETHUSDT.csv",
        lambda: changed(rows(), 6, "3006.5", ""),
        ["row 7, column close: empty"],
    ),
    "cut row": (
        "ETHUSDT.csv",
        lambda: text([HEADER, *rows()])[:-12],
        [f"row {N}, column close"],
    ),
    "nan": ("ETHUSDT.csv", lambda: changed(rows(), 6, "3006.5", "nan"), ["00:06Z", "close is nan"]),
    "infinite": ("ETHUSDT.csv", lambda: changed(rows(), 6, "3008.0", "inf"), ["high is inf"]),
    "negative": ("ETHUSDT.csv", lambda: changed(rows(), 6, "3006.0", "-1"), ["open is -1.0"]),
    "zero": ("ETHUSDT.csv", lambda: changed(rows(), 6, "3004.0", "0"), ["low is 0.0"]),
    "high below low": (
        "ETHUSDT.csv",
        lambda: changed(rows(), 6, "3008.0", "2900"),
        ["00:06Z", "high 2900.0 does not bound"],
    ),
    "two of one minute": (
        "ETHUSDT.csv",
        lambda: text([HEADER, *rows(), rows()[3].replace("3003.5", "3003.75")]),
        ["two different bars at 2025-01-01T00:03Z"],
    ),
    "year 56970": (
        "ETHUSDT.csv",
        lambda: changed(rows(), 6, "1735689960", "1735689960000000000000"),
        ["row 7", "2009 to 2099"],
    ),
    "year 1970": ("ETHUSDT.csv", lambda: changed(rows(), 0, "1735689600", "60"), ["row 1", "'60'"]),
    "a date as a number": (
        "ETHUSDT.csv",
        lambda: changed(rows(), 2, "1735689720", "20250101"),
        ["row 3", "no Unix time"],
    ),
    "a fraction": (
        "ETHUSDT.csv",
        lambda: changed(rows(), 2, "1735689720", "1735689720.5"),
        ["row 3", "not a whole number"],
    ),
    "year 2100": ("ETHUSDT.csv", lambda: dated("2100-%m-%d %H:%M"), ["row 1", "2009 to 2099"]),
    "text among numbers": (
        "ETHUSDT.csv",
        lambda: changed(rows(), 2, "1735689720", "2025-01-01T00:02Z"),
        ["row 3", "written otherwise than '1735689600' of row 1"],
    ),
    "no time": ("ETHUSDT.csv", lambda: changed(rows(), 2, "1735689720", ""), ["row 3", "is empty"]),
    "one bar": ("ETHUSDT.csv", lambda: text([HEADER, *rows(n=1)]), ["two consecutive bars"]),
    "header only": ("ETHUSDT.csv", lambda: text([HEADER]), ["empty: holds no rows"]),
    "nothing": ("ETHUSDT.csv", lambda: b" \n", ["empty"]),
    "empty in a zip": (
        "ETHUSDT-1m-2025-01-01.zip",
        lambda: zipped(**{"ETHUSDT-1m-2025-01-01__csv": b""}),
        ["(ETHUSDT-1m-2025-01-01.csv): empty"],
    ),
    "zip of nothing": ("ETHUSDT.zip", lambda: zipped(), ["empty: no .csv"]),
    "no zip": ("ETHUSDT.zip", lambda: b"<html>", ["not readable as zip"]),
    "cut gz": (
        "ETHUSDT.csv.gz",
        lambda: gzip.compress(text([HEADER, *rows()]))[:200],
        ["not readable as gz"],
    ),
    "no gz": ("ETHUSDT.csv.gz", lambda: b"<html>", ["not readable as gz"]),
    "no zst": ("ETHUSDT.csv.zst", lambda: b"<html>", ["not readable as zst"]),
    "no json": ("ETHUSDT.json", lambda: b"[[1,", ["not readable as JSON"]),
    "deep json": ("ETHUSDT.json", lambda: b"[" * 10**6, ["not readable as JSON"]),
    "json error": ("ETHUSDT.json", lambda: b'{"code": -1121}', ["holds no list of bars"]),
    "json of none": ("ETHUSDT.json", lambda: b"[]", ["empty"]),
    "json of strings": ("ETHUSDT.json", lambda: b'["a"]', ["row 1 is 'a', no bar"]),
    "more cells": (
        "ETHUSDT.csv",
        lambda: changed(rows(), 6, "3006.5", "3006.5,1,2,3"),
        ["not readable as csv"],
    ),
    "uneven json": (
        "ETHUSDT.json",
        lambda: b"[[1735689600,1,1,1,1,1],[1735689660,1,1,1,1]]",
        ["row 2 has other columns"],
    ),
    "utf-16": ("ETHUSDT.csv", lambda: text([HEADER]).decode().encode("utf-16"), ["UTF-16"]),
    "noise": ("ETHUSDT.csv", lambda: bytes(range(128, 256)) * 50, ["missing columns"]),
    "no parquet": ("ETHUSDT.parquet", lambda: b"PAR1" * 9, ["not readable as parquet"]),
    "xz": ("ETHUSDT.csv.xz", lambda: b"", ["unknown file type", ".csv.zst"]),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_faults_are_named_by_file_and_folder_alike(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, words = REFUSED[fault]
    path = tmp_path / name
    path.write_bytes(content())
    with pytest.raises(BarsError) as alone:
        load_bars(path)
    assert str(alone.value).startswith(str(path))
    bars, passed_over = search_folder(tmp_path)
    assert bars is None
    assert str(alone.value).replace(str(path), "", 1).removeprefix(":").strip() == passed_over[name]
    report = tmp_path / "out" / "report.json"
    for given in (path, tmp_path):
        assert main([str(given), "--json", str(report)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        for word in [name, *words]:
            assert word in told.err
        assert json.loads(report.read_text()) == {"symbols": {}, "passed_over": passed_over}


def test_what_unpacks_without_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MAX_BYTES", 1 << 16)
    bomb = text([HEADER]) + b"0" * (1 << 20)
    for name, content in {
        "a.csv.gz": gzip.compress(bomb),
        "a.csv.zst": zstd(bomb),
        "a.zip": zipped(a__csv=bomb),
        "a.csv": bomb,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BarsError, match="unpacks to more than 65,536 bytes"):
            load_bars(tmp_path / name, "ETHUSDT")
    monkeypatch.setattr(containers, "MAX_ROWS", 10)
    (tmp_path / "b.csv").write_bytes(text([HEADER, *rows()]))
    pl.read_csv(text([HEADER, *rows()])).write_parquet(tmp_path / "b.parquet")
    for name in ("b.csv", "b.parquet"):
        with pytest.raises(BarsError, match=r"rows, more than 10; split it"):
            load_bars(tmp_path / name, "ETHUSDT")


def test_an_encrypted_archive_is_named(tmp_path: Path) -> None:
    content = bytearray(zipped(ETHUSDT__csv=text([HEADER, *rows()])))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1  # the flag of an encrypted member
    (tmp_path / "ETHUSDT.zip").write_bytes(content)
    with pytest.raises(BarsError, match="encrypted"):
        load_bars(tmp_path / "ETHUSDT.zip")


def test_the_command_says_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")  # no terminal is too narrow for a number
    data, report = tmp_path / "data", tmp_path / "report.json"
    data.mkdir()
    (data / "ETHUSDT.csv").write_bytes(text([HEADER, *rows(n=1500), *rows(n=10, first=1600)]))
    (data / "btcusdt.csv").write_bytes(text([HEADER, *rows()]))
    (data / "notes.txt").write_text("mine")
    assert main([str(data), "--json", str(report)]) == 0
    told = capsys.readouterr().out
    eth = ["ETHUSDT", "1,510", "60", "s", "2", "2025-01-01T00:00Z", "2025-01-02T02:49Z"]
    assert eth in [line.split() for line in told.splitlines()]
    assert "passed over notes.txt: unknown file type" in told
    assert all(len(line) <= 80 for line in told.splitlines() if "USDT " in line)
    read = json.loads(report.read_text())
    assert read["symbols"]["ETHUSDT"] == {
        "bars": 1510,
        "spacing_s": 60,
        "windows": 2,
        "first": "2025-01-01T00:00Z",
        "last": "2025-01-02T02:49Z",
    }
    assert list(read["symbols"]) == ["BTCUSDT", "ETHUSDT"]
    assert list(read["passed_over"]) == ["notes.txt"]


def test_the_command_ends_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "no file in it" in capsys.readouterr().err
    (tmp_path / "a.csv").write_bytes(text([HEADER, *rows()]))
    assert main([str(tmp_path), "--symbol", "ETHUSDT"]) == 0
    assert main([str(tmp_path), "--symbol", "ETHUSDT", "--json", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


CASES = {
    "binance_csv_no_header": (("ETHUSDT",), 300, "2025-01-01T00:00Z"),
    "binance_csv_header_us": (("ETHUSDT",), 300, "2025-01-01T00:00Z"),
    "binance_zip_two_days": (("ETHUSDT",), 1740, "2025-01-01T00:00Z"),
    "joined_ms_us": (("ETHUSDT",), 300, "2025-01-01T00:00Z"),
    "one_file_per_symbol": (("BTCUSDT", "ETHUSDT"), 300, "2025-01-01T00:00Z"),
    "newest_first_gz": (("ETHUSDT",), 300, "2025-01-01T00:00Z"),
    "text_prices": (("ETHUSDT",), 300, "2025-01-01T00:00Z"),
    "new_york_clock": (("ETHUSDT",), 300, "2025-01-01T05:00Z"),
    "us_dates": "does the day or the month come first",
    "hourly_bars": "every 3600 s",
    "missing_close": r"ETHUSDT\.csv: missing column close",
    "empty_archive": r"ETHUSDT-1m-2025-01-01\.zip: .*empty",
}


@pytest.mark.parametrize("case", CASES)
def test_the_cases_of_the_data_folder(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, wanted = case_folder(case), CASES[case]
    status = main([str(folder), "--json", str(tmp_path / "report.json")])
    if isinstance(wanted, str):
        assert status == 2
        with pytest.raises(BarsError, match=wanted):
            load_bars(folder)
        for file in folder.iterdir():
            assert main([str(file)]) == 2
        return
    assert status == 0
    symbols, n, first = wanted
    report = json.loads((tmp_path / "report.json").read_text())
    assert tuple(report["symbols"]) == symbols
    for found in report["symbols"].values():
        assert (found["bars"], found["windows"], found["first"]) == (n, 1, first)
    for file in folder.iterdir():
        assert main([str(file)]) == 0
    capsys.readouterr()
    one, other = (load_bars(case_folder(f"binance_csv_{k}")) for k in ("no_header", "header_us"))
    assert np.array_equal(one.of("ETHUSDT").minute, other.of("ETHUSDT").minute)
    assert np.array_equal(one.of("ETHUSDT").ohlcv, other.of("ETHUSDT").ohlcv)
