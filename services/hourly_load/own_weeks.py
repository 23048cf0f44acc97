"""A second stage for net load: how the model's answer and the series' own lags add up to what was measured lately.

The shipped model knows zones without much sun. Where a series dips below zero at noon, its answers are off by the same
every day; a small ridge regression for each hour of the day, on the weeks that calibration forecasts again anyway,
learns from the series itself what they are worth beside its own lags. A pure function of those weeks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import HistoryInsufficient

from .features import FEATURE_NAMES
from .wall_clock import HOURS

__all__ = ["TERMS", "days_apart", "refitted"]

Matrix = NDArray[np.float64]

TERMS = tuple(
    FEATURE_NAMES.index(name)
    for name in ("recent_1", "recent_2", "recent_mean", "week_1", "week_mean", "same_kind", "off", "solar_elevation")
)
"""Features, by their place, that stand beside the model's answer."""
PENALTY = 3.0  # in days; terms are standardised
FEWEST_DAYS = 28  # known, of the weeks before
BESIDE = 1  # hours on each side whose days are learned from too
HOURS_BESIDE = (np.arange(HOURS)[:, None] + np.arange(-BESIDE, BESIDE + 1)) % HOURS
SMALLEST = 1e-3  # spread, of the logarithm
SMALLEST_SCALE = 1e-9
SMALLEST_SHARE = 0.1  # of a term's size at all hours: at night the sun's first light is no sign of anything
FARTHEST = 4.0  # standard deviations; a term beyond it is no reason to extrapolate


def refitted(centre: Matrix, terms: Matrix, measured: Matrix) -> tuple[Matrix, Matrix]:
    """Return answers of the second stage and their spread.

    Parameters
    ----------
    centre : ndarray of shape (n_days, 24)
        The model's answers, of the day to come last; logarithm over level.
    terms : ndarray of shape (n_days, 24, n_terms)
    measured : ndarray of shape (n_days - 1, 24)
        What came of them; NaN where not known.

    Returns
    -------
    centre, spread : ndarray of shape (n_days, 24)
        Answers for days before are made without that day, so that calibration sees errors of the size to come.

    Raises
    ------
    HistoryInsufficient
        There are too few days: the model's answer alone would be a number that looks right and is not.
    """
    fewest = int(np.isfinite(measured[:, HOURS_BESIDE] + centre[:-1, HOURS_BESIDE]).sum(axis=(0, 2)).min())
    if fewest < FEWEST_DAYS * len(HOURS_BESIDE[0]):
        days = int(np.isfinite(measured + centre[:-1]).any(axis=1).sum())
        got = f"values at or below zero, and {days} days to learn from what the sun does"
        raise HistoryInsufficient.of("load", got, f"{FEWEST_DAYS} days and a week before them")
    inputs = np.concatenate([centre[..., None], terms], axis=2)
    answer = days_apart(inputs, np.where(np.isfinite(centre[:-1]), measured, np.nan), PENALTY)
    off = np.abs(measured - answer[:-1])
    here = np.isfinite(off)
    spread = np.where(here, off, 0.0).sum(axis=0) / np.maximum(here.sum(axis=0), 1)
    return answer, np.broadcast_to(np.maximum(spread, SMALLEST), answer.shape)


def days_apart(inputs: Matrix, measured: Matrix, penalty: float, *, is_free: bool = True) -> Matrix:
    """Ridge regression of each hour of the day on days and the hours beside it; answers of days by the others.

    Parameters
    ----------
    inputs : ndarray of shape (n_days, 24, n_terms)
        Of the day to be forecast last. What is unknown counts as zero.
    measured : ndarray of shape (n_days - 1, 24)
        What came of them; NaN where not known.
    penalty : float
        Of the squared slopes of scaled terms, in days.
    is_free : bool
        Whether there is an intercept; without it inputs of zero are answered with zero.

    Returns
    -------
    ndarray of shape (n_days, 24)
        Answers for days that were learned from are made without them, so that calibration sees errors of the size to
        come.
    """
    inputs = np.nan_to_num(inputs)
    answer = np.empty(inputs.shape[:2])
    size = np.zeros(inputs.shape[2]) if is_free else np.sqrt(np.mean(inputs[:-1] ** 2, axis=(0, 1)))
    smallest = np.maximum(SMALLEST_SHARE * size, SMALLEST_SCALE)
    for hour, near in enumerate(HOURS_BESIDE):
        known = np.isfinite(measured[:, near])
        rows, target = inputs[:-1, near], measured[:, near]
        middle, usual = (rows[known].mean(axis=0), target[known].mean()) if is_free else (0.0, 0.0)
        scale = np.maximum(np.sqrt(np.mean((rows[known] - middle) ** 2, axis=0)), smallest)
        scaled = np.clip((inputs[:, near] - middle) / scale, -FARTHEST, FARTHEST)
        standard = np.where(known[..., None], scaled[:-1], 0.0)
        off = np.where(known, target - usual, 0.0)
        square = np.einsum("dhi,dhj->ij", standard, standard)
        square[np.diag_indices_from(square)] += penalty * len(near)
        inverse = np.linalg.inv(square)
        weights = np.einsum("ij,dhj,dh->i", inverse, standard, off)
        answer[:, hour] = usual + (scaled[:, BESIDE] * weights).sum(axis=1)
        left = off - np.einsum("dhi,i->dh", standard, weights)
        pull = np.einsum("dhi,ij,dgj->dhg", standard, inverse, standard)  # of each day's hours on their own answers
        without = np.linalg.solve(np.eye(len(near)) - pull, left[..., None])[..., 0][:, BESIDE]
        here = known[:, BESIDE]
        answer[:-1, hour][here] = measured[here, hour] - without[here]  # as if the day had not been learned from
    return answer
