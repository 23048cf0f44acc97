"""Questions to a Kafka cluster, and the producers and consumers of it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence

from kafka import OffsetAndMetadata, OffsetSpec
from kafka import TopicPartition as Place
from kafka import errors as kafka_errors
from kafka.admin import OffsetTimestamp

from kappawatt.bus.in_flight import InFlight
from kappawatt.bus.interface import BusOptions, Consumer, Offsets, Producer, Start, TopicPartition
from kappawatt.bus.kafka.cluster import Cluster
from kappawatt.bus.kafka.consumer import Reader
from kappawatt.bus.kafka.failures import named
from kappawatt.bus.kafka.member import Member
from kappawatt.bus.kafka.producer import ClusterProducer
from kappawatt.bus.kafka.quiet import quieten
from kappawatt.bus.kafka_settings import topic_config
from kappawatt.bus.logs import KnownLogs, log_id_of
from kappawatt.bus.topic import Topic
from kappawatt.errors import BusError, SettingInvalid

__all__ = ["KafkaBus"]


class KafkaBus:
    """A Kafka cluster.

    Parameters
    ----------
    address : str
        `HOST:PORT[,HOST:PORT]`.

    Raises
    ------
    SettingInvalid
        A client setting cannot be used, or the C package crc32c is missing.
    """

    def __init__(self, address: str, options: BusOptions | None = None) -> None:
        self.options = options or BusOptions()
        self._cluster = Cluster(address, self.options)
        self.url = self._cluster.url
        quieten()
        _require_crc32c()

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
        missing = {
            topic.name: {"num_partitions": topic.partitions, "configs": topic_config(topic)}
            for topic in topics
            if topic.name not in known
        }
        if not missing:
            return []
        answer = self._cluster.ask(lambda admin: admin.create_topics(missing, raise_errors=False))
        created = []
        for result in answer["topics"]:
            error = kafka_errors.for_code(result["error_code"])
            if error is kafka_errors.NoError:
                created.append(result["name"])
            elif error is not kafka_errors.TopicAlreadyExistsError:  # another process was faster
                raise BusError(f"topic {result['name']!r}: {error.__name__}: {result['error_message']}")
        if created:
            self._cluster.ask(lambda admin: admin.wait_for_topics(created))
        return created

    def offsets(self, topic: str) -> dict[int, Offsets]:
        places = self._cluster.places(topic)
        begin = self._cluster.look_up(dict.fromkeys(places, OffsetSpec.EARLIEST))
        end = self._cluster.look_up(dict.fromkeys(places, OffsetSpec.LATEST))
        return {place.partition: Offsets(begin[place], end[place]) for place in places}

    def log_id(self, topic: str) -> str:
        return log_id_of(topic, self._cluster.logs, self._cluster.places)

    def offsets_at(self, topic: str, timestamp: int) -> dict[int, int]:
        places = self._cluster.places(topic)
        found = self._cluster.look_up(dict.fromkeys(places, OffsetTimestamp(timestamp)))
        end = self._cluster.look_up(dict.fromkeys(places, OffsetSpec.LATEST))
        return {p.partition: found[p] if found[p] >= 0 else end[p] for p in places}

    def topics(self) -> dict[str, int]:
        return {
            described["name"]: len(described["partitions"])
            for described in self._cluster.ask(lambda admin: admin.describe_topics())
            if not described["is_internal"]
        }

    def why_not_writable(self, topics: Sequence[str]) -> str | None:
        return self._cluster.why_not_writable(topics)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        wanted = {group: self._cluster.places(topic)}
        found = self._cluster.ask(lambda admin: admin.list_group_offsets(wanted))[group]
        return {place.partition: at.offset for place, at in sorted(found.items()) if at.offset >= 0}

    def commit_for(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        wanted = {Place(*place): OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}
        if not wanted:
            return
        members = self._cluster.ask(lambda admin: admin.describe_groups([group]))[group]["members"]
        if members:
            raise BusError(f"group {group!r}: got {len(members)} members, allowed none")
        answers = self._cluster.ask(lambda admin: admin.alter_group_offsets(group, wanted))
        for place, error in answers.items():
            if error is not kafka_errors.NoError:
                raise BusError(f"{group}: {named(place)}: {error.__name__}")

    def close(self) -> None:
        self._cluster.close()


def _require_crc32c() -> None:
    """Refuse to run with checksums in pure Python: a block of readings would take 4 ms instead of 0.2 ms."""
    try:
        importlib.import_module("crc32c")
    except ImportError as error:
        raise SettingInvalid(
            "kafka-python has no C checksum and would be 20 times slower on blocks: pip install 'kafka-python[crc32c]'"
        ) from error
