"""Strict JSON: what a stranger sends is refused by its field, and what was let in can be written again."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappawatt.columns.budget import Budget
from kappawatt.columns.codec import decode, decode_many
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON
from kappawatt.columns.schema import MAX_TIMESTAMP, MIN_TIMESTAMP
from kappawatt.columns.strict_json import MOST_DEPTH, dump_json, load_document, load_json
from kappawatt.columns.values import parse_microseconds
from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from kappawatt.streams import load, plant
from tests.fakes import EXAMPLE
from tests.unit.columns.test_codec import arrow

HALF = "\\ud8ab"  # half a surrogate pair, as an escape


def nested(levels: int, kind: str = "list") -> bytes:
    begin, end = {"list": (b"[", b"]"), "object": (b'{"a":', b"}")}[kind]
    return begin * levels + b"0" + end * levels


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (f'"{HALF}"', "body"),
        (f'{{"load_zone": "a{HALF}b"}}', "load_zone"),
        ('{"load_zone": "\\udfff"}', "load_zone"),
        (f'{{"{HALF}": 1}}', "body"),
        (f'{{"history": {{"{HALF}": 1}}}}', "history"),
        (f'[{{"a": 1}}, {{"a": [0, "{HALF}"]}}]', "[1].a[1]"),
        (f'{{"a": "x", "a": "{HALF}"}}', "a"),
        (f'{{"{HALF}": 1, "{HALF}": 2}}', "body"),
        (f'{{"a": "say \\"{HALF}\\""}}', "a"),
        ('{"a": "\\ude00\\ud83d"}', "a"),  # the halves of a pair, the wrong way round
    ],
)
def test_text_that_is_no_unicode_is_refused_by_its_field(body: str, field: str) -> None:
    with pytest.raises(PayloadInvalid, match="half a surrogate pair") as refused:
        load_json(body.encode())

    assert refused.value.field == field
    assert refused.value.status == 400
    str(refused.value).encode()


def test_surrogate_pairs_and_escaped_backslashes_are_ordinary_text() -> None:
    assert load_json(b'{"a": "\\ud83d\\ude00 \\"\\\\ud800\\""}') == {"a": '\U0001f600 "\\ud800"'}


def test_surrogates_as_bytes_and_other_encodings_are_refused() -> None:
    for body in ('{"a": "\ud800"}'.encode("utf-8", "surrogatepass"), '{"a": 1}'.encode("utf-16")):
        with pytest.raises(PayloadInvalid, match="not UTF-8"):
            load_json(body)


@pytest.mark.parametrize("kind", ["list", "object"])
def test_deep_json_is_refused_and_as_deep_as_allowed_is_read(kind: str) -> None:
    load_json(nested(MOST_DEPTH, kind))
    for levels in (MOST_DEPTH + 1, 1_000, 20_000):
        with pytest.raises(PayloadInvalid, match="nested too deeply"):
            load_json(nested(levels, kind))
        with pytest.raises(PayloadInvalid, match=r"nested too deeply|depth limit|allowed an object"):
            load_document(b'{"errors":' + nested(levels, kind) + b"}")


def test_many_shallow_lists_are_not_deep() -> None:
    body = orjson.dumps({"rows": [[[i]] for i in range(1_000)], "text": 'a "quote"'})

    assert load_json(body) == load_document(body) == orjson.loads(body)


@pytest.mark.parametrize("text", ["1" * 5_000, "-" + "9" * 300, "18446744073709551616", "-9223372036854775809"])
def test_whole_numbers_beyond_64_bits_are_decimals_by_either_parser(text: str) -> None:
    plain, careful = f'{{"a": {text}}}'.encode(), f'{{"a": {text}, "b": "\\""}}'.encode()

    found = load_json(careful)["a"]

    assert type(found) is float
    assert found == load_json(plain)["a"]


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775808", "0", "-0", "123456789012345678"])
def test_whole_numbers_of_64_bits_stay_whole_by_either_parser(text: str) -> None:
    for body in (f'{{"a": {text}}}', f'{{"a": {text}, "b": "\\""}}'):
        assert load_json(body.encode())["a"] == int(text)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5_000])
def test_numbers_that_are_not_finite_are_refused_by_their_field(text: str) -> None:
    body = json.dumps(EXAMPLE).replace("41.76", text).encode()

    (refused,) = decode(body, JSON, plant.READING).batch.rejections

    assert (refused.code, refused.field) == ("not_finite", "exhaust_vacuum")


@pytest.mark.parametrize(
    "value", [b"", b"1", b"[]", b"null", b"NaN", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff", b"{"]
)
def test_documents_are_whole_objects(value: bytes) -> None:
    with pytest.raises(PayloadInvalid, match="allowed an object"):
        load_document(value)


def test_one_line_of_many_that_is_no_unicode_leaves_the_others() -> None:
    good = b'{"load_zone": "PJME", "interval_start": "2026-03-01T00:00:00Z", "load": 1.0}'
    bad = good.replace(b"PJME", HALF.encode())

    lines = decode(b"\n".join([good, bad, good]), NDJSON, load.READING).batch
    messages = decode_many([good, bad, good], JSON, load.READING).batch

    for batch in (lines, messages):
        assert batch.valid.tolist() == [True, False, True]
        assert "half a surrogate pair" in batch.rejections[0].allowed


hostile_text = st.text(st.characters(codec=None, categories=None), max_size=20)
hostile_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | hostile_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_text, inner, max_size=3),
    max_leaves=20,
)


@given(hostile_value)
def test_whatever_was_let_in_can_be_written(value: Any) -> None:
    try:
        found = load_json(json.dumps(value).encode())
    except PayloadInvalid as refused:
        str(refused).encode()
        return
    orjson.dumps(found)


@given(hostile_value)
def test_what_must_be_said_is_written_whatever_got_into_it(value: Any) -> None:
    orjson.loads(dump_json({"detail": value}))


def test_what_json_cannot_hold_is_written_as_what_comes_next() -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    document = {"text": "a\ud800b", "\udfff": 1, "large": 10**30, "larger": 10**400, "deep": deep, "fine": "\U0001f600"}

    found = orjson.loads(dump_json(document))

    assert found["text"] == "a\ufffdb"
    assert found["\ufffd"] == 1
    assert math.isclose(found["large"], 1e30)
    assert found["larger"] is None
    assert found["fine"] == "\U0001f600"


def test_what_is_no_document_at_all_is_still_an_error() -> None:
    with pytest.raises(TypeError):
        dump_json({"a": {1, 2}, "b": "\ud800"})


@pytest.mark.parametrize(
    "moment", ["1969-12-31T23:59:59.999Z", "2262-01-01T00:00:00Z", MAX_TIMESTAMP + 1, "0001-01-01T00:00:00Z"]
)
def test_times_out_of_range_are_refused_with_the_range(moment: object) -> None:
    (refused,) = decode(orjson.dumps(EXAMPLE | {"event_time": moment}), JSON, plant.READING).batch.rejections

    assert (refused.code, refused.field) == ("out_of_range", "event_time")
    assert "1970 to 2261" in refused.allowed


@pytest.mark.parametrize("moment", [9_300_000_000_000_000, 1e300, -1, 2**64, "+294247-01-10T04:00:54.775Z"])
def test_times_of_no_calendar_are_refused_with_the_range(moment: object) -> None:
    body = json.dumps(EXAMPLE | {"event_time": moment}).encode()

    (refused,) = decode(body, JSON, plant.READING).batch.rejections

    assert (refused.code, refused.field) == ("not_a_timestamp", "event_time")
    assert "1970 to 2261" in refused.allowed


@pytest.mark.parametrize("text", ["2016-07-01T04:00:00." + "0" * 44 + "Z", "a" * 65, "1" * 65])
def test_a_text_longer_than_any_time_is_none(text: str) -> None:
    assert parse_microseconds(text) is None


@pytest.mark.parametrize("text", ["00000000000000001467345600000", "0001467345600000", "20160701", "00000001"])
def test_digits_that_are_cut_or_may_be_a_date_are_no_time(text: str) -> None:
    bodies = [(json.dumps(EXAMPLE | {"event_time": text}).encode(), JSON)]
    csv = ",".join(EXAMPLE) + ",event_time\n" + ",".join(map(str, EXAMPLE.values())) + f",{text}\n"
    for body, kind in [*bodies, (csv.encode(), CSV)]:
        (refused,) = decode(body, kind, plant.READING).batch.rejections

        assert (refused.code, refused.field) == ("not_a_timestamp", "event_time")
        assert "no seconds, no digits of a date" in refused.allowed


@pytest.mark.parametrize(
    ("moment", "ms"), [(86_400_000, 86_400_000), ("086400001", 86_400_001), ("1467345600000", 1467345600000)]
)
def test_milliseconds_are_read_as_numbers_of_any_digits_and_as_text_that_is_no_date(moment: object, ms: int) -> None:
    assert parse_microseconds(moment) == ms * 1000


@pytest.mark.parametrize("moment", [1467345600, "1467345600", 20160701, 201607011200, "201607011200"])
def test_seconds_and_the_digits_of_a_date_are_no_milliseconds(moment: object) -> None:
    assert parse_microseconds(moment) is None


def test_escapes_count_as_the_wide_letters_they_may_be() -> None:
    budget = Budget.of(1_000_000)
    plain, escaped = (b'{"a":"' + b"a" * 900_000 + end + b'"}' for end in (b"", rb"\ud83d\ude00"))

    budget.allow_objects(plain)
    with pytest.raises(PayloadTooLarge, match="4 MB"):
        budget.allow_objects(escaped)


@pytest.mark.parametrize("moment", [MIN_TIMESTAMP, MAX_TIMESTAMP, "1970-01-01T00:00:00Z", "2261-12-31T23:59:59.999Z"])
def test_the_first_and_the_last_time_are_taken(moment: object) -> None:
    assert not decode(orjson.dumps(EXAMPLE | {"event_time": moment}), JSON, plant.READING).batch.rejections


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("number", [-1, -(2**63) + 1, 2**63 - 1])
def test_times_of_arrow_out_of_range_are_refused_and_never_wrap(unit: str, number: int) -> None:
    columns = {n: [v, v] for n, v in EXAMPLE.items()} | {"event_time": pa.array([0, number], pa.timestamp(unit))}

    batch = decode(arrow(columns), ARROW, plant.READING).batch

    assert batch.valid.tolist() == [True, False]
    assert batch.rejections[0].field == "event_time"
    assert np.isnat(batch.columns["event_time"][1]) or batch.rejections[0].code == "out_of_range"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_least_number_of_an_arrow_time_is_no_time_and_not_absent(unit: str) -> None:
    body = bytearray(arrow({n: [v] * 3 for n, v in EXAMPLE.items()} | {
        "event_time": pa.array([5, 0x0123456789ABCDEF, None], pa.timestamp(unit)),
    }))  # fmt: skip
    number = (0x0123456789ABCDEF).to_bytes(8, "little")
    assert body.count(number) == 1

    batch = decode(
        bytes(body.replace(number, (-(2**63)).to_bytes(8, "little", signed=True))), ARROW, plant.READING
    ).batch

    assert batch.valid.tolist() == [True, False, True]
    assert [(r.row, r.code, r.field) for r in batch.rejections] == [(1, "not_a_timestamp", "event_time")]
