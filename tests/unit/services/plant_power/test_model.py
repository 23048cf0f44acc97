"""The regressions, on a synthetic plant."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.datasets.named import synthetic_plant
from kappawatt.models.scores import coverage, rmse
from kappawatt.services.plant_power.features import features
from kappawatt.services.plant_power.model import (
    Kernel,
    Regression,
    build_baseline,
    build_model,
    conformal_quantile,
    split_folds,
)

BOTH = pytest.mark.parametrize("regression", [build_baseline(), build_model()], ids=["baseline", "default"])


@BOTH
def test_interval_holds_nine_of_ten_new_readings(regression: Regression) -> None:
    """Within what 1,000 readings can tell: 0.90 plus or minus four standard errors."""
    plant = synthetic_plant(1_600, seed=2)
    matrix, power = features(plant), plant["net_power"]

    answer = regression.fit(matrix[:600], power[:600]).predict(matrix[600:])

    held = coverage(power[600:], answer["net_power_lower"], answer["net_power_upper"])
    assert held == pytest.approx(0.90, abs=0.04)
    assert rmse(power[600:], answer["net_power"]) < 4.6  # the synthetic plant's noise is 4 MW


@BOTH
def test_power_lies_inside_its_interval_far_from_any_training_row(regression: Regression) -> None:
    """An extrapolated answer is still an answer."""
    plant = synthetic_plant(300, seed=2)
    fitted = regression.fit(features(plant), plant["net_power"])
    far = {name: np.array([value]) for name, value in zip(plant, (-50.0, 100.0, 800.0, 0.0), strict=False)}

    answer = fitted.predict(features(far))

    assert answer["net_power_lower"] < answer["net_power"] < answer["net_power_upper"]


@BOTH
def test_repeated_rows_change_nothing(regression: Regression) -> None:
    """A repeated reading would be its own best neighbour and shrink the interval."""
    plant = synthetic_plant(300, seed=2)
    matrix, power = features(plant), plant["net_power"]

    once = regression.fit(matrix, power).predict(matrix)
    twice = regression.fit(np.tile(matrix, (2, 1)), np.tile(power, 2)).predict(matrix)

    for name, values in once.items():
        assert np.array_equal(values, twice[name])


def test_conformal_quantile_counts_the_reading_to_come() -> None:
    """With 9 scores the 90 % quantile is the 9th: ceil(0.9 x 10); with fewer, the largest there is."""
    assert conformal_quantile(np.arange(1.0, 10.0)) == 9.0
    assert conformal_quantile(np.arange(1.0, 100.0)) == 90.0
    assert conformal_quantile(np.array([2.0])) == 2.0


def test_every_row_is_left_out_once() -> None:
    """And never by the fold that is fitted to it."""
    folds = list(split_folds(103, 5, seed=0))

    assert sorted(np.concatenate([out for _, out in folds])) == list(range(103))
    assert all(not set(fit) & set(out) and len(fit) + len(out) == 103 for fit, out in folds)


def test_matern_kernel_follows_its_formula() -> None:
    """Rasmussen and Williams 2006, eq. 4.17, at one length scale: (1 + sqrt 3) exp(-sqrt 3) and exp(-1)."""
    at, one_off = np.array([[0.0, 5.0]], dtype=np.float32), np.array([[2.0, 9.0]], dtype=np.float32)

    smooth = Kernel(1.0, (2.0, np.inf), smooth=True).correlation(at, one_off)
    rough = Kernel(1.0, (2.0, np.inf), smooth=False).correlation(at, one_off)

    assert smooth[0, 0] == pytest.approx(0.48336, abs=1e-5)
    assert rough[0, 0] == pytest.approx(np.exp(-1.0), abs=1e-6)
