"""Cells that hold a number with its unit (`412 kW`) -> numbers, and the unit of their column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from kappawatt.datasets.reading.numbers import UNKNOWN, is_number
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.units import ENERGY, POWER, multiple_in, unit_in
from kappawatt.errors import PayloadInvalid

__all__ = ["number_and_unit", "without_units"]

WITH_UNIT = re.compile(r"([+-]?[0-9][0-9.,'’ \u00a0\u202f\u2009]*?)\s*([^\W\d_][\w/€$£*·² .]{0,11})")
LONGEST = 60
ASKED = 200


def number_and_unit(text: str) -> tuple[str, str] | None:
    """Return a cell's number and the name of its unit of power or energy; None if one of both is not there.

    Examples
    --------
    >>> number_and_unit("412,5 kW"), number_and_unit("3.1MWh/h"), number_and_unit("1010 Wien"), number_and_unit("7")
    (('412,5', 'kW'), ('3.1', 'MW'), None, None)
    """
    match = WITH_UNIT.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if match is None or not is_number(match[1]) or multiple_in(f"[{match[2]}]"):
        return None
    unit = unit_in(f"[{match[2].strip()}]")
    return None if unit is None or unit.quantity not in (POWER, ENERGY) else (match[1], unit.name)


def without_units(table: Table, options: Options) -> Table:
    """Return a table with numbers in columns whose cells hold numbers with one and the same unit.

    Raises
    ------
    PayloadInvalid
        Cells of a column have different units, another than the column's name or a person says, or some have none.
    """
    columns, units, facts = list(table.columns), dict(table.units), list(table.facts)
    for place, column in enumerate(table.columns):
        if not isinstance(column, list) or not _has_units(column):
            continue
        columns[place], units[place] = _numbers(table, place, column, options)
        example = next(text for text in column if number_and_unit(text) is not None).strip()
        facts.append(Fact("unit in cells", units[place], f"as in {example!r} of the column {table.header[place]!r}"))
    if len(units) == len(table.units):
        return table
    return replace(table, columns=tuple(columns), units=units, facts=tuple(facts))


def _has_units(column: Sequence[str]) -> bool:
    told = [text for cell in islice(column, ASKED) if (text := cell.strip()).lower() not in UNKNOWN]
    return 2 * sum(number_and_unit(text) is not None for text in told) > len(told)


def _numbers(table: Table, place: int, column: Sequence[str], options: Options) -> tuple[list[str], str]:
    """The numbers of a column as texts, and their unit."""
    name = table.header[place]
    first: tuple[int, str, str] | None = None
    found = []
    of_name = unit_in(name)
    for row, text in enumerate(column):
        parts = number_and_unit(text)
        if parts is None:
            if is_number(text) and not options.unit:
                allowed = "a unit in each cell, as others have one, or --unit for those without"
                raise PayloadInvalid.of(f"line {table.lines[row]}: {name}", f"{text.strip()!r} without a unit", allowed)
            found.append(text)  # nothing, or what is refused row by row
            continue
        number, unit = parts
        where, got = f"line {table.lines[row]}: {name}", repr(text.strip())
        if first is None:
            first = row, text.strip(), unit
        elif unit != first[2]:
            allowed = f"{first[2]}, as in line {table.lines[first[0]]} ({first[1]!r}): one unit in all of a column"
            raise PayloadInvalid.of(where, got, allowed)
        for said, who in ((of_name.name if of_name else "", "its name"), (options.unit, "--unit")):
            if said and said != unit:
                raise PayloadInvalid.of(where, got, f"numbers in {said}, as {who} says, or without a unit")
        found.append(number)
    return found, "" if first is None else first[2]
