"""Hourly load files: labels to instants around every clock change, repetitions, problems, and the public files."""

from __future__ import annotations

import gzip
import os
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kappawatt.datasets.layouts.pjm import PJM_ZONE
from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import HOUR, Times, as_instant, to_local

DATA = pytest.mark.skipif("KAPPAWATT_DATA" not in os.environ, reason="KAPPAWATT_DATA names no folder of data sets")


def read_load_file(content: bytes, *, key: str = "", name: str = "") -> Found:
    return read_bytes(content, Options(key=key), name=name)


def sunday(year: int, month: int, number: int) -> datetime:
    """The `number`-th Sunday of a month, from 1; the last for -1."""
    days = [datetime(year, month, 1) + timedelta(days=i) for i in range(31)]
    return [day for day in days if day.month == month and day.weekday() == 6][number - 1 if number > 0 else -1]


def clock_changes() -> list[tuple[str, datetime]]:
    """Both US clock changes of each year, by the rules of their time."""
    found = []
    for year in range(2002, 2031):
        old = year < 2007  # Energy Policy Act of 2005: longer daylight saving from 2007 on
        found.append(("spring", sunday(year, 4, 1) if old else sunday(year, 3, 2)))
        found.append(("autumn", sunday(year, 10, -1) if old else sunday(year, 11, 1)))
    return found


def day_before_to_day_after(day: datetime) -> Times:
    """All hours of three local days, UTC."""
    zone = ZoneInfo(PJM_ZONE)
    first, last = (day + timedelta(days=d) for d in (-1, 2))
    bounds = [as_instant(str(m.replace(tzinfo=zone).astimezone(ZoneInfo("UTC")).replace(tzinfo=None)))
              for m in (first, last)]  # fmt: skip
    return np.arange(bounds[0], bounds[1], HOUR)


def written(starts: Times, values: list[float], header: str = "Datetime,PJME_MW") -> bytes:
    """A file as PJM's readers write it: local labels at the hour's start plus one hour on the wall."""
    labels = np.datetime_as_string(to_local(starts, PJM_ZONE) + HOUR, unit="s")
    rows = [f"{label.replace('T', ' ')},{value}" for label, value in zip(labels.tolist(), values, strict=True)]
    return "\n".join([header, *rows, ""]).encode()


@pytest.mark.parametrize(
    ("season", "day"), clock_changes(), ids=[f"{day:%Y}_{season}" for season, day in clock_changes()]
)
def test_every_clock_change_goes_round(season: str, day: datetime) -> None:
    starts = day_before_to_day_after(day)
    values = [30_000.0 - 7 * i for i in range(len(starts))]  # falls through the night

    found = read_load_file(written(starts, values))

    assert found.problems == ()
    assert len(starts) == (71 if season == "spring" else 73)
    assert found.series[0].starts.tolist() == starts.tolist()
    assert found.series[0].values.tolist() == values


def autumn_2014(first: float, second: float) -> bytes:
    """The repeated hour's rows in some order, between 23,538 before and 22,789 after, as PJME had them."""
    rows = [("01", 23538.0), ("02", first), ("02", second), ("03", 22789.0)]
    return "\n".join(["Datetime,PJME_MW", *(f"2014-11-02 {h}:00:00,{v}" for h, v in rows)]).encode()


@pytest.mark.parametrize("order", [(23755.0, 22935.0), (22935.0, 23755.0)], ids=["in_order", "swapped"])
def test_the_repeated_hour_keeps_both_loads_in_the_order_that_is_continuous(order: tuple[float, float]) -> None:
    series = read_load_file(autumn_2014(*order)).series[0]

    assert series.starts.tolist() == (as_instant("2014-11-02T04") + np.arange(4) * HOUR).tolist()
    assert series.values.tolist() == [23538.0, 23755.0, 22935.0, 22789.0]


def test_without_neighbours_the_repeated_hour_keeps_the_order_of_the_file() -> None:
    content = b"Datetime,PJME_MW\n2014-11-02 02:00:00,5\n2014-11-02 02:00:00,9\n"

    assert read_load_file(content).series[0].values.tolist() == [5.0, 9.0]


def test_equal_loads_of_the_repeated_hour_are_two_hours() -> None:
    assert read_load_file(autumn_2014(23000.0, 23000.0)).series[0].values.tolist() == [23538, 23000, 23000, 22789]


def test_a_file_pasted_twice_says_nothing_new() -> None:
    once = autumn_2014(22935.0, 23755.0)
    twice = once + b"\n" + once.partition(b"\n")[2]

    found = read_load_file(twice)

    assert found.problems == ()
    assert found.series[0].values.tolist() == read_load_file(once).series[0].values.tolist()


def test_one_row_of_the_repeated_hour_is_its_first() -> None:
    content = b"Datetime,PJME_MW\n2013-11-03 01:00:00,3\n2013-11-03 02:00:00,2\n2013-11-03 03:00:00,1\n"

    starts = read_load_file(content).series[0].starts

    assert starts.tolist() == [as_instant(f"2013-11-03T{h}").item() for h in ("04", "05", "07")]


def test_an_absent_label_in_autumn_is_two_missing_hours() -> None:
    content = b"Datetime,PJME_MW\n2013-11-03 01:00:00,22226\n2013-11-03 03:00:00,20465\n"

    starts = read_load_file(content).series[0].starts

    assert (starts[1] - starts[0]) / HOUR == 3


def test_an_hour_that_the_clock_skips_is_a_problem() -> None:
    found = read_load_file(b"Datetime,PJME_MW\n2014-03-09 02:00:00,2\n2014-03-09 03:00:00,9\n2014-03-09 04:00:00,1\n")

    assert found.series[0].starts.tolist() == [as_instant(f"2014-03-09T0{h}").item() for h in (6, 7)]
    assert [p.message for p in found.problems] == [
        "line 3: Datetime: got '2014-03-09 03:00:00', allowed no time that the clock of America/New_York skips"
    ]


def test_another_value_for_an_hour_counts_last_and_is_named() -> None:
    content = b"Datetime,PJME_MW\n2014-05-01 02:00:00,1\n2014-05-01 02:00:00,2\n2014-05-01 02:00:00,2\n"

    found = read_load_file(content)

    assert found.series[0].values.tolist() == [2.0]
    assert [p.message for p in found.problems] == [
        "line 2: PJME_MW: got '1', allowed 2, as line 4 says of the same interval"
    ]


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Datetime,PJME_MW", "PJME"),
        ("datetime,pjme_mw", "PJME"),
        ("date,AEP_MW", "AEP"),
        ("DATETIME, DAYTON_MW", "DAYTON"),
    ],
)
def test_headers_of_all_public_copies_are_known(header: str, key: str) -> None:
    content = f"{header}\r\n2014-05-01 02:00:00,1\r\n".encode()

    found = read_load_file(gzip.compress(b"\xef\xbb\xbf" + content))

    assert found.series[0].key == key


def test_a_copy_without_a_zone_takes_the_name_of_its_file() -> None:
    content = b"ds,y\n2014-05-01 02:00:00,1\n"

    assert read_load_file(content, name="PJME_hourly_to2016.csv.gz").series[0].key == "PJME"
    with pytest.raises(PayloadInvalid, match="--time-zone"):  # whose clock, if it is not PJM's?
        read_load_file(content, name="mine.csv")


def test_temperature_goes_with_its_hour_and_a_blank_load_is_to_come() -> None:
    content = b"Datetime,PJME_MW,temperature\n2014-05-01 03:00,,8.5\n2014-05-01 02:00,5,\n"

    series = read_load_file(content).series[0]

    np.testing.assert_array_equal(series.values, [5, np.nan])
    np.testing.assert_array_equal(series.covariates["temperature"], [np.nan, 8.5])


def test_several_zones_are_as_many_series() -> None:
    found = read_load_file(b"Datetime,AEP_MW,DAYTON_MW\n2014-05-01 02:00:00,1,2\n")

    assert [(s.key, s.values.tolist()) for s in found.series] == [("AEP", [1.0]), ("DAYTON", [2.0])]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2014-05-32 02:00:00,1", "Datetime: got '2014-05-32 02:00:00', allowed a day and time that there are"),
        ("2014-05-01 02:30:00,1", "Datetime: got '2014-05-01 02:30:00', allowed whole intervals of 60 min"),
        ("soon,1", "Datetime: got 'soon'"),
        ("2014-05-01 02:00:00,much", "PJME_MW: got 'much', allowed a number, or nothing"),
        ("2014-05-01 02:00:00,2e6", "PJME_MW: got '2e6', allowed a number from -1e+06 to 1e+06 MW, or nothing"),
        ("2014-05-01 02:00:00", "row: got '2014-05-01 02:00:00', allowed 2 values"),
    ],
)
def test_what_cannot_be_read_is_named_by_line_and_the_rest_is_read(row: str, message: str) -> None:
    found = read_load_file(f"Datetime,PJME_MW\n\n{row}\n2014-05-01 05:00:00,1\n2014-05-01 06:00:00,1\n".encode())

    assert found.series[0].values.tolist() == [1.0, 1.0]
    assert len(found.problems) == 1
    assert found.problems[0].message.startswith(f"line 3: {message}")


@pytest.mark.parametrize("content", [b"", b"AT,V,AP,RH\n1,2,3,4\n", b"\xff\xfe", b"\x1f\x8bno"])
def test_what_is_no_load_file_says_so(content: bytes) -> None:
    with pytest.raises(PayloadInvalid):
        read_load_file(content)


@DATA
@pytest.mark.parametrize(
    ("zone", "hours", "missing"),
    # Of the README's missing labels those of spring never were, and each of autumn up to 2013 is two hours.
    [("PJME", 131_470, 12 * 2 + 1), ("AEP", 107_377, 10 * 2 + 3), ("DAYTON", 107_379, 10 * 2 + 1)],
)
def test_the_public_files_are_read_whole(zone: str, hours: int, missing: int) -> None:
    content = (Path(os.environ["KAPPAWATT_DATA"]) / "pjm_load" / f"{zone}_hourly_to2016.csv.gz").read_bytes()

    found = read_load_file(content)

    starts = found.series[0].starts
    assert found.problems == ()
    assert len(starts) == hours
    assert (np.diff(starts) > np.timedelta64(0)).all()
    assert int((starts[-1] - starts[0]) / HOUR) + 1 - len(starts) == missing
    assert str(starts[-1]) == "2017-01-01T03:00:00.000"


@DATA
@pytest.mark.parametrize("zone", ["PJME", "AEP", "DAYTON"])
def test_the_load_falls_through_the_repeated_hours(zone: str) -> None:
    content = (Path(os.environ["KAPPAWATT_DATA"]) / "pjm_load" / f"{zone}_hourly_to2016.csv.gz").read_bytes()
    series = read_load_file(content).series[0]

    for change in ("2014-11-02T05", "2015-11-01T05", "2016-11-06T05"):
        at = int(np.searchsorted(series.starts, as_instant(change)))
        assert series.values[at] > series.values[at + 1] > series.values[at + 2]
