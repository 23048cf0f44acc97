"""SMARD, market data of the Bundesnetzagentur: realised consumption, in German and in English.

`Datum von;Datum bis;Netzlast [MWh] Originalauflösungen` with `46.990,75`, or `Start date;End date;grid load [MWh]
Original resolutions` with `Apr 1, 2026 2:00 AM` and `11,667.99`; `-` where there is nothing; MWh of the quarter-hour,
or of the hour in `Berechnete Auflösungen`. Times are those of Berlin's clock; the repeated hour of autumn stands twice,
in order. Older exports have the day apart: `Datum;Anfang;Ende;Gesamt (Netzlast) [MWh] Originalauflösungen` or
`Datum;Uhrzeit;...`. The export of the operators' forecast has the same names in its header, and says what it is in the
file's name only
(`Prognostizierter_Stromverbrauch_...`, `Forecasted_consumption_...`).
(https://www.smard.de/home/downloadcenter/download-marktdaten)
"""

from __future__ import annotations

import re

from kappawatt.datasets.layouts.rows import others
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.units import unit_in
from kappawatt.datasets.reading.words import FORECAST
from kappawatt.errors import PayloadInvalid

__all__ = ["SMARD"]

BERLIN = "Europe/Berlin"
STARTS, ENDS = ("Datum von", "Start date", "Anfang"), ("Datum bis", "End date", "Ende")
DAYS, CLOCKS = ("Datum", "Date"), ("Anfang", "Uhrzeit", "Start", "Time of day")
RESOLUTION = re.compile(
    r"original resolution|originalauflösung|calculated resolution|berechnete auflösung|\[MWh\]$", re.I
)
LOAD = re.compile(
    r"(?:netzlast|grid load|(?:gesamt|total) \((?:netzlast|grid load)\)|gesamt|total)\s*\[(\w+)\].*", re.I
)


def _smard(table: Table, options: Options, name: str) -> Meaning | None:
    start, day = table.place(*STARTS[:2]), table.place(*DAYS)
    clock = table.place(*CLOCKS)
    measured = [i for i, column in enumerate(table.header) if "[" in column and RESOLUTION.search(column)]
    if not measured or (start is None and (day is None or clock is None)):
        return None
    loads = [i for i in measured if LOAD.fullmatch(table.header[i])]
    if options.value_column:
        loads = [i for i in measured if table.header[i] in options.value_column]
    if not loads:
        allowed = "Netzlast [MWh] or grid load [MWh]; --value-column names another"
        raise PayloadInvalid.of("header", f"no load, only {', '.join(table.header)[:160]}", allowed)
    if FORECAST.search(name) or re.search("prognosti", name, re.IGNORECASE):
        raise PayloadInvalid.of("file", f"{name[:80]!r}, the operators' forecast", "the export of realised consumption")
    end = table.place(*ENDS)
    if start is not None:
        time = TimeColumn(start, Form.MOMENT, None, Labels.START, BERLIN, day_first=False, end_place=end)
    else:
        time = TimeColumn(day or 0, Form.DATE_CLOCK, clock, Labels.START, BERLIN, day_first=True)
    names = {i: table.header[i].partition("[")[0].strip() for i in loads}
    values = tuple(
        Value(
            i, names[i] if len(loads) > 1 else "", (unit.name if (unit := unit_in(table.header[i])) else "MWh"), "load"
        )
        for i in loads
    )
    left_out = others(table, {start, day, clock, end, *loads}, "another measure")
    facts = (Fact("load", "realised", "a forecast has the same names, and another name of the file"),)
    return Meaning(SMARD.name, time, values, left_out=left_out, facts=facts, days_in=BERLIN)


SMARD = Layout("SMARD", "Datum von;Datum bis;Netzlast [MWh] Originalauflösungen", _smard)
