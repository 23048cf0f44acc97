"""Net load, which is below zero at noon: the shipped model against the seasonal naive.

`python -m bench.net_load` prints a table; about three minutes on one core. The zones are SYNTHETIC: a daily, weekly and
yearly course by the local clock, less the sun on roofs: a clear sky's, times a cloud factor that lasts for days and
one of each hour. September to November of a year of which the thirteen months before are known. Then the same with the
irradiance beside it, measured and, for hours to come, as it was forecast at noon of the day before, which is off by
0.15 of a clear sky a day.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before NumPy starts its threads

import argparse
from collections.abc import Sequence

import numpy as np

from bench.steps import Score, scored
from kappawatt.forecasting.calendar import HOUR, day_start, to_local
from kappawatt.forecasting.history import History
from kappawatt.models.artifact import find_artifact
from kappawatt.services.hourly_load.day_kinds import place_of, solar_elevation
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings

FIRST, END = "2023-08-01", "2024-12-01"
SPAN = ("2024-09-01", "2024-11-30")
ZONES = (  # name, zone, mean of the load [MW], sun at its height over that mean
    ("South Australia's size", "Australia/Adelaide", 1_500.0, 1.6),
    ("a valley of homes", "Australia/Brisbane", 40.0, 2.4),
    ("just below zero", "America/Los_Angeles", 25_000.0, 1.15),
    ("a solar park's feeder", "Europe/Madrid", 12.0, 4.0),
)


IRRADIANCE = "global_horizontal_irradiance"
CLEAR_SKY = 900.0  # W/m2
SUN_ERROR = 0.15  # of a clear sky: a day's forecast of it


def net_load(zone: str, mean: float, sun: float, seed: int, step: int = 3600, *, is_sun_told: bool = False) -> History:
    """Return a synthetic net load [MW], with the irradiance as it was forecast and then measured if that is told."""
    random = np.random.default_rng(seed)
    first, end = day_start(np.array([FIRST, END], "datetime64[D]"), zone)
    times = np.arange(first, end, np.timedelta64(step, "s"))
    local = to_local(times, zone)
    date = local.astype("datetime64[D]")
    h = (local - date) / HOUR
    number = (date - date[0]).astype(np.int64)
    day = (date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1
    course = 1 + 0.18 * np.sin(2 * np.pi * (h - 8) / 24) + 0.1 * np.sin(4 * np.pi * (h - 8) / 24)
    weekend = np.where((date.astype(np.int64) + 3) % 7 >= 5, 0.88, 1.0)
    season = 1 + 0.08 * np.cos(2 * np.pi * (day - 15) / 365)
    weather = np.zeros(number[-1] + 1)
    for i in range(1, len(weather)):
        weather[i] = 0.6 * weather[i - 1] + random.normal(0, 0.8)
    clear = 0.25 + 0.75 / (1 + np.exp(-1.5 - 2 * weather))
    elevation = solar_elevation(times + np.timedelta64(step // 2, "s"), place_of(zone))
    shine = np.maximum(np.sin(np.radians(elevation)), 0) ** 1.2
    clouds = np.clip(clear[number] + random.normal(0, 0.05, len(times)), 0, 1)
    noise = 0.01 * random.standard_normal(len(times))
    history = History("net", zone, step)
    history.add(times, mean * (course * weekend * season * (1 + noise) - sun * shine * clouds))
    if is_sun_told:
        off = random.normal(0, SUN_ERROR, len(clear))
        nothing = np.full(len(times), np.nan)
        forecast = CLEAR_SKY * shine * np.clip((clear + off)[number], 0, 1)
        history.add(times, nothing, day_start(date, zone) - 12 * HOUR, {IRRADIANCE: forecast})
        history.add(times, nothing, times + np.timedelta64(step, "s"), {IRRADIANCE: CLEAR_SKY * shine * clouds})
    return history


def table() -> list[tuple[str, str, float, Score, Score]]:
    """Return name, issue clock, share of hours below zero and score of each zone, without and with the irradiance."""
    service = find_service("hourly-load")
    fitted = FORECASTER.load(find_artifact(service.artifacts(Settings.read({}))))
    rows = []
    for seed, (name, zone, mean, sun) in enumerate(ZONES):
        bare, told = (net_load(zone, mean, sun, seed, is_sun_told=is_told) for is_told in (False, True))
        values = bare.until(bare.known_until()).values
        for clock in ("12:00", "00:00"):
            without, with_sun = (scored(FORECASTER, fitted, history, SPAN, clock) for history in (bare, told))
            rows.append((name, clock, float((values <= 0).mean()), without, with_sun))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m bench.net_load", description=__doc__).parse_args(arguments)
    head = ("net load", "issued at", "hours below zero", "seasonal naive, MAE [% of mean]")
    scores = ("MAE", "rMAE", "90 % holds", "ms", "with irradiance: MAE", "rMAE", "90 % holds", "ms")
    print(f"| {' | '.join((*head, *scores))} |\n| --- | --- |{' ---: |' * (len(scores) + 2)}")
    for name, clock, below, *both in table():
        of_each = [
            f"{score.mae:.2f} | {score.rmae:.3f} | {100 * score.covered:.1f} % | {1000 * score.seconds:.0f}"
            for score in both
        ]
        print(f"| {name} | {clock} | {100 * below:.1f} % | {both[0].naive:.2f} | {' | '.join(of_each)} |", flush=True)


if __name__ == "__main__":
    main()
