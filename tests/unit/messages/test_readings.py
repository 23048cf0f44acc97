"""Content types of messages: the bus reads what HTTP reads."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from kappawatt.bus.interface import Headers, Records
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.codec import decode
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON, content_type_of
from kappawatt.messages.readings import by_content_type, content_type, decode_records
from kappawatt.streams.plant import READING as SCHEMA

ROW = b'{"ambient_temperature":14.96,"exhaust_vacuum":41.76,"ambient_pressure":1024.07,"relative_humidity":73.17}'
HEAD = b"ambient_temperature,exhaust_vacuum,ambient_pressure,relative_humidity\n"
TABLE = HEAD + b"14.96,41.76,1024.07,73.17\n"
MARK = b"\xef\xbb\xbf"
TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


def named(kind: str) -> Headers:
    return (("content-type", kind.encode()), TRACE)


def records(*messages: tuple[Headers, bytes]) -> Records:
    n = len(messages)
    headers, values = [h for h, _ in messages], [v for _, v in messages]
    return Records("plant.readings", 0, range(n), [0] * n, [None] * n, values, headers)


WRITTEN = {
    JSON: ("application/json; charset=utf-8", "Application/JSON", " application/json ;q=1", "APPLICATION/JSON"),
    NDJSON: (
        "application/jsonlines",
        "application/x-ndjson; charset=utf-8",
        "Application/JsonLines",
        "application/jsonl",
    ),
    CSV: ("text/csv; header=present", "TEXT/CSV", "application/csv"),
}
BODIES = {JSON: ROW, NDJSON: ROW + b"\n" + ROW, CSV: TABLE}


@pytest.mark.parametrize(("kind", "written"), [(kind, w) for kind, ws in WRITTEN.items() for w in ws])
@pytest.mark.parametrize("mark", [b"", MARK], ids=["plain", "marked"])
def test_a_content_type_is_read_on_the_bus_as_on_http(kind: str, written: str, mark: bytes) -> None:
    body = mark + BODIES[kind]

    http = decode(body, content_type_of(written), SCHEMA).batch
    bus = decode_records([records((named(written), body))], content_type(named(written), body), SCHEMA).batch

    assert len(http) == len(bus) >= 1
    assert http.valid.all()
    assert bus.valid.all()
    for name in SCHEMA.names:
        np.testing.assert_array_equal(http.columns[name], bus.columns[name])


@pytest.mark.parametrize(
    ("opening", "kind"),
    [*product((b"", MARK, b" ", b"\r\n\t", MARK + b"\n "), (JSON, CSV))],
)
def test_what_names_no_content_type_is_known_behind_marks_and_blanks(opening: bytes, kind: str) -> None:
    body = opening + BODIES[kind]

    shown = content_type((TRACE,), body)

    assert shown == kind
    assert decode_records([records(((TRACE,), body))], shown, SCHEMA).batch.valid.all()


def test_messages_under_equal_headers_that_name_no_content_type_are_told_apart() -> None:
    block = write_columns({name: np.array([15.0]) for name in ("ambient_temperature", "exhaust_vacuum")})

    groups = by_content_type([records(((TRACE,), ROW), ((TRACE,), TABLE), ((TRACE,), block), ((TRACE,), ROW))])

    assert {kind: [v for part in parts for v in part.values] for kind, parts in groups.items()} == {
        JSON: [ROW, ROW],
        CSV: [TABLE],
        ARROW: [block],
    }


def test_an_empty_content_type_names_none() -> None:
    assert content_type(named(""), ROW) == JSON


def test_the_name_of_the_header_may_be_in_capitals() -> None:
    assert content_type((("Content-Type", b"text/csv"),), ROW) == CSV


def test_a_content_type_nobody_reads_is_refused_with_those_there_are() -> None:
    headers = named("Application/XML; v=1")

    decoded = decode_records([records((headers, ROW))], content_type(headers, ROW), SCHEMA)

    rejection = decoded.batch.rejections[0]
    assert rejection.got == "application/xml"
    assert JSON in rejection.allowed
