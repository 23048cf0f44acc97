"""Numbers that stand for a missing value: -9999, 99999, -1 and the like.

Nothing in a file says so. A number does that is written as such codes are, that comes again, and that is far from
everything else the series holds; a negative one far below a series that is never negative does so when it comes once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["codes_of_nothing"]

NINES = np.array(
    [sign * float(f"{'9' * whole}.{'9' * part}") for sign in (1, -1) for whole in range(2, 11) for part in range(4)]
)
LIMITS = np.array([-32768.0, 32767.0, 65535.0, -2147483648.0, 2147483647.0, 4294967295.0])  # of integers
CODES = np.concatenate([NINES, LIMITS])
COMES_AGAIN = 2  # times, of a code
MINUS_ONE = -1.0
COMES_OFTEN = 3  # times, of minus one, which may be a number like others
FEWEST = 10  # other values, which tell what is far
TAILS = (0.01, 0.99)
FAR = 0.5  # of the range between these tails: how far beyond it a code is
LEAST_WIDTH = 0.1  # of the largest value: that this range counts as, at least
ALONE = 0.25  # of this range: how far a code is from the nearest other value


def codes_of_nothing(values: NDArray[np.float64]) -> list[float]:
    """Return the numbers of a series that stand for a missing value.

    Parameters
    ----------
    values : ndarray of shape (n,)
        As the file has them, NaN where it has none.

    Examples
    --------
    >>> codes_of_nothing(np.concatenate([np.linspace(300.0, 500.0, 40), [-9999.0, -9999.0]]))
    [-9999.0]
    """
    known = values[np.isfinite(values)]
    if len(known) <= FEWEST:
        return []
    is_code = np.isin(known, CODES)
    is_one = known == MINUS_ONE
    is_asked = is_code | is_one if int(is_one.sum()) >= COMES_OFTEN else is_code
    if not is_asked.any():
        return []
    rest = known[~is_asked]
    if len(rest) <= FEWEST:
        return []
    least, most = np.quantile(rest, TAILS).tolist()
    width = max(most - least, LEAST_WIDTH * float(np.abs(rest).max()))
    is_positive = bool(rest.min() >= 0)
    told = []
    for value in np.unique(known[is_asked]).tolist() if width else ():
        often = 1 if value < 0 and is_positive else COMES_AGAIN
        is_far = value < least - FAR * width or value > most + FAR * width
        is_alone = bool(np.abs(rest - value).min() >= ALONE * width)
        if is_far and is_alone and int((known == value).sum()) >= often:
            told.append(value)
    return told
