"""Wind and air -> the wind speed that the curve is drawn over. No IO, clock or state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEATURE_NAMES", "features"]

FEATURE_NAMES = ("normalised_wind_speed",)
STANDARD_DENSITY = 1.225  # kg/m3, sea level at 15 degC


def features(columns: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the wind speed [m/s] that has the same power in standard air, shape (n,).

    References
    ----------
    IEC 61400-12-1, 9.1: power goes with density times the cube of speed.
    """
    speed: NDArray[np.float64] = columns["wind_speed"] * np.cbrt(columns["air_density"] / STANDARD_DENSITY)
    return speed
