"""Example queries. Each runs as it stands on DuckDB and on PostgreSQL; hours and days are in UTC."""

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

QUERIES = (
    Query("error-by-temperature", "Error by ambient temperature, in bins of 2 degC", ERROR_BY_TEMPERATURE),
    Query("worst-hours", "The twenty hours with the largest mean error", WORST_HOURS),
    Query("coverage-by-day", "How often the 90 % interval holds the measured power, by day", COVERAGE_BY_DAY),
    Query("rejections-by-reason", "What was refused, by reason and field", REJECTIONS_BY_REASON),
)
