"""What a forecast finds suspect: next to nothing of real series, and what was made wrong on purpose.

`KAPPAWATT_DATA=FOLDER python -m bench.suspects [FILE ...]` prints four tables; some twenty minutes on one core. Each
noon of 2012 to 2016 the zones of PJM are looked through as a forecast of then would have done (of files of one's own
all noons). Then values are made wrong: at the end, in the middle, one and many, 40 times each, at noons drawn at
random; and what a spike in the newest hour costs the shipped model is measured. The last table is of newest hours that
are missing, in 2016, by a model of the years before: forecast from the last known value, and with the end filled.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before NumPy starts its threads

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets import named as datasets
from kappawatt.datasets.reading.read import read_file
from kappawatt.datasets.series import SeriesFile
from kappawatt.forecasting.calendar import DAY, day_intervals, issue_time, local_date, parse_clock
from kappawatt.forecasting.gaps import fill_gaps, fill_inside
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.suspects import CONTINUOUS, SuspectRules, without_suspects
from kappawatt.models.artifact import find_artifact
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.services.hourly_load.horizon_fit import fit_any_lead
from kappawatt.services.hourly_load.service import SERVICE
from kappawatt.settings import Settings
from kappawatt.streams import load

SPAN = ("2012-01-01", "2016-12-31")
TRIES = 40
HOURS = 24
ZONES = ("AEP", "DAYTON", "PJME")  # in the order of `load_zones`
YEAR = "2016-"
DAYS = 30
ENDS = (0, 1, 3, 12, 25, 72, 160)
EVERY = 6  # days between noons
NONE = SuspectRules(stuck=np.timedelta64(36_500, "D"), zeros=False, spreads=())
Vector = NDArray[np.float64]
Noons = list[tuple[History, NDArray[np.datetime64]]]


def end(hours: int) -> Callable[[int], slice]:
    """The newest hours."""
    return lambda n: slice(n - hours, n)


def middle(hours: int) -> Callable[[int], slice]:
    """Hours in the middle."""
    return lambda n: slice(n // 2, n // 2 + hours)


WRONG: dict[str, tuple[Callable[[int], slice], Callable[[Vector], Vector]]] = {
    "the newest hour ten times": (end(1), lambda v: v * 10),
    "the newest hour a tenth": (end(1), lambda v: v / 10),
    "an hour in the middle ten times": (middle(1), lambda v: v * 10),
    "an hour in the middle a tenth": (middle(1), lambda v: v / 10),
    "the newest six hours ten times": (end(6), lambda v: v * 10),
    "the newest day a tenth": (end(HOURS), lambda v: v / 10),
    "a day in the middle a thousand times": (middle(HOURS), lambda v: v * 1000),
    "the newest day zero": (end(HOURS), lambda v: v * 0),
    "a day in the middle zero": (middle(HOURS), lambda v: v * 0),
    "the newest 72 hours one value": (end(72), lambda v: v[:1].repeat(len(v))),
    "72 hours in the middle one value": (middle(72), lambda v: v[:1].repeat(len(v))),
}


def suspects(past: Past) -> NDArray[np.bool_]:
    """Which values of a past are suspect."""
    left = without_suspects(past, CONTINUOUS)
    return np.isnan(left.at(past.times)) & ~np.isnan(past.values)


def noons(history: History, series: SeriesFile) -> NDArray[np.datetime64]:
    """Issue times, one a day."""
    first, last = local_date(np.array([history.first, history.clock]), series.time_zone)
    if first < np.datetime64(SPAN[0]) < last:
        first, last = np.datetime64(SPAN[0], "D"), min(np.datetime64(SPAN[1], "D"), last)
    dates = np.arange(first + 30, last + 1) if first > np.datetime64(SPAN[0]) else np.arange(first, last + 1)
    return np.array([issue_time(date, parse_clock("12:00"), series.time_zone) for date in dates])


def known_at(history: History, moment: np.datetime64) -> Past:
    """What a forecast of that time looks back on."""
    past = history.until(moment)
    return past.last(int(FORECASTER.depth / past.interval))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.suspects", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--ends", action="store_true", help="Print the last table alone.")
    chosen = parser.parse_args(arguments)
    files = chosen.files
    every = list(datasets.load_zones(Settings.read().data).series)
    for file in files:
        every += read_file(file, stream=load.STREAM).series
    histories: Noons = []
    if chosen.ends:
        for series in every[: len(ZONES)]:
            history = History(series.key, series.time_zone, series.step)
            history.add(series.starts, series.values)
            histories.append((history, noons(history, series)))
        _table_of_ends(histories)
        return
    print("| series | noons | values looked at | suspect | of them, in the week before a noon |")
    print("| --- | ---: | ---: | ---: | --- |")
    for series in every:
        history = History(series.key, series.time_zone, series.step)
        history.add(series.starts, series.values)
        histories.append((history, noons(history, series)))
        found: set[np.datetime64] = set()
        newest: set[np.datetime64] = set()
        looked: set[np.datetime64] = set()
        for moment in histories[-1][1]:
            past = known_at(history, moment)
            times = past.times[suspects(past)]
            found.update(times)
            newest.update(times[times >= moment - 7 * DAY])
            looked.update((past.start, past.end))
        span = int((max(looked) - min(looked)) / np.timedelta64(series.step, "s"))
        says = ", ".join(f"{np.datetime_as_string(t, 'h')}" for t in sorted(newest)[:6]) or "none"
        print(f"| {series.key} | {len(histories[-1][1]):,} | {span:,} | {len(found)} | {says} |", flush=True)
    _table_of_wrong(histories)
    _table_of_costs(histories[: len(ZONES)])
    _table_of_ends(histories[: len(ZONES)])


def _table_of_wrong(histories: Noons) -> None:
    print("\n| made wrong | values | found suspect | right ones found suspect |")
    print("| --- | ---: | ---: | ---: |")
    random = np.random.default_rng(0)
    for name, (place, change) in WRONG.items():
        made = caught = others = 0
        for history, moments in histories:
            for moment in random.choice(moments, TRIES):
                past = known_at(history, moment)
                values = past.values.copy()
                part = place(len(values))
                values[part] = change(values[part])
                is_wrong = values != past.values
                off = suspects(replace(past, values=values)) & ~np.isnan(values)
                made, caught = made + int(is_wrong[part].sum()), caught + int((off & is_wrong).sum())
                others += int((off & ~is_wrong).sum()) - int(suspects(past).sum())
        print(f"| {name} | {made:,} | {100 * caught / made:.1f} % | {others} |", flush=True)


def _table_of_costs(histories: Noons) -> None:
    """What a spike in the newest hour costs the shipped model, with the rules and without."""
    fitted = FORECASTER.load(find_artifact(SERVICE.artifacts(Settings.read({}))))
    random = np.random.default_rng(1)
    print("\n| newest hour, 2016, noon | MAPE as it is [%] | spoilt, taken for missing | spoilt, believed |")
    print("| --- | ---: | ---: | ---: |")
    for (history, moments), zone in zip(histories, ZONES, strict=True):
        year = moments[np.char.startswith(np.datetime_as_string(moments), YEAR)][:-2]
        errors: dict[str, list[float]] = {"": [], "missing": [], "believed": []}
        for moment in random.choice(year, DAYS, replace=False):
            date = local_date(np.array([moment]), history.time_zone)[0] + 1
            targets = day_intervals(date, history.time_zone, history.step)
            truth = history.measured(targets)
            measured = np.array([truth.get(t, np.nan) for t in targets])
            past = history.until(moment)
            values = past.values.copy()
            values[-1] *= 10
            spoilt = replace(past, values=values)
            for name, given, suspect_rules in (
                ("", past, CONTINUOUS),
                ("missing", spoilt, CONTINUOUS),
                ("believed", spoilt, NONE),
            ):
                median = replace(FORECASTER, suspect_rules=suspect_rules).issue(fitted, given, targets).fan.median
                errors[name].append(float(np.nanmean(np.abs(median / measured - 1))))
        said = " | ".join(f"{100 * np.mean(each):.2f}" for each in errors.values())
        print(f"| {zone}, ten times | {said} |", flush=True)


def _table_of_ends(histories: Noons) -> None:
    """How good a forecast is whose newest hours are missing."""
    years = [(history, moments[np.datetime_as_string(moments, "Y") == YEAR[:4]]) for history, moments in histories]
    fitted = fit_any_lead([fill_inside(history.until(year[0])) for history, year in years])
    print("\n| newest hours missing, 2016, noon | MAPE [%] | 90 % holds | width [%] | filled: MAPE | holds | width |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for hours in ENDS:
        found: dict[bool, list[tuple[float, ...]]] = {False: [], True: []}
        for history, year in years:
            for moment in year[:-2:EVERY]:
                date = local_date(np.array([moment]), history.time_zone)[0] + 1
                targets = day_intervals(date, history.time_zone, history.step)
                truth = history.measured(targets)
                measured = np.array([truth.get(t, np.nan) for t in targets])
                past = known_at(history, moment)
                shorter = replace(past, values=past.values[: len(past) - hours])
                for is_filled, given in ((False, fill_inside(shorter)), (True, fill_gaps(shorter))):
                    fan = FORECASTER.forecast(fitted, given, targets)
                    low, high = fan.quantiles[:, 0], fan.quantiles[:, -1]
                    off = np.nanmean(np.abs(fan.median / measured - 1))
                    held = np.mean((low <= measured) & (measured <= high))
                    found[is_filled].append((off, held, np.nanmean((high - low) / measured)))
        said = " | ".join(f"{100 * value:.1f}" for rows in found.values() for value in np.mean(rows, axis=0))
        print(f"| {hours} | {said} |", flush=True)


if __name__ == "__main__":
    main()
