"""The width of the interval: what hours of known days miss by, what those of new days miss by, and what lies between.

A day is a value of exhaust vacuum, and a reading is of a known day as far as hours of that vacuum and of similar air
were in training: its familiarity. Residuals of rows left out, a fifth at a time, tell the width where the day is
known; residuals of whole vacuums left out tell it where the day is new. Each is a smooth function of the conditions,
and each has a conformal quantile of its own, so that both hold what they promise where they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COVERAGE",
    "DayResiduals",
    "Interval",
    "conformal_quantile",
    "familiarity",
    "fit_interval",
    "interval_score",
]

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Rows = NDArray[np.intp]
DayCorrelation = Callable[[Rows, Rows], Matrix]

COVERAGE = 0.90
RESIDUAL_FLOOR = 0.3  # MW; keeps the logarithm of a lucky residual from dominating
LOG_RESIDUAL_VARIANCE = 1.2  # of log|z| for a normal z it is pi^2/8 = 1.23
SCALE_VARIANCE = 0.3  # of the logarithm of the size of residuals, over the conditions and again from day to day
SCALE_FOLDS = 5  # of the rows that a scale is fitted without when its quantile is taken
HALF_FAMILIAR = (0.05, 0.1, 0.2, 0.5, 1.0)  # similar hours, of which one is chosen
LEAST_FAMILIAR = 0.05  # a reading below it tells nothing of known days
SHARED = 0.3  # correlation of the logarithm between hours of one new day
LEAST_RESIDUAL = 1e-6  # MW; of which a logarithm is taken
JITTER = 1e-6


@dataclass(frozen=True, slots=True)
class DayResiduals:
    """Residuals of rows left out, and how familiar their day was to what they were predicted by.

    Parameters
    ----------
    rows : ndarray of shape (n,)
        Positions of the rows.
    residual : ndarray of shape (n,)
        Measured minus predicted power [MW], before what is added on new days.
    density : ndarray of shape (n,)
        Sum of the correlations with the hours of the same vacuum that were fitted to.
    added : ndarray of shape (n,)
        What is added to the prediction on a day that is wholly new [MW].
    """

    rows: Rows
    residual: Vector
    density: Vector
    added: Vector

    def some(self, which: NDArray[np.bool_]) -> DayResiduals:
        """Return those of some of the rows."""
        return DayResiduals(self.rows[which], self.residual[which], self.density[which], self.added[which])


@dataclass(frozen=True, slots=True)
class Interval:
    """The logarithm of the half width [MW] of the interval on known and on new days.

    Parameters
    ----------
    half_familiar : float
        Density of similar hours at which a day is half known.
    levels : ndarray of shape (2,)
        Of known and new days.
    smooth_weights : ndarray of shape (2, n_centres)
        Of the trend's centres, for known and new days.
    day_weights : ndarray of shape (n_rows,)
        Of the hours of the same vacuum, for known days.
    """

    half_familiar: float
    levels: Vector
    smooth_weights: Matrix
    day_weights: Vector


def conformal_quantile(scores: Vector, coverage: float = COVERAGE) -> float:
    """Return the smallest score that `coverage` of new scores stay within.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores of rows the model was not fitted to, exchangeable with those to come.

    References
    ----------
    J. Lei et al., Distribution-free predictive inference for regression, JASA 113 (2018), algorithm 2.

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 20.0))
    18.0
    """
    n = len(scores)
    rank = min(n, int(np.ceil(coverage * (n + 1))))
    return float(np.sort(scores)[rank - 1])


def interval_score(residual: Vector, half_width: Vector, coverage: float = COVERAGE) -> float:
    """Return the mean interval score [MW]: the width, and a fine for what lies outside; lower is better.

    Parameters
    ----------
    residual, half_width : ndarray of shape (n,)
        [MW]; of an interval that is centred at the prediction.

    References
    ----------
    T. Gneiting, A. E. Raftery, Strictly proper scoring rules, prediction, and estimation, JASA 102 (2007), eq. 43.

    Examples
    --------
    >>> interval_score(np.array([0.0, 1.5]), np.array([1.0, 1.0]), coverage=0.9)
    7.0
    """
    outside = np.maximum(np.abs(residual) - half_width, 0.0)
    return float(np.mean(2 * half_width + 2 / (1 - coverage) * outside))


def familiarity(density: Vector, half_familiar: float) -> Vector:
    """Return from 0, a new day, to 1, a known one."""
    return density / (density + half_familiar)


def fit_interval(
    known: DayResiduals,
    sparse: DayResiduals,
    new: DayResiduals,
    vacuum: NDArray[Any],
    *,
    basis: Matrix,
    prior: Matrix,
    day_correlation: DayCorrelation,
    seed: int,
) -> Interval:
    """Return the widths on known days and on new ones, and how they pass into one another.

    Parameters
    ----------
    known, sparse, new : DayResiduals
        With a fifth of all rows left out, with four fifths left out, and with whole vacuums left out.
    vacuum : ndarray of shape (n_rows,)
        Exhaust vacuum of the rows [cm Hg].
    basis : ndarray of shape (n_rows, n_centres)
        Correlations of rows and centres of the smooth part of the scale.
    prior : ndarray of shape (n_centres, n_centres)
        Of the centres among themselves.
    day_correlation : callable
        Positions of two sets of rows to their correlations by day.
    seed : int
        Of the folds that a scale is fitted without when its quantile is taken.
    """
    days = np.unique(vacuum, return_inverse=True)[1].reshape(-1)

    def smooth(rows: DayResiduals, noise: Vector) -> tuple[float, Vector]:
        """Return level and centre weights of the logarithm of residuals."""
        target = np.log(np.abs(rows.residual) + RESIDUAL_FLOOR)
        own, weight = basis[rows.rows], 1.0 / noise
        level = float(np.average(target, weights=weight))
        left = own.T @ (own * weight[:, None]) + prior / SCALE_VARIANCE
        left[np.diag_indices(len(left))] += JITTER
        weights: Vector = np.linalg.solve(left, own.T @ (weight * (target - level))).astype(np.float64)
        return level, weights

    def of_new(rows: DayResiduals) -> tuple[float, Vector]:
        # Hours of one new day err together: n of them tell as much as n / (1 + (n - 1) r) by themselves would.
        hours = np.bincount(days[rows.rows])[days[rows.rows]]
        noise: Vector = np.asarray(LOG_RESIDUAL_VARIANCE * (1 + (hours - 1) * SHARED), dtype=np.float64)
        return smooth(rows, noise)

    def of_known(rows: DayResiduals) -> tuple[float, Vector, Vector]:
        """The same, and what the hours of each day add."""
        level, weights = smooth(rows, np.full(len(rows.rows), LOG_RESIDUAL_VARIANCE))
        rest = np.log(np.abs(rows.residual) + RESIDUAL_FLOOR) - level - basis[rows.rows] @ weights
        by_hour = np.zeros(len(vacuum))
        for own in _of_each(days[rows.rows]):
            positions = rows.rows[own]
            covariance = SCALE_VARIANCE * day_correlation(positions, positions)
            covariance[np.diag_indices(len(own))] += LOG_RESIDUAL_VARIANCE
            by_hour[positions] = SCALE_VARIANCE * np.linalg.solve(covariance, rest[own])
        return level, weights, by_hour

    def at(positions: Rows, level: float, weights: Vector) -> Vector:
        return level + basis[positions] @ weights

    def of_hours(positions: Rows, by_hour: Vector, fitted: Rows) -> Vector:
        """Return what the hours of the same vacuum that were `fitted` add."""
        added = np.zeros(len(positions))
        hours = {days[fitted[own[0]]]: fitted[own] for own in _of_each(days[fitted])}
        for own in _of_each(days[positions]):
            told = hours.get(days[positions[own[0]]])
            if told is not None:
                added[own] = day_correlation(positions[own], told) @ by_hour[told]
        return added

    def without_itself(number: Rows, rows: DayResiduals, fit: Callable[[DayResiduals, Rows], Vector]) -> Vector:
        """Return the logarithm at each row, fitted to the residuals of other folds."""
        found = np.empty(len(rows.rows))
        for fold in range(SCALE_FOLDS):
            out = number == fold
            found[out] = fit(rows.some(~out), rows.rows[out])
        return found

    generator = np.random.default_rng(seed)
    log_new = np.empty(len(vacuum))
    day_number = generator.permutation(int(days.max()) + 1) % SCALE_FOLDS
    log_new[new.rows] = without_itself(day_number[days[new.rows]], new, lambda some, at_: at(at_, *of_new(some)))
    raised = conformal_quantile(_log_size(new.residual) - log_new[new.rows])
    log_new += raised
    row_number = generator.permutation(len(known.rows)) % SCALE_FOLDS

    def fit_at(half: float) -> tuple[float, Interval]:
        """Return the interval score on known days and on those of which few hours are known, and the interval."""
        share = familiarity(known.density, half)
        here = replace(known, residual=known.residual - (1 - share) * known.added)

        def elsewhere(some: DayResiduals, positions: Rows) -> Vector:
            level, weights, by_hour = of_known(some)
            return at(positions, level, weights) + of_hours(positions, by_hour, some.rows)

        log_known = np.empty(len(vacuum))
        log_known[known.rows] = without_itself(row_number, here, elsewhere)
        told = share >= LEAST_FAMILIAR
        needed = (_log_size(here.residual) - (1 - share) * log_new[known.rows])[told] / share[told]
        more = conformal_quantile(needed - log_known[known.rows][told]) if told.any() else 0.0
        score = 0.0
        for some in (known, sparse):
            part = familiarity(some.density, half)
            log_half = part * (log_known[some.rows] + more) + (1 - part) * log_new[some.rows]
            score += interval_score(some.residual - (1 - part) * some.added, np.exp(log_half))
        level, weights, by_hour = of_known(here)
        level_new, weights_new = of_new(new)
        levels = np.array([level + more, level_new + raised])
        return score, Interval(half, levels, np.stack([weights, weights_new]), by_hour)

    return min((fit_at(half) for half in HALF_FAMILIAR), key=lambda scored: scored[0])[1]


def _log_size(residual: Vector) -> Vector:
    return np.log(np.maximum(np.abs(residual), LEAST_RESIDUAL))


def _of_each(values: NDArray[Any]) -> list[Rows]:
    """Return the positions of each distinct value."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1)
