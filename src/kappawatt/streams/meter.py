"""Meter: the energy a smart meter counted in an interval, and its forecast."""

from __future__ import annotations

from kappawatt.bus.topic import DAY, Topic
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.streams import rules
from kappawatt.streams.series import (
    AVAILABLE_AT,
    CONFIRMED_UNTIL,
    INTERVAL_START,
    ISSUE_TIME,
    TIME_ZONE,
    forecast_schema,
    interval_seconds,
)
from kappawatt.streams.stream import NAME_OR_PART, Demo, Key, Stream, View

__all__ = [
    "CONSUMPTION",
    "DAY_FIGURES",
    "FORECAST",
    "METER_ERRORS",
    "METER_FORECASTS",
    "METER_ID",
    "METER_READINGS",
    "READING",
    "STREAM",
]

METER_ID = Field(
    "meter_id",
    "",
    "identifier of the meter; on the bus the message key stands in for it",
    kind=Kind.TEXT,
    required=False,
    example="10443720000000001",
)
CONSUMPTION = Field(
    "consumption",
    "kWh",
    "energy of the interval; absent in rows that are to be forecast",
    minimum=0,
    maximum=100_000,
    column="consumption",
    required=False,
    example=0.24,
)
STEPS = (900, 1800, 3600)  # s
LENGTH = interval_seconds(STEPS, example=900)

READING = Schema(
    "MeterReading",
    "One interval of a smart meter. In a request, rows with a consumption are the history and rows without one are "
    "forecast.",
    (METER_ID, INTERVAL_START, CONSUMPTION, AVAILABLE_AT, CONFIRMED_UNTIL, TIME_ZONE, LENGTH, ISSUE_TIME),
)
DAY_FIGURES = (
    Field("daily_consumption", "kWh", "energy of the whole local day", example=22.9),
    Field("daily_peak", "kWh", "largest interval of the local day", example=1.1),
)
FORECAST = forecast_schema(
    "MeterForecast",
    "The energy a model expects in one interval, with quantiles; null in rows that are history.",
    CONSUMPTION,
    DAY_FIGURES,
)

METER_READINGS = Topic(
    "meter.readings",
    "meter_id",
    READING,
    8,
    100 * DAY,
    ("sensor-ingestor",),
    ("smart-meter", "sink", "gateway"),
    "energy smart meters counted, interval by interval, late and revised ones too",
)
METER_FORECASTS = Topic(
    "meter.forecasts",
    "meter_id",
    None,
    8,
    30 * DAY,
    ("smart-meter",),
    ("gateway", "sink"),
    "the next day's energy of a meter in quantiles, with the day's total and peak, and corrections",
)
METER_ERRORS = Topic(
    "meter.forecast-errors",
    "meter_id",
    None,
    8,
    30 * DAY,
    ("smart-meter",),
    ("gateway", "sink"),
    "what became of each forecast interval once it was metered",
)

STREAM = Stream(
    name="meter",
    service="smart-meter",
    title="an interval of a smart meter",
    key=Key(METER_ID.name, "meter", "10443720000000001", NAME_OR_PART),
    target=CONSUMPTION.name,
    readings=METER_READINGS,
    answers=METER_FORECASTS,
    errors=METER_ERRORS,
    path="meters",
    rules=rules.OF_SERIES,
    values=(CONSUMPTION.name,),
    steps=STEPS,
    time_zone="America/Chicago",
    files="kappawatt.datasets.layouts.meter:LAYOUTS",
    view=View(
        "Meters",
        percent=False,
        day_figures=(("daily_consumption", "sum"), ("daily_peak", "max")),
        most_keys=2_000,
        kept_answers=10,
        kept_errors=1_000,
    ),
    demo=Demo("kappawatt.datasets.named:meters", history_days=6 * 7),
    order=3,
)
