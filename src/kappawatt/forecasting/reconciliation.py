"""Forecasts of a sum and its members that add up: minimum trace, for one sum and the series it is of.

A sum is forecast as a series of its own, and its forecast is not the total of its members' forecasts. What is between
them, the discrepancy, is laid on all of them, most on whatever is least certain: of all forecasts that add up these
have the least variance of their errors, if the errors do not correlate.

What adds up is the *point* of each fan, its mean or its median. Expectations add up and minimum trace is of them; of
skewed fans, as homes have them, medians do not, and are pushed off where they are made to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.fan import Fan

__all__ = ["POINTS", "Reconciled", "fan_mean", "point_of", "reconcile", "reconciled_points"]

Vector = NDArray[np.float64]
POINTS = ("median", "mean")
MOST_SCALED = 2.0  # a point next to zero says little of how wide its fan is


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A sum's fan and its members', whose points add up.

    Parameters
    ----------
    total : Fan
        Of the sum.
    members : tuple of Fan
    discrepancy : ndarray of shape (n_targets,)
        The sum's point less the members' total, before.
    """

    total: Fan
    members: tuple[Fan, ...]
    discrepancy: Vector


def fan_mean(quantiles: Vector, levels: Sequence[float]) -> Vector:
    """Return the mean of quantiles.

    Parameters
    ----------
    quantiles : ndarray of shape (n, n_levels)
    levels : sequence of float, length n_levels
        Rising.

    Returns
    -------
    ndarray of shape (n,)
        The integral of the quantile function, linear between the levels and constant beyond the outer ones.
    """
    level = np.asarray(levels, np.float64)
    edges = np.concatenate([[0.0], (level[1:] + level[:-1]) / 2, [1.0]])
    result: Vector = quantiles @ np.diff(edges)
    return result


def point_of(quantiles: Vector, levels: Sequence[float], point: str) -> Vector:
    """Return the median or the mean of quantiles, shape (n,); SettingInvalid if `point` is neither."""
    if point not in POINTS:
        raise SettingInvalid.of("adds_up", repr(point), " or ".join(POINTS))
    if point == "mean":
        return fan_mean(quantiles, levels)
    result: Vector = quantiles[:, list(levels).index(0.5)]
    return result


def reconciled_points(points: Vector, variances: Vector, *, is_positive: bool = False) -> Vector:
    """Return point forecasts that add up, nearest to those there are in units of their own variance.

    Parameters
    ----------
    points : ndarray of shape (n_members + 1, n)
        The last row is the sum's.
    variances : ndarray of shape (n_members + 1, n)
        Of their errors, in any unit, none below zero. Where all are zero they count as equal.
    is_positive : bool
        Whether the members cannot be below zero.

    Returns
    -------
    ndarray of shape (n_members + 1, n)
        With ``d`` the sum's point less the members' total and ``v`` the total of all variances, member ``i`` moves by
        ``variances[i] / v * d`` and the sum by ``-variances[-1] / v * d``. A member that would be below zero is zero,
        and the others take what it does not.

    References
    ----------
    S. L. Wickramasuriya, G. Athanasopoulos, R. J. Hyndman, Optimal forecast reconciliation for hierarchical and
    grouped time series through trace minimization, JASA 114 (2019), 804-819: equation 9 with a diagonal W. Not below
    zero: S. L. Wickramasuriya, B. A. Turlach, R. J. Hyndman, Optimal non-negative forecast reconciliation, Statistics
    and Computing 30 (2020), 1167-1182.
    """
    weights = np.where(variances.sum(axis=0) > 0, variances, 1.0)
    *_, total = points
    members, own = points[:-1], weights[:-1]
    is_free = np.ones(members.shape, np.bool_)
    if is_positive:
        members, total = np.maximum(members, 0.0), np.maximum(total, 0.0)
    while True:  # each round holds one more member at zero, or is the last
        start = np.where(is_free, members, 0.0)
        share = np.where(is_free, own, 0.0)
        spread = share.sum(axis=0) + weights[-1]
        # Nothing may move, as where each fan with a width is at zero: then the sum is what its members are.
        scale = np.divide(total - start.sum(axis=0), spread, out=np.zeros_like(total), where=spread > 0)
        moved = start + share * scale
        below = is_free & (moved < 0)
        if not is_positive or not below.any():
            break
        is_free &= ~below
    return np.vstack([moved, moved.sum(axis=0)])


def reconcile(total: Fan, members: Sequence[Fan], *, point: str = "median", is_positive: bool = False,
              figures: Sequence[str] = ()) -> Reconciled:  # fmt: skip
    """Return the same fans, moved so that their points add up.

    Parameters
    ----------
    total : Fan
        Of the sum.
    members : sequence of Fan
        Of the same targets and levels.
    point : str
        What adds up: `median` or `mean`.
    is_positive : bool
        Whether values cannot be below zero: a fan is then scaled, not shifted, so that its quantiles keep their order
        and sign, and its point is exactly where it has to be. (A low quantile near zero that is shifted up has no
        measurement below it any more.) What would be more than twice as much is shifted all the same.
    figures : sequence of str
        Figures of the window as a whole that add up over series. They are reconciled by themselves, if all fans have
        them; the others stay as they are.

    Returns
    -------
    Reconciled
        The variance of each error is taken from the width of the interval between the outer levels.

    Raises
    ------
    SettingInvalid
        There are no members, fans differ in targets or levels, or `point` is neither.
    """
    fans = [*members, total]
    if not members or any(f.levels != total.levels or f.quantiles.shape != total.quantiles.shape for f in fans):
        raise SettingInvalid.of("members", f"{len(members)} fans", "one or more of the sum's targets and levels")
    quantiles, discrepancy = _reconciled([fan.quantiles for fan in fans], total.levels, point, is_positive)
    days = [dict(fan.day) for fan in fans]
    for name in figures:
        if all(name in day for day in days):
            found, _ = _reconciled([day[name][None, :] for day in days], total.levels, point, is_positive)
            for day, figure in zip(days, found, strict=True):
                day[name] = figure[0]
    moved = [replace(fan, quantiles=q, day=day) for fan, q, day in zip(fans, quantiles, days, strict=True)]
    return Reconciled(moved[-1], tuple(moved[:-1]), discrepancy)


def _reconciled(
    quantiles: Sequence[Vector], levels: Sequence[float], point: str, is_positive: bool
) -> tuple[list[Vector], Vector]:
    """Quantiles of each series, the sum's last, whose points add up; and the discrepancy before."""
    points = np.array([point_of(own, levels, point) for own in quantiles])
    widths = np.array([own[:, -1] - own[:, 0] for own in quantiles])
    wanted = reconciled_points(points, widths**2, is_positive=is_positive)
    moved = [
        _moved(own, before, after, is_positive) for own, before, after in zip(quantiles, points, wanted, strict=True)
    ]
    return moved, points[-1] - points[:-1].sum(axis=0)


def _moved(quantiles: Vector, before: Vector, after: Vector, is_positive: bool) -> Vector:
    """Quantiles whose point is where it has to be."""
    shifted: Vector = quantiles + (after - before)[:, None]
    if not is_positive:
        return shifted
    ratio = np.divide(after, before, out=np.full_like(after, np.inf), where=before > 0)
    is_scaled = ratio <= MOST_SCALED
    scaled = quantiles * np.where(is_scaled, ratio, 1.0)[:, None]
    return np.where(is_scaled[:, None], scaled, shifted)
