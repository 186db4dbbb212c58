"""Downloads public archives by their documented addresses, for use without us in between.

python -m history.download SOURCE --first DATE [--last DATE] [--to DIR] [--symbols A,B]
    [--interval 1m] [--base URL]

SOURCE is binance (klines, github.com/binance/binance-public-data), mempool-dumpster
(github.com/flashbots/mempool-dumpster) or relayscan (docs/2024-06_bidcollect.md of
github.com/flashbots/relayscan). Files already there are kept, interrupted ones are continued.
"""

from terminal import begin, ended

if __name__ == "__main__":
    begin("history.download")  # before the heavy imports: they take seconds

import errno
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from history.files import write_atomically

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0
ATTEMPTS = 4
PAUSE_S = 2.0  # doubles from one attempt to the next
CHECKSUM_BYTES = 4096  # a checksum file is one line

BINANCE = "https://data.binance.vision"
DUMPSTER = "https://mempool-dumpster.flashbots.net"
RELAYSCAN = "https://bidarchive.relayscan.io"
# What a disk answers, not the network: trying again does not help.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
FIRST_DAY = date(2009, 1, 1)


class DownloadError(RuntimeError):
    """A file that could not be fetched or is not what was published; names address and remedy."""


@dataclass(frozen=True)
class Archive:
    """One published file: its address, where it goes, the address of its SHA-256 if published."""

    url: str
    path: Path
    checksum_url: str | None = None


def days(first: date, last: date) -> list[date]:
    """All days from `first` to `last`, both included."""
    return [first + timedelta(days=k) for k in range((last - first).days + 1)]


def binance_archives(
    first: date, last: date, folder: Path, symbols: list[str], interval: str, base: str = BINANCE
) -> list[Archive]:
    """Klines: whole months as monthly archives, the days of a part of one as daily archives."""
    archives = []
    for symbol in symbols:
        for stamp, period in _periods(first, last):
            name = f"{symbol}-{interval}-{stamp}.zip"
            url = f"{base}/data/spot/{period}/klines/{symbol}/{interval}/{name}"
            archives.append(Archive(url, folder / "binance" / name, url + ".CHECKSUM"))
    return archives


def _periods(first: date, last: date) -> list[tuple[str, str]]:
    """(stamp, monthly or daily) of the archives that cover first .. last, in order."""
    periods = []
    at = first
    while at <= last:
        end = (at.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
        if at.day == 1 and end <= last:
            periods.append((f"{at:%Y-%m}", "monthly"))
            at = end + timedelta(days=1)
        else:
            periods.append((f"{at:%Y-%m-%d}", "daily"))
            at += timedelta(days=1)
    return periods


def dumpster_archives(first: date, last: date, folder: Path, base: str = DUMPSTER) -> list[Archive]:
    """Transactions seen in the mempool, without their raw bytes: about 100 MB a day."""
    return [
        Archive(
            f"{base}/ethereum/mainnet/{day:%Y-%m}/{day:%Y-%m-%d}.csv.zip",
            folder / "mempool" / f"mempool-dumpster-{day:%Y-%m-%d}.csv.zip",
        )
        for day in days(first, last)
    ]


def relayscan_archives(
    first: date, last: date, folder: Path, base: str = RELAYSCAN
) -> list[Archive]:
    """Bids that were the highest when they arrived at a relay."""
    return [
        Archive(
            f"{base}/ethereum/mainnet/{day:%Y-%m}/{day:%Y-%m-%d}_top.csv.zip",
            folder / "mev" / f"relayscan-{day:%Y-%m-%d}_top.csv.zip",
        )
        for day in days(first, last)
    ]


def fetch(archive: Archive, progress: Progress | None = None, pause_s: float = PAUSE_S) -> bool:
    """Bring one archive; False if it was there already. Raises DownloadError.

    The file grows as NAME.part, which a later call continues; it gets its name when its length and
    its checksum, or the checksums inside a zip archive, are right.
    """
    if archive.path.is_file():
        return False
    archive.path.parent.mkdir(parents=True, exist_ok=True)
    part = archive.path.with_name(archive.path.name + ".part")
    for attempt in range(ATTEMPTS):
        try:
            _receive(archive.url, part, archive.path.name, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == ATTEMPTS - 1:
                raise DownloadError(_http_reason(archive.url, error.code)) from error
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "filename", None) or getattr(error, "errno", 0) in DISK_ERRORS:
                raise DownloadError(_disk_reason(error, part)) from error
            if attempt == ATTEMPTS - 1:
                raise DownloadError(
                    f"{archive.url}: not reachable ({getattr(error, 'reason', error)}); check the "
                    "connection and run the command again, it continues where it stopped"
                ) from error
        time.sleep(pause_s * 2**attempt)
    _verify(archive, part)
    os.replace(part, archive.path)
    return True


def _disk_reason(error: BaseException, path: Path) -> str:
    at = getattr(error, "filename", None) or path
    return (
        f"{at}: {getattr(error, 'strerror', None) or error}; choose another folder with --to, or "
        "make room, and run the command again"
    )


def _http_reason(url: str, code: int) -> str:
    if code == 404:
        return (
            f"{url}: not published; archives appear one day (monthly ones some days) after "
            "their end, choose other dates"
        )
    return f"{url}: the server answers {code}; try again later"


def _receive(url: str, part: Path, name: str, progress: Progress | None) -> None:
    """Append what is missing of `url` to `part`, or begin again if the server cannot continue."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "mevrl"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing, or the part is longer than the file
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise ConnectionError(f"{name}.part is longer than the file") from error
        raise
    with answer:
        continued = answer.status == 206
        if continued and not (answer.headers.get("Content-Range") or "").startswith(
            f"bytes {have}-"
        ):
            raise ConnectionError("the server continues at another byte")
        left = answer.headers.get("Content-Length")
        total = None if left is None else int(left) + (have if continued else 0)
        task = None if progress is None else progress.add_task(name, total=total)
        if progress is not None and task is not None and continued:
            progress.advance(task, have)
        with part.open("ab" if continued else "wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                if progress is not None and task is not None:
                    progress.advance(task, len(chunk))
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _verify(archive: Archive, part: Path) -> None:
    """Remove and refuse a file that is not the published one."""
    problem = None
    if archive.checksum_url is not None:
        expected = _published_checksum(archive.checksum_url)
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            problem = f"SHA-256 is {found}, published is {expected}"
    if problem is None and archive.path.suffix == ".zip":
        try:
            with zipfile.ZipFile(part) as content:
                broken = content.testzip()
            problem = None if broken is None else f"{broken} in it is damaged"
        except zipfile.BadZipFile:
            problem = "it is no zip archive"
        except (NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
            problem = f"its content is not readable ({error})"
    if problem is not None:
        part.unlink()
        raise DownloadError(f"{archive.url}: {problem}; removed, run the command again")


def _published_checksum(url: str) -> str:
    """The digest in a line of `sha256sum`."""
    request = urllib.request.Request(url, headers={"User-Agent": "mevrl"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            words = answer.read(CHECKSUM_BYTES).decode("ascii", "replace").split()
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: no checksum to be had ({error}); run it again") from error
    if not words or len(words[0]) != 64:
        raise DownloadError(f"{url}: holds no SHA-256; try again later")
    return words[0].lower()


def bars_of_klines(folder: Path, interval: str) -> Path:
    """All kline archives of an interval in `folder`/binance as one file for history.prices.

    Writes folder/price/binance_INTERVAL.parquet: symbol, date, open, high, low, close, volume.
    """
    # polars takes a second that downloading does not need.
    import polars as pl

    from history.prices import VALUE_COLUMNS, BarsError, Conflict, load_bars, merge

    paths = sorted((folder / "binance").glob(f"*-{interval}-*.zip"))
    if not paths:
        raise DownloadError(f"{folder / 'binance'}: no archive of {interval} bars; download some")
    try:
        bars = merge([load_bars(path, path.name.split("-")[0]) for path in paths], str(folder))
    except BarsError as error:
        raise DownloadError(f"{error}; remove it and run the command again") from error
    if isinstance(bars, Conflict):
        raise DownloadError(
            f"{paths[bars.later]}: another bar of {bars.symbol} than in {paths[bars.earlier]}; "
            "remove one of them and run the command again"
        )
    table = pl.concat(
        pl.DataFrame({"symbol": [s.symbol] * len(s), "date": s.minute * 60_000_000})
        .with_columns(pl.col("date").cast(pl.Datetime("us", "UTC")))
        .hstack(pl.DataFrame(s.ohlcv, schema=list(VALUE_COLUMNS)))
        for s in bars.series
    )
    target = folder / "price" / f"binance_{interval}.parquet"
    write_atomically(target, table.write_parquet)
    return target


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise DownloadError(f"{option} {text!r}: write YYYY-MM-DD") from None


def main(arguments: list[str] | None = None) -> int:
    """Download what the command line names; 0 when everything is there."""
    parser = ArgumentParser(prog="python -m history.download", description="Public archives.")
    parser.add_argument("source", choices=("binance", "mempool-dumpster", "relayscan"))
    parser.add_argument("--first", required=True, help="first day, YYYY-MM-DD")
    parser.add_argument("--last", default="", help="last day; default: the first")
    parser.add_argument("--to", default="", help="data folder; default: MEVRL_DATA, else data")
    parser.add_argument("--symbols", default="ETHUSDT,BTCUSDT", help="of binance, with commas")
    parser.add_argument("--interval", default="1m", help="of binance: 1m or 5m")
    parser.add_argument("--base", default="", help="a mirror's address instead of the publisher's")
    options = parser.parse_args(arguments)
    folder = Path(options.to or os.environ.get("MEVRL_DATA", "") or "data")
    console = Console(stderr=True)
    try:
        archives = _asked_for(options, folder)
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
        with Progress(*columns, TransferSpeedColumn(), console=console) as progress:
            fetched = sum(fetch(archive, progress) for archive in archives)
        if options.source == "binance":
            console.print(f"bars: {bars_of_klines(folder, options.interval)}")
    except DownloadError as error:
        return _refused(console, str(error))
    except KeyboardInterrupt:
        console.print("Stopped. The same command continues where it was.")
        return 130
    except OSError as error:
        return _refused(console, _disk_reason(error, folder))
    except (ValueError, http.client.HTTPException) as error:  # an address or answer out of shape
        return _refused(console, f"{type(error).__name__}: {error}; check --base {options.base!r}")
    console.print(f"{fetched} downloaded, {len(archives) - fetched} were there: {folder}")
    return 0


def _refused(console: Console, reason: str) -> int:
    console.print(f"error: {reason}", style="red", soft_wrap=True, markup=False)
    return 2


def _asked_for(options: object, folder: Path) -> list[Archive]:
    """The archives that the command line names."""
    asked = vars(options)
    first = _day(asked["first"], "--first")
    last = _day(asked["last"] or asked["first"], "--last")
    if last < first:
        raise DownloadError(f"--last {last} lies before --first {first}")
    today = datetime.now(UTC).date()
    if first < FIRST_DAY or last > today:
        raise DownloadError(f"days {first} to {last}: give days from {FIRST_DAY} to {today}")
    base = asked["base"].rstrip("/")
    if base and not base.startswith(("http://", "https://")):
        raise DownloadError(f"--base {base!r}: give an http or https address")
    if asked["source"] == "mempool-dumpster":
        return dumpster_archives(first, last, folder, base or DUMPSTER)
    if asked["source"] == "relayscan":
        return relayscan_archives(first, last, folder, base or RELAYSCAN)
    if asked["interval"] not in ("1m", "5m"):
        raise DownloadError(f"--interval {asked['interval']!r}: choose 1m or 5m")
    symbols = [name.strip().upper() for name in asked["symbols"].split(",") if name.strip()]
    if not symbols or not all(name.isalnum() for name in symbols):
        raise DownloadError(f"--symbols {asked['symbols']!r}: names like ETHUSDT, with commas")
    return binance_archives(first, last, folder, symbols, asked["interval"], base or BINANCE)


if __name__ == "__main__":
    ended("history.download", main)
