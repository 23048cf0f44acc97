"""What the time of a row stands for, and the instant its interval begins.

A label may be the wall clock's at the interval's start, or at its end; or, as PJM's readers write it, the wall clock's
at the start and one interval more. The three differ by an interval, the last two only around changes of the clock:

- the clock skips 02:00 to 03:00: no hour is labelled 02:00, or none 03:00 in PJM's way;
- the clock shows 02:00 to 03:00 twice: 02:00 stands twice, or 03:00 in PJM's way.

Without a word in the header or an option, a file tells by its first and last label: one that goes from 00:00 to 23:00
labels starts, one from 01:00 to 00:00 ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.table import Fact
from kappawatt.forecasting.calendar import DAY, Times, clock_changes, to_local, to_utc

__all__ = [
    "Change",
    "Labels",
    "changes_in",
    "interval_of",
    "lone_at_the_beginning",
    "order_in_time",
    "starts_of",
    "tell_labels",
    "told_by_ends",
]


LONGEST_CHANGE = np.timedelta64(3 * 3_600_000, "ms")
LONG = 14 * DAY  # of a file whose last day is not whole


class Labels(Enum):
    """What a label is the time of."""

    START = "start"
    END = "end"
    AFTER_START = "end, as the start's wall clock and an interval"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the clock inside a file.

    Parameters
    ----------
    instant : datetime64
        UTC.
    skips : bool
        Whether the clock skips, or else shows a time twice.
    shown : Labels or None
        How the labels show it: START stands for END too, which look alike; None if they do not.
    seen : bool
        Whether there are labels around it at all.
    """

    instant: np.datetime64
    skips: bool
    shown: Labels | None
    seen: bool = True


def interval_of(labels: Times) -> int:
    """Return the length of an interval [s]: the distance that most neighbours in time have; 0 if there are none.

    Parameters
    ----------
    labels : ndarray of datetime64[ms], shape (n,)
        In any order.
    """
    distances = np.diff(np.unique(labels)).astype(np.int64)
    if not len(distances):
        return 0
    found, counts = np.unique(distances, return_counts=True)
    return int(found[np.argmax(counts)] // 1000)


def changes_in(wall: Times, zone: str, step: int) -> list[Change]:
    """Return how the labels of one series show each change of the clock between their first and last.

    Parameters
    ----------
    wall : ndarray of datetime64[ms], shape (n,)
    zone : str
        IANA name.
    step : int
        Length of an interval [s].
    """
    known = wall[~np.isnat(wall)]
    if not len(known):
        return []
    labels, counts = np.unique(known, return_counts=True)
    instants, shifts = clock_changes(zone, labels[0] - DAY, labels[-1] + DAY)
    interval = np.timedelta64(step * 1000, "ms")

    def count(moment: np.datetime64) -> int:
        at = int(np.searchsorted(labels, moment))
        return int(counts[at]) if at < len(labels) and labels[at] == moment else 0

    found = []
    for instant, shift in zip(instants, shifts, strict=True):
        after = to_local(np.array([instant]), zone)[0]
        before = after - shift
        first, last = (before, after) if shift > 0 else (after, before)  # of the wall times skipped or shown twice
        if not labels[0] < first - interval or not last + interval < labels[-1]:
            continue
        one, other = count(first), count(last)
        shown = None
        if shift > 0:
            seen = bool(one or other)
            shown = None if one == other or (one and other) else Labels.AFTER_START if one else Labels.START
        else:
            seen = bool(one and other)
            shown = None if (one > 1) == (other > 1) else Labels.START if one > 1 else Labels.AFTER_START
        found.append(Change(instant, bool(shift > 0), shown, seen))
    return found


def tell_labels(
    wall: Times, step: int, changes: Sequence[Change], word: Labels | None, said: str
) -> tuple[Labels | None, Fact]:
    """Return what labels stand for and what told it; None, and what each sign says, if nothing does.

    Parameters
    ----------
    wall : ndarray of datetime64[ms]
        Labels of the whole file, as its clock shows them.
    step : int
        Length of an interval [s].
    changes : sequence of Change
    word : Labels or None
        What the header or the layout says.
    said : str
        What a person says, `start` or `end`; "" if nothing.
    """
    shown = [change.shown for change in changes if change.shown is not None]
    after = shown.count(Labels.AFTER_START)
    is_after = after > len(shown) - after
    end = Labels.AFTER_START if is_after else Labels.END
    if said:
        return (Labels.START if said == "start" else end), Fact("labels", said, "--labels")
    if word is not None:
        return (word if word is Labels.START else end if shown else word), Fact("labels", word.value, "the header")
    if is_after:
        change = next(change for change in changes if change.shown is Labels.AFTER_START)
        why = f"of the clock's change at {change.instant}Z, no start can be labelled so"
        return Labels.AFTER_START, Fact("labels", "end", why)
    known = wall[~np.isnat(wall)]
    why = f"from {_clock(known.min())} on the first day to {_clock(known.max())} on the last"
    told = told_by_ends(known, step)
    if told is Labels.START:
        return Labels.START, Fact("labels", "start", why)
    return (None if told is None else end), Fact("labels", "" if told is None else "end", why)


def told_by_ends(labels: Times, step: int, *, strictly: bool = False) -> Labels | None:
    """Return what the first and the last label tell: whole days from 00:00 on, or from an interval later on.

    Of a file that ends within a day the first label is enough if there are weeks of it. None of less than a day.

    Parameters
    ----------
    labels : ndarray of datetime64[ms], shape (n,)
        All known.
    step : int
        Length of an interval [s].
    strictly : bool
        Whether both ends have to tell it.
    """
    interval = np.timedelta64(step * 1000, "ms")
    first, last = labels.min(), labels.max()
    if last - first < DAY - interval:
        return None
    zero = np.timedelta64(0, "ms")
    since, until = first - first.astype("datetime64[D]"), last - last.astype("datetime64[D]")
    is_open = not strictly and until not in (zero, DAY - interval) and last - first >= LONG
    if since == zero and (until == DAY - interval or is_open):
        return Labels.START
    return Labels.END if since == interval and (until == zero or is_open) else None


def _clock(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[m]"))[11:]


def order_in_time(wall: Times) -> int:
    """Return 1 if rows run forward in time, -1 if back, 0 if neither; a repeated hour is no step back."""
    distances = np.diff(wall[~np.isnat(wall)].astype(np.int64))
    hours = 3 * 3_600_000  # a clock is never changed by more
    forward, backward = int((distances > 0).sum()), int((distances < 0).sum())
    if forward >= backward:
        return 1 if (distances > -hours).all() else 0
    return -1 if (distances < hours).all() else 0


def starts_of(
    wall: Times,
    step: int,
    labels: Labels,
    zone: str,
    values: NDArray[np.float64],
    second: NDArray[np.bool_] | None,
    *,
    is_in_order: bool = True,
) -> Times:
    """Return the instant each interval of one series begins.

    Which of two rows with one label is the first hour and which the second of a repeated hour is told by `second`; else
    by the order of rows that run forward or back in time; else by continuity with the intervals around, since in files
    in no order (PJM's) the order tells nothing.

    Parameters
    ----------
    wall : ndarray of datetime64[ms], shape (n,)
    step : int
        Length of an interval [s].
    zone : str
        IANA name of the clock.
    values : ndarray of shape (n,)
        For continuity.
    second : ndarray of bool, shape (n,), or None
        Whether a row says that it is of the second hour.
    is_in_order : bool
        Whether rows that run forward or back in time tell it by their order.

    Returns
    -------
    ndarray of datetime64[ms], shape (n,)
        UTC; NaT where the clock never shows the label.
    """
    interval = np.timedelta64(step * 1000, "ms")
    local = wall - interval if labels is Labels.AFTER_START else wall
    early = to_utc(local, zone)
    late = to_utc(local, zone, second=True)
    repeated = np.flatnonzero(~np.isnat(early) & (early != late))
    starts = early.copy()
    if second is not None:
        starts = np.where(second & ~np.isnat(late), late, early)
    elif len(repeated):
        order = order_in_time(wall)
        is_second = _come_again(local[repeated], values[repeated], backwards=order < 0)
        if not is_in_order or order == 0:
            is_second = _by_continuity(early, late, repeated, is_second, values, interval)
        starts[repeated[is_second]] = late[repeated[is_second]]
    if labels is Labels.END:
        starts = starts - interval
        if second is None:
            starts = _with_its_hour(wall, starts, zone)
    return starts


def _with_its_hour(wall: Times, starts: Times, zone: str) -> Times:
    """Starts of labels of ends, where a file has one row at each time that the clock shows twice.

    The label that closes the repeated time is shown once, after its second turn; the others are taken for the first.
    All of one hour are of one turn.
    """
    known = wall[~np.isnat(wall)]
    if not len(known):
        return starts
    found = starts.copy()
    for instant, shift in zip(*clock_changes(zone, known.min() - DAY, known.max() + DAY), strict=True):
        after = to_local(np.array([instant]), zone)[0]
        if shift >= np.timedelta64(0, "ms") or known.min() > after:
            continue
        inside = wall[(wall > after) & (wall < after - shift)]
        if len(inside) and len(np.unique(inside)) == len(inside) and (wall == after).sum() < 2:
            found[wall == after - shift] += shift
    return found


def lone_at_the_beginning(wall: Times, step: int, labels: Labels, zone: str) -> NDArray[np.bool_]:
    """Return which rows of one series may be of either of two hours, since nothing stands before them.

    A label that the clock shows twice and the file once is the first hour where an earlier row leads to it. Where the
    file begins with it, it may as well be the second.

    Parameters
    ----------
    wall : ndarray of datetime64[ms], shape (n,)
    step : int
        Length of an interval [s].
    zone : str
        IANA name of the clock.
    """
    interval = np.timedelta64(step * 1000, "ms")
    local = wall - interval if labels is Labels.AFTER_START else wall
    found = np.zeros(len(wall), dtype=np.bool_)
    known = local[~np.isnat(local)]
    if not len(known):
        return found
    first = known.min()
    near = np.flatnonzero(local < first + LONGEST_CHANGE)
    repeated = near[to_utc(local[near], zone) != to_utc(local[near], zone, second=True)]
    moments, counts = np.unique(local[repeated], return_counts=True)
    if not len(moments) or moments[0] != first:
        return found
    found[repeated] = np.isin(local[repeated], moments[counts == 1])
    return found


def _come_again(labels: Times, values: NDArray[np.float64], *, backwards: bool) -> NDArray[np.bool_]:
    """Which rows come again with a label that another row has; those that say the same again are no other hour.

    Two rows of one value are two hours, if no row of that label has another one.
    """
    distinct: dict[int, list[float]] = {}
    order = range(len(labels) - 1, -1, -1) if backwards else range(len(labels))
    moments = labels.astype(np.int64).tolist()
    again = np.zeros(len(labels), dtype=np.bool_)
    for i in order:
        seen = distinct.setdefault(moments[i], [])
        value = float(values[i])
        if value not in seen:
            seen.append(value)
        again[i] = seen.index(value) > 0
    once = {moment for moment, seen in distinct.items() if len(seen) == 1}
    met: set[int] = set()
    for i in order:
        if moments[i] in once:
            again[i] = moments[i] in met
            met.add(moments[i])
    return again


def _by_continuity(
    early: Times,
    late: Times,
    repeated: NDArray[np.intp],
    is_second: NDArray[np.bool_],
    values: NDArray[np.float64],
    interval: np.timedelta64,
) -> NDArray[np.bool_]:
    """Return which rows are of the second hour: for each change, whichever order makes the smaller steps in all."""
    single = np.ones(len(early), dtype=np.bool_)
    single[repeated] = False
    known = dict(zip(early[single].tolist(), values[single].tolist(), strict=True))
    changed = (late - early)[repeated]
    day = early[repeated].astype("datetime64[D]")
    result = is_second.copy()
    for date in np.unique(day):
        here = np.flatnonzero(day == date)
        if not is_second[here].any():
            continue
        steps = []
        for swapped in (False, True):
            moments = np.where(is_second[here] ^ swapped, late[repeated[here]], early[repeated[here]])
            order = np.argsort(moments, kind="stable")
            line = values[repeated[here]][order]
            begin, end = moments[order[0]] - interval, moments[order[-1]] + interval
            around = [known.get(m.astype("datetime64[ms]").item(), np.nan) for m in (begin, end)]
            steps.append(np.nansum(np.abs(np.diff(np.concatenate([around[:1], line, around[1:]])))))
        if steps[1] < steps[0]:
            result[here] = ~is_second[here] & (changed[here] > np.timedelta64(0, "ms"))
    return result
