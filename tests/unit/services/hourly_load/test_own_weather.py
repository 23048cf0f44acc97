"""Weather beside models that were not trained with it: learned from a series' own last weeks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kappawatt.forecasting.calendar import HOUR, Times, issue_time
from kappawatt.forecasting.history import History
from kappawatt.models.artifact import find_artifact
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.services.hourly_load.inference import Fitted
from kappawatt.services.hourly_load.model import fit
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from tests.unit.services.hourly_load.series import ZONE
from tests.unit.services.hourly_load.test_weather import (
    ALWAYS,
    FIT_UNTIL,
    LOAD,
    NEVER,
    NOON,
    START,
    TIMES,
    WEATHER,
    error,
    history,
    load_of,
    question,
)

DATES = np.arange("2014-05-02", "2014-07-08", 3, dtype="datetime64[D]")
Values = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(scope="module")
def shipped() -> Fitted:
    """The model that the package has, which has seen no weather."""
    model = FORECASTER.load(find_artifact(find_service("hourly-load").artifacts(Settings.read({}))))
    fitted: Fitted = model
    return fitted


def beside(name: str, values: Values, load: Values = LOAD, known: Times | None = None) -> History:
    """The zone with something that is known ahead."""
    found = History("zone", ZONE, 3600)
    found.add(TIMES, load)
    found.add(TIMES, np.full(len(TIMES), np.nan), known, {name: values})
    return found


@pytest.fixture(scope="module")
def without(shipped: Fitted) -> tuple[float, float, float]:
    return error(shipped, history(NEVER), DATES)


def test_a_model_that_has_seen_no_weather_forecasts_better_with_it(
    shipped: Fitted, without: tuple[float, float, float]
) -> None:
    forecast = error(shipped, history("2013-12-01"), DATES)
    perfect = error(shipped, history(ALWAYS), DATES)

    assert perfect[0] < 0.92 * without[0]
    assert perfect[0] < forecast[0] < without[0]
    assert perfect[2] < forecast[2] < without[2]
    assert 0.84 < forecast[1] < 0.96


def test_what_has_nothing_to_do_with_the_load_costs_next_to_nothing(
    shipped: Fitted, without: tuple[float, float, float]
) -> None:
    noise = np.random.default_rng(2).normal(50, 10, len(TIMES))

    assert error(shipped, beside("relative_humidity", noise), DATES)[0] < 1.03 * without[0]


def test_anything_known_ahead_counts() -> None:
    daily = np.zeros(len(TIMES) // 24)
    for i, shock in enumerate(np.random.default_rng(4).normal(0, 10, len(daily))):
        daily[i] = 0.7 * daily[i - 1] + shock if i else shock
    daily = np.repeat(daily, 24)
    load = load_of(np.full(len(TIMES), 16.0)) * np.exp(-0.006 * daily)  # it is as mild every day

    known = beside("covariate_7", daily, load)
    bare = History("zone", ZONE, 3600)
    bare.add(TIMES, load)
    fitted = fit([bare.until(issue_time(np.datetime64(FIT_UNTIL), NOON, ZONE))], leads=(12,))

    errors = [
        np.mean([
            np.abs(fitted.forecast(*question(one, date)).median / of_day(load, one, date) - 1).mean()
            for date in DATES.astype(str).tolist()
        ])
        for one in (known, bare)
    ]  # fmt: skip
    assert errors[0] < 0.85 * errors[1]


def of_day(load: Values, known: History, date: str) -> Values:
    _, targets = question(known, date)
    return load[((targets - START) / HOUR).astype(int)]


def test_what_is_not_known_of_the_day_moves_nothing(shipped: Fitted) -> None:
    past, targets = question(history(ALWAYS), "2014-05-20")
    ended = {name: one[: len(past)] for name, one in past.covariates.items()}

    fan = shipped.forecast(replace(past, covariates=ended), targets)

    np.testing.assert_array_equal(fan.quantiles, shipped.forecast(replace(past, covariates={}), targets).quantiles)
    assert not np.array_equal(fan.quantiles, shipped.forecast(past, targets).quantiles)


@pytest.mark.parametrize(("days", "is_used"), [(20, False), (60, True)])
def test_it_takes_four_weeks_of_weather(shipped: Fitted, days: int, is_used: bool) -> None:
    past, targets = question(history(ALWAYS), "2014-05-20")
    young = {
        name: np.where(np.arange(len(one)) < len(past) - 24 * (days + 10), np.nan, one)
        for name, one in past.covariates.items()
    }

    fan = shipped.forecast(replace(past, covariates=young, ahead={}), targets)

    without = shipped.forecast(replace(past, covariates={}), targets)
    assert np.array_equal(fan.quantiles, without.quantiles) != is_used


def test_weather_measured_after_the_issue_time_changes_no_forecast(shipped: Fitted) -> None:
    past, targets = question(history("2013-12-01"), "2014-05-20")
    later = past.issue_time < TIMES + HOUR
    other = history("2013-12-01", {name: np.where(later, one + 9, one) for name, one in WEATHER.items()})

    fan = shipped.forecast(*question(other, "2014-05-20"))

    np.testing.assert_array_equal(fan.quantiles, shipped.forecast(past, targets).quantiles)


def test_many_days_at_once_give_the_same_bits_as_each_alone(shipped: Fitted) -> None:
    told = history("2013-12-01")
    asked = [question(told, date) for date in ("2014-05-03", "2014-05-04", "2014-06-10")]
    whole = told.until(TIMES[-1] + HOUR)

    together = shipped.forecast_many(whole, [past.issue_time for past, _ in asked], [targets for _, targets in asked])

    for fan, (past, targets) in zip(together, asked, strict=True):
        np.testing.assert_array_equal(fan.quantiles, shipped.forecast(past, targets).quantiles)


def test_net_load_knows_the_sun(shipped: Fitted) -> None:
    from bench.net_load import net_load, scored

    scores = [
        scored(
            FORECASTER,
            shipped,
            net_load("Europe/Madrid", 12.0, 4.0, 3, is_sun_told=told),
            ("2024-10-01", "2024-10-14"),
            "12:00",
        )
        for told in (False, True)
    ]

    assert scores[1].mae < 0.9 * scores[0].mae
