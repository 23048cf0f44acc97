"""What customers of American utilities download as CSV: Opower's table (PG&E, PECO, ComEd, Con Edison), and SDG&E's.

Both stand below a preamble of names and values. Opower: `TYPE,DATE,START TIME,END TIME,USAGE (kWh),COST,NOTES`, or
`USAGE,UNITS`, or `IMPORT (kWh),EXPORT (kWh)`; an interval ends with its last minute, 00:00 to 00:14; the last cells of
a row may be missing. It has 24 hours every day: PG&E puts both of autumn's repeated hours into one row, so a repeated
hour that stands there once is left out, since nobody knows what is in it. SDG&E: `Meter Number,Date,Start
Time,Duration,Consumption,Generation,Net`, with the repeated hour twice, in order.
"""

from __future__ import annotations

import csv
import io

import numpy as np

from kappawatt.datasets.layouts.rows import SURPLUS, others
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.times import read_clock, read_times
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import to_utc

__all__ = ["OPOWER", "SDGE"]

HEAD_BYTES = 8_192
NAMES = ("TYPE", "DATE", "START TIME", "END TIME")
TAKEN = ("USAGE (kWh)", "IMPORT (kWh)", "USAGE")
GIVEN = "EXPORT (kWh)"
PACIFIC = "America/Los_Angeles"
MINUTES = 60
MOST_NAMES = 20


def _reshape(data: bytes) -> Table | None:
    """Opower's table; Python's own reader, since rows may lack their last cells."""
    head = data[:HEAD_BYTES].decode("utf-8", "replace").upper().splitlines()
    start = next((i for i, line in enumerate(head) if line.replace('"', "").startswith(",".join(NAMES))), None)
    if start is None:
        return None
    reader = csv.reader(io.StringIO(data.decode()), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    problems = Problems()
    names: list[str] = []
    try:
        for row in reader:
            if len(names) > MOST_NAMES:
                raise PayloadInvalid.of("header", f"{len(names)} columns", f"up to {MOST_NAMES}")
            if not names:
                names = [cell.strip() for cell in row] if [cell.strip().upper() for cell in row[:4]] == [*NAMES] else []
            elif any(cell.strip() for cell in row):
                if len(row) <= len(NAMES) or any(cell.strip() for cell in row[len(names) :]):
                    allowed = f"{len(NAMES) + 1} to {len(names)} values"
                    problems.append(Problem(reader.line_num, "row", ",".join(row)[:80], allowed))
                    continue
                rows.append((row + [""] * len(names))[: len(names)])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise PayloadInvalid(f"line {reader.line_num}: {error}") from None
    columns = tuple(list(column) for column in zip(*rows, strict=True)) or tuple([] for _ in names)
    return Table(tuple(names), columns, np.array(lines, np.int64), ",", problems)


def _opower(table: Table, options: Options, name: str) -> Meaning | None:
    places = [table.place(wanted) for wanted in NAMES]
    taken, given, unit = table.place(*TAKEN), table.place(GIVEN), table.place("UNITS")
    kind, day, start, end = places
    if kind is None or day is None or start is None or end is None:
        return None
    units = sorted({text.strip().lower() for text in table.texts(unit)} - {""}) if unit is not None else ["kwh"]
    if taken is None or units != ["kwh"]:
        got = ", ".join(units) if taken is not None else ",".join(table.header)
        raise PayloadInvalid.of("UNITS" if unit is not None else "header", got[:80], "energy in kWh")
    step = _length(table, start, end)
    table, facts = _without_lone_repeated(table, day, start, [taken, given], options)
    key = options.key or "meter"
    values = [Value(taken, "" if given is None else key, "kWh", "meter")]
    if given is not None and any(text.strip() not in ("", "0", "0.00") for text in table.texts(given)):
        values.append(Value(given, key + SURPLUS, "kWh", "meter"))
    time = TimeColumn(day, Form.DATE_CLOCK, start, Labels.START, "", day_first=False, step=step)
    left_out = others(table, {day, start, end, *(value.place for value in values)})
    return Meaning(OPOWER.name, time, tuple(values), left_out=left_out, facts=facts, table=table)


def _length(table: Table, start: int, end: int) -> int:
    """Length of an interval [s], whose end is its last minute; rows of several lengths are refused."""
    begins, ends = ([read_clock(text) for text in table.texts(place)] for place in (start, end))
    found = {
        (last - first) % 86_400 + MINUTES for first, last in zip(begins, ends, strict=True)
        if first is not None and last is not None
    }  # fmt: skip
    found = {length if length % 300 == 0 else length - MINUTES for length in found}  # or the end itself
    if len(found) > 1:
        got = f"intervals of {' and '.join(f'{length // 60} min' for length in sorted(found)[:4])}"
        raise PayloadInvalid.of("END TIME", got, "intervals of one length in a file")
    return found.pop() if found else 0


def _without_lone_repeated(
    table: Table, day: int, start: int, places: list[int | None], options: Options
) -> tuple[Table, tuple[Fact, ...]]:
    """Leave out what stands once for an hour that the clock shows twice: it may be one hour's or the sum of both."""
    if not options.time_zone or not len(table):
        return table, ()
    days = read_times(table.texts(day), table.header[day], day_first=options.day_first, habit=False).wall
    clocks = np.array([read_clock(text) or 0 for text in table.texts(start)], dtype="timedelta64[s]")
    labels = days + clocks
    known = ~np.isnat(labels)
    twice = known & (to_utc(labels, options.time_zone) != to_utc(labels, options.time_zone, second=True))
    _, at, counts = np.unique(labels, return_inverse=True, return_counts=True)
    lone = np.flatnonzero(twice & (counts[at] == 1) & ~np.isnat(to_utc(labels, options.time_zone)))
    if not len(lone):
        return table, ()
    columns = list(table.columns)
    for place in places:
        if place is not None:
            cells = table.texts(place).copy()
            for i in lone.tolist():
                cells[i] = ""
            columns[place] = cells
    why = "the clock shows it twice and the file once: one hour's energy, or that of both"
    told = Table(table.header, tuple(columns), table.lines, table.separator, table.problems, table.facts)
    return told, (Fact("repeated hour", f"{len(lone)} rows left out", why),)


def _sdge(table: Table, options: Options, name: str) -> Meaning | None:
    meter, day, start = table.place("Meter Number"), table.place("Date"), table.place("Start Time")
    length, taken, given = table.place("Duration"), table.place("Consumption"), table.place("Generation")
    if meter is None or day is None or start is None or length is None or taken is None:
        return None
    if given is None:
        raise PayloadInvalid.of("header", "no Generation: a meter of gas", "the export of an electric meter")
    lengths = {text.strip() for text in table.texts(length)} - {""}
    if len(lengths) != 1 or not (told := lengths.pop()).isdigit() or len(told) > 4:
        raise PayloadInvalid.of("Duration", ", ".join(sorted(lengths))[:40], "one length in minutes in all of a file")
    keys, energy = [text.strip() for text in table.texts(meter)], table.texts(taken)
    gives = [i for i, text in enumerate(table.texts(given)) if text.strip()]
    rows = [*range(len(table)), *gives]
    texts = {place: table.texts(place) for place in (day, start, given)}
    table = Table(
        ("Meter Number", "Date", "Start Time", "Consumption"),
        (
            keys + [keys[i] + SURPLUS for i in gives],
            [texts[day][i] for i in rows],
            [texts[start][i] for i in rows],
            energy + [texts[given][i] for i in gives],
        ),
        table.lines[rows], table.separator, table.problems, table.facts,
    )  # fmt: skip
    time = TimeColumn(1, Form.DATE_CLOCK, 2, Labels.START, PACIFIC, day_first=False, step=int(told) * MINUTES)
    return Meaning(SDGE.name, time, (Value(3, "", "kWh", "meter"),), (0,), days_in=PACIFIC, table=table)


OPOWER = Layout("Opower (PG&E, PECO, ComEd)", "TYPE,DATE,START TIME,END TIME,USAGE (kWh),COST,NOTES", _opower, _reshape)
SDGE = Layout("SDG&E", "Meter Number,Date,Start Time,Duration,Consumption,Generation,Net", _sdge)
