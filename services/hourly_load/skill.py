"""Whether the seasonal naive has been closer than the model lately, on days that calibration forecasts again anyway."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.fan import Warned

from .wall_clock import HOURS, WallClock, cells_of_days, read_cells

__all__ = ["naive_was_closer"]

Matrix = NDArray[np.float64]

DAYS = 28  # looked at: a season of moods, and not of years
FEWEST = 14 * HOURS  # hours of them that must be known
WEEK = 7 * HOURS


def naive_was_closer(clock: WallClock, days: NDArray[np.int64], centre: Matrix, measured: Matrix) -> Warned | None:
    """Return what to warn of if the same hour of a week before was closer than the model; None if it was not.

    Parameters
    ----------
    clock : WallClock
    days : ndarray of int, shape (n_days,)
        In order.
    centre : ndarray of shape (n_days, 24)
        The model's answers of these days, logarithm of load.
    measured : ndarray of shape (n_days, 24)
        What came of them; NaN where it is not known at the issue time.
    """
    days, centre, measured = days[-DAYS:], centre[-DAYS:], measured[-DAYS:]
    naive = read_cells(clock.log_load, cells_of_days(days) - WEEK)
    known = np.isfinite(centre) & np.isfinite(measured) & np.isfinite(naive)
    if known.sum() < FEWEST:
        return None
    load = np.exp(measured[known])
    ours, theirs = (float(np.abs(np.exp(one[known]) - load).mean()) for one in (centre, naive))
    if ours <= theirs:
        return None
    return Warned(
        "naive_closer",
        f"over the last {DAYS} days the seasonal naive (the same hour a week before) was closer than the model: "
        f"mean absolute error {theirs:.4g} and {ours:.4g}",
    )
