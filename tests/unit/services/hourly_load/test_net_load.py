"""Load less the sun on roofs: zero and below at noon, where there is no logarithm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kappawatt.forecasting.calendar import DAY, HOUR, day_intervals, day_start, issue_time, parse_clock, to_local
from kappawatt.forecasting.fan import naive_values
from kappawatt.forecasting.history import History, Past
from kappawatt.models.artifact import find_artifact
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.services.hourly_load.inference import Fitted
from kappawatt.services.hourly_load.lifting import LOWEST, lift_of, lifted
from kappawatt.services.hourly_load.model import fit
from kappawatt.services.hourly_load.service import SERVICE
from kappawatt.settings import Settings
from tests.unit.services.hourly_load.series import made_up_load

ZONE = "Australia/Perth"
END = np.datetime64("2023-11-20")


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    found = FORECASTER.load(find_artifact(SERVICE.artifacts(Settings.read({}))))
    assert isinstance(found, Fitted)
    return found


def net_load(days: int = 400, step: int = 3600, sun: float = 1.7, seed: int = 21) -> History:
    """A district of 60 MW and its roofs, up to `END`."""
    first, end = day_start(np.array([END - days, END], "datetime64[D]"), ZONE)
    times = np.arange(first, end, np.timedelta64(step, "s"))
    local = to_local(times, ZONE)
    date = local.astype("datetime64[D]")
    number, h = (date - date[0]).astype(int), (local - date) / HOUR
    random = np.random.default_rng(seed)
    course = 1 + 0.2 * np.sin(2 * np.pi * (h - 10) / 24) - 0.1 * ((date.astype(int) + 3) % 7 >= 5)
    summer = np.cos(2 * np.pi * (date - np.datetime64("2022-12-21")).astype(int) / 365.25)
    shine = np.maximum(np.sin(2 * np.pi * (h - 6) / 24) + 0.25 * summer, 0) * (0.75 + 0.25 * summer)
    clear = random.choice([1.0, 0.95, 0.6], number[-1] + 1, p=[0.5, 0.3, 0.2])[number]
    history = History("roofs", ZONE, step)
    history.add(times, 60.0 * (course - sun * shine * clear) + random.normal(0, 0.6, len(times)))
    return history


@pytest.mark.parametrize("step", [3600, 900])
def test_noons_below_zero_are_forecast_better_than_by_the_week_before(fitted: Fitted, step: int) -> None:
    history = net_load(step=step)
    own, naive, noon = [], [], []
    for back in range(1, 29, 3):
        date = END - back
        issue, targets = issue_time(date, parse_clock("12:00"), ZONE), day_intervals(date, ZONE, step)
        issued = FORECASTER.issue(fitted, history.until(issue), targets)
        measured = np.array(list(history.measured(targets).values()))
        assert issued.fallback is None
        assert (np.diff(issued.fan.quantiles, axis=1) >= 0).all()
        own.append(np.abs(issued.fan.median - measured))
        naive.append(np.abs(naive_values(issued.past, targets) - measured))
        noon.append((issued.fan.median[len(targets) // 2], measured[len(targets) // 2]))

    assert np.mean(own) < 0.85 * np.mean(naive)
    assert max(said for said, _ in noon) < 0  # as every noon that was measured
    assert max(measured for _, measured in noon) < 0


def test_the_scale_of_a_series_changes_nothing_but_the_scale(fitted: Fitted) -> None:
    history = net_load()
    past = history.until(history.known_until())
    targets = day_intervals(END, ZONE, 3600)
    small = fitted.forecast(past, targets).quantiles

    large = fitted.forecast(replace(past, values=past.values * 512), targets).quantiles

    np.testing.assert_allclose(large, small * 512, rtol=1e-9, atol=1e-9 * np.abs(large).max())


def test_many_issue_times_give_what_each_gives_alone(fitted: Fitted) -> None:
    history = net_load()
    whole = history.until(history.known_until())
    issues = [day_start(np.array([END - back]), ZONE)[0] for back in (40, 9)]
    targets = [day_intervals(END - back, ZONE, 3600) for back in (40, 9)]

    together = fitted.forecast_many(whole, issues, targets)

    for issue, own, fan in zip(issues, targets, together, strict=True):
        assert np.array_equal(fan.quantiles, fitted.forecast(history.until(issue), own).quantiles)


def test_with_too_few_days_to_learn_from_the_naive_answers_and_says_why(fitted: Fitted) -> None:
    history = net_load(days=25)
    targets = day_intervals(END, ZONE, 3600)
    past = history.until(history.known_until())

    issued = FORECASTER.issue(fitted, past, targets)

    assert issued.fallback is not None
    assert "values at or below zero" in issued.fallback
    assert np.array_equal(issued.fan.median, naive_values(past, targets))


def test_a_positive_series_is_not_lifted() -> None:
    past = made_up_load(40)

    assert lifted(past) is past
    assert lift_of(replace(past, values=np.full(20, np.nan))) == 0.0


def test_a_lifted_series_has_its_lowest_hour_where_zones_have_it() -> None:
    history = net_load()

    values = lifted(history.until(history.known_until())).values

    assert values.min() == pytest.approx(LOWEST * values.mean())


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_series_of_one_value_is_lifted_above_zero(value: float) -> None:
    past = replace(made_up_load(20), values=np.full(480, value))

    assert (lifted(past).values > 0).all()


def test_a_fit_to_net_load_alone_learns_its_noons() -> None:
    history = net_load()
    own = fit([history.until(history.known_until() - 30 * DAY)], (0,))
    errors, naive, noon = [], [], []
    for back in range(1, 30):
        targets = day_intervals(END - back, ZONE, 3600)
        past = history.until(targets[0])
        measured = np.array(list(history.measured(targets).values()))
        median = own.forecast(past, targets).median
        errors.append(np.abs(median - measured))
        naive.append(np.abs(naive_values(past, targets) - measured))
        noon.append(median[12])

    assert np.mean(errors) < 0.85 * np.mean(naive)
    assert max(noon) < 0


def test_one_hour_below_zero_does_not_spoil_a_zone(fitted: Fitted) -> None:
    past: Past = made_up_load(500)
    issue, date = past.issue_time, np.datetime64("2014-05-16")
    targets = day_intervals(date, past.time_zone, 3600)
    values = past.values.copy()
    values[3000] = -10.0
    as_it_is = fitted.forecast(past, targets).median

    lifted_one = fitted.forecast(replace(past, values=values, issue_time=issue), targets).median

    assert np.abs(lifted_one / as_it_is - 1).mean() < 0.03
