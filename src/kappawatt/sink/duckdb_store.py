"""DuckDB: a file that is open only while a batch is written or a query runs: its owner can read it between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from kappawatt.batch import Columns
from kappawatt.sink.store import Rows, StoreBusy
from kappawatt.sink.tables import SCORED, TABLES, Column, Table, Type

__all__ = ["DuckDBStore"]

# IOException: another process has the file, or the disk is full. TransactionException: a query of ours made
# the tables at the same moment.
BUSY = (duckdb.IOException, duckdb.TransactionException, OSError)


class DuckDBStore:
    """One DuckDB file, made at the first write.

    Rows go in as Arrow through its C interface; ids are made inside the database, so nothing loops over rows.
    """

    def __init__(self, path: str) -> None:
        self.url = f"duckdb:{path}"
        self._path = Path(path).expanduser().absolute()
        self._has_view = False

    def write(self, tables: Mapping[str, Columns]) -> None:
        with self._opened() as connection:
            self._make_tables(connection)
            connection.execute("BEGIN")
            for table in TABLES:
                columns = tables.get(table.name)
                if columns is not None:
                    _upsert(connection, table, columns)
            connection.execute("COMMIT")

    def query(self, sql: str, most: int) -> Rows:
        with self._opened() as connection:
            self._make_tables(connection)
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
        except BUSY as error:
            raise StoreBusy(f"database {self._path}: {_reason(error)}") from error
        try:
            yield connection
        except BUSY as error:
            raise StoreBusy(f"database {self._path}: {_reason(error)}") from error
        finally:
            connection.close()  # what was not committed is rolled back

    def _make_tables(self, connection: Any) -> None:
        """Make what is missing; the view once afresh, in case an older version of this program made it."""
        for table in TABLES:
            connection.execute(table.ddl)
        how = "CREATE VIEW IF NOT EXISTS" if self._has_view else "CREATE OR REPLACE VIEW"
        connection.execute(f"{how} scored AS {SCORED}")
        self._has_view = True


def _upsert(connection: Any, table: Table, columns: Columns) -> None:
    from arro3.core import Array
    from arro3.core import Table as ArrowTable

    n = len(columns["published"])
    arrays = {c.name: _arrow(columns[c.name], c.type) for c in table.columns}
    arrays["place"] = Array.from_numpy(np.arange(n, dtype=np.int64))
    connection.register("staged", ArrowTable.from_pydict(arrays))
    try:
        values = ", ".join(_value(table, column) for column in table.columns)
        (repeats,) = connection.execute(
            f"SELECT count(*) - count(DISTINCT {table.id_sql}) FROM staged"  # noqa: S608 (our own names)
        ).fetchone()
        last = (
            f"QUALIFY row_number() OVER (PARTITION BY {table.id_sql} ORDER BY place DESC) = 1"
            if repeats
            else ""
        )
        connection.execute(
            f"INSERT INTO {table.name} ({', '.join(table.names)})"  # noqa: S608 (our own names)
            f" SELECT {values} FROM staged {last} {table.overwrite}"
        )
    finally:
        connection.unregister("staged")


def _value(table: Table, column: Column) -> str:
    name = column.name
    if name == "id":
        return table.id_sql
    if column.type is Type.TIME:
        return f"CASE WHEN {name} >= 0 THEN make_timestamptz({name} * 1000) END"
    if column.type is Type.NUMBER:
        return f"CASE WHEN NOT isnan({name}) THEN {name} END"
    return name


def _arrow(column: NDArray[Any], type_: Type) -> Any:
    from arro3.core import Array, DataType

    if type_ is Type.TEXT:
        return Array(column.tolist(), type=DataType.utf8())
    if type_ is Type.TIME:  # NaT is the smallest integer
        return Array.from_numpy(column.astype(np.int64))
    return Array.from_numpy(np.ascontiguousarray(column))


def _reason(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:300]
