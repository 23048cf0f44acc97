"""The broker as the figures need it: empty topics, readings in them, how far a consumer group has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.processes import BenchError, until

__all__ = ["Appended", "Broker"]

ANSWER_SECONDS = 30
MARK = "kappawatt-bench"  # a broker with this topic is ours to clear


@dataclass(frozen=True, slots=True)
class Appended:
    """What was appended to a topic: answers, messages, and when by the broker's clock [s since the epoch]."""

    rows: int
    messages: int
    first_rows: int
    first: float
    last: float

    @property
    def rate(self) -> float:
        """Rows a second between the first append and the last, without the rows of the first."""
        span = self.last - self.first
        return (self.rows - self.first_rows) / span if span > 0 else float("nan")


class Broker:
    """One Kafka broker that holds nothing but the figures' topics."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def claim(self, names: Iterable[str]) -> None:
        """Refuse a broker whose topics `names` hold somebody else's messages."""
        known = self._names()
        if MARK in known:
            return
        for name in names:
            if name in known and any(self.ends(name)):
                raise BenchError(f"{self.bootstrap}: {name} has messages of somebody else; give an empty broker")
        self.create(MARK, 1)

    def create(self, name: str, partitions: int, **config: str) -> None:
        """Make topic `name` anew, empty."""
        if name in self._names():
            _wait(self._admin.delete_topics([name], operation_timeout=ANSWER_SECONDS))
            until(lambda: name not in self._names(), ANSWER_SECONDS, f"{name} deleted")

        def created() -> bool:
            try:
                _wait(self._admin.create_topics([NewTopic(name, partitions, 1, config=config)]))
            except KafkaException as error:
                if "being deleted" in str(error) or "already exists" in str(error):
                    return False
                raise
            return True

        until(created, ANSWER_SECONDS, f"{name} created")
        until(lambda: len(self._partitions(name)) == partitions, ANSWER_SECONDS, f"{name} has leaders")

    def fill(self, name: str, messages: Iterable[tuple[bytes, bytes]], **config: str | int) -> None:
        """Publish (key, value) pairs as fast as the client can."""
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "linger.ms": 20,
                "batch.size": 1_000_000,
                "enable.idempotence": True,
                "queue.buffering.max.kbytes": 262_144,
                **config,
            }
        )
        for key, value in messages:
            while True:
                try:
                    producer.produce(name, value, key)
                    break
                except BufferError:
                    producer.poll(0.05)
        if left := producer.flush(120):
            raise BenchError(f"{name}: {left} messages were not acknowledged")

    def forget(self, group: str) -> None:
        """Delete a consumer group, so that it starts from the beginning; wait until its members have left."""

        def gone() -> bool:
            try:
                _wait(self._admin.delete_consumer_groups([group], request_timeout=ANSWER_SECONDS))
            except KafkaException as error:
                return bool(error.args[0].name() == "GROUP_ID_NOT_FOUND")
            return True

        until(gone, 60, f"consumer group {group} deleted")

    def ends(self, name: str) -> list[int]:
        """Return the end offset of every partition."""
        consumer = self._consumer("bench-offsets")
        try:
            parts = [TopicPartition(name, p) for p in self._partitions(name)]
            return [consumer.get_watermark_offsets(part, timeout=ANSWER_SECONDS)[1] for part in parts]
        finally:
            consumer.close()

    def committed(self, group: str, name: str) -> Callable[[], int]:
        """Return a function that answers how many messages of `name` the group has committed."""
        consumer = self._consumer(group)
        parts = [TopicPartition(name, p) for p in self._partitions(name)]

        def committed() -> int:
            try:
                return sum(max(0, found.offset) for found in consumer.committed(parts, timeout=ANSWER_SECONDS))
            except KafkaException:
                return 0

        return committed

    def appended(self, name: str, starts: Sequence[int], rows_in: Callable[[Message], int]) -> Appended:
        """Read what was appended to `name` from `starts` on."""
        ends = self.ends(name)
        if ends == list(starts):
            raise BenchError(f"{name}: nothing was published")
        consumer = self._consumer("bench-reader")
        consumer.assign([TopicPartition(name, p, start) for p, start in enumerate(starts)])
        seen: dict[float, int] = {}
        messages = 0
        places = list(starts)
        deadline = time.monotonic() + 300
        try:
            while any(place < end for place, end in zip(places, ends, strict=True)):
                if time.monotonic() > deadline:
                    raise BenchError(f"{name}: could not be read back")
                for message in consumer.consume(10_000, 0.5):
                    if message.error():
                        continue
                    moment = message.timestamp()[1] / 1000.0
                    seen[moment] = seen.get(moment, 0) + rows_in(message)
                    messages += 1
                at = consumer.position([TopicPartition(name, p) for p in range(len(starts))])
                places = [p.offset if p.offset >= 0 else start for p, start in zip(at, starts, strict=True)]
        finally:
            consumer.close()
        return Appended(sum(seen.values()), messages, seen[min(seen)], min(seen), max(seen))

    def _consumer(self, group: str) -> Consumer:
        return Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False})

    def _names(self) -> set[str]:
        return set(self._admin.list_topics(timeout=ANSWER_SECONDS).topics)

    def _partitions(self, name: str) -> list[int]:
        topic = self._admin.list_topics(name, timeout=ANSWER_SECONDS).topics.get(name)
        if topic is None or topic.error:
            return []
        return sorted(p.id for p in topic.partitions.values() if p.leader >= 0)


def _wait(futures: Mapping[str, Future[Any]]) -> None:
    for future in futures.values():
        future.result(ANSWER_SECONDS)
