"""PostgreSQL: COPY into a temporary table, then one upsert, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors as reasons

from kappawatt.columns.batch import Columns
from kappawatt.services.sink.tables import TABLES, VIEWS
from kappawatt.store.interface import Rows, StoreBusy
from kappawatt.store.table import Column, Table, Type

__all__ = ["PostgreSQLStore"]

CONNECT_SECONDS = 5
QUERY_SECONDS = 30
SCHEMA_LOCK = 7_355_608  # two sinks that start at once make the tables one after the other
BUSY = (
    psycopg.OperationalError,  # gone, starting, full, deadlock, serialisation
    reasons.ReadOnlySqlTransaction,  # a standby that is not the primary yet
)


class PostgreSQLStore:
    """One database, over one connection for writing and one for each query."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._writer: psycopg.Connection[Any] | None = None

    def write(self, tables: Mapping[str, Columns]) -> None:
        try:
            with self._busy():
                connection = self._connected()
                with connection.transaction(), connection.cursor() as cursor:
                    for table in TABLES:
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
            except reasons.UndefinedTable:
                connection.rollback()
                _make_tables(connection)
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
            _make_tables(connection)
            with connection.transaction():
                for table in TABLES:
                    columns = ", ".join(f"{c.name} {_staged(c.type)}" for c in table.columns)
                    connection.execute(
                        f"CREATE TEMP TABLE staged_{table.name} (place BIGINT, {columns}) ON COMMIT DELETE ROWS"
                    )
        return self._writer

    @contextmanager
    def _busy(self) -> Iterator[None]:
        try:
            yield
        except BUSY as error:
            raise StoreBusy(f"database: {str(error).splitlines()[0][:300]}") from error


def _make_tables(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
        for table in TABLES:
            connection.execute(table.ddl)
        for name, sql in VIEWS.items():
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS {sql}")


def _upsert(cursor: psycopg.Cursor[Any], table: Table, columns: Columns) -> None:
    names = ", ".join(table.names)
    lists = [_plain(columns[c.name], c.type) for c in table.columns]
    with cursor.copy(f"COPY staged_{table.name} (place, {names}) FROM STDIN") as copy:
        for row in zip(range(len(lists[0])), *lists, strict=True):
            copy.write_row(row)
    # in the order of ids, so that two sinks that land the same rows wait for each other and never deadlock
    values = ", ".join(_value(table, column) for column in table.columns)
    cursor.execute(
        f"INSERT INTO {table.name} ({names})"  # noqa: S608 (our own names)
        f" SELECT DISTINCT ON (1) {values} FROM staged_{table.name} ORDER BY 1, place DESC {table.overwrite}"
    )


def _staged(type_: Type) -> str:
    return "BIGINT" if type_ is Type.TIME else str(type_)


def _plain(column: Any, type_: Type) -> list[Any]:
    if type_ is Type.TIME:  # NaT is the smallest integer
        column = column.astype("int64")
    plain: list[Any] = column.tolist()
    return plain


def _value(table: Table, column: Column) -> str:
    name = column.name
    if name == "id":
        return table.id_sql
    if column.type is Type.TIME:
        return f"CASE WHEN {name} >= 0 THEN to_timestamp({name} / 1000.0) END"
    if column.type is Type.NUMBER:
        return f"NULLIF({name}, 'NaN')"
    return name
