"""Days that a file closes or counts in its own way: midnight with the date of the day that ends, hours from 1 to 23."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Times, day_start

__all__ = ["is_counted_through", "midnights_at_the_end"]

NOON = np.timedelta64(12 * 3_600_000, "ms")
LONGEST_CHANGE = 3 * HOUR  # of a clock


def midnights_at_the_end(wall: Times, groups: NDArray[np.int64], name: str) -> NDArray[np.bool_]:
    """Return which rows say 00:00 with the date of the day that they end, as 24:00 does.

    Such a row comes after the evening of its date and before the next one: the only rows that step back in time.

    Parameters
    ----------
    wall : ndarray of datetime64[ms], shape (n,)
        In the file's order.
    groups : ndarray of int, shape (n,)
        Series of each row.
    name : str
        Of the column, for the message.

    Raises
    ------
    PayloadInvalid
        Some midnights end their date and others begin it.
    """
    found = np.zeros(len(wall), dtype=np.bool_)
    known = np.flatnonzero(~np.isnat(wall))
    order = known[np.argsort(groups[known], kind="stable")]
    if len(order) < 2:
        return found
    if (np.diff(wall[order]) < np.timedelta64(0, "ms")).mean() > 0.5:  # of a file that runs back in time
        order = order[::-1]
        order = order[np.argsort(groups[order], kind="stable")]
    labels, group = wall[order], groups[order]
    dates = labels.astype("datetime64[D]")
    same = group[1:] == group[:-1]
    step = np.diff(labels)
    after_evening = np.concatenate([[False], same & (dates[1:] == dates[:-1]) & (labels[:-1] - dates[:-1] >= NOON)])
    before_next = np.concatenate([~same | (dates[1:] > dates[:-1]), [True]])
    is_midnight = labels == dates
    is_end = is_midnight & after_evening & before_next
    back = np.concatenate([[False], same & (step < -LONGEST_CHANGE)])
    if not is_end.any() or (back & ~is_end).any():
        return found
    begins = is_midnight & np.concatenate([[False], same & (dates[1:] == dates[:-1] + 1)])
    if begins.any():
        if int(is_end.sum()) < 2:
            return found
        one, other = (str(dates[np.flatnonzero(rows)[0]]) for rows in (is_end, begins))
        got = f"00:00 after the evening of {one}, and 00:00 of {other} after the evening before it"
        raise PayloadInvalid.of(name, got, "one way in all of a file: 24:00, or the date of the day that begins")
    found[order[is_end]] = True
    return found


def is_counted_through(dates: Times, hours: Sequence[int], zone: str, name: str) -> bool:
    """Return whether hours are counted through the day on which the clock skips one: 1 to 23.

    Parameters
    ----------
    dates : ndarray of datetime64[ms], shape (n,)
        NaT where a row has none.
    hours : sequence of int
        Of each row; -1 where it has none.
    zone : str
        IANA name of the clock.
    name : str
        Of the column, for the message.

    Raises
    ------
    PayloadInvalid
        Hours are counted from 0, or through the short day only: what the long one lacks nobody knows.
    """
    counts = np.asarray(hours, dtype=np.int64)
    rows = ~np.isnat(dates) & (counts >= 0)
    days, counts = dates[rows].astype("datetime64[D]"), counts[rows]
    if not len(days):
        return False
    every = np.arange(days.min(), days.max() + 1)
    lengths = day_start(every + 1, zone) - day_start(every, zone)
    short = [day for day in every[lengths == DAY - HOUR] if (days == day).any()]
    long = [day for day in every[lengths == DAY + HOUR] if (days == day).any()]
    through = [day for day in short if set(counts[days == day].tolist()) == set(range(1, 24))]
    from_zero = [day for day in short if set(counts[days == day].tolist()) == set(range(23))]
    allowed = "hours by the clock, or counted from 1 to 23, 24 or 25"
    if from_zero:
        raise PayloadInvalid.of(name, f"hours from 0 to 22 on {from_zero[0]}, when {zone} skips one", allowed)
    if through and long:
        got = f"hours from 1 to 23 on {through[0]}, and none above 24 on {long[0]}, which has 25"
        raise PayloadInvalid.of(name, got, allowed)
    return bool(through)
