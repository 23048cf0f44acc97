"""Features of the plant power model."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.datasets.named import synthetic_plant
from kappawatt.services.plant_power.features import FEATURE_NAMES, dew_point, features

# Pressure of saturated water vapour [kPa] by temperature [degC], from the IAPWS steam tables.
SATURATED = {10: 1.228, 20: 2.339, 30: 4.247, 40: 7.385}


@pytest.mark.parametrize(("temperature", "expected"), [(20, 10), (30, 10), (30, 20), (40, 20), (40, 30)])
def test_dew_point_is_where_the_steam_tables_put_it(temperature: int, expected: int) -> None:
    """Air whose vapour pressure is that of saturation at 10 degC has a dew point of 10 degC, and so on."""
    humidity = 100 * SATURATED[expected] / SATURATED[temperature]

    found = dew_point(np.array([float(temperature)]), np.array([humidity]))

    assert found[0] == pytest.approx(expected, abs=0.05)


def test_saturated_air_is_at_its_dew_point() -> None:
    """At 100 % the dew point is the temperature itself."""
    temperature = np.linspace(-30, 50, 9)

    assert dew_point(temperature, np.full(9, 100.0)) == pytest.approx(temperature, abs=1e-9)


def test_driest_and_foggiest_readings_have_finite_features() -> None:
    """0 % and 105 % are readings the schema allows."""
    edge = np.array([0.0, 105.0])
    columns = dict.fromkeys(FEATURE_NAMES, edge)

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
