"""Series finer than the hour: hours of the local clock, what goes on inside of them, and how wide quantiles are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.forecasting.calendar import HOUR, Times, day_intervals, day_start, issue_time, parse_clock, to_local
from kappawatt.forecasting.fan import LEVELS, Fan, naive_values
from kappawatt.forecasting.gaps import fill_gaps
from kappawatt.forecasting.history import History, Past
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.services.hourly_load.inference import Classic, Fitted, unpack_classic
from kappawatt.services.hourly_load.model import fit
from kappawatt.services.hourly_load.within_hour import forecast_within, hours_of, smooth_course
from tests.unit.services.hourly_load.series import made_up_load

NOISE = 0.01
SPREAD = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


def course(local: Times) -> Any:
    """The formula of a load over the local clock, in shares of its mean."""
    days = local.astype("datetime64[D]")
    h = (local - days) / HOUR
    day = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    shape = 1 + 0.18 * np.sin(2 * np.pi * (h - 8) / 24) + 0.05 * np.sin(4 * np.pi * (h - 8) / 24)
    weekend = np.where((days.astype(np.int64) + 3) % 7 >= 5, 0.85, 1.0)
    return shape * weekend * (1 + 0.08 * np.cos(2 * np.pi * (day - 15) / 365))


def zone_load(
    zone: str, step: int, days: int, *, end: str = "2018-05-01", noise: float = NOISE, extra: Any = 0
) -> Past:
    """Return a zone [MW] by that formula up to a local midnight."""
    last = np.datetime64(end, "D")
    first, until = day_start(np.array([last - days, last]), zone)
    times = np.arange(first, until, np.timedelta64(step * 1000, "ms"))
    local = to_local(times, zone) + np.timedelta64(step * 500, "ms")  # the middle of an interval stands for its mean
    values = 10_000 * (course(local) + (extra(local) if extra else 0))
    values *= 1 + noise * np.random.default_rng(step).standard_normal(len(times))
    return Past("zone", zone, step, first, values, until)


def until(past: Past, issue: np.datetime64) -> Past:
    return replace(past, values=past.values[: int((issue - past.start) // past.interval)], issue_time=issue)


def right_about(n: int) -> Callable[[Past, Times], Fan]:
    """A model of hours that knows the formula, and how much the mean of n intervals scatters around it."""

    def forecast(past: Past, targets: Times) -> Fan:
        assert past.step == 3600
        values = 10_000 * course(to_local(targets, past.time_zone) + HOUR // 2)
        return Fan(values[:, None] * (1 + NOISE / np.sqrt(n) * SPREAD))

    return forecast


hours_alone = right_about(4)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin"])
@pytest.mark.parametrize("step", [300, 900, 1800])
def test_hours_are_those_of_the_local_clock_and_have_the_mean_of_their_intervals(zone: str, step: int) -> None:
    past = zone_load(zone, step, 20)
    begun = past.last(len(past) - 1)  # within an hour

    hours = hours_of(begun)

    assert (to_local(hours.times, zone).astype(np.int64) % 3_600_000 == 0).all()
    assert len(hours) == 20 * 24 - 1
    n = 3600 // step
    np.testing.assert_allclose(hours.values, past.values[n:].reshape(-1, n).mean(axis=1), rtol=1e-12)
    assert hours_of(hours) is hours


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([300, 900, 1800]), st.integers(0, 5), st.data())
def test_an_hour_counts_from_half_of_it_on_and_one_that_runs_does_not(step: int, more: int, data: Any) -> None:
    n = 3600 // step
    known = np.array(data.draw(st.lists(st.booleans(), min_size=10 * n, max_size=10 * n)))
    values = np.where(known, np.arange(10 * n) + 1.0, np.nan)
    start = np.datetime64("2018-05-01T18:30", "ms")
    running = np.full(min(more, n - 1), 5.0)
    past = Past("a", "Asia/Kolkata", step, start, np.concatenate([values, running]), start + 11 * HOUR)

    hours = hours_of(past)

    assert len(hours) == 10
    for hour, part in enumerate(values.reshape(10, n)):
        is_known = np.isfinite(part).sum() >= n / 2
        assert np.isfinite(hours.values[hour]) == is_known
        if is_known:
            assert hours.values[hour] == pytest.approx(np.nanmean(part), rel=1e-12)


def test_weather_of_an_hour_is_any_that_is_known_of_it() -> None:
    start = np.datetime64("2018-05-01T00:00", "ms")
    ahead = np.full(14, np.nan)
    ahead[[0, 4, 5, 8, 12]] = [10.0, 20.0, 22.0, 30.0, 40.0]
    past = Past("a", "UTC", 900, start, np.ones(8), start + 2 * HOUR, {"temperature": ahead})

    np.testing.assert_array_equal(hours_of(past).covariates["temperature"], [10.0, 21.0, 30.0, 40.0])


@settings(deadline=None)
@given(st.lists(st.floats(1, 1e5), min_size=1, max_size=40), st.sampled_from([2, 4, 12]))
def test_a_smooth_course_has_the_means_of_its_hours(means: list[float], n: int) -> None:
    found = smooth_course(np.array(means), n)

    assert found.shape == (len(means), n)
    np.testing.assert_allclose(found.mean(axis=1), means, rtol=1e-9, atol=1e-6)


def test_a_straight_line_is_a_straight_line_inside_of_hours_too() -> None:
    found = smooth_course(np.arange(10, 30.0), 4)

    np.testing.assert_allclose(np.diff(found[2:-2].ravel()), 0.25, atol=1e-12)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"])
@pytest.mark.parametrize("step", [300, 900, 1800])
def test_the_median_of_intervals_has_the_hours_median_as_its_mean(zone: str, step: int) -> None:
    past = zone_load(zone, step, 60)
    targets = day_intervals(np.datetime64("2018-05-01"), zone, step)

    fan = forecast_within(hours_alone, past, targets)

    assert fan.quantiles.shape == (86_400 // step, len(LEVELS))
    assert (np.diff(fan.quantiles, axis=1) >= 0).all()
    hours = hours_alone(hours_of(past), day_intervals(np.datetime64("2018-05-01"), zone, 3600))
    np.testing.assert_allclose(fan.median.reshape(24, -1).mean(axis=1), hours.median, rtol=1e-9)


@pytest.mark.parametrize(("date", "hours"), [("2018-03-25", 23), ("2018-10-28", 25)])
@pytest.mark.parametrize("step", [300, 900, 1800])
def test_a_day_on_which_the_clock_changes_is_forecast_whole(date: str, hours: int, step: int) -> None:
    past = zone_load("Europe/Berlin", step, 60, end=date)
    targets = day_intervals(np.datetime64(date), "Europe/Berlin", step)

    fan = forecast_within(hours_alone, past, targets)

    assert len(fan.quantiles) == hours * 3600 // step
    truth = 10_000 * course(to_local(targets, "Europe/Berlin") + np.timedelta64(step * 500, "ms"))
    assert np.abs(fan.median / truth - 1).max() < 0.04  # half of what the formula jumps by where the clock does


@pytest.mark.parametrize("step", [300, 900, 1800])
def test_the_interval_holds_what_it_says_at_the_level_of_intervals(step: int) -> None:
    past = zone_load("Asia/Kolkata", step, 60)
    dates = np.arange("2018-05-01", "2018-05-29", dtype="datetime64[D]")
    random = np.random.default_rng(5)
    held = []
    for date in dates:
        targets = day_intervals(date, "Asia/Kolkata", step)
        truth = 10_000 * course(to_local(targets + np.timedelta64(step * 500, "ms"), "Asia/Kolkata"))
        measured = truth * (1 + NOISE * random.standard_normal(len(targets)))
        fan = forecast_within(right_about(3600 // step), past, targets)
        held.append((measured >= fan.lower) & (measured <= fan.upper))

    assert np.mean(held) == pytest.approx(0.9, abs=0.025)


def test_what_an_hour_always_does_is_forecast_and_what_it_never_does_is_not() -> None:
    def at_half_past(local: Times) -> Any:
        wall = local.astype(np.int64) // 60_000 % 1440
        is_working = (local.astype("datetime64[D]").astype(np.int64) + 3) % 7 < 5
        return np.where((wall // 60 == 17) & (wall % 60 >= 30) & is_working, 0.10, 0.0)

    past = zone_load("Asia/Kolkata", 900, 60, extra=at_half_past)
    working, off = (
        forecast_within(hours_alone, past, day_intervals(np.datetime64(day), "Asia/Kolkata", 900)).median
        for day in ("2018-05-02", "2018-05-05")  # Wednesday, Saturday
    )

    rise = [(day[17 * 4 + 2] - day[17 * 4 + 1]) / day[17 * 4 + 1] for day in (working, off)]
    assert rise[0] == pytest.approx(0.10, abs=0.02)
    assert abs(rise[1]) < 0.02


def test_load_below_zero_is_forecast_too() -> None:
    past = zone_load("Asia/Kolkata", 900, 60)
    past = replace(past, values=past.values - 9_000)  # solar power of roofs

    def hours(known: Past, targets: Times) -> Fan:
        return Fan(hours_alone(known, targets).quantiles - 9_000)

    fan = forecast_within(hours, past, day_intervals(np.datetime64("2018-05-01"), "Asia/Kolkata", 900))

    assert np.isfinite(fan.quantiles).all()
    assert (np.diff(fan.quantiles, axis=1) >= 0).all()
    assert fan.median.min() < 0 < fan.median.max()


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    """Two zones, one of hours and one of quarter hours, trained together."""
    return fit([made_up_load(400), zone_load("Europe/Berlin", 900, 500, end="2018-04-01")], leads=(0, 12))


def test_hourly_series_are_the_models_own_bits(fitted: Fitted) -> None:
    past = made_up_load(400)
    targets = past.end + np.arange(24) * HOUR

    fan = FORECASTER.forecast(fitted, past, targets)

    np.testing.assert_array_equal(fan.quantiles, fitted.forecast(past, targets).quantiles)


@pytest.mark.parametrize("clock", ["12:00", "00:00"])
@pytest.mark.parametrize("step", [300, 900, 1800])
def test_intervals_are_forecast_better_than_by_the_seasonal_naive_and_their_band_holds(
    fitted: Fitted, step: int, clock: str
) -> None:
    whole = zone_load("Europe/Berlin", step, 520, end="2018-05-20")
    errors, naive, held = [], [], []
    for date in np.arange("2018-05-02", "2018-05-19", 3, dtype="datetime64[D]"):
        targets = day_intervals(date, "Europe/Berlin", step)
        past = fill_gaps(until(whole, issue_time(date, parse_clock(clock), "Europe/Berlin")))
        fan, measured = FORECASTER.forecast(fitted, past, targets), whole.at(targets)
        errors.append(np.abs(fan.median - measured))
        naive.append(np.abs(naive_values(past, targets) - measured))
        held.append((measured >= fan.lower) & (measured <= fan.upper))

    assert np.mean(errors) < 0.95 * np.mean(naive)
    assert 0.8 < np.mean(held) < 0.99


def test_a_repeated_forecast_and_one_of_a_longer_past_have_the_same_bits(fitted: Fitted) -> None:
    past = zone_load("Europe/Berlin", 900, 60)
    targets = day_intervals(np.datetime64("2018-05-01"), "Europe/Berlin", 900)

    one, other = (FORECASTER.forecast(fitted, past, targets) for _ in range(2))

    np.testing.assert_array_equal(one.quantiles, other.quantiles)


def test_what_comes_after_the_issue_time_changes_no_forecast(fitted: Fitted) -> None:
    whole = zone_load("Europe/Berlin", 900, 60)
    history, shuffled = (History("a", "Europe/Berlin", 900) for _ in range(2))
    issue = issue_time(np.datetime64("2018-04-28"), parse_clock("12:00"), "Europe/Berlin")
    values = whole.values.copy()
    values[whole.times + whole.interval > issue] *= 3
    history.add(whole.times, whole.values)
    shuffled.add(whole.times, values)
    targets = day_intervals(np.datetime64("2018-04-28"), "Europe/Berlin", 900)

    one, other = (FORECASTER.issue(fitted, h.until(issue), targets).fan for h in (history, shuffled))

    np.testing.assert_array_equal(one.quantiles, other.quantiles)


def test_the_calendar_baseline_answers_intervals_too() -> None:
    from kappawatt.models.artifact import find_artifact
    from kappawatt.services.hourly_load.inference import CLASSIC_FILES
    from kappawatt.services.hourly_load.service import SERVICE
    from kappawatt.settings import Settings

    artifact = find_artifact(SERVICE.artifacts(Settings.read({})), "baseline")
    classic: Classic = unpack_classic({name: artifact.read(name) for name in CLASSIC_FILES})
    past = zone_load("America/New_York", 900, 40)
    targets = day_intervals(np.datetime64("2018-05-01"), "America/New_York", 900)

    fan = FORECASTER.forecast(classic, past, targets)

    hours = classic.forecast(hours_of(past), day_intervals(np.datetime64("2018-05-01"), "America/New_York", 3600))
    np.testing.assert_allclose(fan.median.reshape(24, 4).mean(axis=1), hours.median, rtol=1e-9)
