"""How the model with weather is fitted to one series, and how its stations are chosen.

Hour by hour it is linear regression; only the trees need rounds. All of the past is learned from, the newest days too:
what calibration needs are residuals of days that were not seen, and these come from fits without each month. Trees
leave out the last weeks instead, for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .boosting import SMALLEST_SPREAD, TREES, boost, predicted, reference_of
from .correction import LOOKS_BACK, OUTLIER, fit_correction
from .day_kinds import day_kinds, holidays_of
from .response import fit_response, small_error
from .temperature import DAYS, Course, course_of
from .wall_clock import HOURS, Cells, WallClock, cells_of_days
from .weather_member import TREE_SHARE, WeatherMember, calendar_of, tree_rows

__all__ = ["fit_weather"]

Matrix = NDArray[np.float64]

LEAST_DAYS = 330  # with load and temperature: most of a year, or heat or cold was not seen
MOST_WORSE = 1.03  # error of a mean of stations, beside the best, for one more to be taken
PICK_HOURS = (4, 9, 14, 19)  # that the choice is made on
PICK_BLOCKS = 6

DEEP = {**TREES, "max_depth": 5, "eta": 0.04, "colsample_bytree": 0.35, "min_child_weight": 40}
DEEP_ROUNDS = 250
SPREAD = {**DEEP, "max_depth": 4, "min_child_weight": 400, "reg_lambda": 10.0}
SPREAD_ROUNDS = 80


def fit_weather(key: str, clock: WallClock, leads: Sequence[int], held_from: np.datetime64) -> list[WeatherMember]:
    """Fit the model with weather to one series, for each lead; none where it has no temperature, or too little of it.

    Stations and response are those of the series, whatever the lead.

    Parameters
    ----------
    key : str
        Name of the series.
    clock : WallClock
    leads : sequence of int
        Hours from the issue time to the start of the target day.
    held_from : datetime64[D]
        First local day that the trees do not see.
    """
    if not clock.stations:
        return []
    all_days = np.arange(DAYS, len(clock.log_load) // HOURS)
    load = clock.log_load[: (len(clock.log_load) // HOURS) * HOURS].reshape(-1, HOURS)
    weights = _chosen(clock, all_days, load)
    if weights is None:
        return []
    stations = tuple(name for name, weight in zip(clock.stations, weights, strict=True) if weight > 0)
    weights = weights[weights > 0]
    course = course_of(clock, stations, weights)
    if course is None:
        return []
    days, paths = _usable(course, all_days, load)
    if len(days) < LEAST_DAYS:
        return []
    clock = replace(clock, temperature=None)
    names = _special_names(clock)
    calendar = calendar_of(clock, days, names)
    response, expected = fit_response(paths, calendar, load[days], names)
    residuals = np.full(len(clock.log_load), np.nan)
    residuals[cells_of_days(days)] = load[days] - expected
    later = days >= days[0] + LOOKS_BACK
    days, paths, expected, calendar = days[later], paths[later], expected[later], calendar[later]
    seen_days = np.repeat(clock.first + days < held_from, HOURS)
    members = []
    for lead in leads:
        correction, more = fit_correction(residuals, days, lead, calendar.month)
        linear = expected + more
        matrix = tree_rows(clock, paths, linear, days, lead)
        left = (load[days] - linear).ravel()
        usable = np.abs(left) < OUTLIER  # NaN is not
        seen = usable & seen_days
        trees = boost(matrix[seen], left[seen], DEEP, DEEP_ROUNDS)
        spread = boost(matrix[usable], np.abs(left[usable]), SPREAD, SPREAD_ROUNDS)
        held = usable & ~seen if (usable & ~seen).sum() >= HOURS * LOOKS_BACK else usable
        off = left[held] - TREE_SHARE * predicted(trees, matrix[held])
        reference = reference_of(off / np.maximum(predicted(spread, matrix[held]), SMALLEST_SPREAD))
        members.append(WeatherMember(key, lead, stations, weights, response, correction, trees, spread, reference))
    return members


def _usable(course: Course, days: Cells, load: Matrix) -> tuple[Cells, Matrix]:
    """Return the days whose load and temperature are known, and their paths."""
    paths = course.measured(days)
    whole = days * HOURS + HOURS <= course.issue
    known = whole & np.isfinite(load[days]).all(axis=1) & np.isfinite(paths).all(axis=1)
    return days[known], paths[known]


def _special_names(clock: WallClock) -> tuple[str, ...]:
    """Return the special days of the series' span, each of which gets a term."""
    country = holidays_of(clock.time_zone, clock.holidays)
    kinds = day_kinds(clock.first, clock.first + len(clock.log_load) // HOURS, country)
    return tuple(sorted(kinds.names))


def _chosen(clock: WallClock, days: Cells, load: Matrix) -> Matrix | None:
    """Return the weight of each station: the best is taken, and those whose part makes the mean hardly worse.

    Several are worth a little of what the measured temperature of one would tell: forecasts of single stations are off
    by more than forecasts of their mean.

    References
    ----------
    T. Hong, P. Wang, L. White, Weather station selection for electric load forecasting, Int. J. Forecasting 31 (2015)
    286-295: stations in order of their own errors, as many as help.
    """
    n = len(clock.stations)
    courses = [course_of(clock, (name,), np.ones(1)) for name in clock.stations]
    usable = [_usable(course, days, load)[0] if course else np.empty(0, np.int64) for course in courses]
    enough = [len(own) >= LEAST_DAYS for own in usable]
    if not any(enough):
        return None
    if n == 1:
        return np.ones(1)
    common = usable[int(np.argmax([len(own) for own in usable]))]
    for own, is_enough in zip(usable, enough, strict=True):
        if is_enough:
            common = np.intersect1d(common, own)
    if len(common) < LEAST_DAYS:
        return np.array(enough) / sum(enough)
    paths = [_usable(course, common, load)[1] if course and fine else None
             for course, fine in zip(courses, enough, strict=True)]  # fmt: skip
    calendar = calendar_of(clock, common, ())
    best, taken = np.inf, np.zeros(n, np.bool_)
    while not taken.all():
        errors = np.full(n, np.inf)
        for i, path in enumerate(paths):
            if path is not None and not taken[i]:
                those = [p for p, is_taken in zip(paths, taken, strict=True) if is_taken and p is not None]
                mean = sum(those, path) / (1 + len(those))
                errors[i] = small_error(mean, calendar, load[common], PICK_HOURS, PICK_BLOCKS)
        if errors.min() > MOST_WORSE * best:
            break
        best = min(best, float(errors.min()))
        taken[int(errors.argmin())] = True
    result: Matrix = taken / taken.sum()
    return result
