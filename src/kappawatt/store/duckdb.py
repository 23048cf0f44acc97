"""DuckDB: a file that is open only while a batch is written or a query runs, so that others can read it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Columns
from kappawatt.store.cleaning import afterwards
from kappawatt.store.interface import (
    Guard,
    Rows,
    RowsRefused,
    StoreBusy,
    StoreChanged,
    StoreFailed,
    StoreFull,
    StoreUnavailable,
)
from kappawatt.store.migration import Change, log_changes, migrate, refuse_unusable
from kappawatt.store.table import PRESENT, Layout, Table, Type, quoted, staged_value

__all__ = ["DuckDBStore"]

# What is wrong with rows: a value that cannot be converted, a constraint, text that is no Unicode.
REFUSED = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException, ValueError, OverflowError)
FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
LOCKED = ("lock", os.strerror(errno.EAGAIN))  # another process has the file
VALUES = {
    Type.TIME: f"CASE WHEN {PRESENT} THEN make_timestamptz({{name}}) END",
    Type.NUMBER: "CASE WHEN NOT isnan({name}) THEN {name} END",
}


class DuckDBStore:
    """One DuckDB file, made at the first write.

    Rows go in as Arrow through its C interface; ids are made inside the database, so nothing loops over rows.
    """

    def __init__(self, path: str, layout: Layout) -> None:
        self.url = f"duckdb:{path}"
        self._path = Path(path).expanduser().absolute()
        self._layout = layout
        self._is_current = False
        self._preparing = threading.Lock()

    def prepare(self) -> None:
        with self._opened():
            pass

    def write(self, tables: Mapping[str, Columns], guard: Guard | None = None) -> None:
        with self._opened() as connection:
            connection.execute("BEGIN")
            if guard is not None:
                _check(connection, guard)
            for table in self._layout.tables:
                columns = tables.get(table.name)
                if columns is not None:
                    try:
                        _upsert(connection, table, columns)
                    except REFUSED as error:
                        raise RowsRefused(f"table {table.name}: {_reason(error)}") from error
            connection.execute("COMMIT")

    def query(self, sql: str, most: int) -> Rows:
        with self._opened() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            result = connection.execute(sql)
            names = [column[0] for column in result.description]
            return Rows(names, result.fetchmany(most))

    def close(self) -> None:
        """Nothing stays open."""

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = duckdb.connect(str(self._path))
            with afterwards(connection.close):  # what was not committed is rolled back
                with self._preparing:  # two threads that alter one table at once would fail
                    self._prepare(connection)
                yield connection
        except (duckdb.Error, OSError) as error:
            self._is_current = False  # it may have been another file, or somebody has altered a table
            raise _unavailable(error, f"database {self._path}") from error

    def _prepare(self, connection: Any) -> None:
        """Make what is missing, as the file may be a new one each time; once bring an old file up to date.

        The views are made afresh then, in case an older version of this program made them.
        """
        done: list[Change] = []
        connection.execute("BEGIN")
        if not self._is_current:
            done = migrate(
                lambda sql: connection.execute(sql).fetchall(), connection.execute, self._layout, _is_lasting
            )
        for table in self._layout.tables:
            connection.execute(table.ddl)
        if not self._is_current:
            refuse_unusable(lambda sql: connection.execute(sql).fetchall(), self._layout, _is_lasting)
        how = "CREATE VIEW IF NOT EXISTS" if self._is_current else "CREATE OR REPLACE VIEW"
        for view in self._layout.views:
            connection.execute(f"{how} {quoted(view.name)} AS {view.sql}")
        connection.execute("COMMIT")
        self._is_current = True
        log_changes(done)


def _check(connection: Any, guard: Guard) -> None:
    """Raise StoreChanged if something else stands there than a write rests on."""
    found = connection.execute(
        f"SELECT id, {quoted(guard.column)} FROM {quoted(guard.table)} WHERE id IN (SELECT unnest(?))",  # noqa: S608
        [list(guard.values)],
    ).fetchall()
    there = dict(found)
    for name, expected in guard.values.items():
        if there.get(name) != expected:
            raise StoreChanged(f"{guard.table} {name}: got {guard.column} {there.get(name)}, expected {expected}")


def _upsert(connection: Any, table: Table, columns: Columns) -> None:
    connection.register("incoming", _arrow_table(table, columns))
    # the C interface promises one scan, so the rows are staged first
    with afterwards(lambda: connection.unregister("incoming")):
        values = ", ".join(
            f"{staged_value(table, column, VALUES)} AS {quoted(column.name)}" for column in table.columns
        )
        staged = f"SELECT staged_row, {values} FROM incoming"  # noqa: S608 (our own names)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE staged AS {staged}")
    (repeats,) = connection.execute("SELECT count(*) - count(DISTINCT id) FROM staged").fetchone()
    last = "QUALIFY row_number() OVER (PARTITION BY id ORDER BY staged_row DESC) = 1" if repeats else ""
    connection.execute(
        f"INSERT INTO {quoted(table.name)} ({table.listed})"  # noqa: S608
        f" SELECT {table.listed} FROM staged {last} {table.overwrite}"
    )


def _arrow_table(table: Table, columns: Columns) -> Any:
    """Rows as one Arrow array behind its C interface; `staged_row` is their order."""
    import nanoarrow

    fields = {c.name: _arrow(columns[c.name], c.type) for c in table.columns}
    n = len(columns["id"])
    fields["staged_row"] = nanoarrow.Array(np.arange(n, dtype=np.int64))
    schema = nanoarrow.struct({name: array.schema for name, array in fields.items()}, nullable=False)
    children = [nanoarrow.c_array(array) for array in fields.values()]
    return nanoarrow.Array(nanoarrow.c_array_from_buffers(schema, length=n, buffers=[None], children=children))


def _arrow(column: NDArray[Any], type_: Type) -> Any:
    import nanoarrow

    if type_ is Type.TEXT:
        return _arrow_text(column)
    if type_ is Type.TIME:  # NaT is the smallest integer
        column = column.astype(np.int64)
    return nanoarrow.Array(np.ascontiguousarray(column))


def _arrow_text(column: NDArray[Any]) -> Any:
    """Texts laid end to end with their offsets, and a bit a row that says whether there is one."""
    import nanoarrow

    n = len(column)
    first = column[0]
    if first is not None and bool((column == first).all()):  # one topic, one plant, one version
        coded = [first.encode()] * n
        offsets = np.arange(n + 1, dtype=np.int64) * len(coded[0])
        validity = None
    else:
        given = [text is not None for text in column]
        coded = [b"" if text is None else text.encode() for text in column]
        offsets = np.concatenate(([0], np.cumsum([len(text) for text in coded]))).astype(np.int64)
        validity = None if all(given) else np.packbits(given, bitorder="little")
    return nanoarrow.Array(
        nanoarrow.c_array_from_buffers(
            nanoarrow.large_string(),
            length=n,
            buffers=[validity, offsets, b"".join(coded)],
            null_count=-1,
        )
    )


def _unavailable(error: duckdb.Error | OSError, where: str) -> StoreUnavailable:
    """Return what an error that is not about rows means: only what passes by itself is called busy."""
    reason = _reason(error)
    if any(text in str(error) for text in FULL):
        return StoreFull(f"{where}: disk full ({reason})")
    if isinstance(error, duckdb.TransactionException):  # a query of ours made the tables at the same moment
        return StoreBusy(f"{where}: busy ({reason})")
    if isinstance(error, (duckdb.IOException, OSError)) and any(text in str(error) for text in LOCKED):
        return StoreBusy(f"{where}: locked by another process ({reason})")
    return StoreFailed(f"{where}: {reason}")


def _is_lasting(error: Exception) -> bool:
    """Whether an error is of how the tables are: not of the file, the disk or somebody else at work."""
    if not isinstance(error, duckdb.Error) or isinstance(error, duckdb.OperationalError):
        return False
    return isinstance(_unavailable(error, ""), StoreFailed)


def _reason(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:300]
