"""Tables and their columns; DDL and every statement that writes are made from here, for both databases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Columns

__all__ = ["Column", "Table", "Type", "join"]


class Type(StrEnum):
    """SQL types that DuckDB and PostgreSQL both know by these names."""

    TEXT = "TEXT"
    NUMBER = "DOUBLE PRECISION"
    INTEGER = "INTEGER"
    BIGINT = "BIGINT"
    BOOLEAN = "BOOLEAN"
    TIME = "TIMESTAMPTZ"


DTYPES: dict[Type, Any] = {
    Type.TEXT: object,
    Type.NUMBER: np.float64,
    Type.INTEGER: np.int32,
    Type.BIGINT: np.int64,
    Type.BOOLEAN: np.bool_,
    Type.TIME: "datetime64[ms]",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in SQL and in messages, and its type."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Parameters
    ----------
    name : str
    columns : tuple of Column
        The first is `id`, the primary key.
    computed_id : str or None
        SQL of the id where a row brings none.
    """

    name: str
    columns: tuple[Column, ...]
    computed_id: str | None = None

    @property
    def ddl(self) -> str:
        """`CREATE TABLE IF NOT EXISTS`."""
        lines = [f"{c.name} {c.type}{' PRIMARY KEY' if c.name == 'id' else ''}" for c in self.columns]
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(lines)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def id_sql(self) -> str:
        """SQL of the id of a staged row."""
        return f"COALESCE(id, {self.computed_id})" if self.computed_id else "id"

    @property
    def overwrite(self) -> str:
        """`ON CONFLICT` clause that makes the newest row of an id stand."""
        changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in self.names[1:])
        return f"ON CONFLICT (id) DO UPDATE SET {changes}"

    def complete(self, columns: Columns, n: int) -> Columns:
        """Return columns in order and of their types; absent ones are NULL."""
        return {c.name: _as(columns.get(c.name), c.type, n) for c in self.columns}


def _as(column: NDArray[Any] | None, type_: Type, n: int) -> NDArray[Any]:
    if column is not None:
        return column.astype(DTYPES[type_], copy=False)
    nothing = {Type.TEXT: None, Type.NUMBER: np.nan, Type.TIME: np.datetime64("NaT")}
    return np.full(n, nothing[type_], dtype=DTYPES[type_])


def join(parts: Sequence[Columns]) -> Columns:
    """Return several parts of one table as one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
