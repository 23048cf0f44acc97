"""Members of the embedded bus' groups while topics are deleted and made again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kappawatt.bus import Bus, Consumer, Outgoing, connect
from kappawatt.bus.interface import BusOptions, Start
from kappawatt.bus.topic import Topic
from tests.conftest import publish, wait_until

TOPIC = Topic("t", "plant", None, 4, 3600, (), (), "made by a test")
OTHER = replace(TOPIC, name="other")
TABLES = (("topic", "name"), ("partition", "topic"), ("message", "topic"), ("committed", "topic"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bus.sqlite"


@pytest.fixture
def bus(file: Path) -> Iterator[Bus]:
    bus = connect(f"embedded:{file}", BusOptions(session_timeout=2.0))
    bus.ensure([TOPIC, OTHER])
    yield bus
    bus.close()


def remake(bus: Bus, file: Path, topic: Topic = TOPIC) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, column in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (topic.name,))
    bus.ensure([topic])


def send(bus: Bus, topic: str, partition: int, n: int) -> None:
    publish(bus, [Outgoing(topic, b"value", partition=partition)] * n)


def polled(consumer: Consumer) -> int:
    return sum(len(records) for records in consumer.poll(0.05))


@pytest.mark.parametrize("partitions", [2, 8])
@pytest.mark.parametrize("members", [1, 3])
def test_members_share_the_partitions_of_a_topic_that_was_made_again(
    bus: Bus, file: Path, partitions: int, members: int
) -> None:
    group = [bus.consumer(["t"], "g") for _ in range(members)]
    wait_until(lambda: [one.poll(0) for one in group] and sum(len(one.positions()) for one in group) == 4)

    remake(bus, file, replace(TOPIC, partitions=partitions))
    for partition in range(partitions):
        send(bus, "t", partition, 5)
    for one in group:
        one.lag()
    found: list[tuple[int, int]] = []

    def claim() -> bool:
        for one in group:
            found.extend((records.partition, at) for records in one.poll(0.01) for at in records.offsets)
            one.commit()
        return len(found) >= 5 * partitions

    wait_until(claim)
    assert sorted(found) == [(partition, at) for partition in range(partitions) for at in range(5)]
    assert bus.committed("g", "t") == dict.fromkeys(range(partitions), 5)


@pytest.mark.parametrize("partitions", [2, 8])
def test_partitions_that_come_or_go_are_followed_after_a_rewind_too(bus: Bus, file: Path, partitions: int) -> None:
    consumer = bus.consumer(["t"], "g")
    consumer.poll(0)

    remake(bus, file, replace(TOPIC, partitions=partitions))
    consumer.rewind()
    consumer.poll(0)

    assert sorted(consumer.positions()) == [("t", partition) for partition in range(partitions)]


def test_another_topics_log_does_not_set_back_what_was_polled(bus: Bus, file: Path) -> None:
    consumer = bus.consumer(["t", "other"], "g")
    send(bus, "other", 0, 7)
    wait_until(lambda: polled(consumer))

    remake(bus, file)
    send(bus, "t", 0, 3)

    assert [(records.topic, len(records)) for records in consumer.poll(1)] == [("t", 3)]
    assert consumer.positions()["other", 0] == 7


def test_a_group_that_starts_at_the_end_reads_a_new_log_whole(bus: Bus, file: Path) -> None:
    consumer = bus.consumer(["t"], "g", start=Start.LATEST)
    consumer.poll(0)

    remake(bus, file)
    send(bus, "t", 0, 3)

    assert polled(consumer) == 3


def test_positions_of_an_old_log_are_not_committed_in_the_new_one(bus: Bus, file: Path) -> None:
    consumer = bus.consumer(["t", "other"], "g")
    send(bus, "t", 3, 50)
    send(bus, "other", 0, 7)
    wait_until(lambda: (consumer.poll(0.05), consumer.positions().get(("t", 3)) == 50)[1])

    remake(bus, file)
    send(bus, "t", 3, 30)
    consumer.commit()

    assert bus.committed("g", "t") == {}
    assert bus.committed("g", "other")[0] == 7
    assert polled(consumer) == 30


def test_what_is_committed_beyond_the_end_is_of_another_log(
    bus: Bus, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    send(bus, "t", 3, 30)
    bus.commit_for("g", {("t", 3): 50})
    consumer = bus.consumer(["t"], "g")

    assert polled(consumer) == 30
    consumer.commit()
    assert bus.committed("g", "t")[3] == 30
    assert "g: got offset 50 committed of t[3], allowed up to its end 30" in caplog.text
