"""What a peer is given: one file of series and folds, made from the same histories as our own backtest reads.

A fold is one local day of one series as it was issued: how many values were known then (`cut`), where after them the
day's intervals lie (`ahead`), and how many were known when the model of its period was trained (`train_cut`). Values
are as they were known at the issue time, gaps filled as in the service. Where the fill of a fold differs from the
series' (a gap at its end), the fold carries the values that differ (`patched`), so that nothing later leaks in.
With weather, the series carries the measured temperature and each fold what was known then of the hours to come, which
a peer that takes weather reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import HistoryInsufficient
from kappawatt.evaluation.backtest import Plan, history_of_file
from kappawatt.evaluation.days import Day
from kappawatt.forecasting.calendar import Instant, Times, day_intervals, issue_time, parse_clock, to_local
from kappawatt.forecasting.fan import LEVELS
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.gaps import fill_gaps
from kappawatt.forecasting.history import History, Past

__all__ = ["Folds", "folds_of", "job"]

Vector = NDArray[np.float64]
STATION = "temperature"  # of which a file may have several


@dataclass(frozen=True, slots=True)
class Folds:
    """The days of one series that every method forecasts.

    Parameters
    ----------
    history : History
    days : tuple of Day
        Measured values and the seasonal naive, which stands in `quantiles` as well.
    pasts, trained : tuple of Past
        What was known, gaps filled, when each day was issued and when its model was trained.
    """

    history: History
    days: tuple[Day, ...]
    pasts: tuple[Past, ...]
    trained: tuple[Past, ...]


def folds_of(one: SeriesFile, plan: Plan, forecaster: Forecaster, every: int = 1) -> Folds:
    """Return every `every`-th day of the plan that the seasonal naive can answer.

    Parameters
    ----------
    forecaster : Forecaster
        Its `issue` without a model is the seasonal naive, by the rules of the service.
    """
    history = history_of_file(one, plan)
    clock = parse_clock(plan.issue)
    days, pasts, trained = [], [], []
    wanted = set(plan.dates[::every].tolist())
    for period in plan.periods():
        train = fill_gaps(history.until(issue_time(period[0], clock, one.time_zone)))
        for date in period:
            if date.item() not in wanted:
                continue
            past = history.until(issue_time(date, clock, one.time_zone))
            targets = day_intervals(date, one.time_zone, one.step)
            try:
                issued = forecaster.issue(None, past, targets)
            except HistoryInsufficient:
                continue  # our backtest refuses the day too, and scores it nowhere
            naive = issued.fan.quantiles
            known = history.measured(targets)
            measured = np.array([known.get(t, np.nan) for t in targets])
            days.append(Day(one.key, date, targets, measured, naive, naive, {}, issued.filled, None, None))
            pasts.append(fill_gaps(past))
            trained.append(train)
    return Folds(history, tuple(days), tuple(pasts), tuple(trained))


def job(series: Sequence[Folds], *, wall_clock: bool) -> dict[str, Any]:
    """Return what a peer's program reads.

    Parameters
    ----------
    wall_clock : bool
        Whether the grid follows the wall clock, for libraries that know no time zone: the hour skipped in spring is
        interpolated, the repeated one is the mean of both, so that a season of 24 hours stays one.
    """
    grid = _wall if wall_clock else _utc
    document: dict[str, Any] = {"levels": LEVELS, "series": [], "folds": []}
    for folds in series:
        if not folds.pasts or folds.history.clock is None:
            continue
        whole = fill_gaps(folds.history.until(max(folds.history.clock, folds.pasts[-1].issue_time)))
        start, values = grid(whole)
        document["series"].append(
            {
                "key": whole.key,
                "time_zone": whole.time_zone,
                "step": whole.step,
                "start": int(start.astype(np.int64)),
                "values": [float(f"{v:.9g}") for v in values],
                "temperature": _temperature(whole, 0, len(whole)),
            }
        )
        document["folds"] += _folds(folds, grid, start, values)
    return document


def _folds(folds: Folds, grid: Any, start: Instant, values: Vector) -> Iterator[dict[str, Any]]:
    for day, past, trained in zip(folds.days, folds.pasts, folds.trained, strict=True):
        _, known = grid(past)
        cut = len(known)
        targets = to_local(day.targets, past.time_zone) if grid is _wall else day.targets
        ahead = (targets - start) // past.interval - cut
        differ = np.flatnonzero(known != values[:cut])
        yield {
            "key": day.key,
            "date": str(day.date),
            "cut": cut,
            "train_cut": len(grid(trained)[1]),
            "ahead": ahead.astype(np.int64).tolist(),
            "patched": [[int(i), float(known[i])] for i in differ],
            "temperature": _temperature(past, len(past), int(ahead.max()) + 1),
        }


def _temperature(past: Past, begin: int, count: int) -> list[float | None]:
    """Mean temperature of the stations in intervals of UTC, as it is known then [degC]; empty without any."""
    stations = [column[begin : begin + count] for name, column in past.covariates.items() if name.startswith(STATION)]
    if not stations:
        return []
    mean = np.full(count, np.nan)
    columns = np.array([np.concatenate([one, np.full(count - len(one), np.nan)]) for one in stations])
    here = np.isfinite(columns).any(axis=0)
    mean[here] = np.nanmean(columns[:, here], axis=0)
    return [None if np.isnan(one) else round(float(one), 3) for one in mean]


def _utc(past: Past) -> tuple[Instant, Vector]:
    return past.start, past.values


def _wall(past: Past) -> tuple[Instant, Vector]:
    """The values by wall clock, evenly spaced, and the wall-clock time of the first."""
    wall: Times = to_local(past.times, past.time_zone)
    place = ((wall - wall[0]) // past.interval).astype(np.int64)
    n = int(place.max()) + 1
    counts = np.bincount(place, minlength=n)
    sums = np.bincount(place, weights=past.values, minlength=n)
    known = np.flatnonzero(counts)
    values = np.interp(np.arange(n), known, sums[known] / counts[known])
    return wall[0], values
