"""PostgreSQL: COPY into a temporary table, then one upsert, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors as reasons

from kappawatt.columns.batch import Columns
from kappawatt.errors import SettingInvalid
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
from kappawatt.store.migration import COLUMNS, log_changes, migrate, refuse_unusable
from kappawatt.store.table import PRESENT, Layout, Table, Type, View, quoted, staged_value

__all__ = ["PostgreSQLStore"]

CONNECT_SECONDS = 5
QUERY_SECONDS = 30
STAGED = {Type.TIME: "BIGINT", Type.BOOLEAN: "SMALLINT"}
VALUES = {
    Type.TIME: f"CASE WHEN {PRESENT} THEN TIMESTAMPTZ 'epoch' + {{name}} * INTERVAL '1 microsecond' END",
    Type.NUMBER: "NULLIF({name}, 'NaN')",
}
SCHEMA_LOCK = 7_355_608  # two sinks that start at once make the tables one after the other
# By classes of SQLSTATE and single ones, https://www.postgresql.org/docs/current/errcodes-appendix.html
REFUSED = ("21", "22", "23", "44", "54", "P0")  # data, constraints, a check option, limits of a row, somebody's trigger
BUSY = ("08", "40", "53", "55006", "55P03", "57", "25006")  # connections, deadlocks, resources, locks, ends, a standby
FULL = ("53100",)
LASTING = ("0A", "22", "23", "2B", "42")  # what cannot be done, data, constraints, what stands on it, names and types
RIGHTS = "42501"
DROPPED = ("57P04",)


class PostgreSQLStore:
    """One database, over one connection for writing and one for each query."""

    def __init__(self, url: str, layout: Layout) -> None:
        self.url = url
        self._layout = layout
        self._writer: psycopg.Connection[Any] | None = None

    def prepare(self) -> None:
        with self._failures(), self._connect() as connection:
            _prepare(connection, self._layout)

    def write(self, tables: Mapping[str, Columns], guard: Guard | None = None) -> None:
        try:
            with self._failures():
                self._write(self._connected(), tables, guard)
        except (RowsRefused, StoreChanged):
            raise  # rolled back: the connection is as it was
        except BaseException:
            with afterwards(self.close):
                raise

    def _write(self, connection: psycopg.Connection[Any], tables: Mapping[str, Columns], guard: Guard | None) -> None:
        name = ""
        try:
            with connection.transaction(), connection.cursor() as cursor:
                if guard is not None:
                    _check(cursor, guard)
                for table in self._layout.tables:
                    columns = tables.get(table.name)
                    if columns is not None:
                        name = table.name
                        _upsert(cursor, table, columns)
        except (psycopg.Error, ValueError, OverflowError) as error:
            if not isinstance(error, psycopg.Error) or _is_about_rows(error):
                raise RowsRefused(f"table {name}: {_reason(error)}") from error
            raise

    def query(self, sql: str, most: int) -> Rows:
        with self._failures(), self._connect() as connection:
            connection.execute(f"SET statement_timeout = '{QUERY_SECONDS}s'")
            try:
                result = connection.execute(sql)
            except (reasons.UndefinedTable, reasons.UndefinedColumn):
                connection.rollback()
                _prepare(connection, self._layout)
                result = connection.execute(sql)
            return Rows([column.name for column in result.description or ()], result.fetchmany(most))

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _connect(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = psycopg.connect(
            self.url, connect_timeout=CONNECT_SECONDS, application_name="kappawatt sink"
        )
        connection.execute("SET TIME ZONE 'UTC'")
        connection.commit()
        return connection

    def _connected(self) -> psycopg.Connection[Any]:
        if self._writer is None:
            connection = self._writer = self._connect()
            _prepare(connection, self._layout)
            with connection.transaction():
                for table in self._layout.tables:
                    columns = ", ".join(f"{quoted(c.name)} {STAGED.get(c.type, c.type)}" for c in table.columns)
                    connection.execute(
                        f"CREATE TEMP TABLE {_stage(table)} (staged_row BIGINT, {columns}) ON COMMIT DELETE ROWS"
                    )
        return self._writer

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise _unavailable(error) from error


def _unavailable(error: psycopg.Error) -> StoreUnavailable:
    """Return what an error that is not about rows means: only what passes by itself is called busy."""
    reason, state = _reason(error), error.sqlstate or ""
    if state in FULL:
        return StoreFull(f"database: disk full ({reason})")
    is_gone = not state and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    if is_gone or (state.startswith(BUSY) and state not in DROPPED):
        return StoreBusy(f"database: {reason}")
    return StoreFailed(f"database: {reason}")


def _is_lasting(error: Exception) -> bool:
    """Whether an error is of how the tables are: not of the connection or the server, nor a right that may be given."""
    state = (isinstance(error, psycopg.Error) and error.sqlstate) or ""
    return state.startswith(LASTING) and state != RIGHTS


def _is_about_rows(error: psycopg.Error) -> bool:
    if error.sqlstate is None:  # the client itself: text that the server's encoding has not
        return isinstance(error, psycopg.DataError)
    return error.sqlstate.startswith(REFUSED)


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _check(cursor: psycopg.Cursor[Any], guard: Guard) -> None:
    """Raise StoreChanged if something else stands there than a write rests on; until its end nobody else changes it."""
    column = quoted(guard.column)
    cursor.execute(
        f"SELECT id, {column} FROM {quoted(guard.table)} WHERE id = ANY(%s) ORDER BY id FOR UPDATE",  # noqa: S608
        [list(guard.values)],
    )
    there = dict(cursor.fetchall())
    for name, expected in guard.values.items():
        if there.get(name) != expected:
            raise StoreChanged(f"{guard.table} {name}: got {guard.column} {there.get(name)}, expected {expected}")


def _prepare(connection: psycopg.Connection[Any], layout: Layout) -> None:
    def ask(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
        done = migrate(ask, connection.execute, layout, _is_lasting)
        for table in layout.tables:
            connection.execute(table.ddl)
        refuse_unusable(ask, layout, _is_lasting)
        there = ask(COLUMNS)
        for view in layout.views:
            _make_view(connection, view, {column for name, column in there if name == view.name})
    log_changes(done)


def _make_view(connection: psycopg.Connection[Any], view: View, there: set[str]) -> None:
    """Make a view, or change it in place: somebody's own views may stand on it."""
    name = quoted(view.name)
    for old, new in view.former:
        if old in there and new not in there:
            connection.execute(f"ALTER VIEW {name} RENAME COLUMN {quoted(old)} TO {quoted(new)}")
    try:
        with connection.transaction():
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS {view.sql}")
    except reasons.InvalidTableDefinition:  # its columns are others, or in another order
        try:
            connection.execute(f"DROP VIEW {name}")
        except reasons.DependentObjectsStillExist as error:
            allowed = "none while it changes: drop them, start again, and make them anew"
            raise SettingInvalid(f"database: view {view.name}: got views on it ({error}), allowed {allowed}") from error
        connection.execute(f"CREATE VIEW {name} AS {view.sql}")


def _stage(table: Table) -> str:
    return quoted(f"staged_{table.name}")


def _upsert(cursor: psycopg.Cursor[Any], table: Table, columns: Columns) -> None:
    lists = [_plain(columns[c.name], c.type) for c in table.columns]
    with cursor.copy(f"COPY {_stage(table)} (staged_row, {table.listed}) FROM STDIN") as copy:
        for row in zip(range(len(lists[0])), *lists, strict=True):
            copy.write_row(row)
    # in the order of ids, so that two sinks that land the same rows wait for each other and never deadlock
    values = ", ".join(staged_value(table, column, VALUES) for column in table.columns)
    cursor.execute(
        f"INSERT INTO {quoted(table.name)} ({table.listed})"  # noqa: S608 (our own names)
        f" SELECT DISTINCT ON (1) {values} FROM {_stage(table)} ORDER BY 1, staged_row DESC {table.overwrite}"
    )


def _plain(column: Any, type_: Type) -> list[Any]:
    if type_ is Type.TIME:  # NaT is the smallest integer
        column = column.astype("int64")
    plain: list[Any] = column.tolist()
    return plain
