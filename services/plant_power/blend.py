"""On new days: a ridge regression on the same centres, and how much of it is best, by whole vacuums left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blend", "RidgeOnCentres", "choose_blend"]

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Rows = NDArray[np.intp]

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)  # of the prior's norm, in readings of full weight
SHARES = (0.0, 0.3, 0.5, 0.7)
WORST = 15.0  # MW: a residual beyond it counts as this, so that a few faulty readings choose nothing
JITTER = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class RidgeOnCentres:
    """A line and a sum of kernels over centres, each reading for itself.

    Parameters
    ----------
    line : ndarray of shape (n, 1 + LINEAR_FEATURES)
        A column of ones, and the conditions.
    basis : ndarray of shape (n, n_centres)
        Correlations of rows and centres.
    prior : ndarray of shape (n_centres, n_centres)
        Correlations of the centres, whose norm is penalised.
    target : ndarray of shape (n,)
        [MW]
    weight : ndarray of shape (n,)
        Of each reading.
    """

    line: Matrix
    basis: Matrix
    prior: Matrix
    target: Vector
    weight: Vector

    def fit(self, rows: Rows, penalty: float) -> tuple[Vector, Vector]:
        """Return intercept [MW] and slopes, and the centres' weights [MW], fitted to some of the rows."""
        # Conditions in units of their spread: 1013 mbar beside an intercept would cost half the digits.
        middle, spread = self.line[rows, 1:].mean(axis=0), self.line[rows, 1:].std(axis=0)
        design = np.column_stack([np.ones(len(rows)), (self.line[rows, 1:] - middle) / spread, self.basis[rows]])
        weight = self.weight[rows]
        left = design.T @ (design * weight[:, None])
        own = slice(self.line.shape[1], None)
        left[own, own] += penalty * weight.mean() * (self.prior + JITTER * np.eye(len(self.prior)))
        found: Vector = np.linalg.solve(left, design.T @ (weight * self.target[rows])).astype(np.float64)
        slopes = found[1 : self.line.shape[1]] / spread
        return np.concatenate([[found[0] - slopes @ middle], slopes]), found[own]

    def predict(self, rows: Rows, fitted: tuple[Vector, Vector]) -> Vector:
        """Return [MW] for some of the rows."""
        line, weights = fitted
        result: Vector = self.line[rows] @ line + self.basis[rows] @ weights
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """What was chosen, and what it predicts for each row from other vacuums alone [MW]."""

    penalty: float
    share: float
    power: Vector


def choose_blend(ridge: RidgeOnCentres, process: Vector, by_vacuum: Sequence[tuple[Rows, Rows]]) -> Blend:
    """Return penalty and share of the ridge regression with the least squared error on vacuums left out.

    Parameters
    ----------
    ridge : RidgeOnCentres
    process : ndarray of shape (n,)
        What the Gaussian process predicts for each row from other vacuums alone [MW].
    by_vacuum : sequence of (rows fitted to, rows left out)
        The folds behind `process`.
    """
    blends = []
    for penalty in PENALTIES:
        by_ridge = np.empty(len(process))
        for fit, out in by_vacuum:
            by_ridge[out] = ridge.predict(out, ridge.fit(fit, penalty))
        blends += [Blend(penalty, share, share * by_ridge + (1 - share) * process) for share in SHARES]

    def error(blend: Blend) -> float:
        return float(np.mean(np.square(np.clip(ridge.target - blend.power, -WORST, WORST))))

    return min(blends, key=error)
