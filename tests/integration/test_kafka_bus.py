"""Both Kafka clients keep the contract of every bus, and survive what happens to brokers."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kappawatt.broker import Broker
from kappawatt.bus.connect import connect
from kappawatt.bus.interface import BusOptions, Outgoing
from kappawatt.errors import BusUnreachable, DeliveryFailed, DeliveryLate, Overloaded, SettingInvalid
from tests.bus_contract import *  # noqa: F403
from tests.bus_contract import World, new_group, new_topic, numbered, publish, read_all, until

CLIENTS = ("kafka-python", "confluent")
SESSION = 6.0  # the shortest a broker allows by default


def world_at(address: str, client: str) -> World:
    options = BusOptions(session_timeout=SESSION, kafka_client=client)
    return World(f"kafka://{address}", options, {"client": {"max.poll.interval.ms": "6000"}})


@pytest.fixture(params=CLIENTS)
def world(kafka_address: str, request: pytest.FixtureRequest) -> Iterator[World]:
    world = world_at(kafka_address, request.param)
    yield world
    world.close()


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A node that tests may stop."""
    with Broker(tmp_path_factory.mktemp("fragile")) as broker:
        yield broker


@pytest.fixture(params=CLIENTS)
def shaky(fragile: Broker, request: pytest.FixtureRequest) -> Iterator[World]:
    world = world_at(fragile.bootstrap, request.param)
    yield world
    world.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_producer_and_consumer_survive_a_broker_restart(shaky: World, fragile: Broker, end: str) -> None:
    topic, bus = shaky.topic().name, shaky.bus()
    producer = shaky.keep(bus.producer())
    consumer = shaky.keep(bus.consumer([topic], new_group()))
    until(lambda: bool(consumer.positions()), consumer)
    acknowledged: set[bytes] = set()
    enough = threading.Event()

    def keep_publishing() -> None:
        n = 0
        while not enough.is_set():
            producer.publish(numbered(topic, 10, first=n), timeout=60)
            acknowledged.update(str(m).encode() for m in range(n, n + 10))
            n += 10

    with ThreadPoolExecutor() as pool:
        publishing = pool.submit(keep_publishing)
        until(lambda: len(acknowledged) > 200, consumer)
        getattr(fragile, end)()
        fragile.start()
        before = len(acknowledged)
        until(lambda: len(acknowledged) > before + 200 or publishing.done(), consumer)
        enough.set()
        publishing.result()

    read_all(shaky.keep(bus.reader([topic], {})), acknowledged)
    publish(shaky, bus, [Outgoing(topic, b"last")])
    until(lambda: any(b"last" in records.values for records in consumer.poll(0.2)))


def test_a_frozen_broker_fills_the_room_and_no_more(shaky: World, fragile: Broker) -> None:
    topic = shaky.topic().name
    producer: Any = shaky.keep(shaky.bus(max_in_flight_bytes=100_000).producer())
    producer.publish([Outgoing(topic, b"before")])
    fragile.pause()
    try:
        with pytest.raises(DeliveryLate, match=topic) as late:
            producer.publish([Outgoing(topic, bytes(90_000))], timeout=0.5)
        assert not late.value.outcome.done()

        with pytest.raises(Overloaded):
            producer.publish([Outgoing(topic, bytes(90_000))], wait=False)
    finally:
        fragile.resume()
    assert late.value.outcome.result(30)  # what was late is stored in the end
    until(lambda: producer._in_flight.used == 0)
    producer.publish([Outgoing(topic, b"after")])


def test_a_consumer_says_when_no_broker_has_answered_for_long(fragile: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("consumer", "cluster"):
        monkeypatch.setattr(f"kappawatt.bus.kafka.{module}.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("kappawatt.bus.kafka.consumer.SILENCE_SECONDS", 4.0)
    world = world_at(fragile.bootstrap, "kafka-python")
    reader = world.keep(world.bus().reader([world.topic().name], {}))
    until(lambda: reader.poll(0.1) == [] and sum(reader.lag().values()) == 0)
    for _ in range(5):
        assert reader.poll(1.0) == []  # silence alone is no failure

    fragile.pause()
    try:
        with pytest.raises(BusUnreachable, match=fragile.bootstrap):
            until(lambda: False, reader)
    finally:
        fragile.resume()

    until(lambda: reader.poll(0.1) == [])
    world.close()


@pytest.fixture
def narrow(world: World) -> str:
    """The name of a topic that takes 20 kB at once."""
    topic = replace(new_topic(partitions=1), max_message_bytes=20_000)
    world.bus().ensure([topic])
    return topic.name


def test_a_batch_that_the_broker_finds_too_large_is_decided_all_the_same(world: World, narrow: str) -> None:
    bus = world.bus()
    producer: Any = world.keep(bus.producer())
    messages = [Outgoing(narrow, random.randbytes(1000)) for _ in range(64)]

    is_split = True  # by one client; the other one says that it failed
    try:
        producer.publish(messages, timeout=10)
    except DeliveryFailed as failed:
        is_split = isinstance(failed, DeliveryLate)
    producer.publish([Outgoing(narrow, b"after")], timeout=10)

    stored = sum(known.end - known.begin for known in bus.offsets(narrow).values())
    assert stored == 65 if is_split else 1 <= stored < 65
    assert producer._in_flight.used == 0


def test_a_message_that_the_broker_finds_too_large_fails_and_others_go_on(world: World, narrow: str) -> None:
    producer: Any = world.keep(world.bus().producer())

    with pytest.raises(DeliveryFailed, match=r"(?i)too.?large") as failed:
        producer.publish([Outgoing(narrow, random.randbytes(30_000))], timeout=10)
    producer.publish([Outgoing(narrow, b"after")], timeout=10)

    assert not isinstance(failed.value, DeliveryLate)
    assert producer._in_flight.used == 0


def test_what_a_broker_never_took_is_said_to_be_given_up(
    shaky: World, fragile: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**shaky.options.client, "delivery.timeout.ms": "3000", "request.timeout.ms": "2000"}
    topic = shaky.topic().name
    producer: Any = shaky.keep(shaky.bus(client=options).producer())
    producer.publish([Outgoing(topic, b"before")])
    fragile.pause()
    try:
        with pytest.raises(DeliveryLate) as late:
            producer.publish([Outgoing(topic, b"lost")], timeout=0.5)

        for n in range(3):  # these still wait in the client when another one takes its place
            with pytest.raises(DeliveryLate):
                producer.publish([Outgoing(topic, str(n).encode())], timeout=0.3)

        assert not late.value.outcome.result(30)
    finally:
        fragile.resume()
    until(lambda: _is_published(producer, topic))
    until(lambda: producer._in_flight.used == 0)


def _is_published(producer: Any, topic: str) -> bool:
    try:
        producer.publish([Outgoing(topic, b"after")], timeout=5)
    except (DeliveryFailed, BusUnreachable):
        return False
    return True


def test_a_message_larger_than_allowed_is_refused_with_both_sizes(world: World, topic: str) -> None:
    with pytest.raises(DeliveryFailed, match=topic):
        publish(world, world.bus(), [Outgoing(topic, bytes(5_000_000))])


@pytest.mark.parametrize("client", CLIENTS)
def test_no_broker_is_said_with_its_address(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("kafka.cluster.CONNECT_SECONDS", "kafka.cluster.ANSWER_SECONDS", "confluent.cluster.ANSWER_SECONDS"):
        monkeypatch.setattr(f"kappawatt.bus.{limit}", 1.0)
    bus = connect("kafka://127.0.0.1:9", BusOptions(kafka_client=client))

    with pytest.raises(BusUnreachable, match=r"127\.0\.0\.1:9"):
        bus.topics()


def test_without_c_checksums_the_bus_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crc32c", None)

    with pytest.raises(SettingInvalid, match="crc32c"):
        connect("kafka://127.0.0.1:9")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sasl.mechnism", "PLAIN"),
        ("acks", "1"),
        ("linger.ms", "soon"),
        ("compression.type", "rar"),
        ("ssl.ca.location", "/nowhere/ca.pem"),
        ("sasl.password.file", "/nowhere/secret"),
        ("sasl.username", "without a protocol"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(client: str, name: str, value: str) -> None:
    with pytest.raises(SettingInvalid, match=name):
        connect("kafka://127.0.0.1:9", BusOptions(kafka_client=client, client={name: value}))


def test_a_broker_keeps_its_messages_over_a_restart(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        world = world_at(broker.bootstrap, "kafka-python")
        topic = world.topic().name
        publish(world, world.bus(), numbered(topic, 30))
        broker.stop()
        broker.start()

        ends = [known.end for known in world.bus().offsets(topic).values()]

        world.close()
    assert sum(ends) == 30
