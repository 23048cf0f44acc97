"""What a series is like on average: by day, and by the hour of a day or a week, in local time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.series import SeriesFile
from kappawatt.forecasting.calendar import Times, to_local

__all__ = ["SEASONS", "daily_means", "is_weekend", "mean_day", "mean_week", "season_of", "weekday_of"]

KNOWN_SHARE = 0.5  # of a day's intervals, for its mean to say something
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
SEASONS = ("Dec to Feb", "Mar to May", "Jun to Aug", "Sep to Nov")


def daily_means(series: SeriesFile) -> tuple[Times, NDArray[np.float64]]:
    """Return the local days of which half or more is known, and their means.

    Returns
    -------
    dates : ndarray of datetime64[D], shape (n,)
    means : ndarray of shape (n,)
        In the stream's unit, of an interval.
    """
    known = np.isfinite(series.values)
    days = to_local(series.starts[known], series.time_zone).astype("datetime64[D]")
    dates, day = np.unique(days, return_inverse=True)
    counts = np.bincount(day, minlength=len(dates))
    means = np.bincount(day, weights=series.values[known], minlength=len(dates)) / np.maximum(counts, 1)
    whole = counts * series.step >= KNOWN_SHARE * 86_400
    return dates[whole], means[whole]


def mean_day(series: SeriesFile, of: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the mean of each hour of the local day, NaN where none is known.

    Parameters
    ----------
    of : ndarray of bool, shape (n,), or None
        Which of the series' rows; None is all.

    Returns
    -------
    ndarray of shape (24,)
        In the stream's unit, of an interval.
    """
    known = np.isfinite(series.values) if of is None else np.isfinite(series.values) & of
    wall = to_local(series.starts[known], series.time_zone).astype(np.int64)
    hour = wall // 3_600_000 % 24
    counts = np.bincount(hour, minlength=24)
    totals = np.bincount(hour, weights=series.values[known], minlength=24)
    means: NDArray[np.float64] = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return means


def weekday_of(series: SeriesFile) -> NDArray[np.int64]:
    """Return the local weekday of each row, Monday 0."""
    days = to_local(series.starts, series.time_zone).astype("datetime64[D]").astype(np.int64)
    return np.asarray((days + EPOCH_WEEKDAY) % 7)


def is_weekend(series: SeriesFile) -> NDArray[np.bool_]:
    """Return whether each row is of a Saturday or Sunday."""
    return np.asarray(weekday_of(series) >= 5)


def season_of(series: SeriesFile) -> NDArray[np.int64]:
    """Return the place in `SEASONS` of each row."""
    months = to_local(series.starts, series.time_zone).astype("datetime64[M]").astype(np.int64) % 12
    return np.asarray((months + 1) % 12 // 3)


def mean_week(series: SeriesFile) -> NDArray[np.float64]:
    """Return the mean of each hour of the local week from Monday on, NaN where none is known.

    Returns
    -------
    ndarray of shape (168,)
        In the stream's unit, of an interval.
    """
    weekday = weekday_of(series)
    return np.concatenate([mean_day(series, weekday == day) for day in range(7)])
