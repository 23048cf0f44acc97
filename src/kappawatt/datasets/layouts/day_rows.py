"""A row a day: a date, and a column for each interval of it.

Columns are times of the day, of starts (`00:00` to `23:30`) or ends (`00:30` to `24:00`), spans of both, or numbers
(`H01` to `H24`, `HH01` to `HH48`, `V1` to `V96`), with or without columns for the hour that autumn's day has more. What
a number counts is told by the days of a change of the clock: intervals of the day, if the last ones of spring's short
day are empty or autumn's additional ones are not; else it is a time of the clock, and spring's skipped hour is empty.
Where neither is so the days are of another clock, and the file is refused. A repeated hour that has one column only is
left out: it may hold one hour, or what both hold together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.layouts.rows import others
from kappawatt.datasets.reading.clocks import fixed_clock
from kappawatt.datasets.reading.generic import key_of_file
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.numbers import UNKNOWN, is_number
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.times import is_time, read_clock, read_times
from kappawatt.datasets.reading.units import unit_in, unit_named
from kappawatt.datasets.reading.words import WORD_KEY, WORD_UNIT
from kappawatt.datasets.series import Problem
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times, clock_changes, day_start, to_local, to_utc

__all__ = ["DAY_ROWS"]

DAY_SECONDS = 86_400
COUNTS = (24, 48, 96)
HOUR = 3_600
NUMBERED = re.compile(r"(.*?)[ _.\-]?0*([0-9]{1,3})", re.DOTALL)
SPAN = re.compile(r"\s*[-–]\s*|\s+(?:to|bis|a)\s+", re.IGNORECASE)
ASKED = 200


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a day's intervals, in order.

    Parameters
    ----------
    places : list of int
    step : int
        Length of an interval [s].
    more : int
        Columns at the end that only autumn's long day fills.
    is_numbered : bool
        Whether they are numbers, which may count the intervals of a day; else they are times of the clock.
    """

    places: list[int]
    step: int
    more: int
    is_numbered: bool


def _day_rows(table: Table, options: Options, name: str) -> Meaning | None:
    columns = _clocks(table.header) or _numbers(table.header)
    if columns is None:
        return None
    date = _date(table, options, set(columns.places))
    if date is None:
        return None
    zone, days_in = options.clock or options.time_zone, options.time_zone or options.clock
    if not zone:
        raise PayloadInvalid.of(table.header[date], "days, a row each, by a clock that nothing names", "--time-zone")
    keys = [
        i for i, column in enumerate(table.header) if i not in columns.places and i != date and WORD_KEY.search(column)
    ]
    unit, unit_place = _unit(table, set(columns.places), name)
    days = read_times(table.texts(date), table.header[date], day_first=options.day_first, in_a_row=True)
    if (days.wall != days.wall.astype("datetime64[D]"))[~np.isnat(days.wall)].any():
        return None  # a row an hour, with columns of something else
    read = {date, unit_place, *columns.places, *keys[:1]}
    names = [text.strip().strip("'=\"") for text in table.texts(keys[0])] if keys else [""] * len(table)
    _require_once(table, names, days.wall, columns)
    cells = [table.texts(place) for place in columns.places]
    starts, facts = _starts(days.wall, cells, columns, zone, table.header[date], is_said=options.clock == days_in)
    n, width = len(table), len(columns.places)
    long = Table(
        ("key", table.header[date], "value"),
        (
            [one for one in names for _ in range(width)],
            starts.reshape(-1),
            [cells[j][i] for i in range(n) for j in range(width)],
        ),
        np.repeat(table.lines, width), table.separator, table.problems, table.facts,
    )  # fmt: skip
    for row, allowed in days.bad:
        long.problems.append(Problem(int(table.lines[row]), table.header[date], table.texts(date)[row][:80], allowed))
    there = np.flatnonzero(~np.isnat(starts.reshape(-1)))
    body = [
        [column[i] for i in there.tolist()] if isinstance(column, list) else column[there] for column in long.columns
    ]
    long = Table(long.header, tuple(body), long.lines[there], long.separator, long.problems, long.facts)
    time = TimeColumn(1, Form.MOMENT, None, Labels.START, "UTC", step=columns.step)
    value = Value(2, "" if keys else key_of_file(name), unit, "")
    return Meaning(
        DAY_ROWS.name, time, (value,), (0,) if keys else (), left_out=others(table, read), facts=facts,
        days_in=days_in, table=long, takes_clock=True,
    )  # fmt: skip


def _clocks(header: Sequence[str]) -> _Columns | None:
    """Columns that are times of the day."""
    found: dict[int, int] = {}
    for place, column in enumerate(header):
        parts = SPAN.split(column.strip(), maxsplit=1)
        seconds = [read_clock(part) for part in parts]
        if seconds and all(one is not None for one in seconds) and ":" in column:
            found[place] = int(seconds[0] or 0) + (0 if len(parts) == 1 else 1)  # a span says that it is a start
    is_span = bool(found) and all(second % 60 == 1 for second in found.values())
    seconds = [second - 1 if is_span else second for second in found.values()]
    if len(seconds) not in COUNTS:
        return None
    step = DAY_SECONDS // len(seconds)
    starts = [i * step for i in range(len(seconds))]
    ends = [(i + 1) * step for i in range(len(seconds))]
    if seconds == starts or (not is_span and seconds in (ends, [*ends[:-1], 0])):
        return _Columns(list(found), step, 0, False)
    return None


def _numbers(header: Sequence[str]) -> _Columns | None:
    """Columns that are numbers from 1 on, or from 0, behind one word."""
    by_word: dict[str, dict[int, int]] = {}
    for place, column in enumerate(header):
        match = NUMBERED.fullmatch(column.strip())
        if match is not None:
            by_word.setdefault(match[1].lower(), {}).setdefault(int(match[2]), place)
    for numbers in by_word.values():
        first = min(numbers)
        count = len(numbers)
        base = max((c for c in COUNTS if c <= count), default=0)
        if not base or first not in (0, 1) or sorted(numbers) != list(range(first, first + count)):
            continue
        step, more = DAY_SECONDS // base, count - base
        if more in (0, HOUR // step) and (more == 0 or first == 1):
            return _Columns([numbers[k] for k in sorted(numbers)], step, more, True)
    return None


def _date(table: Table, options: Options, measured: set[int]) -> int | None:
    if options.time_column:
        return table.place(options.time_column)
    found = []
    for place in range(len(table.header)):
        if place in measured:
            continue
        told = [text for text in table.texts(place)[:ASKED] if text.strip()]
        if told and 2 * sum(map(is_time, told)) > len(told):
            found.append(place)
    if len(found) > 1:
        names = ", ".join(table.header[place] for place in found[:8])
        raise PayloadInvalid.of("header", f"several columns of days: {names}", "one named by --time-column")
    return found[0] if found else None


def _unit(table: Table, measured: set[int], name: str) -> tuple[str, int | None]:
    """The unit that a column says in every row, or that the names of columns or the file's name hold."""
    for place, column in enumerate(table.header):
        if place not in measured and WORD_UNIT.search(column):
            units = {text.strip().lower() for text in table.texts(place)} - {""}
            found = {unit.name for text in units if (unit := unit_named(text)) is not None}
            if len(units) > 1 or len(found) != 1:
                raise PayloadInvalid.of(column, ", ".join(sorted(units))[:80], "one unit in all of a file")
            return found.pop(), place
    named = {unit.name for column in table.header if (unit := unit_in(column)) is not None}
    return (named.pop() if len(named) == 1 else ""), None


def _require_once(table: Table, names: list[str], days: Times, columns: _Columns) -> None:
    """Refuse two rows of one day and series: they are of something that a column tells which nobody reads."""
    seen: Counter[tuple[str, int]] = Counter()
    for row, (name, day) in enumerate(zip(names, days.astype(np.int64).tolist(), strict=True)):
        seen[name, day] += 1
        if seen[name, day] > 1 and not np.isnat(days[row]):
            got = f"{str(days[row])[:10]} twice{f' for {name}' if name else ''} (line {int(table.lines[row])})"
            raise PayloadInvalid.of("rows", got, "one row a day and series: other measures in files of their own")


def _is_empty(text: str) -> bool:
    plain = text.strip().lower()
    return plain in UNKNOWN or (is_number(plain) and not plain.strip("0.,+-"))


def _starts(
    days: Times, cells: list[list[str]], columns: _Columns, zone: str, name: str, *, is_said: bool
) -> tuple[NDArray[np.datetime64], tuple[Fact, ...]]:
    """When each cell's interval begins, UTC; NaT for one that its day does not have."""
    width, step = len(columns.places), np.timedelta64(columns.step * 1000, "ms")
    whole = width - columns.more
    known = days[~np.isnat(days)]
    if not len(known):
        raise PayloadInvalid.of(name, "no day that can be read", "dates such as 2024-01-31")
    day = np.where(np.isnat(days), known[0], days)
    begin, end = day_start(day, zone), day_start(day.astype("datetime64[D]") + 1, zone)
    lengths = ((end - begin) / step).astype(np.int64)
    counted = _is_counted(day, lengths, whole, cells, columns, zone, is_said=is_said)
    place = np.arange(width)
    by_count = begin[:, None] + place[None, :] * step
    by_count = np.where(place[None, :] < lengths[:, None], by_count, np.datetime64("NaT"))
    label: Times = np.add(day[:, None], place[None, :] * step)
    early, late = to_utc(label, zone), to_utc(label, zone, second=True)
    by_clock = np.where((place[None, :] < whole) & (early == late), early, np.datetime64("NaT"))
    starts = by_count if counted else by_clock
    starts = np.where(np.isnat(days)[:, None], np.datetime64("NaT"), starts)
    facts: tuple[Fact, ...] = ()
    skipped = int((np.isnat(early) & (place[None, :] < whole)).sum()) if is_said and not counted else 0
    if skipped:
        facts = (Fact("rows in skipped hours", f"{skipped} left out", "--clock: hours were filled in"),)
    if columns.is_numbered and (lengths != whole).any():
        means = "the day's intervals" if counted else "hours of the clock"
        facts = (
            *facts,
            Fact("columns", means, "as days of a change of the clock show"),
        )
    lone = int(((early != late) & ~np.isnat(early) & (place[None, :] < whole)).sum()) if not counted else 0
    if lone:
        why = "the clock shows it twice and the day has one column for it: one hour, or both together"
        facts = (*facts, Fact("repeated hour", f"{lone} cells left out", why))
    return starts, facts


def _is_counted(
    day: Times,
    lengths: NDArray[np.int64],
    whole: int,
    cells: list[list[str]],
    columns: _Columns,
    zone: str,
    *,
    is_said: bool,
) -> bool:
    """Whether columns count the intervals of a day, instead of being times of the clock; days of a change tell it."""
    votes: list[bool] = []
    for row in np.flatnonzero(lengths != whole).tolist():
        filled = [not _is_empty(column[row]) for column in cells]
        if not any(filled):
            continue
        missing = whole - int(lengths[row])
        if missing < 0:
            more = filled[whole:]
            if columns.is_numbered and any(more):
                votes.append(True)
            continue
        first = _skipped(day[row], zone, columns.step)
        at_end, at_skip = any(filled[whole - missing : whole]), any(filled[first : first + missing])
        if at_end and at_skip:
            if is_said:  # it is this clock: the skipped hour was filled in
                votes.append(False)
                continue
            got = f"{whole} values on {str(day[row])[:10]}"
            allowed = (
                f"{int(lengths[row])} on a day on which {zone}'s clock skips; --time-zone names the file's clock, "
                f"--clock {zone} says that the hour was filled in, --clock {fixed_clock(zone)} that it is winter time"
            )
            raise PayloadInvalid.of("rows", got, allowed)
        if at_end != at_skip:
            votes.append(at_skip and columns.is_numbered)
            if at_skip and not columns.is_numbered:
                got = f"a value in a time that {zone}'s clock skips on {str(day[row])[:10]}"
                raise PayloadInvalid.of("rows", got, "none; --time-zone names the file's clock")
    if len(set(votes)) > 1:
        raise PayloadInvalid.of("rows", "columns that count a day's intervals and columns that do not", "one of both")
    return bool(votes) and votes[0]


def _skipped(day: np.datetime64, zone: str, step: int) -> int:
    """The first interval of the clock that a day skips."""
    instants, shifts = clock_changes(zone, day - np.timedelta64(1, "D"), day + np.timedelta64(2, "D"))
    for instant, shift in zip(instants, shifts, strict=True):
        after = to_local(np.array([instant]), zone)[0]
        if shift > 0 and (after - shift).astype("datetime64[D]") == day.astype("datetime64[D]"):
            return int((after - shift - day) / np.timedelta64(step * 1000, "ms"))
    return 0


DAY_ROWS = Layout("a row a day", "MPAN,Date,HH01,HH02,HH03", _day_rows)
