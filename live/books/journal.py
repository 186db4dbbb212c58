"""The server's memory: every decision with its transaction, written before anything is sent, and
what became of it. One SQLite file (WAL) per chain, executor and account.

A commit reaches the operating system before `record` returns, so a killed process loses nothing;
synchronous=NORMAL leaves only a power failure able to drop the last commits. Amounts that may pass
2^63 are decimal text.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from live.settings.config import StartError

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY,
    wall_ns INTEGER NOT NULL,
    head_number INTEGER NOT NULL,
    head_hash TEXT NOT NULL,
    trigger TEXT NOT NULL,
    observation BLOB,
    action INTEGER,
    plan TEXT,
    verdict TEXT NOT NULL,
    timings_ns TEXT NOT NULL,
    kind TEXT NOT NULL,
    nonce INTEGER,
    tx_hash TEXT UNIQUE,
    raw BLOB,
    replaces TEXT,
    target_block INTEGER,
    max_fee_wei TEXT,
    max_priority_fee_wei TEXT,
    expected_wei TEXT,
    status TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    block_number INTEGER,
    block_hash TEXT,
    gas_cost_wei TEXT,
    realised_wei TEXT,
    unchallenged INTEGER,
    settled_ns INTEGER
);
CREATE INDEX IF NOT EXISTS open_decisions ON decisions (nonce) WHERE status = 'open';
"""
INSERT = """
INSERT OR IGNORE INTO decisions (wall_ns, head_number, head_hash, trigger, observation, action,
    plan, verdict, timings_ns, kind, nonce, tx_hash, raw, replaces, target_block, max_fee_wei,
    max_priority_fee_wei, expected_wei, status)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
SETTLE = """
UPDATE decisions SET status = ?, reason = ?, block_number = ?, block_hash = ?, gas_cost_wei = ?,
    realised_wei = ?, unchallenged = ?, settled_ns = ? WHERE tx_hash = ?
"""
# Checkpoints copy the log into the file and wait for the disk: never inside a decision.
CHECKPOINT_PAGES = 1000
HOUR_NS = 3600 * 10**9

# status: none (nothing to send), open (sent or about to be), then one of
# included, failed (mined and reverted), lost (never mined), replaced, cancelled (the cancel mined)
OPEN = "open"
NOTHING_TO_SEND = "none"


class Entry(NamedTuple):
    """One decision as it is written. Without a transaction: nonce None, raw None, hash None."""

    head_number: int
    head_hash: str
    trigger: str
    observation: bytes | None
    action: int | None
    plan: str | None
    verdict: str
    timings_ns: str
    kind: str  # plan, cancel or pass
    nonce: int | None = None
    tx_hash: str | None = None
    raw: bytes | None = None
    replaces: str | None = None
    target_block: int | None = None
    max_fee_wei: int | None = None
    max_priority_fee_wei: int | None = None
    expected_wei: int | None = None
    sent: bool = False
    """Whether it is sent next: it then waits for an outcome."""


class OpenRow(NamedTuple):
    """A transaction without an outcome, as found after a start."""

    tx_hash: str
    nonce: int
    kind: str
    raw: bytes
    plan: str | None
    max_fee_wei: int
    max_priority_fee_wei: int


class Outcome(NamedTuple):
    """What became of a transaction."""

    status: str
    reason: str = ""
    block_number: int | None = None
    block_hash: str | None = None
    gas_cost_wei: int = 0
    realised_wei: int = 0
    unchallenged: bool = False


def journal_path(
    folder: Path, chain_id: int, genesis_hash: str, executor: bytes, account: bytes
) -> Path:
    """File of one account on one chain. Local chains share ids and addresses: the genesis tells."""
    return folder / (
        f"journal-{chain_id}-{genesis_hash[2:10]}-{executor.hex()[:12]}-{account.hex()[:12]}.sqlite"
    )


class Journal:
    """Opens (or creates) the file and holds it alone; StartError when another server has it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StartError(
                f"journal {path} is in use: another server runs with the same account; stop it"
            ) from None
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            run = self._connection.execute
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = NORMAL")
            run("PRAGMA wal_autocheckpoint = 0")
            version = run("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise StartError(
                    f"journal {path} has format {version}, this version writes {SCHEMA_VERSION}: "
                    "move it away"
                )
            self._connection.executescript(SCHEMA)
            run(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except (sqlite3.DatabaseError, StartError) as error:
            os.close(self._lock)
            if isinstance(error, StartError):
                raise
            raise StartError(f"journal {path}: {error}; move it away or free the disk") from error
        self._uncheckpointed = 0

    def record(self, entry: Entry) -> bool:
        """Write one decision; it is committed when this returns.

        False, writing nothing, when its transaction is already there: it must not be sent again.
        """
        cursor = self._connection.execute(
            INSERT,
            (
                time.time_ns(),
                *entry[:14],
                *(None if wei is None else str(wei) for wei in entry[14:17]),
                OPEN if entry.sent else NOTHING_TO_SEND,
            ),
        )
        self._uncheckpointed += 1
        return cursor.rowcount == 1

    def settle(self, tx_hash: str, outcome: Outcome) -> None:
        """Write what became of a transaction."""
        self._connection.execute(
            SETTLE,
            (
                outcome.status,
                outcome.reason,
                outcome.block_number,
                outcome.block_hash,
                str(outcome.gas_cost_wei),
                str(outcome.realised_wei),
                int(outcome.unchallenged),
                time.time_ns(),
                tx_hash,
            ),
        )
        self._uncheckpointed += 1

    def reopen(self, tx_hash: str) -> None:
        """Forget an outcome whose block left the chain."""
        self._connection.execute(
            "UPDATE decisions SET status = 'open', reason = '', block_number = NULL, "
            "block_hash = NULL, gas_cost_wei = NULL, realised_wei = NULL, unchallenged = NULL, "
            "settled_ns = NULL WHERE tx_hash = ?",
            (tx_hash,),
        )

    def open_rows(self) -> list[OpenRow]:
        """Transactions without an outcome, in order of nonce and time."""
        rows = self._connection.execute(
            "SELECT tx_hash, nonce, kind, raw, plan, max_fee_wei, max_priority_fee_wei "
            "FROM decisions WHERE status = 'open' ORDER BY nonce, id"
        )
        return [
            OpenRow(hash_, nonce, kind, raw, plan, int(max_fee), int(tip))
            for hash_, nonce, kind, raw, plan, max_fee, tip in rows
        ]

    def recent_losses_wei(self) -> Iterator[tuple[float, int]]:
        """(age in seconds, wei) of the losses of the last hour: a restart does not forget them."""
        now = time.time_ns()
        rows = self._connection.execute(
            "SELECT settled_ns, gas_cost_wei, realised_wei FROM decisions WHERE settled_ns > ?",
            (now - HOUR_NS,),
        )
        for settled_ns, gas_cost, realised in rows:
            loss = int(gas_cost or 0) - int(realised or 0)
            if loss > 0:
                yield (now - settled_ns) / 1e9, loss

    def checkpoint_if_due(self) -> None:
        """Copy the log into the file when it has grown; call it when nothing is urgent."""
        if self._uncheckpointed >= CHECKPOINT_PAGES:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._uncheckpointed = 0

    def close(self) -> None:
        """Release the file."""
        self._connection.close()
        os.close(self._lock)
