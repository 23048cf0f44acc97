"""A sheet's rows of cells -> the one table in it: where its names stand, and what around it is no part.

Sheets are made for eyes: a title in merged cells, pairs such as `Grid area | Town`, empty rows and columns, a row of
units below the names, totals and notes at the end. The names are the row right above the first row of values; each
column of values has text there, or an hour of the day as tables with a row a day have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from openpyxl.utils import get_column_letter

from kappawatt.datasets.reading.cells import cell_text, is_moment
from kappawatt.datasets.reading.dialect import is_value
from kappawatt.datasets.reading.numbers import UNKNOWN
from kappawatt.datasets.reading.table import Fact, Line
from kappawatt.datasets.reading.times import ABBREVIATIONS
from kappawatt.datasets.reading.totals import MOST_BELOW, left_out_below
from kappawatt.datasets.reading.units import unit_in, unit_named
from kappawatt.datasets.reading.words import WORD_TOTAL
from kappawatt.errors import PayloadInvalid

__all__ = ["Rows", "SheetTable", "table_in"]

Rows = Mapping[int, Sequence[Any]]
"""Rows with a value by number, from 1, in order: cells up to the last one with a value."""

PREAMBLE_ROWS = 40  # with something in them, among which the names have to stand
ASKED = 30  # rows below the names that tell which columns hold values
FEW = 3
LONGEST_UNIT = 14
UNIT_OF_TIMES = re.compile(rf"|utc|gmt|mesz?|{'|'.join(ABBREVIATIONS)}|[dmyhjst:./\- ]+|[\[(].*", re.IGNORECASE)
YEARS = range(1990, 2101)
SHOWN = 40


@dataclass(frozen=True, slots=True)
class SheetTable:
    """A table of a sheet.

    Parameters
    ----------
    name : str
        Of the sheet.
    header : tuple of str
    places : tuple of int
        Column of each name in the sheet, from 0.
    rows : list of (int, sequence)
        Numbers in the sheet and cells of the rows of values.
    times : tuple of int
        Columns of times in the sheet, from 0.
    facts : tuple of Fact
    above : tuple of Line
        What stands before the names.
    below : tuple of str
        What a row of units says below each name.
    """

    name: str
    header: tuple[str, ...]
    places: tuple[int, ...]
    rows: list[tuple[int, Sequence[Any]]]
    times: tuple[int, ...]
    facts: tuple[Fact, ...] = ()
    above: tuple[Line, ...] = ()
    below: tuple[str, ...] = ()

    def column(self, place: int) -> list[Any]:
        """Return the cells below a name, by its place among the names."""
        at = self.places[place]
        return [row[at] if at < len(row) else None for _, row in self.rows]


def table_in(name: str, rows: Rows) -> SheetTable | None:
    """Return the table in a sheet's rows; None if there is none.

    Parameters
    ----------
    name : str
        Of the sheet.
    """
    numbered = list(rows.items())
    for i, (number, cells) in enumerate(numbered[:PREAMBLE_ROWS]):
        below = numbered[i + 1 :]
        measured = _measured([row for _, row in below[:ASKED]])
        times = [place for place in measured if _are_times([_cell(row, place) for _, row in below[:ASKED]])]
        units = below[0] if len(below) > 1 and _are_units(below[0][1], times) else None
        body = below[1:] if units else below
        if measured and _names(cells, measured) and _holds_values(body[0][1], measured, times):
            above = numbered[i - 1][1] if i and numbered[i - 1][0] == number - 1 else ()
            found = _table(name, cells, above, units, body, measured, times)
            before = tuple(Line(f"row {n}", tuple(map(cell_text, row))) for n, row in numbered[:i])
            under = tuple(cell_text(_cell(units[1], place)) for place in found.places) if units else ()
            return replace(found, above=before, below=under)
    return None


def _cell(row: Sequence[Any], place: int) -> Any:
    return row[place] if place < len(row) else None


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str) and bool(cell.strip()) and not is_value(cell)


def _holds_value(cell: Any) -> bool:
    """Whether a cell holds a number or a time, as such or as text."""
    if isinstance(cell, str):
        return is_value(cell)
    return cell is not None


def _measured(rows: Sequence[Sequence[Any]]) -> list[int]:
    """Columns of which most rows hold a number or a time, and columns before them may be names."""
    width = max(map(len, rows), default=0)
    return [place for place in range(width) if 2 * sum(_holds_value(_cell(row, place)) for row in rows) > len(rows)]


def _holds_values(row: Sequence[Any], measured: Sequence[int], times: Sequence[int]) -> bool:
    """Whether a row may be one of the table: a time in a column of times, else values or nothing in each of values."""
    if times:
        return any(is_moment(_cell(row, place)) for place in times)
    cells = [_cell(row, place) for place in measured]
    told = [cell for cell in cells if not (isinstance(cell, str) and cell.strip().lower() in UNKNOWN)]
    return any(map(_holds_value, told)) and not any(map(_is_text, told))


def _names(row: Sequence[Any], measured: Sequence[int]) -> bool:
    """Whether a row may hold the names: text above columns of values, or numbers that count hours, or years."""
    cells = [_cell(row, place) for place in measured]
    texts = [cell for cell in cells if _is_text(cell)]
    others = [cell for cell in cells if _holds_value(cell)]
    unnamed = sum(cell is None or cell == "" for cell in cells[1:])  # the first may be an index
    if not texts or unnamed >= len(texts) + len(others):
        return False
    return not others or _count(others)


def _count(cells: Sequence[Any]) -> bool:
    """Whether cells count on as hours, times of the day or years do."""
    names = [cell_text(cell) for cell in cells]
    clocks = [re.fullmatch(r"(\d{1,2}):(\d\d)(?::00)?", name) for name in names]
    if all(clocks):
        counts = [int(clock[1]) * 60 + int(clock[2]) for clock in clocks if clock]
        counts = [*counts[:-1], 1440] if counts[-1] == 0 and len(counts) > 1 else counts
    elif all(name.isdigit() and len(name) < 5 for name in names):
        counts = [int(name) for name in names]
        if all(count in YEARS for count in counts):
            return len(set(counts)) == len(counts)
    else:
        return False
    steps = {after - before for before, after in pairwise(counts)}
    return len(steps) == 1 and steps.pop() > 0 and counts[0] <= 60


def _are_units(row: Sequence[Any], times: Sequence[int]) -> bool:
    """Whether a row below the names holds their units: short texts, one of them a unit of power or energy."""
    told = [cell for cell in row if cell is not None]
    if not told or not all(isinstance(cell, str) and len(cell.strip()) <= LONGEST_UNIT for cell in told):
        return False
    of_times = [str(_cell(row, place) or "").strip() for place in times]
    return any(map(_unit, told)) and all(UNIT_OF_TIMES.fullmatch(text) for text in of_times)


def _unit(cell: str) -> str:
    found = unit_named(cell.strip().strip("[]()"))
    return found.name if found else ""


def _table(
    name: str,
    cells: Sequence[Any],
    above: Sequence[Any],
    units: tuple[int, Sequence[Any]] | None,
    body: Sequence[tuple[int, Sequence[Any]]],
    measured: Sequence[int],
    times: Sequence[int],
) -> SheetTable:
    facts: list[Fact] = []
    header: dict[int, str] = {}
    for place in range(max(len(cells), measured[-1] + 1)):
        text = " ".join(cell_text(_cell(cells, place)).split())
        if not text and place in measured and isinstance(_cell(above, place), str):
            text = " ".join(str(_cell(above, place)).split())  # a cell merged with the one above it
        if text or (place in measured and not header):  # an index has no name
            header[place] = text
    if units is not None:
        said = {place: _unit(str(_cell(units[1], place) or "")) for place in header}
        header = {
            place: f"{text} [{said[place]}]" if said[place] and unit_in(text) is None else text
            for place, text in header.items()
        }
        facts.append(Fact("units", f"in row {units[0]}", "below the names"))
    body = _one_table(name, cells, body, measured, facts)
    rows, below = _without_end(body, times)
    if below:
        first = " | ".join(cell_text(cell)[:SHOWN] for cell in below[0][1] if cell is not None)
        numbers = f"row {below[0][0]}" if len(below) == 1 else f"rows {below[0][0]} to {below[-1][0]}"
        facts.append(left_out_below(numbers, first))
    beside = sorted({place for _, row in rows for place, cell in enumerate(row) if cell is not None} - set(header))
    if beside:
        letters = ", ".join(get_column_letter(place + 1) for place in beside[:FEW])
        more = f" and {len(beside) - FEW} more" if len(beside) > FEW else ""
        facts.append(Fact("left out beside", f"column {letters}{more}", "no name"))
    return SheetTable(name, tuple(header.values()), tuple(header), rows, tuple(times), tuple(facts))


def _one_table(
    sheet: str,
    names: Sequence[Any],
    body: Sequence[tuple[int, Sequence[Any]]],
    measured: Sequence[int],
    facts: list[Fact],
) -> list[tuple[int, Sequence[Any]]]:
    """The rows without those that repeat the names; PayloadInvalid if other names begin another table below."""
    kept, repeated = [], 0
    for number, row in body:
        texts = [place for place in measured if isinstance(_cell(row, place), str) and _is_text(_cell(row, place))]
        if len(texts) < len(measured) or len(measured) < 2:
            kept.append((number, row))
        elif all(cell_text(_cell(row, place)) == cell_text(_cell(names, place)) for place in measured):
            repeated += 1
        elif all(str(_cell(row, place)).strip().lower() in UNKNOWN for place in texts[1:]):
            kept.append((number, row))  # a word where the time stands, and nothing known beside it
        else:
            got = f"other names ({', '.join(cell_text(_cell(row, place))[:SHOWN] for place in measured[:FEW])})"
            raise PayloadInvalid.of(f"sheet {sheet!r}, row {number}", got, "one table in a sheet: each in its own")
    if repeated:
        facts.append(Fact("left out", f"{repeated} rows", "they repeat the names"))
    return kept


def _are_times(cells: Sequence[Any]) -> bool:
    told = [cell for cell in cells if _holds_value(cell)]
    return bool(told) and 2 * sum(map(is_moment, told)) > len(told)


def _without_end(
    body: Sequence[tuple[int, Sequence[Any]]], times: Sequence[int]
) -> tuple[list[tuple[int, Sequence[Any]]], list[tuple[int, Sequence[Any]]]]:
    """The rows of a table, and those at its end that are totals or notes: a word or nothing where the time stands."""
    end = len(body)
    while times and end > 1 and len(body) - end < MOST_BELOW and _is_no_row(body[end - 1][1], times):
        end -= 1
    return list(body[:end]), list(body[end:])


def _is_no_row(row: Sequence[Any], times: Sequence[int]) -> bool:
    cells = [_cell(row, place) for place in times]
    if not all(cell is None or isinstance(cell, str) for cell in cells):
        return False
    texts = [cell.strip() for cell in cells if cell is not None]
    return all(WORD_TOTAL.fullmatch(text) or not any(character.isdigit() for character in text) for text in texts)
