"""How soon made-up faults are found, what they cost a forecast, and how much of real series is marked.

`KAPPAWATT_DATA=FOLDER python -m bench.faults` prints three tables; some fifteen minutes on one core. Series are the
zones of PJM (2012 to 2016), three distribution companies (BigDEAL 2022) and five meters, each by the rules of its
stream. A fault begins at a time drawn at random, and what is known is looked through as it goes on: after one interval,
three, and hours and days. What it costs is the error of the next day's forecast over that without the fault, on days of
the newest year: of zones in percent, by a model of the years before, of meters in kWh, by the shipped one.
`bench.suspects` says how many of the wrong values are found, and which right ones.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before NumPy starts its threads

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets import named as datasets
from kappawatt.datasets.reading.read import read_file
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import HistoryInsufficient
from kappawatt.forecasting.calendar import day_intervals, issue_time, local_date, parse_clock
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.suspects import without_suspects
from kappawatt.models.artifact import find_artifact
from kappawatt.services.hourly_load.horizon_fit import fit_any_lead
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.streams import load

SINCE = np.datetime64("2012-01-01")
EVERY = 3  # days between the times at which a series is looked through
TRIES = 40  # of each fault and series
YEAR = 365  # days, the newest
DAYS = 40  # forecasts of each fault and series
AFTER = {"1": 1, "3": 3}  # intervals a fault has gone on
HOURS_AFTER = (6, 12, 48, 60)
BIGDEAL = "load_weather/bigdeal2022_final_to20180531.csv.gz"
Vector = NDArray[np.float64]
Change = Callable[[Vector], Vector]

FAULTS: dict[str, tuple[bool, Change]] = {  # whether it goes on
    "one interval ten times": (False, lambda v: v * 10),
    "one interval a tenth": (False, lambda v: v / 10),
    "one interval three times": (False, lambda v: v * 3),
    "one interval zero": (False, lambda v: v * 0),
    "a thousand times from then on": (True, lambda v: v * 1000),
    "a tenth from then on": (True, lambda v: v / 10),
    "zero from then on": (True, lambda v: v * 0),
    "one value from then on": (True, lambda v: v[:1].repeat(len(v))),
}
SPOILT: dict[str, tuple[int, Change]] = {  # the newest hours
    "an hour ten times": (1, lambda v: v * 10),
    "an hour three times": (1, lambda v: v * 3),
    "an hour zero": (1, lambda v: v * 0),
    "three hours a tenth": (3, lambda v: v / 10),
    "three hours zero": (3, lambda v: v * 0),
    "three hours one value": (3, lambda v: v[:1].repeat(len(v))),
    "a day a thousand times": (24, lambda v: v * 1000),
    "a day one value": (24, lambda v: v[:1].repeat(len(v))),
}


@dataclass(frozen=True)
class Looked:
    """A series, and the times at which it is looked through."""

    history: History
    moments: NDArray[np.datetime64]
    forecaster: Forecaster
    kind: str

    def known_at(self, moment: np.datetime64) -> Past:
        """What a forecast of that time looks back on."""
        past = self.history.until(moment)
        return past.last(int(self.forecaster.depth / past.interval))

    def suspects(self, past: Past) -> NDArray[np.bool_]:
        """Which values of a past are suspect."""
        left = without_suspects(past, self.forecaster.suspect_rules)
        return np.isnan(left.at(past.times)) & ~np.isnan(past.values)


def looked(series: SeriesFile, kind: str) -> Looked:
    """Return a series and its issue times: noons of zones, midnights of meters, from the fifth week on."""
    forecaster = find_service(series.stream.service).modelled().predictor
    assert isinstance(forecaster, Forecaster)
    history = History(series.key, series.time_zone, series.step)
    history.add(series.starts, series.values)
    first, last = local_date(np.array([history.first, history.clock]), series.time_zone)
    dates = np.arange(max(first + 35, SINCE), last - 1)
    hour = parse_clock(forecaster.issue_times[0])
    return Looked(history, np.array([issue_time(d, hour, series.time_zone) for d in dates]), forecaster, kind)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__).parse_args(arguments)
    logging.disable(logging.WARNING)  # each suspect span would be a line
    folder = Settings.read().data
    if folder is None:
        raise SystemExit("KAPPAWATT_DATA: got nothing, allowed a folder with the three data sets")
    every = [looked(one, "zone") for one in datasets.load_zones(folder).series]
    every += [looked(one, "zone") for one in read_file(folder / BIGDEAL, stream=load.STREAM).series]
    every += [looked(one, "meter") for one in datasets.meters(folder).series]
    _table_of_real(every)
    _table_of_delay(every)
    _table_of_costs([one for one in every if one.kind == "meter" or one.history.key in ("AEP", "DAYTON", "PJME")])


def _table_of_real(every: Sequence[Looked]) -> None:
    print("| series | values looked at | marked | % |\n| --- | ---: | ---: | ---: |")
    for one in every:
        marked: set[np.datetime64] = set()
        known: set[np.datetime64] = set()
        for moment in one.moments[::EVERY]:
            past = one.known_at(moment)
            marked.update(past.times[one.suspects(past)])
            known.update((past.start, past.end))
        span = int((max(known) - min(known)) / np.timedelta64(one.history.step, "s"))
        print(f"| {one.history.key} | {span:,} | {len(marked):,} | {100 * len(marked) / span:.3f} |", flush=True)


def _table_of_delay(every: Sequence[Looked]) -> None:
    print("\nFaults found, %, after so many intervals or hours:\n")
    print(f"| | fault | {' | '.join(AFTER)} | {' | '.join(f'{h} h' for h in HOURS_AFTER)} |")
    print(f"| --- | --- |{' ---: |' * (len(AFTER) + len(HOURS_AFTER))}")
    random = np.random.default_rng(0)
    for kind in ("zone", "meter"):
        for name, (goes_on, change) in FAULTS.items():
            found: list[list[bool]] = []
            for one in every:
                if one.kind == kind:
                    moments = random.choice(one.moments, TRIES)
                    found += [each for m in moments if (each := _found(one, m, goes_on, change)) is not None]
            shares = " | ".join(f"{100 * share:.0f}" for share in np.mean(found, axis=0))
            print(f"| {kind} | {name} | {shares} |", flush=True)


def _found(one: Looked, moment: np.datetime64, goes_on: bool, change: Change) -> list[bool] | None:
    """Whether a fault has been found after each time; None where it changes nothing, or values are missing."""
    past = one.known_at(moment)
    hour = 3600 // past.step
    counts = [*AFTER.values(), *(hours * hour for hours in HOURS_AFTER)]
    begin = len(past) - max(counts)
    values = past.values.copy()
    part = slice(begin, None if goes_on else begin + 1)
    values[part] = change(values[part])
    if np.isnan(past.values[begin]) or (values[part] == past.values[part]).mean() > (0.5 if goes_on else 0.0):
        return None
    is_found, found = False, []
    for count in counts:
        so_far = replace(past, values=values[: begin + count], issue_time=past.start + (begin + count) * past.interval)
        is_found = is_found or bool(one.suspects(so_far)[begin:].any())
        found.append(is_found)
    return found


def _table_of_costs(every: Sequence[Looked]) -> None:
    print("\n| | newest | error without | with | times | refused |\n| --- | --- | ---: | ---: | ---: | ---: |")
    meter = next(one.forecaster for one in every if one.kind == "meter")
    zones = [fill_inside(one.history.until(one.moments[-YEAR])) for one in every if one.kind == "zone"]
    fitted = {
        "zone": fit_any_lead(zones),
        "meter": meter.load(find_artifact(find_service(meter.name).artifacts(Settings.read({})))),
    }
    for kind in ("zone", "meter"):
        random = np.random.default_rng(1)
        errors: dict[str, list[tuple[float, float]]] = {name: [] for name in SPOILT}
        refused = dict.fromkeys(SPOILT, 0)
        for one in (each for each in every if each.kind == kind):
            newest = one.moments[-YEAR:]
            for moment in random.choice(newest, min(DAYS, len(newest)), replace=False):
                date = one.forecaster.window.first(moment, one.history.time_zone)
                targets = day_intervals(date, one.history.time_zone, one.history.step)
                truth = one.history.measured(targets)
                measured = np.array([truth.get(t, np.nan) for t in targets])
                past = one.history.until(moment)

                def error(
                    given: Past,
                    one: Looked = one,
                    targets: NDArray[np.datetime64] = targets,
                    measured: Vector = measured,
                ) -> float:
                    median = one.forecaster.issue(fitted[one.kind], given, targets).fan.median
                    off = np.abs(median - measured)
                    return float(np.nanmean(off / measured * 100 if one.kind == "zone" else off))

                try:
                    without = error(past)
                except HistoryInsufficient:
                    continue
                for name, (hours, change) in SPOILT.items():
                    values = past.values.copy()
                    part = slice(len(values) - hours * 3600 // past.step, None)
                    values[part] = change(values[part])
                    try:
                        errors[name].append((without, error(replace(past, values=values))))
                    except HistoryInsufficient:
                        refused[name] += 1
        for name, pairs in errors.items():
            before, after = np.mean(pairs, axis=0)
            times = after / before
            print(f"| {kind} | {name} | {before:.3g} | {after:.3g} | {times:.2f} | {refused[name]} |", flush=True)


if __name__ == "__main__":
    main()
