"""Recorded tables are read exactly, whatever the file type, and refused where they are wrong."""

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from history import tables
from history.tables import (
    BIG_INTEGER,
    FLAG,
    INTEGER,
    MILLISECONDS,
    NUMBER,
    TEXT,
    Column,
    TableError,
    read_table,
)

COLUMNS = (
    Column(("slot",), INTEGER, low=0),
    Column(("value", "valueWei"), BIG_INTEGER, low=0),
    Column(("at",), MILLISECONDS),
    Column(("note",), TEXT, nullable=True),
    Column(("late",), FLAG, optional=True),
    Column(("tip",), NUMBER, optional=True, high=100.0),
)


def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "slot": ["1", "2", "3"],
            "valueWei": ["123456789012345678901234567890", "0", "7"],
            "at": ["1694649600006", "1694649600082", "1694649600149"],
            "note": ["a", None, "c"],
            "late": ["true", "false", None],
            "tip": ["0.5", None, "2e1"],
        }
    )


def written(table: pl.DataFrame, path: Path) -> Path:
    if path.name.endswith(".parquet"):
        table.write_parquet(path)
    elif path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("day.csv", table.write_csv())
    else:
        table.write_csv(path)
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.csv.zip"])
def test_every_file_type_gives_the_same_exact_values(tmp_path: Path, name: str) -> None:
    read = read_table(written(frame(), tmp_path / name), COLUMNS, "bids")
    assert read.columns == ["slot", "value", "at", "note", "late", "tip"]
    assert read["slot"].to_list() == [1, 2, 3]
    assert read["value"].to_list() == [123456789012345678901234567890, 0, 7]
    assert read["at"].to_list() == [1694649600006, 1694649600082, 1694649600149]
    assert read["late"].to_list() == [True, False, None]
    assert read["tip"].to_list() == [0.5, None, 20.0]


def test_clock_times_bytes_and_whole_floats_are_converted(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "slot": [1.0, 2.0],
            "value": [5, 6],
            "at": [datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 1, 0, 0, 12, tzinfo=UTC)],
            "note": [b"\x00\xab", b"\x01"],
        }
    )
    read = read_table(written(table, tmp_path / "x.parquet"), COLUMNS, "bids")
    assert read["slot"].to_list() == [1, 2]
    assert read["at"].to_list() == [1740787200000, 1740787212000]
    assert read["note"].to_list() == ["0x00ab", "0x01"]
    assert read["tip"].to_list() == [None, None]


@given(st.integers(0, 2**126), st.sampled_from(["csv", "parquet"]))
def test_no_digit_of_a_big_integer_is_lost(value: int, kind: str) -> None:
    columns = (Column(("value",), BIG_INTEGER),)
    raw = pl.DataFrame({"value": [str(value)]})
    assert tables._typed(raw, Path("x"), columns, "v")["value"].to_list() == [value]
    as_number = pl.DataFrame({"value": pl.Series([value], dtype=pl.Int128)})
    assert tables._typed(as_number, Path("x"), columns, "v")["value"].to_list() == [value]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("slot", ["1", "2.5", "3"], "column slot, row 1: '2.5' is not a integer"),
        ("slot", ["1", "", "3"], "column slot, row 1: None is empty"),
        ("slot", ["1", "2", "-3"], "column slot, row 2: '-3' is below 0"),
        ("valueWei", ["1", "2", "1e18"], "column value, row 2: '1e18' is not a big integer"),
        ("late", ["true", "maybe", "1"], "column late, row 1: 'maybe' is not a flag"),
        ("tip", ["1", "inf", "2"], "column tip, row 1: 'inf' is not finite"),
        ("tip", ["1", "2", "101"], "column tip, row 2: '101' is above 100.0"),
    ],
)
def test_a_wrong_value_is_named(
    tmp_path: Path, column: str, values: list[str], message: str
) -> None:
    path = written(frame().with_columns(pl.Series(column, values)), tmp_path / "x.csv")
    with pytest.raises(TableError, match="remove or repair 1 such rows") as caught:
        read_table(path, COLUMNS, "bids")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_floats_that_are_not_whole_or_too_large_are_no_integers(tmp_path: Path) -> None:
    for value in (1.5, 2.0**60):
        table = frame().with_columns(slot=pl.Series([1.0, 2.0, value]))
        with pytest.raises(TableError, match="column slot, row 2"):
            read_table(written(table, tmp_path / "x.parquet"), COLUMNS, "bids")


def test_missing_columns_and_unreadable_files_say_what_to_give(tmp_path: Path) -> None:
    path = written(frame().drop("valueWei", "at"), tmp_path / "x.csv")
    with pytest.raises(
        TableError, match="missing columns value or valueWei, at of bids; it has slo"
    ):
        read_table(path, COLUMNS, "bids")
    with pytest.raises(TableError, match=r"no such file; give a \.parquet"):
        read_table(tmp_path / "none.parquet", COLUMNS, "bids")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(TableError, match="not readable"):
        read_table(tmp_path / "broken.parquet", COLUMNS, "bids")
    (tmp_path / "broken.csv.zip").write_bytes(b"PK")
    with pytest.raises(TableError, match="not readable"):
        read_table(tmp_path / "broken.csv.zip", COLUMNS, "bids")
    (tmp_path / "x.feather").write_bytes(b"")
    with pytest.raises(TableError, match="unknown file type"):
        read_table(tmp_path / "x.feather", COLUMNS, "bids")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_UNPACKED_BYTES", 50)
    with pytest.raises(TableError, match="more than 50"):
        read_table(written(frame(), tmp_path / "x.csv.zip"), COLUMNS, "bids")


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    written(frame()[2:], tmp_path / "ethereum__bids__00000002_to_00000003.parquet")
    written(frame()[:2], tmp_path / "ethereum__bids__00000000_to_00000001.parquet")
    assert read_table(tmp_path, COLUMNS, "bids")["slot"].to_list() == [1, 2, 3]
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"no \.parquet file there"):
        read_table(tmp_path / "empty", COLUMNS, "bids")


def test_a_name_with_a_star_takes_one_dataset_of_several(tmp_path: Path) -> None:
    written(frame()[:2], tmp_path / "ethereum__bids__00000000_to_00000001.parquet")
    written(frame()[2:], tmp_path / "ethereum__bids__00000002_to_00000003.parquet")
    written(pl.DataFrame({"other": [1]}), tmp_path / "ethereum__logs__00000000_to_00000001.parquet")
    read = read_table(tmp_path / "ethereum__bids__*.parquet", COLUMNS, "bids")
    assert read["slot"].to_list() == [1, 2, 3]
    with pytest.raises(TableError, match=r"no \.parquet file there"):
        read_table(tmp_path / "ethereum__traces__*.parquet", COLUMNS, "bids")
