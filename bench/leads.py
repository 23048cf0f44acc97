"""How good a forecast is at each lead, from the next hour to seven days ahead.

`KAPPAWATT_DATA=FOLDER python -m bench.leads [ZONE ...]` prints two tables of PJM's zones: every twelfth day of 2016, by
a model of the years before, fitted once. Hours are as a worker has them that updates its forecast with each reading,
days as one that issues at noon. The first table is the lead by itself, the second how days join: how far off the step
from one hour to the next is at midnight and elsewhere.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before NumPy starts its threads

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from kappawatt.datasets import named as datasets
from kappawatt.evaluation.leads import DAYS_AHEAD, HOURS_AHEAD, days_at_leads, lines_of
from kappawatt.forecasting.calendar import DAY, HOUR, day_intervals, day_start, parse_clock
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.history import History
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.services.hourly_load.horizon_fit import fit_any_lead
from kappawatt.services.hourly_load.inference import Fitted, pack, unpack
from kappawatt.settings import Settings

YEAR = np.arange("2016-01-04", "2016-12-22", 12, dtype="datetime64[D]")
NOON = parse_clock("12:00")
AHEAD = range(1, DAYS_AHEAD + 1)
JOINED = 4  # days


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.leads", description=__doc__)
    parser.add_argument("zones", nargs="*", default=["PJME", "AEP", "DAYTON"])
    parser.add_argument("--keep", type=Path, help="Where the fitted model is kept, and taken from if it is there.")
    chosen = parser.parse_args(arguments)
    histories = {}
    for zone in datasets.load_zones(Settings.read().data).series:
        histories[zone.key] = History(zone.key, zone.time_zone, zone.step)
        histories[zone.key].add(zone.starts, zone.values)
    fitted = _fitted(list(histories.values()), chosen.keep)
    print("| zone | lead | MAPE [%] | rMAE | CRPS [MW] | 90 % holds | width [% of the mean] | ms a forecast |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for key in chosen.zones:
        _table_of_leads(fitted, histories[key])
    print("\n| zone | issued at | off at midnights [%] | at the hours beside | at all hours, median | most |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for key in chosen.zones:
        for hour in (0, 9, 12, 18):
            _line_of_joins(fitted, histories[key], hour)


def _fitted(histories: Sequence[History], keep: Path | None) -> Fitted:
    names = sorted(keep.iterdir()) if keep is not None and keep.is_dir() else []
    if names:
        return unpack({path.name: path.read_bytes() for path in names})
    begin = day_start(np.array(["2016-01-01"], "datetime64[D]"), FORECASTER.time_zone)[0]
    fitted = fit_any_lead([fill_inside(history.until(begin)) for history in histories])
    if keep is not None:
        keep.mkdir(parents=True)
        for name, content in pack(fitted).items():
            (keep / name).write_bytes(content)
    return fitted


def _table_of_leads(fitted: Fitted, history: History) -> None:
    days: dict[str, list[Any]] = {}
    began = perf_counter()
    for date in YEAR:
        for name, day in days_at_leads(FORECASTER, fitted, history, date, NOON, HOURS_AHEAD, AHEAD).items():
            days.setdefault(name, []).append(day)
    forecasts = len(YEAR) * (2 * 24 + DAYS_AHEAD)
    each = 1000 * (perf_counter() - began) / forecasts
    mean = float(np.nanmean(np.concatenate([day.measured for day in days["day 1"]])))
    for line in lines_of(days, FORECASTER, HOURS_AHEAD, AHEAD):
        width = 100 * line["width_90"] / mean
        figures = f"{line['mape']:.2f} | {line['rmae']:.3f} | {line['crps']:,.0f} | {100 * line['coverage_90']:.1f} %"
        print(f"| {history.key} | {line['lead']} | {figures} | {width:.1f} | {each:.0f} |", flush=True)


def _line_of_joins(fitted: Fitted, history: History, hour: int) -> None:
    """How far off the step from hour to hour is, in the logarithm."""
    off = []
    for date in YEAR:
        issue = day_start(np.array([date]), history.time_zone)[0] + hour * HOUR
        targets = np.concatenate([day_intervals(date + i, history.time_zone, 3600) for i in range(JOINED)])
        targets = targets[targets >= issue]
        if targets[-1] - issue != JOINED * DAY - (hour + 1) * HOUR:
            continue  # the clock changes
        median = FORECASTER.issue(fitted, history.until(issue), targets).fan.median
        truth = history.measured(targets)
        measured = np.array([truth.get(t, np.nan) for t in targets])
        off.append(np.abs(np.diff(np.log(median)) - np.diff(np.log(measured))))
    size = 100 * np.nanmean(np.array(off), axis=0)
    clock = (np.arange(len(size)) + hour + 1) % 24
    midnights = ", ".join(f"{value:.2f}" for value in size[clock == 0])
    beside = size[(clock == 1) | (clock == 23)].mean()
    others = size[clock != 0]
    figures = f"{midnights} | {beside:.2f} | {np.median(others):.2f} | {others.max():.2f}"
    print(f"| {history.key} | {hour:02d}:00 | {figures} |", flush=True)


if __name__ == "__main__":
    main()
