"""PostgreSQL: COPY into a temporary table, then one upsert, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors as reasons

from kappawatt.columns.batch import Columns
from kappawatt.errors import SettingInvalid
from kappawatt.store.interface import Rows, StoreBusy
from kappawatt.store.migration import COLUMNS, log_changes, migrate
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
BUSY = (
    psycopg.OperationalError,  # gone, starting, full, deadlock, serialisation
    reasons.ReadOnlySqlTransaction,  # a standby that is not the primary yet
)


class PostgreSQLStore:
    """One database, over one connection for writing and one for each query."""

    def __init__(self, url: str, layout: Layout) -> None:
        self.url = url
        self._layout = layout
        self._writer: psycopg.Connection[Any] | None = None

    def prepare(self) -> None:
        with self._busy(), self._connect() as connection:
            _prepare(connection, self._layout)

    def write(self, tables: Mapping[str, Columns]) -> None:
        try:
            with self._busy():
                connection = self._connected()
                with connection.transaction(), connection.cursor() as cursor:
                    for table in self._layout.tables:
                        columns = tables.get(table.name)
                        if columns is not None:
                            _upsert(cursor, table, columns)
        except BaseException:
            self.close()
            raise

    def query(self, sql: str, most: int) -> Rows:
        with self._busy(), self._connect() as connection:
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
                        f"CREATE TEMP TABLE {_stage(table)} (place BIGINT, {columns}) ON COMMIT DELETE ROWS"
                    )
        return self._writer

    @contextmanager
    def _busy(self) -> Iterator[None]:
        try:
            yield
        except BUSY as error:
            raise StoreBusy(f"database: {str(error).splitlines()[0][:300]}") from error


def _prepare(connection: psycopg.Connection[Any], layout: Layout) -> None:
    def ask(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
        done = migrate(ask, connection.execute, layout)
        for table in layout.tables:
            connection.execute(table.ddl)
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
    with cursor.copy(f"COPY {_stage(table)} (place, {table.listed}) FROM STDIN") as copy:
        for row in zip(range(len(lists[0])), *lists, strict=True):
            copy.write_row(row)
    # in the order of ids, so that two sinks that land the same rows wait for each other and never deadlock
    values = ", ".join(staged_value(table, column, VALUES) for column in table.columns)
    cursor.execute(
        f"INSERT INTO {quoted(table.name)} ({table.listed})"  # noqa: S608 (our own names)
        f" SELECT DISTINCT ON (1) {values} FROM {_stage(table)} ORDER BY 1, place DESC {table.overwrite}"
    )


def _plain(column: Any, type_: Type) -> list[Any]:
    if type_ is Type.TIME:  # NaT is the smallest integer
        column = column.astype("int64")
    plain: list[Any] = column.tolist()
    return plain
