"""Messages of every kind for every topic: valid, mutated, and such as nobody meant to send."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from hypothesis import strategies as st

from kappawatt.bus import Outgoing
from kappawatt.bus.interface import Headers, Records
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.batch import Rejection
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON
from kappawatt.forecasting.fan import LEVELS, level_text
from kappawatt.messages.dead_letters import dead_letter_message
from kappawatt.messages.predictions import Prediction, prediction_block, prediction_event
from kappawatt.streams.stream import Form, Stream
from kappawatt.streams.table import FORMS

__all__ = ["TOPICS", "hostile", "mutated", "valid"]

TOPICS = sorted(FORMS)
HOUR = 3600
NOW = int(time.time()) // HOUR * HOUR
FAR = 10**9  # offsets of readings that never were
KEYS = {"plant": ("plant-1", "plant-2"), "load": ("PJME", "DOM"), "meter": ("m-1", "m-2")}


@dataclass(frozen=True)
class Written:
    """A message before it has a topic."""

    value: bytes
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None

    def to(self, topic: str, case: str) -> Outgoing:
        """The message, marked as one of ours."""
        marked = (*self.headers, ("x-case", case.encode()))
        return Outgoing(topic, self.value, self.key, marked, self.timestamp)


def kind_of(content_type: str) -> Headers:
    return (("content-type", content_type.encode()),)


def iso(seconds: int) -> str:
    return f"{np.datetime64(seconds, 's')}Z"


# --- valid ---------------------------------------------------------------------------------------------------


def _row(stream: Stream, number: int) -> dict[str, Any]:
    row = stream.example_row()
    if "interval_start" in row:
        row["interval_start"] = iso(NOW - HOUR * (1 + number % 2_000))
        row[stream.target] = 100.0 + number % 50
        if "interval_seconds" in stream.schema.names:
            row["interval_seconds"] = 900
    else:
        row["ambient_temperature"] = float(number % 30)
    return row


@st.composite
def _readings(draw: st.DrawFn, stream: Stream) -> Written:
    numbers = draw(st.lists(st.integers(0, 5_000), min_size=1, max_size=5))
    rows = [_row(stream, number) for number in numbers]
    key = draw(st.sampled_from(KEYS[stream.name])).encode()
    form = draw(st.sampled_from(("object", "list", "columns", "lines", "arrow", "csv")))
    names = list(rows[0])
    if form == "object":
        return Written(orjson.dumps(rows[0]), key, draw(st.sampled_from(((), kind_of(JSON)))))
    if form == "list":
        return Written(orjson.dumps(rows), key, kind_of(JSON))
    if form == "columns":
        return Written(orjson.dumps({"columns": {n: [r[n] for r in rows] for n in names}}), key, kind_of(JSON))
    if form == "lines":
        return Written(b"\n".join(map(orjson.dumps, rows)), key, kind_of(NDJSON))
    if form == "csv":
        lines = [",".join(names), *(",".join(str(row[n]) for n in names) for row in rows)]
        return Written("\n".join(lines).encode(), key, kind_of(CSV))
    columns = {name: _column([row[name] for row in rows]) for name in names}
    return Written(write_columns(columns), key, kind_of(ARROW))


def _column(values: list[Any]) -> np.ndarray[Any, Any]:
    if isinstance(values[0], str):
        return np.array([value.removesuffix("Z") for value in values], "datetime64[ms]")
    return np.array(values, np.float64)


@st.composite
def _predictions(draw: st.DrawFn, stream: Stream) -> Written:
    n = draw(st.integers(1, 4))
    power = np.array(draw(st.lists(st.floats(300, 500), min_size=n, max_size=n)))
    columns = {
        "event_time": np.full(n, NOW * 1000).astype("datetime64[ms]"),
        "net_power": power, "net_power_lower": power - 5, "net_power_upper": power + 5,
        "extrapolated": np.zeros(n, bool), "measured_net_power": power + 1,
    }  # fmt: skip
    first = FAR + draw(st.integers(0, 10**6))
    prediction = Prediction(
        "", b"plant-1", columns, np.arange(first, first + n), np.zeros(n, np.int32), stream.readings.name, 0, "fake",
        "1", source_log="of-long-ago",
    )  # fmt: skip
    found = prediction_block(prediction) if draw(st.booleans()) else prediction_event(prediction)[0]
    return Written(found.value, found.key, found.headers)


def _answered(stream: Stream, number: int) -> dict[str, Any]:
    issue = iso(NOW - HOUR * (number % 500))
    return {
        "id": f"{stream.service}/{KEYS[stream.name][0]}/{issue}/{issue}@1/{number}",
        "key": KEYS[stream.name][0],
        "issue_time": issue,
        "available_at": issue,
        "known_at": issue,
        "fallback": False,
        "model": stream.service,
        "version": "1",
        "source_topic": stream.readings.name,
        "source_log": "of-long-ago",
        "source_partition": 0,
        "source_offset": FAR + number,
    }


def _forecast(stream: Stream, number: int) -> dict[str, Any]:
    starts = [iso(NOW + HOUR * i) for i in range(24)]
    levels = [level_text(level) for level in LEVELS]
    return {
        **_answered(stream, number),
        "corrected": False, "time_zone": "America/New_York", "step_seconds": HOUR, "target": stream.target,
        "unit": "MW", "target_time": starts, "quantiles": {level: [100.0 + i] * 24 for i, level in enumerate(levels)},
        "day": {figure: dict.fromkeys(levels, 2400.0) for figure, _ in stream.view.day_figures},
        "filled": 0, "fallback_reason": None,
    }  # fmt: skip


def _error(stream: Stream, number: int) -> dict[str, Any]:
    return {
        **_answered(stream, number),
        "target_time": iso(NOW - HOUR * (number % 100)), "measured": 100.0, "forecast": 101.0, "error": 1.0,
        "naive": 99.0, "naive_error": -1.0, "lower": 90.0, "upper": 110.0, "covered": True, "crps": 0.5,
    }  # fmt: skip


@st.composite
def _documents(draw: st.DrawFn, stream: Stream, make: Callable[[Stream, int], dict[str, Any]]) -> Written:
    document = make(stream, draw(st.integers(0, 10**6)))
    return Written(orjson.dumps(document), document["key"].encode(), kind_of(JSON))


@st.composite
def _dead_letters(draw: st.DrawFn, stream: Stream) -> Written:
    records = Records(
        stream.readings.name, 0, [FAR + draw(st.integers(0, 10**6))], [NOW * 1000], [b"k"],
        [draw(st.binary(max_size=50))], [()], "of-long-ago",
    )  # fmt: skip
    letter = dead_letter_message("", records, 0, [Rejection(0, "malformed", None, "x", "rows")], "fake", "1")
    return Written(letter.value, letter.key, letter.headers)


def valid(topic: str) -> st.SearchStrategy[Written]:
    """What the writers of a topic write."""
    stream, form = FORMS[topic]
    if form is Form.READINGS:
        return _readings(stream)
    if form is Form.PREDICTIONS:
        return _predictions(stream)
    if form is Form.FORECASTS:
        return _documents(stream, _forecast)
    if form is Form.FORECAST_ERRORS:
        return _documents(stream, _error)
    return _dead_letters(stream)


# --- mutated -------------------------------------------------------------------------------------------------


def _nested(levels: int, bracket: str = "[") -> str:
    return "[" * levels + "]" * levels if bracket == "[" else '{"a":' * levels + "0" + "}" * levels


HALVES = ('"\\ud83d"', '"x\\udc0a"', '"\\"\\ud9ff\\""')  # texts that are no Unicode
RAW = st.sampled_from(
    (
        *HALVES, '"\\u0000"', '"\\u0000a\\u0000"', "NaN", "-Infinity", "1e999", "1e308", "-1e308", "3.5e38", "7" * 400,
        "8" * 5_000, _nested(3), _nested(40), _nested(70), _nested(400), _nested(1_200), _nested(90, "{"), '""', "null",
        "true", "[]", "{}", "-1", "0", "1.5", "1e400", "18446744073709551615", "9223372036854775808",
        "-9223372036854775808", "2147483648", f'"{"y" * 500}"', f'"{"z" * 20_000}"', '"0001-01-01T00:00:00Z"',
        '"9999-12-31T23:59:59.999999Z"', '"2262-04-12T00:00:00Z"', '"1969-12-31T23:59:59Z"', '"2026-02-30T00:00:00Z"',
        '"+294247-01-10T04:00:54Z"', "9300000000000000", "-62135596800000", '["a", 1, null]', '{"a": [1]}',
        '"Nowhere/Land"', '"posixrules"', '"../../etc/passwd"', '"\\u202e\\uffff"', '"' + "\U0001f600" * 90 + '"',
    )
)  # fmt: skip
FIELD = "@@a field@@"


@st.composite
def _with_another_field(draw: st.DrawFn, topic: str) -> Written:
    """A valid document in which one field is another thing, is gone, comes twice, or has another name."""
    message = draw(valid(topic))
    try:
        document = json.loads(message.value)
    except ValueError:
        return draw(_with_other_bytes(topic))
    inner = document
    while isinstance(inner, list | dict) and inner and draw(st.integers(0, 2)):
        name = draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        if not isinstance(inner[name], list | dict) or not inner[name]:
            break
        inner = inner[name]
    if not inner or not isinstance(inner, list | dict):
        return message
    name = draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
    how = draw(st.sampled_from(("other", "other", "other", "gone", "renamed", "more")))
    raw = draw(RAW)
    if how == "gone":
        del inner[name]
    elif how == "renamed" and isinstance(inner, dict):
        inner[FIELD] = inner.pop(name)
        raw = draw(st.sampled_from((*HALVES, '""', '"\\u0000"', f'"{"n" * 900}"', '"id"', '"published"')))
    elif how == "more" and isinstance(inner, dict):
        inner[FIELD] = 1
        raw = draw(st.sampled_from((*HALVES, '"key"', '"source_offset"', '"load_zone"')))
    else:
        inner[name] = FIELD
    return Written(json.dumps(document).replace(f'"{FIELD}"', raw).encode(), message.key, message.headers)


@st.composite
def _with_other_bytes(draw: st.DrawFn, topic: str) -> Written:
    message = draw(valid(topic))
    value = bytearray(message.value)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(value) - 1)))
        how = draw(st.sampled_from(("flip", "cut", "insert", "twice")))
        if how == "flip" and value:
            value[at] ^= draw(st.integers(1, 255))
        elif how == "cut":
            del value[at : at + draw(st.integers(1, 40))]
        elif how == "insert":
            value[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            value += value[:200]
    return Written(bytes(value), message.key, message.headers)


@st.composite
def _with_another_envelope(draw: st.DrawFn, topic: str) -> Written:
    message = draw(valid(topic))
    key = draw(
        st.sampled_from(
            (message.key, None, b"", b"\xff\xfe\x00", b"\xed\xa0\x80", b"k" * 300, b"k" * 201, b"k" * 60_000,
             "k\u00f6nig".encode(), b"kappawatt-doctor-7", b"\x00", b"UNKNOWN")
        )
    )  # fmt: skip
    content = draw(
        st.sampled_from(
            (JSON, NDJSON, CSV, ARROW, "application/json; charset=utf-8", "text/html", "", "\xff\xfe", "x" * 9_000)
        )
    )
    headers: Headers = (
        *message.headers,
        ("content-type", content.encode("latin-1")),
        *draw(st.sampled_from(((), (("traceparent", b"t" * 30_000),), (("tracestate", b"\xff\x00"),) * 50))),
        *draw(
            st.sampled_from(
                ((), (("source-partition", b"9" * 5_000),), (("source-topic", b"\xff"),), (("model", b""),))
            )
        ),
    )
    if not draw(st.booleans()):
        headers = message.headers
    timestamp = draw(st.sampled_from((None, None, 9_214_646_400_000, 253_402_300_800_000, 2**62)))
    return Written(message.value, key, headers, timestamp)


def mutated(topic: str) -> st.SearchStrategy[Written]:
    """What the writers of a topic write, with something else in it or around it."""
    return st.one_of(
        _with_another_field(topic), _with_another_field(topic), _with_other_bytes(topic), _with_another_envelope(topic)
    )


# --- hostile -------------------------------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=50).map(str.encode),
    RAW.map(str.encode),
    st.sampled_from(
        (
            b"", b"\x00", b" " * 500, b"\xff\xff\xff\xff" + b"\x00" * 4,
            b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\xaa" * 64,
            b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"1\n" * 300, b"{}\n" * 50, b"[[" * 600, b'{"columns": {}}',
            b'{"columns": {"load": [1], "interval_start": []}}', b"id,reason\n1,2\n", b"\n\n\n", b'"', b"," * 3_000,
            b'{"id": "x", "reason": "r", "topic": "t", "partition": 0, "offset": 0, "errors": '
            + _nested(1_000).encode() + b"}",
            b'{"id": "x", "reason": ["r"]}', b'{"source_offset": 1}',
            b'{"source_topic": "plant.readings", "source_offset": -1}',
            b'{"id": 5, "issue_time": 7, "quantiles": {"0.5": "x"}, "target_time": "y"}',
        )
    ),
)  # fmt: skip


@st.composite
def hostile(draw: st.DrawFn, topic: str) -> Written:
    """Anything: bytes of no writer, or what belongs on another topic."""
    if draw(st.integers(0, 3)) == 0:
        return draw(valid(draw(st.sampled_from(TOPICS))))
    headers = draw(st.sampled_from(((), kind_of(JSON), kind_of(ARROW), kind_of(CSV), kind_of(NDJSON))))
    return Written(draw(HOSTILE), draw(st.sampled_from((None, b"PJME", b"\xff"))), headers)
