"""Smart meters whose files are plain tables: the London trial, Octopus, Fluvius."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np

from kappawatt.datasets.layouts.rows import SURPLUS, chosen, others
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.numbers import UNKNOWN, find_format, read_numbers
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.times import read_clock
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid

__all__ = ["FLUVIUS", "LONDON", "LONDON_ZONE", "OCTOPUS"]

LONDON_ZONE = "UTC"  # the trial's clock has no change in spring and autumn, so its labels are instants
LONDON_TIME = ("tstp", "DateTime")  # of the Kaggle edition, of the London Datastore
LONDON_ENERGY = ("energy(kWh/hh)", "KWH/hh (per half hour)")
ON_GRID = re.compile(r":[03]0(?::00(?:\.0+)?)?$")
HALF_HOUR = 1800


def _london(table: Table, options: Options, name: str) -> Meaning | None:
    """Half hours of the Low Carbon London trial, in its Kaggle edition or the London Datastore's; many households.

    A few rows stand between two half hours, when a meter was changed; they hold nothing (`Null`).
    """
    key, time, energy = table.place("LCLid"), table.place(*LONDON_TIME), table.place(*LONDON_ENERGY)
    if key is None or energy is None or time is None:
        return None
    texts, cells = table.texts(time), table.texts(energy)
    between = [
        text
        for text, cell in zip(texts, cells, strict=True)
        if cell.strip().lower() in UNKNOWN and not ON_GRID.search(text)
    ]
    facts: tuple[Fact, ...] = ()
    if between:
        gone = set(between)
        table = chosen(
            table, [t not in gone or c.strip().lower() not in UNKNOWN for t, c in zip(texts, cells, strict=True)]
        )
        facts = (Fact("rows between half hours", f"{len(between)} left out", "they hold nothing"),)
    column = TimeColumn(time, Form.MOMENT, None, Labels.START, LONDON_ZONE, day_first=True, step=HALF_HOUR)
    values, left_out = (Value(energy, "", "kWh", "meter"),), others(table, {key, time, energy})
    return Meaning(LONDON.name, column, values, (key,), left_out=left_out, facts=facts, table=table)


def _octopus(table: Table, options: Options, name: str) -> Meaning | None:
    """Octopus Energy's download of a home: half hours with offsets, in order of time; files of gas are in cubic metres.

    Half hours without any consumption are not there.
    """
    start, end = table.place("Start"), table.place("End")
    energy = table.place("Consumption (kWh)")
    if start is None or end is None or table.header[0].lower().partition(" (")[0] != "consumption":
        return None
    if energy is None:
        raise PayloadInvalid.of("header", repr(table.header[0][:80]), "Consumption (kWh), that of electricity")
    time = TimeColumn(start, Form.MOMENT, None, Labels.START, "", step=HALF_HOUR)
    left_out = others(table, {start, end, energy}, "no energy")
    values = (Value(energy, "", "kWh", "meter"),)
    return Meaning(OCTOPUS.name, time, values, left_out=left_out, days_in="Europe/London")


FLUVIUS_DAY, FLUVIUS_CLOCK, FLUVIUS_END = "Van (datum)", "Van (tijdstip)", "Tot (tijdstip)"
TAKEN, GIVEN = "afname", "injectie"


def _fluvius(table: Table, options: Options, name: str) -> Meaning | None:
    """Fluvius, Flanders: quarter hours of each register of a meter, by Brussels' clock.

    What is taken (`Afname`) and given (`Injectie`) is counted by a register of the day tariff and one of the night's;
    their sum is a quarter hour's energy, and what was given a series of its own.
    """
    day, clock = table.place(FLUVIUS_DAY), table.place(FLUVIUS_CLOCK)
    meter, register = table.place("EAN-code", "EAN"), table.place("Register", "Registratie")
    volume, unit = table.place("Volume"), table.place("Eenheid")
    if day is None or clock is None or meter is None or register is None or volume is None or unit is None:
        return None
    options = options if options.decimal or options.thousands else replace(options, decimal=",")
    written = find_format([table.columns[volume]], table.separator, options)
    numbers, bad = read_numbers(table.columns[volume], written)
    problems, wrong = Problems(table.problems), set(bad)
    step = _usual_length(table, clock, table.place(FLUVIUS_END))
    texts = {place: table.texts(place) for place in (day, clock, meter, register, volume, unit)}
    counted: Counter[tuple[str, str, str, str]] = Counter()
    sums: dict[tuple[str, str, str, int], float] = {}
    lines: dict[tuple[str, str, str, int], int] = {}
    others_left: Counter[str] = Counter()
    for i in range(len(table)):
        word = texts[register][i].strip().lower()
        if texts[unit][i].strip().lower() != "kwh" or not word.startswith((TAKEN, GIVEN)):
            others_left[f"{texts[register][i].strip()} [{texts[unit][i].strip()}]"[:60]] += 1
            continue
        if i in wrong:
            got = texts[volume][i].strip()[:80]
            problems.append(Problem(int(table.lines[i]), table.header[volume], got, "a number, or nothing"))
            continue
        ean = texts[meter][i].strip().lstrip("=").strip('"') or "meter"
        series = ean + (SURPLUS if word.startswith(GIVEN) else "")
        label = (series, texts[day][i].strip(), texts[clock][i].strip())
        place = (*label, counted[(*label, word)])  # the repeated quarter hours of autumn stand twice, in order
        counted[(*label, word)] += 1
        lines.setdefault(place, int(table.lines[i]))
        if texts[volume][i].strip().lower() not in UNKNOWN or place not in sums:
            before = sums.get(place, float("nan"))
            sums[place] = numbers[i] if np.isnan(before) else before + np.nan_to_num(numbers[i])
    facts = tuple(Fact("rows", f"{n} left out", f"{what} is no energy") for what, n in others_left.items())
    table = Table(
        ("EAN-code", FLUVIUS_DAY, FLUVIUS_CLOCK, "Volume"),
        ([p[0] for p in sums], [p[1] for p in sums], [p[2] for p in sums], np.array(list(sums.values()), np.float64)),
        np.array([lines[place] for place in sums], np.int64), table.separator, problems, table.facts,
    )  # fmt: skip
    time = TimeColumn(1, Form.DATE_CLOCK, 2, Labels.START, "Europe/Brussels", day_first=True, step=step)
    values = (Value(3, "", "kWh", "meter"),)
    return Meaning(FLUVIUS.name, time, values, (0,), facts=facts, days_in="Europe/Brussels", table=table)


def _usual_length(table: Table, start: int, end: int | None) -> int:
    """The length that most intervals have by their times of the day [s], a day if those are the same; 0 if unknown."""
    if end is None:
        return 0
    both = Counter(zip(table.texts(start), table.texts(end), strict=True))
    lengths: Counter[int] = Counter()
    for (begins, ends), count in both.items():
        first, last = read_clock(begins), read_clock(ends)
        if first is not None and last is not None:
            lengths[(last - first) % 86_400 or 86_400] += count
    return lengths.most_common(1)[0][0] if lengths else 0


LONDON = Layout("Low Carbon London", "LCLid,tstp,energy(kWh/hh)", _london)
OCTOPUS = Layout("Octopus Energy", "Consumption (kWh), Start, End", _octopus)
FLUVIUS = Layout(
    "Fluvius",
    "Van (datum);Van (tijdstip);Tot (datum);Tot (tijdstip);EAN-code;Meter;Metertype;Register;Volume;Eenheid",
    _fluvius,
)
