"""Forecasts at every length of interval: error against the seasonal naive, coverage of the 90 % interval, time.

`KAPPAWATT_DATA=FOLDER python -m bench.steps [load] [households] [meters]` prints a table of each part asked for, of all
if none is. Some fifteen minutes on one core.

- `load`: a SYNTHETIC zone, the same by formula at 5, 15, 30 and 60 minutes in two time zones, 60 days; the model is
  fitted once to what lies before. The noise is 1 %, so no forecast can have an error below 0.8 %. Then one fit to zones
  of all four lengths together, and the shipped model.
- `households`: the half hours of the London households, added up to a small zone [kW]: real, and rough.
- `meters`: the real meters by the hour, forecast by a model of the other meters at their own 15 and 30 minutes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before NumPy starts its threads

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from kappawatt.datasets import named as datasets
from kappawatt.datasets.series import SeriesFile
from kappawatt.forecasting.calendar import HOUR, Times, day_intervals, day_start, issue_time, parse_clock, to_local
from kappawatt.forecasting.fan import naive_values
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.history import History, Past
from kappawatt.models.artifact import find_artifact
from kappawatt.models.scores import coverage, crps, mae, mean_width
from kappawatt.services.hourly_load.forecaster import FORECASTER as LOAD
from kappawatt.services.hourly_load.model import fit as fit_load
from kappawatt.services.smart_meter.forecaster import FORECASTER as METER
from kappawatt.services.smart_meter.model import fit as fit_meters
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings

ZONES = ("Europe/Berlin", "Asia/Kolkata")
CLOCKS = ("12:00", "00:00")
SPAN = ("2018-05-02", "2018-06-30")  # of the synthetic zone
FIRST = "2015-01-01"
MEAN = 10_000.0  # MW
NOISE = 0.01
TESTS = {900: ("2022-10-01", "2022-11-30"), 1800: ("2013-10-01", "2013-12-31")}  # Texas, London
SECONDS = 3600


@dataclass(frozen=True)
class Score:
    """How one series was forecast over a span."""

    mae: float  # percent of the mean
    naive: float
    rmae: float
    crps: float
    covered: float
    width: float
    seconds: float  # of processor time a forecast


def synthetic_zone(zone: str, step: int) -> History:
    """Return load(t) = mean * d * w * s * (1 + noise) of the local clock."""
    first, end = day_start(np.array([FIRST, np.datetime64(SPAN[1]) + 1], "datetime64[D]"), zone)
    times = np.arange(first, end, np.timedelta64(step, "s"))
    local = to_local(times, zone)
    days = local.astype("datetime64[D]")
    h = (local - days) / HOUR
    day = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1
    d = 1 + 0.18 * np.sin(2 * np.pi * (h - 8) / 24) + 0.05 * np.sin(4 * np.pi * (h - 8) / 24)
    w = np.where((days.astype(np.int64) + 3) % 7 >= 5, 0.85, 1.0)
    s = 1 + 0.08 * np.cos(2 * np.pi * (day - 15) / 365)
    noise = NOISE * np.random.default_rng(step).standard_normal(len(times))
    history = History(f"{zone}-{step}", zone, step)
    history.add(times, MEAN * d * w * s * (1 + noise))
    return history


def past_until(history: History, date: str, clock: str = "00:00") -> Past:
    """What was known when the forecast for a day was issued, as training sees it."""
    return fill_inside(history.until(issue_time(np.datetime64(date, "D"), parse_clock(clock), history.time_zone)))


def scored(forecaster: Forecaster, fitted: Any, history: History, span: tuple[str, str], clock: str) -> Score:
    """Forecast each day of a span and score it."""
    rows: list[tuple[Any, Any, Any]] = []
    busy, days = 0.0, np.arange(span[0], np.datetime64(span[1]) + 1, dtype="datetime64[D]")
    for date in days:
        issue = issue_time(date, parse_clock(clock), history.time_zone)
        targets = day_intervals(date, history.time_zone, history.step)
        truth = history.measured(targets)
        measured = np.array([truth.get(t, np.nan) for t in targets])
        past = history.until(issue)
        begin = process_time()
        issued = forecaster.issue(fitted, past, targets)
        busy += process_time() - begin
        has = np.isfinite(measured)
        rows.append((measured[has], issued.fan.quantiles[has], naive_values(issued.past, targets)[has]))
    measured, quantiles, naive = (np.concatenate(column) for column in zip(*rows, strict=True))
    mean = float(np.abs(measured).mean()) / 100
    known = np.isfinite(naive)
    own, other = mae(measured, quantiles[:, forecaster.levels.index(0.5)]), mae(measured[known], naive[known])
    lower, upper = quantiles[:, 0], quantiles[:, -1]
    return Score(
        own / mean,
        other / mean,
        own / other,
        crps(measured, quantiles, forecaster.levels) / mean,
        coverage(measured, lower, upper),
        mean_width(lower, upper) / mean,
        busy / len(days),
    )


def shipped(service: str, forecaster: Forecaster) -> Any:
    """Return the fitted model that comes with a service."""
    return forecaster.load(find_artifact(find_service(service).artifacts(Settings.read({}))))


def show(name: str, score: Score) -> None:
    """Print one row of a table."""
    print(
        f"| {name} | {score.mae:.2f} | {score.naive:.2f} | {score.rmae:.3f} | {score.crps:.2f} "
        f"| {100 * score.covered:.1f} | {score.width:.1f} | {1000 * score.seconds:.0f} |",
        flush=True,
    )


def head(title: str) -> None:
    """Print the head of a table."""
    print(f"\n{title}\n")
    print("| | MAE [% of the mean] | naive [%] | rMAE | CRPS [%] | 90 % holds [%] | width [%] | ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")


def load() -> None:
    """The synthetic zone at every length."""
    head("SYNTHETIC zone, fitted to what lies before")
    for zone in ZONES:
        for step in reversed(LOAD.steps):
            history = synthetic_zone(zone, step)
            fitted = fit_load([past_until(history, SPAN[0], "12:00")])
            for clock in CLOCKS:
                show(f"{zone}, {step // 60} min, {clock}", scored(LOAD, fitted, history, SPAN, clock))
    for title, fitted in (
        ("SYNTHETIC zones of all lengths, one fit to all of them together", None),
        ("SYNTHETIC zone, the shipped model", shipped("hourly-load", LOAD)),
    ):
        head(title)
        histories = [synthetic_zone(ZONES[0], step) for step in reversed(LOAD.steps)]
        fitted = fitted or fit_load([past_until(history, SPAN[0], "12:00") for history in histories])
        for history in histories:
            for clock in CLOCKS:
                show(f"{history.step // 60} min, {clock}", scored(LOAD, fitted, history, SPAN, clock))


def real_meters() -> list[SeriesFile]:
    """Return the meters of KAPPAWATT_DATA that count what is drawn."""
    folder = Path(os.environ["KAPPAWATT_DATA"])
    return [one for one in datasets.meters(folder).series if not one.key.endswith(":surplus")]


def history_of(one: SeriesFile) -> History:
    """Return a file's series as it stands."""
    history = History(one.key, one.time_zone, one.step)
    history.add(one.starts, one.values)
    return history


def by_the_hour(history: History) -> History:
    """Return energies added up to hours of the local clock; one of which a part is missing is missing."""
    past = history.until(history.known_until())
    n = SECONDS // past.step
    wall = to_local(np.array([past.start]), past.time_zone).astype(np.int64)[0]
    skip = int(-wall % (SECONDS * 1000)) // (past.step * 1000)
    count = (len(past) - skip) // n
    hours = History(history.key, history.time_zone, SECONDS)
    starts: Times = past.start + skip * past.interval + np.arange(count) * HOUR
    hours.add(starts, past.values[skip : skip + count * n].reshape(count, n).sum(axis=1))
    return hours


def households() -> None:
    """The London households, added up to a zone."""
    files = [one for one in real_meters() if one.step == 1800]
    starts = files[0].starts
    for one in files[1:]:
        starts = np.intersect1d(starts, one.starts)
    total = np.zeros(len(starts))
    for one in files:
        total += history_of(one).until(np.datetime64("2100-01-01", "ms")).at(starts)
    history = History("London", files[0].time_zone, 1800)
    history.add(starts, 2 * total)  # kWh of half an hour to kW
    head(f"{len(files)} London households as one zone of half hours, fitted to what lies before")
    hours = by_the_hour(history)
    past = hours.until(hours.known_until())
    hours = History("London", history.time_zone, SECONDS)
    hours.add(past.times, past.values / 2)
    for name, series in (("30 min", history), ("60 min", hours)):
        fitted = fit_load([past_until(series, TESTS[1800][0], "12:00")])
        for clock in CLOCKS:
            show(f"{name}, {clock}", scored(LOAD, fitted, series, TESTS[1800], clock))


def meters() -> None:
    """Real meters by the hour, by a model that has seen neither them nor an hour."""
    files = real_meters()
    found: dict[str, list[Score]] = {"as published": [], "by the hour": []}
    head("Real meters, by a model of the other four at their 15 and 30 minutes, issued when the day begins")
    for one in files:
        others = [past_until(history_of(other), "2023-06-01") for other in files if other is not one]
        fitted = fit_meters(others)
        own = history_of(one)
        for name, history in (("as published", own), ("by the hour", by_the_hour(own))):
            score = scored(METER, fitted, history, TESTS[one.step], "00:00")
            found[name].append(score)
            show(f"{one.key}, {name}", score)
    for name, scores in found.items():
        means = {field: float(np.mean([getattr(s, field) for s in scores])) for field in Score.__dataclass_fields__}
        show(f"**mean, {name}**", replace(scores[0], **means))


PARTS: dict[str, Callable[[], None]] = {"load": load, "households": households, "meters": meters}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    for part in parser.parse_args(arguments).parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
