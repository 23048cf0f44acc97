"""Features of the plant power model."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.datasets import synthetic_plant
from services.plant_power.features import FEATURE_NAMES, dew_point, features


@pytest.mark.parametrize(
    ("temperature", "humidity", "expected"),
    [(20, 50, 9.3), (20, 70, 14.4), (25, 60, 16.7), (30, 50, 18.4), (10, 80, 6.7)],
)
def test_dew_point_is_that_of_the_table(temperature: float, humidity: float, expected: float) -> None:
    """The table of dew points [degC] of DIN 4108-3, given to one decimal."""
    assert dew_point(np.array([temperature]), np.array([humidity]))[0] == pytest.approx(expected, abs=0.1)


def test_saturated_air_is_at_its_dew_point() -> None:
    """At 100 % the dew point is the temperature itself."""
    temperature = np.linspace(-30, 50, 9)

    assert dew_point(temperature, np.full(9, 100.0)) == pytest.approx(temperature, abs=1e-9)


def test_driest_and_foggiest_readings_have_finite_features() -> None:
    """0 % and 105 % are readings the schema allows."""
    edge = np.array([0.0, 105.0])
    columns = {name: edge for name in FEATURE_NAMES}

    assert np.isfinite(features(columns)).all()


def test_features_come_in_the_order_of_their_names() -> None:
    """Each column is the condition its name says, as float32; columns that are no condition are ignored."""
    columns = synthetic_plant(20, seed=1)

    matrix = features(columns)

    assert matrix.shape == (20, len(FEATURE_NAMES))
    assert matrix.dtype == np.float32
    for position, name in enumerate(FEATURE_NAMES[:-1]):
        assert np.array_equal(matrix[:, position], columns[name].astype(np.float32))


def test_a_row_alone_has_the_features_it_has_among_others() -> None:
    """Bit for bit, since a replay reads other batches than the live stream did."""
    columns = synthetic_plant(1_000, seed=1)

    together = features(columns)

    for row in range(1_000):
        alone = features({name: column[row : row + 1] for name, column in columns.items()})
        assert np.array_equal(alone[0], together[row])
