"""Readings in other systems' envelopes have the values they have alone, and broken envelopes say what is wrong."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from flask import Flask

from kappawatt.bus.interface import Headers, Records
from kappawatt.cli.main import main
from kappawatt.columns.batch import Rejection
from kappawatt.columns.budget import STANDARD
from kappawatt.columns.codec import decode
from kappawatt.columns.content import ARROW, JSON
from kappawatt.deploy.aws.lambda_function import make_handler
from kappawatt.errors import SettingInvalid
from kappawatt.messages.dead_letters import dead_letter_message
from kappawatt.messages.envelopes import BARE
from kappawatt.messages.portions import portions
from kappawatt.messages.readings import decoded_messages, reading_messages
from kappawatt.serving.consume import consume
from kappawatt.serving.server.server import serve
from kappawatt.serving.service import find_service
from kappawatt.settings import ENVELOPES, Settings
from kappawatt.streams.plant import READING as SCHEMA
from kappawatt.streams.plant import STREAM
from tests.hostile.arrow_bodies import of as arrow

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
    "structured event of another JSON": (
        "cloudevents",
        STRUCTURED,
        text(event(datacontenttype="application/vnd.plant+json; charset=utf-8", data=OTHER)),
        [OTHER],
    ),
    "structured event of JSON as text": (
        "cloudevents",
        STRUCTURED,
        text(event(datacontenttype="text/json", data=OTHER)),
        [OTHER],
    ),
    "structured event with nulls": (
        "cloudevents",
        STRUCTURED,
        text(event(datacontenttype=None, data_base64=None, time=None, data=OTHER)),
        [OTHER],
    ),
    "binary event of another JSON": (
        "cloudevents",
        (*BINARY, ("content-type", b"application/vnd.plant+json")),
        text(OTHER),
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
    "binary event, older": ("cloudevents", (("ce_specversion", b"0.3"), *BINARY[1:]), text(ROW), "ce_specversion"),
    "structured event without a source": ("cloudevents", STRUCTURED, text(event(source="", data=ROW)), "source"),
    "structured event, older": ("cloudevents", STRUCTURED, text(event(specversion="0.3", data=ROW)), "specversion"),
    "structured event without data": ("cloudevents", STRUCTURED, text(EVENT), "data"),
    "structured event of XML": ("cloudevents", STRUCTURED, text(event(datacontenttype="a/xml")), "datacontenttype"),
    "structured event of bad base64": ("cloudevents", STRUCTURED, text(event(data_base64="%")), "data_base64"),
    "structured event, a number": ("cloudevents", STRUCTURED, b"1", "body"),
    "empty batch": ("cloudevents", BATCH, b"[]", "body"),
    "structured event with data twice": (
        "cloudevents", STRUCTURED, text(event(data=ROW))[:-1] + b', "data": ' + text(ROW) + b"}", "data"
    ),
    "connect with its payload twice": (
        "connect", (), text(CONNECT)[:-1] + b', "payload": ' + text(ROW) + b"}", "payload"
    ),
    "connect without a payload": ("connect", (), text({"schema": None}), "payload"),
    "connect without a schema": ("connect", (), text({"payload": ROW}), "schema"),
    "connect, a tombstone": ("connect", (), text({"schema": None, "payload": None}), "payload"),
    "a row alone in connect": ("connect", (), text(ROW), "schema"),
    "registry without its frame": ("registry", (), text(ROW), "frame"),
    "registry cut short": ("registry", (), b"\0\0\0", "frame"),
    "registry of Avro": ("registry", (), b"\0\0\0\0\1\x02\x04", "body"),
    "nothing": ("connect", (), b"", "body"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_envelope_names_its_field_and_no_other(case: str) -> None:
    envelope, headers, value, field = BROKEN[case]

    found = refusals(wrapped(envelope, (headers, value)))

    assert [named for _, named, _ in found] == [field]


def test_what_debezium_has_inside_of_connect_is_no_row() -> None:
    change = text({"schema": None, "payload": {"before": None, "after": ROW, "op": "c"}})

    assert {"before", "after", "op"} <= {field for _, field, _ in refusals(wrapped("connect", ((), change)))}


def test_a_row_inside_that_breaks_the_schema_is_named_as_if_it_came_alone() -> None:
    bad = text({"schema": None, "payload": ROW | {"relative_humidity": 300}})

    ((code, field, _),) = refusals(wrapped("connect", ((), bad)))

    assert (code, field) == ("out_of_range", "relative_humidity")


def test_messages_keep_their_places_beside_broken_ones() -> None:
    good, bad = ((), text(CONNECT)), ((), b"{")

    found = rows_of(wrapped("connect", good, bad, good))

    assert [message for message, _ in found] == [0, 2]


def packed(data: bytes, kind: str = ARROW) -> Any:
    """An event with its data in base64."""
    return event(datacontenttype=kind, data_base64=base64.b64encode(data).decode())


def zeros(rows: int) -> bytes:
    """So many rows in few bytes."""
    return arrow(**{name: pa.array(np.full(rows, value)) for name, value in ROW.items()})


def test_all_events_of_a_message_have_the_rows_that_one_body_may_have() -> None:
    some = STANDARD.rows // 2

    within, beyond = (
        wrapped("cloudevents", (BATCH, text([packed(zeros(n)), packed(zeros(some))]))) for n in (some, some + 1)
    )

    assert len(rows_of(within)) == STANDARD.rows
    code, field, message = refusals(beyond)[0]
    assert (code, field) == ("malformed", "body")
    assert f"{STANDARD.rows:,} rows in one body" in message


def test_all_events_of_a_message_have_the_reasons_of_one() -> None:
    for bad in (ROW | {"relative_humidity": 300}, [ROW | {"relative_humidity": 300}]):
        message = (BATCH, text([event(data=bad)] * 300))
        ((_, batch, _),) = decoded_messages(wrapped("cloudevents", message), SCHEMA)

        assert (len(batch), len(batch.rejections), batch.unlisted) == (300, 100, {"out_of_range": 200})


def test_events_whose_rows_take_more_than_a_message_may_are_refused() -> None:
    many = [event(data=[{}])] * 9_000

    _, field, message = refusals(wrapped("cloudevents", (BATCH, text(many))))[0]

    assert field == "body"
    assert "events whose rows take" in message


@pytest.mark.parametrize(
    "inside",
    [
        packed(zeros(150_000)),
        packed(b"1\n" * 80_000, "text/csv"),
        event(datacontenttype="text/csv", data="1\n" * 80_000),
    ],
    ids=["Arrow", "CSV in base64", "CSV"],
)
def test_a_poll_is_cut_by_what_is_inside_of_events(inside: Any) -> None:
    polled = wrapped("cloudevents", *[(STRUCTURED, text(inside))] * 4)

    found = [[len(records) for records in portion] for portion in portions([polled])]

    assert found == [[1]] * 4


def test_a_topic_without_a_setting_opens_nothing() -> None:
    assert rows_of(wrapped("", ((), text(CONNECT)))) == []


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("rows", [1, 2])
def test_what_kappawatt_writes_itself_is_read_bare_beside_what_is_wrapped(envelope: str, rows: int) -> None:
    batch = decode(text([ROW] * rows), JSON, SCHEMA).batch
    sent = reading_messages(STREAM, batch, "plant-1", block_rows=2)

    found = rows_of(wrapped(envelope, *((message.headers, message.value) for message in sent)))

    assert len(found) == rows


def test_the_dead_letter_of_a_bare_message_names_no_envelope() -> None:
    records = wrapped("connect", ((BARE,), b"{"), ((), b"{"))
    refused = [Rejection(0, "malformed", None, None, "rows")]

    letters = [json.loads(dead_letter_message("t.dead", records, at, refused, "m", "1").value) for at in (0, 1)]

    assert [letter.get("envelope") for letter in letters] == [None, "connect"]


@pytest.mark.parametrize(
    ("text_", "allowed"),
    [
        ("plant.readings=avro", "an envelope being cloudevents, connect, registry"),
        ("plant.readings", "an envelope being"),
        ("=connect", "an envelope being"),
        ("load.readings=connect,load.readings=registry", "each topic once: load.readings is there twice"),
    ],
)
def test_an_envelope_that_cannot_be_is_refused_with_what_is_allowed(text_: str, allowed: str) -> None:
    with pytest.raises(SettingInvalid, match=rf"^KAPPAWATT_ENVELOPES: got '{text_}', allowed .*{allowed}"):
        Settings.read({"KAPPAWATT_ENVELOPES": text_})


@pytest.mark.parametrize("topic", ["plant.readngs", "plant/readings", "plant.predictions", "plant.readings.dead"])
def test_an_envelope_for_a_topic_without_readings_stops_every_process_that_reads(topic: str, tmp_path: Path) -> None:
    environ = {"KAPPAWATT_ENVELOPES": f"{topic}=connect", "KAPPAWATT_BUS": f"embedded:{tmp_path}/bus.sqlite"}
    settings = Settings.read(environ)
    said = re.escape(f"KAPPAWATT_ENVELOPES: topic: got {topic!r}, allowed plant.readings, load.readings, ")

    with pytest.raises(SettingInvalid, match=said):
        consume(find_service("plant-power"), settings)
    with pytest.raises(SettingInvalid, match=said):
        serve(find_service("plant-power"), settings, lambda: Flask("never"))
    with pytest.raises(SettingInvalid, match=said):
        make_handler(environ | {"KAPPAWATT_SERVICE": "plant-power"})
    replay = CliRunner().invoke(main, ["replay", "plant-power", "--to", "plant.again"], env=environ)
    assert re.search(said, replay.output)


def test_envelopes_are_read_by_topic() -> None:
    read = Settings.read({"KAPPAWATT_ENVELOPES": "plant.readings=cloudevents, load.readings=connect"})

    assert read.envelopes == {"plant.readings": "cloudevents", "load.readings": "connect"}
