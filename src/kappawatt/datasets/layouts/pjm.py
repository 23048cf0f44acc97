"""PJM: hourly load as its readers pass it on (Kaggle, long and wide), and the exports of Data Miner.

Kaggle's files label an hour with the wall clock at its start plus one hour, in no order. In spring no row is labelled
03:00; in autumn 02:00 belongs to two hours. Up to 2013 there is no such row, both hours are missing, and rows labelled
01:00 and 03:00 are what their labels say, three hours apart: from the one to the other PJME falls by 8.5 % (median of
2002 to 2013); on the four Sundays before and after it falls by 4 % in one hour from there, by 7 % in two and by 8 % in
three. From 2014 on it comes twice, and the order in the file tells nothing: taken by continuity the load falls through
eight of nine such nights of PJME, AEP and DAYTON; in the file's order it would zigzag in six.
"""

from __future__ import annotations

import re

from kappawatt.datasets.reading.generic import key_of_file
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import SOMEBODYS_FORECAST, Form, Layout, LeftOut, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Table
from kappawatt.datasets.reading.words import FORECAST
from kappawatt.errors import PayloadInvalid

__all__ = ["DATA_MINER", "HOURLY", "PJM_ZONE"]

PJM_ZONE = "America/New_York"  # "Eastern prevailing time"
ZONES = frozenset((
    "AE", "AEP", "AP", "APS", "ATSI", "BC", "BGE", "CE", "COMED", "DAY", "DAYTON", "DEOK", "DOM", "DPL", "DUQ", "EKPC",
    "FE", "JC", "JCPL", "ME", "METED", "NI", "OVEC", "PE", "PECO", "PENELEC", "PEP", "PEPCO", "PJM", "PJME", "PJMW",
    "PJM_LOAD", "PL", "PN", "PPL", "PS", "PSEG", "RECO", "RTO",
))  # fmt: skip
TIME_NAMES = ("datetime", "ds", "date")
ZONE_COLUMN = re.compile(r"(.+)_mw", re.IGNORECASE)
UNNAMED = ("", "unnamed: 0")
STEP = 3600
LEAST_ZONES = 3


def _zone_of(name: str) -> str | None:
    match = ZONE_COLUMN.fullmatch(name)
    zone = (match[1] if match else name).upper()
    return zone if zone in ZONES else None


def _hourly(table: Table, options: Options, name: str) -> Meaning | None:
    """Kaggle's `Datetime,PJME_MW`, its wide table of all zones, and copies of them as `ds,y` and `date,AEP_MW`."""
    header = table.header
    first = 1 if header[0].lower() in UNNAMED and len(header) > 2 else 0
    if options.time_column or options.value_column or header[first].lower() not in TIME_NAMES:
        return None
    if options.time_zone not in ("", PJM_ZONE, "US/Eastern"):
        return None
    rest = range(first + 1, len(header))
    zones = {place: _zone_of(header[place]) for place in rest}
    known = [place for place, zone in zones.items() if zone is not None]
    if len(known) < LEAST_ZONES:  # PL and NI, or names without a unit, may be anybody's
        zones |= {p: None for p in known if not ZONE_COLUMN.fullmatch(header[p])}
        zones |= {p: None for p in known if len(zones[p] or "") < 3 and zones[p] != key_of_file(name)}
    elif len(known) < len(rest) / 2:
        return None
    values: list[Value] = []
    left_out = [LeftOut("", "counts the rows")] if first else []
    if any(zones.values()):
        for place in rest:
            zone = zones[place]
            if zone is not None:
                values.append(Value(place, zone, "MW", "load"))
            elif TEMPERATURE.fullmatch(header[place].lower()):
                values.append(Value(place, field=header[place].lower()))
            else:
                left_out.append(
                    LeftOut(header[place], SOMEBODYS_FORECAST if FORECAST.search(header[place]) else "no zone of PJM's")
                )
    elif [header[place].lower() for place in rest][:1] == ["y"] and key_of_file(name) in ZONES:
        values.append(Value(first + 1, key_of_file(name), "MW", "load"))
        values.extend(Value(p, field=name) for p in rest if TEMPERATURE.fullmatch(name := header[p].lower()))
    else:
        return None
    if options.key and len([value for value in values if not value.field]) == 1:
        values = [value if value.field else Value(value.place, options.key, "MW", "load") for value in values]
    time = TimeColumn(first, Form.MOMENT, None, Labels.AFTER_START, PJM_ZONE, longest_step=STEP, is_in_order=False)
    return Meaning(HOURLY.name, time, tuple(values), left_out=tuple(left_out))


TEMPERATURE = re.compile(r"temperature(_[1-9][0-9]?)?(_forecast)?")

MINER_TIMES = ("datetime_beginning_utc", "datetime_ending_utc")
MINER_VALUES = ("mw", "prelim_load_avg_hourly", "instantaneous_load", "actual_load", "estimated_load_hourly")
MINER_FORECASTS = ("forecast_load_mw", "forecast_hour_beginning_utc", "forecast_datetime_beginning_utc")
MINER_KEYS = ("load_area", "area", "zone")


def _data_miner(table: Table, options: Options, name: str) -> Meaning | None:
    """`hrl_load_metered`, `hrl_load_prelim`, `inst_load` and the like: times in UTC, a row an area."""
    place = table.place("datetime_beginning_utc")
    if any(table.place(column) is not None for column in MINER_FORECASTS):
        got = f"{', '.join(table.header)[:120]}, the operator's forecast"
        raise PayloadInvalid.of("header", got, f"a feed of metered load, with one of {', '.join(MINER_VALUES)}")
    if place is None:
        return None
    value = next((p for p in map(table.place, MINER_VALUES) if p is not None), None)
    if value is None:
        forecasts = [column for column in table.header if FORECAST.search(column)]
        got = f"no measured load, only {', '.join(forecasts or table.header)[:120]}"
        raise PayloadInvalid.of("header", got, f"one of {', '.join(MINER_VALUES)}")
    keys = [p for p in map(table.place, MINER_KEYS) if p is not None]
    read = {place, value, *keys[:1]}
    left_out = tuple(
        LeftOut(
            column,
            SOMEBODYS_FORECAST
            if FORECAST.search(column)
            else "another time"
            if "datetime" in column
            else "says more of a row",
        )
        for i, column in enumerate(table.header)
        if i not in read
    )
    time = TimeColumn(place, Form.MOMENT, None, Labels.START, "UTC", day_first=False)
    return Meaning(
        DATA_MINER.name, time, (Value(value, "", "MW", "load"),), tuple(keys[:1]), left_out=left_out, days_in=PJM_ZONE
    )


HOURLY = Layout("PJM hourly load (Kaggle)", "Datetime,PJME_MW", _hourly)
DATA_MINER = Layout(
    "PJM Data Miner",
    "datetime_beginning_utc,datetime_beginning_ept,nerc_region,mkt_region,zone,load_area,mw,is_verified",
    _data_miner,
)
