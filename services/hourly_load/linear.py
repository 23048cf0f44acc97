"""Linear regression hour by hour, on terms made from the features. Plain numpy, no BLAS in serving.

A row's answer has the same bits alone or among thousands: each sum runs over one row's own terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from .features import FEATURE_NAMES
from .wall_clock import HOURS

__all__ = ["HourlyRegression", "fit_hourly", "linear_terms"]

Matrix = NDArray[np.float64]

POSITION = {name: i for i, name in enumerate(FEATURE_NAMES)}
# Not linear in load: what each hour's own regression or the terms below stand for.
NOT_LINEAR = {
    "hour",
    "weekday",
    "lead_time",
    "issue_hour",
    "solar_elevation",
    "noon_elevation",
    "temperature",
    "temperature_day",
    "temperature_change",
}
LINEAR = tuple(name for name in FEATURE_NAMES if name not in NOT_LINEAR)
# What a day off changes, and what changes with the season.
SHAPE = ("recent_1", "week_1", "clean_week", "same_kind", "drift_clean_24", "roll_24", "year_1")
SEASONAL = (*SHAPE, "recent_2", "drift_clean_6", "last_value")
# Load rises on both sides of mild weather, so that a departure from the norm has a curved effect.
CURVED = ("recent_1", "drift_clean_24", "roll_24", "last_value")
SMALLEST_SCALE = 1e-6
CHUNK = 4096  # rows at a time: some 10 MB of terms
FARTHEST = 8.0  # standard deviations; a term beyond it is an outlier and not a reason to extrapolate


def linear_terms(matrix: NDArray[np.float32]) -> Matrix:
    """Return the terms of the regression.

    Parameters
    ----------
    matrix : ndarray of shape (n, n_features)
        Columns in the order of `FEATURE_NAMES`. What is unknown counts as no departure from the level.

    Returns
    -------
    ndarray of shape (n, n_terms)
    """

    def columns(names: tuple[str, ...]) -> Matrix:
        found: Matrix = np.nan_to_num(matrix[:, [POSITION[name] for name in names]].astype(np.float64))
        return found

    sine, cosine = columns(("year_sine",)), columns(("year_cosine",))
    seasons = (sine, cosine, 2 * sine * cosine, cosine**2 - sine**2)
    off = columns(("off",))
    first_on = columns(("off_before",)) * (1 - off)
    weekday = np.eye(7)[matrix[:, POSITION["weekday"]].astype(np.intp)]
    shape, seasonal, curved = columns(SHAPE), columns(SEASONAL), columns(CURVED)
    drift = columns(("drift_clean_24", "roll_24"))
    products = [curved[:, [i]] * curved[:, [j]] for i, j in combinations_with_replacement(range(len(CURVED)), 2)]
    parts = [columns(LINEAR), weekday, *seasons[2:], shape * off, shape * first_on, np.abs(drift), *products]
    for season in seasons:
        parts += [season * weekday, season * seasonal]
    return np.column_stack(parts)


@dataclass(frozen=True, slots=True, eq=False)
class HourlyRegression:
    """One linear regression for each hour of the day.

    Parameters
    ----------
    centre, scale : ndarray of shape (24, n_terms)
        Mean and standard deviation of each term in training.
    coefficients : ndarray of shape (24, 1 + n_terms)
        Intercept and slopes of the scaled terms.
    """

    centre: Matrix
    scale: Matrix
    coefficients: Matrix

    def predict(self, matrix: NDArray[np.float32]) -> Matrix:
        """Return the logarithm of load over level, shape (n,), for features of shape (n, n_features)."""
        found = np.empty(len(matrix))
        for start in range(0, len(matrix), CHUNK):
            part = matrix[start : start + CHUNK]
            hour = part[:, POSITION["hour"]].astype(np.intp)
            terms = _scaled(linear_terms(part), self.centre[hour], self.scale[hour])
            own = self.coefficients[hour]
            terms *= own[:, 1:]
            found[start : start + CHUNK] = terms.sum(axis=1) + own[:, 0]
        return found


def fit_hourly(matrix: NDArray[np.float32], target: Matrix, penalty: float) -> HourlyRegression:
    """Fit ridge regressions.

    Parameters
    ----------
    matrix : ndarray of shape (n, n_features)
    target : ndarray of shape (n,)
        Logarithm of load over level; no NaN.
    penalty : float
        Of the squared slopes of scaled terms.

    References
    ----------
    A. E. Hoerl, R. W. Kennard, Ridge regression, Technometrics 12 (1970) 55-67.
    """
    hours = matrix[:, POSITION["hour"]].astype(np.intp)
    n_terms = linear_terms(matrix[:1]).shape[1]
    fitted = HourlyRegression(np.zeros((HOURS, n_terms)), np.ones((HOURS, n_terms)), np.zeros((HOURS, 1 + n_terms)))
    for hour in range(HOURS):
        rows = np.flatnonzero(hours == hour)
        if not len(rows):
            continue
        terms = linear_terms(matrix[rows])
        fitted.centre[hour] = terms.mean(axis=0)
        fitted.scale[hour] = terms.std(axis=0) + SMALLEST_SCALE
        design = np.column_stack([np.ones(len(rows)), _scaled(terms, fitted.centre[hour], fitted.scale[hour])])
        ridge = np.full(1 + n_terms, penalty)
        ridge[0] = 0.0  # the intercept is free
        fitted.coefficients[hour] = np.linalg.solve(design.T @ design + np.diag(ridge), design.T @ target[rows])
    return fitted


def _scaled(terms: Matrix, centre: Matrix, scale: Matrix) -> Matrix:
    return np.clip((terms - centre) / scale, -FARTHEST, FARTHEST)
