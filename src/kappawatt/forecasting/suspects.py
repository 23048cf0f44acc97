"""Which values nobody should believe: spikes, stuck runs, zeros where nothing is ever zero. Pure functions.

What is suspect is missing to a forecast, and the answer says how much of it there was. A value is suspect only if
no real series of those it was tried on has any like it: holidays, heat waves, cold snaps and outages in a storm are
real. Files are looked through by the same rules (`kappawatt inspect`), so that there is one meaning of each word.

- *Spike*: far from the same local time of the two weeks before, and of the five days nearest to it on either side, so
  that a new level is no longer suspect as soon as four days show it. "Far" is measured against how far values of that
  hour of the day usually are, on a scale that is a logarithm but near zero, so that ten times and a tenth weigh the
  same. In a zone far from zero also what begins with a step that no zone makes from one interval to the next, until it
  ends with another, or four days show the new level.
- *Stuck*: one value other than zero for longer than chance explains.
- *Zero*: zeros in a series that is otherwise far from zero, and rarely zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import DAY, HOUR, Times, to_local
from kappawatt.forecasting.history import Past, Suspect

__all__ = [
    "CONTINUOUS",
    "SPIKY",
    "Spread",
    "SuspectRules",
    "equal_runs",
    "odd_zeros",
    "spikes",
    "stuck_runs",
    "without_suspects",
]

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

STUCK_FACTOR = 2.2
"""How many times the longest run that chance makes in five weeks a stuck one is. Where a share p of n neighbours is
equal, the longest run of equal ones is about log(n (1 - p)) / log(1 / p), where n (1 - p) is the number of runs (Erdos
and Renyi, On a new law of large numbers, 1970)."""
STUCK_FEWEST = 3
STUCK_OTHERS = 5
"""Other runs of the same value from which on they tell how long it repeats: a meter of few digits has many."""
BEFORE = tuple(range(-1, -15, -1))
"""Days whose value at the same local time is what is usual: two weeks."""
AROUND = tuple(sign * days for days in range(1, 8) for sign in (1, -1))
"""Days among which the nearest that are known show what is usual now."""
NEAREST = 5
"""How many of them: of four days at a new level each has three beside it, of three days none has."""
LEAST = 4
"""Of these days, how many must be known, or nothing is usual."""
FURTHEST = 3
"""The furthest values that never count as ordinary, however short a series is."""
FEWEST_DAYS = 14
"""Days of a series below which nothing is far: what is usual is not known yet."""
RARELY_ZERO = 0.05
"""Of all values, the zeros of a series that is rarely zero."""
STEP_FACTOR = 1.8
"""How many times more or less than what is usual there a step is at least. The largest of half a million real hours
(PJM, ISO New England, distribution companies, Estonia, North Macedonia but for two that are wrong) is 1.6."""
STEP_DISTANCES = 5.0
"""How many times the largest ordinary step it is at least, the one that one in a hundred exceeds."""
STEP_ORDINARY = 0.99
STEP_LONGEST = 4 * DAY
"""What lasts longer than this beyond a step is a new level."""
STEP_REACH = 6 * HOUR
"""How long a value that was trusted tells what comes next; later it does only if it was the more usual one."""
FAR_FROM_ZERO = 1 / 3
"""Of the median, what the lowest values but a hundredth are at least in a series that is far from zero. In any five
weeks of eleven zones (PJM, ISO New England, distribution companies, Estonia, North Macedonia, the Nordic system) it is
0.41 and more; where the sun on roofs takes noon to zero it is less."""
TOGETHER = 262_144  # intervals whose neighbours are looked at at once: they take 14 times the memory
NO_TIME = np.timedelta64(0, "ms")
COUNTED = 35 * DAY  # what was suspect longer ago is no news


@dataclass(frozen=True, slots=True)
class Spread:
    """How far is far.

    Parameters
    ----------
    scales : tuple of (float, float)
        Scales on which a spike is far, all of them: what of the median is as good as zero (the scale is linear below it
        and a logarithm above), and how many times the largest ordinary distance a spike is away.
    ordinary : float
        Of all distances from what is usual, those that are ordinary.
    factor : float
        How many times more or less than usual it is at least, on the first scale.
    by_hour : bool
        Whether what is ordinary is asked of each hour of the day by itself.
    """

    scales: tuple[tuple[float, float], ...]
    ordinary: float
    factor: float
    by_hour: bool = True


@dataclass(frozen=True, slots=True)
class SuspectRules:
    """What is suspect in series of a kind.

    Parameters
    ----------
    stuck : timedelta64
        Shortest stuck run, which is `STUCK_FEWEST` intervals at least.
    zeros : bool
        Whether zeros are suspect where nothing else is near zero.
    spreads : tuple of Spread
        What a spike is, by any of them.
    told : tuple of Spread
        What a person who looks at the series is told of besides, and a forecast believes.
    steps : bool
        Whether what begins with a step is a spike, in a series far from zero.
    between : timedelta64
        How far apart spikes are at most for what lies between them to be one too: of another unit, small values too.
    """

    stuck: np.timedelta64
    zeros: bool
    spreads: tuple[Spread, ...]
    told: tuple[Spread, ...] = ()
    steps: bool = False
    between: np.timedelta64 = NO_TIME


TIMES_THREE = Spread(((0.01, 3.0), (1 / 3, 1.5)), 0.95, 3.0)
"""Three times or a third, and three ordinary distances away, and not just next to zero. A twentieth of a series may be
wrong. The furthest real values (PJM, ISO New England, three distribution companies, Estonia, North Macedonia, the
Nordic system) are 3.4 ordinary distances and a factor of 2.5 away (Dayton on 2008-09-14, after a hurricane), or 2.3 and
3.5 (a thaw in January 2018); ten times or a tenth is 4 distances and more."""
ALMOST_THREE = Spread(((0.01, 3.6), (1 / 3, 2.0)), 0.95, 2.6)
"""Three times what it was, where what it was is itself above or below the usual: just beyond the furthest real values
above. That little room is enough, since a value of three times in the newest hour costs a forecast ten times its error,
and a good one that is missing a twelfth of it (`python -m bench.faults`), and can be confirmed."""
BEYOND_ALL = Spread(((1e6, 8.0),), 0.99, 1.0, by_hour=False)
"""Twice as far as the furthest real value on a plain scale."""
CONTINUOUS = SuspectRules(stuck=HOUR, zeros=True, spreads=(TIMES_THREE, ALMOST_THREE, BEYOND_ALL), steps=True)
"""Of a zone, where many act at once. In 490,000 hours of nine zones three that follow each other are equal twelve
times, and never four."""
SPIKY = SuspectRules(
    stuck=12 * HOUR,
    zeros=False,
    spreads=(Spread(((1e6, 60.0),), 0.95, 1.0, by_hour=False),),
    told=(Spread(((1e6, 4.0),), 0.99, 1.0, by_hour=False),),
    between=12 * HOUR,
)
"""Of a household: any value may follow any other, and an empty home is a zero. Of five homes the furthest value is 11
times as far away as the largest ordinary one, and a car that is charged for the first time would be 30 times; that of
another unit is a thousand times. The longest run of one non-zero value in a year of four homes is 5 h."""


def without_suspects(past: Past, suspect_rules: SuspectRules) -> Past:
    """Return the same past, in which what is suspect is unknown, and `suspects` says what that is.

    Parameters
    ----------
    past : Past
    suspect_rules : SuspectRules
        Of the kind of series it is.

    Returns
    -------
    Past
        As if the suspect values had never been measured: its last value is known. `past` itself, if nothing is suspect.
    """
    known = np.flatnonzero(~np.isnan(past.values))
    if not len(known):
        return past
    why = _reasons(past, known, suspect_rules)
    if len(past.confirmed):  # they were real, and show what is usual as any other
        why[np.isin(past.start + known * past.interval, past.confirmed)] = 0
    if not (why > 0).any():
        return past
    values = past.values.copy()
    values[known[why > 0]] = np.nan
    left = np.flatnonzero(~np.isnan(values))
    if not len(left):
        return past  # nothing to compare with
    first, last = int(left[0]), int(left[-1]) + 1
    return replace(past, values=values[:last], suspects=_spans(past, known[why > 0], why[why > 0])).since(first)


WHY = ("", "stuck", "zero", "spike")


def _reasons(past: Past, known: NDArray[np.intp], suspect_rules: SuspectRules) -> NDArray[np.int8]:
    """Position in `WHY` of why each known value is suspect; 0 if it is not."""
    values = past.values[known]
    why = np.zeros(len(known), np.int8)
    for begin, count in zip(*stuck_runs(values, known, past.step, suspect_rules), strict=True):
        why[begin : begin + count] = WHY.index("stuck")
    if suspect_rules.zeros:
        why[(why == 0) & odd_zeros(values)] = WHY.index("zero")
    if suspect_rules.spreads:
        rest = np.flatnonzero(why == 0)
        times = past.start + known[rest] * past.interval
        far, _ = spikes(times, values[rest], past.step, past.time_zone, suspect_rules)
        why[rest[far]] = WHY.index("spike")
    return why


def _spans(past: Past, places: NDArray[np.intp], why: NDArray[np.int8]) -> tuple[Suspect, ...]:
    """Doubted intervals that follow each other for one reason, of those that are not long ago."""
    lately = past.start + places * past.interval >= past.issue_time - COUNTED
    places, why = places[lately], why[lately]
    edges = np.flatnonzero((np.diff(places) != 1) | (np.diff(why) != 0)) + 1
    found = []
    for run in np.split(np.arange(len(places)), edges):
        if len(run):
            start = past.start + places[run[0]] * past.interval
            found.append(Suspect(start, start + len(run) * past.interval, len(run), WHY[why[run[0]]]))
    return tuple(found)


def equal_runs(values: Vector, places: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return begin and length of all runs of equal values in neighbouring intervals.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Known ones, in order.
    places : ndarray of int, shape (n,)
        Number of each one's interval.
    """
    if not len(values):
        return np.zeros(0, np.intp), np.zeros(0, np.int64)
    goes_on = (values[1:] == values[:-1]) & (np.diff(places) == 1)
    begins = np.flatnonzero(np.concatenate([[True], ~goes_on]))
    return begins, np.diff(np.append(begins, len(values)))


def stuck_runs(
    values: Vector, places: NDArray[np.int64], step: int, suspect_rules: SuspectRules
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return begin and length of runs of one value other than zero, longer than chance makes them.

    Parameters
    ----------
    values, places : ndarray of shape (n,)
        As of `equal_runs`.
    step : int
        Length of an interval [s].
    suspect_rules : SuspectRules
    """
    least = max(STUCK_FEWEST, -(-int(suspect_rules.stuck / np.timedelta64(1, "s")) // step))
    begins, counts = equal_runs(values, places)
    if not (counts >= least).any():
        return begins[:0], counts[:0]
    kept = values[begins] != 0
    begins, counts = begins[kept], counts[kept]
    _, code, runs = np.unique(values[begins], return_inverse=True, return_counts=True)
    length = np.bincount(code, weights=counts, minlength=len(runs))
    others, long = runs[code] - 1, length[code] - counts  # runs of the same value, and intervals in them
    short = counts < least
    overall = 1 - short.sum() / max(counts[short].sum(), 1)  # of neighbours, the equal ones
    own = np.where(others < STUCK_OTHERS, 0.0, 1 - others / np.maximum(long, 1))
    share = np.clip(np.maximum(own, overall), 1e-9, 1 - 1e-9)
    most = np.clip(short.sum(), 2, COUNTED / np.timedelta64(step, "s"))
    by_chance = np.log(most) / np.log(1 / share)
    stuck = (counts >= least) & (counts >= STUCK_FACTOR * by_chance)
    return begins[stuck], counts[stuck]


def odd_zeros(values: Vector) -> Flags:
    """Return where a series that is rarely zero, and otherwise far from it, is zero.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Known ones.
    """
    zero = values == 0
    if not zero.any() or zero.mean() > RARELY_ZERO:
        return np.zeros(len(values), np.bool_)
    return zero if _far_from_zero(values[~zero]) else np.zeros(len(values), np.bool_)


def _far_from_zero(values: Vector) -> bool:
    ordered = np.sort(values)
    return bool(len(values)) and bool(ordered[len(ordered) // 100] >= FAR_FROM_ZERO * ordered[len(ordered) // 2] > 0)


def spikes(
    times: Times, values: Vector, step: int, time_zone: str, suspect_rules: SuspectRules
) -> tuple[Flags, Vector]:
    """Return which values are far from what the days around have at the same local time, and what that is.

    Parameters
    ----------
    times : ndarray of datetime64[ms], shape (n,)
        Starts of intervals, UTC, in order.
    values : ndarray of shape (n,)
        Known ones.
    step : int
        Length of an interval [s].
    time_zone : str
        IANA name.
    suspect_rules : SuspectRules
        A value is far if it is by one of the spreads, or by steps.

    Returns
    -------
    far : ndarray of bool, shape (n,)
    usual : ndarray of shape (n,)
        In the unit of `values`; NaN where too few of the days around are known.
    """
    far = np.zeros(len(values), np.bool_)
    size = float(np.median(np.abs(values))) if len(values) else 0.0
    per_day = 86_400 // step
    slot = to_local(times, time_zone).astype(np.int64) // (step * 1000)
    days, row = np.unique(slot // per_day, return_inverse=True)
    if size <= 0 or len(days) < FEWEST_DAYS:
        return far, np.full(len(values), np.nan)
    column = slot % per_day
    grid = np.full((len(days), per_day), np.nan)
    grid[row, column] = values
    before = _median(days, grid, np.arange(len(days)), BEFORE, len(BEFORE))
    around = np.full(grid.shape, np.nan)
    asked = np.zeros(len(days), np.bool_)  # the days around whose values were looked at
    for spread in suspect_rules.spreads:
        found = np.ones(len(values), np.bool_)
        least = np.log(spread.factor)
        for near_zero, distances in spread.scales:
            unit = 2 * near_zero * size
            scaled = np.arcsinh(grid / unit)
            apart = np.abs(scaled - np.arcsinh(before / unit))
            limit = np.maximum(distances * _ordinary(apart, spread), least)
            least = 0.0  # the factor is of the first scale
            new = np.flatnonzero(~(apart <= limit).all(axis=1) & ~asked)
            around[new] = _median(days, grid, new, AROUND, NEAREST)
            asked[new] = True
            each = np.arcsinh(values / unit)  # of a repeated hour both, of which the grid holds one
            one, other = (np.abs(each - np.arcsinh(usual[row, column] / unit)) for usual in (before, around))
            found &= np.fmin(one, other) > limit[column]
            if not found.any():
                break
        far |= found
    if suspect_rules.steps and step <= HOUR / np.timedelta64(1, "s") and _far_from_zero(values):
        unit = 2 * suspect_rules.spreads[0].scales[0][0] * size
        far |= _beyond_steps(times, np.arcsinh(values / unit) - np.arcsinh(before[row, column] / unit), step)
    places = np.flatnonzero(far)
    for begin, end in pairwise(places.tolist()):
        if times[end] - times[begin] <= suspect_rules.between:
            far[begin:end] = True
    one, other = before[row, column], around[row, column]
    is_nearer = np.isnan(one) | (np.abs(values - other) < np.abs(values - one))
    return far, np.where(is_nearer, other, one)


def _beyond_steps(times: Times, apart: Vector, step: int) -> Flags:
    """Return which values lie between a step that no zone makes and the one back.

    Parameters
    ----------
    times : ndarray of datetime64[ms], shape (n,)
    apart : ndarray of shape (n,)
        How much more than usual each value is, as a logarithm; NaN where nothing is usual.
    step : int
        Length of an interval [s].
    """
    far = np.zeros(len(times), np.bool_)
    places = np.flatnonzero(np.isfinite(apart))
    times, apart = times[places], apart[places]
    rises, passed = np.abs(np.diff(apart)), np.diff(times)
    ordered = np.sort(rises[passed == np.timedelta64(step * 1000, "ms")])
    if len(ordered) <= FURTHEST:
        return far
    ordinary = ordered[min(int(STEP_ORDINARY * (len(ordered) - 1)), len(ordered) - 1 - FURTHEST)]
    limit = max(np.log(STEP_FACTOR), STEP_DISTANCES * ordinary)
    longest = STEP_LONGEST - np.timedelta64(step * 1000, "ms")
    edges = np.flatnonzero((rises > limit) | (passed > STEP_REACH)) + 1
    trusted = -1
    for begin, end in zip([0, *edges], [*edges, len(times)], strict=True):
        if trusted >= 0:
            since = times[begin] - times[trusted]
            is_far = abs(apart[begin] - apart[trusted]) > limit and since <= STEP_LONGEST
            is_odder = since <= STEP_REACH or abs(apart[begin]) > abs(apart[trusted])
            if is_far and is_odder and times[end - 1] - times[begin] < longest:
                far[places[begin:end]] = True
                continue
        trusted = end - 1
    return far


def _median(
    days: NDArray[np.int64], grid: Vector, rows: NDArray[np.intp], offsets: tuple[int, ...], most: int
) -> Vector:
    """Median of the first `most` known of some days beside each of the days at `rows`; NaN of too few."""
    found = np.empty((len(rows), grid.shape[1]))
    together = max(1, TOGETHER // grid.shape[1])
    for begin in range(0, len(rows), together):
        part = days[rows[begin : begin + together]]
        beside = np.full((len(offsets), len(part), grid.shape[1]), np.inf)
        for i, offset in enumerate(offsets):
            at = np.minimum(np.searchsorted(days, part + offset), len(days) - 1)
            there = days[at] == part + offset
            beside[i, there] = np.where(np.isnan(grid[at[there]]), np.inf, grid[at[there]])
        if most < len(offsets):
            beside[np.cumsum(np.isfinite(beside), axis=0) > most] = np.inf
        beside.sort(axis=0)
        count = np.isfinite(beside).sum(axis=0)
        low = np.take_along_axis(beside, (np.maximum(count - 1, 0) // 2)[None], axis=0)[0]
        high = np.take_along_axis(beside, np.minimum(count // 2, len(offsets) - 1)[None], axis=0)[0]
        with np.errstate(invalid="ignore"):
            found[begin : begin + together] = np.where(count >= LEAST, (low + high) / 2, np.nan)
    return found


def _ordinary(distance: Vector, spread: Spread) -> Vector:
    """Largest ordinary distance of each time of the day: of its hour and the hours beside it, or of all."""
    n_days, per_day = distance.shape
    hours = min(24, per_day) if spread.by_hour else 1
    by_hour = np.sort(distance.reshape(n_days, hours, -1).transpose(1, 0, 2).reshape(hours, -1), axis=1)  # NaN last
    count = np.isfinite(by_hour).sum(axis=1)
    place = np.minimum((spread.ordinary * (count - 1)).astype(np.int64), count - 1 - FURTHEST)
    own = np.where(place >= 0, by_hour[np.arange(hours), np.maximum(place, 0)], np.inf)
    near = np.maximum.reduce([np.roll(own, shift) for shift in (-1, 0, 1)])
    return np.repeat(near, per_day // hours)
