"""Positions and reading: of a reader without a group, and of a group's member."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping, Set

from kappawatt.bus.embedded.file import IDLE_SECONDS, File, Log, decode_headers, logs_in, store_offsets
from kappawatt.bus.embedded.membership import Membership
from kappawatt.bus.interface import POLL_BYTES, Offsets, Records, Start, TopicPartition
from kappawatt.bus.logs import beyond_end
from kappawatt.bus.wrapped_keys import bare_keys
from kappawatt.errors import BusError, LogRenewed

__all__ = ["GroupConsumer", "Reader"]

log = logging.getLogger(__name__)

NO_GENERATION = -1  # not a member yet


class _Consumer:
    """Positions and reading, common to group members and readers."""

    def __init__(self, file: File, topics: tuple[str, ...], max_records: int, envelopes: Mapping[str, str]) -> None:
        self._file = file
        self._envelopes = envelopes
        self._topics = topics
        self._max_records = max_records
        self._positions: dict[TopicPartition, int] = {}
        self._logs: dict[str, Log] = {}  # what the positions are of

    def seek(self, topic: str, partition: int, offset: int) -> None:
        if (topic, partition) not in self._positions:
            raise BusError(f"{topic}[{partition}] is not assigned here")
        self._positions[topic, partition] = offset

    def positions(self) -> Mapping[TopicPartition, int]:
        return dict(self._positions)

    def lag(self) -> Mapping[TopicPartition, int]:
        ends = {topic: self._file.offsets(topic) for topic in {t for t, _ in self._positions}}
        return {(t, p): max(0, ends[t][p].end - at) for (t, p), at in self._positions.items() if p in ends[t]}

    def _fetch(self) -> list[Records]:
        connection = self._file.connection()
        changed = {topic for topic, known in self._logs.items() if self._file.log(topic) != known}
        if changed:
            self._leave_logs(changed)
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
                envelope = self._envelopes.get(topic, "")
                found.append(
                    Records(
                        topic, partition, offsets, timestamps, bare_keys(keys, envelope), values,
                        [decode_headers(encoded) for encoded in headers],
                        self._logs[topic].id,
                        envelope=envelope,
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

    def _leave_logs(self, changed: Set[str]) -> None:
        """Deal with topics that were made again since positions were taken, or have more or fewer partitions."""
        raise NotImplementedError

    def _wait(self, timeout: float, fetch: bool = True) -> list[Records]:
        deadline = time.monotonic() + timeout
        while True:
            found = self._fetch() if fetch else []
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(IDLE_SECONDS, left))


class Reader(_Consumer):
    """Every partition from given positions on, without a group."""

    def __init__(
        self,
        file: File,
        topics: tuple[str, ...],
        positions: Mapping[TopicPartition, int],
        max_records: int,
        envelopes: Mapping[str, str],
    ) -> None:
        super().__init__(file, topics, max_records, envelopes)
        for topic in topics:
            self._logs[topic] = file.log(topic)
            for number, known in file.offsets(topic).items():
                self._positions[topic, number] = positions.get((topic, number), known.begin)

    def poll(self, timeout: float) -> list[Records]:
        return self._wait(timeout)

    def _leave_logs(self, changed: Set[str]) -> None:
        for topic in changed:
            now, known = self._file.log(topic), self._logs[topic]
            if now.id != known.id:
                raise LogRenewed.of(topic, now.id, known.id)
            there = self._file.offsets(topic)
            self._positions = {(t, p): at for (t, p), at in self._positions.items() if t != topic or p in there}
            for number, limits in there.items():
                self._positions.setdefault((topic, number), limits.begin)
            self._logs[topic] = now

    def commit(self) -> None:
        raise BusError("a reader without a group cannot commit")

    def rewind(self) -> None:
        raise BusError("a reader without a group cannot rewind; seek instead")

    def close(self) -> None:
        self._positions.clear()


class GroupConsumer(_Consumer):
    """A member of a group: the share of the partitions that its generation gives it, from the committed offsets on."""

    def __init__(
        self,
        file: File,
        topics: tuple[str, ...],
        membership: Membership,
        start: Start,
        max_records: int,
        envelopes: Mapping[str, str],
    ) -> None:
        super().__init__(file, topics, max_records, envelopes)
        self._membership = membership
        self._start = start
        self._generation = NO_GENERATION
        self._committed: dict[TopicPartition, int] = {}
        self._made_again: set[str] = set()  # topics that were, since this member joined

    def poll(self, timeout: float) -> list[Records]:
        self._keep_membership()
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            found = self._wait(min(max(left, 0), self._membership.session / 3, 0.25))
            if found or left <= 0:
                return found
            self._keep_membership()

    def _leave_logs(self, changed: Set[str]) -> None:
        # Its number alone says whose a partition is in a generation, so members need no new one to agree.
        before, logs = self._positions, self._logs
        self._take_positions(self._membership.share())
        still = {topic for topic, known in logs.items() if self._logs[topic] == known}
        self._positions |= {place: before[place] for place in self._positions.keys() & before if place[0] in still}

    def commit(self) -> None:
        if self._positions == self._committed:
            return
        with self._file.write() as connection:
            if self._membership.generation(connection) != self._generation:
                return  # partitions have moved: whoever has them now reads on from the last commit
            store_offsets(connection, self._membership.group, _of_these(connection, self._positions, self._logs))
        self._committed = dict(self._positions)

    def rewind(self) -> None:
        self._take_positions(self._membership.share())

    def close(self) -> None:
        self._positions.clear()
        if self._generation != NO_GENERATION:
            self._membership.leave()
        self._generation = NO_GENERATION

    def _keep_membership(self) -> None:
        current = self._membership.keep()
        if current != self._generation:
            share = self._membership.share()
            self._take_positions(share)
            self._generation = current

    def _take_positions(self, assigned: list[TopicPartition]) -> None:
        """Start each partition at the committed offset; where there is none, commit the start."""
        logs = {topic: self._file.log(topic) for topic in self._topics}
        renewed = {topic for topic, known in self._logs.items() if logs[topic].id != known.id}
        fresh: dict[TopicPartition, int] = {}
        positions: dict[TopicPartition, int] = {}
        for topic in {topic for topic, _ in assigned}:
            committed = {} if topic in renewed else self._file.committed(self._membership.group, topic)
            is_whole = self._start is Start.EARLIEST or topic in self._made_again | renewed
            for number, limits in self._file.offsets(topic).items():
                place = (topic, number)
                if place not in assigned:
                    continue
                if number in committed:
                    positions[place] = self._within(limits, place, committed[number])
                else:
                    positions[place] = fresh[place] = limits.begin if is_whole else limits.end
        if fresh:
            with self._file.write() as connection:
                store_offsets(connection, self._membership.group, _of_these(connection, fresh, logs), replace=False)
        for topic in renewed:
            error = LogRenewed.of(topic, logs[topic].id, self._logs[topic].id)
            log.warning("%s; %s begins at its beginning", error, self._membership.group)
        self._made_again |= renewed
        self._logs = logs
        self._positions = positions
        self._committed = {}

    def _within(self, limits: Offsets, place: TopicPartition, committed: int) -> int:
        """Return where to go on in a partition: what lies beyond its end was committed of another log."""
        if committed <= limits.end:
            return max(committed, limits.begin)
        log.warning(beyond_end(self._membership.group, place, committed, limits.end))
        return limits.begin


def _of_these(
    connection: sqlite3.Connection, offsets: Mapping[TopicPartition, int], logs: Mapping[str, Log]
) -> dict[TopicPartition, int]:
    """Leave out offsets of topics that have other logs by now, where they mean nothing; asked inside a write."""
    now = logs_in(connection)
    return {(topic, p): at for (topic, p), at in offsets.items() if now.get(topic) == logs[topic]}
