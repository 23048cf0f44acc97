"""Rows that contradict one another, a clock or all other values: named, missing or refused, never taken in silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import sin
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.missing import codes_of_nothing
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes, read_file
from kappawatt.errors import PayloadInvalid

BERLIN = ZoneInfo("Europe/Berlin")


def read(rows: list[str], header: str = "time,town_mw", **said: str) -> Found:
    options = Options.of({"time_zone": "Europe/Berlin", **said})
    return read_bytes("\n".join([header, *rows]).encode(), options, name="town.csv")


def labels(first: datetime, n: int, zone: ZoneInfo = BERLIN, minutes: int = 60, later: int = 0) -> list[str]:
    """The wall clock at each of `n` interval's starts, or so many minutes later."""
    start = first.replace(tzinfo=zone).astimezone(UTC) + timedelta(minutes=later)
    return [f"{(start + timedelta(minutes=minutes * i)).astimezone(zone):%Y-%m-%d %H:%M}" for i in range(n)]


def loads(n: int, mean: float = 300.0) -> list[str]:
    return [f"{mean * (1 + 0.3 * sin(i / 4)):.2f}" for i in range(n)]


# ---- values that are none


@pytest.mark.parametrize("code", ["-9999", "-999", "-99.9", "9999", "99999", "-1", "-32768", "999.99"])
def test_a_number_that_comes_again_far_from_all_others_is_missing_and_said(code: str) -> None:
    values = loads(240)
    values[50::40] = [code] * 5

    found = read([f"{label},{value}" for label, value in zip(labels(datetime(2023, 5, 1), 240), values, strict=True)])

    [series] = found.series
    assert np.flatnonzero(np.isnan(series.values)).tolist() == [50, 90, 130, 170, 210]
    assert np.nanmin(series.values) > 200
    fact = next(fact for fact in found.facts if fact.name == "taken as missing")
    assert (fact.value, fact.because[:18]) == (f"{float(code):g}", "5 cells of 'town_m")


def test_one_negative_code_is_missing_where_nothing_else_is_negative() -> None:
    values = loads(48)
    values[7] = "-9999.0"

    found = read([f"{label},{value}" for label, value in zip(labels(datetime(2023, 5, 1), 48), values, strict=True)])

    assert np.isnan(found.series[0].values[7])


def test_values_that_look_like_codes_among_their_like_are_values() -> None:
    rising = np.linspace(900.0, 1100.0, 201)  # 999 is one of them
    net = np.concatenate([np.linspace(-1500.0, 1500.0, 300), [-999.0, -999.0, -1.0, -1.0, -1.0]])
    spike = np.concatenate([np.linspace(300.0, 500.0, 50), [99999.0]])  # once: far away, and no code yet

    assert [codes_of_nothing(values) for values in (rising, net, spike, np.zeros(30))] == [[], [], [], []]


def test_a_thermometer_that_fails_says_nothing_of_the_weather() -> None:
    temperatures = [f"{5 + 3 * sin(i / 9):.1f}" for i in range(72)]
    temperatures[10:12] = ["-999"] * 2
    cells = zip(labels(datetime(2023, 5, 1), 72), loads(72), temperatures, strict=True)

    [series] = read([",".join(row) for row in cells], "time,load_mw,temperature").series

    assert np.flatnonzero(np.isnan(series.covariates["temperature"])).tolist() == [10, 11]


# ---- rows of one interval


def twice(many: int) -> list[str]:
    times, values = labels(datetime(2023, 5, 1), 600), loads(600)
    again = [f"{label},{float(value) + 10},B" for label, value in zip(times[90 : 90 + many], values[90:], strict=False)]
    return [f"{label},{value},A" for label, value in zip(times, values, strict=True)] + again


def test_few_rows_that_contradict_others_are_named_and_counted() -> None:
    found = read(twice(4), "time,town_mw,source")

    assert [p.line for p in found.problems] == [92, 93, 94, 95]
    assert (found.tallies[0].contradicting, found.tallies[0].first) == (4, found.problems[0].message)
    assert "as line 602 says of the same interval" in found.tallies[0].first


def test_many_rows_that_contradict_others_are_two_series_and_refused() -> None:
    with pytest.raises(PayloadInvalid, match=r"line 92: .*line 602 .*39 such rows more: 'source' may tell them apart"):
        read(twice(40), "time,town_mw,source")


# ---- labels of several series


def test_series_of_which_one_is_labelled_by_starts_and_another_by_ends_are_refused_whatever_is_said() -> None:
    starts, ends = labels(datetime(2023, 5, 1), 72), labels(datetime(2023, 5, 1), 72, later=60)
    rows = [f"{label},north,{value}" for label, value in zip(starts, loads(72), strict=True)]
    rows += [f"{label},south,{value}" for label, value in zip(ends, loads(72), strict=True)]

    for said in ({}, {"labels": "start"}, {"labels": "end"}):
        with pytest.raises(PayloadInvalid, match=r"'north' from 00:00 to 23:00 and 'south' from 01:00 to 00:00"):
            read(rows, "time,zone,load_mw", **said)


def test_series_that_begin_at_other_hours_are_no_contradiction() -> None:
    rows = [f"{label},north,1" for label in labels(datetime(2023, 5, 1), 72)]
    rows += [f"{label},south,1" for label in labels(datetime(2023, 5, 1, 1), 71)]

    assert len(read(rows, "time,zone,load_mw", labels="start").series) == 2


# ---- clocks


@pytest.mark.parametrize("minutes", [60, 15])
def test_a_file_that_begins_in_the_repeated_hour_names_the_rows_that_may_be_of_either(minutes: int) -> None:
    times = labels(datetime(2023, 10, 29), 40 * 60 // minutes, minutes=minutes)
    second = len(times) - times[::-1].index("2023-10-29 02:00") - 1
    rows = [f"{label},{i}" for i, label in enumerate(times)]

    lone = read(rows[second:], labels="start")
    both = read(rows[second - 60 // minutes :], labels="start")

    assert [p.line for p in lone.problems] == list(range(2, 2 + 60 // minutes))
    assert all("shows it twice" in p.allowed for p in lone.problems)
    assert str(lone.series[0].starts[0]) == "2023-10-29T02:00:00.000"
    assert (both.problems, str(both.series[0].starts[0])) == ((), "2023-10-29T00:00:00.000")


def test_hours_across_a_change_of_the_clock_by_half_an_hour_are_refused() -> None:
    zone, first = ZoneInfo("Australia/Lord_Howe"), datetime(2023, 3, 25)
    hours = [f"{label},4" for label in labels(first, 24 * 20, zone)]
    halves = [f"{label},4" for label in labels(first, 48 * 20, zone, minutes=30)]

    with pytest.raises(PayloadInvalid, match=r"60 min across 2023-04-02, .* by 30 min, allowed .*of 30 min"):
        read(hours, time_zone="Australia/Lord_Howe", labels="start")
    with pytest.raises(PayloadInvalid, match=r"60 min across 2023-04-02"):
        read(halves, time_zone="Australia/Lord_Howe", labels="start", resample="1h")
    [series] = read(halves, time_zone="Australia/Lord_Howe", labels="start").series
    assert (np.diff(series.starts) == np.timedelta64(30, "m")).all()


# ---- registers


@pytest.mark.parametrize("minutes", [15, 60])
def test_a_meters_register_is_refused_as_consumption_and_a_load_that_only_rises_is_said(
    tmp_path: Path, minutes: int
) -> None:
    times = labels(datetime(2023, 5, 1), 4 * 1440 // minutes, minutes=minutes)
    path = tmp_path / "home.csv"
    said = {"time_zone": "Europe/Berlin", "labels": "start"}
    rows = [f"{label},{8000 + 0.3 * i:.1f}" for i, label in enumerate(times)]

    path.write_text("\n".join(["time,home_kwh", *rows]))
    with pytest.raises(PayloadInvalid, match=r"HOME: got values that never fall, up to .*--register"):
        read_file(path, Options.of(said))
    taken = read_file(path, Options.of({**said, "register": "true"}))
    path.write_text("\n".join(["time,town_mw", *rows]))
    load = read_file(path, Options.of(said))

    assert np.nanmax(np.abs(taken.series[0].values - 0.3)) < 0.11
    assert [fact.value for fact in load.facts if fact.name == "values"] == ["never fall, as a counter's readings do"]
