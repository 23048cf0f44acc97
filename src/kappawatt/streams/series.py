"""What readings of any measured series have in common, and the shape of a forecast of one."""

from __future__ import annotations

from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.forecasting import holidays
from kappawatt.forecasting.fan import LEVELS, level_name
from kappawatt.forecasting.grid import CONFIRMED

__all__ = [
    "AVAILABLE_AT",
    "CONFIRMED_UNTIL",
    "HOLIDAYS",
    "INTERVAL_SECONDS",
    "INTERVAL_START",
    "ISSUE_TIME",
    "TIME_ZONE",
    "WEATHER_ISSUE_TIME",
    "forecast_schema",
    "interval_seconds",
]

INTERVAL_SECONDS = "interval_seconds"  # field of streams that know several lengths

INTERVAL_START = Field(
    "interval_start",
    "",
    "when the interval begins",
    kind=Kind.TIMESTAMP,
    finest="ms",
    column="interval_start",
    example="2016-07-01T04:00:00Z",
)
AVAILABLE_AT = Field(
    "available_at",
    "",
    "when the values of this row became known; the end of the interval if absent, the time of arrival if that is later",
    kind=Kind.TIMESTAMP,
    finest="ms",
    required=False,
)
CONFIRMED_UNTIL = Field(
    CONFIRMED,
    "",
    "end of a span whose values, from interval_start on and as they are known by then, were real: they are not suspect",
    kind=Kind.TIMESTAMP,
    finest="ms",
    required=False,
)
WEATHER_ISSUE_TIME = Field(
    "weather_issue_time",
    "",
    "when the weather forecast in this row was issued, as its publisher says; it is not known before, and from "
    "available_at on if that is later",
    kind=Kind.TIMESTAMP,
    finest="ms",
    required=False,
)
TIME_ZONE = Field(
    "time_zone",
    "",
    "IANA name of the series' time zone, such as America/New_York; the model's own if absent",
    kind=Kind.TEXT,
    required=False,
)
HOLIDAYS = Field(
    holidays.HOLIDAYS,
    "",
    "whose public holidays the series has, DE or DE-BY, or none; those of the time zone's country if absent",
    kind=Kind.TEXT,
    required=False,
)
ISSUE_TIME = Field(
    "issue_time",
    "",
    "in requests: forecast as if it were that time; nothing known later is used",
    kind=Kind.TIMESTAMP,
    finest="ms",
    required=False,
)


def interval_seconds(steps: tuple[int, ...], example: int) -> Field:
    """Return the field in which a row says how long its interval is.

    Parameters
    ----------
    steps : tuple of int
        Lengths that the stream knows [s], several.
    example : int
    """
    *most, last = sorted(steps)
    return Field(
        INTERVAL_SECONDS,
        "s",
        f"length of the interval, {', '.join(map(str, most))} or {last}; what the rows show if absent",
        minimum=min(steps),
        maximum=max(steps),
        required=False,
        example=example,
    )


def forecast_schema(
    name: str,
    meaning: str,
    target: Field,
    day_figures: tuple[Field, ...] = (),
    levels: tuple[float, ...] = LEVELS,
) -> Schema:
    """Return the schema of one forecast interval.

    Parameters
    ----------
    target : Field
        The measured quantity; the response field of its name is the point forecast, the median.
    day_figures : tuple of Field
        Figures of the whole target day; each comes with its median, and `_lower` and `_upper` at the outer levels.
    levels : tuple of float
        Quantile levels, rising, those of the forecaster.
    """

    def number(name: str, unit: str, meaning: str, example: object) -> Field:
        return Field(name, unit, meaning, required=False, example=example)  # null in rows that are history

    point = number(target.name, target.unit, "point forecast: the median", target.example)
    quantiles = [number(level_name(q), target.unit, f"quantile {q:g}", target.example) for q in levels]
    figures = [
        number(f.name + end, f.unit, f.meaning + says, f.example)
        for f in day_figures
        for end, says in (
            ("", ", median"),
            ("_lower", f", quantile {levels[0]:g}"),
            ("_upper", f", quantile {levels[-1]:g}"),
        )
    ]
    filled = number("filled", "", "intervals of the history that were missing and filled (docs/forecasts.md)", 0)
    lead_time = number(
        "lead_time_hours", "h", "from the newest trusted value to the end of the interval: 1 of the next hour", 13.0
    )
    suspect = number("suspect", "", "suspect measurements, taken for missing", 0)
    fallback = Field(
        "fallback",
        "",
        "true: not the model's but the seasonal naive, the same local time a week before",
        kind=Kind.BOOLEAN,
        example=False,
    )
    return Schema(name, meaning, (point, *quantiles, *figures, lead_time, filled, suspect, fallback))
