"""Meter: the energy a smart meter counted in an interval, and its forecast."""

from __future__ import annotations

from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.streams.series import AVAILABLE_AT, INTERVAL_START, ISSUE_TIME, TIME_ZONE, forecast_schema

__all__ = ["CONSUMPTION", "DAY_FIGURES", "FORECAST", "METER_ID", "READING"]

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
INTERVAL_SECONDS = Field(
    "interval_seconds",
    "s",
    "length of the interval, 900 or 1800; what the rows show if absent",
    minimum=900,
    maximum=1800,
    required=False,
    example=900,
)

READING = Schema(
    "MeterReading",
    "One interval of a smart meter. In a request, rows with a consumption are the history and rows without one are "
    "forecast.",
    (METER_ID, INTERVAL_START, CONSUMPTION, AVAILABLE_AT, TIME_ZONE, INTERVAL_SECONDS, ISSUE_TIME),
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
