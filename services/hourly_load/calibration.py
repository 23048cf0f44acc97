"""How wide tomorrow's quantiles are, from how far the last weeks' forecasts were off. A pure function.

Errors come in days that are wrong as a whole, and their size drifts with the weather, so that a fixed width holds 90 %
over years but not in each month. Three steps over the residuals of the last weeks, each with what was known then:

- the scale follows the size of recent errors (an exponentially weighted mean of its logarithm),
- the shape is the quantiles of the scaled residuals,
- the probability of a miss that tomorrow's interval aims at answers for the misses of the last weeks: adaptive
  conformal inference, with a memory of about seven weeks, and with the part of the newest day that is not yet known
  expected from its known hours. It is bounded, so that a bad week cannot make the interval useless.

References
----------
I. Gibbs, E. Candes, Adaptive conformal inference under distribution shift, NeurIPS 2021.
A. Angelopoulos, E. Candes, R. Tibshirani, Conformal PID control for time series prediction, NeurIPS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import HistoryInsufficient
from kappawatt.forecasting.fan import LEVELS, MEDIAN

from .wall_clock import HOURS

__all__ = ["CALIBRATION_DAYS", "Calibration", "calibrate"]

Matrix = NDArray[np.float64]

CALIBRATION_DAYS = 112  # that are forecast again: sixteen weeks
# Chosen on 2013 to 2015 of PJME, with AEP and DAYTON as a check: docs of the service say what each costs and brings.
TARGET = 0.1  # share of hours outside of the 90 % interval
GAIN = 0.3  # change of the aimed miss probability for a whole day of misses more than it should be
MEMORY = 0.98  # of that account, a day
LEAST_MISS, MOST_MISS = 0.02, 0.3
SCALE_POWER = 0.5
SCALE_MEMORY = 0.9  # a day
MEDIAN_SHARE = 0.5  # of the weeks' median residual that moves the point forecast; more helps midnight and harms noon
PERSISTENCE = 0.9  # of the newest known residual in the hours that follow
TAIL_POWER = 8  # how fast the adaptation fades from the 5 % and 95 % quantile towards the median
SMALLEST = 1e-9  # mean residual of a day: a series may repeat itself to the last digit
FEWEST_DAYS = 14  # known wholly; below it the width is that of training

LEVEL = np.array(LEVELS)
TAIL = (np.abs(LEVEL - 0.5) / 0.45) ** TAIL_POWER


@dataclass(frozen=True, slots=True)
class Calibration:
    """Quantiles of the scaled residual of the day to come.

    Parameters
    ----------
    scale : float
        What the predicted spread is multiplied with.
    quantiles : ndarray of shape (19,)
        At `LEVELS`, in units of the spread times `scale`.
    """

    scale: float
    quantiles: Matrix

    def quantiles_around(self, centre: Matrix, spread: Matrix) -> Matrix:
        """Return quantiles [MW], shape (n, 19), from the logarithm of load and its spread, of shape (n,)."""
        quantiles: Matrix = np.exp(centre[:, None] + self.scale * spread[:, None] * self.quantiles)
        return quantiles


def calibrate(residuals: Matrix, lead: int, reference: Matrix, reference_lead: int) -> Calibration:
    """Return the widths for the day after the last row.

    Parameters
    ----------
    residuals : ndarray of shape (n_days, n)
        Measured minus forecast over the predicted spread, of the days before the target day in order, each forecast
        with the same lead; NaN where not known at the issue time. At a lead of a part of a day, all 24 hours.
    lead : int
        Hours from an issue time to the start of its target day.
    reference : ndarray of shape (n,)
        Residuals that stand in, and weigh little, while there are few days.
    reference_lead : int
        The lead of these.

    Raises
    ------
    HistoryInsufficient
        There are few days, and at this lead the model is further off than the reference knows.
    """
    delay = -(-lead // HOURS)  # days before the target day that are not wholly known at its issue time
    known_hours = HOURS * delay - lead  # of the first of these
    whole = len(residuals) - delay
    size = _mean_size(residuals)
    days = np.flatnonzero(~np.isnan(size[: max(whole, 0)]))
    if len(days) < FEWEST_DAYS and lead >= reference_lead + HOURS:
        got = f"{lead} h from the last value to the day to forecast, and {len(days)} days that tell how far off that is"
        raise HistoryInsufficient.of("load", got, f"{FEWEST_DAYS} or more")
    if len(days) < FEWEST_DAYS:
        return Calibration(1.0, np.quantile(reference, LEVEL))
    scales = _scales(size, delay, float(np.nanmean(np.log(np.maximum(size[days], SMALLEST)))))
    scaled = residuals / scales[:-1, None]
    pool = np.concatenate([scaled[~np.isnan(scaled)], reference])
    shape = np.quantile(pool, LEVEL)
    shape -= (1 - MEDIAN_SHARE) * shape[MEDIAN]
    factors = np.sort(_ratio(pool, shape))
    return Calibration(float(scales[-1]), _recursion(scaled, shape, factors, delay, known_hours))


def _mean_size(residuals: Matrix) -> Matrix:
    """Mean absolute residual of each day; NaN where less than half of it is known."""
    known = ~np.isnan(residuals)
    count = known.sum(axis=1)
    total = np.where(known, np.abs(residuals), 0.0).sum(axis=1)
    size: Matrix = np.where(count >= max(1, residuals.shape[1] // 2), total / np.maximum(count, 1), np.nan)
    return size


def _scales(size: Matrix, delay: int, usual: float) -> Matrix:
    """Factor on the spread of each day and of the one after the last, from days that were wholly known."""
    scales = np.ones(len(size) + 1)
    recent = usual
    for day in range(len(scales)):
        newest = day - 1 - delay
        if newest >= 0 and size[newest] > 0:
            recent = SCALE_MEMORY * recent + (1 - SCALE_MEMORY) * np.log(size[newest])
        scales[day] = np.exp(SCALE_POWER * (recent - usual))
    return scales


def _recursion(scaled: Matrix, shape: Matrix, factors: Matrix, delay: int, known_hours: int) -> Matrix:
    """Go through the days as they were forecast and return the quantiles of the one after the last."""
    n = len(scaled)
    excess = np.zeros(n)  # share of misses above TARGET of each wholly known day
    quantiles = np.tile(shape, (n + 1, 1))
    account = 0.0
    for day in range(n + 1):
        newest = day - 1 - delay
        if newest >= 0:
            account = MEMORY * account + excess[newest]
        pending = 0.0
        if known_hours and day >= delay:
            pending = _expected_excess(scaled, quantiles[day - delay], day - delay, known_hours)
        aimed = min(max(TARGET - GAIN * (account + pending), LEAST_MISS), MOST_MISS)
        factor = factors[min(int((1 - aimed) * len(factors)), len(factors) - 1)]
        middle = shape[MEDIAN]
        quantiles[day] = np.maximum.accumulate(middle + (shape - middle) * factor**TAIL)
        if day < n:
            known = scaled[day][~np.isnan(scaled[day])]
            if len(known) >= max(1, scaled.shape[1] // 2):
                excess[day] = _missed(known, quantiles[day]) - TARGET
    last: Matrix = quantiles[n]
    return last


def _expected_excess(scaled: Matrix, quantiles: Matrix, day: int, known_hours: int) -> float:
    """Share of misses above TARGET to expect of a day of which only the first hours are known.

    The residual of its last known hour goes on as it used to on the days before.
    """
    known = scaled[day, :known_hours]
    if np.isnan(known).any():
        return 0.0
    seen = _missed(known, quantiles)
    before = scaled[:day]
    change = before[:, known_hours:] - PERSISTENCE * before[:, [known_hours - 1]]
    change = change[~np.isnan(change)]
    expected = TARGET if not len(change) else _missed(change + PERSISTENCE * known[-1], quantiles)
    share = known_hours / HOURS
    return share * seen + (1 - share) * expected - TARGET


def _missed(residuals: Matrix, quantiles: Matrix) -> float:
    return float(np.mean((residuals < quantiles[0]) | (residuals > quantiles[-1])))


def _ratio(residuals: Matrix, shape: Matrix) -> Matrix:
    """Distance from the median in units of the distance of the 5 % or 95 % quantile on that side."""
    middle = shape[MEDIAN]
    above, below = max(shape[-1] - middle, 1e-9), max(middle - shape[0], 1e-9)
    off = residuals - middle
    result: Matrix = np.where(off > 0, off / above, -off / below)
    return result
