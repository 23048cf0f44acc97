"""The tables people query. DDL and every statement that writes are made from here, for both databases.

On the way in a row is in columns: text as object arrays (None is NULL), numbers as float64 (NaN is NULL),
times as datetime64[ms] in UTC (NaT is NULL). Ids are the coordinates of the message a row came from, or made from the
forecast's own, so a row that is landed twice lands in the same place.
"""

from __future__ import annotations

from kappawatt.forecasting.fan import LEVELS, level_name
from kappawatt.store.table import Column, Table, Type

__all__ = [
    "FORECASTS",
    "FORECAST_DAYS",
    "FORECAST_ERRORS",
    "LOAD_READINGS",
    "METER_READINGS",
    "PREDICTIONS",
    "READINGS",
    "REJECTIONS",
    "TABLES",
    "VIEWS",
]


ORIGIN = (
    Column("source_topic", Type.TEXT),
    Column("source_partition", Type.INTEGER),
    Column("source_offset", Type.BIGINT),
    Column("source_row", Type.INTEGER),
)
COORDINATES = " || '-' || ".join(
    [
        "source_topic",
        *(f"CAST({name} AS TEXT)" for name in ("source_partition", "source_offset", "source_row")),
    ]
)

READINGS = Table(
    "readings",
    (
        Column("id", Type.TEXT),
        Column("plant", Type.TEXT),
        Column("event_time", Type.TIME),
        Column("ambient_temperature", Type.NUMBER),
        Column("exhaust_vacuum", Type.NUMBER),
        Column("ambient_pressure", Type.NUMBER),
        Column("relative_humidity", Type.NUMBER),
        Column("net_power", Type.NUMBER),
        Column("published", Type.TIME),
        *ORIGIN,
    ),
    COORDINATES,
)
PREDICTIONS = Table(
    "predictions",
    (
        Column("id", Type.TEXT),
        Column("plant", Type.TEXT),
        Column("event_time", Type.TIME),
        Column("net_power", Type.NUMBER),
        Column("net_power_lower", Type.NUMBER),
        Column("net_power_upper", Type.NUMBER),
        Column("extrapolated", Type.BOOLEAN),
        Column("model", Type.TEXT),
        Column("version", Type.TEXT),
        Column("published", Type.TIME),
        Column("topic", Type.TEXT),
        *ORIGIN,
    ),
    f"{COORDINATES} || '@' || version",
)
REJECTIONS = Table(
    "rejections",
    (
        Column("id", Type.TEXT),
        Column("plant", Type.TEXT),
        Column("reason", Type.TEXT),
        Column("field", Type.TEXT),
        Column("got", Type.TEXT),
        Column("allowed", Type.TEXT),
        Column("message", Type.TEXT),
        Column("rejected_rows", Type.BIGINT),
        Column("errors", Type.TEXT),
        Column("arrived", Type.TIME),
        Column("published", Type.TIME),
        Column("content_type", Type.TEXT),
        Column("model", Type.TEXT),
        Column("version", Type.TEXT),
        Column("original", Type.TEXT),
        *ORIGIN[:3],
    ),
)
LOAD_READINGS = Table(
    "load_readings",
    (
        Column("id", Type.TEXT),
        Column("load_zone", Type.TEXT),
        Column("interval_start", Type.TIME),
        Column("load", Type.NUMBER),
        Column("temperature", Type.NUMBER),
        Column("available_at", Type.TIME),
        Column("time_zone", Type.TEXT),
        Column("published", Type.TIME),
        *ORIGIN,
    ),
    COORDINATES,
)
METER_READINGS = Table(
    "meter_readings",
    (
        Column("id", Type.TEXT),
        Column("meter_id", Type.TEXT),
        Column("interval_start", Type.TIME),
        Column("interval_seconds", Type.NUMBER),
        Column("consumption", Type.NUMBER),
        Column("available_at", Type.TIME),
        Column("time_zone", Type.TEXT),
        Column("published", Type.TIME),
        *ORIGIN,
    ),
    COORDINATES,
)
QUANTILES = tuple(Column(level_name(level), Type.NUMBER) for level in LEVELS)
ISSUED = (
    Column("forecast_id", Type.TEXT),
    Column("series", Type.TEXT),
    Column("issue_time", Type.TIME),
    Column("known_at", Type.TIME),
    Column("corrected", Type.BOOLEAN),
    Column("time_zone", Type.TEXT),
)
MADE_BY = (
    Column("filled", Type.BIGINT),
    Column("fallback", Type.BOOLEAN),
    Column("fallback_reason", Type.TEXT),
    Column("model", Type.TEXT),
    Column("version", Type.TEXT),
    Column("published", Type.TIME),
    Column("topic", Type.TEXT),
    *ORIGIN[:3],
)
# One row an interval, with every quantile: SQL then needs no JSON, and 25 to 100 rows a day and series are few.
FORECASTS = Table(
    "forecasts",
    (
        Column("id", Type.TEXT),
        *ISSUED,
        Column("step_seconds", Type.BIGINT),
        Column("target_time", Type.TIME),
        Column("target", Type.TEXT),
        Column("unit", Type.TEXT),
        *QUANTILES,
        *MADE_BY,
    ),
)
FORECAST_DAYS = Table(
    "forecast_days",
    (Column("id", Type.TEXT), *ISSUED, Column("figure", Type.TEXT), Column("unit", Type.TEXT), *QUANTILES, *MADE_BY),
)
FORECAST_ERRORS = Table(
    "forecast_errors",
    (
        Column("id", Type.TEXT),
        Column("series", Type.TEXT),
        Column("issue_time", Type.TIME),
        Column("known_at", Type.TIME),
        Column("target_time", Type.TIME),
        Column("measured", Type.NUMBER),
        Column("forecast", Type.NUMBER),
        Column("error", Type.NUMBER),
        Column("naive", Type.NUMBER),
        Column("naive_error", Type.NUMBER),
        Column("forecast_lower", Type.NUMBER),
        Column("forecast_upper", Type.NUMBER),
        Column("covered", Type.BOOLEAN),
        Column("crps", Type.NUMBER),
        Column("fallback", Type.BOOLEAN),
        Column("model", Type.TEXT),
        Column("version", Type.TEXT),
        Column("published", Type.TIME),
        Column("topic", Type.TEXT),
        *ORIGIN[:3],
    ),
)
TABLES = (
    READINGS,
    PREDICTIONS,
    REJECTIONS,
    LOAD_READINGS,
    METER_READINGS,
    FORECASTS,
    FORECAST_DAYS,
    FORECAST_ERRORS,
)

SCORED = """\
SELECT p.id, p.plant, p.event_time, r.ambient_temperature, r.exhaust_vacuum, r.ambient_pressure,
       r.relative_humidity, r.net_power AS measured, p.net_power AS predicted, p.net_power_lower,
       p.net_power_upper, p.extrapolated, p.net_power - r.net_power AS error,
       abs(p.net_power - r.net_power) AS abs_error, p.model, p.version, p.topic, p.published
FROM predictions p
JOIN readings r ON r.source_partition = p.source_partition AND r.source_offset = p.source_offset
     AND r.source_row = p.source_row AND r.source_topic = p.source_topic
WHERE r.net_power IS NOT NULL"""

# The local hour and day of an interval come from the forecast it is an interval of: errors have its id.
SCORED_FORECASTS = """\
SELECT e.id, e.series, e.issue_time, e.known_at, e.target_time, f.time_zone, f.target, f.unit,
       e.target_time AT TIME ZONE f.time_zone AS local_time,
       CAST(extract(epoch FROM e.target_time - e.issue_time) / 3600 AS DOUBLE PRECISION) AS lead_hours,
       e.measured, e.forecast, e.error, abs(e.error) AS abs_error, e.naive, abs(e.naive_error) AS naive_abs_error,
       e.forecast_lower, e.forecast_upper, e.covered, e.crps, e.fallback, f.corrected, e.model, e.version,
       e.published
FROM forecast_errors e
JOIN forecasts f ON f.id = e.id"""
VIEWS = {"scored": SCORED, "scored_forecasts": SCORED_FORECASTS}
