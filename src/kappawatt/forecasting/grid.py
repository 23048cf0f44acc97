"""The grid of a series: how long its intervals are, as its rows say or show it, and where they begin by its clock.

The door, the worker and requests ask here, so that they agree on what a row means:

- What a row says (`interval_seconds`) counts. Rows that say nothing show their length by how far apart they are: by the
  distance that is most frequent.
- One series has one length. Rows that show another one than is allowed, or several, are refused together: leaving out
  those that do not fit would thin a series, and nobody would see it.
- A single row beside the grid is that row's fault alone.
- A measurement of an interval that begins a day after it arrived, or later, comes from a wrong clock.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Instant, Times, utc_offset

__all__ = [
    "AHEAD_MOST",
    "COARSER",
    "CONFIRMABLE",
    "CONFIRMED",
    "FINER",
    "NOT_EARLY",
    "is_no_span",
    "length_of",
    "listed",
    "off_clock",
    "said_length",
    "shown_length",
    "shown_most",
    "spaced_otherwise",
    "too_early",
    "usual_or_fitting",
]

Vector = NDArray[np.float64]

SECONDS = "interval_seconds"
START = "interval_start"
FINER = 3  # equal distances in a row below the length: two rows beside the grid at least, so no slip of one row
COARSER = 8  # the same above it: what is lost at random does not leave so many equal gaps in a row
UNIFORM = 24  # rows that are all equally far apart, farther than any length: a length of its own, and no late values
AHEAD_MOST = DAY  # of a measured interval's beginning, after it arrived
COVARIATES_AHEAD = 15 * DAY
NOT_EARLY = (
    f"an interval that begins at most {AHEAD_MOST / HOUR:g} hours after its message arrives "
    f"({COVARIATES_AHEAD / DAY:g} days if it has no measurement)"
)
CONFIRMED = "confirmed_until"  # field of streams whose values can be confirmed
CONFIRMED_MOST = 366 * DAY
CONFIRMABLE = "the end of a span of whole intervals of {} s from interval_start on, 366 days at most"
OFFSETS = 900  # s: every offset from UTC is a multiple of it


def listed(steps: Sequence[int]) -> str:
    """Return lengths for a person.

    Examples
    --------
    >>> listed((300, 900, 3600))
    '300, 900 or 3600 s'
    """
    *most, last = sorted(steps)
    return f"{', '.join(map(str, most))}{' or ' if most else ''}{last} s"


def said_length(seconds: Vector | None, steps: Sequence[int]) -> int | None:
    """Return the length [s] that rows of one series say; None if none says any.

    Parameters
    ----------
    seconds : ndarray of shape (n,) or None
        NaN where a row says nothing.
    steps : sequence of int
        Lengths that are allowed.

    Raises
    ------
    PayloadInvalid
        Rows say two lengths, or one that is not allowed.
    """
    if seconds is None:
        return None
    known = seconds[~np.isnan(seconds)]
    if not len(known):
        return None
    if (known != known[0]).any():
        got = " and ".join(f"{length:g}" for length in np.unique(known)[:3])
        raise PayloadInvalid.of(SECONDS, got, "one length for all rows of a series")
    if known[0] not in steps:
        raise PayloadInvalid.of(SECONDS, f"{known[0]:g}", listed(steps))
    return int(known[0])


def shown_length(starts: Times, steps: Sequence[int]) -> int | None:
    """Return the length [s] that rows of one series show by their distances.

    Parameters
    ----------
    starts : ndarray of datetime64[ms], shape (n,)
        In any order.
    steps : sequence of int
        Lengths that are allowed.

    Returns
    -------
    int or None
        None of fewer than two intervals, and of some that lie farther apart than the longest length.

    Raises
    ------
    PayloadInvalid
        They show a length that is not allowed, or several.

    Examples
    --------
    >>> shown_length(np.arange("2016-07-01T00:00", "2016-07-01T02:00", 15, dtype="datetime64[m]"), (900, 3600))
    900
    """
    gaps = _gaps(starts)
    if not len(gaps):
        return None
    if len(gaps) == 1 or (gaps != gaps[0]).any():  # at one distance throughout, none of them is a slip
        off = off_clock(starts, min(steps), None)  # no interval at all begins there
        gaps = _gaps(starts[~off]) if 2 * off.sum() < len(off) else gaps
        if not len(gaps):
            return None
    lengths, counts = np.unique(gaps, return_counts=True)
    common = int(lengths[np.argmax(counts)])  # the smallest of those that are equally frequent
    allowed = np.isin(lengths, np.array(steps) * 1000)
    if common > max(steps) * 1000:
        if len(lengths) == 1 and len(gaps) >= UNIFORM:
            raise _apart(common, steps)
        if not allowed.any():
            return None  # single intervals of any series
        common = int(lengths[allowed][np.argmax(counts[allowed])])
    elif common not in lengths[allowed]:
        raise _apart(common, steps)
    other = _otherwise(gaps, common, steps)
    if other is not None:
        got = f"rows {other / 1000:g} s and {common / 1000:g} s apart"
        raise PayloadInvalid.of(START, got, "one length of interval for all rows of a series")
    return common // 1000


def shown_most(starts: Times, steps: Sequence[int]) -> int | None:
    """Return the allowed distance [s] that most neighbours have, the smallest of several; None if none has one.

    Parameters
    ----------
    starts : ndarray of datetime64[ms], shape (n,)
        In any order.
    """
    lengths, counts = np.unique(_gaps(starts), return_counts=True)
    allowed = np.isin(lengths, np.array(steps) * 1000)
    return int(lengths[allowed][np.argmax(counts[allowed])]) // 1000 if allowed.any() else None


def spaced_otherwise(starts: Times, step: int, steps: Sequence[int]) -> float | None:
    """Return the distance [s] of rows that belong to a series of another length than `step`; None if they may be its.

    Gaps and single rows beside the grid say nothing: it takes three equal distances in a row below the length, or eight
    of another length above it.

    Parameters
    ----------
    starts : ndarray of datetime64[ms], shape (n,)
        In any order.
    """
    other = _otherwise(_gaps(starts), step * 1000, steps)
    return None if other is None else other / 1000


def length_of(
    starts: Times, seconds: Vector | None, is_measured: NDArray[np.bool_], steps: Sequence[int]
) -> tuple[int | None, bool]:
    """Return the length [s] that rows of one series say, or else show, and whether they say it.

    Parameters
    ----------
    starts : ndarray of datetime64[ms], shape (n,)
    seconds : ndarray of shape (n,) or None
        Lengths that rows say, NaN where they say none.
    is_measured : ndarray of bool, shape (n,)
        Whether a row holds a measurement. If two do, these show the length; weather has distances of its own, which
        are never a fault.
    steps : sequence of int
        Lengths that are allowed.

    Raises
    ------
    PayloadInvalid
        They say or show a length that is not allowed, or several; none of them can be used.
    """
    said = said_length(seconds, steps)
    if len(starts) == 1:
        return said, said is not None
    measured = starts[is_measured]
    if said is None:
        return _shown_by(measured, starts, steps), False
    other = spaced_otherwise(measured, said, steps)
    if other is not None:
        raise PayloadInvalid.of(START, f"rows {other:g} s apart", f"{said} s, as {SECONDS} says")
    return said, True


def _shown_by(measured: Times, starts: Times, steps: Sequence[int]) -> int | None:
    if len(measured) > 1:
        return shown_length(measured, steps)
    try:
        return shown_length(starts, steps)
    except PayloadInvalid:
        return None


def off_clock(starts: Times, step: int, time_zone: str | None) -> NDArray[np.bool_]:
    """Return True where no interval of a length [s] can begin by a zone's clock; by any zone's, if it is None."""
    moments = np.asarray(starts, "datetime64[ms]").astype(np.int64)
    if time_zone is None:
        return np.asarray(moments % (min(step, OFFSETS) * 1000) != 0)
    return np.asarray((moments + utc_offset(starts, time_zone)) % (step * 1000) != 0)


def too_early(starts: Times, is_measured: NDArray[np.bool_], arrived: Instant) -> NDArray[np.bool_]:
    """Return True where an interval begins so long after it arrived that the clock must be wrong; see `NOT_EARLY`."""
    ahead = starts - arrived
    return np.asarray(np.where(is_measured, ahead > AHEAD_MOST, ahead > COVARIATES_AHEAD))


def usual_or_fitting(starts: Times, steps: Sequence[int], usual: int | None, time_zone: str) -> int:
    """Return the length [s] to suppose of a series whose intervals neither say nor show theirs.

    The usual one, or if not all begin where such intervals do, the longest of which they are; without a usual one, the
    shortest.

    Parameters
    ----------
    starts : ndarray of datetime64[ms], shape (n,)
    """
    if usual is None:
        return min(steps)
    fitting = (step for step in (usual, *sorted(steps, reverse=True)) if not off_clock(starts, step, time_zone).any())
    return next(fitting, usual)


def _gaps(starts: Times) -> NDArray[np.int64]:
    """Distances between neighbours [ms], each start taken once."""
    moments: NDArray[np.int64] = np.unique(np.asarray(starts, "datetime64[ms]").astype(np.int64))
    return moments[1:] - moments[:-1]


def _apart(gap: int, steps: Sequence[int]) -> PayloadInvalid:
    allowed = f"{listed(steps)} (rows that are single intervals of such a series say so: {SECONDS})"
    return PayloadInvalid.of(START, f"rows {gap / 1000:g} s apart", allowed)


def _otherwise(gaps: NDArray[np.int64], length: int, steps: Sequence[int]) -> int | None:
    """The first distance [ms] that shows another length than `length` [ms]."""
    if len(gaps) < FINER:
        return None
    edges = np.flatnonzero(np.diff(gaps)) + 1
    begins = np.concatenate([[0], edges])
    runs, sizes = gaps[begins], np.diff(np.concatenate([begins, [len(gaps)]]))
    finer = (runs < length) & (sizes >= FINER)
    coarser = np.isin(runs, [step * 1000 for step in steps if step * 1000 > length]) & (sizes >= COARSER)
    found = np.flatnonzero(finer | coarser)
    return int(runs[found[0]]) if len(found) else None


def is_no_span(starts: Times, until: Times, step: int) -> NDArray[np.bool_]:
    """Return True where a time is given and is not the end of a span of whole intervals, see `CONFIRMABLE`.

    Parameters
    ----------
    starts, until : ndarray of datetime64[ms], shape (n,)
        NaT in `until` is no span.
    step : int
        Length of an interval [s].
    """
    length = np.asarray(until - starts, "timedelta64[ms]")
    whole = length.astype(np.int64) % (step * 1000) == 0
    is_span = whole & (length > np.timedelta64(0, "ms")) & (length <= CONFIRMED_MOST)
    return np.asarray(~np.isnat(until) & ~is_span)
