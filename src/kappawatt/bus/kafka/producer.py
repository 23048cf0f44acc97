"""Publishing through kafka-python."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from kafka import KafkaProducer
from kafka import TopicPartition as Place
from kafka import errors as kafka_errors

from kappawatt.bus.in_flight import InFlight
from kappawatt.bus.interface import Outgoing
from kappawatt.bus.kafka.cluster import Cluster
from kappawatt.bus.kafka.failures import REFUSED_WRITES, is_unknown, named
from kappawatt.bus.kafka_clients import (
    ANSWER_SECONDS,
    CLOSE_SECONDS,
    CONNECT_SECONDS,
    DELIVERY_SECONDS,
    Chooser,
    topics_late,
)
from kappawatt.bus.kafka_settings import Role
from kappawatt.bus.topic import LARGEST_MESSAGE
from kappawatt.errors import BusError, BusUnreachable, DeliveryFailed, DeliveryLate, WritesRefused

__all__ = ["ClusterProducer"]

log = logging.getLogger(__name__)

FRESH_SECONDS = 60.0  # partition counts are asked for again after so long
OVERDUE_SECONDS = 5.0  # what a client has not decided so long after its own limit it never will
PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "allow_auto_create_topics": False,
    "compression_type": "lz4",
    "max_request_size": LARGEST_MESSAGE,
    "batch_size": 256 * 1024,
    "linger_ms": 0,  # while a batch is under way the next one fills
    "max_block_ms": int(ANSWER_SECONDS * 1000),
    "request_timeout_ms": 20_000,
    "delivery_timeout_ms": int(DELIVERY_SECONDS * 1000),
    "reconnect_backoff_max_ms": 1_000,
    "metrics_enabled": False,
}
UNENDED: list[KafkaProducer] = []  # kept, or the garbage collector would wait for them, too


class ClusterProducer:
    """A producer that returns from `publish` once everything is acknowledged."""

    def __init__(self, cluster: Cluster, in_flight: InFlight) -> None:
        self._cluster = cluster
        self._in_flight = in_flight
        self._config = cluster.config(Role.PRODUCER, PRODUCER)
        self._patience = self._config["delivery_timeout_ms"] / 1000 + OVERDUE_SECONDS
        self._lock = threading.Lock()
        self._client: KafkaProducer | None = None
        self._spent: KafkaProducer | None = None  # has failed a delivery
        self._pid = 0
        self._counts: dict[str, tuple[float, int]] = {}
        self._chooser = Chooser(cluster.url)

    def publish(self, messages: Sequence[Outgoing], *, timeout: float = 30.0, wait: bool = True) -> None:
        if not messages:
            return
        deadline = time.monotonic() + timeout
        sizes = [message.size for message in messages]
        with contextlib.ExitStack() as held:
            held.enter_context(self._in_flight.reserve(sum(sizes), wait=wait, timeout=timeout))
            client = self._connected(deadline)
            self._check_sizes(messages, max(sizes))
            counts = {topic: self._partitions(client, topic) for topic in {message.topic for message in messages}}
            if time.monotonic() > deadline:
                raise topics_late(self._cluster.url, timeout)
            delivery = Delivery(partial(self._note_spent, client))
            try:
                self._send(client, messages, counts, delivery)
                if not delivery.done.wait(max(0.0, deadline - time.monotonic())):
                    raise DeliveryLate(
                        f"{self._cluster.url}: {delivery.waiting} messages to {', '.join(counts)}"
                        f" not acknowledged within {timeout:g} s"
                    )
            except BaseException as error:
                # what still waits in the client counts as in flight until it is stored or given up
                reserved = held.pop_all()
                outcome = error.outcome if isinstance(error, DeliveryLate) else None

                def decided() -> None:
                    reserved.close()
                    if outcome is not None:
                        outcome.set_result(delivery.error is None)

                _when_decided(delivery, self._patience, decided)
                raise
        if delivery.error is not None:
            raise self._failed(delivery, delivery.error) from delivery.error

    def _send(
        self, client: KafkaProducer, messages: Sequence[Outgoing], counts: dict[str, int], delivery: Delivery
    ) -> None:
        choose = self._chooser.choose
        message = messages[0]
        try:
            for message in messages:
                place = choose(message, counts[message.topic])
                delivery.expect(
                    Place(message.topic, place),
                    client.send(
                        message.topic,
                        message.value,
                        message.key,
                        list(message.headers),
                        place,
                        message.timestamp,
                    ),
                )
        except (kafka_errors.KafkaError, ValueError) as error:
            self._note_spent(client)
            raise DeliveryFailed(f"{self._cluster.url}: {message.topic}: {type(error).__name__}: {error}") from error
        finally:
            delivery.all_are_sent()

    def _failed(self, delivery: Delivery, error: BaseException) -> BusError:
        if is_unknown(type(error)):
            return self._cluster.unknown(delivery.place.topic)
        kind = WritesRefused if isinstance(error, REFUSED_WRITES) else DeliveryFailed
        return kind(
            f"{self._cluster.url}: {delivery.failed} messages, the first to {named(delivery.place)}:"
            f" {type(error).__name__}: {error}"
        )

    def _note_spent(self, client: KafkaProducer) -> None:
        """Remember that a client has failed a delivery: it gets a successor, as its documentation advises.

        kafka-python 3.0 sends nothing more after most of them: not after a fatal error, and not once it has given up
        a batch that it had sent, when it drops its producer id and never asks for another.
        """
        if client is self._client:
            self._spent = client

    def _connected(self, deadline: float) -> KafkaProducer:
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BusUnreachable(f"{self._cluster.url}: still connecting")
        try:
            if self._client is not None and self._client is self._spent:
                log.warning(
                    "the Kafka client has failed a delivery; it gets a successor", extra={"bus": self._cluster.url}
                )
                _end(self._client, self._patience)
                self._client = self._spent = None
            if self._client is None or self._pid != os.getpid():
                left = min(CONNECT_SECONDS, max(0.1, deadline - time.monotonic()))
                self._client = self._cluster.open(KafkaProducer, left, Role.PRODUCER, PRODUCER)
                self._counts.clear()
                self._pid = os.getpid()
            return self._client
        finally:
            self._lock.release()

    def _check_sizes(self, messages: Sequence[Outgoing], largest: int) -> None:
        allowed = self._config["max_request_size"]
        if largest > allowed:
            topic = next(message.topic for message in messages if message.size == largest)
            raise DeliveryFailed(f"{topic}: got a message of {largest} bytes, allowed {allowed} (max.request.size)")

    def _partitions(self, client: KafkaProducer, topic: str) -> int:
        asked, count = self._counts.get(topic, (0.0, 0))
        now = time.monotonic()
        if count and now - asked < FRESH_SECONDS:
            return count
        self._cluster.places(topic)  # the client itself would ask for an unknown topic without a pause, for ever
        try:
            count = len(client.partitions_for(topic))
        except kafka_errors.KafkaError as error:
            raise self._cluster.failed(error) from error
        self._counts[topic] = now, count
        return count

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._pid == os.getpid():
                try:
                    client.close(timeout=CLOSE_SECONDS)
                except kafka_errors.KafkaTimeoutError:
                    _end(client, self._patience)


class Delivery:
    """What became of the messages of one publish, as their futures tell it."""

    __slots__ = ("_count", "_expected", "_lock", "_on_failure", "_total", "done", "error", "failed", "place")

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._count = 0
        self._expected = 0
        self._total = -1  # known once all are handed over
        self.failed = 0
        self.error: BaseException | None = None
        self.place = Place("", -1)
        self.done = threading.Event()

    @property
    def waiting(self) -> int:
        """How many are not decided."""
        return self._expected - self._count

    def expect(self, place: Place, future: Any) -> None:
        """Wait for one message more."""
        self._expected += 1
        future.add_callback(self._stored)
        future.add_errback(self._given_up, place)

    def all_are_sent(self) -> None:
        """Expect no more messages."""
        with self._lock:
            self._total = self._expected
            if self._count == self._total:
                self.done.set()

    def overdue(self) -> None:
        """Give up what the client has not decided within its own limit."""
        with self._lock:
            if self.done.is_set():
                return
            self.error = self.error or kafka_errors.KafkaTimeoutError("the client decided nothing within its own limit")
            self.done.set()
        self._on_failure()

    def _stored(self, _: object) -> None:
        with self._lock:
            self._count += 1
            if self._count == self._total:
                self.done.set()

    def _given_up(self, place: Place, error: BaseException) -> None:
        self._on_failure()
        with self._lock:
            self.failed += 1
            if self.error is None:
                self.error, self.place = error, place
            self._count += 1
            if self._count == self._total:
                self.done.set()


def _when_decided(delivery: Delivery, patience: float, call: Callable[[], None]) -> None:
    """Call `call` once every message is stored or given up, which is after `patience` seconds at the latest."""

    def wait() -> None:
        if not delivery.done.wait(patience):
            delivery.overdue()
        call()

    if delivery.done.is_set():
        call()
    else:
        threading.Thread(target=wait, name="kafka-late", daemon=True).start()


def _end(client: KafkaProducer, patience: float) -> None:
    """Close a client in the background, once what waits in it is decided: before that its `close` only raises."""

    def end() -> None:
        try:
            client.close(timeout=patience)
        except kafka_errors.KafkaTimeoutError:
            # It decides nothing more and cannot be made to end: its thread idles until the process ends.
            UNENDED.append(client)

    threading.Thread(target=end, name="kafka-end", daemon=True).start()
