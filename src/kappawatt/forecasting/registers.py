"""A register taken for consumption: a counter's readings only rise, what is consumed falls every day.

What looks like one: a day of readings and more of which none is below the one before, and that rise in a quarter of a
day's intervals. At night, or with few digits, a register stands still; a home that nobody lives in rises never.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import DAY, Times, day_start, to_local

__all__ = ["daily_resets", "looks_like_a_register", "never_falls", "runs_that_never_fall"]

SHARE = 0.25  # of a day's intervals in which a register rises
KNOWN = 0.75  # of a day's intervals that must be known
PASSED = 0.8  # of the midnights in a file: at which a counter of each day falls
LEAST_OF_A_DAY = 12  # readings, so that consumption would fall among them
MOST = 0.5  # of all readings: in such runs, the series is a register's


def never_falls(values: NDArray[np.float64], per_day: int) -> bool:
    """Return whether the last day of values only rises, as a register does and no household.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Of consecutive intervals, newest last; NaN where unknown.
    per_day : int
        Intervals of a day.

    Examples
    --------
    >>> never_falls(np.linspace(12_345.0, 12_352.0, 96), 96), never_falls(np.zeros(96), 96)
    (True, False)
    """
    day = values[-per_day:]
    day = day[np.isfinite(day)]
    if len(day) < max(int(per_day * KNOWN), 2):
        return False
    begins, _, rises = _runs(day)
    return len(begins) == 1 and bool(rises[0] >= SHARE * (len(day) - 1))


def runs_that_never_fall(
    times: Times, values: NDArray[np.float64], step: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return first position and length of each run of a day and more that looks like a register's.

    Parameters
    ----------
    times : ndarray of datetime64[ms], shape (n,)
        In order.
    values : ndarray of shape (n,)
        Without NaN.
    step : int
        Length of an interval [s].
    """
    if len(values) < 2:
        return np.zeros(0, np.intp), np.zeros(0, np.int64)
    begins, lengths, rises = _runs(values)
    is_long = times[begins + lengths - 1] - times[begins] >= DAY
    kept = is_long & (rises >= SHARE * (86_400 // step))
    return begins[kept], lengths[kept]


def looks_like_a_register(times: Times, values: NDArray[np.float64], step: int) -> bool:
    """Return whether most readings of a series stand in runs that look like a register's."""
    known = np.isfinite(values)
    _, lengths = runs_that_never_fall(times[known], values[known], step)
    return bool(known.any() and lengths.sum() >= MOST * known.sum())


def daily_resets(times: Times, values: NDArray[np.float64], step: int, zone: str) -> NDArray[np.intp]:
    """Return the first position after each reset of a counter that begins every local day anew; none if it is none.

    Readings of such a counter rise all day and fall at midnight only: right on it, where they stand at the end of their
    intervals, or one interval later. What is consumed falls in the course of every day.

    Parameters
    ----------
    times : ndarray of datetime64[ms], shape (n,)
        UTC, in order.
    values : ndarray of shape (n,)
    step : int
        Length of an interval [s].
    zone : str
        IANA name of the clock.

    Examples
    --------
    >>> hours = np.arange("2024-02-01", "2024-02-04", dtype="datetime64[h]").astype("datetime64[ms]")
    >>> daily_resets(hours, np.tile(np.arange(1.0, 25.0), 3), 3600, "UTC").tolist()
    [24, 48]
    """
    nothing = np.zeros(0, np.intp)
    known = np.flatnonzero(np.isfinite(values))
    change = np.diff(values[known])
    falls = known[1:][change < 0]
    if not len(falls) or step * LEAST_OF_A_DAY > 86_400:
        return nothing
    wall = to_local(times, zone)
    dates = np.unique(wall[known].astype("datetime64[D]"))
    since = (wall[falls] - wall[falls].astype("datetime64[D]")).astype(np.int64)
    starts = day_start(dates[1:], zone)
    passed = int(((starts > times[known[0]]) & (starts < times[known[-1]])).sum())
    rises = int((change > 0).sum())
    is_daily = len(np.unique(since)) == 1 and since[0] in (0, step * 1000) and len(falls) >= max(1, PASSED * passed)
    return falls if is_daily and rises >= SHARE * len(change) else nothing


def _runs(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Position and length of each run without a fall, and how often it rises."""
    change = np.diff(values)
    begins = np.flatnonzero(np.concatenate([[True], change < 0]))
    lengths = np.diff(np.append(begins, len(values)))
    risen = np.concatenate([[0], np.cumsum(change > 0)])
    return begins, lengths, risen[begins + lengths - 1] - risen[begins]
