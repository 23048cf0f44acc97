"""Where rows go: one interface, chosen by URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kappawatt.columns.batch import Columns
from kappawatt.errors import NotReady

__all__ = ["Rows", "Store", "StoreBusy"]


class StoreBusy(NotReady):
    """The database cannot be written or read now (locked, unreachable, full); try again."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The result of a query."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class Store(Protocol):
    """A database, used from the thread that lands rows (`write`) and the threads that answer queries (`query`)."""

    url: str

    def prepare(self) -> None:
        """Make tables and views that are missing, and bring those of an older version up to date.

        Raises StoreBusy when it has to be tried again. `write` and `query` do it themselves where nobody has.
        """
        ...

    def write(self, tables: Mapping[str, Columns]) -> None:
        """Put rows into tables by name, all or none; a row whose id is there replaces it.

        Returns once they are committed. Raises StoreBusy when it has to be tried again.
        """
        ...

    def query(self, sql: str, most: int) -> Rows:
        """Return at most `most` rows. Raises StoreBusy when it has to be tried again."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...
