"""What the columns of a table mean that no publisher's layout knows: by their names and by what stands in them.

Whatever can be meant in two ways is refused with the option that settles it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np

from kappawatt.datasets.reading.covariate_columns import covariate_columns
from kappawatt.datasets.reading.day_ends import is_counted_through
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import SOMEBODYS_FORECAST, Form, LeftOut, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.numbers import UNKNOWN, is_number
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.series_column import series_column
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.times import ABBREVIATIONS, FORMS, is_time, read_clock, read_times, split_span
from kappawatt.datasets.reading.units import (
    ENERGY,
    POWER,
    UNITS,
    Unit,
    is_rate,
    multiple_in,
    multiplied,
    unit_in,
    unit_named,
    unknown_unit_in,
)
from kappawatt.datasets.reading.words import (
    COMMON,
    FORECAST,
    WORD_BESIDE,
    WORD_END,
    WORD_EXTREME,
    WORD_GENERATION,
    WORD_HOUR,
    WORD_KEY,
    WORD_LOAD,
    WORD_METER,
    WORD_OTHER_ENERGY,
    WORD_START,
    WORD_SUMMER_TIME,
    WORD_TARIFF,
    WORD_TIME,
    WORD_UNIT,
    word_of_labels,
    zone_in,
)
from kappawatt.errors import PayloadInvalid

__all__ = ["GENERIC", "generic_meaning", "key_of_column", "key_of_file", "kind_of"]

GENERIC = "no publisher's; by its names and cells"
ASKED_ROWS = 500
COLUMN_KEY = re.compile(
    r"(.+?)[_\s\-(\[]+(?:[kMG]?Wh?|(?:kilo|mega|giga)?watts?(?:[ -]?(?:hours?|stunden?))?)[)\]]?", re.IGNORECASE
)
STEM = re.compile(r"_hourly.*|_quarter.?hour.*|[-_. ]?\d{4}[-_]\d{2}.*", re.IGNORECASE)
UNNAMED = ("", "unnamed: 0", "index", "level_0")
YEAR = re.compile(r"(?:19|20)\d\d")
MOST_NAMED = 8
LONGEST_DAY = 25  # h
FEW_ROWS = 4
SUMMER, WINTER = ("y", "yes", "true", "1", "t", "j", "ja", "s"), ("n", "no", "false", "0", "f", "nein", "w")
MEASURED = [unit.name for unit in UNITS.values() if unit.quantity in (ENERGY, POWER)]


def generic_meaning(table: Table, options: Options, name: str) -> Meaning:
    """Return what a table's columns mean.

    Parameters
    ----------
    name : str
        Of the file: what else names a lone series.

    Raises
    ------
    PayloadInvalid
        There is no column of times or none of numbers, or several that could be it.
    """
    kinds = [_kind(table, place) for place in range(len(table.header))]
    left_out: list[LeftOut] = []
    time = _time(table, options, kinds, left_out)
    time = replace(time, flag=_column_of_clocks(table, kinds))
    facts: tuple[Fact, ...] = ()
    if time.flag is None:
        time, facts = _with_summer_time(table, time)
    used = {time.place, time.beside, time.flag}
    key = _key(table, kinds, used, time, left_out)
    gone = {one.name for one in left_out}
    numbers = [
        place
        for place, kind in enumerate(kinds)
        if kind == "number" and place not in used and table.header[place] not in gone and not _is_index(table, place)
    ]
    numbers = [place for place in numbers if place not in key]
    beside = covariate_columns(table, options, numbers)
    values = _values(table, options, kinds, [p for p in numbers if p not in beside], key, name, left_out)
    measured = {value.place for value in values}
    values += [Value(place, field=field) for place, field in beside.items() if place not in measured]
    read = used | set(key) | {value.place for value in values}
    named = {one.name for one in left_out}
    for place, header in enumerate(table.header):
        if place not in read and header not in named:
            is_other = place in numbers and bool(options.value_column)
            why = "counts the rows" if _is_index(table, place) else f"holds {_says(kinds[place])}"
            left_out.append(LeftOut(header, "not named by --value-column" if is_other else why))
    days_in = time.zone if time.zone not in ("", "UTC") else ""
    return Meaning(GENERIC, time, tuple(values), key, left_out=tuple(left_out), facts=facts, days_in=days_in)


def _says(kind: str) -> str:
    return {"number": "other numbers", "time": "another time", "text": "text", "nothing": "nothing"}.get(kind, kind)


def _kind(table: Table, place: int) -> str:
    """What most cells of a column hold: `time`, `number`, `clock`, `text` or `nothing`."""
    column = table.columns[place]
    if not isinstance(column, list):
        return "time" if column.dtype.kind == "M" else "number"
    first = kind_of(islice(column, ASKED_ROWS))
    return first if first != "nothing" else kind_of(column[::-1][:ASKED_ROWS])


def kind_of(cells: Iterable[str]) -> str:
    """Return what most cells that say something hold: `time`, `number`, `clock` or `text`; `nothing` if none does."""
    told = [text for cell in cells if (text := cell.strip()).lower() not in UNKNOWN]
    if not told:
        return "nothing"
    for kind, test in (("time", is_time), ("number", is_number), ("clock", lambda t: read_clock(t) is not None)):
        if sum(map(test, told)) * 2 > len(told):
            return kind
    return "text"


def _is_index(table: Table, place: int) -> bool:
    """Whether a column without a name counts the rows, as pandas writes it."""
    if table.header[place].lower() not in UNNAMED or not len(table):
        return False
    texts = [text.strip().partition(".")[0] for text in table.texts(place)[:ASKED_ROWS]]
    if not all(text.isdigit() for text in texts):
        return False
    counts = [int(text) for text in texts]
    return all(b - a == 1 for a, b in pairwise(counts))


def _time(table: Table, options: Options, kinds: Sequence[str], left_out: list[LeftOut]) -> TimeColumn:
    header = table.header
    if options.time_column:
        place = table.place(options.time_column)
        if place is None:
            allowed = ", ".join(header[:MOST_NAMED])
            raise PayloadInvalid.of("--time-column", repr(options.time_column[:80]), f"a column of the file: {allowed}")
        return _one_time(table, place, kinds, options)
    found = [place for place, kind in enumerate(kinds) if kind == "time"]
    if not found:
        _refuse_without_time(table, kinds)
    if len(found) > 1:
        found = _best_times(header, found, left_out)
    return _one_time(table, found[0], kinds, options)


def _one_time(table: Table, place: int, kinds: Sequence[str], options: Options) -> TimeColumn:
    header = table.header
    zone = zone_in(table.said(place))
    first = next((text for text in table.texts(place)[:ASKED_ROWS] if text.strip()), "")
    if split_span(first)[1]:
        return TimeColumn(place, Form.SPAN, None, Labels.START, zone)
    if ":" not in first or _are_days(table, place):
        clocks = [p for p, kind in enumerate(kinds) if kind == "clock"]
        begin = [p for p in clocks if WORD_START.search(header[p])] or [
            p for p in clocks if not WORD_END.search(header[p])
        ]
        if begin or clocks:
            beside = (begin or clocks)[0]
            return TimeColumn(place, Form.DATE_CLOCK, beside, word_of_labels(header[beside]), zone)
        hours = [p for p, name in enumerate(header) if kinds[p] == "number" and WORD_HOUR.search(name)]
        if hours:
            counts = {int(t) for t in map(str.strip, table.texts(hours[0])) if t.isdigit() and len(t) < 4} or {0}
            if max(counts) == LONGEST_DAY or _counts_through(table, place, hours[0], zone, options):
                return TimeColumn(place, Form.DATE_PERIOD, hours[0], Labels.START, zone, step=3600)
            labels = Labels.AFTER_START if max(counts) == LONGEST_DAY - 1 else Labels.START if 0 in counts else None
            return TimeColumn(place, Form.DATE_HOUR, hours[0], labels, zone)
    return TimeColumn(place, Form.MOMENT, None, word_of_labels(header[place]), zone)


def _counts_through(table: Table, place: int, hour: int, zone: str, options: Options) -> bool:
    """Whether hours are counted through each day, however long it is, as the day of 23 hours tells."""
    clock = options.clock or zone or options.time_zone
    hours = [int(t) if (t := text.strip()).isdigit() and len(t) < 4 else -1 for text in table.texts(hour)]
    if not clock or max(hours, default=0) >= LONGEST_DAY:
        return False
    dates = read_times(table.texts(place), table.header[place], day_first=options.day_first).wall
    return is_counted_through(dates, hours, clock, table.header[hour])


def _column_of_clocks(table: Table, kinds: Sequence[str]) -> int | None:
    """The column whose cells name the clock of each row: `CET` and `CEST`."""
    for place, kind in enumerate(kinds):
        if kind == "text":
            names = {text.strip().upper() for text in set(table.texts(place))} - {""}
            if names and names <= ABBREVIATIONS.keys():
                return place
    return None


def _with_summer_time(table: Table, time: TimeColumn) -> tuple[TimeColumn, tuple[Fact, ...]]:
    """The column of times with the one that says which of two hours of one label a row is of, if there is one.

    Such columns are written in two ways: true all summer long, or of the second hour alone, as ERCOT's. A label with
    rows of both kinds is one that the clock shows twice; whether other rows are true as well tells the way.
    """
    place = next((p for p, name in enumerate(table.header) if WORD_SUMMER_TIME.fullmatch(name.strip())), None)
    if place is None or place in (time.place, time.beside):
        return time, ()
    words = [text.strip().lower().removesuffix(".0") for text in table.texts(place)]
    if not set(words) <= {*SUMMER, *WINTER, ""}:
        return time, ()
    beside = [""] * len(words) if time.beside is None else table.texts(time.beside)
    said: dict[tuple[str, str], set[bool]] = {}
    for label, more, word in zip(table.texts(time.place), beside, words, strict=True):
        if word:
            said.setdefault((label, more), set()).add(word in SUMMER)
    is_summer = any(kinds == {True} for kinds in said.values())
    name, second = repr(table.header[place]), WINTER if is_summer else SUMMER
    told = next((text.strip() for text, word in zip(table.texts(place), words, strict=True) if word in second), "")
    way = "summer time" if is_summer else "the second of two hours"
    fact = Fact("hours shown twice", f"{name} says which; {told!r} is the second", f"{way} is what it marks")
    return replace(time, flag=place, second_words=second), (fact,) if told else ()


def _are_days(table: Table, place: int) -> bool:
    """Whether a column of a file with types holds days: cells of a workbook, which all say midnight."""
    column = table.columns[place]
    if isinstance(column, list) or column.dtype.kind != "M":
        return False
    known = column[~np.isnat(column)]
    return len(known) > 1 and bool((known == known.astype("datetime64[D]")).all())


def _best_times(header: Sequence[str], found: list[int], left_out: list[LeftOut]) -> list[int]:
    """Of several columns of times the one to read: that in UTC, else that of the interval's start."""
    in_utc = [place for place in found if zone_in(header[place]) == "UTC"]
    starts = [place for place in in_utc or found if WORD_START.search(header[place])]
    for good, why in ((in_utc, "the one in UTC is read"), (starts, "the one of the interval's start is read")):
        if 0 < len(good) < len(found):
            left_out.extend(LeftOut(header[p], f"another time: {why}") for p in found if p not in good)
            found = good
    if len(found) > 1:
        names = ", ".join(header[place] for place in found[:MOST_NAMED])
        raise PayloadInvalid.of("header", f"several columns of times: {names}", "one named by --time-column")
    return found


def _refuse_without_time(table: Table, kinds: Sequence[str]) -> None:
    """Say why no column can be one of times: what its cells look like."""
    for place, kind in enumerate(kinds):
        if kind == "number" and not _is_index(table, place):
            read_times(table.texts(place)[:ASKED_ROWS], table.header[place])  # seconds since 1970, or 20240101
            break
    texts = [place for place, kind in enumerate(kinds) if kind in ("text", "number", "clock")]
    named = [place for place in texts if WORD_TIME.search(table.header[place])]
    if named:
        line, text = _told(table, named[0])
        raise PayloadInvalid.of(f"line {line}: {table.header[named[0]]}", repr(text), f"a day and time, as {FORMS}")
    looks = [_first(table, place) for place in texts if kinds[place] == "text"][:1]
    names = ", ".join(table.header[:MOST_NAMED]) + "".join(f"; {one} is none" for one in looks)
    raise PayloadInvalid.of("header", f"no column of times among {names}", f"one, as {FORMS}")


def _told(table: Table, place: int) -> tuple[int, str]:
    """The line of a column's first cell that says something, and what it says."""
    cells = zip(table.lines.tolist(), table.texts(place), strict=True)
    return next(((line, text.strip()[:80]) for line, text in cells if text.strip()), (1, ""))


def _first(table: Table, place: int) -> str:
    line, text = _told(table, place)
    return f"{text!r} ({table.header[place]}, line {line})"


def _key(
    table: Table, kinds: Sequence[str], used: set[int | None], time: TimeColumn, left_out: list[LeftOut]
) -> tuple[int, ...]:
    free = [p for p, name in enumerate(table.header) if p not in used and unit_in(name) is None]
    named = [p for p in free if WORD_KEY.search(table.header[p]) and kinds[p] in ("number", "text")]
    named = [p for p in named if _names_rows(table, p)]
    found = series_column(table, time, sorted(named, key=lambda p: kinds[p] != "text"), left_out)
    for place in free:
        if kinds[place] == "text" and place != found:
            _refuse_forecasts(table, place)
    return () if found is None else (found,)


def _names_rows(table: Table, place: int) -> bool:
    """Whether a column may name series: names come again, and are no abbreviations of zones."""
    names = {text.strip() for text in table.texts(place)}
    is_clock = all(name.upper() in ABBREVIATIONS for name in names)
    return not is_clock and (len(names) <= len(table) / 2 or len(table) < FEW_ROWS)


def _refuse_forecasts(table: Table, place: int) -> None:
    """Refuse a table of which some rows are measured and others somebody's forecast."""
    found = next((text for text in dict.fromkeys(table.texts(place)) if FORECAST.search(text)), "")
    if found:
        raise PayloadInvalid.of(
            table.header[place], f"rows of {found[:40]!r}", "measured rows only: leave the others out"
        )


def _values(
    table: Table,
    options: Options,
    kinds: Sequence[str],
    numbers: list[int],
    key: tuple[int, ...],
    name: str,
    left_out: list[LeftOut],
) -> list[Value]:
    header = table.header
    if options.value_column:
        places = []
        for wanted in options.value_column:
            place = table.place(wanted)
            if place is None:
                allowed = ", ".join(header[:MOST_NAMED])
                raise PayloadInvalid.of("--value-column", repr(wanted[:80]), f"a column of the file: {allowed}")
            places.append(place)
    else:
        places, extremes = [], []
        _refuse_tariffs([header[place] for place in numbers])
        for place in numbers:
            if FORECAST.search(header[place]):
                left_out.append(LeftOut(header[place], SOMEBODYS_FORECAST))
            elif is_rate(header[place]):
                left_out.append(LeftOut(header[place], "a price or a rate"))
            elif WORD_GENERATION.search(header[place]):
                left_out.append(LeftOut(header[place], "generation, or what went into the grid"))
            elif WORD_OTHER_ENERGY.search(header[place]):
                left_out.append(LeftOut(header[place], "no electricity"))
            elif WORD_BESIDE.search(header[place]):
                left_out.append(LeftOut(header[place], "something beside the load, not the load of an interval"))
            elif WORD_EXTREME.search(header[place]):
                extremes.append(place)
            else:
                places.append(place)
        if extremes and not places:
            names = ", ".join(header[place] for place in extremes[:MOST_NAMED])
            allowed = "a column of the intervals' means, or one named by --value-column"
            raise PayloadInvalid.of("header", f"extremes of intervals only: {names}", allowed)
        left_out.extend(LeftOut(header[place], "an extreme of the interval, not its mean") for place in extremes)
        strange = [place for place in places if _has_unknown_unit(table, place) and not options.unit]
        if 0 < len(strange) < len(places):
            left_out.extend(
                LeftOut(header[p], f"in {unknown_unit_in(header[p])!r}, a unit that is not read") for p in strange
            )
            places = [place for place in places if place not in strange]
        with_unit = [place for place in places if unit_in(header[place])]
        if len(places) > 1 and 0 < len(with_unit) < len(places):
            left_out.extend(
                LeftOut(header[p], "its name has no unit, as that of others has") for p in places if p not in with_unit
            )
            places = with_unit
        if not places:
            names = ", ".join(header[:MOST_NAMED])
            text = next((p for p, kind in enumerate(kinds) if kind == "text" and p not in key), None)
            looks = "" if text is None else f"; {_first(table, text)} is no number"
            allowed = "one of numbers, each alone or with a unit such as 412 kW, and no forecast"
            raise PayloadInvalid.of("header", f"no column of measurements among {names}{looks}", allowed)
        if len(places) > 1 and (key or not all(_names_series(header[place]) for place in places)):
            names = ", ".join(header[place] for place in places[:MOST_NAMED])
            raise PayloadInvalid.of("header", f"several columns of numbers: {names}", "those named by --value-column")
    own = "" if key else key_of_file(name)
    found = []
    for place in places:
        said = table.said(place)
        multiple = multiple_in(said)
        unit = unit_in(header[place]) or unit_named(table.units.get(place, "")) or _unit_beside(table, place)
        if multiple and not options.unit:
            got = f"{said!r}, in {multiple}"
            as_it_is = multiplied(multiple)
            hint = f"say --unit {as_it_is}" if as_it_is else "multiply the column, and say --unit"
            raise PayloadInvalid.of("header", got, f"a plain unit: {hint}")
        if multiple:
            unit = None  # a person says what they are in
        elif unit is None and not options.unit and unknown_unit_in(said):
            got = f"{said!r}, in {unknown_unit_in(said)!r}, a unit that is not read"
            raise PayloadInvalid.of("header", got, f"one of {', '.join(MEASURED)}; --unit, if it is one all the same")
        column_key = "" if key else key_of_column(header[place])
        lone = column_key if column_key or len(places) > 1 else own
        stream = "" if unit or options.unit else _stream_of(table, place)
        found.append(Value(place, lone or header[place], unit.name if unit else "", stream))
    if key:
        found = [Value(v.place, "", v.unit, v.stream, v.field) for v in found]
    return found


def _has_unknown_unit(table: Table, place: int) -> bool:
    """Whether a column's name has a unit that is not known, and nothing beside it says another."""
    is_told = unit_named(table.units.get(place, "")) or _unit_beside(table, place)
    return not is_told and bool(unknown_unit_in(table.header[place]))


def _refuse_tariffs(names: Sequence[str]) -> None:
    """Refuse energy that stands apart by tariff: one of the columns is not what was consumed."""
    parts = [name for name in names if WORD_TARIFF.search(name) and _is_energy(name)]
    if len(parts) > 1:
        allowed = "their sum in one column, or --value-column"
        raise PayloadInvalid.of("header", f"energy by tariff: {', '.join(parts[:MOST_NAMED])}", allowed)


def _is_energy(name: str) -> bool:
    unit = unit_in(name)
    return unit is not None and unit.quantity == ENERGY


def _unit_beside(table: Table, place: int) -> Unit | None:
    """The unit that a row of units below the names holds, or a column of units."""
    cells = [table.texts(place)[0]] if len(table) else []
    for other, name in enumerate(table.header):
        if WORD_UNIT.search(name):
            words = {text.strip() for text in table.texts(other)}
            cells.extend(words if len(words) == 1 else ())
    return next((unit for unit in map(unit_named, cells) if unit is not None), None)


def _stream_of(table: Table, place: int) -> str:
    """Whose measurement a column without a unit is, by its name; `ds,y` is how copies of PJM's files are written."""
    name = table.header[place]
    if WORD_LOAD.search(name) or (name == "y" and table.place("ds") is not None):
        return "load"
    return "meter" if WORD_METER.search(name) else ""


def _names_series(name: str) -> bool:
    return unit_in(name) is not None or (name.upper() == name and bool(key_of_column(name)))


def key_of_column(name: str) -> str:
    """Return the series that a column's name tells; "" if it only says what is measured.

    Examples
    --------
    >>> key_of_column("PJME_MW"), key_of_column("load_mw"), key_of_column("Load [MW] 2024")
    ('PJME', '', '')
    """
    match = COLUMN_KEY.fullmatch(name)
    stem = (match[1] if match else name).strip()
    words = re.sub(r"[\W_]+", "_", stem.lower()).strip("_")
    if words in COMMON or name.lower() in COMMON:
        return ""
    if all(word in COMMON or YEAR.fullmatch(word) for word in words.split("_")):
        return ""
    return re.sub(r"[^A-Za-z0-9._~-]+", "-", stem).strip("-.")[:100].upper()


def key_of_file(name: str) -> str:
    """Return the series that a file's name tells: `PJME` of `PJME_hourly_to2016.csv.gz`."""
    stem = STEM.sub("", name.partition(".")[0])
    return re.sub(r"[^A-Za-z0-9_~-]+", "-", stem).strip("-")[:100].upper()
