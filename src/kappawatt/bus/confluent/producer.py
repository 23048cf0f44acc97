"""Publishing through confluent-kafka."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException

from kappawatt.bus.confluent.cluster import Cluster
from kappawatt.bus.confluent.trouble import REFUSED_WRITES, UNKNOWN, Trouble
from kappawatt.bus.in_flight import InFlight
from kappawatt.bus.interface import Outgoing
from kappawatt.bus.kafka_clients import CLOSE_SECONDS, CONNECT_SECONDS, DELIVERY_SECONDS, Chooser, topics_late
from kappawatt.bus.kafka_settings import Role
from kappawatt.bus.topic import LARGEST_MESSAGE
from kappawatt.errors import BusError, BusUnreachable, DeliveryFailed, DeliveryLate, WritesRefused

__all__ = ["ClusterProducer"]

FRESH_SECONDS = 60.0  # partition counts are asked for again after so long
PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "batch.size": 256 * 1024,
    "linger.ms": 0,  # while a request is under way the next batch fills
    "delivery.timeout.ms": int(DELIVERY_SECONDS * 1000),
    "message.max.bytes": LARGEST_MESSAGE,
    "queue.buffering.max.messages": 0,  # no bound in messages: InFlight bounds the bytes
    "queue.buffering.max.kbytes": 2_000_000,
}


class ClusterProducer:
    """A producer that returns from `publish` once everything is acknowledged."""

    def __init__(self, cluster: Cluster, in_flight: InFlight) -> None:
        self._cluster = cluster
        self._in_flight = in_flight
        self._lock = threading.Lock()
        self._client: kafka.Producer | None = None
        self._trouble = Trouble()
        self._pid = 0
        self._closing = threading.Event()
        self._poller: threading.Thread | None = None
        self._counts: dict[str, tuple[float, int]] = {}
        self._chooser = Chooser(cluster.url)

    def publish(self, messages: Sequence[Outgoing], *, timeout: float = 30.0, wait: bool = True) -> None:
        if not messages:
            return
        deadline = time.monotonic() + timeout
        size = sum([message.size for message in messages])
        with contextlib.ExitStack() as held:
            held.enter_context(self._in_flight.reserve(size, wait=wait, timeout=timeout))
            client = self._connected(deadline)
            counts = {topic: self._partitions(topic) for topic in {message.topic for message in messages}}
            if time.monotonic() > deadline:
                raise topics_late(self._cluster.url, timeout)
            batch = Batch()
            choose = self._chooser.choose
            produced = 0
            try:
                delivered = batch.delivered
                for message in messages:
                    client.produce(
                        message.topic,
                        message.value,
                        message.key,
                        choose(message, counts[message.topic]),
                        on_delivery=delivered,
                        timestamp=message.timestamp or 0,
                        headers=list(message.headers) or None,
                    )
                    produced += 1
            except (KafkaException, BufferError, BusError) as error:
                batch.expect(produced)
                _when_decided(batch, held.pop_all().close)
                if isinstance(error, BusError):
                    raise
                raise DeliveryFailed(f"{messages[produced].topic}: {error}") from error
            batch.expect(produced)
            if not batch.done.wait(max(0.0, deadline - time.monotonic())):
                waiting = batch.total - batch.count
                reason = self._trouble.last.str() if self._trouble.last else "no answer"
                late = DeliveryLate(
                    f"{self._cluster.url}: {waiting} messages to {', '.join(counts)} not acknowledged within"
                    f" {timeout:g} s: {reason}"
                )
                reserved = held.pop_all()

                def decided() -> None:
                    reserved.close()
                    late.outcome.set_result(batch.error is None)

                _when_decided(batch, decided)
                raise late
        if batch.error is not None:
            if batch.error.name() in UNKNOWN:
                raise self._cluster.unknown(batch.place.partition("[")[0])
            kind = WritesRefused if batch.error.name() in REFUSED_WRITES else DeliveryFailed
            raise kind(f"{self._cluster.url}: {batch.failed} messages, the first to {batch.place}: {batch.error.str()}")

    def _connected(self, deadline: float) -> kafka.Producer:
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BusUnreachable(f"{self._cluster.url}: still connecting")
        try:
            if self._client is None or self._pid != os.getpid():
                self._trouble = Trouble()
                client = self._cluster.make(
                    kafka.Producer, self._cluster.config(Role.PRODUCER, PRODUCER, self._trouble)
                )
                limit = min(deadline, time.monotonic() + CONNECT_SECONDS)
                self._cluster.await_broker(client, self._trouble, limit)
                self._client = client
                self._pid = os.getpid()
                self._closing = threading.Event()
                self._poller = threading.Thread(
                    target=_poll_until, args=(client, self._closing), name="kafka-delivery", daemon=True
                )
                self._poller.start()
            return self._client
        finally:
            self._lock.release()

    def _partitions(self, topic: str) -> int:
        asked, count = self._counts.get(topic, (0.0, 0))
        now = time.monotonic()
        if not count or now - asked > FRESH_SECONDS:
            count = len(self._cluster.places(topic))
            self._counts[topic] = now, count
        return count

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._pid == os.getpid():
                self._closing.set()
                if self._poller is not None:
                    self._poller.join(CLOSE_SECONDS)
                client.flush(CLOSE_SECONDS)


class Batch:
    """Counts the acknowledgements of one publish."""

    __slots__ = ("count", "done", "error", "failed", "place", "total")

    def __init__(self) -> None:
        self.count = 0  # written by the one thread that polls
        self.total = -1  # written by the publisher, once all are handed over
        self.failed = 0
        self.error: KafkaError | None = None
        self.place = ""
        self.done = threading.Event()

    def delivered(self, error: KafkaError | None, message: kafka.Message) -> None:
        if error is not None:
            self.failed += 1
            if self.error is None:
                self.error = error
                self.place = f"{message.topic()}[{message.partition()}]"
        self.count += 1
        if self.count == self.total:
            self.done.set()

    def expect(self, total: int) -> None:
        self.total = total
        if self.count == total:
            self.done.set()


def _when_decided(batch: Batch, call: Callable[[], None]) -> None:
    """Call `call` once every message is stored or given up; what waits in the client counts as in flight until then."""

    def wait() -> None:
        batch.done.wait()
        call()

    threading.Thread(target=wait, name="kafka-late", daemon=True).start()


def _poll_until(client: kafka.Producer, closing: threading.Event) -> None:
    while not closing.is_set():
        client.poll(0.1)
