"""The values of one field, whatever they were written in, to a column."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.refusals import Refusals
from kappawatt.columns.schema import Field, Kind, Schema

__all__ = ["CALENDAR", "LONGEST_TIME", "column_of", "moments_of", "parse_microseconds", "parse_timestamp"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CALENDAR = (-62_135_596_800_000, 253_402_300_799_999)  # ms since the epoch: the years 1 to 9999, of 4 digits
LONGEST_TIME = 64  # characters of a time as text; half of them write every digit and zone there is
MOST_DIGITS = 15  # of a number of ms, as the end of the calendar has
BASIC_DATE = len("20160701")  # digits: a date to ISO 8601, 1970-01-01 as ms, and so neither
NOT_A_TIME = np.iinfo(np.int64).min  # NaT as a number


def refuse_unknown(names: Iterable[str], schema: Schema) -> None:
    for name in names:
        if not schema.knows(name):
            raise schema.unknown(0, name, "this column").error


def column_of(values: list[Any], field: Field, refusals: Refusals) -> NDArray[Any]:
    """One JSON column as an array; None is missing, values of a wrong type are refused."""
    if field.kind is Kind.TIMESTAMP:
        return timestamps_of(values, field, refusals)
    if field.kind is Kind.TEXT:
        return texts_of(values, field, refusals)
    kinds = set(map(type, values))
    if not kinds <= {float, int}:
        clean: list[Any] = []
        for row, value in enumerate(values):
            if type(value) in (float, int):
                clean.append(value)
                continue
            clean.append(math.nan)
            if value is not None:
                refusals.refuse_value(row, "not_a_number", field, value)
        values = clean
    elif float in kinds:
        for row, value in enumerate(values):
            if value != value:  # a literal NaN: Python's parser reads it, JSON does not have it
                refusals.refuse_value(row, "not_finite", field, "NaN")
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer beyond any float
        return np.array([_as_float(value) for value in values])


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def texts_of(values: list[Any], field: Field, refusals: Refusals) -> NDArray[Any]:
    shortest, longest = field.lengths
    column = np.full(len(values), None, dtype=object)
    for row, value in enumerate(values):
        if isinstance(value, str) and shortest <= len(value) <= longest:
            column[row] = value
        elif value is not None:
            refusals.refuse_value(row, "not_text", field, value)
    return column


def timestamps_of(values: list[Any], field: Field, refusals: Refusals) -> NDArray[Any]:
    if set(map(type, values)) == {type(None)}:
        return np.full(len(values), np.datetime64("NaT"), dtype=f"datetime64[{field.finest}]")
    whole = np.full(len(values), NOT_A_TIME, dtype=np.int64)
    for row, value in enumerate(values):
        if value is None:
            continue
        moment = parse_microseconds(value)
        if moment is None:
            refusals.refuse_value(row, "not_a_timestamp", field, value)
        else:
            whole[row] = moment
    return whole.view("datetime64[us]").astype(f"datetime64[{field.finest}]", copy=False)


def moments_of(column: NDArray[Any], field: Field, refusals: Refusals) -> NDArray[np.datetime64]:
    """One column of times, or of whole ms since the epoch, as the field keeps them; NaT is missing, and what is
    beyond the years 1 to 9999 is refused.
    """
    if column.dtype.kind == "M":
        known = ~np.isnat(column)
        whole = column.astype("datetime64[ms]").astype(np.int64)
    else:
        known = ~np.isnan(column) if column.dtype.kind == "f" else np.ones(len(column), np.bool_)
        whole = column
    inside = known & (whole >= CALENDAR[0]) & (whole <= CALENDAR[1])
    if column.dtype.kind != "M":
        inside &= ~looks_otherwise(np.where(inside, whole, 0))
    refusals.refuse_all(known & ~inside, "not_a_timestamp", field.name, column, field.allowed)
    moments = column if column.dtype.kind == "M" else np.where(inside, whole, 0).astype("datetime64[ms]")
    return np.where(inside, moments, np.datetime64("NaT")).astype(f"datetime64[{field.finest}]")


def parse_timestamp(value: Any) -> int | None:
    """Return ms since the epoch of an ISO 8601 time with zone or of a number of ms; None if it is neither."""
    found = parse_microseconds(value)
    return None if found is None else found // 1000


def parse_microseconds(value: Any) -> int | None:
    """Return microseconds since the epoch of an ISO 8601 time with zone or of a number of ms; None if it is neither.

    Digits of a second beyond the sixth are cut. What looks like seconds or a date run together is refused, and a text
    of 8 digits always.
    """
    if isinstance(value, str):
        if len(value) > LONGEST_TIME:
            return None
        if value.isascii() and value.isdigit():
            if len(value) == BASIC_DATE or len(value) > MOST_DIGITS:
                return None
            value = int(value)
        else:
            try:
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is None:
                    return None
                return (moment - EPOCH) // MICROSECOND
            except (ValueError, OverflowError):
                return None
    if type(value) not in (int, float) or not 0 <= value <= CALENDAR[1] or value != int(value):
        return None
    return None if looks_otherwise(np.array([int(value)]))[0] else int(value) * 1000


def looks_otherwise(whole: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which counts of milliseconds are more likely seconds (of the years 2001 to 2286) or digits of a date.

    As milliseconds they are all days of 1970 and 1976, of which nobody has readings.

    Examples
    --------
    >>> looks_otherwise(np.array([1704067200, 1704067200000, 20240101, 202401012300])).tolist()
    [True, False, True, True]
    """
    count = np.asarray(whole, dtype=np.int64)
    minutes = (count >= 10**11) & (count < 10**12)
    date = np.where(minutes, count // 10_000, count)
    year, month, day = date // 10_000, date // 100 % 100, date % 100
    is_date = (year >= 1900) & (year <= 2100) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    is_date &= ~minutes | ((count // 100 % 100 < 25) & (count % 100 < 60))
    found: NDArray[np.bool_] = is_date | ((count >= 10**9) & (count < 10**10))
    return found
