"""Rows are checked before a database sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kappawatt.store.limits import checked
from kappawatt.store.table import Column, Table, Type

NAMES = {type_: type_.name.lower() for type_ in Type}
TABLE = Table("t", (Column("id", Type.TEXT), *(Column(name, type_) for type_, name in NAMES.items())))


def one(type_: Type, values: Any) -> tuple[list[Any], dict[int, str]]:
    """Return a column as it would be written, and why rows are refused."""
    table = Table("t", (Column("value", type_),))
    columns, refused = checked(table, {"value": values}, len(values))
    return columns["value"].tolist(), refused


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_times_outside_what_both_take_are_refused_in_any_unit(unit: str) -> None:
    largest = np.array([2**62, -(2**62), 0], dtype="int64").view(f"datetime64[{unit}]")

    values, refused = one(Type.TIME, largest)

    assert set(refused) == {0, 1}
    assert values[:2] == [None, None]


def test_the_ends_of_the_range_and_no_time_are_taken() -> None:
    edges = ["0001-01-02", "9999-12-29T23:59:59.999999", "NaT", "0001-01-01", "9999-12-30"]

    values, refused = one(Type.TIME, np.array(edges, dtype="datetime64[us]"))

    assert list(refused) == [3, 4]
    assert refused[3] == "value: got 0001-01-01T00:00:00.000000, allowed a time from 0001-01-02 to 9999-12-30"
    assert values[2] is None


def test_nanoseconds_lie_inside_the_range() -> None:
    values, refused = one(Type.TIME, np.array([2**63 - 1], dtype="datetime64[ns]"))

    assert refused == {}
    assert values[0].year == 2262


def test_numbers_that_overflow_when_they_are_squared_are_refused() -> None:
    _, refused = one(Type.NUMBER, np.array([1e150, -1e150, np.nan, 1.1e150, np.inf, -np.inf]))

    assert list(refused) == [3, 4, 5]


def test_whole_numbers_do_not_wrap_around() -> None:
    of_32 = one(Type.INTEGER, np.array([2**31 - 1, -(2**31), 2**31, 2**62], dtype=np.int64))
    unsigned = one(Type.BIGINT, np.array([1, 2**63], dtype=np.uint64))
    floats = one(Type.BIGINT, np.array([1.0, np.nan, 0.5, 1e19, np.inf, -(2.0**63)]))

    assert list(of_32[1]) == [2, 3]
    assert list(unsigned[1]) == [1]
    assert list(floats[1]) == [2, 3, 4]
    assert floats[0][:2] == [1, np.iinfo(np.int64).min]  # nothing


def test_text_is_unicode_without_nul() -> None:
    values = np.array(["é", None, "\N{GRINNING FACE}", "a\x00", "\ud800", "a\udfffb", 5], dtype=object)

    kept, refused = one(Type.TEXT, values)

    assert list(refused) == [3, 4, 5, 6]
    assert kept == ["é", None, "\N{GRINNING FACE}", None, None, None, None]
    "".join(refused.values()).encode()  # what is said of them is text itself


def test_what_no_row_brings_is_nothing() -> None:
    columns, refused = checked(TABLE, {"id": np.array(["a"], dtype=object), "integer": np.array([1])}, 1)

    assert refused == {}
    assert columns["text"].tolist() == [None]
    assert np.isnan(columns["number"][0])
    assert columns["boolean"].tolist() == [-1]
    assert np.isnat(columns["time"][0])
