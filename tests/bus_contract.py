"""What every bus promises, as tests.

A module that has a `world` fixture takes them all with `from tests.bus_contract import *`, and so holds its
bus to the same contract as the others.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.admin import AdminClient

from kappawatt.bus.connect import connect
from kappawatt.bus.interface import Bus, BusOptions, Consumer, Headers, Outgoing, Records, Start
from kappawatt.bus.topic import Topic
from kappawatt.errors import BusError, DeliveryFailed, LogRenewed, Overloaded, TopicUnknown

PATIENCE = 30.0
HOUR = 3600
NOW = int(time.time()) * 1000
# Murmur2 of Apache Kafka's own UtilsTest, as Java's signed integers.
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
MEMBER = """
import json, sys
from kappawatt.bus.connect import connect
from kappawatt.bus.interface import BusOptions
url, options, topic, group = json.loads(sys.argv[1])
consumer = connect(url, BusOptions(**options)).consumer([topic], group)
while True:
    count = sum(len(records) for records in consumer.poll(0.2))
    print(json.dumps([sorted(p for _, p in consumer.positions()), count]), flush=True)
"""


class Message(NamedTuple):
    """One message, for a person to compare."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: Headers


@dataclass
class World:
    """One kind of bus, empty topics on it, and everything opened closed again."""

    url: str
    options: BusOptions
    sleepy: dict[str, Any] = field(default_factory=dict)  # options of a member that soon counts as gone
    opened: list[Any] = field(default_factory=list)

    def bus(self, **options: Any) -> Bus:
        """A connection of its own, as another process would have."""
        bus = connect(self.url, replace(self.options, **options))
        self.opened.append(bus)
        return bus

    def keep(self, closable: Any) -> Any:
        self.opened.append(closable)
        return closable

    def close(self) -> None:
        for closable in reversed(self.opened):
            closable.close()

    def topic(self, partitions: int = 4) -> Topic:
        topic = new_topic(partitions)
        self.bus().ensure([topic])
        return topic

    def remake(self, topic: Topic) -> None:
        """Delete a topic, as an operator would, and make it again."""
        scheme, _, place = self.url.partition(":")
        if scheme == "embedded":  # its file is removed
            for file in Path(place).parent.glob(f"{Path(place).name}*"):
                file.unlink()
        else:
            admin = AdminClient({"bootstrap.servers": place.strip("/")})
            admin.delete_topics([topic.name])[topic.name].result()
        until(lambda: bool(self.bus().ensure([topic])))

    def as_json(self) -> list[Any]:
        names = ("max_in_flight_bytes", "session_timeout", "kafka_client", "client")
        return [self.url, {name: getattr(self.options, name) for name in names}]


def new_topic(partitions: int = 4) -> Topic:
    name = f"contract.{uuid.uuid4().hex[:10]}"
    return Topic(name, "plant", None, partitions, HOUR, (), (), "made by a test")


def new_group() -> str:
    return f"group-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def bus(world: World) -> Bus:
    return world.bus()


@pytest.fixture
def topic(world: World) -> str:
    return world.topic().name


@pytest.fixture
def group() -> str:
    return new_group()


def publish(world: World, bus: Bus, messages: list[Outgoing]) -> None:
    producer = bus.producer()
    try:
        producer.publish(messages)
    finally:
        producer.close()


def numbered(topic: str, count: int, keys: int = 10, first: int = 0) -> list[Outgoing]:
    return [
        Outgoing(topic, str(n).encode(), f"plant-{n % keys}".encode(), timestamp=NOW + n)
        for n in range(first, first + count)
    ]


def poll(consumer: Consumer, timeout: float = 0.2) -> list[Message]:
    return [
        Message(records.topic, records.partition, *message)
        for records in consumer.poll(timeout)
        for message in zip(
            records.offsets, records.timestamps, records.keys, records.values, records.headers, strict=True
        )
    ]


def read(consumer: Consumer, count: int) -> list[Message]:
    """Poll until `count` messages are there."""
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < deadline:
        found += poll(consumer)
    assert len(found) == count
    return found


def read_all(consumer: Consumer, values: set[bytes]) -> None:
    """Poll until every one of `values` was there, however often."""
    left = set(values)
    until(lambda: not left.difference_update(m.value for m in poll(consumer)) and not left)


def until(claim: Callable[[], bool], *consumers: Consumer) -> None:
    """Wait until `claim` holds, while `consumers` are polled: several each by a thread, as they would by processes.

    One that joins a group waits for the others to join again: polled in turn by one thread, two may miss each other for
    as long as this waits.
    """
    deadline = time.monotonic() + PATIENCE
    done = threading.Event()

    def go_on(consumer: Consumer) -> None:
        while not done.is_set():
            consumer.poll(0.1)

    with ThreadPoolExecutor(max(1, len(consumers))) as pool:
        polling = [pool.submit(go_on, consumer) for consumer in consumers[1:]]
        try:
            while not claim():
                assert time.monotonic() < deadline, "waited in vain"
                for broken in (each for each in polling if each.done()):
                    broken.result()
                for consumer in consumers[:1]:
                    consumer.poll(0.1)
                if not consumers:
                    time.sleep(0.02)
        finally:
            done.set()


def partitions(consumer: Consumer) -> list[int]:
    return sorted(partition for _, partition in consumer.positions())


@contextmanager
def member_process(world: World, topic: str, group: str) -> Iterator[subprocess.Popen[str]]:
    arguments = json.dumps([*world.as_json(), topic, group])
    process = subprocess.Popen([sys.executable, "-c", MEMBER, arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str], claim: Callable[[list[int], int], bool]) -> None:
    """Wait until a member process has said something that `claim` accepts."""
    total = 0
    assert process.stdout is not None
    for line in process.stdout:
        assigned, count = json.loads(line)
        total += count
        if claim(assigned, total):
            return
    raise AssertionError("the member process ended")


def test_messages_of_one_key_keep_their_order(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, numbered(topic, 5000))

    found = read(world.keep(bus.consumer([topic], group)), 5000)

    for plant in {message.key for message in found}:
        numbers = [int(message.value) for message in found if message.key == plant]
        assert numbers == sorted(numbers)
        assert len(numbers) == 500


def test_keys_go_to_the_partition_javas_client_chooses(world: World, bus: Bus, group: str) -> None:
    topic = world.topic(7).name
    publish(world, bus, [Outgoing(topic, b"", key) for key in JAVA_MURMUR2])

    found = read(world.keep(bus.consumer([topic], group)), len(JAVA_MURMUR2))

    assert {m.key: m.partition for m in found} == {k: (h & 0x7FFFFFFF) % 7 for k, h in JAVA_MURMUR2.items()}


def test_messages_without_key_reach_every_partition(bus: Bus, world: World, topic: str) -> None:
    publish(world, bus, [Outgoing(topic, b"x") for _ in range(400)])

    assert all(known.end > 0 for known in bus.offsets(topic).values())


def test_a_partition_can_be_named(bus: Bus, world: World, topic: str) -> None:
    publish(world, bus, [Outgoing(topic, b"x", b"key", partition=n % 4) for n in range(8)])

    assert [known.end for known in bus.offsets(topic).values()] == [2, 2, 2, 2]


def test_headers_timestamps_missing_keys_and_empty_values_survive(
    world: World, bus: Bus, topic: str, group: str
) -> None:
    headers = (("content-type", b"application/json"), ("id", bytes(range(256))), ("id", b""), ("größe", b"1"))
    sent = [
        Outgoing(topic, b"", None, headers, NOW - 1000, partition=0),
        Outgoing(topic, b"\x00\xff", b"", (), NOW, partition=0),
    ]
    publish(world, bus, sent)

    found = read(world.keep(bus.consumer([topic], group)), 2)

    assert found == [
        Message(topic, 0, 0, NOW - 1000, None, b"", headers),
        Message(topic, 0, 1, NOW, b"", b"\x00\xff", ()),
    ]


def test_a_message_without_timestamp_gets_the_present_one(world: World, bus: Bus, topic: str, group: str) -> None:
    before = time.time() * 1000 - 1
    publish(world, bus, [Outgoing(topic, b"x")])

    (message,) = read(world.keep(bus.consumer([topic], group)), 1)

    assert before <= message.timestamp <= time.time() * 1000 + 1


def test_values_of_900_kilobytes_survive(world: World, bus: Bus, topic: str, group: str) -> None:
    values = {bytes([n]) * 900_000 for n in range(6)}
    publish(world, bus, [Outgoing(topic, value, b"block") for value in values])

    found = read(world.keep(bus.consumer([topic], group)), 6)

    assert {message.value for message in found} == values


def test_two_groups_both_get_everything(world: World, bus: Bus, topic: str) -> None:
    publish(world, bus, numbered(topic, 100))
    consumers = [world.keep(bus.consumer([topic], new_group())) for _ in range(2)]

    found = [{message.value for message in read(consumer, 100)} for consumer in consumers]

    assert found[0] == found[1] == {str(n).encode() for n in range(100)}


def test_a_poll_gives_at_most_max_records(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, numbered(topic, 100))
    consumer = world.keep(bus.consumer([topic], group, max_records=7))

    sizes = []
    until(lambda: sizes.append(len(poll(consumer))) or sum(sizes) == 100)  # type: ignore[func-returns-value]

    assert max(sizes) <= 7


def test_committed_offsets_survive_a_restart_of_consumer_and_bus(world: World, topic: str, group: str) -> None:
    first = world.bus()
    publish(world, first, numbered(topic, 50))
    consumer = first.consumer([topic], group)
    read(consumer, 50)
    consumer.commit()
    consumer.close()
    first.close()
    second = world.bus()
    publish(world, second, numbered(topic, 10, first=50))

    found = read(world.keep(second.consumer([topic], group)), 10)

    assert {int(message.value) for message in found} == set(range(50, 60))
    assert sum(second.committed(group, topic).values()) == 50


def test_messages_not_committed_come_again_after_a_rewind(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, numbered(topic, 50))
    consumer = world.keep(bus.consumer([topic], group))
    read(consumer, 50)
    consumer.commit()
    publish(world, bus, numbered(topic, 20, first=50))
    once = read(consumer, 20)

    consumer.rewind()
    again = read(consumer, 20)

    assert sorted(again) == sorted(once)


def test_messages_not_committed_come_again_after_a_crash(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, numbered(topic, 50))
    with member_process(world, topic, group) as crashing:
        said(crashing, lambda _, total: total == 50)

    read_all(world.keep(bus.consumer([topic], group)), {str(n).encode() for n in range(50)})


def test_two_members_share_the_partitions_and_one_takes_over_when_the_other_leaves(
    world: World, bus: Bus, topic: str, group: str
) -> None:
    staying, leaving = world.keep(bus.consumer([topic], group)), bus.consumer([topic], group)
    until(lambda: len(partitions(staying)) == len(partitions(leaving)) == 2, staying, leaving)
    assert sorted(partitions(staying) + partitions(leaving)) == [0, 1, 2, 3]
    publish(world, bus, numbered(topic, 100))

    leaving.close()
    read_all(staying, {str(n).encode() for n in range(100)})

    assert partitions(staying) == [0, 1, 2, 3]


def test_a_member_takes_over_when_the_other_crashes(world: World, bus: Bus, topic: str, group: str) -> None:
    consumer = world.keep(bus.consumer([topic], group))
    with member_process(world, topic, group) as crashing:
        polling = threading.Event()
        with ThreadPoolExecutor() as pool:
            shared = pool.submit(said, crashing, lambda assigned, _: len(assigned) == 2)
            until(lambda: shared.done() or polling.is_set(), consumer)
            shared.result()

    until(lambda: partitions(consumer) == [0, 1, 2, 3], consumer)


def test_a_static_member_keeps_its_partitions_over_a_restart(world: World, bus: Bus, topic: str, group: str) -> None:
    def member(name: str) -> Consumer:
        return bus.consumer([topic], group, instance_id=name)

    first, second = world.keep(member("pod-0")), member("pod-1")
    until(lambda: len(partitions(first)) == len(partitions(second)) == 2, first, second)
    held = partitions(first), partitions(second)

    second.close()
    first.poll(0.3)
    again = world.keep(member("pod-1"))
    until(lambda: len(partitions(again)) == 2, first, again)

    assert (partitions(first), partitions(again)) == held


def test_a_commit_after_the_partitions_have_moved_is_harmless(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, numbered(topic, 100))
    asleep = world.keep(world.bus(**world.sleepy).consumer([topic], group))
    read(asleep, 100)
    other = world.keep(bus.consumer([topic], group))
    until(lambda: partitions(other) == [0, 1, 2, 3], other)

    asleep.commit()

    assert bus.committed(group, topic) == {0: 0, 1: 0, 2: 0, 3: 0}
    asleep.poll(0.1)  # and it can join again


def test_a_commit_while_members_come_is_harmless(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, numbered(topic, 100))
    old, new = (world.keep(bus.consumer([topic], group)) for _ in range(2))
    read(old, 100)

    with ThreadPoolExecutor() as pool:
        joined = pool.submit(until, lambda: len(partitions(new)) == 2, new)
        while not joined.done():
            old.poll(0.05)
            old.commit()
        joined.result()

    new.commit()
    assert sum(bus.committed(group, topic).values()) <= 100


@pytest.mark.parametrize("start", list(Start))
def test_the_start_is_committed_on_first_assignment(
    world: World, bus: Bus, topic: str, group: str, start: Start
) -> None:
    publish(world, bus, numbered(topic, 40))
    ends = {partition: known.end for partition, known in bus.offsets(topic).items()}

    consumer = world.keep(bus.consumer([topic], group, start=start))
    until(lambda: bool(consumer.positions()), consumer)

    expected = ends if start is Start.LATEST else dict.fromkeys(ends, 0)
    assert bus.committed(group, topic) == expected


def test_a_group_that_starts_at_the_latest_gets_only_what_comes_later(
    world: World, bus: Bus, topic: str, group: str
) -> None:
    publish(world, bus, numbered(topic, 40))
    consumer = world.keep(bus.consumer([topic], group, start=Start.LATEST))
    until(lambda: bool(consumer.positions()), consumer)

    publish(world, bus, numbered(topic, 5, first=40))

    assert {int(message.value) for message in read(consumer, 5)} == set(range(40, 45))


def test_lag_is_what_stands_between_position_and_end(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, numbered(topic, 30))
    consumer = world.keep(bus.consumer([topic], group, max_records=5))

    first = 0
    while first == 0:
        first = sum(map(len, consumer.poll(1.0)))
    assert sum(consumer.positions().values()) == first < 30
    assert sum(consumer.lag().values()) == 30 - first

    read(consumer, 30 - first)
    assert sum(consumer.lag().values()) == 0


def test_a_consumer_continues_where_it_seeks(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, [Outgoing(topic, str(n).encode(), partition=2) for n in range(20)])
    consumer = world.keep(bus.consumer([topic], group))
    read(consumer, 20)

    consumer.seek(topic, 2, 15)
    found = read(consumer, 5)

    assert [message.offset for message in found] == [15, 16, 17, 18, 19]
    with pytest.raises(BusError):
        consumer.seek(topic, 99, 0)


def test_a_reader_without_group_reads_from_its_positions(world: World, bus: Bus, topic: str) -> None:
    publish(world, bus, [Outgoing(topic, str(n).encode(), partition=n % 2) for n in range(20)])

    reader = world.keep(bus.reader([topic], {(topic, 0): 7}))
    found = read(reader, 13)

    assert [m.offset for m in found if m.partition == 0] == [7, 8, 9]
    assert [m.offset for m in found if m.partition == 1] == list(range(10))
    assert sum(reader.lag().values()) == 0
    for useless in (reader.commit, reader.rewind):
        with pytest.raises(BusError):
            useless()


def test_offsets_are_found_by_time(world: World, bus: Bus) -> None:
    topic = world.topic(2).name
    publish(world, bus, [Outgoing(topic, b"x", timestamp=NOW + n * 10, partition=0) for n in range(10)])

    assert bus.offsets_at(topic, NOW - 1) == {0: 0, 1: 0}
    assert bus.offsets_at(topic, NOW + 31) == {0: 4, 1: 0}
    assert bus.offsets_at(topic, NOW + 40) == {0: 4, 1: 0}
    assert bus.offsets_at(topic, NOW + 1000) == {0: 10, 1: 0}


def test_an_unknown_topic_is_said_and_never_created(world: World, bus: Bus, group: str) -> None:
    nowhere = new_topic().name
    producer = world.keep(bus.producer())
    consumer = world.keep(bus.consumer([nowhere], group))

    with pytest.raises(TopicUnknown, match=nowhere):
        producer.publish([Outgoing(nowhere, b"x")])
    with pytest.raises(TopicUnknown, match=nowhere):
        bus.offsets(nowhere)
    with pytest.raises(TopicUnknown, match=nowhere):
        bus.reader([nowhere], {}).poll(0.1)
    with pytest.raises(TopicUnknown, match=nowhere):
        until(lambda: False, consumer)

    assert nowhere not in bus.topics()


def test_a_partition_the_topic_does_not_have_is_refused(world: World, bus: Bus, topic: str) -> None:
    with pytest.raises((TopicUnknown, DeliveryFailed), match=topic):
        publish(world, bus, [Outgoing(topic, b"x", partition=99)])


def test_ensure_creates_what_is_missing_and_only_that(bus: Bus) -> None:
    old, new = new_topic(1), new_topic(3)

    assert bus.ensure([old]) == [old.name]
    assert bus.ensure([old, new]) == [new.name]
    assert bus.ensure([old, new]) == []
    assert {bus.topics()[old.name], bus.topics()[new.name]} == {1, 3}


def test_processes_that_ensure_at_once_create_a_topic_once(world: World) -> None:
    topic = new_topic(2)
    buses = [world.bus() for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(lambda bus: bus.ensure([topic]), buses))

    assert sorted(created) == [[], [], [], [topic.name]]


def test_bytes_in_flight_are_bounded(world: World, topic: str) -> None:
    bus = world.bus(max_in_flight_bytes=1000)
    producer: Any = world.keep(bus.producer())

    with (
        producer._in_flight.reserve(900, wait=True, timeout=1),
        pytest.raises(Overloaded),
    ):
        producer.publish([Outgoing(topic, bytes(200))], wait=False)

    producer.publish([Outgoing(topic, bytes(200))], wait=False)
    assert sum(known.end for known in bus.offsets(topic).values()) == 1


def test_a_call_larger_than_the_bound_is_let_through_alone(world: World, topic: str) -> None:
    bus = world.bus(max_in_flight_bytes=1000)

    publish(world, bus, numbered(topic, 100))

    assert sum(known.end for known in bus.offsets(topic).values()) == 100


def test_many_threads_publish_at_once(world: World, bus: Bus, topic: str, group: str) -> None:
    producer = world.keep(bus.producer())

    def run(thread: int) -> None:
        for n in range(25):
            key = f"thread-{thread}".encode()
            producer.publish([Outgoing(topic, f"{thread} {n} {m}".encode(), key) for m in range(4)])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(16)))
    found = read(world.keep(bus.consumer([topic], group)), 16 * 100)

    for thread in range(16):
        numbers = [m.value for m in found if m.key == f"thread-{thread}".encode()]
        assert numbers == [f"{thread} {n} {m}".encode() for n in range(25) for m in range(4)]


def test_offsets_can_be_committed_for_a_group_without_members(world: World, bus: Bus, topic: str, group: str) -> None:
    publish(world, bus, [Outgoing(topic, str(n).encode(), partition=0) for n in range(10)])

    bus.commit_for(group, {(topic, 0): 6})
    consumer = world.keep(bus.consumer([topic], group))
    found = read(consumer, 4)

    assert [message.offset for message in found] == [6, 7, 8, 9]
    with pytest.raises(BusError, match=group):
        bus.commit_for(group, {(topic, 0): 0})


def test_every_message_names_its_log(world: World, bus: Bus, topic: str, group: str) -> None:
    other = world.topic().name
    publish(world, bus, numbered(topic, 5) + numbered(other, 5))

    logs = {name: world.bus().log_id(name) for name in (topic, other)}
    reader = world.keep(world.bus().reader([topic, other], {}))
    found: list[Records] = []
    until(lambda: not found.extend(reader.poll(0.2)) and sum(map(len, found)) == 10)

    assert {records.topic: records.log for records in found} == logs
    assert len(set(logs.values())) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", log) for log in logs.values())
    with pytest.raises(TopicUnknown):
        bus.log_id("nobody.made.this")


@pytest.mark.parametrize("again", [3, 20, 60], ids=["with_less_than_before", "with_as_much", "with_more"])
def test_a_member_reads_a_topic_that_was_made_again_from_its_beginning(world: World, group: str, again: int) -> None:
    topic, bus = new_topic(1), world.bus()
    bus.ensure([topic])
    consumer = world.keep(bus.consumer([topic.name], group))
    publish(world, bus, numbered(topic.name, 20))
    read(consumer, 20)
    consumer.commit()
    before = bus.log_id(topic.name)

    world.remake(topic)
    publish(world, world.bus(), numbered(topic.name, again, first=100))
    found: list[Records] = []

    def poll_all() -> bool:
        with contextlib.suppress(TopicUnknown):  # for a moment it is not there
            found.extend(consumer.poll(0.2))
        return sum(map(len, found)) >= again

    until(poll_all)
    assert [value for records in found for value in records.values] == [
        str(n).encode() for n in range(100, 100 + again)
    ]
    assert {records.log for records in found} == {world.bus().log_id(topic.name)} != {before}
    consumer.commit()
    assert world.bus().committed(group, topic.name) == {0: again}


def test_a_reader_says_that_a_topic_was_made_again(world: World) -> None:
    topic, bus = new_topic(1), world.bus()
    bus.ensure([topic])
    publish(world, bus, numbered(topic.name, 20))
    reader = world.keep(bus.reader([topic.name], {}))
    read(reader, 20)
    before = bus.log_id(topic.name)

    world.remake(topic)
    publish(world, world.bus(), numbered(topic.name, 30, first=100))

    def poll_anew() -> bool:
        with contextlib.suppress(TopicUnknown):
            assert reader.poll(0.2) == []
        return False

    with pytest.raises(LogRenewed, match=f"{topic.name}.*{world.bus().log_id(topic.name)}.*{before}"):
        until(poll_anew)
