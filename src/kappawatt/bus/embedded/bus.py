"""The bus itself, and publishing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence

from kappawatt.bus.embedded.consumer import GroupConsumer, Reader
from kappawatt.bus.embedded.file import File, encode_headers, store_offsets
from kappawatt.bus.embedded.membership import Membership, count_alive
from kappawatt.bus.in_flight import InFlight
from kappawatt.bus.interface import (
    BusOptions,
    Consumer,
    Headers,
    Offsets,
    Outgoing,
    Producer,
    Start,
    TopicPartition,
)
from kappawatt.bus.logs import new_log
from kappawatt.bus.partitioner import partition_for
from kappawatt.bus.topic import TOPIC_NAME, Topic
from kappawatt.errors import BusError, BusUnreachable, SettingInvalid, TopicUnknown, WritesRefused

__all__ = ["EmbeddedBus"]

INSERT = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)"
INSERTED = 5_000  # messages at a time
PRUNE_SECONDS = 60.0  # between two deletions of what retention no longer keeps


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
        self.options = options or BusOptions()
        self._file = File(path)
        self.url = self._file.url

    def producer(self) -> Producer:
        return _EmbeddedProducer(self._file, InFlight(self.options.max_in_flight_bytes))

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        instance_id: str | None = None,
        start: Start = Start.EARLIEST,
        max_records: int = 5000,
    ) -> Consumer:
        member = Membership(self._file, group, instance_id, tuple(topics), self.options.session_timeout)
        return GroupConsumer(self._file, tuple(topics), member, start, max_records, self.options.envelopes)

    def reader(
        self, topics: Sequence[str], positions: Mapping[TopicPartition, int], *, max_records: int = 5000
    ) -> Consumer:
        return Reader(self._file, tuple(topics), positions, max_records, self.options.envelopes)

    def ensure(self, topics: Iterable[Topic]) -> list[str]:
        created = []
        topics = list(topics)
        for topic in topics:
            if not TOPIC_NAME.fullmatch(topic.name):
                raise BusError(f"topic: got {topic.name[:80]!r}, allowed 1 to 249 of A-Z a-z 0-9 . _ -")
        with self._file.write() as connection:
            for topic in topics:
                added = connection.execute(
                    "INSERT OR IGNORE INTO topic VALUES (?, ?, ?, ?, ?)",
                    (topic.name, topic.partitions, topic.retention, topic.retention is None, new_log()),
                ).rowcount
                if added:
                    created.append(topic.name)
                    connection.executemany(
                        "INSERT INTO partition VALUES (?, ?, 0, 0)",
                        [(topic.name, number) for number in range(topic.partitions)],
                    )
        return created

    def offsets(self, topic: str) -> dict[int, Offsets]:
        return self._file.offsets(topic)

    def log_id(self, topic: str) -> str:
        return self._file.log(topic).id

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
        return self._file.committed(group, topic)

    def why_not_writable(self, topics: Sequence[str]) -> str | None:
        try:
            with self._file.write():
                return None
        except (sqlite3.Error, BusError) as error:
            return f"{self.url}: {error}"

    def commit_for(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        with self._file.write() as connection:
            members = count_alive(connection, group, self.options.session_timeout)
            if members:
                raise BusError(f"group {group!r}: got {members} members, allowed none")
            store_offsets(connection, group, offsets)

    def close(self) -> None:
        self._file.close()


class _EmbeddedProducer:
    def __init__(self, file: File, in_flight: InFlight) -> None:
        self._file = file
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
            except BusUnreachable as error:
                raise WritesRefused(f"{len(messages)} messages: {error}") from error

    def _store(self, messages: Sequence[Outgoing]) -> None:
        now = time.time_ns() // 1_000_000
        with self._file.write() as connection:
            ends: dict[TopicPartition, int] = {}
            counts: dict[str, int] = {}
            rows: list[tuple[object, ...]] = []
            last: Headers | None = None
            headers: bytes | None = None
            for message in messages:
                topic = message.topic
                if topic not in counts:
                    for number, known in self._file.offsets(topic).items():
                        ends[topic, number] = known.end
                        counts[topic] = number + 1
                partition = self._partition(message, counts[topic])
                if (topic, partition) not in ends:
                    raise TopicUnknown(f"{topic}[{partition}] is not on {self._file.url}")
                offset = ends[topic, partition]
                ends[topic, partition] = offset + 1
                timestamp = now if message.timestamp is None else message.timestamp
                if message.headers is not last:  # most messages of one publish share theirs
                    last, headers = message.headers, encode_headers(message.headers)
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
