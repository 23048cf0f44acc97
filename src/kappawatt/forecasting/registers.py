"""A register taken for consumption: a counter's readings only rise, what is consumed falls every day."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["never_falls"]

SHARE = 0.25  # of a day's intervals in which a register rises: at night, or with few digits, it may stand still


def never_falls(values: NDArray[np.float64], per_day: int) -> bool:
    """Return whether the last day of values only rises, as a register does and no household.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Of consecutive intervals, newest last; NaN where unknown.
    per_day : int
        Intervals of a day.

    Examples
    --------
    >>> never_falls(np.linspace(12_345.0, 12_352.0, 96), 96), never_falls(np.zeros(96), 96)
    (True, False)
    """
    day = values[-per_day:]
    day = day[np.isfinite(day)]
    if len(day) < max(per_day * 3 // 4, 2):
        return False
    steps = np.diff(day)
    return bool((steps >= 0).all() and (steps > 0).sum() >= SHARE * len(steps))
