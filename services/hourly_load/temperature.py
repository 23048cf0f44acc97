"""Temperature as a model sees it: the hours up to and over a day, measured before the issue time, forecast after.

Training sees measured temperature throughout. Days that are forecast again for calibration see what their own forecast
would have seen: the forecast of the day before where one is known, else the measured temperature with the error of
other days' forecasts, or with one of usual size where no forecast is known yet. The interval thereby knows how far
forecast weather is from measured weather.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .wall_clock import HOURS, STATION, Cells, WallClock, read_cells

__all__ = ["DAYS", "Course", "average", "course_of", "newest_day", "smoothed"]

Matrix = NDArray[np.float64]

DAYS = 10  # of a path, the last of which is the target day
LEAST_SHARE = 0.5  # of the stations' weights that has to be known
LONGEST_GAP = 36  # h inside of a path that is bridged
LONGEST_END = 3  # h at its end that take the last one known
ENOUGH_DAYS = 28  # with a forecast, to borrow their errors for days without
# A forecast of 2 m temperature of the day before is off by 1.1 to 1.7 degC (root mean square) at single stations.
OTHER_ERROR = 0.4  # of other weather: of what it changes from one day to the next (root mean square)
DAY_ERROR, HOUR_ERROR, PERSISTENCE = 0.9, 0.9, 0.9  # degC, degC, from one hour to the next


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Temperature of one series, of its stations taken together.

    Parameters
    ----------
    newest : ndarray of shape (n_cells,)
        Measured as far as it is, then forecast [degC]; NaN where unknown.
    ahead : ndarray of shape (n_cells,)
        What the forecast of the day before was, or would have been [degC].
    issue : int
        First cell that is not wholly known at the issue time.
    """

    newest: Matrix
    ahead: Matrix
    issue: int

    def measured(self, days: Cells) -> Matrix:
        """Return the hours up to and over each day, shape (n_days, 24 * DAYS), as they are known now."""
        return _bridged(read_cells(self.newest, _cells(days)))

    def forecast(self, days: Cells, origins: Cells) -> Matrix:
        """Return the same as it was known when cells before `origins` had ended."""
        cells = _cells(days)
        is_past = (cells >= origins[:, None]) & (cells < self.issue)
        return _bridged(np.where(is_past, read_cells(self.ahead, cells), read_cells(self.newest, cells)))


def course_of(clock: WallClock, stations: tuple[str, ...], weights: Matrix) -> Course | None:
    """Return the course of weighted stations; None if the series does not have them."""
    if not set(stations) <= set(clock.covariates):
        return None
    places = [clock.covariates.index(name) for name in stations]
    newest = _together(clock.newest[:, places], weights)
    ahead = _together(clock.ahead[:, places], weights)
    error = ahead - newest
    error[clock.issue :] = np.nan
    would_be = newest + _completed(error, clock.first, _usual_size(newest[: clock.issue], stations))
    return Course(newest, np.where(np.isnan(error), would_be, ahead), clock.issue)


def _together(values: Matrix, weights: Matrix) -> Matrix:
    share = np.where(np.isnan(values), 0.0, weights)
    known = share.sum(axis=1)
    total = (share * np.nan_to_num(values)).sum(axis=1)
    result: Matrix = np.where(known >= LEAST_SHARE, total / np.maximum(known, LEAST_SHARE), np.nan)
    return result


def _usual_size(measured: Matrix, names: tuple[str, ...]) -> float:
    """Return how many times larger than a temperature's in degC the usual error of a forecast is."""
    if all(STATION.fullmatch(name) for name in names):
        return 1.0
    change = measured[HOURS:] - measured[:-HOURS]
    change = change[np.isfinite(change)]
    return OTHER_ERROR * float(change.std()) / float(np.hypot(DAY_ERROR, HOUR_ERROR)) if len(change) else 0.0


def _completed(error: Matrix, first: np.datetime64, size: float) -> Matrix:
    """Give days without a forecast the errors of days with one, in turn; usual ones where there are too few."""
    n_days = -(-len(error) // HOURS)
    days = np.concatenate([error, np.full(n_days * HOURS - len(error), np.nan)]).reshape(n_days, HOURS)
    known = np.flatnonzero(~np.isnan(days).any(axis=1))
    missing = np.flatnonzero(np.isnan(days).any(axis=1))
    number = int(first.astype("datetime64[D]").astype(np.int64))
    for day in missing.tolist():
        other = (
            days[known[(number + day) % len(known)]] if len(known) >= ENOUGH_DAYS else size * _usual_error(number + day)
        )
        days[day] = np.where(np.isnan(days[day]), other, days[day])
    return days.ravel()[: len(error)]


def _usual_error(day: int) -> Matrix:
    """Errors of a made-up forecast, the same for the same day (counted from 1970)."""
    random = np.random.Generator(np.random.PCG64(day & 0xFFFFFFFF))
    draws = random.standard_normal(HOURS + 1)
    course = np.empty(HOURS)
    state = draws[1]
    for hour in range(HOURS):
        state = PERSISTENCE * state + np.sqrt(1 - PERSISTENCE**2) * draws[1 + hour]
        course[hour] = state
    result: Matrix = DAY_ERROR * draws[0] + HOUR_ERROR * course
    return result


def _cells(days: Cells) -> Cells:
    cells: Cells = (days[:, None] - DAYS + 1) * HOURS + np.arange(HOURS * DAYS)
    return cells


def _bridged(paths: Matrix) -> Matrix:
    """Bridge short gaps; a path with a longer one is NaN throughout."""
    for row in np.flatnonzero(np.isnan(paths).any(axis=1)).tolist():
        path = paths[row]
        known = np.flatnonzero(~np.isnan(path))
        if (
            len(known) < 2
            or len(path) - 1 - known[-1] > LONGEST_END
            or np.diff(known).max() > LONGEST_GAP + 1
            or known[0] > LONGEST_GAP
        ):
            path[:] = np.nan
        else:
            path[:] = np.interp(np.arange(len(path)), known, path[known])
    return paths


def newest_day(paths: Matrix, lead: int) -> Matrix:
    """Return each hour of the newest day that has it `lead` hours before the target day, shape (n_days, 24)."""
    hours = np.arange(HOURS)
    newest: Matrix = paths[:, paths.shape[1] - HOURS + hours - HOURS * ((hours + lead) // HOURS + 1)]
    return newest


def average(paths: Matrix, hours: int) -> Matrix:
    """Return the mean of the `hours` up to each hour of the target day, shape (n_days, 24)."""
    total = np.cumsum(paths, axis=1)
    end = paths.shape[1] - HOURS + np.arange(HOURS)
    mean: Matrix = (total[:, end] - total[:, end - hours]) / hours
    return mean


def smoothed(paths: Matrix, half_life: float) -> Matrix:
    """Return the exponentially weighted mean up to each hour of the target day, shape (n_days, 24).

    Parameters
    ----------
    paths : ndarray of shape (n_days, 24 * DAYS)
    half_life : float
        [h].
    """
    keep = 0.5 ** (1 / half_life)
    state = np.ascontiguousarray(paths[:, :HOURS]).mean(axis=1)
    found = np.empty((len(paths), HOURS))
    begin = paths.shape[1] - HOURS
    for hour in range(paths.shape[1]):
        state = keep * state + (1 - keep) * paths[:, hour]
        if hour >= begin:
            found[:, hour - begin] = state
    return found
