"""Keys that Kafka Connect or a schema registry has wrapped name the series they name alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kappawatt.bus import Outgoing
from kappawatt.bus.connect import connect_as
from kappawatt.bus.wrapped_keys import MOST, bare_keys
from kappawatt.settings import Settings
from kappawatt.streams.meter import STREAM

CONNECT = b'{"schema": {"type": "string", "optional": false}, "payload": "m1"}'
REGISTRY = b'\0\0\0\0\7"m1"'
LONG = b'{"schema": "' + b"x" * MOST + b'", "payload": "m1"}'


@pytest.mark.parametrize(
    ("envelope", "key", "name"),
    [
        ("connect", CONNECT, b"m1"),
        ("connect", b'{"schema":{"type":"int32"},"payload":17}', b"17"),
        ("connect", b'{"schema":null,"payload":null}', None),
        ("registry", REGISTRY, b"m1"),
        ("registry", b"\0\0\0\0\0077", b"7"),
    ],
)
def test_what_is_wrapped_is_opened(envelope: str, key: bytes, name: bytes | None) -> None:
    assert bare_keys([key, None, key], envelope) == [name, None, name]


@pytest.mark.parametrize(
    "key", [b"m1", b"{", b"{}", b"", b"\0", b"\0\0\0\0\7", b"\0\0\0\0\7\4m1", b'"m1"', b"\xff", LONG]
)
@pytest.mark.parametrize("envelope", ["", "cloudevents", "connect", "registry"])
def test_what_is_not_wrapped_is_the_name_itself(envelope: str, key: bytes) -> None:
    assert bare_keys([key], envelope) == [key]


@pytest.mark.parametrize(
    "key", [b'{"schema":{},"payload":{"id":"m1"}}', b'{"schema":{},"payload":true}', b'{"payload":"m1"}']
)
def test_what_is_inside_and_no_name_stays_wrapped(key: bytes) -> None:
    assert bare_keys([key], "connect") == [key]


@pytest.mark.parametrize(("envelope", "key"), [("connect", CONNECT), ("registry", REGISTRY), ("", b"m1")])
def test_a_reader_of_the_topic_sees_the_name(settings: Settings, envelope: str, key: bytes) -> None:
    topic = STREAM.readings
    bus = connect_as(replace(settings, envelopes={topic.name: envelope} if envelope else {}))
    bus.ensure([topic])
    producer = bus.producer()
    producer.publish([Outgoing(topic.name, b"{}", key)])
    producer.close()
    reader = bus.reader([topic.name], {})

    [records] = reader.poll(5.0)
    reader.close()

    assert list(records.keys) == [b"m1"]
