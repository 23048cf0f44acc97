"""Questions to a Kafka cluster, and the producers and consumers of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException, admin
from confluent_kafka import TopicPartition as Place

from kappawatt.bus.confluent.cluster import Cluster
from kappawatt.bus.confluent.consumer import Reader
from kappawatt.bus.confluent.member import Member
from kappawatt.bus.confluent.producer import ClusterProducer
from kappawatt.bus.confluent.trouble import answered
from kappawatt.bus.in_flight import InFlight
from kappawatt.bus.interface import BusOptions, Consumer, Offsets, Producer, Start, TopicPartition
from kappawatt.bus.kafka_clients import ANSWER_SECONDS
from kappawatt.bus.kafka_settings import topic_config
from kappawatt.bus.logs import KnownLogs, log_id_of
from kappawatt.bus.topic import Topic
from kappawatt.errors import BusError

__all__ = ["ConfluentBus"]

administration: Any = admin  # its stubs do not export all it has


class ConfluentBus:
    """A Kafka cluster.

    Parameters
    ----------
    address : str
        `HOST:PORT[,HOST:PORT]`.

    Raises
    ------
    SettingInvalid
        A client setting cannot be used.
    """

    def __init__(self, address: str, options: BusOptions | None = None) -> None:
        self.options = options or BusOptions()
        self._cluster = Cluster(address, self.options)
        self.url = self._cluster.url

    def producer(self) -> Producer:
        return ClusterProducer(self._cluster, InFlight(self.options.max_in_flight_bytes))

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        instance_id: str | None = None,
        start: Start = Start.EARLIEST,
        max_records: int = 5000,
    ) -> Consumer:
        return Member(self._cluster, tuple(topics), group, instance_id, start, max_records)

    def reader(
        self, topics: Sequence[str], positions: Mapping[TopicPartition, int], *, max_records: int = 5000
    ) -> Consumer:
        logs = KnownLogs(topics, self._cluster.logs)
        logs.learn()
        at = {
            (topic, number): positions.get((topic, number), known.begin)
            for topic in topics
            for number, known in self.offsets(topic).items()
        }
        return Reader(self._cluster, tuple(topics), at, logs, max_records)

    def ensure(self, topics: Iterable[Topic]) -> list[str]:
        known = self.topics()
        missing = [
            administration.NewTopic(topic.name, num_partitions=topic.partitions, config=topic_config(topic))
            for topic in topics
            if topic.name not in known
        ]
        if not missing:
            return []
        created = []
        answers = self._cluster.ask(lambda admin: admin.create_topics(missing, request_timeout=ANSWER_SECONDS))
        for name, answer in answers.items():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another process was faster
                    raise BusError(f"topic {name!r}: {error.args[0].str()}") from error
            else:
                created.append(name)
        for name in created:
            self._cluster.places(name)
        return created

    def offsets(self, topic: str) -> dict[int, Offsets]:
        places = self._cluster.places(topic)
        begin = self._look_up(places, administration.OffsetSpec.earliest())
        end = self._look_up(places, administration.OffsetSpec.latest())
        return {number: Offsets(begin[number], end[number]) for number in sorted(begin)}

    def log_id(self, topic: str) -> str:
        return log_id_of(topic, self._cluster.logs, self._cluster.places)

    def offsets_at(self, topic: str, timestamp: int) -> dict[int, int]:
        places = self._cluster.places(topic)
        found = self._look_up(places, administration.OffsetSpec.for_timestamp(timestamp))
        end = self._look_up(places, administration.OffsetSpec.latest())
        return {number: found[number] if found[number] >= 0 else end[number] for number in end}

    def topics(self) -> dict[str, int]:
        known = self._cluster.ask(lambda admin: admin.list_topics(timeout=ANSWER_SECONDS)).topics
        return {
            name: len(topic.partitions)
            for name, topic in sorted(known.items())
            if topic.error is None and not name.startswith("__")  # as Kafka names its internal topics
        }

    def why_not_writable(self, topics: Sequence[str]) -> str | None:
        return self._cluster.why_not_writable(topics)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        places = self._cluster.places(topic)
        found = self._cluster.ask_of(
            group, lambda consumer: answered(consumer.committed(places, timeout=ANSWER_SECONDS))
        )
        return {place.partition: place.offset for place in found if place.offset >= 0}

    def commit_for(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = [Place(*place, offset) for place, offset in offsets.items()]
        if not wanted:
            return
        if members := self._cluster.group(group).members:
            raise BusError(f"group {group!r}: got {len(members)} members, allowed none")
        self._cluster.ask_of(group, lambda consumer: answered(consumer.commit(offsets=wanted, asynchronous=False)))

    def close(self) -> None:
        self._cluster.close()

    def _look_up(self, places: list[Place], at: Any) -> dict[int, int]:
        found = self._cluster.look_up(dict.fromkeys(places, at))
        return {number: offset for (_, number), offset in found.items()}
