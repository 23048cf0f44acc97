"""The histories of many series, fed row by row from a topic of readings. A worker and a server keep the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Columns, Rejection
from kappawatt.columns.schema import shorten
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Times
from kappawatt.forecasting.forecaster import UNNAMED, Forecaster
from kappawatt.forecasting.history import History
from kappawatt.forecasting.model import grid_of
from kappawatt.messages.keys import key_text

__all__ = ["CORRECTABLE", "Entry", "Histories", "Step"]

AHEAD_MOST = DAY  # a measurement of an interval that begins later than this after it arrived is a wrong clock
COVARIATES_AHEAD = 15 * DAY
CORRECTABLE = 4 * DAY  # forecasts issued so long ago are still corrected, so their history is kept
ROOM = 32 * 2**20  # bytes that one message may have all its series grow by; gaps between values take as much as values
A_SERIES = 2_500  # bytes of a new one beside its values
NUMBER = 8  # bytes of a value
INSTANT = np.timedelta64(1, "ms")
NOT_EARLY = (
    f"an interval that begins at most {AHEAD_MOST / HOUR:g} hours after its message arrives "
    f"({COVARIATES_AHEAD / DAY:g} days if it has no measurement)"
)
ROOM_SAID = (
    f"series that one message has grow by {ROOM // 2**20} MB in all, from the first interval to the last of each"
)


@dataclass(slots=True)
class Entry:
    """One series: its history, and whatever its keeper notes beside it."""

    history: History
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What one message did to one series.

    Parameters
    ----------
    before, after : datetime64[ms] or None
        The series' event clock before and after.
    changed : ndarray of datetime64[ms]
        Starts of the intervals whose value is new or another.
    available_at : datetime64[ms]
        When, by the event clock, late values of this message became known.
    """

    key: str
    entry: Entry
    before: np.datetime64 | None
    after: np.datetime64 | None
    changed: Times
    available_at: np.datetime64


class Histories:
    """Histories by series key.

    Parameters
    ----------
    forecaster : Forecaster
        Says which fields hold key, value and covariates, and how much history is kept.
    """

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster
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
                size = self._growth(name, entry, columns["interval_start"])
                if size > left:
                    raise PayloadInvalid.of("interval_start", f"{len(places):,} series with gaps", ROOM_SAID)
            except (PayloadInvalid, SettingInvalid) as error:
                for row in own.tolist():
                    yield Rejection.of(row, "out_of_range", error)
                continue
            left -= size
            self._entries[name] = entry
            refused = np.zeros(len(own), np.bool_)
            step = entry.history.step
            for mask, allowed in (
                (self._early(columns, arrived), NOT_EARLY),
                (entry.history.off_grid(columns["interval_start"]), f"whole multiples of {step} s by the local clock"),
            ):
                for place in np.flatnonzero(mask & ~refused).tolist():
                    start = f"{columns['interval_start'][place]}Z"
                    yield Rejection(int(own[place]), "out_of_range", "interval_start", start, allowed)
                refused |= mask
            if not refused.all():
                yield self._note(name, entry, {n: column[~refused] for n, column in columns.items()})

    def _early(self, columns: Columns, arrived: int) -> NDArray[np.bool_]:
        ahead = columns["interval_start"] - np.datetime64(arrived, "ms")
        is_measured = ~np.isnan(columns[self._forecaster.target])
        result: NDArray[np.bool_] = np.where(is_measured, ahead > AHEAD_MOST, ahead > COVARIATES_AHEAD)
        return result

    def _entry(self, name: str, columns: Columns) -> Entry:
        """The series' entry, or a new one; errors as in `grid_of`."""
        return self._entries.get(name) or Entry(self._new(name, columns))

    def _growth(self, name: str, entry: Entry, starts: Times) -> int:
        """Bytes that these intervals would have a series take more than now."""
        values = NUMBER * (1 + len(self._forecaster.covariates)) * entry.history.growth(starts)
        return values + (0 if name in self._entries else A_SERIES)

    def _note(self, name: str, entry: Entry, columns: Columns) -> Step:
        forecaster = self._forecaster
        history = entry.history
        before = history.clock
        starts = columns["interval_start"]
        interval = np.timedelta64(history.step * 1000, "ms")
        # A value of an interval the clock has passed is late: known from this moment on, not at its end.
        moment = starts.min() if before is None else before + INSTANT
        known = columns["available_at"].astype("datetime64[ms]")
        late = np.zeros(len(starts), np.bool_) if before is None else starts + interval <= before
        # Nothing that comes after the clock has passed it was known earlier, whatever available_at says.
        ahead = np.isnan(columns[forecaster.target])
        known = np.where(late | ahead, np.fmax(known, moment), known)
        known = np.where(np.isnat(known), starts + interval, known)
        covariates = {n: columns[n] for n in forecaster.covariates if n in columns}
        changed = history.add(starts, columns[forecaster.target], known, covariates)
        return Step(name, entry, before, history.clock, changed, moment)

    def _new(self, name: str, columns: Columns) -> History:
        time_zone, step = grid_of(columns, self._forecaster)
        kept = self._forecaster.depth + CORRECTABLE
        return History(name, time_zone, step, most=int(kept / np.timedelta64(step * 1000, "ms")))
