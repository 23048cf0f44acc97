"""What the hours since a forecast was due say about the hours to come.

Members forecast whole days from midnight and noon. At any other hour a member's forecast stands beside what has been
measured since: how far off it was in those hours, above all in the newest, goes on into the hours to come, and fades.
For each hour of issue and each hour to come a small ridge regression knows how much of it does. It is fitted once, to
all series together, and takes some tens of kilobytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import Times

from .wall_clock import HOURS

__all__ = ["DAYS", "NOON", "TERMS", "NewestHours", "day_of_year", "due_hour", "residual_terms"]

Matrix = NDArray[np.float64]

DAYS = 3  # today, tomorrow and the day after: later hours are not sharpened by a few hours
NOON = 12  # the other hour of issue that members know
TERMS = 7
LATEST = 3  # residuals that stand by themselves
LATELY = 6  # h
YEAR_DAYS = 365.25


def due_hour(hour: int, days_ahead: int) -> int:
    """Return the hour of the local day at which the forecast that newer hours sharpen was due.

    Today's was due at its start; a later day's at noon, if it is past noon.

    Examples
    --------
    >>> due_hour(15, 0), due_hour(15, 1), due_hour(11, 1)
    (0, 12, 0)
    """
    return 0 if days_ahead == 0 or hour < NOON else NOON


def day_of_year(dates: Times) -> Matrix:
    """Return how many days of their year have gone by at local days, from 0 on."""
    days = np.asarray(dates, "datetime64[D]")
    result: Matrix = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.float64)
    return result


def residual_terms(residuals: Matrix, begin: int, hour: int, day_of_year: Matrix) -> Matrix:
    """Return the terms of the regression at an hour of issue.

    Parameters
    ----------
    residuals : ndarray of shape (n_days, 24)
        Logarithm of measured over forecast; read from `begin` up to `hour`. Unknown ones count as none.
    begin, hour : int
        First hour of the day that the forecast did not know, and the hour of issue.
    day_of_year : ndarray of shape (n_days,)
        From 0 on: what an hour says fades at another pace in summer.

    Returns
    -------
    ndarray of shape (n_days, 7)
        The newest three, the mean of the newest six and of all, and the newest by season.
    """
    known = np.nan_to_num(residuals)
    terms = np.zeros((len(known), TERMS))
    for back in range(1, LATEST + 1):
        if hour - back >= begin:
            terms[:, back - 1] = known[:, hour - back]
    for at, first in ((LATEST, max(begin, hour - LATELY)), (LATEST + 1, begin)):
        for column in range(first, hour):
            terms[:, at] += known[:, column]
        terms[:, at] /= hour - first
    angle = 2 * np.pi * day_of_year / YEAR_DAYS
    terms[:, -2] = terms[:, 0] * np.sin(angle)
    terms[:, -1] = terms[:, 0] * np.cos(angle)
    return terms


@dataclass(frozen=True, slots=True, eq=False)
class NewestHours:
    """How far residuals go on.

    Parameters
    ----------
    coefficients : ndarray of shape (3, 24, 24, 7)
        Days ahead, hour of issue, hour to come, term. Zero where there is nothing new, or the hour is past.
    narrowing : ndarray of shape (3, 24, 24)
        Mean absolute residual that is left, as part of what it was; 1 where there is nothing new.
    """

    coefficients: Matrix
    narrowing: Matrix

    def step(self, days_ahead: int, hour: int, terms: Matrix) -> Matrix:
        """Return what is added to the logarithm of a day's forecast, shape (n_days, 24).

        A row's sums run over its own seven terms one after the other: the same bits alone or among others.
        """
        slopes = self.coefficients[days_ahead, hour]
        total = np.zeros((len(terms), HOURS))
        for term in range(TERMS):
            total += terms[:, [term]] * slopes[:, term]
        return total

    def arrays(self) -> dict[str, Matrix]:
        """Return its arrays by name, for a file."""
        return {"coefficients": self.coefficients, "narrowing": self.narrowing}

    @staticmethod
    def of(arrays: Mapping[str, Matrix]) -> NewestHours:
        """Return what `arrays` gave; ValueError if the shapes are others."""
        found = NewestHours(arrays["coefficients"], arrays["narrowing"])
        if found.coefficients.shape != (DAYS, HOURS, HOURS, TERMS) or found.narrowing.shape != (DAYS, HOURS, HOURS):
            raise ValueError(f"newest hours: coefficients of shape {found.coefficients.shape}")
        return found
