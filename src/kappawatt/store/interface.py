"""Where rows go: one interface, chosen by URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kappawatt.columns.batch import Columns
from kappawatt.errors import KappawattError, NotReady

__all__ = [
    "Guard",
    "Rows",
    "RowsRefused",
    "Store",
    "StoreBusy",
    "StoreChanged",
    "StoreFailed",
    "StoreFull",
    "StoreUnavailable",
]


class StoreUnavailable(NotReady):
    """The database cannot be written or read now; the same rows are tried again."""


class StoreBusy(StoreUnavailable):
    """Something that passes by itself: a lock, a restart, a deadlock, a standby that is not the primary yet."""


class StoreFull(StoreUnavailable):
    """The disk of the database is full."""


class StoreFailed(StoreUnavailable):
    """Neither passing nor about rows (a right that is missing, a damaged file): somebody has to act."""


class RowsRefused(KappawattError):
    """At least one of the rows is none the database takes; nothing of them was written."""

    title = "Rows refused"


class StoreChanged(KappawattError):
    """What a write rests on is something else in the database by now; nothing was written."""

    title = "Store changed"


@dataclass(frozen=True, slots=True)
class Rows:
    """The result of a query."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Guard:
    """What must stand in the database for a write to be right, looked up in the same transaction.

    Parameters
    ----------
    table, column : str
    values : mapping of str to int or None
        What the column holds by the row's id; None is no such row.
    """

    table: str
    column: str
    values: Mapping[str, int | None]


class Store(Protocol):
    """A database, used from the thread that lands rows (`write`) and the threads that answer queries (`query`)."""

    url: str

    def prepare(self) -> None:
        """Make tables and views that are missing, and bring those of an older version up to date.

        Raises StoreUnavailable when it has to be tried again, SettingInvalid where a table cannot be used as it is.
        `write` and `query` do it themselves where nobody has.
        """
        ...

    def write(self, tables: Mapping[str, Columns], guard: Guard | None = None) -> None:
        """Put rows into tables by name, all or none; a row whose id is there replaces it.

        Returns once they are committed.

        Raises
        ------
        StoreUnavailable
            It has to be tried again.
        RowsRefused
            The database does not take all of these rows.
        StoreChanged
            The guard does not hold.
        """
        ...

    def query(self, sql: str, most: int) -> Rows:
        """Return at most `most` rows. Raises StoreUnavailable when it has to be tried again."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...
