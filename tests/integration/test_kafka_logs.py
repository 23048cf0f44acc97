"""What lies in a real log beside messages: transactions, batches that cannot be read, partitions that were added."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import admin

from kappawatt.broker import Broker
from kappawatt.bus.connect import connect
from kappawatt.bus.interface import BusOptions, Outgoing
from kappawatt.bus.reading import ends_of, read_span
from kappawatt.errors import BatchUnreadable
from tests.bus_contract import World, new_group, partitions, poll, publish, read, until
from tests.damaged import CODECS, damage
from tests.integration.test_kafka_bus import CLIENTS, world_at

BATCHES = ("checksum", *CODECS)


@pytest.fixture(params=CLIENTS)
def world(kafka_address: str, request: pytest.FixtureRequest) -> Iterator[World]:
    world = world_at(kafka_address, request.param)
    yield world
    world.close()


class Transactions:
    """Publishes to partition 0 in transactions."""

    def __init__(self, address: str, topic: str) -> None:
        self._topic = topic
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": address, "transactional.id": uuid.uuid4().hex, "log_level": 2}
        )
        self._producer.init_transactions()

    def begin(self, *values: bytes) -> None:
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(self._topic, value, partition=0)
        self._producer.flush()

    def commit(self, *values: bytes) -> None:
        self.begin(*values)
        self._producer.commit_transaction()

    def abort(self, *values: bytes) -> None:
        self.begin(*values)
        self._producer.abort_transaction()

    def abort_open(self) -> None:
        self._producer.abort_transaction()


@pytest.fixture
def single(world: World) -> str:
    return world.topic(partitions=1).name


@pytest.fixture
def transactions(kafka_address: str, single: str) -> Transactions:
    return Transactions(kafka_address, single)


def test_what_was_aborted_is_never_read(world: World, single: str, transactions: Transactions) -> None:
    bus = world.bus()
    transactions.abort(b"aborted")
    transactions.commit(b"committed")
    member, reader = world.keep(bus.consumer([single], new_group())), world.keep(bus.reader([single], {}))

    assert [message.value for message in read(member, 1) + read(reader, 1)] == [b"committed", b"committed"]
    assert poll(member) + poll(reader) == []


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_marker_as_the_last_record_keeps_nobody_waiting(
    world: World, single: str, transactions: Transactions, end: str
) -> None:
    bus, group = world.bus(), new_group()
    transactions.commit(b"first")
    getattr(transactions, end)(b"second")
    wanted = 2 if end == "commit" else 1
    member = world.keep(bus.consumer([single], group))
    read(member, wanted)

    until(lambda: sum(member.lag().values()) == 0, member)
    member.commit()
    spans = [message for polled in read_span(bus, [single], {}, idle_seconds=5) for message in polled]

    assert member.positions() == ends_of(bus, [single]) == {(single, 0): 4}
    assert bus.committed(group, single) == {0: 4}
    assert sum(map(len, spans)) == wanted


def test_a_transaction_under_way_is_no_lag_and_ends_what_can_be_read(
    world: World, single: str, transactions: Transactions
) -> None:
    bus = world.bus()
    transactions.commit(b"first")
    member = world.keep(bus.consumer([single], new_group()))
    read(member, 1)
    transactions.begin(b"open")

    until(lambda: sum(member.lag().values()) == 0, member)
    spans = [message for polled in read_span(bus, [single], {}, idle_seconds=5) for message in polled]
    transactions.abort_open()

    assert sum(map(len, spans)) == 1
    until(lambda: member.positions() == {(single, 0): 4}, member)


def test_blocks_that_follow_each_other_say_so_over_a_marker(
    world: World, single: str, transactions: Transactions
) -> None:
    reader = world.keep(world.bus().reader([single], {}))
    begun = []
    for n in range(3):
        transactions.commit(str(n).encode())
        until(lambda: bool(polled := reader.poll(0.2)) and not begun.append((polled[0].begin, polled[0].next_offset)))
        until(lambda n=n: reader.positions()[single, 0] == 2 * n + 2, reader)  # type: ignore[misc]

    assert begun == [(0, 1), (2, 3), (4, 5)]


def test_lag_is_asked_for_and_not_remembered(world: World, single: str) -> None:
    bus = world.bus()
    member = world.keep(bus.consumer([single], new_group()))
    until(lambda: bool(member.positions()), member)

    publish(world, bus, [Outgoing(single, b"unpolled")])

    assert member.lag() == {(single, 0): 1}


def test_partitions_that_were_added_are_read_by_all(world: World, kafka_address: str) -> None:
    topic, bus = world.topic(partitions=1).name, world.bus()
    members = [world.keep(bus.consumer([topic], group)) for group in (new_group(), new_group())]
    reader, producer = world.keep(bus.reader([topic], {})), world.keep(bus.producer())
    until(lambda: all(member.positions() for member in members), *members, reader)
    cluster: Any = admin.AdminClient({"bootstrap.servers": kafka_address})

    cluster.create_partitions([admin.NewPartitions(topic, 3)])[topic].result()  # type: ignore[attr-defined]
    until(lambda: len(bus.offsets(topic)) == 3)
    publish(world, world.bus(), [Outgoing(topic, b"new", partition=2)])

    until(lambda: all(len(consumer.positions()) == 3 for consumer in (*members, reader)), *members, reader)
    until(lambda: all(consumer.positions()[topic, 2] == 1 for consumer in (*members, reader)), *members, reader)
    producer.publish([Outgoing(topic, b"newer", partition=1)])
    until(lambda: all(consumer.positions()[topic, 1] == 1 for consumer in (*members, reader)), *members, reader)


def test_a_member_that_stands_outside_its_group_notices_and_joins_again(world: World) -> None:
    topic, bus, group = world.topic().name, world.bus(), new_group()
    member: Any = world.keep(bus.consumer([topic], group))
    until(lambda: len(partitions(member)) == 4, member)

    member._client.unsubscribe()  # as after a rebalance that the client lost: no word, no message, no lag
    until(lambda: not member.positions(), member)

    until(lambda: len(partitions(member)) == 4, member)
    publish(world, bus, [Outgoing(topic, b"after", partition=p) for p in range(4)])
    read(member, 4)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, dict[str, str]]]:
    """A node with topics of four batches of five messages, whose second (and of some the third) cannot be read."""
    with Broker(tmp_path_factory.mktemp("damaged")) as broker:
        bus = connect(f"kafka://{broker.bootstrap}")
        world = World(bus.url, BusOptions())
        topics = {how: world.topic(partitions=1).name for how in (*BATCHES, "two")}
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 500})
        for n in range(20):
            for topic in topics.values():
                producer.produce(topic, str(n).encode(), partition=0)
            if n % 5 == 4:
                producer.flush()
        world.close()
        bus.close()
        broker.stop()
        for how in BATCHES:
            damage(broker, topics[how], 5, how)
        damage(broker, topics["two"], 5, "unknown")
        damage(broker, topics["two"], 15, "checksum")
        broker.start()
        yield broker, topics


@pytest.fixture(params=CLIENTS)
def broken(damaged: tuple[Broker, dict[str, str]], request: pytest.FixtureRequest) -> Iterator[World]:
    world = world_at(damaged[0].bootstrap, request.param)
    yield world
    world.close()


@pytest.mark.parametrize("how", BATCHES)
def test_a_batch_that_cannot_be_read_is_named(broken: World, damaged: tuple[Broker, dict[str, str]], how: str) -> None:
    topic = damaged[1][how]
    member = broken.keep(broken.bus().consumer([topic], new_group()))
    before = read(member, 5)
    said = []

    for _ in range(2):  # and again, for as long as it is there
        with pytest.raises(BatchUnreadable) as caught:
            until(lambda: bool(poll(member)), member)
        said.append(caught.value)

    assert [message.value for message in before] == [b"0", b"1", b"2", b"3", b"4"]
    assert {(error.topic, error.partition, error.offset) for error in said} == {(topic, 0, 5)}
    assert str(said[0]).startswith(f"{topic}[0]@5 cannot be read: ")


@pytest.mark.parametrize("how", [*BATCHES, "two"])
@pytest.mark.parametrize("kind", ["member", "reader"])
def test_a_batch_that_cannot_be_read_is_left_out_when_told_so(
    broken: World, damaged: tuple[Broker, dict[str, str]], how: str, kind: str
) -> None:
    topic, skipped = damaged[1][how], []
    bus = broken.bus(skip_unreadable=True, skipped=lambda *where: skipped.append(where))
    consumer = broken.keep(bus.consumer([topic], new_group()) if kind == "member" else bus.reader([topic], {}))

    count = 10 if how == "two" else 15
    found = read(consumer, count)
    until(lambda: sum(consumer.lag().values()) == 0, consumer)

    assert [int(message.value) for message in found] == [n for n in range(20) if not 5 <= n < 10][:count]
    assert skipped == [(topic, 0)] * (2 if how == "two" else 1)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("client", CLIENTS)
def test_both_clients_read_each_codec(kafka_address: str, client: str, codec: str, tmp_path: Path) -> None:
    world = world_at(kafka_address, client)
    topic = world.topic().name
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka_address, "compression.type": codec})
    values = [bytes([n]) * 2000 for n in range(20)]
    for value in values:
        producer.produce(topic, value, b"one")
    producer.flush()

    found = read(world.keep(world.bus().reader([topic], {})), 20)

    world.close()
    assert [message.value for message in found] == values
