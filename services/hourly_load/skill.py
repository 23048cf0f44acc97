"""The seasonal naive beside the model: which was closer lately, and leaning on the naive where it was.

The model is of zones it was fitted to; a series unlike all of them may repeat itself from week to week better than the
model forecasts it. Days that calibration forecasts again anyway tell. Where the naive was closer the answer is between
both, as the last weeks would have had it best; everywhere else it is the model's, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.fan import Warned

from .wall_clock import HOURS, Cells, WallClock, read_cells

__all__ = ["Leaning", "lean_on_naive", "share_of"]

Matrix = NDArray[np.float64]

DAYS = 28  # looked at: a season of moods, and not of years
FEWEST = 14 * HOURS  # hours of them that must be known
WEEK = 7 * HOURS


@dataclass(frozen=True, slots=True)
class Leaning:
    """Answers of days, as far as the model is to be relied on.

    Parameters
    ----------
    centre : ndarray of shape (n_days, 24)
        Logarithm of load; the model's own where it was closer than the naive.
    warning : Warned or None
        Says that the naive was closer.
    """

    centre: Matrix
    warning: Warned | None = None


def lean_on_naive(
    clock: WallClock, days: Cells, centre: Matrix, measured: Matrix, lead: int, *, may_lean: bool = True
) -> Leaning:
    """Compare the model with the same hour of a week before, or of the newest such week that was known.

    Parameters
    ----------
    clock : WallClock
    days : ndarray of int, shape (n_days,)
        In order, the one to be forecast last.
    centre : ndarray of shape (n_days, 24)
        The model's answers, logarithm of load.
    measured : ndarray of shape (n_days - 1, 24)
        What came of them; NaN where it is not known at the issue time.
    lead : int
        Hours from the issue time to the start of the target day.
    may_lean : bool
        Whether the answer may be another than the model's.
    """
    hours = np.arange(HOURS)
    weeks = (hours + max(lead, 0)) // WEEK + 1
    cells = days[:, None] * HOURS + hours - WEEK * weeks
    naive = read_cells(clock.log_load, cells)
    ours, theirs, came = centre[:-1][-DAYS:], naive[:-1][-DAYS:], measured[-DAYS:]
    known = np.isfinite(ours) & np.isfinite(theirs) & np.isfinite(came)
    if known.sum() < FEWEST:
        return Leaning(centre)
    load = np.exp(came[known])
    model_error, naive_error = (float(np.abs(np.exp(one[known]) - load).mean()) for one in (ours, theirs))
    if model_error <= naive_error:
        return Leaning(centre)
    words = (
        f"over the last {DAYS} days the seasonal naive (the same hour a week before) was closer than the model: "
        f"mean absolute error {naive_error:.4g} and {model_error:.4g}"
    )
    if may_lean:
        share = share_of(theirs[known] - ours[known], came[known] - ours[known])
        centre = np.where(np.isfinite(naive), (1 - share) * centre + share * naive, centre)
        words += f"; the answer is {100 * share:.0f} % the naive's"
    return Leaning(centre, Warned("naive_closer", words))


def share_of(move: Matrix, off: Matrix) -> float:
    """Return how much of a move would have been best, from 0 to 1: by least squares on what the answers were off.

    References
    ----------
    J. M. Bates, C. W. J. Granger, The combination of forecasts, Operational Research Quarterly 20 (1969) 451-468.
    """
    square = float((move**2).sum())
    return float(np.clip((move * off).sum() / square, 0.0, 1.0)) if square > 0 else 0.0
