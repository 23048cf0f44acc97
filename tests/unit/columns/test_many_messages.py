"""Many messages at once: each row says which message and which row of it it was, and one that is bad is bad alone."""

from __future__ import annotations

import io

import numpy as np
import orjson
import pyarrow as pa
import pytest

from kappawatt.columns import codec
from kappawatt.columns.batch import Batch
from kappawatt.columns.budget import LISTED_TOGETHER, Budget
from kappawatt.columns.codec import decode, decode_many
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON, Decoded
from kappawatt.columns.schema import Schema
from kappawatt.errors import PayloadInvalid
from kappawatt.streams import load
from kappawatt.streams.plant import READING
from tests.fakes import EXAMPLE


def with_vacuum(value: object) -> dict[str, object]:
    return EXAMPLE | {"exhaust_vacuum": value}


def arrow(table: dict[str, object]) -> bytes:
    out = io.BytesIO()
    whole = pa.table(table)
    with pa.ipc.new_stream(out, whole.schema) as writer:
        writer.write_table(whole)
    return out.getvalue()


MESSAGES = {
    JSON: [
        orjson.dumps(with_vacuum(40)),
        b"{",
        orjson.dumps([with_vacuum(41), with_vacuum(812), with_vacuum(42)]),
        b"",
        orjson.dumps(with_vacuum("x")),
    ],
    NDJSON: [
        orjson.dumps(with_vacuum(40)),
        b"{",
        b"\n".join(orjson.dumps(with_vacuum(v)) for v in (41, 812, 42)),
        b"",
        orjson.dumps(with_vacuum("x")),
    ],
    CSV: [
        b"14.96,40,1024.07,73.17",
        b"AT,V,AP,RH\n",
        b"14.96,41,1024.07,73.17\n14.96,812,1024.07,73.17\n14.96,42,1024.07,73.17",
        b"",
        b"14.96,x,1024.07,73.17",
    ],
    ARROW: [
        arrow({n: [v] for n, v in with_vacuum(40.0).items()}),
        b"ARROW1",
        arrow({n: [v] * 3 if n != "exhaust_vacuum" else [41.0, 812.0, 42.0] for n, v in EXAMPLE.items()}),
        b"",
        arrow({n: [v] for n, v in with_vacuum(1e9).items()}),
    ],
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_row_knows_its_message_and_a_bad_message_is_one_refused_row(kind: str) -> None:
    found = decode_many(MESSAGES[kind], kind, READING)

    assert found.message.tolist() == [0, 1, 2, 2, 2, 3, 4]
    assert found.row.tolist() == [0, 0, 0, 1, 2, 0, 0]
    assert found.batch.valid.tolist() == [True, False, True, False, True, False, False]
    assert sorted({r.row for r in found.batch.rejections}) == [1, 3, 5, 6]
    assert [r.code for r in found.batch.rejections if r.row in (1, 5)] == ["malformed", "malformed"]
    assert found.batch.columns["exhaust_vacuum"][[0, 2, 4]].tolist() == [40.0, 41.0, 42.0]


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("number", [0, 2])
def test_one_message_alone_is_what_it_is_among_others(kind: str, number: int) -> None:
    alone = decode_many([MESSAGES[kind][number]], kind, READING)
    among = decode_many(MESSAGES[kind], kind, READING)

    place = among.message == number
    assert alone.message.tolist() == [0] * place.sum()
    assert alone.row.tolist() == among.row[place].tolist()
    for name in READING.names:
        assert np.array_equal(alone.batch.columns[name].astype(str), among.batch.columns[name][place].astype(str))


@pytest.mark.parametrize("kind", MESSAGES)
def test_good_messages_alone_are_the_same_rows(kind: str) -> None:
    found = decode_many([MESSAGES[kind][0]] * 3, kind, READING)

    assert found.message.tolist() == [0, 1, 2]
    assert found.row.tolist() == [0, 0, 0]
    assert found.batch.valid.all()
    assert found.batch.columns["exhaust_vacuum"].tolist() == [40.0] * 3


@pytest.mark.parametrize(
    ("kind", "refused"), [(JSON, b"{}"), (JSON, b"[{}]"), (NDJSON, b"{}"), (CSV, b"1000,1000,0,1000")]
)
def test_very_many_refused_messages_keep_their_first_reasons_and_count_the_others(kind: str, refused: bytes) -> None:
    alone = decode_many([refused], kind, READING).batch
    reasons = len(alone.rejections)

    batch = decode_many([refused] * LISTED_TOGETHER, kind, READING).batch

    assert reasons > 1
    assert len(batch.rejections) < 2 * LISTED_TOGETHER
    assert len(batch.rejections) + sum(batch.unlisted.values()) == reasons * LISTED_TOGETHER
    assert {r.row for r in batch.rejections} == set(range(LISTED_TOGETHER))
    assert batch.rejections[-1].at(0) == alone.rejections[0]


@pytest.mark.parametrize(("before", "listed"), [(LISTED_TOGETHER - 1, 5), (LISTED_TOGETHER, 1)])
def test_of_a_message_all_reasons_are_kept_while_there_is_room_for_one(before: int, listed: int) -> None:
    good, bad = MESSAGES[CSV][0], b"1000,40,1024,73"
    assert len(decode_many([bad], CSV, READING).batch.rejections) == 1

    batch = decode_many([good, *[bad] * before, b"\n".join([bad] * 5)], CSV, READING).batch

    assert len(batch.rejections) == before + listed
    assert sum(batch.unlisted.values()) == 5 - listed


@pytest.mark.parametrize("kind", [JSON, NDJSON, CSV])
def test_a_byte_order_mark_before_some_messages_changes_none(kind: str) -> None:
    values = [MESSAGES[kind][i] for i in (0, 2, 0)]
    marked = [values[0], *(b"\xef\xbb\xbf" + value for value in values[1:])]

    plain, found = (decode_many(each, kind, READING) for each in (values, marked))

    assert found.message.tolist() == plain.message.tolist()
    assert found.batch.rejections == plain.batch.rejections
    assert found.batch.columns["exhaust_vacuum"].tolist() == plain.batch.columns["exhaust_vacuum"].tolist()


def hour(**columns: object) -> bytes:
    return arrow({"interval_start": pa.array([0, 3_600_000], pa.timestamp("ms", "UTC"))} | columns)


def columns_of(body: bytes, schema: Schema = load.READING) -> dict[str, list[object]]:
    batch = decode(body, ARROW, schema).batch
    assert not batch.rejections, batch.rejections
    return {name: column.tolist() for name, column in batch.columns.items()}


def test_arrow_columns_of_text_keep_what_is_there_beside_nulls() -> None:
    found = columns_of(hour(load_zone=["PJME", None], load=[1.0, None]))

    assert found["load_zone"] == ["PJME", None]
    assert found["load"] == pytest.approx([1.0, np.nan], nan_ok=True)


def test_an_arrow_column_of_nulls_alone_is_one_that_is_not_there() -> None:
    nothing = pa.nulls(2)

    assert columns_of(hour(load_zone=nothing))["load_zone"] == [None, None]
    assert np.isnan(columns_of(hour(load=nothing))["load"]).all()


def test_whole_numbers_are_numbers_and_milliseconds_are_times_in_arrow() -> None:
    found = columns_of(arrow({"interval_start": [0, 3_600_000], "load": [1, 2]}))

    assert found["load"] == [1.0, 2.0]
    assert [str(np.datetime64(t, "ms")) for t in found["interval_start"]] == [
        "1970-01-01T00:00:00.000",
        "1970-01-01T01:00:00.000",
    ]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()], ids=str)
def test_whole_numbers_beside_a_null_are_times_to_the_millisecond_in_arrow(kind: pa.DataType) -> None:
    last = 9_214_646_399_999
    beyond = 2**63 - 1 if kind == pa.int64() else 2**64 - 1
    columns = hour(interval_start=[0] * 4, load=[1.0] * 4, issue_time=pa.array([1, None, beyond, last], kind))

    batch = decode(columns, ARROW, load.READING).batch

    assert batch.valid.tolist() == [True, True, False, True]
    assert [(r.row, r.code, r.field) for r in batch.rejections] == [(2, "not_a_timestamp", "issue_time")]
    known = batch.columns["issue_time"].astype("datetime64[ms]").astype(np.int64)
    assert known[[0, 3]].tolist() == [1, last]
    assert np.isnat(batch.columns["issue_time"][1])


def test_numbers_of_64_bits_without_a_sign_are_times_in_arrow() -> None:
    body = hour(issue_time=pa.array([2**64 - 1, 9_214_646_399_999], pa.uint64()))

    assert decode(body, ARROW, load.READING).batch.valid.tolist() == [False, True]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"load_zone": [1, 2]}, "load_zone: got 'an Arrow column of int64', allowed text of 1 to 200"),
        ({"load": ["a", "b"]}, "load: got 'an Arrow column of object', allowed a number"),
        ({"issue_time": [0.5, 1.0]}, "issue_time: got 'an Arrow column of float64', allowed an ISO 8601 time"),
    ],
)
def test_an_arrow_column_of_another_kind_is_named(columns: dict[str, object], said: str) -> None:
    with pytest.raises(PayloadInvalid, match=said.replace("'", "'?")):
        decode(hour(**columns), ARROW, load.READING)


def test_an_arrow_stream_without_a_row_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="rows: got 0, allowed 1 to"):
        decode(arrow({"load": pa.array([], pa.float64())}), ARROW, load.READING)


def poisoned(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Reading JSON fails on a value in a way that nobody thought of, in bulk and alone."""
    bulk, one = codec.bulk_json, codec.decode_json

    def in_bulk(values: list[bytes], schema: Schema) -> Batch | None:
        if any(b"777" in value for value in values):
            raise error("seven")
        return bulk(values, schema)

    def alone(value: bytes, schema: Schema, budget: Budget) -> Decoded:
        if b"777" in value:
            raise error("seven")
        return one(value, schema, budget)

    monkeypatch.setattr(codec, "bulk_json", in_bulk)
    monkeypatch.setattr(codec, "decode_json", alone)


def test_a_message_that_nobody_thought_of_is_refused_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(monkeypatch, ZeroDivisionError)
    values = [orjson.dumps(with_vacuum(v)) for v in (40, 777, 41)]

    found = decode_many(values, JSON, READING)

    assert found.batch.valid.tolist() == [True, False, True]
    (refused,) = found.batch.rejections
    assert (refused.row, refused.code) == (1, "internal")
    assert refused.allowed == "rows that can be read (could not be read: ZeroDivisionError: seven)"


@pytest.mark.parametrize("way", ["bulk_json", "decode_json"])
def test_a_process_without_memory_is_no_bad_message(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    real = getattr(codec, way)
    poisoned(monkeypatch, MemoryError)
    other = "decode_json" if way == "bulk_json" else "bulk_json"
    monkeypatch.setattr(codec, other, (lambda *_: None) if other == "bulk_json" else real)

    with pytest.raises(MemoryError):
        decode_many([orjson.dumps(with_vacuum(777))], JSON, READING)
