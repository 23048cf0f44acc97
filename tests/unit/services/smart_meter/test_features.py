"""Features of the smart meter model: only the past, whatever the clock does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kappawatt.forecasting.calendar import day_intervals, same_local_time
from kappawatt.forecasting.fan import LEVELS
from kappawatt.forecasting.history import History, Past
from kappawatt.services.smart_meter.features import (
    DAY_FEATURE_NAMES,
    DEPTH,
    FEATURE_NAMES,
    compress,
    expand,
    features,
    inputs,
    weighted_quantiles,
)
from tests.unit.services.smart_meter.meters import ZONE, household, next_day


def test_features_have_their_names_and_are_finite() -> None:
    past = household()

    given = inputs(past, next_day(past))

    assert given.features.shape == (48, len(FEATURE_NAMES))
    assert given.day_features.shape == (2, len(DAY_FEATURE_NAMES))
    assert given.base.shape == (48, len(LEVELS))
    assert all(np.isfinite(part).all() for part in (given.features, given.day_features, given.base, given.spread))
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert features(past, next_day(past)).tolist() == given.features.tolist()


@pytest.mark.parametrize("hours_before", [0, 1, 12])
def test_nothing_after_the_issue_time_is_seen(hours_before: int) -> None:
    whole = household(80)
    targets = day_intervals(np.datetime64("2022-08-09"), ZONE, 1800)
    issue = targets[0] - np.timedelta64(hours_before, "h")
    scrambled = replace(whole, values=np.where(whole.times >= issue, 9.0, whole.values))

    seen = []
    for series in (whole, scrambled):
        history = History("meter-1", ZONE, 1800)
        history.add(series.times, series.values)
        given = inputs(history.until(issue), targets)
        seen.append(np.concatenate([part.ravel() for part in (given.features, given.day_features, given.base)]))

    assert (seen[0] == seen[1]).all()


def test_the_unit_of_a_meter_makes_no_difference() -> None:
    past = household()
    tenfold = replace(past, values=past.values * 10)

    one, ten = inputs(past, next_day(past)), inputs(tenfold, next_day(past))

    assert ten.scale == pytest.approx(10 * one.scale)
    assert ten.features == pytest.approx(one.features, abs=1e-9)
    assert ten.day_features == pytest.approx(one.day_features, abs=1e-9)


@pytest.mark.parametrize("date", ["2022-11-06", "2022-11-07", "2022-12-20", "2023-03-12", "2023-03-13", "2023-04-20"])
def test_lags_are_the_same_wall_clock_time_across_a_clock_change(date: str) -> None:
    whole = household(340, step=900)
    targets = day_intervals(np.datetime64(date), ZONE, 900)
    past = _until(whole, targets[0])

    given = inputs(past, targets)

    for name, days in (("lag_1_days", 1), ("lag_7_days", 7), ("lag_14_days", 14)):
        lagged = compress(whole.at(same_local_time(targets, ZONE, days)) / given.scale)
        relative = (lagged - given.base[:, LEVELS.index(0.5)]) / given.spread
        column = given.features[:, FEATURE_NAMES.index(name)]
        assert column == pytest.approx(np.clip(relative, -4, 4)), name


def test_lead_is_counted_from_the_newest_value_that_is_known() -> None:
    past = household()
    late = replace(past, values=np.where(np.arange(len(past)) >= len(past) - 48, np.nan, past.values))

    leads = [features(one, next_day(past))[0, FEATURE_NAMES.index("lead")] for one in (past, late)]

    assert leads == [0.0, 1.0]


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_a_dead_meter_or_one_hardly_known_has_finite_features(fill: float) -> None:
    past = household(7)
    empty = replace(past, values=np.where(np.arange(len(past)) < len(past) - 1, fill, 0.0))

    given = inputs(empty, next_day(past))

    assert np.isfinite(given.features).all()
    assert np.isfinite(given.day_features).all()
    assert np.isfinite(given.base).all()


def test_equal_weights_give_the_midpoint_quantiles_and_a_heavy_value_draws_them() -> None:
    values = np.array([[4.0, 1.0, 3.0, 2.0]])

    even = weighted_quantiles(values, np.ones(4), (0.125, 0.5, 0.875))
    heavy = weighted_quantiles(values, np.array([97.0, 1.0, 1.0, 1.0]), (0.25, 0.5))

    assert even.tolist() == [[1.0, 2.5, 4.0]]  # Hazen's plotting positions, (i - 0.5) / n
    assert (heavy > 3.4).all()


def test_quantiles_of_random_rows_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=(20, DEPTH))

    found = weighted_quantiles(values, np.ones(DEPTH), LEVELS)

    assert found == pytest.approx(np.quantile(values, LEVELS, axis=1, method="hazen").T)


def test_what_is_compressed_expands_to_itself_and_never_below_zero() -> None:
    multiples = np.linspace(0, 50, 11)

    assert expand(compress(multiples)) == pytest.approx(multiples)
    assert expand(np.array([-1.0])).tolist() == [0.0]


def _until(whole: Past, moment: np.datetime64) -> Past:
    n = int((moment - whole.start) // whole.interval)
    return replace(whole, values=whole.values[:n], issue_time=moment)
