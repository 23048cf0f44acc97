"""Trees: what all of them have in common, and how far off those that were made are on days kept out of the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xgboost import Booster

__all__ = ["SEED", "SMALLEST_SPREAD", "TREES", "boost", "predicted", "reference_of"]

Matrix = NDArray[np.float64]

SEED = 2018  # the year of the first data set's publication; never varied
SMALLEST_SPREAD = 1e-3  # of the logarithm of load
REFERENCE_POINTS = 199
TREES: dict[str, Any] = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_bin": 128,
    "subsample": 0.7,
    "nthread": 1,
    "seed": SEED,
}


def boost(matrix: NDArray[np.float32], target: Matrix, parameters: dict[str, Any], rounds: int) -> Booster:
    """Return trees fitted to a target.

    Parameters
    ----------
    parameters : dict
        XGBoost's, `TREES` among them.
    """
    import xgboost

    rows = xgboost.QuantileDMatrix(matrix, target, max_bin=parameters["max_bin"], nthread=1)
    return xgboost.train(parameters, rows, rounds)


def predicted(trees: Booster, matrix: NDArray[np.float32]) -> Matrix:
    """Return what trees say of each row, shape (n,)."""
    from xgboost import DMatrix

    found: Matrix = trees.predict(DMatrix(matrix, nthread=1)).astype(np.float64)
    return found


def reference_of(scaled: Matrix) -> Matrix:
    """Return quantiles of scaled residuals, evenly spaced in probability."""
    found: Matrix = np.quantile(scaled, (np.arange(REFERENCE_POINTS) + 0.5) / REFERENCE_POINTS)
    return found
