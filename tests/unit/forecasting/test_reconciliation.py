"""Minimum trace for one sum: what adds up, who moves how far, and that no quantile crosses another or zero."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.fan import LEVELS, Fan
from kappawatt.forecasting.reconciliation import fan_mean, point_of, reconcile, reconciled_points

Vector = NDArray[np.float64]
RANDOM = np.random.default_rng(3)


def skewed(n: int = 48, level: float = 0.2, spread: float = 1.5) -> Fan:
    """A fan as homes have them: low at zero, long above."""
    draws = np.sort(level * RANDOM.lognormal(0, spread, (n, 4000)), axis=1)
    return Fan(np.quantile(draws, LEVELS, axis=1).T)


def even(level: float, width: float, n: int = 24) -> Fan:
    return Fan(level + RANDOM.normal(0, width, n)[:, None] + width * (np.array(LEVELS) - 0.5))


def by_projection(points: Vector, variances: Vector) -> Vector:
    """The general form of minimum trace for one interval: S (S' W^-1 S)^-1 S' W^-1 y, the sum last."""
    m = len(points) - 1
    summing = np.vstack([np.eye(m), np.ones(m)])
    inverse = np.diag(1 / variances)
    solved = np.linalg.solve(summing.T @ inverse @ summing, summing.T @ inverse @ points)
    result: Vector = summing @ solved
    return result


def test_the_closed_form_is_minimum_trace() -> None:
    points, variances = RANDOM.normal(100, 30, (6, 20)), RANDOM.uniform(1, 50, (6, 20))

    found = reconciled_points(points, variances)

    expected = np.column_stack([by_projection(points[:, i], variances[:, i]) for i in range(20)])
    np.testing.assert_allclose(found, expected)


def test_members_that_cannot_be_negative_are_the_nearest_that_are_not() -> None:
    """Against the conditions of a minimum: free members move by their variance times one multiplier."""
    points = np.array([[5.0], [0.2], [1.0], [3.0]])
    variances = np.array([[1.0], [4.0], [0.2], [0.5]])

    found = reconciled_points(points, variances, is_positive=True)[:, 0]

    multiplier = (found[0] - 5.0) / 1.0
    assert found[3] == pytest.approx(found[:3].sum())
    assert found[1] == 0.0 > 0.2 + 4.0 * multiplier
    np.testing.assert_allclose([found[2], found[3]], [1.0 + 0.2 * multiplier, 3.0 - 0.5 * multiplier])


def test_without_any_width_all_move_alike() -> None:
    found = reconciled_points(np.array([[1.0], [2.0], [6.0]]), np.zeros((3, 1)))[:, 0]

    np.testing.assert_allclose(found, [2.0, 3.0, 5.0])


def test_a_sum_of_which_nothing_is_left_is_zero() -> None:
    points, variances = np.array([[0.0], [0.1], [0.0]]), np.array([[0.0], [1.0], [0.0]])

    found = reconciled_points(points, variances, is_positive=True)[:, 0]

    np.testing.assert_array_equal(found, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("point", ["median", "mean"])
@pytest.mark.parametrize("is_positive", [True, False], ids=["positive", "any"])
@pytest.mark.parametrize("of_sum", [0.01, 0.7, 3.0], ids=["sum far below", "sum below", "sum above"])
def test_points_add_up_and_quantiles_keep_their_order_and_sign(point: str, is_positive: bool, of_sum: float) -> None:
    members = [skewed() for _ in range(4)]
    total = Fan(of_sum * np.sum([fan.quantiles for fan in members], axis=0))

    found = reconcile(total, members, point=point, is_positive=is_positive)

    points = [point_of(fan.quantiles, LEVELS, point) for fan in (*found.members, found.total)]
    np.testing.assert_allclose(np.sum(points[:-1], axis=0), points[-1], atol=1e-12)
    for fan in (*found.members, found.total):
        assert (np.diff(fan.quantiles, axis=1) >= 0).all()
        assert not is_positive or (fan.quantiles >= 0).all()


def test_what_is_least_certain_moves_most() -> None:
    sure, unsure = even(100, 1), even(100, 10)
    total = Fan(sure.quantiles + unsure.quantiles + 8)

    found = reconcile(total, [sure, unsure])

    np.testing.assert_allclose(found.discrepancy, 8)
    moved = [np.mean(a.median - b.median) for a, b in zip(found.members, (sure, unsure), strict=True)]
    np.testing.assert_allclose(moved[1], 100 * moved[0])
    assert np.mean(total.median - found.total.median) == pytest.approx(8 - sum(moved))


def test_forecasts_that_add_up_stay_as_they_are() -> None:
    members = [even(100, 3), even(50, 2)]
    total = Fan(np.sum([fan.quantiles for fan in members], axis=0))

    found = reconcile(total, members)

    np.testing.assert_allclose(found.total.quantiles, total.quantiles)
    np.testing.assert_allclose([fan.quantiles for fan in found.members], [fan.quantiles for fan in members])


def test_reconciled_errors_are_smaller_where_errors_do_not_correlate() -> None:
    """Of independent errors of known size the variance is that of theory: s_sum^2 less s_sum^4 over the total."""
    truth, sizes, n = np.array([100.0, 200.0]), np.array([3.0, 4.0, 12.0]), 20_000
    errors = np.random.default_rng(1).normal(0, 1, (3, n)) * sizes[:, None]
    fans = [
        Fan((level + error)[:, None] + size * (np.array(LEVELS) - 0.5))
        for level, error, size in zip([*truth, truth.sum()], errors, sizes, strict=True)
    ]

    found = reconcile(fans[-1], fans[:-1])

    variance = np.var(found.total.median - truth.sum())
    assert variance == pytest.approx(144 - 144**2 / (9 + 16 + 144), rel=0.03)


def test_only_figures_that_add_up_are_reconciled() -> None:
    rise = np.array(LEVELS)
    members = [Fan(even(1, 1).quantiles, {"total": level + rise, "peak": level + rise}) for level in (10.0, 20.0)]
    total = Fan(even(2, 1).quantiles, {"total": 36 + rise, "peak": 25 + rise})

    found = reconcile(total, members, figures=("total",))

    middle = LEVELS.index(0.5)
    assert found.total.day["total"][middle] == pytest.approx(sum(fan.day["total"][middle] for fan in found.members))
    np.testing.assert_array_equal(found.total.day["peak"], 25 + rise)


def test_the_mean_of_quantiles_is_that_of_the_line_through_them() -> None:
    assert fan_mean(np.array([[0.0, 1.0, 4.0]]), (0.1, 0.5, 0.9))[0] == pytest.approx(
        0.1 * 0 + 0.4 * 0.5 + 0.4 * 2.5 + 0.1 * 4
    )


def test_what_cannot_be_reconciled_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="members: got 0 fans"):
        reconcile(even(1, 1), [])
    with pytest.raises(
        SettingInvalid, match="members: got 1 fans, allowed one or more of the sum's targets and levels"
    ):
        reconcile(even(1, 1), [even(1, 1, n=3)])
    with pytest.raises(SettingInvalid, match="adds_up: got 'mode', allowed median or mean"):
        reconcile(even(1, 1), [even(1, 1)], point="mode")
