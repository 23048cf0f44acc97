"""What both databases take, and queries on them stand: rows are checked before a database sees them.

A time that a database writes and Python cannot read would stop a query for ever, and a sum of squares that overflows
stops it on PostgreSQL. So the limits are narrower than those of the column types.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Columns
from kappawatt.store.table import ABSENT, DTYPES, Column, Table, Type

__all__ = ["checked"]

# A day inside the years 1 to 9999, since a view shows times in the zone of their series.
EARLIEST = np.datetime64("0001-01-02", "us")
LATEST = np.datetime64("9999-12-30", "us")
LARGEST = 1e150  # of a number: its square is one, too, and the sum of many of these
WHOLE = {Type.INTEGER: 2**31, Type.BIGINT: 2**63}  # from minus this to less than it
SHOWN = 80  # characters of a value in an error


def checked(table: Table, columns: Columns, n: int) -> tuple[Columns, dict[int, str]]:
    """Return the columns of a table, complete and of their types, and why rows cannot be stored, by row.

    A row that cannot be stored stays in the columns, absent where it is wrong.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n,)
        Columns of the table; what is not among them is NULL.
    """
    refused: dict[int, str] = {}
    found: dict[str, NDArray[Any]] = {}
    for column in table.columns:
        given = columns.get(column.name)
        if given is None:
            found[column.name] = np.full(n, ABSENT[column.type], dtype=DTYPES[column.type])
        else:
            found[column.name] = _checked(column, given, refused)
    return found, refused


def _checked(column: Column, given: NDArray[Any], refused: dict[int, str]) -> NDArray[Any]:
    """Return a column of its type; note rows whose value it does not take."""
    if column.type is Type.TEXT:
        return _texts(column, given, refused)
    if column.type is Type.TIME:
        moments = given if given.dtype.kind == "M" else given.astype("datetime64[us]")
        if np.datetime_data(moments.dtype)[0] == "ns":  # reaches from 1677 to 2262 only
            moments = moments.astype("datetime64[us]")
        limits = EARLIEST.astype(moments.dtype), LATEST.astype(moments.dtype)
        bad = ~np.isnat(moments) & ~((limits[0] <= moments) & (moments < limits[1]))
        allowed = f"a time from {EARLIEST.astype('datetime64[D]')} to {LATEST.astype('datetime64[D]')}"
        # checked in their own unit: milliseconds beyond the range would wrap around as microseconds
        return _settled(column, moments, bad, allowed, refused, given)
    if column.type is Type.NUMBER:
        numbers = given.astype(np.float64)
        bad = ~np.isnan(numbers) & ~(np.abs(numbers) <= LARGEST)
        return _settled(column, numbers, bad, f"a number from -{LARGEST:g} to {LARGEST:g}", refused, given)
    if column.type is Type.BOOLEAN:
        flags = np.where(np.isnan(given), ABSENT[column.type], given) if given.dtype.kind == "f" else given
        bad = ~np.isin(flags.astype(np.float64), (-1, 0, 1))
        return _settled(column, flags, bad, "true or false", refused, given)
    return _whole(column, given, refused)


def _whole(column: Column, given: NDArray[Any], refused: dict[int, str]) -> NDArray[Any]:
    end = WHOLE[column.type]
    if given.dtype.kind == "f":
        nothing = np.isnan(given)
        bad = ~nothing & ~((given >= -end) & (given < end) & (given == np.floor(given)))
        whole = np.where(nothing | bad, 0, given).astype(np.int64)
        values = np.where(nothing, ABSENT.get(column.type, 0), whole)
        if column.type not in ABSENT:
            bad |= nothing
    else:
        values = given
        bad = (given > end - 1) | (given < -end)  # numpy compares an unsigned column rightly
    return _settled(column, values, bad, f"a whole number from {-end} to {end - 1}", refused, given)


def _texts(column: Column, given: NDArray[Any], refused: dict[int, str]) -> NDArray[Any]:
    texts = given.astype(object, copy=False)
    wrong = {value for value in set(texts.tolist()) if value is not None and not _is_text(value)}
    bad = (
        np.array([value in wrong for value in texts.tolist()], dtype=np.bool_) if wrong else np.zeros(len(texts), bool)
    )
    return _settled(column, texts, bad, "valid Unicode without NUL", refused, given)


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or "\x00" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _settled(
    column: Column,
    values: NDArray[Any],
    bad: NDArray[np.bool_],
    allowed: str,
    refused: dict[int, str],
    given: NDArray[Any],
) -> NDArray[Any]:
    """Note the bad rows, and return the column of its type with nothing in their place."""
    if bad.any():
        for row in np.flatnonzero(bad).tolist():
            if row not in refused:
                got = str(given[row]).encode("utf-8", "backslashreplace").decode()[:SHOWN]
                refused[row] = f"{column.name}: got {got}, allowed {allowed}"
        values = np.where(bad, np.zeros(1, dtype=values.dtype), values)
        values = values.astype(DTYPES[column.type])
        values[bad] = ABSENT.get(column.type, 0)
    return values.astype(DTYPES[column.type], copy=False)
