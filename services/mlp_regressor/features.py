"""x -> the network's input. No IO, clock or state; training and serving both call it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["END", "FEATURE_NAMES", "features"]

FEATURE_NAMES = ("position",)
END = float(np.arctan(2.0))  # rad; where tan x = 2, so that the training range holds two whole oscillations


def features(columns: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the position of each x in the training range, from -1 at x = 0 to 1 at x = `END`.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n,)
        `x` [rad]; other columns are ignored.

    Returns
    -------
    ndarray of shape (n, 1)

    Examples
    --------
    >>> features({"x": np.array([0.0, END])})
    array([[-1.],
           [ 1.]])
    """
    position: NDArray[np.float64] = 2.0 * columns["x"][:, np.newaxis] / END - 1.0
    return position
