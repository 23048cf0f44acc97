"""The gap policy: which missing intervals are filled before a model sees them, and when a forecast is refused.

A run of up to 3 hours is interpolated, or at the end goes on as it did a week before; a longer one takes the same local
time a week earlier (up to four weeks back, then ahead, inside what is known). The answer says how many intervals of the
last five weeks were filled. Of the last seven days something must be known; a model that does not see that the end is
unknown, and says nothing wider for it, is given up to 25 filled hours.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import DAY, HOUR, Times, same_local_time
from kappawatt.forecasting.history import Past

__all__ = ["LATELY", "MOST_FILLED", "fill_gaps", "fill_inside", "missing_lately", "name_spans"]

INTERPOLATED = 3 * HOUR
MOST_FILLED = 25 * HOUR  # the longest local day: values that are published next morning
LATELY = 7 * DAY
WEEKS = (1, 2, 3, 4)
COUNTED = 35 * DAY  # what was filled longer ago is no news: a missing hour each autumn would be said for ever
MOST_NAMED = 8  # spans a message names


def missing_lately(past: Past) -> Times:
    """Return the starts of the intervals of the last seven days before the issue time that are not known.

    A series younger than that has no gap before its first value.
    """
    last = past.start + (past.issue_time - past.start) // past.interval * past.interval
    times = np.arange(max(last - LATELY, past.start), last, past.interval)
    return times[np.isnan(past.at(times))]


def name_spans(times: Times, step: int) -> str:
    """Return missing intervals as spans for a person: `2016-07-01T04:00Z to 2016-07-02T09:00Z (29 h)`."""
    interval = np.timedelta64(step * 1000, "ms")
    breaks = np.flatnonzero(np.diff(times) != interval) + 1
    edges = [0, *breaks.tolist(), len(times)]
    spans = []
    for first, last in pairwise(edges):
        begin, end = times[first], times[last - 1] + interval
        hours = (end - begin) / HOUR
        spans.append(f"{np.datetime_as_string(begin, 'm')}Z to {np.datetime_as_string(end, 'm')}Z ({hours:g} h)")
    more = len(spans) - MOST_NAMED
    return ", ".join(spans[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def fill_gaps(past: Past) -> Past:
    """Return the same with gaps filled up to the issue time, and `filled` saying how many intervals were."""
    extended = _up_to_issue_time(past)
    return _joined(extended, fill_inside(extended))


def _joined(past: Past, filled: Past) -> Past:
    """The same as `filled`, in which a short gap at the end goes on from the newest value as it did a week before.

    The value of a week before itself would be a step down or up in the newest hour, and a model takes it for news.
    """
    known = np.flatnonzero(~np.isnan(past.values))
    missing = len(past) - 1 - int(known[-1]) if len(known) else 0
    if not 0 < missing <= int(INTERPOLATED / past.interval):
        return filled
    times = past.times[-missing - 1 :]
    for weeks in WEEKS:
        before = past.at(same_local_time(times, past.time_zone, 7 * weeks))
        if np.isnan(before).any():
            continue
        values, newest = filled.values.copy(), filled.values[-missing - 1]
        if past.values[known].min() > 0:
            values[-missing:] = newest * before[1:] / before[0]
        else:
            values[-missing:] = newest + before[1:] - before[0]
        return replace(filled, values=values)
    return filled


def _up_to_issue_time(past: Past) -> Past:
    """The same with every interval up to the issue time, the newest ones unknown."""
    missing_end = (past.issue_time - past.end) // past.interval
    tail = int(missing_end.astype(np.int64)) if len(past) else 0
    if tail > 0:
        extended = np.concatenate([past.values, np.full(tail, np.nan)])
        covariates = {
            name: np.concatenate([column, np.full(max(0, len(extended) - len(column)), np.nan)])
            for name, column in past.covariates.items()
        }
        past = replace(past, values=extended, covariates=covariates)
    return past


def fill_inside(past: Past) -> Past:
    """Return the same with gaps between known values filled: what training sees, since made-up ends teach nothing."""
    gaps = np.isnan(past.values)
    if not gaps.any():
        return past
    values = past.values.copy()
    _interpolate(values, gaps, int(INTERPOLATED / past.interval))
    left = np.flatnonzero(np.isnan(values))
    if len(left):
        _from_other_weeks(past, values, left)
    filled = gaps & ~np.isnan(values)
    lately = past.times >= past.issue_time - COUNTED
    return replace(past, values=values, filled=int((filled & lately).sum()))


def _interpolate(values: NDArray[np.float64], gaps: NDArray[np.bool_], most: int) -> None:
    """Fill runs of up to `most` intervals that have a value on both sides, linearly."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], gaps, [False]]).astype(np.int8)))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if first > 0 and last < len(values) and last - first <= most:
            values[first - 1 : last + 1] = np.linspace(values[first - 1], values[last], last - first + 2)


def _from_other_weeks(past: Past, values: NDArray[np.float64], left: NDArray[np.intp]) -> None:
    times = past.start + left * past.interval
    measured = replace(past, values=values.copy())
    for weeks in (*WEEKS, *(-w for w in WEEKS)):
        open_ = np.isnan(values[left])
        if not open_.any():
            return
        values[left[open_]] = measured.at(same_local_time(times[open_], past.time_zone, 7 * weeks))
