"""A column that names the series of rows, and one that only says something of a single series' rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import sin
from zoneinfo import ZoneInfo

import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime(2024, 10, 13, 22, tzinfo=UTC)  # two weeks before the clock goes back
HOURS = [(FIRST + timedelta(hours=i)).astimezone(BERLIN) for i in range(24 * 20 + 1)]
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def load(i: int) -> float:
    return round(720 + 80 * sin(i / 5), 2)


def read(column: str, said: Callable[[datetime], object]) -> Found:
    rows = [f"{hour:%Y-%m-%d %H:%M},{load(i)},{said(hour)}" for i, hour in enumerate(HOURS)]
    text = "\n".join([f"time,load_mw,{column}", *rows])
    return read_bytes(text.encode(), Options.of({"time_zone": "Europe/Berlin"}), name="coast.csv")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("Holiday_ID", lambda hour: 31 if hour.day == 31 else 0),
        ("holiday_name", lambda hour: "Reformation Day" if hour.day == 31 else ""),
        ("weekday_id", lambda hour: hour.weekday()),
        ("season_id", lambda hour: 1 if hour.month < 11 else 2),
        ("day_id", lambda hour: f"{hour:%Y%m%d}"),
        ("batch_id", lambda hour: f"run {hour:%d}"),
        ("hour_id", lambda hour: hour.hour),
        ("name", lambda hour: DAYS[hour.weekday()]),
        ("zone", lambda hour: "high" if 7 <= hour.hour < 21 else "low"),
    ],
)
def test_a_column_that_cuts_one_series_into_parts_is_left_out_and_said(
    column: str, said: Callable[[datetime], object]
) -> None:
    found = read(column, said)

    [series] = found.series
    assert series.values.tolist() == [load(i) for i in range(len(HOURS))]
    assert [one.name for one in found.left_out] == [column]
    assert found.left_out[0].why.startswith("each time comes once")


def test_zones_that_share_their_times_are_series_each() -> None:
    rows = [f"{hour:%Y-%m-%d %H:%M},{zone},{load(i)}" for zone in ("A", "B") for i, hour in enumerate(HOURS)]
    text = "\n".join(["time,zone,load_mw", *rows])

    found = read_bytes(text.encode(), Options.of({"time_zone": "Europe/Berlin"}), name="coast.csv")

    assert [series.key for series in found.series] == ["A", "B"]


def test_of_a_zone_and_a_holiday_the_zone_names_the_series() -> None:
    rows = [
        f"{hour:%Y-%m-%d %H:%M},{int(hour.day == 31)},{zone},{load(i)}"
        for zone in (1, 2)
        for i, hour in enumerate(HOURS)
    ]
    text = "\n".join(["time,holiday_id,zone_id,load_mw", *rows])

    found = read_bytes(text.encode(), Options.of({"time_zone": "Europe/Berlin"}), name="coast.csv")

    assert [series.key for series in found.series] == ["1", "2"]


def test_meters_one_after_the_other_are_series_each() -> None:
    found = read("meter", lambda hour: "A1" if hour.month < 11 else "B2")

    assert [series.key for series in found.series] == ["A1", "B2"]


def test_devices_that_report_in_turn_or_names_in_a_row_are_refused() -> None:
    with pytest.raises(PayloadInvalid, match=r"station: got 'S0' and 'S1', of which no two share a time.*a file for"):
        read("station", lambda hour: f"S{hour.astimezone(UTC).hour % 2}")
    with pytest.raises(PayloadInvalid, match=r"name: got 'old' and 'new', of which no two share a time"):
        read("name", lambda hour: "old" if hour.month < 11 else "new")
