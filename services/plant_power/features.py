"""Conditions at the plant -> the input matrix. No IO, clock or state; training and serving both call it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONDITION_NAMES", "FEATURE_NAMES", "dew_point", "features"]

CONDITION_NAMES = ("ambient_temperature", "exhaust_vacuum", "ambient_pressure", "relative_humidity")
FEATURE_NAMES = (*CONDITION_NAMES, "dew_point")

# Magnus' formula over water, coefficients of the WMO Guide (see dew_point).
MAGNUS_SLOPE = 17.62
MAGNUS_OFFSET = 243.12  # degC
DRIEST = 1.0  # % relative humidity; below it a dew point means nothing and its logarithm runs away


def dew_point(ambient_temperature: NDArray[np.float64], relative_humidity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the temperature at which the air's moisture would condense.

    Dew point stays nearly the same through a day while temperature and relative humidity swing, so that it
    tells two hours of one air mass from two hours of different weather.

    Parameters
    ----------
    ambient_temperature : ndarray of shape (n,)
        Air temperature [degC].
    relative_humidity : ndarray of shape (n,)
        Relative humidity [%]; below 1 % it is taken as 1 %.

    Returns
    -------
    ndarray of shape (n,)
        Dew point [degC].

    References
    ----------
    WMO Guide to Instruments and Methods of Observation (WMO-No. 8), Volume I, Annex 4.B: saturation vapour
    pressure over water 6.112 exp(17.62 t / (243.12 + t)) hPa, solved for t.

    Examples
    --------
    >>> dew_point(np.array([25.0]), np.array([100.0])).round(6)
    array([25.])
    """
    t = np.asarray(ambient_temperature, dtype=np.float64)
    humidity = np.maximum(np.asarray(relative_humidity, dtype=np.float64), DRIEST)
    exponent = np.log(humidity / 100) + MAGNUS_SLOPE * t / (MAGNUS_OFFSET + t)
    result: NDArray[np.float64] = MAGNUS_OFFSET * exponent / (MAGNUS_SLOPE - exponent)
    return result


def features(columns: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float32]:
    """Return the model's input.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n,)
        `ambient_temperature` [degC], `exhaust_vacuum` [cm Hg], `ambient_pressure` [mbar] and
        `relative_humidity` [%]; other columns are ignored.

    Returns
    -------
    ndarray of shape (n, 5)
        Columns in the order of `FEATURE_NAMES`, as float32: training rounds where serving rounds.

    Examples
    --------
    >>> row = {"ambient_temperature": 14.96, "exhaust_vacuum": 41.76, "ambient_pressure": 1024.07}
    >>> columns = {name: np.array([value]) for name, value in (row | {"relative_humidity": 73.17}).items()}
    >>> features(columns).shape
    (1, 5)
    """
    dew = dew_point(columns["ambient_temperature"], columns["relative_humidity"])
    matrix = np.empty((len(dew), len(FEATURE_NAMES)), dtype=np.float32)
    for position, name in enumerate(CONDITION_NAMES):
        matrix[:, position] = columns[name]
    matrix[:, -1] = dew
    return matrix
