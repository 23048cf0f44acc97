"""Polling through confluent-kafka, and reading without a group."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from kappawatt.bus.confluent.cluster import Cluster
from kappawatt.bus.confluent.trouble import END, FENCED, MOVED, PASSING, REFUSED, UNKNOWN, UNREADABLE, Trouble
from kappawatt.bus.confluent.unreadable import find_readable
from kappawatt.bus.interface import POLL_BYTES, Records, TopicPartition
from kappawatt.bus.kafka_clients import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    METADATA_SECONDS,
    SILENCE_SECONDS,
    SLICE_SECONDS,
    TOPIC_PATIENCE,
)
from kappawatt.bus.kafka_settings import Role
from kappawatt.bus.logs import KnownLogs
from kappawatt.bus.standing import say_away
from kappawatt.bus.wrapped_keys import bare_keys
from kappawatt.errors import BatchUnreadable, BusError, BusUnreachable, LogRenewed

__all__ = ["ClusterConsumer", "Reader"]

log = logging.getLogger(__name__)

REACH_SECONDS = 1.0  # a broker that has not answered by then is away
CONSUMER: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # only where retention has removed the position
    "check.crcs": True,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,  # tells the position behind what is no message
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
        self._unreadable: dict[TopicPartition, KafkaError] = {}  # why what stands there cannot be read
        self._moved: set[TopicPartition] = set()  # positions that are not committed yet
        self._astray: set[TopicPartition] = set()  # where the client is not at the position, and is to be put there
        self._logs = logs

    def poll(self, timeout: float) -> list[Records]:
        deadline = time.monotonic() + timeout
        while True:
            client = self._connected()
            self._seek_back(client)  # what a poll before this one could not
            if self._unreadable:
                self._skip(client)
            left = max(0.0, deadline - time.monotonic())
            try:
                # asked for many, consume would wait for all of them
                messages = client.consume(1, min(left, SLICE_SECONDS))
                room = self._room_beside(messages)
                if room:
                    messages += client.consume(room, 0.0)
                self._settle(client)
                if messages and self._left_old_logs(client, messages):
                    continue
            except KafkaException as error:
                self._report(error.args[0])
                messages = []
            found = self._take(messages) if messages else []
            if found:
                self._note_heard()
                return found
            if self._begin_new_logs(client, self._logs.renewed_meanwhile(self._is_reached)):
                continue
            if self._unreadable:
                self._skip(client)
            self._look(client)
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
        at = dict(self._at)
        ends = self._cluster.ends(at)
        return {place: max(0, ends[place] - offset) for place, offset in at.items()}

    def close(self) -> None:
        client, self._client = self._client, None
        self._at = {}
        self._moved = set()
        self._unreadable = {}
        if client is not None:
            client.close()

    def _connected(self) -> kafka.Consumer:
        if self._client is None:
            self._trouble = Trouble()
            self._client = self._open()
        return self._client

    def _open(self) -> kafka.Consumer:
        raise NotImplementedError

    def _left_old_logs(self, client: kafka.Consumer, messages: list[Any]) -> bool:
        """Go to the beginning of topics that were made again.

        Returns whether there were any: then nothing of what came is taken, and all else of it comes once more.
        """
        is_odd = any(
            message.offset() < self._at.get((message.topic(), message.partition()), 0)
            for message in messages
            if message.error() is None
        )
        try:
            renewed = self._logs.renewed(is_odd=is_odd)
        except BusError:
            self._astray.update(self._at)
            raise
        if renewed:
            self._astray.update(self._at)  # first: what follows can fail at any of the topics
            self._begin_new_logs(client, renewed)
        return bool(renewed)

    def _is_reached(self) -> bool:
        with contextlib.suppress(KafkaException):
            client = self._connected()
            return any(client.get_watermark_offsets(Place(*place), timeout=REACH_SECONDS) for place in [*self._at][:1])
        return False

    def _begin_new_logs(self, client: kafka.Consumer, renewed: Mapping[str, tuple[str, str]]) -> bool:
        try:
            for topic, (now, before) in renewed.items():
                self._begin_new_log(client, topic, now, before)
        except KafkaException as error:
            raise self._cluster.failed(error.args[0], self._trouble) from error
        return bool(renewed)

    def _seek_back(self, client: kafka.Consumer) -> None:
        """Have what came, and was not taken, come once more: nothing is asked for before all of it is sought."""
        try:
            while self._astray:
                place = next(iter(self._astray))
                if place in self._at:  # else it has gone to another member
                    client.seek(Place(*place, self._at[place]))
                self._astray.discard(place)
        except KafkaException as error:
            raise self._cluster.failed(error.args[0], self._trouble) from error

    def _begin_new_log(self, client: kafka.Consumer, topic: str, now: str, before: str) -> None:
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

    def _take(self, messages: list[Any]) -> list[Records]:
        shares: dict[TopicPartition, list[Any]] = {}
        ends: dict[TopicPartition, int] = {}
        for message in messages:
            error, place = message.error(), (message.topic(), message.partition())
            if place in self._unreadable:
                continue  # whatever comes behind it
            if error is not None and error.name() in UNREADABLE and place in self._at:
                self._unreadable[place] = error
                continue
            if error is not None and error.name() == END:
                ends[place] = message.offset()
                continue
            if error is not None:
                self._report(error)
                continue
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
            envelope = self._cluster.options.envelopes.get(place[0], "")
            records = Records(
                *place,
                [message.offset() for message in share],
                [message.timestamp()[1] for message in share],
                bare_keys([message.key() for message in share], envelope),
                [message.value() or b"" for message in share],
                [_headers(message.headers()) for message in share],
                self._logs[place[0]],
                self._at[place],
                envelope,
            )
            self._at[place] = records.next_offset
            self._moved.add(place)
            found.append(records)
        for place, end in ends.items():
            if end > self._at.get(place, end):
                self._at[place] = end
                self._moved.add(place)
        return found

    def _skip(self, client: kafka.Consumer) -> None:
        """Go on behind batches that cannot be read, or say which one it is."""
        (topic, partition), error = self._unreadable.popitem()
        if (topic, partition) not in self._at:
            return  # it has gone to another member
        offset, options = self._at[topic, partition], self._cluster.options
        if not options.skip_unreadable:
            client.seek(Place(topic, partition, offset))  # librdkafka would go on somewhere else
            raise BatchUnreadable(topic, partition, offset, error.str())
        beyond = find_readable(self._cluster, topic, partition, offset)
        log.error(
            "left out what cannot be read",
            extra={"partition": f"{topic}[{partition}]", "from": offset, "to": beyond, "error": error.str()},
        )
        options.skipped(topic, partition)
        self.seek(topic, partition, beyond)

    def _note_heard(self) -> None:
        """Note that messages came."""

    def _look(self, client: kafka.Consumer) -> None:
        """Look now and then whether there is anything that the client does not say."""

    def _report(self, error: KafkaError) -> None:
        if error.name() in UNKNOWN:
            self._missing_since = self._missing_since or time.monotonic()
        elif error.name() in FENCED:
            self.close()
            raise BusError(f"{self._cluster.url}: another member has taken this instance_id ({error.str()})")
        elif error.name() in REFUSED:
            self.close()
            raise self._cluster.failed(error, self._trouble)
        elif error.name() in (*PASSING, *MOVED) or error.retriable():
            say_away(log, "reading failed; trying again", topics=self._topics, error=error.str())
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
        self._next_look = time.monotonic() + METADATA_SECONDS

    def _open(self) -> kafka.Consumer:
        # librdkafka wants a group's name even from a reader that never joins one
        client = self._consumer({"group.id": "kappawatt-reader"})
        client.assign([Place(*place, offset) for place, offset in self._at.items()])
        return client

    def _begin_new_log(self, client: kafka.Consumer, topic: str, now: str, before: str) -> None:
        raise LogRenewed.of(topic, now, before)

    def _look(self, client: kafka.Consumer) -> None:
        """Read partitions that were added from their beginning: a client without a group does not look for them."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + METADATA_SECONDS
        added = self._cluster.partitions(self._topics) - self._at.keys()
        if added:
            log.info("reading partitions that were added: %s", ", ".join(f"{t}[{p}]" for t, p in sorted(added)))
            client.incremental_assign([Place(*place, 0) for place in added])
            self._at |= dict.fromkeys(added, 0)

    def commit(self) -> None:
        raise BusError("a reader without a group cannot commit")

    def rewind(self) -> None:
        raise BusError("a reader without a group cannot rewind; seek instead")


def _headers(given: list[tuple[str, bytes | None]] | None) -> tuple[tuple[str, bytes], ...]:
    return tuple([(name, value or b"") for name, value in given]) if given else ()
