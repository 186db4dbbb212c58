"""Downloads against a server on this machine: resumed, checked, renamed, refused with a reason."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from history import download
from history.download import (
    Archive,
    DownloadError,
    binance_archives,
    dumpster_archives,
    fetch,
    main,
    relayscan_archives,
)
from history.prices import load_bars, minute_of


class Publisher(ThreadingHTTPServer):
    """Serves `files` by path, with ranges; the first `cuts` answers stop after 1,000 bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cuts = 0
        self.ranges = True
        self.asked: list[tuple[str, str]] = []  # path, Range header

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Publisher  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append((self.path, asked))
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        first = int(asked[6:-1]) if asked and self.server.ranges else 0
        if first and first >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        rest = body[first:]
        if self.server.cuts and not self.path.endswith("CHECKSUM"):
            self.server.cuts -= 1
            rest = rest[:1000]
        self.wfile.write(rest)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    server = Publisher()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def klines(symbol: str, day: int, rows: int = 60, unit: int = 1000) -> bytes:
    """A kline archive in Binance's columns, no header, times in ms (or us with unit 10^6)."""
    start = minute_of(f"2025-03-{day:02d}") * 60
    lines = [
        f"{(start + 60 * k) * unit},{100 + k}.5,{102 + k},{99 + k},{101 + k},7.25,"
        f"{(start + 60 * k + 59) * unit},700.0,12,3.5,350.0,0"
        for k in range(rows)
    ]
    return zipped(f"{symbol}-1m-2025-03-{day:02d}.csv", "\n".join(lines).encode())


def publish(server: Publisher, archive: Archive, body: bytes) -> None:
    server.files[archive.url.removeprefix(server.base)] = body
    if archive.checksum_url:
        line = f"{hashlib.sha256(body).hexdigest()}  {archive.path.name}\n"
        server.files[archive.checksum_url.removeprefix(server.base)] = line.encode()


def test_the_addresses_are_those_of_the_documentation() -> None:
    folder = Path("data")
    names = [
        archive.url
        for archive in binance_archives(
            date(2024, 1, 30), date(2024, 3, 1), folder, ["ETHUSDT"], "1m"
        )
    ]
    root = "https://data.binance.vision/data/spot"
    assert names == [
        f"{root}/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2024-01-30.zip",
        f"{root}/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2024-01-31.zip",
        f"{root}/monthly/klines/ETHUSDT/1m/ETHUSDT-1m-2024-02.zip",
        f"{root}/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2024-03-01.zip",
    ]
    day = date(2023, 9, 8)
    assert dumpster_archives(day, day, folder)[0].url == (
        "https://mempool-dumpster.flashbots.net/ethereum/mainnet/2023-09/2023-09-08.csv.zip"
    )
    assert relayscan_archives(day, day, folder)[0].url == (
        "https://bidarchive.relayscan.io/ethereum/mainnet/2023-09/2023-09-08_top.csv.zip"
    )


@pytest.mark.parametrize("unit", [1000, 10**6])
def test_bars_arrive_checked_and_readable(publisher: Publisher, tmp_path: Path, unit: int) -> None:
    wanted = binance_archives(
        date(2025, 3, 1), date(2025, 3, 2), tmp_path, ["ETHUSDT", "BTCUSDT"], "1m", publisher.base
    )
    for archive in wanted:
        symbol, day = archive.path.name.split("-")[0], int(archive.path.stem[-2:])
        publish(publisher, archive, klines(symbol, day, unit=unit))
    arguments = ["binance", "--first", "2025-03-01", "--last", "2025-03-02"]
    arguments += ["--to", str(tmp_path), "--base", publisher.base]
    assert main(arguments) == 0
    bars = load_bars(tmp_path)
    assert bars.source == str(tmp_path / "price" / "binance_1m.parquet")
    assert bars.symbols == ("BTCUSDT", "ETHUSDT")
    assert bars.of("ETHUSDT").minute[0] == minute_of("2025-03-01")
    assert bars.of("ETHUSDT").ohlcv[1].tolist() == [101.5, 103.0, 100.0, 102.0, 7.25]
    assert not list(tmp_path.rglob("*.part"))
    asked = len(publisher.asked)
    assert main(arguments) == 0  # nothing is asked for again
    assert len(publisher.asked) == asked


def some_archive(publisher: Publisher, tmp_path: Path) -> tuple[Archive, bytes]:
    archive = dumpster_archives(date(2023, 9, 8), date(2023, 9, 8), tmp_path, publisher.base)[0]
    body = zipped("2023-09-08.csv", bytes(range(256)) * 40)
    publish(publisher, archive, body)
    return archive, body


def test_a_cut_connection_is_continued(publisher: Publisher, tmp_path: Path) -> None:
    archive, body = some_archive(publisher, tmp_path)
    publisher.cuts = 2
    assert fetch(archive, pause_s=0.0)
    assert archive.path.read_bytes() == body
    assert [asked for _, asked in publisher.asked] == ["", "bytes=1000-", "bytes=2000-"]
    assert not fetch(archive)


def test_a_stopped_program_continues_where_it_was(publisher: Publisher, tmp_path: Path) -> None:
    archive, body = some_archive(publisher, tmp_path)
    part = archive.path.with_name(archive.path.name + ".part")
    part.parent.mkdir(parents=True)
    for have in (700, len(body)):
        archive.path.unlink(missing_ok=True)
        part.write_bytes(body[:have])
        assert fetch(archive, pause_s=0.0)
        assert archive.path.read_bytes() == body
        assert publisher.asked[-1][1] == f"bytes={have}-"


def test_a_server_without_ranges_starts_again(publisher: Publisher, tmp_path: Path) -> None:
    archive, body = some_archive(publisher, tmp_path)
    publisher.ranges = False
    part = archive.path.with_name(archive.path.name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 700)
    assert fetch(archive, pause_s=0.0)
    assert archive.path.read_bytes() == body


def test_a_part_longer_than_the_file_is_dropped(publisher: Publisher, tmp_path: Path) -> None:
    archive, body = some_archive(publisher, tmp_path)
    part = archive.path.with_name(archive.path.name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(body + b"more")
    assert fetch(archive, pause_s=0.0)
    assert archive.path.read_bytes() == body


def test_a_wrong_checksum_is_refused_and_nothing_is_left(
    publisher: Publisher, tmp_path: Path
) -> None:
    archive = binance_archives(
        date(2025, 3, 1), date(2025, 3, 1), tmp_path, ["ETHUSDT"], "1m", publisher.base
    )[0]
    publish(publisher, archive, klines("ETHUSDT", 1))
    publisher.files[archive.url.removeprefix(publisher.base)] = klines("ETHUSDT", 1, rows=59)
    with pytest.raises(DownloadError, match=r"SHA-256 is [0-9a-f]{64}, published is .* removed"):
        fetch(archive, pause_s=0.0)
    assert not list(tmp_path.rglob("*.zip*"))


def test_damage_inside_an_archive_without_checksum_is_seen(
    publisher: Publisher, tmp_path: Path
) -> None:
    archive, body = some_archive(publisher, tmp_path)
    publish(publisher, archive, body.replace(bytes(range(256)), bytes(256), 1))
    with pytest.raises(DownloadError, match=r"2023-09-08\.csv in it is damaged"):
        fetch(archive, pause_s=0.0)
    publish(publisher, archive, b"<html>not here</html>")
    with pytest.raises(DownloadError, match="no zip archive"):
        fetch(archive, pause_s=0.0)


def test_what_is_not_published_or_not_reachable_is_named(
    publisher: Publisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    arguments = ["relayscan", "--first", "2025-03-01", "--to", str(tmp_path), "--base"]
    assert main([*arguments, publisher.base]) == 2
    assert "2025-03-01_top.csv.zip: not published" in capsys.readouterr().err
    publisher.shutdown()
    publisher.server_close()
    assert main([*arguments, publisher.base]) == 2
    assert "not reachable" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["binance", "--first", "yesterday"], "--first 'yesterday': write YYYY-MM-DD"),
        (["binance", "--first", "2025-03-02", "--last", "2025-03-01"], "lies before"),
        (["binance", "--first", "2025-03-02", "--interval", "3m"], "choose 1m or 5m"),
        (["binance", "--first", "2025-03-02", "--symbols", "../x"], "names like ETHUSDT"),
        (["relayscan", "--first", "2025-03-02", "--base", "file:///etc"], "http or https"),
        (["relayscan", "--first", "2025-03-02", "--base", "http://[::1"], "check --base"),
        (["relayscan", "--first", "2025-03-02", "--last", "9999-12-31"], "give days from 2009"),
        (["relayscan", "--first", "0001-01-01", "--last", "2025-03-01"], "give days from 2009"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_archive_without_bars_is_named(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = date(2025, 3, 1)
    archive = binance_archives(day, day, tmp_path, ["ETHUSDT"], "1m", publisher.base)[0]
    publish(publisher, archive, zipped("ETHUSDT-1m-2025-03-01.csv", b""))
    arguments = ["binance", "--first", "2025-03-01", "--symbols", "ETHUSDT"]
    assert main([*arguments, "--to", str(tmp_path), "--base", publisher.base]) == 2
    told = capsys.readouterr().err
    assert "ETHUSDT-1m-2025-03-01.zip (ETHUSDT-1m-2025-03-01.csv): empty" in told
    assert not (tmp_path / "price").exists()


def test_a_folder_that_cannot_be_written_is_named(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    arguments = ["relayscan", "--first", "2025-03-01", "--base", publisher.base]
    assert main([*arguments, "--to", str(tmp_path / "file")]) == 2
    assert f"error: {tmp_path / 'file'}" in capsys.readouterr().err


def test_a_full_disk_is_named_and_not_tried_again(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, _ = some_archive(publisher, tmp_path)
    archive.path.parent.mkdir(parents=True)
    part = archive.path.with_name(archive.path.name + ".part")
    part.symlink_to("/dev/full")  # every write to it fails as on a full disk
    arguments = ["mempool-dumpster", "--first", "2023-09-08", "--to", str(tmp_path)]
    assert main([*arguments, "--base", publisher.base]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(publisher.asked) == 1


def test_ctrl_c_ends_with_what_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "fetch", stopped)
    assert main(["relayscan", "--first", "2025-03-01", "--to", str(tmp_path)]) == 130
    assert "continues" in capsys.readouterr().err
