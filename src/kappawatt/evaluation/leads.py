"""A backtest by lead: how good the next hour is, the hours after it, and the days after those.

The lead of an interval is the time from the newest value to its end: 1 h of the next hour. At a lead of so many hours
each interval of the span is forecast that long before it ends, whatever the hour of the day, as a worker does that
updates its forecast with each reading. Days ahead are forecast whole at the issue time, as one does that issues once a
day: the first day is that of the ordinary backtest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import HistoryInsufficient, SettingInvalid
from kappawatt.evaluation.backtest import (
    Fit,
    Kept,
    Plan,
    Result,
    check_span,
    forecast_day,
    history_of_file,
    said_of_run,
    train_for,
)
from kappawatt.evaluation.days import Day, score_days
from kappawatt.forecasting.calendar import HOUR, day_intervals, issue_time, parse_clock
from kappawatt.forecasting.fan import naive_fan
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import History

__all__ = ["ALL", "DAYS_AHEAD", "HOURS_AHEAD", "days_at_leads", "leads_of", "lines_of", "run_leads"]

ALL = "all"
HOURS_AHEAD = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 24.0)
TOGETHER = (1.0, 2.0, 3.0, 4.0)  # one line for the next hours as a whole
DAYS_AHEAD = 7
SCORES = ("n", "mae", "rmse", "mape", "smape", "rmae", "crps", "rcrps", "coverage_", "width_")  # of a line of the table


def leads_of(text: str, forecaster: Forecaster, step: int) -> tuple[float, ...]:
    """Return the leads [h] that `--lead` means for a series of a length of interval [s].

    Raises
    ------
    SettingInvalid
        It is neither `all` nor a lead that the model forecasts.
    """
    least, most = step / 3600, forecaster.window.longest_lead / HOUR
    if not forecaster.window.within_day:
        raise SettingInvalid(f"--lead: {forecaster.name} forecasts {forecaster.window.says} at its issue times alone")
    if text == ALL:
        return HOURS_AHEAD
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not least <= hours <= most or hours * 3600 % step:
        raise SettingInvalid(
            f"--lead: got {text!r}, allowed {ALL}, or {least:g} to {most:g} h in whole steps of {step} s"
        )
    return (hours,)


def run_leads(
    forecaster: Forecaster,
    fit: Fit,
    series: Sequence[SeriesFile],
    plan: Plan,
    lead: str,
    *,
    folder: Path,
    fingerprint: str,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Result:
    """Evaluate by lead.

    Parameters
    ----------
    fit : callable
        To a model of any lead.
    lead : str
        `all`, or hours.
    series, plan, folder, fingerprint, progress
        As `run_backtest` takes them.

    Returns
    -------
    Result
        With `leads`, a line of scores for each; its own scores are those of the lead, of `all` of the first day ahead.

    Raises
    ------
    SettingInvalid
        The model cannot be asked for this lead, or the span has no day in the data.
    """
    hours = leads_of(lead, forecaster, max(one.step for one in series))
    ahead = range(1, DAYS_AHEAD + 1) if lead == ALL else ()
    clock = parse_clock(plan.issue)
    histories = [history_of_file(one, plan) for one in series]
    check_span(histories, plan)
    total = len(plan.dates) * len(histories)
    began = monotonic()
    with ExitStack() as stack:
        kept = {
            name: stack.enter_context(closing(Kept(folder, f"{fingerprint} {name}", plan, forecaster.levels)))
            for name in (*map(_of_hours, hours), *map(_of_day, ahead))
        }
        done = 0
        for dates in plan.periods():
            left = [(h, d) for d in dates for h in histories if not all(one.has(h.key, d) for one in kept.values())]
            done += len(dates) * len(histories) - len(left)
            if not left:
                progress(done, total, "kept from before")
                continue
            say = partial(progress, done, total)
            fitted = train_for(fit, histories, dates[0], clock, forecaster.suspect_rules, say)
            for history, date in left:
                for name, day in days_at_leads(forecaster, fitted, history, date, clock, hours, ahead).items():
                    if not kept[name].has(day.key, day.date):
                        kept[name].add(day)
                done += 1
                progress(done, total, f"{date}")
        days = {name: one.days() for name, one in kept.items()}
    first = _of_day(1) if ahead else _of_hours(hours[0])
    about = said_of_run(forecaster, plan, histories, monotonic() - began)
    lines = lines_of(days, forecaster, hours, ahead)
    scores = {**about, "lead": lead, **score_days(days[first], forecaster), "leads": lines}
    return Result(plan, days[first], scores, forecaster.levels)


def _of_hours(hours: float) -> str:
    return f"{hours:g} h"


def _of_day(number: int) -> str:
    return f"day {number}"


def lines_of(
    days: Mapping[str, Sequence[Day]], forecaster: Forecaster, hours: Sequence[float], ahead: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a line of scores for each lead of which anything was answered."""
    groups = {_of_hours(lead): [_of_hours(lead)] for lead in hours}
    if set(TOGETHER) < set(hours):
        groups[f"{TOGETHER[0]:g} to {TOGETHER[-1]:g} h"] = [_of_hours(lead) for lead in TOGETHER]
    groups |= {_of_day(number): [_of_day(number)] for number in ahead}
    lines = []
    for name, members in groups.items():
        own = [day for member in members for day in days[member]]
        if not any(np.isfinite(day.measured).any() for day in own if day.refused is None):
            continue  # all of it was refused
        scores = score_days(own, forecaster)
        lines.append({"lead": name, **{key: value for key, value in scores.items() if key.startswith(SCORES)}})
    return lines


def days_at_leads(
    forecaster: Forecaster,
    fitted: Any,
    history: History,
    date: np.datetime64,
    clock: np.timedelta64,
    hours: Sequence[float],
    ahead: Sequence[int],
) -> dict[str, Day]:
    """Return a local day as it was forecast at each lead, by the lead's name.

    Parameters
    ----------
    clock : timedelta64
        Local clock time that days ahead are issued at.
    hours : sequence of float
    ahead : sequence of int
        Days ahead; 1 is the day that the ordinary backtest forecasts.
    """
    found = {
        _of_day(number): forecast_day(
            forecaster, fitted, history, date, issue_time(date - (number - 1), clock, history.time_zone)
        )
        for number in ahead
    }
    return {**found, **_at_hours(forecaster, fitted, history, date, hours)}


def _at_hours(
    forecaster: Forecaster, fitted: Any, history: History, date: np.datetime64, hours: Sequence[float]
) -> dict[str, Day]:
    targets = day_intervals(date, history.time_zone, history.step)
    interval = np.timedelta64(history.step * 1000, "ms")
    issues = {lead: targets + interval - np.timedelta64(round(lead * 3_600_000), "ms") for lead in hours}
    truth = history.measured(targets)
    shape = len(targets), len(forecaster.levels)
    quantiles, naive = ({lead: np.full(shape, np.nan) for lead in hours} for _ in range(2))
    fallback: dict[float, str | None] = dict.fromkeys(hours)
    refused: dict[float, str | None] = dict.fromkeys(hours)
    filled = dict.fromkeys(hours, 0)
    for moment in np.unique(np.concatenate(list(issues.values()))):
        own = {lead: np.flatnonzero(issues[lead] == moment) for lead in hours}
        asked = np.unique(np.concatenate(list(own.values())))
        places = {lead: np.searchsorted(asked, place) for lead, place in own.items() if len(place)}
        try:
            issued = forecaster.issue(fitted, history.until(moment), targets[asked])
        except HistoryInsufficient as error:
            refused |= dict.fromkeys(places, str(error))
            continue
        by_naive = naive_fan(issued.past, targets[asked], forecaster.levels).quantiles
        for lead, place in places.items():
            quantiles[lead][own[lead]] = issued.fan.quantiles[place]
            naive[lead][own[lead]] = by_naive[place]
            fallback[lead] = issued.fallback or fallback[lead]
            filled[lead] = max(filled[lead], issued.filled)
    found = {}
    for lead in hours:
        answered = np.isfinite(quantiles[lead]).all(axis=1)
        measured = np.where(answered, [truth.get(t, np.nan) for t in targets], np.nan)
        nothing = np.empty((0, len(forecaster.levels)))
        has_answer = bool(answered.any())
        found[_of_hours(lead)] = Day(
            history.key,
            date,
            targets,
            measured,
            quantiles[lead] if has_answer else nothing,
            naive[lead] if has_answer else nothing,
            {},
            filled[lead],
            fallback[lead],
            None if has_answer else refused[lead],
            forecaster.levels,
        )
    return found
