"""How the newest residuals of the response to weather go on: 24 linear regressions on what is left of the last days.

What weather and calendar do not explain lasts: a new level, a holiday week, clouds and wind. The residuals of the
newest hours, of the days before and of the same weekdays tell how much of it is left tomorrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .response import KEPT_MONTHS, fit_apart, which_fit
from .wall_clock import HOURS, Cells, cells_of_days

__all__ = ["LOOKS_BACK", "OUTLIER", "Correction", "correction_terms", "fit_correction"]

Matrix = NDArray[np.float64]

NEWEST = 48  # h before the issue time, one by one
OLDER_DAYS = 5  # beyond them, by their means
WEEK = 7 * HOURS
MONTH = 28 * HOURS
LOOKS_BACK = 30  # days
PENALTY = 1000.0
SMALLEST_SCALE = 1e-6
FARTHEST = 6.0  # standard deviations
OUTLIER = 0.4  # of the logarithm of load: an error of the data


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """The fitted regressions.

    Parameters
    ----------
    centre, scale : ndarray of shape (n_terms,)
    months : ndarray of int, shape (m,)
    coefficients : ndarray of shape (1 + m, 24, 1 + n_terms)
        As in `Response`.
    """

    centre: Matrix
    scale: Matrix
    months: NDArray[np.int64]
    coefficients: Matrix

    def predict(self, residuals: Matrix, days: Cells, lead: int, month: NDArray[np.int64]) -> Matrix:
        """Return the residual expected in each hour of each day, shape (n_days, 24)."""
        terms = _terms(residuals, days, lead)
        scaled = np.clip((terms - self.centre) / self.scale, -FARTHEST, FARTHEST)
        own = self.coefficients[which_fit(self.months, month)]
        found: Matrix = (scaled[:, None, :] * own[:, :, 1:]).sum(axis=-1) + own[:, :, 0]
        return found


def _terms(residuals: Matrix, days: Cells, lead: int) -> Matrix:
    """Return what is known `lead` hours before each day, shape (n_days, n_terms). What is unknown is no residual."""
    origin = days * HOURS - lead

    def read(cells: Cells) -> Matrix:
        inside = (cells >= 0) & (cells < origin[:, None]) & (cells < len(residuals))
        found = np.zeros(cells.shape)
        found[inside] = residuals[cells[inside]]
        return np.clip(np.nan_to_num(found), -OUTLIER, OUTLIER)

    newest = read(origin[:, None] - np.arange(1, NEWEST + 1))
    month = read(origin[:, None] - np.arange(1, MONTH + 1))
    by_day = month.reshape(len(days), -1, HOURS)
    first = NEWEST // HOURS
    terms = [
        newest,
        by_day[:, first : first + OLDER_DAYS].mean(axis=2),
        by_day[:, :7].mean(axis=1),
        read(days[:, None] * HOURS - WEEK + np.arange(HOURS)),
        read(days[:, None] * HOURS - 2 * WEEK + np.arange(HOURS)),
        month.mean(axis=1, keepdims=True),
        newest[:, : HOURS // 2].mean(axis=1, keepdims=True),
    ]
    return np.concatenate(terms, axis=1)


def correction_terms() -> int:
    """Return the number of terms."""
    return int(_terms(np.zeros(0), np.zeros(1, np.int64), 0).shape[1])


def fit_correction(residuals: Matrix, days: Cells, lead: int, month: NDArray[np.int64]) -> tuple[Correction, Matrix]:
    """Fit, and return what each day's residuals were expected to be by the fit without its month.

    Parameters
    ----------
    residuals : ndarray of shape (n_cells,)
        By fits without their month; NaN where unknown.
    days : ndarray of int, shape (n_days,)
    lead : int
        Hours from the issue time to the day's start.
    month : ndarray of int, shape (n_days,)
    """
    terms = _terms(residuals, days, lead)
    target = residuals[cells_of_days(days)]
    usable = (np.abs(target) < OUTLIER).all(axis=1)  # NaN is not
    centre, scale = terms[usable].mean(axis=0), terms[usable].std(axis=0) + SMALLEST_SCALE
    rows = np.clip((terms - centre) / scale, -FARTHEST, FARTHEST)
    whole, apart, _ = fit_apart(rows[usable], target[usable], month[usable], PENALTY)
    months = np.unique(month[usable])
    own = np.concatenate([whole[None], apart])[which_fit(months, month)]
    expected = own[:, 0] + np.einsum("dk,dkh->dh", rows, own[:, 1:])
    kept = months[-KEPT_MONTHS:]
    coefficients = np.concatenate([whole[None], apart[-len(kept) :]]).transpose(0, 2, 1)
    return Correction(centre, scale, kept, np.ascontiguousarray(coefficients)), expected
