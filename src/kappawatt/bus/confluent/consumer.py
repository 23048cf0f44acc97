"""Polling through confluent-kafka, and reading without a group."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from kappawatt.bus.confluent.cluster import Cluster
from kappawatt.bus.confluent.trouble import FENCED, MOVED, PASSING, REFUSED, UNKNOWN, Trouble
from kappawatt.bus.interface import POLL_BYTES, Records, TopicPartition
from kappawatt.bus.kafka_clients import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    SILENCE_SECONDS,
    SLICE_SECONDS,
    TOPIC_PATIENCE,
)
from kappawatt.bus.kafka_settings import Role
from kappawatt.bus.logs import KnownLogs
from kappawatt.errors import BusError, BusUnreachable, LogRenewed

__all__ = ["ClusterConsumer", "Reader"]

log = logging.getLogger(__name__)

REACH_SECONDS = 1.0  # a broker that has not answered by then is away
CONSUMER: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # only where retention has removed the position
    "check.crcs": True,
    "max.partition.fetch.bytes": 4 * 1024 * 1024,
    "fetch.wait.max.ms": 250,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
}


class ClusterConsumer:
    """Polling, positions and errors, common to group members and readers."""

    def __init__(self, cluster: Cluster, topics: tuple[str, ...], logs: KnownLogs, max_records: int) -> None:
        self._cluster = cluster
        self._topics = topics
        self._max_records = max_records
        self._client: kafka.Consumer | None = None
        self._trouble = Trouble()
        self._missing_since: float | None = None
        self._looked = 0.0
        self._at: dict[TopicPartition, int] = {}  # position of every assigned partition
        self._moved: set[TopicPartition] = set()  # positions that are not committed yet
        self._logs = logs

    def poll(self, timeout: float) -> list[Records]:
        deadline = time.monotonic() + timeout
        while True:
            client = self._connected()
            left = max(0.0, deadline - time.monotonic())
            try:
                # asked for many, consume would wait for all of them
                messages = client.consume(1, min(left, SLICE_SECONDS))
                room = self._room_beside(messages)
                if room:
                    messages += client.consume(room, 0.0)
                self._settle(client)
                if messages and self._is_renewed(client, messages):
                    continue
            except KafkaException as error:
                self._report(error.args[0])
                messages = []
            found = self._take(messages) if messages else []
            if found:
                return found
            if self._begin_renewed(client, self._logs.renewed_meanwhile(self._is_reached)):
                continue
            self._check_topics()
            self._check_silence()
            if time.monotonic() >= deadline:
                return []

    def seek(self, topic: str, partition: int, offset: int) -> None:
        client = self._connected()
        if (topic, partition) not in self._at:
            raise BusError(f"{topic}[{partition}] is not assigned here")
        try:
            client.seek(Place(topic, partition, offset))
        except KafkaException as error:
            raise self._cluster.failed(error.args[0], self._trouble) from error
        self._at[topic, partition] = offset
        self._moved.add((topic, partition))

    def positions(self) -> Mapping[TopicPartition, int]:
        return dict(self._at)

    def lag(self) -> Mapping[TopicPartition, int]:
        if not self._at:
            return {}
        client = self._connected()
        try:
            ends = {place: self._end(client, place) for place in self._at}
        except KafkaException as error:
            raise self._cluster.failed(error.args[0], self._trouble) from error
        return {place: max(0, ends[place] - at) for place, at in self._at.items()}

    def close(self) -> None:
        client, self._client = self._client, None
        self._at = {}
        self._moved = set()
        if client is not None:
            client.close()

    def _connected(self) -> kafka.Consumer:
        if self._client is None:
            self._trouble = Trouble()
            self._client = self._open()
        return self._client

    def _open(self) -> kafka.Consumer:
        raise NotImplementedError

    def _is_renewed(self, client: kafka.Consumer, messages: list[Any]) -> bool:
        """Whether a topic was made again, in which case nothing of what came is what was asked for."""
        is_odd = any(
            message.offset() < self._at.get((message.topic(), message.partition()), 0)
            for message in messages
            if message.error() is None
        )
        try:
            renewed = self._logs.renewed(is_odd=is_odd)
        except BusError:
            self._seek_back(client, self._at)
            raise
        if not self._begin_renewed(client, renewed):
            return False
        self._seek_back(client, [place for place in self._at if place[0] not in renewed])
        return True

    def _is_reached(self) -> bool:
        with contextlib.suppress(KafkaException):
            client = self._connected()
            return any(client.get_watermark_offsets(Place(*place), timeout=REACH_SECONDS) for place in [*self._at][:1])
        return False

    def _begin_renewed(self, client: kafka.Consumer, renewed: Mapping[str, tuple[str, str]]) -> bool:
        try:
            for topic, (now, before) in renewed.items():
                self._begin_anew(client, topic, now, before)
        except KafkaException as error:
            raise self._cluster.failed(error.args[0], self._trouble) from error
        return bool(renewed)

    def _seek_back(self, client: kafka.Consumer, places: Iterable[TopicPartition]) -> None:
        """Have what came, and was not taken, come once more."""
        for place in places:
            client.seek(Place(*place, self._at[place]))

    def _begin_anew(self, client: kafka.Consumer, topic: str, now: str, before: str) -> None:
        """Deal with a topic that was made again."""
        raise NotImplementedError

    def _settle(self, client: kafka.Consumer) -> None:
        """Find out where newly assigned partitions start."""

    def _consumer(self, config: Mapping[str, Any]) -> kafka.Consumer:
        settings = self._cluster.config(Role.CONSUMER, CONSUMER, self._trouble)
        client = self._cluster.make(kafka.Consumer, {**config, **settings})
        try:
            self._cluster.await_broker(client, self._trouble, time.monotonic() + CONNECT_SECONDS)
        except BusUnreachable:
            client.close()
            raise
        return client

    def _room_beside(self, messages: list[Any]) -> int:
        """How many more messages a poll may hold, by the size of the first."""
        if not messages:
            return 0
        size = max(1, len(messages[0].value() or b""))
        return min(self._max_records - 1, POLL_BYTES // size)

    def _end(self, client: kafka.Consumer, place: TopicPartition) -> int:
        """The end offset as the last fetch told it; asking the broker would wait behind megabytes of fetches."""
        told: int = client.get_watermark_offsets(Place(*place), cached=True)[1]
        if told >= 0:
            return told
        asked: int = client.get_watermark_offsets(Place(*place), timeout=ANSWER_SECONDS)[1]
        return asked

    def _take(self, messages: list[Any]) -> list[Records]:
        shares: dict[TopicPartition, list[Any]] = {}
        for message in messages:
            if message.error() is not None:
                self._report(message.error())
                continue
            place = (message.topic(), message.partition())
            share = shares.get(place)
            if share is None:
                shares[place] = [message]
            else:
                share.append(message)
        self._trouble.passed()
        found = []
        for place, share in shares.items():
            if place not in self._at:
                continue  # moved away while it waited in the queue
            # what was fetched before the start was known or before a seek is not what was asked for
            share = [message for message in share if message.offset() >= self._at[place]]
            if not share:
                continue
            records = Records(
                *place,
                [message.offset() for message in share],
                [message.timestamp()[1] for message in share],
                [message.key() for message in share],
                [message.value() or b"" for message in share],
                [_headers(message.headers()) for message in share],
                self._logs[place[0]],
            )
            self._at[place] = records.next_offset
            self._moved.add(place)
            found.append(records)
        return found

    def _report(self, error: KafkaError) -> None:
        if error.name() in UNKNOWN:
            self._missing_since = self._missing_since or time.monotonic()
        elif error.name() in FENCED:
            self.close()
            raise BusError(f"{self._cluster.url}: another member has taken this instance_id ({error.str()})")
        elif error.name() in REFUSED:
            self.close()
            raise self._cluster.failed(error, self._trouble)
        elif error.name() in (*PASSING, *MOVED, "_PARTITION_EOF") or error.retriable():
            log.info("%s: %s; trying again", ", ".join(self._topics), error.str())
        elif error.name() == "_MAX_POLL_EXCEEDED":
            log.warning("%s: left the group, too long between two polls", ", ".join(self._topics))
        else:
            raise self._cluster.failed(error, self._trouble)

    def _check_topics(self) -> None:
        """Ask now and then whether a topic without messages is there at all."""
        now = time.monotonic()
        if (self._at and self._missing_since is None) or now - self._looked < 1 or self._client is None:
            return
        self._looked = now
        try:
            known = self._client.list_topics(timeout=ANSWER_SECONDS).topics
        except KafkaException:
            return
        missing = [topic for topic in self._topics if topic not in known or known[topic].error is not None]
        if not missing:
            self._missing_since = None
            return
        self._missing_since = self._missing_since or now
        if now - self._missing_since > TOPIC_PATIENCE:
            self._missing_since = None
            raise self._cluster.unknown(missing[0])

    def _check_silence(self) -> None:
        if self._trouble.refused is not None:
            self._raise_unreachable()
        down = self._trouble.down_since
        if down is not None and time.monotonic() - down > SILENCE_SECONDS:
            self._trouble.passed()
            self._raise_unreachable()

    def _raise_unreachable(self) -> None:
        trouble = self._trouble
        if trouble.refused is not None:
            self.close()
        raise self._cluster.unreachable(trouble)


class Reader(ClusterConsumer):
    """Every partition of some topics, without a group.

    Parameters
    ----------
    positions : mapping of TopicPartition to int
        Where each partition is read from.
    logs : KnownLogs
        What the positions are of.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: tuple[str, ...],
        positions: Mapping[TopicPartition, int],
        logs: KnownLogs,
        max_records: int,
    ) -> None:
        super().__init__(cluster, topics, logs, max_records)
        self._at = dict(positions)

    def _open(self) -> kafka.Consumer:
        # librdkafka wants a group's name even from a reader that never joins one
        client = self._consumer({"group.id": "kappawatt-reader"})
        client.assign([Place(*place, offset) for place, offset in self._at.items()])
        return client

    def _begin_anew(self, client: kafka.Consumer, topic: str, now: str, before: str) -> None:
        raise LogRenewed.of(topic, now, before)

    def commit(self) -> None:
        raise BusError("a reader without a group cannot commit")

    def rewind(self) -> None:
        raise BusError("a reader without a group cannot rewind; seek instead")


def _headers(given: list[tuple[str, bytes | None]] | None) -> tuple[tuple[str, bytes], ...]:
    return tuple([(name, value or b"") for name, value in given]) if given else ()
