"""What lines before a table say of its unit, clock and labels: used, or refused where the table says another thing.

A line is asked for pairs such as `Einheit;kW`, `# timezone: UTC` or `All times are in CET`, and for a unit in a title
(`Lastgang in kW`). A title's unit counts for columns without one only; a pair's is also held against theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from kappawatt.datasets.reading.clocks import clocks_in, offset_text
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Line, Table
from kappawatt.datasets.reading.units import ENERGY, POWER, UNITS, multiple_in, unit_in, unit_named, unknown_unit_in
from kappawatt.datasets.reading.words import WORD_OFFSET, WORD_UNIT, offset_in, word_of_labels, zone_in
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.calendar import zone_named

__all__ = ["with_preamble"]

MARKS = "#%/*;,\"' \t\ufeff"
PAIR = re.compile(
    r"\s*[:=]\s+|\s*[:=,;|\t](?=\D)\s*|\s+(?:are|is|in|sind|ist)\s+(?:in\s+|der\s+|all\s+in\s+)?", re.IGNORECASE
)
CLOCK_NAME = re.compile(
    r"(?:local.?)?time[ _-]?zone|zeitzone|tz|fuseau(?: horaire)?|zona horaria|huso horario", re.IGNORECASE
)
TIMES_NAME = re.compile(
    r"(?:(?:all|alle)\s+)?(?:times?|time.?stamps?|zeiten|zeit|zeitangaben?|zeitstempel|uhrzeit(?:en)?|zeitbezug|labels?|"
    r"intervals?|intervalle?|(?:time.?stamps?|interval|time) (?:labels?|convention|position)|zeitbasis)",
    re.IGNORECASE,
)
LOCAL = re.compile(r"lo[ck]al.*|ortszeit|gesetzliche.*|wall.?clock.*|heure locale", re.IGNORECASE)
WINDOWS = re.compile(
    r"\((?:utc|gmt)[+-]?[\d:]*\)\s*\S.*", re.IGNORECASE
)  # its zones have winter's offset in their name
IANA = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z_/+-]+\d{0,2}")
SHOWN = 60


@dataclass(frozen=True, slots=True)
class _Told:
    """One thing that a line says, and where."""

    what: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.text!r} ({self.where})"


def with_preamble(meaning: Meaning, table: Table, options: Options) -> Meaning:
    """Return a meaning with what the lines before the table say as well.

    Raises
    ------
    PayloadInvalid
        They say another unit, clock or labels than the table's names or a person, or two things.
    """
    time, values, facts = meaning.time, meaning.values, list(meaning.facts)
    values = _units(values, table, options, facts)
    time = _labels(time, table, options, facts)
    days_in = meaning.days_in
    time = _clock(time, table, options, facts)
    if time.zone not in ("", "UTC"):
        days_in = time.zone
    return replace(meaning, time=time, values=values, facts=tuple(facts), days_in=days_in)


def _pairs(line: Line) -> Iterable[tuple[str, str]]:
    """Names and what is said of them in one line."""
    cells = [text for cell in line.cells if (text := cell.strip(MARKS).strip())]
    for name, value in pairwise(cells):
        yield name.rstrip(": ="), value
    for cell in cells:
        parts = PAIR.split(cell, maxsplit=1)
        if len(parts) == 2 and parts[1].strip():
            yield parts[0].strip(), parts[1].strip()


def _one(told: Sequence[_Told], name: str, allowed: str) -> _Told | None:
    """What lines say, if they say one thing."""
    found: dict[str, _Told] = {}
    for one in told:
        found.setdefault(one.what, one)
    if len(found) > 1:
        raise PayloadInvalid.of(name, " and ".join(map(str, list(found.values())[:3])), allowed)
    return next(iter(found.values()), None)


# ---- units


def _units(values: Sequence[Value], table: Table, options: Options, facts: list[Fact]) -> tuple[Value, ...]:
    pairs: list[_Told] = []
    titles: list[_Told] = []
    unknown: list[_Told] = []
    for line in table.above:
        text = " ".join(cell.strip() for cell in line.cells if cell.strip())[:SHOWN]
        aligned = _below_each_other(line, table)
        if aligned:
            values = tuple(_with_unit(v, aligned.get(v.place), table, line, text, facts) for v in values)
            continue
        said = [value for name, value in _pairs(line) if WORD_UNIT.search(name)]
        alone = [value for name, value in _pairs(line) if WORD_UNIT.fullmatch(name)]
        unknown.extend(_Told(word, line.where, text) for value in alone if (word := unknown_unit_in(f"[{value}]")))
        units = {_unit(value) for value in said} - {""}
        pairs.extend(_Told(unit, line.where, text) for unit in sorted(units))
        if not said and not any(map(str.isdigit, text)):
            titles.extend([_Told(unit, line.where, text)] if (unit := _unit_in_title(text)) else [])
    measured = [value for value in values if not value.field]
    if options.unit:
        other = next((told for told in pairs if told.what != options.unit), None)
        if other is not None and not any(value.unit for value in measured):
            raise PayloadInvalid.of("unit", str(other), f"{options.unit}, as --unit says")
        return tuple(values)
    is_open = any(not value.unit for value in measured)  # a title of the file counts for those alone
    one = _one(pairs or (titles or unknown if is_open else []), "unit", "one of them: --unit")
    if one is None:
        return tuple(values)
    for value in measured:
        if value.unit and one in pairs and value.unit != one.what:
            got = f"{value.unit}, and {one} before the table"
            raise PayloadInvalid.of(table.header[value.place], got, "one unit: --unit")
    if is_open:
        facts.append(Fact("unit before the table", one.what, str(one)))
    return tuple(v if v.field or v.unit else replace(v, unit=_known(one, table, v), stream="") for v in values)


def _known(one: _Told, table: Table, value: Value) -> str:
    if one.what not in UNITS:
        raise PayloadInvalid.of(table.header[value.place], f"numbers in {one}", "a plain unit: say --unit")
    return one.what


def _unit(text: str) -> str:
    """The unit that a pair's text names, as it is written if it is a multiple; "" if it is none."""
    text = text.strip("[]() ")
    unit = unit_named(text) or unit_in(f"[{text}]")
    return multiple_in(f"[{text}]") or (unit.name if unit is not None else "")


def _unit_in_title(text: str) -> str:
    unit = unit_in(text)
    return multiple_in(text) or (unit.name if unit is not None and unit.quantity in (POWER, ENERGY) else "")


def _below_each_other(line: Line, table: Table) -> dict[int, str]:
    """Units of several columns, of a line that stands right above them: `;kW;kWh`, `Einheit;kW;kWh`."""
    cells = [cell.strip("[]() ") for cell in line.cells]
    found = {place: unit.name for place, cell in enumerate(cells) if (unit := unit_named(cell)) is not None}
    rest = [cell for place, cell in enumerate(cells) if place not in found and place > 0 and cell]
    is_pair = len(found) == 1 and 1 in found and bool(WORD_UNIT.search(cells[0])) and len(table.header) != 2
    return found if found and not rest and 0 not in found and not is_pair and len(cells) <= len(table.header) else {}


def _with_unit(value: Value, unit: str | None, table: Table, line: Line, text: str, facts: list[Fact]) -> Value:
    if value.field or unit is None:
        return value
    if value.unit and value.unit != unit:
        got = f"{value.unit}, and {text!r} ({line.where}) before the table"
        raise PayloadInvalid.of(table.header[value.place], got, "one unit: --unit, without that line")
    facts.append(Fact("unit before the table", unit, f"{text!r} ({line.where})"))
    return replace(value, unit=unit, stream="")


# ---- labels and clock


def _labels(time: TimeColumn, table: Table, options: Options, facts: list[Fact]) -> TimeColumn:
    if time.form in (Form.SPAN, Form.DATE_PERIOD) or time.end_place is not None:
        return time
    told = []
    for line in table.above:
        for name, value in _pairs(line):
            way = word_of_labels(value) if TIMES_NAME.fullmatch(name) and not any(map(str.isdigit, value)) else None
            if way is not None:
                told.append(_Told(way.value, line.where, f"{name}: {value}"[:SHOWN]))
    one = _one(told, "labels", "one of them: --labels")
    if one is None:
        return time
    is_start = one.what == Labels.START.value
    own = time.labels
    if own is not None and (own is Labels.START) != is_start:
        got = f"labels of the {own.value}, and {one} before the table"
        raise PayloadInvalid.of(table.header[time.place], got, "one of them")
    if options.labels and (options.labels == "start") != is_start:
        raise PayloadInvalid.of(
            table.header[time.place], f"{one} before the table", f"{options.labels}, as --labels says"
        )
    if own is not None:
        return time
    facts.append(Fact("labels before the table", one.what, str(one)))
    return replace(time, labels=Labels.START if is_start else Labels.END)


def _clock(time: TimeColumn, table: Table, options: Options, facts: list[Fact]) -> TimeColumn:
    """The clock that lines say; a zone by name, one offset, or words such as CET that are held against the zone."""
    zones: list[_Told] = []
    words: list[_Told] = []
    for line in table.above:
        for name, value in _pairs(line):
            is_clock = bool(CLOCK_NAME.fullmatch(name))
            if not is_clock and (not TIMES_NAME.fullmatch(name) or re.search(r"\d", WORD_OFFSET.sub("", value))):
                continue  # a day and time are those of the export
            text = f"{name}: {value}"[:SHOWN]
            zone, found = _zone_of(value), _words_of(value)
            if zone:
                zones.append(_Told(zone, line.where, text))
            elif found:
                words.append(_Told("|".join(found), line.where, text))
            elif is_clock and not LOCAL.fullmatch(value):
                facts.append(Fact("time zone before the table", value[:SHOWN], f"{line.where}; not understood"))
    own = _one(zones, "time zone", "one of them: a file with one")
    word = _one(words, "time zone", "one of them: a file with one")
    if own is not None and time.zone and time.zone != own.what:
        got = f"times by the clock of {time.zone}, and {own} before the table"
        raise PayloadInvalid.of(table.header[time.place], got, "one clock")
    if own is not None and options.clock and options.clock != own.what:
        got = f"{own} before the table"
        raise PayloadInvalid.of(table.header[time.place], got, f"{options.clock}, as --clock says")
    if own is not None:
        facts.append(Fact("clock before the table", own.what, str(own)))
        is_same = own.what == options.time_zone and own.what != "UTC"  # then labels are asked whether they follow it
        return time if is_same else replace(time, zone=own.what)
    if word is not None and not time.zone:
        return replace(time, words=tuple(word.what.split("|")), said=f"{word} before the table")
    return time


def _words_of(value: str) -> tuple[str, ...]:
    """Words of a clock in a text; of a zone's name in Windows, `(UTC+01:00) Berlin`, its winter offset."""
    offset = offset_in(value) if WINDOWS.fullmatch(value) else None
    return clocks_in(value) if offset is None else (offset_text(offset * 60_000),)


def _zone_of(value: str) -> str:
    """The clock that a text names alone: `Europe/Berlin`, `UTC`, `UTC+01:00`; "" for others."""
    named = IANA.match(value)
    if named:
        try:
            return zone_named(named[0])
        except SettingInvalid:
            return ""
    return "" if WINDOWS.fullmatch(value) and "universal" not in value.lower() else zone_in(value)
