"""The journal holds what was sent: across SIGKILL, against a second server, and without repeats."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from live.books.journal import Entry, Journal, Outcome, journal_path
from live.settings.config import StartError

ROOT = Path(__file__).resolve().parents[3]


def entry(number: int, sent: bool = True) -> Entry:
    return Entry(
        head_number=number,
        head_hash="0xhead",
        trigger="0xpending",
        observation=b"\0" * 8,
        action=5,
        plan=None,
        verdict="send",
        timings_ns="{}",
        kind="plan",
        nonce=number,
        tx_hash=f"0x{number:064x}",
        raw=b"\x02",
        target_block=number + 1,
        max_fee_wei=2**70,
        max_priority_fee_wei=3,
        expected_wei=2**80,
        sent=sent,
    )


# Records decisions and says so after each one, as a server would send after each one.
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from live.books.journal import Journal
from tests.live.books.test_journal import entry
journal = Journal(Path(sys.argv[1]))
for number in range(10**6):
    assert journal.record(entry(number))
    print(number, flush=True)
"""


def test_a_killed_process_loses_nothing_it_sent(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    command = [sys.executable, "-c", WRITER, str(path), str(ROOT)]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as writer:
        assert writer.stdout is not None
        sent = -1
        for line in writer.stdout:
            sent = int(line)
            if sent == 200:
                writer.send_signal(signal.SIGKILL)
                break
        rest = [int(line) for line in writer.stdout.read().split()]
        sent = max([sent, *rest])
    journal = Journal(path)
    rows = journal.open_rows()
    # what was "sent" is there; at most the one being written when the signal came is there too
    assert [row.nonce for row in rows] == list(range(len(rows)))
    assert sent + 1 <= len(rows) <= sent + 2
    assert rows[0].max_fee_wei == 2**70
    journal.close()


def test_one_transaction_is_recorded_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.record(entry(1))
    assert not journal.record(entry(1))
    assert len(journal.open_rows()) == 1
    journal.close()


def test_outcomes_close_and_reorgs_reopen(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    for number in (1, 2):
        journal.record(entry(number))
    hash_ = entry(1).tx_hash
    assert hash_ is not None
    journal.settle(hash_, Outcome("included", "", 2, "0xblock", 10**15, 2**70, True))
    assert [row.nonce for row in journal.open_rows()] == [2]
    journal.reopen(hash_)
    assert [row.nonce for row in journal.open_rows()] == [1, 2]
    journal.settle(hash_, Outcome("failed", "reverted", 3, "0xblock", 7 * 10**15))
    journal.checkpoint_if_due()
    journal.close()
    with sqlite3.connect(path) as reader:
        row = reader.execute(
            "SELECT status, reason, gas_cost_wei, realised_wei FROM decisions WHERE nonce = 1"
        ).fetchone()
    reader.close()
    assert row == ("failed", "reverted", str(7 * 10**15), "0")


def test_losses_of_the_last_hour_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    for number, outcome in enumerate(
        (
            Outcome("failed", "stale_state", 1, "0x", gas_cost_wei=5),
            Outcome("included", "", 1, "0x", gas_cost_wei=5, realised_wei=50),
            Outcome("included", "", 1, "0x", gas_cost_wei=9, realised_wei=2),
        )
    ):
        journal.record(entry(number))
        journal.settle(f"0x{number:064x}", outcome)
    journal.close()
    journal = Journal(path)
    losses = sorted(journal.recent_losses_wei())
    journal.close()
    assert sorted(loss for _, loss in losses) == [5, 7]
    assert all(0 <= age < 60 for age, _ in losses)


def test_passes_and_dry_runs_wait_for_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.record(entry(1, sent=False)._replace(tx_hash=None, raw=None))
    journal.record(entry(2, sent=False)._replace(tx_hash=None, raw=None))
    assert journal.open_rows() == []
    journal.close()


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    with pytest.raises(StartError, match="another server"):
        Journal(path)
    journal.close()
    Journal(path).close()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StartError, match="move it away"):
        Journal(path)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StartError, match="format 99"):
        Journal(newer)


def test_every_chain_has_its_own_file(tmp_path: Path) -> None:
    names = {
        journal_path(tmp_path, chain, genesis, executor, account)
        for chain in (1, 2)
        for genesis in ("0x" + "a" * 64, "0x" + "b" * 64)
        for executor in (b"\1" * 20, b"\2" * 20)
        for account in (b"\3" * 20, b"\4" * 20)
    }
    assert len(names) == 16
