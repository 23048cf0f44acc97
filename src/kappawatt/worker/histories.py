"""The histories of many series, fed row by row from a topic of readings. A worker and a server keep the same ones.

A series keeps the length of interval that its rows said or showed first: what contradicts it is refused, and what
begins to go on in shorter intervals as a whole, since the one row in four that fits would pass for an hour. Only within
the first day of a series whose rows do not say their length may it turn out to be another than was supposed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Columns, Rejection
from kappawatt.columns.schema import shorten
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.calendar import DAY, Times
from kappawatt.forecasting.forecaster import UNNAMED, Forecaster
from kappawatt.forecasting.grid import (
    COARSER,
    CONFIRMABLE,
    CONFIRMED,
    FINER,
    NOT_EARLY,
    is_no_span,
    length_of,
    shown_most,
    spaced_otherwise,
    too_early,
    usual_or_fitting,
)
from kappawatt.forecasting.history import History
from kappawatt.forecasting.holidays import HOLIDAYS, OF_THE_ZONE, holidays_named
from kappawatt.forecasting.model import known_from, zone_of
from kappawatt.messages.keys import key_text

__all__ = ["CORRECTABLE", "NO_SETTING", "Entry", "Histories", "Step"]

CORRECTABLE = 4 * DAY  # forecasts issued so long ago are still corrected, so their history is kept
NO_SETTING: Mapping[str | None, str] = {}
ROOM = 32 * 2**20  # bytes that one message may have all its series grow by; gaps between values take as much as values
A_SERIES = 2_500  # bytes of a new one beside its values
NUMBER = 8  # bytes of a value
MOST_NOTED = 300  # messages of a series' first day; of the shortest intervals there are 288
INSTANT = np.timedelta64(1, "ms")
ROOM_SAID = (
    f"series that one message has grow by {ROOM // 2**20} MB in all, from the first interval to the last of each"
)


@dataclass(slots=True)
class _Young:
    """What is kept of a series within its first day, while its rows do not say how long their intervals are.

    Parameters
    ----------
    starts : ndarray of datetime64[ms]
        Of everything measured, also of what was refused for being beside the grid.
    noted : list
        Columns of the rows that the history was made of, message by message.
    """

    starts: Times = field(default_factory=lambda: np.empty(0, "datetime64[ms]"))
    noted: list[Columns] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """One series: its history, and whatever its keeper notes beside it.

    Parameters
    ----------
    young : _Young or None
        None once the length of its intervals stands.
    recent : list of int
        Starts of the intervals that were measured last [ms], refused ones too: rows of a shorter length show so even
        if they come one by one.
    """

    history: History
    notes: dict[str, Any] = field(default_factory=dict)
    young: _Young | None = None
    recent: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """What one message did to one series.

    Parameters
    ----------
    before, after : datetime64[ms] or None
        The series' event clock before and after.
    changed : ndarray of datetime64[ms]
        Starts of the intervals whose value is new or another.
    confirmed : ndarray of datetime64[ms]
        Starts of the intervals whose value was said to be real, and was not before.
    available_at : datetime64[ms]
        When, by the event clock, late values of this message became known.
    """

    key: str
    entry: Entry
    before: np.datetime64 | None
    after: np.datetime64 | None
    changed: Times
    confirmed: Times
    available_at: np.datetime64


class Histories:
    """Histories by series key.

    Parameters
    ----------
    forecaster : Forecaster
        Says which fields hold key, value and covariates, and how much history is kept.
    holidays : mapping of str or None to str
        Whose holidays a series has whose rows do not say, by key; those of all others by None.
    """

    def __init__(self, forecaster: Forecaster, holidays: Mapping[str | None, str] = NO_SETTING) -> None:
        self._forecaster = forecaster
        self._holidays = holidays
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def keys(self) -> list[str]:
        """Return the names of all series."""
        return sorted(self._entries)

    def history(self, key: str) -> History | None:
        """Return a series' history, None if there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.history

    def steps(
        self, message_key: bytes | None, batch: Batch, rows: NDArray[np.intp], arrived: int
    ) -> Iterator[Step | Rejection]:
        """Note the valid rows of one message, series by series, and tell what each did.

        Parameters
        ----------
        rows : ndarray of int
            Positions in `batch` of the message's valid rows.
        arrived : int
            Timestamp of the message [ms].
        """
        keys = batch.columns[self._forecaster.key][rows]
        own_key = key_text(message_key) if message_key else None
        places: dict[str, list[int]] = {}
        for place, key in enumerate(keys.tolist()):
            if own_key is not None and key is not None and key != own_key and key_text(key.encode()) != own_key:
                allowed = f"{shorten(own_key)!r}, which is the message's key"
                yield Rejection(int(rows[place]), "out_of_range", self._forecaster.key, shorten(key), allowed)
                continue
            places.setdefault(own_key or key or UNNAMED, []).append(place)
        left = ROOM
        for name, own_places in places.items():
            own = rows[own_places]
            columns = {n: column[own] for n, column in batch.columns.items()}
            try:
                entry = self._entry(name, columns)
                size = self._growth(name, entry, columns)
                if size > left:
                    raise PayloadInvalid.of("interval_start", f"{len(places):,} series with gaps", ROOM_SAID)
            except (PayloadInvalid, SettingInvalid) as error:
                for row in own.tolist():
                    yield Rejection.of(row, "out_of_range", error)
                continue
            left -= size
            self._entries[name] = entry
            refused = np.zeros(len(own), np.bool_)
            step, early = entry.history.step, self._early(columns, arrived)
            on_the_grid = f"whole multiples of {step} s by the local clock ({entry.history.time_zone})"
            if entry.young is not None:
                self._see(entry.young, columns, early)
            for mask, allowed in (
                (early, NOT_EARLY),
                (entry.history.off_grid(columns["interval_start"]), on_the_grid),
            ):
                for place in np.flatnonzero(mask & ~refused).tolist():
                    start = f"{columns['interval_start'][place]}Z"
                    yield Rejection(int(own[place]), "out_of_range", "interval_start", start, allowed)
                refused |= mask
            no_span = _no_span(columns, step) & ~refused
            for place in np.flatnonzero(no_span).tolist():
                until = f"{columns[CONFIRMED][place]}Z"
                yield Rejection(int(own[place]), "out_of_range", CONFIRMED, until, CONFIRMABLE.format(step))
            refused |= no_span
            for place, why in _unknown_holidays(columns):
                if not refused[place]:
                    yield Rejection(int(own[place]), "out_of_range", HOLIDAYS, shorten(columns[HOLIDAYS][place]), why)
                refused[place] = True
            if not refused.all():
                yield self._note(name, entry, {n: column[~refused] for n, column in columns.items()})

    def _early(self, columns: Columns, arrived: int) -> NDArray[np.bool_]:
        is_measured = ~np.isnan(columns[self._forecaster.target])
        return too_early(columns["interval_start"], is_measured, np.datetime64(arrived, "ms"))

    def _entry(self, name: str, columns: Columns) -> Entry:
        """The series' entry, or a new one.

        Raises
        ------
        PayloadInvalid, SettingInvalid
            The rows say or show a length of interval that is not the series', or name no time zone.
        """
        forecaster = self._forecaster
        starts, is_measured = columns["interval_start"], ~np.isnan(columns[forecaster.target])
        length, is_said = length_of(starts, columns.get("interval_seconds"), is_measured, forecaster.steps)
        known = self._entries.get(name)
        if known is None or (known.young is not None and known.history.clock is None):
            zone = zone_of(columns, forecaster)
            telling = starts[is_measured] if is_measured.any() else starts
            supposed = length or usual_or_fitting(telling, forecaster.steps, forecaster.supposed_step, zone)
            return Entry(self._new(name, zone, supposed), young=None if is_said else _Young())
        if known.young is not None:
            return self._grown(name, known, columns, length if is_said else None)
        self._require_same(known, starts[is_measured], length if is_said else None)
        return known

    def _require_same(self, entry: Entry, measured: Times, said: int | None) -> None:
        """Raise PayloadInvalid if rows are of another length than the series, whose length stands."""
        step = entry.history.step
        if said not in (None, step):
            allowed = f"{step}, which the series has (of another length it is another series, with a name of its own)"
            raise PayloadInvalid.of("interval_seconds", f"{said}", allowed)
        if not len(measured):
            return
        moments = measured.astype(np.int64)
        starts = np.unique(moments).tolist() if len(moments) > 1 else moments.tolist()
        together = starts
        if not entry.recent or starts[0] > entry.recent[-1]:
            together = entry.recent + starts
            entry.recent = together[-FINER:]
        if len(together) <= FINER:
            return
        if len(together) <= COARSER and all(b - a >= step * 1000 for a, b in pairwise(together)):
            return  # what comes all day
        other = spaced_otherwise(np.array(together, "datetime64[ms]"), step, self._forecaster.steps)
        if other is not None:
            allowed = f"{step} s, the length of the series' intervals"
            raise PayloadInvalid.of("interval_start", f"rows {other:g} s apart", allowed)

    def _grown(self, name: str, entry: Entry, columns: Columns, said: int | None) -> Entry:
        """The entry of a series within its first day, made again if its rows say or show another length by now."""
        young = entry.young
        assert young is not None
        forecaster, history = self._forecaster, entry.history
        measured = columns["interval_start"][~np.isnan(columns[forecaster.target])]
        starts = np.unique(np.concatenate([young.starts, measured]))
        length = said or shown_most(starts, forecaster.steps)
        if length is None:
            length = usual_or_fitting(starts, forecaster.steps, forecaster.supposed_step, history.time_zone)
        if length == history.step:
            if said is not None:
                entry.young = None
            return entry
        again = Entry(self._new(name, history.time_zone, length), entry.notes)
        for noted in young.noted:
            fits = ~again.history.off_grid(noted["interval_start"]) & ~_no_span(noted, length)
            if fits.any():
                self._note(name, again, {n: column[fits] for n, column in noted.items()})
        if said is None:
            again.young = young
        return again

    def _growth(self, name: str, entry: Entry, columns: Columns) -> int:
        """Bytes that these rows would have a series take more than now."""
        covariates, history = self._forecaster.covariates_in(columns), entry.history
        kept = set(history.covariates)
        new = len(set(covariates) - kept)
        tracks = 1 + max(len(self._forecaster.covariates), len(kept) + new)
        more = history.growth(columns["interval_start"])
        values = NUMBER * (tracks * more + new * history.kept)
        return values + (0 if name in self._entries else A_SERIES)

    def _note(self, name: str, entry: Entry, columns: Columns) -> Step:
        forecaster = self._forecaster
        history = entry.history
        before = history.clock
        starts = columns["interval_start"]
        interval = np.timedelta64(history.step * 1000, "ms")
        # A value of an interval the clock has passed is late: known from this moment on, not at its end.
        moment = starts.min() if before is None else before + INSTANT
        known = np.asarray(known_from(columns), "datetime64[ms]")
        late = np.zeros(len(starts), np.bool_) if before is None else starts + interval <= before
        # Nothing that comes after the clock has passed it was known earlier, whatever available_at says.
        ahead = np.isnan(columns[forecaster.target])
        known = np.where(late | ahead, np.fmax(known, moment), known)
        known = np.where(np.isnat(known), starts + interval, known)
        covariates = {n: columns[n] for n in forecaster.covariates_in(columns)}
        self._grow_up(entry, columns)
        for name in dict.fromkeys(name for name in columns.get(HOLIDAYS, ()) if name is not None):
            history.has_holidays(name, None if before is None else moment)
        changed = history.add(starts, columns[forecaster.target], known, covariates)
        confirmed = changed[:0]
        if CONFIRMED in columns and history.clock is not None:
            spans = np.flatnonzero(~np.isnat(columns[CONFIRMED]))
            confirmed = history.confirm(starts[spans], columns[CONFIRMED][spans], known[spans])
        return Step(name, entry, before, history.clock, changed, confirmed, moment)

    def _see(self, young: _Young, columns: Columns, early: NDArray[np.bool_]) -> None:
        """Keep where a young series' intervals begin, whatever of them fits by now."""
        is_measured = ~np.isnan(columns[self._forecaster.target])
        young.starts = np.unique(np.concatenate([young.starts, columns["interval_start"][is_measured & ~early]]))

    def _grow_up(self, entry: Entry, columns: Columns) -> None:
        """Keep rows of a series' first day; at the end of it the length of its intervals stands."""
        young = entry.young
        if young is None:
            return
        young.noted.append(columns)
        if len(young.noted) > MOST_NOTED or (len(young.starts) and young.starts[-1] - young.starts[0] >= DAY):
            entry.young = None

    def _new(self, name: str, time_zone: str, step: int) -> History:
        kept = self._forecaster.depth + CORRECTABLE
        holidays = self._holidays.get(name, self._holidays.get(None, OF_THE_ZONE))
        most = int(kept / np.timedelta64(step * 1000, "ms"))
        return History(name, time_zone, step, most=most, holidays=holidays)


def _no_span(columns: Columns, step: int) -> NDArray[np.bool_]:
    """Which rows confirm something else than a span of whole intervals."""
    until = columns.get(CONFIRMED)
    starts = columns["interval_start"]
    return np.zeros(len(starts), np.bool_) if until is None else is_no_span(starts, until, step)


def _unknown_holidays(columns: Columns) -> Iterator[tuple[int, str]]:
    """Rows that name holidays which nobody knows, and what is allowed."""
    for place, name in enumerate(columns.get(HOLIDAYS, ())):
        if name is None:
            continue
        try:
            holidays_named(name)
        except SettingInvalid as error:
            yield place, error.allowed
