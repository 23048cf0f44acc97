"""Documents of the bus: what readers return is well-formed whatever lies on a topic, and what writers write is read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.bus.interface import Headers, Records
from kappawatt.bus.topic import LARGEST_MESSAGE
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.batch import Rejection
from kappawatt.columns.content import ARROW
from kappawatt.messages.dead_letters import dead_letter_message, read_dead_letters
from kappawatt.messages.forecasts import read_documents
from kappawatt.messages.predictions import read_predictions
from kappawatt.messages.readings import carried_headers, decode_records, with_known_times
from kappawatt.streams.plant import READING
from tests.fakes import EXAMPLE
from tests.unit.columns.test_strict_json import hostile_value

LEVELS = {"0.05": [1.0, 2.0], "0.50": [2.0, 3.0], "0.95": [3.0, 4.0]}
PREDICTION: dict[str, Any] = {
    "id": "plant.readings:log-0-7-0@1", "key": "plant-1", "event_time": "2026-03-01T00:00:00.000Z", "net_power": 467.3,
    "net_power_lower": 461.9, "net_power_upper": 472.8, "extrapolated": False, "measured_net_power": None, "model": "m",
    "version": "1", "source_topic": "plant.readings", "source_log": "log", "source_partition": 0, "source_offset": 7,
    "source_row": 0,
}  # fmt: skip
FORECAST: dict[str, Any] = {
    "id": "hourly-load/PJME/a/b@1", "key": "PJME", "issue_time": "2026-03-01T12:00:00Z",
    "available_at": "2026-03-01T12:00:00Z", "known_at": "2026-03-01T12:00:00Z", "corrected": False,
    "time_zone": "America/New_York", "step_seconds": 3600, "target": "load", "unit": "MW",
    "target_time": ["2026-03-02T05:00:00Z", "2026-03-02T06:00:00Z"], "quantiles": LEVELS,
    "day": {"daily_peak": {"0.05": 1.0, "0.50": 2.0, "0.95": 3.0}}, "filled": 0, "fallback": False,
    "fallback_reason": None, "model": "m", "version": "1", "source_topic": "load.readings", "source_log": "log",
    "source_partition": 0, "source_offset": 7,
}  # fmt: skip
ERROR: dict[str, Any] = {
    "id": "hourly-load/PJME/a/b@1/c", "key": "PJME", "issue_time": "2026-03-01T12:00:00Z",
    "available_at": "2026-03-01T12:00:00Z", "known_at": "2026-03-01T12:00:00Z", "target_time": "2026-03-02T05:00:00Z",
    "measured": 1.0, "forecast": 2.0, "error": 1.0, "naive": None, "naive_error": None, "lower": 0.0, "upper": 3.0,
    "covered": True, "crps": 0.5, "fallback": False, "model": "m", "version": "1", "source_topic": "load.readings",
    "source_log": "log", "source_partition": 0, "source_offset": 7,
}  # fmt: skip
LETTER: dict[str, Any] = {
    "id": "plant.readings:log-0-7", "reason": "out_of_range", "field": "relative_humidity", "got": 700.0,
    "allowed": "a number from 0 to 105 %", "message": "relative_humidity: got 700.0", "rejected_rows": 1,
    "errors": [{"row": 0, "code": "out_of_range", "field": "x", "got": 700.0, "allowed": "a", "message": "b"}],
    "topic": "plant.readings", "log": "log", "partition": 0, "offset": 7, "timestamp": 1_700_000_000_000,
    "key": "plant-1", "content_type": "application/json", "model": "m", "version": "1", "original": "{}",
}  # fmt: skip
Read = Callable[[list[Records]], list[dict[str, Any]]]
KINDS: dict[str, tuple[Read, dict[str, Any]]] = {
    "prediction": (read_predictions, PREDICTION),
    "forecast": (read_documents, FORECAST),
    "error": (read_documents, ERROR),
    "dead letter": (read_dead_letters, LETTER),
}
PLACE = {"published", "topic", "partition", "offset"}


def on_topic(*values: bytes, headers: Headers = (), key: bytes | None = b"k", timestamp: int = 5) -> Records:
    n = len(values)
    return Records("some.topic", 0, range(n), [timestamp] * n, [key] * n, values, [headers] * n, "log")


def found(read: Read, document: Any) -> list[dict[str, Any]]:
    return read([on_topic(document if isinstance(document, bytes) else orjson.dumps(document))])


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_writer_writes_is_read_as_it_is(kind: str) -> None:
    read, document = KINDS[kind]

    (one,) = found(read, document)

    own = PLACE - ({"topic", "partition", "offset"} if kind == "dead letter" else set())
    renamed = {"known_at"} if "known_at" in document else set()
    assert {n: v for n, v in one.items() if n not in own} == {
        n: v for n, v in document.items() if n not in own | renamed
    }


OTHERS: tuple[Any, ...] = (
    [], {}, [1], {"a": 1}, "", "x" * 5_000, True, 1.5, -1, 2**63, 1e308, "2026-03-01", "NaN", [[[]]], {"0.5": [1]},
    "0000-00-00T00:00:00Z", "2300-01-01T00:00:00Z", "\0",
)  # fmt: skip
LOOSE = {"got", "net_power", "net_power_lower", "net_power_upper", "extrapolated", "measured_net_power"}


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: repr(other)[:30])
@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_is_another_thing_makes_no_document_that_says_so(kind: str, other: Any) -> None:
    read, document = KINDS[kind]
    for name, right in document.items():
        for one in found(read, document | {name: other}):
            if name not in one:
                continue  # read under today's name, or left out
            is_number = type(right) in (int, float) and type(other) in (int, float)
            assert name in LOOSE or type(other) is type(right) or is_number or right is None, (name, other)
            assert not isinstance(one[name], list | dict) or isinstance(right, list | dict)
            orjson.dumps(one)


@pytest.mark.parametrize(
    "change",
    [
        {"quantiles": {}}, {"quantiles": {"0.5": [1.0]}}, {"quantiles": {"0.5": [1.0, "a"]}},
        {"quantiles": {"x": [1, 2]}}, {"quantiles": {"0.5": [1.0, None]}}, {"quantiles": {"1.5": [1.0, 2.0]}},
        {"target_time": []},
        {"target_time": ["2026-03-02T05:00:00Z"] * 2},
        {"target_time": ["2026-03-02T06:00:00Z", "2026-03-02T05:00:00Z"]},
        {"target_time": [1, 2]}, {"day": {"peak": [1]}}, {"day": {"peak": {"0.5": "x"}}}, {"step_seconds": 0},
        {"step_seconds": 2**40}, {"step_seconds": 1.0}, {"issue_time": "9999-01-01T00:00:00Z"},
    ],
)  # fmt: skip
def test_a_forecast_whose_parts_do_not_go_together_is_none(change: dict[str, Any]) -> None:
    assert found(read_documents, FORECAST | change) == []


@pytest.mark.parametrize("levels", [60, 300, 1_000])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_deep_comes_through(kind: str, levels: int) -> None:
    read, document = KINDS[kind]
    for name in (*document, "more"):
        deep = orjson.dumps(document | {name: "@"}).replace(b'"@"', b"[" * levels + b"]" * levels)
        for one in found(read, deep):
            orjson.dumps(one)


@given(st.data())
@settings(max_examples=200)
def test_whatever_a_document_holds_what_is_read_can_be_written_and_hashed_by_id(data: st.DataObject) -> None:
    read, document = KINDS[data.draw(st.sampled_from(sorted(KINDS)))]
    name = data.draw(st.sampled_from([*document, "another", "\ud800"]))
    value = json.dumps(document | {name: data.draw(hostile_value)}).encode()

    for one in found(read, value):
        orjson.dumps(one)
        assert len({one["id"]}) == 1


def block(**changes: Any) -> bytes:
    columns: dict[str, Any] = {
        "event_time": np.array(["2026-03-01", "2026-03-02"], "datetime64[ms]"), "net_power": np.array([1.0, np.inf]),
        "source_offset": np.array([7, 8]), "source_row": np.zeros(2, np.int32),
    }  # fmt: skip
    return write_columns({name: c for name, c in (columns | changes).items() if c is not None})


BLOCK: Headers = (
    ("content-type", ARROW.encode()), ("model", b"m"), ("model-version", b"1"), ("source-topic", b"plant.readings"),
    ("source-partition", b"0"), ("source-log", b"log"),
)  # fmt: skip


def test_a_block_is_read_row_by_row_and_what_is_infinite_is_nothing() -> None:
    rows = read_predictions([on_topic(block(), headers=BLOCK)])

    assert [row["id"] for row in rows] == ["plant.readings:log-0-7-0@1", "plant.readings:log-0-8-0@1"]
    assert [row["net_power"] for row in rows] == [1.0, None]


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"source_offset": np.array([7.0, 8.0])}, {}),
        ({"source_offset": np.array([-1, 8])}, {}),
        ({"source_offset": np.array([8, -1])}, {}),
        ({"source_offset": np.array([2**63, 8], np.uint64)}, {}),
        ({"source_offset": None}, {}),
        ({"source_row": np.array(["a", "b"], object)}, {}),
        ({"event_time": np.array(["2026-03-01T00:00:00Z", "x"], object)}, {}),
        ({"event_time": np.array([0, 2**60], "datetime64[ms]")}, {}),
        ({"words": np.array(["w" * 9_000, "w"], object)}, {}),
        ({}, {"source-partition": b"9" * 5_000}),
        ({}, {"source-partition": b"-1"}),
        ({}, {"source-topic": b"\xff"}),
        ({}, {"model": b"m" * 1_000}),
        ({}, {"source-topic": b""}),
    ],
)
def test_a_block_with_a_part_that_is_another_thing_is_left_out(
    changes: dict[str, Any], headers: dict[str, bytes]
) -> None:
    rows = read_predictions([on_topic(block(**changes), headers=tuple((dict(BLOCK) | headers).items()))])

    assert rows == []


# --- dead letters --------------------------------------------------------------------------------------------


def letter_of(
    value: bytes, *, key: bytes | None = b"k", headers: Headers = (), reasons: int = 1, **more: Any
) -> dict[str, Any]:
    rejection = Rejection(0, "malformed", more.get("field"), more.get("got", "x"), more.get("allowed", "rows"))
    records = on_topic(value, key=key, headers=headers, timestamp=more.get("timestamp", 5))
    message = dead_letter_message("dead", records, 0, [rejection.at(i) for i in range(reasons)], "m", "1")
    assert len(message.value) + len(message.key or b"") + 1_000 < LARGEST_MESSAGE
    (letter,) = read_dead_letters([on_topic(message.value)])
    return letter


@pytest.mark.parametrize(
    "value",
    [
        b"\0" * 2_600_000, b'"' * 2_600_000, b"\\" * 3_000_000, b"\xff" * 3_000_000, b"a" * 9_000_000,
        "\u00e9".encode() * 1_250_001,
    ],
    ids=["NULs", "quotes", "backslashes", "no text", "nine megabytes", "cut within a character"],
)  # fmt: skip
def test_a_dead_letter_of_any_message_fits_its_topic_with_the_first_bytes(value: bytes) -> None:
    letter = letter_of(value, key=b"\xff" * 500_000, headers=(("content-type", b"t" * 500_000),), reasons=100)

    kept = letter["original"].encode() if "original" in letter else base64.b64decode(letter["original_base64"])
    assert kept == value[:2_500_000]
    assert letter["original_bytes"] == len(value)


@pytest.mark.parametrize("value", [b"", b"\0", b"\xff\x00", b'{"a": "\\ud800"}', b"[" * 5_000])
def test_a_dead_letter_holds_the_bytes_as_they_came(value: bytes) -> None:
    letter = letter_of(value)

    assert (
        letter["original"].encode() if "original" in letter else base64.b64decode(letter["original_base64"])
    ) == value


@pytest.mark.parametrize(
    "got",
    ["\ud800", 10**400, [[1]], {"a": b"x"}, float("nan"), b"\xff", np.float32(1), object()],
    ids=lambda got: type(got).__name__,
)
def test_a_dead_letter_is_written_whatever_was_got(got: Any) -> None:
    letter_of(b"x", got=got, field="f\udfff", allowed="\ud800" + "a" * 500_000, reasons=100, timestamp=-(2**63))


@pytest.mark.parametrize("body", [b'{"": 1}', b'{"\\u0000": 1}', b'{"' + b"n" * 9_000 + b'": 1}'])
def test_a_dead_letter_names_a_field_of_any_name(body: bytes) -> None:
    batch = decode_records([on_topic(body)], "application/json", READING).batch
    message = dead_letter_message("dead", on_topic(body), 0, batch.rejections, "m", "1")

    assert len(read_dead_letters([on_topic(message.value)])) == 1


# --- envelopes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "length"), [(b"k" * 201, 201), (b"\xff" * 99, 202), (b"k" * 100_000, 100_000)])
def test_rows_under_a_key_that_is_too_long_are_refused(key: bytes, length: int) -> None:
    good, bad = on_topic(orjson.dumps(EXAMPLE), key=b"k" * 200), on_topic(orjson.dumps([EXAMPLE, EXAMPLE]), key=key)

    batch = decode_records([good, bad, on_topic(b"{}", key=b"\xff" * 98)], "application/json", READING).batch

    assert batch.valid[:3].tolist() == [True, False, False]
    refused = {(r.row, r.field, r.got) for r in batch.rejections if r.row < 3}
    assert refused == {(row, "key", f"one of {length} characters") for row in (1, 2)}
    assert not [r for r in batch.rejections if r.row == 3 and r.field == "key"]


@pytest.mark.parametrize("stamp", [-1, -(2**63), 2**63 - 1, 9_214_646_400_000])
def test_a_record_time_that_is_none_stands_in_for_no_time_of_an_event(stamp: int) -> None:
    timed = orjson.dumps(EXAMPLE | {"event_time": "2026-03-01T00:00:00Z"})
    parts = [on_topic(timed, orjson.dumps(EXAMPLE), timestamp=stamp)]

    decoded = with_known_times(decode_records(parts, "application/json", READING), parts, "event_time")

    assert decoded.batch.valid.tolist() == [True, False]
    assert decoded.batch.rejections[0].field == "event_time"
    assert "1970 to 2261" in decoded.batch.rejections[0].allowed


@pytest.mark.parametrize("places", [[0, 1, 2, 3], [0, 3], [1, 2]])
def test_one_record_time_that_is_none_among_others_is_found(places: list[int]) -> None:
    stamps = [0, 9_214_646_399_999, 9_214_646_400_000, -1]
    n = len(stamps)
    whole = Records("plant.readings", 0, range(n), stamps, [b"k"] * n, [orjson.dumps(EXAMPLE)] * n, [()] * n)
    parts = [whole.pick(places)]

    decoded = with_known_times(decode_records(parts, "application/json", READING), parts, "event_time")

    assert decoded.batch.valid.tolist() == [place < 2 for place in places]


@pytest.mark.parametrize(("arrival", "said"), [("event_time", "event_time"), ("", "event_time"), ("taken", "taken")])
def test_a_time_that_is_missing_is_named_as_the_stream_calls_it(arrival: str, said: str) -> None:
    parts = [on_topic(orjson.dumps(EXAMPLE), timestamp=-1)]

    decoded = with_known_times(decode_records(parts, "application/json", READING), parts, arrival)

    [rejection] = decoded.batch.rejections
    assert (rejection.field, rejection.got) == (said, f"no {said}, and a record time of -1 ms")


def test_only_short_headers_go_on_and_few() -> None:
    headers: Headers = (("traceparent", b"a"), ("tracestate", b"b" * 2_000), *((("tracestate", b"c"),) * 900))

    assert carried_headers(headers) == (("traceparent", b"a"), ("tracestate", b"c"))
