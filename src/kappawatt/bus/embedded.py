"""The embedded bus: one SQLite file in WAL mode, shared by the processes of one machine.

It is the default of a fresh machine and keeps Kafka's promises at laptop scale: messages are on disk before
`publish` returns, offsets are dense per partition, groups share partitions by generation, a member that shows
no sign of life for `session_timeout` loses its partitions, and a commit of an old generation changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from kappawatt.bus.in_flight import InFlight
from kappawatt.bus.interface import (
    POLL_BYTES,
    BusOptions,
    Consumer,
    Headers,
    Offsets,
    Outgoing,
    Producer,
    Records,
    Start,
    TopicPartition,
)
from kappawatt.bus.partitioner import partition_for
from kappawatt.bus.topic import Topic
from kappawatt.columns.plain import json_bytes
from kappawatt.errors import BusError, BusUnreachable, DeliveryFailed, SettingInvalid, TopicUnknown

__all__ = ["EmbeddedBus"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (
    name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, retention INTEGER, compacted INTEGER NOT NULL
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

TOPIC_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")  # as Kafka has it
BUSY_SECONDS = 30.0  # how long one process waits for another to finish a write
IDLE_SECONDS = 0.005  # between two looks for new messages; a look costs some 10 us
INSERT = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)"
INSERTED = 5_000  # messages at a time
PRUNE_SECONDS = 60.0  # between two deletions of what retention no longer keeps


class _File:
    """One SQLite connection for each thread, opened at first use and again after a fork."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser().absolute()
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def connection(self) -> sqlite3.Connection:
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.connection = self._connect()
            self._local.pid = os.getpid()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection = self._open_once()
                break
            except (sqlite3.Error, OSError) as error:
                # Two processes that make the file at once: turning it to WAL does not wait as writes do.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise BusUnreachable(f"embedded bus {self.path}: {error}") from error
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
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()


class EmbeddedBus:
    """A bus in one file.

    Parameters
    ----------
    path : str
        The SQLite file; made at first use.
    """

    def __init__(self, path: str, options: BusOptions | None = None) -> None:
        if not path:
            raise SettingInvalid("bus: got 'embedded:', allowed embedded:FILE")
        self.url = f"embedded:{path}"
        self.options = options or BusOptions()
        self._file = _File(path)

    def producer(self) -> Producer:
        return _EmbeddedProducer(self, InFlight(self.options.max_in_flight_bytes))

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        instance_id: str | None = None,
        start: Start = Start.EARLIEST,
        max_records: int = 5000,
    ) -> Consumer:
        return _GroupConsumer(self, tuple(topics), group, instance_id, start, max_records)

    def reader(
        self, topics: Sequence[str], positions: Mapping[TopicPartition, int], *, max_records: int = 5000
    ) -> Consumer:
        return _Reader(self, tuple(topics), positions, max_records)

    def ensure(self, topics: Iterable[Topic]) -> list[str]:
        created = []
        topics = list(topics)
        for topic in topics:
            if not TOPIC_NAME.fullmatch(topic.name):
                raise BusError(f"topic: got {topic.name[:80]!r}, allowed 1 to 249 of A-Z a-z 0-9 . _ -")
        with self._file.write() as connection:
            for topic in topics:
                added = connection.execute(
                    "INSERT OR IGNORE INTO topic VALUES (?, ?, ?, ?)",
                    (topic.name, topic.partitions, topic.retention, topic.retention is None),
                ).rowcount
                if added:
                    created.append(topic.name)
                    connection.executemany(
                        "INSERT INTO partition VALUES (?, ?, 0, 0)",
                        [(topic.name, number) for number in range(topic.partitions)],
                    )
        return created

    def offsets(self, topic: str) -> dict[int, Offsets]:
        rows = (
            self._file.connection()
            .execute(
                "SELECT partition, begin_offset, end_offset FROM partition WHERE topic = ? ORDER BY partition",
                (topic,),
            )
            .fetchall()
        )
        if not rows:
            raise TopicUnknown(f"topic {topic!r} is not on {self.url}")
        return {partition: Offsets(begin, end) for partition, begin, end in rows}

    def offsets_at(self, topic: str, timestamp: int) -> dict[int, int]:
        found = dict(
            self._file.connection().execute(
                "SELECT partition, MIN(offset) FROM message WHERE topic = ? AND timestamp >= ? GROUP BY partition",
                (topic, timestamp),
            )
        )
        return {number: found.get(number, known.end) for number, known in self.offsets(topic).items()}

    def topics(self) -> dict[str, int]:
        return dict(self._file.connection().execute("SELECT name, partitions FROM topic ORDER BY name"))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        return dict(
            self._file.connection().execute(
                "SELECT partition, offset FROM committed WHERE consumer_group = ? AND topic = ?",
                (group, topic),
            )
        )

    def commit_for(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        alive = time.time() - self.options.session_timeout
        with self._file.write() as connection:
            members = connection.execute(
                "SELECT COUNT(*) FROM member WHERE consumer_group = ? AND seen >= ?", (group, alive)
            ).fetchone()[0]
            if members:
                raise BusError(f"group {group!r}: got {members} members, allowed none")
            _store_offsets(connection, group, offsets)

    def close(self) -> None:
        self._file.close()


class _EmbeddedProducer:
    def __init__(self, bus: EmbeddedBus, in_flight: InFlight) -> None:
        self._bus = bus
        self._in_flight = in_flight
        self._spread = 0
        self._pruned = time.monotonic()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float = 30.0, wait: bool = True) -> None:
        if not messages:
            return
        size = sum(message.size for message in messages)
        with self._in_flight.reserve(size, wait=wait, timeout=timeout):
            try:
                self._store(messages)
            except sqlite3.Error as error:
                raise DeliveryFailed(f"{len(messages)} messages to {self._bus.url}: {error}") from error

    def _store(self, messages: Sequence[Outgoing]) -> None:
        now = time.time_ns() // 1_000_000
        with self._bus._file.write() as connection:
            ends: dict[TopicPartition, int] = {}
            counts: dict[str, int] = {}
            rows: list[tuple[object, ...]] = []
            last: Headers | None = None
            headers: bytes | None = None
            for message in messages:
                topic = message.topic
                if topic not in counts:
                    for number, known in self._bus.offsets(topic).items():
                        ends[topic, number] = known.end
                        counts[topic] = number + 1
                partition = self._partition(message, counts[topic])
                if (topic, partition) not in ends:
                    raise TopicUnknown(f"{topic}[{partition}] is not on {self._bus.url}")
                offset = ends[topic, partition]
                ends[topic, partition] = offset + 1
                timestamp = now if message.timestamp is None else message.timestamp
                if message.headers is not last:  # most messages of one publish share theirs
                    last, headers = message.headers, _encode_headers(message.headers)
                rows.append((topic, partition, offset, timestamp, message.key, message.value, headers))
                if len(rows) == INSERTED:
                    connection.executemany(INSERT, rows)
                    rows.clear()
            connection.executemany(INSERT, rows)
            connection.executemany(
                "UPDATE partition SET end_offset = ? WHERE topic = ? AND partition = ?",
                [(end, topic, partition) for (topic, partition), end in ends.items()],
            )
            if time.monotonic() - self._pruned > PRUNE_SECONDS:
                self._pruned = time.monotonic()
                _prune(connection, now)

    def _partition(self, message: Outgoing, count: int) -> int:
        if message.partition is not None:
            return message.partition
        if message.key is not None:
            return partition_for(message.key, count)
        self._spread += 1
        return self._spread % count

    def close(self) -> None:
        """Nothing is in flight once publish has returned."""


class _Consumer:
    """Positions and reading, common to group members and readers."""

    def __init__(self, bus: EmbeddedBus, topics: tuple[str, ...], max_records: int) -> None:
        self._bus = bus
        self._topics = topics
        self._max_records = max_records
        self._positions: dict[TopicPartition, int] = {}

    def seek(self, topic: str, partition: int, offset: int) -> None:
        if (topic, partition) not in self._positions:
            raise BusError(f"{topic}[{partition}] is not assigned here")
        self._positions[topic, partition] = offset

    def positions(self) -> Mapping[TopicPartition, int]:
        return dict(self._positions)

    def lag(self) -> Mapping[TopicPartition, int]:
        ends = {topic: self._bus.offsets(topic) for topic in {t for t, _ in self._positions}}
        return {(t, p): max(0, ends[t][p].end - at) for (t, p), at in self._positions.items()}

    def _fetch(self) -> list[Records]:
        connection = self._bus._file.connection()
        room, size = self._max_records, 0
        found: list[Records] = []
        for (topic, partition), position in self._positions.items():
            cursor = connection.execute(
                "SELECT offset, timestamp, key, value, headers FROM message"
                " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
                (topic, partition, position, room),
            )
            rows = []
            for row in cursor:
                rows.append(row)
                size += len(row[3])
                if size >= POLL_BYTES:
                    break
            if rows:
                offsets, timestamps, keys, values, headers = zip(*rows, strict=True)
                found.append(
                    Records(
                        topic, partition, offsets, timestamps, keys, values,
                        [_decode_headers(encoded) for encoded in headers],
                    )
                )  # fmt: skip
                room -= len(rows)
            if room <= 0 or size >= POLL_BYTES:
                break
        for records in found:  # the partitions read now come last next time
            place = (records.topic, records.partition)
            self._positions.pop(place)
            self._positions[place] = records.next_offset
        return found

    def _wait(self, timeout: float, fetch: bool = True) -> list[Records]:
        deadline = time.monotonic() + timeout
        while True:
            found = self._fetch() if fetch else []
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(IDLE_SECONDS, left))


class _Reader(_Consumer):
    def __init__(
        self,
        bus: EmbeddedBus,
        topics: tuple[str, ...],
        positions: Mapping[TopicPartition, int],
        max_records: int,
    ) -> None:
        super().__init__(bus, topics, max_records)
        for topic in topics:
            for number, known in bus.offsets(topic).items():
                self._positions[topic, number] = positions.get((topic, number), known.begin)

    def poll(self, timeout: float) -> list[Records]:
        return self._wait(timeout)

    def commit(self) -> None:
        raise BusError("a reader without a group cannot commit")

    def rewind(self) -> None:
        raise BusError("a reader without a group cannot rewind; seek instead")

    def close(self) -> None:
        self._positions.clear()


class _GroupConsumer(_Consumer):
    def __init__(
        self,
        bus: EmbeddedBus,
        topics: tuple[str, ...],
        group: str,
        instance: str | None,
        start: Start,
        max_records: int,
    ) -> None:
        super().__init__(bus, topics, max_records)
        self._group = group
        self._instance = instance
        self._member = instance or uuid.uuid4().hex
        self._start = start
        self._generation = -1
        self._heartbeat = 0.0

    def poll(self, timeout: float) -> list[Records]:
        self._keep_membership()
        slice_seconds = self._bus.options.session_timeout / 3
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            found = self._wait(min(max(left, 0), slice_seconds, 0.25))
            if found or left <= 0:
                return found
            self._keep_membership()

    def commit(self) -> None:
        with self._bus._file.write() as connection:
            if self._current(connection) != self._generation:
                return  # partitions have moved: whoever has them now reads on from the last commit
            _store_offsets(connection, self._group, self._positions)

    def rewind(self) -> None:
        self._take_positions(list(self._positions))

    def close(self) -> None:
        self._positions.clear()
        if self._instance is not None or self._generation < 0:
            return  # a static member keeps its place until its session ends
        with self._bus._file.write() as connection:
            gone = connection.execute(
                "DELETE FROM member WHERE consumer_group = ? AND member = ?", (self._group, self._member)
            ).rowcount
            if gone:
                self._next_generation(connection)
        self._generation = -1

    def _keep_membership(self) -> None:
        """Show a sign of life, drop members that show none, and follow a new generation."""
        session = self._bus.options.session_timeout
        now = time.time()
        if now - self._heartbeat < session / 5:
            current = self._current(self._bus._file.connection())
        else:
            with self._bus._file.write() as connection:
                gone = connection.execute(
                    "DELETE FROM member WHERE consumer_group = ? AND seen < ?", (self._group, now - session)
                ).rowcount
                known = connection.execute(
                    "UPDATE member SET seen = ? WHERE consumer_group = ? AND member = ? AND topics = ?",
                    (now, self._group, self._member, ",".join(self._topics)),
                ).rowcount
                if not known:
                    connection.execute(
                        "INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?, ?)",
                        (self._group, self._member, self._instance, ",".join(self._topics), now),
                    )
                if gone or not known:
                    self._next_generation(connection)
                current = self._current(connection)
            self._heartbeat = now
        if current != self._generation:
            self._follow(current)

    def _follow(self, generation: int) -> None:
        """Take the share of the partitions that a new generation gives this member."""
        connection = self._bus._file.connection()
        members = [
            (member, topics.split(","))
            for member, topics in connection.execute(
                "SELECT member, topics FROM member WHERE consumer_group = ? ORDER BY member", (self._group,)
            )
        ]
        mine: list[TopicPartition] = []
        for topic in self._topics:
            sharing = [member for member, topics in members if topic in topics]
            if self._member not in sharing:
                continue
            place = sharing.index(self._member)
            mine += [(topic, p) for p in self._bus.offsets(topic) if p % len(sharing) == place]
        self._generation = generation
        self._take_positions(mine)

    def _take_positions(self, assigned: list[TopicPartition]) -> None:
        """Start each partition at the committed offset; where there is none, commit the start."""
        fresh: dict[TopicPartition, int] = {}
        positions: dict[TopicPartition, int] = {}
        for topic in {topic for topic, _ in assigned}:
            committed = self._bus.committed(self._group, topic)
            known = self._bus.offsets(topic)
            for place in assigned:
                if place[0] != topic:
                    continue
                limits = known[place[1]]
                if place[1] in committed:
                    positions[place] = max(committed[place[1]], limits.begin)
                else:
                    at = limits.begin if self._start is Start.EARLIEST else limits.end
                    positions[place] = fresh[place] = at
        if fresh:
            with self._bus._file.write() as connection:
                _store_offsets(connection, self._group, fresh, replace=False)
        self._positions = positions

    def _current(self, connection: sqlite3.Connection) -> int:
        row = connection.execute("SELECT number FROM generation WHERE consumer_group = ?", (self._group,)).fetchone()
        return int(row[0]) if row else 0

    def _next_generation(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO generation VALUES (?, 1) ON CONFLICT (consumer_group) DO UPDATE SET number = number + 1",
            (self._group,),
        )


def _store_offsets(
    connection: sqlite3.Connection,
    group: str,
    offsets: Mapping[TopicPartition, int],
    replace: bool = True,
) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO committed VALUES (?, ?, ?, ?)"
        if replace
        else "INSERT OR IGNORE INTO committed VALUES (?, ?, ?, ?)",
        [(group, topic, partition, offset) for (topic, partition), offset in offsets.items()],
    )


def _encode_headers(headers: Headers) -> bytes | None:
    if not headers:
        return None
    return json_bytes([[name, value.decode("latin-1")] for name, value in headers])


def _decode_headers(encoded: bytes | None) -> Headers:
    if encoded is None:
        return ()
    return tuple((name, value.encode("latin-1")) for name, value in orjson.loads(encoded))


def _prune(connection: sqlite3.Connection, now: int) -> None:
    """Delete what is older than its topic's retention, and old values of compacted topics."""
    for name, retention, compacted in connection.execute("SELECT name, retention, compacted FROM topic").fetchall():
        if compacted:
            connection.execute(
                "DELETE FROM message WHERE topic = ? AND offset < ("
                "SELECT MAX(newer.offset) FROM message AS newer WHERE newer.topic = message.topic"
                " AND newer.partition = message.partition AND newer.key IS message.key)",
                (name,),
            )
            continue
        connection.execute("DELETE FROM message WHERE topic = ? AND timestamp < ?", (name, now - retention * 1000))
        connection.execute(
            "UPDATE partition SET begin_offset = COALESCE((SELECT MIN(offset) FROM message"
            " WHERE message.topic = partition.topic AND message.partition = partition.partition), end_offset)"
            " WHERE topic = ?",
            (name,),
        )
