"""The histories of many series, fed row by row from a topic of readings. A worker and a server keep the same book."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.batch import Batch, Columns, Rejection
from kappawatt.calendar import DAY, HOUR, Times
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecaster import Forecaster, grid_of
from kappawatt.history import History

__all__ = ["Entry", "SeriesBook", "Step"]

AHEAD_MOST = DAY  # a measurement of an interval that begins later than this after it arrived is a wrong clock
CORRECTABLE = 4 * DAY  # forecasts issued so long ago are still corrected, so their history is kept
INSTANT = np.timedelta64(1, "ms")


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
    known_at : datetime64[ms]
        When, by the event clock, late values of this message became known.
    """

    key: str
    entry: Entry
    before: np.datetime64 | None
    after: np.datetime64 | None
    changed: Times
    known_at: np.datetime64


class SeriesBook:
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
        stands_in = message_key.decode("utf-8", "replace") if message_key else "unnamed"
        names = np.array([key or stands_in for key in keys], dtype=object)
        for name in dict.fromkeys(names.tolist()):
            own = rows if (names == name).all() else rows[names == name]
            columns = {n: column[own] for n, column in batch.columns.items()}
            early = self._early(columns, arrived)
            if early.any():
                yield from self._refuse_early(own[early], columns["interval_start"][early])
                columns = {n: column[~early] for n, column in columns.items()}
                if early.all():
                    continue
            try:
                yield self._note(name, columns)
            except (PayloadInvalid, SettingInvalid) as error:
                field, _, rest = str(error).partition(": ")
                yield Rejection(int(own[0]), "out_of_range", field, None, rest)

    def _early(self, columns: Columns, arrived: int) -> NDArray[np.bool_]:
        limit = np.datetime64(arrived, "ms") + AHEAD_MOST
        result: NDArray[np.bool_] = (columns["interval_start"] > limit) & ~np.isnan(columns[self._forecaster.target])
        return result

    def _refuse_early(self, rows: NDArray[np.intp], starts: Times) -> Iterator[Rejection]:
        allowed = f"an interval that begins at most {AHEAD_MOST / HOUR:g} hours after its message arrives"
        for row, start in zip(rows.tolist(), starts, strict=True):
            yield Rejection(row, "out_of_range", "interval_start", f"{start}Z", allowed)

    def _note(self, name: str, columns: Columns) -> Step:
        forecaster = self._forecaster
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = Entry(self._new(name, columns))
        history = entry.history
        before = history.clock
        starts = columns["interval_start"]
        interval = np.timedelta64(history.step * 1000, "ms")
        # A value of an interval the clock has passed is late: known from this moment on, not at its end.
        moment = starts.min() if before is None else before + INSTANT
        known = columns["available_at"].astype("datetime64[ms]")
        late = np.zeros(len(starts), np.bool_) if before is None else starts + interval <= before
        known = np.where(np.isnat(known) & late, moment, known)
        ahead = np.isnat(known) & np.isnan(columns[forecaster.target])
        known = np.where(ahead, moment, known)
        covariates = {n: columns[n] for n in forecaster.covariates if n in columns}
        changed = history.add(starts, columns[forecaster.target], known, covariates)
        return Step(name, entry, before, history.clock, changed, moment)

    def _new(self, name: str, columns: Columns) -> History:
        time_zone, step = grid_of(columns, self._forecaster)
        kept = self._forecaster.depth + CORRECTABLE
        return History(name, time_zone, step, most=int(kept / np.timedelta64(step * 1000, "ms")))
