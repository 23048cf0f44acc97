"""The classic endpoint's rows: the calendar of one hour, as the published notebook computes it."""

from __future__ import annotations

from kappawatt.columns.schema import Field, Schema

__all__ = ["CALENDAR_ROW"]


def _field(name: str, meaning: str, minimum: int, maximum: int, example: int) -> Field:
    return Field(name, "", meaning, minimum=minimum, maximum=maximum, column=name, example=example)


CALENDAR_ROW = Schema(
    "CalendarRow",
    "Calendar of one hour, from the local label of its end.",
    (
        _field("hour", "hour of the day", 0, 23, 13),
        _field("day_of_week", "Monday is 0", 0, 6, 4),
        _field("quarter", "quarter of the year", 1, 4, 3),
        _field("month", "month", 1, 12, 8),
        _field("year", "calendar year", 1900, 2200, 2018),
        _field("day_of_year", "day of the year", 1, 366, 215),
        _field("day_of_month", "day of the month", 1, 31, 3),
        _field("week_of_year", "ISO 8601 week", 1, 53, 31),
    ),
)
