"""Great Britain's demand by settlement period: NESO's yearly files, and Elexon's Insights (BMRS).

A settlement day is a day of London's clock; its half hours count from 1 to 48, to 46 in spring and to 50 in autumn. Of
NESO's columns ND is national demand and TSD that of the transmission system, both means of the half hour [MW]; the file
of the current year holds forecasts too, marked F in `FORECAST_ACTUAL_INDICATOR`, and zeros that are no demand. Several
of Elexon's datasets have the same columns; those published before the half hour they speak of are forecasts.
(https://www.neso.energy/data-portal/historic-demand-data, https://bmrs.elexon.co.uk/api-documentation)
"""

from __future__ import annotations

import numpy as np

from kappawatt.datasets.layouts.rows import exchanged, others, without
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.times import read_times
from kappawatt.errors import PayloadInvalid

__all__ = ["BRITISH_DEMAND"]

LONDON = "Europe/London"
HALF_HOUR = 1800
DATES = ("settlementDate", "Settlement Date", "SETTLEMENT_DATE")
PERIODS = ("settlementPeriod", "Settlement Period", "SETTLEMENT_PERIOD")
VALUES = (
    "ND", "National Demand", "initialDemandOutturn", "INDO", "demand", "initialTransmissionSystemDemandOutturn",
    "ITSDO", "TSD", "quantity",
)  # fmt: skip
PARTS = ("psrType", "fuelType", "bmUnit", "nationalGridBmUnit", "interconnectorName")  # of generation, not of demand
PUBLISHED, STARTS = ("publishTime", "Publish Time"), ("startTime", "Start Time")
ACTUAL, DATASET = "FORECAST_ACTUAL_INDICATOR", "dataset"
FORECASTS = ("NDF", "NDFD", "NDFW", "TSDF", "TSDFD", "TSDFW", "DATL", "LOLPDRM")
ZERO = ("0", "0.0")
KEY = "GB"


def _demand(table: Table, options: Options, name: str) -> Meaning | None:
    date, period = table.place(*DATES), table.place(*PERIODS)
    if date is None or period is None:
        return None
    found = [table.place(wanted) for wanted in options.value_column] or [table.place(*VALUES)]
    values = [place for place in found if place is not None]
    if len(values) < len(found) or any(table.place(part) is not None for part in PARTS):
        got = f"no demand, only {', '.join(table.header)[:160]}"
        raise PayloadInvalid.of("header", got, f"one of {', '.join(VALUES)}")
    published = table.place(*PUBLISHED)
    _require_outturn(table, published, table.place(*STARTS))
    indicator = table.place(ACTUAL)
    table, facts = without(table, indicator, ("F",), "forecasts")
    blanked = {}
    for place in values:
        texts = table.texts(place)
        zeros = sum(text.strip() in ZERO for text in texts)
        if zeros:
            blanked[place] = ["" if text.strip() in ZERO else text for text in texts]
            facts = (*facts, Fact("zeros", f"{zeros} left out", f"{table.header[place]} is never zero"))
    table = exchanged(table, blanked)
    time = TimeColumn(date, Form.DATE_PERIOD, period, Labels.START, LONDON, day_first=True, step=HALF_HOUR)
    measures = tuple(Value(i, KEY if len(values) == 1 else f"{KEY}-{table.header[i]}", "MW", "load") for i in values)
    left_out = others(table, {date, period, published, *values}, "another measure")
    return Meaning(
        BRITISH_DEMAND.name, time, measures, (), published, left_out, facts, days_in=LONDON, table=table
    )  # fmt: skip


def _require_outturn(table: Table, published: int | None, start: int | None) -> None:
    """Refuse a dataset of forecasts, which has the columns of one of outturn."""
    dataset = table.place(DATASET)
    named = set() if dataset is None else {text.strip().upper() for text in table.texts(dataset)} & set(FORECASTS)
    if named:
        raise PayloadInvalid.of(DATASET, ", ".join(sorted(named)), "outturn (INDO, ITSDO, ATL): these are forecasts")
    if published is None or start is None:
        return
    told, begins = (read_times(table.texts(p), table.header[p], habit=True) for p in (published, start))
    early = told.instants < begins.instants
    if len(early) and np.mean(early) > 0.5:
        got = f"{table.texts(published)[int(np.argmax(early))]!r}, before the half hour it speaks of"
        raise PayloadInvalid.of(table.header[published], got, "outturn: values published earlier are forecasts")


BRITISH_DEMAND = Layout("NESO and Elexon demand", "SETTLEMENT_DATE,SETTLEMENT_PERIOD,ND", _demand)
