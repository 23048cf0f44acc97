"""CSV and Parquet -> a table, by DuckDB: the command line's reader.

Everything is read as text, so that nothing is guessed: what numbers and times mean is told by this package.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.dialect import Dialect, cells_of
from kappawatt.datasets.reading.table import Column, Table, instant_texts
from kappawatt.datasets.reading.texts import (
    LONGEST_LINE,
    MOST_COLUMNS,
    facts_of,
    lines_above,
    narrow_row,
    refuse_wide,
    wide_row,
)
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid

__all__ = ["read_parquet", "read_with_duckdb"]

# Everything is text; a row with fewer cells ends in NULL, an empty cell is empty.
READ = """
    SELECT * FROM read_csv(?, delim = ?, quote = '"', escape = '"', header = false, skip = ?, auto_detect = false,
        nullstr = '\\x00', null_padding = true, parallel = false, store_rejects = true, rejects_limit = 0,
        max_line_size = ?, columns = ?)"""
REJECTED = """
    SELECT line, any_value(csv_line), min(error_type::VARCHAR) FROM reject_errors GROUP BY line ORDER BY line"""


def read_with_duckdb(data: bytes, dialect: Dialect) -> Table:
    """Read a table of texts; see `texts.read_with_csv`, which gives the same.

    Raises
    ------
    PayloadInvalid
        As there.
    """
    width = len(dialect.names)
    spare = [f"c{i}" for i in range(width + 1)]  # one cell more: a separator at the end of a row makes an empty one
    lines = _lines_of(data, dialect.line)
    with _connection() as connection, _file(data) as path:
        try:
            found = connection.execute(
                READ, [path, dialect.separator, dialect.line, LONGEST_LINE, dict.fromkeys(spare, "VARCHAR")]
            ).fetchnumpy()
            rejects = connection.execute(REJECTED).fetchall()
        except duckdb.Error as error:
            raise PayloadInvalid.of("file", str(error).partition("\n")[0][:200], "a table") from None
    problems = Problems()
    # Cells that are not there, not empty ones.
    gone = [np.ma.getmaskarray(np.ma.asarray(found[name])) for name in spare]
    columns: list[list[str]] = [_texts(found[name]) for name in spare]
    refused = {int(line) for line, _, _ in rejects}
    lines = lines[~np.isin(lines, list(refused))] if refused else lines
    if len(lines) != len(columns[0]):
        raise PayloadInvalid.of("file", "a quote that is left open", "each closed on its line")
    wide = 0
    for line, text, kind in rejects:
        if "COLUMN" in kind:
            wide += 1
            problems.append(wide_row(int(line), cells_of(text, dialect.separator), dialect))
        else:
            problems.append(Problem(int(line), "row", text[:80], "cells whose quotes are closed"))
    extra = [i for i, cell in enumerate(columns[width]) if cell and not cell.isspace()]
    for i in extra:
        wide += 1
        problems.append(wide_row(int(lines[i]), [column[i] for column in columns], dialect))
    blank = [i for i in range(len(lines)) if not any(column[i] and not column[i].isspace() for column in columns)]
    narrow = sorted(set(np.flatnonzero(gone[width - 1]).tolist()) - set(blank))
    for i in narrow:
        there = [column[i] for column, missing in zip(columns[:width], gone, strict=False) if not missing[i]]
        problems.append(narrow_row(int(lines[i]), there, dialect))
    columns = columns[:width]
    if extra or blank or narrow:
        refused_rows = {*extra, *blank, *narrow}
        kept = [i for i in range(len(lines)) if i not in refused_rows]
        columns = [[column[i] for i in kept] for column in columns]
        lines = lines[kept]
    refuse_wide(sorted(problems, key=lambda problem: problem.line), wide, len(lines))
    return Table(
        dialect.names, tuple(columns), lines, dialect.separator, problems, facts_of(dialect), above=lines_above(dialect)
    )


def read_parquet(data: bytes) -> Table:
    """Read a Parquet file.

    Raises
    ------
    PayloadInvalid
        It is damaged, or has columns of lists and the like.
    """
    with _connection() as connection, _file(data) as path:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [path]).fetchall()
            found = connection.execute("SELECT * FROM read_parquet(?)", [path]).fetchnumpy()
        except duckdb.Error as error:
            raise PayloadInvalid.of("file", str(error).partition("\n")[0][:200], "Parquet") from None
    if len(described) > MOST_COLUMNS:
        raise PayloadInvalid.of("file", f"{len(described)} columns", f"up to {MOST_COLUMNS:,}")
    columns = [_typed(found[name], kind) for name, kind, *_ in described]
    n = len(columns[0]) if columns else 0
    return Table(tuple(name.strip() for name, *_ in described), tuple(columns), np.arange(1, n + 1))


def _typed(values: Any, kind: str) -> Column:
    values = np.ma.asarray(values)
    missing = np.ma.getmaskarray(values)
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "BLOB")):
        raise PayloadInvalid.of("file", f"a column of {kind}", "columns of numbers, times and text")
    if "WITH TIME ZONE" in kind:
        return instant_texts(values.filled(np.datetime64("NaT")))
    if kind.startswith(("TIMESTAMP", "DATE")):
        times: NDArray[np.datetime64] = values.filled(np.datetime64("NaT")).astype("datetime64[ms]")
        return times
    if np.ma.getdata(values).dtype.kind in "fiu":
        numbers = values.astype(np.float64)
        return np.where(missing, np.nan, np.ma.getdata(numbers))
    return [
        "" if gone or value is None else str(value)
        for value, gone in zip(np.ma.getdata(values).tolist(), missing.tolist(), strict=True)
    ]


def _texts(values: Any) -> list[str]:
    if not np.ma.isMaskedArray(values) or not np.ma.getmaskarray(values).any():
        return list(np.ma.getdata(values).tolist())
    return [
        "" if gone else text
        for text, gone in zip(np.ma.getdata(values).tolist(), np.ma.getmaskarray(values).tolist(), strict=True)
    ]


def _lines_of(data: bytes, skipped: int) -> NDArray[np.int64]:
    """Numbers of the lines after the names that are not empty: DuckDB passes over those without a word."""
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw == 10)
    if not len(raw):
        return np.zeros(0, np.int64)
    if not len(ends) or ends[-1] != len(raw) - 1:
        ends = np.append(ends, len(raw))
    begins = np.concatenate([[0], ends[:-1] + 1])
    before = np.where(ends > begins, raw[np.maximum(ends - 1, 0)], 13)
    length = ends - begins - (before == 13)
    numbers = np.flatnonzero(length > 0) + 1
    return numbers[numbers > skipped]


@contextmanager
def _connection() -> Iterator[Any]:
    connection = duckdb.connect(config={"threads": "2", "autoinstall_known_extensions": "false"})
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    """The bytes as a file: DuckDB reads those only."""
    descriptor, path = tempfile.mkstemp(prefix="kappawatt-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)
