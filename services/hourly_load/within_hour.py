"""From hours to the intervals inside of them, for series of quarter hours and the like.

The model forecasts hours of the local clock. What goes on inside an hour is added by three parts, all from the series'
own last weeks:

- a smooth course through the hours around it, whose mean over each hour is the hour's (piecewise parabolic);
- what the same hour of the same kind of day used to do beside that course (street lights, tariffs that begin at half
  past), shrunk to nothing where days differ more than that;
- how much intervals scatter around both: it widens the hour's quantiles, as the square root of the sum of squares,
  since it says nothing about the hour as a whole.

The median of the intervals has the hour's own median as its mean. A pure function of past and model.

References
----------
P. Colella, P. R. Woodward, The piecewise parabolic method for gas-dynamical simulations, J. Comput. Phys. 54, 1984.
W. James, C. Stein, Estimation with quadratic loss, 1961: the part of the shape that is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import DAY, HOUR, Times, to_local, utc_offset
from kappawatt.forecasting.fan import Fan
from kappawatt.forecasting.history import Past

from .day_kinds import day_kinds, holidays_of
from .wall_clock import HOURS, STEP

__all__ = ["forecast_within", "hours_of", "smooth_course"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

WEEKS = 6  # that the shape inside an hour is learned from
LEAST_KNOWN = 0.5  # of an hour's intervals, for its mean to count
FEWEST_DAYS = 4  # of one kind, for a shape of its own
LOWEST = 0.05  # of the usual load: below it an hour is no measure of what varies inside of it
WEIGHTS = (0.2, 5.0)  # of an interval in its hour, as far as errors of the hour are spread by it


def hours_of(past: Past) -> Past:
    """Return a series by whole hours of the local clock: the mean of each, of those that had ended by the issue time.

    Parameters
    ----------
    past : Past
        Of intervals that divide an hour; of hours it is returned as it is.

    Returns
    -------
    Past
        An hour of which less than half is known is NaN. Of covariates any known interval of the hour counts.
    """
    if past.step == STEP:
        return past
    n = STEP // past.step
    offset = int(utc_offset(np.array([past.issue_time]), past.time_zone)[0])
    after = int(past.start.astype(np.int64)) + offset
    skip = -after % (STEP * 1000) // (past.step * 1000)  # to the first whole hour
    count = max(0, (len(past) - skip) // n)
    least = max(1, round(LEAST_KNOWN * n))
    return replace(
        past,
        step=STEP,
        start=past.start + skip * past.interval,
        values=_means(past.values[skip : skip + count * n], n, least),
        covariates={name: _means(column[skip:], n, 1) for name, column in past.covariates.items()},
        ahead={name: _means(column[skip:], n, 1) for name, column in past.ahead.items()},
    )


def _means(values: Vector, n: int, least: int) -> Vector:
    """Mean of each `n` values; NaN where fewer than `least` are known."""
    padded = np.concatenate([values, np.full(-len(values) % n, np.nan)]).reshape(-1, n)
    known = ~np.isnan(padded)
    count = known.sum(axis=1)
    total = np.where(known, padded, 0.0).sum(axis=1)
    means: Vector = np.where(count >= least, total / np.maximum(count, 1), np.nan)
    return means


def forecast_within(by_hours: Callable[[Past, Times], Fan], past: Past, targets: Times) -> Fan:
    """Return quantiles of intervals that are parts of hours.

    Parameters
    ----------
    by_hours : callable
        (Past of hours, starts of hours) to Fan.
    past : Past
        Of intervals that divide an hour, gaps filled.
    targets : ndarray of datetime64[ms], shape (m,)
        Starts of the intervals, UTC, in order.
    """
    begins = targets - (to_local(targets, past.time_zone).astype(np.int64) % (STEP * 1000)).astype("timedelta64[ms]")
    hours, member = np.unique(begins, return_inverse=True)
    known = hours_of(past)
    fan = by_hours(known, hours)
    inside = _Inside.learn(past, known)
    course = inside.course(known, hours, fan.median)
    place = ((targets - begins) // past.interval).astype(np.int64)
    own, middle = course[member, place], fan.median[member]
    apart = fan.quantiles[member] - middle[:, None]
    usual = middle > inside.lowest
    weight = np.clip(np.where(usual, own / np.where(usual, middle, 1.0), 1.0), *WEIGHTS)
    scatter = inside.scatter_at(hours, np.array(fan.levels))[member] * inside.measure(middle)[:, None]
    width = np.sqrt((weight[:, None] * apart) ** 2 + scatter**2)
    return Fan(own[:, None] + np.sign(np.array(fan.levels) - 0.5) * width, levels=fan.levels, warnings=fan.warnings)


@dataclass(frozen=True, slots=True, eq=False)
class _Inside:
    """What goes on inside of hours, by the hour of the local day.

    Parameters
    ----------
    zone, holidays : str
        Of the series.
    n : int
        Intervals of an hour.
    lowest : float
        Load of an hour below which it is no measure.
    shapes : ndarray of shape (2, 24, n)
        What intervals are beside the smooth course, in units of `measure`: on working days, and on others.
    deviations : tuple of ndarray
        What is left, for each hour of the day.
    """

    zone: str
    holidays: str
    n: int
    lowest: float
    shapes: Matrix
    deviations: tuple[Vector, ...]

    @staticmethod
    def learn(past: Past, known: Past) -> _Inside:
        """Learn it from the last weeks of a series and of its hours."""
        n = STEP // past.step
        count = min(len(known), WEEKS * 7 * HOURS)
        means = known.values[len(known) - count :]
        starts = known.start + (len(known) - count) * HOUR + np.arange(count) * HOUR
        first = int((known.start - past.start) // past.interval) + (len(known) - count) * n
        values = past.values[first : first + count * n].reshape(count, n)
        lowest = LOWEST * float(np.nanmedian(np.abs(means))) if np.isfinite(means).any() else 0.0
        measure = np.maximum(np.abs(means), lowest)
        with np.errstate(invalid="ignore", divide="ignore"):
            beside = (values - smooth_course(means, n)) / measure[:, None]
        beside[~np.isfinite(beside).all(axis=1)] = np.nan
        hour, is_off = _hours_and_kinds(starts, past.time_zone, past.holidays)
        shapes = np.zeros((2, HOURS, n))
        for kind in (0, 1):
            for at in range(HOURS):
                shapes[kind, at] = _shape(beside[hour == at], beside[(hour == at) & (is_off == bool(kind))])
        left = beside - shapes[is_off.astype(np.intp), hour]
        is_known = np.isfinite(left).all(axis=1)
        deviations = []
        for at in range(HOURS):
            near = np.abs((hour - at + HOURS // 2) % HOURS - HOURS // 2) <= 1
            deviations.append(left[near & is_known].ravel())
        return _Inside(past.time_zone, past.holidays, n, lowest, shapes, tuple(deviations))

    def measure(self, means: Vector) -> Vector:
        """Return what shapes and deviations are multiples of, for hours of a mean load."""
        measure: Vector = np.maximum(np.abs(means), self.lowest)
        return measure

    def course(self, known: Past, hours: Times, means: Vector) -> Matrix:
        """Return the load inside of hours to come, shape (n_hours, n), whose mean over each hour is `means`."""
        before = [_neighbour(known, hours[0], -k, means[0]) for k in (2, 1)]
        after = [_neighbour(known, hours[-1], k, means[-1]) for k in (1, 2)]
        smooth = smooth_course(np.concatenate([before, means, after]), self.n)[2:-2]
        hour, is_off = _hours_and_kinds(hours, self.zone, self.holidays)
        course: Matrix = smooth + self.shapes[is_off.astype(np.intp), hour] * self.measure(means)[:, None]
        return course

    def scatter_at(self, hours: Times, levels: Vector) -> Matrix:
        """Return quantiles of what is left around their median, shape (n_hours, n_levels)."""
        hour, _ = _hours_and_kinds(hours, self.zone, self.holidays)
        found = np.zeros((HOURS, len(levels)))
        for at in np.unique(hour).tolist():
            if len(self.deviations[at]):
                quantiles = np.quantile(self.deviations[at], levels)
                found[at] = quantiles - np.median(self.deviations[at])
        scatter: Matrix = found[hour]
        return scatter


def smooth_course(means: Vector, n: int) -> Matrix:
    """Return the means of `n` parts of each hour, shape (n_hours, n), of a smooth course that has these hourly means.

    Examples
    --------
    >>> smooth_course(np.arange(5.0), 2)[2]
    array([1.75, 2.25])
    """
    inner = (7 * (means[1:-2] + means[2:-1]) - (means[:-3] + means[3:])) / 12 if len(means) > 3 else np.empty(0)
    edges = np.concatenate([[means[0]], (means[1:] + means[:-1]) / 2, [means[-1]]])
    edges[2:-2] = np.where(np.isfinite(inner), inner, edges[2:-2])
    left = np.where(np.isfinite(edges[:-1]), edges[:-1], means)
    right = np.where(np.isfinite(edges[1:]), edges[1:], means)
    rise, bow = right - left, 6 * (means - (left + right) / 2)
    begin, end = np.arange(n) / n, np.arange(1, n + 1) / n
    linear, square = (begin + end) / 2, (begin**2 + begin * end + end**2) / 3
    course: Matrix = left[:, None] + (rise + bow)[:, None] * linear - bow[:, None] * square
    return course


def _shape(all_days: Matrix, own_days: Matrix) -> Vector:
    """Return what an hour does beside its course: the median of days, as far as they agree; its mean is zero."""
    days = own_days if np.isfinite(own_days).all(axis=1).sum() >= FEWEST_DAYS else all_days
    days = days[np.isfinite(days).all(axis=1)]
    if len(days) < FEWEST_DAYS:
        return np.zeros(days.shape[1])
    middle = np.median(days, axis=0)
    middle -= middle.mean()
    chance = np.pi / 2 * np.mean((days - middle) ** 2) / len(days)  # variance of a median of so many days
    power = float(np.mean(middle**2))
    share = max(0.0, 1 - float(chance) / power) if power > 0 else 0.0
    shape: Vector = middle * share
    return shape


def _hours_and_kinds(starts: Times, zone: str, holidays: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Hour of the local day of each hour, and whether most people are off work that day."""
    wall = to_local(starts, zone)
    date = wall.astype("datetime64[D]")
    kinds = day_kinds(date.min(), date.max(), holidays_of(zone, holidays))
    hour = ((wall - date) // HOUR).astype(np.int64)
    return hour, kinds.off[(date - kinds.first).astype(np.int64)]


def _neighbour(known: Past, hour: np.datetime64, away: int, mean: float) -> float:
    """Return the mean of an hour beside those that are forecast: as measured, else in its usual ratio to the first."""
    measured = known.at(np.array([hour + away * HOUR]))[0]
    if np.isfinite(measured) and hour + (away + 1) * HOUR <= known.issue_time:
        return float(measured)
    same = hour - np.arange(1, 29) * DAY
    base, other = known.at(same), known.at(same + away * HOUR)
    usable = np.isfinite(base) & np.isfinite(other) & (base > 0)
    return mean * float(np.median(other[usable] / base[usable])) if usable.any() else mean
