"""A forecast's quantiles, and the seasonal naive that every forecast is measured against and falls back to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import Times, same_local_time
from kappawatt.forecasting.history import Past

__all__ = ["LEVELS", "LOWER", "MEDIAN", "UPPER", "Fan", "level_name", "naive_fan", "naive_values"]

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # 0.05 to 0.95
MEDIAN = LEVELS.index(0.5)
LOWER, UPPER = LEVELS.index(0.05), LEVELS.index(0.95)  # of the 90 % interval
WEEK = 7  # days
MOST_WEEKS = 4


def level_name(level: float) -> str:
    """Return the field name of a quantile: `quantile_05`, `quantile_50`."""
    return f"quantile_{round(level * 100):02d}"


@dataclass(frozen=True, slots=True)
class Fan:
    """What a model says about the intervals of one series.

    Parameters
    ----------
    quantiles : ndarray of shape (n_targets, 19)
        At `LEVELS`, not falling along the second axis. The point forecast is the median.
    day : mapping of str to ndarray of shape (19,)
        Quantiles of figures of the target day as a whole.
    """

    quantiles: NDArray[np.float64]
    day: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def median(self) -> NDArray[np.float64]:
        """The point forecast, shape (n_targets,)."""
        result: NDArray[np.float64] = self.quantiles[:, MEDIAN]
        return result


def naive_values(past: Past, targets: Times) -> NDArray[np.float64]:
    """Return the seasonal naive forecast: the same local time a week before, else two, three or four.

    Parameters
    ----------
    past : Past
    targets : ndarray of datetime64[ms], shape (n,)

    Returns
    -------
    ndarray of shape (n,)
        NaN where none of the four weeks is known.

    References
    ----------
    R. J. Hyndman, G. Athanasopoulos, Forecasting: Principles and Practice, 3rd ed. 2021, section 5.2, with a
    season of one week.
    """
    found = np.full(len(targets), np.nan)
    for weeks in range(1, MOST_WEEKS + 1):
        open_ = np.isnan(found)
        if not open_.any():
            break
        found[open_] = past.at(same_local_time(targets[open_], past.time_zone, WEEK * weeks))
    return found


def naive_fan(past: Past, targets: Times) -> Fan:
    """Return the seasonal naive with quantiles of its own errors over the series' past.

    The median is the naive value itself. With less than a week of errors, the differences from day to day stand
    in for them.
    """
    values = naive_values(past, targets)
    day = round(86_400 / past.step)
    lag = WEEK * day
    errors = past.values[lag:] - past.values[:-lag] if len(past) > lag else np.empty(0)
    if np.isfinite(errors).sum() < lag:
        errors = past.values[day:] - past.values[:-day] if len(past) > day else np.empty(0)
    errors = errors[np.isfinite(errors)]
    spread = np.quantile(errors, LEVELS) if len(errors) else np.zeros(len(LEVELS))
    spread = np.maximum.accumulate(spread - spread[MEDIAN])
    quantiles = values[:, None] + spread
    if len(past) and np.nanmin(past.values) >= 0:
        quantiles = np.maximum(quantiles, 0.0)
    return Fan(quantiles)
