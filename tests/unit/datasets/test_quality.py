"""What is found in a series, and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kappawatt.datasets.quality import examine, without_spikes
from kappawatt.datasets.series import SeriesFile
from kappawatt.forecasting.calendar import to_local
from kappawatt.streams import load, meter
from kappawatt.streams.stream import Stream

RANDOM = np.random.default_rng(11)


def series_of(
    values: NDArray[np.float64], step: int = 3600, zone: str = "UTC", stream: Stream = load.STREAM
) -> SeriesFile:
    starts = np.datetime64("2023-02-06", "ms") + np.arange(len(values)) * np.timedelta64(step * 1000, "ms")
    return SeriesFile("x", zone, step, starts, values, np.full(len(values), np.datetime64("NaT", "ms")), stream=stream)


def plain(days: int = 60, step: int = 3600) -> NDArray[np.float64]:
    """A load with days, weekends and noise."""
    hours = np.arange(days * 86_400 // step) * step / 3600
    weekend = np.where(hours // 24 % 7 >= 5, 0.8, 1.0)
    shape = 700 * weekend * (1 + 0.25 * np.sin(hours / 24 * 2 * np.pi))
    return np.asarray(shape * (1 + 0.02 * RANDOM.standard_normal(len(hours))))


def home(days: int = 60) -> NDArray[np.float64]:
    """Half hours of a home: little, with rare and high peaks."""
    n = days * 48
    return np.asarray(0.1 + 0.02 * RANDOM.random(n) + np.where(RANDOM.random(n) < 0.06, 3 * RANDOM.random(n), 0.0))


@pytest.mark.parametrize(
    "series",
    [series_of(plain()), series_of(plain(step=900), 900), series_of(home(), 1800, stream=meter.STREAM)],
    ids=["hours", "quarters", "home"],
)
def test_a_good_series_has_no_findings(series: SeriesFile) -> None:
    found = examine(series)

    assert found.known == found.intervals == len(series)
    assert (len(found.missing), len(found.flat), found.zero_count, len(found.spikes)) == (0, 0, 0, 0)
    assert (found.negative_count, found.beyond_count, len(found.register), found.shifts) == (0, 0, 0, ())


def test_missing_intervals_are_counted_whether_their_rows_are_empty_or_not_there() -> None:
    values = plain(10)
    values[30:35] = np.nan
    series = series_of(values)
    here = np.ones(len(values), dtype=np.bool_)
    here[100:102] = here[150] = False
    series = replace(series, starts=series.starts[here], values=values[here], known=series.known[here])

    found = examine(series)

    assert (found.intervals, found.known, found.missing.total) == (240, 232, 8)
    assert [(str(s.start)[:13], s.count, s.hours) for s in found.missing.longest(2)] == [
        ("2023-02-07T06", 5, 5.0),
        ("2023-02-10T04", 2, 2.0),
    ]
    assert found.missing_share == pytest.approx(8 / 240)


def test_empty_rows_at_both_ends_are_missing_too() -> None:
    values = plain(3)
    values[:2] = values[-3:] = np.nan

    found = examine(series_of(values))

    assert [s.count for s in found.missing.first(9)] == [2, 3]


def test_a_stuck_meter_is_found_with_its_span_and_value() -> None:
    values = plain()
    values[500:530] = values[500]

    [span] = examine(series_of(values)).flat.first(9)

    assert (span.count, span.value) == (30, values[500])
    assert span.start == series_of(values).starts[500]


@pytest.mark.parametrize(("digits", "hours"), [(8, 2), (-1, 3)])
def test_as_many_equal_hours_as_chance_makes_are_not_stuck(digits: int, hours: int) -> None:
    values = np.round(plain(), digits)
    values[500 : 500 + hours] = values[500]

    assert len(examine(series_of(values)).flat) == 0


def test_a_home_whose_standby_repeats_is_not_stuck() -> None:
    values = np.round(home(), 1)  # a coarse meter: most neighbours are equal

    assert len(examine(series_of(values, 1800, stream=meter.STREAM)).flat) == 0


def test_zeros_are_told_as_zeros_and_not_as_a_stuck_meter() -> None:
    values = plain()
    values[200:230] = 0
    values[900] = 0

    found = examine(series_of(values))

    assert (found.zero_count, len(found.zeros), found.zeros.total, len(found.flat)) == (31, 1, 30, 0)


@pytest.mark.parametrize("place", [0, 77, 1000, -1], ids=["first", "weekday", "later", "last"])
def test_an_hour_ten_times_too_high_is_a_spike_wherever_it_is(place: int) -> None:
    values = plain()
    usual = values[place]
    values[place] *= 10

    [(at, value, told)] = examine(series_of(values)).spikes.furthest(9)

    assert at == series_of(values).starts[place]
    assert value == values[place]
    assert told == pytest.approx(usual, rel=0.3)


def test_a_spike_in_a_local_day_is_found_across_a_change_of_the_clock() -> None:
    values = plain()
    values[49 * 24 + 5] *= 10  # 27 March 2023, the day after the change in Berlin

    found = examine(series_of(values, zone="Europe/Berlin"))

    assert len(found.spikes) == 1


def test_a_spike_can_be_taken_out() -> None:
    values = plain()
    values[77] *= 10
    series = series_of(values)

    clean = without_spikes(series, examine(series))

    assert np.flatnonzero(np.isnan(clean.values)).tolist() == [77]
    assert series.values[77] == values[77]


def test_the_peaks_of_a_home_are_no_spikes_but_ten_times_the_highest_is() -> None:
    values = home()
    values[1111] = 30.0

    found = examine(series_of(values, 1800, stream=meter.STREAM))

    assert found.spikes.values.tolist() == [30.0]


def test_a_counter_is_told_from_consumption() -> None:
    values = 5_000 + np.cumsum(home(10))

    found = examine(series_of(values, 1800, stream=meter.STREAM))

    assert found.is_register
    assert (len(found.flat), len(found.spikes), found.shifts) == (0, 0, ())


def test_a_counter_that_was_changed_once_is_one_still() -> None:
    values = 5_000 + np.cumsum(home(10))
    values[200:] -= values[200]

    found = examine(series_of(values, 1800, stream=meter.STREAM))

    assert found.is_register
    assert len(found.register) == 2


def test_a_day_that_stands_still_is_no_counter() -> None:
    values = np.full(96, 0.2)

    assert not examine(series_of(values, 1800, stream=meter.STREAM)).is_register


def test_a_level_that_changes_within_the_file_is_found_on_its_day() -> None:
    values = plain(90)
    values[40 * 24 :] *= 2

    [shift] = examine(series_of(values)).shifts

    assert str(shift.date) == "2023-03-18"
    assert shift.after / shift.before == pytest.approx(2, rel=0.15)


def test_a_season_that_comes_slowly_is_no_change_of_level() -> None:
    values = plain(180) * np.linspace(1, 3, 180 * 24)

    assert examine(series_of(values)).shifts == ()


def test_values_that_the_stream_cannot_hold_are_counted() -> None:
    values = home()
    values[[5, 9]] = -1.0

    found = examine(series_of(values, 1800, stream=meter.STREAM))

    assert (found.negative_count, found.beyond_count) == (2, 2)
    assert found.first_beyond == series_of(values, 1800).starts[5]


def test_of_an_interval_that_was_revised_the_last_value_counts() -> None:
    series = series_of(plain(10))
    twice = np.sort(np.append(np.arange(len(series)), 7))
    values = series.values[twice]
    values[7] = -5.0
    series = replace(series, starts=series.starts[twice], values=values, known=series.known[twice])

    found = examine(series)

    assert (found.intervals, found.known, found.negative_count) == (240, 240, 0)


def test_a_stray_date_centuries_away_costs_nothing() -> None:
    series = series_of(plain(20))
    starts = series.starts.copy()
    starts[-1] = np.datetime64("9999-12-31T23:00", "ms")

    found = examine(replace(series, starts=starts))

    assert found.missing.longest(1)[0].count > 69_000_000


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_short_series_are_looked_at_too(count: int) -> None:
    found = examine(series_of(plain()[:count]))

    assert found.known == count


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0, 1e6, float("nan")]), max_size=400),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    step=st.sampled_from([900, 1800, 3600]),
)
def test_counts_add_up_whatever_the_values(values: list[float], zone: str, step: int) -> None:
    series = series_of(np.array(values, dtype=np.float64), step, zone)

    found = examine(series)

    assert found.known + found.missing.total == found.intervals == len(values)
    assert found.zeros.total <= found.zero_count
    assert np.isin(found.spikes.starts, series.starts).all()
    assert (to_local(found.flat.starts, zone) >= to_local(series.starts[:1], zone)).all()
