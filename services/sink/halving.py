"""Finding the rows that a database refuses: all others land, whatever is wrong with a few."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kappawatt.columns.batch import Columns
from kappawatt.store.interface import RowsRefused

from .rows import Part, tables_of

__all__ = ["write_by_halves"]


def write_by_halves(write: Callable[[Mapping[str, Columns]], None], parts: Sequence[Part]) -> list[tuple[Part, str]]:
    """Write all rows that the database takes; return the others one by one, each with what the database says.

    Parameters
    ----------
    write : callable
        Writes tables by name, all rows or none; raises RowsRefused.
    """
    n = sum(map(len, parts))
    if not n:
        return []
    try:
        write(tables_of(parts))
    except RowsRefused as error:
        if n == 1:
            return [(next(part for part in parts if len(part)), str(error))]
    else:
        return []
    first, second = _halves(parts, n // 2)
    return write_by_halves(write, first) + write_by_halves(write, second)


def _halves(parts: Sequence[Part], n: int) -> tuple[list[Part], list[Part]]:
    """Return the first `n` rows, and the others, in their order: of two rows with one id the later one stands."""
    first: list[Part] = []
    second: list[Part] = []
    for part in parts:
        if n >= len(part):
            first.append(part)
        elif n > 0:
            first.append(part.rows(slice(None, n)))
            second.append(part.rows(slice(n, None)))
        else:
            second.append(part)
        n -= len(part)
    return first, second
