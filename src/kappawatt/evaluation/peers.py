"""Somebody's forecast that a file holds beside its measurements, scored where the model was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.series import SeriesFile
from kappawatt.evaluation.days import Day, point_scores

__all__ = ["forecast_at", "score_peers"]


def forecast_at(series: SeriesFile, name: str, days: Sequence[Day]) -> NDArray[np.float64]:
    """Return what the file's column `name` says of the days' intervals, shape (n,); NaN where it says nothing."""
    known = np.isfinite(series.forecasts[name])
    said = dict(zip(series.starts[known].tolist(), series.forecasts[name][known].tolist(), strict=True))  # newest last
    return np.array([said.get(target, np.nan) for day in days for target in day.targets.tolist()])


def score_peers(days: Sequence[Day], series: Sequence[SeriesFile]) -> list[dict[str, Any]]:
    """Return scores of each forecast that the series have beside their values, and the model's on the same intervals.

    Returns
    -------
    list of dict
        `series`, `forecast` (the column's name), `n`, and `peer` and `model` with `mae`, `rmse`, `bias`, `mape` and
        `smape` as `score_days` has them. Forecasts of intervals that were not measured, or not forecast by the model,
        do not count.
    """
    found = []
    for one in series:
        own = [day for day in days if day.key == one.key and day.refused is None]
        if not own:
            continue
        measured = np.concatenate([day.measured for day in own])
        model = np.concatenate([day.median for day in own])
        for name in one.forecasts:
            peer = forecast_at(one, name, own)
            both = np.isfinite(measured) & np.isfinite(peer)
            if both.any():
                scores: Mapping[str, Any] = {
                    "peer": point_scores(measured[both], peer[both]),
                    "model": point_scores(measured[both], model[both]),
                }
                found.append({"series": one.key, "forecast": name, "n": int(both.sum()), **scores})
    return found
