"""A series on the clock of its people: one cell an hour of the local day, 24 of them every day.

Load follows the clock on the wall, so that lags count in its hours: a day before is the same hour yesterday, also over
a change of the clock. The repeated hour of autumn is one cell (its mean), the skipped one of spring takes the hour
before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import HOUR, Times, to_local
from kappawatt.forecasting.history import Past
from kappawatt.forecasting.holidays import OF_THE_ZONE

__all__ = ["HOURS", "STATION", "WallClock", "cells_of_days", "read_cells", "wall_clock"]

HOURS = 24  # cells of a day
STEP = 3600  # s
STATION = re.compile(r"temperature(_[0-9]+)?")

Cells = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WallClock:
    """Hours of local days.

    Parameters
    ----------
    time_zone : str
        IANA name.
    first : datetime64[D]
        The local day that cell 0 begins.
    log_load : ndarray of shape (n_cells,)
        Natural logarithm of the mean load [MW] of each hour; NaN where unknown or not positive.
    temperature : ndarray of shape (n_cells + ahead,) or None
        Air temperature [degC], as far as known; None if it is not known at all.
    covariates : tuple of str
        Names, in order.
    newest, ahead : ndarray of shape (n_cells + ahead, n_covariates)
        Each in its own unit: the newest that is known, and what was known twelve hours before each hour began.
    issue : int
        First cell that is not wholly known at the issue time.
    holidays : str
        Whose, as said of the series; empty are those of the time zone's country.
    """

    time_zone: str
    first: np.datetime64
    log_load: NDArray[np.float64]
    temperature: NDArray[np.float64] | None
    covariates: tuple[str, ...] = ()
    newest: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    ahead: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    issue: int = 0
    holidays: str = OF_THE_ZONE

    @property
    def stations(self) -> tuple[str, ...]:
        """Covariates that are air temperatures: `temperature`, `temperature_2`."""
        return tuple(name for name in self.covariates if STATION.fullmatch(name))

    def cells(self, times: Times) -> Cells:
        """Return the cell each instant lies in."""
        since = to_local(times, self.time_zone) - self.first.astype("datetime64[ms]")
        result: Cells = since // HOUR
        return result.astype(np.int64)

    def load_before(self, days: Cells, origin: int) -> NDArray[np.float64]:
        """Return the logarithm of load of each day, shape (n_days, 24), as far as it stands before a cell; else NaN."""
        cells = cells_of_days(days)
        return np.where(cells < origin, read_cells(self.log_load, cells), np.nan)

    def origins(self, issue_times: Times) -> Cells:
        """Return the first cell that is not wholly known at each issue time, that of the hour which runs then."""
        return self.cells(issue_times)


def wall_clock(past: Past) -> WallClock:
    """Return the hours of a series by the clock of its time zone.

    Raises
    ------
    PayloadInvalid
        The series is not hourly, or empty.
    """
    if past.step != STEP:
        raise PayloadInvalid.of("interval", f"{past.step} s", f"{STEP} s")
    if len(past) == 0:
        raise PayloadInvalid.of("load", "no value", "a history of weeks")
    columns: Mapping[str, NDArray[np.float64]] = past.covariates
    temperature = columns.get("temperature")
    names = tuple(sorted(columns))
    n = max([len(past), *(len(known.get(name, ())) for name in names for known in (columns, past.ahead))])
    local = to_local(past.start + np.arange(n) * past.interval, past.time_zone)
    first = local[0].astype("datetime64[D]")
    cell = ((local - first.astype("datetime64[ms]")) // HOUR).astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_load = np.where(past.values > 0, np.log(past.values), np.nan)
    issue = int((to_local(np.array([past.issue_time]), past.time_zone)[0] - first.astype("datetime64[ms]")) // HOUR)
    return WallClock(
        past.time_zone,
        first,
        _into_cells(cell[: len(past)], log_load),
        None if temperature is None else _into_cells(cell[: len(temperature)], temperature),
        names,
        _side_by_side(cell, [columns[name] for name in names]),
        _side_by_side(cell, [past.ahead.get(name, np.empty(0)) for name in names]),
        issue,
        past.holidays,
    )


def cells_of_days(days: Cells) -> Cells:
    """Return the cells of each day, shape (n_days, 24)."""
    cells: Cells = days[:, None] * HOURS + np.arange(HOURS)
    return cells


def read_cells(column: NDArray[np.float64], cells: Cells) -> NDArray[np.float64]:
    """Return a column at some cells; NaN outside of it."""
    inside = (cells >= 0) & (cells < len(column))
    found: NDArray[np.float64] = np.where(inside, column[np.where(inside, cells, 0)], np.nan)
    return found


def _side_by_side(cell: Cells, columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return columns by cells, shape (n_cells, n_columns); NaN where one has ended."""
    n = int(cell[-1]) + 1
    found = np.full((n, len(columns)), np.nan)
    for i, column in enumerate(columns):
        known = ~np.isnan(column)
        if known.any():
            own = _into_cells(cell[: len(column)][known], column[known])
            found[: len(own), i] = own
    return found


def _into_cells(cell: Cells, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the values of each cell; a skipped cell takes the one before it."""
    n = int(cell[-1]) + 1
    count = np.bincount(cell, minlength=n)
    found = np.full(n, np.nan)
    present = count > 0
    found[present] = np.bincount(cell, weights=values, minlength=n)[present] / count[present]
    skipped = np.flatnonzero(~present[int(cell[0]) :]) + int(cell[0])
    found[skipped] = found[skipped - 1]
    return found
