"""Smart meter files: every clock change, every order of rows, revisions, and rows that cannot be read."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kappawatt.datasets.layouts.meters import LONDON_ZONE
from kappawatt.datasets.layouts.smart_meter_texas import STEP as TEXAS_STEP
from kappawatt.datasets.layouts.smart_meter_texas import SURPLUS, TEXAS_ZONE
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times, day_intervals, local_date, to_local

read_smart_meter_texas = read_london = read_meter_file = read_bytes


def newest(series: SeriesFile) -> tuple[Times, NDArray[np.float64]]:
    """Starts and values as their newest revision has them."""
    last = np.append(series.starts[1:] != series.starts[:-1], True)
    return series.starts[last], series.values[last]


HEADER = (
    "ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL,"
    "CONSUMPTION_SURPLUSGENERATION"
)
ESIID = "10443720000000001"
QUARTER = np.timedelta64(TEXAS_STEP, "s")


def us_date(moment: np.datetime64) -> str:
    year, month, day = str(moment.astype("datetime64[D]")).split("-")
    return f"{month}/{day}/{year}"


def clock(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[m]"))[11:]


def export_day(
    date: np.datetime64,
    values: NDArray[np.float64],
    *,
    esiid: str = ESIID,
    revision: str | None = None,
    quality: str = "A",
    kind: str = "Consumption",
) -> list[str]:
    """Return the rows of one day as the portal writes them, quirks of the clock changes included."""
    starts = day_intervals(date, TEXAS_ZONE, TEXAS_STEP)
    known = revision or f"{us_date(date + np.timedelta64(1, 'D'))} 06:18:33"
    local = to_local(starts, TEXAS_ZONE)
    rows = []
    for i, start in enumerate(local):
        label = clock(start)
        if i and start < local[i - 1]:  # the first of the repeated hour starts where the one before it ended
            label = "02:00"
        last = clock(start + QUARTER)
        energy = f"{values[i]:.3f}".lstrip("0") or "0"
        if i and start - local[i - 1] > QUARTER:  # the skipped hour is there, blank
            rows += [
                f"'{esiid},{us_date(date)},{known},02:{m:02},{'03:00' if m == 45 else f'02:{m + 15}'},,,{kind}"
                for m in (0, 15, 30, 45)
            ]
        rows.append(f"'{esiid},{us_date(date)},{known},{label},{last},{energy},{quality},{kind}")
    return rows


def export(*days: list[str], newest_first: bool = False) -> bytes:
    rows = [row for day in days for row in day]
    return "\n".join([HEADER, *(reversed(rows) if newest_first else rows), ""]).encode()


def energies(date: np.datetime64, first: int = 0) -> tuple[Times, NDArray[np.float64]]:
    starts = day_intervals(date, TEXAS_ZONE, TEXAS_STEP)
    return starts, (first + np.arange(len(starts))) / 1000


def clock_changes() -> list[np.datetime64]:
    days = np.arange(np.datetime64("2002-01-01"), np.datetime64("2031-01-01"))
    lengths = np.array([len(day_intervals(day, TEXAS_ZONE, TEXAS_STEP)) for day in days])
    return list(days[lengths != 96])


@pytest.mark.parametrize("newest_first", [False, True])
def test_every_clock_change_of_29_years_comes_back_as_it_was_written(newest_first: bool) -> None:
    changes = clock_changes()

    for change in changes:
        dates = change + np.arange(-1, 2)
        starts, values = (np.concatenate(part) for part in zip(*(energies(d, 100) for d in dates), strict=True))
        rows = [export_day(d, energies(d, 100)[1]) for d in dates]
        read = read_smart_meter_texas(export(*rows, newest_first=newest_first))

        (series,) = read.series
        assert read.problems == ()
        assert series.starts.tolist() == starts.tolist(), change
        assert series.values == pytest.approx(values)
    assert len(changes) == 58


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_repeated_hour_keeps_both_runs_when_only_that_hour_is_revised(newest_first: bool) -> None:
    date = np.datetime64("2022-11-06")
    starts, values = energies(date)
    again = export_day(date, values + 1, revision="11/09/2022 07:00:00")[4:12]

    read = read_smart_meter_texas(export(export_day(date, values), again, newest_first=newest_first))

    moments, found = newest(read.series[0])
    expected = values + np.where((np.arange(100) >= 4) & (np.arange(100) < 12), 1.0, 0.0)
    assert moments.tolist() == starts.tolist()
    assert found == pytest.approx(expected)


def test_plain_repeated_labels_are_told_by_their_order_too() -> None:
    date = np.datetime64("2022-11-06")
    starts, values = energies(date)
    rows = [row.replace(",02:00,01:15,", ",01:00,01:15,") for row in export_day(date, values)]

    read = read_smart_meter_texas(export(rows))

    assert read.series[0].starts.tolist() == starts.tolist()
    assert read.series[0].values == pytest.approx(values)


def test_a_revision_is_known_from_its_own_date_and_the_newest_wins() -> None:
    date = np.datetime64("2022-07-01")
    _, values = energies(date)
    first = export_day(date, values, revision="07/02/2022 06:18:33")
    second = export_day(date, values + 1, revision="07/05/2022 09:00:00", quality="E")

    series = read_smart_meter_texas(export(second, first)).series[0]

    assert len(series) == 192
    assert series.values[:2] == pytest.approx([values[0], values[0] + 1])
    assert str(series.known[0]) == "2022-07-02T11:18:33.000"
    assert str(series.known[1]) == "2022-07-05T14:00:00.000"
    assert newest(series)[1] == pytest.approx(values + 1)


def test_several_meters_and_their_surplus_are_series_of_their_own() -> None:
    date = np.datetime64("2022-07-01")
    _, values = energies(date)
    rows = [
        row
        for both in zip(
            export_day(date, values),
            export_day(date, values + 1, kind="Surplus Generation"),
            export_day(date, values + 2, esiid="2"),
            strict=True,
        )
        for row in both
    ]

    read = read_smart_meter_texas(export(rows))

    assert {series.key: series.values[0] for series in read.series} == pytest.approx(
        {ESIID: 0.0, ESIID + SURPLUS: 1.0, "2": 2.0}
    )
    assert all(len(series) == 96 for series in read.series)


def test_a_blank_reading_is_unknown_and_a_blank_that_never_was_is_nothing() -> None:
    date = np.datetime64("2022-03-13")
    _, values = energies(date)
    rows = export_day(date, values)
    assert rows[8].endswith(",02:00,02:15,,,Consumption")
    rows[0] = rows[0].replace("," + rows[0].split(",")[5] + ",A,", ",,,")

    read = read_smart_meter_texas(export(rows))

    assert read.problems == ()
    assert len(read.series[0]) == 92
    assert np.isnan(read.series[0].values).sum() == 1
    assert np.isnan(read.series[0].values[0])


GOOD = f"'{ESIID},07/01/2022,07/02/2022 06:18:33,00:00,00:15,.145,A,Consumption"


@pytest.mark.parametrize(
    ("row", "field", "got"),
    [
        (GOOD.replace("07/01/2022,", "02/30/2022,"), "USAGE_DATE", "02/30/2022"),
        (GOOD.replace("07/02/2022 06:18:33", "yesterday"), "REVISION_DATE", "yesterday"),
        (GOOD.replace("00:00,", "00:07,"), "USAGE_START_TIME", "00:07"),
        (GOOD.replace("00:15,", "00:30,"), "USAGE_END_TIME", "00:30"),
        (GOOD.replace(".145", "-1"), "USAGE_KWH", "-1"),
        (GOOD.replace(".145", "a lot"), "USAGE_KWH", "a lot"),
        (GOOD.replace(",A,", ",X,"), "ESTIMATED_ACTUAL", "X"),
        (GOOD.replace("Consumption", "Gift"), "CONSUMPTION_SURPLUSGENERATION", "Gift"),
        (GOOD.replace(f"'{ESIID}", "'12x"), "ESIID", "'12x"),
        (GOOD.replace("00:00,00:15", "02:00,01:15"), "USAGE_END_TIME", "01:15"),
        ("only,three,cells", "row", "only,three,cells"),
        (
            f"'{ESIID},03/13/2022,03/14/2022 06:18:33,02:00,02:15,.145,A,Consumption",
            "USAGE_START_TIME",
            "2022-03-13T02:00:00",
        ),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_the_others_are_read(row: str, field: str, got: str) -> None:
    good = GOOD.replace("00:00,00:15", "00:15,00:30")

    read = read_smart_meter_texas(f"{HEADER}\n{row}\n{good}\n".encode())

    (problem,) = read.problems
    assert (problem.line, problem.field, problem.got) == (2, field, got)
    assert problem.message.startswith(f"line 2: {field}: got ")
    assert ", allowed " in problem.message
    assert len(read.series[0]) == 1


def test_the_same_row_twice_is_one_and_a_contradiction_is_named() -> None:
    other = GOOD.replace(".145", ".2")

    twice = read_smart_meter_texas(f"{HEADER}\n{GOOD}\n{GOOD}\n".encode())
    contradicted = read_smart_meter_texas(f"{HEADER}\n{GOOD}\n{other}\n".encode())

    assert twice.problems == ()
    assert twice.series[0].values.tolist() == [0.145]
    assert contradicted.series[0].values.tolist() == [0.2]
    assert [(p.line, p.field, p.got) for p in contradicted.problems] == [(2, "USAGE_KWH", ".145")]


def test_london_files_hold_several_meters_of_half_hours() -> None:
    content = b"""LCLid,tstp,energy(kWh/hh)
MAC000002,2013-03-31 00:30:00, 0.5
MAC000002,2013-03-31 01:30:00, 0.7\x20
MAC000003,2013-03-31 00:30:00.0000000, Null
MAC000003,2012-12-18 15:13:41, 0.1
"""

    read = read_london(content)

    assert [series.key for series in read.series] == ["MAC000002", "MAC000003"]
    assert {series.time_zone for series in read.series} == {LONDON_ZONE}
    assert read.series[0].values.tolist() == [0.5, 0.7]
    assert str(read.series[0].starts[1]) == "2013-03-31T01:30:00.000"
    assert np.isnat(read.series[0].known).all()
    assert np.isnan(read.series[1].values).tolist() == [True]
    assert [(p.line, p.field, p.allowed) for p in read.problems] == [(5, "tstp", "whole intervals of 30 min")]


def test_the_london_datastores_own_columns_are_read() -> None:
    content = b"LCLid,stdorToU,DateTime,KWH/hh (per half hour) \nMAC000002,Std,2012-10-12 00:30:00.0000000, 0.25 \n"

    read = read_meter_file(content)

    assert read.series[0].values.tolist() == [0.25]


def test_a_file_may_be_gzip_with_a_mark_or_with_other_ends_of_lines() -> None:
    texas = export(export_day(np.datetime64("2022-07-01"), energies(np.datetime64("2022-07-01"))[1]))

    assert len(read_meter_file(gzip.compress(texas)).series[0]) == 96
    assert len(read_meter_file(b"\xef\xbb\xbf" + texas.replace(b"\n", b"\r\n")).series[0]) == 96


@pytest.mark.parametrize("content", [b"", b"Datetime,PJME_MW\n", b"\x1f\x8bbroken", b"\xff\xfe\x00"])
def test_what_is_no_meter_file_is_refused(content: bytes) -> None:
    with pytest.raises(PayloadInvalid):
        read_meter_file(content)


LONDON_HEADER = "LCLid,tstp,energy(kWh/hh)"
TEXAS_CELLS = ["'1", "11/06/2022", "11/07/2022 06:00:00", "01:00", "01:15", "02:00", ".145", "A", "Consumption"]
BAD_CELLS = ["", "\x00", "inf", '"', "é", "02/30/2022", "99:99", "24:00"]
CELLS = st.sampled_from([*TEXAS_CELLS, *BAD_CELLS, "M", "2013-01-01 00:30:00", "Null"])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([HEADER, LONDON_HEADER]), st.lists(st.lists(CELLS, max_size=9), max_size=8))
def test_whatever_rows_come_each_is_read_or_named_or_the_file_refused(header: str, rows: list[list[str]]) -> None:
    content = "\n".join([header, *(",".join(row) for row in rows)]).encode()

    try:
        read = read_meter_file(content)
    except PayloadInvalid:
        return

    assert all(2 <= problem.line <= len(rows) + 1 for problem in read.problems)
    assert all((np.diff(series.starts) >= np.timedelta64(0)).all() for series in read.series)


@pytest.fixture
def meters() -> Path:
    folder = os.environ.get("KAPPAWATT_DATA")
    if not folder or not (Path(folder) / "smart_meter").is_dir():
        pytest.skip("KAPPAWATT_DATA names no folder with smart_meter")
    return Path(folder) / "smart_meter"


def test_the_real_export_has_every_interval_once(meters: Path) -> None:
    read = read_meter_file((meters / "smt_meterA_IntervalData_to20221130.csv.gz").read_bytes())

    (series,) = read.series
    counts = np.unique(local_date(series.starts, TEXAS_ZONE), return_counts=True)
    irregular = {str(day): int(n) for day, n in zip(*counts, strict=True) if n != 96}
    assert read.problems == ()
    assert irregular == {"2022-03-13": 92, "2022-11-06": 100}
    assert (np.diff(series.starts) == QUARTER).all()
    assert not np.isnan(series.values).any()
    # Rows 24010 and 24014 of the file: 01:45-02:00 of the first run and 02:00-01:15, which begins the second.
    repeated = series.starts.searchsorted(np.datetime64("2022-11-06T06:45"))
    assert series.values[repeated : repeated + 2].tolist() == [0.044, 0.034]
