"""ENTSO-E's Transparency platform, as its page exports it: total load; prices and forecasts are known and left out.

Until 2024: `Time (UTC)`, `Time (CET)` or `MTU (CET)`, spans such as `01.01.2023 00:00 - 01.01.2023 01:00`, `Actual
Total Load [MW] - BZN|EE`. Since then: `MTU (CET/CEST)`, spans such as `01/01/2025 00:00 - 01/01/2025 00:15`, with
seconds or without, `Area` `BZN|EE`, `Actual Total Load (MW)`. CET is the clock of Brussels, with its summer time. In
spring the skipped hour is there without a value; in autumn the repeated one stands twice, in order, in newer exports
with `(CEST)` or `(CET)` behind its times. `n/e`, `N/A` and `-` stand where there is nothing.
(https://transparencyplatform.zendesk.com, total load day-ahead and actual, 6.1.A and 6.1.B)
"""

from __future__ import annotations

import re

from kappawatt.datasets.layouts.rows import exchanged
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import SOMEBODYS_FORECAST, Form, Layout, LeftOut, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Table
from kappawatt.datasets.reading.times import split_span
from kappawatt.datasets.reading.units import unit_in
from kappawatt.datasets.reading.words import FORECAST
from kappawatt.errors import PayloadInvalid

__all__ = ["TRANSPARENCY"]

TIME = re.compile(r"(?:MTU|Time(?: Interval)?)(?: \(([A-Z/]+)\))?", re.IGNORECASE)
CLOCKS = {
    "UTC": "UTC", "CET": "Europe/Brussels", "CET/CEST": "Europe/Brussels", "WET": "Europe/Lisbon",
    "WET/WEST": "Europe/Lisbon", "EET": "Europe/Helsinki", "EET/EEST": "Europe/Helsinki",
}  # fmt: skip
MARK = re.compile(r" ?\(([A-Z]{3,4})\)")
WINTER = ("CET", "WET", "EET")
AREA = re.compile(r"(?:.* )?-? *(?:BZN|CTA|CTY|SCA|MBA)\|(.+)|.* - (.+)")
CODE = re.compile(r".*\(([A-Z]{2}(?:[-_][A-Z0-9]+)?)\)")
SIGNS = ("total load", "price", "generation", "wind", "solar")


def _transparency(table: Table, options: Options, name: str) -> Meaning | None:
    match = TIME.fullmatch(table.header[0])
    if match is None or not any(sign in column.lower() for column in table.header for sign in SIGNS):
        return None
    is_span = bool(split_span(next((text for text in table.texts(0) if text), ""))[1])
    if not is_span and match[1] is None:  # anybody's "time"
        return None
    clock = CLOCKS.get((match[1] or "").upper(), "")
    values, left_out = [], []
    for place, column in enumerate(table.header[1:], 1):
        lower = column.lower()
        unit = unit_in(column)
        if "actual total load" in lower:
            values.append(Value(place, _area(column), unit.name if unit else "MW", "load"))
        elif "price" in lower and "intraday" not in lower:
            values.append(Value(place, "", unit.name if unit else "EUR/MWh", "price"))
        elif FORECAST.search(column):
            left_out.append(LeftOut(column, SOMEBODYS_FORECAST))
        elif lower != "area":
            left_out.append(LeftOut(column, "another time" if "date" in lower else "says more of a row"))
    if not values:
        got = f"no measurement, only {', '.join(table.header[1:])[:160]}"
        raise PayloadInvalid.of("header", got, "Actual Total Load [MW]: forecasts are nobody's history")
    area = table.place("Area")
    key = () if area is None or any(value.key for value in values) else (area,)
    table, flag = _without_marks(table)
    if area is not None:
        table = exchanged(table, {area: [_area(text) for text in table.texts(area)]})
    time = TimeColumn(
        0, Form.SPAN, None, Labels.START, clock, day_first=True, flag=flag, second_words=("second",)
    )  # fmt: skip
    return Meaning(
        TRANSPARENCY.name, time, tuple(values), key, left_out=tuple(left_out), table=table,
        days_in=clock if clock != "UTC" else "",
    )  # fmt: skip


def _without_marks(table: Table) -> tuple[Table, int | None]:
    """The table with spans alone in its first column, and where the second of two hours is told; None if nowhere.

    Some files mark the times of one day only, those of the clock's change, so a mark is no offset of a column.
    """
    texts = table.texts(0)
    marks = [MARK.search(text) for text in texts]
    if not any(marks):
        return table, None
    second = ["second" if mark is not None and mark[1] in WINTER else "" for mark in marks]
    return exchanged(table, {0: [MARK.sub("", text) for text in texts]}, {"hour": second}), len(table.header)


def _area(column: str) -> str:
    """`EE` of `... [MW] - BZN|EE` and of `BZN|EE`, `MK` of `... - North Macedonia (MK)`."""
    match = AREA.fullmatch(column.strip())
    found = next((part for part in match.groups() if part), "") if match else ""
    code = CODE.fullmatch(found)
    return re.sub(r"[^A-Za-z0-9_.~-]+", "-", code[1] if code else found).strip("-")


TRANSPARENCY = Layout(
    "ENTSO-E Transparency",
    "Time (UTC),Day-ahead Total Load Forecast [MW] - BZN|EE,Actual Total Load [MW] - BZN|EE",
    _transparency,
)
