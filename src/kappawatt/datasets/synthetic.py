"""Load zones and meters that never were, from a seed: for when no data is at hand. They say nothing about real ones.

What they have in common with real series is what software has to cope with: days, weeks, seasons, holidays, weather
noise that lasts, and days of 23 and 25 hours.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.series_files import SeriesFile
from kappawatt.forecasting.calendar import DAY, HOUR, Times, day_start, local_date, to_local
from kappawatt.streams.series import SeriesKind

__all__ = ["holidays", "synthetic_load", "synthetic_meter"]

Vector = NDArray[np.float64]
FIRST, LAST = np.datetime64("2023-01-01"), np.datetime64("2025-12-31")  # local days
LOAD_ZONE_TIME, METER_TIME = "America/New_York", "America/Chicago"
# Share of the mean day by local hour, on working days and others: morning rise, evening peak.
WORKING = (
    80,
    77,
    75,
    75,
    78,
    86,
    97,
    104,
    106,
    107,
    108,
    108,
    107,
    107,
    106,
    106,
    108,
    112,
    116,
    116,
    113,
    107,
    98,
    88,
)
OTHER = (80, 76, 73, 72, 72, 75, 80, 86, 92, 96, 98, 98, 97, 96, 95, 95, 98, 103, 107, 108, 105, 100, 93, 85)
HOUSE = (45, 40, 38, 37, 38, 45, 70, 95, 90, 80, 78, 80, 85, 85, 85, 95, 120, 160, 190, 195, 180, 150, 100, 65)


def synthetic_load(key: str, seed: int) -> SeriesFile:
    """Return three years of hourly load of a zone [MW] of about 25,000 MW on average."""
    starts, local = _grid(LOAD_ZONE_TIME, 3600)
    random = np.random.default_rng(seed)
    temperature = _temperature(local, random)
    days = local.astype("datetime64[D]")
    is_working = np.is_busday(days, holidays=holidays(2023, 2025))
    hour = ((local - days) / HOUR).astype(np.intp)
    shape = np.where(is_working, np.array(WORKING)[hour], np.array(OTHER)[hour]) / 100
    weather = 300 * np.maximum(0, 14 - temperature) + 700 * np.maximum(0, temperature - 19)
    noise = 1 + 0.012 * _lasting(len(starts), 0.97, random)
    values = np.round((22_000 * shape + weather) * noise, 1)
    return _series(key, LOAD_ZONE_TIME, 3600, starts, values, SeriesKind.LOAD)


def synthetic_meter(key: str, seed: int, step: int = 900) -> SeriesFile:
    """Return three years of a household's energy [kWh] in intervals of `step` seconds, some 12,000 kWh a year."""
    starts, local = _grid(METER_TIME, step)
    random = np.random.default_rng(seed)
    temperature = _temperature(local, random) + 6  # further south
    days = local.astype("datetime64[D]")
    hour = ((local - days) / HOUR).astype(np.intp)
    share = step / 3600
    habits = 0.011 * np.array(HOUSE)[hour] * np.where(np.is_busday(days), 1.0, 1.15)
    cooling = 0.14 * np.maximum(0, temperature - 22)
    each_day = np.exp(0.2 * random.standard_normal(len(days)))[np.unique(days, return_inverse=True)[1]]
    appliances = random.gamma(0.5, 1.6, len(starts)) * (random.random(len(starts)) < 0.1)
    values = np.round(share * ((habits + cooling) * each_day + appliances + 0.12), 3)
    return _series(key, METER_TIME, step, starts, values, SeriesKind.METER)


def holidays(first: int, last: int) -> list[date]:
    """Return the US holidays of some years that change the load most."""
    found = []
    for year in range(first, last + 1):
        found += [date(year, 1, 1), date(year, 7, 4), date(year, 12, 24), date(year, 12, 25), date(year, 12, 31)]
        may, september, november = (date(year, month, 1) for month in (5, 9, 11))
        found.append(may + timedelta(days=30 - (may + timedelta(days=30)).weekday()))  # Memorial Day: last Monday
        found.append(september + timedelta(days=-september.weekday() % 7))  # Labor Day: first Monday
        thanksgiving = november + timedelta(days=(3 - november.weekday()) % 7 + 21)
        found += [thanksgiving, thanksgiving + timedelta(days=1)]
    return found


def _grid(zone: str, step: int) -> tuple[Times, Times]:
    """Starts of all intervals of the span, UTC, and their local wall-clock times."""
    begin, end = day_start(np.array([FIRST, LAST + 1]), zone)
    starts = np.arange(begin, end, np.timedelta64(step * 1000, "ms"))
    return starts, to_local(starts, zone)


def _temperature(local: Times, random: np.random.Generator) -> Vector:
    """Air temperature [degC]: the season, the hour, and weather that lasts some days."""
    days = local.astype("datetime64[D]")
    season = (days - days.astype("datetime64[Y]")) / DAY / 365.25
    hour = (local - days) / HOUR
    number = ((days - days[0]) / DAY).astype(np.intp)
    weather = 4 * _lasting(int(number[-1]) + 2, 0.75, random)
    between = weather[number] + (weather[number + 1] - weather[number]) * hour / 24
    result: Vector = 12 - 12 * np.cos(2 * np.pi * (season - 0.06)) - 4 * np.cos(2 * np.pi * (hour - 4) / 24) + between
    return result


def _lasting(n: int, memory: float, random: np.random.Generator) -> Vector:
    """Noise of unit variance in which each value remembers the one before."""
    steps = random.standard_normal(n) * np.sqrt(1 - memory**2)
    value, values = 0.0, []
    for step in steps.tolist():
        value = memory * value + step
        values.append(value)
    return np.array(values)


def _series(key: str, zone: str, step: int, starts: Times, values: Vector, kind: SeriesKind) -> SeriesFile:
    assert local_date(starts[:1], zone)[0] == FIRST
    unknown = np.full(len(starts), np.datetime64("NaT", "ms"))
    return SeriesFile(key, zone, step, starts, values, unknown, kind=kind)
