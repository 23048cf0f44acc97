"""A sum in a backtest: forecast alone, its members' forecasts added up, and both reconciled, on the same intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import SettingInvalid
from kappawatt.evaluation.days import Day, interval_scores, point_scores
from kappawatt.forecasting.calendar import zone_meant
from kappawatt.forecasting.fan import Fan
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.reconciliation import fan_mean, reconcile

__all__ = ["WAYS", "check_sum", "score_sum"]

WAYS = ("alone", "added_up", "reconciled")


def check_sum(name: str, series: Sequence[SeriesFile]) -> None:
    """Refuse a sum that these series have not; SettingInvalid names what is at fault."""
    if len(series) < 2:
        raise SettingInvalid.of("--sum", f"{len(series)} series", "a file of two or more")
    first = series[0]
    for one in series:
        if one.key == name:
            raise SettingInvalid.of("--sum", repr(name), "a name that no series of the file has")
        if one.step != first.step:
            raise SettingInvalid.of("--sum", f"{one.key} every {one.step} s", f"{first.step} s, which {first.key} has")
        if zone_meant(one.time_zone) != zone_meant(first.time_zone):
            raise SettingInvalid.of(
                "--sum", f"{one.key} by the clock of {one.time_zone}", f"{first.time_zone}, which {first.key} has"
            )


def score_sum(days: Sequence[Day], name: str, forecaster: Forecaster) -> dict[str, Any]:
    """Return scores of a sum and its members before and after they are reconciled.

    Parameters
    ----------
    days : sequence of Day
        Of the members and the sum, each forecast for itself.
    name : str
        Key of the sum; all other days are its members'.
    forecaster : Forecaster
        What of its fans adds up.

    Returns
    -------
    dict
        `name`, `members` (their scores by key, `alone` and `reconciled`), `adds_up`, `days`, and `sum`: scores `alone`,
        `added_up` and `reconciled`, as `interval_scores` has them, and `mean_rmse` and `mean_bias` of the fan's mean.
        Added up are quantiles of one level, which makes an interval too wide unless all members err together. Only
        days that all were forecast for and intervals that all have a measurement of count.

    Raises
    ------
    SettingInvalid
        There is no such interval.
    """
    keys = [key for key in dict.fromkeys(day.key for day in days) if key != name]
    by_name = {(day.key, day.date): day for day in days if day.refused is None}
    dates = [day.date for day in days if day.key == name and all((key, day.date) in by_name for key in (*keys, name))]
    found: dict[tuple[str, str], list[Day]] = {}
    for date in dates:
        whole = by_name[name, date]
        own = [by_name[key, date] for key in keys]
        own = [replace(day, measured=np.where(np.isnan(whole.measured), np.nan, day.measured)) for day in own]
        added = np.sum([day.quantiles for day in own], axis=0)
        both = reconcile(
            _fan(whole),
            [_fan(day) for day in own],
            point=forecaster.adds_up,
            is_positive=forecaster.request.field(forecaster.target).minimum == 0,
        )
        found.setdefault((name, "alone"), []).append(whole)
        found.setdefault((name, "added_up"), []).append(replace(whole, quantiles=added))
        found.setdefault((name, "reconciled"), []).append(replace(whole, quantiles=both.total.quantiles))
        for day, fan in zip(own, both.members, strict=True):
            found.setdefault((day.key, "alone"), []).append(day)
            found.setdefault((day.key, "reconciled"), []).append(replace(day, quantiles=fan.quantiles))
    if not any(np.isfinite(day.measured).any() for day in found.get((name, "alone"), ())):
        raise SettingInvalid.of("--sum", "no interval that all series have a forecast and a measurement of", "one")
    scores = {who: _scores(own, forecaster.levels) for who, own in found.items()}
    return {
        "name": name,
        "adds_up": forecaster.adds_up,
        "days": len(dates),
        "sum": {way: scores[name, way] for way in WAYS},
        "members": {key: {way: scores[key, way] for way in ("alone", "reconciled")} for key in keys},
    }


def _fan(day: Day) -> Fan:
    return Fan(day.quantiles, levels=day.levels)


def _scores(days: Sequence[Day], levels: tuple[float, ...]) -> dict[str, Any]:
    measured = np.concatenate([day.measured for day in days])
    mean = fan_mean(np.concatenate([day.quantiles for day in days]), levels)
    known = np.isfinite(measured)
    of_mean = point_scores(measured[known], mean[known])
    return {**interval_scores(days, levels), "mean_rmse": of_mean["rmse"], "mean_bias": of_mean["bias"]}
