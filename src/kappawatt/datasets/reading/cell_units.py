"""Cells that hold a number with its unit (`412 kW`) -> numbers, and the unit of their column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice

from kappawatt.datasets.reading.dialect import is_value
from kappawatt.datasets.reading.numbers import UNKNOWN, is_number
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.units import ENERGY, POWER, multiple_in, unit_in
from kappawatt.errors import PayloadInvalid

__all__ = ["number_and_unit", "without_units", "without_units_row"]

WITH_UNIT = re.compile(r"([+-]?[0-9][0-9.,'’ \u00a0\u202f\u2009]*?)\s*([^\W\d_][\w/€$£*·² .]{0,11})")
LONGEST = 60
LEAST_ROWS = 2
ASKED = 200


def number_and_unit(text: str) -> tuple[str, str] | None:
    """Return a cell's number and the name of its unit of power or energy; None if one of both is not there.

    Examples
    --------
    >>> number_and_unit("412,5 kW"), number_and_unit("3.1MWh/h"), number_and_unit("1010 Wien"), number_and_unit("7")
    (('412,5', 'kW'), ('3.1', 'MW'), None, None)
    """
    match = WITH_UNIT.fullmatch(text.strip()) if len(text) <= LONGEST else None
    unit = "" if match is None else _unit_of(match[2].strip())
    return (match[1], unit) if match is not None and unit and is_number(match[1]) else None


@lru_cache(maxsize=1_000)
def _unit_of(word: str) -> str:
    """The unit of power or energy that a word names; "" if it names none, or a multiple such as `Tsd. kWh`."""
    unit = None if multiple_in(f"[{word}]") else unit_in(f"[{word}]")
    return unit.name if unit is not None and unit.quantity in (POWER, ENERGY) else ""


def without_units_row(table: Table) -> Table:
    """Return a table without the line of units that stands between its names and its rows.

    Raises
    ------
    PayloadInvalid
        A name has another unit than the line below it.
    """
    if len(table) < LEAST_ROWS or not all(isinstance(column, list) for column in table.columns):
        return table
    cells = [str(column[0]).strip() for column in table.columns]
    units = {place: unit for place, cell in enumerate(cells) if (unit := _unit_of(cell.strip("[]() ")))}
    is_multiple = any(multiple_in(f"[{cell}]") for cell in cells)
    if not (units or is_multiple) or any(map(is_value, cells)) or max(map(len, cells)) > LONGEST:
        return table
    line = int(table.lines[0])
    for place, unit in units.items():
        own = unit_in(table.header[place])
        if own is not None and own.name != unit:
            where = f"line {line}: {table.header[place]}"
            raise PayloadInvalid.of(where, f"{unit}, below a name with {own.name}", "one unit in all of a column")
    fact = Fact("units", f"in line {line}", "below the names")
    columns = tuple(column[1:] for column in table.columns)
    return replace(
        table, columns=columns, lines=table.lines[1:], units={**table.units, **units}, below=tuple(cells),
        facts=(*table.facts, fact),
    )  # fmt: skip


def without_units(table: Table, options: Options) -> Table:
    """Return a table with numbers in columns whose cells hold numbers with one and the same unit.

    Raises
    ------
    PayloadInvalid
        Cells of a column have different units, another than the column's name or a person says, or some have none.
    """
    units, facts = dict(table.units), list(table.facts)
    for place, column in enumerate(table.columns):
        if isinstance(column, list) and _has_units(column):
            units[place], example = _take_units(table, place, column, options)
            facts.append(
                Fact("unit in cells", units[place], f"as in {example!r} of the column {table.header[place]!r}")
            )
    return table if len(units) == len(table.units) else replace(table, units=units, facts=tuple(facts))


def _has_units(column: Sequence[str]) -> bool:
    told = [text for cell in islice(column, ASKED) if (text := cell.strip()).lower() not in UNKNOWN]
    return 2 * sum(number_and_unit(text) is not None for text in told) > len(told)


def _take_units(table: Table, place: int, column: list[str], options: Options) -> tuple[str, str]:
    """Take the unit out of a column's cells, and return it with the first cell.

    Cell by cell in the column itself: a second one would be more than what a body may become.
    """
    name = table.header[place]
    of_name = unit_in(name)
    said = {
        unit: who for unit, who in ((of_name.name if of_name else "", "its name"), (options.unit, "--unit")) if unit
    }
    first: tuple[int, str, str] | None = None
    for row, text in enumerate(column):
        parts = number_and_unit(text)
        where = f"line {table.lines[row]}: {name}"
        if parts is None:
            if is_number(text) and not options.unit:
                allowed = "a unit in each cell, as others have one, or --unit for those without"
                raise PayloadInvalid.of(where, f"{text.strip()!r} without a unit", allowed)
            continue  # nothing, or what is refused row by row
        number, unit = parts
        first = first or (row, text.strip(), unit)
        if unit != first[2]:
            allowed = f"{first[2]}, as in line {table.lines[first[0]]} ({first[1]!r}): one unit in all of a column"
            raise PayloadInvalid.of(where, repr(text.strip()), allowed)
        for other, who in said.items():
            if other != unit:
                allowed = f"numbers in {other}, as {who} says, or without a unit"
                raise PayloadInvalid.of(where, repr(text.strip()), allowed)
        column[row] = number
    return ("", "") if first is None else (first[2], first[1])
