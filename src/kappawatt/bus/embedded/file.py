"""The file: its tables, its connections, and what several parts ask of them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from kappawatt.bus.interface import Headers, Offsets, TopicPartition
from kappawatt.bus.logs import new_log
from kappawatt.columns.plain import json_bytes
from kappawatt.errors import BusUnreachable, TopicUnknown, storage_reason

__all__ = ["IDLE_SECONDS", "File", "Log", "decode_headers", "encode_headers", "logs_in", "store_offsets"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (
    name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, retention INTEGER, compacted INTEGER NOT NULL, log TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partition (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, begin_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    key BLOB, value BLOB NOT NULL, headers BLOB, PRIMARY KEY (topic, partition, offset)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS committed (
    consumer_group TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member (
    consumer_group TEXT NOT NULL, member TEXT NOT NULL, instance TEXT, topics TEXT NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (consumer_group, member)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generation (
    consumer_group TEXT PRIMARY KEY, number INTEGER NOT NULL
) WITHOUT ROWID;
"""

BUSY_SECONDS = 30.0  # how long one process waits for another to finish a write
IDLE_SECONDS = 0.005  # between two looks for new messages; a look costs some 10 us


class Log(NamedTuple):
    """What a topic has now; another one if it was deleted and made again."""

    id: str
    partitions: int


class File:
    """One SQLite connection for each thread, opened at first use, and again after a fork or when another file has
    taken its place: what is written to a file that was removed nobody reads.
    """

    def __init__(self, path: str) -> None:
        self.url = f"embedded:{path}"
        self.path = Path(path).expanduser().absolute()
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        opened = getattr(self._local, "opened", None)
        here = os.getpid(), self._identity()
        if opened != here:
            if opened is not None and opened[0] == here[0]:
                self._local.connection.close()
            self._local.connection = self._connect()
            self._local.opened = os.getpid(), self._identity()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _connect(self) -> sqlite3.Connection:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection = self._open_once()
                break
            except (sqlite3.Error, OSError) as error:
                # Two processes that make the file at once: turning it to WAL does not wait as writes do.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise BusUnreachable(f"embedded bus {self.path}: {storage_reason(error, self.path)}") from error
                time.sleep(IDLE_SECONDS)
        with self._lock:
            self._open.append(connection)
        return connection

    def _open_once(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # on disk before the acknowledgement
            connection.execute("PRAGMA wal_autocheckpoint = 2000")
            connection.executescript(SCHEMA)
            _name_logs(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start; BusUnreachable says why the file takes nothing."""
        connection = self.connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back, and is what is to be told
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise BusUnreachable(f"embedded bus {self.path}: {storage_reason(error, self.path)}") from error

    def offsets(self, topic: str) -> dict[int, Offsets]:
        """Return the first and the end offset of each partition; TopicUnknown if there is no such topic."""
        rows = self.connection().execute(
            "SELECT partition, begin_offset, end_offset FROM partition WHERE topic = ? ORDER BY partition", (topic,)
        )
        found = {partition: Offsets(begin, end) for partition, begin, end in rows}
        if not found:
            raise TopicUnknown(f"topic {topic!r} is not on {self.url}")
        return found

    def log(self, topic: str) -> Log:
        """Return a topic's log; TopicUnknown if there is no such topic."""
        row = self.connection().execute("SELECT log, partitions FROM topic WHERE name = ?", (topic,)).fetchone()
        if row is None:
            raise TopicUnknown(f"topic {topic!r} is not on {self.url}")
        return Log(*row)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the committed offset of each partition that has one."""
        return dict(
            self.connection().execute(
                "SELECT partition, offset FROM committed WHERE consumer_group = ? AND topic = ?", (group, topic)
            )
        )

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()


def logs_in(connection: sqlite3.Connection) -> dict[str, Log]:
    """Return the log of every topic."""
    found = connection.execute("SELECT name, log, partitions FROM topic")
    return {name: Log(log, partitions) for name, log, partitions in found}


def store_offsets(
    connection: sqlite3.Connection,
    group: str,
    offsets: Mapping[TopicPartition, int],
    replace: bool = True,
) -> None:
    """Commit offsets; without `replace` only where none is committed yet."""
    connection.executemany(
        "INSERT OR REPLACE INTO committed VALUES (?, ?, ?, ?)"
        if replace
        else "INSERT OR IGNORE INTO committed VALUES (?, ?, ?, ?)",
        [(group, topic, partition, offset) for (topic, partition), offset in offsets.items()],
    )


def _name_logs(connection: sqlite3.Connection) -> None:
    """Give the topics of a file that a release before made the identity of their logs."""
    if "log" in {name for _, name, *_ in connection.execute("PRAGMA table_info(topic)")}:
        return
    connection.execute("BEGIN IMMEDIATE")
    with contextlib.suppress(sqlite3.OperationalError):  # another process was faster
        connection.execute("ALTER TABLE topic ADD COLUMN log TEXT")
        for (name,) in connection.execute("SELECT name FROM topic").fetchall():
            connection.execute("UPDATE topic SET log = ? WHERE name = ?", (new_log(), name))
    connection.execute("COMMIT")


def encode_headers(headers: Headers) -> bytes | None:
    """Return headers as they are stored."""
    if not headers:
        return None
    return json_bytes([[name, value.decode("latin-1")] for name, value in headers])


def decode_headers(encoded: bytes | None) -> Headers:
    """Return stored headers."""
    if encoded is None:
        return ()
    return tuple((name, value.encode("latin-1")) for name, value in orjson.loads(encoded))
