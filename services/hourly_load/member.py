"""The model of one lead: regression, trees where there are any, and spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .boosting import SMALLEST_SPREAD, predicted
from .linear import HourlyRegression

if TYPE_CHECKING:
    from xgboost import Booster

__all__ = ["TREE_WEIGHT", "Member"]

Matrix = NDArray[np.float64]

TREE_WEIGHT = 0.35  # of the trees in the blend with the regression
LEADS_OF_REFERENCE = 12  # h at most


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """The model of one lead.

    Parameters
    ----------
    lead : int
        Hours from the issue time to the start of the target day, by the wall clock.
    regression : HourlyRegression
    trees, spread : xgboost.Booster
        Logarithm of load over level; and mean absolute error of it. Far leads have no trees.
    reference : ndarray of shape (n,)
        Quantiles of the scaled residuals of days kept out of the fit, evenly spaced in probability.
    """

    lead: int
    regression: HourlyRegression
    trees: Booster | None
    spread: Booster
    reference: Matrix

    @property
    def reference_lead(self) -> int:
        """The lead whose errors on other series stand in for a young series' own; farther ahead each has its own."""
        return min(self.lead, LEADS_OF_REFERENCE)

    def expected(self, matrix: NDArray[np.float32]) -> tuple[Matrix, Matrix]:
        """Return logarithm of load over level and its predicted spread, each of shape (n,)."""
        centre = self.regression.predict(matrix)
        if self.trees is not None:
            centre *= 1 - TREE_WEIGHT
            centre += TREE_WEIGHT * predicted(self.trees, matrix)
        spread = np.maximum(predicted(self.spread, matrix), SMALLEST_SPREAD)
        return centre, spread
