"""Bar files are read whatever their columns are called, and refused when they cannot be right."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from history.prices import BarsError, load_bars, minute_of, search_folder

START = datetime(2025, 3, 1, tzinfo=UTC)


def frame(minutes: int = 30, step: int = 1, symbol: str = "ETHUSDT") -> pl.DataFrame:
    n = minutes // step
    close = 2000.0 + np.arange(n)
    return pl.DataFrame(
        {
            "symbol": [symbol] * n,
            "date": [START + timedelta(minutes=step * k) for k in range(n)],
            "open": close - 0.5,
            "high": close + 1.0,
            "low": close - 1.0,
            "close": close,
            "volume": np.full(n, 3.0),
        }
    )


def written(table: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.write_csv(path)
    else:
        table.write_parquet(path)
    return path


def test_parquet_of_two_symbols_in_any_order(tmp_path: Path) -> None:
    table = pl.concat([frame(symbol="ETHUSDT"), frame(symbol="BTCUSDT")]).sample(
        fraction=1.0, shuffle=True, seed=1
    )
    bars = load_bars(written(table, tmp_path / "bars.parquet"))
    assert bars.symbols == ("BTCUSDT", "ETHUSDT")
    assert bars.bar_minutes == 1
    eth = bars.of("ETHUSDT")
    assert eth.minute[0] == minute_of("2025-03-01")
    assert np.array_equal(eth.ohlcv[:, 3], 2000.0 + np.arange(30))
    assert bars.windows("ETHUSDT") == [(0, 30)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "iso", "naive"])
def test_csv_times_in_every_unit(tmp_path: Path, unit: str) -> None:
    table = frame().rename({"date": "Open_Time", "close": "Close"})
    if unit == "iso":
        table = table.with_columns(pl.col("Open_Time").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    elif unit == "naive":
        table = table.with_columns(pl.col("Open_Time").dt.strftime("%Y-%m-%d %H:%M:%S"))
    elif unit == "ns":
        table = table.with_columns(pl.col("Open_Time").dt.epoch("us") * 1000)
    else:
        table = table.with_columns(pl.col("Open_Time").dt.epoch(unit))  # pyright: ignore
    bars = load_bars(written(table.drop("symbol"), tmp_path / "x.csv"), symbol="ETHUSDT")
    assert bars.of("ETHUSDT").minute[0] == minute_of("2025-03-01T00:00")
    assert np.all(np.diff(bars.of("ETHUSDT").minute) == 1)


def test_five_minute_bars_and_gaps_make_windows(tmp_path: Path) -> None:
    table = frame(200, step=5)
    table = pl.concat([table[:10], table[13:]])
    bars = load_bars(written(table, tmp_path / "x.parquet"))
    assert bars.bar_minutes == 5
    assert bars.windows("ETHUSDT") == [(0, 10), (10, 37)]
    part = bars.between(minute_of("2025-03-01T00:10"), minute_of("2025-03-01T00:30"))
    assert (part.of("ETHUSDT").minute - minute_of("2025-03-01")).tolist() == [10, 15, 20, 25]


def test_repeated_equal_rows_count_once(tmp_path: Path) -> None:
    path = written(pl.concat([frame(), frame()[5:9]]), tmp_path / "x.parquet")
    assert len(load_bars(path).of("ETHUSDT")) == 30


def broken(column: str, value: float | None, row: int = 7) -> pl.DataFrame:
    values = frame()[column].to_list()
    values[row] = value
    return frame().with_columns(pl.Series(column, values, dtype=pl.Float64))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (frame().drop("close"), ["missing column close", "rename or add"]),
        (frame().drop("date", "volume"), ["date (or timestamp)", "volume"]),
        (frame().drop("symbol"), ["symbol", "--symbol"]),
        (frame()[:0], ["no rows"]),
        (frame()[:1], ["two consecutive bars"]),
        (broken("close", float("nan")), ["ETHUSDT", "2025-03-01T00:07Z", "close is nan"]),
        (broken("open", None), ["row 8, column open: empty"]),
        (broken("low", -1.0), ["column low is -1.0"]),
        (broken("low", 2010.0), ["low 2010.0 does not bound"]),
        (broken("high", 2004.0), ["high 2004.0 does not bound"]),
        (broken("volume", -2.0), ["column volume is -2.0"]),
        (pl.concat([frame(), broken("close", 2007.5)]), ["two different bars", "00:07Z"]),
        (frame(900, step=15), ["every 900 s"]),
        (frame().with_columns(pl.col("date") + timedelta(seconds=20)), ["not a whole minute"]),
        (frame(100, step=5).with_columns(pl.col("date") + timedelta(minutes=2)), ["off the UTC"]),
        (frame().with_columns(pl.lit("soon").alias("date")), ["not ISO 8601", "soon"]),
        (
            frame().with_columns(pl.lit("dear").alias("close")),
            ["row 1, column close: 'dear' is not a number"],
        ),
    ],
)
def test_wrong_files_are_refused_by_name(
    tmp_path: Path, table: pl.DataFrame, words: list[str]
) -> None:
    path = written(table, tmp_path / "odd.parquet")
    with pytest.raises(BarsError) as caught:
        load_bars(path)
    for word in ["odd.parquet", *words]:
        assert word in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BarsError, match="no such file"):
        load_bars(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(BarsError, match="not readable as parquet"):
        load_bars(tmp_path / "text.parquet")
    (tmp_path / "bars.feather").write_text("")
    with pytest.raises(BarsError, match="unknown file type"):
        load_bars(tmp_path / "bars.feather")
    with pytest.raises(BarsError, match="choose one of ETHUSDT"):
        load_bars(written(frame(), tmp_path / "x.parquet")).of("BTCUSDT")
    with pytest.raises(BarsError, match="YYYY-MM-DD"):
        minute_of("next week")


def test_a_folder_gives_the_finest_bars_and_a_reason_for_each_other_file(tmp_path: Path) -> None:
    assert search_folder(tmp_path) == (None, {})
    (tmp_path / "price").mkdir()
    written(frame(5000, step=5), tmp_path / "price" / "a.parquet")
    fine = written(frame(50), tmp_path / "price" / "b.parquet")
    written(frame().drop("close"), tmp_path / "ticks.parquet")
    (tmp_path / "README.md").write_text("where it is from")
    bars, passed_over = search_folder(tmp_path)
    assert bars is not None
    assert (bars.source, bars.bar_minutes, len(bars.of("ETHUSDT"))) == (str(fine), 1, 50)
    assert list(passed_over) == ["README.md", "price/a.parquet", "ticks.parquet"]
    assert passed_over["README.md"].startswith("unknown file type")
    assert passed_over["price/a.parquet"] == (
        "bars every 300 s, price/b.parquet has them every 60 s"
    )
    assert passed_over["ticks.parquet"].startswith("missing column close")
    assert bars.passed_over == tuple(passed_over.items())


def test_files_of_one_symbol_are_joined_and_equal_bars_count_once(tmp_path: Path) -> None:
    table = frame(90)
    written(table[:40], tmp_path / "a.parquet")
    written(table[30:60], tmp_path / "b.csv")
    written(table[70:], tmp_path / "c.parquet")
    bars = load_bars(tmp_path)
    assert bars.windows("ETHUSDT") == [(0, 60), (60, 80)]
    assert bars.passed_over == ()
    assert (
        bars.of("ETHUSDT").ohlcv[:, 3].tolist()
        == table["close"].gather([*range(60), *range(70, 90)]).to_list()
    )


def test_of_files_that_disagree_the_longer_is_kept(tmp_path: Path) -> None:
    written(broken("close", 2007.5)[:20], tmp_path / "a.parquet")
    written(frame(60), tmp_path / "b.parquet")
    bars, passed_over = search_folder(tmp_path)
    assert bars is not None
    assert bars.of("ETHUSDT").ohlcv[7, 3] == 2007.0
    assert passed_over["a.parquet"].startswith(
        "its bar of ETHUSDT at 2025-03-01T00:07Z is another than that of b.parquet"
    )


def test_symbols_of_different_spacing_need_a_file_each(tmp_path: Path) -> None:
    both = pl.concat([frame(), frame(100, step=5, symbol="BTCUSDT")])
    with pytest.raises(BarsError, match="BTCUSDT every 300 s, ETHUSDT every 60 s"):
        load_bars(written(both, tmp_path / "x.parquet"))
