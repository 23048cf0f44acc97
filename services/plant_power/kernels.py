"""Kernels of a Gaussian process, the solves behind its mean, and their sums put through a few centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kernel", "inverse_of", "left_out", "solve", "spread_out", "through_centres"]

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Rows = NDArray[np.intp]
Single = NDArray[np.float32]

RIDGE = 1e-8  # of the centres' mean square


@dataclass(frozen=True, slots=True)
class Kernel:
    """One covariance function with a length scale for each feature.

    Parameters
    ----------
    variance : float
        Variance of the part of power it explains [MW^2].
    length_scales : tuple of float, of length n_features
        Distance over which that part changes, in each feature's own unit and in the order of `FEATURE_NAMES`.
    smooth : bool
        True: Matern 3/2, (1 + sqrt(3) d) exp(-sqrt(3) d). False: Matern 1/2, exp(-d).

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006, eq. 4.17.
    """

    variance: float
    length_scales: tuple[float, ...]
    smooth: bool

    @property
    def weights(self) -> Single:
        """Weight of each feature's squared difference in the squared distance, sqrt(3) included."""
        weights = 1.0 / np.square(np.array(self.length_scales))
        result: Single = (3.0 * weights if self.smooth else weights).astype(np.float32)
        return result

    @property
    def takes_part(self) -> NDArray[np.bool_]:
        """Which features have a finite length scale."""
        result: NDArray[np.bool_] = self.weights > 0
        return result

    def scaled(self, features: Single) -> Matrix:
        """Return the features that take part, in units in which the kernel is exp(-d) of their distance."""
        own = self.takes_part
        result: Matrix = features[:, own].astype(np.float64) * np.sqrt(self.weights[own].astype(np.float64))
        return result

    def correlation(self, left: Single, right: Single) -> Matrix:
        """Return correlations, 0 to 1, of shape (len(left), len(right))."""
        squared = np.zeros((len(left), len(right)))
        for position, weight in enumerate(self.weights):
            if weight > 0:
                squared += weight * np.square(np.subtract.outer(left[:, position], right[:, position]))
        distance = np.sqrt(squared)
        decay = np.exp(-distance)
        return (1.0 + distance) * decay if self.smooth else decay


def inverse_of(covariance: Matrix, noise: Vector) -> Matrix:
    """Return the inverse of `covariance` with `noise` on its diagonal; leave-outs need it."""
    from scipy.linalg import lapack  # type: ignore[import-untyped,unused-ignore]

    noisy = covariance.copy()
    noisy[np.diag_indices(len(noise))] += noise
    factor, failed = lapack.dpotrf(noisy.T, lower=1, overwrite_a=1)
    if failed:
        raise ValueError(f"covariance of {len(noise)} rows: got one that is not positive definite")
    inverse: Matrix = lapack.dpotri(factor, lower=1, overwrite_c=1)[0]
    upper = np.triu_indices(len(noise), 1)
    inverse[upper] = inverse.T[upper]
    return inverse


def left_out(inverse: Matrix, solved: Vector, rows: Rows) -> Vector:
    """Return measured minus predicted at `rows`, had none of them been fitted to.

    Parameters
    ----------
    inverse : ndarray of shape (n, n)
        Of the covariance of all rows, noise included.
    solved : ndarray of shape (n,)
        That inverse times what was measured.

    References
    ----------
    Rasmussen and Williams 2006, eq. 5.12, for a set of rows instead of one.
    """
    result: Vector = np.linalg.solve(inverse[np.ix_(rows, rows)], solved[rows]).astype(np.float64)
    return result


def solve(covariance: Matrix, noise: Vector, target: Vector) -> Vector:
    """Return the weights of rows that explain `target` under `covariance` and `noise`."""
    from scipy.linalg import cho_factor, cho_solve

    noisy = covariance.copy()
    noisy[np.diag_indices(len(noise))] += noise
    solution: Vector = cho_solve(cho_factor(noisy, lower=True, overwrite_a=True, check_finite=False), target)
    return solution


def through_centres(basis: Matrix, targets: Matrix) -> Matrix:
    """Return weights of shape (n_targets, n_centres) by which the centres come closest to `targets`.

    Parameters
    ----------
    basis : ndarray of shape (n, n_centres)
        Correlations of places and centres.
    targets : ndarray of shape (n, n_targets)
        What the sums should be at these places.
    """
    from scipy.linalg import solve as solve_symmetric

    gram = basis.T @ basis
    gram[np.diag_indices(len(gram))] += RIDGE * np.trace(gram) / len(gram)
    found: Any = solve_symmetric(gram, basis.T @ targets, assume_a="pos")
    return np.ascontiguousarray(found.T)


def spread_out(points: Matrix, count: int) -> Rows:
    """Return positions of `count` points, each the farthest from all before it; the first is the middle one."""
    chosen = [int(np.argmin(np.square(points - points.mean(axis=0)).sum(axis=1)))]
    nearest = np.full(len(points), np.inf)
    for _ in range(min(count, len(points)) - 1):
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(axis=1))
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)
