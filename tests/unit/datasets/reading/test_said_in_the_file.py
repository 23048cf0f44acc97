"""What a file says of its clock, unit and labels beside the table: used and said, or refused with both sides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from math import sin
from zoneinfo import ZoneInfo

import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime(2024, 6, 2, 22, tzinfo=UTC)  # midnight in Berlin
LOADS = [round(640 + 90 * sin(i / 4), 1) for i in range(24 * 9)]


def rows(clock: tzinfo = BERLIN, minutes: int = 60) -> list[str]:
    """A load from midnight in Berlin on, labelled by the start on a clock."""
    starts = [FIRST + timedelta(minutes=minutes * i) for i in range(len(LOADS))]
    return [f"{s.astimezone(clock):%Y-%m-%d %H:%M};{v}" for s, v in zip(starts, LOADS, strict=True)]


def read(lines: list[str], **said: str) -> Found:
    options = Options.of({"time_zone": "Europe/Berlin", "labels": "start", **said})
    return read_bytes("\n".join(lines).encode(), options, name="valley.csv")


def first_of(found: Found) -> datetime:
    return datetime.fromisoformat(f"{found.series[0].starts[0]}+00:00")


def texts(found: Found) -> str:
    return "\n".join(f"{fact.name}: {fact.value} ({fact.because})" for fact in found.facts)


@pytest.mark.parametrize("name", ["utcTime", "TimeUTC", "ts (Z)", "Time [UTC]", "utc_timestamp", "Zeit UTC", "dt_gmt"])
def test_a_name_of_a_column_in_utc_is_believed(name: str) -> None:
    assert first_of(read([f"{name};load_mw", *rows(UTC)])) == FIRST


@pytest.mark.parametrize(
    ("name", "hours"),
    [("Time (UTC+01:00)", 1.0), ("t [GMT-3]", -3.0), ("ts (+05:30)", 5.5), ("Zeit UTC+2", 2.0), ("Time (UTC+0100)", 1)],
)
def test_an_offset_in_a_columns_name_is_its_clock(name: str, hours: float) -> None:
    clock = timezone(timedelta(hours=hours))

    assert first_of(read([f"{name};load_mw", *rows(clock)])) == FIRST


@pytest.mark.parametrize(
    "name", ["Zeit (Winterzeit)", "Standard Time", "Normalzeit", "time_cet", "Time MEZ", "Time (UTC+03:30)"]
)
def test_a_clock_in_a_columns_name_that_the_zone_contradicts_is_refused(name: str) -> None:
    with pytest.raises(PayloadInvalid, match=r"--clock UTC\+0\d:\d0 or --clock Europe/Berlin") as caught:
        read([f"{name};load_mw", *rows(timezone(timedelta(hours=1)))])
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["Sommer-/Winterzeit", "time_cet_cest", "Time (UTC+1/+2)", "Zeit (Sommerzeit)"])
def test_a_name_that_tells_both_halves_of_the_year_or_the_right_one_is_the_zones_clock(name: str) -> None:
    assert first_of(read([f"{name};load_mw", *rows()])) == FIRST
