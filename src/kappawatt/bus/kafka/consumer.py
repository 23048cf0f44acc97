"""Polling through kafka-python, and reading without a group."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer
from kafka import TopicPartition as Place
from kafka import errors as kafka_errors

from kappawatt.bus.interface import POLL_BYTES, Headers, Records, TopicPartition
from kappawatt.bus.kafka.cluster import Cluster
from kappawatt.bus.kafka.failures import REFUSED, is_retriable, named
from kappawatt.bus.kafka.unreadable import BATCH_FAILURES, find_readable, find_unreadable
from kappawatt.bus.kafka_clients import (
    ANSWER_SECONDS,
    CLOSE_SECONDS,
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
from kappawatt.errors import BatchUnreadable, BusError, LogRenewed

__all__ = ["CONSUMER", "ClusterConsumer", "Reader", "ms"]

log = logging.getLogger(__name__)

REACH_SECONDS = 1.0  # a broker that has not answered by then is away
LOOK_SECONDS = 1.0  # between two looks whether the topics are there
FIRST_RECORDS = 100  # of the first poll, when the size of messages is not known yet
CONSUMER = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",  # only where retention has removed the position
    "allow_auto_create_topics": False,
    "check_crcs": True,
    "isolation_level": "read_committed",
    # metadata_max_age_ms stays as long as it is: a refresh has the broker create topics that were deleted, whatever
    # allow_auto_create_topics says. Partitions that were added are looked for here.
    "max_partition_fetch_bytes": 4 * 1024 * 1024,
    "fetch_max_wait_ms": 250,
    "request_timeout_ms": 20_000,
    "reconnect_backoff_max_ms": 1_000,
    "metrics_enabled": False,
}


class ClusterConsumer:
    """Polling, positions and errors, common to group members and readers."""

    def __init__(self, cluster: Cluster, topics: tuple[str, ...], logs: KnownLogs, max_records: int) -> None:
        self._cluster = cluster
        self._topics = topics
        self._max_records = max_records
        self._poll_records = min(max_records, FIRST_RECORDS)  # of the next poll, by the size of the last one's messages
        self._client: KafkaConsumer | None = None
        self._heard = time.monotonic()
        self._missing_since: float | None = None
        self._looked = 0.0
        self._moved: dict[Place, int] = {}  # positions that are not committed yet
        self._at: dict[Place, int] = {}  # position of every partition whose start is known
        self._logs = logs

    def poll(self, timeout: float) -> list[Records]:
        deadline = time.monotonic() + timeout
        while True:
            client = self._connected()
            left = max(0.0, deadline - time.monotonic())
            with self._failures():
                slice_ms = int(min(left, SLICE_SECONDS) * 1000)
                found = self._polled(client, slice_ms)
                if found:
                    self._note_heard()
                    if self._left_old_logs(client, found):
                        continue
                    taken = [self._take(place, messages) for place, messages in found.items()]
                    size = sum(len(value) for records in taken for value in records.values) // sum(map(len, taken))
                    self._poll_records = max(1, min(self._max_records, POLL_BYTES // max(1, size)))
                    return taken
                self._settle(client)
            if self._begin_new_logs(client, self._logs.renewed_meanwhile(self._is_reached)):
                continue
            self._at |= self._follow(client)
            self._look(client)
            self._check_topics()
            self._check_silence()
            if time.monotonic() >= deadline:
                return []

    def _note_heard(self) -> None:
        self._heard = time.monotonic()

    def seek(self, topic: str, partition: int, offset: int) -> None:
        place = Place(topic, partition)
        client = self._connected()
        if place not in self._assigned():
            raise BusError(f"{topic}[{partition}] is not assigned here")
        self._go_to(client, place, offset)

    def positions(self) -> Mapping[TopicPartition, int]:
        assigned = set(self._assigned())
        return {(place.topic, place.partition): at for place, at in self._at.items() if place in assigned}

    def lag(self) -> Mapping[TopicPartition, int]:
        positions = self.positions()
        ends = self._cluster.ends(positions)
        return {place: max(0, ends[place] - at) for place, at in positions.items()}

    def close(self) -> None:
        client, self._client = self._client, None
        self._moved.clear()
        if client is not None:
            with contextlib.suppress(kafka_errors.KafkaError):
                client.close(autocommit=False, timeout_ms=ms(CLOSE_SECONDS))

    def _connected(self) -> KafkaConsumer:
        if self._client is None:
            self._client = self._open()
            self._heard = time.monotonic()
        return self._client

    def _open(self) -> KafkaConsumer:
        raise NotImplementedError

    def _left_old_logs(self, client: KafkaConsumer, found: Mapping[Place, Sequence[Any]]) -> bool:
        """Go to the beginning of topics that were made again.

        Returns whether there were any: then nothing of what was found is taken, and all else of it comes once more.
        """
        is_odd = any(messages[0].offset < self._at.get(place, 0) for place, messages in found.items())
        try:
            renewed = self._logs.renewed(is_odd=is_odd)
        except BusError:
            self._seek_back(client, found)
            raise
        if renewed:
            self._seek_back(client, found)  # first: what follows can fail at any of the topics
            self._begin_new_logs(client, renewed)
        return bool(renewed)

    def _seek_back(self, client: KafkaConsumer, found: Mapping[Place, Sequence[Any]]) -> None:
        """Have what was found, and is not taken, come once more."""
        for place, messages in found.items():
            client.seek(place, messages[0].offset)

    def _is_reached(self) -> bool:
        with contextlib.suppress(kafka_errors.KafkaError):
            return bool(self._connected().end_offsets(self._assigned()[:1], timeout_ms=ms(REACH_SECONDS)))
        return False

    def _begin_new_logs(self, client: KafkaConsumer, renewed: Mapping[str, tuple[str, str]]) -> bool:
        try:
            for topic, (now, before) in renewed.items():
                self._begin_new_log(client, topic, now, before)
        except kafka_errors.KafkaError as error:
            raise self._cluster.failed(error) from error
        return bool(renewed)

    def _follow(self, client: KafkaConsumer) -> dict[Place, int]:
        """Follow the client's positions over what is no message; return those that the client, by itself, has set back:
        to the end of a log that is shorter than it was.
        """
        back = {}
        with self._failures():
            for place in self._assigned():
                known, now = self._at.get(place), client.position(place, timeout_ms=0)
                if known is None or now is None:
                    continue
                if now > known:
                    self._at[place] = self._moved[place] = now
                elif now < known:
                    back[place] = now
        return back

    def _polled(self, client: KafkaConsumer, slice_ms: int) -> Mapping[Place, Sequence[Any]]:
        try:
            found: Mapping[Place, Sequence[Any]] = client.poll(timeout_ms=slice_ms, max_records=self._poll_records)
            return found
        except BATCH_FAILURES as error:
            self._skip(client, error)
        except kafka_errors.KafkaError:
            raise
        except Exception as error:  # whatever a codec's library raises
            self._skip(client, error)
        return {}

    def _skip(self, client: KafkaConsumer, error: Exception) -> None:
        """Go on behind a batch that cannot be read, or say which one it is."""
        self._follow(client)  # what came before it is no part of it
        at = {place: self._at[place] for place in self._assigned() if place in self._at}
        unreadable = find_unreadable(self._cluster, CONSUMER, at)
        options = self._cluster.options
        if unreadable is None or not options.skip_unreadable:
            self._drop()  # this client would search for the next message for ever
            if unreadable is None:
                raise BusError(f"{self._cluster.url}: {type(error).__name__}: {error}") from error
            place, offset, reason = unreadable
            raise BatchUnreadable(place.topic, place.partition, offset, reason) from error
        place, offset, reason = unreadable
        beyond = find_readable(self._cluster, CONSUMER, place, offset)
        log.error(
            "left out what cannot be read",
            extra={"partition": named(place), "from": offset, "to": beyond, "error": reason},
        )
        options.skipped(place.topic, place.partition)
        self._go_to(client, place, beyond)

    def _go_to(self, client: KafkaConsumer, place: Place, offset: int) -> None:
        client.seek(place, offset)
        self._at[place] = self._moved[place] = offset

    def _begin_new_log(self, client: KafkaConsumer, topic: str, now: str, before: str) -> None:
        """Deal with a topic that was made again."""
        raise NotImplementedError

    def _settle(self, client: KafkaConsumer) -> None:
        """Find out where newly assigned partitions start."""

    def _look(self, client: KafkaConsumer) -> None:
        """Look now and then whether there is anything that the client does not say."""

    def _assigned(self) -> list[Place]:
        return sorted(self._client.assignment() or ()) if self._client is not None else []

    def _take(self, place: Place, messages: Sequence[Any]) -> Records:
        offsets = [message.offset for message in messages]
        envelope = self._cluster.options.envelopes.get(place.topic, "")
        records = Records(
            place.topic,
            place.partition,
            offsets,
            [message.timestamp for message in messages],
            bare_keys([message.key for message in messages], envelope),
            [message.value or b"" for message in messages],  # no value is a tombstone of a compacted topic
            [_headers(message.headers) if message.headers else () for message in messages],
            self._logs[place.topic],
            self._at.get(place),
            envelope,
        )
        self._moved[place] = self._at[place] = records.next_offset
        return records

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Let passing failures pass, and say the others in the bus's words."""
        try:
            yield
        except kafka_errors.FencedInstanceIdError as error:
            self._drop()
            raise BusError(f"{self._cluster.url}: another member has taken this instance_id ({error})") from error
        except kafka_errors.KafkaError as error:
            if isinstance(error, REFUSED):
                self._drop()  # the client would repeat the first refusal for ever
                raise self._cluster.failed(error) from error
            if not is_retriable(type(error)):
                raise self._cluster.failed(error) from error
            say_away(log, "reading failed; trying again", topics=self._topics, error=f"{type(error).__name__}: {error}")
            time.sleep(0.1)

    def _drop(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _check_topics(self) -> None:
        """Look now and then whether a topic without messages is there at all."""
        client, now = self._client, time.monotonic()
        if client is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        missing: list[str] = []
        with self._failures():
            missing = [topic for topic in self._topics if not client.partitions_for_topic(topic)]
        if not missing:
            self._missing_since = None
            return
        self._missing_since = self._missing_since or now
        if now - self._missing_since > TOPIC_PATIENCE:
            self._missing_since = None
            self._drop()
            raise self._cluster.unknown(missing[0])

    def _check_silence(self) -> None:
        """Ask, after a long time without a message, whether there is a broker at all: the client would not say."""
        now = time.monotonic()
        if now - self._heard > SILENCE_SECONDS - ANSWER_SECONDS:
            self._heard = now
            self._cluster.ask(lambda admin: admin.describe_topics(list(self._topics)))


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
        self._at = {Place(*place): offset for place, offset in positions.items()}
        self._next_look = time.monotonic() + METADATA_SECONDS

    def _open(self) -> KafkaConsumer:
        config = {**CONSUMER, "max_poll_records": self._max_records}
        client = self._cluster.open(KafkaConsumer, CONNECT_SECONDS, Role.CONSUMER, config)
        client.assign(list(self._at))
        for place, offset in self._at.items():
            client.seek(place, offset)
        return client

    def _assigned(self) -> list[Place]:
        return list(self._at)

    def _look(self, client: KafkaConsumer) -> None:
        """Read partitions that were added from their beginning: a client without a group does not look for them."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + METADATA_SECONDS
        added = {Place(*place): 0 for place in self._cluster.partitions(self._topics) - self._at.keys()}
        if not added:
            return
        log.info("reading partitions that were added: %s", ", ".join(map(named, sorted(added))))
        self._at |= added
        client.assign(list(self._at))
        for place, offset in self._at.items():
            client.seek(place, offset)

    def _begin_new_log(self, client: KafkaConsumer, topic: str, now: str, before: str) -> None:
        raise LogRenewed.of(topic, now, before)

    def commit(self) -> None:
        raise BusError("a reader without a group cannot commit")

    def rewind(self) -> None:
        raise BusError("a reader without a group cannot rewind; seek instead")


def ms(seconds: float) -> int:
    return int(seconds * 1000)


def _headers(given: Sequence[tuple[str, bytes | None]]) -> Headers:
    return tuple([(name, value or b"") for name, value in given])
