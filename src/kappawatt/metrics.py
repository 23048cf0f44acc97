"""Scores of predictions against measurements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["coverage", "mae", "mean_width", "r2", "rmse", "score_interval"]

Vector = NDArray[np.float64]


def mae(measured: Vector, predicted: Vector) -> float:
    """Mean absolute error, in the unit of the quantity.

    Examples
    --------
    >>> mae(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    1.5
    """
    return float(np.mean(np.abs(predicted - measured)))


def rmse(measured: Vector, predicted: Vector) -> float:
    """Root mean square error, in the unit of the quantity.

    Examples
    --------
    >>> rmse(np.array([0.0, 0.0]), np.array([3.0, 4.0])) ** 2
    12.5
    """
    return float(np.sqrt(np.mean((predicted - measured) ** 2)))


def r2(measured: Vector, predicted: Vector) -> float:
    """Coefficient of determination: 1 - SS_residual / SS_total; NaN if the measurements do not vary."""
    total = float(np.sum((measured - measured.mean()) ** 2))
    return float("nan") if total == 0 else 1.0 - float(np.sum((measured - predicted) ** 2)) / total


def coverage(measured: Vector, lower: Vector, upper: Vector) -> float:
    """Share of measurements inside [lower, upper], 0 to 1."""
    return float(np.mean((measured >= lower) & (measured <= upper)))


def mean_width(lower: Vector, upper: Vector) -> float:
    """Mean width of the interval, in the unit of the quantity."""
    return float(np.mean(upper - lower))


def score_interval(measured: Vector, predicted: Vector, lower: Vector, upper: Vector) -> dict[str, float]:
    """Return n, mae, rmse, r2, coverage_90 and width_90 of predictions with a 90 % interval."""
    return {
        "n": len(measured),
        "mae": mae(measured, predicted),
        "rmse": rmse(measured, predicted),
        "r2": r2(measured, predicted),
        "coverage_90": coverage(measured, lower, upper),
        "width_90": mean_width(lower, upper),
    }
