"""Members of Kafka groups, of both clients, while topics are deleted and made again."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest

import kappawatt.bus.confluent.cluster
import kappawatt.bus.confluent.member
from kappawatt.bus.interface import BusOptions, Start
from kappawatt.bus.kafka_clients import ANSWER_SECONDS
from kappawatt.errors import BusError, BusUnreachable

with warnings.catch_warnings():  # kafka-python reads its own files in a way that Python 3.11 calls old
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka

    import kappawatt.bus.kafka.cluster
    import kappawatt.bus.kafka.member

A, B = ("a", 0), ("b", 0)


class Log:
    """Partitions of two topics, and a client's positions in them."""

    def __init__(self, ends: Mapping[tuple[str, int], int], at: Mapping[tuple[str, int], int]) -> None:
        self.ends = dict(ends)
        self.at = dict(at)
        self.committed_at: dict[tuple[str, int], int] = {}
        self.failures = 0  # so many questions for a beginning are not answered yet

    def fails(self) -> bool:
        self.failures -= 1
        return self.failures >= 0

    def taken(self) -> dict[tuple[str, int], range]:
        found = {place: range(at, self.ends[place]) for place, at in self.at.items() if at < self.ends[place]}
        self.at |= {place: self.ends[place] for place in found}
        return found


class KafkaPython(Log):
    """As kafka-python's consumer."""

    def assignment(self) -> set[Any]:
        return {kafka.TopicPartition(*place) for place in self.at}

    def poll(self, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
        return {
            kafka.TopicPartition(*place): [
                SimpleNamespace(offset=at, timestamp=1, key=None, value=b"v", headers=[]) for at in offsets
            ]
            for place, offsets in self.taken().items()
        }

    def position(self, place: Any, timeout_ms: int) -> int:
        return self.at[tuple(place)]

    def beginning_offsets(self, places: Sequence[Any], timeout_ms: int) -> dict[Any, int]:
        if self.fails():
            raise kafka.errors.KafkaTimeoutError("no leader")
        return dict.fromkeys(places, 0)

    def end_offsets(self, places: Sequence[Any], timeout_ms: int) -> dict[Any, int]:
        return {place: self.ends[tuple(place)] for place in places}

    def seek(self, place: Any, offset: int) -> None:
        self.at[tuple(place)] = offset

    def committed(self, place: Any, timeout_ms: int) -> int | None:
        return self.committed_at.get(tuple(place))

    def commit(self, offsets: Mapping[Any, Any], timeout_ms: int) -> None:
        self.committed_at |= {tuple(place): found.offset for place, found in offsets.items()}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def resume(self, *places: Any) -> None: ...


class Confluent(Log):
    """As confluent-kafka's consumer."""

    def __init__(self, ends: Mapping[tuple[str, int], int], at: Mapping[tuple[str, int], int]) -> None:
        super().__init__(ends, at)
        self._queue: list[Any] = []

    def consume(self, n: int, timeout: float) -> list[Any]:
        self._queue += [_message(*place, at) for place, offsets in self.taken().items() for at in offsets]
        found, self._queue = self._queue[:n], self._queue[n:]
        return found

    def assignment(self) -> list[Any]:
        return [confluent_kafka.TopicPartition(*place) for place in self.at]

    def get_watermark_offsets(self, place: Any, timeout: float) -> tuple[int, int]:
        if timeout == ANSWER_SECONDS and self.fails():
            raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT))
        return 0, self.ends[place.topic, place.partition]

    def seek(self, place: Any) -> None:
        self.at[place.topic, place.partition] = place.offset

    def committed(self, places: list[Any], timeout: float) -> list[Any]:
        return [
            confluent_kafka.TopicPartition(p.topic, p.partition, self.committed_at.get((p.topic, p.partition), -1001))
            for p in places
        ]

    def commit(self, offsets: list[Any], asynchronous: bool) -> list[Any]:
        self.committed_at |= {(place.topic, place.partition): place.offset for place in offsets}
        return offsets

    def assign(self, places: list[Any]) -> None:
        for place in places:
            self.seek(place)

    def resume(self, places: list[Any]) -> None: ...


def _message(topic: str, partition: int, offset: int) -> Any:
    said = {"topic": topic, "partition": partition, "offset": offset, "value": b"v", "key": None, "headers": None}
    return SimpleNamespace(
        **{name: lambda value=value: value for name, value in said.items()},
        error=lambda: None,
        timestamp=lambda: (1, 1),
    )


class Scene:
    """A member that has read `a` up to 50 and `b` up to 100, and committed nothing of it."""

    def __init__(self, name: str) -> None:
        client, package = {
            "kafka-python": (KafkaPython, kappawatt.bus.kafka),
            "confluent": (Confluent, kappawatt.bus.confluent),
        }[name]
        self.name = name
        self.is_silent = False
        self.logs = {"a": "old", "b": "b"}
        self.client: Any = client({A: 50, B: 100}, {A: 0, B: 0})
        cluster: Any = package.cluster.Cluster("127.0.0.1:1", BusOptions())
        cluster.logs = self.look_up
        cluster.ends = lambda places, is_all: {place: self.client.ends[tuple(place)] for place in places}
        self.member: Any = package.member.Member(cluster, ("a", "b"), "g", None, Start.EARLIEST, 500)
        self.member._attendance._next = time.monotonic() + 3600
        self.member._logs.learn()
        self.member._client = self.client
        self.join()
        assert self.poll() == {A: [*range(50)], B: [*range(100)]}

    def look_up(self, topics: list[str]) -> dict[str, str]:
        if self.is_silent:
            raise BusUnreachable("no broker answers")
        return dict(self.logs)

    def join(self) -> None:
        place = {"kafka-python": kafka.TopicPartition, "confluent": confluent_kafka.TopicPartition}[self.name]
        fresh = [place(*where) for where in self.client.at]
        self.member._fresh = set(fresh) if self.name == "kafka-python" else fresh
        self.member._settle(self.client)

    def remake(self, end: int) -> None:
        """Make `a` again."""
        self.logs["a"] = "new"
        self.client.ends[A] = end
        self.look()

    def look(self) -> None:
        self.member._logs._looked = float("-inf")

    def poll(self) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for records in self.member.poll(0.0):
            found.setdefault((records.topic, records.partition), []).extend(records.offsets)
        return found


@pytest.fixture(params=["kafka-python", "confluent"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def test_positions_of_an_old_log_are_not_committed_in_the_new_one(scene: Scene) -> None:
    scene.remake(30)

    scene.member.commit()

    assert scene.client.committed_at == {A: 0, B: 100}


def test_what_is_committed_beyond_the_end_is_of_another_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.client.ends[A] = 30
    scene.client.committed_at = {A: 50, B: 100}

    scene.join()

    assert scene.poll() == {A: [*range(30)]}
    assert scene.client.committed_at == {A: 0, B: 100}
    assert "g: got offset 50 committed of a[0], allowed up to its end 30" in caplog.text


@pytest.mark.parametrize("end", [50, 80], ids=["with_as_much", "with_more"])
@pytest.mark.parametrize("more", [0, 10])
@pytest.mark.parametrize("failures", [0, 1, 2, 5])
def test_a_new_log_that_cannot_be_begun_yet_costs_no_message(scene: Scene, failures: int, more: int, end: int) -> None:
    scene.member.commit()
    scene.client.ends[B] += more
    scene.remake(end)
    scene.client.failures = failures
    found: dict[tuple[str, int], list[int]] = {A: [], B: []}

    for _ in range(10):
        try:
            for place, offsets in scene.poll().items():
                found[place] += offsets
        except BusError:  # and nothing else
            pass

    assert found == {A: [*range(end)], B: [*range(100, 100 + more)]}
    scene.member.commit()
    assert scene.client.committed_at == {A: end, B: 100 + more}


def test_messages_whose_log_is_not_told_come_again(scene: Scene) -> None:
    scene.client.ends[B] += 10
    scene.look()
    scene.is_silent = True
    with pytest.raises(BusUnreachable):
        scene.poll()
    scene.is_silent = False

    assert scene.poll() == {B: [*range(100, 110)]}
