"""NEM12: interval data of Australian meters, a record a day (AEMO, Meter Data File Format Specification NEM12 & NEM13).

Records begin with 100 (header), 200 (register of a meter, its unit and interval), 300 (a day of values), 400 (quality
of parts of it), 500 and 900. Times are Eastern standard time all year, whatever the meter's own clock; the first value
of a record is of the interval that begins at midnight. A suffix such as E1 says what a register counts: E what was
taken from the grid, B what was given to it; others (K and Q, reactive) are no consumption. Quality N is no value.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

import numpy as np

from kappawatt.datasets.layouts.rows import SURPLUS
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.numbers import DECIMAL
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.units import ENERGY, unit_named
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid

__all__ = ["NEM12"]

NEM_ZONE = "Australia/Brisbane"
NAMES = ("NMI", "IntervalDate", "IntervalValue", "UpdateDateTime")
MINUTES = (5, 15, 30)
TAKEN, GIVEN = "E", "B"
NOTHING = "N"  # quality


@dataclass(slots=True)
class _Register:
    """A record 200, and the days below it."""

    meter: str
    suffix: str
    unit: str
    minutes: int
    days: list[_Day] = field(default_factory=list)


@dataclass(slots=True)
class _Day:
    line: int
    date: np.datetime64
    values: list[str]
    published: str


def _reshape(data: bytes) -> Table | None:
    head = data[:4_096].decode("utf-8", "replace").lstrip()
    first = [cell.strip().strip('"') for cell in head.partition("\n")[0].split(",")]
    if first[:2] == ["100", "NEM13"]:
        raise PayloadInvalid.of("file", "NEM13, readings of months", "NEM12, intervals")
    is_cut = first[0] == "200" and len(first) > 8 and first[8] in map(str, MINUTES)
    if first[:2] != ["100", "NEM12"] and not is_cut:
        return None
    problems, facts = Problems(), []
    registers, left_out = _records(data, problems)
    for what, count in left_out.items():
        facts.append(Fact("registers", f"{count} left out", what))
    units = sorted({register.unit for register in registers})
    if len(units) > 1:
        raise PayloadInvalid.of("UOM", " and ".join(units), "one in all records 200")
    if not registers:
        raise PayloadInvalid.of("file", f"no register of energy, only {', '.join(left_out)[:120]}", "E1 or B1 in kWh")
    columns: tuple[list[str], ...] = ([], [], [], [])
    lines: list[int] = []
    keys = _keys(registers)
    longest: dict[str, int] = {}
    for register in registers:
        key = keys[register.meter, register.suffix]
        longest[key] = max(longest.get(key, 0), register.minutes)
    for register in registers:
        key = keys[register.meter, register.suffix]
        minutes = longest[key]
        if minutes != register.minutes:
            facts.append(Fact("intervals", f"{minutes} min", f"{key}: sums of those of {register.minutes} min"))
        count = 1440 // minutes
        for day in register.days:
            moments = np.datetime_as_string(day.date + np.arange(count) * np.timedelta64(minutes, "m"), unit="s")
            columns[0].extend([key] * count)
            columns[1].extend(moments.tolist())
            columns[2].extend(_summed(day.values, minutes // register.minutes))
            columns[3].extend([day.published] * count)
            lines.extend([day.line] * count)
    header = (*NAMES[:2], f"{NAMES[2]} [{units[0]}]", NAMES[3])
    return Table(header, columns, np.array(lines, np.int64), "", problems, tuple(dict.fromkeys(facts)))


def _records(data: bytes, problems: Problems) -> tuple[list[_Register], dict[str, int]]:
    registers: list[_Register] = []
    left_out: dict[str, int] = {}
    current: _Register | None = None
    begun = False
    reader = csv.reader(io.StringIO(data.decode()))
    try:
        for row in reader:
            number = reader.line_num
            kind = row[0].strip() if row else ""
            if kind == "200":
                begun, current = True, _register(row, number, left_out)
                if current is not None:
                    registers.append(current)
            elif kind == "300":
                if not begun:
                    raise PayloadInvalid.of(f"line {number}", "a record 300 before any 200", "the register's first")
                if current is not None:
                    _read_day(row, number, current, problems)
            elif kind == "400" and current is not None and current.days:
                _blank(row, number, current.days[-1], problems)
            elif kind not in ("100", "400", "500", "900", ""):
                problems.append(Problem(number, "record", kind[:20], "100, 200, 300, 400, 500 or 900"))
    except csv.Error as error:
        raise PayloadInvalid(f"line {reader.line_num}: {error}") from None
    return registers, left_out


def _register(row: list[str], number: int, left_out: dict[str, int]) -> _Register | None:
    """A register of energy; None of another, which is counted."""
    if len(row) < 9:
        raise PayloadInvalid.of(f"line {number}", f"{len(row)} fields", "9 or more in a record 200")
    suffix, unit = row[4].strip().upper(), unit_named(row[7])
    if suffix[:1] not in (TAKEN, GIVEN, "") or unit is None or unit.quantity != ENERGY:
        what = f"{suffix} in {row[7].strip()}"[:40]
        left_out[what] = left_out.get(what, 0) + 1
        return None
    minutes = row[8].strip()
    if not minutes.isdigit() or len(minutes) > 2 or int(minutes) not in MINUTES:
        raise PayloadInvalid.of(f"line {number}: IntervalLength", repr(minutes[:20]), "5, 15 or 30")
    return _Register(row[1].strip(), suffix, unit.name, int(minutes))


def _keys(registers: list[_Register]) -> dict[tuple[str, str], str]:
    """The key of each register: the meter's, where one counts what was taken; else the register's name behind it."""
    alike: dict[tuple[str, str], set[str]] = {}
    for one in registers:
        alike.setdefault((one.meter, one.suffix[:1]), set()).add(one.suffix)
    keys = {}
    for one in registers:
        way = SURPLUS if one.suffix[:1] == GIVEN else ""
        alone = len(alike[one.meter, one.suffix[:1]]) == 1
        keys[one.meter, one.suffix] = one.meter + way + ("" if alone else f":{one.suffix}")
    return keys


def _read_day(row: list[str], number: int, register: _Register, problems: Problems) -> None:
    count = 1440 // register.minutes
    date = row[1].strip() if len(row) > 1 else ""
    if len(row) < 2 + count or len(date) != 8 or not date.isdigit():
        problems.append(Problem(number, "record 300", f"{len(row)} fields", f"a date as YYYYMMDD and {count} values"))
        return
    try:
        day = np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:]}", "ms")
    except ValueError:
        problems.append(Problem(number, "IntervalDate", date, "a day that there is, as YYYYMMDD"))
        return
    quality = row[2 + count].strip().upper() if len(row) > 2 + count else ""
    known = row[5 + count].strip() if len(row) > 5 + count else ""
    is_known = len(known) == 14 and known.isdigit()
    published = f"{known[:4]}-{known[4:6]}-{known[6:8]} {known[8:10]}:{known[10:12]}:{known[12:]}" if is_known else ""
    values = [""] * count if quality[:1] == NOTHING else [cell.strip() for cell in row[2 : 2 + count]]
    register.days.append(_Day(number, day, values, published))


def _blank(row: list[str], number: int, day: _Day, problems: Problems) -> None:
    """Take what a record 400 says is no value out of the day above it."""
    cells = [cell.strip() for cell in row[1:4]]
    if len(cells) < 3 or not all(cell.isdigit() and len(cell) < 4 for cell in cells[:2]):
        problems.append(Problem(number, "record 400", ",".join(cells)[:40], "first and last interval, and a quality"))
        return
    first, last = int(cells[0]), int(cells[1])
    if cells[2].upper().startswith(NOTHING):
        for i in range(max(first, 1) - 1, min(last, len(day.values))):
            day.values[i] = ""


def _summed(values: list[str], parts: int) -> list[str]:
    """Values of longer intervals; one of which a part is missing is missing."""
    if parts == 1:
        return values
    found = []
    for i in range(0, len(values), parts):
        part = values[i : i + parts]
        bad = next((text for text in part if text and not DECIMAL.fullmatch(text)), "")
        found.append(bad or ("" if not all(part) else f"{sum(map(float, part)):.12g}"))
    return found


def _meaning(table: Table, options: Options, name: str) -> Meaning | None:
    if table.header[:2] != NAMES[:2] or table.header[3:] != NAMES[3:]:
        return None
    time = TimeColumn(1, Form.MOMENT, None, Labels.START, NEM_ZONE)
    unit = table.header[2].partition("[")[2].rstrip("]")
    values = (Value(2, "", unit, "meter"),)
    return Meaning(NEM12.name, time, values, (0,), 3, days_in=NEM_ZONE)


NEM12 = Layout("AEMO NEM12", "100,NEM12,200405011135,MDA1,Ret1", _meaning, _reshape)
