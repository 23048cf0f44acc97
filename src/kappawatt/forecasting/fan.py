"""A forecast's quantiles, and the seasonal naive that every forecast is measured against and falls back to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import DAY, Times, same_local_time
from kappawatt.forecasting.history import Past

__all__ = [
    "LEVELS",
    "MEDIAN",
    "Fan",
    "Warned",
    "checked_levels",
    "interval_percent",
    "level_name",
    "level_text",
    "naive_fan",
    "naive_values",
]

Levels = tuple[float, ...]

LEVELS: Levels = tuple(round(0.05 * i, 2) for i in range(1, 20))  # 0.05 to 0.95, where a forecaster does not say
MEDIAN = LEVELS.index(0.5)
WEEK = 7  # days
MOST_WEEKS = 4


def checked_levels(levels: Levels) -> Levels:
    """Return quantile levels if they rise between 0 and 1, the median among them; SettingInvalid if not."""
    rise = all(low < high for low, high in pairwise((0.0, *levels, 1.0)))
    if not rise or 0.5 not in levels or any(round(level, 3) != level for level in levels):
        raise SettingInvalid.of("levels", levels, "levels of up to 3 digits that rise between 0 and 1, 0.5 among them")
    return levels


def level_name(level: float) -> str:
    """Return the field name of a quantile: `quantile_05`, `quantile_50`, `quantile_025` for 0.025."""
    return f"quantile_{level_text(level).removeprefix('0.')}"


def level_text(level: float) -> str:
    """Return a level as documents write it: `0.05`, `0.50`, `0.025`."""
    two = f"{level:.2f}"
    return two if round(level, 2) == level else f"{level:.3f}"


def interval_percent(levels: Levels) -> int:
    """Return how much the interval between the outer levels is to hold [%]: 90 of 0.05 to 0.95."""
    return round(100 * (levels[-1] - levels[0]))


@dataclass(frozen=True, slots=True)
class Warned:
    """What whoever relies on a forecast should know of it.

    Parameters
    ----------
    code : str
        For programs: `suspect`, `late`, `no_holidays`, `naive_closer`, `no_weather`, or one of a forecaster of one's
        own.
    detail : str
        For people.
    """

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Fan:
    """What a model says about the intervals of one series.

    Parameters
    ----------
    quantiles : ndarray of shape (n_targets, n_levels)
        At `levels`, not falling along the second axis. The point forecast is the median.
    day : mapping of str to ndarray of shape (n_levels,)
        Quantiles of figures of the target window as a whole.
    levels : tuple of float
        Rising, with 0.5 among them; the first and the last bound the interval that is named.
    warnings : tuple of Warned
        What whoever relies on it should know.
    """

    quantiles: NDArray[np.float64]
    day: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    levels: Levels = LEVELS
    warnings: tuple[Warned, ...] = ()

    @property
    def median(self) -> NDArray[np.float64]:
        """The point forecast, shape (n_targets,)."""
        result: NDArray[np.float64] = self.quantiles[:, self.levels.index(0.5)]
        return result

    @property
    def lower(self) -> NDArray[np.float64]:
        """The quantile at the lowest level, shape (n_targets,)."""
        result: NDArray[np.float64] = self.quantiles[:, 0]
        return result

    @property
    def upper(self) -> NDArray[np.float64]:
        """The quantile at the highest level, shape (n_targets,)."""
        result: NDArray[np.float64] = self.quantiles[:, -1]
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
        if not open_.any() or past.start > targets[-1] + DAY - WEEK * weeks * DAY:  # all is younger
            break
        found[open_] = past.at(same_local_time(targets[open_], past.time_zone, WEEK * weeks))
    return found


def naive_fan(past: Past, targets: Times, levels: Levels = LEVELS) -> Fan:
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
    spread = np.quantile(errors, levels) if len(errors) else np.zeros(len(levels))
    spread = np.maximum.accumulate(spread - spread[levels.index(0.5)])
    quantiles = values[:, None] + spread
    if len(past) and np.nanmin(past.values) >= 0:
        quantiles = np.maximum(quantiles, 0.0)
    return Fan(quantiles, levels=levels)
