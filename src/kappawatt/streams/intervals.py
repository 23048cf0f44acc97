"""The rule of intervals: what the rows of one body say and show of how long they are, and where they begin.

Bodies hold very many series, so what is usual (one distance between all rows) is found for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.schema import shorten
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import zone_names
from kappawatt.forecasting.grid import length_of, listed, off_clock
from kappawatt.streams.series import INTERVAL_SECONDS, INTERVAL_START, TIME_ZONE
from kappawatt.streams.stream import Stream

__all__ = ["is_on_the_grid"]

UNKNOWN = 0  # length of a series whose rows neither say nor show it: its other rows do
REFUSED = -1
FEW = 4  # rows: fewer show no second length
Integers = NDArray[np.int64]


def is_on_the_grid(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """Rows of a series say or show one length that the stream knows, and begin on multiples of it by their clock."""
    rows = np.flatnonzero(batch.valid)
    if INTERVAL_SECONDS in batch.columns:
        given = batch.columns[INTERVAL_SECONDS]
        is_wrong = batch.valid & ~np.isnan(given) & ~np.isin(given, stream.steps)
        for row in np.flatnonzero(is_wrong).tolist():
            yield Rejection(row, "out_of_range", INTERVAL_SECONDS, float(given[row]), listed(stream.steps))
        rows = rows[~is_wrong[rows]]
    if not len(rows):
        return
    body = _Body(stream, batch, rows, key)
    yield from body.judged()
    yield from body.off_grid()


class _Body:
    """Rows of a batch, series after series, in each by time."""

    def __init__(self, stream: Stream, batch: Batch, rows: NDArray[np.intp], key: str) -> None:
        self._stream = stream
        starts = batch.columns[INTERVAL_START.name].astype("datetime64[ms]")
        codes = np.zeros(len(rows), np.int64) if key or not stream.names_key else _codes(batch, stream, rows)
        order = np.lexsort((starts[rows].astype(np.int64), codes))
        self._rows = rows[order]
        self._starts = starts[self._rows]
        codes = codes[order]
        self._first = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))  # row of each series
        self._counts = np.diff(np.append(self._first, len(rows)))
        self._given = _column(batch, INTERVAL_SECONDS, self._rows)
        values = batch.columns[stream.target][self._rows]
        self._is_measured = ~np.isnan(values)
        self._lengths = np.full(len(self._first), UNKNOWN)  # of each series [s]
        self._zones, self._zone_of = self._time_zones(batch)

    def _time_zones(self, batch: Batch) -> tuple[list[str | None], Integers]:
        """Names of zones, and the place of each series' own among them; the first is that of series that name none."""
        names: list[str | None] = [self._stream.time_zone or None]
        places: dict[str, int] = {}
        found = np.zeros(len(self._rows), np.int64)
        for row, name in enumerate(batch.columns[TIME_ZONE.name][self._rows].tolist()):
            if name is not None and name in zone_names():
                if name not in places:
                    places[name] = len(names)
                    names.append(name)
                found[row] = places[name]
        most = np.maximum.reduceat(found, self._first)
        least = np.minimum.reduceat(np.where(found > 0, found, len(names)), self._first)
        several = (most > 0) & (least != most)
        for series in np.flatnonzero(several).tolist():  # the first that is named counts, as in a history
            own = self._slice(series)
            at = np.flatnonzero(found[own])
            most[series] = found[own][at[np.argmin(self._rows[own][at])]]
        return names, most

    def _slice(self, series: int) -> slice:
        first = int(self._first[series])
        return slice(first, first + int(self._counts[series]))

    def judged(self) -> Iterator[Rejection]:
        """Find the length of each series, and yield the rows of those that are none, one after another."""
        said_least = np.fmin.reduceat(self._given, self._first)
        said_most = np.fmax.reduceat(self._given, self._first)
        says = ~np.isnan(said_least)
        gaps = np.diff(self._starts.astype(np.int64), prepend=0)
        gaps[self._first] = 0
        most = np.maximum.reduceat(gaps, self._first)
        least = np.minimum.reduceat(np.where(gaps > 0, gaps, np.iinfo(np.int64).max), self._first)
        is_single = most == 0
        is_even = (most == least) & np.logical_and.reduceat(self._is_measured, self._first)
        is_known = is_even & np.isin(most, np.array(self._stream.steps) * 1000)
        is_far = is_even & (most > max(self._stream.steps) * 1000) & (self._counts < FEW)
        said = np.where(says, said_most, 0).astype(np.int64)
        self._lengths = np.where(says, said, np.where(is_known, most // 1000, UNKNOWN))
        agrees = (said_least == said_most) & (
            is_single | ((said * 1000 == most) & (least == most)) | (self._counts < FEW)
        )
        is_plain = np.where(says, agrees, is_single | is_known | is_far)
        for series in np.flatnonzero(~is_plain).tolist():
            own = self._slice(series)
            try:
                length, _ = length_of(self._starts[own], self._given[own], self._is_measured[own], self._stream.steps)
                self._lengths[series] = UNKNOWN if length is None else length
            except PayloadInvalid as error:
                self._lengths[series] = REFUSED
                for row in self._rows[own].tolist():
                    yield Rejection.of(row, "out_of_range", error)

    def off_grid(self) -> Iterator[Rejection]:
        """Yield rows that no interval of their series can begin with, once all are `judged`."""
        finest = min(self._stream.steps)
        per_row = np.repeat(self._lengths, self._counts)
        zone = np.repeat(self._zone_of, self._counts)
        step = np.where(per_row == UNKNOWN, finest, per_row)
        for place, name in enumerate(self._zones):
            for length in np.unique(step[zone == place]).tolist():
                if length == REFUSED:
                    continue
                own = np.flatnonzero((zone == place) & (step == length))
                off = off_clock(self._starts[own], length, name)
                yield from self._refused(own[off], length, name, is_named=place > 0)

    def _refused(self, own: NDArray[np.intp], length: int, zone: str | None, *, is_named: bool) -> Iterator[Rejection]:
        clock = "by the local clock" if zone is None else f"by the clock of {zone}"
        if zone is not None and not is_named:
            clock += f", as rows without {TIME_ZONE.name} are meant"
        for place in own.tolist():
            got = shorten(self._starts[place])
            allowed = f"a whole multiple of {length} s {clock}"
            yield Rejection(int(self._rows[place]), "out_of_range", INTERVAL_START.name, got, allowed)


def _codes(batch: Batch, stream: Stream, rows: NDArray[np.intp]) -> Integers:
    """Tell series by number."""
    known: dict[Any, int] = {}
    names = batch.columns[stream.key.name][rows].tolist()
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def _column(batch: Batch, name: str, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    column = batch.columns.get(name)
    return np.full(len(rows), np.nan) if column is None else np.asarray(column[rows], np.float64)
