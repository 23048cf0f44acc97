"""Widths on known and on new days, on a made-up plant whose days err by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.datasets.named import synthetic_plant
from kappawatt.models.scores import coverage
from kappawatt.services.plant_power.blend import RidgeOnCentres, choose_blend
from kappawatt.services.plant_power.features import features
from kappawatt.services.plant_power.inference import FittedModel
from kappawatt.services.plant_power.interval import conformal_quantile, familiarity, interval_score
from kappawatt.services.plant_power.kernels import inverse_of, left_out, solve
from kappawatt.services.plant_power.model import build_model, split_groups

Split = tuple[FittedModel, dict[str, np.ndarray], dict[str, np.ndarray]]

HOURS = 12
DAYS = 150
DAY_ERROR = 6.0  # MW
HOUR_ERROR = 1.0  # MW


def plant_with_days(seed: int) -> dict[str, np.ndarray]:
    """Hours of days: each day has a vacuum of its own, its own air, and an error that all its hours share."""
    generator = np.random.default_rng(seed)
    one = synthetic_plant(DAYS, seed)
    plant = {name: np.repeat(column, HOURS) for name, column in one.items()}
    n = DAYS * HOURS
    plant["exhaust_vacuum"] = np.repeat(generator.choice(np.arange(3500, 7500), DAYS, replace=False) / 100, HOURS)
    plant["ambient_temperature"] = plant["ambient_temperature"] + generator.normal(0, 2, n)
    power = 500 - 1.8 * plant["ambient_temperature"] - 0.2 * plant["exhaust_vacuum"]
    day = np.repeat(generator.normal(0, DAY_ERROR, DAYS), HOURS)
    return plant | {"net_power": power + day + generator.normal(0, HOUR_ERROR, n)}


def some(plant: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[rows] for name, column in plant.items()}


@pytest.fixture(scope="module")
def split() -> Split:
    """A model of three quarters of the days without their last three hours; those hours; and the other days."""
    plant = plant_with_days(seed=1)
    of_known, of_new = next(split_groups(plant["exhaust_vacuum"], 4, seed=0))
    last = np.arange(len(plant["net_power"])) % HOURS >= HOURS - 3
    training = some(plant, of_known[~last[of_known]])
    fitted = build_model().fit(features(training), training["net_power"])
    return fitted, some(plant, of_known[last[of_known]]), some(plant, of_new)


def test_new_days_get_the_width_they_need(split: Split) -> None:
    """Nine in ten of the hours of days of which no hour was seen; 38 days, so within what so few can tell."""
    fitted, _, new = split

    answer = fitted.predict(features(new))

    assert coverage(new["net_power"], answer["net_power_lower"], answer["net_power_upper"]) == pytest.approx(
        0.9, abs=0.08
    )


def test_known_days_keep_the_narrow_width(split: Split) -> None:
    """They hold nine in ten too, and are less than half as wide as new ones."""
    fitted, known, new = split

    answer, on_new = fitted.predict(features(known)), fitted.predict(features(new))
    width = np.mean(answer["net_power_upper"] - answer["net_power_lower"])

    held = coverage(known["net_power"], answer["net_power_lower"], answer["net_power_upper"])
    assert held == pytest.approx(0.9, abs=0.06)
    assert width < 0.5 * np.mean(on_new["net_power_upper"] - on_new["net_power_lower"])


def test_neighbouring_vacuum_is_no_known_day(split: Split) -> None:
    """0.01 cm Hg off a known day, whose air it has, a reading gets the width of a new day."""
    fitted, known, _ = split
    beside = known | {"exhaust_vacuum": known["exhaust_vacuum"] + 0.01}
    taken = np.isin(np.round(beside["exhaust_vacuum"], 2), np.round(fitted.rows[:, 1].astype(float), 2))

    answer, other = fitted.predict(features(known)), fitted.predict(features(beside))
    ratio = (other["net_power_upper"] - other["net_power_lower"]) / (
        answer["net_power_upper"] - answer["net_power_lower"]
    )

    assert (~taken).sum() > 100
    assert np.median(ratio[~taken]) > 2


def test_far_from_all_that_was_seen_the_width_is_wider_than_on_most_new_days(split: Split) -> None:
    """By what the trend might still do there."""
    fitted, _, new = split
    far = {name: np.array([value]) for name, value in zip(new, (-45.0, 95.0, 850.0, 5.0), strict=False)}

    answer, on_new = fitted.predict(features(far)), fitted.predict(features(new))

    width = answer["net_power_upper"] - answer["net_power_lower"]
    assert width > np.quantile(on_new["net_power_upper"] - on_new["net_power_lower"], 0.5)


def test_familiarity_goes_from_a_new_day_to_a_known_one() -> None:
    """Half at what is called half."""
    assert familiarity(np.array([0.0, 0.5, 1e9]), 0.5) == pytest.approx([0, 0.5, 1])


def test_interval_score_fines_what_lies_outside_by_its_distance() -> None:
    """Width 2; 0.5 MW outside costs 2 / 0.1 times that."""
    assert interval_score(np.array([1.5]), np.array([1.0])) == pytest.approx(2 + 20 * 0.5)
    assert interval_score(np.array([-0.9]), np.array([1.0])) == pytest.approx(2)


def test_left_out_rows_are_predicted_as_if_never_fitted() -> None:
    """The closed form against a fit to the other rows."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(40, 2))
    covariance = np.exp(-np.square(points[:, None] - points[None]).sum(axis=2))
    noise, target, out = generator.uniform(0.1, 1, 40), generator.normal(size=40), np.arange(7)
    inverse = inverse_of(covariance, noise)
    fit = np.arange(7, 40)

    found = left_out(inverse, inverse @ target, out)

    weights = solve(covariance[np.ix_(fit, fit)], noise[fit], target[fit])
    assert found == pytest.approx(target[out] - covariance[np.ix_(out, fit)] @ weights, abs=1e-9)


def test_blend_leaves_out_a_regression_that_only_harms() -> None:
    """Where the process is right, the ridge regression has no share; where it is wrong, most."""
    generator = np.random.default_rng(0)
    line = np.column_stack([np.ones(200), generator.normal(size=(200, 4))])
    basis, target = generator.normal(size=(200, 3)), line @ np.array([1.0, 2.0, 0.0, 0.0, 1.0])
    noisy = RidgeOnCentres(line, basis, np.eye(3), target + generator.normal(size=200), np.ones(200))
    folds = list(split_groups(np.arange(200) // 10, 4, seed=0))

    assert choose_blend(noisy, noisy.target, folds).share == 0
    assert choose_blend(noisy, np.zeros(200), folds).share == 0.7


def test_conformal_quantile_of_logarithms_is_that_of_sizes() -> None:
    """Quantiles follow a monotone map, so scales may be calibrated as logarithms."""
    sizes = np.random.default_rng(0).exponential(size=99)

    assert np.exp(conformal_quantile(np.log(sizes))) == pytest.approx(conformal_quantile(sizes))
