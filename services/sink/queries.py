"""Example queries, made from the streams there are. Each runs as it stands on DuckDB and on PostgreSQL.

Hours and days are in UTC; those of forecasts are the series' own local ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kappawatt.columns.schema import Kind
from kappawatt.streams.stream import Bins, Stream
from kappawatt.streams.table import STREAMS

from .tables import LAYOUT

__all__ = ["QUERIES", "Query"]


@dataclass(frozen=True, slots=True)
class Query:
    """One query: its name in URLs, its title for people, its SQL."""

    name: str
    title: str
    sql: str


def _of_predictions(stream: Stream) -> Iterator[Query]:
    """The queries on the view of a stream's predictions of a number."""
    view = stream.scored_name
    target = stream.target
    if view not in {made.name for made in LAYOUT.views} or stream.answer.field(target).kind is not Kind.NUMBER:
        return
    before = view.removesuffix("scored").replace("_", "-")
    unit = _suffix(stream.answer.field(target).unit)
    for bins in stream.error_by:
        name = f"{before}error-by-{bins.name or bins.field.replace('_', '-')}"
        field = stream.schema.field(bins.field)
        title = f"Error by {field.name.replace('_', ' ')}, in bins of {bins.width:g} {field.unit}"
        yield Query(name, _title(stream, before, title), _error_by(view, bins, unit, _suffix(field.unit)))
    title = "The twenty hours with the largest mean error"
    yield Query(f"{before}worst-hours", _title(stream, before, title), _worst_hours(view, stream, unit))
    lower, upper = f"{target}_lower", f"{target}_upper"
    if {lower, upper} <= set(stream.answer.names):
        title = f"How often the 90 % interval holds the measured {target.replace('_', ' ')}, by day"
        yield Query(f"{before}coverage-by-day", _title(stream, before, title), _coverage(view, lower, upper, unit))


def _title(stream: Stream, before: str, title: str) -> str:
    return f"{stream.view.title}: {title[0].lower()}{title[1:]}" if before else title


def _suffix(unit: str) -> str:
    """Return a unit as the end of a column's name: `_mw`."""
    word = re.sub(r"\W+", "_", unit.lower().replace("%", "percent")).strip("_")
    return f"_{word}" if word else ""


def _error_by(view: str, bins: Bins, unit: str, bin_unit: str) -> str:
    field, width = f"s.{bins.field}", f"{bins.width:g}"
    return f"""\
SELECT version,
       floor({field} / {width}) * {width} AS from{bin_unit},
       floor({field} / {width}) * {width} + {width} AS to{bin_unit},
       count(*) AS n,
       avg(abs_error) AS mae{unit},
       avg(error) AS bias{unit}
FROM {view} s
GROUP BY 1, 2, 3
ORDER BY 1, 2"""  # noqa: S608 (our own words)


def _worst_hours(view: str, stream: Stream, unit: str) -> str:
    means = [f"avg(s.{bins.field}) AS {bins.field}" for bins in stream.error_by]
    last = ",\n       ".join([f"max(abs_error) AS largest{unit}", *means])
    return f"""\
SELECT date_trunc('hour', event_time AT TIME ZONE 'UTC') AS hour,
       key,
       version,
       count(*) AS n,
       avg(abs_error) AS mae{unit},
       avg(error) AS bias{unit},
       {last}
FROM {view} s
GROUP BY 1, 2, 3
ORDER BY 5 DESC, 1, 2, 3
LIMIT 20"""  # noqa: S608


def _coverage(view: str, lower: str, upper: str, unit: str) -> str:
    return f"""\
SELECT CAST(event_time AT TIME ZONE 'UTC' AS DATE) AS day,
       version,
       count(*) AS n,
       avg(CASE WHEN measured BETWEEN s.{lower} AND s.{upper} THEN 1.0 ELSE 0.0 END) AS coverage,
       avg(s.{upper} - s.{lower}) AS mean_width{unit}
FROM {view} s
GROUP BY 1, 2
ORDER BY 1, 2"""  # noqa: S608


REJECTIONS_BY_REASON = """\
SELECT reason,
       field,
       count(*) AS messages,
       CAST(sum(rejected_rows) AS BIGINT) AS rejected_rows,
       max(published AT TIME ZONE 'UTC') AS latest
FROM rejections
GROUP BY 1, 2
ORDER BY 4 DESC, 1, 2"""

# What every query on forecasts says of a group of intervals. rMAE compares with the seasonal naive where there is one.
SCORES = """\
count(*) AS n,
       avg(abs_error) AS mae,
       avg(error) AS bias,
       100 * avg(abs_error / NULLIF(abs(measured), 0)) AS mape_percent,
       avg(CASE WHEN naive_abs_error IS NOT NULL THEN abs_error END) / NULLIF(avg(naive_abs_error), 0) AS rmae,
       avg(crps) AS crps,
       avg(CASE WHEN covered THEN 1.0 ELSE 0.0 END) AS coverage_90"""

FORECASTS_BY_SERIES = f"""\
SELECT model,
       version,
       key,
       unit,
       {SCORES},
       avg(forecast_upper - forecast_lower) AS width_90,
       sum(CASE WHEN fallback THEN 1 ELSE 0 END) AS fallbacks
FROM scored_forecasts
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3"""  # noqa: S608 (our own words)

FORECASTS_BY_HOUR = f"""\
SELECT model,
       key,
       CAST(extract(hour FROM local_time) AS INTEGER) AS local_hour,
       {SCORES}
FROM scored_forecasts
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3"""  # noqa: S608

FORECASTS_BY_LEAD = f"""\
SELECT model,
       CAST(floor(lead_hours / 6) * 6 AS INTEGER) AS from_hours,
       CAST(floor(lead_hours / 6) * 6 + 6 AS INTEGER) AS to_hours,
       unit,
       {SCORES}
FROM scored_forecasts
GROUP BY 1, 2, 3, 4
ORDER BY 1, 4, 2"""  # noqa: S608

WORST_FORECAST_DAYS = """\
SELECT model,
       key,
       CAST(local_time AS DATE) AS local_day,
       version,
       count(*) AS n,
       avg(abs_error) AS mae,
       avg(abs_error) / NULLIF(avg(abs(measured)), 0) AS share_of_measured,
       avg(error) AS bias,
       avg(naive_abs_error) AS naive_mae,
       avg(CASE WHEN covered THEN 1.0 ELSE 0.0 END) AS coverage_90
FROM scored_forecasts
GROUP BY 1, 2, 3, 4
ORDER BY 7 DESC NULLS LAST, 1, 2, 3, 4
LIMIT 20"""

QUERIES = (
    *(query for stream in STREAMS for query in _of_predictions(stream)),
    Query("rejections-by-reason", "What was refused, by reason and field", REJECTIONS_BY_REASON),
    Query("forecast-error-by-series", "Forecasts against what was measured, by series", FORECASTS_BY_SERIES),
    Query("forecast-error-by-hour", "Forecast error by local hour of the day", FORECASTS_BY_HOUR),
    Query("forecast-error-by-lead", "Forecast error by hours from issue to interval", FORECASTS_BY_LEAD),
    Query(
        "worst-forecast-days",
        "The twenty local days with the largest mean error, as a share of what was measured",
        WORST_FORECAST_DAYS,
    ),
)
