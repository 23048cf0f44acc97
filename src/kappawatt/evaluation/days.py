"""Days that were forecast in a backtest, and their scores together, by month and by series."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.fan import LEVELS, interval_percent
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.models.scores import coverage, crps, mae, mape, mean_width, pinball, rmse, smape

__all__ = ["Day", "interval_scores", "point_scores", "score_days"]

DIGITS = 7


@dataclass(frozen=True, slots=True)
class Day:
    """One forecast of one series, that for a day: what it said, what the seasonal naive said, what was measured.

    Parameters
    ----------
    targets : ndarray of datetime64[ms], shape (n,)
    measured : ndarray of shape (n,)
        NaN where the file has none.
    quantiles, naive : ndarray of shape (n, n_levels)
        Empty where the forecast was refused.
    figures : mapping of str to ndarray of shape (n_levels,)
        Quantiles of figures of the whole day.
    fallback, refused : str or None
        Why the naive stood in, or why there is no forecast.
    without_weather : ndarray of shape (n, n_levels)
        What the same model said without the weather; empty where there was none.
    """

    key: str
    date: np.datetime64
    targets: Times
    measured: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    naive: NDArray[np.float64]
    figures: Mapping[str, NDArray[np.float64]]
    filled: int
    fallback: str | None
    refused: str | None
    levels: tuple[float, ...] = LEVELS
    without_weather: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def median(self) -> NDArray[np.float64]:
        """The point forecast, shape (n,)."""
        result: NDArray[np.float64] = self.quantiles[:, self.levels.index(0.5)]
        return result

    @property
    def naive_median(self) -> NDArray[np.float64]:
        """The seasonal naive itself, shape (n,)."""
        result: NDArray[np.float64] = self.naive[:, self.levels.index(0.5)]
        return result

    def to_json(self) -> dict[str, Any]:
        """Return the line that is kept of it."""
        return {
            "key": self.key,
            "date": str(self.date),
            "targets": self.targets.astype(np.int64).tolist(),
            "measured": _numbers(self.measured),
            "quantiles": [_numbers(row) for row in self.quantiles],
            "naive": [_numbers(row) for row in self.naive],
            "figures": {name: _numbers(figure) for name, figure in self.figures.items()},
            "filled": self.filled,
            "fallback": self.fallback,
            "refused": self.refused,
            "without_weather": [_numbers(row) for row in self.without_weather],
        }

    @staticmethod
    def from_json(line: Mapping[str, Any], levels: tuple[float, ...] = LEVELS) -> Day:
        """Read a kept line of a forecaster with these levels; ValueError if its quantiles are at others."""
        return Day(
            line["key"],
            np.datetime64(line["date"], "D"),
            np.array(line["targets"], dtype="datetime64[ms]"),
            np.array(line["measured"], dtype=np.float64),
            np.array(line["quantiles"], dtype=np.float64).reshape(-1, len(levels)),
            np.array(line["naive"], dtype=np.float64).reshape(-1, len(levels)),
            {name: np.array(figure, dtype=np.float64) for name, figure in line["figures"].items()},
            line["filled"],
            line["fallback"],
            line["refused"],
            levels,
            np.array(line["without_weather"], dtype=np.float64).reshape(-1, len(levels)),
        )


def score_days(days: Sequence[Day], forecaster: Forecaster) -> dict[str, Any]:
    """Return scores of all days together, by month and by series.

    `mape` and `smape` are in percent, coverage from 0 to 1, all others in the unit of the series; `coverage_90` and
    `width_90` are of a 90 % interval, and are named after what the outer levels hold. `rmae` and `rcrps` are MAE and
    CRPS over those of the seasonal naive on the same intervals; of several series, the mean of each series' own.
    """
    answered = [day for day in days if day.refused is None]
    if not any(np.isfinite(day.measured).any() for day in answered):
        raise SettingInvalid("--from, --to: got no day with both a forecast and a measurement")
    keys = list(dict.fromkeys(day.key for day in days))
    levels = forecaster.levels
    by_series = {key: interval_scores([day for day in answered if day.key == key], levels) for key in keys}
    months = sorted({str(day.date)[:7] for day in answered})
    scores = interval_scores(answered, levels)
    if len(keys) > 1:
        for ratio in ("rmae", "rcrps"):
            known = [s[ratio] for s in by_series.values() if s.get(ratio) is not None]
            scores[ratio] = float(np.mean(known)) if known else None
    return {
        **scores,
        "days": len(answered),
        "refused_days": len(days) - len(answered),
        "fallback_days": sum(day.fallback is not None for day in answered),
        "months": {
            month: interval_scores([day for day in answered if str(day.date)[:7] == month], levels) for month in months
        },
        "by_series": by_series if len(keys) > 1 else {},
        "day_figures": _figure_scores(answered, levels),
        "weather_brought": _weather_scores(answered, levels),
    }


def interval_scores(days: Sequence[Day], levels: tuple[float, ...]) -> dict[str, Any]:
    """Return scores of all intervals of days that were answered; `n` alone if none was measured."""
    if not days:
        return {"n": 0}
    measured = np.concatenate([day.measured for day in days])
    known = np.isfinite(measured)
    measured = measured[known]
    quantiles = np.concatenate([day.quantiles for day in days])[known]
    naive = np.concatenate([day.naive for day in days])[known]
    if not len(measured):
        return {"n": 0}
    median, percent = levels.index(0.5), interval_percent(levels)
    point, lower, upper = quantiles[:, median], quantiles[:, 0], quantiles[:, -1]
    has_naive = np.isfinite(naive).all(axis=1)
    ratios: dict[str, float | None] = {"rmae": None, "rcrps": None}
    if has_naive.any():
        m, q, s = measured[has_naive], quantiles[has_naive], naive[has_naive]
        ratios["rmae"] = _ratio(mae(m, q[:, median]), mae(m, s[:, median]))
        ratios["rcrps"] = _ratio(crps(m, q, levels), crps(m, s, levels))
        ratios["naive_mae"] = mae(m, s[:, median])
        ratios["naive_mape"] = _finite(mape(m, s[:, median]))
    return {
        "n": len(measured),
        **point_scores(measured, point),
        **ratios,
        "pinball": pinball(measured, quantiles, levels),
        "crps": crps(measured, quantiles, levels),
        f"coverage_{percent}": coverage(measured, lower, upper),
        f"width_{percent}": mean_width(lower, upper),
    }


def _weather_scores(days: Sequence[Day], levels: tuple[float, ...]) -> dict[str, Any] | None:
    """Scores with and without weather, of the same model on the same intervals; None if there was no weather."""
    own = [day for day in days if len(day.without_weather)]
    if not own:
        return None
    with_it, without = (
        interval_scores(own, levels),
        interval_scores([replace(d, quantiles=d.without_weather) for d in own], levels),
    )
    return {"with": with_it, "without": without} if with_it["n"] else None


def point_scores(measured: NDArray[np.float64], point: NDArray[np.float64]) -> dict[str, float | None]:
    """Return scores of point forecasts, of shape (n,) as what was measured."""
    return {
        "mae": mae(measured, point),
        "rmse": rmse(measured, point),
        "bias": float(np.mean(point - measured)),
        "mape": _finite(mape(measured, point)),
        "smape": smape(measured, point),
    }


FIGURES: Mapping[str, Callable[[NDArray[np.float64]], float]] = {
    "daily_consumption": lambda values: float(np.sum(values)),
    "daily_peak": lambda values: float(np.max(values)),
}


def _figure_scores(days: Sequence[Day], levels: tuple[float, ...]) -> dict[str, Any]:
    """Scores of figures of the whole day, on days that are known completely, against those of the naive day."""
    found: dict[str, Any] = {}
    median = levels.index(0.5)
    for name in dict.fromkeys(name for day in days for name in day.figures):
        figure = FIGURES[name]
        own = [d for d in days if name in d.figures and np.isfinite(d.measured).all() and np.isfinite(d.naive).all()]
        if not own:
            continue
        measured = np.array([figure(day.measured) for day in own])
        quantiles = np.array([day.figures[name] for day in own])
        naive = np.array([figure(day.naive_median) for day in own])
        ratios = []
        for key in dict.fromkeys(day.key for day in own):
            rows = np.array([day.key == key for day in own])
            ratios.append(_ratio(mae(measured[rows], quantiles[rows, median]), mae(measured[rows], naive[rows])))
        known = [ratio for ratio in ratios if ratio is not None]
        found[name] = {
            "n": len(own),
            "mae": mae(measured, quantiles[:, median]),
            "mape": _finite(mape(measured, quantiles[:, median])),
            "rmae": float(np.mean(known)) if known else None,
            "crps": crps(measured, quantiles, levels),
            f"coverage_{interval_percent(levels)}": coverage(measured, quantiles[:, 0], quantiles[:, -1]),
        }
    return found


def _ratio(own: float, naive: float) -> float | None:
    return own / naive if naive > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in values.tolist()]
