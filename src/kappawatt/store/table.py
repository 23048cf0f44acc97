"""Tables and their columns; DDL and every statement that writes are made from here, for both databases.

On the way in a row is in columns: text as object arrays (None is NULL), numbers as float64 (NaN is NULL), whole
numbers as int64 and times as datetime64[us] in UTC (the smallest integer, which is NaT, is NULL), booleans as int8
(-1 is NULL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from kappawatt.columns.batch import Columns

__all__ = [
    "ABSENT",
    "DTYPES",
    "PRESENT",
    "Column",
    "Layout",
    "Table",
    "Type",
    "View",
    "join",
    "quoted",
    "staged_value",
]

NOTHING = np.iinfo(np.int64).min  # NaT, too


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
    Type.BOOLEAN: np.int8,
    Type.TIME: "datetime64[us]",
}
ABSENT: dict[Type, Any] = {
    Type.TEXT: None,
    Type.NUMBER: np.nan,
    Type.BIGINT: NOTHING,
    Type.BOOLEAN: -1,
    Type.TIME: np.datetime64("NaT"),
}


PRESENT = f"{{name}} >= {NOTHING + 1}"
STAGED_VALUES = {
    Type.BIGINT: f"CASE WHEN {PRESENT} THEN {{name}} END",
    Type.BOOLEAN: "CASE WHEN {name} >= 0 THEN {name} = 1 END",
}


def quoted(name: str) -> str:
    """Return a name as SQL has it, whatever word it is: a stream may have a field called `order`."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Parameters
    ----------
    name : str
        In SQL and in messages.
    type : Type
    former : tuple of str
        Names it had in releases before.
    before : str or None
        SQL of what rows hold that were there before the column was; None is NULL.
    """

    name: str
    type: Type
    former: tuple[str, ...] = ()
    before: str | None = None


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
    meaning : str
        What a row is, for people.
    """

    name: str
    columns: tuple[Column, ...]
    computed_id: str | None = None
    meaning: str = ""

    @property
    def ddl(self) -> str:
        """`CREATE TABLE IF NOT EXISTS`."""
        lines = [f"{quoted(c.name)} {c.type}{' PRIMARY KEY' if c.name == 'id' else ''}" for c in self.columns]
        return f"CREATE TABLE IF NOT EXISTS {quoted(self.name)} ({', '.join(lines)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def listed(self) -> str:
        """Column names in order, as SQL has them."""
        return ", ".join(map(quoted, self.names))

    @property
    def id_sql(self) -> str:
        """SQL of the id of a staged row."""
        return f"COALESCE(id, {self.computed_id})" if self.computed_id else "id"

    @property
    def overwrite(self) -> str:
        """`ON CONFLICT` clause that makes the newest row of an id stand."""
        changes = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in self.names[1:])
        return f"ON CONFLICT (id) DO UPDATE SET {changes}"


def staged_value(table: Table, column: Column, own: Mapping[Type, str]) -> str:
    """Return SQL of a column of staged rows, NULL where a row has nothing.

    Parameters
    ----------
    own : mapping of Type to str
        How the database itself says it, with `{name}` in the place of the column.
    """
    if column.name == "id":
        return table.id_sql
    return {**STAGED_VALUES, **own}.get(column.type, "{name}").format(name=quoted(column.name))


@dataclass(frozen=True, slots=True)
class View:
    """One view: its SQL, what a row is, and which columns had other names in releases before."""

    name: str
    sql: str
    meaning: str = ""
    former: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything a store has: tables, and views on them in the order they are made."""

    tables: tuple[Table, ...]
    views: tuple[View, ...] = ()


def join(parts: Sequence[Columns]) -> Columns:
    """Return several parts of one table as one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
