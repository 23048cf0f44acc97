"""How a text is cut into cells: which character separates them, and in which line the names stand."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kappawatt.datasets.reading.times import is_time
from kappawatt.datasets.reading.units import unit_named
from kappawatt.errors import PayloadInvalid

__all__ = ["SEPARATORS", "Dialect", "cells_of", "find_dialect", "is_value"]

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
HEAD_LINES = 200
PREAMBLE_LINES = 30  # in which the line of names has to stand
SHORTEST_NUMBER = 3  # of a meter that names a column
FOLLOWING = 5  # lines after the names that are asked
LONGEST_NAME = 300
NO_NAMES = frozenset(
    [
        "", "-", "--", "utc", "gmt", "cet", "cest", "mez", "mesz", "local", "hh:mm", "yyyy-mm-dd hh:mm",
        "tt.mm.jjjj hh:mm", "dd/mm/yyyy hh:mm", "c", "degc", "°c", "°f", "%", "m/s", "hpa", "datetime", "float",
        "string",
    ]
)  # fmt: skip
SHOWN = 80


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text is cut.

    Parameters
    ----------
    separator : str
    names : tuple of str
        Of the columns, without blanks around them.
    line : int
        In which they stand, from 1.
    above : tuple of tuple of str
        Cells of the lines before it.
    """

    separator: str
    names: tuple[str, ...]
    line: int
    above: tuple[tuple[str, ...], ...] = field(default=(), repr=False)


def cells_of(line: str, separator: str) -> list[str]:
    """Return the cells of one line."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def is_value(cell: str) -> bool:
    """Whether a cell holds a number or a time, so that it is no name of a column."""
    text = cell.strip().replace(" ", "")
    if not text:
        return False
    digits = sum(character.isdigit() for character in text)
    return (digits > 0 and digits + sum(c in "+-.,'eE%" for c in text) == len(text)) or is_time(cell.strip())


def find_dialect(head: Sequence[str], separator: str = "") -> Dialect:
    """Return how a file is cut, from its first lines.

    The names stand in the line without a number or a time after which most lines hold one and have as many cells; of
    several such lines with the most names, in the one above the first row, since titles stand higher. A line of units
    between names and rows is none of names. If there is no such line, they stand in the first with two names or more,
    and rows of another width are refused later, with what they look like.

    Parameters
    ----------
    head : sequence of str
        The first lines, without their ends.
    separator : str
        The one that is known; "" is to be found.

    Raises
    ------
    PayloadInvalid
        There is no line of names, or two separators are as good as each other.

    Examples
    --------
    >>> find_dialect(["timestamp;load_mw", "2022-01-01 00:00;336,02"])
    Dialect(separator=';', names=('timestamp', 'load_mw'), line=1)
    """
    candidates = [separator] if separator else list(SEPARATORS)
    found = [one for one in (_by(head, mark) for mark in candidates) if one is not None]
    even = [one for one in found if one[1]]
    best = even or found
    if not best:
        numbered = [one for one in (_by_numbers(head, mark) for mark in candidates) if one is not None]
        if len(numbered) == 1:
            return numbered[0]
        first = next((line for line in head if line.strip()), "")
        allowed = f"a line of names separated by {separator!r}" if separator else "a table: names, then rows"
        raise PayloadInvalid.of("header", repr(first[:SHOWN]), allowed)
    widest = max(len(one.names) for one, _ in best)
    chosen = [one for one, _ in best if len(one.names) == widest]
    if len(chosen) > 1:
        marks = " and ".join(SEPARATORS.get(one.separator, one.separator) for one in chosen)
        raise PayloadInvalid.of("header", f"{head[0][:SHOWN]!r}, which {marks} cut alike", "one with --sep")
    above = (tuple(cells_of(line, chosen[0].separator)) for line in head[: chosen[0].line - 1])
    return replace(chosen[0], above=tuple(above))


def _by(head: Sequence[str], separator: str) -> tuple[Dialect, bool] | None:
    """The dialect by one separator, and whether the lines after the names are as wide as they are."""
    rows = [cells_of(line, separator) for line in head[:HEAD_LINES]]
    even: Dialect | None = None
    uneven: Dialect | None = None
    for i, names in enumerate(rows[:PREAMBLE_LINES]):
        if even is not None and _is_row(names):
            break  # a line of words between rows is a remark
        if len(names) < 2 or any(is_value(name) or len(name) > LONGEST_NAME for name in names):
            continue
        if not any(name.strip() for name in names):
            continue
        following = [row for row in rows[i + 1 :] if any(cell.strip() for cell in row)][:FOLLOWING]
        if not following:
            continue
        dialect = Dialect(separator, tuple(name.strip() for name in _without_blank_end(names)), i + 1)
        if 2 * sum(any(map(is_value, row)) for row in following) < len(following):
            continue
        width = len(dialect.names)
        if 2 * sum(len(_without_blank_end(row)) in (width, len(names)) for row in following) >= len(following):
            if even is None or _told(dialect) > _told(even):  # a preamble of names and values is narrower
                even = dialect
            elif _told(dialect) == _told(even) and not all(map(_is_unit, dialect.names)):
                even = dialect  # what stood above are titles
        else:
            uneven = uneven or dialect
    found = even or uneven
    return None if found is None else (found, even is not None)


def _by_numbers(head: Sequence[str], separator: str) -> Dialect | None:
    """The dialect of a table whose first line has a word and then numbers of meters, above rows of times and numbers.

    Numbers that no two columns share, without a mark in them and of three digits and more, are names there.
    """
    names = cells_of(head[0], separator) if head else []
    name, numbers = (names[0].strip(), [cell.strip() for cell in names[1:]]) if names else ("", [])
    if not numbers or not name or is_value(name) or len(set(numbers)) < len(numbers):
        return None
    if not all(number.isdigit() and len(number) >= SHORTEST_NUMBER for number in numbers):
        return None
    following = [cells_of(line, separator) for line in head[1 : FOLLOWING + 1]]
    if not following or not all(len(row) == len(names) and _is_row(row) for row in following):
        return None
    return Dialect(separator, (name, *numbers), 1)


def _told(dialect: Dialect) -> int:
    """How many columns have a name; the first needs none where an index stands."""
    return sum(1 for name in dialect.names if name) + (not dialect.names[0])


def _is_row(cells: Sequence[str]) -> bool:
    """Whether a line is one of a table of measurements: a time and a number."""
    times = [is_time(cell.strip()) for cell in cells]
    return any(times) and any(is_value(cell) and not there for cell, there in zip(cells, times, strict=True))


def _is_unit(name: str) -> bool:
    """Whether a cell stands below a name, not in its place: a unit, a clock or a form of times, or nothing."""
    text = name.strip("[]() ").lower()
    return text in NO_NAMES or unit_named(text) is not None or (name[:1] in ("[", "(") and name[-1:] in ("]", ")"))


def _without_blank_end(cells: list[str]) -> list[str]:
    """A row without the empty cell that a separator at its end makes."""
    return cells[:-1] if len(cells) > 1 and not cells[-1].strip() else cells
