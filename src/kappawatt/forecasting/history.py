"""What is known of a series, and when it became known: the only source of a forecast's features.

A `History` keeps, for each interval of a grid, its value and every revision with the time it became known. It is read
through one gate, `until(issue_time)`: what it gives holds no interval that ended later and no value that became
known later, so that no feature can see the future, in training, backtest or service.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import HistoryInsufficient, PayloadInvalid
from kappawatt.forecasting.calendar import Instant, Times, as_instant, utc_offset
from kappawatt.forecasting.grid import CONFIRMED
from kappawatt.forecasting.holidays import OF_THE_ZONE

__all__ = ["AHEAD_INTERVALS", "History", "Past", "Suspect", "intervals_ahead"]

Vector = NDArray[np.float64]
MOST_INTERVALS = 500_000  # of one series in memory: 57 years of hours, 14 of quarter hours
AHEAD_INTERVALS = 1_500  # covariates known ahead: 15 days of quarter hours
AHEAD_DAYS = 15  # of shorter intervals
AHEAD = 12 * 3_600_000  # ms before an interval begins: what was known then is its forecast of the day before
BEGINNING = np.iinfo(np.int64).min  # "was always known"


def intervals_ahead(step: int) -> int:
    """Return how many intervals of a length [s] covariates are kept ahead of the last value, at most."""
    return max(AHEAD_INTERVALS, AHEAD_DAYS * 86_400 // step)


@dataclass(frozen=True, slots=True)
class Suspect:
    """Intervals in a row that are suspect (`kappawatt.forecasting.suspects`).

    Parameters
    ----------
    start, end : datetime64[ms]
        UTC; the end is the last one's.
    count : int
        Intervals.
    why : str
        `spike`, `stuck` or `zero`.
    """

    start: Instant
    end: Instant
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class Past:
    """What was known of one series at an issue time.

    Parameters
    ----------
    key : str
        Name of the series.
    time_zone : str
        IANA name.
    step : int
        Length of an interval [s].
    start : datetime64[ms]
        Start of the first interval, UTC.
    values : ndarray of shape (n,)
        Value of each interval from `start` on, NaN where unknown; the last is known and ends at or before
        `issue_time`.
    issue_time : datetime64[ms]
        UTC.
    covariates : mapping of str to ndarray of shape (n + ahead,)
        On the same grid, running on past the last value as far as it was known then. NaN where unknown.
    ahead : mapping of str to ndarray of shape (n + ahead,)
        The covariates as they were known twelve hours before each interval began, the newest such value: what a
        forecast of the day before was made with. NaN where nothing was.
    filled : int
        How many of the last five weeks' `values` the gap policy filled (`kappawatt.forecasting.gaps`).
    suspects : tuple of Suspect
        Measurements of the last five weeks that were taken for missing.
    confirmed : ndarray of datetime64[ms]
        Starts of the intervals whose value somebody who knows has said was real: never suspect.
    holidays : str
        Whose public holidays it has: `DE`, `DE-BY`, `none`; empty are those of the time zone's country.
    """

    key: str
    time_zone: str
    step: int
    start: Instant
    values: Vector
    issue_time: Instant
    covariates: Mapping[str, Vector] = field(default_factory=dict)
    ahead: Mapping[str, Vector] = field(default_factory=dict)
    filled: int = 0
    suspects: tuple[Suspect, ...] = ()
    confirmed: Times = field(default_factory=lambda: np.empty(0, "datetime64[ms]"))
    holidays: str = OF_THE_ZONE

    def __len__(self) -> int:
        return len(self.values)

    @property
    def interval(self) -> np.timedelta64:
        """Length of an interval."""
        return np.timedelta64(self.step * 1000, "ms")

    @property
    def end(self) -> Instant:
        """End of the last interval."""
        return self.start + len(self.values) * self.interval

    @property
    def times(self) -> Times:
        """Start of each interval, shape (n,)."""
        return self.start + np.arange(len(self.values)) * self.interval

    def at(self, times: Times) -> Vector:
        """Return the values of the intervals that start at `times`; NaN where none is known."""
        return self._pick(self.values, times)

    def covariate(self, name: str, times: Times) -> Vector:
        """Return a covariate's values, also of intervals to come; NaN where none is known."""
        known = self.covariates.get(name)
        return np.full(len(times), np.nan) if known is None else self._pick(known, times)

    def last(self, intervals: int) -> Past:
        """Return the same with only the newest `intervals` values (covariates ahead stay)."""
        return self.since(max(0, len(self.values) - intervals))

    def since(self, place: int) -> Past:
        """Return the same from the interval at a position on."""
        if place == 0:
            return self
        return replace(
            self,
            start=self.start + place * self.interval,
            values=self.values[place:],
            covariates={name: column[place:] for name, column in self.covariates.items()},
            ahead={name: column[place:] for name, column in self.ahead.items()},
        )

    def without_values(self) -> Past:
        """Return whose past it is and when it was asked for, without what takes memory."""
        return replace(self, values=np.empty(0), covariates={}, ahead={}, confirmed=self.confirmed[:0].copy())

    def _pick(self, column: Vector, times: Times) -> Vector:
        moments = np.asarray(times, "datetime64[ms]")
        after = moments.astype(np.int64) - self.start.astype(np.int64)
        place = np.where(np.isnat(moments), -1, after // (self.step * 1000))
        found = np.full(len(place), np.nan)
        inside = (place >= 0) & (place < len(column))
        found[inside] = column[place[inside]]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Listed:
    """Versions side by side: number of the interval, when each became known, value; of one interval oldest first."""

    numbers: NDArray[np.int64]
    known: NDArray[np.int64]
    values: Vector


@dataclass(frozen=True, slots=True, eq=False)
class _Confirmed:
    """Values of intervals in a row that were said to be real: number of the first, when that became known."""

    first: int
    known: int
    values: Vector  # NaN where there was none


@dataclass(slots=True)
class _Track:
    """One quantity on the grid: its newest values, and the versions of those that were not known at once."""

    values: Vector
    versions: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    _listed: _Listed | None = None

    def put(self, place: int, number: int, value: float, known: int, ordinary: int) -> bool:
        """Note a value at array position `place` of interval `number`; return whether anything changed."""
        old = self.values[place]
        if old == value and known >= ordinary and number not in self.versions:
            return False
        versions = self.versions.get(number)
        if versions is None:
            if np.isnan(old) and known == ordinary:
                self.values[place] = value
                return True
            versions = [] if np.isnan(old) else [(ordinary, float(old))]
            self.versions[number] = versions
        elif any(v == value and k <= known for k, v in versions[-1:]):
            return False
        self._listed = None
        insort(versions, (known, value), key=lambda version: version[0])
        self.values[place] = versions[-1][1]
        return True

    def known(self, first: int, last: int, base: int, available_at: int, ended: int) -> Vector:
        """Copy positions [first, last) as they were known at `available_at`.

        `base` is position 0's number, `ended` the number of the first interval that had not ended by then.
        """
        column = self.values[first:last].copy()
        column[max(0, ended - base - first) :] = np.nan
        self._read_versions(column, base + first, available_at)
        return column

    def known_ahead(self, first: int, last: int, base: int, available_at: int, grid: tuple[int, int]) -> Vector:
        """Copy positions [first, last) as each was known `AHEAD` before its interval began.

        `grid` is the length of an interval and where the first of the epoch begins [ms].
        """
        column = np.full(len(self.values[first:last]), np.nan)
        unit, phase = grid
        begins = self._list().numbers * unit + phase
        self._read_versions(column, base + first, np.minimum(begins - AHEAD, available_at))
        return column

    def _read_versions(self, column: Vector, start: int, until: NDArray[np.int64] | int) -> None:
        """Put the newest version known by `until` into a column whose position 0 is number `start`; NaN for none."""
        found = self._list()
        places = found.numbers - start
        inside = (places >= 0) & (places < len(column))
        column[places[inside]] = np.nan
        use = inside & (found.known <= until)
        column[places[use]] = found.values[use]  # of several of one place the last, the newest, stays

    def _list(self) -> _Listed:
        if self._listed is None:
            rows = [(number, known, value) for number, own in self.versions.items() for known, value in own]
            columns = zip(*rows, strict=True) if rows else ((), (), ())
            numbers, known, values = columns
            self._listed = _Listed(np.array(numbers, np.int64), np.array(known, np.int64), np.array(values, np.float64))
        return self._listed

    def forget_before(self, number: int) -> None:
        """Forget the versions of intervals before one."""
        self.versions = {n: v for n, v in self.versions.items() if n >= number}
        self._listed = None


class History:
    """Bounded record of one series.

    Parameters
    ----------
    key : str
    time_zone : str
        IANA name.
    step : int
        Length of an interval [s]. The first value says where on the clock intervals begin; all others follow it.
    most : int
        Intervals kept; the oldest are forgotten.
    holidays : str
        Whose public holidays it has while nothing else is said, see `Past`.
    """

    def __init__(
        self, key: str, time_zone: str, step: int, *, most: int = MOST_INTERVALS, holidays: str = OF_THE_ZONE
    ) -> None:
        self.key = key
        self.time_zone = time_zone
        self.step = step
        self._most = most
        self._ahead = intervals_ahead(step)
        self._unit = step * 1000  # ms
        self._phase: int | None = None  # ms after a multiple of the step: half hours in a zone of UTC+5:30
        self._base = 0  # number of the interval at position 0, counted from the epoch
        self._target = _Track(np.empty(0))
        self._covariates: dict[str, _Track] = {}
        self._confirmed: list[_Confirmed] = []
        self._holidays = [(BEGINNING, holidays)]  # and when each was said
        self._lock = threading.Lock()  # a server reads while its follower writes
        self._end = BEGINNING  # number after the newest interval with a value

    @property
    def kept(self) -> int:
        """How many intervals it keeps, those ahead too."""
        return len(self._target.values)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the covariates it keeps."""
        return tuple(self._covariates)

    @property
    def clock(self) -> Instant | None:
        """The event clock: when the newest interval with a value ended; None if there is none."""
        return None if self._end == BEGINNING else self._start_of(self._end)

    def known_until(self) -> Instant:
        """Return the event clock; HistoryInsufficient names the series if it has no value yet."""
        if self.clock is None:
            raise HistoryInsufficient.of("history", f"no value of {self.key}", "one or more")
        return self.clock

    @property
    def first(self) -> Instant | None:
        """Start of the oldest interval kept; None if there is none."""
        return None if self._end == BEGINNING else self._start_of(self._base)

    def add(
        self,
        starts: Times,
        values: Vector,
        known: Times | None = None,
        covariates: Mapping[str, Vector] | None = None,
    ) -> Times:
        """Note values of intervals.

        Parameters
        ----------
        starts : ndarray of datetime64[ms], shape (n,)
            Start of each interval, UTC, on the grid.
        values : ndarray of shape (n,)
            NaN is no value.
        known : ndarray of datetime64[ms], shape (n,), optional
            When each became known; NaT (and no array) means at the end of its interval. Nothing is known
            before its interval ended.
        covariates : mapping of str to ndarray of shape (n,), optional
            Known from `known` on, also before their interval; NaT means they were always known.

        Returns
        -------
        ndarray of datetime64[ms]
            Starts of the intervals whose value is new or another than before, in order.

        Raises
        ------
        PayloadInvalid
            A start is not on the grid.
        """
        moments = np.asarray(starts, "datetime64[ms]").astype(np.int64)
        if not len(moments):
            return moments.astype("datetime64[ms]")
        with self._lock:
            return self._add(moments, values, known, covariates or {})

    def _add(
        self, moments: NDArray[np.int64], values: Vector, known: Times | None, covariates: Mapping[str, Vector]
    ) -> Times:
        if self._phase is None and np.isnan(np.asarray(values, np.float64)).all():
            return np.empty(0, "datetime64[ms]")  # what is ahead of a series that has no value yet is not kept
        phase = int(moments[0] % self._unit) if self._phase is None else self._phase
        numbers, rest = np.divmod(moments - phase, self._unit)
        if rest.any():
            bad = np.datetime64(int(moments[np.flatnonzero(rest)[0]]), "ms")
            raise PayloadInvalid.of(
                "interval_start", f"{bad}Z", f"whole multiples of {self.step} s from the series' first"
            )
        self._phase = phase
        when = None if known is None else np.asarray(known, "datetime64[ms]")
        number = np.asarray(values, np.float64)
        changed = self._add_values(numbers, number, when)
        for name, column in covariates.items():
            self._add_covariate(name, numbers, np.asarray(column, np.float64), when)
        return (np.unique(changed) * self._unit + phase).astype("datetime64[ms]")

    @property
    def holidays(self) -> str:
        """Whose holidays it has by now, see `Past`."""
        return self._holidays[-1][1]

    def has_holidays(self, name: str, known: Instant | None = None) -> None:
        """Note whose holidays it has from a moment on; without one it always had them."""
        with self._lock:
            if name != self.holidays:
                at = BEGINNING if known is None else int(as_instant(known).astype(np.int64))
                insort(self._holidays, (at, name), key=lambda said: said[0])

    def confirm(self, starts: Times, until: Times, known: Times | None = None) -> Times:
        """Note that the values of some spans were real, as they are now.

        It is the value that is confirmed: one that comes for the same interval later is not, and where there is none,
        nothing is.

        Parameters
        ----------
        starts, until : ndarray of datetime64[ms], shape (n,)
            Begin and end of each span, UTC, on the grid.
        known : ndarray of datetime64[ms], shape (n,), optional
            When each was said; NaT (and no array) means that it was always known.

        Returns
        -------
        ndarray of datetime64[ms]
            Starts of the intervals whose value was not confirmed before, in order.

        Raises
        ------
        PayloadInvalid
            A span does not begin or end on the grid.
        """
        with self._lock:
            if self._phase is None:
                return np.empty(0, "datetime64[ms]")
            edges = np.array([starts, until], "datetime64[ms]").astype(np.int64) - self._phase
            numbers, rest = np.divmod(edges, self._unit)
            if rest.any():
                raise PayloadInvalid.of(
                    CONFIRMED, f"{until[rest.any(axis=0)][0]}Z", f"a span of whole intervals of {self.step} s"
                )
            when = [BEGINNING] * len(starts)
            if known is not None:
                always = np.isnat(known)
                when = np.where(always, BEGINNING, np.asarray(known, "datetime64[ms]").astype(np.int64)).tolist()
            found = [self._confirm(int(first), int(last), at) for first, last, at in zip(*numbers, when, strict=True)]
            new = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
            return (new * self._unit + self._phase).astype("datetime64[ms]")

    def _confirm(self, first: int, last: int, known: int) -> NDArray[np.int64]:
        """Numbers of the intervals in [first, last) whose value was not confirmed before."""
        first = max(first, self._base)
        values = self._target.values[first - self._base : max(0, last - self._base)].copy()
        values[self._is_confirmed(first, values, known)] = np.nan
        new = np.flatnonzero(~np.isnan(values))
        if len(new):
            begin, end = int(new[0]), int(new[-1]) + 1
            self._confirmed.append(_Confirmed(first + begin, known, values[begin:end].copy()))
        return first + new

    def _is_confirmed(self, first: int, values: Vector, until: int) -> NDArray[np.bool_]:
        """Which of some values, from the interval of a number on, were confirmed by then."""
        found = np.zeros(len(values), np.bool_)
        for one in self._confirmed:
            begin, end = max(first, one.first), min(first + len(values), one.first + len(one.values))
            if one.known <= until and begin < end:
                own = slice(begin - first, end - first)
                found[own] |= values[own] == one.values[begin - one.first : end - one.first]
        return found

    def _end_of(self, number: int) -> int:
        return (number + 1) * self._unit + (self._phase or 0)

    def off_grid(self, starts: Times) -> NDArray[np.bool_]:
        """Return True where an interval of this series cannot begin: no whole multiple of the step by the local
        clock, or not on the grid of the values there are.
        """
        moments = np.asarray(starts, "datetime64[ms]")
        off = (moments.astype(np.int64) + utc_offset(moments, self.time_zone)) % self._unit != 0
        if self._phase is not None:
            off |= (moments.astype(np.int64) - self._phase) % self._unit != 0
        result: NDArray[np.bool_] = off
        return result

    def growth(self, starts: Times) -> int:
        """Return how many intervals it would keep more than now, with what is from the first to the last of these."""
        numbers = np.asarray(starts, "datetime64[ms]").astype(np.int64) // self._unit
        oldest, newest = int(numbers.min()), int(numbers.max())
        length = len(self._target.values)
        if length == 0:
            return min(newest + 1 - oldest, self._most)
        more = max(0, self._base - oldest) + max(0, newest + 1 - self._base - length)
        return min(more, max(0, self._most + self._ahead - length))

    def _start_of(self, number: int) -> Instant:
        return np.datetime64(number * self._unit + (self._phase or 0), "ms")

    def _add_values(self, numbers: NDArray[np.int64], values: Vector, known: Times | None) -> NDArray[np.int64]:
        has = ~np.isnan(values)
        if not has.any():
            return np.empty(0, np.int64)
        newest = int(numbers[has].max())
        self._make_room(int(numbers[has].min()), newest, len(self._target.values) == 0)
        inside = has & (numbers >= self._base) & (numbers < self._base + len(self._target.values))
        places = numbers - self._base
        ordinary = (numbers + 1) * self._unit + (self._phase or 0)
        when = ordinary if known is None else np.where(np.isnat(known), ordinary, known.astype(np.int64))
        when = np.maximum(when, ordinary)
        self._end = max(self._end, newest + 1)
        plain = inside & (when == ordinary)
        if plain.all() and len(np.unique(places)) == len(places) and not self._target.versions:
            old = self._target.values[places]
            if np.isnan(old).all():  # what comes all day: new values, in time
                self._target.values[places] = values
                return numbers
        changed = [
            int(numbers[i])
            for i in np.flatnonzero(inside).tolist()
            if self._target.put(int(places[i]), int(numbers[i]), float(values[i]), int(when[i]), int(ordinary[i]))
        ]
        return np.array(changed, np.int64)

    def _add_covariate(self, name: str, numbers: NDArray[np.int64], values: Vector, known: Times | None) -> None:
        has = np.flatnonzero(~np.isnan(values) & (numbers < self._end + self._ahead))
        if not len(has):
            return
        ahead = int(numbers[has].max()) + 1 - self._base - len(self._target.values)
        if ahead > 0:
            self._grow(ahead)
        track = self._covariates.setdefault(name, _Track(np.full(len(self._target.values), np.nan)))
        for i in has.tolist():
            place = int(numbers[i]) - self._base
            if 0 <= place < len(track.values):
                at = BEGINNING if known is None or np.isnat(known[i]) else int(known[i].astype(np.int64))
                track.put(place, int(numbers[i]), float(values[i]), at, self._end_of(int(numbers[i])))

    def _make_room(self, oldest: int, newest: int, is_empty: bool) -> None:
        """Have positions for intervals from `oldest` to `newest`, as far as the bound allows."""
        if is_empty:
            self._base = max(oldest, newest + 1 - self._most)
            self._each(lambda _: np.full(newest + 1 - self._base, np.nan))
            return
        length = len(self._target.values)
        if newest >= self._base + length:
            self._grow(newest + 1 - self._base - length)
        if oldest < self._base and self._end != BEGINNING:
            room = self._most - (self._end - self._base)
            before = min(self._base - oldest, max(0, room))
            if before:
                self._each(lambda values: np.concatenate([np.full(before, np.nan), values]))
                self._base -= before

    def _grow(self, by: int) -> None:
        """Add positions at the end, and forget the oldest beyond the bound."""
        by = max(by, 86_400 // self.step)  # a day at a time: arrays are copied
        length = len(self._target.values)
        drop = max(0, length + by - self._most - self._ahead)
        if drop >= length:
            self._base += length + by - min(by, self._most)
            by = min(by, self._most)
            drop = length
        elif drop:
            self._base += drop
        self._each(lambda values: np.concatenate([values[drop:], np.full(by, np.nan)]))
        if drop:
            self._confirmed = [one for one in self._confirmed if one.first + len(one.values) > self._base]
        for track in (self._target, *self._covariates.values()):
            if drop and track.versions:
                track.forget_before(self._base)

    def _each(self, change: object) -> None:
        for track in (self._target, *self._covariates.values()):
            track.values = change(track.values)  # type: ignore[operator]

    def until(self, issue_time: Instant, available_at: Instant | None = None) -> Past:
        """Return what was known at `issue_time`: the one way to read.

        Parameters
        ----------
        issue_time : datetime64[ms]
            No interval that ends later is in the result.
        available_at : datetime64[ms], optional
            Values that became known by then count; `issue_time` itself if absent. Later than `issue_time` it
            gives what would have been known, had late data been in time: the basis of a correction.
        """
        with self._lock:
            return self._until(issue_time, available_at)

    def _until(self, issue_time: Instant, available_at: Instant | None) -> Past:
        issue = int(as_instant(issue_time).astype(np.int64))
        at = issue if available_at is None else int(as_instant(available_at).astype(np.int64))
        last = min(max(0, (issue - (self._phase or 0)) // self._unit - self._base), len(self._target.values))
        first = max(0, min(last, self._end - self._base) - self._most) if self._end != BEGINNING else 0
        ended = (at - (self._phase or 0)) // self._unit
        values = self._target.known(first, last, self._base, at, ended)
        known = np.flatnonzero(~np.isnan(values))
        skip, stop = (int(known[0]), int(known[-1]) + 1) if len(known) else (0, 0)
        first += skip
        covariates = {
            name: track.known(first, len(track.values), self._base, at, ended)
            for name, track in self._covariates.items()
        }
        ahead = {
            name: track.known_ahead(first, len(track.values), self._base, at, (self._unit, self._phase or 0))
            for name, track in self._covariates.items()
        }
        confirmed = np.flatnonzero(self._is_confirmed(self._base + first, values[skip:stop], at))
        return Past(
            self.key,
            self.time_zone,
            self.step,
            self._start_of(self._base + first),
            values[skip:stop],
            np.datetime64(issue, "ms"),
            covariates,
            ahead,
            holidays=[name for known, name in self._holidays if known <= at][-1],
            confirmed=self._start_of(self._base + first) + confirmed * np.timedelta64(self._unit, "ms"),
        )

    def measured(self, starts: Iterable[Instant]) -> dict[Instant, float]:
        """Return the newest values of intervals that have one: the truth that forecasts are scored with."""
        found = {}
        for start in starts:
            place = (int(as_instant(start).astype(np.int64)) - (self._phase or 0)) // self._unit - self._base
            if 0 <= place < len(self._target.values) and not np.isnan(self._target.values[place]):
                found[start] = float(self._target.values[place])
        return found
