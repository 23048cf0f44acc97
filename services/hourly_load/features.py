"""Past of a zone and hours to forecast -> the input matrix. One definition for training, backtest and serving.

Every load in it is the logarithm of its ratio to the mean of the last week known, so that one model serves a zone
of 2,000 MW and one of 40,000. Lags count hours of the wall clock (`wall_clock`). Each value is read through `_known`,
which gives nothing from the first hour on that is not wholly known at the issue time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import HOUR, Times, to_utc
from kappawatt.forecasting.history import Past

from .day_kinds import ORDINARY, DayKinds, day_kinds, holidays_of, place_of, solar_elevation
from .wall_clock import HOURS, Cells, WallClock, read_cells, wall_clock

__all__ = [
    "CALENDAR_NAMES",
    "DEPTH",
    "FEATURE_NAMES",
    "Rows",
    "calendar_features",
    "features",
    "features_many",
    "rows_of_cells",
]

Vector = NDArray[np.float64]

CALENDAR_NAMES = (
    "hour",
    "day_of_week",
    "quarter",
    "month",
    "year",
    "day_of_year",
    "day_of_month",
    "week_of_year",
)

WEEK = 7 * HOURS
YEAR = 52 * WEEK  # the same weekday a year before
YEARS = 3
DEPTH = YEARS * YEAR + 6 * WEEK  # cells before the issue time that features look back on
RECENT = 7
WEEKS = 4
MOST_CLEAN_WEEKS = 6
ROLLS = (3, 6, 12, 24, 48, 96, 336, 672)
DRIFTS = (1, 3, 6, 12, 24)
BLOCK = 3
BLOCKS = 8
KIND_DAYS = 14
KIND_COUNT = 4
NAMED_YEARS = 3

FEATURE_NAMES = (
    "hour",
    "weekday",
    "lead_time",
    "issue_hour",
    "year_sine",
    "year_cosine",
    "solar_elevation",
    "noon_elevation",
    "off",
    "off_before",
    "off_after",
    "off_last_week",
    "special",
    "special_before",
    "special_after",
    "special_last_year",
    "special_mean",
    *(f"recent_{i}" for i in range(1, RECENT + 1)),
    "recent_mean",
    "recent_minimum",
    "recent_maximum",
    "recent_deviation",
    *(f"week_{i}" for i in range(1, WEEKS + 1)),
    "week_mean",
    "clean_week",
    "same_kind",
    *(f"roll_{n}" for n in ROLLS),
    *(f"drift_day_{n}" for n in DRIFTS),
    *(f"drift_week_{n}" for n in DRIFTS),
    *(f"drift_clean_{n}" for n in DRIFTS),
    *(f"block_{i}" for i in range(1, BLOCKS + 1)),
    "last_value",
    "last_slope",
    "level_year",
    "year_1",
    "years_mean",
    "years_level",
    "temperature",
    "temperature_day",
    "temperature_change",
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Input of the model, and what its output is relative to.

    Parameters
    ----------
    matrix : ndarray of shape (n, n_features)
        Columns in the order of `FEATURE_NAMES`; NaN where unknown.
    level : ndarray of shape (n,)
        Mean of the logarithm of the load [MW] over the last week known.
    """

    matrix: NDArray[np.float32]
    level: Vector


def features(past: Past, targets: Times) -> Rows:
    """Return the model's input for hours of one series, from what was known at `past.issue_time`.

    Parameters
    ----------
    past : Past
        Hourly load, gaps filled; `temperature` [degC] among its covariates is used if it is there.
    targets : ndarray of datetime64[ms], shape (n,)
        Starts of the hours, UTC.

    Raises
    ------
    PayloadInvalid
        The series is not hourly.
    """
    issue_times = np.array([past.issue_time], dtype="datetime64[ms]")
    return features_many(wall_clock(past), issue_times, targets, np.zeros(len(targets), dtype=np.intp))


def features_many(clock: WallClock, issue_times: Times, targets: Times, issue: NDArray[np.intp]) -> Rows:
    """Return the model's input for hours forecast at many issue times of one series.

    Each row is the same as `features` gives for its issue time alone.

    Parameters
    ----------
    clock : WallClock
        The series; it may go on after the issue times, and nothing of that is read.
    issue_times : ndarray of datetime64[ms], shape (m,)
    targets : ndarray of datetime64[ms], shape (n,)
        Starts of the hours, UTC.
    issue : ndarray of int, shape (n,)
        Which of the issue times each target is forecast at.
    """
    return rows_of_cells(clock, clock.origins(issue_times), clock.cells(targets), issue)


def rows_of_cells(clock: WallClock, origins: Cells, cells: Cells, issue: NDArray[np.intp]) -> Rows:
    """Return the same as `features_many`, with issue times and targets given as cells of `clock`.

    Parameters
    ----------
    clock : WallClock
    origins : ndarray of int, shape (m,)
        First cell that is not known at each issue time.
    cells : ndarray of int, shape (n,)
        Targets.
    issue : ndarray of int, shape (n,)
        Which of the origins each target is forecast at.
    """
    return _Builder(clock, origins, cells, issue).rows()


class _Builder:
    """The columns of the matrix while they are being put together."""

    def __init__(self, clock: WallClock, origin: Cells, cells: Cells, issue: NDArray[np.intp]) -> None:
        self._clock = clock
        self._log = clock.log_load
        self._issue_origin = origin
        self._issue = issue
        self._cell = cells
        self._origin = origin[issue]
        self._day = self._cell // HOURS
        self._level_of_issue = self._mean_before(origin, origin, WEEK)
        self._level = self._level_of_issue[issue]
        self._columns: dict[str, NDArray[np.float64]] = {}
        last = clock.first + int(max(self._day.max(initial=0), len(self._log) // HOURS))
        self._place = place_of(clock.time_zone)
        self._kinds: DayKinds = day_kinds(clock.first, last, holidays_of(clock.time_zone, clock.holidays))
        self._shift = int((clock.first - self._kinds.first).astype(int))  # day 0's position among the kinds

    def rows(self) -> Rows:
        self._calendar()
        self._special()
        self._lags()
        self._same_kind()
        self._of_the_issue()
        self._years()
        self._temperature()
        matrix = np.empty((len(self._cell), len(FEATURE_NAMES)), dtype=np.float32)
        for position, name in enumerate(FEATURE_NAMES):
            matrix[:, position] = self._columns[name]
        return Rows(matrix, self._level)

    def _known(self, cells: Cells, origin: Cells) -> Vector:
        """Read the logarithm of load at `cells`; NaN from `origin` on, before the depth and outside of the series."""
        inside = (cells < origin) & (cells >= origin - DEPTH)
        return np.where(inside, read_cells(self._log, cells), np.nan)

    def _mean_before(self, end: Cells, origin: Cells, n: int) -> Vector:
        """Mean of the `n` cells before `end`; NaN if fewer than half of them are known."""
        window = self._known(end[:, None] - np.arange(1, n + 1), origin[:, None])
        return _mean(window, n // 2)

    def _calendar(self) -> None:
        kinds, at = self._kinds, self._day + self._shift
        columns = self._columns
        columns["hour"] = (self._cell % HOURS).astype(np.float64)
        columns["weekday"] = kinds.weekday[at].astype(np.float64)
        columns["lead_time"] = (self._cell - self._origin).astype(np.float64)
        columns["issue_hour"] = (self._origin % HOURS).astype(np.float64)
        date = self._clock.first + self._day
        day_of_year = (date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
        angle = 2 * np.pi * day_of_year / 365.25
        columns["year_sine"], columns["year_cosine"] = np.sin(angle), np.cos(angle)
        noon = to_utc(np.asarray(date + np.timedelta64(12, "h"), "datetime64[ms]"), self._clock.time_zone)
        middle = noon + (self._cell % HOURS - 12) * HOUR + HOUR // 2
        columns["solar_elevation"] = solar_elevation(middle, self._place)
        columns["noon_elevation"] = solar_elevation(noon, self._place)
        off = kinds.off.astype(np.float64)
        columns["off"], columns["off_before"], columns["off_after"] = off[at], off[at - 1], off[at + 1]
        last = self._issue_origin // HOURS + self._shift
        columns["off_last_week"] = np.add.reduce([off[np.maximum(last - i, 0)] for i in range(1, 8)])[self._issue]

    def _special(self) -> None:
        kinds, at = self._kinds, self._day + self._shift
        special = kinds.special != ORDINARY
        columns = self._columns
        columns["special"] = special[at].astype(np.float64)
        columns["special_before"] = special[at - 1].astype(np.float64)
        columns["special_after"] = special[at + 1].astype(np.float64)
        found = np.full((len(at), NAMED_YEARS), np.nan)
        rows = np.flatnonzero(special[at])
        if len(rows):
            before = _same_name_before(kinds.special)
            for i in range(NAMED_YEARS):
                there = before[i, at[rows]]
                day = there - self._shift
                cell = np.where(there >= 0, day * HOURS + self._cell[rows] % HOURS, -1)
                begin = np.where(there >= 0, day * HOURS, -1)
                week = self._mean_before(begin, self._origin[rows], WEEK)
                found[rows, i] = self._known(cell, self._origin[rows]) - week
        columns["special_last_year"] = found[:, 0]
        columns["special_mean"] = _mean(found, 1)

    def _lags(self) -> None:
        columns = self._columns
        days_back = (self._cell - self._origin) // HOURS + 1  # to the same hour of the newest day that has it
        recent = np.empty((len(self._cell), RECENT))
        for i in range(RECENT):
            recent[:, i] = self._known(self._cell - HOURS * (days_back + i), self._origin) - self._level
            columns[f"recent_{i + 1}"] = recent[:, i]
        columns["recent_mean"] = _mean(recent, 1)
        columns["recent_minimum"] = np.fmin.reduce(recent, axis=1)
        columns["recent_maximum"] = np.fmax.reduce(recent, axis=1)
        columns["recent_deviation"] = _deviation(recent)
        weeks = np.empty((len(self._cell), WEEKS))
        for i in range(WEEKS):
            weeks[:, i] = self._known(self._cell - WEEK * (i + 1), self._origin) - self._level
            columns[f"week_{i + 1}"] = weeks[:, i]
        columns["week_mean"] = _mean(weeks, 1)
        columns["clean_week"] = self._clean_week(self._cell, self._origin) - self._level

    def _clean_week(self, cell: Cells, origin: Cells) -> Vector:
        """The same hour of the newest same weekday that was no holiday."""
        found = np.full(cell.shape, np.nan)
        special = self._kinds.special
        for weeks in range(MOST_CLEAN_WEEKS, 0, -1):
            earlier = cell - WEEK * weeks
            value = self._known(earlier, origin)
            at = np.clip(earlier // HOURS + self._shift, 0, len(special) - 1)
            found = np.where((special[at] == ORDINARY) & ~np.isnan(value), value, found)
        return found

    def _same_kind(self) -> None:
        """Mean of the newest days that were off, or on, like the target's."""
        off = self._kinds.off
        days_back = (self._cell - self._origin) // HOURS + 1
        target_off = off[self._day + self._shift]
        total = np.zeros(len(self._cell))
        count = np.zeros(len(self._cell))
        for i in range(KIND_DAYS):
            cell = self._cell - HOURS * (days_back + i)
            value = self._known(cell, self._origin)
            at = np.maximum(cell // HOURS + self._shift, 0)
            use = (off[at] == target_off) & ~np.isnan(value) & (count < KIND_COUNT)
            total += np.where(use, value, 0.0)
            count += use
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        self._columns["same_kind"] = mean - self._level

    def _of_the_issue(self) -> None:
        origin, level = self._issue_origin, self._level_of_issue
        own: dict[str, Vector] = {}
        for n in ROLLS:
            own[f"roll_{n}"] = self._mean_before(origin, origin, n) - level
        back = np.arange(1, max(DRIFTS) + 1)
        cells, limit = origin[:, None] - back, origin[:, None]
        newest = self._known(cells, limit)
        day = newest - self._known(cells - HOURS, limit)
        week = newest - self._known(cells - WEEK, limit)
        clean = newest - self._clean_week(cells, np.broadcast_to(limit, cells.shape))
        for n in DRIFTS:
            own[f"drift_day_{n}"] = _mean(day[:, :n], 1)
            own[f"drift_week_{n}"] = _mean(week[:, :n], 1)
            own[f"drift_clean_{n}"] = _mean(clean[:, :n], 1)
        for i in range(BLOCKS):
            own[f"block_{i + 1}"] = _mean(newest[:, BLOCK * i : BLOCK * (i + 1)], 1) - level
        own["last_value"] = newest[:, 0] - level
        own["last_slope"] = newest[:, 0] - newest[:, 1]
        own["level_year"] = level - self._mean_before(origin - YEAR, origin, WEEK)
        for name, column in own.items():
            self._columns[name] = column[self._issue]

    def _years(self) -> None:
        """What the same hour did in years before, relative to the week before the same issue time."""
        origin = self._issue_origin
        levels = [self._mean_before(origin - YEAR * y, origin, WEEK) for y in range(1, YEARS + 1)]
        near = (-WEEK, 0, WEEK)
        found = np.full((len(self._cell), YEARS * len(near)), np.nan)
        weeks = np.full((len(self._issue_origin), YEARS), np.nan)
        for y, level in enumerate(levels):
            for i, shift in enumerate(near):
                cell = self._cell - YEAR * (y + 1) + shift
                found[:, y * len(near) + i] = self._known(cell, self._origin) - level[self._issue]
            weeks[:, y] = self._mean_before(origin - YEAR * (y + 1) + WEEK, origin, WEEK) - level
        self._columns["year_1"] = found[:, 1]
        self._columns["years_mean"] = _mean(found, 1)
        self._columns["years_level"] = _mean(weeks, 1)[self._issue]

    def _temperature(self) -> None:
        known = self._clock.temperature
        if known is None:
            for name in ("temperature", "temperature_day", "temperature_change"):
                self._columns[name] = np.full(len(self._cell), np.nan)
            return
        at = read_cells(known, self._cell)
        day = _mean(read_cells(known, self._cell[:, None] + np.arange(-HOURS + 1, 1)), HOURS // 2)
        last = _mean(read_cells(known, self._issue_origin[:, None] - np.arange(1, HOURS + 1)), HOURS // 2)
        self._columns["temperature"] = at
        self._columns["temperature_day"] = day
        self._columns["temperature_change"] = day - last[self._issue]


def _mean(window: Vector, least: int) -> Vector:
    """Mean along the last axis of what is known; NaN if that is fewer than `least`.

    One row's sum does not depend on how many rows there are, so that a row alone and in a batch have the same bits.
    """
    known = ~np.isnan(window)
    count = known.sum(axis=-1)
    total = np.where(known, window, 0.0).sum(axis=-1)
    result: Vector = np.where(count >= max(least, 1), total / np.maximum(count, 1), np.nan)
    return result


def _deviation(window: Vector) -> Vector:
    centre = _mean(window, 2)
    return np.sqrt(_mean((window - centre[:, None]) ** 2, 2))


def _same_name_before(special: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the newest, second, ... earlier day of the same name, shape (NAMED_YEARS, n_days); -1 for none."""
    found = np.full((NAMED_YEARS, len(special)), -1, dtype=np.int64)
    seen: dict[int, list[int]] = {}
    for at in np.flatnonzero(special != ORDINARY).tolist():
        earlier = seen.setdefault(int(special[at]), [])
        for i, there in enumerate(reversed(earlier[-NAMED_YEARS:])):
            found[i, at] = there
        earlier.append(at)
    return found


def calendar_features(local: Times) -> NDArray[np.float32]:
    """Return the eight features of the published baseline, from time labels as the file has them.

    Parameters
    ----------
    local : ndarray of datetime64, shape (n,)
        Local labels of the hours' ends.

    Returns
    -------
    ndarray of shape (n, 8)
        Columns in the order of `CALENDAR_NAMES`; Monday is day 0, weeks are those of ISO 8601.

    Examples
    --------
    >>> calendar_features(np.array(["2016-12-31T23:00"], "datetime64[ms]")).astype(int).tolist()
    [[23, 5, 4, 12, 2016, 366, 31, 52]]
    """
    moments = np.asarray(local, "datetime64[ms]")
    day = moments.astype("datetime64[D]")
    year = day.astype("datetime64[Y]")
    month = day.astype("datetime64[M]")
    weekday = (day.astype(np.int64) + 3) % 7
    month_number = month.astype(np.int64) % 12 + 1
    thursday = day - weekday + 3  # a week belongs to the year its Thursday lies in
    week = (thursday - thursday.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) // 7 + 1
    columns = (
        (moments - day.astype("datetime64[ms]")) // HOUR,
        weekday,
        (month_number - 1) // 3 + 1,
        month_number,
        year.astype(np.int64) + 1970,
        (day - year.astype("datetime64[D]")).astype(np.int64) + 1,
        (day - month.astype("datetime64[D]")).astype(np.int64) + 1,
        week,
    )
    return np.column_stack([np.asarray(column, np.float32) for column in columns])
