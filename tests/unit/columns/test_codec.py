"""Bytes to columns: every form gives the same rows, and every damage is named."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.columns.arrow import read_columns, weight, write_columns
from kappawatt.columns.codec import decode, decode_many
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON, content_type_of
from kappawatt.errors import ContentTypeUnsupported, PayloadInvalid
from kappawatt.streams.plant import READING
from tests.fakes import EXAMPLE

NAMES = tuple(EXAMPLE)


def arrow(table: dict[str, object], compression: str | None = None) -> bytes:
    """An Arrow stream as another program writes it, by the reference implementation."""
    out = io.BytesIO()
    whole = pa.table(table)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(out, whole.schema, options=options) as writer:
        writer.write_table(whole)
    return out.getvalue()


def rows_of(body: bytes, kind: str) -> list[tuple[float, ...]]:
    batch = decode(body, kind, READING).batch
    assert not batch.rejections, batch.rejections
    return list(zip(*(batch.columns[name].tolist() for name in NAMES), strict=True))


SAME_ROWS = {
    "json object": (orjson.dumps(EXAMPLE), JSON),
    "json list": (orjson.dumps([EXAMPLE]), JSON),
    "json columns": (orjson.dumps({"columns": {n: [v] for n, v in EXAMPLE.items()}}), JSON),
    "json with a byte order mark": (b"\xef\xbb\xbf" + orjson.dumps(EXAMPLE), JSON),
    "ndjson with a byte order mark": (b"\xef\xbb\xbf" + orjson.dumps(EXAMPLE), NDJSON),
    "ndjson": (orjson.dumps(EXAMPLE) + b"\n\n", NDJSON),
    "csv without header": (b"14.96,41.76,1024.07,73.17", CSV),
    "csv with the file's header": (b"AT,V,AP,RH\n14.96,41.76,1024.07,73.17\n", CSV),
    "csv with full names, reordered": (
        b"relative_humidity,ambient_temperature,exhaust_vacuum,ambient_pressure\r\n73.17,14.96,41.76,1024.07\r\n",
        CSV,
    ),
    "csv with a running number": (b",AT,V,AP,RH,PE\n7,14.96,41.76,1024.07,73.17,463.26\n", CSV),
    "csv with quotes and blanks": (b'"14.96", 41.76 ,1024.07,73.17', CSV),
    "csv with a byte order mark": (b"\xef\xbb\xbfAT,V,AP,RH\n14.96,41.76,1024.07,73.17\n", CSV),
    "arrow": (arrow({n: [v] for n, v in EXAMPLE.items()}), ARROW),
    "arrow lz4": (arrow({n: [v] for n, v in EXAMPLE.items()}, "lz4"), ARROW),
    "arrow zstd": (arrow({n: [v] for n, v in EXAMPLE.items()}, "zstd"), ARROW),
}


@pytest.mark.parametrize(("body", "kind"), SAME_ROWS.values(), ids=SAME_ROWS.keys())
def test_every_form_gives_the_same_row(body: bytes, kind: str) -> None:
    assert rows_of(body, kind) == [tuple(EXAMPLE.values())]


def but(**changes: object) -> bytes:
    """The example as JSON with changes; values of kind bytes are written as they are."""
    parts = []
    for name, value in (EXAMPLE | changes).items():
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        parts.append(json.dumps(name).encode() + b":" + text)
    return b"{" + b",".join(parts) + b"}"


REFUSED_ROWS = {
    "unknown field": (but(wind=3), JSON, "unknown_field", "wind"),
    "a file's header in json": (but(AT=3), JSON, "unknown_field", "AT"),
    "missing field": (orjson.dumps({"exhaust_vacuum": 40}), JSON, "missing_field", "ambient_temperature"),
    "null": (but(exhaust_vacuum=None), JSON, "missing_field", "exhaust_vacuum"),
    "NaN": (but(exhaust_vacuum=b"NaN"), JSON, "not_finite", "exhaust_vacuum"),
    "NaN in an optional field": (but(net_power=b"NaN"), JSON, "not_finite", "net_power"),
    "Infinity": (but(exhaust_vacuum=b"Infinity"), JSON, "not_finite", "exhaust_vacuum"),
    "1e999": (but(exhaust_vacuum=b"1e999"), JSON, "not_finite", "exhaust_vacuum"),
    "an integer of 400 digits": (but(exhaust_vacuum=b"9" * 400), JSON, "not_finite", "exhaust_vacuum"),
    "text for a number": (but(exhaust_vacuum="41.76"), JSON, "not_a_number", "exhaust_vacuum"),
    "true for a number": (but(exhaust_vacuum=True), JSON, "not_a_number", "exhaust_vacuum"),
    "a list for a number": (but(exhaust_vacuum=[1]), JSON, "not_a_number", "exhaust_vacuum"),
    "out of range": (but(exhaust_vacuum=812.0), JSON, "out_of_range", "exhaust_vacuum"),
    "a time without zone": (but(event_time="2026-01-01T00:00:00"), JSON, "not_a_timestamp", "event_time"),
    "a fraction of a millisecond": (but(event_time=0.5), JSON, "not_a_timestamp", "event_time"),
    "an object for a time": (but(event_time={}), JSON, "not_a_timestamp", "event_time"),
    "a list for a time": (but(event_time=[1]), JSON, "not_a_timestamp", "event_time"),
    "an empty time": (but(event_time=""), JSON, "not_a_timestamp", "event_time"),
    "a repeated key": (but()[:-1] + b',"exhaust_vacuum":1}', JSON, "duplicate_field", "exhaust_vacuum"),
    "a number for a row": (b"[3]", JSON, "malformed", None),
    "text in csv": (b"x,41.76,1024.07,73.17", CSV, "not_a_number", "ambient_temperature"),
    "nan in csv": (b"14.96,nan,1024.07,73.17", CSV, "not_finite", "exhaust_vacuum"),
    "inf in csv": (b"14.96,-inf,1024.07,73.17", CSV, "not_finite", "exhaust_vacuum"),
    "an underscore in csv": (b"1_4,41.76,1024.07,73.17", CSV, "not_a_number", "ambient_temperature"),
    "an empty cell": (b"14.96,,1024.07,73.17", CSV, "missing_field", "exhaust_vacuum"),
    "too few cells": (b"14.96,41.76,1024.07", CSV, "malformed", None),
    "too many cells": (b"14.96,41.76,1024.07,73.17,463,1,2", CSV, "malformed", None),
    "null in arrow": (arrow({n: [None if n == "exhaust_vacuum" else 1000.0] for n in NAMES}), ARROW,
                      "missing_field", "exhaust_vacuum"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "code", "field"), REFUSED_ROWS.values(), ids=REFUSED_ROWS.keys())
def test_a_refused_row_names_its_field(body: bytes, kind: str, code: str, field: str | None) -> None:
    batch = decode(body, kind, READING).batch

    assert not batch.valid.any()
    assert (code, field) in {(r.code, r.field) for r in batch.rejections}
    assert all(r.allowed and r.message for r in batch.rejections)
    orjson.dumps([r.to_json() for r in batch.rejections])


UNREADABLE = {
    "empty": (b"", JSON),
    "blank": (b" \n", CSV),
    "an empty list": (b"[]", JSON),
    "a bare number": (b"3", JSON),
    "half an object": (b'{"ambient_temperature": 1', JSON),
    "invalid UTF-8 in json": (b'{"ambient_temperature": "\xff"}', JSON),
    "invalid UTF-8 in csv": (b"AT,V,AP,RH\n\xff,1,2,3", CSV),
    "lists nested 100,000 deep": (b"[" * 100_000, JSON),
    "objects nested 20,000 deep": (b'{"a":' * 20_000, JSON),
    "columns of unequal length": (orjson.dumps({"columns": {n: [1.0] * (i + 1) for i, n in enumerate(NAMES)}}), JSON),
    "columns that are no lists": (orjson.dumps({"columns": EXAMPLE}), JSON),
    "an unknown column": (b"AT,V,AP,RH,wind\n1,2,3,4,5", CSV),
    "a column twice": (b"AT,V,AP,RH,AT\n1,2,3,4,5", CSV),
    "a header and no row": (b"AT,V,AP,RH\n", CSV),
    "a NUL": (b"1,2,\x003,4", CSV),
    "an open quote": (b'"1,2,3,4', CSV),
    "truncated arrow": (arrow({n: [1.0] * 100 for n in NAMES})[:700], ARROW),
    "not arrow": (b"hello" * 100, ARROW),
    "arrow text columns": (arrow({n: ["x"] for n in NAMES}), ARROW),
    "arrow unknown column": (arrow({"wind": [1.0]}), ARROW),
    "arrow without rows": (arrow({n: pa.array([], pa.float64()) for n in NAMES}), ARROW),
}  # fmt: skip


@pytest.mark.parametrize(("body", "kind"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_body_says_what_is_allowed(body: bytes, kind: str) -> None:
    with pytest.raises(PayloadInvalid, match="allowed"):
        decode(body, kind, READING)


def test_one_bad_row_among_100_000_leaves_the_others_valid() -> None:
    rows = [dict(EXAMPLE) for _ in range(100_000)]
    rows[77_777]["exhaust_vacuum"] = 812.0

    batch = decode(orjson.dumps(rows), JSON, READING).batch

    assert batch.valid.sum() == 99_999
    assert [(r.row, r.field, r.got) for r in batch.rejections] == [(77_777, "exhaust_vacuum", 812.0)]


def test_all_faults_of_a_row_are_named_at_once() -> None:
    batch = decode(but(exhaust_vacuum=812.0, relative_humidity="wet", wind=1), JSON, READING).batch

    assert {r.field for r in batch.rejections} == {"exhaust_vacuum", "relative_humidity", "wind"}


def test_escaped_quotes_are_no_repeated_key() -> None:
    batch = decode(but(wind='say "hello"'), JSON, READING).batch

    assert {r.code for r in batch.rejections} == {"unknown_field"}


def test_many_messages_keep_their_origin() -> None:
    values = [b"1,2,1000,4", b"5,6,1000,8\n9,10,1000,12", b"junk", b"13,14,1000,16"]

    decoded = decode_many(values, CSV, READING)

    assert decoded.message.tolist() == [0, 1, 1, 2, 3]
    assert decoded.row.tolist() == [0, 0, 1, 0, 0]
    assert decoded.batch.valid.tolist() == [True, True, True, False, True]


@given(st.lists(st.sampled_from([
    b'{"x":{"q":1}', b'"y":2}', b'{"x":1},{"x":2}', b'{"x":[{}', b'{"x":"}', b'{"}', b"{}", b"", b"[]", b"1", but(),
]), min_size=2, max_size=6))  # fmt: skip
def test_damaged_messages_are_never_joined_into_a_row(values: list[bytes]) -> None:
    decoded = decode_many(values, JSON, READING)

    good = [i for i, value in enumerate(values) if value == but()]
    assert decoded.message[decoded.batch.valid].tolist() == good


@given(st.lists(st.text(alphabet='0123456789.,-+eE\n x"', max_size=30), min_size=1, max_size=8))
def test_csv_read_in_bulk_equals_csv_read_one_by_one(texts: list[str]) -> None:
    values = [text.encode() for text in texts]

    bulk = decode_many(values, CSV, READING)
    single = [decode_many([value], CSV, READING) for value in values]

    assert bulk.batch.valid.tolist() == [bool(v) for one in single for v in one.batch.valid]
    for name in NAMES:
        together = np.concatenate([one.batch.columns[name] for one in single])
        valid = bulk.batch.valid
        assert bulk.batch.columns[name][valid].tolist() == together[valid].tolist()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(body: bytes) -> None:
    for kind in (JSON, NDJSON, CSV, ARROW):
        try:
            batch = decode(body, kind, READING).batch
        except PayloadInvalid:
            continue
        assert len(batch) > 0


@settings(deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_no_damage_to_an_arrow_stream_crashes_the_decoder(place: int, noise: bytes) -> None:
    whole = arrow({n: [1000.0] * 3 for n in NAMES})
    body = whole[:place] + noise + whole[place + len(noise) :]
    try:
        batch = decode(body, ARROW, READING).batch
    except PayloadInvalid:
        return
    assert len(batch) <= 3


def of_no_unit() -> bytes:
    """An Arrow stream of one row, whose time is counted in a unit that there is none of."""
    columns = {n: np.array([v]) for n, v in EXAMPLE.items()}
    ms, us = (write_columns(columns | {"event_time": np.array([t], "datetime64[us]")}) for t in (1_000, 1_001))
    body = bytearray(ms)
    (unit,) = (i for i, (a, b) in enumerate(zip(ms, us, strict=True)) if (a, b) == (1, 2))
    body[unit] = 9
    return bytes(body)


def test_an_arrow_time_of_no_unit_is_one_malformed_message_and_weighs_nothing() -> None:
    body = of_no_unit()

    decoded = decode_many([body], ARROW, READING)

    assert [(r.code, r.row) for r in decoded.batch.rejections] == [("malformed", 0)]
    assert "unit of a time of 9, allowed 0 to 3" in decoded.batch.rejections[0].message
    assert weight(body) == 0
    with pytest.raises(PayloadInvalid, match="unit of a time"):
        read_columns(body)


@pytest.mark.parametrize("error", [KeyError, RuntimeError, RecursionError, MemoryError])
def test_weighing_an_arrow_stream_never_raises(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(metadata: bytes) -> Any:
        raise error

    broken.__wrapped__ = broken  # type: ignore[attr-defined]
    monkeypatch.setattr("kappawatt.columns.arrow._describe", broken)

    assert weight(arrow({n: [v] for n, v in EXAMPLE.items()})) == 0


def test_arrow_written_here_is_read_by_the_reference_implementation() -> None:
    moment = np.array(["2026-01-01T00:00:00.123", "NaT"], dtype="datetime64[ms]")
    columns = {"a": np.array([1.5, 2.5]), "b": np.array([True, False]), "t": moment}

    table = pa.ipc.open_stream(write_columns(columns)).read_all()

    assert table.column("a").to_pylist() == [1.5, 2.5]
    assert table.column("b").to_pylist() == [True, False]
    assert pa.types.is_boolean(table.column("b").type)
    assert table.column("t")[0].as_py().isoformat() == "2026-01-01T00:00:00.123000+00:00"
    assert read_columns(write_columns(columns))["t"][0] == moment[0]


def test_arrow_times_and_integers_are_read() -> None:
    body = arrow({
        **{n: pa.array([1000 if n == "ambient_pressure" else 20], pa.int32()) for n in NAMES},
        "event_time": pa.array([1_767_225_600_000_000], pa.timestamp("us", "UTC")),
    })  # fmt: skip

    batch = decode(body, ARROW, READING).batch

    assert batch.columns["event_time"][0] == np.datetime64("2026-01-01T00:00:00.000")
    assert batch.columns["ambient_pressure"][0] == 1000.0


@pytest.mark.parametrize("given_type", ["application/xml", "", None, "text/html; charset=utf-8"])
def test_another_content_type_is_refused_by_name(given_type: str | None) -> None:
    with pytest.raises(ContentTypeUnsupported, match="application/json"):
        content_type_of(given_type)


def test_parameters_and_aliases_of_a_content_type_are_understood() -> None:
    assert content_type_of("Application/JSON; charset=utf-8") == JSON
    assert content_type_of("application/jsonlines") == NDJSON


@pytest.mark.parametrize(
    ("body", "kind"), [(b'{"interval_start": 0}', JSON), (b"0,1", CSV), (b'[{"interval_start": 0}]', JSON)]
)
def test_a_time_sent_as_a_bare_number_of_milliseconds_is_read(body: bytes, kind: str) -> None:
    from kappawatt.streams import load

    one, many = decode(body, kind, load.READING).batch, decode_many([body], kind, load.READING).batch

    for batch in (one, many):
        assert not batch.rejections
        assert str(batch.columns["interval_start"][0]) == "1970-01-01T00:00:00.000"
