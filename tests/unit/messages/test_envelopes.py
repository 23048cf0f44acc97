"""Readings in other systems' envelopes have the values they have alone, and broken envelopes say what is wrong."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from kappawatt.bus.interface import Headers, Records
from kappawatt.columns.codec import decode
from kappawatt.columns.content import JSON
from kappawatt.messages.readings import decoded_messages
from kappawatt.settings import Settings
from kappawatt.streams.plant import READING as SCHEMA

ROW = {"ambient_temperature": 14.96, "exhaust_vacuum": 41.76, "ambient_pressure": 1024.07, "relative_humidity": 73.17}
OTHER = ROW | {"ambient_temperature": 0.1 + 0.2, "event_time": "2026-01-01T00:00:00.123Z"}
CSV = "14.96,41.76,1024.07,73.17\n"
EVENT = {"specversion": "1.0", "id": "1", "source": "/plant/1", "type": "reading"}
STRUCTURED: Headers = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
BATCH: Headers = (("content-type", b"application/cloudevents-batch+json"),)
BINARY: Headers = tuple((f"ce_{name}", value.encode()) for name, value in EVENT.items())


def event(**more: Any) -> Any:
    return EVENT | more


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def wrapped(envelope: str, *messages: tuple[Headers, bytes]) -> Records:
    n = len(messages)
    headers, values = [h for h, _ in messages], [v for _, v in messages]
    return Records("t", 0, range(n), [0] * n, [None] * n, values, headers, envelope=envelope)


def rows_of(records: Records) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for message, batch, rows in decoded_messages(records, SCHEMA):
        for row in rows[batch.valid[rows]].tolist():
            found.append((message, {name: column[row] for name, column in batch.columns.items()}))
    return found


def refusals(records: Records) -> list[tuple[str, str | None, str]]:
    (found,) = [batch for _, batch, _ in decoded_messages(records, SCHEMA)]
    return [(r.code, r.field, r.message) for r in found.rejections]


def alone(*rows: Any) -> list[dict[str, Any]]:
    columns = decode(text(list(rows)), JSON, SCHEMA).batch.columns
    return [{name: column[i] for name, column in columns.items()} for i in range(len(rows))]


CONNECT = {"schema": {"type": "struct"}, "payload": OTHER}
CASES: dict[str, tuple[str, Headers, bytes, list[Any]]] = {
    "binary event": ("cloudevents", BINARY, text(OTHER), [OTHER]),
    "binary event of CSV": ("cloudevents", (*BINARY, ("content-type", b"text/csv")), CSV.encode(), [ROW]),
    "structured event": ("cloudevents", STRUCTURED, text(event(data=OTHER)), [OTHER]),
    "structured event, newer": ("cloudevents", STRUCTURED, text(event(data=ROW, specversion="1.1", time="x")), [ROW]),
    "structured event of rows": ("cloudevents", STRUCTURED, text(event(data=[ROW, OTHER])), [ROW, OTHER]),
    "structured event of columns": (
        "cloudevents",
        STRUCTURED,
        text(event(data={"columns": {name: [value] for name, value in ROW.items()}})),
        [ROW],
    ),
    "structured event of CSV": (
        "cloudevents",
        STRUCTURED,
        text(event(datacontenttype="text/csv; header=absent", data=CSV)),
        [ROW],
    ),
    "structured event of bytes": (
        "cloudevents",
        STRUCTURED,
        text(event(data_base64=base64.b64encode(text(OTHER)).decode())),
        [OTHER],
    ),
    "batch of events": ("cloudevents", BATCH, text([event(data=ROW), event(data=[OTHER])]), [ROW, OTHER]),
    "connect": ("connect", (), text(CONNECT), [OTHER]),
    "connect without a schema": ("connect", (), text({"schema": None, "payload": ROW}), [ROW]),
    "connect of rows": ("connect", (), text({"schema": None, "payload": [ROW, OTHER]}), [ROW, OTHER]),
    "registry": ("registry", (("content-type", b"application/json"),), b"\0\0\0\0\x2a" + text(OTHER), [OTHER]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_inside_has_the_values_it_has_alone(case: str) -> None:
    envelope, headers, value, rows = CASES[case]

    found = [row for _, row in rows_of(wrapped(envelope, (headers, value)))]

    assert len(found) == len(rows)
    for got, expected in zip(found, alone(*rows), strict=True):
        for name, value_ in got.items():
            np.testing.assert_array_equal(value_, expected[name])


BROKEN: dict[str, tuple[str, Headers, bytes, str | None]] = {
    "no event": ("cloudevents", (), text(ROW), "ce_specversion"),
    "binary event without id": ("cloudevents", tuple(h for h in BINARY if h[0] != "ce_id"), text(ROW), "ce_id"),
    "structured event without a source": ("cloudevents", STRUCTURED, text(event(source="", data=ROW)), "source"),
    "structured event, older": ("cloudevents", STRUCTURED, text(event(specversion="0.3", data=ROW)), "specversion"),
    "structured event without data": ("cloudevents", STRUCTURED, text(EVENT), "data"),
    "structured event of XML": ("cloudevents", STRUCTURED, text(event(datacontenttype="a/xml")), "datacontenttype"),
    "structured event of bad base64": ("cloudevents", STRUCTURED, text(event(data_base64="%")), "data_base64"),
    "structured event, a number": ("cloudevents", STRUCTURED, b"1", "body"),
    "empty batch": ("cloudevents", BATCH, b"[]", "body"),
    "connect without a payload": ("connect", (), text({"schema": None}), "payload"),
    "connect without a schema": ("connect", (), text({"payload": ROW}), "schema"),
    "connect, a tombstone": ("connect", (), text({"schema": None, "payload": None}), "payload"),
    "debezium": ("connect", (), text({"schema": None, "payload": {"before": None, "after": ROW, "op": "c"}}), "before"),
    "a row alone in connect": ("connect", (), text(ROW), "schema"),
    "registry without its frame": ("registry", (), text(ROW), "frame"),
    "registry cut short": ("registry", (), b"\0\0\0", "frame"),
    "registry of Avro": ("registry", (), b"\0\0\0\0\1\x02\x04", "body"),
    "nothing": ("connect", (), b"", "body"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_envelope_names_its_field(case: str) -> None:
    envelope, headers, value, field = BROKEN[case]

    found = refusals(wrapped(envelope, (headers, value)))

    assert found
    assert field in {named for _, named, _ in found}


def test_a_row_inside_that_breaks_the_schema_is_named_as_if_it_came_alone() -> None:
    bad = text({"schema": None, "payload": ROW | {"relative_humidity": 300}})

    ((code, field, _),) = refusals(wrapped("connect", ((), bad)))

    assert (code, field) == ("out_of_range", "relative_humidity")


def test_messages_keep_their_places_beside_broken_ones() -> None:
    good, bad = ((), text(CONNECT)), ((), b"{")

    found = rows_of(wrapped("connect", good, bad, good))

    assert [message for message, _ in found] == [0, 2]


def test_a_topic_without_a_setting_opens_nothing() -> None:
    assert rows_of(wrapped("", ((), text(CONNECT)))) == []


@pytest.mark.parametrize("text_", ["plant.readings=avro", "plant.readings", "=connect", "a=connect,a=registry"])
def test_an_envelope_that_cannot_be_is_refused(text_: str) -> None:
    with pytest.raises(Exception, match="KAPPAWATT_ENVELOPES: got"):
        Settings.read({"KAPPAWATT_ENVELOPES": text_})


def test_envelopes_are_read_by_topic() -> None:
    read = Settings.read({"KAPPAWATT_ENVELOPES": "plant.readings=cloudevents, load.readings=connect"})

    assert read.envelopes == {"plant.readings": "cloudevents", "load.readings": "connect"}
