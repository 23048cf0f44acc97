"""Hourly load at any hour of issue and up to two weeks ahead: sharpened by the newest hours, one fan."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import HOUR, Times, day_intervals, day_start, issue_time, parse_clock
from kappawatt.forecasting.history import Past
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.services.hourly_load.horizon_fit import fit_any_lead
from kappawatt.services.hourly_load.inference import NEWEST_HOURS, Fitted, pack, unpack
from kappawatt.services.hourly_load.model import fit
from kappawatt.services.hourly_load.newest_hours import residual_terms
from tests.unit.services.hourly_load.series import ZONE, made_up_load

SERIES = made_up_load(560)
FIT_UNTIL = np.datetime64("2014-05-01T04:00", "ms")
LEADS = (24, 36, 48, 60, 72, 336)  # of those that are shipped
DATES = np.arange("2014-05-03", "2014-06-12", dtype="datetime64[D]")


def until(past: Past, issue: np.datetime64) -> Past:
    """What `History.until` would give."""
    n = int((issue - past.start) / past.interval)
    return replace(past, values=past.values[:n], issue_time=issue)


def at_hour(date: np.datetime64, hour: int) -> np.datetime64:
    return day_start(np.array([date]), ZONE)[0] + hour * HOUR


def rest_of(date: np.datetime64, hour: int) -> Times:
    return day_intervals(date, ZONE, 3600)[hour:]


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit_any_lead([until(SERIES, FIT_UNTIL)], far_leads=LEADS)


def errors_of(fitted: Fitted, hour: int, ahead: int = 0) -> np.ndarray:
    """Relative errors of a day's hours, shape (n_days, hours), issued at an hour of the same or an earlier day."""
    issues = [at_hour(date - ahead, hour) for date in DATES]
    targets = [rest_of(date, 0 if ahead else hour) for date in DATES]
    fans = fitted.forecast_many(SERIES, issues, targets)
    return np.array([fan.median / SERIES.at(own) - 1 for fan, own in zip(fans, targets, strict=True)])


def test_each_new_hour_makes_the_rest_of_the_day_better_known(fitted: Fitted) -> None:
    at_start = np.abs(errors_of(fitted, 0))

    for hour in (3, 10, 15, 20):
        later = np.abs(errors_of(fitted, hour))
        assert later[:, 0].mean() < 0.75 * at_start[:, hour].mean()
        assert later.mean() < at_start[:, hour:].mean()


def test_the_afternoon_makes_tomorrow_better_known(fitted: Fitted) -> None:
    mean = {hour: np.abs(errors_of(fitted, hour, 1)).mean() for hour in (0, 6, 12, 18, 23)}

    assert mean[0] > mean[6] > mean[12] > mean[18] > mean[23]


def test_midnight_and_noon_have_the_bits_of_the_two_members_alone(fitted: Fitted) -> None:
    alone = fit([until(SERIES, FIT_UNTIL)], leads=(0, 12))

    for clock in ("00:00", "12:00"):
        for date in DATES[:3]:
            past = until(SERIES, issue_time(date, parse_clock(clock), ZONE))
            targets = day_intervals(date, ZONE, 3600)
            found, expected = (model.forecast(past, targets).quantiles for model in (fitted, alone))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("hour", [1, 9, 12, 17, 23])
def test_an_hour_is_one_number_in_whatever_window_it_is_asked(fitted: Fitted, hour: int) -> None:
    date = np.datetime64("2014-05-20")
    past = until(SERIES, at_hour(date, hour))
    days = [rest_of(date, hour), *(day_intervals(date + i, ZONE, 3600) for i in range(1, 8))]

    together = fitted.forecast(past, np.concatenate(days)).quantiles

    alone = [fitted.forecast(past, own).quantiles for own in days]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    np.testing.assert_array_equal(fitted.forecast(past, days[0][:1]).quantiles, together[:1])
    assert (np.diff(together, axis=1) >= 0).all()


@pytest.mark.parametrize("hour", [5, 18])
def test_days_join_at_midnight_as_hours_join_elsewhere(fitted: Fitted, hour: int) -> None:
    targets = [np.concatenate([day_intervals(d + i, ZONE, 3600) for i in range(4)]) for d in DATES[:-4]]
    targets = [own[hour:] for own in targets]
    fans = fitted.forecast_many(SERIES, [at_hour(d, hour) for d in DATES[:-4]], targets)

    off = np.array(
        [np.diff(np.log(f.median)) - np.diff(np.log(SERIES.at(t))) for f, t in zip(fans, targets, strict=True)]
    )

    size = np.abs(off).mean(axis=0)
    at_midnight = np.arange(hour + 1, hour + 1 + len(size)) % 24 == 0
    assert size[at_midnight].max() < 1.2 * size[~at_midnight].max()


def test_the_interval_widens_with_the_lead_and_holds(fitted: Fitted) -> None:
    targets = [rest_of(date, 9) for date in DATES]
    fans = fitted.forecast_many(SERIES, [at_hour(date, 9) for date in DATES], targets)
    width = np.mean([(fan.upper - fan.lower) / fan.median for fan in fans], axis=0)
    held = [
        (fan.lower <= SERIES.at(own)) & (SERIES.at(own) <= fan.upper) for fan, own in zip(fans, targets, strict=True)
    ]

    assert 1.5 * width[0] < width[4] < width[14]
    assert 0.82 < np.mean(held) < 0.97


@pytest.mark.parametrize("hour", [4, 16])
def test_what_comes_after_the_issue_time_changes_nothing(fitted: Fitted, hour: int) -> None:
    date = np.datetime64("2014-05-20")
    issue = at_hour(date, hour)
    known = until(SERIES, issue)
    values = SERIES.values.copy()
    values[len(known) :] = 1.0
    targets = np.concatenate([rest_of(date, hour), day_intervals(date + 1, ZONE, 3600)])

    (found,) = fitted.forecast_many(replace(SERIES, values=values), [issue], [targets])

    np.testing.assert_array_equal(found.quantiles, fitted.forecast(known, targets).quantiles)


def test_an_issue_in_the_hour_that_repeats_in_autumn_forecasts_the_rest_of_a_day_of_25(fitted: Fitted) -> None:
    date = np.datetime64("2013-11-03")
    issue = at_hour(date, 2)  # the second 1:00

    fan = fitted.forecast(until(SERIES, issue), rest_of(date, 2))

    assert fan.quantiles.shape == (23, 19)
    assert np.isfinite(fan.quantiles).all()


def test_files_give_the_same_model(fitted: Fitted) -> None:
    date = np.datetime64("2014-05-20")
    past = until(SERIES, at_hour(date, 14))
    targets = np.concatenate([rest_of(date, 14), *(day_intervals(date + i, ZONE, 3600) for i in (1, 2, 5))])

    again = unpack(pack(fitted))

    np.testing.assert_array_equal(again.forecast(past, targets).quantiles, fitted.forecast(past, targets).quantiles)
    assert [member.lead for member in again.members] == [0, 12, *LEADS]


def test_newest_hours_of_another_shape_are_refused(fitted: Fitted) -> None:
    files = pack(fitted)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, coefficients=np.zeros((3, 24, 24, 6)), narrowing=np.ones((3, 24, 24)))

    with pytest.raises(ArtifactInvalid, match="newest hours"):
        unpack({**files, NEWEST_HOURS: buffer.getvalue()})


def test_a_model_without_newest_hours_forecasts_the_rest_of_a_day_as_of_its_start(fitted: Fitted) -> None:
    date = np.datetime64("2014-05-20")
    bare = replace(fitted, newest=None)

    later = bare.forecast(until(SERIES, at_hour(date, 15)), rest_of(date, 15)).quantiles

    at_start = bare.forecast(until(SERIES, at_hour(date, 0)), rest_of(date, 15)).quantiles
    np.testing.assert_array_equal(later, at_start)


def test_net_load_below_zero_is_sharpened_too(fitted: Fitted) -> None:
    net = replace(SERIES, values=SERIES.values - 1.01 * SERIES.values.min())
    off: dict[int, list[float]] = {0: [], 15: []}

    for date in DATES[::3]:
        for hour, found in off.items():
            fan = fitted.forecast(until(net, at_hour(date, hour)), rest_of(date, 15))
            assert (np.diff(fan.quantiles, axis=1) >= 0).all()
            found.append(float(np.abs(fan.median - net.at(rest_of(date, 15)))[:3].mean()))

    assert np.mean(off[15]) < 0.75 * np.mean(off[0])


@pytest.mark.parametrize("hour", [0, 7, 15])
def test_a_quarter_hour_is_one_number_in_whatever_window_it_is_asked(fitted: Fitted, hour: int) -> None:
    quarters = replace(
        SERIES, step=900, values=np.repeat(SERIES.values, 4) * np.tile([1.01, 1.0, 1.0, 0.99], len(SERIES))
    )
    date = np.datetime64("2014-05-20")
    past = until(quarters, at_hour(date, hour))
    days = [day_intervals(date + i, ZONE, 900) for i in range(3)]
    days[0] = days[0][4 * hour :]

    together = FORECASTER.forecast(fitted, past, np.concatenate(days)).quantiles

    alone = np.concatenate([FORECASTER.forecast(fitted, past, own).quantiles for own in days])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(FORECASTER.forecast(fitted, past, days[0][5:7]).quantiles, together[5:7])


def test_terms_are_of_the_hours_since_a_forecast_was_due() -> None:
    residuals = np.arange(24.0)[None, :]

    (terms,) = residual_terms(residuals, 12, 20, np.array([0.0]))

    assert terms.tolist() == [19.0, 18.0, 17.0, np.mean(np.arange(14, 20)), np.mean(np.arange(12, 20)), 0.0, 19.0]
    assert residual_terms(residuals, 12, 13, np.array([0.0]))[0, :5].tolist() == [12.0, 0.0, 0.0, 12.0, 12.0]


def test_newest_values_that_are_missing_cost_less_than_the_hours_they_are(fitted: Fitted) -> None:
    """The forecast that was due when the last value came, by a member made for that lead."""
    mean = []
    for missing in (0, 1, 3, 24, 72):
        off = []
        for date in DATES:
            past = until(SERIES, issue_time(date, parse_clock("12:00"), ZONE))
            shorter = replace(past, values=past.values[: len(past) - missing])
            targets = day_intervals(date, ZONE, 3600)
            off.append(np.abs(FORECASTER.forecast(fitted, shorter, targets).median / SERIES.at(targets) - 1).mean())
        mean.append(np.mean(off))

    assert mean[:4] == sorted(mean[:4])
    assert mean[4] > 0.95 * mean[3]  # by then it is the season that is known, and little else
    assert mean[1] < 1.15 * mean[0]
