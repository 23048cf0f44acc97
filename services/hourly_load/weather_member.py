"""The model of one series with weather, as it serves: response, correction and trees, from temperature to hours.

The response says what load the weather asks for, the correction how its newest residuals go on; trees on the load's own
past and the same temperatures see what is left of both and is not additive. Trees alone know no weather beyond what
they have seen: in the cold of January 2018 they were off by twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .boosting import SMALLEST_SPREAD
from .correction import LOOKS_BACK, Correction
from .day_kinds import day_kinds, holidays_of
from .features import FEATURE_NAMES, rows_of_cells
from .response import Days, Response, days_of
from .temperature import Course, average, course_of, newest_day, smoothed
from .wall_clock import HOURS, Cells, WallClock, cells_of_days

if TYPE_CHECKING:
    from xgboost import Booster

__all__ = ["TREE_SHARE", "TREE_TERMS", "WeatherDays", "WeatherMember", "calendar_of", "tree_rows"]

Matrix = NDArray[np.float64]

TREE_SHARE = 0.5  # of what the trees expect to be left, taken
HALF_LIVES = (12.0, 48.0)  # h
LAGS = (2, 6, 12, 24)  # h
DAYS_BACK = 9  # of daily means: the target day, the day before, and the week before it
TREE_TERMS = len(FEATURE_NAMES) + 17


@dataclass(frozen=True, slots=True, eq=False)
class WeatherMember:
    """The model of one series at one lead.

    Parameters
    ----------
    key : str
        Name of the series.
    lead : int
        Hours from the issue time to the start of the target day, by the wall clock.
    stations : tuple of str
        Covariates that are its temperatures.
    weights : ndarray of shape (n_stations,)
        Of each in the mean; they add up to 1.
    response : Response
    correction : Correction
    trees, spread : xgboost.Booster
        What response and correction leave of the logarithm of load; and its mean absolute value.
    reference : ndarray of shape (n,)
        Quantiles of the scaled residuals of the last days of training, evenly spaced in probability.
    """

    key: str
    lead: int
    stations: tuple[str, ...]
    weights: Matrix
    response: Response
    correction: Correction
    trees: Booster
    spread: Booster
    reference: Matrix


class WeatherDays:
    """Days of one series as a member forecasts them, what they share computed once."""

    def __init__(self, member: WeatherMember, clock: WallClock, course: Course) -> None:
        self.member = member
        self._clock = replace(clock, temperature=None)
        self._course = course
        self._residuals = np.full(len(clock.log_load), np.nan)
        self._explained: set[int] = set()

    @classmethod
    def of(cls, member: WeatherMember, clock: WallClock) -> WeatherDays | None:
        """Return them; None if the series has not the stations that the member was fitted to."""
        course = course_of(clock, member.stations, member.weights)
        return None if course is None else cls(member, clock, course)

    def expected(self, days: Cells, lead: int, weather_lead: int) -> tuple[Matrix, Matrix]:
        """Return the logarithm of load and its predicted spread, each of shape (n_days, 24).

        Parameters
        ----------
        days : ndarray of int, shape (n_days,)
        lead : int
            Hours before each day from which on load is not known.
        weather_lead : int
            Hours before each day from which on weather is forecast. NaN where it is not known.
        """
        from xgboost import DMatrix

        member = self.member
        self._explain(int(days.min()), int(days.max()))
        paths = self._course.forecast(days, days * HOURS - weather_lead)
        calendar = calendar_of(self._clock, days, member.response.names)
        linear = member.response.predict(paths, calendar)
        linear += member.correction.predict(self._residuals, days, lead, calendar.month)
        rows = DMatrix(tree_rows(self._clock, paths, linear, days, lead), nthread=1)
        left = member.trees.predict(rows).astype(np.float64).reshape(linear.shape)
        spread = np.maximum(member.spread.predict(rows).astype(np.float64), SMALLEST_SPREAD).reshape(linear.shape)
        return linear + TREE_SHARE * left, spread

    def _explain(self, first: int, last: int) -> None:
        """Compute the residuals of the response to measured weather that days from `first` to `last` look back on."""
        end = -(-min(self._course.issue, len(self._residuals)) // HOURS)
        wanted = range(max(first - LOOKS_BACK, 0), min(last, end))
        new = np.array([day for day in wanted if day not in self._explained], dtype=np.int64)
        if not len(new):
            return
        self._explained.update(new.tolist())
        calendar = calendar_of(self._clock, new, self.member.response.names)
        expected = self.member.response.predict(self._course.measured(new), calendar)
        cells = cells_of_days(new).ravel()
        inside = cells < min(self._course.issue, len(self._residuals))
        self._residuals[cells[inside]] = self._clock.log_load[cells[inside]] - expected.ravel()[inside]


def calendar_of(clock: WallClock, days: Cells, names: tuple[str, ...]) -> Days:
    """Return the calendar of days of a series."""
    dates = clock.first + days
    kinds = day_kinds(clock.first, max(clock.first + len(clock.log_load) // HOURS, dates.max()), _country(clock))
    return days_of(dates, kinds, names, clock.time_zone)


def _country(clock: WallClock) -> str | None:
    return holidays_of(clock.time_zone, clock.holidays)


def tree_rows(clock: WallClock, paths: Matrix, linear: Matrix, days: Cells, lead: int) -> NDArray[np.float32]:
    """Return the trees' input for each hour of each day, shape (24 * n_days, TREE_TERMS).

    The features of the model without weather, what temperature does on the day and beside days before, and what
    response and correction expect above the level.
    """
    cells = cells_of_days(days).ravel()
    rows = rows_of_cells(clock, days * HOURS - lead, cells, np.repeat(np.arange(len(days)), HOURS))
    width = paths.shape[1]

    def back(hours: int) -> Matrix:
        return paths[:, width - HOURS - hours : width - hours]

    now = back(0)
    whole = np.stack([back(HOURS * k).mean(axis=1) for k in range(DAYS_BACK)], axis=1)
    of_day = (whole[:, 0], whole[:, 1], whole[:, 2], now.max(axis=1), now.min(axis=1))
    columns = [
        now,
        average(paths, 3),
        average(paths, 24),
        *(smoothed(paths, half_life) for half_life in HALF_LIVES),
        *(back(lag) for lag in LAGS),
        *(np.broadcast_to(one[:, None], now.shape) for one in of_day),
        now - newest_day(paths, lead),
        now - whole[:, 2:].mean(axis=1, keepdims=True),
        linear - rows.level.reshape(linear.shape),
    ]
    weather = np.stack(columns, axis=-1).reshape(-1, len(columns))
    return np.concatenate([rows.matrix, weather.astype(np.float32)], axis=1)
