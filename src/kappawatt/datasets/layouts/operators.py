"""System operators and collections whose files are plain tables: a function each says what the columns mean."""

from __future__ import annotations

import re

from kappawatt.datasets.layouts.rows import chosen, exchanged, others, without
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.numbers import UNKNOWN, is_number
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.units import FAHRENHEIT
from kappawatt.datasets.reading.words import FORECAST
from kappawatt.errors import PayloadInvalid

__all__ = ["AEMO_DEMAND", "CAISO_OASIS", "COMPETITIONS", "EIA_930", "GRIDSTATUS", "IESO", "NYISO", "OPSD"]

NEW_YORK, TORONTO, PACIFIC = "America/New_York", "America/Toronto", "America/Los_Angeles"
EASTERN_STANDARD = "Etc/GMT+5"  # five hours behind UTC all year
NEM_ZONE = "Australia/Brisbane"  # market time is Eastern standard time all year, as Queensland's clock

OPSD_LOAD = re.compile(
    r"(.+?)_load(?:_actual)?(?:_(entsoe_transparency|entsoe_power_statistics|tso|net_consumption.*|gross.*|old))?"
)


def _opsd(table: Table, options: Options, name: str) -> Meaning | None:
    """time_series_60min_singleindex.csv: the start of an interval in UTC, a column an area and source."""
    place = table.place("utc_timestamp")
    loads = {i: match for i, column in enumerate(table.header) if (match := OPSD_LOAD.fullmatch(column))}
    if place is None or not loads:
        return None
    areas = [match[1] for match in loads.values()]
    values = [
        Value(i, match[1] if areas.count(match[1]) == 1 else f"{match[1]}-{match[2] or 'actual'}", "MW", "load")
        for i, match in loads.items()  # an area may be told by several sources
    ]
    time = TimeColumn(place, Form.MOMENT, None, Labels.START, "UTC")
    return Meaning(OPSD.name, time, tuple(values), left_out=others(table, {place, *loads}, "no load"))


NYISO_FORECAST = ("Capitl", "Centrl", "Dunwod", "Genese", "Hud Vl", "Longil", "Mhk Vl", "Millwd", "N.Y.C.", "NYISO")


def _nyiso(table: Table, options: Options, name: str) -> Meaning | None:
    """`palIntegrated` and `pal`: the start of an hour, or of about five minutes with samples between, Eastern time."""
    place, zone, key = table.place("Time Stamp"), table.place("Time Zone"), table.place("Name")
    value = table.place("Integrated Load", "Load")
    if place is not None and all(table.place(area) is not None for area in NYISO_FORECAST):
        raise PayloadInvalid.of("header", f"{', '.join(table.header)[:120]}, the operator's forecast (isolf)", "pal")
    if place is None or key is None or value is None:
        return None
    step = 3600 if table.header[value].lower() == "integrated load" else 300
    time = TimeColumn(
        place, Form.MOMENT, None, Labels.START, NEW_YORK, day_first=False, step=step, flag=zone,
        is_off_grid_noise=step < 3600,
    )  # fmt: skip
    left_out = others(table, {place, zone, key, value})
    return Meaning(NYISO.name, time, (Value(value, "", "MW", "load"),), (key,), left_out=left_out, days_in=NEW_YORK)


def _aemo(table: Table, options: Options, name: str) -> Meaning | None:
    """`PRICE_AND_DEMAND_202401_NSW1.csv`: the end of 30 minutes, of 5 since October 2021, market time."""
    region, place, value = table.place("REGION", "REGIONID"), table.place("SETTLEMENTDATE"), table.place("TOTALDEMAND")
    if region is None or place is None or value is None:
        return None
    kind = table.place("PERIODTYPE")
    table, facts = without(table, kind, ("FORECAST",), "the operator's forecasts")
    time = TimeColumn(place, Form.MOMENT, None, Labels.END, NEM_ZONE, day_first=True)
    left_out = others(table, {region, place, value})
    values = (Value(value, "", "MW", "load"),)
    return Meaning(
        AEMO_DEMAND.name, time, values, (region,), left_out=left_out, facts=facts, days_in=NEM_ZONE, table=table
    )


def _ieso(table: Table, options: Options, name: str) -> Meaning | None:
    """`PUB_Demand_2024.csv`: hours 1 to 24 by their end, Eastern standard time all year."""
    date, hour = table.place("Date"), table.place("Hour")
    if date is None or hour is None or table.place("Ontario Demand") is None:
        return None
    value = table.place(*(options.value_column or ("Ontario Demand",)))
    if value is None:
        raise PayloadInvalid.of("--value-column", options.value_column[0][:80], "Ontario Demand or Market Demand")
    time = TimeColumn(date, Form.DATE_HOUR, hour, Labels.END, EASTERN_STANDARD, day_first=False, step=3600)
    left_out = others(table, {date, hour, value}, "another measure")
    values = (Value(value, "ONTARIO", "MW", "load"),)
    return Meaning(IESO.name, time, values, left_out=left_out, days_in=TORONTO)


EIA_END = "UTC Time at End of Hour"
EIA_VALUES = ("Demand (MW)", "Demand (MW) (Adjusted)", "Demand (MW) (Imputed)")


def _eia(table: Table, options: Options, name: str) -> Meaning | None:
    """EIA-930, `EIA930_BALANCE_2024_Jan_Jun.csv`: demand as the balancing authority told it; commas in thousands."""
    place, area, part = table.place(EIA_END), table.place("Balancing Authority", "Region"), table.place("Sub-Region")
    if place is None or area is None:
        return None
    value = table.place(*(options.value_column or EIA_VALUES))
    if value is None:
        got = f"no demand, only {', '.join(table.header)[:120]}"
        raise PayloadInvalid.of("header", got, EIA_VALUES[0])
    table = exchanged(table, {value: [text.replace(",", "") for text in table.texts(value)]})
    key = (area,) if part is None else (area, part)
    time = TimeColumn(place, Form.MOMENT, None, Labels.END, "UTC", day_first=False, step=3600)
    left_out = others(table, {place, value, *key}, "another measure")
    return Meaning(EIA_930.name, time, (Value(value, "", "MW", "load"),), key, left_out=left_out, table=table)


def _oasis(table: Table, options: Options, name: str) -> Meaning | None:
    """CAISO's SLD_FCST: forecasts and, where MARKET_RUN_ID is ACTUAL, the load of each area; times in GMT."""
    place, key, value = table.place("INTERVALSTARTTIME_GMT"), table.place("TAC_AREA_NAME"), table.place("MW")
    run = table.place("MARKET_RUN_ID")
    if place is None or key is None or value is None or run is None:
        return None
    runs = [text.strip().upper() for text in table.texts(run)]
    if "ACTUAL" not in runs:
        got = f"{', '.join(sorted(set(runs)))[:80]}, forecasts"
        raise PayloadInvalid.of("MARKET_RUN_ID", got, "ACTUAL: forecasts are nobody's history")
    gone = len(runs) - runs.count("ACTUAL")
    facts = (Fact("rows", f"{gone} left out", "MARKET_RUN_ID: forecasts"),) if gone else ()
    table = chosen(table, [text == "ACTUAL" for text in runs])
    time = TimeColumn(place, Form.MOMENT, None, Labels.START, "UTC", step=3600)
    left_out = others(table, {place, key, value, run})
    values = (Value(value, "", "MW", "load"),)
    return Meaning(CAISO_OASIS.name, time, values, (key,), left_out=left_out, facts=facts, days_in=PACIFIC, table=table)


GRIDSTATUS_TIMES = ("Interval Start", "interval_start_local", "interval_start_utc")
GRIDSTATUS_ENDS = ("Interval End", "interval_end_local", "interval_end_utc")
ISO_ZONES = {
    "ERCOT": "America/Chicago", "CAISO": PACIFIC, "PJM": NEW_YORK, "MISO": "Etc/GMT+5", "SPP": "America/Chicago",
    "NYISO": NEW_YORK, "ISONE": NEW_YORK, "IESO": TORONTO, "AESO": "America/Edmonton",
}  # fmt: skip


def _gridstatus(table: Table, options: Options, name: str) -> Meaning | None:
    """What the Python package and the site of that name give: times with offsets, the system's load and areas'."""
    place, load = table.place(*GRIDSTATUS_TIMES), table.place("Load")
    if place is None or load is None or table.place(*GRIDSTATUS_ENDS) is None:
        return None
    places = range(len(table.header))
    times = {i for i in places if "interval" in table.header[i].lower() or table.header[i] in ("Time", "Publish Time")}
    areas = [
        i for i in places
        if i not in times and i != load and not FORECAST.search(table.header[i]) and _is_numeric(table, i)
    ]  # fmt: skip
    iso = next((word for word in ISO_ZONES if word.lower() in name.lower()), "")
    values = (Value(load, iso, "MW", "load"), *(Value(i, table.header[i], "MW", "load") for i in areas))
    zone = "UTC" if table.header[place].lower().endswith("utc") else ""
    time = TimeColumn(place, Form.MOMENT, None, Labels.START, zone)
    left_out = others(table, {load, place, *areas}, "another time")
    return Meaning(GRIDSTATUS.name, time, values, left_out=left_out, days_in=ISO_ZONES.get(iso, ""))


def _is_numeric(table: Table, place: int) -> bool:
    texts = [text for text in table.texts(place)[:500] if text.strip().lower() not in UNKNOWN]
    return bool(texts) and all(map(is_number, texts))


STATION = re.compile(r"T([0-9]*)(_forecast)?", re.IGNORECASE)


def _competitions(table: Table, options: Options, name: str) -> Meaning | None:
    """BigDEAL Challenge 2022 and GEFCom2014-E: a date, an hour from 1 to 24, loads and temperatures [degF].

    24 rows every day: the hour that the clock skips was filled in, of the repeated one there is the mean. `T1_forecast`
    is the temperature of station 1 as it was forecast by noon of the day before.
    """
    date, hour = table.place("Date"), table.place("Hour")
    loads = {i: c.upper() for i, c in enumerate(table.header) if re.fullmatch(r"LDC[0-9]+", c, re.IGNORECASE)}
    if [c.lower() for c in table.header] == ["date", "hour", "load", "t"] and "gefcom" in name.lower():
        loads = {2: "ISONE"}
    if date is None or hour is None or not loads:
        return None
    time = TimeColumn(date, Form.DATE_HOUR, hour, Labels.AFTER_START, NEW_YORK, day_first=True, step=3600)
    weather = tuple(
        Value(i, unit=FAHRENHEIT, field=f"temperature{match[1] and '_' + match[1]}{(match[2] or '').lower()}")
        for i, c in enumerate(table.header)
        if (match := STATION.fullmatch(c))
    )
    values = (*(Value(i, key, "MW", "load") for i, key in loads.items()), *weather)
    left_out = others(table, {date, hour, *(value.place for value in values)})
    return Meaning(COMPETITIONS.name, time, values, left_out=left_out)


OPSD = Layout("Open Power System Data", "utc_timestamp,cet_cest_timestamp,DE_load_actual_entsoe_transparency", _opsd)
NYISO = Layout("NYISO load", "Time Stamp,Time Zone,Name,PTID,Integrated Load", _nyiso)
AEMO_DEMAND = Layout("AEMO price and demand", "REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE", _aemo)
IESO = Layout("IESO demand", "Date,Hour,Market Demand,Ontario Demand", _ieso)
EIA_930 = Layout(
    "EIA-930",
    "Balancing Authority,Data Date,Hour Number,Local Time at End of Hour,UTC Time at End of Hour,Demand (MW)",
    _eia,
)
CAISO_OASIS = Layout(
    "CAISO OASIS", "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,LOAD_TYPE,MARKET_RUN_ID,TAC_AREA_NAME,MW", _oasis
)
GRIDSTATUS = Layout("gridstatus", "Time,Interval Start,Interval End,Load", _gridstatus)
COMPETITIONS = Layout("BigDEAL and GEFCom", "DATE,Hour,LDC1,LDC2,LDC3", _competitions)
