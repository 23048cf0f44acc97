"""A table and what its columns mean -> series in UTC, and the rows that are in none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.covariate_columns import covariate_field
from kappawatt.datasets.reading.keys import as_key
from kappawatt.datasets.reading.labels import (
    Change,
    Labels,
    lone_at_the_beginning,
    starts_of,
)
from kappawatt.datasets.reading.meaning import SOMEBODYS_FORECAST, LeftOut, Meaning, Value
from kappawatt.datasets.reading.missing import codes_of_nothing
from kappawatt.datasets.reading.numbers import find_format, read_numbers
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.row_times import published_at, read_row_times
from kappawatt.datasets.reading.steps import differences, resampled
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.twice import are_too_many, last_of_each
from kappawatt.datasets.reading.units import ENERGY, POWER, UNITS, convert, to_celsius, unit_in, unit_named
from kappawatt.datasets.reading.ways import Ways
from kappawatt.datasets.reading.words import is_of_load
from kappawatt.datasets.series import Problem, Problems, SeriesFile
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times, clock_changes, to_local
from kappawatt.forecasting.grid import spaced_otherwise
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS

__all__ = ["Found", "Tally", "assemble"]

NOTHING = np.datetime64("NaT", "ms")
SHOWN = 80
COLUMNS_SHOWN = 8
MOST_KEYS = 100_000
HOUR_SECONDS = 3600
MOST_APART = 20  # different cells of a column that may say of which series a row is
MOST_NAMED = 3
GRID_SHARE = 0.5  # of rows that begin on one grid, or there is none to speak of
ZONE_ENERGY = 1e3  # kWh: energy told in MWh and more is a zone's, and becomes mean load


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows of a series became no interval of their own.

    Parameters
    ----------
    agreeing, contradicting : int
        Rows of an interval that another row, which is taken, says too: with the same value or none, and with another.
    first : str
        The first row that contradicts another.
    off_grid : int
        Rows between intervals.
    skipped : int
        Rows at a time that the clock never shows.
    beyond : int
        Rows whose value the stream cannot hold.
    """

    agreeing: int = 0
    contradicting: int = 0
    off_grid: int = 0
    skipped: int = 0
    beyond: int = 0
    first: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a file holds.

    Parameters
    ----------
    series : list of SeriesFile
    layout : str
    facts : list of Fact
        How it was read.
    left_out : tuple of LeftOut
    changes : dict of str to list of Change
        How the labels of each series, by its name in the file, show changes of the clock.
    problems : tuple of Problem
    tallies : list of Tally
        Of each series.
    """

    series: list[SeriesFile]
    layout: str
    facts: list[Fact]
    left_out: tuple[LeftOut, ...]
    changes: dict[str, list[Change]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    tallies: list[Tally] = field(default_factory=list)


def assemble(
    table: Table, meaning: Meaning, options: Options, wanted: Stream | None, told: list[Fact] | None = None
) -> Found:
    """Return a table's series.

    Parameters
    ----------
    wanted : Stream or None
        Whose readings are wanted; None is what the units tell.
    told : list of Fact or None
        Where facts go as they are found, so that they stay if the table is refused.

    Raises
    ------
    PayloadInvalid
        Something can be meant in two ways, or the file has no rows of such a stream; the message names what, and the
        option that settles it.
    """
    own = table if meaning.table is None else meaning.table
    found = _Assembly(own, meaning, options, wanted, [] if told is None else told).found()
    if not table.sheets:
        return found
    problems = tuple(map(table.placed, found.problems))
    series = [replace(one, problems=problems if i == 0 else ()) for i, one in enumerate(found.series)]
    return replace(found, series=series, problems=problems)


class _Assembly:
    """One table on its way to series."""

    def __init__(
        self, table: Table, meaning: Meaning, options: Options, wanted: Stream | None, facts: list[Fact]
    ) -> None:
        self.table, self.meaning, self.options, self.wanted = table, meaning, options, wanted
        self.time = meaning.time
        self.problems = Problems(table.problems)
        self.facts = facts
        self.facts.extend((*table.facts, *meaning.facts, *_columns(table, meaning)))
        self.tallies: list[Tally] = []
        measured = [table.columns[value.place] for value in meaning.values if not value.field]
        self.written = find_format(measured, table.separator, options)
        self.facts.extend(self.written.facts)
        is_told = self.time.zone == "UTC" or bool(meaning.days_in)  # then --time-zone says whose days are meant, only
        clock = self.time.zone if is_told else options.clock or options.time_zone or self.time.zone
        self.times = read_row_times(table, meaning, options, clock, self.problems, self.facts)
        self.groups = self._groups()
        ways = Ways(table, meaning, options, self.times, self.groups, facts)
        ways.find(clock, is_told=is_told)
        self.steps, self.changes, self.labels = ways.steps, ways.changes, ways.labels
        self.zone, self.clock = ways.zone, ways.clock
        self.published = published_at(self.times, self.clock)
        if options.time_zone and not self.time.zone:  # nobody else says whose clock it is
            value = next(value for value in meaning.values if not value.field)
            ways.examine_clock(read_numbers(table.columns[value.place], self.written)[0])

    def found(self) -> Found:
        """Make the series."""
        series = []
        every = np.arange(len(self.table))
        covariates = {
            v.field: self._possible(
                v, to_celsius(self._without_codes(self._numbers(v.place)[0], every, v.place), v.unit)
            )
            for v in self.meaning.values
            if v.field
        }
        for value in self.meaning.values:
            if value.field:
                continue
            numbers, good = self._numbers(value.place)
            stream, factor = self._stream_of(value)
            for key, rows in self.groups.items():
                own = rows[good[rows]]
                if not len(own):
                    continue
                one, placed = self._one(value, key, own, numbers, stream, factor)
                series.append(
                    replace(
                        one,
                        covariates={name: column[placed] for name, column in covariates.items()},
                        forecasts=dict(self._forecasts(value, stream, factor, one.step, placed)),
                    )
                )
        kinds = sorted({one.stream.name for one in series})
        if len(kinds) > 1:
            raise PayloadInvalid.of("file", f"readings of {' and '.join(kinds)}", "one kind, named by --value-column")
        problems = tuple(dict.fromkeys(sorted(self.problems, key=lambda p: (p.line, p.field))))
        if not any(len(one) for one in series):
            raise PayloadInvalid(problems[0].message if problems else "got no row, allowed 1 or more")
        series = [self._finished(one) for one in self._named(series)]
        series = [replace(one, problems=problems if i == 0 else ()) for i, one in enumerate(series)]
        facts = list(dict.fromkeys(self.facts))
        return Found(series, self.meaning.layout, facts, self.meaning.left_out, self.changes, problems, self.tallies)

    def _tell(self, name: str, value: str, because: str = "") -> None:
        self.facts.append(Fact(name, value, because))

    def _refuse(self, row: int, place: int, allowed: str) -> None:
        text = self.table.texts(place)[row].strip()[:SHOWN]
        self.problems.append(Problem(int(self.table.lines[row]), self.table.header[place], text, allowed))

    def _numbers(self, place: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """A column's numbers, and which rows have one or nothing; cells that hold neither are named."""
        numbers, bad = read_numbers(self.table.columns[place], self.written)
        good = np.ones(len(numbers), dtype=np.bool_)
        good[bad] = False
        texts = self.table.texts(place) if bad else []
        for row in bad:
            if self.times.readable[row]:
                got = texts[row].strip()[:SHOWN]
                self.problems.append(
                    Problem(int(self.table.lines[row]), self.table.header[place], got, "a number, or nothing")
                )
        return numbers, good

    def _without_codes(self, numbers: NDArray[np.float64], rows: NDArray[np.intp], place: int) -> NDArray[np.float64]:
        """A column without the numbers that stand for a missing value in some rows; it is said which."""
        own = numbers[rows]
        codes = codes_of_nothing(own)
        if not codes:
            return numbers
        is_code = np.isin(own, codes)
        rest, found = own[~is_code], numbers.copy()
        found[rows[is_code]] = np.nan
        why = f"{int(is_code.sum()):,} cells of {self.table.header[place]!r}"
        why += f"; all others are from {np.nanmin(rest):g} to {np.nanmax(rest):g}"
        self._tell("taken as missing", ", ".join(f"{code:g}" for code in codes), why)
        return found

    def _possible(self, value: Value, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """A covariate without the numbers that its field cannot have; it is said which."""
        of = covariate_field(value.field)
        if of is None:
            return numbers
        low, high = of.limits
        beyond = (numbers < low) | (numbers > high)
        if beyond.any():
            worst = numbers[beyond][0]
            got = f"{int(beyond.sum()):,} cells of {self.table.header[value.place]!r}, first {worst:g}"
            self._tell("taken as missing", got, f"{of.name} is from {low:g} to {high:g} {of.unit}".rstrip())
        return np.where(beyond, np.nan, numbers)

    # ---- what is the same for all series

    def _groups(self) -> dict[str, NDArray[np.intp]]:
        """Each series' name in the file and its readable rows, in the file's order; "" if rows name none."""
        rows = np.flatnonzero(self.times.readable)
        key = self.meaning.key
        if not key:
            return {"": rows}
        columns = [self.table.texts(place) for place in key]
        names = columns[0] if len(key) == 1 else list(zip(*columns, strict=True))
        written: dict[str | tuple[str, ...], int] = {}
        code = np.fromiter((written.setdefault(name, len(written)) for name in names), np.intp, len(self.table))
        codes: dict[str, int] = {}
        same = np.array([codes.setdefault(_joined(name), len(codes)) for name in written], dtype=np.intp)
        _require_different(codes, self.table.header[key[0]])
        if len(codes) > MOST_KEYS:
            got = f"more than {MOST_KEYS:,} names of series"
            raise PayloadInvalid.of(self.table.header[key[0]], got, "fewer in one file")
        code = same[code][rows]
        order = np.argsort(code, kind="stable")
        ends = np.cumsum(np.bincount(code, minlength=len(codes))).tolist()
        return {
            name: rows[order[begin:end]]
            for name, begin, end in zip(codes, [0, *ends], ends, strict=False)
            if end > begin
        }

    def _stream_of(self, value: Value) -> tuple[Stream, str]:
        """Whose measurement a column is, and its unit ("" if nothing says)."""
        name, streams = self.table.header[value.place], {one.name: one for one in STREAMS if one.steps}
        unit = self.options.unit or value.unit
        if self.options.unit and value.unit not in ("", self.options.unit):
            raise PayloadInvalid.of(name, f"the unit {value.unit}", f"{self.options.unit}, as --unit says")
        if unit:
            self._tell("unit", unit, "--unit" if self.options.unit else f"the column {name!r}")
        if self.wanted is not None and value.stream not in ("", self.wanted.name):
            got = f"readings of {value.stream} ({self.meaning.layout})"
            raise PayloadInvalid.of(name, got, f"those of {self.wanted.name}: {self.wanted.title}")
        stream = self.wanted or streams.get(value.stream)
        if stream is None and unit and not value.stream:
            is_zones = UNITS[unit].quantity == ENERGY and UNITS[unit].factor >= ZONE_ENERGY
            quantity = POWER if is_zones else UNITS[unit].quantity
            stream = next((one for one in streams.values() if quantity_of(one) == quantity), None)
        kinds = " or ".join(f"{one.schema.field(one.target).unit} ({one.title})" for one in streams.values())
        if stream is None and value.stream:
            raise PayloadInvalid.of(name, f"readings of {value.stream}, which no service takes", kinds)
        if stream is None:
            raise PayloadInvalid.of(name, f"the unit {unit}" if unit else "numbers without a unit", f"--unit: {kinds}")
        if not unit:
            own = stream.schema.field(stream.target).unit
            self._tell("unit", own, f"nothing says; taken as that of {stream.title}, unless --unit names another")
        elif convert(UNITS[unit], quantity_of(stream), HOUR_SECONDS) is None:
            raise PayloadInvalid.of(name, f"the unit {unit}", f"one of {quantity_of(stream)}, for {stream.title}")
        return stream, unit

    # ---- one series

    def _one(
        self,
        value: Value,
        key: str,
        rows: NDArray[np.intp],
        numbers: NDArray[np.float64],
        stream: Stream,
        unit: str,
    ) -> tuple[SeriesFile, NDArray[np.intp]]:
        """A series in the stream's unit, and the row of each of its intervals."""
        step = self.steps[key]
        if not step:
            told = [one for one in self.steps.values() if one]
            if not told and stream.usual_step is None and len(stream.steps) > 1:
                allowed = "two rows or more, which tell the interval's length"
                raise PayloadInvalid.of(self.table.header[self.time.place], "the time of one row", allowed)
            step = max(told, key=told.count) if told else stream.supposed_step
            self._tell("interval", _minutes(step), f"one row tells none; that of {'others' if told else 'the stream'}")
        factor = (convert(UNITS[unit], quantity_of(stream), step) if unit else 1.0) or 1.0
        given = len(rows)
        numbers = self._without_codes(numbers, rows, value.place)
        starts = self._starts(key, rows, numbers[rows], step)
        rows, starts = rows[~np.isnat(starts)], starts[~np.isnat(starts)]
        shown = len(rows)
        if not self.time.is_off_grid_noise:  # also of rows off the grid, or the others of such a part count as whole
            self._require_one_length(value.key or key, starts, step, stream)
        on = self._on_the_grid(rows, starts, step)
        rows, starts = rows[on], starts[on]
        whole = len(rows)
        values = numbers[rows] * factor
        inside = np.ones(len(rows), dtype=np.bool_)
        if not self.options.register:  # its differences have limits, not its readings
            inside = self._within_limits(value, rows, values, stream, factor)
            self._require_home(value, rows[~inside], len(rows), stream)
        self._require_one_length(value.key or key, starts, step, stream)
        rows, starts, values = rows[inside], starts[inside], values[inside]
        possible, before = len(rows), len(self.problems)
        if self.options.register:
            chosen = np.argsort(starts, kind="stable")
        else:
            chosen = self._last_of_each(value, rows, starts, values)
        rows, starts, values = rows[chosen], starts[chosen], values[chosen]
        contradicting = len(self.problems) - before
        agreeing = possible - len(rows) - contradicting
        first = self.problems[before].message if contradicting else ""
        self.tallies.append(Tally(agreeing, contradicting, shown - whole, given - shown, whole - possible, first))
        name = as_key(value.key or key)
        return SeriesFile(name, self.zone, step, starts, values, self.published[rows], stream=stream), rows

    def _require_one_length(self, name: str, starts: Times, step: int, stream: Stream) -> None:
        """Refuse intervals of two lengths."""
        other = spaced_otherwise(starts, step, sorted({step, *stream.steps}))
        if other is not None:
            got = f"rows {_minutes(int(other))} and {_minutes(step)} apart"
            raise PayloadInvalid.of(name or "file", got, "rows of one length: a file for each")

    def _starts(self, key: str, rows: NDArray[np.intp], values: NDArray[np.float64], step: int) -> Times:
        times = self.times
        interval = np.timedelta64(step * 1000, "ms")
        if not np.isnat(times.instant[rows]).all():
            found: Times = times.instant[rows] if self.labels is Labels.START else times.instant[rows] - interval
            for i in np.flatnonzero(np.isnat(found)).tolist():
                self._refuse(int(rows[i]), self.time.place, "an offset such as +01:00, as other rows have")
            return found
        second = None if times.second is None else times.second[rows]
        starts = starts_of(
            times.wall[rows], step, self.labels, self.clock, values, second, is_in_order=self.time.is_in_order
        )
        if second is None and self.time.is_in_order:
            is_open = lone_at_the_beginning(times.wall[rows], step, self.labels, self.clock)
            for i in np.flatnonzero(is_open & np.isfinite(values)).tolist():
                allowed = f"an offset such as +01:00: the clock of {self.clock} shows it twice, and no row before it"
                self._refuse(int(rows[i]), self.time.place, f"{allowed} tells which it is")
            values = np.where(is_open, np.nan, values)
            starts[is_open] = NOTHING
        skipped = np.flatnonzero(np.isnat(starts) & np.isfinite(values)).tolist()
        seen = [change for change in self.changes.get(key, []) if change.seen]
        if skipped and seen and all(change.shown is None for change in seen):
            why = f"no label shows a change of {self.clock}'s clock: hours were filled in, or it is another clock"
            self._tell("rows in skipped hours", f"{len(skipped)} left out", why)
            return starts
        for i in skipped:
            self._refuse(int(rows[i]), self.time.place, f"no time that the clock of {self.clock} skips")
        return starts

    def _on_the_grid(self, rows: NDArray[np.intp], starts: Times, step: int) -> NDArray[np.bool_]:
        """Which rows begin on the grid that most begin on; the others are named."""
        phases = to_local(starts, self.zone).astype(np.int64) % (step * 1000)
        if not len(phases):
            return np.zeros(0, np.bool_)
        found, counts = np.unique(phases, return_counts=True)
        on: NDArray[np.bool_] = phases == found[np.argmax(counts)]
        off = rows[~on].tolist()
        if off and self.time.is_off_grid_noise:
            self._tell("rows between intervals", f"{len(off)} left out", "the publisher's habit")
            return on
        if len(off) > GRID_SHARE * len(rows):
            name = self.table.header[self.time.place]
            raise PayloadInvalid.of(
                name, f"rows in no regular distance ({_minutes(step)} mostly)", "intervals of one length"
            )
        for row in off:
            self._refuse(row, self.time.place, f"whole intervals of {_minutes(step)}")
        return on

    def _within_limits(
        self, value: Value, rows: NDArray[np.intp], values: NDArray[np.float64], stream: Stream, factor: float
    ) -> NDArray[np.bool_]:
        """Which rows have a value that the stream can hold; the others are named, in the file's own unit."""
        field = stream.schema.field(stream.target)
        low, high = field.limits
        unit = self.options.unit or value.unit or field.unit
        wrong = (values < low) | (values > high)
        for row in rows[wrong].tolist():
            allowed = f"a number from {low / factor:g} to {high / factor:g} {unit}, or nothing"
            self._refuse(row, value.place, allowed)
        return ~wrong

    def _require_home(self, value: Value, beyond: NDArray[np.intp], rows: int, stream: Stream) -> None:
        """Refuse a meter's energy that is a zone's or a utility's, where the unit alone told that it is a meter's."""
        if self.wanted is not None or value.stream or quantity_of(stream) != ENERGY or 2 * len(beyond) <= rows:
            return
        zones = next(one for one in STREAMS if one.steps and quantity_of(one) == POWER)
        name, row = self.table.header[value.place], int(beyond[0])
        got = f"{self.table.texts(value.place)[row].strip()[:SHOWN]!r}, more than any {stream.key.noun} measures"
        allowed = f"--stream {zones.name}, if it is the energy of a {zones.key.noun}"
        raise PayloadInvalid.of(f"line {self.table.lines[row]}: {name}", got, allowed)

    def _last_of_each(
        self, value: Value, rows: NDArray[np.intp], starts: Times, values: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        """Positions of the last row of each interval and publication, in their order; a contradiction is named."""
        chosen, contradicting = last_of_each(starts, values, self.published[rows])
        texts = self.table.texts(value.place) if contradicting else []
        for count, (earlier, last) in enumerate(contradicting):
            twice = "interval" if np.isnat(self.published[rows[last]]) else "interval and time of publication"
            line, got = int(self.table.lines[rows[last]]), texts[rows[last]].strip()
            allowed = f"{got}, as line {line} says of the same {twice}"
            if not count and are_too_many(len(contradicting), len(rows)):
                first = Problem(
                    int(self.table.lines[rows[earlier]]), self.table.header[value.place],
                    texts[rows[earlier]].strip()[:SHOWN], allowed,
                )  # fmt: skip
                raise PayloadInvalid(f"{first.message} (and {len(contradicting) - 1:,} such rows more{self._apart()})")
            self._refuse(int(rows[earlier]), value.place, allowed)
        return chosen

    def _apart(self) -> str:
        """What may tell apart rows of one interval that contradict one another."""
        texts = [
            repr(self.table.header[place])
            for place, column in enumerate(self.table.columns)
            if place not in {self.time.place, self.time.beside, *self.meaning.key}
            and 1 < len(set(self.table.texts(place))) <= MOST_APART
            and isinstance(column, list)
        ]
        told = f": {' or '.join(texts[:MOST_NAMED])} may tell them apart" if texts else ""
        return f"{told}; a file for each of what the rows are of, or without those that were corrected"

    def _forecasts(
        self, value: Value, stream: Stream, unit: str, step: int, rows: NDArray[np.intp]
    ) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """What left out columns forecast of the measurement beside them, by name, in the stream's unit.

        Beside several measurements nothing says of which a forecast is.
        """
        if self.options.register or any(one is not value and not one.field for one in self.meaning.values):
            return
        for one in self.meaning.left_out:
            place = self.table.place(one.name)
            if one.why != SOMEBODYS_FORECAST or place is None or not is_of_load(one.name):
                continue
            own = unit_in(one.name)
            own_unit = own.name if own else unit
            factor = convert(UNITS[own_unit], quantity_of(stream), step) if own_unit else 1.0
            numbers, _ = read_numbers(self.table.columns[place], self.written)
            if factor and np.isfinite(numbers).any():
                yield one.name, numbers[rows] * factor

    # ---- at the end

    def _named(self, series: list[SeriesFile]) -> list[SeriesFile]:
        """The series under a key that was given, or their own; each has one of its own."""
        keys, given = [one.key for one in series], self.options.key
        if given and len(series) > 1:
            if all(key == given or key.startswith(f"{given}:") for key in keys) and len(set(keys)) == len(keys):
                return series  # its parts, such as what a meter gave to the grid
            allowed = f"none for a file of several series ({', '.join(keys)[:200]})"
            raise PayloadInvalid.of("key", repr(given), allowed)
        if len(set(keys)) < len(keys):
            twice = next(name for name in keys if keys.count(name) > 1)
            allowed = "each once; --value-column names those wanted"
            raise PayloadInvalid.of("header", f"the series {twice!r} twice", allowed)
        if not given and not keys[0]:
            noun = series[0].stream.key.noun
            raise PayloadInvalid.of("key", "nothing", f"a name of the {noun}, which the file does not say")
        return [replace(one, key=given) for one in series] if given else series

    def _finished(self, series: SeriesFile) -> SeriesFile:
        """The series as it is wanted: differences of a register, other intervals; refused if nobody forecasts such."""
        options, stream = self.options, series.stream
        if options.register:
            series = differences(series, self.facts)
        told = "--resample" if options.resample else "the distance of most rows"
        if options.resample and options.resample != series.step:
            is_energy = quantity_of(stream) == ENERGY
            own = _minutes(series.step)
            series = resampled(series, options.resample, sums=is_energy)
            told = f"--resample: {'sums' if is_energy else 'means'} of whole intervals of {own}"
        self._tell("interval", _minutes(series.step), told)
        self._require_whole_changes(series)
        if series.step not in stream.steps:
            known = ", ".join(map(_minutes, stream.steps))
            allowed = f"{known}; --resample makes longer ones of shorter ones"
            raise PayloadInvalid.of(series.key, f"intervals of {_minutes(series.step)}", allowed)
        return series

    def _require_whole_changes(self, series: SeriesFile) -> None:
        """Refuse hours across a change of the clock by half an hour: before and after it they begin elsewhere."""
        if len(series) < 2:
            return
        instants, shifts = clock_changes(series.time_zone, series.starts[0], series.starts[-1])
        broken = np.flatnonzero(shifts.astype(np.int64) % (series.step * 1000))
        if len(broken):
            by = _minutes(abs(int(shifts[broken[0]].astype(np.int64))) // 1000)
            on = str(to_local(instants[broken[:1]], series.time_zone)[0])[:10]
            got = f"intervals of {_minutes(series.step)} across {on}, when {series.time_zone} changes its clock by {by}"
            allowed = (
                f"intervals of {by} or a part of it, a file for each side of the change, or days of another clock: "
                f"--clock {series.time_zone} --time-zone UTC"
            )
            raise PayloadInvalid.of(series.key, got, allowed)


def quantity_of(stream: Stream) -> str:
    """Return what a stream measures, `power` or `energy`, from its unit; "" if neither."""
    unit = unit_named(stream.schema.field(stream.target).unit)
    return unit.quantity if unit else ""


def _columns(table: Table, meaning: Meaning) -> Iterator[Fact]:
    """Which columns are read."""
    time, names = meaning.time, table.header
    beside = "" if time.beside is None else f": {names[time.beside]!r}"
    yield Fact("time column", names[time.place] or "the one without a name", time.form.value + beside)
    measured = [names[value.place] for value in meaning.values if not value.field]
    yield Fact("value column", _listed(measured))
    known = [
        f"{names[value.place]!r} as {value.field}" if names[value.place] != value.field else value.field
        for value in meaning.values
        if value.field
    ]
    if known:
        yield Fact("beside it", _listed(known), "what may tell of the load")
    for place in meaning.key:
        yield Fact("series column", names[place], "each name in it is a series")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - COLUMNS_SHOWN} more" if len(names) > COLUMNS_SHOWN else ""
    return ", ".join(names[:COLUMNS_SHOWN]) + more


def _joined(names: str | Sequence[str]) -> str:
    parts = (names,) if isinstance(names, str) else names
    return "-".join(text for part in parts if (text := part.strip().strip("'")))


def _require_different(names: Iterable[str], column: str) -> None:
    """Refuse two names that make one key: their rows would be taken for one series'."""
    keys: dict[str, str] = {}
    for name in names:
        other = keys.setdefault(as_key(name), name)
        if other != name:
            raise PayloadInvalid.of(
                column, f"{other[:80]!r} and {name[:80]!r}", "names that differ in letters or digits"
            )


def _minutes(step: int) -> str:
    return f"{step // 60} min" if step % 60 == 0 else f"{step} s"
