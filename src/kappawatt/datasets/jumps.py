"""Jumps of a factor of 1000 within a series: its unit changed on the way, from MW to kW or back.

No load or home does so by itself: the smallest value of half a day or more is ten times the largest of the half day
before it, and the median a thousand times the other, about. Unlike changes of level, which take two weeks on either
side, a jump shows in two days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import Instant, Times

__all__ = ["Jump", "unit_jumps"]

FACTOR = (300.0, 3_400.0)  # of medians: a thousand, and what a day may differ from another by itself
APART = 10.0  # of the smallest on one side and the largest on the other
NEXT = 30.0  # of neighbours, which are asked first
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Jump:
    """An interval from which on values are about 1000 times as large as before, or as small.

    Parameters
    ----------
    start : datetime64[ms]
        UTC.
    before, after : float
        Medians of up to a day on each side.
    """

    start: Instant
    before: float
    after: float


def unit_jumps(times: Times, values: NDArray[np.float64], step: int) -> tuple[Jump, ...]:
    """Return where a series changes by a factor of about 1000.

    Parameters
    ----------
    times : ndarray of datetime64[ms], shape (n,)
        In order.
    values : ndarray of shape (n,)
        NaN where unknown; neither these nor zeros count.
    step : int
        Length of an interval [s].

    Examples
    --------
    >>> hours = np.arange("2024-02-05", "2024-02-09", dtype="datetime64[h]").astype("datetime64[ms]")
    >>> load = np.where(hours < np.datetime64("2024-02-07"), 24.0, 24_000.0)
    >>> [(str(jump.start)[:13], jump.before, jump.after) for jump in unit_jumps(hours, load, 3600)]
    [('2024-02-07T00', 24.0, 24000.0)]
    """
    kept = np.isfinite(values) & (values != 0)
    moments, sizes = times[kept], np.abs(values[kept])
    if len(sizes) < 2:
        return ()
    day = max(DAY_SECONDS // step, 2)
    ratio = sizes[1:] / sizes[:-1]
    found = []
    for place in (np.flatnonzero((ratio >= NEXT) | (ratio <= 1 / NEXT)) + 1).tolist():
        before, after = sizes[max(place - day, 0) : place], sizes[place : place + day]
        if min(len(before), len(after)) < day // 2:
            continue
        low, high = (before, after) if before[-1] < after[0] else (after, before)
        if high.min() < APART * low.max():
            continue
        one, other = float(np.median(before)), float(np.median(after))
        if FACTOR[0] <= max(one, other) / min(one, other) <= FACTOR[1]:
            found.append(Jump(moments[place], one, other))
    return tuple(found)
