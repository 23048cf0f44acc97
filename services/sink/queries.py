"""Example queries. Each runs as it stands on DuckDB and on PostgreSQL.

Hours and days are in UTC; those of forecasts are the series' own local ones.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QUERIES", "Query"]


@dataclass(frozen=True, slots=True)
class Query:
    """One query: its name in URLs, its title for people, its SQL."""

    name: str
    title: str
    sql: str


ERROR_BY_TEMPERATURE = """\
SELECT version,
       floor(ambient_temperature / 2) * 2 AS from_degc,
       floor(ambient_temperature / 2) * 2 + 2 AS to_degc,
       count(*) AS n,
       avg(abs_error) AS mae_mw,
       avg(error) AS bias_mw
FROM scored
GROUP BY 1, 2, 3
ORDER BY 1, 2"""

WORST_HOURS = """\
SELECT date_trunc('hour', event_time AT TIME ZONE 'UTC') AS hour,
       plant,
       version,
       count(*) AS n,
       avg(abs_error) AS mae_mw,
       avg(error) AS bias_mw,
       max(abs_error) AS largest_mw,
       avg(ambient_temperature) AS ambient_temperature
FROM scored
GROUP BY 1, 2, 3
ORDER BY 5 DESC, 1, 2, 3
LIMIT 20"""

COVERAGE_BY_DAY = """\
SELECT CAST(event_time AT TIME ZONE 'UTC' AS DATE) AS day,
       version,
       count(*) AS n,
       avg(CASE WHEN measured BETWEEN net_power_lower AND net_power_upper THEN 1.0 ELSE 0.0 END) AS coverage,
       avg(net_power_upper - net_power_lower) AS mean_width_mw
FROM scored
GROUP BY 1, 2
ORDER BY 1, 2"""

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
       series,
       unit,
       {SCORES},
       avg(forecast_upper - forecast_lower) AS width_90,
       sum(CASE WHEN fallback THEN 1 ELSE 0 END) AS fallbacks
FROM scored_forecasts
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3"""  # noqa: S608 (our own words)

FORECASTS_BY_HOUR = f"""\
SELECT model,
       series,
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
       series,
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
    Query("error-by-temperature", "Error by ambient temperature, in bins of 2 degC", ERROR_BY_TEMPERATURE),
    Query("worst-hours", "The twenty hours with the largest mean error", WORST_HOURS),
    Query("coverage-by-day", "How often the 90 % interval holds the measured power, by day", COVERAGE_BY_DAY),
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
