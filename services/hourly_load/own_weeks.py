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

__all__ = ["TERMS", "refitted"]

Matrix = NDArray[np.float64]

TERMS = tuple(
    FEATURE_NAMES.index(name)
    for name in ("recent_1", "recent_2", "recent_mean", "week_1", "week_mean", "same_kind", "off", "solar_elevation")
)
"""Features, by their place, that stand beside the model's answer."""
PENALTY = 3.0  # in days; terms are standardised
FEWEST_DAYS = 28  # known, of the weeks before
BESIDE = 1  # hours on each side whose days are learned from too
SMALLEST = 1e-3  # spread, of the logarithm
SMALLEST_SCALE = 1e-9


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
    inputs = np.nan_to_num(np.concatenate([centre[..., None], terms], axis=2))
    answer, spread = np.empty_like(centre), np.empty_like(centre)
    for hour in range(HOURS):
        near = [(hour + shift) % HOURS for shift in range(-BESIDE, BESIDE + 1)]
        known = np.isfinite(measured[:, near]) & np.isfinite(centre[:-1, near])
        if known.sum() < FEWEST_DAYS * len(near):
            days = int(known.any(axis=1).sum())
            got = f"values at or below zero, and {days} days to learn from what the sun does"
            raise HistoryInsufficient.of("load", got, f"{FEWEST_DAYS} days and a week before them")
        rows, target = inputs[:-1, near], measured[:, near]
        middle, usual = rows[known].mean(axis=0), target[known].mean()
        scale = np.maximum(rows[known].std(axis=0), SMALLEST_SCALE)
        standard = np.where(known[..., None], (rows - middle) / scale, 0.0)
        off = np.where(known, target - usual, 0.0)
        square = np.einsum("dhi,dhj->ij", standard, standard)
        square[np.diag_indices_from(square)] += PENALTY * len(near)
        inverse = np.linalg.inv(square)
        weights = np.einsum("ij,dhj,dh->i", inverse, standard, off)
        answer[:, hour] = usual + ((inputs[:, hour] - middle) / scale * weights).sum(axis=1)
        left = off - np.einsum("dhi,i->dh", standard, weights)
        pull = np.einsum("dhi,ij,dgj->dhg", standard, inverse, standard)  # of each day's hours on their own answers
        without = np.linalg.solve(np.eye(len(near)) - pull, left[..., None])[..., 0][:, BESIDE]
        here = known[:, BESIDE]
        answer[:-1, hour][here] = measured[here, hour] - without[here]  # as if the day had not been learned from
        spread[:, hour] = max(float(np.abs(without[here]).mean()), SMALLEST) if here.any() else SMALLEST
    return answer, spread
