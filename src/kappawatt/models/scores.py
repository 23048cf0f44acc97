"""Scores of predictions against measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "coverage",
    "crps",
    "mae",
    "mape",
    "mean_width",
    "pinball",
    "r2",
    "rmse",
    "score_interval",
    "smape",
]

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


def mape(measured: Vector, predicted: Vector) -> float:
    """Mean absolute percentage error [%]; NaN if a measurement is zero.

    Examples
    --------
    >>> mape(np.array([100.0, 200.0]), np.array([110.0, 190.0]))
    7.5
    """
    if not len(measured) or (measured == 0).any():
        return float("nan")
    return float(100 * np.mean(np.abs((predicted - measured) / measured)))


def smape(measured: Vector, predicted: Vector) -> float:
    """Symmetric mean absolute percentage error [%], 0 to 200; two zeros are no error.

    References
    ----------
    The form with |y| + |f| in the denominator and a factor of 2: S. Makridakis, M. Hibon, The M3-Competition,
    Int. J. Forecasting 16 (2000) 451-476.

    Examples
    --------
    >>> smape(np.array([100.0]), np.array([50.0])).__round__(2)
    66.67
    """
    size = np.abs(measured) + np.abs(predicted)
    return float(100 * np.mean(2 * np.abs(predicted - measured) / np.where(size == 0, 1.0, size)))


def pinball(measured: Vector, quantiles: NDArray[np.float64], levels: Sequence[float]) -> float:
    """Mean pinball loss over all quantiles, in the unit of the quantity.

    Parameters
    ----------
    measured : ndarray of shape (n,)
    quantiles : ndarray of shape (n, n_levels)
    levels : sequence of float

    References
    ----------
    R. Koenker, G. Bassett, Regression Quantiles, Econometrica 46 (1978) 33-50.

    Examples
    --------
    >>> pinball(np.array([1.0]), np.array([[0.0, 3.0]]), (0.1, 0.9))
    0.15
    """
    difference = measured[:, None] - quantiles
    level = np.asarray(levels)
    return float(np.mean(np.maximum(level * difference, (level - 1) * difference)))


def crps(measured: Vector, quantiles: NDArray[np.float64], levels: Sequence[float]) -> float:
    """Continuous ranked probability score, in the unit of the quantity: twice the mean pinball loss.

    It is the integral of the pinball loss over all levels, here the mean over evenly spaced ones.

    References
    ----------
    T. Gneiting, R. Ranjan, Comparing Density Forecasts Using Threshold- and Quantile-Weighted Scoring Rules,
    J. Business & Economic Statistics 29 (2011) 411-422, eq. 3.
    """
    return 2 * pinball(measured, quantiles, levels)


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
