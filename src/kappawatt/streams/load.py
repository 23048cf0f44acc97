"""Load: the mean load of a zone as it is metered, by the hour or finer, and its forecast."""

from __future__ import annotations

from dataclasses import replace

from kappawatt.bus.topic import DAY, Topic
from kappawatt.columns.schema import Family, Field, Kind, Schema
from kappawatt.forecasting.suspects import CONTINUOUS
from kappawatt.streams import rules
from kappawatt.streams.series import (
    AVAILABLE_AT,
    CONFIRMED_UNTIL,
    HOLIDAYS,
    INTERVAL_START,
    ISSUE_TIME,
    TIME_ZONE,
    WEATHER_ISSUE_TIME,
    forecast_schema,
    interval_seconds,
)
from kappawatt.streams.stream import NAME_OR_PART, Demo, Key, Stream, View

__all__ = [
    "FORECAST",
    "LOAD",
    "LOAD_ERRORS",
    "LOAD_FORECASTS",
    "LOAD_READINGS",
    "LOAD_ZONE",
    "READING",
    "STREAM",
    "TEMPERATURE",
    "WEATHER",
]

LOAD_ZONE = Field(
    "load_zone",
    "",
    "name of the load zone; on the bus the message key stands in for it",
    kind=Kind.TEXT,
    required=False,
    example="PJME",
)
LOAD = Field(
    "load",
    "MW",
    "mean load of the interval; absent in rows that are to be forecast",
    minimum=-1_000_000,
    maximum=1_000_000,
    column="load",
    required=False,
    example=32_187.0,
)
TEMPERATURE = Field(
    "temperature",
    "degC",
    "air temperature, measured or, for intervals to come, forecast",
    minimum=-80,
    maximum=65,
    column="temperature",
    required=False,
    example=21.5,
)

WEATHER = (  # one column a station, as files have them; a model takes those that it was trained with
    Family(replace(TEMPERATURE, meaning="air temperature at one of several stations"), bare=False),
    Family(Field("relative_humidity", "%", "relative humidity of the air at 2 m", minimum=0, maximum=100)),
    Family(Field("wind_speed", "m/s", "wind speed at 10 m", minimum=0, maximum=120)),
    Family(Field("cloud_cover", "%", "share of the sky in cloud", minimum=0, maximum=100)),
    Family(
        Field(
            "global_horizontal_irradiance",
            "W/m2",
            "mean global irradiance of the interval on level ground",
            minimum=0,
            maximum=2_000,
        )
    ),
    Family(Field("covariate", "", "any other number that may tell of the load, in a unit of its sender's"), bare=False),
)

STEPS = (300, 900, 1800, 3600)  # s
LENGTH = interval_seconds(STEPS, example=3600)

READING = Schema(
    "LoadReading",
    "One interval of a load zone: its load, or what is known of one to come. In a request, rows with a load are the "
    "history and rows without one are forecast.",
    (
        LOAD_ZONE,
        INTERVAL_START,
        LOAD,
        TEMPERATURE,
        AVAILABLE_AT,
        CONFIRMED_UNTIL,
        TIME_ZONE,
        HOLIDAYS,
        LENGTH,
        ISSUE_TIME,
        WEATHER_ISSUE_TIME,
    ),
    WEATHER,
)
FORECAST = forecast_schema(
    "LoadForecast",
    "The load a model expects in one interval, with quantiles; null in rows that are history.",
    LOAD,
)

LOAD_READINGS = Topic(
    "load.readings",
    "load_zone",
    READING,
    4,
    1_300 * DAY,  # a forecast looks back on three years
    ("sensor-ingestor",),
    ("hourly-load", "sink", "gateway"),
    "load of zones as it is metered, interval by interval, late and corrected ones too, and weather known ahead",
)
LOAD_FORECASTS = Topic(
    "load.forecasts",
    "load_zone",
    None,
    4,
    90 * DAY,
    ("hourly-load",),
    ("gateway", "sink"),
    "the next day's load in quantiles, one document a zone and issue time, and corrections",
)
LOAD_ERRORS = Topic(
    "load.forecast-errors",
    "load_zone",
    None,
    4,
    90 * DAY,
    ("hourly-load",),
    ("gateway", "sink"),
    "what became of each forecast interval once its load was metered",
)

STREAM = Stream(
    name="load",
    service="hourly-load",
    title="an interval of a load zone",
    key=Key(LOAD_ZONE.name, "load zone", "PJME", NAME_OR_PART),
    target=LOAD.name,
    readings=LOAD_READINGS,
    answers=LOAD_FORECASTS,
    errors=LOAD_ERRORS,
    path="load",
    rules=(*rules.OF_SERIES, rules.is_known_once_issued),
    values=(LOAD.name, TEMPERATURE.name),
    steps=STEPS,
    suspect_rules=CONTINUOUS,
    usual_step=3600,  # rows of hours need not say so
    time_zone="America/New_York",
    files="kappawatt.datasets.layouts.load:LAYOUTS",
    view=View("Load", kept_answers=20, kept_errors=2_000),  # ten days, noon and midnight
    demo=Demo("kappawatt.datasets.named:load_zones", history_days=62 * 7),
    order=2,
)
