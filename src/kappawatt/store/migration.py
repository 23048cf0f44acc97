"""A store that another version made, brought up to date: columns that have another name now, and columns that are new.

What has to be done is read from the database itself, so a store that is up to date is left alone, and one whose
migration was cut off is as it was. Whoever calls this does all of it in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kappawatt.errors import SettingInvalid
from kappawatt.store.table import Column, Layout, Table, Type, quoted

__all__ = ["Change", "changes", "holds", "log_changes", "migrate", "refuse_unusable"]

log = logging.getLogger(__name__)

# Both databases have these views; the catalog is the database, and in DuckDB temporary tables have one of their own.
COLUMNS = """\
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_catalog = current_database()"""

VIEWS = COLUMNS.replace(
    "table_name, column_name FROM information_schema.columns", "table_name FROM information_schema.views"
)
DETAILS = COLUMNS.replace(
    "column_name",
    "column_name, data_type, numeric_precision, numeric_scale, is_nullable, column_default, "
    "COALESCE(identity_generation, is_generated)",
    1,
)
USABLE = {  # what either database calls types that take the values of a column
    Type.TEXT: ("text", "character varying", "varchar"),
    Type.NUMBER: ("double precision", "double", "numeric", "decimal"),
    Type.INTEGER: ("integer", "bigint", "hugeint", "numeric", "decimal"),
    Type.BIGINT: ("bigint", "hugeint", "numeric", "decimal"),
    Type.BOOLEAN: ("boolean",),
    Type.TIME: ("timestamp with time zone",),
}
DECIMALS = ("numeric", "decimal")
DIGITS = {Type.INTEGER: 10, Type.BIGINT: 19}  # of the largest whole number


@dataclass(frozen=True, slots=True)
class Change:
    """What one table needs.

    Parameters
    ----------
    table : str
    renamed : tuple of (str, str)
        Columns, and their names from now on.
    added : tuple of Column
    rows : int
        In the table.
    """

    table: str
    renamed: tuple[tuple[str, str], ...] = ()
    added: tuple[Column, ...] = ()
    rows: int = 0

    @property
    def statements(self) -> Iterator[str]:
        """SQL, one after the other."""
        table = quoted(self.table)
        for old, new in self.renamed:
            yield f"ALTER TABLE {table} RENAME COLUMN {quoted(old)} TO {quoted(new)}"
        for column in self.added:
            before = "" if column.before is None else f" DEFAULT {column.before}"
            yield f"ALTER TABLE {table} ADD COLUMN {quoted(column.name)} {column.type}{before}"
            if before:  # of rows that were there, not of those to come
                yield f"ALTER TABLE {table} ALTER COLUMN {quoted(column.name)} DROP DEFAULT"


def changes(tables: Iterable[Table], there: Iterable[tuple[str, str]]) -> list[Change]:
    """Return what tables need that are there already.

    Parameters
    ----------
    there : iterable of (str, str)
        Table and column, of all columns there are.
    """
    known: dict[str, set[str]] = {}
    for table_name, column_name in there:
        known.setdefault(table_name, set()).add(column_name)
    found = []
    for table in tables:
        names = known.get(table.name)
        if names is None:
            continue
        missing = [column for column in table.columns if column.name not in names]
        former = {column: next((old for old in column.former if old in names), None) for column in missing}
        renamed = tuple((old, column.name) for column, old in former.items() if old is not None)
        added = tuple(column for column, old in former.items() if old is None)
        if renamed or added:
            found.append(Change(table.name, renamed, added))
    return found


def migrate(
    ask: Callable[[str], Any], run: Callable[[str], Any], layout: Layout, is_lasting: Callable[[Exception], bool]
) -> list[Change]:
    """Rename and add columns inside the caller's transaction; return what was done, to be logged once it is committed.

    Parameters
    ----------
    ask : callable
        SQL to rows.
    run : callable
        Executes SQL.
    is_lasting : callable
        Whether an error of the database is one that does not pass by itself.

    Raises
    ------
    SettingInvalid
        A table cannot be made, as there is a view of its name, or it cannot be changed; the message names it.
    """
    names = {table.name for table in layout.tables}
    for (name,) in ask(VIEWS):
        if name in names:
            raise SettingInvalid.of(f"database: table {name}", "a view of that name", "a table, or nothing yet")
    done = []
    there = ask(COLUMNS)
    _refuse_other_letters(layout.tables, there)
    for change in changes(layout.tables, there):
        [(rows,)] = ask(f"SELECT count(*) FROM {quoted(change.table)}")  # noqa: S608 (our own names)
        for statement in change.statements:
            with _naming(change.table, is_lasting, f"one that takes {statement}"):
                run(statement)
        done.append(Change(change.table, change.renamed, change.added, rows))
    return done


@contextmanager
def _naming(where: str, is_lasting: Callable[[Exception], bool], allowed: str) -> Iterator[None]:
    """Have an error of the database that lasts be SettingInvalid which names the table."""
    try:
        yield
    except Exception as error:
        if not is_lasting(error):
            raise
        reason = str(error).split("\n", 1)[0][:300]
        raise SettingInvalid(f"database: table {where}: got {reason!r}, allowed {allowed}") from error


def _refuse_other_letters(tables: Iterable[Table], there: Iterable[tuple[str, str]]) -> None:
    """Raise SettingInvalid for a column that only capitals keep from being one that is needed."""
    known = set(there)
    for table in tables:
        names = {name for table_name, name in known if table_name == table.name}
        for column in table.columns:
            wanted = (column.name, *column.former)
            if names.isdisjoint(wanted):
                others = sorted(name for name in names if name.lower() in wanted)
                if others:
                    raise SettingInvalid.of(f"database: table {table.name}, column", others[0], others[0].lower())


def refuse_unusable(ask: Callable[[str], Any], layout: Layout, is_lasting: Callable[[Exception], bool]) -> None:
    """Raise SettingInvalid, naming table and column, where rows cannot be written to a table as it is."""
    tables = {table.name: {column.name: column for column in table.columns} for table in layout.tables}
    for table, name, type_, precision, scale, is_nullable, default, is_generated in ask(DETAILS):
        if table not in tables:
            continue
        where = f"database: table {table}, column {name}"
        column = tables[table].get(name)
        if column is None:
            if is_nullable == "NO" and default is None and is_generated not in ("ALWAYS", "BY DEFAULT"):
                raise SettingInvalid(f"{where}: got NOT NULL without a default, allowed one that may be left out")
        elif is_generated == "ALWAYS":
            raise SettingInvalid(f"{where}: got GENERATED, allowed one that is written to")
        elif not holds(column.type, type_.lower().split("(")[0], precision, scale):
            is_shown = "(" in type_ or precision is None or type_.lower() not in DECIMALS
            shown = type_ if is_shown else f"{type_}({precision},{scale})"
            raise SettingInvalid(f"{where}: got type {shown}, allowed {column.type}")
    for each in layout.tables:  # planned, and not executed
        nothing = ", ".join(["NULL"] * len(each.columns))
        with _naming(f"{each.name}, column id", is_lasting, "PRIMARY KEY, in a table that takes rows"):
            ask(f"EXPLAIN INSERT INTO {quoted(each.name)} ({each.listed}) VALUES ({nothing}) {each.overwrite}")  # noqa: S608


def holds(type_: Type, given: str, precision: int | None, scale: int | None) -> bool:
    """Whether a type of the database takes every value of a column as it is."""
    if given not in USABLE[type_]:
        return False
    if given not in DECIMALS or precision is None:  # PostgreSQL's, of any precision
        return True
    digits, decimals = DIGITS.get(type_), scale or 0
    return digits is not None and decimals >= 0 and precision - decimals >= digits


def log_changes(done: Iterable[Change]) -> None:
    """Say once what was migrated."""
    for change in done:
        log.info(
            "table migrated",
            extra={
                "table": change.table,
                "renamed": [f"{old} -> {new}" for old, new in change.renamed],
                "added": [column.name for column in change.added],
                "rows": change.rows,
            },
        )
