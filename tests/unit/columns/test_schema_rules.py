"""Schemas by their rules: what is accepted, what is said of what is not, and the same by every way in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.columns.batch import Rejection
from kappawatt.columns.schema import MAX_TIMESTAMP, Field, Kind, Schema, nothing, shorten

POWER = Field("power", "MW", "power", minimum=-5, maximum=10, column="P", example=1.0)
SHARE = Field("share", "", "share", required=False)
COUNT = Field("count", "", "count", kind=Kind.INTEGER, minimum=0, required=False)
NAME = Field("name", "", "name", kind=Kind.TEXT, required=False)
START = Field("start", "", "start", kind=Kind.TIMESTAMP)
ROW = Schema("Row", "One row.", (START, POWER, SHARE, COUNT, NAME))
NUMBERS = Schema("Numbers", "Numbers only.", (POWER, SHARE))

number = st.sampled_from([-5.0, -5.000001, 0.0, 10.0, 10.000001, math.inf, -math.inf, math.nan, 1e308])


def faults(power: float, share: float) -> list[tuple[str, str]]:
    """By the rules: code and field of all that is wrong in a row."""
    found = []
    if math.isnan(power):
        found.append(("missing_field", "power"))
    elif math.isinf(power):
        found.append(("not_finite", "power"))
    elif not -5 <= power <= 10:
        found.append(("out_of_range", "power"))
    if math.isinf(share):
        found.append(("not_finite", "share"))
    return found


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(number, number), min_size=1, max_size=6), refused=st.booleans())
def test_each_row_is_refused_for_exactly_what_is_wrong_with_it(rows: list[tuple[float, float]], refused: bool) -> None:
    power, share = (np.array(column) for column in zip(*rows, strict=True))
    before = NUMBERS.refusals(len(rows))
    if refused:
        before.refuse(0, "not_a_number", "power", "x", "a number")

    batch = NUMBERS.check({"power": power, "share": share}, len(rows), before)

    expected = [faults(*row) for row in rows]
    if refused:  # what reading refused is not reported twice
        expected[0] = [("not_a_number", "power"), *(pair for pair in expected[0] if pair[1] != "power")]
    assert [[(r.code, r.field) for r in batch.rejections if r.row == i] for i in range(len(rows))] == expected
    assert batch.valid.tolist() == [not found for found in expected]
    assert [r.row for r in batch.rejections] == sorted(r.row for r in batch.rejections)


def test_a_row_that_could_not_be_read_at_all_is_refused_for_that_alone() -> None:
    whole = Rejection(1, "malformed", None, "x", "a row")

    refusals = NUMBERS.refusals(2)
    refusals.refuse(whole.row, whole.code, whole.field, whole.got, whole.allowed)
    batch = NUMBERS.check({"power": np.array([1.0, np.nan])}, 2, refusals)

    assert batch.rejections == (whole,)
    assert batch.valid.tolist() == [True, False]


@settings(max_examples=100, deadline=None)
@given(power=number, share=number)
def test_one_row_in_plain_python_is_the_row_in_columns_or_left_to_them(power: float, share: float) -> None:
    columns = NUMBERS.check({"power": np.array([power])}, 1)

    plain = NUMBERS.plain_row({"power": power})

    assert (plain is not None) == columns.valid.all()
    if plain is not None:
        assert plain.columns["power"].tolist() == [power]
        assert np.isnan(plain.columns["share"]).all()
        assert plain.valid.tolist() == [True]
    assert NUMBERS.plain_row({"power": power, "share": share}) is None
    assert NUMBERS.plain_row({"share": share}) is None


@pytest.mark.parametrize("value", [True, "1", None, [1.0], 10**400])
def test_what_is_no_plain_number_is_left_to_the_columns(value: object) -> None:
    assert NUMBERS.plain_row({"power": value}) is None


def test_a_plain_row_may_hold_whole_numbers_and_no_time() -> None:
    plain = NUMBERS.plain_row({"power": 10})
    assert plain is not None
    assert plain.columns["power"].dtype == np.float64
    for time in (1, math.inf):
        assert ROW.plain_row({"start": time, "power": 10}) is None


def test_a_required_time_or_text_that_is_missing_is_named_and_an_optional_one_is_not() -> None:
    times = np.array(["2026-01-01", "NaT"], "datetime64[us]")
    names = np.array([None, "a"], dtype=object)
    power = np.array([1.0, 1.0])

    batch = ROW.check({"start": times, "power": power, "name": names}, 2)
    assert [(r.row, r.code, r.field, r.got) for r in batch.rejections] == [(1, "missing_field", "start", None)]
    assert batch.columns["count"].tolist() == pytest.approx([np.nan, np.nan], nan_ok=True)

    named = Schema("Named", "", (Field("name", "", "name", kind=Kind.TEXT),))
    batch = named.check({"name": names}, 2)
    assert [(r.row, r.code, r.field) for r in batch.rejections] == [(0, "missing_field", "name")]
    assert named.check({"name": np.array(["a", "b"], dtype=object)}, 2).valid.all()


def test_a_required_number_whose_whole_column_is_absent_is_named() -> None:
    schema = Schema("S", "", (Field("other", "", "other"), POWER, SHARE))

    batch = schema.check({"other": np.array([1.0, 1.0]), "share": np.array([0.5, 0.5])}, 2)

    assert [(r.row, r.code, r.field) for r in batch.rejections] == [(i, "missing_field", "power") for i in range(2)]
    assert not batch.valid.any()


@pytest.mark.parametrize("minimum", [None, 0.0])
@pytest.mark.parametrize("maximum", [None, 10.0])
def test_a_range_may_be_open_at_each_end(minimum: float | None, maximum: float | None) -> None:
    schema = Schema("S", "", (Field("x", "", "x", minimum=minimum, maximum=maximum),))

    for value in (-1e308, -0.001, 0.0, 5.0, 10.0, 10.001, 1e308, math.inf, -math.inf, math.nan):
        is_taken = (-1e308 if minimum is None else minimum) <= value <= (maximum or 1e308)
        assert schema.check({"x": np.array([value])}, 1).valid.tolist() == [is_taken]
        assert (schema.plain_row({"x": value}) is not None) == is_taken


def test_a_time_that_is_missing_does_not_hide_one_that_is_out_of_range() -> None:
    times = np.array(["NaT", "1969-12-31T23:59:59.999999", "1970-01-01"], "datetime64[us]")

    batch = ROW.check({"start": times, "power": np.array([1.0, 1.0, 1.0])}, 3)

    assert [(r.row, r.code, r.field) for r in batch.rejections] == [
        (0, "missing_field", "start"),
        (1, "out_of_range", "start"),
    ]


def test_schemas_of_the_same_fields_are_one() -> None:
    again = Schema(NUMBERS.name, NUMBERS.meaning, NUMBERS.fields)

    assert {NUMBERS, again} == {NUMBERS}
    assert again != Schema(NUMBERS.name, NUMBERS.meaning, (POWER,))


def test_columns_that_are_all_missing_have_the_kind_of_their_field() -> None:
    for n in (1, 3):
        assert nothing(START, n).dtype == np.dtype("datetime64[us]")
        assert np.isnat(nothing(START, n)).tolist() == [True] * n
        assert nothing(NAME, n).tolist() == [None] * n
        assert np.isnan(nothing(POWER, n)).tolist() == [True] * n
    with pytest.raises(ValueError, match="read-only"):
        nothing(POWER, 1)[0] = 1.0


ALLOWED: dict[str, Field] = {
    "a number from -5 to 10 MW": POWER,
    "a number": SHARE,
    "an integer from 0": COUNT,
    "an integer to 3 MW": Field("x", "MW", "", kind=Kind.INTEGER, maximum=3),
    "a number in MW": Field("x", "MW", ""),
    "text of 1 to 200 characters": NAME,
    "text of 0 to 3 characters": Field("x", "", "", kind=Kind.TEXT, minimum=0, maximum=3),
    "an ISO 8601 time with zone, or milliseconds since the epoch (no seconds, no digits of a date), "
    "in the years 1970 to 2261": START,
    "true or false": Field("x", "", "", kind=Kind.BOOLEAN),
}


@pytest.mark.parametrize(("said", "field"), ALLOWED.items(), ids=list(ALLOWED))
def test_what_is_allowed_is_said_in_words(said: str, field: Field) -> None:
    assert field.allowed == said


SCHEMAS: list[tuple[Field, dict[str, Any]]] = [
    (POWER, {"description": "power [MW]", "type": "number", "minimum": -5, "maximum": 10, "x-unit": "MW"}),
    (SHARE, {"description": "share", "anyOf": [{"type": "number"}, {"type": "null"}]}),
    (COUNT, {"description": "count", "anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}),
    (
        NAME,
        {"description": "name", "anyOf": [{"type": "string", "minLength": 1, "maxLength": 200}, {"type": "null"}]},
    ),
    (Field("x", "MW", "x", required=False), {"description": "x [MW]", "x-unit": "MW",
                                             "anyOf": [{"type": "number"}, {"type": "null"}]}),
    (Field("x", "", "x", kind=Kind.BOOLEAN), {"description": "x", "type": "boolean"}),
    (
        START,
        {
            "description": "start",
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "minimum": 0, "maximum": MAX_TIMESTAMP},
            ],
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("field", "schema"), SCHEMAS, ids=[f"{f.name} {f.kind}" for f, _ in SCHEMAS])
def test_a_fields_json_schema_says_the_same(field: Field, schema: dict[str, Any]) -> None:
    assert field.json_schema() == schema


def test_the_schema_of_rows_and_of_columns_close_their_objects() -> None:
    rows, columns = ROW.json_schema(), ROW.columns_json_schema()

    assert rows["required"] == columns["required"] == ["start", "power"]
    assert rows["additionalProperties"] is columns["additionalProperties"] is False
    assert rows["examples"] == [{"power": 1.0}]
    assert columns["properties"]["power"] == {"type": "array", "items": POWER.json_schema(), "minItems": 1}
    assert "examples" not in Schema("S", "", (SHARE,)).json_schema()
    assert "| `share` (optional) |" in ROW.markdown_table()
    assert "| `power` | MW |" in ROW.markdown_table()


def test_fields_are_found_by_name_and_by_a_files_header() -> None:
    assert ROW.field("count") is COUNT
    with pytest.raises(KeyError, match="P"):
        ROW.field("P")
    assert ROW.by_header() == {"start": START, "power": POWER, "P": POWER, "share": SHARE, "count": COUNT,
                               "name": NAME}  # fmt: skip
    assert ROW.csv_fields == (POWER,)


def test_an_unknown_field_is_told_which_there_are_and_a_files_header_its_name() -> None:
    assert ROW.unknown(3, "P", 7).allowed == "power (that is P in full)"
    other = ROW.unknown(3, "w" * 100, 7)
    assert (other.row, other.code, other.field, other.got) == (3, "unknown_field", "w" * 80, 7)
    assert other.allowed == "only start, power, share, count, name"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.datetime64("2026-01-01T00:00:00.001", "us"), "2026-01-01T00:00:00.001"),
        (np.datetime64("2026-01-01T00:00:00.000001", "us"), "2026-01-01T00:00:00.000001"),
        (np.float64(1.5), 1.5),
        (np.int64(7), 7),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (None, None),
        (True, True),
        (2**53 - 1, 2**53 - 1),
        (-(2**53) + 1, -(2**53) + 1),
        (2**53, "9007199254740992"),
        (10**100, "1" + "0" * 79),
        (b"abc", "abc"),
        (b"\xff", "\ufffd"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
        ([1, [2]], "a list of 2"),
        ({"a": 1}, "an object of 1 keys"),
    ],
)
def test_a_bad_value_is_repeated_as_far_as_a_message_can_afford(value: object, said: object) -> None:
    found = shorten(value)

    assert found == said
    assert type(found) is type(said)
