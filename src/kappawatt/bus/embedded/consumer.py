"""Positions and reading: of a reader without a group, and of a group's member."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from kappawatt.bus.embedded.file import IDLE_SECONDS, File, decode_headers, store_offsets
from kappawatt.bus.embedded.membership import Membership
from kappawatt.bus.interface import POLL_BYTES, Records, Start, TopicPartition
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
        self._logs: dict[str, str] = {}  # what the positions are of

    def seek(self, topic: str, partition: int, offset: int) -> None:
        if (topic, partition) not in self._positions:
            raise BusError(f"{topic}[{partition}] is not assigned here")
        self._positions[topic, partition] = offset

    def positions(self) -> Mapping[TopicPartition, int]:
        return dict(self._positions)

    def lag(self) -> Mapping[TopicPartition, int]:
        ends = {topic: self._file.offsets(topic) for topic in {t for t, _ in self._positions}}
        return {(t, p): max(0, ends[t][p].end - at) for (t, p), at in self._positions.items()}

    def _fetch(self) -> list[Records]:
        connection = self._file.connection()
        for topic in self._logs:
            self._follow_log(topic)
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
                        [decode_headers(encoded) for encoded in headers],
                        self._logs[topic],
                        envelope=self._envelopes.get(topic, ""),
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

    def _follow_log(self, topic: str) -> None:
        """Deal with a topic that was made again since positions were taken."""
        now = self._file.log_id(topic)
        if now != self._logs[topic]:
            self._begin_anew(topic, now)
            self._logs[topic] = now

    def _begin_anew(self, topic: str, now: str) -> None:
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
            self._logs[topic] = file.log_id(topic)
            for number, known in file.offsets(topic).items():
                self._positions[topic, number] = positions.get((topic, number), known.begin)

    def poll(self, timeout: float) -> list[Records]:
        return self._wait(timeout)

    def _begin_anew(self, topic: str, now: str) -> None:
        raise LogRenewed.of(topic, now, self._logs[topic])

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

    def poll(self, timeout: float) -> list[Records]:
        self._keep_membership()
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            found = self._wait(min(max(left, 0), self._membership.session / 3, 0.25))
            if found or left <= 0:
                return found
            self._keep_membership()

    def _begin_anew(self, topic: str, now: str) -> None:
        renewed = LogRenewed.of(topic, now, self._logs[topic])
        log.warning("%s; %s begins at its beginning", renewed, self._membership.group)
        known = self._file.offsets(topic)
        for place in [place for place in self._positions if place[0] == topic]:
            self._positions[place] = known[place[1]].begin
        self._committed = {}

    def commit(self) -> None:
        if self._positions == self._committed:
            return
        with self._file.write() as connection:
            if self._membership.generation(connection) != self._generation:
                return  # partitions have moved: whoever has them now reads on from the last commit
            store_offsets(connection, self._membership.group, self._positions)
        self._committed = dict(self._positions)

    def rewind(self) -> None:
        self._take_positions(list(self._positions))

    def close(self) -> None:
        self._positions.clear()
        if self._generation != NO_GENERATION:
            self._membership.leave()
        self._generation = NO_GENERATION

    def _keep_membership(self) -> None:
        current = self._membership.keep()
        if current != self._generation:
            share = self._membership.share()
            self._generation = current
            self._take_positions(share)

    def _take_positions(self, assigned: list[TopicPartition]) -> None:
        """Start each partition at the committed offset; where there is none, commit the start."""
        fresh: dict[TopicPartition, int] = {}
        positions: dict[TopicPartition, int] = {}
        for topic in {topic for topic, _ in assigned}:
            self._logs[topic] = self._file.log_id(topic)
            committed = self._file.committed(self._membership.group, topic)
            known = self._file.offsets(topic)
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
            with self._file.write() as connection:
                store_offsets(connection, self._membership.group, fresh, replace=False)
        self._positions = positions
        self._committed = {}
