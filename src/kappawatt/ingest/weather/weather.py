"""What a source says of one station."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import HOUR, Instant, Times

__all__ = ["QUANTITIES", "Weather", "weather_of"]

Vector = NDArray[np.float64]

QUANTITIES = (  # stems of the fields of a load reading
    "temperature",
    "relative_humidity",
    "wind_speed",
    "cloud_cover",
    "global_horizontal_irradiance",
)


@dataclass(frozen=True, slots=True, eq=False)
class Weather:
    """Hours of one station.

    Parameters
    ----------
    starts : ndarray of datetime64[ms], shape (n,)
        Start of each hour, UTC, rising.
    columns : mapping of str to ndarray of shape (n,)
        By quantity, in the units of a load reading; NaN where it is not said.
    issue_time : datetime64[ms] or None
        When it was issued, if the source says so.
    """

    starts: Times
    columns: Mapping[str, Vector]
    issue_time: Instant | None = None


def weather_of(
    times: Times, instants: Mapping[str, Vector], means: Mapping[str, Vector], issue: Instant | None
) -> Weather:
    """Return the hours of what stands at time stamps.

    A value of the moment (temperature, humidity, wind, cloud) stands for the hour that begins at its time stamp; a mean
    over the hour before (irradiance) for that hour, which began an hour earlier.

    Parameters
    ----------
    times : ndarray of datetime64[ms], shape (n,)
        Rising, an hour apart.
    instants, means : mapping of str to ndarray of shape (n,)
    """
    starts = np.concatenate([times[:1] - HOUR, times]) if means else times
    columns = {name: np.concatenate([[np.nan], column]) if means else column for name, column in instants.items()}
    columns |= {name: np.concatenate([column, [np.nan]]) for name, column in means.items()}
    said = (
        np.any([~np.isnan(column) for column in columns.values()], axis=0) if columns else np.zeros(len(starts), bool)
    )
    return Weather(starts[said], {name: column[said] for name, column in columns.items()}, issue)
