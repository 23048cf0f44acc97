"""What is wrong with a series, or looks so: missing, stuck, zero, far from its neighbours, another level, a register.

Nothing here changes a value. What is stuck and what is a spike is defined in `kappawatt.forecasting.suspects`, where a
forecast takes it for missing. Rows that the reader refused, and those that came twice, are its own to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.jumps import Jump, unit_jumps
from kappawatt.datasets.profiles import daily_means
from kappawatt.datasets.series import SeriesFile
from kappawatt.forecasting.calendar import Instant, Times
from kappawatt.forecasting.registers import daily_resets, looks_like_a_register, runs_that_never_fall
from kappawatt.forecasting.suspects import FEWEST_DAYS, SuspectRules, equal_runs, spikes, stuck_runs

__all__ = ["Quality", "Shift", "Shifts", "Span", "Spans", "Spikes", "examine", "without_spikes"]

ZERO_SECONDS = 3 * 3600
"""Shortest run of zeros [s] that is told as one."""
SHIFT_DAYS = 14
"""Days before and after a change of level: whole weeks, so that each day is compared with one of its weekday."""
SHIFT_KNOWN = 10
"""Of these days, how many must be known on both sides."""
SHIFT_SHARE = 1 / 3
"""Of the larger level, how much must change: a factor of 1.5."""
SHIFT_LEAST = 0.4
"""Of the median change, what each day must show at least."""
MOST_DAYS = 150_000
"""Days between the first and the last beyond which levels are not compared: 400 years are a stray date."""


@dataclass(frozen=True, slots=True)
class Span:
    """Intervals in a row.

    Parameters
    ----------
    start, end : datetime64[ms]
        UTC; the end is the last one's.
    count : int
        Intervals.
    value : float
        That they share; NaN if they have none.
    """

    start: Instant
    end: Instant
    count: int
    value: float = float("nan")

    @property
    def hours(self) -> float:
        """Its length [h]."""
        return float((self.end - self.start) / np.timedelta64(3_600_000, "ms"))


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of one kind in order of time.

    Parameters
    ----------
    starts : ndarray of datetime64[ms], shape (n,)
    counts : ndarray of int, shape (n,)
        Intervals of each.
    values : ndarray of shape (n,)
    step : int
        Length of an interval [s].
    """

    starts: Times
    counts: NDArray[np.int64]
    values: NDArray[np.float64]
    step: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def total(self) -> int:
        """Intervals in all of them."""
        return int(self.counts.sum())

    def longest(self, most: int) -> list[Span]:
        """Return the longest ones, longest first; of equal ones the earliest."""
        order = np.argsort(-self.counts, kind="stable")[:most]
        return [self._at(i) for i in order.tolist()]

    def first(self, most: int) -> list[Span]:
        """Return the first ones."""
        return [self._at(i) for i in range(min(most, len(self)))]

    def _at(self, i: int) -> Span:
        count = int(self.counts[i])
        length = np.timedelta64(count * self.step * 1000, "ms")
        return Span(self.starts[i], self.starts[i] + length, count, float(self.values[i]))


@dataclass(frozen=True, slots=True)
class Spikes:
    """Values far from what neighbouring days have at the same time, in order of time.

    Parameters
    ----------
    starts : ndarray of datetime64[ms], shape (n,)
    values : ndarray of shape (n,)
    usual : ndarray of shape (n,)
        Median of the neighbouring days.
    """

    starts: Times
    values: NDArray[np.float64]
    usual: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts)

    def furthest(self, most: int) -> list[tuple[Instant, float, float]]:
        """Return start, value and what is usual of those furthest away."""
        order = np.argsort(-np.abs(self.values - self.usual), kind="stable")[:most]
        return [(self.starts[i], float(self.values[i]), float(self.usual[i])) for i in order.tolist()]


@dataclass(frozen=True, slots=True)
class Shift:
    """A day from which on the level is another.

    Parameters
    ----------
    date : datetime64[D]
        Local.
    before, after : float
        Median of the daily means of the two weeks on each side.
    """

    date: Instant
    before: float
    after: float


Shifts = tuple[Shift, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """What there is to say of a series.

    Parameters
    ----------
    intervals : int
        From the first to the last row.
    known : int
        Those with a value.
    mean, minimum, maximum : float
        Of what is known, in the stream's unit; NaN if nothing is.
    missing : Spans
    flat : Spans
        The same non-zero value for hours.
    zeros : Spans
        Runs of zeros.
    zero_count : int
        Zeros in all, in runs or alone.
    spikes : Spikes
    negative_count : int
    beyond_count : int
        Values beyond the limits of the stream.
    first_beyond : datetime64[ms] or None
    limits : tuple of float
        Of the stream.
    register : Spans
        Where values never fall for a day and more though they rise.
    is_register : bool
        Whether most of the series is so. Stuck runs, spikes and levels are then not looked for.
    shifts : tuple of Shift
    jumps : tuple of Jump
        Where values become 1000 times as large, or as small.
    days : int
        From the first value to the last, the last begun one counted: what some checks need a number of.
    """

    intervals: int
    known: int
    mean: float
    minimum: float
    maximum: float
    missing: Spans
    flat: Spans
    zeros: Spans
    zero_count: int
    spikes: Spikes
    negative_count: int
    beyond_count: int
    first_beyond: Instant | None
    limits: tuple[float, float]
    register: Spans
    is_register: bool
    shifts: Shifts
    jumps: tuple[Jump, ...] = ()
    days: int = 0

    @property
    def unchecked(self) -> dict[str, int]:
        """Checks that a series is too short for, and how many days each needs."""
        needed = {"spikes": FEWEST_DAYS, "register": 1, "level": 2 * SHIFT_DAYS}
        return {name: days for name, days in needed.items() if self.days < days}

    @property
    def missing_share(self) -> float:
        """Of the intervals between first and last, those without a value."""
        return (self.intervals - self.known) / self.intervals if self.intervals else 0.0


def examine(series: SeriesFile) -> Quality:
    """Look a series through.

    Parameters
    ----------
    series : SeriesFile
        In order of time; of an interval that comes more than once the last counts.
    """
    is_last = np.ones(len(series), dtype=np.bool_)
    is_last[:-1] = series.starts[1:] != series.starts[:-1]
    starts, values, step = series.starts[is_last], series.values[is_last], series.step
    here = np.isfinite(values)
    times, known = starts[here], values[here]
    place = (times - starts[0]).astype(np.int64) // (step * 1000) if len(starts) else np.zeros(0, np.int64)
    last = int((starts[-1] - starts[0]).astype(np.int64) // (step * 1000)) if len(starts) else -1
    begins, lengths = runs_that_never_fall(times, known, step)
    is_register = looks_like_a_register(times, known, step)
    resets = daily_resets(times, known, step, series.time_zone)
    if len(resets):  # a counter of each day
        begins, is_register = np.concatenate([[0], resets]), True
        lengths = np.diff(np.append(begins, len(known)))
    register = Spans(times[begins], lengths, known[begins], step)
    field = series.stream.schema.field(series.stream.target)
    low, high = field.limits
    beyond = (known < low) | (known > high)
    nothing = Spans(times[:0], np.zeros(0, np.int64), known[:0], step)
    return Quality(
        intervals=last + 1,
        known=len(known),
        mean=float(known.mean()) if len(known) else float("nan"),
        minimum=float(known.min()) if len(known) else float("nan"),
        maximum=float(known.max()) if len(known) else float("nan"),
        missing=_missing(starts, place, last, step),
        flat=nothing if is_register else _flat(times, known, place, step, series.stream.suspect_rules),
        zeros=_runs(times, known, place, step, known == 0, -(-ZERO_SECONDS // step)),
        zero_count=int((known == 0).sum()),
        spikes=Spikes(times[:0], known[:0], known[:0]) if is_register else _spikes(times, known, series),
        negative_count=int((known < 0).sum()),
        beyond_count=int(beyond.sum()),
        first_beyond=times[beyond][0] if beyond.any() else None,
        limits=(low, high),
        register=register,
        is_register=is_register,
        shifts=() if is_register else _shifts(series),
        jumps=() if is_register else unit_jumps(times, known, step),
        days=-(-int(place[-1] - place[0] + 1) * step // 86_400) if len(place) else 0,
    )


def without_spikes(series: SeriesFile, quality: Quality) -> SeriesFile:
    """Return a series in which spikes are missing, as means and drawings want it."""
    if not len(quality.spikes):
        return series
    values = series.values.copy()
    values[np.isin(series.starts, quality.spikes.starts)] = np.nan
    return replace(series, values=values)


def _missing(starts: Times, place: NDArray[np.int64], last: int, step: int) -> Spans:
    """Intervals without a value between the first row and the last."""
    edges = np.concatenate([[-1], place, [last + 1]])
    gaps = np.flatnonzero(np.diff(edges) > 1)
    begins = (edges[gaps] + 1) * step * 1000
    times = starts[:1].repeat(len(gaps)) + begins.astype("timedelta64[ms]")
    return Spans(times, np.diff(edges)[gaps] - 1, np.full(len(gaps), np.nan), step)


def _runs(
    times: Times, values: NDArray[np.float64], place: NDArray[np.int64], step: int, of: NDArray[np.bool_], least: int
) -> Spans:
    """Runs of equal values in neighbouring intervals, of `least` intervals and more, among those that are `of`."""
    if not len(values):
        return Spans(times, np.zeros(0, np.int64), values, step)
    begins, lengths = equal_runs(values, place)
    kept = (lengths >= least) & of[begins]
    return Spans(times[begins[kept]], lengths[kept], values[begins[kept]], step)


def _flat(
    times: Times, values: NDArray[np.float64], place: NDArray[np.int64], step: int, suspect_rules: SuspectRules
) -> Spans:
    """Stuck runs."""
    begins, counts = stuck_runs(values, place, step, suspect_rules)
    return Spans(times[begins], counts, values[begins], step)


def _spikes(times: Times, values: NDArray[np.float64], series: SeriesFile) -> Spikes:
    told = values != 0  # runs of zeros are told as such
    rules = series.stream.suspect_rules
    rules = replace(rules, spreads=rules.spreads + rules.told)
    far, usual = spikes(times, values, series.step, series.time_zone, rules)
    found = np.flatnonzero(far & told)
    return Spikes(times[found], values[found], usual[found])


def _shifts(series: SeriesFile) -> Shifts:
    """Days from which on every day of two weeks differs, in one direction, from the same weekday before."""
    dates, means = daily_means(series)
    if not len(dates):
        return ()
    days = int((dates[-1] - dates[0]).astype(np.int64)) + 1
    if days < 2 * SHIFT_DAYS or days > MOST_DAYS:
        return ()
    level = np.full(days, np.nan)
    level[(dates - dates[0]).astype(np.int64)] = means
    windows = np.lib.stride_tricks.sliding_window_view(level, SHIFT_DAYS)
    before, after = windows[:-SHIFT_DAYS], windows[SHIFT_DAYS:]
    change = np.sort(after - before, axis=1)  # NaN last
    count = np.isfinite(change).sum(axis=1)
    enough = count >= SHIFT_KNOWN
    middle = np.take_along_axis(change, np.maximum(count // 2, 0)[:, None] % SHIFT_DAYS, axis=1)[:, 0]
    lowest, highest = change[:, 0], np.take_along_axis(change, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    least = np.where(middle > 0, lowest, -highest)
    one, other = _medians(before), _medians(after)
    large = np.abs(middle) >= SHIFT_SHARE * np.maximum(np.abs(one), np.abs(other))
    with np.errstate(invalid="ignore"):
        found = np.flatnonzero(enough & large & (least >= SHIFT_LEAST * np.abs(middle)) & (middle != 0))
    chosen: list[int] = []
    for i in found.tolist():  # of neighbouring days the one with the largest change
        if chosen and i - chosen[-1] <= SHIFT_DAYS:
            if least[i] > least[chosen[-1]]:
                chosen[-1] = i
        else:
            chosen.append(i)
    return tuple(Shift(dates[0] + i + SHIFT_DAYS, float(one[i]), float(other[i])) for i in chosen)


def _medians(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each row's known values; NaN where there is none."""
    ordered = np.sort(windows, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    row = np.arange(len(ordered))
    low, high = ordered[row, np.maximum(count - 1, 0) // 2], ordered[row, np.minimum(count // 2, ordered.shape[1] - 1)]
    return np.asarray(np.where(count % 2 == 1, low, (low + high) / 2))
