"""Answers remembered by Idempotency-Key, in one SQLite file that threads, processes and restarts share.

begin      the first caller goes ahead; a second one gets the stored answer, or is told to wait or differ
finish     keeps the answer
forget     nothing was published: the same key may try again
drop       what was published is gone, since its topic was made again: the same key may try again
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kappawatt.clock import is_within, machine_seconds
from kappawatt.errors import NotReady, storage_reason

__all__ = ["Idempotency", "Stored", "Verdict", "fingerprint"]

KEPT_SECONDS = 24 * 3600
LEASE_SECONDS = 150.0  # a request that has not ended by then, nor its delivery, died with its process
MOST_ANSWERS = 200_000  # the oldest go first; at 1 kB an answer (tables: 2) some 200 MB of disk, no memory
COUNT_SECONDS = 10.0  # between two counts of what is kept
BUSY_SECONDS = 10.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS answer (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, started REAL NOT NULL,
    status INTEGER, content_type TEXT, body BLOB, log TEXT, leased REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answer_started ON answer (started);
"""
LATER_COLUMNS = {"log": "TEXT", "leased": "REAL"}  # which files of releases before lack


class Verdict(Enum):
    """What a caller without a stored answer is to do."""

    GO_AHEAD = "go ahead"
    IN_PROGRESS = "the first request of this key has not ended"
    OTHER_REQUEST = "this key belongs to another request"


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to the first request of a key, and the log that its readings are in; "" if that is not known."""

    status: int
    content_type: str
    body: bytes
    log: str = ""


def fingerprint(*parts: bytes) -> str:
    """Return a digest of what makes two requests the same one."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


class Idempotency:
    """The file; opened at first use, and again after a fork.

    Parameters
    ----------
    path : Path
        Made at first use, with its folder.
    kept : float
        Seconds an answer is kept.
    lease : float
        Seconds after which a request that has not ended counts as dead.
    """

    def __init__(self, path: Path, kept: float = KEPT_SECONDS, lease: float = LEASE_SECONDS) -> None:
        self._path = path
        self._kept = kept
        self._lease = lease
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._counted: float | None = None

    def begin(self, key: str, print_: str) -> Stored | Verdict:
        """Claim `key` for a request, or say why not."""
        now = time.time()
        with self._write() as connection:
            self._clean(connection, now)
            row = connection.execute(
                "SELECT fingerprint, leased, status, content_type, body, log FROM answer WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                known, leased, status, content_type, body, log = row
                if known != print_:
                    return Verdict.OTHER_REQUEST
                if status is not None:
                    return Stored(status, content_type, body, log or "")
                if is_within(self._lease, leased, machine_seconds()):
                    return Verdict.IN_PROGRESS
            connection.execute(
                "INSERT OR REPLACE INTO answer (key, fingerprint, started, leased) VALUES (?, ?, ?, ?)",
                (key, print_, now, machine_seconds()),
            )
        return Verdict.GO_AHEAD

    def finish(self, key: str, print_: str, answer: Stored) -> None:
        """Keep the answer to the request that claimed `key`, from now on; also where its claim is gone meanwhile."""
        with self._write() as connection:
            connection.execute(
                "INSERT INTO answer (key, fingerprint, started, status, content_type, body, log)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET started = excluded.started,"
                " status = excluded.status, content_type = excluded.content_type, body = excluded.body,"
                " log = excluded.log WHERE fingerprint = excluded.fingerprint",
                (key, print_, time.time(), answer.status, answer.content_type, answer.body, answer.log),
            )

    def forget(self, key: str) -> None:
        """Give `key` free: its request has published nothing that counts."""
        with self._write() as connection:
            connection.execute("DELETE FROM answer WHERE key = ? AND status IS NULL", (key,))

    def drop(self, key: str, log: str) -> None:
        """Forget the answer that says what is in a log."""
        with self._write() as connection:
            connection.execute("DELETE FROM answer WHERE key = ? AND log = ? AND status IS NOT NULL", (key, log))

    def _clean(self, connection: sqlite3.Connection, now: float) -> None:
        # By the time of day, as answers outlive the machine. Set back, it has some kept for longer; from further ahead
        # than answers are kept they are of a clock that was wrong. Requests in progress go by the machine's clock.
        machine = machine_seconds()
        connection.execute(
            "DELETE FROM answer WHERE started NOT BETWEEN ? AND ?"
            " AND NOT (status IS NULL AND leased IS NOT NULL AND leased > ? AND leased <= ?)",
            (now - self._kept, now + self._kept, machine - self._lease, machine),
        )
        if is_within(COUNT_SECONDS, self._counted, machine_seconds()):
            return
        self._counted = machine_seconds()
        (count,) = connection.execute("SELECT COUNT(*) FROM answer").fetchone()
        if count > MOST_ANSWERS:
            connection.execute(
                "DELETE FROM answer WHERE key IN (SELECT key FROM answer WHERE status IS NOT NULL"
                " ORDER BY started LIMIT ?)",
                (count - MOST_ANSWERS,),
            )

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                connection = self._connected()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):  # a full disk has rolled it back, and is what is to be told
                        connection.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OSError) as error:
            raise NotReady(f"idempotency file {self._path}: {storage_reason(error, self._path)}") from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(SCHEMA)
            there = {name for _, name, *_ in connection.execute("PRAGMA table_info(answer)")}
            for name, kind in LATER_COLUMNS.items():
                if name not in there:
                    with suppress(sqlite3.OperationalError):  # another process may be faster
                        connection.execute(f"ALTER TABLE answer ADD COLUMN {name} {kind}")
            self._connection, self._pid = connection, os.getpid()
        return self._connection

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None
