"""A file as a table of texts, with the line of each row and how it was cut into cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.times import iso_texts
from kappawatt.datasets.series import Problem, Problems
from kappawatt.forecasting.calendar import Times

__all__ = ["Column", "Fact", "Line", "Table", "instant_texts", "texts_of"]

Column = list[str] | NDArray[np.float64] | NDArray[np.datetime64]
"""Texts as the file has them; numbers and times only where the file itself has types (Parquet, Arrow, workbooks)."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about how a file was read, and what told it.

    Parameters
    ----------
    name : str
        `separator`, `labels`, `unit`.
    value : str
    because : str
        What told it; empty where nothing needs to.
    """

    name: str
    value: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file that is no row of its table.

    Parameters
    ----------
    where : str
        `line 2`, or `row 2` of a sheet.
    cells : tuple of str
    """

    where: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one width.

    Parameters
    ----------
    header : tuple of str
        Names without blanks around them.
    columns : tuple of Column
    lines : ndarray of int, shape (n,)
        Line of each row in the file, from 1; the row's number in files without lines.
    separator : str
        Between cells; "" where the file has no text.
    problems : Problems
        Rows that are none.
    facts : tuple of Fact
    sheets : tuple of (str, int)
        Of a workbook of which several are read: each one's name, and the lines of those before it.
    units : mapping of int to str
        Of columns whose cells had one each, or of the line below the names.
    above : tuple of Line
        What stands before the names.
    below : tuple of str
        Of a line of units between names and rows, what stands below each name.
    """

    header: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: NDArray[np.int64]
    separator: str = ""
    problems: Problems = field(default_factory=Problems)
    facts: tuple[Fact, ...] = ()
    sheets: tuple[tuple[str, int], ...] = ()
    units: Mapping[int, str] = field(default_factory=dict)
    above: tuple[Line, ...] = ()
    below: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, *names: str) -> int | None:
        """Return where the first of these columns stands, in letters of either case; None if there is none of them."""
        lower = [name.lower() for name in self.header]
        return next((lower.index(name.lower()) for name in names if name.lower() in lower), None)

    def said(self, place: int) -> str:
        """Return a column's name, with what stands below it in a line of units."""
        below = self.below[place].strip("[]() ") if place < len(self.below) else ""
        return f"{self.header[place]} [{below}]" if below else self.header[place]

    def placed(self, problem: Problem) -> Problem:
        """Return a problem with the line in its own sheet, where several are read."""
        before = [(name, lines) for name, lines in self.sheets if lines < problem.line]
        if not before:
            return problem
        name, lines = before[-1]
        return replace(problem, line=problem.line - lines, sheet=name)

    def texts(self, place: int) -> list[str]:
        """Return a column's cells as text."""
        return texts_of(self.columns[place])


def instant_texts(moments: Times) -> list[str]:
    """Return instants as text with their offset, `Z`; what is unknown is empty."""
    return [text or "" for text in iso_texts(moments.astype("datetime64[ms]"))]


def texts_of(column: Column) -> list[str]:
    """Return a column's cells as text; what is unknown is empty."""
    if isinstance(column, list):
        return column
    if column.dtype.kind == "M":
        missing = np.isnat(column)
        texts: Sequence[str] = np.datetime_as_string(column.astype("datetime64[ms]"), unit="s").tolist()
    else:
        missing = np.isnan(column)
        texts = [f"{value:.17g}" for value in column.tolist()]
    return ["" if gone else text for text, gone in zip(texts, missing.tolist(), strict=True)]
