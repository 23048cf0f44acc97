"""Publishing through kafka-python."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from kafka import KafkaProducer
from kafka import TopicPartition as Place
from kafka import errors as kafka_errors
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionState

from kappawatt.bus.in_flight import Room
from kappawatt.bus.interface import Outgoing
from kappawatt.bus.kafka.cluster import Cluster
from kappawatt.bus.kafka.failures import is_unknown, named
from kappawatt.bus.kafka.packing import decide_with_halves, enqueue, when_decided
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
from kappawatt.errors import BusUnreachable, DeliveryFailed, DeliveryLate

__all__ = ["ClusterProducer"]

log = logging.getLogger(__name__)

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


def _is_spent(client: KafkaProducer) -> bool:
    """Whether a client will never send again: after a fatal error, or without a producer id.

    kafka-python 3.0 drops its id when it gives up a batch that it had sent, as it should, and then asks for a new one
    only in a state that it does not return to.
    """
    manager = client._transaction_manager
    is_lost = manager._current_state is TransactionState.READY and not manager.has_producer_id()
    return is_lost or bool(manager.has_fatal_error())


def _abandon(client: KafkaProducer) -> None:
    """Close a client at once; what waits in it fails. Its `close` alone would wait for that, and raise."""
    client._sender.force_close()
    client._sender.join(CLOSE_SECONDS)
    with contextlib.suppress(kafka_errors.KafkaError):
        client.close(timeout=0)


class ClusterProducer:
    """A producer that returns from `publish` once everything is acknowledged."""

    def __init__(self, cluster: Cluster, room: Room) -> None:
        self._cluster = cluster
        self._room = room
        self._lock = threading.Lock()
        self._client: KafkaProducer | None = None
        self._pid = 0
        self._chooser = Chooser(cluster.url)

    def publish(self, messages: Sequence[Outgoing], *, timeout: float = 30.0, wait_for_room: bool = True) -> None:
        if not messages:
            return
        deadline = time.monotonic() + timeout
        sizes = [message.size for message in messages]
        with contextlib.ExitStack() as held:
            held.enter_context(self._room.reserve(sum(sizes), wait=wait_for_room, timeout=timeout))
            client = self._connected(deadline)
            self._check_sizes(client, messages, max(sizes))
            sent: list[ProducerBatch] = []
            try:
                shares = self._by_place(client, messages)
                if time.monotonic() > deadline:
                    raise topics_late(self._cluster.url, timeout)
                for place, share in shares.items():
                    sent += enqueue(client, place, share)
                self._wait(sent, deadline, timeout)
            except BaseException as error:
                # what still waits in the client keeps its room until it is stored or given up
                room = held.pop_all()
                outcome = error.outcome if isinstance(error, DeliveryLate) else None

                def decided(are_stored: bool) -> None:
                    room.close()
                    if outcome is not None:
                        outcome.set_result(are_stored)

                when_decided(sent, decided)
                raise

    def _connected(self, deadline: float) -> KafkaProducer:
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BusUnreachable(f"{self._cluster.url}: still connecting")
        try:
            if self._client is not None and _is_spent(self._client):
                log.warning(
                    "the Kafka client sends nothing more; it gets a successor", extra={"bus": self._cluster.url}
                )
                _abandon(self._client)
                self._client = None
            if self._client is None or self._pid != os.getpid():
                left = min(CONNECT_SECONDS, max(0.1, deadline - time.monotonic()))
                self._client = self._cluster.open(KafkaProducer, left, Role.PRODUCER, PRODUCER)
                decide_with_halves(self._client)
                self._pid = os.getpid()
            return self._client
        finally:
            self._lock.release()

    def _check_sizes(self, client: KafkaProducer, messages: Sequence[Outgoing], largest: int) -> None:
        allowed = client.config["max_request_size"]
        if largest > allowed:
            topic = next(message.topic for message in messages if message.size == largest)
            raise DeliveryFailed(f"{topic}: got a message of {largest} bytes, allowed {allowed} (max.request.size)")

    def _by_place(self, client: KafkaProducer, messages: Sequence[Outgoing]) -> Mapping[Place, list[Outgoing]]:
        counts = {topic: self._partitions(client, topic) for topic in {message.topic for message in messages}}
        shares: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        choose = self._chooser.choose
        for message in messages:
            topic = message.topic
            shares[topic, choose(message, counts[topic])].append(message)
        return {Place(*place): share for place, share in shares.items()}

    def _partitions(self, client: KafkaProducer, topic: str) -> int:
        known = client._metadata.partitions_for_topic(topic)
        if known:
            return len(known)
        self._cluster.places(topic)  # the client itself would ask for an unknown topic without a pause, for ever
        try:
            return len(client.partitions_for(topic))
        except kafka_errors.KafkaError as error:
            raise self._cluster.failed(error) from error

    def _wait(self, sent: list[ProducerBatch], deadline: float, timeout: float) -> None:
        for batch in sent:
            batch.produce_future.wait(max(0.0, deadline - time.monotonic()))
        late = [batch for batch in sent if not batch.is_done]
        if late:
            waiting = sum(batch.record_count for batch in late)
            places = ", ".join(sorted({named(batch.topic_partition) for batch in late}))
            raise DeliveryLate(
                f"{self._cluster.url}: {waiting} messages to {places} not acknowledged within {timeout:g} s"
            )
        for batch in sent:
            failed = batch.produce_future.value[2]
            if failed is not None:
                error = failed(0)
                if is_unknown(type(error)):
                    raise self._cluster.unknown(batch.topic_partition.topic) from error
                raise DeliveryFailed(
                    f"{self._cluster.url}: {batch.record_count} messages to {named(batch.topic_partition)}:"
                    f" {type(error).__name__}: {error}"
                ) from error

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._pid == os.getpid():
                try:
                    client.close(timeout=CLOSE_SECONDS)
                except kafka_errors.KafkaTimeoutError:
                    _abandon(client)
