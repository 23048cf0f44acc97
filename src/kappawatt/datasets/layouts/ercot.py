"""ERCOT's hourly load by weather zone: the yearly workbooks `Native_Load_2024.xlsx` and the daily report NP6-345-CD.

An hour is labelled by its end in Central prevailing time, 01:00 to 24:00; the workbooks of some years have times of
Excel there, which are rounded. In spring no hour ends at 03:00. In autumn two end at 02:00: workbooks write ` DST`
behind one of them (that of 2022 does), reports have `DSTFlag`, and both stand in the order of time, which is what tells
them apart. Weather zones were renamed after 2016; keys are the newer names in every year.
(https://www.ercot.com/gridinfo/load/load_hist)
"""

from __future__ import annotations

from kappawatt.datasets.layouts.rows import exchanged, others
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Table

__all__ = ["ERCOT_LOAD", "ERCOT_ZONE"]

ERCOT_ZONE = "America/Chicago"
TIMES = ("Hour Ending", "HourEnding", "Hour_End", "Hour_Ending", "HourEnd")
DAYS = ("OperDay", "Oper Day", "OperatingDay")
FLAGS = ("DSTFlag", "DST Flag", "RepeatedHourFlag", "Repeated Hour Flag")
ZONES = {
    "COAST": "COAST", "EAST": "EAST", "FWEST": "FWEST", "FAR_WEST": "FWEST", "NORTH": "NORTH", "NCENT": "NCENT",
    "NORTH_C": "NCENT", "SOUTH": "SOUTH", "SOUTHERN": "SOUTH", "SCENT": "SCENT", "SOUTH_C": "SCENT", "WEST": "WEST",
    "ERCOT": "ERCOT", "TOTAL": "ERCOT",
}  # fmt: skip
LEAST_ZONES = 3
OWN = {"COAST", "FWEST", "FAR_WEST", "NCENT", "NORTH_C", "SCENT", "SOUTH_C", "ERCOT"}  # no other's compass
REPEATED = "DST"


def _ercot(table: Table, options: Options, name: str) -> Meaning | None:
    place, day = table.place(*TIMES), table.place(*DAYS)
    zones = {i: ZONES[column.upper()] for i, column in enumerate(table.header) if column.upper() in ZONES}
    if place is None or len(zones) < LEAST_ZONES or not OWN & {column.upper() for column in table.header}:
        return None
    if options.time_zone not in ("", ERCOT_ZONE, "US/Central"):
        return None
    flag = table.place(*FLAGS)
    if day is not None:
        time = TimeColumn(
            day, Form.DATE_HOUR, place, Labels.AFTER_START, ERCOT_ZONE, day_first=False, step=3600, flag=flag,
            second_words=("Y",),
        )  # fmt: skip
    else:
        time = TimeColumn(place, Form.MOMENT, None, Labels.AFTER_START, ERCOT_ZONE, day_first=False, step=3600)
    texts = table.texts(place)
    if any(text.rstrip().upper().endswith(REPEATED) for text in texts):
        table = exchanged(table, {place: [text.strip().upper().removesuffix(REPEATED).strip() for text in texts]})
    values = tuple(Value(i, zone, "MW", "load") for i, zone in zones.items())
    left_out = others(table, {place, day, flag, *zones})
    return Meaning(ERCOT_LOAD.name, time, values, left_out=left_out, days_in=ERCOT_ZONE, table=table)


ERCOT_LOAD = Layout("ERCOT hourly load", "Hour Ending,COAST,EAST,FWEST,NORTH,NCENT,SOUTH,SCENT,WEST,ERCOT", _ercot)
