"""Load: the hourly mean load of a zone as it is metered, and its forecast."""

from __future__ import annotations

from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.streams.series import AVAILABLE_AT, INTERVAL_START, ISSUE_TIME, TIME_ZONE, forecast_schema

__all__ = ["FORECAST", "LOAD", "LOAD_ZONE", "READING", "TEMPERATURE"]

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
    "mean load of the hour; absent in rows that are to be forecast",
    minimum=-1_000_000,
    maximum=1_000_000,
    column="load",
    required=False,
    example=32_187.0,
)
TEMPERATURE = Field(
    "temperature",
    "degC",
    "air temperature, measured or, for hours to come, forecast",
    minimum=-80,
    maximum=65,
    column="temperature",
    required=False,
    example=21.5,
)

READING = Schema(
    "LoadReading",
    "One hour of a load zone: its load, or what is known of an hour to come. In a request, rows with a load are the "
    "history and rows without one are forecast.",
    (LOAD_ZONE, INTERVAL_START, LOAD, TEMPERATURE, AVAILABLE_AT, TIME_ZONE, ISSUE_TIME),
)
FORECAST = forecast_schema(
    "LoadForecast",
    "The load a model expects in one hour, with quantiles; null in rows that are history.",
    LOAD,
)
