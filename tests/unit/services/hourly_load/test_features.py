"""Features of the hourly load model: what they see, and what they must not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, day_intervals, issue_time, parse_clock
from kappawatt.forecasting.history import Past
from kappawatt.services.hourly_load.day_kinds import place_of, solar_elevation
from kappawatt.services.hourly_load.features import (
    CALENDAR_NAMES,
    FEATURE_NAMES,
    calendar_features,
    features,
    features_many,
)
from kappawatt.services.hourly_load.wall_clock import wall_clock
from tests.unit.services.hourly_load.series import ZONE, made_up_load


def until(past: Past, issue: np.datetime64) -> Past:
    """What `History.until` would give."""
    n = int((issue - past.start) / HOUR)
    return replace(past, values=past.values[:n], issue_time=issue)


def column(matrix: np.ndarray, name: str) -> np.ndarray:
    return matrix[:, FEATURE_NAMES.index(name)]


def test_many_issue_times_at_once_give_the_same_bits_as_each_alone() -> None:
    past = made_up_load(900)
    rng = np.random.default_rng(1)
    dates = np.datetime64("2013-01-10") + rng.integers(0, 880, 24)
    clocks = [parse_clock(f"{hour:02d}:00") for hour in rng.integers(0, 24, len(dates))]
    issues = np.array([issue_time(d, c, ZONE) for d, c in zip(dates, clocks, strict=True)])
    targets = [day_intervals(date, ZONE, 3600) for date in dates]

    together = features_many(
        wall_clock(past), issues, np.concatenate(targets), np.repeat(np.arange(len(dates)), [len(t) for t in targets])
    )
    alone = [features(until(past, issue), own) for issue, own in zip(issues, targets, strict=True)]

    np.testing.assert_array_equal(together.matrix, np.concatenate([rows.matrix for rows in alone]))
    np.testing.assert_array_equal(together.level, np.concatenate([rows.level for rows in alone]))


@pytest.mark.parametrize("clock", ["00:00", "12:00", "07:00"])
@pytest.mark.parametrize("date", ["2014-03-09", "2014-03-10", "2014-11-02", "2014-11-03", "2014-07-16"])
def test_what_comes_after_the_issue_time_changes_nothing(date: str, clock: str) -> None:
    past = made_up_load(800)
    day = np.datetime64(date)
    issue, targets = issue_time(day, parse_clock(clock), ZONE), day_intervals(day, ZONE, 3600)
    scrambled = past.values.copy()
    later = past.times + HOUR > issue
    scrambled[later] = np.random.default_rng(2).uniform(1, 1e6, int(later.sum()))
    one = np.zeros(len(targets), dtype=np.intp)

    honest = features_many(wall_clock(past), np.array([issue]), targets, one)
    other = features_many(wall_clock(replace(past, values=scrambled)), np.array([issue]), targets, one)

    np.testing.assert_array_equal(honest.matrix, other.matrix)


def test_a_day_before_is_the_same_hour_on_the_wall_over_a_change_of_the_clock() -> None:
    past = made_up_load(500, start="2013-06-01T04:00")
    day = np.datetime64("2014-03-09")  # 02:00 does not exist
    targets = day_intervals(day, ZONE, 3600)

    rows = features(until(past, issue_time(day, parse_clock("00:00"), ZONE)), targets)

    assert len(targets) == 23
    noon = int(np.flatnonzero(column(rows.matrix, "hour") == 12)[0])
    yesterday_noon = np.log(past.at(np.array(["2014-03-08T17:00"], "datetime64[ms]"))[0])
    assert column(rows.matrix, "recent_1")[noon] == pytest.approx(yesterday_noon - rows.level[0], abs=1e-6)


def test_the_scale_of_a_zone_does_not_show_in_its_features() -> None:
    past = made_up_load(500)
    day = np.datetime64("2014-05-01")
    known, targets = until(past, issue_time(day, parse_clock("12:00"), ZONE)), day_intervals(day, ZONE, 3600)

    large = features(replace(known, values=known.values * 50), targets)

    np.testing.assert_allclose(large.matrix, features(known, targets).matrix, atol=1e-5)


def test_holidays_of_the_time_zones_country_are_days_off() -> None:
    past = made_up_load(1000)
    thanksgiving = np.datetime64("2014-11-27")

    def off(date: np.datetime64) -> float:
        targets = day_intervals(date, ZONE, 3600)
        return float(column(features(until(past, targets[0]), targets).matrix, "off")[0])

    assert off(thanksgiving) == 1.0
    assert off(thanksgiving + 1) == 1.0
    assert off(thanksgiving - 2) == 0.0
    assert off(np.datetime64("2014-10-13")) == 0.0  # Columbus Day: most people work


def test_what_a_holiday_did_in_years_before_is_a_feature() -> None:
    past = made_up_load(1000)
    christmas = np.datetime64("2014-12-25")
    values = past.values.copy()
    year_before = np.isin(past.times, day_intervals(np.datetime64("2013-12-25"), ZONE, 3600))
    values[year_before] *= 0.5
    targets = day_intervals(christmas, ZONE, 3600)

    plain = features(until(past, targets[0]), targets).matrix
    halved = features(until(replace(past, values=values), targets[0]), targets).matrix

    difference = column(halved, "special_last_year") - column(plain, "special_last_year")
    np.testing.assert_allclose(difference, np.log(0.5), atol=1e-5)


def test_temperature_is_optional_and_may_be_known_ahead() -> None:
    past = made_up_load(400)
    day = np.datetime64("2014-01-20")
    targets = day_intervals(day, ZONE, 3600)
    known = until(past, targets[0])
    temperature = np.full(len(known) + 24, 5.0)
    temperature[-24:] = -10.0

    without = features(known, targets).matrix
    with_weather = features(replace(known, covariates={"temperature": temperature}), targets).matrix

    assert np.isnan(column(without, "temperature")).all()
    np.testing.assert_array_equal(column(with_weather, "temperature"), np.float32(-10.0))
    assert column(with_weather, "temperature_change")[-1] == pytest.approx(-15.0)


def test_a_series_of_half_hours_is_refused() -> None:
    past = replace(made_up_load(30), step=1800)

    with pytest.raises(PayloadInvalid, match="interval: got 1800 s, allowed 3600 s"):
        features(past, np.array(["2013-01-31"], "datetime64[ms]"))


def test_a_zone_without_a_place_has_no_holidays_and_no_sun() -> None:
    past = replace(made_up_load(60), time_zone="UTC")
    targets = past.end + np.arange(24) * HOUR

    rows = features(until(past, past.end), targets)

    assert np.isnan(column(rows.matrix, "solar_elevation")).all()
    assert set(column(rows.matrix, "off").tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "zone", "country"),
    [
        ("US/Central", "America/Chicago", "US"),
        ("Asia/Calcutta", "Asia/Kolkata", "IN"),
        ("Australia/NSW", "Australia/Sydney", "AU"),
        ("Iceland", "Atlantic/Reykjavik", "IS"),
    ],
)
def test_another_name_of_a_zone_gives_the_same_bits(name: str, zone: str, country: str) -> None:
    past = replace(made_up_load(500), time_zone=zone)
    issue = issue_time(np.datetime64("2013-12-24"), parse_clock("00:00"), zone)
    targets = day_intervals(np.datetime64("2013-12-25"), zone, 3600)
    one = features(until(past, issue), targets)

    other = features(until(replace(past, time_zone=name), issue), targets)

    np.testing.assert_array_equal(other.matrix, one.matrix)
    assert place_of(name).country == country


def test_a_name_of_a_clock_is_in_no_country() -> None:
    assert place_of("CET").country is None
    assert place_of("Europe/Amsterdam").country == "NL"


def test_the_sun_stands_where_an_almanac_says() -> None:
    # NOAA solar calculator, New York, equinox and solstice: noon elevation is 90 - latitude + declination.
    place = place_of(ZONE)
    days = np.array(["2016-06-21", "2016-12-21"], "datetime64[ms]")
    through = days[:, None] + np.arange(0, 24 * 60, 5) * (DAY // 1440)

    highest = solar_elevation(through.ravel(), place).reshape(2, -1).max(axis=1)

    np.testing.assert_allclose(highest, [90 - 40.71 + 23.43, 90 - 40.71 - 23.43], atol=0.2)


def test_calendar_features_are_those_of_the_published_notebook() -> None:
    # pandas: hour, dayofweek, quarter, month, year, dayofyear, day, isocalendar().week of these labels
    labels = np.array(
        ["2002-12-31T01:00", "2015-01-01T00:00", "2016-02-29T13:00", "2018-08-03T00:00"], "datetime64[ms]"
    )

    found = calendar_features(labels)

    assert found.shape == (4, len(CALENDAR_NAMES))
    assert found.astype(int).tolist() == [
        [1, 1, 4, 12, 2002, 365, 31, 1],
        [0, 3, 1, 1, 2015, 1, 1, 1],
        [13, 0, 1, 2, 2016, 60, 29, 9],
        [0, 4, 3, 8, 2018, 215, 3, 31],
    ]
