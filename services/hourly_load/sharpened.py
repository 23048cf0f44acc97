"""A day's forecast, sharpened by what has been measured since it was due. A pure function of model and past.

The point forecast moves by what `newest_hours` says. Widths come, as always, from the forecast's own recent errors,
made again with the same knowledge: of a later day those at the same hour of issue; of today those with the same lead,
whatever the hour, since the next hour is as well known in the morning as in the evening.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import HistoryInsufficient
from kappawatt.forecasting.fan import Warned

from .calibration import Calibration, calibrate
from .newest_hours import DAYS, NOON, NewestHours, day_of_year, due_hour, residual_terms
from .wall_clock import HOURS, Cells, WallClock

__all__ = ["Base", "Sharpened", "is_sharpened", "sharpened"]

Matrix = NDArray[np.float64]

LEADS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 23))  # h, of today's hours that are calibrated together


@dataclass(frozen=True, slots=True)
class Base:
    """A member's forecasts of days, as they were due.

    Parameters
    ----------
    centre, spread : ndarray of shape (n_days, 24)
        Logarithm of the load, and what it is expected to be off.
    reference : ndarray of shape (n,)
    reference_lead : int
        See `calibration.calibrate`.
    warning : Warned, optional
        What a reader is told of them.
    """

    centre: Matrix
    spread: Matrix
    reference: Matrix
    reference_lead: int
    warning: Warned | None = None


@dataclass(frozen=True, slots=True)
class Sharpened:
    """A day's forecast, and the same of the days before that it was calibrated by.

    Parameters
    ----------
    quantiles : ndarray of shape (24, n_levels)
        [MW].
    days : ndarray of int, shape (n_days,)
        Those before, and the day itself.
    centre : ndarray of shape (n_days, 24)
        Logarithm of the load as forecast; of today's forecasts NaN for the hours that are past.
    measured : ndarray of shape (n_days - 1, 24)
        What came of the days before.
    """

    quantiles: Matrix
    days: Cells
    centre: Matrix
    measured: Matrix

    @property
    def off(self) -> float:
        """Mean absolute error of the days before, in the logarithm; infinite if none is known."""
        off = np.abs(self.centre[:-1] - self.measured)
        known = np.isfinite(off)
        return float(off[known].mean()) if known.any() else np.inf


def is_sharpened(day: int, origin: int) -> bool:
    """Return whether hours are known that a day's forecast did not know when it was due."""
    ahead, hour = day - origin // HOURS, origin % HOURS
    return 0 <= ahead < DAYS and hour != due_hour(hour, ahead)


def sharpened(
    newest: NewestHours,
    clock: WallClock,
    base: Callable[[int, Cells], Base],
    held_out: Callable[[Matrix, Cells], Matrix],
    calibration_days: int,
    day: int,
    origin: int,
) -> Sharpened:
    """Return the forecast of a day's hours when cells before `origin` are known.

    Parameters
    ----------
    newest : NewestHours
    clock : WallClock
    base : callable
        (lead [h], days) to the forecasts of those days as they were due at that lead.
    held_out : callable
        (residuals, days) to the residuals that calibration may use.
    calibration_days : int
    day, origin : int
        `is_sharpened` of them is true. Hours of today that are past are those of the forecast as it was due.

    Raises
    ------
    HistoryInsufficient
        The last week is not known.
    """
    ahead, hour = day - origin // HOURS, origin % HOURS
    due = due_hour(hour, ahead)
    days = np.arange(max(day - calibration_days, ahead), day + 1)
    issued = days - ahead
    date = day_of_year(clock.first + issued)
    today = base(0, issued)
    residuals = clock.load_before(issued, origin) - today.centre
    newer = residuals
    if due == NOON:
        newer = residuals - newest.step(0, NOON, residual_terms(residuals, 0, NOON, date))
    own = base(HOURS * ahead - due, days) if ahead else today
    centre = own.centre + newest.step(ahead, hour, residual_terms(newer, due, hour, date))
    spread = own.spread * newest.narrowing[ahead, hour]
    if np.isnan(centre[-1]).any():
        raise HistoryInsufficient.of("load", "no value in the last week", "a history of weeks")
    measured = clock.load_before(days[:-1], origin)
    if ahead:
        scaled = (measured - centre[:-1]) / spread[:-1]
        lead = HOURS * ahead - hour
        found = [calibrate(held_out(scaled, days[:-1]), lead, own.reference, own.reference_lead)] * HOURS
    else:
        found = _by_lead(newest, residuals[:-1], today, held_out, days[:-1], date[:-1], hour)
    quantiles = np.empty((HOURS, len(found[0].quantiles)))
    for at, calibration in enumerate(found):
        quantiles[at] = calibration.quantiles_around(centre[-1, [at]], spread[-1, [at]])
    if not ahead:
        centre[:, :hour] = np.nan
    return Sharpened(quantiles, days, centre, measured)


def _by_lead(
    newest: NewestHours,
    residuals: Matrix,
    today: Base,
    held_out: Callable[[Matrix, Cells], Matrix],
    days: Cells,
    date: Matrix,
    hour: int,
) -> list[Calibration]:
    """Calibration of each hour of today, by errors of the days before at the same lead, of all hours together."""
    scaled = np.full((len(days), HOURS, HOURS), np.nan)  # day, hour of issue, hour to come
    for issue in range(1, HOURS):
        left = residuals - newest.step(0, issue, residual_terms(residuals, 0, issue, date))
        scaled[:, issue] = left / (today.spread[:-1] * newest.narrowing[0, issue])
    issues, to_come = np.divmod(np.arange(HOURS * HOURS), HOURS)
    lead = np.where(issues > 0, to_come - issues + 1, 0)
    found: list[Calibration] = []
    for first, last in LEADS:
        if first > HOURS - hour:
            break
        pairs = (lead >= first) & (lead <= last)
        rows = np.ascontiguousarray(scaled.reshape(len(days), -1)[:, pairs])
        calibration = calibrate(held_out(rows, days), 0, today.reference, today.reference_lead)
        found += [calibration] * (min(last, HOURS - hour) - first + 1)
    return [found[0]] * hour + found
