"""What stands around readings and answers on the bus: written and read again, and refused where it is out of bounds."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.bus.interface import Outgoing, Records
from kappawatt.columns.arrow import read_columns
from kappawatt.columns.batch import Rejection
from kappawatt.columns.codec import decode
from kappawatt.columns.content import ARROW, CSV, JSON
from kappawatt.columns.values import parse_microseconds
from kappawatt.messages.checked import (
    FLAG,
    LONGEST_WORDS,
    MOMENT,
    NAME,
    NUMBER,
    OFFSET,
    PARTITION,
    SCALAR,
    WHOLE,
    WORDS,
    Malformed,
    checked,
    maybe,
    numbers,
)
from kappawatt.messages.dead_letters import dead_letter_message, read_dead_letters
from kappawatt.messages.envelopes import BARE
from kappawatt.messages.keys import key_text
from kappawatt.messages.predictions import Prediction, prediction_block, prediction_event, read_predictions
from kappawatt.messages.readings import (
    by_content_type,
    carried_headers,
    content_type,
    decode_records,
    decoded_messages,
    reading_messages,
    rejections_of,
)
from kappawatt.streams.load import STREAM as LOAD
from kappawatt.streams.plant import READING, STREAM
from tests.fakes import EXAMPLE

HEADERS = (("content-type", JSON.encode()),)


def records(*values: bytes, keys: Sequence[bytes | None] = (), headers: Any = None, topic: str = "t") -> Records:
    n = len(values)
    return Records(
        topic=topic,
        partition=3,
        offsets=list(range(10, 10 + n)),
        keys=list(keys) or [b"k"] * n,
        values=list(values),
        headers=headers or [HEADERS] * n,
        timestamps=list(range(1_700_000_000_000, 1_700_000_000_000 + n)),
        log="log",
    )


def arrived(messages: Sequence[Outgoing]) -> Records:
    return records(*(m.value for m in messages), keys=[m.key for m in messages], headers=[m.headers for m in messages])


BOUNDS: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("name", NAME, ["a", "a" * 400], ["", "a" * 401, 1, None]),
    ("words", WORDS, ["", "a" * LONGEST_WORDS], ["a" * (LONGEST_WORDS + 1), None]),
    ("partition", PARTITION, [0, 2**31 - 1], [-1, 2**31, 1.0, True, None]),
    ("offset", OFFSET, [0, 2**63 - 1], [-1, 2**63, 1.0, True]),
    ("whole", WHOLE, [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63, 1.5]),
    ("number", NUMBER, [0, -1.5], [math.nan, math.inf, True, "1", None]),
    ("flag", FLAG, [True, False], [0, 1, None]),
    (
        "moment",
        MOMENT,
        ["1970-01-01T00:00:00Z", "2262-04-11T23:47:16.854774Z"],
        ["2026-01-01", "1969-12-31T23:59:59.999Z", "2262-04-11T23:47:16.854775Z", 1],
    ),
    ("scalar", SCALAR, ["", "a" * LONGEST_WORDS, None, True, 1, 1.5], ["a" * (LONGEST_WORDS + 1), [], {}, math.nan]),
    ("maybe", maybe(NAME), [None, "a"], ["", 1]),
    ("numbers", numbers(2), [[1, 2.5]], [[1], [1, 2, 3], [1, math.nan], [1, None], (1, 2), None]),
]


@pytest.mark.parametrize(("part", "right", "wrong"), [b[1:] for b in BOUNDS], ids=[b[0] for b in BOUNDS])
def test_a_part_takes_what_is_in_its_bounds_and_nothing_beside(part: Any, right: list[Any], wrong: list[Any]) -> None:
    for value in right:
        assert checked({"x": value}, {"x": part}, {}) == {"x": value}
    for value in wrong:
        with pytest.raises(Malformed, match=r"^x: got .*, allowed "):
            checked({"x": value}, {"x": part}, {})
        with pytest.raises(Malformed, match=r"^x: got .*, allowed "):
            checked({"x": value}, {}, {"x": part})


def test_a_field_that_is_needed_has_to_be_there_and_an_optional_one_need_not() -> None:
    with pytest.raises(Malformed, match=r"^x: got nothing, allowed text of 1 to 400"):
        checked({}, {"x": NAME}, {"y": NAME})

    assert checked({"x": "a"}, {"x": NAME}, {"y": NAME}) == {"x": "a"}


def test_of_unknown_fields_scalars_stay_and_what_is_nested_goes_or_is_refused() -> None:
    document = {"x": "a", "y": 1, "z": [1], "n" * 401: 1}

    assert checked(document, {"x": NAME}, {}) == {"x": "a", "y": 1}
    with pytest.raises(Malformed, match=r"^'z': got a list of 1, allowed text"):
        checked(document, {"x": NAME}, {}, nested=False)
    with pytest.raises(Malformed, match=r"^'z': got an object of 0, allowed text"):
        checked({"z": {}}, {}, {}, nested=False)
    assert len(checked({str(i): i for i in range(200)}, {}, {})) == 200
    with pytest.raises(Malformed, match="document: got 201 fields, allowed 200"):
        checked({str(i): i for i in range(201)}, {}, {})


def refusal(row: int = 0, **changes: Any) -> Rejection:
    given = {"code": "out_of_range", "field": "exhaust_vacuum", "got": 812.0, "allowed": "a number"} | changes
    return Rejection(row, given["code"], given["field"], given["got"], given["allowed"])


def letter(value: bytes, rejections: Sequence[Rejection] = (refusal(),), key: bytes | None = b"plant-1") -> Any:
    message = dead_letter_message("t.dead", records(b"", value, keys=[b"", key]), 1, rejections, "m", "v")
    assert len(message.value) < 4 << 20
    assert message.topic == "t.dead"
    (document,) = read_dead_letters([arrived([message])])
    return document, message


def test_a_dead_letter_says_which_message_it_was_and_why() -> None:
    document, message = letter(b'{"a":1}', [refusal(2), refusal(2, field="x"), refusal(5)])

    assert message.key == b"plant-1"
    assert document.pop("errors")[1] == {
        "row": 2, "code": "out_of_range", "field": "x", "got": 812.0, "allowed": "a number",
        "message": refusal(2, field="x").message,
    }  # fmt: skip
    assert document == {
        "id": "t:log-3-11", "reason": "out_of_range", "field": "exhaust_vacuum", "got": 812.0, "allowed": "a number",
        "message": refusal().message, "rejected_rows": 2, "topic": "t", "log": "log", "partition": 3, "offset": 11,
        "timestamp": 1_700_000_000_001, "key": "plant-1", "content_type": JSON, "model": "m", "version": "v",
        "original": '{"a":1}', "published": 1_700_000_000_000,
    }  # fmt: skip


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"k" * 1000, b"k" * 5000])
def test_a_dead_letter_is_written_under_whatever_key(key: bytes | None) -> None:
    document, message = letter(b"{}", key=key)

    assert message.key == (None if key is None else key[:1000])
    assert document["key"] == (None if key is None else key_text(key)[:400])


def test_an_original_that_is_no_text_or_takes_much_room_as_text_is_in_base64() -> None:
    for value in (b"\xff\x00", b"\x00" * 600_000):
        document, _ = letter(value)
        assert base64.b64decode(document["original_base64"]) == value
        assert "original" not in document
    for value in (b"a" * 2_500_000, b"\x00" * 500_000):
        document, _ = letter(value)
        assert document["original"].encode() == value
        assert not {"original_base64", "original_bytes"} & document.keys()


def test_a_longer_original_is_cut_and_its_length_said() -> None:
    document, _ = letter(b"a" * 2_500_001)

    assert len(document["original"]) == 2_500_000
    assert document["original_bytes"] == 2_500_001


def test_so_many_reasons_are_listed_as_there_is_room_for_and_all_are_counted() -> None:
    many, _ = letter(b"{}", [refusal(i) for i in range(150)])
    assert (len(many["errors"]), many["rejected_rows"]) == (100, 150)
    assert [error["row"] for error in many["errors"]] == list(range(100))

    long, _ = letter(b"{}", [refusal(i, allowed="x" * 9000, field="f" * 500) for i in range(100)])
    assert 1 < len(long["errors"]) < 100
    assert (len(long["allowed"]), len(long["field"]), len(long["message"])) == (LONGEST_WORDS, 400, LONGEST_WORDS)
    assert len(orjson.dumps(long["errors"])) <= 400_000 + 200


def test_what_is_no_dead_letter_is_left_out_and_the_next_is_read() -> None:
    good = orjson.dumps({"id": "a", "reason": "malformed"})
    bad = [b"no json", b"[]", b"{}", b'{"id":"a"}', orjson.dumps({"id": "a", "reason": "r", "errors": [[1]]}),
           orjson.dumps({"id": "a", "reason": "r", "errors": [{"x": []}]}),
           orjson.dumps({"id": "a", "reason": "r", "errors": [{}] * 101})]  # fmt: skip

    found = read_dead_letters([records(*bad, good), records(good)])

    assert [(d["id"], d["published"] - 1_700_000_000_000) for d in found] == [("a", len(bad)), ("a", 0)]
    fine = orjson.dumps({"id": "a", "reason": "r", "errors": [{"x": 1}] * 100})
    assert len(read_dead_letters([records(fine)])) == 1


def prediction(**changes: Any) -> Prediction:
    columns = {
        "event_time": np.array(["2026-01-01T00:00", "2026-01-01T00:01"], "datetime64[us]"),
        "power": np.array([450.5, np.nan]),
        "note": np.array(["a", None], dtype=object),
    }
    given = {
        "topic": "p", "key": b"plant-1", "columns": columns, "offsets": np.array([7, 8]), "rows": np.array([0, 1]),
        "source_topic": "t", "source_partition": 3, "model": "m", "version": "v", "headers": (("traceparent", b"x"),),
        "source_log": "log",
    } | changes  # fmt: skip
    return Prediction(**given)


@pytest.mark.parametrize("key", [b"plant-1", None, b"\xff"])
def test_answers_one_by_one_and_in_a_block_are_read_as_the_same(key: bytes | None) -> None:
    single, block = prediction_event(prediction(key=key)), prediction_block(prediction(key=key))

    one_by_one = read_predictions([arrived(single)])
    together = read_predictions([arrived([block])])

    places = ("published", "offset")
    assert [{k: v for k, v in d.items() if k not in places} for d in one_by_one] == [
        {k: v for k, v in d.items() if k not in places} for d in together
    ]
    assert [d["offset"] for d in one_by_one] == [10, 11]
    assert [d["offset"] for d in together] == [10, 10]
    assert one_by_one[1] == {
        "id": "t:log-3-8-1@v", "key": None if key is None else key_text(key),
        "event_time": "2026-01-01T00:01:00.000Z", "power": None, "note": None, "model": "m", "version": "v",
        "source_topic": "t", "source_log": "log", "source_partition": 3, "source_offset": 8, "source_row": 1,
        "published": 1_700_000_000_001, "topic": "t", "partition": 3, "offset": 11,
    }  # fmt: skip
    for message in (*single, block):
        assert (message.topic, message.key) == ("p", key)
        assert ("traceparent", b"x") in message.headers


def test_what_is_no_prediction_is_left_out_and_the_next_is_read() -> None:
    good = prediction_event(prediction())
    block = prediction_block(prediction())
    bad = [
        Outgoing("p", b"no json", None, HEADERS),
        Outgoing("p", b"{}", None, HEADERS),
        Outgoing("p", b'{"source_offset":1,"power":[1]}', None, HEADERS),
        Outgoing("p", block.value, None, (("content-type", ARROW.encode()),)),
        Outgoing("p", block.value[:-30], None, block.headers),
        prediction_block(prediction(offsets=np.array([-1, 8]))),
        prediction_block(prediction(offsets=np.array([1.0, 8.0]))),
        prediction_block(prediction(columns={"note": np.array(["a", "b" * (LONGEST_WORDS + 1)], dtype=object)})),
        prediction_block(prediction(columns={"event_time": np.array([1.0, 2.0])})),
        prediction_block(
            prediction(columns={"x": np.zeros(10_001)}, offsets=np.arange(10_001), rows=np.arange(10_001))
        ),
    ]

    found = read_predictions([arrived([*bad, *good, block])])

    assert [d["offset"] - 10 for d in found] == [len(bad), len(bad) + 1, len(bad) + 2, len(bad) + 2]
    whole = prediction_block(
        prediction(columns={"x": np.zeros(10_000)}, offsets=np.arange(10_000), rows=np.arange(10_000))
    )
    assert len(read_predictions([arrived([whole])])) == 10_000


@pytest.mark.parametrize(
    ("headers", "value", "kind"),
    [
        ((("content-type", b"text/csv"),), b"{", CSV),
        ((), b"\xff\xff\xff\xff..", ARROW),
        ((), b"{}", JSON),
        ((), b"[]", JSON),
        ((), b"1,2", CSV),
        ((), b"", CSV),
        ((("other", b"x"),), b"{}", JSON),
    ],
)
def test_a_messages_content_type_is_what_it_names_or_what_it_looks_like(headers: Any, value: bytes, kind: str) -> None:
    assert content_type(headers, value) == kind


def test_traces_go_on_to_the_answer_and_nothing_else_does() -> None:
    short, long = ("traceparent", b"x" * 1024), ("tracestate", b"x" * 1025)

    assert carried_headers(()) == ()
    assert carried_headers((("content-type", b"a"), short, long)) == (short,)
    assert carried_headers((short, short, short)) == (short, short)


def test_readings_of_one_key_are_events_or_blocks_and_read_back_as_they_were() -> None:
    batch = decode(orjson.dumps([EXAMPLE] * 5), JSON, READING).batch

    for block_rows, kind, messages in ((0, JSON, 5), (6, JSON, 5), (5, ARROW, 1)):
        sent = reading_messages(STREAM, batch, "plant-1", headers=(("a", b"b"),), block_rows=block_rows)
        assert len(sent) == messages
        assert {(m.key, m.topic) for m in sent} == {(b"plant-1", STREAM.readings.name)}
        assert {m.headers for m in sent} == {(("content-type", kind.encode()), BARE, ("a", b"b"))}
        found = decode_records([arrived(sent)], kind, READING).batch
        assert found.valid.tolist() == [True] * 5
        for name in EXAMPLE:
            assert found.columns[name].tolist() == [EXAMPLE[name]] * 5


def test_of_readings_only_what_is_there_goes_out() -> None:
    rows = [EXAMPLE, EXAMPLE | {"net_power": 470.0}]
    batch = decode(orjson.dumps(rows), JSON, READING).batch

    [block] = reading_messages(STREAM, batch, "plant-1", block_rows=1)
    [bare] = reading_messages(STREAM, decode(orjson.dumps(rows[:1]), JSON, READING).batch, "plant-1", block_rows=1)

    assert set(read_columns(bare.value)) == set(EXAMPLE)
    assert set(read_columns(block.value)) == {*EXAMPLE, "net_power"}

    hour = {"load_zone": "PJME", "interval_start": "2016-07-01T04:00:00Z", "load": 1.0}
    [named] = reading_messages(LOAD, decode(orjson.dumps(hour), JSON, LOAD.schema).batch, "", block_rows=1)
    assert (named.key, set(read_columns(named.value))) == (b"PJME", {"interval_start", "load"})


def test_readings_without_a_time_beside_one_that_has_one_are_of_now() -> None:
    rows = [EXAMPLE | {"event_time": "2026-03-01T00:00:00Z"}, EXAMPLE]
    batch = decode(orjson.dumps(rows), JSON, READING).batch

    before = time.time_ns() // 1_000_000
    given, absent = (
        orjson.loads(message.value)["event_time"] for message in reading_messages(STREAM, batch, "plant-1")
    )

    assert given == "2026-03-01T00:00:00.000Z"
    assert before <= parse_microseconds(absent) // 1000 <= time.time_ns() // 1_000_000


def test_a_block_has_ten_thousand_rows_at_most() -> None:
    batch = READING.check({name: np.full(20_001, value) for name, value in EXAMPLE.items()}, 20_001)

    sent = reading_messages(STREAM, batch, "plant-1")

    lengths = [len(decode(m.value, ARROW, READING).batch) for m in sent]
    assert lengths == [10_000, 10_000, 1]


MIXED = [
    (JSON, orjson.dumps(EXAMPLE)),
    (JSON, orjson.dumps([EXAMPLE, EXAMPLE | {"exhaust_vacuum": 812}])),
    (CSV, b"14.96,41.76,1024.07,73.17"),
    (JSON, b"{"),
    ("image/png", b"x"),
]


def mixed() -> Records:
    return records(*(v for _, v in MIXED), headers=[(("content-type", kind.encode()),) for kind, _ in MIXED])


def test_each_message_of_a_mixed_poll_has_its_rows_and_its_refusals() -> None:
    found = [
        (message, len(rows), batch.valid[rows].tolist(), [r.code for r in rejections_of(batch, rows)][:1])
        for message, batch, rows in decoded_messages(mixed(), READING)
    ]

    assert found == [
        (0, 1, [True], []),
        (1, 2, [True, False], ["out_of_range"]),
        (2, 1, [True], []),
        (3, 1, [False], ["malformed"]),
        (4, 1, [False], ["malformed"]),
    ]


def test_messages_are_grouped_by_content_type_in_their_order() -> None:
    same = records(b"{}", b"{}")
    groups = by_content_type([same, mixed()])

    assert list(groups) == [JSON, CSV, "image/png"]
    assert [part.offsets for part in groups[JSON]] == [[10, 11], [10, 11, 13]]
    assert groups[JSON][0] is same
    assert [part.offsets for part in groups[CSV]] == [[12]]


@pytest.mark.parametrize(("length", "is_refused"), [(200, False), (201, True)])
def test_rows_under_a_key_that_is_too_long_are_refused(length: int, is_refused: bool) -> None:
    value = orjson.dumps([EXAMPLE, EXAMPLE])
    polled = records(value, value, keys=[b"k", b"k" * length])

    found = decode_records([polled], JSON, READING)

    assert found.batch.valid.tolist() == [True, True, not is_refused, not is_refused]
    allowed = "at most 200 characters, two for each byte of a binary one"
    assert [(r.row, r.field, r.got, r.allowed) for r in found.batch.rejections] == (
        [(row, "key", f"one of {length} characters", allowed) for row in (2, 3)] if is_refused else []
    )
