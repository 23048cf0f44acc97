"""The default model of hourly load: fit, forecast, widths, files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kappawatt.errors import ArtifactInvalid, HistoryInsufficient, SettingInvalid
from kappawatt.forecasting.calendar import HOUR, Times, day_intervals, issue_time, parse_clock
from kappawatt.forecasting.fan import LEVELS, naive_values
from kappawatt.forecasting.history import Past
from kappawatt.services.hourly_load.calibration import calibrate
from kappawatt.services.hourly_load.inference import HISTORY, Fitted, pack, unpack
from kappawatt.services.hourly_load.model import fit, lead_of
from tests.unit.services.hourly_load.series import ZONE, made_up_load

NOON, MIDNIGHT = parse_clock("12:00"), parse_clock("00:00")
SERIES = made_up_load(560)
FIT_UNTIL = np.datetime64("2014-05-01T04:00", "ms")


def until(past: Past, issue: np.datetime64) -> Past:
    """What `History.until` would give."""
    n = int((issue - past.start) / HOUR)
    return replace(past, values=past.values[:n], issue_time=issue)


def question(date: str, clock: np.timedelta64) -> tuple[Past, Times]:
    day = np.datetime64(date)
    return until(SERIES, issue_time(day, clock, ZONE)), day_intervals(day, ZONE, 3600)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit([until(SERIES, FIT_UNTIL)], leads=(0, 12))


def test_it_beats_the_seasonal_naive_and_midnight_beats_noon(fitted: Fitted) -> None:
    dates = np.arange("2014-05-02", "2014-06-02", dtype="datetime64[D]").astype(str).tolist()
    targets = [question(date, NOON)[1] for date in dates]
    measured = [SERIES.at(own) for own in targets]

    def error(forecasts: list[np.ndarray]) -> float:
        return float(np.mean([np.abs(f / m - 1).mean() for f, m in zip(forecasts, measured, strict=True)]))

    def at(clock: np.timedelta64) -> float:
        issues = [question(date, clock)[0].issue_time for date in dates]
        return error([fan.median for fan in fitted.forecast_many(SERIES, issues, targets)])

    naive = error([naive_values(question(date, NOON)[0], own) for date, own in zip(dates, targets, strict=True)])
    assert at(MIDNIGHT) < at(NOON) < 0.9 * naive


@pytest.mark.parametrize(("date", "hours"), [("2014-03-09", 23), ("2014-05-03", 24), ("2013-11-03", 25)])
def test_a_day_of_any_length_has_quantiles_that_do_not_fall(fitted: Fitted, date: str, hours: int) -> None:
    past, targets = question(date, NOON)

    fan = fitted.forecast(past, targets)

    assert fan.quantiles.shape == (hours, len(LEVELS))
    assert (np.diff(fan.quantiles, axis=1) >= 0).all()
    assert np.isfinite(fan.quantiles).all()


def test_many_days_at_once_give_the_same_bits_as_each_alone(fitted: Fitted) -> None:
    dates = ["2014-05-03", "2014-05-04", "2014-06-10"]
    asked = [question(date, NOON) for date in dates]

    together = fitted.forecast_many(SERIES, [past.issue_time for past, _ in asked], [targets for _, targets in asked])

    for fan, (past, targets) in zip(together, asked, strict=True):
        np.testing.assert_array_equal(fan.quantiles, fitted.forecast(past, targets).quantiles)


def test_what_comes_after_the_issue_time_changes_no_forecast(fitted: Fitted) -> None:
    past, targets = question("2014-05-20", NOON)
    scrambled = SERIES.values.copy()
    scrambled[len(past) :] = 1.0

    fan = fitted.forecast_many(replace(SERIES, values=scrambled), [past.issue_time], [targets])[0]

    np.testing.assert_array_equal(fan.quantiles, fitted.forecast(past, targets).quantiles)


def test_more_history_than_it_reads_changes_no_forecast(fitted: Fitted) -> None:
    long = made_up_load(1400)
    day = np.datetime64("2016-10-01")
    past = until(long, issue_time(day, NOON, ZONE))
    targets = day_intervals(day, ZONE, 3600)

    fan = fitted.forecast(past, targets)

    assert len(past) > HISTORY
    np.testing.assert_array_equal(fan.quantiles, fitted.forecast(past.last(HISTORY), targets).quantiles)


def test_an_issue_between_two_leads_is_answered_as_the_earlier_one_was(fitted: Fitted) -> None:
    at_noon, targets = question("2014-05-20", NOON)
    at_three, _ = question("2014-05-20", parse_clock("15:00"))

    noon, three = fitted.forecast(at_noon, targets), fitted.forecast(at_three, targets)

    np.testing.assert_array_equal(noon.median, three.median)


def test_files_give_the_model_back_to_the_bit(fitted: Fitted) -> None:
    past, targets = question("2014-05-20", MIDNIGHT)

    again = unpack(pack(fitted))

    np.testing.assert_array_equal(again.forecast(past, targets).quantiles, fitted.forecast(past, targets).quantiles)
    assert again.held_from == fitted.held_from


@pytest.mark.parametrize("damage", ["members.json", "lead_12.npz", "lead_12_trees.ubj"])
def test_a_damaged_or_missing_file_is_refused(fitted: Fitted, damage: str) -> None:
    files = pack(fitted)

    with pytest.raises(ArtifactInvalid, match="hourly-load"):
        unpack(files | {damage: files[damage][: len(files[damage]) // 2]})
    with pytest.raises(ArtifactInvalid, match="hourly-load"):
        unpack({name: content for name, content in files.items() if name != damage})


def test_the_newest_sixteen_weeks_are_kept_out_of_the_fit(fitted: Fitted) -> None:
    days = int((np.datetime64(FIT_UNTIL, "D") - fitted.held_from).astype(int))

    assert 0 < days <= 112


def test_a_history_without_its_last_week_is_refused(fitted: Fitted) -> None:
    past, targets = question("2014-05-20", NOON)
    values = past.values.copy()
    values[-7 * 24 :] = np.nan

    with pytest.raises(HistoryInsufficient, match="last week"):
        fitted.forecast(replace(past, values=values), targets)


def test_too_little_to_fit_is_said() -> None:
    with pytest.raises(SettingInvalid, match="history: got 30 days, allowed 60 or more"):
        fit([made_up_load(30)])


@pytest.mark.parametrize(("clock", "lead"), [("00:00", 0), ("12:00", 12), ("23:00", 1), ("01:00", 23)])
def test_lead_is_hours_from_the_clock_to_midnight(clock: str, lead: int) -> None:
    assert lead_of(parse_clock(clock)) == lead


def residuals(days: int = 112) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 1, (days, 24))


REFERENCE = np.linspace(-3, 3, 99)


def width(values: np.ndarray, lead: int = 0) -> float:
    found = calibrate(values, lead, REFERENCE, lead)
    return float(found.scale * (found.quantiles[-1] - found.quantiles[0]))


def test_independent_errors_get_the_width_of_their_own_quantiles() -> None:
    assert width(residuals()) == pytest.approx(2 * 1.645, rel=0.15)


def test_a_day_that_was_missed_widens_the_next_and_not_without_bound() -> None:
    calm = residuals()
    missed, all_missed = calm.copy(), calm.copy()
    missed[-1] = 3.0
    all_missed[-10:] = 30.0

    assert width(calm) < width(missed)
    assert width(all_missed) < 4 * 30.0


def test_with_few_days_the_width_is_that_of_training() -> None:
    found = calibrate(residuals(5), 0, REFERENCE, 0)

    np.testing.assert_allclose(found.quantiles, np.quantile(REFERENCE, LEVELS))


def test_with_few_days_nothing_is_said_of_a_lead_that_training_did_not_know() -> None:
    with pytest.raises(HistoryInsufficient, match="60 h from the last value to the day to forecast, and 2 days"):
        calibrate(residuals(5), 60, REFERENCE, 12)


def test_at_noon_the_morning_already_counts() -> None:
    calm = residuals()
    calm[-1, 12:] = np.nan
    missed = calm.copy()
    missed[-1, :12] = 3.0

    assert width(missed, lead=12) > width(calm, lead=12)
