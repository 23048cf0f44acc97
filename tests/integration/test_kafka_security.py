"""SASL_SSL with certificates and host names checked, through both clients."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kappawatt.broker import Broker
from kappawatt.broker.certificates import make_certificates
from kappawatt.bus.connect import connect
from kappawatt.bus.interface import Bus, BusOptions, Outgoing
from kappawatt.errors import BusUnreachable
from tests.bus_contract import new_group, new_topic, read

USER, PASSWORD = "sensor", "sensor-secret"
SECONDS = 8.0

pytestmark = pytest.mark.parametrize("client", ["kafka-python", "confluent"])
mechanisms = pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])


def secured(broker: Broker, client: str, **settings: str) -> Bus:
    given = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
        "ssl.ca.location": str(broker.ca_file),
    }
    given |= {name.replace("_", "."): value for name, value in settings.items()}
    used = {name: value for name, value in given.items() if value}
    return connect(f"kafka://{broker.sasl_bootstrap}", BusOptions(kafka_client=client, client=used))


def refused(bus: Bus) -> str:
    """What the bus says when asked, when published to and when polled; all within seconds."""
    producer, consumer = bus.producer(), bus.consumer(["anything"], new_group())
    said = set()
    for ask in (
        bus.topics,
        lambda: producer.publish([Outgoing("anything", b"x")]),
        lambda: consumer.poll(1.0),
    ):
        begun = time.monotonic()
        with pytest.raises(BusUnreachable) as caught:
            ask()
        assert time.monotonic() - begun < SECONDS
        said.add(str(caught.value))
    for closable in (producer, consumer, bus):
        closable.close()
    return "\n".join(said)


@mechanisms
def test_messages_pass_with_each_mechanism(broker: Broker, client: str, mechanism: str) -> None:
    bus = secured(broker, client, sasl_mechanism=mechanism)
    topic = new_topic()
    bus.ensure([topic])
    producer, consumer = bus.producer(), bus.consumer([topic.name], new_group())

    producer.publish([Outgoing(topic.name, b"secret")])
    (message,) = read(consumer, 1)

    assert message.value == b"secret"
    for closable in (producer, consumer, bus):
        closable.close()


@mechanisms
def test_a_wrong_password_is_said_with_mechanism_and_user(broker: Broker, client: str, mechanism: str) -> None:
    said = refused(secured(broker, client, sasl_mechanism=mechanism, sasl_password="wrong-one"))

    assert mechanism in said
    assert repr(USER) in said
    assert "sasl.password" in said
    assert "wrong-one" not in said


def test_a_broker_of_another_authority_is_refused(broker: Broker, client: str, tmp_path: Path) -> None:
    make_certificates(tmp_path)

    said = refused(secured(broker, client, ssl_ca_location=str(tmp_path / "ca.pem")))

    assert "ssl.ca.location" in said


def test_a_secret_is_read_from_a_file(broker: Broker, client: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    bus = secured(broker, client, **{"sasl.password": "", "sasl.password.file": str(secret)})

    assert isinstance(bus.topics(), dict)
    bus.close()
