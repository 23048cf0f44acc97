"""Rows of one interval that come more than once: which counts, and what contradicts it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import Times

__all__ = ["are_too_many", "last_of_each"]

MOST_SHARE = 0.01  # of rows that another row contradicts: more are two series, or a file that was put together wrongly
FEW = 5  # such rows may be corrections in any file, however short


def last_of_each(
    starts: Times, values: NDArray[np.float64], published: Times
) -> tuple[NDArray[np.intp], list[tuple[int, int]]]:
    """Return which row of each interval and publication counts: the last one that has a value.

    Parameters
    ----------
    starts, published : ndarray of datetime64[ms], shape (n,)
        In the file's order; NaT where nothing says when a row was published.
    values : ndarray of shape (n,)

    Returns
    -------
    chosen : ndarray of int
        Positions of the rows that count, in order of time and publication.
    contradicting : list of (int, int)
        Positions of a row with another value, and of the one that counts.
    """
    known = published.astype(np.int64)  # NaT is before all others
    order = np.lexsort((known, starts.astype(np.int64)))
    is_last = np.ones(len(order), dtype=np.bool_)
    before, after = order[:-1], order[1:]
    is_last[:-1] = (starts[after] != starts[before]) | (known[after] != known[before])
    chosen: NDArray[np.intp] = order[is_last]
    contradicting: list[tuple[int, int]] = []
    if len(chosen) == len(order):
        return chosen, contradicting
    group = np.cumsum(np.concatenate([[False], is_last[:-1]]))
    for place in np.flatnonzero(~is_last).tolist():
        earlier, last = int(order[place]), int(chosen[group[place]])
        if np.isnan(values[last]) and not np.isnan(values[earlier]):
            chosen[group[place]] = earlier
        elif values[earlier] != values[last] and not np.isnan(values[earlier]):
            contradicting.append((earlier, last))
    return chosen, contradicting


def are_too_many(contradicting: int, rows: int) -> bool:
    """Return whether rows that contradict others are no corrections any more."""
    return contradicting > FEW and contradicting > MOST_SHARE * rows
