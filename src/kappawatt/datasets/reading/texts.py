"""Text -> a table: rows of the header's width, and those that are none."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kappawatt.datasets.reading.dialect import SEPARATORS, Dialect, find_dialect
from kappawatt.datasets.reading.table import Fact, Line, Table
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid

__all__ = [
    "HEAD_BYTES",
    "MOST_COLUMNS",
    "dialect_of",
    "lines_above",
    "narrow_row",
    "read_with_csv",
    "refuse_wide",
    "wide_row",
]

HEAD_BYTES = 65_536
MOST_COLUMNS = 2_000
LONGEST_LINE = 65_536
SHOWN = 80
MOST_KNOWN = 2_000  # different cells of a column
WIDE_SHARE = 0.01  # of rows that are wider than the names, from which on the file is cut by the wrong character
DECIMAL_END = re.compile(r"[0-9]+,[0-9]{1,6}$")


def dialect_of(data: bytes, separator: str = "") -> Dialect:
    """Return how a text is cut into cells, from its beginning.

    Raises
    ------
    PayloadInvalid
        It has no line of names, or too many columns.
    """
    head = data[:HEAD_BYTES].decode("utf-8", "replace").splitlines()
    if len(data) > HEAD_BYTES and len(head) > 1:
        head = head[:-1]
    found = find_dialect(head, separator)
    if len(found.names) > MOST_COLUMNS:
        raise PayloadInvalid.of("header", f"{len(found.names)} columns", f"up to {MOST_COLUMNS:,}")
    return found


def facts_of(dialect: Dialect) -> tuple[Fact, ...]:
    """How a text was cut, for a person."""
    mark = SEPARATORS.get(dialect.separator, repr(dialect.separator))
    facts: tuple[Fact, ...] = (Fact("separator", mark, f"it cuts the names into {len(dialect.names)}"),)
    if dialect.line > 1:
        facts = (
            *facts,
            Fact(
                "names",
                f"in line {dialect.line}",
                "what stands before them is no table; units, clocks and labels in it are asked",
            ),
        )
    return facts


def lines_above(dialect: Dialect) -> tuple[Line, ...]:
    """The lines before the names that say something."""
    return tuple(Line(f"line {i}", cells) for i, cells in enumerate(dialect.above, 1) if any(map(str.strip, cells)))


def read_with_csv(data: bytes, dialect: Dialect) -> Table:
    """Read a table with Python's own reader of CSV: small, and safe with what strangers send.

    Parameters
    ----------
    data : bytes
        UTF-8 without a mark.

    Raises
    ------
    PayloadInvalid
        A line is too long, a quote is left open, or so many rows are wider than the names that they are cut by the
        wrong character.
    """
    width = len(dialect.names)
    columns: list[list[str]] = [[] for _ in range(width)]
    known: list[dict[str, str]] = [{} for _ in range(width)]  # what comes again and again is kept once
    lines = array("q")
    problems, wide = Problems(), 0
    for number, row in _rows(data, dialect):
        if len(row) > width and any(cell.strip() for cell in row[width:]):
            wide += 1
            problems.append(wide_row(number, row, dialect))
            continue
        if len(row) < width:
            problems.append(narrow_row(number, row, dialect))
            continue
        for column, seen, cell in zip(columns, known, row, strict=False):
            column.append(seen.get(cell, cell) if len(seen) >= MOST_KNOWN else seen.setdefault(cell, cell))
        lines.append(number)
    refuse_wide(problems, wide, len(lines))
    numbers = np.array(lines, dtype=np.int64)
    return Table(
        dialect.names,
        tuple(columns),
        numbers,
        dialect.separator,
        problems,
        facts_of(dialect),
        above=lines_above(dialect),
    )


def _rows(data: bytes, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(_lines(data, dialect.line), delimiter=dialect.separator)
    before = dialect.line
    try:
        for row in reader:
            number = dialect.line + reader.line_num
            if number - before > 1:
                raise PayloadInvalid.of(f"line {before + 1}", "a quote that is left open", "each closed on its line")
            before = number
            if any(cell and not cell.isspace() for cell in row):
                yield number, row
    except csv.Error as error:
        raise PayloadInvalid(f"line {dialect.line + reader.line_num}: {error}") from None


def _lines(data: bytes, skipped: int) -> Iterator[str]:
    """The lines after the names, one by one: the whole text at once would take up to four times its bytes."""
    start = 0
    for _ in range(skipped):
        start = data.find(b"\n", start) + 1 or len(data)
    number = skipped
    for block in io.BytesIO(memoryview(data)[start:]):
        number += 1
        if len(block) > LONGEST_LINE:
            raise PayloadInvalid.of(f"line {number}", f"{len(block)} bytes", f"up to {LONGEST_LINE:,}")
        yield block.decode()


def wide_row(line: int, row: Sequence[str], dialect: Dialect) -> Problem:
    """Name a row that has more cells than there are names, and what it looks like."""
    width = len(dialect.names)
    got = dialect.separator.join(row)[:SHOWN]
    looks = ""
    if dialect.separator == ",":
        tail = ",".join(row[width - 1 :])[:SHOWN].strip()
        if len(row) > width and "." in tail and re.fullmatch(r"[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]+", tail):
            looks = "; a comma between thousands?"
        elif DECIMAL_END.search(tail):
            looks = "; a decimal comma?"
    allowed = f"{width} values{looks}"
    return Problem(line, "row", f"{len(row)} values: {got}", allowed)


def narrow_row(line: int, row: Sequence[str], dialect: Dialect) -> Problem:
    """Name a row that has fewer cells than there are names."""
    return Problem(line, "row", dialect.separator.join(row)[:SHOWN], f"{len(dialect.names)} values")


def refuse_wide(problems: Iterable[Problem], wide: int, rows: int) -> None:
    """Raise PayloadInvalid if so many rows are wider than the names that the file is cut by the wrong character."""
    if wide and wide > WIDE_SHARE * (wide + rows):
        first = next(problem for problem in problems if problem.field == "row")
        more = f" ({wide} such rows)" if wide > 1 else ""
        hint = (
            ": save it with semicolons between columns or quotes around numbers" if first.allowed.endswith("?") else ""
        )
        raise PayloadInvalid(first.message + more + hint)
