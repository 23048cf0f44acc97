"""Where a model was trained, and which rows lie outside of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Columns

__all__ = ["Limits"]


class Limits:
    """Smallest and largest value of each request field in training.

    Parameters
    ----------
    training_range : mapping of str to (float, float)
        Of the artifact's manifest.

    Examples
    --------
    >>> Limits({"x": (0.0, 1.0)}).exceeded({"x": np.array([0.0, 0.5, 1.5])})
    array([False, False,  True])
    """

    def __init__(self, training_range: Mapping[str, tuple[float, float]]) -> None:
        self._names = tuple(training_range)
        self._pairs = tuple(training_range.values())
        ranges = np.array(list(training_range.values()), dtype=np.float64).reshape(-1, 2)
        self._low, self._high = ranges.T[:, :, np.newaxis]

    def exceeded(self, columns: Columns) -> NDArray[np.bool_]:
        """Return True in rows where a field lies outside of its range in training; such answers are extrapolated."""
        if len(columns[self._names[0]]) == 1:  # plain comparisons: a tenth of NumPy's calls
            row = [columns[name].item() for name in self._names]
            return np.array(
                [not all(low <= value <= high for value, (low, high) in zip(row, self._pairs, strict=True))]
            )
        values = np.array([columns[name] for name in self._names])
        return np.asarray(((values < self._low) | (values > self._high)).any(axis=0))
